"""Setting a site up: `init` writes its file, `check-site` says what is wrong; on clips and on cameras of the loopback."""

import stat
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from passerby.__main__ import app
from passerby.simulate.scene import ATLAS
from passerby.site import draft, load_site
from passerby.types import ConfigError, VideoError
from passerby.vision.readers import look_at
from passerby.vision.video import ClipWriter

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from loopback import HttpCamera

SAMPLE = ATLAS.with_name("sample")


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


def refused(*words):
    return str(CliRunner().invoke(app, [str(word) for word in words]).exception)


def clip(path, *, fps=4, grey=90):
    path.parent.mkdir(exist_ok=True)
    with ClipWriter(path, width=64, height=48, fps=fps) as writer:
        for number in range(2 * fps):
            writer.write(np.full((48, 64, 3), grey + number, np.uint8))
    return path


@pytest.fixture
def camera():
    made = HttpCamera("mjpeg", fps=15)
    yield made
    made.down()


def test_a_drafted_file_loads_and_says_what_it_was_given(tmp_path):
    begins = datetime(2026, 3, 2, 10, tzinfo=UTC)
    text = draft(
        'the "corner" shop',
        [("door", "a.mp4", begins), ("till", "rtsp://x/y", None)],
        time_zone="Europe/Paris",
        precision="int8",
    )
    (tmp_path / "site.toml").write_text(text)
    site = load_site(tmp_path / "site.toml")
    assert (site.name, site.time_zone, site.precision) == ('the "corner" shop', "Europe/Paris", "int8")
    assert [(c.name, c.source, c.begins) for c in site.cameras] == [
        ("door", "a.mp4", begins),
        ("till", "rtsp://x/y", None),
    ]


def test_every_setting_that_a_draft_has_in_comments_is_one(tmp_path):
    text = draft("shop", [("door", "a.mp4", None)], time_zone="UTC", precision="auto")
    bare = []
    for line in text.splitlines():
        stripped = line.removeprefix("# ") if line.startswith("# ") else line
        try:  # what stands in a comment and is TOML
            tomllib.loads(stripped)
        except tomllib.TOMLDecodeError:
            continue
        bare.append(stripped)
    at = next(number for number, line in enumerate(bare) if line.startswith("[hours]"))
    end = next(number for number, line in enumerate(bare) if line.startswith("[[cameras]]"))
    hours, others = bare[at:end], bare[:at] + bare[end:]
    (tmp_path / "site.toml").write_text("\n".join(others + hours))
    site = load_site(tmp_path / "site.toml")
    assert (site.retention_days, site.k, len(site.holidays)) == (30, 10, 2)
    assert site.hours is not None
    assert site.doors == {"door"}
    assert [queue.zone for queue in site.queues] == ["checkout"]
    assert [alert.above for alert in site.alerts] == [4]
    assert site.cameras[0].masks


def test_a_draft_needs_a_camera():
    with pytest.raises(ConfigError, match="expected a camera at least"):
        draft("shop", [], time_zone="UTC", precision="auto")


def test_a_file_says_its_size_and_rate_also_where_it_does_not_say_when_it_begins(tmp_path):
    look = look_at(clip(tmp_path / "door.mp4"))
    assert (look.picture.shape, look.rate, look.begins) == ((48, 64, 3), 4.0, None)


def test_a_camera_is_looked_at_for_a_while(camera):
    look = look_at(camera.address, for_s=1.0)
    assert look.picture.shape == (240, 320, 3)
    assert look.rate is not None
    assert look.rate > 5


def test_a_camera_that_gives_nothing_is_named_without_its_password():
    with pytest.raises(VideoError, match=r"rtsp://\*\*\*@127.0.0.1:9/x: no picture within 0.5 s"):
        look_at("rtsp://me:secret@127.0.0.1:9/x", timeout_s=0.5)


def test_init_writes_a_file_that_check_site_then_finds_nothing_wrong_with(tmp_path, camera):
    said = run("init", camera.address, "--out", tmp_path / "site.toml", "--time-zone", "Europe/Paris", "--name", "shop")
    assert "camera 1: 320 x 240" in said
    site = load_site(tmp_path / "site.toml")
    assert (site.name, site.time_zone) == ("shop", "Europe/Paris")
    assert site.precision != "auto"
    assert site.cameras[0].source == camera.address
    said = run("check-site", tmp_path / "site.toml", "--out", tmp_path / "site.png")
    assert "nothing is wrong" in said
    assert "no line is a door" in said
    assert (tmp_path / "site.png").read_bytes().startswith(b"\x89PNG")


def test_init_takes_files_from_where_the_sites_file_lies_and_says_what_it_guessed(tmp_path):
    clip(tmp_path / "films" / "the_door.mp4")
    said = run("init", tmp_path / "films" / "the_door.mp4", "--out", tmp_path / "site.toml", "--time-zone", "UTC")
    assert "the door: the file does not say when it was begun" in said
    (found,) = load_site(tmp_path / "site.toml").cameras
    assert (found.name, found.source) == ("the door", "films/the_door.mp4")


def test_init_asks_for_what_it_is_not_told_and_leaves_a_file_that_is_there(tmp_path):
    door = clip(tmp_path / "door.mp4")
    file = tmp_path / "site.toml"
    assert refused("init", door, "--out", file) == "init: --time-zone, such as Europe/Paris, is missing"
    assert refused("init", "--out", file, "--time-zone", "UTC") == "init: SOURCE is missing"
    assert "time_zone: expected a name such as Europe/Paris, got 'Paris'" in refused(
        "init", door, "--out", file, "--time-zone", "Paris"
    )
    assert not file.exists()
    file.write_text("mine")
    assert "is there already" in refused("init", door, "--out", file, "--time-zone", "UTC")
    assert file.read_text() == "mine"


def test_a_file_that_holds_a_password_is_for_its_owner_alone(tmp_path, camera):
    with_password = camera.address.replace("http://", "http://me:secret@")
    said = run("init", with_password, "--out", tmp_path / "site.toml", "--time-zone", "UTC")
    assert "holds a password; you alone may read it" in said
    assert "secret" not in said
    assert stat.S_IMODE((tmp_path / "site.toml").stat().st_mode) == 0o600


SITE = """
name = "shop"
holidays = [2026-12-25]
[hours]
monday = ["09:00-12:30", "14:00-18:00"]
[[cameras]]
name = "door"
source = "door.mp4"
begins = 2026-03-02T10:00:00Z
[[cameras]]
name = "till"
source = "till.mp4"
[[cameras]]
name = "store room"
source = "dark.mp4"
begins = 2026-03-02T10:00:00Z
[[lines]]
name = "entry"
camera = "door"
start = [0.2, 0.5]
end = [0.8, 0.5]
"""


def test_check_site_says_all_that_is_wrong_at_once_and_draws_the_others(tmp_path):
    clip(tmp_path / "door.mp4", fps=3)
    clip(tmp_path / "till.mp4")
    clip(tmp_path / "dark.mp4", fps=8, grey=0)
    (tmp_path / "site.toml").write_text(SITE)
    said = run("check-site", tmp_path / "site.toml", "--out", tmp_path / "site.png", code=1)
    assert "Wrong: till: " in said
    assert "does not say when it was recorded (no tag creation_time)" in said
    assert "Wrong: door: gives 3.0 pictures a second, and its rate asks for 5" in said
    assert "Wrong: store room: its picture is black" in said
    assert "open monday 09:00-12:30, 14:00-18:00; closed on 1 holidays" in said
    assert (tmp_path / "site.png").exists()


@pytest.mark.slow
def test_nothing_is_wrong_with_the_sample_shop(tmp_path):
    said = run("check-site", SAMPLE / "site.toml", "--out", tmp_path / "site.png")
    assert "nothing is wrong" in said
