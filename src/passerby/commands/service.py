"""Commands for a site that is kept: serve, import-visits, import-counts, import-pos, report, audit, backup, restore."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from passerby.commands.access import audit
from passerby.commands.options import STORE_HELP, Threads, err, out, room_of
from passerby.types import PasserbyError

app = typer.Typer()

StoreOption = Annotated[str, typer.Option("--store", help="The store: " + STORE_HELP)]
EachOption = Annotated[
    int, typer.Option("--minutes", min=1, max=7 * 24 * 60, help="How long each count lasts, from its time on.")
]
SiteOption = Annotated[Path, typer.Option("--site", help="The site's TOML file.")]


def _say(line: str) -> None:
    err.print(line, soft_wrap=True)


@app.command("import-visits")
def import_visits(
    folder: Annotated[Path, typer.Argument(help="A folder that `passerby follow` wrote.")],
    site: SiteOption,
    store: StoreOption,
    before: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="Move each day to the same weekday before this one; for made-up weeks."
        ),
    ] = None,
) -> None:
    """Take what `passerby follow` wrote into a store; what is there already is not taken twice."""
    from passerby.site import load_site

    found_site = load_site(site)
    room = room_of("passerby.service.store")
    importing = room_of("passerby.service.folder")
    with room.Store(store, tell=_say) as opened:
        written = importing.import_folder(folder, opened, found_site, before=before and before.date())
        room_of("passerby.service.rollups").refresh(opened, found_site, now=datetime.now(UTC), tell=_say)
    counts = ", ".join(f"{count} {name}" for name, count in written._asdict().items())
    out.print(f"{store}: {counts} were new" if any(written) else f"{store}: all of it was there", soft_wrap=True)


@app.command("import-counts")
def import_counts(
    file: Annotated[
        Path,
        typer.Argument(help="A CSV file: a column of times, then line, in and out, or a column for each line."),
    ],
    site: SiteOption,
    store: StoreOption,
    minutes: EachOption = 60,
) -> None:
    """Take counts at lines, by the hour and without people, into a store; docs/metrics.md says what is made of them."""
    counting, kept = room_of("passerby.service.counts"), room_of("passerby.service.kept")
    _import(file, site, store, minutes, counting.read_counts, kept.put_counts, "line")


@app.command("import-pos")
def import_pos(
    file: Annotated[Path, typer.Argument(help="A CSV file with the columns time, sales and, for several tills, till.")],
    site: SiteOption,
    store: StoreOption,
    minutes: EachOption = 60,
) -> None:
    """Take the number of sales that tills counted into a store; the report sets them beside visits."""
    counting, kept = room_of("passerby.service.counts"), room_of("passerby.service.kept")
    _import(file, site, store, minutes, counting.read_sales, kept.put_sales, "till")


def _import(file: Path, site: Path, store: str, minutes: int, read: Any, put: Any, place: str) -> None:
    """Read a file with `read` and keep it with `put`, and say how much of it was new; counts are of places: lines, tills."""
    from zoneinfo import ZoneInfo

    from passerby.site import load_site

    found_site = load_site(site)
    counts, notes = read(file, ZoneInfo(found_site.time_zone), length=timedelta(minutes=minutes))
    with room_of("passerby.service.store").Store(store, tell=_say) as opened:
        opened.put_site(found_site)
        new = put(opened, found_site.name, counts)
    for note in notes:
        err.print(f"Note: {note}", soft_wrap=True)
    places = len({getattr(each, place) for each in counts})
    out.print(f"{store}: {len(counts)} counts of {places} {place}s, {new} of them new", soft_wrap=True)


@audit.command("add")
def audit_add(
    line: Annotated[str, typer.Argument(help="The line at which somebody counted.")],
    site: SiteOption,
    store: StoreOption,
    since: Annotated[str, typer.Option("--from", help="When the counting began, such as 2026-03-02T10:00.")],
    entries: Annotated[int, typer.Option("--in", min=0, help="How many went in.")],
    exits: Annotated[int, typer.Option("--out", min=0, help="How many went out.")],
    minutes: Annotated[int, typer.Option("--minutes", min=1, max=24 * 60, help="How long it lasted.")] = 15,
    by: Annotated[str, typer.Option("--by", help="Who counted.")] = "",
) -> None:
    """Keep what a person counted at a line, and say what the line counted meanwhile and how far it can be trusted."""
    from zoneinfo import ZoneInfo

    from passerby.site import load_site

    found_site = load_site(site)
    drawn = next((each for each in found_site.lines if each.name == line), None)
    if drawn is None:
        known = ", ".join(each.name for each in found_site.lines) or "none"
        raise PasserbyError(f"audit: the site has no line {line!r}; known: {known}")
    room, kept = room_of("passerby.service.audit"), room_of("passerby.service.kept")
    start = _time("--from", since, ZoneInfo(found_site.time_zone))
    made = kept.Audit(line, start, start + timedelta(minutes=minutes), entries, exits, room.place(drawn), by)
    with room_of("passerby.service.store").Store(store, tell=_say) as opened:
        opened.put_site(found_site)
        kept.put_audits(opened, found_site.name, [made])
        (counted,) = (each for each in kept.audited(opened, found_site.name) if each.audit == made)
        trust = room.trusted(opened, found_site)[line]
    out.print(
        f"{line}: {entries} in and {exits} out were counted, {counted.entries} and {counted.exits} by the line; "
        f"it is {trust.state}",
        soft_wrap=True,
    )
    for what, factor in (("in", trust.entries), ("out", trust.exits)):
        found = factor.interval
        out.print(f"What it counts {what} is multiplied by {found.value:.3f} ({found.low:.3f} to {found.high:.3f}).")


def _provider(path: Path) -> Any:  # a Provider
    return room_of("passerby.service.oidc").open_provider(path)


@app.command()
def serve(
    site: Annotated[Path, typer.Argument(help="A site's TOML file (docs/follow.md); `passerby init` writes one.")],
    store: Annotated[
        str | None,
        typer.Option("--store", help="The store: " + STORE_HELP + " By default NAME.sqlite beside the site's file."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address that is listened at; 0.0.0.0 for all of this machine.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port that is listened at; 0 for any that is free.")
    ] = 8080,
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", help="A certificate with its chain, as PEM: speak HTTPS. Needs --tls-key."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", help="The certificate's key, as PEM, without a password.")
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            help="The address or network of a proxy whose X-Forwarded-For and -Proto are believed; nobody's by default.",
        ),
    ] = None,
    oidc: Annotated[
        Path | None, typer.Option("--oidc", help="A TOML file: let users log in at a provider, too (docs/access.md).")
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Recordings: play them again and again.")] = False,
    threads: Threads = None,
) -> None:
    """Follow a site's cameras live, keep what is found, and answer over HTTP, until Ctrl-C or SIGTERM.

    Recordings are played as if they were live cameras.
    """
    from passerby.site import load_site

    if (tls_cert is None) != (tls_key is None):
        raise PasserbyError("serve: expected --tls-cert and --tls-key together, got one of them")
    found_site = load_site(site)
    room_of("passerby.vision.worker")
    run = room_of("passerby.service.run")
    run.serve(
        found_site,
        store or str(site.with_suffix(".sqlite")),
        host=host,
        port=port,
        tls=(tls_cert, tls_key) if tls_cert and tls_key else None,
        trusted_proxies=trusted_proxy or (),
        provider=None if oidc is None else _provider(oidc),
        loop=loop,
        threads=threads,
        tell=_say,
    )


@app.command()
def report(
    site: SiteOption,
    store: StoreOption,
    since: Annotated[
        str | None,
        typer.Option(
            "--from", help="A day such as 2026-03-02, or a time such as 2026-03-02T09:30, by the site's clock."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="The last day, which is taken in whole, or a time before which it ends.")
    ] = None,
    by: Annotated[
        Literal["hour", "day"] | None, typer.Option(help="By default hours of one day, days of more.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write each table as CSV into this folder.")] = None,
    page: Annotated[Path | None, typer.Option("--html", help="Also write a page that can be printed.")] = None,
) -> None:
    """Print a site's footfall, visits, dwell, ways, queues and gaps; docs/metrics.md says what each figure means.

    By default from the first day that is known to the last one.
    """
    from zoneinfo import ZoneInfo

    from passerby.site import load_site

    found_site = load_site(site)
    zone = ZoneInfo(found_site.time_zone)
    room, analytics = room_of("passerby.service.report"), room_of("passerby.service.analytics")
    now = datetime.now(UTC)
    with room_of("passerby.service.store").StoreReader(store, tell=_say) as opened:
        first, last = opened.span(found_site.name) or (now, now)
        start = _time("--from", since, zone) if since else analytics.midnight(first.astimezone(zone).date(), zone)
        end = _time("--to", until or f"{last.astimezone(zone):%Y-%m-%d}", zone, whole_day=True)
        if not start < end:
            raise PasserbyError(f"report: expected --from before --to, got {start.isoformat()} and {end.isoformat()}")
        period = analytics.Period(start, end)
        parts = (
            analytics.hours
            if (by or ("hour" if end - start <= timedelta(hours=25) else "day")) == "hour"
            else analytics.days
        )
        found = room.report_of(opened, found_site, period, parts=parts, now=now)
    if csv is not None:
        for path in room.write_csv(csv, found):
            err.print(f"wrote {path}", soft_wrap=True)
    if page is not None:
        room.write_page(page, found)
        err.print(f"wrote {page}", soft_wrap=True)
    out.print(room.headline(found), soft_wrap=True)
    if found.empty:
        out.print(room.nothing(found), soft_wrap=True)
        return
    for sheet in room.sheets(found):
        _print(sheet, room.table(sheet, found.time_zone))
    out.print(room.compared(found), soft_wrap=True)
    for note in (room.NOT_ADDED, *found.notes):
        out.print(note, soft_wrap=True)


def _print(sheet: Any, rows: Any) -> None:  # a Sheet, and its rows as text
    table = Table(title=sheet.title)
    shown = [(place, name, kind) for place, (name, kind) in enumerate(sheet.columns.items()) if name != "kind"]
    for _, name, kind in shown:
        table.add_column(name, justify="left" if kind in ("text", "time") else "right")
    for row in rows:
        table.add_row(*(row[place] for place, _, _ in shown))
    out.print(table)


def _time(option: str, said: str, zone: Any, *, whole_day: bool = False) -> Any:  # a ZoneInfo; a datetime
    """A day or a time by the site's clock, in UTC; with `whole_day` a day's end."""
    try:
        found = datetime.fromisoformat(said)
    except ValueError:
        raise PasserbyError(f"{option}: expected 2026-03-02 or 2026-03-02T09:30, got {said!r}") from None
    if whole_day and len(said) == len("2026-03-02"):
        found += timedelta(days=1)
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


@app.command()
def backup(
    store: Annotated[str, typer.Argument(help="The store's file.")],
    file: Annotated[Path, typer.Argument(help="The file to write.")],
) -> None:
    """Write a copy of a store as it is at one moment, while others may write to it."""
    with room_of("passerby.service.store").StoreReader(store, tell=_say) as opened:
        opened.backup(file)
    out.print(f"{file}: a copy of {store}, {file.stat().st_size / 1e6:.1f} MB", soft_wrap=True)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `passerby backup` wrote.")],
    store: Annotated[str, typer.Argument(help="The store's file.")],
) -> None:
    """Take a backup in place of a store's content, which is kept beside it; others may read meanwhile."""
    with room_of("passerby.service.store").Store(store, tell=_say) as opened:
        kept = opened.restore(file)
    out.print(f"{store}: has the content of {file}; what was there before is in {kept}", soft_wrap=True)
