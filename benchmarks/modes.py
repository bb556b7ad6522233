"""What the modes and the calibration are worth on people whom nobody fitted on: at even odds, in a shop, at a new site.

    python benchmarks/modes.py --model osnet_x0_75

Pairs of the 850 test people of Market-1501 and CUHK03 as in docs/evaluation.md. A calibration of one set's dev people is
also tried on the other set, as it is and adapted without labels by pairs of that other set's dev people who must be
different (their labels serve for that alone); several pictures a side against the curve for one; and pictures made small.
"""

import argparse
from dataclasses import replace

import numpy as np

from passerby.reid.assess import BEHIND, fit_all, labelled
from passerby.reid.calibration import Calibration, posterior
from passerby.reid.datasets import read_dataset
from passerby.reid.embedder import Embedder
from passerby.reid.engine import processor
from passerby.reid.evaluate import evaluate
from passerby.reid.fitting import adapt
from passerby.reid.measures import calibration_error, cllr, measure, min_cllr, mode_intervals
from passerby.reid.pairs import DifferentPairs, PairSample, joined, sample_pairs
from passerby.reid.pictures import detail
from passerby.types import Dataset, Float32, Float64, Picture
from shared import SETS, SHARED, centred, dataset_vectors, pairs_of, ratings, rows, seen, shown, vectors_of

SMALL_PEOPLE = 100  # of each set, whose pictures are made small
HEIGHTS = (12, 16, 20, 24, 32, 48, 64, 128)
FIGURES = {"precision": "precision", "recall": "recall", "F1": "f1", "false matches": "false_match_rate"}


def errors(calibration: Calibration, sample: PairSample) -> str:
    """Table cells: Cllr, what of it is calibration's, and the calibration error over all pairs and over the middle."""
    report = measure(calibration, sample)
    return f"{report.cllr:.3f} | {report.cllr_loss:.3f} | {report.error:.3f} | {report.error_middle:.3f}"


def modes(calibration: Calibration, sample: PairSample, prior: float) -> None:
    """The three modes where `prior` of all pairs are of one person."""
    report, intervals = measure(calibration, sample, prior=prior), mode_intervals(calibration, sample, prior=prior)
    print(f"\nprior {prior:.4f}, {report.people} people\n\n| mode | {' | '.join(FIGURES)} | mean posterior |")
    print("|---|---|---|---|---|---|")
    for name, figures in intervals.items():
        cells = " | ".join(shown(figures[key]) for key in FIGURES.values())
        at = report.modes[name]
        print(f"| {name} ({at.threshold:.2f}) | {cells} | {100 * at.mean_posterior:.1f} |")


def sites(known: dict[str, tuple[Float32, list[Picture]]], tests: dict[str, PairSample], embedder: Embedder) -> None:
    """Each set's calibration on each set's test people, and adapted to the other without labels."""
    print("\n| fitted on dev of | measured on test of | | Cllr | of it calibration | error | error, middle |")
    print("|---|---|---|---|---|---|---|")
    for source in SETS:
        vectors, pictures = known[source]
        calibration = fit_all(
            [(vectors, ratings(pictures), pictures)],
            file_sha256=embedder.file_sha256,
            precision=embedder.precision,
            fitted_on=source,
        )
        for target in SETS:
            print(f"| {source} | {target} | as it is | {errors(calibration, tests[target])} |")
            if target != source:
                pairs = sample_pairs(*known[target])
                adapted = adapt(calibration, DifferentPairs(pairs.different, pairs.person, pairs.other))
                print(f"| {source} | {target} | adapted, no labels | {errors(adapted, tests[target])} |")


def numbers(
    calibration: Calibration, test: dict[str, tuple[Float32, list[Picture]]], rated: dict[str, Float32]
) -> None:
    """One picture or several on each side, by the curve for as many and by the one for one picture against one."""
    print(
        "\n| pictures | people | Cllr | of it calibration | error | error, middle | by the curve for one: Cllr | error |"
    )
    print("|---|---|---|---|---|---|---|---|")
    single = replace(calibration, curves=calibration.curves[:1])
    for behind in BEHIND:
        sample = joined([sample_pairs(*test[kind], behind=behind, quality=rated[kind]) for kind in SETS])
        plain = measure(single, sample)
        cells = f"{errors(calibration, sample)} | {plain.cllr:.3f} | {plain.error:.3f}"
        print(f"| {behind[0]}:{behind[1]} | {plain.people} | {cells} |", flush=True)


def small(embedder: Embedder, calibration: Calibration, dataset: Dataset) -> None:
    """One side of each pair made small: what its likelihood ratio is worth, with quality and without."""
    everybody = labelled(dataset)
    names = sorted({picture.person for picture in everybody})
    chosen = set(np.random.default_rng(0).permutation(names)[:SMALL_PEOPLE].tolist())
    pictures = [picture for picture in everybody if picture.person in chosen]
    print(
        f"\n{dataset.name}, {len(chosen)} people; Cllr and error without quality and with it; the best factor for all\n"
    )
    print("| height, px | detail | quality | Cllr without | with | min | error without | with | factor |")
    print("|---|---|---|---|---|---|---|---|---|")
    plain = vectors_of(embedder, pictures), ratings(pictures)
    for height in HEIGHTS:
        tiny = vectors_of(embedder, pictures, height), ratings(pictures, height)
        sample, *q = pairs_of(tiny, plain, pictures)
        without = calibration.llr(sample.same), calibration.llr(sample.different)
        with_ = without[0] * q[0], without[1] * q[1]
        factor = min(np.linspace(0, 1.2, 25), key=lambda f: cllr(f * without[0], f * without[1], sample.weight))
        print(
            f"| {height} | {np.median([detail(seen(p.path, height)) for p in pictures]):.0f} | {np.median(tiny[1]):.2f} | "
            f"{cllr(*without, sample.weight):.3f} | {cllr(*with_, sample.weight):.3f} | "
            f"{min_cllr(*without, sample.weight):.3f} | {error(*without, sample.weight):.3f} | "
            f"{error(*with_, sample.weight):.3f} | {factor:.2f} |",
            flush=True,
        )


def error(same: Float64, different: Float64, weight: Float64) -> float:
    """Calibration error at even odds over both kinds of pairs."""
    both = np.concatenate([same, different])
    return calibration_error(posterior(both), np.repeat([True, False], len(same)), np.concatenate([weight, weight]))


def centring(dataset: Dataset, vectors: dict[Picture, Float32]) -> None:
    """Rank-1 and mAP as they are, and with each camera's mean taken off."""
    pictures = list(vectors)
    raw = rows(vectors, pictures)
    for name, chosen in (("as it is", raw), ("cameras centred", centred(raw, pictures))):
        of = dict(zip(pictures, chosen, strict=True))
        found = evaluate(dataset, rows(of, dataset.query), rows(of, dataset.gallery), bootstrap=0)
        print(f"| {dataset.name} | {name} | {100 * found.rank1.value:.1f} | {100 * found.map.value:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="osnet_x0_75")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "int8"))
    parser.add_argument("--split", default="test", choices=("dev", "test"), help="dev for every choice")
    arguments = parser.parse_args()
    embedder = Embedder(arguments.model, precision=arguments.precision)
    assert embedder.card is not None
    calibration = Calibration.from_dict(embedder.card.calibrations[embedder.precision])
    print(f"{processor()}; {arguments.model}, {embedder.precision}, {arguments.split} people")
    roots = {kind: SHARED / "datasets" / kind for kind in SETS}
    dev = {kind: labelled(read_dataset(kind, root, split="dev")) for kind, root in roots.items()}
    known = {kind: (vectors_of(embedder, pictures), pictures) for kind, pictures in dev.items()}
    sets = {kind: read_dataset(kind, root, split=arguments.split) for kind, root in roots.items()}
    test = {kind: (vectors_of(embedder, labelled(dataset)), labelled(dataset)) for kind, dataset in sets.items()}
    samples = {kind: sample_pairs(*test[kind]) for kind in SETS}
    for prior in (0.5, 1 / 101):
        modes(calibration, joined(list(samples.values())), prior)
    sites(known, samples, embedder)
    numbers(calibration, test, {kind: ratings(pictures) for kind, (_, pictures) in test.items()})
    for kind in SETS:
        small(embedder, calibration, sets[kind])
    print("\n| data | | Rank-1 | mAP |\n|---|---|---|---|")
    for kind in SETS:
        centring(sets[kind], dataset_vectors(embedder, sets[kind]))


if __name__ == "__main__":
    main()
