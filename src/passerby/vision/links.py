"""How well links, and later tracks, agree with the truth."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TypeVar

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
