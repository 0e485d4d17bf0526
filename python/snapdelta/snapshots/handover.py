"""The state from which a new writer continues, so that followers need no resync."""

from __future__ import annotations

import logging

from snapdelta import Decoder, Limits
from snapdelta.errors import SnapdeltaError, SnapshotUnavailableError
from snapdelta.snapshots.keys import StreamPosition
from snapdelta.snapshots.replica import Replica
from snapdelta.snapshots.store import SnapshotStore

# Readings of the chain that a server may leave unanswered while it answers others.
_READINGS = 3

log = logging.getLogger("snapdelta.snapshots")


class Handover:
    """Reads the state from which one writer continues, until it has a state or gives up."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store
        self._unanswered = 0

    async def base(self) -> Decoder | None:
        """Like `newest_state`; also None if the server answers, but failed three times to send the chain."""
        try:
            return await newest_state(self._store)
        except SnapshotUnavailableError as error:
            # An outage passes by itself; frames that take longer than the time limit do not.
            await self._store.head()
            self._unanswered += 1
            if self._unanswered < _READINGS:
                raise
            name = self._store.keys.name
            log.warning(
                "snapshots %r: the previous writer's chain could not be read %d times; this writer takes "
                "over and followers resync; raise command_timeout: %s",
                *(name, self._unanswered, error),
                extra={"event": "chain_unread", "snapshots": name, "error": type(error).__name__},
            )
            return None


async def newest_state(store: SnapshotStore) -> Decoder | None:
    """A decoder at the newest state of a name, read as a reader does; None if there is no such state.

    Raises SnapshotUnavailableError and its kinds; then the server may have a state.
    """
    try:
        return await Replica(store, Limits()).seek_head()
    except SnapshotUnavailableError:
        raise
    except SnapdeltaError as error:
        log.info("snapshots %r: no handover from the previous writer: %s", store.keys.name, error)
        return None


def position_of(decoder: Decoder) -> StreamPosition:
    return StreamPosition(decoder.epoch, decoder.sequence)
