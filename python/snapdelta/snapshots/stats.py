"""What a manager counts for each name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(slots=True)
class SaveCounters:
    """Totals of one name since its first save by this manager."""

    saved: int = 0  # saves that Redis accepted
    failed: int = 0  # saves that raised, or were dropped before they began
    bytes_written: int = 0  # of frames
    fulls: dict[str, int] = field(default_factory=dict)  # full frames, by reason

    def copy(self) -> SaveCounters:
        return replace(self, fulls=self.fulls.copy())

    def count(self, result: Mapping[str, Any]) -> None:
        self.saved += 1
        self.bytes_written += result["compressed_size"]
        if (reason := result["reason"]) is not None:
            self.fulls[reason] = self.fulls.get(reason, 0) + 1


@dataclass(slots=True)
class MirrorCounters:
    """Totals of one mirror since it was made."""

    updates: int = 0  # states written from the one before
    rebuilds: int = 0  # states written as a whole
    rows_written: int = 0
    rows_removed: int = 0  # by updates
    bytes_written: int = 0  # JSON texts of rows and plain key
    failed: int = 0  # tries that Redis refused or did not answer
