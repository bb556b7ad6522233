"""Readers, splits and leakage, on small generated trees with the real naming; the real data where it is at hand."""

import csv
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from passerby.reid.datasets import (
    Spec,
    described,
    merge,
    parse_spec,
    parse_specs,
    read_dataset,
    read_specs,
    terms_of,
    without_sets,
)
from passerby.reid.leakage import check_leakage, check_readable, near_duplicates
from passerby.reid.readers.folder import read_people
from passerby.reid.readers.manifest import load_split, save_split
from passerby.reid.splits import dev_split, person_disjoint_split, split_hash
from passerby.types import Dataset, DatasetError, Picture, PictureError

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "datasets"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets (../shared/datasets) are not here")


def write(root: Path, *names: str) -> Path:
    """Write a small picture under each name, a different one for each."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(list(name.encode())).integers(0, 256, (16, 8, 3), dtype=np.uint8)
        picture = cv2.resize(noise, (16, 32), interpolation=cv2.INTER_CUBIC)
        path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())
    return root


def names(pictures: Sequence[Picture]) -> list[str]:
    return [picture.path.name for picture in pictures]


@pytest.fixture
def market(tmp_path: Path) -> Path:
    return write(
        tmp_path / "market",
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "bounding_box_train/0002_c2s1_000776_01.jpg",
        "bounding_box_train/0002_c3s1_000776_01.jpg",
        "bounding_box_train/0007_c1s6_028546_01.jpg",
        "bounding_box_train/0007_c4s6_028546_04.jpg",
        "bounding_box_train/0007_c4s6_028571_04.jpg",
        "bounding_box_train/0010_c6s4_002427_07.jpg",
        "query/0001_c1s1_001051_00.jpg",
        "query/1488_c6s3_094992_00.jpg.jpg",
        "bounding_box_test/-1_c1s1_000401_03.jpg",
        "bounding_box_test/0000_c1s1_000151_01.jpg",
        "bounding_box_test/0001_c2s1_001976_01.jpg",
        "bounding_box_test/1488_c1s6_023071_05.jpg.jpg",
    )


def test_market_names_tell_person_camera_sequence_and_frame(market: Path) -> None:
    dataset = read_dataset("market1501", market, split="official")
    first = dataset.train[0]
    assert (first.person, first.camera, first.sequence, first.frame) == ("market1501:0002", "market1501:c1", "s1", 451)
    assert dataset.protocol == "market1501"
    assert len(dataset.train) == 7


def test_market_pictures_that_end_in_jpg_jpg_count(market: Path) -> None:
    dataset = read_dataset("market1501", market)
    assert names(dataset.query) == ["0001_c1s1_001051_00.jpg", "1488_c6s3_094992_00.jpg.jpg"]
    assert "1488_c1s6_023071_05.jpg.jpg" in names(dataset.gallery)


@pytest.mark.parametrize(
    ("name", "camera", "sequence", "frame"),
    [
        ("{p:04d}_c1s2_000451_03.JPG", "c1", "s2", 451),
        ("{p:04d}_c1s2_000451_03.png", "c1", "s2", 451),
        ("{p:05d}_c1s2_000451_03.jpg", "c1", "s2", 451),
        ("{p:04d}_c12s2_000451_03.jpg", "c12", "s2", 451),
        ("{p:04d}_c1s2_01_00.jpg", "c1", "s2", 1),  # NVIDIA TAO
        ("{p:04d}_c001_00016450_0.jpg", "c001", None, 16450),  # VeRi
        ("{p:04d}_c1_1.png", "c1", None, None),  # CUHK03-NP
        ("{p:04d}C1T0002F003.jpg", "c1", "T0002", 3),  # MARS
    ],
)
def test_sets_that_took_market_1501s_folders_are_read_by_their_own_names(
    tmp_path: Path, name: str, camera: str, sequence: str | None, frame: int | None
) -> None:
    write(tmp_path, *(f"{part}/{name.format(p=1)}" for part in ("bounding_box_train", "query", "bounding_box_test")))
    for dataset in (read_dataset("market1501", tmp_path), read_dataset("cuhk03", tmp_path)):
        found = dataset.query[0]
        assert (found.camera, found.sequence, found.frame) == (f"{dataset.name[:-5]}:{camera}", sequence, frame)
        assert found.role == "person"


def test_veri_has_folders_of_its_own_and_no_counts_of_market_1501(tmp_path: Path) -> None:
    name = "0002_c002_00030600_0.jpg"
    dataset = read_dataset(
        "market1501", write(tmp_path, *(f"image_{part}/{name}" for part in ("train", "query", "test")))
    )
    assert len(dataset.query) == len(dataset.gallery) == 1
    assert dataset.notes == ()


@pytest.mark.parametrize(("person", "role"), [("00-1C1T0001F001", "junk"), ("00000_c1s1_000001_00", "distractor")])
def test_junk_and_distractors_have_their_names_in_other_forms_too(tmp_path: Path, person: str, role: str) -> None:
    form = "0002C1T0001F001.jpg" if "T" in person else "00002_c1s1_000451_03.jpg"
    write(tmp_path, *(f"{part}/{form}" for part in ("bounding_box_train", "query", "bounding_box_test")))
    write(tmp_path, f"bounding_box_test/{person}.jpg")
    assert {p.role for p in read_dataset("market1501", tmp_path).gallery} == {"person", role}


def test_cuhk03_np_is_read_from_its_folders(tmp_path: Path) -> None:
    parts = ("bounding_box_train", "query", "bounding_box_test")
    write(tmp_path, *(f"detected/{part}/0003_c2_6.png" for part in parts))
    write(tmp_path, *(f"labeled/{part}/0004_c1_6.png" for part in parts))
    assert read_dataset("cuhk03", tmp_path).query[0].person == "cuhk03:0003"
    labelled = read_dataset("cuhk03", tmp_path, boxes="labelled")
    assert (labelled.query[0].person, labelled.protocol) == ("cuhk03:0004", "market1501")
    assert "the release has 7,368 of 767" in labelled.notes[0]


def test_market_minus_one_is_junk_and_0000_a_distractor(market: Path) -> None:
    roles = {picture.person: picture.role for picture in read_dataset("market1501", market).gallery}
    assert roles == {
        "market1501:-1": "junk",
        "market1501:0000": "distractor",
        "market1501:0001": "person",
        "market1501:1488": "person",
    }


def test_market_says_where_its_counts_differ_from_the_release(market: Path) -> None:
    notes = read_dataset("market1501", market).notes
    assert "market1501: query: 2 pictures of 2 ids, the release has 3,368 of 750" in notes


def test_system_files_are_ignored_but_a_stranger_is_an_error_that_names_it(market: Path) -> None:
    (market / "query" / "Thumbs.db").write_bytes(b"x")
    (market / "query" / ".DS_Store").write_bytes(b"x")
    assert len(read_dataset("market1501", market).query) == 2
    (market / "query" / "1489_c6.txt").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"found 1 of 3 otherwise named: 1489_c6.txt"):
        read_dataset("market1501", market)


def test_a_folder_of_something_else_says_what_was_expected_and_found(tmp_path: Path) -> None:
    write(tmp_path / "holiday", "beach.jpg")
    with pytest.raises(
        DatasetError, match=r"bounding_box_train: expected a folder with pictures named .* holds beach.jpg"
    ):
        read_dataset("market1501", tmp_path / "holiday")
    with pytest.raises(DatasetError, match="either"):
        read_dataset("market1501", tmp_path / "nowhere")


def test_an_empty_part_is_an_error(market: Path) -> None:
    for path in (market / "query").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"query: expected .*, found an empty folder"):
        read_dataset("market1501", market)


def test_junk_in_the_training_folder_is_an_error(market: Path) -> None:
    write(market, "bounding_box_train/-1_c1s1_000401_03.jpg")
    with pytest.raises(DatasetError, match="expected people only"):
        read_dataset("market1501", market)


def test_train_and_dev_share_no_person_and_lose_no_picture(market: Path) -> None:
    train = read_dataset("market1501", market, split="train", people=1, seed=3)
    dev = read_dataset("market1501", market, split="dev", people=1, seed=3)
    assert not {p.person for p in train.train} & {p.person for p in dev.query + dev.gallery}
    assert len(train.train) + len(dev.query) + len(dev.gallery) == 7
    assert train.query == dev.train == ()


def test_dev_queries_are_two_a_person_from_two_cameras_and_can_be_answered(market: Path) -> None:
    for seed in range(5):
        dev = read_dataset("market1501", market, split="dev", people=2, seed=seed)  # person 0010 has one camera
        by_person: dict[str, list[Picture]] = {}
        for picture in dev.query:
            by_person.setdefault(picture.person, []).append(picture)
        assert len({p.camera for p in by_person["market1501:0002"]}) == 2
        # 0007 has one picture from camera 1: with it and one of camera 4 as queries, the latter had no answer left.
        assert len(by_person["market1501:0007"]) == 1
        for query in dev.query:
            assert any(p.person == query.person and p.camera != query.camera for p in dev.gallery)


def test_dev_people_are_fixed_by_the_seed_and_not_by_order(market: Path) -> None:
    dataset = read_dataset("market1501", market, split="official")
    backwards = replace(dataset, train=dataset.train[::-1])
    chosen = {p.person for p in dev_split(dataset, people=1, seed=7)[1].query}
    assert chosen == {p.person for p in dev_split(backwards, people=1, seed=7)[1].query}
    assert {next(iter(dev_split(dataset, people=1, seed=s)[1].query)).person for s in range(8)} == {
        "market1501:0002",
        "market1501:0007",
    }


def test_more_dev_people_than_can_be_queried_is_an_error(market: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected 1 to 2 dev people of 3 .* got people=3"):
        read_dataset("market1501", market, split="dev", people=3)


def test_duke_names_tell_person_camera_and_frame(tmp_path: Path) -> None:
    write(
        tmp_path,
        "bounding_box_train/0001_c2_f0046182.jpg",
        "query/0005_c2_f0046985.jpg",
        "bounding_box_test/0005_c8_f0061505.jpg",
    )
    dataset = read_dataset("dukemtmc", tmp_path)
    assert dataset.gallery[0].camera == "dukemtmc:c8"
    assert dataset.query[0].person == "dukemtmc:0005"
    assert dataset.query[0].frame == 46985


CUHK_IMAGES = [f"images_detected/1_00{p}_{v}_0{i}.jpg" for p in range(1, 5) for v in (1, 2) for i in (1, 2)]


def test_cuhk03_split_json_holds_person_numbers_and_is_measured_across_cameras(tmp_path: Path) -> None:
    write(tmp_path, *CUHK_IMAGES)
    (tmp_path / "split.json").write_text('{"train": [1, 2, 3], "test": [4]}')
    test = read_dataset("cuhk03", tmp_path)
    assert test.query == test.gallery
    assert names(test.query) == ["1_004_1_01.jpg", "1_004_1_02.jpg", "1_004_2_01.jpg", "1_004_2_02.jpg"]
    assert [p.camera for p in test.query] == ["cuhk03:1_c1", "cuhk03:1_c1", "cuhk03:1_c2", "cuhk03:1_c2"]
    assert test.protocol == "cross-camera"
    dev = read_dataset("cuhk03", tmp_path, split="dev", people=1)
    assert dev.query == dev.gallery
    assert len(dev.query) == 4
    assert dev.protocol == "cross-camera"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"train": [1, 2, 3]}', "expected {"),
        ('{"train": [1, 2, 3, 4], "test": [4]}', "in train and in test: 4"),
        ('{"train": [1, 2], "test": [4]}', "people that it does not name: 1_003"),
        ('{"train": [1, 2, 3, 5], "test": [4]}', "no pictures of: 1_005"),
    ],
)
def test_a_cuhk03_split_that_does_not_fit_the_folder_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, *CUHK_IMAGES)
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_dataset("cuhk03", tmp_path)


def test_cuhk03_without_any_split_says_which_files_would_tell(tmp_path: Path) -> None:
    write(tmp_path, *CUHK_IMAGES)
    with pytest.raises(DatasetError, match=r"split.json .*cuhk03_new_protocol_config_detected.mat .*testsets.json"):
        read_dataset("cuhk03", tmp_path)


def test_cuhk03_new_protocol_reads_its_matlab_file(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io", reason="scipy writes the MATLAB file of this test")
    write(tmp_path, *CUHK_IMAGES)
    files = [Path(name).with_suffix(".png").name for name in CUHK_IMAGES]
    config = {
        "train_idx": np.arange(1, 9, dtype=np.uint16)[:, None],
        "query_idx": np.array([[9], [13]], np.uint16),
        "gallery_idx": np.array([[10], [11], [12], [14], [15], [16]], np.float64),
        "labels": np.repeat([1, 2, 3, 4], 4)[:, None],
        "filelist": np.array(files, dtype=object)[:, None],
    }
    for compressed in (True, False):
        path = tmp_path / "cuhk03_new_protocol_config_detected.mat"
        scipy_io.savemat(path, config, do_compression=compressed)
        dataset = read_dataset("cuhk03", tmp_path, split="official")
        assert names(dataset.query) == ["1_003_1_01.jpg", "1_004_1_01.jpg"]
        assert len(dataset.train) == 8
        assert len(dataset.gallery) == 6
        assert dataset.protocol == "market1501"
        assert "the release has 1,400 of 700" in dataset.notes[1]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetError, match="expected a MATLAB file with filelist"):
        read_dataset("cuhk03", tmp_path)


def write_cuhk03_mat(path: Path) -> None:
    """A file built like cuhk-03.mat: five pairs, two people each, ten cells a person, some of them empty."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:

        def put(name: str, array: np.ndarray) -> object:  # MATLAB stores arrays transposed
            return file.create_dataset(name, data=array.T).ref

        for field in ("detected", "labeled"):
            pairs = []
            for pair in range(5):
                cells = np.empty((2, 10), dtype=h5py.ref_dtype)
                for person in range(2):
                    for image in range(10):
                        there = image in (0, 5, 6)
                        colour = np.full((6, 3, 3), [250, 10 * person, 10 * image], np.uint8)
                        empty = np.zeros(2, np.uint64)
                        name = f"refs/{field}{pair}{person}{image}"
                        cells[person, image] = put(name, colour if there else empty)
                pairs.append(file.create_dataset(f"refs/{field}{pair}", data=cells.T, dtype=h5py.ref_dtype).ref)
            file.create_dataset(field, data=np.array([pairs], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
        splits = [put(f"refs/split{i}", np.array([[1, 1 + i], [5, 2]], np.float64)) for i in range(2)]
        file.create_dataset("testsets", data=np.array([splits], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)


def test_cuhk03_mat_is_unpacked_once_with_its_classic_splits(tmp_path: Path) -> None:
    write_cuhk03_mat(tmp_path / "cuhk-03.mat")
    dataset = read_dataset("cuhk03", tmp_path, split="official", cache=tmp_path / "cache")
    assert names(dataset.query) == [
        *("1_001_1_01.png", "1_001_2_06.png", "1_001_2_07.png"),
        *("5_002_1_01.png", "5_002_2_06.png", "5_002_2_07.png"),
    ]
    assert dataset.protocol == "single-gallery-shot"
    assert len(dataset.train) == 8 * 3
    picture = cv2.imread(str(dataset.query[4].path))
    assert picture.shape == (6, 3, 3)
    assert picture[0, 0].tolist() == [50, 10, 250]  # BGR of the RGB that was stored
    second = read_dataset("cuhk03", tmp_path, boxes="labelled", cuhk03_split=1, cache=tmp_path / "cache")
    assert second.query[0].person == "cuhk03:1_002"
    assert "images_labeled" in str(second.query[0].path)
    with pytest.raises(DatasetError, match="expected a split of 0 to 1, got 2"):
        read_dataset("cuhk03", tmp_path, cuhk03_split=2, cache=tmp_path / "cache")


def test_a_damaged_cuhk03_mat_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    (tmp_path / "cuhk-03.mat").write_bytes(b"not HDF5")
    with pytest.raises(DatasetError, match=r"cuhk-03.mat: cannot be unpacked"):
        read_dataset("cuhk03", tmp_path)


def test_last_has_no_cameras_and_its_own_validation_people(tmp_path: Path) -> None:
    write(
        tmp_path,
        "train/000000/000000_0001_12_3.jpg",
        "val/query/000003_0001.jpg",
        "val/gallery/000003/000003_0002.jpg",
        "test/query/000000_0001.jpg",
        "test/gallery/000000/000000_0002.jpg",
    )
    test = read_dataset("last", tmp_path)
    assert [p.camera for p in test.query + test.gallery] == [None, None]
    assert test.query[0].person == test.gallery[0].person == "last:test/0"
    assert test.protocol == "market1501"
    assert read_dataset("last", tmp_path, split="dev").query[0].person == "last:val/3"
    assert read_dataset("last", tmp_path, split="train").train[0].person == "last:train/0"


MSMT_LISTS = {
    "list_train.txt": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_000_05_0303noon_0020_1.jpg 1"],
    "list_val.txt": ["0000/0000_001_14_0302afternoon_0031_0.jpg 0"],
    "list_query.txt": ["0000/0000_000_02_0303morning_0005_1.jpg 0"],
    "list_gallery.txt": ["0000/0000_001_15_0302noon_0006_1.jpg 0", "0002/0002_000_02_0303morning_0007_0.jpg 2"],
}


def write_msmt17(root: Path, train: str = "train", test: str = "test") -> Path:
    """Both people 0000 are different ones: training and test are numbered from 0 each."""
    for name, lines in MSMT_LISTS.items():
        folder = train if name in ("list_train.txt", "list_val.txt") else test
        write(root / folder, *(line.split(" ")[0] for line in lines))
        (root / name).write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt17_is_read_by_its_lists_in_both_versions(tmp_path: Path, folders: tuple[str, str]) -> None:
    dataset = read_dataset("msmt17", write_msmt17(tmp_path, *folders), split="official")
    assert [(p.person, p.camera, p.sequence) for p in dataset.train] == [
        ("msmt17:train/0000", "msmt17:c01", "0303morning"),
        ("msmt17:train/0000", "msmt17:c14", "0302afternoon"),
        ("msmt17:train/0001", "msmt17:c05", "0303noon"),
    ]
    assert names(dataset.query) == ["0000_000_02_0303morning_0005_1.jpg"]
    assert [p.person for p in dataset.gallery] == ["msmt17:test/0000", "msmt17:test/0002"]
    assert dataset.protocol == "market1501"
    assert dataset.notes[0] == "msmt17: train: 3 pictures of 2 ids, the release has 32,621 of 1,041"
    assert "the release has 82,161 of 3,060" in dataset.notes[2]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: (text + "\n").encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace(" ", "\t").encode(),
        lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    ],
)
def test_msmt17_lists_may_have_an_empty_line_a_mark_or_a_tab(tmp_path: Path, encode) -> None:
    root = write_msmt17(tmp_path)
    for name in MSMT_LISTS:
        (root / name).write_bytes(encode((root / name).read_text()))
    assert len(read_dataset("msmt17", root, split="official").train) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "list_val.txt").unlink(), r"list_val.txt: expected the list"),
        (lambda root: (root / "list_val.txt").write_text(""), r"1 pictures stand in none of list_train.txt, list_val"),
        (
            lambda root: (root / "list_val.txt").write_text("0000/a.jpg 0\n"),
            r"list_val.txt, line 1: expected pictures named",
        ),
        (
            lambda root: (root / "list_val.txt").write_text(MSMT_LISTS["list_train.txt"][0] + "\n"),
            r"list_val.txt, line 1: expected a picture of train that no line has named yet",
        ),
        (lambda root: shutil.rmtree(root / "test"), r"test: expected a folder with pictures named"),
    ],
)
def test_an_msmt17_whose_lists_do_not_fit_is_an_error(tmp_path: Path, change, message: str) -> None:
    change(write_msmt17(tmp_path))
    with pytest.raises(DatasetError, match=message):
        read_dataset("msmt17", tmp_path)


def test_a_plain_folder_is_read_by_a_pattern(tmp_path: Path) -> None:
    root = write(tmp_path / "shop", "anna/door-0007.png", "anna/till-0009.png", "bert/door-0008.png")
    dataset = read_dataset("folder", root, pattern=r"(?P<person>\w+)/(?P<camera>\w+)-(?P<frame>\d+)")
    assert [(p.person, p.camera, p.frame) for p in dataset.query] == [
        ("shop:anna", "shop:door", 7),
        ("shop:anna", "shop:till", 9),
        ("shop:bert", "shop:door", 8),
    ]
    assert dataset.protocol == "cross-camera"
    for pattern, message in (
        (r"\w+", "a group"),
        ("(", "regular expression"),
        (r"(?P<person>\w+)/(?P<place>\w+).*", "with place"),
        (r"(?P<person>\w+)/(?P<frame>\w+)-.*", "expected the group frame to match digits, got 'door'"),
        (r"(?P<person>anna)/.*", "found 1 of 3 that do not: bert/door-0008"),
    ):
        with pytest.raises(DatasetError, match=message):
            read_dataset("folder", root, pattern=pattern)


def test_a_pattern_is_for_folders_alone(market: Path) -> None:
    with pytest.raises(DatasetError, match="a pattern for a folder: set alone"):
        read_dataset("market1501", market, pattern="(?P<person>.*)")


def test_a_folder_a_person_is_no_camera_a_person(tmp_path: Path) -> None:
    """`anna/img_0.png` was read as person img in camera 0, and every query found itself."""
    root = write(tmp_path / "shop", *(f"{who}/img_{i}.png" for who in ("anna", "bert") for i in range(3)))
    dataset = read_dataset("folder", root)
    assert {p.person for p in dataset.query} == {"shop:anna", "shop:bert"}
    assert {p.camera for p in dataset.gallery} == {None}
    assert dataset.protocol == "market1501"
    assert described(dataset) == (
        "shop/test: 2 people, no cameras, 6 pictures (a folder a person: anna/img_0 shows anna)"
    )


@pytest.mark.parametrize("name", ["cam01_person{p:02d}_{i}.png", "c1_{p:03d}_4{i}.JPG"])
def test_camera_first_names_are_as_many_people_as_they_say(tmp_path: Path, name: str) -> None:
    """They were read as one person a camera."""
    other = name.replace("1_", "2_", 1)
    files = (each.format(p=p, i=i) for each in (name, other) for p in range(12) for i in range(2))
    dataset = read_dataset("folder", write(tmp_path / "shop", *files))
    assert described(dataset).startswith("shop/test: 12 people, 2 cameras, 48 pictures (camera first: ")


def test_a_folder_may_hold_train_query_and_gallery_and_nothing_else(tmp_path: Path) -> None:
    names_ = ("train/1_c1_000001.png", "train/1_c2_000002.png", "query/2_c1.png", "gallery/2_c2.png")
    root = write(tmp_path / "shop", *names_)
    assert names(read_dataset("folder", root).gallery) == ["2_c2.png"]
    assert len(read_dataset("folder", root, split="official").train) == 2
    (root / "gallery" / "Thumbs.db").write_bytes(b"x")
    (root / ".DS_Store").write_bytes(b"x")
    assert len(read_dataset("folder", root).gallery) == 1
    write(root, "test/3_c1.png")
    with pytest.raises(DatasetError, match="expected train, query, gallery alone, found test"):
        read_dataset("folder", root)
    shutil.rmtree(root / "test")
    shutil.rmtree(root / "query")
    with pytest.raises(DatasetError, match="expected query and gallery, or neither"):
        read_dataset("folder", root)


def test_a_folder_of_other_things_or_of_nobody_is_an_error(tmp_path: Path) -> None:
    root = write(tmp_path / "shop", "anna/1.png", "bert/1.png")
    (root / "notes.txt").write_text("x")
    with pytest.raises(DatasetError, match=r"found 1 other files: notes\.txt"):
        read_dataset("folder", root)
    (root / "notes.txt").unlink()
    (root / "carl").mkdir()
    with pytest.raises(DatasetError, match="carl: expected pictures of one person"):
        read_dataset("folder", root)


def test_a_gallery_is_read_as_folder_reads_it(tmp_path: Path) -> None:
    root = write(
        tmp_path / "shop", *(f"{who}/cam{c}_{i}.png" for who in ("anna", "bert") for c in (1, 2) for i in (0, 1))
    )
    (root / "anna" / "Thumbs.db").write_bytes(b"x")
    dataset = read_dataset("folder", root)
    people, read = read_people(root)
    assert {f"shop:{who}": len(files) for who, files in people.items()} == {"shop:anna": 4, "shop:bert": 4}
    assert {p.path for p in dataset.gallery} == {path for files in people.values() for path in files}
    assert read == f"2 people, 2 cameras, 8 pictures ({dataset.layout})"
    assert list(read_people(root, pattern=r".*/cam(?P<person>\d).*")[0]) == ["1", "2"]


def manifest(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_manifest_tells_path_person_camera_split_and_time(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", "c.png")
    path = manifest(
        tmp_path / "shop.csv",
        "path,person,camera,split,time",
        "a.png,7,door,query,2026-03-01T10:00:00+00:00",
        "b.png,7,,gallery,",
        "c.png,8,door,train,",
    )
    dataset = read_dataset("csv", path, split="official")
    assert dataset.query[0].seen_at == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert (dataset.query[0].person, dataset.query[0].camera) == ("shop:7", "shop:door")
    assert dataset.gallery[0].camera is None
    assert names(dataset.train) == ["c.png"]


def test_a_manifest_without_splits_is_measured_across_cameras(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png")
    dataset = read_dataset("csv", manifest(tmp_path / "shop.csv", "path,person,camera", "a.png,7,x", "b.png,7,y"))
    assert dataset.query == dataset.gallery
    assert dataset.protocol == "cross-camera"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["file,person,camera", "a.png,7,door"], "expected the columns path,person,camera"),
        (["path,person,camera", "a.png,7,door", "b.png,7,door"], "1 pictures do not exist: .*b.png"),
        (["path,person,camera", "a.png,7"], "line 2: expected a value"),
        (["path,person,camera", "a.png,7,door,extra"], "line 2: expected a value"),
        (["path,person,camera", "a.png,,door"], "line 2: expected a value"),
        (["path,person,camera,split", "a.png,7,door,tests"], "line 2: expected a split of .* got 'tests'"),
        (["path,person,camera,time", "a.png,7,door,2026-03-01T10:00:00"], "a time needs its zone"),
        (["path,person,camera,time", "a.png,7,door,yesterday"], "line 2: .*yesterday"),
        (["path,person,camera,split", "a.png,7,d,test", "a.png,7,d,query"], "means query and gallery at once"),
    ],
)
def test_a_wrong_manifest_names_the_line(tmp_path: Path, rows: list[str], message: str) -> None:
    write(tmp_path, "a.png")
    with pytest.raises(DatasetError, match=message):
        read_dataset("csv", manifest(tmp_path / "shop.csv", *rows))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_manifest_is_read_in_each_encoding_that_says_what_it_is(tmp_path: Path, encoding: str, end: str) -> None:
    write(tmp_path, "a.png", "b.png")
    text = end.join(["path,person,camera", "a.png,Jörg,Tür", "b.png,Jörg,Kasse", ""])
    (tmp_path / "shop.csv").write_bytes(text.encode(encoding))
    query = read_dataset("csv", tmp_path / "shop.csv").query
    assert [(p.person, p.camera) for p in query] == [("shop:Jörg", "shop:Tür"), ("shop:Jörg", "shop:Kasse")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "path,person,camera\na.png,Jörg,x\n".encode("cp1252"),
            r"shop.csv, line 2: expected text in UTF-8, found .*0xf6",
        ),
        ("path,person,camera\na.png,7,x\n".encode("utf-16-le"), "bytes of zero, as UTF-16 without its mark"),
        (b"path;person;camera\na.png;7;x\n", "are the columns separated by commas"),
        (b"path,person,camera,camera\na.png,7,x,y\n", "each once"),
        (b"path,person,camera\na.png,7,x\na.png,,x\n", "line 3: expected a value"),
        (b'path,person,camera\n"a.png,7,x\n', "line 2"),
        (b"", "expected the columns path,person,camera"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_never_a_traceback(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "shop.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_dataset("csv", tmp_path / "shop.csv")


@pytest.mark.parametrize("split", ["train", "dev"])
def test_pictures_without_training_people_say_how_to_get_some(tmp_path: Path, split: str) -> None:
    """They were told to use split='test', which `passerby train` has no option for."""
    write(tmp_path, "a.png", "b.png", "crops/anna/1.png", "crops/bert/1.png")
    path = manifest(tmp_path / "shop.csv", "path,person,camera", "a.png,7,x", "b.png,7,y")
    again = manifest(
        tmp_path / "dev.csv", "path,person,camera,split", f"a.png,7,x,{'dev' if split == 'train' else 'test'}"
    )
    for kind, root in (("csv", path), ("csv", again), ("folder", tmp_path / "crops")):
        with pytest.raises(
            DatasetError, match=f"passerby split --data {kind}:.* --out split.csv, and read csv:split.csv"
        ):
            read_dataset(kind, root, split=split)


def test_specs_are_kind_and_path() -> None:
    assert parse_spec("csv:C:/shop.csv") == Spec("csv", Path("C:/shop.csv"))
    assert parse_spec("north=folder:a=b:c") == Spec("folder", Path("a=b:c"), "north")
    with pytest.raises(DatasetError, match="a name of letters"):
        parse_spec("no rth=folder:crops")
    with pytest.raises(DatasetError, match="a name of letters"):
        parse_spec("=folder:crops")
    with pytest.raises(DatasetError, match="did you mean 'market1501'"):
        parse_spec("market1051:data")
    with pytest.raises(DatasetError, match="no path"):
        parse_spec("market1501:")
    with pytest.raises(DatasetError, match="no kind"):
        parse_spec("data/market")


def test_unreadable_pictures_are_named_counted_and_left_out_only_on_demand(market: Path) -> None:
    truncated = market / "bounding_box_test" / "0001_c2s1_001976_01.jpg"
    truncated.write_bytes(truncated.read_bytes()[:-30])
    (market / "bounding_box_test" / "0000_c1s1_000151_01.jpg").write_bytes(b"")
    (market / "bounding_box_test" / "-1_c1s1_000401_03.jpg").write_bytes(b"no picture")
    dataset = read_dataset("market1501", market)
    with pytest.raises(DatasetError, match="3 of 4 pictures cannot be decoded") as error:
        check_readable(dataset.gallery)
    for reason in (
        "(cannot be decoded",
        "(an empty file of 0 bytes",
        "(not a picture in a known format",
        "0001_c2s1_001976_01.jpg",
        "--skip-unreadable",
    ):
        assert reason in str(error.value)
    assert names(check_readable(dataset.gallery, skip_unreadable=True)) == ["1488_c1s6_023071_05.jpg.jpg"]
    skipped = read_dataset("market1501", market, skip_unreadable=True)
    assert names(skipped.gallery) == ["1488_c1s6_023071_05.jpg.jpg"]
    assert skipped.notes[-1].startswith("3 pictures could not be decoded and are left out")


def test_merged_sets_keep_disjoint_ids(market: Path, tmp_path: Path) -> None:
    write(tmp_path / "cuhk", *CUHK_IMAGES)
    (tmp_path / "cuhk" / "split.json").write_text('{"train": [1, 2, 3], "test": [4]}')
    a = read_dataset("market1501", market, split="train", people=1)
    b = read_dataset("cuhk03", tmp_path / "cuhk", split="train", people=1)
    union = merge([a, b])
    assert len(union.train) == len(a.train) + len(b.train)
    assert union.name == "market1501/train+cuhk03/train"
    assert {p.person.split(":")[0] for p in union.train} == {"market1501", "cuhk03"}
    with pytest.raises(DatasetError, match="one evaluation protocol, got cross-camera, market1501"):
        merge([read_dataset("market1501", market), read_dataset("cuhk03", tmp_path / "cuhk")])
    with pytest.raises(DatasetError, match="stands in market1501/train and market1501/train"):
        merge([a, a])


def test_two_copies_of_one_kind_are_not_merged_into_the_same_people(market: Path, tmp_path: Path) -> None:
    shutil.copytree(market, tmp_path / "other")
    both = [read_dataset("market1501", root, split="official") for root in (market, tmp_path / "other")]
    with pytest.raises(
        DatasetError, match=r"people of market1501 stand in market1501 and market1501, .* name=KIND:PATH"
    ):
        merge(both)
    named = [both[0], read_dataset("market1501", tmp_path / "other", split="official", name="north")]
    assert len({p.person for p in merge(named).train}) == 2 * len({p.person for p in both[0].train})
    assert merge(named).name == "market1501+north=market1501"


def test_two_sets_of_one_name_are_refused_with_a_way_out(market: Path, tmp_path: Path) -> None:
    """24 people of two folders of one name became 12."""
    roots = [write(tmp_path / at / "shop", *(f"{p:04d}_c{c}_1.png" for p in range(12) for c in (1, 2))) for at in "ab"]
    specs = [f"folder:{root}" for root in roots]
    with pytest.raises(DatasetError, match=r"are both called shop, .*: other=folder:.*b/shop"):
        parse_specs(specs)
    with pytest.raises(DatasetError, match="are both called market1501"):
        parse_specs([f"market1501:{market}", f"market1501:{market}"])
    with pytest.raises(DatasetError, match=r"both called x, .* other=cuhk03:b"):
        parse_specs(["x=market1501:a", "x=cuhk03:b"])
    with pytest.raises(DatasetError, match="given twice, under two names"):
        parse_specs([specs[0], f"other=folder:{roots[0]}/../shop"])
    read = read_specs(parse_specs([specs[0], f"other={specs[1]}"]), split="all")
    assert len({p.person for dataset in read for p in dataset.train}) == 24
    assert [dataset.name for dataset in read] == ["shop/all", "other/all"]


def test_a_saved_split_beside_its_own_source_is_refused(market: Path, tmp_path: Path) -> None:
    pictures = people(tmp_path)
    path = tmp_path / "union.csv"
    save_split(person_disjoint_split(pictures, seed=1), path)
    again = tmp_path / "again.csv"
    save_split(person_disjoint_split(pictures, seed=2), again)
    with pytest.raises(DatasetError, match=r"stands in union/all and again/all"):
        read_specs(parse_specs([f"csv:{path}", f"csv:{again}"]), split="all")


def test_a_named_set_keeps_the_terms_of_its_kind(market: Path, tmp_path: Path) -> None:
    north = read_dataset("market1501", market, split="all", name="north")
    assert north.train[0].person.startswith("north=market1501:")
    assert terms_of("north=market1501") == terms_of("market1501") != terms_of("north")
    pictures = [replace(p, person=p.person.replace("even", "north=market1501")) for p in people(tmp_path)]
    save_split(person_disjoint_split(pictures, seed=1), tmp_path / "union.csv")
    again = read_dataset("csv", tmp_path / "union.csv", split="all", name="mine")
    sources = {p.person.partition(":")[0] for p in again.train}
    assert sources == {"mine=north=market1501", "mine=odd"}
    assert terms_of("mine=north=market1501") == terms_of("market1501")
    assert {p.camera for p in again.train} == {"mine=a", "mine=b"}


def test_patterns_belong_to_folders_in_their_order_or_by_name() -> None:
    data = ["a=folder:x", "market1501:m", "folder:y/b"]
    assert [spec.pattern for spec in parse_specs(data, patterns=["P"])] == ["P", None, "P"]
    assert [spec.pattern for spec in parse_specs(data, patterns=["P", "Q"])] == ["P", None, "Q"]
    assert [spec.pattern for spec in parse_specs(data, patterns={"b": "Q"})] == [None, None, "Q"]
    with pytest.raises(DatasetError, match="of which there are 2, got 3"):
        parse_specs(data, patterns=["P", "Q", "R"])
    with pytest.raises(DatasetError, match="of which there are 0, got 1"):
        parse_specs(["market1501:m"], patterns=["P"])
    with pytest.raises(DatasetError, match=r"got 'market'; did you mean 'market1501'"):
        parse_specs(data, patterns={"market": "P"})
    with pytest.raises(DatasetError, match="a pattern for a folder: set alone, got one for market1501"):
        parse_specs(data, patterns={"market1501": "P"})


def people(tmp_path: Path, count: int = 20) -> list[Picture]:
    root = write(
        tmp_path / "union", *(f"{p:02d}_{camera}_{i}.png" for p in range(count) for camera in "ab" for i in range(2))
    )
    return [
        Picture(path, f"{'even' if int(path.name[:2]) % 2 == 0 else 'odd'}:{path.name[:2]}", path.name[3])
        for path in sorted(root.iterdir())
    ]


def test_the_union_split_is_disjoint_by_person_and_fixed_by_the_seed(tmp_path: Path) -> None:
    pictures = people(tmp_path)
    split = person_disjoint_split(pictures, shares=(0.5, 0.2, 0.3), seed=1)
    parts = [split.train, split.dev.query + split.dev.gallery, split.test.query + split.test.gallery]
    ids = [{p.person for p in part} for part in parts]
    assert [len(part) for part in ids] == [10, 4, 6]
    assert not ids[0] & ids[1] | ids[0] & ids[2] | ids[1] & ids[2]
    assert sum(len(part) for part in parts) == len(pictures)
    assert [sum(p.startswith("even") for p in part) for part in ids] == [5, 2, 3]  # each source is in each part
    assert len(split.test.query) == 12
    for query in split.test.query:
        assert any(p.person == query.person and p.camera != query.camera for p in split.test.gallery)
    again = person_disjoint_split(pictures[::-1], shares=(0.5, 0.2, 0.3), seed=1)
    assert again == split
    assert person_disjoint_split(pictures, shares=(0.5, 0.2, 0.3), seed=2).sha256 != split.sha256


def test_a_split_may_do_without_a_test_and_is_saved_so(tmp_path: Path) -> None:
    split = person_disjoint_split(people(tmp_path), shares=(0.8, 0.2, 0), seed=1)
    assert (len({p.person for p in split.train}), len({p.person for p in split.dev.gallery})) == (16, 4)
    assert not split.test.query + split.test.gallery
    save_split(split, tmp_path / "union.csv")
    assert load_split(tmp_path / "union.csv").dev == replace(split.dev, name="union/dev")
    assert read_dataset("csv", tmp_path / "union.csv", split="train").train == split.train


def test_a_set_left_out_is_missing_from_training_and_dev(tmp_path: Path) -> None:
    split = person_disjoint_split(people(tmp_path), shares=(0.8, 0.2, 0), seed=1)
    datasets = [Dataset("union/train", split.train, (), (), "market1501"), split.dev]
    train, dev = without_sets(datasets, ["even"])
    assert {p.person.partition(":")[0] for p in (*train.train, *dev.query, *dev.gallery)} == {"odd"}
    assert len(train.train) == len(split.train) // 2
    assert without_sets(datasets, []) == datasets
    with pytest.raises(DatasetError, match="expected one of even, odd, got 'evn'"):
        without_sets(datasets, ["evn"])


def test_the_union_split_needs_people_and_shares(tmp_path: Path) -> None:
    pictures = people(tmp_path, count=4)
    with pytest.raises(DatasetError, match="sum to 1"):
        person_disjoint_split(pictures, shares=(0.5, 0.2, 0.2))
    with pytest.raises(DatasetError, match="too few"):
        person_disjoint_split(pictures[:4])
    with pytest.raises(DatasetError, match="more than once"):
        person_disjoint_split(pictures + pictures[:1])


def test_a_saved_split_comes_back_and_notices_a_change(tmp_path: Path) -> None:
    pictures = [replace(p, frame=4, sequence="s1", seen_at=datetime(2026, 3, 1, tzinfo=UTC)) for p in people(tmp_path)]
    split = person_disjoint_split(pictures, seed=1, name="union")
    path = tmp_path / "union.csv"
    save_split(split, path)
    assert str(tmp_path) not in path.read_text()
    loaded = load_split(path)
    assert loaded == split
    assert loaded.sha256 == split.sha256
    assert read_dataset("csv", path, split="dev").query == split.dev.query
    rows = list(csv.reader(path.read_text().splitlines()))
    rows[2][1] = "even:99"
    changed = tmp_path / "changed.csv"
    changed.write_text("\n".join([",".join(rows[0]), *(",".join(row) for row in rows[1:])]))
    with pytest.raises(DatasetError, match="was changed"):
        read_dataset("csv", changed)
    with pytest.raises(DatasetError, match="was changed"):
        load_split(changed)
    with pytest.raises(DatasetError, match="written by save_split"):
        load_split(manifest(tmp_path / "plain.csv", "path,person,camera"))


def test_the_split_hash_follows_labels_and_roles_and_not_the_machine(tmp_path: Path) -> None:
    def dataset(root: str, person: str = "s:1", camera: str | None = "s:a") -> Dataset:
        query = Picture(Path(root, "query", "1.jpg"), person, camera)
        gallery = Picture(Path(root, "gallery", "2.jpg"), "s:1", "s:b")
        return Dataset("s", (), (query,), (gallery,), "market1501")

    here = split_hash(dataset("/data/here"))
    assert split_hash(dataset("/elsewhere")) == here
    assert split_hash(dataset("/data/here", person="s:2")) != here
    assert split_hash(dataset("/data/here", camera=None)) != here
    junk = dataset("/data/here")
    assert split_hash(replace(junk, gallery=(replace(junk.gallery[0], role="junk"),))) != here
    assert split_hash(replace(junk, query=junk.gallery, gallery=junk.query)) != here


def test_leakage_of_a_person_is_found(tmp_path: Path) -> None:
    pictures = people(tmp_path, count=2)
    check_leakage(pictures[:4], pictures[4:])
    with pytest.raises(DatasetError, match=r"1 people stand in both parts: even:00"):
        check_leakage(pictures[:4], pictures[3:])


def crop(seed: int, height: int = 128, width: int = 64) -> np.ndarray:
    """A picture with coarse and fine structure, like a crop of a person."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.uniform(0, 220, (8, 4, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.normal(0, 20, (32, 16, 3)), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(coarse + fine, 0, 230).astype(np.uint8)


def save(path: Path, picture: np.ndarray, quality: int = 90) -> Picture:
    path.write_bytes(cv2.imencode(path.suffix, picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return Picture(path, f"x:{path.stem}", None)


def test_near_duplicates_are_found_after_compression_resizing_brightening_and_trimming(tmp_path: Path) -> None:
    original = crop(0)
    train = [save(tmp_path / "other.jpg", crop(1)), save(tmp_path / "original.jpg", original)]
    copies = [
        save(tmp_path / "again.jpg", original, quality=30),
        save(tmp_path / "half.png", cv2.resize(original, (32, 64), interpolation=cv2.INTER_AREA)),
        save(tmp_path / "bright.png", cv2.convertScaleAbs(original, beta=15)),
        save(tmp_path / "trimmed.png", original[1:-1, 1:-1]),
        save(tmp_path / "different.png", crop(2)),
    ]
    assert near_duplicates(train, copies) == [(1, 0), (1, 1), (1, 2), (1, 3)]
    with pytest.raises(DatasetError, match=r"4 pairs of pictures are near-duplicates .*original.jpg = .*again.jpg"):
        check_leakage(train, copies)
    check_leakage(train, copies[-1:])
    assert near_duplicates(train, []) == []


def test_flat_pictures_are_compared_by_colour(tmp_path: Path) -> None:
    red = save(tmp_path / "red.png", np.full((32, 16, 3), (0, 0, 200), np.uint8))
    dark_red = save(tmp_path / "red2.png", np.full((32, 16, 3), (0, 0, 190), np.uint8))
    blue = save(tmp_path / "blue.png", np.full((32, 16, 3), (200, 0, 0), np.uint8))
    assert near_duplicates([red], [dark_red, blue]) == [(0, 0)]


def test_leakage_stops_at_a_picture_that_cannot_be_decoded(tmp_path: Path) -> None:
    good = save(tmp_path / "good.png", crop(0))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"bad.png: not a picture"):
        near_duplicates([good], [Picture(tmp_path / "bad.png", "x:1", None)])


@needs_shared
def test_the_real_market1501_is_whole_but_for_its_junk() -> None:
    dataset = read_dataset("market1501", SHARED / "market1501", split="official")
    assert len(dataset.train) == 12_936
    assert len({p.person for p in dataset.train}) == 751
    assert len(dataset.query) == 3_368
    assert len({p.person for p in dataset.query}) == 750
    assert len(dataset.gallery) == 15_913
    assert sum(p.role == "distractor" for p in dataset.gallery) == 2_798
    assert sum(p.path.name.endswith(".jpg.jpg") for p in dataset.query + dataset.gallery) == 22
    assert len(dataset.notes) == 1
    assert "junk" in dataset.notes[0]


@needs_shared
def test_the_real_cuhk03_has_743_training_and_100_test_people() -> None:
    dataset = read_dataset("cuhk03", SHARED / "cuhk03", split="official")
    assert len(dataset.train) + len(dataset.query) == 8_177
    assert len({p.person for p in dataset.train}) == 743
    assert len({p.person for p in dataset.query}) == 100


@needs_shared
def test_1344_real_people_remain_to_train_on() -> None:
    train = [read_dataset(kind, SHARED / kind, split="train") for kind in ("market1501", "cuhk03")]
    assert len({p.person for p in merge(train).train}) == 1_344


@needs_shared
@pytest.mark.slow
def test_the_real_training_and_test_people_do_not_leak() -> None:
    market, cuhk = (read_dataset(kind, SHARED / kind, split="official") for kind in ("market1501", "cuhk03"))
    check_leakage(market.train[::4], (market.gallery + market.query)[::4])
    check_leakage(cuhk.train[::2], cuhk.query[::2])
