"""The recipe and its rivals: small runs that differ in one thing, measured at home and on a set they never saw.

    python benchmarks/ablation.py            # all runs, in turn; what is done is not done again
    python benchmarks/ablation.py base am_softmax --seeds 1 2

Each run trains OSNet x0.25 from random weights at 128x64 on 400 people of Market-1501 with 60,000 crops, and is measured on
its other 351 training people (home) and on 300 training people of CUHK03 (away): nobody of a test set takes part. Runs lie
in runs/ablation and can be stopped and gone on with.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from passerby.learn.export import load_weights
from passerby.learn.loader import Augment
from passerby.learn.model import OSNet
from passerby.learn.recipe import (
    ArcFaceSettings,
    CentreSettings,
    OptimiserSettings,
    Recipe,
    SoftmaxSettings,
    Stage,
    TripletSettings,
)
from passerby.learn.train import embed_pictures, train
from passerby.reid.datasets import read_dataset
from passerby.reid.engine import processor
from passerby.reid.evaluate import evaluate
from passerby.types import Dataset, Float32
from shared import ROOT, SHARED, centred

HOME, AWAY = 351, 300  # people measured on
NO_ARCFACE = ArcFaceSettings(weight=0.0)
BASE = Recipe(
    name="ablation",
    data=("market1501",),
    architecture="osnet_x0_25",
    dev_people=HOME,
    stages=(Stage(128, 64, 938),),
    people=16,
    pictures_each=4,
    ema=0.99,
    precision="fp32",
    arcface=ArcFaceSettings(ramp_steps=300),
    optimiser=OptimiserSettings(learning_rate=2e-3, warmup_steps=100),
)
RUNS: dict[str, Recipe] = {
    "base": BASE,
    "am_softmax": replace(BASE, arcface=replace(BASE.arcface, on="cosine", margin=0.2)),
    "softmax_triplet": replace(BASE, arcface=NO_ARCFACE, softmax=SoftmaxSettings(weight=1.0)),
    "softmax_triplet_centre": replace(
        BASE, arcface=NO_ARCFACE, softmax=SoftmaxSettings(weight=1.0), centre=CentreSettings(weight=5e-4)
    ),
    "arcface_alone": replace(BASE, triplet=TripletSettings(weight=0.0)),
    "in_stem": replace(BASE, architecture="osnet_in_x0_25"),
    "ibn": replace(BASE, architecture="osnet_ibn_x0_25"),
    "ain": replace(BASE, architecture="osnet_ain_x0_25"),
    "no_erasing": replace(BASE, augment=Augment(erase=0.0)),
    "no_colour": replace(BASE, augment=Augment(colour=0.0, grey=0.0)),
    "any_camera": replace(BASE, across_cameras=False),
    "taller": replace(BASE, stages=(Stage(192, 64, 938),)),
    "smaller": replace(BASE, stages=(Stage(96, 48, 938),)),
}
WHAT = {
    "base": "ArcFace (s = 30, m = 0.3) + batch-hard triplet (0.3)",
    "am_softmax": "AM-softmax (m = 0.2) + triplet",
    "softmax_triplet": "label-smoothed softmax + triplet",
    "softmax_triplet_centre": "label-smoothed softmax + triplet + centre loss",
    "arcface_alone": "ArcFace alone",
    "in_stem": "instance norm in the stem",
    "ibn": "IBN",
    "ain": "AIN",
    "no_erasing": "without random erasing",
    "no_colour": "without colour augmentation",
    "any_camera": "pictures of a person drawn without regard to cameras",
    "taller": "pictures of 192x64, as 384x128 is to 256x128",
    "smaller": "pictures of 96x48, as 192x96 is to 256x128",
}


def figures(model: OSNet, dataset: Dataset, folder: Path, size: Stage) -> dict[str, float]:
    """Rank-1 and mAP in percent, as it is and with each camera's mean taken off."""
    pictures = sorted({*dataset.query, *dataset.gallery}, key=lambda p: str(p.path))
    row = {picture: i for i, picture in enumerate(pictures)}
    vectors = embed_pictures(
        model, pictures, folder / "cache", height=size.height, width=size.width, device=torch.device("cpu")
    )

    def of(chosen: Float32) -> tuple[float, float]:
        found = evaluate(
            dataset, chosen[[row[p] for p in dataset.query]], chosen[[row[p] for p in dataset.gallery]], bootstrap=0
        )
        return 100 * found.rank1.value, 100 * found.map.value

    plain, moved = of(vectors), of(centred(vectors, pictures))
    return {"rank1": plain[0], "map": plain[1], "centred_rank1": moved[0], "centred_map": moved[1]}


def last_weights(folder: Path, architecture: str) -> OSNet:
    """The weights of the last step themselves, without averaging."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["trained"]
    model = OSNet(architecture)
    model.load_state_dict({name.removeprefix("0."): value for name, value in state.items() if name.startswith("0.")})
    return model


def run(name: str, seed: int, shared: Path, out: Path) -> dict[str, float]:
    """One run's figures, trained if need be."""
    folder = out / f"{name}-{seed}"
    result = folder / "figures.json"
    if result.exists():
        return dict(json.loads(result.read_text()))
    recipe = replace(RUNS[name], seed=seed)
    pictures = read_dataset("market1501", shared / "datasets" / "market1501", split="train", people=HOME).train
    folder.mkdir(parents=True, exist_ok=True)
    (out / "cache").mkdir(exist_ok=True)
    if not (folder / "cache").exists():
        (folder / "cache").symlink_to(Path("..") / "cache")
    started = time.process_time()
    outcome = train(recipe, pictures, [], folder, resume=True)
    minutes = (time.process_time() - started) / 60
    if outcome.interrupted:
        raise SystemExit(f"{folder}: stopped at step {outcome.step}; the same command goes on")
    found: dict[str, float] = {"processor_minutes": minutes}
    sets = {
        "home": read_dataset("market1501", shared / "datasets" / "market1501", split="dev", people=HOME),
        "away": read_dataset("cuhk03", shared / "datasets" / "cuhk03", split="dev", people=AWAY),
    }
    models = {
        "": load_weights(outcome.weights, recipe.architecture),
        "last_": last_weights(folder, recipe.architecture),
    }
    for prefix, model in models.items():
        for place, dataset in sets.items():
            found |= {f"{prefix}{place}_{k}": v for k, v in figures(model, dataset, folder, recipe.stages[-1]).items()}
    result.write_text(json.dumps(found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"some of {', '.join(RUNS)}; all where none is named")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder of real data")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.runs) - set(RUNS))
    if unknown:
        parser.error(f"no run is called {unknown[0]!r}; there are {', '.join(RUNS)}")
    print(
        f"{processor()}\n\n| run | seed | home Rank-1 / mAP | away Rank-1 / mAP | processor minutes |\n|---|---|---|---|---|"
    )
    for name in arguments.runs or RUNS:
        for seed in arguments.seeds:
            found = run(name, seed, arguments.shared, ROOT / "runs" / "ablation")

            def pair(prefix: str, suffix: str = "", at: dict[str, float] = found) -> str:
                return f"{at[f'{prefix}_{suffix}rank1']:.1f} / {at[f'{prefix}_{suffix}map']:.1f}"

            minutes = f"{found['processor_minutes']:.1f}"
            print(f"| {WHAT[name]} | {seed} | {pair('home')} | {pair('away')} | {minutes} |", flush=True)
            if name == "base":
                print(f"| last weights, no averaging | {seed} | {pair('last_home')} | {pair('last_away')} | |")
                print(f"| cameras centred | {seed} | {pair('home', 'centred_')} | {pair('away', 'centred_')} | |")


if __name__ == "__main__":
    main()
