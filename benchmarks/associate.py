"""A day of 20,000 visits over 20 cameras, drawn vectors: what the associator's time and memory are.

    python benchmarks/associate.py                       # 12 hours, re-entry within 3: about 5,000 people remembered
    python benchmarks/associate.py --reentry 12          # all 20,000 remembered at the end
    python benchmarks/associate.py --fill 3 --until 3.25 # 3 hours at a look a minute, not counted, then a quarter

Each visit is seen by the entrance's camera, three to seven others and the entrance's again, a revision every two seconds.
Vectors have 512 numbers. Times are of the processor, of `take` and `advance` alone, on one thread (OMP_NUM_THREADS=1): making
the sightings is not counted. A batch is what comes between two looks, 5 s; a sighting's time is its batch's, shared by the
sightings that closed in it.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush

import numpy as np

from passerby.reid.calibration import Calibration, Curve
from passerby.shop import Crossing, Sighting, SightingKey
from passerby.types import Float32
from passerby.vision.associate import WATERMARK_S, Associator

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
CAMERAS = tuple(f"camera {number:02d}" for number in range(20))
LENGTH, NOISE = 512, 0.8
MAP = Calibration((((1, 1), Curve((0.0,), (25.0,), -7.5, 12.0, 9.0)),), "0" * 64, "fp32", "drawn")
REFRESH_S, LOOK_S = 2.0, 5.0


def unit(vectors: Float32) -> Float32:
    """The same with length 1."""
    result: Float32 = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return result


def visits(per_hour: float, hours: float, rng: np.random.Generator) -> Iterator[tuple[float, int, float, float, int]]:
    """(start, camera, lasts, person, -1 out, 1 in or 0) of each sighting, in order of visits."""
    second, person = 0.0, 0
    while (second := second + float(rng.exponential(3600 / per_hour))) < hours * 3600:
        person += 1
        at = second
        way = [0, *rng.integers(1, len(CAMERAS), int(rng.integers(3, 8))).tolist(), 0]
        for stop, camera in enumerate(way):
            lasts = float(rng.uniform(3, 30))
            yield at, camera, lasts, person, (stop == 0) - (stop == len(way) - 1)
            at += lasts + float(rng.lognormal(2.3 + (camera * 7 + way[max(stop - 1, 0)]) % 5 / 4, 0.45))


def revisions(per_hour: float, hours: float, seed: int, *, since_s: float = 0.0) -> Iterator[Sighting]:
    """All revisions of a day, in order of the time at which they are known; of what has closed before `since_s` the last."""
    rng = np.random.default_rng(seed)
    waiting: list[tuple[float, int, Sighting]] = []
    looks: tuple[float, Float32] = (0, np.zeros(LENGTH, np.float32))

    def at(second: float) -> datetime:
        return START + timedelta(seconds=second)

    began = 0.0
    for number, (start, camera, lasts, person, door) in enumerate(visits(per_hour, hours, rng), 1):
        if person != looks[0]:
            looks = person, unit(rng.normal(size=LENGTH).astype(np.float32))
            while waiting and waiting[0][0] < began:
                yield heappop(waiting)[2]
            began = start
        shared = 0.6 * rng.normal(size=LENGTH)
        noise = (shared + 0.8 * rng.normal(size=(4, LENGTH))) * NOISE / np.sqrt(LENGTH)
        prototypes = unit(looks[1] + noise.astype(np.float32))
        steps = np.arange(int(lasts) + 1)
        x, y = rng.uniform(0.2, 0.8, 2)
        path = np.stack([steps, np.clip(x + 0.02 * steps, 0, 1), np.full(len(steps), y)], axis=1).astype(np.float32)
        ends = [*np.arange(REFRESH_S, lasts, REFRESH_S).tolist(), lasts]
        for revision, end in enumerate(ends, 1):
            if start + lasts < since_s and revision < len(ends):
                continue
            many = min(4, revision)
            crossings = (Crossing("door", at(start + min(1.0, end)), door > 0),) if door and revision > 1 else ()
            made = Sighting(
                SightingKey("shop", CAMERAS[camera], "s", number),
                revision,
                "closed" if revision == len(ends) else "open",
                at(start),
                at(start + end),
                prototypes[:many],
                np.full(many, 0.9, np.float32),
                np.ones(many, np.int64),
                "n",
                crossings=crossings,
                path=path[: int(end) + 1],
            )
            heappush(waiting, (start + end, number * 64 + revision, made))
    while waiting:
        yield heappop(waiting)[2]


def main() -> None:
    """Print one row for each hour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=20_000, help="of the day")
    parser.add_argument("--hours", type=float, default=12.0)
    parser.add_argument("--reentry", type=float, default=3.0, help="hours")
    parser.add_argument("--until", type=float, help="hours after which to stop")
    parser.add_argument(
        "--fill", type=float, default=0.0, help="hours that are not counted: closed sightings, a look a minute"
    )
    arguments = parser.parse_args()
    associator = Associator(
        site="shop",
        cameras=CAMERAS,
        calibration=MAP,
        threshold=0.5,
        doors=["door"],
        reentry_s=arguments.reentry * 3600,
    )
    print("| hour | sightings | people remembered | s | ms a sighting | p99 of it | p99 of a batch, ms | MiB |")
    print("|---|---|---|---|---|---|---|---|")
    links: dict[SightingKey, SightingKey] = {}
    batch_s, closed = 0.0, 0
    now = START + timedelta(seconds=WATERMARK_S)  # so that a look a minute is one at everything
    rows: list[tuple[float, int]] = []
    hour, total_s = 1 + int(arguments.fill), 0.0
    filled = START + timedelta(hours=arguments.fill)
    per_hour = arguments.visits / arguments.hours
    for sighting in revisions(per_hour, arguments.hours, 1, since_s=3600 * arguments.fill):
        if sighting.end < filled:
            if now + timedelta(seconds=60) <= sighting.end:
                now += timedelta(seconds=60)
                associator.advance(now)
            if sighting.state == "closed":
                associator.take(sighting)
            continue
        if arguments.until is not None and sighting.end > START + timedelta(hours=arguments.until):
            break
        while now + timedelta(seconds=LOOK_S) <= sighting.end:
            now += timedelta(seconds=LOOK_S)
            began = time.process_time()
            changes = associator.advance(now)
            batch_s += time.process_time() - began
            links.update((link.later, link.earlier) for link in changes.links)
            rows.append((batch_s, closed))
            batch_s, closed = 0.0, 0
        if now >= START + timedelta(hours=hour):
            total_s += sum(seconds for seconds, _ in rows)
            _print(hour, rows, associator)
            hour, rows = hour + 1, []
        began = time.process_time()
        associator.take(sighting)
        batch_s += time.process_time() - began
        closed += sighting.state == "closed"
    if rows:
        _print(hour, rows, associator)
    began = time.process_time()
    state, vectors = associator.snapshot()
    took_ms = 1000 * (time.process_time() - began)
    mebibytes = [len(state) / 2**20, sum(rows.nbytes for rows in vectors.values()) / 2**20]
    print(f"\nA snapshot: {took_ms:.0f} ms, {mebibytes[0]:.1f} MiB and {mebibytes[1]:.1f} MiB of vectors")
    if arguments.until is None:
        began = time.process_time()
        associator.finish()
        total_s += sum(seconds for seconds, _ in rows) + time.process_time() - began
    print(f"\n{total_s:.0f} s in all")


def _print(hour: int, rows: list[tuple[float, int]], associator: Associator) -> None:
    seconds, closed = sum(seconds for seconds, _ in rows), sum(number for _, number in rows)
    each = np.repeat([1000 * s / n for s, n in rows if n], [n for _, n in rows if n])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    batch = 1000 * float(np.quantile([s for s, _ in rows], 0.99))
    print(
        f"| {hour} | {closed:,} | {associator.people:,} | {seconds:.1f} | {1000 * seconds / closed:.2f} "
        f"| {np.quantile(each, 0.99):.1f} | {batch:.0f} | {memory} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
