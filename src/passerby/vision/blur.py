"""Heads and masked parts of a picture made unrecognisable, before it is shown or written; nothing here finds people."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from passerby.types import Float32, PictureError, UInt8

HEAD = (0.28, 0.65)  # a head's part of a box: this share of its height, or of its width if that is more
MARGIN = 0.12  # of the box, beyond its top and its sides
CELLS = 4  # mean colours that are left along the shorter side
LEAST_PX = 8  # a side of what one mean colour stands for

Polygon = Sequence[tuple[float, float]]


def blur_heads(picture: UInt8, boxes_xyxy: Float32, *, masks: Sequence[Polygon] = ()) -> UInt8:
    """A copy of an RGB picture (height, width, 3) without the heads of the people in boxes (n, 4) and what masks cover.

    A head's region is generous, and wider boxes, of people who sit or are cut off below, have a larger one. A region is
    replaced by few mean colours, about two by two a head, and the steps between them are smoothed: what was averaged cannot be
    had back from the picture. Masks are polygons of (x, y) in fractions of the picture's width and height, y downwards. Raises
    PictureError for another kind of picture.

    >>> picture = np.zeros((100, 60, 3), np.uint8)
    >>> picture[::2] = 255
    >>> blurred = blur_heads(picture, np.array([[10, 10, 50, 100]], np.float32))
    >>> bool(np.ptp(blurred[12:34, 12:48]) < 20), np.array_equal(blurred[50:], picture[50:])
    (True, True)
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise PictureError(f"picture: expected (height, width, 3) uint8, got {picture.shape} {picture.dtype}")
    height, width = picture.shape[:2]
    blurred = picture.copy()
    for x0, y0, x1, y1 in boxes_xyxy.tolist():
        across, down = x1 - x0, y1 - y0
        bottom = y0 + min(down, max(HEAD[0] * down, HEAD[1] * across))
        _smear(picture, blurred, x0 - MARGIN * across, y0 - MARGIN * down, x1 + MARGIN * across, bottom)
    for mask in masks:
        corners = np.array(mask) * (width, height)
        covered = np.zeros((height, width), np.uint8)
        cv2.fillPoly(covered, [np.round(corners).astype(np.int32)], 1)
        whole = picture.copy()
        _smear(picture, whole, *corners.min(0), *corners.max(0))
        blurred[covered > 0] = whole[covered > 0]
    return blurred


def _smear(picture: UInt8, into: UInt8, x0: float, y0: float, x1: float, y1: float) -> None:
    """Replace a rectangle of `into` by the mean colours of the picture's there."""
    height, width = picture.shape[:2]
    left, top = max(0, math.floor(x0)), max(0, math.floor(y0))
    right, bottom = min(width, math.ceil(x1) + 1), min(height, math.ceil(y1) + 1)
    if right <= left or bottom <= top:
        return
    side = max(LEAST_PX, min(right - left, bottom - top) / CELLS)
    cells = (max(1, int((right - left) / side)), max(1, int((bottom - top) / side)))
    means = cv2.resize(picture[top:bottom, left:right], cells, interpolation=cv2.INTER_AREA)
    into[top:bottom, left:right] = cv2.resize(
        means, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR
    ).reshape(bottom - top, right - left, 3)
