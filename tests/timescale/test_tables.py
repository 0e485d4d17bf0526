"""Tables of a settings file: a table of events (of 12 million rows a day, scaled down) and minute bars."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from snapdelta import timescale
from snapdelta.errors import MigrationError
from snapdelta.metrics.timescale import samples_of
from snapdelta.timescale.catalog import collect
from snapdelta.timescale.checks import judge
from timescale import jobs
from timescale.bed import Bed
from timescale.conftest import Aged, Database, Make
from timescale.scanner import assert_history
from timescale.test_cli import run
from timescale.test_verify import planting
from timescale.workers import plant_health

FILE = """
[tool.snapdelta.timescale]
scanner = false

[tool.snapdelta.timescale.tables.market_events]
time_column = "ts"
chunk = "1 hour"
compress_after = "2 hours"
segment_by = ["symbol"]
drop_after = "3 days"

[tool.snapdelta.timescale.tables.market_events.aggregates.market_events_5min]
bucket = "5 minutes"
group_by = ["symbol", "kind"]
columns.price = ["first", "max", "min", "last", "avg"]
columns.size = ["sum", "count"]
compress_after = "2 days 1 hour"
drop_after = "30 days"

[tool.snapdelta.timescale.tables.minute_bars]
chunk = "7 days"
compress_after = "1 day"
segment_by = ["symbol"]

[tool.snapdelta.timescale.tables.minute_bars.aggregates.bars_1day]
bucket = "1 day"
columns.close = ["first", "max", "min", "last"]
columns.volume = "sum"
"""

# Events come with policies of their own; the bars are a plain table without any.
SCHEMA = """
CREATE TABLE market_events (ts timestamptz NOT NULL, symbol text, kind text, price double precision, size bigint);
SELECT create_hypertable('market_events', 'ts', chunk_time_interval => interval '7 days');
ALTER TABLE market_events SET (timescaledb.compress, timescaledb.compress_segmentby = 'kind', timescaledb.compress_orderby = 'ts');
SELECT add_compression_policy('market_events', interval '7 days');
SELECT alter_job(add_retention_policy('market_events', interval '180 days'), schedule_interval => interval '7 hours', scheduled => false);
CREATE TABLE minute_bars (time timestamptz NOT NULL, symbol text NOT NULL, close numeric(12,4), volume bigint, PRIMARY KEY (symbol, time));
INSERT INTO market_events
SELECT now() - n * interval '100 seconds' - interval '2 minutes', 'S' || n % 3, CASE WHEN n % 7 = 0 THEN NULL WHEN n % 2 = 0 THEN 'trade' ELSE 'quote' END,
       CASE WHEN n % 11 = 0 THEN NULL ELSE 100 + n % 97 END, n % 1000
FROM generate_series(0, 8 * 864) n;
INSERT INTO minute_bars SELECT date_trunc('minute', now()) - n * interval '20 minutes', 'S' || n % 2, 100 + n % 31, n FROM generate_series(1, 20 * 72) n;
"""

STATE = """
    SELECT 'job', hypertable_name::text, proc_name::text, scheduled::text, schedule_interval::text, config - 'hypertable_id'
    FROM timescaledb_information.jobs WHERE job_id >= 1000
    UNION ALL SELECT 'width', hypertable_name, column_name, time_interval::text, NULL, NULL FROM timescaledb_information.dimensions
    UNION ALL SELECT 'columns', hypertable_name, attname, segmentby_column_index::text, orderby_column_index::text, to_jsonb(orderby_asc)
    FROM timescaledb_information.compression_settings
    ORDER BY 1, 2, 3, 4"""

EVENTS = "SELECT ts, symbol, kind, price, size FROM market_events"
FAULT, WARNING = timescale.Severity.FAULT, timescale.Severity.WARNING


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "pyproject.toml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def declared(settings: Path) -> timescale.Tables:
    return timescale.load_tables(settings)


@pytest.fixture(scope="module")
def old(bed: Bed, empty: str) -> Iterator[str]:
    """The name of a database with the tables as they are met."""
    name = "snapdelta_test_tables"
    with psycopg.connect(bed.create(name, empty), autocommit=True) as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute(SCHEMA.encode())
    yield name
    bed.drop(name)


@pytest.fixture(scope="module")
def sound(bed: Bed, empty: str, declared: timescale.Tables) -> Iterator[Database]:
    """Applied, without wide chunks of old, and every job run; what is planted in it is rolled back."""
    name = "snapdelta_test_tables_sound"
    database = Database(bed, name, bed.create(name, empty))
    with database.connect() as connection:
        connection.execute("SET client_min_messages = error")
        wide = "chunk_time_interval => interval '7 days'"
        connection.execute(SCHEMA.replace(wide, wide.replace("7 days", "1 hour")).encode())
    timescale.up(database.dsn, tables=declared)
    with database.connect() as connection:
        jobs.run_jobs(connection)
    yield database
    bed.drop(name)


def buckets(rows: list[tuple[Any, ...]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Every bucket of market_events_5min, recomputed from the rows that were written."""
    groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for ts, symbol, kind, price, size in sorted(rows, key=lambda row: row[0]):
        elapsed = ts - datetime(2000, 1, 1, tzinfo=UTC)
        groups[ts - elapsed % timedelta(minutes=5), symbol, kind].append((price, size))
    found = {}
    for key, group in groups.items():
        prices = [price for price, _ in group if price is not None]
        found[key] = (
            group[0][0], max(prices, default=None), min(prices, default=None), group[-1][0],
            sum(prices) / len(prices) if prices else None,
            sum(size for _, size in group), len(group), len(group),
        )  # fmt: skip
    return found


def assert_events(connection: psycopg.Connection, rows: list[tuple[Any, ...]]) -> None:
    held = connection.execute(
        "SELECT bucket, symbol, kind, price_first, price_max, price_min, price_last, price_avg, size_sum::bigint, size_count, sample_count"
        " FROM market_events_5min"
    ).fetchall()
    assert {tuple(row[:3]): tuple(row[3:]) for row in held} == buckets(rows)


def faults(dsn: str, tables: timescale.Tables | None = None) -> list[tuple[str, str]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        plant_health(connection)
    return [
        (found.subject, found.check)
        for found in timescale.verify(dsn, tables=tables)
        if found.severity is FAULT
    ]


def test_cycle(database: Make, old: str, declared: timescale.Tables) -> None:
    """Up, jobs, up, down, jobs, up: every bucket is there, and down leaves what was before."""
    db = database(old)
    with db.connect() as connection:
        rows = connection.execute(EVENTS).fetchall()
        bars = connection.execute("SELECT count(*) FROM minute_bars").fetchone()
        before = [row for row in connection.execute(STATE) if row[1] == "market_events"]
    timescale.up(db.dsn, tables=declared)
    with db.connect() as connection:
        starts = connection.execute(
            "SELECT initial_start FROM timescaledb_information.jobs WHERE job_id >= 1000"
        ).fetchall()
        assert len(set(starts)) == len(starts)
        assert_events(connection, rows)
        jobs.run_jobs(connection)
        assert_events(connection, rows)
        assert jobs.policies(connection, "market_events", jobs.RETENTION)[0]["drop_after"] in (
            "3 days",
            "72:00:00",
        )
    timescale.up(db.dsn, tables=declared)
    with db.connect() as connection:
        jobs.run_jobs(connection, seed=1)
        assert_events(connection, rows)
        # Old chunks of 7 days go when all of their rows may.
        assert jobs.oldest(connection, "market_events", "ts") <= timedelta(days=10)
        assert connection.execute("SELECT count(*) FROM minute_bars").fetchone() == bars
        assert any(compressed for _, _, compressed in jobs.chunks(connection, "minute_bars"))
        assert connection.execute("SELECT sum(sample_count) FROM bars_1day").fetchone() == bars
    said: list[str] = []
    timescale.down(db.dsn, notify=said.append)
    assert "snapdelta: minute_bars stays a hypertable" in said
    with db.connect() as connection:
        assert [row for row in connection.execute(STATE) if row[1] == "market_events"] == before
        jobs.run_jobs(connection, seed=2)
        assert_events(connection, rows)
    timescale.up(db.dsn, tables=declared)
    with db.connect() as connection:
        jobs.run_jobs(connection, seed=3)
        assert_events(connection, rows)
    with pytest.raises(MigrationError, match="table nothing is not applied"):
        timescale.down(db.dsn, only=["nothing"])


def test_a_sound_database_has_no_fault(sound: Database, declared: timescale.Tables) -> None:
    assert faults(sound.dsn, declared) == []
    assert faults(sound.dsn) == []  # without the file: what was applied
    kept = {
        (found.subject, found.check): found.declared
        for found in timescale.verify(sound.dsn)
        if found.check in ("retention", "oldest row")
    }
    assert kept["market_events", "retention"] == "drop_after 3 days"
    assert kept["minute_bars", "oldest row"] == "any age"


PLANTS: dict[str, tuple[str, tuple[str, str]]] = {
    "no retention": ("SELECT remove_retention_policy('market_events')", ("market_events", "retention")),
    "longer retention": (
        "SELECT remove_retention_policy('market_events'); SELECT add_retention_policy('market_events', interval '90 days')",
        ("market_events", "retention"),
    ),
    "retention where nothing is to be dropped": (
        "SELECT add_retention_policy('minute_bars', interval '90 days')", ("minute_bars", "retention"),
    ),
    "later compression": (
        "SELECT remove_compression_policy('minute_bars'); SELECT add_compression_policy('minute_bars', interval '30 days')",
        ("minute_bars", "compression"),
    ),
    "switched off": (
        "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression' AND hypertable_name = 'market_events'",
        ("market_events", "compression schedule"),
    ),
    "other compression columns": (
        "ALTER TABLE market_events SET (timescaledb.compress, timescaledb.compress_segmentby = 'kind')",
        ("market_events", "compression columns"),
    ),
    "wide chunks": ("SELECT set_chunk_time_interval('market_events', interval '7 days')", ("market_events", "width of new chunks")),
    "old row": ("INSERT INTO market_events (ts) VALUES (now() - interval '9 days')", ("market_events", "oldest row")),
    "uncompressed chunk": (
        "SELECT decompress_chunk(c) FROM show_chunks('minute_bars', older_than => interval '3 days') c", ("minute_bars", "compressed chunks"),
    ),
    "unbounded refresh": (
        "SELECT remove_continuous_aggregate_policy('market_events_5min');"
        " SELECT add_continuous_aggregate_policy('market_events_5min', NULL, interval '5 minutes', interval '5 minutes')",
        ("market_events_5min", "refresh window"),
    ),
    "no refresh": ("SELECT remove_continuous_aggregate_policy('bars_1day')", ("bars_1day", "refresh")),
    "no aggregate": ("DROP MATERIALIZED VIEW bars_1day", ("bars_1day", "exists")),
    "other aggregate": (
        "DROP MATERIALIZED VIEW bars_1day; CREATE MATERIALIZED VIEW bars_1day WITH (timescaledb.continuous) AS"
        " SELECT time_bucket('1 day', time) AS bucket, count(*) AS sample_count FROM minute_bars GROUP BY 1 WITH NO DATA",
        ("bars_1day", "definition"),
    ),
    "hole": (
        "DO $$ BEGIN EXECUTE (SELECT format('DELETE FROM %I.%I WHERE bucket BETWEEN now() - interval ''9 hours'' AND now() - interval ''5 hours''',"
        " materialization_hypertable_schema, materialization_hypertable_name) FROM timescaledb_information.continuous_aggregates"
        " WHERE view_name = 'market_events_5min'); END $$",
        ("market_events_5min", "holes"),
    ),
    "somebody's aggregate": (
        "CREATE MATERIALIZED VIEW other WITH (timescaledb.continuous) AS"
        " SELECT time_bucket('1 day', ts) AS bucket, count(*) FROM market_events GROUP BY 1 WITH NO DATA;"
        " SELECT add_continuous_aggregate_policy('other', interval '30 days', interval '1 hour', interval '1 hour')",
        ("public.other", "refresh window"),
    ),
    "rows dropped by hand": ("DELETE FROM market_events WHERE ts < now() - interval '1 day'", ("market_events", "rows dropped by hand")),
    "no table": ("DROP TABLE minute_bars CASCADE", ("minute_bars", "exists")),
    "never applied": ("UPDATE snapdelta_migrations SET applied_at = NULL WHERE name = 'table minute_bars'", ("minute_bars", "applied")),
}  # fmt: skip


@pytest.mark.parametrize(("statements", "fault"), PLANTS.values(), ids=PLANTS.keys())
def test_planted_fault_is_found(
    sound: Database, declared: timescale.Tables, statements: str, fault: tuple[str, str]
) -> None:
    with planting(sound) as connection:
        connection.execute(statements.encode())
        found = [
            (f.subject, f.check) for f in judge(collect(connection, None, declared)) if f.severity is FAULT
        ]
    assert found.count(fault) == 1


def test_a_job_that_never_ran(sound: Database) -> None:
    """Its age counts from when its table was applied, in the findings and in the metrics."""
    with planting(sound) as connection:
        connection.execute("DELETE FROM _timescaledb_internal.bgw_job_stat")
        connection.execute("UPDATE snapdelta_migrations SET applied_at = now() - interval '1 day'")
        catalog = collect(connection)
    assert ("market_events", "retention last run") in {
        (f.subject, f.check) for f in judge(catalog) if f.severity is FAULT
    }
    (ages,) = [
        metric
        for metric in samples_of(catalog).metrics()
        if metric.name == "snapdelta_timescale_job_last_success_age_seconds"
    ]
    age = {tuple(sample.labels.values()): sample.value for sample in ages.samples}
    assert age["market_events", jobs.RETENTION] == 86_400


def test_a_table_that_left_the_file_is_named(sound: Database, settings: Path) -> None:
    text = settings.read_text()
    shorter = settings.with_name("shorter.toml")
    shorter.write_text(text[: text.index("[tool.snapdelta.timescale.tables.minute_bars]")])
    with planting(sound) as connection:
        found = judge(collect(connection, None, timescale.load_tables(shorter)))
    assert ("minute_bars", "settings file") in {(f.subject, f.check) for f in found if f.severity is WARNING}


REFUSED = {
    "retention that the file does not speak of": (
        "SELECT create_hypertable('minute_bars', 'time', migrate_data => true); SELECT add_retention_policy('minute_bars', interval '1 year')",
        "tables.minute_bars: minute_bars has a retention policy.*tables.minute_bars.drop_after",
    ),
    "no such table": ("DROP TABLE minute_bars", "table public.minute_bars does not exist"),
    "no such column": ("ALTER TABLE market_events RENAME kind TO sort", 'table market_events has no column "kind"'),
    "a key without the time": (
        "ALTER TABLE minute_bars DROP CONSTRAINT minute_bars_pkey; ALTER TABLE minute_bars ADD PRIMARY KEY (symbol, volume)",
        'does not contain "time"',
    ),
    "no time": (
        "ALTER TABLE minute_bars DROP CONSTRAINT minute_bars_pkey; ALTER TABLE minute_bars ALTER time TYPE bigint USING 0", "tables.minute_bars.time_column: 'time' is of type bigint",
    ),
    "a date": (
        "ALTER TABLE minute_bars ALTER time TYPE timestamp", "aggregates need a timestamptz",
    ),
    "a large plain table": (
        "UPDATE pg_class SET reltuples = 2e8 WHERE relname = 'minute_bars'",
        "minute_bars is a plain table of about 200,000,000 rows.*about 41 min 40 s; set tables.minute_bars.convert = true",
    ),
    "a function that the type does not have": (
        "ALTER TABLE minute_bars ALTER volume TYPE text", r"bars_1day: function sum\(text\) does not exist",
    ),
    "a view of that name": ("CREATE VIEW bars_1day AS SELECT 1 AS one", "bars_1day exists and is not a continuous aggregate"),
    "another aggregate of that name": (
        "CREATE MATERIALIZED VIEW market_events_5min WITH (timescaledb.continuous) AS"
        " SELECT time_bucket('5 minutes', ts) AS bucket, count(*) AS sample_count FROM market_events GROUP BY 1 WITH NO DATA",
        "market_events_5min exists with another definition",
    ),
    "somebody's aggregate would be emptied": (
        "CREATE MATERIALIZED VIEW other WITH (timescaledb.continuous) AS"
        " SELECT time_bucket('1 day', ts) AS bucket, count(*) FROM market_events GROUP BY 1 WITH NO DATA;"
        " SELECT add_continuous_aggregate_policy('other', NULL, interval '1 hour', interval '1 hour')",
        "other is refreshed from the beginning back, behind tables.market_events.drop_after",
    ),
}  # fmt: skip


# One for each place that refuses: the checks in Python, those in SQL, the server, and for other aggregates' sake.
OFTEN = (
    "retention that the file does not speak of", "no such column", "a function that the type does not have",
    "somebody's aggregate would be emptied",
)  # fmt: skip


@pytest.mark.parametrize(
    ("statements", "sentence"),
    [
        pytest.param(*case, id=name, marks=() if name in OFTEN else pytest.mark.long)
        for name, case in REFUSED.items()
    ],
)
def test_refusals_change_nothing(
    database: Make, old: str, declared: timescale.Tables, statements: str, sentence: str
) -> None:
    db = database(old)
    with db.connect() as connection:
        connection.execute("SET client_min_messages = error")
        for statement in statements.split("; "):
            connection.execute(statement.encode())
        before = connection.execute(STATE).fetchall()
    with pytest.raises(MigrationError, match=sentence):
        timescale.up(db.dsn, tables=declared)
    with db.connect() as connection:
        assert connection.execute(STATE).fetchall() == before
        assert connection.execute("SELECT to_regclass('snapdelta_migrations')").fetchone() == (None,)


def test_names_of_any_kind(database: Make, empty: str) -> None:
    """A quote, a bracket, a percent sign, a statement: all of them are names and nothing else."""
    from snapdelta.timescale.tables import read_tables

    table, time, symbol, price = "ev'%s\"; DROP TABLE keep; --", 't"%s', "sym%s", "p)r{i}ce"
    db = database(empty)
    with db.connect() as connection:
        names = sql.SQL(", ").join
        columns = [sql.Identifier(name) for name in (time, symbol, price)]
        kinds = ("timestamptz NOT NULL", "text", "float8")
        connection.execute("CREATE TABLE keep ()")
        connection.execute(
            sql.SQL("CREATE TABLE {} ({})").format(
                sql.Identifier(table),
                names(
                    sql.SQL("{} " + kind).format(column) for column, kind in zip(columns, kinds, strict=True)
                ),
            )
        )
        connection.execute(
            sql.SQL(
                "INSERT INTO {} SELECT now() - n * interval '1 hour', 'a', n FROM generate_series(1, 50) n"
            ).format(sql.Identifier(table))
        )
    view = "view \"'; DROP TABLE keep; --"
    tables = read_tables(
        {
            "scanner": False,
            "tables": {
                table: {
                    "time_column": time, "chunk": "1 day", "compress_after": "1 day", "segment_by": [symbol],
                    "order_by": [f"{price} NULLS FIRST", f"{time} DESC"], "drop_after": "never",
                    "aggregates": {view: {"bucket": "1 hour", "columns": {price: ["last", "avg"]}, "compress_after": "3 days"}},
                }
            },
        }
    )  # fmt: skip
    timescale.up(db.dsn, tables=tables)
    with db.connect() as connection:
        jobs.run_jobs(connection)
    assert faults(db.dsn) == []
    timescale.down(db.dsn, only=[table])
    with db.connect() as connection:
        assert connection.execute("SELECT to_regclass('keep')::text").fetchone() == ("keep",)
        query = sql.SQL("SELECT sum(sample_count) FROM {}").format(sql.Identifier(view))
        assert connection.execute(query).fetchone() == (50,)


@pytest.mark.parametrize(
    "share", [0.7, *(pytest.param(share, marks=pytest.mark.long) for share in (0.3, 0.5, 0.6, 0.8, 0.9))]
)
def test_stopped_anywhere_and_run_again(
    database: Make, old: str, declared: timescale.Tables, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = database(old)
    with db.connect() as connection:
        rows = connection.execute(EVENTS).fetchall()
    execute = psycopg.Connection.execute
    sent = 0
    last = 10**9

    def counting(self: psycopg.Connection, *arguments: Any, **options: Any) -> Any:
        nonlocal sent
        sent += 1
        if sent > last:
            raise KeyboardInterrupt
        return execute(self, *arguments, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", counting)
    timescale.up(database(old).dsn, tables=declared)
    last, sent = int(sent * share), 0
    with pytest.raises(KeyboardInterrupt):
        timescale.up(db.dsn, tables=declared)
    monkeypatch.undo()
    with db.connect() as connection:
        jobs.run_jobs(connection)
    timescale.up(db.dsn, tables=declared)
    with db.connect() as connection:
        jobs.run_jobs(connection)
        assert_events(connection, rows)


@pytest.mark.long
def test_an_aggregate_that_was_there_gets_its_policies_back(
    database: Make, sound: Database, declared: timescale.Tables
) -> None:
    """Somebody has made it by hand, as it is declared, and keeps it for 60 days."""
    db = database(sound.name)
    with db.connect() as connection:
        connection.execute("DROP TABLE snapdelta_migrations")
        connection.execute(
            "SELECT remove_retention_policy('market_events_5min'), remove_continuous_aggregate_policy('bars_1day')"
        )
        connection.execute(
            "SELECT alter_job(add_retention_policy('market_events_5min', interval '60 days'), scheduled => false)"
        )
        before = connection.execute(STATE).fetchall()
    timescale.up(db.dsn, tables=declared)
    assert faults(db.dsn) == []
    timescale.down(db.dsn)
    with db.connect() as connection:
        assert connection.execute(STATE).fetchall() == before


@pytest.mark.long
def test_days_pass(moving_clock: None, database: Make, old: str, declared: timescale.Tables) -> None:
    """The jobs run once a day while events are written: rows go after their time, and buckets after theirs."""
    db = database(old)
    timescale.up(db.dsn, tables=declared)
    with db.connect() as connection:
        rows = connection.execute(EVENTS).fetchall()
        for day in range(5):
            db.bed.advance(timedelta(days=1))
            rows += connection.execute(
                "INSERT INTO market_events SELECT now() - n * interval '9 minutes' - interval '2 minutes', 'S' || n % 3, 'trade', 100 + n % 97, n"
                " FROM generate_series(0, 150) n RETURNING ts, symbol, kind, price, size"
            ).fetchall()
            jobs.run_jobs(connection, seed=day)
            jobs.run_jobs(connection)
            assert_events(connection, rows)
        # The newest buckets are materialized once they are closed; longer than its window no refresh may wait.
        for time in (timedelta(hours=1), timedelta(days=10)):
            db.bed.advance(time)
            jobs.run_jobs(connection)
        assert connection.execute("SELECT count(*) FROM market_events").fetchone() == (0,)
        assert_events(connection, rows)
    timescale.up(db.dsn, tables=declared)
    with db.connect() as connection:
        assert_events(connection, rows)
        db.bed.advance(timedelta(days=40))
        jobs.run_jobs(connection)
        assert connection.execute("SELECT count(*) FROM market_events_5min").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM minute_bars").fetchone() == (20 * 72,)
        assert connection.execute("SELECT sum(sample_count) FROM bars_1day").fetchone() == (20 * 72,)


def test_command_line(database: Make, old: str, settings: Path) -> None:
    db = database(old)
    given = {"SNAPDELTA_DSN": db.dsn, "SNAPDELTA_CONFIG": str(settings)}
    assert "table market_events" not in run("status", env=given).stdout
    early = run("down", "--table", "minute_bars", env=given)
    assert (early.returncode, "table minute_bars is not applied" in early.stderr) == (2, True)
    applied = run("up", env=given)
    assert applied.returncode == 0, applied.stderr
    assert "table minute_bars becomes a hypertable" in applied.stderr
    with db.connect() as connection:
        plant_health(connection)
        jobs.run_jobs(connection)
    report = json.loads(run("verify", "--json", env=given).stdout)
    bad = [(found["subject"], found["check"]) for found in report["findings"] if found["severity"] == "fault"]
    assert bad == [("market_events", "width of kept chunks")]  # those of old
    states = {
        state["name"]: state["state"] for state in json.loads(run("status", "--json", env=given).stdout)
    }
    assert (states["table market_events"], states["004_optimize_memory_usage"]) == ("applied", "not applied")
    reverted = run("down", "--table", "minute_bars", env=given)
    assert reverted.returncode == 0, reverted.stderr
    assert "minute_bars stays a hypertable" in reverted.stderr
    verified = run("verify", env=given)
    assert verified.returncode == 1
    assert "run `snapdelta migrate up`" in verified.stdout
    assert run("down", env=given).returncode == 0
    again = run("down", env=given)
    assert (again.returncode, "nothing to revert" in again.stderr) == (2, True)


@pytest.mark.long
def test_a_new_aggregate_of_an_applied_table_is_filled_whole(
    database: Make, sound: Database, declared: timescale.Tables, tmp_path: Path
) -> None:
    """Also of a table that drops nothing, whose rows reach back further than `up` looks for holes."""
    db = database(sound.name)
    path = tmp_path / "more.toml"
    path.write_text(
        FILE
        + '[tool.snapdelta.timescale.tables.minute_bars.aggregates.bars_1hour]\nbucket = "1 hour"\ncolumns.close = "last"\n'
    )
    more = timescale.load_tables(path)
    assert ("bars_1hour", "exists") in faults(db.dsn, more)
    timescale.up(db.dsn, tables=more)
    assert faults(db.dsn, more) == []
    query = "SELECT (SELECT sum(sample_count) FROM bars_1hour), (SELECT count(*) FROM minute_bars)"
    with db.connect() as connection:
        found, rows = connection.execute(query).fetchone() or (None, None)
        assert found == rows
        # Dropped by hand and made again: it is empty, whatever the record says.
        connection.execute("DROP MATERIALIZED VIEW bars_1hour")
    timescale.up(db.dsn, tables=more)
    with db.connect() as connection:
        assert connection.execute(query).fetchone() == (rows, rows)


@pytest.mark.long
def test_old_holes_are_filled_before_their_rows_go(database: Make, sound: Database, tmp_path: Path) -> None:
    db = database(sound.name)
    path = tmp_path / "shorter.toml"
    path.write_text(FILE.replace('chunk = "7 days"', 'chunk = "7 days"\ndrop_after = "8 days"'))
    with db.connect() as connection:
        if not connection.execute(
            "SELECT 1 FROM pg_proc WHERE proname = 'refresh_continuous_aggregate' AND 'force' = ANY (proargnames)"
        ).fetchone():
            pytest.skip("this TimescaleDB does not refresh what was deleted by hand")
        table = jobs.materialized(connection, "bars_1day")
        connection.execute(
            f"DELETE FROM _timescaledb_internal.{table} WHERE bucket < now() - interval '12 days'".encode()
        )
    timescale.up(db.dsn, tables=timescale.load_tables(path))
    with db.connect() as connection:
        jobs.run_jobs(connection)
        kept = connection.execute("SELECT count(*) FROM minute_bars").fetchone()
        assert kept is not None
        assert kept[0] < 20 * 72
        assert connection.execute("SELECT sum(sample_count) FROM bars_1day").fetchone() == (20 * 72,)


def test_what_the_first_retention_drops_is_said(database: Make, old: str) -> None:
    from snapdelta.timescale.tables import read_tables

    db = database(old)
    said: list[str] = []
    part = {"chunk": "1 day", "drop_after": "5 days"}
    tables = read_tables({"scanner": False, "retention_every": "2 hours", "tables": {"minute_bars": part}})
    for _ in range(2):
        timescale.up(db.dsn, tables=tables, notify=said.append)
    (sentence,) = [sentence for sentence in said if "chunks of minute_bars" in sentence]
    assert "will be dropped by the next run of its retention (tables.minute_bars.drop_after)" in sentence
    with db.connect() as connection:
        jobs.run_jobs(connection)
    assert faults(db.dsn) == []  # its schedule is in the record


def test_beside_the_scanner(database: Make, aged: Aged, tmp_path: Path) -> None:
    """One file, one command: the scanner's tables with a period of the file, and a table beside them."""
    db = database(aged.name)
    with db.connect() as connection:
        connection.execute("CREATE TABLE ticks (time timestamptz NOT NULL, price float8)")
    path = tmp_path / "snapdelta.toml"
    path.write_text(
        '[timescale.scanner]\nraw_retention = "4 days"\n[timescale.tables.ticks]\ndrop_after = "3 days"\n'
    )
    tables = timescale.load_tables(path)
    timescale.up(db.dsn, tables=tables)
    timescale.rewrite(db.dsn, run=True)
    with db.connect() as connection:
        jobs.run_jobs(connection)
        assert_history(connection, aged.rows)
        assert jobs.policies(connection, "scan_results", jobs.RETENTION)[0]["drop_after"] == "4 days"
    assert faults(db.dsn, tables) == []
    states = {state.name: state.state for state in timescale.status(db.dsn)}
    assert states["table ticks"] == "applied"
    timescale.down(db.dsn)
    states = {state.name: state.state for state in timescale.status(db.dsn)}
    assert (states["table ticks"], states["004_optimize_memory_usage"]) == ("reverted", "reverted")
