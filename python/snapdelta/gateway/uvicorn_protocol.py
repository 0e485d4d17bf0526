"""uvicorn's protocols, with connections that the gateway can abort.

Without it, a client that does not read keeps its unread bytes, and blocks the server's shutdown.
"""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from snapdelta.gateway.abort import ABORT

# Seconds that a client has to take the last messages when the server ends.
_GRACE = 0.5


class AbortableHTTPProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """Puts `abort` into the scope of each request."""

    app: ASGIApp

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        app = self.app

        async def with_abort(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[ABORT] = {"abort": transport.abort}
            await app(scope, receive, send)

        self.app = with_abort


class AbortableProtocol(WebSocketsSansIOProtocol):
    """Puts `abort` into the scope, and ends soon after the server's shutdown begins."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        # There is none after a handshake that failed.
        if scope is not None:
            scope["extensions"][ABORT] = {"abort": self.transport.abort}

    def shutdown(self) -> None:
        super().shutdown()
        self.loop.call_later(_GRACE, self.transport.abort)
