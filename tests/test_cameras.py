from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from passerby.simulate.cameras import Views
from passerby.simulate.people import Part, Trip
from passerby.simulate.plan import CameraPlan
from passerby.simulate.watching import false_sightings, miss_probability, place, presence, times_in_view, watched
from passerby.types import SimulationError
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
    seen = times_in_view(visit, views)
    assert shop.cameras[seen[0].camera].name == "left"
    assert shop.cameras[seen[-1].camera].name == "right"
    for a in seen:
        fps = shop.cameras[a.camera].fps
        assert a.start_s * fps == pytest.approx(round(a.start_s * fps))
        assert 0 <= a.start_s < a.end_s <= visit.leaves_s


def test_an_outage_cuts_a_sighting_in_two(shop):
    visit, views = walk(shop)
    whole = next(a for a in times_in_view(visit, views) if a.camera == 1)
    middle = (whole.start_s + whole.end_s) / 2
    camera = replace(shop.cameras[1], outages=((middle - 0.2, middle + 0.2),))
    broken = replace(shop, cameras=(shop.cameras[0], camera, shop.cameras[2]))
    first, second = [a for a in times_in_view(visit, Views(broken)) if a.camera == 1]
    assert (first.start_s, second.end_s) == (whole.start_s, whole.end_s)
    assert first.end_s <= middle - 0.2 < middle + 0.2 <= second.start_s


def test_who_is_out_of_view_for_a_moment_stays_one_sighting(shop):
    spot = int(shop.floor.spots_in(1)[0])
    parts = [Part(spot, spot, 0, 0, 0.0, 5.0), Part(spot, spot, 0, 0, 5.9, 9.0), Part(spot, spot, 0, 0, 12.0, 15.0)]
    visit = Trip(1, 1, 1, 0, 0.0, 15.0, 1.0, (), parts=parts)
    seen = [a for a in times_in_view(visit, Views(shop)) if a.camera == 1]
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


def test_presence_is_the_time_inside_the_polygon_and_not_the_plan(shop):
    """Steady at 1 m/s from left zone to right zone: each is left, or entered, where its edge is crossed."""
    visit, views = walk(shop)
    left, right = ([row for row in presence(visit, views) if row[0] == zone] for zone in (1, 2))
    assert visit.stays == []  # nothing was planned
    ((_, since, until),) = left
    assert since == 0
    place_there = np.array([np.interp(until, *visit_way(visit, views, axis)) for axis in (1, 2)])
    x0, y0, x1, y1 = shop.zones[1].area
    assert min(abs(place_there - [x1, y0])) < 1e-6 or min(abs(place_there - [x0, y1])) < 1e-6
    ((_, since, until),) = right
    assert 0 < since < until == pytest.approx(visit.leaves_s)


def visit_way(visit, views, axis):
    way = times_in_view(visit, views)[0].way
    return way[:, 0], way[:, axis]


def test_presence_agrees_with_a_slow_look_at_every_tenth_of_a_second(shop):
    from passerby.simulate.people import position, visits
    from passerby.vision.floor import contains

    views = Views(shop)
    checked = 0
    for visit in (v for v in visits(shop, views, seed=3, duration_s=900.0) if not v.staff):
        rows = presence(visit, views)
        for at_s in np.arange(visit.enters_s + 0.05, visit.leaves_s, 0.1):
            if visit.member:
                break
            where = tuple(position(visit, shop, at_s))
            for number, zone in enumerate(views.zones):
                inside = any(z == number and a <= at_s <= b for z, a, b in rows)
                near_edge = any(z == number and min(abs(a - at_s), abs(b - at_s)) < 1e-6 for z, a, b in rows)
                assert near_edge or inside == contains(zone, where)
                checked += inside
    assert checked > 1000


def test_a_way_is_where_the_person_is(shop):
    from passerby.simulate.people import position, visits

    views = Views(shop)
    for visit in visits(shop, views, seed=1, duration_s=600.0):
        for seen in times_in_view(visit, views)[:1]:
            for at_s in np.linspace(visit.enters_s, visit.leaves_s, 50)[1:-1]:
                expected = position(visit, shop, at_s)
                found = [np.interp(at_s, seen.way[:, 0], seen.way[:, axis]) for axis in (1, 2)]
                np.testing.assert_allclose(found, expected, atol=1e-6)


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


def test_a_false_sighting_stands_on_the_floor_that_its_camera_sees(shop):
    views, rng = Views(shop), np.random.default_rng(0)
    crowded = [replace(camera, false_per_hour=200.0) for camera in shop.cameras]
    found = false_sightings(crowded, np.random.default_rng(0), duration_s=3600.0)
    for seen in found:
        place(seen, views, rng)
        assert views.at(seen.way[:, 1:])[:, seen.camera].all()
        assert np.hypot(*np.diff(seen.way[:, 1:], axis=0)[0]) <= 1.2 * (seen.end_s - seen.start_s)
        for _, since, until in seen.stays:
            assert seen.start_s <= since <= until <= seen.end_s
    starts = np.array([seen.way[0, 1:] for seen in found if seen.camera == 0])
    assert starts.std(axis=0).min() > 0.5  # all over it


def test_false_sightings_stay_and_cross_as_their_way_says(shop):
    """As many of a still one's places lie in a zone as the zone's part of what the camera sees."""
    views, rng = Views(shop), np.random.default_rng(1)
    found = false_sightings([replace(c, false_per_hour=400.0) for c in shop.cameras], rng, duration_s=7200.0)
    for seen in found:
        place(seen, views, rng)
    for camera in range(len(shop.cameras)):
        mine = [seen for seen in found if seen.camera == camera]
        there = np.mean([bool(seen.stays) for seen in mine])
        cells = views.cells[camera]
        share = np.mean([any(inside(zone, cell) for zone in shop.zones) for cell in cells])
        assert share - 0.08 < there < share + 0.25, (there, share)  # they drift into some more
    assert any(seen.crossings for seen in found)


def inside(zone, cell):
    x0, y0, x1, y1 = zone.area
    return x0 <= cell[0] <= x1 and y0 <= cell[1] <= y1


def test_where_a_camera_sees_no_floor_a_false_sighting_is_nowhere(shop):
    blind = Views(replace(shop, cameras=(replace(shop.cameras[0], range_m=1.0, false_per_hour=100.0),)))
    (first, *_) = false_sightings(blind.shop.cameras, np.random.default_rng(0), duration_s=3600.0)
    place(first, blind, np.random.default_rng(0))
    assert (len(first.way), first.stays, first.crossings) == (0, [], [])


def test_cameras_that_are_said_to_overlap_do(shop):
    with pytest.raises(SimulationError, match="door and left see under 1 m²"):
        Views(replace(shop, overlaps=(("door", "left"),)))
    twin = replace(shop.cameras[1], name="left again", position=(0.2, 4.2), heading_deg=20.0)
    both = Views(replace(shop, cameras=(*shop.cameras, twin), overlaps=(("left", "left again"),)))
    assert both.overlap(1, 3)
    assert not both.overlap(0, 1)
