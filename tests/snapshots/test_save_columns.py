"""SnapshotManager.save_columns: states as columns, through a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import polars as pl
import pytest

from snapdelta.errors import SnapshotRejectedError, UnsupportedTypeError, UsageError
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader
from support.assert_exact import assert_same
from support.servers import Server, on_one_server


def frame(price: float, rows: int = 50) -> pl.DataFrame:
    return pl.DataFrame(
        {"s": [f"S{n}" for n in range(rows)], "p": [price + n for n in range(rows)], "q": [None] * rows}
    )


def plain(given: pl.DataFrame) -> dict[str, Any]:
    return {row.pop("s"): row for row in given.to_dicts()}


@on_one_server
async def test_readers_see_what_the_columns_hold(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        first = await manager.save_columns(frame(1.5), symbol="s")
        assert (first["type"], first["symbols"]) == ("full", 50)
        # One runs, one waits: it was captured at its call, and again in its turn.
        prices = np.arange(50.0)
        given = {"s": [f"S{n}" for n in range(50)], "p": prices, "q": [None] * 50}
        saves = [manager.save_columns(frame(2.5), symbol="s")]
        saves.append(manager.save_columns(given, symbol="s"))
        tasks = [asyncio.ensure_future(save) for save in saves]
        await asyncio.sleep(0)
        prices[:] = -1
        results = await asyncio.gather(*tasks)
        assert [result["type"] for result in results] == ["delta", "delta"]
        update = await SnapshotReader(redis).latest()
        assert update is not None
        assert_same(update.snapshot, plain(frame(0.0)))
        # Dicts and columns in turn.
        assert (await manager.save_snapshot(plain(frame(0.0))))["updated"] == 0


@on_one_server
async def test_what_is_refused(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis, min_symbols=20) as manager:
        await manager.save_columns(frame(1.5), symbol="s")
        with pytest.raises(SnapshotRejectedError):
            await manager.save_columns(frame(1.5, rows=10), symbol="s")
        with pytest.raises(UsageError, match=r"^symbol: there is no column _symbol"):
            await manager.save_columns(frame(2.5))
        with pytest.raises(UnsupportedTypeError, match=r"^v: "):
            await manager.save_columns({"s": ["A"], "v": np.zeros(1, "c8")}, symbol="s")
        result = await manager.save_columns(frame(1.5, rows=10), symbol="s", check=False, force_full=True)
        assert result["type"] == "full"
        update = await SnapshotReader(redis).latest()
        assert update is not None
        assert_same(update.snapshot, plain(frame(1.5, rows=10)))
