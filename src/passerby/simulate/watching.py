"""Who is in which camera's view and when, whom the cameras miss, and what they take for a person where nobody is."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np

from passerby.simulate.cameras import Views
from passerby.simulate.people import Part, Trip
from passerby.simulate.plan import MEMBER_LAG_S, CameraPlan, along, length_m
from passerby.types import Float64
from passerby.vision.floor import crossings_of, stretches_in

BRIDGE_S = 1.0  # a camera holds on to a person who is out of view for less
DRIFT_M_S = 1.2  # the fastest that a false sighting moves
NO_WAY = np.zeros((0, 3))


@dataclass(slots=True)
class InView:
    """A time that a person was in a camera's view, true seconds from opening; `person` is None where there was nobody.

    `found` says whether the camera found it. `distance_m` is the nearest, `others` how many people were in view when it
    began, `coat_off` whether the coat was off by then. `way` (points, 3) is where the person was, also before and after:
    seconds, x, y, straight in between. `stays` are (zone, from, to), the times inside a zone's polygon; `crossings` are
    (line, at, inwards).
    """

    camera: int
    start_s: float
    end_s: float
    distance_m: float
    person: int | None
    visit: int | None
    way: Float64 = field(default_factory=lambda: NO_WAY)
    stays: list[tuple[int, float, float]] = field(default_factory=list)
    crossings: list[tuple[int, float, bool]] = field(default_factory=list)
    coat_off: bool = False
    others: int = 0
    found: bool = True


def times_in_view(visit: Trip, views: Views) -> list[InView]:
    """Every time that one visit was in a camera's view, outages left out, at the times of the camera's frames."""
    found: dict[int, list[InView]] = {}
    for part in visit.parts:
        for glimpse in views.glimpses(part.start, part.end):
            times = _times(part, glimpse.start_m, glimpse.end_m)
            if times is None:
                continue
            since, until = times
            mine = found.setdefault(glimpse.camera, [])
            if mine and since - mine[-1].end_s < BRIDGE_S:
                mine[-1].end_s = max(mine[-1].end_s, until)
                mine[-1].distance_m = min(mine[-1].distance_m, glimpse.distance_m)
            else:
                mine.append(InView(glimpse.camera, since, until, glimpse.distance_m, visit.person, visit.number))
    every = [
        cut
        for camera, mine in found.items()
        for whole in mine
        for cut in _without_outages(whole, views.shop.cameras[camera])
    ]
    if every:
        way, stays = _way(visit, views), presence(visit, views)
        for seen in every:
            seen.coat_off = visit.coat_off_s is not None and visit.coat_off_s <= seen.start_s
            _fill(seen, way, stays, visit.crossings)
    return sorted(every, key=lambda seen: (seen.start_s, seen.camera))


def presence(visit: Trip, views: Views) -> list[tuple[int, float, float]]:
    """When a visit's person is inside each zone's polygon, standing there or passing through: (zone, from, to), in order."""
    found: list[tuple[int, float, float]] = []
    last: dict[int, int] = {}
    for part in visit.parts:
        for zone, low_m, high_m in views.stretches(part.start, part.end):
            times = _times(part, low_m, high_m)
            if times is None:
                continue
            since, until = times
            at = last.get(zone)
            if at is not None and since - found[at][2] < 1e-6:
                found[at] = (zone, found[at][1], until)
            else:
                last[zone] = len(found)
                found.append((zone, since, until))
    return sorted((row for row in found if row[2] > row[1]), key=lambda row: (row[1], row[0]))


def watched(visits: Iterable[Trip], views: Views, rng: np.random.Generator, *, duration_s: float) -> Iterator[InView]:
    """Who was in the cameras' views of visits, which come in order of their entry: in order of the start.

    Draws which are missed and adds false ones. Only the people who are there are held in memory.
    """
    cameras = views.shop.cameras
    waiting: list[tuple[float, int, int, InView]] = []
    in_view: list[list[float]] = [[] for _ in cameras]  # a heap of ends for each camera
    serial = 0

    def push(seen: InView) -> None:
        nonlocal serial
        serial += 1
        heappush(waiting, (seen.start_s, seen.camera, serial, seen))

    def pop() -> InView:
        seen = heappop(waiting)[-1]
        present = in_view[seen.camera]
        while present and present[0] <= seen.start_s:
            heappop(present)
        if seen.person is not None:
            seen.others = len(present)
            heappush(present, seen.end_s)
            seen.found = bool(rng.random() >= miss_probability(cameras[seen.camera], seen.distance_m, seen.others))
        return seen

    places = rng.spawn(1)[0]
    for seen in false_sightings(cameras, rng, duration_s=duration_s):
        place(seen, views, places)
        push(seen)
    for visit in visits:
        while waiting and waiting[0][0] < visit.enters_s - visit.member * MEMBER_LAG_S:  # its party's entry
            yield pop()
        for seen in times_in_view(visit, views):
            push(seen)
    while waiting:
        yield pop()


def miss_probability(camera: CameraPlan, distance_m: float, others: int) -> float:
    """How likely a camera misses a person at that distance among so many others in view; see `CameraPlan`."""
    far = min(1.0, distance_m / camera.range_m) ** 2
    return 1 - (1 - camera.miss) * (1 - camera.miss_far * far) * (1 - camera.miss_crowd) ** others


def false_sightings(cameras: Sequence[CameraPlan], rng: np.random.Generator, *, duration_s: float) -> list[InView]:
    """When each camera takes something for a person: Poisson, each of 1 to 6 seconds; nowhere yet, see `place`."""
    found = []
    for number, camera in enumerate(cameras):
        for start in np.sort(rng.uniform(0, duration_s, rng.poisson(camera.false_per_hour * duration_s / 3600))):
            whole = InView(
                number, float(start), float(start + rng.uniform(1, 6)), camera.range_m * rng.uniform(0.3, 1), None, None
            )
            found += _without_outages(whole, camera)
    return found


def place(seen: InView, views: Views, rng: np.random.Generator) -> None:
    """Put a false sighting somewhere on the floor that its camera sees.

    It drifts straight to another place there, at DRIFT_M_S at most. Its stays and crossings follow from its way, as
    everybody's do. One of a camera that sees no floor is nowhere.
    """
    cells = views.cells[seen.camera]
    if not len(cells):
        return
    lasts = seen.end_s - seen.start_s
    start = cells[rng.integers(len(cells))]
    near = cells[np.linalg.norm(cells - start, axis=1) <= rng.uniform(0, DRIFT_M_S) * lasts]
    ends = np.stack([start, near[rng.integers(len(near))]])
    total = length_m(ends)

    def at_s(way_m: float) -> float:
        return seen.start_s + (way_m / total * lasts if total > 0 else 0.0)

    stays = [
        (number, at_s(low), at_s(high) if total > 0 else seen.end_s)
        for number, zone in enumerate(views.zones)
        for low, high in stretches_in(ends, zone)
    ]
    crossings = sorted(
        (number, at_s(way_m), inwards)
        for number, line in enumerate(views.lines)
        for way_m, inwards in crossings_of(ends, line)
    )
    seen.distance_m = float(views.distance_m(seen.camera, ends).min())
    _fill(seen, np.column_stack([[seen.start_s, seen.end_s], ends]), stays, crossings)


def _fill(
    seen: InView, way: Float64, stays: Sequence[tuple[int, float, float]], crossings: Sequence[tuple[int, float, bool]]
) -> None:
    """Give a time in view the way, and what of the stays and crossings falls into it."""
    seen.way = way
    for zone, since, until in stays:
        if since < seen.end_s and seen.start_s < until:
            seen.stays.append((zone, max(since, seen.start_s), min(until, seen.end_s)))
    seen.crossings += [crossing for crossing in crossings if seen.start_s <= crossing[1] <= seen.end_s]


def _times(part: Part, low_m: float, high_m: float) -> tuple[float, float] | None:
    """When somebody is between two distances on the path of a part; None where the part does not come there."""
    low, high = max(low_m, part.from_m), min(high_m, part.to_m)
    if high < low:
        return None
    moved = part.to_m - part.from_m
    if moved <= 0:
        return part.since_s, part.until_s
    scale = (part.until_s - part.since_s) / moved
    return part.since_s + (low - part.from_m) * scale, part.since_s + (high - part.from_m) * scale


def _way(visit: Trip, views: Views) -> Float64:
    """Where a visit's person is: (points, 3) of seconds, x, y, straight in between."""
    points: list[tuple[float, float, float]] = []
    for part in visit.parts:
        corners = views.corners(part.start, part.end)
        moved = part.to_m - part.from_m
        scale = (part.until_s - part.since_s) / moved if moved > 0 else 0.0
        points.append((part.since_s, *_where(part, part.from_m, views)))
        points += [
            (part.since_s + (m - part.from_m) * scale, x, y) for m, x, y in corners if part.from_m < m < part.to_m
        ]
        points.append((part.until_s, *_where(part, part.to_m, views)))
    return np.array(points)


def _where(part: Part, way_m: float, views: Views) -> tuple[float, float]:
    """The point on the path of a part that lies `way_m` from the path's start."""
    corners = views.corners(part.start, part.end)
    for m, x, y in (corners[0], corners[-1]):
        if m == way_m:
            return x, y
    x, y = along(views.shop.floor.path(part.start, part.end), np.array([way_m]))[0].tolist()
    return x, y


def _without_outages(seen: InView, camera: CameraPlan) -> list[InView]:
    """The parts of a time in view outside the camera's outages, from its first to its last frame; two frames at least."""
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
            parts.append(InView(seen.camera, first, last, seen.distance_m, seen.person, seen.visit))
    return parts
