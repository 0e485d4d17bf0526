"""`verify` under other people's sessions and roles: every refusal is a finding or one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from snapdelta import timescale
from snapdelta.errors import MigrationError
from snapdelta.timescale.catalog import collect
from snapdelta.timescale.findings import Finding
from timescale import jobs
from timescale.bed import Bed, WasmBed
from timescale.conftest import Aged, Database
from timescale.scanner import insert, scan
from timescale.test_lock import postgres
from timescale.test_verify import FAULT, WARNING, found, planting, sound
from timescale.workers import plant_health, plant_processes

__all__ = ["postgres", "sound"]  # fixtures

OWNER, MONITOR, STRANGER = "snapdelta_test_owner", "snapdelta_test_monitor", "snapdelta_test_stranger"
SESSIONS = (
    "intervalstyle=iso_8601",
    "intervalstyle=sql_standard",
    "datestyle=German",
    "timezone=America/New_York",
    "statement_timeout=300000",
    "default_transaction_read_only=on",
)
# Each setting under one role, and each role under one setting; the others only in the long tests.
READERS = [
    pytest.param(role, setting, marks=() if role == "none" or setting == SESSIONS[0] else pytest.mark.long)
    for role in ("none", OWNER, MONITOR)
    for setting in SESSIONS
]
READ_ONLY = {("aggregates", "definition and holes")}


def session(dsn: str, *settings: str) -> str:
    return dsn + "?options=" + "%20".join("-c" + setting.replace("=", "%3D") for setting in settings)


@pytest.fixture(scope="module")
def owned(bed: Bed, empty: str) -> Iterator[Database]:
    """A healthy database whose owner is no superuser, and roles that may only read."""
    name = "snapdelta_test_roles"
    db = Database(bed, name, bed.create(name, empty))
    roles = (OWNER, MONITOR, STRANGER)
    with db.connect() as connection:
        for role in roles:
            connection.execute(f"CREATE ROLE {role} LOGIN".encode())
        connection.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}".encode())
    timescale.up(session(db.dsn, f"role={OWNER}"))
    with db.connect() as connection:
        now = jobs.now(connection)
        insert(connection, scan(now - timedelta(minutes=90), now, every=timedelta(minutes=5)))
        jobs.run_jobs(connection)
        connection.execute(f"GRANT pg_read_all_data, pg_monitor TO {MONITOR}".encode())
        for granted in ("scan_results", "volume_slots", "market_data_daily"):
            connection.execute(f"GRANT SELECT ON {granted} TO {STRANGER}".encode())
    yield db
    bed.drop(name)
    if not isinstance(bed, WasmBed):  # the roles are the server's there
        with psycopg.connect(db.dsn.replace(name, "postgres"), autocommit=True) as admin:
            for role in roles:
                admin.execute(f"DROP ROLE {role}".encode())


def verified(db: Database, *settings: str) -> list[Finding]:
    with db.connect() as connection:
        plant_health(connection)
    return timescale.verify(session(db.dsn, *settings))


def unchecked(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.subject, finding.check) for finding in findings if finding.actual == "not checked"}


@pytest.mark.parametrize(("role", "setting"), READERS)
def test_settings_of_the_session_change_nothing(owned: Database, setting: str, role: str) -> None:
    findings = verified(owned, f"role={role}", setting)
    assert [finding for finding in findings if finding.severity is FAULT] == []
    assert unchecked(findings) == (READ_ONLY if "read_only" in setting else set())
    kept = {finding.subject: finding.actual for finding in findings if finding.check == "retention"}
    assert (kept["scan_results"], kept["volume_slots"]) == ("drop_after 3 days", "drop_after 14 days")


@pytest.mark.parametrize(
    "setting", [SESSIONS[0], *(pytest.param(setting, marks=pytest.mark.long) for setting in SESSIONS[1:])]
)
def test_role_that_may_not_read_the_record(owned: Database, setting: str) -> None:
    findings = verified(owned, f"role={STRANGER}", setting)
    assert [finding for finding in findings if finding.severity is FAULT] == []
    assert ("migration", "applied") in unchecked(findings)
    (record,) = [finding for finding in findings if finding.check == "applied"]
    assert "permission denied for table snapdelta_migrations" in record.advice
    assert "--set" in record.advice
    with pytest.raises(MigrationError, match="permission denied for table snapdelta_migrations"):
        timescale.status(session(owned.dsn, f"role={STRANGER}", setting))


def test_periods_in_another_style(sound: Database) -> None:
    """The policies of an `up` whose session was under iso_8601, and periods that a person wrote so."""
    with planting(sound) as connection:
        connection.execute(
            """UPDATE _timescaledb_config.bgw_job SET config = config || '{"drop_after": "P3D"}'
               WHERE config ->> 'drop_after' = '3 days'"""
        )
        connection.execute(
            """UPDATE _timescaledb_config.bgw_job SET config = config || '{"compress_after": "PT2H"}'
               WHERE config ->> 'compress_after' = '02:00:00'"""
        )
        connection.execute(
            """UPDATE snapdelta_migrations SET settings = settings || '{"raw_retention": "P3D", "minute_chunk": "24:00:00", "of_another_version": "x"}'"""
        )
        connection.execute("SET LOCAL intervalstyle = postgres")
        catalog = collect(connection)
        assert found(catalog) == set()
        assert catalog.settings["raw_retention"] == timedelta(days=3)


def test_apache_edition_with_compressed_chunks(bed: Bed, healthy: Aged) -> None:
    if not isinstance(bed, WasmBed):
        pytest.skip("a native server has the edition it was started with")
    db = Database(
        bed, "snapdelta_test_edition", bed.create("snapdelta_test_edition", healthy.name, community=False)
    )
    try:
        findings = timescale.verify(db.dsn)
    finally:
        bed.drop(db.name)
    assert ("server", "edition") in {
        (finding.subject, finding.check) for finding in findings if finding.severity is FAULT
    }
    assert ("rows", "oldest, newest and missing") in unchecked(findings)


def test_standby(sound: Database) -> None:
    with planting(sound) as connection:
        plant_processes(connection, [{"backend_type": "walreceiver"}])
        assert ("server", "scheduler") in found(collect(connection))
        connection.execute(
            "CREATE OR REPLACE FUNCTION pg_catalog.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT true'"
        )
        assert found(collect(connection)) == set()


def test_statement_timeout_and_a_locked_table(postgres: str) -> None:
    """A real wait and a real time limit, on a PostgreSQL without TimescaleDB."""
    with psycopg.connect(postgres, autocommit=True) as first:
        first.execute("CREATE TABLE snapdelta_migrations (name text, applied_at timestamptz, settings jsonb)")
        try:
            with first.transaction():
                first.execute("LOCK TABLE snapdelta_migrations")
                findings = timescale.verify(session(postgres, "statement_timeout=1000"))
                with pytest.raises(MigrationError, match="statement timeout"):
                    timescale.status(session(postgres, "statement_timeout=1000"))
        finally:
            first.execute("DROP TABLE snapdelta_migrations")
    (record,) = [finding for finding in findings if finding.check == "applied"]
    assert record.severity is WARNING
    assert "canceling statement due to statement timeout" in record.advice


def test_schema_that_is_not_there(sound: Database) -> None:
    with pytest.raises(MigrationError, match="schema 'nowhere' does not exist"):
        timescale.verify(sound.dsn, schema="nowhere")
