"""One definition of evidence: two sides to a log-likelihood ratio."""

import numpy as np
import pytest

from passerby.reid.calibration import Calibration, Curve
from passerby.reid.evidence import evidence, joined, side, weighed
from passerby.types import PictureError

ONE, MANY = Curve((0.0,), (10.0,), -4.0, 9.0, 9.0), Curve((0.0,), (30.0,), -9.0, 9.0, 9.0)
CALIBRATION = Calibration((((1, 1), ONE), ((1, 2), MANY)), "0" * 64, "fp32", "example")


def unit(*rows):
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_product_of_two_means_is_the_mean_cosine_of_all_pairs():
    rng = np.random.default_rng(0)
    a, b = unit(*rng.normal(size=(3, 8))), unit(*rng.normal(size=(2, 8)))
    loop = np.mean([x @ y for x in a for y in b])
    assert float(side(a).means[0] @ side(b).means[0]) == pytest.approx(loop, abs=1e-6)


def test_pictures_weigh_by_their_quality_and_by_how_many_stand_behind_them():
    rows = unit([1, 0], [0, 1])
    assert side(rows, [1.0, 0.25]).means[0].tolist() == pytest.approx([0.8, 0.2])
    assert side(rows, 1.0, [3, 1]).means[0].tolist() == pytest.approx([0.75, 0.25])
    assert side(rows, [1.0, 0.25]).pictures.tolist() == [1.25]
    assert side(rows, [0.1, 0.2]).pictures.tolist() == [1.0]  # at least one
    assert side(rows, [0.1, 0.2]).quality.tolist() == pytest.approx([0.2])


def test_each_number_of_pictures_has_its_curve_and_the_sides_may_be_exchanged():
    one, two = side(unit([1, 0])), side(unit([1, 0], [0.8, 0.6]))
    ratio = evidence(CALIBRATION, one, two)
    assert ratio.shape == (1, 1)
    assert ratio[0, 0] == pytest.approx(float(MANY.at(0.9)), abs=1e-5)
    assert evidence(CALIBRATION, two, one) == pytest.approx(ratio)
    assert evidence(CALIBRATION, one, one)[0, 0] == pytest.approx(float(ONE.at(1.0)))


def test_all_pairs_equal_one_pair_after_the_other():
    rng = np.random.default_rng(1)
    sides = [side(unit(*rng.normal(size=(n, 6))), rng.uniform(0, 1, n)) for n in (1, 2, 3, 1)]
    every = evidence(CALIBRATION, joined(sides), joined(sides[:2]))
    for i, a in enumerate(sides):
        for j, b in enumerate(sides[:2]):
            assert every[i, j] == pytest.approx(float(evidence(CALIBRATION, a, b)[0, 0]), abs=1e-6)


def test_what_shows_nothing_says_nothing():
    blind, clear = side(unit([1, 0]), 0.0), side(unit([1, 0]))
    assert evidence(CALIBRATION, blind, clear).tolist() == [[0.0]]
    assert weighed(CALIBRATION, 0.9, pictures=(1, 1), quality=0.5) == pytest.approx(0.5 * float(ONE.at(0.9)))


def test_a_side_without_a_picture_is_refused():
    with pytest.raises(PictureError, match="at least one vector"):
        side(np.empty((0, 4), np.float32))
