"""OSNet as a torch module: the body, the neck, and nothing about data, losses or files.

Follows Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019, with the BNNeck of Luo et
al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPRW 2019, in place of the last ReLU.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.types import ModelError

EMBEDDING_LENGTH = 512

# Channels of the stem and of the three stages, for each width that the paper names.
WIDTHS: dict[str, tuple[int, int, int, int]] = {
    "osnet_x1_0": (64, 256, 384, 512),
    "osnet_x0_75": (48, 192, 288, 384),
    "osnet_x0_5": (32, 128, 192, 256),
    "osnet_x0_25": (16, 64, 96, 128),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What sets a relative of OSNet apart; the widths and the streams are the same in all."""

    input_norm: bool = False  # instance norm on the picture
    stem: Literal["batch", "instance"] = "batch"  # the norm after the first convolution
    blocks: Literal["plain", "ibn", "ain"] = "plain"
    norms: bool = True  # without: a bias after each convolution instead of its batch norm
    group_gates: bool = False  # in the second block of each stage
    pool: tuple[int, int] | None = None  # a learned pool for features of this size


# "osnet": ICCV 2019. "ibn" and "ain": Zhou et al., "Learning Generalisable Omni-Scale Representations", TPAMI 2021.
# "in": instance norm in the stem alone. "gates": the body of Open Model Zoo's person-reidentification-retail-02xx.
KINDS: dict[str, Kind] = {
    "osnet": Kind(),
    "osnet_in": Kind(stem="instance"),
    "osnet_ibn": Kind(stem="instance", blocks="ibn"),
    "osnet_ain": Kind(stem="instance", blocks="ain"),
    "osnet_gates": Kind(input_norm=True, stem="instance", norms=False, group_gates=True, pool=(16, 8)),
}


class InstanceNorm(nn.InstanceNorm2d):
    """torch's own, affine; in training one that stays in channels-last memory: all after torch's would be slower."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        if x.device.type != "cpu":
            return F.group_norm(x, self.num_features, self.weight, self.bias, self.eps)
        normed: Tensor = _TrainedInstanceNorm.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]  # torch's
        return normed


class _TrainedInstanceNorm(torch.autograd.Function):
    """Instance norm as a group norm of single channels, whose own gradient takes a fifth of a step in bf16 on a processor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:  # Any: torch's context
        n, channels, height, width = x.shape
        y, mean, scale = torch.native_group_norm(x, weight, bias, n, channels, height * width, channels, eps)
        ctx.save_for_backward(x, weight, mean, scale)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale = ctx.saved_tensors

        def wide(each: Tensor) -> Tensor:
            return each.to(x.dtype)[:, :, None, None]  # (n, channels) to (n, channels, 1, 1)

        unit = (x * wide(scale)).add_(wide(-mean * scale))  # the picture less its mean, over its deviation
        along = (gradient * unit).sum((2, 3)).float()  # (n, channels); summed in float whatever comes in
        total = gradient.sum((2, 3)).float()
        places = x[0, 0].numel()
        by = weight * scale
        to_x = unit.mul_(wide(-by * along / places)).add_(wide(-by * total / places)).addcmul_(gradient, wide(by))
        return to_x, along.sum(0), total.sum(0), None


class ConvLayer(nn.Module):
    """Convolution, norm (or a bias in its place) and, unless it is linear, ReLU."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        size: int,
        *,
        stride: int = 1,
        linear: bool = False,
        norm: Literal["batch", "instance"] | None = "batch",
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, size, stride=stride, padding=size // 2, bias=norm is None)
        self.bn = _norm(channels_out, norm)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x if self.linear else F.relu(x, inplace=True)


class LightConv3x3(nn.Module):
    """The paper's Lite 3x3: a linear 1x1 convolution, then a depthwise 3x3 one."""

    def __init__(self, channels: int, *, norm: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=not norm)
        self.bn = _norm(channels, "batch" if norm else None)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv2(self.conv1(x))), inplace=True)


class ChannelGate(nn.Module):
    """The unified aggregation gate: a weight in 0..1 for each channel, from the pooled input; shared by all streams."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))  # (n, channels, 1, 1)
        return x * weight


class GroupGate(nn.Module):
    """A gate without layers: the pooled input, normalised in groups of channels, scaled, shifted, through a sigmoid."""

    def __init__(self, channels: int, groups: int = 16) -> None:
        super().__init__()
        shared = math.gcd(groups, channels)
        self.norm = nn.GroupNorm(
            shared if shared < channels else shared // 2, channels
        )  # one channel alone is always 0

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.norm(x.mean((2, 3), keepdim=True)))


class LearnedPool(nn.Module):
    """A weight for each channel and place, summed over the picture: (n, channels, h, w) to (n, channels).

    At another size than its own the weights are averaged or repeated, their sum kept. It begins as the average.
    """

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, *size), 1 / (size[0] * size[1])))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight  # (channels, *own size)
        size = (x.shape[2], x.shape[3])
        if size != tuple(weight.shape[1:]):
            scale = weight[0].numel() / (size[0] * size[1])
            weight = F.interpolate(weight[None], size, mode="area")[0] * scale
        return (x * weight).sum((2, 3)) + self.bias


class OSBlock(nn.Module):
    """The omni-scale residual block: streams of one to four Lite 3x3 layers, fused by one gate."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        norm: bool = True,
        group_gate: bool = False,
        instance: Literal["none", "after", "inside"] = "none",
    ) -> None:
        super().__init__()
        mid = channels_out // 4
        kind: Literal["batch"] | None = "batch" if norm else None

        def stream(layers: int) -> list[nn.Module]:
            return [LightConv3x3(mid, norm=norm) for _ in range(layers)]

        self.conv1 = ConvLayer(channels_in, mid, 1, norm=kind)
        self.conv2a = stream(1)[0]
        self.conv2b = nn.Sequential(*stream(2))
        self.conv2c = nn.Sequential(*stream(3))
        self.conv2d = nn.Sequential(*stream(4))
        self.gate = GroupGate(mid) if group_gate else ChannelGate(mid)
        self.conv3 = ConvLayer(mid, channels_out, 1, linear=True, norm="instance" if instance == "inside" else kind)
        self.downsample = (
            ConvLayer(channels_in, channels_out, 1, linear=True, norm=kind) if channels_in != channels_out else None
        )
        self.IN = InstanceNorm(channels_out) if instance == "after" else None

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.conv1(x)
        streams = [self.gate(stream(x)) for stream in (self.conv2a, self.conv2b, self.conv2c, self.conv2d)]
        x = self.conv3(streams[0] + streams[1] + streams[2] + streams[3]) + identity
        return F.relu(x if self.IN is None else self.IN(x), inplace=True)


class OSNet(nn.Module):
    """Person pictures to features; `embed` gives the unit vectors that the rest of passerby works with.

    `architecture` is a kind and a width, such as "osnet_x0_75" or "osnet_ain_x0_25". The parts carry torchreid's names,
    so that its published state dicts load (`load_body`). Its last ReLU is left out: `fc.0` gives the feature before the
    neck (the triplet loss sees it), `fc.1` is the BNNeck (ArcFace and inference see what it returns).
    """

    def __init__(self, architecture: str = "osnet_x0_75", *, embedding_length: int = EMBEDDING_LENGTH) -> None:
        super().__init__()
        kind_name, _, width = architecture.rpartition("_x")
        if kind_name not in KINDS or f"osnet_x{width}" not in WIDTHS:
            raise ModelError(
                f"architecture: expected one of {', '.join(KINDS)} and a width of {', '.join(WIDTHS)}, "
                f"got {architecture!r}; osnet_ain_x0_25 is an example"
            )
        kind, (stem, *stages) = KINDS[kind_name], WIDTHS[f"osnet_x{width}"]
        self.architecture = architecture
        self.input_norm = InstanceNorm(3) if kind.input_norm else None
        self.conv1 = ConvLayer(3, stem, 7, stride=2, norm=kind.stem)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = _stage(kind, stem, stages[0], number=0)
        self.conv3 = _stage(kind, stages[0], stages[1], number=1)
        self.conv4 = _stage(kind, stages[1], stages[2], number=2)
        self.conv5 = ConvLayer(stages[2], stages[2], 1, norm="batch" if kind.norms else None)
        self.pool = LearnedPool(stages[2], kind.pool) if kind.pool else None
        self.fc = nn.Sequential(nn.Linear(stages[2], embedding_length), nn.BatchNorm1d(embedding_length))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of a batch before and after the neck.

        `x` is (n, 3, height, width), RGB, normalised. Returns two (n, 512) tensors, neither of unit length.
        """
        before = self.before(x)
        return before, self.fc[1](before)

    def before(self, x: Tensor) -> Tensor:
        """Features (n, 512) of a batch before the neck."""
        # the first convolution and its own norm can do all that this norm's scale could learn: no gradient, a tenth saved
        x = x if self.input_norm is None else self.input_norm(x).detach()
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.conv4(self.conv3(self.conv2(x))))
        before: Tensor = self.fc[0](x.mean((2, 3)) if self.pool is None else self.pool(x))
        return before

    def embed(self, x: Tensor) -> Tensor:
        """Unit-length embeddings (n, 512) of a normalised batch (n, 3, height, width)."""
        return F.normalize(self(x)[1])


def load_body(model: OSNet, state: Mapping[str, Tensor]) -> list[str]:
    """Load a torchreid-style state dict by name; the classifier and `module.` prefixes are left out.

    Returns the names that were left at their initial values. Raises ModelError where a name is unknown or a shape
    differs, so that a file of another width cannot pass for this one.
    """
    own = model.state_dict()
    found = OrderedDict(
        (name.removeprefix("module."), value)
        for name, value in state.items()
        if not name.removeprefix("module.").startswith("classifier.")
    )
    unknown = sorted(set(found) - set(own))
    if unknown:
        raise ModelError(
            f"state dict: {len(unknown)} names that {model.architecture} does not have, {unknown[0]!r} the first"
        )
    for name, value in found.items():
        if value.shape != own[name].shape:
            raise ModelError(
                f"state dict: {name}: expected {tuple(own[name].shape)} for {model.architecture}, got {tuple(value.shape)}; "
                "was it made with another width?"
            )
    model.load_state_dict(found, strict=False)
    return sorted(set(own) - set(found))


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters; running statistics are not counted."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: OSNet, *, height: int = 256, width: int = 128) -> int:
    """Multiply-accumulates of one picture in convolutions and linear layers, biases and norms not counted."""
    total = 0

    def conv(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, Tensor)
        positions = output[0, 0].numel() if output.ndim == 4 else 1
        total += positions * weight.numel()

    hooks = [m.register_forward_hook(conv) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, height, width))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return total


def _stage(kind: Kind, channels_in: int, channels_out: int, *, number: int) -> nn.Sequential:
    """Stage 0, 1 or 2: two blocks and, but for the last, a transition to half the size."""
    # TPAMI 2021: IBN follows both blocks of the first stage; AIN, found by search, is inside these four blocks.
    inside = {(0, 0), (0, 1), (1, 1), (2, 0)}
    blocks: list[nn.Module] = []
    for i in range(2):
        instance: Literal["none", "after", "inside"] = "none"
        if kind.blocks == "ibn" and number == 0:
            instance = "after"
        elif kind.blocks == "ain" and (number, i) in inside:
            instance = "inside"
        blocks.append(
            OSBlock(
                channels_in if i == 0 else channels_out,
                channels_out,
                norm=kind.norms,
                group_gate=kind.group_gates and i == 1,
                instance=instance,
            )
        )
    if number < 2:
        transition = ConvLayer(channels_out, channels_out, 1, norm="batch" if kind.norms else None)
        blocks.append(nn.Sequential(transition, nn.AvgPool2d(2, stride=2)))
    return nn.Sequential(*blocks)


def _norm(channels: int, norm: Literal["batch", "instance"] | None) -> nn.Module:
    if norm is None:
        return nn.Identity()
    return nn.BatchNorm2d(channels) if norm == "batch" else InstanceNorm(channels)
