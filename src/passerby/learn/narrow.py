"""A trained network as the start of a narrower one: layer after layer, the channels that say most, fitted to do its work."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.learn.model import ChannelGate, ConvLayer, GroupGate, LearnedPool, LightConv3x3, OSBlock, OSNet
from passerby.types import ModelError

BODY = 96  # pictures that the body is fitted on; the last layer is fitted on all
PLACES = 8192  # places of those pictures that channels are chosen by
RIDGE = 1e-4  # of the mean square of what a layer is given


def narrow(wide: OSNet, small: OSNet, pictures: Tensor) -> None:
    """Fill `small` so that it does, as well as it can, what `wide` does: two widths of one kind without batch norm.

    `pictures` are (n, 3, height, width), RGB, normalised: some thousands, since the last layer is fitted on all of them.
    A layer keeps the channels from which the others can best be told (QR with pivoting). Its weights are least squares
    from what `small` makes so far to what `wide` makes there before its ReLU. After He et al., "Channel Pruning for
    Accelerating Very Deep Neural Networks", and Luo et al., "ThiNet", both ICCV 2017. Raises ModelError where the two are
    not of one kind, or have batch norm in the body.
    """
    kind, other = (model.architecture.rpartition("_x")[0] for model in (wide, small))
    if kind != other or not isinstance(wide.conv5.bn, nn.Identity):
        raise ModelError(
            f"{wide.architecture} cannot begin {small.architecture}: expected two widths of one kind without batch norm"
        )
    wide.eval()
    small.eval()
    with torch.inference_mode():
        _fit_body(wide, small, pictures[:: max(1, len(pictures) // BODY)][:BODY])
        pooled, wanted = zip(*((_pooled(small, x), wide.before(x)) for x in torch.split(pictures, 32)), strict=True)
        last = small.fc[0]
        assert isinstance(last, nn.Linear)
        weight, bias = _least_squares(torch.cat(pooled), torch.cat(wanted))
        last.weight.copy_(weight)
        last.bias.copy_(bias)
        small.fc[1].load_state_dict(wide.fc[1].state_dict())


def _fit_body(wide: OSNet, small: OSNet, x: Tensor) -> None:
    if wide.input_norm is not None and small.input_norm is not None:
        small.input_norm.load_state_dict(wide.input_norm.state_dict())
        x = wide.input_norm(x)
    theirs = wide.maxpool(wide.conv1(x))
    _slice(wide.conv1, small.conv1, _telling(small.conv1.conv.out_channels, theirs))
    ours = small.maxpool(small.conv1(x))
    for name in ("conv2", "conv3", "conv4"):
        parts, narrow_parts = getattr(wide, name), getattr(small, name)
        first = parts[0](theirs)
        kept = _telling(narrow_parts[0].conv3.conv.out_channels, first, parts[1](first))
        for part, narrow_part in zip(parts, narrow_parts, strict=True):
            if isinstance(part, OSBlock):
                theirs, ours = _fit_block(part, narrow_part, theirs, ours, kept)
            else:
                theirs, ours, _ = _fit_layer(part[0], narrow_part[0], theirs, ours)
                theirs, ours = part[1](theirs), narrow_part[1](ours)
    _, _, kept = _fit_layer(wide.conv5, small.conv5, theirs, ours)
    if isinstance(wide.pool, LearnedPool) and isinstance(small.pool, LearnedPool):
        _slice(wide.pool, small.pool, kept)


def _fit_block(wide: OSBlock, small: OSBlock, theirs: Tensor, ours: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a block whose output keeps the channels `kept`; what both make of what they are given."""
    wanted = wide(theirs)
    inside, own, _ = _fit_layer(wide.conv1, small.conv1, theirs, ours)
    streams = [(_layers(w), _layers(s)) for w, s in zip(_streams(wide), _streams(small), strict=True)]
    ends = [stream(inside) for stream in _streams(wide)]
    fused = sum(wide.gate(end) for end in ends)
    assert isinstance(fused, Tensor)
    common = _telling(small.conv3.conv.in_channels, fused)
    own_ends = []
    for layers, narrow_layers in streams:
        x, y = inside, own
        for i, (layer, narrow_layer) in enumerate(zip(layers, narrow_layers, strict=True)):
            x, y = _fit_light(layer, narrow_layer, x, y, common if i == len(layers) - 1 else None)
        own_ends.append(y)
    _fit_gate(wide.gate, small.gate, torch.cat(ends), torch.cat(own_ends), common)
    own_fused = sum(small.gate(end) for end in own_ends)
    assert isinstance(own_fused, Tensor)
    identity = theirs if wide.downsample is None else wide.downsample(theirs)
    before_relu = (wide.conv3(fused) + identity)[:, kept]
    if small.downsample is None:
        weight, bias = _least_squares(_rows(own_fused), _rows(before_relu - ours))
    else:
        weight, bias = _least_squares(_rows(torch.cat((own_fused, ours), 1)), _rows(before_relu))
        weight, shortcut = torch.split(weight, [own_fused.shape[1], ours.shape[1]], 1)
        _set(small.downsample.conv, shortcut, torch.zeros_like(bias))
    _set(small.conv3.conv, weight, bias)
    return wanted, small(ours)


def _fit_layer(wide: ConvLayer, small: ConvLayer, theirs: Tensor, ours: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit a 1x1 convolution with its bias; what both make, and the channels kept."""
    made = wide(theirs)
    kept = _telling(small.conv.out_channels, made)
    _set(small.conv, *_least_squares(_rows(ours), _rows(wide.conv(theirs)[:, kept])))
    return made, small(ours), kept


def _fit_light(
    wide: LightConv3x3, small: LightConv3x3, theirs: Tensor, ours: Tensor, kept: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Fit a Lite 3x3: its 1x1 part to the same channels that its depthwise part keeps."""
    made = wide(theirs)
    kept = _telling(small.conv1.out_channels, made) if kept is None else kept
    between = wide.conv1(theirs)[:, kept]
    _set(small.conv1, _least_squares(_rows(ours), _rows(between), bias=False)[0], None)
    mine, wanted = small.conv1(ours), wide.conv2(wide.conv1(theirs))[:, kept]
    for channel in range(mine.shape[1]):
        patches = F.unfold(mine[:, channel : channel + 1], 3, padding=1).transpose(1, 2).flatten(0, 1)  # (places, 9)
        weight, bias = _least_squares(patches, wanted[:, channel].reshape(-1, 1))
        small.conv2.weight[channel] = weight.view(1, 3, 3)
        assert small.conv2.bias is not None
        small.conv2.bias[channel] = bias[0]
    return made, small(ours)


def _fit_gate(wide: nn.Module, small: nn.Module, theirs: Tensor, ours: Tensor, kept: Tensor) -> None:
    """Fit a gate to the other's values before its sigmoid."""
    theirs, ours = theirs.mean((2, 3), keepdim=True), ours.mean((2, 3), keepdim=True)
    if isinstance(wide, ChannelGate) and isinstance(small, ChannelGate):
        hidden = wide.fc1(theirs)
        few = _telling(small.fc1.out_channels, F.relu(hidden))
        _set(small.fc1, *_least_squares(_rows(ours), _rows(hidden[:, few])))
        _set(small.fc2, *_least_squares(_rows(F.relu(small.fc1(ours))), _rows(wide.fc2(F.relu(hidden))[:, kept])))
    elif isinstance(wide, GroupGate) and isinstance(small, GroupGate):
        wanted = _rows(wide.norm(theirs)[:, kept])
        small.norm.weight.fill_(1)
        small.norm.bias.zero_()
        plain = _rows(small.norm(ours))
        for channel in range(plain.shape[1]):
            scale, shift = _least_squares(plain[:, channel : channel + 1], wanted[:, channel : channel + 1])
            small.norm.weight[channel], small.norm.bias[channel] = scale[0, 0], shift[0]


def _telling(count: int, *features: Tensor) -> Tensor:
    """The `count` channels of (n, channels, height, width) from which the others can best be told, in order."""
    rows = torch.cat([_rows(x) for x in features])
    left = rows[:: max(1, len(rows) // PLACES)].double()
    left = left - left.mean(0)
    chosen: list[int] = []
    for _ in range(count):  # Gram-Schmidt: what of each channel the chosen ones cannot tell
        energy = left.square().sum(0)
        energy[chosen] = -1
        chosen.append(int(energy.argmax()))
        direction = F.normalize(left[:, chosen[-1]], dim=0)
        left = left - torch.outer(direction, direction @ left)
    return torch.tensor(sorted(chosen))


def _least_squares(given: Tensor, wanted: Tensor, *, bias: bool = True) -> tuple[Tensor, Tensor]:
    """Weight (outputs, inputs) and bias (outputs,) that turn `given` (n, inputs) into `wanted` (n, outputs), ridged."""
    middle = given.mean(0) if bias else torch.zeros(given.shape[1])
    level = wanted.mean(0) if bias else torch.zeros(wanted.shape[1])
    x, y = (given - middle).double(), (wanted - level).double()
    square = x.T @ x
    square += RIDGE * square.diagonal().mean().clamp_min(1e-12) * torch.eye(len(square))
    weight = torch.linalg.solve(square, x.T @ y).T.float()
    return weight, level - weight @ middle


def _rows(x: Tensor) -> Tensor:
    """(n, channels, height, width) as (places, channels)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _set(layer: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
    layer.weight.copy_(weight[:, :, None, None])
    if layer.bias is not None and bias is not None:
        layer.bias.copy_(bias)


def _slice(wide: nn.Module, small: nn.Module, kept: Tensor) -> None:
    """The same layer, of which some output channels are kept."""
    small.load_state_dict({name: value[kept] for name, value in wide.state_dict().items()})


def _streams(block: OSBlock) -> tuple[nn.Module, ...]:
    return block.conv2a, block.conv2b, block.conv2c, block.conv2d


def _layers(stream: nn.Module) -> list[LightConv3x3]:
    return [module for module in stream.modules() if isinstance(module, LightConv3x3)]


def _pooled(model: OSNet, x: Tensor) -> Tensor:
    """What the last layer is given, (n, channels)."""
    seen: list[Tensor] = []
    hook = model.fc[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.before(x)
    hook.remove()
    return seen[0]
