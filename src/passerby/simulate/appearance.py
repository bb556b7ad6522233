"""What a simulated person looks like to a network: drawn vectors of a chosen difficulty, or a real person's crops."""

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from passerby.reid.assess import fit_all
from passerby.reid.calibration import Calibration
from passerby.reid.embedder import Embedder
from passerby.shop import MOST_PROTOTYPES
from passerby.simulate.plan import Looks
from passerby.simulate.tracking import Track
from passerby.simulate.watching import InView
from passerby.types import Float32, Int64, Picture, SimulationError

Dress = tuple[Float32, Float32, Int64]  # of a track: unit vectors (n, length), their quality (n,), pictures (n,)
LENGTH = 128
SHIFT = 0.4  # length of what a camera adds to every vector; a person's own part has length 1
ALIKE = 0.35  # length of what distinguishes a look-alike
OWN_OF_STAFF = 0.8  # of a member of staff, beside the uniform's 1
COAT = 0.6  # length of what changes where a coat comes off
LOOK_BACK = 30  # a look-alike resembles one of so many people who came before
GALLERY, DRAWS = 200, 20
ALL_RIGHT = 0.997  # what a Rank-1 of 1.0 asks for
# Rank-1 against the length of the noise of a sighting's mean vector, measured once with 400 draws as `measured_rank1` does;
# `python benchmarks/simulate.py table` measures it again.
RANK1_AT = (
    (1.0, 0.9991),
    (1.05, 0.9976),
    (1.1, 0.9936),
    (1.2, 0.9752),
    (1.3, 0.9318),
    (1.4, 0.8608),
    (1.5, 0.7667),
    (1.6, 0.6614),
    (1.7, 0.5602),
    (1.8, 0.4666),
    (1.9, 0.3857),
    (2.0, 0.3169),
    (2.1, 0.26),
    (2.2, 0.2154),
    (2.3, 0.1791),
)
FITTED_PEOPLE, FITTED_CAMERAS = 300, 4
MOST_SHOPPERS = 700  # real people who can be worn; Market-1501 has 750, and the others are false sightings


class DrawnVectors:
    """Vectors on the sphere: person + camera's shift + noise, part of which a whole track shares.

    A person's looks follow from the seed and the person's number alone. `noise` is the length of the noise, see
    `noise_for`.
    """

    length = LENGTH

    def __init__(self, looks: Looks, *, seed: int, cameras: int) -> None:
        self.looks, self.seed = looks, seed
        self.noise = noise_for(looks.rank1, looks.correlation)
        self.shifts = SHIFT * _directions(np.random.default_rng([seed, 5]), cameras)  # (cameras, LENGTH)
        self._uniform = _directions(np.random.default_rng([seed, 6]), 1)[0]
        self._rng = np.random.default_rng([seed, 7])
        self._anchor = lru_cache(maxsize=4096)(self._person)

    def __call__(self, tracks: Sequence[Track]) -> list[Dress]:
        """(unit vectors (n, LENGTH), quality (n,), pictures (n,)) of each track.

        A prototype is of whoever holds its part of the track, mixed by their time. It is worth one picture: how many frames it
        would be the mean of is in the noise that `looks.rank1` asks for.
        """
        parts = [track.prototypes() for track in tracks]
        anchors = np.empty((len(tracks), MOST_PROTOTYPES, LENGTH), np.float32)
        for row, (track, mine) in enumerate(zip(tracks, parts, strict=True)):
            if len(track.pieces) == 1:
                anchors[row] = self._anchor_of(track.pieces[0].view)
                continue
            own = {id(piece.view): self._anchor_of(piece.view) for piece in track.pieces}
            for number in range(MOST_PROTOTYPES):
                part = mine[min(number, len(mine) - 1)]
                held = track.shares(part.since_s, part.until_s)
                anchors[row, number] = sum(np.float32(share) * own[id(view)] for view, share in held)
        shifts = self.shifts[[track.camera for track in tracks]]
        vectors = _noisy(anchors, shifts, noise=self.noise, correlation=self.looks.correlation, rng=self._rng)
        return [
            (row[: len(mine)], np.ones(len(mine), np.float32), np.ones(len(mine), np.int64))
            for row, mine in zip(vectors, parts, strict=True)
        ]

    def _anchor_of(self, view: InView) -> Float32:
        return _directions(self._rng, 1)[0] if view.person is None else self._anchor(view.person, view.coat_off)

    def calibration(self) -> Calibration:
        """What a cosine of these vectors means, for as many prototypes as two sightings have.

        Fitted on other people than the shop's, look-alikes in the same share, in four other cameras.
        """
        rng = np.random.default_rng([self.seed, 8])
        anchors = _directions(rng, FITTED_PEOPLE)
        for person in np.flatnonzero(rng.random(FITTED_PEOPLE) < self.looks.look_alikes):
            anchors[person] = _unit(anchors[rng.integers(FITTED_PEOPLE)] + ALIKE * anchors[person])
        shifts = SHIFT * _directions(rng, FITTED_CAMERAS)
        vectors = np.stack(
            [
                _noisy(_prototypes_of(anchors), shift, noise=self.noise, correlation=self.looks.correlation, rng=rng)
                for shift in shifts
            ]
        )  # (cameras, people, prototypes, length)
        pictures = [
            Picture(path=Path(f"{camera}-{person}-{number}"), person=str(person), camera=str(camera))
            for camera in range(FITTED_CAMERAS)
            for person in range(FITTED_PEOPLE)
            for number in range(MOST_PROTOTYPES)
        ]
        return fit_all(
            [(vectors.reshape(-1, LENGTH), np.ones(len(pictures), np.float32), pictures)],
            file_sha256=self.sha256,
            precision="vectors",
            fitted_on=f"{FITTED_PEOPLE} simulated people in {FITTED_CAMERAS} cameras",
            draws=2,
            at_least=0,
        )

    @property
    def network(self) -> str:
        """What makes the vectors, for the sightings that hold them."""
        return f"{self.sha256}:vectors"

    @property
    def sha256(self) -> str:
        """What a calibration of these vectors is bound to: how they are drawn."""
        described = (LENGTH, SHIFT, ALIKE, self.looks.look_alikes, self.looks.correlation, self.noise, self.seed)
        return hashlib.sha256(repr(described).encode()).hexdigest()

    def _person(self, person: int, coat_off: bool) -> Float32:
        rng = np.random.default_rng([self.seed, 9, abs(person), int(person < 0)])
        own: Float32 = _directions(rng, 1)[0]
        if person < 0:
            own = _unit(self._uniform + OWN_OF_STAFF * own)
        elif person > 1 and rng.random() < self.looks.look_alikes:
            other = person - int(rng.integers(1, min(LOOK_BACK, person - 1) + 1))
            own = _unit(_directions(np.random.default_rng([self.seed, 9, other, 0]), 1)[0] + ALIKE * own)
        if coat_off:
            own = _unit(own + COAT * _directions(rng, 1)[0])
        return own


class RealCrops:
    """Each shopper wears the crops of one real person, camera for camera, so that vectors and their errors are real.

    Shopper n is the nth of the set's people, shuffled with the seed; camera n of the shop is camera n of the data set. A
    sighting takes one or two crops of that person in that camera, each crop once; where none is left the sighting is
    missed. A track of several people takes them of whoever holds most of it, or of each half of it. A false sighting wears one
    crop of somebody who never comes, another one each time. `calibration` is the model's own.
    """

    def __init__(self, pictures: Sequence[Picture], embedder: Embedder, *, seed: int, cameras: int) -> None:
        rng = np.random.default_rng([seed, 12])
        views = sorted({p.camera for p in pictures if p.camera is not None})
        if cameras > len(views):
            raise SimulationError(
                f"people: the shop has {cameras} cameras, the data set {len(views)}; use a shop with fewer, or other data"
            )
        left: dict[str, dict[int, list[Picture]]] = {}
        for picture in pictures:
            if picture.camera in views[:cameras] and picture.role == "person":
                left.setdefault(picture.person, {}).setdefault(views.index(picture.camera), []).append(picture)
        people = [left[name] for name in sorted(left) if len(left[name]) > 1]  # the others can never be linked
        for person in people:
            for crops in person.values():
                rng.shuffle(crops)
        self._people = [people[i] for i in rng.permutation(len(people))]
        self._came = 0
        self._embedder, self._rng = embedder, rng

    @property
    def length(self) -> int:
        """Numbers of a vector."""
        return self._embedder.length

    @property
    def network(self) -> str:
        """The network's file and precision, for the sightings that hold its vectors."""
        return f"{self._embedder.file_sha256}:{self._embedder.precision}"

    def __call__(self, tracks: Sequence[Track]) -> list[Dress]:
        """(unit vectors, quality, pictures: 1 each) of each track, none where no crop is left; coats stay on."""
        taken = [self._take(track) for track in tracks]
        flat = [path for paths in taken for path in paths]
        vectors, quality = self._embedder.embed_rated(flat)
        ends = np.cumsum([len(paths) for paths in taken])[:-1]
        one = np.ones(len(flat), np.int64)
        return list(zip(np.split(vectors, ends), np.split(quality, ends), np.split(one, ends), strict=True))

    def calibration(self) -> Calibration | None:
        """What the model's card says a cosine means at this precision; None without a card that does."""
        card = self._embedder.card
        entry = card and card.calibrations.get(self._embedder.precision)
        return Calibration.from_dict(entry) if entry else None

    def _take(self, track: Track) -> list[Path]:
        wanted = 1 + int(self._rng.random() < 0.5)
        times = np.linspace(track.start_s, track.end_s, wanted + 1).tolist()
        holders = [track.holder(*part).person for part in pairwise(times)]
        if track.person is None:
            return self._of_nobody(track.camera)
        return [path for person in holders for path in self._of(person or track.person, track.camera)]

    def _of(self, person: int, camera: int) -> list[Path]:
        people = min(MOST_SHOPPERS, len(self._people))
        if person > people:
            raise SimulationError(
                f"people: {people} real people can be worn, but shopper {person} came; simulate for a shorter --duration, or "
                "fewer arrivals"
            )
        self._came = max(self._came, person)
        crops = self._people[person - 1].get(camera, [])
        return [crops.pop().path] if crops else []

    def _of_nobody(self, camera: int) -> list[Path]:
        """A crop of the last of those who have not come, who then never will; none where all are used up."""
        for place in range(len(self._people) - 1, self._came - 1, -1):
            if self._people[place].get(camera):
                return [self._people.pop(place)[camera].pop().path]
        return []


def noise_for(rank1: float, correlation: float) -> float:
    """The length of the noise at which `measured_rank1` is `rank1` (0.2 to 1; 1 asks for 0.997).

    Read off RANK1_AT: what counts is the noise of a sighting's mean vector, which a track's own part leaves and the mean
    of the prototypes' parts shrinks.
    """
    lengths, reached = np.array(RANK1_AT).T
    of_mean = float(np.interp(-min(rank1, ALL_RIGHT), -reached, lengths))
    return of_mean / math.sqrt(correlation + (1 - correlation) / MOST_PROTOTYPES)


def measured_rank1(noise: float, correlation: float, *, seed: int, draws: int = DRAWS) -> float:
    """The cross-camera Rank-1 of drawn vectors, 0..1.

    The mean vector of one sighting each of 200 people against one sighting each of the same people in another camera;
    the mean of the draws. No look-alikes.
    """
    right = []
    for draw in range(draws):
        rng = np.random.default_rng([seed, 10, draw])
        anchors, shifts = _directions(rng, GALLERY), SHIFT * _directions(rng, 2)
        query, gallery = (
            _means(_noisy(_prototypes_of(anchors), shift, noise=noise, correlation=correlation, rng=rng))
            for shift in shifts
        )
        right.append(np.mean((query @ gallery.T).argmax(axis=1) == np.arange(GALLERY)))
    return float(np.mean(right))


def _prototypes_of(anchors: Float32) -> Float32:
    """The anchors (n, MOST_PROTOTYPES, LENGTH) of tracks with all prototypes, each of one person: (n, LENGTH)."""
    return np.repeat(anchors[:, None], MOST_PROTOTYPES, axis=1)


def _noisy(anchors: Float32, shifts: Float32, *, noise: float, correlation: float, rng: np.random.Generator) -> Float32:
    """Vectors of n tracks as `anchors` (n, each, LENGTH); `shifts` are (n, LENGTH) or (LENGTH,).

    Their noise has length `noise`; of its variance a track shares a part.
    """
    count, each, _ = anchors.shape
    of_track = rng.standard_normal((count, 1, LENGTH), np.float32)
    own = rng.standard_normal((count, each, LENGTH), np.float32)
    noises = (math.sqrt(correlation) * of_track + math.sqrt(1 - correlation) * own) * np.float32(noise / LENGTH**0.5)
    return _unit(anchors + shifts[..., None, :] + noises)


def _means(vectors: Float32) -> Float32:
    return _unit(vectors.mean(axis=1))


def _directions(rng: np.random.Generator, count: int) -> Float32:
    return _unit(rng.standard_normal((count, LENGTH), np.float32))


def _unit(vectors: Float32) -> Float32:
    result: Float32 = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return result
