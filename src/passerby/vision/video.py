"""Video: files, folders of pictures and live streams read frame by frame, and clips written; alone imports PyAV.

Nothing here looks at a clock: a file's frames have times of their own, and a live stream is given a clock.
"""

import math
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from passerby.reid.pictures import read_picture
from passerby.shop import Frame
from passerby.types import PictureError, UInt8, VideoError

PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
SLACK_S = 0.002  # how far a time stamp may be rounded down: Matroska's are whole milliseconds
BROKEN = 1000  # errors in a row without a frame between them, after which a source is given up
BROKEN_LIVE = 30  # the same for a live stream that cannot even be taken apart into packets
SILENT_S = 5.0  # without a byte from a live stream, after which it is given up; to connect may take as long
WAITED_S = 0.005  # for a packet, from which it was not yet there when it was asked for
LAG_S = 1.0  # without having waited, after which only key frames are decoded
PLAYED = ("hls", "mp4", "matroska", "avi")  # formats that may come faster than they were filmed
JUMP_S = 10.0  # from which on a step of a live stream's time stamps is a jump
ENCODERS = {".mp4": ("libx264", ".webm"), ".webm": ("libvpx-vp9", None)}  # of a file's ending; where to turn without it
END = av.VideoFrame(16, 16, "rgb24")  # what stands behind the last frame
VP9_CRF = 8  # how much higher libvpx's factor is than x264's for a like picture
REASONS: dict[type[Exception], str] = {
    av.HTTPUnauthorizedError: "the camera refuses the user name or the password",
    av.HTTPForbiddenError: "the camera refuses the user name or the password",
    av.HTTPNotFoundError: "the camera has no stream under this address",
    av.HTTPClientError: "the camera refuses the request",
    av.HTTPServerError: "the camera reports an error of its own",
    ConnectionRefusedError: "nothing answers at the camera's address",
    ConnectionError: "the connection broke off",
    TimeoutError: "the camera does not answer",
    FileNotFoundError: "there is no such device; is it plugged in?",
    PermissionError: "the device may not be used by this user",
    av.InvalidDataError: "what it sends is no video",
    av.EOFError: "the camera ended the stream",
    StopIteration: "the camera ended the stream",
}


def frames(
    source: str | Path,
    *,
    camera: str,
    begins: datetime | None = None,
    rate: float | None = None,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> "Reading":
    """The frames of a video file or a folder of pictures, in order, each with the time at which it was taken.

    Of a file, a frame's time is `begins` plus its own time stamp, counted from the file's start; the declared frame rate
    is never used. Without `begins`, the file's tag `creation_time` is taken. `rate` is the most frames a second that are
    handed on, None for all: the first frame of each 1/rate s is chosen. A folder's pictures are sorted by name, numbers
    by value; they need `begins` and `rate`, and are 1/rate s apart. `threads` decode. `progress` is called with (done,
    all) milliseconds, where the length is known. Raises VideoError where the source cannot be read as this.
    """
    return Reading(source, camera=camera, begins=begins, rate=rate, threads=threads, progress=progress)


def timed_pictures(path: str | Path) -> Iterator[tuple[float, UInt8]]:
    """(seconds from the file's start, picture (height, width, 3) uint8 RGB) of each frame of a video file, in order.

    Raises VideoError as `frames` does.
    """
    return Reading(path, camera="file", begins=datetime.fromtimestamp(0, UTC)).timed()


class Reading(Iterator[Frame]):
    """The frames of one source, to be gone through once; what was met on the way can be read at any time.

    `begins` is the time at which the source begins, `duration_s` how long it says that it is, None where it does not say.
    `seen` counts the source's frames so far, `skipped` those of them that are corrupt, have no time stamp, or that of the
    frame before; `jumps` how often time stamps jumped back: there the time goes on one frame later.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        camera: str,
        begins: datetime | None = None,
        rate: float | None = None,
        threads: int = 1,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._source, self._camera, self._progress = Path(source), camera, progress
        self.seen = self.skipped = self.jumps = 0
        if begins is not None and begins.tzinfo is None:
            raise VideoError(f"{source}: begins: expected a time with its zone, got {begins.isoformat()}")
        if rate is not None and not 0 < rate < math.inf:
            raise VideoError(f"{source}: rate: expected frames a second above 0, got {rate:g}")
        self._pace = Pace(rate)
        self.begins: datetime
        self.duration_s: float | None
        if self._source.is_dir():
            if rate is None or begins is None:
                raise VideoError(
                    f"{source}: names of pictures say no times; give the frames a second and the time of the first"
                )
            self.begins, self._timed = begins, self._of_folder(rate)
        else:
            self._file = _opened(self._source)
            stream = self._file.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "AUTO", threads
            length = self._file.duration
            self.duration_s = length / av.time_base if length and length > 0 else None
            self.begins, self._timed = begins or _creation_time(self._source, self._file), self._of_file(stream)

    def __next__(self) -> Frame:
        at_s, picture = next(self._timed)
        return Frame(self._camera, self.begins + timedelta(seconds=at_s), picture)

    def timed(self) -> Iterator[tuple[float, UInt8]]:
        """The frames that are left as (seconds from `begins`, picture (height, width, 3) uint8 RGB)."""
        return self._timed

    def _of_folder(self, rate: float) -> Iterator[tuple[float, UInt8]]:
        names = sorted((path for path in self._source.iterdir() if path.suffix.lower() in PICTURES), key=_natural)
        if not names:
            raise VideoError(f"{self._source}: expected a video file or a folder of pictures, found no picture in it")
        self.duration_s = len(names) / rate

        def read() -> Iterator[tuple[float, UInt8]]:
            for number, path in enumerate(names):
                self._report(number / rate)
                self.seen += 1
                try:
                    picture = read_picture(path)
                except PictureError:
                    self.skipped += 1
                    continue
                yield number / rate, picture
            self._report(len(names) / rate)

        return read()

    def _of_file(self, stream: av.VideoStream) -> Iterator[tuple[float, UInt8]]:
        before, step, shift = -math.inf, 0.0, 0.0  # s: the stamp before; from one to the next; added after jumps
        to_rgb = ToRGB()
        with self._file:
            for (stamp_s, frame), (next_s, _) in pairwise(chain(self._stamped(stream), [(math.inf, END)])):
                if stamp_s == before or before < next_s < stamp_s:  # a stamp twice, or one that stands out
                    self.skipped += 1
                    continue
                if stamp_s < before:
                    self.jumps += 1
                    shift += before + step - stamp_s
                elif before > -math.inf:
                    step = stamp_s - before
                before, at_s = stamp_s, stamp_s + shift
                if self._pace.wants(at_s):
                    self._report(at_s)
                    yield at_s, to_rgb(frame)
        if before == -math.inf:
            raise VideoError(f"{self._source}: cannot be read as a video: none of its pictures can be decoded")
        self._report(self.duration_s or before)

    def _stamped(self, stream: av.VideoStream) -> Iterator[tuple[float, av.VideoFrame]]:
        """Each frame that can be decoded, with its time stamp in seconds from the file's start."""
        start_s = self._file.start_time / av.time_base if self._file.start_time is not None else None
        tick_s = float(stream.time_base or 1)  # one unit of a time stamp
        dated = undated = 0
        for frame in self._decoded(stream, start_s, tick_s):
            stamp = frame.pts if frame.pts is not None else frame.dts
            if stamp is None:
                self.skipped += 1
                undated += 1
                if undated >= BROKEN and not dated:
                    break
                continue
            dated += 1
            at_s = stamp * tick_s
            start_s = at_s if start_s is None else start_s
            yield at_s - start_s, frame
        if undated and not dated:
            raise VideoError(
                f"{self._source}: expected frames with time stamps, found none; a bare H.264 or H.265 stream has none: put "
                "it into a container, such as with ffmpeg -framerate FPS -i IN -c copy OUT.mp4"
            )

    def _decoded(self, stream: av.VideoStream, start_s: float | None, tick_s: float) -> Iterator[av.VideoFrame]:
        """Each frame that can be decoded; those that nobody wants are left out where no other depends on them."""
        context, broken = stream.codec_context, 0
        while broken < BROKEN:
            try:
                for packet in self._file.demux(stream):
                    waste = False
                    if packet.pts is not None and start_s is not None and not self.jumps:
                        waste = self._pace.is_waste(packet.pts * tick_s - start_s)
                    if packet.size:  # the last one is empty: it makes the decoder hand out what it holds
                        self.seen += 1
                        if waste and context.codec.intra_only:
                            continue
                    context.skip_frame = "NONREF" if waste else "DEFAULT"
                    try:
                        found = packet.decode()
                    except av.FFmpegError:
                        self.skipped += 1
                        continue
                    for frame in found:
                        broken = 0
                        if frame.is_corrupt:
                            self.skipped += 1
                        else:
                            yield frame
                return
            except av.EOFError:
                return
            except av.FFmpegError:
                self.skipped += 1
                broken += 1

    def _report(self, at_s: float) -> None:
        if self.duration_s:
            self._progress(round(1000 * min(at_s, self.duration_s)), round(1000 * self.duration_s))


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A frame of a live stream: a picture (height, width, 3) uint8 RGB, and its times in seconds.

    `arrived_s` is by the clock that the stream was opened with, `stamp_s` the stream's own time stamp, `sent_s` the
    sender's clock since 1970; None where the stream has none.
    """

    picture: UInt8
    arrived_s: float
    stamp_s: float | None
    sent_s: float | None


class Live:
    """A live stream: its frames as they come, at most `rate` a second.

    An address is rtsp://, http:// or https:// (MJPEG, MPEG-TS, HLS), or a webcam as /dev/video0. `now` is a clock in
    seconds that never jumps. `plays` says that frames come faster than they were taken, as of HLS or a file on a web
    server, and are to be shown by their stamps.
    `skipped` counts packets and pictures that are corrupt, `jumps` how often time stamps jumped. Where frames come faster
    than they are decoded, key frames alone are decoded until the reader has caught up. Any call may hang, in spite of its
    time-outs: use it where it can be killed. Raises VideoError with a reason in a few words, without the address.
    """

    def __init__(self, address: str, *, rate: float, now: Callable[[], float]) -> None:
        self._now, self._rate, self._pace = now, rate, Pace(rate)
        self.skipped = self.jumps = 0
        device = address.startswith("/dev/")
        # A format is known from 64 KiB or not at all, and looked at for 1 s at most; no frame rate is asked for.
        options = {"formatprobesize": str(2**16), "analyzeduration": "1000000", "fpsprobesize": "0"}
        options |= {"timestamps": "abs"} if device else {"rw_timeout": str(int(1e6 * SILENT_S)), "fflags": "nobuffer"}
        if address.lower().startswith("rtsp"):
            options |= {"rtsp_transport": "tcp", "allowed_media_types": "video", "timeout": options["rw_timeout"]}
        try:
            self._file = av.open(address, format="v4l2" if device else None, options=options)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(_reason(error)) from None
        if not self._file.streams.video:
            self._file.close()
            raise VideoError("there is no video in what it sends")
        self.plays = any(kind in self._file.format.name for kind in PLAYED)
        self._ahead_s: float | None = 0.0 if device else None  # by how much the sender's clock is ahead of the stamps

    def shots(self) -> Iterator[Shot]:
        """The frames that are chosen, until the stream ends or breaks off, which raises VideoError."""
        stream = self._file.streams.video[0]
        tick_s, to_rgb, newest_s = float(stream.time_base or 1), ToRGB(), None
        with self._file:
            for arrived_s, frame in self._decoded(stream, tick_s):
                stamp_s = frame.pts * tick_s if frame.pts is not None else None
                if newest_s is not None and stamp_s is not None and not 0 <= stamp_s - newest_s < JUMP_S:
                    self.jumps += 1
                    self._pace = Pace(self._rate)
                newest_s = stamp_s if stamp_s is not None else newest_s
                if self._pace.wants(stamp_s if self.plays and stamp_s is not None else arrived_s):
                    sent_s = None if stamp_s is None or self._ahead_s is None else stamp_s + self._ahead_s
                    yield Shot(to_rgb(frame), arrived_s, stamp_s, sent_s)

    def _decoded(self, stream: av.VideoStream, tick_s: float) -> Iterator[tuple[float, av.VideoFrame]]:
        context, packets = stream.codec_context, self._file.demux(stream)
        broken = undecoded = 0  # errors in a row: where the stream is taken apart, and where it is decoded
        late = False
        idle_s = self._now()  # when the reader last had to wait for the stream: then it lags behind by nothing
        while True:
            before_s = self._now()
            try:
                packet = next(packets)
            except av.InvalidDataError:
                packets, broken = self._file.demux(stream), broken + 1
                self.skipped += 1
                if broken >= BROKEN_LIVE:
                    raise VideoError(REASONS[av.InvalidDataError]) from None
                continue
            except (av.FFmpegError, OSError, StopIteration) as error:
                raise VideoError(_reason(error)) from None
            if not packet.size:  # the end; what the decoder still holds is late, and said to be new
                raise VideoError(REASONS[av.EOFError])
            arrived_s, broken = self._now(), 0
            if arrived_s - before_s >= SILENT_S and not self.plays:  # a parser's rest, handed out when time was over
                raise VideoError(REASONS[TimeoutError])
            if packet.has_sidedata("prft") and packet.pts is not None:  # from RTCP's sender reports
                microseconds, _ = struct.unpack_from("=qi", bytes(packet.get_sidedata("prft")))
                self._ahead_s = microseconds / 1e6 - packet.pts * tick_s
            if arrived_s - before_s > WAITED_S:
                idle_s = arrived_s
            if arrived_s - idle_s > LAG_S and not self.plays:
                late = True
            elif packet.is_keyframe:
                late = False
            at_s = packet.pts * tick_s if self.plays and packet.pts is not None else arrived_s
            waste = self._pace.is_waste(at_s)
            if context.codec.intra_only and (waste or late):
                continue
            context.skip_frame = "NONKEY" if late else "NONREF" if waste else "DEFAULT"
            try:
                found = packet.decode()
            except av.FFmpegError:
                self.skipped, undecoded = self.skipped + 1, undecoded + 1
                if undecoded >= BROKEN:
                    raise VideoError("nothing of what it sends can be decoded") from None
                continue
            for frame in found:
                undecoded = 0
                if frame.is_corrupt:
                    self.skipped += 1
                else:
                    yield arrived_s, frame


class Pace:
    """Chooses at most `rate` frames a second by their times, the first in each 1/rate s; all where `rate` is None."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._newest: int | None = None  # the step of the newest chosen frame
        self._least: dict[int, float] = {}  # of the steps begun, the least time of a packet

    def wants(self, at_s: float) -> bool:
        """Whether the frame of this time is chosen; times come in rising order."""
        if self._rate is None:
            return True
        step = math.floor((at_s + SLACK_S) * self._rate)
        if self._newest is not None and step <= self._newest:
            return False
        self._newest = step
        return True

    def is_waste(self, at_s: float) -> bool:
        """Whether a packet's frame will not be chosen, since another one of its 1/rate s is earlier; in any order."""
        if self._rate is None:
            return False
        step = math.floor((at_s + SLACK_S) * self._rate)
        least = self._least.get(step)
        if least is not None and least < at_s:
            return True
        if len(self._least) >= 100:  # far more than a decoder reorders
            self._least = {s: t for s, t in self._least.items() if s > step - 50}
        self._least[step] = at_s
        return False


class ToRGB:
    """Makes decoded frames (height, width, 3) uint8 RGB pictures, turned as the source says."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()  # one for all frames: making one takes longer than using it

    def __call__(self, frame: av.VideoFrame) -> UInt8:
        picture = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)), np.uint8)


class ClipWriter:
    """Writes RGB frames into a video file; use it in a `with` block. `path` is the name that was written.

    An .mp4 file is H.264; where PyAV was built without an encoder for that, a .webm file of the same name is written
    instead, as VP9. `crf` is x264's constant rate factor: 18 looks lossless, 28 is small. Sides must be even. Raises
    VideoError where the file cannot be written, or a frame is of another size.
    """

    def __init__(self, path: Path, *, width: int, height: int, fps: float, crf: int = 23) -> None:
        if width % 2 or height % 2 or min(width, height) < 16:
            raise VideoError(f"{path}: expected even sides of 16 pixels or more, got {width} x {height}")
        self.path, encoder = _encoder(path)
        self._shape = (height, width, 3)
        self._file = av.open(str(self.path), "w")
        stream = self._file.add_stream(encoder, rate=Fraction(fps).limit_denominator(1000))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if encoder == "libx264":
            stream.options = {"crf": str(crf), "preset": "veryfast"}
        else:
            stream.options = {"crf": str(crf + VP9_CRF), "b": "0", "deadline": "realtime", "cpu-used": "5"}
        self._stream = stream
        try:
            self._file.start_encoding()  # opens the file
        except OSError as error:  # PyAV's errors of the file system are OSErrors, too
            raise VideoError(f"{self.path}: cannot be written: {error}") from None

    def write(self, frame: UInt8) -> None:
        """Add one frame (height, width, 3), RGB."""
        if frame.shape != self._shape or frame.dtype != "uint8":
            raise VideoError(f"{self.path}: expected frames {self._shape} uint8, got {frame.shape} {frame.dtype}")
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


def _opened(path: Path) -> av.container.InputContainer:
    try:
        file = av.open(str(path))
    except av.FFmpegError as error:
        raise VideoError(f"{path}: cannot be read as a video: {error.strerror}") from None
    if not file.streams.video:
        file.close()
        raise VideoError(f"{path}: expected a video, found none in it")
    return file


def _reason(error: Exception) -> str:
    """Why a live stream cannot be read, in words for whoever runs a shop; PyAV's own hold the address and its password."""
    for kind, words in REASONS.items():
        if isinstance(error, kind):
            return words
    return f"the stream broke off ({getattr(error, 'strerror', None) or type(error).__name__})"


def _creation_time(path: Path, file: av.container.InputContainer) -> datetime:
    """When recording began, as the file's tag says; 1904 and 1970 are what recorders without a clock write."""
    for tags in (file.metadata, file.streams.video[0].metadata):
        with suppress(KeyError, ValueError):
            time = datetime.fromisoformat(tags["creation_time"])
            if time.tzinfo is not None and time.year > 1970:
                return time.astimezone(UTC)
    raise VideoError(f"{path}: does not say when it was recorded (no tag creation_time); say when it begins")


def _natural(path: Path) -> list[str | int]:
    """Sorts "frame2" before "frame10"; text and numbers alternate."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"(\d+)", path.name))]


def _encoder(path: Path) -> tuple[Path, str]:
    """The file's name and its encoder, as PyAV was built."""
    if path.suffix not in ENCODERS:
        raise VideoError(f"{path}: expected a name that ends in {' or '.join(ENCODERS)}")
    encoder, instead = ENCODERS[path.suffix]
    try:
        av.Codec(encoder, "w")
    except av.codec.codec.UnknownCodecError:
        if instead is None:
            raise VideoError(
                f"{path}: PyAV was built without {encoder}; install it from its wheel: pip install av"
            ) from None
        return _encoder(path.with_suffix(instead))
    return path, encoder
