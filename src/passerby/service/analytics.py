"""What visits and crossings amount to: pure functions without SQL and without a clock. docs/metrics.md defines each figure."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import count, groupby, pairwise
from zoneinfo import ZoneInfo

import numpy as np

from passerby.shop import Crossing
from passerby.types import Interval, SightingError
from passerby.vision.visits import VisitRow

BOUNCE_S = 120.0  # a visit shorter than this is a bounce
LEAST_S = 5.0  # a stay has to be longer than this to be dwell
Way = tuple[str, ...]


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
    """The same weekdays and times of the clock, some weeks earlier."""

    def moved(at: datetime) -> datetime:
        local = at.astimezone(zone)
        wall = local.replace(tzinfo=None) - timedelta(weeks=weeks)
        return wall.replace(tzinfo=zone, fold=local.fold).astimezone(UTC)

    return Period(moved(period.start), moved(period.end))


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


def occupancy(crossings: Iterable[Crossing], *, doors: Iterable[str], closings: Iterable[datetime] = ()) -> list[Step]:
    """How many people are inside from each crossing of a door on: entries less exits, never under 0, 0 at each closing.

    Crossings at one moment are taken together, so that their order says nothing.
    """
    known, net = frozenset(doors), dict.fromkeys(closings, 0)
    closed = frozenset(net)
    for crossing in crossings:
        if crossing.line in known:
            net[crossing.at] = net.get(crossing.at, 0) + (1 if crossing.inwards else -1)
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
    return _spread([duration_s(row) for row in of_period(rows, period)])


def dwell(rows: Iterable[VisitRow], period: Period, *, least_s: float = LEAST_S) -> list[Dwell]:
    """The stays of a period's visits that were longer than `least_s`, by zone, in order of names.

    A stay that has not ended lasts to the last sight of its visit.
    """
    stays: dict[str, list[float]] = {}
    visited: Counter[str] = Counter()
    for row in of_period(rows, period):
        seen = list(_stays(row, least_s))
        for zone, seconds in seen:
            stays.setdefault(zone, []).append(seconds)
        visited.update({zone for zone, _ in seen})
    found = []
    for zone, taken in sorted(stays.items()):
        spread = _spread(taken)
        assert spread is not None
        found.append(Dwell(zone, Interval(visited[zone]), spread))
    return found


def _stays(row: VisitRow, least_s: float) -> Iterator[tuple[str, float]]:
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
    return tuple(zone for zone, _ in groupby(zone for zone, _ in _stays(row, LEAST_S)))


def paths(
    rows: Iterable[VisitRow], period: Period, *, most: int = 10, way: Callable[[VisitRow], Way] = by_camera
) -> list[Path]:
    """The most common ways of a period's visits, the commonest first."""
    counts = Counter(way(row) for row in of_period(rows, period))
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:most]
    return [Path(places, Interval(often), Interval(often / counts.total())) for places, often in ranked]


def transitions(
    rows: Iterable[VisitRow], period: Period, *, way: Callable[[VisitRow], Way] = by_camera
) -> list[Transition]:
    """How often a period's visits went from one place to the next, from outside and to it, the commonest first.

    The shares of one origin add up to 1: together they are the transition matrix.
    """
    counts: Counter[tuple[str | None, str | None]] = Counter()
    for row in of_period(rows, period):
        if places := way(row):
            counts.update(pairwise((None, *places, None)))
    leaving: Counter[str | None] = Counter()
    for (origin, _), often in counts.items():
        leaving[origin] += often
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0][0] or "", each[0][1] or ""))
    return [
        Transition(origin, target, Interval(often), Interval(often / leaving[origin]))
        for (origin, target), often in ranked
    ]


# Comparison


def change(now: Interval, before: Interval) -> Change:
    """A figure beside what it was."""
    difference = now.value - before.value
    return Change(now, before, Interval(difference), Interval(difference / before.value) if before.value else None)


def _binned(times: Iterable[datetime], periods: Sequence[Period]) -> list[int]:
    """How many times lie in each period."""
    edges = np.array([each.timestamp() for period in periods for each in (period.start, period.end)])
    stamps = np.array([at.timestamp() for at in times])
    place = np.searchsorted(edges, stamps, side="right")  # odd: between a start and its end
    counts = np.bincount(place[place % 2 == 1] // 2, minlength=len(periods))
    return [int(number) for number in counts]


def _spread(seconds: Sequence[float]) -> Spread | None:
    if not seconds:
        return None
    median, p90 = np.quantile(seconds, (0.5, 0.9))
    return Spread(len(seconds), Interval(sum(seconds) / len(seconds)), Interval(float(median)), Interval(float(p90)))
