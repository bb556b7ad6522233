"""Log in at a provider: a small one, on loopback, whose word is good, or not."""

import threading
import time
from base64 import urlsafe_b64encode
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse
from typer.testing import CliRunner

from passerby.__main__ import app as command_line
from passerby.service import accounts, auth
from passerby.service.app import create_app
from passerby.service.live import Live
from passerby.service.oidc import BACK, Mapping, Provider, Settings, open_provider
from passerby.service.routes.login import SENT, login
from passerby.service.store import Store
from passerby.types import AccessError, ConfigError
from test_auth import NOW, Clock, browse  # noqa: F401  # a fixture
from test_privacy import SHOP

pytest.importorskip("authlib", reason='needs pip install "passerby[oidc]"')
jwt, jwk = pytest.importorskip("joserfc.jwt"), pytest.importorskip("joserfc.jwk")
KEYS = [jwk.RSAKey.generate_key(2048, {"kid": "one"}) for _ in range(2)]
SECRET, CLIENT = "the service's own secret", "passerby"


class Elsewhere:
    """A provider: its discovery document, its keys, its log-in page, its tokens. What it says wrong is put into `faults`."""

    def __init__(self, clock):
        self.clock, self.faults, self.claims = clock, {}, {"roles": ["shop-manager"], "preferred_username": "anna"}
        self.key, self.asked, self.codes, self.keys_asked = KEYS[0], [], {}, 0
        app = FastAPI()

        @app.get("/.well-known/openid-configuration")
        def known():
            return {
                "issuer": self.faults.get("issuer", self.issuer),
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": self.faults.get("token_endpoint", f"{self.issuer}/token"),
                "jwks_uri": f"{self.issuer}/keys",
            }

        @app.get("/keys")
        def keys():
            self.keys_asked += 1
            return jwk.KeySet([self.key]).as_dict(private=False)

        @app.get("/authorize")
        def authorize(request: Request):
            """Somebody who is known there logs in at once."""
            asked = dict(request.query_params)
            self.asked.append(asked)
            code = f"code {len(self.asked)}"
            self.codes[code] = asked
            return RedirectResponse(f"{asked['redirect_uri']}?code={code}&state={asked['state']}", 303)

        @app.post("/token")
        async def token(request: Request):
            form = dict(await request.form())
            asked = self.codes.pop(form.get("code"), None)
            if asked is None or form["redirect_uri"] != asked["redirect_uri"] or form["client_secret"] != SECRET:
                raise HTTPException(400)
            proof = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
            if asked["code_challenge_method"] != "S256" or proof != asked["code_challenge"]:
                raise HTTPException(400)
            return {"access_token": "a", "token_type": "Bearer", "id_token": self.token(asked["nonce"])}

        config = uvicorn.Config(app, port=0, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.005)
        self.issuer = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def token(self, nonce):
        now = int(self.clock().timestamp())
        claims = {"iss": self.issuer, "sub": "4711", "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce}
        claims |= self.claims | self.faults.get("claims", {})
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": "RS256", "kid": "one"} | self.faults.get("header", {})
        return jwt.encode(header, claims, self.faults.get("key", self.key), algorithms=[header["alg"]])

    def close(self):
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def elsewhere(clock):
    made = Elsewhere(clock)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "shop.sqlite") as opened:
        opened.put_site(SHOP)
        yield opened


ROLES = (
    Mapping("shop-owner", "administrator"),
    Mapping("shop-manager", "manager", ("shop",)),
    Mapping("dpo", "auditor"),
)


@pytest.fixture
def shop(store, elsewhere, clock, browse):  # noqa: F811
    """The service, whose users log in at the provider; `come` is the way there and back of a browser."""

    def opened(**more):
        settings = Settings(elsewhere.issuer, CLIENT, "http://127.0.0.1:1", ROLES, **more)
        provider = Provider(settings, secret=SECRET)
        app = create_app(
            site=SHOP,
            store=store,
            live=Live(SHOP, clock=clock),
            authenticate=lambda request: auth.authenticate(store, request, clock=clock),
            record=auth.recorder(store, clock=clock),
            clock=clock,
            pages=login(store=store, clock=clock, provider=provider),
        )
        client = browse(app)

        def come(path="/", *, change=lambda query: query):
            there = client.get("/login/oidc", params={"next": path})
            back = httpx.get(there.headers["location"]).headers["location"]
            query = {name: value for name, (value,) in parse_qs(urlsplit(back).query).items()}
            return client.get(BACK, params=change(query))

        return SimpleNamespace(client=client, come=come, provider=provider)

    return opened


def make_anna(store, issuer=None):
    link = accounts.invite(store, "anna", role="analyst", sites=["shop"], now=NOW)
    accounts.accept(store, link, password=auth.hash_password("a sentence of anna's"), now=NOW)
    if issuer:
        accounts.link(store, "anna", f"{issuer} 4711")


def refused(answer):
    assert answer.status_code == 401, answer.text
    assert auth.COOKIE not in answer.cookies
    return answer.text.partition('role="alert">')[2].partition("</p>")[0]


# Who is let in


def test_who_logs_in_there_is_let_in_here_with_the_role_that_follows(shop, store, elsewhere):
    make_anna(store, elsewhere.issuer)
    here = shop()
    answer = here.come("/footfall")
    assert (answer.status_code, answer.headers["location"]) == (303, "/footfall")
    cookie = next(each for each in answer.headers.get_list("set-cookie") if each.startswith(auth.COOKIE))
    assert {"HttpOnly", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
    assert SENT not in here.client.cookies
    user = accounts.user(store, "anna")
    assert (user.role, user.sites) == ("manager", {"shop"})
    assert here.client.get("/api/v1/live").status_code == 200
    assert [row.action for row in accounts.log(store)][:2] == ["login", "user changed"]
    assert "4711" in accounts.log(store)[0].detail
    assert accounts.user(store, "anna").password is not None  # it still works


def test_the_way_there_asks_for_a_code_with_state_nonce_and_a_challenge(shop, elsewhere):
    here = shop()
    for _ in range(2):
        here.come()
    first, second = elsewhere.asked
    assert (first["response_type"], first["client_id"], first["code_challenge_method"]) == ("code", CLIENT, "S256")
    assert first["redirect_uri"] == "http://127.0.0.1:1/login/oidc/back"
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name]) >= 43
        assert first[name] != second[name]


def test_nobody_gets_an_account_unless_accounts_are_made(shop, store, elsewhere):
    assert "nobody here is" in refused(shop().come())
    assert accounts.users(store) == []
    failed = accounts.log(store)[0]
    assert (failed.action, "4711" in failed.detail) == ("login failed", True)
    here = shop(create=True)
    assert here.come().status_code == 303
    (anna,) = accounts.users(store)
    assert (anna.name, anna.role, anna.password, anna.subject) == ("anna", "manager", None, f"{elsewhere.issuer} 4711")
    elsewhere.claims["preferred_username"] = "anna renamed"
    assert here.come().status_code == 303
    assert [user.name for user in accounts.users(store)] == ["anna"]


def test_a_name_that_is_taken_here_is_not_taken_over(shop, store):
    make_anna(store)
    assert "there is one of that name" in refused(shop(create=True).come())
    assert accounts.user(store, "anna").subject is None


def test_who_was_made_by_the_provider_has_no_password(shop, store):
    here = shop(create=True)
    here.come()
    answer = here.client.post("/login", data={"name": "anna", "password": "x"})
    assert answer.status_code == 401


# Whose word is not good


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"claims": {"nonce": "another"}}, "nonce"),
        ({"claims": {"nonce": None}}, "nonce"),
        ({"claims": {"aud": "another service"}}, "aud"),
        ({"claims": {"aud": ["another service", "a third"]}}, "aud"),
        ({"claims": {"aud": [CLIENT, "another service"], "azp": "another service"}}, "azp"),
        ({"claims": {"aud": None}}, "aud"),
        ({"claims": {"iss": "https://elsewhere.example"}}, "iss"),
        ({"claims": {"exp": int(NOW.timestamp()) - 61}}, "expired"),
        ({"claims": {"exp": None}}, "exp"),
        ({"claims": {"iat": int(NOW.timestamp()) + 600}}, "in the future"),
        ({"claims": {"sub": None}}, "sub"),
        ({"claims": {"sub": 4711}}, "sub"),
        ({"claims": {"at_hash": "of another token"}}, "at_hash"),
        ({"key": KEYS[1]}, "not signed by its keys"),
        (
            {"key": jwk.ECKey.generate_key("P-256", {"kid": "two"}), "header": {"alg": "ES256", "kid": "two"}},
            "not signed",
        ),
        ({"key": jwk.OctKey.import_key(SECRET), "header": {"alg": "HS256"}}, "not signed by its keys"),
        ({"key": jwk.OctKey.import_key(SECRET), "header": {"alg": "none"}}, "not signed by its keys"),
        ({"issuer": "https://elsewhere.example"}, "calls itself"),
        ({"token_endpoint": "http://elsewhere.example/token"}, "https://"),
    ],
)
def test_a_word_that_is_not_good_lets_nobody_in(shop, store, elsewhere, faults, said, monkeypatch):
    make_anna(store, elsewhere.issuer)
    elsewhere.faults |= faults
    if faults.get("header", {}).get("alg") == "none":
        monkeypatch.setattr(elsewhere, "token", unsigned(elsewhere))
    here = shop()
    if "issuer" in faults:
        answer = here.client.get("/login/oidc")
        assert (answer.status_code, said in answer.text) == (503, True)
    else:
        assert said in refused(here.come())
    assert here.client.get("/api/v1/live").status_code == 401
    assert accounts.user(store, "anna").role == "analyst"


def unsigned(elsewhere):
    """Tokens without a signature."""
    signed = elsewhere.token

    def token(nonce):
        elsewhere.faults = {}
        head = urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
        return f"{head}.{signed(nonce).split('.')[1]}."

    return token


def test_a_clock_that_is_a_minute_off_is_forgiven(shop, store, elsewhere):
    make_anna(store, elsewhere.issuer)
    elsewhere.faults["claims"] = {"exp": int(NOW.timestamp()) - 30, "iat": int(NOW.timestamp()) + 30}
    assert shop().come().status_code == 303


@pytest.mark.parametrize("roles", [None, [], ["another"], "another", 7, {"shop-manager": True}])
def test_who_has_no_role_there_that_is_known_here_is_not_let_in(shop, store, elsewhere, roles):
    make_anna(store, elsewhere.issuer)
    elsewhere.claims["roles"] = roles
    assert "no role here follows" in refused(shop().come())


def test_the_first_mapping_that_fits_counts_also_in_a_table(shop, store, elsewhere):
    make_anna(store, elsewhere.issuer)
    elsewhere.claims |= {"roles": None, "realm_access": {"roles": ["dpo", "shop-owner", "offline_access"]}}
    assert shop(claim="realm_access.roles").come().status_code == 303
    user = accounts.user(store, "anna")
    assert (user.role, user.sites) == ("administrator", None)
    elsewhere.claims["realm_access"] = {"roles": ["dpo"]}
    assert "the last administrator" in refused(shop(claim="realm_access.roles").come())


# Who was not sent


def test_what_was_not_begun_by_this_browser_is_refused(shop, store, elsewhere):
    make_anna(store, elsewhere.issuer)
    here = shop()
    assert "not begun here" in refused(here.come(change=lambda query: query | {"state": "another"}))
    assert "not begun here" in refused(here.client.get(BACK, params={"state": "s", "code": "c"}))

    def without_cookie(query):
        here.client.cookies.clear()
        return query

    assert "not begun here" in refused(here.come(change=without_cookie))
    said = {}
    assert here.come(change=lambda query: said.setdefault("query", query)).status_code == 303
    here.client.cookies.clear()
    assert "not begun here" in refused(here.client.get(BACK, params=said["query"]))  # it was used


def test_who_is_away_for_too_long_begins_again(shop, store, elsewhere, clock):
    make_anna(store, elsewhere.issuer)

    def later(query):
        clock.now += timedelta(minutes=10)
        return query

    assert "too long ago" in refused(shop().come(change=later))


def test_a_no_of_the_provider_is_said_and_what_it_says_is_no_html(shop):
    said = refused(shop().come(change=lambda query: {"state": query["state"], "error": "<b>access_denied</b>"}))
    assert "&lt;b&gt;access_denied" in said


def test_nobody_is_sent_to_another_site_after_the_login(shop, store, elsewhere):
    make_anna(store, elsewhere.issuer)
    assert shop().come("//evil.example/").headers["location"] == "/"


# Keys, and a provider that is away


def test_a_new_key_of_the_provider_is_fetched_but_not_at_once_again(shop, store, elsewhere, clock):
    make_anna(store, elsewhere.issuer)
    here = shop()
    assert here.come().status_code == 303
    assert here.come().status_code == 303
    assert elsewhere.keys_asked == 1
    elsewhere.key = KEYS[1]
    assert "not signed" in refused(here.come())
    assert elsewhere.keys_asked == 1
    clock.now += timedelta(minutes=1)
    assert here.come().status_code == 303
    assert elsewhere.keys_asked == 2


def test_where_the_provider_does_not_answer_passwords_still_work(shop, store, elsewhere):
    make_anna(store)
    elsewhere.close()
    here = shop()
    answer = here.client.get("/login/oidc")
    assert (answer.status_code, "does not answer" in answer.text) == (503, True)
    form = {"name": "anna", "password": "a sentence of anna's"}
    assert here.client.post("/login", data=form).status_code == 303


def test_without_a_provider_there_is_no_way_there(store, clock, browse):  # noqa: F811
    app = FastAPI()
    app.include_router(login(store=store, clock=clock))
    client = browse(app)
    assert [client.get(path).status_code for path in ("/login/oidc", BACK)] == [404, 404]
    assert "/login/oidc" not in client.get("/login").text


def test_the_login_page_shows_the_way_there(shop):
    page = shop(name="Shop Ltd").client.get("/login", params={"next": "/zones"}).text
    assert '<a href="/login/oidc?next=/zones">Log in at Shop Ltd</a>' in page


# Settings

FILE = """
issuer = "https://id.example.org"
client_id = "passerby"
secret_file = "oidc.secret"
address = "https://shop.example.org"
[[roles]]
value = "shop-managers"
role = "manager"
sites = ["shop"]
"""


def test_a_provider_is_read_from_its_file(tmp_path):
    path = tmp_path / "oidc.toml"
    path.write_text(FILE)
    with pytest.raises(ConfigError, match=r"oidc\.secret cannot be read"):
        open_provider(path)
    (tmp_path / "oidc.secret").write_text(f"{SECRET}\n")
    found = open_provider(path)
    assert found.settings.roles == (Mapping("shop-managers", "manager", ("shop",)),)
    assert (found.settings.create, found.settings.claim) == (False, "roles")
    assert SECRET not in repr(found.settings)
    for wrong, said in (
        ('issuer = "http://id.example.org"', "https://"),
        ('role = "boss"', "role"),
        ('scope = "email"', "openid"),
        ('address = "shop"', "https://"),
    ):
        name = wrong.partition(" ")[0]
        lines = [line for line in FILE.splitlines() if not line.startswith(f"{name} ")]
        place = lines.index("[[roles]]") + (1 if name == "role" else 0)
        path.write_text("\n".join([*lines[:place], wrong, *lines[place:]]))
        with pytest.raises(ConfigError, match=said):
            open_provider(path)


def test_without_its_packages_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("passerby.service.oidc.find_spec", lambda name: None)
    with pytest.raises(AccessError, match=r'authlib: pip install "passerby\[oidc\]"'):
        Provider(Settings("https://id.example.org", CLIENT, "https://shop.example.org", ROLES))


def test_a_user_is_linked_by_a_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("oidc.toml").write_text(FILE.replace('secret_file = "oidc.secret"\n', ""))
    with Store("shop.sqlite") as store:
        make_anna(store)
    words = ["users", "link", "anna", "--store", "shop.sqlite", "--oidc", "oidc.toml", "--subject", "4711"]
    assert CliRunner().invoke(command_line, words).stdout == "anna: https://id.example.org 4711\n"
    with Store("shop.sqlite") as store:
        assert accounts.linked(store, "https://id.example.org 4711").name == "anna"


def test_nobody_is_two_users_of_a_provider_and_a_new_password_unlinks_nobody(url):
    with Store(url) as store:
        make_anna(store, "https://id.example.org")
        link = accounts.invite(store, "anna", role="manager", sites=None, now=NOW)
        assert accounts.accept(store, link, password="HASH", now=NOW).subject == "https://id.example.org 4711"
        accounts.add_linked(store, "ben", "https://id.example.org 9", role="manager", sites=["shop"], now=NOW)
        ben = accounts.linked(store, "https://id.example.org 9")
        assert (ben.name, ben.role, ben.sites, ben.password) == ("ben", "manager", {"shop"}, None)
        with pytest.raises(AccessError, match="'anna' logs in at the provider as that one already"):
            accounts.link(store, "ben", "https://id.example.org 4711")
        with pytest.raises(AccessError, match="there is none of that name"):
            accounts.link(store, "carl", "https://id.example.org 1")
        with pytest.raises(AccessError, match="name: expected"):
            accounts.add_linked(store, " carl ", "https://id.example.org 1", role="manager", sites=None, now=NOW)
        assert accounts.linked(store, "https://id.example.org 1") is None


def test_the_page_about_access_has_a_file_that_is_read(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "access.md").read_text()
    (tmp_path / "oidc.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    (tmp_path / "oidc.secret").write_text(SECRET)
    assert [each.role for each in open_provider(tmp_path / "oidc.toml").settings.roles] == [
        "manager",
        "privacy officer",
    ]
