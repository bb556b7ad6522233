"""Counts in CSV files, by the clock of a site: at lines, and of sales; nothing is stored here."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from passerby.service.kept import Counted, Sales
from passerby.types import StoreError

TIMES = ("time", "from", "start", "date")
HOUR = timedelta(hours=1)
Row = Mapping[str, str | None]
Columns = Sequence[str]
Cell = tuple[str, str, tuple[str | None, str | None]]


def read_counts(path: Path, zone: ZoneInfo, *, length: timedelta = HOUR) -> tuple[list[Counted], list[str]]:
    """The counts of a CSV file, and a line of words about each row that was passed over.

    Its first column, `time`, is when each count begins: "2026-03-02 09:00" or "2026-03-02T09:00", by the clock of `zone`, or
    with its distance from UTC. Either the others are `line`, `in` and, where there is a direction, `out`, or each is a line
    that counts without direction. A count lasts for `length`. An empty cell is no count: nothing is known of that time.

    Of an hour that comes twice, in autumn, the second row is the second one. A row that stands for another time again is passed
    over, as is an hour that the clock leaves out in spring: both are named. Raises StoreError for what is no such file.
    """

    def cells(row: Row, columns: Columns) -> list[Cell]:
        if "line" in columns:
            return [(str(row["line"]), str(row["line"]), (row.get("in"), row.get("out")))]
        return [(name, name, (row[name], None)) for name in columns[1:]]

    told, notes = _told(path, zone, cells)
    return [Counted(line, start, start + length, *numbers) for (line, start), numbers in told.items()], notes


def read_sales(path: Path, zone: ZoneInfo, *, length: timedelta = HOUR) -> tuple[list[Sales], list[str]]:
    """The sales of a CSV file with the columns `time`, `sales` and, where there are several, `till`; else as `read_counts`."""

    def cells(row: Row, columns: Columns) -> list[Cell]:
        if "sales" not in columns:
            raise StoreError(f"{path}: expected the columns time, sales and perhaps till, got {', '.join(columns)}")
        return [(row.get("till") or "", "sales", (row["sales"], None))]

    told, notes = _told(path, zone, cells)
    return [Sales(start, start + length, sales, till) for (till, start), (sales, _) in told.items()], notes


def _told(
    path: Path, zone: ZoneInfo, cells: Callable[[Row, Columns], list[Cell]]
) -> tuple[dict[tuple[str, datetime], tuple[int, int | None]], list[str]]:
    """What is counted of each place and time; `cells` gives a row's places, what their counts are called, and the counts."""
    found: dict[tuple[str, datetime], tuple[int, int | None]] = {}
    notes: list[str] = []
    often: Counter[tuple[str, datetime]] = Counter()
    for number, row, columns in _rows(path):
        local = _local(path, number, str(row[columns[0]]))
        said = set[str]()
        for name, called, (count, other) in cells(row, columns):
            if not (count or "").strip():
                continue
            often[name, local] += 1
            start, wrong = _utc(local, zone, again=often[name, local] - 1)
            if start is None:
                said.add(f"{path}, line {number}: {row[columns[0]]!r} {wrong}; passed over")
                continue
            second = None if not other else _number(path, number, called, other)
            found[name, start] = _number(path, number, called, count), second
        notes += sorted(said)
    return found, notes


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str], Sequence[str]]]:
    """Each row with its place in the file, from 2 on, and the names of all columns."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [] if reader.fieldnames is None else list(reader.fieldnames)
            if len(columns) < 2 or columns[0].strip().lower() not in TIMES:
                raise StoreError(
                    f"{path}: expected a first column of times, called {', '.join(TIMES[:-1])} or {TIMES[-1]}, and counts "
                    f"after it, got {', '.join(columns) or 'nothing'}"
                )
            if len(set(columns)) < len(columns):
                raise StoreError(f"{path}: expected a name of its own for each column, got {', '.join(columns)}")
            if "line" in columns and "in" not in columns:
                raise StoreError(
                    f"{path}: expected the columns time, line, in and perhaps out, got {', '.join(columns)}"
                )
            for row in reader:
                if None in row or None in row.values():
                    raise StoreError(
                        f"{path}, line {reader.line_num}: expected {len(columns)} cells, as in the first line"
                    )
                yield reader.line_num, row, columns
    except (csv.Error, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: expected CSV in UTF-8: {error}") from None


def _local(path: Path, place: int, said: str) -> datetime:
    try:
        return datetime.fromisoformat(said.strip())
    except ValueError:
        raise StoreError(f"{path}, line {place}: expected a time such as 2026-03-02 09:00, got {said!r}") from None


def _utc(local: datetime, zone: ZoneInfo, *, again: int) -> tuple[datetime | None, str]:
    """A time in UTC; None, and why, where the clock does not show it, or not so often."""
    if local.tzinfo is not None:
        return (local.astimezone(UTC), "") if not again else (None, "stands there twice")
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first.astimezone(zone).replace(tzinfo=None) != local:
        return None, "is an hour that the clock left out"
    if again > (first != second):
        return None, "stands there twice"
    return (second if again else first), ""


def _number(path: Path, place: int, name: str, said: str | None) -> int:
    try:
        number = float(said or "")
    except ValueError:
        number = -1.0
    if not (0 <= number < 2**31 and number == int(number)):
        raise StoreError(f"{path}, line {place}: expected a whole number from 0 for {name}, got {said!r}")
    return int(number)
