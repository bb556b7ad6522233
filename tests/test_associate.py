import math
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby.config import load_toml
from passerby.reid.calibration import Calibration, Curve
from passerby.shop import Crossing, Link, Sighting, SightingKey, current
from passerby.simulate.appearance import DrawnVectors
from passerby.simulate.plan import Shop
from passerby.simulate.recording import in_order, witness
from passerby.types import SightingError
from passerby.vision.associate import Associator, matching_marginals
from passerby.vision.linking import Agreement, _near
from passerby.vision.transit import Passages

RECIPES = Path(__file__).parents[1] / "recipes"
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


def test_a_link_that_is_settled_is_never_quite_certain_as_one_in_a_hundred_such_is_wrong():
    associator = an_associator()
    for each in TWO_SHOPPERS:
        associator.take(each)
    known = max(link.probability for link in associator.advance(at(120)).links)
    settled = max(link.probability for link in associator.finish().links)
    assert known > 0.995
    assert 0.98 < settled <= 0.99


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


def test_two_who_stay_all_day_do_not_teach_again_and_again_how_alike_people_look():
    associator = an_associator()
    for number in range(1, 61):
        for person, camera in enumerate(("aisle", "till")):
            associator.take(sighting(camera, number, 20 * number, 20 * number + 15, person))
        associator.advance(at(20 * number + 20))
    met = associator._settled.different.sum()
    assert 1 <= met <= 4


def test_who_left_is_away_for_long_whether_or_not_the_line_sees_them_come_again():
    passages = Passages(2)
    inside, left, aisle, entrance = 0, 1, 2, 3
    said = {
        (one, other): float(passages.log_density(np.array(one), np.array(other), np.array(900.0), at_once_s=1.0))
        for one in (inside, left)
        for other in (aisle, entrance)
    }
    assert min(said[left, aisle], said[inside, entrance]) > said[inside, aisle] + 1


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
    gone, there = (sum(link.probability for link in followed(each, threshold=1e-3)[1]) for each in (goes, stays))
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


def test_who_is_forgotten_in_a_jump_of_time_has_been_told_for_good_before():
    associator = an_associator(**SHORT)
    for each in TWO_SHOPPERS:
        associator.take(each)
    associator.advance(at(100))
    told = associator.advance(at(50_000)).visits
    assert [(len(visit.sightings), visit.final) for visit in told] == [(4, True), (3, True)]
    assert associator.people == 0


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
        kept.append(len(pickle.dumps(associator)))
    assert kept[-1] <= 1.02 * kept[1]


@pytest.mark.parametrize("for_draws", [False, True])
def test_who_comes_again_and_again_stays_one_person_and_takes_no_more_memory(for_draws):
    associator = an_associator(for_draws=for_draws, reentry_s=3600)
    visits, taken_back, sizes = {}, [], []
    for number in range(60):  # each 10 minutes: in, and out
        start_s = 600 * number
        for track, second, inwards in ((1, start_s, True), (2, start_s + 60, False)):
            associator.take(
                sighting("door", 2 * number + track, second, second + 4, 0, crossings=[(second + 2, inwards)])
            )
        if number % 7 == 3:
            state, vectors = associator.snapshot()
            associator = an_associator(for_draws=for_draws, reentry_s=3600)
            associator.restore(state, vectors)
        for second in range(start_s + 60, start_s + 600, 60):
            changes = associator.advance(at(second))
            visits |= {visit.name: visit for visit in changes.visits}
            taken_back += changes.unlinked
        kept = (
            associator._known,
            associator._newest,
            associator._holder,
            associator._told_visits,
            associator._told_links,
        )
        sizes.append([*map(len, kept), associator.sightings, len(associator._settled.links), len(associator._ages)])
    visits |= {visit.name: visit for visit in associator.finish().visits}
    assert {visit.person for visit in visits.values()} == {min(visits.values(), key=lambda each: each.start).name}
    assert ways(current(sorted(visits.values(), key=lambda each: each.start))) == [
        [("door", 2 * number + 1), ("door", 2 * number + 2)] for number in range(60)
    ]
    assert not taken_back
    assert (np.max(sizes[40:], axis=0) <= np.max(sizes[20:40], axis=0)).all()


def test_who_comes_again_and_again_is_let_go_of_once_in_a_jump_of_time():
    """Looks in one go let go of the first visits twice, and stopped with a KeyError."""
    associator, steps = (an_associator(reentry_s=3600) for _ in range(2))
    told = {}
    for number in range(60):
        for track, second, inwards in ((1, 600 * number, True), (2, 600 * number + 60, False)):
            came = sighting("door", 2 * number + track, second, second + 4, 0, crossings=[(second + 2, inwards)])
            associator.take(came)
            steps.take(came)
            told |= {visit.name: visit for visit in steps.advance(at(second + 60)).visits}
    told |= {visit.name: visit for visit in steps.finish().visits}
    visits = {visit.name: visit for visit in associator.finish().visits}
    assert len(visits) == 60
    assert {visit.person for visit in visits.values()} == {visit.person for visit in told.values()}


def test_a_second_track_amid_a_chain_is_forgotten_with_the_chain():
    """Forgotten by itself, it left a link to nobody, and the associator stopped with a KeyError some hours later."""
    shop = load_toml(RECIPES / "reference_normal_2.toml", Shop)
    source = DrawnVectors(shop.looks, seed=1, cameras=len(shop.cameras))
    calibration = source.calibration()
    assert calibration is not None
    associator = Associator(
        site=shop.name,
        cameras=[camera.name for camera in shop.cameras],
        calibration=calibration,
        threshold=0.5,
        doors=["door"],
        reentry_s=60.0,
        window_s=60.0,
    )
    now = shop.opens
    for each in in_order(witness(shop, source, seed=1, duration_s=2160.0), refresh=True):
        if each.end > shop.opens + timedelta(seconds=730):
            break
        while now < each.end:
            now += timedelta(seconds=10)
            associator.advance(now)
        associator.take(each)
    associator.finish()


def test_the_most_that_a_time_can_say_is_no_less_than_what_it_says():
    passages, rng = Passages(2), np.random.default_rng(1)
    passages.learn(np.array([0, 0, 3]), np.array([2, 2, 1]), np.array([10.0, 14.0, 900.0]), np.array([1.0, 0.8, 1.0]))
    passages.settle()
    origin, target = rng.integers(0, 4, 500), rng.integers(0, 4, 500)
    least = np.exp(rng.uniform(-2, 10, 500))
    said = passages.log_density(origin, target, least * rng.uniform(1, 3, 500), at_once_s=2.0)
    said -= passages.log_new()[target]
    assert (said <= passages.most(origin, np.arange(4), least) + 1e-9).all()


def test_sightings_that_begin_at_once_follow_each_other_in_the_order_of_their_keys():
    cameras = ("door", "aisle", "till")
    once = [sighting(camera, 1, 0, 20 - number, 0) for number, camera in enumerate(cameras)]
    pairs = [("door", "aisle"), ("aisle", "till"), ("door", "till")]
    for order in permutations(once):
        _, links = followed(order, overlaps=pairs, doors=[])
        assert {(link.earlier.camera, link.later.camera) for link in links} == {("aisle", "door"), ("door", "till")}


def test_two_chains_side_by_side_that_are_one_person_become_one():
    pairs = [("door", "aisle"), ("aisle", "till"), ("door", "till")]
    linking = an_associator(overlaps=pairs, doors=[])._online
    seen = [(camera, track, since, until, 0) for camera, track, since, until in ONE_IN_THREE_CAMERAS]
    keys = [each.key for each in (sighting(*row) for row in seen)]
    for row in seen:
        linking.put(sighting(*row))
    linking.look(at(20).timestamp(), everything=True)
    for key in keys:
        linking._unlink(key)
    for earlier, later in ((keys[0], keys[2]), (keys[1], keys[3])):
        linking._join(later, Link(earlier, later, 1, 0.9, None, 0.0))
    linking.look(at(25).timestamp(), everything=True)
    assert [linking.links[later].earlier for later in keys[1:]] == keys[:-1]


ONE_IN_THREE_CAMERAS = [("door", 1, 0, 4), ("aisle", 1, 1, 8), ("till", 1, 2, 9), ("door", 2, 6, 12)]


def test_looks_say_no_more_than_people_who_are_certainly_different_leave_possible():
    linking = an_associator()._online
    before = linking.most_said(np.array([10.0]))
    linking.different[[0, 20]] = 5000, 50  # of these, one in a hundred says 10 for one who is somebody else
    assert linking.most_said(np.array([10.0])) == pytest.approx(math.log(10050 / 51))
    assert linking.most_said(np.array([10.0])) < before


def test_a_track_whose_looks_do_not_agree_may_be_of_two_people():
    agreement, rng = Agreement(), np.random.default_rng(1)
    for least in rng.normal(0.7, 0.04, 400):
        agreement.learn(least)
    assert agreement.torn(0.5) < 0.6  # hardly more are so far off than chance makes
    for least in rng.normal(0.4, 0.04, 20):
        agreement.learn(least)
    assert agreement.torn(0.45) > 0.8
    assert agreement.torn(0.7) == 0


def test_what_is_known_without_a_close_is_settled_once_nothing_was_heard_of_it_for_a_minute():
    associator = an_associator(doors=[], **SHORT)
    associator.take(sighting("door", 1, 0, 4, 0, state="open"))
    told = [visit for second in range(5, 900, 5) for visit in associator.advance(at(second)).visits]
    assert [visit.final for visit in told] == [False, True]


def a_crowd(seed, *, people=8):
    """Revisions of sightings in the order in which they became known, of people who are hard to tell apart."""
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(people, 8))
    told = []
    for person in range(people):
        second = float(rng.uniform(0, 150))
        for stop in range(int(rng.integers(2, 5))):
            camera = CAMERAS[int(rng.integers(3))] if stop else "door"
            vector = looks[person] + 0.9 * rng.normal(size=8)
            lasts = float(rng.uniform(3, 12))
            base = sighting(camera, 10 * person + stop + 1, second, second + lasts, None)
            whole = replace(
                base,
                prototypes=np.array([vector / np.linalg.norm(vector)], np.float32),
                quality=np.ones(1, np.float32),
                pictures=np.ones(1, np.int64),
                network="n",
                state="withdrawn" if rng.random() < 0.1 else "closed",
                crossings=(Crossing("entry", at(second + 1), True),) if stop == 0 else (),
            )
            steps = np.arange(1, lasts, 2).tolist()
            for number, step in enumerate(steps):
                told.append(replace(whole, revision=number + 1, state="open", end=at(second + step)))
            told.append(replace(whole, revision=len(steps) + 1))
            second += lasts + float(rng.lognormal(2.5, 0.5))
    return sorted(told, key=lambda each: (each.end, each.key, each.revision))


SHORT = {"window_s": 120.0, "reentry_s": 300.0}


def ended(arrivals, *, looks, kills=()):
    """What stands for good once all windows have closed, visits and links; `arrivals` are (second, revision), in order.

    `looks` are seconds from one call of `advance` to the next, again and again. At each of `kills`, arrivals counted, the
    associator dies: one begins from a snapshot 10 arrivals old, and gets those again.
    """
    associator, now, turn = an_associator(**SHORT), 0.0, 0
    visits, links, snapshots = [], {}, []

    def advance(until):
        nonlocal now, turn
        while now + looks[turn % len(looks)] <= until:
            now += looks[turn % len(looks)]
            turn += 1
            changes = associator.advance(at(now))
            visits.extend(changes.visits)
            links.update({link.later: link for link in changes.links})
            for key in changes.unlinked:
                links.pop(key, None)

    for number, (second, each) in enumerate(arrivals):
        advance(second)
        if kills:
            snapshots.append(associator.snapshot())
        if number in kills:
            associator = an_associator(**SHORT)
            newest = {visit.name: visit for visit in visits}
            associator.restore(*snapshots[max(0, number - 10)], links=links.values(), visits=newest.values())
            for _, again in arrivals[max(0, number - 10) : number]:
                associator.take(again)
        associator.take(each)
    advance(1100.0)
    assert associator.late == 0
    newest = {}
    for visit in visits:
        newest[visit.name] = visit
    standing = [v for v in newest.values() if v.sightings]
    assert all(visit.final for visit in standing)
    return (
        sorted((v.sightings, v.start, v.end, v.person) for v in standing),
        sorted((link.earlier, link.later, link.probability, link.runner_up) for link in links.values()),
    )


def on_time(told):
    return [((each.end - START).total_seconds(), each) for each in told]


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 50),
    st.lists(st.floats(0.2, 60.0), min_size=1, max_size=5),
    st.integers(0, 10_000),
    st.floats(0.0, 118.0),
)
def test_what_stands_for_good_depends_neither_on_order_nor_on_delays_nor_on_when_one_looks(crowd, looks, seed, most_s):
    told, rng = a_crowd(crowd), np.random.default_rng(seed)
    late = [((each.end - START).total_seconds() + float(rng.uniform(0, most_s)), each) for each in told]
    twice = late + [(second + 3.0, each) for second, each in late if rng.random() < 0.2 and most_s < 110]
    shuffled = sorted(twice, key=lambda each: each[0])
    assert ended(shuffled, looks=looks) == ended(on_time(told), looks=[1.0])


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 50), st.lists(st.integers(1, 60), min_size=1, max_size=3))
def test_who_is_killed_and_goes_on_from_a_snapshot_ends_as_if_nothing_had_happened(crowd, kills):
    arrivals = on_time(a_crowd(crowd))
    assert ended(arrivals, looks=[5.0], kills=kills) == ended(arrivals, looks=[5.0])


def test_a_crowd_is_no_easy_one():
    _, links = ended(on_time(a_crowd(1)), looks=[5.0])
    assert 3 < len(links) < 20
    assert min(probability for _, _, probability, _ in links) < 0.9


def test_open_revisions_that_were_never_seen_change_nothing():
    told = a_crowd(2)
    closed = [each for each in told if each.state != "open"]
    assert ended(on_time(closed), looks=[5.0]) == ended(on_time(told), looks=[5.0])


def own_links(linking):
    """Of each row that is open, the row of whom it follows and that link's probability, from the links themselves."""
    row, links = linking.rows.row, linking.links
    each = {row[key]: links.get(key) for key in linking.open}
    return {mine: (row.get(link.earlier, -1), link.probability) if link else (-1, -1.0) for mine, link in each.items()}


def test_links_by_row_are_the_links_themselves_also_after_a_snapshot():
    told, associator, linked = a_crowd(4), an_associator(**SHORT), 0
    for each in told:
        associator.take(each)
        associator.advance(each.end)
        for linking in (associator._online, associator._settled):
            expected = own_links(linking)
            assert {row: (int(linking._before[row]), float(linking._held[row])) for row in expected} == expected
            linked += sum(earlier >= 0 for earlier, _ in expected.values())
    assert linked > 50
    other = an_associator(**SHORT)
    other.restore(*associator.snapshot())
    expected = own_links(other._online)
    assert {row: (int(other._online._before[row]), float(other._online._held[row])) for row in expected} == expected


def test_paths_whose_boxes_are_apart_are_nowhere_near():
    rng, linking, apart = np.random.default_rng(1), an_associator()._online, 0
    for number in range(200):
        pair = []
        for track, most in ((2 * number + 1, 8), (2 * number + 2, 20)):
            steps = np.arange(rng.integers(2, most))
            path = np.clip(np.cumsum(rng.normal(0, 0.03, (len(steps), 2)), axis=0) + rng.uniform(0.3, 0.6, 2), 0, 1)
            base = sighting("aisle", track, 0, int(steps[-1]) + 1, None)
            pair.append(replace(base, path=np.column_stack([steps, path]).astype(np.float32)))
        if linking._apart(*pair):
            apart += 1
            assert not _near(*pair)
    assert 20 < apart < 180


def test_a_snapshot_goes_on_at_once_as_the_associator_that_made_it():
    told = a_crowd(3)
    first = an_associator(**SHORT)
    for each in told[: len(told) // 2]:
        first.take(each)
        first.advance(each.end)
    second = an_associator(**SHORT)
    second.restore(*first.snapshot())
    for each in told[len(told) // 2 :]:
        first.take(each)
        second.take(each)
        assert first.advance(each.end) == second.advance(each.end)
    assert first.finish() == second.finish()


def test_a_snapshot_holds_no_vector_and_says_whose_each_is():
    associator = an_associator()
    associator.take(TWO_SHOPPERS[0])
    associator.advance(at(10))
    state, vectors = associator.snapshot()
    assert set(vectors) == {TWO_SHOPPERS[0].key}
    assert all((rows == LOOKS[0]).all() for rows in vectors[TWO_SHOPPERS[0].key])
    with pytest.raises(SightingError, match="vectors of"):
        an_associator().restore(state, {})


@pytest.mark.parametrize(
    ("state", "settings", "says"),
    [(b"nothing", {}, "that passerby wrote"), (None, {"threshold": 0.6}, "settings of shop")],
)
def test_a_snapshot_that_does_not_fit_is_refused(state, settings, says):
    made, vectors = an_associator().snapshot()
    with pytest.raises(SightingError, match=says):
        an_associator(**settings).restore(state or made, vectors)


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
