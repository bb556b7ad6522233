"""Any folder of pictures, by the layout that its paths have or a pattern of the user's."""

from collections.abc import Sequence
from pathlib import Path

from passerby.reid.readers.layouts import PARTS, Reading, given, recognise
from passerby.reid.readers.release import (
    Options,
    Release,
    all_pairs_protocol,
    in_words,
    is_system_file,
    picture_files,
    stem_of,
)
from passerby.reid.splits import Pictures, some
from passerby.types import DatasetError, Picture


def read_folder(root: Path, options: Options) -> Release:
    parts = [part for part in PARTS if (root / part).is_dir()]
    if parts:
        beside = [p.name for p in sorted(root.iterdir()) if p.name not in parts and not is_system_file(p)]
        if beside:
            raise DatasetError(
                f"{root}: expected {', '.join(PARTS)} alone, found {some(beside)} beside them; move it out, or read one "
                "part by itself"
            )
        if ("query" in parts) != ("gallery" in parts):
            raise DatasetError(f"{root}: expected query and gallery, or neither, found {' and '.join(parts)} alone")
    files = {part: _files(root / part) for part in parts or [""]}
    paths = [name for part in files for _, name in files[part]]
    pattern = options.pattern
    reading = given(pattern, paths, where=root) if pattern is not None else recognise(paths, where=root)
    pictures = iter(_pictures([path for part in files for path, _ in files[part]], reading, options.scope, root))
    read = {part: tuple(next(pictures) for _ in files[part]) for part in files}
    layout = reading.described(paths)
    if "" in read:
        return Release((), read[""], read[""], all_pairs_protocol(read[""]), layout=layout)
    train, query, gallery = (read.get(part, ()) for part in PARTS)
    return Release(train, query, gallery, "market1501", layout=layout)


def read_people(root: Path, *, pattern: str | None = None) -> tuple[dict[str, list[Path]], str]:
    """Who is on the pictures of a folder, as "folder" reads it: each person's files, and in words what was understood.

    Cameras do not matter here, so readings that differ in them alone are one; one person is enough. Raises DatasetError
    as `read_dataset`.
    """
    files = _files(root)
    paths = [name for _, name in files]
    reading = (
        given(pattern, paths, where=root)
        if pattern is not None
        else recognise(paths, where=root, people=1, cameras=False)
    )
    people: dict[str, list[Path]] = {}
    for (path, _), person in zip(files, reading.labels("person"), strict=True):
        people.setdefault(str(person), []).append(path)
    pictures = _pictures([path for path, _ in files], reading, "gallery", root)
    return people, f"{in_words(pictures)} ({reading.described(paths)})"


def _files(folder: Path) -> list[tuple[Path, str]]:
    """Each picture below a folder with its path as a pattern sees it; anything else is an error that names it."""
    if folder.is_dir():
        for inside in sorted(p for p in folder.iterdir() if p.is_dir() and not is_system_file(p)):
            picture_files(inside, holds="pictures of one person", deep=True)
    files, strangers = [], []
    for path in picture_files(folder, holds="pictures", deep=True):
        stem = stem_of(path)
        if stem is None:
            strangers.append(path.relative_to(folder).as_posix())
        else:
            files.append((path, path.relative_to(folder).with_name(stem).as_posix()))
    if strangers:
        raise DatasetError(
            f"{folder}: expected pictures alone, found {len(strangers)} other files: {some(strangers)}; move them out"
        )
    return files


def _pictures(paths: Sequence[Path], reading: Reading, scope: str, root: Path) -> Pictures:
    pictures = []
    for path, groups in zip(paths, reading.groups, strict=True):
        camera, frame = groups.get("camera"), groups.get("frame")
        if frame is not None and not frame.isdecimal():
            raise DatasetError(f"{path}: expected the group frame to match digits, got {frame!r}; change the pattern")
        pictures.append(
            Picture(
                path,
                f"{scope}:{groups['person']}",
                f"{scope}:{camera}" if camera else None,
                sequence=groups.get("sequence") or None,
                frame=int(frame) if frame is not None else None,
            )
        )
    return tuple(pictures)
