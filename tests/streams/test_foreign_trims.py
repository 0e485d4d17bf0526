"""Two programs that bound one stream differently: the one whose entries go early says so."""

from __future__ import annotations

import asyncio
import logging

import pytest

from snapdelta.redis_stream_manager import RedisStreamManager, StreamPolicy
from support.servers import AsyncClient, Server, on_one_server
from support.stream_harness import fill, read

PASSES = 4


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_tighter_bound_of_another_program_is_named_once(
    redis: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is written by hand: nothing of it is known but what it does to the stream."""
    ours = RedisStreamManager(redis, {"stream:alerts": StreamPolicy(maxlen=100_000)})
    notes = []
    for _ in range(PASSES):
        for n in range(300):
            await redis.xadd("stream:alerts", {"n": n}, maxlen=200, approximate=False)
        notes.append((await ours.trim("stream:alerts")).notes)
    assert notes[:2] == [[], []]
    assert all("about 200 remain, but this policy keeps 100000" in note[0] for note in notes[2:])
    (said,) = _warnings(caplog)
    assert said.startswith("stream 'stream:alerts': another program trims or deletes entries")


@pytest.mark.parametrize(
    "policy",
    [
        StreamPolicy(maxlen=200),
        StreamPolicy(maxlen=200, approximate=False),
        StreamPolicy(maxlen=100_000, max_bytes=30_000),
        StreamPolicy(maxlen=None, max_age=3600, keep_unread=True, hard_maxlen=300),
    ],
)
@on_one_server
async def test_two_managers_with_one_policy_are_no_conflict(
    server: Server, caplog: pytest.LogCaptureFixture, policy: StreamPolicy
) -> None:
    async with server.client() as redis:
        managers = [RedisStreamManager(redis, {"s": policy}) for _ in range(2)]
        for number in range(3 * PASSES):
            await managers[number % 2].xadd_many("s", [{"n": n, "x": "x" * 40} for n in range(700)])
            for streams in managers if number % 3 else reversed(managers):
                assert not any("another program" in note for note in (await streams.trim("s")).notes)
    assert _warnings(caplog) == []


@on_one_server
async def test_a_shorter_write_of_our_own_is_no_conflict(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with server.client() as redis:
        streams = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=100_000)})
        for _ in range(PASSES):
            await streams.xadd_many("s", [{"n": n} for n in range(300)], maxlen=50)
            assert (await streams.trim("s")).notes == []
        assert _warnings(caplog) == []


@on_one_server
async def test_a_stream_that_was_deleted_and_grows_is_no_conflict(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with server.client() as redis:
        streams = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=1_000, approximate=False)})
        for length in (200, 150, 700, 900):
            await redis.delete("s")
            await fill(redis, "s", length)
            assert (await streams.trim("s")).notes == []
            await fill(redis, "s", 300)
            assert (await streams.trim("s")).notes == []
        assert _warnings(caplog) == []


@on_one_server
async def test_it_is_over_when_the_stream_reaches_its_bound(server: Server) -> None:
    async with server.client() as redis:
        streams = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=1_000)})
        for _ in range(PASSES):
            for n in range(30):
                await redis.xadd("s", {"n": n}, maxlen=20, approximate=False)
            report = await streams.trim("s")
        assert report.notes
        await fill(redis, "s", 1_500)
        assert (await streams.trim("s")).notes == []


async def test_consumers_that_delete_what_they_read_are_no_conflict(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with server.client() as redis:
        streams = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=100_000)})
        await redis.xgroup_create("s", "g", "0", mkstream=True)
        await fill(redis, "s", 50)
        for _ in range(2 * PASSES):
            await fill(redis, "s", 100)
            ids = await read(redis, "s", "g", 100)
            await redis.xdel("s", *ids)
            await streams.trim("s")
        # Redis 6.2 does not tell how an entry went.
        assert bool(_warnings(caplog)) == (server.kind == "redis-6.2")


@on_one_server
async def test_a_short_age_in_two_managers_is_no_conflict(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The other one removes what was too old; what is left is young."""
    policy = StreamPolicy(maxlen=100_000, max_age=0.1, approximate=False)
    async with server.client() as redis:
        ours, theirs = (RedisStreamManager(redis, {"s": policy}) for _ in range(2))
        for _ in range(PASSES):
            await fill(redis, "s", 20)
            await theirs.trim("s")
            await ours.trim("s")
            await asyncio.sleep(0.15)
        assert _warnings(caplog) == []


async def test_a_tighter_bound_beside_an_age_is_named(server: Server) -> None:
    async with server.client() as redis:
        streams = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=None, max_age=3600)})
        for _ in range(PASSES):
            for n in range(60):
                await redis.xadd("s", {"n": n}, maxlen=50, approximate=False)
            notes = (await streams.trim("s")).notes
        assert "this policy keeps entries by age and bytes" in notes[0]
