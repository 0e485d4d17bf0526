"""What a database says of the scanner's tables: read only, judged elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from snapdelta.timescale.files import OPTIMIZE, load
from snapdelta.timescale.planning import PREFIXES
from snapdelta.timescale.settings import Settings

if TYPE_CHECKING:
    import psycopg

AGGREGATES = ("scan_results_1min", "scan_results_1hour")
TIME_COLUMNS = {
    "scan_results": "time",
    "volume_slots": "date",
    "market_data_daily": "trading_date",
    "scan_results_1min": "bucket",
    "scan_results_1hour": "bucket",
}

# By the hypertable that a job's configuration names: the view lists an aggregate's jobs under one name up to
# TimescaleDB 2.18 and another from 2.20 on, and those that add_job() made under none.
_JOBS = """
    SELECT j.job_id, regexp_replace(coalesce(c.view_name, h.table_name), '_scaled$', ''),
           coalesce(c.view_schema, h.schema_name) = current_schema(),
           j.proc_name, j.schedule_interval, j.scheduled, j.config, s.last_run_status,
           CASE WHEN isfinite(s.last_successful_finish) THEN s.last_successful_finish END,
           coalesce(s.total_runs, 0), coalesce(s.total_failures, 0),
           CASE WHEN isfinite(s.next_start) THEN s.next_start END
    FROM timescaledb_information.jobs j
    JOIN _timescaledb_catalog.hypertable h
      ON h.id::text = coalesce(j.config ->> 'hypertable_id', j.config ->> 'mat_hypertable_id')
    LEFT JOIN timescaledb_information.job_stats s USING (job_id)
    LEFT JOIN timescaledb_information.continuous_aggregates c
      ON c.materialization_hypertable_schema = h.schema_name
     AND c.materialization_hypertable_name = h.table_name
    ORDER BY j.job_id"""

_CHUNKS = """
    SELECT range_start, range_end, is_compressed FROM timescaledb_information.chunks c
    JOIN pg_namespace n ON n.nspname = c.hypertable_schema
    JOIN pg_class r ON r.relnamespace = n.oid AND r.relname = c.hypertable_name
    WHERE r.oid = %s::regclass ORDER BY range_start"""

_WIDTH = """
    SELECT time_interval FROM timescaledb_information.dimensions d
    JOIN pg_namespace n ON n.nspname = d.hypertable_schema
    JOIN pg_class r ON r.relnamespace = n.oid AND r.relname = d.hypertable_name
    WHERE r.oid = %s::regclass AND d.dimension_number = 1"""

# Aggregates of somebody else's over ours or over the raw table, and how far back their refresh reaches.
_FOREIGN = """
    SELECT format('%I.%I', c.view_schema, c.view_name),
           CASE c.hypertable_name WHEN 'scan_results' THEN 'raw_retention' ELSE 'minute_retention' END,
           (j.config ->> 'start_offset')::interval
    FROM timescaledb_information.continuous_aggregates c
    JOIN _timescaledb_catalog.hypertable h
      ON c.materialization_hypertable_schema = h.schema_name
     AND c.materialization_hypertable_name = h.table_name
    JOIN timescaledb_information.jobs j
      ON j.proc_name = 'policy_refresh_continuous_aggregate'
     AND j.config ->> 'mat_hypertable_id' = h.id::text
    WHERE NOT (c.view_schema = current_schema()
               AND c.view_name IN ('scan_results_1min_scaled', 'scan_results_1hour_scaled'))
      AND ((c.hypertable_schema, c.hypertable_name) = (current_schema(), 'scan_results')
           OR (c.hypertable_schema, c.hypertable_name) IN (
               SELECT materialization_hypertable_schema, materialization_hypertable_name
               FROM timescaledb_information.continuous_aggregates
               WHERE view_schema = current_schema() AND view_name = 'scan_results_1min_scaled'))"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk: its range and whether it is compressed."""

    start: datetime
    end: datetime
    compressed: bool


@dataclass(frozen=True, slots=True)
class Job:
    """One policy's job; `last_status` and `last_success` are None where no background worker ever ran it."""

    number: int
    relation: str
    procedure: str
    every: timedelta
    scheduled: bool
    config: Mapping[str, Any]
    last_status: str | None
    last_success: datetime | None
    runs: int
    failures: int
    next_start: datetime | None


@dataclass(slots=True)
class Relation:
    """One table or aggregate; `width` None: it is no hypertable."""

    name: str
    width: timedelta | None = None
    chunks: Sequence[Chunk] = ()
    oldest: datetime | None = None
    newest: datetime | None = None
    bytes_now: int = 0
    bytes_before: int | None = None  # of the compressed chunks, before and after compression
    bytes_after: int | None = None
    options: Sequence[str] = ()


@dataclass(slots=True)
class Facts:
    """Everything that the judgement needs, as of `now` on the server."""

    now: datetime
    version: str | None
    community: bool
    applied: bool
    settings: Settings
    relations: dict[str, Relation] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    all_jobs: int = 0
    missing: dict[str, list[tuple[datetime, datetime]]] = field(default_factory=dict)
    other_definition: dict[str, bool] = field(default_factory=dict)
    foreign: list[tuple[str, str, timedelta | None]] = field(default_factory=list)
    workers: dict[str, int] = field(default_factory=dict)


def collect(connection: psycopg.Connection, given: Mapping[str, str] | None = None) -> Facts:
    """Reads everything; the periods are `given`, or else those that were applied, or else the defaults."""
    now, version = _row(
        connection, "SELECT now(), (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')"
    )
    applied, settings = _applied(connection)
    facts = Facts(now, version, False, applied, Settings(given if given is not None else settings))
    if version is None:
        return facts
    facts.community = _row(connection, "SELECT current_setting('timescaledb.license', true)") == (
        "timescale",
    )
    _prepare(connection, facts.settings)
    for name in PREFIXES:
        relation = _relation(connection, name)
        if relation is not None:
            facts.relations[name] = relation
    jobs = connection.execute(_JOBS).fetchall()
    facts.all_jobs = len(jobs)
    facts.jobs = [Job(number, name, *rest) for number, name, here, *rest in jobs if here]
    facts.foreign = [tuple(row) for row in connection.execute(_FOREIGN)]
    for view in AGGREGATES:
        if "scan_results" in facts.relations:
            facts.other_definition[view] = _row(connection, f"SELECT pg_temp.has_other_definition('{view}')")[
                0
            ]
            if set(AGGREGATES) <= facts.relations.keys() and not facts.other_definition[view]:
                facts.missing[view] = list(
                    connection.execute(f"SELECT * FROM pg_temp.missing('{view}')".encode())
                )
    for name in ("max_worker_processes", "max_parallel_workers", "timescaledb.max_background_workers"):
        (value,) = _row(connection, f"SELECT current_setting('{name}', true)")
        if value is not None:
            facts.workers[name] = int(value)
    return facts


def _row(
    connection: psycopg.Connection, query: str, parameters: Sequence[object] | None = None
) -> tuple[Any, ...]:
    row = connection.execute(query.encode(), parameters).fetchone()
    assert row is not None  # every query here gives one
    return row


def _applied(connection: psycopg.Connection) -> tuple[bool, dict[str, str] | None]:
    if _row(connection, "SELECT to_regclass(format('%I.snapdelta_migrations', current_schema())) IS NULL")[0]:
        return False, None
    row = connection.execute(
        "SELECT applied_at IS NOT NULL, settings FROM snapdelta_migrations WHERE name = %s", (OPTIMIZE,)
    ).fetchone()
    return (bool(row[0]), row[1]) if row is not None else (False, None)


def _prepare(connection: psycopg.Connection, settings: Settings) -> None:
    """The migration's own temporary functions: what it compares and looks for is what is looked for here."""
    for statement in load(OPTIMIZE).statements:
        text = statement.render(settings.texts)
        if text.startswith(("CREATE OR REPLACE FUNCTION pg_temp.", "SELECT set_config('snapdelta.settings'")):
            connection.execute(text.encode())


def _relation(connection: psycopg.Connection, name: str) -> Relation | None:
    """None when it does not exist."""
    # An aggregate is there when the view that users read is there as well.
    source = "pg_temp.materialized(%s)" if name in AGGREGATES else "pg_temp.relation(%s)"
    (stored,) = _row(
        connection,
        f"SELECT CASE WHEN pg_temp.relation(%s) IS NOT NULL THEN {source}::oid::regclass::text END",
        (name, name),
    )
    if stored is None:
        return None
    relation = Relation(name)
    width = connection.execute(_WIDTH, (stored,)).fetchone()
    if width is not None:
        relation.width = width[0]
        relation.chunks = [Chunk(*row) for row in connection.execute(_CHUNKS, (stored,))]
        relation.bytes_now, relation.bytes_before, relation.bytes_after = _row(
            connection,
            "SELECT hypertable_size(%s::regclass), sum(before_compression_total_bytes)::bigint,"
            " sum(after_compression_total_bytes)::bigint"
            " FROM hypertable_compression_stats(%s::regclass)",
            (stored, stored),
        )
    else:
        (relation.bytes_now,) = _row(connection, "SELECT pg_total_relation_size(%s::regclass)", (stored,))
    (options,) = _row(
        connection, "SELECT coalesce(reloptions, '{}') FROM pg_class WHERE oid = %s::regclass", (stored,)
    )
    relation.options = options
    column = TIME_COLUMNS[name]
    relation.oldest, relation.newest = _row(
        connection, f"SELECT min({column})::timestamptz, max({column})::timestamptz FROM {stored}"
    )
    return relation
