"""The leaves of a record by the text of their paths."""

from __future__ import annotations

from typing import Any

_ESCAPES = str.maketrans({"\\": "\\\\", ".": "\\.", "[": "\\["})


def leaves(record: Any) -> dict[str, Any]:
    """Path -> value, in the record's order; a record that is a single value, or empty, has the path ""."""
    found: dict[str, Any] = {}

    def walk(path: list[str], value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                walk([*path, key.translate(_ESCAPES)], item)
        else:
            found[".".join(path)] = value

    walk([], record)
    return found
