"""Connections that a test leaves open: named at that test, not where the garbage collector finds them."""

from __future__ import annotations

import functools
import gc
import warnings
import weakref
from typing import Any

from redis.asyncio.connection import AbstractConnection

_made: weakref.WeakSet[AbstractConnection] = weakref.WeakSet()


def watch() -> None:
    """Notes each connection that redis-py makes from now on."""
    make = AbstractConnection.__init__

    @functools.wraps(make)
    def noted(self: AbstractConnection, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        _made.add(self)

    AbstractConnection.__init__ = noted  # type: ignore[method-assign]


def close_left_open() -> list[int]:
    """Closes the connections whose event loop is gone; returns the ports that they lead to."""
    left = [made for made in _made if made._writer is not None and made._writer._loop.is_closed()]  # type: ignore[attr-defined]
    ports = [int(getattr(made, "port", 0)) for made in left]
    if left:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for made in left:
                made._writer = made._reader = None
                made._parser.on_disconnect()  # type: ignore[no-untyped-call]
            del made
            left.clear()
            gc.collect()
    return ports
