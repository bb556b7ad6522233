"""Pairs of pictures across cameras, drawn from labelled people, or from a site's people who must be different."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from passerby.types import CalibrationError, Float32, Float64, Int64, Picture

DRAWS = 20
CHUNK = 8192  # pairs whose vectors are held at once
AT_ONCE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class PairSample:
    """Similarities of pairs across cameras: one of the same person beside one of different people.

    All arrays have one entry a drawn pair: `same` and `different` are cosines, `weight` sums to 1 and gives every
    person the same part, `person` is the number of the person in both pairs (0..people-1), `other` that of the
    different pair's second person.
    """

    same: Float64
    different: Float64
    weight: Float64
    person: Int64
    other: Int64

    @property
    def people(self) -> int:
        """How many people the pairs show."""
        return len(np.union1d(self.person, self.other))

    @property
    def people_pairs(self) -> int:
        """How many distinct pairs of different people were drawn."""
        both = np.sort(np.stack([self.person, self.other]), axis=0)
        return len(np.unique(both, axis=1).T)


@dataclass(frozen=True, slots=True)
class DifferentPairs:
    """Cosines `similarity` (pairs,) of pictures of different people, and the number of each picture's track (pairs,)."""

    similarity: Float64
    track: Int64
    other: Int64

    @property
    def tracks(self) -> int:
        """How many tracks the pairs are of."""
        return len(np.union1d(self.track, self.other))

    @property
    def weight(self) -> Float64:
        """Weights (pairs,) that sum to 1 and give each pair of tracks the same part, however many pictures it has."""
        both = np.sort(np.stack([self.track, self.other]), axis=0)
        _, where, counts = np.unique(both, axis=1, return_inverse=True, return_counts=True)
        result: Float64 = 1.0 / counts[where.reshape(-1)] / len(counts)
        return result


def sample_pairs(
    embeddings: Float32,
    pictures: Sequence[Picture],
    *,
    each: int = 1,
    draws: int = DRAWS,
    at_least: int = 0,
    seed: int = 0,
) -> PairSample:
    """Draw pairs across cameras: `draws` times, for each person and pair of cameras, one random picture each side.

    More often where that gives fewer than `at_least` pairs. With `each` above 1, that many random pictures a side, as
    their mean; who has fewer in a camera is left out there.

    The different pair is the same first picture with another person from that same second camera, so that it meets the
    same change of view and light; that person is drawn first, then the picture. Which camera is first is drawn too.
    People weigh equally, however many cameras saw them. `embeddings` is (n, d), a row a picture; pictures that come
    twice count once, junk and distractors not at all.

    Raises CalibrationError where cameras are not known or no person was seen by two of them.
    """
    rows = _people_once(embeddings, pictures)
    cells: dict[tuple[str, str], list[int]] = {}  # (camera, person) -> rows
    for row in rows:
        picture = pictures[row]
        if picture.camera is None:
            raise CalibrationError(
                f"{picture.path}: a calibration compares cameras, but this picture's camera is not known; "
                "use pictures with camera labels"
            )
        cells.setdefault((picture.camera, picture.person), []).append(row)
    cells = {key: mine for key, mine in cells.items() if len(mine) >= each}
    keys = sorted(cells)
    people = sorted({person for _, person in keys})
    number = {person: i for i, person in enumerate(people)}
    cell_person = np.array([number[person] for _, person in keys], np.int64)
    size = np.array([len(cells[key]) for key in keys], np.int64)
    start = np.cumsum(size) - size
    ordered = np.array([row for key in keys for row in cells[key]], np.int64)
    # Cells are sorted by camera, so a camera's cells are neighbours: [camera_start, camera_start + camera_size).
    cameras, camera_of, camera_sizes = np.unique(
        [camera for camera, _ in keys], return_inverse=True, return_counts=True
    )
    camera_start = (np.cumsum(camera_sizes) - camera_sizes)[camera_of]
    camera_size = camera_sizes[camera_of]

    mine: dict[int, list[int]] = {}
    for cell, person in enumerate(cell_person.tolist()):
        mine.setdefault(person, []).append(cell)
    couples = [(a, b) for person in sorted(mine) for i, a in enumerate(mine[person]) for b in mine[person][i + 1 :]]
    couples = [(a, b) for a, b in couples if camera_size[a] > 1 and camera_size[b] > 1]
    if not couples:
        raise CalibrationError(
            f"calibration: expected people whom two cameras saw, and two people a camera; got {len(people)} people and "
            f"{len(cameras)} cameras"
        )
    cell_a, cell_b = np.tile(np.array(couples, np.int64).T, max(draws, -(-at_least // len(couples))))
    rng = np.random.default_rng(seed)
    turned = rng.random(len(cell_a)) < 0.5
    first, second = np.where(turned, cell_b, cell_a), np.where(turned, cell_a, cell_b)
    stranger = camera_start[second] + rng.integers(0, camera_size[second] - 1)
    stranger += stranger >= second  # skips the person's own cell

    def draw(cell: Int64) -> Int64:
        """Rows (pairs, each) of random pictures of these cells."""
        if each == 1:
            place = rng.integers(0, size[cell])[:, None]
        else:
            order = rng.random((len(cell), int(size.max())))
            order[np.arange(order.shape[1]) >= size[cell][:, None]] = 2  # beyond a cell's end
            place = np.argsort(order, axis=1)[:, :each]
        rows: Int64 = ordered[start[cell][:, None] + place]
        return rows

    def unit(rows: Int64) -> Float64:
        vectors = embeddings[rows].astype(np.float64).mean(axis=1)
        units: Float64 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return units

    a, b, c = draw(first), draw(second), draw(stranger)
    same, different = np.empty(len(a)), np.empty(len(a))
    for i in range(0, len(a), CHUNK):
        part = slice(i, i + CHUNK)
        own = unit(a[part])
        same[part] = np.einsum("ij,ij->i", own, unit(b[part]))
        different[part] = np.einsum("ij,ij->i", own, unit(c[part]))
    person = cell_person[first]
    weight = 1.0 / np.bincount(person, minlength=len(people))[person]
    return PairSample(
        same=same,
        different=different,
        weight=weight / weight.sum(),
        person=person,
        other=cell_person[stranger],
    )


def surely_different(
    embeddings: Float32, pictures: Sequence[Picture], *, each: int = DRAWS, seed: int = 0
) -> DifferentPairs:
    """Pairs of pictures that two cameras took within a second of each other, of tracks with different names.

    `person` of a picture is its track's name here; a track that both cameras give the same name does not count. Up to
    `each` pairs a picture. `embeddings` is (n, d). Raises CalibrationError where a picture has no camera or no time, and
    where no two pictures qualify. The cameras must not share a view.
    """
    rows = _people_once(embeddings, pictures)
    for row in rows:
        if pictures[row].camera is None or pictures[row].seen_at is None:
            raise CalibrationError(
                f"{pictures[row].path}: a site is known by pictures with camera and time; its manifest gives "
                f"camera {pictures[row].camera!r} and time {pictures[row].seen_at}"
            )
    rows.sort(key=lambda row: (pictures[row].seen_at, pictures[row].path))
    vectors = embeddings[rows].astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    times = np.array([pictures[row].seen_at.timestamp() for row in rows])  # type: ignore[union-attr]  # checked above
    last = np.searchsorted(times, times + AT_ONCE.total_seconds(), side="right")
    names = [(str(pictures[row].camera), pictures[row].person) for row in rows]
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    track = np.array([number[name] for name in names], np.int64)
    rng = np.random.default_rng(seed)
    first: list[int] = []
    second: list[int] = []
    for i, (camera, name) in enumerate(names):
        near = [j for j in range(i + 1, int(last[i])) if names[j][0] != camera and names[j][1] != name]
        chosen = rng.permutation(np.array(near, np.int64))[:each].tolist()
        first += [i] * len(chosen)
        second += chosen
    if not first:
        raise CalibrationError("calibration: no two cameras saw different tracks within a second of each other")
    similarity = np.einsum("ij,ij->i", vectors[first], vectors[second])
    return DifferentPairs(similarity, track[first], track[second])


def _people_once(embeddings: Float32, pictures: Sequence[Picture]) -> list[int]:
    if embeddings.ndim != 2 or len(embeddings) != len(pictures):
        raise CalibrationError(
            f"calibration: expected embeddings ({len(pictures)}, d), a row a picture, got {embeddings.shape}"
        )
    first = {picture.path: row for row, picture in reversed(list(enumerate(pictures))) if picture.role == "person"}
    return sorted(first.values())
