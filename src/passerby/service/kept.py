"""What stands beside people in the store: gaps, queues, audits, counts from elsewhere, sales, draws, closings; SQL for it.

Whatever is put twice is there once: the later record of one key replaces the earlier one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from sqlalchemy import ColumnElement, Table, bindparam, delete, func, insert, or_, select

from passerby.service.schema import (
    AUDITS,
    CAMERAS,
    CLOSINGS,
    COUNTS,
    CROSSINGS,
    DRAWS,
    GAPS,
    QUEUE_EVENTS,
    SALES,
    SITES,
)
from passerby.service.store import Store, StoreReader
from passerby.types import StoreError
from passerby.vision.window import Drawn

GapKind = Literal["down", "degraded", "moved", "disk full", "closed"]


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which a camera saw nothing, or nothing that counts; `end` is None while it lasts."""

    camera: str
    start: datetime
    end: datetime | None
    kind: GapKind
    reason: str

    def __post_init__(self) -> None:
        _check(f"gap of {self.camera}", self.start, self.end)


@dataclass(frozen=True, slots=True)
class QueueEvent:
    """A time in which a queue was too "long" (`most` people) or too "slow" (`most` seconds); no end while it lasts."""

    zone: str
    start: datetime
    end: datetime | None
    kind: Literal["long", "slow"]
    most: float

    def __post_init__(self) -> None:
        _check(f"queue event in {self.zone}", self.start, self.end)


@dataclass(frozen=True, slots=True)
class Audit:
    """What a person counted at a line from `start` to before `end`.

    `place` is a hash of the line as it was drawn then ("" where it is unknown), `by` who counted.
    """

    line: str
    start: datetime
    end: datetime
    entries: int
    exits: int
    place: str = ""
    by: str = ""

    def __post_init__(self) -> None:
        _check(f"audit of {self.line}", self.start, self.end)
        _check_counts(f"audit of {self.line}", self.entries, self.exits)


@dataclass(frozen=True, slots=True)
class Audited:
    """An audit of a site, beside the entries and exits that its line counted meanwhile."""

    site: str
    audit: Audit
    entries: int
    exits: int


@dataclass(frozen=True, slots=True)
class Counted:
    """A count at a line from `start` to before `end` that came from elsewhere; `exits` is None where it has no direction."""

    line: str
    start: datetime
    end: datetime
    entries: int
    exits: int | None = None

    def __post_init__(self) -> None:
        _check(f"count at {self.line}", self.start, self.end)
        _check_counts(f"count at {self.line}", self.entries, self.exits or 0)


@dataclass(frozen=True, slots=True)
class Sales:
    """How many sales a till counted from `start` to before `end`."""

    start: datetime
    end: datetime
    sales: int
    till: str = ""

    def __post_init__(self) -> None:
        _check(f"sales of till {self.till!r}", self.start, self.end)
        _check_counts(f"sales of till {self.till!r}", self.sales)


@dataclass(frozen=True, slots=True)
class Closing:
    """A site closed, with so many thought to be `inside`: from then on nobody is."""

    at: datetime
    inside: int


def put_gaps(store: Store, site: str, gaps: Sequence[Gap]) -> None:
    """Keep gaps, by camera and start; a later one with an end closes it, one without never opens it again."""
    with store.writing() as connection:
        number = store.site_number(connection, site)
        chosen = [GAPS.c.site_id == number, GAPS.c.start.in_({gap.start for gap in gaps})]
        ends = {(row.camera, row.start): row.end for row in connection.execute(select(GAPS).where(*chosen))}
        rows = []
        for gap in gaps:
            end = ends[gap.camera, gap.start] = gap.end or ends.get((gap.camera, gap.start))
            rows.append({**_fields(gap, "camera", "start", "kind", "reason"), "end": end})
        _put(connection, GAPS, number, rows)


def gaps(reader: StoreReader, site: str, *, since: datetime | None = None, until: datetime | None = None) -> list[Gap]:
    """The gaps that touch the time from `since` to before `until`, in order of start and camera."""
    return [Gap(*row) for row in _get(reader, GAPS, site, since, until, "camera", "start", "end", "kind", "reason")]


def put_queue_events(store: Store, site: str, events: Sequence[QueueEvent]) -> None:
    """Keep what happened at queues, by zone, start and kind."""
    with store.writing() as connection:
        rows = [_fields(each, "zone", "start", "end", "kind", "most") for each in events]
        _put(connection, QUEUE_EVENTS, store.site_number(connection, site), rows)


def queue_events(
    reader: StoreReader, site: str, *, since: datetime | None = None, until: datetime | None = None
) -> list[QueueEvent]:
    """What happened at queues and touches the time from `since` to before `until`."""
    columns = ("zone", "start", "end", "kind", "most")
    return [QueueEvent(*row) for row in _get(reader, QUEUE_EVENTS, site, since, until, *columns)]


def put_audits(store: Store, site: str, audits: Sequence[Audit]) -> None:
    """Keep what people counted, by line and start."""
    with store.writing() as connection:
        rows = [_fields(each, "line", "start", "end", "entries", "exits", "place", "by") for each in audits]
        _put(connection, AUDITS, store.site_number(connection, site), rows)


def audits(
    reader: StoreReader, site: str, *, since: datetime | None = None, until: datetime | None = None
) -> list[Audit]:
    """The audits that touch the time from `since` to before `until`."""
    columns = ("line", "start", "end", "entries", "exits", "place", "by")
    return [Audit(*row) for row in _get(reader, AUDITS, site, since, until, *columns)]


def audited(
    reader: StoreReader, site: str | None = None, *, since: datetime | None = None, until: datetime | None = None
) -> list[Audited]:
    """The audits of a site, or of all sites, that touch the time from `since` to before `until`.

    They are in order of site, line and time.
    """
    chosen = [] if site is None else [SITES.c.name == site]
    chosen += [] if since is None else [AUDITS.c.end > since]
    chosen += [] if until is None else [AUDITS.c.start < until]
    entries, exits = (
        select(func.count())
        .select_from(CROSSINGS.join(CAMERAS, CAMERAS.c.id == CROSSINGS.c.camera_id))
        .where(CAMERAS.c.site_id == AUDITS.c.site_id, CROSSINGS.c.line == AUDITS.c.line)
        .where(CROSSINGS.c.at >= AUDITS.c.start, CROSSINGS.c.at < AUDITS.c.end, CROSSINGS.c.inwards.is_(inwards))
        .scalar_subquery()
        for inwards in (True, False)
    )
    columns = (AUDITS.c[name] for name in ("line", "start", "end", "entries", "exits", "place", "by"))
    asked = select(SITES.c.name, entries, exits, *columns).join(SITES, SITES.c.id == AUDITS.c.site_id).where(*chosen)
    with reader.reading() as connection:
        rows = connection.execute(asked.order_by(SITES.c.name, AUDITS.c.line, AUDITS.c.start)).all()
    return [Audited(name, Audit(*audit), came, went) for name, came, went, *audit in rows]


def put_counts(store: Store, site: str, counts: Sequence[Counted]) -> int:
    """Keep counts that came from elsewhere, by line and start; returns how many of them were not there yet."""
    return _put_new(store, COUNTS, site, [_fields(c, "line", "start", "end", "entries", "exits") for c in counts])


def counts(
    reader: StoreReader, site: str, *, since: datetime | None = None, until: datetime | None = None
) -> list[Counted]:
    """The counts from elsewhere that touch the time from `since` to before `until`."""
    return [
        Counted(*row) for row in _get(reader, COUNTS, site, since, until, "line", "start", "end", "entries", "exits")
    ]


def put_sales(store: Store, site: str, sales: Sequence[Sales]) -> int:
    """Keep what tills counted, by till and start; returns how many of them were not there yet."""
    return _put_new(store, SALES, site, [_fields(each, "till", "start", "end", "sales") for each in sales])


def sales(
    reader: StoreReader, site: str, *, since: datetime | None = None, until: datetime | None = None
) -> list[Sales]:
    """The sales that touch the time from `since` to before `until`."""
    return [Sales(*row) for row in _get(reader, SALES, site, since, until, "start", "end", "sales", "till")]


def put_draws(store: Store, site: str, draws: Sequence[Drawn]) -> None:
    """Keep draws of counts, by length, what is counted, and start; one without values takes out what there was."""
    with store.writing() as connection:
        rows = [
            {**_fields(each, "start", "length", "what"), "values": each.values.astype("<i8").tobytes()}
            for each in draws
        ]
        _put(connection, DRAWS, store.site_number(connection, site), rows)


def draws(
    reader: StoreReader, site: str, *, since: datetime | None = None, until: datetime | None = None
) -> list[Drawn]:
    """The draws of counts that begin from `since` to before `until`, in order of start."""
    found = _get(reader, DRAWS, site, since, until, "start", "length", "what", "values")
    return [
        Drawn(start, length, what, np.frombuffer(values, "<i8").astype(np.int64))
        for start, length, what, values in found
        if len(values)
    ]


def put_closings(store: Store, site: str, closings: Sequence[Closing]) -> None:
    """Keep when a site closed."""
    with store.writing() as connection:
        rows, number = [_fields(each, "at", "inside") for each in closings], store.site_number(connection, site)
        _put(connection, CLOSINGS, number, rows)
        store.unroll(number, [(each.at, each.at) for each in closings])


def closings(
    reader: StoreReader, site: str, *, since: datetime | None = None, until: datetime | None = None
) -> list[Closing]:
    """When a site closed, from `since` to before `until`."""
    return [Closing(*row) for row in _get(reader, CLOSINGS, site, since, until, "at", "inside")]


def _fields(record: Any, *names: str) -> dict[str, Any]:  # Any: a record of this room, and its columns
    return {name: getattr(record, name) for name in names}


def _put(connection: Any, table: Table, site: int, rows: Iterable[dict[str, Any]]) -> int:  # Any: columns
    """Put rows in place of those with their keys, the last of each; returns how many were not there yet."""
    keys = [column.name for column in table.primary_key if column.name != "site_id"]
    newest = {tuple(row[key] for key in keys): {**row, "site_id": site} for row in rows}
    if not newest:
        return 0
    same = [table.c.site_id == site, *(table.c[key] == bindparam(f"old_{key}") for key in keys)]
    olds = [{f"old_{key}": value for key, value in zip(keys, row, strict=True)} for row in newest]
    gone = connection.execute(delete(table).where(*same), olds).rowcount
    connection.execute(insert(table), list(newest.values()))
    return len(newest) - max(0, int(gone))


def _put_new(store: Store, table: Table, site: str, rows: Sequence[dict[str, Any]]) -> int:  # Any: columns
    with store.writing() as connection:
        return _put(connection, table, store.site_number(connection, site), rows)


def _get(
    reader: StoreReader, table: Table, site: str, since: datetime | None, until: datetime | None, *columns: str
) -> list[Any]:  # Any: rows of the columns asked for
    """Rows that touch a time, in order of start and key; where there is an end, one that lies at `since` is over."""
    start = table.c["at" if "at" in table.c else "start"]
    chosen: list[ColumnElement[bool]] = []
    if since is not None:
        chosen.append(or_(table.c.end.is_(None), table.c.end > since) if "end" in table.c else start >= since)
    if until is not None:
        chosen.append(start < until)
    with reader.reading() as connection:
        asked = select(*(table.c[name] for name in columns)).where(
            table.c.site_id == reader.site_number(connection, site), *chosen
        )
        return list(connection.execute(asked.order_by(start, *table.primary_key)).all())


def _check(what: str, start: datetime, end: datetime | None) -> None:
    if start.tzinfo is None or (end is not None and not start < end):
        raise StoreError(f"{what}: expected a start with its zone, before its end, got {start} to {end}")


def _check_counts(what: str, *counts: int) -> None:
    if min(counts) < 0:
        raise StoreError(f"{what}: expected counts from 0, got {', '.join(map(str, counts))}")
