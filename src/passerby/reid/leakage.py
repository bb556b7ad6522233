"""Pictures opened only to be checked or compared: unreadable ones, and near-duplicates across the parts of a split."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from passerby.reid.pictures import read_picture
from passerby.reid.splits import PersonSplit, Pictures, some
from passerby.types import DatasetError, Float32, Picture, PictureError, UInt8

# Two pictures are near-duplicates when their thumbnails correlate at least this much: 8x16 grey first, then 16x32 in
# colour. Measured on Market-1501 and CUHK03: pictures of different people reach 0.962 and 0.934; the same
# picture compressed again (JPEG quality 30), halved, or brightened by 15 keeps 0.998 and 0.993, trimmed by a pixel
# 0.984 and 0.964.
DUPLICATE_GREY = 0.97
DUPLICATE_COLOUR = 0.95


def without_near_duplicates(split: PersonSplit) -> PersonSplit:
    """The split less the training pictures that nearly equal a dev or test picture, which `check_leakage` refuses."""
    parts = (split.dev, split.test)
    measured = [picture for part in parts for picture in dict.fromkeys((*part.query, *part.gallery))]
    again = {i for i, _ in near_duplicates(split.train, measured)}
    return replace(split, train=tuple(picture for i, picture in enumerate(split.train) if i not in again))


def check_readable(pictures: Sequence[Picture], *, skip_unreadable: bool = False) -> Pictures:
    """Decode every picture once; return those that can be decoded, in order.

    Raises DatasetError that counts and names those that are missing, empty, truncated or no picture, unless
    `skip_unreadable`. About 3,000 pictures of 64x128 a second.
    """
    bad = unreadable([picture.path for picture in pictures])
    if bad and not skip_unreadable:
        refuse_unreadable(bad, of=len(pictures))
    return tuple(picture for picture in pictures if picture.path not in bad)


def unreadable(paths: Sequence[Path]) -> dict[Path, str]:
    """Those of some pictures that cannot be decoded, with the reason; each is decoded once."""
    with ThreadPoolExecutor(_threads()) as pool:
        reasons = list(pool.map(_why_unreadable, paths))
    return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason}


def refuse_unreadable(bad: Mapping[Path, str], *, of: int) -> None:
    """Raise DatasetError that counts and names the pictures that cannot be decoded, `of` how many, and says what to do."""
    named = some([f"{path} ({reason})" for path, reason in bad.items()])
    raise DatasetError(
        f"{len(bad)} of {of} pictures cannot be decoded: {named}; "
        "copy them again, or leave them out with --skip-unreadable"
    )


def check_leakage(train: Sequence[Picture], test: Sequence[Picture]) -> None:
    """Raise DatasetError when what is trained on reappears in what is measured: people, or near-duplicate pictures.

    Near-duplicates are found by correlating thumbnails of every training with every test picture (exact, no hashing;
    20,000 against 20,000 take some seconds): copies that were compressed again, resized, brightened or trimmed by a
    pixel. Pictures of different people before the same background stay clear of the bound. Mirrored copies are not
    found.
    """
    people = sorted({p.person for p in train} & {p.person for p in test})
    if people:
        raise DatasetError(
            f"leakage: {len(people)} people stand in both parts: {some(people)}; split by person, "
            "for instance with person_disjoint_split"
        )
    pairs = near_duplicates(train, test)
    if pairs:
        named = [f"{train[i].path} = {test[j].path}" for i, j in pairs]
        raise DatasetError(
            f"leakage: {len(pairs)} pairs of pictures are near-duplicates across the parts: {some(named)}; "
            "remove one of each pair, or give both one person id"
        )


def near_duplicates(first: Sequence[Picture], second: Sequence[Picture]) -> list[tuple[int, int]]:
    """Index pairs (i, j) where `first[i]` and `second[j]` show the same picture; see `check_leakage`.

    Pictures without contrast are compared by their colour. Raises DatasetError for one that cannot be decoded.
    """
    if not first or not second:
        return []
    colour_a, colour_b = _thumbnails(first), _thumbnails(second)
    grey_a, grey_b = _standardised(_halved_grey(colour_a)), _standardised(_halved_grey(colour_b))
    flat_a, flat_b = _standardised(colour_a), _standardised(colour_b)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(first), 1024):
        close = grey_a[start : start + 1024] @ grey_b.T >= DUPLICATE_GREY  # (chunk, second)
        rows, columns = np.nonzero(close)
        agree = np.einsum("ij,ij->i", flat_a[start + rows], flat_b[columns]) >= DUPLICATE_COLOUR
        pairs += [(start + int(i), int(j)) for i, j in zip(rows[agree], columns[agree], strict=True)]
    return pairs


# Pictures, opened only to be checked or compared.


def _threads() -> int:
    return min(8, os.cpu_count() or 1)


def _why_unreadable(path: Path) -> str | None:
    try:
        read_picture(path)
    except PictureError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


def _thumbnails(pictures: Sequence[Picture]) -> UInt8:
    import cv2

    def thumbnail(picture: Picture) -> UInt8:
        small = cv2.resize(read_picture(picture.path), (16, 32), interpolation=cv2.INTER_AREA)
        return small.astype(np.uint8, copy=False)

    with ThreadPoolExecutor(_threads()) as pool:
        return np.stack(list(pool.map(thumbnail, pictures)))  # (pictures, 32, 16, 3), RGB


def _halved_grey(thumbnails: UInt8) -> Float32:
    grey = thumbnails.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    halved: Float32 = grey.reshape(len(grey), 16, 2, 8, 2).mean((2, 4), dtype=np.float32)
    return halved


def _standardised(pictures: UInt8 | Float32) -> Float32:
    """Rows of mean 0 and length 1: a product is a correlation. Rows without contrast keep their colour instead."""
    rows = pictures.reshape(len(pictures), -1).astype(np.float32)
    centred = rows - rows.mean(axis=1, keepdims=True)
    contrast = np.linalg.norm(centred, axis=1, keepdims=True)
    flat = contrast[:, 0] < np.sqrt(rows.shape[1])  # a standard deviation under one grey level
    centred[flat], contrast[flat] = rows[flat], np.linalg.norm(rows[flat], axis=1, keepdims=True)
    unit: Float32 = centred / np.maximum(contrast, np.float32(1e-6))
    return unit
