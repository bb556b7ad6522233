from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import permutations

import numpy as np
import pytest

from passerby.shop import SightingKey
from passerby.vision.links import (
    consecutive_pairs,
    score_identities,
    score_links,
    score_transitions,
    transitions,
    whole_paths,
)

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


def test_identities_by_hand():
    scores = score_identities([10, 10, 5], ["x", "x", "y"], ["p", "q", "q"])
    assert (scores.right, scores.said, scores.there) == (15, 25, 25)  # x is p, y is q
    assert scores.idf1 == pytest.approx(0.6)


def test_nobody_is_neither_said_nor_there():
    scores = score_identities([10, 10, 5], ["x", None, "y"], ["p", "p", None])
    assert (scores.right, scores.said, scores.there) == (10, 15, 20)


def slowly(seconds, said, there):
    """IDF1 over every way to give true people to found ones."""
    found, true = ({label for label in labels if label is not None} for labels in (said, there))
    slots = [*true, *[None] * len(found)]
    best = max(
        sum(
            s
            for s, mine, truly in zip(seconds, said, there, strict=True)
            if truly is not None and mine is not None and given[mine] == truly
        )
        for order in permutations(slots, len(found))
        for given in [dict(zip(sorted(found), order, strict=True))]
    )
    total = sum(s for labels in (said, there) for s, label in zip(seconds, labels, strict=True) if label is not None)
    return 2 * best / total


@pytest.mark.parametrize("seed", range(6))
def test_identities_are_those_of_the_best_of_all_assignments(seed):
    rng = np.random.default_rng(seed)
    seconds = rng.integers(1, 20, 12).tolist()
    said, there = ([None if n == 3 else "abc"[n] for n in rng.integers(0, 4, 12)] for _ in range(2))
    assert score_identities(seconds, said, there).idf1 == pytest.approx(slowly(seconds, said, there))


def test_transitions_are_counted_whoever_made_them():
    there = transitions(at(A, B, C), ["p", "p", "p"])
    assert there == Counter({("a", "b"): 1, ("b", "c"): 1})
    said = transitions(at(A, B, C), ["p", "p", "q"])
    scores = score_transitions(said, there)
    assert (scores.right, scores.said, scores.there) == (1, 1, 2)


def test_a_path_is_right_where_it_is_whole_and_has_nobody_else_in_it():
    assert whole_paths(at(A, B, C), ["x", "x", "y"], ["p", "p", "q"]) == (2, 2)
    assert whole_paths(at(A, B, C), ["x", "x", "x"], ["p", "p", "q"]) == (0, 2)
    assert whole_paths(at(A, B, C), ["x", "x", None], ["p", "p", None]) == (1, 1)
