"""Sizes: sums over all frames of a corpus but the first, beside what peers need; and native memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import orjson
import pytest

import snapdelta
from benches import corpora, peers
from benches.results import Result
from benches.sizes import deltas, prefix_sizes
from snapdelta.testing.feed import Feed

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    HandIn = Callable[[Result], None]


@dataclass
class PeerSizes:
    """Bytes of each frame but the first."""

    json: list[int] = field(default_factory=list)
    whole_records: list[int] = field(default_factory=list)
    field_diff: list[int] = field(default_factory=list)
    zstd19_prefix: list[int] = field(default_factory=list)


@cache
def peer_sizes(corpus: str) -> PeerSizes:
    sizes = PeerSizes(zstd19_prefix=prefix_sizes(corpus))
    frames = corpora.frames(corpus)
    prev = next(frames)
    for curr in frames:
        changed = peers.field_diff(prev, curr)
        assert orjson.dumps(peers.apply_field_diff(prev, changed)) == orjson.dumps(curr)
        sizes.json.append(len(orjson.dumps(curr)))
        sizes.whole_records.append(len(peers.whole_records(prev, curr)))
        sizes.field_diff.append(len(changed))
        prev = curr
    return sizes


@pytest.mark.parametrize("corpus", corpora.names())
def test_deltas(benchmark: BenchmarkFixture, hand_in: HandIn, corpus: str) -> None:
    ours = [len(delta) for delta in benchmark.pedantic(deltas, (corpus,), rounds=1)]
    sizes = peer_sizes(corpus)
    targets = {
        "json": None,
        "whole_records": None,
        "field_diff": 0.5 if corpus == "enriched" else None,
        "zstd19_prefix": 1.0 if corpus in corpora.recordings() else None,
    }
    names = {
        "json": "JSON",
        "whole_records": "changed records, msgpack + zlib-6",
        "field_diff": "changed fields, msgpack + zstd-3",
        "zstd19_prefix": "zstd-19 --patch-from",
    }
    for peer, name in names.items():
        theirs = getattr(sizes, peer)
        assert len(theirs) == len(ours)
        total, peer_total = sum(ours), sum(theirs)
        hand_in(
            Result(
                "mean size of a delta",
                corpus,
                total / len(ours),
                peer_total / len(ours),
                "B",
                total / peer_total,
                targets[peer],
                name,
            )
        )


@pytest.mark.parametrize("corpus", corpora.names())
def test_full(benchmark: BenchmarkFixture, hand_in: HandIn, corpus: str) -> None:
    snapshot = next(corpora.frames(corpus))
    frame = benchmark.pedantic(snapdelta.dumps, (snapshot,), rounds=1)
    assert orjson.dumps(snapdelta.loads(frame)) == orjson.dumps(snapshot)
    theirs = len(peers.msgpack_zstd3(snapshot))
    target = 0.55 if corpus == "enriched" else None
    hand_in(
        Result(
            "size of a full frame",
            corpus,
            len(frame),
            theirs,
            "B",
            len(frame) / theirs,
            target,
            "msgspec + zstd-3",
        )
    )


def test_order_of_a_ranking(benchmark: BenchmarkFixture, hand_in: HandIn) -> None:
    """What re-sorting by score costs: the delta to the sorted frame less that to the same rows unsorted."""
    prev, still, curr = corpora.reranked()
    delta = benchmark.pedantic(snapdelta.diff, (prev, curr), rounds=1)
    assert list(snapdelta.apply(prev, delta)) == list(curr) != list(still)
    cost = len(delta) - len(snapdelta.diff(prev, still))
    hand_in(
        Result("order of a re-sorted ranking", "11,905 symbols", cost, 6_000, "B", cost / 6_000, 1.0, "6 kB")
    )


_STATE = """
import sys
from itertools import islice
import snapdelta
from snapdelta.testing.feed import Feed

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

frames = list(islice(Feed("enriched"), 3))
encoders = []
def start():
    encoder = snapdelta.Encoder()
    for frame in frames:
        encoder.encode(frame)
    encoders.append(encoder)

start()
before = resident()
for _ in range(4):
    start()
print(encoders[-1].memory, (resident() - before) / 4)
"""


def test_native_state(benchmark: BenchmarkFixture, hand_in: HandIn) -> None:
    """What an Encoder says it holds, and the resident memory that each further one adds, buffers included."""

    def measured() -> tuple[float, float]:
        ran = subprocess.run([sys.executable, "-c", _STATE], capture_output=True, text=True, check=True)
        held, resident = ran.stdout.split()
        return float(held), float(resident)

    cells = 49 * len(next(iter(Feed("enriched"))))
    held, resident = (size / cells for size in benchmark.pedantic(measured, rounds=1))
    for name, per_cell, target in (("Encoder.memory", held, 1.0), ("resident, with buffers", resident, None)):
        hand_in(Result("native state, bytes a cell", name, per_cell, 16, "B", per_cell / 16, target, "16 B"))
