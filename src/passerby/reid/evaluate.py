"""Evaluation: a data set's protocol applied to embeddings, every figure with its interval. Nothing is embedded here."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from passerby.reid.retrieval import (
    Labels,
    Pairs,
    Ranking,
    Roc,
    Scores,
    cosines,
    detection_and_identification,
    protocol_parts,
    rank,
    rank_and_pair,
    roc,
)
from passerby.reid.splits import split_hash, two_query_test
from passerby.types import Dataset, DatasetError, Float32, Float64, Int64, Interval, ModelError, Picture

RANKS = (1, 5, 10, 20)
CMC_RANKS = 50
RANKING_FIGURES = (*(f"rank{k}" for k in RANKS), "map", "map_trapezoid", "minp")
FALSE_POSITIVE_RATES = (1e-2, 1e-3, 1e-4)
FALSE_ALARM_RATES = (1e-1, 1e-2)
REPLICATES_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class PersonSums:
    """What each person adds to each figure: the base of the bootstrap.

    `sums` (parts, people, figures of RANKING_FIGURES) and `counts` (parts, people) of scored queries.
    """

    people: tuple[str, ...]
    sums: Float64
    counts: Float64


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of one model on one data set, as fractions 0..1, each with its 95 % identity-bootstrap interval.

    `map` is the mean of the non-interpolated average precision, `map_trapezoid` that of the trapezoid form, `minp` the
    mean inverse negative penalty, `eer` the equal error rate of verification, `tpr_at_fpr[f]` the share of same-person
    pairs accepted where a share f of different pairs is, `dir_at_far[f]` the share of people found and named where a
    share f of strangers is given a name. `cmc` holds the ranks 1..50. `people` counts those with a scored query,
    `cameras` those of queries and gallery that are known, `queries` all queries, `skipped` those of them without a right
    answer, `gallery` its pictures without junk.
    """

    dataset: str
    protocol: str
    split_sha256: str
    people: int
    cameras: int
    queries: int
    skipped: int
    gallery: int
    rank1: Interval
    rank5: Interval
    rank10: Interval
    rank20: Interval
    map: Interval
    map_trapezoid: Interval
    minp: Interval
    eer: Interval
    tpr_at_fpr: Mapping[float, Interval]
    dir_at_far: Mapping[float, Interval]
    cmc: tuple[float, ...]
    notes: tuple[str, ...]
    by_person: PersonSums = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """The evaluation as JSON types: each figure `{value, low, high}` as fractions, None where there is none."""
        figures = {name: getattr(self, name) for name in (*RANKING_FIGURES, "eer")}
        figures |= {f"tpr_at_fpr_{_power(rate)}": figure for rate, figure in self.tpr_at_fpr.items()}
        figures |= {f"dir_at_far_{_power(rate)}": figure for rate, figure in self.dir_at_far.items()}
        return {
            "dataset": self.dataset,
            "protocol": self.protocol,
            "split_sha256": self.split_sha256,
            "people": self.people,
            "cameras": self.cameras,
            "queries": self.queries,
            "skipped": self.skipped,
            "gallery": self.gallery,
            **{name: _json(figure) for name, figure in figures.items()},
            "cmc": list(self.cmc),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """How much one evaluation's figure lies above another's, on the same queries: a - b, with its 95 % interval.

    `probability` is the share of bootstrap replicates in which a is better (ties count half).
    """

    figure: str
    value: Interval
    probability: float


@dataclass(frozen=True, slots=True)
class TwoQueryFigures:
    """The figures of some people's pictures under the protocol of two queries a person, a row a draw of the queries.

    `rank1`, `rank5` and `map` (draws,) are fractions 0..1, `queries` (draws,) their counts. Of the `people`, whom `cameras`
    known cameras saw, `one_query` had one query alone and `no_query` none in at least one draw, for want of pictures or
    cameras.
    """

    people: int
    cameras: int
    pictures: int
    one_query: int
    no_query: int
    queries: Int64
    rank1: Float64
    rank5: Float64
    map: Float64


@dataclass(frozen=True, slots=True)
class FromCamera:
    """How the queries of one camera fare against the pictures of another alone: Rank-1, 0..1, of those with an answer."""

    query: str
    gallery: str
    queries: int
    rank1: float


def camera_pairs(dataset: Dataset, query: Float32, gallery: Float32) -> list[FromCamera]:
    """Rank-1 from each camera to each other one; none where a camera is not known.

    `query` is (queries, d), `gallery` (pictures, d), in the data set's order; junk is left out.
    """
    query_cameras = np.array([p.camera or "" for p in dataset.query])
    gallery_cameras = np.array([p.camera or "" if p.role != "junk" else "junk" for p in dataset.gallery])
    query_people = np.array([p.person for p in dataset.query])
    gallery_people = np.array([p.person for p in dataset.gallery])
    found = []
    for a in sorted({*query_cameras.tolist()} - {""}):
        for b in sorted({*gallery_cameras.tolist()} - {"", "junk", a}):
            rows_a, rows_b = np.flatnonzero(query_cameras == a), np.flatnonzero(gallery_cameras == b)
            rows_a = rows_a[np.isin(query_people[rows_a], gallery_people[rows_b])]
            if len(rows_a):
                nearest = rows_b[np.argmax(query[rows_a] @ gallery[rows_b].T, axis=1)]
                right = gallery_people[nearest] == query_people[rows_a]
                found.append(FromCamera(a, b, len(rows_a), float(np.mean(right))))
    return found


def evaluate_two_queries(
    pictures: Sequence[Picture], embeddings: Float32, *, draws: int = 10, scores: Scores = cosines
) -> TwoQueryFigures:
    """Measure any pool of people with two random queries each, several times over; `embeddings` is (pictures, d).

    For each draw (seeds 0, 1, ...) two pictures a person from two cameras are queries, all others the gallery, without
    junk and distractors; for each query its person's pictures from its own camera are taken out. Raises ModelError where
    embeddings do not fit the pictures, DatasetError where nobody can be queried.
    """
    if embeddings.ndim != 2 or len(embeddings) != len(pictures):
        raise ModelError(f"embeddings: expected ({len(pictures)}, d), a row a picture, got {embeddings.shape}")
    row = {picture: i for i, picture in enumerate(pictures) if picture.role == "person"}
    fewest = {picture.person: 2 for picture in row}  # queries
    rankings: list[Ranking] = []
    for seed in range(draws):
        test = two_query_test(row, seed=seed)
        query, gallery = (np.array([row[p] for p in part], np.int64) for part in (test.query, test.gallery))
        asked = Counter(picture.person for picture in test.query)
        fewest = {person: min(count, asked[person]) for person, count in fewest.items()}
        rankings.append(
            rank(
                embeddings[query],
                embeddings[gallery],
                query_labels=Labels.of(test.query),
                gallery_labels=Labels.of(test.gallery),
                scores=scores,
            )
        )
    counts = Counter(fewest.values())
    return TwoQueryFigures(
        people=len(fewest),
        cameras=len({picture.camera for picture in row} - {None}),
        pictures=len(row),
        one_query=counts[1],
        no_query=counts[0],
        queries=np.array([len(each.query) for each in rankings], np.int64),
        rank1=np.array([each.cmc(1) for each in rankings]),
        rank5=np.array([each.cmc(5) for each in rankings]),
        map=np.array([each.mean_ap for each in rankings]),
    )


def evaluate(
    dataset: Dataset,
    query_embeddings: Float32,
    gallery_embeddings: Float32,
    *,
    scores: Scores = cosines,
    bootstrap: int = 1000,
    seed: int = 0,
    repeats: int = 10,
) -> Evaluation:
    """Apply the data set's protocol to embeddings (queries, d) and (gallery pictures, d), rows in the data set's order.

    Junk is taken out of the gallery first. "market1501": same person and same camera out, distractors stay;
    "cross-camera": each camera's pictures against all other cameras', the mean of the cameras' means;
    "single-gallery-shot": the same with one random picture a person as gallery, the mean of `repeats` draws. A picture
    without camera label (LaST) takes nothing out but itself, and only "market1501" allows it.

    `scores` are what is ranked by: cosines, or `reranking.reranked`, which re-ranks each part of the protocol by itself.
    Verification and open-set figures use the pairs that the protocol ranks.
    Intervals resample people `bootstrap` times
    with `seed` (0 times: none): people of the queries, with all their queries and pairs; the gallery stays.

    Raises ModelError where embeddings do not fit the pictures, DatasetError where nothing can be scored.
    """
    for name, embeddings, count in (
        ("query", query_embeddings, len(dataset.query)),
        ("gallery", gallery_embeddings, len(dataset.gallery)),
    ):
        if embeddings.ndim != 2 or len(embeddings) != count:
            raise ModelError(f"{name} embeddings: expected ({count}, d), a row a picture, got {embeddings.shape}")
    if not dataset.query:
        raise DatasetError(f"{dataset.name}: has no queries to evaluate; read it with split='test' or 'dev'")
    kept = np.array([i for i, picture in enumerate(dataset.gallery) if picture.role != "junk"], np.int64)
    query_labels, gallery_labels = Labels.of(dataset.query), Labels.of(dataset.gallery).take(kept)
    gallery_vectors = gallery_embeddings[kept]
    rankings: list[Ranking] = []
    pairs: list[Pairs] = []
    scored: set[int] = set()
    parts = protocol_parts(dataset.protocol, query_labels, gallery_labels, repeats=repeats, seed=seed)
    for query_rows, gallery_rows in parts:
        query, gallery = query_embeddings[query_rows], gallery_vectors[gallery_rows]
        of_query, of_gallery = query_labels.take(query_rows), gallery_labels.take(gallery_rows)
        ranking, pair = rank_and_pair(query, gallery, query_labels=of_query, gallery_labels=of_gallery, scores=scores)
        rankings.append(ranking)
        pairs.append(pair)
        scored.update(query_rows[rankings[-1].query].tolist())
    if not scored:
        raise DatasetError(
            f"{dataset.name}: none of the {len(dataset.query)} queries has a right answer in the gallery, "
            "a picture of the same person from another camera; are ids and cameras right?"
        )
    people = tuple(sorted({dataset.query[i].person for i in scored}))
    weights = _replicates(len(people), bootstrap, seed)
    by_person = _person_sums(people, rankings, pairs)
    figures = dict(zip(RANKING_FIGURES, _ranking_figures(by_person, weights).T, strict=True))
    figures |= _pair_figures(people, rankings, pairs, weights)
    intervals = {name: _interval(values) for name, values in figures.items()}
    return Evaluation(
        dataset=dataset.name,
        protocol=dataset.protocol,
        split_sha256=split_hash(dataset),
        people=len(people),
        cameras=len({*query_labels.camera, *gallery_labels.camera} - {None}),
        queries=len(dataset.query),
        skipped=len(dataset.query) - len(scored),
        gallery=len(kept),
        **{name: intervals[name] for name in (*RANKING_FIGURES, "eer")},
        tpr_at_fpr={rate: intervals[f"tpr_{rate}"] for rate in FALSE_POSITIVE_RATES},
        dir_at_far={rate: intervals[f"dir_{rate}"] for rate in FALSE_ALARM_RATES},
        cmc=tuple(_parts_mean([each.cmc(k) for each in rankings]) for k in range(1, CMC_RANKS + 1)),
        notes=dataset.notes,
        by_person=by_person,
    )


def paired_bootstrap(
    a: Evaluation, b: Evaluation, *, figure: str = "map", bootstrap: int = 1000, seed: int = 0
) -> Difference:
    """Whether evaluation `a` is better than `b` on the same queries: people are resampled once for both.

    `figure` is one of rank1, rank5, rank10, rank20, map, map_trapezoid, minp. Raises DatasetError where the two do not
    rank the same pictures by the same protocol.
    """
    if figure not in RANKING_FIGURES:
        raise DatasetError(f"paired bootstrap: expected a figure of {', '.join(RANKING_FIGURES)}, got {figure!r}")
    for what in ("protocol", "split_sha256"):
        if getattr(a, what) != getattr(b, what):
            raise DatasetError(
                f"paired bootstrap: expected two evaluations with one {what}, got {getattr(a, what)} and "
                f"{getattr(b, what)}; evaluate both models on the same data set"
            )
    weights = _replicates(len(a.by_person.people), bootstrap, seed)
    column = RANKING_FIGURES.index(figure)
    gain = _ranking_figures(a.by_person, weights)[:, column] - _ranking_figures(b.by_person, weights)[:, column]
    drawn = gain[1:][~np.isnan(gain[1:])]
    better = float(np.mean((drawn > 0) + 0.5 * (drawn == 0))) if len(drawn) else float("nan")
    return Difference(figure, _interval(gain), better)


def _replicates(people: int, bootstrap: int, seed: int) -> Float64:
    """How often each person counts, (1 + bootstrap, people): once in the first row, as drawn in the others."""
    drawn = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=bootstrap)
    return np.concatenate([np.ones((1, people)), drawn])


def _person_sums(people: tuple[str, ...], rankings: list[Ranking], pairs: list[Pairs]) -> PersonSums:
    number = {person: i for i, person in enumerate(people)}
    sums = np.zeros((len(rankings), len(people), len(RANKING_FIGURES)))
    counts = np.zeros((len(rankings), len(people)))
    for part, (ranking, pair) in enumerate(zip(rankings, pairs, strict=True)):
        if not len(ranking.query):
            continue
        row = np.array([number[str(pair.person[i])] for i in pair.query_person[ranking.query]])
        hits = [(ranking.first_rank <= k).astype(np.float64) for k in RANKS]
        for column, values in enumerate([*hits, ranking.ap, ranking.ap_trapezoid, ranking.inp]):
            sums[part, :, column] = np.bincount(row, values, minlength=len(people))
        counts[part] = np.bincount(row, minlength=len(people))
    return PersonSums(people, sums, counts)


def _ranking_figures(by_person: PersonSums, weights: Float64) -> Float64:
    """(replicates, figures): the mean over parts of each part's mean over queries."""
    totals = np.stack([weights @ sums for sums in by_person.sums])  # (parts, replicates, figures)
    counts = np.stack([weights @ counts for counts in by_person.counts])[..., None]
    means = np.where(counts > 0, totals / np.where(counts > 0, counts, 1), np.nan)
    return _over_parts(means)


def _pair_figures(
    people: tuple[str, ...], rankings: list[Ranking], pairs: list[Pairs], weights: Float64
) -> dict[str, Float64]:
    """Verification and open-set figures, (replicates,) each."""
    number = {person: i for i, person in enumerate(people)}
    figures: dict[str, list[Float64]] = {}
    for ranking, pair in zip(rankings, pairs, strict=True):
        rows = np.array([i for i, person in enumerate(pair.person) if person in number], np.int64)
        columns = np.array([number[str(pair.person[i])] for i in rows], np.int64)
        exact = roc(pair.same[rows].sum(axis=0), pair.different[rows].sum(axis=0))
        chunks = {name: [values[None]] for name, values in _roc_figures(exact).items()}
        same, different = (_coarse(counts[rows]) for counts in (pair.same, pair.different))
        for start in range(1, len(weights), REPLICATES_AT_ONCE):
            drawn: Float32 = weights[start : start + REPLICATES_AT_ONCE, columns].astype(np.float32)
            curve = roc(np.matmul(drawn, same), np.matmul(drawn, different))
            for name, replicates in _roc_figures(curve).items():
                chunks[name].append(replicates)
        query = ranking.query
        of_query = np.array([number[str(pair.person[i])] for i in pair.query_person[query]], np.int64)
        for rate in FALSE_ALARM_RATES:
            shares = detection_and_identification(
                ranking.first_rank == 1, pair.best_same[query], pair.best_different[query], rate, weights[:, of_query]
            )
            chunks[f"dir_{rate}"] = [shares]
        for name, pieces in chunks.items():
            figures.setdefault(name, []).append(np.concatenate(pieces))
    return {name: _over_parts(np.stack(values)) for name, values in figures.items()}


def _roc_figures(curve: Roc) -> dict[str, Float64]:
    return {"eer": curve.equal_error_rate()} | {f"tpr_{rate}": curve.tpr_at(rate) for rate in FALSE_POSITIVE_RATES}


def _coarse(counts: Int64) -> Float32:
    """The counts over a quarter of the bins, for the many replicates of the bootstrap."""
    coarse: Float32 = counts.reshape(len(counts), -1, 4).sum(axis=2).astype(np.float32)
    return coarse


def _over_parts(values: Float64) -> Float64:
    """The mean over the first axis of what is there; NaN where nothing is."""
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    result: Float64 = np.where(count > 0, np.where(there, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    return result


def _parts_mean(values: list[float]) -> float:
    return float(_over_parts(np.array(values)))


def _interval(values: Float64) -> Interval:
    """The first value, between the 2.5th and 97.5th percentile of the others."""
    drawn = values[1:][~np.isnan(values[1:])]
    if not len(drawn):
        return Interval(float(values[0]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))


def _json(figure: Interval) -> dict[str, float | None]:
    return {name: None if number is None or math.isnan(number) else number for name, number in figure.as_dict().items()}


def _power(rate: float) -> str:
    """1e-2 for 0.01."""
    return f"1e{round(math.log10(rate))}"
