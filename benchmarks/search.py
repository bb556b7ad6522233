"""A search that may find nobody: how many strangers are given a name, and how many known people the right one.

    python benchmarks/search.py --model osnet_x0_75

Twenty draws: a gallery of 200 of the test people of Market-1501 and CUHK03, one random picture each, and again with four
(--pictures 1 4); 400 queries, one of each of these people from another camera than all of these and one of each of 200 people
who are not in it. Everything goes through
`ReIDInference.identify_many` at its default `absent` of 0.5, which is true here; each picture is embedded once. A network
without a calibration, as the peer (0286 unless --peer names another, or none), gets one in a temporary folder, fitted on the
75 + 75 dev people.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from passerby.reid.assess import calibrate_model, labelled
from passerby.reid.card import find_model
from passerby.reid.datasets import read_dataset
from passerby.reid.engine import Precision, processor
from passerby.reid.inference import ReIDInference
from passerby.reid.pictures import quality, read_picture
from passerby.reid.splits import DEV_PEOPLE
from passerby.types import Float32, Picture
from shared import SETS, model_and_peer, vectors_of

THRESHOLDS = (0.50, 0.65, 0.80)


def draw(
    people: dict[str, list[Picture]], count: int, each: int, rng: np.random.Generator
) -> tuple[list[list[Picture]], list[Picture], list[Picture]]:
    """(gallery, the same people from another camera, strangers): `count` people each, `each` pictures in the gallery."""

    def one(pictures: list[Picture]) -> Picture:
        return pictures[rng.integers(len(pictures))]

    order = [sorted(people)[i] for i in rng.permutation(len(people))]
    gallery: list[list[Picture]] = []
    again: list[Picture] = []
    for name in order:
        query = one(people[name])
        others = [p for p in people[name] if p.camera != query.camera]
        if len(others) >= each and len(gallery) < count:
            again.append(query)
            gallery.append([others[i] for i in rng.permutation(len(others))[:each].tolist()])
    known = {picture.person for picture in again}
    strangers = [one(people[name]) for name in order if name not in known][:count]
    if not len(gallery) == len(strangers) == count:
        raise SystemExit(f"expected {2 * count} people, half of them seen by two cameras, found {len(people)}")
    return gallery, again, strangers


def shares(
    reid: ReIDInference, gallery: list[list[Picture]], again: list[Picture], strangers: list[Picture]
) -> list[tuple[float, float, float]]:
    """At each threshold: strangers named, known people named rightly, known people named wrongly."""
    for person in list(reid.gallery):
        reid.gallery.remove(person)
    for pictures in gallery:
        for picture in pictures:
            reid.add(picture.person, picture.path, camera=picture.camera)
    found = []
    for threshold in THRESHOLDS:
        reid.threshold = threshold
        names = [answer.person for answer in reid.identify_many([p.path for p in (*again, *strangers)])]
        known = list(zip(again, names, strict=False))
        found.append(
            (
                float(np.mean([name is not None for name in names[len(again) :]])),
                float(np.mean([name == picture.person for picture, name in known])),
                float(np.mean([name not in (None, picture.person) for picture, name in known])),
            )
        )
    return found


def remembered(reid: ReIDInference, pictures: list[Picture]) -> Callable[..., tuple[Float32, Float32]]:
    """`embed_rated` for these pictures, each embedded once."""
    vectors = dict(zip([p.path for p in pictures], vectors_of(reid.embedder, pictures), strict=True))
    ratings = {p.path: quality(read_picture(p.path)) for p in pictures}

    def embed_rated(paths: list[Path], *, colour: str) -> tuple[Float32, Float32]:
        return np.stack([vectors[path] for path in paths]), np.array([ratings[path] for path in paths], np.float32)

    return embed_rated


def calibrated(model: str, precision: Precision, shared: Path, folder: Path, *, people: int) -> ReIDInference:
    """The model with its own calibration, or with one made now."""
    if find_model(model).is_dir():
        return ReIDInference(model=model, precision=precision)
    dev = [read_dataset(kind, shared / "datasets" / kind, split="dev", people=people) for kind in SETS]
    calibrate_model(model, fit_on=dev, check_on=[], out=folder)
    return ReIDInference(model=folder, precision="fp32")


def main() -> None:
    parser = model_and_peer(__doc__)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--gallery", type=int, default=200, help="people in the gallery, and as many strangers")
    parser.add_argument("--pictures", type=int, nargs="+", default=[1, 4], help="of each person in the gallery")
    parser.add_argument("--people", type=int, help="only so many people of each set, to try it out")
    arguments = parser.parse_args()
    people: dict[str, list[Picture]] = defaultdict(list)
    for kind in SETS:
        pictures = labelled(read_dataset(kind, arguments.shared / "datasets" / kind))
        chosen = set(sorted({picture.person for picture in pictures})[: arguments.people])
        for picture in pictures:
            if picture.person in chosen:
                people[picture.person].append(picture)
    everything = [picture for pictures in people.values() for picture in pictures]
    contenders = [arguments.model] if arguments.peer == "none" else [arguments.model, arguments.peer]
    print(f"{processor()}; {len(people)} people, gallery of {arguments.gallery}, {arguments.draws} draws")
    print(
        "| network | pictures | threshold | strangers named | known people named rightly | known people named wrongly |"
    )
    print("|---|---|---|---|---|---|")
    for model in contenders:
        with tempfile.TemporaryDirectory() as folder:
            reid = calibrated(
                model,
                arguments.precision,
                arguments.shared,
                Path(folder) / "model",
                people=arguments.people or DEV_PEOPLE,
            )
            reid.embedder.embed_rated = remembered(reid, everything)  # type: ignore[method-assign]  # the benchmark's own
            for each in arguments.pictures:
                found = np.array(
                    [
                        shares(reid, *draw(people, arguments.gallery, each, np.random.default_rng(seed)))
                        for seed in range(arguments.draws)
                    ]
                )  # (draws, thresholds, 3)
                for i, threshold in enumerate(THRESHOLDS):
                    cells = (f"{100 * at.mean():.1f} ± {100 * at.std(ddof=1):.1f}" for at in found[:, i].T)
                    print(f"| {Path(model).stem} | {each} | {threshold:.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
