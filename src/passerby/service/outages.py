"""When cameras saw nothing: from their states to the gaps that are kept. Absence is not zero."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from passerby.service.kept import Gap, GapKind
from passerby.service.live import Alarm, CameraState

LEAST = timedelta(seconds=10)  # without a frame, from which on it is a gap
SHORTEST = timedelta(milliseconds=1)  # that a gap lasts


class Outages:
    """Watches the states of cameras and gives `put` each gap when it begins, and again when it has ended.

    `known` are gaps that an earlier run has left open; `since` says, for each other camera, from when on nothing has been seen.
    All of them end with a camera's first frame. `alarm` hears of cameras that stop and go on during this run.
    """

    def __init__(
        self,
        *,
        known: Iterable[Gap],
        since: Mapping[str, datetime],
        put: Callable[[Sequence[Gap]], None],
        alarm: Callable[[Alarm], None] = lambda alert: None,
    ) -> None:
        self._put, self._alarm = put, alarm
        known = list(known)
        self._open = {gap.camera: gap for gap in known if gap.kind == "down"}
        self._faults = {gap.camera: gap for gap in known if gap.kind in ("moved", "degraded")}
        self._newest: dict[str, tuple[datetime, datetime]] = {}  # the newest frame's time, and when it was told
        for camera, at in since.items():
            if camera not in self._open:
                self._begin(camera, at, f"{camera}: passerby was not running")

    def see(self, states: Iterable[CameraState], now: datetime) -> None:
        """Take in how cameras are doing at the time `now`."""
        for state in states:
            newest, told = self._newest.get(state.camera, (None, now))
            if state.newest is not None and state.newest != newest:
                self._newest[state.camera] = state.newest, now
                gap = self._open.pop(state.camera, None)
                if gap is not None:  # where the clock was set back, its end would lie before its start
                    self._put([replace(gap, end=max(state.newest, gap.start + SHORTEST))])
                    self._alarm(Alarm(f"camera: {state.camera}", False, f"{state.camera}: frames come again", now))
            elif newest is not None and state.camera not in self._open and now - told > LEAST:
                self._begin(state.camera, newest, state.reason)
                self._alarm(Alarm(f"camera: {state.camera}", True, state.reason, now))

    def look(self, faults: Mapping[str, tuple[GapKind, str] | None], now: datetime) -> None:
        """Take in what is wrong with what cameras show, as (kind, reason), None for nothing: a gap while it lasts."""
        for camera, fault in faults.items():
            gap = self._faults.get(camera)
            if gap is not None and (fault is None or fault[0] != gap.kind):
                self._put([replace(self._faults.pop(camera), end=max(now, gap.start + SHORTEST))])
                self._alarm(Alarm(f"view: {camera}", False, f"{camera}: it can be counted on again", now))
            if fault is not None and camera not in self._faults:
                self._faults[camera] = Gap(camera, now, None, *fault)
                self._put([self._faults[camera]])
                self._alarm(Alarm(f"view: {camera}", True, fault[1], now))

    def stop(self) -> None:
        """The end of this run: from the newest frame on nobody watches any more."""
        for camera, (newest, _) in self._newest.items():
            if camera not in self._open:
                self._begin(camera, newest, f"{camera}: passerby was stopped")

    def _begin(self, camera: str, at: datetime, reason: str) -> None:
        self._open[camera] = Gap(camera, at, None, "down", reason)
        self._put([self._open[camera]])
