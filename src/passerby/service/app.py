"""The web application of one site: who is let in, how much at once, and how errors look. What is answered is in `routes/`."""

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from passerby.service.auth import HEADERS, Permission, Principal, SecureHeaders, needs, unknown
from passerby.service.guests import Guests
from passerby.service.live import Live
from passerby.service.lookup import Lookup
from passerby.service.outlets import Outlet
from passerby.service.privacy import erase
from passerby.service.routes import (
    erasures,
    exports,
    guests,
    intake,
    journeys,
    metrics,
    people,
    scrape,
    searching,
    state,
)
from passerby.service.routes.problem import Fault, Problem, problem
from passerby.service.routes.served import Served
from passerby.service.store import Erased, StoreReader
from passerby.site import Site
from passerby.types import StoreError

EXAMPLES = Path(__file__).with_name("routes") / "examples.json"  # written by scripts/dev/http_examples.py
STATIC = Path(__file__).with_name("static")
OPEN = (
    "/health",
    "/login",
    "/login/oidc",
    "/login/oidc/back",
    "/first",
)  # and /static/*; everything else needs a credential
RATE, BURST = 20.0, 200.0  # requests a second of one key, and at once
MOST_BYTES = 2**20  # of a request's body
CALLERS = 10_000  # that are remembered for their rate
logger = logging.getLogger(__name__)
Authenticate = Callable[[Request], Principal | None]
Record = Callable[[Principal, Permission, Request], None]


def create_app(
    *,
    site: Site,
    store: StoreReader,
    live: Live,
    authenticate: Authenticate,
    clock: Callable[[], datetime],
    record: Record | None = None,
    pages: APIRouter | None = None,
    outlets: Callable[[], list[Outlet]] = list,
    lookup: Lookup | None = None,
    erase: Callable[..., Erased] = erase,
    enrolled: Guests | None = None,
    rate: float = RATE,
    burst: float = BURST,
    most_bytes: int = MOST_BYTES,
) -> FastAPI:
    """The application: its API under /api/v1, `pages` at /, static files.

    `authenticate` says who asks, None for nobody; it is called once a request, in a thread. A caller may ask `burst` times at
    once and `rate` times a second for long; a body may have `most_bytes`. `record` (`auth.recorder`) writes down what is
    seen and changed; `outlets` says how webhooks and MQTT are doing, `lookup` searches by
    picture. `erase` erases a visit, as `privacy.erase`; `enrolled` are the guests who are recognised.
    """
    app = FastAPI(
        title="passerby",
        version="1",
        summary="Footfall, dwell and journeys of one site, each figure with its error.",
        openapi_url=None,  # a route of its own, which needs a key
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
    )
    app.state.served = Served(site, store, live, clock, outlets, lookup, erase, enrolled)
    app.state.authenticate, app.state.site, app.state.record = authenticate, site.name, record
    app.add_middleware(Guard, authenticate=authenticate, clock=clock, rate=rate, burst=burst, most_bytes=most_bytes)
    app.add_middleware(SecureHeaders)
    app.include_router(state.open_to_all)
    credential = [Depends(HTTPBearer(auto_error=False)), Depends(APIKeyHeader(name="X-API-Key", auto_error=False))]
    for router in (
        state.router,
        metrics.router,
        journeys.router,
        people.router,
        exports.router,
        scrape.router,
        intake.router,
        erasures.router,
        searching.router,
        guests.router,
    ):
        app.include_router(router, dependencies=[*credential, Depends(_only_known)])
    if pages is not None:
        app.include_router(pages, include_in_schema=False)
    if STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=STATIC))
    app.exception_handler(StarletteHTTPException)(_refused)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(StoreError)(_no_store)
    app.exception_handler(Exception)(_failed)
    plain = app.openapi

    def described() -> dict[str, Any]:  # Any: OpenAPI
        found = plain()
        if "Problem" not in found["components"]["schemas"]:
            schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            found["components"]["schemas"] |= schema.pop("$defs") | {"Problem": schema}
            _show_examples(found["paths"], site)
        return found

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's guide has it

    @app.get("/api/v1/openapi.json", include_in_schema=False, dependencies=[Depends(needs("see figures"))])
    def openapi() -> Response:
        return JSONResponse(app.openapi())

    return app


def _show_examples(paths: dict[str, Any], site: Site) -> None:  # Any: OpenAPI
    """Put an example of what is asked and answered into the description of each route, and the names of the site's places."""
    names = {"zone": [zone.name for zone in site.zones], "camera": [camera.name for camera in site.cameras]}
    examples = json.loads(EXAMPLES.read_text(encoding="utf-8")) if EXAMPLES.is_file() else {}
    for path, method, operation in ((path, method, said[method]) for path, said in paths.items() for method in said):
        example = examples.get(f"{method.upper()} {path}", {})
        asked = example.get("query", {}) | example.get("path", {})
        for parameter in operation.get("parameters", ()):
            if known := names.get(parameter["name"]):
                parameter["schema"] = {"type": "string", "enum": known}
            if parameter["name"] in asked:
                parameter["example"] = asked[parameter["name"]]
        if "body" in example:
            operation["requestBody"]["content"]["application/json"]["example"] = example["body"]
        if "answer" in example:
            operation["responses"]["200"]["content"][example["media"]]["example"] = example["answer"]


# Errors


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    if error.status_code < 400:  # a browser that has to log in
        return Response(status_code=error.status_code, headers=error.headers)
    detail = (
        "There is nothing here; GET /api/v1/openapi.json names every route."
        if error.detail == "Not Found"
        else error.detail
    )
    return problem(request, error.status_code, detail, headers=error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [
        Fault(where=": ".join(str(part) for part in fault["loc"]), what=fault["msg"].removeprefix("Value error, "))
        for fault in error.errors()
    ]
    return problem(request, 422, "; ".join(f"{fault.where}: {fault.what}" for fault in faults), errors=faults)


async def _no_store(request: Request, error: Exception) -> Response:
    logger.error("%s: not answered: %s", request.url.path, error)
    return problem(request, 503, "The store cannot be read at this moment; the service's log says why.")


async def _failed(request: Request, error: Exception) -> Response:
    said = "This is a fault of passerby; the service's log says more."  # the server logs it
    return problem(request, 500, said, headers=HEADERS)  # it is outside of all middleware


def _only_known(request: Request) -> None:
    """Refuse a query parameter that the route does not know, or that is given twice."""
    route, method = request.scope["route"], request.method.lower()
    described: Mapping[str, Any] = request.app.openapi()["paths"][route.path_format][method]  # Any: OpenAPI
    known = [each["name"] for each in described.get("parameters", ()) if each["in"] == "query"]
    faults = []
    for name in dict.fromkeys(request.query_params.keys()):
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known) or 'none'}"
            faults.append({"loc": ("query", name), "msg": f"unknown parameter; {hint}", "type": "extra_forbidden"})
        elif len(request.query_params.getlist(name)) > 1:
            faults.append({"loc": ("query", name), "msg": "expected it once", "type": "extra_forbidden"})
    if faults:
        raise RequestValidationError(faults)


# The door


class _TooLarge(HTTPException):
    def __init__(self, most: int) -> None:
        super().__init__(413, f"The request's body is larger than {most} bytes.")


class Guard:
    """Lets in who is known, not too often and not too much."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticate: Authenticate,
        clock: Callable[[], datetime],
        rate: float,
        burst: float,
        most_bytes: int,
    ) -> None:
        self._app, self._authenticate, self._clock, self._most_bytes = app, authenticate, clock, most_bytes
        self._rate, self._burst = rate, burst
        self._tokens: OrderedDict[str, tuple[float, datetime]] = OrderedDict()  # of each caller, as of a time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        request = Request(scope)
        refused = await self._let_in(request)
        if refused is not None:
            await refused(scope, receive, send)
        else:
            await self._app(scope, self._limited(receive), send)

    async def _let_in(self, request: Request) -> Response | None:
        """None for who is let in; else why not."""
        length = request.headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > self._most_bytes:
            return problem(request, 413, f"The request's body is larger than {self._most_bytes} bytes.")
        path, address = request.url.path, f"address {request.client.host if request.client else '?'}"
        request.state.principal = None
        if path.startswith("/static/") or path == "/health":
            return None
        if path in OPEN:
            return self._too_often(request, address)
        if self._left(address) < 1:
            return self._too_often(request, address)
        try:
            principal = await run_in_threadpool(self._authenticate, request)
        except StoreError as error:
            return await _no_store(request, error)
        if principal is None:
            return self._too_often(request, address) or await _refused(request, unknown(request))
        request.state.principal = principal
        return self._too_often(request, f"{principal.kind} {principal.name}")

    def _left(self, caller: str) -> float:
        """How many requests a caller may make now."""
        tokens, since = self._tokens.get(caller, (self._burst, self._clock()))
        return min(self._burst, tokens + self._rate * max(0.0, (self._clock() - since).total_seconds()))

    def _too_often(self, request: Request, caller: str) -> Response | None:
        """Count a request; the answer to one too many."""
        left = self._left(caller)
        if left < 1:
            wait = (1 - left) / self._rate
            return problem(
                request,
                429,
                f"Too many requests: {self._burst:.0f} at once and {self._rate:g} a second are answered. Wait {wait:.1f} s.",
                headers={"Retry-After": str(int(wait) + 1)},
            )
        self._tokens[caller] = left - 1, self._clock()
        self._tokens.move_to_end(caller)
        while len(self._tokens) > CALLERS:
            self._tokens.popitem(last=False)
        return None

    def _limited(self, receive: Receive) -> Receive:
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most_bytes:
                raise _TooLarge(self._most_bytes)
            return message

        return counted
