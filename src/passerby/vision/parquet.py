"""Parquet files: sightings, a row a revision, in the order in which they became known; and visits."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from passerby.files import whole
from passerby.shop import Crossing, Sighting, SightingKey, Stay
from passerby.types import SightingError

ROWS = 4096  # held before they are written
FORMAT, VERSION = "passerby sightings", 2
TIME = pa.timestamp("us", tz="UTC")


def schema(length: int) -> pa.Schema:
    """The columns; prototypes are float16 vectors of that length."""
    return pa.schema(
        [
            ("site", pa.string()),
            ("camera", pa.string()),
            ("session", pa.string()),
            ("track", pa.int64()),
            ("revision", pa.int32()),
            ("state", pa.string()),
            ("start", TIME),
            ("end", TIME),
            ("prototypes", pa.list_(pa.list_(pa.float16(), length))),
            ("quality", pa.list_(pa.float32())),
            ("pictures", pa.list_(pa.int32())),
            ("network", pa.string()),
            ("stays", pa.list_(pa.struct([("zone", pa.string()), ("start", TIME), ("end", TIME)]))),
            ("crossings", pa.list_(pa.struct([("line", pa.string()), ("at", TIME), ("inwards", pa.bool_())]))),
            ("path", pa.list_(pa.list_(pa.float32(), 3))),
            ("path_on", pa.string()),
        ],
        metadata={b"format": f"{FORMAT} {VERSION}".encode(), b"length": json.dumps(length).encode()},
    )


class SightingWriter:
    """Writes sightings to a Parquet file, a few thousand at a time; use it in a `with` block.

    The vectors are kept as float16: a cosine changes by less than 0.001. The file is there when the block has ended, and
    whole; a block that fails leaves what was there before.
    """

    def __init__(self, path: Path, *, length: int) -> None:
        self._path, self._schema, self._length = path, schema(length), length
        self._rows: list[Sighting] = []
        self._open = ExitStack()

    def write(self, sighting: Sighting) -> None:
        """Add one revision; raises SightingError where its vectors are of another length."""
        if len(sighting.prototypes) and sighting.prototypes.shape[1] != self._length:
            raise SightingError(
                f"sighting {sighting.key}: expected vectors of length {self._length}, got {sighting.prototypes.shape[1]}"
            )
        self._rows.append(sighting)
        if len(self._rows) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        counts = np.cumsum([0, *(len(s.prototypes) for s in rows)]).astype(np.int32)
        points = np.cumsum([0, *(len(s.path) for s in rows)]).astype(np.int32)
        columns: dict[str, Any] = {  # pyarrow arrays and what it makes arrays of
            **{name: [getattr(s.key, name) for s in rows] for name in SightingKey._fields},
            **{name: [getattr(s, name) for s in rows] for name in ("revision", "state", "start", "end", "network")},
            "prototypes": _nested(counts, [s.prototypes.astype(np.float16) for s in rows], pa.float16(), self._length),
            "quality": pa.ListArray.from_arrays(counts, np.concatenate([s.quality for s in rows])),
            "pictures": pa.ListArray.from_arrays(counts, np.concatenate([s.pictures for s in rows]).astype(np.int32)),
            "stays": [[{"zone": x.zone, "start": x.start, "end": x.end} for x in s.stays] for s in rows],
            "crossings": [[{"line": x.line, "at": x.at, "inwards": x.inwards} for x in s.crossings] for s in rows],
            "path": _nested(points, [s.path for s in rows], pa.float32(), 3),
            "path_on": [s.path_on for s in rows],
        }
        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column, field.type)
            for field in self._schema
            for column in (columns[field.name],)
        ]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def __enter__(self) -> Self:
        draft = self._open.enter_context(whole(self._path))
        self._file = pq.ParquetWriter(draft, self._schema, compression="zstd")
        self._open.push(self._end)
        return self

    def _end(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self._flush()
        finally:
            self._file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


def _nested(
    ends: NDArray[np.int32], parts: list[NDArray[Any]], of: pa.DataType, length: int
) -> pa.ListArray:  # Any: floats
    """Lists of vectors of one length, from where each list ends and the vectors (n, length) of each."""
    flat = pa.array(np.concatenate([part.ravel() for part in parts]), of)
    return pa.ListArray.from_arrays(ends, pa.FixedSizeListArray.from_arrays(flat, length))


def read_sightings(path: Path) -> Iterator[Sighting]:
    """The sightings of a file that `SightingWriter` wrote, in its order; only a part of the file is held in memory.

    Raises SightingError where the file is of another kind, or of another version of the format.
    """
    with _opened(path) as file:
        length = json.loads(file.schema_arrow.metadata[b"length"])
        for batch in file.iter_batches(ROWS):
            vectors = _rows(batch["prototypes"], length).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)  # float16 changed their lengths a little
            points = _rows(batch["path"], 3)
            prototypes, paths = (
                np.cumsum(batch[name].value_lengths().to_numpy()).tolist() for name in ("prototypes", "path")
            )
            quality, pictures = (
                batch[name].flatten().to_numpy(zero_copy_only=False).astype(dtype)
                for name, dtype in (("quality", np.float32), ("pictures", np.int64))
            )
            for array in (vectors, points, quality, pictures):
                array.setflags(write=False)
            start = first = 0
            for row, end, last in zip(
                batch.drop_columns(["prototypes", "path", "quality", "pictures"]).to_pylist(),
                prototypes,
                paths,
                strict=True,
            ):
                yield Sighting(
                    SightingKey(row["site"], row["camera"], row["session"], row["track"]),
                    row["revision"],
                    row["state"],
                    row["start"],
                    row["end"],
                    vectors[start:end],
                    quality[start:end],
                    pictures[start:end],
                    row["network"],
                    tuple(Stay(**stay) for stay in row["stays"]),
                    tuple(Crossing(**crossing) for crossing in row["crossings"]),
                    points[first:last],
                    row["path_on"],
                )
                start, first = end, last


def _opened(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise SightingError(f"{path}: expected sightings in Parquet, got a file that cannot be read: {error}") from None
    kind, _, version = (file.schema_arrow.metadata or {}).get(b"format", b"").decode().rpartition(" ")
    if kind == FORMAT and version == str(VERSION):
        return file
    file.close()
    if kind != FORMAT:
        raise SightingError(f"{path}: expected sightings as `passerby simulate` writes them, got other columns")
    raise SightingError(f"{path}: expected sightings of version {VERSION}, got version {version}; write the file again")


VISITS = pa.schema(
    [
        *((name, pa.string()) for name in ("site", "visit", "person")),
        *((name, TIME) for name in ("start", "end", "entered", "left")),
        ("cameras", pa.list_(pa.string())),
        ("stays", pa.list_(pa.struct([("zone", pa.string()), ("start", TIME), ("end", TIME)]))),
        ("sightings", pa.list_(pa.string())),
        ("probability", pa.float64()),
    ]
)


def write_visits(path: Path, rows: Sequence[dict[str, Any]]) -> None:  # Any: what `visits.VisitRow.to_dict` gives
    """Write visits, a row each."""
    with whole(path) as draft:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=VISITS), draft, compression="zstd")


LINKS = pa.schema(
    [
        ("earlier", pa.string()),
        ("later", pa.string()),
        ("probability", pa.float64()),
        ("runner_up", pa.string()),
        ("runner_up_probability", pa.float64()),
    ]
)


def write_links(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Write links, a row each."""
    with whole(path) as draft:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=LINKS), draft, compression="zstd")


def read_rows(path: Path) -> list[dict[str, Any]]:  # Any: the columns of VISITS or LINKS
    """The visits or links of a file that `write_visits` or `write_links` wrote. Raises SightingError for another file."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise SightingError(
            f"{path}: expected visits or links in Parquet, got a file that cannot be read: {error}"
        ) from None
    if table.schema not in (VISITS, LINKS):
        raise SightingError(f"{path}: expected visits or links as `passerby follow` writes them, got other columns")
    return list(table.to_pylist())


KINDS = {"text": pa.string(), "time": TIME}  # of a column; all others are numbers


def table_bytes(columns: Mapping[str, str], rows: Sequence[Sequence[object]]) -> bytes:
    """A table as the content of a Parquet file: `columns` are names with what they hold, "text", "time" or a number."""
    schema = pa.schema([(name, KINDS.get(kind, pa.float64())) for name, kind in columns.items()])
    arrays = [pa.array([row[place] for row in rows], field.type) for place, field in enumerate(schema)]
    return _bytes(pa.Table.from_arrays(arrays, schema=schema))


def visits_bytes(rows: Sequence[dict[str, Any]]) -> bytes:  # Any: what `visits.VisitRow.to_dict` gives
    """Visits as the content of a Parquet file, as `write_visits` writes them."""
    return _bytes(pa.Table.from_pylist(list(rows), schema=VISITS))


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


DRAWS = pa.schema([("start", TIME), ("length", pa.string()), ("what", pa.string()), ("values", pa.list_(pa.int64()))])


def write_draws(path: Path, rows: Sequence[dict[str, Any]]) -> None:  # Any: time, text, whole numbers
    """Write draws of counts, a row a count of a stretch of time."""
    with whole(path) as draft:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=DRAWS), draft, compression="zstd")


def count_sightings(path: Path) -> int:
    """The number of revisions in a file of sightings; raises as `read_sightings` does."""
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def _rows(lists: pa.ListArray, length: int) -> NDArray[Any]:  # Any: float16 or float32
    """All vectors of a column of lists of vectors: (n, length)."""
    values: NDArray[Any] = lists.flatten().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, length).copy()
