"""`snapdelta export`: what another library reads from the files is what a replay gives, row for row."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from time import sleep
from typing import Any
from uuid import UUID

import duckdb
import pytest

from snapdelta import SnapshotManager, SnapshotReader
from snapdelta.errors import SnapshotSettingError
from snapdelta.export import parquet
from snapdelta.export.parquet import export_snapshots, fields_of
from support.cli import execute
from support.market import Market
from support.servers import Server, on_one_server
from support.stream_harness import until


def rows_of(directory: Path) -> list[dict[str, Any]]:
    """All rows, in their order, as duckdb reads them."""
    read: Any = duckdb.sql(
        f"SELECT * REPLACE (epoch_ms(_time) AS _time) FROM read_parquet('{directory}/**/*.parquet', "
        "union_by_name = true) ORDER BY _epoch, _sequence, _rank"
    )
    return [dict(zip(read.columns, row, strict=True)) for row in read.fetchall()]


async def replayed(reader: SnapshotReader) -> list[dict[str, Any]]:
    """The rows that a replay gives, without nulls."""
    rows = []
    async for update in reader.replay():
        moment = datetime.fromtimestamp(update.timestamp, UTC)
        for rank, (symbol, record) in enumerate(update.snapshot.items()):
            rows.append(
                {
                    "_time": round(update.timestamp * 1000),
                    "_epoch": update.epoch,
                    "_sequence": update.sequence,
                    "_rank": rank,
                    "_symbol": symbol,
                    "saved_date": moment.date(),
                    "saved_hour": moment.hour,
                    **{path: value for path, value in fields_of(record).items() if value is not None},
                }
            )
    return rows


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def without_nulls(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {key: int(value) if key == "saved_hour" else value for key, value in row.items() if value is not None}
        for row in rows
    ]


@on_one_server
async def test_rows_are_those_of_a_replay(server: Server, tmp_path: Path) -> None:
    market = Market()
    async with server.client() as redis, SnapshotManager(redis) as manager:
        for number in range(30):
            await manager.save_snapshot(market.next(), "x", force_full=number % 7 == 3)
        ran = await asyncio.to_thread(execute, "export", "x", str(tmp_path), "--json", "--redis", server.url)
        assert ran.returncode == 0, ran.stderr
        report = json.loads(ran.stdout)
        expected = await replayed(SnapshotReader(redis, "x"))
        assert (report["states"], report["skipped"], report["rows"]) == (30, 0, len(expected))
        assert without_nulls(rows_of(tmp_path)) == expected
        # Again: only what is new.
        for _ in range(5):
            await manager.save_snapshot(market.next(), "x")
        again = await asyncio.to_thread(execute, "export", "x", str(tmp_path), "--redis", server.url)
        assert "5 states" in again.stdout
        assert "30 states were exported before" in again.stdout
        assert without_nulls(rows_of(tmp_path)) == await replayed(SnapshotReader(redis, "x"))
        # A later writer has another epoch.
        async with SnapshotManager(redis) as later:
            await later.save_snapshot(market.next(), "x")
        assert (await export_snapshots(SnapshotReader(redis, "x"), tmp_path)).states == 1
        assert without_nulls(rows_of(tmp_path)) == await replayed(SnapshotReader(redis, "x"))
        assert not [path for path in files_in(tmp_path) if path.suffix != ".parquet"]


_TYPES: dict[str, list[Any]] = {
    "bool": [True, False, None],
    "int": [1, -(2**63), 2**63 - 1],
    "float": [1.5, -0.0, 1e300],
    "number": [1, 2.5, 2**53],
    "text": ["a", "Zürich", ""],
    "bytes": [b"\x00\xff", b"", b"x"],
    "date": [date(2026, 3, 2), date(1, 1, 1), None],
    "naive": [datetime(2026, 3, 2, 1, 2, 3, 4), None, None],
    "time": [time(9, 30, 0, 5), time(0), None],
    "decimal": [Decimal("1.10"), Decimal("-22.05"), Decimal("0.00")],
}
# What has no type of its own, and its text.
_TEXTS: dict[str, list[tuple[Any, str]]] = {
    "mixed": [(1, "1"), ("a", '"a"'), (True, "true")],
    "big": [(2**63, str(2**63)), (0, "0"), (-1, "-1")],
    "wide": [(2**53 + 1, str(2**53 + 1)), (0.5, "0.5"), (1, "1")],
    "list": [([1, "x"], '[1,"x"]'), ([], "[]"), ((1,), "[1]")],
    "empty": [({}, "{}"), (1, "1"), (None, "")],
    "scales": [(Decimal("1.1"), "1.1"), (Decimal("1.10"), "1.10"), (Decimal("1E+3"), "1E+3")],
    "special": [(Decimal("NaN"), "NaN"), (Decimal("-0"), "-0"), (Decimal("1"), "1")],
    "uuid": [(UUID(int=1), str(UUID(int=1))), (UUID(int=2), str(UUID(int=2))), (None, "")],
    "lone": [("\ud800", '"\\ud800"'), ("a", '"a"'), ("b", '"b"')],
}


@on_one_server
async def test_every_type(server: Server, tmp_path: Path) -> None:
    snapshot = {
        f"S{row}": {
            **{name: values[row] for name, values in _TYPES.items()},
            **{name: values[row][0] for name, values in _TEXTS.items()},
            "zoned": datetime(2026, 3, 2, 9, row, tzinfo=UTC),
            "a.b": {"c": row},
            "lasted": timedelta(days=row, microseconds=row),
        }
        for row in range(3)
    }
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot(snapshot)
        await export_snapshots(SnapshotReader(redis), tmp_path)
    read: Any = duckdb.sql(
        "SELECT * EXCLUDE (zoned, _time), epoch_ms(zoned) AS zoned "
        f"FROM '{tmp_path}/**/*.parquet' ORDER BY _rank"
    )
    rows = [dict(zip(read.columns, row, strict=True)) for row in read.fetchall()]
    for number, row in enumerate(rows):
        for name, values in _TYPES.items():
            expected = values[number]
            assert row[name] == expected, name
            if name not in ("number", "bool"):
                assert type(row[name]) is type(expected), name
        assert str(row["decimal"]) == str(_TYPES["decimal"][number])
        for name, texts in _TEXTS.items():
            value, text = texts[number]
            assert row[name] == (None if value is None else text), name
        assert row["zoned"] == datetime(2026, 3, 2, 9, number, tzinfo=UTC).timestamp() * 1000
        assert row["a\\.b.c"] == number
        assert row["lasted"] == timedelta(days=number, microseconds=number).total_seconds()


@on_one_server
async def test_a_file_is_whole_or_not_there(server: Server, tmp_path: Path) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        for number in range(20):
            await manager.save_snapshot({f"S{n}": n * number for n in range(50)})
        reader = SnapshotReader(redis)

        def stop(number: int, done: int) -> None:
            if (number, done) == (2, 10):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await export_snapshots(reader, tmp_path, progress=stop)
        assert files_in(tmp_path) == []
        await export_snapshots(reader, tmp_path)
        assert len(rows_of(tmp_path)) == 1000


@on_one_server
async def test_a_cancelled_export_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of a step in a thread, which goes on for a while."""
    opens, opened = threading.Event(), threading.Event()
    original = parquet._PartitionWriter._open

    def slowly(*arguments: Any) -> None:
        opens.set()
        sleep(0.2)
        original(*arguments)
        opened.set()

    monkeypatch.setattr(parquet._PartitionWriter, "_open", slowly)
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot({"A": 0})
        task = asyncio.create_task(export_snapshots(SnapshotReader(redis), tmp_path))
        await until(opens.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(opened.is_set)
        assert files_in(tmp_path) == []


@on_one_server
async def test_what_cannot_be_exported(server: Server, tmp_path: Path) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        nothing = await asyncio.to_thread(execute, "export", "x", str(tmp_path), "--redis", server.url)
        assert (nothing.returncode, files_in(tmp_path)) == (1, [])
        assert (nothing.stdout, nothing.stderr) == ("", "nothing was saved under 'x'\n")
        await manager.save_snapshot({"A": {"_rank": 1}})
        with pytest.raises(SnapshotSettingError, match="'_rank'"):
            await export_snapshots(SnapshotReader(redis), tmp_path)
        refused = await asyncio.to_thread(
            execute, "export", "default", str(tmp_path), "--since", "3", "--redis", server.url
        )
        assert refused.returncode == 2
        assert "'3' is a sequence; --since takes" in refused.stderr
