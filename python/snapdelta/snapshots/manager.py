"""Snapshots through Redis: SnapshotManager writes them, SnapshotReader follows (docs/snapshots.md).

manager = SnapshotManager(redis_client=redis, full_snapshot_interval=300)
result = await manager.save_snapshot({"AAPL": {"price": 187.12}})
result["type"], result["compressed_size"]

async for update in SnapshotReader(redis).follow():
    update.snapshot, update.changed
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, Unpack

from snapdelta import Limits
from snapdelta._redis import AsyncRedis, cancellations, socket_timeout
from snapdelta.errors import (
    SnapshotBusyError,
    SnapshotClosedError,
    SnapshotDamagedError,
    SnapshotSettingError,
)
from snapdelta.snapshots.broadcast import Broadcast
from snapdelta.snapshots.history import Timestamp, entry_at, milliseconds, readable
from snapdelta.snapshots.keys import KEY_PREFIX, Keys
from snapdelta.snapshots.replica import PAGE, Replica
from snapdelta.snapshots.settings import SnapshotOptions, SnapshotSettings, check_client, check_timeout
from snapdelta.snapshots.stats import SaveCounters
from snapdelta.snapshots.store import Entry, SnapshotStore
from snapdelta.snapshots.subscription import Subscription
from snapdelta.snapshots.update import Update
from snapdelta.snapshots.view import View
from snapdelta.snapshots.writer import SaveResult, SnapshotWriter

__all__ = ["SaveResult", "SnapshotManager", "SnapshotReader", "SnapshotSettings", "Update"]

# A blocked read never returns when the stream is made anew with lower ids: wake up and look, so often.
_BLOCK = 2.0
_ENCODER_THREADS = 2


class SnapshotManager:
    """Saves snapshots, `{symbol: record}`, to Redis: a full frame now and then, deltas in between.

    redis_client  a redis.asyncio.Redis or RedisCluster; it stays the caller's to close
    full_snapshot_interval  seconds between two full frames
    settings      the other settings of SnapshotSettings, by name

    One manager writes any number of names, each with a chain of its own. The last manager that began to write
    a name owns it; an earlier one gets WriterSupersededError. Also an asynchronous context manager.

    Raises SnapshotSettingError on an impossible setting. Nothing is sent to Redis before the first save.
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
            raise SnapshotSettingError(f"there is no setting {min(unknown)!r}; there are: {', '.join(known)}")
        self.settings = SnapshotSettings(full_snapshot_interval=full_snapshot_interval, **settings)
        self._redis = redis_client
        self._writers: dict[str, SnapshotWriter] = {}
        self._executor = ThreadPoolExecutor(_ENCODER_THREADS, thread_name_prefix="snapdelta-encoder")
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def save_snapshot(
        self, snapshot: dict[str, Any], name: str = "default", force_full: bool = False
    ) -> SaveResult:
        """Save one state of one name; see SaveResult for what is returned.

        The snapshot is read completely before the first await: what happens to it afterwards is not seen.
        Saves of one name run in the order of the calls, one at a time; one more may wait.

        Raises UnsupportedTypeError (the message names the path), SnapshotBusyError, WriterSupersededError,
        SnapshotClosedError, UnsupportedVersionError (a newer layout), and SnapshotAccessError and its kinds
        for what Redis refused. A save that failed or was cancelled may still have been carried out; the next
        one goes on from whatever has become of it.
        """
        self._check_open()
        keys = Keys.of(self.settings.key_prefix, name)
        writer = self._writers.get(keys.name)
        if writer is None:
            writer = self._writers[keys.name] = self._new_writer(keys)
        task = writer.save(snapshot, force_full=force_full)
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
        """What was counted for the name since its first save by this manager; zeros before it."""
        writer = self._writers.get(name)
        return writer.counters.copy() if writer is not None else SaveCounters()

    def forget(self, name: str) -> None:
        """Let go of what is remembered of a name that will not be saved again; its keys stay (see `delete`).

        Raises SnapshotBusyError while a save of it runs. A later save begins anew, as by another writer.
        """
        self._check_idle(name)
        self._writers.pop(name, None)

    async def delete(self, name: str) -> bool:
        """Remove the three keys of a name at once, and forget it; whether there was anything to remove.

        Readers then find nothing (`latest()` is None), and followers wait for the next save, which resyncs
        them. A name that this manager does not write is removed whoever writes it.

        Raises SnapshotBusyError while a save of the name runs here, WriterSupersededError when a later writer
        has taken it over, and what `save_snapshot` does for what Redis refused. A call that failed or was
        cancelled may have been carried out.
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
        """Let the saves that have begun come to their end, for at most `time_limit` seconds, then end them.

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
                f"snapshots {name!r}: a save is running; await it before forgetting or deleting the name"
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


class SnapshotReader:
    """Reads what a SnapshotManager saves under a name: the newest state, every one as it comes, or the past.

    redis_client     a redis.asyncio.Redis or RedisCluster; it stays the caller's to close
    name, key_prefix  as the writer has them
    limits           what one frame may make the reader hold (snapdelta.Limits, 1 GiB by default)
    shared           let successive updates share the records that did not change: faster, and to be read only
    command_timeout  seconds for one command, the client's own retries included

    Raises SnapshotSettingError on an impossible setting.
    """

    def __init__(
        self,
        redis_client: AsyncRedis,
        name: str = "default",
        *,
        key_prefix: str = KEY_PREFIX,
        limits: Limits | None = None,
        shared: bool = False,
        command_timeout: float = 5.0,
    ) -> None:
        check_client(redis_client)
        check_timeout(command_timeout)
        if limits is not None and not isinstance(limits, Limits):
            raise SnapshotSettingError(f"limits must be snapdelta.Limits, not {limits!r}")
        self._limits = limits
        self._shared = shared
        self._store = SnapshotStore(redis_client, Keys.of(key_prefix, name), command_timeout)
        self.name = self._store.keys.name
        # A client's own time-out would end a longer read as an error.
        self._block = min(_BLOCK, command_timeout / 2, (socket_timeout(redis_client) or _BLOCK * 2) / 2)
        self._newest = self._new_replica()
        self._turn = asyncio.Lock()

    async def latest(self) -> Update | None:
        """The newest state; None before the first save, or when Redis has lost it.

        `changed` and `resynced` are against the last update of this method.

        Raises SnapshotDamagedError when what is kept does not lead to the newest state (the writer is asked
        for a full frame), UnsupportedVersionError when it was written by a newer snapdelta,
        LimitExceededError, and SnapshotAccessError and its kinds.
        """
        self._store.check_loop()
        async with self._turn:
            return await self._newest.update() if await self._newest.catch_up() else None

    def follow(self) -> Subscription:
        """The newest state, and then every one that is saved, in order, for ever: `async for update in ...`.

        Waits for the first save, and for a server that is away. After it has fallen out of the history, or
        Redis has lost states, it goes on at the newest one, and the update says so (`resynced`, `reason`).
        Ends with what `latest` raises, but for SnapshotUnavailableError and SnapshotDamagedError, which pass.
        A wait for the next update may be cancelled, as asyncio.wait_for does; the next wait goes on.

        All who follow the name on this client, in this event loop and with these limits, share one replica
        and its connection, which is not of the client's pool.
        """
        store = self._store
        keys, limits, time_limit, block = store.keys, self._limits, store.time_limit, self._block
        return Subscription(
            lambda: Broadcast.of(store.redis, keys, limits, time_limit, block),
            self.name,
            shared=self._shared,
        )

    async def at(self, timestamp: Timestamp) -> Update:
        """The state that was the newest at a moment, by the server's clock; in the future: the newest.

        timestamp: seconds since 1970, or a datetime with a zone. Raises SnapshotHistoryError when the history
        does not reach back so far, SnapshotDamagedError when what is kept does not lead there, and what
        `latest` does.
        """
        moment = milliseconds("timestamp", timestamp)
        entry = await entry_at(self._store, moment)
        replica = self._new_replica()
        if not await replica.seek(entry.position):
            raise self._unreachable(entry.time)
        return await replica.update()

    async def replay(
        self, start: Timestamp | None = None, end: Timestamp | None = None
    ) -> AsyncGenerator[Update, None]:
        """First the state that was the newest at `start`, then every one that was accepted up to `end`.

        None, or a `start` before the history: all that is kept. Raises what `at` does. Where states are
        missing (a chain that broke, entries that the writer trimmed meanwhile), it goes on at the next full
        frame, with `resynced` and `reason`.
        """
        last = None if end is None else milliseconds("end", end)
        first = None if start is None else milliseconds("start", start)
        if first is not None and last is not None and last < first:
            raise SnapshotSettingError(f"end must not be before start, but {end!r} is before {start!r}")
        entry = await self._store.first_delta()
        if entry is None or (last is not None and entry.time > last):
            return
        if first is not None and entry.time <= first:
            entry = await entry_at(self._store, first)
        replica = self._new_replica()
        new = found = await replica.seek(entry.position)
        page: list[Entry] = []
        while True:
            if new:
                yield await replica.update()
            page = page or await self._store.deltas_after(entry.position, PAGE)
            if not page or (last is not None and page[0].time > last):
                break
            entry = page.pop(0)
            new = bool(entry.time)
            if not new:
                # No writer made it.
                continue
            if found:
                await replica.apply_entry(entry)
                found = not replica.out_of_sync
            if not found:
                # Only a full frame helps.
                full = await self._store.full_from(entry.position)
                if full is None or (last is not None and full.time > last):
                    break
                found = await replica.seek(full.position, entry.reason or "gap")
                new, entry, page = found, full, []
        if not found:
            raise self._unreachable(entry.time)

    def _new_replica(self) -> Replica:
        return Replica(self._store, self._limits, View(shared=self._shared))

    def _unreachable(self, moment: int) -> SnapshotDamagedError:
        return SnapshotDamagedError(
            f"snapshots {self.name!r}: what is kept does not lead to the state of {readable(moment)}"
        )
