"""A reader's copy of one name's state, which moves only to states that Redis accepted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from snapdelta import Decoder, Limits
from snapdelta.errors import (
    BaseMismatchError,
    CorruptDeltaError,
    LimitExceededError,
    SnapdeltaError,
    SnapshotAccessError,
    SnapshotDamagedError,
)
from snapdelta.snapshots.keys import StreamPosition
from snapdelta.snapshots.materialize import materialize
from snapdelta.snapshots.store import Entry, Head, SnapshotStore
from snapdelta.snapshots.update import Update
from snapdelta.snapshots.view import IN_PLACE, State, View

log = logging.getLogger("snapdelta.snapshots")

# Entries that one read asks for.
PAGE = 16
# Full frames that are tried, newest first, and starts, as the writer may trim what is being read.
_FULLS_TRIED = 4
_STARTS = 10
# How long a comparison of the clocks holds, in seconds.
_CLOCK_TTL = 60.0


class Replica:
    """Moves along a name's history. For one task at a time; may be cancelled at every await.

    `at` is the decoder's position; while `out_of_sync`, no view may show it. `views` show each state to a
    consumer. The replica awaits `hold` before it leaves a state that a view may show. It calls `on_frame`
    with each state, the entry that led to it, and whether its frame is full.
    """

    def __init__(
        self,
        store: SnapshotStore,
        limits: Limits | None,
        *views: View,
        hold: Callable[[], Awaitable[None]] | None = None,
        on_frame: Callable[[State, Entry, bool], None] | None = None,
    ) -> None:
        self.at: State | None = None
        self.out_of_sync = True
        self.views = list(views)
        self._store = store
        self._decoder = Decoder(limits)
        self._hold = hold
        self._on_frame = on_frame
        # The last state that could be shown.
        self._last_in_sync: State | None = None
        # The last entry of the delta stream that was read, and those read and not yet taken.
        self._cursor: StreamPosition | None = None
        self._entries: deque[Entry] = deque()
        # The last entry that did not fit, since one did.
        self._refused: StreamPosition | None = None
        # What a thread is applying, and whether that is a full frame; it goes on when we are cancelled.
        self._applying: tuple[Entry, bool, asyncio.Future[None]] | None = None
        # The server's clock less our monotonic one, in seconds, and when to ask again.
        self._clock_offset = 0.0
        self._sync_clock_at = 0.0
        # The entry of the last warning in the log.
        self._last_warned: StreamPosition | None = None

    # --- to the newest state

    async def advance(self, block: float) -> None:
        """One step, waiting up to `block` seconds for an entry."""
        before = self.at
        await self._finish_apply()
        if self.at is not before and not self.out_of_sync:
            # A call that was cancelled made this step.
            return
        if self.out_of_sync:
            if not await self._start():
                # The next save wakes us up.
                await self._store.next_deltas(None, 1, block)
        elif self._entries:
            await self.apply_entry(self._entries.popleft())
        else:
            self._entries.extend(await self._store.next_deltas(self._cursor, PAGE, block))
            if not self._entries:
                await self._check_head()
        await self._sync_clock()

    async def catch_up(self) -> bool:
        """Go to the newest state without waiting; False if there is no head.

        Raises SnapshotDamagedError if the frames in Redis do not lead there.
        """
        await self._finish_apply()
        head = await self._store.head()
        if head is None:
            return False
        if self.at is not None and self.at.position > head.position:
            # Redis has lost what we have.
            self._mark_out_of_sync("head")
        # No further than to this head: saves may come faster than we read.
        while not self.out_of_sync and not self.reached(head):
            if not self._entries:
                self._entries.extend(await self._store.next_deltas(self._cursor, PAGE, 0))
            if self._entries:
                await self.apply_entry(self._entries.popleft())
            else:
                self._mark_out_of_sync("head")
        if not self.out_of_sync or await self._start():
            await self._sync_clock()
            return True
        if await self._store.head() is None:
            return False
        raise SnapshotDamagedError(
            f"snapshots {self._store.keys.name!r}: the frames in Redis do not lead to the newest state; "
            "the writer's next full frame repairs them: try again after its next saves"
        )

    async def _check_head(self) -> None:
        """No entry came: compare with the head. Elsewhere, it means new entries, or out of sync."""
        head = await self._store.head()
        if head is not None and not self.matches(head):
            # A save between the two questions, or a stream that was made anew.
            self._entries.extend(await self._store.next_deltas(self._cursor, PAGE, 0))
            if not self._entries:
                await self._before_leaving()
                self._mark_out_of_sync("head")

    async def _before_leaving(self) -> None:
        if self._hold is not None:
            await self._hold()

    async def _start(self) -> bool:
        """Begin at a full frame and go on to the head; False if there is no way to it (yet)."""
        damaged: StreamPosition | None = None
        before: Head | None = None
        for _ in range(_STARTS):
            head = await self._store.head()
            if head is None or head == before:
                break
            before = head
            # What stands behind the head was not accepted.
            there, rejected = await self._seek_from_full(head.position)
            if there and self.matches(head):
                self._mark_in_sync()
                return True
            damaged = damaged or rejected or (head.position if there else None)
        if damaged is not None:
            await self._request_resync(damaged)
        return False

    async def _request_resync(self, damaged: StreamPosition) -> None:
        try:
            await self._store.request_resync(str(damaged))
        except SnapshotAccessError as error:
            # A reader need not be allowed to write: then the next full frame comes when it is due.
            log.debug(
                *("the request for a full frame failed: %s", error),
                extra={"event": "resync_request_failed", "snapshots": self._store.keys.name},
            )

    # --- to a position in the history

    async def seek_head(self) -> Decoder | None:
        """Go to the newest state once, without a resync request; returns the decoder, or None."""
        head = await self._store.head()
        there = head is not None and await self.seek(head.position) and self.matches(head)
        return self._decoder if there else None

    async def seek(self, position: StreamPosition, reason: str | None = None) -> bool:
        """Apply a full frame and the deltas up to a position; False if the entries do not lead there."""
        await self._finish_apply()
        self._mark_out_of_sync(reason)
        there, _ = await self._seek_from_full(position)
        if there:
            self._mark_in_sync()
            await self._sync_clock()
        return there

    async def _seek_from_full(self, position: StreamPosition) -> tuple[bool, StreamPosition | None]:
        """The same; also the first entry that did not fit."""
        rejected: StreamPosition | None = None
        end = str(position)
        for _ in range(_FULLS_TRIED):
            full = await self._store.full_before(end)
            if full is None:
                break
            end = f"({full.position}"
            stop = full.position
            if await self._start_from(full):
                stop = await self._apply_until(position) or stop
                if self.at is not None and self.at.position == position:
                    return True, rejected
            rejected = rejected or stop
        return False, rejected

    # --- entries

    async def apply_entry(self, entry: Entry) -> None:
        """Apply the next entry of the delta stream; if it cannot follow, the replica is out of sync."""
        self._cursor = entry.position
        at = self.at
        if at is None or entry.position <= at.position:
            return
        await self._before_leaving()
        problem = await self._apply_next(entry)
        if problem is None:
            self._refused = None
        else:
            self._refused = max(entry.position, self._refused or entry.position)
            self._mark_out_of_sync(problem if entry.reason in IN_PLACE else entry.reason or problem)

    async def _apply_next(self, entry: Entry) -> str | None:
        """Go from where we are to an entry of the delta stream; why that is not possible, or None."""
        assert self.at is not None
        epoch, sequence = self.at.position
        follows = entry.base == self.at.text if entry.base else entry.position == (epoch, sequence + 1)
        if not follows:
            return "gap"
        if entry.frame is None and entry.reason in IN_PLACE:
            full = await self._store.full_before(str(entry.position))
            if full is None or full.position != entry.position:
                return "gap"
            problem = await self._apply(full, is_full=True)
            if problem is None and not self.out_of_sync:
                for view in self.views:
                    view.reason = view.reason or entry.reason
            return problem
        return await self._apply(entry)

    async def _start_from(self, full: Entry) -> bool:
        self._cursor = full.position
        return await self._apply(full, is_full=True) is None

    async def _apply_until(self, until: StreamPosition) -> StreamPosition | None:
        """Apply the next deltas up to a position; the first that does not fit, or None."""
        assert self.at is not None
        while self.at.position < until:
            entries = await self._store.deltas_after(self.at.position, PAGE)
            if not entries:
                break
            for entry in entries:
                if await self._apply_next(entry) is not None:
                    return entry.position
                self._cursor = entry.position
                if entry.position >= until:
                    break
        return None

    async def _apply(self, entry: Entry, *, is_full: bool = False) -> str | None:
        """Have the decoder apply the entry's frame; why it could not, or None."""
        if entry.frame is None:
            return "damaged"
        future = asyncio.get_running_loop().run_in_executor(None, self._decoder.apply, entry.frame)
        # When we are cancelled and never asked again, nobody else would look at its error.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._applying = entry, is_full, future
        return await self._finish_apply()

    async def _finish_apply(self) -> str | None:
        """Wait for what is being applied, also by a call that was cancelled, and take note of it."""
        self._store.check_loop()
        if self._applying is None:
            return None
        entry, is_full, future = self._applying
        # Does not cancel what it waits for; from here on to the end there is no other await.
        await asyncio.wait([future])
        self._applying = None
        error = future.exception()
        if error is not None:
            said = f"snapshots {self._store.keys.name!r}: entry {entry.position}: {error}"
            if isinstance(error, (CorruptDeltaError, BaseMismatchError)) and not isinstance(
                error, LimitExceededError
            ):
                if entry.position != self._last_warned:
                    self._last_warned = entry.position
                    extra = {
                        "event": "damage",
                        "snapshots": self._store.keys.name,
                        "entry": str(entry.position),
                    }
                    log.warning(said, extra=extra)
                problem = "damaged" if isinstance(error, CorruptDeltaError) else "base"
                self._mark_out_of_sync(problem)
                return problem
            self._mark_out_of_sync("damaged")
            # Nothing that a full frame would mend: a newer format, an unknown zone, limits of ours.
            raise type(error)(said) if isinstance(error, SnapdeltaError) else error
        decoder = self._decoder
        changed = decoder.added, decoder.updated, decoder.removed, decoder.moved
        for view in self.views:
            view.changes.add(*changed)
        position = StreamPosition(decoder.epoch, decoder.sequence)
        self.at = State(position, decoder.digest, entry.time)
        if position != entry.position or f"{decoder.digest:016x}".encode() != entry.digest:
            self._mark_out_of_sync("damaged")
            return "damaged"
        if not self.out_of_sync:
            self._last_in_sync = self.at
        if self._on_frame is not None:
            self._on_frame(self.at, entry, is_full)
        return None

    # --- where we are

    def _mark_out_of_sync(self, reason: str | None) -> None:
        self.out_of_sync = True
        self._entries.clear()
        for view in self.views:
            # A new start goes to the head.
            view.target = None
            view.miss(reason)

    def _mark_in_sync(self) -> None:
        self.out_of_sync = False
        for view in self.views:
            if view.shown is not None and not self.has_update(view):
                view.reason = None
        at, last, self._last_in_sync = self.at, self._last_in_sync, self.at
        if at is not None and at.same(last) and self._cursor is not None and self._refused is not None:
            # No writer made these entries; do not read them again.
            self._cursor = max(self._cursor, self._refused)

    @property
    def settled(self) -> bool:
        """Whether the decoder is at `at`, and a view may show it; a thread may be moving it."""
        return not self.out_of_sync and self._applying is None

    def has_update(self, view: View) -> bool:
        """Whether there is a state that the view has not shown."""
        at = self.at
        if not self.settled or at is None:
            return False
        if view.shown is None:
            return at is not view.since and (view.target is None or self.reached(view.target))
        return not at.same(view.shown)

    def matches(self, head: Head) -> bool:
        at = self.at
        return at is not None and at.position == head.position and f"{at.digest:016x}".encode() == head.digest

    def reached(self, head: Head) -> bool:
        return self.at is not None and (self.at.position > head.position or self.matches(head))

    async def _sync_clock(self) -> None:
        """Compare the clocks, once a minute; the monotonic one, as the wall's may be set."""
        if time.monotonic() >= self._sync_clock_at:
            self._clock_offset = await self._store.time_ms(self._store.keys.head) / 1000 - time.monotonic()
            self._sync_clock_at = time.monotonic() + _CLOCK_TTL

    @property
    def decoder(self) -> Decoder:
        """At `at`, while the replica is settled."""
        return self._decoder

    @property
    def lag(self) -> float:
        """Seconds since Redis accepted this state, by its clock."""
        assert self.at is not None
        return max(0.0, time.monotonic() + self._clock_offset - self.at.time / 1000)

    async def record(self, symbol: str, default: Any) -> Any:
        """The symbol's record in this state, as a new object; `default` if there is none."""
        record = self._decoder.get(symbol)
        if record is None and default is not None:
            # The decoder says None for a record that is None, too.
            snapshot = await materialize(self._decoder, shared=True)
            return None if symbol in snapshot else default
        return record

    async def update(self, view: View | None = None) -> Update:
        """This state, and the changes since the view's last update; None: the only view."""
        view = view or self.views[0]
        assert self.at is not None
        snapshot = await materialize(self._decoder, shared=view.shared)
        at, shown, reason = self.at, view.shown, view.reason
        added, updated, removed, moved = view.changes.drain()
        if shown is None:
            # Who joined others has not seen where all this came from.
            added, updated, removed, moved = list(snapshot), [], [], []
        view.show(at)
        return Update(
            snapshot=snapshot,
            added=added,
            updated=updated,
            removed=removed,
            moved=moved,
            epoch=at.position.epoch,
            sequence=at.position.sequence,
            digest=at.digest,
            timestamp=at.time / 1000,
            lag=self.lag,
            resynced=reason is not None and reason not in IN_PLACE and shown is not None,
            reason=reason,
        )
