from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from passerby.shop import Line, Zone
from passerby.vision.presence import Presence

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
SQUARE = Zone("square", ((0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)))
DOOR = Line("door", (0.0, 0.0), (2.0, 0.0))  # from its left, above, one goes in


def walked(points, *, zones=(), lines=(), slack=0.0, every_s=0.2, **settings):
    seen = Presence(list(zones), list(lines), **settings)
    for number, point in enumerate(points):
        seen.see(START + timedelta(seconds=number * every_s), point, slack=slack)
    return seen


def spans(stays):
    return [
        (round((stay.start - START).total_seconds(), 3), stay.end and round((stay.end - START).total_seconds(), 3))
        for stay in stays
    ]


def test_a_stay_begins_when_the_feet_come_in_and_ends_when_they_were_last_inside():
    points = [(-1, 1)] * 5 + [(1, 1)] * 20 + [(3, 1)] * 20
    assert spans(walked(points, zones=[SQUARE]).stays()) == [(0.9, 4.9)]


@pytest.mark.parametrize("every_s", [0.05, 0.2, 0.5, 1.0])
def test_a_stay_is_as_long_at_any_frame_rate(every_s):
    """Who walks 1 m/s straight through is inside for two seconds: the frames before and after say where the edge was."""
    points = [(-1.03 + number * every_s, 1) for number in range(int(6 / every_s))]
    assert spans(walked(points, zones=[SQUARE], every_s=every_s).stays(ended=True)) == [(1.03, 3.03)]


def test_a_stay_that_another_track_was_before_begins_with_its_own_track():
    seen = Presence([SQUARE], [])
    seen.after(START, (-1, 1))
    for number in range(10):
        seen.see(START + timedelta(seconds=1 + number / 5), (1, 1))
    assert spans(seen.stays(ended=True)) == [(1.0, 2.8)]


def test_who_walks_past_a_corner_has_not_stayed():
    points = [(-1, 1)] * 5 + [(0.1, 0.1)] * 2 + [(-1, 1)] * 20
    assert walked(points, zones=[SQUARE]).stays(ended=True) == ()


def test_a_box_that_flickers_on_an_edge_makes_one_stay():
    points = [(0.05, 1), (-0.05, 1)] * 25
    assert spans(walked(points, zones=[SQUARE]).stays(ended=True)) == [(0.0, 9.7)]


def test_who_lingers_just_outside_after_having_been_inside_is_held_to_be_inside():
    points = [(1, 1)] * 10 + [(-0.1, 1)] * 40 + [(-3, 1)] * 20
    assert spans(walked(points, zones=[SQUARE], slack=0.15).stays()) == [(0.0, 9.8)]
    assert spans(walked(points, zones=[SQUARE], slack=0.05).stays()) == [(0.0, 1.982)]


def test_who_never_came_in_does_not_stay_however_near():
    assert walked([(-0.1, 1)] * 40, zones=[SQUARE], slack=0.15).stays(ended=True) == ()


def test_a_stay_that_goes_on_has_no_end_until_the_track_has_ended():
    seen = walked([(1, 1)] * 20, zones=[SQUARE])
    assert spans(seen.stays()) == [(0.0, None)]
    assert spans(seen.stays(ended=True)) == [(0.0, 3.8)]


def test_leaving_for_long_and_coming_back_makes_two_stays():
    points = [(1, 1)] * 10 + [(5, 1)] * 15 + [(1, 1)] * 10
    assert spans(walked(points, zones=[SQUARE]).stays(ended=True)) == [(0.0, 1.85), (4.95, 6.8)]


def test_a_line_is_crossed_by_the_path_however_far_apart_its_points_are():
    seen = walked([(1, 6), (1, -6)], lines=[DOOR], every_s=0.5)
    (crossing,) = seen.crossings(ended=True)
    assert (crossing.line, crossing.inwards) == ("door", True)
    assert crossing.at == START + timedelta(seconds=0.25)


def test_a_path_beside_the_line_crosses_nothing():
    assert walked([(3, 1), (3, -1)], lines=[DOOR]).crossings(ended=True) == ()


def test_somebody_who_stands_on_a_line_has_not_crossed_it_many_times():
    points = [(1, 2), (1, 1)] + [(1, 0.05), (1, -0.05)] * 30
    crossings = walked(points, lines=[DOOR]).crossings(ended=True)
    assert [crossing.inwards for crossing in crossings] in ([], [True])


def test_going_in_and_out_later_counts_twice():
    points = [(1, 1)] * 5 + [(1, -1)] * 10 + [(1, 1)] * 10
    crossings = walked(points, lines=[DOOR]).crossings()
    assert [crossing.inwards for crossing in crossings] == [True, False]


def test_a_crossing_is_told_once_it_cannot_be_taken_back():
    points = [(1, 1), (1, -1)]
    assert walked(points, lines=[DOOR]).crossings() == ()
    assert len(walked([*points, *[(1, -1)] * 6], lines=[DOOR]).crossings()) == 1


def test_a_time_that_jumps_back_is_passed_over():
    seen = walked([(1, 1)] * 10, zones=[SQUARE])
    before = seen.stays(ended=True)
    seen.see(START - timedelta(hours=1), (9, 9))
    assert seen.stays(ended=True) == before


@pytest.mark.parametrize("seed", range(5))
def test_stays_lie_within_the_time_and_do_not_overlap(seed):
    rng = np.random.default_rng(seed)
    points = np.cumsum(rng.normal(0, 0.4, (200, 2)), axis=0) + 1
    stays = walked([tuple(point) for point in points.tolist()], zones=[SQUARE], slack=0.2).stays(ended=True)
    assert stays
    for one, other in pairwise(stays):
        assert one.end < other.start
    assert all(START <= stay.start < stay.end <= START + timedelta(seconds=39.8) for stay in stays)
