"""Any folder of pictures, by a pattern of their paths."""

import re
from pathlib import Path

from passerby.reid.readers.release import (
    PICTURE_SUFFIXES,
    Options,
    Release,
    all_pairs_protocol,
    picture_files,
    scope_of,
)
from passerby.reid.splits import Pictures, some
from passerby.types import DatasetError, Picture

FOLDER_PATTERN = r"(?:.*/)?(?P<person>[^_/]+)_(?P<camera>[^_/]+)(?:_(?P<frame>\d+))?(?:_[^/]*)?"


def read_folder(root: Path, options: Options) -> Release:
    try:
        pattern = re.compile(options.pattern or FOLDER_PATTERN)
    except re.error as error:
        raise DatasetError(
            f"folder: expected a regular expression as pattern, got {options.pattern!r}: {error}"
        ) from error
    if "person" not in pattern.groupindex:
        raise DatasetError(f"folder: expected a pattern with a group (?P<person>...), got {options.pattern!r}")

    def read(part: str) -> Pictures:
        folder = root / part
        pictures, strangers = [], []
        for path in picture_files(folder, holds="pictures", deep=True):
            match = pattern.fullmatch(path.relative_to(folder).with_suffix("").as_posix())
            if match is None or path.suffix.lower() not in PICTURE_SUFFIXES:
                strangers.append(path.relative_to(root).as_posix())
                continue
            groups = match.groupdict()
            camera, frame = groups.get("camera"), groups.get("frame")
            scoped_camera = None if camera is None else f"{scope_of(root)}:{camera}"
            number = None if frame is None else int(frame)
            pictures.append(
                Picture(
                    path,
                    f"{scope_of(root)}:{groups['person']}",
                    scoped_camera,
                    sequence=groups.get("sequence"),
                    frame=number,
                )
            )
        if strangers:
            raise DatasetError(
                f"{folder}: expected every file to be a picture whose name fits {pattern.pattern!r}, "
                f"found {len(strangers)} that do not: {some(strangers)}; give another pattern, or move them out"
            )
        return tuple(pictures)

    if not any((root / part).is_dir() for part in ("train", "query", "gallery")):
        every = read("")
        return Release((), every, every, all_pairs_protocol(every))
    train = read("train") if (root / "train").is_dir() else ()
    has_test = (root / "query").is_dir() or (root / "gallery").is_dir()
    query, gallery = (read("query"), read("gallery")) if has_test else ((), ())
    return Release(train, query, gallery, "market1501")
