"""A detector's training run as its TOML file describes it; nothing is trained here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from passerby.config import STRICT
from passerby.files import settings_hash
from passerby.learn.recipe import plain_settings
from passerby.learn.scenes import Certainty, Change

FROZEN = 6  # blocks of the network, up to stride 8


@dataclass(frozen=True, slots=True)
class Source:
    """Pictures of a COCO folder: those of `split`, `share` of every batch.

    `complete` lets the teachers label who has no box, but for pictures whose `source` is named in `without_people`.
    `terms` are written on the card.
    """

    folder: Path
    split: str | None = None
    share: float = 1.0
    complete: bool = False
    without_people: tuple[str, ...] = ()
    terms: str = "as its owner says"
    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class Teacher:
    """A detector's network file, and the (height, width) that it is run at."""

    file: Path
    sizes: tuple[tuple[int, int], ...]
    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class DetectorRecipe:
    """Everything that decides what a detector's training run makes, but for the pictures themselves.

    `start` is the IR file of person-detection-0201. `sizes` (height, width) are those that the detector will be run at:
    each batch takes one of them. `frozen` blocks at the beginning stay as they are. `blend` is the share of the start's weights
    that is mixed back in at the end: often better on cameras that nobody trained on (see `export.blend`).
    """

    name: str
    start: Path
    train: tuple[Source, ...]
    val: tuple[Source, ...]
    sizes: tuple[tuple[int, int], ...]
    steps: int
    teachers: tuple[Teacher, ...] = ()
    certainty: Certainty | None = None
    seed: int = 1
    batch: int = 8
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    warmup_steps: int = 50
    final: float = 0.02
    clip: float = 5.0
    ema: float = 0.998
    frozen: int = FROZEN
    blend: float = 0.0
    evaluate_every: int = 500
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    change: Change = field(default_factory=Change)
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not self.train or not self.val or not self.sizes:
            raise ValueError("a detector's recipe needs train, val and sizes")
        if any(side % 32 for size in self.sizes for side in size):
            raise ValueError(f"sizes: expected multiples of 32, got {self.sizes}")
        if min(self.steps, self.batch, self.evaluate_every) < 1:
            raise ValueError("steps, batch and evaluate_every: expected at least 1")
        if not 0 <= self.blend < 1:
            raise ValueError(f"blend: expected a share of 0 to below 1, got {self.blend}")
        if any(source.complete for source in (*self.train, *self.val)) and not (self.teachers and self.certainty):
            raise ValueError("complete = true needs teachers and certainty")

    @property
    def sha256(self) -> str:
        """A hash of what the run depends on and is not left at its default, so that a later setting does not change it."""
        return settings_hash({name: value for name, value in plain_settings(self).items() if name != "blend"})


RECIPE = TypeAdapter(DetectorRecipe)
