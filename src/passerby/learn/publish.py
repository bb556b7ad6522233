"""A trained detector becomes a model folder: ONNX verified against torch, an int8 file, its scores calibrated, its card."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from passerby.files import whole
from passerby.learn.detector_recipe import DetectorRecipe
from passerby.learn.export import OPSET, WATTS
from passerby.learn.recipe import OPEN_MODEL_ZOO
from passerby.learn.scenes import Labelled
from passerby.learn.ssd import PersonSSD, load_0201
from passerby.learn.train import read_state
from passerby.reid.card import CardData, CardFile, DetectorCard, DetectorScores, write_card
from passerby.reid.card import commercial_use as commercial_use_of
from passerby.reid.engine import Precision, file_sha256, open_network
from passerby.reid.pictures import read_picture, stack
from passerby.types import Float64, ModelError, UInt8

OVERLAP = 0.6  # IoU from which two boxes are one person
WORTH_INT8 = 0.02  # what int8 may lose of a figure on the recipe's `val`
QUANTISE_ON = 200  # pictures from which activation ranges are read
FP32_PARTS = [r".*/model/stem/.*", r".*/out/.*", r".*/context/.*"]  # little work, and int8 hurts there
NEWTON_STEPS = 30
FAITHFUL = 2e-3  # exported against torch: largest difference of a logit


class DeployedDetector(nn.Module):
    """The detector as it is exported: uint8 RGB (n, height, width, 3) in, boxes in fractions and logits out."""

    def __init__(self, model: PersonSSD) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (n, anchors, 4) x0, y0, x1, y1 in fractions of width and height, and logits (n, anchors)."""
        x = pictures.permute(0, 3, 1, 2).flip(1).float() * (1 / 255)
        logits, boxes, _ = self.model(x)
        height, width = pictures.shape[1], pictures.shape[2]
        by = torch.tensor([1.0, 1.0, 1.0, 1.0]) * torch.stack(
            [torch.as_tensor(1.0 / width), torch.as_tensor(1.0 / height)] * 2
        )
        return boxes * by, logits


def export_detector(model: PersonSSD, path: Path, sizes: tuple[tuple[int, int], ...]) -> float:
    """Write the network as ONNX for pictures of any size in multiples of 32; the largest difference of a logit to torch.

    Raises ModelError where that is above 0.002 at any of `sizes` (height, width). Nothing is left at `path` then.
    """
    deployed = DeployedDetector(model).eval()
    rng = np.random.default_rng(0)
    height, width = sizes[0]
    with whole(path) as draft:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about its own internals
            torch.onnx.export(
                deployed,
                (torch.zeros((1, height, width, 3), dtype=torch.uint8),),
                str(draft),
                input_names=["pictures"],
                output_names=["boxes", "logits"],
                dynamic_axes={
                    "pictures": {0: "n", 1: "height", 2: "width"},
                    "boxes": {0: "n", 1: "anchors"},
                    "logits": {0: "n", 1: "anchors"},
                },
                opset_version=OPSET,
                dynamo=False,
            )
        worst = 0.0
        for height, width in sizes:
            coarse = rng.integers(0, 256, (1, height // 16, width // 16, 3), np.uint8)
            picture = coarse.repeat(16, 1).repeat(16, 2)
            with torch.inference_mode():
                boxes, logits = (part.numpy() for part in deployed(torch.from_numpy(picture)))
            ((found_boxes, found),) = open_network(draft, picture="pictures", height=height, width=width).run(picture)
            worst = float(np.max([worst, np.abs(found - logits).max(), np.abs(found_boxes - boxes).max()]))  # or NaN
        if not worst <= FAITHFUL:  # also for NaN
            raise ModelError(f"{path}: the exported network differs from torch by {worst:.5f} > {FAITHFUL}")
    return worst


class Judged(NamedTuple):
    """A detector file on labelled pictures: each detection's score, whether it found somebody, and the figures by name."""

    scores: Float64
    hits: NDArray[np.bool_]
    figures: Mapping[str, float]


Judge = Callable[[Path, Precision], Judged]


def publish(
    weights: Path,
    folder: Path,
    recipe: DetectorRecipe,
    *,
    recipe_name: str,
    judge: Judge,
    pictures: Sequence[Labelled],
    trained_on: Sequence[CardData],
    processor_hours: float | None,
    commercial_use: bool = False,
) -> DetectorCard:
    """Write the model folder of trained weights: `model.onnx`, `model_int8.onnx` and `card.json`.

    `judge` runs a file on the recipe's `val` pictures, from which each precision's scores are calibrated; int8 reads its
    ranges from `pictures`. Raises ModelError where int8 loses more than two points of a figure.
    """
    model = PersonSSD()
    try:
        model.load_state_dict(read_state(weights, torch.device("cpu")))
    except RuntimeError as error:
        raise ModelError(f"{weights}: not weights of a detector: {' '.join(str(error).split())[:200]}") from error
    if recipe.blend:
        start = PersonSSD()
        load_0201(start, recipe.start)
        with torch.no_grad():
            for kept, begun in zip(model.parameters(), start.parameters(), strict=True):
                kept.lerp_(begun, recipe.blend)
    folder.mkdir(parents=True, exist_ok=True)
    fp32, int8 = folder / "model.onnx", folder / "model_int8.onnx"
    export_detector(model, fp32, recipe.sizes)
    quantise_detector(fp32, int8, _fitted(pictures, recipe.sizes[0], seed=recipe.seed))
    judged: dict[Literal["fp32", "int8"], Judged] = {"fp32": judge(fp32, "fp32"), "int8": judge(int8, "int8")}
    for name, figure in judged["fp32"].figures.items():
        if figure - judged["int8"].figures[name] > WORTH_INT8:
            raise ModelError(
                f"{int8}: loses {figure - judged['int8'].figures[name]:.1%} of {name}; more pictures for its ranges may help"
            )
    card = DetectorCard(
        name=recipe.name,
        architecture="mobilenet_v2_ssd",
        sizes=list(recipe.sizes),
        overlap=OVERLAP,
        files={
            "fp32": CardFile(file=fp32.name, sha256=file_sha256(fp32)),
            "int8": CardFile(file=int8.name, sha256=file_sha256(int8)),
        },
        scores={precision: fitted_scores(one.scores, one.hits) for precision, one in judged.items()},
        scores_fitted_on=", ".join(f"{source.folder.name} {source.split or ''}".strip() for source in recipe.val),
        trained_on=list(trained_on),
        networks=[CardData(name=file.stem, terms=OPEN_MODEL_ZOO) for file in _networks(recipe)],
        origin=f"fine-tuned from {recipe.start.stem}"
        + (f"; {1 - recipe.blend:g} of what was learnt and {recipe.blend:g} of the start" if recipe.blend else "")
        + (f"; labels completed by {', '.join(t.file.stem for t in recipe.teachers)}" if recipe.teachers else ""),
        recipe=recipe_name,
        seed=recipe.seed,
        processor_hours=None if processor_hours is None else round(processor_hours, 2),
        energy_kwh=None if processor_hours is None else round(processor_hours * WATTS / 1000, 3),
        commercial_use=commercial_use_of(trained_on, allowed=commercial_use),
    )
    write_card(folder, card)
    return card


def trained_on(recipe: DetectorRecipe, pictures: Sequence[Sequence[Labelled]]) -> list[CardData]:
    """What was trained on, with how many people had a box in the end, for the card."""
    found = []
    for source, part in zip(recipe.train, pictures, strict=True):
        people = sum(int((~picture.ignored).sum()) for picture in part)
        name = " ".join(word for word in (source.folder.name, source.split) if word)
        found.append(CardData(name=name, people=people, pictures=len(part), terms=source.terms))
    return found


def quantise_detector(fp32: Path, int8: Path, pictures: UInt8) -> None:
    """Write an int8 QDQ ONNX file whose ranges are read from `pictures` (n, height, width, 3).

    Post-training, weights per channel; the first layer and the last of each head stay fp32. What it costs is for the caller
    to measure.
    """
    import onnx

    open_network(
        fp32, picture="pictures", height=pictures.shape[1], width=pictures.shape[2]
    )  # OpenVINO's telemetry off first
    import nncf

    nncf.set_log_level("ERROR")
    data = nncf.Dataset([pictures[i : i + 1] for i in range(len(pictures))], lambda picture: {"pictures": picture})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nncf's own deprecations
        quantised = nncf.quantize(
            onnx.load(str(fp32)),
            data,
            subset_size=len(pictures),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(patterns=FP32_PARTS),
        )
    with whole(int8) as draft:
        onnx.save(quantised, str(draft))


def fitted_scores(scores: Float64, hits: NDArray[np.bool_]) -> DetectorScores:
    """The slope and shift of the logit that make a score the probability of a hit: Platt's, by Newton's method.

    Platt, "Probabilistic Outputs for Support Vector Machines", 1999, with his targets, which keep it finite.

    >>> rng = np.random.default_rng(0)
    >>> logit = rng.normal(0, 2, 20000)
    >>> fit = fitted_scores(1 / (1 + np.exp(-logit)), rng.random(20000) < 1 / (1 + np.exp(-(0.5 * logit + 1))))
    >>> round(fit.slope, 1), round(fit.shift, 1)
    (0.5, 1.0)
    """
    clipped = np.clip(scores.astype(np.float64), 1e-6, 1 - 1e-6)
    x = np.stack((np.log(clipped / (1 - clipped)), np.ones(len(clipped))), 1)  # (n, 2)
    found, missed = int(hits.sum()), int((~hits).sum())
    if not found or not missed:
        raise ModelError(
            f"scores: {found} detections found somebody, {missed} did not; both are needed to calibrate them"
        )
    wanted = np.where(hits, (found + 1) / (found + 2), 1 / (missed + 2))
    fit = np.array([1.0, 0.0])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(x @ fit)))
        spread = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        fit = fit - np.linalg.solve(spread, x.T @ (p - wanted))
    if not fit[0] > 0:
        raise ModelError(f"scores: a higher score is no surer here (slope {fit[0]:.2f}); is this detector trained?")
    return DetectorScores(slope=float(fit[0]), shift=float(fit[1]))


def _fitted(pictures: Sequence[Labelled], size: tuple[int, int], *, seed: int) -> UInt8:
    chosen = np.random.default_rng(seed).permutation(len(pictures))[:QUANTISE_ON]
    return stack([read_picture(pictures[i].path) for i in chosen.tolist()], height=size[0], width=size[1])


def _networks(recipe: DetectorRecipe) -> list[Path]:
    return list(dict.fromkeys((recipe.start, *(teacher.file for teacher in recipe.teachers))))
