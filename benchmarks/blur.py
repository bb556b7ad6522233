"""How many heads the blur covers: true boxes of people beside what is blurred where the bundled detector finds somebody.

    python benchmarks/blur.py

Films: the sample shop's four cameras (rendered people; of a person less than half is hidden), and, where ../shared is,
PETS2009 S2.L1 (vtest.avi, real people, annotated boxes). Pictures are looked at 5 times a second, as `serve` does. A head is
the upper 13 % of a true box, the middle half of its width; one that is cut off at the picture's top, or lies more than half
under the box of somebody nearer, is not judged. It is covered if 95 % of it is blurred. "alone" blurs what is found in the
picture itself; "a second" also what was found in the second before, which is what the page shows. The blurred part of the
pictures is what that costs. 95 % intervals: bootstrap over stretches of 5 s.
"""

import argparse
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from passerby.reid.engine import processor
from passerby.types import Float32, Float64, UInt8
from passerby.vision.blur import blur_heads
from passerby.vision.detect import open_detector
from passerby.vision.video import timed_pictures
from shared import ROOT, SHARED

SAMPLE = ROOT / "src" / "passerby" / "simulate" / "data" / "sample"
RATE, MEMORY_S, STRETCH_S = 5.0, 1.0, 5.0
HEAD, WIDTH = 0.13, 0.5  # of a box: a head's height, and the part of its width
VISIBLE, HIDDEN, COVERED = 0.5, 0.5, 0.95
Bool = NDArray[np.bool_]


def truth(path: Path) -> dict[int, Float64]:
    """Of each frame, from 1: rows of left, top, right, bottom, the part that is visible (1 where none says)."""
    frames: dict[int, list[list[float]]] = {}
    for line in path.read_text().splitlines():
        frame, _, left, top, width, height, *rest = map(float, line.split(","))
        visible = rest[2] if len(rest) > 2 and 0 <= rest[2] <= 1 else 1.0
        frames.setdefault(int(frame), []).append([left, top, left + width, top + height, visible])
    return {frame: np.array(rows) for frame, rows in frames.items()}


def heads(people: Float64) -> list[tuple[int, int, int, int]]:
    """The heads that can be judged, in whole pixels: left, top, right, bottom."""
    found = []
    for left, top, right, bottom, visible in people.tolist():
        middle, half = (left + right) / 2, (right - left) * WIDTH / 2
        head = [round(middle - half), round(top), round(middle + half), round(top + HEAD * (bottom - top))]
        area = (head[2] - head[0]) * (head[3] - head[1])
        if visible < VISIBLE or top <= 1 or left <= 1 or area < 12:
            continue
        under = [
            max(0.0, min(head[2], other[2]) - max(head[0], other[0]))
            * max(0.0, min(head[3], other[3]) - max(head[1], other[1]))
            for other in people.tolist()
            if other[3] > bottom
        ]
        if max(under, default=0.0) <= HIDDEN * area:
            found.append((head[0], head[1], head[2], head[3]))
    return found


def blurred(shape: tuple[int, ...], boxes: Float32) -> Bool:
    """Which pixels (height, width) the blur replaces: those that change in noise."""
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return (blur_heads(noise, boxes) != noise).any(2) if len(boxes) else np.zeros(shape[:2], bool)


def looked_at(path: Path) -> Iterator[tuple[int, float, UInt8]]:
    """Frames (number from 1, seconds, picture), 5 a second."""
    following = 0.0
    for number, (at_s, picture) in enumerate(timed_pictures(path), 1):
        if at_s >= following - 1e-6:
            following += 1 / RATE
            yield number, at_s, picture


def measured(clips: Sequence[tuple[Path, Path]], model: str) -> dict[str, tuple[list[tuple[str, bool]], list[float]]]:
    """By the kind of blur: each head's stretch of time and whether it is covered; the blurred part of each picture."""
    detector = open_detector(model)
    found: dict[str, tuple[list[tuple[str, bool]], list[float]]] = {"alone": ([], []), "a second": ([], [])}
    for clip, boxes in clips:
        people, lately = truth(boxes), deque[tuple[float, Float32]]()
        for number, at_s, picture in looked_at(clip):
            now = detector([picture])[0].boxes_xyxy
            lately.append((at_s, now))
            while lately[0][0] < at_s - MEMORY_S:
                lately.popleft()
            judged = heads(people.get(number, np.zeros((0, 5))))
            for kind, over in (("alone", now), ("a second", np.concatenate([each for _, each in lately]))):
                covered = blurred(picture.shape, over)
                found[kind][1].append(float(covered.mean()))
                for left, top, right, bottom in judged:
                    head = covered[max(0, top) : bottom, max(0, left) : right]
                    if head.size:
                        stretch = f"{clip.stem} {at_s // STRETCH_S}"
                        found[kind][0].append((stretch, bool(head.mean() >= COVERED)))
    return found


def interval(heads: Sequence[tuple[str, bool]]) -> tuple[float, float]:
    """95 %, by drawing stretches of time anew."""
    names = sorted({name for name, _ in heads})
    hits = np.array([sum(covered for name, covered in heads if name == each) for each in names])
    every = np.array([sum(name == each for name, _ in heads) for each in names])
    drawn = np.random.default_rng(0).integers(0, len(names), (2000, len(names)))
    shares = hits[drawn].sum(1) / every[drawn].sum(1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="person_detector", help="a detector's folder or file, or a bundled one's name"
    )
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder of real data")
    arguments = parser.parse_args()
    films = {
        "sample shop (rendered)": [
            (path, SAMPLE / "truth" / f"{path.stem}.txt") for path in sorted(SAMPLE.glob("*.mp4"))
        ]
    }
    pets = arguments.shared / "videos" / "vtest.avi"
    if pets.is_file():
        boxes = arguments.shared / "tracking" / "pets2009_s2l1_view001" / "gt.txt"
        films["PETS2009 S2.L1 (real)"] = [(pets, boxes)]
    print(f"{processor()}; {arguments.model}; {RATE:g} pictures a second\n")
    print(
        "| film | blurred where found in | heads | covered | 95 % | of the picture blurred |\n|---|---|---|---|---|---|"
    )
    for name, clips in films.items():
        for kind, (judged, parts) in measured(clips, arguments.model).items():
            low, high = interval(judged)
            share = sum(covered for _, covered in judged) / len(judged)
            print(
                f"| {name} | {kind} | {len(judged)} | {100 * share:.1f} % | {100 * low:.1f}-{100 * high:.1f} | "
                f"{100 * float(np.mean(parts)):.1f} % |",
                flush=True,
            )


if __name__ == "__main__":
    main()
