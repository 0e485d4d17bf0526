"""uvicorn with the settings that a gateway needs; needs uvicorn and websockets."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp

from snapdelta.errors import MissingExtraError

try:
    import uvicorn
    import websockets  # noqa: F401

    from snapdelta.gateway.uvicorn_protocol import AbortableHTTPProtocol, AbortableProtocol
except ImportError as missing:
    raise MissingExtraError(
        "serving a gateway needs uvicorn (from 0.35 on) and websockets: pip install uvicorn websockets"
    ) from missing

# Bytes of a message of a client; it has nothing to say.
_LARGEST_MESSAGE = 4096
# Seconds until uvicorn gives up on requests that do not end.
_GRACE = 1


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End well; uvicorn raises the signal again, which would kill the process before others end."""
        if threading.current_thread() is not threading.main_thread():
            # Only the main thread gets signals: the application ends the server there.
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def server_for(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 8000) -> uvicorn.Server:
    """A server for a Gateway, or for an application in which it is mounted; `await server.serve()` runs it.

    It turns compression of WebSockets off, because frames are compressed already. It disconnects clients that
    do not read, so the server ends within about 2 s.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=AbortableHTTPProtocol,
        ws=AbortableProtocol,
        ws_per_message_deflate=False,
        ws_max_size=_LARGEST_MESSAGE,
        timeout_graceful_shutdown=_GRACE,
        # The lines of lesser levels hold queries, and so perhaps tokens.
        log_level="warning",
    )
    return _Server(config)


async def serve(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve a Gateway, or an application in which it is mounted, until SIGINT or SIGTERM."""
    await server_for(app, host=host, port=port).serve()
