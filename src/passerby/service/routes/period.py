"""The time that a request asks for, by the site's clock: a period, its parts, and what it is compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from fastapi import Depends, Query
from fastapi.exceptions import RequestValidationError
from pydantic import PlainValidator, WithJsonSchema

from passerby.service import analytics
from passerby.service.analytics import Period
from passerby.service.routes.served import Here, Served

YEARS = 2000, 2100  # in which times may lie
MOMENT = (  # for OpenAPI: a day, or a time with or without its zone
    r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"(T([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])?)?$"
)
LONGEST = {"hour": timedelta(days=93), "day": timedelta(days=1100), "week": timedelta(days=3700)}
Length = Literal["hour", "day", "week"]


def _moment(said: object) -> date | datetime:
    text = str(said)
    try:
        found = date.fromisoformat(text) if len(text) == len("2026-03-02") else datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected 2026-03-02 or 2026-03-02T09:30, got {text!r}") from None
    if not YEARS[0] <= found.year < YEARS[1]:
        raise ValueError(f"expected a year from {YEARS[0]} to before {YEARS[1]}, got {text!r}")
    return found


Moment = Annotated[
    date | datetime,
    PlainValidator(_moment),
    WithJsonSchema({"type": "string", "pattern": MOMENT}),
]
From = Annotated[
    Moment | None,
    Query(
        alias="from",
        description="A day, or a time; without a zone by the site's clock. By default today.",
        examples=["2026-03-02"],
    ),
]
To = Annotated[
    Moment | None,
    Query(
        alias="to",
        description="The last day, which is taken in whole, or the time before which it ends. By default today.",
        examples=["2026-03-02"],
    ),
]
GroupBy = Annotated[
    Length | None, Query(description="Also by the hour, day or week (from Monday on) of the site's clock.")
]
Compare = Annotated[
    Literal["before"] | None,
    Query(
        description="Beside the same weekdays and times of the clock, as many whole weeks before as it takes not to overlap."
    ),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """A period, what of it has passed, its parts, and the period that it is compared with."""

    period: Period
    passed: Period
    group_by: Length | None
    parts: list[Period]
    before: Period | None


def fault(name: str, message: str) -> RequestValidationError:
    """A parameter that cannot be answered."""
    return RequestValidationError([{"loc": ("query", name), "msg": message, "type": "value_error"}])


def utc(at: date | datetime, zone: ZoneInfo, *, whole_day: bool = False) -> datetime:
    """A moment of the site's clock in UTC: a day's beginning, or its end with `whole_day`."""
    if not isinstance(at, datetime):
        return analytics.midnight(at + timedelta(days=1) if whole_day else at, zone)
    return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)


def period_of(here: Served, since: date | datetime | None, until: date | datetime | None) -> Period:
    """The period between two moments of the site's clock; today where nothing is said."""
    today = here.clock().astimezone(here.zone).date()
    start, end = utc(since or today, here.zone), utc(until or today, here.zone, whole_day=True)
    if not start < end:
        raise fault("from", f"expected it before `to`, got {_said(here, start)} and {_said(here, end)}")
    if end - start > LONGEST["week"]:
        raise fault("to", f"expected up to {LONGEST['week'].days} days, got {(end - start).days}")
    return Period(start, end)


def _said(here: Served, at: datetime) -> str:
    return str(here.by_clock(at).isoformat())


def whole_period(here: Here, since: From = None, until: To = None) -> Period:
    """The period of a request that asks for no parts."""
    return period_of(here, since, until)


def asked(here: Here, since: From = None, until: To = None, group_by: GroupBy = None, compare: Compare = None) -> Asked:
    """What a request for a metric asks for. Times that have not come are left out: nothing is known of them."""
    period, now = period_of(here, since, until), here.clock()
    if period.start >= now:
        raise fault("from", f"expected a time before now, {_said(here, now)}; got {_said(here, period.start)}")
    parts = parts_of(here, period, group_by) if group_by else []
    passed = Period(period.start, min(period.end, now))
    weeks = analytics.weeks(period, here.zone)
    return Asked(
        period,
        passed,
        group_by,
        [part for part in parts if part.start < now],
        analytics.before(passed, here.zone, weeks=weeks) if compare else None,
    )


def parts_of(here: Served, period: Period, group_by: Length) -> list[Period]:
    """The hours, days or weeks of a period; not too many of them."""
    if period.end - period.start > LONGEST[group_by]:
        raise fault("group_by", f"expected up to {LONGEST[group_by].days} days by the {group_by}; ask for fewer")
    return PARTS[group_by](period, here.zone)


def weeks(period: Period, zone: ZoneInfo) -> list[Period]:
    """The weeks of a period by the site's clock, each from Monday on."""

    def week(day: Period) -> tuple[int, int]:
        return day.start.astimezone(zone).date().isocalendar()[:2]

    joined = [list(days) for _, days in groupby(analytics.days(period, zone), week)]
    return [Period(days[0].start, days[-1].end) for days in joined]


PARTS: dict[Length, Callable[[Period, ZoneInfo], list[Period]]] = {
    "hour": analytics.hours,
    "day": analytics.days,
    "week": weeks,
}
Whole = Annotated[Period, Depends(whole_period)]
Of = Annotated[Asked, Depends(asked)]
