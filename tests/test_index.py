"""Galleries above the limit: what the index finds, forgets and leaves to the others. The limit is lowered."""

import logging
import math
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from passerby.reid import gallery as galleries
from passerby.reid.calibration import Calibration, Curve, search_posterior
from passerby.reid.gallery import Gallery
from passerby.reid.index import PeopleIndex

faiss = pytest.importorskip("faiss", reason='needs pip install "passerby[index]"')
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
LENGTH = 32


@pytest.fixture(autouse=True)
def _low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(galleries, "EXACT_UP_TO", 100)


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def crowd(people: int, seed: int = 0) -> np.ndarray:
    """A unit vector each, around forty looks."""
    rng = np.random.default_rng(seed)
    looks = rng.standard_normal((40, LENGTH))
    return unit(looks[rng.integers(0, 40, people)] + 0.5 * rng.standard_normal((people, LENGTH)))


def filled(people: int) -> tuple[Gallery, np.ndarray]:
    gallery, vectors = Gallery(length=LENGTH, model="m", clock=lambda: NOON), crowd(people)
    for number, vector in enumerate(vectors):
        gallery.add(f"p{number}", vector, seen_at=NOON + timedelta(seconds=number))
    return gallery, vectors


def nearest(gallery: Gallery, query: np.ndarray, count: int = 5) -> list[str]:
    found = gallery.candidates(query[None], count)
    return [found.names[row] for row in found.rows[0] if row >= 0]


def test_up_to_the_limit_everybody_is_a_candidate() -> None:
    gallery, vectors = filled(100)
    found = gallery.candidates(vectors[:2], 5)
    assert found.names == tuple(f"p{i}" for i in range(100))
    np.testing.assert_allclose(found.similarities, vectors[:2] @ vectors.T, atol=1e-6)
    assert found.others.shape == (2, 0)


def test_above_it_the_nearest_are_found_with_their_exact_cosine() -> None:
    gallery, vectors = filled(3000)
    queries = unit(vectors[::10] + 0.08 * np.random.default_rng(1).standard_normal((300, LENGTH)))
    found = gallery.candidates(queries, 20)
    assert found.people == 3000
    assert found.rows.shape == found.similarities.shape == (300, 20)
    exact = queries @ vectors.T
    first = [found.names[row] for row in found.rows[:, 0]]
    assert np.mean([name == f"p{best}" for name, best in zip(first, exact.argmax(axis=1), strict=True)]) > 0.95
    for query in range(300):
        numbers = [int(found.names[row][1:]) for row in found.rows[query]]
        assert len(set(numbers)) == 20
        assert found.similarities[query] == pytest.approx(exact[query, numbers], abs=1e-5)
        assert np.all(np.diff(found.similarities[query]) <= 0)


def test_who_is_added_is_found_and_who_changes_is_found_where_he_is_now() -> None:
    gallery, vectors = filled(300)
    nearest(gallery, vectors[0])  # builds the index
    new = unit(np.random.default_rng(5).standard_normal(LENGTH))
    gallery.add("new", new)
    assert nearest(gallery, new)[0] == "new"
    far = unit(2 * unit(np.random.default_rng(6).standard_normal(LENGTH)) + vectors[7])
    gallery.add("p7", far)
    mean = (vectors[7] + far) / 2
    found = gallery.candidates(unit(mean)[None], 1)
    assert found.names == ("p7",)
    assert found.similarities[0, 0] == pytest.approx(np.linalg.norm(mean), abs=1e-5)
    assert found.people == 301


def stored(gallery: Gallery) -> bytes:
    assert gallery._index is not None
    return faiss.serialize_index(gallery._index._file).tobytes()


def test_a_removed_persons_vector_is_nowhere_in_the_index() -> None:
    gallery, vectors = filled(300)
    nearest(gallery, vectors[0])
    assert vectors[7].tobytes() in stored(gallery)
    gallery.remove("p7")
    assert vectors[7].tobytes() not in stored(gallery)
    assert "p7" not in nearest(gallery, vectors[7], 299)
    assert gallery._index is not None
    assert not any(np.array_equal(vector, vectors[7]) for vector in gallery._index._sample.values())


def test_what_expires_leaves_the_index_too() -> None:
    gallery, vectors = filled(300)
    gallery.add("p3", unit(vectors[3] + vectors[4]), seen_at=NOON + timedelta(days=1))
    nearest(gallery, vectors[0])
    assert gallery.expire(NOON + timedelta(seconds=150)) == 149  # p3 stays, with its later picture alone
    assert gallery._index is not None
    assert len(gallery._index) == 151
    assert nearest(gallery, unit(vectors[3] + vectors[4]))[0] == "p3"
    assert not any(vector.tobytes() in stored(gallery) for vector in vectors[:150])


def test_a_gallery_that_shrinks_is_searched_exactly_again_and_one_that_grows_is_clustered_anew() -> None:
    gallery, vectors = filled(300)
    nearest(gallery, vectors[0])
    first = gallery._index
    for number, vector in enumerate(crowd(400, seed=9)):
        gallery.add(f"q{number}", vector)
    nearest(gallery, vectors[0])
    assert gallery._index is not first
    assert gallery._index is not None
    assert gallery._index.built_with == 700
    for number in range(300):
        gallery.remove(f"p{number}")
    for number in range(320):
        gallery.remove(f"q{number}")
    assert len(gallery.candidates(vectors[:1], 5).names) == 80
    assert gallery._index is None


def test_a_loaded_gallery_replaces_the_index(tmp_path) -> None:
    gallery, vectors = filled(200)
    nearest(gallery, vectors[0])
    other = Gallery(length=LENGTH, model="m")
    for number, vector in enumerate(crowd(150, seed=3)):
        other.add(f"o{number}", vector)
    other.save(tmp_path / "g.npz")
    gallery.load(tmp_path / "g.npz")
    assert all(name.startswith("o") for name in nearest(gallery, vectors[0]))


def test_more_candidates_than_the_clusters_hold_are_left_open() -> None:
    vectors = crowd(300)
    names, rows, cosines, others = PeopleIndex([str(i) for i in range(300)], vectors).search(vectors[:2], 300)
    assert (rows == -1).any()
    assert (cosines[rows == -1] == -1).all()
    assert rows.max() == len(names) - 1
    for query in range(2):  # everybody is drawn here, and who is found does not stand for the others
        assert np.isnan(others[query]).sum() == (rows[query] >= 0).sum()


def test_without_faiss_the_search_stays_exact_and_says_once_that_it_is_slow(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gallery, vectors = filled(150)
    monkeypatch.setitem(sys.modules, "faiss", None)  # as where it is not installed
    with caplog.at_level(logging.WARNING, "passerby"):
        for _ in range(2):
            found = gallery.candidates(vectors[:3], 5)
    assert found.similarities.shape == (3, 150)
    np.testing.assert_allclose(found.similarities, vectors[:3] @ vectors.T, atol=1e-6)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert 'pip install "passerby[index]"' in caplog.text


def test_probabilities_are_those_of_an_exact_search_but_for_what_the_others_are_estimated_to_take() -> None:
    gallery, vectors = filled(4000)
    calibration = Calibration((((1, 1), Curve((0.0,), (16.0,), -9.0, 9.0, 6.0)),), "0" * 64, "fp32", "example")
    queries = unit(vectors[::40] + 0.1 * np.random.default_rng(1).standard_normal((100, LENGTH)))
    exact, nobody = search_posterior(calibration.llr(queries @ vectors.T))
    found = gallery.candidates(queries, 64)
    drawn = ~np.isnan(found.others)
    ratios = np.where(drawn, np.exp(calibration.llr(np.where(drawn, found.others, 0))), 0).sum(axis=1) / drawn.sum(
        axis=1
    )
    likely, unknown = search_posterior(calibration.llr(found.similarities), others=4000 - 64, mean_ratio=ratios)
    without, _ = search_posterior(calibration.llr(found.similarities), others=4000 - 64)
    error = np.abs(likely[:, 0] - exact.max(axis=1))
    assert error.mean() < 0.02
    assert error.mean() < np.abs(without[:, 0] - exact.max(axis=1)).mean() / 2  # to leave the others out overstates
    assert np.abs(unknown - nobody).mean() < 0.02
    assert (likely.sum(axis=1) + unknown < 1 + 1e-9).all()


def test_the_others_count_as_people_even_if_they_are_unlike() -> None:
    (likely,), nobody = search_posterior(np.array([math.log(9.0)]), others=8, mean_ratio=np.array(0.0))
    assert (likely, nobody) == pytest.approx((0.5, 0.5))
    (likely,), nobody = search_posterior(np.array([math.log(9.0)]), others=8, mean_ratio=np.array(9.0 / 8))
    assert (likely, nobody) == pytest.approx((1 / 3, 1 / 3))
