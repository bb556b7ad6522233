"""Commands for who may see what, and for what must be forgotten: users, keys, erase, audit, privacy."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from passerby.commands.options import STORE_HELP, err, out, room_of
from passerby.types import PasserbyError

app = typer.Typer()
users = typer.Typer(no_args_is_help=True, help="Who may log in, with which role.")
keys = typer.Typer(no_args_is_help=True, help="API keys; each is shown once, when it is made.")
audit = typer.Typer(no_args_is_help=True, help="What was seen and changed, and whether that record is whole.")
privacy = typer.Typer(no_args_is_help=True, help="What the law asks to be written.")
for name, group in (("users", users), ("keys", keys), ("audit", audit), ("privacy", privacy)):
    app.add_typer(group, name=name)

StoreOption = Annotated[str, typer.Option("--store", help="The store: " + STORE_HELP)]
RoleOption = Annotated[
    Literal["administrator", "manager", "analyst", "operator", "privacy officer", "auditor"],
    typer.Option("--role", help="What they may do; docs/access.md has the table."),
]
SitesOption = Annotated[
    list[str] | None, typer.Option("--at", help="A site's name; may be repeated. Without it: all sites of the store.")
]


def _say(line: str) -> None:
    err.print(line, soft_wrap=True)


def _desk(store: str) -> Any:  # a Desk
    return room_of("passerby.service.store").Desk(store, tell=_say)


def _accounts() -> Any:  # a module
    return room_of("passerby.service.accounts")


def _record(opened: Any, action: str, **detail: Any) -> None:  # a Desk; JSON
    import getpass

    who, now = getpass.getuser(), datetime.now(UTC)
    _accounts().record(opened, who=who, kind="command", action=action, detail=detail, now=now)


def _sites(sites: Any) -> str:  # names, or None
    return "all" if sites is None else ", ".join(sorted(sites)) or "none"


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M} UTC"


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column)
    return table


@users.command("list")
def list_users(store: StoreOption) -> None:
    """Print the users with their roles."""
    table = _table("name", "role", "sites", "since")
    with room_of("passerby.service.store").StoreReader(store, tell=_say) as opened:
        for user in _accounts().users(opened):
            table.add_row(user.name, user.role, _sites(user.sites), _time(user.created))
    out.print(table)


@users.command()
def invite(
    name: Annotated[str, typer.Argument(help="The name to log in with; one that is there gets a new password.")],
    store: StoreOption,
    role: RoleOption,
    at: SitesOption = None,
) -> None:
    """Print a one-time link with which somebody chooses a password, within a day."""
    with _desk(store) as opened:
        link = _accounts().invite(opened, name, role=role, sites=at, now=datetime.now(UTC))
        _record(opened, "user invited", user=name, role=role, sites=at)
    out.print(f"/first?link={link}", soft_wrap=True)
    err.print(f"Put the service's address before it, and give it to {name}. It works once.", soft_wrap=True)


@users.command("change")
def change_user(
    name: Annotated[str, typer.Argument(help="The user's name.")],
    store: StoreOption,
    role: RoleOption,
    at: SitesOption = None,
) -> None:
    """Give a user another role, or other sites, at once."""
    with _desk(store) as opened:
        _accounts().change_user(opened, name, role=role, sites=at)
        _record(opened, "user changed", user=name, role=role, sites=at)
    out.print(f"{name}: {role}, sites: {_sites(at)}", soft_wrap=True)


@users.command("link")
def link_user(
    name: Annotated[str, typer.Argument(help="The user's name.")],
    store: StoreOption,
    oidc: Annotated[Path, typer.Option("--oidc", help="The provider's TOML file, as `serve --oidc` has it.")],
    subject: Annotated[
        str, typer.Option(help="Who they are there (`sub`); the audit log has it of who tried to log in.")
    ],
) -> None:
    """Let a user log in at a provider, too."""
    room = room_of("passerby.service.oidc")
    known_as = room.open_provider(oidc).subject(subject)
    with _desk(store) as opened:
        _accounts().link(opened, name, known_as)
        _record(opened, "user linked", user=name, subject=known_as)
    out.print(f"{name}: {known_as}", soft_wrap=True)


@users.command("remove")
def remove_user(name: Annotated[str, typer.Argument(help="The user's name.")], store: StoreOption) -> None:
    """Remove a user, whose sessions end at once."""
    with _desk(store) as opened:
        _accounts().remove_user(opened, name)
        _record(opened, "user removed", user=name)
    out.print(f"{name}: removed", soft_wrap=True)


@keys.command("list")
def list_keys(store: StoreOption) -> None:
    """Print the keys, without their secrets."""
    table = _table("name", "begins with", "role", "sites", "made", "ends", "used")
    with room_of("passerby.service.store").StoreReader(store, tell=_say) as opened:
        for key in _accounts().keys(opened):
            times = map(_time, (key.created, key.ends, key.used))
            table.add_row(key.name, f"pb_{key.id}", key.role, _sites(key.sites), *times)
    out.print(table)


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    store: StoreOption,
    role: RoleOption,
    at: SitesOption = None,
    days: Annotated[int | None, typer.Option(min=1, help="How long it works; for ever without it.")] = None,
) -> None:
    """Make an API key and print it, this once."""
    now = datetime.now(UTC)
    ends = None if days is None else now + timedelta(days=days)
    with _desk(store) as opened:
        secret = _accounts().add_key(opened, name, role=role, sites=at, now=now, ends=ends)
        _record(opened, "key made", key=name, role=role, sites=at)
    out.print(secret, soft_wrap=True)
    err.print("It is shown this once; send it as `Authorization: Bearer pb_...`.", soft_wrap=True)


@keys.command()
def revoke(name: Annotated[str, typer.Argument(help="The key's name.")], store: StoreOption) -> None:
    """Revoke a key: it opens nothing from now on."""
    with _desk(store) as opened:
        _accounts().revoke_key(opened, name)
        _record(opened, "key revoked", key=name)
    out.print(f"{name}: revoked", soft_wrap=True)


@app.command()
def erase(
    visit: Annotated[str, typer.Argument(help="The visit's name, as reports and exports have it.")],
    site: Annotated[Path, typer.Option("--site", help="The site's TOML file.")],
    store: StoreOption,
    vault: Annotated[
        Path | None, typer.Option("--vault", help="The vault's folder; STORE.vault where there is one.")
    ] = None,
) -> None:
    """Erase one visit: its rows, path, stays, links and keys, in the store and its backups. Counts stay as they were."""
    import getpass

    from passerby.site import load_site

    found = load_site(site)
    folder = vault or Path(f"{store}.vault")
    if vault is not None and not folder.is_dir():
        raise PasserbyError(f"{folder}: there is no such folder; leave --vault out where the site has none")
    with room_of("passerby.service.store").Store(store, tell=_say) as opened:
        room = room_of("passerby.service.privacy")
        kept = room_of("passerby.service.vault").Vault(folder) if folder.is_dir() else None
        who, now = getpass.getuser(), datetime.now(UTC)
        gone = room.erase(opened, found.name, visit, who=who, kind="command", now=now, vault=kept)
    out.print(
        f"{visit}: erased ({len(gone.visits)} visits, {len(gone.sightings)} sightings, {len(gone.copies)} backups cleaned)",
        soft_wrap=True,
    )
    for copy in gone.missing:
        err.print(f"Note: {copy} is no longer there; a restore from it erases the visit again.", soft_wrap=True)
    if gone.others:
        err.print(f"Note: the same person also made: {', '.join(gone.others)}", soft_wrap=True)


@audit.command("list")
def list_audit(
    store: StoreOption,
    rows: Annotated[int, typer.Option(min=1, max=10000, help="How many of the newest rows.")] = 50,
) -> None:
    """Print the newest rows of the audit log."""
    table = _table("row", "time", "who", "what", "site", "more")
    with room_of("passerby.service.store").StoreReader(store, tell=_say) as opened:
        for row in _accounts().log(opened, limit=rows):
            table.add_row(
                str(row.number), _time(row.at), f"{row.who} ({row.kind})", row.action, row.site or "", row.detail
            )
    out.print(table)


@audit.command()
def verify(
    store: StoreOption,
    noted: Annotated[
        list[str] | None, typer.Option("--noted", help="ROW:HASH as an earlier run printed it; may be repeated.")
    ] = None,
) -> None:
    """Check that no row of the audit log was changed, taken out or put in; exit code 1 and the very row if one was."""
    room = _accounts()
    with room_of("passerby.service.store").StoreReader(store, tell=_say) as opened:
        wrong, number, newest = room.verify(opened)
        for each in noted or ():
            row, _, expected = each.partition(":")
            if not row.isdigit() or not expected:
                raise PasserbyError(f"--noted: expected ROW:HASH, got {each!r}")
            if room.hash_of(opened, int(row)) != expected:
                wrong.append(f"row {row}: not the one that was noted")
    if wrong:
        raise PasserbyError(f"{store}: the audit log was tampered with: " + "; ".join(wrong))
    out.print(f"{store}: {number} rows, whole. To be noted elsewhere: {number}:{newest}", soft_wrap=True)


@privacy.command()
def documents(
    site: Annotated[Path, typer.Argument(help="The site's TOML file.")],
    folder: Annotated[Path, typer.Option("--out", help="The folder to write to.")],
    controller: Annotated[str | None, typer.Option(help="Who decides what the cameras are for.")] = None,
    contact: Annotated[str | None, typer.Option(help="How they are reached.")] = None,
) -> None:
    """Write the sign at the door, the record of processing and a skeleton of the impact assessment."""
    from passerby.files import write_text
    from passerby.site import load_site

    room = room_of("passerby.service.documents")
    given = {name: text for name, text in (("controller", controller), ("contact", contact)) if text}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in room.documents(load_site(site), **given).items():
        write_text(folder / name, text)
        out.print(f"wrote {folder / name}", soft_wrap=True)
