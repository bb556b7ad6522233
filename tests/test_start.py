"""Networks that begin as a published one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from passerby.learn.export import export_folder
from passerby.learn.loader import to_input
from passerby.learn.model import OSNet, load_body
from passerby.learn.narrow import narrow
from passerby.learn.recipe import RECIPE, Recipe, Stage
from passerby.learn.start import load_ir, read_folder, read_network, settle_neck
from passerby.reid.engine import open_engine
from passerby.types import ModelError


@pytest.fixture(scope="module")
def pictures():
    coarse = np.random.default_rng(0).integers(0, 256, (3, 16, 8, 3), dtype=np.uint8)
    return coarse.repeat(16, 1).repeat(16, 2)  # (3, 256, 128, 3)


@pytest.mark.parametrize(("file", "width", "slope"), [("0286", "x0_75", 0.9985), ("0277", "x1_0", 0.9912)])
def test_a_network_read_from_its_file_is_that_network_but_for_the_last_prelu(shared, pictures, file, width, slope):
    path = shared / f"models/person-reidentification-retail-{file}/FP16/person-reidentification-retail-{file}.xml"
    model = OSNet(f"osnet_gates_{width}")
    load_ir(model, path)
    with torch.inference_mode():
        ours = model.eval()(to_input(pictures))[0][:, :256].numpy()
    theirs = open_engine(path, precision="fp32").run(pictures)
    np.testing.assert_allclose(np.where(ours > 0, ours, slope * ours), theirs, atol=2e-4)


@pytest.mark.parametrize("architecture", ["osnet_gates_x0_25", "osnet_x0_25"])
def test_a_model_folder_gives_its_weights_back_unless_batch_norm_was_folded_away(pictures, tmp_path, architecture):
    torch.manual_seed(0)
    model, again = OSNet(architecture).eval(), OSNet(architecture).eval()
    for value in model.state_dict().values():
        if value.ndim == 1:  # parameters that are equal would be stored once
            value.uniform_(0.5, 1.5)
    export_folder(
        model,
        tmp_path,
        name="m",
        height=256,
        width=128,
        trained_on=[],
        origin="drawn",
        recipe=None,
        commercial_use=False,
    )
    if architecture == "osnet_x0_25":
        with pytest.raises(ModelError, match=r"begin with the run's weights\.pt"):
            read_folder(tmp_path)
        return
    load_body(again, read_folder(tmp_path))
    assert torch.equal(model(to_input(pictures))[1], again(to_input(pictures))[1])


def test_a_settled_neck_changes_nothing(pictures):
    torch.manual_seed(0)
    model = OSNet("osnet_gates_x0_25").eval()
    features = model(to_input(pictures))[0].detach()
    settle_neck(model, features)
    before, after = model(to_input(pictures))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "file", "message"),
    [
        ("osnet_gates_x0_5", "person-reidentification-retail-0286", "another width"),
        ("osnet_x0_75", "person-reidentification-retail-0286", "needs the architecture osnet_gates"),
        ("osnet_gates_x0_75", "person-detection-retail-0013", "is it person-reidentification"),
    ],
)
def test_a_file_of_another_network_is_refused(shared, architecture, file, message):
    path = next((shared / "models" / file).rglob("*.xml"))
    with pytest.raises(ModelError, match=message):
        load_ir(OSNet(architecture), path)


def test_a_file_that_is_no_network_is_refused(tmp_path):
    path = tmp_path / "broken.xml"
    path.write_text("<net")
    with pytest.raises(ModelError, match="not an OpenVINO IR file"):
        load_ir(OSNet("osnet_gates_x0_25"), path)


@pytest.fixture(scope="module")
def many():
    coarse = np.random.default_rng(1).integers(0, 256, (160, 8, 4, 3), dtype=np.uint8)
    return to_input(coarse.repeat(8, 1).repeat(8, 2))  # (160, 3, 64, 32)


def agreement(wide, small, pictures):
    with torch.inference_mode():
        return float((wide.eval().embed(pictures) * small.eval().embed(pictures)).sum(1).mean())


def test_narrowing_to_the_same_width_gives_the_same_network(many):
    torch.manual_seed(0)
    wide, small = OSNet("osnet_gates_x0_25"), OSNet("osnet_gates_x0_25")
    narrow(wide, small, many)
    assert agreement(wide, small, many) > 0.999


def test_a_narrowed_network_does_much_of_what_the_wide_one_does(many):
    torch.manual_seed(0)
    wide, small = OSNet("osnet_gates_x0_5"), OSNet("osnet_gates_x0_25")
    by_chance = agreement(wide, small, many[100:])
    narrow(wide, small, many[:100])
    assert agreement(wide, small, many[100:]) > by_chance + 0.5


@pytest.mark.parametrize("architectures", [("osnet_x0_5", "osnet_x0_25"), ("osnet_gates_x0_5", "osnet_x0_25")])
def test_networks_of_two_kinds_or_with_batch_norm_are_not_narrowed(many, architectures):
    wide, small = (OSNet(architecture) for architecture in architectures)
    with pytest.raises(ModelError, match="two widths of one kind without batch norm"):
        narrow(wide, small, many)


@pytest.mark.parametrize("file", ["0286", "0277"])
def test_torch_runs_a_published_network_as_openvino_does(shared, pictures, file):
    path = shared / f"models/person-reidentification-retail-{file}/FP16/person-reidentification-retail-{file}.xml"
    _, vectors_of = read_network(path)
    with torch.inference_mode():
        ours = vectors_of(to_input(pictures)).numpy()
    theirs = open_engine(path, precision="fp32").run(pictures)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert (ours * theirs).sum(1).min() > 0.9999


def test_torch_runs_a_model_folder_and_the_weights_of_a_run(pictures, tmp_path):
    torch.manual_seed(0)
    model = OSNet("osnet_gates_x0_25").eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="in the folder of its run"):
        read_network(tmp_path / "weights.pt")
    recipe = Recipe(name="x", data=("csv:x",), stages=(Stage(64, 32, 1),), architecture="osnet_gates_x0_25")
    (tmp_path / "recipe.json").write_bytes(RECIPE.dump_json(recipe))
    _, vectors_of = read_network(tmp_path / "weights.pt")
    with torch.inference_mode():
        expected = model.embed(to_input(pictures))
        torch.testing.assert_close(vectors_of(to_input(pictures)), expected)
        bundled, of_bundled = read_network(Path("osnet_x0_25"))
        assert bundled.architecture == "osnet_gates_x0_25"
        assert of_bundled(to_input(pictures)).shape == expected.shape
