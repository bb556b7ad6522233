"""Which precision `auto` takes: 20 cold starts, every other one beside busy processes; and how fast each one is.

    python benchmarks/precision.py --model osnet_x0_75

Each start is a fresh process with an empty cache. For the speeds, the precisions take turns, round after round, in
`Embedder.embed_arrays` on 64x128 crops; the median over the rounds is printed, and its ratio to fp32's.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from passerby.reid.card import find_model, read_card
from passerby.reid.embedder import Embedder
from passerby.reid.engine import cpu_precisions, processor

STARTS = 20
BATCHES = (1, 8, 32)


def busy() -> None:
    """Keep a core at work until the process is ended."""
    while True:
        np.linalg.svd(np.random.default_rng(0).standard_normal((400, 400)))


def start(model: str, cache: str) -> str:
    """The precision that a fresh process takes."""
    code = f"from passerby import ReIDInference; print(ReIDInference(model={model!r}).embedder.precision)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PASSERBY_CACHE": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def starts(model: str) -> list[str]:
    """What each of the cold starts takes."""
    found = []
    for number in range(STARTS):
        others = [multiprocessing.Process(target=busy, daemon=True) for _ in range(number % 2 * (os.cpu_count() or 1))]
        for other in others:
            other.start()
        with tempfile.TemporaryDirectory() as cache:
            found.append(start(model, cache))
        for other in others:
            other.terminate()
            other.join()
    return found


def speeds(model: str, threads: int, rounds: int, seconds: float) -> None:
    """Table rows: images a second of each precision, and its ratio to fp32's."""
    card = read_card(find_model(model))
    crops = np.random.default_rng(0).integers(0, 256, (max(BATCHES), 128, 64, 3), np.uint8)
    opened = {
        precision: Embedder(model, precision=precision, threads=threads)
        for precision in cpu_precisions()
        if precision != "int8" or "int8" in card.files
    }
    for batch in BATCHES:
        found: dict[str, list[float]] = {precision: [] for precision in opened}
        for embedder in opened.values():
            embedder.embed_arrays(crops[:batch])
        for _ in range(rounds):
            for precision, embedder in opened.items():
                done, begun = 0, time.perf_counter()
                while (took := time.perf_counter() - begun) < seconds:
                    embedder.embed_arrays(crops[:batch])
                    done += batch
                found[precision].append(done / took)
        at = {precision: statistics.median(values) for precision, values in found.items()}
        cells = (f"{speed:.0f} ({speed / at['fp32']:.2f})" for speed in at.values())
        print(f"| {model} | {threads} | {batch} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="osnet_x0_75", help="a model folder with calibrations")
    parser.add_argument("--rounds", type=int, default=9, help="rounds; the median over them is printed")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each precision in each round")
    arguments = parser.parse_args()
    print(processor())
    print(f"| network | threads | batch | {' | '.join(cpu_precisions())} |")
    for threads in (1, 2):
        speeds(arguments.model, threads, arguments.rounds, arguments.seconds)
    found = starts(arguments.model)
    print(f"{len(found)} cold starts took: {', '.join(sorted(set(found)))}")


if __name__ == "__main__":
    main()
