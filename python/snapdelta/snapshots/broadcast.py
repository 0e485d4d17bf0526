"""One replica of a name for all subscriptions in a process, on one client and event loop."""

from __future__ import annotations

import asyncio
import logging
from typing import TypeAlias
from weakref import WeakValueDictionary

from snapdelta import Limits
from snapdelta._redis import REDIS_ERRORS, AsyncRedis
from snapdelta.errors import SnapdeltaError, SnapshotUnavailableError
from snapdelta.snapshots.keys import Keys
from snapdelta.snapshots.outage import Outage
from snapdelta.snapshots.own_client import own_client
from snapdelta.snapshots.replica import Replica
from snapdelta.snapshots.store import SnapshotStore
from snapdelta.snapshots.update import Update
from snapdelta.snapshots.view import State, View

log = logging.getLogger("snapdelta.snapshots")

# Seconds that a state is kept for consumers that have not asked for it, while others want to go on.
_GRACE = 0.1
# Seconds after which the connection is closed when nobody waits for an update.
_LINGER = 2.0
# Seconds that closing it may take.
_CLOSING = 2.0

_Key: TypeAlias = tuple[int, int, Keys, int | None, float]
# Those that somebody has; each keeps the client and the loop alive by whose identity it is found.
_all: WeakValueDictionary[_Key, Broadcast] = WeakValueDictionary()


class Broadcast:
    """Moves one replica while a subscription waits, and shows each state once to every view.

    Its task owns the connections. The task begins when the first subscription waits. It ends, and closes the
    connections, when no subscription has waited for a while, or none is left.
    """

    @classmethod
    def of(
        cls, client: AsyncRedis, keys: Keys, limits: Limits | None, time_limit: float, block: float
    ) -> Broadcast:
        """The broadcast for this client, name, limits and event loop."""
        loop = asyncio.get_running_loop()
        bound = None if limits is None else limits.max_bytes
        key = (id(client), id(loop), keys, bound, time_limit)
        found = _all.get(key)
        if found is None:
            found = _all[key] = cls(client, keys, limits, time_limit, block, loop)
        return found

    def __init__(
        self,
        client: AsyncRedis,
        keys: Keys,
        limits: Limits | None,
        time_limit: float,
        block: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.store = SnapshotStore(client, keys, time_limit)
        self.block = block
        self.loop = loop
        self.limits = limits
        self.outage = Outage(keys.name)
        self._client = client
        self._replica = Replica(self.store, limits, hold=self._hold)
        # Who waits for an update, and what wakes it up: an error, or None.
        self._waiting: dict[View, asyncio.Future[Exception | None]] = {}
        # Calls for an update that run, those that are being shown the state, and whether it is being left.
        self._calls = 0
        self._showing = 0
        self._leaving = False
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # --- for those who follow

    def begin_call(self) -> None:
        """Keeps connections open until `end_call`, and a little longer."""
        self._start()
        self._calls += 1

    def end_call(self) -> None:
        self._calls -= 1
        self._changed.set()

    async def join(self, view: View) -> None:
        """Start a new view at a state that is not older than this call."""
        replica = self._replica
        view.since = replica.at
        if not replica.out_of_sync:
            head = await self.store.head()
            if not replica.out_of_sync and head is not None:
                view.target = head
                if replica.matches(head):
                    view.since = None
        replica.views.append(view)

    def leave(self, view: View) -> asyncio.Task[None] | None:
        """Forget the view; the last one ends the task."""
        if view in self._replica.views:
            self._replica.views.remove(view)
        task = self._task
        if self._replica.views or self._calls or task is None:
            return None
        task.cancel()
        return task

    def rejoin(self, view: View, state: State | None) -> bool:
        """Let a view that followed alone join the others, if they are at its state."""
        replica = self._replica
        at = replica.at
        if self._leaving or not replica.settled or at is None or not at.same(state):
            return False
        view.show(at)
        return True

    async def next(self, view: View) -> Update | None:
        """The next update of a view; None if it must follow alone, because the others are ahead."""
        while not view.behind:
            if not self._leaving and self._replica.has_update(view):
                self._showing += 1
                try:
                    # One after the other, so that not all hold a state at the same time.
                    async with self._turn:
                        return await self._replica.update(view)
                finally:
                    self._showing -= 1
                    self._changed.set()
            await self._wait(view)
        return None

    async def _wait(self, view: View) -> None:
        future = self._waiting[view] = self.loop.create_future()
        self._start()
        self._changed.set()
        try:
            error = await future
        finally:
            del self._waiting[view]
        if isinstance(error, SnapdeltaError):
            # Each its own, as tracebacks grow on them.
            raise type(error)(*error.args) from error
        if error is not None:
            raise error

    # --- the task

    def _start(self) -> None:
        if self._task is None:
            own = self.store.redis = own_client(self._client)
            name = f"snapdelta-follow-{self.store.keys.name}"
            self._task = self.loop.create_task(self._run(own), name=name)
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Also when it was cancelled before its first step."""
        if self._task is task:
            self._task = None
            self._wake(None, everybody=True)

    async def _run(self, own: AsyncRedis) -> None:
        idle_since = self.loop.time()
        try:
            while True:
                self._changed.clear()
                if any(not future.done() for future in self._waiting.values()):
                    await self._step()
                    idle_since = self.loop.time()
                elif self._calls:
                    await self._changed.wait()
                    idle_since = self.loop.time()
                elif not await self._changes_before(idle_since + _LINGER):
                    break
        finally:
            self._task = None
            # Nobody waits for the server any more.
            self.outage = Outage(self.store.keys.name)
            self._wake(None, everybody=True)
            try:
                await self._close(own)
            except asyncio.CancelledError:
                # A loop that shuts down cancels what is ending already.
                await self._close(own)
                raise

    async def _close(self, own: AsyncRedis) -> None:
        try:
            async with asyncio.timeout(_CLOSING):
                await own.aclose()
        except REDIS_ERRORS as error:
            log.debug(
                *("snapshots %r: closing the connection: %s", self.store.keys.name, error),
                extra={"event": "connection_close_failed", "snapshots": self.store.keys.name},
            )

    async def _step(self) -> None:
        try:
            await self._replica.advance(self.block)
            self.outage.over()
        except SnapshotUnavailableError as error:
            await self.outage.wait(error)
        except Exception as error:  # noqa: BLE001  # raised by those who wait
            self._wake(error, everybody=True)
        finally:
            self._leaving = False
        self._wake(None)

    def _wake(self, error: Exception | None, *, everybody: bool = False) -> None:
        for view, future in self._waiting.items():
            if not future.done() and (everybody or view.behind or self._replica.has_update(view)):
                future.set_result(error)

    async def _hold(self) -> None:
        """Before the state is left: let those have it who are due, and note who was not there."""
        self._wake(None)
        deadline = self.loop.time() + _GRACE
        while late := self._late():
            self._changed.clear()
            if self._showing:
                await self._changed.wait()
            elif not await self._changes_before(deadline) and not self._showing:
                break
        for view in late:
            view.behind = True
        # Nobody begins any more.
        self._leaving = True
        while self._showing:
            self._changed.clear()
            await self._changed.wait()

    def _late(self) -> list[View]:
        return [view for view in self._replica.views if not view.behind and self._replica.has_update(view)]

    async def _changes_before(self, deadline: float) -> bool:
        """Wait for somebody to do something, until then; whether anybody did."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True
