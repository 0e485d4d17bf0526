"""The extension of an ASGI scope that aborts a connection (uvicorn_protocol.py)."""

from __future__ import annotations

from starlette.types import Scope

ABORT = "snapdelta.abort"


def abort(scope: Scope) -> None:
    """Abort a connection whose client does not read, if the server supports that."""
    offered = scope.get("extensions", {}).get(ABORT)
    if offered is not None:
        offered["abort"]()
