"""People against the distributions that their shop asks for; every test here has a fixed seed and its place in HOLM."""

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from passerby.simulate.cameras import Views
from passerby.simulate.people import position, visits
from passerby.simulate.plan import Arrivals, Checkout, Shop, Shoppers, ZonePlan, length_m
from passerby.simulate.watching import times_in_view

HOUR = 3600.0


@pytest.fixture(scope="module")
def busy(shop):
    """The small shop with parties of one, a profile over four hours, nobody staying long."""
    quick = tuple(replace(zone, dwell_median_s=5.0) for zone in shop.zones)
    return replace(shop, zones=quick, staff=0, edges=(), arrivals=Arrivals((200.0, 600.0, 0.0, 300.0), (1.0,)))


@pytest.fixture(scope="module")
def day(busy):
    return list(visits(busy, Views(busy), seed=1, duration_s=4 * HOUR, reentries=False))


def p_values(busy, day):
    """The p-value of each distribution; small ones say that the simulator does not do what it is asked to."""
    found = {}
    rates = np.array(busy.arrivals.per_hour)
    summed = np.r_[0, np.cumsum(rates)]
    entered = np.array([visit.enters_s for visit in day]) / HOUR
    rescaled = np.interp(entered, np.arange(5), summed)  # of a Poisson process: gaps are exponential with mean 1
    found["arrivals"] = stats.kstest(np.diff(np.r_[0, rescaled]), "expon").pvalue
    served = [v.queue.left_s - v.queue.served_s for v in day if v.queue]
    c = busy.checkout
    median = c.service_s * math.exp(-(c.service_log_deviation**2) / 2)
    found["service"] = stats.kstest(served, stats.lognorm(c.service_log_deviation, scale=median).cdf).pvalue
    s = busy.shoppers
    low, high = ((end - s.speed_m_s) / s.speed_deviation for end in (0.5, 2.2))
    desired = stats.truncnorm(low, high, s.speed_m_s, s.speed_deviation)
    found["speed"] = stats.kstest(walked_speeds(busy, day), desired.cdf).pvalue
    plans = Counter(v.plan for v in day if not v.bounced)
    # weights 1 and 2; one stop with share 0.25, both otherwise (a plan has no more stops than there are zones)
    one = s.stops[0]
    expected = {(1,): one / 3, (2,): one * 2 / 3, (1, 2): (1 - one) / 3, (2, 1): (1 - one) * 2 / 3}
    total = sum(plans.values())
    assert set(plans) <= set(expected)
    found["plans"] = stats.chisquare(
        [plans[p] for p in expected], [total * share for share in expected.values()]
    ).pvalue
    bounced = sum(v.bounced for v in day)
    found["bounce"] = stats.binomtest(bounced, len(day), s.bounce).pvalue
    return found


def walked_speeds(shop, day):
    """The speed of each person on the first way, which nothing delays."""
    speeds = []
    for visit in day:
        way = next((p for p in visit.parts if p.start != p.end), None)
        if way is not None:
            speeds.append((way.to_m - way.from_m) / (way.until_s - way.since_s))
    return speeds


def party_sizes(shop):
    sized = replace(shop, arrivals=Arrivals((400.0,), (0.6, 0.3, 0.1)), staff=0)
    came = Counter(v.party for v in visits(sized, Views(sized), seed=2, duration_s=2 * HOUR, reentries=False))
    counts = Counter(came.values())
    return stats.chisquare([counts[n] for n in (1, 2, 3)], len(came) * np.array([0.6, 0.3, 0.1])).pvalue


def holm(found, level=0.01):
    """The tests that fail when all of them together may err with probability `level` (Holm 1979)."""
    ordered = sorted(found.items(), key=lambda item: item[1])
    failing = []
    for rank, (name, p) in enumerate(ordered):
        if p > level / (len(ordered) - rank):
            break
        failing.append(name)
    return failing


@pytest.mark.slow
def test_everything_drawn_follows_the_shop_s_distributions(busy, day, shop):
    found = p_values(busy, day) | {"party sizes": party_sizes(shop)}
    print({name: f"p = {p:.2f}" for name, p in found.items()})  # pytest -rP shows it
    assert holm(found) == [], found


@pytest.mark.slow
def test_the_tests_above_would_see_another_distribution(busy, day):
    """The same visits against a shop that asked for something a little different: each test sees it."""
    other = replace(
        busy,
        arrivals=Arrivals((230.0, 560.0, 0.0, 310.0), (1.0,)),
        checkout=replace(busy.checkout, service_log_deviation=0.65),
        shoppers=replace(busy.shoppers, speed_m_s=1.25, stops=(0.35, 0.25, 0.25, 0.15), bounce=0.15),
    )
    found = p_values(other, day)
    assert set(holm(found, 0.05)) >= {"service", "speed", "plans", "bounce"}, found


def m_m_c(arrivals_per_s, service_s, tills):
    """(mean wait, P(wait)) of an M/M/c queue (Erlang C)."""
    load = arrivals_per_s * service_s
    last = load**tills / math.factorial(tills) * tills / (tills - load)
    waits = last / (sum(load**n / math.factorial(n) for n in range(tills)) + last)
    return waits * service_s / (tills - load), waits


@pytest.mark.slow
def test_a_poisson_exponential_queue_waits_as_erlang_c_says(shop):
    """95 % intervals of 30 batch means, the first tenth left out (Law & Kelton, steady state)."""
    per_hour, tills, service_s = 120.0, 3, 75.0  # 83 % busy
    queue = replace(
        shop,
        zones=(
            ZonePlan("door", "entrance", (5.0, 0.3, 7.0, 1.0)),
            ZonePlan("left", "shelves", (1.0, 4.0, 4.0, 7.0), dwell_median_s=5.0),
            ZonePlan("till", "checkout", (9.0, 1.0, 11.0, 2.0)),
        ),
        staff=0,
        edges=(),
        arrivals=Arrivals((per_hour,), (1.0,)),
        shoppers=Shoppers(stops=(1.0,), bounce=0.0, pay=1.0, reenter=0.0),
        checkout=Checkout(tills, service_s, "exponential"),
    )
    come = visits(queue, Views(queue), seed=3, duration_s=160 * HOUR)
    queues = sorted((v.queue for v in come if v.queue), key=lambda q: q.joined_s)
    waits = np.array([q.served_s - q.joined_s for q in queues])[len(queues) // 10 :]
    for values, expected in zip((waits, waits > 0), m_m_c(per_hour / 3600, service_s, tills), strict=True):
        batches = np.array([part.mean() for part in np.array_split(values, 30)])
        half = stats.t.ppf(0.975, 29) * batches.std(ddof=1) / math.sqrt(30)
        print(f"{batches.mean():.3f} ± {half:.3f}, Erlang C {expected:.3f}")
        assert abs(batches.mean() - expected) <= half, (batches.mean(), expected, half)


def test_the_same_seed_gives_the_same_visits_and_another_others(shop):
    views = Views(shop)
    first, second, other = (list(visits(shop, views, seed=s, duration_s=900.0)) for s in (1, 1, 2))
    assert first == second
    assert first != other


def test_visits_come_in_order_of_entry_and_nobody_is_in_two_places(shop):
    came = list(visits(shop, Views(shop), seed=1, duration_s=HOUR))
    starts = [v.enters_s - 0.8 * v.member for v in came]
    assert starts == sorted(starts)
    for visit in came:
        for before, after in pairwise(visit.parts):
            assert after.since_s == pytest.approx(before.until_s)
            np.testing.assert_allclose(place(shop, before, last=True), place(shop, after, last=False), atol=1e-6)


def restless(shop):
    """The small shop, whose people go off and come back after every stop."""
    habits = replace(shop.shoppers, turn_back=1.0, bounce=0.0, pay=0.0, reenter=0.0)
    return replace(shop, staff=0, shoppers=habits, arrivals=Arrivals((400.0,), (1.0,)))


def test_who_turns_back_is_out_of_sight_as_long_as_the_shop_says(shop):
    there = restless(shop)
    views = Views(there)
    gaps = []
    for visit in visits(there, views, seed=1, duration_s=2 * HOUR):
        for camera in (1, 2):  # those of the shelves; each has one zone
            seen = [each for each in times_in_view(visit, views) if each.camera == camera]
            gaps += [after.start_s - before.end_s for before, after in pairwise(seen)]
    assert len(gaps) > 300
    s = there.shoppers
    for share in (0.25, 0.5, 0.75, 0.9):
        asked = s.turn_back_s * math.exp(s.turn_back_log_deviation * stats.norm.ppf(share))
        assert np.mean(np.array(gaps) < asked) == pytest.approx(share, abs=0.12)


def test_who_turns_back_stays_twice_in_one_place_and_is_never_in_two(shop):
    there = restless(shop)
    for visit in visits(there, Views(there), seed=1, duration_s=HOUR):
        assert [zone for zone, *_ in visit.stays] == [zone for zone in visit.plan for _ in range(2)]
        for before, after in pairwise(visit.parts):
            assert after.since_s == pytest.approx(before.until_s)
            np.testing.assert_allclose(place(there, before, last=True), place(there, after, last=False), atol=1e-6)


def place(shop, part, *, last):
    from passerby.simulate.plan import along

    path = shop.floor.path(part.start, part.end)
    return along(path, np.array([part.to_m if last else part.from_m]))[0] if part.start != part.end else path[0]


def test_shoppers_come_and_go_through_the_entrance(shop):
    for visit in visits(shop, Views(shop), seed=1, duration_s=900.0):
        if not visit.staff:
            ends = shop.floor.zone_of[[visit.parts[0].start, visit.parts[-1].end]]
            assert ends.tolist() == [0, 0]
            if not visit.bounced:
                assert [inwards for _, _, inwards in visit.crossings] == [True, False]


def test_an_edge_s_time_is_kept_and_waited_out_of_sight(shop):
    """From left to right takes 30 s in the median (the walk alone under 10)."""
    waited = []
    for visit in visits(shop, Views(shop), seed=1, duration_s=4 * HOUR):
        stays = [(zone, since, until) for zone, since, until in visit.stays]
        waited += [b[1] - a[2] for a, b in pairwise(stays) if {a[0], b[0]} == {1, 2}]
    assert len(waited) > 50
    assert np.median(waited) == pytest.approx(30, rel=0.2)


def test_who_comes_again_is_the_same_person_in_another_visit(shop):
    came = list(visits(shop, Views(shop), seed=1, duration_s=4 * HOUR))
    again = [v for v in came if v.reentry]
    assert again
    for visit in again:
        first = next(v for v in came if v.person == visit.person and not v.reentry)
        assert first.leaves_s < visit.enters_s


def test_a_party_goes_together_and_pays_as_one(shop):
    by_party = {}
    for visit in visits(shop, Views(shop), seed=1, duration_s=HOUR):
        by_party.setdefault(visit.party, []).append(visit)
    several = [party for party in by_party.values() if len(party) > 1]
    assert several
    for first, second, *_ in several:
        assert second.enters_s - first.enters_s == pytest.approx(0.8)
        assert first.plan == second.plan
        if first.queue:
            assert second.queue.served_s - first.queue.served_s == pytest.approx(0.8)


def test_staff_are_there_all_day(shop):
    rounds = [v for v in visits(shop, Views(shop), seed=1, duration_s=2 * HOUR) if v.staff]
    assert {v.person for v in rounds} == {-1}
    assert rounds[0].enters_s == 0
    assert rounds[-1].leaves_s >= 2 * HOUR
    assert all(b.enters_s == pytest.approx(a.leaves_s) for a, b in pairwise(rounds))


def test_where_someone_is(shop):
    visit = next(v for v in visits(shop, Views(shop), seed=1, duration_s=900.0) if not v.staff)
    assert position(visit, shop, visit.enters_s - 1) is None
    at_start = position(visit, shop, visit.enters_s)
    np.testing.assert_allclose(at_start, shop.floor.spots[visit.parts[0].start])


def test_paths_have_their_lengths(busy, day):
    way = next(p for p in day[0].parts if p.start != p.end)
    assert isinstance(busy, Shop)
    assert way.to_m == pytest.approx(length_m(busy.floor.path(way.start, way.end)))
