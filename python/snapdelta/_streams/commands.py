"""Commands on streams through redis.asyncio: own time limit, typed errors, answers in exact bytes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

try:
    from redis.asyncio import Redis, RedisCluster
    from redis.client import NEVER_DECODE
    from redis.exceptions import (
        BusyLoadingError,
        ClusterDownError,
        MasterDownError,
        OutOfMemoryError,
        RedisClusterException,
        RedisError,
        TryAgainError,
    )
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError
except ImportError as missing:
    raise ImportError("streams need redis-py; install it with the extra: snapdelta-rs[redis]") from missing

from snapdelta.errors import (
    StreamAccessError,
    StreamMemoryError,
    StreamTypeError,
    StreamUnavailableError,
)

AsyncRedis: TypeAlias = Redis | RedisCluster

# Everything that redis-py raises for a server or a connection; RedisClusterException is no RedisError.
REDIS_ERRORS = (RedisError, RedisClusterException, OSError)
_UNAVAILABLE = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    TryAgainError,
    RedisClusterException,
    OSError,
)
# Ids are times if they lie between the year 2000 and an hour from now; clocks differ a little.
FIRST_TIME = 946_684_800_000
CLOCK_TOLERANCE = 3_600_000
# How long the answers to CONFIG GET and INFO are believed, in seconds.
_FACTS_LIFE = 60.0
_SCAN_COUNT = 500


def key_of(stream: str) -> bytes:
    """The stream's key as the server has it; names that are not UTF-8 survive the way through `name_of`."""
    return stream.encode("utf-8", "surrogateescape")


def name_of(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def access_error(
    stream: str, error: BaseException, ids: Sequence[bytes | str | None] = (), *, write: bool = False
) -> StreamAccessError:
    """The typed error for what redis-py raised about a stream; `write` when entries were on their way."""
    text = str(error) or type(error).__name__
    if isinstance(error, _UNAVAILABLE):
        return StreamUnavailableError(
            f"stream {stream!r}: the server cannot be reached or is not ready ({text})"
            + ("; the write may or may not have been carried out" if write else ""),
            ids,
        )
    # Not at the start of the text of an error inside a script.
    if "WRONGTYPE" in text:
        return StreamTypeError(
            f"stream {stream!r}: the key holds another type; delete or rename that key, or use another name",
            ids,
        )
    # redis-py takes the OOM off an error that is not one of a script.
    if isinstance(error, OutOfMemoryError) or "OOM" in text:
        return StreamMemoryError(
            f"stream {stream!r}: the server has reached maxmemory and refuses writes; "
            "raise maxmemory or lower the bounds of its streams",
            ids,
        )
    return StreamAccessError(f"stream {stream!r}: {text}", ids)


def is_time(milliseconds: int, now: int) -> bool:
    """Whether the first half of an id can be the time at which it was added."""
    return FIRST_TIME <= milliseconds <= now + CLOCK_TOLERANCE


def cancellations() -> int:
    """How often the current task has been asked to end and has not done so."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def end_if_cancelled(before: int) -> None:
    """Raise CancelledError if the task was cancelled since `cancellations()` was `before`.

    Until Python 3.12 asyncio.wait_for, through which redis-py sends, returns normally when what it waits for
    ends in the moment of the cancellation, and the task would go on as if nobody had asked it to end.
    """
    if cancellations() > before:
        raise asyncio.CancelledError


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """How large the server lets one node of a stream's tree become; 0 is no limit of that kind."""

    entries: int = 100
    bytes: int = 4096

    @property
    def frees(self) -> bool:
        """Whether a stream ever has more than one node: `~` trims, and memory is freed, by whole nodes
        only.
        """
        return self.entries > 0 or self.bytes > 0

    @property
    def slack(self) -> int:
        """Entries by which `~` may stay above a bound, at the most."""
        if self.entries > 0:
            return self.entries
        # No entry takes less than 10 bytes of a node.
        return self.bytes // 10 + 1


class StreamCommands:
    """The commands that look after streams; each ends within `time_limit` seconds.

    Raises StreamAccessError and its kinds, nothing of redis-py's.
    """

    def __init__(self, redis: AsyncRedis, time_limit: float) -> None:
        self.redis = redis
        self.time_limit = time_limit
        self._facts: dict[tuple[str, str], tuple[float, Any]] = {}

    async def run(self, stream: str, *command: Any, **options: Any) -> Any:
        """One command; answers are bytes, whatever the client decodes."""
        options[NEVER_DECODE] = True
        before = cancellations()
        try:
            async with asyncio.timeout(self.time_limit):
                answer = await self.redis.execute_command(*command, **options)
        except REDIS_ERRORS as error:
            raise self._typed(stream, error) from error
        end_if_cancelled(before)
        return answer

    async def run_all(self, stream: str, *commands: tuple[Any, ...]) -> list[Any]:
        """Several commands on one stream in one round trip; the first error among the answers is raised."""
        pipeline = self.redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command, **{NEVER_DECODE: True})
        before = cancellations()
        try:
            async with asyncio.timeout(self.time_limit):
                answers = await pipeline.execute(raise_on_error=False)
        except REDIS_ERRORS as error:
            raise self._typed(stream, error) from error
        end_if_cancelled(before)
        for answer in answers:
            if isinstance(answer, Exception):
                raise self._typed(stream, answer) from answer
        return list(answers)

    # --- what the server says about itself

    async def node_name(self, stream: str) -> str:
        """The server that answers for the stream, "host:port" in a cluster."""
        if not isinstance(self.redis, RedisCluster):
            return ""
        return str((await self._cluster_node(stream)).name)

    async def time_ms(self, stream: str) -> int:
        """The clock of the stream's server, in milliseconds."""
        seconds, microseconds = await self.run(stream, "TIME", **await self._target(stream))
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def node_limits(self, stream: str) -> NodeLimits:
        """`stream-node-max-*` of the stream's server; the defaults where CONFIG is not allowed."""
        return NodeLimits(*await self._fact(stream, "limits", self._ask_limits))

    async def acked_option(self, stream: str) -> bool:
        """Whether the stream's server has XTRIM ... ACKED: Redis 8.2 and later, no Valkey so far."""
        return bool(await self._fact(stream, "acked", self._ask_acked))

    async def _ask_limits(self, stream: str) -> tuple[()] | tuple[int, int]:
        answer = await self.run(stream, "CONFIG", "GET", "stream-node-max-*", **await self._target(stream))
        limits = pairs(answer)
        entries, size = limits.get(b"stream-node-max-entries"), limits.get(b"stream-node-max-bytes")
        # A managed server may answer with nothing.
        return (int(entries), int(size)) if entries is not None and size is not None else ()

    async def _ask_acked(self, stream: str) -> tuple[()] | tuple[bool]:
        answer = await self.run(stream, "INFO", "server", **await self._target(stream))
        text = answer if isinstance(answer, dict) else _info_lines(answer)
        if "valkey_version" in text:
            return ()
        version = re.match(r"(\d+)\.(\d+)", str(text.get("redis_version", "")))
        return (True,) if version and (int(version[1]), int(version[2])) >= (8, 2) else ()

    async def _fact(self, stream: str, name: str, ask: Any) -> Any:
        """A fact about the stream's server, asked once a minute; () where the server refuses to tell."""
        place = (await self.node_name(stream), name)
        known = self._facts.get(place)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        try:
            answer = await ask(stream)
        except StreamUnavailableError:
            raise
        except StreamAccessError:
            # Managed servers often forbid CONFIG and INFO.
            answer = ()
        self._facts[place] = (time.monotonic() + _FACTS_LIFE, answer)
        return answer

    # --- the key space

    async def masters(self) -> dict[str, dict[str, Any]]:
        """Every server that has keys of its own: its name, and what sends a command there."""
        if not isinstance(self.redis, RedisCluster):
            return {"": {}}
        await self._initialize("*")
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

    async def _target(self, stream: str) -> dict[str, Any]:
        if not isinstance(self.redis, RedisCluster):
            return {}
        return {"target_nodes": await self._cluster_node(stream)}

    async def _cluster_node(self, stream: str) -> Any:
        await self._initialize(stream)
        assert isinstance(self.redis, RedisCluster)
        try:
            # The type stub asks for str, the code takes what the encoder takes.
            return self.redis.get_node_from_key(key_of(stream))  # type: ignore[arg-type]
        except REDIS_ERRORS as error:
            raise self._typed(stream, error) from error

    async def _initialize(self, stream: str) -> None:
        try:
            async with asyncio.timeout(self.time_limit):
                await self.redis.initialize()
        except REDIS_ERRORS as error:
            raise self._typed(stream, error) from error

    def _typed(self, stream: str, error: BaseException) -> StreamAccessError:
        if type(error) is TimeoutError:
            return StreamUnavailableError(
                f"stream {stream!r}: the server did not answer in {self.time_limit:g} s"
            )
        return access_error(stream, error)


def pairs(answer: Any) -> dict[bytes, Any]:
    """A map, as RESP3 has it or as RESP2's flat list."""
    if isinstance(answer, dict):
        return {key if isinstance(key, bytes) else str(key).encode(): value for key, value in answer.items()}
    return dict(zip(answer[::2], answer[1::2], strict=True))


def _info_lines(answer: bytes | str) -> dict[str, str]:
    text = answer.decode() if isinstance(answer, bytes) else answer
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
