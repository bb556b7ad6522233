"""A site's counts over time: doors, people inside, visits, persons, queues, sales, and what was counted elsewhere."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from passerby.service import analytics, audit, kept
from passerby.service import report as room
from passerby.service.analytics import Period, Spread
from passerby.service.auth import needs
from passerby.service.privacy import enough
from passerby.service.report import NOT_ADDED, Seen
from passerby.service.routes import shown
from passerby.service.routes.answer import Series, series
from passerby.service.routes.period import Of, fault
from passerby.service.routes.problem import problems
from passerby.service.routes.served import Here, Served
from passerby.types import Interval
from passerby.vision.visits import VisitRow
from passerby.vision.window import Drawn

router = APIRouter(
    prefix="/api/v1/metrics",
    tags=["metrics"],
    responses=problems(),
    dependencies=[Depends(needs("see figures"))],
)
WHOLE = "A visit belongs to the hour and the day in which it began, and whole. The staff is left out."
USUAL_S = 7 * 86400 + 3600  # a longer time overlaps the weeks before; a week in autumn has an hour more
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

    visits: Interval | None = Field(description="Null where only a few dwelt in the zone that is asked for")
    durations_s: Spread | None = Field(description="Null for a few")
    reentry_share: Interval | None
    bounce_share: Interval | None
    staff: int


class Persons(BaseModel):
    """How many different people began a visit."""

    persons: Interval | None = Field(description="Null where only a few dwelt in the zone that is asked for")


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


def seen_of(here: Served, period: Period) -> Seen:
    """What is known of a period, from the beginning of its first day on."""
    opened = analytics.midnight(period.start.astimezone(here.zone).date(), here.zone)
    return Seen(here.store, here.site, Period(opened, period.end))


def rows_by_part(rows: Sequence[VisitRow], periods: Sequence[Period], zone: str | None) -> list[list[VisitRow]]:
    """The visits that began in each period, which are in order and do not overlap; only those that dwelt in a zone."""
    kept_ = sorted((row for row in rows if zone is None or zone in analytics.by_zone(row)), key=analytics.began)
    found, place = list[list[VisitRow]](), 0
    for period in periods:
        found.append([])
        while place < len(kept_) and analytics.began(kept_[place]) < period.end:
            if analytics.began(kept_[place]) >= period.start:
                found[-1].append(kept_[place])
            place += 1
    return found


@router.get("/footfall")
def footfall(here: Here, asked: Of) -> Series[Doors]:
    """Entries and exits: the crossings of the site's doors, beside what the audits of the doors and the weeks before say."""

    def figure(seen: Seen, periods: list[Period]) -> list[Doors]:
        counted = analytics.footfall(seen.crossings, periods, doors=here.site.doors)
        passed = analytics.passersby(seen.crossings, periods, lines=here.site.passing)
        short = all(period.seconds <= USUAL_S for period in periods)
        usual = (
            room.usual_entries(here.store, here.site, periods, here.zone, now=here.clock())
            if short
            else [None] * len(periods)
        )
        found = []
        for each, by, known in zip(counted, passed, usual, strict=True):
            entries, exits = (_corrected(seen, each.period, inwards=inwards) for inwards in (True, False))
            found.append(
                Doors(
                    entries=each.entries,
                    exits=each.exits,
                    entries_estimated=entries,
                    exits_estimated=exits,
                    usual=None
                    if known is None
                    else Usual(
                        median=known.median,
                        deviation=known.deviation,
                        weeks=known.weeks,
                        z=known.z,
                        marked=known.marked,
                    ),
                    passers_by=by if here.site.passing else None,
                    capture_share=analytics.capture(each.entries, by) if here.site.passing else None,
                )
            )
        return found

    return series(
        here, asked, Doors, lambda period: seen_of(here, period), figure, cameras=room.door_cameras(here.site)
    )


def _corrected(seen: Seen, period: Period, *, inwards: bool) -> Interval | None:
    """Entries or exits of all doors as the audits correct them; None for a site without doors."""
    counts = dict.fromkeys(seen.lines, 0)
    for crossing in seen.crossings:
        if crossing.line in counts and crossing.inwards == inwards and crossing.at in period:
            counts[crossing.line] += 1
    each = [
        audit.corrected(Interval(counts[line]), trust.entries if inwards else trust.exits)
        for line, trust in seen.lines.items()
    ]
    return audit.together(each) if each else None


@router.get("/occupancy")
def occupancy(here: Here, asked: Of) -> Series[Inside]:
    """How many people were inside: never under 0, repaired by who is seen inside, and nobody after closing time."""

    def figure(seen: Seen, periods: list[Period]) -> list[Inside]:
        steps = room.steps_of(seen, here.site)
        return [Inside(mean=each.mean, most=each.most) for each in analytics.occupied(steps, periods)]

    return series(here, asked, Inside, lambda period: seen_of(here, period), figure)


@router.get("/visits")
def visits(here: Here, asked: Of, zone: InZone) -> Series[Visits]:
    """How many visits began, how long they took, and which share came again or left within 2 minutes."""
    draws = _draws(here, asked.passed.start, asked.passed.end)

    def figure(seen: Seen, periods: list[Period]) -> list[Visits]:
        staff = analytics.visits(seen.staff, periods)
        came = analytics.visits(analytics.through_doors(seen.staff) if here.site.doors else seen.staff, periods)
        found = []
        parts = zip(periods, rows_by_part(seen.came, periods, zone), staff, came, strict=True)
        for period, rows, theirs, drawn_too in parts:
            drawn = None if zone else analytics.drawn(draws, period, here.zone, what="visits")
            counted = analytics.estimated(Interval(len(rows)), drawn, staff=drawn_too.value)
            many = enough(len(rows), k=here.site.k)
            found.append(
                Visits(
                    visits=shown.figure(counted, here.site.k) if zone else counted,
                    durations_s=shown.spread(analytics.durations(rows, period), here.site.k),
                    reentry_share=analytics.reentry(rows, period) if many else None,
                    bounce_share=analytics.bounce(rows, period) if many else None,
                    staff=int(theirs.value),
                )
            )
        return found

    return series(
        here,
        asked,
        Visits,
        lambda period: seen_of(here, period),
        figure,
        notes=[WHOLE, NO_DRAWS, *shown.notes(here.site.k)],
    )


@router.get("/persons")
def persons(here: Here, asked: Of, zone: InZone) -> Series[Persons]:
    """How many different people began a visit in the period that is asked for. They do not add up."""

    def figure(seen: Seen, periods: list[Period]) -> list[Persons]:
        found = []
        for period, rows in zip(periods, rows_by_part(seen.came, periods, zone), strict=True):
            counted = analytics.persons(rows, period)
            found.append(Persons(persons=shown.figure(counted, here.site.k) if zone else counted))
        return found

    again = (
        f"Who comes again after {here.site.reentry_h:g} h is a new person: nothing is kept by which to know them again."
    )
    return series(
        here,
        asked,
        Persons,
        lambda period: seen_of(here, period),
        figure,
        notes=[NOT_ADDED, again, *shown.notes(here.site.k)],
    )


def _draws(here: Served, since: datetime, until: datetime) -> list[Drawn]:
    return kept.draws(here.store, here.site.name, since=since, until=until)


@router.get("/queues")
def queues(here: Here, asked: Of) -> Series[list[Queue]]:
    """Each queue of the site: how many people were in it, and how long they waited."""

    def figure(seen: Seen, periods: list[Period]) -> list[list[Queue]]:
        each = [
            (queue.zone, analytics.queued(analytics.waits(seen.rows, queue.zone, now=here.clock()), periods))
            for queue in here.site.queues
        ]
        return [
            [
                Queue(
                    zone=zone,
                    mean=found[place].mean,
                    most=found[place].most,
                    waiting_s=shown.spread(found[place].waiting, here.site.k),
                )
                for zone, found in each
            ]
            for place in range(len(periods))
        ]

    few = shown.notes(here.site.k)
    return series(here, asked, list[Queue], lambda period: seen_of(here, period), figure, notes=few)


@router.get("/conversion")
def conversion(here: Here, asked: Of) -> Series[Sold]:
    """Sales, as the tills counted them, for each visit and each group. Over 1 where one buys twice, or some were missed."""

    def figure(seen: Seen, periods: list[Period]) -> list[Sold]:
        sold = analytics.sold(seen.sales, periods)
        return [
            Sold(
                sales=sales,
                by_visits=analytics.conversion(sales, Interval(len(rows))),
                by_groups=analytics.conversion(sales, Interval(len(analytics.groups(rows, period)))),
            )
            for sales, rows, period in zip(sold, rows_by_part(seen.came, periods, None), periods, strict=True)
        ]

    return series(here, asked, Sold, lambda period: seen_of(here, period), figure)


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
