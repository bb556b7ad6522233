"""Boxes, names and places drawn into pictures, and pictures side by side; nothing here finds, follows or writes anything."""

import colorsys
import math
from collections.abc import Sequence

import cv2
import numpy as np

from passerby.shop import Line, Point, Zone
from passerby.types import Float32, UInt8
from passerby.vision.floor import Plane, Projection

GOLDEN = 0.6180339887  # turns of the colour wheel from one number to the next: neighbours are far apart
FONT = cv2.FONT_HERSHEY_SIMPLEX
GREY = (150, 150, 150)
PLACE = (255, 214, 64)
SAMPLES = 24  # points of each side of a place on the floor, which a picture shows bent at its edges
Colour = tuple[int, int, int]


def colour_of(number: int) -> Colour:
    """The colour (red, green, blue) of a track or a person, always the same, unlike that of numbers near it.

    >>> colour_of(1), colour_of(2)
    ((0, 74, 255), (202, 255, 128))
    """
    lightness = (0.65, 0.5, 0.75)[number % 3]
    red, green, blue = colorsys.hls_to_rgb(number * GOLDEN % 1, lightness, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw(picture: UInt8, numbers: Sequence[int], boxes_xyxy: Float32) -> UInt8:
    """A copy of an RGB picture (height, width, 3) with a box (n, 4) around each of `numbers`, and a small label above it."""
    drawn = picture.copy()
    draw_people(drawn, boxes_xyxy, [str(number) for number in numbers], [colour_of(number) for number in numbers])
    return drawn


def draw_people(picture: UInt8, boxes_xyxy: Float32, labels: Sequence[str], colours: Sequence[Colour]) -> None:
    """Draw a box (n, 4) with its label for each person into an RGB picture."""
    size = max(0.35, picture.shape[0] / 1200)
    for box, label, colour in zip(np.round(boxes_xyxy).astype(int).tolist(), labels, colours, strict=True):
        cv2.rectangle(picture, box[:2], box[2:], colour, 2 if size > 0.5 else 1)
        if not label:
            continue
        (width, height), _ = cv2.getTextSize(label, FONT, size, 1)
        left, bottom = max(0, box[0]), max(height + 4, box[1])
        cv2.rectangle(picture, (left, bottom - height - 4), (left + width + 4, bottom), colour, -1)
        cv2.putText(picture, label, (left + 2, bottom - 3), FONT, size, (0, 0, 0), 1, cv2.LINE_AA)


def write(picture: UInt8, text: str, corner: tuple[int, int], *, colour: Colour = (255, 255, 255)) -> None:
    """Write a line of text on a dark ground into an RGB picture, above `corner` (x, y) where there is room, else below."""
    font, size = FONT, max(0.4, 0.75 * picture.shape[0] / 720)
    thick = max(1, round(1.5 * size))
    (width, height), below = cv2.getTextSize(text, font, size, thick)
    x = min(max(corner[0], 0), max(0, picture.shape[1] - width - 4))
    y = corner[1] - below - 2 if corner[1] - height - below - 4 >= 0 else corner[1] + height + 4
    cv2.rectangle(picture, (x, y - height - 3), (x + width + 4, y + below), (20, 20, 20), -1)
    cv2.putText(picture, text, (x + 2, y), font, size, colour, thick, cv2.LINE_AA)


def draw_places(
    picture: UInt8, zones: Sequence[Zone], lines: Sequence[Line], floor: Projection | Plane | None
) -> list[str]:
    """Draw the zones and lines that a camera sees into its RGB picture; `floor` ties it to the floor.

    An arrow across each line points inwards. Returns the names of those that lie in the picture, at least in part.
    """
    shown = []
    thick = max(1, round(2 * picture.shape[0] / 720))
    for zone in zones:
        points = _in_picture((*zone.corners, zone.corners[0]), zone.camera, floor, picture)
        if points is not None:
            under = picture.copy()
            cv2.fillPoly(under, [points], PLACE)
            cv2.addWeighted(under, 0.2, picture, 0.8, 0, picture)
            cv2.polylines(picture, [points], True, PLACE, thick, cv2.LINE_AA)
            x, y = (
                np.clip(points.mean(axis=0), 0, [picture.shape[1] - 1, picture.shape[0] - 1])
                .round()
                .astype(int)
                .tolist()
            )
            write(picture, zone.name, (x - 20, y), colour=PLACE)
            shown.append(zone.name)
    for line in lines:
        points = _in_picture((line.start, line.end), line.camera, floor, picture)
        if points is not None:
            colour = (90, 220, 255)
            cv2.polylines(picture, [points], False, colour, thick + 1, cv2.LINE_AA)
            (ax, ay), (bx, by) = line.start, line.end
            middle = ((ax + bx) / 2, (ay + by) / 2)
            down = -1 if line.camera is not None else 1  # y goes down in pictures, and left and right change sides
            long = math.dist(line.start, line.end)
            reach = min(0.25 * long, 1.0 if line.camera is None else 0.1)
            inwards = (middle[0] + down * (by - ay) / long * reach, middle[1] - down * (bx - ax) / long * reach)
            arrow = _in_picture((middle, inwards), line.camera, floor, picture)
            if arrow is not None and len(arrow) > 1:
                start, end = (tuple(point) for point in (arrow[0].tolist(), arrow[-1].tolist()))
                cv2.arrowedLine(picture, start, end, colour, thick, cv2.LINE_AA, tipLength=0.3)
            x, y = points[len(points) // 2].tolist()
            write(picture, line.name, (x + 8, y), colour=colour)
            shown.append(line.name)
    return shown


def tiled(pictures: Sequence[UInt8], *, width: int, height: int) -> UInt8:
    """Pictures side by side, each fitted into a tile of `width` x `height`: as square as their number allows."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    canvas = np.full((rows * height, columns * width, 3), 24, np.uint8)
    for number, picture in enumerate(pictures):
        scale = min(width / picture.shape[1], height / picture.shape[0])
        size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
        row, column = divmod(number, columns)
        y, x = row * height + (height - size[1]) // 2, column * width + (width - size[0]) // 2
        canvas[y : y + size[1], x : x + size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return canvas


def _in_picture(
    corners: Sequence[Point], camera: str | None, floor: Projection | Plane | None, picture: UInt8
) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]] | None:
    """The way along corners as pixels (points, 2); None where none of it lies in the picture."""
    height, width = picture.shape[:2]
    steps = np.linspace(0, 1, SAMPLES, endpoint=False)[:, None]
    ways = [a + steps * (b - a) for a, b in zip(np.array(corners[:-1]), np.array(corners[1:]), strict=True)]
    points = np.concatenate([*ways, np.array(corners[-1:])])
    if camera is not None:
        points = points * [width, height]
    elif floor is None:
        return None
    else:
        points = floor.shown(points, width=width, height=height)
        points = points[np.isfinite(points).all(axis=1)]
    inside = ((points >= 0) & (points <= [width, height])).all(axis=1)
    if not inside.any():
        return None
    return np.clip(points, -4 * width, 4 * width).round().astype(np.int32)
