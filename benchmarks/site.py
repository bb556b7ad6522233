"""How many tracks a calibration needs to be adapted to a site, and how far it is then stretched; on dev people alone.

    python benchmarks/site.py --model osnet_x0_75

The calibration of one set's dev people, adapted by the different pairs of T people of another set and measured on all of
that set's people, 20 draws of them: the mean and the worst of what of Cllr is the calibration's, where the bar of 0.65 lies,
and the stretch. The other sets are Market-1501, CUHK03, GRID and PKU-Reid; of the last two, everybody is a dev person.
"""

import numpy as np

from passerby.reid import fitting
from passerby.reid.assess import fit_all, labelled
from passerby.reid.datasets import read_dataset
from passerby.reid.embedder import Embedder
from passerby.reid.measures import measure
from passerby.reid.pairs import DifferentPairs, sample_pairs
from passerby.reid.splits import DEV_PEOPLE
from passerby.types import Float32, Picture
from shared import SETS, model_and_peer, ratings, vectors_of

TRACKS = (2, 5, 10, 20, 30, 40, 60)
SMALL = ("grid", "pku_reid")
DRAWS = 20
Known = tuple[Float32, Float32, list[Picture]]  # vectors, quality and pictures of a set


def main() -> None:
    parser = model_and_peer(__doc__)
    arguments = parser.parse_args()
    fitting.LEAST_TRACKS, fitting.MOST_STRETCH = 2, 10.0  # as if there were no bounds
    sets = {
        kind: read_dataset(kind, arguments.shared / "datasets" / kind, split="dev", people=DEV_PEOPLE) for kind in SETS
    }
    for name in SMALL:
        sets[name] = read_dataset("csv", arguments.shared / "datasets" / "small" / f"{name}.csv", split="test")
    print("| network | from | to | tracks | Cllr, of it calibration: mean | worst | bar of 0.65 | stretch |")
    print("|---|---|---|---|---|---|---|---|")
    for model in (arguments.model, arguments.peer):
        embedder = Embedder(model, precision="fp32")
        known = {}
        for name, dataset in sets.items():
            pictures = labelled(dataset)
            known[name] = vectors_of(embedder, pictures), ratings(pictures), pictures
        for source in SETS:
            for target in known:
                if target != source:
                    for row in adapted(known[source], known[target]):
                        print(f"| {embedder.file.parent.name} | {source} | {target} | {row} |", flush=True)


def adapted(home: Known, away: Known) -> list[str]:
    """Table cells for the calibration as it is and for each number of tracks."""
    calibration = fit_all([home], file_sha256="0" * 64, precision="fp32", fitted_on="home")
    vectors, _, pictures = away
    whole = sample_pairs(vectors, pictures)
    found = [f"as it is | {measure(calibration, whole).cllr_loss:.3f} | | {calibration.similarity_at(0.65):.2f} |"]
    people = sorted({picture.person for picture in pictures})
    for tracks in TRACKS:
        losses, bars, stretches = [], [], []
        for seed in range(DRAWS):
            chosen = set(np.random.default_rng(seed).permutation(people)[:tracks].tolist())
            rows = [row for row, picture in enumerate(pictures) if picture.person in chosen]
            try:
                pairs = sample_pairs(vectors[rows], [pictures[row] for row in rows], seed=seed)
            except ValueError:  # so few that no camera saw two of them
                continue
            site = fitting.adapt(calibration, DifferentPairs(pairs.different, pairs.person, pairs.other))
            assert site.different is not None
            assert calibration.different is not None
            losses.append(measure(site, whole).cllr_loss)
            bars.append(site.similarity_at(0.65) or 1.0)
            stretches.append(calibration.different[1] / site.different[1])
        found.append(
            f"{tracks} | {np.mean(losses):.3f} | {max(losses):.3f} | {min(bars):.2f}-{max(bars):.2f} | "
            f"{min(stretches):.2f}-{max(stretches):.2f}"
        )
    return found


if __name__ == "__main__":
    main()
