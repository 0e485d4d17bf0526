"""Days pass: the scanner writes, the jobs run (or do not), and the clock of the server goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg

from timescale import jobs
from timescale.conftest import Database
from timescale.scanner import HOUR, MINUTE, Key, Row, expected, insert, scan, stored

DAY = timedelta(days=1)
STEP = timedelta(hours=6)


@dataclass
class Simulation:
    """A database whose time is moved in steps of six hours, and the rows that its aggregates must account for."""

    database: Database
    connection: psycopg.Connection
    rows: list[Row] = field(default_factory=list)
    steps: int = 0

    def now(self) -> datetime:
        return jobs.now(self.connection)

    def live(self, time: timedelta, *, with_jobs: bool = True) -> None:
        """Goes on by `time`, with a row a symbol every two hours and every job once a step, in changing order."""
        until = self.now() + time
        while self.now() < until:
            start = self.now()
            self.database.bed.advance(STEP)
            self.steps += 1
            new = scan(
                start,
                start + STEP - timedelta(minutes=10),
                every=timedelta(hours=2),
                symbols=("AAPL", "NVDA"),
                seed=self.steps,
            )
            insert(self.connection, new)
            self.rows += new
            if with_jobs:
                jobs.run_jobs(self.connection, seed=self.steps)

    def late(self, age: timedelta, *, counts: bool = True) -> None:
        """Rows arrive `age` late, into a bucket that is there and one that is not."""
        when = self.now() - age
        new = scan(
            when,
            when + timedelta(minutes=2),
            every=timedelta(hours=1),
            symbols=("AAPL", "LATE"),
            seed=-self.steps,
        )
        insert(self.connection, new)
        if counts:
            self.rows += new

    def check(self) -> None:
        """Every bucket within the retention is there and right, and the tables are no larger than promised."""
        # Once more: in the last step the hours may have been refreshed before the minutes were.
        jobs.run_jobs(self.connection)
        now = self.now()
        for view, width, kept, chunk in (
            ("scan_results_1min", MINUTE, 30 * DAY, DAY),
            ("scan_results_1hour", HOUR, 180 * DAY, 7 * DAY),
        ):
            wanted, found = expected(self.rows, width), stored(self.connection, view)
            recent = {key for key in wanted if key[0] >= now - kept}
            gone = [key for key in recent if key not in found]
            assert not gone, f"{view}: {len(gone)} buckets are gone, the first {min(gone)}"
            wrong = [key for key, bucket in found.items() if wanted.get(key) != bucket]
            assert not wrong, (
                f"{view}: {len(wrong)} buckets are wrong, the first {describe(wrong[0], wanted, found)}"
            )
            assert now - min(key[0] for key in found) <= kept + chunk + STEP
        assert jobs.oldest(self.connection) <= 3 * DAY + HOUR + STEP
        held = jobs.chunks(self.connection, "scan_results")
        assert (
            len(held) <= (3 * DAY + STEP) / timedelta(hours=2) * 1.1 + 4
        )  # a chunk each time that it wrote, no more
        assert all(compressed for _, end, compressed in held if end < now - timedelta(hours=2))


def describe(key: Key, wanted: dict[Key, Row], found: dict[Key, Row]) -> str:
    return f"{key}: {found[key]} and not {wanted.get(key)}"
