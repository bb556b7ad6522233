"""A training run as its TOML file describes it, and what a card says of it; nothing is trained here."""

import hashlib
import json
import os
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from passerby.config import STRICT
from passerby.learn.loader import Augment
from passerby.reid.card import CardData, find_model, read_card

OPEN_MODEL_ZOO = "Apache-2.0 (Intel, Open Model Zoo); its training data is unpublished and may overlap public tests"
NETWORK_TERMS = {f"person-reidentification-retail-{number}": OPEN_MODEL_ZOO for number in ("0277", "0286")}


@dataclass(frozen=True, slots=True)
class Stage:
    """`steps` steps at one input size, the learning rate times `rate`; a run goes through its stages in order."""

    height: int
    width: int
    steps: int
    rate: float = 1.0
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 32 or self.steps < 1 or self.rate <= 0:
            raise ValueError(f"a stage needs sides of at least 32 px, a step and a rate, got {self}")


@dataclass(frozen=True, slots=True)
class ArcFaceSettings:
    """ArcFace after the neck; its margin grows from 0 over `ramp_steps`. Weight 0 leaves it out.

    `on = "cosine"` makes it AM-softmax.
    """

    weight: float = 1.0
    scale: float = 30.0
    margin: float = 0.3
    on: Literal["angle", "cosine"] = "angle"
    ramp_steps: int = 0
    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class SoftmaxSettings:
    """Label-smoothed softmax after the neck; off unless it gets a weight."""

    weight: float = 0.0
    smoothing: float = 0.1
    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class TripletSettings:
    """Batch-hard triplet before the neck; `soft` replaces the margin by the soft margin."""

    weight: float = 1.0
    margin: float = 0.3
    soft: bool = False
    distance: Literal["euclidean", "cosine"] = "euclidean"
    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class CentreSettings:
    """Centre loss before the neck; off unless it gets a weight (the paper's is 5e-4)."""

    weight: float = 0.0
    rate: float = 0.5
    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """Networks whose vectors of the clean pictures the student imitates; several are set side by side."""

    models: tuple[Path, ...] = ()
    weight: float = 10.0
    relation: float = 10.0
    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class OptimiserSettings:
    """AdamW or SGD, linear warm-up, then a cosine down to `final` times the learning rate."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup_steps: int = 100
    final: float = 0.01
    clip: float = 10.0
    freeze_body_steps: int = 0
    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what a training run makes, but for the pictures themselves.

    `data` are specs, `[NAME=]KIND:PATH`; `patterns` say, by the name of a folder: set, how its paths are read.
    `balance` is how far the sets come alike in the batches, see `loader.PersonSampler`.
    """

    name: str
    data: tuple[str, ...]
    stages: tuple[Stage, ...]
    patterns: dict[str, str] = field(default_factory=dict)
    architecture: str = "osnet_x0_75"
    seed: int = 1
    dev_people: int = 75
    people: int = 16
    pictures_each: int = 4
    across_cameras: bool = True
    balance: float = 0.0
    ema: float = 0.998
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    start: Path | None = None
    evaluate_every: int = 500
    arcface: ArcFaceSettings = field(default_factory=ArcFaceSettings)
    softmax: SoftmaxSettings = field(default_factory=SoftmaxSettings)
    triplet: TripletSettings = field(default_factory=TripletSettings)
    centre: CentreSettings = field(default_factory=CentreSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    augment: Augment = field(default_factory=Augment)
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not self.stages or not self.data:
            raise ValueError("a recipe needs data and at least one stage")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: expected 0 (off) to below 1, got {self.ema}")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance: expected 0 (by person) to 1 (by set), got {self.balance}")
        if min(self.people, self.evaluate_every) < 1:
            raise ValueError(
                f"people and evaluate_every: expected at least 1, got {self.people} and {self.evaluate_every}"
            )
        if not any((self.arcface.weight, self.softmax.weight, self.triplet.weight)):
            raise ValueError("a recipe needs a loss: give arcface, softmax or triplet a weight")

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    @property
    def sha256(self) -> str:
        """A hash of what is not left at its default, so that a setting that comes later does not change it."""
        return hashlib.sha256(json.dumps(plain_settings(self), sort_keys=True, default=str).encode()).hexdigest()


RECIPE = TypeAdapter(Recipe)


def plain_settings(record: Any) -> dict[str, Any]:  # Any: a settings dataclass, and JSON
    """The fields of a settings record that differ from their defaults, nested records likewise."""
    given: dict[str, Any] = {}
    for entry in fields(record):
        value = getattr(record, entry.name)
        if isinstance(value, tuple):
            value = [plain_settings(v) if is_dataclass(v) else v for v in value]
        elif is_dataclass(value):
            value = plain_settings(value)
        default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
        if value not in ({}, default) and value != (list(default) if isinstance(default, tuple) else default):
            given[entry.name] = value
    return given


def origin(recipe: Recipe) -> str:
    """Where a recipe's weights come from, for the model's card: the start, the teachers, and where those came from."""
    folders = [folder_of(model) for model in recipe.teacher.models]
    names = [read_card(f).name if f else m.stem for f, m in zip(folders, recipe.teacher.models, strict=True)]
    teachers = ", ".join(names)
    learnt = f"; teachers: {teachers}" if teachers else ""
    if recipe.start is None:
        return f"trained from scratch by this project{learnt}"
    name, came, architecture = recipe.start.stem, "", recipe.architecture
    if folder := folder_of(recipe.start):
        card = read_card(folder)
        name, came, architecture = card.name, f" ({card.origin})", card.architecture
    elif before := run_of(recipe.start):
        name, came, architecture = before.name, f" ({origin(before)})", before.architecture
    how = "fine-tuned" if architecture == recipe.architecture else "narrowed and fine-tuned"
    return f"{how} from {name}{came}{learnt}"


def networks(recipe: Recipe) -> list[CardData]:
    """The networks that a recipe begins with or learns from, at any remove, with their terms, for the model's card."""
    found: dict[str, CardData] = {}
    for file in (recipe.start, *recipe.teacher.models):
        if file is None:
            continue
        if folder := folder_of(file):
            card = read_card(folder)
            learnt = ", ".join(data.name for data in card.trained_on)
            found[card.name] = CardData(name=card.name, terms=f"this project's own, trained on {learnt}")
            found |= {network.name: network for network in card.networks}
        elif before := run_of(file):
            found |= {network.name: network for network in networks(before)}
        else:
            found[file.stem] = CardData(name=file.stem, terms=NETWORK_TERMS.get(file.stem, "as its owner says"))
    return list(found.values())


def named(weights: Path) -> tuple[str, list[CardData]]:
    """What is mixed into a network, in words, and the networks behind it: a model folder, or the first start."""
    folder = folder_of(weights)
    if folder is None:
        return "the first start", []
    card = read_card(folder)
    return f"an earlier {card.name} ({card.origin})", list(card.networks)


def processor_hours(recipe: Recipe, log: Path) -> float | None:
    """What the steps of a run, and of those that it goes on from, took by their logs, in hours times threads.

    None where there is no log.
    """
    if not log.exists():
        return None
    seconds, batch = 0.0, recipe.people * recipe.pictures_each
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        seconds += batch / entry["images_per_s"] * entry.get("threads", os.cpu_count() or 1)
    hours = seconds / 3600
    if recipe.start is not None and (before := run_of(recipe.start)):
        hours += processor_hours(before, recipe.start.with_name(log.name)) or 0.0
    return hours


def folder_of(start: Path) -> Path | None:
    """The model folder that a start or a teacher names, bundled ones by their name alone; None for a file."""
    if (start / "card.json").is_file():
        return start
    return None if start.suffix or start.exists() else find_model(start)


def run_of(weights: Path) -> Recipe | None:
    """The recipe of the run whose folder these weights lie in; None where they lie in none."""
    beside = weights.with_name("recipe.json")
    return RECIPE.validate_json(beside.read_bytes()) if beside.exists() else None
