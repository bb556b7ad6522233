"""Who may see what: roles, keys, sessions, the login, and what a browser is told; over real HTTP apps."""

import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, get_args

import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import APIRouter, Depends, FastAPI, Request

from passerby.service import accounts, auth
from passerby.service.auth import MAY, Permission, Principal, Role, authenticate, needs
from passerby.service.routes.login import login
from passerby.service.store import Store
from passerby.types import AccessError

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
DAY = timedelta(days=1)
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

        def opened(app, *, trusted=(), tls=None, **settings):
            config = uvicorn.Config(
                app, port=0, log_level="error", lifespan="off", **auth.server_settings(trusted, tls), **settings
            )
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
            scheme, verify = ("http", False) if tls is None else ("https", ssl.create_default_context(cafile=tls[0]))
            return ending.enter_context(httpx.Client(base_url=f"{scheme}://127.0.0.1:{port}", verify=verify))

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


def test_the_page_about_access_has_the_same_table():
    page = (Path(__file__).parents[1] / "docs" / "access.md").read_text()
    roles, rows = None, {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| | administrator"):
            roles = cells[1:]
        elif roles and line.startswith("| "):
            rows[cells[0].partition(" (")[0]] = {role for role, cell in zip(roles, cells[1:], strict=True) if cell}
    assert rows == {permission: {role for role in ROLES if permission in MAY[role]} for permission in PERMISSIONS}


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
    client = browse(app_of(store, clock, small()), trusted=["127.0.0.1"])
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
    found = auth.declared(router.routes)
    assert found["GET /health"] == set()
    assert found["DELETE /api/v1/export"] == {"export"}
    assert sum(not permissions for permissions in found.values()) == 1
    assert not any(auth.declared(FastAPI().routes).values())  # FastAPI's own pages declare nothing


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


# The login

PASSWORD = "a long sentence of mine"


@pytest.fixture
def door(store, clock, browse):
    """A client of an app with the login, and its user "anna", a manager."""
    link = accounts.invite(store, "anna", role="manager", sites=None, now=NOW)
    accounts.accept(store, link, password=auth.hash_password(PASSWORD), now=NOW)
    return browse(app_of(store, clock, small(), login(store=store, clock=clock)))


def enter(client, name="anna", password=PASSWORD, headers=None, **more):
    return client.post("/login", data={"name": name, "password": password, **more}, headers=headers)


def test_who_logs_in_is_known_from_then_on_until_the_logout(door, store):
    assert "<form" in door.get("/login").text
    assert door.get("/api/v1/export").status_code == 401
    answer = enter(door, next="/api/v1/export?day=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/api/v1/export?day=1")
    assert door.get("/api/v1/export").json()["name"] == "anna"
    secret = door.cookies[auth.COOKIE]
    assert door.post("/logout").status_code == 401  # a form of another site has no token
    assert door.post("/logout", data={"csrf": auth.csrf_token(secret)}).headers["location"] == "/login"
    assert auth.COOKIE not in door.cookies
    assert door.get("/api/v1/export", headers={"Cookie": f"{auth.COOKIE}={secret}"}).status_code == 401
    assert [row.action for row in accounts.log(store)] == ["logout", "export", "login"]


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(door, store, clock, browse):
    said = enter(door).headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=lax" in said
    assert "; secure" not in said
    app = app_of(store, clock, login(store=store, clock=clock))
    behind = browse(app, trusted=["127.0.0.1"])
    assert "; secure" in enter(behind, headers={"X-Forwarded-Proto": "https"}).headers["set-cookie"].lower()


def test_a_session_ends_by_itself(door, clock):
    enter(door)
    clock.now = NOW + timedelta(hours=9)
    assert door.get("/api/v1/export").status_code == 401


def test_each_login_has_a_secret_of_its_own_and_takes_none_from_outside(door):
    door.cookies.set(auth.COOKIE, "chosen-by-somebody-else")
    enter(door)
    secrets_ = {cookie.value for cookie in door.cookies.jar}
    assert len(secrets_) == 1 or "chosen-by-somebody-else" in secrets_
    first = [cookie.value for cookie in door.cookies.jar if cookie.value != "chosen-by-somebody-else"]
    door.cookies.clear()
    enter(door)
    assert first != [cookie.value for cookie in door.cookies.jar]


def test_a_wrong_name_and_a_wrong_password_are_answered_alike(door):
    wrong = [enter(door, password="wrong"), enter(door, name="nobody"), enter(door, name="anna ")]
    texts = {answer.text.replace("nobody", "anna").replace('"anna "', '"anna"') for answer in wrong}
    assert len(texts) == 1
    assert {answer.status_code for answer in wrong} == {401}
    assert "name or password is wrong" in texts.pop()
    assert auth.COOKIE not in door.cookies


def test_an_unknown_name_costs_as_much_as_a_known_one(door, monkeypatch):
    """Each try checks one Argon2id hash of the same cost."""
    checked = []
    hasher = auth._hasher()
    monkeypatch.setattr(auth, "_hasher", lambda: Noting(hasher, checked))
    for name in ("anna", "nobody"):
        enter(door, name=name, password="wrong")
    assert len(checked) == 2
    assert {hash_.split("$")[1:4] == checked[0].split("$")[1:4] for hash_ in checked} == {True}
    assert checked[0].startswith("$argon2id$v=19$m=65536,t=3,p=1$")


class Noting:
    def __init__(self, hasher, checked):
        self.hasher, self.checked = hasher, checked

    def verify(self, known, password):
        self.checked.append(known)
        return self.hasher.verify(known, password)

    def __getattr__(self, name):
        return getattr(self.hasher, name)


def test_after_five_wrong_passwords_the_right_one_is_refused_for_a_while(door, clock, store):
    for _ in range(5):
        assert enter(door, password="wrong").status_code == 401
    answer = enter(door)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) == 901
    assert "too many logins failed; try again in 15 min." in answer.text
    clock.now = NOW + timedelta(minutes=15)
    assert enter(door).status_code == 303
    assert [row.action for row in accounts.log(store)].count("login failed") == 5


def test_many_tries_at_the_same_moment_are_no_more_than_five(store, door):
    """Each in a thread of its own: whoever tries a thousand at once is counted too."""

    def attempt(number):
        try:
            return auth.log_in(store, "anna", f"wrong {number}", f"10.0.0.{number}", now=NOW)
        except AccessError as error:
            return type(error)

    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(attempt, range(12)))
    assert (found.count(AccessError), found.count(auth.TooManyTries)) == (5, 7)


def test_a_header_that_anybody_can_send_gives_nobody_another_address(door, store, clock, browse):
    """Without a trusted proxy X-Forwarded-For is nothing; behind one it is the address that the proxy saw."""
    app = app_of(store, clock, login(store=store, clock=clock))
    enter(door, password="wrong", headers={"X-Forwarded-For": "10.9.9.9"})
    assert accounts.log(store)[0].detail == '{"address": "127.0.0.1"}'
    other = browse(app, trusted=["192.0.2.1"])
    enter(other, password="wrong", headers={"X-Forwarded-For": "10.9.9.9"})
    assert accounts.log(store)[0].detail == '{"address": "127.0.0.1"}'
    behind = browse(app, trusted=["127.0.0.0/8"])
    enter(behind, password="wrong", headers={"X-Forwarded-For": "6.6.6.6, 10.9.9.9"})
    assert accounts.log(store)[0].detail == '{"address": "10.9.9.9"}'


def certificate(folder, *, name="127.0.0.1", password=None):
    """A certificate for this machine that signs itself, and its key, made for the test."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number(), now - DAY, now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(name))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    return files


def test_over_tls_the_cookie_is_sent_over_tls_only_and_the_browser_is_told_to_stay_there(
    tmp_path, door, store, clock, browse
):
    plain = enter(door)
    assert "secure" not in plain.headers["set-cookie"].lower()
    assert "strict-transport-security" not in plain.headers
    client = browse(app_of(store, clock, login(store=store, clock=clock)), tls=certificate(tmp_path))
    answer = enter(client)
    assert answer.status_code == 303
    assert "secure" in answer.headers["set-cookie"].lower()
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    with socket.create_connection((client.base_url.host, client.base_url.port)) as raw:
        raw.sendall(b"GET /login HTTP/1.1\r\nHost: x\r\n\r\n")  # in clear
        raw.settimeout(5)
        assert not raw.recv(100).startswith(b"HTTP/1.1 200")


def test_behind_a_trusted_proxy_that_speaks_tls_the_cookie_is_secure_and_else_the_header_is_nothing(
    store, clock, browse, door
):
    app = app_of(store, clock, login(store=store, clock=clock))
    said = {"X-Forwarded-Proto": "https"}
    for trusted, secure in (([], False), (["192.0.2.1"], False), (["127.0.0.1"], True)):
        answer = enter(browse(app, trusted=trusted), headers=said)
        assert ("secure" in answer.headers["set-cookie"].lower()) == secure, trusted


@pytest.mark.parametrize("proxy", ["*", "proxy.example", "10.0.0.0/40", "10.0.0.1/24", ""])
def test_a_proxy_is_trusted_by_its_address_or_network_only(proxy):
    with pytest.raises(AccessError, match="expected an address or a network such as"):
        auth.server_settings([proxy])


def test_files_that_are_no_certificate_and_its_key_are_refused_and_no_password_is_asked_for(tmp_path):
    certificate_file, key = certificate(tmp_path)
    for files, said in (
        ((tmp_path / "none.pem", key), "No such file"),
        ((key, certificate_file), "as PEM"),
        (certificate(tmp_path, password=b"secret"), "without a password"),
    ):
        with pytest.raises(AccessError, match=said):
            auth.server_settings(tls=files)


@pytest.mark.parametrize(
    "next_",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/a\r\nSet-Cookie: x=y",
        "/\t/evil.example",
        "evil",
        "",
    ],
)
def test_the_login_leads_to_no_other_site(door, next_):
    assert enter(door, next=next_).headers["location"] == "/"
    assert 'value="/"' in door.get("/login", params={"next": next_}).text


def test_a_login_form_of_another_site_is_refused(door):
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        assert enter(door, headers=headers).status_code == 403
    assert enter(door, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
    port = door.base_url.port
    assert enter(door, headers={"Origin": f"http://127.0.0.1:{port}"}).status_code == 303


def test_what_somebody_types_is_no_html(door):
    answer = enter(door, name='"><script>alert(1)</script>', next='/"><script>')
    assert "<script" not in answer.text


def test_an_older_hash_is_replaced_at_the_next_login(door, store):
    from argon2 import PasswordHasher

    accounts.set_password(store, "anna", PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD))
    assert enter(door).status_code == 303
    assert accounts.user(store, "anna").password.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert enter(door).status_code == 303


# The first start


def test_the_first_start_gives_a_link_and_a_key_and_the_second_neither(store, clock, browse):
    path, secret = auth.first_start(store, now=NOW)
    assert auth.first_start(store, now=NOW) is None
    client = browse(app_of(store, clock, small(), login(store=store, clock=clock)))
    assert client.get("/api/v1/manage-users", headers={"X-API-Key": secret}).status_code == 200
    assert "You are <strong>administrator</strong>" in client.get(path).text
    link = path.partition("link=")[2]

    def choose(password, again=None, link=link):
        return client.post("/first", data={"link": link, "password": password, "again": again or password})

    for password, again, said in (
        ("short", None, "12 to 256"),
        ("a" * 20, None, "5 different"),
        (PASSWORD, "x", "differ"),
    ):
        answer = choose(password, again)
        assert answer.status_code == 422
        assert said in answer.text
    assert choose(PASSWORD, link="no-link").status_code == 410
    answer = choose(PASSWORD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert client.get("/api/v1/manage-users").json()["name"] == "administrator"
    assert choose(PASSWORD).status_code == 410
    assert client.get(path).status_code == 410
    client.cookies.clear()
    assert enter(client, name="administrator").status_code == 303


def test_the_link_is_used_once_even_by_two_at_the_same_time(store):
    path, _ = auth.first_start(store, now=NOW)
    link = path.partition("link=")[2]

    def accept(number):
        try:
            return accounts.accept(store, link, password=f"HASH{number}", now=NOW)
        except AccessError:
            return None

    with ThreadPoolExecutor(4) as threads:
        assert sum(user is not None for user in threads.map(accept, range(8))) == 1


@pytest.mark.parametrize("password", ["", "short", "x" * 257, "aaaabbbbccccdddd"])
def test_a_password_that_is_easily_guessed_is_refused(password):
    with pytest.raises(AccessError, match="password: expected"):
        auth.hash_password(password)
