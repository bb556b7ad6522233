import cv2
import numpy as np
import pytest

from passerby.learn import recorded

FAULTS = {
    name: getattr(recorded, name)
    for name in ("jpeg", "video", "interlace", "motion", "noise", "cast", "exposure", "loose", "shift", "cut", "text")
}


@pytest.fixture
def person():
    """A drawn person of 128x64: head, coat, trousers, before a street with some texture."""
    picture = np.random.default_rng(0).integers(90, 130, (128, 64, 3)).astype(np.uint8)
    cv2.circle(picture, (32, 16), 9, (220, 170, 140), -1)
    cv2.rectangle(picture, (18, 26), (46, 74), (180, 20, 30), -1)
    cv2.rectangle(picture, (22, 74), (42, 122), (20, 30, 90), -1)
    return picture


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_changes_the_picture_and_neither_its_shape_nor_the_original(person, name):
    before = person.copy()
    changed = FAULTS[name](person, np.random.default_rng(1))
    assert changed.shape == person.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, before)
    assert np.array_equal(person, before)
    assert np.array_equal(changed, FAULTS[name](person, np.random.default_rng(1)))  # the generator decides all


def energy(picture):
    """Mean difference of neighbours, across and down: what blur and coding take away."""
    values = picture.astype(float)
    return np.abs(np.diff(values, axis=1)).mean(), np.abs(np.diff(values, axis=0)).mean()


def test_a_video_codec_keeps_the_colours_in_their_places_and_loses_detail(person):
    coded = recorded.video(person, np.random.default_rng(0))
    assert np.abs(coded[30:70, 22:42].mean((0, 1)) - (180, 20, 30)).max() < 25
    assert energy(coded)[0] < 0.7 * energy(person)[0]


def test_interlacing_moves_every_other_row_sideways_and_leaves_the_rest(person):
    woven = recorded.interlace(person, np.random.default_rng(0))
    assert np.array_equal(woven[::2], person[::2])
    by = next(n for n in range(-6, 7) if np.array_equal(np.roll(person[1], n, 0)[8:-8], woven[1, 8:-8]))
    assert 1 <= abs(by) <= 5


def test_motion_blurs_across_more_than_down(person):
    changed = [recorded.motion(person, np.random.default_rng(seed)) for seed in range(20)]
    across, down = np.mean([np.array(energy(c)) / energy(person) for c in changed], axis=0)
    assert across < 0.9 * down


def test_exposure_cuts_off_what_is_too_bright_and_never_wraps_around(person):
    for seed in range(10):
        changed = recorded.exposure(person, np.random.default_rng(seed)).astype(int)
        brighter = changed.mean() > person.mean()
        assert ((changed >= person) if brighter else (changed <= person)).all()


def test_a_cast_gives_each_colour_its_own_strength(person):
    grey = np.full_like(person, 128)
    levels = recorded.cast(grey, np.random.default_rng(0))[0, 0].astype(int)
    assert len(set(levels.tolist())) == 3
    assert 50 < levels.min() < levels.max() < 210


def test_a_cut_box_loses_the_feet_or_the_head(person):
    def rows(picture):
        red = picture.astype(int)
        return np.flatnonzero((red[:, 32, 0] > 140) & (red[:, 32, 1] < 60))  # the coat's

    lengths = [len(rows(recorded.cut(person, np.random.default_rng(seed)))) for seed in range(12)]
    assert min(lengths) > len(rows(person))  # what is left fills the box


def test_a_loose_box_shows_the_person_smaller(person):
    coat = [(recorded.loose(person, np.random.default_rng(seed))[..., 0] > 160).sum() for seed in range(10)]
    assert max(coat) < (person[..., 0] > 160).sum()


def test_a_stranger_stands_at_one_side_and_hides_less_than_half():
    mine, other = np.full((128, 64, 3), 10, np.uint8), np.full((128, 64, 3), 200, np.uint8)
    for seed in range(20):
        hidden = recorded.stranger(mine, other, np.random.default_rng(seed))[0, :, 0] == 200
        assert 0.15 < hidden.mean() < 0.45
        assert hidden[0] != hidden[-1]


def test_shrunk_faults_are_made_at_the_small_size(person):
    sizes = []

    def look(picture, random):
        sizes.append(picture.shape)
        return picture

    assert recorded.shrunk(person, 2.0, [look, look], np.random.default_rng(0)).shape == person.shape
    assert sizes == [(64, 32, 3)] * 2
