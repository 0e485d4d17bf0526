"""What a reader must be allowed: the default passes a wide market; the writer warns when it is too little."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import snapdelta
from snapdelta import SnapshotManager, SnapshotReader
from support.servers import AsyncClient

Snapshot = dict[str, Any]
DEFAULT = snapdelta.Limits().max_bytes
ROWS, COLUMNS = 12_600, 400


def wide(rows: int) -> Snapshot:
    names = [f"daily_metric_{n:03d}" for n in range(COLUMNS)]

    def value(n: int) -> float | None:
        return None if n % 4 == 0 else n * 7919 % 35_000 / 100

    return {
        f"S{row:05d}": {name: value(row * COLUMNS + at) for at, name in enumerate(names)}
        for row in range(rows)
    }


def test_the_default_has_room_to_spare_for_a_wide_market() -> None:
    """A twentieth of the rows takes less than a twentieth of three quarters of the default."""
    encoder = snapdelta.Encoder(verify=True)
    assert encoder.required_bytes == 0
    encoder.encode(wide(ROWS // 20))
    required = encoder.required_bytes
    assert required is not None
    assert 20 * required < DEFAULT * 3 / 4


def test_what_is_required_is_what_a_reader_needs() -> None:
    encoder = snapdelta.Encoder(verify=True)
    snapshots = [{"A": {"x": 1, "t": ["text"] * n}, f"S{n}": {"y": n}} for n in range(1, 5)]
    for at, snapshot in enumerate(snapshots):
        frames = [encoder.encode(snapshot)]
        if at > 0:
            frames.append(encoder.full())
        required = encoder.required_bytes
        assert required is not None
        for full in frames[-1:]:
            assert snapdelta.loads(full, limits=snapdelta.Limits(required)) == snapshot
            with pytest.raises(snapdelta.LimitExceededError):
                snapdelta.loads(full, limits=snapdelta.Limits(required - 1))
    assert snapdelta.Encoder().required_bytes is None


async def test_the_writer_says_what_a_reader_with_the_default_refuses(
    redis: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    items = [None] * 100_000
    small: Snapshot = {"A": items}
    large: Snapshot = {str(n): items for n in range(100)}
    caplog.set_level(logging.WARNING, "snapdelta.snapshots")
    async with SnapshotManager(redis) as manager:
        assert (await manager.save_snapshot(small))["required_bytes"] < DEFAULT
        assert caplog.messages == []
        for _ in range(3):
            result = await manager.save_snapshot(large, force_full=True)
            assert result["required_bytes"] > DEFAULT
        (message,) = caplog.messages
        assert f"snapdelta.Limits({result['required_bytes']})" in message
        with pytest.raises(snapdelta.LimitExceededError):
            await SnapshotReader(redis).latest()
        allowed = snapdelta.Limits(result["required_bytes"])
        update = await SnapshotReader(redis, limits=allowed).latest()
        assert update is not None
        assert update.snapshot == large
        await manager.save_snapshot(small, force_full=True)
        await manager.save_snapshot(large, force_full=True)
        assert len(caplog.messages) == 2


@pytest.mark.long
async def test_a_wide_market_passes_manager_and_reader(redis: AsyncClient) -> None:
    snapshot = wide(ROWS)
    async with SnapshotManager(redis, command_timeout=60.0) as manager:
        result = await manager.save_snapshot(snapshot)
        assert result["required_bytes"] < DEFAULT
        update = await SnapshotReader(redis, command_timeout=60.0).latest()
        assert update is not None
        assert update.snapshot == snapshot
