from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from passerby.config import load_toml
from passerby.shop import Line
from passerby.simulate.plan import Obstacle, Shop, ZonePlan, along, hidden_by, length_m
from passerby.types import ConfigError
from passerby.vision.floor import crossings_of

RECIPES = Path(__file__).parents[1] / "recipes"
REFERENCE = sorted(RECIPES.glob("reference_*.toml"))


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_each_reference_shop_loads_and_is_named_after_its_file(path):
    shop = load_toml(path, Shop)
    assert shop.name == path.stem
    assert len(shop.cameras) == 6


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
    ],
)
def test_a_shop_that_cannot_be_is_refused(shop, change, said):
    with pytest.raises(ValueError, match=said):
        replace(shop, **change)


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
