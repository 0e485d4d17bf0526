"""What the seeded feeds share: the iterator, the copy of a frame, numbers as text."""

from __future__ import annotations

import marshal
from abc import abstractmethod
from collections.abc import Iterator
from random import Random
from typing import Any, Self, TypeAlias

from snapdelta.errors import FeedSettingError

Snapshot: TypeAlias = dict[str, dict[str, Any]]

# 2026-03-04 15:00 UTC, in ms.
START_MS = 1_772_636_400_000


class SeededFeed(Iterator[Snapshot]):
    """An endless iterator of snapshots; the same arguments give the same snapshots.

    Equal values are new objects in every frame, as in a service that parses its input.
    """

    def __init__(self, symbols: int, seed: int, interval: float, start_ms: int = START_MS) -> None:
        if symbols < 0:
            raise FeedSettingError(f"symbols must be at least 0, not {symbols}")
        if not interval > 0:
            raise FeedSettingError(f"interval must be positive, not {interval} s")
        self.time_ms = start_ms
        self._interval_ms = max(1, round(interval * 1000))
        self._rng = Random(seed)
        self._records: Snapshot = {}
        self._started = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Snapshot:
        return self.next_frame()

    def next_frame(self) -> Snapshot:
        """The next snapshot. `time_ms` is its time, in ms since 1970."""
        if self._started:
            self.time_ms += self._interval_ms
            self._advance()
        self._started = True
        return self._copy()

    @abstractmethod
    def _advance(self) -> None:
        """Move `_records` on by one interval, to `time_ms`."""

    def _copy(self) -> Snapshot:
        # The quickest way in the standard library to make every value anew; interned keys stay shared.
        copied: Snapshot = marshal.loads(marshal.dumps(self._records))
        return copied


def decimal_text(units: int, decimals: int, grouping: str = "") -> str:
    """`units` / 10**decimals with exactly that many decimals; `grouping` is "," or nothing."""
    whole, part = divmod(abs(units), 10**decimals)
    return f"{'-' if units < 0 else ''}{whole:{grouping}d}.{part:0{decimals}d}"


def quotient(numerator: int, denominator: int) -> int:
    """The quotient of whole numbers, rounded to the nearest, halves away from zero."""
    rounded = (2 * abs(numerator) + denominator) // (2 * denominator)
    return -rounded if numerator < 0 else rounded
