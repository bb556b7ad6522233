"""Pictures of places with boxes around people, from COCO folders: read, completed by teachers, changed for training."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from passerby.config import STRICT
from passerby.files import settings_hash
from passerby.reid.pictures import read_picture
from passerby.shop import Detections
from passerby.types import DatasetError, Float32, UInt8

Bools = NDArray[np.bool_]
SAME = 0.5  # IoU from which two boxes are of one person
PART = 0.7  # of a teacher's box inside a labelled one, from which it may be of the same person
LEFT = 0.35  # of a box's area inside its tile, below which nobody is judged by it
SMALLEST_PX = 10  # of a person's height in the network's input, below which nobody is judged by it


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """A picture file with its people: boxes (n, 4) x0, y0, x1, y1 in pixels, and which are `ignored` (n,): not judged by.

    `source` is where the COCO file says that it comes from.
    """

    path: Path
    source: str
    boxes: Float32
    ignored: Bools


@dataclass(frozen=True, slots=True)
class Certainty:
    """From which scores teachers' boxes become labels: of each teacher, where both agree, and where it is alone.

    What is found less surely, down to `doubt`, is ignored.
    """

    agreed: tuple[float, ...]
    alone: tuple[float, ...]
    doubt: tuple[float, ...]
    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class Change:
    """How pictures are changed for training; each is the probability of one thing, or a range that is drawn from."""

    tiles: float = 0.5
    smallest: float = 0.8
    largest: float = 1.8
    stretch: float = 1.25
    flip: float = 0.5
    colour: float = 0.8
    grey: float = 0.1
    blur: float = 0.2
    coarse: float = 0.2
    noise: float = 0.2
    jpeg: float = 0.5
    __pydantic_config__ = STRICT


def read_coco(folder: Path, *, split: str | None = None) -> list[Labelled]:
    """The pictures of a COCO folder (one JSON file beside `images/`), in the file's order; those of one `split`, where given.

    Boxes marked `iscrowd` are ignored ones. Raises DatasetError where the folder is not that.
    """
    files = sorted(folder.glob("*.json"))
    if len(files) != 1:
        raise DatasetError(f"{folder}: expected one COCO file (.json) beside images/, found {len(files)}")
    try:
        coco = json.loads(files[0].read_text())
        of: dict[int, list[tuple[list[float], bool]]] = {}
        for annotation in coco["annotations"]:
            x, y, width, height = annotation["bbox"]
            if width > 0 and height > 0:
                of.setdefault(annotation["image_id"], []).append(
                    ([x, y, x + width, y + height], bool(annotation.get("iscrowd", 0)))
                )
        found = []
        for image in coco["images"]:
            if split is None or image.get("split") == split:
                rows = of.get(image["id"], [])
                boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
                crowd = np.array([crowd for _, crowd in rows], bool)
                path, source = folder / "images" / image["file_name"], str(image.get("source", folder.name))
                found.append(Labelled(path, source, boxes, crowd))
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{files[0]}: expected COCO with images and annotations, got {error!r}") from None
    if not found:
        raise DatasetError(f"{files[0]}: holds no picture{f' of split {split!r}' if split else ''}")
    return found


def boxes_fingerprint(pictures: Sequence[Labelled]) -> str:
    """16 hex digits for pictures in their order (last folder, name and size of the file) and their boxes, to a pixel."""
    return settings_hash(
        [
            (p.path.parent.name, p.path.name, p.path.stat().st_size, p.boxes.round().tolist(), p.ignored.tolist())
            for p in pictures
        ]
    )[:16]


def completed(picture: Labelled, teachers: Sequence[Detections], certainty: Certainty) -> Labelled:
    """The picture with the people that the teachers are sure of and nobody labelled; doubtful ones are ignored.

    Boxes are the first teacher's where it has one.
    """
    boxes, ignored = [picture.boxes], [picture.ignored]
    known = picture.boxes
    for number, found in enumerate(teachers):
        others = [other for n, other in enumerate(teachers) if n != number]
        for box, score in zip(found.boxes_xyxy, found.scores, strict=True):
            if score < certainty.doubt[number] or (_ious(box, known) >= SAME).any():
                continue
            second = [
                float(other.scores[same].max(initial=0.0)) >= level
                for other, level in zip(others, _without(certainty.agreed, number), strict=True)
                for same in [_ious(box, other.boxes_xyxy) >= SAME]
            ]
            sure = score >= certainty.alone[number] or (score >= certainty.agreed[number] and any(second))
            sure = sure and not (_part_inside(box, picture.boxes) >= PART).any()  # perhaps a part of who is labelled
            boxes.append(box[None])
            ignored.append(np.array([not sure]))
            known = np.concatenate((known, box[None]))
    return replace(picture, boxes=np.concatenate(boxes).astype(np.float32), ignored=np.concatenate(ignored))


def completed_all(
    pictures: Sequence[Labelled], found: Path, certainty: Certainty, *, without_people: Sequence[str] = ()
) -> list[Labelled]:
    """Each picture completed by what its teachers `found`: JSON with, for each, boxes and scores of every teacher.

    Pictures from the sources `without_people` stay as they are.
    """
    teachers = [
        [Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32)) for boxes, scores in one]
        for one in json.loads(found.read_text())
    ]
    return [
        picture if picture.source in without_people else completed(picture, seen, certainty)
        for picture, seen in zip(pictures, teachers, strict=True)
    ]


def summary(folder: Path, pictures: Sequence[Labelled]) -> str:
    """What was read, for a person."""
    people = sum(int((~picture.ignored).sum()) for picture in pictures)
    return f"{folder}: {len(pictures):,} pictures, {people:,} people with a box"


def drawn_picture(
    pictures: Sequence[Labelled],
    rows: NDArray[np.int64],
    change: Change,
    rng: np.random.Generator,
    *,
    height: int,
    width: int,
) -> tuple[UInt8, Float32, Bools]:
    """(RGB (height, width, 3), boxes (n, 4), ignored (n,)): the `rows` of `pictures`, one to four, side by side, changed."""
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = rng.integers(0, 256, 3)
    boxes, ignored = [], []
    tiles = _tiles(rng, height, width, count=len(rows)) if rng.random() < change.tiles else [(0, 0, width, height)]
    for tile, row in zip(tiles, rows.tolist(), strict=False):
        there, unjudged = _placed(canvas, tile, pictures[row], change, rng)
        boxes.append(there)
        ignored.append(unjudged)
    return _developed(canvas, change, rng), np.concatenate(boxes).astype(np.float32), np.concatenate(ignored)


def _tiles(rng: np.random.Generator, height: int, width: int, *, count: int) -> list[tuple[int, int, int, int]]:
    """x0, y0, x1, y1 of two, three or four parts of the canvas."""
    kind = int(rng.integers(2, count + 1)) if count >= 2 else 1
    if kind == 4:
        x, y = int(width * rng.uniform(0.35, 0.65)), int(height * rng.uniform(0.35, 0.65))
        return [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    cuts = np.round(width * (np.arange(1, kind) + rng.uniform(-0.2, 0.2, kind - 1)) / kind).astype(int).tolist()
    return [(a, 0, b, height) for a, b in zip([0, *cuts], [*cuts, width], strict=True)]


def _placed(
    canvas: UInt8, tile: tuple[int, int, int, int], picture: Labelled, change: Change, rng: np.random.Generator
) -> tuple[Float32, Bools]:
    """Draw a picture into its tile at a random size and place, perhaps mirrored; its boxes there."""
    source = read_picture(picture.path)
    x0, y0, x1, y1 = tile
    high, wide = source.shape[:2]
    fit = min((x1 - x0) / wide, (y1 - y0) / high)
    fill = max((x1 - x0) / wide, (y1 - y0) / high)
    scale = float(np.exp(rng.uniform(np.log(change.smallest * fit), np.log(change.largest * fill))))
    stretch = float(np.exp(rng.uniform(-np.log(change.stretch), np.log(change.stretch)) / 2))
    scale_x, scale_y = scale * stretch, scale / stretch
    if rng.random() < 0.5 * (picture.boxes.size > 0):  # look at somebody
        box = picture.boxes[int(rng.integers(len(picture.boxes)))]
        middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    else:
        middle = np.array([wide, high]) * rng.uniform(0.2, 0.8, 2)
    target = np.array([x1 - x0, y1 - y0]) * rng.uniform(0.3, 0.7, 2)
    shift = [0.0, 0.0]
    for axis, (size, room, by) in enumerate(((wide, x1 - x0, scale_x), (high, y1 - y0, scale_y))):
        wanted = float(target[axis] - by * middle[axis])
        low, highest = sorted((0.0, room - size * by))  # no more of the background than must be
        shift[axis] = min(max(wanted, low), highest)
    mirrored = bool(rng.random() < change.flip)
    where = np.array([[scale_x, 0, shift[0]], [0, scale_y, shift[1]]])
    if mirrored:
        where[0] = [-scale_x, 0, (x1 - x0) - shift[0]]
    shrink = min(scale_x, scale_y)
    if shrink < 0.6:
        small = (max(1, round(wide * shrink)), max(1, round(high * shrink)))
        source = np.asarray(cv2.resize(source, small, interpolation=cv2.INTER_AREA), np.uint8)
        scaled = where.copy()
        scaled[:, 0] *= wide / small[0]
        scaled[:, 1] *= high / small[1]
    else:
        scaled = where
    part = np.ascontiguousarray(canvas[y0:y1, x0:x1])
    cv2.warpAffine(source, scaled, (x1 - x0, y1 - y0), dst=part, borderMode=cv2.BORDER_TRANSPARENT)
    canvas[y0:y1, x0:x1] = part
    boxes = picture.boxes * np.array([where[0, 0], where[1, 1]] * 2) + np.array([where[0, 2], where[1, 2]] * 2)
    if mirrored:
        boxes = boxes[:, [2, 1, 0, 3]]
    cut = np.clip(boxes, 0, np.array([x1 - x0, y1 - y0] * 2))
    sides = cut[:, 2:] - cut[:, :2]
    kept = (sides > 1).all(1)
    left = sides.prod(1) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-6)
    unjudged = picture.ignored | (left < LEFT) | (sides[:, 1] < SMALLEST_PX)
    return (cut + np.array([x0, y0] * 2))[kept].astype(np.float32), unjudged[kept]


def _developed(picture: UInt8, change: Change, rng: np.random.Generator) -> UInt8:
    """Another light, another lens, another recorder."""
    if rng.random() < change.colour:
        seen = picture.astype(np.float32) / 255
        seen = np.clip(seen, 0, 1) ** float(np.exp(rng.uniform(-0.4, 0.4)))
        seen = seen * rng.uniform(0.85, 1.15, 3).astype(np.float32) * float(rng.uniform(0.75, 1.25))
        mean = seen.mean(2, keepdims=True)
        seen = mean + (seen - mean) * float(rng.uniform(0.3, 1.3))
        middle = float(seen.mean())
        seen = middle + (seen - middle) * float(rng.uniform(0.7, 1.2))
        picture = (np.clip(seen, 0, 1) * 255).astype(np.uint8)
    if rng.random() < change.grey:
        picture = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if rng.random() < change.coarse:
        by = float(rng.uniform(0.4, 0.9))
        small = cv2.resize(picture, None, fx=by, fy=by, interpolation=cv2.INTER_AREA)
        picture = np.asarray(cv2.resize(small, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
    if rng.random() < change.blur:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 1.5))), np.uint8)
    if rng.random() < change.noise:
        noise = rng.normal(0, rng.uniform(1, 10), picture.shape[:2])[..., None]
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    if rng.random() < change.jpeg:
        _, packed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        picture = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(picture)


def _ious(box: Float32, others: Float32) -> Float32:
    shared = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return np.asarray(shared / np.maximum(areas - shared, 1e-6), np.float32)


def _part_inside(box: Float32, others: Float32) -> Float32:
    shared = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None).prod(1)
    return np.asarray(shared / max(float((box[2:] - box[:2]).prod()), 1e-6), np.float32)


def _without(levels: tuple[float, ...], number: int) -> tuple[float, ...]:
    return levels[:number] + levels[number + 1 :]
