"""Search by picture, among those whose vectors have not expired. The picture is looked at in memory, and kept nowhere."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field

from passerby.reid.pictures import decoded
from passerby.service.auth import Principal, needs
from passerby.service.lookup import ABSENT, Lookup
from passerby.service.routes.problem import problems
from passerby.service.routes.served import Here, Served
from passerby.types import PasserbyError, PictureError, UInt8

router = APIRouter(prefix="/api/v1", tags=["privacy"])


class MatchAnswer(BaseModel):
    """A visit, and the probability that the picture shows whoever made it."""

    visit: str
    probability: float
    start: datetime
    end: datetime


class SearchAnswer(BaseModel):
    """Whom the picture shows. The probabilities of all who are remembered and `unknown` add up to 1."""

    site: str
    time_zone: str
    among: int = Field(description="How many people are remembered")
    prior: float = Field(description="The probability, before looking, that it shows nobody of them")
    unknown: float = Field(description="The probability that it shows nobody of them")
    visits: list[MatchAnswer] = Field(description="The likeliest, at most five")
    notes: list[str]


@router.post("/search", responses=problems(400, 413))
def search(here: Here, picture: UploadFile, who: Annotated[Principal, Depends(needs("search"))]) -> SearchAnswer:
    """Whose visit a picture shows, as a JPEG or PNG of one person from head to feet, of those who are not forgotten yet."""
    lookup, shown = not_too_often(here, who), crop_of(picture)
    try:
        found = lookup.find(shown)
    except PasserbyError as error:
        raise HTTPException(503, str(error)) from None
    there = {visit.name: visit for visit in here.store.named(here.site.name, [name for name, _ in found.visits])}
    return SearchAnswer(
        site=here.site.name,
        time_zone=here.site.time_zone,
        among=found.among,
        prior=ABSENT,
        unknown=found.unknown,
        visits=[
            MatchAnswer(
                visit=name,
                probability=probability,
                start=here.by_clock(there[name].start),
                end=here.by_clock(there[name].end),
            )
            for name, probability in found.visits
            if name in there
        ],
        notes=[f"Who left {here.site.reentry_h:g} h ago or longer is forgotten, and cannot be found."],
    )


def not_too_often(here: Served, who: Principal) -> Lookup:
    """What searches by picture, for somebody who did not ask it too often; answers 429 or 503 otherwise."""
    if here.lookup is None:
        raise HTTPException(503, "This service follows nobody; ask the one that watches the cameras.")
    if wait_s := here.lookup.wait_s(f"{who.kind} {who.name}", here.clock()):
        raise HTTPException(
            429, f"Too many searches; wait {wait_s:.0f} s.", headers={"Retry-After": str(int(wait_s) + 1)}
        )
    return here.lookup


def crop_of(picture: UploadFile) -> UInt8:
    """A picture that was sent, of one person (height, width, 3), RGB; answers 422 for what is none."""
    try:
        return decoded(picture.file.read())
    except PictureError as error:
        raise RequestValidationError([{"loc": ("body", "picture"), "msg": str(error), "type": "value_error"}]) from None
