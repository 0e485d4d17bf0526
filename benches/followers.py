"""What many followers of one name in one process cost: connections, memory, processor time a save.

    python benches/followers.py [FOLLOWERS] [SYMBOLS] [SAVES]

The writer is a process of its own, so that only the followers are measured.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time
from typing import Any

from redis.asyncio import Redis

from snapdelta import EmbeddedServer, SnapshotManager, SnapshotReader
from snapdelta.testing.feed import Feed

_PAGE = os.sysconf("SC_PAGE_SIZE")


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * _PAGE


def _write(url: str, symbols: int, saves: int, go_on: Any) -> None:
    async def write() -> None:
        feed = Feed("enriched", symbols=symbols)
        async with Redis.from_url(url) as redis, SnapshotManager(redis) as manager:
            for _ in range(saves):
                await manager.save_snapshot(next(feed))
                go_on.acquire()

    asyncio.run(write())


async def _follow(url: str, followers: int, saves: int, shared: bool, go_on: Any) -> None:
    async with Redis.from_url(url, max_connections=10 * followers) as redis:
        seen = [0] * followers
        arrived = asyncio.Condition()

        async def follow(number: int) -> None:
            async for update in SnapshotReader(redis, shared=shared).follow():
                assert not update.resynced
                seen[number] += 1
                del update
                async with arrived:
                    arrived.notify_all()

        async def all_have(count: int) -> None:
            async with arrived:
                await arrived.wait_for(lambda: min(seen) == count)

        before = _resident()
        tasks = [asyncio.create_task(follow(number)) for number in range(followers)]
        await all_have(1)
        connections = (await redis.info("clients"))["connected_clients"] - 2
        cpu = time.process_time()
        for count in range(2, saves + 1):
            go_on.release()
            await all_have(count)
        cpu = time.process_time() - cpu
        grown = (_resident() - before) / 1e6
        print(
            f"{followers} followers, shared={shared}: {connections} connections, +{grown:.0f} MB, "
            f"{cpu / (saves - 1) * 1e3:.0f} ms of processor time a save"
        )
        go_on.release()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    followers, symbols, saves = (*map(int, sys.argv[1:]), *(120, 2_000, 12)[len(sys.argv) - 1 :])
    for shared in (True, False):
        with EmbeddedServer() as server:
            go_on = multiprocessing.Semaphore(0)
            writer = multiprocessing.Process(target=_write, args=(server.url, symbols, saves, go_on))
            writer.start()
            asyncio.run(_follow(server.url, followers, saves, shared, go_on))
            writer.join()


if __name__ == "__main__":
    main()
