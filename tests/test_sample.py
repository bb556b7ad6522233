"""The bundled sample shop is what its plan and seed give."""

import json

import av
import numpy as np

from passerby.config import load_toml
from passerby.simulate.cameras import Views
from passerby.simulate.footage import Detections, frames, mot_line
from passerby.simulate.people import visits
from passerby.simulate.plan import Shop
from passerby.simulate.scene import ATLAS, Atlas

SAMPLE = ATLAS.with_name("sample")


def test_the_sample_shop_has_two_minutes_of_four_cameras_with_truth():
    shop = load_toml(ATLAS.with_name("sample_shop.toml"), Shop)
    assert json.loads((SAMPLE / "run.json").read_text())["shop_sha256"] == shop.sha256
    assert len(shop.cameras) == 4
    for camera in shop.cameras:
        with av.open(str(SAMPLE / f"{camera.name}.mp4")) as file:
            assert file.streams.video[0].frames == 120 * camera.fps
        rows = np.loadtxt(SAMPLE / "truth" / f"{camera.name}.txt", delimiter=",")
        assert 1 <= rows[:, 0].min() <= rows[:, 0].max() <= 120 * camera.fps
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*.*")) < 15e6


def test_ten_to_twenty_people_one_of_them_staff_and_one_who_comes_again():
    visits = [json.loads(line) for line in (SAMPLE / "truth" / "visits.jsonl").read_text().splitlines()]
    assert 10 <= len({visit["person"] for visit in visits}) <= 20
    assert {visit["person"] for visit in visits if visit["staff"]} == {-1}
    assert sum(visit["reentry"] for visit in visits) == 1


def test_most_people_are_seen_in_several_cameras():
    rows = [json.loads(line) for line in (SAMPLE / "truth" / "in_view.jsonl").read_text().splitlines()]
    cameras = {
        person: {row["camera"] for row in rows if row["person"] == person} for person in {r["person"] for r in rows}
    }
    assert sum(len(seen) > 1 for seen in cameras.values()) > len(cameras) / 2


def test_its_boxes_are_those_that_the_plan_and_the_seed_give():
    shop, seconds = load_toml(ATLAS.with_name("sample_shop.toml"), Shop), 4
    came = list(visits(shop, Views(shop), seed=38, duration_s=120.0))
    detections = [Detections(shop, number, seed=38, until_s=120.0) for number in range(4)]
    made: list[list[list[str]]] = [[[], []] for _ in shop.cameras]
    times = np.arange(12 * seconds) / 12
    for number, seen in enumerate(frames(shop, came, Atlas(), seed=38, times=times)):
        for (truth, found), detector, (_, boxes) in zip(made, detections, seen, strict=True):
            truth += [mot_line(number + 1, box) for box in boxes]
            found += detector.lines(number + 1, float(times[number]), boxes)
    for camera, both in zip(shop.cameras, made, strict=True):
        for part, lines in zip(("truth", "detections"), both, strict=True):
            kept = (SAMPLE / part / f"{camera.name}.txt").read_text().splitlines(keepends=True)
            assert lines == [line for line in kept if int(line.split(",")[0]) <= 12 * seconds]
    assert sum(len(truth) for truth, _ in made) > 48
