"""Clocks that are off are found by people in two places at once, and by nothing else."""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from passerby.config import load_toml
from passerby.shop import Crossing, Sighting, SightingKey, Stay, moved
from passerby.simulate.appearance import DrawnVectors
from passerby.simulate.benchmark import arrays, associator_for, listen, probabilities, scorer
from passerby.simulate.plan import Shop
from passerby.simulate.recording import in_order, witness
from passerby.vision.clocks import FEWEST, SEEN_S, Clocks
from passerby.vision.transit import Passages

T = datetime(2026, 3, 2, 9, tzinfo=UTC)


def told(clocks: Clocks, ahead_s: float, *, seed: int, people: int = 200, camera: int = 2) -> None:
    """People who walk through three cameras one after the other, some of them back, one camera's clock so far ahead."""
    rng = np.random.default_rng(seed)
    for _ in range(people):
        way = list(rng.permutation(3))
        lasts, gaps = rng.uniform(5, 20, 3), rng.uniform(5, 40, 3)
        start = np.concatenate([[0.0], np.cumsum(lasts + gaps)[:-1]])
        start_s = np.array([start[way.index(each)] for each in range(3)])
        end_s = start_s + np.array([lasts[way.index(each)] for each in range(3)])
        start_s[camera] += ahead_s
        end_s[camera] += ahead_s
        pairs = np.array([[0, 1], [2, 0], [1, 2]])
        clocks.learn(pairs, start_s[pairs], end_s[pairs])


@pytest.mark.parametrize("ahead_s", [-70.0, -20.0, 15.0, 60.0])
def test_a_clock_that_is_off_is_found(ahead_s: float) -> None:
    clocks = Clocks(3)
    told(clocks, ahead_s, seed=1)
    found = clocks.look(100.0)
    assert found is not None
    assert found.camera == 2
    assert found.ahead_s == pytest.approx(ahead_s, abs=4)
    assert clocks.look(100.0) is None  # what taught it is forgotten, and no other is off
    assert (clocks.ahead_s(2, 99.0), clocks.ahead_s(2, 100.0), clocks.ahead_s(0, 100.0)) == (0.0, found.ahead_s, 0.0)


def test_nothing_is_said_of_clocks_that_are_right() -> None:
    clocks = Clocks(3)
    told(clocks, 0.0, seed=2)
    assert clocks.look(0.0) is None


def test_look_alikes_say_nothing_of_clocks() -> None:
    clocks, rng = Clocks(3), np.random.default_rng(3)
    start_s = rng.uniform(0, 200, (500, 2))
    clocks.learn(np.tile([0, 1], (500, 1)), start_s, start_s + rng.uniform(5, 20, (500, 2)))
    assert clocks.overlaps[0, 1].max() > FEWEST
    assert clocks.look(0.0) is None


def test_a_few_pairs_say_nothing_and_far_ones_do_not_count() -> None:
    clocks = Clocks(2)
    told_few = np.tile([0, 1], (int(FEWEST) - 1, 1))
    clocks.learn(told_few, np.zeros(told_few.shape), np.full(told_few.shape, 20.0))
    assert clocks.look(0.0) is None
    before = clocks.overlaps.copy()
    clocks.learn(
        np.array([[0, 1], [0, 1]]), np.array([[0.0, 9e3], [9e3, 0.0]]), np.array([[9.0, 9e3 + 9], [9e3 + 9, 9.0]])
    )
    np.testing.assert_array_equal(clocks.overlaps, before)


def test_no_clock_is_blamed_for_another_one_that_is_off() -> None:
    clocks = Clocks(3)
    clocks.overlaps[0, 2], clocks.overlaps[1, 2] = 12.0, 12.0
    clocks.overlaps[0, 2, SEEN_S + 30] = 0.0  # as if the first one's were behind; but the last one has both against it,
    clocks.overlaps[1, 2, SEEN_S + 30] = 6.0  # and is not plain yet
    assert clocks.look(0.0) is None
    clocks.overlaps[1, 2, SEEN_S + 30] = 1.0
    assert clocks.look(0.0) == (2, 0.0, 30.0)


def test_all_times_of_a_sighting_move() -> None:
    sighting = Sighting(
        SightingKey("shop", "till", "s", 1),
        1,
        "open",
        T,
        T + timedelta(seconds=9),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        "n",
        stays=(Stay("queue", T + timedelta(seconds=1), None), Stay("till", T, T + timedelta(seconds=2))),
        crossings=(Crossing("door", T + timedelta(seconds=3), True),),
    )
    later = moved(sighting, timedelta(minutes=1))
    by = timedelta(minutes=1)
    assert (later.start, later.end, later.crossings[0].at) == (T + by, sighting.end + by, T + timedelta(seconds=63))
    assert [(stay.start, stay.end) for stay in later.stays] == [
        (T + timedelta(seconds=61), None),
        (T + by, T + timedelta(seconds=62)),
    ]
    assert replace(moved(later, -by), path=sighting.path) == sighting


def test_times_between_cameras_follow_the_right_clock() -> None:
    passages = Passages(2)
    from_0, to_2 = np.zeros(40, np.int64), np.full(40, 2)
    passages.learn(from_0, to_2, np.full(40, 50.0), np.ones(40))  # 50 s by a clock that is 40 s ahead
    passages.learn(to_2, from_0, np.full(40, -20.0), np.ones(40))  # and back, as if at once
    passages.correct(1, 40.0)
    density = [
        float(passages.log_density(np.array([0]), np.array([2]), np.array([gap_s]), at_once_s=2.0)[0])
        for gap_s in (10.0, 50.0)
    ]
    assert density[0] > density[1] + 2
    assert not passages.both.any()
    assert passages.counts.sum() == pytest.approx(40)


@pytest.mark.slow
def test_links_come_back_after_a_clock_is_found_to_be_off(caplog: pytest.LogCaptureFixture) -> None:
    shop = load_toml(Path(__file__).parent.parent / "recipes" / "reference_easy_2.toml", Shop)
    source = DrawnVectors(shop.looks, seed=1, cameras=len(shop.cameras))
    witnessed = list(witness(shop, source, seed=1, duration_s=9000.0))
    camera = shop.cameras[1].name
    revisions = (
        moved(s, timedelta(seconds=20)) if s.key.camera == camera else s for s in in_order(witnessed, refresh=False)
    )
    associator = associator_for(shop, source.calibration())
    with caplog.at_level(logging.WARNING, "passerby"):
        heard = listen(associator, sorted(revisions, key=lambda each: each.end))
    assert list(associator.ahead_s) == [camera]
    assert associator.ahead_s[camera] == pytest.approx(20.0, abs=3)
    assert f"the clock of {camera} is" in caplog.text
    scored = scorer(arrays(witnessed, length=source.length), learnt_from=shop.opens + timedelta(minutes=105))
    after = scored(probabilities(heard.refined)).learnt.f1
    assert after > 0.95

    again = associator_for(shop, source.calibration())
    again.restore(*associator.snapshot())
    assert again.ahead_s == associator.ahead_s
    np.testing.assert_array_equal(again.clocks.overlaps, associator.clocks.overlaps)
