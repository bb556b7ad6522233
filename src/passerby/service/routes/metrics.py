"""A site's figures over time: doors, people inside, visits, persons, durations, dwell and ways."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from passerby.service import analytics
from passerby.service.analytics import Path, Period, Spread, Transition
from passerby.service.auth import needs
from passerby.service.report import NOT_ADDED
from passerby.service.routes.answer import Series, series
from passerby.service.routes.period import Of, fault
from passerby.service.routes.problem import problems
from passerby.service.routes.served import Here, Served
from passerby.shop import Crossing
from passerby.types import Interval
from passerby.vision.visits import VisitRow

router = APIRouter(
    prefix="/api/v1/metrics",
    tags=["metrics"],
    responses=problems(),
    dependencies=[Depends(needs("see figures"))],
)
FIRST_SEEN = "A visit belongs to the hour and the day in which it began, and whole."


class Doors(BaseModel):
    """The crossings of the doors, inwards and outwards."""

    entries: Interval
    exits: Interval


class Inside(BaseModel):
    """How many people were inside: in the mean over the time that has passed, and at most."""

    mean: Interval
    most: Interval


class Visits(BaseModel):
    """How many visits began; how long they took, null without any; shares of all of them."""

    visits: Interval
    durations_s: Spread | None
    reentry_share: Interval | None
    bounce_share: Interval | None


class Persons(BaseModel):
    """How many different people began a visit."""

    persons: Interval


class Zone(BaseModel):
    """The stays in one zone that were longer than 5 s, and how many visits had one."""

    zone: str
    visits: Interval
    stays: Spread


def zone_of(
    here: Here,
    zone: Annotated[str | None, Query(description="Only visits that dwelt in this zone", examples=["wine"])] = None,
) -> str | None:
    """A zone of the site."""
    known = [each.name for each in here.site.zones]
    if zone is not None and zone not in known:
        raise fault("zone", f"expected one of {', '.join(known) or 'none: the site has no zones'}; got {zone!r}")
    return zone


InZone = Annotated[str | None, Depends(zone_of)]
Ways = Annotated[bool, Query(alias="by_zone", description="The zones of the dwell, in place of the cameras")]


def _rows(here: Served, zone: str | None, period: Period) -> list[VisitRow]:
    rows = here.store.rows(here.site.name, doors=here.site.doors, since=period.start, until=period.end)
    return [row for row in rows if zone is None or zone in analytics.by_zone(row)]


class _Doors(NamedTuple):
    crossings: list[Crossing]
    opened: Period


def _crossings(here: Served, period: Period) -> _Doors:
    """The crossings of a period, and those before it since nobody was inside."""
    opened = here.site.closings(period.start - timedelta(days=8), period.start)
    start = opened[-1] if opened else period.start
    return _Doors(here.store.crossings(here.site.name, since=start, until=period.end), Period(start, period.end))


@router.get("/footfall")
def footfall(here: Here, asked: Of) -> Series[Doors]:
    """Entries and exits: the crossings of the site's doors."""

    def figure(data: _Doors, periods: list[Period]) -> list[Doors]:
        found = analytics.footfall(data.crossings, periods, doors=here.site.doors)
        return [Doors(entries=each.entries, exits=each.exits) for each in found]

    return series(here, asked, Doors, lambda period: _crossings(here, period), figure)


@router.get("/occupancy")
def occupancy(here: Here, asked: Of) -> Series[Inside]:
    """How many people were inside: entries less exits, never under 0, and nobody after closing time."""

    def figure(data: _Doors, periods: list[Period]) -> list[Inside]:
        closings = here.site.closings(data.opened.start - timedelta(seconds=1), data.opened.end)
        steps = analytics.occupancy(data.crossings, doors=here.site.doors, closings=closings)
        return [Inside(mean=each.mean, most=each.most) for each in analytics.occupied(steps, periods)]

    return series(here, asked, Inside, lambda period: _crossings(here, period), figure)


@router.get("/visits")
def visits(here: Here, asked: Of, zone: InZone) -> Series[Visits]:
    """How many visits began, how long they took, and which share came again or left within 2 minutes."""

    def figure(rows: list[VisitRow], periods: Sequence[Period]) -> list[Visits]:
        counts = analytics.visits(rows, periods)
        return [
            Visits(
                visits=count,
                durations_s=analytics.durations(rows, period),
                reentry_share=analytics.reentry(rows, period),
                bounce_share=analytics.bounce(rows, period),
            )
            for count, period in zip(counts, periods, strict=True)
        ]

    return series(here, asked, Visits, lambda period: _rows(here, zone, period), figure, notes=[FIRST_SEEN])


@router.get("/persons")
def persons(here: Here, asked: Of, zone: InZone) -> Series[Persons]:
    """How many different people began a visit in the period that is asked for. They do not add up."""

    def figure(rows: list[VisitRow], periods: list[Period]) -> list[Persons]:
        return [Persons(persons=analytics.persons(rows, period)) for period in periods]

    again = (
        f"Who comes again after {here.site.reentry_h:g} h is a new person: nothing is kept by which to know them again."
    )
    return series(here, asked, Persons, lambda period: _rows(here, zone, period), figure, notes=[NOT_ADDED, again])


@router.get("/dwell")
def dwell(here: Here, asked: Of, zone: InZone) -> Series[list[Zone]]:
    """The stays in each zone that were longer than 5 s: how many, and how long."""

    def figure(rows: list[VisitRow], periods: list[Period]) -> list[list[Zone]]:
        return [
            [
                Zone(zone=each.zone, visits=each.visits, stays=each.stays)
                for each in analytics.dwell(rows, period)
                if zone is None or each.zone == zone
            ]
            for period in periods
        ]

    return series(here, asked, list[Zone], lambda period: _rows(here, zone, period), figure, notes=[FIRST_SEEN])


@router.get("/paths")
def paths(here: Here, asked: Of, zone: InZone, by_zone: Ways = False) -> Series[list[Path]]:
    """The most common ways through the site, as the cameras that saw people, in order, or the zones."""
    way = analytics.by_zone if by_zone else analytics.by_camera

    def figure(rows: list[VisitRow], periods: list[Period]) -> list[list[Path]]:
        return [analytics.paths(rows, period, way=way) for period in periods]

    return series(here, asked, list[Path], lambda period: _rows(here, zone, period), figure)


@router.get("/transitions")
def transitions(here: Here, asked: Of, zone: InZone, by_zone: Ways = False) -> Series[list[Transition]]:
    """How often people came from one place to the next; null is outside. The shares of one origin add up to 1."""
    way = analytics.by_zone if by_zone else analytics.by_camera

    def figure(rows: list[VisitRow], periods: list[Period]) -> list[list[Transition]]:
        return [analytics.transitions(rows, period, way=way) for period in periods]

    return series(here, asked, list[Transition], lambda period: _rows(here, zone, period), figure)
