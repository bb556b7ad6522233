"""Guests who enrolled: their consents, who of them is here, and how a consent ends."""

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

from passerby.service import guests as room
from passerby.service.auth import Principal, needs
from passerby.service.guests import AWAY, Guest, Guests, State
from passerby.service.lookup import Look
from passerby.service.routes.problem import problems
from passerby.service.routes.searching import crop_of, not_too_often
from passerby.service.routes.served import Here, Served
from passerby.types import PasserbyError, PrivacyError

router = APIRouter(prefix="/api/v1/guests", tags=["privacy"])
LONG = 500  # characters of a word of a consent
Text = Annotated[str, Form(max_length=LONG)]
Enroller = Annotated[Principal, Depends(needs("enrol guests"))]


class GuestAnswer(BaseModel):
    """A consent to be recognised. No name of a person need stand in it."""

    guest: str = Field(description="What the site calls this guest")
    purpose: str
    consent: str = Field(description="From whom, and how, it came")
    given: datetime
    ends: datetime
    withdrawn: datetime | None
    by: str = Field(description="Who wrote it down")
    state: State
    kept: bool = Field(description="Whether it is kept how this guest looks: only while the consent holds")


class SeenAnswer(BaseModel):
    """A guest who is remembered, and the visit that is theirs."""

    guest: str
    visit: str
    camera: str = Field(description="Which saw them last")
    start: datetime
    last: datetime
    probability: float


class SeenPage(BaseModel):
    """The guests of those who are remembered. Nothing of this is kept: who is forgotten was never here."""

    site: str
    time_zone: str
    prior: float = Field(description="The probability, before looking, that a guest is nobody who is remembered")
    guests: list[SeenAnswer]


class Named(BaseModel):
    """Whose consent it is."""

    model_config = ConfigDict(extra="forbid")
    guest: str = Field(min_length=1, max_length=LONG, description="As the site calls them", examples=["card 17"])


def _guests(here: Served) -> Guests:
    if here.guests is None:
        raise HTTPException(503, "This service follows nobody; ask the one that watches the cameras.")
    return here.guests


def _answer(here: Served, guest: Guest, kept: bool) -> GuestAnswer:
    said = {name: getattr(guest, name) for name in ("purpose", "consent", "given", "ends", "withdrawn", "by")}
    return GuestAnswer(guest=guest.name, state=guest.state(here.clock()), kept=kept, **here.by_clock(said))


@router.get("", responses=problems(), dependencies=[Depends(needs("see guests"))])
def listed(here: Here) -> list[GuestAnswer]:
    """Every consent that is there, those that ended or were withdrawn, too."""
    return [_answer(here, guest, kept) for guest, kept in _guests(here).listed()]


@router.get("/seen", responses=problems(409), dependencies=[Depends(needs("see guests"))])
def seen(here: Here) -> SeenPage:
    """Which guests are here, or were here so lately that they are remembered: the visit, the camera, when, how surely."""
    try:
        found = _guests(here).seen(now=here.clock())
    except PrivacyError as error:
        raise HTTPException(409, str(error)) from None
    except PasserbyError as error:
        raise HTTPException(503, str(error)) from None
    names = SeenAnswer.model_fields
    rows = [SeenAnswer(**here.by_clock({name: getattr(each, name) for name in names})) for each in found]
    return SeenPage(site=here.site.name, time_zone=here.site.time_zone, prior=AWAY, guests=rows)


@router.post("", responses=problems(400, 404, 409, 413))
def enrol(
    here: Here,
    who: Enroller,
    guest: Text = "",
    purpose: Text = "",
    consent: Text = "",
    ends: Annotated[date | None, Form(description="The last day")] = None,
    visit: Annotated[str | None, Form(max_length=LONG, description="Of one who is remembered")] = None,
    picture: UploadFile | None = None,
) -> GuestAnswer:
    """Enrol a guest, by a picture of one person or by a visit that is not forgotten yet. Without a consent nobody is enrolled.

    A consent has a `purpose`, from whom and how it came (`consent`), and the day on which it `ends`, within two years.
    """
    guests = _guests(here)
    if ends is None:
        raise _fault("ends", "without it there is no consent; nobody was enrolled")
    if bool(visit) == (picture is not None):
        raise _fault("picture", "expected a picture or a visit, and not both")
    try:
        made = guests.enrol(
            here.writer,
            guest,
            lambda: _look(here, who, guests, visit, picture),
            purpose=purpose,
            consent=consent,
            ends=ends,
            by=who.name,
            now=here.clock(),
        )
    except PrivacyError as error:
        what, said, why = str(error).partition(": ")
        if said and what in ("guest", "purpose", "consent", "ends"):
            raise _fault(what, why) from None
        raise HTTPException(409, str(error)) from None
    _record(here, guest, "guest enrolled", who)
    return _answer(here, made, True)


@router.post("/withdrawals", responses=problems(400, 404, 413))
def withdraw(here: Here, named: Named, who: Enroller) -> GuestAnswer:
    """Withdraw a consent: how the guest looks is destroyed before this is answered. The consent stays until it is erased."""
    guests = _guests(here)
    if not guests.withdraw(here.writer, named.guest, now=here.clock()):
        raise _unknown(here, named)
    _record(here, named.guest, "consent withdrawn", who)
    return next(_answer(here, guest, kept) for guest, kept in guests.listed() if guest.name == named.guest)


@router.post("/erasures", responses=problems(400, 404, 409, 413))
def erase(here: Here, named: Named, who: Enroller) -> Named:
    """Erase a consent that ended or was withdrawn. One that holds must be withdrawn first."""
    try:
        gone = _guests(here).erase(here.writer, named.guest, now=here.clock())
    except PrivacyError as error:
        raise HTTPException(409, str(error)) from None
    if not gone:
        raise _unknown(here, named)
    _record(here, named.guest, "consent erased", who)
    return named


def _look(here: Served, who: Principal, guests: Guests, visit: str | None, picture: UploadFile | None) -> Look:
    """How a guest looks who is enrolled, by a picture or a visit."""
    try:
        if picture is not None:
            return not_too_often(here, who).look(crop_of(picture))
        look = guests.look_of(visit or "")
    except PrivacyError:
        raise
    except PasserbyError as error:
        raise HTTPException(503, str(error)) from None
    if look is None:
        raise HTTPException(404, f"Who made visit {visit!r} is not remembered any more, or there was none.")
    return look


def _fault(name: str, said: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", name), "msg": said, "type": "value_error"}])


def _unknown(here: Served, named: Named) -> HTTPException:
    return HTTPException(404, f"There is no consent of {named.guest!r} at {here.site.name}.")


def _record(here: Served, guest: str, action: str, who: Principal) -> None:
    room.record(here.writer, here.site.name, guest, action, who=who.name, kind=who.kind, now=here.clock())
