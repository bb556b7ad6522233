"""k-reciprocal re-ranking, against a slow loop over whole matrices and the values of public code."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from passerby.reid.reranking import reranked
from passerby.reid.retrieval import Labels, rank
from passerby.types import ModelError

ORACLES = Path(__file__).resolve().parents[1].parent / "shared" / "oracles"
needs_oracles = pytest.mark.skipif(
    not ORACLES.is_dir(), reason="the values of public code (../shared/oracles) are not here"
)


def whole(query: np.ndarray, gallery: np.ndarray, **settings: float) -> np.ndarray:
    """All similarities (queries, pictures), as one matrix."""
    found = np.empty((len(query), len(gallery)), np.float32)
    for start, scores in reranked(query, gallery, **settings):
        found[start : start + len(scores)] = scores
    return found


def slow(query: np.ndarray, gallery: np.ndarray, *, k1: int, k2: int, own_weight: float) -> np.ndarray:
    """The paper's steps over whole matrices, in its words: 1 - final distance (queries, pictures)."""
    rows = np.concatenate([query, gallery]).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    distance = (1 - rows @ rows.T) ** 2
    np.fill_diagonal(distance, -1)  # nearest to everybody is itself
    order = [sorted(range(len(rows)), key=lambda j, i=i: (distance[i, j], j)) for i in range(len(rows))]
    np.fill_diagonal(distance, 0)
    distance /= distance.max(axis=1, keepdims=True)

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    encoding = np.zeros_like(distance)
    for i in range(len(rows)):
        near = reciprocal(i, k1)
        grown = set(near)
        for j in near:
            theirs = reciprocal(j, round(k1 / 2))
            if len(theirs & near) > 2 / 3 * len(theirs):
                grown |= theirs
        for j in grown:
            encoding[i, j] = np.exp(-distance[i, j])
        encoding[i] /= encoding[i].sum()
    encoding = np.stack([encoding[order[i][:k2]].mean(axis=0) for i in range(len(rows))])
    shared = np.array([[np.minimum(a, b).sum() for b in encoding[len(query) :]] for a in encoding[: len(query)]])
    jaccard = 1 - shared / (2 - shared)
    return 1 - (own_weight * distance[: len(query), len(query) :] + (1 - own_weight) * jaccard)


def crowd(seed: int, people: int, queries: int, pictures: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((people, 16))
    return tuple(  # type: ignore[return-value]
        (centres[rng.integers(0, people, n)] + 0.6 * rng.standard_normal((n, 16))).astype(np.float32)
        for n in (queries, pictures)
    )


@pytest.mark.parametrize(
    ("k1", "k2", "own_weight"), [(20, 6, 0.3), (7, 3, 0.3), (5, 1, 0.0), (1, 2, 0.5), (4, 5, 1.0), (500, 3, 0.3)]
)
def test_similarities_equal_a_slow_loop_over_whole_matrices(k1: int, k2: int, own_weight: float) -> None:
    query, gallery = crowd(k1, people=12, queries=25, pictures=70)
    expected = slow(query, gallery, k1=k1, k2=k2, own_weight=own_weight)
    np.testing.assert_allclose(whole(query, gallery, k1=k1, k2=k2, own_weight=own_weight), expected, atol=2e-6)


@needs_oracles
@pytest.mark.parametrize("case", range(5))
def test_cmc_map_and_distances_equal_those_of_torchreid(case: int) -> None:
    arrays = np.load(ORACLES / "retrieval.npz")
    expected = json.loads((ORACLES / "retrieval.json").read_text())["cases"][case]
    expected = expected["torchreid_reranked_k1_20_k2_6_lambda_0_3"]
    get = lambda name: arrays[f"{case}_{name}"]  # noqa: E731
    query, gallery = get("query_embeddings"), get("gallery_embeddings")
    found = rank(
        query,
        gallery,
        query_labels=Labels(tuple(get("query_person").tolist()), tuple(get("query_camera").tolist())),
        gallery_labels=Labels(tuple(get("gallery_person").tolist()), tuple(get("gallery_camera").tolist())),
        scores=reranked,
    )
    assert found.mean_ap == pytest.approx(expected["mAP"], abs=1e-6)
    assert (found.cmc(1), found.cmc(5)) == pytest.approx((expected["cmc1"], expected["cmc5"]), abs=1e-6)
    distances = get("reranked_distance_first10")
    np.testing.assert_allclose(1 - whole(query, gallery)[: len(distances)], distances, atol=1e-5)


@pytest.mark.parametrize("chunk_scores", [1, 1000])
def test_chunks_of_any_size_give_the_same(chunk_scores: int) -> None:
    query, gallery = crowd(0, people=30, queries=40, pictures=1200)  # more than one chunk of neighbours, too
    np.testing.assert_allclose(whole(query, gallery, chunk_scores=chunk_scores), whole(query, gallery), atol=1e-6)


def test_a_friend_of_friends_overtakes_a_stranger_who_looks_alike() -> None:
    """The point of it: the query's person also from behind, near to pictures of the person and far from the query."""
    degrees = np.radians([0, 20, 22, 40, 42, -39, -60, -62, -64])
    rows = np.stack([np.cos(degrees), np.sin(degrees)], axis=1).astype(np.float32)
    query, gallery = rows[:1], rows[1:]
    behind, stranger = 2, 4  # at 40 and at -39 degrees, whose own friends are far from the query
    plain = query @ gallery.T
    assert plain[0, stranger] > plain[0, behind]
    found = whole(query, gallery, k1=4, k2=2)
    assert found[0, behind] > found[0, stranger]


def test_pictures_that_are_all_the_same_are_all_as_similar() -> None:
    query, gallery = np.ones((2, 7), np.float32), np.ones((40, 7), np.float32)
    assert whole(query, gallery, k1=3, k2=2, own_weight=1.0) == pytest.approx(np.ones((2, 40)), abs=1e-3)
    assert np.isfinite(whole(query, gallery)).all()


def test_no_matrix_of_all_against_all_is_held() -> None:
    query, gallery = crowd(1, people=400, queries=500, pictures=5500)
    tracemalloc.start()
    for _ in reranked(query, gallery, chunk_scores=2**18):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6000 * 6000 * 4 / 2  # half of one such matrix; measured a thirteenth


@pytest.mark.parametrize("settings", [{"k1": 0}, {"k2": 0}, {"k1": 3, "k2": 5}, {"own_weight": 1.5}])
def test_settings_that_mean_nothing_are_refused(settings: dict[str, float]) -> None:
    query, gallery = crowd(0, people=2, queries=2, pictures=5)
    with pytest.raises(ModelError, match="expected k1"):
        next(reranked(query, gallery, **settings))


def test_embeddings_of_two_lengths_are_refused() -> None:
    with pytest.raises(ModelError, match=r"gallery embeddings: expected \(n, 4\), got \(3, 5\)"):
        next(reranked(np.ones((2, 4), np.float32), np.ones((3, 5), np.float32)))
