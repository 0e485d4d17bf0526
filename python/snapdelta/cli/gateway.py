"""`snapdelta gateway NAME ...`: serve the newest states over HTTP and WebSocket."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from snapdelta.cli.redis import PREFIX, URL, Prefix, Url, connected, run


def gateway(
    names: Annotated[list[str], typer.Argument(help="The names that are served.")],
    url: Url = URL,
    key_prefix: Prefix = PREFIX,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where to listen.", min=1, max=65_535)] = 8000,
    max_clients: Annotated[int, typer.Option(help="WebSockets that may be open at once.", min=1)] = 1_000,
) -> None:
    """Serve the newest states of NAMES over HTTP and WebSocket, until it is stopped.

    Needs the extra `gateway`, uvicorn and websockets. Whoever reaches the port may read: put a proxy that checks
    before it, or mount a Gateway with `authorize=` in an application of your own.
    """
    # Imported here: they need starlette and uvicorn.
    from snapdelta.gateway import Gateway
    from snapdelta.gateway.server import serve

    async def serve_names() -> None:
        async with connected(url) as redis:
            app = Gateway(redis, names, key_prefix=key_prefix, max_clients=max_clients)
            await serve(app, host=host, port=port)

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("snapdelta").setLevel(logging.INFO)
    run(serve_names())
