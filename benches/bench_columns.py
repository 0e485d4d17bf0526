"""Columns on the enriched feed, as ratios to what does the same without them, in one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

import snapdelta
from benches.bench_speed import HandIn, case, exactly, measure
from benches.pairs import TIMER

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = pytest.mark.benchmark(timer=TIMER)


def test_arrow_out(benchmark: BenchmarkFixture, hand_in: HandIn) -> None:
    """The whole state as a polars frame."""
    c = case("rebuilt")
    decoder = snapdelta.Decoder()
    decoder.apply(snapdelta.dumps(c.curr))

    def from_dicts() -> pl.DataFrame:
        return pl.from_dicts([{"_symbol": symbol, **record} for symbol, record in c.curr.items()])

    assert pl.DataFrame(decoder).to_dicts() == from_dicts().to_dicts()
    measure(
        benchmark,
        hand_in,
        "polars.DataFrame(Decoder)",
        c,
        lambda: pl.DataFrame(decoder),
        from_dicts,
        "polars.from_dicts",
        0.15,
    )


def test_update(benchmark: BenchmarkFixture, hand_in: HandIn) -> None:
    """100 records of 11,905, against a whole snapshot in which as many changed."""
    c = case("rebuilt")
    changes = dict(list(c.curr.items())[5000:5100])
    back = {symbol: c.prev[symbol] for symbol in changes}
    target = {**c.prev, **changes}
    ours, peer, decoder = snapdelta.Encoder(), snapdelta.Encoder(), snapdelta.Decoder()
    decoder.apply(ours.encode(c.prev))
    peer.encode(c.prev)
    decoder.apply(ours.update(changes))
    peer.encode(target)
    assert exactly(decoder.snapshot(), target)
    assert ours.digest == peer.digest

    def prepare() -> None:
        ours.update(back)

    reached = peer.digest

    def encode() -> None:
        peer.encode(c.prev if peer.digest == reached else target)

    measure(
        benchmark,
        hand_in,
        "Encoder.update of 100 symbols",
        c,
        lambda: ours.update(changes),
        encode,
        "Encoder.encode of all",
        0.05,
        prepare=prepare,
    )
