"""What background workers leave in the catalog, planted: the WASM server has none, and on a native one they are stopped.

Job statistics are rows like any other. `pg_stat_activity` is a view over the server's memory; a superuser may put
another view in its place, in one database.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

SCHEDULER: dict[str, object] = {"backend_type": "TimescaleDB Background Worker Scheduler"}


def plant_health(connection: psycopg.Connection) -> None:
    """Every job has just succeeded, and the scheduler runs."""
    connection.execute(
        """INSERT INTO _timescaledb_internal.bgw_job_stat (job_id, last_start, last_finish, next_start,
               last_successful_finish, last_run_success, total_runs, total_duration, total_duration_failures,
               total_successes, total_failures, total_crashes, consecutive_failures, consecutive_crashes, flags)
           SELECT id, now() - interval '2 seconds', now() - interval '1 second', now() + schedule_interval,
                  now() - interval '1 second', true, 1, '1 second', '0', 1, 0, 0, 0, 0, 0
           FROM _timescaledb_config.bgw_job
           ON CONFLICT (job_id) DO UPDATE SET last_start = excluded.last_start, last_finish = excluded.last_finish,
               next_start = excluded.next_start, last_successful_finish = excluded.last_successful_finish,
               last_run_success = true, total_runs = 1, total_failures = 0"""
    )
    plant_processes(connection, [SCHEDULER])


def plant_processes(connection: psycopg.Connection, processes: Sequence[dict[str, object]]) -> None:
    """`pg_stat_activity` shows these processes, in this database unless they say another `datname`."""
    columns = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'pg_stat_activity'::regclass AND attnum > 0 ORDER BY attnum"
    ).fetchall()
    rows = [
        sql.SQL("SELECT ")
        + sql.SQL(", ").join(
            (
                sql.SQL("current_database()")
                if name == "datname" and name not in process
                else sql.Literal(process.get(name))
            )
            + sql.SQL(f"::{kind} AS {name}")
            for name, kind in columns
        )
        for process in processes
    ]
    with connection.transaction():
        connection.execute("SET LOCAL allow_system_table_mods = on")
        connection.execute(
            sql.SQL("CREATE OR REPLACE VIEW pg_catalog.pg_stat_activity AS ")
            + sql.SQL(" UNION ALL ").join(rows)
        )
