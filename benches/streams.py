"""What the streams cost: `python benches/streams.py`, a table on standard output, about two minutes.

Every figure is a ratio in one run or comes with its machine: times alone say nothing about another one. Only
servers that this program starts on loopback are used.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.synchronize
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benches.timing import interleaved, seconds_of
from snapdelta.redis_stream_manager import RedisStreamManager, StreamPolicy
from support.servers import KINDS, Server
from support.stream_harness import fill

ROW = {"symbol": "AAPL", "price": 187.25, "volume": 1_234_567, "time": "2026-03-02T14:30:00.000Z"}


async def write_ratio(redis: Redis, samples: int = 4000) -> float:
    """xadd through the manager against redis-py's own xadd with maxlen: medians of interleaved samples."""
    streams = RedisStreamManager(redis, {"managed": StreamPolicy(maxlen=1000)})
    ours, theirs = await interleaved(
        samples,
        lambda: streams.xadd("managed", ROW),
        lambda: redis.xadd("plain", ROW, maxlen=1000, approximate=True),  # type: ignore[arg-type]
    )
    return statistics.median(ours) / statistics.median(theirs)


async def many_ratio(redis: Redis, samples: int = 15) -> float:
    """xadd_many of 1,000 rows against 1,000 awaits of xadd: the least disturbed sample of each."""
    streams = RedisStreamManager(redis, {"managed": StreamPolicy(maxlen=1000)})
    rows = [ROW] * 1000

    async def one_by_one() -> None:
        for row in rows:
            await streams.xadd("managed", row)

    many: list[float] = []
    single: list[float] = []
    for _ in range(samples):
        many.append(await seconds_of(lambda: streams.xadd_many("managed", rows)))
        single.append(await seconds_of(one_by_one))
    return min(many) / min(single)


async def idle_share(redis: Redis, interval: float, seconds: float, streams: int = 200) -> tuple[float, int]:
    """The share of one core that this process spends on idle streams, and its looks at them."""
    policies = {f"idle:{number}": StreamPolicy(trim_interval=interval) for number in range(streams)}
    for name in policies:
        await redis.xadd(name, {"n": 1})
    async with RedisStreamManager(redis, policies) as manager:
        # The first look at each comes at once; what follows is the steady state.
        while manager.stats().counters.trims < streams:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.05)
        before, start, looks = time.process_time(), time.perf_counter(), manager.stats().counters.trims
        await asyncio.sleep(seconds)
        share = (time.process_time() - before) / (time.perf_counter() - start)
        assert manager.health().ok
        return share, manager.stats().counters.trims - looks


def _probe(
    port: int,
    begun: multiprocessing.synchronize.Event,
    ended: multiprocessing.synchronize.Event,
    worst: Any,
) -> None:
    """PING as fast as it answers, in a process of its own; keeps the longest wait."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while not ended.is_set():
            start = time.perf_counter()
            connection.sendall(b"PING\r\n")
            connection.recv(64)
            worst.value = max(worst.value, time.perf_counter() - start)
            begun.set()


async def adoption(kind: str, entries: int) -> None:
    """A backlog comes down under a latency probe; beside it one exact XTRIM of all, and no work."""
    print(f"\n{kind}: {entries:,} entries down to 1,000")
    with Server(kind) as server:
        async with server.client(socket_timeout=60) as redis:

            async def probed(what: str, work: Callable[[], Awaitable[Any]]) -> None:
                begun, ended = multiprocessing.Event(), multiprocessing.Event()
                worst = multiprocessing.Value("d", 0.0)
                probe = multiprocessing.Process(target=_probe, args=(server.port, begun, ended, worst))
                probe.start()
                await asyncio.to_thread(begun.wait)
                taken = await seconds_of(work)
                ended.set()
                await asyncio.to_thread(probe.join)
                print(f"  {what:<42} {taken:7.2f} s   longest PING {worst.value * 1000:7.2f} ms")

            await probed("nothing", lambda: asyncio.sleep(1))
            for approximate in (True, False):
                await redis.delete("s")
                await fill(redis, "s", entries)
                streams = RedisStreamManager(redis, {"s": StreamPolicy(approximate=approximate)})
                await probed(f"trim, approximate={approximate}", lambda: streams.trim("s"))  # noqa: B023
                print(f"  {'':<42} {await redis.xlen('s'):,} entries left")
            await redis.delete("s")
            await fill(redis, "s", entries)
            await redis.xgroup_create("s", "g", id="$")
            policy = StreamPolicy(keep_unread=True, hard_maxlen=entries * 2)
            reading = RedisStreamManager(redis, {"s": policy}, command_timeout=60)
            await probed("trim, keep_unread (all of it read)", lambda: reading.trim("s"))
            await redis.delete("s")
            await fill(redis, "s", entries)
            await probed("one XTRIM of all", lambda: redis.xtrim("s", 1000, approximate=False))


async def main() -> None:
    print("| server | xadd / redis-py's xadd | xadd_many of 1,000 / 1,000 xadd | 200 idle streams |")
    print("|---|---|---|---|")
    for kind in KINDS:
        with Server(kind) as server:
            async with server.client() as redis:
                single, many = await write_ratio(redis), await many_ratio(redis)
                share, _ = await idle_share(redis, 30.0, 30.0)
                print(f"| {kind} | {single:.3f} | {many:.3f} | {share:.2%} |", flush=True)
    for kind in KINDS:
        await adoption(kind, 5_000_000)


if __name__ == "__main__":
    asyncio.run(main())
