"""Which sighting follows which: everything known at a time looked at together, each link with its probability.

`vision.associate` keeps two of these: one of what is known now, one of what can no longer change.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from passerby.reid.calibration import Calibration
from passerby.reid.evidence import Sides, chained, evidence, joined, nobody, side, weighed
from passerby.shop import THINNED_S, Link, Sighting, SightingKey
from passerby.types import Float64, Int64
from passerby.vision.transit import OVERLAP_S, Passages

EVERY_S = 5.0  # from one look at what is known to the next
SLACK_S = 2.0  # by which one person's sightings in two cameras may overlap: boxes come early and go late
HOPELESS = -5.0  # log odds under which a link is not looked at
CERTAIN = 25.0  # log odds over which a link is as good as certain
UNLIKELY = 0.02  # nothing is learnt of links less probable than this
BROKEN_S = 4.0  # a track that goes on in the same camera after so long a time at most may only have broken;
STEP_M, SPEED_M_S, VIEW_M2 = 0.5, 0.8, 30.0  # it then goes on near by: on the floor, a camera seeing so much of it,
STEP, SPEED = 0.06, 0.12  # or in fractions of the picture
FAR = 6.0  # the most that place says against it, in log odds: feet are wrong at times
PART_M, PART = 0.6, 0.07  # a track that stays so near to a longer one is a part of the same person
ALIKE = 4.0  # where looks say at least so much for it, in log odds: companions stand as near
ROUNDS = 15  # of message passing
TRUST = 0.8  # of looks: a track may have been on two people in turn, of which a calibration knows nothing
LONGEST = 8.0  # sightings of a chain that count
MOST = 1.5  # by which a ratio of chains may exceed one of two sightings when nothing else is known
BLOCK = 64  # later sightings whose possible predecessors are found together
LATER = 0.7  # how much older a sighting is when these are found again
TELLING = 0.01  # by which a probability changes that is told again
FIELDS = (
    *("start", "end", "camera", "origin", "target", "there", "followed", "left", "first", "last", "born"),
    *("many_so_far", "many_from_here"),
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
        self.left: Float64 = np.zeros(0)  # the probability that none of those that are settled follows it
        # where it was seen first and last: time in seconds, x, y, and 1 for metres
        self.first: Float64 = np.zeros((0, 4))
        self.last: Float64 = np.zeros((0, 4))
        self.born: Int64 = np.zeros(0, np.int64)  # rises from each sighting to the next that gets a row
        # looks: of itself, and means over its chain up to it and from it on, with the numbers of their sightings
        self.own = self.so_far = self.from_here = nobody(1)
        self.many_so_far: Float64 = np.zeros(0)
        self.many_from_here: Float64 = np.zeros(0)

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
        self.followed[row], self.left[row], self.born[row] = False, 1.0, self.births
        return row

    def drop(self, key: SightingKey) -> None:
        """Forget a sighting."""
        row = self.row.pop(key)
        self.there[row] = False
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


class Linking:
    """The sightings of one site and the links between them, looked at anew each time that `look` is called.

    Each follows at most one other, and is followed by at most one. The odds of a link against a new person's coming are what
    appearance says (`reid.evidence`, against all that is known of the person so far) times what way and time say
    (`Passages`, learnt here). From the odds of all that compete follow the probabilities (`edge_marginals`); links from
    `threshold` on are kept, the likelier ones first. `both` (cameras, cameras) are those in which one may be at once.

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
    ) -> None:
        self.threshold, self._calibration, self._doors = threshold, calibration, doors
        self._number = {camera: number for number, camera in enumerate(cameras)}
        self._both, self._reentry_s = both, reentry_s
        self.rows = Rows()
        self.links: dict[SightingKey, Link] = {}  # by the later sighting
        self.after: dict[SightingKey, SightingKey] = {}  # from the earlier to the later
        self.parts: set[SightingKey] = set()  # second tracks on somebody
        self.changed: set[SightingKey] = set()
        self.door_cameras: set[str] = set()  # those that have seen somebody cross a door
        self.open: dict[SightingKey, Sighting] = {}  # whose link may be revised,
        self.settled: set[SightingKey] = set()  # and whose may not
        self._order: list[tuple[float, SightingKey]] = []  # of these
        self._at: dict[str, set[SightingKey]] = {}  # and those of each camera
        self._is_part: dict[SightingKey, tuple[int, dict[SightingKey, bool]]] = {}  # of whom, by revision
        self._found: dict[int, tuple[Int64, Float64, int]] = {}  # whom each may follow, what looks say, when that was
        self._due: dict[int, float] = {}  # when that is found anew
        self._made_of: dict[tuple[int, str], tuple[int, int, int]] = {}  # the links that a chain was last made of
        self._revision: dict[int, int] = {}  # of each row
        self.passages = Passages(len(cameras))  # learnt of what is settled,
        self.now = self.passages.copy()  # and of what is open, too
        self.first_s: float | None = None
        self._seen_edges: tuple[Int64, Int64, Int64, Float64] = (
            *(np.zeros(0, np.int64) for _ in range(3)),
            np.zeros(0),
        )

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
            self._order.remove((float(rows.start[row]), key))
        if new or rows.start[row] != start:
            insort(self._order, (start, key))
        before = self.open.get(key)
        self.open[key] = sighting
        self._at.setdefault(key.camera, set()).add(key)
        mine = self._side(sighting)
        rows.set_length(mine.means.shape[1])
        rows.start[row], rows.end[row] = start, end
        rows.camera[row] = camera = self._number[key.camera]
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
        for name in ("so_far", "from_here"):
            self._made_of.pop((row, name), None)
        if new or sighting.state != "open":
            self._due.pop(row, None)
        self.changed.add(key)
        if crossed:
            self.door_cameras.add(key.camera)
        if before is None or sighting.state == "closed":
            self._mark_parts(sighting)

    def withdraw(self, key: SightingKey) -> None:
        """A sighting was no person after all; one that is settled stays."""
        if key not in self.open:
            return
        self._close(key)
        self._unlink(key)
        if key in self.after:
            self._unlink(self.after[key])
        self.parts.discard(key)
        self.changed.add(key)
        self._forget_row(key)

    def _close(self, key: SightingKey) -> None:
        row = self.rows.row[key]
        del self.open[key]
        del self._order[bisect_left(self._order, (float(self.rows.start[row]), key))]
        self._at[key.camera].discard(key)
        self._is_part.pop(key, None)
        for kept in (self._found, self._due):
            kept.pop(row, None)

    def _mark_parts(self, sighting: Sighting) -> None:
        """Find out whether a sighting is a second track on somebody, or another one is on the same person as it."""
        others = [
            other
            for other in map(self.open.__getitem__, sorted(self._at[sighting.key.camera]))
            if other.start <= sighting.end and other.end >= sighting.start
        ]
        for short in others:
            if short.key == sighting.key or self._within(short, sighting):
                part = any(self._within(short, whole) and self._part_of(short, whole) for whole in others)
                mine = self.rows.row[short.key]
                if self.rows.there[mine] == part:
                    self.rows.there[mine] = not part
                    self.changed.add(short.key)
                    if part:
                        self.parts.add(short.key)
                        self._unlink(short.key)
                        if short.key in self.after:
                            self._unlink(self.after[short.key])
                    else:
                        self.parts.discard(short.key)

    @staticmethod
    def _within(short: Sighting, whole: Sighting) -> bool:
        return (
            short.key.session == whole.key.session
            and whole.start <= short.start
            and short.end <= whole.end
            and whole.end - whole.start > short.end - short.start
        )

    def _part_of(self, short: Sighting, whole: Sighting) -> bool:
        """Whether a sighting is all the time near to a longer one, and alike; found once: how that goes on changes nothing."""
        revision, known = self._is_part.get(short.key, (0, {}))
        if revision != short.revision:
            known = {}
            self._is_part[short.key] = short.revision, known
        if whole.key not in known:
            known[whole.key] = _near(short, whole) and self._alike(short.key, whole.key)
        return known[whole.key]

    def _alike(self, one: SightingKey, other: SightingKey) -> bool:
        own, row = self.rows.own, self.rows.row
        return bool(evidence(self._calibration, own.take([row[one]]), own.take([row[other]]))[0, 0] >= ALIKE)

    def _side(self, sighting: Sighting) -> Sides:
        if len(sighting.prototypes):
            return side(sighting.prototypes, sighting.quality, sighting.pictures)
        return unknown(1, self.rows.own.means.shape[1])  # nothing is known of its looks

    def look(self, now_s: float, *, anew: bool = False) -> None:
        """Link what is open anew, and learn times from it; `anew` finds whom each may follow, also where that is not due."""
        rows = self.rows
        if anew:
            self._due.clear()
        columns = self._columns()
        self._make_chains(columns)
        self._find(columns, now_s)
        earlier, column, looks = self._edges(columns)
        later = columns[column]
        odds = looks + self._log_odds(earlier, later, now_s) + self._continuity(earlier, later)
        kept = odds > HOPELESS
        earlier, later, column, odds = earlier[kept], later[kept], column[kept], odds[kept]
        probability = edge_marginals(np.exp(np.minimum(odds, CERTAIN)), earlier, column)
        self._choose(columns, earlier, column, probability)
        self._seen_edges = (columns, earlier, column, probability)
        before, self.now = self.now, self.passages.copy()
        self._learn(self.now, columns, earlier, later, probability)
        tails = np.flatnonzero(rows.there & ~rows.followed)
        gone = rows.left[tails] - np.bincount(earlier, probability, minlength=len(rows.start))[tails]
        origin = rows.origin[tails]
        gone = np.maximum(gone, 0) * np.minimum(1, before.end(origin) / before.unseen(origin, now_s - rows.end[tails]))
        np.add.at(self.now.ended, origin, gone)
        self.now.lasted_s = 0.0 if self.first_s is None else now_s - self.first_s
        self.now.settle()

    def _columns(self) -> Int64:
        """The rows of what may follow others, in order of (start, key)."""
        row, there = self.rows.row, self.rows.there
        columns = np.array([row[key] for _, key in self._order], np.int64)
        return columns[there[columns]]

    def _edges(self, columns: Int64) -> tuple[Int64, Int64, Float64]:
        """Whom each of `columns` may follow: the row of the earlier, the place in `columns` of the later, what looks say."""
        found = [self._found[row] for row in columns.tolist()]
        sizes = [len(each) for each, _, _ in found]
        column = np.repeat(np.arange(len(columns)), sizes)
        earlier = np.concatenate([np.zeros(0, np.int64), *(each for each, _, _ in found)])
        looks = np.concatenate([np.zeros(0), *(each for _, each, _ in found)])
        born = np.repeat(np.array([each for _, _, each in found], np.int64), sizes)
        same = self.rows.born[earlier] <= born  # the row is still the same sighting's
        return earlier[same], column[same], looks[same]

    def settle(self, before_s: float) -> list[SightingKey]:
        """Fix the links of all sightings that ended before a time, as they were at the last look; those, in order."""
        rows = self.rows
        over = [key for _, key in self._order if rows.end[rows.row[key]] < before_s]
        if not over:
            return []
        columns, earlier, column, probability = self._seen_edges
        closing = rows.end[columns] < before_s
        self._make_chains(columns)
        mine = closing[column]
        self._learn(self.passages, columns[closing], earlier[mine], columns[column[mine]], probability[mine])
        np.subtract.at(rows.left, earlier[mine], probability[mine])
        np.maximum(rows.left, 0.0, out=rows.left)
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
        for key in settled:
            if key not in self.open:
                continue
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
        self.rows.drop(key)

    def _find(self, columns: Int64, now_s: float) -> None:
        """Find whom each of the later sightings `columns` may follow, where that is due: soon at first, then more rarely."""
        rows = self.rows
        due = columns[[now_s >= self._due.get(row, -math.inf) for row in columns.tolist()]] if len(columns) else columns
        tails = np.flatnonzero(rows.there & ~rows.followed)
        for first in range(0, len(due), BLOCK):
            block = due[first : first + BLOCK]
            least = HOPELESS - MOST * max(curve.upper for _, curve in self._calibration.curves)
            odds = self._log_odds(tails[:, None], block[None, :], now_s)
            i, j = np.nonzero(odds > least)
            earlier, later = tails[i], block[j]
            looks = self._looks(tails, block, i, j)
            kept = odds[i, j] + looks > HOPELESS - 2
            earlier, looks, j = earlier[kept], looks[kept], j[kept]
            for number, row in enumerate(block.tolist()):
                mine = j == number
                self._found[row] = earlier[mine], looks[mine], rows.births
                self._due[row] = now_s + max(EVERY_S, LATER * (now_s - float(rows.start[row])))

    def _looks(self, tails: Int64, block: Int64, i: Int64, j: Int64) -> Float64:
        """What looks say of each link from `tails[i]` to `block[j]`."""
        rows = self.rows
        one, other = rows.so_far, rows.from_here
        earlier, later = tails[i], block[j]
        similarity = (one.means[tails] @ other.means[block].T)[i, j]
        looks = weighed(
            self._calibration,
            similarity,
            pictures=(one.pictures[earlier], other.pictures[later]),
            quality=np.minimum(one.quality[earlier], other.quality[later]),
        )
        result: Float64 = TRUST * chained(looks, rows.many_so_far[earlier], rows.many_from_here[later])
        return result

    def _log_odds(self, earlier: Int64, later: Int64, now_s: float) -> Float64:
        """The log odds of each link, by way and time, against the later sighting's being somebody new; broadcasts."""
        rows = self.rows
        gap_s = rows.start[later] - rows.end[earlier]
        both = self._both[rows.camera[earlier], rows.camera[later]]
        possible = ((gap_s > -SLACK_S) | both) & (gap_s < self._reentry_s)
        possible &= rows.there[earlier] & ~rows.followed[earlier] & (earlier != later)
        possible &= (rows.start[earlier] < rows.start[later]) | (
            (rows.start[earlier] == rows.start[later]) & (earlier < later)
        )
        origin, target = rows.origin[earlier], rows.target[later]
        density = self.now.log_density(origin, target, gap_s, at_once_s=np.where(both, OVERLAP_S, SLACK_S))
        unseen = self.now.unseen(rows.origin, now_s - rows.end)
        odds = density - self.now.log_new()[target] + np.log(np.maximum(rows.left, 1e-9) / unseen)[earlier]
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
            known = self.links.get(key)
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
            self._join(key, link)

    def _link(self, later: SightingKey, best: int, earlier: Int64, probability: Float64) -> Link:
        first = min(1.0, float(probability[best]))
        others = np.where(np.arange(len(probability)) == best, 0.0, probability)
        second = int(others.argmax())
        likely = round(min(float(others[second]), first, 1.0 - first), 6)
        return Link(
            self.rows.key[int(earlier[best])],
            later,
            1,
            round(first, 6),
            self.rows.key[int(earlier[second])] if likely > 0 else None,
            likely,
        )

    def _join(self, key: SightingKey, link: Link) -> None:
        self.links[key] = link
        self.after[link.earlier] = key
        self.changed.update((key, link.earlier))

    def _unlink(self, later: SightingKey) -> None:
        link = self.links.pop(later, None)
        if link is not None:
            self.changed.update((later, link.earlier))
            if self.after.get(link.earlier) == later:
                del self.after[link.earlier]

    def _make_chains(self, columns: Int64) -> None:
        """Put together what is known of each open sighting's person up to it and from it on, where links have changed."""
        rows, stamps = self.rows, self._made_of
        order = columns.tolist()
        for row in order:
            link = self.links.get(rows.key[row])
            before = rows.row[link.earlier] if link is not None else -1
            self._combine(rows.so_far, "so_far", row, before, stamps)
        for row in reversed(order):
            later = self.after.get(rows.key[row])
            self._combine(rows.from_here, "from_here", row, rows.row.get(later, -1) if later is not None else -1, stamps)

    def _combine(
        self, sides: Sides, name: str, row: int, other: int, stamps: dict[tuple[int, str], tuple[int, int, int]]
    ) -> None:
        """Make what is known of a chain at `row` of the sighting itself and of the chain at row `other`, -1 for none."""
        stamp = (other, hash(stamps.get((other, name), 0)) if other >= 0 else 0, self._revision[row])
        if stamps.get((row, name)) == stamp:
            return
        stamps[row, name] = stamp
        own, many = self.rows.own, self.rows.many_so_far if name == "so_far" else self.rows.many_from_here
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


def _near(short: Sighting, whole: Sighting) -> bool:
    """Whether a sighting is all the time near to a longer one of the same camera."""
    if not len(short.path) or not len(whole.path) or short.path_on != whole.path_on:
        return False
    seconds = short.path[:, 0] + (short.start - whole.start).total_seconds()
    there = np.stack([np.interp(seconds, whole.path[:, 0], whole.path[:, axis]) for axis in (1, 2)], axis=1)
    off = np.linalg.norm(short.path[:, 1:] - there, axis=1)
    return bool(float(np.median(off)) <= (PART_M if short.path_on == "floor" else PART))


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
