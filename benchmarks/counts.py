"""How many people came in an hour, and how sure is that: draws of counts on simulated shops, beside the truth.

    python benchmarks/counts.py --seeds 1-5                       # what was tuned on
    python benchmarks/counts.py --seeds 101-110 --arrivals 100    # never looked at before
    python benchmarks/counts.py --seeds 101-110 --slopes 0.67 1.5

`reference_normal_2` with other arrivals and another Rank-1, drawn vectors, one hour from opening; its cameras' trackers err.
The associator and the draws begin without any knowledge of rates and times, and see one revision of each sighting, in order of
its end. The truth is how many people, staff included, hold most of any track. "Best links" counts the chains of the
associator's links in place of draws, "Poisson" gives the draws' median the interval of a Poisson count. Last come the links
that the associator told: how often they are false, beside how often they say so.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from time import process_time

import numpy as np

from passerby.config import load_toml
from passerby.reid.calibration import Calibration
from passerby.shop import Link, SightingKey
from passerby.simulate.appearance import DrawnVectors
from passerby.simulate.benchmark import associator_for
from passerby.simulate.plan import Shop
from passerby.simulate.recording import Witnessed, in_order, witness
from passerby.types import Float64
from passerby.vision.associate import Changes
from passerby.vision.window import Window
from shared import ROOT

DURATION_S = 3600.0
LOOK_S = 900.0  # from one look of the window to the next, as `passerby link` has it
ADVANCE_S = 30.0  # from one look of the associator to the next: `passerby link` has 5
POISSON = 1.645  # standard deviations on each side of a 90 % interval


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


def hour(shop: Shop, calibration: Calibration, witnessed: Sequence[Witnessed], *, seed: int, draws: int) -> Hour:
    """Follow an hour, and count its people."""
    associator = associator_for(shop, calibration, for_draws=True)
    window = Window(site=f"{shop.name} {seed}", calibration=calibration, draws=draws)
    now = looked = shop.opens
    links: dict[SightingKey, Link] = {}

    def take(changes: Changes) -> None:
        links.update({link.later: link for link in changes.links})
        for key in changes.unlinked:
            links.pop(key, None)

    for sighting in in_order(witnessed, refresh=False):
        while now < sighting.end:
            now += timedelta(seconds=ADVANCE_S)
            take(associator.advance(now))
            if (now - looked).total_seconds() >= LOOK_S:
                looked = now
                window.look(associator.remembered(since_s=window.since_s))
        associator.take(sighting)
    take(associator.finish())
    known = associator.remembered(since_s=window.since_s)
    window.look(known)
    counted = next(row for row in window.counts() if (row.length, row.what) == ("day", "persons"))
    value, low, high = counted.interval()
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
    )


def row(name: str, hours: Sequence[Hour]) -> str:
    """A row of the table over some shop-hours."""
    true, value, low, high, best = (
        np.array([getattr(each, field) for each in hours], float) for field in ("true", "value", "low", "high", "best")
    )
    half = POISSON * np.sqrt(value)
    figures = [
        f"{len(hours)}",
        f"{true.mean():.0f}",
        f"{100 * np.mean((value - true) / true):+.1f}",
        f"{100 * np.mean(np.abs(value - true) / true):.1f}",
        f"{100 * np.mean((low <= true) & (true <= high)):.0f}",
        f"{100 * np.median((high - low) / true):.1f}",
        f"{100 * np.mean(np.abs(value - true) <= half):.0f}",
        f"{100 * np.median(2 * half / true):.1f}",
        f"{100 * np.mean(np.abs(best - true) / true):.1f}",
        f"{np.mean([each.factor for each in hours]):.2f}",
    ]
    return f"| {name} | " + " | ".join(figures) + " |"


def links_row(name: str, hours: Sequence[Hour]) -> str:
    """How often links are false, beside how often they say so: the mean over ten parts of the links, weighted."""
    promised, right = (np.concatenate([getattr(each, field) for each in hours]) for field in ("promised", "right"))
    parts = np.array_split(np.argsort(promised), 10)
    off = sum(len(part) * abs(promised[part].mean() - right[part].mean()) for part in parts if len(part))
    seen, said = float((1 - right).sum()), float((1 - promised).sum())
    figures = (
        f"{len(promised):,} | {off / max(1, len(promised)):.3f} | {seen:.0f} | {said:.0f} | {seen / said - 1:+.0%}"
    )
    return f"| {name} | {figures} |"


def main() -> None:
    """Print a row for each number of arrivals, Rank-1 and slope."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1-5", help="from-to")
    parser.add_argument("--arrivals", nargs="+", type=float, default=[100.0, 400.0], help="people an hour")
    parser.add_argument("--rank1", nargs="+", type=float, default=[0.25, 0.5, 0.8])
    parser.add_argument("--slopes", nargs="+", type=float, default=[1.0], help="by which the calibration is wrong")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--each", action="store_true", help="print each shop-hour, too")
    arguments = parser.parse_args()
    first, last = map(int, arguments.seeds.split("-"))
    print(
        "| arrivals, Rank-1, slope | shop-hours | people | mean error, % | mean absolute error, % | 90 % interval covers, % | "
        "its median width, % | poisson covers, % | its width, % | best links: mean absolute error, % | slope's factor |"
    )
    print("|---" * 11 + "|")
    linked = []
    for arrivals in arguments.arrivals:
        for rank1 in arguments.rank1:
            for slope in arguments.slopes:
                hours, began = [], process_time()
                name = f"{arguments.seeds}: {arrivals:.0f}, {rank1}, {slope}"
                for seed in range(first, last + 1):
                    shop, calibration, witnessed = simulated(arrivals, rank1, seed)
                    hours.append(hour(shop, steeper(calibration, slope), witnessed, seed=seed, draws=arguments.draws))
                    if arguments.each:
                        print(row(f"seed {seed}: {arrivals:.0f}, {rank1}, {slope}", hours[-1:]), flush=True)
                print(row(name, hours) + f" {(process_time() - began) / len(hours):.0f} s an hour", flush=True)
                linked.append(links_row(name, hours))
    print("\n| arrivals, Rank-1, slope | links | calibration error | false links | promised | off |")
    print("|---" * 6 + "|")
    print("\n".join(linked))


if __name__ == "__main__":
    main()
