"""Cameras on this machine's loopback whose faults can be set: HTTP (MJPEG, MPEG-TS, HLS) and RTSP, for tests and faults.py."""

import io
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import cv2
import numpy as np

from passerby.types import UInt8

Size = tuple[int, int]  # width, height
SMALL, LARGE = (320, 240), (640, 480)
SEGMENT_S = 1.0  # of HLS
SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's, which has GStreamer
RTSP_SCRIPT = Path(__file__).with_name("rtsp_camera.py")


def picture(number: int, size: Size) -> UInt8:
    """Frame `number`: grey, lighter from one to the next, with a white block that walks."""
    width, height = size
    made = np.full((height, width, 3), 8 * number % 160, np.uint8)
    left = 8 * number % width
    made[height // 4 : height // 2, left : left + 32] = 255
    return made


class HttpCamera:
    """A camera that serves frames over HTTP, at `fps`; its time stamps say `declared_fps` where that is given.

    It answers with the HTTP status `answer`, and serves `most` viewers at a time.

    `fault` "hang" leaves connections open and sends nothing, "garbage" sends random bytes, "gaps" answers that segments of
    HLS are not found. `size` may be changed at any time, and `shift_s`, which is added to time stamps.
    """

    def __init__(
        self,
        kind: str,
        *,
        fps: int = 15,
        declared_fps: int | None = None,
        answer: int = 200,
        most: int = 100,
    ) -> None:
        self.kind, self.fps, self.declared_fps, self.answer, self.most = kind, fps, declared_fps or fps, answer, most
        self.fault: Literal["hang", "garbage", "gaps"] | None = None
        self.size: Size = SMALL
        self.shift_s = 0.0
        self.began_s = time.monotonic()
        self._server: ThreadingHTTPServer | None = None
        self._open: set[socket.socket] = set()
        self._port = 0
        self.up()

    @property
    def address(self) -> str:
        ending = {"mjpeg": "stream.mjpg", "mpegts": "stream.ts", "hls": "live.m3u8"}[self.kind]
        return f"http://127.0.0.1:{self._port}/{ending}"

    def up(self) -> None:
        """Begin to listen, at the same port as before."""
        camera = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                camera._open.add(self.connection)
                with suppress(OSError):  # whoever looked has gone, or the camera is down
                    super().handle()
                camera._open.discard(self.connection)

            def do_GET(self) -> None:
                camera.serve(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self) -> None:
        """Close every connection and stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        while self.fault == "hang":
            time.sleep(0.05)
        if self.answer != 200 or len(self._open) > self.most:
            handler.send_error(self.answer if self.answer != 200 else 503)
        elif self.kind == "hls":
            self._serve_hls(handler)
        else:
            types = {"mjpeg": "multipart/x-mixed-replace; boundary=frame", "mpegts": "video/mp2t"}
            handler.send_response(200)
            handler.send_header("Content-Type", types[self.kind])
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.close_connection = True
            for data in self._parts():
                handler.wfile.write(data)

    def _parts(self) -> Iterator[bytes]:
        """What is sent of each frame, in real time."""
        rng = np.random.default_rng(0)
        made, encoder = (self.size, self.shift_s), Transport(self.size)
        for number in count():
            time.sleep(1 / self.fps)
            while self.fault == "hang":
                time.sleep(0.05)
            if self.fault == "garbage":
                yield rng.bytes(3000)
            elif self.kind == "mjpeg":
                jpeg = jpeg_of(number % 100, self.size)
                yield b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
            else:
                if made != (self.size, self.shift_s):
                    made, encoder = (self.size, self.shift_s), Transport(self.size)
                yield encoder.frame(number, number / self.declared_fps + 100 + self.shift_s)

    def _serve_hls(self, handler: BaseHTTPRequestHandler) -> None:
        age_s = time.monotonic() - self.began_s
        newest = int(age_s / SEGMENT_S) + 2
        name = handler.path.rpartition("/")[2]
        if name.endswith(".m3u8"):
            first = max(newest - 5, 0)
            lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{SEGMENT_S:.0f}"]
            lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
            for number in range(first, newest + 1):
                lines += [f"#EXTINF:{SEGMENT_S:.3f},", f"{number}.ts"]
            body, kind = "\n".join([*lines, ""]).encode(), "application/vnd.apple.mpegurl"
        elif self.fault == "gaps":
            handler.send_error(404)
            return
        else:
            body, kind = segment(int(name.removesuffix(".ts")), self.fps, self.size, self.shift_s), "video/mp2t"
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


class Transport:
    """Encodes frames as an MPEG transport stream, with a key frame each second or so."""

    def __init__(self, size: Size, *, key_every: int = 15) -> None:
        self.size = size
        self._out = io.BytesIO()
        self._file = av.open(_Pipe(self._out), "w", format="mpegts", options={"flush_packets": "1"})
        stream = self._file.add_stream(
            "libx264", rate=25, options={"preset": "ultrafast", "tune": "zerolatency", "g": str(key_every)}
        )
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 90000)
        self._stream = stream

    def frame(self, number: int, at_s: float) -> bytes:
        """The bytes of one more frame."""
        frame = av.VideoFrame.from_ndarray(picture(number, self.size), format="rgb24")
        frame.pts, frame.time_base = round(90000 * at_s), Fraction(1, 90000)
        self._file.mux(self._stream.encode(frame))
        return self._taken()

    def end(self) -> bytes:
        """The bytes that are left."""
        self._file.mux(self._stream.encode(None))
        self._file.close()
        return self._taken()

    def _taken(self) -> bytes:
        data = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return data


class _Pipe:
    """Writes only, so that nothing is sought for."""

    def __init__(self, out: io.BytesIO) -> None:
        self.write = out.write


@lru_cache(maxsize=1000)
def jpeg_of(number: int, size: Size) -> bytes:
    """Frame `number` as a JPEG."""
    return bytes(cv2.imencode(".jpg", picture(number, size))[1].tobytes())


@lru_cache(maxsize=20)
def segment(number: int, fps: int, size: Size, shift_s: float) -> bytes:
    """One second of HLS."""
    encoder = Transport(size)
    frames = range(round(number * SEGMENT_S * fps), round((number + 1) * SEGMENT_S * fps))
    return b"".join([encoder.frame(frame, frame / fps + 100 + shift_s) for frame in frames]) + encoder.end()


def has_rtsp() -> bool:
    """Whether the system's Python has GStreamer's RTSP server."""
    if not Path(SYSTEM_PYTHON).exists():
        return False
    return (
        subprocess.run([SYSTEM_PYTHON, str(RTSP_SCRIPT), "--check"], capture_output=True, check=False).returncode == 0
    )


class RtspCamera:
    """A camera that serves H.264 over RTSP, as a process of GStreamer's; with a password where one is given."""

    def __init__(self, *, size: Size = SMALL, fps: int = 15, password: str | None = None) -> None:
        self.size, self.fps, self.password = size, fps, password
        self._port = "0"
        self._process: subprocess.Popen[str] | None = None
        self.up()

    @property
    def address(self) -> str:
        return f"rtsp://127.0.0.1:{self._port}/stream"

    def up(self) -> None:
        """Begin to listen, at the same port as before."""
        width, height = self.size
        command = [SYSTEM_PYTHON, str(RTSP_SCRIPT), self._port, str(width), str(height), str(self.fps)]
        self._process = subprocess.Popen(
            [*command, *([self.password] if self.password else [])],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._port = self._process.stdout.readline().strip()

    def down(self) -> None:
        """End, as if the cable had been pulled out of the wall."""
        if self._process is not None:
            self._send(signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def hang(self) -> None:
        """Stop, with every connection open."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        """Go on after `hang`."""
        self._send(signal.SIGCONT)

    def _send(self, what: signal.Signals) -> None:
        """To the process and to the child that serves."""
        assert self._process is not None
        os.killpg(self._process.pid, what)


class Fault(NamedTuple):
    """Something that goes wrong: a camera, what begins it and what ends it."""

    make: Callable[[], HttpCamera | RtspCamera]
    begin: Callable[[Any], None]  # of the kind that `make` makes
    end: Callable[[Any], None]


def faults(*, rtsp: bool) -> dict[str, Fault]:
    """Each fault by its name; those of RTSP only with `rtsp`."""

    def sets(**what: object) -> Callable[[Any], None]:
        def setting(camera: HttpCamera | RtspCamera) -> None:
            for name, value in what.items():
                setattr(camera, name, value)

        return setting

    found = {
        f"drops, {kind}": Fault(partial(HttpCamera, kind), HttpCamera.down, HttpCamera.up)
        for kind in ("mjpeg", "mpegts", "hls")
    }
    for fault, begin, end in (
        ("hangs without closing", sets(fault="hang"), sets(fault=None)),
        ("sends garbage", sets(fault="garbage"), sets(fault=None)),
        ("changes resolution", sets(size=LARGE), sets()),
    ):
        found |= {f"{fault}, {kind}": Fault(partial(HttpCamera, kind), begin, end) for kind in ("mjpeg", "mpegts")}
    for kind in ("mpegts", "hls"):
        found[f"jumps back in time, {kind}"] = Fault(partial(HttpCamera, kind), sets(shift_s=-30.0), sets())
    found["gaps, hls"] = Fault(partial(HttpCamera, "hls"), sets(fault="gaps"), sets(fault=None))
    if rtsp:
        found["drops, rtsp"] = Fault(RtspCamera, RtspCamera.down, RtspCamera.up)
        found["hangs without closing, rtsp"] = Fault(RtspCamera, RtspCamera.hang, RtspCamera.go_on)
    return found
