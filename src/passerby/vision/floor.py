"""The floor and the picture: pinhole cameras, planes tied to pictures, paths inside zones, and paths that cross lines."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from passerby.shop import Line, Zone
from passerby.types import Float64, SightingError

BODY_RADIUS_M = 0.25


@dataclass(frozen=True, slots=True)
class Pose:
    """How a camera hangs: metres above and on the floor, degrees (heading counter-clockwise from x, tilt downwards)."""

    position: tuple[float, float]
    height_m: float
    heading_deg: float
    tilt_deg: float
    fov_deg: float
    width_px: int
    height_px: int


class Projection:
    """A pinhole camera: points of the shop, in metres, to pixels of the picture and back to the floor."""

    def __init__(self, camera: Pose) -> None:
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

    def floor(self, pixels: Float64, *, height_m: float = 0.0) -> Float64:
        """Where the rays of pixels (n, 2) meet the floor, or the plane `height_m` above it: (n, 2) in metres.

        NaN for rays that never do: they look above the horizon.
        """
        rays = np.column_stack([(pixels - np.array(self.size) / 2) / self.focal_px, np.ones(len(pixels))]) @ self.axes
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = np.where(rays[:, 2] < -1e-9, (height_m - self.eye[2]) / rays[:, 2], np.nan)
        result: Float64 = self.eye[:2] + reach[:, None] * rays[:, :2]
        return result

    def shown(self, floor: Float64, *, width: int, height: int) -> Float64:
        """Where points (n, 2) of the floor, in metres, are seen: pixels (n, 2) of a picture of that size, NaN behind it."""
        pixels, depth = self.pixels(np.column_stack([floor, np.zeros(len(floor))]))
        result: Float64 = np.where(depth[:, None] > 0.1, pixels * [width / self.size[0], height / self.size[1]], np.nan)
        return result

    def box(self, feet: Float64, *, height_m: float = 1.7) -> Float64:
        """The box x0, y0, x1, y1 (4,) in pixels of an upright person at `feet` (2,); NaN where part is behind the camera."""
        sides = self.axes[0, :2] * BODY_RADIUS_M  # to the camera's right
        points = np.array([[*(feet + side * sides), z] for side in (-1, 1) for z in (0.0, height_m)])
        pixels, depth = self.pixels(points)
        if (depth <= 0.1).any():
            return np.full(4, np.nan)
        return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


class Plane:
    """A floor tied to a picture by four points or more: fractions of the picture to metres on the floor (a homography)."""

    def __init__(self, picture: Float64, floor: Float64) -> None:
        """`picture` (n, 2) in fractions and `floor` (n, 2) in metres; raises SightingError where they lie on one line."""
        import cv2

        found, _ = cv2.findHomography(picture, floor)
        if found is None or not np.isfinite(found).all() or abs(np.linalg.det(found)) < 1e-9:
            raise SightingError(
                f"floor points: expected {len(picture)} points, no three of them on one line, got {floor.tolist()}"
            )
        self._to_floor: Float64 = np.asarray(found, np.float64)
        middle = np.append(picture.mean(axis=0), 1.0)
        self._sign = float(np.sign(self._to_floor[2] @ middle))  # of the side of the horizon that the floor is on

    def floor(self, fractions: Float64) -> Float64:
        """Where points (n, 2) of the picture lie on the floor: (n, 2) in metres, NaN for those above the horizon."""
        rows = np.column_stack([fractions, np.ones(len(fractions))]) @ self._to_floor.T
        with np.errstate(divide="ignore", invalid="ignore"):
            result: Float64 = np.where(rows[:, 2:] * self._sign > 1e-9, rows[:, :2] / rows[:, 2:], np.nan)
        return result

    def shown(self, floor: Float64, *, width: int, height: int) -> Float64:
        """Where points (n, 2) of the floor, in metres, are seen: pixels (n, 2) of a picture of that size, NaN behind it."""
        rows = np.column_stack([floor, np.ones(len(floor))]) @ np.linalg.inv(self._to_floor).T
        fractions = np.where(rows[:, 2:] * self._sign > 1e-9, rows[:, :2] / rows[:, 2:], np.nan)
        result: Float64 = fractions * [width, height]
        return result


def crossings_of(path: Float64, line: Line) -> list[tuple[float, bool]]:
    """Where a path (points, 2) crosses a line: (way from its start, inwards), in order.

    Path and line are in one frame, see `Line`: metres on the floor, or fractions of a picture, whose y goes down, so that left
    and right change sides.
    """
    found, done = [], 0.0
    a, b = np.array(line.start), np.array(line.end)
    left = 1 if line.camera is None else -1
    for p, q in pairwise(path):
        side_p, side_q = left * _cross(b - a, p - a), left * _cross(b - a, q - a)
        if (side_p > 0) != (side_q > 0) and (_cross(q - p, a - p) > 0) != (_cross(q - p, b - p) > 0):
            found.append((done + math.dist(p, q) * side_p / (side_p - side_q), side_p > 0))
        done += math.dist(p, q)
    return found


def stretches_in(path: Float64, zone: Zone) -> list[tuple[float, float]]:
    """Where a path (points, 2) runs inside a zone: (from, to) as way from its start, in order.

    Path and zone are in one frame, see `Zone`. A path that stays in one place there is inside from 0 to 0.
    """
    corners = zone.corners
    (low_x, low_y), (high_x, high_y) = ([f(c[axis] for c in corners) for axis in (0, 1)] for f in (min, max))
    found: list[tuple[float, float]] = []
    done = 0.0
    for (px, py), (qx, qy) in pairwise(path.tolist()):
        way = math.hypot(qx - px, qy - py)
        if max(px, qx) >= low_x and min(px, qx) <= high_x and max(py, qy) >= low_y and min(py, qy) <= high_y:
            cuts = {0.0, 1.0}
            for (ax, ay), (bx, by) in pairwise((*corners, corners[0])):
                slant = (qx - px) * (by - ay) - (qy - py) * (bx - ax)
                if slant:
                    cuts.add(((ax - px) * (by - ay) - (ay - py) * (bx - ax)) / slant)
            shares = sorted(cut for cut in cuts if 0 <= cut <= 1)
            for low, high in pairwise(shares):
                middle = (low + high) / 2
                if contains(zone, (px + middle * (qx - px), py + middle * (qy - py))):
                    start, end = done + low * way, done + high * way
                    if found and start <= found[-1][1]:
                        found[-1] = (found[-1][0], end)
                    else:
                        found.append((start, end))
        done += way
    return found


def contains(zone: Zone, point: tuple[float, float]) -> bool:
    """Whether a point lies inside a zone (the even-odd rule); on its edge either may be said."""
    x, y = point
    crossed = False
    for (ax, ay), (bx, by) in pairwise((*zone.corners, zone.corners[0])):
        if (ay > y) != (by > y) and x < ax + (y - ay) / (by - ay) * (bx - ax):
            crossed = not crossed
    return crossed


def outside_by(zone: Zone, point: tuple[float, float]) -> float:
    """How far a point lies outside a zone, in the units of both; 0 inside."""
    if contains(zone, point):
        return 0.0
    x, y = point
    nearest = math.inf
    for (ax, ay), (bx, by) in pairwise((*zone.corners, zone.corners[0])):
        dx, dy = bx - ax, by - ay
        along = min(1.0, max(0.0, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)))
        nearest = min(nearest, math.hypot(x - ax - along * dx, y - ay - along * dy))
    return nearest


def _cross(u: Float64, v: Float64) -> float:
    return float(u[0] * v[1] - u[1] * v[0])
