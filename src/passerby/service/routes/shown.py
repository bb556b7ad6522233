"""Personal detail as it may be shown: whatever a route tells of people one by one, or of a few of them, passes through here."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import TypeVar

from passerby.service import analytics, released
from passerby.service.analytics import Dwell, Path, Period, Reached, Spread, Transition
from passerby.service.hours import dwell, ways
from passerby.service.privacy import REST, enough
from passerby.service.report import PATHS, Report
from passerby.service.rollups import Hours
from passerby.service.routes.served import Served
from passerby.service.screens import withheld
from passerby.types import Interval
from passerby.vision.visits import VisitRow

OUTSIDE = "\0"  # no place has this name
T = TypeVar("T", Dwell, Path)


def notes(k: int) -> list[str]:
    """What is said beside figures of which some may be withheld."""
    said = f"What fewer than {k} visits did is withheld: null, or left out. So is what would give it away."
    return [said] if k > 1 else []


def told(here: Served, period: Period) -> list[str]:
    """What is said beside personal detail: of how many days it is."""
    k = here.site.k
    if k == 1:
        return []
    days, over = len(released.told(here.store, here.site, "groups", period)), analytics.days(period, here.zone)
    return [
        f"Of {days} of {len(over)} days: detail is told of whole days, some hours after their end, in groups of {k} visits or "
        f"more. {REST} is any way on.",
        *notes(k),
    ]


def figure(value: Interval, k: int) -> Interval | None:
    """A count of people; None for a few, and where nobody can be told from a few."""
    return value if k == 1 or enough(round(value.value), k=k) else None


def spread(value: Spread | None, k: int) -> Spread | None:
    """How long something took; None for a few."""
    return value if value is not None and enough(value.count, k=k) else None


def of_many(found: Sequence[T], k: int) -> list[T]:
    """Those zones or paths that enough visits had."""
    return [each for each in found if enough(round(each.visits.value), k=k)]


def sizes(found: dict[int, int], k: int) -> dict[int, int | None]:
    """How many groups had so many people; None where these are few."""
    return {size: often if enough(size * often, k=k) else None for size, often in found.items()}


def funnel(found: Sequence[Reached], k: int) -> list[tuple[str, Interval | None, Interval | None]]:
    """Each step with its visits and their share; None from the first step on that only a few reached."""
    few, shown = False, []
    for each in found:
        few = few or figure(each.visits, k) is None
        shown.append((each.place, None if few else each.visits, None if few else each.share))
    return shown


def transitions(found: Sequence[Transition], k: int) -> list[Transition]:
    """The transitions without those of a few visits, and those that would give them away."""
    counts = {(each.origin or OUTSIDE, each.target or OUTSIDE): round(each.count.value) for each in found}
    kept, _ = withheld(counts, k=k)
    return [each for each in found if (each.origin or OUTSIDE, each.target or OUTSIDE) in kept]


def visits(here: Served, rows: Sequence[VisitRow]) -> list[VisitRow]:
    """Visits one by one: of a day with only a few, no more than that they were, from when to when."""
    days = [row.start.astimezone(here.zone).date() for row in rows]
    few = {day for day in set(days) if few_on(here, day)}
    bare = [replace(row, person=None, cameras=(), stays=(), sightings=(), probability=None) for row in rows]
    return [less if day in few else row for row, less, day in zip(rows, bare, days, strict=True)]


def few_on(here: Served, day: date) -> bool:
    """Whether only a few visits began on a day of the site's clock."""
    start, end = (analytics.midnight(each, here.zone) for each in (day, day + timedelta(days=1)))
    return not enough(here.store.begun(here.site.name, since=start, until=end), k=here.site.k)


def report(here: Served, found: Report) -> Report:
    """A report with the detail that may be told: counts stay, medians and shares of a few visits go."""
    k = here.site.k
    if k == 1:
        return found
    many = any(
        total.name == "visits" and total.value and enough(round(total.value.value), k=k) for total in found.totals
    )
    hours = Hours(here.store, here.site, found.period, now=here.clock(), told=True)
    taken = ways(hours.of("ways", found.period), by_zone=False)
    return replace(
        found,
        totals=[
            total
            if total.name != "groups" and (many or total.kind not in ("seconds", "share"))
            else replace(total, value=None, change=None)
            for total in found.totals
        ],
        dwell=dwell(hours.of("dwell", found.period)),
        paths=analytics.ranked_paths(taken, most=PATHS),
        transitions=analytics.ranked_transitions(taken),
        queues={
            zone: [replace(each, waiting=spread(each.waiting, k)) for each in queued]
            for zone, queued in found.queues.items()
        },
        notes=[*found.notes, *told(here, found.period)],
    )
