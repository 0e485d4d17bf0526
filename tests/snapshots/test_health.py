"""What `health()` says of each part: each fault by name, and nothing of a part that is well."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from snapdelta import Health, overall_health
from snapdelta.errors import (
    SnapshotHistoryError,
    SnapshotRejectedError,
    SnapshotTypeError,
    SnapshotUnavailableError,
    UnsupportedTypeError,
    WriterSupersededError,
)
from snapdelta.redis_stream_manager import RedisStreamManager, StreamPolicy
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader
from support.proxy import Proxy
from support.servers import Server, on_one_server
from support.snapshot_harness import client_of, keys_of
from support.stream_harness import fill, until

STATE = {"A": {"x": 1}}
OK = Health()


async def test_what_works_has_nothing_to_say(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        reader = SnapshotReader(redis)
        async with RedisStreamManager(redis, {"s": StreamPolicy(maxlen=10)}) as streams:
            assert (manager.health(), reader.health()) == (OK, OK)
            for number in range(3):
                await manager.save_snapshot({"A": {"x": number}})
                await reader.latest()
                await anext(reader.follow())
            await streams.xadd("s", {"n": 1})
            await streams.trim("s")
            await until(lambda: streams.health().last_success is not None)
            assert (manager.health(60), reader.health(60)) == (OK, OK)
            assert (streams.health().status, streams.health().reasons) == ("ok", ())
            assert overall_health(manager, reader, streams) == OK == overall_health()


@on_one_server
async def test_saves_that_fail(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis, min_symbols=1) as manager:
        await manager.save_snapshot(STATE, name="top")
        for count in (1, 2, 3):
            with pytest.raises(UnsupportedTypeError):
                await manager.save_snapshot({"A": object()}, name="top")
            health = manager.health()
            assert health.status == ("failed" if count == 3 else "degraded")
            (reason,) = health.reasons
            assert f"snapshots 'top': {count} failed in a row; UnsupportedTypeError: " in reason
        await manager.save_snapshot(STATE, name="top")
        assert manager.health() == OK
        await asyncio.sleep(0.05)
        assert manager.health(max_age=0.01).status == "degraded"
        assert "the last save is 0 s old" in manager.health(max_age=0.01).reasons[0]
        async with SnapshotManager(redis) as later:
            await later.save_snapshot(STATE, name="top")
            with pytest.raises(WriterSupersededError):
                await manager.save_snapshot(STATE, name="top")
            assert manager.health().status == "failed"
            assert "'top': a later writer" in manager.health().reasons[0]
            assert later.health() == OK
            manager.forget("top")
            assert manager.health() == OK
    assert manager.health().status == "failed"


@on_one_server
async def test_what_no_restart_mends_never_fails_a_probe(server: Server) -> None:
    async with (
        Proxy(server.port) as proxy,
        client_of(proxy, retries=False) as redis,
        SnapshotManager(redis, min_symbols=1) as manager,
    ):
        await manager.save_snapshot(STATE)
        for _ in range(4):
            with pytest.raises(SnapshotRejectedError):
                await manager.save_snapshot({})
        assert manager.health().status == "degraded"
        assert "0 failed in a row; SnapshotRejectedError: refused" in manager.health().reasons[0]
        await manager.save_snapshot(STATE)
        assert manager.health() == OK
        for _ in range(4):
            # The second one waits for the first, and nobody for it.
            held = proxy.plan("hold", 1, "EVALSHA")
            first = asyncio.create_task(manager.save_snapshot(STATE))
            await held.hit.wait()
            second = asyncio.create_task(manager.save_snapshot(STATE))
            await asyncio.sleep(0)
            second.cancel()
            held.deliver()
            with pytest.raises(asyncio.CancelledError):
                await second
            await first
        assert manager.stats().failed == 8
        assert manager.health() == OK
        await proxy.refuse()
        await proxy.cut()
        for _ in range(4):
            with pytest.raises(SnapshotUnavailableError):
                await manager.save_snapshot(STATE)
        assert manager.health().status == "degraded"
        assert "4 failed in a row; SnapshotUnavailableError" in manager.health().reasons[0]
        await proxy.accept()
        await manager.save_snapshot(STATE)
        assert manager.health() == OK


@on_one_server
async def test_every_call_of_a_reader_counts(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        reader = SnapshotReader(redis)
        head = keys_of().head
        assert await reader.get("A") is None
        for number in range(3):
            await manager.save_snapshot({"A": {"x": number}})
        update = await reader.latest()
        assert update is not None
        await reader.get("A")
        await reader.at(update.timestamp)
        assert len([past async for past in reader.replay()]) == 3
        stats = reader.stats()
        assert (stats.updates, stats.records, stats.past_states) == (1, 2, 4)
        with pytest.raises(SnapshotHistoryError):
            await reader.at(1)
        assert reader.health() == OK
        saved: dict[Any, Any] = await redis.hgetall(head)
        await redis.delete(head)
        await redis.set(head, "x")
        calls: list[Callable[[], Awaitable[object]]] = [reader.latest, lambda: reader.get("A")]
        for call in calls:
            with pytest.raises(SnapshotTypeError):
                await call()
            assert reader.health().status == "failed"
            await redis.delete(head)
            # Nothing is found, and nothing is wrong.
            assert await call() is None
            assert reader.health() == OK
            await redis.set(head, "x")
        await redis.delete(head)
        await redis.hset(head, mapping=saved)
        server.execute("RENAME", keys_of().delta, "elsewhere")
        server.execute("SET", keys_of().delta, "x")
        past: list[Callable[[], Awaitable[object]]] = [
            lambda: reader.at(update.timestamp),
            lambda: anext(reader.replay()),
        ]
        for call in past:
            with pytest.raises(SnapshotTypeError):
                await call()
            assert reader.health().status == "failed"
            server.execute("DEL", keys_of().delta)
            server.execute("COPY", "elsewhere", keys_of().delta)
            await reader.at(update.timestamp)
            assert reader.health() == OK
            server.execute("DEL", keys_of().delta)
            server.execute("SET", keys_of().delta, "x")


async def test_readers_that_wait_or_cannot_go_on(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server(persist=True)
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot(STATE)
        reader = SnapshotReader(redis)
        updates = reader.follow()
        await anext(updates)
        waiting = asyncio.ensure_future(anext(updates))
        server.kill()
        await until(lambda: not reader.health().ok)
        health = reader.health()
        assert health.status == "degraded"
        assert "snapshots 'default': a subscription waits for the server" in health.reasons[0]
        assert health.reasons[0].endswith("snapdelta retries by itself")
        with pytest.raises(SnapshotUnavailableError):
            await reader.latest()
        assert len(reader.health().reasons) == 2
        server.start()
        while not waiting.done():
            with suppress(SnapshotUnavailableError):
                await manager.save_snapshot({"A": {"x": 2}})
            await asyncio.sleep(0.05)
        await waiting
        await reader.latest()
        assert reader.health() == OK
        assert reader.health(max_age=0.0).status == "degraded"
        await updates.aclose()

        await redis.delete(keys_of().head)
        await redis.set(keys_of().head, "x")
        with pytest.raises(SnapshotTypeError):
            await reader.latest()
        assert reader.health().status == "failed"
        assert "SnapshotTypeError" in reader.health().reasons[0]


@on_one_server
async def test_streams_that_are_not_bounded(server: Server) -> None:
    policies = {"s": StreamPolicy(maxlen=1_000), "unread": StreamPolicy(maxlen=2, keep_unread=True)}
    async with server.client() as redis:
        streams = RedisStreamManager(redis, policies)
        health = streams.health()
        assert (health.status, health.running) == ("failed", False)
        assert "does not run" in health.reasons[0]
        async with streams:
            await until(lambda: streams.health().last_success is not None)
            assert streams.health().ok
            # A group that nobody reads: 2 to keep, 20 at the most.
            await redis.xgroup_create("unread", "slow", id="0", mkstream=True)
            await streams.xadd_many("unread", [{"n": n} for n in range(19)])
            await streams.trim("unread")
            (reason,) = streams.health().reasons
            assert reason == "stream 'unread': 17 unread entries will be dropped at hard_maxlen (20)"
            await fill(redis, "unread", 10)
            await streams.trim("unread")
            assert "'unread': 9 unread entries were dropped" in streams.health().reasons[0]
            for _ in range(4):
                for n in range(100):
                    await redis.xadd("s", {"n": n}, maxlen=50, approximate=False)
                await streams.trim("s")
            assert any("'s': another program" in reason for reason in streams.health().reasons)
            assert streams.health().status == "degraded"
            assert overall_health(streams, OK).status == "degraded"
            assert overall_health(Health("failed", ("x",)), streams).reasons[0] == "x"


@on_one_server
async def test_log_records_have_fields(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "snapdelta")
    async with server.client() as redis, SnapshotManager(redis, min_symbols=1) as manager:
        reader = SnapshotReader(redis)
        result = await manager.save_snapshot(STATE)
        await reader.latest()
        with pytest.raises(SnapshotRejectedError):
            await manager.save_snapshot({})
        await redis.flushall()
        await manager.save_snapshot(STATE)
        await manager.save_snapshot({"A": {"x": 2}})
        await reader.latest()
    records = [record.__dict__ for record in caplog.records if record.name.startswith("snapdelta")]
    assert [(record["event"], record["levelname"]) for record in records] == [
        ("save", "INFO"),
        ("save_failed", "WARNING"),
        ("save", "INFO"),
        ("save", "DEBUG"),
        ("resync", "INFO"),
    ]
    assert {record["snapshots"] for record in records} == {"default"}
    assert result.items() <= records[0].items()
    assert (records[1]["error"], records[1]["reason"]) == ("SnapshotRejectedError", "min_symbols")
    assert records[4]["reason"] == records[2]["reason"] == "head_lost"
    assert reader.stats().resyncs == {"head_lost": 1}
