"""SnapshotReader: the newest state of a name, each new one, or earlier ones (docs/snapshots.md).

async for update in SnapshotReader(redis).follow():
    update.snapshot, update.changed
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any
from weakref import WeakSet

from snapdelta import Limits
from snapdelta._redis import AsyncRedis, socket_timeout
from snapdelta.errors import (
    SnapdeltaError,
    SnapshotDamagedError,
    SnapshotHistoryError,
    SnapshotSettingError,
)
from snapdelta.health import Health
from snapdelta.snapshots.broadcast import Broadcast
from snapdelta.snapshots.history import Timestamp, entry_at, milliseconds, readable
from snapdelta.snapshots.keys import KEY_PREFIX, Keys
from snapdelta.snapshots.replica import PAGE, Replica
from snapdelta.snapshots.settings import check_client, check_limits, check_timeout
from snapdelta.snapshots.stats import ReadCounters
from snapdelta.snapshots.store import Entry, SnapshotStore
from snapdelta.snapshots.subscription import Subscription
from snapdelta.snapshots.update import Update
from snapdelta.snapshots.view import View

# A blocked read never returns when the stream is made anew with lower ids: it ends and asks, so often.
_BLOCK = 2.0


class SnapshotReader:
    """Reads the states of a name: the newest one, each one as the writer saves it, or an earlier one.

    Args:
        redis_client: a redis.asyncio.Redis or RedisCluster; the caller closes it
        name: the name that the writer saves
        key_prefix: the key_prefix of the writer
        limits: the bytes that one frame may use in the reader (snapdelta.Limits, 1 GiB by default)
        shared: successive updates share unchanged records: faster, but do not change them
        command_timeout: seconds for one command, the client's own retries included

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
        check_limits(limits)
        self._limits = limits
        self._shared = shared
        self._store = SnapshotStore(redis_client, Keys.of(key_prefix, name), command_timeout)
        self.name = self._store.keys.name
        # A client's own time-out would end a longer read as an error.
        self._block = min(_BLOCK, command_timeout / 2, (socket_timeout(redis_client) or _BLOCK * 2) / 2)
        self._newest = self._new_replica()
        self._turn = asyncio.Lock()
        self._counters = ReadCounters()
        self._subscriptions: WeakSet[Subscription] = WeakSet()

    async def latest(self) -> Update | None:
        """The newest state; None before the first save, or when Redis has lost it.

        `changed` and `resynced` compare with the last update of this method.

        Raises SnapshotDamagedError if the frames in Redis do not lead to the newest state (the reader then
        asks the writer for a full frame), UnsupportedVersionError if a newer snapdelta wrote them,
        LimitExceededError, and SnapshotAccessError and its kinds.
        """
        self._store.check_loop()
        async with self._turn:
            with self._counted():
                update = await self._newest.update() if await self._newest.catch_up() else None
        if update is not None:
            self._counters.count(self.name, update)
        return update

    def stats(self) -> ReadCounters:
        """A copy of the counters of this reader's calls and subscriptions."""
        return self._counters.copy()

    def health(self, max_age: float | None = None) -> Health:
        """The health of this reader's calls and subscriptions; sends nothing to Redis.

        Degraded: a subscription waits for the server, the last call failed with a temporary error, or the
        last update's state is older than `max_age` seconds, by this machine's clock. Failed: the last call
        raised an error that waiting does not solve.
        """
        waits = sorted({each.waits_for for each in self._subscriptions if each.waits_for is not None})
        return self._counters.health(f"snapshots {self.name!r}", waits, max_age)

    async def get(self, symbol: str, default: Any = None) -> Any:
        """One symbol's record in the newest state; `default` if the symbol, or any state, is missing.

        Builds that record only. A record may be None itself: pass another `default` to tell the two apart.
        `latest` still reports `changed` against its own last update. Raises what `latest` does.
        """
        self._store.check_loop()
        async with self._turn:
            with self._counted():
                found = await self._newest.catch_up()
                record = await self._newest.record(symbol, default) if found else default
        self._counters.records += 1
        return record

    def follow(self) -> Subscription:
        """Yields the newest state, then every later one in order, for ever: `async for update in ...`.

        Waits for the first save, and for an unreachable server. If it falls behind the history, or Redis
        loses states, it continues at the newest state, and the update has `resynced` and `reason`. It raises
        what `latest` raises, except SnapshotUnavailableError and SnapshotDamagedError, for which it waits.
        You may cancel a wait, as asyncio.wait_for does; the next wait continues.

        All followers of the name on this client, in this event loop and with these limits, share one replica.
        They also share its connection, outside the client's pool.
        """
        store = self._store
        keys, limits, time_limit, block = store.keys, self._limits, store.time_limit, self._block
        subscription = Subscription(
            lambda: Broadcast.of(store.redis, keys, limits, time_limit, block),
            self.name,
            self._counters,
            shared=self._shared,
        )
        self._subscriptions.add(subscription)
        return subscription

    async def at(self, timestamp: Timestamp) -> Update:
        """The state that was the newest at a moment, by the server's clock; in the future: the newest.

        timestamp: seconds since 1970, or a datetime with a zone. Raises SnapshotHistoryError if the history
        begins later, SnapshotDamagedError if the frames in Redis do not lead there, and what `latest` raises.
        """
        moment = milliseconds("timestamp", timestamp)
        with self._counted():
            entry = await entry_at(self._store, moment)
            replica = self._new_replica()
            if not await replica.seek(entry.position):
                raise self._unreachable(entry.time)
            update = await replica.update()
        self._counters.past_states += 1
        return update

    async def replay(
        self, start: Timestamp | None = None, end: Timestamp | None = None
    ) -> AsyncGenerator[Update, None]:
        """Yields the state that was the newest at `start`, then every later one up to `end`.

        With None, or a `start` before the history, it begins at the oldest state. It ends at the state that
        is the newest when it begins: `follow` gives later ones. Raises what `at` raises.
        If states are missing (a broken chain, trimmed entries), it continues at the next full frame, with
        `resynced` and `reason`.
        """
        last = None if end is None else milliseconds("end", end)
        first = None if start is None else milliseconds("start", start)
        if first is not None and last is not None and last < first:
            raise SnapshotSettingError(f"end must not be before start, but {end!r} is before {start!r}")
        with self._counted():
            async with aclosing(self._states(first, last)) as states:
                async for update in states:
                    self._counters.past_states += 1
                    yield update

    async def _states(self, first: int | None, last: int | None) -> AsyncGenerator[Update, None]:
        """What `replay` gives, between two moments in ms."""
        entry = await self._store.first_delta()
        if entry is None or (last is not None and entry.time > last):
            return
        # Saves may come faster than the caller takes states.
        newest = await self._store.delta_at("+") or entry
        if first is not None and entry.time <= first:
            entry = await entry_at(self._store, first)
        replica = self._new_replica()
        new = found = await replica.seek(entry.position)
        page: list[Entry] = []
        while True:
            if new:
                yield await replica.update()
            if found and entry.position >= newest.position:
                break
            page = page or await self._store.deltas_after(entry.position, PAGE)
            if not page and found:
                # Somebody deleted the name: trimming leaves the newest entry.
                raise self._unreachable(newest.time)
            if not page:
                break
            if last is not None and page[0].time > last:
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

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Keep how a call ends, for `health`; that a moment is not kept is an answer."""
        try:
            yield
        except SnapshotHistoryError:
            raise
        except SnapdeltaError as error:
            self._counters.count_failure(error)
            raise
        self._counters.last_error = None

    def _new_replica(self) -> Replica:
        return Replica(self._store, self._limits, View(shared=self._shared))

    def _unreachable(self, moment: int) -> SnapshotDamagedError:
        return SnapshotDamagedError(
            f"snapshots {self.name!r}: the frames in Redis do not lead to the state of {readable(moment)}"
        )
