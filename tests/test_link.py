"""The command link: a simulated shop's sightings to visits."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from passerby.__main__ import app
from passerby.simulate.appearance import DrawnVectors
from passerby.simulate.recording import record

SITE = """
name = "{name}"
cameras = [{cameras}]

[[lines]]
name = "{line}"
camera = "{camera}"
start = [0.5, 1.0]
end = [0.5, 0.0]
"""


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def recorded(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    source = DrawnVectors(shop.looks, seed=1, cameras=len(shop.cameras))
    record(shop, source, folder, seed=1, duration_s=600, refresh=True)
    return folder


def test_sightings_are_linked_to_visits(recorded, tmp_path):
    result = run("link", recorded / "sightings.parquet", "--out", tmp_path, "--mode", "visitor-counting")
    assert result.exit_code == 0, result.output
    visits = [json.loads(line) for line in (tmp_path / "visits.jsonl").read_text().splitlines()]
    links = [json.loads(line) for line in (tmp_path / "links.jsonl").read_text().splitlines()]
    assert pq.read_table(tmp_path / "visits.parquet").num_rows == len(visits)
    assert pq.read_table(tmp_path / "links.parquet").to_pylist() == links
    truly = len((recorded / "truth" / "visits.jsonl").read_text().splitlines())
    assert 0.7 * truly <= len(visits) <= 1.5 * truly
    assert sum(len(visit["cameras"]) > 1 for visit in visits) > truly / 3
    assert all(link["probability"] >= 0.5 for link in links)
    draws = [json.loads(line) for line in (tmp_path / "draws.jsonl").read_text().splitlines()]
    assert pq.read_table(tmp_path / "draws.parquet").num_rows == len(draws) == 6  # an hour, its day, its week
    assert all(len(row["values"]) == 100 for row in draws)
    people = {row["person"] for row in map(json.loads, (recorded / "truth" / "tracks.jsonl").read_text().splitlines())}
    assert "distinct people: " in result.output
    persons = next(row["values"] for row in draws if (row["length"], row["what"]) == ("day", "persons"))
    assert 0.8 * len(people - {None}) <= np.median(persons) <= 1.25 * len(people - {None})


def test_a_site_says_what_is_a_door_and_must_have_the_cameras(recorded, shop, tmp_path):
    names = [camera.name for camera in shop.cameras]

    def site(cameras, name=shop.name):
        path = tmp_path / "site.toml"
        listed = ", ".join(f'{{name = "{camera}", source = "x.mp4"}}' for camera in cameras)
        path.write_text(SITE.format(name=name, cameras=listed, camera=cameras[0], line=shop.lines[0].name))
        return path

    result = run("link", recorded / "sightings.parquet", "--site", site(names), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    result = run("link", recorded / "sightings.parquet", "--site", site(names[:-1]), "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert names[-1] in str(result.exception)


def test_a_stranger_s_vectors_need_a_calibration(recorded, tmp_path):
    alone = Path(shutil.copy(recorded / "sightings.parquet", tmp_path))
    result = run("link", alone, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "--calibration" in str(result.exception)
    given = run("link", alone, "--calibration", recorded / "calibration.json", "--out", tmp_path / "out")
    assert given.exit_code == 0, given.output
