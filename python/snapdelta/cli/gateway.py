"""`snapdelta gateway NAME ...`: serve the newest states over HTTP and WebSocket."""

from __future__ import annotations

import json
import logging
from typing import Annotated

import typer

from snapdelta.cli.console import console
from snapdelta.cli.redis import PREFIX, URL, Json, Prefix, Url, connected, run


def gateway(
    names: Annotated[list[str], typer.Argument(help="The names to serve.")],
    url: Url = URL,
    key_prefix: Prefix = PREFIX,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where to listen.", min=1, max=65_535)] = 8000,
    max_clients: Annotated[int, typer.Option(help="Most open WebSockets at once.", min=1)] = 1_000,
    as_json: Json = False,
) -> None:
    """Serve the newest states of NAMES over HTTP and WebSocket, until you stop it.

    Needs the extra `gateway`, uvicorn and websockets. Anyone who reaches the port may read: put a proxy with
    access control before it, or serve a Gateway with `authorize=` in your own application.
    """
    # Imported here: they need starlette and uvicorn.
    from snapdelta.gateway import Gateway
    from snapdelta.gateway.server import serve

    async def serve_names() -> None:
        async with connected(url) as redis:
            app = Gateway(redis, names, key_prefix=key_prefix, max_clients=max_clients)
            place = f"http://{host}:{port}/snapshots/"
            if as_json:
                print(json.dumps({"url": place, "names": app.names}), flush=True)
            else:
                console().print(f"serving {', '.join(app.names)} at {place}", highlight=False, markup=False)
            await serve(app, host=host, port=port)

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("snapdelta").setLevel(logging.INFO)
    run(serve_names())
