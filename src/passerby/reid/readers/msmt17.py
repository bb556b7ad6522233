"""MSMT17 V1 and V2 in their official layout (Wei et al., CVPR 2018)."""

import re
from pathlib import Path

from passerby.reid.readers.release import Options, Release, counted, differences, picture_files, read_text, stem_of
from passerby.reid.splits import Pictures, some
from passerby.types import DatasetError, Picture

MSMT17_NAME = re.compile(r"(\d{4,})/\1_\d{3,}_(\d{2,})_(\d{4}[a-z]+)_\d{4,}_\d+(?:_ex)?")
MSMT17_COUNTS = {"train": (32621, 1041), "query": (11659, 3060), "gallery": (82161, 3060)}


def read_msmt17(root: Path, options: Options) -> Release:
    expected = "pictures named like 0000/0000_000_01_0303morning_0008_0.jpg"

    def read(part: str, folder: str, *lists: str) -> list[Pictures]:
        """The pictures of each list; together they name every picture of the folder, and each once."""
        files = picture_files(root / folder, holds=expected, deep=True)
        unlisted = {path.relative_to(root / folder).as_posix(): path for path in files}
        found = []
        for file in (root / name for name in lists):
            if not file.is_file():
                raise DatasetError(f"{file}: expected the list of pictures that comes with MSMT17, found no such file")
            pictures = []
            for number, line in enumerate(read_text(file).splitlines(), start=1):
                if not line.strip():
                    continue
                name = line.split()[0]
                stem = stem_of(Path(name)) or ""
                match, path = MSMT17_NAME.fullmatch(f"{name.rpartition('/')[0]}/{stem}"), unlisted.pop(name, None)
                if match is None or path is None:
                    what = f"a picture of {folder} that no line has named yet" if match else f"{expected} and a number"
                    raise DatasetError(
                        f"{file}, line {number}: expected {what}, got {line!r}; was the archive unpacked in full?"
                    )
                # Training and test people are both numbered from 0, so ids are scoped by part.
                scoped = (f"{options.scope}:{part}/{match[1]}", f"{options.scope}:c{match[2]}")
                pictures.append(Picture(path, *scoped, sequence=match[3]))
            found.append(tuple(sorted(pictures, key=lambda picture: picture.path)))
        if unlisted:
            raise DatasetError(
                f"{root / folder}: {len(unlisted)} pictures stand in none of {', '.join(lists)}: "
                f"{some(sorted(unlisted))}; move them out"
            )
        return found

    # Version 2 has the pictures of version 1 with blurred faces, in folders of other names.
    folders = ("mask_train_v2", "mask_test_v2") if (root / "mask_train_v2").is_dir() else ("train", "test")
    learnt, validated = read("train", folders[0], "list_train.txt", "list_val.txt")  # of the same people
    query, gallery = read("test", folders[1], "list_query.txt", "list_gallery.txt")
    train = tuple(sorted(learnt + validated, key=lambda picture: picture.path))
    found = {"train": counted(train), "query": counted(query), "gallery": counted(gallery)}
    return Release(train, query, gallery, "market1501", notes=differences("msmt17", found, MSMT17_COUNTS))
