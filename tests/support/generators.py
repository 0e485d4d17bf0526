"""Seeded snapshots of some hundred rows: columns for every encoding, and the edges of every type."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

from core.reference_values import K0, K1, mum
from support.strategies import float_of_bits

Snapshot = dict[str, Any]
Record = dict[str, Any]

START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
ODD: tuple[Any, ...] = (
    *(None, True, False, {}, [], (), b"", "", "0", "007", 0, 0.0, -0.0, 2**64, -(2**63), "\ud800", "a.b"),
    *(float("nan"), float_of_bits(0x7FF0000000000001), float("-inf"), 1e300, 0.1, 123.456789),
    *(Decimal("1.50"), Decimal("-0"), Decimal("sNaN7"), UUID(int=5), date(2026, 1, 5), time(9, 30, fold=1)),
    *(timedelta(1), START, START.replace(tzinfo=None), START.replace(fold=1), [1, {"a": {}}], ("x", 1.0)),
    *("a text that is too long for a word", b"bytes", "9" * 19, "9" * 20),
)


def cents(rng: random.Random, top: int = 100_000) -> float:
    return rng.randrange(top) / 100


def fresh(rng: random.Random) -> Record:
    """A record as it is when its symbol appears."""
    price, before = cents(rng), cents(rng) + 1
    return {
        "quote": {"bid": price, "ask": price + cents(rng, 50), "sizes": rng.randrange(1000)},
        "trade": {
            "p": price,
            "s": rng.randrange(1, 500),
            "id": str(rng.randrange(10**9)),
            "c": [rng.randrange(40)],
        },
        "day": {"v": rng.randrange(10**6), "c": price, "open": before, "vw": rng.random() * price},
        "n": rng.randrange(10**5),
        "t": START,
        "ns": 1_767_623_400_000_000_000 + rng.randrange(10**9),
        "venue": rng.choice(["NYSE", "NASDAQ", "a venue with quite a long name", None]),
        "money": Decimal(rng.randrange(10**6)).scaleb(-2),
        "noise": rng.random(),
        "odd": rng.choice(ODD),
        "key": UUID(int=rng.getrandbits(128)),
        "flag": rng.random() < 0.5,
        "long": rng.choice("abcdef") * 20 + str(rng.randrange(30)),
    }


def derive(record: Record) -> None:
    """Fields that are arithmetic on others."""
    price, day = record["trade"]["p"], record["day"]
    bid, ask = record["quote"]["bid"], record["quote"]["ask"]
    record["mid"] = (bid + ask) / 2
    record["spread"] = ask - bid
    record["change"] = (price - day["open"]) / day["open"] * 100
    record["value"] = abs(price) * day["v"]
    record["rvol"] = day["v"] / record.setdefault("average", 1000.5)


def trade(rng: random.Random, record: Record, now: datetime) -> None:
    """A trade: most fields follow from it."""
    size = rng.randrange(1, 500)
    price = round(record["trade"]["p"] + rng.randrange(-50, 51) / 100, 2)
    record["trade"] |= {"p": price, "s": size, "id": str(int(record["trade"]["id"]) + rng.randrange(1, 9))}
    record["quote"] |= {"bid": price, "ask": price + cents(rng, 50)}
    record["day"] |= {"v": record["day"]["v"] + size, "c": price}
    record["n"] += 1
    record["t"] = now + timedelta(microseconds=rng.randrange(10**6))
    record["ns"] += rng.randrange(10**9)
    record["money"] += 1
    derive(record)


def tweak(rng: random.Random, record: Record) -> None:
    """Something that is not a trade: other types, other fields, another order of fields."""
    kind = rng.randrange(7)
    if kind == 0:
        record["odd"] = rng.choice(ODD)
    elif kind == 1:
        record[rng.choice(["noise", "venue", "n", "flag"])] = rng.choice(ODD)
    elif kind == 2:
        record[f"extra {rng.randrange(5)}"] = rng.choice(ODD)
    elif kind == 3:
        record.pop(rng.choice(list(record)))
    elif kind == 4:
        first = rng.choice(list(record))
        record[first] = record.pop(first)
    elif kind == 5:
        record["deep"] = {"a": {"b": {"c": rng.choice(ODD), str(rng.randrange(9)): {}}}}
    else:
        record["key"] = UUID(int=rng.getrandbits(128))


def copied(value: Any) -> Any:
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    return value


Mood = Callable[[random.Random, Record, datetime], None]


def calm(rng: random.Random, record: Record, now: datetime) -> None:
    """Whole columns change in an orderly way."""
    kinds = {"day": dict, "trade": dict, "quote": dict, "n": int, "ns": int, "money": Decimal}
    if all(type(record.get(key)) is kind for key, kind in kinds.items()):
        trade(rng, record, now)


def wild(rng: random.Random, record: Record, now: datetime) -> None:
    """Trades, and a fair share of records that become something else."""
    calm(rng, record, now)
    if rng.random() < 0.3:
        tweak(rng, record)


def frames(seed: int, rows: int = 200, mood: Mood = wild) -> Iterator[Snapshot]:
    """Endless snapshots; nothing in one is shared with the next."""
    rng = random.Random(seed)
    state: Snapshot = {}
    for n in range(rows):
        state[f"S{n}"] = fresh(rng)
        derive(state[f"S{n}"])
    serial = rows
    now = START
    while True:
        yield copied(state)
        now += timedelta(seconds=5)
        active = rng.random()
        for record in state.values():
            if type(record) is dict and rng.random() < active:
                mood(rng, record, now)
        if rng.random() < 0.7:
            for symbol in rng.sample(list(state), min(len(state), rng.randrange(6))):
                del state[symbol]
            for _ in range(rng.randrange(8)):
                serial += 1
                state[f"S{serial}"] = fresh(rng) if rng.random() < 0.9 else rng.choice(ODD)
        state = reordered(rng, state)


def reordered(rng: random.Random, state: Snapshot) -> Snapshot:
    items = list(state.items())
    kind = rng.randrange(4)
    if kind == 0:
        items.sort(key=lambda item: item[1]["noise"] if _ranked(item[1]) else 0.0, reverse=rng.random() < 0.5)
    elif kind == 1:
        for _ in range(10):
            items.insert(rng.randrange(len(items)), items.pop(rng.randrange(len(items))))
    elif kind == 2 and rng.random() < 0.2:
        rng.shuffle(items)
    return dict(items)


def _ranked(record: Any) -> bool:
    return type(record) is dict and type(record.get("noise")) is float and record["noise"] == record["noise"]


def texts_of_one_hash() -> Iterator[str]:
    """The hash of each is in the state 0 after its second word, whatever came before."""
    for n in count():
        first = b"%08d" % n
        second = struct.pack("<Q", mum(K0 ^ struct.unpack("<Q", first)[0], K1))
        if second.isascii():
            yield (first + second).decode()
