"""A table that comes with a retention shorter than its file's: no refresh may empty buckets whose rows it dropped."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from snapdelta import timescale
from snapdelta.timescale.table_migration import _Migration
from snapdelta.timescale.tables import read_tables
from timescale import jobs
from timescale.conftest import Make

ROWS = 3 * 24 * 2
SCHEMA = f"""
CREATE TABLE ticks (time timestamptz NOT NULL, price float8);
SELECT create_hypertable('ticks', 'time', chunk_time_interval => interval '1 day');
INSERT INTO ticks SELECT now() - interval '3 hours' - n * interval '30 minutes', n FROM generate_series(1, {ROWS}) n;
"""
# As live rows have it: a chunk is made when its first row comes.
LIVE = """
UPDATE _timescaledb_catalog.chunk c SET creation_time = i.range_start FROM timescaledb_information.chunks i
WHERE (c.schema_name, c.table_name) = (i.chunk_schema, i.chunk_name) AND i.hypertable_name = 'ticks'"""
# The refresh window is 2 days.
AGGREGATES = {"ticks_1hour": {"bucket": "1 hour", "columns": {"price": "last"}}}
REMAINING = "SELECT config ->> %s FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'"


def held(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT sum(sample_count)::int FROM ticks_1hour").fetchone()
    assert row is not None
    return int(row[0])


def run_jobs(connection: psycopg.Connection) -> None:
    """Every job, the older retention first."""
    policies = jobs.policies(connection, "ticks", jobs.RETENTION)
    ages = [config["drop_created_before"] for config in policies if "drop_created_before" in config]
    for age in ages:  # TimescaleDB 2.23 cannot run such a job: "could not find drop_after in config for job"
        connection.execute("SELECT drop_chunks('ticks', created_before => %s::text::interval)", (age,))
    jobs.run_jobs(connection, only=jobs.REFRESH if ages else None)


# `drop_created_before` drops rows that are younger by a chunk's width: each of these may drop rows after a day.
@pytest.mark.parametrize(
    ("age", "older", "drop_after"),
    [
        ("drop_after", "1 day", "7 days"),
        ("drop_after", "1 day", "never"),
        ("drop_created_before", "2 days", "7 days"),
    ],
)
def test_no_refresh_empties_buckets(
    database: Make, empty: str, age: str, older: str, drop_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither after an interrupted `up`, nor after `down` has restored the older retention."""
    db = database(empty)
    with db.connect() as connection:
        connection.execute("SET client_min_messages = error")
        if not connection.execute("SELECT 1 FROM pg_proc WHERE %s = ANY (proargnames)", (age,)).fetchone():
            pytest.skip(f"this TimescaleDB has no {age}")
        connection.execute(SCHEMA.encode())
        connection.execute(f"SELECT add_retention_policy('ticks', {age} => interval '{older}')".encode())
        if age == "drop_created_before":
            connection.execute(LIVE.encode())
    ticks = {"drop_after": drop_after, "aggregates": AGGREGATES}
    tables = read_tables({"scanner": False, "tables": {"ticks": ticks}})

    def interrupted(_: _Migration) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        # Between the policies of the aggregate and those of the table.
        patched.setattr(_Migration, "_announce", interrupted)
        with pytest.raises(KeyboardInterrupt):
            timescale.up(db.dsn, tables=tables)
    with db.connect() as connection:
        assert jobs.policies(connection, "ticks_1hour", jobs.REFRESH)
        run_jobs(connection)
        assert held(connection) == ROWS
    timescale.up(db.dsn, tables=tables)
    with db.connect() as connection:
        run_jobs(connection)
        assert held(connection) == ROWS
        assert connection.execute("SELECT count(*) FROM ticks").fetchone() == (ROWS,)
    said: list[str] = []
    timescale.down(db.dsn, notify=said.append)
    assert [sentence for sentence in said if "may drop rows after 1 day," in sentence]
    with db.connect() as connection:
        assert connection.execute(REMAINING, (age,)).fetchall() == [(older,)]
        run_jobs(connection)
        row = connection.execute("SELECT now() - min(time) FROM ticks").fetchone()
        assert row is not None
        assert row[0] < timedelta(days=3)  # the older retention has dropped rows
        assert held(connection) == ROWS
