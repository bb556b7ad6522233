"""How to begin: from random weights with teachers, from a published body, or both; curves against processor hours.

    python benchmarks/starts.py

Each run trains OSNet x0.75 on Market-1501 alone for about the same time and is looked at on the dev people of Market-1501
(home) and of CUHK03 (away), which it never saw. Runs lie in runs/starts and can be stopped and gone on with.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from passerby.config import load_toml
from passerby.learn.train import Recipe, Stage, TeacherSettings, train
from passerby.reid.datasets import read_dataset
from passerby.reid.engine import processor
from shared import ROOT, SHARED

BOTH = load_toml(ROOT / "recipes" / "market_gates_x0_75.toml", Recipe)
SCRATCH = load_toml(ROOT / "recipes" / "market_cuhk03_x0_75.toml", Recipe)
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
}


def curve(log: Path, batch: int) -> list[tuple[int, float, dict[str, float]]]:
    """(step, processor hours, dev figures) of each look."""
    seconds, looks = 0.0, []
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        seconds += batch / entry["images_per_s"] * entry["threads"]
        seen = {name: value for name, value in entry.items() if name.startswith("dev_")}
        if seen:
            looks.append((entry["step"], seconds / 3600, seen))
    return looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"some of {', '.join(RUNS)}; all where none is named")
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder of real data")
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
        for step, hours, seen in curve(folder / "log.jsonl", recipe.people * recipe.pictures_each):
            home, away = (
                f"{100 * seen[f'dev_{kind}_rank1']:.1f} / {100 * seen[f'dev_{kind}_map']:.1f}"
                for kind in ("market1501", "cuhk03")
            )
            print(f"| {what} | {step:,} | {hours:.2f} | {home} | {away} |", flush=True)


if __name__ == "__main__":
    main()
