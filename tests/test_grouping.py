from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from passerby.reid.calibration import Calibration
from passerby.reid.fitting import fit as fit_calibration
from passerby.reid.grouping import PairScores, group_vectors, pairwise_scores, share_of_same_pairs
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
    pictures = [Picture(Path(f"{i}.jpg"), f"p{person}", f"c{i // 60}") for i, person in enumerate(who)]
    return fit_calibration(sample_pairs(vectors, pictures), file_sha256="0" * 64, precision="fp32", fitted_on="test")


def same_grouping(labels, who) -> bool:
    return len(set(zip(labels, who, strict=True))) == len(set(labels)) == len(set(who))


def test_people_who_look_different_are_counted_exactly(calibration):
    vectors, who = looks(15, 4, 0.3, seed=2)
    found = group_vectors(vectors, calibration, threshold=0.65)
    assert found.people == 15
    assert same_grouping(found.labels, who)


def test_numbers_follow_first_appearance(calibration):
    vectors, _ = looks(5, 2, 0.2, seed=3)
    assert group_vectors(vectors, calibration, threshold=0.65).labels == (0, 1, 2, 3, 4, 0, 1, 2, 3, 4)


def test_a_higher_threshold_never_counts_fewer_people(calibration):
    vectors, _ = looks(20, 4, 0.9, seed=4)
    counts = [group_vectors(vectors, calibration, threshold=t).people for t in (0.5, 0.65, 0.8, 0.99)]
    assert counts == sorted(counts)


def test_the_same_looks_count_for_less_in_a_crowd(calibration):
    pair = np.eye(LENGTH, dtype=np.float32)[:2]
    cosine = calibration.similarity_at(0.65, prior=0.5) + 0.02
    pair[1] = cosine * pair[0] + np.sqrt(1 - cosine**2) * pair[1]
    assert group_vectors(pair, calibration, threshold=0.65).people == 1
    strangers = np.eye(LENGTH, dtype=np.float32)[2:]
    crowd = group_vectors(np.concatenate([pair, strangers]), calibration, threshold=0.65)
    assert crowd.labels[0] != crowd.labels[1]


def test_two_pictures_of_one_camera_at_one_time_are_two_people(calibration):
    twins = np.repeat(np.eye(1, LENGTH, dtype=np.float32), 3, axis=0)
    times = [NOON, NOON, NOON + timedelta(minutes=5)]
    found = group_vectors(twins, calibration, threshold=0.65, cameras=["door", "door", "aisle"], times=times)
    assert found.labels[0] != found.labels[1]
    assert found.people == 2
    assert group_vectors(twins, calibration, threshold=0.65, cameras=["door", "till", "aisle"], times=times).people == 1


def test_a_forbidden_pair_stays_apart_through_later_merges(calibration):
    # 0 and 1 stand side by side; 2 looks like both and 3 does, too
    same = np.repeat(np.eye(1, LENGTH, dtype=np.float32), 6, axis=0)
    times = [NOON, NOON, *(NOON + timedelta(hours=i) for i in range(1, 5))]
    found = group_vectors(same, calibration, threshold=0.5, cameras=["a"] * 6, times=times)
    assert found.labels[0] != found.labels[1]
    assert found.people == 2


def test_pictures_of_one_walk_past_a_camera_are_judged_at_even_odds(calibration):
    vectors, _ = looks(30, 1, 0.1, seed=5)
    cosine = calibration.similarity_at(0.65, prior=0.5) + 0.02
    other = np.random.default_rng(6).normal(size=LENGTH)
    other -= (other @ vectors[0]) * vectors[0]
    step = (cosine * vectors[0] + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other)).astype(np.float32)
    crowd = np.concatenate([vectors, step[None]])
    cameras = [f"c{i}" for i in range(30)] + ["c0"]
    near = [NOON] * 30 + [NOON + timedelta(seconds=1)]
    far = [NOON] * 30 + [NOON + timedelta(seconds=60)]
    assert group_vectors(crowd, calibration, threshold=0.65, cameras=cameras, times=near).labels[30] == 0
    assert group_vectors(crowd, calibration, threshold=0.65, cameras=cameras, times=far).labels[30] != 0


def test_the_closest_groups_are_always_merged_next(calibration):
    """Against an obviously right slow loop."""
    vectors, _ = looks(8, 3, 0.8, seed=7)
    least = calibration.similarity_at(0.65, share_of_same_pairs(vectors @ vectors.T, calibration))
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
    expected = {frozenset(g) for g in groups}
    found = group_vectors(vectors, calibration, threshold=0.65)
    assert {frozenset(np.flatnonzero(np.array(found.labels) == p).tolist()) for p in range(found.people)} == expected
    assert 1 < found.people < len(vectors)


def test_the_share_of_same_pairs_is_found_from_the_similarities_alone(calibration):
    for people in (10, 40):
        vectors, _ = looks(people, 4, 0.5, seed=8)
        true = people * 6 / (people * 4 * (people * 4 - 1) / 2)
        assert share_of_same_pairs(vectors @ vectors.T, calibration) == pytest.approx(true, rel=0.35)


def test_pairs_of_one_camera_do_not_speak_for_two(calibration):
    vectors, _ = looks(20, 1, 0.5, seed=9)
    twice = np.concatenate([vectors, vectors])  # each picture again, from the same camera
    cameras = ["a", "b"] * 20
    everywhere = share_of_same_pairs(twice @ twice.T, calibration)
    across = share_of_same_pairs(twice @ twice.T, calibration, cameras=cameras)
    assert across < everywhere / 2


def test_one_picture_and_none(calibration):
    one = np.eye(1, LENGTH, dtype=np.float32)
    assert group_vectors(one, calibration, threshold=0.65).people == 1
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
