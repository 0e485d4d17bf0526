"""What the migration refuses: one clear sentence, and nothing changed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from snapdelta import timescale
from snapdelta.errors import MigrationError, MigrationSettingError
from snapdelta.timescale.files import OPTIMIZE, load
from snapdelta.timescale.settings import RULES, Settings, parse_period
from timescale.bed import Bed, WasmBed, postgres_program
from timescale.conftest import Aged, Database, Make

CATALOG = """
    SELECT 'column', table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT 'job', hypertable_name, proc_name, config::text || schedule_interval FROM timescaledb_information.jobs
    UNION ALL SELECT 'width', hypertable_name, column_name, time_interval::text FROM timescaledb_information.dimensions
    UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    ORDER BY 1, 2, 3, 4"""


def psql(db: Database, *arguments: str) -> str:
    """Runs 004 with psql, which must fail; returns the error line."""
    result = subprocess.run(
        [postgres_program("psql"), "-X", "-q", db.dsn, *arguments, "-f", str(timescale.migrations_directory() / f"{OPTIMIZE}.sql")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 3, result.stderr
    (line,) = re.findall(r"ERROR:  (.*)", result.stderr)
    assert line.startswith("snapdelta: "), line
    return str(line)


@pytest.fixture(scope="module")
def unchanged(bed: Bed, aged: Aged) -> Iterator[Database]:
    """A copy of the old tables that every refusal must leave as it is."""
    name = "snapdelta_test_refusals"
    yield Database(bed, name, bed.create(name, aged.name))
    bed.drop(name)


BROKEN = {
    "as many hours as days": {"minute_refresh_start": "72 hours", "minute_compress_after": "4 days"},
    "hours of a day to spare": {"hour_refresh_start": "697 hours", "hour_compress_after": "40 days"},
    "minute_refresh_start": {"minute_refresh_start": "4 days", "minute_compress_after": "5 days"},
    "hour_refresh_start": {"hour_refresh_start": "31 days", "hour_compress_after": "40 days"},
    "no window": {"minute_refresh_start": "90 seconds"},
    "no hour window": {"hour_refresh_start": "2 hours", "minute_refresh_start": "1 hour"},
    "hours behind minutes": {"hour_refresh_start": "2 days 30 minutes"},
    "raw chunk": {"raw_chunk": "7 days"},
    "slots chunk": {"slots_chunk": "30 days"},
    "daily chunk": {"daily_chunk": "91 days"},
    "minute chunk": {"minute_chunk": "70 days"},
    "hour chunk": {"hour_chunk": "181 days"},
    "compress later than dropped": {"raw_compress_after": "4 days"},
    "minutes compressed too soon": {"minute_compress_after": "1 day"},
    "hours compressed too soon": {"hour_compress_after": "6 days"},
    "minutes gone before raw": {
        "minute_retention": "2 days",
        "minute_chunk": "1 day",
        "hour_refresh_start": "2 days",
    },
    "hours gone before minutes": {"hour_retention": "29 days"},
    "no period": {"raw_retention": "soon"},
    "nothing": {"raw_retention": "0 days"},
    "negative": {"raw_chunk": "-1 hour"},
    "months": {"minute_retention": "1 month"},
}


@pytest.mark.parametrize("given", BROKEN.values(), ids=BROKEN.keys())
def test_losing_combination_is_refused_before_anything_changes(
    unchanged: Database, given: dict[str, str]
) -> None:
    with unchanged.connect() as connection:
        before = connection.execute(CATALOG).fetchall()
    said = psql(
        unchanged, *(argument for name, value in given.items() for argument in ("-v", f"{name}={value}"))
    )
    with pytest.raises(MigrationSettingError) as raised:
        timescale.up("postgresql://nobody@127.0.0.1:1/never_opened", given)
    # The first broken rule is the same in both, up to how a period is spelled.
    assert said.removeprefix("snapdelta: ").split(" ")[0] == str(raised.value).split(" ")[0]
    with unchanged.connect() as connection:
        assert connection.execute(CATALOG).fetchall() == before


def test_rules_are_the_same_in_sql_and_in_python() -> None:
    text = (timescale.migrations_directory() / f"{OPTIMIZE}.sql").read_text()
    rows = re.findall(r"\('(\w+)', '([<>]=)', '(\w+)', interval '([^']*)',\s*'([^']*)'\)", text)
    assert len(rows) == len(RULES)
    in_sql = [
        (left, operator, right, timedelta() if slack == "0" else parse_period("slack", slack), reason)
        for left, operator, right, slack, reason in rows
    ]
    assert in_sql == [tuple(rule) for rule in RULES]


def test_window_is_a_day_shorter_than_what_fills_it() -> None:
    """Three days are 71 hours where the clocks are put forward."""
    for hours, broken in (
        (48, []),
        (49, ["raw_retention"]),
        (71, ["raw_retention"]),
        (72, ["raw_retention"]),
    ):
        given = {
            "minute_refresh_start": f"{hours} hours",
            "raw_retention": "3 days",
            "minute_compress_after": "4 days",
        }
        assert [rule.left for rule in Settings(given).broken_rules()] == broken


def test_defaults_break_no_rule() -> None:
    assert Settings().broken_rules() == []
    assert not [finding for finding in timescale.plan() if finding.severity is timescale.Severity.FAULT]


def test_unknown_setting() -> None:
    with pytest.raises(MigrationSettingError, match="has no setting 'raw_retension'"):
        timescale.up("postgresql://nobody@127.0.0.1:1/never_opened", {"raw_retension": "3 days"})


def test_whole_days_and_words(unchanged: Database) -> None:
    assert "whole days" in psql(unchanged, "-v", "slots_chunk=36 hours")
    assert "other_definition must be" in psql(unchanged, "-v", "other_definition=drop")
    assert "compression_names must be" in psql(unchanged, "-v", "compression_names=both")
    for given, words in (
        ({"slots_chunk": "36 hours"}, "whole days"),
        ({"other_definition": "drop"}, "other_definition must be"),
    ):
        with pytest.raises(MigrationSettingError, match=words):
            timescale.up("postgresql://nobody@127.0.0.1:1/never_opened", given)


def test_missing_extension(bed: Bed, database: Make, empty: str) -> None:
    db = database(empty)
    with db.connect() as connection:
        connection.execute("DROP EXTENSION timescaledb")
    assert "extension is not installed" in psql(db)
    with pytest.raises(MigrationError, match="extension is not installed"):
        timescale.up(db.dsn)
    assert [
        finding.check for finding in timescale.verify(db.dsn) if finding.severity is timescale.Severity.FAULT
    ] == ["timescaledb"]


def test_apache_edition(bed: Bed, empty: str) -> None:
    if not isinstance(bed, WasmBed):
        pytest.skip("a native server has the edition it was started with")
    db = Database(bed, "snapdelta_test_apache", bed.create("snapdelta_test_apache", empty, community=False))
    try:
        subprocess.run(
            [
                postgres_program("psql"),
                "-X",
                "-q",
                db.dsn,
                "-f",
                str(timescale.migrations_directory() / "001_scanner_schema.sql"),
            ],
            check=True,
        )
        assert "Apache edition" in psql(db)
    finally:
        bed.drop(db.name)


def test_missing_table(database: Make, empty: str) -> None:
    assert "table public.scan_results does not exist" in psql(database(empty))


@pytest.fixture
def role(database: Make, aged: Aged) -> Iterator[Database]:
    db = database(aged.name)
    with db.connect() as connection:
        # Roles belong to the whole server: one that a stopped run has left would be in the way.
        connection.execute(
            "DROP ROLE IF EXISTS snapdelta_test_reader; CREATE ROLE snapdelta_test_reader LOGIN;"
            " GRANT SELECT ON ALL TABLES IN SCHEMA public TO snapdelta_test_reader"
        )
    yield Database(db.bed, db.name, re.sub(r"//[^@]*@", "//snapdelta_test_reader@", db.dsn))
    if not isinstance(db.bed, WasmBed):  # there each database has roles of its own
        with db.connect() as connection:
            connection.execute("DROP OWNED BY snapdelta_test_reader; DROP ROLE snapdelta_test_reader")


def test_missing_rights(role: Database, bed: Bed) -> None:
    if not isinstance(bed, WasmBed):
        pytest.skip("roles of a native server have passwords")
    assert 'role "snapdelta_test_reader" does not own table scan_results' in psql(role)
    with pytest.raises(MigrationError, match=r"may not create tables in schema"):
        timescale.up(role.dsn)


def test_tables_that_cannot_become_hypertables(database: Make, aged: Aged) -> None:
    db = database(aged.name)
    with db.connect() as connection:
        connection.execute(
            "ALTER TABLE volume_slots ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY UNIQUE"
        )
    assert 'does not contain "date"' in psql(db)
    with db.connect() as connection:
        connection.execute(
            "ALTER TABLE volume_slots DROP COLUMN id; ALTER TABLE market_data_daily RENAME COLUMN trading_date TO day"
        )
    assert 'no column "trading_date"' in psql(db)


def test_somebody_elses_aggregate_is_not_starved(database: Make, aged: Aged) -> None:
    db = database(aged.name)
    with db.connect() as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute(
            "CREATE MATERIALIZED VIEW five WITH (timescaledb.continuous) AS SELECT time_bucket('5 minutes', time) AS bucket, count(*)"
            " FROM scan_results GROUP BY 1 WITH NO DATA"
        )
        connection.execute(
            "SELECT add_continuous_aggregate_policy('five', NULL, interval '5 minutes', interval '5 minutes')"
        )
    assert "aggregate public.five is refreshed from the beginning back" in psql(db)
    assert any(
        finding.subject == "public.five" and finding.severity is timescale.Severity.FAULT
        for finding in timescale.verify(db.dsn)
    )
    with db.connect() as connection:
        connection.execute("SELECT remove_continuous_aggregate_policy('five')")
        connection.execute(
            "SELECT add_continuous_aggregate_policy('five', interval '2 days', interval '5 minutes', interval '5 minutes')"
        )
    timescale.up(db.dsn)


def test_longer_window_waits_until_the_rows_are_there(database: Make, healthy: Aged) -> None:
    db = database(healthy.name)
    longer = {"raw_retention": "6 days", "minute_refresh_start": "5 days", "minute_compress_after": "6 days"}
    with pytest.raises(MigrationError, match="reaches behind the oldest rows"):
        timescale.up(db.dsn, longer)
    timescale.up(db.dsn, {"raw_retention": "6 days"})


def test_view_in_the_way(database: Make, aged: Aged) -> None:
    db = database(aged.name)
    with db.connect() as connection:
        connection.execute("CREATE VIEW scan_results_1min AS SELECT 1 AS one")
    assert "is no view of a continuous aggregate of this migration" in psql(db)


def test_nothing_to_revert(database: Make, aged: Aged) -> None:
    db = database(aged.name)
    with pytest.raises(MigrationError, match="never applied"):
        timescale.down(db.dsn)
    timescale.up(db.dsn)
    timescale.down(db.dsn)
    with pytest.raises(MigrationError, match="nothing to revert"):
        timescale.down(db.dsn)
    with pytest.raises(MigrationError, match="is not applied"):
        timescale.rewrite(db.dsn, run=True)


def test_unreachable_database() -> None:
    with pytest.raises(MigrationError, match="cannot be reached"):
        timescale.status("postgresql://nobody@127.0.0.1:1/none?connect_timeout=2")


def test_every_refusal_is_ours(unchanged: Database) -> None:
    """An error of the server's own names file and line, and says to run again."""
    with unchanged.connect() as connection:
        connection.execute("CREATE TABLE snapdelta_migrations (other int)")
    with pytest.raises(MigrationError, match=rf"{OPTIMIZE}.sql, line \d+: .*run it again") as raised:
        timescale.up(unchanged.dsn)
    assert isinstance(raised.value.__cause__, psycopg.Error)
    assert load(OPTIMIZE).name in str(raised.value)
