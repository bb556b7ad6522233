"""Each example runs, and says what its docstring promises."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, *arguments: object) -> str:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_quickstart(monkeypatch, capsys, drawn):
    pictures = sorted((drawn / "query").iterdir())
    text = run(monkeypatch, capsys, "quickstart.py", *pictures[:3])
    assert "same person:" in text
    assert "nobody of the gallery" in text


def test_coloured_people(monkeypatch, capsys, tmp_path):
    assert "drew 22 people" in run(monkeypatch, capsys, "coloured_people.py", tmp_path, "--people", 2)
    assert len(list((tmp_path / "query").iterdir())) == 60


def test_visitors_from_crops(monkeypatch, capsys, drawn, small_model):
    text = run(monkeypatch, capsys, "visitors_from_crops.py", drawn, small_model)
    assert text.count("visitors, truly 20") == 3
    assert "minutes in front of" in text


def test_times_of_market1501_run_on_over_sequences():
    visitors = runpy.run_path(str(EXAMPLES / "visitors_from_crops.py"))
    picture = visitors["Picture"]
    pictures = [
        picture(Path("a"), "m:1", "m:c1", sequence="s1", frame=100),
        picture(Path("b"), "m:1", "m:c1", sequence="s2", frame=50),
        picture(Path("c"), "m:1", "m:c6", sequence="s1", frame=1075),
    ]
    # camera 1: 4 s, then (100 + 50) / 25 = 6 s; camera 6: 43 s less its offset to the others, 43 - 5
    assert visitors["seconds_of"](pictures, ["c1", "c1", "c6"]) == [4.0, 6.0, 5.0]


def test_rank_market(monkeypatch, capsys, shared):
    text = run(monkeypatch, capsys, "rank_market.py", shared / "datasets" / "market1501")
    assert text.count("nobody of the gallery") == 3
    assert "not in the gallery" in text


def test_every_example_is_short_and_tested():
    here = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        code = [line for line in path.read_text().splitlines() if line.strip()]
        assert len(code) < 60, path
        assert f'"{path.name}"' in here
