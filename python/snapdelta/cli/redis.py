"""Shared by the commands about Redis: options, a connected client, and running a command.

It imports redis-py when a command runs, because other commands need no extra `redis`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlsplit

import typer

from snapdelta.cli.console import reported_errors
from snapdelta.errors import SnapshotUnavailableError, UsageError
from snapdelta.snapshots.keys import KEY_PREFIX

if TYPE_CHECKING:
    from snapdelta._redis import AsyncRedis
    from snapdelta.snapshots.store import SnapshotStore

Result = TypeVar("Result")

Url = Annotated[
    str,
    typer.Option(
        "--redis",
        envvar="SNAPDELTA_REDIS",
        show_envvar=True,
        help="The server, or any node of a cluster: redis://user:password@host:port/0, rediss:// with TLS.",
    ),
]
URL = "redis://localhost:6379"
Prefix = Annotated[str, typer.Option("--key-prefix", help="The same as the writer's.")]
PREFIX = KEY_PREFIX
COMMAND_TIMEOUT = 30.0
Name = Annotated[str, typer.Argument(help="The name under which the snapshots are saved.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncRedis]:
    """A client of the server, or of the cluster that it belongs to. Raises SnapshotUnavailableError."""
    # The sentence about a missing extra first.
    from redis.asyncio import Redis, RedisCluster

    import snapdelta._redis  # noqa: F401

    try:
        client: AsyncRedis = Redis.from_url(url)
    except ValueError as error:
        raise UsageError(f"--redis: {error}") from error
    try:
        if await _is_cluster(client, url):
            await client.aclose()
            client = RedisCluster.from_url(url)
        yield client
    finally:
        await client.aclose()


async def _is_cluster(client: AsyncRedis, url: str) -> bool:
    from snapdelta._redis import REDIS_ERRORS

    try:
        info = await client.info("cluster")
    except REDIS_ERRORS as error:
        # Without the password that the URL may hold.
        place = urlsplit(url)
        where = f"{place.hostname}:{place.port or 6379}" if place.hostname else place.path
        raise SnapshotUnavailableError(f"{where}: {error}") from error
    return bool(info.get("cluster_enabled"))


def store_of(redis: AsyncRedis, key_prefix: str, name: str) -> SnapshotStore:
    """The keys of a name. Raises SnapshotSettingError."""
    from snapdelta.snapshots.keys import Keys
    from snapdelta.snapshots.store import SnapshotStore

    return SnapshotStore(redis, Keys.of(key_prefix, name), COMMAND_TIMEOUT)


def run(command: Coroutine[Any, Any, Result]) -> Result:
    """Run a command to its end; our errors print one sentence, exit status 2."""
    with reported_errors():
        return asyncio.run(command)


def run_until_stopped(command: Coroutine[Any, Any, None]) -> None:
    """Run a command until SIGINT or SIGTERM, which end it cleanly."""

    async def stoppable() -> None:
        task = asyncio.create_task(command, name="snapdelta-command")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    run(stoppable())
