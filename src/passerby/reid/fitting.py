"""Fits a calibration to pairs, and adapts one to a new site; nothing is measured here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from passerby.reid.calibration import Calibration, Curve, bound, bounded, piecewise, recalibrated, sigmoid
from passerby.reid.pairs import DifferentPairs, PairSample, joined
from passerby.types import CalibrationError, Float64

LEAST_SLOPE = 1e-3  # per standard deviation of the similarity; keeps every map strictly increasing
SMOOTHNESS = (1e-5, 1e-4, 1e-3)  # candidates for a spline's penalty on changes of slope
KNOT_SHARES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
FOLDS = 5
LEAST_TRACKS = 40  # that a site is adapted to
MOST_STRETCH = 1.25  # of its similarities, either way
ERROR_DRAWS = 5
LEAST_ERROR = (0.05, 0.1)  # of a factor's logarithm and of a shift: no calibration is surer of itself


def fit_curve(sample: PairSample) -> Curve:
    """Fit the map from similarity to log-likelihood ratio by weighted logistic loss at even odds.

    Affine, or a monotone spline where its log loss on people left out of the fit (5 folds) is lower. Bounded by what
    the sample supports (`calibration.bound`): above by the number of distinct pairs of people in it, below by the number
    of people. Raises CalibrationError with fewer than 10 people, or where similarities do not tell them apart.

    Brummer and du Preez, "Application-independent evaluation of speaker detection", Computer Speech & Language 2006.
    """
    if len(np.unique(sample.person)) < 2 * FOLDS:
        raise CalibrationError(
            f"calibration: expected at least {2 * FOLDS} people, got {len(np.unique(sample.person))}"
        )
    if not (np.isfinite(sample.same).all() and np.isfinite(sample.different).all()):
        raise CalibrationError("calibration: expected finite similarities, got NaN; are all embeddings finite?")
    if np.average(sample.same, weights=sample.weight) <= np.average(sample.different, weights=sample.weight):
        raise CalibrationError(
            "calibration: expected pictures of the same person to be more similar than those of different people, but "
            "they are not; do embeddings and labels belong together?"
        )
    everything = np.ones(len(sample.same), np.bool_)
    candidates: tuple[float | None, ...] = (None, *SMOOTHNESS)
    losses = [_cross_fitted_loss(sample, smoothness) for smoothness in candidates]
    knots, slopes, offset = _fit_free(sample, everything, everything, candidates[int(np.argmin(losses))])
    return _curve(sample, knots, slopes, offset)


def _curve(sample: PairSample, knots: Float64, slopes: Float64, offset: float) -> Curve:
    """A curve with the bounds that the sample supports."""
    return Curve(tuple(knots.tolist()), tuple(slopes.tolist()), offset, *_bounds(sample))


def _bounds(sample: PairSample) -> tuple[float, float]:
    """(upper, lower) of a curve."""
    return bound(sample.people_pairs), bound(sample.people)


def fit(
    sets: Sequence[Mapping[tuple[int, int], PairSample]], *, file_sha256: str, precision: str, fitted_on: str
) -> Calibration:
    """Fit a calibration to pairs of several data sets: a curve for each number of pictures that any of them has.

    `sets` gives for each data set its pairs by the pictures behind the two sides, see `pairs.sample_pairs`; (1, 1) is in
    each. Every person weighs the same. The curve for one picture against one is fitted freely, the others are that one
    `recalibrated`: few people have many pictures in two cameras. Raises CalibrationError as `fit_curve` does.
    """
    singles = [samples[1, 1] for samples in sets]
    single = joined(singles)
    one = fit_curve(single)
    curves = [((1, 1), one)]
    for pair in sorted({pair for samples in sets for pair in samples} - {(1, 1)}):
        sample = joined([samples[pair] for samples in sets if pair in samples])
        free = (one.free(sample.same), one.free(sample.different))
        moved = recalibration(*free, sample.weight, people=len(np.unique(sample.person)))
        upper, lower = _bounds(sample)
        curves.append((pair, replace(recalibrated(one, *moved), upper=upper, lower=lower)))
    return Calibration(
        tuple(curves),
        file_sha256,
        precision,
        fitted_on,
        different=_spread(single.different, single.weight),
        error=_error(singles),
    )


def _error(sets: Sequence[PairSample]) -> tuple[float, float]:
    """How far a calibration's ratios may be off on other people: see `Calibration.error`.

    Half of each set's people are fitted on; on the other half, each set by itself, the factor and the shift are sought
    that would have been right (`recalibration`). The root mean squares of the factor's logarithm and of the shift, over
    the square root of 2, since all of the people are fitted on in the end.
    """
    found = []
    for draw in range(ERROR_DRAWS):
        parts = []
        for number, sample in enumerate(sets):
            half = np.random.default_rng([draw, number]).permutation(_numbers(sample)) % 2 == 0
            parts.append((sample.among(half), sample.among(~half)))
        first, second = [a for a, _ in parts], [b for _, b in parts]
        for known, asked in ((first, second), (second, first)):
            sample = joined(known)
            if len(np.unique(sample.person)) < 2 * FOLDS:
                return LEAST_ERROR
            every = np.ones(len(sample.same), np.bool_)
            curve = _curve(sample, *_fit_free(sample, every, every, None))
            for other in asked:
                ratios = curve.at(other.same), curve.at(other.different)
                found.append(recalibration(*ratios, other.weight, people=len(np.unique(other.person))))
    factors, shifts = np.array(found).T
    return (
        max(LEAST_ERROR[0], float(np.sqrt(np.mean(np.log(factors) ** 2) / 2))),
        max(LEAST_ERROR[1], float(np.sqrt(np.mean(shifts**2) / 2))),
    )


def recalibration(same: Float64, different: Float64, weight: Float64, *, people: int) -> tuple[float, float]:
    """The factor (above 0) and the shift that make ratios of these pairs right on average; arguments as `measures.cllr`.

    By logistic regression, with a prior of standard deviation 1 around a factor of 1 and a shift of 0, against which each of
    the `people` counts once: who are told apart entirely say little about either.
    """
    ratios = np.concatenate([same, different])
    target = np.repeat([1.0, -1.0], len(same))
    both = np.concatenate([weight, weight]) / (2 * weight.sum())
    ridge = 1 / people
    factor, shift = 1.0, 0.0
    design = np.column_stack([ratios, np.ones_like(ratios)])
    for _ in range(100):
        wrong = sigmoid(-target * (design @ np.array([factor, shift])))
        pull = ridge * np.array([factor - 1, shift])
        gradient = -design.T @ (both * target * wrong) + pull
        curvature = (design * (both * wrong * (1 - wrong))[:, None]).T @ design + ridge * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        factor, shift = max(factor - float(step[0]), 0.05), shift - float(step[1])
        if np.abs(step).max() < 1e-8:
            break
    return factor, shift


def adapt(calibration: Calibration, different: DifferentPairs) -> Calibration:
    """The calibration for a new site, from pairs of pictures there, in two cameras, that surely show different people.

    The site's similarities are shifted and stretched so that their mean and deviation become those of the different pairs
    that the calibration was fitted on; each pair of tracks counts once, and the stretch is at most 1.25 either way. No label
    is needed: people seen in two places at once are different. What the site does to pictures of the same person cannot be
    seen that way, and stays. Raises CalibrationError with fewer than 40 tracks, or for a calibration that was made before
    its own mean and deviation were kept.
    """
    if calibration.different is None:
        raise CalibrationError("calibration: is too old to be adapted; make it again with passerby calibrate")
    if not np.isfinite(different.similarity).all():
        raise CalibrationError("calibration: expected finite similarities, got NaN; are all embeddings finite?")
    if different.tracks < LEAST_TRACKS:
        raise CalibrationError(
            f"calibration: expected at least {LEAST_TRACKS} tracks that another camera saw at the same time as another "
            f"track, got {different.tracks}; record for longer, or more cameras"
        )
    mean, deviation = calibration.different
    mean_here, deviation_here = _spread(different.similarity, different.weight)
    stretch = float(np.clip(deviation / max(deviation_here, 1e-12), 1 / MOST_STRETCH, MOST_STRETCH))
    shift = mean - stretch * mean_here  # the site's s is stretch * s + shift at home

    def moved(curve: Curve) -> Curve:
        return replace(
            curve,
            knots=tuple((knot - shift) / stretch for knot in curve.knots),
            slopes=tuple(slope * stretch for slope in curve.slopes),
        )

    return replace(
        calibration,
        curves=tuple((pair, moved(curve)) for pair, curve in calibration.curves),
        fitted_on=f"{calibration.fitted_on}; adapted to a site by {different.tracks} tracks",
        different=((mean - shift) / stretch, deviation / stretch),
    )


def _numbers(sample: PairSample) -> int:
    """How many numbers of people there are, 0 to the highest."""
    return int(max(sample.person.max(), sample.other.max())) + 1


def _spread(values: Float64, weight: Float64) -> tuple[float, float]:
    mean = float(np.average(values, weights=weight))
    return mean, math.sqrt(float(np.average((values - mean) ** 2, weights=weight)))


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
    knots = (_spaced(picked, spread / 4) - middle) / spread if len(picked) else np.zeros(1)
    design = np.column_stack([np.ones(len(both)), piecewise((both - middle) / spread, knots, np.eye(len(knots)), 0.0)])
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


def _spaced(knots: Float64, least: float) -> Float64:
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
        wrong = sigmoid(-target * (design @ mix))
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
    fold = np.random.default_rng(0).permutation(_numbers(sample)) % FOLDS
    upper, lower = _bounds(sample)
    total = 0.0
    for held in range(FOLDS):
        out = fold[sample.person] == held
        if not out.any() or out.all():
            continue
        knots, slopes, offset = _fit_free(sample, ~out, ~out & (fold[sample.other] != held), smoothness)
        same, different = (
            bounded(piecewise(scores[out], knots, slopes, offset), upper, lower)
            for scores in (sample.same, sample.different)
        )
        total += float(sample.weight[out] @ (np.logaddexp(0, -same) + np.logaddexp(0, different)))
    return total
