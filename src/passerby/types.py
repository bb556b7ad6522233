"""The words of passerby as frozen, checked records; no behaviour lives here, and nothing of ours is imported."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]

Role = Literal["person", "distractor", "junk"]
Protocol = Literal["market1501", "cross-camera", "single-gallery-shot"]


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
    """A zone, line, sighting, link, visit or partition that contradicts itself, or a file of sightings that is none."""


class SimulationError(PasserbyError):
    """A simulated shop that cannot be what it is asked to be."""


class VideoError(PasserbyError):
    """A video that cannot be read or written."""


class StoreError(PasserbyError):
    """A store that cannot be opened, read or written as asked."""


class AccessError(PasserbyError):
    """A user, key, login or one-time link that cannot be made, used or changed as asked."""


class PrivacyError(PasserbyError):
    """Something that may not be shown, kept or recognised, or that cannot be erased as asked."""


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
    crops may be shown in reports and documents. `notes` says, a line each, how the copy differs from the official one;
    `layout` how the names of its files were understood, where that is not fixed.
    """

    name: str
    train: tuple[Picture, ...]
    query: tuple[Picture, ...]
    gallery: tuple[Picture, ...]
    protocol: Protocol
    shareable: bool = False
    notes: tuple[str, ...] = ()
    layout: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise DatasetError("a data set needs a name")
        if bool(self.query) != bool(self.gallery):
            raise DatasetError(
                f"{self.name}: {len(self.query)} queries, a gallery of {len(self.gallery)}; expected both or neither"
            )


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its interval, 95 % unless said otherwise; both ends are None where none was computed."""

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
    """Pictures sorted into people.

    `labels[i]` is the number (0..groups-1) of picture i's group, None where the picture shows nothing; `unknown` are the
    numbers of those pictures. `people` estimates how many people there are, with a 90 % interval; `groups` does not: who
    cannot be linked for certain stands in several groups.
    """

    labels: tuple[int | None, ...]
    groups: int
    people: Interval
    unknown: tuple[int, ...] = ()
