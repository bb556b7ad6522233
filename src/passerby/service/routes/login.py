"""The door: log in, log out, and the one-time link with which somebody chooses a password; plain forms, without a script."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from passerby.service import accounts
from passerby.service.auth import (
    COOKIE,
    LEAST_PASSWORD,
    LONGEST_PASSWORD,
    Principal,
    TooManyTries,
    from_here,
    hash_password,
    local_path,
    log_in,
    log_in_as,
    needs,
)
from passerby.service.oidc import AWAY, BACK, Provider
from passerby.service.store import Store
from passerby.types import AccessError

TEMPLATES = Path(__file__).parents[1] / "templates"
SENT = "passerby_sent"  # the cookie of a browser that was sent to the provider
LONG = 1024  # characters that a field may have; longer ones are refused unread


def login(*, store: Store, clock: Callable[[], datetime], provider: Provider | None = None) -> APIRouter:
    """`/login`, `/login/oidc`, `/logout` and `/first`, of which all but `/logout` are open to all.

    `provider` is where one may log in, too.
    """
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    door = APIRouter(include_in_schema=False)

    def shown(status: int = 200, **context: Any) -> HTMLResponse:  # Any: what templates take
        elsewhere = "" if provider is None else provider.settings.name
        blank = {
            "elsewhere": elsewhere,
            "error": "",
            "name": "",
            "next": "/",
            "link": "",
            "least": LEAST_PASSWORD,
            "longest": LONGEST_PASSWORD,
        }
        return HTMLResponse(environment.get_template("login.html").render(**blank | context), status)

    def address(request: Request) -> str:
        return request.client.host if request.client else "?"

    def entered(request: Request, secret: str, path: str) -> Response:
        answer = RedirectResponse(local_path(path), 303)
        answer.set_cookie(
            COOKIE,
            secret,
            max_age=int(accounts.LONGEST.total_seconds()),
            path="/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )
        return answer

    def only_from_here(request: Request) -> None:
        if not from_here(request):
            raise HTTPException(403, "This form was sent from another site's page.")

    @door.get("/login")
    def form(next: str = "/") -> Response:
        """The form to log in with."""
        return shown(form="login", title="Log in", next=local_path(next))

    @door.post("/login", dependencies=[Depends(only_from_here)])
    def enter(
        request: Request,
        name: Annotated[str, Form(max_length=LONG)],
        password: Annotated[str, Form(max_length=LONG)],
        next: Annotated[str, Form(max_length=LONG)] = "/",
    ) -> Response:
        """Log in, and go on to where one wanted to go, on this service only."""
        try:
            secret = log_in(store, name, password, address(request), now=clock())
        except AccessError as error:
            wait = {"Retry-After": str(error.wait_s)} if isinstance(error, TooManyTries) else {}
            answer = shown(
                429 if wait else 401, form="login", title="Log in", error=f"{error}.", name=name, next=local_path(next)
            )
            answer.headers.update(wait)
            return answer
        return entered(request, secret, next)

    @door.get("/login/oidc")
    def away(request: Request, next: str = "/") -> Response:
        """Go to the provider to log in there."""
        if provider is None:
            raise HTTPException(404)
        try:
            url, secret = provider.begin(local_path(next), now=clock())
        except AccessError as error:
            return shown(503, form="login", title="Log in", error=f"{error}.", next=local_path(next))
        answer = RedirectResponse(url, 303)
        lasts, secure = int(AWAY.total_seconds()), request.url.scheme == "https"
        answer.set_cookie(SENT, secret, max_age=lasts, path=BACK, secure=secure, httponly=True, samesite="lax")
        return answer

    @door.get(BACK)
    def back(request: Request, state: str = "", code: str = "", error: str = "") -> Response:
        """Come back from the provider, and go on to where one wanted to go."""
        if provider is None:
            raise HTTPException(404)
        now, sent = clock(), request.cookies.get(SENT, "")
        try:
            identity, path = provider.finish(sent, state=state, code=code, error=error, now=now)
            secret = log_in_as(store, identity, address(request), create=provider.settings.create, now=now)
        except AccessError as refused:
            detail = {"address": address(request), "why": str(refused)}
            accounts.record(store, who="?", kind="user", action="login failed", now=now, detail=detail)
            answer: Response = shown(401, form="login", title="Log in", error=f"{refused}.")
        else:
            answer = entered(request, secret, path)
        answer.delete_cookie(SENT, path=BACK, httponly=True, samesite="lax")
        return answer

    @door.post("/logout")
    def leave(request: Request, who: Annotated[Principal, Depends(needs("see figures"))]) -> Response:
        """End the session."""
        accounts.end_session(store, request.cookies.get(COOKIE, ""))
        accounts.record(store, who=who.name, kind=who.kind, action="logout", now=clock())
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
        return answer

    def refused(said: str) -> HTMLResponse:
        return shown(410, form="none", title="This link no longer works", error=said)

    @door.get("/first")
    def invited(link: str = "") -> Response:
        """The form with which a one-time link's user chooses a password."""
        name = accounts.invited(store, link, now=clock())
        if name is None:
            return refused("It was used already, is too old, or was not copied whole.")
        return shown(form="first", title="Choose a password", name=name, link=link)

    @door.post("/first", dependencies=[Depends(only_from_here)])
    def chosen(
        request: Request,
        link: Annotated[str, Form(max_length=LONG)],
        password: Annotated[str, Form(max_length=LONG)],
        again: Annotated[str, Form(max_length=LONG)],
    ) -> Response:
        """Keep the password, and log in."""
        name = accounts.invited(store, link, now=clock())
        if name is None:
            return refused("It was used already, is too old, or was not copied whole.")
        try:
            if password != again:
                raise AccessError("the two passwords differ")
            user = accounts.accept(store, link, password=hash_password(password), now=clock())
        except AccessError as error:
            return shown(422, form="first", title="Choose a password", error=f"{error}.", name=name, link=link)
        accounts.succeeded(store, user.name)
        accounts.record(store, who=user.name, kind="user", action="password chosen", now=clock())
        return entered(request, accounts.begin_session(store, user.name, now=clock()), "/")

    return door
