import numpy as np
import pytest

from passerby.types import PictureError
from passerby.vision.blur import blur_heads

BOX = np.array([[80, 40, 160, 240]], np.float32)  # a person of 80 x 200


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (260, 240, 3)).astype(np.uint8)


def detail(picture):
    """The mean step between neighbouring pixels."""
    return np.abs(np.diff(picture.astype(int), axis=1)).mean()


def test_no_detail_of_a_head_is_left_and_the_rest_is_as_it_was():
    picture = noise()
    kept = picture.copy()
    blurred = blur_heads(picture, BOX)
    head = np.s_[40:90, 80:160]
    assert detail(picture[head]) > 80
    assert detail(blurred[head]) < 2
    np.testing.assert_array_equal(blurred[100:], picture[100:])
    np.testing.assert_array_equal(blurred[:, :60], picture[:, :60])
    np.testing.assert_array_equal(picture, kept)


def test_different_heads_of_the_same_mean_colours_become_one_picture():
    """What cannot be told apart afterwards cannot be had back."""
    first = np.full((260, 240, 3), 100, np.uint8)
    second = first.copy()
    first[::2], first[1::2] = 60, 140  # stripes across
    second[:, ::2], second[:, 1::2] = 60, 140  # and stripes down
    head = np.s_[45:85, 85:155]
    one, other = blur_heads(first, BOX)[head], blur_heads(second, BOX)[head]
    assert np.abs(first[head].astype(int) - second[head]).mean() > 30
    assert np.abs(one.astype(int) - other).max() <= 12  # half a stripe at a cell's edge
    assert np.abs(one.astype(int) - 100).max() <= 12


@pytest.mark.parametrize("height", [30, 100, 400, 1000])
def test_a_head_of_any_size_keeps_a_handful_of_colours(height):
    """Of a face of 1/8 of the height, two halves of different colour are seen at most; eyes and mouth are not."""
    picture = np.full((height + 40, height, 3), 120, np.uint8)
    face = height / 8
    middle, top = height / 2, 20 + face / 2
    for x in (middle - face / 4, middle + face / 4):
        y0, y1, x0, x1 = (round(v) for v in (top, top + face / 8, x - face / 12, x + face / 12))
        picture[y0 : y1 + 1, x0 : x1 + 1] = 0  # eyes
    box = np.array([[0.3 * height, 20, 0.7 * height, 20 + height]], np.float32)
    blurred = blur_heads(picture, box)
    assert picture.min() == 0
    assert blurred.min() > 75  # a slight shade where the eyes were
    columns = blurred[round(top + face / 16), round(middle - face / 2) : round(middle + face / 2), 0].astype(int)
    turns = np.count_nonzero(np.diff(np.sign(np.diff(columns)[np.diff(columns) != 0])))
    assert turns <= 1  # two eyes would be two dips


def test_somebody_whose_legs_are_cut_off_loses_the_whole_head():
    picture = noise()
    blurred = blur_heads(picture, np.array([[60, 160, 180, 260]], np.float32))  # as wide as high: head and shoulders
    assert detail(blurred[160:235, 80:160]) < 2


def test_boxes_at_and_beyond_the_edges_are_blurred_as_far_as_there_is_a_picture():
    picture = noise()
    boxes = np.array([[-30, -20, 40, 100], [200, 200, 300, 400], [500, 500, 520, 560]], np.float32)
    blurred = blur_heads(picture, boxes)
    assert detail(blurred[:20, :40]) < 3
    np.testing.assert_array_equal(blurred[:, 60:180], picture[:, 60:180])


def test_nobody_leaves_the_picture_as_it_is():
    np.testing.assert_array_equal(blur_heads(noise(), np.zeros((0, 4), np.float32)), noise())


def test_a_mask_covers_its_polygon_alone():
    picture = noise()
    triangle = ((0.5, 0.0), (1.0, 0.0), (1.0, 0.5))
    blurred = blur_heads(picture, np.zeros((0, 4), np.float32), masks=[triangle])
    assert detail(blurred[5:40, 180:235]) < 2
    np.testing.assert_array_equal(blurred[:, :119], picture[:, :119])
    np.testing.assert_array_equal(blurred[135:], picture[135:])
    np.testing.assert_array_equal(blurred[100:125, 125:150], picture[100:125, 125:150])  # below the slope


def test_another_kind_of_picture_is_refused():
    with pytest.raises(PictureError, match="expected \\(height, width, 3\\) uint8"):
        blur_heads(np.zeros((10, 10), np.uint8), BOX)
