import json
from collections import Counter
from datetime import timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest

from passerby.reid.calibration import Calibration
from passerby.simulate.appearance import DrawnVectors
from passerby.simulate.recording import record, revisions, witness
from passerby.vision.parquet import read_sightings


def run(shop, folder, *, seed=1, refresh=False, seconds=900.0):
    source = DrawnVectors(shop.looks, seed=seed, cameras=len(shop.cameras))
    return record(shop, source, folder, seed=seed, duration_s=seconds, refresh=refresh)


@pytest.fixture(scope="module")
def recorded(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    return folder, run(shop, folder)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_same_seed_gives_the_same_bytes(shop, recorded, tmp_path):
    folder, _ = recorded
    run(shop, tmp_path)
    names = sorted(p.relative_to(folder) for p in folder.rglob("*.*"))
    assert len(names) == 3 + 2 * 4
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_another_seed_gives_other_sightings(shop, recorded, tmp_path):
    folder, _ = recorded
    run(shop, tmp_path, seed=2)
    assert (tmp_path / "sightings.parquet").read_bytes() != (folder / "sightings.parquet").read_bytes()


def test_the_sightings_say_nothing_of_who_it_was(recorded):
    folder, _ = recorded
    assert not {"person", "visit", "party"} & set(pq.read_schema(folder / "sightings.parquet").names)


def test_sightings_are_closed_once_each_and_in_order_of_their_end(recorded):
    folder, summary = recorded
    sightings = list(read_sightings(folder / "sightings.parquet"))
    assert len(sightings) == summary.sightings > 50
    assert all(s.state == "closed" and s.revision == 1 for s in sightings)
    assert len({s.key for s in sightings}) == len(sightings)
    ends = [s.end for s in sightings]
    assert ends == sorted(ends)
    for camera, count in Counter(s.key.camera for s in sightings).items():
        assert sorted(s.key.track for s in sightings if s.key.camera == camera) == list(range(1, count + 1))


def test_truth_and_sightings_are_the_same_stays(shop, recorded):
    folder, summary = recorded
    truth = lines(folder / "truth" / "appearances.jsonl")
    of_track = {(row["camera"], row["track"]): row for row in truth if row["track"] is not None}
    sightings = list(read_sightings(folder / "sightings.parquet"))
    assert set(of_track) == {(s.key.camera, s.key.track) for s in sightings}
    assert sum(row["track"] is None for row in truth) == summary.missed
    for sighting in sightings:
        assert of_track[sighting.key.camera, sighting.key.track]["start"] == sighting.start.isoformat()
        for stay in sighting.stays:
            assert sighting.start <= stay.start <= stay.end <= sighting.end


def test_a_skewed_clock_shows_in_sightings_and_not_in_the_truth(shop, tmp_path):
    from dataclasses import replace

    skewed = replace(shop, cameras=(replace(shop.cameras[0], skew_s=5.0), *shop.cameras[1:]))
    seen = [
        w for w in witness(skewed, DrawnVectors(shop.looks, seed=1, cameras=3), seed=1, duration_s=300.0) if w.sighting
    ]
    for each in seen:
        late = each.sighting.start - (shop.opens + timedelta(seconds=each.appearance.start_s))
        assert late == timedelta(seconds=5 if each.appearance.camera == 0 else 0)


def test_jsonl_and_parquet_hold_the_same_rows(recorded):
    folder, _ = recorded
    for name in ("visits", "stays", "entries", "appearances"):
        rows = lines(folder / "truth" / f"{name}.jsonl")
        table = pq.read_table(folder / "truth" / f"{name}.parquet").to_pylist()
        assert len(rows) == len(table) > 0
        assert list(rows[0]) == list(table[0])
    visits = lines(folder / "truth" / "visits.jsonl")
    for visit in visits:
        if visit["queued"]:
            assert visit["entered"] < visit["queued"] <= visit["served"] < visit["paid"] <= visit["left"]


def test_the_map_beside_the_output_loads(recorded):
    folder, _ = recorded
    Calibration.from_dict(json.loads((folder / "calibration.json").read_text()))


def test_refreshed_revisions_grow_and_end_in_the_closed_one(shop, recorded, tmp_path):
    run(shop, tmp_path, refresh=True)
    rows = list(read_sightings(tmp_path / "sightings.parquet"))
    times = [row.end for row in rows]
    assert times == sorted(times)
    by_key = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row)
    closed = {s.key: s for s in read_sightings(recorded[0] / "sightings.parquet")}
    assert set(by_key) == set(closed)
    for key, mine in by_key.items():
        assert [row.revision for row in mine] == list(range(1, len(mine) + 1))
        assert [row.state for row in mine] == ["open"] * (len(mine) - 1) + ["closed"]
        assert [len(row.prototypes) for row in mine] == sorted(len(row.prototypes) for row in mine)
        np.testing.assert_array_equal(mine[-1].prototypes, closed[key].prototypes)
        assert mine[-1].stays == closed[key].stays


def test_a_stay_that_lasts_has_no_end_yet(recorded):
    folder, _ = recorded
    long = max(read_sightings(folder / "sightings.parquet"), key=lambda s: (len(s.stays) > 0, s.end - s.start))
    first, *_, last = revisions(long)
    assert first.end == long.start
    open_ends = [stay.end for revision in revisions(long)[:-1] for stay in revision.stays if stay.end is None]
    assert open_ends
    assert all(stay.end is not None for stay in last.stays)


def test_progress_reaches_the_end(shop, tmp_path):
    seen = []
    source = DrawnVectors(shop.looks, seed=1, cameras=3)
    record(shop, source, tmp_path, seed=1, duration_s=60.0, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (60, 60)
