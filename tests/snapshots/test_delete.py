"""SnapshotManager.delete: a name's keys go at once, and whoever reads or writes it finds that out."""

from __future__ import annotations

import asyncio

import pytest

from snapdelta.errors import (
    SnapshotBusyError,
    SnapshotHistoryError,
    SnapshotSettingError,
    SnapshotTypeError,
    UnsupportedVersionError,
    WriterSupersededError,
)
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader
from support.servers import AsyncClient, Deployment
from support.snapshot_harness import LIMIT, keys_of, staged


async def _left(redis: AsyncClient, name: str) -> int:
    return sum([await redis.exists(key) for key in keys_of(name)])


async def _clock_goes_on(redis: AsyncClient, name: str) -> None:
    """Until it has passed the epochs that were taken: then nothing has to be kept of them."""
    claim = int(await redis.hget(keys_of(name).head, "claim") or 0)
    async with asyncio.timeout(LIMIT):
        while True:
            seconds, micros = await redis.time()
            if seconds * 1000 + micros // 1000 > claim:
                return
            await asyncio.sleep(0.001)


async def test_the_keys_of_one_name_go(redis: AsyncClient) -> None:
    async with SnapshotManager(redis) as manager:
        for name in ("uscan_0", "uscan_1"):
            for number in range(3):
                await manager.save_snapshot({"A": {"x": number}}, name=name)
            await _clock_goes_on(redis, name)
        assert await manager.delete("uscan_0")
        assert await _left(redis, "uscan_0") == 0
        assert await _left(redis, "uscan_1") == 3
        assert not await manager.delete("uscan_0")
        assert not await manager.delete("never saved")
        assert manager.stats("uscan_0").saved == 0
        # By one that does not write it.
        async with SnapshotManager(redis) as other:
            assert await other.delete("uscan_1")
        assert await _left(redis, "uscan_1") == 0


async def test_readers_are_told(deployment: Deployment) -> None:
    async with staged(deployment.client) as (stage, writer):
        (follower,) = stage.followers
        reader = stage.reader()
        assert await reader.latest() is not None
        assert await writer.manager.delete("default")
        assert await reader.latest() is None
        with pytest.raises(SnapshotHistoryError):
            await reader.at(0)
        assert [update async for update in reader.replay()] == []
        (result, *_) = await writer.saves(3)
        assert (result["type"], result["reason"]) == ("full", "first")
        await stage.together()
        assert follower.resyncs == ["first"]
        await stage.join()


async def test_a_writer_that_goes_on_is_asked_for_a_full_frame(redis: AsyncClient) -> None:
    async with SnapshotManager(redis) as writing, SnapshotManager(redis) as other:
        await writing.save_snapshot({"A": {"x": 1}})
        assert await other.delete("default")
        result = await writing.save_snapshot({"A": {"x": 2}})
        assert (result["type"], result["reason"]) == ("full", "head_lost")
        update = await SnapshotReader(redis).latest()
        assert update is not None
        assert update.snapshot == {"A": {"x": 2}}


async def test_an_earlier_writer_does_not_delete_a_later_ones(redis: AsyncClient) -> None:
    async with SnapshotManager(redis) as earlier, SnapshotManager(redis) as later:
        await earlier.save_snapshot({"A": {"x": 1}})
        await later.save_snapshot({"A": {"x": 2}})
        for _ in range(2):
            with pytest.raises(WriterSupersededError, match="'default'"):
                await earlier.delete("default")
        assert await _left(redis, "default") == 3
        with pytest.raises(WriterSupersededError):
            await earlier.save_snapshot({"A": {"x": 3}})
        assert await later.delete("default")


async def test_no_epoch_is_taken_twice(redis: AsyncClient) -> None:
    """Names that are made and deleted faster than the clock ticks."""
    epochs = []
    for number in range(40):
        manager = SnapshotManager(redis)
        epochs.append((await manager.save_snapshot({"A": {"x": number}}))["epoch"])
        assert await manager.delete("default")
        assert await SnapshotReader(redis).latest() is None
        head = keys_of().head
        assert not await redis.exists(head) or 0 < await redis.pttl(head) < 120_000
        await manager.close()
    assert epochs == sorted(set(epochs))


async def test_what_is_refused_is_as_it_was(redis: AsyncClient) -> None:
    keys = keys_of()
    async with SnapshotManager(redis) as manager:
        for name in ("", "a{b}", 5):
            with pytest.raises(SnapshotSettingError):
                await manager.delete(name)  # type: ignore[arg-type]
        saving = asyncio.ensure_future(manager.save_snapshot({"A": {"x": 1}}))
        await asyncio.sleep(0)
        with pytest.raises(SnapshotBusyError, match="await it"):
            await manager.delete("default")
        await saving
        await redis.hset(keys.head, "layout", "9")
        with pytest.raises(UnsupportedVersionError):
            await manager.delete("default")
        await redis.hset(keys.head, "layout", "1")
        assert (await manager.save_snapshot({"A": {"x": 2}}))["type"] == "delta"
        await redis.delete(keys.full)
        await redis.set(keys.full, "text")
        with pytest.raises(SnapshotTypeError, match="full holds a string"):
            await manager.delete("default")
        assert await redis.get(keys.full) == b"text"
        await redis.delete(keys.full)
        assert await manager.delete("default")
