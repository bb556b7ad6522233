"""Networks on places that they never saw: the small sets of ../shared, at their own size and made 32 px high.

    python benchmarks/left_out.py --model osnet_x0_75
    python benchmarks/left_out.py --model 'runs/without_{place}/model.onnx' --peer osnet_x0_75

A network that was trained on some of these sets is measured by twins, each trained without a place: {place} in its path becomes
grid, 3dpes or pku_reid. 3dpes and sarc3d are one place, since some people may be in both. Every picture is a query against
all others, its person's of the same camera left out; of 3dpes a person's tracks serve as cameras, of sarc3d its views. Prints
each figure beside the peer's, and the paired difference over all places with people resampled.

    python benchmarks/left_out.py --modes runs/small.csv --model osnet_x0_75

The calibration alone leaves a place out: fitted on the dev people of the other sets (Market-1501, CUHK03 and those of the split
file, see recipes/seven_gates_x1_0.toml), measured at equal odds on the place's own dev people, native and 32 px. The network
itself learnt from other people of each place.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from passerby.reid.assess import FIT_PAIRS, across_cameras
from passerby.reid.calibration import MODES, posterior
from passerby.reid.datasets import read_dataset
from passerby.reid.embedder import Embedder
from passerby.reid.engine import Precision
from passerby.reid.evaluate import RANKING_FIGURES, Evaluation, PersonSums, evaluate
from passerby.reid.fitting import fit
from passerby.reid.measures import calibration_error, cllr, min_cllr, operating_point
from passerby.reid.pairs import sample_pairs
from passerby.types import Dataset, Float32, Picture
from shared import SETS, model_and_peer, pairs_of, ratings, seen, vectors_of

PLACES = {"grid": ("grid",), "3dpes": ("3dpes", "sarc3d"), "pku_reid": ("pku_reid",)}
SMALL_PX = 32
DRAWS = 2000


def place_sets(place: str, shared: Path) -> list[Dataset]:
    """The data sets of a place; each query counts alike, however few its camera has."""
    read = [read_dataset("csv", shared / "datasets" / "small" / f"{name}.csv") for name in PLACES[place]]
    return [replace(dataset, protocol="market1501") for dataset in read]


def measured(embedder: Embedder, dataset: Dataset, height_px: int | None) -> Evaluation:
    pictures = tuple(dict.fromkeys((*dataset.query, *dataset.gallery)))
    row = {picture: i for i, picture in enumerate(pictures)}
    parts: list[Float32] = []
    for i in range(0, len(pictures), 64):
        parts.append(embedder.embed_arrays([seen(p.path, height_px) for p in pictures[i : i + 64]]))
    vectors = np.concatenate(parts)
    return evaluate(
        dataset, vectors[[row[p] for p in dataset.query]], vectors[[row[p] for p in dataset.gallery]], bootstrap=0
    )


def pooled(evaluations: list[Evaluation], figure: Literal["rank1", "map"], weights: list[np.ndarray]) -> np.ndarray:
    """A figure's mean over the queries of all sets, in each draw of people (weights, a set's people each)."""
    column = RANKING_FIGURES.index(figure)
    total, count = 0.0, 0.0
    for found, drawn in zip(evaluations, weights, strict=True):
        sums: PersonSums = found.by_person
        total = total + drawn @ sums.sums[..., column].sum(0)
        count = count + drawn @ sums.counts.sum(0)
    return np.asarray(total / count)


def modes_of(network: str, precision: Precision, small: Path, shared: Path) -> None:
    """A row for each place and size: the calibration of all other places on its dev people."""
    embedder = Embedder(network, precision=precision)
    read = [read_dataset(kind, shared / "datasets" / kind, split="dev") for kind in SETS]
    everything = [*read, read_dataset("csv", small, split="dev")]
    of: dict[str, list[Picture]] = {}
    for picture in (picture for dataset in everything for picture in across_cameras(dataset)):
        name = picture.person.partition(":")[0]
        of.setdefault("3dpes" if name == "sarc3d" else name, []).append(picture)
    native = {place: (vectors_of(embedder, pictures), ratings(pictures)) for place, pictures in of.items()}
    for place, pictures in of.items():
        known = [
            {(1, 1): sample_pairs(native[other][0], of[other], at_least=FIT_PAIRS)} for other in of if other != place
        ]
        calibration = fit(known, file_sha256=embedder.file_sha256, precision=precision, fitted_on=f"without {place}")
        for height_px in (None, SMALL_PX):
            side = native[place]
            if height_px is not None:
                side = vectors_of(embedder, pictures, height_px), ratings(pictures, height_px)
            sample, *worse = pairs_of(side, side, pictures, draws=20)
            same, different = calibration.llr(sample.same) * worse[0], calibration.llr(sample.different) * worse[1]
            weight, is_same = sample.weight, np.repeat([True, False], len(sample.same))
            error = calibration_error(posterior(np.r_[same, different]), is_same, np.r_[weight, weight])
            at = operating_point(same, different, weight, MODES["customer-journey"])
            size = "native" if height_px is None else f"{height_px} px"
            print(
                f"| {network} | {place} | {len(np.unique(sample.person))} | {size} | {100 * at.precision:.1f} | "
                f"{100 * at.recall:.1f} | {error:.3f} | {cllr(same, different, weight):.3f} | "
                f"{min_cllr(same, different, weight):.3f} |",
                flush=True,
            )


def main() -> None:
    parser = model_and_peer(__doc__)
    parser.add_argument(
        "--modes", type=Path, help="the split file of the small sets: measure the modes, not the ranking"
    )
    arguments = parser.parse_args()
    if arguments.modes is not None:
        print("| network | left out | people | size | precision at 0.65 | recall | error | Cllr | min |")
        print("|---|---|---|---|---|---|---|---|---|")
        modes_of(arguments.model, arguments.precision, arguments.modes, arguments.shared)
        return
    for height_px in (None, SMALL_PX):
        found: dict[str, list[Evaluation]] = {"model": [], "peer": []}
        size = "native" if height_px is None else f"{height_px} px"
        for place in PLACES:
            for dataset in place_sets(place, arguments.shared):
                for who, path in (("model", arguments.model), ("peer", arguments.peer)):
                    network = path.format(place=place)
                    embedder = Embedder(network, precision=arguments.precision)
                    found[who].append(measured(embedder, dataset, height_px))
                ours, theirs = found["model"][-1], found["peer"][-1]
                cells = [f"{100 * e.rank1.value:.1f} / {100 * e.map.value:.1f}" for e in (ours, theirs)]
                print(f"| {dataset.name.removesuffix('/test')}, {size} | {' | '.join(cells)} |", flush=True)
        rng = np.random.default_rng(0)
        weights = [
            np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), size=DRAWS)])
            for n in (len(found["model"][i].by_person.people) for i in range(len(found["model"])))
        ]
        for figure in ("rank1", "map"):
            gain = 100 * (pooled(found["model"], figure, weights) - pooled(found["peer"], figure, weights))
            low, high = np.percentile(gain[1:], (2.5, 97.5))
            print(f"all, {size}, {figure}: model - peer {gain[0]:.1f} ({low:.1f} to {high:.1f})", flush=True)


if __name__ == "__main__":
    main()
