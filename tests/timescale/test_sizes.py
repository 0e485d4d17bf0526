"""The aggregates store less and say the same: every bucket to the last decimal, at the ends of each type."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import psycopg
import pytest

from snapdelta import timescale
from snapdelta.errors import MigrationError
from timescale import jobs, sizes
from timescale.conftest import Aged, Database, Make
from timescale.scanner import Row, assert_history, insert, scan

BIG = 2**63 - 1
# For each column of scan_results: its least value, its greatest, and one that is next to nothing.
ENDS: dict[str, tuple[Any, Any, Any]] = {
    "price": (Decimal("-99999999.9999"), Decimal("99999999.9999"), Decimal("0.0001")),
    "change_percent": (Decimal("-9999.9999"), Decimal("9999.9999"), Decimal("-0.0001")),
    "price_from_high": (Decimal("-9999.9999"), Decimal("9999.9999"), Decimal("0.0000")),
    "price_from_low": (Decimal("-9999.9999"), Decimal("9999.9999"), Decimal("0.0001")),
    **dict.fromkeys(
        ("rvol", "rvol_slot", "score"), (Decimal("-999999.9999"), Decimal("999999.9999"), Decimal("0.0001"))
    ),
    **dict.fromkeys(("volume", "volume_today", "market_cap", "float_shares"), (-BIG - 1, BIG, -1)),
}


def minutes(at: datetime, values: Iterable[Iterable[int | None]], symbol: str) -> list[Row]:
    """A minute each, a row a value: which of a column's ENDS all columns have, None for NULL."""
    (template,) = scan(at, at + timedelta(seconds=1), every=timedelta(hours=1), symbols=("X",))
    return [
        template
        | {"time": at + timedelta(minutes=minute, seconds=10 * second), "symbol": symbol}
        | {column: None if end is None else ends[end] for column, ends in ENDS.items()}
        for minute, row in enumerate(values)
        for second, end in enumerate(row)
    ]


@pytest.fixture
def fresh(database: Make, empty: str) -> Database:
    db = database(empty)
    timescale.up(db.dsn)
    return db


def compress(connection: psycopg.Connection) -> None:
    for view in ("scan_results_1min", "scan_results_1hour"):
        table = jobs.materialized(connection, view)
        connection.execute(
            f"SELECT compress_chunk(c) FROM show_chunks('_timescaledb_internal.{table}') c".encode()
        )


def refresh(connection: psycopg.Connection) -> None:
    for view in ("scan_results_1min", "scan_results_1hour"):
        connection.execute(f"CALL refresh_continuous_aggregate('{view}_scaled', NULL, NULL)".encode())


def test_every_bucket_at_the_ends_of_the_types(fresh: Database) -> None:
    least, greatest, little, null = 0, 1, 2, None
    with fresh.connect() as connection:
        at = jobs.now(connection).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
        rows = minutes(
            at,
            [
                [null, null, null],  # no value at all
                [null, greatest],
                [greatest, null],  # the last one is NULL, the greatest is not
                [least, null],
                [greatest, least],
                [least, greatest],
                [little, null, little],
                [greatest] * 6,  # the sum of a bigint is beyond bigint
                [least] * 6,
                [little] * 3,
            ],
            "ENDS",
        )
        rows += minutes(at, [[greatest] * 6] * 60, "MOST") + minutes(at, [[least] * 6] * 60, "LEAST")
        rows += minutes(at, [[null]] * 60, "NULL") + minutes(
            at + timedelta(hours=1), [[null], [little]], "NULL"
        )
        insert(connection, rows)
        assert_history(connection, rows)  # straight from the rows
        refresh(connection)
        assert_history(connection, rows)
        compress(connection)
        assert_history(connection, rows)


def test_not_a_number_is_kept(fresh: Database) -> None:
    """PostgreSQL's numeric has a NaN, larger than every number: one row of it must not stop the refresh."""
    with fresh.connect() as connection:
        connection.execute(
            """INSERT INTO scan_results (time, symbol, session, price, score, change_percent)
               SELECT date_trunc('hour', now()) - interval '2 hours' + n * interval '10 s', 'NAN', 'MARKET_OPEN', v, v, v
               FROM unnest(ARRAY['NaN', 1, NULL, 'NaN', -2]::numeric[]) WITH ORDINALITY AS t (v, n)"""
        )
        refresh(connection)
        compress(connection)
        for view in ("scan_results_1min", "scan_results_1hour"):
            found = connection.execute(
                f"SELECT open, high, low, close, score_sum, score_n, change_percent_max, change_percent_last::text FROM {view}".encode()
            ).fetchall()
            (row,) = found
            assert [str(value) for value in row] == [
                "NaN",
                "NaN",
                "-2.0000",
                "-2.0000",
                "NaN",
                "4",
                "NaN",
                "-2.0000",
            ]


def test_columns_of_the_users_own(database: Make, empty: str) -> None:
    """Of any type: what cannot be stored as an integer is stored as it is."""
    db = database(empty)
    timescale.up(db.dsn)
    own = {
        "wide numeric(38,10)": "12345678901234567890.0123456789",
        "free numeric": "1.50",
        "edge numeric(18,18)": "0.999999999999999999",
        "whole numeric(18,0)": "999999999999999999",
        "tiny smallint": "-32768",
        "real_one real": "1.5",
        "double_one double precision": "-0.1",
        "flag boolean": "true",
        '"Mixed Name" numeric(6,2)': "-1234.56",
    }
    names = [declared.rsplit(" ", 2 if "double" in declared else 1)[0] for declared in own]
    with db.connect() as connection:
        connection.execute("SET client_min_messages = error")
        for declared in own:
            connection.execute(f"ALTER TABLE scan_results ADD COLUMN {declared}".encode())
    timescale.up(db.dsn, {"other_definition": "rename"})
    with db.connect() as connection:
        values = ", ".join(f"'{value}'" for value in own.values())
        connection.execute(
            f"INSERT INTO scan_results (time, symbol, session, {', '.join(names)})"
            f" SELECT date_trunc('hour', now()) - interval '2 hours' + n * interval '10 s', 'OWN', 'MARKET_OPEN', {values}"
            " FROM generate_series(1, 5) n".encode()
        )
        refresh(connection)
        for view in ("scan_results_1min", "scan_results_1hour"):
            for name, value in zip(names, own.values(), strict=True):
                bare = name.strip('"')
                parts = ["last"] if value == "true" else ["last", "min", "max"]
                listed = ", ".join(f'"{bare}_{part}"' for part in parts)
                shown = connection.execute(f"SELECT {listed} FROM {view}".encode()).fetchone()
                assert shown is not None
                assert [str(found).lower() for found in shown] == [value] * len(parts), (view, name)
                if value != "true":
                    total = connection.execute(
                        f'SELECT "{bare}_sum", "{bare}_n" FROM {view}'.encode()
                    ).fetchone()
                    assert total is not None
                    assert total[1] == 5
                    with localcontext(prec=60):
                        wanted = 5 * Decimal(value)
                    assert total[0] == (float(wanted) if isinstance(total[0], float) else wanted), (
                        view,
                        name,
                    )


def test_renamed_aggregate_is_still_read(database: Make, healthy: Aged) -> None:
    """The view of before goes on showing numbers, from the aggregate of before."""
    db = database(healthy.name)
    with db.connect() as connection:
        before = connection.execute("SELECT * FROM scan_results_1min ORDER BY 1, 2, 3").fetchall()
        connection.execute("ALTER TABLE scan_results ADD COLUMN halted boolean")
    with pytest.raises(MigrationError, match=r"another definition.*other_definition=rename"):
        timescale.up(db.dsn)
    timescale.up(db.dsn, {"other_definition": "rename"})
    with db.connect() as connection:
        (name,) = connection.execute(
            "SELECT viewname FROM pg_views WHERE viewname ~ '^scan_results_1min_before_'"
        ).fetchone() or ("",)
        assert connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3".encode()).fetchall() == before


def half_the_size(db: Database, symbols: int) -> dict[str, sizes.Cost]:
    sizes.migrate(db.dsn, symbols, days=1)
    costs = sizes.measure(db.dsn)
    with db.connect() as connection:
        # The same buckets with the same content, or the comparison says nothing.
        for view, before in (("scan_results_1min", "before_1min"), ("scan_results_1hour", "before_1hour")):
            for one, other in ((view, before), (before, view)):
                assert connection.execute(
                    f"SELECT count(*) FROM (SELECT * FROM {one} EXCEPT SELECT * FROM {other}) d".encode()
                ).fetchone() == (0,), (one, other)
    now, was = costs["scan_results_1min"], costs["before_1min"]
    assert now.compressed <= was.compressed / 2
    assert now.open <= was.open * 0.85
    assert costs["scan_results_1hour"].compressed < costs["before_1hour"].compressed
    return costs


def test_a_bucket_takes_half(database: Make, empty: str) -> None:
    half_the_size(database(empty), symbols=10)


@pytest.mark.long
def test_a_bucket_takes_half_at_a_twentieth_of_the_market(database: Make, empty: str) -> None:
    costs = half_the_size(database(empty), symbols=sizes.SYMBOLS // 20)
    whole = {days: list(sizes.projected(costs, 1 / 20, 1, days)) for days in (13, 30)}
    assert sum(now for _, _, now in whole[13]) < 1.5e9
    assert sum(now for _, _, now in whole[30]) < 2.0e9
