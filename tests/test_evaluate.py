"""Evaluation by protocol, with its intervals, on small hand-made data sets."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from passerby.reid.evaluate import (
    RANKING_FIGURES,
    FromCamera,
    camera_pairs,
    evaluate,
    evaluate_two_queries,
    paired_bootstrap,
)
from passerby.reid.retrieval import Labels, cosines, rank
from passerby.reid.splits import two_query_test
from passerby.types import Dataset, DatasetError, ModelError, Picture, Protocol, Role


def picture(name: str, person: str, camera: str | None, role: Role = "person") -> Picture:
    return Picture(Path("data") / name, f"s:{person}", None if camera is None else f"s:{camera}", role=role)


def vectors(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def dataset(query: list[Picture], gallery: list[Picture], protocol: Protocol = "market1501") -> Dataset:
    return Dataset("small/test", (), tuple(query), tuple(gallery), protocol, notes=("a note",))


def two_people() -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Person a is found at rank 1 of 3, person b at rank 2."""
    query = [picture("q0", "a", "c1"), picture("q1", "b", "c1")]
    gallery = [picture("g0", "a", "c2"), picture("g1", "b", "c2"), picture("g2", "x", "c2", "distractor")]
    return dataset(query, gallery), vectors(0, 50), vectors(10, 80, 40)


def test_market1501_figures_are_those_of_the_ranks() -> None:
    found = evaluate(*two_people(), bootstrap=0)
    assert found.rank1.value == 0.5
    assert found.rank5.value == found.rank20.value == 1.0
    assert found.map.value == (1 + 1 / 2) / 2
    assert found.map_trapezoid.value == (1 + 1 / 4) / 2
    assert found.minp.value == (1 + 1 / 2) / 2
    assert found.cmc[:3] == (0.5, 1.0, 1.0)
    assert (found.people, found.cameras, found.queries, found.skipped, found.gallery) == (2, 2, 2, 0, 3)
    assert (found.dataset, found.protocol, found.notes) == ("small/test", "market1501", ("a note",))


def test_rank_1_from_each_camera_to_each_other_counts_queries_with_an_answer_there() -> None:
    query = [picture("q0", "a", "c1"), picture("q1", "b", "c1"), picture("q2", "b", "c2"), picture("q3", "a", None)]
    gallery = [
        picture("g0", "a", "c2"),
        picture("g1", "b", "c2"),
        picture("g2", "b", "c3"),
        picture("g3", "x", "c3", "distractor"),
        picture("g4", "b", "c3", "junk"),
        picture("g5", "b", "c1"),
    ]
    found = camera_pairs(dataset(query, gallery), vectors(0, 30, 80, 0), vectors(10, 80, 85, 35, 30, 80))
    assert found == [
        FromCamera("s:c1", "s:c2", 2, 0.5),  # a is found, b lies nearer to a's picture
        FromCamera("s:c1", "s:c3", 1, 0.0),  # b lies nearest to the distractor; its junk does not count
        FromCamera("s:c2", "s:c1", 1, 1.0),
        FromCamera("s:c2", "s:c3", 1, 1.0),
    ]


def test_junk_is_taken_out_of_the_gallery_and_distractors_stay() -> None:
    data, query, gallery = two_people()
    with_junk = replace(data, gallery=(picture("g9", "y", "c2", "junk"), *data.gallery))
    found = evaluate(with_junk, query, np.concatenate([vectors(50), gallery]), bootstrap=0)
    assert found.map == evaluate(data, query, gallery, bootstrap=0).map
    assert found.gallery == 3


def test_skipped_queries_are_counted_and_do_not_count() -> None:
    data, query, gallery = two_people()
    more = replace(data, query=(picture("q2", "z", "c1"), *data.query))
    found = evaluate(more, np.concatenate([vectors(0), query]), gallery, bootstrap=0)
    assert (found.queries, found.skipped, found.people) == (3, 1, 2)
    assert found.rank1.value == 0.5


def test_cameras_are_those_that_are_known_and_seen() -> None:
    data, query, gallery = two_people()
    more = replace(data, gallery=(picture("g9", "y", "c9", "junk"), picture("g8", "y", None), *data.gallery))
    found = evaluate(more, query, np.concatenate([vectors(50, 50), gallery]), bootstrap=0)
    assert found.cameras == 2  # junk's is none
    assert found.as_dict()["cameras"] == 2


@pytest.mark.parametrize("protocol", ["market1501", "cross-camera"])
def test_scores_are_taken_once_a_part_since_re_ranking_is_dear(protocol: Protocol) -> None:
    data, embeddings = cross_camera()
    taken = 0

    def counting(*vectors_: np.ndarray, **settings: int) -> Iterator[tuple[int, np.ndarray]]:
        nonlocal taken
        taken += 1
        yield from cosines(*vectors_, **settings)

    found = evaluate(replace(data, protocol=protocol), embeddings, embeddings, bootstrap=0, scores=counting)
    assert taken == {"market1501": 1, "cross-camera": 2}[protocol]
    assert found == evaluate(replace(data, protocol=protocol), embeddings, embeddings, bootstrap=0)


def test_nothing_to_score_is_an_error() -> None:
    data, query, gallery = two_people()
    one_camera = replace(data, gallery=tuple(replace(p, camera="s:c1") for p in data.gallery))
    with pytest.raises(DatasetError, match="none of the 2 queries has a right answer"):
        evaluate(one_camera, query, gallery)
    with pytest.raises(DatasetError, match="no queries"):
        evaluate(Dataset("s", data.query, (), (), "market1501"), np.zeros((0, 2)), np.zeros((0, 2)))


def test_embeddings_must_fit_the_pictures() -> None:
    data, query, gallery = two_people()
    with pytest.raises(ModelError, match=r"gallery embeddings: expected \(3, d\), a row a picture, got \(2, 2\)"):
        evaluate(data, query, gallery[:2])
    with pytest.raises(ModelError, match=r"query embeddings: expected \(2, d\)"):
        evaluate(data, query[0], gallery)


def test_without_camera_labels_only_the_picture_itself_is_taken_out() -> None:
    pictures = [picture(f"p{i}", person, None) for i, person in enumerate("aab")]
    found = evaluate(dataset(pictures, pictures), vectors(0, 10, 4), vectors(0, 10, 4), bootstrap=0)
    # Person b's only picture has no right answer; a's two pictures see b's first, then each other.
    assert (found.queries, found.skipped) == (3, 1)
    assert found.map.value == 0.5


def cross_camera() -> tuple[Dataset, np.ndarray]:
    """Camera 1 has three pictures, camera 2 two; both directions differ."""
    people, cameras = "aabab", "11122"
    pictures = [picture(f"p{i}", p, f"c{c}") for i, (p, c) in enumerate(zip(people, cameras, strict=True))]
    return dataset(pictures, pictures, "cross-camera"), vectors(0, 30, 60, 10, 32)


def test_cross_camera_is_the_mean_of_the_cameras_means() -> None:
    data, embeddings = cross_camera()
    found = evaluate(data, embeddings, embeddings, bootstrap=0)
    # From camera 1: 0 finds 10 (right), 30 finds 32 (wrong), 60 finds 32 (right): 2/3.
    # From camera 2: 10 finds 0 (right), 32 finds 30 (wrong): 1/2.
    assert found.rank1.value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert (found.queries, found.skipped) == (5, 0)


def test_cross_camera_equals_ranking_each_direction_by_hand() -> None:
    data, embeddings = cross_camera()
    first, second = np.arange(3), np.arange(3, 5)
    labels = Labels.of(data.query)
    means = [
        rank(embeddings[a], embeddings[b], query_labels=labels.take(a), gallery_labels=labels.take(b)).mean_ap
        for a, b in ((first, second), (second, first))
    ]
    assert evaluate(data, embeddings, embeddings, bootstrap=0).map.value == pytest.approx(np.mean(means))


def test_single_gallery_shot_averages_its_draws() -> None:
    data, embeddings = cross_camera()
    shot = replace(data, protocol="single-gallery-shot")
    found = evaluate(shot, embeddings, embeddings, bootstrap=0, repeats=60, seed=5)
    # From camera 2 against one picture of a (0 or 30 degrees) and b (60): 10 finds a; 32 finds a at 30, else b.
    assert found.rank1.value == pytest.approx((2 / 3 + (1 + 1 / 2) / 2) / 2, abs=0.05)
    assert found == evaluate(shot, embeddings, embeddings, bootstrap=0, repeats=60, seed=5)
    assert found.map.value == found.minp.value  # one right answer a query


def noisy(people: int, noise: float, seed: int = 0) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Each person seen by three cameras as query and by three as gallery, around a direction of their own."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(people, 16))
    drawn = np.random.default_rng(seed)
    query = [picture(f"q{p}{c}", str(p), f"c{c}") for p in range(people) for c in range(3)]
    gallery = [picture(f"g{p}{c}", str(p), f"c{c}") for p in range(people) for c in range(3)]
    around = np.repeat(centres, 3, axis=0)
    a, b = (around + noise * drawn.normal(size=around.shape) for _ in range(2))
    return dataset(query, gallery), a.astype(np.float32), b.astype(np.float32)


def test_intervals_hold_the_value_and_follow_the_seed() -> None:
    case = noisy(60, 0.9)
    found, again, other = (evaluate(*case, bootstrap=200, seed=seed) for seed in (1, 1, 2))
    assert found == again
    assert found.map.low != other.map.low
    figures = [getattr(found, name) for name in (*RANKING_FIGURES, "eer")]
    for figure in [*figures, *found.tpr_at_fpr.values(), *found.dir_at_far.values()]:
        assert figure.low is not None
        assert figure.high is not None
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
        assert figure.low < figure.high


def test_the_interval_is_that_of_resampling_people_with_all_their_queries() -> None:
    case = noisy(40, 0.9)
    found = evaluate(*case, bootstrap=1500, seed=1)
    ranking = rank(case[1], case[2], query_labels=Labels.of(case[0].query), gallery_labels=Labels.of(case[0].gallery))
    per_person = ranking.ap.reshape(40, 3)  # each person has three queries, in order
    rng = np.random.default_rng(0)
    slow = [per_person[rng.integers(0, 40, 40)].mean() for _ in range(4000)]
    assert [found.map.low, found.map.high] == pytest.approx(np.quantile(slow, [0.025, 0.975]).tolist(), abs=0.01)


def test_more_people_make_the_interval_narrower() -> None:
    def width(people: int) -> float:
        figure = evaluate(*noisy(people, 0.9), bootstrap=300).map
        assert figure.low is not None
        assert figure.high is not None
        return figure.high - figure.low

    assert width(160) < 0.75 * width(40)


def test_without_bootstrap_there_are_no_intervals() -> None:
    assert evaluate(*two_people(), bootstrap=0).map.low is None


def test_perfect_embeddings_verify_and_identify_perfectly() -> None:
    found = evaluate(*noisy(30, 0.01), bootstrap=50)
    assert found.eer.value == 0
    assert [figure.value for figure in found.tpr_at_fpr.values()] == [1, 1, 1]
    assert [figure.value for figure in found.dir_at_far.values()] == [1, 1]


def test_verification_counts_the_pairs_that_the_protocol_ranks() -> None:
    data, query, gallery = two_people()
    found = evaluate(data, query, gallery, bootstrap=0)
    # Same: 10 and 30 degrees apart; different: 80 and 40 (query a), 40 and 10 (query b).
    assert (
        found.tpr_at_fpr[1e-2].value == 0.0
    )  # the pair 10 degrees apart of different people ties the closest same pair
    assert found.eer.value == pytest.approx(0.25, abs=0.01)


def test_a_dataset_without_different_people_has_no_verification_figures() -> None:
    one = dataset([picture("q", "a", "c1")], [picture("g", "a", "c2")])
    found = evaluate(one, vectors(0), vectors(10), bootstrap=10)
    assert math.isnan(found.eer.value)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["eer"] == {"value": None, "low": None, "high": None}


def test_json_has_the_figures_as_fractions_with_their_intervals() -> None:
    entry = json.loads(json.dumps(evaluate(*two_people(), bootstrap=50).as_dict(), allow_nan=False))
    assert set(RANKING_FIGURES) <= set(entry)
    for name in ("eer", "tpr_at_fpr_1e-2", "tpr_at_fpr_1e-3", "tpr_at_fpr_1e-4", "dir_at_far_1e-1", "dir_at_far_1e-2"):
        assert set(entry[name]) == {"value", "low", "high"}
    assert entry["map"]["value"] == 0.75
    assert len(entry["split_sha256"]) == 64
    assert len(entry["cmc"]) == 50
    assert "by_person" not in entry


def test_the_better_of_two_models_is_told_from_equals() -> None:
    data, query, gallery = noisy(80, 0.7)
    good = evaluate(data, query, gallery, bootstrap=0)
    worse = evaluate(*noisy(80, 1.0), bootstrap=0)
    other = evaluate(*noisy(80, 0.7, seed=3), bootstrap=0)
    gain = paired_bootstrap(good, worse, figure="map")
    assert gain.value.value == pytest.approx(good.map.value - worse.map.value)
    assert gain.value.low is not None
    assert gain.value.low > 0
    assert gain.probability > 0.99
    assert paired_bootstrap(worse, good, figure="map").probability < 0.01
    close = paired_bootstrap(good, other, figure="map")
    assert close.value.low is not None
    assert close.value.high is not None
    assert close.value.low < 0 < close.value.high
    same = paired_bootstrap(good, good, figure="rank1")
    assert (same.value.value, same.value.low, same.value.high, same.probability) == (0, 0, 0, 0.5)


def test_pairing_makes_the_interval_of_a_difference_narrow() -> None:
    data, query, gallery = noisy(60, 0.9)
    a = evaluate(data, query, gallery, bootstrap=300)
    b = evaluate(data, query + np.float32(1e-3), gallery, bootstrap=300)
    gain = paired_bootstrap(a, b).value
    assert gain.high is not None
    assert gain.low is not None
    assert a.map.high is not None
    assert a.map.low is not None
    assert gain.high - gain.low < 0.2 * (a.map.high - a.map.low)


def test_only_evaluations_of_the_same_pictures_are_paired() -> None:
    a, b = evaluate(*noisy(10, 0.5), bootstrap=0), evaluate(*noisy(12, 0.5), bootstrap=0)
    with pytest.raises(DatasetError, match="one split_sha256"):
        paired_bootstrap(a, b)
    with pytest.raises(DatasetError, match="a figure of rank1"):
        paired_bootstrap(a, a, figure="eer")


def pool() -> tuple[list[Picture], np.ndarray]:
    """Five people at 0, 40, 80 ... degrees: a and b fully seen; c with one possible query, d and e with none; junk."""
    seen = {"a": "112233", "b": "112233", "c": "12", "d": "1", "e": "11"}
    pictures = [picture(f"{who}{i}", who, f"c{c}") for who, cameras in seen.items() for i, c in enumerate(cameras)]
    degrees = [40 * "abcde".index(p.person[2]) + int(p.path.name[1]) for p in pictures]
    return [*pictures, picture("j0", "z", "c1", "junk")], vectors(*degrees, 1)


def test_two_queries_a_person_come_from_two_cameras_and_change_with_the_draw() -> None:
    pictures, _ = pool()
    drawn = [two_query_test(pictures, seed=seed) for seed in range(8)]
    assert len({test.query for test in drawn}) > 1
    assert two_query_test(pictures[::-1], seed=3) == drawn[3]
    for test in drawn:
        assert len(test.query) + len(test.gallery) == 17  # junk alone is gone
        for who, queries in {"a": 2, "b": 2, "c": 1, "d": 0, "e": 0}.items():
            mine = [p for p in test.query if p.person == f"s:{who}"]
            assert len(mine) == len({p.camera for p in mine}) == queries
        for query in test.query:
            assert any(p.person == query.person and p.camera != query.camera for p in test.gallery)


def test_pooled_figures_are_those_of_each_draw_and_say_who_was_asked_how_often() -> None:
    pictures, embeddings = pool()
    found = evaluate_two_queries(pictures, embeddings, draws=4)
    assert (found.people, found.cameras, found.pictures, found.one_query, found.no_query) == (5, 3, 17, 1, 2)
    assert found.queries.tolist() == [5] * 4
    assert found.rank1.tolist() == found.map.tolist() == [1.0] * 4
    turned = embeddings.copy()
    turned[2] = vectors(41)[0]  # a's third picture, from camera 2, looks like b
    worse = evaluate_two_queries(pictures, turned, draws=4)
    row = {p: i for i, p in enumerate(pictures)}
    for seed in range(4):
        test = two_query_test(pictures, seed=seed)
        query, gallery = (turned[[row[p] for p in part]] for part in (test.query, test.gallery))
        expected = evaluate(test, query, gallery, bootstrap=0)
        assert worse.rank1[seed] == expected.rank1.value
        assert worse.map[seed] == pytest.approx(expected.map.value)
    assert worse.map.max() < 1


def test_a_pool_of_one_camera_is_refused() -> None:
    pictures = [picture(f"a{i}", "a", "c1") for i in range(3)]
    with pytest.raises(DatasetError, match="none of 1 people has pictures from two cameras"):
        evaluate_two_queries(pictures, vectors(0, 1, 2))
    with pytest.raises(ModelError, match=r"expected \(3, d\)"):
        evaluate_two_queries(pictures, vectors(0, 1))
