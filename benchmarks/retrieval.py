"""Time and memory of CMC + mAP at Market-1501's size, also re-ranked, and with a gallery of 125,000; a plain Python loop;
the index of very large galleries, at 125,000 and 500,000 people, beside the exact search.

    python benchmarks/retrieval.py [--market ../shared/datasets/market1501] [--json FILE]

Labels are Market-1501's where the data set is at hand, else made up with its structure; embeddings are made-up unit
vectors. Each case runs in a process of its own, so that its peak memory is its own. Times are wall clock on all cores;
processor time, summed over cores, is what the work costs where other work runs beside it.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from passerby.reid.datasets import read_dataset
from passerby.reid.index import PeopleIndex
from passerby.reid.reranking import reranked
from passerby.reid.retrieval import Labels, cosines, rank

MARKET = Path(__file__).resolve().parents[1].parent / "shared" / "datasets" / "market1501"
LENGTH = 512
LOOP_QUERIES = 200
INDEXED = ("125000", "500000")
INDEX_QUERIES = 1000


def market_labels(root: Path) -> tuple[Labels, Labels]:
    """Market-1501's test labels, or made-up ones of the same structure: 750 people, 6 cameras, 2,798 distractors."""
    if root.is_dir():
        dataset = read_dataset("market1501", root)
        return Labels.of(dataset.query), Labels.of(dataset.gallery)
    rng = np.random.default_rng(0)
    seen = [(p, c) for p in range(1, 751) for c in sorted(rng.choice(6, 5, replace=False).tolist())][:3368]
    person = np.concatenate([np.arange(1, 751), rng.integers(1, 751, 13_115 - 750), np.zeros(2798, int)])
    query = Labels(tuple(p for p, _ in seen), tuple(c for _, c in seen))
    return query, Labels(tuple(person.tolist()), tuple(rng.integers(0, 6, len(person)).tolist()))


def enlarged(query: Labels, gallery: Labels, *, queries: int, pictures: int) -> tuple[Labels, Labels]:
    """More queries of the same people, and a gallery filled up with strangers."""
    strangers = [f"stranger {i // 10}" for i in range(pictures - len(gallery))]
    rows = np.arange(queries) % len(query)
    cameras = tuple(set(gallery.camera))
    filled = tuple(cameras[i % len(cameras)] for i in range(len(strangers)))
    return (
        Labels(query.take(rows).person, query.take(rows).camera),
        Labels((*gallery.person, *strangers), (*gallery.camera, *filled)),
    )


def vectors(labels: Labels, *, noise: float, seed: int) -> NDArray[np.float32]:
    """Unit vectors (n, LENGTH) around a direction of each person's own; distractors and strangers are anywhere."""
    rng = np.random.default_rng(seed)
    people = {person: i for i, person in enumerate(sorted(set(labels.person), key=str))}
    centres = np.stack(
        [np.random.default_rng(list(str(person).encode())).standard_normal(LENGTH, np.float32) for person in people]
    )
    rows = centres[[people[person] for person in labels.person]]
    rows += noise * rng.standard_normal(rows.shape, np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def python_loop(similarity: NDArray[np.float32], query: Labels, gallery: Labels) -> float:
    """Mean average precision as evaluation scripts compute it: sort every row, mask, sum up."""
    person, camera = (np.array([str(x) for x in labels]) for labels in (gallery.person, gallery.camera))
    (people, person), (cameras, camera) = (np.unique(labels, return_inverse=True) for labels in (person, camera))
    numbers = [{str(name): i for i, name in enumerate(names)} for names in (people, cameras)]
    precisions = []
    for row, who, where in zip(similarity, query.person, query.camera, strict=True):
        mine, here = numbers[0].get(str(who), -1), numbers[1].get(str(where), -1)
        order = np.argsort(-row, kind="stable")
        kept = ~((person[order] == mine) & (camera[order] == here))
        right = (person[order] == mine)[kept]
        if right.any():
            found = right.cumsum()
            precisions.append(float((found / np.arange(1, len(found) + 1) * right).sum() / right.sum()))
    return float(np.mean(precisions))


def crowd(people: int, queries: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit vectors (people, LENGTH) around 2,000 looks in 64 dimensions, and those of other pictures of some of them.

    A person's two pictures have a cosine of about 0.86, the tenth nearest of 20,000 people one of about 0.5.
    """
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((64, LENGTH), np.float32)
    looks = rng.standard_normal((2000, 64), np.float32)
    person = looks[rng.integers(0, 2000, people)] + 0.8 * rng.standard_normal((people, 64), np.float32)
    again = person[rng.choice(people, queries, replace=False)]
    rows = [(p + 0.5 * rng.standard_normal(p.shape, np.float32)) @ basis for p in (person, again)]
    for each in rows:
        each /= np.linalg.norm(each, axis=1, keepdims=True)
    return rows[0], rows[1]


def run_index(people: int) -> dict[str, float | int | str]:
    """Measure the index in this process: how often it finds what the exact search finds, and how long both take."""
    gallery, queries = crowd(people, INDEX_QUERIES)
    start = time.perf_counter()
    index = PeopleIndex([str(i) for i in range(people)], gallery)
    built = time.perf_counter() - start
    best, exact_times, found, times = [], [], [], []
    for i in range(0, INDEX_QUERIES, 100):
        chunk = queries[i : i + 100]
        start = time.perf_counter()
        cosine = chunk @ gallery.T
        nearest = np.argpartition(-cosine, 10, axis=1)[:, :10]
        exact_times.append(time.perf_counter() - start)
        best += [row[np.argsort(-cosine[q, row])] for q, row in enumerate(nearest)]
        start = time.perf_counter()
        names, rows, _, _ = index.search(chunk, 10)
        times.append(time.perf_counter() - start)
        found += [[int(names[place]) for place in row if place >= 0] for row in rows]
    single: dict[str, list[float]] = {"exact": [], "index": []}
    for query in queries[:50]:
        start = time.perf_counter()
        np.argpartition(-(query[None] @ gallery.T), 10, axis=1)
        single["exact"].append(time.perf_counter() - start)
        start = time.perf_counter()
        index.search(query[None], 10)
        single["index"].append(time.perf_counter() - start)
    return {
        "case": "index",
        "people": people,
        "recall1": float(np.mean([mine[:1] == [wanted[0]] for mine, wanted in zip(found, best, strict=True)])),
        "recall10": float(
            np.mean([len(set(mine) & set(wanted.tolist())) / 10 for mine, wanted in zip(found, best, strict=True)])
        ),
        "build_s": built,
        "exact_ms": 10 * float(np.median(exact_times)),
        "index_ms": 10 * float(np.median(times)),
        "exact_single_ms": 1000 * float(np.median(single["exact"])),
        "index_single_ms": 1000 * float(np.median(single["index"])),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def run_case(case: str, market: Path, large_queries: int) -> dict[str, float | int | str]:
    """Measure one case in this process."""
    if case in INDEXED:
        return run_index(int(case))
    query, gallery = market_labels(market)
    if case == "large":
        query, gallery = enlarged(query, gallery, queries=large_queries, pictures=125_000)
    a, b = vectors(query, noise=2.5, seed=1), vectors(gallery, noise=2.5, seed=2)
    result: dict[str, float | int | str] = {"case": case, "queries": len(query), "gallery": len(gallery)}
    if case == "loop":
        some = np.arange(0, len(query), max(1, len(query) // LOOP_QUERIES))
        similarity = a[some] @ b.T
        start = time.perf_counter()
        found = python_loop(similarity, query.take(some), gallery)  # without the product, in the loop's favour
        seconds = time.perf_counter() - start
        exact = rank(a[some], b, query_labels=query.take(some), gallery_labels=gallery).mean_ap
        if abs(exact - found) > 1e-6:
            raise SystemExit(f"the loop's mAP is {found}, ours {exact}")
        return result | {"queries": len(some), "map": found, "seconds_per_1000": 1000 * seconds / len(some)}
    times, processor_times = [], []
    for _ in range(3 if case == "market" else 1):
        start, used = time.perf_counter(), time.process_time()
        scores = reranked if case == "rerank" else cosines
        ranking = rank(a, b, query_labels=query, gallery_labels=gallery, scores=scores)
        times.append(time.perf_counter() - start)
        processor_times.append(time.process_time() - used)
    return result | {
        "map": ranking.mean_ap,
        "rank1": ranking.cmc(1),
        "seconds_per_1000": 1000 * min(times) / len(query),
        "processor_seconds_per_1000": 1000 * min(processor_times) / len(query),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def processor() -> str:
    """The processor's name and how many of its cores there are here."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
    best = next((name for name in ("avx512f", "avx2") if name in flags), "")
    return f"{names[0] if names else platform.processor()} {best} x {len(names) or '?'}".replace("  ", " ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--market", type=Path, default=MARKET, help="Market-1501's folder; made-up labels without it")
    parser.add_argument("--large-queries", type=int, default=10_000, help="queries against the gallery of 125,000")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--case", choices=["market", "loop", "large", "rerank", *INDEXED], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run_case(arguments.case, arguments.market, arguments.large_queries)))
        return
    print(f"processor: {processor()}; numpy {np.__version__}, {LENGTH}-d vectors")
    print(f"labels: {'Market-1501' if arguments.market.is_dir() else 'made up, as Market-1501'}")
    results = {}
    for case in ("market", "loop", "large", "rerank", *INDEXED):
        options = ["--case", case, "--market", str(arguments.market), "--large-queries", str(arguments.large_queries)]
        done = subprocess.run([sys.executable, __file__, *options], check=True, capture_output=True, text=True)
        results[case] = json.loads(done.stdout)
    market, loop, large, again = (results[case] for case in ("market", "loop", "large", "rerank"))
    print(
        f"{market['queries']:,} queries x {market['gallery']:,} pictures: {market['seconds_per_1000']:.3f} s per 1,000 "
        f"queries (at most 0.45), {market['processor_seconds_per_1000']:.3f} s of processor time, "
        f"peak memory {market['peak_mb']:,.0f} MB (under 1,000), mAP {market['map']:.4f}"
    )
    print(
        f"Python loop on {loop['queries']} of them, product not counted: {loop['seconds_per_1000']:.2f} s per 1,000, "
        f"{loop['seconds_per_1000'] / market['seconds_per_1000']:.0f} times as long; same mAP to 1e-6"
    )
    print(
        f"{large['queries']:,} queries x {large['gallery']:,} pictures: {10 * large['seconds_per_1000']:.1f} s per "
        f"10,000 queries (at most 60), {10 * large['processor_seconds_per_1000']:.1f} s of processor time, "
        f"peak memory {large['peak_mb']:,.0f} MB"
    )
    seconds, used = (
        again[name] * again["queries"] / 1000 for name in ("seconds_per_1000", "processor_seconds_per_1000")
    )
    print(
        f"k-reciprocal re-ranking of {again['queries']:,} queries x {again['gallery']:,} pictures: {seconds:.1f} s, "
        f"{used:.1f} s of processor time, peak memory {again['peak_mb']:,.0f} MB, mAP {again['map']:.4f}"
    )
    for case in INDEXED:
        at = results[case]
        print(
            f"index of {at['people']:,} people: recall@1 {at['recall1']:.1%}, recall@10 {at['recall10']:.1%} of the exact "
            f"search; built in {at['build_s']:.1f} s; a query alone {at['index_single_ms']:.1f} ms "
            f"(exact {at['exact_single_ms']:.1f}), of a hundred {at['index_ms']:.1f} ms (exact {at['exact_ms']:.1f}); "
            f"peak memory {at['peak_mb']:,.0f} MB"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"processor": processor(), **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
