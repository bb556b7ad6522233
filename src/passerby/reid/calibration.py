"""What a similarity means: log-likelihood ratios, the posteriors made of them, and how far both can be trusted.

Only log-likelihood ratios (natural logarithm) pass between rooms: LLR = log p(s | same person, another camera) /
p(s | different people, another camera). Whoever knows the population applies a prior, once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from passerby.types import CalibrationError, Float64

Kind = Literal["affine", "spline"]

VERSION = 2
READABLE = (1, 2)  # of 1, the curve for one picture against one is used alone
CAP_SHARPNESS = 12.0  # a bound bends late: at eight tenths of it an LLR loses 0.6 %
LEAST_BOUND = 1.0  # that is drawn
MODES: dict[str, float] = {"visitor-counting": 0.50, "customer-journey": 0.65, "high-precision": 0.80}


@dataclass(frozen=True, slots=True)
class Curve:
    """A strictly increasing, smooth and bounded map from cosine similarity to log-likelihood ratio.

    Its slope is `slopes` at `knots`, linear between them and constant outside; it passes through `offset` at the first
    knot. One knot makes it affine. The result is bent to stay under `upper` and over `-lower`, which say what the sample
    supports that it was fitted on, see `bound`.
    """

    knots: tuple[float, ...]
    slopes: tuple[float, ...]
    offset: float
    upper: float
    lower: float

    def __post_init__(self) -> None:
        numbers = (*self.knots, *self.slopes, self.offset, self.upper, self.lower)
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
        """Whether the curve is affine or a spline, before its bounds."""
        return "affine" if len(self.knots) == 1 else "spline"

    def at(self, similarity: ArrayLike) -> Float64:
        """The log-likelihood ratio of each cosine; any shape in, the same shape out, float64."""
        return bounded(self.free(similarity), self.upper, self.lower)

    def free(self, similarity: ArrayLike) -> Float64:
        """The same before the bounds."""
        return piecewise(np.asarray(similarity, np.float64), np.array(self.knots), np.array(self.slopes), self.offset)

    def to_dict(self) -> dict[str, Any]:  # Any: JSON
        """The curve as JSON types."""
        return {
            "knots": list(self.knots),
            "slopes": list(self.slopes),
            "offset": self.offset,
            "upper": self.upper,
            "lower": self.lower,
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Self:  # Any: JSON
        """The curve that `to_dict` wrote; KeyError, TypeError or ValueError where it is damaged."""
        knots, slopes = (tuple(float(number) for number in entry[name]) for name in ("knots", "slopes"))
        return cls(knots, slopes, *(float(entry[name]) for name in ("offset", "upper", "lower")))


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a similarity means for one model file: a `Curve` for each pair of numbers of pictures behind the two sides.

    `curves` holds ((n, m), curve) with n <= m, that of (1, 1) first: it serves sides with at least so many pictures, the
    fewer on one side and the more on the other. It belongs to one model file (`file_sha256`) run at one `precision`;
    `fitted_on` names the people. `different` is the mean and the standard deviation of the similarity of two pictures of
    different people in two cameras there, for `adapt`; None in older ones. `error` says how far all ratios may be off
    together, as standard deviations of a factor's logarithm and of a shift: r becomes e^a r + b. How far the bounds may be
    off needs no number: each stands for a share of which nothing was seen.
    """

    curves: tuple[tuple[tuple[int, int], Curve], ...]
    file_sha256: str
    precision: str
    fitted_on: str
    different: tuple[float, float] | None = None
    error: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        pairs = [pair for pair, _ in self.curves]
        if not pairs or pairs[0] != (1, 1) or pairs != sorted(set(pairs)) or any(n > m for n, m in pairs):
            raise CalibrationError(
                f"calibration: expected curves for (1, 1) and rising numbers of pictures, got {pairs}; "
                "fit it again with passerby calibrate"
            )
        if not all(math.isfinite(number) for number in (*self.error, *(self.different or ()))) or min(self.error) < 0:
            raise CalibrationError("calibration: expected finite numbers and an error from 0; fit it anew")

    @property
    def one(self) -> Curve:
        """The curve for one picture against one."""
        return self.curves[0][1]

    def llr(self, similarity: ArrayLike, a: ArrayLike = 1, b: ArrayLike | None = None) -> Float64:
        """The log-likelihood ratio (natural logarithm) of each cosine; any shape in, the same shape out, float64.

        `a` and `b` are the numbers of pictures that the two sides are the mean of, 1 and more; they broadcast to
        `similarity`. `b` left out is `a`.

        >>> flat = Calibration((((1, 1), Curve((0.0,), (10.0,), -4.0, 8.0, 5.0)),), "0" * 64, "fp32", "example")
        >>> flat.llr(np.array([0.4, 0.5])).round(3)
        array([0., 1.])
        """
        cosine = np.asarray(similarity, np.float64)
        if len(self.curves) == 1:
            return self.one.at(cosine)
        first, second = np.asarray(a), np.asarray(a if b is None else b)
        fewer, more = np.minimum(first, second), np.maximum(first, second)
        which = np.zeros(np.broadcast_shapes(fewer.shape, more.shape), np.int64)
        for number, ((n, m), _) in enumerate(self.curves):
            which = np.where((fewer >= n) & (more >= m), number, which)
        which = np.broadcast_to(which, cosine.shape)
        result = np.empty(cosine.shape)
        for number in np.unique(which).tolist():
            mine = which == number
            result[mine] = self.curves[number][1].at(cosine[mine])
        return result

    def drawn(self, rng: np.random.Generator) -> "Calibration":
        """One of the calibrations that this one may truly be: factor and shift drawn from its `error`, and its bounds.

        The share behind a bound is drawn from its posterior, a gamma distribution of shape 1/2 whose mean is the share
        that the bound states (see `bound`); all curves together.
        """
        factor, shift = math.exp(rng.normal(0, self.error[0])), rng.normal(0, self.error[1])
        above, below = (-np.log(rng.chisquare(1, 2))).tolist()
        moved = tuple(
            (
                pair,
                replace(
                    recalibrated(curve, factor, shift),
                    upper=max(LEAST_BOUND, curve.upper + above),
                    lower=max(LEAST_BOUND, curve.lower + below),
                ),
            )
            for pair, curve in self.curves
        )
        return replace(self, curves=moved, error=(0.0, 0.0))

    def similarity_at(self, probability: float, prior: float = 0.5) -> float | None:
        """The cosine at which two pictures reach a posterior of "same person"; None where none in -1..1 reaches it.

        -1 where every cosine reaches it. Raises CalibrationError unless both arguments lie between 0 and 1.
        """
        target = logit("probability", probability) - logit("prior", prior)
        low, high = -1.0, 1.0
        at_low, at_high = self.one.at(np.array([low, high]))
        if at_high < target:
            return None
        if at_low >= target:
            return low
        while high - low > 1e-9:
            middle = (low + high) / 2
            low, high = (low, middle) if self.one.at(middle) >= target else (middle, high)
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
            "curves": {f"{n}:{m}": curve.to_dict() for (n, m), curve in self.curves},
            "file_sha256": self.file_sha256,
            "precision": self.precision,
            "fitted_on": self.fitted_on,
            "different": None if self.different is None else list(self.different),
            "error": list(self.error),
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Self:  # Any: JSON
        """The calibration that `to_dict` wrote; raises CalibrationError where it is damaged or of another version."""
        if entry.get("version") not in READABLE:
            raise CalibrationError(
                f"calibration: expected version {VERSION}, got {entry.get('version')!r}; "
                "update passerby, or make it again with passerby calibrate"
            )
        try:
            curves: tuple[tuple[tuple[int, int], Curve], ...]
            if entry["version"] == 1:  # its curves for several pictures were of another similarity
                curves = (((1, 1), Curve.from_dict(entry)),)
                different = entry.get("apart")
            else:
                named = {tuple(map(int, key.split(":"))): part for key, part in entry["curves"].items()}
                curves = tuple(((n, m), Curve.from_dict(named[n, m])) for n, m in sorted(named))
                different = entry["different"]
            for name in ("file_sha256", "precision", "fitted_on"):
                if not isinstance(entry[name], str):
                    raise TypeError(f"{name} is {entry[name]!r}")
            slope, shift = map(float, entry.get("error", (0.0, 0.0)))
            if different is not None:
                mean, deviation = map(float, different)
            return cls(
                curves,
                entry["file_sha256"],
                entry["precision"],
                entry["fitted_on"],
                None if different is None else (mean, deviation),
                (slope, shift),
            )
        except CalibrationError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CalibrationError(
                f"calibration: expected the fields of a calibration, got {sorted(entry)}: {error}; "
                "make it again with passerby calibrate"
            ) from error


def posterior(llr: Float64, prior: float = 0.5) -> Float64:
    """The probability of "same person" for each log-likelihood ratio; any shape.

    >>> posterior(np.array([0.0, np.log(3)]), prior=0.5)
    array([0.5 , 0.75])
    """
    return sigmoid(np.asarray(llr, np.float64) + logit("prior", prior))


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
    prior = -logit("absent", absent) - math.log(max(1, people_in_all))  # log odds of each person against nobody
    log_odds = prior + np.asarray(llr, np.float64)
    highest = np.maximum(log_odds.max(axis=-1, initial=-np.inf, keepdims=True), 0.0)
    people, nobody = np.exp(log_odds - highest), np.exp(-highest)
    total = nobody + people.sum(axis=-1, keepdims=True)
    if mean_ratio is not None:
        total = total + (others * mean_ratio)[..., None] * np.exp(prior - highest)
    return people / total, (nobody / total)[..., 0]


def sigmoid(x: Float64) -> Float64:
    small = np.exp(-np.abs(x))
    result: Float64 = np.where(x >= 0, 1.0, small) / (1.0 + small)
    return result


def logit(name: str, probability: float) -> float:
    if not 0 < probability < 1:
        raise CalibrationError(f"{name}: expected a probability between 0 and 1, got {probability}")
    return math.log(probability) - math.log1p(-probability)


def bound(seen: int) -> float:
    """The highest log-likelihood ratio that a sample supports of which none of `seen` lies beyond.

    Of a share of which none of n was seen, the mean of the posterior is 0.5 / (n + 1), under Jeffreys' prior.
    """
    return math.log(2 * (seen + 1))


def recalibrated(curve: Curve, factor: float, shift: float) -> Curve:
    """The curve whose ratios before the bounds are r factor + shift in place of r."""
    return replace(curve, slopes=tuple(s * factor for s in curve.slopes), offset=curve.offset * factor + shift)


def bounded(llr: Float64, upper: float, lower: float) -> Float64:
    """Bend x into (-lower, upper): slope 1 at 0, strictly increasing, smooth; x / (1 + |x / bound|^p)^(1/p)."""
    bound = np.where(llr >= 0, upper, lower)
    result: Float64 = llr / (1 + np.abs(llr / bound) ** CAP_SHARPNESS) ** (1 / CAP_SHARPNESS)
    return result


def piecewise(similarity: Float64, knots: Float64, slopes: Float64, offset: float | Float64) -> Float64:
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
