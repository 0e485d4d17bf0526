"""Time and memory a cell of small, wide and long snapshots, and what a capture holds the event loop for.

python -m benches.wide [ROWSxFIELDS ...]      one table; some minutes, and 6 GB at the largest

Numbers only, as a JSON parser leaves them; 6 in 100 of them change from frame to frame. Medians of the steady
frames, from the third one on, in processor time; caches are cleared between. Memory is what the encoder's
process gains by holding the state of the newest frame.
"""

from __future__ import annotations

import gc
import multiprocessing
import sys
from collections.abc import Iterator
from random import Random
from statistics import median
from time import process_time
from typing import Any

import orjson

import snapdelta
from benches.heap import parsed

Snapshot = dict[str, dict[str, Any]]

SHAPES = ("1000x50", "12600x400", "200000x50")
CHANGED = 0.06
# Frames in which the encoder learns, and steady ones.
FIRST, STEADY = 8, 4


def feed(rows: int, fields: int, share: float = CHANGED) -> Iterator[Snapshot]:
    """One dict of which a share of the cells changes in place: prices in cents and whole numbers."""
    rng = Random(rows * fields)
    snapshot: Snapshot = {
        f"S{row}": {
            f"field_{n}": round(rng.uniform(1, 500), 2) if n % 3 else rng.randrange(10**6)
            for n in range(fields)
        }
        for row in range(rows)
    }
    while True:
        yield snapshot
        for record in snapshot.values():
            for name in rng.sample(sorted(record), int(share * fields + rng.random())):
                value = record[name]
                if type(value) is float:
                    record[name] = round(value + rng.randrange(1, 51) / 100, 2)
                else:
                    record[name] = value + rng.randrange(1, 1_000)


def resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def measure(shape: str) -> tuple[float, float, float, float]:
    """Of a cell: nanoseconds of capture and of the whole encode, bytes; and capture to orjson.dumps."""
    rows, fields = map(int, shape.split("x"))
    encoder = snapdelta.Encoder()
    captures, encodes, dumps = [], [], []
    held = 0
    for number, snapshot in enumerate(feed(rows, fields)):
        if number == FIRST + STEADY:
            break
        frame = parsed(snapshot)
        gc.collect()
        gc.disable()
        start = process_time()
        orjson.dumps(frame)
        dumped = process_time()
        orjson.dumps(snapshot)
        before, begun = resident(), process_time()
        captured = encoder.capture(frame)
        done = process_time()
        captured.finish()
        end = process_time()
        gc.enable()
        if number == 0:
            held = resident() - before
        if number >= FIRST:
            dumps.append(dumped - start)
            captures.append(done - begun)
            encodes.append(end - begun)
        del frame, captured
    cells = rows * fields
    capture = median(captures)
    return capture / cells * 1e9, median(encodes) / cells * 1e9, held / cells, capture / median(dumps)


def main(*shapes: str) -> None:
    print(f"{'snapshot':>12} {'capture':>12} {'encode':>12} {'memory':>12}   capture / orjson.dumps")
    spawn = multiprocessing.get_context("spawn")
    for shape in shapes or SHAPES:
        with spawn.Pool(1) as pool:
            capture, encode, memory, ratio = pool.apply(measure, (shape,))
        cells = f"{capture:>9.1f} ns {encode:>9.1f} ns {memory:>8.1f} bytes"
        print(f"{shape:>12} {cells}   {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
