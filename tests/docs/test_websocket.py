"""The websocket handler of docs/snapshots.md, in a uvicorn of its own: it ends with client and server."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from snapdelta.snapshot_manager import SnapshotManager
from support.documents import blocks
from support.servers import Server
from support.stream_harness import until
from support.uvicorn import get, serving

# Ends a test that has failed. Without an end of its own a handler waits for ever.
_LIMIT = 120.0
# A route for the tests: what runs in the process.
_TASKS = """
from starlette.responses import JSONResponse
from starlette.routing import Route


async def tasks(request):
    names = [task.get_name() for task in asyncio.all_tasks()]
    running = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
    shared = sum(name.startswith("snapdelta-") for name in names)
    return JSONResponse({"shared": shared, "sending": running.count("send")})


app.router.routes.append(Route("/tasks", tasks))
"""


async def connected(port: int) -> ClientConnection:
    async with asyncio.timeout(_LIMIT):
        while True:
            try:
                return await connect(f"ws://127.0.0.1:{port}/ranking")
            except OSError:
                await asyncio.sleep(0.05)


@pytest.fixture
def server(fresh_server: Callable[..., Server]) -> Server:
    return fresh_server()


@pytest.mark.parametrize("saved", [False, True], ids=["nothing-saved", "quiet"])
async def test_the_handler_ends_with_its_client_and_with_its_server(
    server: Server, tmp_path: Path, saved: bool
) -> None:
    (code,) = (block for block in blocks("docs/snapshots.md", "python") if "WebSocketRoute" in block)
    (tmp_path / "example.py").write_text(code.replace("Redis()", f"Redis(port={server.port})") + _TASKS)
    with serving(tmp_path, "example") as (process, port):
        async with server.client() as redis, SnapshotManager(redis) as manager:
            if saved:
                await manager.save_snapshot({"A": {"x": 1}}, "ranking")
            clients = [await connected(port) for _ in range(5)]
            if saved:
                for client in clients:
                    assert json.loads(await client.recv()) == {"A": {"x": 1}}
            await until(lambda: _is(port, shared=1, sending=5), _LIMIT)
            # One connection follows for them all.
            assert server.execute("CLIENT", "LIST").count("cmd=xread") == 1
            for left in range(4, -1, -1):
                await clients.pop().close()
                await until(lambda: _is(port, shared=min(left, 1), sending=left), _LIMIT)  # noqa: B023
            await until(lambda: "cmd=xread" not in server.execute("CLIENT", "LIST"))
            staying = await connected(port)
            await until(lambda: _is(port, shared=1, sending=1), _LIMIT)
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(staying.wait_closed(), _LIMIT)
            assert await asyncio.to_thread(process.wait, _LIMIT) in (0, -signal.SIGTERM)


async def _is(port: int, **wanted: int) -> bool:
    return await get(port, "/tasks") == (200, wanted)
