from dataclasses import replace

import numpy as np
import pytest

from passerby.simulate.cameras import Views
from passerby.simulate.people import Part, Trip, visits
from passerby.simulate.plan import CameraPlan, Obstacle
from passerby.simulate.scene import Atlas, Scene, Standing, background, crowd, draw_look
from passerby.types import SimulationError
from passerby.vision.floor import Projection

CAMERA = CameraPlan("hall", (0.5, 4.0), 2.5, 0.0, 15.0, fov_deg=70.0, range_m=20.0)


@pytest.fixture(scope="module")
def atlas(drawn_atlas):
    return Atlas(drawn_atlas)


@pytest.fixture
def hall(shop):
    """The small shop's floor, empty, looked along x."""
    return replace(shop, obstacles=(), cameras=(CAMERA,))


def at(x, y, heading=0.0):
    return Standing((x, y), heading, 0.0, 0.0)


def shown(hall, atlas, **people):
    scene = Scene(hall, 0, atlas, seed=1)
    standing = {int(name[1:]): place for name, place in people.items()}
    looks = {n: replace(draw_look(atlas, np.random.default_rng(n)), height_m=1.7) for n in standing}
    return scene.frame(0, standing, looks, {n: n for n in standing})


def test_a_person_s_box_is_where_the_geometry_says(hall, atlas):
    _, (box,) = shown(hall, atlas, p1=at(6.0, 4.0))
    expected = Projection(CAMERA).box(np.array([6.0, 4.0]))
    assert box.visible == 1
    assert box.xyxy[3] == pytest.approx(expected[3], abs=8)  # the feet
    assert box.xyxy[1] == pytest.approx(expected[1], abs=8)  # the head
    assert (box.xyxy[0] + box.xyxy[2]) / 2 == pytest.approx((expected[0] + expected[2]) / 2, abs=8)


def test_the_nearer_person_hides_the_farther(hall, atlas):
    _, (near, far) = shown(hall, atlas, p1=at(4.0, 4.0), p2=at(8.0, 4.0))
    assert near.visible == 1
    assert far.visible < 0.7
    _, (near, far) = shown(hall, atlas, p2=at(4.0, 4.0), p3=at(8.0, 4.0))  # whatever their numbers
    assert near.visible == 1 > far.visible


def test_a_shelf_hides_who_stands_behind_it(hall, atlas):
    shelf = replace(hall, obstacles=(Obstacle((6.0, 3.0, 6.5, 5.0), 1.3),))
    _, (behind,) = shown(shelf, atlas, p1=at(8.0, 4.0))
    _, (before,) = shown(shelf, atlas, p1=at(4.0, 4.0))
    assert behind.visible < 0.6
    assert before.visible == 1


def test_a_foot_is_not_seen_through_a_wall(hall, atlas):
    walled = replace(hall, obstacles=(Obstacle((6.2, 2.0, 6.25, 6.0), 3.0),))
    _, boxes = shown(walled, atlas, p1=at(6.4, 4.0), p2=at(5.9, 3.0))
    assert [box.visible for box in boxes] == [0, 1]


def test_who_is_outside_the_picture_has_no_box(hall, atlas):
    assert shown(hall, atlas, p1=at(0.6, 7.5))[1] == []


def test_people_are_seen_in_the_picture(hall, atlas):
    with_one, (box,) = shown(hall, atlas, p1=at(5.0, 4.0))
    without, _ = shown(hall, atlas)
    changed = np.abs(with_one.astype(int) - without).max(axis=2) > 30
    x0, y0, x1, y1 = (int(v) for v in box.xyxy)
    inside = changed[y0:y1, x0:x1]
    assert inside.mean() > 0.25
    assert changed.sum() < 2 * inside.sum()  # beside the body only its shadow


def test_the_background_s_distances_are_those_of_the_plan(hall):
    shelf = replace(hall, obstacles=(Obstacle((6.0, 3.0, 6.5, 5.0), 1.3),))
    projection = Projection(CAMERA)
    _, distance, floor = background(shelf, projection, seed=1)
    pixel = projection.pixels(np.array([[6.0, 4.0, 0.65]]))[0][0].astype(int)
    assert distance[pixel[1], pixel[0]] == pytest.approx(np.hypot(5.5, 1.85), abs=0.05)
    assert floor[pixel[1], pixel[0]] == 0
    ground = projection.pixels(np.array([[4.0, 4.0, 0.0]]))[0][0].astype(int)
    assert distance[ground[1], ground[0]] == pytest.approx(np.hypot(3.5, 2.5), abs=0.05)
    assert floor[ground[1], ground[0]] == 1


def test_the_same_seed_gives_the_same_frames_and_cameras_differ(hall, atlas):
    first, second = (shown(hall, atlas, p1=at(5.0, 4.0))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    warm = replace(hall, cameras=(replace(CAMERA, light=(1.2, 1.0, 0.8)),))
    other = shown(warm, atlas, p1=at(5.0, 4.0))[0]
    assert other[..., 0].mean() > first[..., 0].mean() + 10
    assert other[..., 2].mean() < first[..., 2].mean() - 10


def standing_visit(number, shop, spot):
    parts = [Part(spot, spot, 0.0, 0.0, 0.0, 10.0)]
    return Trip(number, number, number, 0, 0.0, 10.0, 1.0, (), parts=parts)


def test_two_who_want_the_same_place_make_room(shop):
    spot = int(shop.floor.spots_in(1)[0])
    two = [standing_visit(n, shop, spot) for n in (1, 2)]
    last = list(crowd(shop, two, np.arange(0, 5, 1 / 12)))[-1]
    assert np.linalg.norm(np.subtract(last[1].place, last[2].place)) > 0.4


def test_nobody_is_pushed_into_a_shelf(shop):
    came = list(visits(shop, Views(shop), seed=1, duration_s=120.0))
    for standing in crowd(shop, came, np.arange(0, 120, 1 / 4)):
        for stands in standing.values():
            x, y = stands.place
            for x0, y0, x1, y1 in shop.floor.areas:
                assert not (x0 < x < x1 and y0 < y < y1)


def test_the_committed_atlas_shows_people_from_every_side():
    people = Atlas()
    for look in (replace(draw_look(people, np.random.default_rng(0)), body=n) for n in range(people.bodies)):
        widths = []
        for facing in range(0, 360, 45):
            colour, opacity = people.sprite(look, elevation_deg=12.0, facing_deg=facing, phase=0.1)
            rows = np.flatnonzero(opacity.any(axis=1))
            height_m = (rows[-1] - rows[0] + 1) / people.px_per_m
            assert height_m == pytest.approx(people.heights_m[look.body], rel=0.12)
            assert (colour[opacity == 0] == 0).all()
            widths.append(int(opacity.any(axis=0).sum()))
        assert len(set(widths)) > 2  # it is turned


def test_an_atlas_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.npz").write_text("no")
    with pytest.raises(SimulationError, match="make_atlas"):
        Atlas(tmp_path / "a.npz")
