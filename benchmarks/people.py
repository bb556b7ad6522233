"""How many people are there, and how sure is that: crowds of Market-1501's test people, sorted by their looks alone.

    python benchmarks/people.py --model osnet_x0_75

Random crowds of 50 and of 200 people with all their pictures, 100 draws each, and all 750 once: the estimate's error, how
often its 90 % interval holds the truth, and the groups at each mode. Then people who cannot be told, and people who can: 40
test people, one picture each, shrunk to 8x16 px and as they are, through `ReIDInference.group`.
"""

from collections import defaultdict

import cv2
import numpy as np

from passerby.reid.assess import labelled
from passerby.reid.calibration import MODES
from passerby.reid.datasets import parse_specs, read_dataset
from passerby.reid.engine import processor
from passerby.reid.grouping import group_vectors, pairwise_scores
from passerby.reid.inference import ReIDInference
from passerby.reid.pictures import read_picture
from passerby.types import Float32, Picture
from shared import model_and_peer, ratings, vectors_of

MADE_SMALL = 40  # people


def crowds(
    reid: ReIDInference, pictures: list[Picture], vectors: Float32, rated: Float32, *, people: int, draws: int
) -> None:
    """A row of the table: `people` of all, `draws` times."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, picture in enumerate(pictures):
        rows[picture.person].append(row)
    names = sorted(rows)
    errors, widths, scores = [], [], []
    inside = 0
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        chosen = [row for i in sorted(rng.permutation(len(names))[:people].tolist()) for row in rows[names[i]]]
        found = group_vectors(
            vectors[chosen], reid.calibration, threshold=MODES["customer-journey"], quality=rated[chosen], seed=seed
        )
        seen = {pictures[row].person for row, label in zip(chosen, found.labels, strict=True) if label is not None}
        low, high = found.people.low or 0.0, found.people.high or 0.0
        errors.append((found.people.value - len(seen)) / len(seen))
        widths.append((high - low) / len(seen))
        inside += low <= len(seen) <= high
        kept = [
            (label, pictures[row].person) for row, label in zip(chosen, found.labels, strict=True) if label is not None
        ]
        scores.append(pairwise_scores([a for a, _ in kept], [b for _, b in kept]).f1)
    print(
        f"| {people} | {draws} | {100 * float(np.mean(errors)):+.1f} | {100 * float(np.mean(np.abs(errors))):.1f} | "
        f"{100 * inside / draws:.0f} | {100 * float(np.mean(widths)):.1f} | {100 * float(np.mean(scores)):.1f} |",
        flush=True,
    )


def specks(reid: ReIDInference, pictures: list[Picture]) -> None:
    """40 people, one picture each, shrunk to nothing and as they are."""
    first = {picture.person: picture for picture in reversed(pictures)}
    names = sorted(first)
    chosen = [names[i] for i in np.random.default_rng(0).permutation(len(names))[:MADE_SMALL].tolist()]
    sharp = [read_picture(first[name].path) for name in chosen]
    tiny = [cv2.resize(picture, (8, 16), interpolation=cv2.INTER_AREA) for picture in sharp]
    for what, crops in (("8x16 px", tiny), ("as they are", sharp)):
        for mode, threshold in MODES.items():
            reid.threshold = threshold
            found = reid.group(crops)
            merged = len(crops) - len(found.unknown) - found.groups
            print(f"| {what} | {mode} | {len(found.unknown)} | {found.groups} | {merged} |")


def main() -> None:
    parser = model_and_peer(__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--crowds", type=int, nargs="+", default=[750, 50, 200], help="of how many people, each")
    parser.add_argument("--split", default="test", choices=("dev", "test"), help="dev for every choice")
    parser.add_argument(
        "--data", action="append", help="KIND:PATH, as often as wanted: crowds of all; Market-1501 if none"
    )
    arguments = parser.parse_args()
    reid = ReIDInference(model=arguments.model, precision=arguments.precision)
    specs = parse_specs(arguments.data or [f"market1501:{arguments.shared / 'datasets' / 'market1501'}"])
    pictures = [
        p for spec in specs for p in labelled(read_dataset(spec.kind, spec.root, split=arguments.split, name=spec.name))
    ]
    vectors, rated = vectors_of(reid.embedder, pictures), ratings(pictures)
    everybody = len({picture.person for picture in pictures})
    print(f"{processor()}; {arguments.model}, {arguments.precision}, {everybody} {arguments.split} people")
    print("\n| 40 people | mode | show nothing | groups | wrong merges |\n|---|---|---|---|---|")
    specks(reid, pictures)
    print("\n| people | crowds | error, % | absolute error, % | 90 % interval holds, % | its width, % | F1 of pairs |")
    print("|---|---|---|---|---|---|---|")
    for people in (min(each, everybody) for each in arguments.crowds):
        draws = 1 if people == everybody else arguments.draws
        crowds(reid, pictures, vectors, rated, people=people, draws=draws)


if __name__ == "__main__":
    main()
