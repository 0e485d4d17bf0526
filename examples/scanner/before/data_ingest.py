"""Takes the market in: the whole of it as JSON, into a key and a stream."""

from __future__ import annotations

import asyncio
import json

from redis.asyncio import Redis

from examples.scanner.before.redis_stream_manager import initialize_stream_manager
from examples.scanner.market import market
from examples.scanner.service import Report, Task, ready, serve

MARKET_KEY = "snapshot:market:latest"


async def main(task: Task, stopping: asyncio.Event) -> Report:
    redis = Redis.from_url(task.url)
    stream_manager = initialize_stream_manager(redis)
    await stream_manager.start()
    ready()
    source = market(task.symbols)
    for _ in range(task.frames):
        text = json.dumps(next(source))
        await redis.set(MARKET_KEY, text, ex=3600)
        await stream_manager.xadd("snapshots:raw", {"data": text})
        await asyncio.sleep(task.interval)
        if stopping.is_set():
            break
    await stream_manager.stop()
    await redis.aclose()
    return {}


if __name__ == "__main__":
    serve(main)
