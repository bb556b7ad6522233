"""Heads and masked parts of a picture made unrecognisable, before anybody sees it or it is written."""

from collections.abc import Sequence

import numpy as np

from passerby.shop import Point
from passerby.types import Float32, UInt8

HEAD = 0.27  # of a person's box, from the top: the head with its neck, also where the box sits low
ABOVE = 0.05  # of the box, above it: where it sits high
WIDER = 0.1  # of the box's width, on each side
BLOCKS = 4  # a head is left with so many blocks across its longer side
MASK = 24  # the grey level of a masked part


def blur_heads(picture: UInt8, boxes_xyxy: Float32, *, masks: Sequence[Sequence[Point]] = ()) -> UInt8:
    """A copy of an RGB picture (height, width, 3) without what people could be recognised by.

    The upper part of each box (n, 4), in pixels, is left as a few blocks of colour, blurred: what was there cannot be computed
    back. `masks` are polygons in fractions of the picture, filled with grey.
    """
    import cv2

    shown = picture.copy()
    height, width = picture.shape[:2]
    for x0, y0, x1, y1 in boxes_xyxy.tolist():
        left, right = max(0, int(x0 - WIDER * (x1 - x0))), min(width, int(x1 + WIDER * (x1 - x0)) + 1)
        top, bottom = max(0, int(y0 - ABOVE * (y1 - y0))), min(height, int(y0 + HEAD * (y1 - y0)) + 1)
        if right <= left or bottom <= top:
            continue
        part = shown[top:bottom, left:right]
        scale = BLOCKS / max(part.shape[:2])
        few = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
        blocks = cv2.resize(part, few, interpolation=cv2.INTER_AREA)
        shown[top:bottom, left:right] = cv2.resize(
            blocks, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_LINEAR
        )
    for mask in masks:
        corners = (np.array(mask) * [width, height]).round().astype(np.int32)
        cv2.fillPoly(shown, [corners], (MASK, MASK, MASK))
    return shown
