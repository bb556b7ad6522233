"""The detector's network: MobileNetV2 with boxes at two strides, as person-detection-0201 has them, and its losses."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from passerby.learn.start import read_anchors, read_parts
from passerby.types import ModelError

# (stride, channels, (width, height) of its anchors in pixels of the input): clustered by Intel from its training boxes
LEVELS = (
    (16, 96, ((5.9181247, 19.325304), (12.679001, 38.67187), (17.153881, 60.695732), (23.450796, 85.79866))),
    (
        32,
        320,
        (
            (30.320639, 115.53846),
            (38.8377, 150.98184),
            (49.17192, 191.9542),
            (62.201546, 245.22377),
            (83.084145, 321.15652),
        ),
    ),
)
VARIANCE = (0.1, 0.1, 0.2, 0.2)  # of a box's centre and log size, in its anchor's width and height
# (channels out, stride) of each inverted residual after the first
BLOCKS = (
    *((24, 2), (24, 1), (32, 2), (32, 1), (32, 1)),
    *((64, 2), (64, 1), (64, 1), (64, 1), (96, 1), (96, 1), (96, 1)),
    *((160, 2), (160, 1), (160, 1), (320, 1)),
)
EXPANSION = 6
BEST = 10  # anchors a person, at most, that learn to find them
INSIDE = 0.5  # of a predicted box in an ignored one, from which it is not judged
LIKE = 2.5  # times as tall or as small as the person may an anchor be that learns to find them
AGREEMENT_POWER = 6.0  # of IoU against score, when anchors are chosen
FOCUS = 2.0  # of the quality focal loss
BOX_WEIGHT = 2.0
LARGEST_LOG = 4.0  # of a predicted size against its anchor's: nobody is e^4 times as large


class InvertedResidual(nn.Module):
    """1x1 up, 3x3 of each channel alone, 1x1 down, and the input added where the shape stays; norms are folded away.

    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.
    """

    def __init__(self, channels: int, out: int, *, stride: int, expansion: int = EXPANSION) -> None:
        super().__init__()
        wide = channels * expansion
        self.up = nn.Conv2d(channels, wide, 1)
        self.each = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide)
        self.down = nn.Conv2d(wide, out, 1)
        self.added = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, out, h / stride, w / stride)."""
        wide = functional.relu6(self.each(functional.relu6(self.up(x))))
        y: Tensor = self.down(wide)
        return x + y if self.added else y


class Head(nn.Module):
    """3x3 of each channel alone, then 1x1: `numbers` for each anchor of each place."""

    def __init__(self, channels: int, numbers: int) -> None:
        super().__init__()
        self.each = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)
        self.out = nn.Conv2d(channels, numbers, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, numbers, h, w)."""
        found: Tensor = self.out(functional.relu(self.each(x)))
        return found


class PersonSSD(nn.Module):
    """Logits (n, anchors) and boxes (n, anchors, 4) as x0, y0, x1, y1 in pixels of the input, for pictures of any size.

    Takes float pictures (n, 3, height, width), BGR, 0..1; the sides are multiples of 32. What is seen at stride 32 is
    added to what is seen at stride 16, by a layer that begins at zero: the network read from the file is the file's own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        blocks: list[nn.Module] = [InvertedResidual(32, 16, stride=1, expansion=1)]
        channels = 16
        for out, stride in BLOCKS:
            blocks.append(InvertedResidual(channels, out, stride=stride))
            channels = out
        self.blocks = nn.ModuleList(blocks)
        self.scores = nn.ModuleList(Head(channels, len(anchors)) for _, channels, anchors in LEVELS)
        self.boxes = nn.ModuleList(Head(channels, 4 * len(anchors)) for _, channels, anchors in LEVELS)
        self.context = nn.Conv2d(LEVELS[1][1], LEVELS[0][1], 1)
        nn.init.zeros_(self.context.weight)
        nn.init.zeros_(self.context.bias)  # type: ignore[arg-type]  # a convolution without bias has None

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(logits, boxes, anchors), see the class; anchors (anchors, 4) are centre x, y, width and height."""
        x = functional.relu6(self.stem(pictures))
        fine = x
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number == len(self.blocks) - 5:
                fine = x
        fine = fine + functional.interpolate(self.context(x), scale_factor=2.0, mode="nearest")
        logits, boxes, every = [], [], []
        for level, seen in enumerate((fine, x)):
            stride, _, anchors = LEVELS[level]
            n, _, height, width = seen.shape
            logits.append(self.scores[level](seen).permute(0, 2, 3, 1).reshape(n, -1).float())
            deltas = self.boxes[level](seen).permute(0, 2, 3, 1).reshape(n, height * width * len(anchors), 4).float()
            every.append(_anchors(seen, stride, anchors))
            boxes.append(_decoded(deltas, every[-1]))
        return torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(every)


def _anchors(seen: Tensor, stride: int, sizes: Sequence[tuple[float, float]]) -> Tensor:
    """(places * anchors, 4): centre x, y, width, height of each anchor of a level, in pixels of the input.

    Made of `seen` (n, channels, h, w), so that an exported graph makes them for whatever size it is given.
    """
    first = seen[0, 0]  # (h, w)
    ones = torch.ones_like(first, dtype=torch.float32)  # in bf16 a place would be off by pixels
    x = (torch.cumsum(ones, 1) - 0.5) * stride
    y = (torch.cumsum(ones, 0) - 0.5) * stride
    centres = torch.stack((x, y), -1).reshape(-1, 1, 2)
    shapes = torch.tensor(sizes, dtype=torch.float32, device=seen.device)
    each = torch.cat((centres.expand(-1, len(sizes), 2), shapes.expand(centres.shape[0], -1, 2)), -1)
    return each.reshape(-1, 4)


def _decoded(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (n, anchors, 4) as x0, y0, x1, y1 from what the network says of each anchor."""
    centres = anchors[:, :2] + deltas[..., :2] * VARIANCE[0] * anchors[:, 2:]
    sizes = anchors[:, 2:] * (deltas[..., 2:] * VARIANCE[2]).clamp(max=LARGEST_LOG).exp()
    return torch.cat((centres - sizes / 2, centres + sizes / 2), -1)


def load_0201(model: PersonSSD, path: Path) -> None:
    """Fill the network from the OpenVINO IR (.xml beside its .bin) of person-detection-0201.

    Its two classes (person, background) become one logit, their difference. Raises ModelError for another file, also for
    -0202, whose anchors are larger.
    """
    anchors = sorted(read_anchors(path))
    if anchors != sorted(sizes for _, _, sizes in LEVELS):
        raise ModelError(f"{path}: expected the anchors of person-detection-0201, found {anchors or 'none'}")
    parts = read_parts(path)
    with torch.no_grad():
        for module, pair in _modules(model):
            kind, weight, bias = next(parts, ("end of the file", None, None))
            if kind != "convolution" or weight is None or bias is None:
                raise ModelError(
                    f"{path}: expected a convolution with its bias, found {kind}; is it person-detection-0201?"
                )
            if pair:  # person - background, anchor by anchor
                weight, bias = weight[0::2] - weight[1::2], bias.reshape(-1)[0::2] - bias.reshape(-1)[1::2]
            assert module.bias is not None
            if weight.size != module.weight.numel() or bias.size != module.bias.numel():
                raise ModelError(
                    f"{path}: a layer of {weight.shape} where person-detection-0201 has {tuple(module.weight.shape)}"
                )
            module.weight.copy_(torch.from_numpy(weight.reshape(module.weight.shape)))
            module.bias.copy_(torch.from_numpy(bias.reshape(-1)))
        if next(parts, None) is not None:
            raise ModelError(f"{path}: holds more layers than person-detection-0201")


def _modules(model: PersonSSD) -> Iterator[tuple[nn.Conv2d, bool]]:
    """The layers in the order in which the file lists its operations, and whether the file has a pair of classes there."""
    yield model.stem, False
    for number, block in enumerate(model.blocks):
        assert isinstance(block, InvertedResidual)
        yield from ((layer, False) for layer in (block.up, block.each, block.down))
        if number == len(model.blocks) - 5:
            yield from _layers(model.boxes[0], pair=False)
    yield from _layers(model.boxes[1], pair=False)
    for head in model.scores:
        yield from _layers(head, pair=True)


def _layers(head: nn.Module, *, pair: bool) -> Iterator[tuple[nn.Conv2d, bool]]:
    assert isinstance(head, Head)
    yield head.each, False
    yield head.out, pair


def detection_loss(
    logits: Tensor, boxes: Tensor, anchors: Tensor, truths: Sequence[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """(score loss, box loss) of a batch, each divided by the sum of the targets.

    `logits` (n, anchors), `boxes` (n, anchors, 4); of each picture the true boxes (people, 4) and which of them are
    ignored (people,). Each person is learnt by the anchors that find them best so far (Feng et al., "TOOD: Task-aligned
    One-stage Object Detection", ICCV 2021); scores learn how well the box fits by the quality focal loss (Li et al.,
    "Generalized Focal Loss", NeurIPS 2020), boxes by GIoU (Rezatofighi et al., CVPR 2019).
    """
    targets, matched, weights = [], [], []
    for row in range(len(logits)):
        target, person, weight = assigned(logits[row].detach().sigmoid(), boxes[row].detach(), anchors, *truths[row])
        targets.append(target)
        weights.append(weight)
        matched.append(truths[row][0][person] if len(truths[row][0]) else boxes[row].detach())
    target, weight = torch.stack(targets), torch.stack(weights)
    total = target.sum().clamp(min=1.0)
    plain = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focused = plain * (target - logits.detach().sigmoid()).abs() ** FOCUS * weight
    chosen = target > 0
    apart = 1 - generalised_iou(boxes[chosen], torch.stack(matched)[chosen])
    return focused.sum() / total, BOX_WEIGHT * (apart * target[chosen]).sum() / total


def assigned(
    scores: Tensor, boxes: Tensor, anchors: Tensor, truth: Tensor, ignored: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(target 0..1, number of the person, weight 0 or 1) of each anchor of one picture.

    A target is above 0 for at most BEST anchors a person: those with the highest score * IoU^6 whose place is inside the
    person's box and whose size is like theirs; the best one's target is its IoU. Anchors whose prediction lies in an ignored
    box have no weight, unless they have a target.
    """
    target, person = torch.zeros_like(scores), torch.zeros(len(scores), dtype=torch.long)
    weight = torch.ones_like(scores)
    if len(truth) == 0:
        return target, person, weight
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    inside = _shared(boxes, truth)  # (anchors, people)
    if ignored.any():
        weight[(inside[:, ignored].amax(1) / area.clamp(min=1e-6)) > INSIDE] = 0.0
    real = torch.nonzero(~ignored)[:, 0]
    if len(real) == 0:
        return target, person, weight
    people = truth[real]
    true_area = (people[:, 2:] - people[:, :2]).prod(1)
    overlap = inside[:, real] / (area[:, None] + true_area[None] - inside[:, real]).clamp(min=1e-6)
    x, y = anchors[:, 0, None], anchors[:, 1, None]
    may = (x > people[:, 0]) & (x < people[:, 2]) & (y > people[:, 1]) & (y < people[:, 3])
    ratio = anchors[:, 3, None] / (people[:, 3] - people[:, 1])[None]
    may &= (ratio < LIKE) & (ratio > 1 / LIKE)
    own = torch.cat((anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2), 1)
    shared = _shared(own, people)
    like = shared / (anchors[:, 2:].prod(1)[:, None] + true_area[None] - shared)
    may[like.argmax(0), torch.arange(len(people))] = True  # so that nobody is left without
    quality = scores[:, None].clamp(min=1e-3) * overlap.clamp(min=1e-3) ** AGREEMENT_POWER * may
    kept = torch.zeros_like(may)
    best = quality.topk(min(BEST, len(scores)), dim=0)
    kept.scatter_(0, best.indices, best.values > 0)
    quality = quality * kept
    value, whose = quality.max(1)
    taken = value > 0
    # within a person, targets fall off as quality does, from the best anchor's IoU
    top_quality = quality.amax(0).clamp(min=1e-12)
    top_overlap = (overlap * kept).amax(0)
    target[taken] = (value / top_quality[whose] * top_overlap[whose])[taken].clamp(min=1e-3, max=1.0)
    person[taken] = real[whose[taken]]
    weight[taken] = 1.0
    return target, person, weight


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU (n,) of boxes (n, 4), row by row: -1 far apart, 1 the same."""
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    union, hull = union.clamp(min=1e-6), hull.clamp(min=1e-6)
    return shared / union - (hull - union) / hull


def _shared(a: Tensor, b: Tensor) -> Tensor:
    """Area (len(a), len(b)) that boxes have in common."""
    sides = torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])
    return sides.clamp(min=0).prod(2)
