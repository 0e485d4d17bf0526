"""The page, its gateway and the market behind them, in one process."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from examples.live.market import NAME, write
from snapdelta import EmbeddedServer, SnapshotManager
from snapdelta.errors import SnapdeltaError
from snapdelta.gateway import Gateway
from snapdelta.gateway.server import server_for

_PAGE = Path(__file__).parent / "page"
_CLIENT = Path(__file__).parents[2] / "clients" / "js"


class ClientMissingError(SnapdeltaError):
    """The reader for JavaScript has not been built."""


async def _anyone(_: HTTPConnection) -> bool:
    """Only this machine reaches the gateway, and the market is simulated."""
    return True


def application(redis: Redis) -> Starlette:
    """The page at `/`, its reader at `/clients/js`, the gateway below `/gateway`.

    Raises ClientMissingError.
    """
    if not (_CLIENT / "snapdelta.wasm").exists():
        raise ClientMissingError("clients/js has no snapdelta.wasm: run make client")
    gateway = Gateway(redis, [NAME], authorize=_anyone)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with gateway:
            yield

    return Starlette(
        routes=[
            Mount("/gateway", gateway),
            Mount("/clients/js", StaticFiles(directory=_CLIENT)),
            Mount("/", StaticFiles(directory=_PAGE, html=True)),
        ],
        lifespan=lifespan,
    )


async def serve(listener: socket.socket, symbols: int, rate: float) -> None:
    """Serve until SIGINT or SIGTERM, or until the market cannot be saved.

    Raises EmbeddedServerError, ClientMissingError, and what a save raises.
    """
    with EmbeddedServer() as store:
        async with Redis.from_url(store.url) as redis, SnapshotManager(redis) as manager:
            server = server_for(application(redis))
            writing = asyncio.create_task(write(manager, symbols, rate), name="market")
            writing.add_done_callback(lambda _: server.handle_exit(signal.SIGTERM, None))
            print(f"http://127.0.0.1:{listener.getsockname()[1]}/ shows {NAME!r} of {store.url}", flush=True)
            await server.serve(sockets=[listener])
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
