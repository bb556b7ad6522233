"""The commands follow and zones: on the bundled sample shop, and on live cameras of the loopback."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from passerby.__main__ import app
from passerby.simulate.scene import ATLAS

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from loopback import HttpCamera

SAMPLE = ATLAS.with_name("sample")
PATIENCE_S = 120.0


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The sample shop, followed at 5 frames a second."""
    out = tmp_path_factory.mktemp("followed")
    words = ["follow", SAMPLE / "site.toml", "--out", out, "--truth", "--mode", "visitor-counting"]
    result = run(*words, "--render", out / "film.mp4", "--store", out / "shop.sqlite")
    assert result.exit_code == 0, result.output
    return out, result.output


@pytest.mark.slow
def test_everybody_in_the_sample_shop_is_followed_from_pixels_to_visits(followed):
    out, said = followed
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:5]]
        for line in said.splitlines()
        if "│" in line
    }
    assert rows["entries"] == ["10", "10", "10"]
    assert rows["exits"] == ["10", "10", "10"]
    true, found, right = (int(cell) for cell in rows["visits (staff too)"])
    assert true == 11
    assert abs(found - true) <= 1
    assert right >= 10
    visits = [json.loads(line) for line in (out / "visits.jsonl").read_text().splitlines()]
    assert len(visits) == found
    assert {visit["site"] for visit in visits} == {"sample"}


@pytest.mark.slow
def test_what_was_kept_while_following_is_reported_as_it_was_followed(followed):
    out, _ = followed
    place = ["--site", SAMPLE / "site.toml", "--store", out / "shop.sqlite"]
    told = run("import-visits", out, *place)
    assert told.exit_code == 0, told.output
    assert "all of it was there" in told.output
    told = run("report", *place, "--csv", out / "csv")
    assert told.exit_code == 0, told.output
    figures = {
        row["figure"]: row["value"] for row in csv.DictReader((out / "csv" / "summary.csv").read_text().splitlines())
    }
    visits = [json.loads(line) for line in (out / "visits.jsonl").read_text().splitlines()]
    shoppers = [visit for visit in visits if visit["entered"] or visit["left"]]  # the others belong to the staff
    assert (len(visits), len(shoppers)) == (11, 10)
    assert (figures["entries"], figures["exits"], figures["visits"]) == ("10", "10", "10")


@pytest.mark.slow
def test_the_film_of_it_is_there_and_is_not_empty(followed):
    out, said = followed
    assert (out / "film.mp4").stat().st_size > 100_000
    assert "heads blurred" in said


@pytest.mark.slow
def test_places_of_the_sample_shop_are_drawn(tmp_path):
    result = run("zones", SAMPLE / "site.toml", "--out", tmp_path / "zones.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "zones.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_recording_is_named_and_nothing_is_written(tmp_path):
    shutil.copy(SAMPLE / "site.toml", tmp_path)
    result = run("follow", tmp_path / "site.toml", "--out", tmp_path / "out")
    assert "entrance.mp4: cannot be read as a video: No such file" in str(result.exception)
    assert not (tmp_path / "out" / "sightings.parquet").exists()


def test_recordings_and_live_cameras_do_not_mix(tmp_path):
    text = (SAMPLE / "site.toml").read_text().replace('source = "checkout.mp4"', 'source = "rtsp://10.0.0.7/x"')
    (tmp_path / "site.toml").write_text(text)
    result = run("follow", tmp_path / "site.toml")
    assert "checkout are live and the others recordings" in str(result.exception)


def live_site(folder, cameras):
    lines = ['name = "live"']
    for name, camera in cameras.items():
        lines += ["[[cameras]]", f'name = "{name}"', f'source = "{camera.address}"']
    (folder / "site.toml").write_text("\n".join(lines))
    return [sys.executable, "-m", "passerby", "follow", str(folder / "site.toml"), "--out", str(folder / "out")]


@pytest.fixture
def cameras():
    made = {"a": HttpCamera("mjpeg"), "b": HttpCamera("mjpeg")}
    yield made
    for camera in made.values():
        camera.down()


@pytest.mark.slow
def test_live_cameras_are_followed_for_as_long_as_asked(cameras, tmp_path):
    words = [*live_site(tmp_path, cameras), "--duration", "4s"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert result.returncode == 0, result.stderr
    assert "a: live" in result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "sightings.parquet",
        "visits.jsonl",
        "visits.parquet",
        "links.jsonl",
        "links.parquet",
    }


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_following_live_cameras_ends_in_order_when_told_to(cameras, tmp_path, how):
    with subprocess.Popen(
        live_site(tmp_path, cameras), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stderr is not None
        said = ""
        while "b: live" not in said:
            line = program.stderr.readline()
            assert line, said
            said += line
        program.send_signal(how)
        _, rest = program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 0, said + rest
    assert "Stopping" in rest
    assert (tmp_path / "out" / "sightings.parquet").exists()
