"""`snapdelta mirror`: what a person sees, and the exit status that a script sees."""

from __future__ import annotations

import asyncio
import json
import signal

from snapdelta import SnapshotManager
from support.cli import execute, start
from support.mirror_harness import parsed
from support.servers import Deployment, Server
from support.stream_harness import until

ROWS = "snapdelta:{ranking}:rows"


async def test_it_follows_until_it_is_stopped(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        for stop in (signal.SIGTERM, signal.SIGINT):
            process = await start("mirror", "ranking", "--redis", server.url, "--plain-key", "plain", "-v")
            await manager.save_snapshot({"A": {"x": stop.value}}, name="ranking")

            async def there(expected: bytes = b'{"A":{"x":%d}}' % stop) -> bool:
                return bool(await redis.get("plain") == expected)

            await until(there)
            process.send_signal(stop)
            _, said = await process.communicate()
            assert process.returncode == 0, said
            assert "all 1 rows written: start" in said.decode()


async def test_once(deployment: Deployment) -> None:
    node = deployment if isinstance(deployment, Server) else deployment.nodes[0]
    redis = deployment.client()
    try:
        given = ("mirror", "ranking", "--redis", node.url, "--once")
        nothing = await asyncio.to_thread(execute, *given)
        assert (nothing.returncode, nothing.stdout) == (1, "nothing was saved under 'ranking'\n")
        async with SnapshotManager(redis) as manager:
            await manager.save_snapshot({"A": 1, "B": 2}, name="ranking")
        done = await asyncio.to_thread(execute, *given)
        assert (done.returncode, done.stdout) == (0, f"{ROWS}: 2 rows written\n")
        assert parsed(await redis.hgetall(ROWS))[0] == {"A": 1, "B": 2}
        report = json.loads((await asyncio.to_thread(execute, *given, "--json")).stdout)
        assert (report["written"], report["key"], report["rows_written"]) == (True, ROWS, 2)
    finally:
        await redis.aclose()


async def test_it_says_why_it_could_not_run(server: Server) -> None:
    refused = await asyncio.to_thread(
        execute, "mirror", "x", "--once", "--redis", "redis://user:secret@127.0.0.1:1"
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: 127.0.0.1:1: ")
    assert "secret" not in refused.stderr
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot({"__meta__": 1}, name="x")
    refused = await asyncio.to_thread(execute, "mirror", "x", "--redis", server.url)
    assert refused.returncode == 2
    assert "a symbol is named '__meta__'" in refused.stderr
    assert "Traceback" not in refused.stderr
