"""Detectors of others, to be used in place of ours: where they lie, fetched and verified; none is part of passerby."""

import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Literal

from passerby.files import CHUNK, file_hash
from passerby.reid.engine import cache_folder
from passerby.types import ModelError

TIMEOUT_S = 30.0
APACHE = "Apache-2.0"
ZOO = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/2021.2/models_bin/1"
ZOO_0202 = "https://download.01.org/opencv/2021/openvinotoolkit/2021.2/open_model_zoo/models_bin/3"
GITHUB = "https://raw.githubusercontent.com/Kazuhito00"

State = Literal["absent", "partial", "whole", "damaged"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Part:
    """A file to fetch: its name, where it lies, how long it is and its SHA-256."""

    file: str
    url: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A detector that can be fetched; the first of its `parts` is the one to open. `origin` is who made it."""

    name: str
    origin: str
    licence: str
    parts: tuple[Part, ...]

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return cache_folder() / "detectors" / self.name

    @property
    def path(self) -> Path:
        """The file to open, once it is fetched."""
        return self.folder / self.parts[0].file


CATALOGUE = (
    Entry(
        "person-detection-0201",
        "Intel, Open Model Zoo",
        APACHE,
        (
            Part(
                "person-detection-0201.xml",
                f"{ZOO}/person-detection-0201/FP16/person-detection-0201.xml",
                187970,
                "95a266e66d6e920594f1a8fbcabcd0a72358065098416d11e2bd406310ed549a",
            ),
            Part(
                "person-detection-0201.bin",
                f"{ZOO}/person-detection-0201/FP16/person-detection-0201.bin",
                3634626,
                "81ec4d0c1219ec7f00e17102c86900e4253776227137f15e12cda8c7e7994aec",
            ),
        ),
    ),
    Entry(
        "person-detection-0202",
        "Intel, Open Model Zoo",
        APACHE,
        (
            Part(
                "person-detection-0202.xml",
                f"{ZOO_0202}/person-detection-0202/FP16/person-detection-0202.xml",
                188084,
                "649213976ea433d338752235944c96ce67809d175860b6814778847192497501",
            ),
            Part(
                "person-detection-0202.bin",
                f"{ZOO_0202}/person-detection-0202/FP16/person-detection-0202.bin",
                3634626,
                "c82526a14d4c3c2d4c04e06e1173f573374fb5a2a97393b926f96adbff7b345b",
            ),
        ),
    ),
    Entry(
        "yolox-nano",
        "Megvii, trained on COCO; exported by K. Takahashi",
        APACHE,
        (
            Part(
                "yolox_nano_416x416.onnx",
                f"{GITHUB}/MOT-Tracking-by-Detection-Pipeline/e50a76b8b430b778276e7fd04fd4cafd5d45eab2"
                "/Detector/yolox/model/yolox_nano_416x416.onnx",
                3660092,
                "695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14",
            ),
        ),
    ),
    Entry(
        "deimv2-femto",
        "Intellindust AI Lab, trained on COCO; exported by K. Takahashi",
        APACHE,
        (
            Part(
                "deimv2_hgnetv2_femto_coco.onnx",
                f"{GITHUB}/DEIMv2-ONNX-Sample/f88d4382abca74edb26ed4c7f46190ac40da0ea5"
                "/model/deimv2_hgnetv2_femto_coco.onnx",
                4116144,
                "c6ad358f750132b891165e034c2ba507abefc5ebe1c1d2732a0acbcacc47e52c",
            ),
        ),
    ),
)


def entry_named(name: str) -> Entry:
    """The entry of that name; ModelError where there is none."""
    for entry in CATALOGUE:
        if entry.name == name:
            return entry
    raise ModelError(f"{name}: no detector that can be fetched; those are {', '.join(e.name for e in CATALOGUE)}")


def state(entry: Entry) -> State:
    """What is there of it: nothing, a part, all of it, or files that are not what they should be."""
    there = [entry.folder / part.file for part in entry.parts]
    if any(path.exists() and file_hash(path) != part.sha256 for path, part in zip(there, entry.parts, strict=True)):
        return "damaged"
    if all(path.exists() for path in there):
        return "whole"
    begun = any(path.exists() or _draft(entry, part).exists() for path, part in zip(there, entry.parts, strict=True))
    return "partial" if begun else "absent"


def verify(entry: Entry) -> Path:
    """The file to open, after the SHA-256 of each part was checked; ModelError where one is missing or another file."""
    for part in entry.parts:
        path = entry.folder / part.file
        if not path.exists():
            raise ModelError(f"{path}: no such file; `passerby models fetch {entry.name}` gets it")
        if (found := file_hash(path)) != part.sha256:
            raise ModelError(
                f"{path}: expected SHA-256 {part.sha256}, got {found}; delete it and run `passerby models fetch {entry.name}`"
            )
    return entry.path


def fetch(entry: Entry, *, timeout_s: float = TIMEOUT_S, progress: Progress = lambda done, total: None) -> Path:
    """Download what is missing of it and return the file to open; a download that broke off is gone on with.

    `progress` is called with (bytes, all bytes). Raises ModelError where a file cannot be had, or is not the one that is
    pinned: it is deleted then.
    """
    entry.folder.mkdir(parents=True, exist_ok=True)
    total, done = sum(part.size for part in entry.parts), 0
    for part in entry.parts:
        path, draft = entry.folder / part.file, _draft(entry, part)
        if not (path.exists() and file_hash(path) == part.sha256):
            before = done
            _download(entry, part, draft, timeout_s, lambda got, before=before: progress(before + got, total))  # type: ignore[misc]
            if (found := file_hash(draft)) != part.sha256:
                draft.unlink()
                raise ModelError(
                    f"{part.url}: expected SHA-256 {part.sha256}, got {found}; it is not the file that is pinned"
                )
            draft.replace(path)
        done += part.size
        progress(done, total)
    return entry.path


def _draft(entry: Entry, part: Part) -> Path:
    return entry.folder / f"{part.file}.part"


def _download(entry: Entry, part: Part, draft: Path, timeout_s: float, progress: Callable[[int], None]) -> None:
    """Fill `draft` from where it ends."""
    begun = draft.stat().st_size if draft.exists() else 0
    if begun == part.size:
        return
    if begun > part.size:
        draft.unlink()
        begun = 0
    asked = urllib.request.Request(part.url, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        with urllib.request.urlopen(asked, timeout=timeout_s) as answer:
            assert isinstance(answer, HTTPResponse)
            goes_on = begun and answer.status == 206
            with draft.open("ab" if goes_on else "wb") as file:
                got = begun if goes_on else 0
                while chunk := answer.read(CHUNK // 16):
                    got += len(chunk)
                    if got > part.size:
                        raise ModelError(
                            f"{part.url}: expected {part.size} bytes, got more; it is not the file that is pinned"
                        )
                    file.write(chunk)
                    progress(got)
    except (OSError, HTTPException) as error:  # urllib's own errors are OSErrors
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ModelError(
            f"{part.url}: cannot be fetched ({reason}). `passerby models fetch {entry.name}` goes on; without a network, "
            f"get the file elsewhere, put it at {entry.folder / part.file} and run `passerby models verify {entry.name}`"
        ) from error
    if draft.stat().st_size < part.size:
        raise ModelError(
            f"{part.url}: broke off after {draft.stat().st_size} of {part.size} bytes; "
            f"`passerby models fetch {entry.name}` goes on"
        )
