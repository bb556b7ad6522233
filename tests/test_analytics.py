"""Figures of visits and crossings: each equals what a hand counts; midnight and both daylight-saving nights are right."""

import doctest
import inspect
import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.service import analytics, audit
from passerby.service.analytics import Period, Step
from passerby.service.audit import Pair
from passerby.service.kept import Audit, Audited, Counted, Gap
from passerby.shop import Crossing, Sighting, SightingKey, Stay
from passerby.types import Interval, SightingError
from passerby.vision.visits import VisitRow
from passerby.vision.window import Drawn

PARTS = {  # of figures
    *("counted_through", "pieces", "doubted", "walked", "stood", "cell_of"),
    *("began", "duration_s", "of_period", "by_camera", "by_zone", "weeks", "place", "trusted", "passed", "stretch_end"),
    *("ranked_paths", "ranked_transitions", "reached_steps", "spread", "dwelt"),
}
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


# What is missing, what is usual, who belongs together


GAPS = st.lists(
    st.builds(
        lambda camera, since, lasts, open_: Gap(camera, at(since), None if open_ else at(since + lasts), "down", ""),
        st.sampled_from(["door", "aisle"]),
        st.integers(0, 90),
        st.integers(1, 40),
        st.booleans(),
    ),
    max_size=6,
)


@given(GAPS, st.integers(1, 100))
def test_what_is_missing_is_what_a_slow_count_says(gaps, now_s):
    periods = [Period(at(0), at(50)), Period(at(50), at(100))]
    openings = [Period(at(10), at(30)), Period(at(40), at(70))]
    for opened in (None, openings):
        found = analytics.missing(gaps, periods, cameras=["door"], now=at(now_s), openings=opened)
        for part in found:
            seconds = [s for s in range(100) if at(s) in part.period and s < now_s]
            seconds = [s for s in seconds if opened is None or any(at(s) in each for each in opened)]
            gone = [
                s
                for s in seconds
                if any(g.camera == "door" and g.start <= at(s) and (g.end is None or at(s) < g.end) for g in gaps)
            ]
            assert part.share == pytest.approx(len(gone) / len(seconds) if seconds else 0.0)
            assert part.whole == (part.share == 0 and part.period.end <= at(now_s))


def test_a_camera_that_is_closed_on_purpose_misses_nothing():
    closed = [Gap("door", at(0), at(1800), "closed", "")]
    assert analytics.missing(closed, [HOUR], cameras=["door"], now=at(3600))[0].whole


def test_what_is_usual_is_robust_and_never_surer_than_chance():
    assert analytics.usual(9, [4] * 8).deviation == 2.0  # chance alone makes 4 people vary by 2
    assert analytics.usual(9, [4] * 8).marked is False
    assert analytics.usual(10, [4] * 8).marked is True
    assert analytics.usual(0, [0] * 8).z == 0.0
    outlier = analytics.usual(100, [100, 101, 99, 100, 102, 98, 100, 5000])
    assert (outlier.median, outlier.marked) == (100.0, False)
    assert analytics.usual(1, [1] * 30).weeks == 8


def test_the_same_hour_of_weeks_before_is_there_also_where_the_clock_left_it_out():
    lost = Period(
        datetime(2026, 4, 5, 0, tzinfo=UTC), datetime(2026, 4, 5, 1, tzinfo=UTC)
    )  # 02:00 of a Sunday in Paris
    (spring,) = analytics.weeks_before(lost, PARIS, number=1)
    assert spring.seconds == 3600
    autumn = Period(datetime(2026, 10, 25, 0, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC))  # the first 02:00
    assert [each.seconds for each in analytics.weeks_before(autumn, PARIS)] == [3600.0] * 8


def test_strangers_who_enter_together_and_part_are_no_group():
    together = [
        visit("a", 0, 300, entered_s=0, left_s=300, stays=[("wine", 20, 100)]),
        visit("b", 1, 301, entered_s=1, left_s=301, stays=[("beer", 20, 100)]),
    ]
    assert [len(group) for group in analytics.groups(together, HOUR)] == [1, 1]


def test_a_family_of_three_is_one_group_though_the_door_missed_one_end_of_each():
    stays = [("wine", 20, 100), ("till", 150, 200)]
    rows = [
        visit("a", 0, 300, entered_s=0, left_s=300, stays=stays),
        visit("b", 1, 301, entered_s=1, stays=stays),
        visit("c", 2, 302, left_s=302, stays=stays),
    ]
    assert [[row.visit for row in group] for group in analytics.groups(rows, HOUR)] == [["a", "b", "c"]]


def test_one_person_who_comes_twice_at_once_is_no_group():
    rows = [visit(name, 0, 60, entered_s=0, left_s=60, person="p") for name in "ab"]
    assert len(analytics.groups(rows, HOUR)) == 2


def test_staff_is_known_by_their_zone_their_hours_their_presence_or_a_mark_and_so_are_their_other_visits():
    rows = [
        visit("zone", 0, 60, person="kim", stays=[("stock", 0, 20)]),
        visit("again", 100, 160, person="kim"),
        visit("near", 0, 60, person="ann", stays=[("stock", 0, 19)]),
        visit("early", -901, 60),
        visit("not so early", -900, 60),
        visit("long", 0, 3 * 3600, person="lee"),
    ]
    found = analytics.staff(rows, PARIS, zones=["stock"], openings=[Period(at(0), at(4 * 3600))], marked=["ann"])
    assert found == {"zone", "again", "near", "early", "long"}
    assert analytics.staff(rows, PARIS, zones=["stock"]) == {"zone", "again", "long"}


def test_staff_is_the_staff_of_a_day_whatever_period_is_asked_for():
    day = 24 * 3600
    rows = [
        visit("monday", 0, 60, person="kim", stays=[("stock", 0, 20)]),
        visit("tuesday", day, day + 60, person="kim"),
    ]
    assert analytics.staff(rows, PARIS, zones=["stock"]) == {"monday"}
    assert analytics.staff(rows[1:], PARIS, zones=["stock"]) == set()


def test_counts_of_two_lines_add_up_and_what_one_of_them_does_not_tell_is_missing():
    told = [
        Counted("a", at(0), at(3600), 5, 4),
        Counted("b", at(0), at(1800), 7, 1),
        Counted("a", at(3600), at(7200), 1, 1),
    ]
    first, second = analytics.counted(told, [HOUR, Period(at(3600), at(7200))], lines=["a", "b"])
    assert (first.entries.value, first.exits.value, first.missing) == (12, 5, 0.5)
    assert (second.entries.value, second.missing) == (1, 1.0)
    (nothing,) = analytics.counted([], [HOUR], lines=["a"])
    assert (nothing.entries.value, nothing.exits, nothing.missing) == (0, None, 1.0)


def test_heat_is_seconds_whether_the_path_is_in_the_picture_or_on_the_floor():
    path = np.array([(0, 0.1, 0.1), (1, 0.1, 0.9), (10, 1.0, 1.0)], np.float32)
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    walk = Sighting(SightingKey("shop", "door", "s", 1), 1, "closed", at(0), at(11), *none, path=path)
    found = analytics.heat([walk], HOUR, cells=(2, 2), camera="door")
    assert found.tolist() == [[1.0, 0.0], [2.0, 1.0]]  # a point that is followed late counts for two seconds
    assert analytics.heat([walk], HOUR, cells=(2, 2), camera="aisle").sum() == 0
    assert analytics.heat([walk], Period(at(1), at(2)), cells=(2, 2), camera="door").sum() == 1
    assert analytics.heat([replace(walk, state="withdrawn")], HOUR, cells=(2, 2), camera="door").sum() == 0


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(6, 60)), max_size=8), st.integers(1, 3))
def test_waiting_is_what_tills_in_turn_would_give(came, tills):
    """Each is served when a till is free, in the order in which they came; a stay is waiting and being served."""
    free, rows, expected = [0.0] * tills, [], []
    for number, (joined, takes) in enumerate(sorted(came)):
        joined += number / 1000  # one after the other
        served = max(joined, min(free))
        free[free.index(min(free))] = served + takes
        rows.append(visit(f"{number:03}", joined, served + takes, stays=[("till", joined, served + takes)]))
        expected.append(served - joined)
    waits = analytics.waits(rows, "till", served=tills)
    assert [wait.seconds for wait in waits] == pytest.approx(expected, abs=1e-5)


def test_draws_of_hours_make_up_those_of_a_day_in_the_night_when_clocks_go_back():
    night = Period(analytics.midnight(date(2026, 10, 25), PARIS), analytics.midnight(date(2026, 10, 26), PARIS))
    draws = [
        Drawn(hour.start.astimezone(PARIS), "hour", "visits", np.array([1, 2], np.int64))
        for hour in analytics.hours(night, PARIS)
    ]
    assert analytics.drawn(draws, night, PARIS, what="visits").tolist() == [25, 50]
    assert analytics.drawn(draws[1:], night, PARIS, what="visits") is None
    day = [Drawn(night.start, "day", "persons", np.array([7], np.int64))]
    assert analytics.drawn(day, night, PARIS, what="persons").tolist() == [7]
    assert analytics.drawn(day, analytics.hours(night, PARIS)[0], PARIS, what="persons") is None


# Entries and exits by visits


def test_who_was_seen_to_leave_has_come_and_who_was_seen_to_come_will_have_left():
    rows = [
        visit("1", 0, 600, entered_s=2, left_s=598),
        visit("2", 100, 500, left_s=498),  # the door missed the entry
        visit("3", 200, 700, entered_s=202),  # and this exit
        visit("4", 300, 400),  # of which it saw nothing
    ]
    (found,) = analytics.through(rows, [HOUR])
    assert (found.entries.value, found.exits.value) == (3, 3)
    assert found.entries.low < 3 < found.entries.high


def test_a_broken_visit_is_one_entry_and_one_exit():
    rows = [visit("1", 0, 300, entered_s=2), visit("2", 320, 600, left_s=598)]
    (found,) = analytics.through(rows, [HOUR])
    assert (found.entries.value, found.exits.value) == (1, 1)
    (found,) = analytics.through(rows, [HOUR], again_s=10)
    assert (found.entries.value, found.exits.value) == (2, 2)


@pytest.mark.parametrize("persons", [(None, None, None), ("1", "2", "3"), ("1", "2", "2"), ("2", "1", "2")])
def test_pieces_of_a_visit_are_of_one_person_and_so_are_all_others_of_either(persons):
    rows = [
        visit("1", 0, 300, entered_s=2, person=persons[0]),
        visit("2", 320, 600, left_s=598, person=persons[1]),
        visit("3", 900, 1000, entered_s=902, left_s=998, person=persons[2]),
    ]
    whose = [row.person or row.visit for row in analytics.as_one(rows)]
    assert whose[0] == whose[1]
    assert (whose[2] == whose[0]) == (persons[2] in persons[:2] and persons[2] is not None)
    assert analytics.persons(analytics.as_one(rows), HOUR).value == len(set(whose))
    assert [replace(row, person=None) for row in analytics.as_one(rows)] == [replace(row, person=None) for row in rows]


def test_entries_by_visits_of_hours_add_up_to_those_of_the_day_and_a_door_that_saw_all_leaves_no_doubt():
    rows = [visit(str(n), 60 * n, 60 * n + 300, entered_s=60 * n, left_s=60 * n + 300) for n in range(90)]
    parts = analytics.through(rows, [HOUR, Period(at(3600), at(7200))])
    assert [each.entries.value for each in parts] == [60, 30]
    assert [each.exits.value for each in parts] == [55, 35]
    assert parts[0].entries == Interval(60, 60, 60)


# Audits


def test_without_audits_a_count_keeps_its_value_and_gets_the_intervals_of_other_lines():
    found = audit.corrected(Interval(100), audit.factor([]))
    assert found.value == 100
    assert 75 < found.low < 80
    assert 125 < found.high < 130


def test_more_audits_say_more_and_few_are_shrunk_to_the_prior():
    factors = [audit.factor([Pair(20, 18)] * number) for number in (0, 1, 8, 80)]
    logs, deviations = [each.log for each in factors], [each.deviation for each in factors]
    assert logs == sorted(logs)
    assert deviations == sorted(deviations, reverse=True)
    assert logs[-1] == pytest.approx(math.log(20 / 18), abs=0.005)


def test_audits_that_disagree_are_less_sure_than_those_that_agree():
    agreed, scattered = [Pair(20, 18)] * 8, [Pair(20, 10), Pair(20, 26)] * 4
    assert audit.factor(scattered).deviation > 2 * audit.factor(agreed).deviation


def test_a_line_is_certified_after_two_hours_of_counting_and_not_before():
    quarter = timedelta(minutes=15)
    starts = [START + n * quarter for n in range(8)]
    audits = [Audited("shop", Audit("entry", at, at + quarter, 60, 60, place="now"), 60, 60) for at in starts]
    states = [audit.trust(audits[:n], line="entry", place="now").state for n in range(9)]
    assert states == ["drawn", *["audited"] * 7, "certified"]
    assert audit.trust(audits, line="entry", place="moved").state == "tuned"
    assert audit.trust(audits, line="exit", place="now").state == "drawn"


@pytest.mark.slow
def test_audits_of_eight_quarter_hours_mend_a_line_that_misses_one_of_ten():
    rng, errors, covered = np.random.default_rng(7), [], 0
    for _ in range(200):
        pairs = [Pair(n, int(rng.binomial(n, 0.9))) for n in rng.poisson(30, 8).tolist()]
        came = int(rng.poisson(1200))
        found = audit.corrected(Interval(rng.binomial(came, 0.9)), audit.factor(pairs))
        errors.append(abs(found.value / came - 1))
        covered += found.low <= came <= found.high
    assert np.median(errors) <= 0.03
    assert 170 <= covered <= 195


def test_a_line_that_misses_one_of_five_is_mended_by_eight_quarter_hours_of_few_people_and_knows_how_far():
    by = audit.factor([Pair(8, 6), Pair(9, 8), Pair(7, 5), Pair(10, 8), Pair(6, 5), Pair(8, 6), Pair(9, 7), Pair(7, 6)])
    assert by.interval.low < 64 / 51 < by.interval.high
    assert by.interval.value > 1.15
    assert by.scatter > 0.1  # chance alone scatters it by a fifth a person


def test_two_lists_tell_how_many_a_door_missed():
    rng = np.random.default_rng(3)
    found = []
    for _ in range(100):
        entered, seen = rng.random(300) < 0.9, rng.random(300) < 0.8
        linked = entered & seen & (rng.random(300) < 0.85)  # a link in seven is not made
        found.append(audit.two_lists(entries=entered.sum(), inside=seen.sum(), linked=int(linked.sum()), unlinked=0.15))
    assert np.mean([each.missed.value for each in found]) == pytest.approx(0.1, abs=0.01)
    assert np.mean([each.people.value for each in found]) == pytest.approx(300, rel=0.01)
    assert sum(each.missed.low <= 0.1 <= each.missed.high for each in found) >= 80
    assert audit.two_lists(entries=5, inside=0, linked=0) is None
