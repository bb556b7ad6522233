"""How well links, and later tracks, agree with the truth."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TypeVar

import numpy as np

from passerby.shop import SightingKey

Pair = tuple[SightingKey, SightingKey]
Label = TypeVar("Label", bound=Hashable)


@dataclass(frozen=True, slots=True)
class LinkScores:
    """How many links are right, of those said and of those there are; all 0..1, 0 where nothing was said or there."""

    right: int
    said: int
    there: int

    @property
    def precision(self) -> float:
        """The part of the links said that are right."""
        return self.right / self.said if self.said else 0.0

    @property
    def recall(self) -> float:
        """The part of the true links that were said."""
        return self.right / self.there if self.there else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.right / (self.said + self.there) if self.said + self.there else 0.0


def consecutive_pairs(sightings: Sequence[tuple[SightingKey, datetime]], labels: Sequence[Label | None]) -> set[Pair]:
    """Pairs of consecutive sightings of one label in different cameras, earlier first.

    `sightings` are keys with the time of their start, in any order; equal times follow the key. A sighting whose label is
    None belongs to nobody. A person seen twice in one camera and then in another makes one pair, of the last two.
    """
    by_label: dict[Label, list[tuple[datetime, SightingKey]]] = {}
    for (key, start), label in zip(sightings, labels, strict=True):
        if label is not None:
            by_label.setdefault(label, []).append((start, key))
    return {
        (earlier, later)
        for mine in by_label.values()
        for (_, earlier), (_, later) in pairwise(sorted(mine))
        if earlier.camera != later.camera
    }


def score_links(said: set[Pair], there: set[Pair]) -> LinkScores:
    """Count the links that are right; two links are one if they join the same sightings, whichever is called earlier."""
    unordered = {frozenset(pair) for pair in said}
    truth = {frozenset(pair) for pair in there}
    return LinkScores(len(unordered & truth), len(unordered), len(truth))


@dataclass(frozen=True, slots=True)
class IdentityScores:
    """How much of people's time is given to the right one over all cameras, where each found person may be one true one.

    All in seconds: `right` of the `said` time of found people and of the time `there` of true ones.
    """

    right: float
    said: float
    there: float

    @property
    def idf1(self) -> float:
        """Cross-camera IDF1, 0..1: twice the right time, of the time said and the time there."""
        return 2 * self.right / (self.said + self.there) if self.said + self.there else 0.0


def score_identities(
    seconds: Sequence[float], said: Sequence[Label | None], there: Sequence[Label | None]
) -> IdentityScores:
    """Give each true person at most one found one so that most time agrees (Ristani et al., ECCV workshops 2016).

    The three are of the same sightings: how long each lasts, whom it was held to be, whom it shows; None is nobody.

    >>> score_identities([10, 10, 5], [1, 1, 2], [7, 8, 8]).idf1
    0.6
    """
    from scipy.optimize import linear_sum_assignment

    found, true = (sorted({label for label in labels if label is not None}, key=str) for labels in (said, there))
    row, column = ({label: number for number, label in enumerate(labels)} for labels in (found, true))
    shared = np.zeros((len(found), len(true)))
    totals = [0.0, 0.0]
    for lasts, mine, truly in zip(seconds, said, there, strict=True):
        totals[0] += lasts if mine is not None else 0.0
        totals[1] += lasts if truly is not None else 0.0
        if mine is not None and truly is not None:
            shared[row[mine], column[truly]] += lasts
    best = linear_sum_assignment(shared, maximize=True)
    return IdentityScores(float(shared[best].sum()), *totals)


def transitions(
    sightings: Sequence[tuple[SightingKey, datetime]], labels: Sequence[Label | None]
) -> Counter[tuple[str, str]]:
    """How often somebody went from one camera to another: (from, to), over `consecutive_pairs`."""
    return Counter((earlier.camera, later.camera) for earlier, later in consecutive_pairs(sightings, labels))


def score_transitions(said: Counter[tuple[str, str]], there: Counter[tuple[str, str]]) -> LinkScores:
    """Count the transitions of each pair of cameras that were said and are there, whoever made them."""
    return LinkScores((said & there).total(), said.total(), there.total())


def whole_paths(
    sightings: Sequence[tuple[SightingKey, datetime]], said: Sequence[Label | None], there: Sequence[Label | None]
) -> tuple[int, int]:
    """How many true people have all their sightings, and no other, in one found person; and how many people there are."""
    of: list[dict[Label, set[SightingKey]]] = [{}, {}]
    for (key, _), *labels in zip(sightings, said, there, strict=True):
        for people, label in zip(of, labels, strict=True):
            if label is not None:
                people.setdefault(label, set()).add(key)
    found = {frozenset(keys) for keys in of[0].values()}
    return sum(frozenset(keys) in found for keys in of[1].values()), len(of[1])
