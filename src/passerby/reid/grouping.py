"""Pictures sorted into people, without knowing how many there are: average linkage down to a stated probability."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from passerby.reid.calibration import Calibration, posterior
from passerby.types import Float32, Grouping, PasserbyError

MAX_PICTURES = 30_000  # their similarities are held at once: 3.6 GB
PRIOR_BINS = 2048  # of the cosine
PRIOR_ROUNDS = 500
TRACK_GAP_S = 2.0  # in one camera, looks that far apart at most are judged at even odds


def group_vectors(
    vectors: Float32,
    calibration: Calibration,
    *,
    threshold: float,
    cameras: Sequence[str | None] | None = None,
    times: Sequence[datetime] | None = None,
) -> Grouping:
    """Sort unit vectors (n, length) into people.

    Starts with everybody apart and merges the two groups whose pictures are most similar on average, as long as the
    posterior of "same person" at that similarity reaches `threshold`. The prior, the share of pairs that show one person,
    is estimated from the pictures themselves (`share_of_same_pairs`), so the same looks count for less in a crowd. Where
    `cameras` and `times` are given, pictures of one camera within 2 s are first judged at even odds (most often they show
    one person walking by), and groups that hold pictures of one camera at one time never merge. Numbers follow the order
    of first appearance; equal input gives equal output.

    Raises PasserbyError for lists of another length than `vectors`, times without time zone, or over 30,000 pictures.
    """
    n = len(vectors)
    for name, given in (("cameras", cameras), ("times", times)):
        if given is not None and len(given) != n:
            raise PasserbyError(f"group: expected {n} {name}, one a picture, got {len(given)}")
    if times is not None and any(not isinstance(t, datetime) or t.tzinfo is None for t in times):
        raise PasserbyError("group: expected timezone-aware datetimes as times")
    if n > MAX_PICTURES:
        raise PasserbyError(f"group: expected at most {MAX_PICTURES:,} pictures, got {n:,}; group by day, or by shop")
    if n < 2:
        return Grouping(tuple(range(n)), n)
    state = _Groups(vectors)
    prior = share_of_same_pairs(state.similarities, calibration, cameras=cameras)
    if cameras is not None and times is not None:
        seconds = [time.timestamp() for time in times]
        order = sorted((i for i in range(n) if cameras[i] is not None), key=lambda i: (str(cameras[i]), seconds[i], i))
        state.forbid([(cameras[i], seconds[i]) if cameras[i] is not None else i for i in range(n)])
        _merge_tracks(state, order, cameras, seconds, least=_least_similarity(calibration, threshold, prior=0.5))
    least = _least_similarity(calibration, threshold, prior=prior)
    while state.groups > 1:
        similarity, i, j = state.closest()
        if similarity < least:
            break
        state.merge(i, j)
    return _numbered(state.owner)


def share_of_same_pairs(
    similarities: Float32, calibration: Calibration, *, cameras: Sequence[str | None] | None = None
) -> float:
    """The share of pairs of pictures that show one person, estimated from their similarities (n, n) alone; 0..1.

    The maximum of the likelihood of a mixture whose two parts the calibration knows, by expectation-maximisation: the
    share is the mean posterior under itself (Saerens et al., Neural Computation 2002). One pair in doubt is added, so that
    few pictures are judged at nearly even odds. Pairs of one camera are left out where `cameras` are given and pairs of
    two cameras exist: a calibration speaks of two cameras.
    """
    counts = np.zeros(PRIOR_BINS, np.int64)
    places = np.array([f"{camera}" if camera is not None else f"{i} unknown" for i, camera in enumerate(cameras or ())])
    apart = cameras is not None and len(set(places.tolist())) > 1
    for i in range(len(similarities)):
        row = similarities[i, :i]
        if apart:
            row = row[places[:i] != places[i]]
        bins = ((row + 1) * (PRIOR_BINS / 2)).astype(np.int64)
        counts += np.bincount(np.clip(bins, 0, PRIOR_BINS - 1), minlength=PRIOR_BINS)
    llr = calibration.llr(np.linspace(-1, 1, PRIOR_BINS, endpoint=False) + 1 / PRIOR_BINS)
    share = 0.5
    for _ in range(PRIOR_ROUNDS):
        before, share = share, float((counts @ posterior(llr, share) + 0.5) / (counts.sum() + 1))
        if abs(math.log(share / before)) < 1e-6:
            break
    return share


class _Groups:
    """Groups of pictures, the sums of cosines between them, and each group's closest other one."""

    def __init__(self, vectors: Float32) -> None:
        n = len(vectors)
        self.owner = np.arange(n)  # (pictures,) the group that a picture is in; a group is named by its first picture
        self.groups = n
        self._dot = vectors @ vectors.T  # (n, n) sums of cosines between the pictures of two groups
        self._count = np.ones(n, np.float32)  # pictures of a group
        self._alive = np.ones(n, np.bool_)
        self._forbidden: dict[int, set[int]] = {}
        self._near: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
        self._best = np.full(n, -np.inf, np.float32)

    @property
    def similarities(self) -> Float32:
        """Cosines (n, n) between the pictures; before any merge."""
        return self._dot

    def forbid(self, keys: Sequence[Hashable]) -> None:
        """Pictures with the same key are never of one group."""
        by_key: dict[Hashable, list[int]] = {}
        for i, key in enumerate(keys):
            by_key.setdefault(key, []).append(i)
        for members in by_key.values():
            for i in members:
                if len(members) > 1:
                    self._forbidden[i] = set(members) - {i}

    def may_merge(self, i: int, j: int) -> bool:
        """Whether no picture of one group is forbidden to be with one of the other."""
        return j not in self._forbidden.get(i, ())

    def similarity(self, i: int, j: int) -> float:
        """Mean cosine between the pictures of two groups."""
        return float(self._dot[i, j] / (self._count[i] * self._count[j]))

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


def _merge_tracks(
    state: _Groups, order: list[int], cameras: Sequence[str | None], seconds: list[float], *, least: float
) -> None:
    """Merge pictures of one camera that follow each other within the gap, most similar first."""
    pairs: list[tuple[float, int, int]] = []
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            if cameras[j] != cameras[i] or seconds[j] - seconds[i] > TRACK_GAP_S:
                break
            pairs.append((-state.similarity(i, j), i, j))
    for negative, i, j in sorted(pairs):
        if -negative < least:
            break
        a, b = int(state.owner[i]), int(state.owner[j])
        if a != b and state.may_merge(a, b) and state.similarity(a, b) >= least:
            state.merge(a, b)


def _least_similarity(calibration: Calibration, threshold: float, *, prior: float) -> float:
    """The cosine from which the posterior reaches the threshold; infinite where it never does."""
    least = calibration.similarity_at(threshold, prior)
    return math.inf if least is None else least


def _numbered(owner: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Grouping:
    numbers: dict[int, int] = {}
    labels = tuple(numbers.setdefault(group, len(numbers)) for group in owner.tolist())
    return Grouping(labels, len(numbers))


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
