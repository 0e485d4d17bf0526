"""The index on symbol and time is built once, and not where one of another name serves."""

from __future__ import annotations

import psycopg
import pytest

from snapdelta.timescale.files import OPTIMIZE, SCHEMA, load
from timescale.bed import Bed, WasmBed
from timescale.conftest import Aged, Make

SERVING = {
    "another name": "CREATE INDEX my_own ON scan_results (symbol, time DESC)",
    "the other way round": "CREATE INDEX my_own ON scan_results (symbol DESC, time)",
    "ascending": "CREATE INDEX my_own ON scan_results (symbol, time)",
    "more columns": "CREATE INDEX my_own ON scan_results (symbol, time DESC, session) INCLUDE (price)",
}
OTHER = {
    "one of the columns": "CREATE INDEX my_own ON scan_results (symbol)",
    "another order": "CREATE INDEX my_own ON scan_results (time DESC, symbol)",
    "some of the rows": "CREATE INDEX my_own ON scan_results (symbol, time DESC) WHERE price > 1",
    "another kind": "CREATE INDEX my_own ON scan_results USING brin (symbol, time)",
    "an expression": "CREATE INDEX my_own ON scan_results (lower(symbol), time DESC)",
    "the name only": "CREATE INDEX scan_results_symbol_time_idx ON scan_results (session)",
}


def indexes(connection: psycopg.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'scan_results'::regclass")}  # fmt: skip


def build(connection: psycopg.Connection, seconds: float) -> None:
    """Runs the file as on a machine that would need so long for the largest chunk, and for all."""
    for statement in load(SCHEMA).statements:
        sent = statement.render({})
        rows = connection.execute(sent.encode())
        if statement.ending == "gexec":
            for (command,) in rows.fetchall():
                connection.execute(command.encode())
        if "FUNCTION pg_temp.index_seconds" in sent:
            connection.execute(
                "CREATE OR REPLACE FUNCTION pg_temp.index_seconds(OUT largest double precision, OUT whole double precision)"
                f" LANGUAGE sql AS 'SELECT {seconds}::float8, {seconds}::float8'".encode()
            )


def test_index_is_looked_for_by_what_it_is(database: Make, aged: Aged) -> None:
    with database(aged.name).connect() as connection:
        before = indexes(connection)
        for name, statement in {**SERVING, **OTHER}.items():
            connection.execute(statement.encode())
            with_theirs = indexes(connection)
            build(connection, 0.1)
            assert (indexes(connection) == with_theirs) == (name in SERVING), name
            build(connection, 0.1)
            for index in indexes(connection) - before:
                connection.execute(f"DROP INDEX {index}".encode())


def test_unfinished_index_is_built_anew(bed: Bed, database: Make, aged: Aged) -> None:
    """A build that goes chunk by chunk and is stopped leaves an index that is marked as not valid."""
    if isinstance(bed, WasmBed):
        pytest.skip("the WASM engine cannot change a row of pg_index twice: set SNAPDELTA_TEST_TIMESCALE_DSN")
    with database(aged.name).connect() as connection:
        before = indexes(connection)
        for _ in range(2):
            build(connection, 0.1)
            assert len(indexes(connection) - before) == 1
            connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'scan_results_symbol_time_idx'::regclass")  # fmt: skip


def test_large_chunk_is_left_alone_and_said(database: Make, aged: Aged) -> None:
    said: list[str] = []
    db = database(aged.name)
    with db.connect() as connection:
        connection.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        before = indexes(connection)
        build(connection, 42)
        assert indexes(connection) == before
    assert any("hold the writers of one chunk for about 42 s" in sentence for sentence in said)
    with db.connect() as connection:
        build(connection, 0.1)
        assert len(indexes(connection)) == len(before) + 1


def test_small_table_is_not_measured(database: Make, aged: Aged) -> None:
    """However busy the machine is while a sample is taken, a few rows get their index at once."""
    with database(aged.name).connect() as connection:
        for statement in load(SCHEMA).statements:
            if "FUNCTION pg_temp.index_seconds" in (sent := statement.render({})):
                connection.execute(sent.encode())
        assert connection.execute("SELECT * FROM pg_temp.index_seconds()").fetchone() == (0, 0)


@pytest.mark.parametrize("relation", ["0", "4294967295"])
def test_size_of_what_is_gone(database: Make, empty: str, relation: str) -> None:
    with database(empty).connect() as connection:
        for statement in load(OPTIMIZE).statements:
            sent = statement.render(load(OPTIMIZE).defaults)
            if sent.startswith("CREATE OR REPLACE FUNCTION pg_temp.bytes"):
                connection.execute(sent.encode())
        assert connection.execute(f"SELECT pg_temp.bytes({relation}::oid::regclass)".encode()).fetchone() == (None,)  # fmt: skip
