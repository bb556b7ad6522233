"""The vision worker: one process that watches all cameras of a site. Only sightings, states and blurred pictures leave it."""

import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from threading import Event
from typing import Any, Literal

import cv2
import numpy as np

from passerby.reid.calibration import Calibration
from passerby.reid.embedder import Embedder
from passerby.reid.inference import ReIDInference
from passerby.shop import Sighting
from passerby.site import Camera, Site
from passerby.types import Float32, PasserbyError, UInt8
from passerby.vision.blur import blur_heads
from passerby.vision.detect import open_detector
from passerby.vision.outlook import Outlook
from passerby.vision.pipeline import GONE_S, LOOKS, Line, Seen
from passerby.vision.playing import Played
from passerby.vision.readers import Readers, Source, State, new_session

WAIT_S = 0.5  # for a frame, before it is looked whether there is something else to do
STATES_S = 1.0  # from one account of the cameras to the next
PICTURE_S = 3.0  # from one picture of a camera to the next
REMEMBERED_S = 1.0  # heads are blurred where somebody was found so shortly before, too: a detector may miss them once
SHOWN_PX, JPEG_QUALITY = 960, 80  # the longer side of a picture, and how it is packed
LEAST_RATE, SLOW_S = 0.5, 60.0  # of the rate that is asked for: less for so long is too little to count on
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RATE_S = 10.0  # over which frames a second are counted


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is to do: watch a site's cameras; `loop` plays recordings again and again, `threads` compute."""

    site: Site
    loop: bool = False
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """The worker is ready: what similarities of its vectors mean, and which network makes them."""

    calibration: Calibration
    network: str


@dataclass(frozen=True, slots=True)
class Made:
    """Revisions of sightings, and the time up to which they are known."""

    at: datetime
    sightings: tuple[Sighting, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with what a camera gives, though frames come: it was moved, or shows too little to count on; in words."""

    kind: Literal["moved", "degraded"]
    reason: str


@dataclass(frozen=True, slots=True)
class Watching:
    """How a camera is doing: as its reader says, how many frames a second are looked at, and how late the newest one was."""

    state: State
    rate: float
    lag_s: float | None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of a camera as JPEG, heads blurred and masks burned in."""

    camera: str
    at: datetime
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing comes any more: the recordings have ended, it was told to stop, or it cannot go on, which `error` says."""

    error: str | None = None


Message = Opened | Made | tuple[Watching, ...] | Shown | Ended


def work(handle: int, *, clock: Callable[[], datetime]) -> None:
    """What the worker's process does with the connection `handle`: take its Task, and send Messages until it is told to stop.

    It ends with the process at the other end, whatever it is doing.
    """
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # of a whole terminal, or a service: the other process says when to stop
        signal.signal(number, signal.SIG_IGN)
    door: Connection[Any, Any] = Connection(handle)
    with suppress(EOFError, OSError):
        task: Task = door.recv()
        stopped = Event()
        threading.Thread(target=_listen, args=(door, stopped), daemon=True).start()
        try:
            watch(task, send=door.send, stopped=stopped, clock=clock)
        except PasserbyError as error:
            door.send(Ended(str(error)))
        else:
            door.send(Ended())


def _listen(door: "Connection[Any, Any]", stopped: Event) -> None:
    try:
        while True:
            door.recv()
            stopped.set()
    except (EOFError, OSError):
        os._exit(0)


def watch(
    task: Task,
    *,
    send: Callable[[Message], None],
    stopped: Event,
    clock: Callable[[], datetime],
    passing: Callable[[], float] = time.monotonic,
) -> None:
    """Watch a site's cameras until `stopped`, or until its recordings end; every track is closed then.

    `clock` says which time it is, `passing` how many seconds pass: it never jumps.
    """
    site = task.site
    reid = ReIDInference(mode=site.mode, model=site.model, precision=site.precision, threads=task.threads)
    session = new_session()
    line = Line(
        site,
        detector=open_detector(site.detector, threads=task.threads),
        embedder=reid.embedder,
        looks=Embedder(LOOKS, precision="fp32", threads=task.threads),
        sessions={camera.name: session for camera in site.cameras},
    )
    send(Opened(reid.calibration, f"{reid.embedder.file_sha256}:{reid.embedder.precision}"))
    views = {camera.name: View(camera) for camera in site.cameras}
    newest: datetime | None = None
    told_s, looked_s = -math.inf, math.inf
    with opened(task, begins=clock()) as cameras:
        while not stopped.is_set():
            batch = cameras.newest(timeout_s=WAIT_S)
            now_s = passing()
            if batch:
                made, seen = line.look(batch)
                newest, looked_s = max(frame.time for frame in batch), now_s
                send(Made(newest, tuple(made)))
                for each in seen:
                    view = views[each.frame.camera]
                    view.see(each, lag_s=(clock() - each.frame.time).total_seconds(), now_s=now_s)
                    if view.due(now_s):
                        send(view.picture(each, now_s))
            elif newest is not None and now_s - looked_s > GONE_S:  # no camera sees anybody
                send(Made(newest, tuple(line.finish())))
                looked_s = math.inf
            if now_s - told_s >= STATES_S:
                told_s = now_s
                send(tuple(views[name].watching(state, now_s) for name, state in cameras.states().items()))
            if isinstance(cameras, Played) and cameras.ended:
                break
        if newest is not None:
            send(Made(newest, tuple(line.finish())))
        send(tuple(views[name].watching(state, passing()) for name, state in cameras.states().items()))


def opened(task: Task, *, begins: datetime) -> Readers | Played:
    """The cameras of a site, all live or all recordings, which are played from `begins` on."""
    site = task.site
    live = [camera.name for camera in site.cameras if camera.live]
    if not live:
        return Played(site, begins=begins, loop=task.loop)
    if len(live) < len(site.cameras):
        raise PasserbyError(
            f"site {site.name}: {', '.join(live)} are live and the others recordings; expected cameras of one kind"
        )
    return Readers(
        {
            camera.name: Source(camera.source, rate=camera.rate, clock_offset_s=camera.clock_offset_s)
            for camera in site.cameras
        }
    )


class View:
    """What is shown and said of one camera: when its next picture is due, where heads are, how many frames are looked at."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._shown_s = -math.inf
        self._found: deque[tuple[datetime, Float32]] = deque()  # where somebody was, by the frame's time
        self._looked_s: deque[float] = deque()
        self._outlook = Outlook()
        self._slow_s: float | None = None  # since when too few frames are looked at
        self._lag_s: float | None = None

    def see(self, seen: Seen, *, lag_s: float, now_s: float) -> None:
        """Take in what was seen in a frame, which is so late."""
        boxes = [seen.found.boxes_xyxy, *(one.box_xyxy[None] for one in seen.tracks)]
        self._found.append((seen.frame.time, np.concatenate(boxes)))
        while (seen.frame.time - self._found[0][0]).total_seconds() > REMEMBERED_S:
            self._found.popleft()
        self._looked_s.append(now_s)
        self._lag_s = lag_s
        self._outlook.see((seen.frame.time - EPOCH).total_seconds(), seen.frame.picture)

    def due(self, now_s: float) -> bool:
        """Whether it is time for a picture."""
        return now_s - self._shown_s >= PICTURE_S

    def picture(self, seen: Seen, now_s: float) -> Shown:
        """The frame as it may be shown."""
        self._shown_s = now_s
        boxes = np.concatenate([boxes for _, boxes in self._found])
        blurred = blur_heads(seen.frame.picture, boxes, masks=self._camera.masks)
        return Shown(self._camera.name, seen.frame.time, jpeg_of(blurred))

    def watching(self, state: State, now_s: float) -> Watching:
        """How the camera is doing."""
        while self._looked_s and now_s - self._looked_s[0] > RATE_S:
            self._looked_s.popleft()
        rate = len(self._looked_s) / RATE_S
        if state.phase != "live" or rate >= LEAST_RATE * self._camera.rate:
            self._slow_s = None
        elif self._slow_s is None:
            self._slow_s = now_s
        return Watching(state, rate, self._lag_s if self._looked_s else None, self._fault(rate, now_s))

    def _fault(self, rate: float, now_s: float) -> Fault | None:
        name = self._camera.name
        if self._outlook.state == "moved":
            return Fault("moved", f"{name}: it looks elsewhere than before; was it moved? Its places do not hold")
        if self._outlook.state == "dark":
            return Fault("degraded", f"{name}: its picture is black; is its lens covered, or the light off?")
        if self._slow_s is not None and now_s - self._slow_s >= SLOW_S:
            return Fault("degraded", f"{name}: {rate:.1f} of {self._camera.rate:g} pictures a second are looked at")
        return None


def jpeg_of(picture: UInt8) -> bytes:
    """An RGB picture (height, width, 3) as JPEG, its longer side 960 pixels at most."""
    scale = min(1.0, SHOWN_PX / max(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, packed = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return packed.tobytes()
