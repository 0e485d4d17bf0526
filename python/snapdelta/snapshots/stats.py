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
    rejected: dict[str, int] = field(default_factory=dict)  # of those that failed: refused, by setting

    def copy(self) -> SaveCounters:
        return replace(self, fulls=self.fulls.copy(), rejected=self.rejected.copy())

    def count(self, result: Mapping[str, Any]) -> None:
        self.saved += 1
        self.bytes_written += result["compressed_size"]
        if (reason := result["reason"]) is not None:
            self.fulls[reason] = self.fulls.get(reason, 0) + 1
