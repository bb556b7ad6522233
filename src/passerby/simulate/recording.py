"""What a simulated day leaves on disk: sightings as the associator takes them, and the truth in files of its own."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import heappop, heappush
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from passerby.reid.calibration import Calibration
from passerby.shop import Crossing, Sighting, SightingKey, Stay
from passerby.simulate.cameras import Views
from passerby.simulate.people import Trip, visits
from passerby.simulate.plan import Shop
from passerby.simulate.watching import Appearance, watched
from passerby.types import Float32
from passerby.vision.parquet import SightingWriter

BATCH = 512  # appearances dressed at once
REFRESH_S = 2.0  # at most this often is a sighting refreshed while it lasts
TIME = pa.timestamp("us", tz="UTC")
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
    "entries": [("visit", pa.int64()), ("line", pa.string()), ("at", TIME), ("inwards", pa.bool_())],
    "appearances": [
        ("camera", pa.string()),
        ("track", pa.int64()),  # null where the camera missed it
        ("person", pa.int64()),  # null where there was nobody
        ("visit", pa.int64()),
        ("start", TIME),
        ("end", TIME),
        ("distance_m", pa.float32()),
        ("others", pa.int32()),
    ],
}


class Source(Protocol):
    """Where vectors come from: called with appearances, and for each whether the coat is off, it gives
    (unit vectors (n, length), quality (n,)) for each; none where the source has nothing left to show.
    """

    @property
    def length(self) -> int:
        """Numbers of a vector."""

    @property
    def network(self) -> str:
        """What makes them, as `Sighting.network` says it."""

    def __call__(self, seen: Sequence[Appearance], coats: Sequence[bool]) -> list[tuple[Float32, Float32]]:
        """Dress them."""

    def calibration(self) -> Calibration | None:
        """What a cosine of two sightings means, where that is known."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a simulated time held: how many visits and sightings there were, and the mean number of people present."""

    visits: int
    sightings: int
    missed: int
    false: int
    people_present: float


@dataclass(frozen=True, slots=True)
class Witnessed:
    """An appearance with the sighting that a camera made of it; None where it was missed."""

    appearance: Appearance
    sighting: Sighting | None


def witness(
    shop: Shop,
    source: Source,
    *,
    seed: int,
    duration_s: float,
    views: Views | None = None,
    see_visit: Callable[[Trip], None] = lambda visit: None,
    reentries: bool = True,
) -> Iterator[Witnessed]:
    """Simulate a time from opening: every appearance in order of its start, with its closed sighting.

    `see_visit` is called with each visit as it is simulated. The same arguments give the same sightings.
    """
    views = views or Views(shop)
    session = f"{shop.sha256[:16]}-{seed}"
    tracks = [0] * len(shop.cameras)
    coats: dict[int, float] = {}  # people who take their coat off

    def come() -> Iterator[Trip]:
        for visit in visits(shop, views, seed=seed, duration_s=duration_s, reentries=reentries):
            if visit.coat_off_s is not None:
                coats[visit.number] = visit.coat_off_s
            see_visit(visit)
            yield visit

    def dressed(batch: list[Appearance]) -> Iterator[Witnessed]:
        found = [seen for seen in batch if seen.found]
        off = [seen.visit is not None and coats.get(seen.visit, np.inf) <= seen.start_s for seen in found]
        looks = iter(source(found, off)) if found else iter(())
        for seen in batch:
            vectors, quality = next(looks) if seen.found else (None, None)
            if vectors is None or quality is None or not len(vectors):
                seen.found = False
                yield Witnessed(seen, None)
                continue
            tracks[seen.camera] += 1
            key = SightingKey(shop.name, shop.cameras[seen.camera].name, session, tracks[seen.camera])
            yield Witnessed(seen, _sighting(shop, key, seen, vectors, quality, source.network))

    batch: list[Appearance] = []
    for seen in watched(come(), views, np.random.default_rng([seed, 11]), duration_s=duration_s):
        batch.append(seen)
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
    revisions in order of time; `calibration.json` what a cosine means; `truth/` the visits, stays, entries (line
    crossings) and appearances, each as JSONL and Parquet. The same arguments give the same bytes.
    """
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    calibration = source.calibration()
    if calibration is not None:
        (folder / "calibration.json").write_text(json.dumps(calibration.to_dict(), indent=1) + "\n")
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

        def look_on(witnessed: Iterator[Witnessed]) -> Iterator[Witnessed]:
            for done, each in enumerate(witnessed):
                truth.appearance(each)
                counts["missed" if each.sighting is None else "sightings"] += 1
                counts["false"] += each.appearance.person is None
                if done % BATCH == 0:
                    progress(round(min(each.appearance.start_s, duration_s)), round(duration_s))
                yield each

        seen = witness(shop, source, seed=seed, duration_s=duration_s, see_visit=see_visit, reentries=reentries)
        for sighting in in_order(look_on(seen), refresh=refresh):
            writer.write(sighting)
    progress(round(duration_s), round(duration_s))
    summary = Summary(**counts, people_present=present / duration_s)
    (folder / "run.json").write_text(
        json.dumps(
            {
                "shop": shop.name,
                "shop_sha256": shop.sha256,
                "seed": seed,
                "duration_s": duration_s,
                **counts,
                "people_present": round(summary.people_present, 2),
            },
            indent=1,
        )
        + "\n"
    )
    return summary


def in_order(witnessed: Iterable[Witnessed], *, refresh: bool) -> Iterator[Sighting]:
    """Sightings in order of when each revision became known; only those that last are held."""
    waiting: list[tuple[float, int, Sighting]] = []
    serial = 0
    for each in witnessed:
        while waiting and waiting[0][0] < each.appearance.start_s:
            yield heappop(waiting)[-1]
        if each.sighting is None:
            continue
        for revision in revisions(each.sighting) if refresh else [each.sighting]:
            serial += 1
            behind_s = (each.sighting.end - revision.end).total_seconds()
            heappush(waiting, (each.appearance.end_s - behind_s, serial, revision))
    while waiting:
        yield heappop(waiting)[-1]


def revisions(sighting: Sighting) -> list[Sighting]:
    """All revisions of a closed sighting: opened, refreshed every 2 s, closed; each knows what was seen until then."""
    made = []
    steps = int((sighting.end - sighting.start).total_seconds() / REFRESH_S)
    for step in range(steps + 1):
        until = sighting.start + timedelta(seconds=step * REFRESH_S)
        if until >= sighting.end:
            break
        known = min(1 + step, len(sighting.prototypes))
        made.append(
            Sighting(
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
            )
        )
    made.append(replace(sighting, revision=len(made) + 1))
    return made


class Truth:
    """The truth of a simulated time, written as it goes by: tables as JSONL and Parquet; use it in a `with` block."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self._shop = shop
        self._tables = {name: _Table(folder / name, pa.schema(columns)) for name, columns in TABLES.items()}

    def visit(self, visit: Trip) -> None:
        """Write one visit with its stays and line crossings."""
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
        for zone, since, until in visit.stays:
            self._tables["stays"].write(
                visit=visit.number, zone=self._shop.zones[zone].name, start=self._at(since), end=self._at(until)
            )
        for line, at, inwards in visit.crossings:
            self._tables["entries"].write(
                visit=visit.number, line=self._shop.lines[line].name, at=self._at(at), inwards=inwards
            )

    def appearance(self, each: Witnessed) -> None:
        """Write one appearance, found, missed or false, at true times."""
        seen = each.appearance
        self._tables["appearances"].write(
            camera=self._shop.cameras[seen.camera].name,
            track=each.sighting and each.sighting.key.track,
            person=seen.person,
            visit=seen.visit,
            start=self._at(seen.start_s),
            end=self._at(seen.end_s),
            distance_m=round(seen.distance_m, 2),
            others=seen.others,
        )

    def _at(self, seconds: float) -> datetime:
        return self._shop.opens + timedelta(seconds=seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for table in self._tables.values():
            table.close()


class _Table:
    """One table as JSONL and as Parquet."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._lines = path.with_suffix(".jsonl").open("w", encoding="utf-8")
        self._parquet = pq.ParquetWriter(path.with_suffix(".parquet"), schema, compression="zstd")
        self._rows: list[dict[str, object]] = []

    def write(self, **row: object) -> None:
        self._lines.write(json.dumps(row, default=datetime.isoformat) + "\n")
        self._rows.append(row)
        if len(self._rows) >= 4096:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._parquet.write_table(pa.Table.from_pylist(self._rows, self._schema))
            self._rows = []

    def close(self) -> None:
        self._flush()
        self._parquet.close()
        self._lines.close()


def _sighting(
    shop: Shop, key: SightingKey, seen: Appearance, vectors: Float32, quality: Float32, network: str
) -> Sighting:
    """The closed sighting that a camera makes of an appearance, at the times of the camera's own clock."""
    camera = shop.cameras[seen.camera]

    def at(seconds: float) -> datetime:
        return shop.opens + timedelta(seconds=seconds + camera.skew_s)

    return Sighting(
        key,
        1,
        "closed",
        at(seen.start_s),
        at(seen.end_s),
        vectors,
        quality,
        np.ones(len(quality), np.int64),
        network,
        tuple(Stay(shop.zones[zone].name, at(since), at(until)) for zone, since, until in seen.stays),
        tuple(Crossing(shop.lines[line].name, at(when), inwards) for line, when, inwards in seen.crossings),
    )
