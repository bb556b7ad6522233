"""Visits one by one, and why a track was counted or not: personal detail, which `shown` lets out."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Query
from pydantic import BaseModel, Field

from passerby.service.analytics import Period
from passerby.service.auth import needs
from passerby.service.routes import shown
from passerby.service.routes.answer import GapAnswer, State, gap_answer, gaps_of, state_of
from passerby.service.routes.period import Whole, fault
from passerby.service.routes.problem import problems
from passerby.service.routes.served import Here
from passerby.service.why import unknown, why
from passerby.shop import SightingKey

router = APIRouter(prefix="/api/v1", tags=["people"], dependencies=[Depends(needs("see visits"))])
MOST = 500  # visits in one answer


class StayAnswer(BaseModel):
    """A time in a zone; `end` is null while it lasts."""

    zone: str
    start: datetime
    end: datetime | None


class VisitAnswer(BaseModel):
    """A visit; `person` is an anonymous key, which two visits of one person share until it expires."""

    visit: str
    person: str | None
    start: datetime
    end: datetime
    entered: datetime | None = Field(description="When a door was crossed; null where no camera saw it")
    left: datetime | None
    cameras: list[str]
    stays: list[StayAnswer]
    sightings: list[str] = Field(description="camera/session/track of each")
    probability: float | None = Field(description="Of its least certain link; null where it has none")


class VisitPage(BaseModel):
    """Visits in order of their start, and where to go on."""

    site: str
    time_zone: str
    start: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="to")
    state: State
    gaps: list[GapAnswer]
    notes: list[str]
    visits: list[VisitAnswer]
    next: str | None = Field(description="Ask again with this `cursor` for more; null where there are none")


@router.get("/visits", responses=problems())
def visits(
    here: Here,
    period: Whole,
    limit: Annotated[int, Query(ge=1, le=MOST, description="How many at most")] = 100,
    cursor: Annotated[str | None, Query(max_length=500, description="`next` of the answer before")] = None,
) -> VisitPage:
    """The visits that started in a period, each with its way and its stays, a page at a time."""
    rows, following = here.store.visit_page(
        here.site.name,
        doors=here.site.doors,
        since=period.start,
        until=period.end,
        after=None if cursor is None else _place(cursor),
        most=limit,
    )
    return VisitPage(
        site=here.site.name,
        time_zone=here.site.time_zone,
        start=here.by_clock(period.start),
        end=here.by_clock(period.end),
        state=state_of(here, period.end),
        gaps=[gap_answer(here, gap) for gap in gaps_of(here, period)],
        notes=shown.notes(here.site.k),
        visits=[VisitAnswer(**here.by_clock(row.to_dict())) for row in shown.visits(here, rows)],
        next=None if following is None else _cursor(following),
    )


def _cursor(place: tuple[datetime, str]) -> str:
    at, name = place
    return base64.urlsafe_b64encode(json.dumps([at.isoformat(), name]).encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[datetime, str]:
    try:
        at, name = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        found = datetime.fromisoformat(at).astimezone(UTC), str(name)
    except (ValueError, TypeError, OverflowError):
        raise fault("cursor", "expected `next` of an answer, got something else") from None
    return found


class WhyAnswer(BaseModel):
    """Whether a track is part of a visit that counts, and why."""

    track: str
    counted: bool
    because: list[str]


@router.get("/tracks/{camera}/{session}/{track}/why", responses=problems(404))
def why_counted(
    here: Here,
    camera: Annotated[str, Path(description="The camera's name", examples=["door"])],
    session: Annotated[str, Path(description="As in a visit's sightings", examples=["s"])],
    track: Annotated[int, Path(ge=1, le=2**63 - 1, examples=[1])],
) -> WhyAnswer:
    """Why a track was counted, or was not: a sentence for each thing that is known of it."""
    key = SightingKey(here.site.name, camera, session, track)
    story = here.store.story(key)
    if story is None:
        raise HTTPException(404, unknown(key))
    gaps = []
    if story.sighting is not None:
        if shown.few_on(here, story.sighting.start.astimezone(here.zone).date()):
            raise HTTPException(404, f"Withheld: fewer than {here.site.k} visits began on that day.")
        during = Period(story.sighting.start, story.sighting.end + timedelta(seconds=1))
        gaps = [gap for gap in gaps_of(here, during) if gap.camera == camera]
    counted, because = why(key, story, here.site, gaps)
    return WhyAnswer(track=f"{camera}/{session}/{track}", counted=counted, because=because)
