"""Figures by the hour as a store keeps them: made for each day that is over, and anew when it changes; SQL for it."""

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from zoneinfo import ZoneInfo

from sqlalchemy import delete, func, insert, or_, select

from passerby.files import settings_hash
from passerby.service import analytics, released
from passerby.service.analytics import Period
from passerby.service.hours import ALL, KINDS, LOST, Known, Sums, added, coarse, hour_of, of_crossings, settings_of
from passerby.service.schema import CROSSINGS, ROLLED_UP
from passerby.service.store import Store, StoreReader
from passerby.site import Site

DAY, MOMENT = timedelta(days=1), timedelta(microseconds=1)
TOLD = 30  # days, after which it is told how many are made


class Hours:
    """The figures of a period by its hours: those that are kept, and for the rest what visits and crossings say.

    Parts of the period that are asked for begin and end with hours of the site's clock, or with the period. Of a day whose
    visits are gone only what is kept is known: whole hours, and those kinds that there were when it was over. With `told`, of
    personal detail there is only what may be told (`released.py`); all of it where k is 1.
    """

    def __init__(self, store: StoreReader, site: Site, period: Period, *, now: datetime, told: bool = False) -> None:
        self._store, self._site, self.period, self._now = store, site, period, now
        self._told = told and site.k > 1
        self._zone = ZoneInfo(site.time_zone)
        first, last = (at.astimezone(self._zone).date() for at in (period.start, period.end - MOMENT))
        whole = Period(analytics.midnight(first, self._zone), analytics.midnight(last + DAY, self._zone))
        self._days = analytics.days(whole, self._zone)
        self._cells = [
            Period(max(hour.start, period.start), min(hour.end, period.end))
            for day in self._days
            for hour in _hours(day, self._zone)
            if hour.start < period.end and hour.end > period.start
        ]
        self._starts = [cell.start for cell in self._cells]
        self._tables: dict[str, list[Sums]] = {}
        self._unknown: dict[str, list[Period]] = {}  # days, by kind
        self._known: dict[tuple[datetime, datetime], Known] = {}  # by the time of their days

    def of(self, kind: str, period: Period) -> Sums:
        """The table of a part of the period, or of all of it; `hours.py` says what it holds. Empty where it is not `known`."""
        if self._told and kind in released.OF_ALL:
            return added(released.told(self._store, self._site, kind, period))
        return added(self._within(kind, period)) if self.known([kind], period) else {}

    def came(self, period: Period, zone: str | None = None) -> Sums:
        """What `of` has of those who came, of all or of those who dwelt in a zone; of the others nothing is added up."""
        if self._told and zone:
            return added(table.get(zone, {}) for table in released.told(self._store, self._site, "came", period))
        tables = self._within("came", period) if self.known(["came"], period) else []
        return added(table.get(zone or ALL, {}) for table in tables)

    def known(self, kinds: Iterable[str], period: Period) -> bool:
        """Whether tables of these kinds are known of all of a part of the period; what may be told always is."""
        kinds = [kind for kind in kinds if not (self._told and kind in released.OF_ALL)]
        return not any(day.start < period.end and period.start < day.end for kind in kinds for day in self._gone(kind))

    def _gone(self, kind: str) -> list[Period]:
        self._within(kind, self.period)
        return self._unknown[kind]

    def _within(self, kind: str, period: Period) -> list[Sums]:
        if kind not in self._tables:
            self._tables[kind], self._unknown[kind] = self._read(kind)
        first, last = (bisect_left(self._starts, at) for at in (period.start, period.end))
        return self._tables[kind][first:last]

    def _read(self, kind: str) -> tuple[list[Sums], list[Period]]:
        """The tables of the period's hours, and the days of which they are not known."""
        there = read(self._store, self._site, kind, since=self._days[0].start, until=self._days[-1].end)
        found: dict[datetime, Sums] = {}
        if kind == "came" and hour_of(self.period.start, self._zone) != self.period.start:
            there = {}  # whose visit before began in the hour in which the period begins, cannot be told from hours
        missing: list[Period] = []
        unknown: list[Period] = []
        for day in self._days:
            hours = _hours(day, self._zone)
            tables = there.get(day.start, [])
            whole = dict(zip(hours, tables, strict=True)) if len(tables) == len(hours) else {}
            mine = self._of(day)
            if all(cell in whole for cell in mine):
                found |= {cell.start: whole[cell] for cell in mine}
            elif day.start in self._frozen and not of_crossings(self._site, kind):
                unknown.append(day)
            else:
                missing.append(day)
        for run in _runs(missing):
            cells = [cell for day in run for cell in self._of(day)]
            found |= zip([cell.start for cell in cells], self._from_rows(run).tables(kind, cells), strict=True)
        return [found.get(cell.start, {}) for cell in self._cells], unknown

    @cached_property
    def _frozen(self) -> set[datetime]:
        """The beginnings of the days whose visits are gone."""
        with self._store.reading() as connection:
            asked = select(ROLLED_UP.c.day).where(
                ROLLED_UP.c.site_id == self._store.site_number(connection, self._site.name),
                ROLLED_UP.c.frozen,
                ROLLED_UP.c.day >= self._days[0].start,
                ROLLED_UP.c.day < self._days[-1].end,
            )
            return set(connection.execute(asked.distinct()).scalars())

    def _of(self, day: Period) -> list[Period]:
        """The hours of the period that are of a day."""
        first, last = (bisect_left(self._starts, at) for at in (day.start, day.end))
        return self._cells[first:last]

    def _from_rows(self, run: Sequence[Period]) -> Known:
        key = run[0].start, run[-1].end
        if key not in self._known:
            self._known[key] = Known(self._store, self._site, run, now=self._now, begin=self.period.start)
        return self._known[key]


@lru_cache(maxsize=4096)
def _hours(day: Period, zone: ZoneInfo) -> list[Period]:
    """The hours of a whole day; days are asked for again and again."""
    return analytics.hours(day, zone)


def read(reader: StoreReader, site: Site, kind: str, *, since: datetime, until: datetime) -> dict[datetime, list[Sums]]:
    """The tables of one kind that are kept of the hours of days from `since` to before `until`, by the beginning of the day."""
    with reader.reading() as connection:
        asked = select(ROLLED_UP.c.day, ROLLED_UP.c.hours).where(
            ROLLED_UP.c.site_id == reader.site_number(connection, site.name),
            ROLLED_UP.c.kind == kind,
            ROLLED_UP.c.day >= since,
            ROLLED_UP.c.day < until,
            or_(ROLLED_UP.c.settings == settings_hash(settings_of(site)), ROLLED_UP.c.frozen),
        )
        return {day: json.loads(hours) for day, hours in connection.execute(asked)}


def missing(store: StoreReader, site: Site, *, now: datetime) -> list[Period]:
    """The days that are over since the first of which anything is known, and of which no figures are kept."""
    zone, span = ZoneInfo(site.time_zone), store.span(site.name)
    with store.reading() as connection:
        number = store.site_number(connection, site.name)
        firsts = [
            connection.execute(select(func.min(CROSSINGS.c.at)).where(CROSSINGS.c.camera_id == camera)).scalar()
            for camera in store.cameras(connection, site.name)
        ]
        there = select(ROLLED_UP.c.day).where(
            ROLLED_UP.c.site_id == number,
            or_(ROLLED_UP.c.settings == settings_hash(settings_of(site)), ROLLED_UP.c.frozen),
        )
        kept = set(connection.execute(there.distinct()).scalars())
    first = min((at for at in (*firsts, span and span[0]) if at is not None), default=None)
    if first is None or first >= now:
        return []
    whole = Period(analytics.midnight(first.astimezone(zone).date(), zone), now)
    return [day for day in analytics.days(whole, zone)[:-1] if day.end + LOST <= now and day.start not in kept]


def refresh(store: Store, site: Site, *, now: datetime, tell: Callable[[str], None] = lambda line: None) -> int:
    """Make the figures of the days that are over and changed, or came, since; returns how many days.

    Each day is kept whole or not at all, and only if nothing of it changed while it was made. Nothing waits for it. What may be
    told of the days' personal detail is kept, too (`released.release`).
    """
    released.release(store, site, now=now)
    days, zone = missing(store, site, now=now), ZoneInfo(site.time_zone)
    settings, made = settings_hash(settings_of(site)), 0
    for place, day in enumerate(days):
        with store.writing() as connection:
            number = store.site_number(connection, site.name)
            store.rolled[number] = store.rolled.get(number, set()) | {day.start}
        known, hours = Known(store, site, [day], now=now), analytics.hours(day, zone)
        rows = [
            {
                "site_id": number,
                "kind": kind,
                "day": day.start,
                "settings": settings,
                "frozen": False,
                "hours": json.dumps([coarse(table) for table in known.tables(kind, hours)], separators=(",", ":")),
            }
            for kind in KINDS
        ]
        with store.writing() as connection:
            if day.start in store.rolled.get(number, ()):
                old = (ROLLED_UP.c.site_id == number, ROLLED_UP.c.day == day.start, ROLLED_UP.c.frozen.is_(False))
                connection.execute(delete(ROLLED_UP).where(*old))
                connection.execute(insert(ROLLED_UP), rows)
                made += 1
        if len(days) > 1 and (place + 1 == len(days) or (place + 1) % TOLD == 0):
            tell(f"{site.name}: figures of {place + 1} of {len(days)} days are kept by the hour")
    return made


def _runs(days: Sequence[Period]) -> list[list[Period]]:
    """Days, those together that follow each other."""
    found: list[list[Period]] = []
    for day in days:
        if found and found[-1][-1].end == day.start:
            found[-1].append(day)
        else:
            found.append([day])
    return found
