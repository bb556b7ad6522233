"""How long a gallery takes to add and to search while it grows, and to add to one person again and again.

    python benchmarks/gallery.py

Made-up unit vectors of 512 numbers. For each number of people: 200 searches alone with one query, and 200 pairs of an
addition and a search, taken in turns; half the additions are new people, half known ones. The median and, in brackets, the
least, which other work on the machine slows least. Then 6,000 additions to one person, the seconds of each thousand.
"""

import argparse
import statistics
import time

import numpy as np

from passerby.reid.engine import processor
from passerby.reid.gallery import Gallery
from passerby.types import Float32

LENGTH = 512
PAIRS = 200
ADDITIONS = 6000


def vectors(count: int, seed: int) -> Float32:
    """Random unit vectors (count, LENGTH)."""
    rows = np.random.default_rng(seed).standard_normal((count, LENGTH), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def grown(people: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each search alone, and of each addition with a search."""
    gallery = Gallery(length=LENGTH, model="made up")
    for number, vector in enumerate(vectors(people, 0)):
        gallery.add(f"p{number}", vector)
    queries, added = vectors(PAIRS, 1), vectors(PAIRS, 2)
    alone, pairs = [], []
    gallery.candidates(queries[:1], 5)
    for number in range(PAIRS):
        start = time.perf_counter()
        gallery.candidates(queries[number : number + 1], 5)
        alone.append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
        gallery.add(f"new{number}" if number % 2 else f"p{number}", added[number])
        gallery.candidates(queries[number : number + 1], 5)
        pairs.append(1000 * (time.perf_counter() - start))
    return alone, pairs


def to_one_person() -> list[float]:
    """Seconds of each thousand additions to one person."""
    gallery = Gallery(length=LENGTH, model="made up")
    found = []
    for thousand in range(ADDITIONS // 1000):
        rows = vectors(1000, thousand)
        start = time.perf_counter()
        for row in rows:
            gallery.add("one", row)
        found.append(time.perf_counter() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, nargs="*", default=[5_000, 20_000, 80_000])
    arguments = parser.parse_args()
    print(f"{processor()}\n\n| people | search alone, ms | add and search, ms | times |\n|---|---|---|---|")
    for people in arguments.people:
        alone, pair = grown(people)
        cells = [f"{statistics.median(each):.1f} ({min(each):.1f})" for each in (alone, pair)]
        times = statistics.median(pair) / statistics.median(alone), min(pair) / min(alone)
        print(f"| {people:,} | {' | '.join(cells)} | {times[0]:.1f} ({times[1]:.1f}) |", flush=True)
    print(f"\n{ADDITIONS:,} additions to one person, s each thousand: {' '.join(f'{s:.3f}' for s in to_one_person())}")


if __name__ == "__main__":
    main()
