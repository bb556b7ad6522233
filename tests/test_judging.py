import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from passerby.shop import Crossing, Detections, Frame, Link, Sighting, SightingKey, Stay
from passerby.simulate.judging import Witness, judge
from passerby.types import SimulationError
from passerby.vision.pipeline import Seen
from passerby.vision.track import Tracked
from passerby.vision.visits import VisitRow

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
BLACK = np.zeros((100, 100, 3), np.uint8)
LEFT, RIGHT = np.array([10, 10, 30, 70], np.float32), np.array([60, 10, 80, 70], np.float32)


def at(seconds):
    return START + timedelta(seconds=seconds)


@pytest.fixture
def film(tmp_path):
    """Visit 7 is at the left of camera a, then of b; visit 8 at the right of a. Two frames a second."""
    truth = tmp_path / "truth"
    truth.mkdir()
    (tmp_path / "run.json").write_text(json.dumps({"fps": 2.0, "begins": START.isoformat()}))
    for camera, seconds, people in (("a", range(5), {7: LEFT, 8: RIGHT}), ("b", range(10, 15), {7: LEFT})):
        rows = [
            f"{2 * second + 1},{visit},{box[0]},{box[1]},{box[2] - box[0]},{box[3] - box[1]},1,1,1.0"
            for second in seconds
            for visit, box in people.items()
        ]
        (truth / f"{camera}.txt").write_text("\n".join(rows) + "\n")
    tables = {
        "visits": [{"visit": 7, "person": 1}, {"visit": 8, "person": 2}],
        "entries": [{"visit": 7, "line": "door", "at": at(1).isoformat(), "inwards": True}],
        "in_view": [{"visit": 7, "camera": "a"}, {"visit": 8, "camera": "a"}],
        "presence": [{"visit": 7, "zone": "shelf", "start": at(10).isoformat(), "end": at(14).isoformat()}],
    }
    for name, rows in tables.items():
        (truth / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def key(camera, track):
    return SightingKey("shop", camera, "s", track)


def sighting(camera, track, since_s, until_s, *, crossings=()):
    nothing = np.zeros((0, 0), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    return Sighting(key(camera, track), 1, "closed", at(since_s), at(until_s), *nothing, crossings=tuple(crossings))


SIGHTINGS = {
    each.key: each
    for each in (
        sighting("a", 1, 0, 4, crossings=[Crossing("door", at(1.5), True)]),
        sighting("a", 2, 0, 4, crossings=[Crossing("door", at(3.9), True)]),
        sighting("b", 1, 10, 14),
    )
}


def seen(camera, seconds, tracks):
    boxes = np.array([box for _, box in tracks], np.float32).reshape(-1, 4)
    found = Detections(boxes, np.full(len(boxes), 0.9, np.float32))
    return Seen(
        Frame(camera, at(seconds), BLACK),
        found,
        tuple(Tracked(n, box, 0.9, row) for row, (n, box) in enumerate(tracks)),
    )


@pytest.fixture
def witness(film):
    made = Witness(film)
    for second in range(5):
        made.see([seen("a", second, [(1, LEFT), (2, RIGHT)])])
        made.see([seen("b", 10 + second, [(1, LEFT + 2), (2, RIGHT)])])
    return made


def visit(name, keys, stays=()):
    times = [SIGHTINGS[one] for one in keys]
    return VisitRow(
        "shop", name, name, times[0].start, times[-1].end, None, None, ("a",), tuple(stays), tuple(keys), None
    )


def judged(film, witness, visits, links=()):
    return judge(film, witness, visits=visits, links=links, sightings=SIGHTINGS, zones=["shelf"])


def test_a_track_is_on_whom_most_of_its_boxes_are_on(witness):
    assert witness.visit_of(key("a", 1)) == 7
    assert witness.visit_of(key("a", 2)) == 8
    assert witness.visit_of(key("b", 1)) == 7
    assert witness.visit_of(key("b", 2)) is None  # nobody is there
    assert witness.visit_of(key("b", 9)) is None


def test_visits_that_are_whole_and_unmixed_are_right(film, witness):
    link = Link(key("a", 1), key("b", 1), 1, 0.9)
    found = judged(film, witness, [visit("x", [key("a", 1), key("b", 1)]), visit("y", [key("a", 2)])], [link])
    assert (found.true_visits, found.visits, found.right) == (2, 2, 2)
    assert found.rows == (7, 8)
    assert found.links.f1 == 1.0


def test_a_visit_in_two_pieces_and_one_of_two_people_are_wrong(film, witness):
    pieces = judged(film, witness, [visit("x", [key("a", 1)]), visit("y", [key("a", 2)]), visit("z", [key("b", 1)])])
    assert (pieces.visits, pieces.right) == (3, 1)
    assert (pieces.links.there, pieces.links.said) == (1, 0)
    mixed = judged(film, witness, [visit("x", [key("a", 1), key("a", 2), key("b", 1)])])
    assert (mixed.visits, mixed.right) == (1, 0)


def test_a_crossing_is_right_within_two_seconds_and_each_true_one_counts_once(film, witness):
    found = judged(film, witness, [visit("x", [key("a", 1), key("b", 1)])])
    assert found.entries == (1, 2, 1)
    assert found.exits == (0, 0, 0)


def test_dwell_is_compared_in_each_zone_by_whom_it_is(film, witness):
    stays = [Stay("shelf", at(11), at(14))]
    found = judged(film, witness, [visit("x", [key("a", 1), key("b", 1)], stays), visit("y", [key("a", 2)])])
    assert [(dwell.visit, dwell.true_s, dwell.found_s) for dwell in found.dwells] == [(7, 4.0, 3.0)]
    assert found.dwell_errors_s.tolist() == [1.0]


def test_a_folder_that_is_no_film_is_refused(film, witness, tmp_path):
    (film / "truth" / "entries.jsonl").unlink()
    with pytest.raises(SimulationError, match="is this the folder of a film"):
        judged(film, witness, [])
