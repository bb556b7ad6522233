"""CSV manifests, and splits saved as such."""

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast, get_args

from passerby.files import write_text
from passerby.reid.readers.release import Options, Release, all_pairs_protocol, read_text
from passerby.reid.splits import PersonSplit, Pictures, some
from passerby.types import Dataset, DatasetError, Picture, Role


def save_split(split: PersonSplit, path: Path) -> None:
    """Write a split as a CSV manifest whose first line holds its SHA-256; paths are relative to the manifest's folder.

    The file is also a data set: `read_dataset("csv", path)`.
    """
    folder = path.resolve().parent
    text = io.StringIO()
    text.write(f"# passerby split 1, sha256 {split.sha256}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(MANIFEST_COLUMNS)
    parts = {
        "train": split.train,
        "dev-query": split.dev.query,
        "dev-gallery": split.dev.gallery,
        "query": split.test.query,
        "gallery": split.test.gallery,
    }
    for part, pictures in parts.items():
        for p in pictures:
            relative = Path(os.path.relpath(p.path.resolve(), folder)).as_posix()
            time = "" if p.seen_at is None else p.seen_at.isoformat()
            frame = "" if p.frame is None else p.frame
            writer.writerow([relative, p.person, p.camera or "", part, time, p.role, p.sequence or "", frame])
    write_text(path, text.getvalue())


def load_split(path: Path) -> PersonSplit:
    """Read a manifest that `save_split` wrote; raises DatasetError when it was changed or pictures are missing."""
    release, sha256 = _read_manifest(path, Options(path.stem))
    if sha256 is None:
        raise DatasetError(
            f"{path}: expected a first line '# passerby split 1, sha256 ...'; was it written by save_split?"
        )
    return _manifest_split(path, release)


MANIFEST_COLUMNS = ("path", "person", "camera", "split", "time", "role", "sequence", "frame")
MANIFEST_SPLITS = ("train", "dev", "dev-query", "dev-gallery", "test", "query", "gallery")


def read_csv(path: Path, options: Options) -> Release:
    return _read_manifest(path, options)[0]


def _manifest_split(path: Path, release: Release) -> PersonSplit:
    dev = Dataset(f"{path.stem}/dev", (), release.dev_query, release.dev_gallery, release.protocol)
    return PersonSplit(
        path.stem,
        release.train,
        dev,
        Dataset(f"{path.stem}/test", (), release.query, release.gallery, release.protocol),
    )


def _read_manifest(path: Path, options: Options) -> tuple[Release, str | None]:
    if not path.is_file():
        raise DatasetError(f"{path}: expected a CSV manifest with the columns path,person,camera, found no such file")
    text = read_text(path)
    header = re.match(r"# passerby split 1, sha256 ([0-9a-f]{64})\r?\n", text)
    rows = csv.DictReader(io.StringIO(text[header.end() :] if header else text, newline=""))
    scope = "" if header else f"{options.scope}:"
    parts: dict[str, list[Picture]] = {part: [] for part in MANIFEST_SPLITS}
    try:
        _check_columns(rows.fieldnames or [], path)
        for row in rows:
            where = f"{path}, line {rows.line_num + bool(header)}"
            part, picture = _manifest_row(row, folder=path.resolve().parent, scope=scope, where=where)
            parts[part].append(picture)
    except csv.Error as error:
        raise DatasetError(f"{path}, line {rows.line_num + bool(header)}: not CSV: {error}") from None
    missing = [str(p.path) for pictures in parts.values() for p in pictures if not p.path.is_file()]
    if missing:
        raise DatasetError(
            f"{path}: {len(missing)} pictures do not exist: {some(missing)}; "
            "paths are relative to the manifest's folder"
        )
    for whole, query, gallery in (("test", "query", "gallery"), ("dev", "dev-query", "dev-gallery")):
        if parts[whole] and (parts[query] or parts[gallery]):
            raise DatasetError(
                f"{path}: split {whole!r} means query and gallery at once; expected it alone, "
                f"got {query} or {gallery} too"
            )
    read = {part: tuple(pictures) for part, pictures in parts.items()}
    every = read["test"] or read["dev"]
    release = Release(
        train=read["train"],
        query=read["test"] or read["query"],
        gallery=read["test"] or read["gallery"],
        protocol=all_pairs_protocol(every) if every else "market1501",
        dev_query=read["dev"] or read["dev-query"],
        dev_gallery=read["dev"] or read["dev-gallery"],
    )
    if header is None:
        return release, None
    found = _manifest_split(path, release).sha256
    if found != header[1]:
        raise DatasetError(
            f"{path}: expected a split with SHA-256 {header[1]}, got {found}; the file was changed after it was saved"
        )
    return release if options.name is None else _renamed(release, options.name), found


def _renamed(release: Release, name: str) -> Release:
    """A saved split under the user's own name; what its sets are stays in their ids (`terms_of`)."""

    def renamed(pictures: Pictures) -> Pictures:
        return tuple(
            replace(p, person=f"{name}={p.person}", camera=f"{name}={p.camera}" if p.camera else None) for p in pictures
        )

    return replace(
        release,
        train=renamed(release.train),
        query=renamed(release.query),
        gallery=renamed(release.gallery),
        dev_query=renamed(release.dev_query),
        dev_gallery=renamed(release.dev_gallery),
    )


def _check_columns(columns: Sequence[str], path: Path) -> None:
    unknown = [column for column in columns if column not in MANIFEST_COLUMNS]
    if not {"path", "person", "camera"} <= set(columns) or unknown or len(set(columns)) < len(columns):
        hint = "; are the columns separated by commas?" if len(columns) == 1 else ""
        raise DatasetError(
            f"{path}: expected the columns path,person,camera and optionally {','.join(MANIFEST_COLUMNS[3:])}, each once, "
            f"got {','.join(columns)}{hint}"
        )


def _manifest_row(row: dict[str, str | Any], *, folder: Path, scope: str, where: str) -> tuple[str, Picture]:
    # Any: csv gives None for a short row and a list under the key None for a long one.
    if None in row or None in row.values() or not row["path"] or not row["person"]:
        raise DatasetError(
            f"{where}: expected a value for path and person and one for every column, got {list(row.values())}"
        )
    part, role = row.get("split") or "test", row.get("role") or "person"
    for column, value, allowed in (("split", part, MANIFEST_SPLITS), ("role", role, get_args(Role))):
        if value not in allowed:
            raise DatasetError(f"{where}: expected a {column} of {', '.join(allowed)}, got {value!r}")
    try:
        seen_at = datetime.fromisoformat(row["time"]) if row.get("time") else None
        frame = int(row["frame"]) if row.get("frame") else None
        picture = Picture(
            Path(os.path.normpath(folder / row["path"])),
            scope + row["person"],
            scope + row["camera"] if row["camera"] else None,
            role=cast(Role, role),  # checked above
            sequence=row.get("sequence") or None,
            frame=frame,
            seen_at=seen_at,
        )
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error
    return part, picture
