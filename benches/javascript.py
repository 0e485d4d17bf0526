"""What the JavaScript reader costs beside the native one: processor time a delta of the enriched feed.

    python benches/javascript.py [SYMBOLS] [FRAMES]

Needs `make client`. Both apply the same frames, each in a process of its own; medians.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from snapdelta import Decoder, Encoder
from snapdelta.testing.feed import Feed

_SCRIPT = Path(__file__).parents[1] / "clients" / "js" / "test" / "measure.mjs"


def main(symbols: int, count: int) -> None:
    encoder, feed = Encoder(verify=True), Feed("enriched", symbols=symbols)
    frames = [encoder.encode(snapshot) for snapshot in islice(feed, count + 1)]
    decoder = Decoder()
    native = []
    for frame in frames:
        before = time.process_time()
        decoder.apply(frame)
        native.append(1000 * (time.process_time() - before))
    with tempfile.TemporaryDirectory() as folder:
        for number, frame in enumerate(frames):
            (Path(folder) / f"{number:04}.frame").write_bytes(frame)
        output = subprocess.run(["node", _SCRIPT, folder], check=True, capture_output=True, text=True).stdout
    said = json.loads(output)
    assert said["digest"] == str(decoder.digest)
    print(f"{symbols:,} symbols, {count} deltas of {statistics.median(map(len, frames[1:])):,.0f} bytes")
    for what, one, other in (
        ("full frame", native[0], said["apply"][0]),
        ("delta", statistics.median(native[1:]), statistics.median(said["apply"][1:])),
    ):
        print(f"apply a {what}: native {one:.2f} ms, WebAssembly {other:.2f} ms: {other / one:.2f} times")
    for what, times in said["reads"].items():
        print(f"{what}: {statistics.median(times):.2f} ms")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*given, *(11_905, 40)[len(given) :])
