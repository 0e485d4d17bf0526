"""The present state of one stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from snapdelta._entry_id import parse_id
from snapdelta._redis import key_of, name_of, pairs
from snapdelta.errors import StreamAccessError, StreamTypeError
from snapdelta.streams.policy import StreamPolicy
from snapdelta.streams.store import StreamStore, is_time


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A consumer group.

    `lag` is the number of entries that the server has not delivered to it. It is None if the server does not
    know it: before Redis 7, or after somebody deleted entries in the middle.
    """

    name: str
    consumers: int
    pending: int
    last_delivered_id: str
    lag: int | None


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream's size compared with its policy.

    Attributes:
        length: entries; 0 for a stream that does not exist
        bytes: memory as the server estimates it
        oldest_id: the first entry's id, None when there is none; newest_id the last one's
        oldest_age: age of the first entry in seconds by the server's clock; None if its id is not a time
        usage: the fullest of its bounds in percent: of maxlen, max_bytes or max_age (100 is full)
    """

    stream: str
    policy: StreamPolicy
    length: int = 0
    bytes: int = 0
    oldest_id: str | None = None
    newest_id: str | None = None
    oldest_age: float | None = None
    newest_age: float | None = None
    usage: float = 0.0
    groups: list[GroupInfo] = field(default_factory=list)


async def describe(store: StreamStore, stream: str, policy: StreamPolicy) -> StreamInfo:
    """Ask the server about the stream. Raises StreamAccessError and its kinds."""
    key = key_of(stream)
    length, used, oldest, newest = await store.run_all(
        stream,
        ("XLEN", key),
        ("MEMORY", "USAGE", key),
        ("XRANGE", key, "-", "+", "COUNT", 1),
        ("XREVRANGE", key, "+", "-", "COUNT", 1),
    )
    if used is None:
        return StreamInfo(stream, policy)
    now = await store.time_ms(stream)
    groups = await _groups(store, stream, key)
    oldest_id, newest_id = _first_id(oldest), _first_id(newest)
    oldest_age = _age(oldest_id, now)
    shares = [
        length / policy.maxlen if policy.maxlen else 0.0,
        used / policy.max_bytes if policy.max_bytes else 0.0,
        oldest_age / policy.max_age if policy.max_age and oldest_age is not None else 0.0,
    ]
    return StreamInfo(
        stream=stream,
        policy=policy,
        length=int(length),
        bytes=int(used),
        oldest_id=oldest_id,
        newest_id=newest_id,
        oldest_age=oldest_age,
        newest_age=_age(newest_id, now),
        usage=round(100 * max(shares), 1),
        groups=groups,
    )


def is_gone(error: StreamAccessError) -> bool:
    """Whether stream or group were deleted or replaced since the last question."""
    return isinstance(error, StreamTypeError) or any(
        said in str(error) for said in ("no such key", "NOGROUP", "No such consumer group")
    )


async def _groups(store: StreamStore, stream: str, key: bytes) -> list[GroupInfo]:
    try:
        rows = await store.run(stream, "XINFO", "GROUPS", key)
    except StreamAccessError as error:
        if is_gone(error):
            return []
        raise
    groups: list[GroupInfo] = []
    for row in rows:
        group = pairs(row)
        lag = group.get(b"lag")
        groups.append(
            GroupInfo(
                name=name_of(group[b"name"]),
                consumers=int(group[b"consumers"]),
                pending=int(group[b"pending"]),
                last_delivered_id=name_of(group[b"last-delivered-id"]),
                lag=None if lag is None else int(lag),
            )
        )
    return groups


def _first_id(entries: list[Any]) -> str | None:
    return name_of(entries[0][0]) if entries else None


def _age(entry_id: str | None, now: int) -> float | None:
    """Seconds since the id's time; None for an id that is no time."""
    if entry_id is None:
        return None
    added, _ = parse_id(entry_id)
    return (now - added) / 1000 if is_time(added, now) else None
