"""What is known of sites, in SQLite or PostgreSQL; the only SQL. It keeps the newest revisions, and no embedding."""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    Engine,
    NullPool,
    Table,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    inspect,
    make_url,
    select,
    text,
    true,
)
from sqlalchemy.exc import ArgumentError, DBAPIError

from passerby.files import whole
from passerby.service import erasure
from passerby.service.schema import (
    CAMERAS,
    CROSSINGS,
    EPOCH,
    ERASED,
    LINKS,
    MEMBERS,
    ROLLED_UP,
    SIGHTINGS,
    SITES,
    STAYS,
    TRACKS,
    VISITS,
)
from passerby.shop import Crossing, Link, Sighting, SightingKey, Stay, Visit, Walk
from passerby.site import Site
from passerby.types import StoreError
from passerby.vision.visits import VisitRow, passages, visit_row

MIGRATIONS = Path(__file__).with_name("migrations")
DAY, LONGEST_DAY = timedelta(days=1), timedelta(hours=26)
LEFT = timedelta(days=3)  # a visit may be revised for a re-entry window of a day at most
CHUNK = 5000  # ids in one question
WAIT_S = 10.0  # for another process that writes, in SQLite
OWNER = 7066155  # the lock of PostgreSQL that a store's writer holds
HINTS = {  # what a database says, and what to do about it
    "disk is full": "make room; what was acknowledged is kept",
    "disk I/O error": "the disk is full, broken, or gone; what was acknowledged is kept",
    "readonly": "the file or its folder may not be written to",
    "read-only": "the file or its folder may not be written to",
    "is locked": "another program holds it; only `passerby` may write to it",
    "unable to open": "the file, or its folder, may not be read and written to",
    "malformed": "the file is damaged; `passerby restore` takes a backup in",
    "not a database": "give a store's file, or the URL of a PostgreSQL database",
}
K = TypeVar("K")
R = TypeVar("R", Sighting, Link, Visit)
Made = tuple[tuple[Any, ...], VisitRow]  # a row, and of which revisions it was made; Any: of a database row
NO_VECTORS = np.zeros((0, 0), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)


class Erased(NamedTuple):
    """What was removed: the visits, those that they had absorbed too, and their sightings.

    `others` are visits of the same person that are still there. `copies` are the backups that were cleaned as well, `missing`
    those that are no longer where they were written.
    """

    visits: tuple[str, ...]
    sightings: tuple[SightingKey, ...]
    others: tuple[str, ...] = ()
    copies: tuple[Path, ...] = ()
    missing: tuple[Path, ...] = ()


class Span(NamedTuple):
    """From when to when something was, at a site, and whose it was where that is known."""

    site: int
    start: datetime
    end: datetime
    person: str | None


class Written(NamedTuple):
    """How many records of a batch were new, or newer than what was known."""

    sightings: int
    links: int
    visits: int


class Story(NamedTuple):
    """What is known of one sighting.

    `sighting` is None where only a link or a visit speaks of it; `link` is the newest to an earlier one, also one that was
    taken back; `visit` holds it now, and has `absorbed` others.
    """

    sighting: Sighting | None
    link: Link | None
    visit: Visit | None
    absorbed: tuple[str, ...]


class StoreReader:
    """Reads a store while another process may write to it: what was acknowledged when the question was asked.

    `url` is a file (SQLite) or the URL of a PostgreSQL database, "postgresql://user@host/name". Times that come out are in UTC.
    `tell` hears of migrations. Raises StoreError where there is no store, or where it was written by a newer passerby.
    """

    def __init__(self, url: str | Path, *, tell: Callable[[str], None] = lambda line: None) -> None:
        self._url, self._closing = _address(url), ExitStack()
        self._made: dict[tuple[str, tuple[str, ...]], dict[int, Made]] = {}  # see `rows_with_earlier`
        self.name = _shown(self._url)
        nothing = f"{self.name}: there is no store; `passerby import-visits` and `follow --store` make one"
        if self._file is not None and not self._file.is_file():
            raise StoreError(nothing)
        with ExitStack() as failing, self._said():
            failing.callback(self._closing.close)
            self._engine = self._opened(self._url, pragmas=("query_only=ON",), begin="BEGIN")
            with self.reading() as connection:
                state = self._state(connection)
            if state == "empty":
                raise StoreError(nothing)
            failing.pop_all()
        if state == "older":
            Store(url, tell=tell).close()

    @property
    def _file(self) -> Path | None:
        """The file of a store in SQLite."""
        return Path(self._url.database or "") if self._url.get_backend_name() == "sqlite" else None

    def _opened(self, url: URL, *, pragmas: Sequence[str], begin: str, **pool: Any) -> Engine:  # Any: SQLAlchemy's
        """An engine; SQLite's driver begins transactions late or never, so they are begun here."""
        try:
            engine = create_engine(url, **pool)
        except ModuleNotFoundError as error:
            raise StoreError(f'{self.name}: needs {error.name}: pip install "passerby[cluster]"') from None
        self._closing.callback(engine.dispose)
        if self._file is not None:

            @event.listens_for(engine, "connect")
            def connected(connection: Any, record: Any) -> None:  # Any: sqlite3's and SQLAlchemy's
                connection.isolation_level = None
                for pragma in (f"busy_timeout={WAIT_S * 1000:.0f}", *pragmas):
                    connection.execute(f"PRAGMA {pragma}")

            @event.listens_for(engine, "begin")
            def begun(connection: Connection) -> None:
                connection.exec_driver_sql(begin)

        return engine

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Say in one line what the database has against it."""
        try:
            yield
        except DBAPIError as error:
            said = " ".join(str(error.orig).split())
            hint = next((hint for part, hint in HINTS.items() if part in said), None)
            raise StoreError(f"{self.name}: {said}" + (f"; {hint}" if hint else "")) from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the store, whatever is written meanwhile."""
        with self._said(), self._engine.connect() as connection:
            if self._file is None:
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    def _state(self, connection: Connection) -> str:
        """Whether a database is "empty", a store of an "older" version, or "current"; others are refused."""
        tables = set(inspect(connection).get_table_names())
        if not tables:
            return "empty"
        if "alembic_version" not in tables or SITES.name not in tables:
            raise StoreError(f"{self.name}: expected a store or nothing, got other tables: {', '.join(sorted(tables))}")
        (version,) = connection.execute(text("SELECT version_num FROM alembic_version")).scalars()
        known = _migrations()
        if version == known.get_current_head():
            return "current"
        if version in {script.revision for script in known.walk_revisions()}:
            return "older"
        raise StoreError(
            f"{self.name}: it is of version {version}, written by a newer passerby; this one knows up to version "
            f"{known.get_current_head()}: update passerby, or give another store"
        )

    def close(self) -> None:
        """Close all connections."""
        with self._said():
            self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def sites(self) -> dict[str, tuple[str, list[str]]]:
        """Each site's time zone and cameras, by its name."""
        cameras = select(SITES.c.name, SITES.c.time_zone, CAMERAS.c.name.label("camera")).join(CAMERAS, isouter=True)
        found: dict[str, tuple[str, list[str]]] = {}
        with self.reading() as connection:
            for name, time_zone, camera in connection.execute(cameras.order_by(SITES.c.name, CAMERAS.c.name)):
                found.setdefault(name, (time_zone, []))[1].extend([] if camera is None else [camera])
        return found

    def span(self, site: str) -> tuple[datetime, datetime] | None:
        """From when to when there are sightings of a site; None where there is none.

        The end is the latest of those that began in the last three days, so that it takes no longer the more there are.
        """
        with self.reading() as connection:
            edges: list[datetime] = []
            for number in self.cameras(connection, site):
                begun = select(SIGHTINGS.c.start).where(
                    SIGHTINGS.c.camera_id == number, SIGHTINGS.c.state != "withdrawn"
                )
                for order in (SIGHTINGS.c.start, SIGHTINGS.c.start.desc()):
                    edges += connection.execute(begun.order_by(order).limit(1)).scalars()
            if not edges:
                return None
            ends = select(func.max(SIGHTINGS.c.end)).where(
                SIGHTINGS.c.camera_id.in_(self.cameras(connection, site)),
                SIGHTINGS.c.state != "withdrawn",
                SIGHTINGS.c.start >= max(edges) - LEFT,
            )
            return min(edges), connection.execute(ends).scalar_one()

    def sightings(self, site: str, *, since: datetime | None = None, until: datetime | None = None) -> list[Sighting]:
        """The newest revisions of a site's sightings, in order of key, withdrawn ones too; without embeddings.

        Those that touch the time from `since` to before `until`.
        """
        with self.reading() as connection:
            chosen = SIGHTINGS.c.camera_id.in_(self.cameras(connection, site))
            return list(self._sightings(connection, chosen & _touching(SIGHTINGS, since, until)).values())

    def walks(self, site: str, *, camera: str | None, since: datetime, until: datetime) -> list[Walk]:
        """The paths in a camera's picture, or without one those on the floor, in order of time; of the sightings that count."""
        found = (TRACKS.c.camera_id, TRACKS.c.session, TRACKS.c.track)
        columns = (SIGHTINGS.c.start, SIGHTINGS.c.end, SIGHTINGS.c.path, SIGHTINGS.c.path_on)
        with self.reading() as connection:
            names = self.cameras(connection, site)
            chosen = _touching(SIGHTINGS, since, until) & (SIGHTINGS.c.state != "withdrawn")
            chosen &= SIGHTINGS.c.camera_id.in_([number for number, name in names.items() if camera in (None, name)])
            chosen &= (SIGHTINGS.c.path_on == ("floor" if camera is None else "picture")) & (SIGHTINGS.c.path != b"")
            rows = connection.execute(
                select(*found, *columns)
                .join(TRACKS, TRACKS.c.id == SIGHTINGS.c.track_id)
                .where(chosen)
                .order_by(SIGHTINGS.c.start, SIGHTINGS.c.track_id)
            )
            return [
                Walk(
                    SightingKey(site, names[number], session, track),
                    start,
                    end,
                    np.frombuffer(path, "<f4").reshape(-1, 3),
                    on,
                )
                for number, session, track, start, end, path, on in rows
            ]

    def crossings(self, site: str, *, since: datetime | None = None, until: datetime | None = None) -> list[Crossing]:
        """The crossings of lines from `since` to before `until`, in order of time."""
        with self.reading() as connection:
            found = select(CROSSINGS.c.line, CROSSINGS.c.at, CROSSINGS.c.inwards).where(
                CROSSINGS.c.camera_id.in_(self.cameras(connection, site)),
                *([] if since is None else [CROSSINGS.c.at >= since]),
                *([] if until is None else [CROSSINGS.c.at < until]),
            )
            rows = connection.execute(found.order_by(CROSSINGS.c.at, CROSSINGS.c.line, CROSSINGS.c.inwards)).all()
        return [Crossing(*row) for row in rows]

    def links(self, site: str, *, since: datetime | None = None) -> dict[SightingKey, Link]:
        """The newest revisions of a site's links, by their later sighting, whether they still hold or not.

        Those whose later sighting began at `since` or later.
        """
        with self.reading() as connection:
            cameras = self.cameras(connection, site)
            chosen: ColumnElement[bool] = TRACKS.c.camera_id.in_(cameras)
            if since is not None:
                late = (SIGHTINGS.c.camera_id.in_(cameras)) & (SIGHTINGS.c.start >= since)
                chosen &= LINKS.c.later_id.in_(select(SIGHTINGS.c.track_id).where(late))
            return self._links(connection, chosen)

    def visits(self, site: str, *, since: datetime | None = None, until: datetime | None = None) -> list[Visit]:
        """The newest revisions of a site's visits, absorbed ones too, in order of start and name."""
        with self.reading() as connection:
            return self._visits(connection, site, _touching(VISITS, since, until))

    def named(self, site: str, names: Iterable[str]) -> list[Visit]:
        """Those visits of that name that are there and were not absorbed, in order of start and name."""
        with self.reading() as connection:
            return self._visits(connection, site, VISITS.c.name.in_(sorted(names)) & VISITS.c.merged_into.is_(None))

    def unfinished(self, site: str) -> tuple[list[Sighting], list[Visit]]:
        """What a run that ended in the middle left: the sightings that are open, the visits that are not final.

        Those of the last three days before the newest sighting, so that it takes no longer the more there are.
        """
        with self.reading() as connection:
            cameras = self.cameras(connection, site)
            newest = [
                connection.execute(select(func.max(SIGHTINGS.c.start)).where(SIGHTINGS.c.camera_id == number)).scalar()
                for number in cameras
            ]
            since = max((at for at in newest if at is not None), default=None)
            if since is None:
                return [], []
            left = (SIGHTINGS.c.state == "open") & (SIGHTINGS.c.start >= since - LEFT)
            seen = self._sightings(connection, SIGHTINGS.c.camera_id.in_(cameras) & left)
            visits = self._visits(connection, site, VISITS.c.final.is_(False) & (VISITS.c.start >= since - LEFT))
        return list(seen.values()), visits

    def rows(
        self, site: str, *, doors: Iterable[str], since: datetime | None = None, until: datetime | None = None
    ) -> list[VisitRow]:
        """The visits that there are and touch the time from `since` to before `until`, each with what its sightings say.

        `doors` are the lines at which visits begin and end. Sightings that were withdrawn count for nothing, nor does a visit
        that has no others.
        """
        touching = _touching(VISITS, since, until) & VISITS.c.merged_into.is_(None)
        with self.reading() as connection:
            return self._rows(connection, site, touching, doors)

    def rows_with_earlier(
        self, site: str, *, doors: Iterable[str], since: datetime, until: datetime, again: bool = False
    ) -> list[VisitRow]:
        """Those of `rows`, and all visits before them of the same persons.

        Who asks `again` and again gets rows that did not change since from memory, which holds those of the last answer.
        """
        chosen, lines = VISITS.c.merged_into.is_(None), tuple(sorted(doors))
        made = self._made.get((site, lines), {}) if again else {}
        with self.reading() as connection:
            found = self._made_rows(connection, site, chosen & _touching(VISITS, since, until), lines, made)
            earlier = chosen & (VISITS.c.end < since)
            persons = {row.person for _, row in found.values() if row.person is not None}
            number = self.site_number(connection, site)
            for chunk in _chunks(sorted(persons)):
                theirs = select(VISITS.c.id).where(earlier, VISITS.c.site_id == number, VISITS.c.person.in_(chunk))
                for visits in _chunks(connection.execute(theirs).scalars().all()):
                    found |= self._made_rows(connection, site, VISITS.c.id.in_(visits), lines, made)
        if again:
            self._made[site, lines] = found
        return [row for _, row in found.values()]

    def _rows(
        self, connection: Connection, site: str, chosen: ColumnElement[bool], doors: Iterable[str]
    ) -> list[VisitRow]:
        return [row for _, row in self._made_rows(connection, site, chosen, tuple(doors), {}).values()]

    def _made_rows(
        self,
        connection: Connection,
        site: str,
        chosen: ColumnElement[bool],
        doors: Sequence[str],
        made: Mapping[int, Made],
    ) -> dict[int, Made]:
        """By visit, in order of start and name; those of `made` stay of which no revision is new."""
        chosen = chosen & (VISITS.c.site_id == self.site_number(connection, site))
        held = VISITS.join(MEMBERS, MEMBERS.c.visit_id == VISITS.c.id)
        linked = (
            held.join(SIGHTINGS, SIGHTINGS.c.track_id == MEMBERS.c.track_id)
            .join(TRACKS, TRACKS.c.id == MEMBERS.c.track_id)
            .join(LINKS, LINKS.c.later_id == MEMBERS.c.track_id, isouter=True)
        )
        seen_by = SIGHTINGS.c.state != "withdrawn"
        revisions = VISITS.c.revision, func.count(), func.sum(SIGHTINGS.c.revision), func.sum(LINKS.c.revision)
        visits = {
            visit: (*fields,)
            for visit, *fields in connection.execute(
                select(VISITS.c.id, VISITS.c.name, VISITS.c.person, VISITS.c.start, VISITS.c.end, *revisions)
                .select_from(linked)
                .where(chosen, seen_by)
                .group_by(VISITS.c.id)
                .order_by(VISITS.c.start, VISITS.c.name)
            )
        }
        kept = {visit: made[visit] for visit, stamp in visits.items() if visit in made and made[visit][0] == stamp}
        if kept:
            left = [visit for visit in visits if visit not in kept]
            new: dict[int, Made] = {}
            for chunk in _chunks(left):
                new |= self._made_rows(connection, site, VISITS.c.id.in_(chunk), doors, {})
            return {visit: kept[visit] if visit in kept else new[visit] for visit in visits}
        cameras = self.cameras(connection, site)
        member = (MEMBERS.c.visit_id, MEMBERS.c.track_id)
        seen: dict[int, list[tuple[int, SightingKey, float | None]]] = {}
        lasted: dict[tuple[int, int], tuple[datetime, datetime]] = {}
        for visit, number, camera, session, track, start, end, probability in connection.execute(
            select(
                *member,
                *(TRACKS.c.camera_id, TRACKS.c.session, TRACKS.c.track),
                *(SIGHTINGS.c.start, SIGHTINGS.c.end, LINKS.c.probability),
            )
            .select_from(linked)
            .where(chosen, seen_by)
            .order_by(MEMBERS.c.visit_id, MEMBERS.c.place)
        ):
            key = SightingKey(site, cameras[camera], session, track)
            seen.setdefault(visit, []).append((number, key, probability))
            lasted[visit, number] = start, end
        stays: dict[tuple[int, int], list[Stay]] = {}
        for visit, number, *stay in connection.execute(
            select(*member, STAYS.c.zone, STAYS.c.start, STAYS.c.end)
            .select_from(held.join(STAYS, STAYS.c.track_id == MEMBERS.c.track_id))
            .where(chosen)
            .order_by(STAYS.c.track_id, STAYS.c.place)
        ):
            stays.setdefault((visit, number), []).append(Stay(*stay))
        crossings: dict[tuple[int, int], list[tuple[datetime, bool]]] = {}
        for visit, number, at, inwards in connection.execute(
            select(*member, CROSSINGS.c.at, CROSSINGS.c.inwards)
            .select_from(held.join(CROSSINGS, CROSSINGS.c.track_id == MEMBERS.c.track_id))
            .where(chosen, CROSSINGS.c.line.in_(list(doors)))
        ):
            crossings.setdefault((visit, number), []).append((at, inwards))
        return {
            visit: (
                stamp,
                visit_row(
                    (site, *stamp[:4]),
                    tuple(key for _, key, _ in there),
                    [way for number, _, _ in there for way in crossings.get((visit, number), ())],
                    [
                        (stay, *lasted[visit, number])
                        for number, _, _ in there
                        for stay in stays.get((visit, number), ())
                    ],
                    [probability for _, _, probability in there[1:] if probability is not None],
                ),
            )
            for visit, stamp in visits.items()
            for there in [seen[visit]]
        }

    def visit_page(
        self,
        site: str,
        *,
        doors: Iterable[str],
        since: datetime,
        until: datetime,
        after: tuple[datetime, str] | None,
        most: int,
    ) -> tuple[list[VisitRow], tuple[datetime, str] | None]:
        """A page of the visits that started from `since` to before `until`, and the place after which the next one begins.

        They are in order of start and name, at most so many, and come `after` a place; the next is None where there are no
        more. Rows are as in `rows`.
        """
        chosen = (VISITS.c.start >= since) & (VISITS.c.start < until) & VISITS.c.merged_into.is_(None)
        if after is not None:
            at, name = after
            chosen &= (VISITS.c.start >= at) & ((VISITS.c.start > at) | (VISITS.c.name > name))
        order = (VISITS.c.start, VISITS.c.name)
        with self.reading() as connection:
            chosen &= VISITS.c.site_id == self.site_number(connection, site)
            ids = select(VISITS.c.id, *order).where(chosen).order_by(*order).limit(most + 1)
            found = connection.execute(ids).all()
            rows = self._rows(connection, site, VISITS.c.id.in_([row.id for row in found[:most]]), doors)
        return rows, (found[most - 1].start, found[most - 1].name) if len(found) > most else None

    def begun(self, site: str, *, since: datetime, until: datetime) -> int:
        """How many visits started from `since` to before `until`."""
        with self.reading() as connection:
            chosen = (VISITS.c.start >= since) & (VISITS.c.start < until) & VISITS.c.merged_into.is_(None)
            chosen &= VISITS.c.site_id == self.site_number(connection, site)
            return int(connection.execute(select(func.count()).select_from(VISITS).where(chosen)).scalar_one())

    def story(self, key: SightingKey) -> Story | None:
        """What is known of one sighting; None where nothing is."""
        with self.reading() as connection:
            number = connection.execute(
                select(TRACKS.c.id)
                .join(CAMERAS, CAMERAS.c.id == TRACKS.c.camera_id)
                .join(SITES, SITES.c.id == CAMERAS.c.site_id)
                .where(
                    SITES.c.name == key.site,
                    CAMERAS.c.name == key.camera,
                    TRACKS.c.session == key.session,
                    TRACKS.c.track == key.track,
                )
            ).scalar_one_or_none()
            if number is None:
                return None
            sighting = self._sightings(connection, SIGHTINGS.c.track_id == number).get(key)
            link = self._links(connection, LINKS.c.later_id == number).get(key)
            holding = select(MEMBERS.c.visit_id).where(MEMBERS.c.track_id == number)
            visit = next(iter(self._visits(connection, key.site, VISITS.c.id.in_(holding))), None)
            absorbed = [] if visit is None else self._visits(connection, key.site, VISITS.c.merged_into == visit.name)
        return Story(sighting, link, visit, tuple(each.name for each in absorbed))

    def backup(self, path: Path) -> None:
        """Write a copy of the store, as it is at one moment, to a file; the store may be written to meanwhile (SQLite)."""
        if self._file is None:
            raise StoreError(f"{self.name}: PostgreSQL makes its own backups: pg_dump {self.name} > FILE")
        _copy(self._file, path)
        _note(self._file, path)

    def site_number(self, connection: Connection, site: str) -> int:
        """A site's number; raises StoreError for one that is not known."""
        number = connection.execute(select(SITES.c.id).where(SITES.c.name == site)).scalar_one_or_none()
        if number is None:
            known = connection.execute(select(SITES.c.name).order_by(SITES.c.name)).scalars().all()
            raise StoreError(f"{self.name}: it has no site {site!r}; known: {', '.join(known) or 'none'}")
        return int(number)

    def cameras(self, connection: Connection, site: str) -> dict[int, str]:
        """The names of a site's cameras, by number."""
        cameras = select(CAMERAS.c.id, CAMERAS.c.name).where(CAMERAS.c.site_id == self.site_number(connection, site))
        return dict(connection.execute(cameras).all())

    def _keys(self, connection: Connection, tracks: Any) -> dict[int, SightingKey]:  # Any: what IN takes
        """The keys of tracks by their number."""
        found = (
            select(TRACKS.c.id, SITES.c.name, CAMERAS.c.name, TRACKS.c.session, TRACKS.c.track)
            .join(CAMERAS, CAMERAS.c.id == TRACKS.c.camera_id)
            .join(SITES, SITES.c.id == CAMERAS.c.site_id)
            .where(TRACKS.c.id.in_(tracks))
        )
        return {number: SightingKey(*key) for number, *key in connection.execute(found)}

    def _sightings(self, connection: Connection, chosen: ColumnElement[bool]) -> dict[SightingKey, Sighting]:
        numbers = select(SIGHTINGS.c.track_id).where(chosen)
        keys = self._keys(connection, numbers)
        stays: dict[int, list[Stay]] = {}
        for number, *stay in connection.execute(
            select(STAYS.c.track_id, STAYS.c.zone, STAYS.c.start, STAYS.c.end)
            .where(STAYS.c.track_id.in_(numbers))
            .order_by(STAYS.c.track_id, STAYS.c.place)
        ):
            stays.setdefault(number, []).append(Stay(*stay))
        crossings: dict[int, list[Crossing]] = {}
        for number, *crossing in connection.execute(
            select(CROSSINGS.c.track_id, CROSSINGS.c.line, CROSSINGS.c.at, CROSSINGS.c.inwards)
            .where(CROSSINGS.c.track_id.in_(numbers))
            .order_by(CROSSINGS.c.track_id, CROSSINGS.c.place)
        ):
            crossings.setdefault(number, []).append(Crossing(*crossing))
        columns = ("track_id", "revision", "state", "start", "end", "network", "path_on", "path")
        found = {}
        for row in connection.execute(select(*(SIGHTINGS.c[name] for name in columns)).where(chosen)):
            found[keys[row.track_id]] = Sighting(
                keys[row.track_id],
                row.revision,
                row.state,
                row.start,
                row.end,
                *NO_VECTORS,
                network=row.network,
                stays=tuple(stays.get(row.track_id, ())),
                crossings=tuple(crossings.get(row.track_id, ())),
                path=np.frombuffer(row.path, "<f4").reshape(-1, 3),
                path_on=row.path_on,
            )
        return dict(sorted(found.items()))

    def _links(self, connection: Connection, chosen: ColumnElement[bool]) -> dict[SightingKey, Link]:
        rows = connection.execute(select(LINKS).join(TRACKS, TRACKS.c.id == LINKS.c.later_id).where(chosen)).all()
        numbers = {number for row in rows for number in (row.later_id, row.earlier_id, row.runner_up_id) if number}
        keys: dict[int, SightingKey] = {}
        for part in _chunks(sorted(numbers)):
            keys |= self._keys(connection, part)
        found = {
            keys[row.later_id]: Link(
                keys[row.earlier_id],
                keys[row.later_id],
                row.revision,
                row.probability,
                None if row.runner_up_id is None else keys[row.runner_up_id],
                row.runner_up_probability,
            )
            for row in rows
        }
        return dict(sorted(found.items()))

    def _visits(self, connection: Connection, site: str, chosen: ColumnElement[bool]) -> list[Visit]:
        chosen = chosen & (VISITS.c.site_id == self.site_number(connection, site))
        members: dict[int, list[SightingKey]] = {}
        for number, *key in connection.execute(
            select(MEMBERS.c.visit_id, CAMERAS.c.name, TRACKS.c.session, TRACKS.c.track)
            .join(VISITS, VISITS.c.id == MEMBERS.c.visit_id)
            .join(TRACKS, TRACKS.c.id == MEMBERS.c.track_id)
            .join(CAMERAS, CAMERAS.c.id == TRACKS.c.camera_id)
            .where(chosen)
            .order_by(MEMBERS.c.visit_id, MEMBERS.c.place)
        ):
            members.setdefault(number, []).append(SightingKey(site, *key))
        return [
            Visit(
                site,
                row.name,
                row.revision,
                tuple(members.get(row.id, ())),
                row.start,
                row.end,
                row.person,
                row.merged_into,
                row.split_from,
                row.final,
                withdrawn=row.merged_into is None and row.id not in members,
            )
            for row in connection.execute(select(VISITS).where(chosen).order_by(VISITS.c.start, VISITS.c.name))
        ]


class Store(StoreReader):
    """A store with the one process that writes to it; made where there is none, and brought to the newest version.

    `write` may be called from several threads. Reading never waits for it. In SQLite another process that wants to write is
    refused while this one holds the lock, a file beside the store; in PostgreSQL an advisory lock does that. Before a
    migration in SQLite a copy is made, "NAME.v1.backup".
    """

    def __init__(self, url: str | Path, *, tell: Callable[[str], None] = lambda line: None) -> None:
        self._url, self._closing = _address(url), ExitStack()
        self._made = {}
        self.name = _shown(self._url)
        self._lock = Lock()
        self._rolled: dict[int, set[datetime]] | None = None  # None: to be read
        self._owner: object = None  # the connection that holds PostgreSQL's lock
        with ExitStack() as failing:
            failing.callback(self._closing.close)
            if self._file is not None:
                self._own_file(self._file)
            with self._said():
                writing = self._opened(
                    self._url,
                    pragmas=("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"),
                    begin="BEGIN IMMEDIATE",
                    poolclass=NullPool,
                )
                self._connection = self._closing.enter_context(writing.connect())
                if self._file is None:
                    with self._connection.begin():
                        self._own_database()
                self._bring_up(tell)
                self._engine = self._opened(self._url, pragmas=("query_only=ON",), begin="BEGIN")
            failing.pop_all()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """The one connection that writes, in a transaction: kept whole when the block ends, or not at all."""
        with self._lock, self._said(), ExitStack() as failing:
            failing.callback(self._forget_rolled)
            with self._connection.begin():
                if self._file is None:
                    self._own_database()
                yield self._connection
            failing.pop_all()

    @property
    def rolled(self) -> dict[int, set[datetime]]:
        """The days, by site number, of which figures are kept by the hour, or are being made; within `writing` only.

        A day that changes is taken out, and its figures are.
        """
        if self._rolled is None:
            self._rolled = {}
            there = select(ROLLED_UP.c.site_id, ROLLED_UP.c.day).where(ROLLED_UP.c.frozen.is_(False)).distinct()
            for site, day in self._connection.execute(there):
                self._rolled.setdefault(site, set()).add(day)
        return self._rolled

    def _forget_rolled(self) -> None:
        self._rolled = None

    def unroll(self, site: int, spans: Iterable[tuple[datetime, datetime]]) -> None:
        """Take out the figures by the hour of the days that something changed that lasted so; within `writing` only.

        Whoever is inside at midnight, or is late, is of the next day, too.
        """
        rolled = self.rolled.get(site, set())
        days = {day for start, end in _joined(spans) for day in rolled if start - LONGEST_DAY < day <= end + DAY}
        for part in _chunks(sorted(days)):
            same = (ROLLED_UP.c.site_id == site, ROLLED_UP.c.day.in_(part), ROLLED_UP.c.frozen.is_(False))
            self._connection.execute(delete(ROLLED_UP).where(*same))
        rolled -= days

    def _own_file(self, path: Path) -> None:
        if not path.parent.is_dir():
            raise StoreError(f"{self.name}: its folder does not exist; make it first")
        try:
            lock = self._closing.enter_context(path.with_name(f"{path.name}.lock").open("a+", encoding="utf-8"))
        except OSError as error:
            raise StoreError(f"{self.name}: {error.strerror}; the folder must be writable") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise StoreError(
                f"{self.name}: process {lock.read().strip() or '?'} writes to it already; stop that one first. Reports "
                "and backups need not wait"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()

    def _own_database(self) -> None:
        """Hold the lock with the connection that writes now, in its transaction: one that broke has lost it."""
        connection, driver = self._connection, self._connection.connection.dbapi_connection
        if driver is self._owner:
            return
        connection.execute(select(func.set_config("application_name", f"passerby {os.getpid()}", False)))
        if not connection.execute(select(func.pg_try_advisory_lock(OWNER))).scalar_one():
            holder = connection.execute(
                text(
                    "SELECT a.application_name, a.client_addr FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
                    "JOIN pg_database d ON d.oid = l.database AND d.datname = current_database() "
                    "WHERE l.locktype = 'advisory' AND l.objid = :owner AND l.granted"
                ),
                {"owner": OWNER},
            ).first()
            who = "another process" if holder is None else f"{holder[0]} on {holder[1] or 'its own machine'}"
            raise StoreError(f"{self.name}: {who} writes to it already; stop that one first. Reports need not wait")
        self._owner = driver

    def _bring_up(self, tell: Callable[[str], None]) -> None:
        """Make the tables, or change them to the newest version."""
        with self._connection.begin():
            state = self._state(self._connection)
            version = None
            if state == "older":
                version = self._connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        if state == "current":
            return
        known = _migrations()
        if version is not None and self._file is not None:
            kept = self._file.with_name(f"{self._file.name}.v{version}.backup")
            _copy(self._file, kept)
            _note(self._file, kept)
            tell(f"{self.name}: a copy of version {version} is kept in {kept}")

        def said(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:  # Any: alembic's
            if version is not None:
                tell(f"{self.name}: brought to version {step.up_revision_id}")

        with (
            self._connection.begin(),
            EnvironmentContext(
                Config(), known, fn=lambda revision, context: known._upgrade_revs("head", revision)
            ) as steps,
        ):
            steps.configure(connection=self._connection, transactional_ddl=True, on_version_apply=said)
            with steps.begin_transaction():
                steps.run_migrations()
        if version is not None and self._file is not None:
            for words in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):  # what older versions deleted is overwritten
                self._driver.execute(words)

    def put_site(self, site: Site) -> None:
        """Make a site and its cameras known; cameras that it had before are kept."""
        with self.writing():
            known = select(SITES.c.id, SITES.c.time_zone).where(SITES.c.name == site.name)
            row = self._connection.execute(known).first()
            if row is None:
                number = self._next(SITES.c.id)
                self._connection.execute(insert(SITES).values(id=number, name=site.name, time_zone=site.time_zone))
            else:
                number = row.id
                self._connection.execute(SITES.update().where(SITES.c.id == number).values(time_zone=site.time_zone))
            there = set(self.cameras(self._connection, site.name).values())
            self._add(
                CAMERAS,
                CAMERAS.c.id,
                [{"site_id": number, "name": c.name} for c in site.cameras if c.name not in there],
            )

    def write(
        self, *, sightings: Iterable[Sighting] = (), links: Iterable[Link] = (), visits: Iterable[Visit] = ()
    ) -> Written:
        """Keep a batch, whole or not at all: of each sighting, link (by its later sighting) and visit, the newest revision.

        What is known already, or older, changes nothing. When this returns, the batch outlives a crash. The sites must be
        known. Returns how much was new.
        """
        seen = _newest((each.key, each) for each in sightings)
        linked = _newest((each.later, each) for each in links)
        came = _newest(((each.site, each.name), each) for each in visits)
        if self._erased:
            seen, linked, came = self._without_erased(seen, linked, came)
        keys = set(seen)
        for link in linked.values():
            keys |= {link.earlier, link.later} | ({link.runner_up} if link.runner_up else set())
        for visit in came.values():
            keys |= set(visit.sightings)
        with self.writing():
            tracks = self._tracks(keys)
            changing = [tracks[key][0] for key in seen], sorted(came)
            before = self._spans(*changing)
            written = Written(
                self._write_sightings({tracks[key][0]: (tracks[key][1], s) for key, s in seen.items()}),
                self._write_links({tracks[key][0]: link for key, link in linked.items()}, tracks),
                self._write_visits(came, tracks),
            )
            if written.sightings or written.visits:
                self._unroll_changed(before, self._spans(*changing))
            return written

    def _spans(self, tracks: Sequence[int], visits: Sequence[tuple[str, str]]) -> list[Span]:
        """What is known of sightings and visits, and of the visits that hold those sightings: of which site, from when to when.

        Nothing where no figures are kept that may change with them.
        """
        if not any(self.rolled.values()):
            return []
        found: list[Span] = []
        fields = (VISITS.c.site_id, VISITS.c.start, VISITS.c.end, VISITS.c.person)
        for part in _chunks(sorted(tracks)):
            asked = select(CAMERAS.c.site_id, SIGHTINGS.c.start, SIGHTINGS.c.end)
            asked = asked.join(CAMERAS, CAMERAS.c.id == SIGHTINGS.c.camera_id).where(SIGHTINGS.c.track_id.in_(part))
            found += [Span(*row, None) for row in self._connection.execute(asked)]
            held = select(*fields).join(MEMBERS, MEMBERS.c.visit_id == VISITS.c.id).where(MEMBERS.c.track_id.in_(part))
            found += [Span(*row) for row in self._connection.execute(held)]
        for site in sorted({site for site, _ in visits}):
            number = self.site_number(self._connection, site)
            for names in _chunks([name for of, name in visits if of == site]):
                mine = select(*fields).where(VISITS.c.site_id == number, VISITS.c.name.in_(names))
                found += [Span(*row) for row in self._connection.execute(mine)]
        return found

    def _unroll_changed(self, before: Sequence[Span], after: Sequence[Span]) -> None:
        """Take out the figures of the days that changed, and of those on which the same persons came again."""
        for site in sorted({span.site for span in (*before, *after)}):
            spans = [span for span in (*before, *after) if span.site == site]
            first, rolled = min(span.start for span in spans), self.rolled.get(site)
            if not rolled or max(rolled) < first - LONGEST_DAY:
                continue
            touched = [(span.start, span.end) for span in spans]
            for persons in _chunks(sorted({span.person for span in spans if span.person is not None})):
                again = select(VISITS.c.start, VISITS.c.end).where(
                    VISITS.c.site_id == site, VISITS.c.person.in_(persons), VISITS.c.start >= first - LONGEST_DAY
                )
                touched += [(row.start, row.end) for row in self._connection.execute(again)]
            self.unroll(site, touched)

    def _write_sightings(self, batch: Mapping[int, tuple[int, Sighting]]) -> int:
        new = self._newer(SIGHTINGS, SIGHTINGS.c.track_id, {n: s.revision for n, (_, s) in batch.items()})
        self._drop(new, SIGHTINGS.c.track_id, STAYS.c.track_id, CROSSINGS.c.track_id)
        rows: dict[Table, list[dict[str, Any]]] = {SIGHTINGS: [], STAYS: [], CROSSINGS: []}  # Any: columns
        for number in new:
            camera, each = batch[number]
            gone = each.state == "withdrawn"  # nobody, who stayed nowhere
            rows[SIGHTINGS].append(
                {
                    "track_id": number,
                    "camera_id": camera,
                    **{name: getattr(each, name) for name in ("revision", "state", "start", "end", "network")},
                    "path_on": each.path_on,
                    "path": b"" if gone else each.path.astype("<f4").tobytes(),
                }
            )
            rows[STAYS] += [
                {"track_id": number, "place": place, "zone": stay.zone, "start": stay.start, "end": stay.end}
                for place, stay in enumerate(() if gone else each.stays)
            ]
            rows[CROSSINGS] += [
                {
                    "track_id": number,
                    "place": place,
                    "camera_id": camera,
                    **{name: getattr(crossing, name) for name in ("line", "at", "inwards")},
                }
                for place, crossing in enumerate(() if gone else passages(each.crossings))
            ]
        for table, values in rows.items():
            if values:
                self._connection.execute(insert(table), values)
        return len(new)

    def _write_links(self, batch: Mapping[int, Link], tracks: Mapping[SightingKey, tuple[int, int]]) -> int:
        new = self._newer(LINKS, LINKS.c.later_id, {number: link.revision for number, link in batch.items()})
        self._drop(new, LINKS.c.later_id)
        values = [
            {
                "later_id": number,
                "earlier_id": tracks[link.earlier][0],
                "revision": link.revision,
                "probability": link.probability,
                "runner_up_id": None if link.runner_up is None else tracks[link.runner_up][0],
                "runner_up_probability": link.runner_up_probability,
            }
            for number in new
            for link in (batch[number],)
        ]
        if values:
            self._connection.execute(insert(LINKS), values)
        return len(new)

    def _write_visits(
        self, batch: Mapping[tuple[str, str], Visit], tracks: Mapping[SightingKey, tuple[int, int]]
    ) -> int:
        known: dict[tuple[str, str], tuple[int, int]] = {}  # number and revision
        sites = {site: self.site_number(self._connection, site) for site in sorted({site for site, _ in batch})}
        for site, number in sites.items():
            for part in _chunks(sorted(name for of, name in batch if of == site)):
                found = select(VISITS.c.name, VISITS.c.id, VISITS.c.revision)
                found = found.where(VISITS.c.site_id == number, VISITS.c.name.in_(part))
                known |= {(site, name): (n, revision) for name, n, revision in self._connection.execute(found)}
        new = sorted(name for name, visit in batch.items() if name not in known or visit.revision > known[name][1])
        following = self._next(VISITS.c.id)  # before any goes
        self._drop([known[name][0] for name in new if name in known], VISITS.c.id, MEMBERS.c.visit_id)
        visits, members = [], []
        for name in new:
            visit = batch[name]
            if name in known:
                number = known[name][0]
            else:
                number, following = following, following + 1
            fields = ("name", "revision", "start", "end", "person", "merged_into", "split_from", "final")
            visits.append(
                {"id": number, "site_id": sites[visit.site], **{field: getattr(visit, field) for field in fields}}
            )
            members += [
                {"visit_id": number, "place": place, "track_id": tracks[key][0]}
                for place, key in enumerate(visit.sightings)
            ]
        for table, values in ((VISITS, visits), (MEMBERS, members)):
            if values:
                self._connection.execute(insert(table), values)
        return len(new)

    def _tracks(self, keys: Iterable[SightingKey]) -> dict[SightingKey, tuple[int, int]]:
        """Each key's number and its camera's; what is not known yet is made known."""
        groups: dict[tuple[str, str, str], list[int]] = {}
        for site, camera, session, track in sorted(keys):
            groups.setdefault((site, camera, session), []).append(track)
        cameras: dict[tuple[str, str], int] = {}
        for site in sorted({site for site, _, _ in groups}):
            numbers = {name: number for number, name in self.cameras(self._connection, site).items()}
            for camera in sorted({camera for of, camera, _ in groups if of == site}):
                if camera not in numbers:
                    raise StoreError(
                        f"{self.name}: site {site!r} has no camera {camera!r}; known: {', '.join(sorted(numbers))}; was it "
                        "renamed in the site's file?"
                    )
                cameras[site, camera] = numbers[camera]
        found: dict[SightingKey, tuple[int, int]] = {}
        missing: list[dict[str, Any]] = []  # Any: columns
        following = self._next(TRACKS.c.id)
        for (site, camera, session), tracks in groups.items():
            number, there = cameras[site, camera], dict[int, int]()
            for part in _chunks(tracks):
                rows = select(TRACKS.c.track, TRACKS.c.id).where(
                    TRACKS.c.camera_id == number, TRACKS.c.session == session, TRACKS.c.track.in_(part)
                )
                there |= dict(self._connection.execute(rows).all())
            for track in tracks:
                if track not in there:
                    there[track] = following + len(missing)
                    missing.append({"id": there[track], "camera_id": number, "session": session, "track": track})
                found[SightingKey(site, camera, session, track)] = there[track], number
        if missing:
            self._connection.execute(insert(TRACKS), missing)
        return found

    def _newer(self, table: Table, number: Column[Any], revisions: Mapping[int, int]) -> list[int]:  # Any: ids
        """Those of a batch that are not in the table, or of a lower revision there."""
        known: dict[int, int] = {}
        for part in _chunks(sorted(revisions)):
            rows = select(number, table.c.revision).where(number.in_(part))
            known |= dict(self._connection.execute(rows).all())
        return sorted(each for each, revision in revisions.items() if revision > known.get(each, 0))

    def _drop(self, numbers: Sequence[int], *columns: Column[Any]) -> None:  # Any: ids
        for part in _chunks(numbers):
            for column in columns:
                self._connection.execute(delete(column.table).where(column.in_(part)))

    def _next(self, number: Column[Any]) -> int:  # Any: an id
        """The next free number of a table."""
        return int(self._connection.execute(select(func.coalesce(func.max(number), 0) + 1)).scalar_one())

    def _add(self, table: Table, number: Column[Any], values: Sequence[dict[str, Any]]) -> None:  # Any: columns
        if values:
            first = self._next(number)
            rows = [{number.name: first + row, **each} for row, each in enumerate(values)]
            self._connection.execute(insert(table), rows)

    def restore(self, path: Path) -> Path:
        """Take a backup's content in place of the store's own, while readers go on (SQLite).

        What was there is kept beside it, in the file that is returned. Raises StoreError where the backup is none, or
        damaged, and changes nothing.
        """
        if self._file is None:
            raise StoreError(f"{self.name}: PostgreSQL takes its own backups in: psql {self.name} < FILE")
        with TemporaryDirectory(dir=self._file.parent) as folder:
            draft = Path(folder) / "restored"
            _copy(path, draft)
            with closing(sqlite3.connect(draft)) as copied:
                try:
                    damage = copied.execute("PRAGMA integrity_check").fetchone()[0]
                except sqlite3.DatabaseError as error:
                    damage = error
            if damage != "ok":
                raise StoreError(f"{path}: expected a whole backup, got a damaged one: {damage}")
            StoreReader(draft).close()  # refuses what is no store; brings an older one to this version
            _ = self._erased  # read before it is overwritten
            with self._lock, self._said():
                numbered = (f"{self._file.name}.before-restore-{number}" for number in count(1))
                kept = next(p for name in numbered if not (p := self._file.with_name(name)).exists())
                _copy(self._file, kept)
                _note(self._file, kept)
                with closing(sqlite3.connect(draft)) as source:
                    source.backup(self._driver)
                self._forget_rolled()
            self._remove_again()
        return kept

    @property
    def _driver(self) -> Any:  # Any: sqlite3's connection, which SQLAlchemy does not know
        return self._connection.connection.driver_connection

    # Erasure

    def erase(self, site: str, visit: str, *, now: datetime) -> Erased:
        """Take one visit out for good: its rows, sightings, stays, paths and links, in the store and in the copies made of it.

        Where another one had absorbed it, that one goes too. Crossings stay as counts, cut down to the minute; counts and draws
        stay as they were. What tells of it later, or a backup that is restored, brings it back no more. In SQLite its bytes are
        gone from the file and its journal when this returns; in PostgreSQL the rows are, and the server is told to reuse
        their place. Raises StoreError where there is no such visit, or a copy or the journal could not be cleaned; then it may
        be called
        again.
        """
        with self.writing() as connection:
            number = self.site_number(connection, site)
            names = erasure.visits_of(connection, number, visit)
            if not names and erasure.mark(site, visit) not in self._erased:
                raise StoreError(f"{self.name}: site {site!r} has no visit {visit!r}")
            tracks = erasure.tracks_of(connection, names)
            others = self._others(connection, names)
            erasure.remove(connection, names, tracks, rounded=True)
            marks = {erasure.mark(site, name) for name in names.values()} | {
                erasure.mark(*key) for key in tracks.values()
            }
            marks -= self._erased
            if marks:
                connection.execute(insert(ERASED), [{"hash": each, "at": now} for each in sorted(marks)])
        self._erased.update(marks)
        self._made = {}
        self._wipe()
        copies, missing, failed = [], [], []
        for copy in self.copies():
            if not copy.is_file():
                missing.append(copy)
                continue
            try:
                _clean_copy(copy, self._erased, now)
                copies.append(copy)
            except (DBAPIError, sqlite3.Error, OSError) as error:
                failed.append(f"{copy} ({' '.join(str(error).split())[:200]})")
        if failed:
            raise StoreError(f"{self.name}: erased, but not in these copies; mend or delete them: {', '.join(failed)}")
        gone = tuple(sorted(names.values())), tuple(sorted(tracks.values()))
        return Erased(*gone, others, tuple(copies), tuple(missing))

    def expire(self, site: str, *, before: datetime) -> int:
        """Take out the visits that ended before a time, with all that is known of them, and what was seen and is no visit's.

        Crossings stay as counts, and the figures by the hour that are kept of those days stay as they are (`rollups.refresh`
        makes them). Returns how many visits went. Nothing keeps older records from being written again.
        """
        gone, anything = 0, False
        with self.writing() as connection:
            number = self.site_number(connection, site)
            days = ROLLED_UP.update().where(ROLLED_UP.c.site_id == number, ROLLED_UP.c.day < before)
            connection.execute(days.values(frozen=True))
            self._forget_rolled()
        while True:
            with self.writing() as connection:
                number = self.site_number(connection, site)
                old = select(VISITS.c.id).where(VISITS.c.site_id == number, VISITS.c.end < before)
                visits = list(connection.execute(old.order_by(VISITS.c.end).limit(CHUNK)).scalars())
                cameras = self.cameras(connection, site)
                held = exists().where(MEMBERS.c.track_id == SIGHTINGS.c.track_id)
                lost = select(SIGHTINGS.c.track_id).where(SIGHTINGS.c.camera_id.in_(cameras), SIGHTINGS.c.end < before)
                tracks = {*erasure.tracks_of(connection, visits)}
                if not visits:
                    tracks = {*connection.execute(lost.where(~held).limit(CHUNK)).scalars()}
                erasure.remove(connection, visits, tracks, rounded=False)
            if not visits and not tracks:
                break
            gone += len(visits)
            anything = True
        if anything:
            self._made = {}
            self._wipe()
        return gone

    def copies(self) -> list[Path]:
        """The files to which this store was copied, by `backup` or before a change, as far as it knows; in SQLite."""
        if self._file is None:
            return []
        index = _index(self._file)
        return list(dict.fromkeys(map(Path, index.read_text().splitlines()))) if index.is_file() else []

    def _others(self, connection: Connection, visits: Mapping[int, str]) -> tuple[str, ...]:
        """The names of other visits by the same persons."""
        persons = select(VISITS.c.site_id, VISITS.c.person).where(VISITS.c.id.in_(sorted(visits)))
        found: set[str] = set()
        for site, person in connection.execute(persons.where(VISITS.c.person.is_not(None)).distinct()).all():
            names = select(VISITS.c.name).where(VISITS.c.site_id == site, VISITS.c.person == person)
            found |= set(connection.execute(names).scalars())
        return tuple(sorted(found - set(visits.values())))

    @cached_property
    def _erased(self) -> set[str]:
        with self.reading() as connection:
            return set(connection.execute(select(ERASED.c.hash)).scalars())

    def _remove_again(self) -> None:
        """Take out again what was erased before a backup was restored that has it."""
        with self.writing() as connection:
            there = set(connection.execute(select(ERASED.c.hash)).scalars())
            more = [{"hash": each, "at": EPOCH} for each in sorted(self._erased - there)]
            if more:
                connection.execute(insert(ERASED), more)
            self._erased.update(there)
            if self._erased:
                erasure.remove(connection, *erasure.marked(connection, self._erased), rounded=True)
        if self._erased:
            self._wipe()

    def _wipe(self) -> None:
        """Let no byte of what was deleted stay in the file's journal; PostgreSQL reuses the place of deleted rows."""
        with self._lock, self._said():
            if self._file is None:
                with self._connection.engine.connect() as connection:
                    free = connection.execution_options(isolation_level="AUTOCOMMIT")
                    for table in (SIGHTINGS, STAYS, CROSSINGS, LINKS, MEMBERS, VISITS, TRACKS):
                        free.execute(text(f"VACUUM {table.name}"))
                return
            (busy, _, _), *_ = self._driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if busy:
            raise StoreError(
                f"{self.name}: erased, but a reader still holds the journal; erase again when it has ended"
            )

    def _without_erased(
        self, seen: dict[SightingKey, Sighting], linked: dict[SightingKey, Link], came: dict[tuple[str, str], Visit]
    ) -> tuple[dict[SightingKey, Sighting], dict[SightingKey, Link], dict[tuple[str, str], Visit]]:
        """A batch without what was erased."""

        def gone(*parts: str | int) -> bool:
            return erasure.mark(*parts) in self._erased

        links = {}
        for key, link in linked.items():
            if not gone(*link.earlier) and not gone(*link.later):
                away = link.runner_up is not None and gone(*link.runner_up)
                links[key] = replace(link, runner_up=None, runner_up_probability=0.0) if away else link
        visits = {}
        for name, visit in came.items():
            there = tuple(key for key in visit.sightings if not gone(*key))
            if not gone(*name) and (there or not visit.sightings):
                visits[name] = visit if there == visit.sightings else replace(visit, sightings=there)
        return {key: each for key, each in seen.items() if not gone(*key)}, links, visits


class Desk(Store):
    """Writes users, keys and the audit log of a store that another process may own; sightings and visits are the owner's.

    Raises StoreError where there is no store, or one of an older version that is owned.
    """

    def __init__(self, url: str | Path, *, tell: Callable[[str], None] = lambda line: None) -> None:
        StoreReader.__init__(self, url, tell=tell)
        self._lock = Lock()
        self._rolled = None
        with ExitStack() as failing, self._said():
            failing.callback(self._closing.close)
            pragmas = ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON")
            writing = self._opened(self._url, pragmas=pragmas, begin="BEGIN IMMEDIATE", poolclass=NullPool)
            self._connection = self._closing.enter_context(writing.connect())
            failing.pop_all()

    def _own_database(self) -> None:
        """Another process may own it."""


def _migrations() -> ScriptDirectory:
    return ScriptDirectory(str(MIGRATIONS), version_locations=[str(MIGRATIONS)])


def _address(url: str | Path) -> URL:
    """A file, or a URL, as SQLAlchemy's."""
    if "://" not in str(url):
        return URL.create("sqlite", database=str(url))
    try:
        found = make_url(str(url))
    except ArgumentError:
        raise StoreError("store: expected a file, or a URL such as postgresql://user@host/name") from None
    kind = found.drivername.partition("+")[0]
    if kind == "sqlite" and found.database:
        return URL.create("sqlite", database=found.database)
    if kind not in ("postgresql", "postgres"):
        raise StoreError(f"store: expected a file, or a URL such as postgresql://user@host/name, got {kind}://...")
    return found.set(drivername="postgresql+psycopg")


def _shown(url: URL) -> str:
    """What a store is called in messages: its file, or its URL without the password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(drivername="postgresql").render_as_string(hide_password=True)


def _copy(file: Path, path: Path) -> None:
    """A copy of a store in SQLite, as it is at one moment, whole or not at all."""
    if not file.is_file():
        raise StoreError(f"{file}: there is no such file")
    if path.exists() and path.samefile(file):
        raise StoreError(f"{path}: it is the store itself; give the copy another name")
    try:
        with whole(path) as draft, closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(draft)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file
    except sqlite3.Error as error:
        raise StoreError(f"{path}: the copy of {file} could not be written: {error}") from None


def _index(file: Path) -> Path:
    """The list of a store's copies, beside it."""
    return file.with_name(f"{file.name}.copies")


def _note(file: Path, copy: Path) -> None:
    """Write down where a store was copied to, so that an erasure reaches the copy."""
    try:
        with _index(file).open("a", encoding="utf-8") as index:
            index.write(f"{copy.absolute()}\n")
    except OSError as error:
        copy.unlink(missing_ok=True)
        raise StoreError(
            f"{_index(file)}: {error.strerror}; without this list an erasure would not reach the copy, so none was made"
        ) from None


def _clean_copy(copy: Path, marks: set[str], now: datetime) -> None:
    """Take out of a copy of a store, of any version, what was erased."""
    engine = create_engine(URL.create("sqlite", database=str(copy)), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA secure_delete=ON")
            erasure.remove(connection, *erasure.marked(connection, marks), rounded=True)
            if ERASED.name in inspect(connection).get_table_names():
                there = set(connection.execute(select(ERASED.c.hash)).scalars())
                more = [{"hash": each, "at": now} for each in sorted(marks - there)]
                if more:
                    connection.execute(insert(ERASED), more)
            connection.commit()
        with closing(sqlite3.connect(copy)) as freed:
            freed.execute("VACUUM")
    finally:
        engine.dispose()


def _newest(records: Iterable[tuple[K, R]]) -> dict[K, R]:
    found: dict[K, R] = {}
    for key, record in records:
        if key not in found or record.revision > found[key].revision:
            found[key] = record
    return found


def _chunks(items: Sequence[K]) -> Iterator[Sequence[K]]:
    for first in range(0, len(items), CHUNK):
        yield items[first : first + CHUNK]


def _joined(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Times, those that overlap or lie within a day made one."""
    found: list[tuple[datetime, datetime]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1] + DAY:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def _touching(table: Table, since: datetime | None, until: datetime | None) -> ColumnElement[bool]:
    """Of rows with a start and an end, those that touch the time from `since` to before `until`."""
    chosen: ColumnElement[bool] = true()
    if since is not None:
        chosen &= table.c.end >= since
    if until is not None:
        chosen &= table.c.start < until
    return chosen
