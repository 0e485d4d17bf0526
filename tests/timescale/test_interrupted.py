"""Killed between any two statements, and run again: nothing is lost and nothing is left half done."""

from __future__ import annotations

import psycopg
import pytest

from snapdelta import timescale
from snapdelta.timescale.files import OPTIMIZE, load
from snapdelta.timescale.migrate import checked
from snapdelta.timescale.script import Statement
from timescale import jobs
from timescale.conftest import Aged, Make
from timescale.scanner import assert_history

# What only reads, or makes functions that go with the session, leaves nothing behind to be tested.
PASSIVE = ("SET ", "SELECT ", "CREATE OR REPLACE FUNCTION pg_temp.", "CREATE OR REPLACE PROCEDURE pg_temp.")


def changes(statement: Statement, sent: str) -> bool:
    """Whether a kill after this statement leaves something behind; `gexec` runs what its SELECT gives."""
    return statement.ending == "gexec" or not sent.startswith(PASSIVE)


def kill_points() -> list[int]:
    """The statements from the first change on that change something."""
    values = checked(None)
    sent = [(statement, statement.render(values)) for statement in load(OPTIMIZE).statements]
    first = next(at for at, (_, text) in enumerate(sent) if "snapdelta_migrations (" in text)
    return [at for at in range(first, len(sent)) if changes(*sent[at])]


# Every second one is enough for `make test`, the backfills among them.
KILLS = [pytest.param(at, marks=() if n % 2 else pytest.mark.long) for n, at in enumerate(kill_points())]


def run_until(connection: psycopg.Connection, statements: tuple[Statement, ...], last: int) -> None:
    """Runs the statements up to and with `last`; of a backfill only its first half, the worst place to stop."""
    values = checked(None)
    for at, statement in enumerate(statements[: last + 1]):
        rows = connection.execute(statement.render(values).encode())
        if statement.ending == "gexec":
            commands = [command for (command,) in rows.fetchall()]
            for command in commands if at < last else commands[: len(commands) // 2]:
                connection.execute(command.encode())


@pytest.mark.parametrize("last", KILLS)
def test_killed_and_run_again(database: Make, aged: Aged, last: int) -> None:
    db = database(aged.name)
    statements = load(OPTIMIZE).statements
    with db.connect() as connection:
        run_until(connection, statements, last)
    with db.connect() as connection:
        # Days may pass before somebody notices: the jobs that are there run meanwhile.
        jobs.run_jobs(connection, seed=last)
        assert_raw_or_history(connection, aged)
    timescale.up(db.dsn)
    with db.connect() as connection:
        jobs.run_jobs(connection, seed=last + 1)
        assert_history(connection, aged.rows)
        assert [job["drop_after"] for job in jobs.policies(connection, "scan_results", jobs.RETENTION)] == [
            "3 days"
        ]
    timescale.down(db.dsn)
    with db.connect() as connection:
        # The way back leads to what was there before the first, half-finished run.
        assert [job["drop_after"] for job in jobs.policies(connection, "scan_results", jobs.RETENTION)] == [
            "180 days"
        ]
        assert [
            job["compress_after"] for job in jobs.policies(connection, "scan_results", jobs.COMPRESSION)
        ] == ["7 days"]
        assert_history(connection, aged.rows)


def assert_raw_or_history(connection: psycopg.Connection, aged: Aged) -> None:
    """After a kill every row is either still in the raw table or in complete aggregates."""
    if connection.execute("SELECT count(*) FROM scan_results").fetchone() != (len(aged.rows),):
        assert_history(connection, aged.rows)


def test_jobs_that_run_meanwhile_lose_nothing(database: Make, aged: Aged) -> None:
    """As background workers would: every job after every statement, from the dangerous policies of an earlier attempt on."""
    db = database(aged.name)
    timescale.up(db.dsn)
    values, armed = checked(None), False
    with db.connect() as connection:
        connection.execute("SET client_min_messages = error; DROP TABLE snapdelta_migrations")
        table = jobs.materialized(connection, "scan_results_1min")
        connection.execute(
            f"DELETE FROM _timescaledb_internal.{table} WHERE bucket < now() - interval '9 days'".encode()
        )
        connection.execute("SELECT remove_continuous_aggregate_policy('scan_results_1min_scaled')")
        connection.execute(
            "SELECT add_continuous_aggregate_policy('scan_results_1min_scaled', NULL, interval '1 hour', interval '1 hour')"
        )
        for at, statement in enumerate(load(OPTIMIZE).statements):
            sent = statement.render(values)
            rows = connection.execute(sent.encode())
            if statement.ending == "gexec":
                for (command,) in rows.fetchall():
                    connection.execute(command.encode())
            armed = armed or "finished boolean" in sent  # before it, the earlier attempt itself loses history
            if armed and changes(statement, sent):
                jobs.run_jobs(connection, seed=at)
        assert_history(connection, aged.rows)
