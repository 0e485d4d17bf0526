"""Speed on the enriched feed, as ratios to peers in the same run, on each heap of benches.heap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from pydantic import BaseModel

import snapdelta
from benches import peers
from benches.heap import HEAPS
from benches.pairs import TIMER, time_pairs
from benches.results import Result
from snapdelta.testing.feed import Feed

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

HandIn = Callable[[Result], None]

pytestmark = pytest.mark.benchmark(timer=TIMER)
EACH_HEAP = pytest.mark.parametrize("heap", HEAPS)


@dataclass(frozen=True)
class Case:
    """Two frames of the feed, five seconds apart, and what the benchmarks make of them."""

    prev: dict[str, Any]
    curr: dict[str, Any]
    delta: bytes
    json: bytes


@cache
def case(heap: str) -> Case:
    *_, prev, curr = islice(Feed("enriched"), 7)
    prev, curr = HEAPS[heap](prev), HEAPS[heap](curr)
    return Case(prev, curr, snapdelta.diff(prev, curr), orjson.dumps(curr))


def measure(
    benchmark: BenchmarkFixture,
    hand_in: HandIn,
    name: str,
    case: Case,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    peer_name: str,
    target: float | None,
    prepare: Callable[[], Any] | None = None,
) -> None:
    timing = time_pairs(benchmark, ours, peer, clear=lambda: orjson.dumps(case.prev), prepare=prepare)
    hand_in(
        Result(
            "speed, enriched feed, 11,905 symbols",
            name,
            median(timing.ours) * 1e3,
            median(timing.peer) * 1e3,
            "ms",
            timing.ratio,
            target,
            peer_name,
        )
    )


def exactly(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Equal with types and order, as far as JSON goes."""
    return orjson.dumps(a) == orjson.dumps(b)


@EACH_HEAP
def test_encode(benchmark: BenchmarkFixture, hand_in: HandIn, heap: str) -> None:
    """Encoder.encode of the next frame; before each round the encoder is put back to the frame before."""
    c = case(heap)
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    for snapshot in (c.prev, c.curr):
        decoder.apply(encoder.encode(snapshot))
        assert exactly(decoder.snapshot(), snapshot)
    measure(
        benchmark,
        hand_in,
        f"Encoder.encode, {heap} heap",
        c,
        lambda: encoder.encode(c.curr),
        lambda: orjson.dumps(c.curr),
        "orjson.dumps",
        {"parsed": 0.75, "rebuilt": 0.45, "fragmented": 0.25}[heap],
        prepare=lambda: encoder.encode(c.prev),
    )


@EACH_HEAP
def test_capture(benchmark: BenchmarkFixture, hand_in: HandIn, heap: str) -> None:
    """The half of encode that holds up an event loop: reading the snapshot."""
    c = case(heap)
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    captured: list[snapdelta.CapturedFrame] = []

    def prepare() -> None:
        if captured:
            captured.pop().finish()
        encoder.encode(c.prev)

    decoder.apply(encoder.encode(c.prev))
    decoder.apply(encoder.capture(c.curr).finish())
    assert exactly(decoder.snapshot(), c.curr)
    measure(
        benchmark,
        hand_in,
        f"Encoder.capture, {heap} heap",
        c,
        lambda: captured.append(encoder.capture(c.curr)),
        lambda: orjson.dumps(c.curr),
        "orjson.dumps",
        None,
        prepare=prepare,
    )


@EACH_HEAP
def test_diff(benchmark: BenchmarkFixture, hand_in: HandIn, heap: str) -> None:
    c = case(heap)
    assert exactly(snapdelta.apply(c.prev, c.delta), c.curr)
    measure(
        benchmark,
        hand_in,
        f"diff, {heap} heap",
        c,
        lambda: snapdelta.diff(c.prev, c.curr),
        lambda: orjson.dumps(c.curr),
        "orjson.dumps",
        {"parsed": 1.3, "rebuilt": 0.9, "fragmented": 0.45}[heap],
    )


@EACH_HEAP
def test_dumps(benchmark: BenchmarkFixture, hand_in: HandIn, heap: str) -> None:
    c = case(heap)
    assert exactly(snapdelta.loads(snapdelta.dumps(c.curr)), c.curr)
    measure(
        benchmark,
        hand_in,
        f"dumps, {heap} heap",
        c,
        lambda: snapdelta.dumps(c.curr),
        lambda: peers.msgpack_zstd3(c.curr),
        "msgspec + zstd-3",
        {"parsed": 0.6, "rebuilt": 0.6, "fragmented": 0.45}[heap],
    )


@EACH_HEAP
def test_loads(benchmark: BenchmarkFixture, hand_in: HandIn, heap: str) -> None:
    c = case(heap)
    frame, packed = snapdelta.dumps(c.curr), peers.msgpack_zstd3(c.curr)
    assert exactly(snapdelta.loads(frame), c.curr)
    assert exactly(peers.from_msgpack_zstd3(packed), c.curr)
    measure(
        benchmark,
        hand_in,
        f"loads, {heap} heap",
        c,
        lambda: snapdelta.loads(frame),
        lambda: peers.from_msgpack_zstd3(packed),
        "msgspec + zstd-3",
        None,
    )


class Quote(BaseModel):
    """A record of scalar fields, as a service holds it."""

    symbol: str
    price: float
    size: int
    bid: float
    ask: float
    volume: int
    change: float
    session: str


def test_capture_of_models(benchmark: BenchmarkFixture, hand_in: HandIn) -> None:
    """pydantic models are read in place; the peer dumps each into a dict."""

    def models(snapshot: dict[str, Any]) -> dict[str, Any]:
        return {
            symbol: Quote(
                symbol=symbol,
                price=record["lastTrade"]["p"],
                size=record["lastTrade"]["s"],
                bid=record["lastQuote"]["p"],
                ask=record["lastQuote"]["P"],
                volume=record["day"]["v"],
                change=record["todaysChange"],
                session=record["session"],
            )
            for symbol, record in snapshot.items()
        }

    c = case("rebuilt")
    prev, curr = models(c.prev), models(c.curr)
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    captured: list[snapdelta.CapturedFrame] = []

    def prepare() -> None:
        if captured:
            captured.pop().finish()
        encoder.encode(prev)

    def dumped() -> dict[str, Any]:
        return {symbol: model.model_dump() for symbol, model in curr.items()}

    decoder.apply(encoder.encode(curr))
    assert exactly(decoder.snapshot(), dumped())
    measure(
        benchmark,
        hand_in,
        "Encoder.capture of pydantic models, 8 fields",
        c,
        lambda: captured.append(encoder.capture(curr)),
        dumped,
        "model_dump of each",
        0.3,
        prepare=prepare,
    )


@EACH_HEAP
@pytest.mark.parametrize("verify", [True, False])
def test_apply(benchmark: BenchmarkFixture, hand_in: HandIn, heap: str, verify: bool) -> None:
    c = case(heap)
    assert exactly(snapdelta.apply(c.prev, c.delta, verify=verify), c.curr)
    targets = {
        (True, "parsed"): 0.4,
        (True, "rebuilt"): 0.4,
        (True, "fragmented"): 0.6,
        (False, "parsed"): 0.25,
        (False, "rebuilt"): 0.25,
        (False, "fragmented"): 0.4,
    }
    measure(
        benchmark,
        hand_in,
        f"apply{'' if verify else ', verify=False'}, {heap} heap",
        c,
        lambda: snapdelta.apply(c.prev, c.delta, verify=verify),
        lambda: orjson.loads(c.json),
        "orjson.loads",
        targets[verify, heap],
    )


def test_decoder_apply(benchmark: BenchmarkFixture, hand_in: HandIn) -> None:
    c = case("rebuilt")
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    first = encoder.encode(c.prev)
    delta = encoder.encode(c.curr)
    decoder.apply(first)
    decoder.apply(delta)
    assert exactly(decoder.snapshot(), c.curr)
    measure(
        benchmark,
        hand_in,
        "Decoder.apply",
        c,
        lambda: decoder.apply(delta),
        lambda: orjson.loads(c.json),
        "orjson.loads",
        0.05,
        prepare=lambda: decoder.apply(first),
    )


@pytest.mark.parametrize(("shared", "target"), [(False, 0.7), (True, 0.25)])
def test_snapshot(benchmark: BenchmarkFixture, hand_in: HandIn, shared: bool, target: float) -> None:
    """The whole snapshot as dicts, of a decoder that has just applied a delta."""
    c = case("rebuilt")
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    first = encoder.encode(c.prev)
    delta = encoder.encode(c.curr)

    def prepare() -> None:
        decoder.apply(first)
        decoder.snapshot(shared=shared)
        decoder.apply(delta)

    prepare()
    assert exactly(decoder.snapshot(shared=shared), c.curr)
    measure(
        benchmark,
        hand_in,
        f"Decoder.snapshot({'shared=True' if shared else ''})",
        c,
        lambda: decoder.snapshot(shared=shared),
        lambda: orjson.loads(c.json),
        "orjson.loads",
        target,
        prepare=prepare,
    )
