"""What is no client of this event loop is refused in one typed sentence, before anything is sent."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis as sync_redis
from redis.asyncio import Redis

import snapdelta.streams.registry as registry
from snapdelta.errors import (
    SnapshotAccessError,
    SnapshotClosedError,
    SnapshotSettingError,
    StreamAccessError,
    StreamPolicyError,
)
from snapdelta.redis_stream_manager import RedisStreamManager, initialize_stream_manager
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader
from support.servers import AsyncClient, Deployment, Server


class RedisClient:
    """A wrapper as applications write it."""

    def __init__(self, client: Any = None) -> None:
        self._client = client

    @property
    def client(self) -> Any:
        if self._client is None:
            raise RuntimeError("not connected")
        return self._client


class LaterClient:
    client = None


NOT_CLIENTS: list[tuple[Callable[[], Any], str]] = [
    (lambda: RedisClient(Redis()), "RedisClient; pass the client that it wraps: RedisClient.client"),
    (RedisClient, "RedisClient; connect first"),
    (LaterClient, "LaterClient; connect first"),
    (lambda: None, "not None; connect first"),
    (
        lambda: "redis://user:secret@host",
        r"not a str; create it with .*from_url",
    ),
    (sync_redis.Redis, "synchronous"),
    (lambda: Redis().pipeline(), "Pipeline"),
    (lambda: 5, "not builtins.int"),
]
TAKERS: list[tuple[Callable[[Any], object], type[ValueError], str]] = [
    (initialize_stream_manager, StreamPolicyError, "redis"),
    (RedisStreamManager, StreamPolicyError, "redis"),
    (SnapshotManager, SnapshotSettingError, "redis_client"),
    (SnapshotReader, SnapshotSettingError, "redis_client"),
]


@pytest.mark.parametrize(("take", "kind", "name"), TAKERS)
@pytest.mark.parametrize(("make", "said"), NOT_CLIENTS)
def test_what_is_no_client_is_refused(
    make: Callable[[], Any],
    said: str,
    take: Callable[[Any], object],
    kind: type[ValueError],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_manager", None)
    wanted = f"^{name} must be a redis.asyncio.Redis or RedisCluster, not .*"
    with pytest.raises(kind, match=wanted) as raised:
        take(make())
    assert raised.match(said)
    assert "secret" not in str(raised.value)
    assert registry._manager is None


# --- another event loop

REFUSALS = (SnapshotAccessError, StreamAccessError)
Call = Callable[[AsyncClient], Awaitable[object]]


CALLS: dict[str, Call] = {
    "save": lambda client: SnapshotManager(client).save_snapshot({"A": {"x": 1}}),
    "latest": lambda client: SnapshotReader(client).latest(),
    "xadd": lambda client: RedisStreamManager(client).xadd("s", {"a": 1}),
    "xadd_many": lambda client: RedisStreamManager(client).xadd_many("s", [{"a": 1}]),
    "trim": lambda client: RedisStreamManager(client).trim("s"),
}


async def _awaited(what: Awaitable[object]) -> object:
    return await what


@pytest.mark.parametrize("name", CALLS)
def test_a_client_of_another_loop_is_refused(deployments: Callable[[str], Deployment], name: str) -> None:
    server = deployments("valkey-9.1")
    server.reset()

    async def connect() -> AsyncClient:
        client = server.client()
        await client.ping()
        return client

    with warnings.catch_warnings():
        # Nobody can close a connection whose loop has ended.
        warnings.simplefilter("ignore", ResourceWarning)
        client = asyncio.run(connect())
        with pytest.raises(REFUSALS, match=r"another event loop .*create a client in"):
            asyncio.run(_awaited(CALLS[name](client)))
        del client
        gc.collect()


def test_a_subscription_connects_by_itself_in_any_loop(deployments: Callable[[str], Deployment]) -> None:
    server = deployments("valkey-9.1")
    server.reset()

    async def connect() -> AsyncClient:
        client = server.client()
        async with SnapshotManager(client) as manager:
            await manager.save_snapshot({"A": {"x": 1}})
        return client

    async def follow(client: AsyncClient) -> None:
        updates = SnapshotReader(client).follow()
        assert (await anext(updates)).snapshot == {"A": {"x": 1}}
        await updates.aclose()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        client = asyncio.run(connect())
        asyncio.run(follow(client))
        del client
        gc.collect()


def test_a_client_that_was_closed_goes_from_loop_to_loop(deployments: Callable[[str], Deployment]) -> None:
    server = deployments("valkey-9.1")
    server.reset()
    client = server.client()

    async def once(number: int) -> None:
        async with SnapshotManager(client) as manager:
            await manager.save_snapshot({"A": {"x": number}})
        update = await SnapshotReader(client).latest()
        assert update is not None
        assert update.snapshot == {"A": {"x": number}}
        await RedisStreamManager(client).xadd("s", {"n": number})
        await client.aclose()

    for number in range(3):
        asyncio.run(once(number))


def test_managers_and_readers_stay_in_their_loop(deployments: Callable[[str], Deployment]) -> None:
    """Also with a client that could go on."""
    server = deployments("valkey-9.1")
    server.reset()
    assert isinstance(server, Server)
    client = server.client()
    manager, reader = SnapshotManager(client), SnapshotReader(client)
    updates = reader.follow()

    async def first() -> None:
        await manager.save_snapshot({"A": {"x": 1}})
        assert await reader.latest() is not None
        await anext(updates)
        await client.aclose()

    async def second() -> None:
        for call in (manager.save_snapshot({"A": {"x": 2}}), reader.latest(), anext(updates)):
            with pytest.raises(
                SnapshotClosedError, match=r"another event loop; (make a new one|call follow\(\) again)"
            ):
                await call
        await client.aclose()

    asyncio.run(first())
    asyncio.run(second())
    asyncio.run(manager.close())
