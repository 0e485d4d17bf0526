"""Follows the market and ranks it: a name a list, alerts as a stream."""

from __future__ import annotations

import asyncio

from examples.scanner.after.lifespan import lifespan
from examples.scanner.market import alerts, lists, rank
from examples.scanner.service import Report, Task, ready, serve
from snapdelta import SnapshotManager, SnapshotReader


async def main(task: Task, stopping: asyncio.Event) -> Report:
    async with (
        lifespan(task) as (redis, stream_manager, metrics),
        SnapshotManager(redis_client=redis, full_snapshot_interval=300) as manager,
    ):
        reader = SnapshotReader(redis, "market", shared=True)
        metrics.add(manager)
        metrics.add(reader)
        ready()
        async for update in reader.follow():
            ranking = rank(update.snapshot)
            await manager.save_snapshot(ranking, name="ranking")
            for name, rows in lists(ranking).items():
                await manager.save_snapshot(rows, name=name)
            for alert in alerts(ranking):
                await stream_manager.xadd("stream:alerts:market", alert)
            if update.sequence == task.frames or stopping.is_set():
                break
        saved = manager.stats("ranking")
    return {"saved": saved.saved, "bytes_written": saved.bytes_written}


if __name__ == "__main__":
    serve(main)
