"""What visits and crossings amount to: pure functions without SQL and without a clock. docs/metrics.md defines each figure."""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from heapq import heappop, heappush
from itertools import count, groupby, pairwise
from statistics import median
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np

from passerby.service.kept import Counted, Gap, QueueEvent, Sales
from passerby.shop import Crossing, Sighting, Walk
from passerby.types import Float64, Int64, Interval, SightingError
from passerby.vision.visits import VisitRow
from passerby.vision.window import Drawn, Length

BOUNCE_S = 120.0  # a visit shorter than this is a bounce
LEAST_S = 5.0  # a stay has to be longer than this to be dwell
ENGAGED_S = 30.0  # in a zone, and somebody is engaged there
AGAIN_S = 30.0  # who is seen first inside so soon after one was lost inside is most likely that one
LOST_S = 600.0  # who was not seen for so long, and was not seen to leave, has gone
WEEKS, FEWEST = 8, 4  # that say what is usual: at most, and at least
UNUSUAL = 3.0  # robust deviations from the median
STAFF_S = 20.0  # in a staff zone, and it is staff;
PRESENT_S, BESIDE_S = 3 * 3600.0, 900.0  # so is who is there for so long in a day, or so far outside the opening times
TOGETHER_S, APART_S = 4.0, 10.0  # a group enters within so long of each other, and leaves so
SIDE_BY_SIDE = 0.5  # the part of their dwell that a group's members share
HEAT_S = 2.0  # a point of a path counts for so long at most
NORMAL_90 = 1.645  # deviations on each side that hold 90 %
LENGTHS: tuple[Length, ...] = ("hour", "day", "week")
QUANTILES = 0.05, 0.95  # of draws: an interval of 90 %
Way = tuple[str, ...]
Spans = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Period:
    """The time from `start` to before `end`, both in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None or not self.start < self.end:
            raise SightingError(
                f"period: expected a start before an end, with their zone, got {self.start}, {self.end}"
            )

    def __contains__(self, at: datetime) -> bool:
        return self.start <= at < self.end

    @property
    def seconds(self) -> float:
        """How long it is, in real seconds."""
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True, slots=True)
class Missing:
    """Which part of a period's open time was not seen: the `share` in which any camera was gone, and that of each camera.

    `ended` says whether the period is over.
    """

    period: Period
    share: float
    cameras: tuple[tuple[str, float], ...]
    ended: bool

    @property
    def whole(self) -> bool:
        """Whether it is over and nothing of it is missing."""
        return self.ended and self.share == 0


@dataclass(frozen=True, slots=True)
class Footfall:
    """How many went in and out of the doors in a period."""

    period: Period
    entries: Interval
    exits: Interval


@dataclass(frozen=True, slots=True)
class Step:
    """From `at` on, so many people are inside."""

    at: datetime
    people: int


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How many people were inside in a period: in the mean over its time, and at most."""

    period: Period
    mean: Interval
    most: Interval


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took, in seconds: how often it was measured, half took no longer than the median, 9 of 10 than p90."""

    count: int
    mean_s: Interval
    median_s: Interval
    p90_s: Interval


@dataclass(frozen=True, slots=True)
class Dwell:
    """The stays in one zone, and how many visits had one."""

    zone: str
    visits: Interval
    stays: Spread


@dataclass(frozen=True, slots=True)
class Path:
    """A way through the shop: how many visits took it, and which share of all they are."""

    places: Way
    visits: Interval
    share: Interval


@dataclass(frozen=True, slots=True)
class Transition:
    """How often somebody came from one place to the next; None is outside. `share` is of all that came from `origin`."""

    origin: str | None
    target: str | None
    count: Interval
    share: Interval


@dataclass(frozen=True, slots=True)
class Reached:
    """A step of a funnel: how many visits reached it after all steps before it, and their share of those at the first."""

    place: str
    visits: Interval
    share: Interval


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted elsewhere in a period; `missing` is the part of it of which nothing was told."""

    period: Period
    entries: Interval
    exits: Interval | None
    missing: float


@dataclass(frozen=True, slots=True)
class Wait:
    """A visit's time in a queue, from joining to being served, or to leaving where nobody is served in it."""

    zone: str
    visit: str
    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True, slots=True)
class Queued:
    """A queue in a period: how many people were in it, in the mean and at most; how long those who joined it waited."""

    period: Period
    mean: Interval
    most: Interval
    waiting: Spread | None


@dataclass(frozen=True, slots=True)
class Usual:
    """A figure beside the `median` of the same weekday and hour in some `weeks` before, and how many deviations off it is."""

    now: float
    median: float
    deviation: float
    weeks: int

    @property
    def z(self) -> float:
        """By how many deviations it is off, signed."""
        return (self.now - self.median) / self.deviation

    @property
    def marked(self) -> bool:
        """Whether it is unusual."""
        return abs(self.z) >= UNUSUAL


@dataclass(frozen=True, slots=True)
class Change:
    """A figure beside what it was before; `relative` is None where it was 0."""

    now: Interval
    before: Interval
    difference: Interval
    relative: Interval | None


# Time


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a day begins in a zone, in UTC; where midnight is left out, at its first moment; of two, the first.

    >>> midnight(date(2026, 3, 2), ZoneInfo("Europe/Paris")).isoformat()
    '2026-03-01T23:00:00+00:00'
    """
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)


def days(period: Period, zone: ZoneInfo) -> list[Period]:
    """The days of a period, each from midnight to midnight in the site's zone: 23 to 25 hours."""
    edges, day = [period.start], period.start.astimezone(zone).date()
    while (edge := midnight(day := day + timedelta(days=1), zone)) < period.end:
        edges.append(edge)
    return [Period(*pair) for pair in pairwise((*edges, period.end))]


def hours(period: Period, zone: ZoneInfo) -> list[Period]:
    """The hours of a period by the site's clock; in autumn the hour that comes twice is two."""
    edges = [period.start]
    while True:
        local = edges[-1].astimezone(zone)
        past = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        edge = edges[-1] + timedelta(hours=1) - past
        if edge >= period.end:
            return [Period(*pair) for pair in pairwise((*edges, period.end))]
        edges.append(edge)


def before(period: Period, zone: ZoneInfo, *, weeks: int = 1) -> Period:
    """The same weekdays and times of the clock, some weeks earlier.

    Where the clock left that time out, or shows it twice, as long a time from then on.
    """

    def moved(at: datetime) -> datetime:
        local = at.astimezone(zone)
        wall = local.replace(tzinfo=None) - timedelta(weeks=weeks)
        return wall.replace(tzinfo=zone, fold=local.fold).astimezone(UTC)

    start, end = moved(period.start), moved(period.end)
    return Period(start, end if start < end else start + (period.end - period.start))


def passed(period: Period, now: datetime) -> Period:
    """What of a period has passed; all of one that has not begun."""
    return Period(period.start, min(period.end, now)) if now > period.start else period


def missing(
    gaps: Iterable[Gap],
    periods: Sequence[Period],
    *,
    cameras: Collection[str],
    now: datetime,
    openings: Sequence[Period] | None = None,
) -> list[Missing]:
    """Which part of each period those cameras did not see; of the time up to `now`, and of the `openings` where they are given.

    A gap that lasts, lasts until now; one of kind "closed" is none, since nothing was to be seen.
    """
    gone: dict[str, list[tuple[float, float]]] = {camera: [] for camera in sorted(cameras)}
    for gap in gaps:
        if gap.camera in gone and gap.kind != "closed":
            gone[gap.camera].append((gap.start.timestamp(), (gap.end or now).timestamp()))
    every = [span for spans in gone.values() for span in spans]
    opened = None if openings is None else [(each.start.timestamp(), each.end.timestamp()) for each in openings]
    found = []
    for period in periods:
        start, end = period.start.timestamp(), min(period.end, now).timestamp()
        asked = _within([(start, end)] if opened is None else opened, start, end)
        whole_s = sum(b - a for a, b in asked)

        def part(spans: list[tuple[float, float]], asked: Spans = asked, whole_s: float = whole_s) -> float:
            lost_s = sum(b - a for low, high in asked for a, b in _within(spans, low, high))
            return lost_s / whole_s if whole_s > 0 else 0.0

        parts = tuple((camera, share) for camera, spans in gone.items() if (share := part(spans)) > 0)
        found.append(Missing(period, part(every), parts, period.end <= now))
    return found


def _within(spans: Iterable[tuple[float, float]], low: float, high: float) -> Spans:
    """The parts of spans between two numbers, in order, those that overlap made one."""
    joined: Spans = []
    for start, end in sorted((max(a, low), min(b, high)) for a, b in spans):
        if end <= start:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def weeks(period: Period, zone: ZoneInfo) -> int:
    """How many whole weeks earlier a period of the same weekdays does not overlap this one."""
    return next(number for number in count(1) if before(period, zone, weeks=number).end <= period.start)


# Doors


def footfall(crossings: Iterable[Crossing], periods: Sequence[Period], *, doors: Iterable[str]) -> list[Footfall]:
    """The crossings of doors, by period; `periods` are in order and do not overlap."""
    known = frozenset(doors)
    through = [crossing for crossing in crossings if crossing.line in known]
    ways = [_binned((c.at for c in through if c.inwards == inwards), periods) for inwards in (True, False)]
    return [
        Footfall(period, Interval(entries), Interval(exits))
        for period, entries, exits in zip(periods, *ways, strict=True)
    ]


def through(rows: Iterable[VisitRow], periods: Sequence[Period], *, again_s: float = AGAIN_S) -> list[Footfall]:
    """Entries and exits by the visits that a door saw come or go, by period: who was seen to leave has come, and the other way.

    Where a visit that no door saw begin follows one that no door saw end within `again_s`, both are one, whoever was lost
    first. Each visit that was seen at one end alone may be a piece of another: it adds a quarter to the variance.
    """
    counts = counted_through(rows, periods, again_s=again_s)
    return [
        Footfall(period, doubted(*came_in), doubted(*went_out))
        for period, (came_in, went_out) in zip(periods, counts, strict=True)
    ]


def counted_through(
    rows: Iterable[VisitRow], periods: Sequence[Period], *, again_s: float = AGAIN_S
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """What `through` counts in each period, inwards and outwards: how many, and how many visits may be pieces."""
    came = through_doors(rows)
    goes_on = pieces(came, again_s=again_s)
    gone_on = set(goes_on.values())
    entries = [began(row) for row in came if row.visit not in goes_on]
    exits = [max(began(row), row.left or row.end) for row in came if row.visit not in gone_on]
    half = [row for row in came if row.entered is None or row.left is None]
    ways = (
        (entries, [began(row) for row in half]),
        (exits, [row.left or row.end for row in half]),
    )
    counts = [zip(_binned(times, periods), _binned(doubtful, periods), strict=True) for times, doubtful in ways]
    return list(zip(*counts, strict=True))


def pieces(rows: Iterable[VisitRow], *, again_s: float = AGAIN_S) -> dict[str, str]:
    """The visits that are taken for the rest of another one, each with that one, by their names, see `through`."""
    found: dict[str, str] = {}
    lost: list[tuple[datetime, str]] = []
    for row in sorted(through_doors(rows), key=lambda row: (began(row), row.visit)):
        since = began(row)
        while lost and (since - lost[0][0]).total_seconds() > again_s:
            heappop(lost)
        if row.entered is None and lost and lost[0][0] <= since:
            _, found[row.visit] = heappop(lost)
        if row.left is None:
            heappush(lost, (max(since, row.end), row.visit))
    return found


def as_one(rows: Sequence[VisitRow], *, again_s: float = AGAIN_S) -> list[VisitRow]:
    """The same visits in their order, where pieces of one (see `pieces`) are of one person, and all others of that person."""
    person = {row.visit: row.person or row.visit for row in rows}
    same: dict[str, str] = {}

    def whose(name: str) -> str:
        while same.get(name, name) != name:
            name = same[name]
        return name

    for piece, of in pieces(rows, again_s=again_s).items():
        one = whose(person[of])
        same |= {one: one, whose(person[piece]): one}
    return [
        replace(row, person=whose(name)) if name in same else row
        for row, name in zip(rows, person.values(), strict=True)
    ]


def doubted(count: int, doubtful: int) -> Interval:
    """A count in which so many are one or none."""
    width = NORMAL_90 * math.sqrt(doubtful) / 2
    return Interval(count, max(0.0, count - width), count + width)


def passersby(crossings: Iterable[Crossing], periods: Sequence[Period], *, lines: Iterable[str]) -> list[Interval]:
    """How many passed the shop in each period: the crossings of `lines` outside it, either way."""
    known = frozenset(lines)
    return [Interval(passed) for passed in _binned((c.at for c in crossings if c.line in known), periods)]


def capture(entries: Interval, passed: Interval) -> Interval | None:
    """Which share of those who passed went in; None where nobody passed. Over 1 where the lines miss some who come."""
    return Interval(entries.value / passed.value) if passed.value else None


def counted(counts: Iterable[Counted], periods: Sequence[Period], *, lines: Collection[str]) -> list[Tally]:
    """What was counted elsewhere at `lines`, by the period in which each count begins; `periods` do not overlap.

    There are exits where every count has some. What is missing is the longest part of which a line tells nothing.
    """
    rows = [each for each in counts if each.line in lines]
    starts = [each.start for each in rows]
    numbers = [_binned(starts, periods, each) for each in ([e.entries for e in rows], [e.exits or 0 for e in rows])]
    told: dict[str, list[tuple[float, float]]] = {line: [] for line in lines}
    for each in rows:
        told[each.line].append((each.start.timestamp(), each.end.timestamp()))
    spans = {line: _within(found, -math.inf, math.inf) for line, found in told.items()}
    found = []
    for period, entries, exits in zip(periods, *numbers, strict=True):
        known_s = [_overlap_s(each, period.start.timestamp(), period.end.timestamp()) for each in spans.values()]
        untold = 1 - min(known_s, default=0.0) / period.seconds
        directed = bool(rows) and all(each.exits is not None for each in rows)
        found.append(Tally(period, Interval(entries), Interval(exits) if directed else None, untold))
    return found


def _overlap_s(spans: Spans, low: float, high: float) -> float:
    """How much of spans that are in order and do not overlap lies between two numbers."""
    first = bisect_left(spans, (low,)) - 1
    whole = 0.0
    for start, end in spans[max(0, first) :]:
        if start >= high:
            break
        whole += max(0.0, min(end, high) - max(start, low))
    return whole


def occupancy(crossings: Iterable[Crossing], *, doors: Iterable[str], closings: Iterable[datetime] = ()) -> list[Step]:
    """How many people are inside from each crossing of a door on: entries less exits, never under 0, 0 at each closing.

    Crossings at one moment are taken together, so that their order says nothing.
    """
    known = frozenset(doors)
    return _steps(((c.at, 1 if c.inwards else -1) for c in crossings if c.line in known), frozenset(closings))


def inside(rows: Iterable[VisitRow], *, closings: Iterable[datetime] = (), lost_s: float = LOST_S) -> list[Step]:
    """How many people are inside, by the visits: what doors missed is repaired by who is seen inside.

    A visit counts from its beginning, also where no door saw that, to where a door saw it leave. One that was lost from sight
    goes on in another that begins inside within `lost_s`, whoever was lost first; where none does, it ends after `lost_s`.
    Nobody who was lost is inside after a closing.
    """
    closed, lost = sorted(closings), timedelta(seconds=lost_s)
    events: list[tuple[datetime, int]] = []
    unseen: list[datetime] = []  # last sights of visits that no door saw leave, a heap

    def until(last: datetime) -> datetime:
        following = bisect_left(closed, last)
        return min(last + lost, closed[following]) if following < len(closed) else last + lost

    for row in sorted(rows, key=lambda row: (began(row), row.visit)):
        since = began(row)
        while unseen and until(unseen[0]) < since:
            events.append((until(heappop(unseen)), -1))
        if row.entered is None and unseen and unseen[0] <= since:
            heappop(unseen)
        else:
            events.append((since, 1))
        if row.left is None:
            heappush(unseen, max(since, row.end))
        else:
            events.append((max(row.left, since), -1))
    return _steps([*events, *((until(last), -1) for last in unseen)], ())


def _steps(events: Iterable[tuple[datetime, int]], closings: Collection[datetime]) -> list[Step]:
    """From changes to how many there are, never under 0, and 0 at each closing."""
    net = dict.fromkeys(closings, 0)
    closed = frozenset(net)
    for at, change in events:
        net[at] = net.get(at, 0) + change
    steps, people = [], 0
    for at in sorted(net):
        people = max(0, (0 if at in closed else people) + net[at])
        steps.append(Step(at, people))
    return steps


def occupied(steps: Sequence[Step], periods: Sequence[Period]) -> list[Occupancy]:
    """Mean and most people inside, by period; before the first step there is nobody."""
    found, row, people = [], 0, 0
    for period in periods:
        while row < len(steps) and steps[row].at <= period.start:
            people, row = steps[row].people, row + 1
        at, most, person_s = period.start, people, 0.0
        while row < len(steps) and steps[row].at < period.end:
            person_s += people * (steps[row].at - at).total_seconds()
            at, people, row = steps[row].at, steps[row].people, row + 1
            most = max(most, people)
        person_s += people * (period.end - at).total_seconds()
        found.append(Occupancy(period, Interval(person_s / period.seconds), Interval(most)))
    return found


# Visits


def began(row: VisitRow) -> datetime:
    """When a visit began: the door was crossed, or somebody was first seen."""
    return row.entered or row.start


def duration_s(row: VisitRow) -> float:
    """How long a visit took: to the crossing of the door, or to the last sight."""
    return max(0.0, ((row.left or row.end) - began(row)).total_seconds())


def of_period(rows: Iterable[VisitRow], period: Period) -> list[VisitRow]:
    """The visits that began in a period: each visit belongs to one hour and one day, and whole."""
    return [row for row in rows if began(row) in period]


def through_doors(rows: Iterable[VisitRow]) -> list[VisitRow]:
    """The visits that a door saw come, or go, or both: where doors are watched, the others are pieces of these, or nobody's."""
    return [row for row in rows if row.entered or row.left]


def visits(rows: Iterable[VisitRow], periods: Sequence[Period]) -> list[Interval]:
    """How many visits began in each period."""
    return [Interval(begun) for begun in _binned(map(began, rows), periods)]


def persons(rows: Iterable[VisitRow], period: Period) -> Interval:
    """How many different people began a visit in a period; a visit without a person counts for one."""
    return Interval(
        len({("visit", row.visit) if row.person is None else ("", row.person) for row in of_period(rows, period)})
    )


def reentry(rows: Sequence[VisitRow], period: Period) -> Interval | None:
    """Which share of a period's visits were a person's second or later in it; None without visits."""
    begun = len(of_period(rows, period))
    return Interval(1 - persons(rows, period).value / begun) if begun else None


def bounce(rows: Iterable[VisitRow], period: Period, *, under_s: float = BOUNCE_S) -> Interval | None:
    """Which share of a period's visits were shorter than `under_s`; None without visits."""
    taken = [duration_s(row) for row in of_period(rows, period)]
    return Interval(sum(seconds < under_s for seconds in taken) / len(taken)) if taken else None


def durations(rows: Iterable[VisitRow], period: Period) -> Spread | None:
    """How long a period's visits took; None without visits."""
    return spread([duration_s(row) for row in of_period(rows, period)])


def dwell(rows: Iterable[VisitRow], period: Period, *, least_s: float = LEAST_S) -> list[Dwell]:
    """The stays of a period's visits that were longer than `least_s`, by zone, in order of names.

    A stay that has not ended lasts to the last sight of its visit.
    """
    stays: dict[str, list[float]] = {}
    visited: Counter[str] = Counter()
    for row in of_period(rows, period):
        seen = list(dwelt(row, least_s))
        for zone, seconds in seen:
            stays.setdefault(zone, []).append(seconds)
        visited.update({zone for zone, _ in seen})
    found = []
    for zone, taken in sorted(stays.items()):
        measured = spread(taken)
        assert measured is not None
        found.append(Dwell(zone, Interval(visited[zone]), measured))
    return found


def engagement(rows: Iterable[VisitRow], period: Period, *, engaged_s: float = ENGAGED_S) -> dict[str, Interval]:
    """Which share of the period's visits that came into a zone at all stayed there for `engaged_s` or longer, by zone."""
    came, stayed = Counter[str](), Counter[str]()
    for row in of_period(rows, period):
        longest: dict[str, float] = {}
        for zone, seconds in dwelt(row, 0.0):
            longest[zone] = max(seconds, longest.get(zone, 0.0))
        came.update(longest.keys())
        stayed.update(zone for zone, seconds in longest.items() if seconds >= engaged_s)
    return {zone: Interval(stayed[zone] / often) for zone, often in sorted(came.items())}


def dwelt(row: VisitRow, least_s: float = LEAST_S) -> Iterator[tuple[str, float]]:
    """The zone and the seconds of each stay of a visit that was longer than `least_s`."""
    for stay in row.stays:
        seconds = ((stay.end or row.end) - stay.start).total_seconds()
        if seconds > least_s:
            yield stay.zone, seconds


# Ways


def by_camera(row: VisitRow) -> Way:
    """A visit's way as the cameras that saw it, in order."""
    return row.cameras


def by_zone(row: VisitRow) -> Way:
    """A visit's way as the zones of its dwell, in order; one that comes twice running stands once."""
    return tuple(zone for zone, _ in groupby(zone for zone, _ in dwelt(row)))


def paths(
    rows: Iterable[VisitRow], period: Period, *, most: int = 10, way: Callable[[VisitRow], Way] = by_camera
) -> list[Path]:
    """The most common ways of a period's visits, the commonest first."""
    return ranked_paths(Counter(way(row) for row in of_period(rows, period)), most=most)


def ranked_paths(counts: Counter[Way], *, most: int = 10) -> list[Path]:
    """The most common ways, each with how often it was taken, the commonest first."""
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:most]
    return [Path(places, Interval(often), Interval(often / counts.total())) for places, often in ranked]


def transitions(
    rows: Iterable[VisitRow], period: Period, *, way: Callable[[VisitRow], Way] = by_camera
) -> list[Transition]:
    """How often a period's visits went from one place to the next, from outside and to it, the commonest first.

    The shares of one origin add up to 1: together they are the transition matrix.
    """
    return ranked_transitions(Counter(way(row) for row in of_period(rows, period)))


def ranked_transitions(ways: Counter[Way]) -> list[Transition]:
    """How often ways lead from one place to the next, the commonest first."""
    counts: Counter[tuple[str | None, str | None]] = Counter()
    for places, often in ways.items():
        for pair in pairwise((None, *places, None)) if places else ():
            counts[pair] += often
    leaving: Counter[str | None] = Counter()
    for (origin, _), often in counts.items():
        leaving[origin] += often
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0][0] or "", each[0][1] or ""))
    return [
        Transition(origin, target, Interval(often), Interval(often / leaving[origin]))
        for (origin, target), often in ranked
    ]


def funnel(rows: Iterable[VisitRow], period: Period, *, steps: Sequence[str]) -> list[Reached]:
    """How many of a period's visits dwelt in the first zone, then in the second, and so on; other zones may lie between."""
    return reached_steps(Counter(by_zone(row) for row in of_period(rows, period)), steps=steps)


def reached_steps(ways: Counter[Way], *, steps: Sequence[str]) -> list[Reached]:
    """How many ways, by zones, come to the first step, then to the second, and so on."""
    reached = [0] * len(steps)
    for way, often in ways.items():
        step = 0
        for zone in way:
            if step < len(steps) and zone == steps[step]:
                reached[step] += often
                step += 1
    first = reached[0] if reached else 0
    return [
        Reached(place, Interval(often), Interval(often / first if first else 0.0))
        for place, often in zip(steps, reached, strict=True)
    ]


def heat(
    walks: Iterable[Sighting | Walk],
    period: Period,
    *,
    cells: tuple[int, int],
    area: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    camera: str | None = None,
) -> Float64:
    """How many seconds people stood in each part of a picture or of the floor: (rows, columns), the first row at the lowest y.

    `cells` are columns and rows of the `area`, x0, y0, x1, y1. With a `camera`, the paths in its picture, where y grows
    downwards; without one those on the floor, in metres. A point of a path counts until the next, at most 2 s.
    """
    columns, rows = cells
    chosen = walked(walks, camera=camera)
    cell, seconds, _ = stood(chosen, period, cells=cells, area=area)
    kept = (seconds > 0) & (cell >= 0)
    found: Float64 = np.bincount(cell[kept], seconds[kept], rows * columns).astype(np.float64)
    return found.reshape(rows, columns)


def stood(
    walks: Sequence[Sighting | Walk],
    period: Period,
    *,
    cells: tuple[int, int],
    area: tuple[float, float, float, float],
) -> tuple[Int64, Float64, Int64]:
    """Of each point of paths, one after the other: its cell (`cell_of`), its seconds of a period, its walk's place; (points,).

    A point counts until the next, at most 2 s; those outside of the period have 0 seconds or less.
    """
    lengths = [len(each.path) for each in walks]
    walk = np.repeat(np.arange(len(walks)), lengths)
    points = np.concatenate([np.zeros((0, 3)), *(each.path for each in walks)])
    begins = np.array([each.start.timestamp() for each in walks])[walk] + points[:, 0]
    ends = np.append(begins[1:], 0.0)[: len(begins)]
    ends[np.cumsum(lengths, dtype=np.int64) - 1] = [each.end.timestamp() for each in walks]
    ends = np.minimum(ends, begins + HEAT_S)
    seconds = np.minimum(ends, period.end.timestamp()) - np.maximum(begins, period.start.timestamp())
    return cell_of(points[:, 1:], cells=cells, area=area), seconds, walk


def walked(walks: Iterable[Sighting | Walk], *, camera: str | None) -> list[Sighting | Walk]:
    """Those with a path in a camera's picture, or on the floor; those that were withdrawn count for nothing."""
    on = "floor" if camera is None else "picture"
    there = [each for each in walks if len(each.path) and each.path_on == on and each.state != "withdrawn"]
    return [each for each in there if camera is None or each.key.camera == camera]


def cell_of(points: Float64, *, cells: tuple[int, int], area: tuple[float, float, float, float]) -> Int64:
    """In which cell each point lies, row by row from 0; -1 outside of the area, whose far edges belong to it.

    >>> cell_of(np.array([[0.1, 0.9], [1.0, 0.0], [1.1, 0.0]]), cells=(2, 2), area=(0.0, 0.0, 1.0, 1.0)).tolist()
    [2, 1, -1]
    """
    low, high, counts = np.array(area[:2]), np.array(area[2:]), np.array(cells)
    place = np.floor((points - low) / (high - low) * counts)
    place = np.where(points == high, counts - 1, place)
    inside = ((place >= 0) & (place < counts)).all(axis=1)
    found: Int64 = np.where(inside, place[:, 1] * counts[0] + place[:, 0], -1).astype(np.int64)
    return found


# Queues


def waits(
    rows: Iterable[VisitRow], zone: str, *, served: int = 0, least_s: float = LEAST_S, now: datetime | None = None
) -> list[Wait]:
    """The stays in a queue that were longer than `least_s`, in order of their start.

    Where people are served in the zone itself, `served` at once, a wait ends as soon as fewer than so many of those who came
    before are still there. A stay that goes on lasts to `now`, or to the last sight of its visit.
    """
    stays = sorted(
        (stay.start, stay.end or (row.end if now is None else max(now, row.end)), row.visit)
        for row in rows
        for stay in row.stays
        if stay.zone == zone
    )
    found, there = [], list[datetime]()  # when those who came before go
    for start, end, visit in stays:
        if (end - start).total_seconds() <= least_s:
            continue
        until = end
        if served:
            there = [leaves for leaves in there if leaves > start]
            ahead = sorted(there, reverse=True)
            until = min(end, ahead[served - 1]) if len(ahead) >= served else start
            there.append(end)
        found.append(Wait(zone, visit, start, until))
    return found


def payers(rows: Sequence[VisitRow], period: Period, zone: str) -> list[VisitRow]:
    """One visit of each group, since who comes together is served together: whoever was longest in a zone.

    Visits that no door saw stand for themselves.
    """
    found = groups(rows, period)
    grouped = {row.visit for group in found for row in group}
    longest = [max(group, key=lambda row: row.dwell_s().get(zone, 0.0)) for group in found]
    return [*longest, *(row for row in of_period(rows, period) if row.visit not in grouped)]


def queued(waits: Sequence[Wait], periods: Sequence[Period]) -> list[Queued]:
    """How long a queue was, and how long those waited who joined it, by period."""
    lengths = occupied(in_queue(waits), periods)
    return [
        Queued(length.period, length.mean, length.most, spread([w.seconds for w in waits if w.start in length.period]))
        for length in lengths
    ]


def in_queue(waits: Iterable[Wait]) -> list[Step]:
    """How many people are in a queue, from each change on."""
    return _steps((event for wait in waits for event in ((wait.start, 1), (wait.end, -1))), ())


def too_long(steps: Sequence[Step], *, zone: str, above: float, for_s: float = 0.0) -> list[QueueEvent]:
    """The times at which more than `above` people were in a queue for longer than `for_s`; the last may go on."""
    found, start, most = [], None, 0
    for step in steps:
        if step.people > above:
            start, most = start or step.at, max(most, step.people)
        elif start is not None:
            if (step.at - start).total_seconds() > for_s:
                found.append(QueueEvent(zone, start, step.at, "long", float(most)))
            start, most = None, 0
    if start is not None and (steps[-1].at - start).total_seconds() > for_s:
        found.append(QueueEvent(zone, start, None, "long", float(most)))
    return found


def too_slow(waits: Iterable[Wait], *, zone: str, above_s: float, for_s: float = 0.0) -> list[QueueEvent]:
    """The times at which somebody in a queue had waited for longer than `above_s`, where they lasted longer than `for_s`."""
    late = [(w.start + timedelta(seconds=above_s), w) for w in waits if w.seconds > above_s]
    found: list[QueueEvent] = []
    for since, wait in sorted(late, key=lambda each: each[0]):
        last = found[-1] if found else None
        if last is not None and last.end is not None and since <= last.end:
            found[-1] = QueueEvent(zone, last.start, max(last.end, wait.end), "slow", max(last.most, wait.seconds))
        else:
            found.append(QueueEvent(zone, since, wait.end, "slow", wait.seconds))
    return [each for each in found if each.end is not None and (each.end - each.start).total_seconds() > for_s]


def sold(sales: Iterable[Sales], periods: Sequence[Period]) -> list[Interval]:
    """How many sales all tills counted, by the period in which each count begins."""
    rows = list(sales)
    return [Interval(number) for number in _binned([r.start for r in rows], periods, [r.sales for r in rows])]


def conversion(sales: Interval, buyers: Interval) -> Interval | None:
    """Sales by visits, or by groups, who pay together; None without any. Over 1 where one buys twice, or some were missed."""
    return Interval(sales.value / buyers.value) if buyers.value else None


# Who belongs together, and who belongs to the shop


def groups(
    rows: Iterable[VisitRow],
    period: Period,
    *,
    together_s: float = TOGETHER_S,
    apart_s: float = APART_S,
    side_by_side: float = SIDE_BY_SIDE,
) -> list[tuple[VisitRow, ...]]:
    """The buying units among a period's visits that a door saw come or go: who came together, by themselves otherwise.

    Two belong together who entered within `together_s` of each other and left within `apart_s` of each other, where a door saw
    that of both, of one of these at least, and who spent `side_by_side` or more of the dwell of whoever dwelt less in the same
    zones at the same time. Where one dwelt nowhere, both have to have been seen to come and to go. Groups are chains of such
    pairs.
    """
    came = sorted(
        (row for row in of_period(rows, period) if row.entered or row.left), key=lambda row: (began(row), row.visit)
    )
    near = [*_near([row.entered for row in came], together_s), *_near([row.left for row in came], apart_s)]
    leader = list(range(len(came)))

    def first(place: int) -> int:
        while leader[place] != place:
            place = leader[place]
        return place

    for one, other in sorted(set(near)):
        if _together(came[one], came[other], together_s, apart_s, side_by_side):
            low, high = sorted((first(one), first(other)))
            leader[high] = low
    found: dict[int, list[VisitRow]] = {}
    for place, row in enumerate(came):
        found.setdefault(first(place), []).append(row)
    return [tuple(members) for members in found.values()]


def _near(times: Sequence[datetime | None], within_s: float) -> Iterator[tuple[int, int]]:
    """The pairs of places, the lower first, whose times lie so near to each other."""
    known = sorted((at, place) for place, at in enumerate(times) if at is not None)
    for number, (at, place) in enumerate(known):
        for later, other in known[number + 1 :]:
            if (later - at).total_seconds() > within_s:
                break
            yield min(place, other), max(place, other)


def _together(one: VisitRow, other: VisitRow, together_s: float, apart_s: float, side_by_side: float) -> bool:
    if one.person is not None and one.person == other.person:
        return False
    ends = 0
    for a, b, within_s in ((one.entered, other.entered, together_s), (one.left, other.left, apart_s)):
        if a is not None and b is not None:
            if abs((a - b).total_seconds()) > within_s:
                return False
            ends += 1
    dwelt = [_dwelt(row) for row in (one, other)]
    least = min(sum(b - a for spans in each.values() for a, b in spans) for each in dwelt)
    if least <= LEAST_S:
        return ends == 2
    shared = sum(
        b - a
        for zone, spans in dwelt[0].items()
        for low, high in spans
        for a, b in _within(dwelt[1].get(zone, ()), low, high)
    )
    return shared >= side_by_side * least


def _dwelt(row: VisitRow) -> dict[str, Spans]:
    found: dict[str, Spans] = {}
    for stay in row.stays:
        found.setdefault(stay.zone, []).append((stay.start.timestamp(), (stay.end or row.end).timestamp()))
    return found


def staff(
    rows: Sequence[VisitRow],
    zone: ZoneInfo,
    *,
    zones: Collection[str] = (),
    openings: Sequence[Period] | None = None,
    marked: Collection[str] = (),
    zone_s: float = STAFF_S,
    present_s: float = PRESENT_S,
    beside_s: float = BESIDE_S,
) -> frozenset[str]:
    """The names of the visits that are the staff's.

    A visit is, which stayed for `zone_s` in one of the staff's `zones`, or began or ended more than `beside_s` outside the
    `openings`, which are in order, or is `marked`, itself or its person; and so are all visits of one day, by the clock of
    `zone`, of a person of whom one visit of that day is, or who was there for `present_s` on it.
    """
    known = frozenset(zones)
    starts = [each.start for each in openings or ()]
    people, present = set[tuple[str, date]](), Counter[tuple[str, date]]()

    def who(row: VisitRow) -> tuple[str, date]:
        return row.person or row.visit, began(row).astimezone(zone).date()

    for row in rows:
        there_s = sum(seconds for name, seconds in row.dwell_s().items() if name in known)
        beside = openings is not None and any(
            _beside(at, openings, starts) > beside_s for at in (began(row), row.left or row.end)
        )
        present[who(row)] += round(duration_s(row))
        if there_s >= zone_s or beside or row.visit in marked or row.person in marked:
            people.add(who(row))
    people |= {each for each, seconds in present.items() if seconds >= present_s}
    return frozenset(row.visit for row in rows if who(row) in people)


def _beside(at: datetime, openings: Sequence[Period], starts: Sequence[datetime]) -> float:
    """How many seconds a time lies outside the nearest opening time; without end where there is no such time."""
    after = bisect_right(starts, at)
    near = openings[max(0, after - 1) : after + 1]
    return min(
        (max((each.start - at).total_seconds(), (at - each.end).total_seconds()) for each in near), default=math.inf
    )


# Comparison


def usual(now: float, earlier: Sequence[float]) -> Usual | None:
    """A figure beside those of the same weekday and hour in up to 8 weeks before; None where fewer than 4 are known.

    A deviation is 1.4826 times their median absolute deviation, which is the standard deviation where they are normal, but
    no less than the square root of their median: no count of people varies less than chance makes it.
    """
    known = list(earlier)[:WEEKS]
    if len(known) < FEWEST:
        return None
    middle = median(known)
    spread = 1.4826 * median(abs(value - middle) for value in known)
    return Usual(now, middle, max(spread, math.sqrt(max(middle, 1.0))), len(known))


def weeks_before(period: Period, zone: ZoneInfo, *, number: int = WEEKS) -> list[Period]:
    """The same weekday and hour in each of some weeks before, the latest first."""
    return [before(period, zone, weeks=week) for week in range(1, number + 1)]


# Draws


def drawn(
    draws: Iterable[Drawn], period: Period, zone: ZoneInfo, *, what: Literal["persons", "visits"]
) -> Int64 | None:
    """The draws of a period's count; None where there are none for it, or they are gone.

    Persons have draws for one hour, one day or one week by the clock of `zone`. Visits also for what hours or days make up.
    """
    by_start = {(each.length, each.start.astimezone(UTC)): each.values for each in draws if each.what == what}
    for length in LENGTHS:
        if (length, period.start) in by_start and stretch_end(period.start, length, zone) == period.end:
            return by_start[length, period.start]
    if what == "persons":
        return None
    total, at = None, period.start
    while at < period.end:
        pieces = [
            length for length in LENGTHS if (length, at) in by_start and stretch_end(at, length, zone) <= period.end
        ]
        if not pieces:
            return None
        values = by_start[pieces[-1], at]
        if total is not None and len(total) != len(values):
            return None
        total = values if total is None else total + values
        at = stretch_end(at, pieces[-1], zone)
    return total


def stretch_end(start: datetime, length: Length, zone: ZoneInfo) -> datetime:
    """Before when an hour, a day or a week ends that begins at `start`, by the clock of `zone`."""
    if length == "hour":
        return start + timedelta(hours=1)
    day = start.astimezone(zone).date()
    return midnight(day + timedelta(days=1 if length == "day" else 7), zone)


def estimated(counted: Interval, draws: Int64 | None, *, staff: float = 0.0) -> Interval:
    """A count as its draws have it: their median, with their 90 % interval; as it was counted where there are none.

    Draws count staff, too: so many are taken off each.
    """
    if draws is None or not len(draws):
        return Interval(counted.value)
    left = np.maximum(draws - staff, 0.0)
    low, high = np.quantile(left, QUANTILES, method="inverted_cdf")
    return Interval(float(np.median(left)), float(low), float(high))


def change(now: Interval, before: Interval) -> Change:
    """A figure beside what it was."""
    difference = now.value - before.value
    return Change(now, before, Interval(difference), Interval(difference / before.value) if before.value else None)


def _binned(times: Iterable[datetime], periods: Sequence[Period], each: Sequence[int] | None = None) -> list[int]:
    """How many times lie in each period, or what they count for together."""
    edges = np.array([edge.timestamp() for period in periods for edge in (period.start, period.end)])
    stamps = np.array([at.timestamp() for at in times])
    place = np.searchsorted(edges, stamps, side="right")  # odd: between a start and its end
    within = place % 2 == 1
    weights = None if each is None else np.array(each, np.int64)[within]
    counts = np.bincount(place[within] // 2, weights, minlength=len(periods))
    return [int(number) for number in counts]


def spread(seconds: Sequence[float]) -> Spread | None:
    """How long something took; None where it was not measured."""
    if not seconds:
        return None
    median, p90 = np.quantile(seconds, (0.5, 0.9))
    return Spread(len(seconds), Interval(sum(seconds) / len(seconds)), Interval(float(median)), Interval(float(p90)))
