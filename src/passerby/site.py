"""A site as its TOML file describes it: cameras and places, one class for every room; nothing is done with them here."""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import combinations, pairwise
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from passerby.config import STRICT, load_toml
from passerby.files import settings_hash
from passerby.shop import Line, Point, Zone
from passerby.types import ConfigError, SightingError

FLOOR_POINTS = 4  # pairs of points that tie a picture to the floor, at least
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAY = timedelta(days=1)
WATCHED = ("name", "cameras", "time_zone", "zones", "lines", "overlaps", "reentry_h")  # what `Site.sha256` is made of
DRAFT = """# A site: what its cameras see, and what is kept of it. `passerby check-site` draws it, `passerby serve` follows it.
# Every setting is in docs/follow.md.
name = {name}
time_zone = {time_zone}
precision = {precision}       # of the network on this machine; another one would not know again whom this one saw
# retention_days = 30    # how long personal detail is kept
# k = 10                 # personal detail is not shown of groups of fewer people
# holidays = [2026-12-25, 2026-12-26]

# [hours]                # without it the site is always open; a weekday that is left out is closed
# monday = ["09:00-12:30", "14:00-18:30"]
# saturday = ["10:00-16:00"]

{cameras}
# A line at a door, in fractions of the camera's picture: from the left, from the top. Who crosses it from its left, as seen
# from start towards end, goes in. Without one nobody's entry is counted.
# [[lines]]
# name = "door"
# camera = {camera}
# start = [0.1, 0.6]
# end = [0.9, 0.6]

# [[zones]]
# name = "checkout"
# camera = {camera}
# corners = [[0.2, 0.5], [0.8, 0.5], [0.9, 1.0], [0.1, 1.0]]

# [[queues]]             # a zone in which people wait
# zone = "checkout"

# [[alerts]]
# name = "long queue"
# zone = "checkout"
# above = 4              # people,
# for_s = 30             # for so long
"""


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
            raise ValueError(f"{what}: expected a name and a source, got none")
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
    """A zone as the file has it; see `shop.Zone`: with a `camera` in fractions of its picture, else in metres on the floor.

    On the floor it is watched by every camera that is tied to the floor, or by those of `seen_by` alone. No two of them may
    see the same floor (`Site.overlaps`): both would count who is there.
    """

    name: str
    corners: tuple[Point, ...]
    camera: str | None = None
    seen_by: tuple[str, ...] = field(default=(), repr=False)
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        Zone(self.name, self.corners, self.camera)


@dataclass(frozen=True, slots=True)
class LineSite:
    """A counting line as the file has it; see `shop.Line`. Who crosses a `door` inwards begins a visit, outwards ends it.

    On the floor it is watched by every camera that is tied to the floor, or by those of `seen_by` alone. No two of them may
    see the same floor (`Site.overlaps`): both would count who crosses it.
    """

    name: str
    start: Point
    end: Point
    camera: str | None = None
    door: bool = True
    seen_by: tuple[str, ...] = field(default=(), repr=False)
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        Line(self.name, self.start, self.end, self.camera)


@dataclass(frozen=True, slots=True)
class Hours:
    """When a site is open, by its own clock: of each weekday, times such as "09:00-12:30"; a weekday without any is closed.

    Who closes after midnight writes "18:00-02:00": the time belongs to the day on which it begins. Raises ValueError for
    others, and for times of one day that overlap.
    """

    monday: tuple[str, ...] = ()
    tuesday: tuple[str, ...] = ()
    wednesday: tuple[str, ...] = ()
    thursday: tuple[str, ...] = ()
    friday: tuple[str, ...] = ()
    saturday: tuple[str, ...] = ()
    sunday: tuple[str, ...] = ()
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        for number, name in enumerate(WEEKDAYS):
            spans = self.of(number)
            for (_, end), (start, _) in pairwise(spans):
                if start < end:
                    raise ValueError(
                        f"hours: {name}: expected times in order that do not overlap, got {', '.join(getattr(self, name))}"
                    )
        if not any(self.of(number) for number in range(7)):
            raise ValueError(
                "hours: expected a weekday or more with times; leave [hours] out where the site is always open"
            )

    def of(self, weekday: int) -> list[tuple[int, int]]:
        """The times of a weekday, 0 is Monday: (start, end) in minutes from midnight; an end may lie on the next day."""
        return [_span(WEEKDAYS[weekday], text) for text in getattr(self, WEEKDAYS[weekday])]


@dataclass(frozen=True, slots=True)
class Queue:
    """A zone in which people wait to be served; `staff_zone` is where those stand who serve them."""

    zone: str
    staff_zone: str | None = None
    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that is said when it has lasted for `for_s`: more than `above` people, or seconds of waiting.

    `measure` "people" counts those in `zone`, or in the whole site without one; "waiting_s" is how long whoever waits longest
    in the queue `zone` has waited.
    """

    name: str
    above: float
    measure: Literal["people", "waiting_s"] = "people"
    zone: str | None = None
    for_s: float = 0.0
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not self.name or not 0 <= self.above < math.inf or not 0 <= self.for_s <= 86400:
            raise ValueError(
                f"alert {self.name!r}: expected a name, above of 0 or more and for_s of 0 to 86400, got above {self.above} and "
                f"for_s {self.for_s}"
            )


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told of `events`, signed with the secret in `secret_file`, which lies beside the site's file."""

    url: str
    secret_file: str
    events: tuple[Literal["counts", "crossing", "camera", "part", "alert"], ...] = ("alert", "camera")
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if re.match(r"https?://[^/\s]", self.url, re.I) is None:
            raise ValueError("webhooks: expected a url that begins with https:// or http://")
        if not self.events or len(set(self.events)) < len(self.events):
            raise ValueError(f"webhooks: expected an event or more, each once, got {', '.join(self.events)}")


@dataclass(frozen=True, slots=True)
class Mqtt:
    """An MQTT server that is told of counts, cameras and alerts below `prefix`, and of what there is below `discovery`.

    The password stands in `password_file`, which lies beside the site's file.
    """

    host: str
    port: int = 1883
    username: str | None = None
    password_file: str | None = None
    tls: bool = False
    prefix: str = "passerby"
    discovery: str = "homeassistant"
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not self.host or not 1 <= self.port <= 65535:
            raise ValueError(f"mqtt: expected a host and a port of 1 to 65535, got {self.host!r} and {self.port}")
        if self.password_file is not None and self.username is None:
            raise ValueError("mqtt: a password_file needs a username")
        for name in (self.prefix, self.discovery):
            if re.fullmatch(r"[^/+#\s][^+#\s]*(?<!/)", name) is None:
                raise ValueError(f"mqtt: expected topics without spaces, + and #, and no / at their ends, got {name!r}")


@dataclass(frozen=True)
class Site:
    """A site: its cameras, its places, its time zone, and how long a person who left is known again (`reentry_h`).

    `overlaps` names pairs of cameras that see the same floor; all others are taken to share no view. It is open in `hours`
    (None is always), and closed on `holidays`. Personal detail is kept for `retention_days`, and not shown of groups of fewer
    than `k` people. `model`, `precision`, `mode` and `detector` are what people are told apart and found with. Waiting is
    measured in `queues`, and who stays in `staff_zones` belongs to the staff. Who passes by crosses a line of `passing`.
    `alerts` are what is said at once. With `draws` other ways to link people are drawn, which give visits an
    interval. The people of a `simulated` site are nobody, and its pages say so. With `guests` who enrolled is recognised.
    """

    name: str
    cameras: tuple[Camera, ...]
    time_zone: str = "UTC"
    zones: tuple[ZoneSite, ...] = ()
    lines: tuple[LineSite, ...] = ()
    overlaps: tuple[tuple[str, str], ...] = ()
    reentry_h: float = 3.0
    hours: Hours | None = None
    holidays: tuple[date, ...] = ()
    retention_days: int = 30
    k: int = 10
    model: str = "osnet_x0_75"
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    mode: Literal["visitor-counting", "customer-journey", "high-precision"] = "customer-journey"
    detector: str = "person_detector"
    queues: tuple[Queue, ...] = ()
    staff_zones: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    alerts: tuple[Alert, ...] = ()
    webhooks: tuple[Webhook, ...] = ()
    mqtt: Mqtt | None = None
    draws: bool = False
    simulated: bool = False
    guests: bool = False
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
            tied = [camera.name for camera in self.cameras if camera.on_floor]
            if place.seen_by and (place.camera is not None or not set(place.seen_by) <= set(tied)):
                raise ValueError(
                    f"{place.name}: seen_by is of a place on the floor, and names cameras with a mount or floor_points "
                    f"({', '.join(tied) or 'none'}), got {', '.join(place.seen_by)}"
                )
        for pair in self.overlaps:
            if len(set(pair)) != 2 or not set(pair) <= set(known):
                raise ValueError(f"overlaps: expected pairs of {', '.join(known)}, got {pair}")
            for place in places:
                if all(_watches(self.camera(name), place) for name in pair):
                    raise ValueError(
                        f"{place.name}: {pair[0]} and {pair[1]} see the same floor (overlaps), and both would count who is "
                        "there; name the cameras that watch it in seen_by, of these two one"
                    )
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"time_zone: expected a name such as Europe/Paris, got {self.time_zone!r}") from None
        if not 0 <= self.reentry_h <= 24:
            raise ValueError(f"reentry_h: expected hours of 0 to 24, got {self.reentry_h}")
        if not 1 <= self.retention_days <= 3660:
            raise ValueError(f"retention_days: expected days of 1 to 3660, got {self.retention_days}")
        if not 1 <= self.k <= 1000:
            raise ValueError(f"k: expected a number of people of 1 to 1000, got {self.k}")
        if not self.model or not self.detector:
            raise ValueError(
                "model and detector: expected a name or a path, got an empty one; leave out what is not chosen"
            )
        self._check_roles()

    def _check_roles(self) -> None:
        """Raise where a queue, a staff zone or an alert names what is not there, or is there twice."""
        zones = [zone.name for zone in self.zones]
        named = [
            *(("queues", queue.zone) for queue in self.queues),
            *(("queues: staff_zone", queue.staff_zone) for queue in self.queues if queue.staff_zone is not None),
            *(("staff_zones", zone) for zone in self.staff_zones),
            *((f"alert {alert.name!r}", alert.zone) for alert in self.alerts if alert.zone is not None),
        ]
        for what, zone in named:
            if zone not in zones:
                raise ValueError(f"{what}: expected a zone ({', '.join(zones) or 'there is none'}), got {zone!r}")
        lines = [line.name for line in self.lines if not line.door]
        if unknown := sorted(set(self.passing) - set(lines)):
            raise ValueError(
                f"passing: expected lines that are no doors ({', '.join(lines) or 'there is none'}), got {unknown[0]!r}"
            )
        queues = [queue.zone for queue in self.queues]
        staff = {*self.staff_zones, *(queue.staff_zone for queue in self.queues)}
        if both := sorted(staff & set(queues), key=str):
            raise ValueError(f"queues: {both[0]!r} is where staff stands, too; who waits there could not be told apart")
        for what, names in (
            ("queues", queues),
            ("staff_zones", list(self.staff_zones)),
            ("passing", list(self.passing)),
            ("holidays", [str(day) for day in self.holidays]),
            ("alerts", [alert.name for alert in self.alerts]),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{what}: expected each once, got {twice[0]!r} twice")
        for alert in self.alerts:
            if alert.measure == "waiting_s" and alert.zone not in queues:
                raise ValueError(
                    f"alert {alert.name!r}: waiting is measured in queues ({', '.join(queues) or 'there is none'}), got zone "
                    f"{alert.zone!r}"
                )

    def camera(self, name: str) -> Camera:
        """The camera of that name."""
        return next(camera for camera in self.cameras if camera.name == name)

    def source(self, camera: Camera) -> str:
        """A camera's source, a relative file from the site's folder on."""
        return camera.source if camera.live else str(self.folder / camera.source)

    def zones_of(self, camera: Camera) -> list[Zone]:
        """The zones that a camera watches: those drawn on its picture, and those on the floor where it is tied to it."""
        return [Zone(zone.name, zone.corners, zone.camera) for zone in self.zones if _watches(camera, zone)]

    def lines_of(self, camera: Camera) -> list[Line]:
        """The lines that a camera watches."""
        return [Line(line.name, line.start, line.end, line.camera) for line in self.lines if _watches(camera, line)]

    @property
    def doors(self) -> frozenset[str]:
        """The names of the lines that are doors."""
        return frozenset(line.name for line in self.lines if line.door)

    @property
    def sha256(self) -> str:
        """A hash of what decides how cameras are watched; hours, retention and the like change nothing of it."""
        watched = ", ".join(f"{name}={getattr(self, name)!r}" for name in WATCHED)
        places: tuple[ZoneSite | LineSite, ...] = (*self.zones, *self.lines)
        watched += "".join(f", {place.name!r} by {place.seen_by}" for place in places if place.seen_by)
        return settings_hash(f"Site({watched}, folder={Path()!r})")

    def openings(self, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
        """The times at which the site is open from `since` to `until`, in order, cut off at both; in UTC.

        Wall times, so that 09:00 is 09:00 before and after a night in which the clock changes. A site without `hours` is
        always open, but on holidays.
        """
        zone = ZoneInfo(self.time_zone)
        day, last = since.astimezone(zone).date() - DAY, until.astimezone(zone).date()  # yesterday's may end today
        found: list[tuple[datetime, datetime]] = []
        while day <= last:
            spans = [(0, 24 * 60)] if self.hours is None else self.hours.of(day.weekday())
            for start, end in () if day in self.holidays else spans:
                opens, closes = max(_wall(day, start, zone), since), min(_wall(day, end, zone), until)
                if found and opens <= found[-1][1]:
                    found[-1] = found[-1][0], max(found[-1][1], closes)
                elif opens < closes:
                    found.append((opens, closes))
            day += DAY
        return [(opens.astimezone(UTC), closes.astimezone(UTC)) for opens, closes in found]

    def closings(self, since: datetime, until: datetime) -> list[datetime]:
        """When the site closes after `since` and by `until`, in UTC; one without `hours` closes at midnight for a moment."""
        if self.hours is not None:
            return [end for _, end in self.openings(since - 8 * DAY, until + DAY) if since < end <= until]
        zone = ZoneInfo(self.time_zone)
        days = (until.astimezone(zone).date() - since.astimezone(zone).date()).days
        midnights = (_wall(since.astimezone(zone).date() + n * DAY, 0, zone).astimezone(UTC) for n in range(days + 1))
        return [midnight for midnight in midnights if since < midnight <= until]


def draft(name: str, cameras: Iterable[tuple[str, str, datetime | None]], *, time_zone: str, precision: str) -> str:
    """A site's file to begin with, as TOML with comments; `cameras` are (name, source, when a recording begins).

    What can be known is said; what cannot stands in comments, with an example. Raises ConfigError without a camera.
    """
    blocks, first = [], ""
    for camera, source, begins in cameras:
        dated = f"begins = {begins.isoformat()}\n" if begins is not None else ""
        blocks.append(
            f"[[cameras]]\nname = {_toml(camera)}\nsource = {_toml(source)}\n{dated}"
            "# rate = 5.0             # pictures a second that are looked at\n"
            "# masks = [[[0.0, 0.0], [0.2, 0.0], [0.2, 1.0], [0.0, 1.0]]]  # parts of the picture that nobody may see\n"
        )
        first = first or camera
    if not blocks:
        raise ConfigError("site: expected a camera at least")
    return DRAFT.format(
        name=_toml(name),
        time_zone=_toml(time_zone),
        precision=_toml(precision),
        cameras="\n".join(blocks),
        camera=_toml(first),
    )


def _toml(text: str) -> str:
    """A text as TOML has it, in one line; JSON's escapes are TOML's, too."""
    return json.dumps(text, ensure_ascii=False)


def _span(name: str, text: str) -> tuple[int, int]:
    """A time of opening as minutes from midnight."""
    match = re.fullmatch(r"(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)", text)
    if match is not None:
        hour, minute, end_hour, end_minute = map(int, match.groups())
        start, end = 60 * hour + minute, 60 * end_hour + end_minute
        if hour < 24 and minute < 60 and end_minute < 60 and end <= 24 * 60 and start != end:
            return start, end if end > start else end + 24 * 60
    raise ValueError(f'hours: {name}: expected times such as "09:00-18:30", got {text!r}')


def _wall(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """When a clock in `zone` shows that time: of two the first; one that is left out is as the clock before would show it."""
    days, minute = divmod(minutes, 24 * 60)
    shown = datetime.combine(day + days * DAY, time(minute // 60, minute % 60), tzinfo=zone)
    return shown.astimezone(UTC)


def _watches(camera: Camera, place: ZoneSite | LineSite) -> bool:
    """Whether a place lies in a camera's picture, or on the floor that it sees."""
    if place.camera is not None:
        return place.camera == camera.name
    return camera.on_floor and (not place.seen_by or camera.name in place.seen_by)


def load_site(path: Path) -> Site:
    """Read a site's TOML file; relative sources are looked for beside it. Raises ConfigError for what cannot be."""
    try:
        site = load_toml(path, Site)
    except SightingError as error:
        raise ConfigError(f"{path}: {error}") from None
    object.__setattr__(site, "folder", path.parent)
    return site
