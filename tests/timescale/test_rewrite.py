"""The move into narrow chunks: stopped at any step, with rows that change under it, and rows that nobody aggregated."""

from __future__ import annotations

import re
import subprocess
from datetime import datetime, timedelta

import psycopg
import pytest

from snapdelta import timescale
from snapdelta.errors import MigrationError
from snapdelta.timescale.files import OPTIMIZE, REWRITE, load
from timescale import jobs
from timescale.bed import postgres_program
from timescale.conftest import Aged, Database, Make
from timescale.scanner import Row, assert_history, insert, scan

DAY = timedelta(days=1)
# Each stops the run at one step, as a killed session would: the server rolls that step back and the session is gone.
STOPS = {
    "before the copy": (
        """CREATE FUNCTION stop() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
           IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_type = 'trigger' AND object_identity LIKE 'snapdelta%') THEN RAISE 'stopped'; END IF; END $$;
           CREATE EVENT TRIGGER stop ON ddl_command_end EXECUTE FUNCTION stop()""",
        "DROP EVENT TRIGGER stop",
    ),
    "before the chunk is replaced": (
        """CREATE FUNCTION stop() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
           IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE object_name ~ '^_hyper_[0-9]+_[0-9]+_chunk$') THEN RAISE 'stopped'; END IF; END $$;
           CREATE EVENT TRIGGER stop ON sql_drop EXECUTE FUNCTION stop()""",
        "DROP EVENT TRIGGER stop",
    ),
    "on the way back": (
        """CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'stopped'; END $$;
           CREATE TRIGGER stop BEFORE INSERT ON scan_results FOR EACH ROW WHEN (NEW.time < now() - interval '2 days') EXECUTE FUNCTION stop()""",
        "DROP TRIGGER stop ON scan_results",
    ),
}  # fmt: skip


def wide(connection: psycopg.Connection) -> tuple[datetime, datetime]:
    """The range of the oldest wide chunk with rows that are kept: where a week has just begun there are two."""
    kept = jobs.now(connection) - timedelta(days=3)
    ranges = [(start, end) for start, end, _ in jobs.chunks(connection, "scan_results")]
    return min((start, end) for start, end in ranges if end - start > DAY and end > kept)


def all_rows(connection: psycopg.Connection) -> list[str]:
    """Every raw row as text, also those on their way, oldest first."""
    query = "SELECT row_to_json(s)::text AS row, time FROM {} s"
    staged = connection.execute("SELECT to_regclass('snapdelta_rewrite_rows') IS NOT NULL AND to_regclass('snapdelta_rewrite_changes') IS NULL").fetchone()  # fmt: skip
    parts = ["scan_results", *(["snapdelta_rewrite_rows"] if staged == (True,) else [])]
    union = " UNION ALL ".join(query.format(part) for part in parts)
    return [row for row, _ in connection.execute(f"{union} ORDER BY 2, 1".encode()).fetchall()]


def scheduled(connection: psycopg.Connection) -> list[bool]:
    return [on for (on,) in connection.execute("SELECT scheduled FROM timescaledb_information.jobs WHERE job_id >= 1000")]  # fmt: skip


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("before the copy", marks=pytest.mark.long),
        "before the chunk is replaced",
        "on the way back",
    ],
)
def test_stopped_and_run_again(database: Make, migrated: Aged, step: str) -> None:
    db = database(migrated.name)
    stop, proceed = STOPS[step]
    with db.connect() as connection:
        start, _ = wide(connection)
        kept = jobs.now(connection) - timedelta(days=3)
        connection.execute(stop.encode())
        before = all_rows(connection)
    with pytest.raises(MigrationError, match="stopped"):
        timescale.rewrite(db.dsn, run=True)
    with db.connect() as connection:
        moving = step == "on the way back"
        connection.execute(proceed.encode())
        found = all_rows(connection)
        # Nothing is lost but what is older than is kept, and that only once the chunk is replaced.
        assert found == [row for row in before if row in set(found)]
        gone = set(before) - set(found)
        assert bool(gone) == moving
        assert len(before) - len(gone) >= sum(
            row["time"] < start or row["time"] >= kept for row in migrated.rows
        )
        assert scheduled(connection).count(False) == (3 if moving else 0)
    if moving:
        refused = psql(db, OPTIMIZE)
        assert "stopped half-way" in refused
        assert "stopped half-way" in psql(db, f"{OPTIMIZE}.down")
        timescale.up(db.dsn)  # finishes it first
    timescale.rewrite(db.dsn, run=True)
    with db.connect() as connection:
        assert_narrow(connection, migrated, start)
        assert all(scheduled(connection))
        jobs.run_jobs(connection, seed=3)
        assert_history(connection, migrated.rows)
        left = connection.execute("SELECT relname FROM pg_class WHERE relname LIKE 'snapdelta_rewrite%' UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'snapdelta_rewrite%'").fetchall()  # fmt: skip
        assert left == []


def psql(db: Database, name: str) -> str:
    file = timescale.migrations_directory() / f"{name}.sql"
    result = subprocess.run(
        [postgres_program("psql"), "-X", "-q", db.dsn, "-f", str(file)], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert result.returncode == 3
    return result.stderr


def assert_narrow(connection: psycopg.Connection, aged: Aged, start: datetime) -> None:
    """Every row that is kept is there once, in a narrow chunk."""
    now = jobs.now(connection)
    recent = [row["time"] for row in aged.rows if row["time"] >= now - timedelta(days=3)]
    assert connection.execute("SELECT count(*) FROM scan_results WHERE time >= %s", (recent[0],)).fetchone() == (len(recent),)  # fmt: skip
    # Up to an hour older ones stay with their chunk, others were not moved.
    oldest = connection.execute("SELECT min(time) FROM scan_results WHERE time >= %s", (start,)).fetchone()
    assert oldest is not None
    assert oldest[0] >= now - timedelta(days=3, hours=1, minutes=10)
    widths = {end - begin for begin, end, _ in jobs.chunks(connection, "scan_results") if end > now - 3 * DAY}
    assert widths == {timedelta(hours=1)}


def test_changes_under_the_copy(database: Make, migrated: Aged) -> None:
    """Rows come, change and go between the copy and the replacement: the result is what it is without a copy."""
    db = database(migrated.name)
    with db.connect() as connection:
        start, end = wide(connection)
        for statement in load(REWRITE).statements:
            sent = statement.render({"run": "no"})
            if not sent.startswith("SELECT pg_advisory_unlock"):
                connection.execute(sent.encode())
        connection.execute("INSERT INTO snapdelta_migrations (name, started_at) VALUES ('005_rewrite_wide_chunks', now())")  # fmt: skip
        chunk, _, kept, _ = connection.execute("SELECT chunk::text, starts, kept, ends FROM pg_temp.wide_chunks()").fetchone() or ()  # fmt: skip
        connection.execute("SELECT pg_temp.watch(%s::regclass)", (chunk,))
        connection.execute("CALL pg_temp.copy_rows(%s, %s)", (kept, end))
        now = jobs.now(connection)
        late: list[Row] = scan(now - DAY, now - DAY + timedelta(hours=3), every=timedelta(minutes=7), seed=11)
        insert(connection, late)
        connection.execute("UPDATE scan_results SET price = price + 1 WHERE symbol = 'AAPL' AND time > now() - interval '2 days'")  # fmt: skip
        # no row may move into another chunk, which TimescaleDB refuses
        connection.execute("UPDATE scan_results SET time = time + interval '90 minutes' WHERE symbol = 'MSFT' AND time BETWEEN now() - interval '30 hours' AND now() - interval '20 hours' AND (time < %s - interval '90 minutes' OR time >= %s)", (end, end))  # fmt: skip
        connection.execute("DELETE FROM scan_results WHERE symbol = 'NVDA' AND time > now() - interval '40 hours'")  # fmt: skip
        connection.execute("SELECT pg_temp.catch_up(%s, %s)", (kept, end))
        insert(connection, scan(now - timedelta(hours=1), now, every=timedelta(minutes=5), seed=12))
        expected = [row for (row,) in connection.execute("SELECT row_to_json(s)::text FROM scan_results s WHERE time < %s OR time >= %s ORDER BY time, 1", (start, kept)).fetchall()]  # fmt: skip
        connection.execute("SELECT pg_temp.replace_chunk(%s::regclass, %s, %s)", (chunk, kept, end))
        assert all_rows(connection) == expected
        assert connection.execute("SELECT count(*) FROM snapdelta_rewrite_rows").fetchone() != (0,)
        connection.execute("CALL pg_temp.bring_back()")
        assert all_rows(connection) == expected
        assert connection.execute("SELECT to_regclass('snapdelta_rewrite_rows')").fetchone() == (None,)


def test_rows_that_no_aggregate_holds_are_not_left_behind(database: Make, migrated: Aged) -> None:
    db = database(migrated.name)
    with db.connect() as connection:
        start, _ = wide(connection)
        kept = (jobs.now(connection) - timedelta(days=3, hours=2)).replace(minute=0, second=0, microsecond=0)
        # In the first days of a wide chunk nothing in it is old: these rows are.
        start = min(start, kept - timedelta(hours=6))
        table = jobs.materialized(connection, "scan_results_1min")
        connection.execute("UPDATE snapdelta_migrations SET applied_at = applied_at - interval '15 days'")
        connection.execute(f"DELETE FROM _timescaledb_internal.{table} WHERE bucket >= %s AND bucket < %s".encode(), (start, kept))  # fmt: skip
    with pytest.raises(MigrationError, match="are not in the aggregates") as raised:
        timescale.rewrite(db.dsn, run=True)
    advice = re.search(r"run (CALL .*)\), then", str(raised.value))
    assert advice is not None
    with db.connect() as connection:
        assert len(all_rows(connection)) == len(migrated.rows)
        # Rows deleted by hand are held for up to date; those of an outage need no force.
        connection.execute(f"{advice[1]}, force => true)".encode())
    timescale.rewrite(db.dsn, run=True)
    with db.connect() as connection:
        rows = connection.execute(f"SELECT sum(sample_count) FROM _timescaledb_internal.{table} WHERE bucket < %s".encode(), (kept,))  # fmt: skip
        assert rows.fetchone() == (sum(row["time"] < kept for row in migrated.rows),)


def test_compressed_wide_chunk(database: Make, migrated: Aged) -> None:
    db = database(migrated.name)
    with db.connect() as connection:
        start, _ = wide(connection)
        connection.execute("SELECT compress_chunk(c) FROM show_chunks('scan_results') c")
    timescale.rewrite(db.dsn, run=True)
    with db.connect() as connection:
        assert_narrow(connection, migrated, start)
        jobs.run_jobs(connection, seed=6)
        assert_history(connection, migrated.rows)
