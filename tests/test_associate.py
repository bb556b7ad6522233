from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby.reid.calibration import Calibration, Curve
from passerby.shop import Crossing, Sighting, SightingKey, current
from passerby.vision.associate import Associator, matching_marginals

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
MAP = Calibration((((1, 1), Curve((0.0,), (20.0,), -10.0, 12.0, 10.0)),), "0" * 64, "fp32", "example")
CAMERAS = ("door", "aisle", "till")
LOOKS = np.eye(8, dtype=np.float32)


def at(seconds):
    return START + timedelta(seconds=seconds)


def sighting(camera, track, since_s, until_s, person, *, crossings=(), state="closed", revision=1):
    vectors = LOOKS[[person]] if person is not None else np.zeros((0, 0), np.float32)
    return Sighting(
        SightingKey("shop", camera, "s", track),
        revision,
        state,
        at(since_s),
        at(until_s),
        vectors,
        np.ones(len(vectors), np.float32),
        np.ones(len(vectors), np.int64),
        "n" if len(vectors) else "",
        crossings=tuple(Crossing("entry", at(second), inwards) for second, inwards in crossings),
    )


def an_associator(**settings):
    settings = {"threshold": 0.5, "doors": ["entry"], **settings}
    return Associator(site="shop", cameras=CAMERAS, calibration=MAP, **settings)


def followed(sightings, **settings):
    associator = an_associator(**settings)
    for each in sightings:
        associator.take(each)
    changes = associator.finish()
    return current(changes.visits), changes.links


def ways(visits):
    return [[(key.camera, key.track) for key in visit.sightings] for visit in visits]


TWO_SHOPPERS = [
    sighting("door", 1, 0, 4, 0, crossings=[(2, True)]),
    sighting("door", 2, 3, 7, 1, crossings=[(5, True)]),
    sighting("aisle", 1, 15, 40, 1),
    sighting("aisle", 2, 18, 45, 0),
    sighting("till", 1, 60, 75, 0),
    sighting("door", 3, 55, 60, 1, crossings=[(58, False)]),
    sighting("door", 4, 90, 94, 0, crossings=[(92, False)]),
]


def test_two_shoppers_are_followed_from_camera_to_camera():
    visits, links = followed(TWO_SHOPPERS)
    assert ways(visits) == [
        [("door", 1), ("aisle", 2), ("till", 1), ("door", 4)],
        [("door", 2), ("aisle", 1), ("door", 3)],
    ]
    assert all(visit.final for visit in visits)
    assert all(link.probability > 0.9 for link in links)


def test_the_order_of_arrival_changes_nothing():
    expected = followed(TWO_SHOPPERS)
    for order in list(permutations(TWO_SHOPPERS))[::997]:
        assert followed(order) == expected


@settings(max_examples=20, deadline=None)
@given(st.permutations(TWO_SHOPPERS), st.integers(0, 6))
def test_repeats_and_old_revisions_change_nothing(order, row):
    again = [*order, order[row], replace(order[row], revision=1)]
    newer = [replace(each, revision=2) for each in again]
    assert ways(followed([*newer, *again])[0]) == ways(followed(TWO_SHOPPERS)[0])


def test_who_comes_again_through_the_door_is_one_person_with_two_visits():
    visits, _ = followed(
        [
            sighting("door", 1, 0, 4, 0, crossings=[(2, True)]),
            sighting("door", 2, 50, 54, 0, crossings=[(52, False)]),
            sighting("door", 3, 600, 604, 0, crossings=[(602, True)]),
            sighting("aisle", 1, 620, 640, 0),
        ]
    )
    assert ways(visits) == [[("door", 1), ("door", 2)], [("door", 3), ("aisle", 1)]]
    assert visits[0].person == visits[1].person


def test_who_comes_again_after_the_reentry_window_is_somebody_else():
    visits, _ = followed(
        [
            sighting("door", 1, 0, 4, 0, crossings=[(2, True)]),
            sighting("door", 2, 600, 604, 0, crossings=[(602, True)]),
        ],
        reentry_s=300,
    )
    assert len({visit.person for visit in visits}) == 2


def test_who_is_seen_at_the_door_alone_and_crosses_nothing_has_only_passed_by():
    visits, _ = followed([*TWO_SHOPPERS, sighting("door", 9, 200, 205, 5)])
    assert len(visits) == 2


def test_nobody_is_in_two_places_at_once_unless_cameras_overlap():
    twice = [
        sighting("door", 1, 0, 30, 0, crossings=[(2, True)]),
        sighting("aisle", 1, 10, 40, 0),
    ]
    assert len(followed(twice)[0]) == 2
    assert ways(followed(twice, overlaps=[("door", "aisle")])[0]) == [[("door", 1), ("aisle", 1)]]


def standing(track, since_s, until_s, vector):
    """Somebody who stands at one place of the aisle."""
    path = np.array([[s, 3.0, 4.0] for s in range(until_s - since_s)], np.float32)
    made = sighting("aisle", track, since_s, until_s, 0)
    return replace(made, prototypes=np.array([vector], np.float32), path=path, path_on="floor")


def test_a_second_track_on_somebody_is_no_visit_but_a_companion_is():
    alike, like = np.eye(8)[0], np.array([0.6, 0.8, 0, 0, 0, 0, 0, 0])  # log odds of 10, and of 2
    long = standing(1, 0, 60, alike)
    assert len(followed([long, standing(2, 10, 40, alike)])[0]) == 1
    assert len(followed([long, standing(2, 10, 40, like)])[0]) == 2


def test_a_link_that_is_taken_back_is_told():
    associator = an_associator(doors=[])
    for each in (sighting("door", 1, 0, 4, 0), sighting("till", 1, 30, 40, 0)):
        associator.take(each)
    (link,) = associator.advance(at(60)).links
    associator.take(sighting("till", 1, 30, 40, 3, revision=2))
    changes = associator.advance(at(70))
    assert changes.links == ()
    assert changes.unlinked == (link.later,)


def test_who_went_out_of_the_door_has_mostly_gone():
    goes = [sighting("door", 1, 0, 4, 0, crossings=[(2, False)]), sighting("aisle", 1, 20, 30, None)]
    stays = [sighting("door", 1, 0, 4, 0, crossings=[(2, True)]), sighting("aisle", 1, 20, 30, None)]
    (gone,), (there,) = ([link.probability for link in followed(each, threshold=1e-3)[1]] for each in (goes, stays))
    assert gone < there


def test_a_sighting_without_vectors_may_be_followed_by_its_time_but_proves_nothing():
    visits, _ = followed([sighting("aisle", 1, 0, 10, None), sighting("till", 1, 5000, 5010, None)])
    assert len(visits) == 2


def test_a_withdrawn_sighting_leaves():
    shown = TWO_SHOPPERS[:3]
    gone = replace(TWO_SHOPPERS[0], revision=2, state="withdrawn")
    assert len(followed(shown)[0]) == 2
    assert ways(followed([*shown, gone])[0]) == [[("door", 2), ("aisle", 1)]]


def test_online_a_visit_grows_and_one_that_another_absorbs_is_counted_once():
    associator, told = an_associator(), []
    for second in range(0, 200, 5):
        for each in TWO_SHOPPERS:
            if second - 5 < (each.end - START).total_seconds() <= second:
                associator.take(each)
        told += associator.advance(at(second)).visits
    told += associator.finish().visits
    assert ways(current(told)) == ways(followed(TWO_SHOPPERS)[0])
    for visit in current(told):
        revisions = [each.revision for each in told if each.name == visit.name]
        assert revisions == list(range(1, len(revisions) + 1))


def test_a_late_sighting_that_bridges_two_visits_merges_them():
    associator = an_associator(doors=[])
    for each in (sighting("door", 1, 0, 4, 0), sighting("till", 1, 400, 410, 3)):
        associator.take(each)
    told = [*associator.advance(at(450)).visits]
    assert len(current(told)) == 2
    associator.take(sighting("till", 1, 400, 410, 0, revision=2))
    told += associator.advance(at(500)).visits
    assert len(current(told)) == 1
    assert [visit.merged_into for visit in told if visit.merged_into] == [current(told)[0].name]
    associator.take(sighting("till", 1, 400, 410, 3, revision=3))
    told += associator.advance(at(550)).visits
    assert len(current(told)) == 2
    assert [visit.split_from for visit in current(told)][1] == current(told)[0].name


def test_what_comes_after_its_window_is_counted_and_left_out():
    associator = an_associator(window_s=60)
    associator.take(TWO_SHOPPERS[0])
    associator.advance(at(500))
    associator.take(TWO_SHOPPERS[1])
    assert associator.late == 1
    assert len(current(associator.finish().visits)) == 1


def test_memory_follows_from_who_is_remembered():
    associator = an_associator(reentry_s=100, window_s=60)
    kept = []
    for hour in range(4):
        for n in range(40):
            since = 3600 * hour + 10 * n
            associator.take(
                sighting("door", 100 * hour + n + 1, since, since + 4, n % 8, crossings=[(since + 1, True)])
            )
            associator.advance(at(since + 10))
        associator.advance(at(3600 * hour + 3500))
        kept.append(len(associator._seen) + len(associator._sides) + len(associator._told_links))
    assert kept[-1] <= kept[0] + 3


def exhaustive(weights):
    """The marginals over all matchings, each weighed by the product of its links' odds."""
    rows, columns = weights.shape
    total, sums = 0.0, np.zeros_like(weights)

    def go(column, used, product, links):
        nonlocal total
        if column == columns:
            total += product
            for row, at_column in links:
                sums[row, at_column] += product
            return
        go(column + 1, used, product, links)
        for row in set(range(rows)) - used:
            go(column + 1, used | {row}, product * weights[row, column], [*links, (row, column)])

    go(0, frozenset(), 1.0, [])
    return sums / total


@pytest.mark.parametrize("seed", range(8))
def test_marginals_are_near_those_of_all_matchings(seed):
    weights = np.exp(np.random.default_rng(seed).normal(0, 2, (4, 3)))
    assert matching_marginals(weights) == pytest.approx(exhaustive(weights), abs=0.06)


def test_marginals_are_exact_where_links_do_not_compete_in_circles():
    weights = np.array([[3.0, 0.0], [2.0, 5.0]])
    assert matching_marginals(weights) == pytest.approx(exhaustive(weights), abs=1e-6)


def test_marginals_of_nothing_are_nothing():
    assert matching_marginals(np.zeros((0, 3))).shape == (0, 3)
    assert matching_marginals(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]


def test_who_was_told_as_a_visit_and_only_passed_by_is_taken_back():
    associator = an_associator()
    associator.take(sighting("door", 9, 0, 5, 5))  # before anybody has shown that this camera is at a door
    told = list(associator.advance(at(20)).visits)
    assert len(current(told)) == 1
    for each in TWO_SHOPPERS[:2]:
        key = each.key._replace(track=each.key.track + 20)
        moved = [replace(c, at=c.at + timedelta(seconds=100)) for c in each.crossings]
        associator.take(
            replace(
                each,
                key=key,
                start=each.start + timedelta(seconds=100),
                end=each.end + timedelta(seconds=100),
                crossings=tuple(moved),
            )
        )
    told += associator.finish().visits
    assert len(current(told)) == 2
    assert [visit.withdrawn for visit in told if visit.name == told[0].name] == [False, True]
