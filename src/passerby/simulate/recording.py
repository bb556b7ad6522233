"""What a simulated day leaves on disk: sightings as the associator takes them, and the truth in files of its own."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import heappop, heappush
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from passerby.files import whole, write_json
from passerby.reid.calibration import Calibration
from passerby.shop import Crossing, Sighting, SightingKey, Stay
from passerby.simulate.appearance import Dress
from passerby.simulate.cameras import Views
from passerby.simulate.people import Trip, visits
from passerby.simulate.plan import Shop
from passerby.simulate.tracking import Track, tracked
from passerby.simulate.watching import InView, presence, watched
from passerby.vision.parquet import TIME, SightingWriter

BATCH = 512  # tracks dressed at once
REFRESH_S = 2.0  # at most this often is a sighting refreshed while it lasts
TABLES: dict[str, list[tuple[str, Any]]] = {  # Any: pyarrow types
    "visits": [
        ("visit", pa.int64()),
        ("person", pa.int64()),
        ("party", pa.int64()),
        ("staff", pa.bool_()),
        ("reentry", pa.bool_()),
        ("bounced", pa.bool_()),
        ("entered", TIME),
        ("left", TIME),
        ("plan", pa.list_(pa.string())),
        ("queued", TIME),
        ("served", TIME),
        ("paid", TIME),
        ("coat_off", TIME),
    ],
    "stays": [("visit", pa.int64()), ("zone", pa.string()), ("start", TIME), ("end", TIME)],
    "presence": [("visit", pa.int64()), ("zone", pa.string()), ("start", TIME), ("end", TIME)],
    "entries": [("visit", pa.int64()), ("line", pa.string()), ("at", TIME), ("inwards", pa.bool_())],
    "in_view": [
        ("camera", pa.string()),
        ("person", pa.int64()),
        ("visit", pa.int64()),
        ("start", TIME),
        ("end", TIME),
        ("distance_m", pa.float32()),
        ("others", pa.int32()),
        ("found", pa.bool_()),  # null where no camera's errors were drawn
    ],
    "tracks": [
        ("camera", pa.string()),
        ("track", pa.int64()),
        ("person", pa.int64()),  # null where nobody was
        ("visit", pa.int64()),
        ("start", TIME),
        ("end", TIME),
        ("share", pa.float32()),  # of all the time that somebody holds the track
    ],
}
ROW = json.JSONEncoder(default=datetime.isoformat).encode
FILMED = ("visits", "stays", "presence", "entries", "in_view")  # the tables of a film, which no tracker has looked at


class Source(Protocol):
    """Where vectors come from: called with tracks, it dresses each; without a vector where it has nothing left to show."""

    @property
    def length(self) -> int:
        """Numbers of a vector."""

    @property
    def network(self) -> str:
        """What makes them, as `Sighting.network` says it."""

    def __call__(self, tracks: Sequence[Track]) -> list[Dress]:
        """Dress them."""

    def calibration(self) -> Calibration | None:
        """What a cosine of two sightings means, where that is known."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a simulated time held: how many visits and sightings there were, and the mean number of people present.

    `missed` counts times in view without a sighting, `false` the sightings that nobody holds for most of their time.
    """

    visits: int
    sightings: int
    missed: int
    false: int
    people_present: float


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A track with the sighting made of it; None where the camera missed the person, or had no picture to show."""

    track: Track
    sighting: Sighting | None


def witness(
    shop: Shop,
    source: Source,
    *,
    seed: int,
    duration_s: float,
    views: Views | None = None,
    see_visit: Callable[[Trip], None] = lambda visit: None,
    see_view: Callable[[InView], None] = lambda view: None,
    reentries: bool = True,
) -> Iterator[Witnessed]:
    """Simulate a time from opening: every track in order of its beginning, with its closed sighting.

    `see_visit` is called with each visit as it is simulated, `see_view` with each time that somebody was in a camera's view.
    The same arguments give the same sightings.
    """
    views = views or Views(shop)
    session = f"{shop.sha256[:16]}-{seed}"
    counts = [0] * len(shop.cameras)

    def come() -> Iterator[Trip]:
        for visit in visits(shop, views, seed=seed, duration_s=duration_s, reentries=reentries):
            see_visit(visit)
            yield visit

    def look_on() -> Iterator[InView]:
        for view in watched(come(), views, np.random.default_rng([seed, 11]), duration_s=duration_s):
            if view.person is not None:
                see_view(view)
            yield view

    def dressed(batch: list[Track]) -> Iterator[Witnessed]:
        made = [track for track in batch if not track.missed]
        looks = iter(source(made)) if made else iter(())
        for track in batch:
            dress = None if track.missed else next(looks)
            if dress is None or not len(dress[0]):
                yield Witnessed(track, None)
                continue
            counts[track.camera] += 1
            key = SightingKey(shop.name, shop.cameras[track.camera].name, session, counts[track.camera])
            yield Witnessed(track, _sighting(shop, key, track, dress, source.network))

    batch: list[Track] = []
    for track in tracked(look_on(), shop, np.random.default_rng([seed, 13])):
        batch.append(track)
        if len(batch) == BATCH:
            yield from dressed(batch)
            batch = []
    yield from dressed(batch)


def record(
    shop: Shop,
    source: Source,
    folder: Path,
    *,
    seed: int,
    duration_s: float,
    refresh: bool = False,
    reentries: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Simulate a time from opening into `folder`, which is made; `progress` is called with (seconds, all seconds).

    `sightings.parquet` holds one closed revision of each sighting in order of its end, or, with `refresh`, all
    revisions in order of time; `calibration.json` what a cosine means; `truth/` the visits, their planned stays, their
    presence in the zones, entries (line crossings), who was in which camera's view, and who holds each track, each as JSONL
    and Parquet. The same arguments give the same bytes. Every file is whole or not there; `run.json` is written last.
    """
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    calibration, views = source.calibration(), Views(shop)
    if calibration is not None:
        write_json(folder / "calibration.json", calibration.to_dict())
    counts = {"visits": 0, "sightings": 0, "missed": 0, "false": 0}
    present = 0.0
    with (
        Truth(shop, folder / "truth") as truth,
        SightingWriter(folder / "sightings.parquet", length=source.length) as writer,
    ):

        def see_visit(visit: Trip) -> None:
            nonlocal present
            counts["visits"] += 1
            present += min(visit.leaves_s, duration_s) - min(visit.enters_s, duration_s)
            truth.visit(visit)
            truth.presence(visit.number, presence(visit, views))

        def look_on(witnessed: Iterator[Witnessed]) -> Iterator[Witnessed]:
            for done, each in enumerate(witnessed):
                if each.sighting is None:
                    counts["missed"] += 1
                else:
                    truth.track(each.track, each.sighting.key.track)
                    counts["sightings"] += 1
                    counts["false"] += each.track.person is None
                if done % BATCH == 0:
                    progress(round(min(each.track.opened_s, duration_s)), round(duration_s))
                yield each

        seen = witness(
            shop,
            source,
            seed=seed,
            duration_s=duration_s,
            views=views,
            see_visit=see_visit,
            see_view=lambda view: truth.in_view(view, found=view.found),
            reentries=reentries,
        )
        for sighting in in_order(look_on(seen), refresh=refresh):
            writer.write(sighting)
    progress(round(duration_s), round(duration_s))
    summary = Summary(**counts, people_present=present / duration_s)
    write_json(
        folder / "run.json",
        {
            "shop": shop.name,
            "shop_sha256": shop.sha256,
            "seed": seed,
            "duration_s": duration_s,
            **counts,
            "people_present": round(summary.people_present, 2),
        },
    )
    return summary


def in_order(witnessed: Iterable[Witnessed], *, refresh: bool) -> Iterator[Sighting]:
    """Sightings in order of when each revision became known; only those that last are held."""
    waiting: list[tuple[float, int, int, Sighting, Witnessed, Iterator[Sighting]]] = []

    def tell(number: int, each: Witnessed, left: Iterator[Sighting]) -> None:
        """Queue the next revision of a sighting, if any is left."""
        if each.sighting is not None and (revision := next(left, None)) is not None:
            known_s = each.track.end_s - (each.sighting.end - revision.end).total_seconds()
            heappush(waiting, (known_s, number, revision.revision, revision, each, left))

    def told(until_s: float) -> Iterator[Sighting]:
        while waiting and waiting[0][0] < until_s:
            _, number, _, revision, each, left = heappop(waiting)
            tell(number, each, left)
            yield revision

    for number, each in enumerate(witnessed):
        yield from told(each.track.opened_s)
        if each.sighting is not None:
            tell(number, each, revisions(each.sighting) if refresh else iter([each.sighting]))
    yield from told(math.inf)


def revisions(sighting: Sighting) -> Iterator[Sighting]:
    """All revisions of a closed sighting: opened, refreshed every 2 s, closed; each knows what was seen until then."""
    lasts_s = (sighting.end - sighting.start).total_seconds()
    at_s = sighting.path[:, 0]
    step = 0
    while step * REFRESH_S < lasts_s:
        until = sighting.start + timedelta(seconds=step * REFRESH_S)
        known = min(1 + step, len(sighting.prototypes))
        yield Sighting(
            sighting.key,
            step + 1,
            "open",
            sighting.start,
            until,
            sighting.prototypes[:known],
            sighting.quality[:known],
            sighting.pictures[:known],
            sighting.network,
            tuple(
                stay if stay.end is not None and stay.end <= until else Stay(stay.zone, stay.start, None)
                for stay in sighting.stays
                if stay.start <= until
            ),
            tuple(crossing for crossing in sighting.crossings if crossing.at <= until),
            sighting.path[: np.searchsorted(at_s, step * REFRESH_S, side="right")],
            sighting.path_on,
        )
        step += 1
    yield replace(sighting, revision=step + 1)


class Truth:
    """The truth of a simulated time, written as it goes by: `tables` as JSONL and Parquet; use it in a `with` block.

    A block that fails leaves none of them.
    """

    def __init__(self, shop: Shop, folder: Path, *, tables: Sequence[str] = tuple(TABLES)) -> None:
        self._shop = shop
        self._tables = {name: _Table(folder / name, pa.schema(TABLES[name])) for name in tables}
        self._open = ExitStack()

    def visit(self, visit: Trip) -> None:
        """Write one visit with its planned stays and its line crossings."""
        queue = visit.queue
        self._tables["visits"].write(
            visit=visit.number,
            person=visit.person,
            party=visit.party,
            staff=visit.staff,
            reentry=visit.reentry,
            bounced=visit.bounced,
            entered=self._at(visit.enters_s),
            left=self._at(visit.leaves_s),
            plan=[self._shop.zones[zone].name for zone in visit.plan],
            queued=queue and self._at(queue.joined_s),
            served=queue and self._at(queue.served_s),
            paid=queue and self._at(queue.left_s),
            coat_off=None if visit.coat_off_s is None else self._at(visit.coat_off_s),
        )
        self._zones("stays", visit.number, visit.stays)
        for line, at, inwards in visit.crossings:
            self._tables["entries"].write(
                visit=visit.number, line=self._shop.lines[line].name, at=self._at(at), inwards=inwards
            )

    def presence(self, visit: int, times: Sequence[tuple[int, float, float]]) -> None:
        """Write when a visit's person was inside each zone's polygon: (zone, from, to)."""
        self._zones("presence", visit, times)

    def _zones(self, table: str, visit: int, times: Sequence[tuple[int, float, float]]) -> None:
        for zone, since, until in times:
            self._tables[table].write(
                visit=visit, zone=self._shop.zones[zone].name, start=self._at(since), end=self._at(until)
            )

    def in_view(self, view: InView, *, found: bool | None = None) -> None:
        """Write one time that somebody was in a camera's view, in true times."""
        self._tables["in_view"].write(
            camera=self._shop.cameras[view.camera].name,
            person=view.person,
            visit=view.visit,
            start=self._at(view.start_s),
            end=self._at(view.end_s),
            distance_m=round(view.distance_m, 2),
            others=view.others,
            found=found,
        )

    def track(self, track: Track, number: int) -> None:
        """Write who holds the track of that number when, in true times."""
        total = sum(piece.until_s - piece.since_s for piece in track.pieces)
        for view, since, until in track.pieces:
            self._tables["tracks"].write(
                camera=self._shop.cameras[track.camera].name,
                track=number,
                person=view.person,
                visit=view.visit,
                start=self._at(since),
                end=self._at(until),
                share=round((until - since) / total, 4),
            )

    def _at(self, seconds: float) -> datetime:
        return self._shop.opens + timedelta(seconds=seconds)

    def __enter__(self) -> Self:
        for table in self._tables.values():
            self._open.enter_context(table)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


class _Table:
    """One table as JSONL and as Parquet, both whole or not at all; use it in a `with` block."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._rows: list[dict[str, object]] = []
        self._open = ExitStack()

    def write(self, **row: object) -> None:
        self._lines.write(ROW(row) + "\n")
        self._rows.append(row)
        if len(self._rows) >= 4096:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._parquet.write_table(pa.Table.from_pylist(self._rows, self._schema))
            self._rows = []

    def __enter__(self) -> Self:
        lines, parquet = (self._open.enter_context(whole(self._path.with_suffix(s))) for s in (".jsonl", ".parquet"))
        self._lines = self._open.enter_context(lines.open("w", encoding="utf-8"))
        self._parquet = self._open.enter_context(pq.ParquetWriter(parquet, self._schema, compression="zstd"))
        self._open.push(self._end)
        return self

    def _end(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


def _sighting(shop: Shop, key: SightingKey, track: Track, dress: Dress, network: str) -> Sighting:
    """The closed sighting that a camera makes of a track, at the times of the camera's own clock."""
    skew_s = shop.cameras[track.camera].skew_s
    vectors, quality, pictures = dress

    def at(seconds: float) -> datetime:
        return shop.opens + timedelta(seconds=seconds + skew_s)

    return Sighting(
        key,
        1,
        "closed",
        at(track.start_s),
        at(track.end_s),
        vectors,
        quality,
        pictures,
        network,
        tuple(Stay(shop.zones[zone].name, at(since), at(until)) for zone, since, until in track.stays),
        tuple(Crossing(shop.lines[line].name, at(when), inwards) for line, when, inwards in track.crossings),
        track.path(),
        "floor",
    )
