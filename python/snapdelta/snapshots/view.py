"""What one consumer of a replica has seen, and the changes since."""

from __future__ import annotations

from typing import NamedTuple

from snapdelta.snapshots.keys import StreamPosition
from snapdelta.snapshots.store import Head
from snapdelta.snapshots.update import ChangeLog


class State(NamedTuple):
    """A decoder's state: position, digest, and when Redis accepted it, in milliseconds."""

    position: StreamPosition
    digest: int
    time: int

    @property
    def text(self) -> bytes:
        """The text by which entries in Redis name it as their base."""
        return f"{self.position}-{self.digest:016x}".encode()

    def same(self, other: State | None) -> bool:
        """Whether it is the same state; the time may have been read from another entry."""
        return other is not None and self[:2] == other[:2]


# A full frame stands in the place of a delta: nothing was missed.
IN_PLACE = ("larger", "verify_failed")


class View:
    """One consumer's position among the states of a replica.

    `since` and `target` delay a new view that joins others: it begins after that state, at that head or
    later. `behind`: the replica has left a state that this view has not shown.
    """

    def __init__(self, *, shared: bool = False) -> None:
        self.shared = shared
        self.shown: State | None = None
        # Why the next update does not continue from the update before; None if it does.
        self.reason: str | None = "start"
        self.changes = ChangeLog()
        self.since: State | None = None
        self.target: Head | None = None
        self.behind = False

    def miss(self, reason: str | None) -> None:
        """Note that the next update may have missed states; the first reason counts."""
        if self.reason is None or self.reason in IN_PLACE:
            self.reason = reason

    def show(self, state: State) -> None:
        """Compare with this state from now on."""
        self.shown = state
        self.reason = None
        self.changes.drain()
        self.behind = False
