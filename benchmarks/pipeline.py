"""How many cameras one machine follows in real time, and where the time goes.

    python benchmarks/pipeline.py --cameras 8 --seconds 60
    python benchmarks/pipeline.py --cameras 1 --seconds 3600

Every camera plays ../shared/videos/vtest.avi (PETS 2009, 768x576, up to nine people in view), written anew as H.264 at 12
frames a second and begun at another place, and is looked at 5 times a second, as `passerby follow` does. The whole line runs in
one process: what a camera costs in its reader's process is its row "decode". Run it on a quiet machine. Recordings of several
minutes repeat one of a minute; then the memory in use is printed after each tenth.
"""

import argparse
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from passerby.reid.embedder import Embedder
from passerby.reid.engine import processor
from passerby.reid.inference import ReIDInference
from passerby.shop import Frame
from passerby.site import Camera, Site
from passerby.vision.detect import open_detector
from passerby.vision.pipeline import LOOKS, Line, associator_of, follow, together
from passerby.vision.video import ClipWriter, frames, timed_pictures

VIDEO = Path(__file__).parents[2] / "shared" / "videos" / "vtest.avi"
FPS, RATE = 12, 5.0
LONGEST_S = 60  # of a clip; longer recordings repeat it
START = datetime(2026, 3, 2, 10, tzinfo=UTC)


class Clock:
    """Adds up the seconds of each stage; a stage within another is not counted twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def timed(
        self, stage: str, work: Callable[..., Any]
    ) -> Callable[..., Any]:  # Any: whatever the stage takes and gives
        def run(*words: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            began = time.perf_counter()
            try:
                return work(*words, **named)
            finally:
                took = time.perf_counter() - began
                self.seconds[stage] += took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        return run


def clips(folder: Path, seconds: int) -> list[Path]:
    """vtest.avi in H.264, from four different places on."""
    pictures = [picture for _, picture in timed_pictures(VIDEO)]
    made = []
    for part in range(4):
        path = folder / f"{part}.mp4"
        height, width = pictures[0].shape[:2]
        with ClipWriter(path, width=width, height=height, fps=FPS) as clip:
            for frame in range(seconds * FPS):
                clip.write(pictures[(part * len(pictures) // 4 + frame) % len(pictures)])
        made.append(path)
    return made


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--model", default="osnet_x0_75")
    parser.add_argument("--looks", default=LOOKS, help="the network that trackers ask")
    parser.add_argument("--detector", default="person_detector")
    arguments = parser.parse_args()
    if arguments.seconds > LONGEST_S and arguments.seconds % LONGEST_S:
        parser.error(f"--seconds: expected up to {LONGEST_S}, or whole minutes, got {arguments.seconds}")
    clock = Clock()
    reid, detector = ReIDInference(mode="visitor-counting", model=arguments.model), open_detector(arguments.detector)
    looks = Embedder(arguments.looks, precision="fp32" if arguments.looks == LOOKS else reid.embedder.precision)
    names = [f"camera {number + 1}" for number in range(arguments.cameras)]
    site = Site("speed", tuple(Camera(name, "clip.mp4") for name in names))
    with tempfile.TemporaryDirectory() as folder:
        length = min(arguments.seconds, LONGEST_S)
        files = clips(Path(folder), length)
        line = Line(
            site,
            detector=clock.timed("detect", detector),
            embedder=reid.embedder,
            looks=looks,
            sessions=dict.fromkeys(names, "session"),
        )
        reid.embedder.embed_arrays = clock.timed("embed", reid.embedder.embed_arrays)  # type: ignore[method-assign]  # its time
        looks.embed_arrays = clock.timed("embed for the tracker", looks.embed_arrays)  # type: ignore[method-assign]  # its time
        associator = associator_of(site, calibration=reid.calibration, threshold=reid.threshold)
        for name in ("take", "advance", "finish"):
            setattr(associator, name, clock.timed("associate", getattr(associator, name)))
        line.look = clock.timed("track, crops, presence, sightings", line.look)  # type: ignore[method-assign]
        recordings = [
            _Decoding(_repeated(files[number % 4], name, length, arguments.seconds), clock, shift_ms=number)
            for number, name in enumerate(names)
        ]
        began = time.perf_counter()
        seen = {"sightings": 0, "frames": 0}

        def tell(made: Sequence[Any], changes: Any) -> None:
            seen["sightings"] += sum(sighting.revision == 1 for sighting in made)
            part = 10 * seen["frames"] // int(arguments.cameras * arguments.seconds * RATE)
            memory.setdefault(part, _memory_mib())

        memory: dict[int, float] = {}
        follow(line, associator, _counted(together(recordings), seen), tell=tell)
        took = time.perf_counter() - began
    speed = arguments.seconds / took
    print(
        f"{processor()}; {arguments.detector}, {arguments.model} ({reid.embedder.precision}); {arguments.cameras} cameras of "
        f"768x576, H.264 at {FPS} frames/s, {RATE:g} looked at\n"
    )
    print("| stage | ms an analysed frame | share |\n|---|---|---|")
    for stage, seconds in sorted(clock.seconds.items(), key=lambda row: -row[1]):
        print(f"| {stage} | {1000 * seconds / seen['frames']:.2f} | {100 * seconds / took:.0f} % |")
    print(
        f"\n{arguments.seconds} s of {arguments.cameras} cameras took {took:.1f} s: {speed:.2f} times real time, "
        f"so {int(speed * arguments.cameras)} cameras; {seen['sightings']} sightings, "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )
    if arguments.seconds > LONGEST_S:
        print("\nMiB in use, a tenth of the time each: " + ", ".join(f"{memory[part]:.0f}" for part in sorted(memory)))


def _repeated(file: Path, camera: str, length_s: int, seconds: int) -> Iterator[Frame]:
    """A clip, played until so many seconds are over."""
    for first in range(0, seconds, length_s):
        yield from frames(file, camera=camera, begins=START + timedelta(seconds=first), rate=RATE)


def _memory_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


class _Decoding(Iterator[Frame]):
    """A recording whose decoding is timed; each camera a millisecond later than the one before."""

    def __init__(self, reading: Iterator[Frame], clock: Clock, *, shift_ms: int) -> None:
        self._next = clock.timed("decode", reading.__next__)
        self._shift = timedelta(milliseconds=shift_ms)

    def __next__(self) -> Frame:
        frame: Frame = self._next()
        return replace(frame, time=frame.time + self._shift)


def _counted(batches: Iterator[list[Frame]], seen: dict[str, int]) -> Iterator[list[Frame]]:
    for batch in batches:
        seen["frames"] += len(batch)
        yield batch


if __name__ == "__main__":
    main()
