"""The simulator's own figures: Rank-1 asked for and obtained, a long day's time and memory, a film's time.

python benchmarks/simulate.py rank1
python benchmarks/simulate.py table        # what appearance.RANK1_AT holds
python benchmarks/simulate.py day          # 20,000 visits, 20 cameras, vectors
python benchmarks/simulate.py video        # the sample shop: 4 cameras, 2 minutes, 640x360 at 12 frames/s
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from passerby.config import load_toml
from passerby.reid.engine import processor
from passerby.simulate.appearance import RANK1_AT, DrawnVectors, measured_rank1, noise_for
from passerby.simulate.plan import Arrivals, CameraPlan, Checkout, Looks, Obstacle, Shop, ZonePlan
from passerby.simulate.recording import record


def rank1() -> None:
    """Asked for against obtained, other draws than those of the table."""
    print("| Rank-1 asked for | shared 0.2 | shared 0.6 | shared 0.8 |\n|---|---|---|---|")
    for asked in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0):
        found = (measured_rank1(noise_for(asked, shared), shared, seed=1) for shared in (0.2, 0.6, 0.8))
        print(f"| {asked:.2f} | {' | '.join(f'{value:.3f}' for value in found)} |", flush=True)


def table() -> None:
    """The Rank-1 at each length of a mean vector's noise, 400 draws; the track shares all of it."""
    print("| noise | Rank-1 | in the table |\n|---|---|---|")
    for length, kept in RANK1_AT:
        print(f"| {length:g} | {measured_rank1(length, 1.0, seed=0, draws=400):.4f} | {kept} |", flush=True)


def large_shop(visits: int) -> Shop:
    """50 x 40 m: sixteen aisles and twenty cameras; about so many visits in a day of 12 hours."""
    zones = [
        ZonePlan("door", "entrance", (23.0, 0.3, 27.0, 1.5)),
        ZonePlan("tills", "checkout", (40.0, 2.0, 48.0, 4.0)),
    ]
    obstacles, cameras = [], [CameraPlan("door", (25.0, 6.0), 3.5, 270.0, 35.0)]
    for row in range(4):
        for column in range(4):
            x, y = 2.0 + 12.0 * column, 8.0 + 8.0 * row
            zones.append(ZonePlan(f"aisle {row}{column}", "shelves", (x + 2.5, y, x + 5.5, y + 5.0)))
            obstacles.append(Obstacle((x, y, x + 1.5, y + 5.0)))
            cameras.append(CameraPlan(f"aisle {row}{column}", (x + 4.0, y - 0.5), 3.5, 90.0, 35.0, range_m=8.0))
    cameras += [CameraPlan(f"tills {n}", (38.0 + 4.0 * n, 6.5), 3.5, 270.0, 35.0, range_m=8.0) for n in range(3)]
    parties = visits / (1 * 0.75 + 2 * 0.18 + 3 * 0.05 + 4 * 0.02) / 12
    return Shop(
        name="large",
        size_m=(50.0, 40.0),
        zones=tuple(zones),
        cameras=tuple(cameras),
        obstacles=tuple(obstacles),
        arrivals=Arrivals((*[parties] * 12, 0.0)),
        checkout=Checkout(tills=16),
        looks=Looks(0.8, 0.6, 0.05),
    )


def day(visits: int) -> None:
    """Time and the process's highest memory, after a tenth of the day and after all of it."""
    shop = large_shop(visits)
    print(f"{processor()}; {len(shop.cameras)} cameras")
    print("| time simulated | visits | sightings | seconds | of the processor | peak MiB |\n|---|---|---|---|---|---|")
    for hours in (1.2, 24.0):
        with tempfile.TemporaryDirectory() as folder:
            start, busy = time.perf_counter(), time.process_time()
            source = DrawnVectors(shop.looks, seed=1, cameras=len(shop.cameras))
            made = record(shop, source, Path(folder), seed=1, duration_s=hours * 3600)
            took, busy = time.perf_counter() - start, time.process_time() - busy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"| {hours:g} h | {made.visits:,} | {made.sightings:,} | {took:.1f} | {busy:.1f} | {peak:.0f} |", flush=True
        )


def video() -> None:
    """Composed, encoded and written, both cores."""
    from passerby.simulate.footage import film
    from passerby.simulate.scene import ATLAS, Atlas

    shop = load_toml(ATLAS.with_name("sample_shop.toml"), Shop)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        people = film(shop, Path(folder), Atlas(), seed=1, duration_s=120.0)
        took = time.perf_counter() - start
        size = sum(path.stat().st_size for path in Path(folder).glob("*.mp4")) / 2**20
    print(f"{processor()}; 4 cameras, 120 s, {people} people: {took:.0f} s, {size:.1f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=("rank1", "table", "day", "video"))
    parser.add_argument("--visits", type=int, default=20_000, help="of the day")
    arguments = parser.parse_args()
    {"rank1": rank1, "table": table, "day": lambda: day(arguments.visits), "video": video}[arguments.figure]()
