"""A camera over RTSP, by GStreamer's server library; run by the system's Python, which has it (see loopback.py).

    /usr/bin/python3 benchmarks/rtsp_camera.py PORT WIDTH HEIGHT FPS [PASSWORD]

Port 0 takes a free one; the port is printed. With a password, the user is "shop". `--check` only says whether it could.

The library aborts now and then when two viewers come at once ("assertion failed" in gst_rtsp_media_get_rates): what serves is a
child of its own (`--serve`), begun anew at the same port when it dies by itself.
"""

import subprocess
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width={},height={},framerate={}/1 ! x264enc tune=zerolatency "
    "speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


def main() -> None:
    """Serve until killed, with all of the process group."""
    if sys.argv[1:] == ["--check"]:
        Gst.init(None)
        raise SystemExit(0 if all(map(Gst.ElementFactory.find, ("videotestsrc", "x264enc", "rtph264pay"))) else 1)
    if sys.argv[1] == "--serve":
        return serve(*sys.argv[2:])
    port, *others = sys.argv[1:]
    told = False
    while True:
        command = [sys.executable, __file__, "--serve", port, *others]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            if not port:
                raise SystemExit(server.wait() or 1)
            if not told:
                print(port, flush=True)
                told = True


def serve(port: str, width: str, height: str, fps: str, password: str | None = None) -> None:
    """Serve at the port, and print it."""
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE.format(width, height, fps))
    factory.set_shared(True)
    if password:
        auth, role = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
        role.set_string("media.factory.role", "user")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic("shop", password), role)
        server.set_auth(auth)
        factory.add_role_from_structure(
            Gst.Structure.from_string("user,media.factory.access=true,media.factory.construct=true")[0]
        )
    server.get_mount_points().add_factory("/stream", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
