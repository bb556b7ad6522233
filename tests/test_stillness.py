"""A camera's static false alarms: their scores fall; people's do not."""

from datetime import UTC, datetime, timedelta

import numpy as np

from passerby.shop import Detections
from passerby.vision.stillness import StillSpots

START = datetime(2026, 3, 1, 10, tzinfo=UTC)
POSTER = (100.0, 50.0, 140.0, 150.0)


def found(*rows):
    """Detections of (box, score), given the surest first."""
    boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([score for _, score in rows], np.float32))


def moved(box, x):
    return (box[0] + x, box[1], box[2] + x, box[3])


def watch(spots, seconds, frame, *, begin=0.0, step_s=0.2):
    """The detections after `seconds` of frames 5 times a second, `frame(second)` each."""
    last = None
    for number in range(int(seconds / step_s)):
        at = begin + number * step_s
        last = spots(START + timedelta(seconds=at), frame(at))
    return last


def test_a_false_alarm_that_stays_for_minutes_falls_to_a_tenth():
    spots, rng = StillSpots(), np.random.default_rng(0)
    last = watch(spots, 299, lambda at: found((moved(POSTER, rng.normal(0, 0.8)), 0.6)))
    assert last.scores[0] == np.float32(0.6)
    last = watch(spots, 310, lambda at: found((moved(POSTER, rng.normal(0, 0.8)), 0.6)), begin=299)
    assert abs(last.scores[0] - 0.06) < 0.01


def test_who_walks_by_or_sways_keeps_their_score():
    spots = StillSpots()
    last = watch(
        spots,
        700,
        lambda at: found((moved(POSTER, 200 + 30 * (at % 60)), 0.9), (moved(POSTER, 8 * np.sin(at)), 0.8)),
    )
    assert last.scores.tolist() == [np.float32(0.9), np.float32(0.8)]


def test_who_stands_before_a_poster_is_found_and_the_surest_comes_first():
    spots = StillSpots(patience_s=60)
    last = watch(spots, 200, lambda at: found((POSTER, 0.9), (moved(POSTER, 10 * np.sin(at)), 0.5)))
    assert last.scores[0] == np.float32(0.5)
    assert last.scores[1] < 0.1


def test_a_spot_is_forgotten_when_the_poster_is_gone():
    spots = StillSpots(patience_s=60, forget_s=120)
    watch(spots, 200, lambda at: found((POSTER, 0.9)))
    watch(spots, 250, lambda at: found(), begin=200)
    assert spots(START + timedelta(seconds=450), found((POSTER, 0.9))).scores[0] == np.float32(0.9)


def test_a_box_that_is_missed_now_and_then_is_learnt_all_the_same():
    spots = StillSpots(patience_s=60)
    last = watch(spots, 200, lambda at: found() if round(at * 5) % 5 == 3 else found((POSTER, 0.9)))
    assert last.scores[0] < 0.2


def test_an_hour_without_frames_teaches_nothing():
    spots = StillSpots(patience_s=60)
    spots(START, found((POSTER, 0.9)))
    assert spots(START + timedelta(hours=1), found((POSTER, 0.9))).scores[0] == np.float32(0.9)


def test_a_clock_that_jumps_back_teaches_nothing_and_does_not_stop_it():
    spots = StillSpots(patience_s=60)
    watch(spots, 100, lambda at: found((POSTER, 0.9)))
    spots(START - timedelta(hours=1), found((POSTER, 0.9)))
    last = watch(spots, 100, lambda at: found((POSTER, 0.9)), begin=-3600)
    assert last.scores[0] < 0.1


def test_each_camera_has_its_own_map():
    one, other = StillSpots(patience_s=60), StillSpots(patience_s=60)
    watch(one, 200, lambda at: found((POSTER, 0.9)))
    assert other(START, found((POSTER, 0.9))).scores[0] == np.float32(0.9)


def test_nothing_found_stays_nothing():
    assert len(StillSpots()(START, found())) == 0
