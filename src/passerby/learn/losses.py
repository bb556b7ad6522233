"""The losses that shape the embedding: ArcFace, AM-softmax, smoothed softmax, batch-hard triplet, centre loss, their sum."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ArcFace(nn.Module):
    """Additive angular margin softmax (Deng et al., "ArcFace", CVPR 2019).

    Takes features (n, length), of any length as vectors, and labels (n,) in 0..people-1; returns the mean
    cross-entropy over `scale` x cos(angle + margin of the own class). Where angle + margin would pass pi, the target
    falls on linearly (cos - margin * sin(margin)) so that it stays monotone, as in the authors' code.
    `ramp` in 0..1 scales the margin, for a soft start. With `on="cosine"` the margin is taken from the cosine itself:
    AM-softmax (Wang et al., "Additive Margin Softmax", 2018). Computed in float32 whatever the features are.
    """

    def __init__(
        self,
        length: int,
        people: int,
        *,
        scale: float = 30.0,
        margin: float = 0.3,
        on: Literal["angle", "cosine"] = "angle",
    ) -> None:
        super().__init__()
        if people < 1 or scale <= 0 or not 0 <= margin < math.pi:
            raise ValueError(
                f"ArcFace: expected people >= 1, scale > 0, 0 <= margin < pi, got {people}, {scale}, {margin}"
            )
        self.scale, self.margin, self.on, self.ramp = scale, margin, on, 1.0
        self.weight = nn.Parameter(torch.empty(people, length))
        nn.init.normal_(self.weight, std=length**-0.5)  # rows of length 1: Adam's steps turn short rows too fast

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of the batch, a float32 scalar."""
        cosine = F.linear(F.normalize(features.float()), F.normalize(self.weight.float()))  # (n, people)
        margin = self.margin * self.ramp
        own = cosine.gather(1, labels[:, None])[:, 0].clamp(-1 + 1e-7, 1 - 1e-7)
        if self.on == "cosine":
            target = own - margin
        else:
            sine = (1 - own.square()).sqrt()
            shifted = own * math.cos(margin) - sine * math.sin(margin)
            target = torch.where(own > math.cos(math.pi - margin), shifted, own - margin * math.sin(margin))
        logits = cosine.scatter(1, labels[:, None], target[:, None]) * self.scale
        return F.cross_entropy(logits, labels)


class SmoothedSoftmax(nn.Module):
    """A linear classifier with label smoothing (Szegedy et al., CVPR 2016), without bias as BNNeck asks for."""

    def __init__(self, length: int, people: int, *, smoothing: float = 0.1) -> None:
        super().__init__()
        if people < 1 or not 0 <= smoothing < 1:
            raise ValueError(f"SmoothedSoftmax: expected people >= 1 and 0 <= smoothing < 1, got {people}, {smoothing}")
        self.smoothing = smoothing
        self.weight = nn.Parameter(torch.empty(people, length))
        nn.init.normal_(self.weight, std=0.001)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of the batch, a float32 scalar; features (n, length), labels (n,)."""
        logits = F.linear(features.float(), self.weight.float())  # (n, people)
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)


class BatchHardTriplet(nn.Module):
    """Triplet loss over the hardest positive and hardest negative of each anchor in the batch.

    Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017. `margin=None` is their soft
    margin, log(1 + exp(d_pos - d_neg)). Anchors without a positive or without a negative in the batch are left out; a
    batch of only such anchors has loss 0, still with a gradient path. `distance` is "euclidean" on the features as they
    are, or "cosine" (1 - cosine).
    """

    def __init__(self, *, margin: float | None = 0.3, distance: Literal["euclidean", "cosine"] = "euclidean") -> None:
        super().__init__()
        if (margin is not None and margin < 0) or distance not in ("euclidean", "cosine"):
            raise ValueError(
                f"BatchHardTriplet: expected margin >= 0 or None, euclidean or cosine, got {margin}, {distance}"
            )
        self.margin, self.distance = margin, distance

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mean loss over the anchors that have a triplet, a float32 scalar; features (n, length), labels (n,)."""
        features = features.float()
        if self.distance == "cosine":
            unit = F.normalize(features)
            distances = 1 - unit @ unit.T  # (n, n)
        else:
            distances = pairwise_euclidean(features)
        same = labels[:, None] == labels[None, :]
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive = same & ~itself
        hardest_positive = distances.masked_fill(~positive, -math.inf).amax(1)
        hardest_negative = distances.masked_fill(same, math.inf).amin(1)
        anchors = positive.any(1) & (~same).any(1)
        if not anchors.any():
            return features.sum() * 0.0
        gap = hardest_positive[anchors] - hardest_negative[anchors]
        losses = F.softplus(gap) if self.margin is None else F.relu(gap + self.margin)
        return losses.mean()


class CentreLoss(nn.Module):
    """Half the squared distance of each feature to its person's centre (Wen et al., ECCV 2016), mean over the batch.

    The centres (people, length) follow the features they are shown by `rate` of the way, outside the gradient; a person's
    first batch sets its centre.
    """

    def __init__(self, length: int, people: int, *, rate: float = 0.5) -> None:
        super().__init__()
        self.rate = rate
        self.centres: Tensor
        self.known: Tensor
        self.register_buffer("centres", torch.zeros(people, length))
        self.register_buffer("known", torch.zeros(people, dtype=torch.bool))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of the batch, a float32 scalar; features (n, length), labels (n,)."""
        features = features.float()
        if self.training:
            with torch.no_grad():
                people, place, counts = torch.unique(labels, return_inverse=True, return_counts=True)
                means = torch.zeros(len(people), features.shape[1], device=features.device)
                means.index_add_(0, place, features).div_(counts[:, None])
                step = torch.where(self.known[people], self.rate, 1.0)[:, None]
                self.centres[people] += step * (means - self.centres[people])
                self.known[people] = True
        return (features - self.centres[labels]).square().sum(1).mean() / 2


class WeightedLosses(nn.Module):
    """Several losses as one: each on the feature before or after the neck, times its weight.

    `parts` maps a name to (loss, weight, where), where is "before" or "after". Returns the total and, for the log, each
    part's value without its weight.
    """

    def __init__(self, parts: Mapping[str, tuple[nn.Module, float, Literal["before", "after"]]]) -> None:
        super().__init__()
        if not parts:
            raise ValueError("WeightedLosses: expected at least one loss, got none")
        self.losses = nn.ModuleDict({name: loss for name, (loss, _, _) in parts.items()})
        self.weights = {name: weight for name, (_, weight, _) in parts.items()}
        self.where = {name: where for name, (_, _, where) in parts.items()}

    def forward(self, before: Tensor, after: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss, and the parts by name (detached); features (n, length), labels (n,)."""
        total = before.new_zeros((), dtype=torch.float32)
        values: dict[str, Tensor] = {}
        for name, loss in self.losses.items():
            value = loss(before if self.where[name] == "before" else after, labels)
            values[name] = value.detach()
            total = total + self.weights[name] * value
        return total, values


def pairwise_euclidean(features: Tensor) -> Tensor:
    """Euclidean distances (n, n) between the rows of `features` (n, length), with a finite gradient at distance 0."""
    squares = features.square().sum(1)
    squared = squares[:, None] + squares[None, :] - 2 * features @ features.T
    return squared.clamp_min(1e-12).sqrt()
