"""From pixels to visits, beside the truth: the sample shop, and films of other seeds that nothing was chosen on.

    python benchmarks/films.py sample
    python benchmarks/films.py films --keep runs/films

The sample shop is filmed with other seeds and numbers of people: twelve films of four cameras, 5 minutes, from 40 to 150
parties an hour. Each is filmed once into the folder --keep, a quarter of an hour for all, then followed by the defaults.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from passerby.config import load_toml
from passerby.reid.embedder import Embedder
from passerby.reid.engine import processor
from passerby.reid.inference import ReIDInference
from passerby.simulate.footage import film
from passerby.simulate.judging import Judgement, Witness, judge
from passerby.simulate.plan import Shop
from passerby.simulate.scene import ATLAS, Atlas
from passerby.site import load_site
from passerby.vision.detect import open_detector
from passerby.vision.pipeline import LOOKS, follow_recordings

SEEDS = range(9001, 9013)
PER_HOUR = np.linspace(40, 150, 12).round().astype(int).tolist()
MINUTES = 5.0
FPS = 6.0  # five frames a second are looked at
WITHIN_S = 2.0
HEAD = "| film | visits: truly | found | right | entries | exits | link F1 | dwell within 2 s | off, s |"


def filmed(keep: Path, *, seed: int, per_hour: float) -> Path:
    """The folder of a film, which is made where it is not there."""
    folder = keep / f"{seed}"
    if not (folder / "run.json").exists():
        plan = load_toml(ATLAS.with_name("sample_shop.toml"), Shop)
        cameras = tuple(replace(camera, fps=FPS) for camera in plan.cameras)
        shop = replace(plan, cameras=cameras, arrivals=replace(plan.arrivals, per_hour=(per_hour,)))
        film(shop, folder, Atlas(), seed=seed, duration_s=60 * MINUTES)
    return folder


def followed(folder: Path, reid: ReIDInference, detector: str) -> Judgement:
    """A film followed with the defaults, beside its truth."""
    site, witness = load_site(folder / "site.toml"), Witness(folder)
    with tempfile.TemporaryDirectory() as out:
        found = follow_recordings(
            site,
            Path(out),
            detector=open_detector(detector),
            embedder=reid.embedder,
            looks=Embedder(LOOKS, precision="fp32"),
            calibration=reid.calibration,
            threshold=reid.threshold,
            see=witness.see,
        )
    return judge(
        folder,
        witness,
        visits=found.visits,
        links=found.links,
        sightings=found.sightings,
        zones=[zone.name for zone in site.zones],
    )


def row(name: str, judged: Judgement) -> str:
    """A row of the table."""
    doors = [f"{right} of {true}, {found} found" for true, found, right in (judged.entries, judged.exits)]
    errors = judged.dwell_errors_s
    dwell = f"{100 * (errors <= WITHIN_S).mean():.0f} % | {errors.mean():.1f}" if len(errors) else "- | -"
    cells = [name, judged.true_visits, judged.visits, judged.right, *doors, f"{100 * judged.links.f1:.1f}", dwell]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["sample", "films"])
    parser.add_argument("--keep", type=Path, default=Path("runs/films"), help="where films are kept")
    parser.add_argument("--model", default="osnet_x0_75")
    parser.add_argument("--detector", default="person_detector")
    parser.add_argument("--mode", default="visitor-counting")
    arguments = parser.parse_args()
    reid = ReIDInference(mode=arguments.mode, model=arguments.model)
    print(f"{processor()}; {arguments.model}, {reid.embedder.precision}; {arguments.detector}; {arguments.mode}\n")
    print(HEAD + "\n" + "|---" * HEAD.count(" | ") + "|---|")
    if arguments.which == "sample":
        print(row("the sample shop", followed(ATLAS.with_name("sample"), reid, arguments.detector)))
        return
    every = []
    for seed, per_hour in zip(SEEDS, PER_HOUR, strict=True):
        judged = followed(filmed(arguments.keep, seed=seed, per_hour=per_hour), reid, arguments.detector)
        every.append(judged)
        print(row(f"{seed}, {per_hour} an hour", judged), flush=True)
    true, found, right = (sum(getattr(each, name) for each in every) for name in ("true_visits", "visits", "right"))
    doors = [np.sum([getattr(each, name) for each in every], axis=0) for name in ("entries", "exits")]
    links = [sum(getattr(each.links, name) for each in every) for name in ("there", "said", "right")]
    errors = np.concatenate([each.dwell_errors_s for each in every])
    print(f"\nAll: {found} visits where {true} are ({100 * (found / true - 1):+.1f} %), {right} of them right;")
    print(f"entries and exits (true, found, right): {doors[0].tolist()}, {doors[1].tolist()};")
    dwells = [dwell for each in every for dwell in each.dwells]
    true_s, found_s = (sum(getattr(dwell, name) for dwell in dwells) for name in ("true_s", "found_s"))
    print(
        f"link F1 {200 * links[2] / (links[0] + links[1]):.1f}; dwell within {WITHIN_S:g} s {(errors <= WITHIN_S).mean():.1%},"
    )
    off = np.array([dwell.found_s - dwell.true_s for dwell in dwells])
    print(f"all of it {100 * (found_s / true_s - 1):+.1f} %, off by {np.median(off):+.2f} s in the median")


if __name__ == "__main__":
    main()
