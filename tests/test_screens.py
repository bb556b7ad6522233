"""What the page's screens work out, without a browser: alerts that are tried on a day that is known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from passerby.service.analytics import Period
from passerby.service.grid import trodden
from passerby.service.screens import raised
from passerby.shop import SightingKey, Stay, Walk
from passerby.site import Alert, Camera, Hours, Queue, Site, ZoneSite
from passerby.types import PasserbyError
from passerby.vision.visits import VisitRow

TEN = datetime(2026, 3, 2, 10, tzinfo=UTC)
HOUR = Period(TEN, TEN + timedelta(hours=1))
CORNERS = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9))
SHOP = Site(
    "shop",
    (Camera("door", "door.mp4"),),
    zones=(ZoneSite("till", CORNERS, "door"), ZoneSite("wine", CORNERS, "door")),
    hours=Hours(monday=("09:00-18:00",)),
    queues=(Queue("till"),),
)


def at(second):
    return TEN + timedelta(seconds=second)


def row(name, start, end, *, stays=()):
    found = tuple(Stay(zone, at(a), None if b is None else at(b)) for zone, a, b in stays)
    return VisitRow("shop", name, None, at(start), at(end), at(start), at(end), ("door",), found, (), None)


def tried(rule, *rows, period=HOUR):
    found = raised(SHOP, rule, rows, period)
    return [
        (
            (each.start - TEN).total_seconds(),
            None if each.end is None else (each.end - TEN).total_seconds(),
            each.most,
        )
        for each in found
    ]


def test_an_alert_is_raised_once_people_were_above_for_so_long_and_over_once_they_were_not():
    three = [row(f"{n}", 0, 300, stays=[("till", 10 * n, 100 + n)]) for n in range(3)]  # all three from 20 to 100
    assert tried(Alert("a", 2, zone="till"), *three) == [(20, 100, 3)]
    assert tried(Alert("a", 2, zone="till", for_s=30), *three) == [(50, 130, 3)]
    assert tried(Alert("a", 2, zone="till", for_s=90), *three) == []
    assert tried(Alert("a", 3, zone="till"), *three) == []
    assert tried(Alert("a", 0, zone="wine"), *three) == []


def test_two_stays_of_one_visit_are_two_times_and_one_that_lasts_ends_with_its_visit():
    assert tried(Alert("a", 0, zone="till"), row("1", 0, 90, stays=[("till", 10, 20), ("till", 50, None)])) == [
        (10, 20, 1),
        (50, 90, 1),
    ]


def test_people_of_the_whole_site_are_those_inside():
    assert tried(Alert("a", 1), row("1", 0, 100), row("2", 30, 200)) == [(30, 100, 2)]


def test_waiting_is_that_of_whoever_waits_longest_also_since_before_the_period():
    long = row("1", -60, 100, stays=[("till", -50, 40)])
    assert tried(Alert("a", 60, "waiting_s", "till"), long) == [(11, 40, 89)]


def test_an_alert_that_goes_on_at_the_end_has_none():
    assert tried(Alert("a", 0, zone="till"), row("1", 3500, 4000, stays=[("till", 3590, 3700)])) == [(3590, None, 1)]


def test_waiting_where_nobody_queues_is_refused():
    with pytest.raises(PasserbyError, match="waiting is measured in queues"):
        raised(SHOP, Alert("a", 60, "waiting_s", "wine"), [], HOUR)


def test_a_cell_counts_each_visit_once_and_its_far_edge_too():
    def walk(track, *points):
        path = np.array([(second, *point) for second, point in enumerate(points)], np.float32)
        return Walk(SightingKey("shop", "door", "s", track), at(0), at(60), path, "picture")

    walks = [walk(1, (0.1, 0.1), (0.2, 0.2)), walk(2, (0.1, 0.1), (1.0, 1.0)), walk(3, (0.1, 0.1)), walk(4, (0.1, 0.1))]
    held = {"a": (walks[0].key, walks[1].key), "b": (walks[2].key,)}
    visits = [replace(row(name, 0, 60), sightings=keys) for name, keys in held.items()]
    asked = {"cells": (2, 2), "area": (0.0, 0.0, 1.0, 1.0), "camera": "door"}
    seconds, people = trodden(visits, walks, HOUR, **asked)
    assert people.tolist() == [[2, 0], [0, 1]]
    assert seconds.tolist() == [[1 + 2 + 1 + 2, 0], [0, 2]]  # a point until the next one, or 2 s
    assert not any(table.any() for table in trodden([], walks, HOUR, **asked))
    late = trodden(visits, walks, Period(at(1), at(2)), **asked)
    assert late[0].tolist() == [[2, 0], [0, 1]]
