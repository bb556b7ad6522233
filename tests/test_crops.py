from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from passerby.vision.crops import Album, Crop, cut_out, visible

START = datetime(2026, 3, 2, 10, tzinfo=UTC)


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def noise(height=200, width=200, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def unit(*numbers):
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


def crop(quality):
    return Crop(np.zeros((4, 2, 3), np.uint8), quality, quality)


def test_who_stands_behind_somebody_is_less_visible_and_who_stands_before_is_not():
    behind, before = (50, 50, 90, 150), (50, 100, 90, 190)
    shares = visible(boxes(behind, before), (300, 300))
    assert shares.tolist() == [pytest.approx(0.5), 1.0]


def test_a_box_that_the_picture_cuts_is_worth_less():
    shares = visible(boxes((50, 50, 90, 150), (0, 50, 40, 150), (50, 200, 90, 300)), (300, 300))
    assert shares[0] == 1.0
    assert shares[1] == shares[2] < 1.0


def test_no_boxes_are_visible_in_no_part():
    assert visible(boxes(), (100, 100)).shape == (0,)


def test_a_cut_is_a_copy_with_a_margin_and_none_outside_the_picture():
    frame = noise()
    cut = cut_out(frame, np.array([50, 50, 100, 150], np.float32))
    assert cut.shape == (104, 52, 3)
    cut[:] = 0
    assert frame[50:150, 50:100].any()
    assert cut_out(frame, np.array([-50, 50, -10, 150], np.float32)) is None


def test_the_best_crop_of_each_piece_of_time_is_due_and_pieces_grow():
    album, due = Album(), []
    for frame in range(100):  # 20 s at 5 a second
        found = album.offer(
            START + timedelta(seconds=frame / 5), noise(), np.array([50, 20, 90, 120], np.float32), score=0.9, seen=1.0
        )
        due += [frame / 5] if found is not None else []
    assert 5 <= len(due) <= 8
    assert due[0] < 1.0
    assert np.diff(due).max() > 4 * np.diff(due).min()


def test_of_a_piece_of_time_the_crop_that_shows_most_is_taken():
    album = Album()
    for seen, seed in ((0.4, 1), (1.0, 2), (0.4, 3)):
        box = np.array([50, 20, 90, 120], np.float32)
        album.offer(START + timedelta(seconds=seed / 10), noise(seed=seed), box, score=0.9, seen=seen)
    best = album.rest()
    assert np.array_equal(best.picture, cut_out(noise(seed=2), np.array([50, 20, 90, 120], np.float32)))
    assert album.rest() is None


def test_like_pictures_join_a_prototype_and_others_make_their_own():
    album = Album()
    album.add(unit(1, 0, 0), crop(0.5))
    album.add(unit(1, 0.1, 0), crop(0.9))
    album.add(unit(0, 1, 0), crop(0.7))
    assert album.pictures.tolist() == [2, 1]
    assert album.vectors[0].tolist() == unit(1, 0.1, 0).tolist()  # the best of its pictures
    assert album.quality.tolist() == pytest.approx([0.9, 0.7])


def test_there_are_never_more_than_four_prototypes_and_no_picture_is_lost():
    album, rng = Album(), np.random.default_rng(0)
    for _ in range(50):
        album.add(unit(*rng.normal(size=16)), crop(float(rng.uniform(0.2, 1))))
    assert album.vectors.shape == (4, 16)
    assert album.pictures.sum() == 50
    assert np.linalg.norm(album.vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
