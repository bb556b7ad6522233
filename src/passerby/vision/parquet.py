"""Sightings in a Parquet file, a row a revision, in the order in which they became known."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from passerby.shop import Crossing, Sighting, SightingKey, Stay
from passerby.types import SightingError

ROWS = 4096  # held before they are written
FORMAT = b"passerby sightings 1"
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
            ("closed", pa.bool_()),
            ("start", TIME),
            ("end", TIME),
            ("prototypes", pa.list_(pa.list_(pa.float16(), length))),
            ("quality", pa.list_(pa.float32())),
            ("stays", pa.list_(pa.struct([("zone", pa.string()), ("start", TIME), ("end", TIME)]))),
            ("crossings", pa.list_(pa.struct([("line", pa.string()), ("at", TIME), ("inwards", pa.bool_())]))),
        ],
        metadata={b"format": FORMAT, b"length": json.dumps(length).encode()},
    )


class SightingWriter:
    """Writes sightings to a Parquet file, a few thousand at a time; use it in a `with` block.

    The vectors are kept as float16: a cosine changes by less than 0.001.
    """

    def __init__(self, path: Path, *, length: int) -> None:
        self._schema, self._length = schema(length), length
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[Sighting] = []

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
        flat = np.concatenate([s.prototypes.astype(np.float16).ravel() for s in rows])
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float16()), self._length)
        columns: list[Any] = [  # pyarrow arrays and what it makes arrays of
            *([getattr(s.key, name) for s in rows] for name in ("site", "camera", "session", "track")),
            *([getattr(s, name) for s in rows] for name in ("revision", "closed", "start", "end")),
            pa.ListArray.from_arrays(pa.array(counts), vectors),
            pa.ListArray.from_arrays(
                pa.array(counts), pa.array(np.concatenate([s.quality for s in rows]), pa.float32())
            ),
            [[{"zone": x.zone, "start": x.start, "end": x.end} for x in s.stays] for s in rows],
            [[{"line": x.line, "at": x.at, "inwards": x.inwards} for x in s.crossings] for s in rows],
        ]
        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column, field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._file.close()


def read_sightings(path: Path) -> Iterator[Sighting]:
    """The sightings of a file that `SightingWriter` wrote, in its order; only a part of the file is held in memory.

    Raises SightingError where the file is of another kind.
    """
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise SightingError(f"{path}: expected sightings in Parquet, got a file that cannot be read: {error}") from None
    with file:
        metadata = file.schema_arrow.metadata or {}
        if metadata.get(b"format") != FORMAT:
            raise SightingError(f"{path}: expected sightings as `passerby simulate` writes them, got other columns")
        length = json.loads(metadata[b"length"])
        for batch in file.iter_batches(ROWS):
            vectors = batch["prototypes"]
            values = vectors.flatten().flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, length)
            ends = np.cumsum(vectors.value_lengths().to_numpy())
            rows = batch.drop_columns(["prototypes"]).to_pylist()
            for row, end in zip(rows, ends.tolist(), strict=True):
                quality = np.array(row["quality"], np.float32)
                yield Sighting(
                    SightingKey(row["site"], row["camera"], row["session"], row["track"]),
                    row["revision"],
                    row["closed"],
                    row["start"],
                    row["end"],
                    values[end - len(quality) : end],
                    quality,
                    tuple(Stay(**stay) for stay in row["stays"]),
                    tuple(Crossing(**crossing) for crossing in row["crossings"]),
                )
