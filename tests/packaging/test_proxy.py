"""The proxy does what its plan says, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from support.proxy import Kind, Proxy
from support.servers import Server, patience
from support.stream_harness import until

LOST = (RedisConnectionError, RedisTimeoutError)


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    async with Proxy(server.port) as started:
        yield started


def client(proxy: Proxy, **options: Any) -> Redis:
    """One that tries once."""
    return Redis(port=proxy.port, retry=Retry(NoBackoff(), 0), **options)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_without_a_plan_nothing_changes(proxy: Proxy, protocol: int) -> None:
    big = bytes(range(256)) * 4096
    async with client(proxy, protocol=protocol) as redis:
        assert await redis.set("key", big)
        assert await redis.get("key") == big
        assert await redis.get("none") is None
        assert await redis.hset("hash", mapping={"a": b"*3\r\n", "b": b"\r\n"}) == 2
        assert await redis.hgetall("hash") == {b"a": b"*3\r\n", b"b": b"\r\n"}
        await redis.xadd("stream", {"f": "v"}, id="1-1")
        assert await redis.xread({"stream": 0})
        assert await redis.eval("return {1, {'two', false}, {}}", 0) == [1, [b"two", None], []]
        async with redis.pipeline(transaction=True) as pipe:
            pipe.incr("n")
            pipe.incr("n")
            assert await pipe.execute() == [1, 2]
    assert {"SET", "GET", "EVAL", "MULTI", "EXEC"} <= set(proxy.commands)


@pytest.mark.parametrize(
    ("kind", "carried_out"), [("cut_before", False), ("cut_after", True), ("cut_within", True)]
)
async def test_the_connection_is_cut_at_the_nth_command_of_a_name(
    proxy: Proxy, server: Server, kind: Kind, carried_out: bool
) -> None:
    async with client(proxy) as redis:
        fault = proxy.plan(kind, 2, "INCRBY")
        await redis.set("other", 1)
        assert await redis.incr("n") == 1
        assert not fault.hit.is_set()
        with pytest.raises(LOST):
            await redis.incr("n")
        await fault.done.wait()
        assert server.execute("GET", "n") == ("2" if carried_out else "1")
        assert await redis.incr("n") == (3 if carried_out else 2)


async def test_any_command_counts_without_a_name(proxy: Proxy, server: Server) -> None:
    async with client(proxy) as redis:
        await redis.ping()
        proxy.plan("cut_after", 3)
        await redis.incr("n")
        await redis.incr("n")
        with pytest.raises(LOST):
            await redis.incr("n")
    assert server.execute("GET", "n") == "3"


@pytest.mark.parametrize("deliver", [False, True])
async def test_a_command_arrives_when_its_client_has_long_gone(
    proxy: Proxy, server: Server, deliver: bool
) -> None:
    fault = proxy.plan("hold", 1, "SET")
    async with client(proxy, socket_timeout=patience(0.1)) as redis:
        with pytest.raises(RedisTimeoutError):
            await redis.set("key", "late")
    assert server.execute("SET", "key", "early")
    if deliver:
        fault.deliver()
    else:
        fault.drop()
    await fault.done.wait()
    assert server.execute("GET", "key") == ("late" if deliver else "early")


async def test_a_command_held_back_is_answered_if_its_client_waits(proxy: Proxy) -> None:
    fault = proxy.plan("hold", 1, "SET")
    async with client(proxy) as redis:
        setting: asyncio.Future[Any] = asyncio.ensure_future(redis.set("key", "value"))
        await fault.hit.wait()
        assert not setting.done()
        fault.deliver()
        assert await setting
        assert await redis.get("key") == b"value"


async def test_swallowed_replies_time_out(proxy: Proxy, server: Server) -> None:
    proxy.plan("swallow", 1, "INCRBY")
    async with client(proxy, socket_timeout=patience(0.1)) as redis:
        with pytest.raises(RedisTimeoutError):
            await redis.incr("n")
        assert server.execute("GET", "n") == "1"
        assert await redis.incr("n") == 2


async def test_connections_are_refused_for_a_time(proxy: Proxy) -> None:
    async with client(proxy) as redis:
        assert await redis.ping()
        await proxy.refuse()
        assert await redis.ping(), "what is open stays open"
        await proxy.cut()
        with pytest.raises(RedisConnectionError):
            await redis.ping()
        await proxy.accept()
        assert await redis.ping()


async def test_who_leaves_a_blocking_command_is_gone_at_the_server_too(proxy: Proxy, server: Server) -> None:
    def blocked() -> int:
        with server.admin() as admin:
            return int(admin.info("clients")["blocked_clients"])

    async with client(proxy) as redis:
        waiting: asyncio.Future[Any] = asyncio.ensure_future(redis.xread({"stream": 0}, block=60_000))
        await until(lambda: blocked() == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await until(lambda: blocked() == 0)
