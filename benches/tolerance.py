"""A tolerance for each column of the enriched feed that a screen rounds anyway."""

from __future__ import annotations

from typing import TypeAlias

from snapdelta import Absolute, Relative

_PRICES = (
    *("lastTrade.p", "lastQuote.p", "lastQuote.P", "mid", "market_cap"),
    *(f"{bar}.{price}" for bar in ("day", "min") for price in ("o", "h", "l", "c", "vw")),
)
_VOLUMES = ("day.v", "min.v", "min.av", "rvol", "score", "atr_pct")
_PERCENTS = ("todaysChangePerc", "spread_pct", "from_high", "from_low", "from_vwap", "from_open")

Tolerance: TypeAlias = dict[tuple[str, ...] | str, Absolute | Relative]

TOLERANCE: Tolerance = {
    **dict.fromkeys(_PRICES, Relative(0.001)),
    **dict.fromkeys(_VOLUMES, Relative(0.01)),
    **dict.fromkeys(_PERCENTS, Absolute(0.1)),
    "todaysChange": Absolute(0.01),
    "spread": Absolute(0.01),
}
