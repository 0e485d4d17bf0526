"""The tables over time: flat, without holes, whatever comes late and whatever stands still."""

from __future__ import annotations

from datetime import timedelta

import pytest

from snapdelta import timescale
from timescale.conftest import Make
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
            finding for finding in timescale.verify(db.dsn) if finding.verdict is timescale.Verdict.FAULT
        ]
        assert faults == []


def test_outage_and_late_rows(moving_clock: None, database: Make, empty: str) -> None:
    live_through(database, empty, 0)


@pytest.mark.long
def test_two_hundred_days(moving_clock: None, database: Make, empty: str) -> None:
    live_through(database, empty, 200)
