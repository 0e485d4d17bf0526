"""What a reader is given: a state, and what has changed since the one before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Update:
    """One published state.

    snapshot   {symbol: record}, in the order in which it was saved
    changed    symbols that were added, removed, or have another record than in the update before (after
               several frames at once, also those whose record has come back to what it was)
    added, removed  the symbols among them
    epoch, sequence  where in the history it is; a new writer has a higher epoch
    digest     of the state, as the frames carry it
    timestamp  when Redis accepted it: seconds since 1970, by the server's clock
    lag        seconds from then to now, by the same clock
    resynced   whether the reader had to start again from a full frame, and may have missed states in between
    reason     why it did; "start" for the first update; None where it went from delta to delta
    """

    snapshot: dict[str, Any]
    changed: list[str]
    added: list[str]
    removed: list[str]
    epoch: int
    sequence: int
    digest: int
    timestamp: float
    lag: float
    resynced: bool
    reason: str | None


class Changes:
    """Symbols that frames have touched, added up until somebody takes them."""

    def __init__(self) -> None:
        # dicts, for their order
        self._changed: dict[str, None] = {}
        self._added: dict[str, None] = {}
        self._removed: dict[str, None] = {}

    def add(self, changed: Iterable[str], added: Iterable[str], removed: Iterable[str]) -> None:
        self._changed.update(dict.fromkeys(changed))
        for symbol in removed:
            if symbol in self._added:
                # It came and went.
                del self._added[symbol], self._changed[symbol]
            else:
                self._removed[symbol] = None
        for symbol in added:
            if symbol in self._removed:
                del self._removed[symbol]
            else:
                self._added[symbol] = None

    def drain(self) -> tuple[list[str], list[str], list[str]]:
        """Changed, added and removed symbols since the last call."""
        taken = list(self._changed), list(self._added), list(self._removed)
        self._changed, self._added, self._removed = {}, {}, {}
        return taken
