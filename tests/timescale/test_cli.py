"""`snapdelta migrate`: what a person sees, and the exit status that a script sees."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from snapdelta.timescale.files import OPTIMIZE, REWRITE, SCHEMA
from timescale.conftest import Aged, Make


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "snapdelta.cli", "migrate", *arguments],
        capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "COLUMNS": "200", **(env or {})},
    )  # fmt: skip


def test_up_status_verify_down(database: Make, aged: Aged) -> None:
    db = database(aged.name)
    given = {"SNAPDELTA_DSN": db.dsn}
    before = run("verify", env=given)
    assert before.returncode == 1, before.stderr
    assert "a plain table" in before.stdout
    applied = run("up", "--set", "raw_retention=4 days", env=given)
    assert applied.returncode == 0, applied.stderr
    assert "wide chunks with" in applied.stderr  # the estimate of what --rewrite would take
    rewritten = run("up", "--rewrite", "--dsn", db.dsn, "--set", "raw_retention=4 days")
    assert rewritten.returncode == 0, rewritten.stderr
    states = json.loads(run("status", "--json", env=given).stdout)
    assert [(state["name"], state["state"]) for state in states] == [
        (SCHEMA, "applied"),
        (OPTIMIZE, "applied"),
        (REWRITE, "applied"),
    ]
    assert states[1]["settings"]["raw_retention"] == "4 days"
    assert OPTIMIZE in run("status", env=given).stdout
    report = json.loads(run("verify", "--json", env=given).stdout)
    kept = [
        finding
        for finding in report["findings"]
        if (finding["subject"], finding["check"]) == ("scan_results", "retention")
    ]
    assert [finding["declared"] for finding in kept] == ["drop_after 4 days"]
    reverted = run("down", env=given)
    assert reverted.returncode == 0, reverted.stderr
    assert "were kept" in reverted.stderr
    assert [state["state"] for state in json.loads(run("status", "--json", env=given).stdout)][
        1
    ] == "reverted"
    again = run("down", env=given)
    assert again.returncode == 2
    assert "nothing to revert" in again.stderr


def test_dry_run_needs_no_database() -> None:
    printed = run("up", "--dry-run", "--rewrite", "--set", "raw_retention=5 days")
    assert printed.returncode == 0, printed.stderr
    assert "CREATE TABLE IF NOT EXISTS scan_results" in printed.stdout
    assert "'5 days'" in printed.stdout
    assert "replace_chunk" in printed.stdout
    assert "RESET" in run("down", "--dry-run").stdout


def test_plan() -> None:
    good = run("plan")
    assert good.returncode == 0
    assert "no faults" in good.stdout
    bad = run("plan", "--json", "--set", "raw_retention=1 day")
    assert bad.returncode == 1
    faults = [finding for finding in json.loads(bad.stdout)["findings"] if finding["severity"] == "fault"]
    assert [finding["check"] for finding in faults] == ["raw_retention >= minute_refresh_start + 1 day"]
    wide = json.loads(run("plan", "--json", "--set", "raw_chunk=2 days").stdout)["findings"]
    assert {
        (finding["subject"], finding["severity"])
        for finding in wide
        if finding["check"] == "oldest row, at most"
    } >= {("scan_results", "warning")}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("status",), "which database"),
        (
            ("up", "--dsn", "postgresql://nobody@127.0.0.1:1/x", "--set", "raw_retention=1 day"),
            "minute_refresh_start",
        ),
        (("up", "--dry-run", "--set", "raw_retention=1 day"), "minute_refresh_start"),
        (("plan", "--set", "raw_retention"), "NAME=PERIOD"),
        (("plan", "--set", "rew_retention=1 day"), "no setting"),
        (("verify", "--dsn", "postgresql://nobody@127.0.0.1:1/x"), "cannot be reached"),
    ],
)
def test_errors_are_one_sentence_and_status_two(arguments: tuple[str, ...], sentence: str) -> None:
    result = run(*arguments, env={"SNAPDELTA_DSN": ""})
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_path_names_the_files() -> None:
    folder = Path(run("path").stdout.strip())
    assert re.search(r"\\set ON_ERROR_STOP on", (folder / f"{OPTIMIZE}.sql").read_text())
