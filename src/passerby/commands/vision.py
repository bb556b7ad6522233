"""Commands around detectors of others: models."""

from typing import Annotated, Literal

import typer
from rich.table import Table

from passerby.commands.options import bar, out, room_of
from passerby.types import PasserbyError

app = typer.Typer()


@app.command()
def models(
    action: Annotated[
        Literal["list", "fetch", "verify"],
        typer.Argument(
            help="list: what there is; fetch: download, or go on with it; verify: check files by their SHA-256."
        ),
    ] = "list",
    name: Annotated[str | None, typer.Argument(help="A detector of the list; for verify all that are there.")] = None,
) -> None:
    """List, fetch and verify detectors of others, which may be used in place of the bundled one."""
    catalogue, detect = room_of("passerby.vision.catalogue"), room_of("passerby.vision.detect")
    if action == "list":
        table = Table("name", "kept", "MB", "licence", "made by")
        for entry in catalogue.CATALOGUE:
            size = sum(part.size for part in entry.parts) / 1e6
            table.add_row(entry.name, catalogue.state(entry), f"{size:.1f}", entry.licence, entry.origin)
        out.print(table)
        return
    if action == "fetch":
        if name is None:
            raise PasserbyError("models fetch: which one? `passerby models list` names them")
        entry = catalogue.entry_named(name)
        with bar(f"fetching {name}") as progress:
            catalogue.fetch(entry, progress=progress)
    chosen = (
        [catalogue.entry_named(name)] if name else [e for e in catalogue.CATALOGUE if catalogue.state(e) != "absent"]
    )
    if not chosen:
        raise PasserbyError("models verify: nothing was fetched yet; `passerby models fetch NAME` does")
    for entry in chosen:
        path = catalogue.verify(entry)
        out.print(f"{path}: {detect.open_detector(path).understood}", soft_wrap=True)
