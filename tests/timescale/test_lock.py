"""One migration at a time: two sessions of a real PostgreSQL (the WASM engine has one session only)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from snapdelta import timescale
from snapdelta.errors import MigrationError, MigrationLockedError
from snapdelta.timescale.files import OPTIMIZE, load
from support.documents import shown_errors
from timescale.bed import postgres_program


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A PostgreSQL server without TimescaleDB: the lock is asked for before anything else."""
    # PostgreSQL does not run as root, and another user may not see the project's folder: so a copy, for nobody.
    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="snapdelta-postgres-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        package = Path(postgres_program("postgres")).parents[2]
        for part in (package, package.with_suffix(".libs")):  # found by their place beside each other
            shutil.copytree(part, home / part.name, symlinks=True)
        tool, data = home / package.name / "pginstall" / "bin", home / "data"
        data.mkdir()
        if user:
            shutil.chown(data, user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        made: list[str | Path] = [tool / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N"]
        subprocess.run(made, user=user, check=True, capture_output=True, cwd=home)
        server = subprocess.Popen(
            [tool / "postgres", "-D", data, "-p", str(port), "-k", "", "-h", "127.0.0.1", "-F"],
            user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home,
        )  # fmt: skip
        try:
            ready: list[str | Path] = [tool / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
            while subprocess.run(ready, capture_output=True, check=False).returncode:
                assert server.poll() is None, "the server ended"
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(30)


ENTRIES: dict[str, Callable[[str], None]] = {
    "up": timescale.up,
    "down": timescale.down,
    "rewrite": lambda dsn: timescale.rewrite(dsn, run=True),
}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES.keys())
def test_second_migration_is_refused(postgres: str, entry: Callable[[str], None]) -> None:
    (lock,) = [
        statement
        for statement in load(OPTIMIZE).statements
        if "pg_try_advisory_lock" in statement.render(load(OPTIMIZE).defaults)
    ]
    # The session of the test before may not have ended yet.
    wait_for_no_lock(postgres)
    with psycopg.connect(postgres, autocommit=True) as first:
        first.execute(lock.render({}).encode())
        first.execute("SELECT pg_temp.one_at_a_time()")
        with pytest.raises(MigrationLockedError) as refused:
            entry(postgres)
        assert str(refused.value).replace("postgres", "scanner") == shown_errors()["MigrationLockedError"]
        file = timescale.migrations_directory() / f"{OPTIMIZE}.sql"
        by_psql = subprocess.run(
            [postgres_program("psql"), "-X", postgres, "-f", str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert by_psql.returncode == 3
        assert "another migration is running" in by_psql.stderr
    wait_for_no_lock(postgres)
    # A session that ends, however it ends, gives the lock back: now it goes as far as a PostgreSQL alone lets it.
    with pytest.raises(MigrationError, match=r"is not installed|was never applied|is not applied"):
        entry(postgres)


def test_lock_is_given_back_after_a_refusal(postgres: str) -> None:
    for _ in range(2):
        with pytest.raises(MigrationError, match="is not installed"):
            timescale.up(postgres)
        wait_for_no_lock(postgres)


def wait_for_no_lock(dsn: str) -> None:
    """The server notices a moment later that a client has gone."""
    until = time.monotonic() + 30
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() != (
            0,
        ):
            assert time.monotonic() < until, "the lock was not given back"
            time.sleep(0.02)
