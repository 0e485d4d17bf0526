"""Find the entry of a moment in the history."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeAlias

from snapdelta.errors import SnapshotHistoryError, SnapshotSettingError
from snapdelta.snapshots.keys import StreamPosition
from snapdelta.snapshots.store import Entry, SnapshotStore

# Seconds since 1970, or a datetime with a zone.
Timestamp: TypeAlias = float | datetime

_SEQUENCE_BITS = 64


def milliseconds(name: str, moment: Timestamp) -> int:
    """Raises SnapshotSettingError for anything that is not a moment."""
    if isinstance(moment, datetime):
        if moment.utcoffset() is None:
            raise SnapshotSettingError(f"{name} must have a time zone; {moment!r} has none")
        return int(moment.timestamp() * 1000)
    if isinstance(moment, bool) or not isinstance(moment, (int, float)) or not abs(moment) < 1e11:
        raise SnapshotSettingError(
            f"{name} must be seconds since 1970 or a datetime with a zone, not {moment!r}"
        )
    return round(moment * 1000)


def readable(moment: int) -> str:
    """A moment in ms as text: in seconds, as the calls take it, and as a date if it has one."""
    seconds = moment / 1000
    try:
        return f"{seconds:.3f} ({datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC)"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.3f}"


async def entry_at(store: SnapshotStore, moment: int) -> Entry:
    """The newest entry of the delta stream that was accepted at or before a moment, in ms, by bisection.

    Raises SnapshotHistoryError when the history begins later, or is empty.
    """
    low, high = await store.first_delta(), await store.delta_at("+")
    if low is None or high is None:
        raise SnapshotHistoryError(f"snapshots {store.keys.name!r}: the history is empty")
    if low.time > moment:
        raise SnapshotHistoryError(
            f"snapshots {store.keys.name!r}: the history begins at {readable(low.time)}, "
            f"after {readable(moment)}; to reach further back, raise the manager's history, "
            "history_frames and history_bytes"
        )
    if high.time <= moment:
        return high
    while True:
        middle = _position((_number(low.position) + _number(high.position)) // 2)
        entry = await store.delta_at(str(middle))
        if entry is None or entry.position <= low.position:
            # Nothing between the lower end and the middle.
            above = await store.deltas_after(middle, 1)
            if not above or above[0].position >= high.position:
                return low
            entry = above[0]
        if entry.time <= moment:
            low = entry
        else:
            high = entry


def _number(position: StreamPosition) -> int:
    return position.epoch << _SEQUENCE_BITS | position.sequence


def _position(number: int) -> StreamPosition:
    return StreamPosition(number >> _SEQUENCE_BITS, number & (1 << _SEQUENCE_BITS) - 1)
