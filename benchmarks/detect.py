"""Person detectors on pictures that none of ours was trained on, beside the Open Model Zoo's in the same run.

    python benchmarks/detect.py

Four sets: MOT16-09 (every 6th frame; the `test` part of the persons set), PETS2009 S2.L1 (every 20th frame of vtest.avi),
TUD-Stadtmitte (every 4th frame) and the sample shop (every 24th frame of each camera; of whom less than a fifth is seen
nobody is judged by). MOT16-09 has customers behind a glass door whom its truth leaves out: it is shown once more without
that part of the picture, outside the mean. Average precision at IoU 0.5 and recall at one false alarm a picture, each with
its 95 % interval over pictures; what ours is ahead of each peer, by a paired bootstrap over pictures; how far scores are from
the share of hits; and milliseconds a frame of 768x576, on one thread and on two, everything included.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from passerby.learn.scenes import read_coco
from passerby.reid.card import DetectorAccuracy, read_detector_card, write_card
from passerby.reid.engine import Precision, processor
from passerby.reid.pictures import read_picture
from passerby.types import Float64, Interval, UInt8
from passerby.vision.boxes import (
    Matches,
    Truth,
    average_precision,
    bootstrap,
    calibration_error,
    difference,
    match,
    recall_at,
    share_of_hits,
)
from passerby.vision.detect import LEAST_SCORE, NEGLIGIBLE, Detector, NetworkDetector, Sizes, open_detector
from passerby.vision.video import timed_pictures
from shared import ROOT, SHARED, shown

SAMPLE = ROOT / "src" / "passerby" / "simulate" / "data" / "sample"
GLASS = (0, 190, 95, 305)  # of MOT16-09: customers inside, behind the door, whom its truth leaves out
SEEN = 0.2  # the part of a body in sight, below which nobody is judged by it
Set = tuple[list[UInt8], list[Truth]]
Makers = dict[str, Callable[[int, float], NetworkDetector]]  # (threads, least score) -> a detector, by its name


def persons(shared: Path) -> Set:
    """MOT16-09."""
    labelled = read_coco(shared / "datasets" / "persons", split="test")
    return [read_picture(one.path) for one in labelled], [Truth(one.boxes, one.ignored) for one in labelled]


def glass_ignored(test: Set) -> Set:
    """MOT16-09 with nobody judged by what is found behind the glass door; who walks past it counts as before."""
    pictures, truths = test
    box = np.array([GLASS], np.float32)
    return pictures, [
        Truth(np.concatenate((one.boxes_xyxy, box)), np.concatenate((one.ignored, [True]))) for one in truths
    ]


def video(path: Path, truth: Path, *, every: int, least_seen: float | None = None) -> Set:
    """Every so many frames of a video, with its boxes in MOTChallenge's form; its ninth column may say what is seen."""
    rows = np.array([[float(cell) for cell in line.split(",")[:9]] for line in truth.read_text().splitlines()])
    rows = rows[rows[:, 6] > 0]
    pictures, truths = [], []
    for number, (_, picture) in enumerate(timed_pictures(path), 1):
        if (number - 1) % every == 0:
            mine = rows[rows[:, 0] == number]
            boxes = np.concatenate((mine[:, 2:4], mine[:, 2:4] + mine[:, 4:6]), 1)
            boxes = np.clip(boxes, 0, np.array([picture.shape[1], picture.shape[0]] * 2)).astype(np.float32)
            hidden = mine[:, 8] < least_seen if least_seen is not None else np.zeros(len(mine), bool)
            pictures.append(picture)
            truths.append(Truth(boxes, hidden))
    return pictures, truths


def sample() -> Set:
    """The sample shop's four cameras."""
    both = [
        video(path, SAMPLE / "truth" / f"{path.stem}.txt", every=24, least_seen=SEEN)
        for path in sorted(SAMPLE.glob("*.mp4"))
    ]
    return [picture for pictures, _ in both for picture in pictures], [one for _, truths in both for one in truths]


def milliseconds(detectors: Sequence[Detector], picture: UInt8, *, rounds: int) -> list[list[float]]:
    """The times of one picture alone, the detectors in turn, so that a busy moment of the machine meets all of them."""
    times: list[list[float]] = [[] for _ in detectors]
    for number in range(rounds + 5):
        for detector, mine in zip(detectors, times, strict=True):
            began = time.perf_counter()
            detector([picture])
            if number >= 5:
                mine.append(1000 * (time.perf_counter() - began))
    return times


def interval(value: float, draws: Float64) -> Interval:
    """A figure with its 95 % interval."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="person_detector", help="a detector's folder or file, or a bundled one's name"
    )
    parser.add_argument("--peers-only", action="store_true")
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder of real data")
    parser.add_argument("--only", choices=("accuracy", "speed"))
    parser.add_argument("--rounds", type=int, default=100, help="timings of one picture")
    parser.add_argument("--card", type=Path, help="a detector's folder, in whose card.json the figures are kept")
    arguments = parser.parse_args()
    zoo = arguments.shared / "models"
    peers: Makers = {
        "0013": maker(zoo / "person-detection-retail-0013" / "FP32" / "person-detection-retail-0013.xml"),
        "0201 at 384x640": maker(zoo / "person-detection-0201" / "person-detection-0201.xml", sizes=((384, 640),)),
    }
    precisions: tuple[Precision, ...] = () if arguments.peers_only else ("fp32", "int8")
    ours = {f"ours, {precision}": maker(arguments.model, precision=precision) for precision in precisions}
    if arguments.only != "speed":
        accuracy(peers, ours, arguments.shared, arguments.card)
    if arguments.only != "accuracy":
        speed(peers | ours, arguments.shared, arguments.rounds)


def maker(
    model: str | Path, *, sizes: Sizes | None = None, precision: Precision | None = None
) -> Callable[[int, float], NetworkDetector]:
    """What opens a detector with so many threads and down to a score."""
    return lambda threads, least: open_detector(
        model, sizes=sizes, precision=precision, threads=threads, least_score=least
    )


def accuracy(peers: Makers, ours: Makers, shared: Path, card: Path | None) -> None:
    """Each set's figures, and what ours is ahead of its peers."""
    tracking, videos = shared / "tracking", shared / "videos"
    sets: dict[str, Set] = {
        "MOT16-09": persons(shared),
        "PETS": video(videos / "vtest.avi", tracking / "pets2009_s2l1_view001" / "gt.txt", every=20),
        "TUD": video(tracking / "tud_stadtmitte" / "video.mp4", tracking / "tud_stadtmitte" / "gt.txt", every=4),
        "sample shop": sample(),
    }
    sets["MOT16-09 but for the glass door"] = glass_ignored(sets["MOT16-09"])
    detectors = {name: make(2, NEGLIGIBLE) for name, make in (peers | ours).items()}
    means: dict[str, list[float]] = {name: [] for name in detectors}
    print("| set | pictures | people | detector | AP50 | recall at 1 false a picture | score error | hits at 0.4-0.6 |")
    print("|---|---|---|---|---|---|---|---|")
    ahead, kept = [], []
    for name, (pictures, truths) in sets.items():
        matches: dict[str, Matches] = {}
        for detector, run in detectors.items():
            matches[detector] = match([run([picture])[0] for picture in pictures], truths)
        precisions, recalls = bootstrap(list(matches.values()))
        values = {detector: average_precision(one) for detector, one in matches.items()}
        for (detector, one), precision, recall in zip(matches.items(), precisions, recalls, strict=True):
            half, count = share_of_hits(one, low=0.4, high=0.6)
            if "but for" not in name:
                means[detector].append(values[detector])
            by_precision, by_recall = interval(values[detector], precision), interval(recall_at(one), recall)
            print(
                f"| {name} | {len(pictures)} | {one.people.sum()} | {detector} | {shown(by_precision)} | "
                f"{shown(by_recall)} | {calibration_error(one):.3f} | {half:.2f} of {count} |",
                flush=True,
            )
            figures = {"ap50": by_precision.as_dict(), "recall": by_recall.as_dict()}
            kept.append(
                DetectorAccuracy(
                    peer=detector if detector in peers else None,
                    data=name,
                    precision="int8" if detector == "ours, int8" else "fp32",
                    pictures=len(pictures),
                    people=int(one.people.sum()),
                    figures=figures,
                    command="python benchmarks/detect.py",
                )
            )
        draws = dict(zip(matches, precisions, strict=True))
        recall_draws = dict(zip(matches, recalls, strict=True))
        for own in ours:
            for peer in peers:
                gain = difference(draws[own], draws[peer], value=values[own] - values[peer])
                more = recall_at(matches[own]) - recall_at(matches[peer])
                recall_gain = difference(recall_draws[own], recall_draws[peer], value=more)
                ahead.append(f"| {name} | {own} | {peer} | {shown(gain)} | {shown(recall_gain)} |")
    if ahead:
        print("\n| set | detector | against | AP50, points ahead | recall, points ahead |\n|---|---|---|---|---|")
        print("\n".join(ahead))
    if card is not None:
        write_card(card, read_detector_card(card).model_copy(update={"accuracy": kept}))
    print(
        f"\nmean AP50: {', '.join(f'{name} {100 * float(np.mean(each)):.1f}' for name, each in means.items())}",
        flush=True,
    )


def speed(makers: Makers, shared: Path, rounds: int) -> None:
    """Milliseconds a frame."""
    _, picture = next(timed_pictures(shared / "videos" / "vtest.avi"))
    print(f"\n{processor()}\n\n| detector | ms a frame, 1 thread: median (least) | 2 threads |\n|---|---|---|")
    times = [
        milliseconds([make(threads, LEAST_SCORE) for make in makers.values()], picture, rounds=rounds)
        for threads in (1, 2)
    ]
    for detector, one, two in zip(makers, *times, strict=True):
        cells = " | ".join(f"{statistics.median(each):.1f} ({min(each):.1f})" for each in (one, two))
        print(f"| {detector} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
