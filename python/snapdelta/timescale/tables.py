"""Tables of a settings file: [tool.snapdelta.timescale] of a TOML file, or [timescale] in a separate one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from snapdelta._settings_file import hint, read_table
from snapdelta.errors import MigrationSettingError
from snapdelta.timescale.levels import SCANNER, Level, Refresh, rules
from snapdelta.timescale.settings import Settings, parse_period, rule_error, spell

FUNCTIONS = ("first", "last", "min", "max", "sum", "avg", "count")
NEVER = "never"

# Periods of the scanner's settings that hold for all tables.
SCHEDULES = ("compress_every", "retention_every")
_FILE_KEYS = ("scanner", *SCHEDULES, "tables")
TABLE_KEYS = (
    "time_column", "chunk", "compress_after", "segment_by", "order_by", "drop_after", "convert",
    "aggregates",
)  # fmt: skip
AGGREGATE_KEYS = (
    "bucket", "columns", "group_by", "refresh_start", "refresh_end", "refresh_every", "chunk",
    "compress_after", "segment_by", "order_by", "drop_after",
)  # fmt: skip
_NAME_BYTES = 63  # PostgreSQL cuts longer names without a word
_DAY, _HOUR, _MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


class Order(NamedTuple):
    """One column that compression sorts by."""

    column: str
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class Compression:
    """The columns of a level's compression; without a `compress_after` they are not applied."""

    segment_by: tuple[str, ...]
    order_by: tuple[Order, ...]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A continuous aggregate over a table: a row for each bucket and group, a column for each function.

    `forever`: the file says "never", instead of saying nothing.
    """

    level: Level
    bucket: timedelta
    group_by: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]  # column of the table, function
    compression: Compression
    forever: bool


@dataclass(frozen=True, slots=True)
class Table:
    """One declared table; `declared` is its part of the file.

    `convert`: `up` may lock a large plain table while it moves its rows.
    """

    level: Level
    compression: Compression
    aggregates: tuple[Aggregate, ...]
    forever: bool
    convert: bool
    declared: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of the table."""
        return self.level.name

    def looks_back(self, aggregate: Aggregate, periods: Mapping[str, timedelta]) -> timedelta:
        """How far back to search holes of a filled aggregate.

        It is a week before the refresh window, within the retention.
        """
        assert aggregate.level.refresh is not None
        week = periods[aggregate.level.refresh.start] + 7 * _DAY
        return week if self.level.drop_after is None else min(week, periods[self.level.drop_after])


@dataclass(frozen=True, slots=True)
class Tables:
    """What a settings file declares: its tables, and whether the migration includes the scanner's.

    `settings` are the scanner's periods that the file gives; `periods` those of its tables, by
    `tables.NAME.KEY`.
    """

    tables: tuple[Table, ...] = ()
    scanner: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)
    periods: Mapping[str, timedelta] = field(default_factory=dict)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The level of each table, followed by those of its aggregates."""
        return tuple(
            level
            for table in self.tables
            for level in (table.level, *(aggregate.level for aggregate in table.aggregates))
        )

    def chosen(self, given: Mapping[str, str] | None) -> Settings:
        """The scanner's periods: those of the file with `given` over them.

        Raises MigrationSettingError for a period that no table of the file has.
        """
        for name in given or {}:
            if not self.scanner and name not in SCHEDULES:
                raise MigrationSettingError(
                    f"{name} is a period of the scanner's tables, and the file says scanner = false"
                )
        return Settings({**self.settings, **(given or {})})

    def require_rules(self) -> None:
        """Raises MigrationSettingError with the first rule that the periods break."""
        for rule in rules(self.levels):
            if rule.broken(self.periods):
                left, right = self.periods[rule.left], self.periods[rule.right]
                raise rule_error(rule, spell(left), spell(right))


def load_tables(path: str | Path) -> Tables:
    """Reads the table [tool.snapdelta.timescale], or [timescale], of a TOML file.

    Raises MigrationSettingError that names the file, the table and the key. Rules between periods are checked
    by `plan` and `up`.
    """
    found = read_table(path, "timescale", MigrationSettingError)
    if found is None:
        raise MigrationSettingError(f"{path}: has neither a table [tool.snapdelta.timescale] nor [timescale]")
    declared, table = found
    try:
        return read_tables(declared)
    except MigrationSettingError as error:
        raise MigrationSettingError(f"{path}: [{table}]: {error}") from error


def read_tables(declared: Mapping[str, Any]) -> Tables:
    """The tables of a mapping in the file's form. A MigrationSettingError names the table and the key."""
    if not isinstance(declared, Mapping):
        raise MigrationSettingError(f"must be a table, not {declared!r}")
    _known(declared, _FILE_KEYS, "")
    scanner = declared.get("scanner", True)
    if not isinstance(scanner, bool) and not (
        isinstance(scanner, Mapping) and all(isinstance(text, str) for text in scanner.values())
    ):
        raise MigrationSettingError(f"scanner must be false, or a table of periods, not {scanner!r}")
    reader = _Reader()
    tables = tuple(reader.table(name, part) for name, part in _tables(declared.get("tables", {}), "tables"))
    settings = dict(scanner) if isinstance(scanner, Mapping) else {}
    for key in SCHEDULES:
        if key in declared:
            parse_period(key, str(declared[key]))
            settings[key] = str(declared[key])
    return Tables(tables, scanner is not False, settings, reader.periods)


@dataclass(slots=True)
class _Reader:
    """Reads one file; a name of a relation occurs once in it."""

    periods: dict[str, timedelta] = field(default_factory=dict)
    taken: set[str] = field(default_factory=lambda: {level.name for level in SCANNER})

    def table(self, name: str, part: Mapping[str, Any]) -> Table:
        at = f"tables.{_key(name)}"
        self._take(name, at)
        _known(part, TABLE_KEYS, at)
        time_column = _name(part.get("time_column", "time"), f"{at}.time_column")
        segment_by = _names(part.get("segment_by", []), f"{at}.segment_by")
        level = Level(
            name,
            time_column,
            self._period(at, "chunk", part.get("chunk", "1 day")),
            self._optional(at, "compress_after", part),
            self._optional(at, "drop_after", part, NEVER),
        )
        compression = _compression(part, at, segment_by, time_column)
        aggregates = tuple(
            self.aggregate(called, inner, at, level, segment_by)
            for called, inner in _tables(part.get("aggregates", {}), f"{at}.aggregates")
        )
        convert = part.get("convert", False)
        if not isinstance(convert, bool):
            raise MigrationSettingError(f"{at}.convert must be true or false, not {convert!r}")
        return Table(level, compression, aggregates, part.get("drop_after") == NEVER, convert, part)

    def aggregate(
        self, name: str, part: Mapping[str, Any], above: str, table: Level, segment_by: tuple[str, ...]
    ) -> Aggregate:
        at = f"{above}.aggregates.{_key(name)}"
        self._take(name, at)
        _known(part, AGGREGATE_KEYS, at)
        for key in ("bucket", "columns"):
            if key not in part:
                raise MigrationSettingError(f"{at} needs the key {key!r}")
        bucket = self.periods[self._period(at, "bucket", part["bucket"])]
        group_by = _names(part.get("group_by", list(segment_by)), f"{at}.group_by")
        columns = tuple(_columns(part["columns"], f"{at}.columns"))
        _distinct(
            ["bucket", *group_by, *(f"{column}_{function}" for column, function in columns), "sample_count"],
            at,
        )
        defaults = {
            "refresh_start": max(2 * _DAY, 4 * bucket),
            "refresh_end": bucket,
            "refresh_every": min(max(bucket, _MINUTE * 5), _HOUR),
            "chunk": _DAY if bucket < _HOUR else 7 * _DAY if bucket < _DAY else 30 * bucket,
        }
        names = {
            key: self._period(at, key, part.get(key, f"{round(period.total_seconds())} seconds"))
            for key, period in defaults.items()
        }
        level = Level(
            name,
            "bucket",
            names["chunk"],
            self._optional(at, "compress_after", part),
            self._optional(at, "drop_after", part, NEVER),
            Refresh(table.name, bucket, names["refresh_start"], names["refresh_end"], names["refresh_every"]),
        )
        if self.periods[level.chunk] < bucket:
            raise MigrationSettingError(f"{level.chunk} must be at least the bucket ({spell(bucket)})")
        shown = _names(part.get("segment_by", list(group_by)), f"{at}.segment_by")
        compression = _compression(part, at, shown, "bucket")
        for column in (*shown, *(order.column for order in compression.order_by)):
            if column != "bucket" and column not in group_by:
                raise MigrationSettingError(
                    f"{at}: segment_by and order_by must name columns of group_by; {column!r} is not one"
                )
        return Aggregate(level, bucket, group_by, columns, compression, part.get("drop_after") == NEVER)

    def _take(self, name: str, at: str) -> None:
        _name(name, at)
        if name in self.taken:
            scanner = name in {level.name for level in SCANNER}
            why = "is a scanner table: its periods are settings" if scanner else "is declared twice"
            raise MigrationSettingError(f"{at}: {name!r} {why}")
        if name.startswith("snapdelta_"):
            raise MigrationSettingError(f"{at}: names that begin with snapdelta_ are reserved")
        self.taken.add(name)

    def _period(self, at: str, key: str, text: Any) -> str:
        name = f"{at}.{key}"
        if not isinstance(text, str):
            raise MigrationSettingError(f"{name} must be a period like '3 days', not {text!r}")
        self.periods[name] = parse_period(name, text)
        return name

    def _optional(self, at: str, key: str, part: Mapping[str, Any], none: str | None = None) -> str | None:
        text = part.get(key)
        return None if text is None or text == none else self._period(at, key, text)


def buckets_per_batch(chunk: timedelta, bucket: timedelta) -> int:
    """How many buckets a refresh computes in one transaction: those of a chunk."""
    return max(1, ceil(chunk / bucket))


def _key(name: str) -> str:
    """A name as TOML spells it in a dotted key."""
    return name if re.fullmatch(r"[\w-]+", name) else json.dumps(name, ensure_ascii=False)


def _tables(found: Any, at: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(found, Mapping):
        raise MigrationSettingError(f"{at} must be a table of tables, not {found!r}")
    for name, part in found.items():
        if not isinstance(part, Mapping):
            raise MigrationSettingError(f"{at}.{name} must be a table, not {part!r}")
        yield name, part


def _known(part: Mapping[str, Any], known: Sequence[str], at: str) -> None:
    for key in part:
        if key not in known:
            raise MigrationSettingError(f"{at}{': ' if at else ''}unknown key {key!r}; {hint(key, known)}")


def _name(name: Any, at: str) -> str:
    if not isinstance(name, str) or not name or "\0" in name:
        raise MigrationSettingError(f"{at} must be a name, not {name!r}")
    if len(name.encode()) > _NAME_BYTES:
        raise MigrationSettingError(f"{at}: the name {name!r} is longer than {_NAME_BYTES} bytes")
    return name


def _names(found: Any, at: str) -> tuple[str, ...]:
    if isinstance(found, str) or not isinstance(found, Sequence):
        raise MigrationSettingError(f"{at} must be a list of columns, not {found!r}")
    names = [_name(name, at) for name in found]
    _distinct(names, at)
    return tuple(names)


def _distinct(names: Sequence[str], at: str) -> None:
    for name in names:
        _name(name, at)
        if names.count(name) > 1:
            raise MigrationSettingError(f"{at}: the column {name!r} is named twice")


def _columns(found: Any, at: str) -> Iterator[tuple[str, str]]:
    if not isinstance(found, Mapping):
        raise MigrationSettingError(f"{at} must be a table of columns and functions, not {found!r}")
    for column, functions in found.items():
        _name(column, at)
        if not isinstance(functions, str | list) or not functions:
            raise MigrationSettingError(f"{at}.{column} must be a list of functions, not {functions!r}")
        for function in [functions] if isinstance(functions, str) else functions:
            if function not in FUNCTIONS:
                raise MigrationSettingError(
                    f"{at}.{column}: {function!r} is not a function; known are {', '.join(FUNCTIONS)}"
                )
            yield column, function


def _compression(part: Mapping[str, Any], at: str, segment_by: tuple[str, ...], time: str) -> Compression:
    """The declared columns; the time is always the last that rows are sorted by, the newest first."""
    found = part.get("order_by", [])
    if not isinstance(found, list):
        raise MigrationSettingError(f"{at}.order_by must be a list like ['time DESC'], not {found!r}")
    order = [_order(text, f"{at}.order_by") for text in found]
    if time not in [item.column for item in order]:
        order.append(Order(time, descending=True, nulls_first=True))
    _distinct([*segment_by, *(item.column for item in order)], f"{at}: segment_by and order_by")
    for key in ("segment_by", "order_by"):
        # A table's segment_by is also what its aggregates are grouped by.
        if key in part and "compress_after" not in part and not part.get("aggregates"):
            raise MigrationSettingError(f"{at}.{key} needs compress_after")
    return Compression(segment_by, tuple(order))


def _order(text: Any, at: str) -> Order:
    """`column [ASC|DESC] [NULLS FIRST|LAST]`; nulls are where PostgreSQL has them: last, with DESC first."""
    if not isinstance(text, str) or not text.strip():
        raise MigrationSettingError(f"{at} must be a list like ['time DESC'], not {text!r}")
    words = text.split()
    nulls: bool | None = None
    if len(words) > 2 and words[-2].upper() == "NULLS" and words[-1].upper() in ("FIRST", "LAST"):
        nulls = words[-1].upper() == "FIRST"
        words = words[:-2]
    descending = len(words) > 1 and words[-1].upper() == "DESC"
    if len(words) > 1 and words[-1].upper() in ("ASC", "DESC"):
        words = words[:-1]
    return Order(_name(" ".join(words), at), descending, descending if nulls is None else nulls)
