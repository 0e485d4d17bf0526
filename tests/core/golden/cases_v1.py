"""The snapshots of the golden vectors of format 1. They are never changed; new cases get new names."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

Snapshot = dict[str, Any]

EVERY_TYPE: Snapshot = {
    "constants": {"none": None, "false": False, "true": True, "empty": {}, "list": [], "tuple": ()},
    "ints": {"small": -5, "max": 2**63 - 1, "min": -(2**63), "large": 2**63, "huge": -(3**100)},
    "floats": {"half": 0.5, "minus zero": -0.0, "tiny": 5e-324, "inf": float("inf"), "price": 123.45},
    "texts": {
        "digits": "123",
        "zeros": "007",
        "short": "é",
        "long": "a long text",
        "alone": "\ud800",
        "": "",
    },
    "bytes": b"\x00\xff",
    "containers": [1, (2, [{}, {"a": {"b": None}}]), "x" * 20],
    "times": {
        "date": date(2026, 1, 2),
        "naive": datetime(2026, 1, 2, 3, 4, 5, 678901),
        "utc": datetime(2026, 1, 2, tzinfo=UTC),
        "fold": datetime(2026, 1, 2, fold=1),
        "offset": datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-5))),
        "named": datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-5), "EST")),
        "key": datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
        "time": time(9, 30, tzinfo=UTC),
        "delta": timedelta(-1, 5, 6),
    },
    "decimals": {
        "plain": Decimal("1.50"),
        "minus zero": Decimal("-0E+3"),
        "large": Decimal("12345678901234567890.123"),
        "signaling": Decimal("-sNaN12"),
        "infinity": Decimal("Infinity"),
    },
    "uuid": UUID("12345678-1234-5678-1234-567812345678"),
    "a.b[0]\\": {"a.b": {"": {"[": 1}}},
}


def market(seed: int, rows: int = 40) -> Snapshot:
    """Columns that the encoder has something to find in."""
    rng = random.Random(seed)
    out: Snapshot = {}
    for n in range(rows):
        bid = rng.randrange(1000, 99_999)
        ask = bid + rng.randrange(1, 9)
        out[f"S{n}"] = {
            "bid": bid / 100,
            "ask": ask / 100,
            "mid": (bid / 100 + ask / 100) / 2,
            "last": bid / 100,
            "volume": rng.randrange(10**6),
            "id": str(rng.randrange(10**12)),
            "venue": rng.choice(["NYSE", "NASDAQ", "a venue with a long name"]),
            "t": datetime(2026, 1, 5, 14, 30, tzinfo=UTC) + timedelta(microseconds=rng.randrange(10**6)),
            "score": rng.random(),
        }
    return out


def traded(before: Snapshot, seed: int) -> Snapshot:
    """Some rows trade, one goes, one comes, one gets another shape; the ranking is by score."""
    rng = random.Random(seed)
    rows = {symbol: dict(record) for symbol, record in before.items()}
    for record in rng.sample(list(rows.values()), len(rows) // 2):
        bid = round(record["bid"] + rng.randrange(-9, 10) / 100, 2)
        record |= {"bid": bid, "last": bid, "mid": (bid + record["ask"]) / 2, "score": rng.random()}
        record["volume"] += rng.randrange(500)
        record["id"] = str(int(record["id"]) + 7)
    del rows["S3"]
    rows["NEW"] = {"bid": 1.5, "note": None}
    rows["S5"] = {"first": True, **rows["S5"]}
    return dict(sorted(rows.items(), key=lambda item: -item[1].get("score", 0)))


def many_trades(before: Snapshot, seed: int) -> Snapshot:
    """Rows trade in runs; what a row changes depends on its other changes; texts and lists of levels grow."""
    rng = random.Random(seed)
    rows = {symbol: dict(record) for symbol, record in before.items()}
    trades = False
    for n, record in enumerate(rows.values()):
        trades = trades if rng.random() < 0.9 else rng.random() < 0.3
        if not trades:
            continue
        bid = round(record["bid"] + rng.randrange(-9, 10) / 100, 2)
        record |= {"bid": bid, "mid": (bid + record["ask"]) / 2}
        record["t"] += timedelta(microseconds=rng.randrange(5 * 10**6))
        if rng.random() < 0.8:
            record |= {"last": bid, "volume": record["volume"] + rng.randrange(500)}
            record["id"] = str(int(record["id"]) + rng.randrange(1, 9)) if n % 7 else None
        if n % 11 == 0:
            record["venue"] = record["venue"] + ", closed"
            record["levels"] = [[bid, rng.randrange(900)], *record.get("levels", [])]
    return rows


FIRST = market(1)
WIDE = many_trades(market(3, rows=900), 4)

# name: what the reader has (None: nothing, a full frame), and what it is to have
CASES: dict[str, tuple[Snapshot | None, Snapshot]] = {
    "empty": (None, {}),
    "every_type": (None, EVERY_TYPE),
    "market": (None, FIRST),
    "nothing_changed": (FIRST, FIRST),
    "traded": (FIRST, traded(FIRST, 2)),
    "reordered": (FIRST, dict(reversed(FIRST.items()))),
    "many_trades": (WIDE, many_trades(WIDE, 5)),
    "everything_removed": (FIRST, {}),
    "everything_new": (FIRST, EVERY_TYPE),
    "every_type_changed": (EVERY_TYPE, dict.fromkeys(EVERY_TYPE, EVERY_TYPE["ints"])),
}


# The column whose numbers the writer of the stream holds back, and how far.
HELD, AMOUNT = "score", 0.25


def published(before: Snapshot, given: Snapshot) -> Snapshot:
    """What readers have after `before` when the writer is given a snapshot, and holds numbers back."""
    rows = {symbol: dict(record) for symbol, record in given.items()}
    for symbol, record in rows.items():
        old = before.get(symbol, {}).get(HELD)
        if old is not None and HELD in record and abs(record[HELD] - old) <= AMOUNT:
            record[HELD] = old
    return rows


def stream() -> list[tuple[Snapshot, Snapshot]]:
    """Snapshots that a writer is given in turn, each with the state that readers have then."""
    given = [market(6)]
    for seed in range(7, 13):
        rng = random.Random(seed)
        rows = many_trades(given[-1], seed)
        given.append({symbol: record | {HELD: rng.random()} for symbol, record in rows.items()})
    states = [given[0]]
    for snapshot in given[1:]:
        states.append(published(states[-1], snapshot))
    return list(zip(given, states, strict=True))


# Frames of one stream, in their order, and which of its states each leads to.
STREAM = {"stream_full": 0, "stream_held": 1, "stream_bundle": 3, "stream_composed": 5, "stream_bridge": 6}
