import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from passerby.config import load_toml
from passerby.learn import train as training
from passerby.learn.model import OSNet
from passerby.learn.recipe import OptimiserSettings, Recipe, Stage, TeacherSettings
from passerby.learn.start import read_folder
from passerby.learn.train import train
from passerby.learn.workers import Workers
from passerby.reid.datasets import read_dataset
from passerby.types import ConfigError, ModelError, TrainingError

ROOT = Path(__file__).parents[1]
SMALL = Recipe(
    name="small",
    data=("drawn",),
    stages=(Stage(64, 32, 4), Stage(96, 48, 3)),
    architecture="osnet_x0_25",
    people=4,
    pictures_each=3,
    evaluate_every=100,
    optimiser=OptimiserSettings(warmup_steps=2),
)


@pytest.fixture(scope="module")
def pictures(drawn):
    return read_dataset("market1501", drawn, split="official").train


@pytest.fixture(scope="module")
def dev(drawn):
    return read_dataset("market1501", drawn, split="test")


def same(a: Path, b: Path) -> bool:
    one, two = torch.load(a, weights_only=True), torch.load(b, weights_only=True)
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_a_resumed_run_ends_in_bit_identical_weights(pictures, tmp_path):
    whole = train(SMALL, pictures, [], tmp_path / "whole")
    for stop in (2, 5):  # within a stage, and across the change of input size
        cut = tmp_path / f"cut{stop}"
        assert train(SMALL, pictures, [], cut, stop_after=stop).interrupted
        again = train(SMALL, pictures, [], cut, resume=True)
        assert not again.interrupted
        assert same(whole.weights, again.weights)


def test_another_seed_ends_elsewhere(pictures, tmp_path):
    one = train(SMALL, pictures, [], tmp_path / "one")
    two = train(replace(SMALL, seed=2), pictures, [], tmp_path / "two")
    assert not same(one.weights, two.weights)


def test_a_run_keeps_the_weights_that_were_best_on_dev_and_logs_each_step(pictures, dev, tmp_path):
    outcome = train(SMALL, pictures, [dev], tmp_path)
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, 8))
    assert 0 < entries[-1]["dev_market1501/test_map"] <= 1
    assert {"loss", "arcface", "triplet", "rate", "images_per_s", "loading"} <= entries[0].keys()
    assert outcome.dev.keys() == {"dev_market1501/test_rank1", "dev_market1501/test_map"}
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.slow
def test_training_learns_to_tell_people_apart_whom_it_has_not_seen(tmp_path):
    from coloured_people import make

    make(tmp_path / "people", people=60)
    many = read_dataset("market1501", tmp_path / "people", split="official").train
    others = read_dataset("market1501", tmp_path / "people", split="test")
    recipe = replace(
        SMALL,
        stages=(Stage(64, 32, 120),),
        people=16,
        pictures_each=4,
        ema=0.9,
        precision="fp32",
        optimiser=OptimiserSettings(learning_rate=2e-3, warmup_steps=10),
    )
    before = train(replace(recipe, stages=(Stage(64, 32, 1),)), many, [others], tmp_path / "before").dev
    after = train(recipe, many, [others], tmp_path / "after").dev
    assert after["dev_market1501/test_map"] > before["dev_market1501/test_map"] + 0.3


def test_a_run_from_a_published_network_begins_with_its_neck_settled_and_its_centres_set(pictures, shared, tmp_path):
    file = "person-reidentification-retail-0286"
    recipe = replace(
        SMALL,
        architecture="osnet_gates_x0_75",
        start=shared / "models" / file / "FP16" / f"{file}.xml",
        stages=(Stage(128, 64, 1),),
    )
    outcome = train(recipe, pictures, [], tmp_path / "begun")
    start = torch.load(tmp_path / "begun" / "start.pt", weights_only=True)
    assert start.keys() == torch.load(outcome.weights, weights_only=True).keys()
    torch.testing.assert_close(start["fc.1.weight"], (start["fc.1.running_var"] + 1e-5).sqrt())
    train(replace(recipe, start=None), pictures, [], tmp_path / "fresh")
    first = [
        json.loads((tmp_path / run / "log.jsonl").read_text().splitlines()[0])["arcface"] for run in ("begun", "fresh")
    ]
    assert first[0] < 0.7 * first[1]


def test_a_run_may_begin_as_a_bundled_model(pictures, tmp_path):
    recipe = replace(SMALL, architecture="osnet_gates_x0_75", start=Path("osnet_x0_75"), stages=(Stage(64, 32, 1),))
    outcome = train(recipe, pictures, [], tmp_path, stop_after=0)
    bundled = read_folder(ROOT / "models" / "osnet_x0_75")
    begun = torch.load(outcome.weights, weights_only=True)
    assert all(torch.equal(begun[name], value) for name, value in bundled.items())
    with pytest.raises(ModelError, match="bundled are: "):
        train(replace(recipe, start=Path("osnet_x9")), pictures, [], tmp_path / "unknown")


def test_a_run_may_begin_as_a_wider_network_narrowed_or_as_one_of_its_own_width(pictures, tmp_path):
    torch.manual_seed(0)
    wide = OSNet("osnet_gates_x0_5")
    torch.save(wide.state_dict(), tmp_path / "wide.pt")
    recipe = replace(SMALL, architecture="osnet_gates_x0_25", start=tmp_path / "wide.pt", stages=(Stage(64, 32, 1),))
    outcome = train(recipe, pictures, [], tmp_path / "narrowed", stop_after=0)
    begun = torch.load(outcome.weights, weights_only=True)
    assert begun.keys() == wide.state_dict().keys()
    assert all(any(torch.equal(own, row) for row in wide.conv1.conv.weight) for own in begun["conv1.conv.weight"])
    again = train(replace(recipe, start=outcome.weights), pictures, [], tmp_path / "same", stop_after=0)
    assert same(outcome.weights, again.weights)
    torch.save({k: v for k, v in wide.state_dict().items() if k != "conv5.conv.bias"}, tmp_path / "part.pt")
    with pytest.raises(TrainingError, match="can only begin with a whole one"):
        train(replace(recipe, start=tmp_path / "part.pt"), pictures, [], tmp_path / "refused")


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one_with_the_same_global_batch(drawn, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"""
name = "pair"
architecture = "osnet_gates_x0_25"
data = ["market1501:{drawn}"]
dev_people = 4
people = 4
pictures_each = 2
precision = "fp32"
evaluate_every = 100
stages = [{{height = 64, width = 32, steps = 4}}]
[centre]
weight = 5e-4
""")

    def losses(*launcher: str) -> list[float]:
        out = tmp_path / str(len(launcher))
        command = [
            sys.executable,
            *launcher,
            "-m",
            "passerby",
            "train",
            str(recipe),
            "--out",
            str(out),
            "--threads",
            "1",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]

    one, two = losses(), losses("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    assert len(one) == 4
    assert two == pytest.approx(one, rel=1e-4)


def test_a_batch_that_processes_cannot_share_evenly_is_refused():
    workers = Workers(torch.device("cpu"))
    workers.count, workers.rank = 3, 1
    assert workers.part(12) == slice(4, 8)
    with pytest.raises(TrainingError, match="cannot be shared by 3"):
        workers.part(10)


def test_a_recipes_hash_ignores_what_is_left_at_its_default():
    assert replace(SMALL, seed=1).sha256 == SMALL.sha256
    assert replace(SMALL, across_cameras=True, ema=0.998).sha256 == SMALL.sha256
    changed = [
        replace(SMALL, seed=2),
        replace(SMALL, stages=SMALL.stages[:1]),
        replace(SMALL, optimiser=OptimiserSettings()),
    ]
    assert len({SMALL.sha256, *(recipe.sha256 for recipe in changed)}) == 4


def test_a_begun_folder_is_not_overwritten(pictures, tmp_path):
    train(SMALL, pictures, [], tmp_path, stop_after=1)
    with pytest.raises(TrainingError, match="--resume"):
        train(SMALL, pictures, [], tmp_path)


def test_a_checkpoint_of_another_recipe_is_refused(pictures, tmp_path):
    train(SMALL, pictures, [], tmp_path, stop_after=1)
    with pytest.raises(TrainingError, match="another recipe"):
        train(replace(SMALL, seed=9), pictures, [], tmp_path, resume=True)


@pytest.mark.parametrize("change", ["other people", "fewer people", "labels swapped", "another file"])
def test_a_run_goes_on_with_the_same_pictures_and_labels_alone(pictures, tmp_path, change):
    train(SMALL, pictures, [], tmp_path, stop_after=1)
    people = sorted({picture.person for picture in pictures})
    if change == "other people":
        others = [replace(picture, person=f"x{picture.person}") for picture in pictures]
    elif change == "fewer people":
        others = [replace(p, person=people[1]) if p.person == people[0] else p for p in pictures]
    elif change == "labels swapped":
        swapped = {people[0]: people[1], people[1]: people[0]}
        others = [replace(picture, person=swapped.get(picture.person, picture.person)) for picture in pictures]
    else:
        copy = tmp_path / "elsewhere" / pictures[0].path.name
        copy.parent.mkdir()
        copy.write_bytes(pictures[1].path.read_bytes())
        others = [replace(pictures[0], path=copy), *pictures[1:]]
    with pytest.raises(
        TrainingError, match=r"was begun with 192 pictures of 16 people, here are 192 pictures of 1[56] peo"
    ):
        train(SMALL, others, [], tmp_path, resume=True)


def test_a_run_goes_on_where_its_data_was_moved_to(pictures, tmp_path):
    train(SMALL, pictures, [], tmp_path / "run", stop_after=1)
    moved = []
    for picture in pictures:
        path = tmp_path / "moved" / picture.path.parent.name / picture.path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.path.read_bytes())
        moved.append(replace(picture, path=path))
    assert not train(SMALL, moved, [], tmp_path / "run", resume=True).interrupted


def test_weights_that_become_no_numbers_before_an_evaluation_say_so(pictures, dev, tmp_path):
    recipe = replace(
        SMALL,
        evaluate_every=1,
        precision="fp32",
        optimiser=OptimiserSettings(name="sgd", learning_rate=1e37, warmup_steps=0),
    )
    with pytest.raises(
        TrainingError, match=r"step 1: the vectors of dev market1501/test are no numbers; nothing was saved"
    ):
        train(recipe, pictures, [dev], tmp_path)
    assert not (tmp_path / "weights.pt").exists()


def test_a_gradient_that_is_no_number_stops_the_run_before_the_step(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(training.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(torch.nan))
    with pytest.raises(TrainingError, match=r"step 0: the gradient's norm is nan; nothing was saved yet"):
        train(replace(SMALL, precision="fp32"), pictures, [], tmp_path)


def test_a_loss_that_is_no_number_stops_the_run_with_what_to_do(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "coloured", lambda *_: torch.full((12, 3, 64, 32), torch.nan))
    with pytest.raises(TrainingError, match=r"step 0: the loss is nan .*nothing was saved yet.*learning_rate"):
        train(SMALL, pictures, [], tmp_path)


@pytest.mark.parametrize("content", [b"", b"no state of torch"])
def test_a_damaged_checkpoint_or_start_is_named(pictures, tmp_path, content):
    (tmp_path / "run").mkdir()
    for path in (tmp_path / "run" / "checkpoint.pt", tmp_path / "start.pth"):
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: damaged"):
        train(SMALL, pictures, [], tmp_path / "run", resume=True)
    with pytest.raises(TrainingError, match=r"start\.pth: damaged"):
        train(replace(SMALL, start=tmp_path / "start.pth"), pictures, [], tmp_path / "new")
    with pytest.raises(TrainingError, match=r"none\.pth: no such file"):
        train(replace(SMALL, start=tmp_path / "none.pth"), pictures, [], tmp_path / "other")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("evaluate_every = 0", "evaluate_every: expected at least 1, got 16 and 0"),
        ("people = 0", "people and evaluate_every: expected at least 1, got 0"),
        ("[arcface]\nweight = 0.0\n[triplet]\nweight = 0.0", "needs a loss"),
    ],
)
def test_a_recipe_that_could_not_run_is_refused_when_it_is_read(tmp_path, lines, message):
    (tmp_path / "r.toml").write_text(
        f'name = "x"\ndata = ["csv:x"]\nstages = [{{height = 64, width = 32, steps = 1}}]\n{lines}\n'
    )
    with pytest.raises(ConfigError, match=message):
        load_toml(tmp_path / "r.toml", Recipe)


def test_ctrl_c_saves_a_checkpoint_that_resume_goes_on_from(pictures, tmp_path):
    import signal

    def interrupt(progress: training.RunState) -> None:
        if progress.activity == "training" and progress.done == 3:
            signal.raise_signal(signal.SIGINT)

    whole = train(SMALL, pictures, [], tmp_path / "whole")
    cut = train(SMALL, pictures, [], tmp_path / "cut", progress=interrupt)
    assert (cut.interrupted, cut.step) == (True, 3)
    assert same(train(SMALL, pictures, [], tmp_path / "cut", resume=True).weights, whole.weights)


def test_a_frozen_body_does_not_move_while_the_neck_learns(pictures, tmp_path):
    recipe = replace(SMALL, optimiser=OptimiserSettings(freeze_body_steps=7, weight_decay=0.0), ema=0.0)
    one = torch.load(train(recipe, pictures, [], tmp_path / "a", stop_after=1).weights, weights_only=True)
    last = torch.load(train(recipe, pictures, [], tmp_path / "b").weights, weights_only=True)
    assert all(torch.equal(one[k], last[k]) for k in one if not k.startswith("fc"))
    assert not torch.equal(one["fc.0.weight"], last["fc.0.weight"])


def test_weight_decay_spares_norms_and_biases():
    optimiser = training._optimiser(OptimiserSettings(weight_decay=0.1), training.OSNet("osnet_x0_25"))
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.1, 0.0]
    assert all(p.ndim == 1 for p in optimiser.param_groups[1]["params"])


def test_the_rate_warms_up_then_falls_along_a_cosine():
    settings = OptimiserSettings(learning_rate=1.0, warmup_steps=4, final=0.0)
    rates = [training._schedule(settings, step, 24) for step in (0, 3, 4, 14, 24)]
    assert rates == pytest.approx([0.25, 1, 1, 0.5, 0], abs=1e-9)


def test_fp16_without_a_gpu_is_refused():
    with pytest.raises(TrainingError, match="needs a GPU"):
        training.autocast_of("fp16", torch.device("cpu"))


def test_bf16_autocast_trains_to_numbers(pictures, tmp_path):
    outcome = train(replace(SMALL, precision="bf16", stages=(Stage(64, 32, 1),)), pictures, [], tmp_path)
    state = torch.load(outcome.weights, weights_only=True)
    assert all(value.isfinite().all() for value in state.values())


def test_a_teacher_is_asked_once_and_imitated(pictures, shared, tmp_path):
    models = shared / "models"
    teacher = models / "person-reidentification-retail-0286" / "FP16" / "person-reidentification-retail-0286.xml"
    recipe = replace(SMALL, teacher=TeacherSettings(models=(teacher,)), stages=(Stage(64, 32, 2),))
    train(recipe, pictures, [], tmp_path)
    vectors = np.load(next((tmp_path / "cache").glob("teacher-*.npy")))
    assert vectors.shape == (len(pictures), 256)
    assert "imitation" in json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])


RECIPES = {path for path in (ROOT / "recipes").glob("*.toml") if not path.name.startswith(("reference_", "detector"))}
TRAINING = sorted(RECIPES)  # no shops and no detectors


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_each_recipe_loads(path):
    recipe = load_toml(path, Recipe)
    assert recipe.steps > 0
