"""The tables over time: flat, without holes, whatever comes late and whatever stands still."""

from __future__ import annotations

from datetime import timedelta

import pytest

from snapdelta import timescale
from timescale import jobs
from timescale.conftest import Make
from timescale.scanner import assert_history
from timescale.simulation import DAY, Simulation
from timescale.workers import plant_health


def live_through(database: Make, empty: str, days: int) -> None:
    db = database(empty)
    timescale.up(db.dsn)
    with db.connect() as connection:
        world = Simulation(db, connection)
        world.live(4 * DAY)
        world.check()
        world.live(timedelta(hours=36), with_jobs=False)
        world.live(timedelta(hours=6))
        world.check()
        world.late(timedelta(hours=2))
        world.live(timedelta(hours=6))
        world.late(DAY)
        world.live(timedelta(hours=6))
        world.check()
        world.late(5 * DAY, counts=False)
        world.live(DAY)
        world.check()
        rows = world.rows
        steps = world.steps
    passed = 0
    while passed < days:
        timescale.up(db.dsn)  # again and again, as a deployment would
        with db.connect() as connection:
            world = Simulation(db, connection, rows, steps)
            world.live(20 * DAY)
            world.check()
            rows, steps = world.rows, world.steps
            plant_health(connection)
        passed += 20
        faults = [
            finding for finding in timescale.verify(db.dsn) if finding.severity is timescale.Severity.FAULT
        ]
        assert faults == []


def test_outage_and_late_rows(moving_clock: None, database: Make, empty: str) -> None:
    live_through(database, empty, 0)


def test_outage_longer_than_raw_rows_are_kept(moving_clock: None, database: Make, empty: str) -> None:
    """`up` before the jobs start again fills the aggregates: what is not dropped is complete, but for late rows."""
    db = database(empty)
    timescale.up(db.dsn)
    with db.connect() as connection:
        world = Simulation(db, connection)
        world.live(DAY)
        world.live(6 * DAY, with_jobs=False)
    timescale.up(db.dsn)
    with db.connect() as connection:
        jobs.run_jobs(connection, only=jobs.RETENTION)
        assert jobs.oldest(connection) < 4 * DAY
        world = Simulation(db, connection, world.rows, world.steps)
        world.check()
        world.late(5 * DAY, counts=False)
    timescale.up(db.dsn)
    with db.connect() as connection:
        jobs.run_jobs(connection)
        assert_history(connection, world.rows)


@pytest.mark.long
def test_two_hundred_days(moving_clock: None, database: Make, empty: str) -> None:
    live_through(database, empty, 200)
