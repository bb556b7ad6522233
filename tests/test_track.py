import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from passerby.shop import Detections
from passerby.types import VideoError
from passerby.vision import track as room
from passerby.vision.track import Tracker

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RED, BLUE = np.eye(2, 4, dtype=np.float32)


def at(seconds):
    return NOON + timedelta(seconds=seconds)


def found(*people):
    """Detections of (x of the middle, y of the middle, score), each 40 wide and 100 high, the surest first."""
    rows = sorted(people, key=lambda person: -person[2])
    boxes = np.array([[x - 20, y - 50, x + 20, y + 50] for x, y, _ in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([score for *_, score in rows], np.float32))


def follow(tracker, frames, **options):
    """[(seconds, track, x)] of everything reported, and the numbers in order of their end."""
    seen, ended = [], []
    for seconds, detections in frames:
        here, gone = tracker.update(at(seconds), detections, **options)
        for one in here:
            for time, box, _ in one.before:
                seen.append(((time - NOON).total_seconds(), one.track, float(box[0] + 20)))
            seen.append((seconds, one.track, float(one.box_xyxy[0] + 20)))
        ended += gone
    return seen, ended + tracker.finish()


def numbers(seen):
    return sorted({track for _, track, _ in seen})


def test_a_walk_is_one_track_reported_from_its_second_box_on():
    tracker = Tracker()
    assert tracker.update(at(0.0), found((100, 100, 0.8))) == ([], [])
    (one,), ended = tracker.update(at(0.2), found((112, 100, 0.7)))
    assert (one.track, one.row, ended) == (1, 0, [])
    assert one.score == pytest.approx(0.7)
    np.testing.assert_array_equal(one.box_xyxy, [92, 50, 132, 150])  # the detection's box, not the filter's
    ((time, box, score),) = one.before
    assert (time, box.tolist(), round(score, 2)) == (at(0.0), [80, 50, 120, 150], 0.8)
    (again,), _ = tracker.update(at(0.4), found((124, 100, 0.8)))
    assert (again.track, again.before) == (1, ())
    assert tracker.finish() == [1]
    assert tracker.finish() == []


def test_a_very_sure_box_is_reported_at_once():
    (one,), _ = Tracker(certain=0.9).update(at(0), found((100, 100, 0.9)))
    assert (one.track, one.before) == (1, ())


def test_a_box_that_is_never_seen_again_is_neither_reported_nor_ended():
    tracker = Tracker()
    frames = [(0.0, found((100, 100, 0.8))), (0.2, found()), (0.4, found()), (5.0, found())]
    assert follow(tracker, frames) == ([], [])


@pytest.mark.parametrize("fps", [2, 3, 5, 12.5, 30])
def test_people_who_pass_each_other_keep_their_numbers_at_any_frame_rate(fps):
    times = np.arange(0, 10, 1 / fps)
    frames = [(t, found((100 + 60 * t, 100, 0.8), (700 - 60 * t, 140, 0.7))) for t in times]
    seen, ended = follow(Tracker(), frames)
    assert numbers(seen) == ended == [1, 2]
    for track in (1, 2):
        xs = [x for _, number, x in seen if number == track]
        assert len(xs) == len(times)
        assert len(set(np.sign(np.diff(xs)))) == 1  # each goes on in its own direction


def test_frames_that_come_irregularly_change_nothing():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([0.04, 0.1, 0.2, 0.5], 60))
    frames = [(t, found((100 + 40 * t, 100, 0.8), (100 + 40 * t, 300, 0.8))) for t in times]
    seen, ended = follow(Tracker(), frames)
    assert ended == [1, 2]
    assert len(seen) == 2 * len(times)


def box_at(x):
    """A box of score 1, as the tracker measures it."""
    return room._measured(Detections(np.array([[x - 20, 100, x + 20, 200]], np.float32), np.ones(1, np.float32)))[0]


def test_prediction_does_not_depend_on_the_number_of_steps():
    one, many = (room._begun(box_at(100.0), NOON) for _ in range(2))
    for track in (one, many):
        track.mean[:2, 1] = (60, -20)
    room._predict(one, at(1.0))
    for step in range(1, 11):
        room._predict(many, at(step / 10))
    np.testing.assert_allclose(many.mean, one.mean, rtol=1e-12)
    np.testing.assert_allclose(many.spread, one.spread, rtol=1e-9)


def test_the_filter_is_kalmans():
    """A matrix filter of one measure, written out, beside the one over four."""
    track = room._begun(box_at(100.0), NOON)
    mean, spread = np.array([100.0, 0.0]), np.diag([(room.BLUR[0] * 100) ** 2, (room.SPEED[0] * 100) ** 2])
    seen, blur = np.array([[1.0, 0.0]]), (room.BLUR[0] * 100) ** 2
    rate = 1 / room.STEADY_S
    for step, x in enumerate((104.0, 107.0, 113.0), 1):
        room._predict(track, at(0.2 * step))
        for _ in range(2000):  # the stochastic differential equation in small steps
            small = 0.2 / 2000
            move = np.array([[1, small], [0, 1 - rate * small]])
            noise = np.diag([0.0, 2 * rate * (room.SPEED[0] * 100) ** 2 * small])
            mean, spread = move @ mean, move @ spread @ move.T + noise
        np.testing.assert_allclose(track.spread[0], spread, rtol=2e-3)
        room._correct(track, box_at(x), at(0.2 * step))
        gain = spread @ seen.T / (seen @ spread @ seen.T + blur)
        mean = mean + (gain * (x - seen @ mean)).ravel()
        spread = (np.eye(2) - gain @ seen) @ spread
        np.testing.assert_allclose(track.mean[0], mean, rtol=2e-3)


def test_an_unsure_box_goes_on_with_a_track_and_begins_none():
    tracker = Tracker(sure=0.5, unsure=0.1)
    frames = [(0.2 * n, found((100 + 5 * n, 100, 0.8 if n < 3 else 0.4), (400, 100, 0.3))) for n in range(20)]
    seen, ended = follow(tracker, frames)
    assert ended == [1]
    assert [x for *_, x in seen] == [100 + 5 * n for n in range(20)]


def test_what_scores_low_for_seconds_is_nobody_at_any_frame_rate():
    """A detector that fires on one spot for a minute, surely at first, is no track of a minute."""
    for fps in (4, 25):
        frames = [(n / fps, found((100, 100, 0.7 if n < fps else 0.3))) for n in range(60 * fps)]
        seen, ended = follow(Tracker(), frames)
        assert ended == [1]
        assert 2 < seen[-1][0] < 6


def test_who_is_partly_hidden_for_seconds_after_having_been_seen_well_stays_the_same():
    frames = [(0.2 * n, found((100 + 2 * n, 100, 0.3 if 25 <= n < 40 else 0.9))) for n in range(60)]
    seen, ended = follow(Tracker(), frames)
    assert (numbers(seen), ended, len(seen)) == ([1], [1], 60)


def test_a_sure_box_takes_the_track_from_an_unsure_one():
    tracker = Tracker()
    for n in range(3):
        tracker.update(at(0.2 * n), found((100, 100, 0.8)))
    (one,), _ = tracker.update(at(0.6), found((104, 100, 0.6), (100, 100, 0.4)))
    assert one.score == pytest.approx(0.6)


def test_who_is_hidden_for_less_than_the_gap_comes_back_as_the_same_and_later_as_another():
    def hidden(gap_s):
        times = [*np.arange(0, 2, 0.2), *np.arange(2 + gap_s, 4 + gap_s, 0.2)]
        return follow(Tracker(max_gap_s=2.0), [(t, found((100 + 20 * min(t, 2), 100, 0.8))) for t in times])

    assert hidden(1.6)[1] == [1]
    assert hidden(2.5)[1] == [1, 2]


def test_a_track_ends_once_in_the_first_frame_after_its_gap():
    tracker = Tracker(max_gap_s=1.0)
    for n in range(3):
        tracker.update(at(0.5 * n), found((100, 100, 0.8)))
    assert [tracker.update(at(t), found())[1] for t in (1.5, 2.0, 2.1, 5.0)] == [[], [], [1], []]


def test_nobody_takes_over_a_track_from_across_the_picture():
    tracker = Tracker()
    frames = [(0.2 * n, found((100, 100, 0.8) if n < 5 else (600, 100, 0.8))) for n in range(10)]
    assert numbers(follow(tracker, frames)[0]) == [1, 2]


def test_numbers_belong_to_the_tracker_and_never_come_back():
    first, second = Tracker(), Tracker()
    walk = [(0.2 * n, found((100, 100, 0.8))) for n in range(4)]
    later = [(60 + t, detections) for t, detections in walk]
    assert follow(first, walk)[1] == [1]
    assert follow(second, walk)[1] == [1]
    assert follow(first, later)[1] == [2]


def test_a_time_that_repeats_or_jumps_back_a_little_is_left_out_and_counted():
    tracker = Tracker()
    for t in (0.0, 0.2, 0.4):
        tracker.update(at(t), found((100, 100, 0.8)))
    assert tracker.update(at(0.4), found((300, 100, 0.99))) == ([], [])
    assert tracker.update(at(0.1), found((300, 100, 0.99))) == ([], [])
    assert tracker.late == 2
    (one,), _ = tracker.update(at(0.6), found((100, 100, 0.8)))
    assert one.track == 1


def test_a_clock_that_is_put_back_ends_every_track_and_is_followed():
    tracker = Tracker(max_gap_s=2.0)
    for t in (100.0, 100.2, 100.4):
        tracker.update(at(t), found((100, 100, 0.8)))
    assert tracker.update(at(0.0), found((100, 100, 0.8))) == ([], [1])
    (one,), _ = tracker.update(at(0.2), found((100, 100, 0.8)))
    assert (one.track, tracker.late) == (2, 1)


def test_an_outage_ends_the_tracks():
    tracker = Tracker()
    for n in range(3):
        tracker.update(at(0.2 * n), found((100, 100, 0.8)))
    assert tracker.update(at(600), found((100, 100, 0.8))) == ([], [1])


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(VideoError, match=re.escape("a time needs its zone, such as 2026-03-01T10:00:00+00:00")):
        Tracker().update(datetime(2026, 3, 1, 12), found())


def test_a_second_box_on_a_followed_person_begins_no_track():
    tracker = Tracker()
    frames = [(0.2 * n, found((100 + 5 * n, 100, 0.9), (104 + 5 * n, 104, 0.6))) for n in range(10)]
    assert follow(tracker, frames)[1] == [1]


def test_somebody_who_turns_and_is_half_as_wide_stays_the_same():
    tracker = Tracker()
    for n in range(6):
        wide = n < 3
        box = np.array([[100, 50, 180 if wide else 140, 150]], np.float32)
        seen, _ = tracker.update(at(0.1 * n), Detections(box, np.array([0.9], np.float32)))
    assert [one.track for one in seen] == [1]


def test_an_unsure_second_box_on_somebody_does_not_go_to_who_is_hidden_behind():
    """Two walk towards each other; where one hides the other, the detector draws two boxes around who is in front."""
    tracker, boxes = Tracker(), {1: [], 2: []}
    for n in range(30):
        x, y = 100 + 10 * n, 390 - 10 * n
        hidden = abs(x - y) < 40
        people = [(x, 100, 0.9), (x + 6, 104, 0.4) if hidden else (y, 100, 0.8)]
        for one in tracker.update(at(0.1 * n), found(*people))[0]:
            boxes[one.track].append(float(one.box_xyxy[0]) + 20)
    assert boxes[1][-1] == 100 + 10 * 29
    assert boxes[2][-1] == 390 - 10 * 29
    assert len(boxes[2]) < len(boxes[1])


def test_a_frame_knows_nothing_of_those_after_it():
    rng = np.random.default_rng(3)
    frames = [
        (0.2 * n, found(*((x + 15 * n, 100 + 30 * k, s) for k, (x, s) in enumerate(rng.uniform(0.2, 1, (5, 2))))))
        for n in range(30)
    ]
    whole, part = Tracker(), Tracker()
    every = [whole.update(at(t), detections) for t, detections in frames]
    some = [part.update(at(t), detections) for t, detections in frames[:15]]
    assert [[(one.track, one.row) for one in seen] for seen, _ in every[:15]] == [
        [(one.track, one.row) for one in seen] for seen, _ in some
    ]


def turned_back():
    """Two people meet at x = 300 and turn back; where they meet one box is missing. (seconds, detections, looks)."""
    for n in range(41):
        t = 0.2 * n
        off = abs(t - 4.0) * 50
        people = [(300 - off, 100, 0.8, RED), (300 + off, 100, 0.79, BLUE)]
        if off < 25:
            people = people[:1] if n % 2 else people[1:]
        yield t, found(*((x, y, score) for x, y, score, _ in people)), [look for *_, look in people]


def test_who_meets_and_turns_back_is_told_apart_by_appearance():
    def colours(*, seeing):
        tracker, of_track = Tracker(), {}
        for t, detections, looks in turned_back():
            embed = (lambda rows, looks=looks: np.stack([looks[row] for row in rows])) if seeing else None
            for one in tracker.update(at(t), detections, embed=embed)[0]:
                of_track.setdefault(one.track, set()).add(int(looks[one.row] @ BLUE))
        return of_track

    assert colours(seeing=True) == {1: {0}, 2: {1}}
    assert colours(seeing=False) != {1: {0}, 2: {1}}  # motion alone has them pass each other


@pytest.mark.parametrize(("look", "expected"), [(None, [1, 2]), (RED, [1]), (BLUE, [1, 2])])
def test_who_comes_back_elsewhere_after_seconds_is_known_by_appearance_alone(look, expected):
    tracker = Tracker(max_gap_s=5.0)
    numbers = set()
    for t in (0.0, 0.2, 0.4, 3.4, 3.6, 3.8):
        worn = look if t > 1 else RED
        embed = None if look is None else (lambda rows, worn=worn: np.stack([worn for _ in rows]))
        seen, _ = tracker.update(at(t), found((100 if t < 1 else 180, 100, 0.8)), embed=embed)
        numbers |= {one.track for one in seen}
    assert sorted(numbers) == expected


def test_nobody_is_embedded_but_new_tracks_where_nothing_is_ambiguous():
    asked = []

    def embed(rows):
        asked.append(list(rows))
        return np.stack([RED for _ in rows])

    frames = [(0.2 * n, found((100 + 10 * n, 100, 0.8), (100, 400, 0.7))) for n in range(30)]
    follow(Tracker(), frames, embed=embed)
    assert asked == [[0, 1]]


def test_two_close_people_are_embedded_each_once_a_frame():
    calls = []

    def embed(rows):
        calls.append(list(rows))
        return np.stack([RED if row == 0 else BLUE for row in rows])

    tracker = Tracker()
    for n in range(10):
        tracker.update(at(0.2 * n), found((100, 100, 0.9), (125, 100, 0.8)), embed=embed)
    assert calls
    assert all(rows == [0, 1] for rows in calls)
