"""DukeMTMC-reID in its official layout (Zheng et al., ICCV 2017)."""

import re
from pathlib import Path

from passerby.reid.readers.release import Options, Release, counted, differences, match_all, picture_files
from passerby.reid.splits import Pictures
from passerby.types import Picture

DUKE_NAME = re.compile(r"(\d{4,})_c(\d+)_f(\d+)")
DUKE_COUNTS = {"train": (16522, 702), "query": (2228, 702), "gallery": (17661, 1110)}


def read_dukemtmc(root: Path, options: Options) -> Release:
    def read(part: str) -> Pictures:
        expected = "pictures named like 0001_c2_f0046182.jpg"
        matches = match_all(picture_files(root / part, holds=expected), DUKE_NAME, expected=expected)
        scope = options.scope
        return tuple(Picture(path, f"{scope}:{m[1]}", f"{scope}:c{m[2]}", frame=int(m[3])) for path, m in matches)

    train, query, gallery = (read(part) for part in ("bounding_box_train", "query", "bounding_box_test"))
    found = {"train": counted(train), "query": counted(query), "gallery": counted(gallery)}
    return Release(train, query, gallery, "market1501", notes=differences("dukemtmc", found, DUKE_COUNTS))
