"""Live cameras on the loopback, and what goes wrong with them: each comes back, the others go on, and what was lost is counted.

The cameras, and the table of faults, are those of benchmarks/loopback.py and benchmarks/faults.py.
"""

import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.types import VideoError
from passerby.vision.readers import Playing, Readers, Source, Steady, is_live, latest, masked
from passerby.vision.video import Live

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from faults import WELL, watch
from loopback import LARGE, SMALL, HttpCamera, RtspCamera, Transport, faults, has_rtsp

PATIENCE_S = 60.0  # a limit for what takes a second or two; nothing here is timed


@pytest.fixture
def http():
    """Makes cameras that are ended with the test."""
    made = []

    def make(kind, **settings):
        made.append(HttpCamera(kind, **settings))
        return made[-1]

    yield make
    for camera in made:
        camera.fault = None
        camera.down()


@pytest.fixture(scope="session")
def rtsp():
    """Makes cameras that are ended with the session; the test is skipped where there is no server for them."""
    if not has_rtsp():
        pytest.skip("needs GStreamer's RTSP server for the system's Python: scripts/check installs it where it may")
    made = []

    def make(**settings):
        made.append(RtspCamera(**settings))
        return made[-1]

    yield make
    for camera in made:
        camera.down()


def look(readers, until, *, longest_s=PATIENCE_S):
    """All frames until a condition holds, which has to be within some time."""
    found, end_s = [], time.monotonic() + longest_s
    while not until(found):
        assert time.monotonic() < end_s, readers.states()
        found += readers.newest(timeout_s=0.2)
    return found


def seconds(frames):
    return [frame.time.timestamp() for frame in frames]


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    return [
        int(child) for path in Path(f"/proc/{process}/task").glob("*/children") for child in path.read_text().split()
    ]


def readers_of(process: int) -> list[int]:
    return [child for child in children(process) if b"passerby.vision.readers" in command_line(child)]


def command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def test_frames_come_with_their_camera_and_the_time_of_their_arrival(http):
    camera = http("mjpeg")
    with Readers({"door": Source(camera.address)}) as readers:
        began = time.time()
        frames = look(readers, lambda found: len(found) >= 5)
        state = readers.states()["door"]
    assert {frame.camera for frame in frames} == {"door"}
    assert {frame.picture.shape for frame in frames} == {(240, 320, 3)}
    assert frames[0].time.tzinfo is UTC
    times = seconds(frames)
    assert began < times[0] < times[-1] < time.time()
    assert all(a < b for a, b in pairwise(times))
    assert len({frame.picture[0, 0, 0] for frame in frames}) > 1  # the picture moves
    assert (state.phase, state.reason, state.clock) == ("live", "door: live", "arrival")
    assert state.frames >= 5
    assert state.newest is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mpegts", "hls"])
def test_other_streams_are_read_alike(http, kind):
    camera = http(kind)
    with Readers({"door": Source(camera.address)}) as readers:
        frames = look(readers, lambda found: len(found) >= 15)
    assert frames[0].picture.shape == (240, 320, 3)
    assert abs(frames[-1].time.timestamp() - time.time()) < 5
    steps = np.diff(seconds(frames))
    assert (steps > 0).all()
    assert np.median(steps) == pytest.approx(0.2, abs=0.1)  # five a second, although HLS comes in lumps of a second


@pytest.mark.slow
def test_a_camera_that_tells_the_time_is_believed(rtsp):
    camera = rtsp()
    with Readers({"door": Source(camera.address), "late": Source(camera.address, clock_offset_s=100)}) as readers:
        look(readers, lambda found: all(state.clock == "sender" for state in readers.states().values()))
        last = {
            frame.camera: frame.time.timestamp()
            for frame in look(readers, lambda found: len({f.camera for f in found}) == 2)
        }
    assert abs(last["door"] - time.time()) < 5
    assert last["late"] - last["door"] == pytest.approx(-100, abs=5)


@pytest.mark.slow
def test_no_more_frames_than_asked_for(http):
    camera = http("mjpeg", fps=30)
    with Readers({"door": Source(camera.address, rate=4)}) as readers:
        frames = look(readers, lambda found: len(found) >= 10)
    elapsed_s = seconds(frames)[-1] - seconds(frames)[0]
    assert len(frames) <= 4 * elapsed_s + 2


def test_the_newest_frame_wins_and_the_others_are_counted(http):
    camera = http("mjpeg")
    with Readers({"door": Source(camera.address)}) as readers:
        look(readers, lambda found: len(found) >= 1)
        end_s = time.monotonic() + PATIENCE_S
        while readers.states()["door"].frames < 10:  # nobody takes any
            assert time.monotonic() < end_s
            time.sleep(0.1)
        (frame,) = readers.newest(timeout_s=0.0)
        state = readers.states()["door"]
    assert state.dropped >= 8
    assert abs((state.newest - frame.time).total_seconds()) < 2


@pytest.mark.slow
def test_a_declared_rate_is_not_believed(http):
    camera = http("mpegts", fps=10, declared_fps=25)  # its stamps pass 2.5 times too slowly
    with Readers({"door": Source(camera.address, rate=30)}) as readers:
        frames = look(readers, lambda found: len(found) >= 20)
    assert np.median(np.diff(seconds(frames))) == pytest.approx(0.1, abs=0.04)


@pytest.fixture(scope="module")
def seen():
    """What a viewer sees while every fault happens at once, for 5 s, each to a camera of its own."""
    return watch(outage_s=5.0, wait_scale=0.2, rtsp=has_rtsp())


@pytest.mark.slow
@pytest.mark.parametrize("fault", faults(rtsp=True))
def test_a_camera_comes_back_after(seen, fault):
    if fault not in seen:
        pytest.skip("needs GStreamer's RTSP server for the system's Python")
    mine = seen[fault]
    assert mine.recovered_s is not None
    assert mine.state.phase == "live"
    times = seconds(mine.frames)
    assert all(a < b for a, b in pairwise(times))
    if fault.startswith(("drops", "hangs", "sends")) and "hls" not in fault:
        assert mine.state.reconnects >= 1
        assert mine.state.lost_s > 3
        assert mine.during != "live"
    if fault.startswith("drops"):
        assert "nothing answers at the camera's address" in mine.during
    if fault.startswith("changes resolution"):
        assert mine.sizes[0] == SMALL
        assert mine.sizes[-1] == LARGE
    if fault.startswith("jumps"):
        assert mine.state.jumps == 1
        assert mine.state.lost_s < 8  # it need not connect again


@pytest.mark.slow
def test_no_other_camera_stalls(seen):
    for name in WELL:
        assert seen[name].longest_gap_s() < 5  # as long as the faults last
        assert seen[name].state.phase == "live"
        assert seen[name].state.jumps == 0


@pytest.mark.slow
def test_a_reader_that_hangs_is_killed_and_another_one_started(http):
    cameras = {name: http("mjpeg") for name in ("door", "till")}
    with Readers({n: Source(c.address) for n, c in cameras.items()}, stall_s=3.0) as readers:
        look(readers, lambda found: {frame.camera for frame in found} == {"door", "till"})
        door = next(child for child in readers_of(os.getpid()) if command_line(child).endswith(b"door\0"))
        os.kill(door, signal.SIGSTOP)  # as if it were stuck in C code
        look(readers, lambda found: readers.states()["door"].phase == "stalled")
        assert "door: no frame for" in readers.states()["door"].reason
        look(readers, lambda found: readers.states()["door"].reconnects == 1)
        assert door not in readers_of(os.getpid())
        states = readers.states()
    assert states["door"].lost_s > 3
    assert (states["till"].reconnects, states["till"].lost_s) == (0, 0.0)


@pytest.mark.slow
def test_a_camera_that_never_answers_is_a_state_with_a_reason(http):
    camera = http("mjpeg")
    camera.fault = "hang"
    with Readers({"door": Source(camera.address)}, start_s=1.0, stall_s=3.0) as readers:
        look(readers, lambda found: readers.states()["door"].phase == "failed")
        assert readers.states()["door"].reason == "door: no picture within 1 s; trying again"
        camera.fault = None
        look(readers, lambda found: len(found) >= 1)
        assert readers.states()["door"].phase == "live"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (401, "the camera refuses the user name or the password"),
        (404, "the camera has no stream under this address"),
        (503, "the camera reports an error of its own"),
    ],
)
def test_a_stream_that_cannot_start_says_why(http, answer, reason):
    camera = http("mjpeg", answer=answer)
    with Readers({"door": Source(camera.address)}, wait_scale=0.1) as readers:
        look(readers, lambda found: readers.states()["door"].phase == "failed")
        assert readers.states()["door"].reason == f"door: {reason}; trying again"
        camera.answer = 200
        look(readers, lambda found: len(found) >= 1)
        assert readers.states()["door"].reason == "door: live"


@pytest.mark.slow
def test_what_is_no_video_is_soon_known_for_it(http):
    camera = http("mpegts")
    camera.fault = "garbage"
    with Readers({"door": Source(camera.address)}) as readers:
        look(readers, lambda found: readers.states()["door"].phase == "failed")
        assert readers.states()["door"].reason == "door: what it sends is no video; trying again"
        camera.fault = None
        look(readers, lambda found: len(found) >= 1)


def test_a_webcam_that_is_not_there_says_so():
    with Readers({"till": Source("/dev/video97")}) as readers:
        look(readers, lambda found: readers.states()["till"].phase == "failed")
        assert "no such device; is it plugged in?" in readers.states()["till"].reason


@pytest.mark.slow
@pytest.mark.parametrize("most", [100, 1])
def test_a_reader_is_replaced_after_a_while(http, most):
    camera = http("mjpeg", most=most)  # with 1 the new reader can come only when the old one is gone
    with Readers({"door": Source(camera.address)}, recycle_s=1.0, wait_scale=0.1) as readers:
        used = set()

        def three(found):
            used.update(readers_of(os.getpid()))
            return len(used) >= 3 and len(found) >= 15

        frames = look(readers, three)
        state = readers.states()["door"]
    times = seconds(frames)
    assert all(a < b for a, b in pairwise(times))
    assert max(np.diff(times)) < 5
    assert state.jumps == 0
    if most > 1:
        assert (state.reconnects, state.lost_s) == (0, 0.0)


@pytest.mark.slow
def test_a_password_is_shown_nowhere(rtsp, capfd):
    camera = rtsp(password="open-sesame")
    address = camera.address.replace("rtsp://", "rtsp://shop:open-sesame@")
    source = Source(address)
    with Readers({"door": source, "wrong": Source(address.replace("open-", "shut-"))}, wait_scale=0.1) as readers:
        look(readers, lambda found: len(found) >= 1 and readers.states()["wrong"].phase == "failed")
        states = readers.states()
        lines = b"".join(command_line(child) for child in readers_of(os.getpid()))
    assert states["wrong"].reason == "wrong: the camera refuses the user name or the password; trying again"
    printed = "".join(capfd.readouterr())
    for text in (repr(states), repr(source), source.shown, repr(readers), lines.decode(), printed):
        assert "sesame" not in text
    assert b"passerby.vision.readers" in lines
    with pytest.raises(VideoError) as caught:
        latest(address.replace("open-", "shut-"), timeout_s=3.0)
    assert "sesame" not in str(caught.value)
    assert "***@127.0.0.1" in str(caught.value)


def test_what_may_be_secret_of_an_address_is_masked():
    assert masked("rtsp://a:b@c@10.0.0.7/x") == "rtsp://***@10.0.0.7/x"
    assert masked("http://10.0.0.7/cgi/mjpg?user=a&pwd=b") == "http://10.0.0.7/cgi/mjpg?***"
    assert masked("rtsp://10.0.0.7/user=admin_password=x_channel=1.sdp") == "rtsp://10.0.0.7/***"
    assert masked("/dev/video0") == "/dev/video0"
    assert masked("rtsp://a:b/c?d@10.0.0.7:554/x") == "rtsp://***@10.0.0.7:554/x"
    with pytest.raises(VideoError, match=r"camera at \*\*\*@10.0.0.7/x: expected an address"):
        Source("admin:secret@10.0.0.7/x")


def test_a_file_is_no_live_source():
    assert [
        is_live(s) for s in ("rtsp://a/b", "https://a/b.m3u8", "/dev/video2", "a.mp4", "/dev/shm/a.mp4", "film")
    ] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    with pytest.raises(VideoError, match="expected an address"):
        Source("a.mp4")
    with pytest.raises(VideoError, match="0 to 100 frames a second"):
        Source("rtsp://a:secret@b", rate=0)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_reader_outlives_the_program(http, tmp_path, how):
    camera = http("mjpeg")
    script = tmp_path / "follow.py"
    script.write_text(
        "import signal\n"
        "from passerby.vision.readers import Readers, Source\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # as in a terminal: what a shell begins with & ignores it
        f"with Readers({{'a': Source({camera.address!r}), 'b': Source({camera.address!r})}}) as readers:\n"
        "    seen = set()\n"
        "    while True:\n"
        "        seen |= {frame.camera for frame in readers.newest(timeout_s=1.0)}\n"
        "        if len(seen) == 2:\n"
        "            print('live', flush=True)\n"
        "            seen = set()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "live\n"
        started = readers_of(program.pid)
        assert len(started) == 2
        for reader in started:  # none of them is interrupted on its own
            blocked = re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/{reader}/status").read_text())
            assert int(blocked[1], 16) & 1 << signal.SIGINT - 1
        if how == signal.SIGINT:
            os.killpg(program.pid, how)  # a terminal sends Ctrl-C to all of them
        else:
            program.send_signal(how)
        _, errors = program.communicate(timeout=PATIENCE_S)
    end_s = time.monotonic() + PATIENCE_S
    while any(b"passerby.vision.readers" in command_line(child) for child in started):
        assert time.monotonic() < end_s
        time.sleep(0.1)
    assert errors.count("Traceback") == (how == signal.SIGINT)  # the program's own KeyboardInterrupt


def files() -> int:
    """How many files and connections this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_closing_leaves_nothing(http):
    camera = http("mjpeg")
    before = (readers_of(os.getpid()), files())
    for _ in range(2):
        with Readers({"door": Source(camera.address)}) as readers:
            look(readers, lambda found: len(found) >= 1)
        readers.close()
        assert readers.newest(timeout_s=0.0) == []
    assert readers_of(os.getpid()) == before[0] == []
    assert files() <= before[1] + 2  # of the camera's own connections
    assert not list(Path("/dev/shm").glob("*passerby*"))


@pytest.mark.slow
def test_one_picture_of_a_source(http, tmp_path):
    camera = http("mjpeg")
    assert latest(camera.address).shape == (240, 320, 3)
    encoder = Transport(SMALL)
    (tmp_path / "film.ts").write_bytes(b"".join(encoder.frame(n, n / 10) for n in range(5)) + encoder.end())
    picture = latest(tmp_path / "film.ts")
    assert picture.shape == (240, 320, 3)
    assert picture[0, 0, 0] < 5  # the first one
    camera.down()
    with pytest.raises(VideoError, match=r"no picture within 2 s \(camera: nothing answers"):
        latest(camera.address, timeout_s=2.0)


@pytest.mark.slow
def test_a_slow_viewer_sees_the_present(http):
    camera = http("mpegts")
    began_s = time.monotonic()
    live = Live(camera.address, rate=100, now=time.monotonic)  # every frame, and half a second for each
    shots = live.shots()
    while time.monotonic() < began_s + 8:
        shot = next(shots)
        time.sleep(0.5)
    age_s = time.monotonic() - began_s - (shot.stamp_s - 100)  # the camera's stamps begin with 100 s
    assert age_s < 5  # after 8 s it would be more than 6 s old


def test_times_rise_whatever_the_clock_does():
    steady = Steady()
    assert [steady.time(100.0, 0.0), steady.time(100.2, 0.2)] == [100.0, 100.2]
    assert steady.time(40.4, 0.4) == pytest.approx(100.4)  # a minute back: what passed is believed
    assert steady.jumps == 1
    assert steady.time(50.4, 10.4) == pytest.approx(109.4)  # then a tenth slower, until the clock has caught up
    assert steady.time(640.4, 600.4) == pytest.approx(640.4)
    assert steady.time(640.3, 600.6) == pytest.approx(640.6)  # a step back of less than a second is not counted
    assert steady.time(4000.0, 600.8) == 4000.0  # forwards it follows
    assert steady.jumps == 1


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0.01, 10)), min_size=2))
def test_times_rise_with_any_clock(shown):
    steady, passing_s, times = Steady(), 0.0, []
    for clock_s, elapsed_s in shown:
        passing_s += elapsed_s
        times.append(steady.time(1.7e9 + clock_s, passing_s))
    assert all(a < b for a, b in pairwise(times))


def test_frames_that_come_in_lumps_are_played_as_far_apart_as_their_stamps():
    playing = Playing()
    assert [playing.due_s(stamp, 100.0) for stamp in (7.0, 7.2, 7.4)] == pytest.approx([100.0, 100.2, 100.4])
    assert playing.due_s(13.4, 101.0) == pytest.approx(106.4)  # a gap of six seconds is one
    assert playing.due_s(13.6, 108.0) == pytest.approx(108.0)  # late: from here on later
    assert playing.due_s(13.8, 108.0) == pytest.approx(108.2)
    assert playing.due_s(2.0, 109.0) == pytest.approx(109.0)  # stamps that begin again
    assert playing.due_s(500.0, 109.2) == pytest.approx(109.2)
