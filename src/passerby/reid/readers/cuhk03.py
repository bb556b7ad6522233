"""CUHK03 as a MATLAB file or extracted (Li et al., CVPR 2014), with the 767/700 protocol (Zhong et al., CVPR 2017)."""

import json
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import numpy as np

from passerby.reid.readers.market1501 import FOLDERS, read_market_part
from passerby.reid.readers.release import (
    Boxes,
    Cuhk03Protocol,
    Options,
    Release,
    counted,
    differences,
    match_all,
    picture_files,
    read_text,
)
from passerby.reid.splits import Pictures, some
from passerby.types import DatasetError, Picture

CUHK03_NAME = re.compile(r"(\d+)_(\d{3,})_(\d+)_(\d{2,})")
CUHK03_NEW_COUNTS: dict[Boxes, dict[str, tuple[int, int]]] = {
    "detected": {"train": (7365, 767), "query": (1400, 700), "gallery": (5332, 700)},
    "labelled": {"train": (7368, 767), "query": (1400, 700), "gallery": (5328, 700)},
}
CUHK03_TESTSETS = "testsets.json"


def read_cuhk03(root: Path, options: Options) -> Release:
    if options.boxes not in get_args(Boxes):
        raise DatasetError(f"cuhk03: expected boxes of {', '.join(get_args(Boxes))}, got {options.boxes!r}")
    spelled = {"detected": "detected", "labelled": "labeled"}[options.boxes]
    for again in (root / spelled, root / options.boxes, root):
        if (again / FOLDERS[0]).is_dir():
            return _cuhk03_np(again, options)
    folder, unpacked = root / f"images_{spelled}", root
    mat = next(
        (path for path in (root / "cuhk-03.mat", root / "cuhk03_release" / "cuhk-03.mat") if path.is_file()), None
    )
    if not folder.is_dir() and mat is not None:
        unpacked = options.cache or root / "unpacked"
        folder = unpacked / f"images_{spelled}"
        if not folder.is_dir() or not (unpacked / CUHK03_TESTSETS).is_file():
            unpack_cuhk03(mat, unpacked)
    expected = "pictures named pair_person_view_image, like 1_001_1_01.jpg"
    people: dict[tuple[int, int], list[Picture]] = defaultdict(list)
    for path, match in match_all(picture_files(folder, holds=expected), CUHK03_NAME, expected=expected):
        pair, person, view = int(match[1]), int(match[2]), int(match[3])
        scoped = (f"{options.scope}:{pair}_{person:03d}", f"{options.scope}:{pair}_c{view}")
        people[pair, person].append(Picture(path, *scoped))

    config = root / f"cuhk03_new_protocol_config_{spelled}.mat"
    sources: dict[Cuhk03Protocol, Path] = {
        "split.json": root / "split.json",
        "new": config,
        "classic": unpacked / CUHK03_TESTSETS,
    }
    protocol = options.cuhk03_protocol or next((name for name, path in sources.items() if path.is_file()), None)
    if protocol is None or protocol not in sources or not sources[protocol].is_file():
        wanted = {protocol: sources[protocol]} if protocol in sources else sources
        names = " or ".join(f"{path.name} ({name})" for name, path in wanted.items())
        raise DatasetError(
            f"{root}: expected the split's people in {names}, found no such file; "
            f"the classic splits come with cuhk-03.mat, the new one with {config.name}"
        )
    if protocol == "split.json":
        return _cuhk03_by_number(people, sources[protocol])
    if protocol == "new":
        return _cuhk03_new(people, config, options.boxes)
    return _cuhk03_classic(people, sources[protocol], options.cuhk03_split)


def _cuhk03_np(root: Path, options: Options) -> Release:
    """The 767/700 protocol as its authors gave it out, in Market-1501's folders."""
    train, query, gallery = (read_market_part(root / part, options.scope) for part in FOLDERS)
    found = {"train": counted(train), "query": counted(query), "gallery": counted(gallery)}
    notes = differences("cuhk03", found, CUHK03_NEW_COUNTS[options.boxes])
    return Release(train, query, gallery, "market1501", notes=notes)


def _cuhk03_by_number(people: dict[tuple[int, int], list[Picture]], path: Path) -> Release:
    text = read_text(path)
    try:
        parts = {part: {int(number) for number in numbers} for part, numbers in json.loads(text).items()}
        train, test = parts["train"], parts["test"]
    except (json.JSONDecodeError, AttributeError, TypeError, ValueError, KeyError) as error:
        raise DatasetError(
            f'{path}: expected {{"train": [1, 2, ...], "test": [...]}}, person numbers of pair 1, got {error!r}'
        ) from error
    if train & test:
        raise DatasetError(f"{path}: people stand in train and in test: {some([str(n) for n in sorted(train & test)])}")
    have = {number for pair, number in people if pair == 1}
    strangers = [f"{pair}_{number:03d}" for pair, number in people if pair != 1 or number not in train | test]
    missing = [f"1_{number:03d}" for number in sorted((train | test) - have)]
    for problem, names in (("pictures of people that it does not name", strangers), ("no pictures of", missing)):
        if names:
            raise DatasetError(
                f"{path}: the folder holds {problem}: {some(sorted(names))} ({len(names)} people); "
                "does the file belong to this folder?"
            )
    both = _cuhk03_pick(people, [(1, number) for number in test])
    return Release(_cuhk03_pick(people, [(1, number) for number in train]), both, both, "cross-camera")


def _cuhk03_classic(people: dict[tuple[int, int], list[Picture]], path: Path, number: int) -> Release:
    splits = json.loads(path.read_text("utf-8"))
    if not 0 <= number < len(splits):
        raise DatasetError(f"{path}: expected a split of 0 to {len(splits) - 1}, got {number}")
    test = {(int(pair), int(person)) for pair, person in splits[number]}
    missing = [f"{pair}_{person:03d}" for pair, person in sorted(test - set(people))]
    if missing:
        raise DatasetError(f"{path}: split {number} names people without pictures: {some(missing)}")
    both = _cuhk03_pick(people, test)
    return Release(_cuhk03_pick(people, set(people) - test), both, both, "single-gallery-shot")


def _cuhk03_new(people: dict[tuple[int, int], list[Picture]], config: Path, boxes: Boxes) -> Release:
    by_stem = {picture.path.stem: picture for pictures in people.values() for picture in pictures}
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError:
        raise DatasetError(f'{config}: reading it needs SciPy: pip install "passerby[train]"') from None
    try:
        fields = loadmat(config)
        names = [Path(str(name.item())).stem for name in fields["filelist"].ravel()]
        indices = {
            part: np.asarray(fields[f"{part}_idx"]).ravel().astype(int) - 1 for part in ("train", "query", "gallery")
        }
        wanted = {part: [names[i] for i in sorted(index)] for part, index in indices.items()}
    except (KeyError, IndexError, TypeError, ValueError, OSError, zlib.error, MatReadError) as error:
        raise DatasetError(
            f"{config}: expected a MATLAB file with filelist, train_idx, query_idx and gallery_idx, got {error!r}"
        ) from error
    missing = [name for part in wanted.values() for name in part if name not in by_stem]
    if missing:
        raise DatasetError(
            f"{config}: {len(missing)} pictures that it names are not in the folder: {some(missing)}; "
            f"is it for {boxes} boxes?"
        )
    train, query, gallery = (
        tuple(by_stem[name] for name in sorted(wanted[part])) for part in ("train", "query", "gallery")
    )
    found = {"train": counted(train), "query": counted(query), "gallery": counted(gallery)}
    return Release(train, query, gallery, "market1501", notes=differences("cuhk03", found, CUHK03_NEW_COUNTS[boxes]))


def _cuhk03_pick(people: dict[tuple[int, int], list[Picture]], numbers: Iterable[tuple[int, int]]) -> Pictures:
    return tuple(picture for number in sorted(numbers) for picture in people[number])


def unpack_cuhk03(mat: Path, folder: Path) -> None:
    """Unpack `cuhk-03.mat` (MATLAB 7.3): `images_detected/` and `images_labeled/` as PNG, the 20 test sets as JSON.

    Names are those that torchreid gives: `pair_person_view_image.png`, all from 1. Needs h5py (`pip install
    "passerby[train]"`). Raises DatasetError when the file is not the release or the folder cannot be written.
    """
    try:
        import h5py
    except ImportError as error:
        raise DatasetError(f'{mat}: reading it needs h5py: pip install "passerby[train]"') from error
    import cv2

    try:
        with h5py.File(mat, "r") as file:
            for field, spelled in (("detected", "detected"), ("labeled", "labeled")):
                partial, done = folder / f"images_{spelled}.partial", folder / f"images_{spelled}"
                partial.mkdir(parents=True, exist_ok=True)
                for pair, pair_ref in enumerate(file[field][0], start=1):
                    for person, row in enumerate(file[pair_ref][()].T, start=1):
                        for image, ref in enumerate(row, start=1):
                            rgb = file[ref][()].T  # (height, width, 3), or an empty cell
                            if rgb.ndim != 3 or rgb.size == 0:
                                continue
                            name = f"{pair}_{person:03d}_{1 if image <= 5 else 2}_{image:02d}.png"
                            bgr = np.ascontiguousarray(rgb[:, :, ::-1].astype(np.uint8))
                            (partial / name).write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
                if not done.is_dir():
                    partial.rename(done)
            testsets = [file[ref][()].T.astype(int).tolist() for ref in file["testsets"][0]]
        (folder / CUHK03_TESTSETS).write_text(json.dumps(testsets), encoding="utf-8")
    except OSError as error:
        raise DatasetError(
            f"{mat}: cannot be unpacked into {folder}: {error}; is the file complete, and the folder writable? (cache=)"
        ) from error
    except (KeyError, AttributeError, TypeError, IndexError) as error:
        raise DatasetError(
            f"{mat}: expected the fields detected, labeled and testsets of cuhk-03.mat, got {error!r}"
        ) from error
