from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from passerby.reid.calibration import Calibration, Curve
from passerby.reid.evidence import joined, side
from passerby.shop import SightingKey
from passerby.simulate.appearance import DrawnVectors
from passerby.simulate.benchmark import (
    LINKERS,
    Promises,
    SightingRows,
    associator_for,
    benchmark,
    link,
    listen,
    scorer,
    true_links,
)
from passerby.simulate.plan import Looks
from passerby.simulate.recording import in_order, witness
from passerby.vision.transit import learn_transit

FLAT = Calibration(
    (((1, 1), Curve((0.0,), (20.0,), -10.0, 8.0, 8.0)),), "0" * 64, "vectors", "example"
)  # even odds at a cosine of 0.5


def seen(*rows):
    """Sightings (vector number, start, end, camera, person); vectors are the axes of space."""
    vectors = np.eye(4, dtype=np.float32)[[row[0] for row in rows]]
    start, end, camera, person = np.array([row[1:] for row in rows], float).T
    keys = tuple(SightingKey("s", str(int(c)), "x", i + 1) for i, c in enumerate(camera))
    return SightingRows(
        keys, joined([side(row) for row in vectors]), start, end, camera.astype(int), person.astype(int)
    )


@pytest.fixture
def transit():
    """From camera 0 to 1 in about 20 s, learnt on 30 people who come every 100 s."""
    rows = []
    for person in range(1, 31):
        rows += [
            (0, 100 * person, 100 * person + 5, 0, person),
            (0, 100 * person + 23 + person % 5, 100 * person + 40, 1, person),
        ]
    past = seen(*rows)
    return learn_transit(past.start_s, past.end_s, past.camera, true_links(past.person), cameras=2, duration_s=3100.0)


def test_transit_is_learnt(transit):
    assert np.exp(transit.mean[0, 1]) == pytest.approx(20, rel=0.1)
    assert transit.share[0, 1] > 0.9 > 0.1 > transit.share[0, 0]
    assert transit.low[0, 1] == pytest.approx(18)
    assert transit.high[0, 1] == pytest.approx(22)
    assert transit.new_per_s[0] > 10 * transit.new_per_s[1]


def test_appearance_links_who_looks_alike_whenever(transit):
    two = seen((0, 0, 5, 0, 1), (0, 500, 505, 1, 2))
    assert link(two, FLAT, transit, "appearance") == [(0, 1)]
    assert link(two, FLAT, transit, "time gate") == []
    assert link(two, FLAT, transit, "transit") == []
    assert link(two, FLAT, transit, "oracle") == []


def test_the_likely_time_decides_between_two_who_look_alike(transit):
    three = seen((0, 0, 25, 0, 2), (1, 1, 5, 0, 1), (2, 26, 30, 1, 1))
    means = three.sides.means
    means[2] = (means[0] + means[1]) / np.sqrt(2)  # as like the one as the other
    assert link(three, FLAT, transit, "transit") == [(1, 2)]
    assert link(three, FLAT, transit, "time gate") == [(1, 2)]
    assert link(three, FLAT, transit, "oracle") == [(1, 2)]


def test_another_look_is_a_new_person(transit):
    two = seen((0, 0, 5, 0, 1), (1, 25, 30, 1, 2))
    for linker in ("appearance", "time gate", "transit"):
        assert link(two, FLAT, transit, linker) == []


def test_a_sighting_is_followed_by_one_other(transit):
    three = seen((0, 0, 5, 0, 1), (0, 25, 30, 1, 1), (0, 25.5, 30, 1, 2))
    assert len([pair for pair in link(three, FLAT, transit, "transit") if pair[0] == 0]) == 1


def test_the_oracle_knows_and_false_sightings_follow_nobody(transit):
    rows = seen((0, 0, 5, 0, 1), (0, 25, 30, 1, 0), (1, 26, 30, 1, 1))
    assert link(rows, FLAT, transit, "oracle") == [(0, 2)]


def test_links_are_scored_by_when_the_later_sighting_began():
    rows = seen((0, 0, 5, 0, 1), (0, 20, 30, 1, 1), (0, 60, 70, 2, 1), (1, 65, 70, 1, 2))
    scored = scorer(rows, learnt_from=datetime.fromtimestamp(50, UTC))
    a, b, c, d = rows.keys
    result = scored({(a, b): 0.9, (c, d): 0.7})
    assert (result.cold.right, result.cold.said, result.cold.there) == (1, 1, 1)
    assert (result.learnt.right, result.learnt.said, result.learnt.there) == (0, 1, 1)
    assert (result.identities.right, result.identities.said, result.identities.there) == (10, 15, 15)
    assert (result.promises.promised, result.promises.seen) == (pytest.approx(0.3), 1)


def test_promises_are_kept_where_as_many_are_right_as_was_said():
    kept = Promises(np.full(10, 0.8), np.arange(10) < 8)
    assert (kept.promised, kept.seen, kept.error) == (pytest.approx(2), 2, pytest.approx(0))
    assert Promises(np.full(10, 0.8), np.ones(10, bool)).error == pytest.approx(0.2)


@pytest.fixture(scope="module")
def witnessed(shop):
    crowd = replace(shop, looks=Looks(rank1=0.9))
    vectors = DrawnVectors(crowd.looks, seed=1, cameras=3)
    return crowd, vectors.calibration(), list(witness(crowd, vectors, seed=1, duration_s=900))


def test_the_associator_cannot_see_who_people_are(witnessed):
    shop, calibration, tracks = witnessed

    def as_somebody_else(track):
        pieces = tuple(
            piece._replace(view=replace(piece.view, person=1 + (7919 * (piece.view.person or 0)) % 10007, visit=1))
            for piece in track.pieces
        )
        return replace(track, pieces=pieces)

    shuffled = [replace(each, track=as_somebody_else(each.track)) for each in tracks]
    first, second = (
        listen(associator_for(shop, calibration), in_order(each, refresh=True)) for each in (tracks, shuffled)
    )
    assert first == second
    assert len(first.refined) > 20


def test_online_links_are_those_told_when_a_sighting_had_just_ended(witnessed):
    shop, calibration, tracks = witnessed
    told = list(in_order(tracks, refresh=False))
    early = [each for each in told if each.end <= shop.opens + timedelta(seconds=600)]
    whole, part = (listen(associator_for(shop, calibration), each) for each in (told, early))
    known = {each.key for each in early if each.end < shop.opens + timedelta(seconds=590)}
    assert {key: whole.online[key].earlier for key in whole.online if key in known} == {
        key: part.online[key].earlier for key in part.online if key in known
    }


@pytest.mark.slow
def test_linkers_cross_a_span_up_to_the_oracle(shop):
    crowded = replace(shop, looks=Looks(rank1=0.5))
    scores = benchmark(
        crowded,
        lambda seed: DrawnVectors(crowded.looks, seed=seed, cameras=3),
        seeds=[1, 2],
        duration_s=1800.0,
        cold_s=1800.0,
    )
    appearance, gate, transit, online, refined, oracle = (
        np.mean([s.learnt.f1 for s in scores[linker]]) for linker in LINKERS
    )
    assert appearance < gate < oracle
    assert appearance < transit < oracle
    assert transit < online < refined < oracle
    assert oracle > 0.95
