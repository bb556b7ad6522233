"""The page: screens for people, in HTML that can be read without JavaScript; figures come from `report` and `analytics`."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from fastapi.sse import EventSourceResponse, ServerSentEvent
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from passerby.service import analytics, hours, kept, released, report, screens
from passerby.service.analytics import Period
from passerby.service.audit import place, trusted
from passerby.service.auth import COOKIE, csrf_token, needs
from passerby.service.kept import Audit, Gap
from passerby.service.live import Live
from passerby.service.privacy import enough
from passerby.service.replay import DOUBTFUL, replayed
from passerby.service.report import Report
from passerby.service.rollups import Hours
from passerby.service.routes.served import Served
from passerby.service.routes.shown import few_on
from passerby.service.routes.texts import SCREENS, TEXTS
from passerby.service.screens import Asked, Chart, Line
from passerby.service.store import Store, StoreReader
from passerby.service.why import unknown, why
from passerby.shop import SightingKey
from passerby.site import Alert, Camera, Site
from passerby.types import Interval, PasserbyError, StoreError

TEMPLATES = Path(__file__).parents[1] / "templates"
STATIC = Path(__file__).parents[1] / "static"
QUARTER = timedelta(minutes=15)
CALM_S = 0.25  # from one fragment of a stream to the next, at least
MINUTE = timedelta(minutes=1)
ESTIMATED = ", estimated"  # how a report names what is made of a count
KEPT = 24  # reports that are kept for a minute, at most
NEEDED = {"zones": "see people", "journeys": "see people", "setup": "set up"}  # all other screens: "see figures"
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
CSP = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def pages(*, site: Site, store: StoreReader, live: Live, clock: Callable[[], datetime]) -> APIRouter:
    """The screens at "/", "/footfall" and so on, of one site."""
    zone = ZoneInfo(site.time_zone)
    environment = _environment(site)
    door = APIRouter(
        include_in_schema=False,
        route_class=_route_class(environment, site, clock),
    )

    def shown(request: Request, screen: str, **context: Any) -> HTMLResponse:  # Any: what templates take
        return _answer(environment, site, request, screen, clock(), **context)

    def asked_of(request: Request) -> tuple[Asked, tuple[datetime, datetime] | None]:
        known = store.span(site.name)
        newest = min(known[1] if known else clock(), clock()).astimezone(zone).date()
        return screens.asked_of(request.query_params, newest=newest, zones=[each.name for each in site.zones]), known

    lately: dict[tuple[Asked, datetime], Report] = {}

    def reported(asked: Asked) -> Report:
        """A period's report; one that was made in this minute is taken again."""
        now = clock()
        key = replace(asked, against="weekdays", zone=None), now.replace(second=0, microsecond=0)
        if key not in lately:
            found = report.report_of(
                store, site, asked.period(zone), parts=lambda period, _: asked.parts(zone), now=now
            )
            for old in [each for each in lately if each[1] != key[1]] + list(lately)[: 1 if len(lately) >= KEPT else 0]:
                lately.pop(old, None)
            lately[key] = found
        return lately[key]

    def gaps_in(period: Period) -> list[Gap]:
        found = kept.gaps(store, site.name, since=period.start, until=min(period.end, clock()))
        return [gap for gap in found if gap.kind != "closed"]

    def figures_of(period: Period) -> Hours:
        """What is known of a period by the hour, and may be told."""
        return Hours(store, site, period, now=clock(), told=True)

    def told_days(period: Period) -> tuple[int, int]:
        """Of how many days of a period personal detail is told, and how many there are."""
        days = len(analytics.days(period, zone))
        return (days, days) if site.k == 1 else (len(released.told(store, site, "dwell", period)), days)

    def heat(period: Period, view: str | None) -> screens.HeatMap | None:
        """Where shoppers stood in a camera's picture, or on the floor."""
        if site.k > 1:
            name = view or released.FLOOR
            days = [day[name] for day in released.told(store, site, "heat", period) if name in day]
            return screens.heat_told(site, days, camera=view)
        rows, _ = hours.without_staff(
            site, store.rows(site.name, doors=site.doors, since=period.start, until=period.end)
        )
        walks = store.walks(site.name, camera=view, since=period.start, until=period.end) if rows else []
        return screens.heat_map(site, rows, walks, period, camera=view)

    # Now

    beside: dict[datetime, dict[str, Any]] = {}  # what the store says, kept for a minute; Any: what the template takes

    def todays() -> dict[str, Any]:  # Any: as above
        now = clock()
        minute = now.replace(second=0, microsecond=0)
        if minute not in beside:
            found = _today(store, site, now)
            beside.clear()
            beside[minute] = found
        return beside[minute]

    def fragment(today: dict[str, Any]) -> str:  # Any: as above
        now = live.now()
        pictures = {camera.name: live.picture(camera.name) for camera in site.cameras}
        changes = {
            name: screens.tile(
                TEXTS[f"now_{name}"], "count", Interval(value), _change(value, today["before"].get(name)), words=TEXTS
            )
            for name, value in (("entries", now.entries), ("exits", now.exits))
        }
        return environment.get_template("_now.html").render(
            now=now,
            at=now.at.astimezone(zone),
            tiles=changes,
            today=today,
            cameras={each.camera: each for each in now.cameras},
            pictures={name: found[1].timestamp() for name, found in pictures.items() if found},
            queues=[each.zone for each in site.queues],
        )

    @door.get("/", dependencies=[Depends(needs("see figures"))])
    def now(request: Request) -> HTMLResponse:
        """What happens at this moment."""
        today = todays()
        return shown(request, "now", fragment=fragment(today), chart=today["chart"], table=today["table"])

    @door.get("/now/chart", dependencies=[Depends(needs("see figures"))])
    def now_chart() -> HTMLResponse:
        """Today's chart alone, for who looks on."""
        return HTMLResponse(environment.get_template("_today.html").render(**todays()))

    @door.get("/now/stream", response_class=EventSourceResponse, dependencies=[Depends(needs("see figures"))])
    async def now_stream() -> AsyncIterator[ServerSentEvent]:
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

    @door.get("/picture/{camera}", dependencies=[Depends(needs("see pictures"))])
    def picture(camera: str) -> Response:
        """A camera's newest picture, heads blurred; it is kept nowhere."""
        found = live.picture(camera)
        if found is None:
            raise HTTPException(404)
        return Response(found[0], media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    # Figures of a period

    @door.get("/footfall", dependencies=[Depends(needs("see figures"))])
    def footfall(request: Request) -> HTMLResponse:
        """How many came and went."""
        asked, known = asked_of(request)
        now, found = clock(), reported(asked)
        gaps = gaps_in(found.period)
        return shown(
            request,
            "footfall",
            asked=asked,
            known=known,
            found=found,
            gaps=gaps,
            tiles=_tiles(found, asked, whole_before=_known_whole(found.before, known, zone)),
            quiet=_quiet(found, site, now, zone),
            charts=_footfall_charts(store, site, asked, found, now, gaps),
            rows=_footfall_rows(site, asked, found, now, gaps),
            partly=found.before is not None and not _known_whole(found.before, known, zone),
            gone=report.GONE if report.GONE in found.notes else None,
            **_period_words(asked, known, now, site, before=found.before),
        )

    @door.get("/zones", dependencies=[Depends(needs("see people"))])
    def zones(request: Request) -> HTMLResponse:
        """How long people stayed in each zone, and where they stood."""
        asked, known = asked_of(request)
        now, period = clock(), asked.period(zone)
        view = request.query_params.get("view") or None
        if view is not None:
            camera_of(view)
        passed, earlier = analytics.passed(period, now), _weeks_before(period, now, zone)
        dwelt = figures_of(passed).of("dwell", passed)
        stays = hours.dwell(dwelt)
        before = {each.zone: each for each in hours.dwell(figures_of(earlier).of("dwell", earlier))}
        chosen = asked.zone or next((each.zone for each in stays if enough(round(each.visits.value), k=site.k)), None)
        days = [dwelt] if site.k == 1 else released.told(store, site, "dwell", passed)
        width, bars = screens.bars([day.get(chosen or "", {"seconds": []})["seconds"] for day in days], k=site.k)
        return shown(
            request,
            "zones",
            asked=asked,
            known=known,
            gaps=gaps_in(period),
            stays=stays,
            before_of=before,
            most=max((each.stays.p90_s.value for each in stays), default=1.0),
            chosen=chosen,
            bins=(width, bars),
            told=told_days(period),
            view=view,
            heat=heat(period, view),
            **_period_words(asked, known, now, site, before=earlier if before else None),
        )

    @door.get("/journeys", dependencies=[Depends(needs("see people"))])
    def journeys(request: Request) -> HTMLResponse:
        """Which way people took."""
        asked, known = asked_of(request)
        now, period = clock(), asked.period(zone)
        passed, by_zone = analytics.passed(period, now), request.query_params.get("way") != "camera"
        taken = hours.ways(figures_of(passed).of("ways", passed), by_zone=by_zone, within=asked.zone)
        ways = {way: often for way, often in taken.items() if way}
        paths = [each for each in analytics.ranked_paths(taken, most=40) if each.places]
        common = [each for each in paths if enough(round(each.visits.value), k=site.k)]
        return shown(
            request,
            "journeys",
            asked=asked,
            known=known,
            gaps=gaps_in(period),
            way="zone" if by_zone else "camera",
            told=told_days(period),
            visits=sum(ways.values()),
            paths=common[:12],
            hidden=len(paths) - len(common),
            matrix=_matrix(analytics.ranked_transitions(taken), k=site.k),
            sankey=screens.sankey(
                ways, title=TEXTS["journeys_sankey"], most_steps=5, k=site.k, left=TEXTS["left"], on=TEXTS["went_on"]
            ),
            **_period_words(asked, known, now, site),
        )

    @door.get("/queues", dependencies=[Depends(needs("see figures"))])
    def queues(request: Request) -> HTMLResponse:
        """How long queues were, and how long people waited."""
        asked, known = asked_of(request)
        now, period = clock(), asked.period(zone)
        parts, gaps, figures = asked.parts(zone), gaps_in(period), figures_of(analytics.passed(period, now))
        found = [_queue(site, queue.zone, figures, parts, now, gaps, asked) for queue in site.queues]
        return shown(
            request,
            "queues",
            asked=asked,
            known=known,
            gaps=gaps,
            found=found,
            **_period_words(asked, known, now, site),
        )

    @door.get("/compare", dependencies=[Depends(needs("see figures"))])
    def compare(request: Request) -> HTMLResponse:
        """A period beside another one."""
        asked, known = asked_of(request)
        now = clock()
        length = asked.last - asked.first
        weeks = analytics.weeks(asked.period(zone), zone)
        first = screens.day_of("other", request.query_params.get("other") or str(asked.first - timedelta(weeks=weeks)))
        other = screens.Asked(first, first + length, asked.by)
        here, there = reported(asked), reported(other)
        hourly = screens.Asked(asked.first, asked.last, "hour")
        steps = hourly.parts(zone)
        figures, over = (
            figures_of(analytics.passed(hourly.period(zone), now)),
            [each for each in steps if each.end <= now],
        )
        begun = [(each, hours.passed(figures.of("doors", each), site.doors, "in")) for each in over]
        week = screens.by_weekday([part for part, _ in begun], [value for _, value in begun], zone)
        return shown(
            request,
            "compare",
            asked=asked,
            known=known,
            gaps=gaps_in(asked.period(zone)),
            other=other,
            other_days=screens.days_name(other.first, other.last),
            same_weekdays=(asked.first - other.first).days % 7 == 0,
            here=here,
            rows=_compared(here, there, now, whole=_known_whole(there.period, known, zone)),
            chart=_compared_chart(site, asked, here, there, now, known),
            week=week,
            week_days=sorted({day for day, _ in week}),
            week_hours=sorted({hour for (_, hour), value in week.items() if value > 0}),
            week_most=max(week.values(), default=0.0),
            **_period_words(asked, known, now, site),
        )

    @door.get("/quality", dependencies=[Depends(needs("see figures"))])
    def quality(request: Request) -> HTMLResponse:
        """What is missing, and how right the counts are."""
        asked, known = asked_of(request)
        now, period = clock(), asked.period(zone)
        gaps = gaps_in(period)
        return shown(
            request,
            "quality",
            asked=asked,
            known=known,
            gaps=gaps,
            uptimes=screens.uptimes(site, gaps, period, now=now) if known and period.start < now else [],
            audits=_audits(store, site, period),
            lines=list(trusted(store, site).items()),
            **_period_words(asked, known, now, site),
        )

    @door.post("/quality/audits", dependencies=[Depends(needs("annotate"))])
    def count(
        line: Annotated[str, Form(max_length=200)],
        at: Annotated[str, Form(max_length=40)],
        entries: Annotated[int, Form(ge=0, le=100_000)],
        exits: Annotated[int, Form(ge=0, le=100_000)],
        by: Annotated[str, Form(max_length=200)] = "",
    ) -> Response:
        """Keep what a person counted at a line in a quarter of an hour."""
        drawn = next((each for each in site.lines if each.name == line), None)
        start = _moment(at, zone)
        if drawn is None or not isinstance(store, Store):
            raise PasserbyError(f"There is no line {line!r}; there are {', '.join(each.name for each in site.lines)}.")
        if start + QUARTER > clock():
            raise PasserbyError(f"The quarter of an hour from {at} on has not ended yet.")
        kept.put_audits(store, site.name, [Audit(line, start, start + QUARTER, entries, exits, place(drawn), by)])
        return RedirectResponse(f"/quality?from={start.astimezone(zone).date()}", 303)

    @door.get("/replay", dependencies=[Depends(needs("see visits"))])
    def replay(request: Request) -> HTMLResponse:
        """A quarter of an hour at one camera, played back: who walked where, what was counted, and why."""
        said, every = request.query_params, kept.audits(store, site.name)
        camera = camera_of(said.get("camera") or _audited(site, every))
        known = store.span(site.name)
        start = _moment(said.get("at"), zone) if said.get("at") else _quarter(every, known, clock())
        period = Period(start, start + QUARTER)
        places = screens.places_of(site, camera)
        lines = [(each.name, each.corners) for each in places if each.kind in ("line", "door")]
        few = few_on(Served(site, store, live, clock), start.astimezone(zone).date())
        found = [] if few else store.sightings(site.name, since=period.start, until=period.end)
        trails = replayed(site, camera, lines, found, period)
        names = [name for name, _ in lines]
        audits = [each for each in _audits(store, site, period) if each["audit"].line in names]
        chosen = said.get("track") or None
        return shown(
            request,
            "replay",
            camera=camera,
            at=start.astimezone(zone),
            period=period,
            earlier=start - QUARTER,
            later=start + QUARTER,
            known=known,
            few=few,
            places=places,
            trails=trails,
            lines=names,
            playing={"seconds": period.seconds, "lines": names, "trails": [asdict(each) for each in trails]},
            counted={
                (name, way): sum((c[1], c[2]) == (name, way) for each in trails for c in each.crossings)
                for name in names
                for way in (True, False)
            },
            audits=audits,
            doubtful=[each for each in trails if each.verdict in DOUBTFUL],
            gaps=[gap for gap in gaps_in(period) if gap.camera == camera.name],
            picture=live.picture(camera.name) is not None,
            chosen=chosen,
            because=None if few or chosen is None else because(chosen),
        )

    def camera_of(name: str) -> Camera:
        camera = next((each for each in site.cameras if each.name == name), None)
        if camera is None:
            raise PasserbyError(f"There is no camera {name!r}; there are {', '.join(c.name for c in site.cameras)}.")
        return camera

    def because(track: str) -> tuple[bool, list[str]]:
        """Whether a track, "camera/session/number", was counted, and why."""
        try:
            name, session, number = track.rsplit("/", 2)
            key = SightingKey(site.name, name, session, int(number))
        except (ValueError, PasserbyError):
            raise PasserbyError(f"track: expected camera/session/number, got {track!r}.") from None
        story = store.story(key)
        if story is None:
            return False, [unknown(key)]
        gaps = []
        if story.sighting is not None:
            during = Period(story.sighting.start, story.sighting.end + timedelta(seconds=1))
            gaps = [gap for gap in gaps_in(during) if gap.camera == name]
        return why(key, story, site, gaps)

    @door.get("/privacy", dependencies=[Depends(needs("see figures"))])
    def privacy(request: Request) -> HTMLResponse:
        """What is kept of people, and until when."""
        return shown(request, "privacy", known=store.span(site.name))

    @door.get("/setup", dependencies=[Depends(needs("set up"))])
    def setup(request: Request) -> HTMLResponse:
        """The cameras and places of the site; new places are drawn here."""
        said = request.query_params
        camera = camera_of(said.get("camera") or site.cameras[0].name)
        known = store.span(site.name)
        today = min(known[1] if known else clock(), clock()).astimezone(zone).date()
        day = screens.day_of("day", said.get("day") or str(today))
        rule, found = None, list[screens.Raised]()
        if said.get("above"):
            rule = _alert(said)
            start = analytics.midnight(day, zone)
            tried = Period(start, min(analytics.midnight(day + timedelta(days=1), zone), max(clock(), start + MINUTE)))
            rows = store.rows(site.name, doors=site.doors, since=tried.start, until=tried.end)
            found = screens.raised(site, rule, rows, tried)
        return shown(
            request,
            "setup",
            camera=camera,
            picture=live.picture(camera.name) is not None,
            places=screens.places_of(site, camera),
            all_names=[*(each.name for each in site.zones), *(each.name for each in site.lines)],
            states={each.camera: each for each in live.now().cameras},
            sources={each.name: screens.without_password(each.source) for each in site.cameras},
            day=day,
            rule=rule,
            raised=found,
            known=known,
        )

    return door


# HTML


def _environment(site: Site) -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    zone = ZoneInfo(site.time_zone)
    found.globals |= {"t": TEXTS, "screens": SCREENS, "site": site, "simulated": site.simulated, "version": _version()}
    found.filters["gap_words"] = lambda gaps, now: "; ".join(
        TEXTS["gap_part"].format(
            camera=gap.camera,
            start=f"{gap.start.astimezone(zone):%a %H:%M}",
            end=f"{gap.end.astimezone(zone):%H:%M}" if gap.end else TEXTS["until_now"],
        )
        for gap in gaps
    )
    found.globals |= {"level": screens.level, "WEEKDAYS": WEEKDAYS, "needed": NEEDED}
    found.filters |= {
        "number": screens.number,
        "span": screens.span,
        "signed": screens.signed,
        "day_name": screens.day_name,
        "compact": lambda value: json.dumps(asdict(value), separators=(",", ":")),
        "plain": lambda value: json.dumps(value, separators=(",", ":")),
        "clock": lambda at: at.astimezone(zone).strftime("%H:%M:%S"),
        "local": lambda at: at.astimezone(zone).strftime("%Y-%m-%dT%H:%M"),
        "from_second": lambda second: datetime.fromtimestamp(second, zone).strftime("%H:%M:%S"),
        "minute": lambda at: at.astimezone(zone).strftime("%H:%M"),
        "moment": lambda at: f"{screens.day_name(at.astimezone(zone).date())} {at.astimezone(zone):%H:%M}",
    }
    return found


def _version() -> str:
    """What changes with the static files, so that a browser does not keep old ones."""
    return str(max(int(path.stat().st_mtime) for path in STATIC.iterdir()))


def _answer(
    environment: Environment,
    site: Site,
    request: Request,
    screen: str,
    now: datetime,
    *,
    status: int = 200,
    **context: Any,
) -> HTMLResponse:  # Any: what templates take
    """A whole page. Its scripts run by a nonce, and so do the attributes that htmx heeds: what is injected has none."""
    nonce, principal = secrets.token_urlsafe(16), getattr(request.state, "principal", None)
    text = environment.get_template(f"{screen}.html").render(
        screen=screen,
        principal=principal,
        may=lambda permission: principal is not None and principal.may(permission, site.name),
        csrf=csrf_token(request.cookies[COOKIE]) if COOKIE in request.cookies else None,
        path=request.url.path,
        at_now=now,
        nonce=nonce,
        status=status,
        **context,
    )
    return HTMLResponse(
        text, status, headers={"Content-Security-Policy": CSP.format(nonce=nonce), "Cache-Control": "no-store"}
    )


def _route_class(environment: Environment, site: Site, clock: Callable[[], datetime]) -> type[APIRoute]:
    """Routes whose errors are pages, too."""

    class PageRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Any]:  # Any: a coroutine of a response
            inner = super().get_route_handler()

            async def handler(request: Request) -> Response:
                try:
                    answer: Response = await inner(request)
                    return answer
                except StoreError as error:
                    return failed(request, 503, str(error))
                except PasserbyError as error:
                    return failed(request, 400, str(error))
                except HTTPException as error:
                    if error.status_code not in (403, 404):
                        raise
                    return failed(request, error.status_code, str(error.detail) if error.status_code == 403 else "")

            return handler

    def failed(request: Request, status: int, said: str) -> HTMLResponse:
        return _answer(environment, site, request, "error", clock(), status=status, said=said)

    return PageRoute


# Figures


def _change(value: float, before: float | None) -> analytics.Change | None:
    return None if before is None else analytics.change(Interval(value), Interval(before))


def _today(store: StoreReader, site: Site, now: datetime) -> dict[str, Any]:  # Any: what the template takes
    """Today's chart, and what was counted on the same weekday before, up to the same minute."""
    zone = ZoneInfo(site.time_zone)
    today = now.astimezone(zone).date()
    day = Period(analytics.midnight(today, zone), analytics.midnight(today + timedelta(days=1), zone))
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
        TEXTS["people_unit"],
        site.time_zone,
        [step.start.timestamp() for step in steps],
        steps[-1].end.timestamp(),
        [
            Line(
                TEXTS["entries"], "first", [e.entries.value if b else None for e, b in zip(doors, begun, strict=True)]
            ),
            Line(TEXTS["exits"], "second", [e.exits.value if b else None for e, b in zip(doors, begun, strict=True)]),
            Line(
                TEXTS["now_inside"], "third", [o.mean.value if b else None for o, b in zip(inside, begun, strict=True)]
            ),
        ],
        screens.regions_of(Period(first, steps[-1].end), site, now=now, parts=steps, gaps=[], words=TEXTS),
    )
    return {
        "chart": chart,
        "table": Asked(today, today, "hour").href(),
        "weekday": f"{earlier.start.astimezone(zone):%A}",
        "before": {} if before is None else {"entries": before.entries.value, "exits": before.exits.value},
    }


def _best(found: Report) -> list[tuple[report.Total, report.Total]]:
    """Each total as it was counted, and as it is estimated where it is; both are one figure."""
    totals = {total.name: total for total in found.totals}
    pairs = [
        (total, totals.get(name + ESTIMATED, total)) for name, total in totals.items() if not name.endswith(ESTIMATED)
    ]
    return [(counted, best if best.value else counted) for counted, best in pairs]


def _tiles(found: Report, asked: Asked, *, whole_before: bool) -> list[screens.Tile]:
    """The totals as tiles; what a door counted and what that is estimated to be are one."""
    tiles = []
    for counted, best in _best(found):
        change = best.change if asked.against == "weekdays" and whole_before else None
        made = screens.tile(counted.name, counted.kind, best.value, change, words=TEXTS)
        if best.value and counted.value and round(best.value.value) != round(counted.value.value):
            said = TEXTS["counted"].format(value=screens.number(counted.value.value))
            made = replace(made, range=f"{made.range}; {said}" if made.range else said)
        tiles.append(made)
    return tiles


def _known_whole(before: Period | None, known: tuple[datetime, datetime] | None, zone: ZoneInfo) -> bool:
    """Whether something was known already when the period before began: else it is known in part, and no match."""
    return (
        before is not None
        and known is not None
        and analytics.midnight(known[0].astimezone(zone).date(), zone) <= before.start
    )


def _period_words(
    asked: Asked, known: tuple[datetime, datetime] | None, now: datetime, site: Site, *, before: Period | None = None
) -> dict[str, Any]:  # Any: what templates take
    zone = ZoneInfo(site.time_zone)
    period, today = asked.period(zone), now.astimezone(zone).date()
    words = None
    if before is not None:
        last = (before.end - timedelta(microseconds=1)).astimezone(zone).date()
        words = screens.days_name(before.start.astimezone(zone).date(), last)
    length = asked.last - asked.first + timedelta(days=1)
    return {
        "days": screens.days_name(asked.first, asked.last),
        "settled": period.end + timedelta(hours=site.reentry_h) <= now,
        "before": words,
        "same_minute": f"{now.astimezone(zone):%H:%M}" if now in period else None,
        "earlier": asked.href(first=asked.first - length, last=asked.last - length),
        "later": asked.href(first=asked.first + length, last=asked.last + length) if asked.last < today else None,
        "presets": [
            (TEXTS[name], asked.href(first=first, last=last), (first, last) == (asked.first, asked.last))
            for name, first, last in _once(screens.presets(today, known[1].astimezone(zone).date() if known else today))
        ],
    }


def _once(found: list[tuple[str, date, date]]) -> list[tuple[str, date, date]]:
    """Without a period that has another name already: on a Monday the week is the day."""
    return [each for number, each in enumerate(found) if each[1:] not in [other[1:] for other in found[:number]]]


def _weeks_before(period: Period, now: datetime, zone: ZoneInfo) -> Period:
    """The same weekdays before, up to the same minute where the period has not ended."""
    return analytics.before(analytics.passed(period, now), zone, weeks=analytics.weeks(period, zone))


def _line(
    name: str, role: Any, figures: Iterable[Interval | None], begun: Sequence[bool]
) -> Line:  # Any: one of Line's
    figures = list(figures)
    values, low, high = (
        [getattr(each, end) if there and each is not None else None for each, there in zip(figures, begun, strict=True)]
        for end in ("value", "low", "high")
    )
    known = any(each is not None for each in low)
    return Line(name, role, values, low if known else None, high if known else None)


def _footfall_charts(
    store: StoreReader, site: Site, asked: Asked, found: Report, now: datetime, gaps: Sequence[Gap]
) -> list[Chart]:
    zone = ZoneInfo(site.time_zone)
    parts = [each.period for each in found.footfall]
    begun = [part.start <= now for part in parts]
    lines = [
        _line(TEXTS["entries"], "first", (each.entries for each in found.footfall), begun),
        _line(TEXTS["exits"], "second", (each.exits for each in found.footfall), begun),
    ]
    if found.before is not None and asked.against == "weekdays":
        weeks = analytics.weeks(found.period, zone)
        earlier = [analytics.before(part, zone, weeks=weeks) for part in parts]
        past = Hours(store, site, Period(earlier[0].start, earlier[-1].end), now=now)
        then = [hours.footfall(past.of("doors", each), site.doors, each) for each in earlier]
        since = found.known[0] if found.known else now
        values = [each.entries.value if each.period.end > since else None for each in then]
        lines.append(Line(TEXTS["entries_before"], "before", values))
    regions = screens.regions_of(found.period, site, now=now, parts=parts, gaps=gaps, words=TEXTS)
    x, end = [part.start.timestamp() for part in parts], parts[-1].end.timestamp()
    inside = [
        _line(TEXTS["inside_mean"], "third", (each.mean if each else None for each in found.occupancy), begun),
        _line(TEXTS["inside_most"], "before", (each.most if each else None for each in found.occupancy), begun),
    ]
    unit = TEXTS[f"per_{asked.by}"]
    return [
        Chart(TEXTS["footfall_chart"], unit, site.time_zone, x, end, lines, regions),
        Chart(TEXTS["footfall_inside"], TEXTS["people_unit"], site.time_zone, x, end, inside, regions),
    ]


def _footfall_rows(
    site: Site, asked: Asked, found: Report, now: datetime, gaps: Sequence[Gap]
) -> list[Mapping[str, Any]]:  # Any: what the template takes
    zone = ZoneInfo(site.time_zone)
    parts = [each.period for each in found.footfall]
    cameras = sorted({gap.camera for gap in gaps})
    rows: list[Mapping[str, Any]] = []  # Any: as above
    for name, each, visits, persons, inside, missing in zip(
        screens.step_names(parts, zone, asked.by),
        found.footfall,
        found.visits,
        found.persons,
        found.occupancy,
        analytics.missing(gaps, parts, cameras=cameras, now=now),
        strict=True,
    ):
        state = screens.state_of(each.period, now)
        day: date = each.period.start.astimezone(zone).date()
        if state != "future":
            shut = not site.openings(each.period.start, each.period.end)
            figures = [each.entries, each.exits, visits, persons, inside and inside.mean, inside and inside.most]
            rows.append(
                {
                    "name": name,
                    "href": asked.href(first=day, last=day, by="hour") if asked.by == "day" else None,
                    "figures": figures,
                    "state": "closed" if shut and state == "whole" else state,
                    "quiet": shut and not any(figure and figure.value for figure in figures),
                    "missing": missing.cameras,
                }
            )
    return rows


def _quiet(found: Report, site: Site, now: datetime, zone: ZoneInfo) -> list[str]:
    """The times without anybody in which the site was closed, those that follow each other as one: "00:00 to 09:00"."""
    spans: list[list[datetime]] = []
    for each in found.footfall:
        start, end = each.period.start, each.period.end
        if end > now or each.entries.value or each.exits.value or site.openings(start, end):
            continue
        if spans and spans[-1][1] == start:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    if found.period.seconds <= 25 * 3600:
        return [f"{a.astimezone(zone):%H:%M} to {b.astimezone(zone):%H:%M}" for a, b in spans]
    return [
        f"{a.astimezone(zone):%a} {a.astimezone(zone).day} {a.astimezone(zone):%b %H:%M} to {b.astimezone(zone):%a %H:%M}"
        for a, b in spans
    ]


def _matrix(moves: Sequence[analytics.Transition], *, k: int) -> dict[str, Any]:  # Any: what the template takes
    """From each place to each: how many, which share of all that left, and what is withheld; those whom most left first."""
    outside = TEXTS["outside"]
    counts = {(move.origin or outside, move.target or outside): round(move.count.value) for move in moves}
    shares = {(move.origin or outside, move.target or outside): move.share.value for move in moves}
    leaving: dict[str, float] = {}
    for (origin, _), often in counts.items():
        leaving[origin] = leaving.get(origin, 0.0) + often
    places = sorted({place for pair in counts for place in pair}, key=lambda p: (p != outside, -leaving.get(p, 0.0), p))
    cells, hidden = screens.withheld(counts, k=k)
    most = max((shares[pair] for pair in cells), default=1.0)
    return {"places": places, "cells": cells, "shares": shares, "hidden": hidden, "most": most}


def _queue(
    site: Site,
    name: str,
    figures: Hours,
    parts: Sequence[Period],
    now: datetime,
    gaps: Sequence[Gap],
    asked: Asked,
) -> dict[str, Any]:  # Any: what the template takes
    zone = ZoneInfo(site.time_zone)
    period, begun = asked.period(zone), [part.start <= now for part in parts]
    steps = [hours.queued(figures.of("queues", each), name, each) for each in (analytics.passed(p, now) for p in parts)]
    whole = hours.queued(figures.of("queues", figures.period), name, figures.period)
    regions = screens.regions_of(period, site, now=now, parts=parts, gaps=gaps, words=TEXTS)
    x, end = [part.start.timestamp() for part in parts], parts[-1].end.timestamp()
    medians = [
        each.waiting.median_s.value if there and each.waiting else None
        for each, there in zip(steps, begun, strict=True)
    ]
    p90s = [
        each.waiting.p90_s.value if there and each.waiting else None for each, there in zip(steps, begun, strict=True)
    ]
    return {
        "zone": name,
        "whole": whole,
        "charts": [
            Chart(
                TEXTS["queue_waiting"],
                TEXTS["seconds_unit"],
                site.time_zone,
                x,
                end,
                [Line(TEXTS["median"], "first", medians), Line(TEXTS["p90"], "second", p90s)],
                regions,
                "seconds",
            ),
            Chart(
                TEXTS["queue_length"],
                TEXTS["people_unit"],
                site.time_zone,
                x,
                end,
                [
                    _line(TEXTS["most"], "before", (each.most for each in steps), begun),
                    _line(TEXTS["mean"], "third", (each.mean for each in steps), begun),
                ],
                regions,
            ),
        ],
        "rows": [
            (step_name, each, screens.state_of(each.period, now))
            for step_name, each in zip(screens.step_names(parts, zone, asked.by), steps, strict=True)
            if each.period.start <= now and (each.waiting or each.most.value)
        ],
    }


def _compared(here: Report, there: Report, now: datetime, *, whole: bool) -> list[screens.Tile]:
    """Each figure of two periods; where one has not ended, or is known in part, no change is fair."""
    fair = here.period.end <= now and there.period.end <= now and not there.empty and whole
    found, others = [], {counted.name: best for counted, best in _best(there)}
    for counted, one in _best(here):
        other = others.get(counted.name, one)
        change = analytics.change(one.value, other.value) if fair and one.value and other.value else None
        found.append(screens.tile(counted.name, one.kind, one.value, change, words=TEXTS))
    return found


def _compared_chart(
    site: Site, asked: Asked, here: Report, there: Report, now: datetime, known: tuple[datetime, datetime] | None
) -> Chart:
    parts = [each.period for each in here.footfall]
    begun = [part.start <= now for part in parts]
    other = [
        each.entries.value if known and known[0] < each.period.end and each.period.start <= now else None
        for each in there.footfall
    ][: len(parts)]
    lines = [
        _line(TEXTS["compare_this"], "first", (each.entries for each in here.footfall), begun),
        Line(TEXTS["compare_other"], "before", [*other, *[None] * (len(parts) - len(other))]),
    ]
    regions = screens.regions_of(here.period, site, now=now, parts=parts, gaps=[], words=TEXTS)
    x, end = [part.start.timestamp() for part in parts], parts[-1].end.timestamp()
    return Chart(TEXTS["compare_chart"], TEXTS[f"per_{asked.by}"], site.time_zone, x, end, lines, regions)


def _alert(said: Mapping[str, str]) -> Alert:
    """The alert that somebody tries, as an address has it."""
    zone = said.get("zone") or None
    try:
        measure: Literal["people", "waiting_s"] = "waiting_s" if said.get("measure") == "waiting_s" else "people"
        above, for_s = float(said["above"]), float(said.get("for_s") or 0)
        return Alert(f"{zone or TEXTS['now_inside']}, above {above:g}", above, measure, zone, for_s)
    except ValueError as error:
        raise PasserbyError(f"{error}.") from None


def _moment(said: str | None, zone: ZoneInfo) -> datetime:
    """A time by the site's clock, as an address has it, in UTC."""
    try:
        found = datetime.fromisoformat(said or "")
    except ValueError:
        raise PasserbyError(f"at: expected a time such as 2026-03-02T10:00, got {said!r}.") from None
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


def _audited(site: Site, audits: Sequence[Audit]) -> str:
    """The camera that watches the line at which somebody counted last, or any line, or the first one."""
    lines = [each.line for each in sorted(audits, key=lambda each: each.start, reverse=True)]
    for name in [*lines, *(each.name for each in site.lines)]:
        for camera in site.cameras:
            if name in [line.name for line in site.lines_of(camera)]:
                return camera.name
    return site.cameras[0].name


def _quarter(audits: Sequence[Audit], known: tuple[datetime, datetime] | None, now: datetime) -> datetime:
    """The quarter of an hour in which somebody counted last, else the last one of which something is known."""
    if audits:
        return max(each.start for each in audits)
    last = min(known[1], now) if known else now
    return last - timedelta(minutes=last.minute % 15, seconds=last.second, microseconds=last.microsecond)


def _audits(store: StoreReader, site: Site, period: Period) -> list[dict[str, Any]]:  # Any: what the template takes
    """Each audit of a period beside what was counted in its time."""
    found = []
    for each in kept.audited(store, site.name, since=period.start, until=period.end):
        line = each.audit.line
        cameras = [camera.name for camera in site.cameras if line in {one.name for one in site.lines_of(camera)}]
        camera = cameras[0] if cameras else None
        found.append({"audit": each.audit, "entries": each.entries, "exits": each.exits, "camera": camera})
    return found
