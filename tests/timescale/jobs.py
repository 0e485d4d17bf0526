"""Runs the policies by hand, and asks the catalog what has become of the tables."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import psycopg

RETENTION = "policy_retention"
COMPRESSION = "policy_compression"
REFRESH = "policy_refresh_continuous_aggregate"


def run_jobs(connection: psycopg.Connection, *, seed: int | None = None, only: str | None = None) -> None:
    """`CALL run_job` for every policy: in the order of their making, or shuffled by `seed`."""
    jobs = connection.execute(
        "SELECT job_id FROM timescaledb_information.jobs WHERE job_id >= 1000 AND (%s::text IS NULL OR proc_name = %s) ORDER BY 1",
        (only, only),
    ).fetchall()
    if seed is not None:
        random.Random(seed).shuffle(jobs)
    for (job,) in jobs:
        connection.execute(f"CALL run_job({job})".encode())


def policies(connection: psycopg.Connection, relation: str, procedure: str) -> list[dict[str, str]]:
    """The configurations of a relation's policies of one kind, an aggregate's under either of its names."""
    return [
        config
        for (config,) in connection.execute(
            """SELECT j.config FROM timescaledb_information.jobs j
               LEFT JOIN timescaledb_information.continuous_aggregates c
                 ON (j.hypertable_schema, j.hypertable_name) IN
                    ((c.view_schema, c.view_name), (c.materialization_hypertable_schema, c.materialization_hypertable_name))
               WHERE proc_name = %s AND coalesce(c.view_name, j.hypertable_name) IN (%s, %s)""",
            (procedure, relation, f"{relation}_scaled"),
        ).fetchall()
    ]


def chunks(connection: psycopg.Connection, hypertable: str) -> list[tuple[datetime, datetime, bool]]:
    """Start, end and whether compressed, oldest first."""
    return [
        (start, end, bool(compressed))
        for start, end, compressed in connection.execute(
            "SELECT range_start, range_end, is_compressed FROM timescaledb_information.chunks WHERE hypertable_name = %s ORDER BY 1",
            (hypertable,),
        )
    ]


def materialized(connection: psycopg.Connection, view: str) -> str:
    """The name of the hypertable that holds an aggregate's rows, the migration's or another of that name."""
    row = connection.execute(
        "SELECT materialization_hypertable_name FROM timescaledb_information.continuous_aggregates WHERE view_name IN (%s, %s)"
        " ORDER BY view_name DESC",
        (view, f"{view}_scaled"),
    ).fetchone()
    assert row is not None
    return str(row[0])


def now(connection: psycopg.Connection) -> datetime:
    """The server's time: the one that policies go by."""
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    assert isinstance(row[0], datetime)
    return row[0]


def oldest(connection: psycopg.Connection, relation: str = "scan_results", column: str = "time") -> timedelta:
    """How old a table's oldest row is."""
    row = connection.execute(f"SELECT now() - min({column}) FROM {relation}".encode()).fetchone()
    assert row is not None
    assert isinstance(row[0], timedelta)
    return row[0]
