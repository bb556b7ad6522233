"""Chains of sightings drawn at random: a Markov chain over matchings, many of them side by side.

In a matching each sighting follows one other at most, and is followed by one at most. Here lives how one matching becomes
another one, and how probable each is; what the odds are of, and what is counted, stands in `vision.window`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passerby.types import Float32, Float64, Int64

LEVELS = 256  # of what looks say: 0 for nothing, the others evenly between
STRONGEST = 16.0  # a log-likelihood ratio
CROWD = 30  # of so many sightings one takes part in a proposal of each step
PLAIN, THROUGH = (
    0.6,
    0.8,
)  # up to these of 1: change one link or two; take one out of a chain or put one in; exchange two
TILT, LEAST_TILT, MOST_TILT = 0.7, -3.0, 2.0  # a link is proposed in proportion to e to the half of its odds, in bounds

Ints = NDArray[Any]  # Any: of 32 or of 64 bits


def levels(ratio: Float32 | Float64) -> NDArray[np.uint8]:
    """What looks say as one of 255 levels, log-likelihood ratios of any shape; exactly 0 says nothing and is level 0."""
    known = np.asarray(ratio, np.float64)
    steps = np.clip(np.rint((known / STRONGEST + 1) * (LEVELS / 2 - 1)), 0, LEVELS - 2)
    return np.where(known == 0, 0, steps + 1).astype(np.uint8)


def ratios() -> Float64:
    """The log-likelihood ratio of each level (LEVELS,)."""
    known = (np.arange(LEVELS - 1) / (LEVELS / 2 - 1) - 1) * STRONGEST
    return np.concatenate([[0.0], known])


@dataclass(frozen=True, slots=True, eq=False)
class Odds:
    """What is drawn from: n sightings in order of time, of which the last `columns` may still follow another one.

    The logarithm of how probable a matching is, up to a constant: for each link its `weight`, the draw's `way` from the one's
    `origin` to the other's `target`, and against it the draw's `new` and `unseen`; for each pair of sightings in one chain that
    lie k links from each other, what their looks say by the draw, times `lags[k - 1]`; for each one alone the draw's `lone`.

    `earlier`, `later` and `weight` (links,) are the possible links; `looks` (n, columns) are `levels`, each one's against those
    that may be linked; `said` (draws, LEVELS) what each level says. `origin` and `target` (n,) are states, of which there are
    as many as `way` (draws, states, states) has. `new`, `unseen` and `lone` are (draws, n). A sighting of `taken` (draws, n) is
    followed by one that is not here any more.
    """

    earlier: Int64
    later: Int64
    weight: Float64
    looks: NDArray[np.uint8]
    said: Float32
    lags: tuple[float, float, float]
    origin: Int64
    target: Int64
    way: Float32
    new: Float32
    unseen: Float32
    lone: Float32
    taken: NDArray[np.bool_]


class Matchings:
    """`draws` matchings of n sightings: `before` and `after` (draws, n) are whom each follows and who follows it, n for nobody.

    `sweep` moves all of them, each by itself: links are proposed and accepted by Metropolis and Hastings, many at once where
    they touch different sightings.
    """

    def __init__(self, odds: Odds, before: Int64, rng: np.random.Generator) -> None:
        draws, n = before.shape
        self.n, self.draws, self.rng = n, draws, rng
        self._first = n - odds.looks.shape[1]  # of those that may be linked
        self._before = np.full((draws, n + 1), n, np.int32)
        self._after = np.full((draws, n + 1), n, np.int32)
        self._before[:, :n] = before
        draw, later = np.nonzero(before < n)
        self._after[draw, before[draw, later]] = later
        columns = n - self._first
        self._links: Float32 = np.zeros((n + 1, columns + 1, 2), np.float32)  # weight, logarithm of the proposal
        self._links[:, :, 0] = -np.inf
        score = TILT * (odds.weight + self.typical(odds))
        tilt = np.clip(score, LEAST_TILT, MOST_TILT).astype(np.float32)
        self._earlier, self._later = odds.earlier, odds.later
        self._links[odds.earlier, odds.later - self._first, 0] = odds.weight
        self._links[odds.earlier, odds.later - self._first, 1] = tilt
        self._sum = np.cumsum(np.exp(tilt, dtype=np.float64))
        self._looks = np.zeros((n + 1, columns + 1), np.uint8)
        self._looks[:n, :columns] = odds.looks
        self.set_rates(odds)

    def set_rates(self, odds: Odds) -> None:
        """Take the draws' `way`, `new`, `unseen`, `lone` and `said` from `odds`; all else stays."""
        states = odds.way.shape[1]
        self._odds = odds
        self._said = odds.said
        self._origin, self._target = np.append(odds.origin, states - 1), np.append(odds.target, states - 1)
        self._way = odds.way
        self._new, self._unseen, self._lone = (
            np.pad(each, ((0, 0), (0, 1))).astype(np.float32) for each in (odds.new, odds.unseen, odds.lone)
        )
        self._taken = np.pad(odds.taken, ((0, 0), (0, 1)))

    @property
    def before(self) -> Int64:
        """Whom each sighting follows (draws, n), n for nobody."""
        return self._before[:, : self.n]

    @property
    def after(self) -> Int64:
        """By whom each sighting is followed (draws, n), n for nobody."""
        return self._after[:, : self.n]

    def sweep(self, tries: float) -> None:
        """Propose `tries` changes for each sighting that may be linked, in the mean."""
        columns = self.n - self._first
        if not len(self._earlier):
            return
        at_once = max(1, columns // CROWD)
        for _ in range(math.ceil(columns * tries / at_once)):
            self._step(at_once)

    def begin(self, rows: Int64) -> None:
        """Let each sighting of `rows`, in order, follow one that is free, or nobody, by the odds of both alone."""
        order = np.lexsort((self._earlier, self._later))
        firsts = np.searchsorted(self._later[order], rows).tolist()
        lasts = np.searchsorted(self._later[order], rows, side="right").tolist()
        every = np.arange(self.draws)
        for row, first, last in zip(rows.tolist(), firsts, lasts, strict=True):
            earlier = self._earlier[order[first:last]]
            if not len(earlier):
                continue
            draw = np.repeat(every, len(earlier))
            i, j = np.tile(earlier, self.draws), np.full(len(draw), row)
            odds = self._link(draw, i, j, self._links[i, j - self._first]) + self._odds.lags[0] * self._says(draw, i, j)
            odds = np.where((self._after[draw, i] == self.n) & ~self._taken[draw, i], odds, -np.inf)
            both = np.column_stack([odds.reshape(self.draws, -1), np.zeros(self.draws)])
            chosen = np.argmax(both + self.rng.gumbel(size=both.shape), axis=1)
            found = np.flatnonzero(chosen < len(earlier))
            self._before[found, row] = earlier[chosen[found]]
            self._after[found, earlier[chosen[found]]] = row

    @staticmethod
    def typical(odds: Odds) -> Float64:
        """What the draws say of each possible link in the mean, beside its weight: (links,)."""
        i, j = odds.earlier, odds.later
        looks = odds.looks[i, j - (len(odds.origin) - odds.looks.shape[1])]
        middle = odds.way.mean(axis=0)[odds.origin[i], odds.target[j]] - odds.new.mean(axis=0)[j]
        result: Float64 = (
            middle - odds.unseen.mean(axis=0)[i] + (odds.lags[0] + odds.lags[1]) * odds.said.mean(axis=0)[looks]
        )
        return result

    def _step(self, at_once: int) -> None:
        """Propose `at_once` links in each draw, and take those of the changes that are accepted."""
        draw = np.repeat(np.arange(self.draws), at_once)
        at = self.rng.random(len(draw)) * self._sum[-1]
        link = np.minimum(np.searchsorted(self._sum, at), len(self._sum) - 1)
        i, j = self._earlier[link], self._later[link]
        kind = self.rng.random()
        propose = self._change if kind < PLAIN else self._through if kind < THROUGH else self._exchange
        propose(draw, i, j)

    def _change(self, draw: Ints, i: Ints, j: Ints) -> None:
        """Cut the link from i to j, or make it: whoever both were linked with before become linked, or free."""
        n, off = self.n, draw * (self.n + 1)
        before, after = self._before.ravel(), self._after.ravel()
        linked = after[off + i] == j
        other = np.where(linked, n, after[off + i])  # whom i leaves
        first = np.where(linked, n, before[off + j])  # whom j leaves
        both = (other < n) & (first < n)
        pi, sj, pf, so = before[off + i], after[off + j], before[off + first], after[off + other]
        ppi, ssj, ppf, sso = before[off + pi], after[off + sj], before[off + pf], after[off + so]
        made, left, lost, instead = (
            self._links[x, self._column(y)] for x, y in ((i, j), (i, other), (first, j), (first, other))
        )
        valid = (
            ~self._taken.ravel()[off + i]
            & ~(both & ~np.isfinite(instead[:, 0]))
            & ((other == n) | (other >= self._first))
        )
        change = self._across(draw, (i, pi, ppi), (j, sj, ssj)) + self._link(draw, i, j, made)
        change = np.where(linked, -change, change)
        for mask, one, two, cell, sign in (
            (other < n, (i, pi, ppi), (other, so, sso), left, -1),
            (first < n, (first, pf, ppf), (j, sj, ssj), lost, -1),
            (both & valid, (first, pf, ppf), (other, so, sso), instead, 1),
        ):
            at = np.flatnonzero(mask)
            gained = self._across(draw[at], tuple(x[at] for x in one), tuple(x[at] for x in two))
            change[at] += sign * (gained + self._link(draw[at], one[0][at], two[0][at], cell[at]))
        lone = self._lone.ravel()
        ends_i, ends_j = lone[off + i] * (pi == n), lone[off + j] * (sj == n)
        change += np.where(linked, ends_i + ends_j, -ends_i * (other == n) - ends_j * (first == n))
        change += np.where((other < n) & ~both, lone[off + other] * (so == n), 0)
        change += np.where((first < n) & ~both, lone[off + first] * (pf == n), 0)
        there = made[:, 1]
        back = np.where(linked, there, np.where(other < n, left[:, 1], np.where(first < n, lost[:, 1], there)))
        change += np.where(
            both,
            np.logaddexp(left[:, 1], lost[:, 1]) - np.logaddexp(there, np.where(both, instead[:, 1], 0)),
            back - there,
        )
        touched = np.stack([i, j, first, other, pi, sj, pf, so, ppi, ssj, ppf, sso])
        take = self._accepted(draw, touched, valid, change)
        i, j, first, other, off, linked, both = (x[take] for x in (i, j, first, other, off, linked, both))
        after[off + i], before[off + j] = np.where(linked, n, j), np.where(linked, n, i)
        before[off + other], after[off + first] = np.where(both, first, n), np.where(both, other, n)
        self._mend()

    def _through(self, draw: Ints, i: Ints, j: Ints) -> None:
        """Take j, which follows i, out of its chain; or put j, which is alone, between i and its follower."""
        n, off = self.n, draw * (self.n + 1)
        before, after = self._before.ravel(), self._after.ravel()
        linked = after[off + i] == j
        k = np.where(linked, after[off + j], after[off + i])
        alone = (before[off + j] == n) & (after[off + j] == n) & ~self._taken.ravel()[off + j]
        ij, jk, ik = (self._links[x, self._column(y)] for x, y in ((i, j), (j, k), (i, k)))
        valid = (k < n) & (k >= self._first) & (linked | alone) & np.isfinite(jk[:, 0]) & np.isfinite(ik[:, 0])
        h, s = before[off + i], after[off + k]
        hh, ss = before[off + h], after[off + s]
        says, (one, two, three) = self._says, self._odds.lags
        go = np.flatnonzero(valid)
        d, gi, gj, gk, gh, gs, ghh, gss = (x[go] for x in (draw, i, j, k, h, s, hh, ss))
        inside = self._link(d, gi, gj, ij[go]) + self._link(d, gj, gk, jk[go])
        inside += one * (says(d, gi, gj) + says(d, gj, gk)) + two * (
            says(d, gh, gj) + says(d, gi, gk) + says(d, gj, gs)
        )
        inside += three * (says(d, ghh, gj) + says(d, gh, gk) + says(d, gi, gs) + says(d, gj, gss))
        outside = self._link(d, gi, gk, ik[go]) + one * says(d, gi, gk) + two * (says(d, gh, gk) + says(d, gi, gs))
        outside += three * (says(d, ghh, gk) + says(d, gh, gs) + says(d, gi, gss)) + self._lone.ravel()[off[go] + gj]
        change = np.full(len(draw), -np.inf)
        change[go] = np.where(linked[go], outside - inside, inside - outside)
        take = self._accepted(draw, np.stack([i, j, k, h, s, hh, ss]), valid, change)
        i, j, k, off, linked = (x[take] for x in (i, j, k, off, linked))
        after[off + i], before[off + k] = np.where(linked, k, j), np.where(linked, i, j)
        before[off + j], after[off + j] = np.where(linked, n, i), np.where(linked, n, k)

    def _exchange(self, draw: Ints, i: Ints, j: Ints) -> None:
        """Let j and the one k that follows i change places."""
        n, off = self.n, draw * (self.n + 1)
        before, after = self._before.ravel(), self._after.ravel()
        k, p, s = after[off + i], before[off + j], after[off + j]
        t = after[off + k]
        ij, ik, pj, pk, jt, kt, js, ks = (
            self._links[x, self._column(y)] for x, y in ((i, j), (i, k), (p, j), (p, k), (j, t), (k, t), (j, s), (k, s))
        )
        taken = self._taken.ravel()
        valid = (k < n) & (k >= self._first) & (k != j) & ~taken[off + j] & ~taken[off + k]
        for x, y, cell in ((p, k, pk), (j, t, jt), (k, s, ks)):
            valid &= (x == n) | (y == n) | np.isfinite(cell[:, 0])
        h, pp, tt, ss = before[off + i], before[off + p], after[off + t], after[off + s]
        hh, ppp, ttt, sss = before[off + h], before[off + pp], after[off + tt], after[off + ss]
        go = np.flatnonzero(valid)
        d = draw[go]

        def placed(x: Ints, left: tuple[Ints, ...], right: tuple[Ints, ...], to: Float32, from_: Float32) -> Float64:
            total = self._link(d, left[0][go], x[go], to[go]) + self._link(d, x[go], right[0][go], from_[go])
            for lag, one, two in zip(self._odds.lags, left, right, strict=True):
                total += lag * (self._says(d, one[go], x[go]) + self._says(d, x[go], two[go]))
            return total

        here, there = ((i, h, hh), (t, tt, ttt)), ((p, pp, ppp), (s, ss, sss))
        gained = (
            placed(j, *here, ij, jt) + placed(k, *there, pk, ks) - placed(k, *here, ik, kt) - placed(j, *there, pj, js)
        )
        lone = self._lone.ravel()
        gained += np.where((p[go] == n) & (s[go] == n), lone[off[go] + k[go]] - lone[off[go] + j[go]], 0)
        change = np.full(len(draw), -np.inf)
        change[go] = gained + ik[go, 1] - ij[go, 1]
        take = self._accepted(draw, np.stack([i, j, k, p, s, t, h, pp, tt, ss, hh, ppp, ttt, sss]), valid, change)
        i, j, k, p, s, t, off = (x[take] for x in (i, j, k, p, s, t, off))
        after[off + i], before[off + j], after[off + j], before[off + t] = j, i, t, j
        after[off + p], before[off + k], after[off + k], before[off + s] = k, p, s, k
        self._mend()

    def _column(self, j: Ints) -> Ints:
        """The column of a sighting that may be linked; of others the last one, where nothing is."""
        column: Ints = np.where(j >= self._first, j - self._first, self.n - self._first)
        return column

    def _says(self, draw: Ints, i: Ints, j: Ints) -> Float32:
        """What looks say of each pair, by the draw."""
        said: Float32 = self._said.ravel()[draw * LEVELS + self._looks[i, self._column(j)]]
        return said

    def _across(self, draw: Ints, left: tuple[Ints, ...], right: tuple[Ints, ...]) -> Float64:
        """What looks say of the pairs on both sides of a link: `left` goes back from it, `right` on."""
        (i, pi, ppi), (j, sj, ssj), says, (one, two, three) = left, right, self._says, self._odds.lags
        total: Float64 = one * says(draw, i, j) + two * (says(draw, pi, j) + says(draw, i, sj))
        total += three * (says(draw, ppi, j) + says(draw, pi, sj) + says(draw, i, ssj))
        return total

    def _link(self, draw: Ints, i: Ints, j: Ints, cell: Float32) -> Float64:
        """What way and time say of each link, by the draw; 0 where one of both is nobody."""
        n = self.n
        weight = cell[:, 0] + self._way[draw, self._origin[i], self._target[j]]
        weight = weight - self._new[draw, j] - self._unseen[draw, i]
        result: Float64 = np.where((i == n) | (j == n), 0.0, weight)
        return result

    def _accepted(self, draw: Ints, touched: Ints, valid: NDArray[np.bool_], change: Float64) -> Ints:
        """The proposals that are taken: by how much each matching gains, of those that touch no sighting of another one."""
        places = touched + draw * (self.n + 1)
        times = np.bincount(places.ravel(), minlength=self.draws * (self.n + 1))
        times.reshape(self.draws, self.n + 1)[:, self.n] = 0
        free = (times[places] <= 1).all(axis=0)
        drawn = np.log(1 - self.rng.random(len(draw)))
        return np.flatnonzero(valid & free & (drawn < change))

    def _mend(self) -> None:
        """Nobody follows and is followed by nobody."""
        self._before[:, self.n] = self.n
        self._after[:, self.n] = self.n
