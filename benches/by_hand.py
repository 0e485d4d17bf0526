"""Rows of a snapshot as services keep them in Redis by hand: a peer of the mirror and of the soak."""

from __future__ import annotations

from typing import Any

import orjson
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

Records = dict[str, Any]

# The order of the symbols, which a hash does not keep.
_ORDER = "__order__"
_BATCH = 1_000


class HandWrittenRows:
    """A hash of symbol -> JSON text: HSET of the texts that differ, HDEL of the symbols that are gone."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._last: dict[str, bytes] = {}

    def changes(self, snapshot: Records) -> tuple[dict[str, bytes], list[str]]:
        """The fields to set and the fields to remove; the snapshot counts as written from now on."""
        texts = {symbol: orjson.dumps(record) for symbol, record in snapshot.items()}
        texts[_ORDER] = orjson.dumps(list(snapshot))
        changed = {field: text for field, text in texts.items() if self._last.get(field) != text}
        gone = [field for field in self._last if field not in texts]
        self._last = texts
        return changed, gone

    def add_to(self, pipeline: Pipeline, changed: dict[str, bytes], gone: list[str]) -> int:
        """Queue the commands, in batches; the bytes of fields and texts."""
        fields = list(changed.items())
        for begin in range(0, len(fields), _BATCH):
            pipeline.hset(self._key, mapping=dict(fields[begin : begin + _BATCH]))
        if gone:
            pipeline.hdel(self._key, *gone)
        return sum(len(field) + len(text) for field, text in fields) + sum(map(len, gone))


async def read_rows(redis: Redis, key: str) -> Records:
    """The snapshot that a hash holds, in its order."""
    texts: dict[Any, Any] = await redis.hgetall(key)
    symbols: list[str] = orjson.loads(texts[_ORDER.encode()])
    return {symbol: orjson.loads(texts[symbol.encode()]) for symbol in symbols}
