"""Exact retrieval and verification measures on embeddings and labels, in numpy, a chunk of queries at a time.

Ranks come from counting, not from sorting whole rows: the rank of a right answer is one more than the number of gallery
pictures that score higher, and only those that reach the lowest right answer are looked at. Equal scores stand in
gallery order.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface
from typing import Self

import numpy as np
from numpy.typing import NDArray

from passerby.types import DatasetError, Float32, Float64, Int64, ModelError, Picture, Protocol

Bool = NDArray[np.bool_]
Counts = NDArray[np.int64 | np.float32 | np.float64]

CHUNK_SCORES = 16 * 2**20  # scores held at once: 64 MB as float32
SCORE_BINS = 2**14  # bins of the cosine for verification: pairs closer than 1/8192 count as equal


@dataclass(frozen=True, slots=True)
class Labels:
    """Who, where and which picture, for the rows of an embedding matrix.

    `camera[i]` is None where the camera is not known; `picture[i]` tells identical pictures in query and gallery.
    """

    person: tuple[Hashable, ...]
    camera: tuple[Hashable | None, ...]
    picture: tuple[Hashable | None, ...] = ()

    def __post_init__(self) -> None:
        if len(self.camera) != len(self.person) or len(self.picture) not in (0, len(self.person)):
            raise DatasetError(
                f"labels: expected as many cameras and pictures as people, got {len(self.person)} people, "
                f"{len(self.camera)} cameras, {len(self.picture)} pictures"
            )

    def __len__(self) -> int:
        return len(self.person)

    @classmethod
    def of(cls, pictures: Sequence[Picture]) -> Self:
        """The labels of a data set's pictures."""
        return cls(
            tuple(picture.person for picture in pictures),
            tuple(picture.camera for picture in pictures),
            tuple(picture.path for picture in pictures),
        )

    def take(self, rows: Int64) -> Self:
        """The labels of some rows."""
        chosen = rows.tolist()
        picture = tuple(self.picture[i] for i in chosen) if self.picture else ()
        return type(self)(tuple(self.person[i] for i in chosen), tuple(self.camera[i] for i in chosen), picture)


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a ranked gallery gives for each query that has a right answer in it.

    All arrays have one entry a scored query: `query` its row, `first_rank` the rank of the first right answer (from 1),
    `ap` the non-interpolated average precision, `ap_trapezoid` the trapezoid form of Market-1501's and Oxford's code,
    `inp` the inverse negative penalty. `skipped` holds the rows of queries without a right answer.
    """

    query: Int64
    first_rank: Int64
    ap: Float64
    ap_trapezoid: Float64
    inp: Float64
    skipped: Int64

    def cmc(self, rank: int) -> float:
        """Share of the scored queries with a right answer among the best `rank`, 0..1; NaN when none was scored."""
        return _mean((self.first_rank <= rank).astype(np.float64))

    @property
    def mean_ap(self) -> float:
        """Mean average precision, 0..1; NaN when no query was scored."""
        return _mean(self.ap)

    @property
    def mean_ap_trapezoid(self) -> float:
        """Mean of the trapezoid form of average precision, 0..1."""
        return _mean(self.ap_trapezoid)

    @property
    def mean_inp(self) -> float:
        """Mean inverse negative penalty (mINP), 0..1."""
        return _mean(self.inp)


@dataclass(frozen=True, slots=True)
class Pairs:
    """How the scores of same-person and different-person pairs are spread, a row a query person.

    `same` and `different` are counts (people, SCORE_BINS) over bins of rising cosine; `person` names the rows.
    `best_same` and `best_different` are the highest cosine of each query (queries,) with its own person and with
    anybody else, -inf where there is none; `query_person` the row of `person` that the query belongs to.
    """

    person: tuple[Hashable, ...]
    same: Int64
    different: Int64
    query_person: Int64
    best_same: Float32
    best_different: Float32


@dataclass(frozen=True, slots=True)
class Roc:
    """A verification curve: what each threshold accepts, thresholds rising along the last axis.

    `fpr` and `tpr` (..., thresholds) are the shares of different- and same-person pairs accepted, falling from 1 to 0;
    all NaN where such pairs are missing. A threshold is a bin's lower edge, so pairs of one bin are accepted together.
    """

    fpr: Float64
    tpr: Float64

    def tpr_at(self, fpr: float) -> Float64:
        """Share (...) of same-person pairs accepted where at most `fpr` of the others are."""
        best = np.where(self.fpr <= fpr, self.tpr, 0.0).max(axis=-1)
        result: Float64 = np.where(np.isnan(self.fpr[..., 0] + self.tpr[..., 0]), np.nan, best)
        return result

    def equal_error_rate(self) -> Float64:
        """The error where as many same-person pairs are refused as others accepted, 0..1, (...).

        Linear between the two thresholds around the crossing.
        """
        gap = (1 - self.tpr) - self.fpr  # rises from -1 to 1
        after = (gap >= 0).argmax(axis=-1)[..., None]
        before = np.maximum(after - 1, 0)  # 0 only for NaN
        gap_before, gap_after = np.take_along_axis(gap, before, -1), np.take_along_axis(gap, after, -1)
        step = gap_before / (gap_before - gap_after)
        low, high = 1 - np.take_along_axis(self.tpr, before, -1), 1 - np.take_along_axis(self.tpr, after, -1)
        result: Float64 = (low + step * (high - low))[..., 0]
        return result


class Scores(Interface):
    """Similarities of queries (queries, d) with a gallery (pictures, d), some queries at a time; high is close.

    Yields (first query, (chunk, pictures)), finite, within -1..1; whoever takes a chunk may change it, and the next may
    overwrite it. `cosines` is one, `reranking.reranked` another.
    """

    def __call__(
        self, query: Float32, gallery: Float32, *, chunk_scores: int = CHUNK_SCORES
    ) -> Iterator[tuple[int, Float32]]:
        """The chunks, `chunk_scores` similarities at a time at most."""


def cosines(query: Float32, gallery: Float32, *, chunk_scores: int = CHUNK_SCORES) -> Iterator[tuple[int, Float32]]:
    """The cosine of each query (queries, d) with each gallery picture (pictures, d), of any length, as `Scores`."""
    unit_query = unit_rows(query, "query")
    unit_gallery = unit_rows(gallery, "gallery", length=unit_query.shape[1])
    chunk = max(1, min(len(query), chunk_scores // max(1, len(gallery))))
    buffer = np.empty((chunk, len(gallery)), np.float32)
    for start in range(0, len(query), chunk):
        rows = unit_query[start : start + chunk]
        yield start, np.matmul(rows, unit_gallery.T, out=buffer[: len(rows)])


def unit_rows(embeddings: Float32, name: str, *, length: int | None = None) -> Float32:
    """The rows (n, d) at unit length; raises ModelError for another shape and rows that are zero or not finite."""
    if embeddings.ndim != 2 or (length is not None and embeddings.shape[1] != length):
        raise ModelError(f"{name} embeddings: expected (n, {length or 'd'}), got {embeddings.shape}")
    rows = np.ascontiguousarray(embeddings, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    if not np.isfinite(lengths).all() or not lengths.all():
        bad = int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))[0])
        raise ModelError(
            f"{name} embeddings: expected finite rows with a direction, row {bad} has length {lengths[bad, 0]}"
        )
    unit: Float32 = rows / lengths
    return unit


def rank(
    query: Float32,
    gallery: Float32,
    *,
    query_labels: Labels,
    gallery_labels: Labels,
    scores: Scores = cosines,
    chunk_scores: int = CHUNK_SCORES,
) -> Ranking:
    """Rank the gallery for every query by cosine, or other `scores`, and score it by the Market-1501 protocol.

    `query` is (queries, d), `gallery` (pictures, d), of any length. For each query its person's pictures from the same
    camera, and the identical picture, are taken out; a camera that is not known takes nothing out. Equal scores stand
    in gallery order. Raises ModelError for embeddings of a wrong shape or with NaN.

    Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015; mINP: Ye et al., TPAMI 2021.

    >>> q, g = np.float32([[1, 0]]), np.float32([[0.9, 0.1], [0.6, 0.8], [1, 0]])
    >>> rank(q, g, query_labels=Labels(("a",), ("c1",)), gallery_labels=Labels(("b", "a", "a"), ("c1", "c2", "c1"))).ap
    array([0.5])
    """
    _check_rows(query, gallery, query_labels, gallery_labels)
    return _rank_rows(scores(query, gallery, chunk_scores=chunk_scores), _Answers(query_labels, gallery_labels))


def rank_similarities(similarity: Float32, *, query_labels: Labels, gallery_labels: Labels) -> Ranking:
    """The same as `rank` for similarities (queries, pictures) from elsewhere, such as a re-ranking; high is close."""
    expected = (len(query_labels), len(gallery_labels))
    if similarity.shape != expected or not np.isfinite(similarity).all():
        raise ModelError(
            f"similarity: expected {expected} finite numbers, one a query and picture, got {similarity.shape}"
        )
    return _rank_rows(iter([(0, similarity.copy())]), _Answers(query_labels, gallery_labels))


def pair_scores(
    query: Float32,
    gallery: Float32,
    *,
    query_labels: Labels,
    gallery_labels: Labels,
    scores: Scores = cosines,
    chunk_scores: int = CHUNK_SCORES,
) -> Pairs:
    """Score every query against every gallery picture that `rank` keeps, as counts a person; arguments as `rank`.

    The base of the verification measures and of open-set identification: see `roc` and `detection_and_identification`.
    """
    _check_rows(query, gallery, query_labels, gallery_labels)
    pairs = _PairCounts(query_labels, gallery_labels)
    for start, chunk in scores(query, gallery, chunk_scores=chunk_scores):
        pairs.add(start, chunk)
    return pairs.counted()


def rank_and_pair(
    query: Float32,
    gallery: Float32,
    *,
    query_labels: Labels,
    gallery_labels: Labels,
    scores: Scores = cosines,
    chunk_scores: int = CHUNK_SCORES,
) -> tuple[Ranking, Pairs]:
    """What `rank` and `pair_scores` give, from scores that are taken once: a re-ranking is not cheap."""
    _check_rows(query, gallery, query_labels, gallery_labels)
    pairs = _PairCounts(query_labels, gallery_labels)

    def counted() -> Iterator[tuple[int, Float32]]:
        for start, chunk in scores(query, gallery, chunk_scores=chunk_scores):
            pairs.add(start, chunk.copy())
            yield start, chunk

    return _rank_rows(counted(), _Answers(query_labels, gallery_labels)), pairs.counted()


class _PairCounts:
    """Pairs counted from chunks of scores, which it changes."""

    def __init__(self, query: Labels, gallery: Labels) -> None:
        self._answers = _Answers(query, gallery)
        self._people = tuple(dict.fromkeys(query.person))
        row_of = {person: row for row, person in enumerate(self._people)}
        self._query_person = np.array([row_of[person] for person in query.person], np.int64)
        self._same, self._different = (np.zeros((len(self._people), SCORE_BINS), np.int64) for _ in range(2))
        self._best_same, self._best_different = (np.full(len(query), -np.inf, np.float32) for _ in range(2))

    def add(self, start: int, chunk: Float32) -> None:
        for offset, row in enumerate(chunk):
            index = start + offset
            right, taken_out = self._answers.of(index)
            bins, person = score_bin(row), self._query_person[index]
            np.add.at(self._same[person], bins[right], 1)
            self._different[person] += np.bincount(bins, minlength=SCORE_BINS)
            np.subtract.at(self._different[person], np.concatenate([bins[right], bins[taken_out]]), 1)
            self._best_same[index] = row[right].max(initial=-np.inf)
            row[right] = row[taken_out] = -np.inf
            self._best_different[index] = row.max(initial=-np.inf)

    def counted(self) -> Pairs:
        return Pairs(
            self._people, self._same, self._different, self._query_person, self._best_same, self._best_different
        )


def protocol_parts(
    protocol: Protocol, query: Labels, gallery: Labels, *, repeats: int = 10, seed: int = 0
) -> list[tuple[Int64, Int64]]:
    """The (query rows, gallery rows) that a protocol ranks one by one; a figure is the mean of the parts' means.

    - "market1501": one part with everything; `rank` takes each query's own camera out.
    - "cross-camera": a part a camera: its pictures as queries against the pictures of all other cameras.
    - "single-gallery-shot": `repeats` times the same with one random picture a person as gallery, drawn with `seed`
      (CUHK03: Li et al., "DeepReID", CVPR 2014).

    Raises DatasetError where a protocol needs camera labels and a picture has none.
    """
    if protocol == "market1501":
        return [(np.arange(len(query)), np.arange(len(gallery)))]
    if None in query.camera or None in gallery.camera:
        raise DatasetError(
            f"protocol {protocol}: expected a camera for every picture, found one without; use market1501"
        )
    cameras = sorted(set(query.camera), key=str)
    number = {camera: i for i, camera in enumerate(cameras)}
    query_camera = np.array([number[camera] for camera in query.camera])
    gallery_camera = np.array([number.get(camera, len(cameras)) for camera in gallery.camera])
    parts = [(np.flatnonzero(query_camera == i), np.flatnonzero(gallery_camera != i)) for i in range(len(cameras))]
    if any(not len(rows) for _, rows in parts):
        raise DatasetError(f"protocol {protocol}: expected pictures of two cameras or more, found {cameras[0]} only")
    if protocol == "cross-camera":
        return parts
    rng = np.random.default_rng(seed)
    return [(rows, _one_a_person(others, gallery, rng)) for _ in range(repeats) for rows, others in parts]


def score_bin(cosine: Float32) -> Int64:
    """The bin of each cosine, -1..1, in 0..SCORE_BINS-1."""
    scaled = (cosine + np.float32(1)) * np.float32(SCORE_BINS / 2)
    bins: Int64 = np.clip(scaled, 0, SCORE_BINS - 1).astype(np.int64)
    return bins


def roc(same: Counts, different: Counts) -> Roc:
    """The verification curve of counts (..., bins) of same- and different-person pairs over bins of rising score."""
    return Roc(fpr=_accepted_shares(different), tpr=_accepted_shares(same))


def _accepted_shares(counts: Counts) -> Float64:
    """Share of pairs at or above each bin's lower edge, and 0 above the last: (..., bins + 1); NaN without pairs."""
    above = np.zeros((*counts.shape[:-1], counts.shape[-1] + 1))
    np.cumsum(counts[..., ::-1], axis=-1, out=above[..., -2::-1])
    totals = above[..., :1].copy()
    above /= np.where(totals > 0, totals, np.nan)
    return above


def detection_and_identification(
    correct: Bool, best_same: Float32, best_different: Float32, far: float, weights: Float64 | None = None
) -> Float64:
    """Open-set identification: share of people found and named, at a share `far` of strangers who are given a name.

    Each query serves twice: with its person in the gallery (`correct` (queries,): it ranks first, at `best_same`), and
    as a stranger, with its person taken out (`best_different`). The threshold is the lowest score that at most `far` of
    the strangers reach. `weights` (replicates, queries) counts the queries for a bootstrap. Returns (replicates,), or
    (1,) without weights. DIR at FAR as in Phillips, Grother and Micheals, "Handbook of Face Recognition", ch. 21.
    """
    counted = np.ones((1, len(correct))) if weights is None else weights
    if not len(correct):
        return np.full(len(counted), np.nan)
    order = np.argsort(-best_different, kind="stable")
    ranked = best_different[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # equal scores pass together
    total = counted.sum(axis=1)
    reached = np.add.reduceat(counted[:, order], starts, axis=1).cumsum(axis=1)  # strangers at or above each score
    passing = (reached <= far * total[:, None]).sum(axis=1)  # scores of strangers that the threshold lets through
    bar = np.append(ranked[starts], np.float32(-np.inf))[passing]  # the threshold lies just above this score
    found = correct[None, :] & (best_same[None, :] > bar[:, None])
    result: Float64 = np.where(total > 0, (found * counted).sum(axis=1) / np.where(total > 0, total, 1), np.nan)
    return result


class _Answers:
    """Which gallery rows are right for a query, and which the protocol takes out."""

    def __init__(self, query: Labels, gallery: Labels) -> None:
        rows: dict[Hashable, list[int]] = {}
        for row, person in enumerate(gallery.person):
            rows.setdefault(person, []).append(row)
        self._rows = {person: np.array(mine, np.int64) for person, mine in rows.items()}
        self._query, self._none = query, np.zeros(0, np.int64)
        numbers: dict[Hashable, int] = {}
        self._camera = np.array([numbers.setdefault(camera, len(numbers)) for camera in gallery.camera], np.int64)
        self._camera_number = numbers
        self._row_of_picture = {picture: row for row, picture in enumerate(gallery.picture) if picture is not None}

    def of(self, query: int) -> tuple[Int64, Int64]:
        """(rows that answer the query, rows of its person that are taken out), both rising."""
        own = self._rows.get(self._query.person[query])
        if own is None:
            return self._none, self._none
        camera = self._query.camera[query]
        out = np.zeros(len(own), np.bool_)
        if camera is not None and camera in self._camera_number:
            out = self._camera[own] == self._camera_number[camera]
        if self._query.picture:
            out |= own == self._row_of_picture.get(self._query.picture[query], -1)
        return own[~out], own[out]


def _check_rows(query: Float32, gallery: Float32, query_labels: Labels, gallery_labels: Labels) -> None:
    for name, embeddings, labels in (("query", query, query_labels), ("gallery", gallery, gallery_labels)):
        if embeddings.ndim != 2 or len(embeddings) != len(labels) or embeddings.shape[1] != query.shape[-1]:
            raise ModelError(
                f"{name} embeddings: expected ({len(labels)}, {query.shape[-1]}), a row a label, got {embeddings.shape}"
            )


def _rank_rows(chunks: Iterator[tuple[int, Float32]], answers: _Answers) -> Ranking:
    scored: list[int] = []
    skipped: list[int] = []
    ranks: list[Int64] = []
    for start, scores in chunks:
        for offset, row in enumerate(scores):
            right, taken_out = answers.of(start + offset)
            if not len(right):
                skipped.append(start + offset)
                continue
            row[taken_out] = -np.inf
            scored.append(start + offset)
            ranks.append(_ranks(row, right))
    counts = np.array([len(mine) for mine in ranks], np.int64)
    if not len(counts):
        none = np.zeros(0)
        return Ranking(none.astype(np.int64), none.astype(np.int64), none, none, none, np.array(skipped, np.int64))
    every = np.concatenate(ranks)
    ends = np.cumsum(counts)
    starts = ends - counts
    found = np.arange(len(every)) - np.repeat(starts, counts) + 1.0  # right answers up to and with this one
    precision = found / every
    before = np.where(every > 1, (found - 1) / np.maximum(every - 1, 1), 1.0)  # precision one rank earlier
    return Ranking(
        query=np.array(scored, np.int64),
        first_rank=every[starts],
        ap=np.add.reduceat(precision, starts) / counts,
        ap_trapezoid=np.add.reduceat((precision + before) / 2, starts) / counts,
        inp=counts / every[ends - 1],
        skipped=np.array(skipped, np.int64),
    )


def _ranks(row: Float32, right: Int64) -> Int64:
    """Ranks (from 1, rising) of the gallery rows `right` in one row of scores; equal scores stand in gallery order."""
    mine = row[right]
    near = row[row >= mine.min()]  # nothing below the lowest right answer matters
    near.sort()
    end = np.searchsorted(near, mine, side="right")
    ranks: Int64 = len(near) - end + 1
    tied = np.flatnonzero(end - np.searchsorted(near, mine, side="left") > 1)
    for i in tied:
        ranks[i] += np.count_nonzero(row[: right[i]] == mine[i])
    ranks.sort()
    return ranks


def _one_a_person(rows: Int64, labels: Labels, rng: np.random.Generator) -> Int64:
    shuffled = rng.permutation(rows)
    first: dict[Hashable, int] = {}
    for row in shuffled.tolist():
        first.setdefault(labels.person[row], row)
    return np.array(sorted(first.values()), np.int64)


def _mean(values: Float64) -> float:
    return float(values.mean()) if len(values) else float("nan")
