"""How good one camera's tracks are: CLEAR MOT, IDF1 and HOTA, and MOTChallenge's files; no tracker here.

Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics", 2008; Ristani et al.,
"Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", 2016; Luiten et al., "HOTA: A Higher Order Metric
for Evaluating Multi-Object Tracking", IJCV 2021. Ties and empty frames are dealt with as the authors' TrackEval does it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from passerby.files import whole
from passerby.types import DatasetError, Float32, Float64, Int64
from passerby.vision.detect import overlaps

OVERLAP = 0.5  # IoU from which a box is that of a person of the truth
ALPHAS = np.arange(1, 20) / 20  # the overlaps that HOTA is the mean over
Rows = list[tuple[int, int, Float32, float]]  # frame, track, box (4,), score
EXACT = np.finfo(np.float64).eps


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """The boxes of one camera's tracks, in order of frame and track.

    `frames` (n,) count from 1, `tracks` (n,) are numbers of their own in each film, `boxes_xyxy` (n, 4) are in pixels,
    `scores` (n,) 0..1. `ignored` (n,) marks boxes of a truth that nobody is judged by. Raises DatasetError where a track has
    two boxes in one frame, or a box no area.
    """

    frames: Int64
    tracks: Int64
    boxes_xyxy: Float32
    scores: Float32
    ignored: NDArray[np.bool_]

    def __post_init__(self) -> None:
        count = len(self.frames)
        if self.boxes_xyxy.shape != (count, 4) or {len(self.tracks), len(self.scores), len(self.ignored)} != {count}:
            raise DatasetError(f"tracks: expected {count} of each, got boxes {self.boxes_xyxy.shape}")
        if not (self.boxes_xyxy[:, 2:] > self.boxes_xyxy[:, :2]).all():  # also where one is NaN
            raise DatasetError("tracks: expected boxes with right > left and bottom > top")
        order = np.lexsort((self.tracks, self.frames))
        for name in ("frames", "tracks", "boxes_xyxy", "scores", "ignored"):
            object.__setattr__(self, name, getattr(self, name)[order])
        twice = (np.diff(self.frames) == 0) & (np.diff(self.tracks) == 0)
        if twice.any():
            row = int(twice.argmax())
            raise DatasetError(f"tracks: track {self.tracks[row]} has two boxes in frame {self.frames[row]}")

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """One frame of a film: its `people` (p,) and `tracks` (t,), counted from 0, and the `overlap` (p, t) of their boxes."""

    people: Int64
    tracks: Int64
    overlap: Float64


@dataclass(frozen=True, slots=True)
class Clear:
    """CLEAR MOT. `mota` = 1 - (missed + false + switches) / boxes; `motp` is the mean overlap of matched boxes."""

    mota: float
    motp: float
    boxes: int
    false: int
    missed: int
    switches: int
    fragments: int


@dataclass(frozen=True, slots=True)
class Identity:
    """How much of the boxes goes to the one track that is best for a person: F1, precision and recall."""

    idf1: float
    idp: float
    idr: float


@dataclass(frozen=True, slots=True)
class Hota:
    """HOTA and its parts: detection, association, localisation; each the mean over overlaps of 0.05 to 0.95."""

    hota: float
    deta: float
    assa: float
    loca: float


def read_tracks(path: Path, *, truth: bool = False, least_seen: float = 0.0) -> Tracks:
    """Read a file of MOTChallenge: frame, track, left, top, width, height, and up to four more columns.

    The seventh is the score; in a `truth` 0 marks boxes to be ignored, and so does a ninth, how much of the person is seen,
    below `least_seen`. Raises DatasetError with the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = [float(cell) for cell in line.split(",")]
        except ValueError:
            row = []
        if not 6 <= len(row) <= 10 or not all(map(math.isfinite, row)) or row[0] < 1 or row[0] % 1 or row[1] % 1:
            raise DatasetError(
                f"{path}, line {number}: expected frame (from 1), track, left, top, width, height and up to four numbers more, "
                f"got {line[:80]!r}"
            )
        if row[4] <= 0 or row[5] <= 0:
            raise DatasetError(
                f"{path}, line {number}: expected a width and a height above 0, got {row[4]:g} x {row[5]:g}"
            )
        if row[1] < 0:
            raise DatasetError(
                f"{path}, line {number}: a track's number is 0 or more, got {row[1]:g}; are these detections?"
            )
        rows.append([*row, *(1.0, 1.0, 1.0, 1.0)[len(row) - 6 :]])
    table = np.array(rows, np.float64).reshape(-1, 10)
    seen = np.where(table[:, 8] < 0, 1.0, table[:, 8])  # -1 is "not said"
    ignored = (table[:, 6] == 0) | (seen < least_seen) if truth else np.zeros(len(table), bool)
    scores = np.clip(np.where(table[:, 6] < 0, 1.0, table[:, 6]), 0, 1)
    boxes = np.concatenate((table[:, 2:4], table[:, 2:4] + table[:, 4:6]), axis=1)
    frames, tracks = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    try:
        return Tracks(frames, tracks, boxes.astype(np.float32), scores.astype(np.float32), ignored)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None


def find_pairs(truth: Path, tracks: Path) -> dict[str, tuple[Path, Path]]:
    """The films of two files, or of two folders by their names: (truth, tracks) of each, in order of the names.

    A folder of tracks holds NAME.txt, one of truths NAME.txt or, as MOTChallenge has it, NAME/gt/gt.txt. Raises DatasetError
    where a film of one is not in the other.
    """
    if truth.is_dir() != tracks.is_dir():
        raise DatasetError(f"{truth} and {tracks}: expected two files or two folders, got one of each")
    if not truth.is_dir():
        return {tracks.stem: (truth, tracks)}
    of_truth = {path.parents[1].name: path for path in sorted(truth.glob("*/gt/gt.txt"))}
    of_truth |= {path.stem: path for path in sorted(truth.glob("*.txt"))}
    of_tracks = {path.stem: path for path in sorted(tracks.glob("*.txt"))}
    if not of_truth or of_truth.keys() != of_tracks.keys():
        raise DatasetError(
            f"{truth} and {tracks}: expected the same films in both, got {', '.join(sorted(of_truth)) or 'none'} and "
            f"{', '.join(sorted(of_tracks)) or 'none'}; a truth is NAME.txt or NAME/gt/gt.txt, tracks are NAME.txt"
        )
    return {name: (of_truth[name], of_tracks[name]) for name in sorted(of_truth)}


def write_tracks(path: Path, tracks: Tracks) -> None:
    """Write a file of MOTChallenge, whole or not at all."""
    with whole(path) as draft:
        draft.write_text("".join(map(_line, tracks.frames, tracks.tracks, tracks.boxes_xyxy, tracks.scores)))


def tracks_of(rows: Rows) -> Tracks:
    """Rows of frame, track, box (4,) and score as tracks, none of them ignored."""
    return Tracks(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[3] for row in rows], np.float32),
        np.zeros(len(rows), bool),
    )


def filled(tracks: Tracks, *, longest: int) -> Tracks:
    """The tracks with gaps of `longest` frames or fewer filled in on a straight line."""
    columns = (tracks.frames.tolist(), tracks.tracks.tolist(), tracks.boxes_xyxy, tracks.scores.tolist())
    rows: Rows = list(zip(*columns, strict=True))
    for track in np.unique(tracks.tracks).tolist():
        for (begin, _, box, score), (end, _, next_box, next_score) in pairwise(
            [row for row in rows if row[1] == track]
        ):
            if end - begin - 1 <= longest:
                for frame in range(begin + 1, end):
                    share = (frame - begin) / (end - begin)
                    between = (1 - share) * box + share * next_box
                    rows.append((frame, track, between, min(score, next_score)))
    return tracks_of(rows)


def compare(truth: Tracks, tracks: Tracks, *, overlap: float = OVERLAP) -> list[Compared]:
    """The truth beside the tracks, a frame each.

    Boxes of the truth that are ignored take the tracks' boxes that fit them with them, as MOTChallenge has it: all boxes of a
    frame are paired for the most overlap, and who is paired with an ignored one, at `overlap` or more, is not counted.
    """
    _, person = np.unique(truth.tracks[~truth.ignored], return_inverse=True)
    _, track = np.unique(tracks.tracks, return_inverse=True)
    number = np.full(len(truth), -1)
    number[~truth.ignored] = person
    compared = []
    for frame in np.union1d(truth.frames, tracks.frames):
        a = slice(*np.searchsorted(truth.frames, (frame, frame + 1)))
        b = slice(*np.searchsorted(tracks.frames, (frame, frame + 1)))
        shared = overlaps(truth.boxes_xyxy[a], tracks.boxes_xyxy[b]).astype(np.float64)
        judged, counted = ~truth.ignored[a], np.ones(shared.shape[1], bool)
        if not judged.all():
            fit = np.where(shared >= overlap - EXACT, shared, 0.0)
            rows, columns = linear_sum_assignment(fit, maximize=True)
            counted[columns[(fit[rows, columns] > 0) & ~judged[rows]]] = False
        compared.append(Compared(number[a][judged], track[b][counted], shared[judged][:, counted]))
    return compared


def pooled(films: Sequence[Sequence[Compared]]) -> list[Compared]:
    """Several films as one: nobody of one film is somebody of another."""
    every, people, tracks = [], 0, 0
    for film in films:
        every += [Compared(one.people + people, one.tracks + tracks, one.overlap) for one in film]
        people += _count([one.people for one in film])
        tracks += _count([one.tracks for one in film])
    return every


def clear(film: Sequence[Compared], *, overlap: float = OVERLAP) -> Clear:
    """CLEAR MOT: in each frame who was matched before stays matched, then the pairs with the most overlap.

    >>> alone, tracks = np.array([0]), (np.array([0]), np.array([0]), np.array([1]))
    >>> clear([Compared(alone, track, np.array([[0.5]])) for track in tracks])
    Clear(mota=0.6666666666666666, motp=0.5, boxes=3, false=0, missed=0, switches=1, fragments=0)
    """
    people = _count([one.people for one in film])
    before = np.full(people, -1)  # each person's track in the last frame; -1 stays inside
    last = np.full(people, -1)  # and the last one that it had
    spells = np.zeros(people, np.int64)
    hits, false, missed, switches, shared = 0, 0, 0, 0, 0.0
    for one in film:
        if not len(one.people) or not len(one.tracks):
            false, missed = false + len(one.tracks), missed + len(one.people)
            continue
        worth = one.overlap + 1000.0 * (one.tracks[None, :] == before[one.people][:, None])
        worth[one.overlap < overlap - EXACT] = 0
        rows, columns = linear_sum_assignment(worth, maximize=True)
        matched = worth[rows, columns] > EXACT
        rows, columns = rows[matched], columns[matched]
        who, by = one.people[rows], one.tracks[columns]
        switches += int(((last[who] >= 0) & (last[who] != by)).sum())
        spells[who] += before[who] < 0
        before[:] = -1
        before[who] = last[who] = by
        hits, shared = hits + len(who), shared + float(one.overlap[rows, columns].sum())
        false, missed = false + len(one.tracks) - len(who), missed + len(one.people) - len(who)
    boxes = hits + missed
    return Clear(
        mota=(hits - false - switches) / max(boxes, 1),
        motp=shared / max(hits, 1),
        boxes=boxes,
        false=false,
        missed=missed,
        switches=switches,
        fragments=int(np.maximum(spells - 1, 0).sum()),
    )


def identity(film: Sequence[Compared], *, overlap: float = OVERLAP) -> Identity:
    """IDF1: people and tracks are paired once for the whole film, so that the most boxes fit.

    >>> alone, tracks = np.array([0]), (np.array([0]), np.array([0]), np.array([1]))
    >>> identity([Compared(alone, track, np.array([[0.8]])) for track in tracks])
    Identity(idf1=0.6666666666666666, idp=0.6666666666666666, idr=0.6666666666666666)
    """
    people, tracks, together = _totals(film)
    for one in film:
        together[one.people[:, None], one.tracks[None, :]] += one.overlap >= overlap - EXACT
    rows, columns = linear_sum_assignment(together, maximize=True)
    hits = float(together[rows, columns].sum())
    return Identity(
        idf1=2 * hits / max(float(people.sum() + tracks.sum()), 1),
        idp=hits / max(float(tracks.sum()), 1),
        idr=hits / max(float(people.sum()), 1),
    )


def hota(film: Sequence[Compared]) -> Hota:
    """HOTA: boxes are paired by their overlap and by how well their person and track fit over the whole film.

    >>> alone, tracks = np.array([0]), (np.array([0]), np.array([0]), np.array([1]))
    >>> found = hota([Compared(alone, track, np.array([[1.0]])) for track in tracks])
    >>> [round(float(part), 3) for part in (found.hota, found.deta, found.assa, found.loca)]  # assa: (2 * 2/3 + 1/3) / 3
    [0.745, 1.0, 0.556, 1.0]
    """
    people, tracks, fit = _totals(film)
    for one in film:
        either = one.overlap.sum(0)[None, :] + one.overlap.sum(1)[:, None] - one.overlap
        part = np.divide(one.overlap, either, out=np.zeros_like(one.overlap), where=either > EXACT)
        fit[one.people[:, None], one.tracks[None, :]] += part
    fit /= np.maximum(people[:, None] + tracks[None, :] - fit, EXACT)
    hits, shared = np.zeros(len(ALPHAS)), np.zeros(len(ALPHAS))
    together = np.zeros((len(ALPHAS), *fit.shape))
    for one in film:
        rows, columns = linear_sum_assignment(
            fit[one.people[:, None], one.tracks[None, :]] * one.overlap, maximize=True
        )
        overlap = one.overlap[rows, columns]
        for level, alpha in enumerate(ALPHAS):
            good = overlap >= alpha - EXACT
            hits[level] += good.sum()
            shared[level] += overlap[good].sum()
            together[level, one.people[rows[good]], one.tracks[columns[good]]] += 1
    deta = hits / np.maximum(people.sum() + tracks.sum() - hits, 1)
    joined = together / np.maximum(people[:, None] + tracks[None, :] - together, 1)
    assa = (together * joined).sum((1, 2)) / np.maximum(hits, 1)
    loca = np.maximum(shared, 1e-10) / np.maximum(hits, 1e-10)
    return Hota(
        float(np.sqrt(deta * assa).mean()),
        float(deta.mean()),
        float(assa.mean()),
        float(loca.mean()),
    )


def _count(numbers: Sequence[Int64]) -> int:
    return max((int(each.max()) + 1 for each in numbers if len(each)), default=0)


def _totals(film: Sequence[Compared]) -> tuple[Float64, Float64, Float64]:
    """How many boxes each person and each track has, and an empty (people, tracks)."""
    nobody = [np.empty(0, np.int64)]
    people = np.bincount(np.concatenate([one.people for one in film] or nobody)).astype(np.float64)
    tracks = np.bincount(np.concatenate([one.tracks for one in film] or nobody)).astype(np.float64)
    return people, tracks, np.zeros((len(people), len(tracks)))


def _line(frame: int, track: int, box: Float32, score: float) -> str:
    x0, y0, x1, y1 = (float(side) for side in box)
    return f"{frame},{track},{x0:.2f},{y0:.2f},{x1 - x0:.2f},{y1 - y0:.2f},{score:.4f},-1,-1,-1\n"
