"""What must be forgotten and what was seen: one visit erased in one call, and the audit log."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field

from passerby.service import accounts
from passerby.service.auth import Principal, needs
from passerby.service.routes.problem import problems
from passerby.service.routes.served import Here
from passerby.service.store import Store
from passerby.types import StoreError

router = APIRouter(prefix="/api/v1", tags=["privacy"])


class Erasing(BaseModel):
    """Which visit is to be erased."""

    model_config = ConfigDict(extra="forbid")
    visit: str = Field(
        min_length=1, max_length=200, description="Its name, as `/api/v1/visits` has it", examples=["v-4711"]
    )


class ErasedAnswer(BaseModel):
    """What was erased. `others` are visits of the same person that are still there."""

    visits: int
    sightings: int
    backups_cleaned: int
    backups_missing: int = Field(description="Backups that are not where they were written; a restore erases again")
    others: list[str]


class AuditRow(BaseModel):
    """A row of the audit log; `detail` is JSON as text, as it was hashed."""

    number: int
    at: datetime
    who: str
    kind: str
    action: str
    site: str | None
    detail: str
    hash: str


class AuditPage(BaseModel):
    """Rows of the audit log, newest first."""

    rows: list[AuditRow]
    next: int | None = Field(description="Ask again with this as `before` for older rows; null where there are none")


@router.post("/erasures", responses=problems(400, 404, 413))
def erase(here: Here, erasing: Erasing, who: Annotated[Principal, Depends(needs("erase"))]) -> ErasedAnswer:
    """Erase one visit for good: its rows, path, stays and links, in the store and its backups; counts stay as they were."""
    if not isinstance(here.store, Store):
        raise HTTPException(503, "This service only reads its store; ask the one that writes to it.")
    now = here.clock()
    try:
        gone = here.erase(here.store, here.site.name, erasing.visit, who=who.name, kind=who.kind, now=now)
    except StoreError as error:
        if "has no visit" in str(error):
            raise HTTPException(404, f"There is no visit {erasing.visit!r} at {here.site.name}.") from None
        raise
    return ErasedAnswer(
        visits=len(gone.visits),
        sightings=len(gone.sightings),
        backups_cleaned=len(gone.copies),
        backups_missing=len(gone.missing),
        others=list(gone.others),
    )


@router.get("/audit", responses=problems())
def audit(
    here: Here,
    who: Annotated[Principal, Depends(needs("read audit"))],
    before: Annotated[int | None, Query(ge=1, description="Only rows below this number")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most")] = 100,
) -> AuditPage:
    """The audit log, newest first: views of people and pictures, exports, searches, changes, logins."""
    rows = accounts.log(here.store, before=before, limit=limit, sites=who.sites)
    shown = [AuditRow(**{name: getattr(row, name) for name in AuditRow.model_fields}) for row in rows]
    return AuditPage(rows=shown, next=rows[-1].number if len(rows) == limit else None)
