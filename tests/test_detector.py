"""The detector's training run: resumed, refused, published as a folder that the detector opens."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from passerby.__main__ import app
from passerby.config import load_toml
from passerby.learn import publish
from passerby.learn.detector import train_detector
from passerby.learn.detector_recipe import DetectorRecipe, Source
from passerby.learn.publish import fitted_scores
from passerby.learn.scenes import read_coco
from passerby.reid.card import read_detector_card
from passerby.simulate.rendering import write_pictures
from passerby.simulate.scene import Atlas
from passerby.types import ConfigError, ModelError, PasserbyError, TrainingError
from passerby.vision.detect import open_detector

ROOT = Path(__file__).parents[1]
ZOO = Path("models") / "person-detection-0201" / "person-detection-0201.xml"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered")
    write_pictures(folder, Atlas(), pictures=12, seed=3)
    coco = json.loads((folder / "persons.json").read_text())
    for number, image in enumerate(coco["images"]):
        image["split"] = "val" if number % 3 == 0 else "train"
    (folder / "persons.json").write_text(json.dumps(coco))
    return folder


@pytest.fixture(scope="module")
def recipe(rendered, shared):
    return DetectorRecipe(
        name="small",
        start=shared / ZOO,
        train=(Source(rendered, "train", terms="drawn"),),
        val=(Source(rendered, "val"),),
        sizes=((192, 320), (224, 288)),
        steps=4,
        batch=2,
        warmup_steps=2,
        evaluate_every=4,
        precision="fp32",
    )


def run(recipe, rendered, out, **options):
    def measure(file):
        open_detector(file, sizes=recipe.sizes)  # what is measured can be opened
        return {"AP50": 0.5}

    return train_detector(recipe, [read_coco(rendered, split="train")], out, measure=measure, **options)


def test_a_resumed_run_ends_in_the_same_weights(recipe, rendered, tmp_path):
    whole = run(recipe, rendered, tmp_path / "whole")
    assert not whole.interrupted
    assert whole.dev == {"AP50": 0.5}
    assert run(recipe, rendered, tmp_path / "cut", stop_after=3).interrupted
    again = run(recipe, rendered, tmp_path / "cut", resume=True)
    one, two = (torch.load(outcome.weights, weights_only=True) for outcome in (whole, again))
    assert all(torch.equal(one[name], two[name]) for name in one)
    entries = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
    assert "val_AP50" in entries[3]


def test_the_beginning_of_the_network_stays_as_it_was(recipe, rendered, tmp_path):
    from passerby.learn.ssd import PersonSSD, load_0201

    start = PersonSSD()
    load_0201(start, recipe.start)
    after = torch.load(run(recipe, rendered, tmp_path).weights, weights_only=True)
    for name, value in start.state_dict().items():
        frozen = name.startswith("stem.") or (name.startswith("blocks.") and int(name.split(".")[1]) <= recipe.frozen)
        assert torch.equal(after[name], value) == frozen, name


def test_another_run_is_not_gone_on_with(recipe, rendered, tmp_path):
    run(recipe, rendered, tmp_path, stop_after=1)
    with pytest.raises(TrainingError, match="go on with --resume"):
        run(recipe, rendered, tmp_path)
    with pytest.raises(TrainingError, match="belongs to another recipe"):
        run(replace(recipe, seed=2), rendered, tmp_path, resume=True)
    moved = [replace(p, boxes=p.boxes + 5) for p in read_coco(rendered, split="train")]  # as many, elsewhere
    with pytest.raises(TrainingError, match="was begun with other pictures or other boxes"):
        train_detector(recipe, [moved], tmp_path, measure=lambda file: {}, resume=True)


def test_a_loss_that_is_no_number_stops_the_run(recipe, rendered, tmp_path):
    with pytest.raises(TrainingError, match="the loss is nan; lower learning_rate"):
        run(replace(recipe, learning_rate=1e30, warmup_steps=1, clip=1e30), rendered, tmp_path)


def test_weights_that_become_no_numbers_before_a_measurement_say_so(recipe, rendered, tmp_path):
    hot = replace(recipe, learning_rate=1e37, warmup_steps=1, clip=1e30, evaluate_every=1, weight_decay=1e4)
    with pytest.raises(TrainingError, match="step 1: the weights are no numbers; lower learning_rate"):
        run(hot, rendered, tmp_path)


def test_the_bundled_recipe_is_one():
    recipe = load_toml(ROOT / "recipes" / "detector.toml", DetectorRecipe)
    assert recipe.name == "person_detector"
    assert len(recipe.teachers) == len(recipe.certainty.doubt) == 3


def test_the_share_of_the_start_may_be_chosen_after_the_run(recipe):
    assert replace(recipe, blend=0.3).sha256 == recipe.sha256 != replace(recipe, steps=5).sha256


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sizes = [[380, 640]]", "multiples of 32"),
        ("sizes = [[384, 640]]\nbatch = 0", "at least 1"),
        ("sizes = [[384, 640]]\nstep = 3", "did you mean"),
        ("sizes = [[384, 640]]\nblend = 1.0", "expected a share of 0 to below 1"),
        ('sizes = [[384, 640]]\ntrain = [{folder = "a", complete = true}]', "needs teachers and certainty"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path, line, message):
    text = 'name = "x"\nstart = "s"\nsteps = 1\nval = [{folder = "a"}]\n' + line + "\n"
    (tmp_path / "r.toml").write_text(text if "train" in line else text + '[[train]]\nfolder = "a"\n')
    with pytest.raises(ConfigError, match=message):
        load_toml(tmp_path / "r.toml", DetectorRecipe)


def test_scores_are_fitted_to_the_share_of_hits_or_refused():
    scores = np.repeat([0.2, 0.8], 1000)
    hits = np.concatenate((np.arange(1000) < 500, np.arange(1000) < 900))  # 0.2 means half
    fit = fitted_scores(scores, hits)
    meant = 1 / (1 + np.exp(-(fit.slope * np.log(scores / (1 - scores)) + fit.shift)))
    np.testing.assert_allclose(meant[[0, -1]], [0.5, 0.9], atol=0.01)
    with pytest.raises(ModelError, match="both are needed"):
        fitted_scores(scores, np.ones(2000, bool))
    with pytest.raises(ModelError, match="no surer"):
        fitted_scores(scores, hits[::-1])


@pytest.mark.slow
def test_the_command_trains_labels_publishes_and_goes_on(recipe, rendered, shared, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "WORTH_INT8", 1.0)  # of so few pictures one more is lost where a processor has no VNNI
    zoo = shared / ZOO
    text = f"""
name = "small"
start = "{zoo}"
sizes = [[192, 320], [224, 288]]
steps = 2
batch = 2
evaluate_every = 2
blend = 0.5
precision = "fp32"
[[train]]
folder = "{rendered}"
split = "train"
complete = true
[[val]]
folder = "{rendered}"
split = "val"
[[teachers]]
file = "{zoo}"
sizes = [[384, 640]]
[certainty]
agreed = [0.2]
alone = [0.5]
doubt = [0.1]
"""
    (tmp_path / "small.toml").write_text(text)
    command = ["train-detector", str(tmp_path / "small.toml"), "--out", str(tmp_path / "run"), "--threads", "1"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "8 pictures" in result.stderr
    assert "last look at val: " in result.stdout
    card = read_detector_card(tmp_path / "run" / "model")
    assert card.networks[0].name == "person-detection-0201"
    assert "0.5 of what was learnt and 0.5 of the start" in card.origin
    assert {*card.scores} == {"fp32", "int8"}
    picture = np.zeros((240, 320, 3), np.uint8)
    for precision in ("fp32", "int8"):
        detector = open_detector(tmp_path / "run" / "model", precision=precision)
        assert detector.understood == "small, pictures of 192x320 or 224x288"
        assert len(detector([picture])) == 1
    with pytest.raises(ModelError, match="no calibrated scores in bf16"):
        open_detector(tmp_path / "run" / "model", precision="bf16")
    with pytest.raises(PasserbyError, match="go on with --resume"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert CliRunner().invoke(app, [*command, "--resume"], catch_exceptions=False).exit_code == 0
    (tmp_path / "run" / "model" / "model_int8.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"not the file that card\.json describes"):
        open_detector(tmp_path / "run" / "model")
