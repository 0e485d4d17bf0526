"""Reads a database's catalog about the declared tables; `checks` evaluates it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from snapdelta.timescale.catalog_queries import (
    BLOCKED,
    CHUNKS,
    ERRORS,
    FOREIGN,
    JOBS,
    PERIODS,
    WIDTH,
    WORKERS,
)
from snapdelta.timescale.connection import sentence
from snapdelta.timescale.files import OPTIMIZE, load
from snapdelta.timescale.levels import SCANNER, Level
from snapdelta.timescale.settings import CHOICES, Settings
from snapdelta.timescale.table_queries import (
    compression_columns,
    missing,
    other_definition,
    prepare,
    recorded,
    row,
    scanner_begun,
    stored,
)
from snapdelta.timescale.tables import Compression, Tables, read_tables

if TYPE_CHECKING:
    import psycopg

SCANNED = {level.name for level in SCANNER}
# The scanner's aggregates: each is read through a view, and named like it with `_scaled` at the end.
AGGREGATES = tuple(level.name for level in SCANNER if level.refresh is not None)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk: its range and whether it is compressed."""

    start: datetime
    end: datetime
    compressed: bool


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session that holds a lock a job waits for; `since` None: this role may not see it."""

    process: int
    session: str
    since: timedelta | None


@dataclass(slots=True)
class Job:
    """One policy's job; `last_status` and `last_success` are None where no background worker ever ran it.

    `running_since` is None between runs; `stuck`: its next start is infinite, so it never comes.
    """

    number: int
    relation: str
    procedure: str
    every: timedelta
    scheduled: bool
    periods: Mapping[str, timedelta | None]
    last_status: str | None
    last_success: datetime | None
    runs: int
    failures: int
    running_since: datetime | None
    stuck: bool
    error: str | None = None
    blocker: Blocker | None = None


@dataclass(slots=True)
class Relation:
    """One table or aggregate; `width` None: it is no hypertable."""

    name: str
    width: timedelta | None = None
    chunks: Sequence[Chunk] = ()
    rows_read: bool = False
    oldest: datetime | None = None
    newest: datetime | None = None
    bytes_now: int | None = None
    bytes_before: int | None = None  # of the compressed chunks, before and after compression
    bytes_after: int | None = None
    options: Sequence[str] = ()


@dataclass(slots=True)
class Workers:
    """The background processes of the whole instance; `limits` are settings by name."""

    standby: bool
    restoring: bool
    scheduler: bool
    elsewhere: int  # processes of other databases, and the launcher
    start: str | None
    limits: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Catalog:
    """Everything that the checks need, as of `now` on the server.

    `unread` has, by subject and check, why something could not be read; `applied` and `jobs` are then None.
    """

    now: datetime
    version: str | None
    settings: Settings
    tables: Tables = field(default_factory=Tables)
    community: bool | None = None
    applied: bool | None = None
    applied_at: datetime | None = None
    relations: dict[str, Relation] = field(default_factory=dict)
    jobs: list[Job] | None = None
    all_jobs: int = 0
    missing: dict[str, list[tuple[datetime, datetime]]] = field(default_factory=dict)
    other_definition: dict[str, bool] = field(default_factory=dict)
    foreign: list[tuple[str, str, timedelta | None]] = field(default_factory=list)
    workers: Workers | None = None
    # By table, the oldest bucket whose rows retention has not reached, and its width.
    first_kept: dict[str, tuple[datetime, timedelta]] = field(default_factory=dict)
    due: dict[str, datetime | None] = field(default_factory=dict)  # the newest row that must be in it by now
    unread: dict[tuple[str, str], str] = field(default_factory=dict)
    # Of the settings file: when each table was applied (None: never), and what compresses each level.
    tables_applied: dict[str, datetime | None] = field(default_factory=dict)
    undeclared: list[str] = field(default_factory=list)
    compression: dict[str, Compression | None] = field(default_factory=dict)

    @property
    def levels(self) -> tuple[Level, ...]:
        """All declared levels: the scanner's and those of the file."""
        return (*(SCANNER if self.tables.scanner else ()), *self.tables.levels)

    @property
    def periods(self) -> Mapping[str, timedelta]:
        """The declared periods, by the names that levels use."""
        return {**self.settings.periods, **self.tables.periods}

    def since(self, level: str) -> datetime | None:
        """When the policies of a level were applied; None: never."""
        for table in self.tables.tables:
            if level == table.name or level in (aggregate.level.name for aggregate in table.aggregates):
                return self.tables_applied.get(table.name)
        return self.applied_at

    def settled(self, level: Level) -> datetime:
        """Rows before this moment are in the aggregate, if its refresh runs."""
        assert level.refresh is not None
        behind = (
            self.periods[level.refresh.end] + level.refresh.bucket + 2 * self.periods[level.refresh.every]
        )
        return self.now - behind


def collect(
    connection: psycopg.Connection, given: Mapping[str, str] | None = None, tables: Tables | None = None
) -> Catalog:
    """Reads everything; the periods are `given`, or else those that were applied, or else the defaults.

    The tables come from a file, or else from the last application.

    `unread` lists what this role or session may not read; only a lost connection is an error.
    """
    now, version = row(
        connection, "SELECT now(), (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')"
    )
    if tables is not None and (tables.settings or given):
        given = {**tables.settings, **(given or {})}
    catalog = Catalog(now, version, Settings(given), tables or Tables())
    with _reading(connection, catalog, "migration", "applied"):
        applied = _applied(connection, catalog)
        if given is None:
            catalog.settings = Settings(applied)
        _applied_tables(connection, catalog, tables)
    if version is None:
        return catalog
    with _reading(connection, catalog, "server", "background workers"):
        _workers(connection, catalog)
    with _reading(connection, catalog, "server", "edition"):
        catalog.community = _community(connection)
    for level in catalog.levels:
        _relation(connection, catalog, level)
    with _reading(connection, catalog, "jobs", "policies"):
        _jobs(connection, catalog)
    with _reading(connection, catalog, "jobs", "error texts"):
        texts: dict[int, str] = dict(connection.execute(ERRORS).fetchall())
        for job in catalog.jobs or ():
            job.error = texts.get(job.number)
    with _reading(connection, catalog, "jobs", "blockers"):
        _blockers(connection, catalog)
    with _reading(connection, catalog, "other aggregates", "refresh window"):
        _foreign(connection, catalog)
    if catalog.community is False or (catalog.workers is not None and catalog.workers.restoring):
        catalog.unread["rows", "oldest, newest and missing"] = (
            "the server hides compressed rows in this state"
        )
        return catalog
    for level in catalog.levels:
        if level.name in catalog.relations:
            _rows(connection, catalog, level)
    for level in catalog.levels:
        _due(connection, catalog, level)
    with _reading(connection, catalog, "tables", "rows dropped by hand"):
        _first_kept(connection, catalog)
    _aggregates(connection, catalog)
    return catalog


@contextmanager
def _reading(connection: psycopg.Connection, catalog: Catalog, subject: str, check: str) -> Iterator[None]:
    """Notes the server's refusal of what is read inside, and goes on; without a connection it cannot."""
    import psycopg

    try:
        with connection.transaction():
            yield
    except psycopg.Error as error:
        if connection.closed:
            raise
        catalog.unread[subject, check] = sentence(error)


def _community(connection: psycopg.Connection) -> bool:
    """The setting tells what was asked for; where a function tells what is there, that counts."""
    asked, known, restoring = row(
        connection,
        "SELECT current_setting('timescaledb.license', true) = 'timescale',"
        " to_regprocedure('_timescaledb_functions.tsl_loaded()') IS NOT NULL,"
        " current_setting('timescaledb.restoring', true) = 'on'",
    )
    if asked and known and not restoring:
        (asked,) = row(connection, "SELECT _timescaledb_functions.tsl_loaded()")
    return bool(asked)


def _applied(connection: psycopg.Connection, catalog: Catalog) -> dict[str, str] | None:
    """The recorded periods in one spelling, whatever style they were given in; None when there are none."""
    catalog.applied = False
    if row(connection, "SELECT to_regclass(format('%I.snapdelta_migrations', current_schema())) IS NULL")[0]:
        return None
    catalog.applied = None
    found = connection.execute(
        "SELECT applied_at, (SELECT jsonb_object_agg(key, CASE WHEN key = ANY (%s) THEN value"
        " ELSE value::interval::text END) FROM jsonb_each_text(settings) WHERE key = ANY (%s))"
        " FROM snapdelta_migrations WHERE name = %s",
        (list(CHOICES), list(load(OPTIMIZE).defaults), OPTIMIZE),
    ).fetchone()
    settings: dict[str, str] | None
    catalog.applied_at, settings = found if found is not None else (None, None)
    catalog.applied = catalog.applied_at is not None
    return settings


def _applied_tables(connection: psycopg.Connection, catalog: Catalog, given: Tables | None) -> None:
    """When each declared table was applied; which are declared, where no file says it."""
    tables = recorded(connection)
    catalog.tables_applied = {table.name: table.applied_at for table in tables}
    if given is None and tables:
        scanner = scanner_begun(connection)
        declared = {"scanner": scanner, "tables": {table.name: table.declared for table in tables}}
        catalog.tables = read_tables(declared)
        if not scanner:
            catalog.settings = Settings({**catalog.settings.texts, **tables[0].schedules})
    known = {table.name for table in catalog.tables.tables}
    catalog.undeclared = [table.name for table in tables if table.name not in known]


def _stored(connection: psycopg.Connection, name: str) -> str | None:
    """The table that holds the rows, for an aggregate its hypertable; None when it does not exist."""
    if name not in AGGREGATES:
        return stored(connection, name)
    # It is there when the view of that name is there as well, which may show another's rows.
    query = """
        SELECT (SELECT format('%%I.%%I', c.materialization_hypertable_schema,
                              c.materialization_hypertable_name)
                FROM timescaledb_information.continuous_aggregates c
                WHERE c.view_schema = current_schema() AND c.view_name IN (v.name, v.name || '_scaled')
                  AND to_regclass(format('%%I.%%I', current_schema(), v.name)) IS NOT NULL
                ORDER BY c.view_name DESC LIMIT 1)
        FROM (SELECT %s::text AS name) AS v"""
    (found,) = row(connection, query, (name,))
    return None if found is None else str(found)


def _relation(connection: psycopg.Connection, catalog: Catalog, level: Level) -> None:
    name = level.name
    relation, holds = Relation(name), None
    with _reading(connection, catalog, name, "catalog"):
        holds = _stored(connection, name)
        if holds is None:
            return
        (relation.options,) = row(
            connection, "SELECT coalesce(reloptions, '{}') FROM pg_class WHERE oid = %s::regclass", (holds,)
        )
        width = connection.execute(WIDTH, (holds,)).fetchone()
        if width is not None:
            relation.width = width[0]
            relation.chunks = [Chunk(*row) for row in connection.execute(CHUNKS, (holds,))]
        catalog.relations[name] = relation
    if name not in catalog.relations:
        return
    with _reading(connection, catalog, name, "size"):
        (relation.bytes_now,) = row(
            connection,
            "SELECT coalesce(hypertable_size(%s::regclass), pg_total_relation_size(%s::regclass))",
            (holds, holds),
        )
    if relation.width is not None:
        with _reading(connection, catalog, name, "compression"):
            relation.bytes_before, relation.bytes_after = row(
                connection,
                "SELECT sum(before_compression_total_bytes)::bigint,"
                " sum(after_compression_total_bytes)::bigint"
                " FROM hypertable_compression_stats(%s::regclass)",
                (holds,),
            )
        if level.compress_after is not None and name not in SCANNED:
            with _reading(connection, catalog, name, "compression columns"):
                catalog.compression[name] = compression_columns(connection, str(holds))


def _rows(connection: psycopg.Connection, catalog: Catalog, level: Level) -> None:
    from psycopg import sql

    relation = catalog.relations[level.name]
    with _reading(connection, catalog, level.name, "oldest and newest row"):
        # The hypertable is in the server's own spelling, quoted where it must be.
        holds = sql.SQL(str(_stored(connection, level.name)))
        query = sql.SQL("SELECT min({0})::timestamptz, max({0})::timestamptz FROM {1}")
        relation.oldest, relation.newest = row(
            connection, query.format(sql.Identifier(level.time_column), holds)
        )
        relation.rows_read = True


def _due(connection: psycopg.Connection, catalog: Catalog, level: Level) -> None:
    """The newest row below an aggregate that must be in it by now."""
    from psycopg import sql

    if level.refresh is None or not {level.name, level.refresh.below} <= catalog.relations.keys():
        return
    (below,) = [known for known in catalog.levels if known.name == level.refresh.below]
    with _reading(connection, catalog, level.name, "lag"):
        holds = sql.SQL(str(_stored(connection, below.name)))
        # Values are literals: a name may hold a `%`, which parameters would give a meaning.
        query = sql.SQL("SELECT max({0}) FROM {1} WHERE {0} < {2}").format(
            sql.Identifier(below.time_column), holds, sql.Literal(catalog.settled(level))
        )
        (catalog.due[level.name],) = row(connection, query)


def _foreign(connection: psycopg.Connection, catalog: Catalog) -> None:
    own = [level.name for level in catalog.levels]
    for level in catalog.levels:
        if level.drop_after is not None and level.name in catalog.relations:
            found = connection.execute(FOREIGN, (own, _stored(connection, level.name)))
            catalog.foreign += [(name, level.drop_after, start) for name, start in found]


def _jobs(connection: psycopg.Connection, catalog: Catalog) -> None:
    jobs = connection.execute(JOBS, (list(PERIODS),)).fetchall()
    catalog.all_jobs = len(jobs)
    catalog.jobs = [
        Job(number, name, procedure, every, scheduled, dict(zip(PERIODS, periods, strict=True)), *rest)
        for number, name, here, procedure, every, scheduled, periods, *rest in jobs
        if here
    ]


def _blockers(connection: psycopg.Connection, catalog: Catalog) -> None:
    """The oldest transaction that each job waits for."""
    for number, *blocker in connection.execute(BLOCKED):
        for job in catalog.jobs or ():
            if job.number == number and job.blocker is None:
                job.blocker = Blocker(*blocker)


def _workers(connection: psycopg.Connection, catalog: Catalog) -> None:
    catalog.workers = Workers(*row(connection, WORKERS))
    for name in ("max_worker_processes", "max_parallel_workers", "timescaledb.max_background_workers"):
        (value,) = row(connection, f"SELECT current_setting('{name}', true)")
        if value:  # empty: set once in this session and reset, where the loader does not own it
            catalog.workers.limits[name] = int(value)


def _first_kept(connection: psycopg.Connection, catalog: Catalog) -> None:
    """The rows of these buckets and of later ones are there, unless somebody has dropped them by hand."""
    from psycopg import sql

    tables = {level.name: level for level in catalog.levels if level.refresh is None}
    refreshed = [(level.refresh, level.name) for level in catalog.levels if level.refresh is not None]
    for refresh, name in sorted(refreshed, key=lambda item: item[0].bucket):
        table, applied = tables.get(refresh.below), catalog.since(name)
        holds = _stored(connection, name)
        if table is None or table.drop_after is None or table.name in catalog.first_kept:
            continue
        if applied is None or holds is None:
            continue
        kept = [catalog.periods[table.drop_after]] + [
            period
            for job in catalog.jobs or ()
            if job.relation == table.name and (period := job.periods["drop_after"]) is not None
        ]
        # Three days can be 71 hours, and a retention that was made longer has not filled up yet.
        since = max(catalog.now - min(kept) + timedelta(hours=2), applied - catalog.periods[refresh.start])
        query = sql.SQL("SELECT min(bucket) FROM {} WHERE bucket >= {}")
        (first,) = row(connection, query.format(sql.SQL(holds), sql.Literal(since)))
        if first is not None:
            catalog.first_kept[table.name] = (first, refresh.bucket)


def _aggregates(connection: psycopg.Connection, catalog: Catalog) -> None:
    """Definitions and holes, as the migration's own temporary functions see them."""
    prepared = False
    with _reading(connection, catalog, "aggregates", "definition and holes"):
        prepare(connection, catalog.settings)
        prepared = True
    if not prepared:
        return
    for view in AGGREGATES:
        if "scan_results" not in catalog.relations:
            continue
        with _reading(connection, catalog, view, "definition"):
            (catalog.other_definition[view],) = row(
                connection, f"SELECT pg_temp.has_other_definition('{view}')"
            )
        if set(AGGREGATES) <= catalog.relations.keys() and catalog.other_definition.get(view) is False:
            with _reading(connection, catalog, view, "holes"):
                catalog.missing[view] = connection.execute(
                    f"SELECT * FROM pg_temp.missing('{view}')".encode()
                ).fetchall()
    _declared_aggregates(connection, catalog)


def _declared_aggregates(connection: psycopg.Connection, catalog: Catalog) -> None:
    """Those of the settings file; their holes as far back as `up` would fill them."""
    periods = catalog.periods
    for table in catalog.tables.tables:
        for aggregate in table.aggregates:
            name = aggregate.level.name
            if not {name, table.name} <= catalog.relations.keys():
                continue
            with _reading(connection, catalog, name, "definition"):
                catalog.other_definition[name] = other_definition(connection, table, aggregate)
            if catalog.other_definition.get(name) is not False:
                continue
            with _reading(connection, catalog, name, "holes"):
                drop_after = aggregate.level.drop_after
                catalog.missing[name] = missing(
                    connection,
                    table,
                    aggregate,
                    None if drop_after is None else periods[drop_after],
                    catalog.now - table.looks_back(aggregate, periods),
                    catalog.now,
                )
