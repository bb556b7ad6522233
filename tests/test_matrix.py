"""Every route of the real application against every role; and that no secret of the site comes out of any of them."""

import logging
import re
from datetime import UTC, datetime
from typing import get_args

import pytest

from passerby.service import accounts, auth
from passerby.service.auth import MAY, Role
from passerby.service.live import CameraState, Live, Part
from passerby.service.run import application
from passerby.service.store import Store
from passerby.site import Camera, LineSite, Site, ZoneSite, load_site
from passerby.types import ConfigError
from test_auth import browse  # noqa: F401  # a fixture
from test_privacy import person

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PASSWORD = "hunter2-of-the-camera"
CORNERS = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9))
SHOP = Site(
    "shop",
    (
        Camera("door", f"rtsp://admin:{PASSWORD}@10.0.0.5/live"),
        Camera("aisle", f"http://10.0.0.6/mjpeg?pwd={PASSWORD}"),
    ),
    time_zone="Europe/Paris",
    zones=(ZoneSite("wine", CORNERS, camera="aisle"),),
    lines=(LineSite("entry", (0.1, 0.5), (0.9, 0.5), camera="door"),),
)
OPEN = {
    *("GET /health", "GET /login", "POST /login", "GET /login/oidc", "GET /login/oidc/back"),
    *("GET /first", "POST /first", "ANY /static"),
}
# What each route needs. Whoever adds a route adds it here, too, after having thought of who may.
NEEDS = {
    "GET /": "see figures",
    "GET /api/v1/audit": "read audit",
    "GET /api/v1/cameras": "see figures",
    "GET /api/v1/cameras/{camera}/picture": "see pictures",
    "GET /api/v1/events": "see figures",
    "GET /api/v1/exports/report.html": "export",
    "GET /api/v1/exports/visits.{form}": "export, see visits",
    "GET /api/v1/exports/{table}.{form}": "export",
    "GET /api/v1/guests": "see guests",
    "GET /api/v1/guests/seen": "see guests",
    "GET /api/v1/live": "see figures",
    "GET /api/v1/metrics/conversion": "see figures",
    "GET /api/v1/metrics/counts": "see figures",
    "GET /api/v1/metrics/dwell": "see people",
    "GET /api/v1/metrics/footfall": "see figures",
    "GET /api/v1/metrics/funnel": "see people",
    "GET /api/v1/metrics/groups": "see people",
    "GET /api/v1/metrics/heat": "see people",
    "GET /api/v1/metrics/occupancy": "see figures",
    "GET /api/v1/metrics/paths": "see people",
    "GET /api/v1/metrics/persons": "see figures",
    "GET /api/v1/metrics/queues": "see figures",
    "GET /api/v1/metrics/transitions": "see people",
    "GET /api/v1/metrics/visits": "see figures",
    "GET /api/v1/openapi.json": "see figures",
    "GET /api/v1/outlets": "set up",
    "GET /api/v1/sites": "see figures",
    "GET /api/v1/tracks/{camera}/{session}/{track}/why": "see visits",
    "GET /api/v1/visits": "see visits",
    "GET /compare": "see figures",
    "GET /footfall": "see figures",
    "GET /journeys": "see people",
    "GET /metrics": "see figures",
    "GET /now/chart": "see figures",
    "GET /now/stream": "see figures",
    "GET /picture/{camera}": "see pictures",
    "GET /privacy": "see figures",
    "GET /quality": "see figures",
    "GET /queues": "see figures",
    "GET /replay": "see visits",
    "GET /setup": "set up",
    "GET /zones": "see people",
    "POST /api/v1/audits": "annotate",
    "POST /api/v1/erasures": "erase",
    "POST /api/v1/guests": "enrol guests",
    "POST /api/v1/guests/erasures": "enrol guests",
    "POST /api/v1/guests/withdrawals": "enrol guests",
    "POST /api/v1/sales": "annotate",
    "POST /api/v1/search": "search",
    "POST /logout": "see figures",
    "POST /quality/audits": "annotate",
}
FILLED = {"camera": "door", "session": "session-4711", "track": "2", "table": "footfall", "form": "csv"}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "shop.sqlite") as opened:
        opened.put_site(SHOP)
        for number in (1, 2):
            opened.write(**person(number))
        yield opened


@pytest.fixture
def live():
    made = Live(SHOP, clock=lambda: NOW)
    made.part(Part("vision", "failed", "the camera refuses the user name or the password", NOW))
    made.cameras(
        [CameraState(name, "stalled", "door: no frame", NOW, None, 0.0, None, 0, 0, 0, 0) for name in ("door", "aisle")]
    )
    made.show("door", b"\xff\xd8 a blurred picture", NOW)
    return made


@pytest.fixture
def app(store, live):
    return application(SHOP, store, live, lambda: NOW)


@pytest.fixture
def client(app, browse):  # noqa: F811
    return browse(app)


def asked(client, route, headers):
    """The status of an answer, whose body is not waited for: some go on for ever."""
    method, _, path = route.partition(" ")
    with client.stream(method, re.sub(r"\{(\w+)[^}]*\}", lambda m: FILLED[m[1]], path), headers=headers) as answer:
        return answer.status_code


def test_every_route_is_in_the_matrix_with_what_it_needs(app):
    found = {route: ", ".join(sorted(needed)) for route, needed in auth.declared(app.routes).items()}
    assert {route for route, needed in found.items() if not needed} == OPEN
    assert {route: needed for route, needed in found.items() if needed} == NEEDS


@pytest.mark.parametrize("role", [None, *get_args(Role)])
def test_every_route_answers_each_role_by_what_it_may(client, store, role):
    headers = {}
    if role is not None:
        headers["X-API-Key"] = accounts.add_key(store, role, role=role, sites=["shop"], now=NOW)
    for route, needed in NEEDS.items():
        status = asked(client, route, headers)
        if role is None:
            assert status == 401, route
        elif set(needed.split(", ")) <= MAY[role]:
            assert status not in (401, 403), (route, status)
        else:
            assert status == 403, route


def test_a_key_of_another_site_opens_no_route(client, store):
    headers = {"X-API-Key": accounts.add_key(store, "other", role="administrator", sites=["other"], now=NOW)}
    for route in NEEDS:
        assert asked(client, route, headers) == 403, route


def test_what_is_open_to_all_tells_nothing_of_the_site(client):
    for path in ("/health", "/login", "/first", "/static/page.css"):
        answer = client.get(path)
        assert answer.status_code in (200, 410, 503)
        for word in ("entry", "aisle", "wine", "visit-0000"):
            assert path == "/health" or word not in answer.text, (path, word)


# Secrets


@pytest.mark.slow
def test_no_password_of_a_camera_and_no_key_comes_out_of_any_route_or_log(client, store, caplog):
    caplog.set_level(logging.DEBUG)
    secret = accounts.add_key(store, "all", role="administrator", sites=None, now=NOW)
    link = accounts.invite(store, "anna", role="administrator", sites=None, now=NOW)
    accounts.accept(store, link, password=auth.hash_password("a sentence of anna's"), now=NOW)
    session = auth.log_in(store, "anna", "a sentence of anna's", "127.0.0.1", now=NOW)
    said = []
    for route in [*NEEDS, *OPEN]:
        method, _, path = route.partition(" ")
        if method != "GET" or path in ("/api/v1/events", "/now/stream"):
            continue
        for query in ("", "?from=2026-03-02&to=2026-03-02", "?from=nonsense", "?nothing=1"):
            filled = re.sub(r"\{(\w+)[^}]*\}", lambda m: FILLED[m[1]], path)
            for headers in ({"X-API-Key": secret}, {"Cookie": f"{auth.COOKIE}={session}", "Accept": "text/html"}):
                answer = client.get(filled + query, headers=headers)
                said += [answer.text, str(answer.headers)]
    assert len(said) > 200
    said += [record.getMessage() for record in caplog.records]
    kept = " ".join(said)
    for hidden in (PASSWORD, secret.split("_")[2], session, "$argon2", link):
        assert hidden not in kept


BROKEN = {
    "no name": 'name = ""',
    "a rate that cannot be": 'name = "a"\nrate = 100',
    "a text for a number": 'name = "a"\nrate = "fast"',
    "a mask of one corner": 'name = "a"\nmasks = [[[0.0, 0.0]]]',
    "an unknown key": 'name = "a"\nsorce = "x"',
    "no time zone": 'name = "a"\nbegins = 2026-03-02T10:00:00',
    "a table for a text": 'name = { a = "x" }',
    "a mount without a height": 'name = "a"\nmount = { position = [0, 0] }',
    "no TOML": 'name = "a',
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_an_error_in_the_sites_file_does_not_print_a_cameras_password(tmp_path, broken):
    path = tmp_path / "site.toml"
    path.write_text(f'name = "shop"\n[[cameras]]\nsource = "rtsp://admin:{PASSWORD}@10.0.0.5/live"\n{broken}\n')
    with pytest.raises(ConfigError) as told:
        load_site(path)
    assert str(path) in str(told.value)
    assert PASSWORD not in str(told.value)


def test_a_lock_out_and_a_session_work_on_the_real_application(client, store):
    link = accounts.invite(store, "anna", role="manager", sites=["shop"], now=NOW)
    accounts.accept(store, link, password=auth.hash_password("a sentence of anna's"), now=NOW)
    form = {"name": "anna", "password": "a sentence of anna's", "next": "/footfall"}
    assert client.post("/login", data=form).headers["location"] == "/footfall"
    page = client.get("/footfall", headers={"Accept": "text/html"})
    assert page.status_code == 200
    token = auth.csrf_token(client.cookies[auth.COOKIE])
    assert f'name="csrf" value="{token}"' in page.text
    assert client.post("/logout", data={"csrf": token}).headers["location"] == "/login"
    answer = client.get("/footfall", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Ffootfall")
    for _ in range(5):
        client.post("/login", data=form | {"password": "wrong"})
    assert client.post("/login", data=form).status_code == 429


def test_views_of_people_are_in_the_log_and_views_of_figures_are_not(client, store):
    headers = {"X-API-Key": accounts.add_key(store, "all", role="administrator", sites=None, now=NOW)}
    for path in ("/api/v1/visits", "/api/v1/metrics/footfall", "/zones", "/api/v1/exports/visits.csv"):
        client.get(
            path, params={"from": "2026-03-02", "to": "2026-03-02"} if "zones" not in path else {}, headers=headers
        )
    actions = [row.action for row in accounts.log(store)]
    assert sorted(actions) == ["export", "see people", "see visits", "see visits"]
    assert accounts.verify(store)[0] == []


def test_each_search_by_picture_is_in_the_log(client, store):
    officer = {"X-API-Key": accounts.add_key(store, "paula", role="privacy officer", sites=["shop"], now=NOW)}
    for _ in range(2):
        client.post("/api/v1/search", files={"picture": ("crop.png", b"nobody", "image/png")}, headers=officer)
    assert [(row.who, row.action) for row in accounts.log(store)][:2] == [("paula", "search")] * 2


def test_a_visit_is_erased_over_http_by_who_may_and_the_log_says_so(client, store):
    officer = {"X-API-Key": accounts.add_key(store, "paula", role="privacy officer", sites=["shop"], now=NOW)}
    visits = client.get("/api/v1/visits", params={"from": "2026-03-02", "to": "2026-03-02"}, headers=officer).json()
    assert [each["visit"] for each in visits["visits"]] == ["visit-00001", "visit-00002"]
    footfall = client.get(
        "/api/v1/metrics/footfall", params={"from": "2026-03-02", "to": "2026-03-02"}, headers=officer
    )
    answer = client.post("/api/v1/erasures", json={"visit": "visit-00001"}, headers=officer)
    assert answer.json() == {"visits": 1, "sightings": 2, "backups_cleaned": 0, "backups_missing": 0, "others": []}
    visits = client.get("/api/v1/visits", params={"from": "2026-03-02", "to": "2026-03-02"}, headers=officer).json()
    assert [each["visit"] for each in visits["visits"]] == ["visit-00002"]
    again = client.get("/api/v1/metrics/footfall", params={"from": "2026-03-02", "to": "2026-03-02"}, headers=officer)
    assert again.json()["rows"] == footfall.json()["rows"]
    assert client.post("/api/v1/erasures", json={"visit": "nobody"}, headers=officer).status_code == 404
    assert client.post("/api/v1/erasures", json={"visit": "x", "all": True}, headers=officer).status_code == 422
    rows = client.get("/api/v1/audit", params={"limit": 5}, headers=officer).json()["rows"]
    assert "visit erased" in [row["action"] for row in rows]
    assert "visit-00001" not in str(rows)
