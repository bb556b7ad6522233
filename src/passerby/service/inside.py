"""Who is inside at this moment, by the visits as they come: what doors missed is repaired by who is seen. No clock, no SQL."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heappop, heappush

from passerby.service.analytics import LOST_S
from passerby.shop import Sighting, SightingKey, Visit


@dataclass(frozen=True, slots=True)
class _Seen:
    start: datetime
    end: datetime
    lasts: bool
    door: bool  # by a camera at a door
    ways: tuple[tuple[datetime, bool], ...]  # over doors: when, and whether inwards


@dataclass(slots=True)
class _Whole:
    """What is known of one person: a visit, or a sighting that is of none yet."""

    start: datetime
    end: datetime
    entered: bool
    lasts: bool = False
    left: bool = False
    passing: bool = True  # seen by cameras at doors only, and over no door


class Inside:
    """Counts who is inside now, as `analytics.inside` does for times that have passed.

    Whoever was not seen to leave is inside until he was lost from sight for `lost_s`. One that was lost goes on in another that
    begins inside, whoever was lost first. A sighting counts by itself until it is known of which visit it is.
    """

    def __init__(self, *, doors: Iterable[str], door_cameras: Iterable[str], lost_s: float = LOST_S) -> None:
        self._doors, self._at_doors = frozenset(doors), frozenset(door_cameras)
        self._lost = timedelta(seconds=lost_s)
        self._seen: dict[SightingKey, _Seen] = {}
        self._holder: dict[SightingKey, str] = {}
        self._visits: dict[str, tuple[datetime, bool]] = {}  # when each began, and whether by a door

    def see(self, each: Sighting) -> None:
        """Take in a revision of a sighting that is newer than what was known of it."""
        if each.state == "withdrawn":
            self._seen.pop(each.key, None)
            return
        ways = tuple(sorted((c.at, c.inwards) for c in each.crossings if c.line in self._doors))
        at_door = each.key.camera in self._at_doors
        self._seen[each.key] = _Seen(each.start, each.end, each.state == "open", at_door, ways)

    def link(self, visits: Iterable[Visit]) -> None:
        """Take in new revisions of visits."""
        for visit in visits:
            for key in [key for key, name in self._holder.items() if name == visit.name]:
                del self._holder[key]
            if not visit.sightings:
                self._visits.pop(visit.name, None)
                continue
            self._holder |= dict.fromkeys(visit.sightings, visit.name)
            known = [self._seen[key] for key in visit.sightings if key in self._seen]
            entered = self._visits.get(visit.name, (visit.start, False))[1]
            entered = entered or any(inwards for each in known for _, inwards in each.ways)
            self._visits[visit.name] = visit.start, entered

    def holder(self, key: SightingKey) -> str | None:
        """The visit that a sighting is of, None while that is not known."""
        return self._holder.get(key)

    def count(self, now: datetime, *, closed: datetime | None = None) -> int:
        """How many are inside; nobody who was seen last before the site `closed`."""
        self._forget(now)
        lost: list[datetime] = []  # when they were seen last, a heap
        there = 0
        for each in sorted(self._people(), key=lambda each: each.start):
            if each.passing or (closed is not None and each.end <= closed):
                continue
            if not each.entered and lost and lost[0] <= each.start:
                heappop(lost)
                there -= 1
            if not each.left:
                there += 1
                if not each.lasts:
                    heappush(lost, each.end)
        return there

    def _people(self) -> list[_Whole]:
        found: dict[object, _Whole] = {}
        last: dict[object, datetime] = {}  # over a door
        for key, seen in self._seen.items():
            name = self._holder.get(key)
            start, entered = (seen.start, False) if name is None else self._visits.get(name, (seen.start, False))
            who: object = key if name is None else name
            each = found.setdefault(who, _Whole(start, seen.end, entered))
            each.end, each.lasts = max(each.end, seen.end), each.lasts or seen.lasts
            each.passing = each.passing and seen.door and not seen.ways
            for at, inwards in seen.ways:
                each.entered = each.entered or inwards
                if who not in last or at >= last[who]:
                    last[who], each.left = at, not inwards
        return list(found.values())

    def _forget(self, now: datetime) -> None:
        """Forget who was lost for too long, or left so long ago."""
        gone = {key for key, seen in self._seen.items() if now - seen.end > self._lost}
        if gone:
            self._seen = {key: seen for key, seen in self._seen.items() if key not in gone}
            self._holder = {key: name for key, name in self._holder.items() if key in self._seen}
            held = set(self._holder.values())
            self._visits = {name: known for name, known in self._visits.items() if name in held}
