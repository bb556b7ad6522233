"""Who asks, and what they may: roles, API keys, sessions, and what every answer's headers say. No SQL, no clock."""

import re
import secrets
import ssl
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from hmac import compare_digest
from hmac import new as hmac
from ipaddress import ip_network
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args
from urllib.parse import quote, urlsplit

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from passerby.service import accounts
from passerby.service.accounts import Role
from passerby.service.oidc import Identity
from passerby.service.store import Store
from passerby.types import AccessError

__all__ = ["COOKIE", "MAY", "Needs", "Permission", "Principal", "Role", "SecureHeaders", "authenticate", "needs"]

Permission = Literal[
    "see figures",  # counts: entries, exits, occupancy, queues, and what is worked out of them
    "see people",  # personal detail in groups of k or more: journeys, dwell, heat maps, groups
    "see visits",  # and one by one: visits, tracks, what is played back
    "see pictures",  # the cameras' pictures, heads blurred
    "export",
    "search",  # by picture
    "set up",
    "erase",
    "manage users",
    "read audit",
    "annotate",  # audits at the door, notes
    "see guests",  # who enrolled, and which of them are here
    "enrol guests",  # and withdraw and erase their consents
]
# Who may what: the one place where this is said.
MAY: dict[Role, frozenset[Permission]] = {
    "administrator": frozenset(get_args(Permission)),
    "manager": frozenset(
        {"see figures", "see people", "see visits", "see pictures", "export", "annotate", "see guests"}
    ),
    "analyst": frozenset({"see figures", "see people", "export"}),
    "operator": frozenset({"see figures", "see pictures", "set up", "annotate"}),
    "privacy officer": frozenset(
        {
            "see figures",
            "see people",
            "see visits",
            "see pictures",
            "export",
            "search",
            "erase",
            "read audit",
            "see guests",
            "enrol guests",
        }
    ),
    "auditor": frozenset({"see figures", "read audit"}),
}
COOKIE = "passerby_session"
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
LEAST_PASSWORD, LONGEST_PASSWORD = 12, 256  # characters
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "font-src 'self'; manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",  # unless the answer says otherwise
}
HASHING = Lock()  # one password at a time: a hash takes 64 MiB and all of a core


@dataclass(frozen=True)
class Principal:
    """Who asks: a user who logged in, or an API key; of these sites, or of all (None)."""

    name: str
    role: Role
    sites: frozenset[str] | None
    kind: Literal["user", "key"]

    def may(self, permission: Permission, site: str | None = None) -> bool:
        """Whether this one may do that, at this site if one is given.

        >>> anna = Principal("Anna", "analyst", frozenset({"shop"}), "user")
        >>> anna.may("see figures", "shop"), anna.may("see figures", "other"), anna.may("set up", "shop")
        (True, False, False)
        """
        return permission in MAY[self.role] and (site is None or self.sites is None or site in self.sites)


def authenticate(store: Store, request: Request, *, clock: Callable[[], datetime]) -> Principal | None:
    """Who asks, by an API key in the header `Authorization: Bearer pb_...` or `X-API-Key`, or by a session's cookie.

    A session's request that changes something must carry the session's CSRF token, in the header `X-CSRF-Token`, or in the
    field `csrf` of a form, which `needs` reads: such a request's state says so, in `csrf`. None: nobody that is known.
    """
    said = request.headers.get("authorization")
    key = request.headers.get("x-api-key")
    if said is not None or key is not None:
        kind, _, secret = (said or "").partition(" ")
        secret = key if key is not None else secret.strip() if kind.lower() == "bearer" else ""
        found = accounts.key_of(store, secret, now=clock())
        return None if found is None else Principal(found.name, found.role, found.sites, "key")
    cookie = request.cookies.get(COOKIE)
    if not cookie:
        return None
    if request.method not in SAFE:
        token = request.headers.get("x-csrf-token")
        if token is None and _is_form(request):
            request.state.csrf = csrf_token(cookie)  # to be compared with the form's
        elif not compare_digest((token or "").encode(), csrf_token(cookie).encode()):
            return None
    user = accounts.session_user(store, cookie, now=clock())
    return None if user is None else Principal(user.name, user.role, user.sites, "user")


def csrf_token(session: str) -> str:
    """The token that forms and scripts of a session send along; whoever knows it does not know the session.

    >>> csrf_token("a") == csrf_token("a"), csrf_token("a") == csrf_token("b")
    (True, False)
    """
    return urlsafe_b64encode(hmac(session.encode(), b"passerby csrf", sha256).digest()).decode().rstrip("=")


class Needs:
    """A route's demand for a permission, for FastAPI's Depends. It gives the `Principal`, or answers 401, 403 or to log in.

    The app's state has `authenticate`, which takes the request, unless something in front of the app has put the principal into
    the request's state. It may have `site`, the name of the one site that is served, and `record`, which takes principal,
    permission and request, and writes to the audit log before the answer is made.
    """

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, request: Request) -> AsyncIterator[Principal]:
        """Who asks, where they may; a form that was read for its token is closed when the answer is sent."""
        state = request.app.state
        principal: Principal | None = getattr(request.state, "principal", None)
        if principal is None:
            principal = await run_in_threadpool(state.authenticate, request)
        async with AsyncExitStack() as ending:
            expected = getattr(request.state, "csrf", None)
            if expected is not None:
                form = await request.form()
                ending.push_async_callback(form.close)
                token = form.get("csrf")
                if not (isinstance(token, str) and compare_digest(token.encode(), expected.encode())):
                    principal = None
            if principal is None:
                raise unknown(request)
            here = request.path_params.get("site") or getattr(state, "site", None)
            for site in (here, *request.query_params.getlist("site")):
                if not principal.may(self.permission, site):
                    raise HTTPException(403, f"{principal.role} {principal.name!r} may not {self.permission} here")
            record = getattr(state, "record", None)
            if record is not None:
                await run_in_threadpool(record, principal, self.permission, request)
            yield principal


def needs(permission: Permission) -> Needs:
    """What a route says that it needs: `Annotated[Principal, Depends(needs("export"))]`, or in its `dependencies`."""
    if not any(permission in may for may in MAY.values()):
        raise ValueError(f"needs: no role may {permission!r}; auth.MAY says who may what")
    return Needs(permission)


def _is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in ("application/x-www-form-urlencoded", "multipart/form-data")


def unknown(request: Request) -> HTTPException:
    """What somebody unknown hears: a browser is sent to the login page, a script or program gets 401."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    login = f"/login?next={quote(here, safe='')}"
    if request.headers.get("hx-request"):
        return HTTPException(401, "log in first", {"HX-Redirect": "/login"})
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return HTTPException(303, "log in first", {"Location": login})
    return HTTPException(
        401, "expected an API key or a session; a change needs its CSRF token", {"WWW-Authenticate": "Bearer"}
    )


# Passwords and the login


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)  # Argon2id; OWASP asks for 19 MiB and 2


@cache
def _nobodys() -> str:
    """A hash that no password has, so that an unknown name takes as long as a known one."""
    return _hasher().hash(secrets.token_urlsafe(32))


def hash_password(password: str) -> str:
    """The Argon2id hash of a password. Raises AccessError for one that is too short, too long or too easily guessed."""
    if not LEAST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise AccessError(f"password: expected {LEAST_PASSWORD} to {LONGEST_PASSWORD} characters, got {len(password)}")
    if len(set(password)) < 5:
        raise AccessError("password: expected 5 different characters at least")
    with HASHING:
        return _hasher().hash(password)


def log_in(store: Store, name: str, password: str, address: str, *, now: datetime) -> str:
    """Check a name and password that came from an address, and begin a session: its secret, for the cookie.

    Raises AccessError, with the same words for a wrong name and a wrong password, and where too many tries failed; that says
    until when.
    """
    with HASHING:  # so that tries at the same moment are counted one after the other
        until = accounts.kept_out(store, name, address, now=now)
        if until is not None:
            minutes = max(1, -(-int((until - now).total_seconds()) // 60))
            wait_s = int((until - now).total_seconds()) + 1
            raise TooManyTries(f"too many logins failed; try again in {minutes} min", wait_s)
        user = accounts.user(store, name)
        known = user.password if user is not None and user.password is not None else _nobodys()
        try:
            _hasher().verify(known, password[: LONGEST_PASSWORD + 1])
        except (VerificationError, InvalidHashError):
            user = None
        if user is None:
            accounts.failed(store, name, address, now=now)
    if user is None:
        accounts.record(store, who=name[:64], kind="user", action="login failed", now=now, detail={"address": address})
        raise AccessError("name or password is wrong")
    accounts.succeeded(store, name)
    if _hasher().check_needs_rehash(known):
        accounts.set_password(store, name, hash_password(password))
    accounts.record(store, who=name, kind="user", action="login", now=now, detail={"address": address})
    return accounts.begin_session(store, name, now=now)


def log_in_as(store: Store, identity: Identity, address: str, *, create: bool, now: datetime) -> str:
    """Begin a session of who logged in at a provider: its secret, for the cookie. Their role is what the provider says now.

    Raises AccessError for one who has no account here, unless accounts are made (`create`), and where the last administrator
    would be one no more.
    """
    known = accounts.linked(store, identity.subject)
    name = identity.name if known is None else known.name
    if known is None and not create:
        raise AccessError(f"nobody here is {identity.subject!r}; `passerby users link` makes a user that one")
    if known is None:
        accounts.add_linked(store, name, identity.subject, role=identity.role, sites=identity.sites, now=now)
        detail = {"user": name, "role": identity.role}
        accounts.record(store, who=name, kind="user", action="user made", now=now, detail=detail)
    elif (known.role, known.sites) != (identity.role, identity.sites):
        accounts.change_user(store, name, role=identity.role, sites=identity.sites)
        detail = {"user": name, "role": identity.role}
        accounts.record(store, who=name, kind="user", action="user changed", now=now, detail=detail)
    detail = {"address": address, "as": identity.subject}
    accounts.record(store, who=name, kind="user", action="login", now=now, detail=detail)
    return accounts.begin_session(store, name, now=now)


class TooManyTries(AccessError):
    """A login that is refused for a while; `wait_s` says for how long."""

    def __init__(self, said: str, wait_s: int) -> None:
        super().__init__(said)
        self.wait_s = wait_s


def first_start(store: Store, *, now: datetime) -> tuple[str, str] | None:
    """Of a store that nobody can use yet: the path of a one-time link that makes the administrator, and an API key.

    Both are shown this once. None where there is a user or a key already.
    """
    if not accounts.is_new(store):
        return None
    link = accounts.invite(store, "administrator", role="administrator", sites=None, now=now)
    key = accounts.add_key(store, "first", role="administrator", sites=None, now=now)
    accounts.record(store, who="first start", kind="service", action="key made", now=now, detail={"key": "first"})
    return f"/first?link={link}", key


def local_path(path: str) -> str:
    """Where to go after the login: a path of this service, and never another one's address.

    >>> local_path("/zones?day=2026-03-02"), local_path("//evil.example/"), local_path("https://evil.example/")
    ('/zones?day=2026-03-02', '/', '/')
    """
    if not path.startswith("/") or re.search(r"^/[/\\]|[\\\x00-\x20\x7f]", path):
        return "/"
    parts = urlsplit(path)
    return "/" if parts.scheme or parts.netloc else path


def from_here(request: Request) -> bool:
    """Whether a browser says that a form was sent from a page of this service; a program that says nothing is believed."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def server_settings(trusted_proxies: Sequence[str] = (), tls: tuple[Path, Path] | None = None) -> dict[str, Any]:
    """What `uvicorn.Config` must be told: whose word about a caller's address and scheme is taken, and how TLS is spoken.

    `trusted_proxies` are addresses or networks; without any nobody's word is taken, not even that of a caller on the same
    machine, which uvicorn by itself believes. `tls` are the files of the certificate, with those that it rests on, and of its
    key. Nothing is written to an access log: one-time links stand in addresses, and the audit log says who saw what. Raises
    AccessError for what is no address, and for files that are no certificate and its key.
    """
    for proxy in trusted_proxies:
        try:
            ip_network(proxy)
        except ValueError:
            raise AccessError(
                f"trusted proxy: expected an address or a network such as 10.0.0.2 or 10.0.0.0/24, got {proxy!r}"
            ) from None
    return {
        "proxy_headers": bool(trusted_proxies),
        "forwarded_allow_ips": list(trusted_proxies),
        "access_log": False,
        "server_header": False,
        **({} if tls is None else _tls_settings(*tls)),
    }


def _tls_settings(certificate: Path, key: Path) -> dict[str, Any]:  # Any: uvicorn's
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")  # never asks for one
    except OSError as error:  # an SSLError is one
        if isinstance(error, ssl.SSLError):
            said = "expected a certificate and its key, without a password, as PEM"
        else:
            said = f"cannot be read ({error.strerror})"
        raise AccessError(f"TLS: {certificate} and {key}: {said}") from None
    return {"ssl_certfile": certificate, "ssl_keyfile": key}


# What every answer says


class SecureHeaders:
    """An ASGI app around another one: each answer carries the headers that keep browsers strict, unless it has its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with the headers."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers.setdefault("strict-transport-security", "max-age=31536000")
            await send(message)

        await self.app(scope, receive, sending if scope["type"] == "http" else send)


# What a session is recorded as having seen

SEEN_AGAIN = 900.0  # seconds: the same view by the same one is recorded this often at most
RECORDED: frozenset[Permission] = frozenset(MAY["administrator"] - {"see figures"})


def recorder(store: Store, *, clock: Callable[[], datetime]) -> Callable[[Principal, Permission, Request], None]:
    """What `Needs` calls: writes views, exports, searches and changes to the audit log before they are answered.

    Views of one route by one principal are written once a quarter of an hour, all else each time. Figures,
    which are counts, are not written.
    """
    lately: dict[tuple[str, str, str], datetime] = {}
    lock = Lock()

    def record(principal: Principal, permission: Permission, request: Request) -> None:
        if permission not in RECORDED:
            return
        now = clock()
        view = request.method in SAFE and permission.startswith("see ")
        what = principal.kind, principal.name, request.url.path
        with lock:
            for old in [each for each, at in lately.items() if (now - at).total_seconds() >= SEEN_AGAIN]:
                del lately[old]
            if view and what in lately:
                return
        accounts.record(
            store,
            who=principal.name,
            kind=principal.kind,
            action=permission,
            site=request.path_params.get("site") or getattr(request.app.state, "site", None),
            detail={"asked": f"{request.method} {request.url.path}", "query": request.url.query},
            now=now,
        )
        if view:
            with lock:
                lately[what] = now

    return record


# Which routes need what


def declared(routes: Iterable[Any]) -> dict[str, frozenset[Permission]]:  # Any: FastAPI's and Starlette's routes
    """Of each route, as "GET /path", the permissions that it declares; none of one that is open, or a fault.

    >>> from fastapi import APIRouter, Depends
    >>> router = APIRouter()
    >>> router.add_api_route("/visits", lambda: 1, dependencies=[Depends(needs("see people")), Depends(needs("export"))])
    >>> {name: sorted(found) for name, found in declared(router.routes).items()}
    {'GET /visits': ['export', 'see people']}
    """
    found: dict[str, frozenset[Permission]] = {}
    for route in routes:
        if hasattr(route, "effective_candidates"):  # a router within, as FastAPI keeps it
            found |= declared(route.effective_candidates())
            continue
        waiting, permissions = [route.dependant] if hasattr(route, "dependant") else [], set[Permission]()
        while waiting:
            dependant = waiting.pop()
            if isinstance(dependant.call, Needs):
                permissions.add(dependant.call.permission)
            waiting += dependant.dependencies
        for method in sorted(set(getattr(route, "methods", None) or {"ANY"}) - {"HEAD"}):
            found[f"{method} {route.path}"] = frozenset(permissions)
    return found
