"""The door to passerby's re-identification: pictures in; embeddings, comparisons, names and groups out."""

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from passerby.reid.calibration import MODES, Calibration, posterior
from passerby.reid.card import terms
from passerby.reid.embedder import Embedder, check_list
from passerby.reid.evidence import Sides, evidence, joined, side
from passerby.reid.gallery import Gallery
from passerby.reid.grouping import group_vectors
from passerby.reid.pictures import PictureSource
from passerby.reid.search import search
from passerby.types import (
    CalibrationError,
    Comparison,
    Float32,
    Grouping,
    Identification,
    PasserbyError,
    PictureError,
)

DEFAULT_MODE = "customer-journey"

PictureOrPictures = PictureSource | Sequence[PictureSource]

log = logging.getLogger("passerby")


class ReIDInference:
    """Tell people apart on pictures.

    `threshold` is a posterior probability of "same person", 0..1; `mode` is one of "visitor-counting" (0.50),
    "customer-journey" (0.65) and "high-precision" (0.80). Neither: 0.65. `model` is a bundled model's name or a path to a
    model folder. `prior` is the probability of "same person" before looking, for `compare`; `absent` the probability that
    a searched person is nobody of the gallery, for `identify`. `colour` is the channel order of arrays that the caller
    passes. Posteriors hold for people like those that the model was calibrated on: the card names them, `passerby
    calibrate` makes a calibration for others. Safe to use from several threads.

    Raises ModelError or CalibrationError where the model cannot be opened or has no calibration for its file.

    >>> reid = ReIDInference(mode="high-precision")
    >>> reid.threshold
    0.8
    """

    def __init__(
        self,
        threshold: float | None = None,
        *,
        mode: str | None = None,
        model: str | Path = "osnet_x0_75",
        device: Literal["auto", "cpu", "cuda"] = "auto",
        precision: Literal["auto", "fp32", "bf16", "int8"] = "auto",
        threads: int | None = None,
        colour: Literal["rgb", "bgr"] = "rgb",
        prior: float = 0.5,
        absent: float = 0.5,
    ) -> None:
        self.threshold = threshold_of(threshold, mode)
        self.prior = _probability("prior", prior)
        self.absent = _probability("absent", absent)
        if colour not in ("rgb", "bgr"):
            raise PictureError(f"colour: expected 'rgb' or 'bgr', got {colour!r}")
        self.colour: Literal["rgb", "bgr"] = colour
        self.embedder = Embedder(model, device=device, precision=precision, threads=threads)
        card = self.embedder.card
        if card is None or self.embedder.precision not in card.calibrations:
            raise CalibrationError(
                f"{model}: has no calibration for {self.embedder.precision}, so its similarities are no probabilities; "
                "run `passerby calibrate --model ... --data ... --out FOLDER` and open that folder"
            )
        self.card = card
        self.calibration = Calibration.from_dict(card.calibrations[self.embedder.precision])
        self.calibration.check(self.embedder.file_sha256, self.embedder.precision)
        self.gallery = Gallery(
            length=self.embedder.length, model=f"{self.embedder.file_sha256}:{self.embedder.precision}"
        )
        if card.commercial_use != "yes":
            log.info("%s", terms(card))

    def embed(self, pictures: Sequence[PictureSource]) -> Float32:
        """Embed a list of pictures as (n, length) float32 unit vectors; one picture is a list of one.

        Raises PictureError for an empty list and for the first picture that cannot be used.
        """
        vectors = self.embedder.embed(pictures, colour=self.colour)
        if len(vectors) == 0:
            raise PictureError("embed: expected at least one picture, got an empty list")
        return vectors

    def compare(self, a: PictureOrPictures, b: PictureOrPictures) -> Comparison:
        """Whether two pictures show one person; a list is several pictures of one person, made one vector first.

        >>> from passerby import ReIDInference                                      # doctest: +SKIP
        >>> ReIDInference(threshold=0.65).compare("a.jpg", "b.jpg").probability     # doctest: +SKIP
        """
        both = self._sides([a, b])
        similarity = float(both.means[0] @ both.means[1])
        quality = float(both.quality.min())
        llr = float(evidence(self.calibration, both.take([0]), both.take([1]))[0, 0])
        probability = float(posterior(np.array([llr]), self.prior)[0])
        same = quality > 0 and probability >= self.threshold
        return Comparison(same, probability, similarity, llr, quality)

    def add(
        self,
        person: str,
        pictures: PictureOrPictures,
        *,
        camera: str | None = None,
        seen_at: datetime | None = None,
    ) -> None:
        """Add a person's pictures to the gallery, with their quality; see `Gallery.add`."""
        sources = _listed(pictures)
        if len(sources) == 0:
            raise PictureError("add: expected at least one picture, got an empty list")
        vectors, quality = self.embedder.embed_rated(sources, colour=self.colour)
        self.gallery.add(person, vectors, camera=camera, seen_at=seen_at, quality=quality)

    def identify(self, picture: PictureOrPictures, *, top: int = 5) -> Identification:
        """Who of the gallery a picture, or several pictures of one person, shows."""
        return self.identify_many([picture], top=top)[0]

    def identify_many(self, pictures: Sequence[PictureOrPictures], *, top: int = 5) -> list[Identification]:
        """`identify` for each entry, each against the same gallery, in one matrix product; see `search.search` for vectors."""
        check_list(pictures, what="identify_many")
        if len(pictures) == 0:
            raise PictureError("identify: expected at least one picture, got an empty list")
        return search(
            self._sides(pictures),
            self.gallery,
            self.calibration,
            threshold=self.threshold,
            absent=self.absent,
            top=top,
        )

    def group(
        self,
        pictures: Sequence[PictureSource],
        *,
        cameras: Sequence[str | None] | None = None,
        times: Sequence[datetime] | None = None,
    ) -> Grouping:
        """Sort pictures into people: a group for each picture, and how many people there are, with its 90 % interval.

        `cameras` and `times` (timezone-aware) say where and when each picture was taken; two pictures of one camera at
        one time show two people. Left out, only looks decide.
        """
        check_list(pictures, what="group")
        vectors, quality = self.embedder.embed_rated(pictures, colour=self.colour)
        if len(vectors) == 0:
            raise PictureError("group: expected at least one picture, got an empty list")
        return group_vectors(
            vectors, self.calibration, threshold=self.threshold, quality=quality, cameras=cameras, times=times
        )

    def _sides(self, people: Sequence[PictureOrPictures]) -> Sides:
        """What is known of each person (a row each), given as a picture or several."""
        each = [_listed(person) for person in people]
        if not all(len(sources) for sources in each):
            raise PictureError("expected at least one picture of each person, got an empty list")
        flat = [source for sources in each for source in sources]
        vectors, quality = self.embedder.embed_rated(flat, colour=self.colour)  # at once, over all cores
        ends = np.cumsum([len(sources) for sources in each])[:-1]
        return joined([side(*part) for part in zip(np.split(vectors, ends), np.split(quality, ends), strict=True)])


def _listed(picture: PictureOrPictures) -> Sequence[PictureSource]:
    many = isinstance(picture, list | tuple) or (isinstance(picture, np.ndarray) and picture.ndim == 4)
    return picture if many else [picture]  # type: ignore[return-value,list-item]  # just told apart


def threshold_of(threshold: float | None, mode: str | None) -> float:
    """The posterior that a threshold or a mode means, one of the two or neither; raises PasserbyError for others."""
    if mode is not None and mode not in MODES:
        raise PasserbyError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    if threshold is None:
        return MODES[mode or DEFAULT_MODE]
    value = _probability("threshold", threshold)
    if mode is not None and MODES[mode] != value:
        raise PasserbyError(f"mode {mode!r} means threshold {MODES[mode]}, got threshold={value}; give one of the two")
    return value


def _probability(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise PasserbyError(f"{name}: expected a probability between 0 and 1, got {value!r}")
    return float(value)
