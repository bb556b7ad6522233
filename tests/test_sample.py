"""The bundled sample shop is what its plan and seed give."""

import json

import av
import numpy as np

from passerby.config import load_toml
from passerby.simulate.plan import Shop
from passerby.simulate.scene import ATLAS

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
