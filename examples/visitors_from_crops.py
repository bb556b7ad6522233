"""From crops with camera and time to anonymous visitors, their time in front of each camera, and their ways between them.

    python examples/visitors_from_crops.py ../shared/datasets/market1501 [MODEL]

Market-1501's frame numbers restart in every sequence, and cameras cut their sequences differently. Time is taken as (last
frame numbers of the camera's earlier sequences, summed, + frame) / 25 s, camera 6 shifted by its median offset: approximate.
A frame holds several boxes of one person, so no two times are equal. Distractors take part, but are left out of the scores.
"""

import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median

from passerby import Picture, ReIDInference
from passerby.reid.calibration import MODES
from passerby.reid.datasets import read_dataset
from passerby.reid.grouping import groupings, pairwise_scores


def seconds_of(pictures: list[Picture], cameras: list[str]) -> list[float]:
    """When each picture was taken, in seconds since the cameras' common start, as well as the names tell."""
    shot = [(camera, p.sequence or "", p.frame or 0) for p, camera in zip(pictures, cameras, strict=True)]
    last: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for camera, sequence, frame in shot:
        last[camera][sequence] = max(last[camera][sequence], frame)
    raw = [(sum(n for s, n in last[camera].items() if s < sequence) + frame) / 25 for camera, sequence, frame in shot]
    seen: dict[str, dict[bool, list[float]]] = defaultdict(lambda: defaultdict(list))
    for p, camera, t in zip(pictures, cameras, raw, strict=True):
        if p.role == "person":
            seen[p.person][camera == "c6"].append(t)
    shift = median([median(both[True]) - median(both[False]) for both in seen.values() if len(both) == 2] or [0.0])
    return [t - shift if camera == "c6" else t for camera, t in zip(cameras, raw, strict=True)]


def main(root: Path, model: str = "osnet_x0_75") -> None:
    """Print visitors, stays, transitions and scores for each mode."""
    dataset = read_dataset("market1501", root)
    pictures = [p for p in dict.fromkeys((*dataset.query, *dataset.gallery)) if p.role != "junk"]
    cameras = [(p.camera or "").partition(":")[2] for p in pictures]
    seconds = seconds_of(pictures, cameras)
    times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s, microseconds=i) for i, s in enumerate(seconds)]
    reid = ReIDInference(model=model)
    vectors = reid.embed([p.path for p in pictures])
    scored, true = zip(*((i, p.person) for i, p in enumerate(pictures) if p.role == "person"), strict=True)
    drawn = groupings(vectors, reid.calibration, thresholds=list(MODES.values()), cameras=cameras, times=times)
    people = drawn[0].people  # of all, distractors too
    print(f"people: {people.value:.0f}, with 90 % from {people.low:.0f} to {people.high:.0f}")
    for (mode, threshold), grouping in zip(MODES.items(), drawn, strict=True):
        scores = pairwise_scores(found := [grouping.labels[i] for i in scored], true)
        stays: dict[str, float] = defaultdict(float)
        ways: Counter[tuple[str, str]] = Counter()
        tracks: dict[int | None, list[tuple[float, str]]] = defaultdict(list)
        for t, camera, person in sorted(zip(seconds, cameras, grouping.labels, strict=True), key=lambda each: each[0]):
            tracks[person].append((t, camera))
        for track in tracks.values():
            for (t0, c0), (t1, c1) in pairwise(track):
                stays[c0] += t1 - t0 if c0 == c1 and t1 - t0 <= 30 else 0
                ways[c0, c1] += c0 != c1
        print(f"{mode} ({threshold:.2f}): {len(set(found))} visitors, truly {len(set(true))}")
        print(f"    pairs: precision {scores.precision:.1%}, recall {scores.recall:.1%}, F1 {scores.f1:.1%}")
        print("    minutes in front of", ", ".join(f"{c}: {s / 60:.1f}" for c, s in sorted(stays.items())))
        print("    most taken ways", ", ".join(f"{a} to {b}: {n}" for (a, b), n in ways.most_common(5) if n))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
