"""The state from which a new writer goes on, so that its start is no event for those who follow."""

from __future__ import annotations

import logging

from snapdelta import Decoder, Limits
from snapdelta.errors import SnapdeltaError, SnapshotUnavailableError
from snapdelta.snapshots.keys import StreamPosition
from snapdelta.snapshots.replica import Replica
from snapdelta.snapshots.store import SnapshotStore

log = logging.getLogger("snapdelta.snapshots")


async def newest_state(store: SnapshotStore) -> Decoder | None:
    """A decoder at the newest state of a name, read as a reader does; None if there is none to go on from.

    Raises SnapshotUnavailableError and its kinds: then the server may have one.
    """
    try:
        return await Replica(store, Limits()).seek_head()
    except SnapshotUnavailableError:
        raise
    except SnapdeltaError as error:
        log.info("snapshots %r: no handover from the writer before: %s", store.keys.name, error)
        return None


def position_of(decoder: Decoder) -> StreamPosition:
    return StreamPosition(decoder.epoch, decoder.sequence)
