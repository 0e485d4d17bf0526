"""The periods of the migration, and the rules between them that keep history.

The defaults stand in the SQL file, which runs alone under psql; they are read from there. The rules stand
there as well, for the same reason: a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal, NamedTuple

from snapdelta.errors import MigrationSettingError
from snapdelta.timescale.files import OPTIMIZE, load

CHOICES = {"other_definition": ("refuse", "rename"), "compression_names": ("auto", "old", "new")}
WHOLE_DAYS = ("slots_chunk", "daily_chunk")

_UNITS = {"second": 1, "sec": 1, "minute": 60, "min": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_PERIOD = re.compile(
    r"\s*(?:(?P<count>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]+)|(?P<clock>\d+:\d\d(?::\d\d(?:\.\d+)?)?))\s*"
)
_NONE = timedelta()
# Three days are 71 hours where the clocks are put forward, so a window keeps a day's distance.
SPARE = timedelta(days=1)


class Rule(NamedTuple):
    """`left` must be <= or >= `right` (plus `slack`), or else `reason`."""

    left: str
    operator: Literal["<=", ">="]
    right: str
    slack: timedelta
    reason: str


_CHUNK = "only whole chunks are dropped"
_WINDOW = "the refresh window must cover two buckets"
_REFRESHED = "what is still refreshed must not be compressed"
RULES = (
    Rule("raw_retention", ">=", "minute_refresh_start", SPARE,
         "a refresh that reaches behind the raw rows empties the buckets whose rows are gone"),
    Rule("minute_retention", ">=", "hour_refresh_start", SPARE,
         "a refresh that reaches behind the 1-minute rows empties the hours whose minutes are gone"),
    Rule("minute_refresh_start", ">=", "minute_refresh_end", timedelta(minutes=2), _WINDOW),
    Rule("hour_refresh_start", ">=", "hour_refresh_end", timedelta(hours=2), _WINDOW),
    Rule("hour_refresh_start", ">=", "minute_refresh_start", timedelta(hours=1),
         "a late row that reaches the minutes must reach the hours as well"),
    Rule("raw_chunk", "<=", "raw_retention", _NONE, _CHUNK),
    Rule("slots_chunk", "<=", "slots_retention", _NONE, _CHUNK),
    Rule("daily_chunk", "<=", "daily_retention", _NONE, _CHUNK),
    Rule("minute_chunk", "<=", "minute_retention", _NONE, _CHUNK),
    Rule("hour_chunk", "<=", "hour_retention", _NONE, _CHUNK),
    Rule("raw_compress_after", "<=", "raw_retention", _NONE,
         "rows would be dropped before they are compressed"),
    Rule("minute_compress_after", ">=", "minute_refresh_start", timedelta(minutes=1), _REFRESHED),
    Rule("hour_compress_after", ">=", "hour_refresh_start", timedelta(minutes=1), _REFRESHED),
    Rule("minute_retention", ">=", "raw_retention", _NONE, "the minutes must outlive the raw rows"),
    Rule("hour_retention", ">=", "minute_retention", _NONE, "the hours must outlive the minutes"),
)  # fmt: skip


def parse_period(name: str, text: str) -> timedelta:
    """`3 days`, `1 day 02:00:00`, `90 minutes`. Raises MigrationSettingError naming the setting."""
    total, at = 0.0, 0
    while at < len(text):
        found = _PERIOD.match(text, at)
        unit = (found["unit"] or "").removesuffix("s") if found else ""
        if found is None or (unit and unit not in _UNITS):
            raise MigrationSettingError(
                f"{name} = {text!r} is not a period; "
                "write it in days, hours or minutes, like '3 days' or '2 hours'"
            )
        if found["clock"]:
            parts = [float(part) for part in found["clock"].split(":")]
            total += sum(part * scale for part, scale in zip(parts, (3600, 60, 1), strict=False))
        else:
            total += float(found["count"]) * _UNITS[unit]
        at = found.end()
    if total <= 0:
        raise MigrationSettingError(f"{name} = {text!r} must be longer than nothing")
    return timedelta(seconds=total)


class Settings:
    """The periods of one migration: the file's defaults with `given` over them.

    Raises MigrationSettingError for an unknown name or a text that is no period; `broken_rules` tells
    whether the periods go together.
    """

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self.texts: dict[str, str] = load(OPTIMIZE).values(given or {})
        self.periods: dict[str, timedelta] = {
            name: parse_period(name, text) for name, text in self.texts.items() if name not in CHOICES
        }

    def __getitem__(self, name: str) -> timedelta:
        return self.periods[name]

    def broken_rules(self) -> list[Rule]:
        """The rules that these periods break, in the order in which the SQL checks them."""
        return [
            rule
            for rule in RULES
            if (
                self[rule.left] > self[rule.right]
                if rule.operator == "<="
                else self[rule.left] < self[rule.right] + rule.slack
            )
        ]

    def require_rules(self) -> None:
        """Raises MigrationSettingError with the first broken rule, in the SQL's words."""
        for rule in self.broken_rules():
            slack = f" plus {spell(rule.slack)}" if rule.slack else ""
            raise MigrationSettingError(
                f"{rule.left} ({self.texts[rule.left]}) must be {rule.operator} {rule.right} "
                f"({self.texts[rule.right]}){slack}: {rule.reason}"
            )
        for name in WHOLE_DAYS:
            if self[name] % timedelta(days=1):
                raise MigrationSettingError(
                    f"{name} ({self.texts[name]}) must be whole days, its table is partitioned by a date"
                )
        for name, words in CHOICES.items():
            if self.texts[name] not in words:
                raise MigrationSettingError(f"{name} must be {' or '.join(words)}, not {self.texts[name]}")


def spell(period: timedelta) -> str:
    """A period in words: `3 days`, `2 h 30 min`."""
    if period < _NONE:
        return "-" + spell(-period)
    minutes, seconds = divmod(round(period.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "day" if days == 1 else "days"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0"
