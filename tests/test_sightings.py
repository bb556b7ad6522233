from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from passerby.shop import Line, Zone
from passerby.vision.crops import Crop
from passerby.vision.sightings import Sightings

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
SHELF = Zone("shelf", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)), camera="aisle")
DOOR = Line("door", (0.0, 0.5), (1.0, 0.5), camera="aisle")


def at(seconds):
    return START + timedelta(seconds=seconds)


def watched(sightings, track, until_s, *, since_s=0.0, score=0.9, seen=1.0, place=(0.2, 0.3)):
    """Sees a track at 5 frames a second, and returns the revisions of every frame."""
    made = []
    for frame in range(round(since_s * 5), round(until_s * 5) + 1):
        sightings.see(track, at(frame / 5), score=score, seen=seen, picture=place, height=0.4)
        made += sightings.revisions(at(frame / 5))
    return made


def a_camera(**settings):
    return Sightings(site="shop", camera="aisle", session="s", network="n", **settings)


def test_a_track_is_opened_refreshed_every_two_seconds_and_closed():
    sightings = a_camera()
    made = watched(sightings, 1, 5.0)
    sightings.end(1)
    made += sightings.revisions(at(7))
    assert [(each.state, each.revision) for each in made] == [("open", 1), ("open", 2), ("open", 3), ("closed", 4)]
    assert [(each.end - START).total_seconds() for each in made] == [1.0, 3.0, 5.0, 5.0]
    assert {each.key for each in made} == {("shop", "aisle", "s", 1)}


def test_a_moment_is_nobody_unless_a_line_was_crossed():
    sightings = a_camera()
    assert watched(sightings, 1, 0.6) == []
    sightings.end(1)
    assert list(sightings.revisions(at(3))) == []
    hurried = a_camera(lines=[DOOR])
    for frame, y in enumerate((0.3, 0.4, 0.6, 0.7)):
        hurried.see(1, at(frame / 5), score=0.9, seen=1.0, picture=(0.5, y), height=0.4)
    hurried.end(1)
    (made,) = hurried.revisions(at(3))
    assert [(crossing.line, crossing.inwards) for crossing in made.crossings] == [("door", True)]


@pytest.mark.parametrize(("score", "seen"), [(0.3, 1.0), (0.9, 0.2)])
def test_what_the_detector_is_not_sure_of_or_is_always_hidden_is_nobody(score, seen):
    sightings = a_camera()
    assert watched(sightings, 1, 5.0, score=score, seen=seen) == []


def test_a_stay_has_no_end_while_the_sighting_is_open_and_one_when_it_is_closed():
    sightings = a_camera(zones=[SHELF])
    made = watched(sightings, 1, 3.0)
    assert [(stay.zone, stay.end) for stay in made[-1].stays] == [("shelf", None)]
    sightings.end(1)
    (closed,) = sightings.revisions(at(5))
    assert [(stay.zone, stay.end) for stay in closed.stays] == [("shelf", at(3.0))]


def test_the_path_has_a_point_a_second_in_fractions_of_the_picture_or_in_metres():
    sightings = a_camera()
    made = watched(sightings, 1, 3.0)
    assert made[-1].path[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert made[-1].path_on == "picture"
    on_floor = a_camera(on_floor=True)
    for frame in range(10):
        on_floor.see(1, at(frame / 5), score=0.9, seen=1.0, picture=(0.2, 0.3), height=0.4, floor=(7.5, -3.0))
    *_, last = on_floor.revisions(at(2))
    assert last.path_on == "floor"
    assert last.path[-1].tolist() == [1.0, 7.5, -3.0]


def test_vectors_go_along_once_they_are_there_with_the_network_that_made_them():
    sightings = a_camera()
    first, *_ = watched(sightings, 1, 1.2)
    assert (first.prototypes.shape, first.network) == ((0, 0), "")
    sightings[1].album.add(np.array([0.6, 0.8], np.float32), Crop(np.zeros((4, 2, 3), np.uint8), 0.7, 0.9))
    *_, last = watched(sightings, 1, 4.0, since_s=1.4)
    assert last.prototypes.tolist() == pytest.approx(np.array([[0.6, 0.8]]))
    assert (last.network, last.pictures.tolist()) == ("n", [1])
    assert last.quality.tolist() == pytest.approx([0.7])


def test_tracks_do_not_touch_each_other():
    sightings = a_camera()
    watched(sightings, 1, 2.0)
    watched(sightings, 2, 4.0, since_s=2.0)
    sightings.end(1)
    assert {(each.key.track, each.state) for each in sightings.revisions(at(4.2))} == {(1, "closed")}


def test_who_crosses_a_line_while_the_track_is_broken_has_crossed_it():
    sightings = a_camera(lines=[DOOR])
    watched(sightings, 1, 2.0, place=(0.5, 0.46))
    watched(sightings, 2, 5.0, since_s=2.8, place=(0.5, 0.55))
    sightings.end(1)
    sightings.end(2)
    one, two = sightings.revisions(at(6))
    assert one.crossings == ()
    assert [(crossing.at, crossing.inwards) for crossing in two.crossings] == [(at(2.8), True)]


@pytest.mark.parametrize(("since_s", "place"), [(2.8, (0.9, 0.55)), (5.0, (0.5, 0.55))])
def test_who_appears_far_away_or_much_later_has_crossed_nothing(since_s, place):
    sightings = a_camera(lines=[DOOR])
    watched(sightings, 1, 2.0, place=(0.5, 0.46))
    sightings.end(1)
    list(sightings.revisions(at(2.8)))
    watched(sightings, 2, 7.0, since_s=since_s, place=place)
    sightings.end(2)
    (closed,) = sightings.revisions(at(8))
    assert closed.crossings == ()
