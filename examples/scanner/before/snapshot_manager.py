"""Snapshots as they are often written by hand. docs/guide/mapping.md says what is wrong with it, and what
takes its place."""

from __future__ import annotations

import time
import zlib
from typing import Any, cast

import msgspec.msgpack as msgpack
from redis.asyncio import Redis

FULL_KEY = "snapshot:full:latest"
DELTA_KEY = "snapshot:delta:latest"
FULL_TTL = 600
DELTA_TTL = 60
COMPRESSION_LEVEL = 6
# Smaller changes are noise.
MIN_CHANGE_PERCENT = 0.1

Records = dict[str, dict[str, Any]]


class SnapshotManager:
    """A full snapshot every few minutes, deltas in between."""

    def __init__(self, redis_client: Redis, full_snapshot_interval: int = 300) -> None:
        self.redis = redis_client
        self.full_snapshot_interval = full_snapshot_interval
        self.last_full_time = 0.0
        self.previous: Records | None = None
        self.stats = {"full_snapshots": 0, "deltas": 0, "bytes_written": 0}

    async def save_snapshot(self, snapshot: Records) -> dict[str, Any]:
        due = time.time() - self.last_full_time >= self.full_snapshot_interval
        if due or self.previous is None:
            return await self.emit_full_snapshot(snapshot)
        return await self._emit_delta(snapshot)

    async def emit_full_snapshot(self, snapshot: Records) -> dict[str, Any]:
        compressed = self._compress({"timestamp": time.time(), "data": snapshot})
        await self.redis.set(FULL_KEY, compressed, ex=FULL_TTL)
        await self.redis.delete(DELTA_KEY)
        self.last_full_time = time.time()
        self.previous = snapshot
        self.stats["full_snapshots"] += 1
        return self._result("full", compressed, len(snapshot))

    async def get_latest_snapshot(self) -> Records | None:
        full = await self.redis.get(FULL_KEY)
        if full is None:
            return None
        snapshot: Records = self._decompress(full)["data"]
        delta = await self.redis.get(DELTA_KEY)
        if delta is None:
            return snapshot
        return self.apply_delta(snapshot, self._decompress(delta))

    @staticmethod
    def apply_delta(snapshot: Records, delta: dict[str, Any]) -> Records:
        snapshot = {**snapshot, **delta["added"], **delta["changed"]}
        for symbol in delta["removed"]:
            snapshot.pop(symbol, None)
        return snapshot

    def get_stats(self) -> dict[str, Any]:
        return {**self.stats, "last_full_time": self.last_full_time}

    async def _emit_delta(self, snapshot: Records) -> dict[str, Any]:
        assert self.previous is not None
        delta: dict[str, Any] = {
            "timestamp": time.time(),
            "added": {s: r for s, r in snapshot.items() if s not in self.previous},
            "changed": {
                s: r
                for s, r in snapshot.items()
                if s in self.previous and self._is_significant(self.previous[s], r)
            },
            "removed": [s for s in self.previous if s not in snapshot],
        }
        compressed = self._compress(delta)
        await self.redis.set(DELTA_KEY, compressed, ex=DELTA_TTL)
        self.previous = snapshot
        self.stats["deltas"] += 1
        return self._result("delta", compressed, len(delta["changed"]))

    @staticmethod
    def _is_significant(old: dict[str, Any], new: dict[str, Any]) -> bool:
        if old["volume"] == new["volume"] and old["price"] == new["price"]:
            return False
        return bool(abs(new["price"] / old["price"] - 1) * 100 >= MIN_CHANGE_PERCENT)

    def _result(self, kind: str, compressed: bytes, symbols: int) -> dict[str, Any]:
        self.stats["bytes_written"] += len(compressed)
        return {"type": kind, "compressed_size": len(compressed), "symbols_count": symbols}

    @staticmethod
    def _compress(value: dict[str, Any]) -> bytes:
        return zlib.compress(msgpack.encode(value), COMPRESSION_LEVEL)

    @staticmethod
    def _decompress(value: Any) -> dict[str, Any]:
        return cast(dict[str, Any], msgpack.decode(zlib.decompress(value)))
