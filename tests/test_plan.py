from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from passerby.config import load_toml
from passerby.shop import Line, Zone
from passerby.simulate.cameras import Views
from passerby.simulate.plan import Looks, Obstacle, Shop, TrackerPlan, ZonePlan, along, hidden_by, length_m
from passerby.types import ConfigError
from passerby.vision.floor import contains, crossings_of, stretches_in

RECIPES = Path(__file__).parents[1] / "recipes"
REFERENCE = sorted(RECIPES.glob("reference_*.toml"))


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_each_reference_shop_loads_and_is_named_after_its_file(path):
    shop = load_toml(path, Shop)
    assert shop.name == path.stem
    cameras = len(shop.cameras)
    assert cameras == (7 if shop.name == "reference_staff" else 6)
    views = Views(shop)
    overlapping = {
        (a, b) for a, b in combinations(range(cameras), 2) if (views.seen[..., a] & views.seen[..., b]).any()
    }
    assert {frozenset(shop.cameras[n].name for n in pair) for pair in overlapping} == {*map(frozenset, shop.overlaps)}


@pytest.mark.parametrize("kind", ["easy", "normal", "hard"])
def test_the_second_reference_shops_are_the_first_ones_with_erring_trackers(kind):
    first, second = (load_toml(RECIPES / f"reference_{kind}{n}.toml", Shop) for n in ("", "_2"))
    assert all(camera.tracker == TrackerPlan() for camera in first.cameras)
    assert all(min(asdict(camera.tracker).values()) > 0 for camera in second.cameras)
    cameras = tuple(replace(camera, tracker=TrackerPlan()) for camera in second.cameras)
    assert replace(second, name=first.name, cameras=cameras) == first


def test_the_busy_shop_has_400_visits_an_hour_and_the_overlapping_one_a_pair():
    busy, overlap = (load_toml(RECIPES / f"reference_{name}.toml", Shop) for name in ("busy", "overlap"))
    size = sum(n * share for n, share in enumerate(busy.arrivals.party_sizes, start=1))
    assert busy.arrivals.per_hour[0] * size == pytest.approx(400, abs=1)
    assert busy.looks.rank1 == 0.5
    assert overlap.overlaps == (("aisle 2", "aisle 2 back"),)


def test_an_unknown_key_is_named_with_the_nearest(tmp_path):
    changed = tmp_path / "shop.toml"
    changed.write_text(REFERENCE[0].read_text().replace("range_m", "rang_m", 1))
    with pytest.raises(ConfigError, match=r"rang_m.*did you mean 'range_m'"):
        load_toml(changed, Shop)


def test_a_shop_with_a_zone_that_is_walled_off_is_refused(shop):
    walls = tuple(
        Obstacle(area)
        for area in ((0.5, 0.5, 2.5, 0.6), (0.5, 2.4, 2.5, 2.5), (0.5, 0.5, 0.6, 2.5), (2.4, 0.5, 2.5, 2.5))
    )
    with pytest.raises(ValueError, match="no way leads there"):
        replace(shop, obstacles=shop.obstacles + walls)


def test_a_zone_full_of_obstacles_is_refused(shop):
    with pytest.raises(ValueError, match="no place to stand"):
        replace(shop, obstacles=(*shop.obstacles, Obstacle((0.5, 3.5, 4.5, 7.5))))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"zones": (ZonePlan("a", "shelves", (0, 0, 1, 1)),)}, "one entrance"),
        ({"cameras": ()}, "at least one"),
        ({"staff": -1}, "staff"),
        ({"size_m": (5.0, 5.0)}, "outside the floor"),
        ({"overlaps": (("door", "cellar"),)}, "pairs of cameras: door, left, right"),
        ({"overlaps": (("door", "door"),)}, "pairs of cameras"),
    ],
)
def test_a_shop_that_cannot_be_is_refused(shop, change, said):
    with pytest.raises(ValueError, match=said):
        replace(shop, **change)


@pytest.mark.parametrize(
    "wrong",
    [
        {"swaps": 0.6, "merges": 0.5},
        {"lost": 1.5},
        {"flicker": -0.1},
        {"edge_s": -1.0},
        {"breaks_per_min": float("nan")},
    ],
    ids=str,
)
def test_a_tracker_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="tracker: expected"):
        TrackerPlan(**wrong)


def test_looks_go_down_to_a_rank_1_of_0_2():
    assert Looks(rank1=0.2).rank1 == 0.2
    with pytest.raises(ValueError, match=r"rank1 of 0\.2 to 1"):
        Looks(rank1=0.19)


def test_what_came_later_changes_the_hash_of_a_shop_only_where_it_is_used(shop):
    normal = load_toml(RECIPES / "reference_normal.toml", Shop)
    assert normal.sha256 == "72d5331e22973dea06faf70136c63ebaeada0b9caf88123b99c2118bdd527677"
    erring = replace(shop, cameras=(replace(shop.cameras[0], tracker=TrackerPlan(swaps=0.1)), *shop.cameras[1:]))
    twin = replace(shop.cameras[1], name="twin")
    doubled = replace(shop, cameras=(*shop.cameras, twin))
    restless = replace(shop, shoppers=replace(shop.shoppers, turn_back=0.1))
    hashes = {s.sha256 for s in (shop, erring, doubled, replace(doubled, overlaps=(("left", "twin"),)), restless)}
    assert len(hashes) == 5


def test_the_way_round_a_shelf_is_the_shortest(shop):
    left, right = shop.floor.spots_in(1)[0], shop.floor.spots_in(2)[0]
    path = shop.floor.path(left, right)
    assert len(path) == 4  # both ends and the two lower corners of the shelf, 0.3 m away from it
    np.testing.assert_allclose(path[1:3], [[5.2, 3.7], [6.8, 3.7]], atol=1e-5)
    np.testing.assert_allclose(length_m(path), sum(np.linalg.norm(np.diff(path, axis=0), axis=1)))


def test_no_path_runs_through_an_obstacle():
    shop = load_toml(RECIPES / "reference_normal.toml", Shop)
    spots = range(0, len(shop.floor.spots), 5)
    for start in spots:
        for end in spots:
            path = shop.floor.path(start, end)
            points = along(path, np.linspace(0, length_m(path), 200))
            for x0, y0, x1, y1 in shop.floor.areas:
                inside = (points > [x0 - 0.29, y0 - 0.29]).all(1) & (points < [x1 + 0.29, y1 + 0.29]).all(1)
                assert not inside.any()


def test_along_a_path():
    path = np.array([[0.0, 0], [3, 0], [3, 4]])
    assert length_m(path) == 7
    np.testing.assert_allclose(along(path, np.array([0, 1, 5, 9])), [[0, 0], [1, 0], [3, 2], [3, 4]])


def test_a_box_hides_what_is_behind_it_and_lower():
    box, height = np.array([[2.0, -1, 3, 1]]), np.array([2.0])
    eye = np.array([0.0, 0, 3])
    behind_low, behind_far, beside, before = [4.0, 0, 1], [40.0, 0, 2.9], [4.0, 5, 1], [1.0, 0, 1]
    found = hidden_by(box, height, eye, np.array([behind_low, behind_far, beside, before]))
    assert found.ravel().tolist() == [True, False, False, False]


def test_who_crosses_a_line_from_its_left_goes_in():
    line = Line("door", (0, 0), (2, 0))  # its left is y > 0
    assert crossings_of(np.array([[1.0, 1], [1, -2], [1, 1]]), line) == [(1.0, True), (5.0, False)]
    assert crossings_of(np.array([[3.0, 1], [3, -2]]), line) == []


def test_on_a_picture_left_is_as_one_sees_it():
    line = Line("door", (0.2, 0.5), (0.8, 0.5), "door")  # to the right: its left is above, where y is smaller
    assert crossings_of(np.array([[0.5, 0.4], [0.5, 0.7]]), line) == [(pytest.approx(0.1), True)]
    assert crossings_of(np.array([[0.5, 0.7], [0.5, 0.4]]), line) == [(pytest.approx(0.2), False)]


ARROW = Zone("arrow", ((0, 0), (4, 0), (4, 4), (2, 1), (0, 4)))  # two prongs upwards, a dent between them


def test_stretches_inside_a_zone_are_as_by_hand():
    assert stretches_in(np.array([[-1.0, 0.5], [5, 0.5]]), ARROW) == [(1, 5)]
    across_the_prongs = stretches_in(np.array([[-1.0, 2.5], [5, 2.5]]), ARROW)
    np.testing.assert_allclose(across_the_prongs, [(1, 2), (4, 5)])
    there_and_back = np.array([[-1.0, 0.5], [1, 0.5], [-1, 0.5]])
    assert stretches_in(there_and_back, ARROW) == [(1, 3)]  # one stretch over the turn
    assert stretches_in(np.array([[2.0, 3], [2, 5]]), ARROW) == []  # in the dent
    assert stretches_in(np.array([[1.0, 1], [1, 1]]), ARROW) == [(0, 0)]  # stands there
    assert stretches_in(np.array([[2.0, 3], [2, 3]]), ARROW) == []


def test_stretches_agree_with_a_slow_look_at_many_points():
    rng = np.random.default_rng(0)
    for _ in range(100):
        path = rng.uniform(-1, 5, (4, 2))
        at_m = np.linspace(0, length_m(path), 997)[1:-1]
        found = stretches_in(path, ARROW)
        for way, point in zip(at_m, along(path, at_m), strict=True):
            if all(min(abs(low - way), abs(high - way)) > 1e-9 for low, high in found):
                assert contains(ARROW, tuple(point)) == any(low < way < high for low, high in found)
