import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby.reid.calibration import Calibration, Curve
from passerby.shop import Crossing, Sighting, SightingKey
from passerby.simulate.benchmark import associator_for
from passerby.vision.associate import Associator
from passerby.vision.matchings import LEVELS, Matchings, Odds, levels, ratios
from passerby.vision.window import Window, factor_of, weight_of

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import counts

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
MAP = Calibration((((1, 1), Curve((0.0,), (20.0,), -10.0, 12.0, 10.0)),), "0" * 64, "fp32", "example")
CAMERAS = ("door", "aisle", "till")
LOOKS = np.eye(64, dtype=np.float32)


def odds_of(n, links, *, looks=None, lone=0.0, draws=1, lags=(1.0, 0.5, 0.25), taken=()):
    """Odds with weights by link (earlier, later), the log-likelihood ratios `looks` (n, n), and everything else the same."""
    earlier, later = np.array(list(links), np.int64).reshape(-1, 2).T
    flat = np.zeros((draws, n), np.float32)
    gone = np.zeros((draws, n), bool)
    gone[:, list(taken)] = True
    return Odds(
        earlier,
        later,
        np.array(list(links.values())),
        np.zeros(len(links), bool),
        levels(np.zeros((n, n)) if looks is None else looks),
        np.tile(ratios(), (draws, 1)).astype(np.float32),
        lags,
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
        np.zeros((draws, 2, 2), np.float32),
        np.zeros(draws, np.float32),
        flat,
        flat,
        flat + np.float32(lone),
        gone,
    )


def matchings_of(n, links):
    """Every way to choose links so that each sighting follows one at most, and is followed by one at most."""
    for chosen in chain.from_iterable(combinations(links, size) for size in range(len(links) + 1)):
        if len({i for i, _ in chosen}) == len(chosen) == len({j for _, j in chosen}):
            yield chosen


def log_probability(chosen, n, links, looks, lone, lags):
    """What `Odds` says of a matching, sighting by sighting."""
    before = {j: i for i, j in chosen}
    total = sum(links[link] for link in chosen)
    said = ratios()[levels(looks)]
    for row in range(n):
        at = row
        for lag in lags:
            if at not in before:
                break
            at = before[at]
            total += lag * said[at, row]
        if row not in before and row not in before.values():
            total += lone
    return total


LINKS = {(0, 1): 0.5, (0, 2): -0.3, (1, 2): 1.0, (1, 3): 0.2, (2, 3): 0.7, (2, 4): -0.5, (3, 4): 0.9, (0, 4): -1.0}


@pytest.mark.parametrize("lone", [0.0, 1.2])
def test_each_matching_is_drawn_as_often_as_it_is_probable(lone):
    n, draws, lags = 5, 3000, (1.0, 0.5, 0.25)
    looks = np.triu(np.random.default_rng(3).normal(0, 1.5, (n, n)), 1)
    every = list(matchings_of(n, LINKS))
    weights = np.exp([log_probability(chosen, n, LINKS, looks, lone, lags) for chosen in every])
    expected = {frozenset(chosen): weight for chosen, weight in zip(every, weights / weights.sum(), strict=True)}
    odds = odds_of(n, LINKS, looks=looks, lone=lone, draws=draws, lags=lags)
    drawn = Matchings(odds, np.full((draws, n), n), np.random.default_rng(1))
    drawn.sweep(60.0)
    found = dict.fromkeys(expected, 0)
    for before in drawn.before.tolist():
        found[frozenset((i, j) for j, i in enumerate(before) if i < n)] += 1 / draws
    off = sum(abs(found[chosen] - expected[chosen]) for chosen in expected) / 2
    assert off < 0.05  # by chance alone about 0.03 with so many draws
    links = sum(len(chosen) * share for chosen, share in expected.items())
    assert np.mean((drawn.before < n).sum(axis=1)) == pytest.approx(links, abs=0.06)


def test_a_link_from_a_shared_track_is_as_rare_as_the_draw_says():
    odds = replace(odds_of(2, {(0, 1): 0.0}, draws=4000), shared=np.array([True]))
    odds = replace(odds, rare=np.full(4000, np.log(0.25), np.float32))
    drawn = Matchings(odds, np.full((4000, 2), 2), np.random.default_rng(1))
    drawn.sweep(20.0)
    assert drawn.shared[:, 1].mean() == pytest.approx(0.2, abs=0.03)  # 1/4 against 1
    assert (drawn.shared[:, 1] == (drawn.before[:, 1] == 0)).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_every_matching_gives_each_sighting_one_neighbour_on_each_side(seed, n):
    rng = np.random.default_rng(seed)
    links = {(i, j): float(rng.normal()) for i in range(n) for j in range(i + 1, n) if rng.random() < 0.3}
    if not links:
        return
    looks = rng.normal(0, 2, (n, n))
    odds = odds_of(n, links, looks=looks, lone=0.5, draws=6, taken=[0])
    drawn = Matchings(odds, np.full((6, n), n), rng)
    drawn.begin(np.arange(n), np.full(n, -1))
    for _ in range(3):
        drawn.sweep(5.0)
        for before, after in zip(drawn.before.tolist(), drawn.after.tolist(), strict=True):
            said = {(i, j) for j, i in enumerate(before) if i < n}
            assert said == {(i, j) for i, j in enumerate(after) if j < n}
            assert len({i for i, _ in said}) == len(said)
            assert said <= set(links)
            assert after[0] == n  # somebody who is forgotten follows it


def test_links_that_are_closed_stay():
    n, draws = 4, 400
    links = {(0, 1): 9.0, (1, 3): 3.0, (0, 3): 3.0, (2, 3): 3.0}
    odds = odds_of(n, links, draws=draws)
    open_ = replace(
        odds,
        earlier=odds.earlier[1:],
        later=odds.later[1:],
        weight=odds.weight[1:],
        shared=odds.shared[1:],
        looks=odds.looks[:, 3:],
    )
    before = np.full((draws, n), n)
    before[:, 1] = 0
    drawn = Matchings(open_, before, np.random.default_rng(2))
    drawn.sweep(40.0)
    assert (drawn.before[:, 1] == 0).all()
    assert set(np.unique(drawn.before[:, 3]).tolist()) == {1, 2, 4}


def test_what_looks_say_is_kept_in_levels():
    said = np.array([0.0, -15.9, -0.01, 0.07, 3.0, 15.9, 40.0])
    assert ratios()[levels(said)] == pytest.approx([0.0, -15.9, 0.0, 0.07, 3.0, 15.9, 16.0], abs=0.07)
    assert levels(np.array([0.0])).tolist() == [0]
    assert len(ratios()) == LEVELS


@pytest.mark.parametrize("wrong", [0.67, 1.0, 1.5])
def test_a_calibrations_slope_is_estimated_from_people_who_are_two(wrong):
    """Gaussian log-likelihood ratios of mean -s^2/2 and deviation s under two people are calibrated."""
    rng = np.random.default_rng(5)
    apart = [wrong * rng.normal(-(1.5**2) / 2, 1.5, 5) for _ in range(4000)]
    found, deviation = factor_of(apart)
    assert np.exp(found) * wrong == pytest.approx(1.0, abs=0.08)
    assert 0.005 < deviation < 0.1


def test_too_few_people_say_nothing_of_a_slope():
    assert factor_of([np.array([-1.0, 0.5])]) == (0.0, np.inf)


def at(seconds):
    return START + timedelta(seconds=seconds)


def sighting(camera, track, since_s, until_s, person, *, crossings=()):
    return Sighting(
        SightingKey("shop", camera, "s", track),
        1,
        "closed",
        at(since_s),
        at(until_s),
        LOOKS[[person]],
        np.ones(1, np.float32),
        np.ones(1, np.int64),
        "n",
        crossings=tuple(Crossing("entry", at(second), inwards) for second, inwards in crossings),
    )


def shoppers(count, *, every_s=120.0, first=0, begin_s=0.0):
    """People who come in, walk through the aisle to the till, and go."""
    found = []
    for person in range(first, first + count):
        t = begin_s + every_s * (person - first)
        found += [
            sighting("door", 2 * person + 1, t, t + 4, person, crossings=[(t + 2, True)]),
            sighting("aisle", person + 1, t + 15, t + 40, person),
            sighting("till", person + 1, t + 55, t + 70, person),
            sighting("door", 2 * person + 2, t + 80, t + 84, person, crossings=[(t + 82, False)]),
        ]
    return sorted(found, key=lambda each: (each.end, each.key))


def watched(sightings, *, draws=20, name="shop", every_s=300.0, reentry_s=3 * 3600.0, window_s=900.0, zone="UTC"):
    associator = Associator(
        site="shop",
        cameras=CAMERAS,
        calibration=MAP,
        threshold=0.5,
        doors=["entry"],
        reentry_s=reentry_s,
        window_s=window_s,
        for_draws=True,
    )
    window = Window(site=name, calibration=MAP, draws=draws, window_s=window_s, time_zone=zone)
    looked = sightings[0].end
    for each in sightings:
        associator.take(each)
        associator.advance(each.end)
        if (each.end - looked).total_seconds() >= every_s:
            looked = each.end
            window.look(associator.remembered(since_s=window.since_s))
    associator.finish()
    window.look(associator.remembered(since_s=window.since_s))
    return window


def counted(window, length, what):
    return [(row.start, row.values.tolist()) for row in window.counts() if (row.length, row.what) == (length, what)]


def test_people_who_cannot_be_mistaken_are_counted_exactly():
    window = watched(shoppers(12))
    ((start, values),) = counted(window, "hour", "persons")
    assert start == START
    assert np.median(values) == 12
    ((_, visits),) = counted(window, "day", "visits")
    assert np.median(visits) == 12


def test_people_are_counted_in_each_hour_in_which_they_are_seen_and_once_a_day():
    at_the_turn = [
        sighting("door", 1, 3500, 3504, 0, crossings=[(3502, True)]),
        sighting("aisle", 1, 3515, 3540, 0),
        sighting("till", 1, 3610, 3625, 0),
        sighting("door", 2, 3640, 3644, 0, crossings=[(3642, False)]),
    ]
    window = watched([*shoppers(6), *at_the_turn][4:])
    hours = counted(window, "hour", "persons")
    assert [start for start, _ in hours] == [START, START + timedelta(hours=1)]
    assert np.median(hours[0][1]) == 6
    assert np.median(hours[1][1]) == 1
    ((_, day),) = counted(window, "day", "persons")
    assert np.median(day) == 6
    assert np.median(counted(window, "hour", "visits")[0][1]) == 6
    assert len(counted(window, "hour", "visits")) == 2
    assert np.median(counted(window, "hour", "visits")[1][1]) == 0


def test_whom_no_door_saw_come_or_go_is_a_person_but_no_visit():
    stays = [sighting("aisle", 40 + number, 400 + 300 * number, 420 + 300 * number, 20) for number in range(3)]
    left = [sighting("till", 50, 2000, 2015, 30), sighting("door", 51, 2030, 2034, 30, crossings=[(2032, False)])]
    window = watched(sorted([*shoppers(6), *stays, *left], key=lambda each: (each.end, each.key)))
    assert np.median(counted(window, "hour", "persons")[0][1]) == 8
    assert np.median(counted(window, "hour", "visits")[0][1]) == 7  # the staff, whom no door saw, is none


def test_people_of_a_place_without_doors_begin_and_end_anywhere():
    """Each is seen once; they were linked to one another, two people in all, since hardly anybody begins but at a door."""
    rng = np.random.default_rng(4)
    looks = rng.normal(size=(60, 20)) + 0.3
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    hall = [
        replace(
            sighting(CAMERAS[int(rng.integers(3))], n + 1, 20 * n, 20 * n + 6, 0),
            prototypes=np.pad(looks[[n]], ((0, 0), (0, 44))).astype(np.float32),
        )
        for n in range(60)
    ]
    ((_, values),) = counted(watched(hall), "hour", "persons")
    assert np.median(values) == pytest.approx(60, abs=6)


def test_who_leaves_a_track_that_goes_on_with_somebody_else_is_one_person():
    """Two meet in the aisle, and one track holds both from then on: the first goes to the till while it lasts."""
    sightings = shoppers(10)
    meets = next(each for each in sightings if each.key.camera == "aisle" and each.key.track == 4)
    longer = replace(meets, end=meets.end + timedelta(seconds=60))
    sightings = sorted(
        [longer, *(each for each in sightings if each is not meets)], key=lambda each: (each.end, each.key)
    )
    ((_, values),) = counted(watched(sightings, draws=40), "hour", "persons")
    assert np.median(values) == 10


def test_who_is_forgotten_stays_counted():
    early, late = shoppers(8, every_s=60.0), shoppers(8, every_s=60.0, first=8, begin_s=7200.0)
    settings_ = {"reentry_s": 600.0, "window_s": 120.0, "every_s": 60.0}
    window = watched([*early, *late], **settings_)
    assert len(window.partition(0).people) < 12  # the early ones are forgotten
    ((_, day),) = counted(window, "day", "persons")
    assert np.median(day) == pytest.approx(16, abs=1)


def test_counts_of_long_ago_are_let_go_of_but_of_those_who_are_remembered():
    hours = [shoppers(4, every_s=60.0, first=4 * n, begin_s=7200.0 * n) for n in range(3)]
    window = watched([*hours[0], *hours[1], *hours[2]], reentry_s=600.0, window_s=120.0, every_s=60.0)
    before = [np.median(values) for _, values in counted(window, "hour", "visits")]
    window.forget(START + timedelta(hours=1))
    after = [np.median(values) for _, values in counted(window, "hour", "visits")]
    assert (before[0], len(before)) == (4, 3)
    assert after[0] <= 1
    assert after[1:] == before[1:]


def test_a_day_is_the_sites_own():
    window = watched(shoppers(3, begin_s=13.9 * 3600), zone="Europe/Berlin")  # 00:54 there
    ((day, _),) = counted(window, "day", "persons")
    assert day.isoformat() == "2026-03-03T00:00:00+01:00"
    ((week, _),) = counted(window, "week", "persons")
    assert week.isoformat() == "2026-03-02T00:00:00+01:00"


def test_equal_sightings_give_equal_draws_and_another_sites_chance_is_another():
    half = np.float32(np.sqrt(0.5))  # of a cosine of which looks say nothing, of any two
    sightings = [
        replace(each, prototypes=half * (LOOKS[[0]] + LOOKS[[number]]))
        for number, each in enumerate(shoppers(10, every_s=15.0), start=1)
        if each.key.track % 3
    ]
    one, same, other = (watched(sightings, name=name) for name in ("shop", "shop", "else"))
    assert counted(one, "hour", "persons") == counted(same, "hour", "persons")
    assert [one.partition(d) for d in range(20)] == [same.partition(d) for d in range(20)]
    assert [one.partition(d) for d in range(20)] != [other.partition(d) for d in range(20)]


def test_a_partition_holds_each_sighting_once():
    sightings = shoppers(6, every_s=20.0)
    part = watched(sightings).partition(3)
    every = [key for person in part.people for key in person] + list(part.false)
    assert sorted(every) == sorted(each.key for each in sightings)


def test_looks_that_say_little_count_more_together():
    said = [np.full(50, -ratio) for ratio in (2.0, 2.0)]
    assert weight_of(said) == pytest.approx(1.45)
    assert weight_of([2 * each for each in said]) == pytest.approx(1.05)
    assert weight_of([np.array([-9.0])]) == 1.2  # of too few pairs


def test_shop_hours_are_read_as_they_were_written(tmp_path):
    hour = counts.Hour(10, 11.0, 9.0, 13.5, 14, np.array([0.9, 0.6]), np.array([1.0, 0.0]), 0.8, 3.0)
    row = counts.kept(hour, 100.0, 0.5, 1.0, 201, 50)
    assert (row.links, row.false, row.promised) == (2, 1.0, 0.5)
    assert row.off == pytest.approx(0.35)  # the mean of 0.1 and 0.6
    counts.append(tmp_path / "rows.csv", row)
    counts.append(tmp_path / "rows.csv", row)
    assert counts.read(tmp_path / "rows.csv") == [row, row]
    assert counts.read(tmp_path / "none.csv") == []


@pytest.mark.slow
def test_the_causes_add_up_to_what_the_draws_count_too_many(monkeypatch):
    monkeypatch.setattr(counts, "DURATION_S", 600.0)
    shop, calibration, witnessed = counts.simulated(40.0, 0.5, 1)
    window = Window(site="shop", calibration=calibration, draws=10)
    associator = associator_for(shop, calibration, for_draws=True)
    _, known = counts.followed(associator, shop.opens, witnessed, window)
    (values,) = (row.values for row in window.counts() if (row.length, row.what) == ("day", "persons"))
    true = len({each.track.person for each in witnessed if each.sighting is not None} - {None})
    assert sum(counts.causes(window, known, witnessed).values()) == pytest.approx(values.mean() - true)


@pytest.mark.slow
def test_the_truths_numbers_change_no_draw(monkeypatch):
    """Whoever holds a track is known to the measure alone: people numbered anew leave every figure as it was."""
    monkeypatch.setattr(counts, "DURATION_S", 600.0)
    shop, calibration, witnessed = counts.simulated(40.0, 0.8, 1)

    def hour() -> counts.Hour:
        window = Window(site="shop", calibration=calibration, draws=10)
        return counts.hour(associator_for(shop, calibration, for_draws=True), shop.opens, witnessed, window)

    expected = hour()
    views = {id(piece.view): piece.view for each in witnessed for piece in each.track.pieces}.values()
    people = sorted({view.person for view in views if view.person is not None})
    anew = dict(zip(people, np.random.default_rng(4).permutation(1000)[: len(people)].tolist(), strict=True))
    for view in views:
        view.person = anew.get(view.person)
    found = hour()
    assert (found.true, found.value, found.low, found.high, found.best) == (
        *(expected.true, expected.value, expected.low, expected.high),
        expected.best,
    )
    assert found.right.tolist() == expected.right.tolist()
    assert expected.true == len(people)
