"""Figures by the hour: those that are kept equal those that visits and crossings give, whatever came, and when."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from passerby.service import analytics, hours, kept, report, rollups
from passerby.service.analytics import Period
from passerby.service.app import create_app
from passerby.service.hours import ALL, KINDS, Known
from passerby.service.kept import Closing
from passerby.service.live import Live
from passerby.service.rollups import Hours, refresh
from passerby.service.routes.pages import pages
from passerby.service.schema import ROLLED_UP
from passerby.service.store import NO_VECTORS, Store
from passerby.shop import Crossing, Sighting, SightingKey, Stay, Visit
from passerby.site import Camera, LineSite, Queue, Site, ZoneSite
from passerby.site import Hours as Opening
from test_app import ask, authenticate

PARIS = ZoneInfo("Europe/Paris")
SQUARE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))
ZONES = ("wine", "till", "stock")
LATE = ("18:00-03:00",)  # open past midnight
SPRING, AUTUMN = date(2026, 3, 28), date(2026, 10, 24)  # the night after them has 23 or 25 hours
NAMES = count(1)


def site_of(name, *, cameras=("door", "aisle"), opening=LATE):
    return Site(
        name,
        tuple(Camera(each, f"{each}.mp4") for each in cameras),
        time_zone="Europe/Paris",
        zones=tuple(ZoneSite(zone, SQUARE, cameras[-1]) for zone in ZONES),
        lines=(LineSite("entry", (0.2, 0.5), (0.8, 0.5), "door"),),
        hours=Opening(*[opening] * 7) if opening else None,
        staff_zones=("stock",),
        queues=(Queue("till"),),
        k=1,
    )


def come(site, name, start, taken_s, *, person=None, zones=(), enters=True, leaves=True, revision=1):
    """A visit of two sightings, by the door and inside."""
    end, middle = start + timedelta(seconds=taken_s), start + timedelta(seconds=taken_s / 2)
    step = (end - middle) / (len(zones) + 1)
    stays = tuple(Stay(zone, middle + n * step, middle + (n + 1) * step) for n, zone in enumerate(zones))
    first, last = [Crossing("entry", start, True)] * enters, [Crossing("entry", end, False)] * leaves

    def seen(camera, since, until, crossings, stays):
        key = SightingKey(site.name, camera, "s", int(name))
        more = {"network": "n", "crossings": tuple(crossings), "stays": stays}
        return Sighting(key, revision, "closed", since, until, *NO_VECTORS, **more)

    if len(site.cameras) > 1:
        sightings = [seen("door", start, middle, first, ()), seen("aisle", middle, end, last, stays)]
    else:
        sightings = [seen("door", start, end, first + last, stays)]
    keys = tuple(each.key for each in sightings)
    return sightings, Visit(site.name, name, revision, keys, start, end, person)


def tables(store, site, period, now, kinds=KINDS):
    """The tables of a period's hours, as a figure reads them: (kind, hour) -> table."""
    found = Hours(store, site, period, now=now)
    cells = analytics.hours(period, PARIS)
    return {(kind, cell.start): hours.coarse(found.of(kind, cell)) for kind in kinds for cell in cells}


def by_hand(store, site, period, now):
    """The same from visits and crossings alone."""
    first, last = (at.astimezone(PARIS).date() for at in (period.start, period.end - timedelta(microseconds=1)))
    whole = Period(analytics.midnight(first, PARIS), analytics.midnight(last + timedelta(days=1), PARIS))
    known = Known(store, site, analytics.days(whole, PARIS), now=now, begin=period.start)
    cells = analytics.hours(period, PARIS)
    return {
        (kind, cell.start): hours.coarse(hours.added([table]))
        for kind in KINDS
        for cell, table in zip(cells, known.tables(kind, cells), strict=True)
    }


def close(one, other):
    """Tables are equal; times in whole seconds may be rounded the other way."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            close(one[name], other[name])
    else:
        assert one == pytest.approx(other, abs=0.01)


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("rolled") / "shops.sqlite") as opened:
        yield opened


def people(rows):
    """How many visits follow none of the same person, a visit at a time: linked to one, or of one day and pieces of one."""
    days = [row.start.astimezone(PARIS).date() for row in rows]
    pieces = {day: analytics.as_one([row for row, on in zip(rows, days, strict=True) if on == day]) for day in days}
    named = {row.visit: row.person for each in pieces.values() for row in each}

    def same(one, other):
        linked = rows[one].person is not None and rows[one].person == rows[other].person
        names = {named[rows[one].visit], named[rows[other].visit]}
        return linked or (days[one] == days[other] and None not in names and len(names) == 1)

    return sum(not any(same(earlier, later) for earlier in range(later)) for later in range(len(rows)))


spec = st.tuples(
    st.integers(0, 4 * 24 * 60 - 1),  # minutes since the first midnight
    st.sampled_from([30, 119, 121, 700, 1500, 5000]),  # how long
    st.sampled_from([None, "ann", "bob", "kim"]),
    st.lists(st.sampled_from(ZONES), max_size=3),
    st.booleans(),
    st.booleans(),
)
change = st.tuples(st.integers(0, 30), spec)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.sampled_from([SPRING, AUTUMN]),
    opening=st.sampled_from([LATE, ("09:00-20:00",), ()]),
    cameras=st.sampled_from([("door", "aisle"), ("door",)]),
    came=st.lists(spec, min_size=1, max_size=14),
    changes=st.lists(change, max_size=5),
    absorbed=st.booleans(),
    cut=st.integers(0, 95 * 60 - 1),  # in spring the four days have an hour less
)
def test_what_is_kept_equals_what_visits_and_crossings_give(
    shared_store, first, opening, cameras, came, changes, absorbed, cut
):
    store, site = shared_store, site_of(f"shop{next(NAMES)}", cameras=cameras, opening=opening)
    store.put_site(site)
    begin = analytics.midnight(first - timedelta(days=1), PARIS)
    now = begin + timedelta(days=4, hours=6)
    period = Period(begin, analytics.midnight(first + timedelta(days=3), PARIS))

    def put(number, given, revision=1):
        minute, taken_s, person, zones, enters, leaves = given
        sightings, visit = come(
            site,
            str(number),
            begin + timedelta(minutes=minute),
            taken_s,
            person=person,
            zones=zones,
            enters=enters,
            leaves=leaves,
            revision=revision,
        )
        store.write(sightings=sightings, visits=[visit])
        return visit

    visits = [put(number, each) for number, each in enumerate(came, 1)]
    refresh(store, site, now=now)
    close(tables(store, site, period, now), by_hand(store, site, period, now))
    for number, (which, changed) in enumerate(changes):  # revisions, and who comes late
        place = which % (len(visits) + 1)
        put(place + 1 if place < len(visits) else 100 + number, changed, revision=2 + number)
        if number == 1:
            refresh(store, site, now=now)
    if absorbed and len(visits) > 1:
        store.write(visits=[replace(visits[0], revision=90, sightings=(), merged_into="2")])
    close(tables(store, site, period, now), by_hand(store, site, period, now))
    refresh(store, site, now=now)
    found = tables(store, site, period, now)
    close(found, by_hand(store, site, period, now))
    part = Period(begin + timedelta(minutes=cut), period.end)  # begins in the middle of an hour
    close(tables(store, site, part, now), by_hand(store, site, part, now))

    # and the figures themselves, over all four days and each of them
    whole = Hours(store, site, period, now=now)
    every = store.rows(site.name, doors=site.doors, since=period.start, until=period.end)
    shoppers, _ = hours.without_staff(site, every)
    came, crossings = analytics.through_doors(shoppers), store.crossings(site.name)
    for each in (period, *analytics.days(period, PARIS)):
        table = whole.of("came", each).get(ALL, {})
        rows = analytics.of_period(came, each)
        assert table.get("visits", 0) == len(rows)
        assert hours.persons(table, each.start) == people(rows)
        expected, taken = analytics.durations(rows, each), hours.spread(table)
        assert (expected is None) == (taken is None)
        if taken is not None:
            assert taken.mean_s.value == pytest.approx(expected.mean_s.value, abs=0.5)
            assert taken.median_s.value == pytest.approx(expected.median_s.value, abs=0.5)
            assert taken.p90_s.value == pytest.approx(expected.p90_s.value, abs=0.5)
        assert [(d.zone, d.visits, d.stays.count) for d in hours.dwell(whole.of("dwell", each))] == [
            (d.zone, d.visits, d.stays.count) for d in analytics.dwell(shoppers, each)
        ]
        for by_zone, way in ((False, analytics.by_camera), (True, analytics.by_zone)):
            ways = hours.ways(whole.of("ways", each), by_zone=by_zone)
            assert analytics.ranked_paths(ways) == analytics.paths(shoppers, each, way=way)
            assert analytics.ranked_transitions(ways) == analytics.transitions(shoppers, each, way=way)
        (by_visits,) = analytics.through(shoppers, [each])
        through = whole.of("through", each)
        assert hours.through(through, "in") == by_visits.entries
        assert hours.through(through, "out") == by_visits.exits
        (doors,) = analytics.footfall(crossings, [each], doors=site.doors)
        entry = whole.of("doors", each).get("entry", {"in": 0, "out": 0})
        assert (entry["in"], entry["out"]) == (doors.entries.value, doors.exits.value)


# By hand


NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = Period(datetime(2026, 3, 1, 23, tzinfo=UTC), datetime(2026, 3, 2, 23, tzinfo=UTC))
SHOP = site_of("shop", opening=("09:00-20:00",))
NEXT = DAY.end + timedelta(hours=1)


@pytest.fixture
def store(url):
    with Store(url) as opened:
        opened.put_site(SHOP)
        yield opened


def write(store, *made):
    store.write(sightings=[s for sightings, _ in made for s in sightings], visits=[visit for _, visit in made])


def days_kept(store):
    with store.reading() as connection:
        return connection.execute(select(func.count(ROLLED_UP.c.day.distinct()))).scalar_one()


def visits_of(store, period=DAY, now=NEXT):
    return Hours(store, SHOP, period, now=now).of("came", period).get(ALL, {}).get("visits", 0)


def test_a_day_is_kept_when_it_is_over_and_made_anew_when_a_revision_comes(store):
    write(store, come(SHOP, "1", NOON, 300, person="ann"))
    assert refresh(store, SHOP, now=NOON + timedelta(hours=1)) == 0
    assert refresh(store, SHOP, now=NEXT) == 1
    assert refresh(store, SHOP, now=NEXT) == 0
    write(store, come(SHOP, "1", NOON, 300, person="ann"))  # told again
    assert days_kept(store) == 1
    write(store, come(SHOP, "2", NOON + timedelta(hours=2), 60, person="ann"))
    assert days_kept(store) == 0
    assert visits_of(store) == 2
    assert refresh(store, SHOP, now=NEXT) == 1
    assert visits_of(store) == 2
    assert hours.persons(Hours(store, SHOP, DAY, now=NEXT).of("came", DAY)[ALL], DAY.start) == 1


def test_a_revision_that_comes_while_a_day_is_made_is_not_lost(store, monkeypatch):
    write(store, come(SHOP, "1", NOON, 300))
    made = rollups.Known.tables

    def late(known, kind, cells):
        found = made(known, kind, cells)
        write(store, come(SHOP, "2", NOON, 60))
        return found

    monkeypatch.setattr(rollups.Known, "tables", late)
    refresh(store, SHOP, now=NEXT)
    monkeypatch.undo()
    assert days_kept(store) == 0
    refresh(store, SHOP, now=NEXT)
    assert visits_of(store) == 2


def test_a_person_who_came_before_midnight_is_one_person_of_both_days_together(store):
    later = NOON + timedelta(days=1)
    write(store, come(SHOP, "1", NOON, 300, person="ann"), come(SHOP, "2", later, 300, person="ann"))
    both = Period(DAY.start, DAY.end + timedelta(days=1))
    now = both.end + timedelta(hours=1)
    assert refresh(store, SHOP, now=now) == 2
    found = Hours(store, SHOP, both, now=now)
    for period, visits, people in ((both, 2, 1), (DAY, 1, 1), (Period(DAY.end, both.end), 1, 1)):
        table = found.of("came", period)[ALL]
        assert (table["visits"], hours.persons(table, period.start)) == (visits, people)
    write(store, come(SHOP, "1", NOON, 300, person="bob", revision=2))  # the next day follows from this one
    assert refresh(store, SHOP, now=now) == 2
    table = Hours(store, SHOP, both, now=now).of("came", both)[ALL]
    assert hours.persons(table, both.start) == 2


def test_who_is_there_in_the_middle_of_days_that_are_closed_is_staff_whatever_is_asked_for(store):
    shut = replace(SHOP, holidays=tuple(date(2026, 3, day) for day in (1, 2, 3)))
    write(store, come(SHOP, "1", NOON, 300), come(SHOP, "2", NOON + timedelta(days=3), 300))
    for period in (DAY, Period(DAY.start, DAY.start + timedelta(days=4))):
        found = Hours(store, shut, period, now=period.end)
        assert found.of("staff", DAY) == {"visits": 1, "through_doors": 1}
    rows, staff = hours.without_staff(shut, store.rows("shop", doors=SHOP.doors))
    assert ([row.visit for row in rows], [row.visit for row in staff]) == (["2"], ["1"])


def test_pieces_of_one_visit_are_of_one_person_before_and_after_they_are_kept(store):
    lost = come(SHOP, "1", NOON, 300, leaves=False)
    rest = come(SHOP, "2", NOON + timedelta(seconds=310), 200, enters=False, person="ann")
    write(store, lost, rest, come(SHOP, "3", NOON + timedelta(hours=1), 60, person="ann"))
    for _ in range(2):
        table = Hours(store, SHOP, DAY, now=NEXT).of("came", DAY)[ALL]
        assert (table["visits"], hours.persons(table, DAY.start)) == (3, 1)
        refresh(store, SHOP, now=NEXT)
    rows, _ = hours.without_staff(SHOP, store.rows("shop", doors=SHOP.doors))
    assert analytics.persons(analytics.as_one(rows), DAY).value == 1
    assert analytics.persons(rows, DAY).value == 2  # as they were linked


def test_who_is_lost_before_midnight_and_seen_after_it_is_one_entry_and_one_exit(store):
    midnight, late = DAY.end, site_of("shop")  # open past midnight
    both = Period(DAY.start, DAY.end + timedelta(days=1))
    lost = come(late, "1", midnight - timedelta(seconds=310), 300, leaves=False)
    write(store, lost, come(late, "2", midnight + timedelta(seconds=10), 200, enters=False))
    now = both.end + timedelta(hours=1)

    def by_day():
        found = Hours(store, late, both, now=now)
        return [
            tuple(hours.through(found.of("through", day), way).value for way in ("in", "out"))
            for day in analytics.days(both, PARIS)
        ]

    assert by_day() == [(1, 0), (0, 1)]
    refresh(store, late, now=now)
    assert days_kept(store) == 2
    assert by_day() == [(1, 0), (0, 1)]


def test_what_is_published_stays_when_a_visit_is_erased_or_expires(store):
    write(store, come(SHOP, "1", NOON, 300, person="ann", zones=["wine"]), come(SHOP, "2", NOON, 200))
    refresh(store, SHOP, now=NEXT)
    before = tables(store, SHOP, DAY, NEXT)
    store.erase("shop", "1", now=NEXT)
    assert tables(store, SHOP, DAY, NEXT) == before
    assert store.expire("shop", before=DAY.end) == 1
    assert refresh(store, SHOP, now=NEXT) == 0
    assert tables(store, SHOP, DAY, NEXT) == before
    assert tables(store, replace(SHOP, staff_zones=()), DAY, NEXT) == before  # it cannot be made anew
    write(store, come(SHOP, "3", NOON, 300))  # told again, of a day that is gone
    assert tables(store, SHOP, DAY, NEXT) == before


def test_nothing_that_is_kept_by_the_hour_names_anybody_or_a_time_within_the_hour(store):
    write(store, come(SHOP, "1", NOON + timedelta(seconds=1234.567), 345.678, person="ann", zones=["wine"]))
    refresh(store, SHOP, now=NEXT)
    with store.reading() as connection:
        text = " ".join(connection.execute(select(ROLLED_UP.c.hours)).scalars())
    assert "wine" in text
    assert "346" in text
    for secret in ("ann", "1234", "345.6", str(int((NOON + timedelta(seconds=1234)).timestamp()))):
        assert secret not in text


def test_a_site_whose_doors_were_drawn_anew_is_counted_anew(store):
    write(store, come(SHOP, "1", NOON, 300))
    refresh(store, SHOP, now=NEXT)
    walls = replace(SHOP, lines=(replace(SHOP.lines[0], door=False),))
    assert refresh(store, walls, now=NEXT) == 1
    assert refresh(store, SHOP, now=NEXT) == 1


def test_a_closing_that_is_put_later_counts(store):
    write(store, come(SHOP, "1", NOON, 3000, leaves=False))
    refresh(store, SHOP, now=NEXT)
    kept.put_closings(store, "shop", [Closing(NOON + timedelta(seconds=3100), 1)])
    assert days_kept(store) == 0


def test_progress_is_told_where_there_is_much(store):
    starts = [NOON + timedelta(days=day) for day in range(32)]
    write(store, *(come(SHOP, str(number), start, 60) for number, start in enumerate(starts, 1)))
    said = []
    assert refresh(store, SHOP, now=starts[-1] + timedelta(days=1), tell=said.append) == 32
    assert said == [f"shop: figures of {number} of 32 days are kept by the hour" for number in (30, 32)]


def test_hours_follow_each_other_through_both_nights_of_the_clock(store):
    for day, hours_long in ((SPRING, 23), (AUTUMN, 25)):
        start = analytics.midnight(day + timedelta(days=1), PARIS)
        night = Period(start, start + timedelta(hours=hours_long))
        write(store, *(come(SHOP, f"{day.month}{n:02}", start + timedelta(hours=n), 60) for n in range(hours_long)))
        now = night.end + timedelta(hours=1)
        refresh(store, SHOP, now=now)
        found = Hours(store, SHOP, night, now=now)
        cells = analytics.hours(night, PARIS)
        assert [found.of("doors", cell)["entry"]["in"] for cell in cells] == [1] * hours_long
        assert all(one.end == other.start for one, other in pairwise(cells))


# Whoever asks


WEEK = Period(DAY.start, DAY.start + timedelta(days=7))
SUNDAY = WEEK.end + timedelta(hours=1)


def app_of(store):
    """The site's application, a day after the week."""
    live, clock = Live(SHOP, clock=lambda: SUNDAY), lambda: SUNDAY
    door = pages(site=SHOP, store=store, live=live, clock=clock)
    return create_app(site=SHOP, store=store, live=live, authenticate=authenticate, clock=clock, pages=door)


def from_visits(store):
    """Figures of the week, from its visits and crossings."""
    every = store.rows("shop", doors=SHOP.doors, since=WEEK.start, until=WEEK.end)
    shoppers, staff = hours.without_staff(SHOP, every)
    came, days = analytics.through_doors(shoppers), analytics.days(WEEK, PARIS)
    doors = analytics.footfall(store.crossings("shop"), [WEEK], doors=SHOP.doors)
    by_visits, taken = analytics.through(shoppers, [WEEK]), analytics.durations(came, WEEK)
    waits = analytics.queued(analytics.waits(shoppers, "till"), [WEEK])
    return {
        "entries": doors[0].entries.value,
        "by visits": by_visits[0].entries.as_dict(),
        "visits": [each.value for each in analytics.visits(came, days)],
        "persons": [analytics.persons(came, day).value for day in days],
        "again": analytics.reentry(came, WEEK).value,
        "bounce": analytics.bounce(came, WEEK).value,
        "median": taken.median_s.value,
        "staff": len(staff),
        "dwell": [
            (each.zone, each.visits.value, each.stays.median_s.value) for each in analytics.dwell(shoppers, WEEK)
        ],
        "paths": [(each.places, each.visits.value) for each in analytics.paths(shoppers, WEEK)],
        "moves": [(each.origin, each.target, each.count.value) for each in analytics.transitions(shoppers, WEEK)],
        "waited": waits[0].waiting.median_s.value,
        "inside": max(each.most.value for each in analytics.occupied(analytics.inside(shoppers), days)),
    }


def from_report(store):
    """The same, as a report has them."""
    found = report.report_of(store, SHOP, WEEK, parts=analytics.days, now=SUNDAY)
    totals = {total.name: total.value for total in found.totals}
    (waited,) = (each.waiting for each in found.queues["till"] if each.waiting)
    return {
        "entries": totals["entries"].value,
        "by visits": totals["entries, by visits"].as_dict(),
        "visits": [each.value for each in found.visits],
        "persons": [each.value for each in found.persons],
        "again": totals["re-entry share"].value,
        "bounce": totals["bounce (under 2 min)"].value,
        "median": totals["visit, median"].value,
        "staff": totals["visits of staff, left out"].value,
        "dwell": [(each.zone, each.visits.value, each.stays.median_s.value) for each in found.dwell],
        "paths": [(each.places, each.visits.value) for each in found.paths],
        "moves": [(each.origin, each.target, each.count.value) for each in found.transitions],
        "waited": waited.median_s.value,
        "inside": max(each.most.value for each in found.occupancy),
    }


def from_api(app):
    """The same, as the API answers."""

    def told(metric, key="value"):
        return ask(app, f"/api/v1/metrics/{metric}?from=2026-03-02&to=2026-03-08&group_by=day").json()[key]

    visits, (queue,) = told("visits"), told("queues")
    return {
        "entries": told("footfall")["entries"]["value"],
        "by visits": told("footfall")["entries_by_visits"],
        "visits": [row["value"]["visits"]["value"] for row in told("visits", "rows")],
        "persons": [row["value"]["persons"]["value"] for row in told("persons", "rows")],
        "again": visits["reentry_share"]["value"],
        "bounce": visits["bounce_share"]["value"],
        "median": visits["durations_s"]["median_s"]["value"],
        "staff": visits["staff"],
        "dwell": [
            (each["zone"], each["visits"]["value"], each["stays"]["median_s"]["value"]) for each in told("dwell")
        ],
        "paths": [(tuple(each["places"]), each["visits"]["value"]) for each in told("paths")],
        "moves": [(each["origin"], each["target"], each["count"]["value"]) for each in told("transitions")],
        "waited": queue["waiting_s"]["median_s"]["value"],
        "inside": max(row["value"]["most"]["value"] for row in told("occupancy", "rows")),
    }


def test_visits_report_api_and_page_say_the_same_of_days_that_are_over_also_when_nothing_but_hours_is_kept(store):
    people, number = ("ann", "bob", None, "kim"), count(1)
    for day in range(6):
        for each in range(5):
            start = NOON + timedelta(days=day, minutes=7 * each)
            zones = (["wine"], ["wine", "till"], [])[each % 3] if day == 1 or each % 3 != 1 else ["wine"]
            leaves, taken_s = each != 4, (60, 600, 900)[each % 3]
            write(
                store,
                come(SHOP, str(next(number)), start, taken_s, person=people[each % 4], zones=zones, leaves=leaves),
            )
    write(store, come(SHOP, str(next(number)), NOON, 1800, zones=["stock"], enters=False, leaves=False))
    app, asked = app_of(store), "from=2026-03-02&to=2026-03-08"
    screens = [f"/{name}?{asked}" for name in ("footfall", "zones", "journeys", "queues", "compare")]
    counted = from_visits(store)
    assert (counted["staff"], sum(counted["visits"]), counted["persons"][1]) == (1, 30, 4)
    shown = [re.sub(r'nonce[-="]+[^"]+"', "", ask(app, screen).text) for screen in screens]
    assert from_report(store) == from_api(app) == counted
    assert refresh(store, SHOP, now=SUNDAY) == 7
    assert from_report(store) == from_api(app) == counted
    app = app_of(store)  # which has kept no report
    assert [re.sub(r'nonce[-="]+[^"]+"', "", ask(app, screen).text) for screen in screens] == shown
    assert store.expire("shop", before=WEEK.end) == 31
    assert from_report(store) == from_api(app) == counted


def without(store, kind):
    """Figures as a version kept them that knew nothing of this kind."""
    with store.writing() as connection:
        connection.execute(delete(ROLLED_UP).where(ROLLED_UP.c.kind == kind))


def told(app, metric, key="value", asked="from=2026-03-02&to=2026-03-02"):
    return ask(app, f"/api/v1/metrics/{metric}?{asked}").json()[key]


def test_a_figure_that_came_after_the_visits_were_gone_is_not_known_and_never_0(store):
    write(store, come(SHOP, "1", NOON, 300), come(SHOP, "2", NOON + timedelta(minutes=5), 200))
    refresh(store, SHOP, now=SUNDAY)
    without(store, "through")
    app = app_of(store)
    assert told(app, "footfall")["entries_by_visits"]["value"] == 2  # the visits tell it still
    assert report.GONE not in told(app, "footfall", "notes")
    assert store.expire("shop", before=WEEK.end) == 2
    assert refresh(store, SHOP, now=SUNDAY) == 0
    app = app_of(store)
    value = told(app, "footfall")
    assert (value["entries"]["value"], value["entries_by_visits"], value["exits_by_visits"]) == (2, None, None)
    assert report.GONE in told(app, "footfall", "notes")
    assert told(app, "visits")["visits"]["value"] == 2
    found = report.report_of(store, SHOP, DAY, parts=analytics.hours, now=SUNDAY)
    totals = {total.name: total.value for total in found.totals}
    assert (totals["entries"].value, totals["visits"].value, totals["entries, by visits"]) == (2, 2, None)
    assert report.GONE in found.notes
    page = ask(app, "/footfall?from=2026-03-02&to=2026-03-02").text
    assert report.GONE in page
    later = "from=2026-03-03&to=2026-03-03"
    assert told(app, "footfall", asked=later)["entries_by_visits"] is None  # that day was kept before, too


def test_of_days_whose_visits_are_gone_whole_hours_are_known_and_parts_of_hours_are_not(store):
    write(
        store, come(SHOP, "1", NOON, 300, person="ann"), come(SHOP, "2", NOON + timedelta(hours=1), 300, person="ann")
    )
    refresh(store, SHOP, now=SUNDAY)
    whole, part = (f"from=2026-03-02T{at}&to=2026-03-02T16:00" for at in ("13:00", "13:01"))
    app, metrics = app_of(store), ("visits", "persons", "occupancy", "dwell", "paths", "groups", "queues")
    before = [told(app, metric, asked=whole) for metric in metrics]
    store.expire("shop", before=WEEK.end)
    app = app_of(store)
    assert [told(app, metric, asked=whole) for metric in metrics] == before
    assert (before[0]["visits"]["value"], before[1]["persons"]["value"]) == (2, 1)
    assert [told(app, metric, asked=part) for metric in metrics] == [None] * len(metrics)
    assert told(app, "footfall", asked=part)["entries"]["value"] == 1  # crossings stay
    rows = told(app, "visits", "rows", asked=f"{part}&group_by=hour")
    assert [row["value"] for row in rows] == [None] * 3
    period = Period(NOON + timedelta(minutes=1), NOON + timedelta(hours=3))
    found = report.report_of(store, SHOP, period, parts=analytics.hours, now=SUNDAY)
    assert (found.visits, found.persons, found.occupancy) == ([None] * 3,) * 3
    assert [each.entries.value for each in found.footfall] == [0, 1, 0]
    report.page_text(found)
    assert report.table(report.sheets(found)[1], "Europe/Paris")[0][4:8] == ["", "", "", ""]
