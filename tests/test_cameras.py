from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from passerby.simulate.cameras import Views
from passerby.simulate.people import Part, Trip
from passerby.simulate.plan import CameraPlan
from passerby.simulate.watching import appearances, false_sightings, miss_probability, watched
from passerby.vision.floor import Projection

# Looks along x from 2 m up; 90 degrees and 640 px make the focal length 320 px.
LEVEL = CameraPlan("level", (0.0, 0.0), 2.0, 0.0, 0.0, fov_deg=90.0)


def test_a_point_is_projected_as_by_hand():
    # 4 m ahead, 1 m to the left (y = 1), on the floor: left by 320/4 px, down by 2 * 320/4 px from (320, 180)
    pixels, depth = Projection(LEVEL.pose).pixels(np.array([[4.0, 1.0, 0.0]]))
    np.testing.assert_allclose(pixels, [[240, 340]])
    np.testing.assert_allclose(depth, [4])


def test_a_person_s_box_is_as_by_hand():
    # 4 m ahead: 80 px a metre; feet 2 m under the eye, head 0.3 m under it, 0.25 m to each side
    np.testing.assert_allclose(Projection(LEVEL.pose).box(np.array([4.0, 0.0])), [300, 204, 340, 340])


def test_a_tilted_camera_sees_the_floor_in_its_middle():
    camera = CameraPlan("tilted", (1.0, 2.0), 3.0, 90.0, 45.0)
    np.testing.assert_allclose(Projection(camera.pose).floor(np.array([[320.0, 180.0]])), [[1.0, 5.0]])


def test_above_the_horizon_there_is_no_floor():
    assert np.isnan(Projection(LEVEL.pose).floor(np.array([[320.0, 100.0]]))).all()


def test_overlapping_views_agree_in_space():
    feet = np.array([[3.0, 4.0, 0.0], [5.0, 3.0, 0.0]])
    for camera in (CameraPlan("a", (0.0, 0.0), 3.0, 45.0, 25.0), CameraPlan("b", (8.0, 0.5), 2.5, 140.0, 30.0)):
        projection = Projection(camera.pose)
        pixels, depth = projection.pixels(feet)
        assert (depth > 0).all()
        np.testing.assert_allclose(projection.floor(pixels), feet[:, :2], atol=1e-9)


def test_behind_a_camera_there_is_no_box():
    assert np.isnan(Projection(LEVEL.pose).box(np.array([-2.0, 0.0]))).all()


def test_a_shelf_hides_what_is_behind_it(shop):
    beyond = np.array([[6.3, 3.5], [9.5, 5.5], [1.5, 5.5]])
    left, right = (Views(shop).at(beyond)[:, number] for number in (1, 2))
    assert left.tolist() == [False, False, True]
    assert right[1]
    assert not right[2]  # hidden by the shelf, and out of range


def test_nobody_is_seen_out_of_range(shop):
    near = Views(replace(shop, cameras=(replace(shop.cameras[0], range_m=1.0),)))
    assert not near.seen.any()


def walk(shop, *, since=0.0):
    """A visit that walks from the left zone to the right one at 1 m/s."""
    left, right = int(shop.floor.spots_in(1)[0]), int(shop.floor.spots_in(2)[0])
    views = Views(shop)
    total = sum(np.linalg.norm(np.diff(shop.floor.path(left, right), axis=0), axis=1))
    parts = [Part(left, right, 0.0, float(total), since, since + float(total))]
    visit = Trip(1, 1, 1, 0, since, since + float(total), 1.0, (1, 2), parts=parts)
    return visit, views


def test_a_walk_is_seen_first_here_then_there_at_the_times_of_frames(shop):
    visit, views = walk(shop)
    seen = appearances(visit, views)
    assert shop.cameras[seen[0].camera].name == "left"
    assert shop.cameras[seen[-1].camera].name == "right"
    for a in seen:
        fps = shop.cameras[a.camera].fps
        assert a.start_s * fps == pytest.approx(round(a.start_s * fps))
        assert 0 <= a.start_s < a.end_s <= visit.leaves_s


def test_an_outage_cuts_a_sighting_in_two(shop):
    visit, views = walk(shop)
    whole = next(a for a in appearances(visit, views) if a.camera == 1)
    middle = (whole.start_s + whole.end_s) / 2
    camera = replace(shop.cameras[1], outages=((middle - 0.2, middle + 0.2),))
    broken = replace(shop, cameras=(shop.cameras[0], camera, shop.cameras[2]))
    first, second = [a for a in appearances(visit, Views(broken)) if a.camera == 1]
    assert (first.start_s, second.end_s) == (whole.start_s, whole.end_s)
    assert first.end_s <= middle - 0.2 < middle + 0.2 <= second.start_s


def test_who_is_out_of_view_for_a_moment_stays_one_sighting(shop):
    spot = int(shop.floor.spots_in(1)[0])
    parts = [Part(spot, spot, 0, 0, 0.0, 5.0), Part(spot, spot, 0, 0, 5.9, 9.0), Part(spot, spot, 0, 0, 12.0, 15.0)]
    visit = Trip(1, 1, 1, 0, 0.0, 15.0, 1.0, (), parts=parts)
    seen = [a for a in appearances(visit, Views(shop)) if a.camera == 1]
    assert [(a.start_s, a.end_s) for a in seen] == [(0, 9), (12, 15)]


def test_misses_grow_with_distance_and_crowd():
    camera = replace(LEVEL, miss=0.1, miss_far=0.2, miss_crowd=0.05, range_m=10.0)
    assert miss_probability(camera, 0.0, 0) == pytest.approx(0.1)
    assert miss_probability(camera, 10.0, 0) == pytest.approx(1 - 0.9 * 0.8)
    assert miss_probability(camera, 0.0, 2) == pytest.approx(1 - 0.9 * 0.95**2)


def test_as_many_are_missed_as_the_plan_says(shop):
    certain = replace(
        shop,
        cameras=tuple(replace(c, miss=0.3, miss_far=0.0, miss_crowd=0.0, false_per_hour=0.0) for c in shop.cameras),
    )
    visit, _ = walk(certain)
    views = Views(certain)
    many = (replace_times(visit, 100.0 * i) for i in range(500))
    seen = list(watched(many, views, np.random.default_rng(0), duration_s=1e5))
    missed = sum(not a.found for a in seen)
    assert abs(missed - 0.3 * len(seen)) < 4 * np.sqrt(len(seen) * 0.3 * 0.7)
    assert all(a.start_s <= b.start_s for a, b in pairwise(seen))


def replace_times(visit, late):
    parts = [p._replace(since_s=p.since_s + late, until_s=p.until_s + late) for p in visit.parts]
    return replace(visit, enters_s=visit.enters_s + late, leaves_s=visit.leaves_s + late, parts=parts)


def test_false_sightings_come_at_their_rate():
    camera = replace(LEVEL, false_per_hour=100.0)
    found = false_sightings([camera], np.random.default_rng(0), duration_s=36000.0)
    assert abs(len(found) - 1000) < 4 * np.sqrt(1000)
    assert all(f.person is None for f in found)


def test_a_second_person_in_view_is_counted(shop):
    visit, views = walk(shop)
    other = SimpleNamespace(**{name: getattr(visit, name) for name in visit.__slots__} | {"person": 2, "number": 2})
    seen = list(watched([visit, other], views, np.random.default_rng(0), duration_s=0.0))
    assert sorted(a.others for a in seen if a.camera == 1) == [0, 1]
