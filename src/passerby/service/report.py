"""A period's figures as tables, CSV files and a page that can be printed; no figure is defined here."""

import csv
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from passerby.files import write_text
from passerby.service import analytics, audit, hours, kept
from passerby.service.analytics import (
    Change,
    Dwell,
    Footfall,
    Missing,
    Occupancy,
    Period,
    Queued,
    Tally,
    Transition,
    Usual,
)
from passerby.service.analytics import Path as Way
from passerby.service.kept import Gap
from passerby.service.rollups import Hours
from passerby.service.store import StoreReader
from passerby.site import Site
from passerby.types import Interval
from passerby.vision.visits import as_path

Kind = Literal["text", "time", "count", "mean", "share", "seconds"]
Cell = str | float | datetime | None
PATHS = 10  # of the most common
OUTSIDE = "outside"
MAY_BE_EMPTY = {"low", "high", "missing", "usual", "unusual"}
LABELS = 12  # under a chart, at most
DRAWN: tuple[Literal["visits", "persons"], ...] = ("visits", "persons")
GONE = "Where a figure is missing it is not known: the visits of that time are gone, and what is kept of them does not tell it."
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
    """What is known of a site in a period, and in the one `before` it is compared with; None where nothing is known of that.

    Figures by the part are None, and others left out, where visits are gone and nothing tells what they were.
    """

    site: str
    time_zone: str
    period: Period
    known: tuple[datetime, datetime] | None
    before: Period | None
    totals: list[Total]
    footfall: list[Footfall]
    occupancy: list[Occupancy | None]
    visits: list[Interval | None]
    persons: list[Interval | None]
    dwell: list[Dwell]
    paths: list[Way]
    transitions: list[Transition]
    missing: list[Missing]
    usual: list[Usual | None]
    gaps: list[Gap]
    queues: dict[str, list[Queued]]
    counts: dict[str, list[Tally]]
    counts_usual: dict[str, list[Usual | None]]
    lines: dict[str, audit.Trust]
    notes: list[str]

    @property
    def empty(self) -> bool:
        """Whether nothing was seen in the period, nor counted elsewhere, and no camera's being off is known."""
        return not (any(total.value and total.value.value for total in self.totals) or self.gaps or self.counts)


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

    Of a period that has not ended at `now` they are those of what has passed, beside as much before.
    """
    zone = ZoneInfo(site.time_zone)
    pieces = parts(period, zone)
    passed, shown = analytics.passed(period, now), [analytics.passed(piece, now) for piece in pieces]
    earlier = analytics.before(passed, zone, weeks=analytics.weeks(period, zone))
    figures, past = (Hours(store, site, each, now=now) for each in (passed, earlier))
    there = any(past.of(kind, earlier) for kind in ("doors", "ways", "staff"))
    lines = doors_trusted(store, site)
    totals, before = (_totals(store, site, each, lines) for each in (figures, past))
    changes = {name: _change(total, before.get(name)) if there else None for name, total in totals.items()}
    draws = kept.draws(store, site.name, since=period.start, until=period.end)
    gaps = kept.gaps(store, site.name, since=period.start, until=period.end)
    counts, counts_usual = counted_elsewhere(store, site, pieces, zone)
    notes = []
    visits, people = (analytics.drawn(draws, period, zone, what=what) for what in DRAWN)
    if visits is None:
        notes.append("Visits and persons have no interval: the period has no draws.")
    else:
        kind, counted = totals["visits"]
        staff = figures.of("staff", passed).get("through_doors", 0)
        totals["visits"] = kind, analytics.estimated(counted or Interval(0.0), visits, staff=staff)
    if people is not None:
        totals["people seen, staff and passers-by too"] = "count", analytics.estimated(Interval(0.0), people)
    openings = [Period(*each) for each in site.openings(period.start, period.end)]
    came = [figures.came(each) if figures.known(["came"], each) else None for each in shown]
    if not all(each.known(hours.KINDS, each.period) for each in (figures, past)):
        notes.append(GONE)
    ways = hours.ways(figures.of("ways", passed), by_zone=False)
    return Report(
        site.name,
        site.time_zone,
        period,
        store.span(site.name),
        earlier if there else None,
        [Total(name, kind, value, changes.get(name)) for name, (kind, value) in totals.items()],
        [
            hours.footfall(figures.of("doors", each), site.doors, piece)
            for each, piece in zip(shown, pieces, strict=True)
        ],
        [hours.inside(figures.of("inside", each), each) if figures.known(["inside"], each) else None for each in shown],
        [None if table is None else Interval(table.get("visits", 0)) for table in came],
        [
            None if table is None else Interval(hours.persons(table, each.start))
            for table, each in zip(came, shown, strict=True)
        ],
        hours.dwell(figures.of("dwell", passed)),
        analytics.ranked_paths(ways, most=PATHS),
        analytics.ranked_transitions(ways),
        analytics.missing(gaps, pieces, cameras=hours.door_cameras(site), now=now, openings=openings),
        usual_entries(store, site, pieces, zone, now=now, past=partial(Hours, store, site, now=now)),
        gaps,
        {
            queue.zone: [
                hours.queued(figures.of("queues", each), queue.zone, each)
                for each in shown
                if figures.known(["queues"], each)
            ]
            for queue in site.queues
        },
        counts,
        counts_usual,
        lines,
        notes,
    )


def doors_trusted(store: StoreReader, site: Site) -> dict[str, audit.Trust]:
    """How far each door is to be trusted."""
    return {name: trust for name, trust in audit.trusted(store, site).items() if name in site.doors}


def usual_entries(
    store: StoreReader,
    site: Site,
    pieces: Sequence[Period],
    zone: ZoneInfo,
    *,
    now: datetime,
    past: Callable[[Period], Hours],
) -> list[Usual | None]:
    """Entries beside those of the same weekday and hour, where neither is over a gap; a piece that is not over has none.

    `past` gives what is known of a time by the hour.
    """
    before = {piece: analytics.weeks_before(piece, zone) for piece in pieces}
    since, until = min(each.start for found in before.values() for each in found), pieces[-1].end
    span, figures = store.span(site.name), past(Period(since, until))
    gaps = kept.gaps(store, site.name, since=since, until=until)
    openings, cameras = [Period(*each) for each in site.openings(since, until)], hours.door_cameras(site)

    @cache
    def entries(period: Period) -> float | None:
        if span is None or span[0] > period.start:
            return None
        (part,) = analytics.missing(gaps, [period], cameras=cameras, now=now, openings=openings)
        if not part.whole:
            return None
        return hours.passed(figures.of("doors", period), site.doors, "in")

    found = []
    for piece in pieces:
        value = entries(piece)
        earlier = [number for each in before[piece] if (number := entries(each)) is not None]
        found.append(None if value is None else analytics.usual(value, earlier))
    return found


def counted_elsewhere(
    store: StoreReader, site: Site, pieces: Sequence[Period], zone: ZoneInfo
) -> tuple[dict[str, list[Tally]], dict[str, list[Usual | None]]]:
    """What was counted elsewhere, by line, and what is usual of it."""
    rows = kept.counts(store, site.name, since=pieces[0].start, until=pieces[-1].end)
    lines = sorted({row.line for row in rows})
    if not lines:
        return {}, {}
    before = {piece: analytics.weeks_before(piece, zone) for piece in pieces}
    since = min(each.start for found in before.values() for each in found)
    earlier = kept.counts(store, site.name, since=since, until=pieces[-1].start)
    tallies = {line: analytics.counted(rows, pieces, lines=[line]) for line in lines}
    usual: dict[str, list[Usual | None]] = {}
    for line in lines:
        mine = [row for row in earlier if row.line == line]
        usual[line] = []
        for tally in tallies[line]:
            past = [analytics.counted(mine, [each], lines=[line])[0] for each in before[tally.period]]
            whole = [each.entries.value for each in past if each.missing == 0]
            usual[line].append(analytics.usual(tally.entries.value, whole) if tally.missing == 0 else None)
    return tallies, usual


def _totals(
    store: StoreReader, site: Site, figures: Hours, lines: Mapping[str, audit.Trust]
) -> dict[str, tuple[Kind, Interval | None]]:
    period = figures.period
    crossed, table, staff = figures.of("doors", period), figures.came(period), figures.of("staff", period)
    doors, taken = hours.footfall(crossed, site.doors, period), hours.spread(table)
    visits, groups, of_staff = (figures.known([kind], period) for kind in ("came", "groups", "staff"))
    begun = Interval(table.get("visits", 0)) if visits else None
    found: dict[str, tuple[Kind, Interval | None]] = {
        "entries": ("count", doors.entries),
        "exits": ("count", doors.exits),
        "visits": ("count", begun),
        "persons": ("count", Interval(hours.persons(table, period.start)) if visits else None),
        "re-entry share": ("share", hours.reentry(table, period.start)),
        "bounce (under 2 min)": ("share", hours.bounce(table)),
        "visit, median": ("seconds", taken.median_s if taken else None),
        "visit, 90 %": ("seconds", taken.p90_s if taken else None),
        "groups": ("count", Interval(sum(figures.of("groups", period).values())) if groups else None),
        "visits of staff, left out": ("count", Interval(staff.get("visits", 0)) if of_staff else None),
    }
    if site.doors:
        by_visits = figures.of("through", period) if figures.known(["through"], period) else None
        for name, way in zip(("entries", "exits"), hours.BOTH, strict=True):
            found[f"{name}, by visits"] = "count", None if by_visits is None else hours.through(by_visits, way)
    for name, inwards in (("entries", True), ("exits", False)):
        if (by_audits := corrected(lines, crossed, inwards=inwards)) is not None:
            found[f"{name}, estimated"] = "count", by_audits
    if site.passing:
        passed = hours.passersby(crossed, site.passing)
        found["passers-by"] = "count", passed
        found["capture rate"] = "share", analytics.capture(doors.entries, passed)
    if sales := kept.sales(store, site.name, since=period.start, until=period.end):
        (sold,) = analytics.sold(sales, [period])
        found["sales"] = "count", sold
        found["sales by visits"] = "share", analytics.conversion(sold, begun or Interval(0.0))
    return found


def corrected(lines: Mapping[str, audit.Trust], table: hours.Sums, *, inwards: bool) -> Interval | None:
    """Entries or exits of all doors, of a table of crossings, as the audits correct them; None for a site without doors."""
    each = [
        audit.corrected(
            Interval(hours.passed(table, [line], "in" if inwards else "out")), trust.entries if inwards else trust.exits
        )
        for line, trust in lines.items()
    ]
    return audit.together(each) if each else None


def _change(now: tuple[Kind, Interval | None] | None, before: tuple[Kind, Interval | None] | None) -> Change | None:
    """A total beside what it was; None where one of the two is not known."""
    if now is None or before is None or now[1] is None or before[1] is None:
        return None
    return analytics.change(now[1], before[1])


def _marked(usual: Usual | None) -> str:
    return f"{usual.z:+.1f} deviations" if usual is not None and usual.marked else ""


def sheets(report: Report) -> list[Sheet]:
    """The tables of a report; times are in UTC, shares 0..1. Those of which there is nothing are left out, as such columns."""
    return [_without_empty(sheet) for sheet in (*_always(report), *(each for each in _more(report) if each.rows))]


def _without_empty(sheet: Sheet) -> Sheet:
    """A sheet without those of its columns that may be empty and are: the others say something by being 0."""
    places = [
        place
        for place, name in enumerate(sheet.columns)
        if name not in MAY_BE_EMPTY or any(row[place] not in (None, "", 0.0) for row in sheet.rows)
    ]
    columns = list(sheet.columns.items())
    rows = [tuple(row[place] for place in places) for row in sheet.rows]
    return Sheet(sheet.name, sheet.title, dict(columns[place] for place in places), rows)


def _more(report: Report) -> list[Sheet]:
    """Queues, doors, counts from elsewhere and gaps."""
    return [
        Sheet(
            "queues",
            "Queues",
            {
                "zone": "text",
                "from": "time",
                "people, mean": "mean",
                "people, most": "count",
                "waited": "count",
                "median": "seconds",
                "90 %": "seconds",
            },
            [
                (
                    zone,
                    each.period.start,
                    each.mean.value,
                    each.most.value,
                    each.waiting.count,
                    each.waiting.median_s.value,
                    each.waiting.p90_s.value,
                )
                for zone, queue in report.queues.items()
                for each in queue
                if each.waiting is not None
            ],
        ),
        Sheet(
            "doors",
            "Doors, and what people who counted at them say",
            {"line": "text", "state": "text", "audits": "count", "factor in": "mean", "factor out": "mean"},
            [
                (line, trust.state, trust.entries.audits, trust.entries.interval.value, trust.exits.interval.value)
                for line, trust in report.lines.items()
                if trust.state != "drawn"
            ],
        ),
        Sheet(
            "counts",
            "Counted elsewhere",
            {
                "line": "text",
                "from": "time",
                "to": "time",
                "entries": "count",
                "exits": "count",
                "missing": "share",
                "usual": "mean",
                "unusual": "text",
            },
            [
                (
                    line,
                    each.period.start,
                    each.period.end,
                    each.entries.value if each.missing < 1 else None,
                    each.exits.value if each.exits and each.missing < 1 else None,
                    each.missing,
                    usual.median if usual else None,
                    _marked(usual),
                )
                for line, tallies in report.counts.items()
                for each, usual in zip(tallies, report.counts_usual[line], strict=True)
            ],
        ),
        Sheet(
            "gaps",
            "What cameras did not see",
            {"camera": "text", "from": "time", "to": "time", "kind": "text", "reason": "text"},
            [(gap.camera, gap.start, gap.end, gap.kind, gap.reason) for gap in report.gaps],
        ),
    ]


def _always(report: Report) -> list[Sheet]:
    relative = [total.change.relative if total.change else None for total in report.totals]
    return [
        Sheet(
            "summary",
            "The period",
            {
                "figure": "text",
                "kind": "text",
                "value": "mean",
                "low": "mean",
                "high": "mean",
                "before": "mean",
                "change": "share",
            },
            [
                (
                    total.name,
                    total.kind,
                    total.value.value if total.value else None,
                    total.value.low if total.value else None,
                    total.value.high if total.value else None,
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
                "missing": "share",
                "usual": "mean",
                "unusual": "text",
            },
            [
                (
                    each.period.start,
                    each.period.end,
                    each.entries.value,
                    each.exits.value,
                    visits.value if visits else None,
                    persons.value if persons else None,
                    inside.mean.value if inside else None,
                    inside.most.value if inside else None,
                    missing.share,
                    usual.median if usual else None,
                    _marked(usual),
                )
                for each, visits, persons, inside, missing, usual in zip(
                    report.footfall,
                    report.visits,
                    report.persons,
                    report.occupancy,
                    report.missing,
                    report.usual,
                    strict=True,
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
            [(as_path(each.places), each.visits.value, each.share.value) for each in report.paths],
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
            own: list[Kind] = [row[1]] * (len(kinds) - 3)  # type: ignore[list-item]  # the row's Kind
            kinds[2:-1] = own
        found.append([shown(cell, kind, zone) for cell, kind in zip(row, kinds, strict=True)])
    return found


def write_csv(folder: Path, report: Report) -> list[Path]:
    """Write each table to a file of its name, as `csv_text` has it."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for sheet in sheets(report):
        written.append(folder / f"{sheet.name}.csv")
        write_text(written[-1], csv_text(sheet, report.time_zone))
    return written


def csv_text(sheet: Sheet, time_zone: str) -> str:
    """A table as CSV; times by the clock of that zone with their distance from UTC, durations in seconds."""
    text, zone = io.StringIO(), ZoneInfo(time_zone)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(sheet.columns)
    for row in sheet.rows:
        writer.writerow([cell.astimezone(zone).isoformat() if isinstance(cell, datetime) else cell for cell in row])
    return text.getvalue()


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
    return f"Nothing was seen in this period, and no camera was off. The store knows of {start} to {end}."


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
    """Write the page to a file."""
    write_text(path, page_text(report))


def page_text(report: Report) -> str:
    """One HTML page with all tables and three charts: no script, nothing from elsewhere, fit to be printed."""
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
                parts += [f'<p class="soft">{html.escape(note)}</p>' for note in (NOT_ADDED, *report.notes)]
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return page + "\n".join(parts) + "</html>\n"


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
