"""Values as people read them: short texts, JSON, times."""

from __future__ import annotations

from typing import Any

# Where a record has no such field.
ABSENT: Any = object()


def short(value: Any, width: int = 60) -> str:
    """One line of at most `width` characters that a terminal can show."""
    text = "-" if value is ABSENT else value if isinstance(value, str) else repr(value)
    text = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
    return text if len(text) <= width else text[: width - 1] + "…"


def ends(old: Any, new: Any) -> dict[str, Any]:
    """Both values of a changed field, for JSON, without an absent one."""
    return {key: value for key, value in (("from", old), ("to", new)) if value is not ABSENT}


def as_json(value: Any) -> str:
    """JSON of any value that a frame carries, as a mirror writes it."""
    # Imported here: it needs orjson.
    from snapdelta.snapshots.json_text import json_text

    return json_text(value).decode()


def moment(seconds: float) -> str:
    """A time in UTC to the millisecond."""
    from datetime import UTC, datetime

    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(sep=" ", timespec="milliseconds")
        .replace("+00:00", "Z")
    )
