"""Databases for the migration's tests: made once, copied for each test, dropped after it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

import psycopg
import pytest

from snapdelta import timescale
from timescale.bed import Bed, open_bed, why_no_wasm
from timescale.jobs import now, run_jobs
from timescale.scanner import Row, insert, scan

_NUMBER = count(1)

# The tables as the migration meets them: volume_slots is a plain table, the policies are old and slack.
OLD_SCHEMA = """
CREATE TABLE scan_results (
    time timestamptz NOT NULL, symbol varchar(10) NOT NULL, session varchar(20) NOT NULL, price numeric(12,4), volume bigint,
    volume_today bigint, change_percent numeric(8,4), rvol numeric(10,4), rvol_slot numeric(10,4), price_from_high numeric(8,4),
    price_from_low numeric(8,4), market_cap bigint, float_shares bigint, score numeric(10,4), filters_matched text[], metadata jsonb);
SELECT create_hypertable('scan_results', 'time', chunk_time_interval => interval '7 days');
ALTER TABLE scan_results SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol, session', timescaledb.compress_orderby = 'time DESC');
SELECT add_compression_policy('scan_results', interval '7 days');
SELECT add_retention_policy('scan_results', interval '180 days');
CREATE TABLE volume_slots (
    date date, symbol varchar(10), slot_number int, slot_time time, volume_accumulated bigint, trades_count int, avg_price numeric(12,4),
    PRIMARY KEY (date, symbol, slot_number));
CREATE TABLE market_data_daily (trading_date date NOT NULL, symbol varchar(10) NOT NULL, close numeric(12,4), PRIMARY KEY (trading_date, symbol));
SELECT create_hypertable('market_data_daily', 'trading_date', chunk_time_interval => interval '30 days');
"""


@dataclass
class Database:
    """One test's database, an open connection (one client at a time: close it before another tool connects)."""

    bed: Bed
    name: str
    dsn: str

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.dsn, autocommit=True)


@pytest.fixture(scope="session")
def bed() -> Iterator[Bed]:
    reason = None if os.environ.get("SNAPDELTA_TEST_TIMESCALE_DSN") else why_no_wasm()
    if reason is not None and os.environ.get("CI"):
        pytest.fail(f"CI needs a TimescaleDB: {reason}")
    if reason is not None:
        pytest.skip(f"NO TIMESCALEDB, SO THE MIGRATION IS NOT TESTED: {reason}")
    opened = open_bed()
    yield opened
    opened.close()


@pytest.fixture
def moving_clock(bed: Bed) -> Iterator[None]:
    """For tests that move the server's clock; it is put back after each."""
    if not bed.moves_clock:
        pytest.skip("the clock of a native server cannot be moved")
    yield
    bed.reset_clock()


@pytest.fixture(scope="session")
def empty(bed: Bed) -> Iterator[str]:
    """The name of a database with the extension and nothing else."""
    name = "snapdelta_test_empty"
    dsn = bed.create(name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    yield name
    bed.drop(name)


@dataclass
class Aged:
    """A database with the old schema, and the rows that were written to it."""

    name: str
    rows: list[Row]
    until: datetime


@pytest.fixture(scope="session")
def aged(bed: Bed, empty: str) -> Iterator[Aged]:
    """20 days of rows under the old 180-day and 7-day policies."""
    name = "snapdelta_test_aged"
    dsn = bed.create(name, empty)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute(OLD_SCHEMA.encode())
        until = now(connection).replace(second=0, microsecond=0)
        rows = scan(until - timedelta(days=20), until, every=timedelta(minutes=30))
        insert(connection, rows)
        connection.execute(
            """INSERT INTO volume_slots SELECT now()::date - d, s, n, '09:30', 1000 * n, n, 10 + n
               FROM generate_series(0, 30) d, unnest(ARRAY['AAPL', 'MSFT']) s, generate_series(1, 5) n"""
        )
        connection.execute(
            "INSERT INTO market_data_daily SELECT now()::date - d, 'AAPL', d FROM generate_series(0, 200) d"
        )
    yield Aged(name, rows, until)
    bed.drop(name)


@pytest.fixture(scope="session")
def migrated(bed: Bed, aged: Aged) -> Iterator[Aged]:
    """`aged`, migrated; its chunks are still wide, and no job has run."""
    name = "snapdelta_test_migrated"
    timescale.up(bed.create(name, aged.name))
    yield Aged(name, aged.rows, aged.until)
    bed.drop(name)


@pytest.fixture(scope="session")
def healthy(bed: Bed, migrated: Aged) -> Iterator[Aged]:
    """`migrated`, with narrow chunks and every job run: nothing is wrong with it."""
    name = "snapdelta_test_healthy"
    dsn = bed.create(name, migrated.name)
    timescale.rewrite(dsn, run=True)
    with psycopg.connect(dsn, autocommit=True) as connection:
        run_jobs(connection)
    yield Aged(name, migrated.rows, migrated.until)
    bed.drop(name)


Make = Callable[[str], Database]


@pytest.fixture
def database(bed: Bed) -> Iterator[Make]:
    """Makes a copy of a template for this test alone."""
    made: list[str] = []

    def make(template: str) -> Database:
        name = f"snapdelta_test_{next(_NUMBER)}"
        dsn = bed.create(name, template)
        made.append(name)
        return Database(bed, name, dsn)

    yield make
    for name in made:
        bed.drop(name)
