from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from pathlib import Path

import pytest

from passerby.config import STRICT, load_toml
from passerby.types import ConfigError


@dataclass(frozen=True)
class Inner:
    learning_rate: float = 0.1
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class Outer:
    name: str
    steps: tuple[int, ...] = ()
    inner: Inner = field(default_factory=Inner)
    folder: Path | None = None
    opened: datetime | None = None
    closes: time | None = None
    open: bool = True
    rates: dict[str, float] = field(default_factory=dict)
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("name: expected anything but bad")


def load(tmp_path: Path, text: str) -> Outer:
    path = tmp_path / "c.toml"
    path.write_text(text)
    return load_toml(path, Outer)


def test_a_file_becomes_a_dataclass(tmp_path):
    assert load(tmp_path, 'name = "a"\nsteps = [1, 2]\n[inner]\nlearning_rate = 0.5') == Outer("a", (1, 2), Inner(0.5))


def test_paths_and_times_may_be_text_and_a_whole_number_is_a_number(tmp_path):
    found = load(
        tmp_path, 'name = "a"\nfolder = "x/y"\nopened = "2026-05-04T12:00:00+00:00"\n[inner]\nlearning_rate = 1'
    )
    assert (found.folder, found.opened) == (Path("x/y"), datetime(2026, 5, 4, 12, tzinfo=UTC))
    assert found.inner.learning_rate == 1
    own = load(tmp_path, 'name = "a"\nopened = 2026-05-04T12:00:00Z\ncloses = 20:30:00\nrates = {a = inf, b = nan}')
    assert (own.opened, own.closes) == (found.opened, time(20, 30))
    assert own.rates["a"] == float("inf")


@pytest.mark.parametrize(
    "line",
    [
        'steps = ["2"]',
        "steps = [true]",
        "steps = [2.0]",
        'inner = {learning_rate = "0.5"}',
        "inner = {learning_rate = true}",
        "open = 1",
        'open = "yes"',
        "name = 2",
        "folder = 3",
        'rates = {a = "1"}',
    ],
)
def test_one_kind_of_value_does_not_pass_for_another(tmp_path, line):
    with pytest.raises(ConfigError, match=line.split(" ")[0]):
        load(tmp_path, line if line.startswith("name") else f'name = "a"\n{line}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'name = "a"\n[inner]\nlerning_rate = 1.0',
            r"unknown key 'inner.lerning_rate'; did you mean 'learning_rate'\?",
        ),
        ('nam = "a"', r"did you mean 'name'\?"),
        ('name = "a"\nzzz = 1', "known are"),
        ("steps = [1]", "'name' is missing"),
        ('name = "a"\nsteps = ["x"]', r"steps.0: .*integer.*got 'x'"),
        ('name = "bad"', "anything but bad"),
        ("name = ", "not valid TOML"),
    ],
)
def test_a_wrong_file_says_what_and_where(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as error:
        load(tmp_path, text)
    assert "c.toml" in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        load_toml(tmp_path / "none.toml", Outer)
