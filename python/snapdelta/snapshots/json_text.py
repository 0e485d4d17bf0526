"""Records as JSON text, as orjson writes them; docs/mirror.md has a table. Needs the extra `mirror`."""

from __future__ import annotations

import base64
import json
from datetime import time, timedelta
from decimal import Decimal
from typing import Any

from snapdelta.errors import MissingExtraError

try:
    import orjson
except ImportError as missing:
    raise MissingExtraError(
        "JSON text needs orjson; install it with the extra: snapdelta-rs[mirror]"
    ) from missing


def json_text(value: Any) -> bytes:
    """UTF-8 JSON of any value that a frame carries; never fails on one."""
    try:
        return orjson.dumps(value, default=_fallback)
    except TypeError:
        # Ints beyond 64 bits, lone surrogates, a time with a zone: the standard library writes them.
        return json.dumps(_plain(value), separators=(",", ":")).encode()


def symbol_bytes(symbol: str) -> bytes:
    """The symbol as a field of a Redis hash."""
    return symbol.encode("utf-8", "surrogatepass")


def _fallback(value: Any) -> object:
    """What orjson does not know, as text or as a number of seconds."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"a frame cannot carry {type(value).__name__}")


def _plain(value: Any) -> object:
    """Only types that the standard library writes, each as orjson would."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, time):
        return value.isoformat()
    return orjson.loads(orjson.dumps(value, default=_fallback))
