"""The endless iteration over a name's states, through outages of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Self

from snapdelta.errors import SnapdeltaError, SnapshotClosedError, SnapshotUnavailableError
from snapdelta.snapshots.broadcast import Broadcast
from snapdelta.snapshots.outage import Outage
from snapdelta.snapshots.replica import Replica
from snapdelta.snapshots.stats import ReadCounters
from snapdelta.snapshots.update import Update
from snapdelta.snapshots.view import View


class Subscription(AsyncIterator[Update]):
    """What `SnapshotReader.follow()` returns.

    A generator would end when a wait for its next item is cancelled (`asyncio.wait_for(anext(...), 1)`); this
    one continues with the same update. Shares one replica with all subscriptions of the name on the client,
    until
    it is closed or collected.
    """

    def __init__(
        self, broadcast: Callable[[], Broadcast], name: str, counters: ReadCounters, *, shared: bool
    ) -> None:
        self._find = broadcast
        self._broadcast: Broadcast | None = None
        self._name = name
        self._counters = counters
        self._view = View(shared=shared)
        self._joined = False
        # Ours alone, while we are behind the others.
        self._alone: Replica | None = None
        self._outage = Outage(name)
        self._turn = asyncio.Lock()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update:
        async with self._turn:
            if self._closed:
                raise StopAsyncIteration
            broadcast = self._broadcast = self._broadcast or self._find()
            if broadcast.loop is not asyncio.get_running_loop():
                raise SnapshotClosedError(
                    "this subscription belongs to another event loop; call follow() again"
                )
            broadcast.begin_call()
            try:
                while True:
                    try:
                        update = await self._next(broadcast)
                    except SnapshotUnavailableError as error:
                        await self._outage.wait(error)
                    except SnapdeltaError as error:
                        self._counters.count_failure(error)
                        raise
                    else:
                        self._outage.over()
                        self._counters.count(self._name, update)
                        return update
            finally:
                broadcast.end_call()

    @property
    def waits_for(self) -> str | None:
        """The error because of which it waits for the server; None if the server answers, or nobody waits."""
        if self._closed or self._broadcast is None:
            return None
        return self._outage.error or self._broadcast.outage.error

    async def aclose(self) -> None:
        """End the iteration. Without this call it ends when nobody references it any more."""
        self._closed = True
        self._alone = None
        ending = self._broadcast.leave(self._view) if self._broadcast is not None else None
        if ending is not None:
            await asyncio.wait([ending])

    def __del__(self) -> None:
        broadcast = self._broadcast
        if broadcast is not None and not self._closed:
            # A closed loop has nothing left to end; the collector may run in any thread.
            with suppress(RuntimeError):
                broadcast.loop.call_soon_threadsafe(broadcast.leave, self._view)

    async def _next(self, broadcast: Broadcast) -> Update:
        view = self._view
        while True:
            alone = self._alone
            while alone is not None and not broadcast.rejoin(view, alone.views[0].shown):
                if alone.has_update(alone.views[0]):
                    return await alone.update()
                await alone.advance(broadcast.block)
            self._alone = None
            if not self._joined:
                await broadcast.join(view)
                self._joined = True
            update = await broadcast.next(view)
            if update is not None:
                return update
            await self._fall_behind(broadcast)

    async def _fall_behind(self, broadcast: Broadcast) -> None:
        """Go on by ourselves from the last update, if that is still kept; else with the others, later."""
        view = self._view
        alone = Replica(broadcast.store, broadcast.limits, View(shared=view.shared))
        if view.shown is not None:
            if await alone.seek(view.shown.position) and alone.at is not None and alone.at.same(view.shown):
                alone.views[0].show(alone.at)
                self._alone = alone
                return
            view.miss("gap")
        view.behind = False
