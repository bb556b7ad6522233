from datetime import UTC, datetime, timedelta

import numpy as np

from passerby.shop import Crossing, Link, Sighting, SightingKey, Stay, Visit
from passerby.vision.parquet import write_visits
from passerby.vision.visits import joined_stays, passages, visit_rows

START = datetime(2026, 3, 2, 10, tzinfo=UTC)


def at(seconds):
    return START + timedelta(seconds=seconds)


def key(camera, track=1):
    return SightingKey("shop", camera, "s", track)


def seen(camera, since_s, until_s, *, track=1, crossings=(), stays=()):
    return Sighting(
        key(camera, track),
        1,
        "closed",
        at(since_s),
        at(until_s),
        np.zeros((0, 0), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        stays=tuple(Stay(zone, at(a), at(b)) for zone, a, b in stays),
        crossings=tuple(Crossing(line, at(second), inwards) for line, second, inwards in crossings),
    )


SIGHTINGS = {
    each.key: each
    for each in (
        seen("door", 0, 5, crossings=[("entry", 2, True), ("mat", 1, True)]),
        seen("aisle", 20, 60, stays=[("shelf", 22, 40), ("shelf", 41, 50), ("shelf", 56, 58)]),
        seen("door", 80, 85, track=2, crossings=[("entry", 83, False)]),
    )
}
LINKS = {
    link.later: link for link in (Link(key("door"), key("aisle"), 1, 0.9), Link(key("aisle"), key("door", 2), 1, 0.7))
}


def row_of(sightings, links=LINKS):
    keys = tuple(each.key for each in sightings)
    visit = Visit("shop", "v", 1, keys, sightings[0].start, sightings[-1].end, person="p", final=True)
    (row,) = visit_rows([visit], SIGHTINGS, links, doors=["entry"])
    return row


def test_a_visit_says_when_somebody_came_and_went_which_way_and_how_sure_that_is():
    row = row_of(list(SIGHTINGS.values()))
    assert (row.entered, row.left) == (at(2), at(83))
    assert row.cameras == ("door", "aisle", "door")
    assert row.probability == 0.7


def test_a_door_that_no_camera_saw_crossed_leaves_no_time():
    row = row_of([SIGHTINGS[key("aisle")]], {})
    assert (row.entered, row.left, row.probability) == (None, None, None)


def test_dwell_adds_the_stays_in_a_zone_and_bridges_where_a_track_broke():
    row = row_of(list(SIGHTINGS.values()))
    assert [(stay.start, stay.end) for stay in row.stays] == [(at(22), at(50)), (at(56), at(58))]
    assert row.dwell_s() == {"shelf": 30.0}


def test_who_was_lost_in_a_zone_and_found_in_it_stayed_on_unless_seen_in_another():
    here, again = Stay("a", at(0), at(20)), Stay("a", at(80), at(90))
    known = {"lost": [here], "found": [again]}
    assert joined_stays([here, again], **known) == (Stay("a", at(0), at(90)),)
    late = Stay("a", at(81), at(90))
    assert joined_stays([here, late], lost=[here], found=[late]) == (here, late)
    other = Stay("b", at(30), at(40))
    assert joined_stays([here, other, again], **known) == (here, other, again)
    beside = Stay("b", at(10), at(70))  # it overlaps, and began before
    assert joined_stays([here, beside, again], **known) == (Stay("a", at(0), at(90)), beside)


def test_who_was_seen_outside_of_a_zone_was_not_in_it():
    here, again = Stay("a", at(0), at(20)), Stay("a", at(50), at(60))
    assert joined_stays([here, again]) == (here, again)
    assert joined_stays([here, again], lost=[here]) == (here, again)
    walked_off = seen("aisle", 0, 40, stays=[("a", 0, 20)])
    back = seen("aisle", 42, 60, track=2, stays=[("a", 50, 60)])
    lost = seen("aisle", 0, 20.5, stays=[("a", 0, 20)])
    found = seen("aisle", 49.5, 60, track=2, stays=[("a", 50, 60)])
    dwell = []
    for pair in ((walked_off, back), (lost, found)):
        visit = Visit(
            "shop", "v", 1, tuple(each.key for each in pair), pair[0].start, pair[1].end, person="p", final=True
        )
        (row,) = visit_rows([visit], {each.key: each for each in pair}, {}, doors=[])
        dwell.append(row.dwell_s()["a"])
    assert dwell == [30.0, 60.0]


def test_a_track_that_goes_there_and_back_over_a_line_has_not_passed_it():
    def ways(*crossed):
        return [Crossing("entry", at(second), inwards) for second, inwards in crossed]

    assert passages(ways((0, True), (2, False))) == ()
    assert passages(ways((0, True), (2, False), (4, True))) == tuple(ways((0, True)))
    slowly = ways((0, True), (3, False))
    assert passages(slowly) == tuple(slowly)
    two = ways((0, True), (1, True))
    assert passages(two) == tuple(two)
    other = [*ways((0, True)), Crossing("exit", at(1), False)]
    assert passages(other) == tuple(other)
    assert passages(passages(ways((0, True), (2, False), (4, True), (6, False), (9, True)))) == tuple(ways((9, True)))


def test_a_visit_that_flickers_at_the_door_has_come_and_not_gone():
    flicker = seen("door", 0, 9, crossings=[("entry", 2, True), ("entry", 3, False), ("entry", 4, True)])
    turned = seen("door", 0, 9, crossings=[("entry", 2, True), ("entry", 3, False)])
    rows = []
    for each in (flicker, turned):
        visit = Visit("shop", "v", 1, (each.key,), each.start, each.end, person="p", final=True)
        rows += visit_rows([visit], {each.key: each}, {}, doors=["entry"])
    assert [(row.entered, row.left) for row in rows] == [(at(2), None), (None, None)]


def test_stays_in_two_zones_are_not_made_one():
    stays = [Stay("a", at(0), at(5)), Stay("b", at(5), at(9)), Stay("a", at(6), None)]
    assert joined_stays(stays) == (Stay("a", at(0), None), Stay("b", at(5), at(9)))


def test_somebody_in_two_cameras_at_once_is_in_the_zone_once():
    stays = [Stay("a", at(0), None), Stay("a", at(1), at(4)), Stay("a", at(30), None)]
    assert joined_stays(stays) == (Stay("a", at(0), None),)


def test_rows_go_into_a_parquet_file_and_come_back(tmp_path):
    import pyarrow.parquet as pq

    row = row_of(list(SIGHTINGS.values()))
    write_visits(tmp_path / "visits.parquet", [row.to_dict()])
    (read,) = pq.read_table(tmp_path / "visits.parquet").to_pylist()
    assert read["sightings"] == ["door/s/1", "aisle/s/1", "door/s/2"]
    assert (read["entered"], read["stays"][0]["zone"]) == (at(2), "shelf")
