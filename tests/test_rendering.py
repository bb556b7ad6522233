import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from passerby.simulate import rendering
from passerby.simulate.rendering import PARTIES_PER_HOUR, draw_shop, empty_photos, write_pictures, write_sequences
from passerby.simulate.scene import Atlas, draw_look
from passerby.types import SimulationError

RED = (230, 10, 10)


def red(atlas, rng):
    return replace(draw_look(atlas, rng), colours=(RED,) * 7, print_="plain")


@pytest.fixture(scope="module")
def atlas(drawn_atlas):
    return Atlas(drawn_atlas)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(10):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((120, 160, 3), 40 + 20 * number, np.uint8))
    return empty_photos(folder)


@pytest.fixture(scope="module")
def made(atlas, photos, tmp_path_factory):
    """Twenty-four pictures of people in red, half of them in front of a photo."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering, "draw_look", red)
        write_pictures(folder, atlas, pictures=24, seed=3, photos=photos)
    return folder


def coco(folder):
    return json.loads((folder / "persons.json").read_text())


def test_the_file_is_coco(made):
    data = coco(made)
    assert data["categories"] == [{"id": 1, "name": "person"}]
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    assert len(sizes) == 24
    for image in data["images"]:
        height, width, _ = cv2.imread(str(made / "images" / image["file_name"])).shape
        assert (width, height) == sizes[image["id"]]
        assert image["split"] in ("train", "val")
    assert len({row["id"] for row in data["annotations"]}) == len(data["annotations"]) > 40
    for row in data["annotations"]:
        x, y, width, height = row["bbox"]
        across, down = sizes[row["image_id"]]
        assert 0 <= x < x + width <= across
        assert 0 <= y < y + height <= down
        assert row["area"] == width * height
        assert row["category_id"] == 1
        assert 0 < row["visibility"] <= 1
        assert row["iscrowd"] == (row["visibility"] < 0.2)
    assert len({row["image_id"] for row in data["annotations"]}) < 24  # some show nobody


def test_boxes_are_where_people_were_drawn(made):
    data, alone = coco(made), 0
    for image in data["images"]:
        boxes = [row for row in data["annotations"] if row["image_id"] == image["id"]]
        blue, green, shown = cv2.imread(str(made / "images" / image["file_name"])).astype(int).transpose(2, 0, 1)
        drawn = (shown > 60) & (shown > 2.2 * green) & (shown > 2.2 * blue)
        inside = np.zeros_like(drawn)
        for x, y, width, height in (row["bbox"] for row in boxes):
            inside[max(0, int(y) - 4) : int(y + height) + 4, max(0, int(x) - 4) : int(x + width) + 4] = True
        assert (drawn & ~inside).sum() <= 0.01 * drawn.sum() + 80  # goods on a shelf are red now and then
        for row in boxes:
            x, y, width, height = row["bbox"]
            others = [b["bbox"] for b in boxes if b is not row]
            apart = all(x >= a + c or a >= x + width or y >= b + d or b >= y + height for a, b, c, d in others)
            if row["visibility"] == 1 and apart and height > 40:
                alone += 1
                rows, columns = np.nonzero(drawn[int(y) : int(y + height), int(x) : int(x + width)])
                extent = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                np.testing.assert_allclose(extent, (0, 0, width, height), atol=4)  # JPEG smears colour by some px
    assert alone > 5


def test_the_split_shares_no_photo(made):
    images = coco(made)["images"]
    of = {part: {i["source"] for i in images if i["split"] == part} - {"drawn shop"} for part in ("train", "val")}
    assert not of["train"] & of["val"]
    assert len(of["train"]) > 3
    assert 0 < sum(image["split"] == "val" for image in images) < 8


def test_the_same_seed_gives_the_same_bytes(atlas, photos, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_pictures(tmp_path / name, atlas, pictures=2, seed=seed, photos=photos)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 3
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
        assert (tmp_path / "a" / file).read_bytes() != (tmp_path / "c" / file).read_bytes()


def test_photos_of_a_coco_folder_are_its_training_pictures_without_boxes(tmp_path):
    images = [{"id": n, "file_name": f"{n}.jpg", "split": "test" if n == 4 else "train"} for n in (1, 2, 3, 4)]
    (tmp_path / "set.json").write_text(json.dumps({"images": images, "annotations": [{"image_id": 2}]}))
    assert [path.name for path in empty_photos(tmp_path)] == ["1.jpg", "3.jpg"]
    (tmp_path / "set.json").write_text("{}")
    with pytest.raises(SimulationError, match="expected COCO"):
        empty_photos(tmp_path)


def test_a_folder_without_photos_is_refused(tmp_path):
    with pytest.raises(SimulationError, match="found none"):
        empty_photos(tmp_path)


def test_shops_differ_and_their_camera_sees_something():
    shops = [draw_shop(np.random.default_rng(seed)) for seed in range(8)]
    assert len({shop.size_m for shop in shops}) == 8
    assert len({len(shop.obstacles) for shop in shops}) > 1


def test_six_sequences_in_motchallenge_s_form_two_of_them_crowded(atlas, tmp_path):
    for name in ("a", "b"):
        write_sequences(tmp_path / name, atlas, seed=1, duration_s=0.5)
    people = {}
    for name in PARTIES_PER_HOUR:
        folder = tmp_path / "a" / name
        assert sorted(path.name for path in (folder / "img1").iterdir()) == [f"{n:06d}.jpg" for n in range(1, 7)]
        assert "seqLength=6\n" in (folder / "seqinfo.ini").read_text()
        truth = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",", ndmin=2)
        assert truth.shape[1] == 9
        assert set(truth[:, 0]) <= set(range(1, 7))
        assert len({(frame, person) for frame, person in truth[:, :2]}) == len(truth)
        people[name] = (truth[:, 8] >= 0.2).sum() / 6
        found = np.loadtxt(folder / "det" / "det.txt", delimiter=",", ndmin=2)
        assert found.shape[1] == 10
        assert 0.5 * 6 * people[name] < len(found) <= 6 * people[name] + 6
        for part in ("gt/gt.txt", "det/det.txt", "img1/000006.jpg"):
            assert (folder / part).read_bytes() == (tmp_path / "b" / name / part).read_bytes()
    quiet, crowded = ([n for name, n in people.items() if name.startswith(kind)] for kind in ("quiet", "crowded"))
    assert (len(quiet), len(crowded)) == (4, 2)
    assert min(crowded) > 1.5 * max(quiet)


def test_sequences_of_less_than_a_frame_are_refused(atlas, tmp_path):
    with pytest.raises(SimulationError, match="not one frame"):
        write_sequences(tmp_path, atlas, seed=1, duration_s=0.01)
