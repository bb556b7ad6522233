"""What links promise where the calibration is of other cameras: as it is, adapted without labels, and of these very cameras.

    python benchmarks/adapted_links.py --model osnet_x0_75

The shoppers of recipes/reference_normal.toml wear Market-1501's test people. The calibration is fitted on CUHK03's dev people;
adapted by pairs of Market-1501's dev people who must be different (their labels serve for that alone); and fitted on these.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from passerby.config import load_toml
from passerby.reid.assess import fit_all, labelled
from passerby.reid.calibration import Calibration
from passerby.reid.datasets import read_dataset
from passerby.reid.embedder import Embedder
from passerby.reid.engine import processor
from passerby.reid.fitting import adapt
from passerby.reid.pairs import DifferentPairs, sample_pairs
from passerby.simulate.appearance import RealCrops
from passerby.simulate.benchmark import benchmark, pooled
from passerby.simulate.plan import Shop
from passerby.types import Picture
from shared import ROOT, SHARED, ratings, vectors_of


class Judged(RealCrops):
    """Real crops whose vectors are judged by a calibration that is given."""

    def __init__(
        self, pictures: Sequence[Picture], embedder: Embedder, judge: Calibration, *, seed: int, cameras: int
    ) -> None:
        super().__init__(pictures, embedder, seed=seed, cameras=cameras)
        self._judge = judge

    def calibration(self) -> Calibration:
        """The one that was given."""
        return self._judge


def calibrations(embedder: Embedder) -> dict[str, Calibration]:
    """The three of them, by their names in the table."""
    found = {}
    for name in ("cuhk03", "market1501"):
        pictures = labelled(read_dataset(name, SHARED / "datasets" / name, split="dev"))
        vectors = vectors_of(embedder, pictures)
        found[name] = fit_all(
            [(vectors, ratings(pictures), pictures)],
            file_sha256=embedder.file_sha256,
            precision=embedder.precision,
            fitted_on=name,
        )
    pairs = sample_pairs(vectors, pictures)
    adapted = adapt(found["cuhk03"], DifferentPairs(pairs.different, pairs.person, pairs.other))
    return {"CUHK03": found["cuhk03"], "CUHK03, adapted": adapted, "Market-1501": found["market1501"]}


def main() -> None:
    """Print a row for each calibration and each time at which links are looked at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="osnet_x0_75")
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    shop = replace(load_toml(ROOT / "recipes" / "reference_normal.toml", Shop), staff=0)
    embedder = Embedder(arguments.model, precision="fp32")
    pictures = labelled(read_dataset("market1501", SHARED / "datasets" / "market1501"))
    print(f"{processor()}; {arguments.model}, seeds 1 to {arguments.seeds}\n")
    print(
        "| calibration of | links | number | false ones promised | seen | calibration error |\n|---|---|---|---|---|---|"
    )
    for name, judge in calibrations(embedder).items():

        def source(seed: int, judge: Calibration = judge) -> Judged:
            return Judged(pictures, embedder, judge, seed=seed, cameras=len(shop.cameras))

        scores = benchmark(shop, source, seeds=range(1, 1 + arguments.seeds), duration_s=3600.0, reentries=False)
        for linker in ("online", "refined"):
            said = pooled(scores[linker])
            print(
                f"| {name} | {linker} | {len(said.right):,} | {said.promised:.1f} | {said.seen} | {said.error:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
