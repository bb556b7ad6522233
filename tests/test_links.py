from datetime import UTC, datetime, timedelta

import pytest

from passerby.shop import SightingKey
from passerby.vision.links import consecutive_pairs, score_links

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def key(camera, track=1):
    return SightingKey("shop", camera, "s", track)


def at(*keys):
    """Sightings that begin one after the other."""
    return [(key, NOON + timedelta(seconds=i)) for i, key in enumerate(keys)]


A, B, C, A2 = key("a"), key("b"), key("c"), key("a", 2)


def test_consecutive_sightings_of_one_person_are_pairs():
    assert consecutive_pairs(at(A, B, C), ["p", "p", "p"]) == {(A, B), (B, C)}


def test_someone_between_does_not_come_between():
    assert consecutive_pairs(at(A, B, C), ["p", "q", "p"]) == {(A, C)}


def test_two_sightings_in_one_camera_are_no_pair_but_the_next_camera_s_is_with_the_latter():
    assert consecutive_pairs(at(A, A2, B), ["p", "p", "p"]) == {(A2, B)}


def test_false_sightings_belong_to_nobody():
    assert consecutive_pairs(at(A, B), [None, None]) == set()


def test_order_is_that_of_time_and_not_of_the_list():
    assert consecutive_pairs(at(A, B)[::-1], ["p", "p"]) == {(A, B)}


def test_scores_by_hand():
    scores = score_links({(A, B), (B, A2), (C, A2)}, {(A, B), (A2, C)})
    assert (scores.right, scores.said, scores.there) == (2, 3, 2)
    assert scores.precision == pytest.approx(2 / 3)
    assert scores.recall == 1
    assert scores.f1 == pytest.approx(0.8)


def test_nothing_said_scores_nothing():
    scores = score_links(set(), {(A, B)})
    assert (scores.precision, scores.recall, scores.f1) == (0, 0, 0)
    assert score_links(set(), set()).f1 == 0
