"""The migration's levels, one for each hypertable, and the rules between their periods.

A level names its periods; their values come from the settings or a settings file. So the scanner's
tables and those of a file share one arithmetic, one application of policies and one verification.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, NamedTuple

RETENTION, COMPRESSION = "policy_retention", "policy_compression"
REFRESH = "policy_refresh_continuous_aggregate"
# In the order in which they can be made: TimescaleDB compresses no aggregate that nothing refreshes.
PROCEDURES = (REFRESH, COMPRESSION, RETENTION)

# Three days are 71 hours where the clocks are put forward, so a window keeps a day's distance.
SPARE = timedelta(days=1)
_NONE = timedelta()
_EMPTIED = "a refresh that reaches behind the rows below empties the buckets whose rows are gone"


@dataclass(frozen=True, slots=True)
class Refresh:
    """How an aggregate follows the level `below`: names of its periods, and the width of its buckets."""

    below: str
    bucket: timedelta
    start: str
    end: str
    every: str


@dataclass(frozen=True, slots=True)
class Level:
    """One hypertable: a table, or an aggregate (`refresh`).

    Its periods by name; None: there is no such policy.
    """

    name: str
    time_column: str
    chunk: str
    compress_after: str | None
    drop_after: str | None
    refresh: Refresh | None = None
    compress_every: str = "compress_every"
    drop_every: str = "retention_every"

    def policies(self) -> Iterator[Policy]:
        """The declared policies, in the order of their creation."""
        if self.refresh is not None:
            refresh = self.refresh
            keys = {"start_offset": refresh.start, "end_offset": refresh.end}
            yield Policy(self.name, REFRESH, keys, refresh.every)
        if self.compress_after is not None:
            yield Policy(self.name, COMPRESSION, {"compress_after": self.compress_after}, self.compress_every)
        if self.drop_after is not None:
            yield Policy(self.name, RETENTION, {"drop_after": self.drop_after}, self.drop_every)


class Policy(NamedTuple):
    """A job of a level: the periods of its configuration, and its schedule, by name."""

    level: str
    procedure: str
    keys: Mapping[str, str]
    every: str


class Rule(NamedTuple):
    """`left` must be <= or >= `right` (plus `slack`), or else `reason`."""

    left: str
    operator: Literal["<=", ">="]
    right: str
    slack: timedelta
    reason: str

    def broken(self, periods: Mapping[str, timedelta]) -> bool:
        """Whether these periods break the rule."""
        left, right = periods[self.left], periods[self.right]
        return left > right if self.operator == "<=" else left < right + self.slack


def rules(levels: Iterable[Level]) -> Iterator[Rule]:
    """The rules that keep history, by kind. Periods that no level names have no rule."""
    known = {level.name: level for level in levels}
    refreshed = [
        (level, level.refresh, known[level.refresh.below]) for level in known.values() if level.refresh
    ]
    for _, refresh, below in refreshed:
        if below.drop_after is not None:
            yield Rule(below.drop_after, ">=", refresh.start, SPARE, _EMPTIED)
    for _, refresh, _ in refreshed:
        yield Rule(
            refresh.start, ">=", refresh.end, 2 * refresh.bucket, "the refresh window must cover two buckets"
        )
    for _, refresh, below in refreshed:
        if below.refresh is not None:
            yield Rule(refresh.start, ">=", below.refresh.start, refresh.bucket,
                       "a late row that reaches the level below must reach this one as well")  # fmt: skip
    for level in known.values():
        if level.drop_after is not None:
            yield Rule(level.chunk, "<=", level.drop_after, _NONE, "only whole chunks are dropped")
    for level in known.values():
        if level.refresh is None and level.compress_after is not None and level.drop_after is not None:
            yield Rule(level.compress_after, "<=", level.drop_after, _NONE,
                       "rows would be dropped before they are compressed")  # fmt: skip
    for level, refresh, _ in refreshed:
        if level.compress_after is not None:
            yield Rule(level.compress_after, ">=", refresh.start, timedelta(minutes=1),
                       "what is still refreshed must not be compressed")  # fmt: skip
    for level, refresh, below in refreshed:
        if level.drop_after is not None and below.drop_after is not None:
            yield Rule(
                level.drop_after,
                ">=",
                below.drop_after,
                _NONE,
                "an aggregate must outlive what it is made of",
            )
        elif level.drop_after is not None:
            yield Rule(
                level.drop_after, ">=", refresh.start, SPARE, "a refresh would bring dropped buckets back"
            )


def _scanner(
    name: str, prefix: str, time_column: str, below: str | None = None, bucket: timedelta = _NONE
) -> Level:
    names = [f"{prefix}_refresh_{part}" for part in ("start", "end", "every")]
    return Level(
        name,
        time_column,
        f"{prefix}_chunk",
        None if prefix in ("slots", "daily") else f"{prefix}_compress_after",
        f"{prefix}_retention",
        None if below is None else Refresh(below, bucket, *names),
    )


SCANNER = (
    _scanner("scan_results", "raw", "time"),
    _scanner("volume_slots", "slots", "date"),
    _scanner("market_data_daily", "daily", "trading_date"),
    _scanner("scan_results_1min", "minute", "bucket", "scan_results", timedelta(minutes=1)),
    _scanner("scan_results_1hour", "hour", "bucket", "scan_results_1min", timedelta(hours=1)),
)
