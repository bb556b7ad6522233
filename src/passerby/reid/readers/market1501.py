"""Market-1501 in its official layout (Zheng et al., ICCV 2015)."""

import re
from pathlib import Path

from passerby.reid.readers.release import Options, Release, counted, differences, match_all, only_people, picture_files
from passerby.reid.splits import Pictures
from passerby.types import Picture, Role

MARKET_NAME = re.compile(r"(-1|\d{4})_c(\d)s(\d)_(\d{6})_(\d{2})\.jpg(?:\.jpg)?")
MARKET_COUNTS = {
    "train": (12936, 751),
    "query": (3368, 750),
    "gallery": (13115, 750),
    "distractors": (2798, 1),
    "junk": (3819, 1),
}


def read_market1501(root: Path, _: Options) -> Release:
    def read(part: str) -> Pictures:
        expected = "pictures named like 0002_c1s1_000451_03.jpg"
        pictures = []
        for path, match in match_all(picture_files(root / part, holds=expected), MARKET_NAME, expected=expected):
            person, camera, sequence, frame, _box = match.groups()
            role: Role = "junk" if person == "-1" else "distractor" if person == "0000" else "person"
            scoped = (f"market1501:{person}", f"market1501:c{camera}")
            pictures.append(Picture(path, *scoped, role=role, sequence=f"s{sequence}", frame=int(frame)))
        return tuple(pictures)

    train, query = (only_people(read(part), root / part) for part in ("bounding_box_train", "query"))
    gallery = read("bounding_box_test")
    found = {
        "train": counted(train),
        "query": counted(query),
        "gallery": counted(p for p in gallery if p.role == "person"),
        "distractors": counted(p for p in gallery if p.role == "distractor"),
        "junk": counted(p for p in gallery if p.role == "junk"),
    }
    return Release(train, query, gallery, "market1501", notes=differences("market1501", found, MARKET_COUNTS))
