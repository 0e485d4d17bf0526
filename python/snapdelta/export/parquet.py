"""Replays a name's history into Parquet files, in folders by date and hour (docs/export.md)."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from snapdelta.errors import MissingExtraError, SnapshotSettingError

try:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]
except ImportError as missing:
    raise MissingExtraError(
        "an export needs pyarrow; install it with the extra: snapdelta-rs[export]"
    ) from missing

from snapdelta.export.columns import Column, FieldKinds
from snapdelta.snapshots.history import Timestamp
from snapdelta.snapshots.leaves import leaves
from snapdelta.snapshots.reader import SnapshotReader
from snapdelta.snapshots.update import Update

# Columns that each row has, in front of the record's fields.
TIME, EPOCH, SEQUENCE, RANK, SYMBOL = "_time", "_epoch", "_sequence", "_rank", "_symbol"
_OWN = [
    (TIME, pa.timestamp("ms", "UTC")),
    (EPOCH, pa.int64()),
    (SEQUENCE, pa.int64()),
    (RANK, pa.int32()),
    (SYMBOL, pa.string()),
]
# Columns that readers make of the folders.
DATE, HOUR = "saved_date", "saved_hour"
# Rows that are held before they are written.
_ROWS = 100_000
_FILE = re.compile(r"(\d+)-(\d+)_(\d+)-(\d+)\.parquet")

Position = tuple[int, int]
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class ExportReport:
    """What an export wrote. `skipped`: states that earlier exports wrote."""

    states: int = 0
    skipped: int = 0
    rows: int = 0
    bytes: int = 0
    files: int = 0


async def export_snapshots(
    reader: SnapshotReader,
    directory: Path,
    start: Timestamp | None = None,
    end: Timestamp | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write each state between two moments to folders by date and hour, one row for each symbol.

    It skips states that files in the directory already have, so you can run it repeatedly.
    progress: called with the number of the pass (1: types, 2: rows) and of states done. A file appears whole
    or not at all. Raises what `SnapshotReader.replay` does, SnapshotSettingError, OSError.
    """
    covered = _covered(directory)
    kinds: dict[str, FieldKinds] = {}
    last: float | None = None
    report = ExportReport()
    async for update in reader.replay(start, end):
        last = update.timestamp
        # Also of states that are skipped: what has not changed since then is not looked at again.
        _learn(kinds, update)
        report.skipped += _has(covered, update)
        report.states += 1
        if progress is not None:
            progress(1, report.states)
    report.states -= report.skipped
    if last is None or not report.states:
        return report
    if clash := {DATE, HOUR, *(name for name, _ in _OWN)} & kinds.keys():
        raise SnapshotSettingError(
            f"export: a record has a field {min(clash)!r}, which is a column of the export; rename the field"
        )
    writer = _PartitionWriter(directory, {path: kind.column() for path, kind in kinds.items()}, report)
    done = 0
    try:
        # Saves that came meanwhile may have other types: not beyond the last state of the first pass.
        async for update in reader.replay(start, last if end is None else min(last, _seconds(end))):
            if _has(covered, update):
                continue
            await _in_thread(partial(writer.add, update))
            done += 1
            if progress is not None:
                progress(2, done)
        await _in_thread(writer.close)
    except BaseException:
        writer.discard()
        raise
    # The writer of the snapshots may have trimmed the oldest meanwhile.
    report.states = done
    return report


async def _in_thread(step: Callable[[], None]) -> None:
    """Run a step in a thread; when that is cancelled, first wait for the thread, which nothing can stop."""
    running = asyncio.ensure_future(asyncio.to_thread(step))
    try:
        await asyncio.shield(running)
    finally:
        await asyncio.wait({running})


def _seconds(moment: Timestamp) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment


class _PartitionWriter:
    """One file at a time: states come in order, so a partition is complete when the next begins."""

    def __init__(self, directory: Path, columns: dict[str, Column], report: ExportReport) -> None:
        self._directory = directory
        self._columns = columns
        self._schema = pa.schema([*_OWN, *((path, column.type) for path, column in columns.items())])
        self._report = report
        self._hour: datetime | None = None
        self._first: Position | None = None
        self._last: Position | None = None
        self._file: pq.ParquetWriter | None = None
        self._temporary: Path | None = None
        self._rows: dict[str, list[Any]] = {}
        self._count = 0

    def add(self, update: Update) -> None:
        moment = datetime.fromtimestamp(update.timestamp, UTC)
        hour = moment.replace(minute=0, second=0, microsecond=0)
        position = update.epoch, update.sequence
        # A file covers a range of sequences of one epoch.
        if hour != self._hour or self._last is None or position != (self._last[0], self._last[1] + 1):
            self.close()
            self._open(hour, position)
        self._last = position
        for rank, (symbol, record) in enumerate(update.snapshot.items()):
            own = (moment, update.epoch, update.sequence, rank, symbol)
            for (name, _), value in zip(_OWN, own, strict=True):
                self._rows[name].append(value)
            found = fields_of(record)
            for path, column in self._columns.items():
                value = found.get(path)
                self._rows[path].append(None if value is None else column.convert(value))
        self._count += len(update.snapshot)
        self._report.rows += len(update.snapshot)
        if self._count >= _ROWS:
            self._flush()

    def close(self) -> None:
        """Give the file its name, under which readers find it."""
        if self._file is None or self._temporary is None or self._first is None or self._last is None:
            return
        self._flush()
        self._file.close()
        name = f"{self._first[0]}-{self._first[1]}_{self._last[0]}-{self._last[1]}.parquet"
        with self._temporary.open("rb") as written:
            os.fsync(written.fileno())
        self._report.bytes += self._temporary.stat().st_size
        self._report.files += 1
        os.replace(self._temporary, self._temporary.with_name(name))
        self._file = self._temporary = None

    def discard(self) -> None:
        """Leave nothing of the file that was begun."""
        if self._file is not None and self._temporary is not None:
            self._file.close()
            self._temporary.unlink(missing_ok=True)
            self._file = self._temporary = None

    def _open(self, hour: datetime, first: Position) -> None:
        folder = self._directory / f"{DATE}={hour:%Y-%m-%d}" / f"{HOUR}={hour:%H}"
        folder.mkdir(parents=True, exist_ok=True)
        # A leading dot: readers of Hive folders skip it.
        self._temporary = folder / f".{uuid4().hex}.tmp"
        self._file = pq.ParquetWriter(self._temporary, self._schema, compression="zstd")
        self._hour, self._first = hour, first
        self._rows = {name: [] for name in self._schema.names}
        self._count = 0

    def _flush(self) -> None:
        assert self._file is not None
        if self._count:
            self._file.write_table(pa.table(self._rows, schema=self._schema))
            for values in self._rows.values():
                values.clear()
            self._count = 0


def fields_of(record: Any) -> dict[str, Any]:
    """The leaves of a record, one for each column; a single value has the column `value`."""
    return {path or "value": value for path, value in leaves(record).items()}


def _learn(kinds: dict[str, FieldKinds], update: Update) -> None:
    # After the first state only what changed can have another type.
    symbols = update.snapshot if not kinds else update.changed
    for symbol in symbols:
        for path, value in fields_of(update.snapshot[symbol]).items():
            kinds.setdefault(path, FieldKinds()).add(value)


def _covered(directory: Path) -> list[tuple[Position, Position]]:
    """First and last id of each file that is there."""
    found = []
    for file in directory.glob(f"{DATE}=*/{HOUR}=*/*.parquet"):
        if match := _FILE.fullmatch(file.name):
            first, last = (int(match[1]), int(match[2])), (int(match[3]), int(match[4]))
            found.append((first, last))
    return found


def _has(covered: list[tuple[Position, Position]], update: Update) -> bool:
    position = update.epoch, update.sequence
    return any(first <= position <= last for first, last in covered)
