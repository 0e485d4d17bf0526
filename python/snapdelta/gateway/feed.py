"""One follower of a name for all clients of a gateway."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from snapdelta import Decoder
from snapdelta._redis import REDIS_ERRORS, AsyncRedis
from snapdelta.errors import SnapdeltaError, SnapshotUnavailableError
from snapdelta.gateway.frame_log import FrameLog, Step
from snapdelta.gateway.settings import GatewaySettings
from snapdelta.health import Health
from snapdelta.snapshots.json_text import json_text
from snapdelta.snapshots.keys import Keys
from snapdelta.snapshots.outage import Outage
from snapdelta.snapshots.own_client import own_client
from snapdelta.snapshots.replica import Replica
from snapdelta.snapshots.stats import ReadCounters
from snapdelta.snapshots.store import Entry, SnapshotStore
from snapdelta.snapshots.view import State, View

log = logging.getLogger("snapdelta.gateway")

# Seconds that one read waits for the next save.
_BLOCK = 2.0
# Seconds that closing the connection to Redis may take.
_CLOSING = 0.5


class Feed:
    """Follows one name from `start` to `aclose`, and keeps its newest states and their frames in `frames`.

    For each newer state it sets `changed`, and replaces it by a new event.
    """

    def __init__(self, client: AsyncRedis, name: str, settings: GatewaySettings) -> None:
        keys = Keys.of(settings.key_prefix, name)
        self.name = keys.name
        self.frames = FrameLog(settings.history_frames, settings.history_bytes)
        self.counters = ReadCounters()
        self.changed = asyncio.Event()
        # Why the log had to begin anew, the last time.
        self.restart_reason: str | None = None
        self._client = client
        self._store = SnapshotStore(client, keys, settings.command_timeout)
        self._block = min(_BLOCK, settings.command_timeout / 2)
        self._view = View()
        self._replica = Replica(
            self._store, settings.limits, self._view, hold=self._hold, on_frame=self._on_frame
        )
        self._outage = Outage(name, "a gateway")
        self._task: asyncio.Task[None] | None = None
        # The full frame at which the replica began anew, and what it has applied since the newest state.
        self._start: Step | None = None
        self._applied: list[Step] = []
        # Whether the decoder may be read, by how many it is, and what the last of them sets.
        self._readable = asyncio.Event()
        self._pins = 0
        self._unpinned = asyncio.Event()
        self._symbols: set[str] = set()
        # JSON of records of the newest state that somebody asked for.
        self._texts: dict[str, bytes] = {}

    def start(self) -> None:
        """A second call does nothing."""
        if self._task is None:
            name = f"snapdelta-gateway-{self.name}"
            self._task = asyncio.get_running_loop().create_task(self._run(), name=name)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def state(self) -> State | None:
        """The newest state; None if nothing was saved, or Redis lost it."""
        return None if self._replica.out_of_sync else self.frames.newest_state

    def health(self, max_age: float | None = None) -> Health:
        """The health, as in SnapshotReader.health."""
        waits = () if self._outage.error is None or self.counters.last_error else (self._outage.error,)
        return self.counters.health(f"gateway {self.name!r}", waits, max_age)

    @asynccontextmanager
    async def pinned(self) -> AsyncIterator[tuple[int, State, Decoder]]:
        """The newest state, its number, and a decoder at that state, which does not move meanwhile."""
        while not self._readable.is_set():
            await self._readable.wait()
        state = self.frames.newest_state
        assert state is not None
        self._pins += 1
        try:
            yield self.frames.newest, state, self._replica.decoder
        finally:
            self._pins -= 1
            self._unpinned.set()

    def json_of(self, symbol: str) -> bytes | None:
        """The JSON of a record in the newest state, or None; only while the state is pinned."""
        if symbol not in self._symbols:
            return None
        text = self._texts.get(symbol)
        if text is None:
            text = self._texts[symbol] = json_text(self._replica.decoder.get(symbol))
        return text

    # --- the task

    async def _run(self) -> None:
        own = self._store.redis = own_client(self._client)
        try:
            while True:
                await self._step()
        except Exception:
            log.exception(
                *("gateway %r: it no longer follows the name", self.name),
                extra={"event": "gateway_stopped", "snapshots": self.name},
            )
            raise
        finally:
            try:
                async with asyncio.timeout(_CLOSING):
                    await own.aclose()
            except REDIS_ERRORS as error:
                log.debug(
                    *("gateway %r: closing the connection: %s", self.name, error),
                    extra={"event": "connection_close_failed", "snapshots": self.name},
                )

    async def _step(self) -> None:
        error: SnapdeltaError | None = None
        try:
            await self._replica.advance(self._block)
        except SnapdeltaError as raised:
            error = raised
        self._publish()
        if error is None:
            self._outage.over()
            self.counters.last_error = None
            return
        if not isinstance(error, SnapshotUnavailableError):
            self.counters.count_failure(error)
        await self._outage.wait(error)

    def _on_frame(self, state: State, entry: Entry, is_full: bool) -> None:
        assert entry.frame is not None
        step = Step(state, entry.frame, is_full, entry.reason if is_full else None)
        if is_full and self._replica.out_of_sync:
            self._start, self._applied = step, []
        else:
            self._applied.append(step)

    async def _hold(self) -> None:
        """Before the decoder moves: wait for those who read it."""
        self._readable.clear()
        while self._pins:
            self._unpinned.clear()
            await self._unpinned.wait()

    def _publish(self) -> None:
        """Show the clients where the replica is now."""
        replica, frames = self._replica, self.frames
        at = replica.at
        if not replica.settled or at is None:
            return
        self._readable.set()
        start, steps = self._start, self._applied
        self._start, self._applied = None, []
        newest = frames.newest_state
        resync: str | None = None
        if start is not None:
            chain = [start, *steps]
            met = next((n for n, step in enumerate(chain) if step.state.same(newest)), None)
            if met is None:
                if newest is not None:
                    resync = self.restart_reason = self._view.reason or "gap"
                frames.restart(start.state, start.frame)
            else:
                steps = steps[met:]
        frames.extend(steps)
        if at.same(newest):
            return
        added, updated, removed, _ = self._view.changes.drain()
        self._symbols.difference_update(removed)
        self._symbols.update(added)
        for symbol in (*added, *updated, *removed):
            self._texts.pop(symbol, None)
        self._view.show(at)
        self.counters.count_state(
            self.name, at.position, at.time / 1000, replica.lag, len(self._symbols), resync
        )
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
