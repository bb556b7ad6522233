"""Pictures to boxes around people: the Detector protocol, and network files of several kinds behind it; no tracks here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from passerby.reid.card import DetectorCard, find_model, read_detector_card
from passerby.reid.engine import InputFormat, Network, Port, Precision, file_sha256, network_ports, open_network
from passerby.reid.pictures import resize
from passerby.shop import Detections
from passerby.types import Float32, ModelError, PictureError, UInt8
from passerby.vision.catalogue import CATALOGUE, state, verify

LEAST_SCORE = 0.1  # below it, a box is noise even to a tracker's second look
OVERLAP = 0.6  # IoU from which two boxes of a network without its own suppression are one person
MOST = 300  # people in a picture
CANDIDATES = 1000  # boxes of a picture, the surest, that suppression looks at
PERSON = 0  # the class of people in COCO's order
NEGLIGIBLE = 0.01  # the score down to which detectors are measured
SIZES = ((384, 640), (416, 576))  # of our own, for 16:9 and 4:3
GREY = 114  # what YOLOX pads with
YOLOX_STRIDES = (8, 16, 32)

Sizes = tuple[tuple[int, int], ...]  # (height, width) of a network's input
Outputs = tuple[NDArray[Any], ...]  # of one picture, as the engine gives them
Found = tuple[Float32, Float32]  # boxes (n, 4) x0, y0, x1, y1 in fractions of the network's input, and scores (n,)


class Detector(Protocol):
    """Finds people in pictures."""

    def __call__(self, pictures: Sequence[UInt8]) -> list[Detections]:
        """The people in each of the uint8 RGB pictures (height, width, 3), whose sizes may differ."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """How files of one kind are fed and read.

    `picture` names the input for pictures, `sizes` (height, width) those that the network is run at, and each picture
    goes through the one whose shape is nearest its own. `padded` keeps a picture's aspect and pads it at the right and
    the bottom. `read` makes boxes and scores of a picture's outputs; it may leave out scores below the one it is given.
    """

    name: str
    picture: str
    sizes: Sizes
    input_format: InputFormat
    read: Callable[[Outputs, float], Found]
    padded: bool = False
    constants: dict[str, NDArray[Any]] | None = None


class NetworkDetector:
    """A detector that is a network file; `understood` says what the file was taken for."""

    def __init__(
        self, path: Path, kind: Kind, *, precision: Precision, threads: int | None, least_score: float
    ) -> None:
        self.path, self.least_score, self._kind = path, least_score, kind
        self._networks: dict[tuple[int, int], Network] = {}
        self._precision: Precision = precision
        self._threads = threads
        self._network(kind.sizes[0])  # so that a file that cannot be run is refused here

    @property
    def understood(self) -> str:
        """What the file was taken for, for a person."""
        sizes = " or ".join(f"{height}x{width}" for height, width in self._kind.sizes)
        return f"{self._kind.name}, pictures of {sizes}"

    def __call__(self, pictures: Sequence[UInt8]) -> list[Detections]:
        """The people in each of the uint8 RGB pictures (height, width, 3), whose sizes may differ."""
        for picture in pictures:
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
                raise PictureError(f"picture: expected (height, width, 3) uint8, got {picture.shape} {picture.dtype}")
        groups: dict[tuple[int, int], list[int]] = {}
        for i, picture in enumerate(pictures):
            groups.setdefault(_nearest(self._kind.sizes, picture.shape), []).append(i)
        found: dict[int, Detections] = {}
        for size, members in groups.items():
            batch = np.stack([_fitted(pictures[i], size, padded=self._kind.padded) for i in members])
            for i, outputs in zip(members, self._network(size).run(batch), strict=True):
                found[i] = self._detections(outputs, pictures[i].shape[:2], size)
        return [found[i] for i in range(len(pictures))]

    def _network(self, size: tuple[int, int]) -> Network:
        if size not in self._networks:
            self._networks[size] = open_network(
                self.path,
                picture=self._kind.picture,
                height=size[0],
                width=size[1],
                precision=self._precision,
                threads=self._threads,
                input_format=self._kind.input_format,
                constants=self._kind.constants,
            )
        return self._networks[size]

    def _detections(self, outputs: Outputs, shape: tuple[int, ...], size: tuple[int, int]) -> Detections:
        boxes, scores = self._kind.read(outputs, self.least_score)
        height, width = shape
        if self._kind.padded:
            scale = _scale(shape, size)
            by = np.array([size[1] / scale, size[0] / scale] * 2, np.float32)
        else:
            by = np.array([width, height] * 2, np.float32)
        boxes = np.clip(boxes * by, 0, np.array([width, height] * 2, np.float32)).astype(np.float32)
        kept = (scores >= self.least_score) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        order = np.flatnonzero(kept)[np.argsort(-scores[kept], kind="stable")][:MOST]
        return Detections(boxes[order], np.clip(scores[order], 0, 1).astype(np.float32))


def open_detector(
    model: str | Path = "person_detector",
    *,
    sizes: Sizes | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    least_score: float = LEAST_SCORE,
) -> NetworkDetector:
    """A detector from a folder with its card, a bundled or fetched one by its name alone, or from a network file.

    The kind of a file is told by its own inputs and outputs. Known are the project's own, SSD files of the Open Model Zoo,
    YOLOX, and DETR-type files (D-FINE, RT-DETR, DEIM). `sizes` (height, width) run a file whose input can be reshaped at
    other sizes than its own, each picture at the one nearest its aspect. Without a `precision` a folder is run in int8 where it
    has such a file, anything else in fp32. Raises ModelError for a file of no known kind.
    """
    fetched = [entry for entry in CATALOGUE if entry.name == str(model) and state(entry) != "absent"]
    path = verify(fetched[0]) if fetched else find_model(model)
    card = None
    if path.is_dir():
        card = read_detector_card(path)
        precision = precision or ("int8" if "int8" in card.files else "fp32")
        path = _file(path, card, precision)
    precision = precision or "fp32"
    inputs, outputs = network_ports(path)
    kinds = [kind for recognise in (_own, _ssd, _yolox, _detr) if (kind := recognise(inputs, outputs, sizes))]
    if len(kinds) != 1:
        raise ModelError(
            f"{path}: no detector of a known kind: takes {', '.join(map(str, inputs))}, gives {', '.join(map(str, outputs))}; "
            "expected one of ours (outputs boxes and logits), an SSD file of the Open Model Zoo (one output (1, 1, n, 7)), "
            "YOLOX (one output (1, anchors, 5 + classes)), or a DETR (outputs labels, boxes and scores)"
        )
    kind = kinds[0] if card is None else _carded(card, precision)
    return NetworkDetector(path, kind, precision=precision, threads=threads, least_score=least_score)


def suppressed(boxes: Float32, scores: Float32, *, overlap: float = OVERLAP) -> NDArray[np.int64]:
    """The rows of the boxes (n, 4) that no surer box covers with an IoU above `overlap`, the surest first."""
    left, kept = np.argsort(-scores, kind="stable")[:CANDIDATES], []
    while len(left):
        kept.append(left[0])
        left = left[1:][overlaps(boxes[left[:1]], boxes[left[1:]])[0] <= overlap]
    return np.array(kept, np.int64)


def overlaps(a: Float32, b: Float32) -> Float32:
    """IoU (len(a), len(b)) of boxes x0, y0, x1, y1."""
    shared = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])  # (a, b, 2)
    inside = np.prod(np.clip(shared, 0, None), axis=2)
    area_a, area_b = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b))
    return np.asarray(inside / np.maximum(area_a[:, None] + area_b[None, :] - inside, 1e-9), np.float32)


def _nearest(sizes: Sizes, shape: tuple[int, ...]) -> tuple[int, int]:
    """The size whose aspect is nearest that of a picture."""
    return min(sizes, key=lambda size: abs(np.log(size[1] / size[0] * shape[0] / shape[1])))


def _scale(shape: tuple[int, ...], size: tuple[int, int]) -> float:
    return min(size[0] / shape[0], size[1] / shape[1])


def _fitted(picture: UInt8, size: tuple[int, int], *, padded: bool) -> UInt8:
    if not padded:
        return resize(picture, height=size[0], width=size[1])
    scale = _scale(picture.shape, size)
    height, width = (max(1, int(side * scale)) for side in picture.shape[:2])
    canvas = np.full((*size, 3), GREY, np.uint8)
    canvas[:height, :width] = resize(picture, height=height, width=width)
    return canvas


def _file(folder: Path, card: DetectorCard, precision: Precision) -> Path:
    """The file of a detector's folder for a precision, as its card describes it."""
    entry = card.files.get("int8" if precision == "int8" else "fp32")
    if entry is None or precision not in card.scores:
        raise ModelError(f"{folder}: has no calibrated scores in {precision}, only in {', '.join(sorted(card.scores))}")
    file = folder / entry.file
    if file_sha256(file) != entry.sha256:
        raise ModelError(
            f"{file}: is not the file that card.json describes: its SHA-256 differs; install the model anew"
        )
    return file


def _carded(card: DetectorCard, precision: Precision) -> Kind:
    scores = card.scores[precision]
    sizes = tuple((height, width) for height, width in card.sizes)
    return _ours(card.name, sizes, overlap=card.overlap, slope=scores.slope, shift=scores.shift)


def _own(inputs: tuple[Port, ...], outputs: tuple[Port, ...], sizes: Sizes | None) -> Kind | None:
    """A file of `passerby train-detector` without its card, its scores as they come."""
    if [port.name for port in inputs] != ["pictures"] or [port.name for port in outputs] != ["boxes", "logits"]:
        return None
    return _ours("passerby's own", sizes or SIZES, overlap=OVERLAP, slope=1.0, shift=0.0)


def _ours(name: str, sizes: Sizes, *, overlap: float, slope: float, shift: float) -> Kind:
    """Ours: uint8 RGB, resized; boxes in fractions and a logit for each anchor."""

    def read(found: Outputs, least: float) -> Found:
        boxes, scores = found[0][0], 1 / (1 + np.exp(-(slope * found[1][0] + shift)))
        near = np.flatnonzero(scores >= least)
        kept = near[suppressed(boxes[near], scores[near], overlap=overlap)]
        return boxes[kept], scores[kept]

    return Kind(name, "pictures", sizes, InputFormat(), read)


def _ssd(inputs: tuple[Port, ...], outputs: tuple[Port, ...], sizes: Sizes | None) -> Kind | None:
    """Open Model Zoo: BGR 0..255, resized; rows of picture, label, score, x0, y0, x1, y1, in fractions; label -1 ends them."""
    if len(inputs) != 1 or len(outputs) != 1 or len(outputs[0].shape) != 4 or outputs[0].shape[-1] != 7:
        return None
    size = _own_size(inputs[0])
    if size is None:
        return None

    def read(found: Outputs, least: float) -> Found:
        rows = found[0].reshape(-1, 7)
        rows = rows[rows[:, 0] >= 0]
        return rows[:, 3:7].astype(np.float32), rows[:, 2].astype(np.float32)

    return Kind("Open Model Zoo SSD", inputs[0].name, sizes or (size,), InputFormat("bgr", "0..255"), read)


def _yolox(inputs: tuple[Port, ...], outputs: tuple[Port, ...], sizes: Sizes | None) -> Kind | None:
    """YOLOX: BGR 0..255, padded; raw rows of centre, log size, objectness and classes on grids of three strides."""
    if len(inputs) != 1 or len(outputs) != 1 or len(outputs[0].shape) != 3:
        return None
    size = _own_size(inputs[0])
    if size is None or sizes not in (None, (size,)):
        return None
    height, width = size
    grids, steps = [], []
    for stride in YOLOX_STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride]
        grids.append(np.stack((x, y), -1).reshape(-1, 2))
        steps.append(np.full((grids[-1].shape[0], 1), stride))
    grid, step = np.concatenate(grids).astype(np.float32), np.concatenate(steps).astype(np.float32)
    _, anchors, numbers = outputs[0].shape
    if anchors != len(grid) or numbers is None or numbers < 6:
        return None

    def read(found: Outputs, least: float) -> Found:
        rows = found[0][0]
        scores = (rows[:, 4] * rows[:, 5 + PERSON]).astype(np.float32)
        near = np.flatnonzero(scores >= least)
        centres = (rows[near, :2] + grid[near]) * step[near]
        halves = np.exp(rows[near, 2:4]) * step[near] / 2
        boxes = np.concatenate((centres - halves, centres + halves), 1) / np.array([width, height] * 2)
        boxes = boxes.astype(np.float32)
        kept = suppressed(boxes, scores[near])
        return boxes[kept], scores[near][kept]

    return Kind("YOLOX", inputs[0].name, (size,), InputFormat("bgr", "0..255"), read, padded=True)


def _detr(inputs: tuple[Port, ...], outputs: tuple[Port, ...], sizes: Sizes | None) -> Kind | None:
    """D-FINE, RT-DETR, DEIM: RGB 0..1, resized, and the size that boxes are wanted in; labels, boxes and scores."""
    taken, given = {port.name: port for port in inputs}, [port.name for port in outputs]
    if set(taken) != {"images", "orig_target_sizes"} or set(given) != {"labels", "boxes", "scores"}:
        return None
    own = _own_size(taken["images"])
    if own is None or sizes not in (None, (own,)):
        return None

    def read(found: Outputs, least: float) -> Found:
        by_name = {name: values[0] for name, values in zip(given, found, strict=True)}
        people = by_name["labels"] == PERSON
        boxes = by_name["boxes"][people] / np.array([own[1], own[0]] * 2)
        return boxes.astype(np.float32), by_name["scores"][people].astype(np.float32)

    constants = {"orig_target_sizes": np.array([[own[1], own[0]]], np.int64)}
    return Kind("DETR", "images", (own,), InputFormat("rgb", "0..1"), read, constants=constants)


def _own_size(port: Port) -> tuple[int, int] | None:
    """(height, width) of an input of float planes that fixes them."""
    if len(port.shape) != 4 or port.shape[1] != 3 or port.shape[2] is None or port.shape[3] is None:
        return None
    return port.shape[2], port.shape[3]
