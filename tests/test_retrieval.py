"""Ranks, average precision and verification, against small hand-written numbers, a slow loop, and public code."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby.reid.retrieval import (
    Labels,
    Ranking,
    detection_and_identification,
    pair_scores,
    protocol_parts,
    rank,
    rank_similarities,
    roc,
    score_bin,
)
from passerby.types import DatasetError, ModelError, Picture

ORACLES = Path(__file__).resolve().parents[1].parent / "shared" / "oracles"
needs_oracles = pytest.mark.skipif(
    not ORACLES.is_dir(), reason="the values of public code (../shared/oracles) are not here"
)


def labels(people: str, cameras: str, pictures: str = "") -> Labels:
    """One letter a picture; a camera "?" is not known."""
    return Labels(tuple(people), tuple(None if c == "?" else c for c in cameras), tuple(pictures))


def ranked(similarity: list[float], people: str, cameras: str) -> Ranking:
    """One query, person "a" at camera "1", against a gallery."""
    return rank_similarities(
        np.array([similarity], np.float32), query_labels=labels("a", "1"), gallery_labels=labels(people, cameras)
    )


def test_right_answers_at_ranks_one_and_three() -> None:
    found = ranked([0.9, 0.8, 0.7, 0.6], "abab", "2222")
    assert found.first_rank.tolist() == [1]
    assert found.ap.tolist() == [(1 / 1 + 2 / 3) / 2]
    assert found.inp.tolist() == [2 / 3]


def test_the_trapezoid_form_averages_the_precision_before_and_at_each_right_answer() -> None:
    found = ranked([0.9, 0.8, 0.7, 0.6], "abab", "2222")
    assert found.ap_trapezoid.tolist() == pytest.approx([((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 2])
    late = ranked([0.9, 0.8], "ba", "22")
    assert late.ap.tolist() == [1 / 2]
    assert late.ap_trapezoid.tolist() == [(0 + 1 / 2) / 2]


def test_pictures_of_the_same_person_from_the_same_camera_are_taken_out() -> None:
    found = ranked([0.99, 0.9, 0.8], "aba", "112")  # another person from the query's camera stays in
    assert found.first_rank.tolist() == [2]
    assert found.ap.tolist() == [1 / 2]


def test_an_unknown_camera_takes_nothing_out_but_the_picture_itself() -> None:
    similarity = np.array([[1.0, 0.9, 0.8]], np.float32)
    query, gallery = labels("a", "?", "x"), labels("aba", "?1?", "xyz")
    assert rank_similarities(similarity, query_labels=query, gallery_labels=gallery).first_rank.tolist() == [2]
    unnamed = labels("aba", "?1?")
    assert rank_similarities(similarity, query_labels=query, gallery_labels=unnamed).first_rank.tolist() == [1]


def test_a_query_without_an_answer_is_skipped_and_counted() -> None:
    similarity = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.3]], np.float32)
    found = rank_similarities(similarity, query_labels=labels("zab", "111"), gallery_labels=labels("ab", "12"))
    assert found.skipped.tolist() == [0, 1]  # nobody "z" in the gallery; "a" only at its own camera
    assert found.query.tolist() == [2]
    assert found.cmc(1) == 1.0
    nobody = rank_similarities(similarity[:1], query_labels=labels("z", "1"), gallery_labels=labels("ab", "12"))
    assert nobody.skipped.tolist() == [0]
    assert np.isnan([nobody.cmc(1), nobody.mean_ap, nobody.mean_ap_trapezoid, nobody.mean_inp]).all()


def test_equal_scores_stand_in_gallery_order() -> None:
    assert ranked([0.5, 0.5, 0.5], "bab", "222").first_rank.tolist() == [2]
    assert ranked([0.5, 0.5, 0.5], "abb", "222").first_rank.tolist() == [1]
    assert ranked([0.5, 0.5, 0.5, 0.5], "baba", "2222").ap.tolist() == [(1 / 2 + 2 / 4) / 2]


def test_cmc_counts_the_queries_answered_among_the_best_few() -> None:
    similarity = np.array([[0.9, 0.8, 0.7], [0.9, 0.8, 0.7], [0.9, 0.8, 0.7]], np.float32)
    found = rank_similarities(similarity, query_labels=labels("abc", "111"), gallery_labels=labels("abc", "222"))
    assert [found.cmc(k) for k in (1, 2, 3)] == [1 / 3, 2 / 3, 1]
    assert found.mean_ap == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def slow_rank(similarity: np.ndarray, query: Labels, gallery: Labels) -> list[tuple[int, int, float, float, float]]:
    """(query, first rank, average precision, its trapezoid form, inverse negative penalty), as the protocols say it."""
    results = []
    for q in range(len(query)):
        order = sorted(range(len(gallery)), key=lambda g: (-similarity[q, g], g))
        hits, good, junk_free = 0, [], 0
        for g in order:
            same_camera = query.camera[q] is not None and query.camera[q] == gallery.camera[g]
            if query.person[q] == gallery.person[g] and same_camera:
                continue
            junk_free += 1
            if query.person[q] == gallery.person[g]:
                hits += 1
                before = (hits - 1) / (junk_free - 1) if junk_free > 1 else 1.0
                good.append((junk_free, hits / junk_free, before))
        if good:
            ap = sum(precision for _, precision, _ in good) / len(good)
            trapezoid = sum((precision + before) / 2 for _, precision, before in good) / len(good)
            results.append((q, good[0][0], ap, trapezoid, len(good) / good[-1][0]))
    return results


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_ranks_equal_a_slow_loop_on_scores_full_of_ties(data: st.DataObject) -> None:
    queries, pictures = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 12))
    score = st.sampled_from([-0.5, 0.0, 0.25, 0.5])
    row = st.lists(score, min_size=pictures, max_size=pictures)
    similarity = np.array(data.draw(st.lists(row, min_size=queries, max_size=queries)), np.float32)

    def draw(count: int) -> Labels:
        people = data.draw(st.lists(st.sampled_from("ab"), min_size=count, max_size=count))
        cameras = data.draw(st.lists(st.sampled_from(["1", "2", None]), min_size=count, max_size=count))
        return Labels(tuple(people), tuple(cameras))

    query, gallery = draw(queries), draw(pictures)
    found = rank_similarities(similarity, query_labels=query, gallery_labels=gallery)
    slow = slow_rank(similarity, query, gallery)
    assert found.query.tolist() == [each[0] for each in slow]
    assert sorted([*found.query.tolist(), *found.skipped.tolist()]) == list(range(queries))
    assert found.first_rank.tolist() == [each[1] for each in slow]
    np.testing.assert_allclose(found.ap, [each[2] for each in slow], atol=1e-12)
    np.testing.assert_allclose(found.ap_trapezoid, [each[3] for each in slow], atol=1e-12)
    np.testing.assert_allclose(found.inp, [each[4] for each in slow], atol=1e-12)


def random_case(seed: int, queries: int = 60, pictures: int = 200) -> tuple[np.ndarray, np.ndarray, Labels, Labels]:
    """Embeddings of small whole numbers (their products are exact, and many are equal) with labels."""
    rng = np.random.default_rng(seed)
    signs = [rng.choice([-1.0, 1.0], (n, 16)).astype(np.float32) for n in (queries, pictures)]
    people = [tuple(rng.integers(0, 12, n).tolist()) for n in (queries, pictures)]
    cameras = [tuple(rng.integers(0, 3, n).tolist()) for n in (queries, pictures)]
    return signs[0], signs[1], Labels(people[0], cameras[0]), Labels(people[1], cameras[1])


@pytest.mark.parametrize("chunk_scores", [1, 1000, 10**6])
def test_embeddings_are_ranked_by_cosine_in_chunks_of_any_size(chunk_scores: int) -> None:
    query, gallery, query_labels, gallery_labels = random_case(0)
    scale = np.linspace(1, 9, len(gallery), dtype=np.float32)[:, None]
    powers = 2.0 ** np.round(np.log2(scale))  # lengths differ, cosines stay exact
    found = rank(
        query,
        (gallery * powers).astype(np.float32),
        query_labels=query_labels,
        gallery_labels=gallery_labels,
        chunk_scores=chunk_scores,
    )
    slow = slow_rank(query @ gallery.T, query_labels, gallery_labels)
    assert found.first_rank.tolist() == [each[1] for each in slow]
    np.testing.assert_allclose(found.ap, [each[2] for each in slow], atol=1e-12)


def test_the_same_embeddings_give_the_same_ranking_twice_and_stay_as_they_are() -> None:
    query, gallery, query_labels, gallery_labels = random_case(1)
    kept = query.copy(), gallery.copy()
    first, second = (rank(query, gallery, query_labels=query_labels, gallery_labels=gallery_labels) for _ in range(2))
    assert first.ap.tolist() == second.ap.tolist()
    np.testing.assert_array_equal(query, kept[0])
    np.testing.assert_array_equal(gallery, kept[1])


@needs_oracles
@pytest.mark.parametrize("case", range(5))
def test_cmc_map_and_minp_equal_those_of_torchreid_and_fastreid(case: int) -> None:
    arrays = np.load(ORACLES / "retrieval.npz")
    expected = json.loads((ORACLES / "retrieval.json").read_text())["cases"][case]
    get = lambda name: arrays[f"{case}_{name}"]  # noqa: E731
    found = rank(
        get("query_embeddings"),
        get("gallery_embeddings"),
        query_labels=Labels(tuple(get("query_person").tolist()), tuple(get("query_camera").tolist())),
        gallery_labels=Labels(tuple(get("gallery_person").tolist()), tuple(get("gallery_camera").tolist())),
    )
    for public in ("torchreid", "fastreid"):
        assert found.mean_ap == pytest.approx(expected[public]["mAP"], abs=1e-6)
        assert [found.cmc(k) for k in range(1, 21)] == pytest.approx(expected[public]["cmc20"], abs=1e-6)
    assert found.mean_inp == pytest.approx(expected["fastreid"]["mINP"], abs=1e-6)


def test_wrong_embeddings_are_refused() -> None:
    good, who = np.ones((2, 4), np.float32), labels("ab", "11")
    bad = np.array([[1, 0, 0, 0], [np.nan, 0, 0, 0]], np.float32)
    for embeddings, message in (
        (good[:1], r"expected \(2, 4\), a row a label, got \(1, 4\)"),
        (good[:, :3], r"expected \(2, 4\), a row a label, got \(2, 3\)"),
        (bad, "row 1 has length nan"),
        (np.zeros((2, 4), np.float32), r"row 0 has length 0\.0"),
    ):
        with pytest.raises(ModelError, match=message):
            rank(good, embeddings, query_labels=who, gallery_labels=who)
    with pytest.raises(ModelError, match="finite"):
        rank_similarities(np.full((2, 2), np.nan, np.float32), query_labels=who, gallery_labels=who)
    with pytest.raises(DatasetError, match="2 people, 1 cameras"):
        labels("ab", "1")


def test_labels_come_from_pictures() -> None:
    pictures = (Picture(Path("x.jpg"), "a", None), Picture(Path("y.jpg"), "b", "c1"))
    assert Labels.of(pictures) == Labels(("a", "b"), (None, "c1"), (Path("x.jpg"), Path("y.jpg")))
    assert Labels.of(pictures).take(np.array([1])) == Labels(("b",), ("c1",), (Path("y.jpg"),))


def test_cross_camera_ranks_each_camera_against_the_others() -> None:
    who = labels("aabb", "1212")
    (first, second) = protocol_parts("cross-camera", who, who)
    assert [rows.tolist() for rows in first] == [[0, 2], [1, 3]]
    assert [rows.tolist() for rows in second] == [[1, 3], [0, 2]]


def test_single_gallery_shot_draws_one_picture_a_person_from_the_other_camera() -> None:
    who = labels("aaabbb", "122122")
    parts = protocol_parts("single-gallery-shot", who, who, repeats=20, seed=1)
    assert len(parts) == 40
    drawn = {tuple(gallery.tolist()) for query, gallery in parts if query.tolist() == [0, 3]}
    assert drawn == {(1, 4), (1, 5), (2, 4), (2, 5)}
    again = protocol_parts("single-gallery-shot", who, who, repeats=20, seed=1)
    assert [gallery.tolist() for _, gallery in again] == [gallery.tolist() for _, gallery in parts]


def test_protocols_that_need_cameras_say_so() -> None:
    who = labels("aa", "1?")
    assert len(protocol_parts("market1501", who, who)) == 1
    with pytest.raises(DatasetError, match="expected a camera for every picture"):
        protocol_parts("cross-camera", who, who)
    alone = labels("aa", "11")
    with pytest.raises(DatasetError, match="two cameras or more, found 1 only"):
        protocol_parts("cross-camera", alone, alone)


def test_pairs_are_counted_by_query_person_and_leave_out_what_the_protocol_takes_out() -> None:
    query, gallery = np.float32([[1, 0], [0, 1]]), np.float32([[1, 0], [0.6, 0.8], [0, 1], [-1, 0]])
    pairs = pair_scores(query, gallery, query_labels=labels("ab", "11"), gallery_labels=labels("aabb", "1212"))
    assert pairs.person == ("a", "b")
    assert pairs.same.sum(axis=1).tolist() == [1, 1]
    assert pairs.different.sum(axis=1).tolist() == [2, 2]
    assert pairs.same[0, score_bin(np.float32([0.6]))[0]] == 1
    assert pairs.best_same.tolist() == pytest.approx([0.6, 0.0])
    assert pairs.best_different.tolist() == pytest.approx([0.0, 0.8])
    assert pairs.different[1, score_bin(np.float32([0.8]))[0]] == 1
    assert pairs.different.min() == 0


def counts(*scores: float, bins: int = 10) -> np.ndarray:
    return np.bincount([round(score * bins) for score in scores], minlength=bins).astype(float)


def test_tpr_at_fpr_takes_the_lowest_threshold_that_is_strict_enough() -> None:
    same, different = counts(0.9, 0.8, 0.5, 0.2), counts(0.1, 0.1, 0.3, 0.6)
    assert roc(same, different).tpr_at(0.0) == 2 / 4
    assert roc(same, different).tpr_at(0.24) == 2 / 4
    assert roc(same, different).tpr_at(0.25) == 3 / 4
    assert roc(same, different).tpr_at(1.0) == 1
    assert np.isnan(roc(counts(), different).tpr_at(0.1))
    assert np.isnan(roc(same, counts()).tpr_at(0.1))


def test_pairs_of_equal_score_are_accepted_together() -> None:
    assert roc(counts(0.9, 0.5), counts(0.5, 0.1)).tpr_at(0.1) == 1 / 2


def test_the_equal_error_rate_is_where_both_errors_meet() -> None:
    assert roc(counts(0.9, 0.8), counts(0.1, 0.2)).equal_error_rate() == 0
    assert roc(counts(0.1, 0.2), counts(0.8, 0.9)).equal_error_rate() == 1
    assert roc(counts(0.9, 0.8, 0.7, 0.2), counts(0.1, 0.1, 0.1, 0.8)).equal_error_rate() == 0.25
    # Accepting from 0.5 on: 1 of 2 wrong, 0 refused; above 0.5: 0 wrong, 1 of 3 refused; the line meets between.
    assert roc(counts(0.5, 0.6, 0.7), counts(0.1, 0.5)).equal_error_rate() == pytest.approx(0.2)
    assert np.isnan(roc(counts(), counts(0.5)).equal_error_rate())


def test_verification_measures_take_many_replicates_at_once() -> None:
    same = np.stack([counts(0.9, 0.5), counts(0.5, 0.5)])
    different = np.stack([counts(0.5, 0.1)] * 2)
    assert roc(same, different).tpr_at(0.1).tolist() == [0.5, 0.0]
    assert roc(same, different).equal_error_rate().shape == (2,)


def test_open_set_identification_counts_people_found_at_a_share_of_strangers() -> None:
    correct = np.array([True, True, False, True])
    best_same, best_different = np.float32([0.9, 0.6, 0.3, 0.55]), np.float32([0.5, 0.1, 0.4, 0.7])
    # At most 1 of 4 strangers: the threshold lies above 0.5, only 0.7 passes, and 0.9, 0.6 and 0.55 are found.
    assert detection_and_identification(correct, best_same, best_different, 0.25).tolist() == [3 / 4]
    assert detection_and_identification(correct, best_same, best_different, 0.0).tolist() == [1 / 4]
    assert detection_and_identification(correct, best_same, best_different, 1.0).tolist() == [3 / 4]
    weights = np.array([[1.0, 1, 1, 1], [2, 0, 0, 2], [0, 0, 0, 0]])
    weighted = detection_and_identification(correct, best_same, best_different, 0.5, weights)
    assert weighted[:2].tolist() == [3 / 4, 1.0]
    assert np.isnan(weighted[2])


def test_strangers_of_equal_score_pass_together() -> None:
    correct, best_same = np.array([True, True]), np.float32([0.5, 0.9])
    assert detection_and_identification(correct, best_same, np.float32([0.5, 0.5]), 0.5).tolist() == [1 / 2]


def test_verification_counts_equal_a_slow_loop() -> None:
    query, gallery, query_labels, gallery_labels = random_case(3)
    pairs = pair_scores(query, gallery, query_labels=query_labels, gallery_labels=gallery_labels, chunk_scores=500)
    same: list[float] = []
    different: list[float] = []
    for q in range(len(query)):
        for g in range(len(gallery)):
            if query_labels.person[q] != gallery_labels.person[g]:
                different.append(float(query[q] @ gallery[g]) / 16)
            elif query_labels.camera[q] != gallery_labels.camera[g]:
                same.append(float(query[q] @ gallery[g]) / 16)
    assert (int(pairs.same.sum()), int(pairs.different.sum())) == (len(same), len(different))
    for fpr in (0.01, 0.1):
        best = max(
            (np.mean(np.array(same) >= t) for t in {*same, *different} if np.mean(np.array(different) >= t) <= fpr),
            default=0.0,
        )
        assert roc(pairs.same.sum(0), pairs.different.sum(0)).tpr_at(fpr) == pytest.approx(best)
