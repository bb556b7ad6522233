"""Who may see what: roles, keys, sessions, the login, and what a browser is told; over real HTTP apps."""

import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Annotated, get_args

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request

from passerby.service import accounts, auth
from passerby.service.auth import MAY, Permission, Principal, Role, authenticate, needs
from passerby.service.store import Store

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
ROLES = get_args(Role)
PERMISSIONS = get_args(Permission)


class Clock:
    """A clock that stands until it is told."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "shop.sqlite") as opened:
        yield opened


@pytest.fixture
def browse():
    """Serves an app over HTTP on a port of its own, and gives a client of it."""
    with ExitStack() as ending:

        def opened(app, *, client_of=httpx.Client, **settings):
            config = uvicorn.Config(app, port=0, log_level="error", lifespan="off", **settings)
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run)
            thread.start()

            def stop():
                server.should_exit = True
                thread.join()

            ending.callback(stop)
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.005)
            port = server.servers[0].sockets[0].getsockname()[1]
            return ending.enter_context(client_of(base_url=f"http://127.0.0.1:{port}"))

        yield opened


def app_of(store, clock, *routers):
    """A small app, guarded as the real one is."""
    app = FastAPI()
    app.state.authenticate = lambda request: authenticate(store, request, clock=clock)
    app.state.record = auth.recorder(store, clock=clock)
    app.state.site = "shop"
    for router in routers:
        app.include_router(router)
    app.add_middleware(auth.SecureHeaders)
    return app


def small():
    """A route for each permission, read and write."""
    router = APIRouter()
    for permission in PERMISSIONS:
        path = "/api/v1/" + permission.replace(" ", "-")

        def route(request: Request, principal: Annotated[Principal, Depends(needs(permission))]):
            return {"name": principal.name, "method": request.method}

        router.add_api_route(path, route, methods=["GET", "POST", "DELETE"])
    return router


def key(store, role, sites=None, name=None):
    secret = accounts.add_key(store, name or role, role=role, sites=sites, now=NOW)
    return {"Authorization": f"Bearer {secret}"}


def test_the_table_says_something_of_every_role_and_permission():
    assert set(MAY) == set(ROLES)
    assert set.union(*map(set, MAY.values())) == set(PERMISSIONS)
    assert MAY["administrator"] == set(PERMISSIONS)
    assert len({frozenset(may) for may in MAY.values()}) == len(ROLES)
    assert all("see figures" in may for may in MAY.values())


def test_a_principal_may_what_its_role_says_at_its_sites():
    anna = Principal("anna", "manager", frozenset({"shop"}), "user")
    assert anna.may("export")
    assert anna.may("export", "shop")
    assert not anna.may("export", "other")
    assert not anna.may("erase", "shop")
    assert Principal("ben", "manager", None, "key").may("export", "other")


@pytest.mark.parametrize("role", ROLES)
def test_each_role_reaches_the_routes_of_its_permissions_and_no_other(store, clock, browse, role):
    client, headers = browse(app_of(store, clock, small())), key(store, role)
    for permission in PERMISSIONS:
        answer = client.get("/api/v1/" + permission.replace(" ", "-"), headers=headers)
        assert answer.status_code == (200 if permission in MAY[role] else 403), permission


def test_without_a_credential_nothing_opens(store, clock, browse):
    client = browse(app_of(store, clock, small()))
    for permission in PERMISSIONS:
        answer = client.get("/api/v1/" + permission.replace(" ", "-"))
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_is_taken_from_either_header_and_a_wrong_one_is_not_forgiven_for_a_cookie(store, clock, browse):
    client = browse(app_of(store, clock, small()))
    headers = key(store, "analyst")
    secret = headers["Authorization"].split()[1]
    path = "/api/v1/see-figures"
    assert client.get(path, headers={"X-API-Key": secret}).json()["name"] == "analyst"
    assert client.get(path, headers={"Authorization": f"bearer {secret}"}).status_code == 200
    assert client.get(path, headers={"Authorization": f"Basic {secret}"}).status_code == 401
    assert client.get(path, params={"key": secret}).status_code == 401
    client.cookies.set(auth.COOKIE, session(store))
    assert client.get(path).status_code == 200
    assert client.get(path, headers={"X-API-Key": "pb_nonsense"}).status_code == 401


def session(store, role="manager", sites=None, name="anna"):
    link = accounts.invite(store, name, role=role, sites=sites, now=NOW)
    accounts.accept(store, link, password=auth.hash_password("correct horse"), now=NOW)
    return accounts.begin_session(store, name, now=NOW)


def test_a_change_needs_the_sessions_csrf_token(store, clock, browse):
    client = browse(app_of(store, clock, small()))
    secret = session(store)
    client.cookies.set(auth.COOKIE, secret)
    token = auth.csrf_token(secret)
    path = "/api/v1/export"
    assert client.get(path).status_code == 200
    assert client.post(path).status_code == 401
    assert client.post(path, headers={"X-CSRF-Token": token}).status_code == 200
    assert client.delete(path, headers={"X-CSRF-Token": token}).status_code == 200
    assert client.post(path, data={"csrf": token}).status_code == 200
    assert client.post(path, data={"csrf": token}, files={"f": b"x"}).status_code == 200
    for wrong in (auth.csrf_token("another session"), token[:-1], "ü"):
        assert client.post(path, data={"csrf": wrong}).status_code == 401
    assert client.post(path, json={"csrf": token}).status_code == 401
    assert secret not in token


def test_a_key_needs_no_csrf_token_since_no_browser_sends_it_along(store, clock, browse):
    client = browse(app_of(store, clock, small()))
    assert client.post("/api/v1/export", headers=key(store, "manager")).status_code == 200


def test_a_key_of_one_site_opens_no_other(store, clock, browse):
    router = APIRouter()

    @router.get("/api/v1/sites/{site}/visits", dependencies=[Depends(needs("see people"))])
    def visits(site: str):
        return site

    @router.get("/api/v1/visits", dependencies=[Depends(needs("see people"))])
    def own():
        return "shop"

    client = browse(app_of(store, clock, router))
    here, there = key(store, "manager", ["shop"], "a"), key(store, "manager", ["other"], "b")
    assert client.get("/api/v1/sites/shop/visits", headers=here).status_code == 200
    assert client.get("/api/v1/sites/other/visits", headers=here).status_code == 403
    assert client.get("/api/v1/sites/other/visits", headers=there).status_code == 200
    assert client.get("/api/v1/visits", headers=here).status_code == 200
    assert client.get("/api/v1/visits?site=other", headers=here).status_code == 403
    assert client.get("/api/v1/visits?site=shop&site=other", headers=here).status_code == 403
    assert client.get("/api/v1/visits", headers=there).status_code == 403
    assert client.get("/api/v1/visits?site=other", headers=there).status_code == 403
    assert client.get("/api/v1/visits", headers=key(store, "manager", [], "c")).status_code == 403


def test_a_browser_that_is_not_logged_in_is_sent_to_the_login_page(store, clock, browse):
    client = browse(app_of(store, clock, small()))
    answer = client.get("/api/v1/export?day=2026-03-02&x=a%26b", headers={"Accept": "text/html"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2Fapi%2Fv1%2Fexport%3Fday%3D2026-03-02%26x%3Da%2526b"
    assert client.post("/api/v1/export", headers={"Accept": "text/html"}).status_code == 401
    answer = client.get("/api/v1/export", headers={"HX-Request": "true", "Accept": "text/html"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login")


def test_every_answer_carries_the_strict_headers(store, clock, browse):
    client = browse(app_of(store, clock, small()), forwarded_allow_ips="127.0.0.1")
    for scheme in ("http", "https"):
        answer = client.get("/api/v1/export", headers={"X-Forwarded-Proto": scheme})
        assert answer.status_code == 401
        for name, value in auth.HEADERS.items():
            assert answer.headers[name] == value
        assert ("strict-transport-security" in answer.headers) == (scheme == "https")
    assert "unsafe" not in auth.HEADERS["content-security-policy"]
    assert client.get("/nowhere").headers["x-frame-options"] == "DENY"


def test_a_route_without_a_permission_is_found():
    router = small()
    router.add_api_route("/health", lambda: "well")
    router.add_api_route("/forgotten", lambda: "oh")
    assert auth.undeclared(router.routes, open_to_all=["/health"]) == ["GET /forgotten"]
    assert len(auth.undeclared(FastAPI().routes, open_to_all=[])) == 4  # FastAPI's own pages


def test_a_permission_that_is_none_is_refused_where_it_is_written():
    with pytest.raises(ValueError, match="no role may 'see everything'"):
        needs("see everything")


# What is written down


def test_views_are_written_down_once_a_quarter_of_an_hour_and_the_rest_each_time(store, clock, browse):
    client = browse(app_of(store, clock, small()))
    headers = key(store, "administrator")
    for minutes in (0, 1, 14, 16):
        clock.now = NOW + timedelta(minutes=minutes)
        for permission in ("see-people", "export", "see-figures"):
            assert client.get(f"/api/v1/{permission}?day=1", headers=headers).status_code == 200
    rows = accounts.log(store)[::-1]
    assert [row.action for row in rows].count("see people") == 2
    assert [row.action for row in rows].count("export") == 4
    assert "see figures" not in [row.action for row in rows]
    assert (rows[0].who, rows[0].kind, rows[0].site) == ("administrator", "key", "shop")
    assert rows[0].detail == '{"asked": "GET /api/v1/see-people", "query": "day=1"}'


def test_what_is_refused_is_not_written_down_as_seen(store, clock, browse):
    client = browse(app_of(store, clock, small()))
    assert client.get("/api/v1/see-people", headers=key(store, "auditor")).status_code == 403
    assert accounts.log(store) == []


def test_nothing_is_shown_that_cannot_be_written_down(store, clock, browse):
    app = app_of(store, clock, small())

    def broken(*a):
        raise RuntimeError("the disk is full")

    app.state.record = broken
    client = browse(app, log_config=None)
    assert client.get("/api/v1/see-people", headers=key(store, "manager")).status_code == 500
