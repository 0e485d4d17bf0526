"""Columns that an Encoder writes in two: where another column changed, and where it did not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

import snapdelta
from core import reference_decoder as reference
from support.assert_exact import assert_same

Snapshot = dict[str, Any]


def quotes(frames: int, rows: int = 600) -> Iterator[Snapshot]:
    """A size is drawn anew where the price moves; else it grows by a few."""
    rng = Random(5)
    prices, sizes = (
        [rng.randint(100, 9_000) for _ in range(rows)],
        [rng.randint(1, 4_000) for _ in range(rows)],
    )
    for _ in range(frames):
        yield {f"Q{n}": {"price": prices[n], "size": sizes[n]} for n in range(rows)}
        for n in rng.sample(range(rows), rows // 2):
            if rng.random() < 0.5:
                prices[n] += rng.choice((-5, 5))
                sizes[n] = rng.randint(1, 4_000)
            else:
                sizes[n] += rng.randint(1, 3)


def is_split(frame: bytes, base: Snapshot) -> bool:
    columns = snapdelta.inspect(frame, base=base).columns
    return any(column.encoding.startswith("split by row set") for column in columns)


def test_a_size_that_depends_on_a_change_of_price_is_split_and_smaller() -> None:
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    states = list(quotes(4))
    decoder.apply(encoder.encode(states[0]))
    ours = plain = 0
    for prev, curr in pairwise(states):
        frame, alone = encoder.encode(curr), snapdelta.diff(prev, curr)
        assert is_split(frame, prev)
        assert not is_split(alone, prev)
        decoder.apply(frame)
        assert_same(decoder.snapshot(), curr)
        assert_same(reference.decode(frame, prev), curr)
        ours, plain = ours + len(frame), plain + len(alone)
    assert ours < 0.9 * plain


def test_a_split_is_left_where_a_frame_has_too_few_cells_for_it() -> None:
    encoder, (first, second, *_) = snapdelta.Encoder(), quotes(2)
    encoder.encode(first)
    assert is_split(encoder.encode(second), first)
    third = {symbol: dict(record) for symbol, record in second.items()}
    for symbol in list(third)[:20]:
        third[symbol]["size"] += 1
    third["Q0"]["price"] += 5
    frame = encoder.encode(third)
    assert not is_split(frame, second)
    assert_same(reference.decode(frame, second), third)


def test_a_frame_of_few_cells_does_not_put_the_search_off() -> None:
    encoder, (first, second, *_) = snapdelta.Encoder(), quotes(2)
    encoder.encode(first)
    few = {symbol: dict(record) for symbol, record in first.items()}
    for symbol in list(few)[:20]:
        few[symbol]["size"] += 1
    encoder.encode(few)
    assert is_split(encoder.encode(second), few)
