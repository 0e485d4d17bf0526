"""Several lists that are saved under one name are noticed: each save would exchange all symbols."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from snapdelta.errors import SnapshotBusyError
from snapdelta.snapshot_manager import SnapshotManager
from support.servers import Server, on_one_server

LISTS = ("gappers_up", "gappers_down", "momentum", "volume")


def _list(name: str, price: float = 1.0, symbols: int = 100) -> dict[str, Any]:
    return {f"{name}{number}": {"price": price + number} for number in range(symbols)}


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@on_one_server
async def test_lists_under_one_name_are_one_warning(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        for number in range(12):
            await manager.save_snapshot(_list(LISTS[number % 4], number))
        (said,) = _warnings(caplog)
        assert said.startswith("snapshots 'default': ")
        assert "pass name=" in said
        for number in range(12):
            await manager.save_snapshot(_list(LISTS[number % 4], number), name=LISTS[number % 4])
        assert len(_warnings(caplog)) == 1


@on_one_server
async def test_lists_that_are_saved_at_once_are_told_to_take_names(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        saves = (manager.save_snapshot(_list(name)) for name in LISTS)
        results = await asyncio.gather(*saves, return_exceptions=True)
        refused = [result for result in results if isinstance(result, SnapshotBusyError)]
        assert len(refused) == 2
        assert all("name=" in str(error) for error in refused)


@on_one_server
async def test_one_list_that_changes_much_is_no_mixture(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        for number in range(20):
            # Two thirds of 60 stay; every fifth time it is another day.
            await manager.save_snapshot(
                {f"S{number // 5 * 1000 + number * 20 + row}": {"p": row} for row in range(60)}
            )
    assert _warnings(caplog) == []
