"""A published network, or a model folder, as the start of ours: its weights read straight from the file."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.learn.model import WIDTHS, ChannelGate, GroupGate, LearnedPool, LightConv3x3, OSBlock, OSNet
from passerby.learn.recipe import folder_of, run_of
from passerby.reid.card import read_card
from passerby.types import Float32, ModelError

TYPES: dict[str, Any] = {"f16": np.float16, "f32": np.float32}  # numpy's scalar types


def load_ir(model: OSNet, path: Path) -> None:
    """Fill an "osnet_gates" network from the OpenVINO IR (.xml beside its .bin) of person-reidentification-retail-02xx.

    The body becomes the file's own to rounding. The first rows of the fully connected layer become the file's, which has
    256 of them; the others stay zero-mean noise, too small to be heard, for training to fill. The neck passes everything
    on unchanged in evaluation once `settle_neck` has seen pictures. The file's last PReLU (slope 0.99) is left out.
    Raises ModelError where the file is not that network.
    """
    parts = read_parts(path)
    try:
        for wanted, module in _modules(model):
            kind, first, second = next(parts)
            if kind != wanted:
                raise ModelError(
                    f"{path}: expected a {wanted}, found a {kind}; is it person-reidentification-retail-02xx?"
                )
            _fill(module, first, second, where=path)
        kind, weight, bias = next(parts)
        if kind != "linear" or next(parts, None) is not None:
            raise ModelError(f"{path}: expected one fully connected layer at the end, found a {kind} and more")
    except StopIteration:
        raise ModelError(f"{path}: holds fewer layers than {model.architecture}") from None
    layer = model.fc[0]
    assert isinstance(layer, nn.Linear)
    rows = len(weight)
    if weight.shape[1] != layer.in_features or rows > layer.out_features or bias is None:
        raise ModelError(f"{path}: its last layer is {weight.shape}, ours {tuple(layer.weight.shape)}; another width?")
    with torch.no_grad():
        quiet = 0.1 * float(weight.std())
        layer.weight.normal_(std=quiet)
        layer.weight[:rows] = torch.from_numpy(weight)
        layer.bias.zero_()
        layer.bias[:rows] = torch.from_numpy(bias)


def read_folder(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a model folder by their names in `OSNet`, read back from its fp32 ONNX file.

    Raises ModelError where the network has batch norm in its body: the export folded it into the convolutions.
    """
    import onnx
    from onnx import numpy_helper

    card = read_card(folder)
    file = folder / card.files["fp32"].file
    stored = [(part.name, numpy_helper.to_array(part)) for part in onnx.load(str(file)).graph.initializer]
    found = {name.removeprefix("model."): value for name, value in stored}
    # a group norm's scale and shift are nameless there, reshaped, in the order of the network
    scales, shifts = ([value for name, value in stored if name.startswith(f"onnx::{kind}_")] for kind in ("Mul", "Add"))
    state = {}
    for name, own in OSNet(card.architecture).state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if name not in found and ".gate.norm." in name:
            found[name] = (scales if name.endswith("weight") else shifts).pop(0)
        if name not in found or found[name].size != own.numel():
            raise ModelError(
                f"{file}: {name} cannot be read back: the export folds batch norm away; begin with the run's weights.pt"
            )
        state[name] = torch.from_numpy(found[name].reshape(own.shape).copy())
    return state


def read_network(path: Path) -> tuple[OSNet, Callable[[Tensor], Tensor]]:
    """The network of a re-ID IR file (.xml), a model folder or a run's `weights.pt`, and what makes its unit vectors.

    The vectors of an IR file are its own 256 features; its last PReLU (slope 0.99) is left out. Raises ModelError where the
    path is none of these.
    """
    if path.suffix == ".xml":
        model = OSNet(f"osnet_gates_x{_width(path)}")
        load_ir(model, path)
        length = next(len(weight) for kind, weight, _ in read_parts(path) if kind == "linear")
        return model.eval(), lambda x: F.normalize(model.before(x)[:, :length])
    if folder := folder_of(path):
        model = OSNet(read_card(folder).architecture)
        model.load_state_dict(read_folder(folder), strict=False)  # without the counts of batches
    elif run := run_of(path):
        model = OSNet(run.architecture)
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    else:
        raise ModelError(f"{path}: expected an IR file (.xml), a model folder, or weights.pt in the folder of its run")
    return model.eval(), model.embed


def _width(path: Path) -> str:
    """The width of an IR file's network by its first convolution: "1_0"."""
    stem = next((len(weight) for kind, weight, _ in read_parts(path) if kind == "convolution"), 0)
    for name, widths in WIDTHS.items():
        if widths[0] == stem:
            return name.removeprefix("osnet_x")
    raise ModelError(f"{path}: its first layer has {stem} channels; is it person-reidentification-retail-02xx?")


def settle_neck(model: OSNet, features: torch.Tensor) -> None:
    """Give the neck the statistics of `features` (n, 512) before it, with weights that undo them: it changes nothing."""
    neck = model.fc[1]
    assert isinstance(neck, nn.BatchNorm1d)
    assert neck.running_mean is not None
    assert neck.running_var is not None
    with torch.no_grad():
        mean, variance = features.mean(0), features.var(0).clamp_min(1e-6)
        neck.running_mean.copy_(mean)
        neck.running_var.copy_(variance)
        neck.weight.copy_((variance + neck.eps).sqrt())
        neck.bias.copy_(mean)


def _modules(model: OSNet) -> Iterator[tuple[str, nn.Module]]:
    """The parts of our network in the order in which the file lists its operations."""
    if model.input_norm is None or not isinstance(model.pool, LearnedPool):
        raise ModelError(f"{model.architecture}: a start from an IR file needs the architecture osnet_gates_x...")
    yield "norm", model.input_norm
    yield "convolution", model.conv1.conv
    yield "norm", model.conv1.bn
    for stage in (model.conv2, model.conv3, model.conv4):
        for part in stage:
            if isinstance(part, nn.Sequential):  # the transition to the next stage
                yield "convolution", part[0].get_submodule("conv")
                continue
            assert isinstance(part, OSBlock)
            yield "convolution", part.conv1.conv
            for stream in (part.conv2a, part.conv2b, part.conv2c, part.conv2d):
                for layer in (m for m in stream.modules() if isinstance(m, LightConv3x3)):
                    yield "convolution", layer.conv1
                    yield "convolution", layer.conv2
                if isinstance(part.gate, GroupGate):
                    yield "norm", part.gate.norm
                else:
                    assert isinstance(part.gate, ChannelGate)
                    yield "convolution", part.gate.fc1
                    yield "convolution", part.gate.fc2
            yield "convolution", part.conv3.conv
            if part.downsample is not None:
                yield "convolution", part.downsample.conv
    yield "convolution", model.conv5.conv
    yield "convolution", model.pool


def _fill(module: nn.Module, first: Float32, second: Float32 | None, *, where: Path) -> None:
    weight, bias = module.weight, module.bias
    assert isinstance(weight, torch.Tensor)
    assert bias is None or isinstance(bias, torch.Tensor)
    if first.size != weight.numel() or (second is None) != (bias is None):
        raise ModelError(f"{where}: a layer of shape {first.shape} where ours is {tuple(weight.shape)}; another width?")
    with torch.no_grad():
        weight.copy_(torch.from_numpy(first.reshape(weight.shape)))
        if second is not None and bias is not None:
            bias.copy_(torch.from_numpy(second.reshape(bias.shape)))


def read_anchors(path: Path) -> list[tuple[tuple[float, float], ...]]:
    """(width, height) of the anchors of each PriorBoxClustered of an IR file, in pixels of its input."""
    try:
        root = ElementTree.parse(path).getroot()
        found = [layer.find("data") for layer in root.iterfind("layers/layer[@type='PriorBoxClustered']")]
        sides = [[data.attrib[side].split(",") for side in ("width", "height")] for data in found if data is not None]
        return [tuple((float(w), float(h)) for w, h in zip(*pair, strict=True)) for pair in sides]
    except (OSError, ElementTree.ParseError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: not an OpenVINO IR file with its .bin beside it: {error}") from error


def read_parts(path: Path) -> Iterator[tuple[str, Float32, Float32 | None]]:
    """(kind, weight, bias) of each convolution, norm and fully connected layer of an IR file, in its own order."""
    try:
        root = ElementTree.parse(path).getroot()
        raw = path.with_suffix(".bin").read_bytes()
        layers = {layer.attrib["id"]: layer for layer in root.iterfind("layers/layer")}
        sources: dict[str, dict[str, str]] = {}
        readers: dict[str, list[str]] = {}
        for edge in root.iterfind("edges/edge"):
            sources.setdefault(edge.attrib["to-layer"], {})[edge.attrib["to-port"]] = edge.attrib["from-layer"]
            readers.setdefault(edge.attrib["from-layer"], []).append(edge.attrib["to-layer"])
    except (OSError, ElementTree.ParseError, KeyError) as error:
        raise ModelError(f"{path}: not an OpenVINO IR file with its .bin beside it: {error}") from error

    def constant(layer: str) -> Float32 | None:
        """The numbers that a layer is given, straight or through a Convert; None where it is given none."""
        for source in sources.get(layer, {}).values():
            while layers[source].attrib["type"] == "Convert":
                source = next(iter(sources[source].values()))
            data = layers[source].find("data")
            if layers[source].attrib["type"] == "Const" and data is not None and data.attrib["element_type"] in TYPES:
                kind = np.dtype(TYPES[data.attrib["element_type"]])
                count, offset = int(data.attrib["size"]) // kind.itemsize, int(data.attrib["offset"])
                shape = [int(n) for n in data.attrib["shape"].split(",")] if data.attrib["shape"] else []
                return np.frombuffer(raw, kind, count, offset).reshape(shape).astype(np.float32)
        return None

    def follow(layer: str, *types: str) -> tuple[str, Float32] | None:
        """The next layer of one of these types, reshapes skipped, and the numbers that it is given."""
        for reader in readers.get(layer, []):
            if layers[reader].attrib["type"] == "Reshape":
                return follow(reader, *types)
            if layers[reader].attrib["type"] in types and (numbers := constant(reader)) is not None:
                return reader, numbers
        return None

    for identity, layer in layers.items():
        kind = layer.attrib["type"]
        if kind in ("Convolution", "GroupConvolution"):
            weight, shift = constant(identity), follow(identity, "Add")
            if weight is not None:
                yield "convolution", weight, shift[1] if shift else None
        elif kind == "MVN":
            scale = follow(identity, "Multiply")
            shift = follow(scale[0], "Add") if scale else None
            if scale and shift:
                yield "norm", scale[1], shift[1]
        elif kind == "MatMul":
            weight, shift = constant(identity), follow(identity, "Add")
            scale = follow(shift[0], "Multiply") if shift else None
            last = follow(scale[0], "Add") if scale else None
            if weight is not None and shift and scale and last:
                by = scale[1].reshape(-1)
                yield "linear", weight * by[:, None], shift[1].reshape(-1) * by + last[1].reshape(-1)
