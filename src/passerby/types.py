"""The words of passerby as frozen, checked records; no behaviour lives here, and nothing of ours is imported."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]

Role = Literal["person", "distractor", "junk"]
Protocol = Literal["market1501", "cross-camera", "single-gallery-shot"]

MOST_PROTOTYPES = 4  # of a sighting


class PasserbyError(ValueError):
    """Something that the user can put right; its message says what, where, got, expected and what to do."""


class DatasetError(PasserbyError):
    """A folder, file or manifest of pictures that is not what it claims to be."""


class PictureError(PasserbyError):
    """A picture that cannot be used: unreadable, empty, of a wrong shape or type."""


class ModelError(PasserbyError):
    """A model folder, file or card that is missing, damaged, or does not fit what it is used for."""


class CalibrationError(PasserbyError):
    """A calibration that cannot be fitted, or that belongs to another file or precision."""


class GalleryError(PasserbyError):
    """A gallery that cannot be changed, loaded or searched as asked."""


class ConfigError(PasserbyError):
    """A recipe or configuration with a wrong or unknown setting."""


class TrainingError(PasserbyError):
    """A training run that cannot start or go on."""


class SightingError(PasserbyError):
    """A zone, line, sighting, link or visit that contradicts itself."""


class SimulationError(PasserbyError):
    """A simulated shop that cannot be what it is asked to be."""


class VideoError(PasserbyError):
    """A video that cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One crop of one person, as a data set labels it.

    `person` and `camera` are scoped by the data set (`"market1501:0002"`, `"market1501:c1"`), so that sets merge with
    disjoint ids. `camera` is None where the data set has no camera labels; it is never invented. `frame` is the frame
    number within `sequence` where the file name tells it; `seen_at` the time with its zone where a manifest tells it.
    """

    path: Path
    person: str
    camera: str | None
    role: Role = "person"
    sequence: str | None = None
    frame: int | None = None
    seen_at: datetime | None = None

    def __post_init__(self) -> None:
        if not self.person:
            raise DatasetError(f"{self.path}: a picture needs a person id, got an empty one")
        if self.frame is not None and self.frame < 0:
            raise DatasetError(f"{self.path}: frame numbers start at 0, got {self.frame}")
        if self.seen_at is not None and self.seen_at.tzinfo is None:
            raise DatasetError(
                f"{self.path}: a time needs its zone, such as 2026-03-01T10:00:00+00:00, got {self.seen_at}"
            )


@dataclass(frozen=True, slots=True)
class Dataset:
    """Pictures to train on, and pictures to be measured on.

    `query` and `gallery` may share pictures (a protocol may use every picture in both parts). `shareable` says whether
    crops may be shown in reports and documents. `notes` says, a line each, how the copy differs from the official one.
    """

    name: str
    train: tuple[Picture, ...]
    query: tuple[Picture, ...]
    gallery: tuple[Picture, ...]
    protocol: Protocol
    shareable: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise DatasetError("a data set needs a name")
        if bool(self.query) != bool(self.gallery):
            raise DatasetError(
                f"{self.name}: {len(self.query)} queries, a gallery of {len(self.gallery)}; expected both or neither"
            )


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95 % interval; both ends are None where none was computed."""

    value: float
    low: float | None = None
    high: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """The three numbers under their names, as they are written to JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two pictures, or two groups of pictures, compared.

    `similarity` is the cosine (-1..1), `llr` the natural-log likelihood ratio of "same person" against "different
    people", `probability` the posterior under the stated prior, `same` whether it reaches the threshold. `quality`, 0..1,
    is that of the worse side: near 0 the pictures say nothing, and `llr` is near 0 whatever the similarity.
    """

    same: bool
    probability: float
    similarity: float
    llr: float
    quality: float = 1.0


@dataclass(frozen=True, slots=True)
class Match:
    """A person of the gallery as an answer to a search, with its posterior probability; `quality` as in `Comparison`."""

    person: str
    probability: float
    similarity: float
    llr: float
    quality: float = 1.0


@dataclass(frozen=True, slots=True)
class Identification:
    """The answer to "who of the gallery is this?".

    `person` is the best name at or above the threshold, else None; `matches` are the best, best first; `unknown` is
    the probability that the picture shows nobody of the gallery. All probabilities over the whole gallery and `unknown`
    sum to 1.
    """

    person: str | None
    matches: tuple[Match, ...]
    unknown: float


@dataclass(frozen=True, slots=True)
class Grouping:
    """Pictures sorted into people: `labels[i]` is the number (0..people-1) of picture i's person."""

    labels: tuple[int, ...]
    people: int


# What a shop's cameras see, and what is made of it.


@dataclass(frozen=True, slots=True)
class Zone:
    """A named part of a shop's floor: a simple polygon of (x, y) in metres, three corners or more."""

    name: str
    corners: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not self.name or len(self.corners) < 3:
            raise SightingError(f"zone {self.name!r}: expected a name and 3 corners or more, got {len(self.corners)}")


@dataclass(frozen=True, slots=True)
class Line:
    """A named line on a shop's floor, from `start` to `end`, (x, y) in metres; who crosses it from its left goes in.

    Left is as seen from `start` towards `end`, x to the right and y upwards.
    """

    name: str
    start: tuple[float, float]
    end: tuple[float, float]

    def __post_init__(self) -> None:
        if not self.name or self.start == self.end:
            raise SightingError(f"line {self.name!r}: expected a name and two different ends, got {self.start} twice")


@dataclass(frozen=True, slots=True)
class Stay:
    """A time in a zone; `end` is None while it lasts. Times carry their zone."""

    zone: str
    start: datetime
    end: datetime | None

    def __post_init__(self) -> None:
        _check_times(f"stay in {self.zone}", self.start, self.end)


@dataclass(frozen=True, slots=True)
class Crossing:
    """One crossing of a line, `inwards` or outwards."""

    line: str
    at: datetime
    inwards: bool

    def __post_init__(self) -> None:
        _check_times(f"crossing of {self.line}", self.at, None)


class SightingKey(NamedTuple):
    """What names a sighting: never the same again, even after a restart."""

    site: str
    camera: str
    session: str
    track: int


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """One track, as the rest of the system sees it; the revision with the highest number replaces the others.

    `start` and `end` are the first and the latest time that the camera saw the person, with their zone. `prototypes` are
    one to four unit vectors (n, length) float32 and `quality` (n,) their quality, 0..1; both are empty where no
    embedding was made. Two sightings are compared by `key` and `revision`.
    """

    key: SightingKey
    revision: int
    closed: bool
    start: datetime
    end: datetime
    prototypes: Float32
    quality: Float32
    stays: tuple[Stay, ...] = ()
    crossings: tuple[Crossing, ...] = ()

    def __post_init__(self) -> None:
        _check_times(f"sighting {self.key}", self.start, self.end)
        if self.revision < 1 or self.key.track < 1:
            raise SightingError(
                f"sighting {self.key}: track and revision count from 1, got {self.key.track} and {self.revision}"
            )
        rows = len(self.prototypes)
        if self.prototypes.ndim != 2 or rows > MOST_PROTOTYPES or self.quality.shape != (rows,):
            raise SightingError(
                f"sighting {self.key}: expected up to {MOST_PROTOTYPES} prototypes (n, length) with a quality each, got "
                f"{self.prototypes.shape} and {self.quality.shape}"
            )


@dataclass(frozen=True, slots=True)
class Link:
    """Two sightings held to be one person: `later` follows `earlier` with this posterior probability.

    `runner_up` is the next best sighting that `later` could have followed, with its probability; None where it had none.
    """

    earlier: SightingKey
    later: SightingKey
    probability: float
    runner_up: SightingKey | None = None
    runner_up_probability: float = 0.0

    def __post_init__(self) -> None:
        if self.earlier == self.later:
            raise SightingError(f"link: expected two sightings, got {self.earlier} twice")
        for probability in (self.probability, self.runner_up_probability):
            if not 0 <= probability <= 1:
                raise SightingError(f"link {self.earlier} - {self.later}: expected 0 to 1, got {probability}")


@dataclass(frozen=True, slots=True)
class Visit:
    """A person's linked sightings from entry to exit, in order of their start; revised while its window is open.

    `change` says what the latest revision did to it, None for sightings added; a `final` one is not revised again.
    """

    name: str
    revision: int
    sightings: tuple[SightingKey, ...]
    start: datetime
    end: datetime
    final: bool = False
    change: Literal["merged", "split"] | None = None

    def __post_init__(self) -> None:
        _check_times(f"visit {self.name}", self.start, self.end)
        if not self.name or not self.sightings or self.revision < 1:
            raise SightingError(
                f"visit {self.name!r}: expected a name, sightings and a revision from 1, got {len(self.sightings)} "
                f"sightings, revision {self.revision}"
            )


def _check_times(what: str, start: datetime, end: datetime | None) -> None:
    if start.tzinfo is None or (end is not None and end.tzinfo is None):
        raise SightingError(f"{what}: a time needs its zone, such as 2026-03-01T10:00:00+00:00, got {start} .. {end}")
    if end is not None and end < start:
        raise SightingError(f"{what}: it ends at {end.isoformat()}, before it starts at {start.isoformat()}")


class CardPart(BaseModel):
    """What all parts of a model card share: unknown keys are refused, and nothing changes after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CardInput(CardPart):
    """What a network file expects of a picture; `interpolation` is the project's one resize."""

    height: int = Field(ge=16)
    width: int = Field(ge=16)
    colour: Literal["rgb", "bgr"]
    range: Literal["0..255", "0..1"]
    interpolation: Literal["bilinear"] = "bilinear"


class CardFile(CardPart):
    """A network file of the folder and its SHA-256 (of an OpenVINO IR: of .xml and .bin together)."""

    file: str = Field(pattern=r"^[\w.-]+\.(onnx|xml)$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class CardData(CardPart):
    """A set that the network was trained on, and its terms."""

    name: str
    people: int | None = None
    pictures: int | None = None
    terms: str


class CardCameras(CardPart):
    """Rank-1, 0..1, of the queries of one camera against the pictures of another alone."""

    query: str
    gallery: str
    queries: int
    rank1: float


class CardFailure(CardPart):
    """How often the network fails in a hard case, 0..1, beside how often it does otherwise, with the command."""

    case: str
    rate: float
    otherwise: float
    data: str
    queries: int
    command: str


class CardAccuracy(CardPart):
    """Measured figures of one precision on one set, each {value, low, high}, with the command that prints them.

    `peer` names another network that was measured by the same command, to compare with. `cameras` has Rank-1 from camera
    to camera.
    """

    peer: str | None = None
    data: str
    protocol: str
    split_hash: str
    precision: Literal["fp32", "bf16", "int8"]
    queries: int
    skipped: int
    figures: dict[str, dict[str, float | None]]
    command: str
    cameras: list[CardCameras] = []


class ModelCard(CardPart):
    """`card.json` of a model folder: what the network expects, where it comes from, what it reaches.

    `calibrations` holds one map from similarity to log-likelihood ratio for each precision, as `reid/calibration.py`
    writes it, bound to the file's hash. `networks` are those that it began as or learnt from, with their terms;
    `processor_hours` the training's, its seconds times its threads, `energy_kwh` what they are reckoned to have taken.
    """

    format: Literal[1] = 1
    name: str
    architecture: str
    embedding_length: int = Field(ge=1)
    input: CardInput
    files: dict[Literal["fp32", "int8"], CardFile]
    trained_on: list[CardData]
    networks: list[CardData] = []
    origin: str
    recipe: str | None = None
    seed: int | None = None
    processor_hours: float | None = None
    energy_kwh: float | None = None
    commercial_use: Literal["yes", "unclear"]
    accuracy: list[CardAccuracy] = []
    failures: list[CardFailure] = []
    calibrations: dict[Literal["fp32", "bf16", "int8"], dict[str, JsonValue]] = {}
