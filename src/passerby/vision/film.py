"""One camera's video file, followed from its first frame to its last, and drawn; cameras together are the pipeline's."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from passerby.reid.embedder import Embedder
from passerby.shop import Detections
from passerby.types import UInt8
from passerby.vision.blur import blur_heads
from passerby.vision.crops import looks_of
from passerby.vision.detect import Detector
from passerby.vision.mot import Rows, Tracks, filled, tracks_of
from passerby.vision.overlay import draw
from passerby.vision.track import Embed, Tracker
from passerby.vision.video import ClipWriter, Pace, frames

START = datetime.fromtimestamp(0, UTC)  # of a file's own clock: only differences are looked at
HIDDEN_S = 2.0  # the longest gap of a track, in which the head is taken to be on the straight line between its ends


@dataclass(frozen=True, slots=True, eq=False)
class FilmTracks:
    """A film's tracks; and of each frame that was looked at, by its number from 1, the time and all that was found."""

    tracks: Tracks
    times: dict[int, datetime]
    found: dict[int, Detections]

    @property
    def duration_s(self) -> float:
        """From the first frame to the last one."""
        times = list(self.times.values())
        return (times[-1] - times[0]).total_seconds() if times else 0.0

    def filled(self, longest_s: float) -> Tracks:
        """The tracks with gaps of up to so many seconds filled in, also in frames that were not looked at."""
        if not self.duration_s:
            return self.tracks
        return filled(self.tracks, longest=int(longest_s * (max(self.times) - min(self.times)) / self.duration_s))


def looked_at(
    video: Path, *, rate: float | None, progress: Callable[[int, int], None]
) -> Iterator[tuple[int, datetime, UInt8]]:
    """(number from 1, time, picture) of a video file's frames; with a `rate` the first of each 1/rate s."""
    pace = Pace(rate)
    for number, frame in enumerate(frames(video, camera=video.name, begins=START, progress=progress), 1):
        if pace.wants((frame.time - START).total_seconds()):
            yield number, frame.time, frame.picture


def follow(
    video: Path,
    detector: Detector,
    *,
    tracker: Tracker,
    embedder: Embedder | None = None,
    rate: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FilmTracks:
    """Follow everybody in a video file, at most `rate` frames a second of it; without an embedder by motion alone.

    Raises VideoError where it cannot be read.
    """
    rows: Rows = []
    numbers: dict[datetime, int] = {}
    found: dict[int, Detections] = {}
    for number, time, picture in looked_at(video, rate=rate, progress=progress):
        (here,) = detector([picture])
        numbers[time], found[number] = number, here
        seen, _ = tracker.update(time, here, embed=None if embedder is None else _embed(embedder, picture, here))
        for one in seen:
            rows += [(numbers[when], one.track, box, score) for when, box, score in one.before]
            rows.append((number, one.track, one.box_xyxy, one.score))
    return FilmTracks(tracks_of(rows), {number: time for time, number in numbers.items()}, found)


def _embed(embedder: Embedder, picture: UInt8, found: Detections) -> Embed:
    return lambda rows: looks_of(embedder, picture, found.boxes_xyxy[list(rows)])


def render(
    video: Path,
    film: Path,
    followed: FilmTracks,
    *,
    rate: float | None = None,
    heads: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a film of the frames that were looked at, with a box and a number on everybody who was followed.

    Heads are blurred, unless `heads` says otherwise: those of all boxes that were found, sure or not, and those of tracks in
    frames in which they were missed. Raises VideoError where the film cannot be written.
    """
    hidden, times = followed.filled(HIDDEN_S), list(followed.times.values())
    every_s = median((b - a).total_seconds() for a, b in pairwise(times)) if len(times) > 1 else 1.0
    with ExitStack() as stack:
        clip = None
        for number, _, picture in looked_at(video, rate=rate, progress=progress):
            height, width = (side - side % 2 for side in picture.shape[:2])
            if clip is None:
                clip = stack.enter_context(ClipWriter(film, width=width, height=height, fps=1 / every_s))
            if not heads:
                boxes = hidden.boxes_xyxy[hidden.frames == number]
                picture = blur_heads(picture, np.concatenate((boxes, followed.found[number].boxes_xyxy)))
            here = followed.tracks.frames == number
            drawn = draw(picture, followed.tracks.tracks[here].tolist(), followed.tracks.boxes_xyxy[here])
            clip.write(np.ascontiguousarray(drawn[:height, :width]))
