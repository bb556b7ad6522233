"""Where a camera's detector fires for ever without anybody there: learnt while it runs, one instance a camera."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from passerby.shop import Detections
from passerby.types import Float32

PATIENCE_S = 300.0
FORGET_S = 600.0
STILL = 0.04
OUTAGE_S = 2.0
KEPT = 0.1
FOLLOW = 0.02


@dataclass(slots=True)
class _Spot:
    box: Float32  # (4,), follows what is found there, slowly
    held_s: float


class StillSpots:
    """Lowers the scores of boxes that stay where they are, to within a few percent of their height, for minutes on end.

    A figure on a poster or a rack of coats is found in nearly every frame at one place; a person who waits sways. A box is
    on a spot where each of its edges is within `still` of its height. From `patience_s` on its score falls, and at twice that
    time a tenth is left: it is not removed, so that who stands before a poster is found. A spot that nothing is found on is
    forgotten at the rate `patience_s` in `forget_s`. Time without frames, beyond two seconds, does not count.

    >>> from datetime import UTC, datetime, timedelta
    >>> spots, start = StillSpots(patience_s=60), datetime(2026, 3, 1, tzinfo=UTC)
    >>> poster = Detections(np.array([[10, 10, 30, 70]], np.float32), np.array([0.8], np.float32))
    >>> scores = [spots(start + timedelta(seconds=s), poster).scores[0] for s in range(200)]
    >>> [round(float(scores[s]), 2) for s in (0, 60, 90, 150)]
    [0.8, 0.8, 0.44, 0.08]
    """

    def __init__(self, *, patience_s: float = PATIENCE_S, forget_s: float = FORGET_S, still: float = STILL) -> None:
        self.patience_s, self.forget_s, self.still = patience_s, forget_s, still
        self._spots: list[_Spot] = []
        self._last: datetime | None = None

    def __call__(self, time: datetime, found: Detections) -> Detections:
        """The detections of a frame taken at `time`, those on still spots with lower scores; frames come in order of time."""
        passed_s = 0.0 if self._last is None else (time - self._last).total_seconds()
        passed_s = min(max(passed_s, 0.0), OUTAGE_S)  # a clock that jumps back teaches nothing
        self._last = time
        scores = found.scores.copy()
        free = np.ones(len(found), bool)
        for spot in self._spots:
            rows = np.flatnonzero(free & self._on(spot, found.boxes_xyxy))
            if not len(rows):
                spot.held_s -= passed_s * self.patience_s / self.forget_s
                continue
            row = int(rows[0])  # the surest
            free[rows] = False
            spot.held_s = min(spot.held_s + passed_s, 2 * self.patience_s)
            spot.box += FOLLOW * (found.boxes_xyxy[row] - spot.box)
            share = np.clip(spot.held_s / self.patience_s - 1, 0, 1)
            scores[rows] *= np.float32(1 - share * (1 - KEPT))
        self._spots = [spot for spot in self._spots if spot.held_s >= 0]
        self._spots += [_Spot(found.boxes_xyxy[row].copy(), 0.0) for row in np.flatnonzero(free)]
        order = np.argsort(-scores, kind="stable")
        return Detections(found.boxes_xyxy[order], scores[order])

    def _on(self, spot: _Spot, boxes: Float32) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        height = spot.box[3] - spot.box[1]
        return np.asarray((np.abs(boxes - spot.box) <= self.still * height).all(1))
