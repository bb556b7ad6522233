"""The simulated weeks behind the demo, and what the screens make of small examples."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from passerby.service import kept, screens
from passerby.service.analytics import Period
from passerby.service.folder import import_folder
from passerby.service.kept import Gap
from passerby.service.store import Store
from passerby.site import Camera, Hours, Site, load_site
from passerby.types import Interval, PasserbyError, SightingError
from passerby.vision.parquet import read_rows

DATA = Path(__file__).parents[1] / "src" / "passerby" / "simulate" / "data"
WEEKS = DATA / "weeks"
WORDS = {"closed": "closed", "holiday": "holiday", "gap": "{camera}: no data", "unfinished": "so far"}
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_the_weeks_are_small_and_hold_no_vector():
    assert sum(path.stat().st_size for path in WEEKS.iterdir()) < 5e6
    table = pq.read_table(WEEKS / "sightings.parquet", columns=["prototypes"])
    assert sum(len(row) for row in table["prototypes"].to_pylist()) == 0


@pytest.mark.slow
def test_weeks_lie_before_any_day_each_on_its_weekday(tmp_path):
    site, thursday = load_site(DATA / "sample" / "site.toml"), date(2027, 7, 15)
    counts = {row["start"].date(): 0 for row in read_rows(WEEKS / "visits.parquet")}
    for row in read_rows(WEEKS / "visits.parquet"):
        counts[row["start"].date()] += 1
    with Store(tmp_path / "shop.sqlite") as store:
        first = import_folder(WEEKS, store, site, before=thursday)
        assert first.visits == sum(counts.values())
        assert not any(import_folder(WEEKS, store, site, before=thursday))  # once more changes nothing
        moved = {}
        for visit in store.visits(site.name):
            moved[visit.start.date()] = moved.get(visit.start.date(), 0) + 1
        last = store.span(site.name)[1].date()
        gaps = kept.gaps(store, site.name)
        crossings = store.crossings(site.name)
    assert last == thursday - timedelta(days=1)
    assert min(moved) >= thursday - timedelta(days=21)
    by_weekday = [sorted((day.weekday(), often) for day, often in found.items()) for found in (counts, moved)]
    assert by_weekday[0] == by_weekday[1]
    assert [(gap.camera, gap.start.weekday()) for gap in sorted(gaps, key=lambda g: g.camera)] == [
        ("aisle 2", 3),
        ("entrance", 1),
    ]
    assert {crossing.at.weekday() for crossing in crossings} == set(range(6))


def test_a_table_of_another_kind_is_no_table_of_visits(tmp_path):
    pq.write_table(pq.read_table(WEEKS / "sightings.parquet", columns=["site"]).slice(0, 3), tmp_path / "x.parquet")
    with pytest.raises(SightingError, match="got other columns"):
        read_rows(tmp_path / "x.parquet")


# Screens


def test_an_address_gives_a_question_and_the_question_its_address():
    query = {"from": "2026-03-02", "to": "2026-03-08", "by": "day", "zone": "a b"}
    asked = screens.asked_of(query, newest=date(2026, 3, 9), zones=["a b"])
    assert asked == screens.Asked(date(2026, 3, 2), date(2026, 3, 8), "day", "weekdays", "a b")
    assert asked.href() == "?from=2026-03-02&to=2026-03-08&by=day&zone=a+b"
    assert asked.href(first=date(2026, 3, 8)).startswith(
        "?from=2026-03-08&to=2026-03-08&by=hour"
    )  # one day: by the hour
    assert screens.asked_of({}, newest=date(2026, 3, 9)) == screens.Asked(date(2026, 3, 9), date(2026, 3, 9), "hour")
    with pytest.raises(PasserbyError, match="400 days at most"):
        screens.asked_of({"from": "2020-01-01", "to": "2026-01-01"}, newest=date(2026, 3, 9))


def test_a_change_has_a_sense_only_outside_the_interval():
    def sense(now, before):
        change = screens.analytics.change(now, before)
        return screens.tile("entries", "count", now, change, words={"same": "within", "from_nothing": "from 0"}).sense

    assert sense(Interval(100, 90, 110), Interval(95)) == "same"
    assert sense(Interval(100, 90, 110), Interval(85)) == "more"
    assert sense(Interval(100, 90, 110), Interval(120)) == "less"
    assert sense(Interval(100), Interval(50)) == "unsure"  # no interval, no claim


def test_a_chart_shades_what_is_closed_missing_and_unfinished():
    site = Site("shop", (Camera("door", "x.mp4"),), hours=Hours(monday=("09:00-12:00",)))
    period = Period(MONDAY + 8 * HOUR, MONDAY + 14 * HOUR)
    parts = [Period(period.start + n * HOUR, period.start + (n + 1) * HOUR) for n in range(6)]
    gaps = [Gap("door", MONDAY + 7 * HOUR, MONDAY + 9.5 * HOUR, "down", "")]
    found = screens.regions_of(period, site, now=MONDAY + 10.25 * HOUR, parts=parts, gaps=gaps, words=WORDS)
    hours = [(r.kind, *((t - MONDAY.timestamp()) / 3600 for t in (r.start, r.end)), r.label) for r in found]
    assert hours == [
        ("closed", 8, 9, "closed"),
        ("closed", 12, 14, "closed"),
        ("gap", 8, 9.5, "door: no data"),
        ("unfinished", 10, 11, "so far"),
    ]


def test_a_diagram_of_ways_has_a_column_a_step_and_hides_few():
    ways = {("a", "b"): 20, ("a",): 15, ("b",): 3}
    open_ = screens.sankey(ways, title="", most_steps=3, k=1, left="left", on="further")
    assert [(f.source, f.target, f.value) for f in open_.flows] == [
        ("0 a", "1 b", 20),
        ("0 a", "1 left", 15),
        ("0 b", "1 left", 3),
        ("1 b", "2 left", 20),
    ]
    closed = screens.sankey(ways, title="", most_steps=3, k=10, left="left", on="further")
    assert ("0 b", "1 left") not in {(f.source, f.target) for f in closed.flows}
    assert closed.hidden >= 3


def test_a_camera_s_share_is_of_the_open_time():
    site = Site("shop", (Camera("door", "x.mp4"),), hours=Hours(monday=("09:00-13:00",)))
    gaps = [Gap("door", MONDAY + 6 * HOUR, MONDAY + 10 * HOUR, "down", "")]
    (found,) = screens.uptimes(site, gaps, Period(MONDAY, MONDAY + 24 * HOUR), now=MONDAY + 24 * HOUR)
    assert (found.share, found.lost_s) == (0.75, 3600.0)
    assert np.allclose(found.holes[0][:2], (0.25, 10 / 24))


def test_a_name_gives_way_to_another_one():
    square = [(0.0, 100.0), (50.0, 100.0), (50.0, 200.0)]
    beside = [(60.0, 100.0), (110.0, 100.0), (110.0, 200.0)]
    (_, _, first), (_, _, second) = screens.labelled([("checkout", square), ("counter", beside)], high=20.0)
    assert first[1] < 100
    assert second[1] > 200
