"""How far log-likelihood ratios and their posteriors can be trusted: Cllr, calibration error, the modes' figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passerby.reid.calibration import MODES, Calibration, logit, posterior
from passerby.reid.pairs import PairSample
from passerby.types import Float64, Interval

FALSE_MATCH_RATES = (1e-2, 1e-3, 1e-4)


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
    same, different = (calibration.llr(scores, *sample.behind) for scores in (sample.same, sample.different))
    weight = sample.weight
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
    same, different = (calibration.llr(scores, *sample.behind) for scores in (sample.same, sample.different))
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
        bar = logit("threshold", threshold) - logit("prior", prior)
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
    bar = logit("threshold", threshold) - logit("prior", prior)
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


def _threshold_at(different: Float64, weight: Float64, rate: float) -> float:
    """The lowest LLR whose share of different pairs above it is at most `rate`."""
    order = np.argsort(-different, kind="stable")
    ranked = different[order]
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])  # equal scores pass together
    share = np.cumsum(weight[order])[ends] / weight.sum()
    passing = int((share <= rate).sum())
    bar = ranked[ends[min(passing, len(ends) - 1)]]
    return float(np.nextafter(bar, np.inf)) if passing < len(ends) else float(ranked[-1])
