"""How good a detector's boxes are: average precision, recall at a rate of false alarms, calibration; no networks here.

Boxes are matched as COCO does it: the surest first, each to the best free box of the truth with an IoU of 0.5 or more. A box
of the truth marked `ignored` (COCO's `iscrowd`) need not be found, and takes in every detection that lies half inside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passerby.shop import Detections
from passerby.types import Float32, Float64, Interval, ModelError

OVERLAP = 0.5  # IoU from which a box counts as found
RECALLS = np.linspace(0, 1, 101)  # at which COCO reads precision
DRAWS = 1000
BINS = 10

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The people of one picture: `boxes_xyxy` (n, 4) in pixels, `ignored` (n,) those that nobody is judged by."""

    boxes_xyxy: Float32
    ignored: Bools

    def __post_init__(self) -> None:
        if self.boxes_xyxy.shape != (len(self.ignored), 4):
            raise ModelError(
                f"truth: expected boxes (n, 4), got {self.boxes_xyxy.shape} for {len(self.ignored)} people"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The detections of many pictures beside the truth, the surest first.

    `scores`, `hits` and `pictures` (n,) are each detection's score, whether it found somebody, and the number of its
    picture; detections on ignored boxes are left out. `people` (pictures,) counts those to be found.
    """

    scores: Float64
    hits: Bools
    pictures: NDArray[np.int64]
    people: NDArray[np.int64]


def match(detections: Sequence[Detections], truths: Sequence[Truth], *, overlap: float = OVERLAP) -> Matches:
    """Match the detections of each picture to its truth; the two are in one order."""
    scores, hits, pictures = [], [], []
    for number, (found, truth) in enumerate(zip(detections, truths, strict=True)):
        hit, counted = _matched(found, truth, overlap)
        scores.append(found.scores[counted].astype(np.float64))
        hits.append(hit[counted])
        pictures.append(np.full(int(counted.sum()), number, np.int64))
    people = np.array([int((~truth.ignored).sum()) for truth in truths], np.int64)
    every = np.concatenate([np.empty(0), *scores])
    order = np.argsort(-every, kind="stable")
    return Matches(
        every[order],
        np.concatenate([np.empty(0, bool), *hits])[order],
        np.concatenate([np.empty(0, np.int64), *pictures])[order],
        people,
    )


def average_precision(matches: Matches) -> float:
    """COCO's AP at the IoU that was matched with: the mean over 101 recalls of the best precision at that recall or above."""
    return float(_average_precisions(matches, np.ones((1, len(matches.people)), np.int64))[0])


def recall_at(matches: Matches, *, false_per_picture: float = 1.0) -> float:
    """The share of people found with the lowest threshold that gives no more false alarms a picture than that."""
    return float(_recalls(matches, np.ones((1, len(matches.people)), np.int64), false_per_picture)[0])


def bootstrap(
    matches: Sequence[Matches], *, draws: int = DRAWS, seed: int = 0, false_per_picture: float = 1.0
) -> tuple[list[Float64], list[Float64]]:
    """AP and recall of several detectors on the same drawn pictures, each a list of (draws,); pictures are drawn whole.

    Two detectors are compared by the difference of their draws, see `difference`.
    """
    pictures = {len(one.people) for one in matches}
    if len(pictures) != 1:
        raise ModelError(f"bootstrap: expected detectors on the same pictures, got {sorted(pictures)} of them")
    count = pictures.pop()
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws)  # (draws, pictures)
    precisions = [_average_precisions(one, weights) for one in matches]
    return precisions, [_recalls(one, weights, false_per_picture) for one in matches]


def difference(ours: Float64, theirs: Float64, *, value: float) -> Interval:
    """`value`, ours - theirs on all pictures, with the 95 % interval of the difference over paired draws."""
    low, high = np.percentile(ours - theirs, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def calibration_error(matches: Matches, *, bins: int = BINS) -> float:
    """How far scores are from the share of hits: the mean over bins of equal count, weighted by count, 0 is right.

    Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015, with bins of equal count.
    """
    if not len(matches.scores):
        return 0.0
    parts = np.array_split(np.arange(len(matches.scores)), bins)
    gaps = [len(rows) * abs(matches.scores[rows].mean() - matches.hits[rows].mean()) for rows in parts if len(rows)]
    return float(sum(gaps) / len(matches.scores))


def share_of_hits(matches: Matches, *, low: float, high: float) -> tuple[float, int]:
    """The share of hits among detections with a score of `low` to `high`, and how many those are; NaN where none is."""
    inside = (matches.scores >= low) & (matches.scores <= high)
    count = int(inside.sum())
    return (float(matches.hits[inside].mean()) if count else float("nan")), count


def _matched(found: Detections, truth: Truth, overlap: float) -> tuple[Bools, Bools]:
    """(hit, counted) of each detection of a picture."""
    boxes, people = found.boxes_xyxy, truth.boxes_xyxy
    shared = np.minimum(boxes[:, None, 2:], people[None, :, 2:]) - np.maximum(boxes[:, None, :2], people[None, :, :2])
    inside = np.clip(shared, 0, None).prod(2).astype(np.float64)  # (detections, people)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1).astype(np.float64)
    area_true = (people[:, 2:] - people[:, :2]).prod(1).astype(np.float64)
    union = area[:, None] + area_true[None, :] - inside
    agreement = inside / np.where(truth.ignored[None, :], area[:, None], union)
    free = ~truth.ignored
    hit, counted = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
    for row in range(len(boxes)):
        could = free & (agreement[row] >= overlap)
        if could.any():
            hit[row] = True
            free[int(np.where(could, agreement[row], -1.0).argmax())] = False
        elif (truth.ignored & (agreement[row] >= overlap)).any():
            counted[row] = False
    return hit, counted


def _average_precisions(matches: Matches, weights: NDArray[np.int64]) -> Float64:
    """AP for each row of `weights` (draws, pictures), how often each picture counts."""
    found = np.empty(len(weights))
    people = weights @ matches.people
    for draw, weight in enumerate(weights):
        each = weight[matches.pictures]
        hits = np.cumsum(each * matches.hits)
        seen = np.cumsum(each)
        if not people[draw] or not len(seen):
            found[draw] = 0.0
            continue
        precision = np.maximum.accumulate((hits / np.maximum(seen, 1))[::-1])[::-1]
        at = np.searchsorted(hits / people[draw], RECALLS, side="left")
        found[draw] = np.where(at < len(precision), precision[np.minimum(at, len(precision) - 1)], 0.0).mean()
    return found


def _recalls(matches: Matches, weights: NDArray[np.int64], false_per_picture: float) -> Float64:
    found = np.empty(len(weights))
    for draw, weight in enumerate(weights):
        each = weight[matches.pictures]
        false = np.cumsum(each * ~matches.hits)
        people = int(weight @ matches.people)
        allowed = int(np.searchsorted(false, false_per_picture * weight.sum(), side="right"))
        found[draw] = (each * matches.hits)[:allowed].sum() / people if people else 0.0
    return found
