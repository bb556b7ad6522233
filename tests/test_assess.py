"""A model on data sets: what is fitted, what is checked, and what its card keeps of both."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from passerby.reid.assess import (
    adapt_model,
    calibrate_model,
    embed_dataset,
    embed_pictures,
    keep_in_card,
    labelled,
)
from passerby.reid.calibration import Calibration
from passerby.reid.card import read_card, write_card
from passerby.reid.datasets import read_dataset
from passerby.reid.embedder import Embedder
from passerby.reid.evaluate import evaluate
from passerby.reid.inference import ReIDInference
from passerby.reid.pairs import PairSample, joined
from passerby.types import CalibrationError, Dataset, ModelError, Picture


@pytest.fixture(scope="module")
def dev(drawn):
    return read_dataset("market1501", drawn, split="dev", people=14)


@pytest.fixture(scope="module")
def test(drawn):
    return read_dataset("market1501", drawn, split="test")


@pytest.fixture
def copy(small_model, tmp_path):
    """The small model, to be changed."""
    return shutil.copytree(small_model, tmp_path / "copy")


def sample(people: int, *, of: int = 1) -> PairSample:
    """`of` pairs a person; the different pair is with the next person."""
    person = np.repeat(np.arange(people), of)
    scores = np.linspace(0, 1, len(person))
    return PairSample(scores, -scores, np.full(len(person), 1 / len(person)), person, (person + 1) % people)


def test_joined_samples_weigh_people_equally_and_do_not_mix_them():
    both = joined([sample(2, of=3), sample(6)])
    assert both.weight.sum() == pytest.approx(1)
    by_person = np.bincount(both.person, both.weight)
    assert by_person == pytest.approx(np.full(8, 1 / 8))
    assert both.people == 8
    first = both.person < 2
    assert (first == (both.other < 2)).all()
    assert both.same.tolist() == [*sample(2, of=3).same, *sample(6).same]


def test_a_picture_that_is_query_and_gallery_is_embedded_once_and_in_order(small_model, test):
    both = Dataset("x", (), test.query[:4], test.query[3::-1], "cross-camera")
    seen: list[tuple[int, int]] = []
    query, gallery = embed_dataset(Embedder(small_model), both, progress=lambda done, all_: seen.append((done, all_)))
    assert seen == [(4, 4)]
    assert np.array_equal(query, gallery[::-1])


def test_embedding_is_the_same_as_through_the_api(small_model, test):
    embedder = Embedder(small_model)
    assert np.array_equal(
        embed_pictures(embedder, test.query[:3]), embedder.embed([picture.path for picture in test.query[:3]])
    )


def as_ir(onnx, folder):
    from passerby.reid.engine import _core, _openvino

    folder.mkdir()
    _openvino().save_model(_core().read_model(onnx), folder / "net.xml", compress_to_fp16=False)
    return folder / "net.xml"


@pytest.mark.parametrize("kind", ["onnx", "xml"])
def test_a_file_without_a_card_becomes_a_model_folder_that_opens(small_model, dev, test, tmp_path, kind):
    file = small_model / "model.onnx" if kind == "onnx" else as_ir(small_model / "model.onnx", tmp_path / "ir")
    made = calibrate_model(file, fit_on=[dev], check_on=[test], out=tmp_path / "new", name="mine")
    card = read_card(made.folder)
    assert (card.name, card.commercial_use, card.trained_on) == ("mine", "unclear", [])
    assert card.files["fp32"].file == f"model.{kind}"
    assert (card.input.height, card.input.width, card.embedding_length) == (64, 32, 512)
    assert card.calibrations["fp32"]["fitted_on"] == "market1501/dev (14 people)"
    assert made.reports["fp32"].people == 20
    reid = ReIDInference(model=made.folder)
    assert reid.compare(test.query[0].path, test.query[0].path).similarity == pytest.approx(1, abs=1e-3)


def test_a_model_folder_is_calibrated_in_place_or_as_a_copy_with_a_name_of_its_own(copy, dev, tmp_path):
    calibrate_model(copy, fit_on=[dev], check_on=[], out=tmp_path / "site", name="site")
    assert read_card(tmp_path / "site").name == "site"
    assert read_card(copy).name == "small"
    write_card(copy, read_card(copy).model_copy(update={"calibrations": {}}))
    made = calibrate_model(copy, fit_on=[dev], check_on=[])
    assert made.reports == {}
    assert read_card(copy) == read_card(tmp_path / "site").model_copy(update={"name": "small"})


def test_people_who_are_fitted_on_are_not_checked_on(small_model, test, tmp_path):
    with pytest.raises(CalibrationError, match="20 people, market1501:0017 the first"):
        calibrate_model(small_model, fit_on=[test], check_on=[test], out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_with_something_in_it_is_not_written_into(small_model, dev, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "note.txt").write_text("mine")
    for model in (small_model, small_model / "model.onnx"):
        for out in (tmp_path / "taken", tmp_path / "taken" / "note.txt"):
            with pytest.raises(ModelError, match="not empty"):
                calibrate_model(model, fit_on=[dev], check_on=[], out=out)
    assert (tmp_path / "taken" / "note.txt").read_text() == "mine"
    with pytest.raises(ModelError, match="--out"):
        calibrate_model(small_model / "model.onnx", fit_on=[dev], check_on=[])


@pytest.mark.parametrize("file", ["", "model.onnx"])
def test_an_empty_folder_may_be_written_into(small_model, dev, tmp_path, file):
    (tmp_path / "new").mkdir()
    calibrate_model(small_model / file, fit_on=[dev], check_on=[], out=tmp_path / "new")
    assert "fp32" in read_card(tmp_path / "new").calibrations


@pytest.mark.parametrize("file", ["", "model.onnx"])
def test_a_calibration_that_fails_leaves_no_folder(small_model, drawn, tmp_path, file):
    few = read_dataset("market1501", drawn, split="dev", people=5)
    before = (small_model / "card.json").read_text()
    for out in (tmp_path / "new", None)[: 1 if file else 2]:
        with pytest.raises(CalibrationError, match="at least 10 people, got 5"):
            calibrate_model(small_model / file, fit_on=[few], check_on=[], out=out)
    assert not (tmp_path / "new").exists()
    assert (small_model / "card.json").read_text() == before


@pytest.mark.parametrize(
    ("people", "stays"), [("market1501/dev (14 people), bf16 emulated", True), ("another shop (90 people)", False)]
)
def test_a_calibration_that_cannot_be_renewed_here_stays_only_for_the_same_people(
    copy, dev, monkeypatch, people, stays
):
    monkeypatch.setattr("passerby.reid.assess.cpu_precisions", lambda: ("fp32",))
    card = read_card(copy)
    old = {**card.calibrations["fp32"], "precision": "bf16", "fitted_on": people}
    write_card(copy, card.model_copy(update={"calibrations": {**card.calibrations, "bf16": old}}))
    calibrate_model(copy, fit_on=[dev], check_on=[])
    assert ("bf16" in read_card(copy).calibrations) is stays


def test_each_precision_gets_a_calibration_of_its_own_file(copy, dev, tmp_path):
    card = json.loads((copy / "card.json").read_text())
    changed = (copy / "model.onnx").read_bytes() + b"\x52\x01x"  # an unknown field, which readers skip
    (copy / "model_int8.onnx").write_bytes(changed)
    import hashlib

    card["files"]["int8"] = {"file": "model_int8.onnx", "sha256": hashlib.sha256(changed).hexdigest()}
    (copy / "card.json").write_text(json.dumps(card))
    calibrate_model(copy, fit_on=[dev], check_on=[])
    for precision in ("fp32", "int8"):
        entry = Calibration.from_dict(read_card(copy).calibrations[precision])
        entry.check(card["files"][precision]["sha256"], precision)


def test_a_camera_that_is_not_known_cannot_be_calibrated_on(small_model, dev, tmp_path):
    def without(pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
        return tuple(replace(picture, camera=None) for picture in pictures)

    blind = replace(dev, query=without(dev.query), gallery=without(dev.gallery))
    with pytest.raises(CalibrationError, match="camera is not known"):
        calibrate_model(small_model, fit_on=[blind], check_on=[], out=tmp_path / "new")


def test_of_a_union_only_pictures_with_a_camera_are_calibrated_on(small_model, dev, tmp_path):
    lost = tuple(replace(picture, camera=None) for picture in dev.gallery[::5])
    union = replace(dev, gallery=(*lost, *(p for i, p in enumerate(dev.gallery) if i % 5)))
    calibrate_model(small_model, fit_on=[union], check_on=[], out=tmp_path / "new")
    assert read_card(tmp_path / "new").calibrations["fp32"]["fitted_on"] == "market1501/dev (14 people)"


def test_labelled_people_are_listed_once_without_junk_and_distractors(test):
    extra = replace(test.gallery[0], role="junk", person="market1501:-1"), replace(test.gallery[1], role="distractor")
    dataset = Dataset("x", (), test.query, (*test.query, *extra), "market1501")
    assert labelled(dataset) == list(test.query)


def test_figures_in_the_card_take_the_place_of_older_ones_of_the_same_data_and_precision(copy, dev, test):
    embedder = Embedder(copy, precision="fp32")
    small = [replace(each, query=each.query[:12]) for each in (test, dev)]
    figures = [evaluate(each, *embed_dataset(embedder, each), bootstrap=2) for each in small]
    for evaluation, command in zip([*figures, figures[0]], ("old", "dev", "new"), strict=True):
        keep_in_card(copy, embedder, evaluation, command=command)
    kept = read_card(copy).accuracy
    assert [(entry.data, entry.command) for entry in kept] == [("market1501/dev", "dev"), ("market1501/test", "new")]
    assert kept[1].figures["rank1"].keys() == {"value", "low", "high"}
    assert (kept[1].queries, kept[1].skipped, kept[1].precision) == (12, 0, "fp32")


def site(drawn: Path, path: Path) -> Path:
    """A manifest in which three cameras see people after people, and nobody knows who is who."""
    pictures = read_dataset("market1501", drawn, split="test").query
    cameras = [[p for p in pictures if p.camera == camera] for camera in sorted({p.camera for p in pictures})]
    lines = ["path,person,camera,time"]
    for i in range(len(cameras[0])):
        at = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=0.5 * i)).isoformat()
        together = [mine[(i + 5 * number) % len(mine)] for number, mine in enumerate(cameras)]
        lines += [f"{p.path},track{i}-{number},{p.camera},{at}" for number, p in enumerate(together)]
    path.write_text("\n".join(lines))
    return path


def test_a_model_is_adapted_to_a_site_in_a_copy(small_model, drawn, tmp_path):
    pictures = read_dataset("csv", site(drawn, tmp_path / "site.csv"), split="test").query
    before = read_card(small_model)
    adapted = adapt_model(small_model, pictures, out=tmp_path / "adapted")
    card = read_card(tmp_path / "adapted")
    assert read_card(small_model) == before
    assert set(card.calibrations) == set(adapted.precisions)
    for calibration in card.calibrations.values():
        assert "adapted to a site" in calibration["fitted_on"]
    ReIDInference(model=tmp_path / "adapted")  # opens


def test_a_site_without_times_leaves_no_folder(small_model, test, tmp_path):
    with pytest.raises(CalibrationError, match="camera and time"):
        adapt_model(small_model, test.query, out=tmp_path / "adapted")
    assert not (tmp_path / "adapted").exists()
