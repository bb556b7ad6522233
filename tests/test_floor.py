import numpy as np
import pytest

from passerby.shop import Zone
from passerby.types import SightingError
from passerby.vision.floor import Plane, Pose, Projection, outside_by

PROJECTION = Projection(Pose((2.0, 0.0), 3.0, 90.0, 30.0, 70.0, 640, 360))
PLACES = np.array([[1.0, 4.0], [3.0, 4.0], [3.5, 8.0], [0.5, 8.0], [2.0, 6.0]])


def test_four_points_tie_a_picture_to_the_floor_as_the_cameras_mount_does():
    fractions = PROJECTION.pixels(np.column_stack([PLACES, np.zeros(5)]))[0] / [640, 360]
    plane = Plane(fractions[:4], PLACES[:4])
    assert plane.floor(fractions) == pytest.approx(PLACES, abs=1e-6)
    assert plane.shown(PLACES, width=640, height=360) == pytest.approx(fractions * [640, 360], abs=1e-4)


def test_what_lies_above_the_horizon_is_nowhere_on_the_floor():
    fractions = PROJECTION.pixels(np.column_stack([PLACES, np.zeros(5)]))[0] / [640, 360]
    plane = Plane(fractions[:4], PLACES[:4])
    assert np.isnan(plane.floor(np.array([[0.5, -2.0]]))).all()
    assert np.isnan(PROJECTION.floor(np.array([[320.0, -800.0]]))).all()


def test_points_on_one_line_tie_nothing():
    with pytest.raises(SightingError, match="no three of them on one line"):
        Plane(np.array([[0.1, 0.1], [0.2, 0.2], [0.3, 0.3], [0.4, 0.4]]), np.array([[0.0, 0], [1, 1], [2, 2], [3, 3]]))


def test_feet_that_are_out_of_the_picture_are_found_from_the_head():
    head = PROJECTION.pixels(np.array([[2.2, 1.5, 1.7]]))[0]
    assert PROJECTION.floor(head, height_m=1.7) == pytest.approx(np.array([[2.2, 1.5]]))


@pytest.mark.parametrize(("point", "metres"), [((1, 1), 0), ((3, 1), 1), ((-3, -4), 5), ((1, 2.5), 0.5)])
def test_how_far_a_point_lies_outside_a_zone(point, metres):
    square = Zone("square", ((0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)))
    assert outside_by(square, point) == pytest.approx(metres)
