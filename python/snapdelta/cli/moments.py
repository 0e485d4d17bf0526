"""Parse a moment of a name's history: a time, a sequence, an id, or now."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from snapdelta.errors import SnapshotHistoryError, UsageError

if TYPE_CHECKING:
    from snapdelta._redis import AsyncRedis
    from snapdelta.snapshots.keys import StreamPosition
    from snapdelta.snapshots.store import SnapshotStore
    from snapdelta.snapshots.update import Update

HELP = "now, a sequence (17), an id (EPOCH-SEQUENCE), 5s, 10m or 2h (ago), or a time: 2026-03-02T09:30:00Z."
Since = Annotated[str | None, typer.Option(metavar="TIME", help="From this time on; 10m: 10 minutes ago.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Up to this time.")]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Whole numbers from here on are seconds since 1970.
_FIRST_TIME = 10**9


async def time_of(redis: AsyncRedis, store: SnapshotStore, text: str) -> float | None:
    """Seconds since 1970 by the server's clock; None if the text is a sequence or an id."""
    if ago := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])(?: ago)?", text):
        return await store.time_ms(store.keys.head) / 1000 - float(ago[1]) * _UNITS[ago[2]]
    if text == "now":
        return await store.time_ms(store.keys.head) / 1000
    if re.fullmatch(r"\d+-\d+", text) or (text.isdigit() and int(text) < _FIRST_TIME):
        return None
    try:
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        # Without a zone, the machine's own. The first and last days of the calendar have no time in others.
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is not a moment: give {HELP}") from None


async def time_bound(redis: AsyncRedis, store: SnapshotStore, option: str, text: str | None) -> float | None:
    """Seconds since 1970 of --since or --until, None if not given. Raises UsageError."""
    if text is None:
        return None
    seconds = await time_of(redis, store, text)
    if seconds is None:
        kind = "an id" if "-" in text else "a sequence"
        raise UsageError(
            f"{text!r} is {kind}; {option} takes 5s, 10m, 2h (ago) or a time: 2026-03-02T09:30:00Z"
        )
    return seconds


async def state_at(redis: AsyncRedis, store: SnapshotStore, text: str) -> Update | None:
    """The state that the text names; None if nothing is saved. Raises SnapshotHistoryError, UsageError."""
    from snapdelta.snapshots.reader import SnapshotReader
    from snapdelta.snapshots.replica import Replica
    from snapdelta.snapshots.view import View

    keys = store.keys
    reader = SnapshotReader(redis, keys.name, key_prefix=keys.head.partition("{")[0])
    if text == "now":
        return await reader.latest()
    seconds = await time_of(redis, store, text)
    if seconds is not None:
        return await reader.at(seconds)
    replica = Replica(store, None, View())
    if not await replica.seek(await position_of(store, text)):
        raise SnapshotHistoryError(f"snapshots {keys.name!r}: the frames in Redis do not lead to {text}")
    return await replica.update()


async def position_of(store: SnapshotStore, text: str) -> StreamPosition:
    """The id of a sequence: of the latest writer that has it. Raises SnapshotHistoryError."""
    from snapdelta.snapshots.keys import StreamPosition

    if "-" in text:
        candidate = StreamPosition.of(text.encode())
        entry = await store.delta_at(str(candidate))
        if entry is not None and entry.position == candidate:
            return candidate
    else:
        newest = await store.delta_at("+")
        while newest is not None:
            candidate = StreamPosition(newest.position.epoch, int(text))
            entry = await store.delta_at(str(candidate))
            if entry is not None and entry.position == candidate:
                return candidate
            newest = await store.delta_at(f"({candidate.epoch}-0")
    first = await store.first_delta()
    kept = f"the oldest is {first.position}" if first is not None else "the history is empty"
    raise SnapshotHistoryError(f"snapshots {store.keys.name!r}: {text} is not in the history; {kept}")
