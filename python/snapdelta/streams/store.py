"""Commands on streams through redis.asyncio, with a time limit, typed errors and exact bytes."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import RedisCluster

from snapdelta._redis import (
    OTHER_LOOP_ADVICE,
    POOL_ADVICE,
    AsyncRedis,
    Failure,
    RedisStore,
    failure_of,
    name_of,
    pairs,
)
from snapdelta.errors import (
    StreamAccessError,
    StreamMemoryError,
    StreamPoolExhaustedError,
    StreamTypeError,
    StreamUnavailableError,
)

# Ids are times if they lie between the year 2000 and an hour from now; clocks differ a little.
FIRST_TIME = 946_684_800_000
CLOCK_TOLERANCE = 3_600_000
# How long the answers to CONFIG GET and INFO are believed, in seconds.
_INFO_TTL = 60.0
_SCAN_COUNT = 500


def access_error(
    stream: str, error: BaseException, ids: Sequence[bytes | str | None] = (), *, write: bool = False
) -> StreamAccessError:
    """The typed error for what redis-py raised about a stream; `write` when entries were on their way."""
    text = str(error) or type(error).__name__
    match failure_of(error):
        case Failure.POOL_EXHAUSTED as failure:
            return StreamPoolExhaustedError(f"stream {stream!r}: {failure.value}; {POOL_ADVICE}", ids)
        case Failure.UNAVAILABLE as failure:
            return StreamUnavailableError(
                f"stream {stream!r}: {failure.value} ({text})"
                + ("; the write may or may not have been carried out" if write else ""),
                ids,
            )
        case Failure.WRONG_TYPE as failure:
            return StreamTypeError(
                f"stream {stream!r}: {failure.value}; delete or rename that key, or use another name", ids
            )
        case Failure.OUT_OF_MEMORY as failure:
            return StreamMemoryError(
                f"stream {stream!r}: {failure.value}; raise maxmemory or lower the bounds of its streams", ids
            )
        case Failure.OTHER_LOOP as failure:
            return StreamAccessError(f"stream {stream!r}: {failure.value} ({text}); {OTHER_LOOP_ADVICE}", ids)
    return StreamAccessError(f"stream {stream!r}: {text}", ids)


def is_time(milliseconds: int, now: int) -> bool:
    """Whether the first half of an id can be the time at which it was added."""
    return FIRST_TIME <= milliseconds <= now + CLOCK_TOLERANCE


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """The largest node of a stream's tree that the server allows; 0: no limit of that kind."""

    entries: int = 100
    bytes: int = 4096

    @property
    def frees(self) -> bool:
        """Whether a stream can have more than one node: `~` trims, and memory is freed, by whole nodes."""
        return self.entries > 0 or self.bytes > 0

    @property
    def slack(self) -> int:
        """The most entries by which `~` may exceed a bound."""
        if self.entries > 0:
            return self.entries
        # No entry takes less than 10 bytes of a node.
        return self.bytes // 10 + 1


class StreamStore(RedisStore):
    """The commands that manage streams. Raises StreamAccessError and its kinds, never errors of redis-py."""

    def __init__(self, redis: AsyncRedis, time_limit: float) -> None:
        super().__init__(redis, time_limit)
        self._server_info: dict[tuple[str, str], tuple[float, Any]] = {}

    # --- what the server says about itself

    async def node_name(self, stream: str) -> str:
        """The server that answers for the stream, "host:port" in a cluster."""
        if not isinstance(self.redis, RedisCluster):
            return ""
        return str((await self.cluster_node(stream)).name)

    async def node_limits(self, stream: str) -> NodeLimits:
        """`stream-node-max-*` of the stream's server; the defaults if CONFIG is not allowed."""
        return NodeLimits(*await self._cached_info(stream, "limits", self._ask_limits))

    async def acked_option(self, stream: str) -> bool:
        """Whether the stream's server has XTRIM ... ACKED: Redis 8.2 and later, no Valkey so far."""
        kind, *version = await self._cached_info(stream, "version", self._ask_version) or ("",)
        return kind == "redis" and version >= [8, 2]

    async def trims_by_id(self, stream: str) -> bool:
        """Whether XTRIM MINID keeps all newer entries.

        Before Redis 6.2.7 it does not, where ids of one node are 2^31 ms apart (redis/redis issue 9410).
        True if the server does not tell its version.
        """
        kind, *version = await self._cached_info(stream, "version", self._ask_version) or ("",)
        return kind != "redis" or version >= [6, 2, 7]

    async def _ask_limits(self, stream: str) -> tuple[()] | tuple[int, int]:
        answer = await self.run(stream, "CONFIG", "GET", "stream-node-max-*", **await self.target(stream))
        limits = pairs(answer)
        entries, size = limits.get(b"stream-node-max-entries"), limits.get(b"stream-node-max-bytes")
        # A managed server may answer with nothing.
        return (int(entries), int(size)) if entries is not None and size is not None else ()

    async def _ask_version(self, stream: str) -> tuple[()] | tuple[str, int, int, int]:
        text = await self.info(stream, "server", await self.target(stream))
        if "valkey_version" in text:
            return ("valkey", 0, 0, 0)
        version = re.match(r"(\d+)\.(\d+)\.(\d+)", str(text.get("redis_version", "")))
        return ("redis", int(version[1]), int(version[2]), int(version[3])) if version else ()

    async def info(self, key: str, section: str, target: dict[str, Any]) -> dict[str, Any]:
        """A section of INFO of the server that `target` leads to."""
        answer = await self.run(key, "INFO", section, **target)
        return answer if isinstance(answer, dict) else _info_lines(answer)

    async def _cached_info(self, stream: str, name: str, ask: Any) -> Any:
        """What the stream's server says, asked once a minute; () where the server refuses to tell."""
        source = (await self.node_name(stream), name)
        known = self._server_info.get(source)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        try:
            answer = await ask(stream)
        except StreamUnavailableError:
            raise
        except StreamAccessError:
            # Managed servers often forbid CONFIG and INFO.
            answer = ()
        self._server_info[source] = (time.monotonic() + _INFO_TTL, answer)
        return answer

    # --- the key space

    async def masters(self) -> dict[str, dict[str, Any]]:
        """Every master: its name, and a function that sends it a command."""
        if not isinstance(self.redis, RedisCluster):
            return {"": {}}
        await self.initialize("*")
        return {str(node.name): {"target_nodes": node} for node in self.redis.get_primaries()}

    async def scan_streams(self, master: dict[str, Any]) -> AsyncIterator[list[str]]:
        """The names of all streams of a master, a batch a round trip; a name may come twice."""
        cursor: Any = 0
        while True:
            cursor, keys = await self.run(
                "*", "SCAN", cursor, "COUNT", _SCAN_COUNT, "TYPE", "stream", **master
            )
            # A cluster client answers with a cursor for each server asked: here one.
            cursor = next(iter(cursor.values())) if isinstance(cursor, dict) else int(cursor)
            yield [name_of(key) for key in keys]
            if cursor == 0:
                return

    def typed(self, stream: str, error: BaseException) -> StreamAccessError:
        if type(error) is TimeoutError:
            return StreamUnavailableError(
                f"stream {stream!r}: the server did not answer in {self.time_limit:g} s"
            )
        return access_error(stream, error)


def _info_lines(answer: bytes | str) -> dict[str, str]:
    text = answer.decode() if isinstance(answer, bytes) else answer
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
