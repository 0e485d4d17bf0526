"""Columns on the enriched feed, as ratios to what does the same without them, in one run."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import snapdelta
from benches.bench_speed import HandIn, case, exactly, measure
from benches.pairs import TIMER
from benches.results import Result
from snapdelta.testing.feed import Feed

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


@pytest.mark.parametrize("whole", [False, True], ids=["capture", "encode"])
def test_columns_in(benchmark: BenchmarkFixture, hand_in: HandIn, whole: bool) -> None:
    """The next state as a polars frame: read, or made into a frame; against the same as a dict, encoded."""
    c = case("rebuilt")

    def table(snapshot: dict[str, Any]) -> pl.DataFrame:
        return pl.from_dicts([{"_symbol": symbol, **record} for symbol, record in snapshot.items()])

    tables = {"prev": table(c.prev), "curr": table(c.curr)}
    encoders = {"ours": snapdelta.Encoder(), "peer": snapdelta.Encoder()}
    captured: list[snapdelta.CapturedFrame] = []

    def prepare() -> None:
        while captured:
            captured.pop().finish()
        encoders["ours"].encode_columns(tables["prev"])
        encoders["peer"].encode(c.prev)

    def ours() -> None:
        encoder = encoders["ours"]
        if whole:
            encoder.encode_columns(tables["curr"])
        else:
            captured.append(encoder.capture_columns(tables["curr"]))

    prepare()
    assert encoders["ours"].encode_columns(tables["curr"]) == encoders["peer"].encode(c.curr)
    assert encoders["ours"].digest == encoders["peer"].digest
    name, target = ("encode", None) if whole else ("capture", 0.2)
    measure(
        benchmark,
        hand_in,
        f"Encoder.{name}_columns of a polars frame",
        c,
        ours,
        lambda: encoders["peer"].encode(c.curr),
        "Encoder.encode of the dict",
        target,
        prepare=prepare,
    )


def test_bundle(benchmark: BenchmarkFixture, hand_in: HandIn) -> None:
    """60 deltas as a bundle, against folding them over their base."""
    c = case("rebuilt")
    encoder = snapdelta.Encoder()
    first, *deltas = (encoder.encode(state) for state in islice(Feed("enriched"), 61))
    late, follower = snapdelta.Decoder(), snapdelta.Decoder()
    follower.apply(first)
    for delta in deltas:
        follower.apply(delta)
    late.apply(first)
    late.apply(snapdelta.compose(deltas))
    assert late.digest == follower.digest
    measure(
        benchmark,
        hand_in,
        "compose of 60 deltas, a bundle",
        c,
        lambda: snapdelta.compose(deltas),
        lambda: snapdelta.compose(deltas, first),
        "compose with the base",
        None,
    )


@pytest.mark.parametrize(("peer_name", "target"), [("the next frame", 0.05), ("the same state", None)])
def test_update(benchmark: BenchmarkFixture, hand_in: HandIn, peer_name: str, target: float | None) -> None:
    """100 records of 11,905, against a whole snapshot: the next of the feed, or the one that they lead to."""
    c = case("rebuilt")
    changes = dict(list(c.curr.items())[5000:5100])
    back = {symbol: c.prev[symbol] for symbol in changes}
    reached = {**c.prev, **changes}
    ours, peer, decoder = snapdelta.Encoder(), snapdelta.Encoder(), snapdelta.Decoder()
    decoder.apply(ours.encode(c.prev))
    peer.encode(c.prev)
    decoder.apply(ours.update(changes))
    peer.encode(reached)
    assert exactly(decoder.snapshot(), reached)
    assert ours.digest == peer.digest
    # The two states that the peer goes to and fro between.
    states = cycle([c.prev, c.curr if target else reached])
    measure(
        benchmark,
        hand_in,
        "Encoder.update of 100 symbols",
        c,
        lambda: ours.update(changes),
        lambda: peer.encode(next(states)),
        f"Encoder.encode of {peer_name}",
        target,
        prepare=lambda: ours.update(back),
    )


def test_compose(benchmark: BenchmarkFixture, hand_in: HandIn) -> None:
    """Bytes of 60 deltas as one, against the diff of the two ends. The time is measured beside it."""
    states = list(islice(Feed("enriched"), 61))
    encoder, reader = snapdelta.Encoder(), snapdelta.Decoder()
    first, *deltas = (encoder.encode(state) for state in states)
    composed = benchmark.pedantic(lambda: snapdelta.compose(deltas, first), rounds=1)
    reader.apply(first)
    reader.apply(composed)
    assert exactly(reader.snapshot(), states[-1])
    ours, peer = len(composed), len(snapdelta.diff(states[0], states[-1]))
    name = "60 deltas composed, enriched feed, 11,905 symbols"
    hand_in(Result("size", name, ours / 1e3, peer / 1e3, "kB", ours / peer, 1.05, "diff of the ends"))
