"""Whether a camera still looks where it looked, and sees anything: of pictures only tiny, blurred means are remembered."""

import math
from typing import Literal

import cv2
import numpy as np

from passerby.types import Float32, UInt8

State = Literal["fine", "moved", "dark"]

SIZE = (64, 36)  # of what is remembered of a picture, in pixels
EVERY_S = 1.0  # from one look to the next
MEAN_S = 20.0  # over which pictures are averaged: who walks by leaves no trace
CHANGE_S = 3600.0  # in which what was seen first gives way to what is seen now, where the camera has not moved
LASTS_S = 30.0  # before a change counts
MOVED, BACK = 0.65, 0.75  # likeness of edges below which a camera has moved, and above which it is back
FLAT = 8.0  # how weak an edge may be that still says something, in grey levels
DARK_MEAN, DARK_SPREAD = 12.0, 6.0  # grey levels of a picture that shows nothing


class Outlook:
    """Compares what a camera sees with what it saw first, by the direction of edges, so that light and people change little.

    `see` takes a picture (height, width, 3) uint8 RGB at a time in seconds. A camera is "moved" once its mean picture has been
    unlike the first one for half a minute, "dark" once nothing can be made out for as long, else "fine".
    """

    def __init__(self) -> None:
        self.state: State = "fine"
        self._looked_s = self._began_s = -math.inf
        self._mean: Float32 | None = None
        self._first: Float32 | None = None  # what it saw when it was set up
        self._other: tuple[State, float] | None = None  # what it seems to be since when, where that is not the state

    def see(self, at_s: float, picture: UInt8) -> None:
        """Take in a picture; more than one a second are left out."""
        if at_s - self._looked_s < EVERY_S:
            return
        passed_s = min(at_s - self._looked_s, MEAN_S)
        self._looked_s = at_s
        grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), SIZE, interpolation=cv2.INTER_AREA).astype(
            np.float32
        )
        if grey.mean() < DARK_MEAN and grey.std() < DARK_SPREAD:
            self._seems("dark", at_s)
            return
        if self._mean is None:
            self._mean, self._began_s = grey, at_s
        self._mean = self._mean + (grey - self._mean) * np.float32(passed_s / MEAN_S)
        if self._first is None:
            if at_s - self._began_s >= MEAN_S:
                self._first = self._mean
            self._seems("fine", at_s)
            return
        like = likeness(self._mean, self._first)
        least = BACK if self.state == "moved" else MOVED
        self._seems("moved" if like < least else "fine", at_s)
        if like >= BACK:
            self._first = self._first + (self._mean - self._first) * np.float32(passed_s / CHANGE_S)

    def _seems(self, state: State, at_s: float) -> None:
        if state == self.state:
            self._other = None
        elif self._other is None or self._other[0] != state:
            self._other = state, at_s
        elif at_s - self._other[1] >= LASTS_S:
            self.state, self._other = state, None


def likeness(one: Float32, other: Float32) -> float:
    """How alike the edges of two grey pictures (height, width) lie, -1 to 1; how strong they are says nothing.

    >>> stripes = np.tile(np.float32([0, 0, 200, 200]), (36, 16))
    >>> round(likeness(stripes, 0.3 * stripes + 40), 1), likeness(stripes, stripes.T[:36, :36].repeat(2, 1)[:, :64]) < 0.2
    (1.0, True)
    """
    a, b = _edges(one), _edges(other)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum() + 1e-9))


def _edges(grey: Float32) -> Float32:
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    both = np.stack([cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)])
    found: Float32 = both / (np.sqrt((both**2).sum(0)) + FLAT)
    return found
