"""Video files: read frame by frame, and clips written; alone imports PyAV."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np

from passerby.types import UInt8, VideoError


def frames(path: Path) -> Iterator[tuple[float, UInt8]]:
    """(seconds on the file's own clock, picture (height, width, 3) uint8 RGB) of each frame of a video file, in order.

    Raises VideoError where the file cannot be opened, or holds no picture that can be decoded.
    """
    try:
        with av.open(str(path)) as file:
            if not file.streams.video:
                raise VideoError(f"{path}: expected a video, found none in it")
            file.streams.video[0].thread_type = "AUTO"
            for frame in file.decode(video=0):
                yield float(frame.time or 0.0), np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except av.FFmpegError as error:
        raise VideoError(f"{path}: cannot be read as a video: {error}") from None


class ClipWriter:
    """Writes RGB frames as H.264 into an .mp4 file; use it in a `with` block.

    `crf` is x264's constant rate factor: 18 looks lossless, 28 is small. Sides must be even. Raises VideoError where
    the file cannot be written, or a frame is of another size.
    """

    def __init__(self, path: Path, *, width: int, height: int, fps: float, crf: int = 23) -> None:
        if width % 2 or height % 2 or min(width, height) < 16:
            raise VideoError(f"{path}: expected even sides of 16 pixels or more, got {width} x {height}")
        self._path, self._shape = path, (height, width, 3)
        self._file = av.open(str(path), "w", format="mp4")
        stream = self._file.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast"}
        self._stream = stream
        try:
            self._file.start_encoding()  # opens the file
        except OSError as error:  # PyAV's errors of the file system are OSErrors, too
            raise VideoError(f"{path}: cannot be written: {error}") from None

    def write(self, frame: UInt8) -> None:
        """Add one frame (height, width, 3), RGB."""
        if frame.shape != self._shape or frame.dtype != "uint8":
            raise VideoError(f"{self._path}: expected frames {self._shape} uint8, got {frame.shape} {frame.dtype}")
        self._file.mux(self._stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._file.mux(self._stream.encode(None))
        finally:
            self._file.close()
