"""Pictures with boxes around people: read, completed, changed for training."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from passerby.learn.scenes import (
    Certainty,
    Change,
    Labelled,
    completed,
    completed_all,
    drawn_picture,
    read_coco,
    summary,
)
from passerby.shop import Detections
from passerby.types import DatasetError

SURE = Certainty(agreed=(0.6, 0.2), alone=(0.95, 0.6), doubt=(0.3, 0.1))
PLAIN = Change(tiles=0, smallest=1, largest=1, stretch=1, flip=0, colour=0, grey=0, blur=0, coarse=0, noise=0, jpeg=0)


def found(*rows):
    """Detections of (x, score): boxes of 10 x 20 px, as the surest stand first."""
    rows = sorted(rows, key=lambda row: -row[1])
    boxes = np.array([[x, 0, x + 10, 20] for x, _ in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([score for _, score in rows], np.float32))


def labelled(path, *lefts):
    boxes = np.array([[x, 0, x + 10, 20] for x in lefts], np.float32).reshape(-1, 4)
    return Labelled(path, "drawn", boxes, np.zeros(len(boxes), bool))


def lefts(picture, *, ignored):
    return sorted(picture.boxes[picture.ignored == ignored][:, 0].tolist())


def test_who_has_no_label_gets_the_teachers(tmp_path):
    picture = labelled(tmp_path / "a.jpg", 0)
    first, second = found((0, 0.99), (50, 0.97), (100, 0.7), (150, 0.7), (200, 0.2)), found((101, 0.3))
    after = completed(picture, [first, second], SURE)
    assert lefts(after, ignored=False) == [0, 50, 100]  # labelled; one teacher is very sure; both are sure enough
    assert lefts(after, ignored=True) == [150]  # one is, the other saw nobody
    assert 200 not in after.boxes[:, 0]


def test_what_may_be_a_part_of_who_is_labelled_is_ignored(tmp_path):
    tall = Labelled(tmp_path / "a.jpg", "drawn", np.array([[0, 0, 30, 60]], np.float32), np.array([False]))
    after = completed(tall, [found((10, 0.99)), found()], SURE)
    assert lefts(after, ignored=False) == [0]
    assert lefts(after, ignored=True) == [10]


def test_pictures_known_to_be_empty_stay_so(tmp_path):
    pictures = [labelled(tmp_path / "a.jpg"), replace(labelled(tmp_path / "b.jpg"), source="empty")]
    file = tmp_path / "found.json"
    file.write_text(json.dumps([[[[[5, 0, 15, 20]], [0.99]], [[], []]]] * 2))
    first, second = completed_all(pictures, file, SURE, without_people=["empty"])
    assert (len(first.boxes), len(second.boxes)) == (1, 0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[20:50, 30:40] = (255, 0, 0)
    cv2.imwrite(str(tmp_path / "images" / "one.png"), picture[..., ::-1])
    coco = {
        "images": [
            {"id": 7, "file_name": "one.png", "width": 96, "height": 64, "split": "train", "source": "drawn"},
            {"id": 9, "file_name": "two.png", "width": 96, "height": 64, "split": "val"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [30, 20, 10, 30], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1},
            {"id": 3, "image_id": 7, "category_id": 1, "bbox": [0, 0, 0, 5], "iscrowd": 0},
        ],
    }
    (tmp_path / "persons.json").write_text(json.dumps(coco))
    return tmp_path


def test_a_coco_folder_is_read_by_its_splits(folder):
    (one,) = read_coco(folder, split="train")
    assert one.boxes.tolist() == [[30, 20, 40, 50], [0, 0, 5, 5]]  # a box without width is none
    assert one.ignored.tolist() == [False, True]
    assert one.source == "drawn"
    assert len(read_coco(folder)) == 2
    assert summary(folder, [one]).endswith("1 pictures, 1 people with a box")
    with pytest.raises(DatasetError, match="holds no picture of split 'test'"):
        read_coco(folder, split="test")


def test_what_is_no_coco_folder_is_refused(folder, tmp_path):
    with pytest.raises(DatasetError, match=r"expected one COCO file \(\.json\) beside images/, found 0"):
        read_coco(folder / "images")
    (folder / "persons.json").write_text('{"images": [{}], "annotations": []}')
    with pytest.raises(DatasetError, match="expected COCO with images and annotations"):
        read_coco(folder)


def red(picture):
    """x0, y0, x1, y1 of what is red."""
    y, x = np.nonzero((picture[..., 0] > 240) & (picture[..., 1:] < 15).all(2))
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


@pytest.mark.parametrize("seed", range(8))
def test_boxes_go_where_the_people_go(folder, seed):
    """Scaled, stretched, mirrored and moved: the box is still around the red figure."""
    pictures = read_coco(folder, split="train")
    change = replace(PLAIN, smallest=0.7, largest=1.3, stretch=1.3, flip=0.5)
    rng = np.random.default_rng(seed)
    picture, boxes, ignored = drawn_picture(pictures, np.zeros(1, np.int64), change, rng, height=192, width=256)
    assert picture.shape == (192, 256, 3)
    if len(boxes) and not ignored[0]:
        np.testing.assert_allclose(red(picture), boxes[0], atol=5)


def test_tiles_show_several_pictures_and_the_same_step_the_same_picture(folder):
    pictures = read_coco(folder, split="train")
    change = Change(tiles=1.0)
    one, two = (
        drawn_picture(pictures, np.zeros(4, np.int64), change, np.random.default_rng(4), height=96, width=160)
        for _ in range(2)
    )
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    counts = {
        int(
            (
                ~drawn_picture(
                    pictures, np.zeros(4, np.int64), change, np.random.default_rng(n), height=192, width=320
                )[2]
            ).sum()
        )
        for n in range(12)
    }
    assert max(counts) >= 2


def test_who_is_cut_away_is_not_judged(folder):
    """Magnified so much that most of the figure may fall outside: what is left of a box is inside the picture."""
    pictures = read_coco(folder, split="train")
    change = replace(PLAIN, smallest=3, largest=3)
    unjudged = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        _, boxes, ignored = drawn_picture(pictures, np.zeros(1, np.int64), change, rng, height=64, width=96)
        assert (boxes >= 0).all()
        assert (boxes <= [96, 64, 96, 64]).all()
        unjudged += int(ignored.sum())
    assert unjudged
