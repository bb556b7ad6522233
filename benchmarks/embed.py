"""Images a second of the embedder, beside torch eager and the raw engine on the same file in the same run.

    python benchmarks/embed.py --model models/osnet_x0_75

Input: uint8 64x128 px crops in memory; our figures include the resize to the network's 256x128. The raw engine is
OpenVINO alone on pictures that are already of the right size, in the best of: latency, throughput with one picture a
request, throughput with the batch as one request. Torch eager (channels-last, no grad) runs the same architecture.
The contenders take turns, round after round, so that a machine that changes its speed changes it for all.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from passerby.learn.export import Deployed
from passerby.learn.model import OSNet
from passerby.reid import engine as engines
from passerby.reid.card import find_model, read_card
from passerby.reid.embedder import Embedder, network_file
from passerby.reid.pictures import stack


def raw_requests(
    path: Path, *, precision: str, threads: int, hint: str, whole_batch: int
) -> Callable[[np.ndarray], None]:
    """The engine alone: a function that runs a prepared uint8 batch (n, 256, 128, 3) and drops the result."""
    ov = engines._openvino()
    model = ov.Core().read_model(path)
    height, width = (int(d.get_length()) for d in model.inputs[0].partial_shape[1:3])
    model.reshape([whole_batch, height, width, 3])
    streams = threads if hint == "THROUGHPUT" else 1
    settings = {
        "PERFORMANCE_HINT": hint,
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    compiled = ov.Core().compile_model(model, "CPU", settings)
    queue = ov.AsyncInferQueue(compiled, streams)

    def run(batch: np.ndarray) -> None:
        for i in range(0, len(batch), whole_batch):
            queue.start_async([batch[i : i + whole_batch]], share_inputs=True)
        queue.wait_all()

    return run


def torch_eager(architecture: str, threads: int) -> Callable[[np.ndarray], None]:
    """OSNet in torch without gradients, on a prepared batch."""
    model = Deployed(OSNet(architecture)).eval()
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks it

    def run(batch: np.ndarray) -> None:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            model(torch.from_numpy(batch)).numpy()

    return run


def speed(run: Callable[[], object], pictures: int, seconds: float) -> float:
    """Pictures a second over at least `seconds`."""
    done, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        run()
        done += pictures
    return done / took


def cold_start(model: Path, *, cached: bool, cache: Path) -> float:
    """Seconds from a fresh process's import to the first embedding, the compiled network cached or not."""
    import os
    import shutil
    import subprocess

    code = (
        "import time; t = time.perf_counter(); import numpy as np; from passerby import ReIDInference; "
        f"r = ReIDInference(model={str(model)!r}); r.embed([np.zeros((128, 64, 3), np.uint8)]); print(time.perf_counter() - t)"
    )
    times = []
    for _ in range(5):
        if not cached:
            shutil.rmtree(cache, ignore_errors=True)
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PASSERBY_CACHE": str(cache)},
            capture_output=True,
            text=True,
            check=True,
        )
        times.append(float(result.stdout))
    return statistics.median(times[1:] if cached else times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="osnet_x0_75", help="a model folder with card.json")
    parser.add_argument("--seconds", type=float, default=1.5, help="time for each contender in each round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median over them is printed")
    parser.add_argument("--start-only", action="store_true", help="measure only how long a first embedding takes")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    folder = find_model(arguments.model)
    card = read_card(folder)
    crops = np.random.default_rng(0).integers(0, 256, (32, 128, 64, 3), np.uint8)
    prepared = stack(crops, height=card.input.height, width=card.input.width)
    print(f"{engines.processor()}; OpenVINO {engines.openvino_version()}; torch {torch.__version__}; {arguments.model}")
    print(
        f"{'precision':>9} {'threads':>7} {'batch':>5} | {'ours':>6} {'raw best':>8} {'ratio':>5} | "
        f"{'torch':>6} {'ours/torch':>10}"
    )
    rows = []
    precisions = () if arguments.start_only else engines.cpu_precisions()
    for precision in (p for p in precisions if p != "int8" or "int8" in card.files):
        path = network_file(folder, card, precision)
        for threads in (1, 2):
            embedder = Embedder(folder, precision=precision, threads=threads)
            eager = torch_eager(card.architecture, threads)
            latency = raw_requests(path, precision=precision, threads=threads, hint="LATENCY", whole_batch=1)
            single = raw_requests(path, precision=precision, threads=threads, hint="THROUGHPUT", whole_batch=1)
            for batch in (1, 8, 32):
                whole = raw_requests(path, precision=precision, threads=threads, hint="THROUGHPUT", whole_batch=batch)
                contenders: dict[str, Callable[[], object]] = {
                    "ours": partial(embedder.embed_arrays, crops[:batch]),
                    "latency": partial(latency, prepared[:batch]),
                    "single": partial(single, prepared[:batch]),
                    "whole": partial(whole, prepared[:batch]),
                    "torch": partial(eager, prepared[:batch]),
                }
                found: dict[str, list[float]] = {name: [] for name in contenders}
                for run in contenders.values():
                    run()
                for _ in range(arguments.rounds):
                    for name, run in contenders.items():
                        found[name].append(speed(run, batch, arguments.seconds))
                at = {name: statistics.median(values) for name, values in found.items()}
                raw = max(at["latency"], at["single"], at["whole"])
                rows.append({"precision": precision, "threads": threads, "batch": batch, **at, "raw": raw})
                print(
                    f"{precision:>9} {threads:>7} {batch:>5} | {at['ours']:6.1f} {raw:8.1f} {at['ours'] / raw:5.2f} | "
                    f"{at['torch']:6.1f} {at['ours'] / at['torch']:10.1f}",
                    flush=True,
                )
    cache = Path("runs") / "cache-of-benchmark"
    cold, warm = cold_start(folder, cached=False, cache=cache), cold_start(folder, cached=True, cache=cache)
    print(
        f"import, ReIDInference() and a first embedding: {cold:.2f} s cold, {warm:.2f} s with the compiled network cached"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "cold_s": cold, "warm_s": warm}, indent=1))


if __name__ == "__main__":
    main()
