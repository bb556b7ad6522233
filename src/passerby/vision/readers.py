"""Live cameras: one process a camera, watched and restarted; the newest frame of each with its time. Looks at the clock.

A reader process opens its stream, reconnects by itself, and writes frames into memory that it shares with this process,
where the newest frame wins. It may hang inside C code at any time: then it is killed from here, and another one started.
"""

import math
import mmap
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import connection, reduction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self
from uuid import UUID

import numpy as np

from passerby.shop import Frame
from passerby.types import UInt8, VideoError
from passerby.vision.video import Live, frames

Phase = Literal["connecting", "live", "stalled", "failed"]

RATE = 5.0  # analysed frames a second of a camera that says nothing else
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 2.5  # between two tries to connect: doubled from the one to the other
JITTER = 0.2  # of a wait, so that cameras of one router do not all come back at once
LATE_S, EARLY_S = 10.0, 0.5  # how long before and after it arrived a frame may have been sent; else a clock is wrong
STEP_BACK_S = 1.0  # from which on a time that jumps back is counted
SLEW = 0.1  # seconds a second, by which a camera's times come back to the clock after they were held
QUIET_S = 3.0  # without a frame, from which a camera is not called live; and three frames' time at least
STARVED_S = 1.0  # how late a frame that is to be played may come, before those after it are played later, too
PAUSE_S = 8.0  # the longest pause between two frames that are to be played; shorter than a reader may be silent
LOOKED, FASTEST = (
    50,
    60.0,
)  # how many frames of a file tell its rate, and the most frames a second that a camera is asked for
TICK_S = 0.2  # how often readers are looked after
HEADER = 64  # bytes before the pictures in shared memory: the number of the frame that is being written


@dataclass(frozen=True, slots=True)
class Source:
    """A live camera: its address, the most frames a second to be analysed, and how far its clock is ahead.

    An address is rtsp://, http:// or https:// (MJPEG, MPEG-TS, HLS), or a webcam as /dev/video0. It may hold a password,
    so that it is never shown but as `shown`.
    """

    address: str = field(repr=False)
    rate: float = RATE
    clock_offset_s: float = 0.0

    def __post_init__(self) -> None:
        if not is_live(self.address):
            raise VideoError(
                f"camera at {masked(self.address)}: expected an address such as rtsp://..., http://... or /dev/video0"
            )
        if not 0 < self.rate <= 100:
            raise VideoError(f"camera at {masked(self.address)}: expected 0 to 100 frames a second, got {self.rate:g}")

    @property
    def shown(self) -> str:
        """The address without what may be secret."""
        return masked(self.address)


@dataclass(frozen=True, slots=True)
class State:
    """How a camera is doing, and what was counted since the start.

    `reason` is one sentence. `frames` came, of them `dropped` were replaced by newer ones before anybody took them;
    `skipped` packets and pictures were corrupt; `jumps` is how often time jumped; `reconnects` how often frames came again
    after a break, `lost_s` how long those breaks were. `newest` is the time of the newest frame, `clock` whose it is.
    """

    camera: str
    phase: Phase
    reason: str
    frames: int
    dropped: int
    skipped: int
    jumps: int
    reconnects: int
    lost_s: float
    newest: datetime | None
    clock: Literal["arrival", "sender"] | None


class Readers:
    """The readers of several live cameras; use it in a `with` block, and call `newest` from one thread.

    A reader without a frame for `stall_s`, or without the first one after `start_s`, is killed and started anew. It is
    replaced after `recycle_s`, since memory grows where streams stay open. `wait_scale` multiplies the waits between two
    tries to connect, which go on for ever.

    >>> with Readers({"door": Source("http://127.0.0.1:9/none")}) as readers:
    ...     readers.newest(timeout_s=0.0), readers.states()["door"].reason
    ([], 'door: connecting')
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        *,
        stall_s: float = 10.0,
        start_s: float = 20.0,
        recycle_s: float = 6 * 3600.0,
        wait_scale: float = 1.0,
    ) -> None:
        if os.name != "posix":
            raise VideoError("live cameras are read on Linux and macOS only; on this system passerby reads files")
        rng = np.random.default_rng()
        self._cameras = {
            name: _Camera(
                name,
                source,
                stall_s=stall_s,
                start_s=start_s,
                recycle_s=recycle_s * rng.uniform(0.9, 1.1),
                wait_scale=wait_scale,
            )
            for name, source in sources.items()
        }
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._bell, self._ring = connection.Pipe(duplex=False)
        self._closing = False
        self._watcher = threading.Thread(target=self._watch, name="readers", daemon=True)

    def newest(self, *, timeout_s: float) -> list[Frame]:
        """The newest frame of each camera that has one not yet taken, in order of time; waits until there is one."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._error or self._closing or any(c.newest for c in self._cameras.values()), timeout_s
            )
            if self._error:
                raise self._error
            taken = [camera.take() for camera in self._cameras.values()]
        return sorted((frame for frame in taken if frame is not None), key=lambda frame: (frame.time, frame.camera))

    def states(self) -> dict[str, State]:
        """How each camera is doing."""
        with self._changed:
            return {name: camera.state(time.monotonic()) for name, camera in self._cameras.items()}

    def close(self) -> None:
        """End all reader processes; may be called twice."""
        if not self._closing:
            self._closing = True
            self._ring.send(None)
            for camera in self._cameras.values():
                for reader in camera.readers():
                    reader.process.kill()  # first of all, so that nobody waits for one that hangs
            if self._watcher.ident is not None:
                self._watcher.join()
            for camera in self._cameras.values():
                camera.close()
            with self._changed:
                self._changed.notify_all()
            self._bell.close()
            self._ring.close()

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _watch(self) -> None:
        # Ctrl-C is sent to all processes of a terminal. Readers inherit that it is held back: they end with this process.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            while not self._closing:
                with self._changed:
                    for camera in self._cameras.values():
                        camera.look_after(time.monotonic())
                    of = {r.connection: (c, r) for c in self._cameras.values() for r in c.readers()}
                for ready in connection.wait([*of, self._bell], TICK_S):
                    if ready is not self._bell:
                        camera, reader = of[ready]  # type: ignore[index]
                        with self._changed:
                            camera.listen(reader, time.monotonic())
                            self._changed.notify_all()
        except BaseException as error:  # shown to whoever waits for frames
            with self._changed:
                self._error = error
                self._changed.notify_all()


def latest(source: str | Path, *, timeout_s: float = 20.0) -> UInt8:
    """One picture (height, width, 3) uint8 RGB of a source: a file's or folder's first, a live camera's next.

    Raises VideoError with the reason where there is none within `timeout_s`.
    """
    if not is_live(str(source)):
        reading = frames(source, camera="one", begins=datetime.fromtimestamp(0, UTC), rate=1.0)
        for frame in reading:
            return frame.picture
        raise VideoError(f"{source}: cannot be read: none of its pictures can be decoded")
    with Readers({"camera": Source(str(source))}, start_s=timeout_s) as readers:
        for frame in readers.newest(timeout_s=timeout_s):
            return frame.picture
        state = readers.states()["camera"]
    raise VideoError(f"{masked(str(source))}: no picture within {timeout_s:g} s ({state.reason})")


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What a source gives: a picture (height, width, 3) uint8 RGB, how many frames a second, and when a file says it begins.

    `rate` is None of a folder of pictures and where one frame came, `begins` where it is not said.
    """

    picture: UInt8
    rate: float | None
    begins: datetime | None


def look_at(source: str | Path, *, timeout_s: float = 20.0, for_s: float = 3.0) -> Look:
    """Open a source and look at it: a file's first frames, or a live camera for `for_s` once its first frame has come.

    Raises VideoError with the reason where no picture comes within `timeout_s`.
    """
    if is_live(str(source)):
        return _look_at_camera(str(source), timeout_s=timeout_s, for_s=for_s)
    if Path(source).is_dir():
        return Look(latest(source), None, None)
    times, picture = [], None
    for at_s, each in frames(source, camera="one", begins=datetime.fromtimestamp(0, UTC)).timed():
        times.append(at_s)
        picture = each if picture is None else picture
        if len(times) > LOOKED:
            break
    assert picture is not None  # `frames` raises where there is none
    begins = None
    with suppress(VideoError):
        begins = frames(source, camera="one").begins
    return Look(picture, (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else None, begins)


def _look_at_camera(address: str, *, timeout_s: float, for_s: float) -> Look:
    with Readers({"camera": Source(address, rate=FASTEST)}, start_s=timeout_s) as readers:
        for frame in readers.newest(timeout_s=timeout_s):
            since_s, before = time.monotonic(), readers.states()["camera"].frames
            time.sleep(for_s)
            came = readers.states()["camera"].frames - before
            return Look(frame.picture, came / (time.monotonic() - since_s) or None, None)
        state = readers.states()["camera"]
    raise VideoError(f"{masked(address)}: no picture within {timeout_s:g} s ({state.reason.removeprefix('camera: ')})")


def new_session() -> str:
    """A name for what is followed from now on that never comes again: a UUIDv7 (RFC 9562), so that later ones sort later."""
    drawn = bytearray((time.time_ns() // 1_000_000).to_bytes(6) + os.urandom(10))
    drawn[6], drawn[8] = 0x70 | drawn[6] & 0x0F, 0x80 | drawn[8] & 0x3F
    return str(UUID(bytes=bytes(drawn)))


def is_live(source: str) -> bool:
    """Whether a source is an address of a stream or a webcam, and not a file or a folder."""
    return source.startswith("/dev/video") or re.match(r"(rtsps?|https?)://", source, re.IGNORECASE) is not None


def masked(address: str) -> str:
    """An address without what may be secret: user, password, query, and a path that speaks of a password.

    >>> masked("rtsp://admin:1234@10.0.0.7:554/stream1?token=abc")
    'rtsp://***@10.0.0.7:554/stream1?***'
    """
    scheme, slashes, rest = address.partition("://") if "://" in address else ("", "", address)
    _, at, rest = rest.rpartition("@")  # the last one: a password may hold anything
    rest, query, _ = rest.partition("?")
    host, slash, path = rest.partition("/")
    if re.search("pass|pwd|token|key|user", path, re.IGNORECASE):
        path = "***"
    return f"{scheme}{slashes}{'***@' if at else ''}{host}{slash}{path}{'?***' if query else ''}"


class Steady:
    """Makes the times of a camera rise strictly, whatever its clock does; `jumps` counts steps back of a second or more.

    Where the clock steps back, time goes on by what passed in the meantime, and then a tenth slower until the clock has
    caught up.
    """

    def __init__(self) -> None:
        self.jumps = 0
        self._ahead_s = 0.0  # by how much the times are ahead of the clock
        self._newest_s = self._passed_s = -math.inf

    def time(self, clock_s: float, passing_s: float) -> float:
        """The time of a frame in seconds, from what the clock shows and from a clock that never jumps."""
        held_s = clock_s
        if clock_s <= self._newest_s:
            elapsed_s = max(passing_s - self._passed_s, 0.001)
            held_s += max(0.0, self._ahead_s - SLEW * elapsed_s)
            if held_s <= self._newest_s:
                self.jumps += self._newest_s - held_s >= STEP_BACK_S
                held_s = self._newest_s + elapsed_s
        self._ahead_s, self._newest_s, self._passed_s = held_s - clock_s, held_s, passing_s
        return held_s


class Playing:
    """When the frames of a stream that comes in lumps are to be shown: as far apart as their stamps are."""

    def __init__(self) -> None:
        self._ahead_s: float | None = None  # by how much the clock is ahead of the stamps

    def due_s(self, stamp_s: float, now_s: float) -> float:
        """When to show a frame; at once where it is the first, comes late, or would be waited for very long."""
        if self._ahead_s is None or not -STARVED_S <= stamp_s + self._ahead_s - now_s <= PAUSE_S:
            self._ahead_s = now_s - stamp_s
        return stamp_s + self._ahead_s


class _Newest(NamedTuple):
    """The newest frame of a camera, in shared memory."""

    memory: UInt8
    number: int
    shape: tuple[int, int, int]
    time: datetime


class _Reader:
    """One reader process, the connection to it and the memory that it writes to."""

    def __init__(self, name: str, source: Source, *, wait_scale: float, limit_s: float, now_s: float) -> None:
        here, there = socket.socketpair()
        self.connection: connection.Connection[Any, Any] = connection.Connection(here.detach())
        with there:
            code = "import sys; from passerby.vision.readers import serve; serve(int(sys.argv[1]))"
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code, str(there.fileno()), name],  # no address: all users see this line
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path), "OMP_NUM_THREADS": "1"}
                | {"OPENBLAS_NUM_THREADS": "1"},
            )
        self.connection.send((source.address, source.rate, wait_scale))
        self.memory: UInt8 = np.zeros(0, np.uint8)
        self.heard_s = now_s
        self.limit_s = limit_s  # how long it may say nothing
        self.skipped = self.jumps = self.frames = 0

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()


class _Camera:
    """One camera: its reader, at times its reader's successor, and what is known and counted of it."""

    def __init__(
        self, name: str, source: Source, *, stall_s: float, start_s: float, recycle_s: float, wait_scale: float
    ) -> None:
        self._name, self._source = name, source
        self._quiet_s = max(QUIET_S, 3 / source.rate)
        self._stall_s, self._start_s, self._recycle_s, self._wait_scale = stall_s, start_s, recycle_s, wait_scale
        self._reader: _Reader | None = None
        self._successor: _Reader | None = None
        self._start_at_s = -math.inf  # when the next reader may be started
        self._recycle_at_s = math.inf
        self._crashes = 0  # since the last frame
        self._rng = np.random.default_rng()
        self._steady = Steady()
        self._failure: str | None = None
        self._seen_s: float | None = None  # when the newest frame came
        self._broken = False  # since the newest frame
        self._newest_time: datetime | None = None
        self._clock: Literal["arrival", "sender"] | None = None
        self._frames = self._dropped = self._skipped = self._jumps = self._reconnects = 0
        self._lost_s = 0.0
        self.newest: _Newest | None = None

    def readers(self) -> list[_Reader]:
        return [reader for reader in (self._reader, self._successor) if reader is not None]

    def look_after(self, now_s: float) -> None:
        """Start, end and replace readers as it is time to."""
        if self._successor is not None and now_s - self._successor.heard_s > self._successor.limit_s:
            self._give_up_successor(now_s)
        if self._reader is not None and now_s - self._reader.heard_s > self._reader.limit_s:
            if not self._reader.frames:
                self._failure = f"no picture within {self._reader.limit_s:.0f} s"
            self._end_reader(now_s, wait_s=0.0)
        if self._reader is None and now_s >= self._start_at_s:
            self._reader = self._start(now_s)
        if now_s >= self._recycle_at_s and self._reader is not None and self._successor is None:
            if self._source.address.startswith("/dev/"):  # can be open once only
                self._end_reader(now_s, wait_s=0.0)
            else:
                self._successor = self._start(now_s)
            self._recycle_at_s = math.inf

    def listen(self, reader: _Reader, now_s: float) -> None:
        """Take one message of a reader."""
        if reader not in self.readers():
            return  # ended since
        try:
            kind, *content = reader.connection.recv()
            if kind == "memory":
                if not reader.connection.poll(1.0):  # it stopped between the two: nobody else is to wait for it
                    raise EOFError
                reader.memory = _mapped(reduction.recv_handle(reader.connection), content[0])
        except (EOFError, OSError):
            if reader is self._successor:
                self._give_up_successor(now_s)
            else:
                self._failure = "its reader ended unexpectedly"
                self._crashes += 1
                self._end_reader(now_s, wait_s=_wait_s(self._crashes, self._rng) * self._wait_scale)
            return
        reader.heard_s = now_s
        if kind == "connecting":
            reader.limit_s = self._start_s
        elif kind == "failed":
            reason, wait_s = content
            if reader is self._successor:  # perhaps the camera serves one reader at a time
                self._give_up_successor(now_s)
            else:
                self._failure, self._broken, reader.limit_s = reason, True, wait_s + self._start_s
        elif kind == "frame":
            self._see(reader, now_s, *content)

    def take(self) -> Frame | None:
        """The newest frame, copied out of shared memory, or None where it was taken before."""
        newest, self.newest = self.newest, None
        if newest is None:
            return None
        picture = _picture(newest.memory, newest.number, newest.shape).copy()
        if _writing(newest.memory)[0] >= newest.number + 2:  # its place was written to meanwhile
            self._dropped += 1
            return None
        return Frame(self._name, newest.time, picture)

    def state(self, now_s: float) -> State:
        silent_s = None if self._seen_s is None else now_s - self._seen_s
        silence = "" if silent_s is None else f"no frame for {silent_s:.0f} s"
        phase: Phase
        if silent_s is not None and silent_s <= self._quiet_s and not self._broken:
            phase, reason = "live", "live"
        elif self._failure is not None:
            phase, reason = "failed", "; ".join([self._failure, *([silence] if silence else []), "trying again"])
        elif silent_s is not None:
            phase, reason = "stalled", f"{silence}, {'reconnecting' if silent_s > self._stall_s else 'waiting'}"
        else:
            phase, reason = "connecting", "connecting"
        lost_s = self._lost_s + (silent_s if silent_s is not None and phase != "live" else 0.0)
        readers = self.readers()
        return State(
            camera=self._name,
            phase=phase,
            reason=f"{self._name}: {reason}",
            frames=self._frames,
            dropped=self._dropped,
            skipped=self._skipped + sum(reader.skipped for reader in readers),
            jumps=self._jumps + self._steady.jumps + sum(reader.jumps for reader in readers),
            reconnects=self._reconnects,
            lost_s=lost_s,
            newest=self._newest_time,
            clock=self._clock,
        )

    def close(self) -> None:
        for reader in self.readers():
            reader.close()
        self._reader = self._successor = self.newest = None

    def _see(
        self,
        reader: _Reader,
        now_s: float,
        number: int,
        shape: tuple[int, int, int],
        arrived_s: float,
        clock_s: float,
        clock: Literal["arrival", "sender"],
        skipped: int,
        jumps: int,
    ) -> None:
        reader.skipped, reader.jumps, reader.limit_s = skipped, jumps, max(self._stall_s, self._quiet_s)
        reader.frames += 1
        if reader is self._successor:
            self._drop(self._reader)
            self._reader, self._successor = reader, None
        if reader.frames == 1:
            self._recycle_at_s = now_s + self._recycle_s
        if self._seen_s is not None and (self._broken or now_s - self._seen_s > self._quiet_s):
            self._reconnects += 1
            self._lost_s += now_s - self._seen_s
        self._seen_s, self._broken, self._failure, self._crashes = now_s, False, None, 0
        seconds = self._steady.time(clock_s - self._source.clock_offset_s, arrived_s)
        self._newest_time, self._clock = datetime.fromtimestamp(seconds, UTC), clock
        self._frames += 1
        self._dropped += self.newest is not None
        self.newest = _Newest(reader.memory, number, shape, self._newest_time)

    def _start(self, now_s: float) -> _Reader:
        return _Reader(
            self._name, self._source, wait_scale=self._wait_scale, limit_s=self._start_s + self._stall_s, now_s=now_s
        )

    def _give_up_successor(self, now_s: float) -> None:
        """The old reader is ended all the same: where two cannot be at once, a moment is lost."""
        self._drop(self._successor)
        self._successor = None
        self._end_reader(now_s, wait_s=0.0)

    def _end_reader(self, now_s: float, *, wait_s: float) -> None:
        self._drop(self._reader)
        self._reader, self._start_at_s, self._broken = None, now_s + wait_s, True

    def _drop(self, reader: _Reader | None) -> None:
        if reader is not None:
            self._skipped += reader.skipped
            self._jumps += reader.jumps
            reader.close()


def serve(handle: int) -> None:
    """What a reader process does: connect, hand on frames, and connect again, until the other process is gone."""
    door: connection.Connection[Any, Any] = connection.Connection(handle)
    with suppress(EOFError, OSError):
        address, rate, wait_scale = door.recv()
        threading.Thread(target=_end_with, args=(door,), daemon=True).start()
        _read(door, address, rate=rate, wait_scale=wait_scale)


def _read(door: "connection.Connection[Any, Any]", address: str, *, rate: float, wait_scale: float) -> None:
    rng, tries = np.random.default_rng(), 0
    memory: UInt8 = np.zeros(0, np.uint8)
    number = skipped = jumps = 0
    while True:
        live: Live | None = None
        try:
            door.send(("connecting",))
            live, playing = Live(address, rate=rate, now=time.monotonic), Playing()
            for shot in live.shots():
                arrived_s = shot.arrived_s
                if live.plays and shot.stamp_s is not None:
                    arrived_s = playing.due_s(shot.stamp_s, time.monotonic())
                    time.sleep(max(0.0, arrived_s - time.monotonic()))
                if 2 * shot.picture.nbytes + HEADER > len(memory):
                    memory = _new_memory(door, 2 * shot.picture.nbytes + HEADER)
                number += 1
                _writing(memory)[0] = number
                _picture(memory, number, shot.picture.shape)[...] = shot.picture
                clock_s = time.time() - (time.monotonic() - arrived_s)
                sent = shot.sent_s is not None and -LATE_S < shot.sent_s - clock_s < EARLY_S
                clock_s = shot.sent_s if sent and shot.sent_s is not None else clock_s
                clock = "sender" if sent else "arrival"
                counts = skipped + live.skipped, jumps + live.jumps
                door.send(("frame", number, shot.picture.shape, arrived_s, clock_s, clock, *counts))
                tries = 0
        except VideoError as error:
            reason = str(error)
        if live is not None:
            skipped, jumps = skipped + live.skipped, jumps + live.jumps
        tries += 1
        wait_s = _wait_s(tries, rng) * wait_scale
        door.send(("failed", reason, wait_s))
        time.sleep(wait_s)


def _wait_s(tries: int, rng: np.random.Generator) -> float:
    """How long to wait after so many tries in vain."""
    return float(min(FIRST_WAIT_S * 2.0 ** min(tries - 1, 10), LONGEST_WAIT_S) * rng.uniform(1 - JITTER, 1 + JITTER))


def _end_with(door: "connection.Connection[Any, Any]") -> None:
    """Ends this process as soon as the other one is gone, whatever the main thread does."""
    try:
        door.recv()
    except (EOFError, OSError):
        os._exit(0)


def _new_memory(door: "connection.Connection[Any, Any]", size: int) -> UInt8:
    """Memory that is shared with the other process, without a name that could outlive both."""
    if sys.platform == "linux":
        handle = os.memfd_create("passerby")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.truncate(handle, size)
    door.send(("memory", size))
    reduction.send_handle(door, handle, None)
    return _mapped(handle, size)


def _mapped(handle: int, size: int) -> UInt8:
    try:
        return np.frombuffer(mmap.mmap(handle, size), np.uint8)
    finally:
        os.close(handle)


def _writing(memory: UInt8) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """The number of the frame that is being written, or was last."""
    return memory[:8].view(np.int64)


def _picture(memory: UInt8, number: int, shape: tuple[int, ...]) -> UInt8:
    """Where the frame of this number lies: one of two places in turn."""
    size = int(np.prod(shape))
    start = HEADER + number % 2 * ((len(memory) - HEADER) // 2)
    return memory[start : start + size].reshape(shape)
