"""The cells of a heat map, on a camera's picture or on the floor, and what stood in each; no SQL, no clock."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from passerby.service import analytics
from passerby.service.analytics import Period
from passerby.shop import Sighting, Walk
from passerby.site import Site
from passerby.types import Float64, Int64
from passerby.vision.visits import VisitRow

FLOOR_CELL_M = 0.5
Area = tuple[float, float, float, float]  # x0, y0, x1, y1


def laid(site: Site, camera: str | None) -> tuple[Area, tuple[int, int]] | None:
    """The area of a heat map and its cells (columns, rows): a camera's picture, or the floor in cells of half a metre.

    None where no camera sees the floor.
    """
    if camera is not None:
        return (0.0, 0.0, 1.0, 1.0), (32, 18)
    if not any(each.on_floor for each in site.cameras):
        return None
    area = floor_area(site)
    return area, (round((area[2] - area[0]) / FLOOR_CELL_M), round((area[3] - area[1]) / FLOOR_CELL_M))


def floor_area(site: Site) -> Area:
    """The part of the floor that is drawn: all places and cameras on it, and half a metre around; x0, y0, x1, y1."""
    points = [
        *(point for zone in site.zones if zone.camera is None for point in zone.corners),
        *(point for line in site.lines if line.camera is None for point in (line.start, line.end)),
        *(camera.mount.position for camera in site.cameras if camera.mount),
        *(pair.floor for camera in site.cameras for pair in camera.floor_points),
    ]
    xs, ys = zip(*points, strict=True)
    return math.floor(min(xs)) - 0.5, math.floor(min(ys)) - 0.5, math.ceil(max(xs)) + 0.5, math.ceil(max(ys)) + 0.5


def trodden(
    visits: Sequence[VisitRow],
    walks: Iterable[Sighting | Walk],
    period: Period,
    *,
    cells: tuple[int, int],
    area: Area,
    camera: str | None,
) -> tuple[Float64, Int64]:
    """How many seconds of a period visits stood in each cell, and how many had a point of their path there; (rows, columns).

    The cells are as `analytics.heat` has them.
    """
    columns, rows = cells
    place = {key: number for number, visit in enumerate(visits) for key in visit.sightings}
    chosen = analytics.walked((each for each in walks if each.key in place), camera=camera)
    cell, seconds, walk = analytics.stood(chosen, period, cells=cells, area=area)
    inside = cell >= 0
    cell, seconds, walk = cell[inside], seconds[inside], walk[inside]
    stood: Float64 = np.bincount(cell, np.maximum(seconds, 0), rows * columns).astype(np.float64)
    visit = np.array([place[each.key] for each in chosen], np.int64)[walk]
    each_once = np.unique(visit * (rows * columns) + cell)
    people: Int64 = np.bincount(each_once % (rows * columns), minlength=rows * columns)
    return stood.reshape(rows, columns), people.reshape(rows, columns)
