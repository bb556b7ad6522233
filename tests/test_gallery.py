import contextlib
import json
import os
import pickle
import threading
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from passerby.reid import gallery as galleries
from passerby.reid.evidence import side
from passerby.reid.gallery import Gallery
from passerby.types import GalleryError

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
RIGHT, UP = np.array([1.0, 0, 0], np.float32), np.array([0, 1.0, 0], np.float32)


@pytest.fixture
def gallery():
    filled = Gallery(length=3, model="m1", clock=lambda: NOON)
    filled.add("anna", RIGHT, camera="door")
    filled.add("ben", UP, camera="aisle", seen_at=NOON - timedelta(hours=2))
    return filled


def test_similarity_is_the_cosine_with_each_person(gallery):
    names, similarity = gallery.similarities(np.stack([RIGHT, (RIGHT + UP) / np.sqrt(2)]))
    assert names == ("anna", "ben")
    assert similarity == pytest.approx(np.array([[1, 0], [0.7071, 0.7071]]), abs=1e-4)


def test_several_pictures_of_one_person_become_one_mean(gallery):
    gallery.add("anna", UP)
    _, similarity = gallery.similarities(RIGHT[None])
    assert similarity[0, 0] == pytest.approx(0.5, abs=1e-4)  # the mean of 1 and 0


def test_a_poor_picture_weighs_less_and_counts_less(gallery):
    gallery.add("anna", [UP, UP], quality=[0.5, 0.25])
    _, similarity = gallery.similarities(RIGHT[None])
    assert similarity[0, 0] == pytest.approx(1 / 1.75, abs=1e-4)
    assert gallery.known_by("anna") == (1.75, 1.0)
    gallery.add("anna", RIGHT, quality=0.25)
    assert gallery.known_by("anna") == (2, 1.0)
    gallery.add("carla", UP, quality=0.0)
    assert gallery.known_by("carla") == (1, 0.0)
    found = gallery.candidates(RIGHT[None], 5)
    assert dict(zip(found.names, found.pictures.tolist(), strict=True)) == {"anna": 2, "ben": 1, "carla": 1}
    assert dict(zip(found.names, found.quality.tolist(), strict=True)) == {"anna": 1, "ben": 1, "carla": 0}


def test_a_vector_counts_for_the_pictures_behind_it(gallery):
    gallery.add("anna", UP, pictures=3, quality=0.5)
    assert gallery.known_by("anna") == (2.5, 1.0)
    assert gallery.similarities(RIGHT[None])[1][0, 0] == pytest.approx(1 / 2.5, abs=1e-6)
    assert gallery.entries("anna")[1].pictures.tolist() == [3]


@pytest.mark.parametrize("pictures", [0, -1, 1.5, [1, 1], "many", True])
def test_a_number_of_pictures_that_is_none_is_refused(gallery, pictures):
    with pytest.raises(GalleryError, match="pictures"):
        gallery.add("anna", RIGHT, pictures=pictures)
    assert len(gallery.entries("anna")) == 1


@pytest.mark.parametrize("quality", [1.1, -0.1, float("nan"), [1.0, 1.0], "good"])
def test_a_quality_that_means_nothing_is_refused(gallery, quality):
    with pytest.raises(GalleryError, match="quality"):
        gallery.add("anna", RIGHT, quality=quality)
    assert len(gallery.entries("anna")) == 1


def test_a_gallery_saved_before_quality_or_pictures_were_kept_still_loads(gallery, tmp_path):
    gallery.remove("ben")
    gallery.add("ben", UP, quality=0.25, pictures=4)
    gallery.add("ben", UP, quality=0.25)
    gallery.save(tmp_path / "g.npz")
    with np.load(tmp_path / "g.npz") as stored:
        header, vectors = json.loads(stored["header"].tobytes()), stored["vectors"]
    header["passerby_gallery"] = 2
    for entry in header["entries"]:
        del entry["pictures"]
    write(tmp_path / "older.npz", header, vectors)
    gallery.load(tmp_path / "older.npz")
    assert gallery.known_by("ben") == (1, 0.25)
    header["passerby_gallery"] = 1
    for entry in header["entries"]:
        del entry["quality"]
    np.savez(tmp_path / "old.npz", header=np.frombuffer(json.dumps(header).encode(), np.uint8), vectors=vectors)
    gallery.load(tmp_path / "old.npz")
    assert gallery.known_by("anna") == (1, 1.0)


def test_what_was_seen_long_ago_expires_and_the_rest_stays(gallery):
    gallery.add("ben", UP, seen_at=NOON)
    assert gallery.expire(NOON - timedelta(hours=1)) == 0
    assert len(gallery.entries("ben")) == 1
    assert gallery.expire(NOON + timedelta(seconds=1)) == 2
    assert len(gallery) == 0


def test_a_time_left_out_is_now_so_that_everything_expires(gallery):
    assert gallery.entries("anna")[0].seen_at == NOON


def test_times_of_another_zone_are_kept_in_utc(gallery):
    gallery.add("cleo", UP, seen_at=datetime(2026, 5, 4, 14, tzinfo=timezone(timedelta(hours=2))))
    assert gallery.entries("cleo")[0].seen_at == NOON


def test_a_removed_person_is_gone(gallery):
    gallery.remove("anna")
    assert "anna" not in gallery
    assert list(gallery) == ["ben"]
    with pytest.raises(GalleryError, match="nobody is called 'anna'"):
        gallery.remove("anna")


@pytest.mark.parametrize(
    ("person", "vectors", "seen_at", "message"),
    [
        ("", RIGHT, None, "name"),
        (7, RIGHT, None, "name"),
        ("x", np.ones(2), None, r"expected vectors of \(n, 3\), got \(2,\)"),
        ("x", np.empty((0, 3)), None, "expected vectors"),
        ("x", RIGHT * 2, None, "unit length"),
        ("x", np.array([np.nan, 0, 0]), None, "finite"),
        ("x", "abc", None, "expected vectors"),
        ("x", RIGHT, datetime(2026, 5, 4, 12), "timezone-aware"),
        ("x", RIGHT, "noon", "timezone-aware"),
    ],
)
def test_what_cannot_be_added_changes_nothing(gallery, person, vectors, seen_at, message):
    with pytest.raises(GalleryError, match=message):
        gallery.add(person, vectors, seen_at=seen_at)
    assert list(gallery) == ["anna", "ben"]
    assert gallery.similarities(RIGHT[None])[1].tolist() == [[1, 0]]  # and it can still be searched


def test_a_camera_that_could_not_be_saved_is_refused_at_once(gallery):
    with pytest.raises(GalleryError, match="camera's name as text, got 3"):
        gallery.add("x", RIGHT, camera=3)
    assert list(gallery) == ["anna", "ben"]


@pytest.mark.parametrize("before", [3, datetime(2026, 5, 4, 12)])
def test_forgetting_before_what_is_no_time_is_refused(gallery, before):
    with pytest.raises(GalleryError, match="timezone-aware"):
        gallery.expire(before)
    assert list(gallery) == ["anna", "ben"]


def test_a_caller_may_reuse_its_array(gallery):
    array = RIGHT.copy()
    gallery.add("cleo", array)
    array[:] = UP
    assert gallery.similarities(RIGHT[None])[1][0, 2] == pytest.approx(1)


def test_saved_and_loaded_is_the_same(gallery, tmp_path):
    gallery.save(tmp_path / "g.npz")
    other = Gallery(length=3, model="m1")
    other.load(tmp_path / "g.npz")
    assert list(other) == ["anna", "ben"]
    assert other.entries("ben")[0].camera == "aisle"
    assert other.entries("ben")[0].seen_at == NOON - timedelta(hours=2)
    assert np.array_equal(other.entries("anna")[0].vectors, RIGHT[None])


def test_an_empty_gallery_can_be_saved_and_searched(tmp_path):
    empty = Gallery(length=3, model="m1")
    empty.save(tmp_path / "g.npz")
    empty.load(tmp_path / "g.npz")
    assert empty.similarities(RIGHT[None])[1].shape == (1, 0)


def test_a_gallery_of_another_model_is_refused(gallery, tmp_path):
    gallery.save(tmp_path / "g.npz")
    other = Gallery(length=3, model="m2")
    other.add("kept", RIGHT)
    with pytest.raises(GalleryError, match="another model"):
        other.load(tmp_path / "g.npz")
    assert list(other) == ["kept"]


def test_the_refusal_names_both_precisions_and_a_way_out(tmp_path):
    saved = Gallery(length=3, model="ab" * 32 + ":int8")
    saved.save(tmp_path / "g.npz")
    with pytest.raises(
        GalleryError, match=r"int8 of network abababababab…, here bf16 of network cdcd.* precision='int8'"
    ):
        Gallery(length=3, model="cd" * 32 + ":bf16").load(tmp_path / "g.npz")
    with pytest.raises(
        GalleryError, match=r"int8 of network abab.*, here int8 of network cdcd.*compared: embed the pict"
    ):
        Gallery(length=3, model="cd" * 32 + ":int8").load(tmp_path / "g.npz")


def write(path, header, vectors):
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), vectors=vectors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(passerby_gallery=9), "version 3, got 9"),
        (lambda h: h["entries"].pop(), "announced"),
        (lambda h: h["entries"][0].update(seen_at="2026-05-04T12:00:00"), "time zone"),
        (lambda h: h["entries"][0].update(seen_at="soon"), "damaged"),
        (lambda h: h["entries"][0].pop("camera"), "damaged"),
        (lambda h: h["entries"][0].update(camera=3), "no text"),
        (lambda h: h.pop("model"), "damaged"),
    ],
)
def test_a_damaged_file_is_refused(gallery, tmp_path, change, message):
    gallery.save(tmp_path / "g.npz")
    with np.load(tmp_path / "g.npz") as stored:
        header, vectors = json.loads(stored["header"].tobytes()), stored["vectors"]
    change(header)
    write(tmp_path / "bad.npz", header, vectors)
    with pytest.raises(GalleryError, match=message):
        gallery.load(tmp_path / "bad.npz")
    assert list(gallery) == ["anna", "ben"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"not a zip at all"])
def test_a_file_that_is_no_gallery_is_refused(gallery, tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(GalleryError, match="not a passerby gallery"):
        gallery.load(tmp_path / "bad.npz")


def test_no_flipped_byte_gets_past_the_reader(gallery, tmp_path):
    gallery.save(tmp_path / "g.npz")
    whole = (tmp_path / "g.npz").read_bytes()
    for place in range(len(whole)):
        (tmp_path / "bad.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 0x29]) + whole[place + 1 :])
        with contextlib.suppress(GalleryError):  # a byte that means nothing may pass
            gallery.load(tmp_path / "bad.npz")
        assert list(gallery) == ["anna", "ben"]


def test_a_pickle_is_never_loaded(gallery, tmp_path):
    np.savez(tmp_path / "evil.npz", header=np.array([{"a": 1}], object), vectors=np.ones((1, 3)))
    with pytest.raises(GalleryError, match="not a passerby gallery"):
        gallery.load(tmp_path / "evil.npz")


def random_unit(rng, count, length=3):
    rows = rng.standard_normal((count, length))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def all_of(entries):
    """What evidence makes of all that is kept of a person at once."""
    parts = [[getattr(entry, name) for entry in entries] for name in ("vectors", "quality", "pictures")]
    return side(*(np.concatenate(part) for part in parts))


def test_whatever_is_added_removed_and_forgotten_the_rows_are_the_means_of_what_is_kept():
    rng = np.random.default_rng(0)
    gallery = Gallery(length=3, model="m")
    for step in range(2000):
        name = f"p{rng.integers(40)}"
        if rng.random() < 0.1 and name in gallery:
            gallery.remove(name)
        elif rng.random() < 0.02:
            gallery.expire(NOON + timedelta(seconds=step - 200))
        else:
            count = int(rng.integers(1, 4))
            gallery.add(
                name,
                random_unit(rng, count),
                seen_at=NOON + timedelta(seconds=step - float(rng.integers(100))),
                quality=rng.random(count),
                pictures=rng.integers(1, 5, count),
            )
        if step % 50 == 0:
            names, similarity = gallery.similarities(np.eye(3, dtype=np.float32))
            assert sorted(names) == sorted(gallery)
            found = gallery.candidates(RIGHT[None], 5)
            for row, person in enumerate(names):
                known = all_of(gallery.entries(person))
                assert similarity[:, row] == pytest.approx(known.means[0], abs=1e-5)
                assert gallery.known_by(person) == pytest.approx((known.pictures[0], known.quality[0]))
                assert (found.pictures[row], found.quality[row]) == gallery.known_by(person)


def test_a_search_after_an_addition_rebuilds_nothing(gallery, monkeypatch):
    for number in range(50):
        gallery.add(f"p{number}", UP)
    gallery.similarities(RIGHT[None])
    matrix = gallery._means.means
    monkeypatch.setattr(galleries, "_means_of", lambda *_: pytest.fail("made anew"))
    gallery.add("new", UP)
    gallery.remove("p7")
    names, similarity = gallery.similarities(UP[None])
    assert gallery._means.means is matrix
    assert dict(zip(names, similarity[0].tolist(), strict=True)) == {"anna": 0.0} | {
        name: 1.0 for name in gallery if name != "anna"
    }


def test_adding_to_one_person_looks_at_the_new_vector_alone(monkeypatch):
    gallery = Gallery(length=3, model="m")
    seen = []
    plus = galleries._Sum.plus
    monkeypatch.setattr(galleries._Sum, "plus", lambda self, entry: seen.append(entry) or plus(self, entry))
    for _ in range(200):
        gallery.add("anna", RIGHT)
    assert len(seen) == 200
    assert gallery.known_by("anna") == (200, 1)


def test_nothing_of_a_removed_person_stays_in_memory(gallery):
    vector = np.array([0.6, 0.0, 0.8], np.float32)
    gallery.add("cleo", vector)
    gallery.add("dora", UP)
    gallery.remove("cleo")
    assert vector.tobytes() not in gallery._means.means.tobytes()
    gallery.remove("dora")
    assert not gallery._means.means[len(gallery) :].any()


def test_whoever_is_left_can_be_searched_even_if_what_is_left_points_both_ways(gallery):
    gallery.add("anna", UP, seen_at=NOON + timedelta(hours=1))
    gallery.add("anna", -UP, seen_at=NOON + timedelta(hours=2))
    assert gallery.expire(NOON + timedelta(minutes=30)) == 1  # ben
    names, similarity = gallery.similarities(np.stack([UP, RIGHT]))
    assert (names, similarity.tolist()) == (("anna",), [[0], [0]])
    assert gallery.candidates(UP[None], 5).similarities.tolist() == [[0]]


def test_a_loaded_gallery_answers_to_the_last_bit_as_the_one_that_was_saved(tmp_path):
    rng = np.random.default_rng(1)
    gallery = Gallery(length=3, model="m")
    for i in range(300):
        gallery.add(f"p{i % 7}", random_unit(rng, 2), quality=rng.random(2), seen_at=NOON + timedelta(seconds=i))
    gallery.expire(NOON + timedelta(seconds=100))
    gallery.save(tmp_path / "g.npz")
    other = Gallery(length=3, model="m")
    other.load(tmp_path / "g.npz")
    queries = random_unit(rng, 20)
    assert gallery.similarities(queries)[0] == other.similarities(queries)[0]
    assert np.array_equal(gallery.similarities(queries)[1], other.similarities(queries)[1])


def test_two_threads_may_save_to_one_file_at_once(gallery, tmp_path):
    for number in range(200):
        gallery.add(f"p{number}", UP)
    failures = []

    def save():
        try:
            for _ in range(20):
                gallery.save(tmp_path / "g.npz")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=save) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    gallery.load(tmp_path / "g.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["g.npz"]


def test_a_forked_child_goes_on_even_if_another_thread_held_the_lock(gallery, monkeypatch):
    held, done = threading.Event(), threading.Event()

    def hold():
        with gallery._lock:
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)  # as the child sees it
    gallery.add("cleo", UP)
    assert gallery.similarities(UP[None])[1].tolist() == [[0, 1, 1]]
    monkeypatch.undo()
    done.set()
    holder.join()


def test_a_gallery_may_be_pickled(gallery):
    gallery.similarities(RIGHT[None])
    filled = Gallery(length=3, model="m1")
    filled.add("anna", RIGHT, seen_at=NOON)
    copy = pickle.loads(pickle.dumps(filled))
    copy.add("ben", UP)
    assert copy.similarities(RIGHT[None])[1].tolist() == [[1, 0]]
    assert list(filled) == ["anna"]


def test_threads_may_add_search_and_expire_together():
    gallery = Gallery(length=3, model="m", clock=lambda: NOON)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(50):
                gallery.add(f"{number}-{i}", RIGHT)
                names, similarity = gallery.similarities(RIGHT[None])
                assert similarity.shape == (1, len(names))
                gallery.expire(NOON - timedelta(days=1))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(gallery) == 200
