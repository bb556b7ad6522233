import json
from dataclasses import replace

import av
import numpy as np
import pytest

from passerby.simulate import watching
from passerby.simulate.cameras import Views
from passerby.simulate.footage import Detections, Lookout, film, filmed_presence, frames, mot_line, wardrobe
from passerby.simulate.people import Trip, visits
from passerby.simulate.plan import Looks
from passerby.simulate.scene import Atlas, Box
from passerby.types import SimulationError


@pytest.fixture
def filmed(shop):
    return replace(shop, cameras=tuple(replace(c, fps=6.0, width_px=320, height_px=180) for c in shop.cameras))


def box(visit, *, visible=1.0, distance_m=4.0, xyxy=(100.0, 50.0, 140.0, 150.0)):
    return Box(visit, visit, xyxy, visible, distance_m)


def test_a_line_of_truth():
    assert mot_line(1, Box(7, 3, (10.0, 20.0, 30.4, 60.0), 0.5, 4.0)) == "1,3,10,20,20,40,1,1,0.50\n"


def test_who_is_seen_again_within_a_second_never_went():
    lookout = Lookout()
    for step in range(60):  # five seconds at 12 frames/s; hidden for half a second, then for two, then gone
        hidden = 12 <= step < 18 or 24 <= step < 48
        boxes = [box(1, visible=0.19 if hidden else 0.2, distance_m=9.0 - step / 10), box(2, visible=1.0 * (step == 0))]
        lookout.see(3, step / 12, boxes if step < 56 else [])
    first, second = lookout.times_in_view()
    assert (first.camera, first.person, first.start_s, first.end_s) == (3, 1, 0.0, pytest.approx(23 / 12))
    assert (first.distance_m, first.others) == (pytest.approx(9.0 - 2.3), 1)
    assert (second.start_s, second.end_s, second.others) == (pytest.approx(48 / 12), pytest.approx(55 / 12), 0)


def found(shop, boxes, *, frames=2000, **camera):
    """The lines of many equal frames, as numbers."""
    own = replace(shop, cameras=(replace(shop.cameras[0], **{"false_per_hour": 0.0, **camera}),))
    detections = Detections(own, 0, seed=1, until_s=frames / 12)
    lines = [line for n in range(frames) for line in detections.lines(n + 1, n / 12, boxes)]
    return np.array([[float(value) for value in line.split(",")] for line in lines]).reshape(-1, 10)


def test_a_detector_misses_what_the_camera_misses_and_more_of_whom_it_half_sees(shop):
    sure = {"miss": 0.1, "miss_far": 0.0, "miss_crowd": 0.0, "box_noise": 0.0}
    plain = found(shop, [box(1)], **sure)
    assert len(plain) / 2000 == pytest.approx(0.9, abs=0.03)
    np.testing.assert_allclose(plain[:, 2:7], np.tile([100, 50, 40, 100, 0.9], (len(plain), 1)))
    assert len(found(shop, [box(1, visible=0.25)], **sure)) / 2000 == pytest.approx(0.45, abs=0.04)
    assert len(found(shop, [box(1, visible=0.19)], **sure)) == 0
    crowded = found(shop, [box(n) for n in range(4)], **{**sure, "miss_crowd": 0.2})
    assert len(crowded) / 8000 == pytest.approx(0.9 * 0.8**3, abs=0.03)


def test_the_edges_of_its_boxes_are_off_by_the_camera_s_box_noise(shop):
    rows = found(shop, [box(1)], miss=0.0, miss_far=0.0, miss_crowd=0.0, box_noise=0.05)
    edges = np.column_stack([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]]) - [100, 50, 140, 150]
    np.testing.assert_allclose(edges.std(axis=0), 5.0, rtol=0.08)  # of 100 px
    np.testing.assert_allclose(edges.mean(axis=0), 0, atol=0.4)


def test_a_detector_sees_nobody_as_often_as_the_plan_says(shop):
    rows = found(shop, [], frames=12 * 3600, false_per_hour=60.0, box_noise=0.0)
    assert len(rows) == pytest.approx(60 * 3.5 * 12, rel=0.3)
    assert len({tuple(row) for row in rows[:, 2:7]}) == pytest.approx(60, abs=20)  # each stays where it is
    assert rows[:, 6].max() <= 0.6


def test_a_film_holds_its_frames_and_their_truth(filmed, drawn_atlas, tmp_path):
    people = film(filmed, tmp_path, Atlas(drawn_atlas), seed=1, duration_s=20.0)
    assert people > 1
    for camera in filmed.cameras:
        with av.open(str(tmp_path / f"{camera.name}.mp4")) as file:
            assert sum(1 for _ in file.decode(video=0)) == 120
        rows = np.loadtxt(tmp_path / "truth" / f"{camera.name}.txt", delimiter=",", ndmin=2)
        if len(rows):
            frames, boxes = rows[:, 0], rows[:, 2:6]
            assert frames.min() >= 1
            assert frames.max() <= 120
            assert (boxes >= 0).all()
            assert (boxes[:, 0] + boxes[:, 2] <= 320).all()
        spotted = np.loadtxt(tmp_path / "detections" / f"{camera.name}.txt", delimiter=",", ndmin=2)
        assert len(spotted) <= len(rows) + 120
    assert (tmp_path / "truth" / "visits.jsonl").is_file()
    in_view = [json.loads(line) for line in (tmp_path / "truth" / "in_view.jsonl").read_text().splitlines()]
    assert len({row["person"] for row in in_view}) == people
    assert {row["found"] for row in in_view} == {None}  # no tracker has looked
    assert not (tmp_path / "truth" / "tracks.jsonl").exists()
    starts = [row["start"] for row in in_view]
    assert starts == sorted(starts)


def test_presence_in_a_film_is_that_of_the_walk_but_for_who_is_pushed_aside(shop):
    views, times = Views(shop), np.arange(0.0, 120.0, 1 / 6)
    came = list(visits(shop, views, seed=1, duration_s=120.0))
    filmed, walked = (
        filmed_presence(shop, came, times),
        {visit.number: watching.presence(visit, views) for visit in came},
    )

    def seconds(rows):
        return sum(max(0.0, min(until, 120.0) - since) for mine in rows.values() for _, since, until in mine)

    assert seconds(filmed) == pytest.approx(seconds(walked), rel=0.1)
    alone = [came[0]]
    for (zone, since, until), (other, start, end) in zip(
        filmed_presence(shop, alone, times)[came[0].number], walked[came[0].number], strict=False
    ):
        assert zone == other
        assert 0 <= since - start < 0.2
        assert end > 120 or 0 <= end - until < 0.2


def test_the_same_seed_gives_the_same_frames_before_encoding(filmed, drawn_atlas):
    def shot(seed):
        came = list(visits(filmed, Views(filmed), seed=seed, duration_s=30.0))
        times = np.arange(24.0, 30.0, 1 / 6)
        made = list(frames(filmed, came, Atlas(drawn_atlas), seed=seed, times=times))
        return np.array([[picture for picture, _ in each] for each in made]), [[b for _, b in each] for each in made]

    (first, truth), (second, again), (other, _) = shot(1), shot(1), shot(2)
    np.testing.assert_array_equal(first, second)
    assert truth == again
    assert any(boxes for each in truth for boxes in each)
    assert (first != other).any()


def test_cameras_of_different_rates_are_refused(shop, drawn_atlas, tmp_path):
    with pytest.raises(SimulationError, match="one frame rate"):
        film(shop, tmp_path, Atlas(drawn_atlas), seed=1, duration_s=1.0)


def test_a_film_of_less_than_a_frame_is_refused(filmed, drawn_atlas, tmp_path):
    with pytest.raises(SimulationError, match=r"0\.01 s at .* is not one frame"):
        film(filmed, tmp_path, Atlas(drawn_atlas), seed=1, duration_s=0.01)


def test_staff_wear_a_uniform_and_look_alikes_the_clothes_of_another(shop, drawn_atlas):
    def visit(person):
        return Trip(abs(person) + 1000 * (person < 0), person, 1, 0, 0.0, 1.0, 1.0, (), staff=person < 0)

    came = [visit(n) for n in (*range(1, 40), -1, -2)]
    worn = wardrobe(replace(shop, looks=Looks(look_alikes=0.5)), came, Atlas(drawn_atlas), seed=1)
    assert worn[1001].colours[2] == worn[1002].colours[2]
    tops = [worn[n].colours[2:4] for n in range(1, 40)]
    assert 8 < len(tops) - len(set(tops)) < 32
