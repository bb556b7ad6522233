"""Pictures sorted into people, and how many people there are: draws from the posterior of who is who.

A number of groups is not an estimate of a number of people: who cannot be linked for certain counts as somebody new in
each group, and not in the estimate. Partitions of the pictures are drawn instead, by moving pictures and blocks of them
from person to person in proportion to the evidence, the error of the calibration drawn along; the number of people is
counted in each draw.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from passerby.reid.calibration import Calibration, posterior
from passerby.reid.evidence import LEAST_WEIGHT
from passerby.types import Float32, Float64, Grouping, Int64, Interval, PasserbyError

MAX_PICTURES = 30_000  # their similarities are held at once: 3.6 GB
BINS = 2048  # of the cosine
PRIOR_ROUNDS = 500
START = 0.1  # the posterior down to which pictures are linked before anything is drawn
BURN_IN = 6  # sweeps before the first draw
DRAWS_A_CALIBRATION = 4
CHUNK = 4096  # pictures looked at together
# What is known before looking, chosen on dev people of Market-1501 and CUHK03 (see docs/decisions.md):
BURST = 0.7  # a run of pictures unlike their person's others goes on with this probability
SPLIT = 2.0  # how many unlike blocks there are for each person


def group_vectors(
    vectors: Float32,
    calibration: Calibration,
    *,
    threshold: float,
    quality: Float32 | None = None,
    cameras: Sequence[str | None] | None = None,
    times: Sequence[datetime] | None = None,
    draws: int = 100,
    seed: int = 0,
) -> Grouping:
    """Sort unit vectors (n, length) into people, and estimate how many people they show: `groupings` at one threshold."""
    return groupings(
        vectors,
        calibration,
        thresholds=(threshold,),
        quality=quality,
        cameras=cameras,
        times=times,
        draws=draws,
        seed=seed,
    )[0]


def groupings(
    vectors: Float32,
    calibration: Calibration,
    *,
    thresholds: Sequence[float],
    quality: Float32 | None = None,
    cameras: Sequence[str | None] | None = None,
    times: Sequence[datetime] | None = None,
    draws: int = 100,
    seed: int = 0,
) -> list[Grouping]:
    """Sort unit vectors (n, length) into people, once for each threshold, and estimate how many people they show.

    `draws` partitions are drawn from the posterior (`_Crowd`), once for all thresholds. Pictures that stand together in at
    least a threshold's share of them, on average over a group, are one group; `people` is the median of the number of people
    in the draws with its 90 % interval, whatever the threshold. A picture whose `quality` (n,), 0..1, is 0 shows nothing:
    it is in no group and counts for nobody. Where `cameras` and `times` are given, pictures of one camera at one time are
    never one person. Labels follow the order of first appearance; equal input gives equal output.

    Raises PasserbyError for lists of another length than `vectors`, times without time zone, or over 30,000 pictures.
    """
    n = len(vectors)
    rated = np.ones(n, np.float32) if quality is None else np.asarray(quality, np.float32)
    for name, given in (("cameras", cameras), ("times", times), ("qualities", rated)):
        if given is not None and len(given) != n:
            raise PasserbyError(f"group: expected {n} {name}, one a picture, got {len(given)}")
    if times is not None and any(not isinstance(t, datetime) or t.tzinfo is None for t in times):
        raise PasserbyError("group: expected timezone-aware datetimes as times")
    if n > MAX_PICTURES:
        raise PasserbyError(f"group: expected at most {MAX_PICTURES:,} pictures, got {n:,}; group by day, or by shop")
    seen = np.flatnonzero(rated > 0)
    unknown = tuple(np.flatnonzero(rated <= 0).tolist())
    if not len(seen):
        return [Grouping((None,) * n, 0, Interval(0.0, 0.0, 0.0), unknown) for _ in thresholds]
    keys: list[Hashable] = list(range(len(seen)))
    if cameras is not None and times is not None:
        keys = [i if cameras[i] is None else (cameras[i], times[i].timestamp()) for i in seen.tolist()]
    reference, drawn = partitions(vectors[seen], rated[seen], calibration, keys=keys, draws=draws, seed=seed)
    counts = np.array([len(np.unique(row)) for row in drawn])
    low, high = np.quantile(counts, [0.05, 0.95])
    people = Interval(float(np.median(counts)), float(low), float(high))
    found = []
    for threshold in thresholds:
        together = _certain(reference, drawn, threshold)
        numbers: dict[int, int] = {}
        labels: list[int | None] = [None] * n
        for row, group in zip(seen.tolist(), together.tolist(), strict=True):
            labels[row] = numbers.setdefault(group, len(numbers))
        found.append(Grouping(tuple(labels), len(numbers), people, unknown))
    return found


def partitions(
    vectors: Float32,
    quality: Float32,
    calibration: Calibration,
    *,
    keys: Sequence[Hashable],
    draws: int = 100,
    seed: int = 0,
) -> tuple[Int64, Int64]:
    """The likeliest partition (n,), and `draws` partitions (draws, n) from the posterior, as numbers of people.

    `vectors` (n, length) are unit, `quality` (n,) above 0; two pictures with one key of `keys` are never one person. The
    calibration is drawn anew, from its error, every few draws.
    """
    rng = np.random.default_rng(seed)
    crowd = _Crowd(vectors, quality, keys, rng)
    usual = _Ratios(calibration)
    crowd.begin(_linked(vectors, calibration, keys))
    for _ in range(BURN_IN):
        crowd.sweep(usual)
        crowd.learn()
    drawn = np.empty((draws, len(vectors)), np.int64)
    for draw in range(draws):
        if draw % DRAWS_A_CALIBRATION == 0:
            ratios = _Ratios(calibration.drawn(rng))
            crowd.sweep(ratios)
        crowd.sweep(ratios)
        drawn[draw] = crowd.owner
    for _ in range(BURN_IN):
        crowd.sweep(usual, likeliest=True)
    return crowd.owner, drawn


def share_of_same_pairs(similarities: Float32, calibration: Calibration) -> float:
    """The share of pairs of pictures that show one person, estimated from their similarities (n, n) alone; 0..1.

    The maximum of the likelihood of a mixture whose two parts the calibration knows, by expectation-maximisation: the
    share is the mean posterior under itself (Saerens et al., Neural Computation 2002). One pair in doubt is added, so that
    few pictures are judged at nearly even odds.
    """
    counts = np.zeros(BINS, np.int64)
    for i in range(len(similarities)):
        counts += np.bincount(_bins(similarities[i, :i]), minlength=BINS)
    llr = calibration.one.at(_centres())
    share = 0.5
    for _ in range(PRIOR_ROUNDS):
        before, share = share, float((counts @ posterior(llr, share) + 0.5) / (counts.sum() + 1))
        if abs(math.log(share / before)) < 1e-6:
            break
    return share


def _linked(vectors: Float32, calibration: Calibration, keys: Sequence[Hashable]) -> Int64:
    """A partition (n,) to begin with: average linkage down to the posterior `START`."""
    similarities = vectors @ vectors.T
    share = share_of_same_pairs(similarities, calibration)
    groups = _Groups(similarities)
    groups.forbid(keys)
    least = calibration.similarity_at(START, share)
    while least is not None and groups.groups > 1:
        similarity, i, j = groups.closest()
        if similarity < least:
            break
        groups.merge(i, j)
    return groups.owner


def _certain(reference: Int64, drawn: Int64, threshold: float) -> Int64:
    """The reference's groups (n,), each taken apart until its parts stand together in `threshold` of the draws (draws, n)."""
    names = np.empty(len(reference), np.int64)
    for group in np.unique(reference).tolist():
        members = np.flatnonzero(reference == group)
        atoms, atom_of = np.unique(drawn[:, members], axis=1, return_inverse=True)  # always together
        size = np.bincount(atom_of)
        alike = np.mean(atoms[:, :, None] == atoms[:, None, :], axis=0, dtype=np.float32) if len(size) < 200 else None
        if alike is None:
            alike = np.stack([np.mean(atoms == atoms[:, [i]], axis=0, dtype=np.float32) for i in range(len(size))])
        parts = _Groups(np.asarray(alike * size[:, None] * size[None, :], np.float32), size=size.astype(np.float32))
        while parts.groups > 1:
            share, i, j = parts.closest()
            if share < threshold:
                break
            parts.merge(i, j)
        names[members] = members[np.unique(atom_of, return_index=True)[1]][parts.owner[atom_of]]
    return names


class _Ratios:
    """A calibration's log-likelihood ratios, looked up by the cosine's bin and the pictures behind both sides."""

    def __init__(self, calibration: Calibration) -> None:
        self._pairs = [pair for pair, _ in calibration.curves]
        self._table = np.stack([curve.at(_centres()) for _, curve in calibration.curves]).astype(np.float32)
        self._most = max(m for _, m in self._pairs)
        number = np.arange(self._most + 1)
        self._curve = self._chosen(number[:, None], number[None, :])  # by both numbers of pictures

    def __call__(self, similarity: Float32 | Float64, a: float, b: Float32) -> Float32:
        ratios: Float32 = self._table[self._which(a, b), _bins(similarity)]
        return ratios

    def _which(self, a: float, b: Float32) -> Int64:
        """The number of the curve for so many pictures, 1 and more, as `Calibration.llr` chooses it."""
        which: Int64 = self._curve[min(int(a), self._most)][np.minimum(b, self._most).astype(np.int64)]
        return which

    def _chosen(self, a: Int64, b: Int64) -> Int64:
        fewer, more = np.minimum(a, b), np.maximum(a, b)
        which = np.zeros(fewer.shape, np.int64)
        for number, (n, m) in enumerate(self._pairs):
            which = np.where((fewer >= n) & (more >= m), number, which)
        return which

    def of_people(self, similarity: Float32, worth: Float32) -> Float32:
        """The ratios of one picture against each person: `similarity` (pictures, people), `worth` (people,)."""
        bins = _bins(similarity)
        which = self._which(1.0, worth)
        ratios = np.empty(similarity.shape, np.float32)
        for number in np.unique(which).tolist():
            columns = np.flatnonzero(which == number)
            ratios[:, columns] = self._table[number][bins[:, columns]]
        return ratios


class _Crowd:
    """A partition of pictures into people that moves at random, in the long run as often where it is likelier.

    Each conditional is a calibrated ratio of likelihoods (`evidence`: one picture, or a block, against all other pictures
    of a person) times a prior; such a sampler is a dependency network (Heckerman et al., JMLR 2000). The prior of how many
    pictures a person has is a negative binomial that `learn` fits to the partition, as in Zanella et al., "Flexible models
    for microclustering" (NeurIPS 2016). Blocks are the groups to begin with: together they may join another person, and leave
    again.
    """

    def __init__(self, vectors: Float32, quality: Float32, keys: Sequence[Hashable], rng: np.random.Generator) -> None:
        self.owner = np.full(len(vectors), -1, np.int64)  # (n,) the person of each picture
        self._vectors, self._quality, self._rng = vectors, quality, rng
        self._weight = np.maximum(quality, LEAST_WEIGHT).astype(np.float32)
        self._sums = np.zeros((64, vectors.shape[1]), np.float32)  # of weighted vectors, a row a person
        self._worth = np.zeros(64, np.float32)  # sums of weights
        self._count = np.zeros(64, np.int64)  # pictures; 0 where a row is free
        self._blocks: list[Int64] = []
        self._rivals: dict[int, Int64] = {}  # who can never be one person with a picture
        by_key: dict[Hashable, list[int]] = {}
        for i, key in enumerate(keys):
            by_key.setdefault(key, []).append(i)
        for members in by_key.values():
            for i in members:
                if len(members) > 1:
                    self._rivals[i] = np.array([j for j in members if j != i], np.int64)

    def begin(self, owner: Int64) -> None:
        """Start from a partition (n,)."""
        for group in np.unique(owner).tolist():
            members = np.flatnonzero(owner == group)
            self._put(members, self._free())
            if len(members) > 1:
                self._blocks.append(members)
        self.learn()

    def sweep(self, ratios: _Ratios, *, likeliest: bool = False) -> None:
        """Look at each picture and each block once; `likeliest` takes the likeliest place in place of a draw."""
        self._move_pictures(ratios, likeliest)
        self._move_blocks(ratios, likeliest)

    def _move_pictures(self, ratios: _Ratios, likeliest: bool) -> None:
        for start in range(0, len(self.owner), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(self.owner)))
            people = np.flatnonzero(self._count)
            column = np.full(len(self._count), -1)
            column[people] = np.arange(len(people))
            own, each = column[self.owner[rows]], np.arange(len(rows))
            worth, count = self._worth[people], self._count[people]
            sums = self._vectors[rows] @ self._sums[people].T  # (rows, people)
            score = ratios.of_people(sums / worth, np.maximum(worth, 1)) * self._quality[rows, None]
            score += np.log((count + self._shape) * self._rate).astype(np.float32)
            new = np.log(len(people) - (count[own] == 1) + 1) + self._log_size(
                1
            )  # as somebody whom no other picture shows
            # One's own person is who it is without the picture itself; who is alone stays as somebody new.
            left, others = worth[own] - self._weight[rows], count[own] - 1
            similarity = (sums[each, own] - self._weight[rows]) / np.where(others > 0, left, np.inf)
            stay = ratios(similarity, 1.0, np.maximum(left, 1)) * self._quality[rows]
            stay = np.where(others > 0, stay + np.log((others + self._shape) * self._rate), new)
            for row, i in enumerate(rows.tolist() if self._rivals else ()):
                if i in self._rivals:
                    score[row, column[self.owner[self._rivals[i]]]] = -np.inf
            score[each, own] = -np.inf
            if likeliest:
                leaves = np.maximum(score.max(axis=1), np.where(others > 0, new, -np.inf)) > stay
            else:
                elsewhere = np.exp(score - stay[:, None].astype(np.float32)).sum(axis=1)
                elsewhere += np.where(others > 0, np.exp(new - stay), 0)
                leaves = self._rng.random(len(rows)) * (1 + elsewhere) < elsewhere
            changed: set[int] = set()  # people who are no longer those that were looked at
            for row in np.flatnonzero(leaves).tolist():
                home = int(self.owner[rows[row]])
                target = self._move(rows[row : row + 1], ratios, likeliest, leave=not likeliest and home not in changed)
                changed |= {home, target}

    def _move_blocks(self, ratios: _Ratios, likeliest: bool) -> None:
        for number in self._rng.permutation(len(self._blocks)).tolist():
            block = self._blocks[number]
            home = int(np.bincount(self.owner[block]).argmax())
            members = block[self.owner[block] == home]
            if len(members) > 1:
                self._move(members, ratios, likeliest)

    def _move(self, members: Int64, ratios: _Ratios, likeliest: bool, *, leave: bool = False) -> int:
        """Take pictures of one person out, and draw where they go together: to a person, or as somebody new.

        With `leave` it is drawn already that they do not go back. Returns the person that they went to.
        """
        home = int(self.owner[members[0]])
        weight = self._weight[members]
        total, worth, size = weight @ self._vectors[members], float(weight.sum()), len(members)
        self._sums[home] -= total
        self._worth[home] -= worth
        self._count[home] -= size
        people = np.flatnonzero(self._count)
        theirs = self._worth[people]
        similarity = (self._sums @ total)[people] / (theirs * worth)
        score = ratios(similarity, max(worth, 1.0), np.maximum(theirs, 1)) * float(self._quality[members].max())
        new = math.log(len(people) + 1)
        prior = np.log(self._count[people] + self._shape) + size * math.log(self._rate) - new - self._log_size(size)
        if size > 1:
            prior = np.maximum(prior + (size - 1) * math.log(BURST), math.log(SPLIT) - new)
        score = np.append(score + prior, 0.0)
        if self._rivals and (rivals := [self._rivals[i] for i in members.tolist() if i in self._rivals]):
            score[:-1][np.isin(people, self.owner[np.concatenate(rivals)])] = -np.inf
        if leave:
            score[np.searchsorted(people, home) if self._count[home] else -1] = -np.inf
        if not np.isfinite(score).any():  # those whom they left for are gone
            self._add(members, home, total, worth)
            return home
        place = int(self._pick(score[None], likeliest)[0])
        target = int(people[place]) if place < len(people) else home if not self._count[home] else self._free()
        self._add(members, target, total, worth)
        return target

    def _put(self, members: Int64, person: int) -> None:
        weight = self._weight[members]
        self._add(members, person, weight @ self._vectors[members], float(weight.sum()))

    def _add(self, members: Int64, person: int, total: Float32, worth: float) -> None:
        if not self._count[person]:
            self._sums[person], self._worth[person] = 0, 0
        self._sums[person] += total
        self._worth[person] += worth
        self._count[person] += len(members)
        self.owner[members] = person

    def _free(self) -> int:
        free = np.flatnonzero(self._count == 0)
        if len(free):
            return int(free[0])
        first = len(self._count)
        self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
        self._worth = np.concatenate([self._worth, np.zeros_like(self._worth)])
        self._count = np.concatenate([self._count, np.zeros_like(self._count)])
        return first

    def _pick(self, score: Float32 | Float64, likeliest: bool) -> Int64:
        """A column of each row, drawn in proportion to e^score (by the Gumbel trick)."""
        noise = 0.0 if likeliest else self._rng.gumbel(size=score.shape)
        picked: Int64 = np.argmax(score + noise, axis=1)
        return picked

    def learn(self) -> None:
        """Fit the negative binomial of pictures a person to the partition, by its moments."""
        sizes = self._count[self._count > 0].astype(np.float64)
        mean, variance = max(1.05, float(sizes.mean())), float(sizes.var())
        self._shape = float(np.clip(mean**2 / (variance - mean), 0.3, 50)) if variance > mean else 50.0
        self._rate = mean / (mean + self._shape)

    def _log_size(self, size: int) -> float:
        """The logarithm of the probability that a person has so many pictures, one at least."""
        shape, rate = self._shape, self._rate
        log = math.lgamma(size + shape) - math.lgamma(size + 1) - math.lgamma(shape)
        return log + size * math.log(rate) + shape * math.log1p(-rate) - math.log1p(-((1 - rate) ** shape))


class _Groups:
    """Groups of pictures, the sums of cosines between them, and each group's closest other one."""

    def __init__(self, similarities: Float32, size: Float32 | None = None) -> None:
        """Everybody apart; `similarities` (n, n), times the sizes of both, is changed in the course of merging."""
        n = len(similarities)
        self.owner = np.arange(n)  # (pictures,) the group that a picture is in; a group is named by its first picture
        self.groups = n
        self._dot = similarities  # (n, n) sums over the pictures of two groups
        self._count = np.ones(n, np.float32) if size is None else size  # pictures of a group
        self._alive = np.ones(n, np.bool_)
        self._forbidden: dict[int, set[int]] = {}
        self._near: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
        self._best = np.full(n, -np.inf, np.float32)

    def forbid(self, keys: Sequence[Hashable]) -> None:
        """Pictures with the same key are never of one group."""
        by_key: dict[Hashable, list[int]] = {}
        for i, key in enumerate(keys):
            by_key.setdefault(key, []).append(i)
        for members in by_key.values():
            for i in members:
                if len(members) > 1:
                    self._forbidden[i] = set(members) - {i}

    def closest(self) -> tuple[float, int, int]:
        """The most similar pair of groups that may merge: (mean cosine, group, group); -inf where there is none."""
        if self._near is None:
            self._near = np.zeros(len(self.owner), np.int64)
            for i in np.flatnonzero(self._alive).tolist():
                self._look(i)
        i = int(np.argmax(self._best))
        return float(self._best[i]), i, int(self._near[i])

    def merge(self, i: int, j: int) -> None:
        """Make two groups one, named by the smaller number."""
        i, j = min(i, j), max(i, j)
        self.owner[self.owner == j] = i
        self.groups -= 1
        self._alive[j] = False
        self._dot[i] += self._dot[j]
        self._dot[:, i] = self._dot[i]
        self._count[i] += self._count[j]
        enemies = (self._forbidden.pop(i, set()) | self._forbidden.pop(j, set())) - {i, j}
        if enemies:
            self._forbidden[i] = enemies
        for enemy in enemies:
            self._forbidden[enemy] = (self._forbidden[enemy] - {j}) | {i}
        self._best[j] = -np.inf
        if self._near is not None:
            row = self._look(i)
            lost = np.flatnonzero(self._alive & ((self._near == i) | (self._near == j)))
            closer = np.flatnonzero(row > self._best)
            self._near[closer], self._best[closer] = i, row[closer]
            for k in lost.tolist():
                if k != i:
                    self._look(k)

    def _look(self, i: int) -> Float32:
        """Find a group's closest other one; returns its similarities, -inf where merging is out of the question."""
        assert self._near is not None
        row: Float32 = self._dot[i] / (self._count[i] * self._count)
        row[~self._alive] = -np.inf
        row[i] = -np.inf
        forbidden = self._forbidden.get(i)
        if forbidden:
            row[list(forbidden)] = -np.inf
        self._near[i] = int(np.argmax(row))
        self._best[i] = row[self._near[i]]
        return row


def _bins(similarity: Float32 | Float64) -> Int64:
    bins: Int64 = ((similarity + 1) * (BINS / 2)).astype(np.int64)
    np.maximum(bins, 0, out=bins)
    return np.minimum(bins, BINS - 1, out=bins)


def _centres() -> Float64:
    """The cosine in the middle of each bin."""
    centres: Float64 = np.linspace(-1, 1, BINS, endpoint=False) + 1 / BINS
    return centres


@dataclass(frozen=True, slots=True)
class PairScores:
    """How well groups fit the truth, over all pairs of pictures: each share is 0..1."""

    precision: float
    recall: float
    f1: float


def pairwise_scores(labels: Sequence[Hashable], truth: Sequence[Hashable]) -> PairScores:
    """Compare a grouping with the true people, over all pairs of pictures.

    Precision: of the pairs put together, the share that truly are one person. Recall: of the pairs of one person, the
    share put together. A share of no pairs is 1 (nothing was got wrong). Raises PasserbyError for lists of two lengths.

    >>> pairwise_scores([0, 0, 1, 1], ["a", "a", "a", "b"])
    PairScores(precision=0.5, recall=0.3333333333333333, f1=0.4)
    """
    if len(labels) != len(truth):
        raise PasserbyError(
            f"pairwise scores: expected as many labels as true people, got {len(labels)} and {len(truth)}"
        )

    def pairs(of: Iterable[Hashable]) -> int:
        return sum(n * (n - 1) // 2 for n in Counter(of).values())

    together, put, real = pairs(zip(labels, truth, strict=True)), pairs(labels), pairs(truth)
    precision, recall = together / put if put else 1.0, together / real if real else 1.0
    return PairScores(precision, recall, 2 * precision * recall / (precision + recall) if together else 0.0)
