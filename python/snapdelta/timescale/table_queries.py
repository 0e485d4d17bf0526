"""The SQL of declared tables: queries of the catalog, and statements that contain names.

Names of tables and columns come from a settings file: they get into SQL as quoted identifiers or parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from snapdelta.timescale.files import OPTIMIZE, load
from snapdelta.timescale.settings import Settings
from snapdelta.timescale.tables import SCHEDULES, Aggregate, Compression, Order, Table

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

# A table's record in snapdelta_migrations is under this and its name.
RECORD = "table "
# From when to when, both whole buckets.
Stretch = tuple[datetime, datetime]

_STORED = """
    SELECT coalesce(
        (SELECT format('%%I.%%I', materialization_hypertable_schema, materialization_hypertable_name)
         FROM timescaledb_information.continuous_aggregates
         WHERE view_schema = current_schema() AND view_name = %(name)s),
        to_regclass(format('%%I.%%I', current_schema(), %(name)s::text))::text)"""

SETTINGS_COLUMNS = (
    "attname", "segmentby_column_index", "orderby_column_index", "orderby_asc", "orderby_nullsfirst",
)  # fmt: skip
_COMPRESSION = f"""
    SELECT {", ".join(SETTINGS_COLUMNS)} FROM timescaledb_information.compression_settings
    WHERE to_regclass(format('%%I.%%I', hypertable_schema, hypertable_name)) = %s::text::regclass"""


class Relation(NamedTuple):
    """An argument of a function: the relation of that name in the current schema."""

    name: str


class Hypertable(NamedTuple):
    """An argument of a function: the hypertable behind the aggregate of that name."""

    aggregate: str


def prepare(connection: psycopg.Connection, settings: Settings, aggregates: Sequence[str] = ()) -> None:
    """Makes the temporary functions of the migration's SQL in this session.

    `aggregates` are those of a settings file, whose refreshes a backfill holds back.
    """
    wanted = ("CREATE OR REPLACE FUNCTION pg_temp.", "CREATE OR REPLACE PROCEDURE pg_temp.",
              "SELECT set_config('snapdelta.settings'")  # fmt: skip
    for name in (OPTIMIZE, f"{OPTIMIZE}.down"):
        for statement in load(name).statements:
            text = statement.render(settings.texts)
            if text.startswith(wanted):
                connection.execute(text.encode())
    connection.execute(
        "SELECT set_config('snapdelta.aggregates', %s::text[]::text, false)", (list(aggregates),)
    )


def patient(connection: psycopg.Connection) -> None:
    """For a session that changes tables: it has the time of the SQL files, and the server's notices."""
    for setting in ("client_min_messages = notice", "lock_timeout = '60s'", "statement_timeout = 0"):
        connection.execute(f"SET {setting}".encode())


class Recorded(NamedTuple):
    """A table that was applied, or begun, and not reverted: as the file said it, and its schedules."""

    name: str
    applied_at: datetime | None
    declared: Mapping[str, Any]
    schedules: Mapping[str, str]


def recorded(connection: psycopg.Connection) -> list[Recorded]:
    """The records of tables, by name."""
    (present,) = row(
        connection, "SELECT to_regclass(format('%I.snapdelta_migrations', current_schema())) IS NOT NULL"
    )
    if not present:
        return []
    rows = connection.execute(
        "SELECT substr(name, %s), applied_at, settings FROM snapdelta_migrations"
        " WHERE name LIKE %s AND before IS NOT NULL ORDER BY name",
        (len(RECORD) + 1, RECORD + "%"),
    )
    return [
        Recorded(name, applied_at, json.loads(kept["declared"]), {key: kept[key] for key in SCHEDULES})
        for name, applied_at, kept in rows
    ]


def scanner_begun(connection: psycopg.Connection) -> bool:
    """Whether the migration of the scanner's tables has something to revert."""
    found = connection.execute(
        "SELECT 1 FROM snapdelta_migrations WHERE name = %s AND before IS NOT NULL", (OPTIMIZE,)
    ).fetchone()
    return found is not None


def row(connection: psycopg.Connection, query: str | sql.Composed, parameters: Any = None) -> tuple[Any, ...]:
    """The single row that a query returns."""
    sent = query.encode() if isinstance(query, str) else query
    found = connection.execute(sent, parameters).fetchone()
    assert found is not None
    return found


def call(connection: psycopg.Connection, function: str, *arguments: object) -> None:
    """One of the temporary functions of `prepare`, for what it does."""
    from psycopg import sql

    places: list[sql.Composable] = []
    values: list[object] = []
    for argument in arguments:
        match argument:
            case Relation(name):
                places.append(sql.SQL("pg_temp.relation(%s)"))
                values.append(name)
            case Hypertable(name):
                places.append(sql.SQL("pg_temp.hypertable_of(%s)"))
                values.append(name)
            case _:
                places.append(sql.SQL("%s"))
                values.append(argument)
    statement = sql.SQL("SELECT pg_temp.{}({})").format(sql.Identifier(function), sql.SQL(", ").join(places))
    connection.execute(statement, values)


def stored(connection: psycopg.Connection, name: str) -> str | None:
    """What holds the rows of a table or an aggregate, for `::regclass`; None where there is none."""
    (found,) = row(connection, _STORED, {"name": name})
    return None if found is None else str(found)


def query(schema: str, table: Table, aggregate: Aggregate) -> sql.Composed:
    """The SELECT of an aggregate."""
    from psycopg import sql

    time = sql.Identifier(table.level.time_column)
    parts: list[sql.Composable] = [
        sql.SQL("time_bucket({}, {}) AS bucket").format(sql.Literal(aggregate.bucket), time)
    ]
    parts += [sql.Identifier(name) for name in aggregate.group_by]
    for column, function in aggregate.columns:
        arguments = sql.SQL("{}, {}" if function in ("first", "last") else "{}").format(
            sql.Identifier(column), time
        )
        name = sql.Identifier(f"{column}_{function}")
        parts.append(sql.SQL("{}({}) AS {}").format(sql.SQL(function), arguments, name))
    parts.append(sql.SQL("count(*) AS sample_count"))
    groups = sql.SQL(", ").join(sql.SQL(str(1 + at)) for at in range(1 + len(aggregate.group_by)))
    return sql.SQL("SELECT {} FROM {} GROUP BY {}").format(
        sql.SQL(", ").join(parts), sql.Identifier(schema, table.name), groups
    )


def schema_of(connection: psycopg.Connection) -> str:
    """The schema that the tables are in."""
    return str(row(connection, "SELECT current_schema()")[0])


def other_definition(connection: psycopg.Connection, table: Table, aggregate: Aggregate) -> bool:
    """Whether the existing aggregate of that name has another query. Needs `prepare`."""
    wanted = query(schema_of(connection), table, aggregate).as_string(connection)
    (differs,) = row(
        connection,
        "SELECT pg_temp.differs(view_definition, %s) FROM timescaledb_information.continuous_aggregates"
        " WHERE view_schema = current_schema() AND view_name = %s",
        (wanted, aggregate.level.name),
    )
    return bool(differs)


def missing(
    connection: psycopg.Connection,
    table: Table,
    aggregate: Aggregate,
    kept_for: timedelta | None,
    start: datetime,
    end: datetime,
) -> list[Stretch]:
    """Stretches of whole buckets between `start` and `end` that lack rows of the table. Needs `prepare`.

    `kept_for` is how long the aggregate keeps its rows: older ones may be missing.
    """
    from psycopg import sql

    (hypertable,) = row(connection, _STORED, {"name": aggregate.level.name})
    start, end = row(
        connection,
        "SELECT time_bucket(%(bucket)s, %(start)s::timestamptz + %(bucket)s - interval '1 microsecond'),"
        " time_bucket(%(bucket)s, %(end)s::timestamptz)",
        {"bucket": aggregate.bucket, "start": start, "end": end},
    )
    time = sql.Identifier(table.level.time_column)
    keys = [f"k{at}" for at in range(len(aggregate.group_by))]
    columns = sql.SQL("").join(
        sql.SQL(", {} AS {}").format(sql.Identifier(name), sql.Identifier(key))
        for name, key in zip(aggregate.group_by, keys, strict=True)
    )
    groups = sql.SQL(", ").join(sql.SQL(str(1 + at)) for at in range(1 + len(keys)))
    source = sql.SQL(
        "SELECT time_bucket({bucket}, {time}) AS bucket{columns}, count(*) AS samples FROM {table}"
        " WHERE {time} >= {start}::timestamptz AND {time} < {end}::timestamptz GROUP BY {groups}"
    ).format(
        bucket=sql.Literal(aggregate.bucket), time=time, columns=columns, groups=groups,
        table=sql.Identifier(schema_of(connection), table.name),
        start=sql.Literal(start.isoformat()), end=sql.Literal(end.isoformat()),
    )  # fmt: skip
    # `hypertable` is the server's own spelling of a name, quoted where it must be.
    kept = sql.SQL(
        "SELECT bucket{columns}, sum(sample_count) AS samples FROM {hypertable}"
        " WHERE bucket >= {start}::timestamptz AND bucket < {end}::timestamptz GROUP BY {groups}"
    ).format(
        columns=columns, groups=groups, hypertable=sql.SQL(hypertable),
        start=sql.Literal(start.isoformat()), end=sql.Literal(end.isoformat()),
    )  # fmt: skip
    rows = connection.execute(
        "SELECT * FROM pg_temp.missing_in(%s, %s, %s::text[], %s,"
        " greatest(pg_temp.rows_complete_since(pg_temp.relation(%s), %s, 'drop_after'),"
        " now() - %s::interval))",
        (
            source.as_string(connection), kept.as_string(connection), keys, aggregate.bucket,
            table.name, RECORD + table.name, kept_for,
        ),
    )  # fmt: skip
    return [(since, until) for since, until in rows]


def compression_columns(connection: psycopg.Connection, hypertable: str) -> Compression | None:
    """What a hypertable is compressed by; None: compression is not enabled."""
    found = connection.execute(_COMPRESSION.encode(), (hypertable,)).fetchall()
    return compression_from(found) if found else None


def compression_from(rows: Sequence[tuple[Any, ...]]) -> Compression:
    """What rows of SETTINGS_COLUMNS say together."""
    segments = sorted((number, name) for name, number, *_ in rows if number is not None)
    orders = sorted(
        (number, Order(name, not ascending, bool(nulls_first)))
        for name, _, number, ascending, nulls_first in rows
        if number is not None
    )
    return Compression(tuple(name for _, name in segments), tuple(order for _, order in orders))


def set_compression(
    connection: psycopg.Connection, name: str, aggregate: bool, wanted: Compression | None
) -> None:
    """Enables compression by these columns, for chunks that are compressed from now on; None disables it.

    Needs `prepare`.
    """
    from psycopg import sql

    (columnstore,) = row(connection, "SELECT pg_temp.columnstore()")
    prefix = "" if columnstore else "compress_"
    enable = sql.SQL("timescaledb.enable_columnstore" if columnstore else "timescaledb.compress")
    options: list[sql.Composable] = [
        sql.SQL("{} = {}").format(enable, sql.SQL("false" if wanted is None else "true"))
    ]
    if wanted is not None:
        segments = sql.SQL(", ").join(map(sql.Identifier, wanted.segment_by))
        orders = sql.SQL(", ").join(
            sql.SQL("{} {} NULLS {}").format(
                sql.Identifier(order.column),
                sql.SQL("DESC" if order.descending else "ASC"),
                sql.SQL("FIRST" if order.nulls_first else "LAST"),
            )
            for order in wanted.order_by
        )
        for key, columns in (("segmentby", segments), ("orderby", orders)):
            value = sql.Literal(columns.as_string(connection))
            options.append(sql.SQL("timescaledb.{} = {}").format(sql.SQL(prefix + key), value))
    connection.execute(
        sql.SQL("ALTER {} {} SET ({})").format(
            sql.SQL("MATERIALIZED VIEW" if aggregate else "TABLE"),
            sql.Identifier(schema_of(connection), name),
            sql.SQL(", ").join(options),
        )
    )
