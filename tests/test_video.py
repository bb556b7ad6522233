"""Video files and folders of pictures become frames with times; clips are written with and without an H.264 encoder."""

import math
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.types import VideoError
from passerby.vision import video
from passerby.vision.video import ClipWriter, frames, timed_pictures

BEGINS = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)


def shade(number: int) -> int:
    return 20 * (number % 12) + 10


def clip(
    path: Path,
    times_s: list[float],
    *,
    codec: str = "libx264",
    created: str | None = None,
    declared_fps: int = 25,
    turned: int = 0,
    **options: str,
) -> Path:
    """A video of frames of one colour each, of the shades 10, 30, 50 ... by their number, at these times."""
    with av.open(str(path), "w") as file:
        if created:
            file.metadata["creation_time"] = created
        stream = file.add_stream(codec, rate=declared_fps, options=options)
        stream.width, stream.height = 64, 32
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if turned:
            stream.set_display_rotation(turned)
        if path.suffix != ".avi":  # which has no other times than those of its rate
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for number, at_s in enumerate(times_s):
            picture = np.full((32, 64, 3), shade(number), np.uint8)
            picture[:16, :16] = 255  # the corner by which one sees how it is turned
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * at_s), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def seconds(reading) -> list[float]:
    return [round((frame.time - BEGINS).total_seconds(), 3) for frame in reading]


def test_a_frame_has_its_camera_its_picture_and_the_time_of_its_own_stamp(tmp_path):
    times = [0.0, 0.1, 0.5, 0.6, 2.0]  # as no rate could have them
    path = clip(tmp_path / "a.mp4", times, declared_fps=60)
    read = list(frames(path, camera="door", begins=BEGINS))
    assert [frame.camera for frame in read] == ["door"] * 5
    assert seconds(read) == times
    assert [round(frame.picture[20:, 20:].mean() / 20 - 0.5) for frame in read] == [0, 1, 2, 3, 4]
    assert read[0].picture.shape == (32, 64, 3)


@pytest.mark.parametrize(
    ("ending", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4"), ("ts", "libx264")]
)
def test_time_counts_from_the_files_start_in_every_container(tmp_path, ending, codec):
    path = clip(tmp_path / f"a.{ending}", [n / 10 for n in range(20)], codec=codec, declared_fps=10)
    np.testing.assert_allclose(
        seconds(frames(path, camera="a", begins=BEGINS)), [n / 10 for n in range(20)], atol=0.002
    )


def test_a_file_that_says_when_it_began_needs_nobody_else_to_say_it(tmp_path):
    path = clip(tmp_path / "a.mp4", [0.0, 0.5], created="2026-03-01T11:00:00+01:00")
    assert frames(path, camera="a").begins == BEGINS
    assert seconds(frames(path, camera="a")) == [0.0, 0.5]
    east = timezone(timedelta(hours=5))
    assert frames(path, camera="a", begins=datetime(2026, 3, 1, 15, 0, tzinfo=east)).begins == BEGINS
    with pytest.raises(VideoError, match="with its zone"):
        frames(path, camera="a", begins=datetime(2026, 3, 1))


@pytest.mark.parametrize("created", [None, "1970-01-01T00:00:00Z"])
def test_a_file_that_does_not_say_when_it_began_is_refused_with_what_to_do(tmp_path, created):
    path = clip(tmp_path / "a.mkv", [0.0, 0.5], created=created)
    with pytest.raises(VideoError, match="say when it begins"):
        frames(path, camera="a")


@pytest.mark.parametrize(
    ("fps", "rate", "expected"),
    [
        (25, 5, [0.0, 0.2, 0.4, 0.6, 0.8]),
        (12, 5, [0.0, 0.25, 0.417, 0.667, 0.833]),  # five a second, though no rate of 12 is 5
        (30, 15, [n / 15 for n in range(15)]),  # stamps of whole milliseconds are rounded down
        (5, 25, [0.0, 0.2, 0.4, 0.6, 0.8]),  # nothing is made up
    ],
)
@pytest.mark.parametrize(("codec", "options"), [("libx264", {"bf": "3"}), ("libx264", {"bf": "0"}), ("mjpeg", {})])
def test_a_rate_chooses_frames_by_their_times(tmp_path, fps, rate, expected, codec, options):
    path = clip(tmp_path / "a.mkv", [n / fps for n in range(fps)], codec=codec, **options)
    every = {round(frame.time.timestamp(), 3): frame.picture for frame in frames(path, camera="a", begins=BEGINS)}
    chosen = list(frames(path, camera="a", begins=BEGINS, rate=rate))
    np.testing.assert_allclose(seconds(chosen), expected, atol=0.0015)
    for frame in chosen:  # frames left undecoded on the way change nothing in those that are wanted
        np.testing.assert_array_equal(frame.picture, every[round(frame.time.timestamp(), 3)])


@pytest.mark.parametrize("threads", [1, 2])
def test_real_films_give_the_same_pictures_at_a_rate_as_without(shared, threads):
    path = shared / "tracking" / "tud_stadtmitte" / "video.mp4"
    every = {frame.time: frame.picture for frame in frames(path, camera="a", begins=BEGINS)}
    assert len(every) == 179
    reading = frames(path, camera="a", begins=BEGINS, rate=5, threads=threads)
    chosen = list(reading)
    assert len(chosen) == 36
    assert (reading.seen, reading.skipped, reading.jumps, reading.duration_s) == (179, 0, 0, 7.16)
    for frame in chosen:
        np.testing.assert_array_equal(frame.picture, every[frame.time])


@given(st.lists(st.integers(0, 4000), unique=True, min_size=1), st.floats(0.5, 30))
def test_no_frame_that_is_chosen_is_left_undecoded(stamps_ms, rate):
    pace, times = video.Pace(rate), [ms / 1000 for ms in stamps_ms]
    decoded = [at_s for at_s in times if not pace.is_waste(at_s)]  # in any order, as packets come
    chosen = [at_s for at_s in sorted(times) if pace.wants(at_s)]
    assert set(chosen) <= set(decoded)
    steps = [math.floor((at_s + video.SLACK_S) * rate) for at_s in sorted(times)]
    assert len(chosen) == len(set(steps))


def test_corrupt_packets_are_counted_and_skipped(tmp_path):
    path = clip(tmp_path / "a.avi", [n / 25 for n in range(50)], codec="mjpeg")
    data = bytearray(path.read_bytes())
    starts = [at for at in range(len(data) - 3) if data[at : at + 3] == b"\xff\xd8\xff"]
    for number in (3, 4, 30):
        data[starts[number] : starts[number] + 580] = bytes(580)
    path.write_bytes(data)
    reading = frames(path, camera="a", begins=BEGINS)
    times = seconds(reading)
    assert times == [n / 25 for n in range(50) if n not in (3, 4, 30)]
    assert (reading.seen, reading.skipped) == (50, 3)


def test_a_damaged_h264_film_gives_what_is_whole_of_it(tmp_path):
    path = clip(tmp_path / "a.ts", [n / 25 for n in range(250)], g="10")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = np.random.default_rng(0).bytes(4000)
    path.write_bytes(data)
    reading = frames(path, camera="a", begins=BEGINS)
    times = seconds(reading)
    assert 150 < len(times) < 250
    assert times == sorted(set(times))
    assert times[-1] == pytest.approx(9.96, abs=0.05)
    assert reading.skipped > 0


def test_time_that_jumps_back_goes_on_and_is_counted(tmp_path):
    path = tmp_path / "two.ts"  # one recording after another in one file
    first, second = (clip(tmp_path / name, [n / 10 for n in range(20)], bf="0") for name in ("a.ts", "b.ts"))
    path.write_bytes(first.read_bytes() + second.read_bytes())
    reading = frames(path, camera="a", begins=BEGINS)
    np.testing.assert_allclose(seconds(reading), [n / 10 for n in range(40)], atol=0.002)
    assert reading.jumps == 1
    reading = frames(path, camera="a", begins=BEGINS, rate=5)
    np.testing.assert_allclose(seconds(reading), [n / 5 for n in range(20)], atol=0.002)


def test_of_frames_with_one_time_stamp_the_first_is_taken(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuvj420p"
        for number, pts in enumerate((0, 100, 100, 200)):
            picture = np.full((32, 64, 3), shade(number), np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                packet.pts = packet.dts = pts
                packet.time_base = Fraction(1, 1000)
                file.mux(packet)
    reading = frames(path, camera="a", begins=BEGINS)
    read = list(reading)
    assert seconds(read) == [0.0, 0.1, 0.2]
    assert [round(frame.picture.mean() / 20 - 0.5) for frame in read] == [0, 1, 3]
    assert (reading.seen, reading.skipped) == (4, 1)


def test_a_bare_stream_without_time_stamps_is_refused_with_what_to_do(tmp_path):
    path = clip(tmp_path / "a.h264", [n / 25 for n in range(50)])
    with pytest.raises(VideoError, match="ffmpeg -framerate"):
        list(frames(path, camera="a", begins=BEGINS))


@pytest.mark.parametrize(("turned", "corner"), [(90, (-1, 0)), (-90, (0, -1)), (180, (-1, -1))])
def test_a_picture_stands_as_its_file_says(tmp_path, turned, corner):
    path = clip(tmp_path / "a.mp4", [0.0, 0.1], turned=turned)
    picture = next(frames(path, camera="a", begins=BEGINS)).picture
    assert picture.shape == ((32, 64, 3) if turned == 180 else (64, 32, 3))
    blocks = {at: picture[at[0] * 8 : at[0] * 8 + 8 or None, at[1] * 8 : at[1] * 8 + 8 or None] for at in [corner]}
    assert blocks[corner].mean() > 240


def test_progress_ends_with_the_file(tmp_path):
    path = clip(tmp_path / "a.mp4", [n / 10 for n in range(20)], declared_fps=10)
    calls = []
    list(frames(path, camera="a", begins=BEGINS, progress=lambda done, total: calls.append((done, total))))
    assert calls[0] == (0, 2000)
    assert calls[-1] == (2000, 2000)
    assert calls == sorted(calls)


def test_a_folder_of_pictures_needs_a_rate_and_a_time(tmp_path):
    for number in (1, 2, 10):  # sorted by number, not "1", "10", "2"
        cv2.imwrite(str(tmp_path / f"frame{number}.png"), np.full((32, 64, 3), number, np.uint8))
    (tmp_path / "frame3.jpg").write_bytes(b"torn")
    (tmp_path / "notes.txt").write_text("no picture")
    reading = frames(tmp_path, camera="a", begins=BEGINS, rate=4)
    read = list(reading)
    assert seconds(read) == [0.0, 0.25, 0.75]
    assert [int(frame.picture[0, 0, 0]) for frame in read] == [1, 2, 10]
    assert (reading.seen, reading.skipped, reading.duration_s) == (4, 1, 1.0)
    for half in ({"begins": BEGINS}, {"rate": 4}):
        with pytest.raises(VideoError, match="names of pictures say no times"):
            frames(tmp_path, camera="a", **half)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="found no picture"):
        frames(tmp_path / "empty", camera="a", begins=BEGINS, rate=4)


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "note.mp4").write_text("no video")
    for name in ("note.mp4", "absent.mp4"):
        with pytest.raises(VideoError, match="cannot be read as a video"):
            frames(tmp_path / name, camera="a", begins=BEGINS)
    path = clip(tmp_path / "a.mp4", [0.0])
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(VideoError, match="frames a second above 0"):
            frames(path, camera="a", begins=BEGINS, rate=rate)


def test_a_clip_holds_its_frames_at_its_rate(tmp_path):
    path = tmp_path / "clip.mp4"
    with ClipWriter(path, width=64, height=32, fps=12.0) as writer:
        for level in range(0, 240, 20):
            writer.write(np.full((32, 64, 3), (level, 0, 0), np.uint8))
    assert writer.path == path
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name == "h264"
        shown = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
        assert float(stream.average_rate) == 12
    assert len(shown) == 12
    reds = [picture[..., 0].mean() for picture in shown]
    np.testing.assert_allclose(reds, range(0, 240, 20), atol=8)
    assert max(picture[..., 2].mean() for picture in shown) < 12  # red stays red
    read = list(timed_pictures(path))
    assert [round(12 * time) for time, _ in read] == list(range(12))
    np.testing.assert_array_equal(np.stack([picture for _, picture in read]), np.stack(shown))


def test_without_an_h264_encoder_a_clip_is_vp9_under_another_name(tmp_path, monkeypatch):
    monkeypatch.setitem(video.ENCODERS, ".mp4", ("no_such_encoder", ".webm"))
    with ClipWriter(tmp_path / "clip.mp4", width=64, height=32, fps=12.0) as writer:
        for level in range(0, 240, 20):
            writer.write(np.full((32, 64, 3), (level, 0, 0), np.uint8))
    assert writer.path == tmp_path / "clip.webm"
    assert [path.name for path in tmp_path.iterdir()] == ["clip.webm"]
    with av.open(str(writer.path)) as file:
        assert file.streams.video[0].codec_context.name.endswith("vp9")
    read = list(timed_pictures(writer.path))
    np.testing.assert_allclose([time for time, _ in read], [n / 12 for n in range(12)], atol=0.001)
    np.testing.assert_allclose([picture[..., 0].mean() for _, picture in read], range(0, 240, 20), atol=8)
    monkeypatch.setitem(video.ENCODERS, ".webm", ("no_such_encoder", None))
    with pytest.raises(VideoError, match="pip install av"):
        ClipWriter(tmp_path / "clip.mp4", width=64, height=32, fps=12.0)


def test_a_wrong_frame_or_place_is_refused(tmp_path):
    with pytest.raises(VideoError, match="even sides"):
        ClipWriter(tmp_path / "a.mp4", width=63, height=32, fps=12.0)
    with pytest.raises(VideoError, match="cannot be written"):
        ClipWriter(tmp_path / "nowhere" / "a.mp4", width=64, height=32, fps=12.0)
    with pytest.raises(VideoError, match="ends in"):
        ClipWriter(tmp_path / "a.gif", width=64, height=32, fps=12.0)
    with ClipWriter(tmp_path / "b.mp4", width=64, height=32, fps=12.0) as writer:
        with pytest.raises(VideoError, match="expected frames"):
            writer.write(np.zeros((64, 32, 3), np.uint8))
        writer.write(np.zeros((32, 64, 3), np.uint8))
