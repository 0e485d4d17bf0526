"""Up, jobs, down and up again: every bucket of 20 days is there and right at every step."""

from __future__ import annotations

from datetime import timedelta

from snapdelta import timescale
from timescale import jobs
from timescale.conftest import Aged, Make
from timescale.scanner import assert_history


def test_cycle(database: Make, aged: Aged) -> None:
    db = database(aged.name)
    timescale.up(db.dsn)
    with db.connect() as connection:
        assert_history(connection, aged.rows)
        jobs.run_jobs(connection)
        assert_history(connection, aged.rows)
    timescale.up(db.dsn)
    with db.connect() as connection:
        jobs.run_jobs(connection, seed=2)
        assert_history(connection, aged.rows)
        # Only whole chunks go, and the old ones are 7 days wide.
        assert jobs.oldest(connection) <= timedelta(days=3 + 7)
        assert all(compressed for _, end, compressed in jobs.chunks(connection, "scan_results") if end < jobs.now(connection) - timedelta(hours=2))
    timescale.down(db.dsn)
    with db.connect() as connection:
        assert_history(connection, aged.rows)
        jobs.run_jobs(connection)
        assert_history(connection, aged.rows)
    timescale.up(db.dsn)
    with db.connect() as connection:
        jobs.run_jobs(connection, seed=3)
        assert_history(connection, aged.rows)


def test_rewrite_reaches_the_new_width_at_once(database: Make, aged: Aged) -> None:
    db = database(aged.name)
    timescale.up(db.dsn)
    said: list[str] = []
    timescale.rewrite(db.dsn, run=False, notify=said.append)
    assert any("wide chunks with" in sentence for sentence in said)
    with db.connect() as connection:
        assert max(end - start for start, end, _ in jobs.chunks(connection, "scan_results")) == timedelta(days=7)
    timescale.rewrite(db.dsn, run=True)
    with db.connect() as connection:
        assert connection.execute("SELECT count(*) FROM scan_results").fetchone() == (len(aged.rows),)
        assert_history(connection, aged.rows)
        jobs.run_jobs(connection, seed=4)
        jobs.run_jobs(connection)
        assert_history(connection, aged.rows)
        assert jobs.oldest(connection) <= timedelta(days=3, hours=1)
        now = jobs.now(connection)
        assert all(compressed for _, end, compressed in jobs.chunks(connection, "scan_results") if end < now - timedelta(hours=2))
        assert max(end - start for start, end, _ in jobs.chunks(connection, "scan_results")) == timedelta(hours=1)
    timescale.up(db.dsn)
    with db.connect() as connection:
        jobs.run_jobs(connection)
        assert_history(connection, aged.rows)
    assert {state.name: state.state for state in timescale.status(db.dsn)}["005_rewrite_wide_chunks"] == "applied"
