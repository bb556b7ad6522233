"""How detectors are measured: beside a slow loop and pycocotools, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby.shop import Detections
from passerby.types import ModelError
from passerby.vision.boxes import (
    Matches,
    Truth,
    average_precision,
    bootstrap,
    calibration_error,
    difference,
    match,
    recall_at,
    share_of_hits,
)


def drawn(seed, *, pictures=8, ignored=0.2):
    """(detections, truths) of some pictures: people, most of them found about where they are, and false alarms."""
    rng = np.random.default_rng(seed)
    detections, truths = [], []
    for number in range(pictures):
        count = int(rng.integers(0, 7))
        corner = rng.integers(0, 80, (count, 2)).astype(np.float32)
        people = np.concatenate((corner, corner + rng.integers(10, 40, (count, 2))), 1).astype(np.float32)
        near = people[rng.random(count) < 0.8] + rng.integers(-4, 5, (1, 4))
        corner = rng.integers(0, 80, (3, 2)).astype(np.float32)
        boxes = np.concatenate((near, np.concatenate((corner, corner + rng.integers(5, 30, (3, 2))), 1)))
        boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)].astype(np.float32)
        scores = (rng.permutation(900)[: len(boxes)] * 100 + number).astype(np.float32) / 90000  # no two are equal
        scores = np.sort(scores)[::-1].copy()
        detections.append(Detections(boxes, scores))
        truths.append(Truth(people, rng.random(count) < ignored))
    return detections, truths


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0) * max(height, 0)
    return inside, inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def slow_rows(detections, truths):
    """(score, hit) of each detection that counts, and how many people there are; in plain loops."""
    rows, people = [], 0
    for found, truth in zip(detections, truths, strict=True):
        people += sum(1 for unjudged in truth.ignored if not unjudged)
        taken = set()
        for box, score in zip(found.boxes_xyxy.tolist(), found.scores.tolist(), strict=True):
            best, whose = 0.5, None
            for person, (true, unjudged) in enumerate(zip(truth.boxes_xyxy.tolist(), truth.ignored, strict=True)):
                if not unjudged and person not in taken and iou(box, true)[1] >= best:
                    best, whose = iou(box, true)[1], person
            if whose is not None:
                taken.add(whose)
                rows.append((score, True))
                continue
            area = (box[2] - box[0]) * (box[3] - box[1])
            crowded = [t for t, u in zip(truth.boxes_xyxy.tolist(), truth.ignored, strict=True) if u]
            if not any(iou(box, true)[0] / area >= 0.5 for true in crowded):
                rows.append((score, False))
    return sorted(rows, reverse=True), people


@pytest.mark.parametrize("seed", range(12))
def test_average_precision_and_recall_are_those_of_a_slow_loop(seed):
    detections, truths = drawn(seed)
    rows, people = slow_rows(detections, truths)
    total = 0.0
    for recall in np.linspace(0, 1, 101):
        best, hits = 0.0, 0
        for seen, (_, hit) in enumerate(rows, 1):
            hits += hit
            if hits / people >= recall:
                best = max(best, hits / seen)
        total += best / 101
    matches = match(detections, truths)
    assert average_precision(matches) == pytest.approx(total, abs=1e-12)
    best = 0
    for end in range(len(rows) + 1):
        if sum(1 for _, hit in rows[:end] if not hit) <= len(truths):
            best = max(best, sum(hit for _, hit in rows[:end]))
    assert recall_at(matches, false_per_picture=1.0) == pytest.approx(best / people)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_pycocotools(seed, capsys):
    coco = pytest.importorskip("pycocotools.coco", reason="needs pycocotools (the dev group)")
    from pycocotools.cocoeval import COCOeval

    detections, truths = drawn(seed, pictures=20)
    truth, found = coco.COCO(), []
    truth.dataset = {"images": [{"id": n} for n in range(20)], "annotations": [], "categories": [{"id": 1}]}
    for number, (seen, there) in enumerate(zip(detections, truths, strict=True)):
        for (x0, y0, x1, y1), crowd in zip(there.boxes_xyxy.tolist(), there.ignored.tolist(), strict=True):
            box = [x0, y0, x1 - x0, y1 - y0]
            entry = {"image_id": number, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": int(crowd)}
            truth.dataset["annotations"].append({"id": len(truth.dataset["annotations"]) + 1, **entry})
        for (x0, y0, x1, y1), score in zip(seen.boxes_xyxy.tolist(), seen.scores.tolist(), strict=True):
            found.append({"image_id": number, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score})
    truth.createIndex()
    theirs = COCOeval(truth, truth.loadRes(found), "bbox")
    theirs.params.iouThrs = np.array([0.5])
    theirs.evaluate()
    theirs.accumulate()
    precision = theirs.eval["precision"][0, :, 0, 0, 2]
    capsys.readouterr()
    assert average_precision(match(detections, truths)) == pytest.approx(precision.mean(), abs=1e-9)


def one(boxes, scores):
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32))


def test_a_person_found_twice_is_a_hit_and_a_false_alarm():
    truth = Truth(np.array([[0, 0, 10, 20]], np.float32), np.array([False]))
    matches = match([one([[0, 0, 10, 20], [1, 0, 11, 20]], [0.9, 0.8])], [truth])
    assert matches.hits.tolist() == [True, False]


def test_a_detection_on_an_ignored_person_counts_for_nothing():
    truth = Truth(np.array([[0, 0, 10, 20], [50, 0, 60, 20]], np.float32), np.array([True, False]))
    matches = match([one([[0, 0, 10, 20], [2, 2, 8, 12], [50, 0, 60, 20]], [0.9, 0.8, 0.7])], [truth])
    assert matches.hits.tolist() == [True]
    assert matches.people.tolist() == [1]
    assert average_precision(matches) == 1.0


def test_recall_is_read_where_false_alarms_reach_one_a_picture():
    people = np.array([[0, 0, 10, 20], [20, 0, 30, 20], [40, 0, 50, 20]], np.float32)
    false = [[70, 0, 80, 20], [90, 0, 99, 20]]
    found = one(
        [people[0].tolist(), false[0], people[1].tolist(), false[1], people[2].tolist()], [0.9, 0.8, 0.7, 0.6, 0.5]
    )
    matches = match([found], [Truth(people, np.zeros(3, bool))])
    assert recall_at(matches) == pytest.approx(2 / 3)
    assert recall_at(matches, false_per_picture=2) == 1.0
    assert recall_at(matches, false_per_picture=0) == pytest.approx(1 / 3)


def test_nobody_found_and_nobody_there():
    truth = Truth(np.zeros((0, 4), np.float32), np.zeros(0, bool))
    assert average_precision(match([one([], [])], [truth])) == 0.0
    assert recall_at(match([one([], [])], [truth])) == 0.0
    with pytest.raises(ModelError, match="expected boxes"):
        Truth(np.zeros((0, 4), np.float32), np.zeros(1, bool))


def test_the_draws_of_a_detector_against_itself_differ_by_nothing_and_a_better_one_is_ahead():
    detections, truths = drawn(3, pictures=40)
    better = [one(truth.boxes_xyxy, np.linspace(0.9, 0.8, len(truth.boxes_xyxy))) for truth in truths]
    both = [match(detections, truths), match(better, truths)]
    (worse_draws, better_draws), _ = bootstrap(both, draws=200)
    gain = difference(better_draws, worse_draws, value=average_precision(both[1]) - average_precision(both[0]))
    assert gain.low is not None
    assert gain.low > 0
    assert gain.low <= gain.value <= gain.high
    same = difference(worse_draws, worse_draws, value=0.0)
    assert (same.low, same.high) == (0, 0)
    again, _ = bootstrap(both, draws=200)
    np.testing.assert_array_equal(again[0], worse_draws)


def test_a_picture_drawn_twice_counts_twice():
    """A draw's AP is that of the pictures themselves, repeated as often as they were drawn."""
    detections, truths = drawn(5, pictures=6)
    (draws,), (recalls,) = bootstrap([match(detections, truths)], draws=5, seed=1)
    weights = np.random.default_rng(1).multinomial(6, np.full(6, 1 / 6), size=5)
    for draw, weight in enumerate(weights):
        rows = np.repeat(np.arange(6), weight)
        again = match([detections[row] for row in rows], [truths[row] for row in rows])
        assert draws[draw] == pytest.approx(average_precision(again), abs=1e-9)
        assert recalls[draw] == pytest.approx(recall_at(again), abs=1e-9)


def test_detectors_on_other_pictures_are_not_compared():
    with pytest.raises(ModelError, match="on the same pictures"):
        bootstrap([match(*drawn(0, pictures=3)), match(*drawn(0, pictures=4))])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.3, 3))
def test_calibration_error_is_small_where_scores_are_the_share_of_hits_and_grows_otherwise(seed, power):
    rng = np.random.default_rng(seed)
    chance = np.sort(rng.random(4000))[::-1]
    hits = rng.random(4000) < chance
    nobody = np.zeros(1, np.int64)
    right = Matches(chance, hits, np.zeros(4000, np.int64), nobody)
    assert calibration_error(right) < 0.05
    bent = Matches(chance**power, hits, np.zeros(4000, np.int64), nobody)
    if not 0.6 < power < 1.6:
        assert calibration_error(bent) > calibration_error(right)
    share, count = share_of_hits(right, low=0.45, high=0.55)
    assert share == pytest.approx(0.5, abs=0.12)
    assert count > 200
