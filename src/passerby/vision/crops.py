"""What is cut out of a frame around a box, which crops of a track are embedded, and what they are worth."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from passerby.reid.embedder import Embedder
from passerby.reid.pictures import quality
from passerby.shop import MOST_PROTOTYPES
from passerby.types import Float32, Int64, UInt8

FIRST_S = 0.6  # of a track: the best crop of so long a time is embedded first
GROWTH = 1.6  # each further time is longer by this factor,
LONGEST_S = 8.0  # up to this
LIKE = 0.85  # a cosine from which two pictures of one track show the same side of a person
MARGIN = 0.02  # of a box's sides, kept around it
NEAR_EDGE = 0.01  # of a picture's sides: a box that comes so near to an edge is cut by it
CUT = 0.6  # what a box that is cut is worth
BLACK = np.zeros((4, 2, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Crop:
    """A person cut out of a frame: its picture (height, width, 3) uint8 RGB.

    `quality` is how much it can say of who it shows (see `reid.pictures.quality`; less where others stand before it), and
    `worth` what crops are chosen by; both 0..1.
    """

    picture: UInt8
    quality: float
    worth: float


def visible(boxes_xyxy: Float32, size: tuple[int, int]) -> Float32:
    """How much of its person each box of a frame shows, 0..1: (n,).

    It is the part of the box that no box in front of it covers (lower feet are nearer), times `CUT` where an edge of
    the picture, whose `size` is (height, width), cuts it.
    """
    if not len(boxes_xyxy):
        return np.zeros(0, np.float32)
    left, top, right, bottom = boxes_xyxy.T
    across = np.clip(np.minimum(right[:, None], right) - np.maximum(left[:, None], left), 0, None)
    down = np.clip(np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top), 0, None)
    covered = across * down / ((right - left) * (bottom - top))[:, None]  # (n, n): of the first, by the second
    in_front = bottom[None, :] > bottom[:, None]
    seen = 1 - np.clip(np.where(in_front, covered, 0).max(axis=1), 0, 1)
    height, width = size
    cut = (left < NEAR_EDGE * width) | (right > (1 - NEAR_EDGE) * width)
    cut |= (top < NEAR_EDGE * height) | (bottom > (1 - NEAR_EDGE) * height)
    result: Float32 = (seen * np.where(cut, CUT, 1.0)).astype(np.float32)
    return result


def cut_out(picture: UInt8, box_xyxy: Float32) -> UInt8 | None:
    """The part of a frame inside a box, with a small margin; a copy, None where nothing of it lies in the picture."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = box_xyxy.tolist()
    dx, dy = MARGIN * (x1 - x0), MARGIN * (y1 - y0)
    left, right = max(0, round(x0 - dx)), min(width, round(x1 + dx))
    top, bottom = max(0, round(y0 - dy)), min(height, round(y1 + dy))
    if right - left < 2 or bottom - top < 2:
        return None
    return picture[top:bottom, left:right].copy()


def looks_of(embedder: Embedder, picture: UInt8, boxes_xyxy: Float32) -> Float32:
    """The unit vectors (n, length) of boxes (n, 4) in one frame; of one that lies outside of it, that of black."""
    cuts = [cut_out(picture, box) for box in boxes_xyxy]
    return embedder.embed_arrays([BLACK if cut is None else cut for cut in cuts])


class Album:
    """The pictures of one track: offered frame by frame, chosen by worth, kept as up to four prototypes.

    A track's time is cut into pieces, short ones first (`FIRST_S`, growing by `GROWTH` up to `LONGEST_S`), and of each piece
    the best crop is embedded: a passer-by is known after a moment, and who stays for an hour costs no more than a crop
    every eight seconds.
    """

    def __init__(self) -> None:
        self._best: Crop | None = None
        self._until: datetime | None = None
        self._lasts_s = FIRST_S
        self.vectors: Float32 | None = None  # (n, length) unit vectors, n up to four
        self.quality: Float32 = np.zeros(0, np.float32)  # (n,)
        self.pictures: Int64 = np.zeros(0, np.int64)  # (n,) behind each

    def offer(self, time: datetime, frame: UInt8, box_xyxy: Float32, *, score: float, seen: float) -> Crop | None:
        """The track's box in a frame, how sure the detector is, and how much of it is `visible`; the crop now due, if any."""
        due = None
        if self._until is None:
            self._until = time + timedelta(seconds=self._lasts_s)
        elif time >= self._until:
            due, self._best = self._best, None
            self._lasts_s = min(LONGEST_S, self._lasts_s * GROWTH)
            self._until = time + timedelta(seconds=self._lasts_s)
        worth = score * seen
        if worth > 0 and (self._best is None or worth > self._best.worth):  # before a crop is cut and looked at
            cut = cut_out(frame, box_xyxy)
            rated = 0.0 if cut is None else quality(cut)
            worth *= (1 + rated) / 2
            if cut is not None and (self._best is None or worth > self._best.worth):
                self._best = Crop(cut, rated * seen, worth)
        return due

    def rest(self) -> Crop | None:
        """The best crop that is not embedded yet, once the track has ended."""
        due, self._best = self._best, None
        return due

    def add(self, vector: Float32, crop: Crop) -> None:
        """Take in the unit vector (length,) of a crop that was due.

        It joins the prototype that it is like; else it becomes one, and where that makes five, the two most alike become one.
        A prototype is the best of its pictures.
        """
        rated = float(np.clip(crop.quality, 0, 1))
        if self.vectors is None:
            self.vectors = vector[None].copy()
            self.quality, self.pictures = np.array([rated], np.float32), np.ones(1, np.int64)
            return
        alike = self.vectors @ vector  # (n,)
        nearest = int(alike.argmax())
        if alike[nearest] >= LIKE:
            if rated > self.quality[nearest]:
                self.vectors[nearest], self.quality[nearest] = vector, rated
            self.pictures[nearest] += 1
            return
        self.vectors = np.concatenate([self.vectors, vector[None]])
        self.quality = np.append(self.quality, np.float32(rated))
        self.pictures = np.append(self.pictures, 1)
        if len(self.vectors) > MOST_PROTOTYPES:
            alike = self.vectors @ self.vectors.T - 2 * np.eye(len(self.vectors), dtype=np.float32)
            one, other = sorted(np.unravel_index(int(alike.argmax()), alike.shape))
            keep = one if self.quality[one] >= self.quality[other] else other
            self.vectors[one], self.quality[one] = self.vectors[keep], self.quality[keep]
            self.pictures[one] += self.pictures[other]
            left = [i for i in range(len(self.vectors)) if i != other]
            self.vectors, self.quality, self.pictures = self.vectors[left], self.quality[left], self.pictures[left]
