"""Files to take away: tables as CSV, JSON and Parquet, visits, and a report that can be printed; times by the site's clock."""

import csv
import io
import json
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Response

from passerby.service import report as room
from passerby.service.analytics import Period
from passerby.service.auth import needs
from passerby.service.report import Report
from passerby.service.routes import shown
from passerby.service.routes.period import GroupBy, Whole, parts_of
from passerby.service.routes.problem import problems
from passerby.service.routes.served import Here, Served
from passerby.vision.parquet import table_bytes, visits_bytes

Table = Literal["summary", "footfall", "dwell", "paths", "transitions", "queues", "doors", "counts", "gaps"]
Format = Literal["csv", "json", "parquet"]
MEDIA: dict[Format, str] = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}
DAY_S = 25 * 3600  # that on which the clock goes back
PRINTED = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"  # one page, nothing from elsewhere
router = APIRouter(prefix="/api/v1/exports", tags=["exports"], dependencies=[Depends(needs("export"))])


def _file(*media: str) -> dict[int | str, dict[str, Any]]:  # Any: OpenAPI
    kinds: dict[str, Any] = {}
    for kind in media:
        rows = {"type": "array", "items": {"type": "object"}}
        kinds[kind.partition(";")[0]] = {"schema": rows if kind == "application/json" else {"type": "string"}}
    return {200: {"description": "The file", "content": kinds}}


def _report(here: Served, period: Period, group_by: GroupBy) -> Report:
    """The period's report by the hour of one day, by the day of more, unless it is asked for otherwise."""
    length = group_by or ("hour" if period.seconds <= DAY_S else "day")
    parts = parts_of(here, period, length)
    found = room.report_of(here.store, here.site, period, parts=lambda period, zone: parts, now=here.clock())
    return shown.report(here, found)


def _attached(content: bytes | str, media: str, name: str) -> Response:
    return Response(content, media_type=media, headers={"Content-Disposition": f'attachment; filename="{name}"'})


@router.get("/report.html", responses=problems() | _file("text/html"), response_class=Response)
def printable(here: Here, period: Whole, group_by: GroupBy = None) -> Response:
    """One page with the tables and charts of a period, fit to be printed: no script, nothing from elsewhere."""
    text = room.page_text(_report(here, period, group_by))
    return Response(text, media_type="text/html", headers={"Content-Security-Policy": PRINTED})


@router.get(
    "/visits.{form}",
    responses=problems() | _file(*MEDIA.values()),
    response_class=Response,
    dependencies=[Depends(needs("see visits"))],
)
def visits(here: Here, period: Whole, form: Format) -> Response:
    """The visits that began in a period, a row each."""
    rows = here.store.rows(here.site.name, doors=here.site.doors, since=period.start, until=period.end)
    begun = [row.to_dict() for row in shown.visits(here, rows) if row.start in period]
    if form == "parquet":
        content: bytes | str = visits_bytes(begun)
    elif form == "json":
        content = json.dumps(here.by_clock(begun), default=_text)
    else:
        content = _visits_csv(here, begun)
    return _attached(content, MEDIA[form], f"visits.{form}")


def _visits_csv(here: Served, rows: list[dict[str, Any]]) -> str:  # Any: what VisitRow.to_dict gives
    text = io.StringIO()
    columns = ["visit", "person", "start", "end", "entered", "left", "cameras", "zones", "dwell_s", "probability"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in here.by_clock(rows):
        dwell_s = [((stay["end"] or row["end"]) - stay["start"]).total_seconds() for stay in row["stays"]]
        cells = {
            **row,
            "cameras": " > ".join(row["cameras"]),
            "zones": " > ".join(stay["zone"] for stay in row["stays"]),
            "dwell_s": f"{sum(dwell_s):.1f}",
        }
        writer.writerow([_text(cells[name]) if isinstance(cells[name], datetime) else cells[name] for name in columns])
    return text.getvalue()


@router.get("/{table}.{form}", responses=problems(404) | _file(*MEDIA.values()), response_class=Response)
def tables(here: Here, period: Whole, table: Table, form: Format, group_by: GroupBy = None) -> Response:
    """A table of a period's report, as `passerby report` prints it."""
    report = _report(here, period, group_by)
    sheet = next((sheet for sheet in room.sheets(report) if sheet.name == table), None)
    if sheet is None:
        raise HTTPException(
            404, f"There is nothing to write into {table!r}: of this period, or of this site, nothing is known."
        )
    if form == "parquet":
        content: bytes | str = table_bytes(sheet.columns, sheet.rows)
    elif form == "json":
        rows = [dict(zip(sheet.columns, here.by_clock(row), strict=True)) for row in sheet.rows]
        content = json.dumps(rows, default=_text)
    else:
        content = room.csv_text(sheet, report.time_zone)
    return _attached(content, MEDIA[form], f"{table}.{form}")


def _text(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()
