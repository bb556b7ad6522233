"""Tracks drawn on a picture, for people to look at; nothing here finds, follows or writes anything."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from passerby.types import Float32, UInt8

GOLDEN = 0.6180339887  # turns of the colour wheel from one number to the next: neighbours are far apart
FONT = cv2.FONT_HERSHEY_SIMPLEX


def colour_of(number: int) -> tuple[int, int, int]:
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
    size = max(0.35, picture.shape[0] / 1200)
    for number, box in zip(numbers, np.round(boxes_xyxy).astype(int).tolist(), strict=True):
        colour = colour_of(number)
        cv2.rectangle(drawn, box[:2], box[2:], colour, 2 if size > 0.5 else 1)
        (width, height), _ = cv2.getTextSize(str(number), FONT, size, 1)
        left, bottom = max(0, box[0]), max(height + 4, box[1])
        cv2.rectangle(drawn, (left, bottom - height - 4), (left + width + 4, bottom), colour, -1)
        cv2.putText(drawn, str(number), (left + 2, bottom - 3), FONT, size, (0, 0, 0), 1, cv2.LINE_AA)
    return drawn
