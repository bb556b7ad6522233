"""The service's figures beside the truth of simulated shops, which nobody chose them on.

python benchmarks/figures.py shop --hours 3 --draws   # recipes/reference_normal_2.toml and reference_staff.toml, seeds 1 to 5
python benchmarks/figures.py shop --hours 12 --kept runs/figures   # a day; goes on where it was broken off
python benchmarks/figures.py hours --arrivals 100 --seeds 40 --kept runs/figures   # intervals, over as many shop-hours
python benchmarks/figures.py drift                 # 12 hours of reference_normal_2; 3 % of the exits are taken away
python benchmarks/figures.py audits                # 200 audits of eight quarter hours at a line that misses 10 %
"""

import argparse
import json
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import combinations
from pathlib import Path
from statistics import median
from time import process_time
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np

from passerby.config import load_toml
from passerby.files import whole
from passerby.service import analytics, audit
from passerby.service.analytics import Period
from passerby.service.audit import Factor, Pair
from passerby.shop import Crossing, Link, Sighting, SightingKey, Stay, Visit, current
from passerby.simulate.appearance import DrawnVectors
from passerby.simulate.benchmark import associator_for
from passerby.simulate.cameras import Views
from passerby.simulate.people import Trip
from passerby.simulate.plan import Shop
from passerby.simulate.recording import Witnessed, in_order, witness
from passerby.simulate.watching import presence
from passerby.types import Interval
from passerby.vision.associate import EVERY_S, WATERMARK_S, Changes
from passerby.vision.pipeline import DRAWN_EVERY
from passerby.vision.visits import VisitRow, joined_stays, passages, visit_rows
from passerby.vision.window import Drawn, Window

RECIPES = Path(__file__).parents[1] / "recipes"
UTC_ZONE = ZoneInfo("UTC")
DOOR, QUEUE, STAFF_ZONE = "door", "checkout", "stock room door"  # of both shops
AUDITED = 1000  # added to a seed: the day on which people counted
QUARTER = timedelta(minutes=15)
DAY = timedelta(days=1)
NO_VECTORS, NO_QUALITY, NO_PICTURES = np.zeros((0, 0), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)


@dataclass(frozen=True)
class Day:
    """A simulated time: what was true, and what cameras and associator made of it."""

    shop: Shop
    duration_s: float
    trips: list[Trip]
    seen: dict[SightingKey, Sighting]
    links: dict[SightingKey, Link]
    visits: list[Visit]
    person: dict[SightingKey, int | None]
    draws: list[Drawn]

    @cached_property
    def crossings(self) -> list[Crossing]:
        """The passages of lines."""
        return [crossing for each in self.seen.values() for crossing in passages(each.crossings)]

    @cached_property
    def rows(self) -> list[VisitRow]:
        """The visits."""
        return visit_rows(self.visits, self.seen, self.links, doors=[DOOR])

    @property
    def period(self) -> Period:
        """From opening on."""
        return Period(self.shop.opens, self.at(self.duration_s))

    def at(self, seconds: float) -> datetime:
        """A time after opening."""
        return self.shop.opens + timedelta(seconds=seconds)

    def holder(self, row: VisitRow) -> int | None:
        """Who holds most of a visit's sightings; None is nobody."""
        return Counter(self.person[key] for key in row.sightings).most_common(1)[0][0]

    def true_crossings(self) -> list[Crossing]:
        """When people really went through the door."""
        return [Crossing(DOOR, self.at(at_s), inwards) for trip in self.trips for _, at_s, inwards in trip.crossings]


def day_of(shop: Shop, *, seed: int, hours: float, draws: bool = False, kept: Path | None) -> Day:
    """`followed`, but read from the folder `kept` where it is there, and put there where not."""
    if kept is None:
        return followed(shop, seed=seed, duration_s=3600 * hours, draws=draws)
    name = f"{shop.sha256[:8]}-{seed}-{hours:g}{'-draws' if draws else ''}.pickle"
    if not (kept / name).exists():
        found = followed(shop, seed=seed, duration_s=3600 * hours, draws=draws)
        kept.mkdir(parents=True, exist_ok=True)
        with whole(kept / name) as path:
            path.write_bytes(pickle.dumps(found))
    day: Day = pickle.loads((kept / name).read_bytes())
    return day


def followed(shop: Shop, *, seed: int, duration_s: float, link: bool = True, draws: bool = False) -> Day:
    """Simulate a time and follow it as `serve` does: every revision as it becomes known, the associator from a cold start.

    Without `link` there are crossings alone; with `draws`, links are drawn every five minutes, too.
    """
    source = DrawnVectors(shop.looks, seed=seed, cameras=len(shop.cameras))
    trips: list[Trip] = []
    witnessed: list[Witnessed] = list(witness(shop, source, seed=seed, duration_s=duration_s, see_visit=trips.append))
    calibration = source.calibration()
    assert calibration is not None
    associator = associator_for(shop, calibration, for_draws=True)
    window = Window(site=shop.name, calibration=calibration)
    looked: datetime | None = None
    seen: dict[SightingKey, Sighting] = {}
    links: dict[SightingKey, Link] = {}
    visits: dict[str, Visit] = {}

    def keep(changes: Changes) -> None:
        changes.update(links)
        visits.update((visit.name, visit) for visit in changes.visits)

    now: datetime | None = None
    for sighting in in_order(witnessed, refresh=True):
        seen[sighting.key] = replace(sighting, prototypes=NO_VECTORS, quality=NO_QUALITY, pictures=NO_PICTURES)
        if not link:
            continue
        now = now or sighting.end
        while now < sighting.end:
            now += timedelta(seconds=EVERY_S)
            keep(associator.advance(now))
            looked = looked or now
            if draws and now - looked >= DRAWN_EVERY:
                window.look(associator.remembered(since_s=window.since_s))
                looked = now
        associator.take(sighting)
    if now is not None:
        keep(associator.advance(now + timedelta(seconds=WATERMARK_S + EVERY_S)))
    keep(associator.finish())
    if draws and now is not None:
        window.look(associator.remembered(since_s=window.since_s))
    return Day(
        shop,
        duration_s,
        trips,
        seen,
        links,
        list(current(visits.values())),
        {each.sighting.key: each.track.person for each in witnessed if each.sighting is not None},
        window.counts() if draws else [],
    )


def off(found: Sequence[float], true: Sequence[float]) -> float:
    """The mean absolute error, in parts of the truth's mean."""
    return sum(abs(a - b) for a, b in zip(found, true, strict=True)) / sum(true)


def door_factors(day: Day) -> dict[bool, Factor]:
    """What eight quarter hours of that day say of the door: every fourth one, from opening on."""
    pairs: dict[bool, list[Pair]] = {True: [], False: []}
    for number in range(8):
        quarter = Period(day.shop.opens + 4 * number * QUARTER, day.shop.opens + (4 * number + 1) * QUARTER)
        (true,) = analytics.footfall(day.true_crossings(), [quarter], doors=[DOOR])
        (line,) = analytics.footfall(day.crossings, [quarter], doors=[DOOR])
        pairs[True].append(Pair(int(true.entries.value), int(line.entries.value)))
        pairs[False].append(Pair(int(true.exits.value), int(line.exits.value)))
    return {inwards: audit.factor(each) for inwards, each in pairs.items()}


def doors(day: Day, factors: dict[bool, Factor], rows: Sequence[VisitRow]) -> dict[str, float]:
    """Entries and exits by the hour and of the day: as the line counted them, as an audit has them, by visits."""
    hours, true_ones = analytics.hours(day.period, UTC_ZONE), day.true_crossings()
    found: dict[str, float] = {}
    for name, periods in (("an hour", hours), ("a day", [day.period])):
        true, line = (analytics.footfall(each, periods, doors=[DOOR]) for each in (true_ones, day.crossings))
        visits = analytics.through(rows, periods)
        for what in ("entries", "exits"):
            counts, truth, ours = ([getattr(each, what) for each in side] for side in (line, true, visits))
            people = [each.value for each in truth]
            better = [audit.corrected(count, factors[what == "entries"]) for count in counts]
            found[f"{what} {name}, as counted"] = off([each.value for each in counts], people)
            found[f"{what} {name}, as audited"] = off([each.value for each in better], people)
            found[f"{what} {name}, by visits"] = off([each.value for each in ours], people)
            if name == "an hour":
                found[f"{what} an hour: audited intervals that cover"] = covered(better, people)
                found[f"{what} an hour: by visits, intervals that cover"] = covered(ours, people)
    return found


def covered(found: Sequence[Interval], true: Sequence[float]) -> float:
    """The share of intervals in which the truth lies."""
    inside = [
        each.low <= value <= each.high
        for each, value in zip(found, true, strict=True)
        if each.low is not None and each.high is not None
    ]
    return sum(inside) / len(inside)


def without_staff(day: Day) -> tuple[list[VisitRow], dict[str, float]]:
    """The visits that are left when staff is left out, and how well that went.

    Left out of visits is also what no door saw come or go; only who was held to be staff is left out of dwell and queues.
    """
    theirs = analytics.staff(day.rows, UTC_ZONE, zones=[STAFF_ZONE])
    staff = [row for row in day.rows if (day.holder(row) or 0) < 0]
    shoppers = [row for row in day.rows if (day.holder(row) or 0) > 0]

    def time_s(rows: Sequence[VisitRow]) -> float:
        return sum(map(analytics.duration_s, rows))

    found = {}
    if len({trip.person for trip in day.trips if trip.staff}) > 1:
        out = [row for row in staff if row.visit in theirs]
        counted = {row.visit for row in analytics.through_doors(day.rows)} - theirs
        seen = {day.holder(row) for row in analytics.through_doors(shoppers)}
        kept = {day.holder(row) for row in shoppers if row.visit in counted}
        found = {
            "staff left out, of their visits": 1 - sum(row.visit in counted for row in staff) / max(1, len(staff)),
            "staff left out, of their visits, as staff": len(out) / max(1, len(staff)),
            "staff left out, of their time": time_s(out) / max(1.0, time_s(staff)),
            "shoppers wrongly left out": len(seen - kept) / max(1, len(seen)),
        }
    return analytics.as_one([row for row in day.rows if row.visit not in theirs]), found


def others(day: Day, rows: Sequence[VisitRow]) -> list[VisitRow]:
    """All visits but these."""
    names = {row.visit for row in rows}
    return [row for row in day.rows if row.visit not in names]


def people(day: Day, rows: Sequence[VisitRow]) -> dict[str, float]:
    """Unique visitors, visits and groups: of those who went through the door; who turns round before it has passed by."""
    shoppers = [trip for trip in day.trips if not trip.staff and trip.crossings]
    persons, visits = len({trip.person for trip in shoppers}), len(shoppers)
    found = [
        frozenset((a, b))
        for group in analytics.groups(rows, day.period)
        for one, other in combinations(group, 2)
        if (a := day.holder(one)) != (b := day.holder(other))
    ]
    parties: dict[int, set[int]] = {}
    for trip in shoppers:
        parties.setdefault(trip.party, set()).add(trip.person)
    true = {frozenset(pair) for members in parties.values() for pair in combinations(sorted(members), 2)}
    hits = len(true & set(found))
    values: dict[str, float] = {"groups, F1 of pairs": 2 * hits / (len(set(found)) + len(true))}
    came, theirs = analytics.through_doors(rows), others(day, rows)
    values["unique visitors of the day, as linked"] = analytics.persons(came, day.period).value / persons - 1
    values["visits of the day, as linked"] = analytics.visits(came, [day.period])[0].value / visits - 1
    everybody = len({trip.person for trip in day.trips})
    staff = analytics.visits(analytics.through_doors(theirs), [day.period])[0].value
    each_of: tuple[tuple[Literal["persons", "visits"], str, int, float], ...] = (
        ("persons", "people seen, passers-by and staff too", everybody, 0.0),
        ("visits", "visits of the day", visits, staff),
    )
    for what, name, truth, less in each_of:
        drawn = drawn_of(day, what, staff=less)
        if drawn.low is not None and drawn.high is not None:
            values[f"{name}, as drawn"] = drawn.value / truth - 1
            values[f"{name}: interval covers"] = float(drawn.low <= truth <= drawn.high)
    return values


def zones_seen(shop: Shop, views: Views) -> set[str]:
    """The zones but the entrance of whose places to stand each is in some camera's view."""
    found = set[str]()
    for number, zone in enumerate(shop.zones):
        spots = shop.floor.spots_in(number)
        if zone.kind != "entrance" and all(views.glimpses(int(spot), int(spot)) for spot in spots):
            found.add(zone.name)
    return found


def dwell(day: Day, rows: Sequence[VisitRow]) -> dict[str, float]:
    """Shoppers' stays in zones that cameras see whole, without the entrance: whom a door's camera sees walks through it.

    What is one stay is defined for true ones as for those that were seen. The error is that of a stay beside the true one of
    whoever holds it, which it overlaps most; the bias that of the mean.
    """
    views = Views(day.shop)
    true: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for trip in day.trips:
        if trip.staff:
            continue
        there = [Stay(day.shop.zones[zone].name, day.at(a), day.at(b)) for zone, a, b in presence(trip, views)]
        for stay in joined_stays(there):
            assert stay.end is not None
            since, until = ((at - day.shop.opens).total_seconds() for at in (stay.start, stay.end))
            if until - since > analytics.LEAST_S:
                true.setdefault((trip.person, stay.zone), []).append((since, until))
    errors, ours = [], []
    seen = zones_seen(day.shop, views)
    for row in rows:
        for stay in row.stays:
            since, until = ((at - day.shop.opens).total_seconds() for at in (stay.start, stay.end or row.end))
            holder = day.holder(row) or 0
            if stay.zone not in seen or until - since <= analytics.LEAST_S or holder < 0:
                continue
            ours.append(until - since)
            theirs_of = true.get((holder, stay.zone), [])
            if theirs_of:
                best = max(theirs_of, key=lambda each: min(each[1], until) - max(each[0], since))
                errors.append(abs((until - since) - (best[1] - best[0])))
    theirs = [until - since for (_, zone), spans in true.items() if zone in seen for since, until in spans]
    bias = (sum(ours) / len(ours)) / (sum(theirs) / len(theirs)) - 1
    return {"dwell, median absolute error, s": median(errors), "dwell, bias of the mean stay": bias}


def queue(day: Day, rows: Sequence[VisitRow]) -> dict[str, float]:
    """Time at the checkout, and waiting until one of its tills was free, beside the truth of whoever holds the visit."""
    joined = {
        trip.person: trip.queue for trip in day.trips if trip.queue is not None and not trip.staff and not trip.reentry
    }
    holders = {row.visit: day.holder(row) for row in rows}
    found: dict[str, float] = {}
    for name, served in (("at the checkout", 0), ("waiting to be served", day.shop.checkout.tills)):
        errors, ours, theirs = [], [], []
        those = analytics.payers(rows, day.period, QUEUE) if served else rows
        for wait in analytics.waits(those, QUEUE, served=served):
            theirs_of = joined.get(holders[wait.visit] or 0)
            if theirs_of is None or abs((wait.start - day.at(theirs_of.joined_s)).total_seconds()) > 60:
                continue
            true = (theirs_of.served_s if served else theirs_of.left_s) - theirs_of.joined_s
            errors.append(abs(wait.seconds - true))
            ours.append(wait.seconds)
            theirs.append(true)
        found[f"{name}, median absolute error, s"] = median(errors)
        found[f"{name}, mean absolute error, s"] = sum(errors) / len(errors)
        found[f"{name}, error of the mean, s"] = abs(sum(ours) - sum(theirs)) / len(ours)
    return found


def lists(day: Day, rows: Sequence[VisitRow], other: Day) -> dict[str, float]:
    """How many the door missed, by the two lists; how links err is known from another day."""

    def both(of: Day, those: Sequence[VisitRow]) -> tuple[int, int, int]:
        return audit.lists(analytics.through_doors(those), door_cameras=frozenset({"entrance"}))

    entries, inside, linked = both(day, rows)
    learnt, _ = without_staff(other)
    _, inside_then, linked_then = both(other, learnt)
    came = sum(trip.crossings != [] for trip in other.trips if not trip.staff)
    seen = sum(row.entered is not None for row in learnt) / came
    unlinked = max(0.0, 1 - linked_then / inside_then / min(1.0, seen))
    found = audit.two_lists(entries=entries, inside=inside, linked=linked, unlinked=unlinked)
    true = sum(trip.crossings != [] for trip in day.trips if not trip.staff)
    assert found is not None
    return {"people by two lists": found.people.value / true - 1}


BARS: dict[str, tuple[str, Callable[[float], bool]]] = {
    **{
        f"{what} {span}, {how}": (bar, lambda value, most=most: value <= most)  # type: ignore[misc]
        for what in ("entries", "exits")
        for span, bar, most in (("an hour", "<= 2 %", 0.02), ("a day", "<= 1 %", 0.01))
        for how in ("as counted", "as audited", "by visits")
    },
    "unique visitors of the day, as linked": ("within 4 %", lambda value: abs(value) <= 0.04),
    "people seen, passers-by and staff too, as drawn": ("within 4 %", lambda value: abs(value) <= 0.04),
    "dwell, median absolute error, s": ("<= 1 s", lambda value: value <= 1),
    "dwell, bias of the mean stay": ("within 2 %", lambda value: abs(value) <= 0.02),
    **{
        f"{name}, {of}, s": ("<= 5 s", lambda value: value <= 5)
        for name in ("at the checkout", "waiting to be served")
        for of in ("median absolute error", "error of the mean")
    },
    "staff left out, of their visits": (">= 95 %", lambda value: value >= 0.95),
    "staff left out, of their time": (">= 95 %", lambda value: value >= 0.95),
    "shoppers wrongly left out": ("<= 1 %", lambda value: value <= 0.01),
    "groups, F1 of pairs": (">= 0.85", lambda value: value >= 0.85),
    "people inside after 12 h, too many": ("within 2", lambda value: abs(value) <= 2),
}


def told(name: str, values: Sequence[float]) -> str:
    """A row of the table: median, lowest and highest, the bar and whether the median meets it."""

    def shown(value: float) -> str:
        if name.endswith(", s") or "inside after" in name or "F1" in name:
            return f"{value:.2f}"
        return f"{100 * value:.1f} %"

    bar, met = BARS.get(name, ("", lambda value: True))
    verdict = ("met" if met(median(values)) else "not met") if bar else ""
    return f"| {name} | {shown(median(values))} | {shown(min(values))} - {shown(max(values))} | {bar} | {verdict} |"


HEAD = "| figure | median | lowest - highest | bar | |\n|---|---|---|---|---|"


def without_losses(plan: Shop) -> Shop:
    """A shop whose trackers lose no piece of a stay, and no crossing, while a track goes on."""
    return replace(plan, cameras=tuple(replace(each, tracker=replace(each.tracker, lost=0.0)) for each in plan.cameras))


def shop(recipe: str, *, seeds: Sequence[int], hours: float, draws: bool, lossless: bool, kept: Path | None) -> None:
    """All figures of one shop."""
    found: dict[str, list[float]] = {}
    plan = load_toml(RECIPES / f"{recipe}.toml", Shop)
    plan = without_losses(plan) if lossless else plan
    other = day_of(plan, seed=AUDITED, hours=hours, kept=kept)
    for seed in seeds:
        day = day_of(plan, seed=seed, hours=hours, draws=draws, kept=kept)
        rows, staff = without_staff(day)
        for figures in (
            doors(day, door_factors(followed(plan, seed=seed + AUDITED, duration_s=3600 * 8, link=False)), rows),
            people(day, rows),
            staff,
            dwell(day, rows),
            queue(day, rows),
            lists(day, rows, other),
        ):
            for name, value in figures.items():
                found.setdefault(name, []).append(value)
    print(f"\n{recipe}, {hours:g} hours, seeds {seeds[0]} to {seeds[-1]}\n\n{HEAD}")
    for name, values in found.items():
        print(told(name, values), flush=True)


def hours(*, arrivals: float, seeds: Sequence[int], kept: Path) -> None:
    """How often 90 % intervals cover the truth, over first hours of `reference_normal_2` with so many arrivals.

    A line of `kept` for each hour: it is there at once, so that a run goes on where it was broken off.
    """
    plan = load_toml(RECIPES / "reference_normal_2.toml", Shop)
    plan = replace(plan, arrivals=replace(plan.arrivals, per_hour=(arrivals,)))
    kept.mkdir(parents=True, exist_ok=True)
    known = kept / f"hours-{arrivals:g}.jsonl"
    rows = [json.loads(line) for line in known.read_text().splitlines()] if known.exists() else []
    for seed in seeds:
        if seed not in {row["seed"] for row in rows}:
            began_s = process_time()
            rows.append({"seed": seed, **hour(followed(plan, seed=seed, duration_s=3600, draws=True))})
            with known.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(f"seed {seed}: {process_time() - began_s:.0f} s of the processor", flush=True)
    rows = [row for row in rows if row["seed"] in seeds]
    print(f"\n{arrivals:g} arrivals an hour, {len(rows)} shop-hours: seeds {min(seeds)} to {max(seeds)}\n")
    print(
        "| figure | mean error | mean absolute error | 90 % interval covers | median width | Poisson covers | its width |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in (key for key in rows[0] if key != "seed"):
        true, value, low, high = np.array([row[name] for row in rows]).T
        chance = analytics.NORMAL_90 * np.sqrt(value)
        cells = (
            np.mean(value / true - 1),
            np.mean(abs(value / true - 1)),
            np.mean((low <= true) & (true <= high)),
            np.median((high - low) / true),
            np.mean(abs(value - true) <= chance),
            np.median(2 * chance / true),
        )
        print(f"| {name} | " + " | ".join(f"{100 * cell:.1f} %" for cell in cells) + " |")


def hour(day: Day) -> dict[str, tuple[float, float, float, float]]:
    """The truth of one hour, and a figure with its interval: people, visits and entries."""
    rows, _ = without_staff(day)
    came = [trip for trip in day.trips if not trip.staff and trip.crossings]
    staff = analytics.visits(analytics.through_doors(others(day, rows)), [day.period])[0].value
    begun = sum(at in day.period for trip in came for at in [day.at(min(each[1] for each in trip.crossings))])
    entries = sum(crossing.inwards and crossing.at in day.period for crossing in day.true_crossings())
    (by_visits,) = analytics.through(rows, [day.period])
    found = {
        "people seen": (len(set(day.person.values()) - {None}), drawn_of(day, "persons")),
        "visits": (begun, drawn_of(day, "visits", staff=staff)),
        "entries by visits": (entries, by_visits.entries),
    }
    return {
        name: (true, each.value, each.low or 0.0, each.high if each.high is not None else np.inf)
        for name, (true, each) in found.items()
    }


def drawn_of(day: Day, what: Literal["persons", "visits"], *, staff: float = 0.0) -> Interval:
    """A count of the whole day as its draws have it."""
    midnight = analytics.midnight(day.shop.opens.date(), UTC_ZONE)
    draws = analytics.drawn(day.draws, Period(midnight, midnight + DAY), UTC_ZONE, what=what)
    return analytics.estimated(Interval(0.0), draws, staff=staff)


def drift(*, seeds: Sequence[int], hours: float = 12.0) -> None:
    """How many are thought to be inside after 12 hours: by the doors, and repaired by who is seen inside."""
    plan = replace(load_toml(RECIPES / "reference_normal_2.toml", Shop), staff=0)
    found: dict[str, list[float]] = {}
    for seed in seeds:
        day = followed(plan, seed=seed, duration_s=3600 * hours)
        chance = np.random.default_rng([seed, 1])
        missed = {row.visit for row in day.rows if row.left is not None and chance.random() < 0.03}
        rows = [replace(row, left=None) if row.visit in missed else row for row in day.rows]
        gone = {row.left for row in day.rows if row.visit in missed}
        crossings = [each for each in day.crossings if each.inwards or each.at not in gone]
        end = day.at(3600 * hours)
        true = sum(trip.enters_s <= 3600 * hours < trip.leaves_s for trip in day.trips)
        for name, steps in (
            ("by the doors alone, too many", analytics.occupancy(crossings, doors=[DOOR])),
            ("people inside after 12 h, too many", analytics.inside(rows)),
        ):
            last = [step.people for step in steps if step.at <= end][-1]
            found.setdefault(name.replace("by the doors", "inside after 12 h by the doors"), []).append(last - true)
            least = min(step.people for step in steps)
            assert least >= 0
    print(
        f"\nreference_normal_2, {hours:g} hours, 3 % of the exits taken away, seeds {seeds[0]} to {seeds[-1]}\n\n{HEAD}"
    )
    for name, values in found.items():
        print(told(name, values))


def audits(*, number: int = 200) -> None:
    """Audits of eight quarter hours at a line that misses some and counts a few twice, and then a day of that line."""
    print(f"\n{number} simulated audits of eight quarter hours; the day has ten hours\n")
    print(
        "| missed | people a quarter hour | error before | error after, median | intervals that cover | within the bars |"
    )
    print("|---|---|---|---|---|---|")
    rng = np.random.default_rng(1)
    for missed in (0.02, 0.1, 0.2):
        for people_ in (8, 30):
            before, after, covered = [], [], 0
            for _ in range(number):
                rate = people_ * float(rng.lognormal(0.0, 0.3))

                def line(came: int, missed: float = missed) -> int:
                    return int(rng.binomial(came, 1 - missed) + rng.poisson(0.02 * came))

                pairs = [Pair(came, line(came)) for came in rng.poisson(rate, 8).tolist()]
                came = int(rng.poisson(40 * rate))
                counted = line(came)
                found = audit.corrected(Interval(counted), audit.factor(pairs))
                before.append(abs(counted / came - 1))
                after.append(abs(found.value / came - 1))
                assert found.low is not None
                assert found.high is not None
                covered += found.low <= came <= found.high
            good = median(after) <= 0.03 and 0.85 <= covered / number <= 0.95
            print(
                f"| {missed:.0%} | {people_} | {median(before):.1%} | {median(after):.1%} | {covered / number:.1%} | "
                f"{'yes' if good else 'no'} |"
            )


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["shop", "hours", "drift", "audits"])
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipe", action="append")
    parser.add_argument("--arrivals", type=float, default=100.0, help="an hour, of `hours`")
    parser.add_argument("--draws", action="store_true", help="also draw links, and count in each draw")
    parser.add_argument(
        "--lossless", action="store_true", help="trackers lose no piece of a stay while a track goes on"
    )
    parser.add_argument("--kept", type=Path, help="a folder of what was followed: a run goes on where it broke off")
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    if given.part == "shop":
        for recipe in given.recipe or ("reference_normal_2", "reference_staff"):
            shop(recipe, seeds=seeds, hours=given.hours, draws=given.draws, lossless=given.lossless, kept=given.kept)
    elif given.part == "hours":
        hours(arrivals=given.arrivals, seeds=seeds, kept=given.kept or Path("runs/figures"))
    elif given.part == "drift":
        drift(seeds=seeds)
    else:
        audits()


if __name__ == "__main__":
    main()
