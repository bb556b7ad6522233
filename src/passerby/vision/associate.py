"""Sightings of all cameras to links and visits, online; nothing here knows of pictures, nor looks at a clock."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from passerby.reid.calibration import Calibration
from passerby.reid.evidence import Sides, evidence, side
from passerby.shop import Link, Sighting, SightingKey, Visit
from passerby.types import Float32, Float64, Int64
from passerby.vision.transit import Passages

WATERMARK_S = 5.0  # how long a late sighting is waited for
EVERY_S = 5.0  # from one look at the open window to the next
WINDOW_S = 900.0  # a link may be revised for so long after its later sighting began
SLACK_S = 2.0  # by which one person's sightings in two cameras may overlap: boxes come early and go late
HOPELESS = -6.0  # log odds under which a link is not looked at
UNLIKELY = 0.02  # nothing is learnt of links less probable than this
BROKEN_S = 4.0  # a track that goes on in the same camera after so long a time at most may only have broken;
STEP_M, SPEED_M_S, VIEW_M2 = 0.5, 0.8, 30.0  # it then goes on near by: on the floor, a camera seeing so much of it,
STEP, SPEED = 0.06, 0.12  # or in fractions of the picture
NEIGHBOURS = 60  # sightings in order of time, among which a longer one is looked for
FAR = 6.0  # the most that place says against it, in log odds: feet are wrong at times
PART_M, PART = 0.6, 0.07  # a track that stays so near to a longer one is a part of the same person
ROUNDS = 30  # of message passing
LAST_LOOKS = 5  # with which a recording ends


@dataclass(frozen=True, slots=True)
class Changes:
    """What has become known: the new revisions of links and of visits."""

    links: tuple[Link, ...] = ()
    visits: tuple[Visit, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    """The sightings that are known, in order of their start, as arrays; `earlier` and `later` are the rows that may yet be
    linked: those that nothing certain follows, and those whose own link may be revised."""

    rows: list[Sighting]
    camera: Int64
    own: Sides
    chain: Sides  # of each, all that is known of the person up to it
    earlier: Int64
    later: Int64
    gap_s: Float64  # (earlier, later)

    def places(self, end: Literal["first", "last"]) -> Float64:
        """The first or the last known place of each sighting: (rows, 4) time in seconds, x, y, and 1 for metres."""
        found = np.full((len(self.rows), 4), np.nan)
        for row, sighting in enumerate(self.rows):
            if len(sighting.path):
                seconds, x, y = sighting.path[0 if end == "first" else -1].tolist()
                found[row] = sighting.start.timestamp() + seconds, x, y, sighting.path_on == "floor"
        return found


class Associator:
    """Links the sightings of one site to visits, each link with its probability; revised while its window is open.

    `take` gives it a revision of a sighting, `advance` the time; what comes out does not depend on the order of arrival within
    the window. A sighting follows at most one other, and is followed by at most one. The odds of a link against a new
    person's coming are what appearance says (`reid.evidence`, against all that is known of the person so far) times what way
    and time say (`Passages`, learnt here). From the odds of all that compete follow the probabilities
    (`matching_marginals`); of the likeliest matching, the links from `threshold` on are kept.

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
        self._links: dict[SightingKey, Link] = {}  # by the later sighting
        self._hidden: set[SightingKey] = set()  # second tracks on somebody
        self._fixed: set[SightingKey] = set()  # later sightings whose link is not revised any more
        self._passages = Passages(len(cameras))  # learnt of what is fixed,
        self._now = self._passages.copy()  # and of what is open, too
        self._told_links: dict[SightingKey, Link] = {}
        self._told_visits: dict[str, Visit] = {}
        self._first: datetime | None = None
        self._looked: datetime | None = None
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
            self._look(until)
        return self._changes(until, final=True)

    def _let_in(self, until: datetime) -> None:
        """Of each sighting, the newest revision that ends by `until` takes the place of what was known."""
        for key in list(self._waiting):
            ready = [sighting for sighting in self._waiting[key] if sighting.end <= until]
            if not ready:
                continue
            newest = max(ready, key=lambda sighting: sighting.revision)
            left = [s for s in self._waiting[key] if s.end > until and s.revision > newest.revision]
            if left:
                self._waiting[key] = left
            else:
                del self._waiting[key]
            if newest.state == "withdrawn":
                for kept in (self._seen, self._sides, self._links):
                    kept.pop(key, None)
                self._fixed.discard(key)
                continue
            self._first = newest.start if self._first is None else min(self._first, newest.start)
            self._seen[key] = newest
            if any(crossing.line in self._doors for crossing in newest.crossings):
                self._door_cameras.add(key.camera)

    def _look(self, until: datetime) -> None:
        """Link what is open anew, and learn times from it."""
        found = self._open()
        if found is None:
            return
        weights = self._weights(found)
        probability = matching_marginals(weights)
        self._now = self._passages.copy()
        self._learn(self._now, found, probability, until, fixed=False)
        for column, row in enumerate(best_matching(weights)):
            self._link(found, probability[:, column], found.rows[found.later[column]].key, row)
        past = np.array([found.rows[row].start < until - self._window for row in found.later.tolist()], bool)
        if past.any():
            closing = replace(found, later=found.later[past], gap_s=found.gap_s[:, past])
            self._learn(self._passages, closing, probability[:, past], until, fixed=True)
            self._fixed |= {found.rows[row].key for row in closing.later.tolist()}

    def _open(self) -> _Open | None:
        rows = sorted(self._seen.values(), key=lambda sighting: (sighting.start, sighting.key))
        self._hidden = parts = self._parts(rows)
        rows = [sighting for sighting in rows if sighting.key not in parts]
        if not rows:
            return None
        place = {sighting.key: row for row, sighting in enumerate(rows)}
        self._links = {key: link for key, link in self._links.items() if key in place and link.earlier in place}
        followed = {place[link.earlier] for key, link in self._links.items() if key in self._fixed}
        own = [self._side(sighting) for sighting in rows]
        means: list[Float32] = []
        pictures: list[float] = []
        quality: list[float] = []
        for row, sighting in enumerate(rows):
            mean, count, best = own[row].means[0], float(own[row].pictures[0]), float(own[row].quality[0])
            link = self._links.get(sighting.key)
            before = place[link.earlier] if link else None
            if before is not None and quality[before] > 0:
                if best > 0:
                    worth = count + pictures[before]
                    mean = (mean * count + means[before] * pictures[before]) / worth
                    count, best = worth, max(best, quality[before])
                else:
                    mean, count, best = means[before], pictures[before], quality[before]
            means.append(mean)
            pictures.append(count)
            quality.append(best)
        start, end = (np.array([getattr(s, name).timestamp() for s in rows]) for name in ("start", "end"))
        earlier = np.array([row for row in range(len(rows)) if row not in followed], np.int64)
        later = np.array([row for row, s in enumerate(rows) if s.key not in self._fixed], np.int64)
        return _Open(
            rows,
            np.array([self._number[s.key.camera] for s in rows], np.int64),
            Sides(*(np.concatenate([getattr(one, name) for one in own]) for name in ("means", "pictures", "quality"))),
            Sides(np.array(means, np.float32), np.array(pictures), np.array(quality, np.float32)),
            earlier,
            later,
            start[later][None, :] - end[earlier][:, None],
        )

    def _parts(self, rows: Sequence[Sighting]) -> set[SightingKey]:
        """Sightings that are a second track on somebody: all the time near to a longer one of the same camera, and alike."""
        parts: set[SightingKey] = set()
        for row, short in enumerate(rows):
            for other in rows[max(0, row - NEIGHBOURS) : row + NEIGHBOURS]:
                if (
                    other.key.camera == short.key.camera
                    and other.key.session == short.key.session
                    and other.start <= short.start
                    and short.end <= other.end
                    and other.end - other.start > short.end - short.start
                    and self._is_part(short, other)
                ):
                    parts.add(short.key)
                    break
        return parts

    def _is_part(self, short: Sighting, whole: Sighting) -> bool:
        if not len(short.path) or not len(whole.path) or short.path_on != whole.path_on:
            return False
        seconds = short.path[:, 0] + (short.start - whole.start).total_seconds()
        there = np.stack([np.interp(seconds, whole.path[:, 0], whole.path[:, axis]) for axis in (1, 2)], axis=1)
        off = np.linalg.norm(short.path[:, 1:] - there, axis=1)
        if float(np.median(off)) > (PART_M if short.path_on == "floor" else PART):
            return False
        return bool(evidence(self._calibration, self._side(short), self._side(whole))[0, 0] >= 0)

    def _side(self, sighting: Sighting) -> Sides:
        known = self._sides.get(sighting.key)
        if known is not None and known[0] == sighting.revision:
            return known[1]
        if len(sighting.prototypes):
            made = side(sighting.prototypes, sighting.quality, sighting.pictures)
        else:  # nothing is known of its looks
            length = next((s.prototypes.shape[1] for s in self._seen.values() if len(s.prototypes)), 1)
            return Sides(np.zeros((1, length), np.float32), np.ones(1), np.zeros(1, np.float32))
        self._sides[sighting.key] = (sighting.revision, made)
        return made

    def _weights(self, found: _Open) -> Float64:
        """The odds (earlier, later) of each link against the later sighting's being the first of a new person."""
        origin, target = found.camera[found.earlier][:, None], found.camera[found.later][None, :]
        possible = (found.gap_s > -SLACK_S) | self._both[origin, target]
        possible &= found.gap_s < self._reentry.total_seconds()
        possible &= found.earlier[:, None] < found.later[None, :]  # in order of their start
        ratio = evidence(self._calibration, found.chain.take(found.earlier), found.own.take(found.later))
        odds = ratio + self._now.log_density(origin, target, found.gap_s) - self._now.log_new()[target]
        odds += self._continuity(found, origin == target)
        weights: Float64 = np.where(possible & (odds > HOPELESS), np.exp(np.clip(odds, -50, 50)), 0.0)
        return weights

    def _continuity(self, found: _Open, same: NDArray[np.bool_]) -> Float64:
        """What place says where a track may only have broken: log odds (earlier, later), 0 for other pairs.

        In one camera, within `BROKEN_S`, somebody is near to where they were last seen, and a new person anywhere.
        """
        last, first = found.places("last")[found.earlier], found.places("first")[found.later]
        gap = np.abs(first[None, :, 0] - last[:, None, 0])  # NaN where a place is not known
        on_floor = first[None, :, 3] * last[:, None, 3] > 0
        off = np.hypot(first[None, :, 1] - last[:, None, 1], first[None, :, 2] - last[:, None, 2])
        spread = np.where(on_floor, STEP_M + SPEED_M_S * gap, STEP + SPEED * gap)
        area = np.where(on_floor, VIEW_M2, 1.0)
        odds = np.log(area / (2 * math.pi * spread**2)) - off**2 / (2 * spread**2)
        near: Float64 = np.where(same & (gap < BROKEN_S), np.maximum(odds, -FAR), 0.0)  # NaN is under nothing
        return near

    def _learn(self, passages: Passages, found: _Open, probability: Float64, until: datetime, *, fixed: bool) -> None:
        """Teach `passages` how the later sightings came, and, of what is open, who has not been seen again for long."""
        assert self._first is not None
        i, j = np.nonzero(probability > UNLIKELY)
        origin, target = found.camera[found.earlier], found.camera[found.later]
        passages.learn(origin[i], target[j], found.gap_s[i, j], probability[i, j])
        np.add.at(passages.new, target, 1 - np.minimum(1, probability.sum(axis=0)))
        passages.lasted_s = (until - self._first).total_seconds()
        if not fixed:
            ended = 1 - np.minimum(1, probability.sum(axis=1))
            np.add.at(passages.ended, origin, ended)

    def _link(self, found: _Open, probability: Float64, later: SightingKey, row: int | None) -> None:
        """Keep the link to a sighting from row `row` of the earlier ones, of these probabilities (earlier,), or none."""
        if row is None or probability[row] < self.threshold:
            self._links.pop(later, None)
            return
        first = min(1.0, float(probability[row]))
        others = np.where(np.arange(len(probability)) == row, 0.0, probability)
        second = int(others.argmax())
        likely = min(float(others[second]), first, 1.0 - first)
        self._links[later] = Link(
            found.rows[found.earlier[row]].key,
            later,
            1,
            round(first, 6),
            found.rows[found.earlier[second]].key if likely > 1e-6 else None,
            round(likely, 6) if likely > 1e-6 else 0.0,
        )

    def _changes(self, until: datetime, *, final: bool = False) -> Changes:
        """The new revisions of links and visits since they were last told."""
        links = []
        for key in sorted(self._links):
            link, known = self._links[key], self._told_links.get(key)
            if known is not None:
                link = replace(link, revision=known.revision)
                if link == known:
                    continue
                link = replace(link, revision=known.revision + 1)
            self._told_links[key] = link
            links.append(link)
        visits = []
        there = {visit.name: visit for chain in self._people() for visit in self._visits(chain, until, final=final)}
        holder = {key: visit.name for visit in there.values() for key in visit.sightings}
        for name, told in list(self._told_visits.items()):
            if name not in there and told.merged_into is None and not told.final:
                into = holder.get(told.sightings[0])
                if into is None:  # withdrawn, or found to be a passer-by
                    continue
                there[name] = replace(told, sightings=(), merged_into=into, split_from=None, final=final)
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
            visits.append(visit)
        return Changes(tuple(links), tuple(visits))

    def _people(self) -> list[list[Sighting]]:
        """The chains of linked sightings, each in order."""
        after = {link.earlier: key for key, link in self._links.items()}
        chains = []
        for key in sorted(self._seen):
            if key not in self._links and key not in self._hidden:
                chain, at = [], key
                while at is not None and at in self._seen:
                    chain.append(self._seen[at])
                    at = after.get(at)  # type: ignore[assignment]  # None ends the chain
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
        for chain in self._people():
            if all(s.state == "closed" and s.end < until - self._reentry - self._window for s in chain):
                for sighting in chain:
                    for kept in (self._seen, self._sides, self._links, self._told_links):
                        kept.pop(sighting.key, None)
                    self._fixed.discard(sighting.key)
                    self._told_visits.pop(_name(sighting.key), None)


def matching_marginals(weights: Float64, *, rounds: int = ROUNDS) -> Float64:
    """The probability of each link (earlier, later), where each side takes part in one link or in none.

    `weights` (earlier, later) are the odds of a link against none, from 0. By belief propagation, which is exact where links
    do not compete in circles: Williams and Lau, "Approximate evaluation of marginal association probabilities with belief
    propagation", IEEE Transactions on Aerospace and Electronic Systems, 2014.

    >>> matching_marginals(np.array([[3.0], [1.0]])).round(2).tolist()
    [[0.6], [0.2]]
    """
    if not weights.size:
        return weights
    back = np.ones_like(weights)  # from the later to the earlier
    for _ in range(rounds):
        offered = weights * back
        forth = weights / (1 + offered.sum(axis=1, keepdims=True) - offered)
        back = 1 / (1 + forth.sum(axis=0, keepdims=True) - forth)
    offered = weights * back
    result: Float64 = offered / (1 + offered.sum(axis=1, keepdims=True))
    return result


def best_matching(weights: Float64) -> list[int | None]:
    """For each later sighting the row of the earlier one that the likeliest matching links it to; None for a new person.

    `weights` are those of `matching_marginals`; a link with odds under 1 is none.
    """
    from scipy.optimize import linear_sum_assignment

    gain = np.log(np.maximum(weights, 1.0))  # 0: no better than no link
    rows, columns = linear_sum_assignment(gain, maximize=True)
    found: list[int | None] = [None] * weights.shape[1]
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if gain[row, column] > 0:
            found[column] = row
    return found


def _name(key: SightingKey) -> str:
    return hashlib.sha256("\x00".join(map(str, key)).encode()).hexdigest()[:12]
