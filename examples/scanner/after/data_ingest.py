"""Takes the market in: one name, from which every other service reads."""

from __future__ import annotations

import asyncio

from examples.scanner.after.lifespan import lifespan
from examples.scanner.market import market
from examples.scanner.service import Report, Task, ready, serve
from snapdelta import SnapshotManager


async def main(task: Task, stopping: asyncio.Event) -> Report:
    async with (
        lifespan(task) as (redis, _, metrics),
        SnapshotManager(redis_client=redis, full_snapshot_interval=300, min_symbols=1) as manager,
    ):
        metrics.add(manager)
        ready()
        source = market(task.symbols)
        for _ in range(task.frames):
            await manager.save_snapshot(next(source), name="market")
            await asyncio.sleep(task.interval)
            if stopping.is_set():
                break
    return {}


if __name__ == "__main__":
    serve(main)
