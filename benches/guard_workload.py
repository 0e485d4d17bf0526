"""What the guard counts: `python -m benches.guard_workload OPERATION CALLS FRAMES.json` calls one operation.

The snapshots lie in memory as a JSON parser leaves them. The calls are steady ones: from the third frame on.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

import snapdelta
from benches.tolerance import TOLERANCE, Tolerance

Snapshot = dict[str, Any]
Work = Callable[[int], object]

# Calls that a count is averaged over, and the frames for one more call and the two before it.
CALLS = 4
FRAMES = CALLS + 3


def works(frames: list[Snapshot]) -> Iterator[tuple[str, Callable[[], Work]]]:
    """Each operation by name, with what prepares it; call `number` works on the frame `number + 2`."""

    def dumps_json() -> Work:
        return lambda number: orjson.dumps(frames[number + 2])

    def loads_json() -> Work:
        texts = [orjson.dumps(frame) for frame in frames]
        return lambda number: orjson.loads(texts[number + 2])

    def encode(tolerance: Tolerance | None = None) -> Work:
        encoder = snapdelta.Encoder(tolerance=tolerance)
        for frame in frames[:2]:
            encoder.encode(frame)
        return lambda number: encoder.encode(frames[number + 2])

    def diff() -> Work:
        return lambda number: snapdelta.diff(frames[number + 1], frames[number + 2])

    def dumps() -> Work:
        return lambda number: snapdelta.dumps(frames[number + 2])

    def apply() -> Work:
        deltas = [snapdelta.diff(prev, curr) for prev, curr in pairwise(frames)]
        return lambda number: snapdelta.apply(frames[number + 1], deltas[number + 1])

    def decoder_apply() -> Work:
        encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
        encoded = [encoder.encode(frame) for frame in frames]
        for frame in encoded[:2]:
            decoder.apply(frame)
        return lambda number: decoder.apply(encoded[number + 2])

    yield "orjson.dumps", dumps_json
    yield "orjson.loads", loads_json
    yield "encode", encode
    yield "encode with a tolerance", lambda: encode(TOLERANCE)
    yield "diff", diff
    yield "dumps", dumps
    yield "apply", apply
    yield "Decoder.apply", decoder_apply


def main(operation: str, calls: int, path: Path) -> None:
    frames: list[Snapshot] = orjson.loads(path.read_bytes())
    work = dict(works(frames))[operation]()
    gc.collect()
    gc.disable()
    for number in range(calls):
        work(number)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
