"""Pairs of pictures across cameras, drawn from labelled people, or from a site's people who must be different."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passerby.reid.evidence import LEAST_WEIGHT
from passerby.types import CalibrationError, Float32, Float64, Int64, Picture

DRAWS = 20
CHUNK = 8192  # pairs whose vectors are held at once
AT_ONCE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class PairSample:
    """Similarities of pairs across cameras: one of the same person beside one of different people.

    All arrays have one entry a drawn pair: `same` and `different` are mean cosines between the two sides, `weight` sums
    to 1 and gives every person the same part, `person` is the number of the person in both pairs (0..people-1), `other`
    that of the different pair's second person. `behind` is how many pictures stand behind the two sides.
    """

    same: Float64
    different: Float64
    weight: Float64
    person: Int64
    other: Int64
    behind: tuple[int, int] = (1, 1)

    @property
    def people(self) -> int:
        """How many people the pairs show."""
        return len(np.union1d(self.person, self.other))

    @property
    def people_pairs(self) -> int:
        """How many distinct pairs of different people were drawn."""
        both = np.sort(np.stack([self.person, self.other]), axis=0)
        return len(np.unique(both, axis=1).T)

    def among(self, chosen: NDArray[np.bool_]) -> "PairSample":
        """The pairs of two people of `chosen` (people,); their weights sum to 1 again, numbers stay."""
        rows = chosen[self.person] & chosen[self.other]
        weight = self.weight[rows]
        return PairSample(
            self.same[rows],
            self.different[rows],
            weight / weight.sum(),
            self.person[rows],
            self.other[rows],
            self.behind,
        )


def joined(samples: Sequence[PairSample]) -> PairSample:
    """Pairs drawn within several data sets as one sample, every person of any of them with the same weight."""
    people = np.array([len(np.unique(s.person)) for s in samples], np.float64)
    offsets = np.cumsum([0, *(int(max(s.person.max(), s.other.max())) + 1 for s in samples)])
    shares = people / people.sum()
    return PairSample(
        same=np.concatenate([s.same for s in samples]),
        different=np.concatenate([s.different for s in samples]),
        weight=np.concatenate([s.weight * share for s, share in zip(samples, shares, strict=True)]),
        person=np.concatenate([s.person + offset for s, offset in zip(samples, offsets[:-1], strict=True)]),
        other=np.concatenate([s.other + offset for s, offset in zip(samples, offsets[:-1], strict=True)]),
        behind=samples[0].behind,
    )


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
    behind: tuple[int, int] = (1, 1),
    quality: Float32 | None = None,
    draws: int = DRAWS,
    at_least: int = 0,
    seed: int = 0,
) -> PairSample:
    """Draw pairs of sides across cameras, of `behind` pictures each (see `evidence.side`).

    For each person and each ordered pair of cameras, `draws` / 2 times: random pictures of the person from the first
    camera on one side, from the second on the other. More often where that gives fewer than `at_least` pairs. Where the
    second side has several pictures, they come as often from any cameras but the first, as those of someone who was
    followed through a shop do. Who has too few pictures is left out there.

    The different pair is the same first side with another person from that same second camera (or those same others), so
    that it meets the same change of view and light; that person is drawn first, then the pictures. People weigh equally,
    however many cameras saw them. `embeddings` is (n, d), a row a picture, `quality` (n,); pictures that come twice count
    once, junk and distractors not at all.

    Raises CalibrationError where cameras are not known or no person was seen by two of them.
    """
    rows = _people_once(embeddings, pictures)
    seen: dict[tuple[str, str], list[int]] = {}  # (camera, person) -> rows
    for row in rows:
        picture = pictures[row]
        if picture.camera is None:
            raise CalibrationError(
                f"{picture.path}: a calibration compares cameras, but this picture's camera is not known; "
                "use pictures with camera labels"
            )
        seen.setdefault((picture.camera, picture.person), []).append(row)
    first, second = behind
    cameras = sorted({camera for camera, _ in seen})
    people = sorted({person for _, person in seen})
    # A second side comes from one place: a camera, or ("not", camera), all cameras but that one.
    cells: dict[tuple[str | tuple[str, str], str], list[int]] = dict(seen.items())
    if second > 1 and len(cameras) > 2:
        for camera in cameras:
            for person in people:
                others = [seen[other, person] for other in cameras if other != camera and (other, person) in seen]
                if len(others) > 1:
                    cells[("not", camera), person] = [row for rows_ in others for row in rows_]
    keys = sorted((key for key, mine in cells.items() if len(mine) >= min(behind)), key=str)
    place = {key: i for i, key in enumerate(keys)}
    number = {person: i for i, person in enumerate(people)}
    stored = np.array([row for key in keys for row in cells[key]], np.int64)
    size = np.array([len(cells[key]) for key in keys], np.int64)
    start = np.cumsum(size) - size
    rivals: dict[object, list[int]] = {}  # place -> cells that may be a second side there
    for key in keys:
        if len(cells[key]) >= second:
            rivals.setdefault(key[0], []).append(place[key])
    couples: list[tuple[int, int]] = []
    for person in people:
        mine = [c for c in cameras if len(seen.get((c, person), ())) >= first]
        for camera in mine:
            apart = [c for c in cameras if c != camera and len(seen.get((c, person), ())) >= second]
            pairs = [(place[camera, person], place[c, person]) for c in apart if len(rivals[c]) > 1]
            mixed = (("not", camera), person)
            if len(cells.get(mixed, ())) >= second and len(rivals[mixed[0]]) > 1:
                pairs += [(place[camera, person], place[mixed])] * max(1, len(pairs))
            couples += pairs
    if not couples:
        raise CalibrationError(
            f"calibration: expected people whom two cameras saw, and two people a camera, with {first} and {second} "
            f"pictures; got {len(people)} people and {len(cameras)} cameras"
        )
    each = max(1, draws // 2, -(-at_least // len(couples)))
    cell_a, cell_b = np.tile(np.array(couples, np.int64).T, each)
    rng = np.random.default_rng(seed)
    rival_of = {cell: (at, here) for here in rivals.values() for at, cell in enumerate(here)}
    stranger = np.empty(len(cell_b), np.int64)
    for cell in np.unique(cell_b).tolist():
        at, rivals_here = rival_of[cell]
        where = np.flatnonzero(cell_b == cell)
        drawn = rng.integers(0, len(rivals_here) - 1, len(where))
        stranger[where] = np.array(rivals_here, np.int64)[drawn + (drawn >= at)]  # skips the person's own cell

    def draw(cell: Int64, count: int) -> Int64:
        """Rows (pairs, count) of different random pictures of these cells."""
        if count == 1:
            single: Int64 = stored[start[cell] + rng.integers(0, size[cell])][:, None]
            return single
        taken = np.empty((len(cell), count), np.int64)
        for i in range(0, len(cell), CHUNK):
            part = cell[i : i + CHUNK]
            order = rng.random((len(part), int(size[part].max())))
            order[np.arange(order.shape[1]) >= size[part][:, None]] = 2  # beyond a cell's end
            chosen = np.argsort(order, axis=1)[:, :count]
            taken[i : i + CHUNK] = stored[start[part][:, None] + chosen]
        return taken

    a, b, c = draw(cell_a, first), draw(cell_b, second), draw(stranger, second)
    same, different = np.empty(len(a)), np.empty(len(a))
    weight_of = np.maximum(np.ones(len(embeddings)) if quality is None else quality, LEAST_WEIGHT)
    for i in range(0, len(a), CHUNK):
        part = slice(i, i + CHUNK)
        own, other, stranger_too = (_means(embeddings, rows_[part], weight_of) for rows_ in (a, b, c))
        same[part] = np.einsum("ij,ij->i", own, other)
        different[part] = np.einsum("ij,ij->i", own, stranger_too)
    cell_person = np.array([number[person] for _, person in keys], np.int64)
    person_of = cell_person[cell_a]
    weight = 1.0 / np.bincount(person_of, minlength=len(people))[person_of]
    return PairSample(same, different, weight / weight.sum(), person_of, cell_person[stranger], behind)


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
    similarity: list[Float64] = []
    for i, (camera, name) in enumerate(names):
        near = [j for j in range(i + 1, int(last[i])) if names[j][0] != camera and names[j][1] != name]
        chosen = rng.permutation(np.array(near, np.int64))[:each].tolist()
        first += [i] * len(chosen)
        second += chosen
        similarity.append(vectors[chosen] @ vectors[i])
    if not first:
        raise CalibrationError("calibration: no two cameras saw different tracks within a second of each other")
    return DifferentPairs(np.concatenate(similarity), track[first], track[second])


def _means(embeddings: Float32, rows: Int64, weight: NDArray[np.floating[Any]]) -> Float64:
    """What `evidence.side` makes of each row of pictures (pairs, count): means of unit vectors (pairs, d)."""
    vectors = embeddings[rows].astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    share = weight[rows] / weight[rows].sum(axis=1, keepdims=True)
    means: Float64 = np.einsum("ij,ijk->ik", share, vectors)
    return means


def _people_once(embeddings: Float32, pictures: Sequence[Picture]) -> list[int]:
    if embeddings.ndim != 2 or len(embeddings) != len(pictures):
        raise CalibrationError(
            f"calibration: expected embeddings ({len(pictures)}, d), a row a picture, got {embeddings.shape}"
        )
    first = {picture.path: row for row, picture in reversed(list(enumerate(pictures))) if picture.role == "person"}
    return sorted(first.values())
