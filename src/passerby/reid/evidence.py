"""The one definition of evidence: two sides, each pictures with their quality and number, to a log-likelihood ratio.

Everything that compares people calls it: one picture against one, a gallery's person against a query, a sighting's
prototypes against a chain of sightings. Priors are none of its business.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from passerby.reid.calibration import Calibration
from passerby.types import Float32, Float64, PictureError

LEAST_WEIGHT = 1e-3  # of a picture that shows nothing, so that a side of such pictures alone has a mean


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """What is known of n people, or of n tracks: a row each.

    `means` (n, length) float32 are the means of each one's unit vectors, weighted by quality and number, and not brought
    to unit length: the product of two is the mean cosine between the pictures of both. `pictures` (n,) is how many good
    pictures' worth stands behind each, at least 1; `quality` (n,) that of its best picture, 0..1: 0 shows nothing, and
    nothing can be said of it.
    """

    means: Float32
    pictures: Float64
    quality: Float32

    def __len__(self) -> int:
        return len(self.means)

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> "Sides":
        """The rows named, in that order."""
        where = np.asarray(rows, np.int64)
        return Sides(self.means[where], self.pictures[where], self.quality[where])


def side(vectors: Float32, quality: ArrayLike = 1.0, pictures: ArrayLike = 1) -> Sides:
    """One side from its unit vectors (n, length), with `quality` 0..1 and `pictures` behind each, (n,) or one for all.

    Raises PictureError where there is no vector.

    >>> one = side(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), quality=[1.0, 0.5], pictures=[1, 2])
    >>> one.means.tolist(), one.pictures.tolist(), one.quality.tolist()
    ([[0.5, 0.5]], [2.0], [1.0])
    """
    rows = np.atleast_2d(np.asarray(vectors, np.float32))
    if not len(rows):
        raise PictureError("evidence: expected at least one vector on each side, got none")
    rated = np.broadcast_to(np.asarray(quality, np.float64), (len(rows),))
    worth = rated * np.asarray(pictures, np.float64)
    weights = np.maximum(worth, LEAST_WEIGHT)
    mean = weights / weights.sum() @ rows
    return Sides(
        np.asarray(mean, np.float32)[None],
        np.array([max(1.0, float(worth.sum()))]),
        np.array([rated.max()], np.float32),
    )


def nobody(length: int) -> Sides:
    """No side at all, of vectors of that length."""
    return Sides(np.empty((0, length), np.float32), np.empty(0), np.empty(0, np.float32))


def joined(sides: Sequence[Sides]) -> Sides:
    """Several sides below each other."""
    return Sides(
        np.concatenate([each.means for each in sides]),
        np.concatenate([each.pictures for each in sides]),
        np.concatenate([each.quality for each in sides]),
    )


def evidence(calibration: Calibration, a: Sides, b: Sides) -> Float64:
    """The log-likelihood ratio (natural logarithm) of each of `a` against each of `b`: (len(a), len(b)).

    Above 0 speaks for one person, below 0 for two; 0 where either shows nothing.
    """
    similarity = a.means @ b.means.T  # (len(a), len(b)), mean cosine
    return weighed(
        calibration,
        similarity,
        pictures=(a.pictures[:, None], b.pictures[None, :]),
        quality=np.minimum(a.quality[:, None], b.quality[None, :]),
    )


def weighed(
    calibration: Calibration,
    similarity: ArrayLike,
    *,
    pictures: tuple[ArrayLike, ArrayLike],
    quality: ArrayLike,
) -> Float64:
    """`evidence` where the cosines are known: `pictures` behind each side and the worse side's `quality` broadcast to them."""
    ratio = calibration.llr(similarity, *pictures)
    result: Float64 = ratio * np.asarray(quality, np.float64)
    return result


def chained(ratio: ArrayLike, a: ArrayLike, b: ArrayLike) -> Float64:
    """The log-likelihood ratio of `a` sightings of one side against `b` of the other, from the mean `ratio` of one against one.

    Half of what is uncertain in a ratio is of each sighting's own, and averages out: the harmonic mean of both numbers times
    the mean ratio. All broadcast.

    >>> chained(3.0, [1, 2, 1000], [1, 1, 1]).round(2).tolist()
    [3.0, 4.0, 5.99]
    """
    result: Float64 = np.asarray(ratio, np.float64) * 2 / (1 / np.asarray(a) + 1 / np.asarray(b))
    return result
