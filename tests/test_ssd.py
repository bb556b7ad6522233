"""The detector's network: read from its file, its targets and its losses beside slow loops."""

import numpy as np
import pytest
import torch

from passerby.learn.ssd import BEST, PersonSSD, assigned, detection_loss, generalised_iou, load_0201
from passerby.reid.pictures import resize
from passerby.types import ModelError
from passerby.vision.detect import open_detector, suppressed
from passerby.vision.video import timed_pictures


@pytest.fixture(scope="module")
def picture(shared):
    _, picture = next(timed_pictures(shared / "videos" / "vtest.avi"))
    return picture


@pytest.mark.parametrize("size", [(384, 640), (384, 384)])
def test_the_network_read_from_its_file_is_the_files_own(shared, picture, size):
    path = shared / "models/person-detection-0201/person-detection-0201.xml"
    model = PersonSSD().eval()
    load_0201(model, path)
    (theirs,) = open_detector(path, sizes=(size,), least_score=0.1)([picture])
    seen = resize(picture, height=size[0], width=size[1])[..., ::-1].copy()
    with torch.inference_mode():
        logits, boxes, _ = model(torch.from_numpy(seen).permute(2, 0, 1)[None].float() / 255)
    scores, boxes = logits[0].sigmoid().numpy(), boxes[0].numpy()
    by = np.array([picture.shape[1] / size[1], picture.shape[0] / size[0]] * 2)
    near = np.flatnonzero(scores > 0.1)
    kept = near[suppressed(boxes[near], scores[near], overlap=0.45)]
    assert len(kept) == len(theirs) > 2
    # OpenVINO multiplies the first layer by 1/255 in half precision, which the file is in: products are off by 4e-4
    np.testing.assert_allclose(scores[kept], theirs.scores, atol=1e-3)
    ours = np.clip(boxes[kept] * by, 0, [picture.shape[1], picture.shape[0]] * 2)
    np.testing.assert_allclose(ours, theirs.boxes_xyxy, atol=0.05)


def test_a_file_of_another_network_is_refused(shared):
    for file in ("person-detection-retail-0013", "person-detection-0202", "person-reidentification-retail-0286"):
        with pytest.raises(ModelError, match="expected the anchors of person-detection-0201"):
            load_0201(PersonSSD(), next((shared / "models" / file).rglob("*.xml")))


def test_it_takes_any_size_in_multiples_of_32():
    model = PersonSSD().eval()
    with torch.inference_mode():
        logits, boxes, anchors = model(torch.zeros(2, 3, 64, 96))
    count = 4 * 6 * 4 + 2 * 3 * 5
    assert logits.shape == (2, count)
    assert boxes.shape == (2, count, 4)
    assert anchors[:4, :2].tolist() == [[8, 8]] * 4
    assert anchors[4 * 6 * 4 :, :2][0].tolist() == [16, 16]


def boxes_of(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def slow_giou(a, b):
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared / union - (hull - union) / hull


def test_generalised_iou_is_that_of_a_slow_loop():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 20, (2, 50, 2))
    a, b = (np.concatenate((c, c + rng.uniform(1, 20, (50, 2))), 1) for c in corner)
    expected = [slow_giou(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(generalised_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy(), expected)


# three anchors in a row, 10 x 20, with their centres at x = 5, 15 and 25, each predicting itself
ANCHORS = boxes_of((5, 10, 10, 20), (15, 10, 10, 20), (25, 10, 10, 20))
PREDICTED = boxes_of((0, 0, 10, 20), (10, 0, 20, 20), (20, 0, 30, 20))
EVEN = torch.full((3,), 0.5)


def test_a_person_is_learnt_by_the_anchor_that_finds_them_and_its_target_is_the_iou():
    target, person, weight = assigned(EVEN, PREDICTED, ANCHORS, boxes_of((10, 0, 20, 16)), torch.tensor([False]))
    assert target[1] == pytest.approx(0.8)
    assert target[[0, 2]].tolist() == [0, 0]
    assert person[1] == 0
    assert weight.tolist() == [1, 1, 1]


def test_a_person_whom_no_anchor_is_like_is_learnt_by_the_nearest():
    target, *_ = assigned(EVEN, PREDICTED, ANCHORS, boxes_of((11, 3, 13, 5)), torch.tensor([False]))
    assert target[1] > 0


def test_nobody_is_judged_inside_an_ignored_box_unless_somebody_stands_there():
    truth, ignored = boxes_of((0, 0, 20, 20), (10, 0, 20, 20)), torch.tensor([True, False])
    target, person, weight = assigned(EVEN, PREDICTED, ANCHORS, truth, ignored)
    assert weight.tolist() == [0, 1, 1]
    assert target[1] == pytest.approx(1.0)
    assert person[1] == 1
    alone = assigned(EVEN, PREDICTED, ANCHORS, truth[:1], ignored[:1])
    assert alone[0].sum() == 0
    assert alone[2].tolist() == [0, 0, 1]


def test_two_people_do_not_share_an_anchor_and_each_has_at_most_so_many():
    anchors = boxes_of(*[(5 + 0.1 * n, 10, 10, 20) for n in range(40)])
    predicted = torch.cat((anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2), 1)
    truth = boxes_of((0, 0, 10, 20), (3.9, 0, 13.9, 20))
    target, person, _ = assigned(torch.full((40,), 0.5), predicted, anchors, truth, torch.tensor([False, False]))
    for number, best in ((0, 0), (1, 39)):
        mine = (target > 0) & (person == number)
        assert 0 < mine.sum() <= BEST
        assert target[mine].max() == target[best]


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_more():
    truths = [(boxes_of((10, 0, 20, 20)), torch.tensor([False]))]
    right, wrong = torch.tensor([[-20.0, 20, -20]]), torch.tensor([[20.0, -2, -20]])
    score, box = detection_loss(right, PREDICTED[None], ANCHORS, truths)
    assert (float(score), float(box)) == pytest.approx((0, 0), abs=1e-6)
    worse, _ = detection_loss(wrong, PREDICTED[None], ANCHORS, truths)
    assert worse > 10
    _, off = detection_loss(right, PREDICTED[None] + 2, ANCHORS, truths)
    assert off > 0


def test_a_picture_without_people_teaches_that_nobody_is_there():
    nobody = [(torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool))]
    logits = torch.tensor([[2.0, -20, -20]], requires_grad=True)
    score, box = detection_loss(logits, PREDICTED[None], ANCHORS, nobody)
    (score + box).backward()
    assert float(box) == 0
    assert logits.grad is not None
    assert logits.grad[0, 0] > 0
