"""SnapshotMirror: the newest state of a name as JSON that any Redis client reads (docs/mirror.md).

await SnapshotMirror(redis, "ranking").run()
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from snapdelta import Limits
from snapdelta._redis import AsyncRedis, share_slot
from snapdelta.errors import (
    SnapdeltaError,
    SnapshotBusyError,
    SnapshotMemoryError,
    SnapshotMirrorError,
    SnapshotReadOnlyError,
    SnapshotSettingError,
    SnapshotUnavailableError,
)
from snapdelta.health import Health, overall_health, status_of
from snapdelta.snapshots.json_text import json_text, symbol_bytes
from snapdelta.snapshots.keys import KEY_PREFIX, LAYOUT, Keys
from snapdelta.snapshots.outage import Outage
from snapdelta.snapshots.reader import SnapshotReader
from snapdelta.snapshots.scripts import MIRROR
from snapdelta.snapshots.settings import check_timeout
from snapdelta.snapshots.stats import MirrorCounters
from snapdelta.snapshots.store import SnapshotStore
from snapdelta.snapshots.subscription import Subscription
from snapdelta.snapshots.update import Update

log = logging.getLogger("snapdelta.snapshots")

# The field of the hash that says which state the rows are.
META = "__meta__"
# Records that are encoded at once: some milliseconds of work.
_PART = 512
# What a later try may not meet any more.
_PASSING = (SnapshotUnavailableError, SnapshotMemoryError, SnapshotReadOnlyError)
# Answers of the script after which the rows are the state, or a later one.
_REACHED = (b"WRITTEN", b"SAME", b"AHEAD")


class _Written(NamedTuple):
    """The state of one update, as the script needs it; `plain_size` is in bytes."""

    position: tuple[str, str, str]
    meta: bytes
    plain_size: int


class SnapshotMirror:
    """Follows a name and keeps its newest state as JSON: a hash of symbol -> record, optionally a plain key.

    Args:
        redis_client: a redis.asyncio.Redis or RedisCluster that may write; the caller closes it
        name: the name that the writer saves
        key_prefix: the key_prefix of the writer
        plain_key: also write the whole snapshot as one JSON object to this key
        limits: the bytes that one frame may use in the mirror (snapdelta.Limits, 1 GiB by default)
        command_timeout: seconds for one command, the client's own retries included
        check_interval: seconds without a save after which the mirror checks its keys

    Any number of mirrors of one name may run, with the same plain key. Raises SnapshotSettingError on an
    impossible setting, MissingExtraError without the extra `mirror`.
    """

    def __init__(
        self,
        redis_client: AsyncRedis,
        name: str = "default",
        *,
        plain_key: str | None = None,
        key_prefix: str = KEY_PREFIX,
        limits: Limits | None = None,
        command_timeout: float = 5.0,
        check_interval: float = 5.0,
    ) -> None:
        self._reader = SnapshotReader(
            redis_client,
            name,
            key_prefix=key_prefix,
            limits=limits,
            shared=True,
            command_timeout=command_timeout,
        )
        check_timeout(check_interval, "check_interval")
        keys = Keys.of(key_prefix, name)
        self.name = keys.name
        self.rows_key = keys.rows
        self.plain_key = _plain_key(plain_key, keys, redis_client)
        self._store = SnapshotStore(redis_client, keys, command_timeout)
        self._check_interval = check_interval
        self._outage = Outage(keys.name, "a mirror")
        self._counters = MirrorCounters()
        self._running = False
        # The update before, and what its state is to the script.
        self._update: Update | None = None
        self._written: _Written | None = None
        # The JSON of all rows, where a plain key is joined from them.
        self._texts: dict[str, bytes] | None = None if plain_key is None else {}

    def stats(self) -> MirrorCounters:
        """A copy of the counters."""
        return replace(self._counters)

    def health(self, max_age: float | None = None) -> Health:
        """The health of `run` and `sync`; sends nothing to Redis.

        Degraded: they wait for the server, the last try failed with a temporary error, or the state of the
        rows is older than `max_age` seconds, by this machine's clock. Failed: the last try raised an error
        that waiting does not solve.
        """
        failed: list[str] = []
        degraded: list[str] = []
        counters, place = self._counters, f"the mirror of snapshots {self.name!r}"
        if counters.last_error is not None:
            (degraded if counters.passing else failed).append(f"{place}: {counters.last_error}")
        if max_age is not None and counters.timestamp is not None:
            age = time.time() - counters.timestamp
            if age > max_age:
                degraded.append(f"{place}: the state of the rows is {age:.0f} s old")
        return overall_health(self._reader, status_of(failed, degraded))

    async def run(self) -> None:
        """Write each state that the writer saves, until somebody cancels it.

        Waits for the first save, and while the server is unreachable, full or a replica. Ends with
        SnapshotMirrorError for a symbol `__meta__`, SnapshotBusyError if it runs already, and what
        `SnapshotReader.follow` ends with. The rows are always one whole state.
        """
        if self._running:
            raise SnapshotBusyError(f"snapshots {self.name!r}: this mirror runs already; make another one")
        self._running = True
        # Begin with a rebuild.
        self._update = None
        updates = self._reader.follow()
        try:
            while True:
                await self._until_saved(updates)
        finally:
            self._running = False
            await updates.aclose()

    async def sync(self) -> bool:
        """Write the newest state once, as a whole. True if the rows are now that state or a later one.

        False before the first save, and if the name was deleted or lost that state meanwhile. You may call it
        while `run` runs. Raises SnapshotAccessError and its kinds.
        """
        update = await self._reader.latest()
        if update is None:
            return False
        try:
            # `run` goes from state to state with texts of its own.
            texts: dict[str, bytes] | None = None if self.plain_key is None else {}
            _, answer = await self._write_all(update, texts, "asked")
        except SnapdeltaError as error:
            self._counters.count_failure(error, passing=isinstance(error, _PASSING))
            raise
        return answer in _REACHED

    async def _until_saved(self, updates: Subscription) -> None:
        """Wait for the next update and write it; meanwhile look after the keys."""
        # Not asyncio.wait_for: a start that takes longer than the time limit would begin again and again.
        waiting = asyncio.create_task(updates.__anext__(), name=f"snapdelta-mirror-{self.name}")
        try:
            while not (await asyncio.wait({waiting}, timeout=self._check_interval))[0]:
                if self._update is not None:
                    await self._persist(self._update, check=True)
            update = waiting.result()
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.wait({waiting})
        await self._persist(update)

    async def _persist(self, update: Update, *, check: bool = False) -> None:
        """Write, or check, and try again while the server is away."""
        while True:
            try:
                if check and self._written is not None:
                    await self._check(update, self._written)
                elif self._update is None:
                    await self._rebuild(update, "start")
                else:
                    await self._write(update)
            except _PASSING as error:
                self._counters.count_failure(error, passing=True)
                await self._outage.wait(error)
            except SnapdeltaError as error:
                self._counters.count_failure(error, passing=False)
                raise
            else:
                self._outage.over()
                return

    async def _check(self, update: Update, written: _Written) -> None:
        if await self._send("CHECK", written) == b"MISMATCH":
            await self._rebuild(update, "the rows were lost or changed")

    async def _write(self, update: Update) -> None:
        """From the update before to this one."""
        removed = [symbol_bytes(symbol) for symbol in update.removed]
        texts = self._texts
        if texts is not None:
            for symbol in update.removed:
                texts.pop(symbol, None)
        rows = await self._rows(update, update.changed, texts)
        plain = await _whole_text(update, texts)
        written = _state(update, len(plain))
        answer = await self._send("UPDATE", written, self._written, plain, removed, rows)
        if answer == b"MISMATCH":
            await self._rebuild(update, "the rows were lost or changed")
            return
        self._update, self._written = update, written
        self._count(update, answer, written, rows, len(removed))
        if answer == b"WRITTEN":
            self._counters.updates += 1
            log.debug(
                *("mirror %r: %d rows, %d removed", self.name, len(rows) // 2, len(removed)),
                extra={
                    "event": "mirror_update",
                    **self._fields(update, rows),
                    "rows_removed": len(removed),
                },
            )

    async def _rebuild(self, update: Update, reason: str) -> None:
        """All rows, whatever the key holds; `run` goes on from them."""
        if self._texts is not None:
            self._texts.clear()
        written, _ = await self._write_all(update, self._texts, reason)
        self._update, self._written = update, written

    async def _write_all(
        self, update: Update, texts: dict[str, bytes] | None, reason: str
    ) -> tuple[_Written, bytes]:
        """Send a rebuild; the state and the script's answer. `texts` receives the JSON of each row."""
        rows = await self._rows(update, update.snapshot, texts)
        plain = await _whole_text(update, texts)
        written = _state(update, len(plain))
        answer = await self._send("REBUILD", written, None, plain, (), rows)
        self._count(update, answer, written, rows, 0)
        if answer == b"WRITTEN":
            self._counters.rebuilds += 1
            log.info(
                *("mirror %r: all %d rows written: %s", self.name, len(rows) // 2, reason),
                extra={"event": "mirror_rebuild", **self._fields(update, rows), "reason": reason},
            )
        return written, answer

    async def _rows(
        self, update: Update, symbols: Iterable[str], texts: dict[str, bytes] | None
    ) -> list[bytes]:
        """Symbols and JSON texts in turn, encoded in parts so that the event loop goes on."""
        snapshot = update.snapshot
        if META in snapshot:
            raise SnapshotMirrorError(
                f"snapshots {self.name!r}: a symbol is named {META!r}, which {self.rows_key} uses for the "
                "state; rename the symbol"
            )
        rows: list[bytes] = []
        for number, symbol in enumerate(symbols, 1):
            text = json_text(snapshot[symbol])
            if texts is not None:
                texts[symbol] = text
            rows += (symbol_bytes(symbol), text)
            if number % _PART == 0:
                await asyncio.sleep(0)
        return rows

    async def _send(
        self,
        mode: str,
        target: _Written,
        base: _Written | None = None,
        plain: bytes = b"",
        removed: Sequence[bytes] = (),
        rows: Sequence[bytes] = (),
    ) -> bytes:
        keys = [self._store.keys.head, self.rows_key]
        if self.plain_key is not None:
            keys.append(self.plain_key)
        before = ("", "", "") if base is None else base.position
        arguments: list[str | bytes] = [
            mode,
            LAYOUT,
            *target.position,
            *before,
            target.meta,
            str(target.plain_size),
        ]
        if mode != "CHECK":
            arguments += [plain, str(len(removed)), *removed, *rows]
        answer = (await self._store.checked_script(MIRROR, keys, *arguments))[0]
        self._counters.last_error = None
        return answer

    def _count(
        self, update: Update, answer: bytes, written: _Written, rows: list[bytes], removed: int
    ) -> None:
        counters = self._counters
        if answer in _REACHED:
            counters.timestamp = update.timestamp
        if answer == b"WRITTEN":
            counters.rows_written += len(rows) // 2
            counters.rows_removed += removed
            counters.bytes_written += sum(map(len, rows[1::2])) + written.plain_size

    def _fields(self, update: Update, rows: list[bytes]) -> dict[str, Any]:
        """What each log record says of a state that was written."""
        return {
            "snapshots": self.name,
            "epoch": update.epoch,
            "sequence": update.sequence,
            "rows_written": len(rows) // 2,
        }


async def _whole_text(update: Update, texts: dict[str, bytes] | None) -> bytes:
    """The whole snapshot as one JSON object, in its order; empty without a plain key."""
    if texts is None:
        return b""
    pairs: list[bytes] = []
    for number, symbol in enumerate(update.snapshot, 1):
        pairs.append(json_text(symbol) + b":" + texts[symbol])
        if number % _PART == 0:
            await asyncio.sleep(0)
    return b"{" + b",".join(pairs) + b"}"


def _state(update: Update, plain_size: int) -> _Written:
    digest = f"{update.digest:016x}"
    meta = {
        "layout": int(LAYOUT),
        "epoch": update.epoch,
        "sequence": update.sequence,
        "digest": digest,
        "time": round(update.timestamp * 1000),
        "symbols": len(update.snapshot),
    }
    position = str(update.epoch), str(update.sequence), digest
    return _Written(position, json.dumps(meta, separators=(",", ":")).encode(), plain_size)


def _plain_key(plain_key: str | None, keys: Keys, client: AsyncRedis) -> str | None:
    """Raises SnapshotSettingError for a key that the script cannot write beside the rows."""
    if plain_key is None:
        return None
    if not isinstance(plain_key, str) or not plain_key:
        raise SnapshotSettingError(f"plain_key must be the name of a key, not {plain_key!r}")
    if plain_key in (keys.full, keys.delta, keys.head, keys.rows):
        raise SnapshotSettingError(f"plain_key must not be {plain_key}, which is a key of the snapshots")
    if not share_slot(client, plain_key, keys.rows):
        raise SnapshotSettingError(
            f"plain_key {plain_key!r} must be in the slot of {keys.rows}; put {{{keys.name}}} into its name"
        )
    return plain_key
