"""How to begin: from random weights with teachers, from a published body, or both; and what differs then at full size.

    python benchmarks/starts.py
    python benchmarks/starts.py both --test

Each run trains OSNet x0.75 on Market-1501 alone for about the same time and is looked at on the dev people of Market-1501
(home) and of CUHK03 (away), which it never saw, against processor hours. The averaged weights of the last step are then
mixed with what the run began with, in several shares. With --test those weights, unmixed and with the bundled models' share,
meet CUHK03's test people, beside 0286. Runs lie in runs/starts and can be stopped and gone on with.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from passerby.config import load_toml
from passerby.learn.export import blend
from passerby.learn.model import OSNet
from passerby.learn.recipe import ArcFaceSettings, Recipe, SoftmaxSettings, Stage, TeacherSettings
from passerby.learn.train import embed_pictures, train
from passerby.reid.datasets import read_dataset
from passerby.reid.embedder import Embedder
from passerby.reid.engine import processor
from passerby.reid.evaluate import Evaluation, evaluate, paired_bootstrap
from passerby.types import Dataset
from shared import PEER, ROOT, SHARED, dataset_vectors, rows, shown

SHARES = (0.1, 0.2, 0.3, 0.4, 0.6, 1.0)  # of the start, mixed back in
SHIPPED = 0.3  # the share that the bundled models have, chosen on dev people

# all in fp32, so that runs on machines with and without bf16 compare
BOTH = replace(load_toml(ROOT / "recipes" / "market_gates_x0_75.toml", Recipe), precision="fp32")
SCRATCH = replace(load_toml(ROOT / "recipes" / "market_cuhk03_x0_75.toml", Recipe), precision="fp32")
RUNS: dict[str, tuple[str, Recipe]] = {
    "distilled": (
        "random weights, teachers 0277 and 0286",
        replace(
            SCRATCH,
            data=BOTH.data,
            stages=(Stage(128, 64, 1500), Stage(256, 128, 80, 3.0)),
            evaluate_every=500,
            ema=0.99,
        ),
    ),
    "begun": ("0286's body, no teacher", replace(BOTH, teacher=TeacherSettings())),
    "both": ("0286's body, teachers 0277 and 0286", BOTH),
    "softmax": (
        "the same, label-smoothed softmax for ArcFace",
        replace(BOTH, arcface=ArcFaceSettings(weight=0.0), softmax=SoftmaxSettings(weight=1.0)),
    ),
    "degraded": (
        "the same, pictures small and dark instead of erasing",
        replace(BOTH, augment=replace(BOTH.augment, erase=0.0, shrink=0.25, dark=0.15)),
    ),
}


def curve(entries: list[dict[str, float]], batch: int) -> list[tuple[int, float, dict[str, float]]]:
    """(step, processor hours, dev figures) of each look in a run's log."""
    seconds, looks = 0.0, []
    for entry in entries:
        seconds += batch / entry["images_per_s"] * entry["threads"]
        seen = {name: value for name, value in entry.items() if name.startswith("dev_")}
        if seen:
            looks.append((int(entry["step"]), seconds / 3600, seen))
    return looks


def preparing(entries: list[dict[str, float]]) -> float:
    """The share of a run's time in which pictures were prepared, and the network waited."""
    seconds = [1 / entry["images_per_s"] for entry in entries]  # a picture's, and so in proportion
    return sum(s * entry["loading"] for s, entry in zip(seconds, entries, strict=True)) / sum(seconds)


def averaged(folder: Path, architecture: str) -> OSNet:
    """The averaged weights of a run's last step, whatever its looks found best."""
    model = OSNet(architecture)
    model.load_state_dict(torch.load(folder / "checkpoint.pt", weights_only=True)["averaged"])
    return model


def measured(model: OSNet, dataset: Dataset, folder: Path, *, bootstrap: int = 0) -> Evaluation:
    """Retrieval figures of a network that is not exported yet."""
    pictures = tuple(dict.fromkeys((*dataset.query, *dataset.gallery)))
    made = embed_pictures(model, pictures, folder / "cache", height=256, width=128, device=torch.device("cpu"))
    vectors = dict(zip(pictures, made, strict=True))
    return evaluate(dataset, rows(vectors, dataset.query), rows(vectors, dataset.gallery), bootstrap=bootstrap)


def pair(found: Evaluation) -> str:
    """Rank-1 / mAP in percent."""
    return f"{100 * found.rank1.value:.1f} / {100 * found.map.value:.1f}"


def test(models: dict[str, OSNet], cuhk03: Path, folder: Path) -> None:
    """CUHK03's test people, whose data set the run never saw, beside the peer."""
    dataset = read_dataset("cuhk03", cuhk03)
    vectors = dataset_vectors(Embedder(PEER, precision="fp32"), dataset)
    peer = evaluate(dataset, rows(vectors, dataset.query), rows(vectors, dataset.gallery))
    for what, model in models.items():
        ours = measured(model, dataset, folder, bootstrap=1000)
        print(f"\nCUHK03 test, {what}: Rank-1 {shown(ours.rank1)}, mAP {shown(ours.map)}; {PEER.stem}: {pair(peer)}")
        for figure in ("rank1", "map"):
            difference = paired_bootstrap(ours, peer, figure=figure)
            print(f"  {figure}: ours - peer {shown(difference.value)}, better in {difference.probability:.1%} of draws")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"some of {', '.join(RUNS)}; all where none is named")
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder of real data")
    parser.add_argument(
        "--test", action="store_true", help="meet CUHK03's test people: once for weights that are chosen"
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.runs) - set(RUNS))
    if unknown:
        parser.error(f"no run is called {unknown[0]!r}; there are {', '.join(RUNS)}")
    market, cuhk03 = (arguments.shared / "datasets" / kind for kind in ("market1501", "cuhk03"))
    pictures = read_dataset("market1501", market, split="train").train
    dev = [read_dataset("market1501", market, split="dev"), read_dataset("cuhk03", cuhk03, split="dev")]
    print(
        f"{processor()}\n\n| start | step | processor hours | home Rank-1 / mAP | away Rank-1 / mAP |\n|---|---|---|---|---|"
    )
    for name in arguments.runs or RUNS:
        what, recipe = RUNS[name]
        folder = ROOT / "runs" / "starts" / name
        outcome = train(recipe, pictures, dev, folder, resume=True)
        if outcome.interrupted:
            raise SystemExit(f"{folder}: stopped at step {outcome.step}; the same command goes on")
        entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for step, hours, seen in curve(entries, recipe.people * recipe.pictures_each):
            home, away = (
                f"{100 * seen[f'dev_{kind}_rank1']:.1f} / {100 * seen[f'dev_{kind}_map']:.1f}"
                for kind in ("market1501", "cuhk03")
            )
            print(f"| {what} | {step:,} | {hours:.2f} | {home} | {away} |", flush=True)
        print(f"| pictures were prepared in {preparing(entries):.1%} of that time | | | | |")
        last = averaged(folder, recipe.architecture)
        for share in SHARES if recipe.start else ():
            mixed = blend(last, folder / "start.pt", share)
            cells = " | ".join(pair(measured(mixed, dataset, folder)) for dataset in dev)
            print(f"| {1 - share:.1f} of it, {share:.1f} of its start | {recipe.steps:,} | | {cells} |", flush=True)
        if arguments.test:
            chosen = {what: last}
            if recipe.start:
                chosen[f"the same, {SHIPPED} of its start mixed in"] = blend(last, folder / "start.pt", SHIPPED)
            test(chosen, cuhk03, folder)


if __name__ == "__main__":
    main()
