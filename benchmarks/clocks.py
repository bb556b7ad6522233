"""Links where one camera's clock is off: how far off it is found to be, and what that is worth.

    python benchmarks/clocks.py                      # seeds 101 to 103, two hours of reference_normal_2
    python benchmarks/clocks.py --first-seed 1 --seeds 3

Each seed has another camera whose times are too late, or too early, by as much as the row says. The associator follows the
cameras' times as they are; F1 is of refined links of the second hour, with its clocks corrected and without.
"""

import argparse
from collections.abc import Iterator
from datetime import timedelta
from statistics import median

from passerby.config import load_toml
from passerby.shop import Sighting, moved
from passerby.simulate.appearance import DrawnVectors
from passerby.simulate.benchmark import arrays, associator_for, listen, probabilities, scorer
from passerby.simulate.plan import Shop
from passerby.simulate.recording import in_order, witness
from passerby.vision.clocks import Clocks
from shared import ROOT

HOURS = 2.0
OFF_S = (0.0, -90.0, -30.0, -10.0, 10.0, 30.0, 90.0)


class Trusting(Clocks):
    """Clocks that are never found to be off."""

    def look(self, since_s: float) -> None:
        """Nothing is said."""


def followed(shop: Shop, *, seed: int, off_s: float, corrected: bool) -> tuple[float, dict[str, float]]:
    """F1 of refined links of the second hour, and how far ahead clocks were found to be."""
    source = DrawnVectors(shop.looks, seed=seed, cameras=len(shop.cameras))
    witnessed = list(witness(shop, source, seed=seed, duration_s=3600 * HOURS))
    camera = shop.cameras[seed % len(shop.cameras)].name

    def told() -> Iterator[Sighting]:
        for sighting in in_order(witnessed, refresh=True):
            yield moved(sighting, timedelta(seconds=off_s)) if sighting.key.camera == camera else sighting

    associator = associator_for(shop, source.calibration())
    if not corrected:
        associator.clocks = Trusting(len(shop.cameras))
    heard = listen(associator, sorted(told(), key=lambda each: each.end))
    scored = scorer(arrays(witnessed, length=source.length), learnt_from=shop.opens + timedelta(hours=HOURS / 2))
    found = associator.ahead_s
    return scored(probabilities(heard.refined)).learnt.f1, {"it": found.pop(camera, 0.0)} | found


def main() -> None:
    """Print a row for each time that a clock is off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--off", type=float, nargs="+", default=OFF_S, help="seconds")
    arguments = parser.parse_args()
    shop = load_toml(ROOT / "recipes" / "reference_normal_2.toml", Shop)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    print("| a clock is ahead, s | found, s | others found | F1 as it is | F1 corrected |")
    print("|---|---|---|---|---|")
    for off_s in arguments.off:
        trusted = [followed(shop, seed=seed, off_s=off_s, corrected=False)[0] for seed in seeds]
        made = [followed(shop, seed=seed, off_s=off_s, corrected=True) for seed in seeds]
        found = ", ".join(f"{each['it']:.0f}" for _, each in made)
        print(
            f"| {off_s:.0f} | {found} | {sum(len(each) - 1 for _, each in made)} | {100 * median(trusted):.1f} "
            f"| {100 * median(f1 for f1, _ in made):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
