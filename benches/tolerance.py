"""Tolerances of the enriched feed, where no other column is computed from the column: times, sizes."""

from __future__ import annotations

from typing import TypeAlias

from snapdelta import Absolute, Relative

Tolerance: TypeAlias = dict[str, Absolute | Relative]

# In nanoseconds.
MINUTE = 60e9
TOLERANCE: Tolerance = {
    **dict.fromkeys(("updated", "lastQuote.t", "lastTrade.t"), Absolute(MINUTE)),
    **dict.fromkeys(("lastQuote.s", "lastQuote.S", "min.n"), Absolute(5)),
    "lastTrade.s": Absolute(1_000),
    "min.vw": Relative(0.001),
    "atr_pct": Relative(0.01),
}
