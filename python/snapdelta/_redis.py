"""Sends commands through redis.asyncio, for every part that talks to Redis.

A command has a time limit of our own and an answer in exact bytes. Failures are sorted by what helps.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, TypeAlias

from snapdelta.errors import MissingExtraError, SnapdeltaError

try:
    import redis as redis_py
    from redis import Redis as SyncRedis
    from redis import RedisCluster as SyncRedisCluster
    from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
    from redis.asyncio.client import Pipeline
    from redis.asyncio.connection import DefaultParser
    from redis.client import NEVER_DECODE
    from redis.crc import key_slot
    from redis.exceptions import (
        AuthenticationError,
        BusyLoadingError,
        ClusterDownError,
        ClusterError,
        MasterDownError,
        MaxConnectionsError,
        NoPermissionError,
        NoScriptError,
        OutOfMemoryError,
        ReadOnlyError,
        RedisClusterException,
        RedisError,
        TryAgainError,
    )
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError
except ImportError as missing:
    raise MissingExtraError(
        "this part needs redis-py; install it with the extra: snapdelta-rs[redis]"
    ) from missing

from snapdelta._scripts import Script

AsyncRedis: TypeAlias = Redis | RedisCluster

# Everything that redis-py raises for a server or a connection; RedisClusterException is no RedisError.
# asyncio raises RuntimeError for a connection of another event loop.
REDIS_ERRORS = (RedisError, RedisClusterException, OSError, RuntimeError)
_UNAVAILABLE = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    ClusterDownError,
    # Too many redirections or TRYAGAINs, as while a slot moves.
    ClusterError,
    MasterDownError,
    TryAgainError,
    RedisClusterException,
    OSError,
)
# A pool without a free connection, as redis-py says it where it does not raise MaxConnectionsError.
_EXHAUSTED = ("Too many connections", "No connection available.")
# What asyncio and uvloop say of a connection, lock or future that was made in another event loop.
_OTHER_LOOP = ("loop is closed", "different loop", "different event loop", "handler is closed")
# What a server says for a while: in an election, while a script runs, when its role changes under a reader.
_PASSING = ("TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "UNBLOCKED", "BUSY ")


def client_problem(name: str, client: object) -> str | None:
    """What is wrong with the argument `name`, in a sentence; None for a client of redis.asyncio."""
    if isinstance(client, (Redis, RedisCluster)) and not isinstance(client, Pipeline):
        return _decoding_problem(name, client)
    kind = type(client)
    wanted = f"{name} must be a redis.asyncio.Redis or RedisCluster, not "
    if isinstance(client, (str, bytes)):
        # Not the URL itself: it may hold a password.
        return wanted + f"a {kind.__name__}; create it with redis.asyncio.Redis.from_url(url)"
    said = wanted + ("None" if client is None else f"{kind.__module__}.{kind.__qualname__}")
    wrapped = None
    # A wrapper that is not connected may raise anything.
    with suppress(Exception):
        wrapped = client.client  # type: ignore[attr-defined]
    if isinstance(wrapped, (Redis, RedisCluster)):
        return said + f"; pass the client that it wraps: {kind.__name__}.client"
    if isinstance(client, (SyncRedis, SyncRedisCluster)):
        return said + ", the synchronous client; the asynchronous one is in redis.asyncio"
    if client is None or "client" in dir(client):
        return said + "; connect first, then pass the connected client"
    return said


def _decoding_problem(name: str, client: AsyncRedis) -> str | None:
    """Whether the client cannot hand out bytes: in redis-py 5.0.1 hiredis decodes every answer."""
    options = _connection_options(client)
    parser = options.get("parser_class", DefaultParser)
    hiredis = any("Hiredis" in base.__name__ for base in parser.__mro__)
    if redis_py.__version__ != "5.0.1" or not hiredis or not options.get("decode_responses"):
        return None
    return (
        f"{name}: with decode_responses=True, redis-py 5.0.1 and hiredis decode every answer, and frames are "
        "bytes; upgrade redis-py to 5.0.2, uninstall hiredis, or pass a client without decode_responses"
    )


def share_slot(client: AsyncRedis, one: str, other: str) -> bool:
    """Whether the client's server lets one script have both keys."""
    return not isinstance(client, RedisCluster) or key_slot(key_of(one)) == key_slot(key_of(other))


def socket_timeout(client: AsyncRedis) -> float | None:
    """The client's own time limit on an answer, in seconds."""
    limit: float | None = _connection_options(client).get("socket_timeout")
    return limit


def _connection_options(client: AsyncRedis) -> dict[str, Any]:
    """What the client gives to each of its connections."""
    owner = client if isinstance(client, RedisCluster) else client.connection_pool
    options: dict[str, Any] = owner.connection_kwargs
    return options


# What to do about an exhausted pool.
POOL_ADVICE = (
    "raise the client's max_connections: every call that runs at once (a save, a read, a stream call) needs "
    "one connection; subscriptions have their own"
)
# A client may go from loop to loop, but not its connections.
OTHER_LOOP_ADVICE = "create a client in this loop, or call aclose() before the other loop ends"


class Failure(Enum):
    """Why Redis did not do what it was asked for."""

    POOL_EXHAUSTED = "all connections of the client's pool are in use"
    UNAVAILABLE = "the server cannot be reached or is not ready"
    WRONG_TYPE = "the key holds another type"
    OUT_OF_MEMORY = "the server has reached maxmemory and refuses writes"
    READ_ONLY = "the server is a read-only replica"
    NOT_ALLOWED = "the user lacks a right"
    OTHER_LOOP = "the client's connections belong to another event loop"
    REFUSED = "refused"


def failure_of(error: BaseException) -> Failure:
    """The kind of what redis-py raised."""
    text = str(error)
    # Before the kinds of connection errors, of which it is one.
    if isinstance(error, MaxConnectionsError) or text in _EXHAUSTED:
        return Failure.POOL_EXHAUSTED
    # A wrong password will not become right by trying again, though redis-py calls it a connection error.
    if isinstance(error, AuthenticationError):
        return Failure.REFUSED
    if isinstance(error, _UNAVAILABLE) or text.startswith(_PASSING):
        return Failure.UNAVAILABLE
    if isinstance(error, RuntimeError) and any(said in text for said in _OTHER_LOOP):
        return Failure.OTHER_LOOP
    # Not at the start of the text of an error inside a script.
    if "WRONGTYPE" in text:
        return Failure.WRONG_TYPE
    # redis-py takes the code off an error that is not one of a script.
    if isinstance(error, OutOfMemoryError) or "OOM" in text:
        return Failure.OUT_OF_MEMORY
    if isinstance(error, ReadOnlyError) or "READONLY" in text:
        return Failure.READ_ONLY
    if isinstance(error, NoPermissionError) or "NOPERM" in text:
        return Failure.NOT_ALLOWED
    return Failure.REFUSED


def cancellations() -> int:
    """How often the current task has been asked to end and has not done so."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def end_if_cancelled(before: int) -> None:
    """Raise CancelledError if the task was cancelled since `cancellations()` was `before`.

    redis-py sends through asyncio.wait_for. Before Python 3.12 that returns normally if the send ends in the
    moment of the cancellation. The task would then go on as if nobody had cancelled it.
    """
    if cancellations() > before:
        # With its message, by which anyio knows its own.
        message = getattr(asyncio.current_task(), "_cancel_message", None)
        raise asyncio.CancelledError(*() if message is None else (message,))


class RedisStore(ABC):
    """Commands on keys; each ends within `time_limit` seconds and raises what `typed` makes of a failure."""

    def __init__(self, redis: AsyncRedis, time_limit: float) -> None:
        self.redis = redis
        self.time_limit = time_limit

    @abstractmethod
    def typed(self, key: str, error: BaseException) -> SnapdeltaError:
        """The error for what redis-py, or the time limit, raised about the key."""

    async def run(self, key: str, name: str, *arguments: Any, **options: Any) -> Any:
        """One command; what is sent is UTF-8, answers are bytes, whatever the client encodes and decodes."""
        options[NEVER_DECODE] = True
        return await self._in_time(key, self.redis.execute_command(name, *_exact(arguments), **options))

    async def run_all(self, key: str, *commands: tuple[Any, ...]) -> list[Any]:
        """Several commands on one key in one round trip; the first error among the answers is raised."""
        pipeline = self.redis.pipeline(transaction=False)
        for name, *arguments in commands:
            pipeline.execute_command(name, *_exact(arguments), **{NEVER_DECODE: True})
        answers = await self._in_time(key, pipeline.execute(raise_on_error=False))
        for answer in answers:
            if isinstance(answer, Exception):
                raise self.typed(key, answer) from answer
        return list(answers)

    async def run_script(self, key: str, script: Script, keys: Sequence[str | bytes], *arguments: Any) -> Any:
        """One script over the keys; its answer in bytes."""
        options = {NEVER_DECODE: True}
        return await self._in_time(
            key, evaluate(self.redis, script, len(keys), *_exact((*keys, *arguments)), **options)
        )

    async def time_ms(self, key: str) -> int:
        """The clock of the key's server, in milliseconds."""
        seconds, microseconds = await self.run(key, "TIME", **await self.target(key))
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def target(self, key: str) -> dict[str, Any]:
        """What sends a command without a key to the key's server."""
        if not isinstance(self.redis, RedisCluster):
            return {}
        return {"target_nodes": await self.cluster_node(key)}

    async def cluster_node(self, key: str) -> Any:
        await self.initialize(key)
        assert isinstance(self.redis, RedisCluster)
        try:
            # The type stub asks for str, the code takes what the encoder takes.
            return self.redis.get_node_from_key(key_of(key))  # type: ignore[arg-type]
        except REDIS_ERRORS as error:
            raise self.typed(key, error) from error

    async def initialize(self, key: str) -> None:
        """Have a cluster client ask for the slots, if it has not yet."""
        await self._in_time(key, self.redis.initialize())

    async def _in_time(self, key: str, answer: Awaitable[Any]) -> Any:
        """Wait for an answer of redis-py, no longer than the time limit."""
        before = cancellations()
        try:
            async with asyncio.timeout(self.time_limit):
                answered = await answer
        except REDIS_ERRORS as error:
            raise self.typed(key, self._of_pool(error)) from error
        end_if_cancelled(before)
        return answered

    def _of_pool(self, error: BaseException) -> BaseException:
        """What a pool would have said that was still waiting for a free connection at our time limit."""
        pool = None if isinstance(self.redis, RedisCluster) else self.redis.connection_pool
        waits = isinstance(pool, BlockingConnectionPool) and not pool.can_get_connection()
        return MaxConnectionsError(_EXHAUSTED[1]) if waits and type(error) is TimeoutError else error


async def evaluate(redis: AsyncRedis, script: Script, *arguments: Any, **options: Any) -> Any:
    """Send a script's digest, and its text only if the server does not know it.

    That is so at first, after SCRIPT FLUSH, and after a fail-over.
    """
    try:
        return await redis.execute_command(*script.by_sha(*arguments), **options)
    except NoScriptError:
        return await redis.execute_command(*script.by_text(*arguments), **options)


def _exact(arguments: Iterable[Any]) -> list[Any]:
    # Plain ASCII stays text, as redis-py looks for words in it.
    return [
        key_of(argument) if isinstance(argument, str) and not argument.isascii() else argument
        for argument in arguments
    ]


def key_of(name: str) -> bytes:
    """The key as the server has it; names that are not UTF-8 survive the way through `name_of`."""
    return name.encode("utf-8", "surrogateescape")


def name_of(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def pairs(answer: Any) -> dict[bytes, Any]:
    """A map, as RESP3 has it or as RESP2's flat list."""
    if isinstance(answer, dict):
        return {key if isinstance(key, bytes) else str(key).encode(): value for key, value in answer.items()}
    return dict(zip(answer[::2], answer[1::2], strict=True))
