"""Figures of visits and crossings: each equals what a hand counts; midnight and both daylight-saving nights are right."""

import doctest
import inspect
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.service import analytics, audit
from passerby.service.analytics import Period, Step
from passerby.shop import Crossing, SightingKey, Stay
from passerby.types import SightingError
from passerby.vision.visits import VisitRow

PARTS = {"began", "duration_s", "of_period", "by_camera", "by_zone", "weeks", "place"}  # of figures
METRICS = Path(__file__).parents[1] / "docs" / "metrics.md"
PARIS = ZoneInfo("Europe/Paris")
START = datetime(2026, 3, 2, 10, tzinfo=UTC)


def at(seconds):
    return START + timedelta(seconds=seconds)


def passed(seconds, inwards=True, line="entry"):
    return Crossing(line, at(seconds), inwards)


def visit(name, since_s, until_s, *, person=None, stays=(), cameras=("door",), entered_s=None, left_s=None):
    return VisitRow(
        "shop",
        name,
        person,
        at(since_s),
        at(until_s),
        None if entered_s is None else at(entered_s),
        None if left_s is None else at(left_s),
        cameras,
        tuple(Stay(zone, at(a), None if b is None else at(b)) for zone, a, b in stays),
        (SightingKey("shop", "door", "s", 1),),
        None,
    )


HOUR = Period(at(0), at(3600))


def test_every_example_of_the_page_is_true():
    found = doctest.testfile(str(METRICS), module_relative=False)
    assert found.attempted > 40
    assert found.failed == 0


def test_every_figure_has_its_example():
    page = METRICS.read_text()
    for room in (analytics, audit):
        for name, function in vars(room).items():
            if inspect.isfunction(function) and function.__module__ == room.__name__ and name not in PARTS:
                assert f"{room.__name__.rpartition('.')[2]}.{name}(" in page or name.startswith("_"), name


# Time


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Paris", date(2026, 3, 29), 23),
        ("Europe/Paris", date(2026, 10, 25), 25),
        ("Europe/Paris", date(2026, 7, 1), 24),
        ("America/Havana", date(2026, 3, 8), 23),  # clocks go forward at midnight: the day begins at 1
        ("America/Havana", date(2026, 11, 1), 25),  # midnight comes twice
        ("Asia/Kathmandu", date(2026, 3, 2), 24),  # UTC+5:45
    ],
)
def test_a_day_has_the_hours_that_its_clock_has(zone, day, hours):
    zone = ZoneInfo(zone)
    whole = Period(analytics.midnight(day, zone), analytics.midnight(day + timedelta(days=1), zone))
    found = analytics.hours(whole, zone)
    assert len(found) == hours
    assert {each.seconds for each in found} == {3600.0}
    assert {each.start.astimezone(zone).minute for each in found} == {0}
    assert {each.start.astimezone(zone).date() for each in found} == {day}
    assert analytics.days(whole, zone) == [whole]


@given(
    st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),
    st.timedeltas(timedelta(seconds=1), timedelta(days=9)),
    st.sampled_from(["Europe/Paris", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
def test_hours_and_days_fill_their_period_without_a_gap(start, length, zone):
    period, zone = Period(start, start + length), ZoneInfo(zone)
    for parts in (analytics.hours(period, zone), analytics.days(period, zone)):
        assert parts[0].start == start
        assert parts[-1].end == start + length
        assert all(one.end == other.start for one, other in pairwise(parts))
    for part in analytics.days(period, zone):
        assert part.start.astimezone(zone).date() == (part.end - timedelta(microseconds=1)).astimezone(zone).date()


def test_what_happens_at_midnight_belongs_to_the_new_day():
    midnight = analytics.midnight(date(2026, 3, 3), PARIS)
    period = Period(midnight - timedelta(days=1), midnight + timedelta(days=1))
    moments = [midnight - timedelta(microseconds=1), midnight]
    crossings = [Crossing("entry", moment, True) for moment in moments]
    days = analytics.footfall(crossings, analytics.days(period, PARIS), doors=["entry"])
    assert [day.entries.value for day in days] == [1, 1]


def test_the_hour_that_comes_twice_is_counted_as_two():
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in summer time
    crossings = [Crossing("entry", first, True), Crossing("entry", first + timedelta(hours=1), True)]
    night = Period(analytics.midnight(date(2026, 10, 25), PARIS), analytics.midnight(date(2026, 10, 26), PARIS))
    counted = [
        each.entries.value for each in analytics.footfall(crossings, analytics.hours(night, PARIS), doors=["entry"])
    ]
    assert counted[:5] == [0, 0, 1, 1, 0]
    assert sum(counted) == 2


def test_weeks_earlier_the_clock_shows_the_same_over_a_change_of_time():
    monday = Period(analytics.midnight(date(2026, 3, 30), PARIS), analytics.midnight(date(2026, 3, 31), PARIS))
    for weeks, day in ((1, date(2026, 3, 23)), (4, date(2026, 3, 2))):
        assert analytics.before(monday, PARIS, weeks=weeks).start == analytics.midnight(day, PARIS)


def test_a_period_that_ends_before_it_begins_is_refused():
    with pytest.raises(SightingError, match="expected a start before an end"):
        Period(at(1), at(1))


# Doors


def test_lines_that_are_no_doors_do_not_count():
    crossings = [passed(1), passed(2, line="shelf"), passed(3, inwards=False)]
    (hour,) = analytics.footfall(crossings, [HOUR], doors=["entry"])
    assert (hour.entries.value, hour.exits.value, hour.entries.low, hour.entries.high) == (1, 1, None, None)


def test_people_inside_are_counted_from_crossing_to_crossing():
    steps = analytics.occupancy([passed(10), passed(20), passed(30, inwards=False)], doors=["entry"])
    assert steps == [Step(at(10), 1), Step(at(20), 2), Step(at(30), 1)]
    (minute,) = analytics.occupied(steps, [Period(at(0), at(60))])
    assert minute.mean.value == pytest.approx((10 * 1 + 10 * 2 + 30 * 1) / 60)
    assert minute.most.value == 2


def test_who_stays_inside_is_still_inside_in_the_next_hour():
    steps = analytics.occupancy([passed(10)], doors=["entry"])
    hours = analytics.occupied(steps, [Period(at(0), at(20)), Period(at(20), at(40)), Period(at(40), at(60))])
    assert [(hour.mean.value, hour.most.value) for hour in hours] == [(0.5, 1), (1.0, 1), (1.0, 1)]


def test_two_at_one_moment_are_two():
    assert analytics.occupancy([passed(5), passed(5)], doors=["entry"]) == [Step(at(5), 2)]


def test_who_was_not_seen_leaving_is_gone_at_closing():
    steps = analytics.occupancy([passed(10), passed(90)], doors=["entry"], closings=[at(60)])
    assert [(step.at, step.people) for step in steps] == [(at(10), 1), (at(60), 0), (at(90), 1)]


CROSSINGS = st.lists(st.builds(passed, st.integers(0, 500), st.booleans(), st.sampled_from(["entry", "shelf"])))


@given(CROSSINGS, st.lists(st.integers(0, 500), max_size=3))
def test_occupancy_is_what_a_slow_count_says_and_never_negative(crossings, closings_s):
    steps = analytics.occupancy(crossings, doors=["entry"], closings=[at(s) for s in closings_s])
    assert all(step.people >= 0 for step in steps)
    assert all(one.at < other.at for one, other in pairwise(steps))
    people, inside = 0, []
    for second in range(501):
        if second in closings_s:
            people = 0
        now = [c.inwards for c in crossings if c.line == "entry" and c.at == at(second)]
        people = max(0, people + now.count(True) - now.count(False))
        inside.append(people)
    for second, expected in enumerate(inside):
        known = [step.people for step in steps if step.at <= at(second)]
        assert (known[-1] if known else 0) == expected
    (all_of_it,) = analytics.occupied(steps, [Period(at(0), at(501))])
    assert all_of_it.mean.value == pytest.approx(sum(inside) / 501)
    assert all_of_it.most.value == max(inside)
    parts = analytics.occupied(steps, [Period(at(0), at(100)), Period(at(100), at(501))])
    assert sum(part.mean.value * part.period.seconds for part in parts) == pytest.approx(sum(inside))


# Visits


def test_a_visit_belongs_to_the_hour_in_which_its_door_was_crossed():
    row = visit("v", 3595, 3700, entered_s=3601)
    assert [count.value for count in analytics.visits([row], [HOUR, Period(at(3600), at(7200))])] == [0, 1]
    assert analytics.duration_s(row) == 99.0


def test_visits_of_hours_add_up_and_persons_do_not():
    rows = [visit("a", 0, 60, person="p"), visit("b", 4000, 4100, person="p"), visit("c", 10, 20)]
    hours = [HOUR, Period(at(3600), at(7200))]
    assert [count.value for count in analytics.visits(rows, hours)] == [2, 1]
    assert [analytics.persons(rows, hour).value for hour in hours] == [2, 1]
    both = Period(at(0), at(7200))
    assert analytics.persons(rows, both).value == 2
    assert analytics.reentry(rows, both).value == pytest.approx(1 / 3)


def test_a_visit_of_exactly_two_minutes_is_no_bounce():
    assert analytics.bounce([visit("a", 0, 120), visit("b", 0, 119)], HOUR).value == 0.5


def test_a_stay_that_has_not_ended_lasts_to_the_last_sight_and_a_short_one_is_no_dwell():
    rows = [visit("a", 0, 100, stays=[("wine", 10, None), ("beer", 1, 6)]), visit("b", 0, 100, stays=[("wine", 0, 50)])]
    (wine,) = analytics.dwell(rows, HOUR)
    assert (wine.zone, wine.visits.value, wine.stays.count, wine.stays.median_s.value) == ("wine", 2, 2, 70.0)


def test_two_stays_of_one_visit_are_two_stays_and_one_visit():
    (wine,) = analytics.dwell([visit("a", 0, 100, stays=[("wine", 0, 20), ("wine", 50, 90)])], HOUR)
    assert (wine.visits.value, wine.stays.count, wine.stays.mean_s.value) == (1, 2, 30.0)


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5), max_size=8))
def test_as_many_come_into_a_place_as_go_out_of_it_and_shares_add_up(ways):
    rows = [visit(str(number), 0, 10, cameras=tuple(way)) for number, way in enumerate(ways)]
    found = analytics.transitions(rows, HOUR)
    for place in {each.origin for each in found}:
        into = sum(each.count.value for each in found if each.target == place)
        out = [each for each in found if each.origin == place]
        assert into == sum(each.count.value for each in out)
        assert sum(each.share.value for each in out) == pytest.approx(1)
    assert sum(path.visits.value for path in analytics.paths(rows, HOUR, most=1000)) == len(rows)


def test_without_visits_there_is_no_share_and_no_duration():
    assert analytics.reentry([], HOUR) is analytics.bounce([], HOUR) is analytics.durations([], HOUR) is None
    assert analytics.dwell([], HOUR) == analytics.paths([], HOUR) == analytics.transitions([], HOUR) == []
    assert [count.value for count in analytics.visits([], [HOUR])] == [0]
