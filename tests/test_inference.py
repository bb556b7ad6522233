import pickle
import shutil
import threading
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from passerby.reid.calibration import Calibration
from passerby.reid.card import read_card, write_card
from passerby.reid.inference import ReIDInference
from passerby.types import CalibrationError, GalleryError, ModelError, PasserbyError, PictureError

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def reid(small_model):
    return ReIDInference(threshold=0.65, model=small_model)


@pytest.fixture
def crops(drawn):
    """Pictures of the first test people: crops[person][camera][take]."""

    def paths(person: int, camera: int) -> list:
        name = f"{person:04d}_c{camera}s1_*.jpg"
        return sorted([*drawn.glob(f"query/{name}"), *drawn.glob(f"bounding_box_test/{name}")], key=lambda p: p.name)

    return {person: {camera: paths(person, camera) for camera in (1, 2, 3)} for person in range(17, 37)}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 0.65),
        ({"threshold": 0.5}, 0.5),
        ({"mode": "visitor-counting"}, 0.50),
        ({"mode": "customer-journey"}, 0.65),
        ({"mode": "high-precision"}, 0.80),
        ({"mode": "high-precision", "threshold": 0.8}, 0.80),
    ],
)
def test_the_threshold_comes_from_number_or_mode(small_model, settings, expected):
    assert ReIDInference(**settings, model=small_model).threshold == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "high-precision", "threshold": 0.5}, "give one of the two"),
        ({"mode": "fast"}, "expected one of visitor-counting"),
        ({"threshold": 1.0}, "between 0 and 1"),
        ({"threshold": True}, "between 0 and 1"),
        ({"threshold": "high"}, "between 0 and 1"),
        ({"threshold": float("nan")}, "between 0 and 1"),
        ({"prior": 0.0}, "prior"),
        ({"absent": 2}, "absent"),
        ({"colour": "hsv"}, "'hsv'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(small_model, settings, message):
    with pytest.raises(PasserbyError, match=message):
        ReIDInference(**{"model": small_model, **settings})


def test_embeddings_are_a_batch_of_unit_vectors(reid, crops):
    vectors = reid.embed(crops[17][1][:2])
    assert vectors.shape == (2, 512)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_the_same_picture_as_path_array_and_pil_image_gives_the_same_vector(reid, small_model, crops):
    path = crops[17][1][0]
    image = Image.open(path)
    rgb = np.asarray(image.convert("RGB"))
    by_path, by_image, by_array = reid.embed([path, image, rgb])
    assert by_image == pytest.approx(by_path, abs=1e-6)
    assert by_array == pytest.approx(by_path, abs=1e-6)
    bgr = ReIDInference(model=small_model, colour="bgr").embed([rgb[..., ::-1]])[0]
    assert bgr == pytest.approx(by_path, abs=1e-6)


def test_one_person_compares_higher_than_two(reid, crops):
    same = reid.compare(crops[17][1][0], crops[17][1][1])
    other = reid.compare(crops[17][1][0], crops[18][1][0])
    assert same.similarity > other.similarity
    assert same.llr > other.llr
    assert same.probability > other.probability
    assert same.same == (same.probability >= 0.65)


def test_a_prior_moves_the_probability_by_bayes_rule(reid, small_model, crops):
    rare = ReIDInference(model=small_model, prior=0.01).compare(crops[17][1][0], crops[17][2][0])
    even = reid.compare(crops[17][1][0], crops[17][2][0])
    assert rare.llr == even.llr
    odds = np.exp(even.llr) / 99
    assert rare.probability == pytest.approx(odds / (1 + odds))


def test_a_list_is_several_pictures_of_one_person(reid, crops):
    a, b = reid.embed(crops[17][1][:2])
    both = (a + b) / 2
    match = reid.compare(crops[17][1][:2], crops[17][2][0])
    assert match.similarity == pytest.approx(float(both @ reid.embed([crops[17][2][0]])[0]), abs=1e-5)


@pytest.fixture
def filled(small_model, crops):
    reid = ReIDInference(model=small_model)
    for person in (17, 18, 19):
        reid.gallery.add(f"visitor-{person}", reid.embed(crops[person][1][:2]), camera="aisle", seen_at=NOON)
    return reid


def test_a_search_names_the_best_and_its_probabilities_sum_to_one(filled, crops):
    answer = filled.identify(crops[18][1][2], top=3)
    assert answer.matches[0].person == "visitor-18"
    assert sum(m.probability for m in answer.matches) + answer.unknown == pytest.approx(1)
    assert [m.probability for m in answer.matches] == sorted((m.probability for m in answer.matches), reverse=True)
    assert answer.person == ("visitor-18" if answer.matches[0].probability >= 0.65 else None)


def test_a_search_of_one_at_even_odds_is_a_comparison(small_model, crops):
    reid = ReIDInference(model=small_model)
    reid.gallery.add("only", reid.embed([crops[17][1][0]]))
    answer = reid.identify(crops[17][2][0])
    assert answer.matches[0].probability == pytest.approx(reid.compare(crops[17][1][0], crops[17][2][0]).probability)


def test_many_searches_equal_one_by_one(filled, crops):
    pictures = [crops[17][2][0], [crops[18][2][0], crops[18][2][1]], crops[30][1][0]]
    together = filled.identify_many(pictures, top=2)
    for answer, picture in zip(together, pictures, strict=True):
        alone = filled.identify(picture, top=2)
        assert answer.unknown == pytest.approx(alone.unknown, abs=1e-4)
        assert [m.person for m in answer.matches] == [m.person for m in alone.matches]


def test_a_search_in_a_very_large_gallery_says_nearly_the_same(filled, crops, monkeypatch):
    pytest.importorskip("faiss", reason='needs pip install "passerby[index]"')
    rng = np.random.default_rng(0)
    crowd = filled.embed([crops[person][1][0] for person in range(20, 37)])
    for number in range(400):
        row = crowd[number % 17] + 0.02 * rng.standard_normal(512).astype(np.float32)
        filled.gallery.add(f"stranger-{number}", row / np.linalg.norm(row))
    exact = filled.identify(crops[18][1][2], top=3)
    monkeypatch.setattr("passerby.reid.gallery.EXACT_UP_TO", 100)
    monkeypatch.setattr("passerby.reid.search.CANDIDATES", 20)
    answer = filled.identify(crops[18][1][2], top=3)
    assert len(answer.matches) == 3
    assert answer.matches[0].person == exact.matches[0].person
    assert answer.matches[0].similarity == pytest.approx(exact.matches[0].similarity, abs=1e-5)
    assert answer.matches[0].probability == pytest.approx(exact.matches[0].probability, abs=0.03)
    assert answer.unknown == pytest.approx(exact.unknown, abs=0.03)


def test_a_picture_that_shows_nothing_says_nothing(reid, small_model, crops):
    speck = np.asarray(Image.open(crops[17][1][0]).resize((5, 10)))
    answer = reid.compare(speck, crops[17][2][0])
    assert (answer.quality, answer.llr, answer.probability) == (0.0, 0.0, 0.5)
    assert reid.compare(crops[17][1][0], crops[17][2][0]).quality > 0.5
    fresh = ReIDInference(model=small_model, absent=0.25)
    fresh.add("speck", speck, camera="door", seen_at=NOON)
    fresh.add("17", crops[17][1])
    assert fresh.gallery.entries("speck")[0].quality.tolist() == [0.0]
    found = {match.person: match for match in fresh.identify(crops[17][2][0]).matches}
    assert found["speck"].llr == 0
    assert found["speck"].quality == 0


def test_each_number_of_pictures_has_its_curve_in_comparisons_and_in_searches(small_model, crops):
    reid = ReIDInference(model=small_model)
    one = reid.calibration.one
    curves = {pair: replace(one, offset=one.offset - k) for k, pair in enumerate([(1, 1), (1, 2), (2, 2)])}
    reid.calibration = replace(reid.calibration, curves=tuple(curves.items()))

    def expected(answer, pair):
        return answer.quality * float(curves[pair].at(answer.similarity))

    first, second = crops[17][1], crops[17][2]
    for mine, theirs, pair in (
        (first[:1], second[:1], (1, 1)),
        (first[:1], second[:2], (1, 2)),
        (first[:2], second[:1], (1, 2)),
        (first[:2], second[:2], (2, 2)),
    ):
        answer = reid.compare(mine, theirs)
        assert answer.llr == pytest.approx(expected(answer, pair), abs=1e-4)
        reid.gallery.add("them", reid.embed(theirs), quality=1)
        (match,) = reid.identify(mine).matches
        assert match.llr == pytest.approx(expected(match, pair), abs=1e-4)
        reid.gallery.remove("them")


def test_what_shows_nothing_is_never_named_nor_the_same_nor_grouped(small_model, crops):
    reid = ReIDInference(threshold=0.5, model=small_model)
    grey = np.full((128, 64, 3), 120, np.uint8)
    assert not reid.compare(grey, crops[17][1][0]).same  # the posterior is the prior, 0.5
    reid.add("17", crops[17][1][:1])
    answer = reid.identify(grey)
    assert (answer.person, answer.unknown) == (None, 0.5)
    found = reid.group([grey] * 3)
    assert found.labels == (None, None, None)
    assert (found.groups, found.people.value, found.unknown) == (0, 0, (0, 1, 2))


def test_an_empty_gallery_knows_nobody(reid, crops):
    answer = ReIDInference.identify(reid, crops[17][1][0])
    assert (answer.person, answer.matches, answer.unknown) == (None, (), 1.0)


def test_grouping_counts_people(reid, crops):
    pictures = [crops[p][c][t] for p in (17, 20) for c in (1,) for t in (0, 1)]
    found = reid.group(pictures)
    assert len(found.labels) == 4
    assert found.groups == len(set(found.labels))
    at_once = reid.group([pictures[0]] * 2, cameras=["a", "a"], times=[NOON, NOON])
    assert (at_once.groups, at_once.people.value) == (2, 2)
    assert reid.group([pictures[0]] * 2).groups == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r, p: r.embed([]), PictureError, "empty list"),
        (lambda r, p: r.embed(p), PictureError, "a single one"),
        (lambda r, p: r.embed(str(p)), PictureError, "a single one"),
        (lambda r, p: r.embed(np.zeros((8, 8, 3), np.uint8)), PictureError, "list of pictures"),
        (lambda r, p: r.embed([p, "none.jpg"]), PictureError, "none.jpg"),
        (lambda r, p: r.embed(None), PictureError, "got NoneType"),
        (lambda r, p: r.embed(path for path in ()), PictureError, "empty list"),
        (lambda r, p: r.compare([], p), PictureError, "empty list"),
        (lambda r, p: r.identify([]), PictureError, "empty list"),
        (lambda r, p: r.identify_many("a.jpg"), PictureError, "a single one"),
        (lambda r, p: r.identify_many(np.zeros((8, 8, 3), np.uint8)), PictureError, "list of pictures"),
        (lambda r, p: r.identify(p, top="5"), PasserbyError, "top"),
        (lambda r, p: r.compare(p, 3), PictureError, "got int"),
        (lambda r, p: r.identify_many([]), PictureError, "at least one"),
        (lambda r, p: r.identify(p, top=0), PasserbyError, "top"),
        (lambda r, p: r.gallery.add("x", np.zeros((2, 256))), GalleryError, "512"),
        (lambda r, p: r.group([p], cameras=["a", "b"]), PasserbyError, "expected 1 cameras"),
    ],
)
def test_wrong_input_is_refused_and_changes_nothing(reid, crops, call, error, message):
    with pytest.raises(error, match=message):
        call(reid, crops[17][1][0])
    assert len(reid.gallery) == 0


def test_a_calibration_of_another_file_is_refused(small_model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(small_model, copy)
    card = read_card(copy)
    stolen = dict(card.calibrations["fp32"]) | {"file_sha256": "0" * 64}
    write_card(copy, card.model_copy(update={"calibrations": {"fp32": stolen}}))
    with pytest.raises(CalibrationError):
        ReIDInference(model=copy)


def test_a_calibration_of_another_precision_is_refused(small_model):
    calibration = Calibration.from_dict(read_card(small_model).calibrations["fp32"])
    with pytest.raises(CalibrationError, match="int8"):
        calibration.check(calibration.file_sha256, "int8")


def test_a_model_without_calibration_says_how_to_make_one(small_model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(small_model, copy)
    write_card(copy, read_card(copy).model_copy(update={"calibrations": {}}))
    with pytest.raises(CalibrationError, match="passerby calibrate"):
        ReIDInference(model=copy)
    with pytest.raises(CalibrationError, match="passerby calibrate"):
        ReIDInference(model=copy / "model.onnx")
    with pytest.raises(ModelError, match="neither a path nor a bundled model"):
        ReIDInference(model="nobody")


def test_a_gallery_survives_saving_and_a_new_process(filled, small_model, crops, tmp_path):
    filled.gallery.save(tmp_path / "g.npz")
    again = ReIDInference(model=small_model)
    again.gallery.load(tmp_path / "g.npz")
    assert again.identify(crops[18][1][2]).matches == filled.identify(crops[18][1][2]).matches


def test_it_can_be_used_from_several_threads(filled, crops):
    expected = filled.identify(crops[18][2][0])
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.extend(filled.identify(crops[18][2][0]) for _ in range(5)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 15
    assert all(a.unknown == pytest.approx(expected.unknown, abs=1e-4) for a in answers)


@pytest.mark.parametrize(("use", "said"), [("unclear", "commercially is unclear"), ("no", "allows no commercial use")])
def test_a_network_whose_commercial_use_is_in_question_says_so_once(small_model, tmp_path, caplog, use, said):
    copy = tmp_path / "copy"
    shutil.copytree(small_model, copy)
    write_card(copy, read_card(copy).model_copy(update={"commercial_use": use}))
    with caplog.at_level("INFO", logger="passerby"):
        ReIDInference(model=copy)
    assert sum(said in record.message for record in caplog.records) == 1


def test_the_public_network_tells_real_people_apart(shared, tmp_path):
    """0286, wrapped and calibrated on the dev people, on a fixed handful of Market-1501's test people."""
    from passerby.reid.assess import calibrate_model
    from passerby.reid.datasets import read_dataset

    ir = shared / "models" / "person-reidentification-retail-0286" / "FP16" / "person-reidentification-retail-0286.xml"
    data = shared / "datasets" / "cuhk03"
    dev = read_dataset("cuhk03", data, split="dev", people=24)
    people = sorted({p.person for p in dev.query})
    halves = [
        replace(
            dev,
            query=tuple(p for p in dev.query if p.person in half),
            gallery=tuple(p for p in dev.query if p.person in half),
        )
        for half in (people[::2], people[1::2])
    ]
    calibrate_model(ir, fit_on=halves[:1], check_on=halves[1:], out=tmp_path / "m")
    reid = ReIDInference(model=tmp_path / "m")
    assert reid.embedder.length == 256
    query = shared / "datasets" / "market1501" / "query"
    assert reid.compare(query / "0001_c1s1_001051_00.jpg", query / "0001_c2s1_000301_00.jpg").same
    assert not reid.compare(query / "0001_c1s1_001051_00.jpg", query / "0005_c1s1_001351_00.jpg").same


def test_a_card_with_one_calibration_alone_is_opened_at_its_precision(small_model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(small_model, copy)
    shutil.copy(copy / "model.onnx", copy / "model_int8.onnx")
    card = read_card(copy)
    files = {**card.files, "int8": card.files["fp32"].model_copy(update={"file": "model_int8.onnx"})}
    only = {"int8": card.calibrations["fp32"] | {"precision": "int8"}}
    write_card(copy, card.model_copy(update={"files": files, "calibrations": only}))
    assert ReIDInference(model=copy).embedder.precision == "int8"


def test_all_of_it_may_be_pickled(small_model, crops):
    reid = ReIDInference(model=small_model)
    reid.add("anna", crops[17][1], seen_at=NOON)
    copy = pickle.loads(pickle.dumps(reid))
    assert copy.identify(crops[17][2]) == reid.identify(crops[17][2])
    copy.add("ben", crops[18][1])
    assert list(reid.gallery) == ["anna"]
