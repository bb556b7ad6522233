"""Detectors: files of each known kind on a real frame, and what is refused."""

import itertools

import numpy as np
import pytest

from passerby.reid.engine import network_ports, open_network
from passerby.shop import Detections
from passerby.types import ModelError, PictureError
from passerby.vision.detect import open_detector, overlaps, suppressed
from passerby.vision.video import timed_pictures

FILES = {
    "models/person-detection-retail-0013/FP32/person-detection-retail-0013.xml": "Open Model Zoo SSD, pictures of 320x544",
    "models/person-detection-0201/person-detection-0201.xml": "Open Model Zoo SSD, pictures of 384x384",
    "models/person-detection-0202/person-detection-0202.xml": "Open Model Zoo SSD, pictures of 512x512",
    "models/yolox-nano/yolox_nano_416.onnx": "YOLOX, pictures of 416x416",
    "models/deimv2-femto/deimv2_femto.onnx": "DETR, pictures of 416x416",
}


@pytest.fixture(scope="module")
def frame(shared):
    """(picture, boxes (people, 4)) of frame 101 of PETS2009, six people or more."""
    path = shared / "videos" / "vtest.avi"
    ((_, picture),) = itertools.islice(timed_pictures(path), 100, 101)
    lines = (shared / "tracking" / "pets2009_s2l1_view001" / "gt.txt").read_text().splitlines()
    rows = np.array([[float(x) for x in line.split(",")[:6]] for line in lines])
    rows = rows[rows[:, 0] == 101][:, 2:6]
    return picture, np.concatenate((rows[:, :2], rows[:, :2] + rows[:, 2:]), 1).astype(np.float32)


@pytest.mark.parametrize(
    ("file", "understood"), FILES.items(), ids=lambda value: value.split("/")[1] if "/" in value else ""
)
def test_a_real_file_of_each_kind_finds_the_people_of_a_real_frame(shared, frame, file, understood):
    picture, people = frame
    detector = open_detector(shared / file, threads=1, least_score=0.2)
    assert detector.understood == understood
    (found,) = detector([picture])
    agreement = overlaps(people, found.boxes_xyxy)
    assert (agreement.max(1) > 0.5).mean() >= 0.5
    sure = overlaps(found.boxes_xyxy[:3], people)
    assert (sure.max(1) > 0.5).all()


def test_pictures_of_several_sizes_are_answered_in_their_order(shared, frame):
    picture, _ = frame
    half = np.ascontiguousarray(picture[:, : picture.shape[1] // 2])
    detector = open_detector(
        shared / "models/person-detection-0201/person-detection-0201.xml", sizes=((384, 640), (384, 384)), threads=2
    )
    together = detector([picture, half, picture])
    for found, seen in zip(together, (picture, half, picture), strict=True):
        (alone,) = detector([seen])
        np.testing.assert_allclose(found.boxes_xyxy, alone.boxes_xyxy, atol=0.5)
        assert (found.boxes_xyxy[:, 2:] <= (seen.shape[1], seen.shape[0])).all()
    assert detector([]) == []


def test_a_padded_picture_gives_boxes_where_the_people_are(shared, frame):
    """YOLOX pads: the same people are found in a tall cut, at their own places."""
    picture, _ = frame
    detector = open_detector(shared / "models/yolox-nano/yolox_nano_416.onnx", threads=1, least_score=0.3)
    tall = np.ascontiguousarray(picture[:, 200:600])
    (found,), (whole,) = detector([tall]), detector([picture])
    moved = found.boxes_xyxy + np.array([200, 0, 200, 0], np.float32)
    assert (overlaps(moved[:2], whole.boxes_xyxy).max(1) > 0.5).all()


def test_a_file_of_another_kind_is_refused(shared, small_model):
    reid = shared / "models/person-reidentification-retail-0286/FP16/person-reidentification-retail-0286.xml"
    with pytest.raises(ModelError, match=r"no detector of a known kind: takes .* gives .* expected one of ours"):
        open_detector(reid)
    with pytest.raises(ModelError, match="not a detector card"):
        open_detector(small_model)
    with pytest.raises(ModelError, match=r"expected card\.json beside the network"):
        open_detector(shared / "models")


def test_a_size_that_the_file_cannot_take_is_refused(shared):
    with pytest.raises(ModelError, match="no detector of a known kind"):
        open_detector(shared / "models/yolox-nano/yolox_nano_416.onnx", sizes=((320, 320),))


@pytest.mark.parametrize(("shape", "kind"), [((4, 4), np.uint8), ((4, 4, 3), np.float32), ((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(shared, shape, kind):
    detector = open_detector(shared / "models/person-detection-0201/person-detection-0201.xml", threads=1)
    with pytest.raises(PictureError, match=r"expected \(height, width, 3\) uint8"):
        detector([np.zeros(shape, kind)])


def test_of_two_boxes_on_one_person_the_surer_stays():
    boxes = np.array([[0, 0, 10, 20], [1, 0, 11, 20], [30, 0, 40, 20]], np.float32)
    assert suppressed(boxes, np.array([0.6, 0.9, 0.5], np.float32), overlap=0.5).tolist() == [1, 2]
    assert suppressed(boxes, np.array([0.6, 0.9, 0.5], np.float32), overlap=0.9).tolist() == [1, 0, 2]
    assert suppressed(boxes[:0], np.empty(0, np.float32)).tolist() == []


def test_overlaps_are_intersection_over_union():
    one, others = np.array([[0, 0, 2, 2]], np.float32), np.array([[1, 0, 3, 2], [5, 5, 6, 6], [0, 0, 2, 2]], np.float32)
    np.testing.assert_allclose(overlaps(one, others), [[1 / 3, 0, 1]])


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        ([[0, 0, 1, 1]], [0.5, 0.4], r"expected boxes \(n, 4\)"),
        ([[0, 0, 1, 1]], [1.5], r"expected scores of 0\.\.1"),
        ([[0, 0, 1, 1]], [float("nan")], r"expected scores of 0\.\.1"),
        ([[0, 0, 1, 1], [0, 0, 2, 2]], [0.4, 0.5], "surest first"),
        ([[1, 0, 1, 1]], [0.5], "right > left"),
    ],
)
def test_detections_that_contradict_themselves_are_refused(boxes, scores, message):
    with pytest.raises(ModelError, match=message):
        Detections(np.array(boxes, np.float32), np.array(scores, np.float32))


def test_detections_cannot_be_written_to():
    found = Detections(np.array([[0, 0, 1, 1]], np.float32), np.array([0.5], np.float32))
    assert len(found) == 1
    with pytest.raises(ValueError, match="read-only"):
        found.boxes_xyxy[0, 0] = 1
    with pytest.raises(ModelError, match="float32"):
        Detections(np.zeros((0, 4)), np.zeros(0))


def test_a_network_says_what_it_takes_and_refuses_what_it_cannot(shared, tmp_path):
    path = shared / "models/deimv2-femto/deimv2_femto.onnx"
    inputs, outputs = network_ports(path)
    assert [str(port) for port in inputs] == ["images f32 (?, 3, 416, 416)", "orig_target_sizes i64 (?, 2)"]
    assert [port.name for port in outputs] == ["labels", "boxes", "scores"]
    with pytest.raises(ModelError, match=r"cannot take pictures of 64x64 by 'pictures'; its inputs are images f32"):
        open_network(path, picture="pictures", height=64, width=64)
    with pytest.raises(ModelError, match="threads: expected at least 1"):
        open_network(path, picture="images", height=416, width=416, threads=0)
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match="OpenVINO cannot read it"):
        network_ports(tmp_path / "broken.onnx")
    with pytest.raises(ModelError, match=r"expected an \.onnx file or an OpenVINO \.xml"):
        network_ports(tmp_path / "broken.pt")
    with pytest.raises(ModelError, match="no such file"):
        network_ports(tmp_path / "absent.onnx")


def test_the_bundled_detector_finds_the_people_of_a_real_frame_in_both_precisions(frame):
    picture, people = frame
    for precision in ("fp32", "int8"):
        detector = open_detector("person_detector", precision=precision, threads=1)
        (found,) = detector([picture])
        assert (overlaps(people, found.boxes_xyxy).max(1) > 0.5).mean() >= 0.8
    assert open_detector().understood == "person_detector, pictures of 384x640 or 416x576"
