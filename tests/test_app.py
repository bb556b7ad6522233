"""The web application: who is let in, what it answers, and how its errors look."""

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from passerby.service.app import create_app
from passerby.service.auth import Principal
from passerby.service.live import CameraState, Live
from passerby.service.store import Store
from passerby.site import Camera, LineSite, Site, ZoneSite
from test_store import seen

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # 13:00 in Paris
SHOP = Site(
    "shop",
    (Camera("door", "door.mp4"), Camera("aisle", "aisle.mp4")),
    time_zone="Europe/Paris",
    zones=(ZoneSite("wine", ((0.1, 0.1), (0.9, 0.1), (0.5, 0.9)), "aisle"),),
    lines=(LineSite("entry", (0.2, 0.5), (0.8, 0.5), "door"),),
)
ROLES = {"pb_admin": "administrator", "pb_analyst": "analyst"}


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
    paths = [path for path in app.openapi()["paths"] if path != "/health"]
    assert len(paths) > 10
    for path in paths:
        for parameter in ("camera", "session", "table"):
            path = path.replace(f"{{{parameter}}}", "footfall")
        path = path.replace("{track}", "1").replace("{form}", "csv")
        for key_ in (None, "pb_wrong"):
            assert ask(app, path, key=key_).status_code == 401, path


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
