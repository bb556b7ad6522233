"""What becomes of trained weights: files that are what they were in torch, or no file at all."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from passerby.learn import export
from passerby.learn.export import (
    Deployed,
    blend,
    calibrate_bf16,
    emulate_bf16,
    export_folder,
    export_onnx,
    load_weights,
    mean_cosine,
)
from passerby.learn.model import OSNet
from passerby.learn.recipe import RECIPE, Recipe, Stage, TeacherSettings, named, networks, origin, processor_hours
from passerby.learn.start import read_folder
from passerby.reid.calibration import Calibration
from passerby.reid.card import CardData, find_model, read_card
from passerby.reid.datasets import TERMS, read_dataset
from passerby.reid.embedder import Embedder
from passerby.reid.engine import file_sha256
from passerby.types import ModelError


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return OSNet("osnet_x0_25").eval()


@pytest.fixture(scope="module")
def dev(drawn):
    return read_dataset("market1501", drawn, split="dev", people=14)


def exported(model, folder, **more):
    usual = {"trained_on": [], "commercial_use": False}
    return export_folder(
        model, folder, name="small", height=64, width=32, origin="test", recipe=None, **{**usual, **more}
    )


def fake_quantise(fp32, int8, pictures):
    """A file with other bytes that does the same, without the minute that quantising takes."""
    int8.write_bytes(fp32.read_bytes() + b"\x52\x01x")  # an unknown field, which readers skip
    return 1.0


def test_mean_cosine_of_a_small_case():
    a, b = np.array([[1.0, 0], [0, 2]], np.float32), np.array([[3.0, 0], [1, 0]], np.float32)
    assert mean_cosine(a, b) == pytest.approx(0.5)


def test_trained_weights_come_back_as_they_were(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    loaded = load_weights(tmp_path / "weights.pt", "osnet_x0_25")
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, save):
    save({"conv1.conv.weight": Code(tmp_path / "ran")}, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="files with code are not opened") as raised:
        load_weights(tmp_path / "weights.pt", "osnet_x0_25")
    assert "weights_only" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file; `passerby train` writes"),
        (lambda path: path.write_bytes(b""), r"not weights of osnet_x0_25: \S"),
        (lambda path: path.write_bytes(b"no weights at all"), "not weights of osnet_x0_25"),
        (
            lambda path: torch.save(OSNet("osnet_x0_5").state_dict(), path),
            "not weights of osnet_x0_25: .*size mismatch",
        ),
        (lambda path: torch.save({"x": torch.zeros(1)}, path), "not weights of osnet_x0_25: .*Missing key"),
        (lambda path: torch.save([1, 2], path), "not weights of osnet_x0_25: .*dict"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path, write, message):
    write(tmp_path / "weights.pt")
    with pytest.raises(ModelError, match=message) as raised:
        load_weights(tmp_path / "weights.pt", "osnet_x0_25")
    assert "\n" not in str(raised.value)


def test_weights_that_are_no_numbers_are_not_exported(tmp_path):
    broken = OSNet("osnet_x0_25").eval()
    torch.nn.init.constant_(broken.conv1.conv.weight, float("nan"))
    with pytest.raises(ModelError, match="differs from torch, cosine nan"):
        export_onnx(broken, tmp_path / "model.onnx", height=64, width=32)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_holds_the_network_and_a_card_that_says_what_it_is(model, tmp_path):
    card = exported(model, tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["card.json", "model.onnx"]
    assert read_card(tmp_path / "m") == card
    assert (card.commercial_use, card.calibrations, card.accuracy) == ("unclear", {}, [])
    assert card.files["fp32"].sha256 == file_sha256(tmp_path / "m" / "model.onnx")


def test_terms_of_the_data_that_forbid_commercial_use_bind_the_network(model, tmp_path):
    data = [CardData(name="mine", terms="as its owner says"), CardData(name="pku_reid", terms=TERMS["pku_reid"])]
    assert exported(model, tmp_path / "m", trained_on=data).commercial_use == "no"
    with pytest.raises(ModelError, match="pku_reid may not be used commercially"):
        exported(model, tmp_path / "m", trained_on=data, commercial_use=True)


def test_a_card_names_the_networks_behind_it_and_what_training_took(tmp_path):
    teacher = Path("zoo/person-reidentification-retail-0277.xml")
    recipe = Recipe(
        "r",
        ("csv:x",),
        (Stage(64, 32, 2),),
        people=3,
        start=Path("zoo/person-reidentification-retail-0286.xml"),
        teacher=TeacherSettings(models=(teacher, Path("own.onnx"))),
    )
    log = tmp_path / "log.jsonl"
    log.write_text(2 * (json.dumps({"images_per_s": 0.01, "threads": 3}) + "\n"))
    assert processor_hours(recipe, log) == pytest.approx(2 * 3 * (12 / 0.01) / 3600)
    assert processor_hours(recipe, tmp_path / "none.jsonl") is None
    card = exported(OSNet("osnet_x0_25").eval(), tmp_path / "m", networks=networks(recipe), seed=7, processor_hours=2.0)
    assert [n.name.rpartition("-")[2] for n in card.networks] == ["0286", "0277", "own"]
    assert "unpublished" in card.networks[0].terms
    assert (card.seed, card.processor_hours, card.energy_kwh) == (7, 2.0, 0.02)
    assert origin(recipe).startswith("fine-tuned from person-reidentification-retail-0286; teachers:")

    (tmp_path / "recipe.json").write_bytes(RECIPE.dump_json(recipe))
    after = replace(
        recipe,
        architecture="osnet_x0_25",
        start=tmp_path / "weights.pt",
        teacher=TeacherSettings(models=(tmp_path / "m",)),
    )
    assert origin(after).startswith("narrowed and fine-tuned from r (fine-tuned from person-reid")
    assert [n.name.rpartition("-")[2] for n in networks(after)] == ["0286", "0277", "own", card.name]
    fresh = replace(after, start=tmp_path / "m", teacher=TeacherSettings())
    assert origin(fresh) == f"fine-tuned from {card.name} ({card.origin})"
    (tmp_path / "after").mkdir()
    log_after = tmp_path / "after" / log.name
    log_after.write_text(log.read_text())
    assert processor_hours(after, log_after) == pytest.approx(2 * processor_hours(recipe, log))


def test_a_blend_lies_between_the_start_and_what_was_learnt(model, tmp_path):
    torch.manual_seed(1)
    start = OSNet("osnet_x0_25").eval()
    torch.save(start.state_dict(), tmp_path / "start.pt")
    mixed = blend(model, tmp_path / "start.pt", 0.25)
    for name, value in mixed.state_dict().items():
        expected = model.state_dict()[name].lerp(start.state_dict()[name], 0.25) if value.is_floating_point() else value
        torch.testing.assert_close(value, expected)
    assert not torch.equal(mixed.fc[0].weight, model.fc[0].weight)
    with pytest.raises(ModelError, match=r"0\.\.1"):
        blend(model, tmp_path / "start.pt", 1.5)


def test_a_blend_may_take_another_model_folder_of_the_same_architecture(tmp_path):
    torch.manual_seed(2)
    learnt = OSNet("osnet_gates_x0_25").eval()
    mixed = blend(learnt, Path("osnet_x0_25"), 0.5)  # the bundled one
    bundled = read_folder(find_model("osnet_x0_25"))
    torch.testing.assert_close(mixed.conv1.conv.weight, (learnt.conv1.conv.weight + bundled["conv1.conv.weight"]) / 2)
    words, behind = named(Path("osnet_x0_25"))
    assert words.startswith("an earlier osnet_x0_25 (narrowed and fine-tuned from")
    assert "person-reidentification-retail-0286" in {network.name for network in behind}
    with pytest.raises(ModelError, match="another architecture"):
        blend(learnt, Path("osnet_x0_75"), 0.5)


def test_int8_is_kept_where_it_is_as_good(model, dev, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "quantise", fake_quantise)
    card = exported(model, tmp_path / "m", int8_on=[dev])
    assert card.files["int8"].sha256 == file_sha256(tmp_path / "m" / "model_int8.onnx") != card.files["fp32"].sha256
    assert Embedder(tmp_path / "m", precision="int8").length == 512
    exported(model, tmp_path / "m")  # again, without: nothing of the old weights stays
    assert not (tmp_path / "m" / "model_int8.onnx").exists()


def test_int8_that_loses_too_much_map_is_refused_and_the_fp32_folder_is_whole(model, dev, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "quantise", fake_quantise)
    figures = iter([0.80, 0.794])
    monkeypatch.setattr(export, "_map", lambda file, dataset: next(figures))
    with pytest.raises(ModelError, match=r"loses 0\.6% of mAP on market1501/dev; not written"):
        exported(model, tmp_path / "m", int8_on=[dev])
    assert not (tmp_path / "m" / "model_int8.onnx").exists()
    assert Embedder(tmp_path / "m", precision="fp32").length == 512


@pytest.mark.slow
def test_int8_is_quantised_close_to_fp32_and_refused_where_it_is_not_close_enough(model, dev, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "QUANTISE_ON", 16)
    monkeypatch.setattr(export, "WORTH_INT8_MAP", 1.0)
    card = exported(model, tmp_path / "good", int8_on=[dev])
    assert (tmp_path / "good" / card.files["int8"].file).stat().st_size < (tmp_path / "good/model.onnx").stat().st_size
    pictures = [picture.path for picture in dev.query[:8]]
    fp32, int8 = (Embedder(tmp_path / "good", precision=p).embed(pictures) for p in ("fp32", "int8"))
    assert 0.99 <= mean_cosine(fp32, int8) < 1 - 1e-6
    monkeypatch.setattr(export, "FAITHFUL_INT8_COSINE", 1.1)
    with pytest.raises(ModelError, match=r"int8 differs from fp32, mean cosine 0\.99.*not written"):
        exported(model, tmp_path / "bad", int8_on=[dev])
    assert sorted(p.name for p in (tmp_path / "bad").iterdir()) == ["card.json", "model.onnx"]


def test_emulated_bf16_is_close_to_fp32_and_not_the_same(model, drawn):
    pictures = np.random.default_rng(0).integers(0, 256, (4, 64, 32, 3), np.uint8)
    before = model.state_dict()["conv1.conv.weight"].clone()
    with torch.inference_mode():
        fp32 = Deployed(model).eval()(torch.from_numpy(pictures)).numpy()
        bf16 = Deployed(emulate_bf16(model)).eval()(torch.from_numpy(pictures)).numpy()
    assert 0.99 < mean_cosine(fp32, bf16) < 1 - 1e-7
    assert torch.equal(model.state_dict()["conv1.conv.weight"], before)  # the model itself is not rounded


def test_bf16_gets_a_calibration_bound_to_the_fp32_file(model, dev, tmp_path):
    exported(model, tmp_path / "m")
    made = calibrate_bf16(model, tmp_path / "m", [dev])
    card = read_card(tmp_path / "m")
    assert set(card.calibrations) == {"bf16"}
    kept = Calibration.from_dict(card.calibrations["bf16"])
    assert kept == made
    kept.check(file_sha256(tmp_path / "m" / "model.onnx"), "bf16")
    assert kept.fitted_on == "market1501/dev (14 people), bf16 emulated"
