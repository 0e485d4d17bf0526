"""The periods of the scanner's tables, and whether they keep the rules between levels.

The SQL file has the defaults, because it also runs alone under psql; this module reads them there. The SQL
file repeats the rules for the same reason; a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

from snapdelta.errors import MigrationSettingError
from snapdelta.timescale.files import OPTIMIZE, load
from snapdelta.timescale.levels import SCANNER, Rule, rules

CHOICES = {"other_definition": ("refuse", "rename"), "compression_names": ("auto", "old", "new")}
WHOLE_DAYS = ("slots_chunk", "daily_chunk")

_UNITS = {"second": 1, "sec": 1, "minute": 60, "min": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_PERIOD = re.compile(
    r"\s*(?:(?P<count>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]+)|(?P<clock>\d+:\d\d(?::\d\d(?:\.\d+)?)?))\s*"
)
_NONE = timedelta()
RULES = tuple(rules(SCANNER))


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
        raise MigrationSettingError(f"{name} = {text!r} must be positive")
    return timedelta(seconds=total)


class Settings:
    """The periods of one migration: the file's defaults with `given` over them.

    Raises a MigrationSettingError for an unknown name, or for a text that is not a period. `broken_rules`
    names the rules between periods that these break.
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
        return [rule for rule in RULES if rule.broken(self.periods)]

    def require_rules(self) -> None:
        """Raises MigrationSettingError with the first broken rule, in the SQL's words."""
        for rule in self.broken_rules():
            raise rule_error(rule, self.texts[rule.left], self.texts[rule.right])
        for name in WHOLE_DAYS:
            if self[name] % timedelta(days=1):
                raise MigrationSettingError(
                    f"{name} ({self.texts[name]}) must be whole days, its table is partitioned by a date"
                )
        for name, words in CHOICES.items():
            if self.texts[name] not in words:
                raise MigrationSettingError(f"{name} must be {' or '.join(words)}, not {self.texts[name]}")


def rule_error(rule: Rule, left: str, right: str) -> MigrationSettingError:
    """The broken rule in the SQL's words, with the texts of both periods."""
    slack = f" plus {spell(rule.slack)}" if rule.slack else ""
    return MigrationSettingError(
        f"{rule.left} ({left}) must be {rule.operator} {rule.right} ({right}){slack}: {rule.reason}"
    )


def spell(period: timedelta) -> str:
    """A period in words: `3 days`, `2 h 30 min`."""
    if period < _NONE:
        return "-" + spell(-period)
    minutes, seconds = divmod(round(period.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "day" if days == 1 else "days"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0"
