"""Detects several lists that are saved under one name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# So many saves in a row that exchange most of the symbols are no market any more.
_SAVES = 3


class MixedLists:
    """Watches the saves of one name."""

    def __init__(self) -> None:
        self._exchanged = 0
        self._told = False

    def note(self, result: Mapping[str, Any]) -> bool:
        """Record a save; returns whether to warn, at most once."""
        symbols, added, removed = result["symbols"], result["added"], result["removed"]
        base = symbols - added + removed
        exchanged = 2 * added > symbols and 2 * removed > base
        self._exchanged = self._exchanged + 1 if exchanged else 0
        if self._told or self._exchanged < _SAVES:
            return False
        self._told = True
        return True
