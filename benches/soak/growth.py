"""Growth an hour of a series of samples, with its confidence interval, and what it projects to."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import linear_regression, mean

# Hours of market time that are no part of it: history, streams and caches fill up.
WARM_UP = 0.25
# Samples that follow each other are alike. The means of blocks are nearly independent.
_BLOCKS = 12
# The factor of a two-sided interval of 95 % for a slope over 12 values (t, 10 degrees of freedom).
_T = 2.228


@dataclass(frozen=True)
class Growth:
    """Units an hour; the true value lies within `margin` of it, with a confidence of 95 %."""

    an_hour: float
    margin: float

    @property
    def is_none(self) -> bool:
        """Whether no growth at all, or less than none, is within the interval."""
        return self.an_hour <= self.margin

    def after(self, start: float, hours: float) -> float:
        """Where it leads from `start`; growth that cannot be told from none leads nowhere."""
        return start if self.is_none else start + self.an_hour * hours


def growth(hours: list[float], values: list[float], warm_up: float = WARM_UP) -> Growth | None:
    """None when there are fewer than two samples a block after the warm-up."""
    steady = [(hour, value) for hour, value in zip(hours, values, strict=True) if hour > warm_up]
    size = len(steady) // _BLOCKS
    if size < 2:
        return None
    # The newest samples; a rest that fills no block is left out at the beginning.
    steady = steady[-_BLOCKS * size :]
    blocks = [steady[begin : begin + size] for begin in range(0, len(steady), size)]
    x = [mean(hour for hour, _ in block) for block in blocks]
    y = [mean(value for _, value in block) for block in blocks]
    slope, intercept = linear_regression(x, y)
    middle = mean(x)
    squares = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    spread = sum((a - middle) ** 2 for a in x)
    return Growth(slope, _T * (squares / (_BLOCKS - 2) / spread) ** 0.5)
