"""Follows the ranking and writes an aggregate a sector."""

from __future__ import annotations

import asyncio

from examples.scanner.after.lifespan import lifespan
from examples.scanner.market import by_sector
from examples.scanner.service import Report, Task, ready, serve
from examples.scanner.truth import Truth
from snapdelta import SnapshotReader


async def main(task: Task, stopping: asyncio.Event) -> Report:
    truth = Truth(task.symbols, task.frames)
    async with lifespan(task) as (redis, stream_manager, metrics):
        reader = SnapshotReader(redis, "ranking", shared=True)
        metrics.add(reader)
        ready()
        async for update in reader.follow():
            truth.check(update.snapshot)
            await stream_manager.xadd_many("stream:realtime:aggregates", by_sector(update.snapshot))
            if update.sequence == task.frames or stopping.is_set():
                break
    return {"read": truth.read, "wrong": truth.wrong, "missed": truth.missed}


if __name__ == "__main__":
    serve(main)
