"""How many people came in an hour, and how sure is that: draws of counts on simulated shops, beside the truth.

    python benchmarks/counts.py --seeds 1-10 --rows counts.csv                    # what was tuned on
    python benchmarks/counts.py --seeds 201-220 --arrivals 100 --rows counts.csv  # never looked at before
    python benchmarks/counts.py --seeds 201-210 --slopes 0.67 1.5 --rows counts.csv
    python benchmarks/counts.py --seeds 1-2 --arrivals 100 --causes               # where the error comes from
    python benchmarks/counts.py --seeds 1-2 --arrivals 400 --starts               # do chains of opposite starts agree?

`reference_normal_2` with other arrivals and another Rank-1, drawn vectors, one hour from opening; its cameras' trackers err.
The associator and the draws begin without any knowledge of rates and times, and see one revision of each sighting, in order of
its end; the last look of the draws is a quarter of an hour after the end, as a served site's is. The truth is how many people,
staff included, hold most of any track. "Best links" counts the chains of the associator's links in place of draws, "Poisson"
gives the draws' median the interval of a Poisson count. Last come the links that the associator told: how often they are
false, beside how often they say so.

With `--rows` each shop-hour is kept in that file, and is not counted again by a second run; a run that was cut off goes on.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from passerby.config import load_toml
from passerby.reid.calibration import Calibration
from passerby.service.analytics import NORMAL_90
from passerby.shop import Link, SightingKey
from passerby.simulate.appearance import DrawnVectors
from passerby.simulate.benchmark import associator_for
from passerby.simulate.plan import Shop
from passerby.simulate.recording import Witnessed, in_order, witness
from passerby.types import Float64
from passerby.vision.associate import Associator
from passerby.vision.linking import Remembered
from passerby.vision.matchings import Matchings
from passerby.vision.window import Window
from shared import ROOT

DURATION_S = 3600.0
LOOK_S = 900.0  # from one look of the window to the next, as `passerby link` has it
ADVANCE_S = 30.0  # from one look of the associator to the next: `passerby link` has 5
PARTS = 10  # of links, by what they promise
MIXED = 0.97  # a track of which one person holds less has several
HEAD = (
    "| arrivals, Rank-1, slope | shop-hours | people | mean error, % | mean absolute error, % | 90 % interval covers | "
    "its median width, % | Poisson covers | its width, % | best links: mean absolute error, % | slope's factor | "
    "seconds an hour |"
)
MORE_LOOKS = 4  # at the end, where chains of opposite starts are compared


@dataclass(frozen=True, slots=True)
class Hour:
    """One shop-hour: people in truth, by the draws, and by the best links; links told, and which are right."""

    true: int
    value: float
    low: float
    high: float
    best: int
    promised: Float64
    right: Float64
    factor: float
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One shop-hour as it is kept: of links, how many there are, false ones, and in ten parts by promise."""

    arrivals: float
    rank1: float
    slope: float
    seed: int
    draws: int
    true: int
    value: float
    low: float
    high: float
    best: int
    factor: float
    seconds: float
    links: int
    false: float
    promised: float
    off: float


def steeper(calibration: Calibration, by: float) -> Calibration:
    """A calibration that takes its ratios for `by` times what they are."""
    curves = tuple(
        (pair, replace(curve, slopes=tuple(by * slope for slope in curve.slopes), offset=by * curve.offset))
        for pair, curve in calibration.curves
    )
    return replace(calibration, curves=curves)


def simulated(arrivals: float, rank1: float, seed: int) -> tuple[Shop, Calibration, list[Witnessed]]:
    """An hour of the reference shop with so many arrivals and such looks."""
    plan = load_toml(ROOT / "recipes" / "reference_normal_2.toml", Shop)
    shop = replace(
        plan,
        arrivals=replace(plan.arrivals, per_hour=(arrivals,)),
        looks=replace(plan.looks, rank1=rank1),
    )
    source = DrawnVectors(shop.looks, seed=seed, cameras=len(shop.cameras))
    return shop, source.calibration(), list(witness(shop, source, seed=seed, duration_s=DURATION_S))


def followed(
    associator: Associator, begins: datetime, witnessed: Sequence[Witnessed], window: Window
) -> tuple[dict[SightingKey, Link], Remembered]:
    """Follow sightings from a time on: the links that were told, and what is remembered at their end."""
    now = looked = begins
    links: dict[SightingKey, Link] = {}

    for sighting in in_order(witnessed, refresh=False):
        while now < sighting.end:
            now += timedelta(seconds=ADVANCE_S)
            associator.advance(now).update(links)
            if (now - looked).total_seconds() >= LOOK_S:
                looked = now
                window.look(associator.remembered(since_s=window.since_s))
        associator.take(sighting)
    associator.finish().update(links)
    known = associator.remembered(since_s=window.since_s)
    window.look(known)
    return links, known


def persons(window: Window) -> tuple[float, float, float]:
    """The median of how many people there were, and the bounds."""
    return next(row for row in window.counts() if (row.length, row.what) == ("day", "persons")).interval()


def later(known: Remembered, by_s: float) -> Remembered:
    """What is remembered when nothing has come for so long."""
    return replace(known, looked_s=known.looked_s + by_s)


def hour(associator: Associator, begins: datetime, witnessed: Sequence[Witnessed], window: Window) -> Hour:
    """Follow an hour, and count its people."""
    began = process_time()
    links, known = followed(associator, begins, witnessed, window)
    window.look(later(known, LOOK_S))
    value, low, high = persons(window)
    who = {each.sighting.key: each.track.person for each in witnessed if each.sighting is not None}
    told = [link for link in links.values() if link.earlier in who and link.later in who]
    return Hour(
        len({person for person in who.values() if person is not None}),
        value,
        low,
        high,
        int((known.follows < 0).sum()),
        np.array([link.probability for link in told]),
        np.array([who[link.earlier] is not None and who[link.earlier] == who[link.later] for link in told], float),
        float(np.exp(window.factor[0])),
        process_time() - began,
    )


def kept(hour: Hour, arrivals: float, rank1: float, slope: float, seed: int, draws: int) -> Row:
    """A shop-hour as a row; `off` is the mean over ten parts of the links, weighted, of how far they are off."""
    parts = np.array_split(np.argsort(hour.promised), PARTS)
    off = sum(len(part) * abs(hour.promised[part].mean() - hour.right[part].mean()) for part in parts if len(part))
    false, promised = float((1 - hour.right).sum()), float((1 - hour.promised).sum())
    counted = (hour.true, hour.value, hour.low, hour.high, hour.best, round(hour.factor, 4), round(hour.seconds, 1))
    links = (len(hour.right), false, round(promised, 3), round(off / max(1, len(hour.right)), 5))
    return Row(arrivals, rank1, slope, seed, draws, *counted, *links)


def read(path: Path) -> list[Row]:
    """The shop-hours that a file holds."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [_row(each) for each in csv.DictReader(file)]


def _row(texts: dict[str, str]) -> Row:
    figures: dict[str, Any] = {f.name: (int if f.type is int else float)(texts[f.name]) for f in fields(Row)}
    return Row(**figures)  # Any: whole numbers and others


def append(path: Path, row: Row) -> None:
    """Write a shop-hour to the end of a file."""
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow([f.name for f in fields(Row)])
        writer.writerow(astuple(row))


def told(name: str, hours: Sequence[Row]) -> str:
    """A row of the table over some shop-hours."""
    true, value, low, high, best = (
        np.array([getattr(each, field) for each in hours], float) for field in ("true", "value", "low", "high", "best")
    )
    half = NORMAL_90 * np.sqrt(value)
    figures = [
        f"{len(hours)}",
        f"{true.mean():.0f}",
        f"{100 * np.mean((value - true) / true):+.1f}",
        f"{100 * np.mean(np.abs(value - true) / true):.1f}",
        f"{np.sum((low <= true) & (true <= high))} of {len(hours)}",
        f"{100 * np.median((high - low) / true):.1f}",
        f"{np.sum(np.abs(value - true) <= half)} of {len(hours)}",
        f"{100 * np.median(2 * half / true):.1f}",
        f"{100 * np.mean(np.abs(best - true) / true):.1f}",
        f"{np.mean([each.factor for each in hours]):.2f}",
        f"{np.mean([each.seconds for each in hours]):.0f}",
    ]
    return f"| {name} | " + " | ".join(figures) + " |"


def links_told(name: str, hours: Sequence[Row]) -> str:
    """How often links are false, beside how often they say so."""
    links, seen, said = (sum(getattr(each, field) for each in hours) for field in ("links", "false", "promised"))
    off = sum(each.links * each.off for each in hours) / max(1, links)
    return f"| {name} | {links:,} | {off:.3f} | {seen:.0f} | {said:.0f} | {seen / max(said, 1e-9) - 1:+.0%} |"


def causes(window: Window, known: Remembered, witnessed: Sequence[Witnessed]) -> dict[str, float]:
    """What the mean of the draws counts too many and too few, by cause; the sum is how far it is off."""
    track = {each.sighting.key: each.track for each in witnessed if each.sighting is not None}
    tracks = [track[key] for key in known.keys]
    who = [each.person for each in tracks]
    several = [max(share for _, share in each.shares(each.start_s, each.end_s)) < MIXED for each in tracks]
    rows: dict[int, list[int]] = {}
    for row, person in enumerate(who):
        if person is not None:
            rows.setdefault(person, []).append(row)
    row_of = {key: row for row, key in enumerate(known.keys)}
    found: Counter[str] = Counter()
    for draw in range(window.draws):
        partition = window.partition(draw)
        chain_of = {row_of[key]: chain for chain, keys in enumerate(partition.people) for key in keys}
        for keys in partition.people:
            people = {who[row_of[key]] for key in keys} - {None}
            if people:
                found["several people taken for one"] -= len(people) - 1
            else:
                found["nobody counted as a person"] += 1
        for mine in rows.values():
            counted = [row for row in mine if row in chain_of]
            if not counted:
                found["seen once, taken for nobody" if len(mine) == 1 else "taken for nobody"] -= 1
            seen = {chain_of[row] for row in counted[:1]}
            for before, row in pairwise(counted):
                if chain_of[row] not in seen:
                    found[f"split: {_split(known, before, row, several)}"] += 1
                seen.add(chain_of[row])
    lost = {each.person for each in track.values()} - {None} - rows.keys()
    found["second tracks left out"] -= window.draws * len(lost)
    return {cause: count / window.draws for cause, count in sorted(found.items()) if count}


def _split(known: Remembered, before: int, row: int, several: Sequence[bool]) -> str:
    """Why a person's sighting may begin somebody new, after the one before it."""
    if known.start_s[row] < known.end_s[before] - 2.0:
        return "the track before goes on with somebody else"
    if several[before] or several[row]:
        return "a track of several people"
    if known.origin[before] % 2:
        return "comes again through the door"
    return "the same camera: a track broke" if known.camera[before] == known.camera[row] else "looks and times too weak"


def explained(arrivals: float, rank1: float, seeds: range, draws: int) -> str:
    """A row of where the error comes from, in people an hour."""
    total: Counter[str] = Counter()
    for seed in seeds:
        shop, calibration, witnessed = simulated(arrivals, rank1, seed)
        window = Window(site=f"{shop.name} {seed}", calibration=calibration, draws=draws)
        associator = associator_for(shop, calibration, for_draws=True)
        _, known = followed(associator, shop.opens, witnessed, window)
        total.update(causes(window, known, witnessed))
    each = "; ".join(f"{cause} {count / len(seeds):+.1f}" for cause, count in total.most_common())
    return f"{arrivals:.0f}, {rank1}: {sum(total.values()) / len(seeds):+.1f} people: {each}"


def opposite(arrivals: float, rank1: float, seed: int, draws: int) -> list[str]:
    """The same hour drawn from the associator's links and from nobody linked: the mean after each look more."""
    shop, calibration, witnessed = simulated(arrivals, rank1, seed)
    found, begin = [], Matchings.begin
    for name in ("best links", "nobody linked"):
        if name != "best links":
            Matchings.begin = lambda self, rows, follows: None  # type: ignore[method-assign]
        window = Window(site=f"{shop.name} {seed}", calibration=calibration, draws=draws)
        associator = associator_for(shop, calibration, for_draws=True)
        _, known = followed(associator, shop.opens, witnessed, window)
        steps = [persons(window)]
        for look in range(MORE_LOOKS):
            window.look(later(known, LOOK_S * (look + 1) / MORE_LOOKS))
            steps.append(persons(window))
        shown = ", ".join(f"{value:.0f} ({low:.0f}-{high:.0f})" for value, low, high in steps)
        found.append(f"{arrivals:.0f}, {rank1}, seed {seed}, from {name}: {shown}")
    Matchings.begin = begin  # type: ignore[method-assign]
    return found


def main() -> None:
    """Print a row for each number of arrivals, Rank-1 and slope."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1-5", help="from-to")
    parser.add_argument("--arrivals", nargs="+", type=float, default=[100.0, 400.0], help="people an hour")
    parser.add_argument("--rank1", nargs="+", type=float, default=[0.25, 0.5, 0.8])
    parser.add_argument("--slopes", nargs="+", type=float, default=[1.0], help="by which the calibration is wrong")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--rows", type=Path, help="a CSV file that keeps each shop-hour")
    parser.add_argument("--each", action="store_true", help="print each shop-hour, too")
    parser.add_argument(
        "--minutes", type=float, default=1e9, help="of processor time, after which no shop-hour is begun"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--causes", action="store_true", help="say where the error comes from instead")
    what.add_argument("--starts", action="store_true", help="compare chains of opposite starts instead")
    arguments = parser.parse_args()
    first, last = map(int, arguments.seeds.split("-"))
    seeds, draws = range(first, last + 1), arguments.draws
    settings = [(a, r) for a in arguments.arrivals for r in arguments.rank1]
    if arguments.causes:
        for arrivals, rank1 in settings:
            print(explained(arrivals, rank1, seeds, draws), flush=True)
        return
    if arguments.starts:
        for arrivals, rank1 in settings:
            for seed in seeds:
                print("\n".join(opposite(arrivals, rank1, seed, draws)), flush=True)
        return
    rows = read(arguments.rows) if arguments.rows else []
    wanted = [(a, r, s, seed) for seed in seeds for a, r in settings for s in arguments.slopes]
    known = {(each.arrivals, each.rank1, each.slope, each.seed): each for each in rows if each.draws == draws}
    for arrivals, rank1, slope, seed in wanted:
        if (arrivals, rank1, slope, seed) in known or process_time() > 60 * arguments.minutes:
            continue
        shop, calibration, witnessed = simulated(arrivals, rank1, seed)
        wrong = steeper(calibration, slope)
        window = Window(site=f"{shop.name} {seed}", calibration=wrong, draws=draws)
        counted = hour(associator_for(shop, wrong, for_draws=True), shop.opens, witnessed, window)
        row = known[arrivals, rank1, slope, seed] = kept(counted, arrivals, rank1, slope, seed, draws)
        if arguments.rows:
            append(arguments.rows, row)
        if arguments.each:
            print(told(f"seed {seed}: {arrivals:.0f}, {rank1}, {slope}", [row]), flush=True)
    print(HEAD + "\n" + "|---" * 12 + "|")
    tables: list[tuple[str, list[Row]]] = []
    for arrivals, rank1 in settings:
        for slope in arguments.slopes:
            mine = [known[key] for key in wanted if key[:3] == (arrivals, rank1, slope) and key in known]
            if mine:
                tables.append((f"{arrivals:.0f}, {rank1}, {slope}", mine))
    print("\n".join(told(name, mine) for name, mine in tables))
    print("\n| arrivals, Rank-1, slope | links | calibration error | false links | promised | off |")
    print("|---" * 6 + "|")
    print("\n".join(links_told(name, mine) for name, mine in tables))


if __name__ == "__main__":
    main()
