"""Every row with field names of its own: size and time grow with the leaves, not with rows times names."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import Any

import reference_decoder as reference
import snapdelta
from exact import assert_same
from trips import Stream

Snapshot = dict[str, Any]
FEW, MANY = 1000, 10_000
SLACK = 2.5  # over the ratio of the leaves: caches, and a machine with other work


def private(rows: int, turn: int = 0) -> Snapshot:
    """Five leaves a row, two of them a level down; the names are no other row's."""
    return {
        f"S{n}": {
            f"a{n}": n + turn,
            f"b{n}": (n + turn) / 8,
            f"in{n}": {f"c{n}": f"text {n} {turn}", f"d{n}": None},
            f"e{n}": [n, turn],
        }
        for n in range(rows)
    }


def fastest(work: Callable[[], Any], repeats: int = 3) -> float:
    """CPU seconds of the best of some runs."""
    times = []
    for _ in range(repeats):
        before = process_time()
        work()
        times.append(process_time() - before)
    return min(times)


def costs(rows: int) -> dict[str, float]:
    """Bytes of frames, and seconds of everything that is done with them."""
    first, second = private(rows), private(rows, turn=1)
    full, delta = snapdelta.dumps(first), snapdelta.diff(first, second)

    def follow() -> None:
        encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
        for snapshot in (first, second):
            decoder.apply(encoder.encode(snapshot))
        decoder.snapshot()

    return {
        "full": len(full),
        "delta": len(delta),
        "dumps": fastest(lambda: snapdelta.dumps(first)),
        "loads": fastest(lambda: snapdelta.loads(full)),
        "diff": fastest(lambda: snapdelta.diff(first, second)),
        "apply": fastest(lambda: snapdelta.apply(first, delta)),
        "inspect": fastest(lambda: snapdelta.inspect(delta)),
        "Encoder and Decoder": fastest(follow),
    }


def test_private_names_cost_what_their_leaves_cost() -> None:
    few, many = costs(FEW), costs(MANY)
    ratios = {name: many[name] / few[name] / (MANY / FEW) for name in few}
    assert max(ratios.values()) < SLACK, ratios
    assert ratios["full"] < 1.3, ratios
    assert ratios["delta"] < 1.3, ratios


def test_private_names_through_both_decoders() -> None:
    stream = Stream()
    stream.step(private(FEW))
    stream.step(private(FEW, turn=1))
    shuffled = dict(reversed(private(FEW, turn=2).items()))
    del shuffled["S5"]
    stream.step({**shuffled, "new": {"never seen": 1}})
    stream.check_full()


def test_many_private_names_at_full_size() -> None:
    first, second = private(MANY), private(MANY, turn=1)
    frame = snapdelta.diff(first, second)
    assert_same(snapdelta.apply(first, frame), second)
    assert_same(reference.decode(frame, first), second)
    assert_same(snapdelta.loads(snapdelta.dumps(second)), second)
