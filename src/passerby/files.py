"""Files written whole or not at all, and hashes of files and of settings; nothing here knows what is inside."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

CHUNK = 2**20


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Give a draft to write beside `path`, which takes its place when the block ends, and is deleted if it fails.

    Two writers at once each have a draft of their own; the last one to end stays. A failing block leaves what was at
    `path` as it was. The folder must exist. A device or a pipe is written to as it is.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with whole(folder / "note.txt") as draft:
    ...     _ = draft.write_text("complete")
    >>> (folder / "note.txt").read_text(), len(list(folder.iterdir()))
    ('complete', 1)
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # /dev/stdout: nothing takes its place
        yield path
        return
    if not path.parent.is_dir():  # so that the error names the file, not its draft
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    draft = path.with_name(f".{path.stem}.{uuid4().hex[:12]}.part{path.suffix}")  # its suffix tells writers the format
    try:
        yield draft
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes, whole or not at all."""
    with whole(path) as draft:
        draft.write_bytes(content)


def write_json(path: str | Path, value: Any) -> None:  # Any: JSON
    """Write JSON with a line a value, whole or not at all; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def file_hash(*paths: Path) -> str:
    """SHA-256 over the content of files, one after the other, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def settings_hash(settings: Any) -> str:  # Any: JSON, or what `str` makes of it
    """SHA-256 of settings in an order of their own, so that equal settings have one hash on every machine."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
