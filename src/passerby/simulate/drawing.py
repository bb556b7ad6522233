"""A shop's floor plan as an SVG picture: zones, obstacles, cameras with what they see, and a few visitors' paths."""

from collections.abc import Iterable
from xml.sax.saxutils import escape

import cv2
import numpy as np

from passerby.simulate.cameras import CELL_M, Views
from passerby.simulate.people import Trip
from passerby.simulate.plan import Rectangle, Shop, ZoneKind, along
from passerby.types import Float64

SCALE = 40  # pixels a metre
MARGIN = 20
FONT_PX, LETTER_PX = 13, 8  # a letter of a bold name is hardly ever wider
HALO = 'paint-order="stroke" stroke="#fff" stroke-width="4" stroke-linejoin="round"'
ZONE_COLOURS: dict[ZoneKind, str] = {
    "entrance": "#d8ead3",
    "shelves": "#f4ecd8",
    "checkout": "#dbe4f3",
    "staff": "#ece3ef",
}
HUES = ("#0b6e99", "#b5483a", "#4b7f32", "#8a5aa8", "#b07d1e", "#2f7f77")


def draw(shop: Shop, views: Views, visits: Iterable[Trip]) -> str:
    """The plan as SVG text; each camera's field of view is exactly where it sees a person, shelves considered."""
    width, depth = shop.size_m
    across, down = (round(side * SCALE) + 2 * MARGIN for side in (width, depth))
    names = _Names(across, down)

    def place(points: Float64) -> Float64:
        """Points (n, 2) of the floor in the picture's pixels."""
        result: Float64 = MARGIN + np.column_stack([points[:, 0], depth - points[:, 1]]) * SCALE
        return result

    def corners(points: Float64) -> str:
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in place(points).tolist())

    def rectangle(area: Rectangle, style: str) -> str:
        x0, y0, x1, y1 = area
        left, top = place(np.array([[x0, y1]]))[0]
        size = f'width="{(x1 - x0) * SCALE:.1f}" height="{(y1 - y0) * SCALE:.1f}"'
        return f'<rect x="{left:.1f}" y="{top:.1f}" {size} {style}/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {down}" width="{across}" '
        f'height="{down}" font-family="Helvetica, Arial, sans-serif" font-size="{FONT_PX}" fill="#333">',
        f"<title>{escape(shop.name)}</title>",
        f'<rect width="{across}" height="{down}" fill="#ffffff"/>',
        rectangle((0, 0, width, depth), 'fill="#fafafa" stroke="#333" stroke-width="2"'),
    ]
    for zone in shop.zones:
        parts.append(rectangle(zone.area, f'fill="{ZONE_COLOURS[zone.kind]}" stroke="#bbb" stroke-dasharray="4 3"'))
        names.draw(place(_outline(zone.area)), closed=True)
    for number in range(len(shop.cameras)):
        hue = HUES[number % len(HUES)]
        for outline in _outlines(views, number):
            parts.append(
                f'<polygon points="{corners(outline)}" fill="{hue}" fill-opacity="0.13" stroke="{hue}" '
                f'stroke-opacity="0.5"/>'
            )
            names.draw(place(outline), closed=True)
    for obstacle in shop.obstacles:
        parts.append(rectangle(obstacle.area, 'fill="#8d8579" stroke="#5c564d"'))
        names.fill(place(_outline(obstacle.area)))
    for number, visit in enumerate(visits):
        points: list[Float64] = []
        for part in visit.parts:
            if part.start != part.end:
                path = shop.floor.path(part.start, part.end)
                points.append(along(path, np.arange(part.from_m, part.to_m + 1e-9, 0.25)))
        shift = 0.12 * (number % 3 - 1)  # so that paths along one shelf stay apart
        way = np.concatenate(points) + shift
        parts.append(
            f'<polyline points="{corners(way)}" fill="none" stroke="{HUES[number % len(HUES)]}" stroke-width="1.6" '
            f'stroke-dasharray="{7 + 2 * number} 4" stroke-linejoin="round"/>'
        )
        names.draw(place(way), closed=False)
    for line in shop.lines:
        ends = np.array([line.start, line.end])
        start, end = corners(ends).split()
        parts.append(f'<path d="M{start} L{end}" stroke="#333" stroke-width="2" stroke-dasharray="2 3"/>')
        names.draw(place(ends), closed=False)
    for number, camera in enumerate(shop.cameras):
        (spot,) = place(np.array([camera.position]))
        hue = HUES[number % len(HUES)]
        parts.append(
            f'<circle cx="{spot[0]:.1f}" cy="{spot[1]:.1f}" r="7" fill="{hue}" stroke="#fff" stroke-width="2"/>'
        )
        names.fill(spot + 9 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]))
    for number, camera in enumerate(shop.cameras):
        spot = place(np.array([camera.position]))[0]
        style = f'font-weight="bold" fill="{HUES[number % len(HUES)]}"'
        parts.append(names.write(camera.name, spot - 11, spot + 11, style))
    for zone in shop.zones:
        low, high = place(_outline(zone.area))[[3, 1]]
        parts.append(names.write(zone.name, low + 14, high - 14))
    caption = f"{shop.name}: {width:g} x {depth:g} m; shaded: what each camera sees"
    parts.append(f'<text x="{MARGIN}" y="{down - 4}">{escape(caption)}</text>')
    return "\n".join([*parts, "</svg>", ""])


class _Names:
    """Where a name may stand in a picture of `across` x `down` pixels: inside it, on as little of what is drawn as can be."""

    def __init__(self, across: int, down: int) -> None:
        self._ink = np.full((down, across), 255, np.uint8)
        edge = MARGIN + 4
        self._ink[edge:-edge, edge:-edge] = 0

    def draw(self, points: Float64, *, closed: bool) -> None:
        """Keep names off a line through `points` (n, 2)."""
        cv2.polylines(self._ink, [points.round().astype(np.int32)], closed, 255, 3)

    def fill(self, points: Float64) -> None:
        """Keep names off the polygon `points` (n, 2)."""
        cv2.fillPoly(self._ink, [points.round().astype(np.int32)], 255)

    def write(self, name: str, low: Float64, high: Float64, style: str = "") -> str:
        """A name as SVG text, as near as may be to the box from `low` (2,) to `high` (2,); later names keep off it."""
        down, across = self._ink.shape
        wide, tall = LETTER_PX * len(name) + 4, FONT_PX + 4
        covered = cv2.integral(self._ink)
        x, y = np.meshgrid(np.arange(across - wide), np.arange(down - tall))
        ink = covered[y + tall, x + wide] - covered[y, x + wide] - covered[y + tall, x] + covered[y, x]
        beside = np.hypot(
            np.maximum(0, np.maximum(low[0] - x - wide, x - high[0])),
            np.maximum(0, np.maximum(low[1] - y - tall, y - high[1])),
        )
        off_centre = np.hypot(x + wide / 2 - (low[0] + high[0]) / 2, y + tall / 2 - (low[1] + high[1]) / 2)
        cost = 3.0 * ink / 255 + 2.0 * beside + 0.02 * off_centre
        top, left = np.unravel_index(int(cost.argmin()), cost.shape)
        self._ink[top : top + tall, left : left + wide] = 255
        return f'<text x="{left + 2}" y="{top + FONT_PX}" {HALO} {style}>{escape(name)}</text>'


def _outline(area: Rectangle) -> Float64:
    x0, y0, x1, y1 = area
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def _outlines(views: Views, camera: int) -> list[Float64]:
    """The edges of what a camera sees, each (points, 2) in metres."""
    mask = np.pad(views.seen[:, :, camera].astype(np.uint8), 1)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = []
    for contour in contours:
        smooth = cv2.approxPolyDP(contour, 0.8, True)[:, 0].astype(np.float64)
        if len(smooth) >= 3:
            outlines.append((smooth - 0.5) * CELL_M)
    return outlines
