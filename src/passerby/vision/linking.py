"""Which sighting follows which: everything known at a time looked at together, each link with its probability.

`vision.associate` keeps two of these: one of what is known now, one of what can no longer change.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from passerby.reid.calibration import Calibration
from passerby.reid.evidence import Sides, chained, evidence, joined, nobody, side, weighed
from passerby.shop import THINNED_S, Link, Sighting, SightingKey
from passerby.types import Float32, Float64, Int64
from passerby.vision.snapshot import Arrays, Json, Vectors, key_of, link_entry, link_of
from passerby.vision.transit import LEARNT, OVERLAP_S, Passages

EVERY_S = 5.0  # from one look at what is known to the next
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
ROUNDED, ROUNDED_ODDS = 1e-6, 1e-3  # by which numbers, and log odds, may be off where bounds are compared
ALIKE = 4.0  # where looks say at least so much for it, in log odds: companions stand as near
ALIKE_ELSEWHERE = 5.0  # the same of pairs by which clocks are judged, of whom place says nothing
ROUNDS = 15  # of message passing, at the most; fewer where messages change by less than a part
STILL = 1e-3
MOMENT_S = 1e-6  # times that differ by less are equal
TRUST = 0.8  # of looks: a track may have been on two people in turn, of which a calibration knows nothing
LONGEST = 8.0  # sightings of a chain that count
WOVEN = 3.0  # what looks must say for two chains that run side by side being one person
CONTRARY = 4.0  # by which a chain may say more for a link than each of the two sightings that it joins
LOOK_ALIKES = 5000.0  # pairs of different people of whom one pair looks alike, before anything is known
COMPARED = (2.0, 8.0)  # sightings of a chain at which its looks are: of those who stay all day not over and over
MET = 16  # sightings whose looks are compared with those of people elsewhere, at each look at everything
LEVELS = np.arange(0.0, 24.0, 0.5)  # of what looks say of people who are certainly different
TORN = 2.5  # deviations below the median: a track whose looks differ so much among themselves may be of two people
TORN_BY_CHANCE = 0.0062  # the part of others that do
MANY_TRACKS = 50  # before it is known how much a track's looks differ
ELSEWHERE = 0.1  # the probability that a link of a track of two people is of whom it holds for less time
BLOCK = 64  # later sightings whose possible predecessors are found together
OFTEN_S = 60.0  # older ones are looked at anew with everything
BEST = 2000  # steps of the cosine
MOST = 24  # possible predecessors that are kept of each, the likeliest ones
NEAREST = 64  # of which so many are looked at closely
RECENT_S = 900.0  # who has not been seen for longer is looked for with everything alone
RIVAL = 0.02  # the least probability with which one competes
LATER = 2.0  # how much older a sighting is when these are found again
TELLING = 0.01  # by which a probability changes that is told again
SETTLED = (-2, 0, 0)  # what a chain was made of that is settled
FIELDS = (
    *("start", "end", "camera", "origin", "target", "there", "followed", "left", "first", "last", "born", "open"),
    *("many_so_far", "many_from_here", "sound"),
)


class Rows:
    """What is known of each sighting as arrays, a row each; the row of one that is forgotten is used again."""

    def __init__(self) -> None:
        self.row: dict[SightingKey, int] = {}
        self.key: list[SightingKey] = []
        self.free: list[int] = []
        self.births = 0
        self.start: Float64 = np.zeros(0)
        self.end: Float64 = np.zeros(0)
        self.camera: Int64 = np.zeros(0, np.int64)
        self.origin: Int64 = np.zeros(0, np.int64)  # how it ends and how it begins, see `Passages`
        self.target: Int64 = np.zeros(0, np.int64)
        self.there: NDArray[np.bool_] = np.zeros(0, bool)  # neither withdrawn nor a second track on somebody
        self.followed: NDArray[np.bool_] = np.zeros(0, bool)  # by a link that is not revised any more
        self.open: NDArray[np.bool_] = np.zeros(0, bool)  # its own link may be revised
        self.left: Float64 = np.zeros(0)  # the probability that none of those that are settled follows it
        # where it was seen first and last: time in seconds, x, y, and 1 for metres
        self.first: Float64 = np.zeros((0, 4))
        self.last: Float64 = np.zeros((0, 4))
        self.born: Int64 = np.zeros(0, np.int64)  # rises from each sighting to the next that gets a row
        # looks: of itself, and means over its chain up to it and from it on, with the numbers of their sightings
        self.own = self.so_far = self.from_here = nobody(1)
        self.many_so_far: Float64 = np.zeros(0)
        self.many_from_here: Float64 = np.zeros(0)
        self.sound: Float64 = np.ones(
            0
        )  # the probability that its links are not those of somebody else who is in its track

    def put(self, key: SightingKey) -> int:
        """The row of a sighting, a new one where it has none."""
        if key in self.row:
            return self.row[key]
        if self.free:
            row = self.free.pop()
            self.key[row] = key
        else:
            row = len(self.key)
            self.key.append(key)
            if row == len(self.start):
                self.grow(max(256, 2 * row))
        self.row[key] = row
        self.births += 1
        self.followed[row], self.left[row], self.born[row], self.open[row] = False, 1.0, self.births, True
        return row

    def drop(self, key: SightingKey) -> None:
        """Forget a sighting."""
        row = self.row.pop(key)
        self.there[row], self.born[row] = False, self.births + 1  # nobody who was found before is meant any more
        self.free.append(row)

    def set_length(self, length: int) -> None:
        """Make room for vectors of that length, once it is known."""
        if self.own.means.shape[1] != length:
            self.own, self.so_far, self.from_here = (unknown(len(self.start), length) for _ in range(3))

    def grow(self, size: int) -> None:
        """Make room for so many rows."""
        for name in FIELDS:
            old = getattr(self, name)
            new = np.zeros((size, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
        for name in ("own", "so_far", "from_here"):
            sides = getattr(self, name)
            setattr(self, name, joined([sides, unknown(size - len(sides), sides.means.shape[1])]))


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """What is remembered, for who draws other ways to link it: sightings (n,) in order of (start, key), as arrays.

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


class Found:
    """Whom each sighting may follow, a row each: up to `MOST` other rows, and what looks say of each of these.

    `many` (rows,) says how many they are, -1 where nobody was looked for. `offered` and `likely` are of the last look: the
    message to each, and whether it may well be the one. A row of what came after `births` others is not meant: it has been
    used again. Whom each may follow is found anew when that is `due`; `narrow` are those found among who was seen of late
    alone.
    """

    def __init__(self) -> None:
        self.many: Int64 = np.zeros(0, np.int64)
        self.births: Int64 = np.zeros(0, np.int64)
        self.earlier: Int64 = np.zeros((0, MOST), np.int64)
        self.looks: Float64 = np.zeros((0, MOST))
        self.offered: Float64 = np.zeros((0, MOST))
        self.likely: NDArray[np.bool_] = np.zeros((0, MOST), bool)
        self.due: Float64 = np.zeros(0)
        self.narrow: NDArray[np.bool_] = np.zeros(0, bool)

    def grow(self, more: int) -> None:
        """Make room for so many more rows."""
        for name, empty in (("many", -1), ("due", -math.inf), ("births", 0), ("narrow", False)):
            setattr(self, name, np.pad(getattr(self, name), (0, more), constant_values=empty))
        for name in ("earlier", "looks", "offered", "likely"):
            setattr(self, name, np.pad(getattr(self, name), ((0, more), (0, 0))))

    def there(self, rows: Int64) -> NDArray[np.bool_]:
        """Which places of those rows hold anybody: (n, MOST)."""
        result: NDArray[np.bool_] = np.arange(MOST) < self.many[rows, None]
        return result

    def meant(self, rows: Int64, born: Int64) -> NDArray[np.bool_]:
        """Which of them hold who is still remembered."""
        result: NDArray[np.bool_] = self.there(rows) & (born[self.earlier[rows]] <= self.births[rows, None])
        return result


class Agreement:
    """How much the looks of a track agree among themselves, learnt of all tracks: few of them are of two people."""

    def __init__(self) -> None:
        self.reached: Float64 = np.zeros(2000)  # tracks by the least cosine between two prototypes, from -1 up to each
        self._bound: tuple[int, float] | None = None  # up to which bin they differ much, and what part does

    @staticmethod
    def least(sighting: Sighting) -> float | None:
        """The least cosine between two prototypes; None where there are none to compare."""
        if len(sighting.prototypes) < 2:
            return None
        return float((sighting.prototypes @ sighting.prototypes.T).min())

    def learn(self, least: float) -> None:
        """Take in a track that has ended."""
        self.reached[self._bin(least) :] += 1
        self._bound = None

    def torn(self, least: float) -> float:
        """The probability that a track is of two people: of those whose looks differ so much, the part that chance leaves."""
        if self._bound is None:
            self._bound = self._found_bound()
        bound, share = self._bound
        return 0.0 if self._bin(least) > bound else max(0.0, 1.0 - TORN_BY_CHANCE / max(share, TORN_BY_CHANCE))

    def _found_bound(self) -> tuple[int, float]:
        total = float(self.reached[-1])
        if total < MANY_TRACKS:
            return -1, 0.0
        quarter, half = (bisect_left(self.reached, part, key=lambda many: many / total) for part in (0.25, 0.5))
        bound = round(half - TORN * max(1.0, (half - quarter) / 0.6745))
        return bound, float(self.reached[bound] / total) if bound >= 0 else 0.0

    def _bin(self, least: float) -> int:
        return int(max(0.0, min((least + 1) * 1000, len(self.reached) - 1.0)))


class Linking:
    """The sightings of one site and the links between them, looked at anew each time that `look` is called.

    Each follows at most one other, and is followed by at most one. The odds of a link against a new person's coming are what
    appearance says (`reid.evidence`, against all that is known of the person so far) times what way and time say
    (`Passages`, learnt here). From the odds of all that compete follow the probabilities (`edge_marginals`); links from
    `threshold` on are kept, the likelier ones first. `both` (cameras, cameras) are those in which one may be at once.
    `sides` keeps what was made of sightings, for another one that will take them in. `sure` is the most probable that a link
    can be: some are wrong for causes that nothing here tells.

    The same calls give the same links. `changed` are the sightings whose links have changed since it was last cleared.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        *,
        calibration: Calibration,
        threshold: float,
        doors: frozenset[str],
        both: NDArray[np.bool_],
        reentry_s: float,
        sides: dict[SightingKey, tuple[int, Sides]],
        sure: float = 1.0,
    ) -> None:
        self.threshold, self._calibration, self._doors = threshold, calibration, doors
        self._number = {camera: number for number, camera in enumerate(cameras)}
        self._both, self._reentry_s, self._sides, self._sure = both, reentry_s, sides, sure
        cosines = np.linspace(-1, 1, BEST + 1)
        best = np.max([curve.at(cosines) for _, curve in calibration.curves], axis=0)
        self._best: Float32 = (TRUST * np.append(best[1:], best[-1])).astype(np.float32)  # the most of each step
        self._step = float(np.diff(self._best).max())  # from one to the next
        self._unseen: Float64 = np.zeros(0)
        self.rows = Rows()
        self.links: dict[SightingKey, Link] = {}  # by the later sighting
        self.after: dict[SightingKey, SightingKey] = {}  # from the earlier to the later
        self.parts: set[SightingKey] = set()  # second tracks on somebody
        self.changed: set[SightingKey] = set()
        self.door_cameras: set[str] = set()  # those that have seen somebody cross a door
        self.open: dict[SightingKey, Sighting] = {}  # whose link may be revised,
        self.settled: set[SightingKey] = set()  # and whose may not
        self._order: list[tuple[float, SightingKey, int]] = []  # of these: start, key, row
        self._here: list[dict[int, None]] = [{} for _ in cameras]  # the rows of these in each camera
        self._is_part: dict[SightingKey, tuple[int, dict[SightingKey, bool]]] = {}  # of whom, by revision
        self._found = Found()
        self._claimed: Float64 = np.zeros(0)  # what all offer each that may be followed
        self._before: Int64 = np.zeros(0, np.int64)  # the row of whom each follows, -1 for nobody who has a row,
        self._held: Float64 = np.zeros(0)  # and that link's probability, -1 for none
        self._boxes: dict[SightingKey, tuple[int, list[float]]] = {}  # of paths, by revision
        self._fresh: dict[SightingKey, None] = {}  # new, or changed since the last look
        self._again: list[tuple[float, SightingKey]] = []  # when to look at one anew
        self._linked: dict[SightingKey, None] = {}  # whose chains are to be made anew
        self._made_of: dict[tuple[int, str], tuple[int, int, int]] = {}  # the links that a chain was last made of
        self._revision: dict[int, int] = {}  # of each row
        self.passages = Passages(len(cameras))  # learnt of what is settled,
        self.now = self.passages.copy()  # and of what is open, too
        self.agreement = Agreement()
        self.different: Float64 = np.zeros(
            len(LEVELS)
        )  # pairs of people who are certainly different, by what looks say
        self._met_s = -math.inf  # those that ended by then are in it
        self.first_s: float | None = None
        none = np.zeros(0, np.int64)
        self._seen_edges: tuple[Int64, Int64, Int64, Float64] = (none, none, none, np.zeros(0))

    def put(self, sighting: Sighting) -> None:
        """Take in a sighting, or a newer revision of it; one that is settled stays as it is."""
        key, rows = sighting.key, self.rows
        new = key not in self.open
        if key in self.settled:
            return
        start, end = sighting.start.timestamp(), sighting.end.timestamp()
        self.first_s = start if self.first_s is None else min(self.first_s, start)
        row = rows.put(key)
        if not new and rows.start[row] != start:
            self._order.remove((float(rows.start[row]), key, row))
        if new or rows.start[row] != start:
            insort(self._order, (start, key, row))
        self._make_room()
        if new:
            self._claimed[row], self._before[row], self._held[row] = 0.0, -1, -1.0
        before = self.open.get(key)
        self.open[key] = sighting
        if before is not None and _only_lasts(before, sighting):
            rows.end[row] = end
            if len(sighting.path):
                seconds, x, y = sighting.path[-1].tolist()
                rows.last[row] = start + seconds, x, y, sighting.path_on == "floor"
            return
        mine = self._side(sighting)
        rows.set_length(mine.means.shape[1])
        rows.start[row], rows.end[row] = start, end
        rows.camera[row] = camera = self._number[key.camera]
        self._here[camera][row] = None
        crossed = [crossing.inwards for crossing in sighting.crossings if crossing.line in self._doors]
        rows.target[row] = 2 * camera + bool(crossed and crossed[0])
        rows.origin[row] = 2 * camera + bool(crossed and not crossed[-1])
        rows.there[row] = True
        for place, point in ((rows.first, 0), (rows.last, -1)):
            place[row] = np.nan
            if len(sighting.path):
                seconds, x, y = sighting.path[point].tolist()
                place[row] = start + seconds, x, y, sighting.path_on == "floor"
        for sides in (rows.own, rows.so_far, rows.from_here):
            _set(sides, row, mine)
        rows.many_so_far[row] = rows.many_from_here[row] = 1.0
        self._revision[row] = sighting.revision
        least = Agreement.least(sighting)
        rows.sound[row] = 1.0 if least is None else 1.0 - ELSEWHERE * self.agreement.torn(least)
        if least is not None and sighting.state == "closed":
            self.agreement.learn(least)
        for name in ("so_far", "from_here"):
            self._made_of.pop((row, name), None)
        self._linked[key] = None
        if new or sighting.state != "open":
            self._found.due[row] = -math.inf
            self._fresh[key] = None
        self.changed.add(key)
        if crossed:
            self.door_cameras.add(key.camera)
        if before is None or sighting.state == "closed":
            self._mark_parts(sighting)

    def _make_room(self) -> None:
        more = (0, len(self.rows.start) - len(self._claimed))
        if more[1] > 0:
            self._claimed = np.pad(self._claimed, more)
            self._before = np.pad(self._before, more, constant_values=-1)
            self._held = np.pad(self._held, more, constant_values=-1.0)
            self._found.grow(more[1])

    def looks(self) -> tuple[list[SightingKey], Sides, Float64]:
        """How each person who is remembered looked: the last sighting, a side of the chain up to it, how many that are (n,)."""
        tails = sorted(
            (key, row) for key, row in self.rows.row.items() if self.rows.there[row] and key not in self.after
        )
        order = np.array([row for _, row in tails], np.int64)
        return [key for key, _ in tails], self.rows.so_far.take(order), self.rows.many_so_far[order]

    def remembered(
        self, *, since_s: float, least: float, looked_s: float, crossed: Callable[[SightingKey], bool]
    ) -> Remembered:
        """All that is remembered and no second track on somebody, with the links to those that begin from `since_s` on.

        Left out are those whose way and time leave log odds under `least`. `crossed` says who crossed a door.
        """
        rows = self.rows
        there = sorted((rows.start[row], key, row) for key, row in rows.row.items() if rows.there[row])
        order = np.array([row for _, _, row in there], np.int64)
        earlier, later = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        origin, target, start, end = (getattr(rows, name)[order] for name in ("origin", "target", "start", "end"))
        log_new, log_end = self.now.log_new(), np.log(self.now.end(origin))
        for first in range(int(np.searchsorted(start, since_s)), len(order), BLOCK):
            block = np.arange(first, min(first + BLOCK, len(order)))
            before = np.arange(0, block[-1])
            before = before[end[before] > start[first] - self._reentry_s]
            gap_s = start[block] - end[before, None]
            both = self._both[rows.camera[order[before]][:, None], rows.camera[order[block]]]
            possible = ((gap_s > -SLACK_S) | both) & (gap_s < self._reentry_s)
            possible &= before[:, None] < block
            at_once_s = np.where(both, OVERLAP_S, SLACK_S)
            odds = self.now.log_density(origin[before][:, None], target[block], gap_s, at_once_s=at_once_s)
            odds -= log_new[target[block]] + log_end[before][:, None]
            i, j = np.nonzero(possible & (odds > least))
            earlier.append(before[i])
            later.append(block[j])
        i, j = np.concatenate(earlier), np.concatenate(later)
        number = {key: place for place, (_, key, _) in enumerate(there)}
        links = (self.links.get(key) for _, key, _ in there)
        return Remembered(
            tuple(key for _, key, _ in there),
            start,
            end,
            rows.camera[order],
            origin,
            target,
            np.array([key.camera in self.door_cameras for _, key, _ in there], bool),
            np.array([crossed(key) for _, key, _ in there], bool),
            rows.own.take(order),
            i,
            j,
            self._continuity(order[i], order[j]),
            np.array([number.get(link.earlier, -1) if link else -1 for link in links], np.int64),
            self._both,
            self.now.copy(),
            max([looked_s, *end.tolist()]),
            0.0 if self.first_s is None else self.first_s,
        )

    def withdraw(self, key: SightingKey) -> None:
        """A sighting was no person after all; one that is settled stays."""
        if key not in self.open:
            return
        self._take_back(np.array([self.rows.row[key]]))
        self._close(key)
        self._unlink(key)
        if key in self.after:
            self._unlink(self.after[key])
        self.parts.discard(key)
        self.changed.add(key)
        self._forget_row(key)

    def _close(self, key: SightingKey) -> None:
        """What a sighting follows is not revised any more; what it offers is taken back before."""
        row = self.rows.row[key]
        del self.open[key]
        self.rows.open[row] = False
        del self._order[bisect_left(self._order, (float(self.rows.start[row]), key, row))]
        self._is_part.pop(key, None)
        self._boxes.pop(key, None)
        self._linked.pop(key, None)
        self._fresh.pop(key, None)
        self._here[int(self.rows.camera[row])].pop(row)
        self._found.due[row], self._found.narrow[row] = -math.inf, False

    def _take_back(self, rows: Int64) -> None:
        """Whom those rows follow, nobody or for good, is open to others."""
        found = self._found
        meant = found.meant(rows, self.rows.born)
        np.subtract.at(self._claimed, found.earlier[rows][meant], found.offered[rows][meant])
        found.many[rows], found.likely[rows] = -1, False

    def _mark_parts(self, sighting: Sighting) -> None:
        """Find out whether a sighting is a second track on somebody, or another one is on the same person as it."""
        if not len(sighting.path):  # where it was nobody knows
            return
        rows, row = self.rows, self.rows.row[sighting.key]
        here = self._here[int(rows.camera[row])]
        others = np.fromiter(here, np.int64, len(here))
        start, end = rows.start[others], rows.end[others]
        at_once = (start <= rows.end[row]) & (end >= rows.start[row])
        spans = list(zip(others[at_once].tolist(), start[at_once].tolist(), end[at_once].tolist(), strict=True))
        its_start, its_end = float(rows.start[row]), float(rows.end[row])
        within = [
            (short, start_s, end_s)
            for short, start_s, end_s in spans
            if start_s >= its_start and end_s <= its_end and end_s - start_s < its_end - its_start - MOMENT_S
        ]
        for short, first_s, last_s in [(row, its_start, its_end), *within]:
            key, most_s = rows.key[short], last_s - first_s + MOMENT_S
            wholes = [
                self.open[rows.key[whole]]
                for whole, start_s, end_s in spans
                if start_s <= first_s and end_s >= last_s and end_s - start_s > most_s
            ]
            part = bool(wholes) and self._part_of(self.open[key], wholes)
            if rows.there[short] == part:
                rows.there[short] = not part
                self.changed.add(key)
                self._found.due[short] = -math.inf
                self._take_back(np.array([short]))
                self._fresh[key] = None
                if part:
                    self.parts.add(key)
                    self._unlink(key)
                    if key in self.after:
                        self._unlink(self.after[key])
                else:
                    self.parts.discard(key)

    def _part_of(self, short: Sighting, wholes: Sequence[Sighting]) -> bool:
        """Whether a sighting is all the time near to one of those longer ones, and alike.

        Found once for each of them: how that goes on changes nothing.
        """
        revision, known = self._is_part.get(short.key, (0, {}))
        if revision != short.revision:
            known = {}
            self._is_part[short.key] = short.revision, known
        for whole in wholes:
            if whole.key.session != short.key.session:
                continue
            if whole.key not in known:
                known[whole.key] = (
                    not self._apart(short, whole) and _near(short, whole) and self._alike(short.key, whole.key)
                )
            if known[whole.key]:
                return True
        return False

    def _apart(self, short: Sighting, whole: Sighting) -> bool:
        """Whether no point of a path can be near to the other's: the boxes around both are too far apart."""
        if not len(short.path) or not len(whole.path):
            return True
        left, top, right, bottom = self._box(short)
        its_left, its_top, its_right, its_bottom = self._box(whole)
        apart = max(left - its_right, its_left - right, top - its_bottom, its_top - bottom)
        return apart > (PART_M if short.path_on == "floor" else PART) + ROUNDED

    def _box(self, sighting: Sighting) -> list[float]:
        revision, box = self._boxes.get(sighting.key, (0, [0.0]))
        if revision != sighting.revision:
            points = sighting.path[:, 1:3]
            box = [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
            self._boxes[sighting.key] = sighting.revision, box
        return box

    def _alike(self, one: SightingKey, other: SightingKey) -> bool:
        own, row = self.rows.own, self.rows.row
        return bool(evidence(self._calibration, own.take([row[one]]), own.take([row[other]]))[0, 0] >= ALIKE)

    def _side(self, sighting: Sighting) -> Sides:
        if len(sighting.prototypes):
            revision, made = self._sides.get(sighting.key, (0, None))
            if made is None or revision != sighting.revision:
                made = side(sighting.prototypes, sighting.quality, sighting.pictures)
                self._sides[sighting.key] = sighting.revision, made
            return made
        return unknown(1, self.rows.own.means.shape[1])  # nothing is known of its looks

    def look(self, now_s: float, *, everything: bool, anew: bool = False) -> None:
        """Link anew what is new or was changed, and what that competes with; with `everything` all that is open.

        Times are learnt from a look at everything alone. `anew` finds whom each may follow, also where that is not due.
        """
        rows = self.rows
        self._make_chains()
        if everything:
            if self.first_s is None:  # nobody has come yet
                self._met_s = now_s
                return
            columns = self._columns([row for _, _, row in self._order])
            self._claimed[:] = 0.0
        else:
            columns = self._columns(self._due_by(now_s))
            if not len(columns):
                self._fresh.clear()
                return
        unseen = self.now.unseen(rows.origin, now_s - rows.end)
        self._unseen = np.log(np.maximum(rows.left, 1e-9) / unseen)
        self._find(columns if anew else self._stale(columns, now_s, everything=everything), now_s, wide=everything)
        if not everything:
            columns = self._with_rivals(columns)
        self._fresh.clear()
        at, column = self._edges(columns)
        earlier, looks = self._found.earlier.ravel()[at], self._found.looks.ravel()[at]
        later = columns[column]
        looks[rows.born[earlier] > self._found.births[later]] = -math.inf
        looks -= self._skipped(earlier, later, looks)
        odds = looks + self._log_odds(earlier, later) + self._continuity(earlier, later)
        kept = odds > HOPELESS
        weights = np.where(kept, np.exp(np.minimum(odds, CERTAIN)), 0.0)
        offered = self._found.offered.ravel()
        before = np.where(np.isinf(looks) | everything, 0.0, offered[at])  # at the last look
        probability, offered[at] = self._marginals(weights, before, earlier, column, everything=everything)
        self._found.likely.ravel()[at] = probability > RIVAL
        self._choose(columns, earlier, column, probability * self._sure * rows.sound[earlier] * rows.sound[later])
        if everything:
            self._weave(columns)
            ended = rows.end[columns]
            new = columns[(ended > self._met_s) & (ended <= now_s)]
            self._meet(new[np.isin(rows.many_so_far[new], COMPARED)][:MET])
            self._met_s = now_s
            self._seen_edges = (columns, earlier, column, probability)
            was, self.now = self.now, self.passages.copy()
            self._learn(self.now, columns, earlier, later, probability)
            tails = np.flatnonzero(rows.there & ~rows.followed)
            gone = rows.left[tails] - np.bincount(earlier, probability, minlength=len(rows.start))[tails]
            origin, since = rows.origin[tails], now_s - rows.end[tails]
            gone = np.maximum(gone, 0) * np.minimum(1, was.end(origin) / was.unseen(origin, since))
            self.now.ended += np.bincount(origin, gone, minlength=len(self.now.ended))
            self.now.lasted_s = 0.0 if self.first_s is None else now_s - self.first_s
            self.now.settle()

    def _skipped(self, earlier: Int64, later: Int64, looks: Float64) -> Float64:
        """What speaks against each link because it would leave out whom its later sighting follows now, in the same chain."""
        rows = self.rows
        before = self._before
        heads = _last_of(before)
        followed = before[later] == earlier
        against = np.zeros(len(rows.start))
        against[later[followed]] = np.maximum(looks[followed], 0.0)
        same = (heads[earlier] == heads[later]) & ~followed & (before[later] >= 0)
        return np.where(same & np.isfinite(looks), against[later], 0.0)

    def _columns(self, rows: Sequence[int]) -> Int64:
        """Those rows that may follow others, in the order given."""
        columns = np.array(rows, np.int64)
        return columns[self.rows.there[columns]]

    def _due_by(self, now_s: float) -> list[int]:
        """The rows of what is to be looked at anew, in order of (start, key)."""
        due = dict.fromkeys(self._fresh)
        while self._again and self._again[0][0] <= now_s:
            _, key = heappop(self._again)
            due[key] = None
        return self._in_order(self.rows.row[key] for key in due if key in self.open)

    def _in_order(self, rows: Iterable[int]) -> list[int]:
        start, key = self.rows.start, self.rows.key
        return sorted(rows, key=lambda row: (start[row], key[row]))

    def _stale(self, columns: Int64, now_s: float, *, everything: bool) -> Int64:
        """Those for which it is time to find anew whom they may follow: soon at first, then more rarely.

        With everything also those for whom nobody was looked for yet who has not been seen for long.
        """
        stale = now_s >= self._found.due[columns]
        return columns[stale | self._found.narrow[columns] if everything else stale]

    def _with_rivals(self, columns: Int64) -> Int64:
        """Those, and what competes with them for whom they likely follow, in order of (start, key)."""
        found, born = self._found, self.rows.born
        likely = found.likely[columns]
        if not likely.any():
            return columns
        wanted = np.zeros(len(born), bool)
        wanted[found.earlier[columns][likely & found.meant(columns, born)]] = True
        every = np.flatnonzero(found.many > 0)
        rivals = (found.likely[every] & wanted[found.earlier[every]] & found.meant(every, born)).any(axis=1)
        more = np.union1d(columns, every[rivals])
        return columns if len(more) == len(columns) else np.array(self._in_order(more.tolist()), np.int64)

    def _edges(self, columns: Int64) -> tuple[Int64, Int64]:
        """Whom each of `columns` may follow: where that is in the flat arrays of `Found`, and its place in `columns`."""
        there = np.flatnonzero(self._found.there(columns))
        column = there // MOST
        return columns[column] * MOST + there % MOST, column

    def _marginals(
        self, weights: Float64, offered: Float64, earlier: Int64, column: Int64, *, everything: bool
    ) -> tuple[Float64, Float64]:
        """The probability of each link, given what all that is not looked at now has offered; and what each offers now."""
        there = np.flatnonzero(weights)
        offers, probability = np.zeros(len(weights)), np.zeros(len(weights))
        many = len(self._claimed)
        others = np.maximum(self._claimed - np.bincount(earlier, offered, many), 0.0)
        weight, i, j = weights[there], earlier[there], column[there]
        mine = weight
        for _ in range(ROUNDS):
            forth = weight / (1 + np.maximum((others + np.bincount(i, mine, many))[i] - mine, 0))
            before, mine = mine, weight / (1 + np.maximum(np.bincount(j, forth)[j] - forth, 0))
            if not len(mine) or np.max(np.abs(mine - before) / (1 + before)) < STILL:
                break
        total = others + np.bincount(i, mine, many)
        touched = np.ones(many, bool) if everything else np.zeros(many, bool)
        touched[earlier] = True
        self._claimed[touched] = total[touched]
        offers[there] = mine
        probability[there] = mine / (1 + total[i])
        return probability, offers

    def alike(self, after_s: float, by_s: float, *, within_s: float) -> Int64:
        """Pairs of rows (pairs, 2) in cameras that share no view, of which one may be the other's person, by looks alone.

        One of each ended after `after_s` and by `by_s`, of which the first `MET` are looked at; the other had ended before it,
        no longer than `within_s` before it began.
        """
        rows = self.rows
        there = np.flatnonzero(rows.there & (rows.own.quality > 0) & (rows.end <= by_s))
        there = there[np.lexsort((rows.born[there], rows.end[there]))]
        end = rows.end[there]
        found = [np.zeros((0, 2), np.int64)]
        for place in range(*np.searchsorted(end, (after_s, by_s), side="right"))[:MET]:
            row = int(there[place])
            others = there[np.searchsorted(end, rows.start[row] - within_s) : place]
            camera = rows.camera[others]
            others = others[(camera != rows.camera[row]) & ~self._both[camera, rows.camera[row]]]
            said = evidence(self._calibration, rows.own.take([row]), rows.own.take(others))[0]
            mine = others[said >= ALIKE_ELSEWHERE]
            found.append(np.column_stack([mine, np.full(len(mine), row)]))
        return np.concatenate(found)

    def settle(self, before_s: float) -> list[SightingKey]:
        """Fix the links of all sightings that ended before a time, as they were at the last look; those, in order."""
        rows = self.rows
        order = np.array([row for _, _, row in self._order], np.int64)
        over = [rows.key[row] for row in order[rows.end[order] < before_s].tolist()]
        if not over:
            return []
        columns, earlier, column, probability = self._seen_edges
        closing = rows.end[columns] < before_s
        self._make_chains()
        mine = closing[column]
        self._learn(self.passages, columns[closing], earlier[mine], columns[column[mine]], probability[mine])
        np.subtract.at(rows.left, earlier[mine], probability[mine])
        np.maximum(rows.left, 0.0, out=rows.left)
        self._take_back(np.array([rows.row[key] for key in over], np.int64))
        for key in over:
            self._close(key)
            self.settled.add(key)
            if key in self.links:
                rows.followed[rows.row[self.links[key].earlier]] = True
        return over

    def follow(self, other: "Linking", settled: Sequence[SightingKey]) -> None:
        """Take over what another has settled, and what it has learnt."""
        rows, its = self.rows, other.rows
        self.passages = other.passages
        settled = [key for key in settled if key in self.open]
        self._take_back(np.array([rows.row[key] for key in settled], np.int64))
        for key in settled:
            row, link = rows.row[key], other.links.get(key)
            if link is not None and link.earlier not in rows.row:
                link = None
            known = self.links.get(key)
            if known is not None and (link is None or known.earlier != link.earlier):
                self._unlink(key)
            if link is not None:
                if self.after.get(link.earlier, key) != key:
                    self._unlink(self.after[link.earlier])
                self._join(key, link)
                rows.followed[rows.row[link.earlier]] = True
            self._close(key)
            self.settled.add(key)
            there = key not in other.parts
            if rows.there[row] != there:
                rows.there[row] = there
                (self.parts.discard if there else self.parts.add)(key)
            self.changed.add(key)
            self._made_of[row, "so_far"] = SETTLED
            self._linked[key] = None
            _set(rows.so_far, row, its.so_far.take([its.row[key]]))
            rows.many_so_far[row] = its.many_so_far[its.row[key]]
        mine = [(row, its.row[key]) for key, row in rows.row.items() if key in its.row]
        if mine:
            to, of = np.array(mine, np.int64).T
            rows.left[to] = its.left[of]

    def drop_followed(self, settled: Sequence[SightingKey]) -> None:
        """Let go of the rows of those settled that nothing can follow any more, and of whom they follow."""
        rows = self.rows
        for key in (*settled, *(self.links[key].earlier for key in settled if key in self.links)):
            row = rows.row.get(key)
            if row is not None and key not in self.open and (rows.followed[row] or not rows.there[row]):
                self._forget_row(key)

    def cut(self, later: SightingKey) -> None:
        """Let go of a settled sighting's link, whose earlier one is about to be forgotten; nothing has changed by that."""
        link = self.links.pop(later)
        del self.after[link.earlier]
        row = self.rows.row.get(later)
        if row is not None:
            self._before[row], self._held[row] = -1, -1.0

    def forget(self, keys: Iterable[SightingKey], *, learn: bool) -> None:
        """Drop people, all of whose sightings are settled; `learn` that they were not seen again."""
        rows = self.rows
        for key in keys:
            if key in rows.row:
                row = rows.row[key]
                if learn and rows.there[row] and not rows.followed[row]:
                    self.passages.ended[rows.origin[row]] += rows.left[row]
                self._forget_row(key)
            self.links.pop(key, None)
            self.after.pop(key, None)
            self.parts.discard(key)
            self.settled.discard(key)

    def _forget_row(self, key: SightingKey) -> None:
        row = self.rows.row[key]
        self._revision.pop(row, None)
        for name in ("so_far", "from_here"):
            self._made_of.pop((row, name), None)
        self._claimed[row], self._before[row], self._held[row] = 0.0, -1, -1.0
        self._before[self._before == row] = -1
        self.rows.drop(key)

    def dump(self, vectors: Vectors) -> tuple[Arrays, Json]:
        """All that is known here, but the open sightings themselves; `load` takes it in."""
        self._make_chains()
        rows, many = self.rows, len(self.rows.key)
        arrays: Arrays = {name: getattr(rows, name)[:many] for name in FIELDS}
        kept: list[list[object]] = []
        for key, row in rows.row.items():
            sides = rows.own if key in self.open else rows.so_far
            kept.append([key, row, vectors.put(key, sides.means[row][None])])
        for name, sides in (("own", rows.own), ("so_far", rows.so_far)):
            arrays[f"{name}_pictures"], arrays[f"{name}_quality"] = sides.pictures[:many], sides.quality[:many]
        arrays["free"] = np.array(rows.free, np.int64)
        arrays["claimed"] = self._claimed[:many]
        found = self._found
        those, due = np.flatnonzero(found.many >= 0), np.flatnonzero(found.due > -math.inf)
        arrays["found"] = np.stack([those, found.births[those]], axis=1)
        there, likely = found.there(those), found.likely[those] & found.meant(those, rows.born)
        for name, of, which in (
            ("earlier", found.earlier, there),
            ("looks", found.looks, there),
            ("offered", found.offered, there),
            ("likely", found.earlier, likely),
        ):
            arrays[f"found_{name}_sizes"], arrays[f"found_{name}"] = which.sum(axis=1), of[those][which]
        arrays["narrow"], arrays["due"] = np.flatnonzero(found.narrow), np.stack([due, found.due[due]], axis=1)
        for name, passages in (("passages", self.passages), ("now", self.now)):
            for part in LEARNT:
                arrays[f"{name}_{part}"] = getattr(passages, part)
        return arrays, {
            "length": rows.own.means.shape[1],
            "births": rows.births,
            "rows": kept,
            "revision": [[row, self._revision[row]] for row in rows.row.values()],
            "links": [link_entry(link) for link in self.links.values()],
            "parts": sorted(self.parts),
            "settled": sorted(self.settled),
            "changed": sorted(self.changed),
            "door_cameras": sorted(self.door_cameras),
            "fresh": list(self._fresh),
            "again": self._again,
            "first_s": self.first_s,
            "lasted_s": self.now.lasted_s,
            "different": self.different.tolist(),
            "agreement": np.diff(self.agreement.reached, prepend=0.0).tolist(),
            "met_s": self._met_s,
        }

    def load(self, arrays: Arrays, entry: Json, vectors: Vectors, sightings: Iterable[Sighting]) -> None:
        """Take in what `dump` gave, with the `sightings` that are open; this one must be new."""
        rows, many = self.rows, len(arrays["start"])
        rows.grow(max(256, many))
        rows.set_length(entry["length"])
        self.open = {sighting.key: sighting for sighting in sightings}
        for name in FIELDS:
            getattr(rows, name)[:many] = arrays[name]
        nobody_here = SightingKey("-", "-", "-", 1)  # in free rows
        rows.key, rows.free, rows.births = [nobody_here] * many, arrays["free"].tolist(), entry["births"]
        for name, sides in (("own", rows.own), ("so_far", rows.so_far)):
            sides.pictures[:many], sides.quality[:many] = arrays[f"{name}_pictures"], arrays[f"{name}_quality"]
        for key_entry, row, place in entry["rows"]:
            key = key_of(key_entry)
            rows.key[row], rows.row[key] = key, row
            sides = rows.own if key in self.open else rows.so_far
            sides.means[row] = vectors.get(key, place, 1)[0]
            if key not in self.open:
                self._made_of[row, "so_far"] = SETTLED
        self._revision = dict(entry["revision"])
        for link in map(link_of, entry["links"]):
            self.links[link.later], self.after[link.earlier] = link, link.later
        for key in self.open:
            row = rows.row[key]
            insort(self._order, (float(rows.start[row]), key, row))
            self._here[self._number[key.camera]][row] = None
            self._linked[key] = None
        self.parts, self.settled, self.changed = (
            set(map(key_of, entry[name])) for name in ("parts", "settled", "changed")
        )
        self.door_cameras = set(entry["door_cameras"])
        self._fresh = dict.fromkeys(map(key_of, entry["fresh"]))
        self._again = [(due, key_of(key)) for due, key in entry["again"]]
        self.first_s = entry["first_s"]
        self._make_room()
        self._claimed[:many] = arrays["claimed"]
        for link in self.links.values():
            if link.later in rows.row:
                self._held[rows.row[link.later]] = link.probability
                self._before[rows.row[link.later]] = rows.row.get(link.earlier, -1)
        found, (those, births), (due, at_s) = self._found, arrays["found"].T, arrays["due"].T
        found.births[those], found.many[those] = births, arrays["found_earlier_sizes"]
        for name in ("earlier", "looks", "offered"):
            of = getattr(found, name)
            of[np.repeat(those, found.many[those]), np.flatnonzero(found.there(those)) % MOST] = arrays[f"found_{name}"]
        likely = np.repeat(those, arrays["found_likely_sizes"])
        found.likely[likely, (found.earlier[likely] == arrays["found_likely"][:, None]).argmax(axis=1)] = True
        found.due[due.astype(np.int64)], found.narrow[arrays["narrow"]] = at_s, True
        for name, passages in (("passages", self.passages), ("now", self.now)):
            for part in LEARNT:
                setattr(passages, part, arrays[f"{name}_{part}"].copy())
        self.now.lasted_s = entry["lasted_s"]
        self.agreement.reached = np.cumsum(entry["agreement"])
        self.different, self._met_s = np.array(entry["different"]), entry["met_s"]
        self.now.settle()

    def _find(self, columns: Int64, now_s: float, *, wide: bool) -> None:
        """Find whom each of `columns` may follow: among all with `wide`, else among those that were seen of late.

        In the latter case those found before who were not are kept.
        """
        rows, found = self.rows, self._found
        if not len(columns):
            return
        among = rows.there & ~rows.followed
        recent = rows.open | (rows.end > now_s - RECENT_S)
        tails = np.flatnonzero(among if wide else among & recent)
        before = rows.start[tails] if self._both.any() else rows.end[tails] - SLACK_S
        order = np.argsort(before)
        order = order[: np.searchsorted(before[order], rows.start[columns].max(), side="right")]
        tails, before = tails[order], before[order]
        means = rows.so_far.means[tails]
        for first in range(0, len(columns), BLOCK):
            block = columns[first : first + BLOCK]
            many = int(np.searchsorted(before, rows.start[block].max(), side="right"))
            i, j, similarity = self._hopeful(block, tails[:many], before[:many], means[:many])
            odds = self._log_odds(i, block[j])
            at_most = odds + self._at_most(similarity, i, block[j])
            best = _best_of(at_most, i, j, 2 * MOST)
            i, j, looks = i[best], j[best], self._looks(similarity[best], i[best], block[j[best]])
            odds = odds[best] + looks
            if not wide:
                i, j, looks, odds = self._with_older(block, recent, i, j, looks, odds)
            best = _best_of(odds, i, j, MOST)
            self._take_back(block)
            found.many[block], found.births[block] = np.bincount(j[best], minlength=len(block)), rows.births
            places = block[j[best]], np.flatnonzero(found.there(block)) % MOST
            found.earlier[places], found.looks[places], found.offered[block] = i[best], looks[best], 0.0
            age_s = now_s - rows.start[block]
            found.due[block] = now_s + np.maximum(EVERY_S, LATER * age_s)
            for row in block[age_s < OFTEN_S].tolist():
                heappush(self._again, (float(found.due[row]), rows.key[row]))
        found.narrow[columns] = not wide

    def _with_older(
        self, block: Int64, recent: NDArray[np.bool_], i: Int64, j: Int64, looks: Float64, odds: Float64
    ) -> tuple[Int64, Int64, Float64, Float64]:
        """Those found and, of those found before, the ones who have not been seen of late."""
        found = self._found
        old = ~recent[found.earlier[block]] & found.meant(block, self.rows.born)
        if not old.any():
            return i, j, looks, odds
        earlier, later, said = found.earlier[block][old], np.nonzero(old)[0], found.looks[block][old]
        their_odds = self._log_odds(earlier, block[later]) + said
        return (
            np.concatenate([i, earlier]),
            np.concatenate([j, later]),
            np.concatenate([looks, said]),
            np.concatenate([odds, their_odds]),
        )

    def _at_most(self, similarity: Float64, earlier: Int64, later: Int64) -> Float64:
        """A bound on what looks say of each link, whose cosine is known."""
        one, other = self.rows.so_far, self.rows.from_here
        step = np.clip((similarity + 1) * (BEST / 2), 0, BEST).astype(np.int64)
        said = self._best[step] * np.minimum(one.quality[earlier], other.quality[later])
        ours, theirs = self.rows.many_so_far[earlier], self.rows.many_from_here[later]
        result: Float64 = np.where(said > 0, said * 2 / (1 / ours + 1 / theirs), said)
        return result

    def _hopeful(self, block: Int64, tails: Int64, before: Float64, means: Float32) -> tuple[Int64, Int64, Float64]:
        """Rows i of `tails` that each of `block` (place j there) might follow, by a bound on time and looks; their cosine.

        Nobody follows one of `tails` who begins before the time `before`, which rises. The bound of time is one for all of the
        block. All pairs are bounded roughly, by a bound that is a little higher, and only the best of these for good.
        """
        rows = self.rows
        one, other = rows.so_far, rows.from_here.take(block)
        since_s = float(rows.start[block].min()) - rows.end[tails]
        time = self.now.most(rows.origin[tails], np.unique(rows.target[block]), since_s)
        need = HOPELESS - 1 - ROUNDED_ODDS - time - self._unseen[tails]
        many = 2 / (1 / np.maximum(rows.many_so_far[tails], 1) + 1 / rows.many_from_here[block].max())
        quality = one.quality[tails].astype(np.float64)
        best, worst = (np.minimum(quality, of(other.quality)) for of in (np.max, np.min))
        for_it, against = best * many, worst  # what looks say is multiplied by so much at most
        similarity = np.ascontiguousarray((means @ other.means.T).T)  # (block, tails)
        step = similarity * np.float32(BEST / 2) + np.float32(BEST / 2 + 1)
        said = self._best.take(step.astype(np.int64), mode="clip")
        about = np.maximum(said * for_it.astype(np.float32), said * against.astype(np.float32)) - need.astype(
            np.float32
        )
        start = rows.start[block, None]
        late = int(np.searchsorted(before, start.min(), side="right"))
        about[:, late:][before[late:] > start] = -np.inf
        least = np.zeros((1, 1))
        if len(tails) > NEAREST:
            several = max(1, len(tails) // (4 * NEAREST))  # the best of so many stands for all of them
            most = about[:, : len(tails) // several * several].reshape(len(block), several, -1).max(axis=1)
            least = _greatest(most, NEAREST)[:, None] - 2 * self._step * for_it.max()
        rough = np.flatnonzero(about >= np.maximum(least, 0.0) - ROUNDED_ODDS)
        j = rough // max(1, len(tails))
        tail, cosine = rough - j * len(tails), similarity.ravel()[rough].astype(np.float64)
        said = self._best[((cosine + 1) * (BEST / 2)).astype(np.int64)]
        over = np.maximum(said * for_it[tail], said * against[tail]) - need[tail]
        place = np.arange(len(j)) - np.searchsorted(j, j)
        best_of_each = np.full((len(block), max(NEAREST, int(place.max(initial=0)) + 1)), -np.inf)
        best_of_each[j, place] = over
        kept = over >= np.maximum(_greatest(best_of_each, NEAREST), 0.0)[j]
        return tails[tail[kept]], j[kept], cosine[kept]

    def _looks(self, similarity: Float64, earlier: Int64, later: Int64) -> Float64:
        """What looks say of each link, whose cosine is known.

        It is what the chains on both sides say, but not much more than what each of the two sightings says of the other's
        chain; and no more than what people who are certainly different leave possible, see `_meet`.
        """
        rows = self.rows
        ratio = self._ratio(similarity, rows.so_far, rows.from_here, earlier, later)
        chains = TRUST * chained(ratio, rows.many_so_far[earlier], rows.many_from_here[later])
        for one, other, long in (
            (rows.so_far, rows.own, rows.many_from_here[later] > 1),
            (rows.own, rows.from_here, rows.many_so_far[earlier] > 1),
        ):
            mine = np.flatnonzero(long & (chains > 0))
            i, j = earlier[mine], later[mine]
            cosine = np.einsum("ij,ij->i", one.means[i], other.means[j]).astype(np.float64)
            alone = TRUST * self._ratio(cosine, one, other, i, j)
            chains[mine] = np.minimum(chains[mine], alone + CONTRARY)
        result: Float64 = -np.logaddexp(-chains, -self.most_said(chains))
        return result

    def _ratio(self, similarity: Float64, one: Sides, other: Sides, earlier: Int64, later: Int64) -> Float64:
        return weighed(
            self._calibration,
            similarity,
            pictures=(one.pictures[earlier], other.pictures[later]),
            quality=np.minimum(one.quality[earlier], other.quality[later]),
        )

    def most_said(self, said: Float64) -> Float64:
        """The most that looks which say so much can count: the rarer those who are certainly different say it, the more."""
        reached = self.different[::-1].cumsum()[::-1]
        most: Float64 = -np.log((reached + 1) / (self.different.sum() + LOOK_ALIKES))
        return most[_level(said)]

    def _meet(self, columns: Int64) -> None:
        """Take note of how much those in `columns` look like whom another camera saw at the same time: other people."""
        rows = self.rows
        columns = columns[rows.own.quality[columns] > 0]
        every = np.flatnonzero(rows.open & rows.there & (rows.own.quality > 0))
        start, end, camera = rows.start[every], rows.end[every], rows.camera[every]
        once = (camera != rows.camera[columns, None]) & ~self._both[camera, rows.camera[columns, None]]
        once &= (start < rows.end[columns, None] - SLACK_S) & (end > rows.start[columns, None] + SLACK_S)
        number, other = np.nonzero(once & (start <= rows.start[columns, None]))
        if not len(number):
            return
        mine, others = columns[number], every[other]
        parts = np.split(others, np.searchsorted(number, np.arange(1, len(columns))))
        vectors = zip(parts, rows.from_here.means[columns], strict=True)
        cosine = np.concatenate([rows.so_far.means[those] @ mean for those, mean in vectors]).astype(np.float64)
        said = TRUST * chained(
            self._ratio(cosine, rows.so_far, rows.from_here, others, mine),
            rows.many_so_far[others],
            rows.many_from_here[mine],
        )
        self.different += np.bincount(_level(said), minlength=len(LEVELS))

    def _log_odds(self, earlier: Int64, later: Int64) -> Float64:
        """The log odds of each link, by way and time, against the later sighting's being somebody new."""
        rows = self.rows
        gap_s = rows.start[later] - rows.end[earlier]
        both = self._both[rows.camera[earlier], rows.camera[later]]
        possible = ((gap_s > -SLACK_S) | both) & (gap_s < self._reentry_s)
        possible &= rows.there[earlier] & ~rows.followed[earlier] & (earlier != later)
        possible &= rows.start[earlier] <= rows.start[later]
        for tie in np.flatnonzero(possible & (rows.start[earlier] == rows.start[later])).tolist():
            possible[tie] = rows.key[int(earlier[tie])] < rows.key[int(later[tie])]
        origin, target = rows.origin[earlier], rows.target[later]
        density = self.now.log_density(origin, target, gap_s, at_once_s=np.where(both, OVERLAP_S, SLACK_S))
        odds = density - self.now.log_new()[target] + self._unseen[earlier]
        result: Float64 = np.where(possible, odds, -np.inf)
        return result

    def _continuity(self, earlier: Int64, later: Int64) -> Float64:
        """What place says where a track may only have broken: log odds of each link, 0 for others.

        In one camera, within `BROKEN_S`, somebody is near to where they were last seen, and a new person anywhere.
        """
        rows, odds = self.rows, np.zeros(len(earlier))
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
        rows, sure = self.rows, probability > UNLIKELY
        i, j = earlier[sure], later[sure]
        passages.learn(rows.origin[i], rows.target[j], rows.start[j] - rows.end[i], probability[sure])
        followed = np.bincount(later, probability, minlength=len(rows.start))[columns]
        np.add.at(passages.new, rows.target[columns], 1 - np.minimum(1, followed))

    def _choose(self, columns: Int64, earlier: Int64, column: Int64, probability: Float64) -> None:
        """Keep the links of at least `threshold`, none that two of a kind claim; the likelier ones first."""
        rows = self.rows
        likely = np.flatnonzero(probability >= self.threshold)
        likely = likely[np.argsort(-probability[likely], kind="stable")]
        chosen = np.full(len(columns), -1)
        claimed: set[int] = set()
        taken: set[int] = set()
        for edge, number, tail in zip(likely.tolist(), column[likely].tolist(), earlier[likely].tolist(), strict=True):
            if number not in claimed and tail not in taken:
                chosen[number] = edge
                claimed.add(number)
                taken.add(tail)
        held, best = self._held[columns], np.flatnonzero(chosen >= 0)
        edges = chosen[best]
        stays = (chosen < 0) & (held < 0)
        stays[best] = self._before[columns[best]] == earlier[edges]
        stays[best] &= np.abs(held[best] - probability[edges]) < TELLING
        numbers = np.flatnonzero(~stays)
        ends = np.searchsorted(column, np.stack([numbers, numbers + 1])).T.tolist()
        wanted: list[tuple[SightingKey, Link]] = []
        for number, (begin, end) in zip(numbers.tolist(), ends, strict=True):
            key, chosen_edge = rows.key[int(columns[number])], int(chosen[number])
            known = self.links.get(key)
            if chosen_edge < 0:
                self._unlink(key)
                continue
            if known is not None and known.earlier != rows.key[int(earlier[chosen_edge])]:
                self._unlink(key)
            wanted.append((key, self._link(key, chosen_edge - begin, earlier[begin:end], probability[begin:end])))
        for key, link in wanted:  # only now is every other link to the same earlier one gone
            rival = self.after.get(link.earlier)
            if rival is not None and rival != key:  # one that was not looked at now
                self._unlink(rival)
                self._fresh[rival] = None
            self._join(key, link)

    def _link(self, later: SightingKey, best: int, earlier: Int64, probability: Float64) -> Link:
        others = probability.tolist()
        first, others[best] = min(1.0, others[best]), 0.0
        second = others.index(max(others))
        likely = round(min(others[second], first, 1.0 - first), 6)
        return Link(
            self.rows.key[int(earlier[best])],
            later,
            1,
            round(first, 6),
            self.rows.key[int(earlier[second])] if likely > 0 else None,
            likely,
        )

    def _join(self, key: SightingKey, link: Link) -> None:
        if self.after.get(link.earlier) != key:
            self._linked.update({key: None, link.earlier: None})
        row = self.rows.row
        self.links[key] = link
        self._before[row[key]], self._held[row[key]] = row[link.earlier], link.probability
        self.after[link.earlier] = key
        self.changed.update((key, link.earlier))

    def _unlink(self, later: SightingKey) -> None:
        link = self.links.pop(later, None)
        if link is not None:
            row = self.rows.row.get(later)
            if row is not None:
                self._before[row], self._held[row] = -1, -1.0
            self.changed.update((later, link.earlier))
            self._linked.update({later: None, link.earlier: None})
            if self.after.get(link.earlier) == later:
                del self.after[link.earlier]

    def _weave(self, columns: Int64) -> None:
        """Make one chain of two that run side by side and are one person: changing one link at a time never gets there.

        `columns` are all that is open, in order.
        """
        rows = self.rows
        self._make_chains()
        heads = columns[self._before[columns] < 0]
        if len(heads) < 2:
            return
        behind, linked = np.full(len(self._before), -1), np.flatnonzero(rows.open & (self._before >= 0))
        behind[self._before[linked]] = linked
        tails = _last_of(behind)[heads]
        first, last, means = rows.start[heads], rows.start[tails], rows.so_far.means[tails]
        similarity = means @ means.T
        enough = self._best * rows.many_so_far[tails].max() >= WOVEN - 1e-3  # rises with the cosine
        if not enough.any():
            return
        i, j = np.nonzero(similarity >= enough.argmax() * (2 / BEST) - 1 - 1e-6)
        side_by_side = (i < j) & (first[i] <= last[j]) & (last[i] >= first[j])
        i, j = i[side_by_side], j[side_by_side]
        cosine = similarity[i, j].astype(np.float64)
        said = TRUST * chained(
            self._ratio(cosine, rows.so_far, rows.so_far, tails[i], tails[j]),
            rows.many_so_far[tails[i]],
            rows.many_so_far[tails[j]],
        )
        done: set[int] = set()
        known: dict[int, tuple[list[int], float]] = {}  # chains and how likely their ways are

        def chain_of(number: int) -> tuple[list[int], float]:
            if number not in known:
                chain = [int(heads[number])]
                while (row := int(behind[chain[-1]])) >= 0:
                    chain.append(row)
                known[number] = chain, self._way(chain)
            return known[number]

        likely = np.flatnonzero(said >= WOVEN)
        for pair in likely[np.argsort(-said[likely], kind="stable")].tolist():
            a, b = int(i[pair]), int(j[pair])
            if a in done or b in done:
                continue
            (one, its_way), (other, others_way) = chain_of(a), chain_of(b)
            woven = sorted(one + other, key=lambda row: (rows.start[row], rows.key[row]))
            gain = said[pair] + self._way(woven) - its_way - others_way
            if gain > 0:
                done |= {a, b}
                self._chain(woven, min(0.99, 1 / (1 + math.exp(-gain))))

    def _way(self, chain: list[int]) -> float:
        """The log odds of the links of a chain, by way, time and place."""
        earlier, later = np.array(chain[:-1], np.int64), np.array(chain[1:], np.int64)
        return float((self._log_odds(earlier, later) + self._continuity(earlier, later)).sum())

    def _chain(self, chain: list[int], probability: float) -> None:
        keys = [self.rows.key[row] for row in chain]
        known = {key: self.links[key] for key in keys if key in self.links}
        for key in keys:
            self._unlink(key)
        for earlier, later in pairwise(keys):
            link = known.get(later)
            same = link is not None and link.earlier == earlier
            self._join(later, link if link is not None and same else Link(earlier, later, 1, probability, None, 0.0))

    def _make_chains(self) -> None:
        """Put together what is known of each open sighting's person up to it and from it on, where links have changed."""
        rows, done = self.rows, set[SightingKey]()
        so_far: list[list[tuple[int, int]]] = []  # what is to be made of what, each list of what the ones before made
        from_here: list[list[tuple[int, int]]] = []
        for key in self._linked:
            if key in done or key not in rows.row:
                continue
            chain = [key]
            while (link := self.links.get(chain[-1])) is not None and link.earlier in rows.row:
                chain.append(link.earlier)
            chain.reverse()
            while (later := self.after.get(chain[-1])) is not None and later in rows.row:
                chain.append(later)
            done.update(chain)
            mine = [(rows.row[each], each in self.open) for each in chain]
            self._make("so_far", mine, so_far)
            self._make("from_here", mine[::-1], from_here)
        self._linked.clear()
        for pairs in so_far:
            self._combine(rows.so_far, rows.many_so_far, *np.array(pairs, np.int64).T)
        for pairs in from_here:
            self._combine(rows.from_here, rows.many_from_here, *np.array(pairs, np.int64).T)

    def _make(self, name: str, chain: list[tuple[int, bool]], steps: list[list[tuple[int, int]]]) -> None:
        """Add to `steps` which open rows of a chain are to be made anew, each of itself and the one before it, -1 for none."""
        stamps, step, before = self._made_of, 0, -1
        for row, is_open in chain:
            if is_open:
                stamp = (before, hash(stamps.get((before, name), 0)) if before >= 0 else 0, self._revision[row])
                if stamps.get((row, name)) != stamp:
                    stamps[row, name] = stamp
                    if step == len(steps):
                        steps.append([])
                    steps[step].append((row, before))
                    step += 1
            before = row

    def _combine(self, sides: Sides, many: Float64, row: Int64, other: Int64) -> None:
        """Make what is known of chains at `row` (n,) of the sightings themselves and of the chains at `other`, -1 for none."""
        own = self.rows.own
        known = (other >= 0) & (sides.quality[other] > 0)
        alone = known & (own.quality[row] == 0)
        both = known & ~alone
        sides.means[row], sides.pictures[row], sides.quality[row] = own.means[row], own.pictures[row], own.quality[row]
        many[row] = 1.0
        i, j = row[alone], other[alone]
        sides.means[i], sides.pictures[i], sides.quality[i] = sides.means[j], sides.pictures[j], sides.quality[j]
        many[i] = many[j]
        i, j = row[both], other[both]
        many[i] = number = np.minimum(many[j], LONGEST) + 1.0
        rest = 1 - 1 / number
        sides.means[i] = own.means[i] / number[:, None] + sides.means[j] * rest[:, None]
        sides.pictures[i] = own.pictures[i] / number + sides.pictures[j] * rest
        sides.quality[i] = np.maximum(own.quality[i], sides.quality[j])


def _only_lasts(before: Sighting, now: Sighting) -> bool:
    """Whether a sighting has only gone on; at each doubling of its revisions it is looked at anew."""
    doubled = now.revision & (now.revision - 1) == 0
    return now.state == "open" and not doubled and len(before.crossings) == len(now.crossings)


def _last_of(following: Int64) -> Int64:
    """Where each row's way ends; `following` is the next row of each, -1 for none."""
    last = np.where(following >= 0, following, np.arange(len(following)))
    while not np.array_equal(further := last[last], last):
        last = further
    return last


def _greatest(values: Float64 | Float32, nth: int) -> Float64:
    """The `nth` greatest value of each row."""
    result: Float64 = np.partition(values, -nth, axis=1)[:, -nth].astype(np.float64)
    return result


def _level(said: Float64) -> Int64:
    result: Int64 = np.maximum(np.searchsorted(LEVELS, said, side="right") - 1, 0)
    return result


def _best_of(odds: Float64, i: Int64, j: Int64, many: int) -> Int64:
    """The places of links (n,) whose odds are not hopeless, at most so many of each `j`, in order of j and of their odds."""
    kept = np.flatnonzero(odds > HOPELESS - 1)
    order = kept[np.lexsort((i[kept], -odds[kept], j[kept]))]
    group = j[order]
    place = np.arange(len(order)) - np.searchsorted(group, group)
    return order[place < many]


def _near(short: Sighting, whole: Sighting) -> bool:
    """Whether a sighting is all the time near to a longer one of the same camera."""
    if not len(short.path) or not len(whole.path) or short.path_on != whole.path_on:
        return False
    seconds = short.path[:, 0] + (short.start - whole.start).total_seconds()
    x, y = (np.interp(seconds, whole.path[:, 0], whole.path[:, axis]) - short.path[:, axis] for axis in (1, 2))
    most = PART_M if short.path_on == "floor" else PART
    return 2 * int(np.count_nonzero(x * x + y * y <= most * most)) >= len(seconds)


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


def unknown(rows: int, length: int) -> Sides:
    """Sides of which nothing is known."""
    return Sides(np.zeros((rows, length), np.float32), np.ones(rows), np.zeros(rows, np.float32))


def _set(sides: Sides, row: int, one: Sides) -> None:
    sides.means[row], sides.pictures[row], sides.quality[row] = one.means[0], one.pictures[0], one.quality[0]
