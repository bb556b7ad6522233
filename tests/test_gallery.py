import contextlib
import json
import threading
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

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
    assert gallery.known_by("anna") == (1, 1.0)  # 1.75 pictures' worth
    gallery.add("anna", RIGHT, quality=0.25)
    assert gallery.known_by("anna") == (2, 1.0)
    gallery.add("carla", UP, quality=0.0)
    assert gallery.known_by("carla") == (1, 0.0)
    found = gallery.candidates(RIGHT[None], 5)
    assert dict(zip(found.names, found.pictures.tolist(), strict=True)) == {"anna": 2, "ben": 1, "carla": 1}
    assert dict(zip(found.names, found.quality.tolist(), strict=True)) == {"anna": 1, "ben": 1, "carla": 0}


@pytest.mark.parametrize("quality", [1.1, -0.1, float("nan"), [1.0, 1.0], "good"])
def test_a_quality_that_means_nothing_is_refused(gallery, quality):
    with pytest.raises(GalleryError, match="quality"):
        gallery.add("anna", RIGHT, quality=quality)
    assert len(gallery.entries("anna")) == 1


def test_a_gallery_saved_before_quality_was_kept_still_loads(gallery, tmp_path):
    gallery.save(tmp_path / "g.npz")
    with np.load(tmp_path / "g.npz") as stored:
        header, vectors = json.loads(stored["header"].tobytes()), stored["vectors"]
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


def write(path, header, vectors):
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), vectors=vectors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(passerby_gallery=9), "version 2, got 9"),
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
