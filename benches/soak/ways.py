"""The three ways to put a market, its lists and two streams into Redis, and to read them again.

All three write the same two streams: the longest list in every frame, and what changed in each list. They
differ in how they encode, in what they send, and in what bounds the streams.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import orjson
from redis.asyncio import Redis

from benches.by_hand import HandWrittenRows, read_rows
from benches.soak.plan import INTERVAL, Kind, Records
from snapdelta import RedisStreamManager, SnapshotManager, SnapshotReader, StreamPolicy

MARKET = "market"
RAW, DELTAS = "snapshots:raw", "stream:ranking:deltas"
# Entries, by hand and after; before has no bounds.
RAW_ENTRIES, DELTA_ENTRIES = 100, 1_000
LONGEST = "score"

# A fast run passes a day in minutes, so the server's clock keeps all that history_frames allows. It is set to
# what 600 s and a full_snapshot_interval hold at 5 s a save, as two thirds of it can be held at a full frame.
_FAST_HISTORY: dict[str, Any] = {"history": 1e6, "history_frames": 270}


class Way:
    """Saves frames. An asynchronous context manager."""

    def __init__(self, redis: Redis, kind: Kind) -> None:
        self.redis = redis
        self._lists: dict[str, Records] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def save(self, market: Records, lists: dict[str, Records]) -> int:
        """Write one frame; the bytes that the market took."""
        raise NotImplementedError

    async def follow(self) -> AsyncIterator[tuple[int | None, Records]]:
        """States of the market as a reader sees them: the number of the frame if the way tells it."""
        while True:
            yield None, await self.read(MARKET)

    async def read(self, name: str) -> Records:
        """The newest state of the market or of a list."""
        raise NotImplementedError

    def _list_changes(self, lists: dict[str, Records]) -> dict[str, Records]:
        """The rows of each list that are new or differ from those of the frame before."""
        before, self._lists = self._lists, lists
        return {
            name: {symbol: row for symbol, row in rows.items() if before.get(name, {}).get(symbol) != row}
            for name, rows in lists.items()
        }


class Before(Way):
    """SET of the JSON by the standard library, and streams without a bound."""

    async def save(self, market: Records, lists: dict[str, Records]) -> int:
        text = json.dumps(market).encode()
        await self.redis.set(MARKET, text)
        for name, rows in lists.items():
            await self.redis.set(name, json.dumps(rows))
        await self.redis.xadd(RAW, {"data": json.dumps(lists[LONGEST])})
        for name, rows in self._list_changes(lists).items():
            await self.redis.xadd(DELTAS, {"list": name, "rows": json.dumps(rows)})
        return len(text)

    async def read(self, name: str) -> Records:
        text: Any = await self.redis.get(name)
        found: Records = json.loads(text)
        return found


class ByHand(Way):
    """Changed rows only, one pipeline a frame, and XADD with MAXLEN."""

    def __init__(self, redis: Redis, kind: Kind) -> None:
        super().__init__(redis, kind)
        self._rows: dict[str, HandWrittenRows] = {}

    async def save(self, market: Records, lists: dict[str, Records]) -> int:
        pipeline = self.redis.pipeline(transaction=False)
        sizes = {}
        for name, rows in {MARKET: market, **lists}.items():
            by_hand = self._rows.setdefault(name, HandWrittenRows(name))
            sizes[name] = by_hand.add_to(pipeline, *by_hand.changes(rows))
        pipeline.xadd(RAW, {"data": orjson.dumps(lists[LONGEST])}, maxlen=RAW_ENTRIES)
        for name, rows in self._list_changes(lists).items():
            pipeline.xadd(DELTAS, {"list": name, "rows": orjson.dumps(rows)}, maxlen=DELTA_ENTRIES)
        await pipeline.execute()
        return sizes[MARKET]

    async def read(self, name: str) -> Records:
        return await read_rows(self.redis, name)


class After(Way):
    """snapdelta: a name for the market and for each list, and streams under policies."""

    def __init__(self, redis: Redis, kind: Kind) -> None:
        super().__init__(redis, kind)
        self._now = 0.0
        settings: dict[str, Any] = {"clock": lambda: self._now, **_FAST_HISTORY} if kind == "fast" else {}
        self._manager = SnapshotManager(redis, **settings)
        self._streams = RedisStreamManager(
            redis, {RAW: StreamPolicy(maxlen=RAW_ENTRIES), DELTAS: StreamPolicy(maxlen=DELTA_ENTRIES)}
        )

    async def __aenter__(self) -> Self:
        await self._streams.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._streams.stop()
        await self._manager.close()

    async def save(self, market: Records, lists: dict[str, Records]) -> int:
        result = await self._manager.save_snapshot(market, MARKET)
        for name, rows in lists.items():
            await self._manager.save_snapshot(rows, name)
        await self._streams.xadd(RAW, {"data": orjson.dumps(lists[LONGEST])})
        for name, rows in self._list_changes(lists).items():
            await self._streams.xadd(DELTAS, {"list": name, "rows": orjson.dumps(rows)})
        self._now += INTERVAL
        return result["compressed_size"]

    async def follow(self) -> AsyncIterator[tuple[int | None, Records]]:
        async for update in SnapshotReader(self.redis, MARKET, shared=True).follow():
            yield update.sequence, update.snapshot

    async def read(self, name: str) -> Records:
        update = await SnapshotReader(self.redis, name).latest()
        assert update is not None
        return update.snapshot


WAYS: dict[str, type[Way]] = {"before": Before, "by hand": ByHand, "after": After}
