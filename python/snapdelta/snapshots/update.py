"""What a reader receives: a state, and the changes since the previous update."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from snapdelta._native import ArrowTable, Limits, arrow_table


@dataclass(frozen=True, slots=True)
class Update:
    """One published state.

    Attributes:
        snapshot: {symbol: record}, in its saved order
        added: symbols that are not in the previous update
        updated: symbols of both whose record changed. After several frames at once, such a record may equal
            that of the previous update
        removed: symbols of the previous update that are gone
        moved: the fewest symbols of both whose moves explain the new order
        epoch: the writer's number; a new writer has a higher one
        sequence: the number of the state within its epoch
        digest: the 64-bit digest of the state, as in the frames
        timestamp: the time at which Redis accepted it, in seconds since 1970 by the server's clock
        lag: seconds from then to now, by the same clock
        resynced: True if the reader started again from a full frame, and may have missed states
        reason: why the reader started again; "start" for the first update; None after a delta
    """

    snapshot: dict[str, Any]
    added: list[str]
    updated: list[str]
    removed: list[str]
    moved: list[str]
    epoch: int
    sequence: int
    digest: int
    timestamp: float
    lag: float
    resynced: bool
    reason: str | None

    @property
    def changed(self) -> list[str]:
        """`added`, then `updated`: symbols of the snapshot whose record is new or another."""
        return [*self.added, *self.updated]

    def arrow_table(
        self, *, changed: bool = False, flat: bool = False, limits: Limits | None = None
    ) -> ArrowTable:
        """The snapshot as columns; `changed`: the rows of those symbols alone, with the types of all rows.

        Reads the whole snapshot at each call: keep the table. Raises LimitExceededError beyond `limits`,
        1 GiB by default.
        """
        symbols = self.changed if changed else None
        return arrow_table(self.snapshot, symbols=symbols, flat=flat, limits=limits)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any:
        """`arrow_table()` as a capsule: `polars.DataFrame(update)`."""
        return self.arrow_table().__arrow_c_stream__(requested_schema)


class ChangeLog:
    """The symbols that frames changed, collected until `drain`."""

    def __init__(self) -> None:
        # dicts, for their order
        self._added: dict[str, None] = {}
        self._updated: dict[str, None] = {}
        self._removed: dict[str, None] = {}
        self._moved: dict[str, None] = {}

    def add(
        self, added: Iterable[str], updated: Iterable[str], removed: Iterable[str], moved: Iterable[str]
    ) -> None:
        """Add the changes of one frame; a symbol is in one of the first three."""
        for symbol in removed:
            self._updated.pop(symbol, None)
            self._moved.pop(symbol, None)
            if symbol in self._added:
                # It came and went.
                del self._added[symbol]
            else:
                self._removed[symbol] = None
        for symbol in added:
            if symbol in self._removed:
                # It went and came back, perhaps with another record and elsewhere.
                del self._removed[symbol]
                self._updated[symbol] = self._moved[symbol] = None
            else:
                self._added[symbol] = None
        self._updated.update((symbol, None) for symbol in updated if symbol not in self._added)
        self._moved.update((symbol, None) for symbol in moved if symbol not in self._added)

    def drain(self) -> tuple[list[str], list[str], list[str], list[str]]:
        """Added, updated, removed and moved symbols since the last call."""
        drained = list(self._added), list(self._updated), list(self._removed), list(self._moved)
        self._added, self._updated, self._removed, self._moved = {}, {}, {}, {}
        return drained
