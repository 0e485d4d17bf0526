"""Streams as they are often bounded by hand. docs/guide/mapping.md says what is wrong with it, and what takes
its place."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from redis.asyncio import Redis

log = logging.getLogger(__name__)

STREAM_CONFIGS = {
    "snapshots:raw": {"maxlen": 1000, "trim_interval": 30},
    "stream:ranking:deltas": {"maxlen": 5000, "trim_interval": 60},
    "stream:realtime:aggregates": {"maxlen": 3000, "trim_interval": 45},
    "tickers:filtered": {"maxlen": 500, "trim_interval": 20},
    "events:session": {"maxlen": 100, "trim_interval": 60},
    "polygon_ws:subscriptions": {"maxlen": 2000, "trim_interval": 60},
    "stream:halt:events": {"maxlen": 500, "trim_interval": 120},
    "stream:alerts:market": {"maxlen": 5000, "trim_interval": 60},
}


class RedisStreamManager:
    """Trims the streams of STREAM_CONFIGS; a stream that is not listed grows."""

    def __init__(self, redis_client: Redis) -> None:
        self.redis = redis_client
        self.stats = {"messages_added": 0, "trims": 0, "messages_trimmed": 0, "errors": 0}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(self._trim_for_ever(stream)) for stream in STREAM_CONFIGS]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def xadd(self, stream: str, data: dict[str, Any], maxlen: int | None = None) -> Any:
        fields = {
            key: json.dumps(value) if isinstance(value, (dict, list)) else str(value)
            for key, value in data.items()
        }
        config = STREAM_CONFIGS.get(stream)
        length = maxlen or (config["maxlen"] if config else None)
        self.stats["messages_added"] += 1
        return await self.redis.xadd(stream, fields, maxlen=length, approximate=True)  # type: ignore[arg-type]

    async def trim_stream(self, stream: str, maxlen: int) -> int:
        trimmed = int(await self.redis.xtrim(stream, maxlen=maxlen, approximate=True))
        self.stats["trims"] += 1
        self.stats["messages_trimmed"] += trimmed
        return trimmed

    async def get_stream_info(self, stream: str) -> dict[str, Any]:
        return {"length": await self.redis.xlen(stream), **STREAM_CONFIGS.get(stream, {})}

    def get_stats(self) -> dict[str, Any]:
        return dict(self.stats)

    async def _trim_for_ever(self, stream: str) -> None:
        config = STREAM_CONFIGS[stream]
        while True:
            await asyncio.sleep(config["trim_interval"])
            try:
                await self.trim_stream(stream, config["maxlen"])
            except Exception:  # noqa: BLE001
                self.stats["errors"] += 1
                log.warning("trimming %s failed", stream)


_stream_manager: RedisStreamManager | None = None


def initialize_stream_manager(redis_client: Redis) -> RedisStreamManager:
    global _stream_manager
    _stream_manager = RedisStreamManager(redis_client)
    return _stream_manager


def get_stream_manager() -> RedisStreamManager:
    assert _stream_manager is not None
    return _stream_manager
