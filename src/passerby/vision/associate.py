"""Sightings of all cameras to links and visits, online; nothing here knows of pictures, nor looks at a clock."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from passerby.reid.calibration import Calibration
from passerby.reid.evidence import Sides, chained, evidence, joined, nobody, side, weighed
from passerby.shop import THINNED_S, Link, Sighting, SightingKey, Visit
from passerby.types import Float64, Int64
from passerby.vision.transit import OVERLAP_S, Passages

WATERMARK_S = 5.0  # how long a late sighting is waited for
EVERY_S = 5.0  # from one look at the open window to the next
WINDOW_S = 900.0  # a link may be revised for so long after its later sighting began
SLACK_S = 2.0  # by which one person's sightings in two cameras may overlap: boxes come early and go late
HOPELESS = -5.0  # log odds under which a link is not looked at
IMPOSSIBLE = -12.0  # log odds by way and time that no looks outweigh
CERTAIN = 25.0  # log odds over which a link is as good as certain
UNLIKELY = 0.02  # nothing is learnt of links less probable than this
BROKEN_S = 4.0  # a track that goes on in the same camera after so long a time at most may only have broken;
STEP_M, SPEED_M_S, VIEW_M2 = 0.5, 0.8, 30.0  # it then goes on near by: on the floor, a camera seeing so much of it,
STEP, SPEED = 0.06, 0.12  # or in fractions of the picture
FAR = 6.0  # the most that place says against it, in log odds: feet are wrong at times
PART_M, PART = 0.6, 0.07  # a track that stays so near to a longer one is a part of the same person
ALIKE = 4.0  # where looks say at least so much for it, in log odds: companions stand as near
ROUNDS = 15  # of message passing
LAST_LOOKS = 5  # with which a recording ends
TRUST = 0.8  # of looks: a track may have been on two people in turn, of which a calibration knows nothing
LONGEST = 8.0  # sightings of a chain that count
MOST = 1.5  # by which a ratio of chains may exceed one of two sightings when nothing else is known
BLOCK = 64  # later sightings whose possible predecessors are found together
LATER = 0.7  # how much older a sighting is when these are found again
TELLING = 0.01  # by which a probability changes that is told again
FORGET_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Changes:
    """What has become known: the new revisions of links and of visits, and the later sightings of links taken back."""

    links: tuple[Link, ...] = ()
    visits: tuple[Visit, ...] = ()
    unlinked: tuple[SightingKey, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """What an associator remembers, for who draws other ways to link it: sightings (n,) in order of (start, key), as arrays.

    `start_s` and `end_s` are in seconds since 1970, `origin` and `target` as in `Passages`, `outside` says who was seen by a
    camera at a door, `crossed` who crossed one. Possible links (links,) go from row `earlier` to row `later`, with what
    `place` says, in log odds, where a track may only have broken. `follows` (n,) is the row that each one is linked to now, -1
    for none. `both` (cameras, cameras) are those in which one may be at once; `looked_s` is up to when all is known.
    """

    keys: tuple[SightingKey, ...]
    start_s: Float64
    end_s: Float64
    camera: Int64
    origin: Int64
    target: Int64
    outside: NDArray[np.bool_]
    crossed: NDArray[np.bool_]
    sides: Sides
    earlier: Int64
    later: Int64
    place: Float64
    follows: Int64
    both: NDArray[np.bool_]
    passages: Passages
    looked_s: float
    began_s: float


FIELDS = (
    *("start", "end", "camera", "origin", "target", "there", "followed", "left", "first", "last"),
    *("many_so_far", "many_from_here"),
)


class _Rows:
    """What is known of each sighting as arrays, a row each; the row of one that is forgotten is used again."""

    def __init__(self) -> None:
        self.row: dict[SightingKey, int] = {}
        self.key: list[SightingKey] = []
        self._free: list[int] = []
        self.start: Float64 = np.zeros(0)
        self.end: Float64 = np.zeros(0)
        self.camera: Int64 = np.zeros(0, np.int64)
        self.origin: Int64 = np.zeros(0, np.int64)  # how it ends and how it begins, see `Passages`
        self.target: Int64 = np.zeros(0, np.int64)
        self.there: NDArray[np.bool_] = np.zeros(0, bool)  # neither withdrawn nor a second track on somebody
        self.followed: NDArray[np.bool_] = np.zeros(0, bool)  # by a link that is not revised any more
        self.left: Float64 = np.zeros(0)  # the probability that it is not followed by one whose window has closed
        self.first: Float64 = np.zeros(
            (0, 4)
        )  # where it was seen first and last: time in seconds, x, y, and 1 for metres
        self.last: Float64 = np.zeros((0, 4))
        # looks: of itself, and means over its chain up to it and from it on, with the numbers of their sightings
        self.own = self.so_far = self.from_here = nobody(1)
        self.many_so_far: Float64 = np.zeros(0)
        self.many_from_here: Float64 = np.zeros(0)

    def put(self, key: SightingKey) -> int:
        """The row of a sighting, a new one where it has none."""
        if key in self.row:
            return self.row[key]
        if self._free:
            row = self._free.pop()
            self.key[row] = key
        else:
            row = len(self.key)
            self.key.append(key)
            if row == len(self.start):
                self._grow(max(256, 2 * row))
        self.row[key] = row
        self.followed[row], self.left[row] = False, 1.0
        return row

    def drop(self, key: SightingKey) -> None:
        """Forget a sighting."""
        row = self.row.pop(key)
        self.there[row] = False
        self._free.append(row)

    def set_length(self, length: int) -> None:
        """Make room for vectors of that length, once it is known."""
        if self.own.means.shape[1] != length:
            self.own, self.so_far, self.from_here = (_unknown(len(self.start), length) for _ in range(3))

    def _grow(self, size: int) -> None:
        for name in FIELDS:
            old = getattr(self, name)
            new = np.zeros((size, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
        for name in ("own", "so_far", "from_here"):
            sides = getattr(self, name)
            setattr(self, name, joined([sides, _unknown(size - len(sides), sides.means.shape[1])]))


class Associator:
    """Links the sightings of one site to visits, each link with its probability; revised while its window is open.

    `take` gives it a revision of a sighting, `advance` the time; what comes out does not depend on the order of arrival within
    the window. A sighting follows at most one other, and is followed by at most one. The odds of a link against a new
    person's coming are what appearance says (`reid.evidence`, against all that is known of the person so far) times what way
    and time say (`Passages`, learnt here). From the odds of all that compete follow the probabilities
    (`edge_marginals`); links from `threshold` on are kept, the likelier ones first.

    A visit ends where somebody goes out of a door, a line of `doors`. Who was seen by no camera but those at doors and crossed
    none has only passed by. `overlaps` are pairs of cameras in which one may be at once. A person not seen for
    `reentry_s` is forgotten. Time and memory follow from who is remembered.
    """

    def __init__(
        self,
        *,
        site: str,
        cameras: Sequence[str],
        calibration: Calibration,
        threshold: float,
        doors: Iterable[str] = (),
        overlaps: Iterable[tuple[str, str]] = (),
        reentry_s: float = 3 * 3600.0,
        window_s: float = WINDOW_S,
        watermark_s: float = WATERMARK_S,
    ) -> None:
        self.site, self.threshold, self._calibration = site, threshold, calibration
        self._number = {camera: number for number, camera in enumerate(cameras)}
        self._doors = frozenset(doors)
        self._door_cameras: set[str] = set()  # those that have seen somebody cross one
        self._reentry, self._window = timedelta(seconds=reentry_s), timedelta(seconds=window_s)
        self._watermark = timedelta(seconds=watermark_s)
        self._both = np.zeros((len(cameras), len(cameras)), bool)  # cameras in which one may be at once
        for one, other in overlaps:
            for a, b in ((one, other), (other, one)):
                self._both[self._number[a], self._number[b]] = True
        self._waiting: dict[SightingKey, list[Sighting]] = {}  # revisions of what is not yet looked at
        self._seen: dict[SightingKey, Sighting] = {}
        self._sides: dict[SightingKey, tuple[int, Sides]] = {}  # with the revision that they were made of
        self._parts: dict[SightingKey, tuple[int, dict[SightingKey, bool]]] = {}  # of whom each is a part, by revision
        self._rows = _Rows()
        self._open: dict[int, tuple[float, SightingKey]] = {}  # rows whose link may be revised
        self._found: dict[int, tuple[Int64, Float64]] = {}  # whom each of these may follow, and what their looks say
        self._due: dict[int, float] = {}  # when that is found anew
        self._links: dict[SightingKey, Link] = {}  # by the later sighting
        self._after: dict[SightingKey, SightingKey] = {}  # from the earlier to the later
        self._made_of: dict[
            tuple[int, str], tuple[int, int]
        ] = {}  # the links that what is known of a chain was made of
        self._changed: set[SightingKey] = set()  # sightings whose visits are to be told anew
        self._timers: list[tuple[float, SightingKey]] = []  # when a visit becomes final, or a person is forgotten
        self._passages = Passages(len(cameras))  # learnt of what is fixed,
        self._now = self._passages.copy()  # and of what is open, too
        self._told_links: dict[SightingKey, Link] = {}
        self._standing: set[SightingKey] = set()  # those told and not taken back
        self._told_visits: dict[str, Visit] = {}
        self._holder: dict[SightingKey, str] = {}  # the visit that was told to hold a sighting
        self._first: datetime | None = None
        self._looked: datetime | None = None
        self._forgot: datetime | None = None
        self.late = 0  # sightings that came after their window and were left out

    def take(self, sighting: Sighting) -> None:
        """Take in a revision of a sighting; one that is older than what is known, or came after its window, changes nothing."""
        known = self._seen.get(sighting.key)
        if known is not None and known.revision >= sighting.revision:
            return
        if known is None and self._looked is not None and sighting.end < self._looked - self._window:
            self.late += 1
            return
        self._waiting.setdefault(sighting.key, []).append(sighting)

    def advance(self, now: datetime) -> Changes:
        """What has become known by the time `now`; nothing where the last look was a moment ago."""
        until = now - self._watermark
        if self._looked is not None and (until - self._looked).total_seconds() < EVERY_S:
            return Changes()
        self._looked = until
        self._let_in(until)
        self._look(until)
        changes = self._changes(until)
        self._forget(until)
        return changes

    def finish(self) -> Changes:
        """The end of a recording: all is looked at for the last time, and every visit is final."""
        every = [*self._seen.values(), *(each for waiting in self._waiting.values() for each in waiting)]
        if not every:
            return Changes()
        until = max(sighting.end for sighting in every)
        self._let_in(until)
        for _ in range(LAST_LOOKS):  # what links teach of times changes links
            self._due.clear()
            self._look(until)
        self._changed.update(self._seen)
        return self._changes(until, final=True)

    def remembered(self, *, since_s: float = -math.inf, least: float = IMPOSSIBLE) -> Remembered:
        """All that is remembered and no second track on somebody, with the links to those that begin from `since_s` on.

        Left out are those whose way and time leave log odds under `least`.
        """
        rows = self._rows
        there = sorted(
            (rows.start[row], key, row) for key, row in rows.row.items() if rows.there[row] and key in self._seen
        )
        order = np.array([row for _, _, row in there], np.int64)
        earlier, later = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        origin, target, start, end = (getattr(rows, name)[order] for name in ("origin", "target", "start", "end"))
        log_new, log_end = self._now.log_new(), np.log(self._now.end(origin))
        for first in range(int(np.searchsorted(start, since_s)), len(order), BLOCK):
            block = np.arange(first, min(first + BLOCK, len(order)))
            before = np.arange(0, block[-1])
            before = before[end[before] > start[first] - self._reentry.total_seconds()]
            gap_s = start[block] - end[before, None]
            both = self._both[rows.camera[order[before]][:, None], rows.camera[order[block]]]
            possible = ((gap_s > -SLACK_S) | both) & (gap_s < self._reentry.total_seconds())
            possible &= before[:, None] < block
            at_once_s = np.where(both, OVERLAP_S, SLACK_S)
            odds = self._now.log_density(origin[before][:, None], target[block], gap_s, at_once_s=at_once_s)
            odds -= log_new[target[block]] + log_end[before][:, None]
            i, j = np.nonzero(possible & (odds > least))
            earlier.append(before[i])
            later.append(block[j])
        i, j = np.concatenate(earlier), np.concatenate(later)
        number = {key: place for place, (_, key, _) in enumerate(there)}
        links = (self._links.get(key) for _, key, _ in there)
        crossings = [any(crossing.line in self._doors for crossing in self._seen[key].crossings) for _, key, _ in there]
        return Remembered(
            tuple(key for _, key, _ in there),
            start,
            end,
            rows.camera[order],
            origin,
            target,
            np.array([key.camera in self._door_cameras for _, key, _ in there], bool),
            np.array(crossings, bool),
            rows.own.take(order),
            i,
            j,
            self._continuity(order[i], order[j]),
            np.array([number.get(link.earlier, -1) if link else -1 for link in links], np.int64),
            self._both,
            self._now.copy(),
            max([0.0 if self._looked is None else self._looked.timestamp(), *end.tolist()]),
            0.0 if self._first is None else self._first.timestamp(),
        )

    def _let_in(self, until: datetime) -> None:
        """Of each sighting, the newest revision that ends by `until` takes the place of what was known."""
        newest: list[Sighting] = []
        for key, waiting in list(self._waiting.items()):
            ready = [sighting for sighting in waiting if sighting.end <= until]
            if not ready:
                continue
            newest.append(max(ready, key=lambda sighting: sighting.revision))
            left = [s for s in waiting if s.end > until and s.revision > newest[-1].revision]
            if left:
                self._waiting[key] = left
            else:
                del self._waiting[key]
        fresh = {sighting.key for sighting in newest if sighting.key not in self._seen}
        for sighting in sorted(newest, key=lambda each: (each.start, each.key)):
            self._changed.add(sighting.key)
            if sighting.state == "withdrawn":
                self._withdraw(sighting.key)
            else:
                self._put(sighting)
        for sighting in newest:
            if sighting.state == "closed" or sighting.key in fresh:
                self._mark_parts(sighting.key)

    def _put(self, sighting: Sighting) -> None:
        key, rows = sighting.key, self._rows
        self._first = sighting.start if self._first is None else min(self._first, sighting.start)
        new = key not in rows.row
        self._seen[key] = sighting
        mine = self._side(sighting)
        rows.set_length(mine.means.shape[1])
        row = rows.put(key)
        rows.start[row], rows.end[row] = sighting.start.timestamp(), sighting.end.timestamp()
        rows.camera[row] = camera = self._number[key.camera]
        crossed = [crossing.inwards for crossing in sighting.crossings if crossing.line in self._doors]
        rows.target[row] = 2 * camera + bool(crossed and crossed[0])
        rows.origin[row] = 2 * camera + bool(crossed and not crossed[-1])
        rows.there[row] = True
        for place, point in ((rows.first, 0), (rows.last, -1)):
            place[row] = np.nan
            if len(sighting.path):
                seconds, x, y = sighting.path[point].tolist()
                place[row] = rows.start[row] + seconds, x, y, sighting.path_on == "floor"
        for sides in (rows.own, rows.so_far, rows.from_here):
            _set(sides, row, mine)
        rows.many_so_far[row] = rows.many_from_here[row] = 1.0
        for name in ("so_far", "from_here"):
            self._made_of.pop((row, name), None)
        if new:
            self._open[row] = (rows.start[row], key)
        if new or sighting.state != "open":
            self._due.pop(row, None)
        if crossed and key.camera not in self._door_cameras:
            self._door_cameras.add(key.camera)
            self._changed.update(self._seen)

    def _withdraw(self, key: SightingKey) -> None:
        if self._seen.pop(key, None) is None:
            return
        row = self._rows.row[key]
        self._rows.there[row] = False
        self._open.pop(row, None)
        self._unlink(key)
        if key in self._after:
            self._unlink(self._after[key])
        self._sides.pop(key, None)
        until = self._rows.end[row] + self._reentry.total_seconds() + 2 * self._window.total_seconds()
        heappush(self._timers, (until, key))  # its row is kept until nothing refers to it

    def _mark_parts(self, key: SightingKey) -> None:
        """Find out whether a sighting is a second track on somebody, or another one is on the same person as it."""
        if key not in self._seen:
            return
        rows, row = self._rows, self._rows.row[key]
        once = (rows.camera == rows.camera[row]) & (rows.start <= rows.end[row]) & (rows.end >= rows.start[row])
        others = [
            self._seen[rows.key[other]]
            for other in np.flatnonzero(once[: len(rows.key)]).tolist()
            if self._knows(other)
        ]
        for short in others:
            if short.key == key or self._within(short, self._seen[key]):
                part = any(self._within(short, whole) and self._part_of(short, whole) for whole in others)
                mine = rows.row[short.key]
                if rows.there[mine] == part:
                    rows.there[mine] = not part
                    self._changed.add(short.key)
                    if part:
                        self._unlink(short.key)
                        if short.key in self._after:
                            self._unlink(self._after[short.key])

    def _knows(self, row: int) -> bool:
        key = self._rows.key[row]
        return key in self._seen and self._rows.row[key] == row

    @staticmethod
    def _within(short: Sighting, whole: Sighting) -> bool:
        return (
            short.key.session == whole.key.session
            and whole.start <= short.start
            and short.end <= whole.end
            and whole.end - whole.start > short.end - short.start
        )

    def _part_of(self, short: Sighting, whole: Sighting) -> bool:
        """`_is_part`, found once: how a longer track goes on changes nothing."""
        revision, known = self._parts.get(short.key, (0, {}))
        if revision != short.revision:
            known = {}
            self._parts[short.key] = short.revision, known
        if whole.key not in known:
            known[whole.key] = self._is_part(short, whole)
        return known[whole.key]

    def _is_part(self, short: Sighting, whole: Sighting) -> bool:
        """Whether a sighting is all the time near to a longer one of the same camera, and alike."""
        if not len(short.path) or not len(whole.path) or short.path_on != whole.path_on:
            return False
        seconds = short.path[:, 0] + (short.start - whole.start).total_seconds()
        there = np.stack([np.interp(seconds, whole.path[:, 0], whole.path[:, axis]) for axis in (1, 2)], axis=1)
        off = np.linalg.norm(short.path[:, 1:] - there, axis=1)
        if float(np.median(off)) > (PART_M if short.path_on == "floor" else PART):
            return False
        return bool(evidence(self._calibration, self._side(short), self._side(whole))[0, 0] >= ALIKE)

    def _side(self, sighting: Sighting) -> Sides:
        known = self._sides.get(sighting.key)
        if known is not None and known[0] == sighting.revision:
            return known[1]
        if len(sighting.prototypes):
            made = side(sighting.prototypes, sighting.quality, sighting.pictures)
        else:  # nothing is known of its looks
            return _unknown(1, self._rows.own.means.shape[1])
        self._sides[sighting.key] = (sighting.revision, made)
        return made

    def _look(self, until: datetime) -> None:
        """Link what is open anew, and learn times from it."""
        columns = np.array([row for _, _, row in sorted((*at, row) for row, at in self._open.items())], np.int64)
        now_s, rows = until.timestamp(), self._rows
        columns = columns[rows.there[columns]]
        self._make_chains(columns)
        self._find(columns, now_s)
        found = [self._found[row] for row in columns.tolist()]
        column = np.repeat(np.arange(len(columns)), [len(each) for each, _ in found])
        earlier = np.concatenate([np.zeros(0, np.int64), *(each for each, _ in found)])
        looks = np.concatenate([np.zeros(0), *(each for _, each in found)])
        later = columns[column]
        odds = looks + self._log_odds(earlier, later, now_s) + self._continuity(earlier, later)
        kept = odds > HOPELESS
        earlier, later, column, odds = earlier[kept], later[kept], column[kept], odds[kept]
        probability = edge_marginals(np.exp(np.minimum(odds, CERTAIN)), earlier, column)
        self._choose(columns, earlier, column, probability)
        closing = rows.start[columns] < now_s - self._window.total_seconds()
        assert self._first is not None or not len(columns)
        lasted_s = 0.0 if self._first is None else (until - self._first).total_seconds()
        if closing.any():
            self._make_chains(columns[closing])
            mine = closing[column]
            self._learn(self._passages, columns[closing], earlier[mine], later[mine], probability[mine])
            np.subtract.at(rows.left, earlier[mine], probability[mine])
            np.maximum(rows.left, 0.0, out=rows.left)
            for row in columns[closing].tolist():
                link = self._links.get(rows.key[row])
                if link is not None:
                    rows.followed[rows.row[link.earlier]] = True
                for kept_of in (self._open, self._found, self._due):
                    kept_of.pop(row, None)
            earlier, later, probability = earlier[~mine], later[~mine], probability[~mine]
        before, self._now = self._now, self._passages.copy()
        self._learn(self._now, columns[~closing], earlier, later, probability)
        tails = np.flatnonzero(rows.there & ~rows.followed)
        gone = rows.left[tails] - np.bincount(earlier, probability, minlength=len(rows.start))[tails]
        origin = rows.origin[tails]
        gone = np.maximum(gone, 0) * np.minimum(1, before.end(origin) / before.unseen(origin, now_s - rows.end[tails]))
        np.add.at(self._now.ended, origin, gone)
        self._now.lasted_s = self._passages.lasted_s = lasted_s
        self._now.settle()

    def _find(self, columns: Int64, now_s: float) -> None:
        """Find whom each of the later sightings `columns` may follow, where that is due: soon at first, then more rarely."""
        rows = self._rows
        due = columns[[now_s >= self._due.get(row, 0.0) for row in columns.tolist()]] if len(columns) else columns
        tails = np.flatnonzero(rows.there & ~rows.followed)
        for first in range(0, len(due), BLOCK):
            block = due[first : first + BLOCK]
            least = HOPELESS - MOST * max(curve.upper for _, curve in self._calibration.curves)
            odds = self._log_odds(tails[:, None], block[None, :], now_s)
            i, j = np.nonzero(odds > least)
            earlier, later = tails[i], block[j]
            one, other = rows.so_far, rows.from_here
            similarity = (one.means[tails] @ other.means[block].T)[i, j]
            looks = weighed(
                self._calibration,
                similarity,
                pictures=(one.pictures[earlier], other.pictures[later]),
                quality=np.minimum(one.quality[earlier], other.quality[later]),
            )
            looks = TRUST * chained(looks, rows.many_so_far[earlier], rows.many_from_here[later])
            kept = odds[i, j] + looks > HOPELESS - 2
            earlier, looks, j = earlier[kept], looks[kept], j[kept]
            for number, row in enumerate(block.tolist()):
                mine = j == number
                self._found[row] = earlier[mine], looks[mine]
                self._due[row] = now_s + max(EVERY_S, LATER * (now_s - rows.start[row]))

    def _log_odds(self, earlier: Int64, later: Int64, now_s: float) -> Float64:
        """The log odds of each link, by way and time, against the later sighting's being somebody new; broadcasts."""
        rows = self._rows
        gap_s = rows.start[later] - rows.end[earlier]
        both = self._both[rows.camera[earlier], rows.camera[later]]
        possible = ((gap_s > -SLACK_S) | both) & (gap_s < self._reentry.total_seconds())
        possible &= rows.there[earlier] & ~rows.followed[earlier] & (earlier != later)
        possible &= (rows.start[earlier] < rows.start[later]) | (
            (rows.start[earlier] == rows.start[later]) & (earlier < later)
        )
        origin, target = rows.origin[earlier], rows.target[later]
        density = self._now.log_density(origin, target, gap_s, at_once_s=np.where(both, OVERLAP_S, SLACK_S))
        unseen = self._now.unseen(rows.origin, now_s - rows.end)
        odds = density - self._now.log_new()[target] + np.log(np.maximum(rows.left, 1e-9) / unseen)[earlier]
        result: Float64 = np.where(possible, odds, -np.inf)
        return result

    def _continuity(self, earlier: Int64, later: Int64) -> Float64:
        """What place says where a track may only have broken: log odds of each link, 0 for others.

        In one camera, within `BROKEN_S`, somebody is near to where they were last seen, and a new person anywhere.
        """
        rows, odds = self._rows, np.zeros(len(earlier))
        near = np.flatnonzero(
            (rows.camera[earlier] == rows.camera[later])
            & (rows.start[later] - rows.end[earlier] < BROKEN_S + THINNED_S)
        )
        last, first = rows.last[earlier[near]], rows.first[later[near]]
        gap = np.abs(first[:, 0] - last[:, 0])  # NaN where a place is not known
        on_floor = first[:, 3] * last[:, 3] > 0
        off = np.hypot(first[:, 1] - last[:, 1], first[:, 2] - last[:, 2])
        spread = np.where(on_floor, STEP_M + SPEED_M_S * gap, STEP + SPEED * gap)
        area = np.where(on_floor, VIEW_M2, 1.0)
        place = np.log(area / (2 * math.pi * spread**2)) - off**2 / (2 * spread**2)
        odds[near] = np.where(gap < BROKEN_S, np.maximum(place, -FAR), 0.0)  # NaN is under nothing
        return odds

    def _learn(self, passages: Passages, columns: Int64, earlier: Int64, later: Int64, probability: Float64) -> None:
        """Teach `passages` how the later sightings `columns` came, by these links (n,)."""
        rows, sure = self._rows, probability > UNLIKELY
        i, j = earlier[sure], later[sure]
        passages.learn(rows.origin[i], rows.target[j], rows.start[j] - rows.end[i], probability[sure])
        followed = np.bincount(later, probability, minlength=len(rows.start))[columns]
        np.add.at(passages.new, rows.target[columns], 1 - np.minimum(1, followed))

    def _choose(self, columns: Int64, earlier: Int64, column: Int64, probability: Float64) -> None:
        """Keep the links of at least `threshold`, none that two of a kind claim; the likelier ones first."""
        rows = self._rows
        likely = np.flatnonzero(probability >= self.threshold)
        chosen: dict[int, int] = {}
        taken: set[int] = set()
        for edge in likely[np.argsort(-probability[likely], kind="stable")].tolist():
            if int(column[edge]) not in chosen and int(earlier[edge]) not in taken:
                chosen[int(column[edge])] = edge
                taken.add(int(earlier[edge]))
        ends = np.searchsorted(column, np.arange(len(columns) + 1)).tolist()
        wanted: list[tuple[SightingKey, Link]] = []
        for number, row in enumerate(columns.tolist()):
            key, chosen_edge = rows.key[row], chosen.get(number)
            known = self._links.get(key)
            if chosen_edge is None:
                if known is not None:
                    self._unlink(key)
                continue
            first = rows.key[int(earlier[chosen_edge])]
            if known is not None and known.earlier == first:
                if abs(known.probability - probability[chosen_edge]) < TELLING:
                    continue
            elif known is not None:
                self._unlink(key)
            mine = slice(ends[number], ends[number + 1])
            wanted.append((key, self._link(key, chosen_edge - ends[number], earlier[mine], probability[mine])))
        for key, link in wanted:  # only now is every other link to the same earlier one gone
            self._links[key] = link
            self._after[link.earlier] = key
            self._changed.update((key, link.earlier))

    def _link(self, later: SightingKey, best: int, earlier: Int64, probability: Float64) -> Link:
        first = min(1.0, float(probability[best]))
        others = np.where(np.arange(len(probability)) == best, 0.0, probability)
        second = int(others.argmax())
        likely = round(min(float(others[second]), first, 1.0 - first), 6)
        return Link(
            self._rows.key[int(earlier[best])],
            later,
            1,
            round(first, 6),
            self._rows.key[int(earlier[second])] if likely > 0 else None,
            likely,
        )

    def _unlink(self, later: SightingKey) -> None:
        link = self._links.pop(later, None)
        if link is not None:
            self._changed.update((later, link.earlier))
            if self._after.get(link.earlier) == later:
                del self._after[link.earlier]

    def _make_chains(self, columns: Int64) -> None:
        """Put together what is known of each open sighting's person up to it and from it on, where links have changed."""
        rows, stamps = self._rows, self._made_of
        order = columns.tolist()
        for row in order:
            link = self._links.get(rows.key[row])
            before = rows.row[link.earlier] if link is not None else -1
            self._combine(rows.so_far, "so_far", row, before, stamps)
        for row in reversed(order):
            later = self._after.get(rows.key[row])
            self._combine(rows.from_here, "from_here", row, rows.row[later] if later is not None else -1, stamps)

    def _combine(
        self, sides: Sides, name: str, row: int, other: int, stamps: dict[tuple[int, str], tuple[int, int]]
    ) -> None:
        """Make what is known of a chain at `row` of the sighting itself and of the chain at row `other`, -1 for none."""
        stamp = (other, hash(stamps.get((other, name), 0)) if other >= 0 else 0)
        if stamps.get((row, name)) == stamp:
            return
        stamps[row, name] = stamp
        own, many = self._rows.own, self._rows.many_so_far if name == "so_far" else self._rows.many_from_here
        mean, pictures, quality, number = own.means[row], own.pictures[row], own.quality[row], 1.0
        if other >= 0 and sides.quality[other] > 0:
            if quality > 0:
                number = min(many[other], LONGEST) + 1.0
                mean = mean / number + sides.means[other] * (1 - 1 / number)
                pictures = pictures / number + sides.pictures[other] * (1 - 1 / number)
                quality = max(quality, sides.quality[other])
            else:
                mean, pictures, quality, number = (
                    sides.means[other],
                    sides.pictures[other],
                    sides.quality[other],
                    many[other],
                )
        sides.means[row], sides.pictures[row], sides.quality[row], many[row] = mean, pictures, quality, number

    def _changes(self, until: datetime, *, final: bool = False) -> Changes:
        """The new revisions of links and visits since they were last told."""
        while self._timers and self._timers[0][0] < until.timestamp():
            _, key = heappop(self._timers)
            if key in self._seen:
                self._changed.add(key)
            elif key in self._rows.row:
                self._rows.drop(key)
        links, unlinked = [], []
        for key in sorted(self._changed):
            link, known = self._links.get(key), self._told_links.get(key)
            if link is None:
                if key in self._standing:
                    self._standing.discard(key)
                    unlinked.append(key)
                continue
            if known is not None:
                link = replace(link, revision=known.revision)
                if link == known and key in self._standing:
                    continue
                link = replace(link, revision=known.revision + 1)
            self._told_links[key] = link
            self._standing.add(key)
            links.append(link)
        return Changes(tuple(links), self._changed_visits(until, final=final), tuple(unlinked))

    def _changed_visits(self, until: datetime, *, final: bool) -> tuple[Visit, ...]:
        touched = {self._holder[key] for key in self._changed if key in self._holder}
        there: dict[str, Visit] = {}
        for chain in self._chains_of(self._changed):
            touched.update(self._holder[sighting.key] for sighting in chain if sighting.key in self._holder)
            for visit in self._visits(chain, until, final=final):
                there[visit.name] = visit
        holder = {key: visit.name for visit in there.values() for key in visit.sightings}
        for name in touched:
            told = self._told_visits.get(name)
            if told is None or name in there or not told.sightings or told.final:
                continue
            into = holder.get(told.sightings[0])
            gone = replace(told, sightings=(), split_from=None, final=final, merged_into=into, withdrawn=into is None)
            there[name] = gone  # absorbed; or withdrawn: its sightings were, or it was a passer-by's
        self._changed.clear()
        visits = []
        for name in sorted(there):
            visit, told_visit = there[name], self._told_visits.get(name)
            if told_visit is not None:
                if told_visit.merged_into is not None and visit.merged_into is None:
                    visit = replace(visit, split_from=told_visit.merged_into)
                elif visit.merged_into is None:
                    visit = replace(visit, split_from=told_visit.split_from)
                visit = replace(visit, revision=told_visit.revision)
                if visit == told_visit:
                    continue
                visit = replace(visit, revision=told_visit.revision + 1)
            self._told_visits[name] = visit
            self._holder.update(dict.fromkeys(visit.sightings, name))
            visits.append(visit)
        return tuple(visits)

    def _chains_of(self, keys: Iterable[SightingKey]) -> list[list[Sighting]]:
        """The chains of linked sightings that hold some of `keys`, each in order."""
        heads = set()
        for key in keys:
            if key in self._seen and self._rows.there[self._rows.row[key]]:
                while key in self._links:
                    key = self._links[key].earlier
                heads.add(key)
        chains = []
        for head in sorted(heads):
            chain, at = [], head
            while True:
                chain.append(self._seen[at])
                if at not in self._after:
                    break
                at = self._after[at]
            chains.append(chain)
        return chains

    def _visits(self, chain: list[Sighting], until: datetime, *, final: bool) -> list[Visit]:
        """A person's visits: the chain, cut after each sighting in which they went out of a door."""
        parts: list[list[Sighting]] = [[]]
        for sighting in chain:
            parts[-1].append(sighting)
            doors = [crossing for crossing in sighting.crossings if crossing.line in self._doors]
            if doors and not doors[-1].inwards:
                parts.append([])
        visits, person = [], _name(chain[0].key)
        for part in parts:
            if not part or self._passed_by(part):
                continue
            start, end = part[0].start, max(sighting.end for sighting in part)
            over = part is not parts[-1] and end < until - self._window
            over |= end < until - self._reentry
            visits.append(
                Visit(
                    self.site,
                    _name(part[0].key),
                    1,
                    tuple(sighting.key for sighting in part),
                    start,
                    end,
                    person=person,
                    final=final or over,
                )
            )
        last = max(sighting.end for sighting in chain).timestamp()
        reentry, window = self._reentry.total_seconds(), self._window.total_seconds()
        for after_s in (window, reentry, reentry + window):
            if last + after_s > until.timestamp():
                heappush(self._timers, (last + after_s, chain[-1].key))
                break
        return visits

    def _passed_by(self, part: Sequence[Sighting]) -> bool:
        """Whether somebody was seen by no camera but those at doors, and crossed none."""
        return all(
            sighting.key.camera in self._door_cameras
            and not any(crossing.line in self._doors for crossing in sighting.crossings)
            for sighting in part
        )

    def _forget(self, until: datetime) -> None:
        """Drop people who have not been seen for longer than they are known again."""
        limit = until - self._reentry - self._window
        if self._forgot is not None and (until - self._forgot).total_seconds() < FORGET_EVERY_S:
            return
        self._forgot, rows = until, self._rows
        old = [
            rows.key[row]
            for row in np.flatnonzero(rows.end[: len(rows.key)] < limit.timestamp())
            if self._knows(int(row))
        ]
        parts = [key for key in old if not rows.there[rows.row[key]]]
        chains = [*self._chains_of(old), *([self._seen[key]] for key in parts)]
        for chain in chains:
            if all(s.state == "closed" and s.end < limit for s in chain):
                tail = rows.row[chain[-1].key]
                if rows.there[tail]:
                    self._passages.ended[rows.origin[tail]] += rows.left[tail]
                for sighting in chain:
                    key, row = sighting.key, rows.row[sighting.key]
                    for kept in (
                        self._seen,
                        self._sides,
                        self._parts,
                        self._links,
                        self._told_links,
                        self._after,
                        self._holder,
                    ):
                        kept.pop(key, None)
                    self._standing.discard(key)
                    for of_row in (self._open, self._found, self._due):
                        of_row.pop(row, None)
                    for name in ("so_far", "from_here"):
                        self._made_of.pop((row, name), None)
                    rows.drop(key)
                    self._told_visits.pop(_name(key), None)


def edge_marginals(weights: Float64, earlier: Int64, later: Int64, *, rounds: int = ROUNDS) -> Float64:
    """`matching_marginals` of links (n,) from `earlier` to `later`, with odds `weights`, all others being impossible."""
    if not len(weights):
        return weights
    _, i = np.unique(earlier, return_inverse=True)
    _, j = np.unique(later, return_inverse=True)
    back = np.ones_like(weights)  # from the later to the earlier
    for _ in range(rounds):
        offered = weights * back
        forth = weights / (1 + np.maximum(np.bincount(i, offered)[i] - offered, 0))
        back = 1 / (1 + np.maximum(np.bincount(j, forth)[j] - forth, 0))
    offered = weights * back
    result: Float64 = offered / (1 + np.bincount(i, offered)[i])
    return result


def matching_marginals(weights: Float64, *, rounds: int = ROUNDS) -> Float64:
    """The probability of each link (earlier, later), where each side takes part in one link or in none.

    `weights` (earlier, later) are the odds of a link against none, from 0. By belief propagation, which is exact where links
    do not compete in circles: Williams and Lau, "Approximate evaluation of marginal association probabilities with belief
    propagation", IEEE Transactions on Aerospace and Electronic Systems, 2014.

    >>> matching_marginals(np.array([[3.0], [1.0]])).round(2).tolist()
    [[0.6], [0.2]]
    """
    i, j = np.nonzero(weights)
    result = np.zeros_like(weights)
    result[i, j] = edge_marginals(weights[i, j], i, j, rounds=rounds)
    return result


def _name(key: SightingKey) -> str:
    return hashlib.sha256("\x00".join(map(str, key)).encode()).hexdigest()[:12]


def _unknown(rows: int, length: int) -> Sides:
    """Sides of which nothing is known."""
    return Sides(np.zeros((rows, length), np.float32), np.ones(rows), np.zeros(rows, np.float32))


def _set(sides: Sides, row: int, one: Sides) -> None:
    sides.means[row], sides.pictures[row], sides.quality[row] = one.means[0], one.pictures[0], one.quality[0]
