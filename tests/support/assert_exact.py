"""Comparison to the bit: types, bits and order, the slow and plain way."""

from __future__ import annotations

import struct
from datetime import datetime, time, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo


def difference(a: Any, b: Any, path: tuple[object, ...] = ()) -> str | None:
    """Where and how `a` is not exactly `b`; None if it is."""
    if type(a) is not type(b):
        return f"{path}: {type(a).__name__} {a!r} is not {type(b).__name__} {b!r}"
    if isinstance(a, dict):
        if list(map(_key, a)) != list(map(_key, b)):
            return f"{path}: keys {list(a)!r} are not {list(b)!r}"
        pairs = [(key, a[key], b[key]) for key in a]
    elif isinstance(a, list | tuple):
        if len(a) != len(b):
            return f"{path}: {len(a)} items are not {len(b)}"
        pairs = [(n, x, y) for n, (x, y) in enumerate(zip(a, b, strict=True))]
    else:
        return None if _essence(a) == _essence(b) else f"{path}: {a!r} is not {b!r}"
    for key, x, y in pairs:
        found = difference(x, y, (*path, key))
        if found is not None:
            return found
    return None


def same(a: Any, b: Any) -> bool:
    return difference(a, b) is None


def assert_same(a: Any, b: Any) -> None:
    found = difference(a, b)
    assert found is None, found


def _key(key: object) -> tuple[type, object]:
    return type(key), key


def _essence(value: Any) -> Any:
    """Something plain that is equal exactly when the values of one type are exactly the same."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, Decimal):
        return value.as_tuple()
    if isinstance(value, datetime | time):
        return value.replace(tzinfo=None, fold=0), value.fold, _zone(value.tzinfo)
    if isinstance(value, UUID):
        return value.int
    return value


def _zone(zone: object) -> Any:
    if isinstance(zone, timezone):
        return timezone, zone.__getinitargs__()  # type: ignore[attr-defined]  # offset, and name if it has one
    if isinstance(zone, ZoneInfo):
        return ZoneInfo, zone.key
    return zone
