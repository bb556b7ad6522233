"""k-reciprocal re-ranking: a gallery's order corrected by who is near whom, without any matrix of all against all."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passerby.reid.retrieval import CHUNK_SCORES, cosines, unit_rows
from passerby.types import Float32, Int64, ModelError

Int32 = NDArray[np.int32]
Bool = NDArray[np.bool_]

LEAST_DISTANCE = 1e-10  # where even the farthest picture is nearer, all are one, and the rest is rounding
CHUNK_PICTURES = 512  # whose neighbours' neighbours are looked at together


def reranked(
    query: Float32,
    gallery: Float32,
    *,
    k1: int = 20,
    k2: int = 6,
    own_weight: float = 0.3,
    chunk_scores: int = CHUNK_SCORES,
) -> Iterator[tuple[int, Float32]]:
    """Similarities 0..1 after k-reciprocal re-ranking, some queries at a time; `scores` of `rank` and `evaluate`.

    `query` is (queries, d), `gallery` (pictures, d), of any length. Yields (first query, (chunk, pictures)); each chunk
    may overwrite the one before. A similarity is 1 - final distance: `own_weight` (the paper's lambda) times the
    distance of the two pictures, the rest the Jaccard distance of their neighbourhoods. `k1` neighbours are looked at,
    `k2` are averaged over. Raises ModelError for embeddings of a wrong shape or with NaN, and for settings out of range.

    Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017. As in the authors' code:
    queries and gallery are one set, in which everybody looks for neighbours, itself the first; a neighbour's own
    k1 / 2 reciprocal neighbours join where more than 2/3 of them are there already; weights are exp(-distance), where a
    distance is divided by its row's largest; the average over k2 counts the picture itself; the largest is that over
    both queries and gallery. The distance is (1 - cosine) squared, as in deep-person-reid with its cosine metric. Equal
    distances stand in the order of rows, queries first. Memory is some numbers for each picture and neighbour, and
    `chunk_scores` scores.

    >>> query, gallery = np.float32([[1, 0]]), np.float32([[0.9, 0.1], [0.6, 0.8], [-1, 0]])
    >>> (_, scores), = reranked(query, gallery, k1=2, k2=1)
    >>> scores.argsort()[0, ::-1]
    array([0, 1, 2])
    """
    if k1 < 1 or not 1 <= k2 <= k1 + 1 or not 0 <= own_weight <= 1:
        raise ModelError(
            f"re-ranking: expected k1 of at least 1, k2 of 1 to k1 + 1 and own_weight in 0..1, "
            f"got k1={k1}, k2={k2}, own_weight={own_weight}"
        )
    first = unit_rows(query, "query")
    vectors = np.concatenate([first, unit_rows(gallery, "gallery", length=first.shape[1])])
    near, farthest = _neighbours(vectors, k1 + 1, chunk_scores)
    encodings = _expanded(_encodings(vectors, near, farthest), near[:, :k2])
    of_query, of_gallery = encodings.rows(0, len(first)), encodings.rows(len(first), len(vectors))
    by_neighbour = of_gallery.turned(len(vectors))
    for start, scores in cosines(query, gallery, chunk_scores=chunk_scores):
        np.subtract(1, scores, out=scores)
        scores *= scores
        farthest_here = farthest[start : start + len(scores), None]
        np.minimum(scores, farthest_here, out=scores)  # products of other shapes round otherwise
        scores /= farthest_here
        np.subtract(1, scores, out=scores)
        scores *= np.float32(own_weight)
        for offset, row in enumerate(scores):
            shared = _shared(*of_query.row(start + offset), by_neighbour, len(gallery))
            row += np.float32(1 - own_weight) * (
                shared / (2 - shared)
            )  # encodings sum to 1, so the union is 2 - shared
        yield start, scores


@dataclass(frozen=True, slots=True)
class _Sparse:
    """Rows of few numbers: row i has `values[start[i]:start[i+1]]` in `columns[start[i]:start[i+1]]`, rising."""

    start: Int64
    columns: Int32
    values: Float32

    def row(self, i: int) -> tuple[Int32, Float32]:
        part = slice(self.start[i], self.start[i + 1])
        return self.columns[part], self.values[part]

    def rows(self, first: int, end: int) -> "_Sparse":
        part = slice(self.start[first], self.start[end])
        return _Sparse(self.start[first : end + 1] - self.start[first], self.columns[part], self.values[part])

    def turned(self, columns: int) -> "_Sparse":
        """The same numbers by column: an inverted index."""
        order = np.argsort(self.columns, kind="stable")
        rows = np.repeat(np.arange(len(self.start) - 1, dtype=np.int32), np.diff(self.start))
        counts = np.bincount(self.columns, minlength=columns)
        return _Sparse(np.concatenate([[0], counts.cumsum()]), rows[order], self.values[order])


def _neighbours(vectors: Float32, count: int, chunk_scores: int) -> tuple[Int32, Float32]:
    """Each row's `count` nearest rows (n, count), itself the first, and its largest distance (n,)."""
    n = len(vectors)
    count = min(count, n)
    near = np.empty((n, count), np.int32)
    farthest = np.empty(n, np.float32)
    for start, scores in cosines(vectors, vectors, chunk_scores=chunk_scores):
        mine = np.arange(len(scores))
        farthest[start : start + len(scores)] = (1 - scores.min(axis=1)) ** 2
        scores[mine, start + mine] = np.inf
        least = np.partition(scores, n - count, axis=1)[:, n - count]
        rows, columns = np.nonzero(scores >= least[:, None])  # a few more than `count` where distances are equal
        order = np.lexsort((columns, -scores[rows, columns], rows))
        first = np.searchsorted(rows, mine)
        near[start : start + len(scores)] = columns[order][first[:, None] + np.arange(count)]
    return near, np.maximum(farthest, np.float32(LEAST_DISTANCE))


def _encodings(vectors: Float32, near: Int32, farthest: Float32) -> _Sparse:
    """Each row's k-reciprocal neighbours, grown by theirs, weighted by their distance; every row sums to 1."""
    n = len(vectors)
    half = near[:, : round((near.shape[1] - 1) / 2) + 1]
    mutual, half_mutual = _mutual(near), _mutual(half)
    parts = []
    for start in range(0, n, CHUNK_PICTURES):
        mine = near[start : start + CHUNK_PICTURES]  # (chunk, k1 + 1)
        here = mutual[start : start + CHUNK_PICTURES]
        theirs = half[mine]  # (chunk, k1 + 1, k1 / 2 + 1): whom each neighbour brings
        brought = half_mutual[mine] & here[:, :, None]
        known = np.zeros(brought.shape, np.bool_)
        for place in range(mine.shape[1]):
            known |= (theirs == mine[:, place, None, None]) & here[:, place, None, None]
        common, all_brought = (known & brought).sum(axis=2), brought.sum(axis=2)
        brought &= (3 * common > 2 * all_brought)[:, :, None]
        row = np.arange(start, start + len(mine), dtype=np.int64)
        keys = np.concatenate(
            [
                (row[:, None] * n + mine)[here],
                (row[:, None, None] * n + theirs)[brought],
            ]
        )
        parts.append(np.unique(keys))
    keys = np.concatenate(parts)
    rows, columns = keys // n, keys % n
    values = np.empty(len(keys), np.float32)
    for begin in range(0, len(keys), CHUNK_PICTURES * 16):
        part = slice(begin, begin + CHUNK_PICTURES * 16)
        distance = (1 - np.einsum("ij,ij->i", vectors[rows[part]], vectors[columns[part]])) ** 2
        values[part] = np.exp(-np.minimum(distance / farthest[rows[part]], 1))
    counts = np.bincount(rows, minlength=n)
    start_of = np.concatenate([[0], counts.cumsum()])
    values /= np.repeat(np.add.reduceat(values, start_of[:-1]), counts)  # no row is empty: itself is there
    return _Sparse(start_of, columns.astype(np.int32), values)


def _mutual(near: Int32) -> Bool:
    """Whether each neighbour (n, k) has the row among its own k nearest."""
    mutual = np.empty(near.shape, np.bool_)
    for start in range(0, len(near), CHUNK_PICTURES):
        mine = near[start : start + CHUNK_PICTURES]
        row = np.arange(start, start + len(mine), dtype=np.int32)
        mutual[start : start + len(mine)] = (near[mine] == row[:, None, None]).any(axis=2)
    return mutual


def _expanded(encodings: _Sparse, near: Int32) -> _Sparse:
    """The mean encoding of each row's nearest (n, k2): local query expansion."""
    n, k2 = near.shape
    if k2 == 1:
        return encodings
    columns: list[Int32] = []
    values: list[Float32] = []
    counts: list[Int64] = []
    lengths = np.diff(encodings.start)
    for start in range(0, n, CHUNK_PICTURES):
        mine = near[start : start + CHUNK_PICTURES]
        taken = _ranges(encodings.start[mine].ravel(), lengths[mine].ravel())
        row = np.repeat(np.arange(len(mine), dtype=np.int64), lengths[mine].sum(axis=1))
        keys, place = np.unique(row * n + encodings.columns[taken], return_inverse=True)
        columns.append((keys % n).astype(np.int32))
        values.append((np.bincount(place, encodings.values[taken], minlength=len(keys)) / k2).astype(np.float32))
        counts.append(np.bincount(keys // n, minlength=len(mine)))
    ends = np.concatenate(counts).cumsum()
    return _Sparse(np.concatenate([[0], ends]), np.concatenate(columns), np.concatenate(values))


def _shared(columns: Int32, values: Float32, by_neighbour: _Sparse, pictures: int) -> Float32:
    """How much of a query's encoding each gallery picture (pictures,) has too: the sum of the smaller weights, 0..1."""
    counts = by_neighbour.start[columns + 1] - by_neighbour.start[columns]
    taken = _ranges(by_neighbour.start[columns], counts)
    smaller = np.minimum(np.repeat(values, counts), by_neighbour.values[taken])
    return np.bincount(by_neighbour.columns[taken], smaller, minlength=pictures).astype(np.float32)


def _ranges(starts: Int64, counts: Int64) -> Int64:
    """start, start + 1, ... for each start, as many as its count, one behind the other."""
    before = counts.cumsum() - counts
    result: Int64 = np.repeat(starts - before, counts) + np.arange(counts.sum())
    return result
