"""What a shop's cameras see and what is made of it, as frozen, checked records; of behaviour only `current` lives here."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import combinations, pairwise
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from passerby.types import Float32, Int64, ModelError, SightingError, UInt8, VideoError

MOST_PROTOTYPES = 4  # of a sighting
THINNED_S = 1.0  # from one point of a path to the next, at least
LENGTH_OFF = 1e-3  # how far a unit vector may be off its length: what two roundings to float16 leave
Point = tuple[float, float]
State = Literal["open", "closed", "withdrawn"]
NO_POINTS: Float32 = np.zeros((0, 3), np.float32)
NO_POINTS.setflags(write=False)


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
    """A named part of a shop: a simple polygon of (x, y), three corners or more, the first one not repeated.

    With a `camera` it is drawn on that camera's picture: fractions 0..1 of its width and height, y downwards. Without one it
    is drawn on the floor plan: metres, y upwards. Two zones are equal if all of this is; another first corner makes another.
    Raises SightingError where the polygon is flat, crosses or touches itself, or holds NaN.
    """

    name: str
    corners: tuple[Point, ...]
    camera: str | None = None

    def __post_init__(self) -> None:
        what = f"zone {self.name!r}"
        if not self.name or len(self.corners) < 3:
            raise SightingError(f"{what}: expected a name and 3 corners or more, got {len(self.corners)}")
        _check_place(what, self.corners, self.camera)
        _check_simple(what, self.corners)


@dataclass(frozen=True, slots=True)
class Line:
    """A named line from `start` to `end`; who crosses it from its left goes in.

    Left is as seen from `start` towards `end`, by someone who looks at the plan or at the picture. `camera` and the numbers
    are those of `Zone`. Two lines are equal if all of this is.
    """

    name: str
    start: Point
    end: Point
    camera: str | None = None

    def __post_init__(self) -> None:
        if not self.name or self.start == self.end:
            raise SightingError(f"line {self.name!r}: expected a name and two different ends, got {self.start} twice")
        _check_place(f"line {self.name!r}", (self.start, self.end), self.camera)


@dataclass(frozen=True, slots=True)
class Stay:
    """A time in a zone; `end` is None while it lasts. Times carry their zone. Equal if all of this is."""

    zone: str
    start: datetime
    end: datetime | None

    def __post_init__(self) -> None:
        if not self.zone:
            raise SightingError(f"stay from {self.start}: expected the name of a zone, got an empty one")
        _check_times("stay in", self.zone, self.start, self.end)


@dataclass(frozen=True, slots=True)
class Crossing:
    """One crossing of a line, `inwards` or outwards. Equal if all of this is."""

    line: str
    at: datetime
    inwards: bool

    def __post_init__(self) -> None:
        if not self.line:
            raise SightingError(f"crossing at {self.at}: expected the name of a line, got an empty one")
        _check_times("crossing of", self.line, self.at, None)


class _Key(NamedTuple):
    site: str
    camera: str
    session: str
    track: int


class SightingKey(_Key):
    """What names a sighting: never the same again, even after a restart. Tracks count from 1.

    Keys are hashed and ordered: by site, camera, session and then track.

    >>> SightingKey("shop", "door", "a", 2) < SightingKey("shop", "door", "a", 10)
    True
    """

    __slots__ = ()

    def __new__(cls, site: str, camera: str, session: str, track: int) -> Self:
        """Raise SightingError where a name is empty or the track is none."""
        if not (site and camera and session) or track < 1:
            raise SightingError(
                "sighting: its key needs a site, a camera, a session and a track from 1, got "
                f"{site!r}, {camera!r}, {session!r}, {track!r}"
            )
        return super().__new__(cls, site, camera, session, track)

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]  # typeshed's has a type variable of its own
        """What `_replace` makes a key of; Any: the four fields."""
        return cls(*iterable)


@dataclass(frozen=True, slots=True)
class Sighting:
    """One track, as the rest of the system sees it; the revision with the highest number replaces the others.

    `start` and `end` are the first and the latest time that the camera saw the person, with their zone; `state` says whether
    the track lasts, has ended, or was no person after all. `prototypes` are up to four unit vectors (n, length) float32,
    `quality` (n,) float32 their quality, 0..1, `pictures` (n,) how many pictures stand behind each; all are empty where no
    embedding was made. `network` is the hash and precision of what made them, "hash:precision", "" where nothing did.
    `path` (m, 3) float32 is where the feet were: seconds after `start`, x, y, at most one point a second. `path_on` says in
    which frame: "picture", in fractions 0..1 of the camera's picture, y downwards, or "floor", in metres on the floor plan.
    `stays` and `crossings` lie within the interval; a stay has no end only while the sighting is open.

    Two sightings are equal if `key` and `revision` are. Arrays are read-only: a writeable one is copied.
    """

    key: SightingKey
    revision: int
    state: State = field(compare=False)
    start: datetime = field(compare=False)
    end: datetime = field(compare=False)
    prototypes: Float32 = field(compare=False)
    quality: Float32 = field(compare=False)
    pictures: Int64 = field(compare=False)
    network: str = field(compare=False, default="")
    stays: tuple[Stay, ...] = field(compare=False, default=())
    crossings: tuple[Crossing, ...] = field(compare=False, default=())
    path: Float32 = field(compare=False, default_factory=lambda: NO_POINTS)
    path_on: Literal["picture", "floor"] = field(compare=False, default="picture")

    def __post_init__(self) -> None:
        if self.revision < 1:
            raise SightingError(f"sighting {self.key}: revisions count from 1, got {self.revision}")
        if self.state not in ("open", "closed", "withdrawn"):
            raise SightingError(f"sighting {self.key}: expected open, closed or withdrawn, got {self.state!r}")
        _check_times("sighting", self.key, self.start, self.end)
        for name in ("prototypes", "quality", "pictures", "path"):
            array = getattr(self, name)
            if array.flags.writeable:
                array = array.copy()
                array.setflags(write=False)
                object.__setattr__(self, name, array)
        self._check_vectors()
        for stay in self.stays:
            if stay.end is None and self.state != "open":
                raise SightingError(f"sighting {self.key}: it is {self.state}, but its stay in {stay.zone} has no end")
            if stay.start < self.start or (stay.end or stay.start) > self.end:
                raise SightingError(
                    f"sighting {self.key}: its stay in {stay.zone} {self._outside(stay.start, stay.end)}"
                )
        for crossing in self.crossings:
            if not self.start <= crossing.at <= self.end:
                raise SightingError(
                    f"sighting {self.key}: its crossing of {crossing.line} {self._outside(crossing.at, None)}"
                )
        if len(self.path) or self.path.shape != (0, 3):
            self._check_path()

    def _outside(self, start: datetime, end: datetime | None) -> str:
        when = start.isoformat() + (f" .. {end.isoformat()}" if end else "")
        return f"({when}) lies outside its time, {self.start.isoformat()} .. {self.end.isoformat()}"

    def _check_vectors(self) -> None:
        rows = len(self.prototypes)
        shapes = (self.prototypes.ndim, self.quality.shape, self.pictures.shape)
        if rows > MOST_PROTOTYPES or shapes != (2, (rows,), (rows,)):
            raise SightingError(
                f"sighting {self.key}: expected up to {MOST_PROTOTYPES} prototypes (n, length), each with a quality and a "
                f"number of pictures, got {self.prototypes.shape}, {self.quality.shape} and {self.pictures.shape}"
            )
        if (
            self.prototypes.dtype != np.float32
            or self.quality.dtype != np.float32
            or self.pictures.dtype.kind not in "iu"
        ):
            raise SightingError(
                f"sighting {self.key}: expected prototypes and quality in float32 and whole numbers of pictures, got "
                f"{self.prototypes.dtype}, {self.quality.dtype} and {self.pictures.dtype}"
            )
        if not rows:
            return
        # In plain numbers: four at most, where NumPy's calls take longer. A number that is not finite makes a length NaN.
        squared = np.einsum("ij,ij->i", self.prototypes, self.prototypes).tolist()
        if not all(abs(square - 1) <= 2 * LENGTH_OFF for square in squared):
            lengths = [math.sqrt(square) for square in squared]
            raise SightingError(
                f"sighting {self.key}: expected prototypes of length 1, got {lengths}; divide each by its own"
            )
        if not all(0 <= value <= 1 for value in self.quality.tolist()):
            raise SightingError(f"sighting {self.key}: expected quality of 0 to 1, got {self.quality.tolist()}")
        if min(self.pictures.tolist()) < 1:
            raise SightingError(
                f"sighting {self.key}: expected a picture or more behind each prototype, got {self.pictures.tolist()}"
            )

    def _check_path(self) -> None:
        if self.path.ndim != 2 or self.path.shape[1] != 3 or self.path.dtype != np.float32:
            raise SightingError(
                f"sighting {self.key}: expected a path (points, 3) float32, got {self.path.shape} {self.path.dtype}"
            )
        seconds = self.path[:, 0]
        slack = 1e-6 * float(seconds[-1]) + 1e-4  # of float32
        lasts = (self.end - self.start).total_seconds()
        finite = math.isfinite(float(self.path.sum()))  # one that is not makes the sum so
        if not finite or seconds[0] < 0 or seconds[-1] > lasts + slack:
            raise SightingError(
                f"sighting {self.key}: expected a path of finite numbers from 0 to {lasts:g} s, got {self.path.tolist()}"
            )
        if len(seconds) > 1 and (seconds[1:] - seconds[:-1]).min() < THINNED_S - slack:
            raise SightingError(
                f"sighting {self.key}: expected a path with at most one point a second, got {seconds.tolist()}"
            )
        if self.path_on == "picture" and not ((self.path[:, 1:] >= 0) & (self.path[:, 1:] <= 1)).all():
            raise SightingError(
                f"sighting {self.key}: expected a path in fractions 0 to 1 of the picture, got {self.path[:, 1:].tolist()}; "
                'in metres it needs path_on="floor"'
            )
        if self.path_on not in ("picture", "floor"):
            raise SightingError(
                f"sighting {self.key}: expected a path on the picture or the floor, got {self.path_on!r}"
            )


@dataclass(frozen=True, slots=True)
class Link:
    """Two sightings of one site held to be one person: `later` follows `earlier` with this posterior probability.

    `runner_up` is the next best sighting that `later` could have followed, with its probability; None where it had none.
    The revision with the highest number replaces the others. Equal if all of this is.
    """

    earlier: SightingKey
    later: SightingKey
    revision: int
    probability: float
    runner_up: SightingKey | None = None
    runner_up_probability: float = 0.0

    def __post_init__(self) -> None:
        what = f"link {self.earlier} - {self.later}"
        if self.earlier == self.later:
            raise SightingError(f"link: expected two sightings, got {self.earlier} twice")
        if self.revision < 1:
            raise SightingError(f"{what}: revisions count from 1, got {self.revision}")
        first, second = self.probability, self.runner_up_probability
        if not (0 <= first <= 1 and 0 <= second <= 1 and first + second <= 1 + 1e-6):
            raise SightingError(
                f"{what}: expected probabilities of 0 to 1, together 1 at most, got {first} and {second}"
            )
        if second > first:
            raise SightingError(f"{what}: its runner-up is likelier, {second} against {first}; link that one")
        if self.runner_up is None and second > 0:
            raise SightingError(f"{what}: its runner-up has a probability of {second}, but no key")
        if self.runner_up in (self.earlier, self.later):
            raise SightingError(f"{what}: its runner-up is one of the two")
        _check_site(what, self.earlier.site, (self.later, *([self.runner_up] if self.runner_up else [])))


@dataclass(frozen=True, slots=True)
class Walk:
    """What a heat map needs of a sighting; `path` and `path_on` are as there."""

    key: SightingKey
    start: datetime
    end: datetime
    path: Float32
    path_on: Literal["picture", "floor"]
    state: State = "closed"


@dataclass(frozen=True, slots=True)
class Visit:
    """A person's linked sightings at one site from entry to exit, in order of their start; revised while its window is open.

    `name` is unique within its site. `person` is an anonymous key that several visits of one person share, None where none
    was given. A visit that another one absorbed says so in `merged_into` and holds no sighting any more: they are the
    other's. One that was no visit after all, such as a passer-by's, is `withdrawn` and holds none. One that was cut off
    another names it in `split_from`. A `final` one is not revised again. Whoever keeps visits counts `current` ones. Equal
    if all of this is.
    """

    site: str
    name: str
    revision: int
    sightings: tuple[SightingKey, ...]
    start: datetime
    end: datetime
    person: str | None = None
    merged_into: str | None = None
    split_from: str | None = None
    final: bool = False
    withdrawn: bool = False

    def __post_init__(self) -> None:
        what = f"visit {self.name!r}"
        if not self.site or not self.name or self.revision < 1:
            raise SightingError(
                f"{what}: expected a site, a name and a revision from 1, got {self.site!r}, {self.name!r}, {self.revision}"
            )
        _check_times("visit", self.name, self.start, self.end)
        for role in ("person", "merged_into", "split_from"):
            if getattr(self, role) == "":
                raise SightingError(f"{what}: expected {role} to be a name or None, got an empty one")
        if self.name in (self.merged_into, self.split_from):
            raise SightingError(f"{what}: it cannot be merged into or split from itself")
        if self.withdrawn and (self.sightings or self.merged_into is not None):
            raise SightingError(f"{what}: it is withdrawn; expected no sightings and no merged_into")
        if self.merged_into is None and not self.sightings and not self.withdrawn:
            raise SightingError(
                f"{what}: expected sightings, got none; one that was absorbed names the other in merged_into"
            )
        if self.merged_into is not None and self.sightings:
            raise SightingError(
                f"{what}: it was merged into {self.merged_into}, which has its sightings now; expected none, got "
                f"{len(self.sightings)}"
            )
        _check_once(what, self.sightings)
        _check_site(what, self.site, self.sightings)


@dataclass(frozen=True, slots=True)
class Partition:
    """One way to share sightings of one site out among people: a chain of keys for each person, in order of time.

    `false` are the sightings left over, which were nobody. Chains are kept in the order of their keys, and so are the false
    ones, so that two partitions are equal if they share alike.
    """

    people: tuple[tuple[SightingKey, ...], ...]
    false: tuple[SightingKey, ...] = ()

    def __post_init__(self) -> None:
        if not all(self.people):
            raise SightingError("partition: expected a sighting or more for each person, got a chain without one")
        every = [key for chain in (*self.people, self.false) for key in chain]
        _check_once("partition", every)
        if every:
            _check_site("partition", every[0].site, every)
        object.__setattr__(self, "people", tuple(sorted(self.people)))
        object.__setattr__(self, "false", tuple(sorted(self.false)))


def moved(sighting: Sighting, by: timedelta) -> Sighting:
    """The same sighting so much later, or earlier: with its stays and crossings."""
    if not by:
        return sighting
    return replace(
        sighting,
        start=sighting.start + by,
        end=sighting.end + by,
        stays=tuple(replace(s, start=s.start + by, end=s.end and s.end + by) for s in sighting.stays),
        crossings=tuple(replace(c, at=c.at + by) for c in sighting.crossings),
    )


def current(visits: Iterable[Visit]) -> list[Visit]:
    """The visits that there are: of each site and name the newest revision, without those absorbed or withdrawn.

    `visits` are revisions in any order, some perhaps twice. Returns them in order of their start, then site and name.
    Raises SightingError where two that differ have one number.

    >>> from datetime import UTC
    >>> noon, key = datetime(2026, 3, 2, 12, tzinfo=UTC), SightingKey("shop", "door", "a", 1)
    >>> one, other = Visit("shop", "v1", 1, (key,), noon, noon), Visit("shop", "v2", 1, (key._replace(track=2),), noon, noon)
    >>> absorbed = Visit("shop", "v2", 2, (), noon, noon, merged_into="v1")
    >>> [visit.name for visit in current([one, other])], [visit.name for visit in current([one, absorbed, other])]
    (['v1', 'v2'], ['v1'])
    """
    newest: dict[tuple[str, str], Visit] = {}
    for visit in visits:
        kept = newest.setdefault((visit.site, visit.name), visit)
        if kept.revision == visit.revision and kept != visit:
            raise SightingError(f"visit {visit.name!r}: two that differ are called revision {visit.revision}")
        if visit.revision > kept.revision:
            newest[visit.site, visit.name] = visit
    there = (visit for visit in newest.values() if visit.merged_into is None and not visit.withdrawn)
    return sorted(there, key=lambda visit: (visit.start, visit.site, visit.name))


def _check_times(what: str, name: object, start: datetime, end: datetime | None) -> None:
    if start.tzinfo is None or (end is not None and end.tzinfo is None):
        raise SightingError(
            f"{what} {name}: a time needs its zone, such as 2026-03-01T10:00:00+00:00, got {start} .. {end}"
        )
    if end is not None and end < start:
        raise SightingError(f"{what} {name}: it ends at {end.isoformat()}, before it starts at {start.isoformat()}")


def _check_once(what: str, keys: Iterable[SightingKey]) -> None:
    seen: set[SightingKey] = set()
    for key in keys:
        if key in seen:
            raise SightingError(f"{what}: expected each sighting once, got {key} twice")
        seen.add(key)


def _check_site(what: str, site: str, keys: Iterable[SightingKey]) -> None:
    for key in keys:
        if key.site != site:
            raise SightingError(f"{what}: expected sightings of one site, got {site!r} and {key.site!r}")


def _check_place(what: str, points: tuple[Point, ...], camera: str | None) -> None:
    if camera == "":
        raise SightingError(f"{what}: expected the name of a camera, or None on the floor plan, got an empty one")
    for point in points:
        if not all(math.isfinite(value) for value in point):
            raise SightingError(f"{what}: expected finite numbers, got {point}")
        if camera is not None and not all(0 <= value <= 1 for value in point):
            raise SightingError(
                f"{what}: on the picture of camera {camera!r} expected fractions 0 to 1, got {point}; divide pixels by the "
                "picture's width and height, and give metres without a camera"
            )


def _check_simple(what: str, corners: tuple[Point, ...]) -> None:
    """Raise where a polygon is flat, or two of its sides share more than the corner between them."""
    sides = list(pairwise((*corners, corners[0])))
    if len(set(corners)) < len(corners):
        raise SightingError(f"{what}: expected each corner once (the last side closes by itself), got {corners}")
    far, away = max(combinations(corners, 2), key=lambda pair: math.dist(*pair))
    if max(abs(_turn(far, away, corner)) for corner in corners) <= 1e-9 * math.dist(far, away) ** 2:
        raise SightingError(f"{what}: expected an area, got corners on one line: {corners}")
    for (i, one), (j, other) in combinations(enumerate(sides), 2):
        if j - i == 1 or (i == 0 and j == len(sides) - 1):  # neighbours: one corner in common, neither folds back
            touching = (
                _on(one[0], other) or _on(other[1], one) if j - i == 1 else _on(one[1], other) or _on(other[0], one)
            )
        else:
            touching = _meet(one, other)
        if touching:
            raise SightingError(f"{what}: its sides {one[0]} - {one[1]} and {other[0]} - {other[1]} cross or touch")


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _on(point: Point, side: tuple[Point, Point]) -> bool:
    """Whether a point lies on a side."""
    (ax, ay), (bx, by) = side
    return (
        _turn(*side, point) == 0 and min(ax, bx) <= point[0] <= max(ax, bx) and min(ay, by) <= point[1] <= max(ay, by)
    )


def _meet(one: tuple[Point, Point], other: tuple[Point, Point]) -> bool:
    """Whether two sides have a point in common."""
    if any(_on(point, other) for point in one) or any(_on(point, one) for point in other):
        return True
    return (_turn(*one, other[0]) > 0) != (_turn(*one, other[1]) > 0) and (_turn(*other, one[0]) > 0) != (
        _turn(*other, one[1]) > 0
    )
