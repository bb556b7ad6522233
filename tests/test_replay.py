"""What a replayed quarter of an hour says of each track, by small hand-made paths beside a line."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from passerby.service.analytics import Period
from passerby.service.replay import HEIGHT, WIDTH, replayed
from passerby.shop import Crossing, Sighting, SightingKey
from passerby.site import Camera, LineSite, Mount, Site

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
QUARTER = Period(NOON, NOON + timedelta(minutes=15))
SHOP = Site(
    "shop",
    (Camera("door", "door.mp4"), Camera("aisle", "a.mp4")),
    lines=(LineSite("entry", (0.2, 0.5), (0.8, 0.5), "door"),),
)
LINES = [("entry", [(0.2, 0.5), (0.8, 0.5)])]


def seen(track, at_s=0.0, *, crossings=(), path=(), camera="door", **more):
    start = NOON + timedelta(seconds=at_s)
    return Sighting(
        SightingKey("shop", camera, "s", track),
        1,
        more.pop("state", "closed"),
        start,
        start + timedelta(seconds=10),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        crossings=tuple(Crossing("entry", start + timedelta(seconds=s), inwards) for s, inwards in crossings),
        path=np.array(path, np.float32).reshape(-1, 3),
        **more,
    )


def verdicts(*sightings):
    return [each.verdict for each in replayed(SHOP, SHOP.cameras[0], LINES, sightings, QUARTER)]


@pytest.mark.parametrize(
    ("track", "said"),
    [
        (seen(1, crossings=[(4, True)]), "in"),
        (seen(1, crossings=[(4, False)]), "out"),
        (seen(1, crossings=[(4, True), (6, False)]), "both"),
        (seen(1, state="withdrawn"), "withdrawn"),
        (seen(1, path=[(0, 0.5, 0.9), (2, 0.5, 0.56), (4, 0.5, 0.9)]), "near"),
        (seen(1, path=[(0, 0.85, 0.9), (4, 0.83, 0.1)]), "near"),  # passes the line's end
        (seen(1, path=[(0, 0.5, 0.9), (4, 0.6, 0.8)]), "away"),
        (seen(1), "away"),
    ],
)
def test_a_track_is_said_to_have_crossed_come_near_or_neither(track, said):
    assert verdicts(track) == [said]


def test_two_tracks_that_cross_together_may_be_one_person_and_those_apart_are_not():
    assert verdicts(seen(1, crossings=[(4, True)]), seen(2, crossings=[(5, True)])) == ["twice", "twice"]
    assert verdicts(seen(1, crossings=[(4, True)]), seen(2, crossings=[(5, False)])) == ["in", "out"]
    assert verdicts(seen(1, crossings=[(4, True)]), seen(2, 3, crossings=[(4, True)])) == ["in", "in"]


def test_what_lies_outside_of_the_time_or_at_another_camera_does_not_count():
    before = seen(1, -5, crossings=[(1, True)])
    assert verdicts(before) == ["away"]
    assert verdicts(seen(1, camera="aisle")) == []


def test_times_count_from_the_beginning_and_tracks_are_in_order():
    late, early = seen(7, 60, crossings=[(4, True)], path=[(0, 0.5, 0.9), (9, 0.5, 0.1)]), seen(9, -2)
    first, second = replayed(SHOP, SHOP.cameras[0], LINES, [late, early], QUARTER)
    assert (first.number, first.track, first.start_s, first.end_s) == (1, "door/s/9", -2, 8)
    assert (second.number, second.crossings) == (2, [(64, "entry", True)])
    assert second.points == [(60, 0.5 * WIDTH, 0.9 * HEIGHT), (69, 0.5 * WIDTH, 0.1 * HEIGHT)]


def test_a_path_on_the_floor_is_shown_where_the_camera_sees_it():
    camera = Camera("door", "door.mp4", mount=Mount((0.0, 0.0), 3.0, 90.0, 30.0, 70.0))  # looks along y
    site = replace(SHOP, cameras=(camera, SHOP.cameras[1]))
    ahead = seen(1, path=[(0, 0.0, 5.0), (2, 0.0, 8.0), (4, 0.0, -5.0)], path_on="floor")
    (trail,) = replayed(site, camera, [], [ahead], QUARTER)
    assert [s for s, _, _ in trail.points] == [0, 2]  # behind the camera nothing is seen
    assert all(abs(x - WIDTH / 2) < 1 for _, x, _ in trail.points)
    assert trail.points[0][2] > trail.points[1][2]  # what is nearer stands lower
    (bare,) = replayed(SHOP, SHOP.cameras[0], [], [ahead], QUARTER)
    assert bare.points == []
