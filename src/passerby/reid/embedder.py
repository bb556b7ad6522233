"""Pictures to unit vectors through a model folder or a network file; what vectors mean is not known here."""

import time
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from passerby.reid import engine as engines
from passerby.reid.card import ModelCard, find_model, read_card
from passerby.reid.engine import Engine, InputFormat, Precision, file_sha256, open_engine
from passerby.reid.pictures import PictureSource, PILImage, quality, read_picture, resize, stack
from passerby.types import Float32, ModelError, PictureError, UInt8

PREFERRED: tuple[Precision, ...] = ("bf16", "int8", "fp32")  # where a processor has bf16, int8 is hardly faster
BATCH = 64  # pictures held at the network's size at a time when files are embedded


class Embedder:
    """A network, opened: `embed` turns pictures into (n, length) float32 vectors of unit length.

    `model` is the name of a bundled model ("osnet_x0_75"), a model folder with card.json, an .onnx file, or an OpenVINO
    .xml. A file without a card is described by `input_format` (Open Model Zoo's BGR, 0..255 by default). `precision`
    "auto" is bf16 where the processor has it, else int8, else fp32: the first that the card has a calibration for, so that
    one machine always gives the same answer. An embedder may be pickled, and goes on after a fork: it is opened anew there.

    >>> Embedder().embed_arrays(np.zeros((2, 256, 128, 3), np.uint8)).shape
    (2, 512)
    """

    def __init__(
        self,
        model: str | Path = "osnet_x0_75",
        *,
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16", "int8"] = "auto",
        threads: int | None = None,
        input_format: InputFormat | None = None,
    ) -> None:
        path = find_model(model)
        self.card = read_card(path) if path.is_dir() else None
        if device not in ("auto", "cpu", "cuda"):
            raise ModelError(f"device: expected 'auto', 'cpu' or 'cuda', got {device!r}")
        device = "cpu" if device == "auto" else device
        if precision not in ("auto", "fp32", "bf16", "int8"):
            raise ModelError(f"precision: expected auto, fp32, bf16 or int8, got {precision!r}")
        if self.card is not None:
            if input_format is not None:
                raise ModelError(f"{path}: its card says what input it takes; leave input_format out")
            input_format = InputFormat(colour=self.card.input.colour, range=self.card.input.range)
        self.precision: Precision = preferred_precision(self.card, device=device) if precision == "auto" else precision
        if self.precision == "bf16" and (device == "cuda" or "bf16" not in engines.cpu_precisions()):
            here = 'device "cuda"' if device == "cuda" else "this processor"
            raise ModelError(f'{path}: {here} does not run bf16, figures would be those of fp32; use precision="fp32"')
        self.file = network_file(path, self.card, self.precision)
        self.file_sha256 = file_sha256(self.file)
        if self.card is not None:
            entry = self.card.files["int8" if self.precision == "int8" else "fp32"]
            if entry.sha256 != self.file_sha256:
                raise ModelError(
                    f"{self.file}: expected SHA-256 {entry.sha256[:12]}… as in card.json, got {self.file_sha256[:12]}…; "
                    "the file was changed or damaged: restore it, or export and calibrate again"
                )
        self._engine: Engine = open_engine(
            self.file, device=device, precision=self.precision, threads=threads, input_format=input_format
        )
        if self.card is not None and self._engine.length != self.card.embedding_length:
            raise ModelError(
                f"{self.file}: expected (n, {self.card.embedding_length}) as in card.json, got (n, {self._engine.length})"
            )
        if self.card is not None and (self.card.input.height, self.card.input.width) != (self.height, self.width):
            raise ModelError(
                f"{self.file}: expected an input of {self.card.input.height}x{self.card.input.width} as in card.json, "
                f"got {self.height}x{self.width}; do the two belong together?"
            )

    def __setstate__(self, state: dict[str, Any]) -> None:  # what `pickle` kept of the fields above
        self.__dict__.update(state)
        if file_sha256(self.file) != self.file_sha256:
            raise ModelError(
                f"{self.file}: is not the file that was opened before; restore it, or open the model again"
            )

    @property
    def height(self) -> int:
        """Height in px that pictures are resized to."""
        return self._engine.height

    @property
    def width(self) -> int:
        """Width in px that pictures are resized to."""
        return self._engine.width

    @property
    def length(self) -> int:
        """Length of the vectors."""
        return self._engine.length

    @property
    def device(self) -> str:
        """Where the network runs: "cpu" or "cuda"."""
        return self._engine.device

    def embed(self, pictures: Iterable[PictureSource], *, colour: Literal["rgb", "bgr"] = "rgb") -> Float32:
        """Embed paths, PIL images or arrays (see `read_picture`) as (n, length) unit vectors.

        Raises PictureError for the first picture that cannot be used, and for a single one where several are expected.
        """
        return self._embed(pictures, colour, lambda picture: None)

    def embed_rated(
        self, pictures: Iterable[PictureSource], *, colour: Literal["rgb", "bgr"] = "rgb"
    ) -> tuple[Float32, Float32]:
        """`embed`, and the `quality` (n,) of each picture, 0..1."""
        ratings: list[float] = []
        vectors = self._embed(pictures, colour, lambda picture: ratings.append(quality(picture)))
        return vectors, np.array(ratings, np.float32)

    def _embed(
        self, pictures: Iterable[PictureSource], colour: Literal["rgb", "bgr"], look: Callable[[UInt8], None]
    ) -> Float32:
        check_list(pictures, what="embed")
        parts: list[Float32] = []
        batch: list[UInt8] = []
        for source in pictures:
            picture = read_picture(source, colour=colour)
            look(picture)
            batch.append(resize(picture, height=self.height, width=self.width))
            if len(batch) == BATCH:
                parts.append(self.embed_arrays(batch))
                batch = []
        if batch:
            parts.append(self.embed_arrays(batch))
        return np.concatenate(parts) if parts else np.empty((0, self.length), np.float32)

    def embed_arrays(self, pictures: Sequence[UInt8] | UInt8) -> Float32:
        """Embed uint8 RGB arrays (h, w, 3) of any size, or one array (n, h, w, 3), as (n, length) unit vectors.

        Raises PictureError for anything else; `embed` takes other kinds of arrays too, and turns them into these.
        """
        return unit(self._engine.run(stack(pictures, height=self.height, width=self.width)), where=self.file)


def check_list(pictures: object, *, what: str) -> None:
    """Raise PictureError for a single picture: the rows of an array and the letters of a path would pass for pictures."""
    if isinstance(pictures, str | bytes | PathLike | PILImage):
        raise PictureError(f"{what}: expected a list of pictures, got a single one; write {what}([picture])")
    if isinstance(pictures, np.ndarray) and pictures.ndim != 4:
        raise PictureError(f"{what}: expected a list of pictures or an array (n, h, w, 3), got {pictures.shape}")
    if not isinstance(pictures, Iterable):
        raise PictureError(f"{what}: expected a list of pictures, got {type(pictures).__name__}")


def unit(rows: Float32, *, where: object = "embeddings") -> Float32:
    """The rows (n, length) at unit length; a row that is zero or not finite raises ModelError."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)  # (n, 1)
    if not (np.isfinite(norms).all() and (norms > 1e-12).all()):
        bad = int(np.flatnonzero(~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 1e-12)))[0])
        raise ModelError(f"{where}: row {bad} is zero or not finite and cannot be brought to unit length")
    return np.asarray(rows / norms, np.float32)


def network_file(path: Path, card: ModelCard | None, precision: Precision) -> Path:
    """The file in a model folder that serves a precision; bf16 is fp32's file, run differently."""
    if card is None:
        if precision == "int8":
            raise ModelError(f"{path}: int8 needs a model folder whose card names an int8 file")
        return path
    kind: Literal["fp32", "int8"] = "int8" if precision == "int8" else "fp32"
    if kind not in card.files:
        raise ModelError(f"{path}: the card has no {kind} file, only {', '.join(sorted(card.files))}")
    return path / card.files[kind].file


def preferred_precision(card: ModelCard | None, *, device: str) -> Precision:
    """What `precision="auto"` means here: bf16, int8 or fp32, the first that processor and card have; else fp32.

    It follows from the two alone, not from a measurement, so that one machine gives one answer.
    """
    if card is None or device == "cuda":
        return "fp32"
    here = engines.cpu_precisions()
    usable = (p for p in PREFERRED if p in here and p in card.calibrations and (p != "int8" or "int8" in card.files))
    return next(usable, "fp32")


def measure_speed(
    model: str | Path, *, seconds: float = 2.0, threads: int | None = None, batches: Sequence[int] = (1, 8, 32)
) -> dict[Precision, dict[int, float]]:
    """Images a second through `embed_arrays`, from 64x128 px crops in memory, by precision and batch size."""
    path = find_model(model)
    card = read_card(path) if path.is_dir() else None
    crops = np.random.default_rng(0).integers(0, 256, (max(batches), 128, 64, 3), np.uint8)
    speeds: dict[Precision, dict[int, float]] = {}
    for precision in engines.cpu_precisions():
        if precision == "int8" and (card is None or "int8" not in card.files):
            continue
        embedder = Embedder(path, precision=precision, threads=threads)
        speeds[precision] = {}
        for batch in batches:
            embedder.embed_arrays(crops[:batch])
            done, start = 0, time.perf_counter()
            while time.perf_counter() - start < seconds:
                embedder.embed_arrays(crops[:batch])
                done += batch
            speeds[precision][batch] = done / (time.perf_counter() - start)
    return speeds
