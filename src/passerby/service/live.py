"""What a site shows at this moment, for the API, the pages and whoever is told of changes; no SQL, no clock of its own."""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import chain
from threading import Lock
from typing import Any, Literal
from zoneinfo import ZoneInfo

from passerby.service import analytics
from passerby.service.inside import Inside
from passerby.shop import Crossing, Sighting, SightingKey, Visit
from passerby.site import Site
from passerby.vision.associate import Changes
from passerby.vision.visits import passages

KEPT = 1000  # changes that a listener who was away may still hear of
FRESH = timedelta(seconds=10)  # an open sighting is refreshed every 2 s; longer silence is absence
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
FLOWING = timedelta(seconds=60)  # health: data came in this time
Phase = Literal["starting", "live", "stalled", "failed", "stopped"]
Kind = Literal["state", "counts", "crossing", "cameras", "part", "alert"]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the process tree ("vision", "associator", "draws", "store", "web"): what it does since when, and why."""

    name: str
    phase: Phase
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class CameraState:
    """One camera, as the last second showed it.

    `newest` is the time of its newest frame, `rate` frames a second, `lag_s` the seconds from a frame to what was made of it.
    `frames`, `dropped` (a newer one came first) and `skipped` (not looked at, by choice) count since it was started.
    """

    camera: str
    phase: Phase
    reason: str
    since: datetime
    newest: datetime | None
    rate: float
    lag_s: float | None
    frames: int
    dropped: int
    skipped: int
    reconnects: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that somebody should see to: it begins (`on`) and ends. `name` is its own, such as "queue: till"."""

    name: str
    on: bool
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Now:
    """The site at one moment.

    `occupancy` people are inside; there were so many `entries` and `exits` since `day` began; `seen` are in view of a camera,
    and so many in each of `zones`.
    """

    site: str
    time_zone: str
    at: datetime
    day: datetime
    occupancy: int
    entries: int
    exits: int
    seen: int
    zones: dict[str, int]
    cameras: tuple[CameraState, ...]
    parts: tuple[Part, ...]
    alerts: tuple[Alarm, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """A change, in plain types. Who was away says the last `id` that he has, and hears of what came since."""

    id: str
    kind: Kind
    at: datetime
    data: dict[str, Any]  # Any: text, numbers, times, lists


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is kept of a sighting of today."""

    revision: int
    crossings: tuple[Crossing, ...]


class Live:
    """What a site shows now. Every method may be called from any thread.

    Today is the day of the site's clock; entries and exits begin anew at midnight, and who is inside at closing time: of a site
    that is open past midnight nobody is forgotten before it closes. A person who is seen by two cameras at once counts once
    when their sightings are of one visit.
    """

    def __init__(self, site: Site, *, clock: Callable[[], datetime]) -> None:
        self._site, self._clock, self._zone = site, clock, ZoneInfo(site.time_zone)
        self._lock = Lock()
        self._parts: dict[str, Part] = {}
        self._cameras: dict[str, CameraState] = {}
        self._pictures: dict[str, tuple[bytes, datetime]] = {}
        self._alerts: dict[str, Alarm] = {}
        self._seen: dict[SightingKey, _Seen] = {}
        self._lasting: dict[SightingKey, tuple[datetime, frozenset[str]]] = {}  # seen until when, in which zones
        at_doors = {
            camera.name for camera in site.cameras if any(line.name in site.doors for line in site.lines_of(camera))
        }
        self._inside = Inside(doors=site.doors, door_cameras=at_doors)
        self._sees_inside = bool(at_doors) and len(at_doors) < len(
            site.cameras
        )  # else the doors alone tell who is there
        self._looked: datetime | None = None  # when it was looked up when the site closed last,
        self._last: datetime | None = None
        self._stored: tuple[datetime, ...] = ()  # beside what the store says of that
        self._left: tuple[datetime, int] | None = None  # the last closing that was lived through, and who was inside
        self._before: list[Crossing] = []  # from before the start, of sightings that are not known
        self._day, self._closed_at = self._midnight(), self._closing(clock())
        self._run, self._number = secrets.token_hex(4), 0
        self._changes: deque[Event] = deque(maxlen=KEPT)
        self._listeners: set[Callable[[], None]] = set()
        self._closed = False
        self._through = Counter[bool]()  # entries (True) and exits of today
        self._people: int | None = 0  # by the doors alone; None: to be counted anew
        self._newest = self._since  # of the crossings that made them
        self._count_doors()
        self._said = self._counts(clock())

    # What comes in

    def begin(
        self,
        crossings: Iterable[Crossing],
        sightings: Iterable[Sighting],
        visits: Iterable[Visit] = (),
        *,
        closings: Iterable[datetime] = (),
    ) -> None:
        """Take in what the store has, so that a restart does not begin at 0.

        `crossings` and `closings` are those of the last two days. `sightings`, which may hold some of the crossings, and
        `visits` are those of the last minutes.
        """
        with self._lock:
            self._stored, self._looked = tuple(sorted(closings)), None
            self._closed_at = self._closing(self._clock())
            known: Counter[Crossing] = Counter()
            for each in sightings:
                self._take(each)
                known.update(passages(each.crossings))
            self._inside.link(visits)
            self._before = list((Counter(c for c in crossings if c.at >= self._since) - known).elements())
            self._count_doors()
            self._said = self._counts(self._clock())

    def part(self, part: Part) -> None:
        """Say how a part of the process tree is."""
        with self._lock:
            if self._parts.get(part.name) != part:
                self._parts[part.name] = part
                self._say("part", part.since, asdict(part))

    def cameras(self, states: Sequence[CameraState]) -> None:
        """Say how cameras are, once a second or so."""
        with self._lock:
            changed = [state for state in states if self._cameras.get(state.camera) != state]
            self._cameras |= {state.camera: state for state in changed}
            now = self._clock()
            if changed:
                self._say("cameras", now, {"cameras": [asdict(state) for state in self._in_order()]})
            self._recount(now)  # who vanished is told, too

    def tell(self, sightings: Sequence[Sighting], changes: Changes) -> None:
        """Take in what the store has acknowledged; what is known already, or older, changes nothing."""
        with self._lock:
            now = self._clock()
            new = [(each.key.camera, crossing) for each in sightings for crossing in self._take(each)]
            self._inside.link(changes.visits)
            for camera, crossing in new:
                door = crossing.line in self._site.doors
                self._say("crossing", crossing.at, {"camera": camera, "door": door, **asdict(crossing)})
            self._recount(now)

    def show(self, camera: str, jpeg: bytes, at: datetime) -> None:
        """Keep the newest picture of a camera, with heads blurred and masks burned in already."""
        with self._lock:
            self._pictures[camera] = jpeg, at

    def alert(self, alert: Alarm) -> None:
        """Say that an alert begins or ends; one that is known to be so changes nothing."""
        with self._lock:
            if (alert.name in self._alerts) != alert.on:
                if alert.on:
                    self._alerts[alert.name] = alert
                else:
                    del self._alerts[alert.name]
                self._say("alert", alert.at, asdict(alert))

    def left_at(self, closing: datetime) -> int:
        """How many were thought to be inside when the site closed; 0 where this was not lived through."""
        with self._lock:
            self._turn(self._clock())
            return self._left[1] if self._left is not None and self._left[0] == closing else 0

    def close(self) -> None:
        """End every stream of events."""
        with self._lock:
            self._closed = True
            self._wake()

    # What is asked

    def now(self) -> Now:
        """The site at this moment."""
        with self._lock:
            return self._now()

    def picture(self, camera: str) -> tuple[bytes, datetime] | None:
        """A camera's newest picture as a JPEG, and when it was taken; None where none has come."""
        with self._lock:
            return self._pictures.get(camera)

    @property
    def listeners(self) -> int:
        """How many streams of events are open."""
        with self._lock:
            return len(self._listeners)

    async def events(self, last: str | None = None) -> AsyncIterator[Event]:
        """First the whole state, then each change; for who was away since event `last`, the changes since, if they are kept."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(woken.set)

        with self._lock:
            place = self._place(last)
            self._listeners.add(wake)
        try:
            while True:
                woken.clear()
                with self._lock:
                    closed, heard, place = self._closed, self._after(place), self._number
                for event in heard:
                    yield event
                if closed:
                    return
                await woken.wait()
        finally:
            with self._lock:
                self._listeners.discard(wake)

    # Inside: the lock is held

    def _midnight(self) -> datetime:
        return analytics.midnight(self._clock().astimezone(self._zone).date(), self._zone)

    def _take(self, each: Sighting) -> list[Crossing]:
        """Keep a sighting's newest revision; the crossings of today that were not known."""
        known = self._seen.get(each.key)
        if known is not None and known.revision >= each.revision:
            return []
        had = known.crossings if known else ()
        through = () if each.state == "withdrawn" else passages(each.crossings)
        today = tuple(crossing for crossing in through if crossing.at >= self._since)
        new, gone = Counter(today) - Counter(had), Counter(had) - Counter(today)
        self._cross(new, gone)
        self._seen[each.key] = _Seen(each.revision, today)
        self._inside.see(each)
        if each.state == "open":
            zones = frozenset(stay.zone for stay in each.stays if stay.end is None)
            self._lasting[each.key] = each.end, zones
        else:
            self._lasting.pop(each.key, None)
        return list(new.elements())

    def _cross(self, new: Counter[Crossing], gone: Counter[Crossing]) -> None:
        """Count crossings of doors that came, and that were taken back."""
        through = sorted((c.at, c.inwards) for c in new.elements() if c.line in self._site.doors)
        back = [c for c in gone.elements() if c.line in self._site.doors]
        self._through.update(inwards for at, inwards in through if at >= self._day)
        self._through.subtract(c.inwards for c in back if c.at >= self._day)
        if back:
            self._people = None
        for at, inwards in through:
            if self._people is not None and at > self._newest:
                self._people, self._newest = max(0, self._people + (1 if inwards else -1)), at
            else:
                self._people = None  # out of order, or at one moment with another

    def _count_doors(self) -> None:
        """Count all crossings anew: those of today, and who is inside since the site closed last."""
        crossings = [*self._before, *chain.from_iterable(seen.crossings for seen in self._seen.values())]
        through = [crossing for crossing in crossings if crossing.line in self._site.doors]
        self._through = Counter(crossing.inwards for crossing in through if crossing.at >= self._day)
        closings = [] if self._closed_at is None else [self._closed_at]
        steps = analytics.occupancy(through, doors=self._site.doors, closings=closings)
        self._people, self._newest = (steps[-1].people, steps[-1].at) if steps else (0, self._since)

    @property
    def _since(self) -> datetime:
        """From when on crossings are kept."""
        return self._day if self._closed_at is None else min(self._day, self._closed_at)

    def _turn(self, now: datetime) -> None:
        """Begin a new day, and count anew who is inside after a closing; what is of the time before is forgotten."""
        day, closed = self._midnight(), self._closing(now)
        if closed is not None and (self._closed_at is None or closed > self._closed_at):
            self._left = closed, self._there(closed)
        if day <= self._day and closed == self._closed_at:
            return
        self._day, self._closed_at = max(day, self._day), closed
        self._before = [crossing for crossing in self._before if crossing.at >= self._since]
        kept = (
            (key, tuple(c for c in seen.crossings if c.at >= self._since), seen.revision)
            for key, seen in self._seen.items()
        )
        self._seen = {key: _Seen(revision, of) for key, of, revision in kept if of or key in self._lasting}
        self._lasting = {key: value for key, value in self._lasting.items() if now - value[0] <= FRESH}
        self._count_doors()

    def _there(self, now: datetime) -> int:
        """How many are inside: by the visits where a camera sees the inside, by the doors where none does."""
        if self._sees_inside:
            return self._inside.count(now, closed=self._closed_at)
        if self._people is None:
            self._count_doors()
        return self._people or 0

    def _counts(self, now: datetime) -> dict[str, Any]:  # Any: numbers, and one table of them
        self._turn(now)
        people: dict[str, set[object]] = {zone.name: set() for zone in self._site.zones}
        seen: set[object] = set()
        for key, (end, zones) in self._lasting.items():
            if self._watched_until(key.camera, now) - end <= FRESH:
                who = self._inside.holder(key) or key
                seen.add(who)
                for zone in zones:
                    people.setdefault(zone, set()).add(who)
        return {
            "occupancy": self._there(now),
            "entries": self._through[True],
            "exits": self._through[False],
            "seen": len(seen),
            "zones": {zone: len(there) for zone, there in people.items()},
        }

    def _watched_until(self, camera: str, now: datetime) -> datetime:
        """Up to when a camera's pictures were looked at, which lags behind on a busy machine; now, where it gives none."""
        state = self._cameras.get(camera)
        return now if state is None or state.newest is None or state.phase != "live" else min(now, state.newest)

    def _closing(self, now: datetime) -> datetime | None:
        """When the site closed last, yesterday or today, as `hours.Known` has it; looked up once a second."""
        if self._looked is None or not self._looked <= now < self._looked + SECOND:
            since = self._midnight() - DAY
            closings = [*self._site.closings(since, now), *(at for at in self._stored if since < at <= now)]
            self._looked, self._last = now, max(closings, default=None)
        return self._last

    def _now(self) -> Now:
        now = self._clock()
        counts = self._counts(now)
        return Now(
            self._site.name,
            self._site.time_zone,
            now,
            self._day,
            **counts,
            cameras=tuple(self._in_order()),
            parts=tuple(self._parts.values()),
            alerts=tuple(self._alerts.values()),
        )

    def _in_order(self) -> list[CameraState]:
        """The cameras' states, in the order of the site's file."""
        return [self._cameras[camera.name] for camera in self._site.cameras if camera.name in self._cameras]

    def _recount(self, now: datetime) -> None:
        counts = self._counts(now)
        if counts != self._said:
            self._said = counts
            self._say("counts", now, counts)

    def _say(self, kind: Kind, at: datetime, data: dict[str, Any]) -> None:  # Any: as in Event
        self._number += 1
        self._changes.append(Event(f"{self._run}-{self._number}", kind, at, data))
        self._wake()

    def _wake(self) -> None:
        for wake in tuple(self._listeners):
            try:
                wake()
            except RuntimeError:  # its loop has ended without it
                self._listeners.discard(wake)

    def _place(self, last: str | None) -> int | None:
        """The number of the event that a listener has, if what came since is kept; None where he needs the whole state."""
        run, _, number = (last or "").rpartition("-")
        if run != self._run or not (number.isascii() and number.isdigit()) or int(number) > self._number:
            return None
        return int(number)

    def _after(self, place: int | None) -> list[Event]:
        if place is None or place < self._number - len(self._changes):
            now = self._now()
            return [Event(f"{self._run}-{self._number}", "state", now.at, asdict(now))]
        missed = self._number - place
        return list(self._changes)[len(self._changes) - missed :]


def health(now: Now) -> tuple[Literal["ok", "degraded", "failed"], str]:
    """Whether data flowed in the last minute: "ok", "degraded" (not from every camera), "failed" (from none); and why."""
    broken = [part for part in now.parts if part.phase in ("failed", "stopped")]
    flowing = [each for each in now.cameras if each.newest is not None and now.at - each.newest <= FLOWING]
    if broken:
        return "failed", f"{broken[0].name}: {broken[0].phase}"
    if not flowing:
        return "failed", "no camera gave a frame in the last minute"
    if len(flowing) < len(now.cameras):
        return "degraded", f"{len(flowing)} of {len(now.cameras)} cameras gave frames in the last minute"
    return "ok", "every camera gave frames in the last minute"
