"""How the site is at this moment: health, sites, cameras and their newest picture, what is live, and the events."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from passerby.service.auth import needs
from passerby.service.live import CameraState, Now, Phase, health
from passerby.service.outlets import Outlet
from passerby.service.routes.problem import problems
from passerby.service.routes.served import Here

STREAMS = 100  # of events at once
open_to_all = APIRouter(tags=["state"])
router = APIRouter(prefix="/api/v1", tags=["state"])


class Health(BaseModel):
    """Whether data flowed in the last minute."""

    status: Literal["ok", "degraded", "failed"]
    reason: str


@open_to_all.get("/health", responses={503: {"model": Health, "description": "No data flowed in the last minute"}})
def healthy(here: Here) -> Health:
    """Whether data flowed in the last minute. It needs no key, and answers 503 when nothing did."""
    status, reason = health(here.live.now())
    found = Health(status=status, reason=reason)
    if status == "failed":
        return JSONResponse(found.model_dump(), 503)  # type: ignore[return-value]  # FastAPI takes a response as it is
    return found


class SiteAnswer(BaseModel):
    """A site: its places, and the time from which to which something is known of it."""

    name: str
    time_zone: str
    cameras: list[str]
    zones: list[str]
    doors: list[str]
    known_from: datetime | None
    known_to: datetime | None


@router.get("/sites", responses=problems(), dependencies=[Depends(needs("see figures"))])
def sites(here: Here) -> list[SiteAnswer]:
    """The sites that this service answers for."""
    site, span = here.site, here.store.span(here.site.name)
    return [
        SiteAnswer(
            name=site.name,
            time_zone=site.time_zone,
            cameras=[camera.name for camera in site.cameras],
            zones=[zone.name for zone in site.zones],
            doors=sorted(site.doors),
            known_from=here.by_clock(span[0]) if span else None,
            known_to=here.by_clock(span[1]) if span else None,
        )
    ]


class CameraAnswer(BaseModel):
    """A camera and how it is; `phase` and all that follows are null until it has been heard of."""

    camera: str
    picture: bool
    phase: Phase | None = None
    reason: str | None = None
    since: datetime | None = None
    newest: datetime | None = None
    rate: float | None = None
    lag_s: float | None = None
    frames: int | None = None
    dropped: int | None = None
    skipped: int | None = None
    reconnects: int | None = None


@router.get("/cameras", responses=problems(), dependencies=[Depends(needs("see figures"))])
def cameras(here: Here) -> list[CameraAnswer]:
    """Each camera's health: frames a second, lag, dropped frames, and why it is not live."""
    states: dict[str, CameraState] = {state.camera: state for state in here.live.now().cameras}
    found = []
    for camera in here.site.cameras:
        state = here.by_clock(asdict(states[camera.name])) if camera.name in states else {"camera": camera.name}
        found.append(CameraAnswer(picture=here.live.picture(camera.name) is not None, **state))
    return found


JPEG: dict[int | str, dict[str, Any]] = {  # Any: OpenAPI
    200: {"description": "The picture", "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get(
    "/cameras/{camera}/picture",
    responses=problems(404) | JPEG,
    response_class=Response,
    dependencies=[Depends(needs("see pictures"))],
)
def picture(here: Here, camera: Annotated[str, Path(description="The camera's name")]) -> Response:
    """A camera's newest picture, heads blurred and masks burned in. It is held in memory only."""
    if camera not in {each.name for each in here.site.cameras}:
        raise HTTPException(404, f"There is no camera {camera!r}; GET /api/v1/cameras names them.")
    found = here.live.picture(camera)
    if found is None:
        raise HTTPException(404, f"No picture has come from {camera!r} yet.")
    jpeg, at = found
    return Response(jpeg, media_type="image/jpeg", headers={"X-Taken-At": here.by_clock(at).isoformat()})


@router.get("/live", responses=problems(), dependencies=[Depends(needs("see figures"))])
def live(here: Here) -> Now:
    """The site at this moment: how many are inside, entries and exits of today, people in each zone, cameras and parts."""
    found: Now = here.by_clock(asdict(here.live.now()))
    return found


@router.get("/outlets", responses=problems(), dependencies=[Depends(needs("set up"))])
def outlets(here: Here) -> list[Outlet]:
    """The webhooks and the MQTT server that are told of changes: what was sent, tried again, given up and dropped."""
    return here.outlets()


def _room_for_one(here: Here) -> None:
    if here.live.listeners >= STREAMS:
        raise HTTPException(503, f"There are {STREAMS} streams of events already; close one.")


@router.get(
    "/events",
    responses=problems(),
    response_class=EventSourceResponse,
    dependencies=[Depends(needs("see figures")), Depends(_room_for_one)],
)
async def events(
    here: Here,
    last_event_id: Annotated[str | None, Header(description="The id of the last event that was received")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: first `state`, all of `/live`; then each change.

    `counts`, `crossing`, `cameras`, `part` and `alert` follow as they happen. Who connects again with the id of the last event
    hears of what came since, as long as it is kept; else of the whole state again.
    """
    async for event in here.live.events(last_event_id):
        yield ServerSentEvent(
            data=here.by_clock(event.data | {"at": event.data.get("at", event.at)}), event=event.kind, id=event.id
        )
