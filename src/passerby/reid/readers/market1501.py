"""Market-1501 in its official layout (Zheng et al., ICCV 2015), and the many sets that took its folders and names."""

import re
from pathlib import Path

from passerby.reid.readers.release import Options, Release, counted, differences, match_all, only_people, picture_files
from passerby.reid.splits import Pictures
from passerby.types import Picture, Role

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
VERI_FOLDERS = ("image_train", "image_query", "image_test")
# Market-1501 0002_c1s1_000451_03, NVIDIA TAO 0001_c1s1_01_00, VeRi 0001_c001_00016450_0, CUHK03-NP 0001_c1_1
MARKET_NAME = re.compile(r"(?P<person>-1|\d{4,})_c(?P<camera>\d+)(?P<sequence>s\d+)?(?:_(?P<frame>\d+)(?P<box>_\d+)?)?")
MARS_NAME = re.compile(r"(?P<person>00-1|\d{4,})C(?P<camera>\d+)(?P<sequence>T\d+)F(?P<frame>\d+)")
EXPECTED = "pictures named like 0002_c1s1_000451_03.jpg"
MARKET_COUNTS = {
    "train": (12936, 751),
    "query": (3368, 750),
    "gallery": (13115, 750),
    "distractors": (2798, 1),
    "junk": (3819, 1),
}


def read_market1501(root: Path, options: Options) -> Release:
    folders = VERI_FOLDERS if (root / VERI_FOLDERS[0]).is_dir() else FOLDERS
    train, query = (only_people(read_market_part(root / part, options.scope), root / part) for part in folders[:2])
    gallery = read_market_part(root / folders[2], options.scope)
    found = {
        "train": counted(train),
        "query": counted(query),
        "gallery": counted(p for p in gallery if p.role == "person"),
        "distractors": counted(p for p in gallery if p.role == "distractor"),
        "junk": counted(p for p in gallery if p.role == "junk"),
    }
    notes = differences("market1501", found, MARKET_COUNTS) if folders == FOLDERS else ()
    return Release(train, query, gallery, "market1501", notes=notes)


def read_market_part(folder: Path, scope: str) -> Pictures:
    """The pictures of one folder, by names of one kind: id -1 is junk, an id of zeros a distractor."""
    files = picture_files(folder, holds=EXPECTED)
    pattern = MARS_NAME if MARS_NAME.match(files[0].name) else MARKET_NAME
    pictures = []
    for path, match in match_all(files, pattern, expected=EXPECTED):
        person, sequence, frame = match["person"], match["sequence"], match["frame"]
        role: Role = "junk" if person in ("-1", "00-1") else "person" if person.strip("0") else "distractor"
        # CUHK03-NP's last number counts a person's pictures; it is no frame.
        number = int(frame) if frame and (sequence or match.groupdict().get("box")) else None
        scoped = (f"{scope}:{person}", f"{scope}:c{match['camera']}")
        pictures.append(Picture(path, *scoped, role=role, sequence=sequence, frame=number))
    return tuple(pictures)
