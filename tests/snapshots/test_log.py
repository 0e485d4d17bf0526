"""What the log of a production writer shows: a WARNING line a failed save, DEBUG for what is routine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from snapdelta.errors import (
    SnapshotBusyError,
    SnapshotUnavailableError,
    WriterSupersededError,
)
from snapdelta.snapshot_manager import SnapshotManager
from support.clock import Clock
from support.servers import Server


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """Takes the level and text of every line since the last call."""
    caplog.set_level(logging.DEBUG, "snapdelta.snapshots")

    def take() -> list[tuple[str, str]]:
        taken = [(record.levelname, record.getMessage()) for record in caplog.records]
        assert all(record.exc_info is None for record in caplog.records)
        caplog.clear()
        return taken

    return take


Lines = Callable[[], list[tuple[str, str]]]


def _one_warning(lines: Lines, *said: str) -> None:
    ((level, text),) = lines()
    assert level == "WARNING"
    assert "\n" not in text
    assert text.startswith("snapshots 'default': a save failed: ")
    assert text.count("'default'") == 1
    for part in said:
        assert part in text


async def test_every_failed_save_counts_and_is_one_line(
    fresh_server: Callable[..., Server], lines: Lines
) -> None:
    server = fresh_server()
    raising: dict[str, Exception] = {}

    def default(value: Any) -> Any:
        raise raising["error"]

    async with server.client() as redis, server.client() as other:
        manager = SnapshotManager(redis, default=default)
        await manager.save_snapshot({"A": {"x": 1}})
        assert [level for level, _ in lines()] == ["INFO"]

        raising["error"] = TypeError("no way\nat all")
        with pytest.raises(TypeError):
            await manager.save_snapshot({"A": {"x": {1}}})
        _one_warning(lines, "TypeError: ", "no way at all")
        raising["error"] = KeyError("missing")
        with pytest.raises(Exception, match="missing"):
            await manager.save_snapshot({"A": {"x": {1}}})
        _one_warning(lines, "missing")
        assert manager.stats().failed == 2

        saves = [asyncio.ensure_future(manager.save_snapshot({"A": {"x": number}})) for number in range(3)]
        results = await asyncio.gather(*saves, return_exceptions=True)
        assert isinstance(results[2], SnapshotBusyError)
        assert [level for level, _ in lines()] == ["WARNING", "DEBUG", "DEBUG"]

        saves = [asyncio.ensure_future(manager.save_snapshot({"A": {"x": number}})) for number in (7, 8)]
        await asyncio.sleep(0)
        saves[1].cancel()
        await asyncio.gather(*saves, return_exceptions=True)
        assert sorted(level for level, _ in lines()) == ["DEBUG", "WARNING"]
        assert manager.stats().failed == 4

        async with SnapshotManager(other) as later:
            await later.save_snapshot({"A": {"x": 1}})
            assert [level for level, _ in lines()] == ["INFO"]
            for _ in range(2):
                with pytest.raises(WriterSupersededError):
                    await manager.save_snapshot({"A": {"x": 2}})
                _one_warning(lines, "WriterSupersededError")
            assert manager.stats().failed == 6

            server.kill()
            with pytest.raises(SnapshotUnavailableError):
                await later.save_snapshot({"A": {"x": 2}})
            _one_warning(lines, "SnapshotUnavailableError", "cannot be reached")
            assert (later.stats().saved, later.stats().failed) == (1, 1)
        await manager.close()
    assert lines() == []


async def test_routine_saves_are_debug_lines(server: Server, lines: Lines) -> None:
    clock = Clock()
    async with server.client() as redis, SnapshotManager(redis, 60, clock=clock, chain_ratio=1) as manager:
        reasons = []
        for number in range(40):
            clock.now += 5
            result = await manager.save_snapshot(
                {f"S{row}": {"x": number * row} for row in range(40)}, force_full=number == 20
            )
            reasons.append(result["reason"])
        assert {"first", "forced", None} < set(reasons)
        assert {"interval", "chain"} & set(reasons)
        said = lines()
        assert len(said) == 40
        assert [level for level, _ in said] == ["INFO"] + ["DEBUG"] * 39
        await redis.flushall()
        assert (await manager.save_snapshot({"A": {"x": 1}}))["reason"] == "head_lost"
        assert [level for level, _ in lines()] == ["INFO"]
