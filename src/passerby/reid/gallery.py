"""The people seen so far, as unit vectors with camera and time: add, remove, forget, search, save and load."""

import io
import json
import logging
import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from passerby.files import whole
from passerby.reid.evidence import LEAST_WEIGHT
from passerby.reid.index import PeopleIndex, index_available
from passerby.types import Float32, Float64, GalleryError, Int64

VERSION = 3
READABLE = (1, 2, 3)  # 1 kept no quality, 2 no number of pictures
EXACT_UP_TO = 100_000  # people; above, a search looks at the likely ones alone where faiss is installed
UNIT_TOLERANCE = 1e-3

log = logging.getLogger("passerby")


def utc_now() -> datetime:
    """The time now, timezone-aware UTC; the one place where the library looks at a clock for data."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """What one `add` brought: a person's vectors (n, length) from one camera at one time.

    `quality` (n,), 0..1, is theirs, and `pictures` (n,) says how many pictures are behind each.
    """

    person: str
    vectors: Float32
    camera: str | None
    seen_at: datetime
    quality: Float32
    pictures: Int64


@dataclass(frozen=True, slots=True)
class Candidates:
    """Who may be the person of each query: `names[rows[q, c]]` with mean cosine `similarities[q, c]`, of `people` in all.

    `rows` and `similarities` are (queries, candidates); a row of -1 is nobody. Up to 100,000 people everybody is a
    candidate and `others` (queries, 0) is empty; above, `others` (queries, drawn) are cosines with people drawn evenly
    from all, NaN where one of them is a candidate. `pictures` and `quality` (names,) are what `known_by` says of each.
    """

    names: tuple[str, ...]
    pictures: Float64
    quality: Float32
    rows: Int64
    similarities: Float32
    others: Float32
    people: int


@dataclass(frozen=True, slots=True)
class _Sum:
    """What a person's entries come to, as `evidence.side` has it of all their vectors: the weighted `mean` (length,), the
    sum of the `weight`, that of quality times `pictures`, and the best `quality`."""

    mean: Float32
    weight: float = 0.0
    pictures: float = 0.0
    quality: float = 0.0

    def plus(self, entry: Entry) -> "_Sum":
        worth = entry.quality.astype(np.float64) * entry.pictures
        weights = np.maximum(worth, LEAST_WEIGHT)
        weight = self.weight + float(weights.sum())
        total = self.mean.astype(np.float64) * self.weight + weights @ entry.vectors.astype(np.float64)
        return _Sum(
            np.asarray(total / weight, np.float32),
            weight,
            self.pictures + float(worth.sum()),
            max(self.quality, float(entry.quality.max())),
        )


class _Means:
    """A row a person, as `_Sum` describes it; changed in place. The arrays are longer than there are people.

    It follows from the entries in their order alone, so that a loaded gallery is the one that was saved to the last bit.
    """

    def __init__(self, length: int) -> None:
        self.names: list[str] = []
        self.row: dict[str, int] = {}
        self.means: Float32 = np.zeros((16, length), np.float32)
        self.weights, self.pictures = np.zeros(16), np.zeros(16)
        self.quality: Float32 = np.zeros(16, np.float32)

    def add(self, person: str, entry: Entry) -> None:
        """Let an entry count for a person."""
        row = self.row.get(person)
        before = _Sum(np.zeros_like(self.means[0]))
        if row is not None:
            before = _Sum(
                self.means[row], float(self.weights[row]), float(self.pictures[row]), float(self.quality[row])
            )
        self._keep(person, before.plus(entry))

    def replace(self, person: str, entries: Iterable[Entry]) -> None:
        """Let these entries alone count for a person; at least one."""
        total = _Sum(np.zeros_like(self.means[0]))
        for entry in entries:
            total = total.plus(entry)
        self._keep(person, total)

    def remove(self, person: str) -> None:
        """Take a person's row out; the last one takes its place, and nothing of it stays behind."""
        row, last = self.row.pop(person), len(self.names) - 1
        if row != last:
            self.names[row] = self.names[last]
            self.row[self.names[row]] = row
        self.names.pop()
        for each in (self.means, self.weights, self.pictures, self.quality):
            each[row] = each[last]
            each[last] = 0

    def _keep(self, person: str, total: _Sum) -> None:
        row = self.row[person] if person in self.row else self._new_row(person)
        self.means[row], self.quality[row] = total.mean, total.quality
        self.weights[row], self.pictures[row] = total.weight, total.pictures

    def _new_row(self, person: str) -> int:
        row = len(self.names)
        if row == len(self.weights):
            self.means = np.concatenate([self.means, np.zeros_like(self.means)])
            self.weights, self.pictures, self.quality = (
                np.concatenate([each, np.zeros_like(each)]) for each in (self.weights, self.pictures, self.quality)
            )
        self.names.append(person)
        self.row[person] = row
        return row


class Gallery:
    """Anonymous people by name, searched by cosine; safe to use from several threads.

    Whoever is added, removed or forgotten changes a row of one matrix, so that the next search costs what it costs anyway;
    a forked process goes on with what it had, and a gallery may be pickled.

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
        self._entries: dict[str, list[Entry]] = {}
        self._means = _Means(length)
        self._names: tuple[str, ...] | None = ()  # of the rows; None until someone asks
        self._index: PeopleIndex | None = None
        self._told = False
        self._locks: dict[int, threading.RLock] = {}  # by process

    def add(
        self,
        person: str,
        vectors: ArrayLike,
        *,
        camera: str | None = None,
        seen_at: datetime | None = None,
        quality: ArrayLike = 1.0,
        pictures: ArrayLike = 1,
    ) -> None:
        """Add vectors (n, length) or (length,) of unit length to a person, who need not be known yet.

        `seen_at` is timezone-aware; left out, it is now, so that everything in a gallery can expire. `quality`, 0..1, one
        for all or (n,), says how much each picture can say; `pictures`, likewise, how many are behind each vector: it
        weighs as much as they would. Raises GalleryError for an empty name, a wrong shape, a quality outside 0..1, fewer
        than one picture, or vectors that are not finite or not of unit length; nothing is changed then.
        """
        if not isinstance(person, str) or not person:
            raise GalleryError(f"gallery: expected a person's name as text, got {person!r}")
        if camera is not None and not isinstance(camera, str):
            raise GalleryError(f"gallery: expected a camera's name as text, got {camera!r}")
        checked = self._checked(vectors)
        if seen_at is not None and (not isinstance(seen_at, datetime) or seen_at.tzinfo is None):
            raise GalleryError(f"gallery: seen_at must be a timezone-aware datetime, got {seen_at!r}")
        rated, behind = _checked_quality(quality, len(checked)), _checked_pictures(pictures, len(checked))
        when = seen_at.astimezone(UTC) if seen_at else self._clock()
        entry = Entry(person, checked, camera, when, rated, behind)
        with self._lock:
            self._means.add(person, entry)
            if person not in self._entries:
                self._names = None
            self._entries.setdefault(person, []).append(entry)
            if self._index is not None:
                self._index.put(person, self._means.means[self._means.row[person]])

    def remove(self, person: str) -> None:
        """Forget a person; GalleryError where nobody has that name."""
        with self._lock:
            if person not in self._entries:
                raise GalleryError(f"gallery: nobody is called {person!r}")
            self._forget(person)

    def _forget(self, person: str) -> None:
        del self._entries[person]
        self._means.remove(person)
        self._names = None
        if self._index is not None:
            self._index.remove([person])

    def expire(self, before: datetime) -> int:
        """Forget everything seen before a time (timezone-aware); returns how many people are gone altogether."""
        if not isinstance(before, datetime) or before.tzinfo is None:
            raise GalleryError(f"gallery: expire(before) needs a timezone-aware datetime, got {before!r}")
        gone = 0
        with self._lock:
            for person, entries in list(self._entries.items()):
                left = [entry for entry in entries if entry.seen_at >= before]
                if len(left) == len(entries):
                    continue
                if not left:
                    self._forget(person)
                    gone += 1
                    continue
                self._means.replace(person, left)
                self._entries[person] = left
                if self._index is not None:
                    self._index.put(person, self._means.means[self._means.row[person]])
        return gone

    def entries(self, person: str) -> tuple[Entry, ...]:
        """What is kept of a person, oldest addition first."""
        with self._lock:
            return tuple(self._entries.get(person, ()))

    def known_by(self, person: str) -> tuple[float, float]:
        """How many good pictures' worth is known of a person (the sum of quality times pictures, at least 1), and the best
        quality."""
        with self._lock:
            row = self._means.row.get(person)
            if row is None:
                raise GalleryError(f"gallery: nobody is called {person!r}")
            return max(1.0, float(self._means.pictures[row])), float(self._means.quality[row])

    def similarities(self, queries: Float32) -> tuple[tuple[str, ...], Float32]:
        """The people's names, and the mean cosine (queries, people) of each query with each person's pictures."""
        checked = self._checked(queries)
        with self._lock:
            return self._listed(), checked @ self._means.means[: len(self._entries)].T

    def candidates(self, queries: Float32, count: int) -> Candidates:
        """Who each query (queries, length) may show: everybody, or above 100,000 people the `count` nearest, likely.

        Queries are unit vectors, or means of several as `evidence.Sides` has them. Cosines are exact in any case; the first
        search above 100,000 people builds the index, which takes some seconds.
        """
        given = np.asarray(queries, np.float32)
        if given.ndim != 2 or given.shape[1] != self.length:
            raise GalleryError(
                f"gallery: expected queries of (n, {self.length}), got {given.shape}; were they made with another model?"
            )
        with self._lock:
            index, means = self._large(), self._means
            if index is not None:
                names, rows, similarities, others = index.search(given, count)
                where = np.array([means.row[name] for name in names], np.int64)
            else:
                names = self._listed()
                similarities = given @ means.means[: len(names)].T
                where = np.arange(len(names))
                rows = np.broadcast_to(where, similarities.shape)
                others = np.empty((len(given), 0), np.float32)
            pictures, quality = np.maximum(means.pictures[where], 1.0), means.quality[where]
            return Candidates(names, pictures, quality, rows, similarities, others, len(self._entries))

    def _listed(self) -> tuple[str, ...]:
        """The people's names in the order of their rows."""
        if self._names is None:
            self._names = tuple(self._means.names)
        return self._names

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
            self._index = PeopleIndex(self._listed(), self._means.means[: len(self._entries)])
        return self._index

    @property
    def _lock(self) -> threading.RLock:
        """This process's lock. In a forked child, where another thread may have held the parent's, all that is derived of
        the entries is made anew."""
        lock = self._locks.get(os.getpid())
        if lock is None:
            lock = threading.RLock()
            with lock:
                first = self._locks.setdefault(os.getpid(), lock)
                if first is lock and len(self._locks) > 1:
                    self._means, self._names, self._index = _means_of(self._entries, self.length), None, None
            lock = first
        return lock

    def __getstate__(
        self,
    ) -> dict[str, Any]:  # what `pickle` keeps: the fields but for locks and what is made of entries
        with self._lock:
            left_out: dict[str, Any] = {"_locks": {}, "_means": None, "_names": None, "_index": None}
            return self.__dict__ | left_out | {"_entries": {who: list(each) for who, each in self._entries.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._means = _means_of(self._entries, self.length)

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
                    "pictures": e.pictures.tolist(),
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
            theirs, ours = _precision_of(model), _precision_of(self.model)
            again = f"open the model with precision={theirs!r} if it is the same, or " if theirs != ours else ""
            raise GalleryError(
                f"{path}: was made with another model or precision: {_described(model)}, here {_described(self.model)}; "
                f"their vectors cannot be compared: {again}embed the pictures again"
            )
        entries: dict[str, list[Entry]] = {}
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
                behind = _checked_pictures(item["pictures"] if version > 2 else 1, len(part))
                entry = Entry(item["person"], self._checked(part), item["camera"], seen_at, rated, behind)
                entries.setdefault(entry.person, []).append(entry)
            means = _means_of(entries, self.length)
        except (KeyError, TypeError, ValueError) as error:
            raise GalleryError(f"{path}: damaged ({error})") from error
        with self._lock:
            self._entries, self._means, self._names, self._index = entries, means, None, None

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


def _means_of(entries: dict[str, list[Entry]], length: int) -> _Means:
    means = _Means(length)
    for person, each in entries.items():
        means.replace(person, each)
    return means


def _precision_of(model: object) -> str | None:
    """The precision in a gallery's model, HASH:PRECISION; None where it has another form."""
    _, found, precision = str(model).rpartition(":")
    return precision if found else None


def _described(model: object) -> str:
    precision, network = _precision_of(model), str(model).partition(":")[0][:12]
    return f"{precision} of network {network}…" if precision else f"{network}…"


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


def _checked_pictures(pictures: ArrayLike, count: int) -> Int64:
    try:
        given = np.asarray(pictures)
        behind = np.broadcast_to(given, (count,)).astype(np.int64)
    except (TypeError, ValueError):
        raise GalleryError(
            f"gallery: expected one number of pictures or one for each of {count} vectors, got {pictures!r}"
        ) from None
    if not np.issubdtype(given.dtype, np.integer) or (behind < 1).any():
        raise GalleryError(f"gallery: expected whole numbers of pictures, at least 1, got {pictures!r}")
    return behind


def _parts(vectors: Float32, counts: list[int]) -> list[Float32]:
    ends = np.cumsum(counts)
    return [vectors[end - count : end] for count, end in zip(counts, ends.tolist(), strict=True)]
