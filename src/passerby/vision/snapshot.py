"""A state as bytes without vectors, and the vectors of each sighting beside it: these can be encrypted and erased alone."""

import io
import json
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passerby.shop import Crossing, Link, Sighting, SightingKey
from passerby.types import Float32, SightingError

VERSION = 3
Arrays = dict[str, NDArray[Any]]  # Any: numbers of every kind
Json = dict[str, Any]  # Any: JSON


class Vectors:
    """Vectors put away by sighting: `put` gives the place at which `get` finds them again."""

    def __init__(self, of: dict[SightingKey, Float32] | None = None) -> None:
        self._of: dict[SightingKey, list[Float32]] = {key: [rows] for key, rows in (of or {}).items()}

    def put(self, key: SightingKey, rows: Float32) -> int:
        """Put away vectors (n, length); where the first of them is among the sighting's."""
        kept = self._of.setdefault(key, [])
        place = sum(map(len, kept))
        kept.append(np.array(rows, np.float32))
        return place

    def get(self, key: SightingKey, place: int, count: int) -> Float32:
        """Vectors (count, length) that were put away. Raises SightingError where they are not all there."""
        (rows,) = self._of.get(key, [np.zeros((0, 0), np.float32)])
        if len(rows) < place + count:
            raise SightingError(
                f"snapshot: expected {place + count} vectors of {key}, got {len(rows)}; begin without it"
            )
        return rows[place : place + count]

    def all(self) -> dict[SightingKey, Float32]:
        """The vectors (n, length) of each sighting that has some."""
        return {key: np.concatenate(rows) for key, rows in self._of.items() if sum(map(len, rows))}


def packed(arrays: Arrays, entry: Json) -> bytes:
    """Arrays and what JSON holds as bytes."""
    file = io.BytesIO()
    text = np.frombuffer(json.dumps({"version": VERSION, **entry}).encode(), np.uint8)
    np.savez(file, allow_pickle=False, json=text, **arrays)  # packing it would take most of the time
    return file.getvalue()


def unpacked(state: bytes) -> tuple[Arrays, Json]:
    """What `packed` made. Raises SightingError where it is damaged or of another version."""
    try:
        with np.load(io.BytesIO(state), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        entry = json.loads(arrays.pop("json").tobytes())
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise SightingError(f"snapshot: expected one that passerby wrote, got {len(state)} bytes: {error}") from error
    if entry.get("version") != VERSION:
        raise SightingError(f"snapshot: expected version {VERSION}, got {entry.get('version')!r}; begin without it")
    return arrays, entry


def key_of(entry: list[Any]) -> SightingKey:  # Any: JSON
    """A key that JSON made a list of."""
    return SightingKey(*entry)


def link_entry(link: Link) -> list[object]:
    """A link as JSON types."""
    return [link.earlier, link.later, link.revision, link.probability, link.runner_up, link.runner_up_probability]


def link_of(entry: list[Any]) -> Link:  # Any: JSON
    """The link that `link_entry` wrote."""
    earlier, later, revision, probability, runner_up, second = entry
    other = None if runner_up is None else key_of(runner_up)
    return Link(key_of(earlier), key_of(later), revision, probability, other, second)


def sighting_entry(sighting: Sighting, vectors: Vectors | None) -> Json:
    """What an associator uses of a sighting, as JSON types; its prototypes go to `vectors`, or are left out."""
    entry: Json = {
        "key": sighting.key,
        "revision": sighting.revision,
        "state": sighting.state,
        "start": sighting.start.isoformat(),
        "end": sighting.end.isoformat(),
        "network": sighting.network,
        "crossings": [[c.line, c.at.isoformat(), c.inwards] for c in sighting.crossings],
        "path": sighting.path.tolist(),
        "path_on": sighting.path_on,
    }
    if vectors is not None and len(sighting.prototypes):
        entry["place"] = vectors.put(sighting.key, sighting.prototypes)
        entry["quality"], entry["pictures"] = sighting.quality.tolist(), sighting.pictures.tolist()
    return entry


def sighting_of(entry: Json, vectors: Vectors) -> Sighting:
    """The sighting that `sighting_entry` wrote."""
    key = key_of(entry["key"])
    many = len(entry.get("quality", ()))
    prototypes = vectors.get(key, entry["place"], many) if many else np.zeros((0, 0), np.float32)
    return Sighting(
        key,
        entry["revision"],
        entry["state"],
        datetime.fromisoformat(entry["start"]),
        datetime.fromisoformat(entry["end"]),
        prototypes,
        np.array(entry.get("quality", ()), np.float32),
        np.array(entry.get("pictures", ()), np.int64),
        entry["network"],
        crossings=tuple(Crossing(line, datetime.fromisoformat(at), way) for line, at, way in entry["crossings"]),
        path=np.array(entry["path"], np.float32).reshape(-1, 3),
        path_on=entry["path_on"],
    )
