from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from passerby.learn.loader import (
    BOX,
    RECORDER,
    STRANGER,
    Augment,
    PersonSampler,
    augmented,
    batches,
    decoded_cache,
    to_input,
)
from passerby.reid.pictures import read_picture, resize
from passerby.types import Picture, TrainingError

NOTHING = Augment(flip=0, crop=0, erase=0, colour=0, grey=0)


def pictures(counts: dict[str, dict[str, int]]) -> list[Picture]:
    return [
        Picture(Path(f"{person}-{camera}-{i}.jpg"), person, camera)
        for person, cameras in counts.items()
        for camera, n in cameras.items()
        for i in range(n)
    ]


@pytest.fixture
def people():
    return pictures({f"p{i}": {"a": 3, "b": 2, "c": 1} for i in range(10)})


def test_shrinking_takes_detail_and_darkening_takes_light_and_neither_changes_the_cache():
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 256, (6, 64, 32, 3)).astype(np.uint8)
    before = batch.copy()
    clean = augmented(batch, NOTHING, seed=0, step=0)
    small = augmented(batch, replace(NOTHING, shrink=1), seed=0, step=0)
    dark = augmented(batch, replace(NOTHING, dark=1), seed=0, step=0)
    assert (small.diff(dim=2).abs().mean((1, 2, 3)) < 0.5 * clean.diff(dim=2).abs().mean((1, 2, 3))).all()
    assert (dark.mean((1, 2, 3)) < clean.mean((1, 2, 3))).all()
    assert np.array_equal(batch, before)


def test_a_batch_holds_p_people_with_k_pictures_each(people):
    sampler = PersonSampler(people, people=4, pictures_each=3, seed=0)
    batch = sampler.batch(0)
    assert sorted(Counter(sampler.labels[batch]).values()) == [3, 3, 3, 3]
    assert len(set(batch)) == 12


def test_pictures_of_a_person_come_from_as_many_cameras_as_it_has(people):
    sampler = PersonSampler(people, people=5, pictures_each=3, seed=0)
    for row in sampler.batch(1).reshape(5, 3):
        assert {people[i].camera for i in row} == {"a", "b", "c"}


def test_without_regard_to_cameras_a_persons_pictures_are_drawn_alike(people):
    sampler = PersonSampler(people, people=5, pictures_each=3, seed=0, across_cameras=False)
    rows = [row for step in range(40) for row in sampler.batch(step).reshape(5, 3)]
    assert any({people[i].camera for i in row} == {"a"} for row in rows)  # 1 in 20 by chance
    counts = Counter(people[i].camera for row in rows for i in row)
    assert counts["a"] > counts["b"] > counts["c"]


def test_every_person_comes_once_in_a_pass(people):
    sampler = PersonSampler(people, people=5, pictures_each=2, seed=0)
    seen = np.concatenate([sampler.labels[sampler.batch(step)[::2]] for step in (0, 1)])
    assert sorted(seen) == list(range(10))


def test_a_batch_follows_from_seed_and_step_alone(people):
    first = PersonSampler(people, people=4, pictures_each=2, seed=3)
    for step in range(5):
        first.batch(step)
    again = PersonSampler(people, people=4, pictures_each=2, seed=3)
    assert np.array_equal(first.batch(7), again.batch(7))
    assert not np.array_equal(first.batch(7), first.batch(8))


def sets(sizes: dict[str, int]) -> list[Picture]:
    return [
        Picture(Path(f"{name}-{person}-{i}.jpg"), f"{name}:{person}", f"{name}:c{i}")
        for name, people in sizes.items()
        for person in range(people)
        for i in range(2)
    ]


@pytest.mark.parametrize(
    ("balance", "shares"), [(0.0, (0.88, 0.1, 0.02)), (0.5, (0.66, 0.23, 0.1)), (1.0, (1 / 3, 1 / 3, 1 / 3))]
)
def test_balance_brings_small_sets_as_often_as_large_ones_or_in_between(balance, shares):
    listed = sets({"large": 450, "middle": 52, "small": 10})
    sampler = PersonSampler(listed, people=16, pictures_each=2, seed=0, balance=balance)
    drawn = Counter(listed[row].person.partition(":")[0] for step in range(250) for row in sampler.batch(step)[::2])
    got = [drawn[name] / (250 * 16) for name in ("large", "middle", "small")]
    assert got == pytest.approx(shares, abs=0.02)


def test_a_balanced_batch_has_no_person_twice_and_follows_from_seed_and_step():
    sampler = PersonSampler(sets({"a": 40, "b": 8}), people=12, pictures_each=2, seed=0, balance=1.0)
    assert len(set(sampler.labels[sampler.batch(3)].tolist())) == 12
    assert np.array_equal(sampler.batch(3), sampler.batch(3))
    assert not np.array_equal(sampler.batch(3), sampler.batch(4))


def test_a_set_too_small_for_its_share_of_a_batch_is_an_error():
    with pytest.raises(
        TrainingError, match="b has 3 people, and balance = 1 would put up to 6 of them in a batch of 12"
    ):
        PersonSampler(sets({"a": 40, "b": 3}), people=12, pictures_each=2, seed=0, balance=1.0)


def test_a_person_with_one_picture_repeats_it():
    sampler = PersonSampler(pictures({"x": {"a": 1}, "y": {"a": 5}}), people=2, pictures_each=4, seed=0)
    assert Counter(sampler.labels[sampler.batch(0)]) == {0: 4, 1: 4}


def test_too_few_people_for_a_batch_is_an_error(people):
    with pytest.raises(TrainingError, match="batches of 11 people asked for, the training set has 10"):
        PersonSampler(people, people=11, pictures_each=2, seed=0)


def test_the_cache_holds_what_inference_sees(drawn, tmp_path):
    files = sorted((drawn / "query").iterdir())[:3]
    listed = [Picture(path, "x", "a") for path in files]
    cache = decoded_cache(listed, tmp_path, height=64, width=32)
    assert np.array_equal(cache[2], resize(read_picture(files[2]), height=64, width=32))
    assert decoded_cache(listed, tmp_path, height=64, width=32) is not None
    assert len(list(tmp_path.glob("*.npy"))) == 1


def test_without_augmentation_training_sees_what_inference_sees():
    batch = np.random.default_rng(0).integers(0, 256, (2, 20, 10, 3), np.uint8)
    torch.testing.assert_close(augmented(batch, NOTHING, seed=0, step=0), to_input(batch), atol=1e-5, rtol=1e-5)


def test_flip_mirrors_and_keeps_everything_else():
    batch = np.random.default_rng(0).integers(0, 256, (2, 20, 10, 3), np.uint8)
    flipped = augmented(batch, Augment(flip=1, crop=0, erase=0, colour=0, grey=0), seed=0, step=0)
    torch.testing.assert_close(flipped, to_input(batch).flip(3), atol=1e-5, rtol=1e-5)


def test_erasing_fills_one_rectangle_with_the_mean_colour():
    batch = np.full((1, 60, 30, 3), 255, np.uint8)
    x = augmented(batch, Augment(flip=0, crop=0, erase=1, colour=0, grey=0), seed=0, step=0)
    hole = (x[0] == 0).all(0)
    assert 0.01 < hole.float().mean() < 0.45
    rows, columns = hole.any(1).nonzero()[:, 0], hole.any(0).nonzero()[:, 0]
    assert hole[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()


def test_grey_makes_the_three_channels_one():
    batch = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    x = augmented(batch, Augment(flip=0, crop=0, erase=0, colour=0, grey=1), seed=0, step=0)
    values = x * torch.tensor((0.229, 0.224, 0.225))[:, None, None] + torch.tensor((0.485, 0.456, 0.406))[:, None, None]
    torch.testing.assert_close(values[:, 0], values[:, 2], atol=1e-5, rtol=1e-5)


def test_augmentation_follows_from_seed_and_step():
    batch = np.random.default_rng(0).integers(0, 256, (4, 32, 16, 3), np.uint8)
    varied = Augment(shrink=0.5, dark=0.5)
    assert torch.equal(augmented(batch, varied, seed=1, step=5), augmented(batch, varied, seed=1, step=5))
    assert torch.equal(augmented(batch, Augment(), seed=1, step=5), augmented(batch, Augment(), seed=1, step=5))
    assert not torch.equal(augmented(batch, Augment(), seed=1, step=5), augmented(batch, Augment(), seed=1, step=6))


@pytest.mark.parametrize("setting", [STRANGER, *BOX, *RECORDER])
def test_each_fault_befalls_its_share_of_the_pictures(setting):
    batch = np.random.default_rng(0).integers(0, 256, (40, 64, 32, 3)).astype(np.uint8)
    clean = augmented(batch, NOTHING, seed=0, step=0)
    changed = augmented(batch, replace(NOTHING, **{setting: 0.5}), seed=0, step=0)
    differs = (changed != clean).flatten(1).any(1)
    assert 10 <= int(differs.sum()) <= 30
    assert torch.equal(clean[~differs], changed[~differs])


def test_processes_that_prepare_ahead_give_what_the_run_itself_would():
    cv2.resize(np.zeros((2000, 2000, 3), np.uint8), (1500, 1500))  # OpenCV's threads are there when loaders are begun
    listed = sets({"a": 12})
    decoded = np.random.default_rng(0).integers(0, 256, (len(listed), 32, 16, 3)).astype(np.uint8)
    sampler = PersonSampler(listed, people=4, pictures_each=2, seed=0)
    alone, helped = (
        list(batches(decoded, sampler, Augment(video=0.5), seed=0, steps=range(2, 6), loaders=n)) for n in (0, 2)
    )
    assert len(alone) == len(helped) == 4
    for (rows, one), (again, other) in zip(alone, helped, strict=True):
        assert np.array_equal(rows, again)
        assert torch.equal(one.pictures, other.pictures)
        assert torch.equal(one.saturation, other.saturation)
        assert one.holes == other.holes
