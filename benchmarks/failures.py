"""Where a network fails, and how often: the same queries in low light, half hidden, far away; and the most alike strangers.

    python benchmarks/failures.py --model osnet_x0_75 --card models/osnet_x0_75

A failure is a query of the official test whose first answer is wrong. Low light: a tenth of the light, with sensor noise.
Half hidden: the lower half, or one side, is covered with grey. Far away: the query shrunk to 32 px of height. Look-alike: of
20 random strangers' pictures from other cameras the nearest reaches a posterior of 0.65 at even odds; otherwise, of one.
Views (front, side, back) are not labelled in these sets and not measured.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from passerby.reid.calibration import MODES, Calibration
from passerby.reid.card import CardFailure, read_card, write_card
from passerby.reid.datasets import read_dataset
from passerby.reid.embedder import Embedder
from passerby.reid.engine import processor
from passerby.reid.evaluate import evaluate
from passerby.reid.pictures import read_picture
from passerby.types import Dataset, Float32, UInt8
from shared import SETS, SHARED, dataset_vectors, rows

GREY = 128


def low_light(picture: UInt8, rng: np.random.Generator) -> UInt8:
    """A tenth of the light, amplified again, with the noise that comes with it."""
    photons = rng.poisson(picture.astype(np.float64) * 0.1)
    return np.clip(photons * 10, 0, 255).astype(np.uint8)


def lower_half(picture: UInt8, rng: np.random.Generator) -> UInt8:
    """Behind a shelf up to the waist."""
    hidden = picture.copy()
    hidden[picture.shape[0] // 2 :] = GREY
    return hidden


def one_side(picture: UInt8, rng: np.random.Generator) -> UInt8:
    """Behind a pillar: the left half or the right one."""
    hidden, middle = picture.copy(), picture.shape[1] // 2
    hidden[:, slice(middle) if rng.random() < 0.5 else slice(middle, None)] = GREY
    return hidden


def far_away(picture: UInt8, rng: np.random.Generator) -> UInt8:
    """Shrunk to 32 px of height."""
    return np.asarray(cv2.resize(picture, (16, 32), interpolation=cv2.INTER_AREA), np.uint8)


CASES: dict[str, Callable[[UInt8, np.random.Generator], UInt8]] = {
    "low light (a tenth)": low_light,
    "lower half hidden": lower_half,
    "one side hidden": one_side,
    "far away (32 px)": far_away,
}


def changed(embedder: Embedder, dataset: Dataset, change: Callable[[UInt8, np.random.Generator], UInt8]) -> Float32:
    """The vectors of the queries after `change`."""
    rng = np.random.default_rng(0)
    pictures = [change(read_picture(query.path), rng) for query in dataset.query]
    return np.concatenate([embedder.embed_arrays(pictures[i : i + 64]) for i in range(0, len(pictures), 64)])


def look_alikes(dataset: Dataset, query: Float32, gallery: Float32, bar: float, strangers: int) -> float:
    """Share of the queries for whom the most alike of some random strangers' pictures, of other cameras, reaches `bar`."""
    rng = np.random.default_rng(0)
    people = np.array([p.person for p in dataset.gallery])
    cameras = np.array([p.camera or "" for p in dataset.gallery])
    labelled = np.array([p.role == "person" for p in dataset.gallery])
    alike = 0
    for row, asked in enumerate(dataset.query):
        others = np.flatnonzero(labelled & (people != asked.person) & (cameras != (asked.camera or "")))
        alike += bool((gallery[rng.choice(others, strangers, replace=False)] @ query[row]).max() >= bar)
    return alike / len(dataset.query)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="osnet_x0_75")
    parser.add_argument("--card", type=Path, help="keep the rates in this model folder's card")
    parser.add_argument("--split", default="test", choices=("dev", "test"))
    arguments = parser.parse_args()
    embedder = Embedder(arguments.model, precision="fp32")
    assert embedder.card is not None
    bar = Calibration.from_dict(embedder.card.calibrations["fp32"]).similarity_at(MODES["customer-journey"])
    command = f"python benchmarks/failures.py --model {arguments.model}"
    print(
        f"{processor()}; {arguments.model}, share of queries whose first answer is wrong\n\n| data | case | rate | otherwise |"
    )
    print("|---|---|---|---|")
    failures: list[CardFailure] = []

    def note(case: str, rate: float, otherwise: float) -> None:
        print(f"| {dataset.name} | {case} | {100 * rate:.1f} | {100 * otherwise:.1f} |", flush=True)
        failures.append(
            CardFailure(
                case=case, rate=round(rate, 4), otherwise=round(otherwise, 4), data=dataset.name,
                queries=len(dataset.query), command=command,
            )
        )  # fmt: skip

    for kind in SETS:
        dataset = read_dataset(kind, SHARED / "datasets" / kind, split=arguments.split)
        vectors = dataset_vectors(embedder, dataset)
        query, gallery = rows(vectors, dataset.query), rows(vectors, dataset.gallery)
        plain = 1 - evaluate(dataset, query, gallery, bootstrap=0).rank1.value
        for case, change in CASES.items():
            found = evaluate(dataset, changed(embedder, dataset, change), gallery, bootstrap=0)
            note(case, 1 - found.rank1.value, plain)
        if bar is not None:
            rates = [look_alikes(dataset, query, gallery, bar, strangers) for strangers in (20, 1)]
            note("the most alike of 20 strangers, taken for the person", *rates)
    if arguments.card:
        write_card(arguments.card, read_card(arguments.card).model_copy(update={"failures": failures}))


if __name__ == "__main__":
    main()
