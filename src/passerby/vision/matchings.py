"""Chains of sightings drawn at random: a Markov chain over matchings, many of them side by side.

In a matching each sighting follows one other at most, and is followed by one at most. Here lives how one matching becomes
another one, and how probable each is; what the odds are of, and what is counted, stands in `vision.window`.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passerby.types import Float32, Float64, Int64
from passerby.vision.linking import edge_marginals

LEVELS = 256  # of what looks say: 0 for nothing, the others evenly between
STRONGEST = 16.0  # a log-likelihood ratio
CROWD = 8  # of so many sightings one takes part in a proposal of each step
PLAIN, THROUGH, ELSEWHERE = (
    0.45,
    0.6,
    0.9,
)  # up to these of 1: change one link or two; take one out of a chain or put one
# in; put one from a chain into another; exchange two
SELDOM = 1e-5  # the least variance with which a link is proposed: looks of whole chains may say more than those of two
COARSE = 0.3  # of what neighbours alone say decides which proposals are looked at in full
FINE = 2  # steps of how often a link is proposed
AIMED = 5  # draws whose chains tell which links are not sure
MOST_ODDS = 25.0

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
    `origin` to the other's `target`, the draw's `rare` where it is `shared`, and against it the draw's `new` and `unseen`; for
    each pair of sightings in one chain that lie k links from each other, what their looks say by the draw, times
    `lags[k - 1]`; for each one alone the draw's `lone`.

    `earlier`, `later`, `weight` and `shared` (links,) are the possible links; `looks` (n, columns) are `levels`, each one's
    against those that may be linked; `said` (draws, LEVELS) what each level says. `origin` and `target` (n,) are states, of
    which there are as many as `way` (draws, states, states) has. `new`, `unseen` and `lone` are (draws, n), `rare` (draws,). A
    sighting of `taken` (draws, n) is followed by one that is not here any more.
    """

    earlier: Int64
    later: Int64
    weight: Float64
    shared: NDArray[np.bool_]
    looks: NDArray[np.uint8]
    said: Float32
    lags: tuple[float, ...]
    origin: Int64
    target: Int64
    way: Float32
    rare: Float32
    new: Float32
    unseen: Float32
    lone: Float32
    taken: NDArray[np.bool_]

    def typical(self) -> Float64:
        """What draws say of each possible link in the mean, with looks of both: (links,)."""
        i, j = self.earlier, self.later
        looks = self.looks[i, j - (len(self.origin) - self.looks.shape[1])]
        middle = self.way.mean(axis=0)[self.origin[i], self.target[j]] - self.new.mean(axis=0)[j]
        result: Float64 = self.weight + np.where(self.shared, self.rare.mean(), 0.0) + middle
        result += self.lags[0] * self.said.mean(axis=0)[looks] - self.unseen.mean(axis=0)[i]
        return result

    def likely(self, least: Float64, most: int) -> "Odds":
        """The same for those links alone whose odds are `least` (links,) or more, the `most` best ones to each sighting."""
        over = self.typical() - least
        order = np.lexsort((-over, self.later))
        first = np.searchsorted(self.later[order], self.later)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        return self._of((over > 0) & (place - first < most))

    def _of(self, kept: NDArray[np.bool_]) -> "Odds":
        return replace(
            self,
            earlier=self.earlier[kept],
            later=self.later[kept],
            weight=self.weight[kept],
            shared=self.shared[kept],
        )


class Matchings:
    """`draws` matchings of n sightings: `before` and `after` (draws, n) are whom each follows and who follows it, n for nobody.

    `sweep` moves all of them, each by itself: links are proposed and accepted by Metropolis and Hastings, many at once where
    they touch different sightings. What neighbours say decides first, what whole chains say of those that are left
    (Christen and Fox, "Markov chain Monte Carlo using an approximation", Journal of Computational and Graphical Statistics,
    2005).
    """

    def __init__(self, odds: Odds, before: Int64, rng: np.random.Generator) -> None:
        draws, n = before.shape
        self.n, self.draws, self.rng = n, draws, rng
        self._first = n - odds.looks.shape[1]  # of those that may be linked
        draw, later = np.nonzero(before < n)
        closed = np.unique(before[draw, later] * n + later)
        closed = closed[closed % n < self._first]
        self._open = len(odds.earlier)  # links from here on are closed, and the last one is none
        self._none = self._open + len(closed)
        self._i = np.concatenate([odds.earlier, closed // n, [n]]).astype(np.int32)
        self._j = np.concatenate([odds.later, closed % n, [n]]).astype(np.int32)
        self._number = np.full((n + 1, n + 1), -1, np.int32)  # of each link
        self._number[self._i[: self._none], self._j[: self._none]] = np.arange(self._none)
        self._into = np.full((draws, n + 1), self._none, np.int32)  # the link to whom each follows
        self._out = np.full((draws, n + 1), self._none, np.int32)  # and to who follows it
        link = self._number[before[draw, later], later]
        draw, later, link = draw[link >= 0], later[link >= 0], link[link >= 0]
        self._into[draw, later] = link
        self._out[draw, self._i[link]] = link
        self._by = np.zeros(draws * (n + 1), np.int32)  # which of the proposals touches each first
        self._looks = np.zeros((n + 1, n + 1), np.uint8)
        self._looks[:n, self._first : n] = odds.looks
        self._level = self._looks[self._i, self._j]
        self.set_rates(odds)
        self._propose: tuple[Ints, Float32] = np.zeros(0, np.int32), np.zeros(0, np.float32)

    def set_rates(self, odds: Odds) -> None:
        """Take the draws' `way`, `rare`, `new`, `unseen`, `lone` and `said` from `odds`; all else stays."""
        self._odds, self._said, self._lags = odds, odds.said, odds.lags
        self._lone = np.pad(odds.lone, ((0, 0), (0, 1))).astype(np.float32)
        self._taken = np.pad(odds.taken, ((0, 0), (0, 1)))
        states, i, j = odds.way.shape[1], odds.earlier, odds.later
        way = odds.way.reshape(self.draws, -1)[:, odds.origin[i] * states + odds.target[j]]
        way += odds.weight.astype(np.float32)
        way -= odds.new[:, j]
        way -= odds.unseen[:, i]
        way[:, odds.shared] += odds.rare[:, None]
        way += np.float32(self._lags[0]) * odds.said[:, self._level[: self._open]]
        self._link = np.zeros((self.draws, self._none + 1), np.float32)  # what each says by itself, with looks
        self._link[:, : self._open] = way

    @property
    def before(self) -> Int64:
        """Whom each sighting follows (draws, n), n for nobody."""
        return self._i[self._into[:, : self.n]].astype(np.int64)

    @property
    def after(self) -> Int64:
        """By whom each sighting is followed (draws, n), n for nobody."""
        return self._j[self._out[:, : self.n]].astype(np.int64)

    @property
    def shared(self) -> NDArray[np.bool_]:
        """Whether each sighting (draws, n) follows by a link that is shared."""
        known = np.pad(self._odds.shared, (0, self._none + 1 - self._open))
        shared: NDArray[np.bool_] = known[self._into[:, : self.n]]
        return shared

    def sweep(self, tries: float) -> None:
        """Propose `tries` changes for each sighting that may be linked, in the mean."""
        columns = self.n - self._first
        if not self._open:
            return
        if not len(self._propose[0]):
            self.aim()
        at_once = max(1, columns // CROWD)
        for _ in range(math.ceil(columns * tries / at_once)):
            self._step(at_once)

    def begin(self, rows: Int64, follows: Int64) -> None:
        """Let each sighting of `rows`, in order, follow the one of `follows` (n,), or one by the odds of both chains.

        Nobody follows one that is not free; -1 of `follows` leaves it to the odds.
        """
        order = np.lexsort((self._i[: self._open], self._j[: self._open]))
        firsts = np.searchsorted(self._j[order], rows).tolist()
        lasts = np.searchsorted(self._j[order], rows, side="right").tolist()
        every = np.arange(self.draws)
        for row, first, last in zip(rows.tolist(), firsts, lasts, strict=True):
            links = order[first:last]
            if not len(links):
                continue
            earlier, odds = self._i[links], self._link[:, links].astype(np.float64)
            draw, at = np.repeat(every, len(links)), np.tile(earlier, self.draws)
            for lag in self._lags[1:]:
                at = self._i[self._into[draw, at]]
                odds += lag * self._says(draw, at, np.full_like(at, row)).reshape(odds.shape)
            odds[:, earlier == follows[row]] = MOST_ODDS
            odds[(self._out[:, earlier] < self._none) | self._taken[:, earlier]] = -np.inf
            both = np.column_stack([odds, np.zeros(self.draws)])
            chosen = np.argmax(both + self.rng.gumbel(size=both.shape), axis=1)
            found = np.flatnonzero(chosen < len(links))
            self._into[found, row] = self._out[found, earlier[chosen[found]]] = links[chosen[found]]

    def aim(self) -> None:
        """Propose each link the more often the less sure it is, by the chains that some of the draws have now."""
        i, j = self._i[: self._open].astype(np.int64), self._j[: self._open].astype(np.int64)
        looked_at = np.linspace(0, self.draws - 1, min(AIMED, self.draws)).astype(np.int64)
        odds = np.zeros(self._open)
        for number in looked_at.tolist():
            draw, off = np.full(self._open, number), np.full(self._open, number * (self.n + 1))
            said = self._link[number, : self._open] + self._across(draw, self._back(off, i), self._on(off, j))
            odds += np.exp(np.minimum(said, MOST_ODDS)) / len(looked_at)
        probable = np.clip(edge_marginals(odds, i, j), 0, 1)
        often = np.rint(np.sqrt(probable * (1 - probable) / SELDOM + 1) * FINE).astype(np.int64)
        logs = np.zeros(self._none + 1, np.float32)
        logs[: self._open] = np.log(often)
        self._propose = np.repeat(np.arange(self._open, dtype=np.int32), often), logs

    def _step(self, at_once: int) -> None:
        """Propose `at_once` links in each draw, and take those of the changes that are accepted."""
        chosen, _ = self._propose
        draw = np.repeat(np.arange(self.draws), at_once)
        link = chosen[self.rng.integers(0, len(chosen), len(draw))]
        kind = self.rng.random()
        if kind < PLAIN:
            self._change(draw, link)
        elif kind < THROUGH:
            self._through(draw, link)
        elif kind < ELSEWHERE:
            self._elsewhere(draw, link, behind=bool(self.rng.random() < 0.5))
        else:
            self._exchange(draw, link)

    def _change(self, draw: Ints, link: Ints) -> None:
        """Cut a link from i to j, or make it: whoever both were linked with before become linked, or free."""
        none, off, of = self._none, draw * (self.n + 1), draw * (self._none + 1)
        into, out, says = self._into.ravel(), self._out.ravel(), self._link.ravel()
        i, j = self._i[link], self._j[link]
        left, lost = out[off + i], into[off + j]  # the links of i and of j, both the one itself where it is there
        cut = lost == link
        both = (left < none) & (lost < none) & ~cut
        instead = np.where(both, self._number[self._i[lost], self._j[left]], none)
        valid = ((left < self._open) | (left == none)) & (instead >= 0) & ~self._taken.ravel()[off + i]
        coarse = says[of + link] - says[of + left] - says[of + lost] + says[of + instead]
        coarse = np.where(cut, -says[of + link], coarse)
        go, coarse = self._worth(valid, coarse)
        draw, link, left, lost, instead, cut, both, off = (
            x[go] for x in (draw, link, left, lost, instead, cut, both, off)
        )
        i, j = self._i[link], self._j[link]
        other, first = np.where(cut, self.n, self._j[left]), np.where(cut, self.n, self._i[lost])
        back_i, back_f = self._back(off, i), self._back(off, first)
        on_j, on_o = self._on(off, j), self._on(off, other)
        across = self._across(draw, back_i, on_j)
        fine = np.where(cut, -across, across)
        for mask, one, two, sign in (
            (other < self.n, back_i, on_o, -1),
            (first < self.n, back_f, on_j, -1),
            (both, back_f, on_o, 1),
        ):
            at = np.flatnonzero(mask)
            fine[at] += sign * self._across(draw[at], [x[at] for x in one], [x[at] for x in two])
        lone, n = self._lone.ravel(), self.n
        ends_i, ends_j = lone[off + i] * (back_i[1] == n), lone[off + j] * (on_j[1] == n)
        fine += np.where(cut, ends_i + ends_j, -ends_i * (other == n) - ends_j * (first == n))
        fine += np.where((other < n) & ~both, lone[off + other] * (on_o[1] == n), 0)
        fine += np.where((first < n) & ~both, lone[off + first] * (back_f[1] == n), 0)
        often = self._propose[1]
        there = often[link]
        back = np.where(cut, there, np.where(left < none, often[left], np.where(lost < none, often[lost], there)))
        fine += np.where(
            both, np.logaddexp(often[left], often[lost]) - np.logaddexp(there, often[instead]), back - there
        )
        take = self._accepted(draw, np.stack([*back_i, *back_f, *on_j, *on_o]), fine, coarse)
        i, j, first, other, off, cut, both, link, instead = (
            x[take] for x in (i, j, first, other, off, cut, both, link, instead)
        )
        out[off + i] = into[off + j] = np.where(cut, none, link)
        into[off + other] = out[off + first] = np.where(both, instead, none)
        self._mend()

    def _through(self, draw: Ints, link: Ints) -> None:
        """Take j, which follows i, out of its chain; or put j, which is alone, between i and its follower."""
        none, off, of = self._none, draw * (self.n + 1), draw * (self._none + 1)
        into, out, says = self._into.ravel(), self._out.ravel(), self._link.ravel()
        i, j = self._i[link], self._j[link]
        cut = into[off + j] == link
        alone = (into[off + j] == none) & (out[off + j] == none) & ~self._taken.ravel()[off + j]
        k = self._j[np.where(cut, out[off + j], out[off + i])]
        jk, ik = self._number[j, k], self._number[i, k]
        valid = (k < self.n) & (cut | alone) & (jk >= 0) & (jk < self._open) & (ik >= 0) & (ik < self._open)
        coarse = says[of + link] + says[of + jk] - says[of + ik]
        go, coarse = self._worth(valid, np.where(cut, -coarse, coarse))
        draw, link, off, cut, i, j, k, jk, ik = (x[go] for x in (draw, link, off, cut, i, j, k, jk, ik))
        left, right = self._back(off, i), self._on(off, k)
        gained = self._within(draw, j, left, right) - self._lone.ravel()[off + j]
        fine = np.where(cut, -gained, gained)
        take = self._accepted(draw, np.stack([j, *left, *right]), fine, coarse)
        off, cut, i, j, k, link, jk, ik = (x[take] for x in (off, cut, i, j, k, link, jk, ik))
        out[off + i], into[off + k] = np.where(cut, ik, link), np.where(cut, ik, jk)
        into[off + j], out[off + j] = np.where(cut, none, link), np.where(cut, none, jk)

    def _elsewhere(self, draw: Ints, link: Ints, *, behind: bool) -> None:
        """Take a sighting out of its chain and put it into another: `behind` one, or before one, by the link."""
        none, n, off, of = self._none, self.n, draw * (self.n + 1), draw * (self._none + 1)
        into, out, says = self._into.ravel(), self._out.ravel(), self._link.ravel()
        j = self._j[link] if behind else self._i[link]
        pj, js = into[off + j], out[off + j]
        p, s = self._i[pj], self._j[js]
        ik = out[off + self._i[link]] if behind else into[off + self._j[link]]
        i = self._i[link] if behind else self._i[ik]
        k = self._j[ik] if behind else self._j[link]
        ij, jk, ps = (np.where((x == n) | (y == n), none, self._number[x, y]) for x, y in ((i, j), (j, k), (p, s)))
        taken = self._taken.ravel()
        valid = ((p < n) & (p != i)) if behind else ((s < n) & (s != k))
        valid &= ~taken[off + j] & ~taken[off + i]
        for each in (ij, jk, ps, ik, js):
            valid &= (each >= 0) & ((each < self._open) | (each == none))
        coarse = says[of + ij] + says[of + jk] - says[of + ik]
        coarse -= says[of + pj] + says[of + js] - says[of + ps]
        go, coarse = self._worth(valid, coarse)
        draw, off, i, j, k, p, s, ij, jk, ps, pj, js, ik = (
            x[go] for x in (draw, off, i, j, k, p, s, ij, jk, ps, pj, js, ik)
        )
        there, here = (self._back(off, i), self._on(off, k)), (self._back(off, p), self._on(off, s))
        fine = self._within(draw, j, *there) - self._within(draw, j, *here)
        lone = self._lone.ravel()
        for sign, (one, two) in ((1, here), (-1, there)):
            fine += sign * np.where((two[0] == n) & (one[1] == n), lone[off + one[0]], 0)
            fine += sign * np.where((one[0] == n) & (two[1] == n), lone[off + two[0]], 0)
        often = self._propose[1]
        fine += often[pj] - often[ij] if behind else often[js] - often[jk]
        touched = np.stack([j, *there[0], *there[1], *here[0], *here[1]])
        take = self._accepted(draw, touched, fine, coarse)
        off, i, j, k, p, s, ij, jk, ps = (x[take] for x in (off, i, j, k, p, s, ij, jk, ps))
        out[off + i] = into[off + j] = ij
        out[off + j] = into[off + k] = jk
        out[off + p] = into[off + s] = ps
        self._mend()

    def _within(self, draw: Ints, j: Ints, left: list[Ints], right: list[Ints]) -> Float64:
        """What looks say of one put between two, beyond what its links say, against both being linked."""
        said = self._across(draw, left, [j]) + self._across(draw, [j], right)
        return said + self._across(draw, left, right, between=1) - self._across(draw, left, right)

    def _exchange(self, draw: Ints, link: Ints) -> None:
        """Let j and the one k that follows i change places."""
        none, n, off, of = self._none, self.n, draw * (self.n + 1), draw * (self._none + 1)
        into, out, says = self._into.ravel(), self._out.ravel(), self._link.ravel()
        i, j = self._i[link], self._j[link]
        ik, pj, js = out[off + i], into[off + j], out[off + j]
        k, p, s = self._j[ik], self._i[pj], self._j[js]
        kt = out[off + k]
        t = self._j[kt]
        pk, jt, ks = (np.where((x == n) | (y == n), none, self._number[x, y]) for x, y in ((p, k), (j, t), (k, s)))
        taken = self._taken.ravel()
        valid = (k < n) & (k != j) & (ik < self._open) & ~taken[off + j] & ~taken[off + k]
        for each in (pk, jt, ks, kt, js):
            valid &= (each >= 0) & ((each < self._open) | (each == none))
        coarse = says[of + link] + says[of + pk] + says[of + jt] + says[of + ks]
        coarse -= says[of + ik] + says[of + pj] + says[of + kt] + says[of + js]
        go, coarse = self._worth(valid, coarse)
        draw, link, off, i, j, k, p, s, t, ik, pk, jt, ks = (
            x[go] for x in (draw, link, off, i, j, k, p, s, t, ik, pk, jt, ks)
        )
        here, there = (self._back(off, i), self._on(off, t)), (self._back(off, p), self._on(off, s))

        def placed(x: Ints, beside: tuple[list[Ints], list[Ints]]) -> Float64:
            return self._across(draw, beside[0], [x]) + self._across(draw, [x], beside[1])

        fine = placed(j, here) + placed(k, there) - placed(k, here) - placed(j, there)
        lone = self._lone.ravel()
        fine += np.where((p == n) & (s == n), lone[off + k] - lone[off + j], 0)
        fine += self._propose[1][ik] - self._propose[1][link]
        touched = np.stack([j, k, *here[0], *here[1], *there[0], *there[1]])
        take = self._accepted(draw, touched, fine, coarse)
        off, link, i, j, k, p, s, t, pk, jt, ks = (x[take] for x in (off, link, i, j, k, p, s, t, pk, jt, ks))
        out[off + i] = into[off + j] = link
        out[off + j] = into[off + t] = jt
        out[off + p] = into[off + k] = pk
        out[off + k] = into[off + s] = ks
        self._mend()

    def _back(self, off: Ints, at: Ints) -> list[Ints]:
        """A sighting and those that it follows, as many as looks are compared with."""
        chain, into = [at], self._into.ravel()
        for _ in self._lags[1:]:
            chain.append(self._i[into[off + chain[-1]]])
        return chain

    def _on(self, off: Ints, at: Ints) -> list[Ints]:
        """A sighting and those that follow it, as many as looks are compared with."""
        chain, out = [at], self._out.ravel()
        for _ in self._lags[1:]:
            chain.append(self._j[out[off + chain[-1]]])
        return chain

    def _says(self, draw: Ints, i: Ints, j: Ints) -> Float32:
        """What looks say of each pair, by the draw."""
        said: Float32 = self._said.ravel()[draw * LEVELS + self._looks.ravel()[i * (self.n + 1) + j]]
        return said

    def _across(self, draw: Ints, left: list[Ints], right: list[Ints], *, between: int = 0) -> Float64:
        """What looks say of the pairs on both sides of a link, without what the link says by itself.

        `left` goes back from it, `right` on; so many sightings lie `between` them.
        """
        total = np.zeros(len(draw))
        for x, one in enumerate(left):
            for y, two in enumerate(right):
                if 0 < x + y + between < len(self._lags):
                    total += self._lags[x + y + between] * self._says(draw, one, two)
        return total

    def _worth(self, valid: NDArray[np.bool_], coarse: Float64) -> tuple[Ints, Float64]:
        """The proposals that neighbours alone speak for, and what they say of them beyond that."""
        said = COARSE * coarse
        drawn = np.log(1 - self.rng.random(len(said)))
        go = np.flatnonzero(valid & (drawn < said))
        rest: Float64 = coarse[go] - said[go]
        return go, rest

    def _accepted(self, draw: Ints, touched: Ints, fine: Float64, coarse: Float64) -> Ints:
        """The proposals that are taken: by how much each matching gains, of those that touch no sighting of another one."""
        drawn = np.log(1 - self.rng.random(len(draw)))
        take = np.flatnonzero(drawn < fine + coarse)
        mine = np.sort(touched[:, take], axis=0)
        take = take[
            ((mine[1:] != mine[:-1]) | (mine[1:] == self.n)).all(axis=0)
        ]  # no chain changed at both ends of a piece
        places = touched[:, take] + draw[take] * (self.n + 1)
        number = np.broadcast_to(np.arange(len(take), dtype=np.int32), places.shape)
        self._by[places.T.ravel()[::-1]] = number.T.ravel()[::-1]  # the first one stays
        free = (self._by[places] == number) | (touched[:, take] == self.n)
        found: Ints = take[free.all(axis=0)]
        return found

    def _mend(self) -> None:
        """Nobody follows and is followed by nobody."""
        self._into[:, self.n] = self._out[:, self.n] = self._none
