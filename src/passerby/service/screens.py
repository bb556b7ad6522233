"""What the page's screens say, worked out from figures: tiles, series, tables' marks; no HTML, no SQL, no clock."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import pairwise, zip_longest
from typing import Any, Literal, get_args
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

import numpy as np

from passerby.service import analytics, grid, privacy
from passerby.service.alarms import Alarms
from passerby.service.analytics import Change, Period
from passerby.service.kept import Gap
from passerby.service.live import Alarm
from passerby.service.report import Kind
from passerby.shop import Point, Sighting, Walk
from passerby.site import Alert, Camera, Site
from passerby.types import Float64, Int64, Interval, PasserbyError
from passerby.vision.pipeline import floor_of
from passerby.vision.visits import VisitRow

By = Literal["hour", "day"]
Against = Literal["weekdays", "none"]
DAY = timedelta(days=1)
RARE = 0.004  # of the visits: a thinner flow is not drawn
MOST_DAYS = 400  # of one question
HOURLY_DAYS = 9  # up to so many days may be asked for by the hour
Sense = Literal["more", "less", "same", "unsure", "none"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What an address asks for: days by the site's clock, the last one too, in steps, beside what."""

    first: date
    last: date
    by: By
    against: Against = "weekdays"
    zone: str | None = None

    def period(self, zone: ZoneInfo) -> Period:
        """From the first midnight to the last."""
        return Period(analytics.midnight(self.first, zone), analytics.midnight(self.last + DAY, zone))

    def parts(self, zone: ZoneInfo) -> list[Period]:
        """The period in its steps."""
        return (analytics.hours if self.by == "hour" else analytics.days)(self.period(zone), zone)

    def href(self, **changes: object) -> str:
        """The question as an address has it, with some changes: "?from=2026-03-02&to=2026-03-02&by=hour"."""
        asked = replace(self, **changes)  # type: ignore[arg-type]  # each by its field's name
        if "by" not in changes and (asked.first, asked.last) != (self.first, self.last):
            asked = replace(asked, by=usual_step(asked.first, asked.last))
        given: dict[str, object] = {"from": asked.first, "to": asked.last, "by": asked.by}
        if asked.against != "weekdays":
            given["against"] = asked.against
        if asked.zone:
            given["zone"] = asked.zone
        return "?" + urlencode({name: str(value) for name, value in given.items()})


def usual_step(first: date, last: date) -> By:
    """Hours of up to two days, days of more."""
    return "hour" if (last - first).days < 2 else "day"


def asked_of(query: Mapping[str, str], *, newest: date, zones: Iterable[str] = ()) -> Asked:
    """What an address asks for; by default the `newest` day. Raises PasserbyError for what cannot be."""
    since, until = (query.get(name) or None for name in ("from", "to"))
    first = day_of("from", since or until or str(newest))
    last = day_of("to", until) if until else first
    if not first <= last:
        raise PasserbyError(f"The first day, {first}, comes after the last one, {last}.")
    if (last - first).days >= MOST_DAYS:
        raise PasserbyError(f"Please ask for {MOST_DAYS} days at most; {first} to {last} are more.")
    by = _one_of("by", query.get("by") or usual_step(first, last), get_args(By))
    if by == "hour" and (last - first).days >= HOURLY_DAYS:
        by = "day"
    zone = query.get("zone") or None
    if zone is not None and zone not in (known := list(zones)):
        raise PasserbyError(f"There is no zone {zone!r}; there are {', '.join(known) or 'none'}.")
    against = _one_of("against", query.get("against") or "weekdays", get_args(Against))
    return Asked(first, last, by, against, zone)  # type: ignore[arg-type]  # checked above


def day_of(name: str, said: str) -> date:
    """A day as an address has it; raises PasserbyError for what is none."""
    try:
        return date.fromisoformat(said)
    except ValueError:
        raise PasserbyError(f"{name}: expected a day such as 2026-03-02, got {said!r}.") from None


def _one_of(name: str, said: str, known: Sequence[str]) -> str:
    if said not in known:
        raise PasserbyError(f"{name}: expected one of {', '.join(known)}, got {said!r}.")
    return said


# Numbers in words


def number(value: float | None, kind: Kind = "count") -> str:
    """A figure as people read it; a dash for what is not known.

    >>> number(12345), number(0.256, "share"), number(754.0, "seconds"), number(3.25, "mean"), number(None)
    ('12,345', '25.6 %', '12:34', '3.2', '–')
    """
    if value is None:
        return "–"
    if kind == "share":
        return f"{100 * value:.1f} %"
    if kind == "seconds":
        minutes, seconds = divmod(round(value), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{value:.1f}" if kind == "mean" else f"{value:,.0f}"


def span(figure: Interval | None, kind: Kind = "count") -> str | None:
    """A figure's interval in words; None where none is known.

    >>> span(Interval(134, 128, 141)), span(Interval(134))
    ('128 to 141', None)
    """
    if figure is None or figure.low is None or figure.high is None:
        return None
    return f"{number(figure.low, kind)} to {number(figure.high, kind)}"


def signed(value: float) -> str:
    """A relative change, with a true minus.

    >>> signed(0.123), signed(-0.5), signed(0.0004)
    ('+12 %', '−50 %', '±0 %')
    """
    whole = round(100 * value)
    return f"{'+' if whole > 0 else '−' if whole < 0 else '±'}{abs(whole)} %"


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of a period: its value and range, what it was before, and what that change is worth."""

    name: str
    value: str
    range: str | None
    before: str | None
    change: str
    sense: Sense


def first_letter_up(text: str) -> str:
    """A name as a title begins.

    >>> first_letter_up("re-entry share")
    'Re-entry share'
    """
    return text[:1].upper() + text[1:]


def tile(name: str, kind: Kind, figure: Interval | None, change: Change | None, *, words: Mapping[str, str]) -> Tile:
    """A figure beside what it was. A change within either interval is "same"; one without intervals is "unsure"."""
    name = first_letter_up(name)
    value, spread = number(figure.value if figure else None, kind), span(figure, kind)
    if change is None:
        return Tile(name, value, spread, None, words["nothing_before"], "none")
    before = number(change.before.value, kind)
    if kind == "share":
        points = round(100 * change.difference.value, 1)
        said = f"{'+' if points > 0 else '−' if points < 0 else '±'}{abs(points):.1f} {words['points']}"
    else:
        said = signed(change.relative.value) if change.relative else words["from_nothing"]
    if change.now.low is None and change.before.low is None:
        return Tile(name, value, spread, before, said, "unsure")
    if _within(change.before.value, change.now) or _within(change.now.value, change.before):
        return Tile(name, value, spread, before, f"{said}, {words['same']}", "same")
    return Tile(name, value, spread, before, said, "more" if change.difference.value > 0 else "less")


def _within(value: float, figure: Interval) -> bool:
    return figure.low is not None and figure.high is not None and figure.low <= value <= figure.high


# Series


@dataclass(frozen=True, slots=True)
class Line:
    """A series: a value a step, None where it is not known; `low` and `high` are its band, `role` its colour and stroke."""

    name: str
    role: Literal["first", "second", "third", "before", "usual"]
    values: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the time axis, in seconds since 1970: when the site was closed, what is missing, what has not ended."""

    start: float
    end: float
    kind: Literal["closed", "gap", "unfinished", "holiday"]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Series over time; `x` are the steps' starts, in seconds since 1970, and `end` is where the last one ends."""

    title: str
    unit: str
    time_zone: str
    x: list[float]
    end: float
    lines: list[Line]
    regions: list[Region] = field(default_factory=list)
    kind: Kind = "count"


def regions_of(
    period: Period, site: Site, *, now: datetime, parts: Sequence[Period], gaps: Iterable[Gap], words: Mapping[str, str]
) -> list[Region]:
    """What a chart of a period shades: closing times where steps are short, gaps, and the step that has not ended."""
    found = []
    if len(parts) > 1 and parts[1].seconds < DAY.total_seconds() / 2:
        edge = period.start
        for opens, closes in [*site.openings(period.start, period.end), (period.end, period.end)]:
            if opens > edge:
                found.append(Region(edge.timestamp(), opens.timestamp(), "closed", words["closed"]))
            edge = closes
    zone = ZoneInfo(site.time_zone)
    for day in site.holidays:
        start = analytics.midnight(day, zone)
        if start in period:
            end = min(analytics.midnight(day + DAY, zone), period.end)
            found.append(Region(start.timestamp(), end.timestamp(), "holiday", words["holiday"]))
    for gap in gaps:
        start, end = max(gap.start, period.start), min(gap.end or now, period.end)
        if start < end:
            found.append(Region(start.timestamp(), end.timestamp(), "gap", words["gap"].format(camera=gap.camera)))
    for part in parts:
        if part.start <= now < part.end:
            found.append(Region(part.start.timestamp(), part.end.timestamp(), "unfinished", words["unfinished"]))
    return found


def state_of(part: Period, now: datetime) -> Literal["future", "unfinished", "whole"]:
    """Whether a step has not begun, has not ended, or is whole."""
    return "future" if now < part.start else "unfinished" if now < part.end else "whole"


def step_names(parts: Sequence[Period], zone: ZoneInfo, by: By) -> list[str]:
    """Steps as a table names them: "14:00", "Mon 2 Mar 14:00", "Mon 2 Mar"; an hour that comes twice with its zone."""
    starts = [part.start.astimezone(zone) for part in parts]
    days = [f"{at:%a} {at.day} {at:%b}" for at in starts]
    if by == "day":
        return days
    walls = [at.replace(tzinfo=None) for at in starts]
    hours = [
        f"{at:%H:%M}" + (f" {at:%Z}" if walls.count(wall) > 1 else "") for at, wall in zip(starts, walls, strict=True)
    ]
    return hours if len(set(days)) == 1 else [f"{day} {hour}" for day, hour in zip(days, hours, strict=True)]


def day_name(day: date) -> str:
    """A day with its weekday and year.

    >>> day_name(date(2026, 3, 2))
    'Mon 2 Mar 2026'
    """
    return f"{day:%a} {day.day} {day:%b} {day.year}"


def days_name(first: date, last: date) -> str:
    """Days in words.

    >>> days_name(date(2026, 3, 2), date(2026, 3, 8))
    'Mon 2 Mar to Sun 8 Mar 2026'
    """
    if first == last:
        return day_name(first)
    start = day_name(first) if first.year != last.year else day_name(first)[:-5]
    return f"{start} to {day_name(last)}"


def presets(today: date, newest: date) -> list[tuple[str, date, date]]:
    """The periods that are one click away, up to the newest day that there is."""
    end = min(today, newest) if newest < today else today
    monday = end - timedelta(days=end.weekday())
    return [
        ("today" if end == today else "newest", end, end),
        ("yesterday", end - DAY, end - DAY),
        ("week", monday, end),
        ("last_week", monday - 7 * DAY, monday - DAY),
        ("four_weeks", monday - 28 * DAY, monday - DAY),
    ]


# Ways


@dataclass(frozen=True, slots=True)
class Flow:
    """How many visits went from one node of the Sankey diagram to another; a node is a step and a place: "2 aisle 1"."""

    source: str
    target: str
    value: int


@dataclass(frozen=True, slots=True)
class Sankey:
    """Ways as a diagram: nodes as (name, place, step from 0), flows, and how many steps are left out, being of too few."""

    title: str
    nodes: list[tuple[str, str, int]]
    flows: list[Flow]
    hidden: int


def withheld(
    counts: Mapping[tuple[str, str], int], *, k: int
) -> tuple[dict[tuple[str, str], int], set[tuple[str, str]]]:
    """Counts from place to place as they may be shown (`privacy.suppressed`), and those that are not.

    >>> withheld({("in", "a"): 30, ("in", "b"): 3, ("a", "b"): 20, ("a", "a"): 25}, k=1)[1]
    set()
    """
    origins, targets = (sorted({pair[side] for pair in counts}) for side in (0, 1))
    if not counts:
        return {}, set()
    table = np.array([[counts.get((a, b), 0) for b in targets] for a in origins], np.int64)
    shown = privacy.suppressed(table, k=k)
    kept, hidden = dict[tuple[str, str], int](), set[tuple[str, str]]()
    for a, row in zip(origins, shown.cells, strict=True):
        for b, count in zip(targets, row, strict=True):
            if count is None:
                hidden.add((a, b))
            elif count:
                kept[a, b] = count
    return kept, hidden


def sankey(ways: Mapping[analytics.Way, int], *, title: str, most_steps: int, k: int, left: str, on: str) -> Sankey:
    """Ways, each with how often it was taken, step by step.

    Who is nowhere next has `left`, who has more than `most_steps` went `on`. Flows of fewer than `k` visits are left out, with
    what would give them away, and those under 0.4 % of the visits, which nobody could see.
    """
    counts: Counter[tuple[int, str, str]] = Counter()
    for way, often in ways.items():
        places = [*way[:most_steps], on if len(way) > most_steps else left]
        for step, (a, b) in enumerate(pairwise(places)):
            counts[step, a, b] += often
    least = RARE * sum(often for (step, _, _), often in counts.items() if step == 0)
    kept: dict[tuple[int, str, str], int] = {}
    for step in sorted({step for step, _, _ in counts}):
        here = {(a, b): often for (at, a, b), often in counts.items() if at == step}
        kept |= {(step, a, b): often for (a, b), often in withheld(here, k=k)[0].items() if often >= least}
    flows = [Flow(f"{step} {a}", f"{step + 1} {b}", often) for (step, a, b), often in sorted(kept.items())]
    names = sorted({name for flow in flows for name in (flow.source, flow.target)})
    nodes = [(name, name.split(" ", 1)[1], int(name.split(" ", 1)[0])) for name in names]
    return Sankey(title, nodes, flows, sum(counts.values()) - sum(kept.values()))


def level(value: float, most: float) -> int:
    """A shade, 0 for nothing and 1 to 5 for more, by the square root: small differences show among small numbers.

    >>> [level(value, 100.0) for value in (0, 1, 10, 50, 100)]
    [0, 1, 2, 4, 5]
    """
    return 0 if value <= 0 else min(5, max(1, math.ceil(5 * math.sqrt(value / most) - 1e-9)))


# The floor


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Where people stood, on the floor or in a camera's picture, for an SVG of `width` x `height` with y downwards.

    `cells` are (x, y, width, height, shade 1 to 5, seconds a visit); `places` are names, their corners and
    where the name stands; `hidden` cells had too few.
    """

    width: float
    height: float
    cells: list[tuple[float, float, float, float, int, float]]
    places: list[tuple[str, list[Point], Point]]
    lines: list[tuple[str, list[Point]]]
    hidden: int
    people: int


BAR_S = 60.0  # of stays, where k is above 1


def labelled(shapes: Iterable[tuple[str, list[Point]]], *, high: float) -> list[tuple[str, list[Point], Point]]:
    """Shapes with where their names stand, in letters `high`: above them, or below where another name is there already."""
    found: list[tuple[str, list[Point], Point]] = []
    for name, corners in shapes:
        xs, ys = zip(*corners, strict=True)
        x, above, below = min(xs), min(ys) - 0.2 * high, max(ys) + high
        taken = any(
            abs(y - above) < high and x < other + 0.6 * high * len(said) and other < x + 0.6 * high * len(name)
            for said, _, (other, y) in found
        )
        found.append((name, corners, (x, below if taken or above < high else above)))
    return found


def heat_map(
    site: Site,
    rows: Sequence[VisitRow],
    walks: Sequence[Sighting | Walk],
    period: Period,
    *,
    camera: str | None,
) -> HeatMap | None:
    """Where a period's visits stood; None where nothing is known of it."""
    visits, there = analytics.of_period(rows, period), grid.laid(site, camera)
    if there is None:
        return None
    area, cells = there
    seconds, people = grid.trodden(visits, walks, period, cells=cells, area=area, camera=camera)
    return _heat_map(site, area, seconds, people, camera=camera, hidden=0, visits=len(visits))


def heat_told(site: Site, days: Sequence[Mapping[str, Any]], *, camera: str | None) -> HeatMap | None:  # Any: JSON
    """The same of days as they were told (`released.py`), in which cells of a few visits are left out."""
    there = grid.laid(site, camera)
    if there is None:
        return None
    area, (columns, rows) = there
    same = [day for day in days if (day["rows"], day["columns"]) == (rows, columns)]
    seconds, people = np.zeros((rows, columns)), np.zeros((rows, columns), np.int64)
    for day in same:
        seconds += np.reshape(day["seconds"], (rows, columns))
        people += np.reshape(day["visits"], (rows, columns))
    hidden, visits = (sum(day[name] for day in same) for name in ("few", "people"))
    return _heat_map(site, area, seconds, people, camera=camera, hidden=hidden, visits=visits)


def _heat_map(
    site: Site, area: grid.Area, seconds: Float64, people: Int64, *, camera: str | None, hidden: int, visits: int
) -> HeatMap | None:
    if not (people.any() or hidden):
        return None
    width, height = (640.0, 360.0) if camera is not None else (100 * (area[2] - area[0]), 100 * (area[3] - area[1]))
    across, down = width / people.shape[1], height / people.shape[0]

    def shown(point: Point) -> Point:
        x, y = (point[0] - area[0]) / (area[2] - area[0]) * width, (point[1] - area[1]) / (area[3] - area[1]) * height
        return round(x, 1), round(y if camera is not None else height - y, 1)

    allowed = (people > 0) & (seconds > 0)
    most = float(np.quantile(seconds[allowed], 0.99)) if allowed.any() else 1.0
    drawn = []
    for row, column in zip(*np.nonzero(allowed), strict=True):
        top = row * down if camera is not None else height - (row + 1) * down
        value = float(seconds[row, column])
        shade = level(min(value, most), most)
        drawn.append(
            (
                round(column * across, 1),
                round(top, 1),
                round(across, 1),
                round(down, 1),
                shade,
                value / int(people[row, column]),
            )
        )
    return HeatMap(
        width,
        height,
        drawn,
        labelled(
            ((zone.name, [shown(point) for point in zone.corners]) for zone in site.zones if zone.camera == camera),
            high=62.0 if camera is None else 24.0,
        ),
        [(line.name, [shown(line.start), shown(line.end)]) for line in site.lines if line.camera == camera],
        hidden,
        visits,
    )


# Spread and time of day


def bars(days: Sequence[Sequence[float]], *, k: int) -> tuple[float, list[int | None]]:
    """How long stays of some days took, as they may be shown: the width of a bin in seconds, and how many lie in each.

    Where k is above 1 each day's bins are withheld by themselves, and are as wide on all days: so days add up to no more.

    >>> bars([[10.0] * 12, [10.0] * 30 + [70.0] * 3], k=10)[1][:3]
    [12, None, 0]
    """
    if k == 1:
        width, counts = histogram([each for day in days for each in day])
        return width, list(counts)
    each_day = [few_hidden(histogram(day, width=BAR_S)[1], k=k) for day in days if day]
    sums = [[bin_ for bin_ in bins if bin_ is not None] for bins in zip(*each_day, strict=True)]
    return BAR_S, [sum(shown) if sum(shown) or len(shown) == len(each_day) else None for shown in sums]


def histogram(seconds: Sequence[float], *, bins: int = 16, width: float | None = None) -> tuple[float, list[int]]:
    """How long stays took: the width of a bin in seconds, and how many lie in each; the last one holds all that are longer.

    >>> histogram([1.0, 2.0, 11.0, 500.0], bins=4)
    (120.0, [3, 0, 0, 1])
    """
    if not seconds:
        return 1.0, []
    if width is None:
        wanted = float(np.quantile(seconds, 0.75)) * 2 / bins
        width = next((step for step in (5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0) if step >= wanted), 1800.0)
    counts = [0] * bins
    for value in seconds:
        counts[min(bins - 1, int(value // width))] += 1
    return width, counts


def few_hidden(counts: Sequence[int], *, k: int) -> list[int | None]:
    """Numbers beside each other as they may be shown (`privacy.suppressed`); None for what is withheld.

    >>> few_hidden([20, 3, 12, 30], k=10)
    [20, None, None, 30]
    """
    return list(privacy.suppressed(np.array([counts], np.int64), k=k).cells[0])


def by_weekday(parts: Sequence[Period], values: Sequence[float], zone: ZoneInfo) -> dict[tuple[int, int], float]:
    """The mean of hourly values by weekday (0 is Monday) and hour of the clock."""
    sums: dict[tuple[int, int], list[float]] = {}
    for part, value in zip(parts, values, strict=True):
        at = part.start.astimezone(zone)
        sums.setdefault((at.weekday(), at.hour), []).append(value)
    return {key: sum(found) / len(found) for key, found in sums.items()}


# Cameras


@dataclass(frozen=True, slots=True)
class Uptime:
    """One camera in a period: the share of the open time that it saw, and when it did not, as (from, to, kind), 0 to 1."""

    camera: str
    share: float
    lost_s: float
    holes: list[tuple[float, float, str]]


def uptimes(site: Site, gaps: Sequence[Gap], period: Period, *, now: datetime) -> list[Uptime]:
    """How much of a period each camera saw, up to `now`."""
    end = min(period.end, now)
    openings = [Period(*each) for each in site.openings(period.start, max(end, period.start + timedelta(seconds=1)))]
    whole = sum(each.seconds for each in openings)
    found = []
    for camera in site.cameras:
        own = [gap for gap in gaps if gap.camera == camera.name]
        (missing,) = analytics.missing(own, [period], cameras=[camera.name], now=now, openings=openings)
        holes: list[tuple[float, float, str]] = [
            (
                (max(gap.start, period.start) - period.start).total_seconds() / period.seconds,
                (min(gap.end or now, period.end) - period.start).total_seconds() / period.seconds,
                gap.kind,
            )
            for gap in own
            if gap.start < period.end and (gap.end or now) > period.start
        ]
        found.append(Uptime(camera.name, 1 - missing.share, missing.share * whole, holes))
    return found


# Set-up


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert that would have been raised: from when to when it was on (None where it went on), and the most meanwhile."""

    start: datetime
    end: datetime | None
    most: float


def raised(site: Site, rule: Alert, rows: Sequence[VisitRow], period: Period) -> list[Raised]:
    """When an alert would have been on in a period, by the visits that are known of it, second by second.

    As `Alarms` has it, but that zones hold whoever a visit was in: live, who is not linked yet counts, too. Raises
    PasserbyError for an alert that the site could not have.
    """
    try:
        alone = replace(site, alerts=(rule,))
    except ValueError as error:
        raise PasserbyError(f"{error}.") from None
    seconds = int(period.seconds)
    change = np.zeros(seconds + 1, np.int64)
    waited: Float64 = np.zeros(seconds)

    def second(at: datetime) -> int:
        return min(seconds, max(0, round((at - period.start).total_seconds())))

    if rule.zone is None:
        steps = analytics.inside(rows, closings=site.closings(period.start - DAY, period.end))
        for before, step in pairwise([analytics.Step(period.start, 0), *steps]):
            change[second(step.at)] += step.people - before.people
    for row in rows if rule.zone is not None else ():
        for stay in (each for each in row.stays if each.zone == rule.zone):
            start, end = second(stay.start), second(stay.end or row.end)
            change[start] += 1
            change[end] -= 1
            since = (period.start - stay.start).total_seconds()
            waited[start:end] = np.maximum(waited[start:end], np.arange(start, end) + since)
    values = waited if rule.measure == "waiting_s" else change.cumsum()[:seconds].astype(np.float64)
    said: list[Alarm] = []
    alarms = Alarms(alone, tell=said.append)
    zone = rule.zone or ""
    for number, value in enumerate(values.tolist()):
        at = period.start + timedelta(seconds=number)
        alarms.see(at, inside=int(value), zones={zone: int(value)}, waiting_s={zone: value})
    found = []
    for on, off in zip_longest(said[::2], said[1::2]):
        start, end = second(on.at), second(off.at) if off else seconds
        since = max(0, start - round(rule.for_s))
        found.append(Raised(on.at, off.at if off else None, float(values[since : max(end, start + 1)].max())))
    return found


@dataclass(frozen=True, slots=True)
class Drawn:
    """A place as a camera's picture shows it: corners in fractions of its sides; `on` says where it was drawn."""

    name: str
    kind: Literal["zone", "door", "line", "mask"]
    on: Literal["picture", "floor"]
    corners: list[Point]


def places_of(site: Site, camera: Camera) -> list[Drawn]:
    """All places that a camera's picture shows, those of the floor as it sees them."""
    floor = floor_of(camera, width=1600, height=900)
    found = [Drawn(f"mask {n}", "mask", "picture", list(mask)) for n, mask in enumerate(camera.masks, 1)]
    shapes: list[tuple[str, Literal["zone", "door", "line"], str | None, list[Point], bool]] = [
        *((zone.name, "zone", zone.camera, list(zone.corners), True) for zone in site.zones_of(camera)),
        *(
            (line.name, "door" if line.name in site.doors else "line", line.camera, [line.start, line.end], False)
            for line in site.lines_of(camera)
        ),
    ]
    for name, kind, on, corners, around in shapes:
        if on is not None:
            found.append(Drawn(name, kind, "picture", corners))
            continue
        if floor is None:
            continue
        ring = [*corners, corners[0]] if around else corners
        steps = np.linspace(0, 1, 12, endpoint=False)[:, None]
        ways = [np.array(a) + steps * (np.array(b) - np.array(a)) for a, b in pairwise(ring)]
        points = floor.shown(np.concatenate([*ways, np.array(ring[-1:])]), width=1600, height=900) / [1600, 900]
        points = points[np.isfinite(points).all(axis=1)]
        if ((points >= 0) & (points <= 1)).all(axis=1).any():
            found.append(Drawn(name, kind, "floor", [(round(float(x), 4), round(float(y), 4)) for x, y in points]))
    return found


def without_password(source: str) -> str:
    """A camera's source without what only the service may know.

    >>> without_password("rtsp://admin:secret@10.0.0.7/live?token=x"), without_password("door.mp4")
    ('rtsp://10.0.0.7/live', 'door.mp4')
    """
    if "://" not in source:
        return source
    parts = urlsplit(source)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
