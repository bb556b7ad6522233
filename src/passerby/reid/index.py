"""The nearest people of a very large gallery, found among the likely ones instead of among all; alone imports faiss."""

import math
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from passerby.types import Float32, Int64

LOOKED_AT = 1 / 16  # of the clusters, for each search
POINTS_A_CLUSTER = 40  # that the clusters are learnt from
LEAST_PEOPLE = 5  # behind a cluster's centre: a centre of one person would keep their vector after they are removed
SAMPLE = 1024  # people who stand for all those that are not found, about


def index_available() -> bool:
    """Whether faiss is installed: `pip install "passerby[index]"`."""
    return find_spec("faiss") is not None


class PeopleIndex:
    """One vector (length,) a person, the mean of their pictures, searched by mean cosine in the clusters nearest to the query.

    `vectors` is (people, length), at least one, a row a name of `names`. An inverted file (Sivic and Zisserman, "Video
    Google", ICCV 2003) as faiss keeps it: about 2 sqrt(people) clusters of directions, of which a search looks at the
    nearest sixteenth. Vectors are kept whole, so the cosines of those that are found are exact; what is missed is
    missed whole. A removed vector leaves the file at once; what stays are the centres, means of five people or more.
    Not safe to use from several threads; the gallery's lock is.
    """

    def __init__(self, names: Sequence[str], vectors: Float32) -> None:
        import faiss

        centres = _centres(vectors)
        flat = faiss.IndexFlatIP(vectors.shape[1])
        flat.add(centres)
        self._file: Any = faiss.IndexIVFFlat(flat, vectors.shape[1], len(centres), faiss.METRIC_INNER_PRODUCT)
        self._file.train(centres)  # they stay as they are
        self._file.nprobe = max(1, round(len(centres) * LOOKED_AT))
        self._file.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]  # its stub lacks it
        self._every = max(1, len(names) // SAMPLE)
        self._next = 0
        self._number: dict[str, int] = {}
        self._name: dict[int, str] = {}
        self._sample: dict[int, Float32] = {}
        self.built_with = len(names)
        self._add(names, vectors)

    def __len__(self) -> int:
        return len(self._number)

    def put(self, name: str, vector: Float32) -> None:
        """Add a person's vector (length,), in place of the one that is there."""
        if name in self._number:
            self.remove([name])
        self._add([name], vector[None])

    def remove(self, names: Iterable[str]) -> None:
        """Take people's vectors out."""
        numbers = [self._number.pop(name) for name in names]
        for number in numbers:
            del self._name[number]
            self._sample.pop(number, None)
        self._file.remove_ids(np.array(numbers, np.int64))

    def search(self, queries: Float32, count: int) -> tuple[tuple[str, ...], Int64, Float32, Float32]:
        """The people likely nearest to each of `queries` (n, length), and what the others look like.

        Returns (names, rows (n, count) into them, cosines (n, count), others (n, sample)): best first; where fewer were
        found, row -1 with cosine -1. `others` are cosines with people drawn evenly from all, NaN where one is among the
        found.
        """
        cosines, numbers = self._file.search(queries, count)  # (n, count), -1 where none is left
        found, places = np.unique(numbers, return_inverse=True)
        missing = int(found[0] == -1)
        names = tuple(self._name[number] for number in found[missing:].tolist())
        rows = places.reshape(numbers.shape) - missing
        others = np.empty((len(queries), 0), np.float32)
        if self._sample:
            others = queries @ np.stack(list(self._sample.values())).T
            drawn = np.array(list(self._sample), np.int64)
            for row, mine in zip(others, numbers, strict=True):
                row[np.isin(drawn, mine)] = np.nan
        return names, rows, np.where(numbers < 0, np.float32(-1), cosines), others

    def _add(self, names: Sequence[str], vectors: Float32) -> None:
        numbers = np.arange(self._next, self._next + len(names), dtype=np.int64)
        self._next += len(names)
        self._file.add_with_ids(np.ascontiguousarray(vectors, np.float32), numbers)
        for number, name, vector in zip(numbers.tolist(), names, vectors, strict=True):
            self._number[name], self._name[number] = number, name
            if number % self._every == 0:
                self._sample[number] = vector.copy()


def _centres(vectors: Float32) -> Float32:
    """Unit directions (clusters, length) that the vectors lie around: k-means, then the mean of each cluster's people."""
    import faiss

    clusters = max(1, min(round(2 * math.sqrt(len(vectors))), len(vectors)))
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        clusters,
        niter=10,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=POINTS_A_CLUSTER,
    )
    kmeans.train(vectors)
    _, nearest = kmeans.index.search(vectors, 1)  # (people, 1)
    sums = np.zeros((clusters, vectors.shape[1]), np.float32)
    np.add.at(sums, nearest[:, 0], vectors)
    kept = sums[np.bincount(nearest[:, 0], minlength=clusters) >= LEAST_PEOPLE]
    if not len(kept):
        kept = sums.sum(axis=0, keepdims=True)
    lengths = np.linalg.norm(kept, axis=1, keepdims=True)
    result: Float32 = kept / np.maximum(lengths, np.float32(1e-12))
    return result
