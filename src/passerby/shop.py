"""What a shop's cameras see and what is made of it, as frozen, checked records; no behaviour lives here."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from passerby.types import Float32, ModelError, SightingError, UInt8, VideoError

MOST_PROTOTYPES = 4  # of a sighting


# What a shop's cameras see, and what is made of it.


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture (height, width, 3), uint8 RGB, with its camera and the time at which it was taken, with its zone."""

    camera: str
    time: datetime
    picture: UInt8

    def __post_init__(self) -> None:
        if not self.camera or self.time.tzinfo is None:
            raise VideoError(f"frame: expected a camera and a time with its zone, got {self.camera!r} and {self.time}")
        if self.picture.ndim != 3 or self.picture.shape[2] != 3 or self.picture.dtype != "uint8":
            raise VideoError(
                f"frame of {self.camera}: expected (height, width, 3) uint8, got {self.picture.shape} {self.picture.dtype}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The people that a detector found in one picture, the surest first; the arrays cannot be written to.

    `boxes_xyxy` (n, 4) float32 are left, top, right and bottom in pixels of the picture, `scores` (n,) float32 how sure
    the detector is, 0..1. Raises ModelError where they are not that.
    """

    boxes_xyxy: Float32
    scores: Float32

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes_xyxy.shape != (count, 4) or self.scores.shape != (count,):
            raise ModelError(
                f"detections: expected boxes (n, 4) and scores (n,), got {self.boxes_xyxy.shape} and {self.scores.shape}"
            )
        if self.boxes_xyxy.dtype != "float32" or self.scores.dtype != "float32":
            raise ModelError(
                f"detections: expected float32 boxes and scores, got {self.boxes_xyxy.dtype} and {self.scores.dtype}"
            )
        if count:
            if not (self.scores.min() >= 0 and self.scores.max() <= 1):  # also false for NaN
                raise ModelError(f"detections: expected scores of 0..1, got {self.scores.min()}..{self.scores.max()}")
            if (self.scores[1:] > self.scores[:-1]).any():
                raise ModelError("detections: expected the surest first; sort boxes and scores by score")
            if not (self.boxes_xyxy[:, 2:] > self.boxes_xyxy[:, :2]).all():
                raise ModelError("detections: expected boxes with right > left and bottom > top; drop the others")
        self.boxes_xyxy.setflags(write=False)
        self.scores.setflags(write=False)

    def __len__(self) -> int:
        return len(self.scores)


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
