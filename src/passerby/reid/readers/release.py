"""What all readers share: a release's parts, its files, and the sentences about what does not fit."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from passerby.reid.splits import Pictures, some
from passerby.types import DatasetError, Picture, Protocol

Boxes = Literal["detected", "labelled"]
Cuhk03Protocol = Literal["split.json", "new", "classic"]
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
IGNORED_FILES = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True)
class Release:
    """A data set as its authors released it; `dev_*` where they released a validation part too."""

    train: Pictures
    query: Pictures
    gallery: Pictures
    protocol: Protocol
    dev_query: Pictures = ()
    dev_gallery: Pictures = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    pattern: str | None
    boxes: Boxes
    cuhk03_protocol: Cuhk03Protocol | None
    cuhk03_split: int
    cache: Path | None


def scope_of(root: Path) -> str:
    return root.resolve().stem or "folder"


# Readers, one a kind.


def picture_files(folder: Path, *, holds: str, deep: bool = False) -> list[Path]:
    """The files of a folder, sorted; system files and names that start with a dot are not part of a data set."""
    if not folder.is_dir():
        around = sorted(entry.name for entry in folder.parent.iterdir())[:8] if folder.parent.is_dir() else None
        found = (
            f"{folder.parent} holds {', '.join(around) or 'nothing'}"
            if around is not None
            else f"there is no {folder.parent} either"
        )
        raise DatasetError(
            f"{folder}: expected a folder with {holds}, found none; {found}. Is the path the data set's root?"
        )
    entries = sorted(folder.rglob("*") if deep else folder.iterdir())
    files = [
        entry
        for entry in entries
        if entry.name.lower() not in IGNORED_FILES
        and not any(part.startswith(".") for part in entry.relative_to(folder).parts)
        and not (deep and entry.is_dir())
    ]
    if not files:
        raise DatasetError(f"{folder}: expected {holds}, found an empty folder; was the archive unpacked in full?")
    return files


def match_all(files: Sequence[Path], pattern: re.Pattern[str], *, expected: str) -> list[tuple[Path, re.Match[str]]]:
    matched = [(path, pattern.fullmatch(path.name)) for path in files]
    strangers = [path.name for path, match in matched if match is None]
    if strangers:
        raise DatasetError(
            f"{files[0].parent}: expected {expected}, found {len(strangers)} of {len(files)} otherwise named: "
            f"{some(strangers)}; move them out, or read the folder as folder:PATH with a pattern"
        )
    return [(path, match) for path, match in matched if match is not None]


def counted(pictures: Iterable[Picture]) -> tuple[int, int]:
    counted = list(pictures)
    return len(counted), len({picture.person for picture in counted})


def differences(name: str, found: dict[str, tuple[int, int]], official: dict[str, tuple[int, int]]) -> tuple[str, ...]:
    return tuple(
        f"{name}: {part}: {found[part][0]:,} pictures of {found[part][1]:,} ids, "
        f"the release has {count[0]:,} of {count[1]:,}"
        for part, count in official.items()
        if found[part] != count
    )


def only_people(pictures: Pictures, folder: Path) -> Pictures:
    other = [picture.path.name for picture in pictures if picture.role != "person"]
    if other:
        raise DatasetError(
            f"{folder}: expected people only, found junk or distractors: {some(other)}; they belong in the gallery"
        )
    return pictures


def all_pairs_protocol(pictures: Pictures) -> Protocol:
    """Every picture against those of the other cameras; where a camera is not known, against all other pictures."""
    cameras = {picture.camera for picture in pictures}
    return "market1501" if None in cameras or len(cameras) < 2 else "cross-camera"
