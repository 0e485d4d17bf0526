"""Commands on a name's keys, with parsed answers and typed errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from snapdelta._redis import OTHER_LOOP_ADVICE, POOL_ADVICE, AsyncRedis, Failure, RedisStore, failure_of
from snapdelta._scripts import Script
from snapdelta.errors import (
    SnapdeltaError,
    SnapshotAccessError,
    SnapshotClosedError,
    SnapshotMemoryError,
    SnapshotPoolExhaustedError,
    SnapshotReadOnlyError,
    SnapshotTypeError,
    SnapshotUnavailableError,
    UnsupportedVersionError,
)
from snapdelta.snapshots.keys import LAYOUT, Keys, StreamPosition
from snapdelta.snapshots.scripts import REQUEST_RESYNC

RETRY_ADVICE = "try again; the server may have executed the command"
_ADVICE: dict[Failure, tuple[type[SnapshotAccessError], str]] = {
    Failure.POOL_EXHAUSTED: (SnapshotPoolExhaustedError, POOL_ADVICE),
    Failure.UNAVAILABLE: (SnapshotUnavailableError, RETRY_ADVICE),
    Failure.WRONG_TYPE: (SnapshotTypeError, "delete or rename that key, or use another name or key_prefix"),
    Failure.OUT_OF_MEMORY: (SnapshotMemoryError, "raise maxmemory, or lower history and history_bytes"),
    Failure.READ_ONLY: (SnapshotReadOnlyError, "connect to its master"),
    Failure.NOT_ALLOWED: (SnapshotAccessError, "grant it the commands in docs/snapshots.md"),
    Failure.OTHER_LOOP: (SnapshotAccessError, OTHER_LOOP_ADVICE),
    Failure.REFUSED: (SnapshotAccessError, ""),
}
_HEAD_FIELDS = (b"layout", b"epoch", b"sequence", b"digest")


@dataclass(frozen=True, slots=True)
class Head:
    """Which save is the newest. `digest` is 16 hex digits, as in entries."""

    position: StreamPosition
    digest: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream. `frame` is None in a marker; `time` in milliseconds.

    `base` is the state that it follows, in the form of State.text; empty if that is the previous sequence.
    """

    position: StreamPosition
    time: int
    digest: bytes
    frame: bytes | None
    reason: str
    base: bytes


class SnapshotStore(RedisStore):
    """Commands on the keys of one name. Raises SnapshotAccessError and its kinds, never redis-py's errors."""

    def __init__(self, redis: AsyncRedis, keys: Keys, time_limit: float) -> None:
        super().__init__(redis, time_limit)
        self.keys = keys
        self._loop: asyncio.AbstractEventLoop | None = None

    def check_loop(self) -> None:
        """Raise SnapshotClosedError in another event loop than that of the first call."""
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if loop is not self._loop:
            raise SnapshotClosedError(
                f"snapshots {self.keys.name!r}: this reader belongs to another event loop; make a new one"
            )

    def typed(self, key: str, error: BaseException) -> SnapdeltaError:
        # The time limit's own TimeoutError has no text.
        text = str(error) or f"no answer in {self.time_limit:g} s"
        failure = failure_of(error)
        kind, advice = _ADVICE[failure]
        said = f"{failure.value} ({text}); {advice}" if advice else text
        return kind(f"snapshots {self.keys.name!r}: {key}: {said}")

    def wrong_type(self, key: str, found: str) -> SnapshotTypeError:
        advice = _ADVICE[Failure.WRONG_TYPE][1]
        return SnapshotTypeError(f"snapshots {self.keys.name!r}: {key} holds a {found}; {advice}")

    def newer_layout(self, layout: str) -> UnsupportedVersionError:
        return UnsupportedVersionError(
            f"snapshots {self.keys.name!r}: written by layout {layout}, this build knows layout {LAYOUT}; "
            "upgrade snapdelta-rs"
        )

    async def script(self, script: Script, *arguments: str | bytes, rows: bool = False) -> list[bytes]:
        """Run a script over the three keys, and `:rows` if asked; see `checked_script`."""
        keys = self.keys
        names = (keys.full, keys.delta, keys.head, *((keys.rows,) if rows else ()))
        return await self.checked_script(script, names, *arguments)

    async def checked_script(
        self, script: Script, keys: Sequence[str], *arguments: str | bytes
    ) -> list[bytes]:
        """The answer of a script over some of the name's keys; raises wrong types and newer layouts."""
        answer: list[bytes] = await self.run_script(self.keys.head, script, keys, *arguments)
        if answer[0] == b"TYPE":
            raise self.wrong_type(answer[1].decode(), answer[2].decode())
        if answer[0] == b"LAYOUT":
            raise self.newer_layout(answer[1].decode(errors="replace"))
        return answer

    async def head(self) -> Head | None:
        """The head; None if nothing was saved, or the head is missing or no writer wrote it."""
        key = self.keys.head
        answer = await self.run(key, "HMGET", key, *_HEAD_FIELDS)
        return self.parsed_head(dict(zip(_HEAD_FIELDS, answer, strict=True)))

    def parsed_head(self, fields: Mapping[bytes, Any]) -> Head | None:
        """Parse these fields of the head. Raises UnsupportedVersionError."""
        layout, epoch, sequence, digest = (fields.get(name) for name in _HEAD_FIELDS)
        if layout is not None and layout != LAYOUT.encode():
            raise self.newer_layout(layout.decode(errors="replace"))
        try:
            return Head(StreamPosition(int(epoch), int(sequence)), bytes(digest))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None

    async def request_resync(self, position: str) -> None:
        """Ask the writer for a full frame."""
        await self.run_script(self.keys.head, REQUEST_RESYNC, [self.keys.head], position)

    # --- entries

    async def full_before(self, end: str) -> Entry | None:
        """The newest full frame at or before an id ("+": of all; "(ID": before it)."""
        return next(iter(await self._range("XREVRANGE", self.keys.full, end, "-", 1)), None)

    async def full_from(self, position: StreamPosition) -> Entry | None:
        """The oldest full frame at or after a position."""
        return next(iter(await self._range("XRANGE", self.keys.full, str(position), "+", 1)), None)

    async def delta_at(self, end: str) -> Entry | None:
        """The newest entry of the delta stream that a writer made, at or before an id."""
        while True:
            entry = next(iter(await self._range("XREVRANGE", self.keys.delta, end, "-", 1)), None)
            if entry is None or entry.time:
                return entry
            end = f"({entry.position}"

    async def first_delta(self) -> Entry | None:
        """The oldest entry of the delta stream."""
        return next(iter(await self._range("XRANGE", self.keys.delta, "-", "+", 1)), None)

    async def deltas_after(self, position: StreamPosition, count: int) -> list[Entry]:
        """Up to `count` entries of the delta stream after a position."""
        return await self._range("XRANGE", self.keys.delta, f"({position}", "+", count)

    async def next_deltas(self, position: StreamPosition | None, count: int, block: float) -> list[Entry]:
        """The same, waiting up to `block` seconds for the first; with None: those written from now on."""
        key = self.keys.delta
        after = "$" if position is None else str(position)
        wait = ("BLOCK", max(1, int(block * 1000))) if block else ()
        answer = await self.run(key, "XREAD", "COUNT", count, *wait, "STREAMS", key, after)
        return _parsed(_of_one_stream(answer))

    async def _range(self, command: str, key: str, start: str, end: str, count: int) -> list[Entry]:
        return _parsed(await self.run(key, command, key, start, end, "COUNT", count))


def _of_one_stream(answer: Any) -> Iterable[Any]:
    """The entries in an answer to XREAD: RESP2 has a list of streams, RESP3 a map, redis-py nests either."""
    if not answer:
        return ()
    rows = next(iter(answer.values())) if isinstance(answer, dict) else answer[0][1]
    if isinstance(answer, dict) and rows and isinstance(rows[0], list):
        # redis-py's RESP3 answer has the entries in a list of one.
        return rows[0]
    return rows  # type: ignore[no-any-return]


def _parsed(rows: Iterable[Any]) -> list[Entry]:
    return [_entry(*row) for row in rows or ()]


def _entry(entry_id: bytes, fields: Any) -> Entry:
    """An entry that no writer made has time 0, no frame and no digest, which no state has."""
    if not isinstance(fields, dict):
        fields = dict(zip(fields[::2], fields[1::2], strict=True)) if fields else {}
    time = fields.get(b"t", b"")
    return Entry(
        StreamPosition.of(entry_id),
        int(time) if time.isdigit() else 0,
        fields.get(b"d", b""),
        fields.get(b"f"),
        fields.get(b"r", b"").decode(errors="replace"),
        fields.get(b"b", b""),
    )
