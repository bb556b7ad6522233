"""A camera over RTSP, by GStreamer's server library; run by the system's Python, which has it (see loopback.py).

    /usr/bin/python3 benchmarks/rtsp_camera.py PORT WIDTH HEIGHT FPS [PASSWORD]

Port 0 takes a free one; the port is printed. With a password, the user is "shop". `--check` only says whether it could.
"""

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
    """Serve until killed."""
    Gst.init(None)
    if sys.argv[1:] == ["--check"]:
        raise SystemExit(0 if all(map(Gst.ElementFactory.find, ("videotestsrc", "x264enc", "rtph264pay"))) else 1)
    port, *size, fps = sys.argv[1:5]
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE.format(*size, fps))
    factory.set_shared(True)
    if sys.argv[5:]:
        auth, role = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
        role.set_string("media.factory.role", "user")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic("shop", sys.argv[5]), role)
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
