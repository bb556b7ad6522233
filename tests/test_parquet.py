from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from passerby.shop import Crossing, Line, Link, Sighting, SightingKey, Stay, Visit, Zone
from passerby.types import SightingError
from passerby.vision.parquet import SightingWriter, read_sightings

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEY = SightingKey("shop", "door", "a", 1)


def sighting(**changes):
    vectors = np.eye(2, 3, dtype=np.float32)
    made = Sighting(
        KEY,
        1,
        True,
        NOON,
        NOON + timedelta(seconds=9),
        vectors,
        np.array([1.0, 0.5], np.float32),
        (Stay("shelf", NOON, NOON + timedelta(seconds=3)), Stay("till", NOON + timedelta(seconds=5), None)),
        (Crossing("door", NOON, True),),
    )
    return replace(made, **changes)


def test_a_sighting_comes_back_as_it_was(tmp_path):
    nothing = sighting(
        key=KEY._replace(track=2), prototypes=np.empty((0, 3), np.float32), quality=np.empty(0, np.float32), stays=()
    )
    with SightingWriter(tmp_path / "s.parquet", length=3) as writer:
        for each in (sighting(), nothing, sighting(key=KEY._replace(track=3))):
            writer.write(each)
    first, second, third = read_sightings(tmp_path / "s.parquet")
    for name in ("key", "revision", "closed", "start", "end", "stays", "crossings"):
        assert getattr(first, name) == getattr(sighting(), name)
    np.testing.assert_array_equal(first.prototypes, sighting().prototypes)
    np.testing.assert_array_equal(first.quality, sighting().quality)
    assert second.prototypes.shape == (0, 3)
    assert third.key.track == 3


def test_vectors_of_another_length_are_refused(tmp_path):
    with SightingWriter(tmp_path / "s.parquet", length=4) as writer, pytest.raises(SightingError, match="length 4"):
        writer.write(sighting())


def test_another_file_is_refused(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(SightingError, match="other columns"):
        list(read_sightings(tmp_path / "other.parquet"))
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(SightingError, match="cannot be read"):
        list(read_sightings(tmp_path / "text.parquet"))


@pytest.mark.parametrize(
    "changes",
    [
        {"revision": 0},
        {"key": KEY._replace(track=0)},
        {"end": NOON - timedelta(seconds=1)},
        {"start": NOON.replace(tzinfo=None)},
        {"quality": np.ones(3, np.float32)},
        {"prototypes": np.ones((5, 3), np.float32), "quality": np.ones(5, np.float32)},
    ],
    ids=str,
)
def test_a_sighting_that_contradicts_itself_is_refused(changes):
    with pytest.raises(SightingError):
        sighting(**changes)


def test_zones_lines_links_and_visits_are_checked():
    other = KEY._replace(track=2)
    for make in (
        lambda: Zone("shelf", ((0, 0), (1, 0))),
        lambda: Line("door", (0, 0), (0, 0)),
        lambda: Stay("shelf", NOON, NOON - timedelta(seconds=1)),
        lambda: Crossing("door", NOON.replace(tzinfo=None), True),
        lambda: Link(KEY, KEY, 0.9),
        lambda: Link(KEY, other, 1.1),
        lambda: Visit("v", 1, (), NOON, NOON),
        lambda: Visit("v", 0, (KEY,), NOON, NOON),
    ):
        with pytest.raises(SightingError):
            make()
    assert Link(KEY, other, 0.9).runner_up is None
    assert not Visit("v", 1, (KEY, other), NOON, NOON).final
