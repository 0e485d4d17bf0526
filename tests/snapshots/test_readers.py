"""Readers that are slow, late, cut off or not allowed to write; and nobody starts again without a reason."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from snapdelta.errors import SnapshotAccessError, SnapshotDamagedError
from support.clock import Clock
from support.corruption import entries, flipped, tamper
from support.proxy import Proxy
from support.servers import Server, on_one_server
from support.snapshot_harness import Stage, Writer, client_of, keys_of, staged
from support.stream_harness import until

KEYS = keys_of()
# A full frame every other save, and three of them kept.
SHORT: dict[str, Any] = {"history": 0.0, "history_frames": 6}


# --- nothing happens


async def test_a_long_life_without_faults(server: Server) -> None:
    await _faultless(server, saves=400)


@pytest.mark.long
async def test_a_very_long_life_without_faults(server: Server) -> None:
    await _faultless(server, saves=5_000)


async def _faultless(server: Server, saves: int) -> None:
    """Checkpoints by every rule, readers that come and go, one that is slow: nobody starts again."""
    clock = Clock()
    settings: dict[str, Any] = {"full_snapshot_interval": 60.0, "history_frames": 60, "history": 0.0}
    async with staged(server.client, followers=2, clock=clock, **settings) as (stage, writer):
        reasons = set()
        for number in range(saves):
            clock.now += 5.0
            result = await writer.save(force_full=number % 97 == 0)
            reasons.add(result["reason"])
            if number % 50 == 0:
                await stage.together()
                late = await stage.follow()
                await late.reaches(stage.oracle.newest)
                if number % 100 == 0 or len(stage.followers) > 6:
                    stage.followers.remove(late)
                    await late.stop()
            if number % 10 == 0 or (number + 1) % 97 == 0:
                # Nobody falls out of what is kept: two full frames. A forced one may follow another at once.
                await stage.together()
            if number % 20 == 0:
                await stage.join()
            if number % 10 == 0:
                with server.admin() as admin:
                    assert admin.xlen(KEYS.delta) <= 60
                    assert admin.xlen(KEYS.full) <= 60
                    assert admin.dbsize() == 3
        await stage.together()
        assert {None, "interval", "forced"} <= reasons <= {None, "interval", "forced", "chain"}
        assert not stage.resyncs
        # The two that were there from the beginning have seen every save since they began.
        for follower in stage.followers[:2]:
            ids = [seen.id[1] for seen in follower.seen]
            assert ids == list(range(ids[0], saves + 4))


async def test_connections_that_are_killed_cost_nothing(server: Server) -> None:
    async with staged(server.client, followers=3) as (stage, writer):
        for _ in range(30):
            server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert (await writer.save())["reason"] in (None, "chain")
        await stage.recover(writer)
        assert not stage.resyncs
        with server.admin() as admin:
            assert admin.info("clients")["connected_clients"] < 20


# --- slow readers


async def test_a_slow_reader_gets_everything_that_is_kept(server: Server) -> None:
    async with staged(server.client) as (stage, writer):
        (follower,) = stage.followers
        follower.pause()
        await writer.saves(100)
        assert len(follower.seen) < 10
        follower.resume()
        await stage.together()
        assert not follower.resyncs
        assert [seen.id[1] for seen in follower.seen][-100:] == list(range(4, 104))


@pytest.mark.parametrize("missed", [1, 7, 8, 30, 100])
async def test_a_reader_paused_past_the_history(server: Server, missed: int) -> None:
    """It goes on at the newest state, once, and says so."""
    async with staged(server.client, **SHORT) as (stage, writer):
        (follower,) = stage.followers
        follower.pause()
        await _until_paused(stage, writer)
        before = follower.last
        await writer.saves(missed)
        oldest = entries(server, KEYS.delta)[0][0]
        kept = int(oldest.split(b"-")[1])
        follower.resume()
        await stage.together()
        if kept <= before[1] + 1:
            assert not follower.resyncs
        else:
            assert follower.resyncs == ["gap"]
            # Nothing between, only the newest and what followed.
            assert follower.seen[-1].id == stage.oracle.newest
        await stage.recover(writer)
        assert len(follower.resyncs) <= 1


async def test_a_reader_that_is_always_too_slow(server: Server) -> None:
    async with staged(server.client, **SHORT) as (stage, writer):
        (follower,) = stage.followers
        for _ in range(10):
            follower.pause()
            await writer.saves(20)
            follower.resume()
            await stage.together()
        assert set(follower.resyncs) == {"gap"}
        await stage.recover(writer)


async def test_readers_start_while_the_writer_trims(server: Server) -> None:
    """What they read is trimmed under them, again and again; each starts all the same."""
    async with staged(server.client, **SHORT) as (stage, writer):
        running = True

        async def write() -> None:
            while running:
                await writer.save()
                await asyncio.sleep(0)

        async def start() -> None:
            for _ in range(20):
                follower = await stage.follow()
                await follower.until(lambda: len(follower.seen) > 3, "a few updates")  # noqa: B023
                stage.followers.remove(follower)
                await follower.stop()
                latest = await stage.reader().latest()
                assert latest is not None
                stage.oracle.check(latest)

        writing = asyncio.create_task(write())
        await asyncio.gather(*(start() for _ in range(3)))
        running = False
        await writing
        await stage.recover(writer)


@on_one_server
@pytest.mark.parametrize("nth", range(1, 7))
async def test_all_is_trimmed_between_two_commands_of_a_reader(server: Server, nth: int) -> None:
    """What it had found has gone when it reads on: it looks again."""
    async with Proxy(server.port) as proxy, staged(server.client, **SHORT) as (stage, writer):
        client = stage.own(client_of(proxy))
        reader = stage.reader(client)
        # The newest full frame alone is not the newest state.
        assert (await writer.save())["type"] == "delta"
        await client.ping()
        held = proxy.plan("hold", nth)
        reading = asyncio.create_task(reader.latest())
        # The last few may be more commands than it needs.
        await until(lambda: held.hit.is_set() or reading.done())
        proxy.forget()
        before = stage.oracle.newest
        await writer.saves(12)
        held.deliver()
        latest = await reading
        assert latest is not None
        stage.oracle.check(latest)
        assert (latest.epoch, latest.sequence) >= before
        # And one that follows, behind the four commands with which its own connection begins.
        held = proxy.plan("hold", 4 + nth)
        follower = await stage.follow(client)
        await held.hit.wait()
        await writer.saves(12)
        held.deliver()
        await stage.together()
        assert set(follower.resyncs) <= {"gap"}
        proxy.forget()
        await stage.recover(writer)
        await follower.stop()


# --- readers that may only read


async def test_a_reader_that_may_not_write(server: Server) -> None:
    """It follows like any other; where it finds damage, it waits for the next full frame."""
    server.execute(
        *("ACL", "SETUSER", "looker", "on", ">secret", "resetkeys", "~snapdelta:*"),
        *("-@all", "+xread", "+xrange", "+xrevrange", "+hmget", "+time"),
        *("+hello", "+client", "+ping", "+auth"),
    )
    try:
        async with staged(server.client, followers=0) as (stage, writer):
            client = stage.own(client_of(server, username="looker", password="secret"))
            follower = await stage.follow(client)
            await writer.saves(2)
            await stage.together()
            follower.pause()
            await _until_paused(stage, writer)
            await writer.saves(2)
            tamper(server, KEYS.delta, flipped, behind=2)
            with pytest.raises(SnapshotDamagedError):
                await stage.reader(client).latest()
            assert server.execute("HGET", KEYS.head, "resync_request") is None
            follower.resume()
            await writer.save()
            await writer.save(force_full=True)
            await stage.together()
            assert follower.resyncs == ["damaged"]
            with pytest.raises(SnapshotAccessError, match=r"the user lacks a right .* docs/snapshots.md"):
                await (await stage.writer("B", client)).save()
            await follower.stop()
    finally:
        server.execute("ACL", "DELUSER", "looker")


async def test_a_reader_that_may_not_even_read(server: Server) -> None:
    server.execute("ACL", "SETUSER", "nobody", "on", ">secret", "-@all", "+hello", "+client", "+auth")
    try:
        async with staged(server.client) as (stage, writer):
            client = stage.own(client_of(server, username="nobody", password="secret"))
            with pytest.raises(SnapshotAccessError, match="default"):
                await stage.reader(client).latest()
            follower = await stage.follow(client)
            assert isinstance(await follower.fails(), SnapshotAccessError)
            stage.followers.remove(follower)
            await stage.recover(writer)
    finally:
        server.execute("ACL", "DELUSER", "nobody")


# --- the past


async def test_the_past_over_a_takeover_and_a_damaged_entry(server: Server) -> None:
    async with staged(server.client) as (stage, old):
        (follower,) = stage.followers
        await old.saves(2)
        new = await stage.writer("B")
        await new.save()
        await new.saves(4)
        await new.save(force_full=True)
        await new.saves(2)
        await stage.together()
        tamper(server, KEYS.delta, flipped, behind=5)
        reader = stage.reader()
        seen, resyncs = [], []
        async for update in reader.replay():
            stage.oracle.check(update)
            seen.append((update.epoch, update.sequence))
            if update.resynced:
                resyncs.append(update.reason)
        # The damaged one and those that build on it are missing, up to the next full frame.
        first, second = seen[0][0], stage.oracle.newest[0]
        assert seen == [(first, n) for n in range(1, 6)] + [(second, n) for n in (1, 2, 3, 6, 7, 8)]
        assert len(resyncs) == 1
        for each in follower.seen:
            newest = max(other.id for other in follower.seen if other.timestamp == each.timestamp)
            if newest in ((second, 4), (second, 5)):
                with pytest.raises(SnapshotDamagedError):
                    await reader.at(each.timestamp)
            else:
                update = await reader.at(each.timestamp)
                stage.oracle.check(update)
                assert (update.epoch, update.sequence) == newest


async def _until_paused(stage: Stage, writer: Writer) -> None:
    """A consumer that is paused has one more update in its hands."""
    await writer.save()
    await stage.together()


async def test_want_is_heard(server: Server) -> None:
    """A request that was in the head before its writer's next save."""
    async with staged(server.client) as (stage, writer):
        server.execute("HSET", KEYS.head, "resync_request", "1-1")
        await until(lambda: server.execute("HGET", KEYS.head, "resync_request") == "1-1")
        results = await stage.recover(writer)
        assert "requested" in [result["reason"] for result in results]
        assert server.execute("HGET", KEYS.head, "resync_request") is None
        assert not stage.resyncs
