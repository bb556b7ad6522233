"""A shop's floor plan as an SVG picture: zones, obstacles, cameras with what they see, and a few visitors' paths."""

from collections.abc import Iterable
from xml.sax.saxutils import escape

import cv2
import numpy as np

from passerby.simulate.cameras import CELL_M, Views
from passerby.simulate.people import Trip
from passerby.simulate.plan import Shop, ZoneKind, along
from passerby.types import Float64

SCALE = 40  # pixels a metre
MARGIN = 20
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

    def at(x: float, y: float) -> str:
        return f"{MARGIN + x * SCALE:.1f},{MARGIN + (depth - y) * SCALE:.1f}"

    def rectangle(area: tuple[float, float, float, float], style: str) -> str:
        x0, y0, x1, y1 = area
        left, top = at(x0, y1).split(",")
        return f'<rect x="{left}" y="{top}" width="{(x1 - x0) * SCALE:.1f}" height="{(y1 - y0) * SCALE:.1f}" {style}/>'

    def label(x: float, y: float, text: str, style: str = "") -> str:
        left, top = at(x, y).split(",")
        return f'<text x="{left}" y="{top}" {style}>{escape(text)}</text>'

    across, down = width * SCALE + 2 * MARGIN, depth * SCALE + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across:.0f} {down:.0f}" width="{across:.0f}" '
        f'height="{down:.0f}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#333">',
        f"<title>{escape(shop.name)}</title>",
        f'<rect width="{across:.0f}" height="{down:.0f}" fill="#ffffff"/>',
        rectangle((0, 0, width, depth), 'fill="#fafafa" stroke="#333" stroke-width="2"'),
    ]
    for zone in shop.zones:
        parts.append(rectangle(zone.area, f'fill="{ZONE_COLOURS[zone.kind]}" stroke="#bbb" stroke-dasharray="4 3"'))
    for number in range(len(shop.cameras)):
        hue = HUES[number % len(HUES)]
        for outline in _outlines(views, number):
            corners = " ".join(at(x, y) for x, y in outline.tolist())
            parts.append(
                f'<polygon points="{corners}" fill="{hue}" fill-opacity="0.13" stroke="{hue}" stroke-opacity="0.5"/>'
            )
    parts += [rectangle(o.area, 'fill="#8d8579" stroke="#5c564d"') for o in shop.obstacles]
    for number, visit in enumerate(visits):
        points: list[list[float]] = []
        for part in visit.parts:
            if part.start != part.end:
                path = shop.floor.path(part.start, part.end)
                points += along(path, np.arange(part.from_m, part.to_m + 1e-9, 0.25)).tolist()
        shift = 0.12 * (number % 3 - 1)  # so that paths along one shelf stay apart
        way = " ".join(at(x + shift, y + shift) for x, y in points)
        parts.append(
            f'<polyline points="{way}" fill="none" stroke="{HUES[number % len(HUES)]}" stroke-width="1.6" '
            f'stroke-dasharray="{7 + 2 * number} 4" stroke-linejoin="round"/>'
        )
    for line in shop.lines:
        parts.append(
            f'<path d="M{at(*line.start)} L{at(*line.end)}" stroke="#333" stroke-width="2" stroke-dasharray="2 3"/>'
        )
    for zone in shop.zones:
        parts.append(label(zone.area[0] + 0.15, zone.area[3] - 0.4, zone.name))
    for number, camera in enumerate(shop.cameras):
        left, top = at(*camera.position).split(",")
        hue = HUES[number % len(HUES)]
        parts.append(f'<circle cx="{left}" cy="{top}" r="7" fill="{hue}" stroke="#fff" stroke-width="2"/>')
        style = f'font-weight="bold" fill="{hue}" paint-order="stroke" stroke="#fff" stroke-width="4"'
        parts.append(label(camera.position[0] + 0.25, camera.position[1] + 0.15, camera.name, style))
    parts.append(label(0, -0.4, f"{shop.name}: {width:g} x {depth:g} m; shaded: what each camera sees"))
    return "\n".join([*parts, "</svg>", ""])


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
