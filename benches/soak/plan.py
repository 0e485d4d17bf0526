"""What a soak plays, and at which pace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from benches.wide import feed as wide_feed
from snapdelta.testing.feed import Feed

Records = dict[str, Any]
Kind = Literal["cadence", "fast"]

# Seconds of market time between two frames.
INTERVAL = 5.0
DAY_FRAMES = 17_280
FULL_MARKET = 11_905
# The six lists: the field that each is ranked by, and its rows in the full market.
_LISTS = {
    "score": 500,
    "todaysChangePerc": 300,
    "rvol": 200,
    "from_high": 100,
    "spread_pct": 50,
    "market_cap": 20,
}
_FEWEST_ROWS = 20
_SAMPLES = 240
# One of the full market takes seconds.
_CHECKS = {"cadence": 6, "fast": 24}


class SoakError(Exception):
    """A read that differs, a process that failed or is silent, or a plan that cannot be played."""


@dataclass(frozen=True)
class Plan:
    """One run.

    kind     cadence: a frame every 5 s; fast: as fast as they go, with the market's clock injected
    frames   at most
    symbols  of the market
    fields   None: the enriched feed; else records of so many numbers, of which 6 in 100 change a frame
    minutes  of real time, after which a fast run stops; None: it plays all frames
    """

    kind: Kind
    frames: int
    symbols: int = FULL_MARKET
    fields: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.frames < 2 or self.symbols < _FEWEST_ROWS:
            raise SoakError(f"a soak needs 2 frames and {_FEWEST_ROWS} symbols or more")
        if self.fields is not None and self.fields < len(_LISTS):
            raise SoakError(f"fields: {self.fields}; the lists need {len(_LISTS)} or more")

    def feed(self) -> Iterator[Records]:
        """The frames; a frame is to be used before the next one is asked for."""
        if self.fields is None:
            return Feed("enriched", symbols=self.symbols)
        return wide_feed(self.symbols, self.fields)

    def lists(self, market: Records) -> dict[str, Records]:
        """The six ranking lists of a frame, by name: in a smaller market they are shorter."""
        lists = {}
        for number, (field, rows) in enumerate(_LISTS.items()):
            by = field if self.fields is None else f"field_{number}"
            ranked = sorted(market.items(), key=lambda item, by=by: -(item[1][by] or 0))  # type: ignore[misc]
            lists[field] = dict(ranked[: max(_FEWEST_ROWS, rows * self.symbols // FULL_MARKET)])
        return lists

    @property
    def seconds(self) -> float:
        """Of real time, after which the run stops; the cadence sets its own."""
        return self.minutes * 60 if self.kind == "fast" and self.minutes is not None else math.inf

    @property
    def frames_a_check(self) -> int:
        return max(1, self.frames // _CHECKS[self.kind])

    @property
    def frames_a_sample(self) -> int:
        return 1 if self.kind == "cadence" else max(1, self.frames // _SAMPLES)

    @property
    def frames_a_read(self) -> int:
        """A fast run's readers read once a minute of market time."""
        return 1 if self.kind == "cadence" else 12
