"""What a writer with a tolerance publishes, in plain Python."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Any

from snapdelta import Absolute, Relative
from support.assert_exact import same

Snapshot = dict[str, Any]
Tolerances = dict[tuple[str, ...], Absolute | Relative]
_MISSING = object()


class PublishedModel:
    """The state that readers have, by what the writer was given."""

    def __init__(self, tolerances: Tolerances, state: Snapshot | None = None) -> None:
        self.tolerances = tolerances
        self.state: Snapshot = {} if state is None else state
        self.held_cells = 0

    def capture(self, snapshot: Snapshot) -> Snapshot:
        """A whole snapshot; the state that is published, `held_cells` of it with an older number."""
        self.held_cells = 0
        self.state = {
            symbol: self._value((), self.state.get(symbol, _MISSING), record)
            for symbol, record in snapshot.items()
        }
        return self.state

    def update(self, changes: Snapshot, removed: list[str]) -> Snapshot:
        after = {symbol: record for symbol, record in self.state.items() if symbol not in removed}
        return self.capture(after | changes)

    def _value(self, path: tuple[str, ...], old: Any, new: Any) -> Any:
        if isinstance(new, dict) and new:
            olds = old if isinstance(old, dict) else {}
            return {
                key: self._value((*path, key), olds.get(key, _MISSING), value) for key, value in new.items()
            }
        tolerance = self.tolerances.get(path)
        if tolerance is None or old is _MISSING or same(old, new) or not is_within(tolerance, old, new):
            return new
        self.held_cells += 1
        return old


def is_within(tolerance: Absolute | Relative, published: Any, new: Any) -> bool:
    if type(published) is not type(new):
        return False

    def bound(value: float) -> float:
        return tolerance.amount if isinstance(tolerance, Absolute) else tolerance.ratio * abs(value)

    if type(new) is float:
        distance = abs(new - published)
        return isfinite(distance) and distance <= bound(published)
    if type(new) is int:
        small = all(-(2**63) <= number < 2**63 for number in (new, published))
        return small and abs(new - published) <= bound(float(published))
    if type(new) is Decimal and new.is_finite() and published.is_finite():
        return float(abs(Fraction(new) - Fraction(published))) <= bound(float(published))
    return False
