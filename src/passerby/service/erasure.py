"""How people are taken out of a store's tables, in any version of it; what they crossed stays as counts. Only SQL."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, and_, delete, func, or_, select, update

from passerby.service.schema import (
    CAMERAS,
    CROSSINGS,
    EPOCH,
    LINKS,
    MEMBERS,
    SIGHTINGS,
    SITES,
    STAYS,
    TRACKS,
    VISITS,
)
from passerby.shop import SightingKey

CHUNK = 5000  # ids in one question
MINUTE = timedelta(minutes=1)


def mark(*parts: str | int) -> str:
    """The hash under which an erased visit (site, name) or sighting (site, camera, session, track) is known again."""
    return sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


def visits_of(connection: Connection, site: int, name: str) -> dict[int, str]:
    """The visit of that name, the one that absorbed it, and all that that one absorbed: names by number."""
    rows = {
        row.name: row
        for row in connection.execute(
            select(VISITS.c.id, VISITS.c.name, VISITS.c.merged_into).where(
                VISITS.c.site_id == site,
                or_(VISITS.c.name == name, VISITS.c.merged_into.is_not(None)),
            )
        )
    }
    if name not in rows:
        return {}
    root = name
    seen = {root}
    while root in rows and rows[root].merged_into is not None and rows[root].merged_into not in seen:
        root = rows[root].merged_into
        seen.add(root)
    wanted = {root, name}
    while True:
        more = {each for each, row in rows.items() if row.merged_into in wanted} - wanted
        if not more:
            break
        wanted |= more
    found = select(VISITS.c.id, VISITS.c.name).where(VISITS.c.site_id == site, VISITS.c.name.in_(sorted(wanted)))
    return dict(connection.execute(found).all())


def tracks_of(connection: Connection, visits: Iterable[int]) -> dict[int, SightingKey]:
    """The sightings of visits, by the number of their track."""
    found: dict[int, SightingKey] = {}
    for part in _chunks(sorted(visits)):
        chosen = select(MEMBERS.c.track_id).where(MEMBERS.c.visit_id.in_(part))
        found |= _keys(connection, TRACKS.c.id.in_(chosen))
    return found


def tracks_that(connection: Connection, keys: Iterable[SightingKey]) -> list[int]:
    """The numbers that sightings have here; those that are not known have none."""
    wanted, found = set(keys), []
    for session in sorted({key.session for key in wanted}):
        tracks = sorted({key.track for key in wanted if key.session == session})
        for part in _chunks(tracks):
            there = _keys(connection, and_(TRACKS.c.session == session, TRACKS.c.track.in_(part)))
            found += [number for number, key in there.items() if key in wanted]
    return sorted(found)


def marked(connection: Connection, marks: set[str]) -> tuple[list[int], list[int]]:
    """The visits and the tracks whose marks these are, by number."""
    visits = select(VISITS.c.id, SITES.c.name, VISITS.c.name.label("visit")).join(SITES, SITES.c.id == VISITS.c.site_id)
    return (
        [number for number, site, name in connection.execute(visits) if mark(site, name) in marks],
        [number for number, key in _keys(connection, None).items() if mark(*key) in marks],
    )


def remove(connection: Connection, visits: Iterable[int], tracks: Iterable[int], *, rounded: bool) -> None:
    """Take visits and tracks out, with sightings, paths, stays, links and what other visits say of them.

    Visits that have no sighting left after that go too, unless they were absorbed or withdrawn. Crossings stay, each of nobody;
    `rounded` cuts their time down to the minute.
    """
    visits, tracks = sorted(visits), sorted(tracks)
    nobody = connection.execute(select(func.min(CROSSINGS.c.track_id))).scalar() or 0
    nobody = min(nobody, 0)
    for part in _chunks(tracks):
        rows = connection.execute(select(CROSSINGS).where(CROSSINGS.c.track_id.in_(part))).all()
        connection.execute(delete(CROSSINGS).where(CROSSINGS.c.track_id.in_(part)))
        kept = []
        for row in rows:
            nobody -= 1
            at = row.at - (row.at - EPOCH) % MINUTE if rounded else row.at
            kept.append({**row._asdict(), "track_id": nobody, "place": 0, "at": at})
        if kept:
            connection.execute(CROSSINGS.insert(), kept)
        touched = select(MEMBERS.c.visit_id).where(MEMBERS.c.track_id.in_(part))
        visits = sorted({*visits, *_emptied(connection, touched, part)})
        for column in (
            SIGHTINGS.c.track_id,
            STAYS.c.track_id,
            LINKS.c.later_id,
            LINKS.c.earlier_id,
            MEMBERS.c.track_id,
        ):
            connection.execute(delete(column.table).where(column.in_(part)))
        none = {"runner_up_id": None, "runner_up_probability": 0.0}
        connection.execute(update(LINKS).where(LINKS.c.runner_up_id.in_(part)).values(none))
        connection.execute(delete(TRACKS).where(TRACKS.c.id.in_(part)))
    for part in _chunks(visits):
        for row in connection.execute(select(VISITS.c.site_id, VISITS.c.name).where(VISITS.c.id.in_(part))).all():
            split = and_(VISITS.c.site_id == row.site_id, VISITS.c.split_from == row.name)
            connection.execute(update(VISITS).where(split).values(split_from=None))
        connection.execute(delete(MEMBERS).where(MEMBERS.c.visit_id.in_(part)))
        connection.execute(delete(VISITS).where(VISITS.c.id.in_(part)))


def _emptied(connection: Connection, touched: Any, tracks: Sequence[int]) -> list[int]:  # Any: a question
    """Of visits, those that have no members but these tracks."""
    left = select(MEMBERS.c.visit_id).where(MEMBERS.c.visit_id.in_(touched), MEMBERS.c.track_id.not_in(tracks))
    gone = select(MEMBERS.c.visit_id).where(MEMBERS.c.visit_id.in_(touched), MEMBERS.c.visit_id.not_in(left)).distinct()
    return list(connection.execute(gone).scalars())


def _keys(connection: Connection, chosen: Any) -> dict[int, SightingKey]:  # Any: a condition, or none
    found = (
        select(TRACKS.c.id, SITES.c.name, CAMERAS.c.name, TRACKS.c.session, TRACKS.c.track)
        .join(CAMERAS, CAMERAS.c.id == TRACKS.c.camera_id)
        .join(SITES, SITES.c.id == CAMERAS.c.site_id)
    )
    if chosen is not None:
        found = found.where(chosen)
    return {number: SightingKey(*key) for number, *key in connection.execute(found)}


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:  # Any: ids, names
    for first in range(0, len(items), CHUNK):
        yield items[first : first + CHUNK]
