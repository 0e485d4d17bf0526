"""Many who follow on one client: they share one follower; nobody keeps a writer or another reader waiting."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from snapdelta import Limits
from snapdelta.errors import (
    LimitExceededError,
    SnapshotClosedError,
    SnapshotPoolExhaustedError,
    StreamPoolExhaustedError,
)
from snapdelta.redis_stream_manager import RedisStreamManager
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader
from support.servers import AsyncClient, Deployment, Server, on_one_server, patience
from support.snapshot_harness import Stage, keys_of
from support.stream_harness import until


def connections(server: Server) -> int:
    """Those that have read a stream of deltas, also if they have been idle since."""
    return str(server.execute("CLIENT", "LIST")).count("cmd=xread")


async def one_waits(server: Server) -> bool:
    """Whether, for half a second, no more than one connection at a time waits for a delta."""
    for _ in range(50):
        with server.admin() as admin:
            if admin.info("clients")["blocked_clients"] > 1:
                return False
        await asyncio.sleep(0.01)
    return True


def tasks() -> list[str]:
    return [
        task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("snapdelta-follow-")
    ]


# --- connections


async def test_many_followers_on_a_default_pool(server: Server) -> None:
    """They take one connection, none of the caller's, and every save succeeds."""
    async with Stage(server.client) as stage:
        client = stage.client()
        for _ in range(120):
            await stage.follow(client)
        await until(lambda: connections(server) == 1)
        writer = await stage.writer("A", client)
        for _ in range(3):
            await writer.save()
            await stage.together()
        assert all(len(follower.seen) == 3 for follower in stage.followers)
        assert not stage.resyncs
        await until(lambda: connections(server) == 1)
        with server.admin() as admin:
            assert admin.info("clients")["connected_clients"] <= 3


async def test_followers_leave_the_pool_to_the_writer(deployment: Deployment) -> None:
    """With one connection in the pool, names are followed, saved and read."""
    async with Stage(lambda: deployment.client(max_connections=1)) as stage:
        client = stage.client()
        followers = [await stage.follow(client) for _ in range(3)]
        writer = await stage.writer("A", client)
        await writer.saves(2)
        await stage.together()
        others = []
        async with SnapshotManager(client) as manager:
            for name in "bcd":
                await manager.save_snapshot({"x": {"v": name}}, name)
                others.append(SnapshotReader(client, name).follow())
                assert (await anext(others[-1])).snapshot == {"x": {"v": name}}
            await writer.saves(2)
            await stage.together()
            assert [seen.id[1] for seen in followers[0].seen][-3:] == [2, 3, 4]
            waiting = [asyncio.create_task(anext(each)) for each in others]
            for name in "bcd":
                await manager.save_snapshot({"x": {"v": name * 2}}, name)
            assert [(await task).snapshot["x"]["v"] for task in waiting] == ["bb", "cc", "dd"]
        for each in others:
            await each.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(each)


@pytest.mark.parametrize("waits", [False, True], ids=["raises", "waits"])
async def test_an_exhausted_pool_is_named(deployment: Deployment, waits: bool) -> None:
    """Whoever finds no free connection is told so, and which setting to raise; then all goes on."""
    if waits and deployment.is_cluster:
        client: AsyncClient = deployment.client(max_connections=1)
    elif waits:
        assert isinstance(deployment, Server)
        pool = BlockingConnectionPool(host="127.0.0.1", port=deployment.port, max_connections=1, timeout=0.2)
        client = Redis.from_pool(pool)
    else:
        client = deployment.client(max_connections=1)
    key = keys_of().head
    async with client, SnapshotManager(client, command_timeout=patience(3.0)) as manager:
        await manager.save_snapshot({"A": {"x": 1}})
        # In a cluster, on the same server.
        stream, streams = key.replace("head", "stream"), RedisStreamManager(client, protected=())
        blocked = asyncio.ensure_future(client.execute_command("BLPOP", f"{key}:none", 0))
        await asyncio.sleep(0.2)
        match = "all connections of the client's pool are in use.*raise the client's max_connections"
        with pytest.raises(SnapshotPoolExhaustedError, match=match):
            await manager.save_snapshot({"A": {"x": 2}})
        with pytest.raises(SnapshotPoolExhaustedError, match=match):
            await SnapshotReader(client).latest()
        with pytest.raises(StreamPoolExhaustedError, match=match):
            await streams.xadd(stream, {"a": 1})
        async with deployment.client() as other:
            await other.lpush(f"{key}:none", "released")
        await blocked
        await manager.save_snapshot({"A": {"x": 2}})
        latest = await SnapshotReader(client).latest()
        assert latest is not None
        assert latest.snapshot == {"A": {"x": 2}}


async def test_a_pool_that_waits_longer_than_the_time_limit_is_named_too(server: Server) -> None:
    pool = BlockingConnectionPool(host="127.0.0.1", port=server.port, max_connections=1, timeout=60)
    async with (
        Redis.from_pool(pool) as client,
        SnapshotManager(client, command_timeout=patience(0.3)) as manager,
    ):
        answer = client.execute_command("BLPOP", "none", 0)  # type: ignore[no-untyped-call]
        blocked = asyncio.ensure_future(answer)
        await until(lambda: server.execute("INFO", "clients")["blocked_clients"] > 0)
        with pytest.raises(SnapshotPoolExhaustedError):
            await manager.save_snapshot({"A": {"x": 1}})
        server.execute("LPUSH", "none", "released")
        await blocked
        await manager.save_snapshot({"A": {"x": 1}})


# --- each its own updates


async def test_a_slow_one_misses_nothing_and_keeps_nobody_waiting(server: Server) -> None:
    async with Stage(server.client) as stage:
        client = stage.client()
        slow, quick = await stage.follow(client), await stage.follow(client)
        writer = await stage.writer()
        await writer.saves(3)
        await stage.together()
        slow.pause()
        await writer.saves(30)
        await quick.reaches(stage.oracle.newest)
        assert len(slow.seen) < 10
        slow.resume()
        await stage.together()
        await writer.saves(3)
        await stage.together()
        for follower in stage.followers:
            ids = [seen.id[1] for seen in follower.seen]
            assert ids == list(range(ids[0], 37))
            assert not follower.resyncs
        # It is with the other one again.
        await until(lambda: one_waits(server))


async def test_one_that_is_slower_than_the_history_is_told(server: Server) -> None:
    async with Stage(server.client, history=0.0, history_frames=6) as stage:
        client = stage.client()
        slow, quick = await stage.follow(client), await stage.follow(client)
        writer = await stage.writer()
        await writer.saves(3)
        await stage.together()
        slow.pause()
        for _ in range(30):
            await writer.save()
            await quick.reaches(stage.oracle.newest)
        slow.resume()
        await stage.together()
        assert slow.resyncs == ["gap"]
        assert slow.seen[-1].id == stage.oracle.newest
        assert not quick.resyncs
        await stage.recover(writer)
        assert len(slow.resyncs) == 1


async def test_who_joins_has_the_newest_state_though_another_one_sleeps(server: Server) -> None:
    async with Stage(server.client) as stage:
        client = stage.client()
        asleep = await stage.follow(client)
        writer = await stage.writer()
        await writer.saves(2)
        await stage.together()
        asleep.pause()
        await writer.saves(20)
        for _ in range(3):
            late = await stage.follow(client)
            await late.until(lambda: len(late.seen) > 0, "its first update")  # noqa: B023
            assert (late.seen[0].id, late.seen[0].reason) == (stage.oracle.newest, "start")
            await writer.save()
        asleep.resume()
        await stage.together()
        ids = [seen.id[1] for seen in asleep.seen]
        assert ids == list(range(ids[0], 26))
        assert not stage.resyncs


@on_one_server
async def test_followers_that_come_sleep_and_go(server: Server) -> None:
    """By turns of chance, through checkpoints, takeovers, lost keys and short histories (FollowedReader)."""
    rng = random.Random(5)
    async with Stage(server.client, history=0.0, history_frames=12) as stage:
        client = stage.client()
        writer = await stage.writer()
        stage.oracle.may_go_back = True
        for turn in range(150):
            match rng.randrange(12):
                case 0 if len(stage.followers) < 12:
                    await stage.follow(client)
                case 1 if stage.followers:
                    await stage.followers.pop(rng.randrange(len(stage.followers))).stop()
                case 2 | 3 if stage.followers:
                    rng.choice(stage.followers).pause()
                case 4 | 5 if stage.followers:
                    rng.choice(stage.followers).resume()
                case 6 if turn % 3 == 0:
                    writer = await stage.writer(f"W{turn}")
                case 7 if turn % 4 == 0:
                    server.execute("DEL", rng.choice(list(keys_of())))
                case _:
                    await writer.saves(rng.randrange(1, 5))
        for follower in stage.followers:
            follower.resume()
        await stage.recover(writer)


# --- who shares, and for how long


async def test_the_others_go_on_when_one_is_cancelled(server: Server) -> None:
    async with Stage(server.client) as stage:
        client = stage.client()
        for _ in range(5):
            await stage.follow(client)
        writer = await stage.writer()
        while stage.followers:
            await writer.save()
            await stage.together()
            assert len(tasks()) == 1
            await stage.followers.pop(0).stop()
            await stage.nobody_is_misled()
        # With the last one ends what they shared.
        await until(lambda: not tasks() and connections(server) == 0)


async def test_what_is_shared_ends_by_itself(server: Server) -> None:
    """Also where nobody closes anything: a loop that is left, and one that is not gone on with."""
    async with server.client() as client, SnapshotManager(client) as manager:
        await manager.save_snapshot({"A": {"x": 1}})
        async for update in SnapshotReader(client).follow():
            assert update.sequence == 1
            break
        await until(lambda: not tasks())
        updates = SnapshotReader(client).follow()
        await anext(updates)
        with suppress(TimeoutError):
            await asyncio.wait_for(anext(updates), 0.1)
        # It is still there, and nobody waits.
        await until(lambda: not tasks() and connections(server) == 0)
        await manager.save_snapshot({"A": {"x": 2}})
        assert (await anext(updates)).changed == ["A"]


async def test_other_clients_and_limits_have_their_own(server: Server) -> None:
    async with Stage(server.client) as stage:
        first, second = stage.client(), stage.client()
        writer = await stage.writer()
        await writer.save()
        readers = [
            *(SnapshotReader(first) for _ in range(3)),
            SnapshotReader(first, limits=Limits(2**30)),
            SnapshotReader(first, limits=Limits(2**30)),
            SnapshotReader(second),
        ]
        updates = [reader.follow() for reader in readers]
        for each in updates:
            stage.oracle.check(await anext(each))
        tight = SnapshotReader(first, limits=Limits(1)).follow()
        with pytest.raises(LimitExceededError):
            await anext(tight)
        waiting = [asyncio.create_task(anext(each)) for each in updates]
        await until(lambda: connections(server) == 3)
        await writer.save()
        for task in waiting:
            stage.oracle.check(await task)
        for each in (*updates, tight):
            await each.aclose()


def test_another_event_loop_has_its_own(server: Server) -> None:
    updates: Any = None

    async def first() -> None:
        nonlocal updates
        async with server.client() as client, SnapshotManager(client) as manager:
            await manager.save_snapshot({"A": {"x": 1}})
            updates = SnapshotReader(client).follow()
            assert (await anext(updates)).sequence == 1

    async def second() -> None:
        with pytest.raises(SnapshotClosedError, match="another event loop"):
            await anext(updates)
        async with server.client() as client:
            assert (await anext(SnapshotReader(client).follow())).sequence == 1

    asyncio.run(first())
    asyncio.run(second())


async def test_updates_of_one_are_not_those_of_another(server: Server) -> None:
    """What one does to its snapshot nobody else sees; shared records are the same objects."""
    async with server.client() as client, SnapshotManager(client) as manager:
        await manager.save_snapshot({"A": {"x": [1]}, "B": {"x": [2]}})
        mine, yours = SnapshotReader(client).follow(), SnapshotReader(client).follow()
        (await anext(mine)).snapshot["A"]["x"].append(9)
        assert (await anext(yours)).snapshot == {"A": {"x": [1]}, "B": {"x": [2]}}
        await mine.aclose()
        await yours.aclose()
        both = [SnapshotReader(client, shared=True).follow() for _ in range(2)]
        one, other = [(await anext(each)).snapshot for each in both]
        assert one["A"] is other["A"]
        assert one is not other
        for each in both:
            await each.aclose()
