"""The cells of a heat map, on a camera's picture or on the floor, and how many visits were in each; no SQL, no clock."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from passerby.service import analytics
from passerby.shop import Sighting, SightingKey, Walk
from passerby.site import Site
from passerby.types import Int64

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


def people_by_cell(
    walks: Iterable[Sighting | Walk],
    who: Mapping[SightingKey, str],
    *,
    cells: tuple[int, int],
    area: Area,
    camera: str | None,
) -> Int64:
    """How many different visits had a point of their path in each cell: (rows, columns), as `analytics.heat` has them."""
    columns, rows = cells
    chosen = analytics.walked((each for each in walks if each.key in who), camera=camera)
    if not chosen:
        return np.zeros((rows, columns), np.int64)
    numbers: dict[str, int] = {}
    visits = [numbers.setdefault(who[each.key], len(numbers)) for each in chosen]
    points = np.concatenate([each.path[:, 1:] for each in chosen]).astype(np.float64)
    cell = analytics.cell_of(points, cells=cells, area=area)
    visit = np.repeat(visits, [len(each.path) for each in chosen])[cell >= 0]
    each_once = np.unique(visit * (rows * columns) + cell[cell >= 0])
    found: Int64 = np.bincount(each_once % (rows * columns), minlength=rows * columns).reshape(rows, columns)
    return found
