"""One camera's tracks beside those of roboflow `trackers` (ByteTrack, OC-SORT, SORT), on the same boxes in the same run.

    python benchmarks/tracking.py

PETS2009 S2.L1 (every frame, and at 5 and 2 frames a second), TUD-Stadtmitte, and six rendered sequences of seed 1. The
tracker's parameters were chosen on the six of seeds 0 (`--tuned`) and 2, and on real walks. Boxes come from the bundled
detector and from person-detection-retail-0013, down to a score of 0.1, vectors from `osnet_x0_25`; both are made once and kept
in runs/tracking. The peers run as they come, told the frame rate. Of the rendered people nobody is judged by whom less than a
fifth is seen.
"""

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
from trackers import ByteTrackTracker, OCSORTTracker, SORTTracker

from passerby.files import whole
from passerby.reid.embedder import Embedder
from passerby.reid.engine import processor
from passerby.reid.pictures import read_picture
from passerby.shop import Detections
from passerby.simulate.footage import SEEN
from passerby.simulate.rendering import FPS, write_sequences
from passerby.simulate.scene import Atlas
from passerby.types import Float32, Float64, UInt8
from passerby.vision.crops import MARGIN, looks_of
from passerby.vision.detect import NetworkDetector, open_detector
from passerby.vision.mot import Compared, Rows, Tracks, clear, compare, hota, identity, pooled, read_tracks, tracks_of
from passerby.vision.track import Tracker
from passerby.vision.video import timed_pictures
from shared import ROOT, SHARED

KEPT = ROOT / "runs" / "tracking"
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """What a detector and an embedder make of a film: a frame's time in seconds, its boxes and their vectors; and its truth."""

    times: Float64
    found: list[Detections]
    looks: list[Float32]
    truth: Tracks

    def at(self, fps: float) -> "Film":
        """The film with the frames that are nearest to so many a second."""
        every = max(1, round(1 / (fps * float(np.median(np.diff(self.times))))))
        kept = np.arange(0, len(self.times), every)
        numbers = np.full(len(self.times) + 1, 0)
        numbers[kept + 1] = np.arange(1, len(kept) + 1)
        of_truth = numbers[self.truth.frames] > 0
        truth = Tracks(
            numbers[self.truth.frames[of_truth]],
            self.truth.tracks[of_truth],
            self.truth.boxes_xyxy[of_truth],
            self.truth.scores[of_truth],
            self.truth.ignored[of_truth],
        )
        return Film(self.times[kept], [self.found[i] for i in kept], [self.looks[i] for i in kept], truth)


def watched(source: Path, truth: Tracks, detector: NetworkDetector, embedder: Embedder) -> Film:
    """The boxes and vectors of a video file or a folder of pictures; made once and kept in runs/tracking."""
    files = sorted(source.glob("*.jpg")) if source.is_dir() else [source]
    digest = hashlib.sha256(detector.path.read_bytes() + f"{embedder.file_sha256}, margin {MARGIN}".encode())
    for file in files:
        digest.update(file.read_bytes())
    path = KEPT / f"{digest.hexdigest()[:24]}.npz"
    if not path.exists():
        times, counts, boxes, scores, looks = [], [], [], [], []
        nobody = np.zeros((0, embedder.length), np.float32)
        for time, picture in pictures(source):
            (found,) = detector([picture])
            times.append(time)
            counts.append(len(found))
            boxes.append(found.boxes_xyxy)
            scores.append(found.scores)
            looks.append(looks_of(embedder, picture, found.boxes_xyxy) if len(found) else nobody)
        KEPT.mkdir(parents=True, exist_ok=True)
        with whole(path) as draft:
            np.savez(
                draft,
                times=np.array(times),
                counts=np.array(counts),
                boxes=np.concatenate(boxes),
                scores=np.concatenate(scores),
                looks=np.concatenate(looks),
            )
    with np.load(path) as kept:
        parts = np.cumsum(kept["counts"])[:-1]
        boxes_and_scores = zip(np.split(kept["boxes"], parts), np.split(kept["scores"], parts), strict=True)
        every = [Detections(box, score) for box, score in boxes_and_scores]
        return Film(kept["times"], every, np.split(kept["looks"], parts), truth)


def pictures(source: Path) -> Iterator[tuple[float, UInt8]]:
    """(seconds, picture) of a video file or of a rendered sequence."""
    if not source.is_dir():
        yield from timed_pictures(source)
        return
    for number, file in enumerate(sorted(source.glob("*.jpg"))):
        yield number / FPS, read_picture(file)


def ours(film: Film, *, looks: bool, **settings: float) -> Rows:
    """Our tracks of a film."""
    tracker, rows = Tracker(**settings), []
    numbers = {START + timedelta(seconds=float(time)): number for number, time in enumerate(film.times, 1)}
    for (time, number), found, known in zip(numbers.items(), film.found, film.looks, strict=True):
        seen, _ = tracker.update(time, found, embed=partial(np.take, known, axis=0) if looks else None)
        for one in seen:
            rows += [(numbers[when], one.track, box, score) for when, box, score in one.before]
            rows.append((number, one.track, one.box_xyxy, one.score))
    return rows


def theirs(film: Film, make: Callable[..., ByteTrackTracker | OCSORTTracker | SORTTracker]) -> Rows:
    """A peer's tracks of a film."""
    import supervision

    rows: Rows = []
    tracker = make(frame_rate=1 / float(np.median(np.diff(film.times))))
    for number, found in enumerate(film.found, 1):
        boxes = supervision.Detections(xyxy=found.boxes_xyxy.copy(), confidence=found.scores.copy())
        seen = tracker.update(boxes)
        scores, names = seen.confidence, seen.tracker_id
        if scores is not None and names is not None:  # they are where anything was seen
            named = zip(names, seen.xyxy, scores, strict=True)
            rows += [
                (number, int(name), box.astype(np.float32), float(score)) for name, box, score in named if name >= 0
            ]
    return rows


METHODS: dict[str, Callable[[Film], Rows]] = {
    "ours": lambda film: ours(film, looks=True),
    "ours, motion alone": lambda film: ours(film, looks=False),
    "ByteTrack": lambda film: theirs(film, ByteTrackTracker),
    "OC-SORT": lambda film: theirs(film, OCSORTTracker),
    "SORT": lambda film: theirs(film, SORTTracker),
}


def rendered(seed: int, seconds: float) -> list[Path]:
    """The folders of six rendered sequences, rendered now where they are not there yet."""
    folder = ROOT / "runs" / "rendered" / f"seed {seed}, {seconds:g} s"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_sequences(folder, Atlas(), seed=seed, duration_s=seconds)
        (folder / "done").touch()
    return sorted(path for path in folder.iterdir() if path.is_dir())


def films(shared: Path, seed: int, detector: NetworkDetector, embedder: Embedder, *, real: bool) -> dict[str, Film]:
    """Every film by its name."""
    every = {}
    if real:
        for name, video, folder in (
            ("PETS", shared / "videos" / "vtest.avi", "pets2009_s2l1_view001"),
            ("TUD", shared / "tracking" / "tud_stadtmitte" / "video.mp4", "tud_stadtmitte"),
        ):
            truth = read_tracks(shared / "tracking" / folder / "gt.txt", truth=True)
            every[name] = watched(video, truth, detector, embedder)
        every |= {f"PETS at {fps} fps": every["PETS"].at(fps) for fps in (5, 2)}
    for path in rendered(seed, 30.0):
        truth = read_tracks(path / "gt" / "gt.txt", truth=True, least_seen=SEEN)
        every[path.name] = watched(path / "img1", truth, detector, embedder)
    return every


def line(compared: Sequence[Compared]) -> str:
    """A film's figures as cells."""
    found = clear(compared)
    return (
        f"{hota(compared).hota:.3f} | {found.mota:.3f} | {identity(compared).idf1:.3f} | {found.switches} | "
        f"{found.fragments} | {found.false} | {found.missed}"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder of real data")
    parser.add_argument("--tuned", action="store_true", help="in place of all: six that the parameters come from")
    arguments = parser.parse_args()
    embedder = Embedder("osnet_x0_25", precision="fp32")
    zoo = arguments.shared / "models" / "person-detection-retail-0013" / "FP32" / "person-detection-retail-0013.xml"
    print(processor())
    print("\n| detector | sequence | tracker | HOTA | MOTA | IDF1 | switches | fragments | false | missed |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, model in (("ours", "person_detector"), ("0013", str(zoo))):
        seed = 0 if arguments.tuned else 1
        every = films(arguments.shared, seed, open_detector(model), embedder, real=not arguments.tuned)
        six: dict[str, list[list[Compared]]] = {method: [] for method in METHODS}
        for title, film in every.items():
            for method, track in METHODS.items():
                compared = compare(film.truth, tracks_of(track(film)))
                print(f"| {name} | {title} | {method} | {line(compared)} |", flush=True)
                if title.startswith(("quiet", "crowded")):
                    six[method].append(compared)
        for method, each in six.items():
            print(f"| {name} | the six together | {method} | {line(pooled(each))} |", flush=True)


if __name__ == "__main__":
    main()
