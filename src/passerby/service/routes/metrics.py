"""A site's counts over time: doors, people inside, visits, persons, queues, sales, and what was counted elsewhere."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import cache, partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from passerby.service import analytics, kept
from passerby.service import report as room
from passerby.service.analytics import Period, Spread
from passerby.service.auth import needs
from passerby.service.hours import bounce, door_cameras, inside, passersby, queued, reentry, spread, through
from passerby.service.hours import footfall as doors_of
from passerby.service.hours import persons as persons_of
from passerby.service.privacy import enough
from passerby.service.report import GONE, NOT_ADDED
from passerby.service.rollups import Hours
from passerby.service.routes import shown
from passerby.service.routes.answer import Series, series
from passerby.service.routes.period import Asked, Of, fault
from passerby.service.routes.problem import problems
from passerby.service.routes.served import Here, Served
from passerby.types import Interval
from passerby.vision.window import Drawn

router = APIRouter(
    prefix="/api/v1/metrics",
    tags=["metrics"],
    responses=problems(),
    dependencies=[Depends(needs("see figures"))],
)
WHOLE = "A visit belongs to the hour and the day in which it began, and whole. The staff is left out."
USUAL_S = 7 * 86400 + 3600  # a longer time overlaps the weeks before; a week in autumn has an hour more
T = TypeVar("T")
NO_DRAWS = "Where `low` and `high` are null there is no interval: that period has no draws, or they are gone."


class Usual(BaseModel):
    """Entries of the same weekday and hour in the weeks before: their median, and by how many deviations these are off."""

    median: float
    deviation: float
    weeks: int
    z: float
    marked: bool = Field(description="3 deviations or more")


class Doors(BaseModel):
    """The crossings of the doors, inwards and outwards, as they were counted."""

    entries: Interval
    exits: Interval
    entries_estimated: Interval | None = Field(description="As the audits of the doors correct them; 90 % interval")
    exits_estimated: Interval | None
    entries_by_visits: Interval | None = Field(
        description="By the visits that a door saw come or go; 90 % interval. Null for a site without doors, and where their "
        "visits are gone and none was kept"
    )
    exits_by_visits: Interval | None
    usual: Usual | None = Field(
        description="Null where too little is known of the weeks before, or the time is not over"
    )
    passers_by: Interval | None = Field(description="Null for a site without lines outside")
    capture_share: Interval | None


class Inside(BaseModel):
    """How many people were inside: in the mean over the time that has passed, and at most."""

    mean: Interval
    most: Interval


class Visits(BaseModel):
    """How many visits began; how long they took, null without any; shares of all of them; those of the staff, left out."""

    visits: Interval | None = Field(description="Null for a zone, where k is above 1")
    durations_s: Spread | None = Field(description="Null for a few")
    reentry_share: Interval | None
    bounce_share: Interval | None
    staff: int


class Persons(BaseModel):
    """How many different people began a visit."""

    persons: Interval | None = Field(description="Null for a zone, where k is above 1")


class Queue(BaseModel):
    """A queue: how many people were in it, and how long those who joined it waited; null where nobody did."""

    zone: str
    mean: Interval
    most: Interval
    waiting_s: Spread | None


class Sold(BaseModel):
    """Sales as the tills counted them, and for each visit and each group of people who came together."""

    sales: Interval
    by_visits: Interval | None
    by_groups: Interval | None


class Elsewhere(BaseModel):
    """What another counter told of a line; `missing` is the part of the time of which it told nothing."""

    line: str
    entries: Interval
    exits: Interval | None
    missing: float


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


def hours_of(here: Served, period: Period) -> Hours:
    """The figures of a period by its hours."""
    return Hours(here.store, here.site, period, now=here.clock(), told=True)


def by_hour(
    here: Served,
    asked: Asked,
    kind: type[T],
    figure: Callable[[Hours, list[Period]], list[T]],
    *,
    of: Sequence[str],
    beside: Sequence[str] = (),
    cameras: Collection[str] | None = None,
    notes: Sequence[str] = (),
) -> Series[T]:
    """A metric that is made `of` kinds of tables by the hour; None where one of these is not known any more.

    Where one of those `beside` is not, `figure` leaves out what is made of it.
    """
    loaded = {period: hours_of(here, period) for period in (asked.passed, asked.before) if period is not None}
    whole = all(hours.known((*of, *beside), period) for period, hours in loaded.items())
    return series(
        here,
        asked,
        kind,
        loaded.__getitem__,
        figure,
        known=lambda hours, period: hours.known(of, period),
        cameras=cameras,
        notes=[*notes, *([] if whole else [GONE])],
    )


@router.get("/footfall")
def footfall(here: Here, asked: Of) -> Series[Doors]:
    """Entries and exits: the crossings of the site's doors, beside what audits, visits and the weeks before say."""

    doors, passing = here.site.doors, here.site.passing
    lines = room.doors_trusted(here.store, here.site)
    past = cache(partial(hours_of, here))  # the whole and its parts look at the same weeks before

    def figure(hours: Hours, periods: list[Period]) -> list[Doors]:
        short = all(period.seconds <= USUAL_S for period in periods)
        usual: list[analytics.Usual | None] = [None] * len(periods)
        if short:
            usual = room.usual_entries(here.store, here.site, periods, here.zone, now=here.clock(), past=past)
        found = []
        for period, known in zip(periods, usual, strict=True):
            table, visits = hours.of("doors", period), hours.of("through", period)
            by_visits = doors and hours.known(["through"], period)
            counted, passed = doors_of(table, doors, period), passersby(table, passing)
            found.append(
                Doors(
                    entries=counted.entries,
                    exits=counted.exits,
                    entries_estimated=room.corrected(lines, table, inwards=True),
                    exits_estimated=room.corrected(lines, table, inwards=False),
                    entries_by_visits=through(visits, "in") if by_visits else None,
                    exits_by_visits=through(visits, "out") if by_visits else None,
                    usual=None
                    if known is None
                    else Usual(
                        median=known.median,
                        deviation=known.deviation,
                        weeks=known.weeks,
                        z=known.z,
                        marked=known.marked,
                    ),
                    passers_by=passed if passing else None,
                    capture_share=analytics.capture(counted.entries, passed) if passing else None,
                )
            )
        return found

    return by_hour(here, asked, Doors, figure, of=(), beside=["through"], cameras=door_cameras(here.site))


@router.get("/occupancy")
def occupancy(here: Here, asked: Of) -> Series[Inside]:
    """How many people were inside: never under 0, repaired by who is seen inside, and nobody after closing time."""

    def figure(hours: Hours, periods: list[Period]) -> list[Inside]:
        each = [inside(hours.of("inside", period), period) for period in periods]
        return [Inside(mean=there.mean, most=there.most) for there in each]

    return by_hour(here, asked, Inside, figure, of=["inside"])


@router.get("/visits")
def visits(here: Here, asked: Of, zone: InZone) -> Series[Visits]:
    """How many visits began, how long they took, and which share came again or left within 2 minutes."""
    draws = _draws(here, asked.passed.start, asked.passed.end)

    def figure(hours: Hours, periods: list[Period]) -> list[Visits]:
        found = []
        for period in periods:
            table, staff = hours.came(period, zone), hours.of("staff", period)
            begun = table.get("visits", 0)
            drawn = None if zone else analytics.drawn(draws, period, here.zone, what="visits")
            counted = analytics.estimated(Interval(begun), drawn, staff=staff.get("through_doors", 0))
            many = begun > 0 and enough(begun, k=here.site.k) and not (zone and here.site.k > 1)
            found.append(
                Visits(
                    visits=shown.figure(counted, here.site.k) if zone else counted,
                    durations_s=shown.spread(spread(table), here.site.k),
                    reentry_share=reentry(table, period.start) if many else None,
                    bounce_share=bounce(table) if many else None,
                    staff=staff.get("visits", 0),
                )
            )
        return found

    notes = [WHOLE, NO_DRAWS, *shown.notes(here.site.k)]
    return by_hour(here, asked, Visits, figure, of=["came", "staff"], notes=notes)


@router.get("/persons")
def persons(here: Here, asked: Of, zone: InZone) -> Series[Persons]:
    """How many different people began a visit in the period that is asked for. They do not add up."""

    def figure(hours: Hours, periods: list[Period]) -> list[Persons]:
        tables = [hours.came(period, zone) for period in periods]
        each = [Interval(persons_of(table, period.start)) for table, period in zip(tables, periods, strict=True)]
        return [Persons(persons=None if zone and here.site.k > 1 else counted) for counted in each]

    again = (
        f"Who comes again after {here.site.reentry_h:g} h is a new person: nothing is kept by which to know them again."
    )
    return by_hour(here, asked, Persons, figure, of=["came"], notes=[NOT_ADDED, again, *shown.notes(here.site.k)])


def _draws(here: Served, since: datetime, until: datetime) -> list[Drawn]:
    return kept.draws(here.store, here.site.name, since=since, until=until)


@router.get("/queues")
def queues(here: Here, asked: Of) -> Series[list[Queue]]:
    """Each queue of the site: how many people were in it, and how long they waited."""

    def figure(hours: Hours, periods: list[Period]) -> list[list[Queue]]:
        found = []
        for period in periods:
            each = [queued(hours.of("queues", period), queue.zone, period) for queue in here.site.queues]
            found.append(
                [
                    Queue(
                        zone=queue.zone,
                        mean=there.mean,
                        most=there.most,
                        waiting_s=shown.spread(there.waiting, here.site.k),
                    )
                    for queue, there in zip(here.site.queues, each, strict=True)
                ]
            )
        return found

    few = shown.notes(here.site.k)
    return by_hour(here, asked, list[Queue], figure, of=["queues"], notes=few)


@router.get("/conversion")
def conversion(here: Here, asked: Of) -> Series[Sold]:
    """Sales, as the tills counted them, for each visit and each group. Over 1 where one buys twice, or some were missed."""

    def figure(hours: Hours, periods: list[Period]) -> list[Sold]:
        sales = kept.sales(here.store, here.site.name, since=hours.period.start, until=hours.period.end)
        found = []
        for each, period in zip(analytics.sold(sales, periods), periods, strict=True):
            begun = hours.came(period).get("visits", 0)
            together = sum(hours.of("groups", period).values()) if here.site.k == 1 else 0  # only some may be told
            found.append(
                Sold(
                    sales=each,
                    by_visits=analytics.conversion(each, Interval(begun)),
                    by_groups=analytics.conversion(each, Interval(together)),
                )
            )
        return found

    return by_hour(here, asked, Sold, figure, of=(), beside=["came", "groups"])


@router.get("/counts")
def counts(here: Here, asked: Of) -> Series[list[Elsewhere]]:
    """What other counters told of the site's lines (`passerby import-counts`)."""

    def figure(rows: list[kept.Counted], periods: list[Period]) -> list[list[Elsewhere]]:
        lines = sorted({row.line for row in rows})
        each = [(line, analytics.counted(rows, periods, lines=[line])) for line in lines]
        return [
            [
                Elsewhere(
                    line=line, entries=found[place].entries, exits=found[place].exits, missing=found[place].missing
                )
                for line, found in each
            ]
            for place in range(len(periods))
        ]

    def load(period: Period) -> list[kept.Counted]:
        return kept.counts(here.store, here.site.name, since=period.start, until=period.end)

    return series(here, asked, list[Elsewhere], load, figure, cameras=())
