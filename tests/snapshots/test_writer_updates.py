"""SnapshotManager.update: the last state with some records changed, through real servers and failures."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from snapdelta.errors import (
    SnapshotBusyError,
    SnapshotRejectedError,
    SnapshotUpdateError,
    UnsupportedTypeError,
)
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader
from support.assert_exact import assert_same
from support.servers import Server, on_one_server

Snapshot = dict[str, Any]


def market(rows: int = 200) -> Snapshot:
    return {f"S{n}": {"price": n / 4, "name": f"a name of length {n}"} for n in range(rows)}


async def test_readers_see_the_updated_state(server: Server) -> None:
    rng = Random(5)
    state = market()
    async with server.client() as redis, SnapshotManager(redis) as manager:
        reader = SnapshotReader(redis)
        await manager.save_snapshot(state)
        for number in range(8):
            changes: Snapshot = {s: {"price": number, "name": "x"} for s in rng.sample(list(state), 5)}
            changes[f"N{number}"] = {"price": -number}
            removed = [s for s in [*rng.sample(list(state), 2), "nothing"] if s not in changes]
            for symbol in removed:
                state.pop(symbol, None)
            state.update(changes)
            result = await manager.update(changes, iter(removed))
            assert result["type"] == "delta"
            assert (result["added"], result["removed"]) == (1, len(removed) - 1)
            assert (result["updated"], result["symbols"]) == (len(changes) - 1, len(state))
            update = await reader.latest()
            assert update is not None
            assert_same(update.snapshot, state)
        # What comes next, whole, is a delta from there.
        state["S0"] = 5
        assert (await manager.save_snapshot(state))["type"] == "delta"


@on_one_server
async def test_updates_wait_for_the_save_before_them(server: Server) -> None:
    """One that waits was captured at its call, and is applied to what the save before it leads to."""
    async with server.client() as redis, SnapshotManager(redis) as manager:
        changes: Snapshot = {"S1": {"price": 7}, "N": [1]}
        first = asyncio.ensure_future(manager.save_snapshot(market()))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(manager.update(changes, ["S2"]))
        await asyncio.sleep(0)
        changes["S1"]["price"] = "too late"
        with pytest.raises(SnapshotBusyError):
            await manager.update({"S3": 1})
        assert (await first)["type"] == "full"
        result = await second
        assert (result["type"], result["updated"], result["added"], result["removed"]) == ("delta", 1, 1, 1)
        want: Snapshot = market() | {"S1": {"price": 7}, "N": [1]}
        del want["S2"]
        update = await SnapshotReader(redis).latest()
        assert update is not None
        assert_same(update.snapshot, want)


@on_one_server
async def test_an_update_needs_a_state(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        with pytest.raises(SnapshotUpdateError, match=r"^snapshots 'default': no update: there is no state"):
            await manager.update({"A": 1})
        await manager.save_snapshot({"A": 1, "B": 2})
        with pytest.raises(SnapshotUpdateError, match="B is among the changes as well"):
            await manager.update({"B": 3}, ["B"])
        with pytest.raises(UnsupportedTypeError, match=r"^A\.x: "):
            await manager.update({"A": {"x": set()}})
        with pytest.raises(TypeError, match="iterable of str"):
            await manager.update({}, "A")
        await manager.update({"B": 5})
        assert manager.stats().failed == 3
        # A restarted writer knows the state in Redis only once it has saved.
        async with SnapshotManager(redis) as other:
            with pytest.raises(SnapshotUpdateError):
                await other.update({"A": 9})
            await other.save_snapshot({"A": 1, "B": 5})
            await other.update({"A": 9})
        assert await SnapshotReader(redis).get("A") == 9


@on_one_server
async def test_an_update_that_waits_for_a_save_that_fails(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis) as old, SnapshotManager(redis) as manager:
        await old.save_snapshot(market())
        first = asyncio.ensure_future(manager.save_snapshot(market()))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(manager.update({"A": 1}))
        await asyncio.sleep(0)
        first.cancel()
        done: Any = await asyncio.gather(first, second, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        # The save had begun, or it was dropped: then there is no state.
        assert isinstance(done[1], SnapshotUpdateError) or done[1]["added"] == 1
        update = await SnapshotReader(redis).latest()
        assert update is not None
        assert_same(update.snapshot, market() | ({"A": 1} if isinstance(done[1], dict) else {}))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"min_symbols": 100}, "min_symbols"), ({"max_removed_share": 0.2}, "max_removed_share")],
)
@on_one_server
async def test_what_is_refused_of_a_broken_feed(server: Server, settings: Any, reason: str) -> None:
    async with server.client() as redis, SnapshotManager(redis, **settings) as manager:
        await manager.save_snapshot(market(120))
        removed = [f"S{n}" for n in range(30)]
        with pytest.raises(SnapshotRejectedError) as refused:
            await manager.update({"S50": 5}, removed)
        assert refused.value.reason == reason
        result = await manager.update({"S1": 1}, ["S2"])
        assert (result["symbols"], result["removed"], result["updated"]) == (119, 1, 1)
        # One that waits is refused as well, when its turn comes.
        saves = [manager.update({"S1": 2}), manager.update({"S50": 5}, removed)]
        done: list[Any] = await asyncio.gather(*saves, return_exceptions=True)
        assert done[0]["updated"] == 1
        assert isinstance(done[1], SnapshotRejectedError)
        await manager.update({}, removed, check=False)
        update = await SnapshotReader(redis).latest()
        assert update is not None
        assert_same(update.snapshot, {s: r for s, r in market(120).items() if s not in removed})


@on_one_server
async def test_an_outage_during_updates(server: Server) -> None:
    """What Redis refused is in the next state: an update is not lost, and no reader sees a wrong state."""
    state = market()
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot(state)
        await redis.config_set("maxmemory", "1")
        with pytest.raises(Exception, match="maxmemory"):
            await manager.update({"S1": {"price": 1}})
        await redis.config_set("maxmemory", "0")
        await manager.update({"S2": {"price": 2}})
        update = await SnapshotReader(redis).latest()
        assert update is not None
        assert_same(update.snapshot, state | {"S1": {"price": 1}, "S2": {"price": 2}})
