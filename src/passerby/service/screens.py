"""What the page's screens say, worked out from figures: tiles, series, tables' marks; no HTML, no SQL, no clock."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Literal, get_args
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from passerby.service import analytics
from passerby.service.analytics import Change, Period
from passerby.service.report import Kind
from passerby.site import Site
from passerby.types import Interval, PasserbyError

By = Literal["hour", "day"]
Against = Literal["weekdays", "none"]
DAY = timedelta(days=1)
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
        given = {"from": asked.first, "to": asked.last, "by": asked.by}
        if asked.against != "weekdays":
            given["against"] = asked.against
        if asked.zone:
            given["zone"] = asked.zone
        return "?" + urlencode({name: str(value) for name, value in given.items()})


def usual_step(first: date, last: date) -> By:
    """Hours of up to two days, days of more."""
    return "hour" if (last - first).days < 2 else "day"


def asked_of(query: Mapping[str, str], *, newest: date, zones: Iterable[str] = ()) -> Asked:
    """What an address asks for; by default the `newest` day that there is. Raises PasserbyError, in words, for what cannot be."""
    last = _day("to", query.get("to") or query.get("from") or str(newest))
    first = _day("from", query.get("from") or str(last))
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


def _day(name: str, said: str) -> date:
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


def tile(name: str, kind: Kind, figure: Interval | None, change: Change | None, *, words: Mapping[str, str]) -> Tile:
    """A figure beside what it was. A change within either interval is "same"; one without intervals is "unsure"."""
    value, spread = number(figure.value if figure else None, kind), span(figure, kind)
    if change is None:
        return Tile(name, value, spread, None, words["nothing_before"], "none")
    before = number(change.before.value, kind)
    if kind == "share":
        points = 100 * change.difference.value
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
    """A series: a value a step, None where it is not known; `low` and `high` are its band. `role` names its colour and stroke."""

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
    stepped: bool = True


def regions_of(
    period: Period, site: Site, *, now: datetime, parts: Sequence[Period], gaps: Iterable["Missing"], words: Mapping[str, str]
) -> list[Region]:
    """What a chart of a period shades: closing times of up to nine days, gaps, and the step that has not ended."""
    found = []
    if period.seconds <= HOURLY_DAYS * DAY.total_seconds():
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
            found.append(Region(start.timestamp(), end.timestamp(), "gap", gap.label))
    for part in parts:
        if part.start <= now < part.end:
            found.append(Region(now.timestamp(), part.end.timestamp(), "unfinished", words["unfinished"]))
    return found


@dataclass(frozen=True, slots=True)
class Missing:
    """A time in which something was not seen; `end` None: it goes on."""

    start: datetime
    end: datetime | None
    camera: str
    label: str

    def touches(self, period: Period, now: datetime) -> bool:
        """Whether a part of a period is missing."""
        return self.start < period.end and (self.end or now) > period.start


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
    hours = [f"{at:%H:%M}" + (f" {at:%Z}" if walls.count(wall) > 1 else "") for at, wall in zip(starts, walls, strict=True)]
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
