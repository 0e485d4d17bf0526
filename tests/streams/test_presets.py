"""A manager that is given no policies bounds the scanner's streams, whoever writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

import snapdelta
import snapdelta.streams.registry as registry
from snapdelta.redis_stream_manager import SCANNER_POLICIES, StreamPolicy, initialize_stream_manager
from support.servers import Server, on_one_server
from support.stream_harness import fill, manager, until

# What the plan of the scanner checks: every stream is shorter.
CHECK = 5_000
# What the scanner's Redis may take, in bytes.
MEMORY = 150_000_000


@pytest.fixture(autouse=True)
def no_manager() -> Iterator[None]:
    registry._manager = None
    yield
    registry._manager = None


def test_every_bound_leaves_room_below_the_check() -> None:
    for name, policy in SCANNER_POLICIES.items():
        assert policy.maxlen is not None
        assert policy.maxlen <= CHECK * 0.9, name
        assert policy.maxlen + 100 * policy.approximate < CHECK, name
        assert policy.max_bytes is not None
    assert sum(policy.max_bytes or 0 for policy in SCANNER_POLICIES.values()) < MEMORY
    assert snapdelta.SCANNER_POLICIES is SCANNER_POLICIES


async def test_without_policies_the_preset_bounds_what_others_write(server: Server) -> None:
    async with server.client() as redis:
        streams = initialize_stream_manager(redis)
        for name in SCANNER_POLICIES:
            await fill(redis, name, 20_000)
        await streams.start()
        for name, policy in SCANNER_POLICIES.items():
            assert policy.maxlen is not None
            highest = policy.maxlen + 100 * policy.approximate
            assert highest < CHECK

            async def bounded(name: str = name, highest: int = highest) -> bool:
                return int(await redis.xlen(name)) <= highest

            await until(bounded)
        # Writes through the manager stay below the check by themselves.
        await streams.xadd_many("stream:ranking:deltas", [{"n": n} for n in range(6_000)])
        assert await redis.xlen("stream:ranking:deltas") == 4_500
        await streams.stop()


async def test_policies_take_the_place_of_the_preset(server: Server) -> None:
    async with server.client() as redis:
        assert (await initialize_stream_manager(redis).info("tickers:filtered")).policy.maxlen == 500
        own = initialize_stream_manager(redis, {"other": StreamPolicy(maxlen=7)})
        assert (await own.info("tickers:filtered")).policy == StreamPolicy()
        await own.stop()
        none = initialize_stream_manager(redis, {})
        assert none.stats().streams == 0
        assert (await none.info("tickers:filtered")).policy == StreamPolicy()


@on_one_server
async def test_a_stream_that_others_lengthen_gets_its_passes_earlier(server: Server) -> None:
    """Between two passes of a minute another program would write many times the bound."""
    async with server.client() as redis:
        policy = replace(SCANNER_POLICIES["stream:alerts:market"], maxlen=1_000, trim_interval=2.0)
        highest = 0
        async with manager(redis, {"s": policy}) as streams:
            await until(lambda: streams.stats().counters.trims > 0)
            # A backlog between two passes of the interval, and then what comes in a quarter of it.
            await fill(redis, "s", 5_000)
            await until(lambda: streams.stats().counters.entries_trimmed >= 4_000)
            before = streams.stats().counters.trims
            for _ in range(12):
                await fill(redis, "s", 200)
                highest = max(highest, await redis.xlen("s"))
                await asyncio.sleep(0.25)
            # 3 s, less than two of its intervals.
            assert streams.stats().counters.trims - before >= 3
        assert highest < 1_000 + 12 * 200
