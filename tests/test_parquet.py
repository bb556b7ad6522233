from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from passerby.shop import Crossing, Sighting, SightingKey, Stay
from passerby.types import SightingError
from passerby.vision.parquet import SightingWriter, read_sightings

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEY = SightingKey("shop", "door", "a", 1)


def sighting(**changes):
    vectors = np.eye(2, 3, dtype=np.float32)
    made = Sighting(
        KEY,
        1,
        "open",
        NOON,
        NOON + timedelta(seconds=9),
        vectors,
        np.array([1.0, 0.5], np.float32),
        np.array([10, 3]),
        "abc:fp32",
        (Stay("shelf", NOON, NOON + timedelta(seconds=3)), Stay("till", NOON + timedelta(seconds=5), None)),
        (Crossing("door", NOON, True),),
        np.array([[0, 0.1, 0.2], [1.5, 0.3, 0.4]], np.float32),
    )
    return replace(made, **changes)


def write(path, *sightings, length=3):
    with SightingWriter(path, length=length) as writer:
        for each in sightings:
            writer.write(each)


ARRAYS = ("prototypes", "quality", "pictures", "path")


def test_sightings_come_back_as_they_were(tmp_path):
    empty = {name: getattr(sighting(), name)[:0] for name in ARRAYS}
    nothing = sighting(key=KEY._replace(track=2), state="withdrawn", network="", stays=(), path_on="floor", **empty)
    longer = sighting(key=KEY._replace(track=3), path=np.array([[5, 0, 1]], np.float32))
    write(tmp_path / "s.parquet", sighting(), nothing, longer)
    read = list(read_sightings(tmp_path / "s.parquet"))
    for was, came in zip((sighting(), nothing, longer), read, strict=True):
        for name in Sighting.__slots__:
            if name in ARRAYS:
                np.testing.assert_array_equal(getattr(came, name), getattr(was, name))
                assert getattr(came, name).dtype == getattr(was, name).dtype
                assert not getattr(came, name).flags.writeable
            else:
                assert getattr(came, name) == getattr(was, name), name


def test_vectors_come_back_with_length_1(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    four = sighting(prototypes=vectors, quality=np.ones(4, np.float32), pictures=np.ones(4, np.int64))
    write(tmp_path / "s.parquet", four, length=5)
    (read,) = read_sightings(tmp_path / "s.parquet")
    np.testing.assert_allclose(read.prototypes, vectors, atol=5e-4)
    np.testing.assert_allclose(np.linalg.norm(read.prototypes, axis=1), 1, atol=1e-6)


def test_vectors_of_another_length_are_refused(tmp_path):
    with pytest.raises(SightingError, match="length 4"):
        write(tmp_path / "s.parquet", sighting(), length=4)


def test_nothing_is_left_that_looks_whole_where_writing_failed(tmp_path):
    path, wrong = tmp_path / "s.parquet", sighting(prototypes=np.eye(2, dtype=np.float32))
    with pytest.raises(SightingError, match="length 3"):
        write(path, sighting(), wrong)
    assert list(tmp_path.iterdir()) == []
    write(path, sighting())
    before = path.read_bytes()
    with pytest.raises(SightingError, match="length 3"):
        write(path, wrong)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_last_part_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "s.parquet", sighting())
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_an_older_version_is_refused(tmp_path):
    columns = pa.schema([("site", pa.string()), ("closed", pa.bool_())], metadata={b"format": b"passerby sightings 1"})
    pq.write_table(pa.table({"site": ["shop"], "closed": [True]}, columns), tmp_path / "old.parquet")
    with pytest.raises(SightingError, match="version 2, got version 1; write the file again"):
        list(read_sightings(tmp_path / "old.parquet"))


def test_another_file_is_refused(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(SightingError, match="other columns"):
        list(read_sightings(tmp_path / "other.parquet"))
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(SightingError, match="cannot be read"):
        list(read_sightings(tmp_path / "text.parquet"))
