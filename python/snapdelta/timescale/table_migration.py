"""Applies the tables of a settings file, with the functions of the migration's own SQL.

The row `table NAME` of snapdelta_migrations records each table: its declaration, and its earlier state.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from snapdelta.errors import MigrationError
from snapdelta.timescale.connection import Notify, explained
from snapdelta.timescale.levels import PROCEDURES, REFRESH, RETENTION, SCANNER, Level, Policy
from snapdelta.timescale.settings import Settings, spell
from snapdelta.timescale.table_queries import (
    RECORD,
    Hypertable,
    Relation,
    Stretch,
    call,
    compression_columns,
    missing,
    other_definition,
    patient,
    prepare,
    query,
    row,
    schema_of,
    set_compression,
    stored,
)
from snapdelta.timescale.tables import SCHEDULES, Aggregate, Compression, Table, Tables, buckets_per_batch

if TYPE_CHECKING:
    import psycopg

_DAY = timedelta(days=1)
# Measured: 1.5 million rows in 18 s. Up to a minute of it needs no word in the file.
_MOVED_PER_SECOND = 80_000
_LONG_MOVE = timedelta(minutes=1)
_TIMES = ("timestamp with time zone", "timestamp without time zone", "date")

_BEFORE = """
    SELECT jsonb_build_object(
        'existed', true,
        'chunk', (
            SELECT d.time_interval FROM timescaledb_information.dimensions d
            WHERE to_regclass(format('%%I.%%I', d.hypertable_schema, d.hypertable_name)) = h
              AND d.dimension_number = 1),
        'policies', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'procedure', j.proc_name, 'every', j.schedule_interval, 'scheduled', j.scheduled,
                'config', j.config) ORDER BY number), '[]')
            FROM unnest(%(procedures)s::text[]) WITH ORDINALITY AS t (p, number), pg_temp.jobs_on(h, p) AS j),
        'compression', (
            SELECT coalesce(jsonb_agg(to_jsonb(s) - 'hypertable_schema' - 'hypertable_name'), '[]')
            FROM timescaledb_information.compression_settings s
            WHERE to_regclass(format('%%I.%%I', s.hypertable_schema, s.hypertable_name)) = h))
    FROM (SELECT %(hypertable)s::text::regclass AS h) AS t"""


def apply_tables(
    connection: psycopg.Connection, tables: Tables, settings: Settings, notify: Notify | None = None
) -> None:
    """Applies the declaration of each table; checks every table before the first change.

    Raises MigrationError, and MigrationLockedError while another migration runs.
    """
    periods = {**settings.periods, **tables.periods}
    names = [level.name for level in tables.levels if level.refresh is not None]
    # The jobs of the scanner's tables start in the minutes before.
    minutes = count(2 + sum(len(list(level.policies())) for level in SCANNER) if tables.scanner else 2)
    with explained("the tables of the settings file"):
        patient(connection)
        prepare(connection, settings, names)
        call(connection, "one_at_a_time")
        call(connection, "require_timescale")
        migrations = [_Migration(connection, table, periods, minutes, notify) for table in tables.tables]
        for migration in migrations:
            migration.require()
        for migration in migrations:
            with explained(f"table {migration.table.name}"):
                migration.run()
        connection.execute("SELECT pg_advisory_unlock(hashtext('snapdelta migration'))")


class _Migration:
    """One table on its way to what is declared; `minutes` spreads the first starts of all jobs."""

    def __init__(
        self,
        connection: psycopg.Connection,
        table: Table,
        periods: Mapping[str, timedelta],
        minutes: Iterator[int],
        notify: Notify | None,
    ) -> None:
        self.connection = connection
        self.table = table
        self.periods = periods
        self.minutes = minutes
        self.notify = notify
        self.key = RECORD + table.name

    def require(self) -> None:
        """Raises MigrationError for what would lose history, or cannot be; changes nothing."""
        table, level = self.table, self.table.level
        aggregates = table.aggregates
        columns = [level.time_column, *table.compression.segment_by]
        columns += [order.column for order in table.compression.order_by]
        columns += [name for aggregate in aggregates for name in aggregate.group_by]
        columns += [column for aggregate in aggregates for column, _ in aggregate.columns]
        call(
            self.connection, "require_table", table.name, level.time_column, columns,
            "create it first", "correct the settings file, or add the column",
        )  # fmt: skip
        (kind,) = row(
            self.connection,
            "SELECT format_type(atttypid, NULL) FROM pg_attribute"
            " WHERE attrelid = pg_temp.relation(%s) AND attname = %s",
            (table.name, level.time_column),
        )
        self._require_time(str(kind))
        self._require_conversion()
        self._require_retention(level, table.forever)
        if level.drop_after is not None:
            call(
                self.connection, "require_short_refreshes", Relation(table.name),
                self.periods[level.drop_after], level.drop_after,
                [aggregate.level.name for aggregate in aggregates],
            )  # fmt: skip
        for aggregate in aggregates:
            self._require_aggregate(aggregate)

    def _require_time(self, kind: str) -> None:
        name, level = self.table.name, self.table.level
        if kind not in _TIMES:
            raise MigrationError(
                f"tables.{name}.time_column: {level.time_column!r} is of type {kind};"
                " periods need a timestamp or a date"
            )
        if self.table.aggregates and kind != _TIMES[0]:
            raise MigrationError(
                f"tables.{name}.aggregates: {level.time_column!r} is of type {kind};"
                " aggregates need a timestamptz"
            )
        if kind == "date" and self.periods[level.chunk] % _DAY:
            raise MigrationError(f"{level.chunk} must be whole days: {level.time_column!r} is a date")

    def _require_conversion(self) -> None:
        """The conversion of a large table shuts out who uses it: not without a word in the file."""
        name = self.table.name
        plain, rows = row(
            self.connection,
            "SELECT NOT EXISTS (SELECT FROM timescaledb_information.hypertables WHERE hypertable_schema ="
            " current_schema() AND hypertable_name = %(name)s), CASE WHEN reltuples < 0"
            " THEN pg_relation_size(oid) / 100 ELSE reltuples END::bigint"
            " FROM pg_class WHERE oid = pg_temp.relation(%(name)s)",
            {"name": name},
        )
        takes = timedelta(seconds=rows // _MOVED_PER_SECOND)
        if plain and takes > _LONG_MOVE and not self.table.convert:
            raise MigrationError(
                f"tables.{name}: {name} is a plain table of about {rows:,} rows; its conversion locks it"
                f" for about {spell(takes)}; set tables.{name}.convert = true to allow that"
            )

    def _require_retention(self, level: Level, forever: bool) -> None:
        """Without a word in the file, a policy that drops rows is neither kept nor removed."""
        if level.drop_after is None and not forever and self._jobs(level, RETENTION):
            at = level.chunk.removesuffix(".chunk")
            raise MigrationError(
                f"{at}: {level.name} has a retention policy, and the settings file does not say"
                f" whether to drop rows; set {at}.drop_after to a period,"
                " or to 'never', which removes the policy"
            )

    def _require_aggregate(self, aggregate: Aggregate) -> None:
        from psycopg import sql

        name = aggregate.level.name
        at = aggregate.level.chunk.removesuffix(".chunk")
        (found, hypertable) = row(
            self.connection,
            "SELECT pg_temp.relation(%s)::text, pg_temp.hypertable_of(%s)::text",
            (name, name),
        )
        with explained(at), self.connection.transaction(force_rollback=True):
            # A function that the column's type does not have is refused here, before anything is changed.
            wanted = query(schema_of(self.connection), self.table, aggregate)
            self.connection.execute(sql.SQL("CREATE TEMP VIEW snapdelta_wanted AS {}").format(wanted))
        if found is None:
            return
        if hypertable is None:
            raise MigrationError(
                f"{at}: {found} exists and is not a continuous aggregate; rename one of the two"
            )
        if other_definition(self.connection, self.table, aggregate):
            raise MigrationError(
                f"{at}: continuous aggregate {found} exists with another definition;"
                f" rename it (ALTER MATERIALIZED VIEW {found} RENAME TO ...), which keeps its rows,"
                " or give the new one another name"
            )
        self._require_retention(aggregate.level, aggregate.forever)
        assert aggregate.level.refresh is not None
        start = aggregate.level.refresh.start
        call(
            self.connection, "require_rows_below", name, Hypertable(name), Relation(self.table.name), start,
            self.periods[start],
        )  # fmt: skip

    def run(self) -> None:
        """Every step may be repeated; the retention of the raw rows comes last."""
        table = self.table
        filled = self._begin()
        self._delete_shorter_retentions()
        width = self.periods[table.level.chunk]
        call(self.connection, "set_chunks", table.name, table.level.time_column, width, True)
        self._compress(table.level, table.compression)
        left: list[tuple[Aggregate, list[Stretch]]] = []
        for aggregate in table.aggregates:
            created = self._create(aggregate)
            whole = created or aggregate.level.name not in filled
            stretches = self._days(aggregate) if whole else self._recent(aggregate)
            left.append((aggregate, self._backfill(aggregate, stretches)))
        call(self.connection, "release_refreshes")
        for aggregate in table.aggregates:
            self._compress(aggregate.level, aggregate.compression)
            self._policies(aggregate.level, aggregate.forever, aggregate.bucket)
        for aggregate, stretches in left:
            self._require_filled(aggregate, stretches)
        self._announce()
        self._policies(table.level, table.forever)
        self._prove()

    def _begin(self) -> list[str]:
        """Records what is there, unless an unfinished run has; gives the aggregates that are filled.

        Where less is kept than before, what is dropped now may have holes of any age: none of them is.
        """
        import psycopg.types.json

        table = self.table
        connection = self.connection
        kept = None if table.level.drop_after is None else self.periods[table.level.drop_after]
        call(connection, "keep_record", self.key)
        with connection.transaction():
            filled, before = row(
                connection,
                "SELECT CASE WHEN applied_at IS NOT NULL AND (%(kept)s::interval IS NULL"
                " OR (settings ->> 'drop_after')::interval <= %(kept)s::interval)"
                " THEN settings -> 'filled' END, before FROM snapdelta_migrations WHERE name = %(key)s",
                {"key": self.key, "kept": kept},
            )
            before = before or {"levels": {}}
            for level in (table.level, *(aggregate.level for aggregate in table.aggregates)):
                if level.name not in before["levels"]:
                    before["levels"][level.name] = self._before(level)
            connection.execute(
                "UPDATE snapdelta_migrations SET started_at = clock_timestamp(), before = %s,"
                " settings = coalesce(settings, %s) WHERE name = %s",
                (psycopg.types.json.Jsonb(before), psycopg.types.json.Jsonb(self._settings()), self.key),
            )
        return list(filled or [])

    def _delete_shorter_retentions(self) -> None:
        """Deletes each job that may drop rows which the file keeps.

        Such a job may drop rows that the new refresh still reads; the refresh would empty their buckets.
        """
        for level in (self.table.level, *(aggregate.level for aggregate in self.table.aggregates)):
            self.connection.execute(
                "SELECT delete_job(job_id) FROM pg_temp.jobs_on(%s::text::regclass, %s)"
                " WHERE coalesce((config ->> 'drop_after')::interval < %s::interval, true)",
                (
                    stored(self.connection, level.name),
                    RETENTION,
                    None if level.drop_after is None else self.periods[level.drop_after],
                ),
            )

    def _before(self, level: Level) -> dict[str, Any]:
        hypertable = stored(self.connection, level.name)
        if hypertable is None:
            return {"existed": False, "chunk": None, "policies": [], "compression": []}
        (found,) = row(self.connection, _BEFORE, {"hypertable": hypertable, "procedures": list(PROCEDURES)})
        return dict(found)

    def _settings(self) -> dict[str, Any]:
        drop_after = self.table.level.drop_after
        kept = None if drop_after is None else f"{self.periods[drop_after].total_seconds()} seconds"
        # A text: jsonb would sort the columns of aggregates.
        return {
            "drop_after": kept,
            "declared": json.dumps(self.table.declared),
            "filled": [aggregate.level.name for aggregate in self.table.aggregates],
            **{name: f"{self.periods[name].total_seconds()} seconds" for name in SCHEDULES},
        }

    def _create(self, aggregate: Aggregate) -> bool:
        """Whether it was not there; it is empty then."""
        from psycopg import sql

        connection, name = self.connection, aggregate.level.name
        schema = schema_of(connection)
        absent = stored(connection, name) is None
        if absent:
            with connection.transaction():
                call(connection, "lock", Relation(self.table.name))
                connection.execute(
                    sql.SQL(
                        "CREATE MATERIALIZED VIEW {} WITH (timescaledb.continuous,"
                        " timescaledb.materialized_only = false, timescaledb.create_group_indexes = false)"
                        " AS {} WITH NO DATA"
                    ).format(sql.Identifier(schema, name), query(schema, self.table, aggregate))
                )
                if aggregate.group_by:
                    connection.execute(
                        sql.SQL("CREATE INDEX ON {} ({}, bucket DESC)").format(
                            sql.Identifier(schema, name),
                            sql.SQL(", ").join(map(sql.Identifier, aggregate.group_by)),
                        )
                    )
        connection.execute(
            "SELECT set_chunk_time_interval(pg_temp.hypertable_of(%s), %s)",
            (name, self.periods[aggregate.level.chunk]),
        )
        return absent

    def _backfill(self, aggregate: Aggregate, stretches: Sequence[Stretch]) -> list[Stretch]:
        """Fills what is missing in each stretch, the oldest first; gives what is missing after that."""
        (forces,) = row(
            self.connection,
            "SELECT EXISTS (SELECT FROM pg_proc WHERE proname = 'refresh_continuous_aggregate'"
            " AND 'force' = ANY (proargnames))",
        )
        left: list[Stretch] = []
        for start, end in stretches:
            holes = self._missing(aggregate, start, end)
            # A forced refresh also fills buckets that are held for up to date, such as rows deleted by hand.
            for forced in (False, True) if forces else (False,):
                for since, until in holes:
                    self.connection.execute("CALL pg_temp.hold_refreshes()")
                    self._refresh(aggregate, since, until, forced)
                holes = holes and self._missing(aggregate, start, end)
            left += holes
        return left

    def _missing(self, aggregate: Aggregate, start: datetime, end: datetime) -> list[Stretch]:
        drop_after = aggregate.level.drop_after
        kept_for = None if drop_after is None else self.periods[drop_after]
        return missing(self.connection, self.table, aggregate, kept_for, start, end)

    def _recent(self, aggregate: Aggregate) -> list[Stretch]:
        """How far back a later run looks for holes."""
        now = self._now()
        return [(now - self.table.looks_back(aggregate, self.periods), now)]

    def _days(self, aggregate: Aggregate) -> list[Stretch]:
        """The days that the table has chunks for, as whole buckets."""
        step = aggregate.bucket * -(-_DAY // aggregate.bucket)
        rows = self.connection.execute(
            "SELECT DISTINCT time_bucket(%(step)s, day), time_bucket(%(step)s, day) + %(step)s"
            " FROM timescaledb_information.chunks c,"
            " generate_series(time_bucket(%(step)s, c.range_start), least(c.range_end, now()), %(step)s)"
            " AS day"
            " WHERE c.hypertable_schema = current_schema() AND c.hypertable_name = %(name)s ORDER BY 1",
            {"step": step, "name": self.table.name},
        )
        return [(start, end) for start, end in rows]

    def _refresh(self, aggregate: Aggregate, since: datetime, until: datetime, forced: bool) -> None:
        from psycopg import sql

        view = sql.Identifier(schema_of(self.connection), aggregate.level.name).as_string(self.connection)
        self.connection.execute(
            sql.SQL(
                "CALL refresh_continuous_aggregate({}::regclass, {}::timestamptz, {}::timestamptz{})"
            ).format(
                sql.Literal(view),
                sql.Literal(since.isoformat()),
                sql.Literal(until.isoformat()),
                sql.SQL(", force => true" if forced else ""),
            )
        )

    def _compress(self, level: Level, wanted: Compression) -> None:
        hypertable = stored(self.connection, level.name)
        if level.compress_after is None or hypertable is None:
            return
        if compression_columns(self.connection, hypertable) == wanted:
            return
        with self.connection.transaction():
            if level.refresh is None:
                call(self.connection, "lock", Relation(level.name))
            set_compression(self.connection, level.name, level.refresh is not None, wanted)

    def _policies(self, level: Level, forever: bool, bucket: timedelta | None = None) -> None:
        with self.connection.transaction():
            for policy in level.policies():
                self._set_policy(level, policy, bucket)
            if forever:
                for job in self._jobs(level, RETENTION):
                    self.connection.execute("SELECT delete_job(%s)", (job,))

    def _set_policy(self, level: Level, policy: Policy, bucket: timedelta | None) -> None:
        wanted = {key: f"{self.periods[name].total_seconds()} seconds" for key, name in policy.keys.items()}
        batch = None
        if policy.procedure == REFRESH and bucket is not None:
            batch = buckets_per_batch(self.periods[level.chunk], bucket)
        self.connection.execute(
            "SELECT pg_temp.set_policy_on(pg_temp.relation(%(name)s),"
            " coalesce(pg_temp.hypertable_of(%(name)s), pg_temp.relation(%(name)s)), %(procedure)s,"
            " %(wanted)s::jsonb, %(every)s,"
            " date_trunc('minute', clock_timestamp()) + %(minute)s * interval '1 minute',"
            " pg_temp.batch_of(%(batch)s))",
            {
                "name": level.name, "procedure": policy.procedure, "wanted": json.dumps(wanted),
                "every": self.periods[policy.every], "minute": next(self.minutes), "batch": batch,
            },
        )  # fmt: skip

    def _require_filled(self, aggregate: Aggregate, left: Sequence[Stretch]) -> None:
        """Nothing may be dropped before it is in the aggregates; newer rows are the refresh's work."""
        assert aggregate.level.refresh is not None
        behind = self._now() - self.periods[aggregate.level.refresh.start]
        lost = [start for start, _ in left if start < behind]
        if lost and self.table.level.drop_after is not None:
            raise MigrationError(
                f"{aggregate.level.name} lacks rows from {lost[0]:%Y-%m-%d %H:%M %Z} on, so the retention of"
                f" {self.table.name} was not set; run it again"
            )

    def _announce(self) -> None:
        """Says which rows the first run of a new retention policy drops."""
        level = self.table.level
        if level.drop_after is None or self.notify is None or self._jobs(level, RETENTION):
            return
        chunks, until = row(
            self.connection,
            "SELECT count(*), max(range_end) FROM timescaledb_information.chunks WHERE hypertable_schema ="
            " current_schema() AND hypertable_name = %s AND range_end < now() - %s",
            (level.name, self.periods[level.drop_after]),
        )
        if chunks:
            self.notify(
                f"snapdelta: {chunks} chunks of {level.name}, with rows before {until:%Y-%m-%d %H:%M %Z},"
                f" will be dropped by the next run of its retention ({level.drop_after})"
            )

    def _prove(self) -> None:
        """One job a policy, as declared; then the record says so."""
        import psycopg.types.json

        for level in (self.table.level, *(aggregate.level for aggregate in self.table.aggregates)):
            for policy in level.policies():
                found = len(self._jobs(level, policy.procedure))
                if found != 1:
                    raise MigrationError(f"{level.name} has {found} jobs of {policy.procedure} and needs one")
        self.connection.execute(
            "UPDATE snapdelta_migrations SET applied_at = clock_timestamp(), reverted_at = NULL,"
            " settings = %s WHERE name = %s",
            (psycopg.types.json.Jsonb(self._settings()), self.key),
        )

    def _jobs(self, level: Level, procedure: str) -> list[int]:
        rows = self.connection.execute(
            "SELECT job_id FROM pg_temp.jobs_on(coalesce(pg_temp.hypertable_of(%(name)s),"
            " pg_temp.relation(%(name)s)), %(procedure)s)",
            {"name": level.name, "procedure": procedure},
        )
        return [number for (number,) in rows]

    def _now(self) -> datetime:
        (now,) = row(self.connection, "SELECT now()")
        assert isinstance(now, datetime)
        return now
