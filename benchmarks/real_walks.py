"""Real walks under virtual cameras, beside the simulator's: how long from camera to camera, back to the same one, in view.

python benchmarks/real_walks.py     # the reference shops and the sample shop beside ../shared/trajectories/grand_central.npz
python benchmarks/real_walks.py recipes/reference_normal.toml --turn-back 0.15

The real ones are 80 minutes of Grand Central's hall. Its metres are made by hand and uneven: by them people walk many times
faster in the south than in the north (printed). So the cameras are rectangles that take about 5 s to walk through, and times
alone are compared.
`real_sightings` gives what perfect trackers would: rows in order of time, for a linker to be run on.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from passerby.config import load_toml
from passerby.simulate.cameras import Views
from passerby.simulate.people import visits
from passerby.simulate.plan import Rectangle, Shop
from passerby.simulate.scene import ATLAS
from passerby.simulate.watching import BRIDGE_S, times_in_view
from passerby.types import Float64
from shared import ROOT, SHARED

WALKS = SHARED / "trajectories" / "grand_central.npz"
STEP_S = 0.1  # a walk is looked at so often; between annotated points it is straight
CAMERAS: dict[str, Rectangle] = {  # x0, y0, x1, y1 in the hall's metres
    "north-west": (33.0, 73.0, 38.0, 79.0),
    "north-east": (42.0, 70.0, 48.0, 76.0),
    "west": (31.5, 61.0, 36.0, 67.0),
    "middle": (40.0, 53.0, 45.0, 59.0),
    "east": (49.0, 50.0, 55.0, 58.0),
    "south": (38.0, 38.0, 46.0, 47.0),
}


class Walk(NamedTuple):
    """One person's way: times (n,) in seconds, rising, and places (n, 2) in metres."""

    person: int
    at_s: Float64
    xy_m: Float64


class Seen(NamedTuple):
    """A time that one camera saw a person, in seconds."""

    camera: int
    start_s: float
    end_s: float
    person: int


def walks(path: Path = WALKS) -> Iterator[Walk]:
    """The annotated people of Grand Central, in order of their numbers."""
    with np.load(path) as file:
        person, at_s, xy_m = file["person"], file["t_s"].astype(np.float64), file["xy_m"].astype(np.float64)
    order = np.lexsort((at_s, person))
    for mine in np.split(order, np.flatnonzero(np.diff(person[order])) + 1):
        yield Walk(int(person[mine[0]]), at_s[mine], xy_m[mine])


def sightings_of(walk: Walk, cameras: Sequence[Rectangle]) -> list[Seen]:
    """What cameras see of a walk; who is out of view for less than a second is bridged, as in the simulator."""
    at_s = np.append(np.arange(walk.at_s[0], walk.at_s[-1], STEP_S), walk.at_s[-1])
    x, y = (np.interp(at_s, walk.at_s, walk.xy_m[:, axis]) for axis in (0, 1))
    found: list[Seen] = []
    for camera, (x0, y0, x1, y1) in enumerate(cameras):
        inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
        edges = np.flatnonzero(np.diff(np.r_[False, inside, False]))
        mine: list[Seen] = []
        for first, behind in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            seen = Seen(camera, float(at_s[first]), float(at_s[behind - 1]), walk.person)
            if mine and seen.start_s - mine[-1].end_s < BRIDGE_S:
                seen = seen._replace(start_s=mine.pop().start_s)
            mine.append(seen)
        found += [seen for seen in mine if seen.end_s > seen.start_s]
    return found


def real_sightings(path: Path = WALKS, cameras: Sequence[Rectangle] = tuple(CAMERAS.values())) -> list[Seen]:
    """What cameras see of all real walks, in order of its start."""
    return sorted((seen for walk in walks(path) for seen in sightings_of(walk, cameras)), key=lambda seen: seen.start_s)


def simulated_sightings(shop: Shop, *, seed: int = 1, duration_s: float = 4 * 3600.0) -> list[Seen]:
    """What a simulated shop's cameras see of its shoppers, nothing missed, in order of its start; each visit is a person."""
    views = Views(shop)
    come = (visit for visit in visits(shop, views, seed=seed, duration_s=duration_s) if not visit.staff)
    found = (
        Seen(each.camera, each.start_s, each.end_s, visit.number)
        for visit in come
        for each in times_in_view(visit, views)
    )
    return sorted(found, key=lambda seen: seen.start_s)


def times_of(sightings: Sequence[Seen]) -> dict[str, dict[tuple[int, int], list[float]]]:
    """Seconds out of view for each pair of cameras ("passage") or camera ("return"), and seconds in view of each camera.

    `sightings` come in order of their start; of a person in two cameras at once no time is taken.
    """
    times: dict[str, dict[tuple[int, int], list[float]]] = {"passage": {}, "return": {}, "in view": {}}
    last: dict[int, Seen] = {}
    for seen in sightings:
        times["in view"].setdefault((seen.camera, seen.camera), []).append(seen.end_s - seen.start_s)
        before = last.get(seen.person)
        if before is not None and seen.start_s > before.end_s:
            kind = "return" if before.camera == seen.camera else "passage"
            times[kind].setdefault((before.camera, seen.camera), []).append(seen.start_s - before.end_s)
        last[seen.person] = seen
    return times


def figures(cells: Sequence[Sequence[float]], *, least: int = 20) -> str:
    """Number, median, and the deviation of the logarithm within a pair or camera, pooled over those with `least` or more."""
    every = [seconds for cell in cells for seconds in cell]
    kept = [np.log(cell) for cell in cells if len(cell) >= least]
    if not kept:
        return f"{len(every)} | – | –"
    within = np.sqrt(np.average([logs.var() for logs in kept], weights=[len(logs) for logs in kept]))
    return f"{len(every):,} | {np.median(every):.1f} | {within:.2f}"


def ground_speeds(path: Path = WALKS) -> tuple[float, float]:
    """The median speed of real steps of 0.8 s in m/s, south of y = 30 and north of y = 70: one and the same on even ground."""
    places, steps = [], []
    for walk in walks(path):
        whole = np.diff(walk.at_s) < 0.9
        places.append(walk.xy_m[:-1][whole, 1])
        steps.append(np.linalg.norm(np.diff(walk.xy_m, axis=0), axis=1)[whole] / np.diff(walk.at_s)[whole])
    y, speed = np.concatenate(places), np.concatenate(steps)
    return float(np.median(speed[y < 30])), float(np.median(speed[y > 70]))


def main() -> None:
    """Print one row for the real walks and one for each shop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "shops", nargs="*", type=Path, help="shops; without any the reference shops and the sample shop"
    )
    parser.add_argument("--walks", type=Path, default=WALKS, help="grand_central.npz")
    parser.add_argument(
        "--turn-back", type=float, help="the share of stops that people come back to, in place of the shop's"
    )
    arguments = parser.parse_args()
    paths = arguments.shops or [
        *sorted((ROOT / "recipes").glob("reference_*.toml")),
        ATLAS.with_name("sample_shop.toml"),
    ]
    south, north = ground_speeds(arguments.walks)
    print(f"Median speed by the hall's metres: {south:.1f} m/s south of y = 30, {north:.1f} m/s north of y = 70\n")
    kinds = ("passage", "return", "in view")
    print("| | " + " | ".join(f"{kind}: number | median s | log-deviation" for kind in kinds) + " |")
    print("|---" * (1 + 3 * len(kinds)) + "|")
    rows = [("Grand Central", real_sightings(arguments.walks))]
    for shop in (load_toml(path, Shop) for path in paths):
        if arguments.turn_back is not None:
            shop = replace(shop, shoppers=replace(shop.shoppers, turn_back=arguments.turn_back))
        rows.append((shop.name, simulated_sightings(shop)))
    for name, sightings in rows:
        times = times_of(sightings)
        print(f"| {name} | " + " | ".join(figures(list(times[kind].values())) for kind in kinds) + " |", flush=True)


if __name__ == "__main__":
    main()
