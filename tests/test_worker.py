"""The vision worker: recordings played as live cameras, what of a picture leaves the process, and what is said of cameras."""

from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest

from passerby.shop import Detections, Frame
from passerby.site import Camera, Site
from passerby.types import PasserbyError, VideoError
from passerby.vision.pipeline import Seen
from passerby.vision.playing import BETWEEN_S, Played
from passerby.vision.readers import State
from passerby.vision.track import Tracked
from passerby.vision.video import ClipWriter
from passerby.vision.worker import Task, View, opened

FILMED = datetime(2026, 3, 2, 10, tzinfo=UTC)
BEGINS = datetime(2026, 11, 26, 9, tzinfo=UTC)


def filmed(folder, seconds, *, name="door", fps=2):
    with ClipWriter(folder / f"{name}.mp4", width=64, height=48, fps=fps) as clip:
        for number in range(seconds * fps):
            clip.write(np.full((48, 64, 3), 10 * number % 250, np.uint8))
    return Camera(name, f"{name}.mp4", begins=FILMED)


def site_of(folder, *cameras):
    site = Site("shop", cameras)
    object.__setattr__(site, "folder", folder)
    return site


class Passing:
    """A clock that passes as it is told to."""

    def __init__(self):
        self.s = 100.0

    def __call__(self):
        return self.s


def second(frame):
    return (frame.time - BEGINS).total_seconds()


def test_recordings_are_played_no_faster_than_they_were_filmed_and_dated_from_now_on(tmp_path):
    passing = Passing()
    site = site_of(tmp_path, filmed(tmp_path, 2), filmed(tmp_path, 1, name="till"))
    with Played(site, begins=BEGINS, passing=passing) as played:
        assert [(f.camera, second(f)) for f in played.newest(timeout_s=0)] == [("door", 0.0), ("till", 0.0)]
        assert played.newest(timeout_s=0) == []  # half a second early
        passing.s += 0.5
        assert [(f.camera, second(f)) for f in played.newest(timeout_s=0)] == [("door", 0.5), ("till", 0.5)]
        passing.s += 10  # whoever looks is slow: nothing is left out
        assert [second(f) for f in played.newest(timeout_s=0)] == [1.0]
        assert played.states()["door"].reason == "door: a recording is played"
        assert [second(f) for f in played.newest(timeout_s=0)] == [1.5]
        assert not played.ended
        assert played.newest(timeout_s=0) == []
        assert played.ended
        assert played.states()["till"].frames == 2
        assert played.states()["till"].reason == "till: its recording has ended"


def test_recordings_that_are_looped_begin_again_after_a_pause_and_at_the_present(tmp_path):
    passing = Passing()
    with Played(site_of(tmp_path, filmed(tmp_path, 1)), begins=BEGINS, loop=True, passing=passing) as played:
        passing.s += 1
        assert [second(played.newest(timeout_s=0)[0]) for _ in range(2)] == [0.0, 0.5]
        assert played.newest(timeout_s=0) == []
        passing.s += BETWEEN_S
        assert second(played.newest(timeout_s=0)[0]) == 0.5 + BETWEEN_S
        passing.s += 3600  # it was held up for an hour
        assert second(played.newest(timeout_s=0)[0]) == 1.0 + BETWEEN_S
        assert second(played.newest(timeout_s=0)[0]) == pytest.approx(1 + BETWEEN_S + 3600)


def test_a_recording_that_is_not_there_is_named(tmp_path):
    with (
        Played(site_of(tmp_path, Camera("door", "none.mp4", begins=FILMED)), begins=BEGINS) as played,
        pytest.raises(VideoError, match=r"none\.mp4: cannot be read"),
    ):
        played.newest(timeout_s=0)


def test_recordings_and_live_cameras_are_not_watched_together(tmp_path):
    site = site_of(tmp_path, Camera("door", "door.mp4"), Camera("till", "rtsp://10.0.0.7/x"))
    with pytest.raises(PasserbyError, match="till are live and the others recordings"):
        opened(Task(site), begins=BEGINS)


# What leaves the process


def seen(seconds, *, boxes=(), tracks=()):
    """A frame of noise, and what was found in it."""
    rng = np.random.default_rng(int(10 * seconds))
    picture = np.where(rng.random((120, 160, 1)) < 0.5, 0, 255).astype(np.uint8).repeat(3, axis=2)
    found = Detections(np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32))
    made = tuple(Tracked(1, np.array(box, np.float32), 1.0, 0) for box in tracks)
    return Seen(Frame("door", BEGINS + timedelta(seconds=seconds), picture), found, made)


def shown(view, *frames):
    for number, each in enumerate(frames):
        view.see(each, lag_s=0.1, now_s=float(number))
    packed = view.picture(frames[-1], 10.0).jpeg
    return cv2.imdecode(np.frombuffer(packed, np.uint8), cv2.IMREAD_COLOR)


def is_blurred(picture, x, y):
    return float(np.ptp(picture[y : y + 10, x : x + 10].astype(int))) < 120


def test_heads_are_blurred_also_where_a_track_is_and_where_somebody_was_found_a_moment_ago():
    noise = shown(View(Camera("door", "x")), seen(0))
    assert not is_blurred(noise, 30, 25)
    box = (20, 15, 50, 110)
    assert is_blurred(shown(View(Camera("door", "x")), seen(0, boxes=[box])), 30, 25)
    assert is_blurred(shown(View(Camera("door", "x")), seen(0, tracks=[box])), 30, 25)
    assert is_blurred(shown(View(Camera("door", "x")), seen(0, boxes=[box]), seen(0.8)), 30, 25)
    assert not is_blurred(shown(View(Camera("door", "x")), seen(0, boxes=[box]), seen(1.5)), 30, 25)


def test_masks_are_burned_in_and_large_pictures_made_small():
    masked = Camera("door", "x", masks=(((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)),))
    picture = shown(View(masked), seen(0))
    assert is_blurred(picture, 120, 60)
    assert not is_blurred(picture, 20, 60)
    large = seen(0)
    large = Seen(Frame("door", BEGINS, np.zeros((1080, 1920, 3), np.uint8)), large.found, ())
    assert shown(View(Camera("door", "x")), large).shape == (540, 960, 3)


def test_frames_a_second_are_counted_over_ten_seconds_and_a_picture_is_due_every_three():
    view = View(Camera("door", "x"))
    state = State("door", "live", "live", 1, 0, 0, 0, 0, 0.0, None, None)
    for number in range(50):
        view.see(seen(number / 5), lag_s=0.25, now_s=number / 5)
    watching = view.watching(state, 9.9)
    assert (watching.rate, watching.lag_s) == (5.0, 0.25)
    assert view.watching(state, 60.0).rate == 0.0
    assert view.watching(state, 60.0).lag_s is None
    assert view.due(10.0)
    view.picture(seen(10), 10.0)
    assert not view.due(12.9)
    assert view.due(13.0)
