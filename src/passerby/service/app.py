"""The web application of one site: who is let in, how much at once, and how errors look. What is answered is in `routes/`."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from threading import Lock
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from passerby.service.auth import HEADERS, Principal, SecureHeaders, needs, recorder
from passerby.service.live import Live
from passerby.service.routes import exports, metrics, people, scrape, state
from passerby.service.routes.problem import Fault, Problem, problem
from passerby.service.routes.served import Served
from passerby.service.store import Store
from passerby.site import Site
from passerby.types import StoreError

STATIC = Path(__file__).with_name("static")
RATE, BURST = 20.0, 200.0  # requests a second of one key, and at once
MOST_BYTES = 2**20  # of a request's body
CALLERS = 10_000  # that are remembered for their rate
logger = logging.getLogger(__name__)
Authenticate = Callable[[Request], Principal | None]


def create_app(
    *,
    site: Site,
    store: Store,
    live: Live,
    authenticate: Authenticate,
    clock: Callable[[], datetime],
    pages: APIRouter | None = None,
    rate: float = RATE,
    burst: float = BURST,
    most_bytes: int = MOST_BYTES,
) -> FastAPI:
    """The application: its API under /api/v1, `pages` at /, static files.

    `authenticate` says who asks, None for nobody; it may be called in a thread. A caller may ask `burst` times at once and
    `rate` times a second for long; a body may have `most_bytes`.
    """
    app = FastAPI(
        title="passerby",
        version="1",
        summary="Footfall, dwell and journeys of one site, each figure with its error.",
        openapi_url=None,  # a route of its own, which needs a key
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
    )
    app.state.served = Served(site, store, live, clock)
    app.state.site = site.name
    app.state.record = recorder(store, clock=clock)  # who saw personal detail, before it is shown
    app.state.authenticate = Turnstile(authenticate, clock=clock, rate=rate, burst=burst)
    app.add_middleware(BodyLimit, most_bytes=most_bytes)
    app.add_middleware(SecureHeaders)
    app.include_router(state.open_to_all)
    credential = [Depends(HTTPBearer(auto_error=False)), Depends(APIKeyHeader(name="X-API-Key", auto_error=False))]
    for router in (state.router, metrics.router, people.router, exports.router, scrape.router):
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
        return found

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's guide has it

    @app.get("/api/v1/openapi.json", include_in_schema=False, dependencies=[needs("see figures")])
    def openapi() -> Response:
        return JSONResponse(app.openapi())

    return app


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


# How much, how often


class Turnstile:
    """Says who asks, and counts: who asks too often, or gives keys that are not known too often, is told to wait.

    Raises HTTPException 429 with the time to wait. It may be called from several threads.
    """

    def __init__(self, authenticate: Authenticate, *, clock: Callable[[], datetime], rate: float, burst: float) -> None:
        self._authenticate, self._clock, self._rate, self._burst = authenticate, clock, rate, burst
        self._lock = Lock()
        self._left: OrderedDict[str, tuple[float, datetime]] = OrderedDict()  # requests of each caller, as of a time

    def __call__(self, request: Request) -> Principal | None:
        """Who asks, None for nobody."""
        address = f"address {request.client.host if request.client else '?'}"
        with self._lock:
            self._pass(address, takes=0)
        principal = self._authenticate(request)
        with self._lock:
            self._pass(address if principal is None else f"{principal.kind} {principal.name}", takes=1)
        return principal

    def _pass(self, caller: str, *, takes: int) -> None:
        now = self._clock()
        left, since = self._left.get(caller, (self._burst, now))
        left = min(self._burst, left + self._rate * max(0.0, (now - since).total_seconds()))
        if left < 1:
            wait_s = (1 - left) / self._rate
            raise HTTPException(
                429,
                f"Too many requests: {self._burst:.0f} at once and {self._rate:g} a second are answered. Wait {wait_s:.1f} s.",
                {"Retry-After": str(int(wait_s) + 1)},
            )
        if takes:
            self._left[caller] = left - takes, now
            self._left.move_to_end(caller)
        while len(self._left) > CALLERS:
            self._left.popitem(last=False)


class BodyLimit:
    """Refuses requests whose body is too large, also where its length was not said."""

    def __init__(self, app: ASGIApp, *, most_bytes: int) -> None:
        self._app, self._most = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, taken = Request(scope), 0
        length = request.headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > self._most:
            await problem(request, 413, self._refusal)(scope, receive, send)
            return

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise HTTPException(413, self._refusal)
            return message

        await self._app(scope, counted, send)

    @property
    def _refusal(self) -> str:
        return f"The request's body is larger than {self._most} bytes."
