"""SnapshotManager: what a save returns, when it is a full one, order and overlap, settings, closing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from snapdelta import Encoder, SnapshotManager, SnapshotReader
from snapdelta.errors import (
    EncodingError,
    SnapshotBusyError,
    SnapshotClosedError,
    SnapshotSettingError,
    UnsupportedTypeError,
    WriterSupersededError,
)
from snapdelta.snapshots import writer
from snapdelta.testing.feed import Feed
from support.assert_exact import assert_same
from support.clock import Clock
from support.servers import Server

Snapshot = dict[str, Any]
KEYS = {part: f"snapdelta:{{default}}:{part}" for part in ("full", "delta", "head")}


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Redis]:
    client = server.client()
    yield client
    await client.aclose()


def snapshots(count: int, symbols: int = 60) -> list[Snapshot]:
    feed = Feed("nested", symbols=symbols)
    return [next(feed) for _ in range(count)]


async def test_a_save_says_what_it_wrote(client: Redis) -> None:
    first = {f"S{number}": {"price": number, "name": str(number)} for number in range(100)}
    second = {**first, "S3": {"price": -3, "name": "3"}, "new": {"price": 1, "name": "new"}}
    del second["S5"]
    async with SnapshotManager(redis_client=client) as manager:
        full = await manager.save_snapshot(first)
        delta = await manager.save_snapshot(second)
    assert (full["type"], full["reason"], full["symbols"]) == ("full", "first", 100)
    assert (full["added"], full["removed"], full["updated"]) == (100, 0, 0)
    assert (delta["type"], delta["reason"], delta["symbols"]) == ("delta", None, 100)
    assert (delta["added"], delta["removed"], delta["updated"]) == (1, 1, 1)
    assert delta["sequence"] == full["sequence"] + 1
    assert delta["epoch"] == full["epoch"] > 0
    assert min(delta["capture_ms"], delta["encode_ms"], delta["write_ms"]) > 0
    entries: Any = await client.xrange(KEYS["full"])
    assert full["compressed_size"] == len(entries[0][1][b"f"])
    entries = await client.xrange(KEYS["delta"])
    assert delta["compressed_size"] == len(entries[1][1][b"f"])


async def test_full_frames_come_by_interval_length_and_request(client: Redis) -> None:
    clock = Clock()
    frames = snapshots(12)
    async with SnapshotManager(client, 300, clock=clock, chain_ratio=1e9) as manager:
        reasons = []
        for number, snapshot in enumerate(frames):
            result = await manager.save_snapshot(snapshot, force_full=number == 8)
            reasons.append(result["reason"])
            assert (result["type"] == "full") == (result["reason"] is not None)
            clock.now += 100
    assert reasons == [
        "first",
        None,
        None,
        "interval",
        None,
        None,
        "interval",
        None,
        "forced",
        None,
        None,
        "interval",
    ]
    async with SnapshotManager(client, chain_ratio=0.5) as manager:
        reasons = [(await manager.save_snapshot(snapshot))["reason"] for snapshot in frames]
    assert reasons[0] == "handover"
    assert set(reasons[1:]) == {None, "chain"}


async def test_checkpoints_cost_followers_nothing(client: Redis) -> None:
    reader = SnapshotReader(client)
    async with SnapshotManager(client) as manager:
        for number, snapshot in enumerate(snapshots(9)):
            await manager.save_snapshot(snapshot, force_full=number % 2 == 1)
            update = await reader.latest()
            assert update is not None
            assert_same(update.snapshot, snapshot)
            assert not update.resynced
            assert update.reason == ("start" if number == 0 else None)


async def test_a_delta_that_is_no_smaller_goes_as_a_full_frame(client: Redis) -> None:
    """Nothing is missed by a follower, so it has not resynced."""
    reader = SnapshotReader(client)
    async with SnapshotManager(client) as manager:
        for number in range(4):
            # Nothing of the frame before stays, and a delta also names its base.
            snapshot = {f"S{number}": f"text {number}"}
            result = await manager.save_snapshot(snapshot)
            assert (result["type"], result["reason"]) == ("full", "larger" if number else "first")
            update = await reader.latest()
            assert update is not None
            assert_same(update.snapshot, snapshot)
            assert not update.resynced
            assert update.reason == ("larger" if number else "start")


class Doubted:
    """An encoder whose frames fail their proof, as a fault of the codec would make them: a delta becomes the
    full frame that the real one makes then (`"delta"`), or no frame comes out at all (`"all"`)."""

    failing: str | None = None

    def __init__(self, **options: Any) -> None:
        self._real = Encoder(**options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def capture(self, snapshot: Snapshot) -> Any:
        captured = self._real.capture(snapshot)
        if Doubted.failing is None:
            return captured
        placeholder = SimpleNamespace(kind=captured.kind, symbols=captured.symbols, added=captured.added)
        placeholder.removed, placeholder.updated = captured.removed, captured.updated
        placeholder.held_cells = captured.held_cells

        def finish() -> bytes:
            if Doubted.failing == "all":
                raise EncodingError("frame 3 does not lead to its own digest")
            captured.finish()
            placeholder.kind = "full"
            return self._real.full()

        placeholder.finish = finish
        return placeholder


@pytest.mark.parametrize("failing", ["delta", "all"])
async def test_frames_that_fail_their_proof(
    client: Redis, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    monkeypatch.setattr(writer, "Encoder", Doubted)
    monkeypatch.setattr(Doubted, "failing", None)
    reader = SnapshotReader(client)
    frames = snapshots(6)
    async with SnapshotManager(client) as manager:
        for snapshot in frames[:2]:
            await manager.save_snapshot(snapshot)
        before = await reader.latest()
        assert before is not None
        monkeypatch.setattr(Doubted, "failing", failing)
        if failing == "delta":
            result = await manager.save_snapshot(frames[2])
            assert (result["type"], result["reason"], result["sequence"]) == ("full", "verify_failed", 3)
            update = await reader.latest()
            assert update is not None
            assert (update.resynced, update.reason) == (False, "verify_failed")
            assert_same(update.snapshot, frames[2])
        else:
            with pytest.raises(EncodingError):
                await manager.save_snapshot(frames[2])
            after = await reader.latest()
            assert after is not None
            assert after.sequence == before.sequence
        monkeypatch.setattr(Doubted, "failing", None)
        types = [(await manager.save_snapshot(snapshot))["type"] for snapshot in frames[3:]]
        assert types == (["delta"] * 3 if failing == "delta" else ["full", "delta", "delta"])
        update = await reader.latest()
        assert update is not None
        assert_same(update.snapshot, frames[5])


async def test_each_name_has_a_chain_of_its_own(client: Redis) -> None:
    lists = {
        name: snapshots(5, symbols) for name, symbols in (("all", 40), ("gainers", 10), ("losers: 日本", 20))
    }
    async with SnapshotManager(client) as manager:
        for number in range(5):
            results = await asyncio.gather(
                *(manager.save_snapshot(frames[number], name=name) for name, frames in lists.items())
            )
            assert {result["type"] for result in results} == {"delta" if number else "full"}
        for name, frames in lists.items():
            update = await SnapshotReader(client, name).latest()
            assert update is not None
            assert_same(update.snapshot, frames[-1])
            assert manager.stats(name).saved == 5


async def test_the_snapshot_is_read_before_the_call_returns(client: Redis) -> None:
    """Whether the save begins at once or has to wait, what happens to the dict afterwards is not seen."""
    snapshot = {f"S{number}": {"price": number} for number in range(2_000)}
    async with SnapshotManager(client) as manager:
        await manager.save_snapshot(snapshot)
        saved = []
        running = []
        for price in (-1, -2):
            snapshot["S7"]["price"] = price
            saved.append({symbol: dict(record) for symbol, record in snapshot.items()})
            running.append(asyncio.ensure_future(manager.save_snapshot(snapshot)))
            # Its first step reads the snapshot.
            await asyncio.sleep(0)
            snapshot["S8"]["price"] += 1
        results = await asyncio.gather(*running)
        assert [result["type"] for result in results] == ["delta", "delta"]
        assert [result["updated"] for result in results] == [1, 2]
        found = [update.snapshot async for update in SnapshotReader(client).replay()]
    assert_same(found[1:], saved)


async def test_saves_keep_their_order_and_only_one_waits(client: Redis) -> None:
    frames = snapshots(3)
    async with SnapshotManager(client) as manager:
        saves = [asyncio.ensure_future(manager.save_snapshot(frame)) for frame in frames]
        results = await asyncio.gather(*saves, return_exceptions=True)
        assert isinstance(results[2], SnapshotBusyError)
        assert [result["sequence"] for result in results[:2] if isinstance(result, dict)] == [1, 2]
        update = await SnapshotReader(client).latest()
        assert update is not None
        assert_same(update.snapshot, frames[1])
        assert (await manager.save_snapshot(frames[2]))["type"] == "delta"


async def test_a_value_that_cannot_be_carried_changes_nothing(client: Redis) -> None:
    good = {"A": {"x": 1}, "B": {"x": [1]}}
    async with SnapshotManager(client) as manager:
        with pytest.raises(UnsupportedTypeError, match=r"B\.x\[0\]"):
            await manager.save_snapshot({"A": {"x": 1}, "B": {"x": [{1, 2}]}})
        assert not await client.keys("*")
        await manager.save_snapshot(good)
        with pytest.raises(UnsupportedTypeError, match=r"B\.x\[0\]"):
            await manager.save_snapshot({"A": {"x": 9}, "B": {"x": [{1, 2}]}})
        result = await manager.save_snapshot(good)
        assert (result["type"], result["sequence"], result["updated"]) == ("delta", 2, 0)


async def test_the_later_writer_owns_the_name(client: Redis) -> None:
    old, new = SnapshotManager(client), SnapshotManager(client)
    await old.save_snapshot({"A": {"x": 1}})
    assert (await new.save_snapshot({"A": {"x": 2}}))["reason"] == "handover"
    for _ in range(2):
        with pytest.raises(WriterSupersededError, match="'default': a later writer"):
            await old.save_snapshot({"A": {"x": 3}})
    assert (await old.save_snapshot({"A": {"x": 4}}, name="other"))["type"] == "full"
    update = await SnapshotReader(client).latest()
    assert update is not None
    assert update.snapshot == {"A": {"x": 2}}
    await old.close()
    await new.close()


async def test_closing_lets_saves_end(client: Redis) -> None:
    manager = SnapshotManager(client)
    frames = snapshots(2, symbols=2_000)
    saves = [asyncio.ensure_future(manager.save_snapshot(frame)) for frame in frames]
    await asyncio.sleep(0)
    await manager.close()
    assert [(await save)["sequence"] for save in saves] == [1, 2]
    with pytest.raises(SnapshotClosedError, match="make a new one"):
        await manager.save_snapshot(frames[0])
    await manager.close()


async def test_closing_ends_what_does_not_end(client: Redis, server: Server) -> None:
    manager = SnapshotManager(client, command_timeout=60)
    await manager.save_snapshot({"A": {"x": 1}})
    server.pause()
    try:
        save = asyncio.ensure_future(manager.save_snapshot({"A": {"x": 2}}))
        await asyncio.sleep(0)
        await manager.close(time_limit=0.2)
        with pytest.raises(SnapshotClosedError, match="closed during the save"):
            await save
    finally:
        server.resume()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"full_snapshot_interval": 0}, "full_snapshot_interval"),
        ({"full_snapshot_interval": float("nan")}, "full_snapshot_interval"),
        ({"full_snapshot_interval": "300"}, "full_snapshot_interval"),
        ({"retained_fulls": 1}, "retained_fulls"),
        ({"history": -1}, "history"),
        ({"history_frames": 5}, "history_frames"),
        ({"history_bytes": 0}, "history_bytes"),
        ({"level": 23}, "level"),
        ({"level": True}, "level"),
        ({"chain_ratio": 0}, "chain_ratio"),
        ({"key_prefix": ""}, "key_prefix"),
        ({"key_prefix": "a{b}"}, "key_prefix"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": 300}, "ttl must be longer than full_snapshot_interval"),
        ({"command_timeout": 0}, "command_timeout"),
        ({"default": 3}, "default"),
        ({"clock": None}, "clock"),
        ({"retained_full": 3}, "retained_full"),
    ],
)
async def test_bad_settings_are_named_by_the_constructor(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SnapshotSettingError, match=named):
        SnapshotManager(Redis(), **settings)


@pytest.mark.parametrize("name", ["", "a{b", "a}b", "a\nb", "x" * 201, "\ud800", 7])
async def test_bad_names_are_refused(name: Any) -> None:
    manager = SnapshotManager(Redis())
    with pytest.raises(SnapshotSettingError, match="name"):
        await manager.save_snapshot({}, name=name)
    with pytest.raises(SnapshotSettingError, match="name"):
        SnapshotReader(Redis(), name)
    await manager.close()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"command_timeout": -1}, "command_timeout"),
        ({"limits": 5}, "limits"),
        ({"key_prefix": "{"}, "key_prefix"),
    ],
)
async def test_bad_settings_of_a_reader(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SnapshotSettingError, match=named):
        SnapshotReader(Redis(), **settings)
