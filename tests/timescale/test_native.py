"""On a server with background workers: a scanner that goes on writing, and jobs that run of themselves."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from snapdelta import timescale
from timescale import jobs
from timescale.bed import Bed, NativeBed
from timescale.conftest import Aged, Make
from timescale.scanner import HOUR, assert_history, insert, scan
from timescale.traffic import Traffic


@pytest.fixture
def native(bed: Bed) -> NativeBed:
    if not isinstance(bed, NativeBed):
        pytest.skip("background workers need a native server: set SNAPDELTA_TEST_TIMESCALE_DSN")
    return bed


def test_traffic_goes_on(native: NativeBed, database: Make, aged: Aged) -> None:
    """No writer fails or is held for long, no row is lost, every bucket is right."""
    db = database(aged.name)
    native.start_workers(db.name)
    said: list[str] = []
    with Traffic(db.dsn) as traffic:
        began = time.monotonic()
        timescale.up(db.dsn, notify=said.append)
        timescale.rewrite(db.dsn, run=True, notify=said.append)
        timescale.up(db.dsn, notify=said.append)
        took = time.monotonic() - began
    assert traffic.errors == []
    assert any("a writer waits at most about" in sentence for sentence in said)
    # Held for a part of the time only, however slow the machine is.
    assert traffic.longest < took / 4
    with db.connect() as connection:
        written = connection.execute(
            "SELECT count(*) FROM scan_results WHERE time >= %s", (traffic.rows[0]["time"],)
        )
        assert written.fetchone() == (len(traffic.rows),)
        recent = [row for row in aged.rows if row["time"] >= jobs.now(connection) - timedelta(days=3)]
        found = connection.execute(
            "SELECT count(*) FROM scan_results WHERE time >= %s AND time < %s",
            (recent[0]["time"], traffic.rows[0]["time"]),
        )
        assert found.fetchone() == (len(recent),)
        assert_history(connection, aged.rows + sorted(traffic.rows, key=lambda row: row["time"]))


def test_up_again_while_refreshes_run(native: NativeBed, database: Make, aged: Aged) -> None:
    db = database(aged.name)
    timescale.up(db.dsn)
    native.start_workers(db.name)
    with Traffic(db.dsn):
        for attempt in range(6):
            with db.connect() as connection:
                # Rows too late for the policy, which `up` brings in, and a refresh with much to do at this moment.
                late = jobs.now(connection) - timedelta(hours=60)
                insert(connection, scan(late, late + HOUR, every=timedelta(minutes=5), seed=attempt))
                connection.execute(
                    "UPDATE scan_results SET price = price WHERE time > now() - interval '2 days'"
                )
                connection.execute(
                    "SELECT alter_job(job_id, next_start => now()) FROM timescaledb_information.jobs"
                    " WHERE proc_name = 'policy_refresh_continuous_aggregate'"
                )
            timescale.up(db.dsn)


def test_first_jobs_do_not_meet(database: Make, aged: Aged) -> None:
    db = database(aged.name)
    timescale.up(db.dsn)
    with db.connect() as connection:
        starts = connection.execute(
            "SELECT initial_start, proc_name, hypertable_name FROM timescaledb_information.jobs WHERE job_id >= 1000 ORDER BY 1"
        ).fetchall()
    assert len({start for start, _, _ in starts}) == len(starts) == 10
    assert starts[-1][1:] == (jobs.RETENTION, "scan_results")
