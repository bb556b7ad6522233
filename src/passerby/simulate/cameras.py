"""What a shop's cameras see of its floor, and what they miss: projection, views along paths, appearances of people."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from passerby.simulate.plan import CHEST_M, EYE_M, MEMBER_LAG_S, CameraPlan, Shop, along, crossings_of, length_m
from passerby.types import Float64

if TYPE_CHECKING:
    from passerby.simulate.people import Visit

CELL_M = 0.2  # of the map of what a camera sees
BRIDGE_S = 1.0  # a tracker holds on to a person who is out of view for less
BODY_RADIUS_M = 0.25


class Projection:
    """A pinhole camera: points of the shop, in metres, to pixels of the picture and back to the floor."""

    def __init__(self, camera: CameraPlan) -> None:
        heading, tilt = math.radians(camera.heading_deg), math.radians(camera.tilt_deg)
        forward = np.array([math.cos(heading) * math.cos(tilt), math.sin(heading) * math.cos(tilt), -math.sin(tilt)])
        right = np.array([math.sin(heading), -math.cos(heading), 0.0])
        self.eye: Float64 = np.array([*camera.position, camera.height_m])
        self.axes: Float64 = np.stack([right, np.cross(forward, right), forward])  # right, down, forward
        self.size: tuple[int, int] = (camera.width_px, camera.height_px)
        self.focal_px: float = camera.width_px / 2 / math.tan(math.radians(camera.fov_deg) / 2)

    def pixels(self, points: Float64) -> tuple[Float64, Float64]:
        """Points (n, 3) as pixels (n, 2), x to the right and y down, and their depth (n,) in metres along the view.

        A point with a depth of 0 or less lies behind the camera; its pixel means nothing.
        """
        across = (points - self.eye) @ self.axes.T
        depth = across[:, 2]
        safe = np.where(depth > 1e-6, depth, np.nan)
        centre = np.array(self.size) / 2
        return centre + self.focal_px * across[:, :2] / safe[:, None], depth

    def floor(self, pixels: Float64) -> Float64:
        """Where the rays of pixels (n, 2) meet the floor: (n, 2) in metres, NaN for those that look above the horizon."""
        rays = np.column_stack([(pixels - np.array(self.size) / 2) / self.focal_px, np.ones(len(pixels))]) @ self.axes
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = np.where(rays[:, 2] < -1e-9, -self.eye[2] / rays[:, 2], np.nan)
        result: Float64 = self.eye[:2] + reach[:, None] * rays[:, :2]
        return result

    def box(self, feet: Float64, *, height_m: float = 1.7) -> Float64:
        """The box x0, y0, x1, y1 (4,) in pixels of an upright person at `feet` (2,); NaN where part is behind the camera."""
        sides = self.axes[0, :2] * BODY_RADIUS_M  # to the camera's right
        points = np.array([[*(feet + side * sides), z] for side in (-1, 1) for z in (0.0, height_m)])
        pixels, depth = self.pixels(points)
        if (depth <= 0.1).any():
            return np.full(4, np.nan)
        return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


class Glimpse(NamedTuple):
    """A stretch of a path that one camera sees: from and to in metres from the path's start, mean distance in metres."""

    camera: int
    start_m: float
    end_m: float
    distance_m: float


class Views:
    """What each camera sees of the floor: a map of cells, and what follows for each path between two spots.

    A place is seen where a person's chest is inside the picture, nearer than the camera's range, and no obstacle stands
    before the head.
    """

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.projections = [Projection(camera) for camera in shop.cameras]
        across, up = (math.ceil(side / CELL_M) for side in shop.size_m)
        x, y = np.meshgrid((np.arange(across) + 0.5) * CELL_M, (np.arange(up) + 0.5) * CELL_M)
        cells = np.column_stack([x.ravel(), y.ravel()])
        seen = [self._seen(number, cells).reshape(up, across) for number in range(len(shop.cameras))]
        self.seen: NDArray[np.bool_] = np.stack(seen, axis=-1)  # (rows, columns, cameras)
        self._glimpses: dict[tuple[int, int], list[Glimpse]] = {}
        self._quiet: dict[tuple[int, int], float] = {}
        self._crossings: dict[tuple[int, int], list[tuple[float, int, bool]]] = {}
        self._lines = [line.line for line in shop.lines]

    def at(self, points: Float64) -> NDArray[np.bool_]:
        """Which cameras see each of `points` (n, 2) in metres: (n, cameras)."""
        rows, columns = self.seen.shape[:2]
        column = np.clip((points[:, 0] / CELL_M).astype(np.int64), 0, columns - 1)
        row = np.clip((points[:, 1] / CELL_M).astype(np.int64), 0, rows - 1)
        result: NDArray[np.bool_] = self.seen[row, column]
        return result

    def distance_m(self, camera: int, points: Float64) -> Float64:
        """From a camera to chests above `points` (n, 2): (n,) in metres."""
        level = np.column_stack([points, np.full(len(points), CHEST_M)])
        result: Float64 = np.linalg.norm(level - self.projections[camera].eye, axis=1)
        return result

    def glimpses(self, start: int, end: int) -> list[Glimpse]:
        """What the cameras see of the path between two spots, in order of its start; of a place if both are one."""
        key = (start, end)
        if key not in self._glimpses:
            path = self.shop.floor.path(start, end)
            total = length_m(path)
            at_m = np.linspace(0.0, total, max(2, math.ceil(total / CELL_M)))
            points = along(path, at_m) if start != end else np.repeat(path, 2, axis=0)
            seen = self.at(points)
            found = []
            for camera in np.flatnonzero(seen.any(axis=0)).tolist():
                edges = np.flatnonzero(np.diff(np.r_[False, seen[:, camera], False].astype(np.int8)))
                for first, behind in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                    middle = points[[(first + behind - 1) // 2]]
                    distance = float(self.distance_m(camera, middle)[0])
                    found.append(Glimpse(camera, float(at_m[first]), float(at_m[behind - 1]), distance))
            self._glimpses[key] = sorted(found, key=lambda glimpse: (glimpse.start_m, glimpse.camera))
        return self._glimpses[key]

    def quiet_m(self, start: int, end: int) -> float:
        """The middle of the longest stretch of a path that no camera sees, in metres; of the path where all of it is seen."""
        key = (start, end)
        if key not in self._quiet:
            total = length_m(self.shop.floor.path(start, end))
            ends, reached = [], 0.0
            for glimpse in self.glimpses(start, end):
                ends.append((reached, glimpse.start_m))
                reached = max(reached, glimpse.end_m)
            ends.append((reached, total))
            low, high = max(ends, key=lambda gap: gap[1] - gap[0])
            self._quiet[key] = (low + high) / 2 if high - low > CELL_M else total / 2
        return self._quiet[key]

    def crossings(self, start: int, end: int) -> list[tuple[float, int, bool]]:
        """Where the path between two spots crosses the shop's lines: (metres from its start, line, inwards), in order."""
        key = (start, end)
        if key not in self._crossings:
            path = self.shop.floor.path(start, end)
            self._crossings[key] = sorted(
                (at, number, inwards)
                for number, line in enumerate(self._lines)
                for at, inwards in crossings_of(path, line)
            )
        return self._crossings[key]

    def _seen(self, number: int, places: Float64) -> NDArray[np.bool_]:
        camera, projection = self.shop.cameras[number], self.projections[number]
        pixels, depth = projection.pixels(np.column_stack([places, np.full(len(places), CHEST_M)]))
        with np.errstate(invalid="ignore"):
            inside = (depth > 0.3) & ((pixels >= 0) & (pixels < projection.size)).all(axis=1)
        near = self.distance_m(number, places) <= camera.range_m
        heads = np.column_stack([places, np.full(len(places), EYE_M)])
        result: NDArray[np.bool_] = inside & near & ~self.shop.floor.hidden(projection.eye, heads)
        return result


@dataclass(slots=True)
class Appearance:
    """A time that a person was in a camera's view, true seconds from opening; `person` is None for a false sighting.

    `found` says whether the camera made a sighting of it. `distance_m` is the nearest, `others` how many people were in
    view when it began.
    """

    camera: int
    start_s: float
    end_s: float
    distance_m: float
    person: int | None
    visit: int | None
    stays: list[tuple[int, float, float]] = field(default_factory=list)
    crossings: list[tuple[int, float, bool]] = field(default_factory=list)
    others: int = 0
    found: bool = True


def appearances(visit: "Visit", views: Views) -> list[Appearance]:
    """Every time that one visit was in a camera's view, outages left out, at the times of the camera's frames."""
    found: dict[int, list[Appearance]] = {}
    for part in visit.parts:
        moved = part.to_m - part.from_m
        for glimpse in views.glimpses(part.start, part.end):
            low, high = max(glimpse.start_m, part.from_m), min(glimpse.end_m, part.to_m)
            if high < low:
                continue
            scale = (part.until_s - part.since_s) / moved if moved > 0 else 0.0
            since = part.since_s + (low - part.from_m) * scale
            until = part.since_s + (high - part.from_m) * scale if moved > 0 else part.until_s
            mine = found.setdefault(glimpse.camera, [])
            if mine and since - mine[-1].end_s < BRIDGE_S:
                mine[-1].end_s = max(mine[-1].end_s, until)
                mine[-1].distance_m = min(mine[-1].distance_m, glimpse.distance_m)
            else:
                mine.append(Appearance(glimpse.camera, since, until, glimpse.distance_m, visit.person, visit.number))
    every = [
        cut
        for camera, mine in found.items()
        for whole in mine
        for cut in _without_outages(whole, views.shop.cameras[camera])
    ]
    for seen in every:
        for zone, since, until in visit.stays:
            if since < seen.end_s and seen.start_s < until:
                seen.stays.append((zone, max(since, seen.start_s), min(until, seen.end_s)))
        for line, at, inwards in visit.crossings:
            if seen.start_s <= at <= seen.end_s:
                seen.crossings.append((line, at, inwards))
    return sorted(every, key=lambda seen: (seen.start_s, seen.camera))


def watched(
    visits: Iterable["Visit"], views: Views, rng: np.random.Generator, *, duration_s: float
) -> Iterator[Appearance]:
    """What the cameras made of visits, which come in order of their entry: every appearance in order of its start.

    Draws which ones are missed and adds false sightings. Only the people who are there are held in memory.
    """
    cameras = views.shop.cameras
    waiting: list[tuple[float, int, int, Appearance]] = []
    in_view: list[list[float]] = [[] for _ in cameras]  # a heap of ends for each camera
    serial = 0

    def push(seen: Appearance) -> None:
        nonlocal serial
        serial += 1
        heappush(waiting, (seen.start_s, seen.camera, serial, seen))

    def pop() -> Appearance:
        seen = heappop(waiting)[-1]
        present = in_view[seen.camera]
        while present and present[0] <= seen.start_s:
            heappop(present)
        if seen.person is not None:
            seen.others = len(present)
            heappush(present, seen.end_s)
            seen.found = bool(rng.random() >= miss_probability(cameras[seen.camera], seen.distance_m, seen.others))
        return seen

    for seen in false_sightings(cameras, rng, duration_s=duration_s):
        push(seen)
    for visit in visits:
        while waiting and waiting[0][0] < visit.enters_s - visit.member * MEMBER_LAG_S:  # its party's entry
            yield pop()
        for seen in appearances(visit, views):
            push(seen)
    while waiting:
        yield pop()


def miss_probability(camera: CameraPlan, distance_m: float, others: int) -> float:
    """How likely a camera misses a person at that distance among so many others in view; see `CameraPlan`."""
    far = min(1.0, distance_m / camera.range_m) ** 2
    return 1 - (1 - camera.miss) * (1 - camera.miss_far * far) * (1 - camera.miss_crowd) ** others


def false_sightings(cameras: Sequence[CameraPlan], rng: np.random.Generator, *, duration_s: float) -> list[Appearance]:
    """Sightings of nobody: Poisson, each of 1 to 6 seconds."""
    found = []
    for number, camera in enumerate(cameras):
        for start in np.sort(rng.uniform(0, duration_s, rng.poisson(camera.false_per_hour * duration_s / 3600))):
            whole = Appearance(
                number, float(start), float(start + rng.uniform(1, 6)), camera.range_m * rng.uniform(0.3, 1), None, None
            )
            found += _without_outages(whole, camera)
    return found


def _without_outages(seen: Appearance, camera: CameraPlan) -> list[Appearance]:
    """The parts of an appearance outside the camera's outages, from its first to its last frame; two frames at least."""
    bounds = [seen.start_s]
    for start, end in sorted(camera.outages):
        if start < seen.end_s and seen.start_s < end:
            bounds += [max(start, bounds[-1]), max(end, bounds[-1])]
    bounds.append(seen.end_s)
    parts = []
    for since, until in list(pairwise(bounds))[::2]:
        first = math.ceil(since * camera.fps - 1e-9) / camera.fps
        last = math.floor(until * camera.fps + 1e-9) / camera.fps
        if last > first:
            parts.append(Appearance(seen.camera, first, last, seen.distance_m, seen.person, seen.visit))
    return parts
