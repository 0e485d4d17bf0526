"""A reader's copy of one name's state, and the ways on which it moves: only to states that Redis accepted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

from snapdelta import Decoder, Limits
from snapdelta.snapshots.store import Entry, Head, SnapshotCommands
from snapdelta.snapshots.keys import Place
from snapdelta.snapshots.materialize import records_of
from snapdelta.snapshots.update import Update
from snapdelta.snapshots.view import IN_PLACE, State, View
from snapdelta.errors import (
    BaseMismatchError,
    CorruptDeltaError,
    LimitExceededError,
    SnapdeltaError,
    SnapshotAccessError,
    SnapshotDamagedError,
)

log = logging.getLogger("snapdelta.snapshots")

# Entries that one read asks for.
PAGE = 16
# Full frames that are tried, newest first, and starts, as the writer may trim what is being read.
_FULLS_TRIED = 4
_STARTS = 3
# How long a comparison of the clocks holds, in seconds.
_CLOCK_LIFE = 60.0


class Follower:
    """Moves along a name's history. For one task at a time; may be cancelled at every await.

    `at` is where the decoder is; while `lost`, that is not to be shown. `views` are those who are shown it.
    `hold` is awaited before a state that can be shown is left.
    """

    def __init__(
        self,
        commands: SnapshotCommands,
        limits: Limits | None,
        *views: View,
        hold: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.at: State | None = None
        self.lost = True
        self.views = list(views)
        self._commands = commands
        self._decoder = Decoder(limits)
        self._hold = hold
        # The last state that could be shown.
        self._stood: State | None = None
        # The last entry of the delta stream that was read, and those read and not yet taken.
        self._cursor: Place | None = None
        self._entries: deque[Entry] = deque()
        # The last entry that did not fit, since one did.
        self._refused: Place | None = None
        # What a thread is applying; it goes on when we are cancelled.
        self._applying: tuple[Entry, asyncio.Future[None]] | None = None
        # The server's clock less our monotonic one, in seconds, and when to ask again.
        self._clock_offset = 0.0
        self._ask_time_at = 0.0
        # The entry that the log has last complained of.
        self._complained: Place | None = None

    # --- to the newest state

    async def advance(self, block: float) -> None:
        """One step, waiting up to `block` seconds for an entry."""
        before = self.at
        await self._settle()
        if self.at is not before and not self.lost:
            # A call that was cancelled made this step.
            return
        if self.lost:
            if not await self._start():
                # The next save wakes us up.
                await self._commands.next_deltas(None, 1, block)
        elif self._entries:
            await self.take(self._entries.popleft())
        else:
            self._entries.extend(await self._commands.next_deltas(self._cursor, PAGE, block))
            if not self._entries:
                await self._check_head()
        await self._ask_time()

    async def catch_up(self) -> bool:
        """Go to the newest state without waiting; False where there is no head to go by.

        Raises SnapshotDamagedError when what is kept does not lead there.
        """
        await self._settle()
        head = await self._commands.head()
        if head is None:
            return False
        if self.at is not None and self.at.place > head.place:
            # Redis has lost what we have.
            self._lose("head")
        # No further than to this head: saves may come faster than we read.
        while not self.lost and not self.reached(head):
            if not self._entries:
                self._entries.extend(await self._commands.next_deltas(self._cursor, PAGE, 0))
            if self._entries:
                await self.take(self._entries.popleft())
            else:
                self._lose("head")
        if not self.lost or await self._start():
            await self._ask_time()
            return True
        if await self._commands.head() is None:
            return False
        raise SnapshotDamagedError(
            f"snapshots {self._commands.keys.name!r}: what is kept does not lead to the newest state; "
            "the writer's next full frame mends that: try again after its next saves"
        )

    async def _check_head(self) -> None:
        """Nothing new has come: see whether we are where the head is. If not, there are entries, or we are
        lost."""
        head = await self._commands.head()
        if head is not None and not self.matches(head):
            # A save between the two questions, or a stream that was made anew.
            self._entries.extend(await self._commands.next_deltas(self._cursor, PAGE, 0))
            if not self._entries:
                await self._leave()
                self._lose("head")

    async def _leave(self) -> None:
        if self._hold is not None:
            await self._hold()

    async def _start(self) -> bool:
        """Begin at a full frame and go on to the head; False if there is no way to it (yet)."""
        damaged: Place | None = None
        before: Head | None = None
        for _ in range(_STARTS):
            head = await self._commands.head()
            if head is None or head == before:
                break
            before = head
            # What stands behind the head was not accepted.
            there, unfit = await self._reach(head.place)
            if there and self.matches(head):
                self._found()
                return True
            damaged = damaged or unfit or (head.place if there else None)
        if damaged is not None:
            await self._want(damaged)
        return False

    async def _want(self, damaged: Place) -> None:
        try:
            await self._commands.want(str(damaged))
        except SnapshotAccessError as error:
            # A reader need not be allowed to write: then the next full frame comes when it is due.
            log.debug("the wish for a full frame was not heard: %s", error)

    # --- to a place in the history

    async def go_to(self, place: Place, reason: str | None = None) -> bool:
        """Begin at a full frame and go on to a place; False if what is kept has no way there."""
        await self._settle()
        self._lose(reason)
        there, _ = await self._reach(place)
        if there:
            self._found()
            await self._ask_time()
        return there

    async def _reach(self, place: Place) -> tuple[bool, Place | None]:
        """Begin at a full frame and go on to a place: whether that led there, and what first did not fit."""
        unfit: Place | None = None
        end = str(place)
        for _ in range(_FULLS_TRIED):
            full = await self._commands.full_before(end)
            if full is None:
                break
            end = f"({full.place}"
            stop = full.place
            if await self._begin_at(full):
                stop = await self._go_along(place) or stop
                if self.at is not None and self.at.place == place:
                    return True, unfit
            unfit = unfit or stop
        return False, unfit

    # --- entries

    async def take(self, entry: Entry) -> None:
        """Go on by one entry of the delta stream; if it cannot follow, we are lost."""
        self._cursor = entry.place
        at = self.at
        if at is None or entry.place <= at.place:
            return
        await self._leave()
        problem = await self._follow(entry)
        if problem is None:
            self._refused = None
        else:
            self._refused = max(entry.place, self._refused or entry.place)
            self._lose(problem if entry.reason in IN_PLACE else entry.reason or problem)

    async def _follow(self, entry: Entry) -> str | None:
        """Go from where we are to an entry of the delta stream; why that is not possible, or None."""
        assert self.at is not None
        if entry.place != (self.at.place.epoch, self.at.place.sequence + 1):
            return "gap"
        if entry.frame is None and entry.reason in IN_PLACE:
            full = await self._commands.full_before(str(entry.place))
            if full is None or full.place != entry.place:
                return "gap"
            problem = await self._apply(full)
            if problem is None and not self.lost:
                for view in self.views:
                    view.reason = view.reason or entry.reason
            return problem
        return await self._apply(entry)

    async def _begin_at(self, full: Entry) -> bool:
        self._cursor = full.place
        return await self._apply(full) is None

    async def _go_along(self, until: Place) -> Place | None:
        """Apply the deltas behind where we are, up to a place; the first that does not fit, or None."""
        assert self.at is not None
        while self.at.place < until:
            entries = await self._commands.deltas_after(self.at.place, PAGE)
            if not entries:
                break
            for entry in entries:
                if await self._follow(entry) is not None:
                    return entry.place
                self._cursor = entry.place
                if entry.place >= until:
                    break
        return None

    async def _apply(self, entry: Entry) -> str | None:
        """Have the decoder apply the entry's frame; why it could not, or None."""
        if entry.frame is None:
            return "damaged"
        future = asyncio.get_running_loop().run_in_executor(None, self._decoder.apply, entry.frame)
        # When we are cancelled and never asked again, nobody else would look at its error.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._applying = entry, future
        return await self._settle()

    async def _settle(self) -> str | None:
        """Wait for what is being applied, also by a call that was cancelled, and take note of it."""
        self._commands.check_loop()
        if self._applying is None:
            return None
        entry, future = self._applying
        # Does not cancel what it waits for; from here on to the end there is no other await.
        await asyncio.wait([future])
        self._applying = None
        error = future.exception()
        if error is not None:
            said = f"snapshots {self._commands.keys.name!r}: entry {entry.place}: {error}"
            if isinstance(error, (CorruptDeltaError, BaseMismatchError)) and not isinstance(
                error, LimitExceededError
            ):
                if entry.place != self._complained:
                    self._complained = entry.place
                    log.warning(said)
                problem = "damaged" if isinstance(error, CorruptDeltaError) else "base"
                self._lose(problem)
                return problem
            self._lose("damaged")
            # Nothing that a full frame would mend: a newer format, an unknown zone, limits of ours.
            raise type(error)(said) if isinstance(error, SnapdeltaError) else error
        decoder = self._decoder
        changed, added, removed = decoder.changed, decoder.added, decoder.removed
        for view in self.views:
            view.changes.note(changed, added, removed)
        place = Place(decoder.epoch, decoder.sequence)
        self.at = State(place, decoder.digest, entry.time)
        if place != entry.place or f"{decoder.digest:016x}".encode() != entry.digest:
            self._lose("damaged")
            return "damaged"
        if not self.lost:
            self._stood = self.at
        return None

    # --- where we are

    def _lose(self, reason: str | None) -> None:
        self.lost = True
        self._entries.clear()
        for view in self.views:
            # A new start goes to the head.
            view.target = None
            view.miss(reason)

    def _found(self) -> None:
        self.lost = False
        for view in self.views:
            if view.shown is not None and not self.has_news(view):
                view.reason = None
        at, stood, self._stood = self.at, self._stood, self.at
        if at is not None and at.same(stood) and self._cursor is not None and self._refused is not None:
            # Stray entries led nowhere: they are nobody's, and are not to be read again and again.
            self._cursor = max(self._cursor, self._refused)

    @property
    def settled(self) -> bool:
        """Whether the decoder is at `at`, and that may be shown; a thread may be moving it on."""
        return not self.lost and self._applying is None

    def has_news(self, view: View) -> bool:
        """Whether there is a state to show it that it has not been shown."""
        at = self.at
        if not self.settled or at is None:
            return False
        if view.shown is None:
            return at is not view.since and (view.target is None or self.reached(view.target))
        return not at.same(view.shown)

    def matches(self, head: Head) -> bool:
        at = self.at
        return at is not None and at.place == head.place and f"{at.digest:016x}".encode() == head.digest

    def reached(self, head: Head) -> bool:
        return self.at is not None and (self.at.place > head.place or self.matches(head))

    async def _ask_time(self) -> None:
        """Compare the clocks, once a minute; the monotonic one, as the wall's may be set."""
        if time.monotonic() >= self._ask_time_at:
            self._clock_offset = (
                await self._commands.time_ms(self._commands.keys.head) / 1000 - time.monotonic()
            )
            self._ask_time_at = time.monotonic() + _CLOCK_LIFE

    async def update(self, view: View | None = None) -> Update:
        """Where we are, and what has changed since the last update of the view; None: of the only one."""
        view = view or self.views[0]
        assert self.at is not None
        snapshot = await records_of(self._decoder, shared=view.shared)
        at, shown, reason = self.at, view.shown, view.reason
        changed, added, removed = view.changes.take()
        if shown is None:
            # Who joined others has not seen where all this came from.
            changed, added, removed = list(snapshot), list(snapshot), []
        view.show(at)
        return Update(
            snapshot=snapshot,
            changed=changed,
            added=added,
            removed=removed,
            epoch=at.place.epoch,
            sequence=at.place.sequence,
            digest=at.digest,
            timestamp=at.time / 1000,
            lag=max(0.0, time.monotonic() + self._clock_offset - at.time / 1000),
            resynced=reason is not None and reason not in IN_PLACE and shown is not None,
            reason=reason,
        )
