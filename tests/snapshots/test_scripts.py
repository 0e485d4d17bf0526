"""Lua scripts go by their digest; their text goes only to a server that does not know them."""

from __future__ import annotations

import random
from collections.abc import Callable

from redis.asyncio import Redis

from snapdelta._scripts import Script
from snapdelta.redis_stream_manager import RedisStreamManager, StreamPolicy
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader
from snapdelta.snapshots import scripts as snapshot_scripts
from snapdelta.streams import scripts as stream_scripts
from support.proxy import Proxy
from support.servers import Cluster, Deployment, Server

_QUEUE = StreamPolicy(maxlen=5, keep_unread=True, hard_maxlen=10)


def _snapshot(number: int) -> dict[str, dict[str, float]]:
    generator = random.Random(number)
    return {f"S{index}": {"price": generator.random()} for index in range(200)}


async def _bytes_received(redis: Redis) -> int:
    return int((await redis.info("stats"))["total_net_input_bytes"])


async def test_a_later_save_sends_under_a_kilobyte_beside_its_frame(server: Server) -> None:
    async with server.client() as redis, server.client() as watcher, SnapshotManager(redis) as manager:
        assert isinstance(watcher, Redis)
        await manager.save_snapshot(_snapshot(0))
        for number in range(1, 4):
            before = await _bytes_received(watcher)
            asked = await _bytes_received(watcher) - before
            before = await _bytes_received(watcher)
            result = await manager.save_snapshot(_snapshot(number))
            sent = await _bytes_received(watcher) - before - asked
            assert result["compressed_size"] < sent < result["compressed_size"] + 1000


async def test_saves_survive_a_flush_of_the_scripts(deployment: Deployment) -> None:
    async with deployment.client() as redis, SnapshotManager(redis) as manager:
        follower = SnapshotReader(redis).follow()
        for number in range(4):
            _flush_scripts(deployment)
            result = await manager.save_snapshot(_snapshot(number))
            assert (result["type"], result["reason"]) == (
                ("full", "first") if number == 0 else ("delta", None)
            )
            assert (await anext(follower)).snapshot == _snapshot(number)
        _flush_scripts(deployment)
        assert await manager.delete("default")
        await follower.aclose()


async def test_bounded_writes_survive_a_flush_of_the_scripts(deployment: Deployment) -> None:
    wide = {f"f{index}": index for index in range(stream_scripts.MOST_VALUES)}
    async with deployment.client() as redis:
        streams = RedisStreamManager(redis, {"q": _QUEUE})
        for number in range(12):
            _flush_scripts(deployment)
            await streams.xadd("q", {"n": number})
        _flush_scripts(deployment)
        ids = await streams.xadd_many("q", [{"n": 12}, wide, {"n": 13}, wide, {"n": 14}])
        assert ids == sorted(ids, key=lambda found: tuple(map(int, found.split(b"-"))))
        assert None not in ids
        assert await redis.xlen("q") == 10
        _flush_scripts(deployment)
        assert (await streams.trim("q")).length == 5


async def test_a_pipeline_carries_a_script_once(server: Server) -> None:
    async with Proxy(server.port) as proxy, Redis(port=proxy.port) as redis:
        streams = RedisStreamManager(redis, {"q": _QUEUE})
        await streams.xadd_many("q", [{"n": number} for number in range(5)])
        assert [name for name in proxy.commands if name.startswith("EVAL")] == ["EVAL", *["EVALSHA"] * 4]


def test_each_script_is_made_of_its_files(deployments: Callable[[str], Deployment]) -> None:
    """The digest is the server's own."""
    server = deployments("redis-6.2")
    assert isinstance(server, Server)
    found = [
        script
        for module in (snapshot_scripts, stream_scripts)
        for script in vars(module).values()
        if isinstance(script, Script)
    ]
    assert len(found) == 10
    with server.admin() as client:
        assert [client.script_load(script.text) for script in found] == [script.sha for script in found]


def _flush_scripts(deployment: Deployment) -> None:
    for node in deployment.nodes if isinstance(deployment, Cluster) else [deployment]:
        with node.admin() as client:
            client.script_flush()
