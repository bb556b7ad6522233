"""Log in at a provider (OpenID Connect): the way there, the way back, and what its word is worth. No SQL, no clock."""

import json
import secrets
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from passerby.config import STRICT, load_toml
from passerby.service.accounts import Role
from passerby.types import AccessError, ConfigError

BACK = "/login/oidc/back"  # where the provider sends browsers back to
WELL_KNOWN = "/.well-known/openid-configuration"
ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)  # no shared secret
AWAY = timedelta(minutes=10)  # to log in there
KNOWN = timedelta(hours=1)  # what the provider said of itself, and its keys
FRESH = timedelta(minutes=1)  # keys are asked for anew this often at most
LEEWAY_S, TIMEOUT_S = 60, 10.0
MOST, MOST_BYTES = 1000, 2**20  # who are away at once; of an answer
NAMES = ("preferred_username", "email", "sub")  # of these claims the first names an account that is made
LOOPBACK = ("127.0.0.1", "::1", "localhost")
SECURE = {("https", True), ("https", False), ("http", True)}  # the scheme, and whether it is this machine


@dataclass(frozen=True, slots=True)
class Mapping:
    """Who has `value` in the claim has this role here, at these sites, or at all of them."""

    value: str
    role: Role
    sites: tuple[str, ...] | None = None
    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class Settings:
    """A provider as its TOML file has it.

    `issuer` is its address, `client_id` what it calls this service, whose own secret lies in `secret_file` beside the file;
    without one it is a public client. `address` is that of this service, as browsers have it. `claim` holds what `roles` are
    told by; a dot leads into a table. With `create` accounts are made; else they are linked by hand (`passerby users link`).
    """

    issuer: str
    client_id: str
    address: str
    roles: tuple[Mapping, ...]
    secret_file: str | None = None
    claim: str = "roles"
    scope: str = "openid profile email"
    name: str = "your organisation"
    create: bool = False
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        for what, url in (("issuer", self.issuer), ("address", self.address)):
            _secure(what, url)
        if not self.client_id or not self.roles or "openid" not in self.scope.split():
            raise ValueError('expected a client_id, one of [[roles]] or more, and "openid" in scope')


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a provider says that somebody is: `subject` never changes, `name` may; the role and sites that follow from it."""

    subject: str
    name: str
    role: Role
    sites: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class _Gone:
    """Somebody who was sent to the provider: what must come back, and where they wanted to go."""

    state: str
    nonce: str
    verifier: str
    path: str
    until: datetime


def open_provider(path: Path) -> "Provider":
    """The provider of a TOML file. Raises ConfigError for what it cannot be, and for a secret that cannot be read."""
    settings = load_toml(path, Settings)
    if settings.secret_file is None:
        return Provider(settings)
    secret = path.parent / settings.secret_file
    try:
        return Provider(settings, secret=secret.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path}: secret_file: {secret} cannot be read") from None


class Provider:
    """A provider; for any thread. What it says of itself and its keys are asked for when they are needed, and now and then.

    `secret` is this service's own. Raises AccessError where a package is missing.
    """

    def __init__(self, settings: Settings, *, secret: str | None = None) -> None:
        if missing := [name for name in ("authlib", "joserfc") if find_spec(name) is None]:
            raise AccessError(f'to log in at a provider needs {missing[0]}: pip install "passerby[oidc]"')
        self._secret = secret
        self.settings, self._lock = settings, Lock()
        self._gone: OrderedDict[str, _Gone] = OrderedDict()
        self._said: tuple[dict[str, Any], datetime] | None = None  # Any: JSON
        self._keys: tuple[dict[str, Any], datetime] | None = None

    def begin(self, path: str, *, now: datetime) -> tuple[str, str]:
        """Where to send somebody who wants to go to `path`, and a secret for a cookie by which their browser is known again.

        Raises AccessError where the provider does not answer.
        """
        target = self._endpoint("authorization_endpoint", now)
        browser = secrets.token_urlsafe(32)
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        gone = _Gone(state, nonce, verifier, path, now + AWAY)
        with self._lock:
            for key in [key for key, each in self._gone.items() if each.until <= now]:
                del self._gone[key]
            self._gone[_hash(browser)] = gone
            while len(self._gone) > MOST:
                self._gone.popitem(last=False)
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self._back,
            "scope": self.settings.scope,
            "state": gone.state,
            "nonce": gone.nonce,
            "code_challenge": challenge(gone.verifier),
            "code_challenge_method": "S256",
        }
        return f"{target}{'&' if urlsplit(target).query else '?'}{urlencode(asked)}", browser

    def finish(self, browser: str, *, state: str, code: str, error: str, now: datetime) -> tuple[Identity, str]:
        """Who has come back, and where they wanted to go. Each secret works once.

        Raises AccessError where it is not the browser that was sent away, where the provider says no, where its word is not
        good, and where no role follows from it.
        """
        with self._lock:
            gone = self._gone.pop(_hash(browser), None)
        if gone is None or gone.until <= now or not compare_digest(gone.state.encode(), state.encode()):
            raise AccessError("this log-in was not begun here, or too long ago; begin again")
        if error or not code:
            raise AccessError(f"{self.settings.name} did not log you in ({error[:60] or 'no code'})")
        answer = self._exchanged(code, gone.verifier, now)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise AccessError("the provider gave no ID token")
        claims = self._checked(token, gone.nonce, answer.get("access_token"), now)
        return self._identity(claims), gone.path

    def subject(self, sub: str) -> str:
        """Under which somebody of this provider is known here: nobody of another one is."""
        return f"{self.settings.issuer} {sub}"

    @property
    def _back(self) -> str:
        return self.settings.address.rstrip("/") + BACK

    def _identity(self, claims: dict[str, Any]) -> Identity:  # Any: JSON
        settings = self.settings
        said = claims.get(settings.claim)
        if said is None:
            said = claims
            for part in settings.claim.split("."):
                said = said.get(part) if isinstance(said, dict) else None
        values = said if isinstance(said, list) else [said]
        fits = next((each for each in settings.roles if each.value in values), None)
        if fits is None:
            raise AccessError(f"no role here follows from what the provider says of you ({settings.claim})")
        name = next(name for each in NAMES if isinstance(name := claims.get(each), str) and name)
        sites = None if fits.sites is None else frozenset(fits.sites)
        return Identity(self.subject(claims["sub"]), name, fits.role, sites)

    def _exchanged(self, code: str, verifier: str, now: datetime) -> dict[str, Any]:  # Any: JSON
        """What the provider gives for a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._back,
            "client_id": self.settings.client_id,
            "code_verifier": verifier,
        }
        if self._secret is not None:
            form["client_secret"] = self._secret
        return self._asked(self._endpoint("token_endpoint", now), form)

    def _checked(self, token: str, nonce: str, access: object, now: datetime) -> dict[str, Any]:  # Any: JSON
        """The claims of an ID token: signed by the provider, for this service, for this log-in, and now."""
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        settings = self.settings
        for keys in self._keys_of(now):
            try:
                found = jwt.decode(token, KeySet.import_key_set(keys), algorithms=ALGORITHMS)
                break
            except (JoseError, ValueError):
                continue
        else:
            raise AccessError("the provider's ID token is not signed by its keys")
        essential = {"iss": settings.issuer, "aud": settings.client_id}
        claims = CodeIDToken(
            found.claims,
            found.header,
            {name: {"essential": True, "value": value} for name, value in essential.items()},
            {"nonce": nonce, "client_id": settings.client_id, "access_token": access},
        )
        try:
            claims.validate(now=int(now.timestamp()), leeway=LEEWAY_S)
        except (JoseError, ValueError, TypeError) as error:
            raise AccessError(f"the provider's ID token is not good: {error}") from None
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise AccessError("the provider's ID token names nobody")
        return dict(claims)

    def _keys_of(self, now: datetime) -> Iterator[Any]:  # Any: JSON
        """The provider's keys as they are known, and then as they are now: one may be new."""
        with self._lock:
            known = self._keys
        if known is not None and now - known[1] < KNOWN:
            yield known[0]
            if now - known[1] < FRESH:
                return
        found = self._asked(self._endpoint("jwks_uri", now))
        with self._lock:
            self._keys = found, now
        yield found

    def _endpoint(self, name: str, now: datetime) -> str:
        """An address that the provider says is its own."""
        with self._lock:
            said = self._said
        if said is None or now - said[1] >= KNOWN:
            found = self._asked(self.settings.issuer.rstrip("/") + WELL_KNOWN)
            if found.get("issuer") != self.settings.issuer:
                raise AccessError(
                    f"the provider calls itself {found.get('issuer')!r}, expected {self.settings.issuer!r}"
                )
            said = found, now
            with self._lock:
                self._said = said
        url = said[0].get(name)
        try:
            return _secure(name, url if isinstance(url, str) else "")
        except ValueError as error:
            raise AccessError(f"the provider's {error}") from None

    def _asked(self, url: str, form: dict[str, str] | None = None) -> dict[str, Any]:  # Any: JSON
        """What the provider answers; with a form, to that."""
        try:
            with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client:
                headers = {"Accept": "application/json"}
                answer = (
                    client.get(url, headers=headers) if form is None else client.post(url, data=form, headers=headers)
                )
            found = json.loads(answer.content) if len(answer.content) <= MOST_BYTES else None
        except (httpx.HTTPError, OSError, ValueError):
            raise AccessError(f"{self.settings.name} does not answer") from None
        if answer.status_code != 200 or not isinstance(found, dict):
            raise AccessError(f"{self.settings.name} does not answer as it should (status {answer.status_code})")
        return found


def challenge(verifier: str) -> str:
    """What is sent ahead of a verifier (RFC 7636, S256).

    >>> challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
    """
    return urlsafe_b64encode(sha256(verifier.encode("ascii")).digest()).decode().rstrip("=")


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _secure(what: str, url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or (parts.scheme, parts.hostname in LOOPBACK) not in SECURE:
        raise ValueError(f"{what}: expected an address that begins with https://, got {url!r}")
    return url
