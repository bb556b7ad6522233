"""Each measure beside a loop that is obviously right, and beside TrackEval and motmetrics."""

import re
from dataclasses import astuple
from itertools import permutations

import numpy as np
import pytest

from passerby.types import DatasetError
from passerby.vision.mot import (
    Compared,
    Tracks,
    clear,
    compare,
    filled,
    hota,
    identity,
    pooled,
    read_tracks,
    write_tracks,
)


def rows(*lines, ignored=()):
    """Tracks of (frame, track, x): boxes 10 wide and 20 high, at height 0."""
    table = np.array(lines, np.float64).reshape(-1, 3)
    left = table[:, 2:]
    boxes = np.concatenate((left, np.zeros_like(left), left + 10, np.full_like(left, 20)), 1).astype(np.float32)
    marked = np.isin(np.arange(len(table)), ignored)
    return Tracks(table[:, 0].astype(int), table[:, 1].astype(int), boxes, np.ones(len(table), np.float32), marked)


def film(seed, *, people=6, frames=60, between=0):
    """People on random walks in a row, found with errors by tracks that break, swap and invent."""
    rng = np.random.default_rng(seed)
    truth, tracks = [], []
    names = list(range(100, 100 + people))
    place = rng.uniform(0, 60, people) + between * np.arange(people)
    for frame in range(1, frames + 1):
        place += rng.normal(0, 0.5 if between else 2, people)
        if people > 1 and rng.random() < 0.1:
            a, b = rng.choice(people, 2, replace=False)
            names[a], names[b] = names[b], names[a]
        if rng.random() < 0.1:
            names[int(rng.integers(people))] = int(rng.integers(200, 10_000)) * people
        for who in range(people):
            if rng.random() < 0.9:
                truth.append((frame, who, place[who]))
            if rng.random() < 0.8:
                tracks.append((frame, names[who], place[who] + rng.normal(0, 2)))
        if rng.random() < 0.3:
            tracks.append((frame, 77_777, rng.uniform(0, 60)))
        if rng.random() < 0.05:  # a frame of which one side knows nothing
            side = truth if rng.random() < 0.5 else tracks
            side[:] = [row for row in side if row[0] != frame]
    return compare(rows(*truth), rows(*tracks))


FILMS = [film(seed) for seed in range(6)] + [film(9, people=1), film(10, people=12, frames=20)]
APART = [film(seed, between=100) for seed in range(20, 24)]


def test_a_perfect_tracker():
    truth = rows((1, 1, 0), (2, 1, 1), (1, 2, 50), (2, 2, 49))
    same = compare(truth, rows((1, 7, 0), (2, 7, 1), (1, 3, 50), (2, 3, 49)))
    assert astuple(clear(same)) == (1.0, 1.0, 4, 0, 0, 0, 0)
    assert astuple(identity(same)) == (1.0, 1.0, 1.0)
    assert astuple(hota(same)) == pytest.approx((1, 1, 1, 1))


def test_a_swap_a_miss_and_a_false_alarm_by_hand():
    truth = rows(*((frame, person, 100 * person) for frame in (1, 2, 3, 4) for person in (1, 2)))
    tracks = rows(
        *((frame, 1, 100) for frame in (1, 2)),
        *((frame, 2, 200) for frame in (1, 2)),
        *((frame, 2, 100) for frame in (3, 4)),  # the two are swapped
        (4, 1, 200),  # and the second is missed in frame 3
        (3, 9, 500),
    )
    found = clear(compare(truth, tracks))
    assert (found.boxes, found.missed, found.false, found.switches, found.fragments) == (8, 1, 1, 2, 1)
    assert found.mota == pytest.approx(1 - 4 / 8)
    assert found.motp == 1
    # person 1 is best taken for track 1 (2 boxes of 4 and 3), person 2 for track 2 (2 of 4 and 4), or the other way
    # round (2 and 1): 4 hits, 8 boxes of people, 8 of tracks
    assert identity(compare(truth, tracks)).idf1 == pytest.approx(0.5)
    # detection: 7 hits of 8 + 8 - 7; association: of the hits those of (1, 1) 2 / (4 + 3 - 2), (2, 2) 2 / (4 + 4 - 2),
    # (1, 2) 2 / (4 + 4 - 2), (2, 1) 1 / (4 + 3 - 1)
    found = hota(compare(truth, tracks))
    assert found.deta == pytest.approx(7 / 9)
    assert found.assa == pytest.approx((2 * 2 / 5 + 2 * 2 / 6 + 2 * 2 / 6 + 1 / 6) / 7)
    assert found.hota == pytest.approx(np.sqrt(found.deta * found.assa))


def test_nothing_found_and_nobody_there():
    nobody, somebody = rows(), rows((1, 1, 0), (2, 1, 0))
    assert astuple(clear(compare(somebody, nobody))) == (0.0, 0.0, 2, 0, 2, 0, 0)
    assert clear(compare(nobody, somebody)).false == 2
    for film in (compare(somebody, nobody), compare(nobody, somebody), compare(nobody, nobody)):
        assert identity(film).idf1 == 0
        assert hota(film).hota == 0


def slow_pairs(worth):
    """The best way to pair rows and columns, every one tried."""
    if worth.shape[0] > worth.shape[1]:
        return [(r, c) for c, r in slow_pairs(worth.T)]
    best = max(
        permutations(range(worth.shape[1]), worth.shape[0]), key=lambda way: sum(worth[r, c] for r, c in enumerate(way))
    )
    return list(enumerate(best))


def slow_clear(film, overlap=0.5):
    now, last, ever = {}, {}, {}
    hits = false = missed = switches = fragments = 0
    for one in film:
        if len(one.people) == 0 or len(one.tracks) == 0:
            false, missed = false + len(one.tracks), missed + len(one.people)
            continue
        worth = np.zeros(one.overlap.shape)
        for p, person in enumerate(one.people):
            for t, track in enumerate(one.tracks):
                if one.overlap[p, t] >= overlap:
                    worth[p, t] = one.overlap[p, t] + (1000 if now.get(person) == track else 0)
        pairs = [(one.people[p], one.tracks[t]) for p, t in slow_pairs(worth) if worth[p, t] > 0]
        for person, track in pairs:
            switches += last.get(person, track) != track
            fragments += person not in now and ever.get(person, False)
            last[person], ever[person] = track, True
        now = dict(pairs)
        hits += len(pairs)
        false, missed = false + len(one.tracks) - len(pairs), missed + len(one.people) - len(pairs)
    return 1 - (false + missed + switches) / (hits + missed), hits + missed, false, missed, switches, fragments


@pytest.mark.parametrize("seed", range(4))
def test_clear_is_what_a_slow_loop_counts(seed):
    one = film(seed, people=4, frames=40)
    found = clear(one)
    counted = (found.mota, found.boxes, found.false, found.missed, found.switches, found.fragments)
    assert counted == pytest.approx(slow_clear(one))


@pytest.mark.parametrize("seed", range(4))
def test_idf1_is_that_of_the_best_of_all_ways_to_name_the_tracks(seed):
    one = film(seed, people=3, frames=20)
    people = sorted({person for each in one for person in each.people})
    tracks = sorted({track for each in one for track in each.tracks})[:7]
    one = [
        Compared(each.people, each.tracks[keep], each.overlap[:, keep])
        for each in one
        for keep in [np.isin(each.tracks, tracks)]
    ]
    together = np.zeros((len(people), len(tracks)))
    for each in one:
        for p, person in enumerate(each.people):
            for t, track in enumerate(each.tracks):
                together[people.index(person), tracks.index(track)] += each.overlap[p, t] >= 0.5
    hits = sum(together[pair] for pair in slow_pairs(together))
    boxes = sum(len(each.people) for each in one), sum(len(each.tracks) for each in one)
    assert astuple(identity(one)) == pytest.approx((2 * hits / sum(boxes), hits / boxes[1], hits / boxes[0]))


def for_trackeval(film):
    people = np.concatenate([one.people for one in film])
    tracks = np.concatenate([one.tracks for one in film])
    return {
        "num_timesteps": len(film),
        "num_gt_ids": people.max() + 1,
        "num_tracker_ids": tracks.max() + 1,
        "num_gt_dets": len(people),
        "num_tracker_dets": len(tracks),
        "gt_ids": [one.people for one in film],
        "tracker_ids": [one.tracks for one in film],
        "similarity_scores": [one.overlap for one in film],
    }


@pytest.mark.parametrize("film", FILMS)
def test_all_are_those_of_trackeval(film):
    trackeval = pytest.importorskip("trackeval")
    data, quiet = for_trackeval(film), {"PRINT_CONFIG": False}
    theirs = trackeval.metrics.CLEAR(quiet).eval_sequence(data)
    expected = [theirs[key] for key in ("MOTA", "MOTP", "CLR_FP", "CLR_FN", "IDSW", "Frag")]
    ours = clear(film)
    found = [ours.mota, ours.motp, ours.false, ours.missed, ours.switches, ours.fragments]
    assert found == pytest.approx(expected, abs=1e-6)
    theirs = trackeval.metrics.Identity(quiet).eval_sequence(data)
    assert astuple(identity(film)) == pytest.approx([theirs[key] for key in ("IDF1", "IDP", "IDR")], abs=1e-6)
    theirs = trackeval.metrics.HOTA().eval_sequence(data)
    expected = [theirs[key].mean() for key in ("HOTA", "DetA", "AssA", "LocA")]
    assert astuple(hota(film)) == pytest.approx(expected, abs=1e-6)


def test_pooled_films_are_those_of_trackeval():
    trackeval = pytest.importorskip("trackeval")
    every = pooled(FILMS)
    for metric, found in (
        (trackeval.metrics.CLEAR({"PRINT_CONFIG": False}), {"MOTA": clear(every).mota, "IDSW": clear(every).switches}),
        (trackeval.metrics.Identity({"PRINT_CONFIG": False}), {"IDF1": identity(every).idf1}),
        (trackeval.metrics.HOTA(), {"HOTA": hota(every).hota, "AssA": hota(every).assa}),
    ):
        theirs = metric.combine_sequences({str(n): metric.eval_sequence(for_trackeval(f)) for n, f in enumerate(FILMS)})
        for name, value in found.items():
            assert value == pytest.approx(np.mean(theirs[name]), abs=1e-6), name


@pytest.mark.filterwarnings("ignore")  # of pandas, inside motmetrics
@pytest.mark.parametrize("film", [*FILMS, *APART])
def test_idf1_is_that_of_motmetrics(film):
    theirs = of_motmetrics(film, "idf1", "idp", "idr")
    assert astuple(identity(film)) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("film", APART)
def test_clear_is_that_of_motmetrics(film):
    """Where each box fits one person alone: where it fits two, motmetrics goes by matches of long ago, TrackEval does not."""
    ours = clear(film)
    assert ours.switches > 5
    theirs = of_motmetrics(film, "num_switches", "num_misses", "num_false_positives", "mota", "motp")
    found = [ours.switches, ours.missed, ours.false, ours.mota, 1 - ours.motp]
    assert found == pytest.approx(theirs, abs=1e-6)


def of_motmetrics(film, *names):
    motmetrics = pytest.importorskip("motmetrics")
    events = motmetrics.MOTAccumulator(auto_id=True)
    for one in film:
        events.update(one.people, one.tracks, np.where(one.overlap >= 0.5, 1 - one.overlap, np.nan))
    table = motmetrics.metrics.create().compute(events, metrics=list(names), name="film")
    return [table.loc["film", name] for name in names]


def test_ignored_people_take_their_tracks_boxes_with_them():
    truth = rows((1, 1, 0), (1, 2, 50), ignored=[1])
    found = clear(compare(truth, rows((1, 5, 0), (1, 6, 52), (1, 7, 90))))
    assert (found.boxes, found.false, found.missed) == (1, 1, 0)


def test_a_box_goes_to_the_person_who_counts_where_it_fits_both():
    truth = rows((1, 1, 0), (1, 2, 2), ignored=[1])
    found = clear(compare(truth, rows((1, 5, 0))))
    assert (found.boxes, found.false, found.missed) == (1, 0, 0)


def test_gaps_are_filled_on_a_straight_line_where_they_are_short():
    tracks = rows((1, 1, 0), (4, 1, 30), (9, 1, 30), (2, 2, 500))
    whole = filled(tracks, longest=2)
    assert list(zip(whole.frames.tolist(), whole.tracks.tolist(), whole.boxes_xyxy[:, 0].tolist(), strict=True)) == [
        (1, 1, 0),
        (2, 1, 10),
        (2, 2, 500),
        (3, 1, 20),
        (4, 1, 30),
        (9, 1, 30),
    ]


def test_what_is_written_is_read(tmp_path):
    tracks = rows((2, 3, 10.25), (1, 4, 7), (1, 3, -2))
    write_tracks(tmp_path / "a.txt", tracks)
    assert (tmp_path / "a.txt").read_text().splitlines()[0] == "1,3,-2.00,0.00,10.00,20.00,1.0000,-1,-1,-1"
    again = read_tracks(tmp_path / "a.txt")
    assert again.frames.tolist() == [1, 1, 2]
    assert again.tracks.tolist() == [3, 4, 3]
    np.testing.assert_array_equal(again.boxes_xyxy, tracks.boxes_xyxy)


def test_a_truth_says_who_is_ignored(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text("1,1,0,0,10,20,1,1,0.9\n1,2,50,0,10,20,0,1,0.9\n2,1,0,0,10,20,1,1,0.1\n2,2,9,0,10,20,1,-1,-1,-1\n")
    assert read_tracks(path, truth=True).ignored.tolist() == [False, True, False, False]
    assert read_tracks(path, truth=True, least_seen=0.2).ignored.tolist() == [False, True, True, False]
    assert not read_tracks(path).ignored.any()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,1,0,0,10", "line 2: expected frame (from 1), track, left, top, width, height and up to four numbers more"),
        ("0,1,0,0,10,20", "line 2: expected frame (from 1)"),
        ("1.5,1,0,0,10,20", "line 2: expected frame (from 1)"),
        ("one,1,0,0,10,20", "line 2: expected frame (from 1)"),
        ("1,1,0,0,nan,20", "line 2: expected frame (from 1)"),
        ("1,1,0,0,0,20", "line 2: expected a width and a height above 0, got 0 x 20"),
        ("1,-1,0,0,10,20", "line 2: a track's number is 0 or more, got -1; are these detections?"),
        ("1,3,0,0,10,20", "track 3 has two boxes in frame 1"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(tmp_path, line, message):
    path = tmp_path / "tracks.txt"
    path.write_text(f"1,3,0,0,10,20\n{line}\n")
    with pytest.raises(DatasetError, match=re.escape(message)):
        read_tracks(path)


def test_the_public_truths_are_read_and_are_perfect_against_themselves(shared):
    for name, boxes, people in (("pets2009_s2l1_view001", 4650, 19), ("tud_stadtmitte", 1156, 10)):
        truth = read_tracks(shared / "tracking" / name / "gt.txt", truth=True)
        assert (len(truth), len(np.unique(truth.tracks))) == (boxes, people)
        assert hota(compare(truth, truth)).hota == pytest.approx(1)
