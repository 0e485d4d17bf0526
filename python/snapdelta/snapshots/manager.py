"""SnapshotManager saves snapshots to Redis (docs/snapshots.md).

manager = SnapshotManager(redis_client=redis, full_snapshot_interval=300)
result = await manager.save_snapshot({"AAPL": {"price": 187.12}})
result["type"], result["compressed_size"]
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, Unpack

from snapdelta._redis import AsyncRedis, cancellations
from snapdelta.errors import (
    SnapshotBusyError,
    SnapshotClosedError,
    SnapshotSettingError,
)
from snapdelta.health import Health, status_of
from snapdelta.snapshots.keys import Keys
from snapdelta.snapshots.settings import SnapshotOptions, SnapshotSettings, check_client
from snapdelta.snapshots.stats import SaveCounters
from snapdelta.snapshots.writer import Columns, SaveResult, SnapshotWriter

_ENCODER_THREADS = 2
# So many failures in a row are more than a passing fault.
_FAILURES = 3


class SnapshotManager:
    """Saves snapshots, `{symbol: record}`, to Redis: a full frame at intervals, deltas in between.

    Args:
        redis_client: a redis.asyncio.Redis or RedisCluster; the caller closes it
        full_snapshot_interval: seconds between two full frames
        settings: the other settings of SnapshotSettings, by name

    One manager writes any number of names, each with a chain of its own. The manager that began last owns a
    name; an earlier one gets WriterSupersededError. A manager is an asynchronous context manager.

    Raises SnapshotSettingError on an impossible setting. The constructor sends nothing to Redis.
    """

    def __init__(
        self,
        redis_client: AsyncRedis,
        full_snapshot_interval: float = 300.0,
        **settings: Unpack[SnapshotOptions],
    ) -> None:
        check_client(redis_client)
        known = SnapshotSettings.__dataclass_fields__
        if unknown := set(settings) - set(known):
            raise SnapshotSettingError(f"unknown setting {min(unknown)!r}; known: {', '.join(known)}")
        self.settings = SnapshotSettings(full_snapshot_interval=full_snapshot_interval, **settings)
        self._redis = redis_client
        self._writers: dict[str, SnapshotWriter] = {}
        self._executor = ThreadPoolExecutor(_ENCODER_THREADS, thread_name_prefix="snapdelta-encoder")
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def save_snapshot(
        self,
        snapshot: dict[str, Any],
        name: str = "default",
        force_full: bool = False,
        *,
        check: bool = True,
    ) -> SaveResult:
        """Save one state of one name; SaveResult describes the result.

        The manager reads the snapshot before the first await, so you may change it afterwards. Saves of one
        name run one at a time, in the order of the calls; one more may wait. check=False also saves a
        snapshot that `validate`, `min_symbols` or `max_removed_share` would refuse.

        Raises UnsupportedTypeError (the message names the path), SnapshotRejectedError (`validate=` and so
        on; readers keep the last state), SnapshotBusyError, WriterSupersededError,
        SnapshotClosedError, UnsupportedVersionError (a newer layout), and a kind of SnapshotAccessError if
        Redis refuses a command. Redis may have accepted a save that failed or was cancelled; the next save
        finds out.
        """
        writer = self._writer(name)
        return await self._saved(name, writer, writer.save(snapshot, force_full=force_full, check=check))

    async def save_columns(
        self,
        data: object,
        name: str = "default",
        force_full: bool = False,
        *,
        symbol: str = "_symbol",
        check: bool = True,
    ) -> SaveResult:
        """Save the state that columns hold: a dict of arrays, or a table with Arrow's PyCapsule interface.

        A row is a record; the column `symbol` has the symbols. docs/columns.md says what becomes of which
        type. Otherwise it works like `save_snapshot`, but without `validate`, because there is no snapshot to
        pass. Also raises UsageError: no symbols, a duplicate symbol, columns of different lengths.
        """
        writer = self._writer(name)
        columns = Columns(data, symbol)
        return await self._saved(name, writer, writer.save(columns, force_full=force_full, check=check))

    async def update(
        self,
        changes: dict[str, Any],
        removed: Iterable[str] = (),
        name: str = "default",
        *,
        check: bool = True,
    ) -> SaveResult:
        """Save the last state of the name with these records in it and without the removed symbols.

        For callers who know what changed: the cost is proportional to the changes. Known symbols keep their
        position, new ones come last; it ignores unknown removed symbols. Otherwise it works like
        `save_snapshot`, but without `validate`, because there is no snapshot to pass.

        Raises SnapshotUpdateError if this manager has no last state of the name: before its first
        save_snapshot, and after one whose encoding failed. The next state may or may not contain a failed
        update: repeat it.
        """
        if isinstance(removed, str):
            raise TypeError("removed: symbols are given as a list or another iterable of str, not as a str")
        writer = self._writer(name)
        return await self._saved(name, writer, writer.update(changes, removed, check=check))

    def _writer(self, name: str) -> SnapshotWriter:
        self._check_open()
        keys = Keys.of(self.settings.key_prefix, name)
        writer = self._writers.get(keys.name)
        if writer is None:
            writer = self._writers[keys.name] = self._new_writer(keys)
        return writer

    async def _saved(self, name: str, writer: SnapshotWriter, task: asyncio.Task[SaveResult]) -> SaveResult:
        before = cancellations()
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._closed and cancellations() == before:
                raise SnapshotClosedError(
                    f"snapshots {name!r}: the manager was closed during the save"
                ) from None
            writer.abandon(task)
            raise

    def stats(self, name: str = "default") -> SaveCounters:
        """The counters of a name since its first save by this manager; zeros before it."""
        writer = self._writers.get(name)
        return writer.counters.copy() if writer is not None else SaveCounters()

    @property
    def names(self) -> list[str]:
        """The names that this manager has saved, or tried to save, and not forgotten."""
        return list(self._writers)

    def health(self, max_age: float | None = None) -> Health:
        """The health of the saves of all names; sends nothing to Redis.

        Degraded: the last save of a name failed, was refused, or is older than `max_age` seconds. Failed: a
        later writer took a name over, the manager is closed, or three saves in a row failed with an error
        that waiting does not solve.
        """
        failed: list[str] = []
        degraded: list[str] = []
        if self._closed:
            failed.append("the SnapshotManager was closed")
        for name, writer in self._writers.items():
            counters, place = writer.counters, f"snapshots {name!r}"
            if counters.superseded:
                failed.append(f"{place}: a later writer owns the name now")
            elif counters.last_error is not None:
                count = counters.failures_in_a_row
                bad = failed if count >= _FAILURES and not counters.passing else degraded
                bad.append(f"{place}: {count} failed in a row; {counters.last_error}")
            if max_age is not None and counters.last_save is not None:
                age = time.time() - counters.last_save
                if age > max_age:
                    degraded.append(f"{place}: the last save is {age:.0f} s old")
        return status_of(failed, degraded)

    def forget(self, name: str) -> None:
        """Free the state of a name that you will not save again; its keys stay (see `delete`).

        Raises SnapshotBusyError while a save of it runs. A later save starts like that of a new writer.
        """
        self._check_idle(name)
        self._writers.pop(name, None)

    async def delete(self, name: str) -> bool:
        """Remove all keys of a name in one step, a mirror's rows too, and forget it. True if there were any.

        Then `latest()` returns None, and followers wait for the next save and resync. A manager that never
        wrote a name may delete it, even while another one writes it.

        Raises SnapshotBusyError while a save of the name runs here, WriterSupersededError when a later writer
        has taken it over, and a kind of SnapshotAccessError. Redis may have executed a call that failed or
        was cancelled.
        """
        self._check_open()
        keys = Keys.of(self.settings.key_prefix, name)
        self._check_idle(keys.name)
        # A save that comes meanwhile begins anew, under a later epoch.
        writer = self._writers.pop(keys.name, None)
        try:
            return await (writer or self._new_writer(keys)).delete()
        except BaseException:
            if writer is not None:
                self._writers.setdefault(keys.name, writer)
            raise

    async def close(self, time_limit: float = 5.0) -> None:
        """Wait at most `time_limit` seconds for saves that have begun, then cancel them.

        The keys stay; readers keep the last state. Closing twice does nothing.
        """
        self._closed = True
        tasks = {task for writer in self._writers.values() for task in writer.tasks}
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=time_limit)
        finally:
            for task in tasks:
                task.cancel()
            self._executor.shutdown(wait=False)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _new_writer(self, keys: Keys) -> SnapshotWriter:
        return SnapshotWriter(self._redis, keys, self.settings, self._executor)

    def _check_idle(self, name: str) -> None:
        writer = self._writers.get(name)
        if writer is not None and writer.tasks:
            raise SnapshotBusyError(
                f"snapshots {name!r}: a save is running; await it before forget() or delete()"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise SnapshotClosedError("the SnapshotManager was closed; make a new one")
        if os.getpid() != self._process:
            raise SnapshotClosedError(
                "this SnapshotManager belongs to another process (a fork); make a new one"
            )
        self._loop = self._loop or asyncio.get_running_loop()
        if asyncio.get_running_loop() is not self._loop:
            raise SnapshotClosedError("this SnapshotManager belongs to another event loop; make a new one")
