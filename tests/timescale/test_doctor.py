"""`snapdelta doctor --dsn`: what `snapdelta migrate verify` finds is named; test_verify.py has all of it."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from support.cli import execute
from timescale.conftest import Aged, Make


def doctor(dsn: str) -> tuple[int, list[dict[str, Any]]]:
    ran = execute("doctor", "--no-redis", "--dsn", dsn, "--json")
    assert not ran.stderr
    return ran.returncode, json.loads(ran.stdout)["findings"]


@pytest.mark.parametrize(
    ("statement", "subject", "check"),
    [
        ("SELECT remove_retention_policy('scan_results')", "scan_results", "retention"),
        (
            "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs "
            "WHERE proc_name = 'policy_compression' AND hypertable_name = 'scan_results'",
            "scan_results",
            "compression",
        ),
    ],
    ids=["no-policy", "standstill"],
)
def test_a_fault_is_named(database: Make, healthy: Aged, statement: str, subject: str, check: str) -> None:
    db = database(healthy.name)
    # Here no background worker runs, which is named too.
    before = {(finding["subject"], finding["check"]) for finding in doctor(db.dsn)[1]}
    with psycopg.connect(db.dsn, autocommit=True) as connection:
        connection.execute(statement.encode())
    code, findings = doctor(db.dsn)
    assert code == 1
    named = {(finding["subject"], finding["check"]) for finding in findings} - before
    assert any(found[0] == subject and check in found[1] for found in named), findings
