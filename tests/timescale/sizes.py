"""What the aggregates cost: bytes a row and a bucket, before and after, and what that comes to in 13 and 30 days.

    make sizes                                        on the TimescaleDB of the tests
    make sizes SIZES='--symbols 100 --days 13 --jobs'  also what the tables hold after every job has run

"Before" is the aggregate of numeric columns that the migration made at first. The feed is a market of 500
symbols, of which a sample is written: 960,000 rows a day, where a few symbols have most of the rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from snapdelta import timescale
from snapdelta.timescale.files import SCHEMA, load
from snapdelta.timescale.levels import SCANNER
from snapdelta.timescale.migrate import execute
from timescale import jobs
from timescale.bed import Bed, open_bed

PREFIXES = {level.name: level.chunk.removesuffix("_chunk") for level in SCANNER}
DAY = timedelta(days=1)
SYMBOLS = 500  # of the whole market
NAME = "snapdelta_sizes"
BEFORE = {
    "scan_results": "scan_results",
    "scan_results_1min": "before_1min",
    "scan_results_1hour": "before_1hour",
}

# One day of the market from `starts` on, every (symbols / 500)th symbol of it; a scan every 10 s for 16 hours.
# Prices and volumes wander, ratios follow from them, filters stay for a quarter of an hour.
FEED = """
WITH symbols AS MATERIALIZED (
    SELECT r, 'S' || lpad(r::text, 4, '0') AS symbol, least(1, 30.7 * power((r - 0.5) * 500.0 / %(symbols)s, -0.9)) AS chance,
           5 + 300 * power(random(), 2) AS base, (1e6 * (1 + 200 * power(random(), 3)))::bigint AS shares, 0.0003 + 0.001 * random() AS swing
    FROM generate_series(1, %(symbols)s) r),
scans AS MATERIALIZED (SELECT *, random() AS drawn, random() AS a, random() AS b, random() AS c FROM symbols, generate_series(0, 5759) i),
walks AS (
    SELECT *, round((base * exp(sum((a - 0.5) * 2 * swing) OVER symbol))::numeric, 2) AS price, sum((-ln(1 - b) * 300)::bigint) OVER symbol AS today
    FROM scans WHERE drawn < chance WINDOW symbol AS (PARTITION BY r ORDER BY i)),
rows AS (
    SELECT *, max(price) OVER symbol AS high, min(price) OVER symbol AS low, today - coalesce(lag(today, 6) OVER symbol, 0) AS volume
    FROM walks WINDOW symbol AS (PARTITION BY r ORDER BY i))
INSERT INTO scan_results
SELECT %(starts)s::timestamptz + i * interval '10 s', symbol, CASE WHEN i < 1980 THEN 'PRE_MARKET' WHEN i < 4320 THEN 'MARKET_OPEN' ELSE 'POST_MARKET' END,
       price, volume, today, round((price / base::numeric - 1) * 100, 4), round(((today + 1) / (300 * chance * (i + 1)) * (1 + 0.3 * sin(i / 900.0)))::numeric, 4),
       CASE WHEN c > 0.1 THEN round(volume / 1800.0, 4) END, round((price / high - 1) * 100, 4), round((price / low - 1) * 100, 4),
       (price * shares)::bigint, (shares * 0.8)::bigint, round((25 + 15 * sin(i / 2000.0 + shares) + 10 * ln(1 + volume / 1800.0))::numeric, 4),
       (ARRAY[ARRAY['volume_spike'], ARRAY['gap_up'], ARRAY['momentum'], ARRAY['new_high']])[(i / 90 + shares %% 7) %% 4 + 1 : (i / 90 + shares %% 7) %% 4 + 1],
       jsonb_build_object('rank', 1 + floor(r * (0.9 + 0.2 * c))::int, 'source', 'scanner', 'atr_percent', round((2 + shares %% 10 + sin(i / 3000.0))::numeric, 2))
FROM rows ORDER BY i, symbol"""
SLOTS = """
INSERT INTO volume_slots SELECT %(starts)s::timestamptz::date, 'S' || lpad(r::text, 4, '0'), n, '08:00'::time + n * interval '4 minutes', 1000 * n * r, 10 * n, 10 + r / 7.0
FROM generate_series(1, %(symbols)s) r, generate_series(1, 230) n"""


def _before(width: str, at: str, source: str) -> str:
    """The first aggregates' SELECT: every part as a column of the raw type."""
    raw = source == "scan_results"

    def part(aggregate: str, column: str, name: str) -> str:
        time = f", {at}" if aggregate in ("first", "last") else ""
        if aggregate == "count" and not raw:
            return f"sum({name})::bigint AS {name}"
        return f"{aggregate}({column if raw else name}{time}) AS {name}"

    parts = [
        part("first", "price", "open"), part("max", "price", "high"), part("min", "price", "low"), part("last", "price", "close"),
        *(part(aggregate, column, f"{column}_{name}")
          for column, kept in {
              "volume": "last max sum", "volume_today": "last max", "change_percent": "last min max", "rvol": "last max sum n",
              "rvol_slot": "last max sum n", "price_from_high": "last min max", "price_from_low": "last min max", "market_cap": "last",
              "float_shares": "last", "score": "last min max sum n", "filters_matched": "last", "metadata": "last"}.items()
          for name in kept.split() for aggregate in ["count" if name == "n" else name]),
    ]  # fmt: skip
    samples = "count(*)" if raw else "sum(sample_count)::bigint"
    return (
        f"SELECT time_bucket('{width}', {at}) AS bucket, symbol, session, {', '.join(parts)}, {samples} AS sample_count"
        f" FROM {source} GROUP BY 1, 2, 3"
    )


def make_before(connection: psycopg.Connection) -> None:
    """The first aggregates beside those of the migration, filled, and compressed as they were."""
    for view, below, width, at, chunk in (
        ("before_1min", "scan_results", "1 minute", '"time"', "1 day"),
        ("before_1hour", "before_1min", "1 hour", "bucket", "7 days"),
    ):
        connection.execute(
            f"CREATE MATERIALIZED VIEW {view} WITH (timescaledb.continuous) AS {_before(width, at, below)} WITH NO DATA".encode()
        )
        table = f"_timescaledb_internal.{jobs.materialized(connection, view)}"
        connection.execute(f"SELECT set_chunk_time_interval('{table}', interval '{chunk}')".encode())
        connection.execute(f"CALL refresh_continuous_aggregate('{view}', NULL, NULL)".encode())
        connection.execute(
            f"ALTER MATERIALIZED VIEW {view} SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol, session',"
            " timescaledb.compress_orderby = 'bucket DESC')".encode()
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes a row of one relation, indexes included."""

    rows: int
    open: float
    compressed: float


def cost(connection: psycopg.Connection, relation: str) -> Cost:
    """Measures a relation, then compresses all its chunks and measures it again."""
    table = stored_in(connection, relation)
    rows, open_bytes = _row(connection, f"SELECT (SELECT count(*) FROM {table}), hypertable_size('{table}')")
    connection.execute(f"SELECT compress_chunk(c) FROM show_chunks('{table}') c".encode())
    (tight,) = _row(connection, f"SELECT hypertable_size('{table}')")
    return Cost(rows, open_bytes / rows, tight / rows)


def stored_in(connection: psycopg.Connection, relation: str) -> str:
    """The hypertable behind a table or an aggregate."""
    aggregate = relation.endswith(("_1min", "_1hour"))
    return f"_timescaledb_internal.{jobs.materialized(connection, relation)}" if aggregate else relation


def _row(connection: psycopg.Connection, query: str) -> tuple[int, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row


def fill(connection: psycopg.Connection, symbols: int, days: int) -> None:
    """Writes whole days of the feed, the last one yesterday."""
    today = jobs.now(connection).replace(hour=0, minute=0, second=0, microsecond=0)
    connection.execute("SELECT setseed(0.42)")
    for back in range(days, 0, -1):
        starts: datetime = today - back * DAY + timedelta(hours=8)
        for statement in (FEED, SLOTS):
            connection.execute(statement.encode(), {"symbols": symbols, "starts": starts})


def migrate(dsn: str, symbols: int, days: int) -> None:
    """Fills an empty database with the feed and applies the migration."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = error")
        execute(connection, load(SCHEMA), {})
        fill(connection, symbols, days)
    timescale.up(dsn)


def measure(dsn: str) -> dict[str, Cost]:
    """Measures everything that a migrated database keeps, and the first aggregates beside it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = error")
        make_before(connection)
        return {
            relation: cost(connection, relation) for relation in dict.fromkeys([*BEFORE, *BEFORE.values()])
        }


def after_jobs(dsn: str) -> dict[str, int]:
    """Runs every job and tells what each relation holds, in bytes."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        jobs.run_jobs(connection)
        return {
            relation: _row(connection, f"SELECT hypertable_size('{stored_in(connection, relation)}')")[0]
            for relation in ("scan_results", "volume_slots", "scan_results_1min", "scan_results_1hour")
        }


def projected(
    costs: dict[str, Cost], share: float, measured: int, days: int
) -> Iterator[tuple[str, float, float]]:
    """Bytes of each relation of the whole market after so many days, before and now.

    As much as can be is taken for open: a chunk that ends this moment is compressed `compress_after` later.
    """
    settings = timescale.Settings()
    first = {"raw": settings["raw_compress_after"], "minute": 3 * DAY, "hour": 14 * DAY}
    for relation, old in BEFORE.items():
        prefix = PREFIXES[relation]
        chunk = settings[f"{prefix}_chunk"]
        kept = min(days * DAY, settings[f"{prefix}_retention"] + chunk)
        was, now = (
            _after(costs[name], after + chunk + settings["compress_every"], kept) / measured / share
            for name, after in ((old, first[prefix]), (relation, settings[f"{prefix}_compress_after"]))
        )
        yield relation, was, now


def _after(found: Cost, opened: timedelta, kept: timedelta) -> float:
    """Bytes of a relation whose every day is as the measured ones together, its newest days open."""
    open_bytes = min(kept, opened)
    return found.rows * (open_bytes / DAY * found.open + (kept - open_bytes) / DAY * found.compressed)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Bytes a row and a bucket, before and after.")
    parser.add_argument(
        "--symbols", type=int, default=SYMBOLS // 20, help="of 500; the default is a twentieth"
    )
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--jobs", action="store_true", help="also run every job and tell the sizes after it")
    given = parser.parse_args()
    share = given.symbols / SYMBOLS
    bed = open_bed()
    try:
        with database(bed, given.symbols, given.days) as dsn:
            show(measure(dsn), given.symbols, given.days)
        if given.jobs:
            with database(bed, given.symbols, given.days) as dsn:
                held = after_jobs(dsn)
            print(f"\nafter every job, for {SYMBOLS} symbols, MB")
            for relation, size in {**held, "in all": sum(held.values())}.items():
                print(f"{relation:36}{size / share / 1e6:>10.0f}")
    finally:
        bed.close()


@contextmanager
def database(bed: Bed, symbols: int, days: int) -> Iterator[str]:
    """A migrated database with the feed; dropped in the end. A copy: in one, no background worker runs a job."""
    made = []
    try:
        with psycopg.connect(bed.create(f"{NAME}_empty"), autocommit=True) as connection:
            made.append(f"{NAME}_empty")
            connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        dsn = bed.create(NAME, f"{NAME}_empty")
        made.append(NAME)
        migrate(dsn, symbols, days)
        yield dsn
    finally:
        for name in made:
            bed.drop(name)


def show(costs: dict[str, Cost], symbols: int, days: int) -> None:
    """Prints bytes a row, and what the whole market comes to."""
    raw, minutes = costs["scan_results"], costs["scan_results_1min"]
    print(f"{symbols} of {SYMBOLS} symbols, {days} days: {raw.rows:,} rows, {minutes.rows:,} minutes")
    print(f"\n{'bytes a row, indexes included':36}{'before':>10}{'now':>10}{'share':>8}")
    for relation, old in BEFORE.items():
        for state in ("compressed", "open"):
            was, now = getattr(costs[old], state), getattr(costs[relation], state)
            print(f"{relation + ', ' + state:36}{was:>10.1f}{now:>10.1f}{now / was:>8.2f}")
    for after in (13, 30):
        rows = list(projected(costs, symbols / SYMBOLS, days, after))
        rows.append(("in all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
        print(f"\n{f'{SYMBOLS} symbols, {after} days, MB':36}{'before':>10}{'now':>10}{'share':>8}")
        for relation, was, now in rows:
            print(f"{relation:36}{was / 1e6:>10.0f}{now / 1e6:>10.0f}{now / was:>8.2f}")


if __name__ == "__main__":
    main()
