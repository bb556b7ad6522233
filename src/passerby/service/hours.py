"""What each hour of a site amounts to, from its visits and crossings, and how hours add up. No SQL, no clock.

An hour has a table of plain numbers for each kind of figure:

    doors   line: in, out
    through in, in_doubtful, out, out_doubtful (by visits, `analytics.through`)
    came    zone in which they dwelt ("" for all): visits, bounced, seconds (of each), again
    staff   visits, through_doors
    dwell   zone: visits, seconds (of each stay)
    ways    [cameras, zones] as JSON: how many visits went that way
    inside  person_s, most
    queues  zone: person_s, most, seconds (of each wait)
    groups  number of members: how many groups

Tables add up over hours that follow each other (`added`). `again` counts the visits of persons who had come before, by the hour
in which their visit before began, in seconds since 1970: so the persons of any time are its visits less those again since its
beginning. A visit belongs to the hour in which it began, a group to that of its first.
"""

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import groupby
from typing import Any, Literal
from zoneinfo import ZoneInfo

from passerby.service import analytics, kept
from passerby.service.analytics import AGAIN_S, LOST_S, Dwell, Footfall, Occupancy, Period, Queued, Spread
from passerby.service.store import StoreReader
from passerby.shop import Crossing
from passerby.site import Site
from passerby.types import Interval
from passerby.vision.visits import VisitRow

Sums = dict[str, Any]  # Any: numbers, seconds, and tables of them
ALL = ""  # no zone has this name
BOTH: tuple[Literal["in", "out"], ...] = ("in", "out")
DAY, LOST, AGAIN = timedelta(days=1), timedelta(seconds=LOST_S), timedelta(seconds=AGAIN_S)
DEFINED = 3  # counted up when a figure is defined anew, so that what was kept is made again


def door_cameras(site: Site) -> list[str]:
    """The cameras that watch a door; all of a site without doors."""
    found = [c.name for c in site.cameras if any(line.name in site.doors for line in site.lines_of(c))]
    return found or [camera.name for camera in site.cameras]


def staff_zones(site: Site) -> set[str]:
    """The zones where only staff is."""
    return {*site.staff_zones, *(queue.staff_zone for queue in site.queues if queue.staff_zone)}


def by_doors(site: Site) -> bool:
    """Whether who is inside is counted at the doors: where no camera sees the inside. Elsewhere visits tell it."""
    return set(door_cameras(site)) >= {camera.name for camera in site.cameras}


def of_crossings(site: Site, kind: str) -> bool:
    """Whether tables of a kind are made of crossings alone, which stay when visits are gone."""
    return kind == "doors" or (kind == "inside" and by_doors(site))


def settings_of(site: Site) -> dict[str, Any]:  # Any: what `settings_hash` takes
    """What of a site's file its figures follow from."""
    return {
        "defined": DEFINED,
        "time_zone": site.time_zone,
        "doors": sorted(site.doors),
        "door_cameras": door_cameras(site),
        "cameras": [camera.name for camera in site.cameras],
        "queues": [(queue.zone, queue.staff_zone) for queue in site.queues],
        "staff_zones": sorted(site.staff_zones),
        "hours": site.hours,
        "holidays": sorted(site.holidays),
    }


def hour_of(at: datetime, zone: ZoneInfo) -> datetime:
    """When the hour began, by the clock of `zone`.

    >>> from datetime import UTC
    >>> hour_of(datetime(2026, 3, 2, 10, 40, tzinfo=UTC), ZoneInfo("Asia/Kolkata")).isoformat()
    '2026-03-02T10:30:00+00:00'
    """
    local = at.astimezone(zone)
    return at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def added(tables: Iterable[Sums]) -> Sums:
    """The table of the whole time of some tables.

    >>> added([{"most": 3, "person_s": 5.0}, {"most": 2, "person_s": 1.0}])
    {'most': 3, 'person_s': 6.0}
    >>> added([{"wine": {"visits": 1, "seconds": [9]}}, {"wine": {"visits": 2, "seconds": [7, 8]}}])
    {'wine': {'visits': 3, 'seconds': [9, 7, 8]}}
    """
    found: Sums = {}
    within: dict[str, list[Sums]] = {}
    for table in tables:
        for name, value in table.items():
            if isinstance(value, dict):
                within.setdefault(name, []).append(value)
            elif isinstance(value, list):
                found.setdefault(name, []).extend(value)
            elif name == "most":
                found[name] = max(found.get(name, 0), value)
            else:
                found[name] = found.get(name, 0) + value
    return found | {name: added(values) for name, values in within.items()}


def coarse(table: Sums) -> Sums:
    """A table as it is kept: whole seconds, the durations in order of length, so that it tells no moment."""
    found: Sums = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found[name] = coarse(value)
        else:
            found[name] = sorted(map(round, value)) if isinstance(value, list) else round(value)
    return found


# What is read from tables


def passed(table: Sums, lines: Iterable[str], way: Literal["in", "out"]) -> int:
    """How many crossed these lines, one way.

    >>> passed({"front": {"in": 3, "out": 2}, "back": {"in": 1, "out": 0}}, ["front", "back", "none"], "in")
    4
    """
    return sum(table.get(line, {}).get(way, 0) for line in lines)


def footfall(table: Sums, doors: Iterable[str], period: Period) -> Footfall:
    """The entries and exits of doors in the whole period of a table."""
    entries, exits = (Interval(passed(table, doors, way)) for way in BOTH)
    return Footfall(period, entries, exits)


def passersby(table: Sums, lines: Iterable[str]) -> Interval:
    """How many passed the shop: the crossings of lines outside it, either way."""
    return Interval(sum(passed(table, lines, way) for way in BOTH))


def inside(table: Mapping[str, Any], period: Period) -> Occupancy:  # Any: as in Sums
    """How many people were inside, or in a queue, in the whole period of a table."""
    return Occupancy(period, Interval(table.get("person_s", 0.0) / period.seconds), Interval(table.get("most", 0)))


def spread(table: Mapping[str, Any]) -> Spread | None:  # Any: as in Sums
    """How long the visits, stays or waits of a table took."""
    return analytics.spread(table.get("seconds", ()))


def reentry(table: Mapping[str, Any], since: datetime) -> Interval | None:  # Any: as in Sums
    """Which share of visits were a person's second or later since then; None without visits. The table is as in `persons`."""
    return Interval(1 - persons(table, since) / table["visits"]) if table.get("visits") else None


def bounce(table: Mapping[str, Any]) -> Interval | None:  # Any: as in Sums
    """Which share of visits was short; None without visits."""
    return Interval(table["bounced"] / table["visits"]) if table.get("visits") else None


def persons(table: Mapping[str, Any], since: datetime) -> int:  # Any: as in Sums
    """How many different people the visits of a table were of, which holds all that began from `since` on to its end.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    >>> table = {"visits": 5, "again": {str(int(noon.timestamp())): 1, str(int(noon.timestamp()) - 3600): 1}}
    >>> persons(table, noon), persons(table, noon - timedelta(hours=1))
    (4, 3)
    """
    again: dict[str, int] = table.get("again", {})
    visits: int = table.get("visits", 0)
    return visits - sum(often for began, often in again.items() if int(began) >= since.timestamp())


def dwell(table: Sums) -> list[Dwell]:
    """The stays in each zone, in order of names."""
    each = [(zone, within, spread(within)) for zone, within in sorted(table.items())]
    return [Dwell(zone, Interval(within["visits"]), taken) for zone, within, taken in each if taken is not None]


def ways(table: Sums, *, by_zone: bool, within: str | None = None) -> "Counter[analytics.Way]":
    """How many visits took each way, by cameras or by zones; only those that dwelt `within` a zone."""
    found: Counter[analytics.Way] = Counter()
    for name, often in table.items():
        cameras, zones = json.loads(name)
        if within is None or within in zones:
            found[tuple(zones if by_zone else cameras)] += often
    return found


def queued(table: Sums, zone: str, period: Period) -> Queued:
    """A queue in the whole period of a table: how many people were in it, and how long those waited who joined it."""
    there = inside(table.get(zone, {}), period)
    return Queued(period, there.mean, there.most, spread(table.get(zone, {})))


def through(table: Sums, way: Literal["in", "out"]) -> Interval:
    """Entries or exits by visits.

    >>> [round(end, 1) for end in through({"in": 9, "in_doubtful": 4}, "in").as_dict().values()]
    [9, 7.4, 10.6]
    """
    return analytics.doubted(table.get(way, 0), table.get(f"{way}_doubtful", 0))


# What tables are made of


def without_staff(site: Site, rows: Iterable[VisitRow]) -> tuple[list[VisitRow], list[VisitRow]]:
    """The visits of shoppers, and those of the staff, in order of their beginning; each day is judged by itself."""
    zone, theirs = ZoneInfo(site.time_zone), set[str]()
    ordered = sorted(rows, key=lambda row: (analytics.began(row), row.visit))
    for day, those in groupby(ordered, key=lambda row: analytics.began(row).astimezone(zone).date()):
        openings = None
        if site.hours is not None:
            near = (analytics.midnight(day + days * DAY, zone) for days in (-1, 2))
            openings = [Period(*each) for each in site.openings(*near)]
        theirs |= analytics.staff(list(those), zone, zones=staff_zones(site), openings=openings)
    return [row for row in ordered if row.visit not in theirs], [row for row in ordered if row.visit in theirs]


class Known:
    """What a store knows of some `days` that follow each other, from which the tables of their hours are made.

    What they depend on of the time around is taken in: who was lost from sight shortly before midnight, who is seen again
    shortly after it, and the visits before of whoever comes again. Of a day that is not over at `now`, somebody who waits
    waits until now. Tables are made for times from `begin` on.
    """

    def __init__(
        self, store: StoreReader, site: Site, days: Sequence[Period], *, now: datetime, begin: datetime | None = None
    ) -> None:
        self._store, self._site, self._days, self._now = store, site, days, now
        self._zone, self._begin = ZoneInfo(site.time_zone), begin or days[0].start
        self._since, self._until = days[0].start, days[-1].end

    def tables(self, kind: str, cells: Sequence[Period]) -> list[Sums]:
        """The table of each of `cells`, which are hours of the days, or parts of them, in order."""
        return KINDS[kind](self, cells)

    @cached_property
    def _rows(self) -> tuple[list[VisitRow], list[VisitRow]]:
        """The visits of shoppers, and of the staff, in order of their beginning."""
        every = self._store.rows_with_earlier(
            self._site.name,
            doors=self._site.doors,
            since=self._since - LOST,
            until=self._until + AGAIN,
            again=self._now < self._until,  # today's are asked for all day long
        )
        return without_staff(self._site, every)

    @property
    def _shoppers(self) -> list[VisitRow]:
        return self._rows[0]

    def _through(self, rows: list[VisitRow]) -> list[VisitRow]:
        return analytics.through_doors(rows) if self._site.doors else rows

    @cached_property
    def _crossings(self) -> list[Crossing]:
        return self._store.crossings(self._site.name, since=self._since, until=self._until)

    @cached_property
    def _crossings_before(self) -> list[Crossing]:
        return self._store.crossings(self._site.name, since=self._since - DAY, until=self._since)

    @cached_property
    def _closings(self) -> list[datetime]:
        since, until = self._since - DAY, self._until
        stored = kept.closings(self._store, self._site.name, since=since, until=until)
        return sorted({*self._site.closings(since, until), *(each.at for each in stored)})

    def _begun(self, rows: Iterable[VisitRow], cells: Sequence[Period]) -> Iterator[tuple[int, VisitRow]]:
        """The visits that began in a cell, each with the cell's place."""
        starts = [cell.start for cell in cells]
        for row in rows:
            place = bisect_right(starts, analytics.began(row)) - 1
            if place >= 0 and analytics.began(row) in cells[place]:
                yield place, row

    def _doors(self, cells: Sequence[Period]) -> list[Sums]:
        found: list[Sums] = [{} for _ in cells]
        starts = [cell.start for cell in cells]
        for crossing in self._crossings:
            place = bisect_right(starts, crossing.at) - 1
            if place >= 0 and crossing.at in cells[place]:
                found[place].setdefault(crossing.line, {"in": 0, "out": 0})["in" if crossing.inwards else "out"] += 1
        return found

    def _by_visits(self, cells: Sequence[Period]) -> list[Sums]:
        if not self._site.doors:
            return [{} for _ in cells]
        found: list[Sums] = []
        for came_in, went_out in analytics.counted_through(self._shoppers, cells):
            each = zip(("in", "in_doubtful", "out", "out_doubtful"), (*came_in, *went_out), strict=True)
            found.append({name: count for name, count in each if count})
        return found

    def _came(self, cells: Sequence[Period]) -> list[Sums]:
        found: list[Sums] = [{} for _ in cells]
        came = self._through(self._shoppers)
        places = {row.visit: place for place, row in self._begun(came, cells)}
        names, last = self._names(came), dict[tuple[str, tuple[date | None, str]], datetime]()
        for row in came:
            place, began, taken_s = places.get(row.visit), analytics.began(row), analytics.duration_s(row)
            for zone in (ALL, *sorted(set(analytics.by_zone(row)))):
                before = max((last[zone, name] for name in names[row.visit] if (zone, name) in last), default=None)
                last |= {(zone, name): began for name in names[row.visit]}
                if place is None:
                    continue
                empty = {"visits": 0, "bounced": 0, "seconds": [], "again": {}}
                table = found[place].setdefault(zone, empty)
                table["visits"] += 1
                table["bounced"] += taken_s < analytics.BOUNCE_S
                table["seconds"].append(taken_s)
                if before is not None:
                    hour = hour_of(before, self._zone)
                    name = str(int((max(hour, self._begin) if before >= self._begin else hour).timestamp()))
                    table["again"][name] = table["again"].get(name, 0) + 1
        return found

    def _names(self, came: Sequence[VisitRow]) -> dict[str, list[tuple[date | None, str]]]:
        """By which names each visit's person is known: as they were linked, and on its day where it is a piece of another."""
        found: dict[str, list[tuple[date | None, str]]] = {
            row.visit: [(None, row.person)] if row.person is not None else [] for row in came
        }
        if self._site.doors:
            for day, rows in groupby(came, key=lambda row: analytics.began(row).astimezone(self._zone).date()):
                for row in analytics.as_one(list(rows)):
                    if row.person is not None:
                        found[row.visit].append((day, row.person))
        return found

    def _of_staff(self, cells: Sequence[Period]) -> list[Sums]:
        found: list[Sums] = [{} for _ in cells]
        staff = self._rows[1]
        for name, rows in (("visits", staff), ("through_doors", self._through(staff))):
            for place, _ in self._begun(rows, cells):
                found[place][name] = found[place].get(name, 0) + 1
        return found

    def _dwell(self, cells: Sequence[Period]) -> list[Sums]:
        rows: list[list[VisitRow]] = [[] for _ in cells]
        for place, row in self._begun(self._shoppers, cells):
            rows[place].append(row)
        found: list[Sums] = []
        for each in rows:
            found.append({})
            for row in each:
                stays = list(analytics.dwelt(row))
                for zone, seconds in stays:
                    table = found[-1].setdefault(zone, {"visits": 0, "seconds": []})
                    table["seconds"].append(seconds)
                for zone in {zone for zone, _ in stays}:
                    found[-1][zone]["visits"] += 1
        return found

    def _ways(self, cells: Sequence[Period]) -> list[Sums]:
        found: list[Counter[str]] = [Counter() for _ in cells]
        for place, row in self._begun(self._shoppers, cells):
            found[place][json.dumps([row.cameras, analytics.by_zone(row)])] += 1
        return [dict(each) for each in found]

    def _inside(self, cells: Sequence[Period]) -> list[Sums]:
        found: list[Sums] = []
        for day in self._days:
            mine = [cell for cell in cells if cell.start in day]
            found += _measured(analytics.occupied(self._steps(day), mine)) if mine else []
        return found

    def _steps(self, day: Period) -> list[analytics.Step]:
        """How many are inside: by the visits where a camera sees the inside, by the doors where none does."""
        closings = [at for at in self._closings if day.start - DAY < at <= day.end]
        if by_doors(self._site):
            since = max((at for at in closings if at <= day.start), default=day.start)
            crossings = [each for each in (*self._crossings_before, *self._crossings) if since <= each.at < day.end]
            return analytics.occupancy(crossings, doors=self._site.doors, closings=closings)
        near = [row for row in self._shoppers if row.end >= day.start - LOST and row.start < day.end]
        return analytics.inside(near, closings=closings)

    def _queues(self, cells: Sequence[Period]) -> list[Sums]:
        found: list[Sums] = [{} for _ in cells]
        today = self._now < self._until
        still = [row for row in self._shoppers if today and row.end >= self._days[-1].start]
        over = [row for row in self._shoppers if not (today and row.end >= self._days[-1].start)]
        for queue in self._site.queues:
            waits = [*analytics.waits(over, queue.zone), *analytics.waits(still, queue.zone, now=self._now)]
            lengths = _measured(analytics.occupied(analytics.in_queue(waits), cells))
            for place, length in enumerate(lengths):
                if length:
                    found[place][queue.zone] = length | {"seconds": []}
            starts = [cell.start for cell in cells]
            for wait in sorted(waits, key=lambda wait: wait.start):
                place = bisect_right(starts, wait.start) - 1
                if place >= 0 and wait.start in cells[place]:
                    table = found[place].setdefault(queue.zone, {"person_s": 0.0, "most": 0, "seconds": []})
                    table["seconds"].append(wait.seconds)
        return found

    def _groups(self, cells: Sequence[Period]) -> list[Sums]:
        found: list[Counter[str]] = [Counter() for _ in cells]
        for day in self._days:
            for group in analytics.groups(self._shoppers, day):
                first = min(group, key=analytics.began)
                for place, _ in self._begun([first], cells):
                    found[place][str(len(group))] += 1
        return [dict(each) for each in found]


def _measured(found: Iterable[analytics.Occupancy]) -> list[Sums]:
    return [
        {"person_s": each.mean.value * each.period.seconds, "most": int(each.most.value)} if each.most.value else {}
        for each in found
    ]


KINDS: dict[str, Callable[[Known, Sequence[Period]], list[Sums]]] = {
    "doors": Known._doors,
    "through": Known._by_visits,
    "came": Known._came,
    "staff": Known._of_staff,
    "dwell": Known._dwell,
    "ways": Known._ways,
    "inside": Known._inside,
    "queues": Known._queues,
    "groups": Known._groups,
}
