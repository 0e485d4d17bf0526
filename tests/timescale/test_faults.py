"""Each way in which the obvious migration fails: the naive statement is seen to fail, then ours to hold."""

from __future__ import annotations

import subprocess
from datetime import timedelta

import psycopg
import pytest

from snapdelta import timescale
from snapdelta.errors import MigrationError, MigrationSettingError
from snapdelta.timescale.catalog import collect
from snapdelta.timescale.checks import judge
from snapdelta.timescale.files import SCHEMA, load
from snapdelta.timescale.migrate import execute
from timescale import jobs
from timescale.bed import postgres_program
from timescale.conftest import Aged, Database, Make
from timescale.scanner import assert_history, expected, insert, scan, stored

DAY = timedelta(days=1)
NAIVE_AGGREGATE = """CREATE MATERIALIZED VIEW scan_results_1min WITH (timescaledb.continuous) AS
    SELECT time_bucket('1 minute', time) AS bucket, symbol, session, avg(rvol) AS rvol, last(price, time) AS close
    FROM scan_results GROUP BY 1, 2, 3 WITH NO DATA"""


def refused(connection: psycopg.Connection, statement: str) -> str:
    """What the server says against a statement; fails when it says nothing."""
    with pytest.raises(psycopg.Error) as raised:
        connection.execute(statement.encode())
    return str(raised.value)


@pytest.fixture
def old(database: Make, aged: Aged) -> Database:
    return database(aged.name)


def test_add_policy_if_not_exists_keeps_the_old_one(old: Database) -> None:
    with old.connect() as connection:
        connection.execute("SET client_min_messages = error")
        kept = connection.execute(
            "SELECT add_retention_policy('scan_results', interval '3 days', if_not_exists => true),"
            " add_compression_policy('scan_results', interval '2 hours', if_not_exists => true)"
        ).fetchone()
        assert kept == (-1, -1)
        assert [job["drop_after"] for job in jobs.policies(connection, "scan_results", jobs.RETENTION)] == [
            "180 days"
        ]
        assert [
            job["compress_after"] for job in jobs.policies(connection, "scan_results", jobs.COMPRESSION)
        ] == ["7 days"]
    timescale.up(old.dsn)
    with old.connect() as connection:
        assert [job["drop_after"] for job in jobs.policies(connection, "scan_results", jobs.RETENTION)] == [
            "3 days"
        ]
        assert [
            job["compress_after"] for job in jobs.policies(connection, "scan_results", jobs.COMPRESSION)
        ] == ["02:00:00"]


def test_plain_table_takes_no_policy(old: Database) -> None:
    with old.connect() as connection:
        assert "not a hypertable" in refused(
            connection, "SELECT add_retention_policy('volume_slots', interval '14 days')"
        )
        assert "not empty" in refused(connection, "SELECT create_hypertable('volume_slots', 'date')")
        connection.execute("CREATE TABLE keyed (date date NOT NULL, symbol text PRIMARY KEY)")
        assert "partitioning" in refused(connection, "SELECT create_hypertable('keyed', 'date')")
        assert "date dimension" in refused(
            connection,
            "SELECT create_hypertable('volume_slots', 'date', chunk_time_interval => interval '90 minutes', migrate_data => true)",
        )
        rows = connection.execute(
            "SELECT * FROM volume_slots WHERE date > now() - interval '14 days' ORDER BY 1, 2, 3"
        ).fetchall()
    timescale.up(old.dsn)
    with old.connect() as connection:
        jobs.run_jobs(connection)
        assert jobs.oldest(connection, "volume_slots", "date") <= 15 * DAY
        assert jobs.oldest(connection, "market_data_daily", "trading_date") <= (90 + 30 + 1) * DAY
        assert (
            connection.execute(
                "SELECT * FROM volume_slots WHERE date > now() - interval '14 days' ORDER BY 1, 2, 3"
            ).fetchall()
            == rows
        )


def test_wide_chunks_are_neither_compressed_nor_dropped(old: Database) -> None:
    with old.connect() as connection:
        connection.execute(
            "SELECT remove_retention_policy('scan_results'), remove_compression_policy('scan_results')"
        )
        connection.execute(
            "SELECT add_retention_policy('scan_results', interval '3 days'), add_compression_policy('scan_results', interval '2 hours')"
        )
        jobs.run_jobs(connection)
        now = jobs.now(connection)
        open_chunks = [chunk for chunk in jobs.chunks(connection, "scan_results") if chunk[1] > now]
        assert open_chunks
        assert not any(compressed for _, _, compressed in open_chunks)
        # A new width is for new chunks only: the open one stays 7 days wide.
        connection.execute("SELECT set_chunk_time_interval('scan_results', interval '1 hour')")
        insert(connection, scan(now - timedelta(minutes=5), now, every=timedelta(minutes=1), seed=9))
        assert [chunk for chunk in jobs.chunks(connection, "scan_results") if chunk[1] > now] == open_chunks


def test_narrow_chunks_from_the_start(database: Make, empty: str) -> None:
    db = database(empty)
    with db.connect() as connection:
        execute(connection, load(SCHEMA), {})
        now = jobs.now(connection)
        rows = scan(now - 5 * DAY, now, every=timedelta(minutes=30))
        insert(connection, rows)
    timescale.up(db.dsn)
    with db.connect() as connection:
        jobs.run_jobs(connection)
        all_chunks = jobs.chunks(connection, "scan_results")
        assert jobs.oldest(connection) <= 3 * DAY + timedelta(hours=1)
        assert sum(compressed for _, _, compressed in all_chunks) >= len(all_chunks) - 4
        assert_history(connection, rows)


def test_few_rows_a_chunk_grow_when_compressed(database: Make, empty: str) -> None:
    db = database(empty)
    timescale.up(db.dsn)
    with db.connect() as connection:
        now = jobs.now(connection)
        connection.execute("DROP INDEX scan_results_symbol_time_idx")
        # One to three rows of each symbol in each chunk of an hour.
        insert(connection, scan(now - 20 * timedelta(hours=1), now, every=timedelta(hours=1)))
        jobs.run_jobs(connection, only=jobs.COMPRESSION)
    ratio = next(
        finding
        for finding in timescale.verify(db.dsn)
        if (finding.subject, finding.check) == ("scan_results", "compression")
    )
    assert ratio.severity is timescale.Severity.WARNING
    few = [
        finding
        for finding in timescale.plan(rows_per_day=96, symbols=4)
        if finding.severity is timescale.Severity.WARNING
    ]
    assert [finding.check for finding in few] == ["rows of a symbol in a chunk"]


def test_aggregate_chunks_are_ten_times_too_wide(old: Database) -> None:
    with old.connect() as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute(NAIVE_AGGREGATE)
        width = "SELECT time_interval FROM timescaledb_information.dimensions WHERE hypertable_name = %s"
        naive = jobs.materialized(connection, "scan_results_1min")
        assert connection.execute(width, (naive,)).fetchone() == (70 * DAY,)
    timescale.up(old.dsn, {"other_definition": "rename"})
    with old.connect() as connection:
        for view, wanted in (("scan_results_1min", DAY), ("scan_results_1hour", 7 * DAY)):
            table = jobs.materialized(connection, view)
            assert connection.execute(width, (table,)).fetchone() == (wanted,)
            assert {end - start for start, end, _ in jobs.chunks(connection, table)} == {wanted}


@pytest.mark.long
@pytest.mark.parametrize("start_offset", ["NULL", "interval '7 days'"])
def test_refresh_behind_retention_empties_buckets(
    old: Database, healthy: Aged, database: Make, start_offset: str
) -> None:
    db = database(healthy.name)
    with db.connect() as connection:
        before = len(stored(connection, "scan_results_1min"))
        # Retention and late rows mark the past as changed; a late row is the plainest way.
        late = scan(
            jobs.now(connection) - 5 * DAY,
            jobs.now(connection) - 5 * DAY + timedelta(hours=2),
            every=timedelta(minutes=10),
            seed=5,
        )
        insert(connection, late)
        connection.execute("SELECT remove_continuous_aggregate_policy('scan_results_1min_scaled')")
        connection.execute(
            f"SELECT add_continuous_aggregate_policy('scan_results_1min_scaled', start_offset => {start_offset}, end_offset => interval '1 minute',"
            " schedule_interval => interval '5 minutes')".encode()
        )
        faults = [
            finding
            for finding in judge(collect(connection))
            if finding.check == "refresh window" and finding.severity is timescale.Severity.FAULT
        ]
        assert [finding.subject for finding in faults] == ["scan_results_1min"]
        jobs.run_jobs(connection, only=jobs.REFRESH)
        naive = stored(connection, "scan_results_1min")
        kept = expected(healthy.rows, timedelta(minutes=1))
        assert len([key for key in kept if naive.get(key) == kept[key]]) < before
    good = database(healthy.name)
    with good.connect() as connection:
        insert(connection, late)
        for seed in (1, 2):
            jobs.run_jobs(connection, seed=seed)
        assert_history(connection, healthy.rows)
    timescale.up(good.dsn)
    with good.connect() as connection:
        jobs.run_jobs(connection)
        assert_history(connection, healthy.rows)


def test_refreshing_everything_by_hand_empties_buckets(database: Make, healthy: Aged) -> None:
    db = database(healthy.name)
    with db.connect() as connection:
        late = scan(
            jobs.now(connection) - 6 * DAY,
            jobs.now(connection) - 6 * DAY + timedelta(hours=1),
            every=timedelta(minutes=10),
            seed=6,
        )
        insert(connection, late)
        connection.execute("CALL refresh_continuous_aggregate('scan_results_1min_scaled', NULL, NULL)")
        found, kept = stored(connection, "scan_results_1min"), expected(healthy.rows, timedelta(minutes=1))
        assert any(found.get(key) != bucket for key, bucket in kept.items())


def test_too_short_a_window_leaves_holes_after_an_outage(
    moving_clock: None, database: Make, empty: str
) -> None:
    db = database(empty)
    timescale.up(db.dsn)

    def outage(connection: psycopg.Connection) -> int:
        """Six hours without jobs and then one run: how many buckets are not materialized."""
        jobs.run_jobs(connection, only=jobs.REFRESH)
        db.bed.advance(timedelta(hours=6))
        now = jobs.now(connection).replace(second=0, microsecond=0)
        rows = scan(now - timedelta(hours=6), now - timedelta(minutes=5), every=timedelta(minutes=5), seed=7)
        insert(connection, rows)
        jobs.run_jobs(connection, only=jobs.REFRESH)
        table = jobs.materialized(connection, "scan_results_1min")
        held = {
            bucket
            for (bucket,) in connection.execute(f"SELECT bucket FROM _timescaledb_internal.{table}".encode())
        }
        return len({key[0] for key in expected(rows, timedelta(minutes=1))} - held)

    with db.connect() as connection:
        insert(
            connection,
            scan(
                jobs.now(connection) - timedelta(minutes=30), jobs.now(connection), every=timedelta(minutes=5)
            ),
        )
        assert outage(connection) == 0
        connection.execute("SELECT remove_continuous_aggregate_policy('scan_results_1min_scaled')")
        connection.execute(
            "SELECT add_continuous_aggregate_policy('scan_results_1min_scaled', start_offset => interval '1 hour', end_offset => interval '1 minute',"
            " schedule_interval => interval '5 minutes')"
        )
        assert outage(connection) > 0
        holes = [
            finding
            for finding in judge(collect(connection))
            if finding.check == "holes" and finding.severity is timescale.Severity.FAULT
        ]
        assert holes
    timescale.up(db.dsn)
    with db.connect() as connection:
        assert not [
            finding
            for finding in judge(collect(connection))
            if finding.check == "holes" and finding.severity is timescale.Severity.FAULT
        ]


def test_window_of_one_bucket_is_refused(old: Database) -> None:
    with old.connect() as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute(NAIVE_AGGREGATE)
        said = refused(
            connection,
            "SELECT add_continuous_aggregate_policy('scan_results_1min', start_offset => interval '2 minutes', end_offset => interval '1 minute',"
            " schedule_interval => interval '1 minute')",
        )
        assert "two buckets" in said
    with pytest.raises(MigrationSettingError, match="two buckets"):
        timescale.up(old.dsn, {"minute_refresh_start": "2 minutes", "minute_refresh_end": "1 minute"})


def test_refresh_and_with_data_need_to_stand_alone(old: Database) -> None:
    with old.connect() as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute(NAIVE_AGGREGATE)
        with connection.transaction(force_rollback=True):
            assert "transaction block" in refused(
                connection, "CALL refresh_continuous_aggregate('scan_results_1min', NULL, NULL)"
            )
        assert "transaction block" in refused(
            connection, "SELECT 1; CALL refresh_continuous_aggregate('scan_results_1min', NULL, NULL)"
        )
        with connection.transaction(force_rollback=True):
            assert "transaction block" in refused(
                connection, NAIVE_AGGREGATE.replace("1min", "2").replace("WITH NO DATA", "WITH DATA")
            )


def test_index_predicate_with_now_loses_the_index_before_it(old: Database) -> None:
    with old.connect() as connection:
        connection.execute("CREATE INDEX recent ON scan_results (symbol, time)")
        connection.execute("DROP INDEX recent")
        assert "IMMUTABLE" in refused(
            connection,
            "CREATE INDEX recent ON scan_results (symbol, time) WHERE time > now() - interval '1 day'",
        )
        assert connection.execute("SELECT to_regclass('recent')").fetchone() == (None,)
        connection.execute("CREATE INDEX recent ON scan_results (symbol, time)")
    timescale.up(old.dsn)
    with old.connect() as connection:
        assert connection.execute("SELECT to_regclass('recent')::text").fetchone() == ("recent",)


def test_columns_of_the_usual_check_queries_do_not_exist(old: Database) -> None:
    with old.connect() as connection:
        for column in ("older_than", "refresh_lag", "refresh_interval"):
            for view in ("jobs", "job_stats", "continuous_aggregates"):
                assert "does not exist" in refused(
                    connection, f"SELECT {column} FROM timescaledb_information.{view}"
                )
    assert timescale.verify(old.dsn)  # asks only for what is there


def test_default_schedules_are_lazy(old: Database) -> None:
    def every(connection: psycopg.Connection) -> dict[str, timedelta]:
        query = "SELECT proc_name, schedule_interval FROM timescaledb_information.jobs WHERE hypertable_name = 'scan_results'"
        return {name: interval for name, interval in connection.execute(query)}  # noqa: C416 (typed rows)

    with old.connect() as connection:
        assert every(connection)[jobs.RETENTION] == DAY
        assert every(connection)[jobs.COMPRESSION] == timedelta(hours=12)
    lazy = {
        (finding.subject, finding.check)
        for finding in timescale.verify(old.dsn)
        if finding.severity is timescale.Severity.FAULT
    }
    assert ("scan_results", "retention schedule") in lazy
    assert ("scan_results", "compression schedule") in lazy
    timescale.up(old.dsn)
    with old.connect() as connection:
        assert every(connection) == {
            jobs.RETENTION: timedelta(hours=1),
            jobs.COMPRESSION: timedelta(minutes=30),
        }


def test_averages_do_not_roll_up(database: Make, healthy: Aged) -> None:
    with database(healthy.name).connect() as connection:
        rows = connection.execute(
            """SELECT h.bucket, h.symbol, h.session, h.rvol_sum / h.rvol_n, avg(m.rvol_sum / nullif(m.rvol_n, 0))
               FROM scan_results_1hour h JOIN scan_results_1min m
                 ON time_bucket('1 hour', m.bucket) = h.bucket AND m.symbol = h.symbol AND m.session = h.session
               WHERE h.rvol_n > 0 GROUP BY h.bucket, h.symbol, h.session, h.rvol_sum, h.rvol_n"""
        ).fetchall()
    hours = expected(healthy.rows, timedelta(hours=1))
    right = naive = 0
    for bucket, symbol, session, ours, averaged in rows:
        wanted = hours[bucket, symbol, session]
        mean = wanted["rvol_sum"] / wanted["rvol_n"]
        right += abs(ours - mean) < 1e-9
        naive += abs(averaged - mean) < 1e-9
    assert right == len(rows)
    assert naive < len(rows) / 2


def test_older_definition_is_kept_by_if_not_exists(old: Database, aged: Aged) -> None:
    with old.connect() as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute(NAIVE_AGGREGATE)
        connection.execute("CALL refresh_continuous_aggregate('scan_results_1min', NULL, NULL)")
        connection.execute(
            NAIVE_AGGREGATE.replace("VIEW scan", "VIEW IF NOT EXISTS scan").replace(
                "last(price, time)", "max(score)"
            )
        )
        before = connection.execute("SELECT * FROM scan_results_1min ORDER BY 1, 2, 3").fetchall()
    with pytest.raises(MigrationError, match=r"another definition.*rename"):
        timescale.up(old.dsn)
    assert any(
        finding.check == "definition" and finding.severity is timescale.Severity.FAULT
        for finding in timescale.verify(old.dsn)
    )
    timescale.up(old.dsn, {"other_definition": "rename"})
    with old.connect() as connection:
        (name,) = connection.execute(
            "SELECT view_name FROM timescaledb_information.continuous_aggregates WHERE view_name LIKE '%before%'"
        ).fetchone() or ("",)
        assert connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3".encode()).fetchall() == before
        assert_history(connection, aged.rows)


def test_new_raw_column_is_not_lost_in_silence(database: Make, healthy: Aged) -> None:
    db = database(healthy.name)
    with db.connect() as connection:
        connection.execute("ALTER TABLE scan_results ADD COLUMN halted boolean, ADD COLUMN bid numeric(12,4)")
    assert [
        finding.subject
        for finding in timescale.verify(db.dsn)
        if finding.check == "definition" and finding.severity is timescale.Severity.FAULT
    ]
    with pytest.raises(MigrationError, match="another definition"):
        timescale.up(db.dsn)
    timescale.up(db.dsn, {"other_definition": "rename"})
    with db.connect() as connection:
        columns = {
            column.name
            for column in connection.execute("SELECT * FROM scan_results_1hour LIMIT 0").description or ()
        }
    assert {"halted_last", "bid_last", "bid_min", "bid_max", "bid_sum", "bid_n"} <= columns


def test_way_back_that_drops_the_aggregates_loses_history(database: Make, healthy: Aged) -> None:
    naive = database(healthy.name)
    with naive.connect() as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute("DROP MATERIALIZED VIEW scan_results_1min_scaled CASCADE")
    timescale.up(naive.dsn)
    with naive.connect() as connection, pytest.raises(AssertionError, match="buckets are gone"):
        assert_history(connection, healthy.rows)
    ours = database(healthy.name)
    timescale.down(ours.dsn)
    with ours.connect() as connection:
        assert_history(connection, healthy.rows)
        assert [job["drop_after"] for job in jobs.policies(connection, "scan_results", jobs.RETENTION)] == [
            "180 days"
        ]
        assert [
            job["compress_after"] for job in jobs.policies(connection, "scan_results", jobs.COMPRESSION)
        ] == ["7 days"]
        assert not jobs.policies(connection, "scan_results_1min", jobs.RETENTION)
        assert not jobs.policies(connection, "volume_slots", jobs.RETENTION)
        width = connection.execute(
            "SELECT time_interval FROM timescaledb_information.dimensions WHERE hypertable_name = 'scan_results'"
        ).fetchone()
        assert width == (7 * DAY,)


def test_psql_goes_on_after_errors_unless_told(old: Database) -> None:
    naive = subprocess.run(
        [postgres_program("psql"), "-X", "-q", old.dsn, "-f", "-"],
        input="SELECT nope;\nSELECT 1;\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert naive.returncode == 0
    assert "nope" in naive.stderr
    ours = subprocess.run(
        [postgres_program("psql"), "-X", "-q", "-v", "raw_retention=1 day", old.dsn, "-f", str(timescale.migrations_directory() / "004_optimize_memory_usage.sql")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ours.returncode == 3
    assert "raw_retention (1 day)" in ours.stderr


def test_autovacuum_options_reach_the_chunks(old: Database) -> None:
    timescale.up(old.dsn)
    with old.connect() as connection:
        chunk = connection.execute(
            "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks WHERE hypertable_name = 'scan_results' LIMIT 1"
        ).fetchone()
        assert chunk is not None
        options = connection.execute(
            "SELECT reloptions FROM pg_class WHERE oid = %s::regclass", chunk
        ).fetchone()
        assert options is not None
        assert "autovacuum_vacuum_insert_scale_factor=0.05" in options[0]
