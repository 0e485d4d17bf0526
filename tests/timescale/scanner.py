"""What the scanner writes, and what the aggregates must say of it: the reference, in plain Python."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import dict_row

Row = dict[str, Any]
Key = tuple[datetime, str, str]

SYMBOLS = ("AAPL", "MSFT", "NVDA", "TSLA")
NUMBERS = (
    "price", "volume", "volume_today", "change_percent", "rvol", "rvol_slot", "price_from_high", "price_from_low",
    "market_cap", "float_shares", "score",
)  # fmt: skip
# What scan_results_1min keeps of each column; written down a second time here, on purpose.
KEPT = {
    "volume": "last max sum",
    "volume_today": "last max",
    "change_percent": "last min max",
    "rvol": "last max sum n",
    "rvol_slot": "last max sum n",
    "price_from_high": "last min max",
    "price_from_low": "last min max",
    "market_cap": "last",
    "float_shares": "last",
    "score": "last min max sum n",
    "filters_matched": "last",
    "metadata": "last",
}
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def scan(
    start: datetime, end: datetime, *, every: timedelta, symbols: Iterable[str] = SYMBOLS, seed: int = 1
) -> list[Row]:
    """Rows from `start` to `end`: at each step one to three a symbol, some in the same minute, with NULLs."""
    random_ = random.Random(seed)
    rows: list[Row] = []
    at = start
    while at < end:
        for symbol in symbols:
            offset = timedelta()
            for _ in range(random_.randint(1, 3)):
                time = at + offset
                if time < end:
                    rows.append(random_row(random_, time, symbol))
                offset += timedelta(seconds=random_.choice((5, 17, 40)))
        at += every
    return rows


def random_row(random_: random.Random, time: datetime, symbol: str) -> Row:
    """What the scanner says of a symbol at a time."""

    def number(low: float, high: float, missing: float = 0.0) -> Decimal | None:
        return None if random_.random() < missing else Decimal(f"{random_.uniform(low, high):.4f}")

    return {
        "time": time,
        "symbol": symbol,
        "session": "PRE_MARKET" if time.hour < 9 else "MARKET_OPEN" if time.hour < 16 else "POST_MARKET",
        "price": number(1, 900),
        "volume": random_.randrange(1_000_000),
        "volume_today": random_.randrange(5_000_000_000),
        "change_percent": number(-90, 90),
        "rvol": number(0, 40, missing=0.2),
        "rvol_slot": number(0, 40, missing=0.5),
        "price_from_high": number(-50, 0),
        "price_from_low": number(0, 50, missing=0.1),
        "market_cap": random_.randrange(3_000_000_000_000),
        "float_shares": None if random_.random() < 0.1 else random_.randrange(10_000_000_000),
        "score": number(0, 100),
        "filters_matched": random_.sample(["gap", "volume", "momentum", "halt"], random_.randrange(4)),
        "metadata": {"n": random_.randrange(9)} if random_.random() < 0.5 else None,
    }


def insert(connection: psycopg.Connection, rows: list[Row]) -> None:
    """Writes rows to scan_results, some thousand a statement."""
    for at in range(0, len(rows), 4000):
        text = json.dumps(rows[at : at + 4000], default=str)
        connection.execute(
            "INSERT INTO scan_results SELECT * FROM jsonb_populate_recordset(NULL::scan_results, %s::jsonb)",
            (text,),
        )


def expected(rows: Iterable[Row], width: timedelta) -> dict[Key, Row]:
    """Every bucket of the given width, recomputed from the original rows."""
    groups: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        elapsed = row["time"] - datetime(2000, 1, 1, tzinfo=UTC)
        groups[row["time"] - elapsed % width, row["symbol"], row["session"]].append(row)
    return {key: _bucket(key, sorted(group, key=lambda row: row["time"])) for key, group in groups.items()}


def _bucket(key: Key, rows: list[Row]) -> Row:
    prices = [row["price"] for row in rows]
    known = [price for price in prices if price is not None]
    bucket: Row = {
        "bucket": key[0], "symbol": key[1], "session": key[2],
        "open": prices[0], "high": max(known, default=None), "low": min(known, default=None), "close": prices[-1],
        "sample_count": len(rows),
    }  # fmt: skip
    for column, parts in KEPT.items():
        present = [row[column] for row in rows if row[column] is not None]
        for part in parts.split():
            match part:
                case "last":
                    value = rows[-1][column]
                case "min":
                    value = min(present, default=None)
                case "max":
                    value = max(present, default=None)
                case "sum":
                    value = sum(present) if present else None
                case _:
                    value = len(present)
            bucket[f"{column}_{part}"] = value
    return bucket


def stored(connection: psycopg.Connection, view: str) -> dict[Key, Row]:
    """Every row of an aggregate."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(f"SELECT * FROM {view}".encode())
        return {(row["bucket"], row["symbol"], row["session"]): row for row in cursor}


def assert_history(connection: psycopg.Connection, rows: list[Row]) -> None:
    """Every 1-minute and 1-hour bucket of `rows` is there and right, and there is no other."""
    for view, width in (("scan_results_1min", MINUTE), ("scan_results_1hour", HOUR)):
        wanted, found = expected(rows, width), stored(connection, view)
        missing, foreign = wanted.keys() - found.keys(), found.keys() - wanted.keys()
        assert not missing, (
            f"{view}: {len(missing)} of {len(wanted)} buckets are gone, the first {min(missing)}"
        )
        assert not foreign, f"{view}: {len(foreign)} buckets too many, the first {min(foreign)}"
        wrong = [key for key in wanted if wanted[key] != found[key]]
        assert not wrong, (
            f"{view}: {len(wrong)} buckets are wrong, the first: {found[wrong[0]]} != {wanted[wrong[0]]}"
        )
