"""The reader of our SQL files against psql: the same statements, the same database."""

from __future__ import annotations

import subprocess
from datetime import timedelta

import pytest

from snapdelta import timescale
from snapdelta.errors import MigrationError, MigrationSettingError
from snapdelta.timescale.files import OPTIMIZE, REWRITE, SCHEMA
from snapdelta.timescale.script import parse
from snapdelta.timescale.settings import parse_period, spell
from timescale import jobs
from timescale.bed import postgres_program
from timescale.conftest import Aged, Make
from timescale.scanner import assert_history
from timescale.test_refusals import CATALOG


def test_statements_end_where_psql_ends_them() -> None:
    script = parse(
        "-- a comment; not an end\n\\set ON_ERROR_STOP on\n"
        "SELECT ';', \"a;b\", $x$ ; $x$ /* ; */, 'it''s', :'name'::interval;\n\nSELECT 1 \\gexec\nSELECT 2 \\gset prefix_\n",
        "t.sql",
    )
    assert [(statement.line, statement.ending) for statement in script.statements] == [
        (3, ""),
        (5, "gexec"),
        (6, "gset"),
    ]
    assert (
        script.statements[0].render({"name": "o'clock"})
        == "SELECT ';', \"a;b\", $x$ ; $x$ , 'it''s', 'o''clock'::interval"
    )


def test_defaults_and_what_is_given() -> None:
    script = parse("\\if :{?a} \\else \\set a '1 day' \\endif\nSELECT :'a';", "t.sql")
    assert script.values({}) == {"a": "1 day"}
    assert script.values({"a": "2 days"}) == {"a": "2 days"}
    with pytest.raises(MigrationSettingError, match="no setting 'b'"):
        script.values({"b": "x"})


@pytest.mark.parametrize(
    "text", ["\\copy t from 'x'\n", "\\if :{?a} \\else \\set b '1' \\endif\n", "SELECT 1 \\g\n"]
)
def test_what_only_psql_understands_is_refused(text: str) -> None:
    with pytest.raises(MigrationError, match=r"t.sql, line 2: .*only psql understands"):
        parse("\n" + text, "t.sql")


def test_statement_without_an_end() -> None:
    with pytest.raises(MigrationError, match="line 2: the last statement is incomplete"):
        parse("SELECT 1;\nSELECT 2", "t.sql")


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("3 days", timedelta(days=3)),
        ("1 day 02:00:00", timedelta(hours=26)),
        ("90 min", timedelta(minutes=90)),
        ("1.5 hours", timedelta(minutes=90)),
        ("1 week", timedelta(days=7)),
    ],
)
def test_periods(text: str, period: timedelta) -> None:
    assert parse_period("x", text) == period
    assert parse_period("x", spell(period).replace(" h", " hours")) == period


@pytest.mark.parametrize("text", ["", "3", "days", "3 moons", "1 month", "-1 day", "0 days", "3 days and"])
def test_no_periods(text: str) -> None:
    with pytest.raises(MigrationSettingError, match="x = "):
        parse_period("x", text)


def run_psql(dsn: str, name: str, *arguments: str) -> None:
    subprocess.run(
        [postgres_program("psql"), "-X", "-q", dsn, *arguments, "-f", str(timescale.migrations_directory() / f"{name}.sql")],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip


def test_psql_alone_comes_to_the_same(database: Make, aged: Aged) -> None:
    """All files through psql: up, the rewrite, jobs, up again, down, up; and the catalog as the reader leaves it."""
    by_psql, by_reader = database(aged.name), database(aged.name)
    run_psql(by_psql.dsn, SCHEMA)
    run_psql(by_psql.dsn, OPTIMIZE, "-v", "raw_retention=4 days")
    timescale.up(by_reader.dsn, {"raw_retention": "4 days"})
    run_psql(by_psql.dsn, REWRITE, "-v", "run=yes")
    timescale.rewrite(by_reader.dsn, run=True)
    with by_psql.connect() as connection:
        jobs.run_jobs(connection)
    for name in (OPTIMIZE, f"{OPTIMIZE}.down", OPTIMIZE):
        run_psql(by_psql.dsn, name, *(("-v", "raw_retention=4 days") if name == OPTIMIZE else ()))
    with by_psql.connect() as first, by_reader.connect() as second:
        assert_history(first, aged.rows)
        assert first.execute(CATALOG).fetchall() == second.execute(CATALOG).fetchall()
    assert [(state.name, state.state) for state in timescale.status(by_psql.dsn)] == [
        (SCHEMA, "applied"),
        (OPTIMIZE, "applied"),
        (REWRITE, "applied"),
    ]


def test_dry_run_prints_what_psql_can_run(database: Make, aged: Aged) -> None:
    db = database(aged.name)
    printed = timescale.render(SCHEMA) + timescale.render(OPTIMIZE, {"raw_retention": "4 days"})
    subprocess.run(
        [postgres_program("psql"), "-X", "-q", db.dsn, "-f", "-"],
        input=printed,
        text=True,
        check=True,
        capture_output=True,
        timeout=300,
    )
    with db.connect() as connection:
        assert [job["drop_after"] for job in jobs.policies(connection, "scan_results", jobs.RETENTION)] == [
            "4 days"
        ]
        jobs.run_jobs(connection)
        assert_history(connection, aged.rows)
