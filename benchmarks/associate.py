"""A day of 20,000 visits over 20 cameras, drawn vectors: the associator's time, memory, and what its links promise.

    python benchmarks/associate.py                       # 12 hours, re-entry within 3: about 5,000 people remembered
    python benchmarks/associate.py --reentry 12          # all 20,000 remembered at the end
    python benchmarks/associate.py --fill 3 --until 3.25 # 3 hours at a look a minute, not counted, then a quarter
    python benchmarks/associate.py --until 4 --model osnet_x0_75   # vectors as a network makes them

Each visit is seen by the entrance's camera, three to seven others and the entrance's again, a revision every two seconds.
Vectors have 512 numbers. Times are of the processor, of `take` and `advance` alone, on one thread (OMP_NUM_THREADS=1): making
the sightings is not counted. A batch is what comes between two looks, 5 s; a sighting's time is its batch's, shared by the
sightings that closed in it.

With `--model` vectors are drawn from what that network makes of Market-1501's test people. A person's own part is a real
person's mean, mixed with a draw from the normal distribution of such means; what a sighting adds is what a real person's crops
in one camera have beside the mean of that person's in the others, as large as with another real person. Two factors make the
lowest cosines of one person and the highest of two people those of real ones. The calibration is the network's own.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import groupby

import numpy as np

from passerby.reid.assess import labelled
from passerby.reid.calibration import Calibration, Curve
from passerby.reid.datasets import read_dataset
from passerby.reid.embedder import Embedder
from passerby.reid.engine import processor
from passerby.shop import Crossing, Link, Sighting, SightingKey
from passerby.simulate.benchmark import Promises
from passerby.types import Float32, Float64
from passerby.vision.associate import WATERMARK_S, Associator
from shared import SHARED, ratings, vectors_of

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
CAMERAS = tuple(f"camera {number:02d}" for number in range(20))
LENGTH, NOISE = 512, 0.8
MAP = Calibration((((1, 1), Curve((0.0,), (25.0,), -7.5, 12.0, 9.0)),), "0" * 64, "fp32", "drawn")
REFRESH_S, LOOK_S = 2.0, 5.0
UNLIKE, ALIKE = 0.1, 0.999  # quantiles where drawn cosines are as real ones: of one person's, of two people's


def unit(vectors: Float32) -> Float32:
    """The same with length 1."""
    result: Float32 = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return result


class Drawn:
    """Vectors drawn evenly on the sphere, with noise of which a whole sighting shares a part."""

    calibration = MAP

    def person(self, rng: np.random.Generator) -> Float32:
        """Somebody's own part."""
        return unit(rng.normal(size=LENGTH).astype(np.float32))

    def sighting(self, own: Float32, rng: np.random.Generator) -> tuple[Float32, Float32]:
        """The vectors of a sighting, as many as it may have, and their quality."""
        shared = 0.6 * rng.normal(size=LENGTH)
        noise = (shared + 0.8 * rng.normal(size=(4, LENGTH))) * NOISE / np.sqrt(LENGTH)
        return unit(own + noise.astype(np.float32)), np.full(4, 0.9, np.float32)


class LikeNetwork(Drawn):
    """Vectors as a network makes them of Market-1501's test people, see above."""

    def __init__(self, name: str) -> None:
        embedder = Embedder(name, precision="fp32")
        entry = embedder.card and embedder.card.calibrations.get("fp32")
        if not entry:
            raise SystemExit(f"{name} has no calibration; make one with passerby calibrate")
        self.calibration = Calibration.from_dict(entry)
        pictures = labelled(read_dataset("market1501", SHARED / "datasets" / "market1501"))
        vectors, rated = vectors_of(embedder, pictures), ratings(pictures)
        order = sorted(range(len(pictures)), key=lambda row: (pictures[row].person, str(pictures[row].camera)))
        self._crops: list[tuple[int, Float32, Float32]] = []
        means: list[Float32] = []
        around: list[Float64] = []
        real: list[list[Float32]] = []
        for _, group in groupby(order, key=lambda row: pictures[row].person):
            cameras = [np.array(list(mine)) for _, mine in groupby(group, key=lambda row: str(pictures[row].camera))]
            of = np.stack([vectors[mine].mean(axis=0) for mine in cameras])
            if len(of) < 2:
                continue
            for number, mine in enumerate(cameras):
                others = np.delete(of, number, axis=0).mean(axis=0)
                self._crops.append((len(means), vectors[mine] - others, rated[mine]))
            means.append(of.mean(axis=0))
            around.append(np.cov(of.T, bias=True) / (len(of) - 1))
            real.append([vectors[mine[0]] for mine in cameras[:2]])
        self._real = np.array(real)  # (people, 2, length): a picture in each of two cameras
        self._mean = np.mean(means, axis=0)
        self._own = np.array(means) - self._mean
        values, axes = np.linalg.eigh(np.cov(self._own.T) - np.mean(around, axis=0))
        self._spread = (axes * np.sqrt(np.maximum(values, 0))).astype(np.float32)
        square = np.zeros((2, len(means)))
        for person, crops, _ in self._crops:
            square[:, person] += np.square(crops).sum(), len(crops)
        self._size = np.sqrt(square[0] / square[1]).astype(np.float32)  # of what a sighting adds, for each person
        same, two = _cosines(self._real)
        self._share = self._noise = 0.8
        for _ in range(4):
            drawn = np.quantile(_cosines(self._two_each())[1], ALIKE)
            self._share = float(np.clip(self._share * np.quantile(two, ALIKE) / drawn, 0, 1))
            drawn = np.quantile(_cosines(self._two_each())[0], UNLIKE)
            self._noise *= float(np.sqrt((1 / np.quantile(same, UNLIKE) - 1) / (1 / drawn - 1)))

    def person(self, rng: np.random.Generator) -> Float32:
        """Somebody's own part."""
        like, size = rng.integers(len(self._own), size=2)
        drawn = self._spread @ rng.normal(size=len(self._mean)).astype(np.float32)
        own = self._mean + self._share * self._own[like] + np.sqrt(1 - self._share**2) * drawn
        return np.append(own, self._size[size]).astype(np.float32)

    def sighting(self, own: Float32, rng: np.random.Generator) -> tuple[Float32, Float32]:
        """The vectors of a sighting, as many as it may have, and their quality."""
        person, crops, rated = self._crops[rng.integers(len(self._crops))]
        chosen = rng.permutation(len(crops))[:4]
        return unit(own[:-1] + self._noise * own[-1] / self._size[person] * crops[chosen]), rated[chosen]

    def compare(self) -> None:
        """Print the cosines of two vectors of one person and of two people, real ones (in two cameras) beside drawn ones."""
        print("\n| cosines | mean | standard deviation | a tenth below | a thousandth above |\n|---|---|---|---|---|")
        for name, vectors in (("real", self._real), ("drawn", self._two_each())):
            for whose, values in zip(("one person", "two people"), _cosines(vectors), strict=True):
                low, high = np.quantile(values, [UNLIKE, ALIKE])
                print(f"| {name}, {whose} | {values.mean():.3f} | {values.std():.3f} | {low:.3f} | {high:.3f} |")
        print()

    def _two_each(self) -> Float32:
        rng = np.random.default_rng(0)
        people = [self.person(rng) for _ in range(3000)]
        return np.array([[self.sighting(own, rng)[0][0] for _ in range(2)] for own in people])


def _cosines(vectors: Float32) -> tuple[Float32, Float32]:
    """Of two vectors each of some people (people, 2, length): those of one person, and those of two people."""
    cosines = vectors[:, 0] @ vectors[:, 1].T
    return np.diagonal(cosines), cosines[~np.eye(len(vectors), dtype=bool)]


def visits(per_hour: float, hours: float, rng: np.random.Generator) -> Iterator[tuple[float, int, float, int, int]]:
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


def revisions(
    per_hour: float, hours: float, seed: int, vectors: Drawn, who: dict[SightingKey, int], *, since_s: float = 0.0
) -> Iterator[Sighting]:
    """All revisions of a day, in order of the time at which they are known; of what has closed before `since_s` the last.

    Who each sighting truly is is written to `who`.
    """
    rng = np.random.default_rng(seed)
    waiting: list[tuple[float, int, Sighting]] = []
    last, own = 0, np.zeros(LENGTH, np.float32)

    def at(second: float) -> datetime:
        return START + timedelta(seconds=second)

    began = 0.0
    for number, (start, camera, lasts, person, door) in enumerate(visits(per_hour, hours, rng), 1):
        if person != last:
            last, own = person, vectors.person(rng)
            while waiting and waiting[0][0] < began:
                yield heappop(waiting)[2]
            began = start
        prototypes, quality = vectors.sighting(own, rng)
        key = SightingKey("shop", CAMERAS[camera], "s", number)
        who[key] = person
        steps = np.arange(int(lasts) + 1)
        x, y = rng.uniform(0.2, 0.8, 2)
        path = np.stack([steps, np.clip(x + 0.02 * steps, 0, 1), np.full(len(steps), y)], axis=1).astype(np.float32)
        ends = [*np.arange(REFRESH_S, lasts, REFRESH_S).tolist(), lasts]
        for revision, end in enumerate(ends, 1):
            if start + lasts < since_s and revision < len(ends):
                continue
            many = min(len(prototypes), revision)
            crossings = (Crossing("door", at(start + min(1.0, end)), door > 0),) if door and revision > 1 else ()
            made = Sighting(
                key,
                revision,
                "closed" if revision == len(ends) else "open",
                at(start),
                at(start + end),
                prototypes[:many],
                quality[:many],
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
    parser.add_argument("--model", help="draw vectors as this network makes them, by its calibration")
    arguments = parser.parse_args()
    print(processor())
    if arguments.model is None:
        vectors = Drawn()
    else:
        vectors = like = LikeNetwork(arguments.model)
        like.compare()
    associator = Associator(
        site="shop",
        cameras=CAMERAS,
        calibration=vectors.calibration,
        threshold=0.5,
        doors=["door"],
        reentry_s=arguments.reentry * 3600,
    )
    print("| hour | sightings | people remembered | s | ms a sighting | p99 of it | p99 of a batch, ms | MiB |")
    print("|---|---|---|---|---|---|---|---|")
    links: dict[SightingKey, Link] = {}
    who: dict[SightingKey, int] = {}
    start: dict[SightingKey, datetime] = {}
    batch_s, closed = 0.0, 0
    now = START + timedelta(seconds=WATERMARK_S)  # so that a look a minute is one at everything
    rows: list[tuple[float, int]] = []
    hour, total_s = 1 + int(arguments.fill), 0.0
    filled = START + timedelta(hours=arguments.fill)
    per_hour = arguments.visits / arguments.hours
    for sighting in revisions(per_hour, arguments.hours, 1, vectors, who, since_s=3600 * arguments.fill):
        start[sighting.key] = sighting.start
        if sighting.end < filled:
            if now + timedelta(seconds=60) <= sighting.end:
                now += timedelta(seconds=60)
                associator.advance(now).update(links)
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
            changes.update(links)
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
    state, kept = associator.snapshot()
    took_ms = 1000 * (time.process_time() - began)
    mebibytes = [len(state) / 2**20, sum(rows.nbytes for rows in kept.values()) / 2**20]
    print(f"\nA snapshot: {took_ms:.0f} ms, {mebibytes[0]:.1f} MiB and {mebibytes[1]:.1f} MiB of vectors")
    began = time.process_time()
    changes = associator.finish()
    total_s += sum(seconds for seconds, _ in rows) + time.process_time() - began
    changes.update(links)
    print(f"\n{total_s:.0f} s in all")
    _print_promises(list(links.values()), who, start)


def _print_promises(links: list[Link], who: dict[SightingKey, int], start: dict[SightingKey, datetime]) -> None:
    """False links beside those promised, by how many people had come when their later sighting began."""
    of: dict[int, list[Link]] = {}
    for link in links:
        hour = int((start[link.later] - START).total_seconds() // 3600)
        of.setdefault(hour, []).append(link)
    print("\n| hour | people so far | links | false ones promised | seen | calibration error |")
    print("|---|---|---|---|---|---|")
    people = 0
    for hour, mine in [*sorted(of.items()), (-1, links)]:
        promises = Promises(
            np.array([each.probability for each in mine]),
            np.array([who[each.earlier] == who[each.later] for each in mine], np.bool_),
        )
        people = max(people, *(who[each.later] for each in mine))
        print(
            f"| {hour + 1 or 'all'} | {people:,} | {len(mine):,} | {promises.promised:.1f} | {promises.seen} "
            f"| {promises.error:.3f} |"
        )


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
