"""What others tell the site: sales that tills counted, and what people counted at a door."""

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

from passerby.service import audit, kept
from passerby.service.auth import Principal, needs
from passerby.service.routes.period import Moment, utc
from passerby.service.routes.problem import problems
from passerby.service.routes.served import Here, Served

router = APIRouter(prefix="/api/v1", tags=["intake"])
MOST = 1000  # records in one request
STRICT = ConfigDict(extra="forbid", str_max_length=200)
Start = Annotated[Moment, Field(validation_alias="from", description="A time; without a zone by the site's clock")]
End = Annotated[Moment, Field(validation_alias="to", description="The time before which it ends")]
Number = Annotated[int, Field(ge=0, le=1_000_000)]


class Till(BaseModel):
    """How many sales a till counted in a time."""

    model_config = STRICT
    start: Start
    end: End
    sales: Number
    till: str = ""


class Audited(BaseModel):
    """How many a person counted at a line, inwards and outwards."""

    model_config = STRICT
    line: str
    start: Start
    end: End
    entries: Number
    exits: Number


class Taken(BaseModel):
    """How many records came, and how many of them were not there yet; one of the same time takes the earlier one's place."""

    records: int
    new: int


def _times(here: Served, place: int, start: date | datetime, end: date | datetime) -> tuple[datetime, datetime]:
    since, until = utc(start, here.zone), utc(end, here.zone)
    if not since < until:
        raise _fault(place, "from", f"expected it before `to`, got {start.isoformat()} and {end.isoformat()}")
    return since, until


def _fault(place: int, name: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", place, name), "msg": message, "type": "value_error"}])


@router.post("/sales", responses=problems(400, 413), dependencies=[Depends(needs("annotate"))])
def sales(here: Here, told: Annotated[list[Till], Field(min_length=1, max_length=MOST)]) -> Taken:
    """Take what tills counted in; `/api/v1/metrics/conversion` sets it beside visits. To be told again changes nothing."""
    records = [
        kept.Sales(*_times(here, place, each.start, each.end), each.sales, each.till) for place, each in enumerate(told)
    ]
    return Taken(records=len(told), new=kept.put_sales(here.writer, here.site.name, records))


@router.post("/audits", responses=problems(400, 413))
def audits(
    here: Here,
    told: Annotated[list[Audited], Field(min_length=1, max_length=MOST)],
    who: Annotated[Principal, Depends(needs("annotate"))],
) -> Taken:
    """Take in what people counted at a line, such as a quarter of an hour; entries and exits get their intervals from it."""
    lines, records = {line.name: line for line in here.site.lines}, []
    for place, each in enumerate(told):
        if each.line not in lines:
            known = ", ".join(lines) or "none: the site has no lines"
            raise _fault(place, "line", f"expected one of {known}; got {each.line!r}")
        since, until = _times(here, place, each.start, each.end)
        of = audit.place(lines[each.line])
        records.append(kept.Audit(each.line, since, until, each.entries, each.exits, place=of, by=who.name))
    known_before = {(each.line, each.start) for each in kept.audits(here.store, here.site.name)}
    kept.put_audits(here.writer, here.site.name, records)
    return Taken(records=len(told), new=len({(each.line, each.start) for each in records} - known_before))
