"""The extension of an ASGI scope by which a connection is cut (uvicorn_protocol.py)."""

from __future__ import annotations

from starlette.types import Scope

ABORT = "snapdelta.abort"


def abort(scope: Scope) -> None:
    """Cut a connection whose client takes nothing, where the server offers that."""
    offered = scope.get("extensions", {}).get(ABORT)
    if offered is not None:
        offered["abort"]()
