"""Numbers of any type in one column, and columns that follow from others: exact, and small."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snapdelta
from support.roundtrip import Snapshot, Stream, delta_trip

# --- what goes in comes out

WRITTEN: dict[str, Callable[[int], Any]] = {
    "cents": lambda m: m / 100,
    "ints": lambda m: m,
    "ints and floats": lambda m: m // 100 if m % 100 == 0 else m / 100,
    "full precision": lambda m: m / 3.7,
    "Decimals": lambda m: Decimal(m) / 100,
    "Decimals with zeros": lambda m: Decimal(m).scaleb(-4),
    "text": lambda m: f"{m / 100:.2f}",
    "text with zeros": lambda m: f"{m / 100:.8f}",
    "text of floats": lambda m: str(m / 100),
    "dollars": lambda m: f"${m / 100:,.2f}" if m >= 0 else f"-${-m / 100:,.2f}",
    "percent": lambda m: f"{m / 100:+.2f}%",
    "ten thousands": lambda m: m * 10_000,
    "sometimes None": lambda m: None if m % 3 == 0 else m / 10,
    "sometimes text": lambda m: "n/a" if m % 7 == 0 else m / 10,
    "minus zero": lambda m: -0.0 if m == 0 else m / 10,
}
RELATED: dict[str, Callable[[int, int], float]] = {
    "difference": lambda a, b: a - b,
    "middle": lambda a, b: (a + b) / 2,
    "product": lambda a, b: a * b,
    "quotient": lambda a, b: a / b if b else 0,
    "percent": lambda a, b: (a - b) / b * 100 if b else 0,
    "larger": lambda a, b: max(a, b),
}
INTEGERS = st.integers(-(10**7), 10**7) | st.integers(-20, 20)
KINDS = st.sampled_from(sorted(WRITTEN))


def written(kinds: tuple[str, str, str], related: str, pairs: list[tuple[int, int]]) -> Snapshot:
    def record(a: int, b: int) -> dict[str, Any]:
        made = round(RELATED[related](a, b))
        values = zip(("a", "b", "c"), kinds, (a, b, made), strict=True)
        return {name: WRITTEN[kind](m) for name, kind, m in values}

    return {f"S{n}": record(a, b) for n, (a, b) in enumerate(pairs)}


@given(
    st.tuples(KINDS, KINDS, KINDS),
    st.sampled_from(sorted(RELATED)),
    st.lists(st.tuples(INTEGERS, INTEGERS, INTEGERS, INTEGERS), min_size=5, max_size=60),
)
@settings(max_examples=300)
def test_numbers_of_any_kind(
    kinds: tuple[str, str, str], related: str, rows: list[tuple[int, int, int, int]]
) -> None:
    before = written(kinds, related, [row[:2] for row in rows])
    after = written(kinds, related, [row[2:] for row in rows])
    delta_trip(before, after)
    delta_trip({}, after)


@pytest.mark.parametrize("kind", WRITTEN)
def test_an_encoder_that_has_learned(kind: str) -> None:
    """Frames in a row, so that what was learned is used, and searched again."""
    rng = random.Random(kind)
    stream = Stream()
    pairs = [(rng.randrange(-5000, 5000), rng.randrange(1, 5000)) for _ in range(80)]
    for n in range(8):
        related = ("difference", "product", "percent")[n // 3]
        stream.step(written((kind, kind, "cents"), related, pairs), full=n == 5)
        pairs = [(a + rng.randrange(-50, 50), b + rng.randrange(0, 9)) for a, b in pairs]
    stream.check_full()


TEXTS = [
    "$1.50",
    "-$1.50",
    "$-1.50",
    "+1.50",
    "1.50 USD",
    "1,234.50",
    "12,34.5",
    "0.10",
    "00.10",
    "1.",
    ".5",
    "",
]
TEXTS += [
    ".5",
    "",
    "1e5",
    "-0.00",
    "+0.00",
    "1 234",
    "5",
    "-5",
    "€5",
    "5€",
    "9" * 16,
    "9" * 19,
    "0.0000000000000001",
]


@given(st.lists(st.sampled_from(TEXTS), min_size=5, max_size=80), st.randoms(use_true_random=False))
def test_text_that_looks_like_numbers(texts: list[str], rng: random.Random) -> None:
    before = {f"S{n}": {"x": rng.choice(TEXTS), "y": n} for n in range(len(texts))}
    delta_trip(before, {f"S{n}": {"x": text, "y": n} for n, text in enumerate(texts)})


# --- sizes


def quotes(rows: int, rng: random.Random) -> Iterator[dict[str, dict[str, float]]]:
    """Prices, bid and ask in cents; what is worked out from them is rounded."""
    prices = {f"S{n}": round(rng.uniform(1, 500), 2) for n in range(rows)}
    closes = dict(prices)
    volumes = dict.fromkeys(prices, 0)
    while True:
        frame = {}
        for symbol in prices:
            prices[symbol] = price = round(prices[symbol] * (1 + rng.gauss(0, 0.002)), 2)
            volumes[symbol] += rng.randrange(1, 900)
            bid = round(price - 0.01 * rng.randrange(1, 9), 2)
            ask = round(price + 0.01 * rng.randrange(1, 9), 2)
            close = closes[symbol]
            frame[symbol] = {
                "price": price,
                "close": close,
                "bid": bid,
                "ask": ask,
                "volume": volumes[symbol],
                "mid": round((bid + ask) / 2, 3),
                "spread": round(ask - bid, 2),
                "change": round(price - close, 2),
                "percent": round((price - close) / close * 100, 2),
            }
        yield frame


def total(frames: Iterator[Snapshot], count: int = 6) -> int:
    """Bytes of the deltas of an encoder."""
    encoder = snapdelta.Encoder()
    sizes = [len(encoder.encode(frame)) for frame in islice(frames, count)]
    return sum(sizes[1:])


def columns_total(frames: Iterator[Snapshot], count: int = 6) -> int:
    """The same, of their columns, before zstd."""
    encoder = snapdelta.Encoder()
    deltas = [encoder.encode(frame) for frame in islice(frames, count)][1:]
    return sum(snapdelta.inspect(delta).sections["columns"] for delta in deltas)


def without(frames: Iterator[Snapshot], *names: str) -> Iterator[Snapshot]:
    for frame in frames:
        yield {
            symbol: {name: value for name, value in record.items() if name not in names}
            for symbol, record in frame.items()
        }


def test_what_follows_from_other_columns_costs_next_to_nothing() -> None:
    follows = ("mid", "spread", "change", "percent")
    everything = columns_total(quotes(1500, random.Random(1)))
    rest = columns_total(without(quotes(1500, random.Random(1)), *follows))
    # five deltas with up to 6,000 such cells each
    assert everything - rest <= 5 * 6000 * 0.03


@pytest.mark.parametrize("template", ["{:.2f}", "{:.8f}", "${:,.2f}", "{:.2f}%"])
def test_numbers_in_text_cost_what_floats_cost(template: str) -> None:
    def as_text(frames: Iterator[Snapshot]) -> Iterator[Snapshot]:
        for frame in frames:
            yield {
                symbol: {
                    name: template.format(value) if type(value) is float and value >= 0 else value
                    for name, value in record.items()
                }
                for symbol, record in frame.items()
            }

    floats = total(without(quotes(1500, random.Random(2)), "change", "percent"))
    texts = total(as_text(without(quotes(1500, random.Random(2)), "change", "percent", "mid")))
    assert texts <= 1.1 * floats


def test_none_where_an_operand_is_none_costs_next_to_nothing() -> None:
    def sometimes_none(frames: Iterator[Snapshot]) -> Iterator[Snapshot]:
        rng = random.Random(4)
        for frame in frames:
            for record in frame.values():
                if rng.random() < 0.3:
                    record["bid"] = record["spread"] = None
            yield frame

    def with_spread() -> Iterator[Snapshot]:
        return sometimes_none(quotes(1500, random.Random(3)))

    names = ("mid", "change", "percent")
    everything = columns_total(without(with_spread(), *names))
    assert everything - columns_total(without(with_spread(), *names, "spread")) <= 5 * 100


def test_a_feed_built_to_break_predictors_costs_no_more_than_one_without_relations() -> None:
    """c follows from a and b almost, by another formula in each frame; beside it the same c of other rows."""

    def frames(mixed: bool) -> Iterator[Snapshot]:
        rng = random.Random(5)
        rows = 2000
        a, b = ([rng.randrange(1000, 90_000) for _ in range(rows)] for _ in "ab")
        others = list(range(rows))
        rng.shuffle(others)
        for n in range(12):
            a = [value + rng.randrange(-99, 99) for value in a]
            b = [value + rng.randrange(-99, 99) for value in b]
            formula = list(RELATED.values())[n % 3]
            c = [round(formula(x, y) + rng.gauss(0, 3 * n), 2) for x, y in zip(a, b, strict=True)]
            if mixed:
                c = [c[other] for other in others]
            columns = zip(a, b, c, strict=True)
            yield {f"S{i}": {"a": x / 100, "b": y, "c": z} for i, (x, y, z) in enumerate(columns)}

    stream = Stream()
    for frame in islice(frames(mixed=False), 3):
        stream.step(frame)
    assert total(frames(mixed=False), 12) <= 1.01 * total(frames(mixed=True), 12)
