"""A tolerance on the enriched feed, beside the same feed without it, in one run."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING

import pytest

import snapdelta
from benches.bench_speed import HandIn, case, measure
from benches.pairs import TIMER
from benches.results import Result
from benches.tolerance import MINUTE, TOLERANCE
from snapdelta.testing.feed import Feed

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = pytest.mark.benchmark(timer=TIMER)
_FRAMES = 13


def test_encode(benchmark: BenchmarkFixture, hand_in: HandIn) -> None:
    c = case("rebuilt")
    ours, peer = snapdelta.Encoder(tolerance=TOLERANCE), snapdelta.Encoder()
    ours.encode(c.prev)
    peer.encode(c.prev)
    captured = ours.capture(c.curr)
    assert captured.held_cells > 0
    captured.finish()
    states, others = cycle([c.prev, c.curr]), cycle([c.curr, c.prev])
    measure(
        benchmark,
        hand_in,
        "Encoder(tolerance=...).encode",
        c,
        lambda: ours.encode(next(states)),
        lambda: peer.encode(next(others)),
        "Encoder().encode",
        1.0,
    )


def test_size(benchmark: BenchmarkFixture, hand_in: HandIn) -> None:
    """Bytes of the deltas of a minute. What readers have is checked at every frame."""
    states = list(islice(Feed("enriched"), _FRAMES))
    ours, peer, reader = snapdelta.Encoder(tolerance=TOLERANCE), snapdelta.Encoder(), snapdelta.Decoder()

    def encode_all() -> list[bytes]:
        return [ours.encode(state) for state in states]

    first, *deltas = benchmark.pedantic(encode_all, rounds=1)
    reader.apply(first)
    for delta, state in zip(deltas, states[1:], strict=True):
        reader.apply(delta)
        read = reader.snapshot(shared=True)
        assert list(read) == list(state)
        for symbol, record in state.items():
            near = read[symbol]
            assert abs(record["updated"] - near["updated"]) <= MINUTE
            assert (record["mid"], record["day"]) == (near["mid"], near["day"])
    _, *exact = (peer.encode(state) for state in states)
    size, peer_size = (sum(map(len, all_deltas)) for all_deltas in (deltas, exact))
    name = f"{len(deltas)} deltas within a tolerance, enriched feed, 11,905 symbols"
    hand_in(Result("size", name, size / 1e3, peer_size / 1e3, "kB", size / peer_size, 1.0, "exact deltas"))
