"""A stretch of time at one camera, to be played back: who walked where, what was counted, what may have gone wrong."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from passerby.service.analytics import Period
from passerby.shop import Crossing, Point, Sighting
from passerby.site import Camera, Site
from passerby.types import Float64
from passerby.vision.pipeline import floor_of

WIDTH, HEIGHT = 1600, 900  # of the board that pictures, places and paths are drawn on
NEAR = 0.06  # of the picture's width: who came so close to a line and did not cross it is named
TWICE_S = 2.0  # two tracks that cross a line in one direction within this time may be one person
Verdict = Literal["in", "out", "both", "twice", "near", "withdrawn", "away"]
DOUBTFUL: frozenset[Verdict] = frozenset({"both", "twice", "near", "withdrawn"})


@dataclass(frozen=True, slots=True)
class Trail:
    """One track: when it was seen, in seconds from the beginning, its path on the board, its crossings, what is to be said.

    `points` are (seconds, x, y), `crossings` (seconds, line, inwards).
    """

    number: int
    track: str
    start_s: float
    end_s: float
    points: list[tuple[float, float, float]]
    crossings: list[tuple[float, str, bool]]
    verdict: Verdict


def replayed(
    site: Site,
    camera: Camera,
    lines: Sequence[tuple[str, Sequence[Point]]],
    sightings: Iterable[Sighting],
    period: Period,
) -> list[Trail]:
    """The tracks of a camera that touch a period, in order of time; `lines` are as its picture shows them, in fractions."""
    names = frozenset(name for name, _ in lines)
    drawn = [np.array(corners) * [WIDTH, HEIGHT] for _, corners in lines]
    here = sorted((each for each in sightings if each.key.camera == camera.name), key=lambda each: each.start)
    own = {each.key: [c for c in each.crossings if c.line in names and c.at in period] for each in here}
    made = []
    for number, each in enumerate(here, 1):
        others = [crossing for key, found in own.items() if key != each.key for crossing in found]
        start_s = (each.start - period.start).total_seconds()
        way = _on_board(each, camera)
        made.append(
            Trail(
                number,
                f"{each.key.camera}/{each.key.session}/{each.key.track}",
                round(start_s, 1),
                round((each.end - period.start).total_seconds(), 1),
                [(round(start_s + s, 1), round(x, 1), round(y, 1)) for s, x, y in way.tolist()],
                [(round((c.at - period.start).total_seconds(), 1), c.line, c.inwards) for c in own[each.key]],
                _verdict(each, own[each.key], others, way[:, 1:], drawn),
            )
        )
    return made


def _verdict(
    seen: Sighting, crossings: Sequence[Crossing], others: Iterable[Crossing], way: Float64, lines: Sequence[Float64]
) -> Verdict:
    if seen.state == "withdrawn":
        return "withdrawn"
    if len({crossing.inwards for crossing in crossings}) == 2:
        return "both"
    for crossing in crossings:
        for other in others:
            same = (other.line, other.inwards) == (crossing.line, crossing.inwards)
            if same and abs((other.at - crossing.at).total_seconds()) < TWICE_S:
                return "twice"
    if crossings:
        return "in" if crossings[0].inwards else "out"
    return "near" if any(_apart(way, line) < NEAR * WIDTH for line in lines) else "away"


def _on_board(seen: Sighting, camera: Camera) -> Float64:
    """A path as the camera's picture shows it: seconds from its own start, x and y on the board (points, 3)."""
    path = seen.path.astype(np.float64)
    if seen.path_on == "picture":
        places: Float64 = path[:, 1:] * [WIDTH, HEIGHT]
    else:
        floor = floor_of(camera, width=WIDTH, height=HEIGHT)
        if floor is None or not len(path):
            return np.zeros((0, 3))
        places = floor.shown(path[:, 1:], width=WIDTH, height=HEIGHT)
    seen_there = np.isfinite(places).all(axis=1)
    result: Float64 = np.column_stack([path[:, 0], places])[seen_there]
    return result


def _apart(way: Float64, line: Float64) -> float:
    """How far two broken lines that do not cross lie apart: one of their corners is the nearest."""
    if not len(way):
        return math.inf
    return min(_to_corners(way, line), _to_corners(line, way))


def _to_corners(corners: Float64, line: Float64) -> float:
    """The least distance of corners (n, 2) from a broken line (m, 2)."""
    nearest = float(np.hypot(*(corners - line[0]).T).min())
    for a, b in pairwise(line):
        along = np.clip((corners - a) @ (b - a) / max(float((b - a) @ (b - a)), 1e-9), 0, 1)
        nearest = min(nearest, float(np.hypot(*(corners - a - along[:, None] * (b - a)).T).min()))
    return nearest
