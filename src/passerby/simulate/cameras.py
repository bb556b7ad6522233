"""What a shop's cameras see of its floor, and along each path over it."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from passerby.simulate.plan import CHEST_M, EYE_M, Shop, along, length_m
from passerby.types import Float64, SimulationError
from passerby.vision.floor import Projection, crossings_of, stretches_in

CELL_M = 0.2  # of the map of what a camera sees
SHARED_M2 = 1.0  # of floor that two cameras see both, from which they overlap


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
        self.projections = [Projection(camera.pose) for camera in shop.cameras]
        across, up = (math.ceil(side / CELL_M) for side in shop.size_m)
        x, y = np.meshgrid((np.arange(across) + 0.5) * CELL_M, (np.arange(up) + 0.5) * CELL_M)
        cells = np.column_stack([x.ravel(), y.ravel()])
        seen = [self._seen(number, cells).reshape(up, across) for number in range(len(shop.cameras))]
        self.seen: NDArray[np.bool_] = np.stack(seen, axis=-1)  # (rows, columns, cameras)
        self._glimpses: dict[tuple[int, int], list[Glimpse]] = {}
        self._quiet: dict[tuple[int, int], float] = {}
        self._crossings: dict[tuple[int, int], list[tuple[float, int, bool]]] = {}
        self._stretches: dict[tuple[int, int], list[tuple[int, float, float]]] = {}
        self._corners: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
        self.lines = [line.line for line in shop.lines]
        self.zones = [zone.zone for zone in shop.zones]
        self._areas = np.array([zone.area for zone in shop.zones])
        self.cells = [cells[mask.ravel()] for mask in seen]  # of each camera, the middles (n, 2) of what it sees
        names = [camera.name for camera in shop.cameras]
        for pair in shop.overlaps:
            if not self.overlap(*(names.index(name) for name in pair)):
                raise SimulationError(
                    f"overlaps: {' and '.join(pair)} see under {SHARED_M2:g} m² of floor in common; turn or move one, or "
                    "leave the pair out (--plan draws what each camera sees)"
                )

    def at(self, points: Float64) -> NDArray[np.bool_]:
        """Which cameras see each of `points` (n, 2) in metres: (n, cameras)."""
        rows, columns = self.seen.shape[:2]
        column = np.clip((points[:, 0] / CELL_M).astype(np.int64), 0, columns - 1)
        row = np.clip((points[:, 1] / CELL_M).astype(np.int64), 0, rows - 1)
        result: NDArray[np.bool_] = self.seen[row, column]
        return result

    def overlap(self, one: int, other: int) -> bool:
        """Whether two cameras see a square metre or more of floor in common."""
        return int((self.seen[..., one] & self.seen[..., other]).sum()) * CELL_M**2 >= SHARED_M2

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

    def unseen_m(self, start: int, end: int) -> tuple[float, float] | None:
        """The first stretch of a path that no camera sees, from and to in metres; None where all of it is seen."""
        reached = 0.0
        for glimpse in self.glimpses(start, end):
            if glimpse.start_m - reached > CELL_M:
                return reached, glimpse.start_m
            reached = max(reached, glimpse.end_m)
        total = length_m(self.shop.floor.path(start, end))
        return (reached, total) if total - reached > CELL_M else None

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
                for number, line in enumerate(self.lines)
                for at, inwards in crossings_of(path, line)
            )
        return self._crossings[key]

    def stretches(self, start: int, end: int) -> list[tuple[int, float, float]]:
        """Where the path between two spots runs inside the shop's zones: (zone, from and to in metres from its start)."""
        key = (start, end)
        if key not in self._stretches:
            path = self.shop.floor.path(start, end)
            path = path if len(path) > 1 else np.repeat(path, 2, axis=0)
            low, high = path.min(axis=0), path.max(axis=0)
            near = np.flatnonzero(((self._areas[:, :2] <= high) & (self._areas[:, 2:] >= low)).all(axis=1))
            self._stretches[key] = [
                (number, since, until)
                for number in near.tolist()
                for since, until in stretches_in(path, self.zones[number])
            ]
        return self._stretches[key]

    def corners(self, start: int, end: int) -> list[tuple[float, float, float]]:
        """The corners of the path between two spots, both ends included: (metres from its start, x, y)."""
        key = (start, end)
        if key not in self._corners:
            path = self.shop.floor.path(start, end)
            reached = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))]
            self._corners[key] = [(m, x, y) for m, (x, y) in zip(reached.tolist(), path.tolist(), strict=True)]
        return self._corners[key]

    def _seen(self, number: int, places: Float64) -> NDArray[np.bool_]:
        camera, projection = self.shop.cameras[number], self.projections[number]
        pixels, depth = projection.pixels(np.column_stack([places, np.full(len(places), CHEST_M)]))
        with np.errstate(invalid="ignore"):
            inside = (depth > 0.3) & ((pixels >= 0) & (pixels < projection.size)).all(axis=1)
        near = self.distance_m(number, places) <= camera.range_m
        heads = np.column_stack([places, np.full(len(places), EYE_M)])
        result: NDArray[np.bool_] = inside & near & ~self.shop.floor.hidden(projection.eye, heads)
        return result
