"""`verify` finds each fault when it is planted, and nothing where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from snapdelta import timescale
from snapdelta.timescale.catalog import Catalog, collect
from snapdelta.timescale.checks import judge
from timescale import jobs
from timescale.bed import Bed
from timescale.conftest import Aged, Database
from timescale.workers import plant_health

FAULT, WARNING = timescale.Severity.FAULT, timescale.Severity.WARNING


@pytest.fixture(scope="module")
def sound(bed: Bed, healthy: Aged) -> Iterator[Database]:
    """A healthy database; what is planted in it is rolled back."""
    name = "snapdelta_test_sound"
    yield Database(bed, name, bed.create(name, healthy.name))
    bed.drop(name)


def found(catalog: Catalog, severity: timescale.Severity = FAULT) -> set[tuple[str, str]]:
    return {(finding.subject, finding.check) for finding in judge(catalog) if finding.severity is severity}


@contextmanager
def planting(sound: Database) -> Iterator[psycopg.Connection]:
    """A healthy database to plant something in; nothing of it stays."""
    with sound.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL client_min_messages = error")
        plant_health(connection)
        yield connection


def planted(sound: Database, *statements: str) -> set[tuple[str, str]]:
    """The faults that are found once the statements were run."""
    with planting(sound) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        return found(collect(connection))


def policy(kind: str, relation: str, *arguments: str) -> list[str]:
    return [
        f"SELECT remove_{kind}_policy('{relation}')",
        f"SELECT add_{kind}_policy('{relation}', {', '.join(arguments)})",
    ]


def test_healthy_database_has_no_fault(sound: Database) -> None:
    with planting(sound) as connection:
        catalog = collect(connection)
        assert found(catalog) == set()
        assert catalog.unread == {}
        # There are few rows a chunk, and the daily bars are in chunks of old; the WASM server knows no workers.
        allowed = {("market_data_daily", "width of kept chunks"), ("server", "background workers")}
        remarks = found(catalog, WARNING) - allowed
        assert {check for _, check in remarks} <= {"compression"}


PLANTS: dict[str, tuple[list[str], tuple[str, str]]] = {
    "retention kept from before": (policy("retention", "scan_results", "interval '180 days'"), ("scan_results", "retention")),
    "compression kept from before": (policy("compression", "scan_results", "interval '7 days'"), ("scan_results", "compression")),
    "no retention": (["SELECT remove_retention_policy('volume_slots')"], ("volume_slots", "retention")),
    "doubled policy": (
        ["SELECT add_job('_timescaledb_functions.policy_retention', '1 hour', config => config) FROM timescaledb_information.jobs"
         " WHERE proc_name = 'policy_retention' AND hypertable_name = 'scan_results'"],
        ("scan_results", "retention"),
    ),
    "lazy schedule": (
        ["SELECT alter_job(job_id, schedule_interval => '1 day') FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention' AND hypertable_name = 'scan_results'"],
        ("scan_results", "retention schedule"),
    ),
    "switched off": (
        ["SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression' AND hypertable_name = 'scan_results'"],
        ("scan_results", "compression schedule"),
    ),
    "wide new chunks": (["SELECT set_chunk_time_interval('scan_results', interval '7 days')"], ("scan_results", "width of new chunks")),
    "wide kept chunk": (
        ["SELECT set_chunk_time_interval('scan_results', interval '7 days')",
         "INSERT INTO scan_results (time, symbol, session) VALUES (now() + interval '8 days', 'AAPL', 'MARKET_OPEN')"],
        ("scan_results", "width of kept chunks"),
    ),
    "old row": (["INSERT INTO scan_results (time, symbol, session) VALUES (now() - interval '9 days', 'AAPL', 'MARKET_OPEN')"], ("scan_results", "oldest row")),
    "uncompressed chunk": (
        ["SELECT decompress_chunk(c) FROM show_chunks('scan_results', older_than => interval '1 day') c"],
        ("scan_results", "compressed chunks"),
    ),
    "wide aggregate chunks": (
        ["SELECT set_chunk_time_interval(format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)::regclass, interval '70 days')"
         " FROM timescaledb_information.continuous_aggregates WHERE view_name = 'scan_results_1min_scaled'"],
        ("scan_results_1min", "width of new chunks"),
    ),
    "unbounded refresh": (
        policy("continuous_aggregate", "scan_results_1min_scaled", "NULL", "interval '1 minute'", "interval '5 minutes'"),
        ("scan_results_1min", "refresh window"),
    ),
    "refresh behind retention": (
        policy("continuous_aggregate", "scan_results_1min_scaled", "interval '7 days'", "interval '1 minute'", "interval '5 minutes'"),
        ("scan_results_1min", "refresh window"),
    ),
    "hours behind the minutes": (
        policy("continuous_aggregate", "scan_results_1hour_scaled", "interval '40 days'", "interval '1 hour'", "interval '30 minutes'"),
        ("scan_results_1hour", "refresh window"),
    ),
    "short refresh": (
        policy("continuous_aggregate", "scan_results_1min_scaled", "interval '1 hour'", "interval '1 minute'", "interval '5 minutes'"),
        ("scan_results_1min", "refresh"),
    ),
    "missing aggregate": (["DROP MATERIALIZED VIEW scan_results_1hour_scaled CASCADE"], ("scan_results_1hour", "exists")),
    "missing view": (["DROP VIEW scan_results_1min"], ("scan_results_1min", "exists")),
    "column left out": (["ALTER TABLE scan_results ADD COLUMN halted boolean"], ("scan_results_1min", "definition")),
    "plain table": (["DROP TABLE volume_slots", "CREATE TABLE volume_slots (date date)"], ("volume_slots", "hypertable")),
    "missing table": (["DROP TABLE market_data_daily"], ("market_data_daily", "exists")),
    "never applied": (["UPDATE snapdelta_migrations SET applied_at = NULL"], ("migration", "applied")),
}  # fmt: skip


@pytest.mark.parametrize(("statements", "fault"), PLANTS.values(), ids=PLANTS.keys())
def test_planted_fault_is_found(sound: Database, statements: list[str], fault: tuple[str, str]) -> None:
    assert fault in planted(sound, *statements)


def test_holes_and_lag(sound: Database) -> None:
    with sound.connect() as connection:
        table = jobs.materialized(connection, "scan_results_1min")
        (row,) = connection.execute(
            f"SELECT max(bucket) FROM _timescaledb_internal.{table}".encode()
        ).fetchone() or (None,)
    faults = planted(sound, f"DELETE FROM _timescaledb_internal.{table} WHERE bucket < '{row}'::timestamptz - interval '3 hours' AND bucket > '{row}'::timestamptz - interval '5 hours'")  # fmt: skip
    assert ("scan_results_1min", "holes") in faults
    assert ("scan_results_1min", "lag") not in faults
    faults = planted(
        sound,
        f"DELETE FROM _timescaledb_internal.{table} WHERE bucket > '{row}'::timestamptz - interval '5 hours'",
    )
    assert ("scan_results_1min", "lag") in faults


def test_autovacuum_is_remarked(sound: Database) -> None:
    with planting(sound) as connection:
        connection.execute(
            "ALTER TABLE scan_results RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor, autovacuum_analyze_scale_factor)"
        )
        assert ("scan_results", "autovacuum options") in found(collect(connection), WARNING)


def test_exit_status_and_json(bed: Bed, sound: Database) -> None:
    command = [sys.executable, "-m", "snapdelta.cli", "migrate", "verify", "--json", "--dsn", sound.dsn]
    with sound.connect() as connection:
        plant_health(connection)
    good = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (good.returncode, json.loads(good.stdout)["faults"]) == (0, 0)
    with sound.connect() as connection:
        plant_health(connection)
        connection.execute("SELECT set_chunk_time_interval('scan_results', interval '7 days')")
    bad = subprocess.run(command, capture_output=True, text=True, check=False)
    with sound.connect() as connection:
        connection.execute("SELECT set_chunk_time_interval('scan_results', interval '1 hour')")
    report = json.loads(bad.stdout)
    assert (bad.returncode, report["faults"]) == (1, 1)
    (fault,) = [finding for finding in report["findings"] if finding["severity"] == "fault"]
    assert fault == {
        "subject": "scan_results", "check": "width of new chunks", "declared": "1 h", "actual": "7 days",
        "severity": "fault", "advice": "run `snapdelta migrate up`",
    }  # fmt: skip


def test_nothing_is_changed(sound: Database) -> None:
    with psycopg.connect(sound.dsn) as connection:
        before = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    timescale.verify(sound.dsn)
    with psycopg.connect(sound.dsn) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND xmin::text::bigint > %s AND relnamespace = 'public'::regnamespace",
            before,
        ).fetchall()
    assert tables == []
