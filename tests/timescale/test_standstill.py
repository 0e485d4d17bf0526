"""`verify` names what stands still, though nothing has failed, and says why."""

from __future__ import annotations

from datetime import timedelta

import pytest

from snapdelta.timescale.catalog import collect
from snapdelta.timescale.checks import judge
from snapdelta.timescale.findings import Finding
from timescale import jobs
from timescale.bed import WasmBed
from timescale.conftest import Database
from timescale.test_verify import FAULT, WARNING, found, planting, sound
from timescale.workers import SCHEDULER, plant_processes

__all__ = ["sound"]  # the fixture

STATISTICS = """UPDATE _timescaledb_internal.bgw_job_stat SET {} WHERE job_id IN (SELECT job_id
    FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression' AND hypertable_name = 'scan_results')"""
OTHER: dict[str, object] = {"datname": "another", **SCHEDULER}


def named(
    sound: Database, *statements: str, processes: list[dict[str, object]] | None = None
) -> list[Finding]:
    """The faults that are found once the state was planted."""
    with planting(sound) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        if processes is not None:
            plant_processes(connection, processes)
        return [finding for finding in judge(collect(connection)) if finding.severity is FAULT]


def test_job_that_stands_still(sound: Database) -> None:
    (fault,) = named(sound, STATISTICS.format("last_successful_finish = now() - interval '40 days'"))
    assert (fault.subject, fault.check, fault.actual) == (
        "scan_results",
        "compression last run",
        "40 days ago",
    )


def test_next_start_that_never_comes(sound: Database) -> None:
    (fault,) = named(
        sound,
        STATISTICS.format("last_successful_finish = now() - interval '40 days', next_start = '-infinity'"),
    )
    assert (fault.subject, fault.check) == ("scan_results", "compression last run")
    assert fault.actual.startswith("40 days ago; its next start is infinite")
    assert "alter_job" in fault.advice


def test_running_job_has_no_next_start_and_no_fault(sound: Database) -> None:
    """Between a job's start and its end the server keeps -infinity there."""
    assert named(sound, STATISTICS.format("next_start = '-infinity', last_finish = '-infinity'")) == []


def test_job_that_never_ran(sound: Database) -> None:
    with planting(sound) as connection:
        connection.execute("DELETE FROM _timescaledb_internal.bgw_job_stat")
        connection.execute("UPDATE snapdelta_migrations SET applied_at = now() - interval '1 minute'")
        assert found(collect(connection)) == set()
        assert ("volume_slots", "retention last run") in found(collect(connection), WARNING)
        connection.execute("UPDATE snapdelta_migrations SET applied_at = now() - interval '1 day'")
        assert {check for _, check in found(collect(connection))} == {
            "retention last run",
            "compression last run",
            "refresh last run",
        }


def test_no_scheduler(sound: Database) -> None:
    (fault,) = named(sound, processes=[OTHER])
    assert (fault.subject, fault.check, fault.actual) == ("server", "scheduler", "no process")
    assert "start_background_workers()" in fault.advice


def test_workers_used_up_by_other_databases(sound: Database) -> None:
    if not isinstance(sound.bed, WasmBed):
        pytest.skip("the limit of a native server is set when it starts")
    limits = [
        "SET LOCAL timescaledb.max_background_workers = 4",
        "SET LOCAL max_parallel_workers = 1",
    ]
    job: dict[str, object] = {"datname": "another", "backend_type": "Retention Policy [1003]"}
    (fault,) = named(sound, *limits, processes=[SCHEDULER, OTHER, job, OTHER])
    assert (fault.subject, fault.check, fault.actual) == ("server", "workers of other databases", "3")
    assert "restart the server" in fault.advice
    assert named(sound, *limits, processes=[SCHEDULER, OTHER, job]) == []


def test_worker_budget_too_small(sound: Database) -> None:
    if not isinstance(sound.bed, WasmBed):
        pytest.skip("the limit of a native server is set when it starts")
    (fault,) = named(sound, "SET LOCAL timescaledb.max_background_workers = 1", processes=[SCHEDULER])
    assert (fault.subject, fault.check, fault.actual) == ("server", "background workers", "1")
    assert "set timescaledb.max_background_workers" in fault.advice
    # Enough for TimescaleDB, but the server has fewer processes than all that may ask for one.
    with planting(sound) as connection:
        connection.execute("SET LOCAL timescaledb.max_background_workers = 64")
        findings = {finding.check: finding for finding in judge(collect(connection))}
    processes = findings["max_worker_processes"]
    assert (processes.subject, processes.severity) == ("server", WARNING)
    assert "restart the server" in processes.advice


def test_restore_that_was_not_ended(sound: Database) -> None:
    faults = named(sound, "SET LOCAL timescaledb.restoring = on")
    assert ("server", "restoring") in {(fault.subject, fault.check) for fault in faults}


def test_error_of_a_job_is_shown(sound: Database) -> None:
    with planting(sound) as connection:
        (job,) = connection.execute(
            "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression' AND hypertable_name = 'scan_results'"
        ).fetchone() or (0,)
        connection.execute(
            STATISTICS.format("last_run_success = false, total_runs = 7, total_failures = 5").encode()
        )
        for age, message in ((2, "an older error"), (1, 'cannot drop portal "" while it is being set up')):
            connection.execute(
                """INSERT INTO _timescaledb_internal.bgw_job_stat_history (job_id, pid, execution_start, execution_finish, succeeded, data)
                   VALUES (%s, 1, now(), now() - make_interval(mins => %s), false, jsonb_build_object('error_data', jsonb_build_object('message', %s::text)))""",
                (job, age, message),
            )
        (fault,) = [finding for finding in judge(collect(connection)) if finding.severity is FAULT]
    assert fault.actual == 'failed (5 of 7 runs): cannot drop portal "" while it is being set up'


@pytest.mark.parametrize(("minutes", "severity"), [(90, FAULT), (1, WARNING)])
def test_blocked_job_is_named_with_its_blocker(sound: Database, minutes: int, severity: object) -> None:
    with planting(sound) as connection:
        (name,) = connection.execute(
            "SELECT application_name FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention' AND hypertable_name = 'scan_results'"
        ).fetchone() or ("",)
        connection.execute(
            "CREATE OR REPLACE FUNCTION pg_catalog.pg_blocking_pids(int) RETURNS int[] LANGUAGE sql AS 'SELECT CASE $1 WHEN 41 THEN ARRAY[42] END'"
        )
        plant_processes(
            connection,
            [
                SCHEDULER,
                {"pid": 41, "application_name": name, "backend_type": name, "state": "active"},
                {"pid": 42, "usename": "ann", "application_name": "report", "state": "idle in transaction",
                 "xact_start": (jobs.now(connection) - timedelta(minutes=minutes)).isoformat()},
            ],
        )  # fmt: skip
        (finding,) = [
            f
            for f in judge(collect(connection))
            if f.check == "retention last run" and f.subject == "scan_results"
        ]
    assert finding.severity is severity
    assert "waits for process 42 (ann, report, idle in transaction, in a transaction for" in finding.actual
    assert finding.advice.endswith("SELECT pg_terminate_backend(42)")


def test_rows_dropped_by_hand(sound: Database) -> None:
    """Before the minutes are refreshed, and after, when the newest of them are gone as well."""
    drop = "SELECT drop_chunks('scan_results', older_than => now() - interval '3 hours')"
    with sound.connect() as connection:
        table = jobs.materialized(connection, "scan_results_1min")
    emptied = f"DELETE FROM _timescaledb_internal.{table} WHERE bucket BETWEEN now() - interval '2 days' AND now() - interval '3 hours'"
    applied = "UPDATE snapdelta_migrations SET applied_at = now() - interval '9 days'"
    for statements in ((drop,), (drop, emptied, applied), ("TRUNCATE scan_results",)):
        assert ("scan_results", "rows dropped by hand") in {
            (fault.subject, fault.check) for fault in named(sound, *statements)
        }


def test_rows_dropped_before_they_were_in_any_minute(sound: Database) -> None:
    with sound.connect() as connection:
        table = jobs.materialized(connection, "scan_results_1min")
    faults = named(
        sound,
        f"DELETE FROM _timescaledb_internal.{table} WHERE bucket > now() - interval '9 hours'",
        "SELECT drop_chunks('scan_results', older_than => now() - interval '3 hours')",
    )
    assert ("scan_results", "rows dropped by hand") in {(fault.subject, fault.check) for fault in faults}
    (lag,) = [fault for fault in faults if (fault.subject, fault.check) == ("scan_results_1min", "lag")]
    assert "scan_results has no rows from" in lag.advice


def test_longer_retention_that_has_not_filled_up_is_no_fault(sound: Database) -> None:
    longer = "SELECT remove_retention_policy('scan_results'), add_retention_policy('scan_results', interval '9 days', schedule_interval => interval '1 hour')"
    faults = named(
        sound,
        longer,
        """UPDATE snapdelta_migrations SET settings = settings || '{"raw_retention": "9 days"}' WHERE name = '004_optimize_memory_usage'""",
    )
    assert "rows dropped by hand" not in {fault.check for fault in faults}


def test_scanner_that_has_begun_again_is_no_lag(sound: Database) -> None:
    """After a night without rows the first ones of the morning are in no minute yet."""
    with planting(sound) as connection:
        table = jobs.materialized(connection, "scan_results_1min")
        for statement in (
            "DELETE FROM scan_results WHERE time > now() - interval '9 hours'",
            f"DELETE FROM _timescaledb_internal.{table} WHERE bucket > now() - interval '9 hours 2 minutes'",
            "INSERT INTO scan_results (time, symbol, session) VALUES (now() - interval '1 minute', 'AAPL', 'PRE_MARKET')",
        ):
            connection.execute(statement.encode())
        assert ("scan_results_1min", "lag") not in found(collect(connection))
