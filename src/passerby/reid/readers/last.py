"""LaST in its official layout (Shu et al., 2021)."""

import re
from pathlib import Path

from passerby.reid.readers.release import Options, Release, match_all, picture_files
from passerby.reid.splits import Pictures
from passerby.types import Picture

LAST_NAME = re.compile(r"(\d+)_.*")


def read_last(root: Path, options: Options) -> Release:
    def read(part: str, folder: str = "") -> Pictures:
        expected = "pictures named like 000012_...jpg, in a folder a person or beside each other"
        found = picture_files(root / part / folder, holds=expected, deep=True)
        # Ids are scoped by part: the release's parts are disjoint by person, its numbers need not be.
        return tuple(
            Picture(path, f"{options.scope}:{part}/{int(match[1])}", None)
            for path, match in match_all(found, LAST_NAME, expected=expected)
        )

    return Release(
        train=read("train"),
        query=read("test", "query"),
        gallery=read("test", "gallery"),
        protocol="market1501",
        dev_query=read("val", "query"),
        dev_gallery=read("val", "gallery"),
    )
