import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest

from passerby.reid.calibration import Calibration
from passerby.simulate.appearance import DrawnVectors
from passerby.simulate.cameras import Views
from passerby.simulate.people import position, visits
from passerby.simulate.plan import TrackerPlan
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
    assert len(names) == 3 + 2 * 6
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
    folder, _ = recorded
    tracks = lines(folder / "truth" / "tracks.jsonl")
    of_track = {(row["camera"], row["track"]): row for row in tracks}
    sightings = list(read_sightings(folder / "sightings.parquet"))
    assert len(of_track) == len(tracks)  # these trackers never err
    assert set(of_track) == {(s.key.camera, s.key.track) for s in sightings}
    for sighting in sightings:
        row = of_track[sighting.key.camera, sighting.key.track]
        assert (row["start"], row["end"]) == (sighting.start.isoformat(), sighting.end.isoformat())
        assert row["share"] == 1
        for stay in sighting.stays:
            assert sighting.start <= stay.start <= stay.end <= sighting.end


def test_whom_a_camera_found_is_held_by_a_track(recorded):
    folder, summary = recorded
    tracks, in_view = (lines(folder / "truth" / f"{name}.jsonl") for name in ("tracks", "in_view"))
    held = sorted((r["camera"], r["visit"], r["start"], r["end"]) for r in tracks if r["person"] is not None)
    assert held == sorted((r["camera"], r["visit"], r["start"], r["end"]) for r in in_view if r["found"])
    assert sum(row["found"] is False for row in in_view) == summary.missed > 0
    assert sum(row["person"] is None for row in tracks) == summary.false


def test_sightings_stay_where_their_people_were(shop, recorded):
    """Each stay of a sighting is the part in view of a time inside the zone's polygon, also where none was planned."""
    folder, _ = recorded
    tracks, presence, stays = (lines(folder / "truth" / f"{n}.jsonl") for n in ("tracks", "presence", "stays"))
    visit_of = {(row["camera"], row["track"]): row["visit"] for row in tracks}
    there = {}
    for row in presence:
        there.setdefault((row["visit"], row["zone"]), []).append((row["start"], row["end"]))
    checked = 0
    for sighting in read_sightings(folder / "sightings.parquet"):
        visit = visit_of[sighting.key.camera, sighting.key.track]
        for stay in sighting.stays:
            if visit is not None:
                times = there[visit, stay.zone]
                assert any(start <= stay.start.isoformat() and stay.end.isoformat() <= end for start, end in times)
                checked += 1
    assert checked > 50
    for row in stays:  # whoever was to stay there was there, and came and went on foot
        assert any(start <= row["start"] and row["end"] <= end for start, end in there[row["visit"], row["zone"]])
    assert len(presence) > len(stays)


def test_false_sightings_stay_and_cross_too(shop, tmp_path):
    many = replace(shop, cameras=tuple(replace(camera, false_per_hour=200.0) for camera in shop.cameras))
    seen = witness(many, DrawnVectors(shop.looks, seed=1, cameras=3), seed=1, duration_s=1800.0)
    false = [w.sighting for w in seen if w.sighting and w.track.person is None]
    assert len(false) > 200
    assert 0.2 < np.mean([bool(sighting.stays) for sighting in false]) < 0.95
    assert any(sighting.crossings for sighting in false)
    assert all(len(sighting.path) for sighting in false)


def test_a_sighting_s_path_is_where_the_person_was(shop, recorded):
    folder, _ = recorded
    tracks = {(row["camera"], row["track"]): row for row in lines(folder / "truth" / "tracks.jsonl")}
    came = {v.number: v for v in visits(shop, Views(shop), seed=1, duration_s=900.0)}
    checked = 0
    for sighting in read_sightings(folder / "sightings.parquet"):
        visit = tracks[sighting.key.camera, sighting.key.track]["visit"]
        assert sighting.path_on == "floor"
        assert len(sighting.path) == 1 + int((sighting.end - sighting.start).total_seconds() + 1e-6)
        if visit is not None:
            since = (sighting.start - shop.opens).total_seconds()
            for seconds, x, y in sighting.path:
                np.testing.assert_allclose((x, y), position(came[visit], shop, since + float(seconds)), atol=1e-3)
                checked += 1
    assert checked > 500


def test_a_run_that_fails_leaves_no_file_that_looks_whole(shop, tmp_path):
    class Failing(DrawnVectors):
        def __call__(self, tracks):
            raise RuntimeError("no more vectors")

    with pytest.raises(RuntimeError, match="no more vectors"):
        record(shop, Failing(shop.looks, seed=1, cameras=3), tmp_path, seed=1, duration_s=900.0)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["calibration.json"]


ERRING = TrackerPlan(breaks_per_min=1.0, swaps=0.2, merges=0.2, edge_s=0.5, flicker=0.1, lost=0.1)


@pytest.fixture(scope="module")
def erring(shop, tmp_path_factory):
    """A shop whose trackers err in every way, an hour of it."""
    folder = tmp_path_factory.mktemp("erring")
    cameras = tuple(replace(camera, tracker=ERRING) for camera in shop.cameras)
    return folder, run(replace(shop, cameras=cameras), folder, seconds=3600.0)


def test_the_truth_says_who_holds_a_track_when(erring):
    folder, _ = erring
    held = {}
    for row in lines(folder / "truth" / "tracks.jsonl"):
        held.setdefault((row["camera"], row["track"]), []).append(row)
    sightings = {(s.key.camera, s.key.track): s for s in read_sightings(folder / "sightings.parquet")}
    assert set(held) == set(sightings)
    for key, rows in held.items():
        assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-3)
        assert min(row["start"] for row in rows) == sightings[key].start.isoformat()
        assert max(row["end"] for row in rows) == sightings[key].end.isoformat()
    assert sum(len({row["person"] for row in rows}) > 1 for rows in held.values()) > 10
    in_view = [row for row in lines(folder / "truth" / "in_view.jsonl") if row["found"]]
    times = Counter((row["camera"], row["visit"]) for rows in held.values() for row in rows)
    assert max(times.values()) > Counter((row["camera"], row["visit"]) for row in in_view).most_common(1)[0][1]


def test_what_an_erring_tracker_reports_is_in_order_and_within_its_sightings(erring):
    folder, _ = erring
    sightings = list(read_sightings(folder / "sightings.parquet"))  # stays and crossings within: the records see to it
    ends = [sighting.end for sighting in sightings]
    assert ends == sorted(ends)
    for sighting in sightings:
        for name in ("stays", "crossings"):
            times = [getattr(each, "start", None) or each.at for each in getattr(sighting, name)]
            assert times == sorted(times)


def test_its_refreshed_revisions_are_in_order_too(shop, erring, tmp_path):
    cameras = tuple(replace(camera, tracker=ERRING) for camera in shop.cameras)
    run(replace(shop, cameras=cameras), tmp_path, refresh=True, seconds=3600.0)
    rows = list(read_sightings(tmp_path / "sightings.parquet"))
    times = [row.end for row in rows]
    assert times == sorted(times)
    assert sum(row.state == "closed" for row in rows) == erring[1].sightings


def test_a_skewed_clock_shows_in_sightings_and_not_in_the_truth(shop, tmp_path):
    skewed = replace(shop, cameras=(replace(shop.cameras[0], skew_s=5.0), *shop.cameras[1:]))
    seen = [
        w for w in witness(skewed, DrawnVectors(shop.looks, seed=1, cameras=3), seed=1, duration_s=300.0) if w.sighting
    ]
    for each in seen:
        late = each.sighting.start - (shop.opens + timedelta(seconds=each.track.start_s))
        assert late == timedelta(seconds=5 if each.track.camera == 0 else 0)


def test_jsonl_and_parquet_hold_the_same_rows(recorded):
    folder, _ = recorded
    for name in ("visits", "stays", "presence", "entries", "in_view", "tracks"):
        rows = lines(folder / "truth" / f"{name}.jsonl")
        table = pq.read_table(folder / "truth" / f"{name}.parquet").to_pylist()
        assert len(rows) == len(table) > 0
        assert list(rows[0]) == list(table[0])
    for visit in lines(folder / "truth" / "visits.jsonl"):
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
        assert [len(row.path) for row in mine] == sorted(len(row.path) for row in mine)
        assert all((a.pictures <= b.pictures[: len(a.pictures)]).all() for a, b in pairwise(mine))
        np.testing.assert_array_equal(mine[-1].prototypes, closed[key].prototypes)
        assert mine[-1].stays == closed[key].stays


def test_a_stay_that_lasts_has_no_end_yet(recorded):
    folder, _ = recorded
    long = max(read_sightings(folder / "sightings.parquet"), key=lambda s: (len(s.stays) > 0, s.end - s.start))
    first, *_, last = revisions(long)
    assert first.end == long.start
    open_ends = [stay.end for revision in list(revisions(long))[:-1] for stay in revision.stays if stay.end is None]
    assert open_ends
    assert all(stay.end is not None for stay in last.stays)


def test_progress_reaches_the_end(shop, tmp_path):
    seen = []
    source = DrawnVectors(shop.looks, seed=1, cameras=3)
    record(shop, source, tmp_path, seed=1, duration_s=60.0, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (60, 60)
