from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from passerby.reid import grouping
from passerby.reid.calibration import Calibration
from passerby.reid.fitting import fit as fit_calibration
from passerby.reid.grouping import (
    START,
    PairScores,
    _Crowd,
    _linked,
    _Ratios,
    group_vectors,
    groupings,
    pairwise_scores,
    partitions,
    share_of_same_pairs,
)
from passerby.reid.pairs import sample_pairs
from passerby.types import PasserbyError, Picture

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
LENGTH = 32


def looks(people: int, each: int, noise: float, seed: int) -> tuple[np.ndarray, list[int]]:
    """Unit vectors of people with some spread, and who is who; a person's pictures are not side by side."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(people, LENGTH))
    who = np.tile(np.arange(people), each)
    vectors = centres[who] + noise * random.normal(size=(people * each, LENGTH))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), who.tolist()


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    vectors, who = looks(60, 4, 0.5, seed=1)
    pictures = [Picture(Path(f"{i}.jpg"), f"p{person}", f"c{i // 60 % 2}") for i, person in enumerate(who)]
    sets = [{behind: sample_pairs(vectors, pictures, behind=behind) for behind in ((1, 1), (1, 2), (2, 2))}]
    return fit_calibration(sets, file_sha256="0" * 64, precision="fp32", fitted_on="test")


def same_grouping(labels, who) -> bool:
    return len(set(zip(labels, who, strict=True))) == len(set(labels)) == len(set(who))


def test_people_who_look_different_are_counted_exactly(calibration):
    vectors, who = looks(15, 4, 0.3, seed=2)
    found = group_vectors(vectors, calibration, threshold=0.65)
    assert found.groups == 15
    assert found.people.value == 15
    assert 14 <= found.people.low <= 15 <= found.people.high <= 17
    assert same_grouping(found.labels, who)


def test_numbers_follow_first_appearance(calibration):
    vectors, _ = looks(5, 2, 0.2, seed=3)
    assert group_vectors(vectors, calibration, threshold=0.65).labels == (0, 1, 2, 3, 4, 0, 1, 2, 3, 4)


def test_a_higher_threshold_makes_more_groups_and_leaves_the_number_of_people(calibration):
    vectors, _ = looks(20, 4, 0.9, seed=4)
    found = [group_vectors(vectors, calibration, threshold=t) for t in (0.5, 0.65, 0.8, 0.99)]
    counts = [each.groups for each in found]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    assert len({each.people for each in found}) == 1


def test_partitions_are_drawn_once_for_all_thresholds(calibration, monkeypatch):
    vectors, _ = looks(20, 4, 0.9, seed=4)
    thresholds = (0.5, 0.65, 0.8)
    apart = [group_vectors(vectors, calibration, threshold=t) for t in thresholds]
    calls = []
    monkeypatch.setattr(grouping, "partitions", lambda *a, **kw: calls.append(a) or partitions(*a, **kw))
    assert groupings(vectors, calibration, thresholds=thresholds) == apart
    assert len(calls) == 1


def test_the_number_of_people_is_right_where_pictures_are_hard_to_tell_apart(calibration):
    errors, inside = [], 0
    for seed in range(10):
        vectors, _ = looks(30, 5, 0.5, seed=100 + seed)
        people = group_vectors(vectors, calibration, threshold=0.65, seed=seed).people
        errors.append(abs(people.value - 30) / 30)
        inside += people.low <= 30 <= people.high
    assert np.mean(errors) < 0.1
    assert inside >= 6


def test_equal_input_gives_equal_output(calibration):
    vectors, _ = looks(20, 4, 0.9, seed=4)
    assert group_vectors(vectors, calibration, threshold=0.65) == group_vectors(vectors, calibration, threshold=0.65)


def test_the_same_looks_count_for_less_in_a_crowd(calibration):
    pair = np.eye(LENGTH, dtype=np.float32)[:2]
    cosine = calibration.similarity_at(0.65, prior=0.5) + 0.05
    pair[1] = cosine * pair[0] + np.sqrt(1 - cosine**2) * pair[1]
    assert group_vectors(pair, calibration, threshold=0.65).groups == 1
    strangers = np.eye(LENGTH, dtype=np.float32)[2:]
    crowd = group_vectors(np.concatenate([pair, strangers]), calibration, threshold=0.65)
    assert crowd.labels[0] != crowd.labels[1]


def test_two_pictures_of_one_camera_at_one_time_are_two_people(calibration):
    twins = np.repeat(np.eye(1, LENGTH, dtype=np.float32), 3, axis=0)
    times = [NOON, NOON, NOON + timedelta(minutes=5)]
    found = group_vectors(twins, calibration, threshold=0.65, cameras=["door", "door", "aisle"], times=times)
    assert found.labels[0] != found.labels[1]
    assert found.people.value == 2
    assert group_vectors(twins, calibration, threshold=0.65, cameras=["door", "till", "aisle"], times=times).groups == 1


def test_a_forbidden_pair_stays_apart_through_later_merges(calibration):
    # 0 and 1 stand side by side; 2 looks like both and 3 does, too
    same = np.repeat(np.eye(1, LENGTH, dtype=np.float32), 6, axis=0)
    times = [NOON, NOON, *(NOON + timedelta(hours=i) for i in range(1, 5))]
    found = group_vectors(same, calibration, threshold=0.5, cameras=["a"] * 6, times=times)
    assert found.labels[0] != found.labels[1]
    assert found.people.low == found.people.high == 2


def test_the_closest_groups_are_always_linked_next(calibration):
    """Against an obviously right slow loop."""
    vectors, _ = looks(8, 3, 0.8, seed=7)
    least = calibration.similarity_at(START, share_of_same_pairs(vectors @ vectors.T, calibration))
    groups = [[i] for i in range(len(vectors))]
    while len(groups) > 1:
        best, i, j = max(
            (float(np.mean([vectors[a] @ vectors[b] for a in groups[i] for b in groups[j]])), -i, -j)
            for i in range(len(groups))
            for j in range(i + 1, len(groups))
        )
        if best < least:
            break
        groups[-i] += groups.pop(-j)
    owner = _linked(vectors, calibration, range(len(vectors)))
    assert {frozenset(np.flatnonzero(owner == g).tolist()) for g in set(owner.tolist())} == {
        frozenset(g) for g in groups
    }
    assert 1 < len(groups) < len(vectors)


@pytest.mark.parametrize("looks_alike", [0.2, 0.5, 0.8])
def test_draws_visit_partitions_as_often_as_their_conditionals_say(calibration, looks_alike):
    """Three pictures: how often the third stands with the first two, against the conditionals by hand."""
    rng = np.random.default_rng(3)
    base = np.eye(1, LENGTH, dtype=np.float32)[0]
    least = calibration.similarity_at(looks_alike, 0.5)
    doubtful = least * base + np.sqrt(1 - least**2) * np.eye(LENGTH, dtype=np.float32)[1]
    vectors = np.stack([base, base, doubtful]).astype(np.float32)
    ones = np.ones(3, np.float32)
    certain = replace(calibration, error=(0.0, 0.0))
    crowd = _Crowd(vectors, ones, range(3), rng)
    crowd.begin(np.array([0, 0, 2]))
    ratios = _Ratios(certain)
    together, looked = 0, 0
    for _ in range(4000):
        crowd._move_pictures(ratios, likeliest=False)
        if crowd.owner[0] == crowd.owner[1]:
            looked += 1
            together += crowd.owner[2] == crowd.owner[0]
    ratio = float(certain.llr(least, 1, 2))
    odds = np.exp(ratio) * (2 + crowd._shape) * crowd._rate / (2 * np.exp(crowd._log_size(1)))
    assert looked > 2000
    assert together / looked == pytest.approx(odds / (1 + odds), abs=0.05)


def test_pictures_that_show_nothing_are_in_no_group_and_count_for_nobody(calibration):
    vectors, who = looks(6, 3, 0.3, seed=2)
    quality = np.array([0.0 if i % 3 == 0 else 1.0 for i in range(len(who))], np.float32)
    found = group_vectors(vectors, calibration, threshold=0.65, quality=quality)
    assert found.unknown == tuple(range(0, 18, 3))
    assert all(found.labels[i] is None for i in found.unknown)
    assert found.groups == found.people.value == len({w for w, q in zip(who, quality, strict=True) if q})


def test_the_share_of_same_pairs_is_found_from_the_similarities_alone(calibration):
    for people in (10, 40):
        vectors, _ = looks(people, 4, 0.5, seed=8)
        true = people * 6 / (people * 4 * (people * 4 - 1) / 2)
        assert share_of_same_pairs(vectors @ vectors.T, calibration) == pytest.approx(true, rel=0.35)


def test_one_picture_and_none(calibration):
    one = np.eye(1, LENGTH, dtype=np.float32)
    assert group_vectors(one, calibration, threshold=0.65).groups == 1
    assert group_vectors(one[:0], calibration, threshold=0.65).labels == ()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"cameras": ["a"]}, "expected 2 cameras"),
        ({"times": [NOON]}, "expected 2 times"),
        ({"times": [datetime(2026, 1, 1)] * 2}, "timezone-aware"),
    ],
)
def test_lists_that_do_not_fit_are_refused(calibration, more, message):
    with pytest.raises(PasserbyError, match=message):
        group_vectors(np.eye(2, LENGTH, dtype=np.float32), calibration, threshold=0.65, **more)


def test_pairwise_scores_of_a_small_case_by_hand():
    # pairs put together: 01, 23, 24, 34; of one person: 01, 02, 12, 34; both: 01, 34
    assert pairwise_scores([0, 0, 1, 1, 1], "aaabb") == PairScores(0.5, 0.5, 0.5)


def test_pairwise_scores_equal_a_loop_over_pairs():
    random = np.random.default_rng(0)
    labels, truth = random.integers(0, 5, 40).tolist(), random.integers(0, 6, 40).tolist()
    pairs = [(i, j) for i in range(40) for j in range(i)]
    put = [labels[i] == labels[j] for i, j in pairs]
    real = [truth[i] == truth[j] for i, j in pairs]
    both = sum(a and b for a, b in zip(put, real, strict=True))
    found = pairwise_scores(labels, truth)
    assert found.precision == pytest.approx(both / sum(put))
    assert found.recall == pytest.approx(both / sum(real))


def test_everybody_apart_finds_no_pair():
    assert pairwise_scores([0, 1, 2], "aab") == PairScores(1.0, 0.0, 0.0)
    with pytest.raises(PasserbyError, match="3 and 2"):
        pairwise_scores([0, 1, 2], "aa")
