"""A shop as its TOML file describes it: floor, zones, cameras, people and their habits; and its plan as a picture.

Metres, seconds and degrees throughout; x to the right, y upwards on the plan, headings counter-clockwise from x.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from passerby.config import STRICT
from passerby.files import settings_hash
from passerby.shop import Line, Point, Zone
from passerby.types import Float64
from passerby.vision.floor import Pose

Rectangle = tuple[float, float, float, float]
ZoneKind = Literal["entrance", "shelves", "checkout", "staff"]

CLEARANCE_M = 0.3  # of a person's middle from an obstacle
SPOTS = 6  # places to stand in each zone
EYE_M, CHEST_M = 1.6, 1.2
MEMBER_LAG_S = 0.8  # how far each further member of a party walks behind the first


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A shelf, counter or wall: `area` is x0, y0, x1, y1 on the floor."""

    area: Rectangle
    height_m: float = 1.8
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        _check_area("obstacles", self.area)


@dataclass(frozen=True, slots=True)
class ZonePlan:
    """A zone: where people come in, look at shelves, pay, or where only staff go.

    People drawn to shelves choose a zone by its `weight` and stay `dwell_median_s`, log-normal with `dwell_log_deviation`.
    """

    name: str
    kind: ZoneKind
    area: Rectangle
    weight: float = 1.0
    dwell_median_s: float = 45.0
    dwell_log_deviation: float = 0.8
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        _check_area(f"zone {self.name}", self.area)
        if not self.name or self.weight < 0 or self.dwell_median_s <= 0 or self.dwell_log_deviation < 0:
            raise ValueError(f"zone {self.name!r}: expected a name, a median above 0, weight and deviation from 0")

    @property
    def zone(self) -> Zone:
        """The zone in the words that the rest of passerby uses."""
        x0, y0, x1, y1 = self.area
        return Zone(self.name, ((x0, y0), (x1, y0), (x1, y1), (x0, y1)))


@dataclass(frozen=True, slots=True)
class LinePlan:
    """A counting line; see `shop.Line`."""

    name: str
    start: Point
    end: Point
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        Line(self.name, self.start, self.end)

    @property
    def line(self) -> Line:
        """The line in the words that the rest of passerby uses."""
        return Line(self.name, self.start, self.end)


@dataclass(frozen=True, slots=True)
class Edge:
    """How long people take from one zone to another, both ways: log-normal, but never less than their walk takes."""

    zones: tuple[str, str]
    median_s: float
    log_deviation: float
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.median_s <= 0 or self.log_deviation < 0:
            raise ValueError(f"edge {self.zones}: expected a median above 0 and a deviation from 0")


@dataclass(frozen=True, slots=True)
class TrackerPlan:
    """How a camera's tracker errs; 0 is never.

    `breaks_per_min` is how often in a minute of being seen a track ends and, a moment later, another one goes on. When two
    people come within a metre of each other, `swaps` is the probability that their tracks exchange them, and `merges` that
    both are one track from there on. `edge_s` is the deviation by which stays begin and end, and lines are crossed, too early
    or too late. `flicker` is the probability that a stay is interrupted for a moment, or a crossing followed by one back and
    one again; `lost` that a piece of a stay, or a crossing, is lost. See `simulate.tracking`.
    """

    breaks_per_min: float = 0.0
    swaps: float = 0.0
    merges: float = 0.0
    edge_s: float = 0.0
    flicker: float = 0.0
    lost: float = 0.0
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not all(
            0 <= share <= 1 for share in (self.swaps, self.merges, self.swaps + self.merges, self.flicker, self.lost)
        ):
            raise ValueError("tracker: expected swaps and merges (also together), flicker and lost of 0 to 1")
        if not (0 <= self.breaks_per_min < math.inf and 0 <= self.edge_s < math.inf):
            raise ValueError("tracker: expected breaks_per_min and edge_s from 0")


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """A camera: where it hangs, where it looks, what it shows, and how it fails.

    `miss` is the probability that a person seen from the nearest place alone is not found at all; `miss_far` is added at
    `range_m`, growing with the square of the distance, and `miss_crowd` multiplies the finding for each other person
    in view. `false_per_hour` counts sightings of nobody, `skew_s` is how far the clock is ahead, `outages` are
    (start, end) in seconds from opening. `box_noise` is the deviation of a detected box's edges in parts of its height,
    at level video. `light` multiplies the picture's red, green and blue. `tracker` says how its tracks err.
    """

    name: str
    position: Point
    height_m: float
    heading_deg: float
    tilt_deg: float
    fov_deg: float = 75.0
    range_m: float = 12.0
    fps: float = 12.0
    width_px: int = 640
    height_px: int = 360
    miss: float = 0.02
    miss_far: float = 0.05
    miss_crowd: float = 0.01
    false_per_hour: float = 1.0
    skew_s: float = 0.0
    box_noise: float = 0.03
    outages: tuple[tuple[float, float], ...] = ()
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)
    tracker: TrackerPlan = TrackerPlan()
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not self.name or not 10 <= self.fov_deg <= 150 or not -10 <= self.tilt_deg <= 85:
            raise ValueError(f"camera {self.name!r}: expected a name, fov_deg of 10 to 150 and tilt_deg of -10 to 85")
        if not 2 <= self.fps <= 25:
            raise ValueError(f"camera {self.name}: expected fps of 2 to 25, got {self.fps}")
        if min(self.height_m, self.range_m, self.width_px, self.height_px) <= 0 or self.false_per_hour < 0:
            raise ValueError(f"camera {self.name}: expected height, range and picture above 0, false_per_hour from 0")
        if not all(0 <= share < 1 for share in (self.miss, self.miss_far, self.miss_crowd, self.box_noise)):
            raise ValueError(f"camera {self.name}: expected miss, miss_far, miss_crowd and box_noise of 0 to below 1")
        if any(end <= start for start, end in self.outages):
            raise ValueError(f"camera {self.name}: expected outages to end after they start, got {self.outages}")

    @property
    def pose(self) -> Pose:
        """How the camera hangs, in the words that the rest of passerby uses."""
        return Pose(
            self.position,
            self.height_m,
            self.heading_deg,
            self.tilt_deg,
            self.fov_deg,
            self.width_px,
            self.height_px,
        )


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Parties an hour, for each hour from opening (the last one goes on), and the shares of parties of 1, 2, 3 ..."""

    per_hour: tuple[float, ...]
    party_sizes: tuple[float, ...] = (0.75, 0.18, 0.05, 0.02)
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not self.per_hour or min(self.per_hour) < 0 or max(self.per_hour) <= 0:
            raise ValueError(f"arrivals.per_hour: expected a number from 0 for each hour, got {self.per_hour}")
        _check_shares("arrivals.party_sizes", self.party_sizes)


@dataclass(frozen=True, slots=True)
class Shoppers:
    """What shoppers do: how many shelf zones they stop in, whether they bounce, pay, come again, or take off a coat.

    `stops` are the shares of those who stop 1, 2, 3 ... times; who bounces looks round for `bounce_s` at the entrance and
    leaves. `speed_m_s` and `speed_deviation` are the desired speed, normal and cut at 0.5 and 2.2 (Weidmann 1993).
    `turn_back` is the share of stops after which people go off, out of every camera's sight, and come back to the same
    place for a second stay; they are out of sight for `turn_back_s` in the median, log-normal with `turn_back_log_deviation`.
    """

    stops: tuple[float, ...] = (0.25, 0.35, 0.25, 0.15)
    bounce: float = 0.1
    bounce_s: float = 15.0
    pay: float = 0.6
    reenter: float = 0.03
    reenter_after_s: float = 300.0
    coat_off: float = 0.02
    speed_m_s: float = 1.2
    speed_deviation: float = 0.2
    turn_back: float = 0.0
    turn_back_s: float = 12.0
    turn_back_log_deviation: float = 1.7
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        _check_shares("shoppers.stops", self.stops)
        for name in ("bounce", "pay", "reenter", "coat_off", "turn_back"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"shoppers.{name}: expected a share of 0 to 1, got {getattr(self, name)}")
        if (
            not 0.5 <= self.speed_m_s <= 2.2
            or min(self.speed_deviation, self.turn_back_log_deviation) < 0
            or min(self.bounce_s, self.reenter_after_s, self.turn_back_s) <= 0
        ):
            raise ValueError("shoppers: expected speed_m_s of 0.5 to 2.2, deviations from 0, and times above 0")


@dataclass(frozen=True, slots=True)
class Checkout:
    """One line of people, `tills` open; the service times are exponential or log-normal with the mean `service_s`."""

    tills: int = 2
    service_s: float = 60.0
    service: Literal["exponential", "lognormal"] = "lognormal"
    service_log_deviation: float = 0.5
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.tills < 1 or self.service_s <= 0 or self.service_log_deviation < 0:
            raise ValueError("checkout: expected a till or more, service_s above 0, service_log_deviation from 0")


@dataclass(frozen=True, slots=True)
class Looks:
    """How hard people are to tell apart, at level vectors.

    `rank1` is the cross-camera Rank-1 that the vectors reach (see `appearance.measured_rank1`), `correlation` the part
    of the noise that a whole track shares, `look_alikes` the share of people who look like another who is there.
    """

    rank1: float = 0.8
    correlation: float = 0.6
    look_alikes: float = 0.0
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not 0.2 <= self.rank1 <= 1 or not 0 <= self.correlation <= 1 or not 0 <= self.look_alikes <= 1:
            raise ValueError("looks: expected rank1 of 0.2 to 1, correlation and look_alikes of 0 to 1")


@dataclass(frozen=True)
class Shop:
    """Everything that decides what happens in a simulated shop, but for the seed.

    `overlaps` names the pairs of cameras that see the same floor.
    """

    name: str
    size_m: Point
    zones: tuple[ZonePlan, ...]
    cameras: tuple[CameraPlan, ...]
    arrivals: Arrivals
    opens: datetime = datetime(2026, 3, 2, 9, tzinfo=UTC)
    staff: int = 0
    obstacles: tuple[Obstacle, ...] = ()
    lines: tuple[LinePlan, ...] = ()
    edges: tuple[Edge, ...] = ()
    overlaps: tuple[tuple[str, str], ...] = ()
    shoppers: Shoppers = field(default_factory=Shoppers)
    checkout: Checkout = field(default_factory=Checkout)
    looks: Looks = field(default_factory=Looks)
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        for what, names in (
            ("zone", [zone.name for zone in self.zones]),
            ("camera", [camera.name for camera in self.cameras]),
            ("line", [line.name for line in self.lines]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"two {what}s have one name: {', '.join(sorted(names))}")
        kinds = [zone.kind for zone in self.zones]
        if kinds.count("entrance") != 1 or kinds.count("checkout") > 1 or "shelves" not in kinds:
            raise ValueError(
                "zones: expected one entrance, at most one checkout, and shelves, got " + ", ".join(kinds or ["none"])
            )
        if not self.cameras:
            raise ValueError("cameras: expected at least one")
        if self.staff < 0 or (self.staff and "staff" not in kinds):
            raise ValueError(f"staff: {self.staff} people need a zone of kind staff, got none")
        if self.opens.tzinfo is None:
            raise ValueError(f"opens: a time needs its zone, such as 2026-03-02T09:00:00Z, got {self.opens}")
        width, depth = self.size_m
        for zone in self.zones:
            if zone.area[0] < 0 or zone.area[1] < 0 or zone.area[2] > width or zone.area[3] > depth:
                raise ValueError(f"zone {zone.name}: {zone.area} lies outside the floor of {width} x {depth} m")
        known = {zone.name for zone in self.zones}
        for edge in self.edges:
            if not set(edge.zones) <= known:
                raise ValueError(f"edge {edge.zones}: expected names of zones: {', '.join(sorted(known))}")
        cameras = {camera.name for camera in self.cameras}
        for pair in self.overlaps:
            if len(set(pair)) != 2 or not set(pair) <= cameras:
                raise ValueError(f"overlaps: expected pairs of cameras: {', '.join(sorted(cameras))}; got {pair}")
        self.floor  # noqa: B018  # fails here, with the file's name, where a zone is shut off or full of obstacles

    @cached_property
    def floor(self) -> "Floor":
        """The floor, ready to be walked on."""
        return Floor(self)

    def zone_of_kind(self, kind: ZoneKind) -> int | None:
        """The number of the first zone of that kind, None where there is none."""
        return next((i for i, zone in enumerate(self.zones) if zone.kind == kind), None)

    @property
    def sha256(self) -> str:
        """A hash of all settings; one that came later counts where it is used, so that older shops keep their hash."""
        settings = asdict(self)
        if not settings["overlaps"]:
            del settings["overlaps"]
        for camera in settings["cameras"]:
            if camera["tracker"] == asdict(TrackerPlan()):
                del camera["tracker"]
        if not settings["shoppers"]["turn_back"]:
            for name in ("turn_back", "turn_back_s", "turn_back_log_deviation"):
                del settings["shoppers"][name]
        return settings_hash(settings)


class Floor:
    """Where one can stand and how one gets from there to there: shortest paths round the obstacles.

    `spots` are (n, 2) places to stand, `zone_of[i]` the number of spot i's zone. Paths run over the corners of the
    obstacles, grown by the clearance of a person (a visibility graph with Dijkstra's algorithm).
    """

    def __init__(self, shop: Shop) -> None:
        areas = np.array([o.area for o in shop.obstacles], np.float64).reshape(-1, 4)
        self.heights: Float64 = np.array([o.height_m for o in shop.obstacles], np.float64)
        self.areas: Float64 = areas
        self.grown: Float64 = areas + CLEARANCE_M * np.array([-1, -1, 1, 1])
        spots, zone_of = [], []
        for number, zone in enumerate(shop.zones):
            found = self._spots(zone.area)
            if not found:
                raise ValueError(f"zone {zone.name}: no place to stand in {zone.area}; obstacles fill it")
            spots += found
            zone_of += [number] * len(found)
        self.spots: Float64 = np.array(spots)
        self.zone_of: NDArray[np.int64] = np.array(zone_of)
        width, depth = shop.size_m
        slack = 1e-6
        corners = [
            (x, y)
            for x0, y0, x1, y1 in (self.grown + slack * np.array([-1, -1, 1, 1])).tolist()
            for x in (x0, x1)
            for y in (y0, y1)
            if 0 < x < width and 0 < y < depth and not self._inside((x, y))
        ]
        self._nodes: Float64 = np.array([*spots, *corners])
        self._paths: dict[tuple[int, int], Float64] = {}
        self._trees: dict[int, tuple[list[float], list[int]]] = {}
        self._reach: list[list[tuple[int, float]]] = [self._neighbours(i) for i in range(len(self._nodes))]
        unreachable = {
            shop.zones[self.zone_of[i]].name for i in range(len(spots)) if not math.isfinite(self._tree(0)[0][i])
        }
        if unreachable:
            raise ValueError(f"zones {', '.join(sorted(unreachable))}: no way leads there from {shop.zones[0].name}")

    def spots_in(self, zone: int) -> NDArray[np.int64]:
        """The numbers of the spots in a zone."""
        return np.flatnonzero(self.zone_of == zone)

    def path(self, start: int, end: int) -> Float64:
        """The shortest path between two spots as (points, 2), both ends included."""
        key = (start, end)
        if key not in self._paths:
            before = self._tree(start)[1]
            nodes = [end]
            while nodes[-1] != start:
                nodes.append(before[nodes[-1]])
            self._paths[key] = self._nodes[nodes[::-1]]
        return self._paths[key]

    def hidden(self, eye: Float64, points: Float64) -> NDArray[np.bool_]:
        """Which of `points` (n, 3) an obstacle hides from a camera at `eye` (3,)."""
        result: NDArray[np.bool_] = np.any(hidden_by(self.areas, self.heights, eye, points), axis=1)
        return result

    def _inside(self, point: Point) -> bool:
        x, y = point
        return bool(
            ((self.grown[:, 0] < x) & (x < self.grown[:, 2]) & (self.grown[:, 1] < y) & (y < self.grown[:, 3])).any()
        )

    def _spots(self, area: Rectangle) -> list[Point]:
        """Up to SPOTS places in the area that no obstacle is near to, spread evenly (a Halton sequence)."""
        x0, y0, x1, y1 = area
        points = [(x0 + (x1 - x0) * _halton(i, 2), y0 + (y1 - y0) * _halton(i, 3)) for i in range(1, 200)]
        return [point for point in points if not self._inside(point)][:SPOTS]

    def _neighbours(self, node: int) -> list[tuple[int, float]]:
        """Every node that a straight way leads to, with its length."""
        entry, leave = _slab(self.grown, self._nodes[node], self._nodes)
        free: NDArray[np.bool_] = ~np.any(leave - entry > 1e-9, axis=1)
        free[node] = False
        far = np.linalg.norm(self._nodes - self._nodes[node], axis=1)
        return list(zip(np.flatnonzero(free).tolist(), far[free].tolist(), strict=True))

    def _tree(self, start: int) -> tuple[list[float], list[int]]:
        """(distance, node before) of every node from `start`."""
        if start not in self._trees:
            far = [math.inf] * len(self._nodes)
            before = [start] * len(self._nodes)
            far[start] = 0.0
            queue = [(0.0, start)]
            while queue:
                distance, node = heapq.heappop(queue)
                if distance > far[node]:
                    continue
                for other, way in self._reach[node]:
                    reached = distance + way
                    if reached < far[other] - 1e-12:
                        far[other], before[other] = reached, node
                        heapq.heappush(queue, (reached, other))
            self._trees[start] = far, before
        return self._trees[start]


def hidden_by(areas: Float64, heights: Float64, eye: Float64, points: Float64) -> NDArray[np.bool_]:
    """Which box on the floor, (boxes, 4) and their heights (boxes,), stands between `eye` (3,) and each of `points` (n, 3).

    Returns (n, boxes). A straight line is hidden where it runs through a box; the camera hangs above the floor, so the
    line is lowest where it leaves the box.
    """
    if not len(areas):
        return np.zeros((len(points), 0), np.bool_)
    entry, leave = _slab(areas, eye[:2], points[:, :2])
    ends = np.stack([entry, leave])
    lowest = (eye[2] + ends * (points[:, 2] - eye[2])[:, None]).min(axis=0)
    result: NDArray[np.bool_] = (leave - entry > 1e-9) & (lowest < heights)
    return result


def length_m(path: Float64) -> float:
    """The length of a path (points, 2)."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def along(path: Float64, distance_m: Float64) -> Float64:
    """The points (n, 2) that lie `distance_m` (n,) from the start of a path (points, 2)."""
    reached = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))]
    return np.stack([np.interp(distance_m, reached, path[:, axis]) for axis in (0, 1)], axis=1)


def _slab(areas: Float64, start: Float64, ends: Float64) -> tuple[Float64, Float64]:
    """Which part, 0..1, of each straight way from `start` (2,) to `ends` (n, 2) runs inside each area: two (n, areas)."""
    way = ends - start  # (n, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        low = (areas[None, :, :2] - start) / way[:, None]  # (n, areas, 2)
        high = (areas[None, :, 2:] - start) / way[:, None]
    still = np.broadcast_to((way == 0)[:, None], low.shape)
    between = (areas[None, :, :2] < start) & (start < areas[None, :, 2:])
    near = np.where(still, np.where(between, -np.inf, np.inf), np.minimum(low, high))
    far = np.where(still, np.where(between, np.inf, -np.inf), np.maximum(low, high))
    return near.max(axis=2, initial=0.0), far.min(axis=2, initial=1.0)


def _halton(index: int, base: int) -> float:
    value, share = 0.0, 1.0
    while index:
        share /= base
        value += share * (index % base)
        index //= base
    return value


def _check_area(what: str, area: Rectangle) -> None:
    if area[2] <= area[0] or area[3] <= area[1]:
        raise ValueError(f"{what}: expected an area x0, y0, x1, y1 with x0 < x1 and y0 < y1, got {area}")


def _check_shares(what: str, shares: Sequence[float]) -> None:
    if not shares or min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(f"{what}: expected shares that sum to 1, got {tuple(shares)}")
