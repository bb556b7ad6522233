"""The page: screens for people, in HTML that works without JavaScript as far as reading goes; figures come from `report` and `analytics`."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from fastapi.sse import EventSourceResponse, ServerSentEvent
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from passerby.service import analytics, report, screens
from passerby.service.analytics import Period
from passerby.service.live import Live
from passerby.service.report import Report
from passerby.service.routes.texts import SCREENS, TEXTS
from passerby.service.screens import Asked, Chart, Line, Missing
from passerby.service.store import StoreReader
from passerby.site import Site
from passerby.types import PasserbyError, StoreError

TEMPLATES = Path(__file__).parents[1] / "templates"
STATIC = Path(__file__).parents[1] / "static"
QUARTER = timedelta(minutes=15)
CALM_S = 0.25  # from one fragment of a stream to the next, at least
MINUTE = timedelta(minutes=1)


def pages(*, site: Site, store: StoreReader, live: Live, clock: Callable[[], datetime], simulated: bool = False) -> APIRouter:
    """The screens at "/", "/footfall" and so on, of one site; `simulated` says on each that its people are nobody."""
    zone = ZoneInfo(site.time_zone)
    environment = _environment(site)
    door = APIRouter(include_in_schema=False, route_class=_route_class(environment, site, clock))

    def shown(request: Request, screen: str, status: int = 200, **context: Any) -> HTMLResponse:  # Any: what templates take
        return HTMLResponse(_rendered(environment, request, screen, clock(), simulated=simulated, **context), status)

    def asked_of(request: Request) -> tuple[Asked, tuple[datetime, datetime] | None]:
        known = store.span(site.name)
        newest = min(known[1] if known else clock(), clock()).astimezone(zone).date()
        return screens.asked_of(request.query_params, newest=newest, zones=[each.name for each in site.zones]), known

    # Now

    beside: dict[datetime, dict[str, Any]] = {}  # what the store says, kept for a minute

    def todays() -> dict[str, Any]:  # Any: what the template takes
        now = clock()
        minute = now.replace(second=0, microsecond=0)
        if minute not in beside:
            found = _today(store, site, now)
            beside.clear()
            beside[minute] = found
        return beside[minute]

    def fragment(today: dict[str, Any]) -> str:
        now = live.now()
        pictures = {camera.name: live.picture(camera.name) for camera in site.cameras}
        changes = {
            name: screens.tile(
                TEXTS[f"now_{name}"], "count", analytics.Interval(value), _change(value, today["before"].get(name)), words=TEXTS
            )
            for name, value in (("entries", now.entries), ("exits", now.exits))
        }
        return environment.get_template("_now.html").render(
            now=now,
            at=now.at.astimezone(zone),
            tiles=changes,
            today=today,
            cameras={each.camera: each for each in now.cameras},
            pictures={name: at.timestamp() for name, (_, at) in ((n, p) for n, p in pictures.items() if p)},
        )

    @door.get("/")
    def now(request: Request) -> HTMLResponse:
        """What happens at this moment."""
        today = todays()
        return shown(request, "now", fragment=fragment(today), chart=today["chart"])

    @door.get("/now/chart")
    def now_chart(request: Request) -> HTMLResponse:
        """Today's chart alone, for who looks on."""
        return HTMLResponse(environment.get_template("_chart.html").render(chart=todays()["chart"], id="today"))

    @door.get("/now/stream", response_class=EventSourceResponse)
    async def now_stream(request: Request) -> AsyncIterator[ServerSentEvent]:
        """The same as a stream: a fragment whenever something has changed."""
        changed, said = asyncio.Event(), ""

        async def watch() -> None:
            async for _ in live.events():
                changed.set()
            changed.set()

        watching = asyncio.create_task(watch())
        try:
            while not watching.done():
                changed.clear()
                made = fragment(await run_in_threadpool(todays))
                if made != said:
                    said = made
                    yield ServerSentEvent(raw_data=made)
                await asyncio.sleep(CALM_S)
                await changed.wait()
        finally:
            watching.cancel()

    @door.get("/picture/{camera}")
    def picture(camera: str) -> Response:
        """A camera's newest picture, heads blurred; it is kept nowhere."""
        found = live.picture(camera)
        if found is None:
            raise HTTPException(404)
        return Response(found[0], media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    # Figures of a period

    @door.get("/footfall")
    def footfall(request: Request) -> HTMLResponse:
        """How many came and went."""
        asked, known = asked_of(request)
        now = clock()
        found = report.report_of(store, site, asked.period(zone), parts=lambda period, _: asked.parts(zone), now=now)
        return shown(
            request,
            "footfall",
            asked=asked,
            known=known,
            found=found,
            tiles=_tiles(found, asked),
            charts=_footfall_charts(store, site, asked, found, now),
            rows=_footfall_rows(site, asked, found, now, []),
            **_period_words(asked, found, now, site),
        )

    @door.get("/export/{name}.csv")
    def export(name: str, request: Request) -> Response:
        """A table of a period as CSV: times by the site's clock with their distance from UTC, durations in seconds."""
        asked, _ = asked_of(request)
        found = report.report_of(store, site, asked.period(zone), parts=lambda period, _: asked.parts(zone), now=clock())
        sheet = next((each for each in report.sheets(found) if each.name == name), None)
        if sheet is None:
            raise HTTPException(404)
        file = f"{site.name} {name} {asked.first} {asked.last}.csv"
        return Response(
            report.csv_text(sheet, zone),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(file)}"},
        )

    return door


# HTML


def _environment(site: Site) -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    zone = ZoneInfo(site.time_zone)
    found.globals |= {"t": TEXTS, "screens": SCREENS, "site": site, "version": _version(), "day_name": screens.day_name}
    found.filters |= {
        "number": screens.number,
        "span": screens.span,
        "day_name": screens.day_name,
        "compact": lambda value: json.dumps(asdict(value), separators=(",", ":")),
        "clock": lambda at: at.astimezone(zone).strftime("%H:%M:%S"),
        "minute": lambda at: at.astimezone(zone).strftime("%H:%M"),
        "moment": lambda at: f"{screens.day_name(at.astimezone(zone).date())} {at.astimezone(zone):%H:%M}",
    }
    return found


def _version() -> str:
    """What changes with the static files, so that a browser does not keep old ones."""
    return str(max(int(path.stat().st_mtime) for path in STATIC.iterdir()))


def _rendered(environment: Environment, request: Request, screen: str, now: datetime, **context: Any) -> str:  # Any: as above
    principal = getattr(request.state, "principal", None)
    return environment.get_template(f"{screen}.html").render(
        screen=screen, principal=principal, path=request.url.path, query=request.url.query, at_now=now, **context
    )


def _route_class(environment: Environment, site: Site, clock: Callable[[], datetime]) -> type[APIRoute]:
    """Routes whose errors are pages, too."""

    class PageRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Any]:  # Any: a coroutine of a response
            inner = super().get_route_handler()

            async def handler(request: Request) -> Response:
                try:
                    return await inner(request)
                except StoreError as error:
                    return failed(request, 503, str(error))
                except PasserbyError as error:
                    return failed(request, 400, str(error))
                except HTTPException as error:
                    if error.status_code == 401 and request.method == "GET":
                        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                        return RedirectResponse(f"/login?next={quote(target)}", 303)
                    if error.status_code not in (403, 404):
                        raise
                    return failed(request, error.status_code, str(error.detail) if error.status_code == 403 else "")

            return handler

    def failed(request: Request, status: int, said: str) -> HTMLResponse:
        text = _rendered(environment, request, "error", clock(), status=status, said=said, simulated=False)
        return HTMLResponse(text, status)

    return PageRoute


# Figures


def _change(value: float, before: float | None) -> analytics.Change | None:
    return None if before is None else analytics.change(analytics.Interval(value), analytics.Interval(before))


def _today(store: StoreReader, site: Site, now: datetime) -> dict[str, Any]:  # Any: what the template takes
    """Today's chart, and what was counted on the same weekday before, up to the same minute."""
    zone = ZoneInfo(site.time_zone)
    start = analytics.midnight(now.astimezone(zone).date(), zone)
    day = Period(start, analytics.midnight(now.astimezone(zone).date() + timedelta(days=1), zone))
    earlier = analytics.before(Period(day.start, max(now, day.start + MINUTE)), zone)
    then = store.crossings(site.name, since=earlier.start, until=earlier.end)
    crossings = store.crossings(site.name, since=day.start, until=day.end)
    opened = site.openings(day.start, day.end)
    first = min([now, *(opens for opens, _ in opened), *(crossing.at for crossing in crossings[:1])])
    first -= timedelta(minutes=first.minute % 15, seconds=first.second, microseconds=first.microsecond)
    last = max([first + QUARTER, now, *(closes for _, closes in opened if site.hours)])
    steps = [Period(first + n * QUARTER, first + (n + 1) * QUARTER) for n in range(-(-(last - first) // QUARTER))]
    doors = analytics.footfall(crossings, steps, doors=site.doors)
    inside = analytics.occupied(analytics.occupancy(crossings, doors=site.doors, closings=[day.start]), steps)
    begun = [step.start <= now for step in steps]
    (before,) = analytics.footfall(then, [earlier], doors=site.doors) if then else (None,)
    chart = Chart(
        TEXTS["now_chart"],
        TEXTS["people"],
        site.time_zone,
        [step.start.timestamp() for step in steps],
        steps[-1].end.timestamp(),
        [
            Line(TEXTS["entries"], "first", [e.entries.value if b else None for e, b in zip(doors, begun, strict=True)]),
            Line(TEXTS["exits"], "second", [e.exits.value if b else None for e, b in zip(doors, begun, strict=True)]),
            Line(TEXTS["now_inside"], "third", [o.mean.value if b else None for o, b in zip(inside, begun, strict=True)]),
        ],
        screens.regions_of(Period(first, steps[-1].end), site, now=now, parts=steps, gaps=[], words=TEXTS),
    )
    return {
        "chart": chart,
        "weekday": f"{earlier.start.astimezone(zone):%A}",
        "before": {} if before is None else {"entries": before.entries.value, "exits": before.exits.value},
    }


def _tiles(found: Report, asked: Asked) -> list[screens.Tile]:
    changes = {total.name: total.change if asked.against == "weekdays" else None for total in found.totals}
    return [screens.tile(total.name, total.kind, total.value, changes[total.name], words=TEXTS) for total in found.totals]


def _period_words(asked: Asked, found: Report, now: datetime, site: Site) -> dict[str, Any]:  # Any: what templates take
    zone = ZoneInfo(site.time_zone)
    settled = found.period.end + timedelta(hours=site.reentry_h) <= now
    before = None
    if found.before is not None:
        last = (found.before.end - timedelta(microseconds=1)).astimezone(zone).date()
        before = screens.days_name(found.before.start.astimezone(zone).date(), last)
    length = asked.last - asked.first + timedelta(days=1)
    today = now.astimezone(zone).date()
    return {
        "days": screens.days_name(asked.first, asked.last),
        "settled": settled,
        "before": before,
        "same_minute": f"{now.astimezone(zone):%H:%M}" if now in found.period else None,
        "earlier": asked.href(first=asked.first - length, last=asked.last - length),
        "later": asked.href(first=asked.first + length, last=asked.last + length) if asked.last < today else None,
        "presets": [
            (TEXTS[name], asked.href(first=first, last=last), (first, last) == (asked.first, asked.last))
            for name, first, last in screens.presets(today, found.known[1].astimezone(zone).date() if found.known else today)
        ],
    }


def _footfall_charts(store: StoreReader, site: Site, asked: Asked, found: Report, now: datetime) -> list[Chart]:
    zone = ZoneInfo(site.time_zone)
    parts = [each.period for each in found.footfall]
    begun = [part.start <= now for part in parts]

    def line(name: str, role: Any, figures: Sequence[analytics.Interval]) -> Line:  # Any: one of Line's
        values = [each.value if there else None for each, there in zip(figures, begun, strict=True)]
        low = [each.low if there else None for each, there in zip(figures, begun, strict=True)]
        high = [each.high if there else None for each, there in zip(figures, begun, strict=True)]
        known = any(each is not None for each in low)
        return Line(name, role, values, low if known else None, high if known else None)

    lines = [line(TEXTS["entries"], "first", [each.entries for each in found.footfall])]
    lines.append(line(TEXTS["exits"], "second", [each.exits for each in found.footfall]))
    if found.before is not None and asked.against == "weekdays":
        weeks = analytics.weeks(found.period, zone)
        earlier = [analytics.before(part, zone, weeks=weeks) for part in parts]
        crossings = store.crossings(site.name, since=earlier[0].start, until=earlier[-1].end)
        then = analytics.footfall(crossings, earlier, doors=site.doors)
        lines.append(Line(TEXTS["entries_before"], "before", [each.entries.value for each in then]))
    regions = screens.regions_of(found.period, site, now=now, parts=parts, gaps=[], words=TEXTS)
    x, end = [part.start.timestamp() for part in parts], parts[-1].end.timestamp()
    inside = [
        line(TEXTS["inside_most"], "third", [each.most for each in found.occupancy]),
        line(TEXTS["inside_mean"], "first", [each.mean for each in found.occupancy]),
    ]
    return [
        Chart(TEXTS["footfall_chart"], TEXTS["people"], site.time_zone, x, end, lines, regions),
        Chart(TEXTS["footfall_inside"], TEXTS["people"], site.time_zone, x, end, inside, regions),
    ]


def _footfall_rows(
    site: Site, asked: Asked, found: Report, now: datetime, missing: Sequence[Missing]
) -> list[Mapping[str, Any]]:  # Any: what the template takes
    zone = ZoneInfo(site.time_zone)
    parts = [each.period for each in found.footfall]
    rows = []
    for name, each, visits, persons, inside in zip(
        screens.step_names(parts, zone, asked.by), found.footfall, found.visits, found.persons, found.occupancy, strict=True
    ):
        state = screens.state_of(each.period, now)
        day: date = each.period.start.astimezone(zone).date()
        rows.append(
            {
                "name": name,
                "href": asked.href(first=day, last=day, by="hour") if asked.by == "day" else None,
                "figures": [each.entries, each.exits, visits, persons, inside.mean, inside.most],
                "state": state,
                "missing": [gap.label for gap in missing if gap.touches(each.period, now)],
            }
        )
    return rows

