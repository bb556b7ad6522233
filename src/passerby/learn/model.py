"""OSNet as a torch module: the body, the neck, and nothing about data, losses or files.

Follows Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019, with the BNNeck of Luo et
al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPRW 2019, in place of the last ReLU.
"""

from collections import OrderedDict
from collections.abc import Mapping

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


class ConvLayer(nn.Module):
    """Convolution, batch norm and, unless it is linear, ReLU."""

    def __init__(
        self, channels_in: int, channels_out: int, size: int, *, stride: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, size, stride=stride, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x if self.linear else F.relu(x, inplace=True)


class LightConv3x3(nn.Module):
    """The paper's Lite 3x3: a linear 1x1 convolution, then a depthwise 3x3 one."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, groups=channels_out, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)

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


class OSBlock(nn.Module):
    """The omni-scale residual block: streams of one to four Lite 3x3 layers, fused by one gate."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        mid = channels_out // 4
        self.conv1 = ConvLayer(channels_in, mid, 1)
        self.conv2a = LightConv3x3(mid, mid)
        self.conv2b = nn.Sequential(*[LightConv3x3(mid, mid) for _ in range(2)])
        self.conv2c = nn.Sequential(*[LightConv3x3(mid, mid) for _ in range(3)])
        self.conv2d = nn.Sequential(*[LightConv3x3(mid, mid) for _ in range(4)])
        self.gate = ChannelGate(mid)
        self.conv3 = ConvLayer(mid, channels_out, 1, linear=True)
        self.downsample = ConvLayer(channels_in, channels_out, 1, linear=True) if channels_in != channels_out else None

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.conv1(x)
        streams = [self.gate(stream(x)) for stream in (self.conv2a, self.conv2b, self.conv2c, self.conv2d)]
        return F.relu(self.conv3(torch.stack(streams).sum(0)) + identity, inplace=True)


class OSNet(nn.Module):
    """Person pictures to features; `embed` gives the unit vectors that the rest of passerby works with.

    The parts carry torchreid's names, so that its published state dicts load (`load_body`). Its last ReLU is left out:
    `fc.0` gives the feature before the neck (the triplet loss sees it), `fc.1` is the BNNeck (ArcFace and inference see
    what it returns).
    """

    def __init__(self, width: str = "osnet_x0_75", *, embedding_length: int = EMBEDDING_LENGTH) -> None:
        super().__init__()
        if width not in WIDTHS:
            raise ModelError(f"model: expected one of {', '.join(WIDTHS)}, got {width!r}")
        stem, *stages = WIDTHS[width]
        self.width = width
        self.conv1 = ConvLayer(3, stem, 7, stride=2)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = _stage(stem, stages[0], shrink=True)
        self.conv3 = _stage(stages[0], stages[1], shrink=True)
        self.conv4 = _stage(stages[1], stages[2], shrink=False)
        self.conv5 = ConvLayer(stages[2], stages[2], 1)
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
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.conv4(self.conv3(self.conv2(x))))
        before = self.fc[0](x.mean((2, 3)))
        return before, self.fc[1](before)

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
        raise ModelError(f"state dict: {len(unknown)} names that {model.width} does not have, {unknown[0]!r} the first")
    for name, value in found.items():
        if value.shape != own[name].shape:
            raise ModelError(
                f"state dict: {name}: expected {tuple(own[name].shape)} for {model.width}, got {tuple(value.shape)}; "
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


def _stage(channels_in: int, channels_out: int, *, shrink: bool) -> nn.Sequential:
    blocks: list[nn.Module] = [OSBlock(channels_in, channels_out), OSBlock(channels_out, channels_out)]
    if shrink:
        blocks.append(nn.Sequential(ConvLayer(channels_out, channels_out, 1), nn.AvgPool2d(2, stride=2)))
    return nn.Sequential(*blocks)
