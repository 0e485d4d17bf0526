"""Snapshots that are hard to send small: one kind of data a function, each a few frames from a fixed seed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import islice
from random import Random
from typing import Any

from snapdelta.testing.feed import Feed

Snapshot = dict[str, Any]

_FRAMES = 5
_RANKING_FRAMES = 13
_LONGEST_RANKING = 100


def decimals(*, text: bool) -> Iterator[Snapshot]:
    """Price, change and percent with two decimals, which all move a little; as strings or as floats."""
    rng = Random(21)
    closes = {f"S{number}": round(rng.uniform(1, 500), 2) for number in range(5_000)}
    prices = dict(closes)
    for _ in range(_FRAMES):
        snapshot = {}
        for symbol, price in prices.items():
            change = round(price - closes[symbol], 2)
            fields = {"last": price, "change": change, "pct": round(change / closes[symbol] * 100, 2)}
            snapshot[symbol] = {k: f"{v:.2f}" for k, v in fields.items()} if text else fields
        yield snapshot
        prices = {symbol: round(price * (1 + rng.gauss(0, 0.0005)), 2) for symbol, price in prices.items()}


def book_of_keys() -> Iterator[Snapshot]:
    """Books of {price: size} with 500 levels a side, of which one goes and one comes in each book."""
    rng = Random(22)

    def side(lowest: float) -> dict[str, str]:
        return {f"{lowest + n / 100:.2f}": f"{rng.random() * 9:.4f}" for n in range(500)}

    books = {f"M{n}-USD": {"bids": side(10.0 + n), "asks": side(20.0 + n)} for n in range(10)}
    for frame in range(_FRAMES):
        yield {
            market: {name: dict(levels) for name, levels in book.items()} for market, book in books.items()
        }
        for number, book in enumerate(books.values()):
            del book["bids"][rng.choice(list(book["bids"]))]
            book["bids"][f"{9 + number}.{99 - frame}"] = f"{rng.random() * 9:.1f}"


def lists_of_levels() -> Iterator[Snapshot]:
    """Books as lists of [price, size], in each of which one size changes."""
    rng = Random(23)
    books = {
        f"M{market}": [[round(100 + market - n / 100, 2), round(rng.random(), 4)] for n in range(50)]
        for market in range(200)
    }
    for _ in range(_FRAMES):
        yield {market: {"bids": [list(level) for level in levels]} for market, levels in books.items()}
        for levels in books.values():
            rng.choice(levels)[1] = round(rng.random() * 9, 4)


def added_rows() -> Iterator[Snapshot]:
    """Rows come and go; the text of those that come also appears in rows that stay."""
    rng = Random(24)
    firsts, seconds = ("San", "Los", "Santa", "El"), ("Gatos", "Mateo", "Cruz", "Cerrito", "Rosa", "Jose")
    cities = [f"{a} {b} {c}" for a in firsts for b in seconds for c in ("Heights", "Beach", "Valley", "Park")]
    rows = {str(number): {"city": rng.choice(cities), "n": rng.randint(0, 9)} for number in range(1_900)}
    for frame in range(_FRAMES):
        yield dict(rows)
        for symbol in rng.sample(list(rows), 30):
            del rows[symbol]
        for number in range(40):
            rows[f"n{frame}-{number}"] = {"city": rng.choice(cities), "n": rng.randint(0, 9)}


def one_value() -> Iterator[Snapshot]:
    """The full market, in which one value of one symbol changes: a price, a count, a time, a text."""
    rng = Random(25)
    snapshot: Snapshot = next(Feed("enriched"))
    yield snapshot
    changes: tuple[tuple[str, str, Any], ...] = (
        ("lastTrade", "p", lambda price: round(price + 0.01, 4)),
        ("day", "v", lambda volume: volume + 100),
        ("lastQuote", "t", lambda time: time + rng.randrange(5_000_000_000)),
        ("lastTrade", "i", lambda text: str(int(text) + 1)),
    )
    for block, key, change in changes:
        symbol = rng.choice(list(snapshot))
        record = snapshot[symbol]
        changed = {**record, block: {**record[block], key: change(record[block][key])}}
        snapshot = {**snapshot, symbol: changed}
        yield snapshot


def unchanged() -> Iterator[Snapshot]:
    """The full market, thrice the same."""
    snapshot = next(Feed("enriched"))
    for _ in range(3):
        yield dict(snapshot)


def ranking(length: int) -> Iterator[Snapshot]:
    """The best of the full market, as a scanner saves its list in every frame."""
    return (dict(islice(frame.items(), length)) for frame in _ranked())


@cache
def _ranked() -> list[Snapshot]:
    frames = islice(Feed("ranked"), _RANKING_FRAMES)
    return [dict(islice(frame.items(), _LONGEST_RANKING)) for frame in frames]
