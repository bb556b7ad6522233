"""What a similarity means: log-likelihood ratios, the posteriors made of them, and how far both can be trusted.

Only log-likelihood ratios (natural logarithm) pass between rooms: LLR = log p(s | same person, another camera) /
p(s | different people, another camera). Whoever knows the population applies a prior, once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from passerby.types import CalibrationError, Float32, Float64, Interval, Picture

Int64 = NDArray[np.int64]
Kind = Literal["affine", "spline"]

VERSION = 1
DRAWS = 20
CHUNK = 8192  # pairs whose vectors are held at once
CAP_SHARPNESS = 6.0  # the cap bends late: at half of it an LLR loses 0.3 %
LEAST_SLOPE = 1e-3  # per standard deviation of the similarity; keeps every map strictly increasing
SMOOTHNESS = (1e-5, 1e-4, 1e-3)  # candidates for a spline's penalty on changes of slope
KNOT_SHARES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
FOLDS = 5
MODES: dict[str, float] = {"visitor-counting": 0.50, "customer-journey": 0.65, "high-precision": 0.80}
FALSE_MATCH_RATES = (1e-2, 1e-3, 1e-4)
LEAST_APART = 100  # pairs that a site is adapted to
AT_ONCE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class PairSample:
    """Similarities of pairs across cameras: one of the same person beside one of different people.

    All arrays have one entry a drawn pair: `same` and `different` are cosines, `weight` sums to 1 and gives every
    person the same part, `person` is the number of the person in both pairs (0..people-1), `other` that of the
    different pair's second person.
    """

    same: Float64
    different: Float64
    weight: Float64
    person: Int64
    other: Int64

    @property
    def people(self) -> int:
        """How many people the pairs show."""
        return len(np.union1d(self.person, self.other))

    @property
    def people_pairs(self) -> int:
        """How many distinct pairs of different people were drawn."""
        both = np.sort(np.stack([self.person, self.other]), axis=0)
        return len(np.unique(both, axis=1).T)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A strictly increasing, smooth and bounded map from cosine similarity to log-likelihood ratio.

    The map's slope is `slopes` at `knots`, linear between them and constant outside; it passes through `offset` at the
    first knot. One knot makes it affine. The result is bent to stay under `upper` and over `-lower`, which are the
    logarithms of the number of distinct pairs of people, and of people, that it was fitted on. It belongs to one model
    file (`file_sha256`) run at one `precision`; `fitted_on` names the people. `apart` is the mean and the standard
    deviation of the similarity of different people in two cameras there, for `adapt`; None in older ones.
    `several` holds maps of their own for people seen on several pictures: (least number of pictures, map), rising.
    """

    knots: tuple[float, ...]
    slopes: tuple[float, ...]
    offset: float
    upper: float
    lower: float
    file_sha256: str
    precision: str
    fitted_on: str
    apart: tuple[float, float] | None = None
    several: tuple[tuple[int, "Calibration"], ...] = ()

    def __post_init__(self) -> None:
        numbers = (*self.knots, *self.slopes, self.offset, self.upper, self.lower, *(self.apart or ()))
        if not all(math.isfinite(number) for number in numbers):
            raise CalibrationError("calibration: expected finite numbers; fit it anew")
        if not self.knots or len(self.knots) != len(self.slopes) or np.any(np.diff(self.knots) <= 0):
            raise CalibrationError(
                f"calibration: expected rising knots with a slope each, got {len(self.knots)} knots and "
                f"{len(self.slopes)} slopes; fit it again with passerby calibrate"
            )
        if min(self.slopes) <= 0 or self.upper <= 0 or self.lower <= 0:
            raise CalibrationError(
                "calibration: expected positive slopes and bounds; fit it again with passerby calibrate"
            )

    @property
    def kind(self) -> Kind:
        """Whether the map is affine or a spline, before its bounds."""
        return "affine" if len(self.knots) == 1 else "spline"

    def llr(
        self,
        similarity: Float32 | Float64,
        pictures: NDArray[np.integer[Any]] | int = 1,
        quality: Float32 | Float64 | float = 1.0,
    ) -> Float64:
        """The log-likelihood ratio (natural logarithm) of each cosine; any shape in, the same shape out, float64.

        `pictures` is the smaller number of pictures that the two sides' vectors are the mean of, `quality` the smaller
        quality, 0..1, of the two (see `pictures.quality`): each ratio is multiplied by it, so that pictures that show
        nothing say nothing. Both broadcast against `similarity`.

        >>> flat = Calibration((0.0,), (10.0,), -4.0, 8.0, 5.0, "0" * 64, "fp32", "example")
        >>> flat.llr(np.array([0.4, 0.5])).round(3)
        array([0., 1.])
        """
        free = _piecewise(np.asarray(similarity, np.float64), np.array(self.knots), np.array(self.slopes), self.offset)
        ratio = _bounded(free, self.upper, self.lower)
        for least, calibration in self.several:
            ratio = np.where(np.asarray(pictures) >= least, calibration.llr(similarity), ratio)
        result: Float64 = ratio * quality
        return result

    def similarity_at(self, probability: float, prior: float = 0.5) -> float | None:
        """The cosine at which two pictures reach a posterior of "same person"; None where none in -1..1 reaches it.

        -1 where every cosine reaches it. Raises CalibrationError unless both arguments lie between 0 and 1.
        """
        target = _logit("probability", probability) - _logit("prior", prior)
        low, high = -1.0, 1.0
        at_low, at_high = self.llr(np.array([low, high]))
        if at_high < target:
            return None
        if at_low >= target:
            return low
        while high - low > 1e-9:
            middle = (low + high) / 2
            low, high = (low, middle) if self.llr(np.array(middle)) >= target else (middle, high)
        return high

    def check(self, file_sha256: str, precision: str) -> None:
        """Raise CalibrationError unless this calibration was made for that model file at that precision."""
        if precision != self.precision:
            raise CalibrationError(
                f"calibration: expected one for precision {precision}, got one for {self.precision}: similarities "
                f"differ between precisions; use precision={self.precision!r} or make one with passerby calibrate"
            )
        if file_sha256 != self.file_sha256:
            raise CalibrationError(
                f"calibration: expected one for the model file with SHA-256 {file_sha256[:12]}..., got one for "
                f"{self.file_sha256[:12]}...: another network's similarities mean something else; "
                "was the model file replaced? Make one with passerby calibrate"
            )

    def to_dict(self) -> dict[str, Any]:  # Any: JSON
        """The calibration as JSON types, for `card.json`."""
        return {
            "version": VERSION,
            "knots": list(self.knots),
            "slopes": list(self.slopes),
            "offset": self.offset,
            "upper": self.upper,
            "lower": self.lower,
            "file_sha256": self.file_sha256,
            "precision": self.precision,
            "fitted_on": self.fitted_on,
            "apart": None if self.apart is None else list(self.apart),
            "several": {str(least): calibration.to_dict() for least, calibration in self.several},
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Self:  # Any: JSON
        """The calibration that `to_dict` wrote; raises CalibrationError where it is damaged or of another version."""
        if entry.get("version") != VERSION:
            raise CalibrationError(
                f"calibration: expected version {VERSION}, got {entry.get('version')!r}; "
                "update passerby, or make it again with passerby calibrate"
            )
        fields = {name: value for name, value in entry.items() if name != "version"}
        try:
            for name in ("knots", "slopes"):
                fields[name] = tuple(float(number) for number in fields[name])
            for name in ("offset", "upper", "lower"):
                fields[name] = float(fields[name])
            for name in ("file_sha256", "precision", "fitted_on"):
                if not isinstance(fields[name], str):
                    raise TypeError(f"{name} is {fields[name]!r}")
            if fields.get("apart") is not None:
                mean, deviation = fields["apart"]
                fields["apart"] = float(mean), float(deviation)
            several = fields.get("several") or {}
            fields["several"] = tuple(sorted((int(least), cls.from_dict(part)) for least, part in several.items()))
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, CalibrationError):
                raise
            raise CalibrationError(
                f"calibration: expected the fields of a calibration, got {sorted(entry)}: {error}; "
                "make it again with passerby calibrate"
            ) from error


@dataclass(frozen=True, slots=True)
class Operating:
    """How a threshold on the posterior does; all 0..1.

    `mean_posterior` is that of the accepted pairs, what the precision should be; both are NaN where nothing is accepted.
    """

    threshold: float
    precision: float
    recall: float
    f1: float
    false_match_rate: float
    mean_posterior: float


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """How far a calibration can be trusted, on the pairs of one sample, at even odds.

    `cllr` and `min_cllr` are in bits (1 says nothing, 0 is perfect), their difference is the loss through calibration;
    `error` is the calibration error over all pairs, `error_middle` over those with 0.05 < p < 0.95 (NaN where there are
    none); `threshold_at` the lowest LLR that accepts at most that share of different pairs; `modes` the house's modes,
    at the prior that was asked for.
    """

    people: int
    pairs: int
    cllr: float
    min_cllr: float
    error: float
    error_middle: float
    threshold_at: dict[float, float]
    modes: dict[str, Operating]

    @property
    def cllr_loss(self) -> float:
        """Cllr - min Cllr, in bits: what a perfect calibration of the same ranking would save."""
        return self.cllr - self.min_cllr

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """The report as JSON types."""
        modes = {
            name: {
                key: None if math.isnan(value := getattr(mode, key)) else value
                for key in ("threshold", "precision", "recall", "f1", "false_match_rate", "mean_posterior")
            }
            for name, mode in self.modes.items()
        }
        return {
            "people": self.people,
            "pairs": self.pairs,
            "cllr": self.cllr,
            "min_cllr": self.min_cllr,
            "cllr_loss": self.cllr_loss,
            "calibration_error": self.error,
            "calibration_error_middle": None if math.isnan(self.error_middle) else self.error_middle,
            "llr_at_false_match_rate": {f"{rate:g}": llr for rate, llr in self.threshold_at.items()},
            "modes": modes,
        }


def posterior(llr: Float64, prior: float = 0.5) -> Float64:
    """The probability of "same person" for each log-likelihood ratio; any shape.

    >>> posterior(np.array([0.0, np.log(3)]), prior=0.5)
    array([0.5 , 0.75])
    """
    return _sigmoid(np.asarray(llr, np.float64) + _logit("prior", prior))


def search_posterior(
    llr: Float64, absent: float = 0.5, *, others: int = 0, mean_ratio: Float64 | None = None
) -> tuple[Float64, Float64]:
    """Who of N people a picture shows: (P(person i), P(nobody of them)), which sum to 1.

    `llr` is (..., N), one log-likelihood ratio a person of the gallery; `absent` the probability, before looking, that
    the person is not in the gallery. P(i) = (1-absent)/N e^llr_i / (absent + sum_j (1-absent)/N e^llr_j). Returns
    (..., N) and (...,). For N = 1 and absent = 0.5 this is `posterior`; an empty gallery leaves "nobody" with 1.

    Where `llr` leaves `others` people of the gallery out, N counts them too, and `mean_ratio` (...,) is their mean
    e^llr: they take their part of the probability, which is then missing from the sum.

    >>> people, nobody = search_posterior(np.array([np.log(9.0), 0.0]))
    >>> people.round(3), nobody.round(3)
    (array([0.75 , 0.083]), np.float64(0.167))
    """
    people_in_all = np.shape(llr)[-1] + others
    prior = -_logit("absent", absent) - math.log(max(1, people_in_all))  # log odds of each person against nobody
    log_odds = prior + np.asarray(llr, np.float64)
    highest = np.maximum(log_odds.max(axis=-1, initial=-np.inf, keepdims=True), 0.0)
    people, nobody = np.exp(log_odds - highest), np.exp(-highest)
    total = nobody + people.sum(axis=-1, keepdims=True)
    if mean_ratio is not None:
        total = total + (others * mean_ratio)[..., None] * np.exp(prior - highest)
    return people / total, (nobody / total)[..., 0]


def sample_pairs(
    embeddings: Float32,
    pictures: Sequence[Picture],
    *,
    each: int = 1,
    draws: int = DRAWS,
    at_least: int = 0,
    seed: int = 0,
) -> PairSample:
    """Draw pairs across cameras: `draws` times, for each person and pair of cameras, one random picture each side.

    More often where that gives fewer than `at_least` pairs. With `each` above 1, that many random pictures a side, as
    their mean; who has fewer in a camera is left out there.

    The different pair is the same first picture with another person from that same second camera, so that it meets the
    same change of view and light; that person is drawn first, then the picture. Which camera is first is drawn too.
    People weigh equally, however many cameras saw them. `embeddings` is (n, d), a row a picture; pictures that come
    twice count once, junk and distractors not at all.

    Raises CalibrationError where cameras are not known or no person was seen by two of them.
    """
    rows = _people_once(embeddings, pictures)
    cells: dict[tuple[str, str], list[int]] = {}  # (camera, person) -> rows
    for row in rows:
        picture = pictures[row]
        if picture.camera is None:
            raise CalibrationError(
                f"{picture.path}: a calibration compares cameras, but this picture's camera is not known; "
                "use pictures with camera labels"
            )
        cells.setdefault((picture.camera, picture.person), []).append(row)
    cells = {key: mine for key, mine in cells.items() if len(mine) >= each}
    keys = sorted(cells)
    people = sorted({person for _, person in keys})
    number = {person: i for i, person in enumerate(people)}
    cell_person = np.array([number[person] for _, person in keys], np.int64)
    size = np.array([len(cells[key]) for key in keys], np.int64)
    start = np.cumsum(size) - size
    ordered = np.array([row for key in keys for row in cells[key]], np.int64)
    # Cells are sorted by camera, so a camera's cells are neighbours: [camera_start, camera_start + camera_size).
    cameras, camera_of, camera_sizes = np.unique(
        [camera for camera, _ in keys], return_inverse=True, return_counts=True
    )
    camera_start = (np.cumsum(camera_sizes) - camera_sizes)[camera_of]
    camera_size = camera_sizes[camera_of]

    mine: dict[int, list[int]] = {}
    for cell, person in enumerate(cell_person.tolist()):
        mine.setdefault(person, []).append(cell)
    couples = [(a, b) for person in sorted(mine) for i, a in enumerate(mine[person]) for b in mine[person][i + 1 :]]
    couples = [(a, b) for a, b in couples if camera_size[a] > 1 and camera_size[b] > 1]
    if not couples:
        raise CalibrationError(
            f"calibration: expected people whom two cameras saw, and two people a camera; got {len(people)} people and "
            f"{len(cameras)} cameras"
        )
    cell_a, cell_b = np.tile(np.array(couples, np.int64).T, max(draws, -(-at_least // len(couples))))
    rng = np.random.default_rng(seed)
    turned = rng.random(len(cell_a)) < 0.5
    first, second = np.where(turned, cell_b, cell_a), np.where(turned, cell_a, cell_b)
    stranger = camera_start[second] + rng.integers(0, camera_size[second] - 1)
    stranger += stranger >= second  # skips the person's own cell

    def draw(cell: Int64) -> Int64:
        """Rows (pairs, each) of random pictures of these cells."""
        if each == 1:
            place = rng.integers(0, size[cell])[:, None]
        else:
            order = rng.random((len(cell), int(size.max())))
            order[np.arange(order.shape[1]) >= size[cell][:, None]] = 2  # beyond a cell's end
            place = np.argsort(order, axis=1)[:, :each]
        rows: Int64 = ordered[start[cell][:, None] + place]
        return rows

    def unit(rows: Int64) -> Float64:
        vectors = embeddings[rows].astype(np.float64).mean(axis=1)
        units: Float64 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return units

    a, b, c = draw(first), draw(second), draw(stranger)
    same, different = np.empty(len(a)), np.empty(len(a))
    for i in range(0, len(a), CHUNK):
        part = slice(i, i + CHUNK)
        own = unit(a[part])
        same[part] = np.einsum("ij,ij->i", own, unit(b[part]))
        different[part] = np.einsum("ij,ij->i", own, unit(c[part]))
    person = cell_person[first]
    weight = 1.0 / np.bincount(person, minlength=len(people))[person]
    return PairSample(
        same=same,
        different=different,
        weight=weight / weight.sum(),
        person=person,
        other=cell_person[stranger],
    )


def surely_different(embeddings: Float32, pictures: Sequence[Picture], *, each: int = DRAWS, seed: int = 0) -> Float64:
    """Similarities of pictures that two cameras took within a second of each other, of tracks with different names.

    `person` of a picture is its track's name here; a track that both cameras give the same name does not count. Up to
    `each` pairs a picture. `embeddings` is (n, d). Raises CalibrationError where a picture has no camera or no time, and
    where no two pictures qualify. The cameras must not share a view.
    """
    rows = _people_once(embeddings, pictures)
    for row in rows:
        if pictures[row].camera is None or pictures[row].seen_at is None:
            raise CalibrationError(
                f"{pictures[row].path}: a site is known by pictures with camera and time; its manifest gives "
                f"camera {pictures[row].camera!r} and time {pictures[row].seen_at}"
            )
    rows.sort(key=lambda row: (pictures[row].seen_at, pictures[row].path))
    vectors = embeddings[rows].astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    times = np.array([pictures[row].seen_at.timestamp() for row in rows])  # type: ignore[union-attr]  # checked above
    last = np.searchsorted(times, times + AT_ONCE.total_seconds(), side="right")
    rng = np.random.default_rng(seed)
    found: list[Float64] = []
    for i, row in enumerate(rows):
        mine = pictures[row]
        near = [
            j
            for j in range(i + 1, int(last[i]))
            if pictures[rows[j]].camera != mine.camera and pictures[rows[j]].person != mine.person
        ]
        chosen = rng.permutation(near)[:each]
        if len(chosen):
            found.append(vectors[chosen] @ vectors[i])
    if not found:
        raise CalibrationError("calibration: no two cameras saw different tracks within a second of each other")
    return np.concatenate(found)


def fit(sample: PairSample, *, file_sha256: str, precision: str, fitted_on: str) -> Calibration:
    """Fit the map from similarity to log-likelihood ratio by weighted logistic loss at even odds.

    Affine, or a monotone spline where its log loss on people left out of the fit (5 folds) is lower. Bounded by what
    the sample supports: no higher than the logarithm of the number of distinct pairs of people in it, no lower than
    minus that of the number of people. Raises CalibrationError with fewer than 10 people, or where similarities
    do not tell them apart.

    Brummer and du Preez, "Application-independent evaluation of speaker detection", Computer Speech & Language 2006.
    """
    if len(np.unique(sample.person)) < 2 * FOLDS:
        raise CalibrationError(
            f"calibration: expected at least {2 * FOLDS} people, got {len(np.unique(sample.person))}"
        )
    if not (np.isfinite(sample.same).all() and np.isfinite(sample.different).all()):
        raise CalibrationError("calibration: expected finite similarities, got NaN; are all embeddings finite?")
    everything = np.ones(len(sample.same), np.bool_)
    candidates: tuple[float | None, ...] = (None, *SMOOTHNESS)
    losses = [_cross_fitted_loss(sample, smoothness) for smoothness in candidates]
    knots, slopes, offset = _fit_free(sample, everything, everything, candidates[int(np.argmin(losses))])
    calibration = Calibration(
        knots=tuple(knots.tolist()),
        slopes=tuple(slopes.tolist()),
        offset=offset,
        upper=math.log(max(2, sample.people_pairs)),
        lower=math.log(sample.people),
        file_sha256=file_sha256,
        precision=precision,
        fitted_on=fitted_on,
        apart=_spread(sample.different, sample.weight),
    )
    if np.average(sample.same, weights=sample.weight) <= np.average(sample.different, weights=sample.weight):
        raise CalibrationError(
            "calibration: expected pictures of the same person to be more similar than those of different people, but "
            "they are not; do embeddings and labels belong together?"
        )
    return calibration


def adapt(calibration: Calibration, different: Float64) -> Calibration:
    """The calibration for a new site, from similarities (n,) of pairs that are surely different, in two cameras there.

    The site's similarities are shifted and stretched so that their mean and deviation become those of the different pairs
    that the calibration was fitted on. No label is needed: people seen in two places at once are different. What the site
    does to pictures of the same person cannot be seen that way, and stays. Raises CalibrationError with fewer than 100 pairs,
    or for a calibration that was made before its own mean and deviation were kept.
    """
    if calibration.apart is None:
        raise CalibrationError("calibration: is too old to be adapted; make it again with passerby calibrate")
    if len(different) < LEAST_APART or not np.isfinite(different).all() or not np.std(different) > 1e-6:
        raise CalibrationError(
            f"calibration: expected at least {LEAST_APART} finite similarities of different people, got {len(different)}; "
            "record for longer, or more cameras"
        )
    mean, deviation = calibration.apart
    stretch = deviation / float(np.std(different))
    shift = mean - stretch * float(np.mean(different))  # the site's s is stretch * s + shift at home

    def moved(part: Calibration) -> Calibration:
        return replace(
            part,
            knots=tuple((knot - shift) / stretch for knot in part.knots),
            slopes=tuple(slope * stretch for slope in part.slopes),
            fitted_on=f"{part.fitted_on}; adapted to a site by {len(different)} pairs",
            apart=None if part.apart is None else ((part.apart[0] - shift) / stretch, part.apart[1] / stretch),
            several=tuple((least, moved(each)) for least, each in part.several),
        )

    return moved(calibration)


def measure(
    calibration: Calibration,
    sample: PairSample,
    *,
    prior: float = 0.5,
    false_match_rates: Sequence[float] = FALSE_MATCH_RATES,
) -> CalibrationReport:
    """Measure a calibration on pairs of people that it was not fitted on; see `CalibrationReport`.

    At even odds, but for the modes: they see (1 - prior) / prior different pairs for each of the same person.
    """
    same, different, weight = calibration.llr(sample.same), calibration.llr(sample.different), sample.weight
    llr, both = np.concatenate([same, different]), np.concatenate([weight, weight])
    is_same = np.repeat([True, False], len(weight))
    probability = posterior(llr)
    middle = (probability > 0.05) & (probability < 0.95)
    return CalibrationReport(
        people=sample.people,
        pairs=len(llr),
        cllr=cllr(same, different, weight),
        min_cllr=min_cllr(same, different, weight),
        error=calibration_error(probability, is_same, both),
        error_middle=calibration_error(probability[middle], is_same[middle], both[middle]),
        threshold_at={rate: _threshold_at(different, weight, rate) for rate in false_match_rates},
        modes={name: operating_point(same, different, weight, threshold, prior) for name, threshold in MODES.items()},
    )


def mode_intervals(
    calibration: Calibration, sample: PairSample, *, prior: float = 0.5, draws: int = 1000, seed: int = 0
) -> dict[str, dict[str, Interval]]:
    """The modes' figures with 95 % intervals, people resampled: {mode: {"precision" | "recall" | "f1" | ...: Interval}}.

    A different pair goes with its first person. The figures are those of `measure` at the same prior.
    """
    same, different = calibration.llr(sample.same), calibration.llr(sample.different)
    people = int(sample.person.max()) + 1
    counted = np.random.default_rng(seed).multinomial(
        people, np.full(people, 1 / people), size=draws
    )  # (draws, people)
    ratio = (1 - prior) / prior

    def a_person(values: Float64) -> Float64:
        sums: Float64 = np.bincount(sample.person, sample.weight * values, minlength=people).astype(np.float64)
        return sums

    whole = counted @ a_person(np.ones(len(same)))
    figures: dict[str, dict[str, Interval]] = {}
    for name, threshold in MODES.items():
        bar = _logit("threshold", threshold) - _logit("prior", prior)
        recall = counted @ a_person((same >= bar).astype(np.float64)) / whole
        false = counted @ a_person((different >= bar).astype(np.float64)) / whole
        accepted = recall + ratio * false
        drawn = {
            "precision": recall / np.where(accepted > 0, accepted, np.nan),
            "recall": recall,
            "f1": 2 * recall / (1 + accepted),
            "false_match_rate": false,
        }
        point = operating_point(same, different, sample.weight, threshold, prior)
        figures[name] = {
            key: Interval(getattr(point, key), *np.nanpercentile(values, (2.5, 97.5)).tolist())
            for key, values in drawn.items()
        }
    return figures


def cllr(same: Float64, different: Float64, weight: Float64) -> float:
    """The cost of log-likelihood ratios in bits: 0 is perfect, 1 says nothing, above 1 misleads.

    `same` and `different` are natural-log likelihood ratios (n,), `weight` (n,) counts for both.
    """
    loss = np.average(np.logaddexp(0, -same), weights=weight) + np.average(np.logaddexp(0, different), weights=weight)
    return float(loss) / (2 * math.log(2))


def min_cllr(same: Float64, different: Float64, weight: Float64) -> float:
    """The lowest `cllr` that any rising map of these scores reaches (pool adjacent violators); arguments as `cllr`."""

    scores, where = np.unique(np.concatenate([same, different]), return_inverse=True)
    share = weight / weight.sum()
    positive = np.bincount(where[: len(same)], share, minlength=len(scores))
    negative = np.bincount(where[len(same) :], share, minlength=len(scores))
    blocks: list[tuple[float, float]] = []
    for p, n in zip(positive.tolist(), negative.tolist(), strict=True):
        blocks.append((p, n))
        # A block must hold a larger share of same pairs than the one before it, or both become one.
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            (p1, n1), (p2, n2) = blocks.pop(), blocks.pop()
            blocks.append((p1 + p2, n1 + n2))
    loss = sum(
        (p * math.log2((p + n) / p) if p > 0 else 0.0) + (n * math.log2((p + n) / n) if n > 0 else 0.0)
        for p, n in blocks
    )
    return loss / 2


def calibration_error(probability: Float64, is_same: NDArray[np.bool_], weight: Float64, *, bins: int = 10) -> float:
    """Mean of |mean probability - share of same pairs| over `bins` bins of equal weight, 0..1; NaN without pairs.

    `probability`, `is_same` and `weight` are (n,); bins are filled in order of the probability.
    """
    if not len(probability):
        return float("nan")
    order = np.argsort(probability, kind="stable")
    ordered = weight[order]
    position = (np.cumsum(ordered) - ordered / 2) / ordered.sum()  # middle of each pair's part, 0..1
    number = np.minimum((position * bins).astype(np.int64), bins - 1)
    gap = np.bincount(number, ordered * (probability[order] - is_same[order]), minlength=bins)
    return float(np.abs(gap).sum() / ordered.sum())


def operating_point(
    same: Float64, different: Float64, weight: Float64, threshold: float, prior: float = 0.5
) -> Operating:
    """How "posterior >= threshold" does where `prior` of all pairs are of the same person; the rest as `cllr`."""
    ratio = (1 - prior) / prior  # different pairs for each of the same person
    bar = _logit("threshold", threshold) - _logit("prior", prior)
    recall = float(np.average(same >= bar, weights=weight))
    false_match_rate = float(np.average(different >= bar, weights=weight))
    accepted = recall + ratio * false_match_rate
    believed = np.average(np.where(same >= bar, posterior(same, prior), 0), weights=weight) + ratio * np.average(
        np.where(different >= bar, posterior(different, prior), 0), weights=weight
    )
    return Operating(
        threshold,
        precision=recall / accepted if accepted else float("nan"),
        recall=recall,
        f1=2 * recall / (1 + accepted),
        false_match_rate=false_match_rate,
        mean_posterior=float(believed) / accepted if accepted else float("nan"),
    )


def _spread(values: Float64, weight: Float64) -> tuple[float, float]:
    mean = float(np.average(values, weights=weight))
    return mean, math.sqrt(float(np.average((values - mean) ** 2, weights=weight)))


def _threshold_at(different: Float64, weight: Float64, rate: float) -> float:
    """The lowest LLR whose share of different pairs above it is at most `rate`."""
    order = np.argsort(-different, kind="stable")
    ranked = different[order]
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])  # equal scores pass together
    share = np.cumsum(weight[order])[ends] / weight.sum()
    passing = int((share <= rate).sum())
    bar = ranked[ends[min(passing, len(ends) - 1)]]
    return float(np.nextafter(bar, np.inf)) if passing < len(ends) else float(ranked[-1])


def _people_once(embeddings: Float32, pictures: Sequence[Picture]) -> list[int]:
    if embeddings.ndim != 2 or len(embeddings) != len(pictures):
        raise CalibrationError(
            f"calibration: expected embeddings ({len(pictures)}, d), a row a picture, got {embeddings.shape}"
        )
    first = {picture.path: row for row, picture in reversed(list(enumerate(pictures))) if picture.role == "person"}
    return sorted(first.values())


def _sigmoid(x: Float64) -> Float64:
    small = np.exp(-np.abs(x))
    result: Float64 = np.where(x >= 0, 1.0, small) / (1.0 + small)
    return result


def _logit(name: str, probability: float) -> float:
    if not 0 < probability < 1:
        raise CalibrationError(f"{name}: expected a probability between 0 and 1, got {probability}")
    return math.log(probability) - math.log1p(-probability)


def _bounded(llr: Float64, upper: float, lower: float) -> Float64:
    """Bend x into (-lower, upper): slope 1 at 0, strictly increasing, smooth; x / (1 + |x / bound|^p)^(1/p)."""
    bound = np.where(llr >= 0, upper, lower)
    result: Float64 = llr / (1 + np.abs(llr / bound) ** CAP_SHARPNESS) ** (1 / CAP_SHARPNESS)
    return result


def _piecewise(similarity: Float64, knots: Float64, slopes: Float64, offset: float | Float64) -> Float64:
    """The function with slope `slopes` at `knots`, linear between, constant outside, and value `offset` at knots[0].

    `similarity` is of any shape; `slopes` (knots,) or, for several functions at once, (knots, functions), which adds an
    axis to the result.
    """
    widths = np.diff(knots).reshape(-1, *[1] * (slopes.ndim - 1))
    areas = np.cumsum(widths * (slopes[1:] + slopes[:-1]) / 2, axis=0)
    values = offset + np.concatenate([np.zeros_like(slopes[:1]), areas])
    bends = np.concatenate([np.diff(slopes, axis=0) / (2 * widths), np.zeros_like(slopes[:1])])
    piece = np.clip(np.searchsorted(knots, similarity, side="right") - 1, 0, len(knots) - 1)
    beyond = similarity - knots[piece]  # negative below the first knot
    if slopes.ndim > 1:
        beyond = beyond[..., None]
    result: Float64 = values[piece] + beyond * slopes[piece] + np.maximum(beyond, 0) ** 2 * bends[piece]
    return result


def _fit_free(
    sample: PairSample, use_same: NDArray[np.bool_], use_different: NDArray[np.bool_], smoothness: float | None
) -> tuple[Float64, Float64, float]:
    """(knots, slopes, offset) of the map before its bounds; `smoothness` None makes it affine."""
    same, different = sample.same[use_same], sample.different[use_different]
    weight_same, weight_different = sample.weight[use_same], sample.weight[use_different]
    both = np.concatenate([same, different])
    middle, spread = float(both.mean()), float(both.std()) or 1.0
    shares = np.array([]) if smoothness is None else np.array(KNOT_SHARES)
    picked = np.unique(np.concatenate([np.quantile(same, shares), np.quantile(different, shares)]))
    knots = (_apart(picked, spread / 4) - middle) / spread if len(picked) else np.zeros(1)
    design = np.column_stack([np.ones(len(both)), _piecewise((both - middle) / spread, knots, np.eye(len(knots)), 0.0)])
    target = np.repeat([1.0, -1.0], [len(same), len(different)])
    weight = np.concatenate([weight_same / weight_same.sum(), weight_different / weight_different.sum()])
    penalty = np.zeros((len(knots) + 1, len(knots) + 1))
    ridge = 0.01 / max(1, len(np.unique(sample.person[use_same])))  # keeps separable samples finite
    penalty[1:, 1:] += np.eye(len(knots)) * ridge / len(knots)
    if smoothness is not None:
        change = np.diff(np.eye(len(knots)), axis=0) / np.sqrt(np.diff(knots))[:, None]
        penalty[1:, 1:] += smoothness * change.T @ change
    mix = _monotone_logistic(design, target, weight, penalty)
    # Back from standard deviations to cosine.
    return knots * spread + middle, mix[1:] / spread, float(mix[0])


def _apart(knots: Float64, least: float) -> Float64:
    """The knots without those that are closer than `least` to the one kept before."""
    kept = [knots[0]]

    for knot in knots[1:]:
        if knot - kept[-1] >= least:
            kept.append(knot)
    return np.array(kept)


def _monotone_logistic(design: Float64, target: Float64, weight: Float64, penalty: Float64) -> Float64:
    """Weighted logistic regression with every coefficient but the first at least LEAST_SLOPE: projected Newton.

    Bertsekas, "Projected Newton methods for optimization problems with simple constraints", SIAM J. Control 1982.
    """
    least = np.r_[-np.inf, np.full(design.shape[1] - 1, LEAST_SLOPE)]

    def loss(mix: Float64) -> float:
        return float(weight @ np.logaddexp(0, -target * (design @ mix)) + mix @ penalty @ mix / 2)

    mix = np.r_[0.0, np.ones(design.shape[1] - 1)]
    current = loss(mix)
    for _ in range(200):
        wrong = _sigmoid(-target * (design @ mix))
        gradient = -design.T @ (weight * target * wrong) + penalty @ mix
        free = ~((mix <= least) & (gradient > 0))
        if np.abs(gradient[free]).max() < 1e-9:
            break
        curvature = (design * (weight * wrong * (1 - wrong))[:, None]).T @ design + penalty + 1e-12 * np.eye(len(mix))
        step = np.zeros_like(mix)
        step[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        length = 1.0
        moved = np.maximum(mix - step, least)
        while (reached := loss(moved)) > current and length > 1e-10:
            length /= 2
            moved = np.maximum(mix - length * step, least)
        gain = current - reached
        if gain <= 0:
            break
        mix, current = moved, reached
        if gain < 1e-12:
            break
    result: Float64 = mix
    return result


def _cross_fitted_loss(sample: PairSample, smoothness: float | None) -> float:
    """Log loss of each fold's people under a fit without them, bounds included."""
    people = max(int(sample.person.max()), int(sample.other.max())) + 1
    fold = np.random.default_rng(0).permutation(people) % FOLDS
    upper, lower = math.log(max(2, sample.people_pairs)), math.log(sample.people)
    total = 0.0
    for held in range(FOLDS):
        out = fold[sample.person] == held
        if not out.any() or out.all():
            continue
        knots, slopes, offset = _fit_free(sample, ~out, ~out & (fold[sample.other] != held), smoothness)
        same, different = (
            _bounded(_piecewise(scores[out], knots, slopes, offset), upper, lower)
            for scores in (sample.same, sample.different)
        )
        total += float(sample.weight[out] @ (np.logaddexp(0, -same) + np.logaddexp(0, different)))
    return total
