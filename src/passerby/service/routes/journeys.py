"""Which ways people took and where they stayed, over time: personal detail, if only in sum."""

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from passerby.service import analytics, released
from passerby.service.analytics import Path, Period, Spread, Transition
from passerby.service.auth import needs
from passerby.service.hours import dwell as dwell_of
from passerby.service.hours import ways
from passerby.service.rollups import Hours
from passerby.service.routes import shown
from passerby.service.routes.answer import Head, Series, head
from passerby.service.routes.metrics import WHOLE, InZone, by_hour
from passerby.service.routes.period import Of, Whole, fault
from passerby.service.routes.problem import problems
from passerby.service.routes.served import Here
from passerby.types import Interval

router = APIRouter(
    prefix="/api/v1/metrics",
    tags=["journeys"],
    responses=problems(),
    dependencies=[Depends(needs("see people"))],
)
ByZone = Annotated[bool, Query(description="The zones of the dwell, in place of the cameras")]


class Zone(BaseModel):
    """The stays in one zone that were longer than 5 s, and how many visits had one."""

    zone: str
    visits: Interval
    stays: Spread


class Groups(BaseModel):
    """How many groups came in by a door, and of how many people: one that came alone is a group of one."""

    groups: Interval | None
    people: Interval | None
    sizes: dict[int, int | None] = Field(
        description="How many groups had so many people; where k is above 1, and in `groups`, only of common sizes",
        examples=[{"1": 5, "2": 2}],
    )


class Step(BaseModel):
    """How many visits reached a zone after those before it, and their share of those at the first; null for a few."""

    zone: str
    visits: Interval | None
    share: Interval | None


class Heat(Head):
    """How many seconds people stood in each part of a camera's picture: rows from the top, columns from the left."""

    camera: str
    seconds: list[list[float]] = Field(
        description="Where k is above 1: 0 where a day had only a few visits, empty where nothing is told"
    )


@router.get("/dwell")
def dwell(here: Here, asked: Of, zone: InZone) -> Series[list[Zone]]:
    """The stays in each zone that were longer than 5 s: how many, and how long."""

    def figure(hours: Hours, periods: list[Period]) -> list[list[Zone]]:
        return [
            [
                Zone(zone=each.zone, visits=each.visits, stays=each.stays)
                for each in shown.of_many(dwell_of(hours.of("dwell", period)), here.site.k)
                if zone is None or each.zone == zone
            ]
            for period in periods
        ]

    return by_hour(here, asked, list[Zone], figure, of=["dwell"], notes=[WHOLE, *shown.told(here, asked.period)])


@router.get("/paths")
def paths(here: Here, asked: Of, zone: InZone, by_zone: ByZone = False) -> Series[list[Path]]:
    """The ten most common ways through the site, as the cameras that saw people, in order, or the zones."""

    def figure(hours: Hours, periods: list[Period]) -> list[list[Path]]:
        taken = [ways(hours.of("ways", period), by_zone=by_zone, within=zone) for period in periods]
        return [shown.of_many(analytics.ranked_paths(each), here.site.k) for each in taken]

    return by_hour(here, asked, list[Path], figure, of=["ways"], notes=[WHOLE, *shown.told(here, asked.period)])


@router.get("/transitions")
def transitions(here: Here, asked: Of, zone: InZone, by_zone: ByZone = False) -> Series[list[Transition]]:
    """How often people came from one place to the next; null is outside. The shares of one origin add up to 1."""

    def figure(hours: Hours, periods: list[Period]) -> list[list[Transition]]:
        taken = [ways(hours.of("ways", period), by_zone=by_zone, within=zone) for period in periods]
        return [shown.transitions(analytics.ranked_transitions(each), here.site.k) for each in taken]

    return by_hour(here, asked, list[Transition], figure, of=["ways"], notes=[WHOLE, *shown.told(here, asked.period)])


@router.get("/funnel")
def funnel(
    here: Here,
    asked: Of,
    step: Annotated[
        str, Query(description="Zones in order, with a comma between them", examples=["wine,till"], max_length=1000)
    ],
) -> Series[list[Step]]:
    """How many visits dwelt in the first zone, then also in the second, and so on; other zones may lie between."""
    steps, known = step.split(","), [zone.name for zone in here.site.zones]
    for each in steps:
        if each not in known:
            raise fault("step", f"expected zones of {', '.join(known) or 'none: the site has no zones'}; got {each!r}")

    def figure(hours: Hours, periods: list[Period]) -> list[list[Step]]:
        taken = [ways(hours.of("ways", period), by_zone=True) for period in periods]
        found = [shown.funnel(analytics.reached_steps(each, steps=steps), here.site.k) for each in taken]
        return [[Step(zone=zone, visits=visits, share=share) for zone, visits, share in each] for each in found]

    return by_hour(here, asked, list[Step], figure, of=["ways"], notes=[WHOLE, *shown.told(here, asked.period)])


@router.get("/groups")
def groups(here: Here, asked: Of) -> Series[Groups]:
    """Who came together: groups that entered and left within seconds of each other and stayed side by side."""

    def figure(hours: Hours, periods: list[Period]) -> list[Groups]:
        found = []
        for period in periods:
            sizes = {int(size): often for size, often in hours.of("groups", period).items()}
            found.append(
                Groups(
                    groups=shown.figure(Interval(sum(sizes.values())), here.site.k),
                    people=shown.figure(Interval(sum(size * often for size, often in sizes.items())), here.site.k),
                    sizes=shown.sizes(dict(sorted(sizes.items())), here.site.k),
                )
            )
        return found

    return by_hour(here, asked, Groups, figure, of=["groups"], notes=[WHOLE, *shown.told(here, asked.period)])


@router.get("/heat")
def heat(
    here: Here,
    period: Whole,
    camera: Annotated[str, Query(description="The camera's name", examples=["aisle"])],
    columns: Annotated[int, Query(ge=1, le=100)] = 32,
    rows: Annotated[int, Query(ge=1, le=100)] = 18,
) -> Heat:
    """Where people stood in a camera's picture, in seconds, over a period of up to 31 days."""
    if camera not in {each.name for each in here.site.cameras}:
        raise fault("camera", f"expected one of {', '.join(each.name for each in here.site.cameras)}; got {camera!r}")
    if (period.end - period.start).days > 31:
        raise fault("to", f"expected up to 31 days, got {(period.end - period.start).days}")
    if here.site.k > 1:
        if (columns, rows) != (32, 18):
            raise fault("columns", f"expected 32, and 18 rows, where k is above 1; got {columns} and {rows}")
        days = [day[camera] for day in released.told(here.store, here.site, "heat", period) if camera in day]
        table = [np.reshape(day["seconds"], (rows, columns)) for day in days if any(day["seconds"])]
        seconds = np.sum(table, axis=0) if table else np.zeros((0, 0))
    else:
        walks = here.store.walks(here.site.name, camera=camera, since=period.start, until=period.end)
        seconds = analytics.heat(walks, period, cells=(columns, rows), camera=camera)
    said = head(here, period, [period], cameras=[camera], notes=shown.told(here, period))
    return Heat(**said, camera=camera, seconds=[[round(each, 3) for each in row] for row in seconds.tolist()])
