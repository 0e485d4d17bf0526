"""Ranks the market: the ranking by the hand-written manager, lists as JSON keys, alerts as a stream."""

from __future__ import annotations

import asyncio
import json

from redis.asyncio import Redis

from examples.scanner.before.data_ingest import MARKET_KEY
from examples.scanner.before.redis_stream_manager import initialize_stream_manager
from examples.scanner.before.snapshot_manager import SnapshotManager
from examples.scanner.market import alerts, lists, rank
from examples.scanner.service import Report, Task, ready, serve


async def main(task: Task, stopping: asyncio.Event) -> Report:
    redis = Redis.from_url(task.url)
    stream_manager = initialize_stream_manager(redis)
    await stream_manager.start()
    manager = SnapshotManager(redis_client=redis, full_snapshot_interval=300)
    ready()
    while not stopping.is_set():
        text = await redis.get(MARKET_KEY)
        if text is not None:
            ranking = rank(json.loads(text))
            await manager.save_snapshot(ranking)
            for name, rows in lists(ranking).items():
                await redis.set(f"scanner:category:{name}", json.dumps(rows), ex=3600)
            for alert in alerts(ranking):
                await stream_manager.xadd("stream:alerts:volume", alert)
        await asyncio.sleep(task.interval)
    await stream_manager.stop()
    await redis.aclose()
    return manager.get_stats()


if __name__ == "__main__":
    serve(main)
