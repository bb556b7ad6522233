"""A site as its TOML file describes it: cameras and places, one class for every room; nothing is done with them here."""

import math
import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import combinations
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from passerby.config import STRICT, load_toml
from passerby.files import settings_hash
from passerby.shop import Line, Point, Zone
from passerby.types import ConfigError, SightingError

FLOOR_POINTS = 4  # pairs of points that tie a picture to the floor, at least


@dataclass(frozen=True, slots=True)
class Mount:
    """How a camera hangs: metres on and above the floor, degrees (heading counter-clockwise from x, tilt downwards)."""

    position: Point
    height_m: float
    heading_deg: float
    tilt_deg: float
    fov_deg: float
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not (self.height_m > 0 and -10 <= self.tilt_deg <= 90 and 10 <= self.fov_deg <= 150):
            raise ValueError("mount: expected height_m above 0, tilt_deg of -10 to 90 and fov_deg of 10 to 150")


@dataclass(frozen=True, slots=True)
class FloorPoint:
    """A point of the floor: where it lies in the picture, in fractions of its sides, and on the floor plan, in metres."""

    picture: Point
    floor: Point
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not all(0 <= value <= 1 for value in self.picture):
            raise ValueError(f"floor_points: expected fractions 0 to 1 of the picture, got {self.picture}")


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera: what it is called and where its pictures come from.

    `source` is a video file or a folder of pictures (relative to the site's file), a webcam (`/dev/video0`), or the URL of an
    RTSP or HTTP stream. `begins` is when a file was begun, where its own tags do not say so. `clock_offset_s` is how far the
    camera's clock is ahead. `rate` is how many pictures a second are looked at. Its picture is tied to the floor by a
    `mount`, or by four `floor_points` or more. `masks` are polygons, in fractions of the picture, that nobody may see: people
    in them are not followed, and they are burned into whatever is shown.
    """

    name: str
    source: str
    begins: datetime | None = None
    clock_offset_s: float = 0.0
    rate: float = 5.0
    mount: Mount | None = None
    floor_points: tuple[FloorPoint, ...] = ()
    masks: tuple[tuple[Point, ...], ...] = ()
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        what = f"camera {self.name!r}"
        if not self.name or not self.source:
            raise ValueError(f"{what}: expected a name and a source, got source {self.source!r}")
        if self.begins is not None and self.begins.tzinfo is None:
            raise ValueError(f"{what}: begins needs its zone, such as 2026-03-02T10:00:00Z, got {self.begins}")
        if not (math.isfinite(self.clock_offset_s) and 0 < self.rate <= 60):
            raise ValueError(f"{what}: expected a finite clock_offset_s and a rate of up to 60, got {self.rate}")
        if self.floor_points and (len(self.floor_points) < FLOOR_POINTS or self.mount is not None):
            raise ValueError(f"{what}: expected a mount, or {FLOOR_POINTS} floor_points or more, not both")
        for mask in self.masks:
            Zone("mask", mask, camera=self.name)

    @property
    def on_floor(self) -> bool:
        """Whether its picture is tied to the floor."""
        return self.mount is not None or bool(self.floor_points)

    @property
    def live(self) -> bool:
        """Whether its source goes on for ever: a stream or a webcam."""
        return self.source.startswith("/dev/video") or re.match(r"(rtsps?|https?)://", self.source, re.I) is not None


@dataclass(frozen=True, slots=True)
class ZoneSite:
    """A zone as the file has it; see `shop.Zone`: with a `camera` in fractions of its picture, else in metres on the floor."""

    name: str
    corners: tuple[Point, ...]
    camera: str | None = None
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        Zone(self.name, self.corners, self.camera)


@dataclass(frozen=True, slots=True)
class LineSite:
    """A counting line as the file has it; see `shop.Line`. Who crosses a `door` inwards begins a visit, outwards ends it."""

    name: str
    start: Point
    end: Point
    camera: str | None = None
    door: bool = True
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        Line(self.name, self.start, self.end, self.camera)


@dataclass(frozen=True)
class Site:
    """A site: its cameras, its places, its time zone, and how long a person who left is known again (`reentry_h`).

    `overlaps` names pairs of cameras that see the same floor; all others are taken to share no view.
    """

    name: str
    cameras: tuple[Camera, ...]
    time_zone: str = "UTC"
    zones: tuple[ZoneSite, ...] = ()
    lines: tuple[LineSite, ...] = ()
    overlaps: tuple[tuple[str, str], ...] = ()
    reentry_h: float = 3.0
    folder: Path = field(default=Path(), init=False, compare=False)  # that relative sources are looked for in
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        known = [camera.name for camera in self.cameras]
        if not self.name or not known:
            raise ValueError("a site needs a name and at least one camera")
        places: tuple[ZoneSite | LineSite, ...] = (*self.zones, *self.lines)
        for what, names in (("camera", known), ("place", [place.name for place in places])):
            for one, other in combinations(names, 2):
                if one == other:
                    raise ValueError(f"two {what}s have the name {one!r}; give each its own")
        for place in places:
            if place.camera is not None and place.camera not in known:
                raise ValueError(f"{place.name}: its camera {place.camera!r} is none of {', '.join(known)}")
            if place.camera is None and not any(camera.on_floor for camera in self.cameras):
                raise ValueError(
                    f"{place.name}: it lies on the floor, but no camera has a mount or floor_points; give one, or say in "
                    "which camera's picture it is drawn"
                )
        for pair in self.overlaps:
            if len(set(pair)) != 2 or not set(pair) <= set(known):
                raise ValueError(f"overlaps: expected pairs of {', '.join(known)}, got {pair}")
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"time_zone: expected a name such as Europe/Paris, got {self.time_zone!r}") from None
        if not 0 <= self.reentry_h <= 24:
            raise ValueError(f"reentry_h: expected hours of 0 to 24, got {self.reentry_h}")

    def camera(self, name: str) -> Camera:
        """The camera of that name."""
        return next(camera for camera in self.cameras if camera.name == name)

    def source(self, camera: Camera) -> str:
        """A camera's source, a relative file from the site's folder on."""
        return camera.source if camera.live else str(self.folder / camera.source)

    def zones_of(self, camera: Camera) -> list[Zone]:
        """The zones that a camera watches: those drawn on its picture, and those on the floor where it is tied to it."""
        zones = (Zone(zone.name, zone.corners, zone.camera) for zone in self.zones)
        return [zone for zone in zones if zone.camera == camera.name or (zone.camera is None and camera.on_floor)]

    def lines_of(self, camera: Camera) -> list[Line]:
        """The lines that a camera watches."""
        lines = (Line(line.name, line.start, line.end, line.camera) for line in self.lines)
        return [line for line in lines if line.camera == camera.name or (line.camera is None and camera.on_floor)]

    @property
    def doors(self) -> frozenset[str]:
        """The names of the lines that are doors."""
        return frozenset(line.name for line in self.lines if line.door)

    @property
    def sha256(self) -> str:
        """A hash of what decides how cameras are watched."""
        return settings_hash(repr(replace(self)))


def load_site(path: Path) -> Site:
    """Read a site's TOML file; relative sources are looked for beside it. Raises ConfigError for what cannot be."""
    try:
        site = load_toml(path, Site)
    except SightingError as error:
        raise ConfigError(f"{path}: {error}") from None
    object.__setattr__(site, "folder", path.parent)
    return site
