"""Trained weights become a model folder: ONNX with the normalisation inside, verified, an int8 file, and the card."""

import copy
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from passerby.files import whole
from passerby.learn.loader import IMAGENET_MEAN, IMAGENET_STD
from passerby.learn.model import EMBEDDING_LENGTH, OSNet
from passerby.learn.recipe import folder_of
from passerby.learn.start import read_folder
from passerby.reid.assess import embed_dataset, fit_all, fitted_on, labelled
from passerby.reid.calibration import Calibration
from passerby.reid.card import CardData, CardFile, CardInput, ModelCard, read_card, write_card
from passerby.reid.card import commercial_use as commercial_use_of
from passerby.reid.embedder import Embedder
from passerby.reid.engine import file_sha256, open_engine
from passerby.reid.evaluate import evaluate
from passerby.reid.pictures import quality, read_picture, stack
from passerby.types import Dataset, Float32, ModelError, UInt8

OPSET = 18
FAITHFUL_COSINE = 0.99999  # exported against torch, worst picture
FAITHFUL_INT8_COSINE = 0.99  # int8 against fp32, mean over pictures
WORTH_INT8_MAP = 0.005  # what int8 may lose on a dev set
WATTS = 10  # of a server's core with its share of memory and cooling, to reckon energy with
FP32_PARTS = [r"/model/(input_norm|conv1|pool|fc)/.*", r".*gate.*"]  # little work, and int8 hurts there
QUANTISE_ON = 300  # pictures from which activation ranges are read


class Deployed(nn.Module):
    """The network as it is exported: uint8 RGB (n, height, width, 3) in, unit vectors (n, 512) out."""

    def __init__(self, model: OSNet) -> None:
        super().__init__()
        self.model = model
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None] * 255)
        self.register_buffer("scale", 1 / (torch.tensor(IMAGENET_STD)[:, None, None] * 255))

    def forward(self, pictures: Tensor) -> Tensor:
        """Unit vectors of a batch."""
        x = (pictures.permute(0, 3, 1, 2).float() - self.mean) * self.scale
        return self.model.embed(x)


def load_weights(weights: Path, architecture: str) -> OSNet:
    """An OSNet in evaluation mode with the weights that training wrote; ModelError where they do not fit."""
    model = OSNet(architecture)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of a strange pickle before it refuses it
            state = torch.load(weights, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except FileNotFoundError:
        raise ModelError(f"{weights}: no such file; `passerby train` writes weights.pt into its run folder") from None
    except pickle.UnpicklingError as error:  # torch's own message advises to load it with its code
        raise ModelError(
            f"{weights}: not weights of {architecture}: damaged, or it holds more than numbers; files with code are not opened"
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError ... by the kind of damage
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{weights}: not weights of {architecture}: {reason}") from error
    return model.eval()


def blend(model: OSNet, start: Path, share: float) -> OSNet:
    """The network with `share`, 0..1, of the weights that it began with: often better with cameras it has not seen.

    `start` is a file of weights, or a model folder of the same architecture: another descendant of the same start will do.
    Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022. Meant for networks without batch norm in the body,
    whose statistics would have to be gathered anew.
    """
    if not 0 <= share <= 1:
        raise ModelError(f"blend: expected a share of 0..1, got {share}")
    folder = folder_of(start)
    begun = load_weights(start, model.architecture).state_dict() if folder is None else read_folder(folder)
    mixed = copy.deepcopy(model)
    with torch.no_grad():
        for name, value in mixed.state_dict().items():
            if value.is_floating_point():
                if name not in begun or begun[name].shape != value.shape:
                    raise ModelError(f"{start}: lacks {name} of {model.architecture}; is it another architecture?")
                value.lerp_(begun[name], share)
    return mixed


def export_onnx(model: OSNet, path: Path, *, height: int, width: int) -> float:
    """Write the network as ONNX and return the worst cosine between it and torch over drawn pictures.

    Raises ModelError where that is below 0.99999. Nothing is left at `path` then.
    """
    deployed = Deployed(model).eval()
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (3, height, width, 3), np.uint8)
    with torch.inference_mode():
        expected = deployed(torch.from_numpy(pictures)).numpy()
    with whole(path) as draft:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about its own internals
            torch.onnx.export(
                deployed,
                (torch.from_numpy(pictures),),
                str(draft),
                input_names=["pictures"],
                output_names=["embeddings"],
                dynamic_axes={"pictures": {0: "n"}, "embeddings": {0: "n"}},
                opset_version=OPSET,
                dynamo=False,
            )
        worst = float((open_engine(draft).run(pictures) * expected).sum(1).min())
        if not worst >= FAITHFUL_COSINE:  # also for NaN
            raise ModelError(f"{path}: the exported network differs from torch, cosine {worst:.6f} < {FAITHFUL_COSINE}")
    return worst


def quantise(fp32: Path, int8: Path, pictures: UInt8) -> float:
    """Write an int8 QDQ ONNX file calibrated on `pictures` (n, height, width, 3); return its mean cosine to fp32.

    Post-training, weights per channel; the first and the last layer and the gates stay fp32. Raises ModelError where the
    mean cosine over the pictures is below 0.99; nothing is left at `int8` then. What int8 costs in mAP is for the caller
    to measure, on dev people.
    """
    import onnx

    engine = open_engine(fp32)  # imports OpenVINO first, its telemetry off; nncf would bring it in with it on
    import nncf

    nncf.set_log_level("ERROR")
    model = onnx.load(str(fp32))
    name = model.graph.input[0].name
    data = nncf.Dataset([pictures[i : i + 1] for i in range(len(pictures))], lambda picture: {name: picture})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nncf's own deprecations
        quantised = nncf.quantize(
            model,
            data,
            subset_size=len(pictures),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(patterns=FP32_PARTS, validate=False),  # not every kind has all of them
        )
    with whole(int8) as draft:
        onnx.save(quantised, str(draft))
        cosine = mean_cosine(engine.run(pictures), open_engine(draft, precision="int8").run(pictures))
        if not cosine >= FAITHFUL_INT8_COSINE:  # also for NaN
            raise ModelError(
                f"{int8}: int8 differs from fp32, mean cosine {cosine:.4f} < {FAITHFUL_INT8_COSINE}; not written"
            )
    return cosine


def calibrate_bf16(model: OSNet, folder: Path, dev: Sequence[Dataset]) -> Calibration:
    """Fit bf16's calibration with an emulation in torch, for processors that have bf16 when this one does not.

    OpenVINO keeps weights and what passes between layers in bf16 and sums in fp32; so does `emulate_bf16`. The result
    goes into the folder's card.
    """
    emulated = Deployed(emulate_bf16(model)).eval()

    def vectors(pictures: UInt8) -> Float32:
        with torch.inference_mode():
            return np.asarray(emulated(torch.from_numpy(pictures)).numpy(), np.float32)

    card = read_card(folder)
    known = []
    for dataset in dev:
        people = labelled(dataset)
        size = {"height": card.input.height, "width": card.input.width}
        parts, rated = [], []
        for i in range(0, len(people), 64):
            crops = [read_picture(p.path) for p in people[i : i + 64]]
            parts.append(vectors(stack(crops, **size)))
            rated += [quality(crop) for crop in crops]
        known.append((np.concatenate(parts), np.array(rated, np.float32), people))
    calibration = fit_all(
        known,
        file_sha256=card.files["fp32"].sha256,
        precision="bf16",
        fitted_on=fitted_on(dev) + ", bf16 emulated",
    )
    write_card(folder, card.model_copy(update={"calibrations": {**card.calibrations, "bf16": calibration.to_dict()}}))
    return calibration


def emulate_bf16(model: OSNet) -> OSNet:
    """A copy whose weights, and whatever leaves a layer, are rounded to bf16."""
    rounded = copy.deepcopy(model).eval()

    def leave(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return output.bfloat16().float()

    for module in rounded.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data = module.weight.data.bfloat16().float()
        if isinstance(module, nn.Conv2d | nn.Linear | nn.modules.batchnorm._NormBase | nn.GroupNorm):
            module.register_forward_hook(leave)
    return rounded


def mean_cosine(a: Float32, b: Float32) -> float:
    """Mean cosine between the rows of two arrays (n, length)."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / norms).mean())


def export_folder(
    model: OSNet,
    folder: Path,
    *,
    name: str,
    height: int,
    width: int,
    trained_on: Sequence[CardData],
    origin: str,
    recipe: str | None,
    commercial_use: bool,
    int8_on: Sequence[Dataset] = (),
    networks: Sequence[CardData] = (),
    seed: int | None = None,
    processor_hours: float | None = None,
) -> ModelCard:
    """Write a model folder: model.onnx, model_int8.onnx where there are dev sets to make it with, and card.json.

    The int8 file is calibrated on 300 pictures of the dev sets and refused (ModelError) where its mean cosine to fp32 is
    below 0.99 or where it loses more than 0.5 points of mAP on one of them; the folder with the fp32 file alone stays. The
    card has no accuracy and no calibration yet; `passerby calibrate` and `passerby evaluate --card` add them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    int8 = folder / "model_int8.onnx"
    int8.unlink(missing_ok=True)  # of the weights that were here before
    export_onnx(model, folder / "model.onnx", height=height, width=width)
    card = ModelCard(
        name=name,
        architecture=model.architecture,
        embedding_length=EMBEDDING_LENGTH,
        input=CardInput(height=height, width=width, colour="rgb", range="0..255"),
        files={"fp32": CardFile(file="model.onnx", sha256=file_sha256(folder / "model.onnx"))},
        trained_on=list(trained_on),
        networks=list(networks),
        origin=origin,
        recipe=recipe,
        seed=seed,
        processor_hours=None if processor_hours is None else round(processor_hours, 1),
        energy_kwh=None if processor_hours is None else round(processor_hours * WATTS / 1000, 3),
        commercial_use=commercial_use_of(trained_on, allowed=commercial_use),
    )
    write_card(folder, card)
    if int8_on:
        pictures = [p for dataset in int8_on for p in dict.fromkeys((*dataset.query, *dataset.gallery))]
        chosen = np.random.default_rng(0).permutation(len(pictures))[:QUANTISE_ON]
        crops = stack([read_picture(pictures[i].path) for i in chosen.tolist()], height=height, width=width)
        quantise(folder / "model.onnx", int8, crops)
        for dataset in int8_on:
            fp32_map, int8_map = (_map(folder / f, dataset) for f in ("model.onnx", "model_int8.onnx"))
            if fp32_map - int8_map > WORTH_INT8_MAP:
                int8.unlink()
                raise ModelError(f"{int8}: loses {fp32_map - int8_map:.1%} of mAP on {dataset.name}; not written")
        files = {**card.files, "int8": CardFile(file=int8.name, sha256=file_sha256(int8))}
        card = card.model_copy(update={"files": files})
        write_card(folder, card)
    return card


def _map(file: Path, dataset: Dataset) -> float:
    return evaluate(dataset, *embed_dataset(Embedder(file), dataset), bootstrap=0).map.value
