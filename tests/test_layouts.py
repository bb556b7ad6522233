"""Which reading of a folder's paths fits: one, or a refusal that names each with the pattern that would settle it."""

import re

import pytest
from hypothesis import given as drawn_from
from hypothesis import settings
from hypothesis import strategies as st

from passerby.reid.readers.layouts import Reading, given, recognise
from passerby.types import DatasetError


def read(*paths: str, people: int = 2, cameras: bool = True) -> Reading:
    return recognise(paths, where="shop", people=people, cameras=cameras)


def who_and_where(reading: Reading) -> list[tuple[str | None, str | None]]:
    return list(zip(reading.labels("person"), reading.labels("camera"), strict=True))


@pytest.mark.parametrize(
    ("paths", "first", "people", "cameras"),
    [
        (["anna/img_0", "anna/img_1", "bert/img_0"], ("anna", None), 2, 0),
        (["anna/0", "anna/1", "bert/0"], ("anna", None), 2, 0),
        (["anna/0", "bert/0"], ("anna", None), 2, 0),
        (["anna/anna_0", "anna/anna_1", "bert/bert_0"], ("anna", None), 2, 0),
        (["anna/3f2a9c1e-11", "anna/a3f29c1e-22", "bert/3f2b9c1e-11"], ("anna", None), 2, 0),
        (["anna/track1_0", "anna/track2_0", "bert/track1_0"], ("anna", None), 2, 0),  # says itself what it is
        (["anna/20260301_1", "anna/20260302_2", "bert/20260301_3"], ("anna", None), 2, 0),  # a date
        (["anna/cam1_0", "anna/cam2_0", "bert/cam1_0"], ("anna", "cam1"), 2, 2),
        (["anna/0003_c1", "anna/0004_c2", "bert/0005_c1"], ("anna", "c1"), 2, 2),
        (["0001/0001C1T0001F001", "0001/0001C2T0001F001", "0003/0003C1T0001F001"], ("0001", "C1"), 2, 2),
        (["0001C1T0001F001", "0001C2T0001F001", "0003C1T0001F001"], ("0001", "C1"), 2, 2),
        (["cam1/anna/0", "cam2/anna/0", "cam1/bert/0"], ("anna", "cam1"), 2, 2),
        (["anna/cam1/0", "anna/cam2/0", "bert/cam1/0"], ("anna", "cam1"), 2, 2),
        (["cam_a/000_45", "cam_b/000_90", "cam_a/001_3"], ("000", "cam_a"), 2, 2),
        (["cam1/anna", "cam2/anna", "cam1/bert"], ("anna", "cam1"), 2, 2),
        (["0001_c1_1", "0001_c2_2", "0002_c1_5"], ("0001", "c1"), 2, 2),
        (["0002_c1s1_000451_03", "0002_c2s1_000776_01", "0007_c1s6_028546_01"], ("0002", "c1"), 2, 2),
        (["0001_c001_00016450_0", "0001_c002_00016450_0", "0002_c002_00016450_0"], ("0001", "c001"), 2, 2),
        (["0001_c2_f0046182", "0001_c3_f0046182", "0002_c3_f0046182"], ("0001", "c2"), 2, 2),
        (["0001_c1s1_01_00", "0001_c2s1_01_00", "0002_c1s1_01_00"], ("0001", "c1"), 2, 2),
        (["0001_camA_0", "0001_camB_0", "0002_camA_0"], ("0001", "camA"), 2, 2),
        (["visitor-17_c1_3", "visitor-17_c2_3", "visitor-18_c1_3"], ("visitor-17", "c1"), 2, 2),
        (["cam01_person01_0", "cam02_person01_0", "cam01_person02_0"], ("person01", "cam01"), 2, 2),
        (["c1_001_45", "c2_001_46", "c1_002_47"], ("001", "c1"), 2, 2),
        (["cam1-anna-3", "cam2-anna-3", "cam1-bert-4"], ("anna", "cam1"), 2, 2),
        (["cam_1_person_1_0", "cam_2_person_1_0", "cam_1_person_2_0"], ("person_1", "cam_1"), 2, 2),
        (["person01_0", "person01_1", "person02_0"], ("person01", None), 2, 0),
        (["images/0001_c1_3", "images/0001_c2_3", "images/0002_c1_3"], ("0001", "c1"), 2, 2),
    ],
)
def test_layouts_that_only_one_reading_fits(
    paths: list[str], first: tuple[str, str | None], people: int, cameras: int
) -> None:
    found = who_and_where(read(*paths))
    assert found[0] == first
    assert len({person for person, _ in found}) == people
    assert len({camera for _, camera in found} - {None}) == cameras


@pytest.mark.parametrize(
    ("paths", "ways"),
    [
        (["anna_door_3", "anna_till_4", "bert_door_8"], 3),  # is anna a camera?
        (["001_1_45", "001_2_45", "002_1_3", "002_2_7"], 3),
        (["anna_0", "anna_1", "bert_0"], 3),
        (["person01_3_0012", "person01_4_0012", "person02_3_0012"], 3),  # may 3 be a track?
        (["anna-door-3", "anna-till-4", "bert-door-8"], 3),
        (["anna/door-0007", "anna/till-0009", "bert/door-0008"], 3),
        (["anna/crop_1_0", "anna/crop_2_0", "bert/crop_1_0"], 2),
        (["day1/0001_3", "day1/0002_3", "day2/0001_3", "day2/0002_4"], 2),  # is a folder a day?
        (["day1/0001_c1_3", "day1/0002_c1_3", "day2/0001_c2_3"], 2),
        (["c1/0", "c1/1", "c2/0", "c2/1"], 2),  # camera 1, or customer 1?
        (["a/b/0", "a/c/0", "d/b/0"], 2),
        (["cam1_anna-3", "cam2_anna-3", "cam1_bert-4", "cam1_bert-5"], 2),
        (["c1_c2_5", "c1_c3_5", "c2_c2_5"], 3),
    ],
)
def test_where_several_readings_fit_each_is_named_with_a_pattern_that_settles_it(paths: list[str], ways: int) -> None:
    with pytest.raises(DatasetError, match=f"can be read in {ways} ways") as error:
        read(*paths)
    told = re.findall(r"(?:ways: |or )([^:]+): --pattern '([^']+)'", str(error.value))
    assert len(told) == ways
    readings = [given(pattern, paths, where="shop") for _, pattern in told]
    for (said, _), reading in zip(told, readings, strict=True):
        assert said.endswith(reading.counts)
    assert len({tuple(who_and_where(reading)) for reading in readings}) == ways


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["beach", "dog"], r"expected a folder a person .* found paths such as beach, dog"),
        (["anna/0", "anna/1", "bert/0", "carl/0", "stray"], "4 as a folder a person and 1 otherwise: stray"),
        (["anna/0", "anna/1"], "expected several people, found all 2 pictures below anna"),
        (
            ["images/anna_0", "images/anna_1", "images/bert_0"],
            "expected several people, found all 3 pictures below images",
        ),
        (["train/anna/0", "test/anna/1", "test/bert/0"], "test, train, which name parts"),
        (["0002_c1s1_000451_03", "0002_c2s1_000451_03", "-1_c1s1_000776_01"], "1 pictures show nobody"),
        (["0002_c1s1_000451_03", "0002_c2s1_000451_03", "0000_c1s1_000776_01"], "1 pictures show nobody"),
    ],
)
def test_where_no_reading_fits_it_is_said_why(paths: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(*paths)


def test_where_only_people_matter_unmarked_cameras_do_not() -> None:
    paths = ["anna/door-0007", "anna/till-0009", "bert/door-0008"]
    assert read(*paths, cameras=False).labels("person") == ("anna", "anna", "bert")
    assert read("anna/0", people=1, cameras=False).labels("person") == ("anna",)
    with pytest.raises(DatasetError, match="2 ways"):
        read("anna_0", "anna_1", "bert_0", people=1, cameras=False)


people_names = st.lists(
    st.sampled_from(["anna", "bert", "carl", "dora", "0001", "0002", "17"]), min_size=2, unique=True
)
LAYOUTS = {
    "{p}/img_{i}": False,
    "{p}/{i}": False,
    "{p}/cam{c}_{i}": True,
    "{p}_c{c}_{i}": True,
    "{p}_cam0{c}_{i:06d}": True,
    "c{c}_{p}_{i}": True,
    "cam{c}/{p}/{i}": True,
    "{p}/view{c}/{i}": True,
}
UNTOLD = ["{p}_{c}_{i}", "{c}_{p}_{i}", "{p}_{i}", "{p}/{c}/{i}", "{c}/{p}/{i}", "{p}-{c}-{i}"]


@settings(deadline=None)
@drawn_from(people_names, st.integers(2, 4), st.integers(2, 4), st.sampled_from(sorted(LAYOUTS)), st.randoms())
def test_what_a_marked_layout_was_written_with_is_read_back(people, cameras, each, layout, random) -> None:
    written = [(p, c, i) for p in people for c in range(1, cameras + 1) for i in range(c * each, (c + 1) * each)]
    random.shuffle(written)
    paths = [layout.format(p=p, c=c, i=i) for p, c, i in written]
    found = who_and_where(read(*dict.fromkeys(paths)))
    truth = {path: (p, c if LAYOUTS[layout] else None) for path, (p, c, _) in zip(paths, written, strict=True)}
    for (person, camera), (p, c) in zip(found, truth.values(), strict=True):
        assert person == p
        assert (camera or "").strip("camview0") == str(c or "")


@settings(deadline=None)
@drawn_from(people_names, st.integers(2, 4), st.integers(2, 4), st.sampled_from(UNTOLD))
def test_what_no_mark_tells_is_never_guessed(people, cameras, each, layout) -> None:
    paths = [layout.format(p=p, c=c, i=i) for p in people for c in range(1, cameras + 1) for i in range(each)]
    with pytest.raises(DatasetError, match=r"can be read in \d ways"):
        read(*dict.fromkeys(paths))
