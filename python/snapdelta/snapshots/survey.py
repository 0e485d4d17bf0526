"""The state of a name's keys without reading its frames, and its faults."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from snapdelta._redis import REDIS_ERRORS, AsyncRedis, name_of, pairs
from snapdelta.errors import SnapshotSettingError
from snapdelta.snapshots.keys import Keys, StreamPosition
from snapdelta.snapshots.store import Head, SnapshotStore

# A name counts as silent after so many of its usual intervals, but not before so many seconds.
_INTERVALS = 3
_SHORTEST_SILENCE = 60.0
# Entries that tell the usual interval.
_SAMPLE = 10
# Seconds that a mirror may be behind.
_MIRROR_LAG = 10.0
# A writer at work moves the head between two questions: after so many looks it is well.
_LOOKS = 3
_TIME_LIMIT = 30.0
_GLOB = str.maketrans({character: f"\\{character}" for character in "*?[]\\"})


@dataclass(slots=True)
class NameStatus:
    """One name. Times in seconds by the server's clock, sizes in bytes; None: not known.

    Attributes:
        age: time since the newest save
        reaches: how far back `at()` and `replay()` go
        chain: saves since the newest full frame
        mirror: the sequence of the mirror's rows, if there are any
        faults: one sentence for each fault
    """

    name: str
    position: StreamPosition | None = None
    age: float | None = None
    interval: float | None = None
    reaches: float | None = None
    fulls: int = 0
    deltas: int = 0
    chain: int | None = None
    bytes: int = 0
    mirror: int | None = None
    faults: list[str] = field(default_factory=list)


async def names_of(redis: AsyncRedis, key_prefix: str) -> list[str]:
    """All names with a key under the prefix, sorted; skips keys that no writer can have made.

    Raises SnapshotSettingError for the prefix, SnapshotAccessError and its kinds.
    """
    store = SnapshotStore(redis, Keys.of(key_prefix, "*"), _TIME_LIMIT)
    start, found = f"{key_prefix}{{", set()
    async for key in _scan(store, f"{start.translate(_GLOB)}*"):
        name, closed, part = key.removeprefix(start).partition("}:")
        if closed and part in ("head", "full", "delta") and _is_name(key_prefix, name):
            found.add(name)
    return sorted(found)


def _is_name(key_prefix: str, name: str) -> bool:
    try:
        Keys.of(key_prefix, name)
    except SnapshotSettingError:
        return False
    return True


async def _scan(store: SnapshotStore, pattern: str) -> AsyncIterator[str]:
    try:
        async for key in store.redis.scan_iter(match=pattern, count=1000):
            yield name_of(key) if isinstance(key, bytes) else key
    except REDIS_ERRORS as error:
        raise store.typed(pattern, error) from error


async def survey(redis: AsyncRedis, keys: Keys, *, stale_after: float | None = None) -> NameStatus:
    """Ask about one name. `stale_after`: seconds without a save that are a fault; None: usual interval.

    Raises SnapshotAccessError and its kinds.
    """
    store = SnapshotStore(redis, keys, _TIME_LIMIT)
    status = NameStatus(keys.name)
    types = {}
    for key in (keys.head, keys.full, keys.delta, keys.rows):
        found = await store.run(key, "TYPE", key)
        types[key] = found.decode() if isinstance(found, bytes) else found
    for key, expected in ((keys.head, "hash"), (keys.full, "stream"), (keys.delta, "stream")):
        if types[key] not in (expected, "none"):
            status.faults.append(f"{key} holds a {types[key]}: delete that key, or use another name")
    if status.faults:
        return status
    for _ in range(_LOOKS):
        status, head = await _read_name(store, stale_after)
        if not status.faults or await store.head() == head:
            break
    else:
        # Each look met a save: the head and what was read after it are not of one moment.
        status.faults.clear()
    if status.position is not None and types[keys.rows] == "hash":
        await _check_mirror(store, status)
    return status


async def _read_name(store: SnapshotStore, stale_after: float | None) -> tuple[NameStatus, Head | None]:
    """What head and streams tell, and the head by which they were judged."""
    keys, status = store.keys, NameStatus(store.keys.name)
    fields = pairs(await store.run(keys.head, "HGETALL", keys.head))
    head = store.parsed_head(fields)
    now = await store.time_ms(keys.head)
    await _read_streams(store, status, now)
    if head is None:
        if status.fulls or status.deltas:
            status.faults.append(f"{keys.head} is gone: readers find nothing until the next save")
        return status, head
    status.position = head.position
    if (saved := _number(fields.get(b"time"))) is not None:
        status.age = max(0.0, (now - saved) / 1000)
    _check_age(status, stale_after)
    await _check_chain(store, status, fields)
    return status, head


async def _read_streams(store: SnapshotStore, status: NameStatus, now: int) -> None:
    keys = store.keys
    status.fulls = int(await store.run(keys.full, "XLEN", keys.full))
    status.deltas = int(await store.run(keys.delta, "XLEN", keys.delta))
    for key in (keys.head, keys.full, keys.delta, keys.rows):
        status.bytes += int(await store.run(key, "MEMORY", "USAGE", key) or 0)
    first = await store.full_from(StreamPosition(0, 0))
    if first is not None and first.time:
        status.reaches = (now - first.time) / 1000
    rows = await store.run(keys.delta, "XREVRANGE", keys.delta, "+", "-", "COUNT", _SAMPLE)
    times = [int(_fields(fields).get(b"t", 0) or 0) for _, fields in rows or ()]
    gaps = [(later - earlier) / 1000 for later, earlier in pairwise(times)]
    status.interval = median(gaps) if gaps else None


def _check_age(status: NameStatus, stale_after: float | None) -> None:
    if stale_after is None:
        stale_after = max(_SHORTEST_SILENCE, _INTERVALS * (status.interval or 0.0))
    if status.age is not None and status.age > stale_after:
        usual = f", usually one every {status.interval:.3g} s" if status.interval else ""
        status.faults.append(f"no save for {status.age:.0f} s{usual}: check its writer")


async def _check_chain(store: SnapshotStore, status: NameStatus, head: dict[bytes, Any]) -> None:
    keys, position = store.keys, status.position
    assert position is not None
    newest = await store.delta_at("+")
    full = await store.full_before(str(position))
    if full is None:
        status.faults.append(f"{keys.full} has no full frame that leads to the head: the next save makes one")
    if newest is None:
        status.faults.append(f"{keys.delta} is missing: the next save creates it")
    elif newest.position != position:
        status.faults.append(f"the head is at {position}, {keys.delta} ends at {newest.position}")
    if head.get(b"resync_request"):
        asked = head[b"resync_request"].decode(errors="replace")
        status.faults.append(f"a reader could not read {asked}, and waits for a full frame from the writer")
    if full is not None and full.position.epoch == position.epoch:
        status.chain = position.sequence - full.position.sequence


async def _check_mirror(store: SnapshotStore, status: NameStatus) -> None:
    text = await store.run(store.keys.rows, "HGET", store.keys.rows, "__meta__")
    try:
        meta = json.loads(text)
        at = StreamPosition(int(meta["epoch"]), int(meta["sequence"]))
    except (KeyError, TypeError, ValueError):
        status.faults.append(f"{store.keys.rows} has no valid __meta__: start the mirror")
        return
    status.mirror = at.sequence
    if at == status.position or status.age is None or status.age <= _MIRROR_LAG:
        return
    head = await store.head()
    # A save in this moment needs no mirror yet.
    if head is not None and head.position == status.position:
        status.faults.append(f"{store.keys.rows} is at {at}, the head at {status.position}: start the mirror")


def _fields(fields: Any) -> dict[bytes, Any]:
    return fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
