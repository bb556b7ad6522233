"""Virtual cameras over a walk: what they see, and the times between."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from real_walks import CAMERAS, Seen, Walk, figures, real_sightings, sightings_of, times_of

ROOMS = [(0.0, 0.0, 2.0, 2.0), (5.0, 0.0, 7.0, 2.0)]


def test_a_walk_through_two_cameras_and_back():
    there_and_back = Walk(7, np.array([0.0, 10.0, 20.0]), np.array([[0.0, 1.0], [10.0, 1.0], [0.0, 1.0]]))
    seen = sorted(sightings_of(there_and_back, ROOMS), key=lambda each: each.start_s)
    assert [(each.camera, each.person) for each in seen] == [(0, 7), (1, 7), (1, 7), (0, 7)]
    np.testing.assert_allclose([each.start_s for each in seen], [0, 5, 13.1, 18.1], atol=0.11)
    np.testing.assert_allclose([each.end_s for each in seen], [2, 7, 15, 20], atol=0.11)
    times = times_of(seen)
    assert times["passage"].keys() == {(0, 1), (1, 0)}
    assert times["return"][1, 1] == pytest.approx([6], abs=0.21)
    assert times["in view"][0, 0] == pytest.approx([2, 2], abs=0.21)


def test_who_steps_out_for_less_than_a_second_stays_in_view():
    out_and_in = Walk(
        1, np.array([0.0, 1.5, 2.0, 2.5, 4.0]), np.array([[1.0, 1.0], [1.0, 1.0], [2.5, 1.0], [1, 1], [1, 1]])
    )
    (seen,) = sightings_of(out_and_in, ROOMS)
    assert seen == Seen(0, 0.0, 4.0, 1)


def test_a_deviation_is_that_within_a_cell():
    assert figures([[1.0, np.e**2] * 10, [100.0, 100 * np.e**2] * 10]) == f"40 | {(np.e**2 + 100) / 2:.1f} | 1.00"


def test_real_walks_come_in_order_and_return_later_than_they_pass(shared):
    sightings = real_sightings(shared / "trajectories" / "grand_central.npz")
    assert len(sightings) > 10_000
    assert [each.start_s for each in sightings] == sorted(each.start_s for each in sightings)
    assert {each.camera for each in sightings} == set(range(len(CAMERAS)))
