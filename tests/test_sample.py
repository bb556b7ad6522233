"""The bundled sample shop is what its plan and seed give, and what the guide says of it."""

import json
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from passerby.config import load_toml
from passerby.simulate.cameras import Views
from passerby.simulate.footage import SEEN, Detections, frames, mot_line, site_toml
from passerby.simulate.people import visits
from passerby.simulate.plan import Shop
from passerby.simulate.scene import ATLAS, Atlas
from passerby.site import load_site

SAMPLE = ATLAS.with_name("sample")
SEED, SECONDS = 312595, 180


@pytest.fixture(scope="module")
def sample() -> Shop:
    return load_toml(ATLAS.with_name("sample_shop.toml"), Shop)


@pytest.fixture(scope="module")
def boxes(sample) -> dict[str, np.ndarray]:
    """The truth of each camera: frame, visit, left, top, width, height, 1, 1, visible."""
    return {c.name: np.loadtxt(SAMPLE / "truth" / f"{c.name}.txt", delimiter=",") for c in sample.cameras}


def rows(table: str) -> list[dict]:
    return [json.loads(line) for line in (SAMPLE / "truth" / f"{table}.jsonl").read_text().splitlines()]


def at(time: str) -> datetime:
    return datetime.fromisoformat(time)


def test_the_sample_shop_has_three_minutes_of_four_cameras_with_truth(sample, boxes):
    assert json.loads((SAMPLE / "run.json").read_text())["shop_sha256"] == sample.sha256
    assert len(sample.cameras) == 4
    for camera in sample.cameras:
        with av.open(str(SAMPLE / f"{camera.name}.mp4")) as file:
            assert file.streams.video[0].frames == SECONDS * camera.fps
        assert 1 <= boxes[camera.name][:, 0].min() <= boxes[camera.name][:, 0].max() <= SECONDS * camera.fps
    assert sum(path.stat().st_size for path in SAMPLE.glob("*.mp4")) < 3e6


def test_no_two_cameras_see_the_same_floor(sample):
    endless = replace(sample, cameras=tuple(replace(camera, range_m=1000.0) for camera in sample.cameras))
    seen = Views(endless).seen
    assert seen.any(axis=(0, 1)).all()
    assert seen.sum(axis=2).max() == 1


def test_nobody_is_seen_by_two_cameras_at_once(boxes):
    seen = Counter((int(row[0]), int(row[1])) for mine in boxes.values() for row in mine if row[8] > 0)
    assert max(seen.values()) == 1


def test_a_way_from_camera_to_camera_takes_time():
    for visit in {row["visit"] for row in rows("in_view")}:
        for before, after in pairwise(row for row in rows("in_view") if row["visit"] == visit):
            if before["camera"] != after["camera"]:
                assert at(after["start"]) - at(before["end"]) >= timedelta(seconds=2)


def test_nine_shoppers_make_ten_visits_and_leave_before_the_end(sample):
    shoppers = [visit for visit in rows("visits") if not visit["staff"]]
    assert len(shoppers) == 10
    assert len({visit["person"] for visit in shoppers}) == 9
    assert sum(visit["reentry"] for visit in shoppers) == 1
    assert {visit["person"] for visit in rows("visits") if visit["staff"]} == {-1}
    assert all(at(visit["left"]) < sample.opens + timedelta(seconds=SECONDS) for visit in shoppers)


def test_everybody_comes_and_goes_over_the_door_line_in_the_entrance_camera_s_view(sample, boxes):
    entries = rows("entries")
    for visit in (visit["visit"] for visit in rows("visits") if not visit["staff"]):
        mine = [entry for entry in entries if entry["visit"] == visit]
        assert [(entry["line"], entry["inwards"]) for entry in mine] == [("door", True), ("door", False)]
        seen = boxes["entrance"][(boxes["entrance"][:, 1] == visit) & (boxes["entrance"][:, 8] >= 0.5)]
        for entry in mine:
            frame = 1 + 12 * (at(entry["at"]) - sample.opens).total_seconds()
            assert np.abs(seen[:, 0] - frame).min() <= 3


def test_people_are_large_and_mostly_unhidden(boxes):
    every = np.concatenate(list(boxes.values()))
    seen = every[every[:, 8] >= SEEN]
    assert np.quantile(seen[:, 5], 0.05) >= 80
    assert np.mean(seen[:, 8] >= 0.6) > 0.85


def test_most_people_are_seen_in_several_cameras():
    cameras: dict[int, set[str]] = {}
    for row in rows("in_view"):
        cameras.setdefault(row["person"], set()).add(row["camera"])
    assert all(len(seen) > 1 for person, seen in cameras.items() if person > 0)


def test_its_boxes_are_those_that_the_plan_and_the_seed_give(sample):
    seconds = 4
    came = list(visits(sample, Views(sample), seed=SEED, duration_s=SECONDS))
    detections = [Detections(sample, number, seed=SEED, until_s=SECONDS) for number in range(4)]
    made: list[list[list[str]]] = [[[], []] for _ in sample.cameras]
    times = np.arange(12 * seconds) / 12
    for number, seen in enumerate(frames(sample, came, Atlas(), seed=SEED, times=times)):
        for (truth, found), detector, (_, boxes) in zip(made, detections, seen, strict=True):
            truth += [mot_line(number + 1, box) for box in boxes]
            found += detector.lines(number + 1, float(times[number]), boxes)
    for camera, both in zip(sample.cameras, made, strict=True):
        for part, lines in zip(("truth", "detections"), both, strict=True):
            kept = (SAMPLE / part / f"{camera.name}.txt").read_text().splitlines(keepends=True)
            assert lines == [line for line in kept if int(line.split(",")[0]) <= 12 * seconds]
    assert sum(len(truth) for truth, _ in made) > 48


def test_its_site_file_is_that_of_its_plan(sample):
    assert (SAMPLE / "site.toml").read_text() == site_toml(sample)
    assert json.loads((SAMPLE / "run.json").read_text())["begins"] == sample.opens.isoformat()


def test_a_filmed_shop_whose_cameras_overlap_leaves_each_place_to_one_of_them(tmp_path):
    recipe = Path(__file__).parents[1] / "recipes" / "reference_overlap.toml"
    (tmp_path / "site.toml").write_text(site_toml(load_toml(recipe, Shop)))
    site = load_site(tmp_path / "site.toml")
    watched = {camera.name: {zone.name for zone in site.zones_of(camera)} for camera in site.cameras}
    assert not watched["aisle 2"] & watched["aisle 2 back"]
    assert {*watched["aisle 2"], *watched["aisle 2 back"]} == {zone.name for zone in site.zones}
