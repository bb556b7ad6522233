"""Recordings of a site played as if its cameras were live: no faster than they were filmed, all by one clock."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from threading import Event
from types import TracebackType
from typing import Self

from passerby.shop import Frame
from passerby.site import Site
from passerby.vision.pipeline import Recording, recordings, together
from passerby.vision.readers import State

BETWEEN_S = (
    10.0  # from their end to their beginning, where recordings are played again: nobody stays from one to the other
)


class Played:
    """The recordings of a site's cameras as live frames; it has the methods of `readers.Readers`, and `ended`.

    The first frame is dated `begins`, the others as much later as they were filmed. No frame comes before its time, and none is
    left out: where it is too slow to look at them all, the present is late. With `loop` they begin again when they have
    ended. Raises VideoError, from `newest`, where a recording cannot be read.
    """

    def __init__(
        self, site: Site, *, begins: datetime, loop: bool = False, passing: Callable[[], float] = time.monotonic
    ) -> None:
        self.ended = False
        self._site, self._loop, self._passing = site, loop, passing
        self._begins, self._began_s = begins, passing()
        self._seen = dict.fromkeys((camera.name for camera in site.cameras), 0)
        self._newest: dict[str, datetime] = {}
        self._closed = Event()
        self._readings: list[Recording] = []
        self._coming = self._batches()
        self._next: list[Frame] | None = None

    def newest(self, *, timeout_s: float) -> list[Frame]:
        """The frames of one moment once it has come, one of a camera at most; none where that is later than `timeout_s`."""
        if self._next is None and not self.ended:
            self._next = next(self._coming, None)
            self.ended = self._next is None
        if self._next is None:
            self._closed.wait(timeout_s)
            return []
        ahead_s = (max(frame.time for frame in self._next) - self._begins).total_seconds() - self._passed_s()
        if ahead_s > 0 and (self._closed.wait(min(ahead_s, timeout_s)) or ahead_s > timeout_s):
            return []
        batch, self._next = self._next, None
        for frame in batch:
            self._seen[frame.camera] += 1
            self._newest[frame.camera] = frame.time
        return batch

    def states(self) -> dict[str, State]:
        """How each camera is doing."""
        skipped = {reading.camera.name: reading.frames.skipped for reading in self._readings}
        return {
            name: State(
                camera=name,
                phase="stalled" if self.ended else "live" if seen else "connecting",
                reason=f"{name}: its recording has ended" if self.ended else f"{name}: a recording is played",
                frames=seen,
                dropped=0,
                skipped=skipped.get(name, 0),
                jumps=0,
                reconnects=0,
                lost_s=0.0,
                newest=self._newest.get(name),
                clock="arrival" if seen else None,
            )
            for name, seen in self._seen.items()
        }

    def close(self) -> None:
        """End the waiting for a frame."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _passed_s(self) -> float:
        return self._passing() - self._began_s

    def _batches(self) -> Iterator[list[Frame]]:
        starts = self._begins
        while True:
            self._readings = recordings(self._site, rate=None)
            batches = together(self._readings)
            first = next(batches, None)
            if first is None:
                return
            shift = starts - first[0].time
            newest = starts
            for batch in chain([first], batches):
                dated = [replace(frame, time=frame.time + shift) for frame in batch]
                newest = max(newest, *(frame.time for frame in dated))
                yield dated
            if not self._loop:
                return
            starts = max(newest + timedelta(seconds=BETWEEN_S), self._begins + timedelta(seconds=self._passed_s()))
