"""Compares two snapshots bit by bit, and finds their first difference."""

from __future__ import annotations

from struct import pack
from typing import Any


def first_difference(a: Any, b: Any, path: str = "") -> str | None:
    """None if both are equal with types, bits of floats and order of keys; else a line that names the path.

    For what JSON carries, and tuples and bytes; values of other kinds are compared by type and `==`.
    """
    if type(a) is not type(b):
        return f"{path or 'snapshot'}: {type(a).__name__} became {type(b).__name__}"
    match a:
        case dict():
            return _of_dicts(a, b, path)
        case list() | tuple():
            if len(a) != len(b):
                return f"{path}: {len(a)} items became {len(b)}"
            pairs = enumerate(zip(a, b, strict=True))
            return next((d for n, (x, y) in pairs if (d := first_difference(x, y, f"{path}[{n}]"))), None)
        case float():
            same = pack("<d", a) == pack("<d", b)
        case _:
            same = a == b
    return None if same else f"{path or 'snapshot'}: {a!r} became {b!r}"


def _of_dicts(a: dict[Any, Any], b: dict[Any, Any], path: str) -> str | None:
    if len(a) != len(b):
        return f"{path or 'snapshot'}: {len(a)} keys became {len(b)}"
    for position, ((key, value), (other_key, other)) in enumerate(zip(a.items(), b.items(), strict=True)):
        if key != other_key:
            return f"{path or 'snapshot'}: key {position} {key!r} became {other_key!r}"
        # Most leaves are equal: leave them before anything is called.
        kind = type(value)
        if kind is type(other) and (kind in _PLAIN or (kind is float and value)) and value == other:
            continue
        if difference := first_difference(value, other, f"{path}.{key}" if path else str(key)):
            return difference
    return None


# Two values of the same one of these types are identical if they are equal by ==. So are two floats, unless
# they are zero: 0.0 == -0.0.
_PLAIN = frozenset({int, str, bool, type(None)})
