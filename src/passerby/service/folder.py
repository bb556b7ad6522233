"""The folder that `passerby follow` wrote, taken into a store; nothing is followed here."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from passerby.service.kept import Gap, put_gaps
from passerby.service.store import Store, Written
from passerby.shop import Link, SightingKey, Visit, moved
from passerby.site import Site
from passerby.types import SightingError, StoreError
from passerby.vision.parquet import read_rows, read_sightings

BATCH = 2000  # sightings
MOMENT = timedelta(microseconds=1)


def import_folder(folder: Path, store: Store, site: Site, *, before: date | None = None) -> Written:
    """Take in the sightings, links and visits of a folder, and make the site known; returns how much of it was new.

    A folder holds the last state alone, so that its links and visits are first revisions, and final. What the store has is
    kept; to take a folder in twice changes nothing. Where the folder has `gaps.json`, the times in which cameras saw nothing
    are taken in, too. With `before` each day is moved to the same weekday before that day, the last week to the week before it:
    weeks that were made up once can lie behind any day. Raises SightingError for a folder that is none, or of another site, and
    StoreError where the store knows the same sightings as other visits; then nothing is taken in.
    """
    visits = [_visit(row, site) for row in _rows(folder, "visits", site)]
    when = _when(max((visit.start.date() for visit in visits), default=date.max), before)
    visits = [replace(v, start=when(v.start), end=when(v.end)) for v in visits]
    links = [_link(row, site) for row in _rows(folder, "links", site)]
    sightings = (moved(each, when(each.start) - each.start) for each in read_sightings(folder / "sightings.parquet"))
    first = list(islice(sightings, BATCH))
    if other := next((each.key.site for each in first if each.key.site != site.name), None):
        raise SightingError(f"{folder}: it is of site {other!r}, the site's file of {site.name!r}")
    store.put_site(site)
    _refuse_others(folder, store, site, visits)
    new = 0
    while first:
        new += store.write(sightings=first).sightings
        first = list(islice(sightings, BATCH))
    written = store.write(links=links, visits=visits)
    if (folder / "gaps.json").exists():
        put_gaps(
            store,
            site.name,
            [_gap(row, when) for row in json.loads((folder / "gaps.json").read_text(encoding="utf-8"))],
        )
    return written._replace(sightings=new)


def _rows(folder: Path, name: str, site: Site) -> Iterator[dict[str, Any]]:  # Any: JSON, or Parquet's columns
    """A table in JSON, or, where that is left out, in Parquet."""
    if (folder / f"{name}.jsonl").exists() or not (folder / f"{name}.parquet").exists():
        yield from _lines(folder / f"{name}.jsonl", site)
        return
    for row in read_rows(folder / f"{name}.parquet"):
        if row.get("site", site.name) != site.name:
            raise SightingError(f"{folder}: it is of site {row['site']!r}, the site's file of {site.name!r}")
        yield row


def _lines(path: Path, site: Site) -> Iterator[dict[str, Any]]:  # Any: JSON
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SightingError(
            f"{path.parent}: expected a folder that `passerby follow` wrote, without {path.name}"
        ) from None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line)
            if row.get("site", site.name) != site.name:
                raise SightingError(f"{path}: it is of site {row['site']!r}, the site's file of {site.name!r}")
            yield row
        except (json.JSONDecodeError, AttributeError):
            raise SightingError(f"{path}, line {number}: expected an object in JSON, got {line[:60]!r}") from None


def _key(name: str, site: Site) -> SightingKey:
    camera, session, track = name.rsplit("/", 2)
    return SightingKey(site.name, camera, session, int(track))


def _visit(row: dict[str, Any], site: Site) -> Visit:  # Any: JSON
    ends = (row[name] for name in ("start", "end"))
    start, end = ((datetime.fromisoformat(at) if isinstance(at, str) else at).astimezone(UTC) for at in ends)
    keys = tuple(_key(name, site) for name in row["sightings"])
    return Visit(site.name, row["visit"], 1, keys, start, end, person=row["person"], final=True)


def _link(row: dict[str, Any], site: Site) -> Link:  # Any: JSON
    second = row["runner_up"] and _key(row["runner_up"], site)
    earlier, later = (_key(row[name], site) for name in ("earlier", "later"))
    return Link(earlier, later, 1, row["probability"], second, row["runner_up_probability"])


def _when(last: date, before: date | None) -> Callable[[datetime], datetime]:
    """Where a time lies, in UTC: as it is, or on its weekday before that day, as many weeks before as it lies before `last`."""

    def there(at: datetime) -> datetime:
        assert before is not None
        day = at.date()
        behind = (before - timedelta(days=1)).toordinal() - day.toordinal()
        return at + timedelta(days=behind - behind % 7 - 7 * ((last - day).days // 7))

    return there if before is not None else lambda at: at


def _gap(row: dict[str, Any], when: Callable[[datetime], datetime]) -> Gap:  # Any: JSON
    start, end = (row[name] and when(datetime.fromisoformat(row[name]).astimezone(UTC)) for name in ("start", "end"))
    return Gap(row["camera"], start, end, row["kind"], row["reason"])


def _refuse_others(folder: Path, store: Store, site: Site, visits: Iterable[Visit]) -> None:
    """Raise where the store has the same sightings in other visits: a folder followed with another threshold, say."""
    visits = list(visits)
    if not visits:
        return
    since, until = min(visit.start for visit in visits), max(visit.end for visit in visits) + MOMENT
    known = [v for v in store.visits(site.name, since=since, until=until) if v.merged_into is None]
    holder = {key: visit for visit in known for key in visit.sightings}
    for visit in visits:
        for key in visit.sightings:
            if key in holder and holder[key].sightings != visit.sightings:
                raise StoreError(
                    f"{folder}: the store has the sightings of visit {visit.name} in another visit, {holder[key].name}: the "
                    "recordings were followed with other settings, or not to their end. Take the folder into another store, "
                    "or follow with --store"
                )
