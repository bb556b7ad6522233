"""The command line, made of `commands/`, and its errors in one line each."""

import sys
from typing import Annotated, NoReturn

import typer

from passerby.commands import access, learn, reid, service, simulate, site, vision
from passerby.commands.options import err, out
from passerby.types import PasserbyError

app = typer.Typer(
    name="passerby",
    help="Tell people apart across cameras without knowing who they are.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
for group in (reid.app, learn.app, simulate.app, vision.app, site.app, service.app, access.app):
    app.add_typer(group)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        out.print(f"passerby {version('passerby')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Exit codes: 0 it worked; 1 an error that the message explains; 2 the command was called wrongly."""


def main() -> NoReturn:
    """Run the command line; one line for an error that the user can mend, a traceback with --debug."""
    try:
        app()
    except PasserbyError as error:
        if "--debug" in sys.argv:
            raise
        err.print(f"Error: {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # a folder that is not there, a full disk, a file that may not be read
        if "--debug" in sys.argv:
            raise
        where = f"{error.filename}: " if error.filename else ""
        err.print(f"Error: {where}{error.strerror or error}", highlight=False, soft_wrap=True)
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    main()
