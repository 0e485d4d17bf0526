"""Reads the ranking and writes an aggregate a sector, into a stream of its own that nobody listed."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from examples.scanner.before.redis_stream_manager import initialize_stream_manager
from examples.scanner.before.snapshot_manager import SnapshotManager
from examples.scanner.market import by_sector
from examples.scanner.service import Report, Task, ready, serve
from examples.scanner.truth import Truth


async def main(task: Task, stopping: asyncio.Event) -> Report:
    truth = Truth(task.symbols, task.frames)
    redis = Redis.from_url(task.url)
    stream_manager = initialize_stream_manager(redis)
    await stream_manager.start()
    manager = SnapshotManager(redis)
    ready()
    while not stopping.is_set():
        ranking = await manager.get_latest_snapshot()
        if ranking is not None:
            truth.check(ranking)
            for row in by_sector(ranking):
                await stream_manager.xadd("stream:sector:aggregates", row)
        await asyncio.sleep(task.interval)
    await stream_manager.stop()
    await redis.aclose()
    return {"read": truth.read, "wrong": truth.wrong, "missed": truth.missed}


if __name__ == "__main__":
    serve(main)
