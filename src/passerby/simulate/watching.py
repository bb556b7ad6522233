"""What the cameras make of trips through the shop: appearances, those missed, and false sightings."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np

from passerby.simulate.cameras import Views
from passerby.simulate.people import Trip
from passerby.simulate.plan import MEMBER_LAG_S, CameraPlan

BRIDGE_S = 1.0  # a tracker holds on to a person who is out of view for less


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


def appearances(visit: Trip, views: Views) -> list[Appearance]:
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
    visits: Iterable[Trip], views: Views, rng: np.random.Generator, *, duration_s: float
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
