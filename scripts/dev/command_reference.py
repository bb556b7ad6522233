"""Write docs/cli.md from what the commands themselves say."""

import os
import re
from pathlib import Path

os.environ |= {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}

from typer.main import get_command
from typer.testing import CliRunner  # its width is read at import

from passerby.__main__ import app


def text() -> str:
    """The whole page."""

    def help_of(*command: str) -> str:
        printed = CliRunner().invoke(app, [*command, "--help"], prog_name="passerby", env={"COLUMNS": "100"}).stdout
        return "\n".join(line.rstrip() for line in printed.strip().splitlines())

    every: list[tuple[str, ...]] = [()]
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]  # of a group, as ours is
        every += [(name,), *((name, part) for part in getattr(command, "commands", ()))]
    parts = ["# Command line", "", "Written by `python scripts/dev/command_reference.py`.", ""]
    for words in every:
        parts += [f"## passerby {' '.join(words)}".rstrip(), "", "```text", help_of(*words), "```", ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


if __name__ == "__main__":
    page = Path(__file__).parents[2] / "docs" / "cli.md"
    page.write_text(text())
    print(f"wrote {page.name}")
