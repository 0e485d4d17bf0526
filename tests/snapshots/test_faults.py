"""Faults of the server and of its keys, each with a real process: what is promised holds after every one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import combinations
from typing import Any
from uuid import uuid4

import pytest
import redis as sync_redis

from snapdelta.errors import (
    SnapshotMemoryError,
    SnapshotReadOnlyError,
    SnapshotTypeError,
    SnapshotUnavailableError,
)
from support import snapshot_harness
from support.proxy import Proxy
from support.servers import KINDS, Server, patience, wait_until
from support.snapshot_harness import LIMIT, Stage, Writer, client_of, keys_of, staged
from support.stream_harness import until

KEYS = keys_of()


@pytest.fixture(autouse=True)
def _mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mirrors of every name: after each fault their rows, too, are the newest state."""
    monkeypatch.setattr(snapshot_harness, "MIRRORS", 2)


LOST = [chosen for count in (1, 2, 3) for chosen in combinations(("full", "delta", "head"), count)]


# --- the server dies


@pytest.mark.parametrize("empty", [False, True], ids=["with-data", "empty"])
@pytest.mark.parametrize("retries", [True, False], ids=["retries", "no-retries"])
@pytest.mark.parametrize("kind", list(KINDS))
async def test_the_server_is_killed_and_comes_back(
    kind: str, empty: bool, retries: bool, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server(kind, persist=True)
    async with staged(lambda: client_of(server, retries=retries), followers=2) as (stage, writer):
        server.kill()
        with pytest.raises(SnapshotUnavailableError, match="'default'"):
            await writer.save()
        server.restart(empty=empty)
        first, second = await stage.recover(writer)
        assert (first["type"], first["reason"]) == ("full", "head_lost" if empty else "outcome_unknown")
        assert second["type"] == "delta"
        for follower in stage.followers:
            assert follower.resyncs == [first["reason"]]


@pytest.mark.parametrize("kind", list(KINDS))
async def test_a_server_that_comes_back_with_its_data_between_two_saves_costs_no_resync(
    kind: str, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server(kind, persist=True)
    async with staged(server.client, followers=2) as (stage, writer):
        server.restart(empty=False)
        results = await stage.recover(writer)
        assert [result["type"] for result in results] == ["delta", "delta"]
        assert not stage.resyncs


async def test_a_save_waits_for_a_server_that_comes_back_soon(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server(persist=True)
    async with staged(server.client, command_timeout=LIMIT) as (stage, writer):
        server.kill()
        saving = asyncio.create_task(writer.save())
        await asyncio.sleep(0.1)
        server.start()
        assert (await saving)["type"] == "delta"
        await stage.recover(writer)
        assert not stage.resyncs


async def test_the_server_is_killed_again_and_again_under_load(fresh_server: Callable[..., Server]) -> None:
    """Whatever it had confirmed is there after every restart."""
    server = fresh_server(persist=True)
    # No checkpoint is due at the save after an outage: its restart would only say that the head is behind.
    async with staged(server.client, followers=2, chain_ratio=1e6) as (stage, writer):
        for _ in range(3):
            saving = asyncio.create_task(_saves_until_it_fails(writer))
            await asyncio.sleep(0.1)
            server.kill()
            with pytest.raises(SnapshotUnavailableError):
                await saving
            confirmed = stage.oracle.newest
            server.start()
            latest = await stage.reader().latest()
            assert latest is not None
            stage.oracle.check(latest)
            # What was on its way may be there as well.
            assert (latest.epoch, latest.sequence) in (confirmed, (confirmed[0], confirmed[1] + 1))
            await stage.recover(writer)
        assert stage.resyncs <= {"outcome_unknown"}


async def _saves_until_it_fails(writer: Writer) -> None:
    while True:
        await writer.save()


async def test_nobody_is_on_the_server_while_it_is_down(fresh_server: Callable[..., Server]) -> None:
    """A writer and readers that begin, and wait, before there is a server."""
    server = fresh_server()
    server.kill()
    async with Stage(lambda: client_of(server, retries=False)) as stage:
        writer = await stage.writer()
        await stage.follow()
        with pytest.raises(SnapshotUnavailableError):
            await writer.save()
        with pytest.raises(SnapshotUnavailableError):
            await stage.reader().latest()
        server.start()
        await stage.recover(writer)


async def test_a_server_that_stops_answering(server: Server) -> None:
    """Stopped, not ended: connections stay open, and the save may still be carried out when it goes on."""
    async with staged(
        lambda: client_of(server, retries=False), followers=2, command_timeout=patience(0.5)
    ) as (
        stage,
        writer,
    ):
        server.pause()
        try:
            with pytest.raises(SnapshotUnavailableError, match="default"):
                await writer.save()
        finally:
            server.resume()
        await stage.recover(writer)
        assert stage.resyncs <= {"outcome_unknown"}


# --- keys disappear


@pytest.mark.parametrize("lost", LOST, ids="+".join)
async def test_keys_are_deleted(server: Server, lost: tuple[str, ...]) -> None:
    async with staged(server.client, followers=2) as (stage, writer):
        server.execute("DEL", *(getattr(KEYS, part) for part in lost))
        await stage.nobody_is_misled()
        first, second = await stage.recover(writer)
        assert first["reason"] == ("head_lost" if "head" in lost else "stream_lost")
        assert second["type"] == "delta"
        # Who read on without a gap may, but need not, start again.
        assert stage.resyncs <= {first["reason"]}


async def test_keys_are_deleted_while_saves_go_on(server: Server) -> None:
    async with staged(server.client, followers=3) as (stage, writer):
        for number in range(60):
            if number % 4 == 0:
                server.execute("DEL", *(getattr(KEYS, part) for part in LOST[number // 4 % len(LOST)]))
            await writer.save()
        await stage.recover(writer)
        # Where the marker went with the stream, a gap is what is seen.
        assert stage.resyncs <= {"head_lost", "stream_lost", "gap", "head"}


async def test_keys_deleted_and_nothing_saved_afterwards(server: Server) -> None:
    """Without a head there is nothing to go by; who follows waits, and a new writer is welcome."""
    async with staged(server.client) as (stage, _):
        server.execute("DEL", *KEYS)
        assert await stage.reader().latest() is None
        other = await stage.writer("B")
        assert (await other.save())["reason"] == "first"
        await stage.recover(other)
        assert stage.followers[0].resyncs == ["first"]


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
async def test_keys_are_evicted(server: Server, policy: str) -> None:
    """Five times over, whichever of the three it is."""
    async with staged(server.client, followers=2) as (stage, writer):
        server.config_set("maxmemory-policy", policy)
        server.config_set("maxmemory", server.execute("INFO", "memory")["used_memory"] + 300_000)
        server.config_set("maxmemory-samples", 10)
        with server.admin() as admin:
            for _ in range(5):
                wait_until(lambda: _one_is_gone(admin), what="eviction")
                await writer.save()
        server.config_set("maxmemory", 0)
        await stage.recover(writer)
        # A stream that went and came again while a reader looked away is a gap to it.
        assert stage.resyncs <= {"head_lost", "stream_lost", "gap", "head"}
        assert stage.resyncs


def _one_is_gone(admin: sync_redis.Redis) -> bool:
    """Whether one of the three keys is missing; makes the server need room for others."""
    for _ in range(10):
        admin.set(f"other:{uuid4()}", "x" * 10_000)
    return int(admin.exists(*KEYS)) < 3


# --- the server refuses


async def test_maxmemory_is_reached(server: Server) -> None:
    async with staged(server.client, followers=2) as (stage, writer):
        server.config_set("maxmemory-policy", "noeviction")
        server.config_set("maxmemory", 1)
        before = _ids(server)
        for _ in range(20):
            with pytest.raises(SnapshotMemoryError, match="maxmemory"):
                await writer.save()
        assert _ids(server) == before, "a refused save leaves nothing"
        await stage.join()
        server.config_set("maxmemory", 0)
        await stage.recover(writer)
        assert stage.resyncs <= {"head_behind", "outcome_unknown"}


async def test_maxmemory_is_reached_before_the_first_save(server: Server) -> None:
    server.config_set("maxmemory-policy", "noeviction")
    server.config_set("maxmemory", 1)
    async with Stage(server.client) as stage:
        writer = await stage.writer()
        follower = await stage.follow()
        for _ in range(3):
            with pytest.raises(SnapshotMemoryError, match="maxmemory"):
                await writer.save()
        assert server.execute("DBSIZE") == 0
        server.config_set("maxmemory", 0)
        await stage.recover(writer)
        assert not follower.resyncs


@pytest.mark.parametrize("kind", list(KINDS))
async def test_a_master_becomes_a_replica_and_a_master_again(
    kind: str, fresh_server: Callable[..., Server]
) -> None:
    """With the data of its new master, which has none of ours."""
    server, other = fresh_server(kind), fresh_server(kind)
    async with staged(server.client, followers=2) as (stage, writer):
        server.replicate(other)
        for _ in range(3):
            with pytest.raises(SnapshotReadOnlyError, match="replica"):
                await writer.save()
        server.replicate(None)
        first, _ = await stage.recover(writer)
        assert first["reason"] == "head_lost"
        assert stage.resyncs == {"head_lost"}


@pytest.mark.parametrize("kind", list(KINDS))
async def test_readers_follow_on_a_replica(kind: str, fresh_server: Callable[..., Server]) -> None:
    master, replica = fresh_server(kind), fresh_server(kind)
    async with staged(master.client) as (stage, writer):
        replica.replicate(master)
        follower = await stage.follow(stage.own(replica.client()))
        await writer.saves(10)
        await stage.together()
        # The link is cut, and the master goes on alone for a time.
        replica.replicate(None)
        await writer.saves(10)
        replica.replicate(master)
        await writer.saves(2)
        await stage.together()
        assert not follower.resyncs


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("same_writer", [True, False], ids=["same-writer", "new-writer"])
async def test_a_replica_that_lags_behind_becomes_the_master(
    kind: str, same_writer: bool, fresh_server: Callable[..., Server]
) -> None:
    """The last saves are lost, although they were accepted and read."""
    master, replica = fresh_server(kind), fresh_server(kind)
    async with Proxy(master.port) as proxy, staged(lambda: client_of(proxy), followers=2) as (stage, writer):
        replica.replicate(master)
        await writer.saves(2)
        await until(lambda: replica.execute("HGET", KEYS.head, "sequence") == "5")
        replica.replicate(None)
        await writer.saves(3)
        await stage.together()
        master.kill()
        proxy.target = replica.port
        await proxy.cut()
        stage.oracle.may_go_back = True
        if not same_writer:
            writer = await stage.writer("B")
        first, second = await stage.recover(writer)
        # A new writer goes on from what is left, at which no reader is any more.
        assert first["reason"] == ("head_behind" if same_writer else "handover")
        assert second["type"] == "delta"
        assert stage.resyncs <= {"head_behind" if same_writer else "gap", "head"}


@pytest.mark.parametrize("part", ["full", "delta", "head"])
async def test_another_type_at_a_key(server: Server, part: str) -> None:
    key = getattr(KEYS, part)
    async with staged(server.client) as (stage, writer):
        server.execute("DEL", key)
        server.execute("SET", key, "not ours")
        for _ in range(3):
            with pytest.raises(SnapshotTypeError, match=key.replace("{", r"\{").replace("}", r"\}")):
                await writer.save()
        with pytest.raises(SnapshotTypeError, match=part):
            await stage.reader().latest()
        if part != "full":
            # Who follows does not look at the full frames.
            error = await stage.followers.pop().fails()
            assert isinstance(error, SnapshotTypeError)
        assert server.execute("GET", key) == "not ours"
        server.execute("DEL", key)
        await stage.follow()
        first, _ = await stage.recover(writer)
        # The saves that were refused are a gap before the next one, whatever else is missing.
        assert first["reason"] == ("head_lost" if part == "head" else "outcome_unknown")


def _ids(server: Server) -> list[Any]:
    with sync_redis.Redis(port=server.port) as client:
        return [[row[0] for row in client.xrange(key)] for key in (KEYS.full, KEYS.delta)]
