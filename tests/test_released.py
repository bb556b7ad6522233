"""Personal detail as it is told: of whole days, in groups of k or more, once; nothing is worked out by subtraction."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from passerby.service import privacy, released
from passerby.service.analytics import Period
from passerby.service.app import create_app
from passerby.service.auth import Principal
from passerby.service.live import Live
from passerby.service.privacy import REST, classes, sizes_told
from passerby.service.rollups import refresh
from passerby.service.store import Store
from passerby.shop import Crossing, Sighting, SightingKey, Stay, Visit
from passerby.site import Camera, LineSite, Site, ZoneSite
from passerby.vision.visits import VisitRow

K = 4
CORNERS = ((0.1, 0.1), (0.9, 0.1), (0.5, 0.9))
SHOP = Site(
    "shop",
    (Camera("door", "door.mp4"), Camera("aisle", "aisle.mp4")),
    zones=tuple(ZoneSite(zone, CORNERS, "aisle") for zone in ("beer", "till", "wine")),
    lines=(LineSite("entry", (0.2, 0.5), (0.8, 0.5), "door"),),
    k=K,
)
ZONES = [zone.name for zone in SHOP.zones]
DAYS = [datetime(2026, 3, day, tzinfo=UTC) for day in (2, 3)]
NOW = datetime(2026, 3, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def visited(number, at, zones, *, cameras=("door", "aisle")):
    """A visit that dwells half a minute in each zone; whoever is seen at the door comes in and goes out there."""
    sightings, seconds = [], 40 * len(zones) + 20
    for camera in cameras:
        door = camera == "door"
        where = np.array([[second, 0.1 + 0.8 * (number % 5) / 4, 0.5] for second in (0, 1)], np.float32)
        sightings.append(
            Sighting(
                SightingKey("shop", camera, "s", number),
                1,
                "closed",
                at,
                at + timedelta(seconds=seconds),
                np.zeros((0, 0), np.float32),
                np.zeros(0, np.float32),
                np.zeros(0, np.int64),
                crossings=(Crossing("entry", at + timedelta(seconds=1), True),) if door else (),
                stays=()
                if door
                else tuple(
                    Stay(zone, at + timedelta(seconds=40 * n), at + timedelta(seconds=40 * n + 30))
                    for n, zone in enumerate(zones)
                ),
                path=where,
            )
        )
    keys = tuple(each.key for each in sightings)
    end = at + timedelta(seconds=seconds)
    return {"sightings": sightings, "visits": [Visit("shop", f"v{number}", 1, keys, at, end, f"p{number}", final=True)]}


def fill(store, days):
    """Visits of each day, as (zones, cameras, how many), one a minute from ten on; their names."""
    store.put_site(SHOP)
    number = 0
    for day, said in zip(DAYS, days, strict=True):
        for zones, cameras, many in said:
            for _ in range(many):
                number += 1
                store.write(**visited(number, day + timedelta(hours=10, minutes=number), zones, cameras=cameras))
    return [f"v{n + 1}" for n in range(number)]


def application(store, now=NOW):
    return create_app(
        site=SHOP,
        store=store,
        live=Live(SHOP, clock=lambda: now),
        authenticate=lambda request: Principal("officer", "administrator", None, "key"),
        clock=lambda: now,
        burst=float("inf"),
    )


def get(app, *paths, method="GET", **more):
    """The answers to some requests."""

    async def asked():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [(await client.request(method, f"/api/v1/{path}", **more)).raise_for_status() for path in paths]

    return asyncio.run(asked())


PERIODS = [
    ("2026-03-02", "2026-03-02"),
    ("2026-03-03", "2026-03-03"),
    ("2026-03-02", "2026-03-03"),
    ("2026-03-02T10:00", "2026-03-02T11:00"),
    ("2026-03-02T10:00", "2026-03-02T12:00"),
    ("2026-03-02T00:00", "2026-03-03T10:10"),
    ("2026-03-01", "2026-03-04"),
]
BY = [f"by_zone={by}{zone}" for by in ("true", "false") for zone in ("", "&zone=wine")]
DETAIL = [
    "metrics/dwell?",
    *(f"metrics/{name}?zone=wine&" for name in ("dwell", "visits", "persons")),
    *(f"metrics/{name}?{by}&" for name in ("paths", "transitions") for by in BY),
    "metrics/funnel?step=wine,till&",
    "metrics/groups?",
    "metrics/heat?camera=aisle&",
]
TABLES = ["dwell", "paths", "transitions"]


def detail(app):
    """All that the API says of personal detail, in sum and day by day: of each path, what it told."""
    paths = [
        f"{path}from={since}&to={until}" + ("" if "heat" in path else "&group_by=day")
        for path in DETAIL
        for since, until in PERIODS
    ]
    found = {}
    for path, answer in zip(paths, get(app, *paths), strict=True):
        said = answer.json()
        found[path.removesuffix("&group_by=day")] = (
            [said["seconds"]] if "heat" in path else [said["value"], [row["value"] for row in said["rows"]]]
        )
    return found


def exported(store):
    """The tables of a report."""
    app = application(store)

    async def asked():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            paths = [f"exports/{name}.csv?from={a}&to={b}" for name in TABLES for a, b in PERIODS]
            answers = [await client.get(f"/api/v1/{path}") for path in paths]
            return [answer.text if answer.status_code == 200 else answer.status_code for answer in answers]

    return asyncio.run(asked())


WAYS = [
    (),
    *((a,) for a in ZONES),
    *((a, b) for a in ZONES for b in ZONES if a != b),
    ("beer", "wine", "till"),
]
CAMERAS = [("door", "aisle"), ("aisle",)]
SAID = st.lists(st.tuples(st.sampled_from(WAYS), st.sampled_from(CAMERAS), st.integers(1, 9)), max_size=6)


# One answer


def test_a_way_is_told_in_a_class_of_k_or_more():
    ways = Counter({("door", "aisle", "till"): 20, ("door", "aisle"): 3, ("door", "store"): 1, ("aisle",): 2})
    names = classes(ways, k=4)
    told = Counter()
    for way, often in ways.items():
        told[names[way]] += often
    assert told == {("door", "aisle", "till"): 20, (REST,): 6} or min(told.values()) >= 4


@given(st.dictionaries(st.lists(st.sampled_from("abc"), max_size=4).map(tuple), st.integers(1, 12)), st.integers(2, 6))
def test_classes_are_of_k_visits_and_are_named_by_a_way_or_its_beginning(ways, k):
    names = classes(ways, k=k)
    assert set(names) == (set(ways) if sum(ways.values()) >= k else set())
    told = Counter()
    for way, name in names.items():
        told[name] += ways[way]
        assert name == way or (name[-1] == REST and way[: len(name) - 1] == name[:-1])
    assert all(often >= k for often in told.values())
    exact = {name for name in told if REST not in name}
    assert all(names[way] == way for way in exact)


@given(st.dictionaries(st.integers(1, 6), st.integers(0, 8)), st.integers(2, 10))
def test_what_is_not_told_of_groups_is_nobody_or_k_people(groups, k):
    told = sizes_told(groups, k=k)
    people = {size: size * often for size, often in groups.items()}
    assert all(people[size] >= k and told[size] == groups[size] for size in told)
    assert (rest := sum(people.values()) - sum(people[size] for size in told)) == 0 or rest >= k or not told


# Differences


@pytest.fixture
def shop(url):
    with Store(url) as store:
        yield store


def test_two_answers_that_differ_by_a_few_people_are_the_same_answer(shop):
    names = fill(shop, [[(("wine",), ("door", "aisle"), 70)], [(("wine",), ("door", "aisle"), 12)]])
    refresh(shop, SHOP, now=NOW)
    app = application(shop)

    def told(since, until):
        (answer,) = get(app, f"metrics/dwell?from={since}&to={until}")
        return [(each["zone"], each["visits"]["value"]) for each in answer.json()["value"]]

    assert told("2026-03-02", "2026-03-02") == [("wine", 70)]
    for minute in (1, 30, 59):  # parts of a day say nothing, and add nothing to a day
        assert told("2026-03-02T10:00", f"2026-03-02T11:{minute:02}") == []
        assert told("2026-03-02", f"2026-03-03T11:{minute:02}") == [("wine", 70)]
    assert told("2026-03-02", "2026-03-03") == [("wine", 82)]
    get(app, "erasures", method="POST", json={"visit": names[0]})
    assert told("2026-03-02", "2026-03-02") == [("wine", 70)]


def test_before_a_day_is_told_there_is_nothing_to_subtract(shop):
    fill(shop, [[(("wine",), ("door", "aisle"), 20)], []])
    for hours, told in ((12, 0), (24, 0), (27, 0), (27.25, 1), (48, 0)):
        now = DAYS[0] + timedelta(hours=hours)
        assert released.release(shop, SHOP, now=now) == told, hours
    assert [
        table["wine"]["visits"] for table in released.told(shop, SHOP, "dwell", Period(DAYS[0], DAYS[0] + DAY))
    ] == [20]


def test_what_comes_later_changes_nothing_that_was_told(shop):
    fill(shop, [[(("wine",), ("door", "aisle"), 20)], []])
    refresh(shop, SHOP, now=NOW)
    before = detail(application(shop))
    shop.write(**visited(999, DAYS[0] + timedelta(hours=15), ("wine", "till")))
    refresh(shop, SHOP, now=NOW)
    assert detail(application(shop)) == before


def test_days_that_were_told_to_fewer_are_told_no_more(shop):
    fill(shop, [[(("wine",), ("door", "aisle"), 20)], []])
    refresh(shop, SHOP, now=NOW)
    day = Period(DAYS[0], DAYS[0] + DAY)
    assert released.told(shop, replace(SHOP, k=K - 1), "ways", day)
    assert released.told(shop, replace(SHOP, k=K + 1), "ways", day) == []


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(st.tuples(SAID, SAID))
def test_answers_follow_from_what_was_told_of_each_day_and_from_nothing_else(days):
    """All visits are erased one after the other: no answer changes, whatever the period, the parts, the zone."""
    with TemporaryDirectory() as folder, Store(Path(folder) / "shop.sqlite") as store:
        names = fill(store, days)
        refresh(store, SHOP, now=NOW)
        app = application(store)
        before, tables = detail(app), exported(store)
        for name in names:
            store.erase("shop", name, now=NOW)
        assert detail(app) == before
        assert exported(store) == tables
        first, _, both, *parts, long, longest = PERIODS
        for path in DETAIL:
            of = {period: before[f"{path}from={period[0]}&to={period[1]}"][0] for period in PERIODS}
            assert of[long] == of[first]
            assert of[longest] == of[both]
            assert of[parts[0]] == of[parts[1]]


def universe(longest):
    """Every way by zones that somebody may take, up to so many."""
    found = [()]
    for length in range(1, longest + 1):
        found += [way for way in product(ZONES, repeat=length) if all(a != b for a, b in pairwise(way))]
    return found


def compatible(way, name, exact):
    """Whether somebody may be told under a name who went that way, as far as anybody knows."""
    return way == name if REST not in name else way not in exact and way[: len(name) - 1] == name[:-1]


@settings(max_examples=150, deadline=None)
@given(SAID)
def test_no_number_of_a_few_can_be_worked_out_of_a_day(said):
    """Whoever knows every answer, and how it is made, solves for what is not told: the number of those who took one way, went
    from one place to another, dwelt in a zone, or did one of these and something rare. None of 1 to k - 1 has one solution."""
    with_zones = [(zones, many) for zones, _, many in said]
    truth = Counter[tuple]()
    for zones, many in with_zones:
        truth[zones] += many
    rows = [row for zones, many in truth.items() for row in [zones] * many]
    names = classes(truth, k=K)
    told = Counter(names[zones] for zones in rows if zones in names)
    dwelt = {}
    if names:
        labelled = {str(n): ((), names[zones]) for n, zones in enumerate(rows)}
        dwelt = released._dwell([_row(n, zones) for n, zones in enumerate(rows)], labelled, K)
    exact = {name for name in told if REST not in name}
    ways = universe(4)
    unknowns = [(way, name) for name in sorted(told) for way in ways if compatible(way, name, exact)]
    equations = [([float(of == name) for _, of in unknowns], often) for name, often in sorted(told.items())]
    for zone, table in dwelt.items():
        said_of = sum(often for name, often in told.items() if zone in name)
        if table["visits"] > said_of:
            rest = [float(zone in way and REST in name and zone not in name) for way, name in unknowns]
            equations.append((rest, table["visits"] - said_of))
    numbers = {way: lambda other, _, way=way: other == way for way in truth}
    numbers |= {pair: lambda other, _, pair=pair: pair in pairwise(other) for pair in product(ZONES, repeat=2)}
    for zone in ZONES:
        numbers |= {
            ("dwelt", zone): lambda other, _, zone=zone: zone in other,
            ("rare", zone): lambda other, name, zone=zone: REST in name and zone not in name and zone in other,
            ("rare, not", zone): lambda other, name, zone=zone: REST in name and zone not in other,
        }
    numbers |= {("class", name): lambda _, other, name=name: other == name for name in told}
    for what, counts in numbers.items():
        number = sum(counts(way, names[way]) * often for way, often in truth.items() if way in names)
        if 0 < number < K:
            cost = np.array([float(counts(way, name)) for way, name in unknowns])
            left, right = np.array([row for row, _ in equations]), np.array([often for _, often in equations])
            low, high = (
                sign * linprog(sign * cost, A_eq=left, b_eq=right, bounds=(0, None), method="highs").fun
                for sign in (1, -1)
            )
            assert high - low >= 1, (what, number, low, high)


def _row(number, zones):
    at = DAYS[0] + timedelta(hours=10)
    stays = tuple(
        Stay(zone, at + timedelta(seconds=40 * n), at + timedelta(seconds=40 * n + 30)) for n, zone in enumerate(zones)
    )
    return VisitRow(
        site="shop",
        visit=str(number),
        person=None,
        start=at,
        end=at + timedelta(seconds=300),
        entered=None,
        left=None,
        cameras=(),
        stays=stays,
        sightings=(),
        probability=None,
    )


def test_what_is_told_of_zones_holds_beside_what_is_told_of_ways():
    """12 went to the wine alone; of 4 who went rare ways 3 came to the wine, too: 15 would tell of these 3."""
    rows = [_row(n, ("wine",)) for n in range(12)]
    rows += [
        _row(20 + n, way) for n, way in enumerate([("beer", "wine"), ("till", "wine"), ("till", "beer", "wine"), ()])
    ]
    names = classes(Counter(tuple(stay.zone for stay in row.stays) for row in rows), k=K)
    labelled = {row.visit: ((), names[tuple(stay.zone for stay in row.stays)]) for row in rows}
    assert released._dwell(rows, labelled, K)["wine"]["visits"] == 12
    assert privacy.split_well(3, 4, k=4) is False


def test_each_days_table_is_of_groups_of_k(shop):
    fill(
        shop,
        [[(("wine",), ("door", "aisle"), 9), (("wine", "till"), ("aisle",), 2), (("beer",), ("door", "aisle"), 5)], []],
    )
    refresh(shop, SHOP, now=NOW)
    day = Period(DAYS[0], DAYS[0] + DAY)
    (ways,) = released.told(shop, SHOP, "ways", day)
    assert {tuple(map(tuple, json.loads(name))): often for name, often in ways.items()} == {
        ((REST,), ("wine", REST)): 11,
        (("door", "aisle"), ("beer",)): 5,
    }
    (heat,) = released.told(shop, SHOP, "heat", day)
    assert all(visits == 0 or visits >= K for view in heat.values() for visits in view["visits"])
    assert all(
        seconds == 0
        for view in heat.values()
        for seconds, visits in zip(view["seconds"], view["visits"], strict=True)
        if not visits
    )
