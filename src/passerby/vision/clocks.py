"""Cameras whose clocks are off, found without labels: by their clocks one person would be in two places at once."""

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

import numpy as np

from passerby.shop import Sighting, moved
from passerby.types import Float64, Int64

REACH_S = 120  # a clock is looked for that is so far off at the most
SEEN_S = 180  # and pairs are looked at whose clocks are
SLACK_S = 2.0  # by which one person's sightings in two cameras may overlap
FEWEST = 20.0  # alike people in two places at once, of whom one person more says little
LEFT = 0.2  # the part of them that may still be, by the right clock: look-alikes


class Ahead(NamedTuple):
    """By how many seconds a camera's clock is found to be ahead, of sightings that begin from `since_s` on."""

    camera: int
    since_s: float
    ahead_s: float


class Clocks:
    """How far each camera's clock is ahead of the others', learnt of pairs of alike sightings in two cameras.

    Nobody is in two places at once. So of pairs that look alike hardly any overlap, whatever people do, where clocks are right;
    where one is off these begin to, and there is another time by which they would not. Only what is plain is said: where clocks
    are right, or looks say little, nothing is. One clock is found at a time, that by which most people are in two places at
    once; what was learnt of that camera is then forgotten.
    """

    def __init__(self, cameras: int) -> None:
        self.found: list[Ahead] = []
        # Of two cameras, the first one's number the lesser: how many pairs overlap if the second's clock is so much ahead.
        self.overlaps: Float64 = np.zeros((cameras, cameras, 2 * SEEN_S + 1))

    def ahead_s(self, camera: int, start_s: float) -> float:
        """How far the clock is ahead by which a sighting began."""
        return sum(each.ahead_s for each in self.found if each.camera == camera and start_s >= each.since_s)

    def waits_s(self, camera: int) -> float:
        """From when on a camera's sightings are by a clock that may be judged."""
        return max((each.since_s for each in self.found if each.camera == camera), default=-math.inf)

    def learn(self, camera: Int64, start_s: Float64, end_s: Float64) -> None:
        """Take in pairs of alike sightings: each an array (pairs, 2) of both."""
        order = np.argsort(camera, axis=1)
        camera = np.take_along_axis(camera, order, axis=1)
        start_s, end_s = np.take_along_axis(start_s, order, axis=1), np.take_along_axis(end_s, order, axis=1)
        first = np.maximum(start_s[:, 1] - end_s[:, 0] + SLACK_S, -SEEN_S)
        last = np.clip(end_s[:, 1] - start_s[:, 0] - SLACK_S, -SEEN_S - 1, SEEN_S)
        for (one, other), low, high in zip(
            camera.tolist(), np.ceil(first).astype(int).tolist(), np.floor(last).astype(int).tolist(), strict=True
        ):
            self.overlaps[one, other, low + SEEN_S : high + SEEN_S + 1] += 1

    def look(self, since_s: float) -> Ahead | None:
        """The clock that is most plainly off, if one is: from now on it is taken for right of what begins from `since_s` on."""
        at_once = self.overlaps[:, :, SEEN_S]  # people in two places by the clocks as they are
        camera = int((at_once + at_once.T).sum(axis=0).argmax())
        ahead_s = self._gap(camera)
        if ahead_s is None:
            return None
        self.overlaps[camera] = self.overlaps[:, camera] = 0.0
        self.found.append(Ahead(camera, since_s, ahead_s))
        return self.found[-1]

    def _gap(self, camera: int) -> float | None:
        """How far ahead a camera's clock would be if hardly anybody were to overlap; None where that is not plain."""
        overlaps = self.overlaps[:camera, camera].sum(axis=0) + self.overlaps[camera, camera + 1 :, ::-1].sum(axis=0)
        sides = np.maximum.accumulate(overlaps), np.maximum.accumulate(overlaps[::-1])[::-1]
        beside, now = np.minimum(*sides), float(overlaps[SEEN_S])
        depth = (beside - overlaps)[SEEN_S - REACH_S : SEEN_S + REACH_S + 1]
        at = np.flatnonzero(depth == depth.max()) + SEEN_S - REACH_S
        plain = now >= FEWEST and overlaps[at[0]] <= LEFT * min(now, float(beside[at[0]]))
        return float(np.median(at)) - SEEN_S if plain else None

    def corrected(self, camera: int, sighting: Sighting) -> Sighting:
        """A sighting by the right clock."""
        ahead_s = self.ahead_s(camera, sighting.start.timestamp()) if self.found else 0.0
        return moved(sighting, timedelta(seconds=-ahead_s)) if ahead_s else sighting

    def restore(self, found: Iterable[Iterable[float]], overlaps: Float64) -> None:
        """Take in what another one has `found`, and its `overlaps`."""
        self.found = [Ahead(int(camera), since_s, ahead_s) for camera, since_s, ahead_s in found]
        self.overlaps = overlaps
