"""Columns on the enriched feed, as ratios to what does the same without them, in one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

import snapdelta
from benches.bench_speed import HandIn, case, measure
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
