"""What all readers share: a release's parts, its files and texts, and the sentences about what does not fit."""

import codecs
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from passerby.reid.splits import Pictures, some
from passerby.types import DatasetError, Picture, Protocol

Boxes = Literal["detected", "labelled"]
Cuhk03Protocol = Literal["split.json", "new", "classic"]
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"})


@dataclass(frozen=True, slots=True)
class Release:
    """A data set as its authors released it; `dev_*` where they released a validation part too.

    `layout` says in words how the names were understood, where that is not fixed by the kind.
    """

    train: Pictures
    query: Pictures
    gallery: Pictures
    protocol: Protocol
    dev_query: Pictures = ()
    dev_gallery: Pictures = ()
    notes: tuple[str, ...] = ()
    layout: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """What a reader is told beside the path: `scope` begins every id, `name` is the user's own, where there is one."""

    scope: str
    name: str | None = None
    pattern: str | None = None
    boxes: Boxes = "detected"
    cuhk03_protocol: Cuhk03Protocol | None = None
    cuhk03_split: int = 0
    cache: Path | None = None


def is_system_file(path: Path) -> bool:
    """Whether a file or folder is an operating system's own and no part of a data set: `Thumbs.db`, `.DS_Store`."""
    return path.name.startswith(".") or path.name.lower() in SYSTEM_FILES


def picture_files(folder: Path, *, holds: str, deep: bool = False) -> list[Path]:
    """The files of a folder, sorted, without the system's own."""
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
        if not any(is_system_file(Path(part)) for part in entry.relative_to(folder).parts)
        and not (deep and entry.is_dir())
    ]
    if not files:
        raise DatasetError(f"{folder}: expected {holds}, found an empty folder; was the archive unpacked in full?")
    return files


def stem_of(path: Path) -> str | None:
    """A picture's name without its suffix (both of `a.jpg.jpg`), of either case; None for what is no picture."""
    name = path.name
    while (suffix := Path(name).suffix.lower()) in PICTURE_SUFFIXES:
        name = name[: -len(suffix)]
    return name if name != path.name else None


def match_all(files: Sequence[Path], pattern: re.Pattern[str], *, expected: str) -> list[tuple[Path, re.Match[str]]]:
    """Each file with the match of its whole name, less the suffix; a file that does not match is an error."""
    matched = [(path, pattern.fullmatch(stem_of(path) or "")) for path in files]
    strangers = [path.name for path, match in matched if match is None]
    if strangers:
        raise DatasetError(
            f"{files[0].parent}: expected {expected}, found {len(strangers)} of {len(files)} otherwise named: "
            f"{some(strangers)}; move them out, or read the folder as folder:PATH with a pattern"
        )
    return [(path, match) for path, match in matched if match is not None]


def read_text(path: Path) -> str:
    """The text of a list or manifest: UTF-8, or UTF-16 that says so by its first bytes; line ends as they are.

    Raises DatasetError for any other encoding, since what a byte means there is a guess.
    """
    content = path.read_bytes()
    marks = {
        codecs.BOM_UTF8: "utf-8-sig",
        codecs.BOM_UTF32_LE: "utf-32",  # begins as UTF-16's does
        codecs.BOM_UTF16_LE: "utf-16",
        codecs.BOM_UTF16_BE: "utf-16",
    }
    encoding = next((encoding for mark, encoding in marks.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"{path}, line {line}: expected text in UTF-8, found the byte 0x{content[error.start]:02x}, which is none; "
            "save it as UTF-8 (in Excel: CSV UTF-8)"
        ) from None
    if "\0" in text:
        raise DatasetError(
            f"{path}: expected text in UTF-8, found bytes of zero, as UTF-16 without its mark has; save it as UTF-8"
        )
    return text


def counted(pictures: Iterable[Picture]) -> tuple[int, int]:
    """How many pictures, and of how many ids."""
    counted = list(pictures)
    return len(counted), len({picture.person for picture in counted})


def in_words(pictures: Iterable[Picture]) -> str:
    """What some pictures are, as a reader says it: "12 people, 3 cameras, 96 pictures"."""
    every = dict.fromkeys(pictures)
    people = {p.person for p in every if p.role == "person"}
    words = numbers_in_words(len(people), len({p.camera for p in every} - {None}), len(every))
    unknown = sum(p.camera is None for p in every)
    notes = [f"{unknown:,} of them without a camera"] if 0 < unknown < len(every) else []
    for role, plural in (("distractor", "distractors"), ("junk", "junk")):
        if number := sum(p.role == role for p in every):
            notes.append(f"{number:,} of them {plural}")
    return ", ".join((words, *notes))


def numbers_in_words(people: int, cameras: int, pictures: int) -> str:
    """ "12 people, 3 cameras, 96 pictures", in the singular where there is one."""
    return ", ".join(
        (
            f"{people:,} {'person' if people == 1 else 'people'}",
            f"{cameras:,} camera{'s' * (cameras != 1)}" if cameras else "no cameras",
            f"{pictures:,} picture{'s' * (pictures != 1)}",
        )
    )


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
