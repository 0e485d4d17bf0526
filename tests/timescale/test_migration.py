"""Up, jobs, down and up again: every bucket of 20 days is there and right at every step."""

from __future__ import annotations

from datetime import timedelta

import pytest

from snapdelta import timescale
from snapdelta.timescale.files import SCHEMA, load
from snapdelta.timescale.migrate import execute
from timescale import jobs
from timescale.conftest import Aged, Database, Make
from timescale.scanner import Row, assert_history, insert, scan
from timescale.workers import plant_health


def test_cycle(database: Make, aged: Aged) -> None:
    # Only whole chunks go, and the old ones are 7 days wide.
    cycle(database(aged.name), aged.rows, chunk=timedelta(days=7))


@pytest.mark.long
def test_cycle_of_a_fresh_database(database: Make, empty: str) -> None:
    db = database(empty)
    with db.connect() as connection:
        execute(connection, load(SCHEMA), {})
        now = jobs.now(connection)
        rows = scan(now - timedelta(days=20), now, every=timedelta(hours=4))
        insert(connection, rows)
    cycle(db, rows, chunk=timedelta(hours=1))


def cycle(db: Database, rows: list[Row], chunk: timedelta) -> None:
    """Up, jobs, up, jobs, down, jobs, up, jobs; raw chunks are this wide at the start."""
    timescale.up(db.dsn)
    with db.connect() as connection:
        assert_history(connection, rows)
        jobs.run_jobs(connection)
        assert_history(connection, rows)
    timescale.up(db.dsn)
    with db.connect() as connection:
        jobs.run_jobs(connection, seed=2)
        assert_history(connection, rows)
        assert jobs.oldest(connection) <= timedelta(days=3) + chunk
        assert all(
            compressed
            for _, end, compressed in jobs.chunks(connection, "scan_results")
            if end < jobs.now(connection) - timedelta(hours=2)
        )
    timescale.down(db.dsn)
    with db.connect() as connection:
        assert_history(connection, rows)
        jobs.run_jobs(connection)
        assert_history(connection, rows)
    timescale.up(db.dsn)
    with db.connect() as connection:
        jobs.run_jobs(connection, seed=3)
        assert_history(connection, rows)


@pytest.mark.long
def test_rewrite_reaches_the_new_width_at_once(database: Make, migrated: Aged) -> None:
    db = database(migrated.name)
    said: list[str] = []
    timescale.rewrite(db.dsn, run=False, notify=said.append)
    assert any("wide chunks with" in sentence for sentence in said)
    with db.connect() as connection:
        assert max(end - start for start, end, _ in jobs.chunks(connection, "scan_results")) == timedelta(
            days=7
        )
    timescale.rewrite(db.dsn, run=True)
    with db.connect() as connection:
        recent = [row for row in migrated.rows if row["time"] >= jobs.now(connection) - timedelta(days=3)]
        kept = connection.execute("SELECT count(*) FROM scan_results WHERE time >= %s", (recent[0]["time"],))
        assert kept.fetchone() == (len(recent),)
        assert_history(connection, migrated.rows)
        jobs.run_jobs(connection, seed=4)
        jobs.run_jobs(connection)
        assert_history(connection, migrated.rows)
        assert jobs.oldest(connection) <= timedelta(days=3, hours=1)
        now = jobs.now(connection)
        assert all(
            compressed
            for _, end, compressed in jobs.chunks(connection, "scan_results")
            if end < now - timedelta(hours=2)
        )
        assert max(end - start for start, end, _ in jobs.chunks(connection, "scan_results")) == timedelta(
            hours=1
        )
    timescale.up(db.dsn)
    with db.connect() as connection:
        jobs.run_jobs(connection)
        assert_history(connection, migrated.rows)
    assert {state.name: state.state for state in timescale.status(db.dsn)}[
        "005_rewrite_wide_chunks"
    ] == "applied"


# A server that has the new names is migrated by them wherever nothing else is said.
@pytest.mark.parametrize("names", ["old", pytest.param("new", marks=pytest.mark.long)])
def test_both_sets_of_compression_names(database: Make, aged: Aged, names: str) -> None:
    db = database(aged.name)
    with db.connect() as connection:
        # Compression that was never switched on has to be switched on under either name.
        connection.execute(
            "SELECT remove_compression_policy('scan_results'); ALTER TABLE scan_results SET (timescaledb.compress = false)"
        )
    timescale.up(db.dsn, {"compression_names": names})
    timescale.rewrite(db.dsn, run=True)
    with db.connect() as connection:
        jobs.run_jobs(connection)
        done = [compressed for _, _, compressed in jobs.chunks(connection, "scan_results")]
        assert sum(done) >= len(done) - 4
        assert any(
            compressed
            for _, _, compressed in jobs.chunks(
                connection, jobs.materialized(connection, "scan_results_1min")
            )
        )
        assert_history(connection, aged.rows)


def test_after_a_manual_attempt(database: Make, migrated: Aged) -> None:
    """Somebody has made the aggregates by hand, filled them in part, and put every dangerous policy on them."""
    db = database(migrated.name)  # the aggregates as they should be...
    with db.connect() as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute("DROP TABLE snapdelta_migrations")
        connection.execute("DROP MATERIALIZED VIEW scan_results_1hour_scaled CASCADE")  # ...but for the hours
        for policy in ("retention_policy('scan_results')", "retention_policy('scan_results_1min_scaled')", "compression_policy('scan_results')",
                       "continuous_aggregate_policy('scan_results_1min_scaled')", "retention_policy('volume_slots')"):  # fmt: skip
            connection.execute(f"SELECT remove_{policy}".encode())
        connection.execute("SELECT add_retention_policy('scan_results', interval '3 days')")
        connection.execute("SELECT add_retention_policy('scan_results_1min_scaled', interval '10 days')")
        connection.execute(
            "SELECT add_continuous_aggregate_policy('scan_results_1min_scaled', start_offset => NULL, end_offset => interval '1 hour', schedule_interval => interval '1 hour')"
        )
        connection.execute("SELECT set_chunk_time_interval('scan_results', interval '7 days')")
        # Half of the buckets were never filled...
        table = jobs.materialized(connection, "scan_results_1min")
        connection.execute(
            f"DELETE FROM _timescaledb_internal.{table} WHERE bucket > now() - interval '9 hours'".encode()
        )
        # ...and the retention has run already.
        jobs.run_jobs(connection, only=jobs.RETENTION)
        kept = [row for row in migrated.rows if row["time"] >= jobs.chunks(connection, table)[0][0]]
    timescale.up(db.dsn)
    with db.connect() as connection:
        jobs.run_jobs(connection, seed=8)
        jobs.run_jobs(connection)
        assert_history(connection, kept)
        plant_health(connection)
    assert not [
        finding
        for finding in timescale.verify(db.dsn)
        if finding.severity is timescale.Severity.FAULT and "chunks" not in finding.check
    ]


def test_sizes_are_reported(database: Make, healthy: Aged) -> None:
    found = {
        finding.subject: finding
        for finding in timescale.verify(database(healthy.name).dsn)
        if finding.check == "compression" and "->" in finding.actual
    }
    assert {"scan_results", "scan_results_1min"} <= found.keys()


def test_again_a_month_later(moving_clock: None, database: Make, healthy: Aged) -> None:
    db = database(healthy.name)
    db.bed.advance(timedelta(days=29) - timedelta(days=20))
    with db.connect() as connection:
        jobs.run_jobs(connection)
        assert connection.execute("SELECT count(*) FROM scan_results").fetchone() == (0,)
        assert_history(connection, healthy.rows)
        # Late rows for minutes that were full: they must not replace what was.
        late = [row for row in healthy.rows if row["time"] < healthy.until - timedelta(days=5)][:50]
        insert(connection, late * 3)
    timescale.up(db.dsn)
    with db.connect() as connection:
        jobs.run_jobs(connection, seed=5)
        jobs.run_jobs(connection)
        assert_history(connection, healthy.rows)
    timescale.down(db.dsn)
    timescale.up(db.dsn)
    with db.connect() as connection:
        jobs.run_jobs(connection)
        assert_history(connection, healthy.rows)


# Chunks of 7 days: after 8 days the younger retention drops rows of one day, within the refresh window of two.
@pytest.mark.parametrize(
    ("age", "refreshed"), [("8 days", False), pytest.param("90 days", True, marks=pytest.mark.long)]
)
def test_down_restores_policies_of_every_kind(database: Make, aged: Aged, age: str, refreshed: bool) -> None:
    """An age that counts from when a chunk was made, and a policy that was switched off."""
    db = database(aged.name)
    with db.connect() as connection:
        if not connection.execute(
            "SELECT 1 FROM pg_proc WHERE 'drop_created_before' = ANY (proargnames)"
        ).fetchone():
            pytest.skip("this TimescaleDB has no drop_created_before")
        connection.execute(
            "SELECT remove_retention_policy('scan_results'), remove_compression_policy('scan_results')"
        )
        connection.execute(
            f"SELECT add_retention_policy('scan_results', drop_created_before => interval '{age}')".encode()
        )
        connection.execute(
            "SELECT alter_job(add_compression_policy('scan_results', compress_created_before => interval '9 days'), scheduled => false)"
        )
        query = "SELECT proc_name, scheduled, schedule_interval, config - 'hypertable_id' FROM timescaledb_information.jobs WHERE hypertable_name = 'scan_results' ORDER BY 1"
        before = connection.execute(query).fetchall()
    timescale.up(db.dsn)
    timescale.down(db.dsn)
    with db.connect() as connection:
        assert connection.execute(query).fetchall() == before
        assert bool(jobs.policies(connection, "scan_results_1min", jobs.REFRESH)) is refreshed
        assert jobs.policies(connection, "scan_results_1hour", jobs.REFRESH)
