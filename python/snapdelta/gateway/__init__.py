"""Snapshots over HTTP and WebSocket (docs/gateway.md). A table of contents; needs the extra `gateway`."""

from __future__ import annotations

from snapdelta.errors import MissingExtraError

try:
    import orjson  # noqa: F401
    import starlette  # noqa: F401
except ImportError as missing:
    raise MissingExtraError(
        "the gateway needs starlette and orjson; install them with the extra: snapdelta-rs[gateway]"
    ) from missing

from snapdelta.gateway.application import Gateway
from snapdelta.gateway.settings import GatewayOptions, GatewaySettings
from snapdelta.gateway.stats import GatewayCounters

__all__ = ["Gateway", "GatewayCounters", "GatewayOptions", "GatewaySettings"]
