"""Each loss beside a slow loop that is obviously right, and beside pytorch-metric-learning."""

import math
import warnings

import pytest
import torch
from torch.nn import functional as F

from passerby.learn.distill import Imitation
from passerby.learn.losses import ArcFace, BatchHardTriplet, CentreLoss, SmoothedSoftmax, WeightedLosses

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_metric_learning import distances, losses, miners, reducers


@pytest.fixture
def batch():
    torch.manual_seed(0)
    features = torch.randn(12, 16, requires_grad=True)
    return features, torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])


def slow_arcface(features, labels, weight, scale, margin):
    total = 0.0
    for f, label in zip(features.detach(), labels.tolist(), strict=True):
        logits = []
        for person, w in enumerate(weight.detach()):
            cosine = float(f @ w / f.norm() / w.norm())
            if person == label:
                angle = math.acos(cosine)
                cosine = math.cos(angle + margin) if angle + margin < math.pi else cosine - margin * math.sin(margin)
            logits.append(scale * cosine)
        highest = max(logits)
        total += highest + math.log(sum(math.exp(x - highest) for x in logits)) - logits[label]
    return total / len(features)


def test_arcface_equals_the_loop(batch):
    features, labels = batch
    loss = ArcFace(16, 4, scale=30, margin=0.3)
    assert loss(features, labels).item() == pytest.approx(
        slow_arcface(features, labels, loss.weight, 30, 0.3), rel=1e-5
    )


def test_arcface_equals_the_loop_where_the_angle_passes_pi():
    loss = ArcFace(2, 2, scale=30, margin=0.3)
    loss.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    features, labels = torch.tensor([[-1.0, 0.05]]), torch.tensor([0])  # 3.09 rad from its own centre
    assert loss(features, labels).item() == pytest.approx(
        slow_arcface(features, labels, loss.weight, 30, 0.3), rel=1e-4
    )


def test_arcface_equals_pytorch_metric_learning(batch):
    features, labels = batch
    ours = ArcFace(16, 4, scale=30, margin=0.3)
    theirs = losses.ArcFaceLoss(4, 16, margin=math.degrees(0.3), scale=30)
    theirs.W.data = ours.weight.data.T.clone()
    torch.testing.assert_close(ours(features, labels), theirs(features, labels), rtol=1e-5, atol=1e-5)


def test_the_margin_on_the_cosine_equals_pytorch_metric_learnings_am_softmax(batch):
    features, labels = batch
    ours = ArcFace(16, 4, scale=30, margin=0.35, on="cosine")
    theirs = losses.CosFaceLoss(4, 16, margin=0.35, scale=30)
    theirs.W.data = ours.weight.data.T.clone()
    torch.testing.assert_close(ours(features, labels), theirs(features, labels), rtol=1e-5, atol=1e-5)


def test_centre_loss_is_half_the_squared_distance_and_its_centres_follow(batch):
    features, labels = batch
    loss = CentreLoss(16, 5, rate=0.5)
    first = torch.stack([features[labels == person].detach().mean(0) for person in range(4)])
    expected = sum(((f - first[p]) ** 2).sum() / 2 for f, p in zip(features, labels.tolist(), strict=True)) / 12
    torch.testing.assert_close(loss(features, labels), expected)
    loss(features + 2, labels)
    torch.testing.assert_close(loss.centres[:4], first + 1)
    assert not loss.known[4]
    kept = loss.centres.clone()
    loss.eval()(features, labels).backward()
    assert torch.equal(loss.centres, kept)
    assert features.grad.abs().sum() > 0


def test_arcface_ramp_zero_is_a_plain_cosine_softmax(batch):
    features, labels = batch
    loss = ArcFace(16, 4)
    loss.ramp = 0.0
    plain = F.cross_entropy(30 * F.normalize(features) @ F.normalize(loss.weight).T, labels)
    torch.testing.assert_close(loss(features, labels), plain)


def test_arcface_gradient_is_finite_at_the_centre_and_opposite_it():
    loss = ArcFace(2, 2)
    loss.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    loss(features, torch.tensor([0, 0])).backward()
    assert features.grad.isfinite().all()


def test_arcface_gradient_is_that_of_finite_differences(batch):
    loss = ArcFace(4, 3, scale=5)
    features = torch.randn(3, 4, requires_grad=True)
    labels = torch.tensor([0, 1, 2])
    (gradient,) = torch.autograd.grad(loss(features, labels), features)
    step = torch.zeros(3, 4)
    step[1, 2] = 1e-2
    slope = (loss(features + step, labels) - loss(features - step, labels)) / 2e-2
    assert gradient[1, 2].item() == pytest.approx(slope.item(), rel=1e-2, abs=1e-3)


def test_smoothed_softmax_equals_the_loop(batch):
    features, labels = batch
    loss = SmoothedSoftmax(16, 4, smoothing=0.1)
    loss.weight.data.normal_()
    total = 0.0
    for f, label in zip(features.detach(), labels.tolist(), strict=True):
        log_p = torch.log_softmax(loss.weight.detach() @ f, 0)
        total -= sum((0.9 * (i == label) + 0.1 / 4) * log_p[i].item() for i in range(4))
    assert loss(features, labels).item() == pytest.approx(total / 12, rel=1e-5)


def slow_triplet(features, labels, margin, distance):
    found = []
    for a in range(len(features)):
        positives, negatives = [], []
        for b in range(len(features)):
            if a == b:
                continue
            d = (
                (features[a] - features[b]).norm().item()
                if distance == "euclidean"
                else 1 - F.cosine_similarity(features[a], features[b], dim=0).item()
            )
            (positives if labels[a] == labels[b] else negatives).append(d)
        if positives and negatives:
            gap = max(positives) - min(negatives)
            found.append(math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin))
    return sum(found) / len(found)


@pytest.mark.parametrize("margin", [0.3, None])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_triplet_equals_the_loop(batch, margin, distance):
    features, labels = batch
    loss = BatchHardTriplet(margin=margin, distance=distance)
    assert loss(features, labels).item() == pytest.approx(slow_triplet(features, labels, margin, distance), rel=1e-4)


def test_triplet_equals_pytorch_metric_learning(batch):
    features, labels = batch
    distance = distances.LpDistance(normalize_embeddings=False)
    theirs = losses.TripletMarginLoss(margin=0.3, distance=distance, reducer=reducers.MeanReducer())
    mined = miners.BatchHardMiner(distance=distance)(features, labels)
    torch.testing.assert_close(BatchHardTriplet(margin=0.3)(features, labels), theirs(features, labels, mined))


def test_triplet_leaves_out_an_anchor_without_a_positive(batch):
    features, labels = batch
    labels = labels.clone()
    labels[0] = 9
    assert BatchHardTriplet()(features, labels).item() == pytest.approx(
        slow_triplet(features, labels, 0.3, "euclidean"), rel=1e-4
    )


@pytest.mark.parametrize("labels", [[0] * 12, list(range(12))], ids=["one person", "no positive"])
def test_a_batch_without_triplets_is_zero_and_still_has_a_gradient(batch, labels):
    features, _ = batch
    loss = BatchHardTriplet()(features, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_a_triplet_loss_of_zero_still_has_a_gradient():
    features = torch.tensor([[0.0, 0], [0, 0], [9, 9], [9, 9]], requires_grad=True)
    loss = BatchHardTriplet()(features, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.item() == 0
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_losses_of_half_precision_features_are_float32_and_finite(batch, kind):
    features, labels = batch
    half = features.detach().to(kind)
    for loss in (ArcFace(16, 4), SmoothedSoftmax(16, 4), BatchHardTriplet()):
        value = loss(half, labels)
        assert value.dtype == torch.float32
        assert value.isfinite()


def test_weighted_losses_add_up_and_each_sees_its_side_of_the_neck(batch):
    before, labels = batch
    after = torch.randn(12, 16)
    face, triplet = ArcFace(16, 4), BatchHardTriplet()
    total, parts = WeightedLosses({"arcface": (face, 2.0, "after"), "triplet": (triplet, 0.5, "before")})(
        before, after, labels
    )
    torch.testing.assert_close(total, 2 * face(after, labels) + 0.5 * triplet(before, labels))
    torch.testing.assert_close(parts["triplet"], triplet(before, labels).detach())


@pytest.mark.parametrize(
    "make",
    [
        lambda: ArcFace(4, 0),
        lambda: BatchHardTriplet(margin=-1),
        lambda: SmoothedSoftmax(4, 2, smoothing=1),
        lambda: WeightedLosses({}),
    ],
)
def test_settings_that_mean_nothing_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_a_student_that_is_its_teacher_narrowed_begins_with_nothing_to_project(batch):
    features = batch[0].detach()
    teacher = F.normalize(features)
    assert Imitation(16, 16, same_space=True)(features, teacher).item() == pytest.approx(0, abs=1e-6)
    assert Imitation(16, 16)(features, teacher).item() > 0.3
