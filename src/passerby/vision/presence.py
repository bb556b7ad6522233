"""Where a track's feet have been: stays in zones and crossings of lines; one instance a track."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from passerby.shop import Crossing, Line, Point, Stay, Zone
from passerby.vision.floor import crossings_of, outside_by, stretches_in

ENTER_S = 0.5  # inside for so long, and a stay has begun (when the feet came in)
LEAVE_S = 1.5  # outside for so long, and it has ended (when the feet were last inside)
SETTLE_S = 1.0  # across for so long, and a line was crossed


@dataclass(slots=True)
class _InZone:
    """A zone, when the feet came in (None while they are outside), when they were last inside, and when last near it."""

    since: datetime | None = None
    inside: datetime | None = None
    near: datetime | None = None
    stays: list[Stay] = field(default_factory=list)


@dataclass(slots=True)
class _AtLine:
    """A line, the crossings that are certain, and one that may yet be taken back."""

    crossings: list[Crossing] = field(default_factory=list)
    pending: Crossing | None = None


class Presence:
    """One track's stays and crossings, from where its feet were at rising times.

    `zones` and `lines` are in the frame of the points: fractions of the picture, or metres. A stay begins when the feet come
    in, once they have been inside for `enter_s`; it ends when they were last inside, once they have been outside for
    `leave_s`. Between two points they go straight on, so that both times lie on the zone's edge. Who is in a zone and comes no
    farther out of it than feet are known (`slack`) is held to be inside. So a box that flickers on an edge makes one stay,
    and who walks past a corner none. A line is crossed where the path from one point to the next crosses it, however far
    they lie apart; who turns back within `settle_s` has not crossed it. Points of two tracks never meet: who vanishes on one
    side and appears on the other has crossed nothing.

    >>> from datetime import UTC
    >>> start = datetime(2026, 3, 2, tzinfo=UTC)
    >>> seen = Presence([], [Line("door", (0.0, 0.0), (2.0, 0.0))], enter_s=0.5, leave_s=1.5, settle_s=1.0)
    >>> for second, y in enumerate([2.0, 1.0, -1.0, -2.0]):
    ...     seen.see(start + timedelta(seconds=second), (1.0, y))
    >>> [(crossing.line, crossing.at.second, crossing.inwards) for crossing in seen.crossings()]
    [('door', 1, True)]
    """

    def __init__(
        self,
        zones: Sequence[Zone],
        lines: Sequence[Line],
        *,
        enter_s: float = ENTER_S,
        leave_s: float = LEAVE_S,
        settle_s: float = SETTLE_S,
    ) -> None:
        self.enter, self.leave = timedelta(seconds=enter_s), timedelta(seconds=leave_s)
        self.settle = timedelta(seconds=settle_s)
        self._zones = [(zone, _InZone()) for zone in zones]
        self._lines = [(line, _AtLine()) for line in lines]
        self._last: tuple[datetime, Point] | None = None
        self._first: datetime | None = None

    def after(self, time: datetime, feet: Point) -> None:
        """Before anything is seen: another track that broke off was last seen there, and this one goes on with it.

        A line between there and the first point was crossed, at the time of that point.
        """
        self._last = time, feet

    def see(self, time: datetime, feet: Point, *, slack: float = 0.0) -> None:
        """The feet were seen there, give or take `slack`; a time that does not come after the last one is passed over."""
        if self._last is not None and time <= self._last[0]:
            return
        self._first = self._first or time
        for zone, in_zone in self._zones:
            self._in_zone(in_zone, zone, time, feet, slack)
        if self._last is not None:
            path = np.array([self._last[1], feet])
            whole = float(np.linalg.norm(path[1] - path[0]))
            for line, at_line in self._lines:
                self._over_line(at_line, line, time, crossings_of(path, line), whole)
        self._last = time, feet

    def stays(self, *, ended: bool = False) -> tuple[Stay, ...]:
        """The stays so far, in order; one that goes on has no end, unless the track has `ended`: then its last time inside."""
        found = []
        for zone, state in self._zones:
            found += state.stays
            stay = self._stay(zone, state)
            if stay is not None:
                assert self._last is not None
                assert state.near is not None
                gone = ended or self._last[0] - state.near >= self.leave
                found.append(stay if gone else Stay(zone.name, stay.start, None))
        return tuple(sorted(found, key=lambda stay: (stay.start, stay.zone)))

    def crossings(self, *, ended: bool = False) -> tuple[Crossing, ...]:
        """The crossings so far, in order; one that may yet be taken back counts once the track has `ended`."""
        found = [crossing for _, state in self._lines for crossing in state.crossings]
        for _, state in self._lines:
            if state.pending is not None and (ended or self._settled(state.pending)):
                found.append(state.pending)
        return tuple(sorted(found, key=lambda crossing: (crossing.at, crossing.line)))

    def _settled(self, crossing: Crossing) -> bool:
        return self._last is not None and self._last[0] - crossing.at >= self.settle

    def _stay(self, zone: Zone, state: _InZone) -> Stay | None:
        """The stay that a zone's state amounts to; None for less than `enter_s`."""
        if state.since is None or state.inside is None or state.near is None:
            return None
        walked_out = state.near - state.inside < self.leave  # and did not linger beside the edge
        end = state.inside if walked_out else state.near
        return Stay(zone.name, state.since, end) if end - state.since >= self.enter else None

    def _in_zone(self, state: _InZone, zone: Zone, time: datetime, feet: Point, slack: float) -> None:
        outside = outside_by(zone, feet)
        if state.near is not None and time - state.near >= self.leave:
            stay = self._stay(zone, state)
            state.stays += [stay] if stay is not None else []
            state.since = state.inside = state.near = None
        if outside == 0:
            state.since = state.since or self._on_edge(zone, time, feet, inwards=True)
            state.inside = state.near = time
            return
        if state.inside is not None and self._last is not None and state.inside == self._last[0]:
            state.inside = state.near = self._on_edge(zone, time, feet, inwards=False)
        if state.since is not None and outside <= slack:
            state.near = time

    def _on_edge(self, zone: Zone, time: datetime, feet: Point, *, inwards: bool) -> datetime:
        """When the feet crossed a zone's edge, on the way from where they were last to where they are at `time`."""
        if self._last is None:
            return time
        before, place = self._last
        inside = stretches_in(np.array([place, feet]), zone)
        if not inside:
            return time if inwards else before
        way = inside[-1][0] if inwards else inside[0][1]
        return max(before + (time - before) * (way / math.dist(place, feet)), self._first or time)

    def _over_line(
        self, state: _AtLine, line: Line, time: datetime, found: list[tuple[float, bool]], whole: float
    ) -> None:
        assert self._last is not None
        before = self._last[0]
        for way, inwards in found:
            at = max(before + (time - before) * (way / whole), self._first or time)
            if state.pending is not None and at - state.pending.at < self.settle and state.pending.inwards != inwards:
                state.pending = None  # there and back at once: a foot on the line
                continue
            if state.pending is not None:
                state.crossings.append(state.pending)
            state.pending = Crossing(line.name, at, inwards)
