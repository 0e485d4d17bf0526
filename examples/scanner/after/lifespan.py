"""What each service opens at its start and closes at its end, as in the lifespan of a FastAPI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, start_http_server
from redis.asyncio import Redis

from examples.scanner.service import Task
from snapdelta import RedisStreamManager, initialize_stream_manager
from snapdelta.metrics import MetricsCollector


@asynccontextmanager
async def lifespan(task: Task) -> AsyncIterator[tuple[Redis, RedisStreamManager, MetricsCollector]]:
    redis = Redis.from_url(task.url)
    stream_manager = initialize_stream_manager(redis)
    await stream_manager.start()
    registry = CollectorRegistry()
    metrics = MetricsCollector(stream_manager, registry=registry)
    server = start_http_server(task.metrics_port, "127.0.0.1", registry)[0] if task.metrics_port else None
    try:
        yield redis, stream_manager, metrics
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()
        await stream_manager.stop()
        await redis.aclose()
