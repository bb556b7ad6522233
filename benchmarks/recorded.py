"""Which faults of cameras and recorders to train on: each group alone, all, and none, on places that the network never sees.

    python benchmarks/recorded.py

OSNet x0.75 begins as 0286, with 0277 as its teacher, on Market-1501, CUHK03 and ilids_mcts: 220 steps of 96, two seeds,
0.3 of the start mixed back in. Measured on GRID, 3DPeS with SARC3D, and PKU-Reid, at their own size and made 32 px high: the
mean mAP of the three places and both sizes decides. A GPU's work: two minutes for the twelve runs on one H200, six at a
time. Runs lie in runs/recorded and can be gone on with. runs/small.csv is made as recipes/seven_gates_x1_0.toml says.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from left_out import PLACES, SMALL_PX, place_sets
from passerby.config import load_toml
from passerby.learn.export import blend, load_weights
from passerby.learn.loader import BOX, RECORDER, STRANGER, normalise
from passerby.learn.model import OSNet
from passerby.learn.recipe import Recipe, Stage
from passerby.learn.train import train
from passerby.reid.datasets import merge, read_dataset, without_sets
from passerby.reid.evaluate import evaluate
from passerby.reid.pictures import resize
from passerby.types import Dataset
from shared import PEER, ROOT, SHARED, seen

STRENGTHS = {"loose": 0.15, "shift": 0.15, "cut": 0.15, "stranger": 0.1, "text": 0.1}  # of what the recipe leaves out
GROUPS = {
    "codec": ("jpeg", "video", "interlace"),
    "sensor": ("motion", "noise"),
    "colour": ("cast", "exposure"),
    "box": ("loose", "shift", "cut", "stranger", "text"),
}
SHARE = 0.3  # of the start


def recipes() -> dict[str, Recipe]:
    """A recipe a group of settings, without seeds."""
    whole = load_toml(ROOT / "recipes" / "seven_gates_x0_75.toml", Recipe)
    every: dict[str, Any] = {name: getattr(whole.augment, name) for name in (*BOX, *RECORDER, STRANGER)} | STRENGTHS
    plain = replace(whole.augment, **dict.fromkeys(every, 0.0), erase=0.4, shrink=0.15)
    settings = {"none": plain, "all": replace(whole.augment, **every)}
    settings |= {name: replace(plain, **{part: every[part] for part in parts}) for name, parts in GROUPS.items()}
    base = replace(
        whole,
        stages=(Stage(256, 128, 220),),
        people=24,
        balance=0.0,
        ema=0.99,
        evaluate_every=10**6,
        teacher=replace(whole.teacher, models=whole.teacher.models[:1], weight=3.0, relation=5.0),
        optimiser=replace(whole.optimiser, learning_rate=4e-4, warmup_steps=50),
        arcface=replace(whole.arcface, ramp_steps=110),
        start=PEER,
    )
    return {name: replace(base, name=name, augment=augment) for name, augment in settings.items()}


def mean_ap(model: OSNet, dataset: Dataset, height_px: int | None, device: torch.device) -> float:
    """mAP in percent."""
    pictures = tuple(dict.fromkeys((*dataset.query, *dataset.gallery)))
    row = {picture: i for i, picture in enumerate(pictures)}
    parts = []
    with torch.inference_mode():
        for i in range(0, len(pictures), 128):
            crops = [resize(seen(p.path, height_px), height=256, width=128) for p in pictures[i : i + 128]]
            x = torch.from_numpy(np.stack(crops)).to(device).permute(0, 3, 1, 2).float() / 255
            parts.append(model.embed(normalise(x)).float().cpu().numpy())
    vectors = np.concatenate(parts)
    query, gallery = (vectors[[row[p] for p in part]] for part in (dataset.query, dataset.gallery))
    return 100 * evaluate(dataset, query, gallery, bootstrap=0).map.value


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    places = {place: place_sets(place, SHARED) for place in PLACES}
    parts = [read_dataset(kind, SHARED / "datasets" / kind, split="train") for kind in ("market1501", "cuhk03")]
    rest = without_sets(
        [read_dataset("csv", ROOT / "runs" / "small.csv", split="train")], [n for p in PLACES.values() for n in p]
    )
    pictures = merge([*parts, *rest]).train
    print("| faults | seed | " + " | ".join(f"{place}, native | 32 px" for place in places) + " | mean |")
    for name, recipe in recipes().items():
        for seed in (1, 2):
            folder = Path(ROOT / "runs" / "recorded" / f"{name}-{seed}")
            outcome = train(replace(recipe, seed=seed), pictures, [], folder, resume=True)
            if outcome.interrupted:
                raise SystemExit(f"{folder}: stopped at step {outcome.step}; the same command goes on")
            learnt = load_weights(outcome.weights, recipe.architecture)
            model = blend(learnt, folder / "start.pt", SHARE).eval().to(device)
            cells = [
                float(np.mean([mean_ap(model, dataset, height_px, device) for dataset in datasets]))
                for datasets in places.values()
                for height_px in (None, SMALL_PX)
            ]
            print(f"| {name} | {seed} | {' | '.join(f'{c:.1f}' for c in cells)} | {np.mean(cells):.1f} |", flush=True)


if __name__ == "__main__":
    main()
