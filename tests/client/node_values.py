"""Values of the JavaScript reader in Python: exact, but for what JavaScript cannot tell apart."""

from __future__ import annotations

import math
import struct
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo


def of_node(value: Any) -> Any:
    """What clients/js/test/canonical.mjs wrote."""
    if value is None or isinstance(value, bool | str):
        return value
    kind, *parts = value
    content = parts[0]
    match kind:
        case "int":
            return int(content)
        case "float":
            return math.nan if content == "nan" else struct.unpack(">d", bytes.fromhex(content))[0]
        case "list":
            return [of_node(item) for item in content]
        case "dict":
            return {key: of_node(item) for key, item in content}
        case "bytes":
            return bytes.fromhex(content)
        case "date":
            return date(*content)
        case "datetime":
            return datetime.combine(date(*content), _time(*parts[1]))
        case "time":
            return _time(*content)
        case "timedelta":
            return timedelta(*content)
        case "decimal":
            return Decimal(content)
        case "uuid":
            return UUID(content)
    raise AssertionError(f"no such kind: {kind}")


def _time(hour: int, minute: int, second: int, microsecond: int, fold: int, zone: Any) -> time:
    return time(hour, minute, second, microsecond, _zone(zone), fold=fold)


def _zone(zone: Any) -> tzinfo | None:
    if zone is None:
        return None
    kind, content, *name = zone
    if kind == "utc":
        return UTC
    if kind == "key":
        return ZoneInfo(content)
    offset = timedelta(microseconds=content)
    return timezone(offset) if name == [None] else timezone(offset, *name)


def in_javascript(value: Any) -> Any:
    """The value, with what JavaScript has one type for: a tuple is an array, every NaN is the same."""
    if isinstance(value, dict):
        return {key: in_javascript(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_javascript(item) for item in value]
    return math.nan if isinstance(value, float) and math.isnan(value) else value
