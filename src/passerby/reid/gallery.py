"""The people seen so far, as unit vectors with camera and time: add, remove, forget, search, save and load."""

import io
import json
import logging
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from passerby.files import whole
from passerby.reid.evidence import side
from passerby.reid.index import PeopleIndex, index_available
from passerby.types import Float32, GalleryError, Int64

VERSION = 2
READABLE = (1, 2)  # 1 kept no quality
EXACT_UP_TO = 100_000  # people; above, a search looks at the likely ones alone where faiss is installed
UNIT_TOLERANCE = 1e-3

log = logging.getLogger("passerby")


def utc_now() -> datetime:
    """The time now, timezone-aware UTC; the one place where the library looks at a clock for data."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """What one `add` brought: a person's vectors (n, length) from one camera at one time, and their quality (n,)."""

    person: str
    vectors: Float32
    camera: str | None
    seen_at: datetime
    quality: Float32


@dataclass(frozen=True, slots=True)
class Candidates:
    """Who may be the person of each query: `names[rows[q, c]]` with cosine `similarities[q, c]`, of `people` in all.

    `rows` and `similarities` are (queries, candidates); a row of -1 is nobody. Up to 100,000 people everybody is a
    candidate and `others` (queries, 0) is empty; above, `others` (queries, drawn) are cosines with people drawn evenly
    from all, NaN where one of them is a candidate. `pictures` and `quality` (names,) are what `known_by` says of each.
    """

    names: tuple[str, ...]
    pictures: Int64
    quality: Float32
    rows: Int64
    similarities: Float32
    others: Float32
    people: int


class Gallery:
    """Anonymous people by name, searched by cosine; safe to use from several threads.

    Up to 100,000 people are searched exactly, in one matrix product. Above, `candidates` looks among the likely ones
    alone where `passerby[index]` is installed, and says once, in the log, that it takes longer where it is not.

    `model` is the hash of the network file and precision that made the vectors; a saved gallery of another model is
    refused, since its vectors mean nothing to this one.

    >>> gallery = Gallery(length=2, model="abc")
    >>> gallery.add("visitor-1", np.array([[1.0, 0.0]]), camera="aisle")
    >>> "visitor-1" in gallery, len(gallery)
    (True, 1)
    """

    def __init__(self, *, length: int, model: str, clock: Callable[[], datetime] = utc_now) -> None:
        self.length, self.model = length, model
        self._clock = clock
        self._entries: dict[str, tuple[Entry, ...]] = {}
        self._view: tuple[tuple[str, ...], Float32, Int64, Float32] | None = None
        self._index: PeopleIndex | None = None
        self._told = False
        self._lock = threading.RLock()

    def add(
        self,
        person: str,
        vectors: ArrayLike,
        *,
        camera: str | None = None,
        seen_at: datetime | None = None,
        quality: ArrayLike = 1.0,
    ) -> None:
        """Add vectors (n, length) or (length,) of unit length to a person, who need not be known yet.

        `seen_at` is timezone-aware; left out, it is now, so that everything in a gallery can expire. `quality`, 0..1, one
        for all or (n,), says how much each picture can say. Raises GalleryError for an empty name, a wrong shape, a
        quality outside 0..1, vectors that are not finite or not of unit length, or that cancel each other out; nothing is
        changed then.
        """
        if not isinstance(person, str) or not person:
            raise GalleryError(f"gallery: expected a person's name as text, got {person!r}")
        if camera is not None and not isinstance(camera, str):
            raise GalleryError(f"gallery: expected a camera's name as text, got {camera!r}")
        checked = self._checked(vectors)
        if seen_at is not None and (not isinstance(seen_at, datetime) or seen_at.tzinfo is None):
            raise GalleryError(f"gallery: seen_at must be a timezone-aware datetime, got {seen_at!r}")
        rated = _checked_quality(quality, len(checked))
        entry = Entry(person, checked, camera, seen_at.astimezone(UTC) if seen_at else self._clock(), rated)
        with self._lock:
            entries = (*self._entries.get(person, ()), entry)
            direction = _direction(entries)  # refuses what no search could be made with
            self._entries[person] = entries
            self._view = None
            if self._index is not None:
                self._index.put(person, direction)

    def remove(self, person: str) -> None:
        """Forget a person; GalleryError where nobody has that name."""
        with self._lock:
            if person not in self._entries:
                raise GalleryError(f"gallery: nobody is called {person!r}")
            del self._entries[person]
            self._view = None
            if self._index is not None:
                self._index.remove([person])

    def expire(self, before: datetime) -> int:
        """Forget everything seen before a time (timezone-aware); returns how many people are gone altogether."""
        if not isinstance(before, datetime) or before.tzinfo is None:
            raise GalleryError(f"gallery: expire(before) needs a timezone-aware datetime, got {before!r}")
        with self._lock:
            kept = {
                person: left
                for person, entries in self._entries.items()
                if (left := tuple(e for e in entries if e.seen_at >= before))
            }
            gone = [person for person in self._entries if person not in kept]
            if self._index is not None:
                self._index.remove(gone)
                for person, left in kept.items():
                    if len(left) < len(self._entries[person]):
                        self._index.put(person, _direction(left))
            self._entries, self._view = kept, None
            return len(gone)

    def entries(self, person: str) -> tuple[Entry, ...]:
        """What is kept of a person, oldest addition first."""
        with self._lock:
            return self._entries.get(person, ())

    def known_by(self, person: str) -> tuple[int, float]:
        """How many pictures' worth is known of a person (the sum of their quality, at least 1), and the best quality."""
        entries = self.entries(person)
        if not entries:
            raise GalleryError(f"gallery: nobody is called {person!r}")
        quality = np.concatenate([entry.quality for entry in entries])
        return max(1, int(quality.sum() + 1e-3)), float(quality.max())

    def similarities(self, queries: Float32) -> tuple[tuple[str, ...], Float32]:
        """The people's names, and the cosine (queries, people) of each query with each person's mean direction."""
        checked = self._checked(queries)
        names, matrix, _, _ = self._everybody()
        return names, checked @ matrix.T

    def candidates(self, queries: Float32, count: int) -> Candidates:
        """Who each query (queries, length) may show: everybody, or above 100,000 people the `count` nearest, likely.

        Cosines are exact in any case; the first search above 100,000 people builds the index, which takes some seconds.
        """
        checked = np.asarray(queries, np.float32)
        if checked.ndim != 2 or checked.shape[1] != self.length:
            raise GalleryError(
                f"gallery: expected queries of (n, {self.length}), got {checked.shape}; were they made with another model?"
            )
        with self._lock:
            index = self._large()
            if index is not None:
                names, rows, similarities, others = index.search(checked, count)
                return Candidates(names, *self._known(names), rows, similarities, others, people=len(index))
        names, matrix, pictures, quality = self._everybody()
        rows = np.broadcast_to(np.arange(len(names)), (len(checked), len(names)))
        nobody = np.empty((len(checked), 0), np.float32)
        return Candidates(names, pictures, quality, rows, checked @ matrix.T, nobody, len(names))

    def _everybody(self) -> tuple[tuple[str, ...], Float32, Int64, Float32]:
        """Names, mean directions (people, length), and what `known_by` says of each."""
        with self._lock:
            if self._view is None:
                names, matrix = self._directions()
                self._view = names, matrix, *self._known(names)
            return self._view

    def _known(self, names: tuple[str, ...]) -> tuple[Int64, Float32]:
        known = [self.known_by(name) for name in names]
        return np.array([number for number, _ in known], np.int64), np.array([best for _, best in known], np.float32)

    def _large(self) -> PeopleIndex | None:
        """The index, where the gallery is large enough for one; rebuilt once the people are half or twice as many."""
        if len(self._entries) <= EXACT_UP_TO:
            self._index = None
        elif not index_available():
            if not self._told:
                log.warning(
                    "gallery: %d people are searched one by one, which is exact but slow; above %d, "
                    'pip install "passerby[index]" makes it quicker',
                    len(self._entries),
                    EXACT_UP_TO,
                )
                self._told = True
        elif self._index is None or not 0.5 <= len(self._index) / self._index.built_with <= 2:
            self._index, self._view = PeopleIndex(*self._directions()), None
        return self._index

    def _directions(self) -> tuple[tuple[str, ...], Float32]:
        names = tuple(self._entries)
        rows = [_direction(self._entries[name]) for name in names]
        return names, np.stack(rows) if rows else np.empty((0, self.length), np.float32)

    def save(self, path: str | Path) -> None:
        """Write everything to one file, whole or not at all."""
        path = Path(path)
        with self._lock:
            entries = [entry for person in self._entries for entry in self._entries[person]]
        header = {
            "passerby_gallery": VERSION,
            "model": self.model,
            "length": self.length,
            "entries": [
                {
                    "person": e.person,
                    "camera": e.camera,
                    "seen_at": e.seen_at.isoformat(),
                    "vectors": len(e.vectors),
                    "quality": e.quality.astype(float).tolist(),
                }
                for e in entries
            ],
        }
        vectors = np.concatenate([e.vectors for e in entries]) if entries else np.empty((0, self.length), np.float32)
        with whole(path) as draft, draft.open("wb") as file:  # by its name alone, savez would add a suffix
            np.savez(file, header=np.frombuffer(json.dumps(header).encode(), np.uint8), vectors=vectors)

    def load(self, path: str | Path) -> None:
        """Replace the content by a saved gallery of the same model; on any error nothing is changed."""
        path = Path(path)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
                header = json.loads(stored["header"].tobytes())
                vectors = np.asarray(stored["vectors"], np.float32)
            version = header["passerby_gallery"]
            model, listed = header["model"], header["entries"]
        except FileNotFoundError:
            raise GalleryError(f"{path}: no such file") from None
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            EOFError,
            RuntimeError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            raise GalleryError(f"{path}: not a passerby gallery, or damaged ({error})") from error
        if version not in READABLE:
            raise GalleryError(f"{path}: expected gallery version {VERSION}, got {version}; update passerby")
        if model != self.model:
            raise GalleryError(
                f"{path}: was made with another model or precision ({str(model)[:20]}…, here {self.model[:20]}…); "
                "its vectors cannot be compared with this one's. Embed the pictures again"
            )
        entries: dict[str, tuple[Entry, ...]] = {}
        try:
            counts = [int(item["vectors"]) for item in listed]
            if sum(counts) != len(vectors) or min(counts, default=1) < 1:
                raise ValueError(f"{sum(counts)} vectors announced and {len(vectors)} found")
            for item, part in zip(listed, _parts(vectors, counts), strict=True):
                seen_at = datetime.fromisoformat(item["seen_at"])
                if seen_at.tzinfo is None or not item["person"]:
                    raise ValueError("an entry has no time zone or no name")
                if not isinstance(item["person"], str) or not isinstance(item["camera"], str | None):
                    raise ValueError("an entry's person or camera is no text")
                rated = _checked_quality(item["quality"] if version > 1 else 1.0, len(part))
                entry = Entry(item["person"], self._checked(part), item["camera"], seen_at, rated)
                entries[entry.person] = (*entries.get(entry.person, ()), entry)
            for known in entries.values():
                _direction(known)
        except (KeyError, TypeError, ValueError) as error:
            raise GalleryError(f"{path}: damaged ({error})") from error
        with self._lock:
            self._entries, self._view, self._index = entries, None, None

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, person: object) -> bool:
        return person in self._entries

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(tuple(self._entries))

    def _checked(self, vectors: ArrayLike) -> Float32:
        try:
            rows = np.atleast_2d(np.array(vectors, np.float32))  # a copy, so that the caller's array may change
        except (TypeError, ValueError):
            raise GalleryError(
                f"gallery: expected vectors of (n, {self.length}), got {type(vectors).__name__}"
            ) from None
        if rows.ndim != 2 or rows.shape[1] != self.length or len(rows) == 0:
            raise GalleryError(
                f"gallery: expected vectors of (n, {self.length}), got {np.shape(vectors)}; were they made with another model?"
            )
        norms = np.linalg.norm(rows, axis=1)
        if not np.isfinite(norms).all() or np.abs(norms - 1).max() > UNIT_TOLERANCE:
            raise GalleryError("gallery: expected finite vectors of unit length, as `embed` returns them")
        return rows


def _direction(entries: tuple[Entry, ...]) -> Float32:
    quality = np.concatenate([entry.quality for entry in entries])
    mean: Float32 = side(np.concatenate([entry.vectors for entry in entries]), quality).means[0]
    return mean


def _checked_quality(quality: ArrayLike, count: int) -> Float32:
    try:
        rated = np.broadcast_to(np.asarray(quality, np.float32), (count,)).copy()
    except (TypeError, ValueError):
        raise GalleryError(
            f"gallery: expected one quality or one for each of {count} vectors, got {quality!r}"
        ) from None
    if not ((rated >= 0) & (rated <= 1)).all():  # also false for NaN
        raise GalleryError(f"gallery: expected a quality of 0..1, got {quality!r}")
    return rated


def _parts(vectors: Float32, counts: list[int]) -> list[Float32]:
    ends = np.cumsum(counts)
    return [vectors[end - count : end] for count, end in zip(counts, ends.tolist(), strict=True)]
