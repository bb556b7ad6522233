"""What a camera's tracker makes of who is in view: tracks, and its errors, each at the rate that the shop states."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

from passerby.shop import MOST_PROTOTYPES, THINNED_S
from passerby.simulate.plan import CameraPlan, Shop, TrackerPlan
from passerby.simulate.watching import InView
from passerby.types import Float32, Float64

MEET_M = 1.0  # people who come so near to each other may be taken for each other
STEP_S = 0.5  # of the search for where they are nearest
GONE_S = (0.3, 2.0)  # how long a broken track's person is without one
MOMENT_S = (0.2, 1.5)  # how long a flicker lasts
PIECE = (0.2, 0.8)  # the part of a stay that is lost
PROTOTYPE_EVERY_S = 2.0


class Piece(NamedTuple):
    """A part of a time in view that one track holds, in seconds from opening."""

    view: InView
    since_s: float
    until_s: float


class Prototype(NamedTuple):
    """The time that one prototype of a track stands for."""

    since_s: float
    until_s: float


@dataclass(slots=True)
class Track:
    """What a tracker takes for one person: pieces of times in view, in order; those of two people may overlap.

    `opened_s` is when it was begun, no later than its first piece. `stays` and `crossings` are as the tracker saw them, see
    `InView`. Where a camera missed somebody there is no track: `missed` says so of the piece that it would have been.
    """

    camera: int
    opened_s: float
    missed: bool = False
    pieces: list[Piece] = field(default_factory=list)
    stays: list[tuple[int, float, float]] = field(default_factory=list)
    crossings: list[tuple[int, float, bool]] = field(default_factory=list)

    @property
    def start_s(self) -> float:
        """When the first piece begins."""
        return self.pieces[0].since_s

    @property
    def end_s(self) -> float:
        """When the last piece ends."""
        return max(piece.until_s for piece in self.pieces)

    def shares(self, since_s: float, until_s: float) -> list[tuple[InView, float]]:
        """Who holds the track between two times, with their part of all the time that it is held; they sum to 1."""
        if len(self.pieces) == 1:
            return [(self.pieces[0].view, 1.0)]
        held = [(p.view, min(p.until_s, until_s) - max(p.since_s, since_s)) for p in self.pieces]
        held = [(view, time) for view, time in held if time > 0]
        total = sum(time for _, time in held)
        return [(view, time / total) for view, time in held]

    def holder(self, since_s: float, until_s: float) -> InView:
        """The time in view of the person who holds most of the track between two times; the first of equals."""
        times: dict[int | None, float] = {}
        first: dict[int | None, InView] = {}
        for view, share in self.shares(since_s, until_s):
            times[view.person] = times.get(view.person, 0.0) + share
            first.setdefault(view.person, view)
        return first[max(times, key=lambda person: times[person])]

    @property
    def person(self) -> int | None:
        """Who holds most of the track, None where that is nobody."""
        return self.holder(self.start_s, self.end_s).person

    def prototypes(self) -> list[Prototype]:
        """What its prototypes stand for: one every 2 s, four at most, which share all of its time evenly."""
        start, lasts = self.start_s, self.end_s - self.start_s
        count = min(MOST_PROTOTYPES, 1 + int(lasts / PROTOTYPE_EVERY_S))
        return [Prototype(start + lasts * i / count, start + lasts * (i + 1) / count) for i in range(count)]

    def leading(self) -> list[Piece]:
        """Its pieces without overlaps: while it holds two people, it is where the first of them is."""
        if len(self.pieces) == 1:
            return self.pieces
        found, until = [], -math.inf
        for piece in self.pieces:
            if piece.until_s > until:
                found.append(piece._replace(since_s=max(piece.since_s, until)))
                until = piece.until_s
        return found

    def path(self) -> Float32:
        """Where its feet were, (points, 3) float32: seconds after its start, x, y in metres, one point a second."""
        seconds = np.arange(0.0, self.end_s - self.start_s + 1e-9, THINNED_S)
        path = np.empty((len(seconds), 3), np.float32)
        path[:, 0] = seconds
        for view, since, until in self.leading():
            if not len(view.way):
                return path[:0]
            first = int(
                np.searchsorted(seconds, since - self.start_s - 1e-9)
            )  # up to the next piece, a frame or two later
            path[first:, 1:] = at(view.way, np.minimum(self.start_s + seconds[first:], until))
        return path


def at(way: Float64, times: Float64) -> Float64:
    """Where a way (points, 3) is at `times` (n,): (n, 2) in metres."""
    places = np.empty((len(times), 2))
    for axis in (0, 1):
        places[:, axis] = np.interp(times, way[:, 0], way[:, axis + 1])
    return places


def tracked(in_view: Iterable[InView], shop: Shop, rng: np.random.Generator) -> Iterator[Track]:
    """What the cameras' trackers make of everyone in view, who come in order of their start; in order of `opened_s`.

    Where a camera's tracker never errs, each time in view that was found makes one track. Only the tracks that last, and
    those that began after them, are held in memory.
    """
    return _Trackers(shop, rng).run(in_view)


@dataclass(slots=True)
class _Held:
    """Somebody in view, and the track that holds them since a time; none for a moment after it broke."""

    view: InView
    track: Track | None
    since_s: float


class _Trackers:
    """All cameras' trackers, event by event in order of time: who goes, who is taken for whom, which track breaks."""

    def __init__(self, shop: Shop, rng: np.random.Generator) -> None:
        self.cameras, self.rng = shop.cameras, rng
        self.events: list[tuple[float, int, str, _Held, _Held | None]] = []
        self.serial = 0
        self.in_view: list[list[_Held]] = [[] for _ in shop.cameras]
        self.made: deque[Track] = deque()  # in order of opened_s
        self.holders: dict[int, int] = {}  # of tracks that last, by id: how many people they hold

    def run(self, came: Iterable[InView]) -> Iterator[Track]:
        for view in came:
            self._happen(view.start_s)
            yield from self._finished()
            if view.found:
                self._come(view)
            else:
                piece = Piece(view, view.start_s, view.end_s)
                self.made.append(Track(view.camera, view.start_s, missed=True, pieces=[piece]))
        self._happen(math.inf)
        yield from self._finished()

    def _finished(self) -> Iterator[Track]:
        while self.made and id(self.made[0]) not in self.holders:
            track = self.made.popleft()
            if track.pieces:
                track.pieces.sort(key=lambda piece: piece.since_s)
                if not track.missed:
                    _watch_places(track, self.cameras[track.camera], self.rng)
                yield track

    def _push(self, at_s: float, what: str, held: _Held, other: _Held | None = None) -> None:
        self.serial += 1
        heappush(self.events, (at_s, self.serial, what, held, other))

    def _come(self, view: InView) -> None:
        camera, present = self.cameras[view.camera], self.in_view[view.camera]
        held = self._begin(_Held(view, None, 0.0), view.start_s, opened_s=view.start_s)
        self._push(view.end_s, "end", held)
        errors = camera.tracker
        if errors.breaks_per_min:
            at_s = view.start_s
            while (at_s := at_s + float(self.rng.exponential(60 / errors.breaks_per_min))) < view.end_s:
                self._push(at_s, "break", held)
        if errors.swaps or errors.merges:
            for other in present:
                at_s, near_m = nearest(view, other.view)
                if near_m < MEET_M:
                    chance = self.rng.random()
                    if chance < errors.merges:
                        self._push(at_s, "merge", held, other)
                    elif chance < errors.merges + errors.swaps:
                        self._push(at_s, "swap", held, other)
        present.append(held)

    def _happen(self, until_s: float) -> None:
        while self.events and self.events[0][0] <= until_s:
            at_s, _, what, held, other = heappop(self.events)
            fps = self.cameras[held.view.camera].fps
            last_s = math.floor(at_s * fps + 1e-6) / fps  # of what was before; what follows begins a frame later
            next_s = last_s + 1 / fps
            if what == "end":
                self._let_go(held, held.view.end_s)
                self.in_view[held.view.camera].remove(held)
            elif what == "break" and held.track is not None:
                self._let_go(held, last_s)
                self._push(last_s + float(self.rng.uniform(*GONE_S)), "again", held)
            elif what == "again" and next_s < held.view.end_s:
                self._begin(held, next_s, opened_s=at_s)
            elif other is not None and held.track is not other.track and held.track and other.track:
                one, two = held.track, other.track
                older = one if one.opened_s < two.opened_s else two
                for each, into in ((held, two), (other, one)) if what == "swap" else ((held, older), (other, older)):
                    if each.track is not into:
                        self._let_go(each, last_s)
                        self._take_up(each, into, next_s)

    def _begin(self, held: _Held, since_s: float, *, opened_s: float) -> _Held:
        track = Track(held.view.camera, opened_s)
        self.made.append(track)
        return self._take_up(held, track, since_s)

    def _take_up(self, held: _Held, track: Track, since_s: float) -> _Held:
        held.track, held.since_s = track, since_s
        self.holders[id(track)] = self.holders.get(id(track), 0) + 1
        return held

    def _let_go(self, held: _Held, until_s: float) -> None:
        if held.track is None:
            return
        if until_s > held.since_s:
            held.track.pieces.append(Piece(held.view, held.since_s, until_s))
        self.holders[id(held.track)] -= 1
        if not self.holders[id(held.track)]:
            del self.holders[id(held.track)]
        held.track = None


def nearest(one: InView, other: InView) -> tuple[float, float]:
    """When two people in view at once are nearest to each other, and how near: (seconds, metres); the earliest of equals.

    Infinitely far where either is nowhere, or they are not in view at once.
    """
    since, until = max(one.start_s, other.start_s), min(one.end_s, other.end_s)
    if until <= since or not (len(one.way) and len(other.way)):
        return since, math.inf
    times = np.arange(since, until, STEP_S)
    apart = np.linalg.norm(at(one.way, times) - at(other.way, times), axis=1)
    best = int(apart.argmin())
    return float(times[best]), float(apart[best])


def _watch_places(track: Track, camera: CameraPlan, rng: np.random.Generator) -> None:
    """Fill in a track's stays and crossings: those of whoever leads it, with the tracker's errors."""
    for view, since, until in track.leading():
        track.stays += [(z, max(a, since), min(b, until)) for z, a, b in view.stays if a < until and since < b]
        track.crossings += [crossing for crossing in view.crossings if since <= crossing[1] <= until]
    if len(track.pieces) > 1:
        track.stays = _joined(track.stays, 2 / camera.fps)
        track.crossings.sort(key=lambda crossing: crossing[1])
    errors = camera.tracker
    if errors.edge_s or errors.flicker or errors.lost:
        start, end = track.start_s, track.end_s
        stays = [part for stay in track.stays for part in _blurred_stay(stay, start, end, errors, rng)]
        track.stays = _joined(stays, 0.0)
        crossings = [part for one in track.crossings for part in _blurred_crossing(one, start, end, errors, rng)]
        track.crossings = sorted(crossings, key=lambda crossing: crossing[1])


def _joined(stays: list[tuple[int, float, float]], gap_s: float) -> list[tuple[int, float, float]]:
    """Stays in order of their start, those in one zone that lie no further apart than `gap_s` made one."""
    joined: list[tuple[int, float, float]] = []
    last: dict[int, int] = {}
    for zone, since, until in sorted(stays, key=lambda stay: (stay[1], stay[0])):
        before = last.get(zone)
        if before is not None and since <= joined[before][2] + gap_s:
            joined[before] = (zone, joined[before][1], max(until, joined[before][2]))
        else:
            last[zone] = len(joined)
            joined.append((zone, since, until))
    return joined


def _blurred_stay(
    stay: tuple[int, float, float], start_s: float, end_s: float, errors: TrackerPlan, rng: np.random.Generator
) -> list[tuple[int, float, float]]:
    """A stay as a tracker reports it: late or early at both ends, interrupted, or without a piece."""
    zone, since, until = stay
    since, until = np.clip(np.array([since, until]) + rng.normal(0, errors.edge_s, 2), start_s, end_s).tolist()
    parts = [(since, until)]
    if rng.random() < errors.flicker:
        parts = _without(parts, float(rng.uniform(since, max(since, until))), float(rng.uniform(*MOMENT_S)))
    if rng.random() < errors.lost:
        gone_s = float(rng.uniform(*PIECE)) * max(0.0, until - since)
        parts = _without(parts, since + float(rng.uniform(0, max(0.0, until - since - gone_s))), gone_s)
    return [(zone, a, b) for a, b in parts if b > a]


def _without(parts: list[tuple[float, float]], since: float, gone_s: float) -> list[tuple[float, float]]:
    """Intervals without what lies in `gone_s` from `since`."""
    cut = [part for a, b in parts for part in ((a, min(b, since)), (max(a, since + gone_s), b))]
    return [(a, b) for a, b in cut if b > a]


def _blurred_crossing(
    crossing: tuple[int, float, bool], start_s: float, end_s: float, errors: TrackerPlan, rng: np.random.Generator
) -> list[tuple[int, float, bool]]:
    """A crossing as a tracker reports it: late or early, lost, or followed by one back and one again."""
    line, at_s, inwards = crossing
    at_s = float(np.clip(at_s + rng.normal(0, errors.edge_s), start_s, end_s))
    if rng.random() < errors.lost:
        return []
    if rng.random() >= errors.flicker:
        return [(line, at_s, inwards)]
    back_s, again_s = at_s + np.cumsum(rng.uniform(*MOMENT_S, 2))
    every = [(line, at_s, inwards), (line, float(back_s), not inwards), (line, float(again_s), inwards)]
    return every if again_s <= end_s else every[:1]
