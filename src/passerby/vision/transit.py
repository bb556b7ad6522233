"""Who goes where and how long it takes: times between cameras and their density."""

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passerby.types import Float64, Int64

LEARNT = ("counts", "both", "ended", "new")  # what `Passages` has learnt
OVERLAP_S = 60.0  # the longest that one person's sightings in two cameras overlap


@dataclass(frozen=True, slots=True)
class Transit:
    """How people go from camera to camera, learnt where the truth is known; arrays are (cameras, cameras), from and to.

    `share` of those last seen in the first are next seen in the second (rows sum to 1 or less), of whom `overlapping`
    are in both at once; the others after a log-normal time with `mean` and `deviation` of its logarithm; `low` and
    `high` hold 98 % of the times. `new_per_s` (cameras,) people whom no camera saw before; `first` is their share.
    """

    share: Float64
    overlapping: Float64
    mean: Float64
    deviation: Float64
    low: Float64
    high: Float64
    new_per_s: Float64
    first: float


def learn_transit(
    start_s: Float64,
    end_s: Float64,
    camera: NDArray[np.int64],
    links: Sequence[tuple[int, int]],
    *,
    cameras: int,
    duration_s: float,
) -> Transit:
    """Count and time the ways between cameras.

    `start_s`, `end_s` and `camera` are (n,), a row a sighting; `links` are rows (earlier, later) that are one person. A count
    is added to each way, so that none is impossible.
    """
    gaps: list[list[list[float]]] = [[[] for _ in range(cameras)] for _ in range(cameras)]
    follows, followed = np.zeros(len(camera), np.bool_), np.zeros(len(camera), np.bool_)
    for a, b in links:
        gaps[camera[a]][camera[b]].append(float(start_s[b] - end_s[a]))
        followed[a], follows[b] = True, True
    new = 1 + np.bincount(camera[~follows], minlength=cameras)
    ended = 1 + np.bincount(camera[~followed], minlength=cameras)
    counts = np.array([[len(cell) for cell in row] for row in gaps], np.float64)
    every = np.concatenate([np.array(cell) for row in gaps for cell in row] or [np.zeros(0)])
    wide = np.log(np.maximum(every[every > 0], 0.1)) if (every > 0).any() else np.array([math.log(30.0)])

    def figure(of: Callable[[Float64], float]) -> Float64:
        figures: Float64 = np.array([[of(np.array(cell)) for cell in row] for row in gaps])
        return figures

    def logs(cell: Float64) -> Float64:
        """The logarithms of the times of a cell, and of two of all cells, so that none is empty."""
        known = np.log(np.maximum(cell[cell > 0], 0.1))
        return np.concatenate([known, [wide.mean() - wide.std(), wide.mean() + wide.std()]])

    return Transit(
        share=(counts + 1 / cameras) / (counts.sum(axis=1) + 1 + ended)[:, None],
        overlapping=figure(lambda cell: float((cell <= 0).sum() + 0.05) / (len(cell) + 1)),
        mean=figure(lambda cell: float(logs(cell).mean())),
        deviation=figure(lambda cell: float(max(0.1, logs(cell).std()))),
        low=figure(lambda cell: float(np.quantile(cell, 0.01)) if len(cell) else math.inf),
        high=figure(lambda cell: float(np.quantile(cell, 0.99)) if len(cell) else -math.inf),
        new_per_s=new / duration_s,
        first=float(new.sum() / max(1, len(camera))),
    )


def log_density(transit: Transit, origin: NDArray[np.int64], target: int, gap_s: Float64) -> Float64:
    """The logarithm of how likely, per second, who was last seen in `origin` (n,) is next seen in `target` after `gap_s`."""
    share, both = transit.share[origin, target], transit.overlapping[origin, target]
    mean, deviation = transit.mean[origin, target], transit.deviation[origin, target]
    logs = np.log(np.maximum(gap_s, 0.1))
    later = (
        -0.5 * ((logs - mean) / deviation) ** 2 - logs - np.log(deviation * math.sqrt(2 * math.pi)) + np.log1p(-both)
    )
    result: Float64 = np.log(share) + np.where(gap_s > 0, later, np.log(both / OVERLAP_S))
    return result


class Passages:
    """Who goes where and how long it takes, learnt without labels: from links, each weighted by its probability.

    A sighting ends in one of two ways for each camera, by going out of a door or not, and begins in one of two, by coming in or
    not: `origin` and `target` are 2 * camera, and 1 more at a door. Each pair keeps a histogram of the logarithm of the time
    between; what it has seen little of it takes from its kind (passages to another camera, returns to the same one, re-entries
    through a door), and that from a broad guess. Whom a camera in between missed is in the histogram of the other two.
    """

    BINS, LEAST_S, MOST_S = 36, 0.5, 4 * 3600.0  # of the time; shorter ones are taken for the least
    STEP = math.log(MOST_S / LEAST_S) / (BINS - 1)
    KINDS = ((20.0, 1.5), (30.0, 2.0), (900.0, 1.5))  # median seconds and log-deviation, before anything is known
    KIND_BEFORE, PAIR_BEFORE = 6.0, 4.0  # how many links the guess, and the kind, weigh as much as
    GOES_ON, ENDS, ENDS_OUTSIDE = (
        2.0,
        1.0,
        4.0,
    )  # sightings that went on, and that were the last, before anything is known
    NEW_EVERY_S = 60.0  # a new person a camera and way of beginning, before anything is known
    OVERLAPS = 0.05  # the part that is in two cameras at once, before anything is known

    def __init__(self, cameras: int) -> None:
        states = 2 * cameras
        self.counts: Float64 = np.zeros((states, states, self.BINS))  # from, to, bin of the time
        self.both: Float64 = np.zeros((states, states))  # in both at once
        self.ended: Float64 = np.zeros(states)
        self.new: Float64 = np.zeros(states)
        self.lasted_s = 0.0
        state = np.arange(states)
        kind = np.where(state[:, None] // 2 == state[None, :] // 2, 1, 0)
        kind[1::2, :] = kind[:, 1::2] = 2  # a line misses some: one of both through a door is enough
        self._kind: NDArray[np.int64] = kind
        self._of_kind = [np.flatnonzero(kind == number) for number in range(len(self.KINDS))]
        middle = math.log(self.LEAST_S) + self.STEP * np.arange(self.BINS)
        guess = np.exp([-(((middle - math.log(median)) / spread) ** 2) / 2 for median, spread in self.KINDS])
        self._guess: Float64 = guess / guess.sum(axis=1, keepdims=True)
        self._logs: Float64 = np.zeros((states, states, self.BINS))
        self._log_both: Float64 = np.zeros((states, states))
        self._most: Float64 = np.zeros((states, states, self.BINS))
        self._left: Float64 = np.zeros((states, self.BINS))
        self._end: Float64 = np.zeros(states)
        self.settle()

    def copy(self) -> "Passages":
        """One that learns on its own from here on."""
        twin = copy(self)
        for name in LEARNT:
            setattr(twin, name, getattr(self, name).copy())
        return twin

    def learn(self, origin: Int64, target: Int64, gap_s: Float64, probability: Float64) -> None:
        """Take in links (n,): ways of ending and of beginning, seconds between, and how probable each is."""
        at_once = gap_s <= 0
        np.add.at(self.both, (origin[at_once], target[at_once]), probability[at_once])
        origin, target, probability = origin[~at_once], target[~at_once], probability[~at_once]
        bin_, part = self._bin(gap_s[~at_once])
        np.add.at(self.counts, (origin, target, bin_), probability * (1 - part))
        np.add.at(self.counts, (origin, target, bin_ + 1), probability * part)

    def correct(self, camera: int, ahead_s: float) -> None:
        """Bring times from and to a camera to what they are by its clock's right time; it was so far ahead.

        Who was in two places at once, or would now be, is forgotten.
        """
        mine, others = (np.flatnonzero((np.arange(len(self.new)) // 2 == camera) == there) for there in (True, False))
        middle_s = self.LEAST_S * np.exp(self.STEP * np.arange(self.BINS))
        for origins, targets, by_s in ((mine, others, ahead_s), (others, mine, -ahead_s)):
            pairs = np.ix_(origins, targets)
            known, moved_s = self.counts[pairs], middle_s + by_s
            self.counts[pairs], self.both[pairs] = 0.0, 0.0
            bin_, part = self._bin(moved_s)
            for old in np.flatnonzero(moved_s > 0).tolist():
                for new, share in ((bin_[old], 1 - part[old]), (bin_[old] + 1, part[old])):
                    self.counts[(*pairs, new)] += share * known[:, :, old]
        self.settle()

    def settle(self) -> None:
        """Make what was learnt the answer of `log_density` and `unseen`."""
        quarter, smooth = self.counts / 4, self.counts / 2
        smooth[:, :, 1:] += quarter[:, :, :-1]
        smooth[:, :, 0] += quarter[:, :, 0]
        smooth[:, :, :-1] += quarter[:, :, 1:]
        smooth[:, :, -1] += quarter[:, :, -1]
        kinds = np.stack([smooth.reshape(-1, self.BINS)[of_kind].sum(axis=0) for of_kind in self._of_kind])
        kinds += self.KIND_BEFORE * self._guess
        kinds /= kinds.sum(axis=1, keepdims=True)
        times = smooth
        times += (self.PAIR_BEFORE * kinds)[self._kind]
        times /= times.sum(axis=2, keepdims=True)
        states = len(self.new)
        seen = self.counts.sum(axis=2) + self.both
        before = self.ends_before()
        total = seen.sum(axis=1) + self.GOES_ON + self.ended + before
        share = (seen + self.GOES_ON / states) / total[:, None]
        at_once = (self.both + self.OVERLAPS) / (seen + 1)
        self._end = (self.ended + before) / total
        self._logs = np.log(times / self.STEP)
        self._logs += np.log(share * (1 - at_once))[:, :, None]
        self._log_both = np.log(share * at_once)
        middle_s = np.exp(math.log(self.LEAST_S) + self.STEP * np.arange(-1, self.BINS - 1))
        most = self._logs - np.log(np.maximum(middle_s, self.LEAST_S))  # of the time from the bin before on
        self._most = np.maximum.accumulate(most[:, :, ::-1], axis=2)[:, :, ::-1]
        self._most[:, :, 0] = np.maximum(self._most[:, :, 0], self._log_both)
        later = (
            times[:, :, ::-1].cumsum(axis=2)[:, :, ::-1] - times / 2
        )  # the part that takes longer than each bin's middle
        self._left = self._end[:, None] + np.einsum("ot,otb->ob", share * (1 - at_once), later)

    def log_density(self, origin: Int64, target: Int64, gap_s: Float64, *, at_once_s: Float64 | float) -> Float64:
        """The logarithm of how likely, per second, who ended in `origin` is next seen in `target` after `gap_s`.

        All three broadcast to one shape. Overlaps are spread over `at_once_s`.
        """
        bin_, part = self._bin(gap_s)
        logs = self._logs[origin, target, bin_] * (1 - part) + self._logs[origin, target, bin_ + 1] * part
        later = logs - np.log(np.maximum(gap_s, self.LEAST_S))
        result: Float64 = np.where(gap_s > 0, later, self._log_both[origin, target] - np.log(at_once_s))
        return result

    def most(self, origin: Int64, targets: Int64, least_s: Float64) -> Float64:
        """The most that `log_density` less `log_new` can be for any of `targets` and times from `least_s` on: (n,)."""
        bin_, _ = self._bin(least_s)
        result: Float64 = (self._most[:, targets] - self.log_new()[targets, None]).max(axis=1)[origin, bin_]
        return result

    def unseen(self, origin: Int64, since_s: Float64) -> Float64:
        """The probability that who ended in `origin` (n,) has not been seen again after `since_s`, or ever will be."""
        bin_, part = self._bin(since_s)
        left = self._left[origin, bin_] * (1 - part) + self._left[origin, bin_ + 1] * part
        result: Float64 = np.where(since_s > self.LEAST_S, left, 1.0)
        return result

    def ends_before(self) -> Float64:
        """How many sightings were the last in each way of ending (states,), before anything is known."""
        before: Float64 = np.where(np.arange(len(self.new)) % 2, self.ENDS_OUTSIDE, self.ENDS)
        return before

    def share(self) -> Float64:
        """The part of those who ended in each way that is next seen in each (states, states)."""
        seen = self.counts.sum(axis=2) + self.both
        total = seen.sum(axis=1) + self.GOES_ON + self.ended + self.ends_before()
        share: Float64 = (seen + self.GOES_ON / len(self.new)) / total[:, None]
        return share

    def later(self, origin: Int64, since_s: Float64) -> Float64:
        """The part of those who went on from `origin` (n,) to each state that does so later than `since_s`: (n, states)."""
        at_once = (self.both + self.OVERLAPS) / (self.counts.sum(axis=2) + self.both + 1)
        times = np.exp(self._logs - np.log(self.share() * (1 - at_once))[:, :, None]) * self.STEP
        left = times[:, :, ::-1].cumsum(axis=2)[:, :, ::-1] - times / 2
        bin_, part = self._bin(since_s)
        later = left[origin, :, bin_] * (1 - part)[:, None] + left[origin, :, bin_ + 1] * part[:, None]
        result: Float64 = np.where((since_s > self.LEAST_S)[:, None], later * (1 - at_once)[origin], 1.0)
        return result

    def end(self, origin: Int64) -> Float64:
        """The probability that who ended in `origin` (n,) is never seen again."""
        return self._end[origin]

    def log_new(self) -> Float64:
        """The logarithm of how many people a second are seen for the first time in each way of beginning."""
        result: Float64 = np.log((1 + self.new) / (self.NEW_EVERY_S + self.lasted_s))
        return result

    def _bin(self, gap_s: Float64) -> tuple[Int64, Float64]:
        """The bin below each time, and how far it is on the way to the next."""
        at = np.log(np.clip(gap_s, self.LEAST_S, self.MOST_S) / self.LEAST_S) / self.STEP
        below = np.minimum(at.astype(np.int64), self.BINS - 2)
        return below, at - below
