"""The web application: who is let in, what it answers, and how its errors look."""

import asyncio
import csv
import importlib
import io
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import httpx
import numpy as np
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from prometheus_client.parser import text_string_to_metric_families

from passerby.service import kept
from passerby.service.app import EXAMPLES, create_app
from passerby.service.auth import Principal
from passerby.service.kept import Gap
from passerby.service.live import CameraState, Live
from passerby.service.outlets import signature
from passerby.service.rollups import refresh
from passerby.service.routes import state as state_room
from passerby.service.store import Store
from passerby.shop import Link
from passerby.site import load_site
from passerby.vision.associate import Changes
from test_store import at, key, seen, shop_of, visit

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "dev"))
example_shop = importlib.import_module("http_examples")

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # 13:00 in Paris
SHOP = shop_of(k=1)
ROLES = {"pb_admin": "administrator", "pb_analyst": "analyst", "pb_auditor": "auditor"}


def authenticate(request):
    """A key a role, in the header: what auth.authenticate does, without a store of keys."""
    given = request.headers.get("authorization", "").removeprefix("Bearer ") or request.headers.get("x-api-key", "")
    return Principal(given, ROLES[given], None, "key") if given in ROLES else None


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, at):
        self.at = at

    def __call__(self):
        return self.at


@pytest.fixture
def clock():
    return Clock(NOON)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "shop.sqlite") as opened:
        opened.put_site(SHOP)
        yield opened


@pytest.fixture
def live(clock):
    return Live(SHOP, clock=clock)


@pytest.fixture
def app(store, live, clock):
    return create_app(site=SHOP, store=store, live=live, authenticate=authenticate, clock=clock)


def ask(app, path, *, key="pb_admin", method="GET", **more):
    """One request to the application, in this process."""

    async def asked():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        headers = more.pop("headers", {}) | ({"Authorization": f"Bearer {key}"} if key else {})
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers=headers, **more)

    return asyncio.run(asked())


def state(camera, newest, *, phase="live", reason="frames come", lag_s=0.4):
    return CameraState(camera, phase, reason, NOON, newest, 5.0, lag_s, 100, 2, 3, 1)


# Who is let in


def test_health_needs_no_key_and_tells_whether_data_flowed_in_the_last_minute(app, live, clock):
    answer = ask(app, "/health", key=None)
    assert (answer.status_code, answer.json()["status"]) == (503, "failed")
    live.cameras([state("door", NOON), state("aisle", NOON - timedelta(minutes=5))])
    answer = ask(app, "/health", key=None)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    clock.at += timedelta(seconds=61)
    assert ask(app, "/health", key=None).status_code == 503


@pytest.mark.parametrize("path", ["/api/v1/live", "/api/v1/openapi.json", "/metrics", "/", "/nothing", "/healthy"])
def test_everything_else_needs_a_key_and_says_so(app, path):
    for key_ in (None, "pb_wrong"):
        answer = ask(app, path, key=key_)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == "Bearer"


def test_either_header_carries_the_key(app):
    assert ask(app, "/api/v1/live").status_code == 200
    assert ask(app, "/api/v1/live", key=None, headers={"X-API-Key": "pb_admin"}).status_code == 200


def test_a_browser_without_a_session_is_sent_to_the_login_page(app):
    answer = ask(app, "/api/v1/exports/report.html?from=2026-03-02", key=None, headers={"Accept": "text/html"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2Fapi%2Fv1%2Fexports%2Freport.html%3Ffrom%3D2026-03-02"


def test_no_route_is_open_but_health(app):
    routes = [(path, method) for path, of in app.openapi()["paths"].items() for method in of if path != "/health"]
    assert len(routes) > 20
    for path, method in routes:
        for parameter in ("camera", "session", "table"):
            path = path.replace(f"{{{parameter}}}", "footfall")
        path = path.replace("{track}", "1").replace("{form}", "csv")
        for key_ in (None, "pb_wrong"):
            assert ask(app, path, key=key_, method=method.upper()).status_code == 401, path


def test_a_role_without_the_permission_is_refused(app, live):
    live.show("door", b"jpeg", NOON)
    assert ask(app, "/api/v1/cameras/door/picture").status_code == 200
    answer = ask(app, "/api/v1/cameras/door/picture", key="pb_analyst")
    assert answer.status_code == 403
    assert answer.json()["title"] == "Forbidden"


def test_a_caller_who_asks_too_often_is_told_to_wait(store, live, clock):
    app = create_app(site=SHOP, store=store, live=live, authenticate=authenticate, clock=clock, rate=1.0, burst=3.0)
    assert [ask(app, "/api/v1/live").status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = ask(app, "/api/v1/live")
    assert answer.headers["retry-after"] == "2"
    assert ask(app, "/api/v1/live", key="pb_analyst").status_code == 200  # each key has its own
    clock.at += timedelta(seconds=2)
    assert [ask(app, "/api/v1/live").status_code for _ in range(3)] == [200, 200, 429]
    clock.at -= timedelta(hours=1)  # a clock set back gives nothing, and takes nothing
    assert ask(app, "/api/v1/live").status_code == 429


def test_who_guesses_keys_is_not_even_listened_to_any_more(store, live, clock):
    tried = []

    def counted(request):
        tried.append(request)
        return authenticate(request)

    app = create_app(site=SHOP, store=store, live=live, authenticate=counted, clock=clock, rate=1.0, burst=3.0)
    assert [ask(app, "/api/v1/live", key=f"pb_{n}").status_code for n in range(5)] == [401, 401, 401, 429, 429]
    assert len(tried) == 3


def test_a_body_that_is_too_large_is_refused_also_when_its_length_is_not_said(store, live, clock):
    from fastapi import APIRouter, Request

    pages = APIRouter()

    @pages.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    app = create_app(
        site=SHOP, store=store, live=live, authenticate=authenticate, clock=clock, pages=pages, most_bytes=100
    )

    async def pieces():
        for _ in range(3):
            yield b"x" * 50

    assert ask(app, "/echo", method="POST", content=b"x" * 100).json() == 100
    assert ask(app, "/echo", method="POST", content=b"x" * 101).status_code == 413
    answer = ask(app, "/echo", method="POST", content=pieces())
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


def test_every_answer_carries_the_headers_of_safety(app):
    for path, key_ in (("/health", None), ("/api/v1/live", "pb_admin"), ("/api/v1/live", None)):
        headers = ask(app, path, key=key_).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "script-src 'self';" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"


# How errors look


def test_each_error_has_the_one_shape(app):
    for path, status in (("nothing", 404), ("live?form=2", 422), ("cameras/roof/picture", 404)):
        answer = ask(app, f"/api/v1/{path}")
        body = answer.json()
        assert answer.status_code == body["status"] == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(body) == {"type", "title", "status", "detail", "instance", "errors"}
        assert body["instance"] == f"/api/v1/{path}".partition("?")[0]
    answer = ask(app, "/api/v1/live", method="DELETE")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_a_fault_of_ours_says_so_and_tells_nothing_of_the_inside(app, live, monkeypatch):
    monkeypatch.setattr(live, "now", lambda: 1 / 0)
    answer = ask(app, "/api/v1/live")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "division" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_store_that_cannot_be_read_is_503_and_its_place_is_not_told(tmp_path, live, clock, caplog):
    with Store(tmp_path / "broken.sqlite") as store:
        store.put_site(SHOP)
        app = create_app(site=SHOP, store=store, live=live, authenticate=authenticate, clock=clock)
        with sqlite3.connect(tmp_path / "broken.sqlite") as connection:
            connection.execute("DROP TABLE sightings")
        connection.close()
        answer = ask(app, "/api/v1/sites")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "broken.sqlite" not in answer.text
    assert "no such table" in caplog.text


def test_a_parameter_that_is_not_known_or_comes_twice_is_refused(app):
    answer = ask(app, "/api/v1/live?form=2026-03-02")
    assert answer.json()["errors"] == [{"where": "query: form", "what": "unknown parameter; known are: none"}]


# The state


def test_a_site_names_its_places_and_what_is_known_of_it(app, store):
    (site,) = ask(app, "/api/v1/sites").json()
    assert site == {
        "name": "shop",
        "time_zone": "Europe/Paris",
        "cameras": ["door", "aisle"],
        "zones": ["wine"],
        "doors": ["entry"],
        "known_from": None,
        "known_to": None,
    }
    store.write(sightings=[seen("door", 0, 9)])
    (site,) = ask(app, "/api/v1/sites").json()
    assert (site["known_from"], site["known_to"]) == ("2026-03-02T11:00:00+01:00", "2026-03-02T11:00:09+01:00")


def test_a_camera_tells_its_rate_its_lag_and_its_dropped_frames(app, live):
    live.cameras([state("door", NOON, phase="stalled", reason="no frame for 40 s, connecting again")])
    live.show("door", b"jpeg", NOON)
    door, aisle = ask(app, "/api/v1/cameras").json()
    assert (door["phase"], door["reason"]) == ("stalled", "no frame for 40 s, connecting again")
    assert (door["rate"], door["lag_s"], door["dropped"], door["picture"]) == (5.0, 0.4, 2, True)
    assert door["newest"] == "2026-03-02T13:00:00+01:00"
    assert (aisle["camera"], aisle["phase"], aisle["picture"]) == ("aisle", None, False)


def test_the_newest_picture_of_a_camera_is_given_as_it_came(app, live):
    assert ask(app, "/api/v1/cameras/door/picture").status_code == 404
    assert ask(app, "/api/v1/cameras/roof/picture").status_code == 404
    live.show("door", b"jpeg", NOON)
    answer = ask(app, "/api/v1/cameras/door/picture")
    assert (answer.content, answer.headers["content-type"]) == (b"jpeg", "image/jpeg")
    assert answer.headers["x-taken-at"] == "2026-03-02T13:00:00+01:00"


def test_live_speaks_the_site_s_time_zone(app):
    now = ask(app, "/api/v1/live").json()
    assert (now["time_zone"], now["at"], now["day"]) == (
        "Europe/Paris",
        "2026-03-02T13:00:00+01:00",
        "2026-03-02T00:00:00+01:00",
    )


# The example shop: ann (twice), bob and cy of docs/metrics.md, at the till a queue, in the aisle a gap


@pytest.fixture(scope="module")
def shop():
    with example_shop.example_app() as app:
        yield app


def get(shop, path, **query):
    answer = ask(shop, f"/api/v1/{path}", key=example_shop.KEY, params={k.rstrip("_"): v for k, v in query.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()


MORNING = {"from_": "2026-03-02T10:00", "to": "2026-03-02T12:00"}
HOURS = {**MORNING, "group_by": "hour"}


def test_every_route_has_an_example_that_is_answered_as_the_openapi_says():
    """`python scripts/dev/http_examples.py` writes them anew."""
    examples = json.loads(EXAMPLES.read_text())
    with example_shop.example_app() as fresh:
        assert example_shop.answers(fresh) == examples
        paths = fresh.openapi()["paths"]
    described = {f"{method.upper()} {path}": said for path, of in paths.items() for method, said in of.items()}
    assert set(described) == set(examples)
    for route, said in described.items():
        example = examples[route]
        given = example.get("query", {}) | example.get("path", {})
        assert said["responses"]["200"]["content"][example["media"]].get("example") == example.get("answer"), route
        assert all(each.get("example") == given.get(each["name"]) for each in said.get("parameters", ())), route
        assert all(each["name"] in given for each in said.get("parameters", ()) if each["required"]), route
        assert ("requestBody" in said) == ("body" in example or "file" in example), route
        if "body" in example:
            assert said["requestBody"]["content"]["application/json"]["example"] == example["body"]


def test_entries_and_exits_by_the_hour(shop):
    found = get(shop, "metrics/footfall", **HOURS)
    assert [
        (row["from"][11:16], row["value"]["entries"]["value"], row["value"]["exits"]["value"]) for row in found["rows"]
    ] == [
        ("10:00", 2, 1),
        ("11:00", 2, 3),
    ]
    assert (found["value"]["entries"]["value"], found["value"]["exits"]["value"]) == (4, 4)
    by_visits = [(row["value"]["entries_by_visits"], row["value"]["exits_by_visits"]) for row in found["rows"]]
    assert [(came["value"], went["value"]) for came, went in by_visits] == [(2, 1), (2, 3)]
    assert all(each["low"] is not None for pair in by_visits for each in pair)
    assert (found["value"]["passers_by"]["value"], found["value"]["capture_share"]["value"]) == (8, 0.5)
    assert found["time_zone"] == "Europe/Paris"
    assert found["from"] == "2026-03-02T10:00:00+01:00"


def test_persons_do_not_add_up_and_the_answer_says_why(shop):
    found = get(shop, "metrics/persons", **HOURS)
    hours = [row["value"]["persons"] for row in found["rows"]]
    nothing = {"low": None, "high": None}  # draws of people count staff and passers-by, who are left out here
    assert hours == [{"value": 2, **nothing}, {"value": 2, **nothing}]
    assert found["value"]["persons"]["value"] == 3
    assert found["notes"][0].startswith("Persons do not add up")


def test_a_gap_is_named_and_its_hour_is_not_whole(shop):
    found = get(shop, "metrics/visits", **HOURS)
    (gap,) = found["gaps"]
    assert (gap["camera"], gap["kind"], gap["from"], gap["to"]) == (
        "aisle",
        "down",
        "2026-03-02T11:50:00+01:00",
        "2026-03-02T12:05:00+01:00",
    )
    assert [(row["whole"], round(row["missing"], 3)) for row in found["rows"]] == [(True, 0), (False, 0.167)]
    assert found["intervals"] == {"count": 2, "whole": 1, "unfinished": 0, "with_gaps": 1}
    assert get(shop, "metrics/footfall", **HOURS)["intervals"]["whole"] == 2  # the door's camera saw all of it


def test_what_may_still_change_is_live_and_what_may_not_is_settled(shop):
    assert get(shop, "metrics/visits", **MORNING)["state"] == "live"
    assert get(shop, "metrics/visits", from_="2026-02-23", to="2026-02-23")["state"] == "settled"


def test_a_day_that_has_not_ended_is_compared_up_to_the_same_minute(shop):
    found = get(shop, "metrics/visits", compare="before")
    assert found["intervals"]["unfinished"] == 1
    before = found["before"]
    assert (before["from"], before["to"]) == ("2026-02-23T00:00:00+01:00", "2026-02-23T13:30:00+01:00")
    assert (found["value"]["visits"]["value"], before["value"]["visits"]["value"]) == (4, 1)


def test_hours_that_have_not_come_are_not_0_but_left_out(shop):
    rows = get(shop, "metrics/footfall", group_by="hour")["rows"]
    assert [rows[-1]["from"][11:16], rows[-1]["whole"]] == ["13:00", False]
    answer = ask(shop, "/api/v1/metrics/footfall?from=2026-03-03&to=2026-03-03", key=example_shop.KEY)
    assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, "query: from")


def test_days_and_weeks_are_those_of_the_site_s_clock(shop):
    found = get(shop, "metrics/visits", from_="2026-02-18", to="2026-03-02", group_by="week")
    assert [(row["from"][:10], row["value"]["visits"]["value"]) for row in found["rows"]] == [
        ("2026-02-18", 0),
        ("2026-02-23", 1),
        ("2026-03-02", 4),
    ]
    days = get(shop, "metrics/visits", from_="2025-10-26", to="2025-10-26", group_by="hour")["rows"]
    assert len(days) == 25


def test_dwell_of_one_zone(shop):
    (wine,) = get(shop, "metrics/dwell", **MORNING, zone="wine")["value"]
    assert (wine["visits"]["value"], wine["stays"]["count"], wine["stays"]["median_s"]["value"]) == (2, 2, 135)
    assert get(shop, "metrics/visits", **MORNING, zone="wine")["value"]["visits"]["value"] == 2


def test_ways_a_funnel_groups_queues_and_sales(shop):
    paths = get(shop, "metrics/paths", **MORNING)["value"]
    assert (paths[0]["places"], paths[0]["visits"]["value"]) == (["door", "aisle", "door"], 2)
    ways = get(shop, "metrics/transitions", **MORNING, by_zone="true")["value"]
    assert {"origin": "wine", "target": "till"}.items() <= next(w for w in ways if w["target"] == "till").items()
    funnel = get(shop, "metrics/funnel", **MORNING, step="wine,till")["value"]
    assert [(each["zone"], each["visits"]["value"]) for each in funnel] == [("wine", 2), ("till", 1)]
    assert get(shop, "metrics/groups", **MORNING)["value"]["sizes"] == {"1": 4}
    (till,) = get(shop, "metrics/queues", **MORNING)["value"]
    assert (till["zone"], till["most"]["value"], till["waiting_s"]["median_s"]["value"]) == ("till", 1, 150)
    assert get(shop, "metrics/conversion", **MORNING)["value"]["by_visits"]["value"] == 0.25
    (mall,) = get(shop, "metrics/counts", **HOURS)["rows"][0]["value"]
    assert (mall["line"], mall["entries"]["value"], mall["missing"]) == ("mall", 40, 0)


def test_where_people_stood_in_a_picture(shop):
    seconds = get(shop, "metrics/heat", **MORNING, camera="aisle", columns=4, rows=2)["seconds"]
    assert seconds == [[0, 6, 0, 0], [0, 6, 6, 0]]  # three paths of two points at the left and one at the right


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("metrics/visits?from=2026-3-2", "query: from"),
        ("metrics/visits?from=2026-03-02&to=2026-03-01", "query: from"),
        ("metrics/visits?from=1999-01-01", "query: from"),
        ("metrics/visits?from=2026-03-02T10:00%2B99:00", "query: from"),
        ("metrics/visits?from=2001-01-01&group_by=hour", "query: to"),
        ("metrics/visits?from=2025-01-01&group_by=hour", "query: group_by"),
        ("metrics/visits?group_by=minute", "query: group_by"),
        ("exports/report.html?from=2025-01-01&group_by=hour", "query: group_by"),
        ("metrics/visits?zone=win", "query: zone"),
        ("metrics/visits?groupby=hour", "query: groupby"),
        ("metrics/visits?zone=wine&zone=beer", "query: zone"),
        ("metrics/funnel", "query: step"),
        ("metrics/funnel?step=wine,win", "query: step"),
        ("metrics/heat?camera=roof", "query: camera"),
        ("visits?limit=0", "query: limit"),
        ("visits?limit=501", "query: limit"),
        ("visits?cursor=none", "query: cursor"),
        ("exports/visits.xls", "path: form"),
        ("tracks/door/s1/0/why", "path: track"),
    ],
)
def test_what_cannot_be_answered_is_refused_and_says_where(shop, path, where):
    answer = ask(shop, f"/api/v1/{path}", key=example_shop.KEY)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["where"] == where


def test_the_nearest_parameter_is_named(shop):
    answer = ask(shop, "/api/v1/metrics/visits?groupby=hour", key=example_shop.KEY)
    assert answer.json()["detail"] == "query: groupby: unknown parameter; did you mean 'group_by'?"


# Visits, and why


def test_visits_come_a_page_at_a_time_each_once(shop):
    names, cursor = [], {}
    for _ in range(3):
        page = get(shop, "visits", from_="2026-02-23", to="2026-03-02", limit=2, **cursor)
        names.append([each["visit"] for each in page["visits"]])
        cursor = {"cursor": page["next"]}
    assert names == [["s0-1", "s1-1"], ["s1-2", "s1-3"], ["s1-4"]]
    assert page["next"] is None


def test_visits_that_start_at_one_moment_are_all_there(app, store):
    store.write(
        sightings=[seen("door", 0, 9, track=n) for n in range(1, 6)],
        visits=[visit(name, key("door", n)) for n, name in enumerate("caebd", 1)],
    )
    names, query = [], {"limit": 2}
    while True:
        page = get_(app, "visits", **query)
        names += [each["visit"] for each in page["visits"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert names == list("abcde")


def get_(app, path, **query):
    answer = ask(app, f"/api/v1/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_visit_tells_its_way_and_its_stays_by_the_site_s_clock(shop):
    (ann, _) = get(shop, "visits", limit=2)["visits"]
    assert ann["cameras"] == ["door", "aisle", "till", "door"]
    assert ann["entered"] == "2026-03-02T10:00:02+01:00"
    assert ann["stays"][0] == {
        "zone": "wine",
        "start": "2026-03-02T10:02:00+01:00",
        "end": "2026-03-02T10:06:00+01:00",
    }
    assert ann["probability"] == 0.93


def because(app, path):
    found = get_(app, f"tracks/{path}/why")
    return found["counted"], " ".join(found["because"])


def test_why_a_track_was_counted(shop):
    found = get(shop, "tracks/door/s1/1/why")
    assert found["counted"]
    said = " ".join(found["because"])
    assert "crossed 'entry' inwards at 2026-03-02 10:00:02 +0100: counted as an entry" in said
    assert "belongs to visit s1-1, with 3 other sightings" in said
    assert "No earlier sighting is the same person with a probability of 65% or more" in said


def test_why_a_track_was_not_counted(app, store):
    link = Link(key("door"), key("aisle"), 1, 0.72, key("door", 2), 0.2)
    store.write(
        sightings=[
            seen("door", 0, 9),
            seen("door", 0, 9, track=2, state="withdrawn"),
            seen("aisle", 20, 60),
            seen("aisle", 70, 90, track=2),
            seen("door", 100, 110, track=3, crossings=[("entry", 105, False)]),
        ],
        links=[link, Link(key("aisle"), key("aisle", 2), 1, 0.4)],
        visits=[
            visit("v", key("door"), key("aisle")),
            visit("w", revision=2, merged_into="v"),
            visit("x", key("aisle", 2), split_from="v"),
        ],
    )
    kept.put_gaps(store, "shop", [Gap("aisle", at(30), at(40), "degraded", "too dark")])
    counted, said = because(app, "door/s/2")
    assert not counted
    assert "It was withdrawn" in said
    counted, said = because(app, "aisle/s/1")
    assert counted
    assert "linked to door/s/1, with a probability of 72%; the next best was door/s/2, with 20%." in said
    assert "took in w, which began as visits of their own" in said
    assert "crossed no door" in said
    assert "camera 'aisle' was degraded" in said
    assert "too dark" in said
    counted, said = because(app, "aisle/s/2")
    assert counted
    assert "It was linked to aisle/s/1 once, with a probability of 40%; that was taken back." in said
    assert "split from v" in said
    counted, said = because(app, "door/s/3")
    assert not counted
    assert "outwards at" in said
    assert "It belongs to no visit" in said
    answer = ask(app, "/api/v1/tracks/door/s/9/why")
    assert answer.status_code == 404
    assert "lasted 1 s" in answer.json()["detail"]


# What others tell


def test_sales_that_a_till_tells_are_kept_once_by_the_site_s_clock(app):
    told = [{"from": "2026-03-02T10:00", "to": "2026-03-02T11:00", "sales": 7}]
    assert ask(app, "/api/v1/sales", method="POST", json=told).json() == {"records": 1, "new": 1}
    assert ask(app, "/api/v1/sales", method="POST", json=[{**told[0], "sales": 8}]).json() == {"records": 1, "new": 0}
    rows = get_(app, "metrics/conversion", **{"from": "2026-03-02T10:00", "to": "2026-03-02T11:00"})
    assert rows["value"]["sales"]["value"] == 8


def test_an_audit_that_is_told_gives_entries_their_interval(app, store):
    sighting = seen("door", 0, 800, crossings=[("entry", second, True) for second in range(10, 210, 2)])
    store.write(sightings=[sighting])
    before = get_(app, "metrics/footfall")["value"]["entries_estimated"]
    told = [{"line": "entry", "from": "2026-03-02T11:00", "to": "2026-03-02T11:15", "entries": 100, "exits": 0}]
    assert ask(app, "/api/v1/audits", method="POST", json=told).json() == {"records": 1, "new": 1}
    (kept_,) = kept.audits(store, "shop")
    assert (kept_.entries, kept_.by, kept_.start) == (100, "pb_admin", at(0))
    after = get_(app, "metrics/footfall")["value"]["entries_estimated"]
    assert after["high"] - after["low"] < before["high"] - before["low"]


@pytest.mark.parametrize(
    ("path", "told", "where"),
    [
        ("sales", [], "body"),
        ("sales", [{"from": "2026-03-02T11:00", "to": "2026-03-02T10:00", "sales": 1}], "body: 0: from"),
        ("sales", [{"from": "2026-03-02T11:00", "to": "2026-03-02T12:00", "sales": -1}], "body: 0: sales"),
        ("sales", [{"from": "2026-03-02T11:00", "to": "2026-03-02T12:00", "sales": 1, "tills": "1"}], "body: 0: tills"),
        (
            "audits",
            [{"line": "x", "from": "2026-03-02", "to": "2026-03-03", "entries": 1, "exits": 1}],
            "body: 0: line",
        ),
    ],
)
def test_what_cannot_have_been_told_is_refused_and_changes_nothing(app, store, path, told, where):
    answer = ask(app, f"/api/v1/{path}", method="POST", json=told)
    assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, where)
    assert (kept.sales(store, "shop"), kept.audits(store, "shop")) == ([], [])
    assert ask(app, f"/api/v1/{path}", method="POST", json=told, key="pb_analyst").status_code == 403


# Files


def test_a_table_is_the_same_in_csv_json_and_parquet(shop, tmp_path):
    import pyarrow.parquet as pq

    base, query = "/api/v1/exports/footfall", "?from=2026-03-02T10:00&to=2026-03-02T12:00&group_by=hour"
    text = ask(shop, f"{base}.csv{query}", key=example_shop.KEY).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["from"], row["entries"], row["persons"]) for row in rows] == [
        ("2026-03-02T10:00:00+01:00", "2", "2"),
        ("2026-03-02T11:00:00+01:00", "2", "2"),
    ]
    as_json = ask(shop, f"{base}.json{query}", key=example_shop.KEY).json()
    assert [(row["from"], row["entries"]) for row in as_json] == [(row["from"], int(row["entries"])) for row in rows]
    content = ask(shop, f"{base}.parquet{query}", key=example_shop.KEY).content
    table = pq.read_table(io.BytesIO(content)).to_pylist()
    assert [(row["from"].isoformat(), row["entries"]) for row in table] == [
        ("2026-03-02T09:00:00+00:00", 2),
        ("2026-03-02T10:00:00+00:00", 2),
    ]


def test_visits_are_the_same_in_csv_json_and_parquet(shop):
    import pyarrow.parquet as pq

    found = {}
    for form in ("csv", "json", "parquet"):
        answer = ask(shop, f"/api/v1/exports/visits.{form}?from=2026-03-02", key=example_shop.KEY)
        assert answer.headers["content-disposition"] == f'attachment; filename="visits.{form}"'
        found[form] = answer
    rows = list(csv.DictReader(io.StringIO(found["csv"].text)))
    assert [(row["visit"], row["dwell_s"]) for row in rows] == [
        ("s1-1", "390.0"),
        ("s1-2", "0.0"),
        ("s1-3", "600.0"),
        ("s1-4", "30.0"),
    ]
    assert [row["visit"] for row in found["json"].json()] == [row["visit"] for row in rows]
    assert [row["visit"] for row in pq.read_table(io.BytesIO(found["parquet"].content)).to_pylist()] == [
        row["visit"] for row in rows
    ]


def test_a_table_of_which_there_is_nothing_is_404(app):
    assert ask(app, "/api/v1/exports/queues.csv").status_code == 404


def test_the_printable_report_is_one_page_without_a_script_in_the_site_s_time_zone(shop):
    answer = ask(shop, "/api/v1/exports/report.html?from=2026-03-02", key=example_shop.KEY)
    assert "Europe/Paris" in answer.text
    assert "<script" not in answer.text
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_who_may_not_see_people_sees_no_visits_and_no_ways(app):
    for path in ("visits", "metrics/dwell", "metrics/paths", "exports/visits.csv", "tracks/door/s/1/why"):
        assert ask(app, f"/api/v1/{path}", key="pb_auditor").status_code == 403, path
    assert ask(app, "/api/v1/metrics/footfall", key="pb_auditor").status_code == 200


# A few people


@pytest.fixture
def shy(tmp_path, live, clock):
    """A shop of k = 3 without a door, on a day with two visits that dwelt, and on the day before with three."""
    site = replace(SHOP, k=3, lines=())
    with Store(tmp_path / "shy.sqlite") as opened:
        opened.put_site(site)
        for day, count in ((0, 2), (-86400, 3)):
            tracks = [n + (10 if day else 0) for n in range(1, count + 1)]
            opened.write(
                sightings=[
                    seen(
                        "aisle",
                        day,
                        day + 60,
                        track=n,
                        stays=[("wine", day + 1, day + 31)],
                        path=[(0, 0.5, 0.5), (1, 0.5, 0.5)],
                    )
                    for n in tracks
                ],
                visits=[visit(f"v{n}", key("aisle", n), since_s=day, until_s=day + 60, person=f"p{n}") for n in tracks],
            )
        clock.at = NOON + timedelta(days=1)
        refresh(opened, site, now=clock.at)
        yield create_app(site=site, store=opened, live=live, authenticate=authenticate, clock=clock)


def test_what_a_few_people_did_is_withheld_and_how_many_they_were_is_not(shy):
    for day, few in (("2026-03-02", True), ("2026-03-01", False)):
        query = {"from": day, "to": day}
        counts = get_(shy, "metrics/visits", **query)["value"]
        assert counts["visits"]["value"] == (2 if few else 3)
        assert (counts["durations_s"] is None, counts["bounce_share"] is None) == (few, few)
        assert (get_(shy, "metrics/visits", zone="wine", **query)["value"]["visits"] is None) == few
        assert get_(shy, "metrics/persons", zone="wine", **query)["value"]["persons"] is None
        for name in ("dwell", "paths", "transitions"):
            found = get_(shy, f"metrics/{name}", **query)
            assert (found["value"] == []) == few, name
            assert "fewer than 3 visits" in found["notes"][-1]
        assert (get_(shy, "metrics/funnel", step="wine", **query)["value"][0]["visits"] is None) == few
        assert (get_(shy, "metrics/heat", camera="aisle", **query)["seconds"] == []) == few
        visits = get_(shy, "visits", **query)["visits"]
        assert len(visits) == (2 if few else 3)
        for each in visits:
            assert (each["person"] is None, each["stays"] == [], each["sightings"] == []) == (few, few, few)
        track = 1 if few else 11
        assert ask(shy, f"/api/v1/tracks/aisle/s/{track}/why").status_code == (404 if few else 200)
        rows = list(csv.DictReader(io.StringIO(ask(shy, f"/api/v1/exports/visits.csv?from={day}&to={day}").text)))
        assert [row["person"] == "" for row in rows] == [few] * len(visits)
        summary = ask(shy, f"/api/v1/exports/summary.json?from={day}&to={day}").json()
        value = {row["figure"]: row["value"] for row in summary}
        assert value["visits"] == len(visits)
        assert (value["visit, median"] is None) == few
        page = ask(shy, f"/api/v1/exports/report.html?from={day}&to={day}").text
        assert ("wine" in page) != few


# Prometheus


def test_prometheus_metrics_are_scraped_and_parsed(shop):
    answer = ask(shop, "/metrics", key=example_shop.KEY)
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    value = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert value["passerby_crossings_total", "in"] == 4
    assert value["passerby_zone_people", "beer"] == 1
    assert value["passerby_camera_live", "till"] == 0
    assert value["passerby_camera_age_seconds", "till"] == 70
    assert ("passerby_camera_lag_seconds", "till") not in value  # not known is not 0
    assert value["passerby_camera_dropped_total", "door"] == 12
    assert families["passerby_crossings"].type == "counter"


# Events


def events_of(text):
    """The events of a stream's text, as (kind, id, data)."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], fields["id"], json.loads(fields["data"])))
    return found


def test_a_stream_of_events_begins_with_the_whole_state_and_resumes_after_the_last_one(app, live):
    live.close()  # streams end after what there is to say
    answer = ask(app, "/api/v1/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    ((kind, first, state_),) = events_of(answer.text)
    assert kind == "state"
    assert state_ == ask(app, "/api/v1/live").json()
    live.tell([seen("door", 0, 9, crossings=[("entry", 2, True)])], Changes())
    resumed = events_of(ask(app, "/api/v1/events", headers={"Last-Event-ID": first}).text)
    assert [kind for kind, _, _ in resumed] == ["crossing", "counts"]
    assert resumed[0][2]["at"] == "2026-03-02T11:00:02+01:00"
    assert resumed[1][2]["entries"] == 1


def test_too_many_streams_are_refused_before_they_begin(app, live, monkeypatch):
    monkeypatch.setattr(state_room, "STREAMS", 0)
    answer = ask(app, "/api/v1/events")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")


def test_what_is_kept_by_the_hour_is_answered_as_what_is_counted(tmp_path):
    """Every metric, of two days that are over, in whole seconds: before figures are kept, and afterwards."""
    later = example_shop.NOW + timedelta(days=1)
    metrics = [route.split()[1] for route in example_shop.ASKED if "/metrics/" in route and "/heat" not in route]
    with Store(tmp_path / "shop.sqlite") as filled:
        example_shop.fill(filled)
        shop = create_app(
            site=example_shop.SHOP,
            store=filled,
            live=Live(example_shop.SHOP, clock=lambda: later),
            authenticate=example_shop.authenticate,
            clock=lambda: later,
        )

        def answers():
            found = {}
            for path in metrics:
                more = "&step=wine,till" if path.endswith("funnel") else ""
                days = (("02", "hour", ""), ("02", "day", "&compare=before"))
                zones = ("", "&zone=wine") if path.rsplit("/", 1)[1] in ("visits", "persons", "paths") else ("",)
                for day, by, compare in days:
                    for zone in zones:
                        query = f"from=2026-03-{day}&to=2026-03-{day}&group_by={by}{compare}{zone}{more}"
                        found[path, query] = ask(shop, f"{path}?{query}", key=example_shop.KEY).json()
            return found

        counted = answers()
        assert refresh(filled, example_shop.SHOP, now=later) == 8  # from Monday to Monday
        assert answers() == counted
        assert counted["/api/v1/metrics/visits", "from=2026-03-02&to=2026-03-02&group_by=hour"]["value"]["visits"][
            "value"
        ]


# Search by picture


def search(app, content, *, key="pb_admin", name="picture"):
    return ask(app, "/api/v1/search", method="POST", key=key, files={name: ("crop.png", content, "image/png")})


@pytest.fixture
def searched():
    with example_shop.example_app() as shop:
        yield lambda content, **more: search(shop, content, key=example_shop.KEY, **more)


def test_a_picture_finds_the_visit_of_whom_it_shows_and_says_how_surely(searched):
    found = searched(example_shop.crop()).json()
    assert (found["among"], found["visits"][0]["visit"], found["visits"][0]["start"]) == (
        3,
        "s1-3",
        "2026-03-02T11:04:55+01:00",
    )
    assert sum(each["probability"] for each in found["visits"]) + found["unknown"] == pytest.approx(1)
    assert found["visits"][0]["probability"] > 0.9
    nothing = example_shop.cv2.imencode(".png", np.full((128, 64, 3), 99, np.uint8))[1].tobytes()
    said = searched(nothing).json()  # a picture that shows nothing says nothing
    assert said["unknown"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        example_shop.crop()[:400],
        example_shop.cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes(),
        example_shop.cv2.imencode(".png", np.zeros((2001, 2000, 3), np.uint8))[1].tobytes(),
    ],
    ids=["nothing", "another kind", "a head alone", "half", "one pixel", "too many pixels"],
)
def test_what_is_no_whole_picture_of_one_person_is_refused(searched, content):
    answer = searched(content)
    assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, "body: picture")


def test_a_search_of_too_many_bytes_or_without_a_picture_is_refused(searched):
    assert searched(example_shop.crop() + bytes(2**20)).status_code == 413
    assert searched(example_shop.crop(), name="photo").status_code == 422


def test_who_searches_too_often_has_to_wait(searched):
    status = [searched(example_shop.crop()) for _ in range(11)]
    assert [each.status_code for each in status] == [200] * 10 + [429]
    assert status[-1].headers["retry-after"] == "61"


def test_where_nobody_is_followed_a_search_says_so(app):
    assert search(app, example_shop.crop()).status_code == 503
    assert search(app, example_shop.crop(), key="pb_analyst").status_code == 403


# What nobody thought of


@pytest.mark.slow
@pytest.mark.parametrize("route", example_shop.ASKED)
def test_no_request_makes_it_fail_or_answer_what_is_not_described(route):
    """schemathesis asks what the OpenAPI allows and what it does not; a day after another may be refused, and says so."""
    method, path = route.split()
    key_ = {"Authorization": f"Bearer {example_shop.KEY}"}
    with example_shop.example_app() as fresh:
        schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", fresh, headers=key_)
        operation = schema[path][method]
        refusing = schemathesis.checks.CHECKS.get_one("positive_data_acceptance")
        modes = [schemathesis.GenerationMode.POSITIVE]
        if next(operation.iter_parameters(), None) is not None or list(operation.body):
            modes.append(schemathesis.GenerationMode.NEGATIVE)
        for mode in modes:

            @settings(
                max_examples=10, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def asked(case):
                case.call_and_validate(headers=key_, excluded_checks=[refusing])

            asked()


# The page for who wants to use it


@pytest.fixture(scope="module")
def served():
    """The example shop on a real port."""
    with example_shop.example_app() as shop, socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        server = uvicorn.Server(uvicorn.Config(shop, log_level="error"))
        thread = Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
        server.should_exit = True
        thread.join()


HTTP_PAGE = (Path(__file__).parents[1] / "docs" / "http.md").read_text()
COMMANDS = re.findall(r"```bash\n(.*?)```(?:\n\n[^`\n]*\n?\n?```json\n(.*?)```)?", HTTP_PAGE, re.S)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(("command", "answer"), COMMANDS, ids=lambda text: text[-60:-1] if "curl" in text else "")
def test_the_examples_of_the_page_are_answered_as_it_says(served, tmp_path, command, answer):
    environment = {"PATH": os.environ["PATH"], "PASSERBY": served, "KEY": example_shop.KEY}
    (tmp_path / "crop.png").write_bytes(example_shop.crop())
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or all(path.stat().st_size for path in tmp_path.iterdir())
    if answer:
        assert example_shop.rounded(json.loads(done.stdout)) == json.loads(answer)


def test_the_page_shows_how_a_signature_is_checked():
    assert sum(bool(answer) for _, answer in COMMANDS) == 2
    names = {}
    exec(re.search(r"```python\n(.*?)```", HTTP_PAGE, re.S)[1], names)
    headers = {"Passerby-Timestamp": "1772452800", "Passerby-Signature": signature("secret", "1772452800", b"{}")}
    assert names["genuine"]("secret", headers, b"{}", 1772452900)
    assert not names["genuine"]("secret", headers, b"{ }", 1772452900)
    assert not names["genuine"]("secret", headers, b"{}", 1772453900)


def test_the_page_s_settings_are_those_of_a_site(tmp_path):
    settings_ = re.search(r"```toml\n(.*?)```", HTTP_PAGE, re.S)[1]
    (tmp_path / "site.toml").write_text(f'name = "shop"\n[[cameras]]\nname = "door"\nsource = "door.mp4"\n{settings_}')
    site = load_site(tmp_path / "site.toml")
    assert (site.webhooks[0].events, site.mqtt.tls) == (("alert", "camera"), True)
