"""A period's figures as tables, CSV files and a page that can be printed; no figure is defined here."""

import csv
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from passerby.files import write_text
from passerby.service import analytics
from passerby.service.analytics import Change, Dwell, Footfall, Occupancy, Period, Transition
from passerby.service.analytics import Path as Way
from passerby.service.store import StoreReader
from passerby.shop import Crossing
from passerby.site import Site
from passerby.types import Interval
from passerby.vision.visits import VisitRow

Kind = Literal["text", "time", "count", "mean", "share", "seconds"]
Cell = str | float | datetime | None
PATHS = 10  # of the most common
OUTSIDE = "outside"
LABELS = 12  # under a chart, at most
NOT_ADDED = "Persons do not add up: who comes twice is one person of each hour, and one of the day."


@dataclass(frozen=True, slots=True)
class Total:
    """A figure of the whole period, beside what it was before where that is known."""

    name: str
    kind: Kind
    value: Interval | None
    change: Change | None


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a site in a period, and in the one `before` it is compared with; None where nothing is known of that."""

    site: str
    time_zone: str
    period: Period
    known: tuple[datetime, datetime] | None
    before: Period | None
    totals: list[Total]
    footfall: list[Footfall]
    occupancy: list[Occupancy]
    visits: list[Interval]
    persons: list[Interval]
    dwell: list[Dwell]
    paths: list[Way]
    transitions: list[Transition]

    @property
    def empty(self) -> bool:
        """Whether nothing was seen in the period."""
        return not any(total.value and total.value.value for total in self.totals)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: its name, its title, its columns with what they hold, its rows."""

    name: str
    title: str
    columns: dict[str, Kind]
    rows: list[tuple[Cell, ...]]


def report_of(
    store: StoreReader, site: Site, period: Period, *, parts: Callable[[Period, ZoneInfo], list[Period]], now: datetime
) -> Report:
    """The figures of a period, and by its `parts` (`analytics.hours` or `days`), beside those of whole weeks before.

    A period that has not ended at `now` is compared up to the same minute.
    """
    zone = ZoneInfo(site.time_zone)
    pieces = parts(period, zone)
    rows = store.rows(site.name, doors=site.doors, since=period.start, until=period.end)
    opened = analytics.midnight(period.start.astimezone(zone).date(), zone)
    crossings = store.crossings(site.name, since=opened, until=period.end)
    within = [crossing for crossing in crossings if crossing.at in period]
    days = analytics.days(Period(opened, period.end), zone)
    steps = analytics.occupancy(crossings, doors=site.doors, closings=[day.start for day in days])
    compared = Period(period.start, min(period.end, now)) if now > period.start else period
    earlier = analytics.before(compared, zone, weeks=analytics.weeks(period, zone))
    rows_before = store.rows(site.name, doors=site.doors, since=earlier.start, until=earlier.end)
    crossings_before = store.crossings(site.name, since=earlier.start, until=earlier.end)
    span = store.span(site.name)
    there = bool(rows_before or crossings_before)
    totals = _totals(rows, within, period, site)
    figures_now = _totals(rows, within, compared, site)
    figures_before = _totals(rows_before, crossings_before, earlier, site)
    return Report(
        site.name,
        site.time_zone,
        period,
        span,
        earlier if there else None,
        [
            Total(name, kind, value, _change(figures_now[name][1], figures_before[name][1]) if there else None)
            for name, (kind, value) in totals.items()
        ],
        analytics.footfall(within, pieces, doors=site.doors),
        analytics.occupied(steps, pieces),
        analytics.visits(rows, pieces),
        [analytics.persons(rows, piece) for piece in pieces],
        analytics.dwell(rows, period),
        analytics.paths(rows, period, most=PATHS),
        analytics.transitions(rows, period),
    )


def _totals(
    rows: Sequence[VisitRow], crossings: Sequence[Crossing], period: Period, site: Site
) -> dict[str, tuple[Kind, Interval | None]]:
    (doors,) = analytics.footfall(crossings, [period], doors=site.doors)
    taken = analytics.durations(rows, period)
    return {
        "entries": ("count", doors.entries),
        "exits": ("count", doors.exits),
        "visits": ("count", analytics.visits(rows, [period])[0]),
        "persons": ("count", analytics.persons(rows, period)),
        "re-entry share": ("share", analytics.reentry(rows, period)),
        "bounce (under 2 min)": ("share", analytics.bounce(rows, period)),
        "visit, median": ("seconds", taken.median_s if taken else None),
        "visit, 90 %": ("seconds", taken.p90_s if taken else None),
    }


def _change(now: Interval | None, before: Interval | None) -> Change | None:
    return None if now is None or before is None else analytics.change(now, before)


def sheets(report: Report) -> list[Sheet]:
    """The tables of a report; times are in UTC, shares 0..1."""
    relative = [total.change.relative if total.change else None for total in report.totals]
    return [
        Sheet(
            "summary",
            "The period",
            {"figure": "text", "kind": "text", "value": "mean", "before": "mean", "change": "share"},
            [
                (
                    total.name,
                    total.kind,
                    total.value.value if total.value else None,
                    total.change.before.value if total.change else None,
                    changed.value if changed else None,
                )
                for total, changed in zip(report.totals, relative, strict=True)
            ],
        ),
        Sheet(
            "footfall",
            "By time",
            {
                "from": "time",
                "to": "time",
                "entries": "count",
                "exits": "count",
                "visits": "count",
                "persons": "count",
                "inside, mean": "mean",
                "inside, most": "count",
            },
            [
                (
                    each.period.start,
                    each.period.end,
                    each.entries.value,
                    each.exits.value,
                    visits.value,
                    persons.value,
                    inside.mean.value,
                    inside.most.value,
                )
                for each, visits, persons, inside in zip(
                    report.footfall, report.visits, report.persons, report.occupancy, strict=True
                )
            ],
        ),
        Sheet(
            "dwell",
            "Dwell, stays over 5 s",
            {
                "zone": "text",
                "visits": "count",
                "stays": "count",
                "mean": "seconds",
                "median": "seconds",
                "90 %": "seconds",
            },
            [
                (
                    each.zone,
                    each.visits.value,
                    each.stays.count,
                    each.stays.mean_s.value,
                    each.stays.median_s.value,
                    each.stays.p90_s.value,
                )
                for each in report.dwell
            ],
        ),
        Sheet(
            "paths",
            "The most common paths",
            {"path": "text", "visits": "count", "share": "share"},
            [(" > ".join(each.places), each.visits.value, each.share.value) for each in report.paths],
        ),
        Sheet(
            "transitions",
            "From camera to camera",
            {"from": "text", "to": "text", "count": "count", "share": "share"},
            [
                (each.origin or OUTSIDE, each.target or OUTSIDE, each.count.value, each.share.value)
                for each in report.transitions
            ],
        ),
    ]


def shown(value: Cell, kind: Kind, zone: ZoneInfo) -> str:
    """A cell as people read it; nothing for what is not known.

    >>> shown(0.256, "share", ZoneInfo("UTC")), shown(754.0, "seconds", ZoneInfo("UTC"))
    ('25.6 %', '12:34')
    """
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, datetime):
        return value.astimezone(zone).strftime("%Y-%m-%d %H:%M %z")
    if kind == "share":
        return f"{100 * value:.1f} %"
    if kind == "seconds":
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes}:{seconds:02}"
    return f"{value:.2f}" if kind == "mean" else f"{value:.0f}"


def table(sheet: Sheet, time_zone: str) -> list[list[str]]:
    """A sheet's rows as people read them; the summary's numbers each as what they are."""
    zone, found = ZoneInfo(time_zone), []
    for row in sheet.rows:
        kinds = list(sheet.columns.values())
        if sheet.name == "summary":
            kinds[2:4] = [row[1], row[1]]  # type: ignore[list-item]  # the row's own Kind
        found.append([shown(cell, kind, zone) for cell, kind in zip(row, kinds, strict=True)])
    return found


def csv_text(sheet: Sheet, zone: ZoneInfo) -> str:
    """A table as CSV; times by the site's clock with their distance from UTC, durations in seconds, shares 0..1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(sheet.columns)
    for row in sheet.rows:
        writer.writerow([cell.astimezone(zone).isoformat() if isinstance(cell, datetime) else cell for cell in row])
    return text.getvalue()


def write_csv(folder: Path, report: Report) -> list[Path]:
    """Write each table to a file of its name, as `csv_text` has it."""
    folder.mkdir(parents=True, exist_ok=True)
    zone, written = ZoneInfo(report.time_zone), []
    for sheet in sheets(report):
        written.append(folder / f"{sheet.name}.csv")
        write_text(written[-1], csv_text(sheet, zone))
    return written


def headline(report: Report) -> str:
    """The site, the period and the time zone in one line."""
    zone = ZoneInfo(report.time_zone)
    start, end = (shown(at, "time", zone) for at in (report.period.start, report.period.end))
    return f"{report.site}: {start} to {end} ({report.time_zone})"


def nothing(report: Report) -> str:
    """What to say of a period in which nothing was seen."""
    zone = ZoneInfo(report.time_zone)
    if report.known is None:
        return (
            "Nothing is known of this site yet: `passerby import-visits` or `passerby follow --store` bring visits in."
        )
    start, end = (shown(at, "time", zone) for at in report.known)
    return (
        f"Nothing was seen in this period. The store knows of {start} to {end}; no camera's being off is known to it."
    )


STYLE = """
:root{--ink:#1c2430;--soft:#667085;--line:#e4e7ec;--a:#2563eb;--b:#d97706}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);max-width:960px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin-top:2rem}.soft{color:var(--soft)}
table{border-collapse:collapse;width:100%}td,th{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:right}
td:first-child,th:first-child{text-align:left}.wide{overflow-x:auto}svg{max-width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:var(--soft)}.empty{border:1px solid var(--line);padding:2rem;text-align:center}
@media print{body{margin:0;max-width:none;font-size:11px}h2,figure,tr{break-inside:avoid}}
@page{margin:15mm}
"""


def write_page(path: Path, report: Report) -> None:
    """Write one HTML page with all tables and three charts: no script, nothing from elsewhere, fit to be printed."""
    title, zone = html.escape(headline(report)), ZoneInfo(report.time_zone)
    parts = [f"<h1>{html.escape(report.site)}</h1>", f'<p class="soft">{title}</p>']
    if report.empty:
        parts.append(f'<p class="empty">{html.escape(nothing(report))}</p>')
    else:
        charts = {"footfall": _footfall(report, zone), "dwell": _dwell(report), "transitions": _ways(report)}
        for sheet in sheets(report):
            parts += [f"<h2>{html.escape(sheet.title)}</h2>", charts.get(sheet.name, "")]
            columns = [column for column in sheet.columns if column != "kind"]
            kept = [row for row, column in enumerate(sheet.columns) if column != "kind"]
            rows = [[row[place] for place in kept] for row in table(sheet, report.time_zone)]
            parts.append(_table(columns, rows))
            if sheet.name == "summary":
                parts.append(f'<p class="soft">{html.escape(compared(report))}</p>')
            if sheet.name == "footfall":
                parts.append(f'<p class="soft">{NOT_ADDED}</p>')
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    write_text(path, page + "\n".join(parts) + "</html>\n")


def compared(report: Report) -> str:
    """With what the period is compared."""
    if report.before is None:
        return "Nothing is known of the same days before."
    zone = ZoneInfo(report.time_zone)
    start, end = (shown(at, "time", zone) for at in (report.before.start, report.before.end))
    return f"Before: {start} to {end}."


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return '<p class="soft">None.</p>'
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _footfall(report: Report, zone: ZoneInfo) -> str:
    """Bars: entries and exits side by side, by time."""
    width, height, left, foot = 900, 220, 36, 24
    most = max((max(each.entries.value, each.exits.value) for each in report.footfall), default=0) or 1
    step = min(80.0, (width - left) / len(report.footfall))
    days = len({each.period.start.astimezone(zone).date() for each in report.footfall}) == len(report.footfall)
    drawn = [f'<text x="{left - 6}" y="12" text-anchor="end">{most:.0f}</text>']
    every = -(-len(report.footfall) // LABELS)
    for number, each in enumerate(report.footfall):
        for place, (value, colour) in enumerate(((each.entries.value, "a"), (each.exits.value, "b"))):
            tall = (height - foot - 8) * value / most
            x, y, w = left + step * (number + 0.1 + 0.4 * place), height - foot - tall, 0.38 * step
            drawn.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{tall:.1f}" fill="var(--{colour})"/>')
        if number % every == 0:
            label = each.period.start.astimezone(zone).strftime("%d.%m." if days else "%H:%M")
            drawn.append(
                f'<text x="{left + step * (number + 0.5):.1f}" y="{height - 6}" text-anchor="middle">{label}</text>'
            )
    return _figure("Entries (blue) and exits (orange) by time", width, height, drawn)


def _dwell(report: Report) -> str:
    """Bars: the median stay of each zone, with a line to the 90 % value."""
    width, row, left = 900, 26, 160
    most = max((each.stays.p90_s.value for each in report.dwell), default=0) or 1
    drawn, scale = [], (width - left - 60) / most
    for number, each in enumerate(report.dwell):
        y, median, p90 = number * row + 4, each.stays.median_s.value * scale, each.stays.p90_s.value * scale
        drawn += [
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{html.escape(each.zone)}</text>',
            f'<rect x="{left}" y="{y}" width="{median:.1f}" height="18" fill="var(--a)"/>',
            f'<path d="M{left + median:.1f} {y + 9}H{left + p90:.1f}m0 -5v10" stroke="var(--b)" fill="none"/>',
            f'<text x="{left + p90 + 6:.1f}" y="{y + 13}">'
            f"{shown(each.stays.median_s.value, 'seconds', ZoneInfo('UTC'))}</text>",
        ]
    return _figure(
        "Median stay by zone; the line ends at the 90 % value", width, row * max(1, len(report.dwell)), drawn
    )


def _ways(report: Report) -> str:
    """A matrix: how often from the row's place to the column's."""
    counts = {(e.origin or OUTSIDE, e.target or OUTSIDE): e.count.value for e in report.transitions}
    places = sorted({place for pair in counts for place in pair}, key=lambda place: (place != OUTSIDE, place))
    most, cell, left, top = max(counts.values(), default=1), 56, 130, 24
    drawn = []
    for row, origin in enumerate(places):
        y = top + row * cell // 2
        drawn.append(f'<text x="{left - 8}" y="{y + 18}" text-anchor="end">{html.escape(origin)}</text>')
        head = left + row * cell + cell / 2
        drawn.append(f'<text x="{head:.0f}" y="{top - 8}" text-anchor="middle">{html.escape(origin[:9])}</text>')
        for column, target in enumerate(places):
            count, x = counts.get((origin, target), 0), left + column * cell
            drawn.append(
                f'<rect x="{x}" y="{y}" width="{cell - 2}" height="{cell // 2 - 2}" fill="var(--a)" '
                f'fill-opacity="{0.06 + 0.6 * count / most:.2f}"/>'
            )
            if count:
                drawn.append(
                    f'<text x="{x + cell // 2}" y="{y + 18}" text-anchor="middle" style="fill:var(--ink)">{count:.0f}</text>'
                )
    width, height = left + cell * len(places), top + cell // 2 * len(places)
    return _figure("Ways: from the camera of the row to that of the column", width, height, drawn)


def _figure(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    label = html.escape(title)
    return (
        f'<figure style="margin:0"><svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg><figcaption class="soft">{label}</figcaption></figure>'
    )
