"""What bounds encode, diff, apply and save: the parts of their time, and where their instructions run.

python -m benches.bounds FILE      measure, and save (needs valgrind; some minutes)

Times are medians of steady frames of the enriched feed on the fragmented heap. Instructions are those of
benches/guard.py's workload, by the library that they belong to; waiting for memory has no part in them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from redis.asyncio import Redis

import snapdelta
from benches.guard import profile
from benches.guard_workload import CALLS, FRAMES
from benches.heap import fragmented
from benches.results import environment
from snapdelta import Decoder, EmbeddedServer, Encoder, SnapshotManager
from snapdelta.testing.feed import Feed

_STEADY = 3
_OPERATIONS = ("encode", "diff", "apply", "Decoder.apply")
_PROFILED_SYMBOLS = 500
_LIBRARIES = {"_native": "the Rust core", "python": "CPython", "libc": "the C library (copies, allocation)"}


def times(symbols: int) -> dict[str, float]:
    """Milliseconds of processor time of each part, by `operation: part`."""
    frames = [fragmented(frame) for frame in islice(Feed("enriched", symbols=symbols), 2 + _STEADY)]
    encoder, decoder = Encoder(), Decoder()
    taken: dict[str, list[float]] = {}

    def timed(part: str, call: Any, *arguments: Any, **options: Any) -> Any:
        start = process_time()
        result = call(*arguments, **options)
        taken.setdefault(part, []).append((process_time() - start) * 1e3)
        return result

    gc.collect()
    gc.disable()
    try:
        for number, (prev, curr) in enumerate(pairwise(frames)):
            if number == 0:
                decoder.apply(encoder.encode(prev))
            captured = timed("encode: capture, which reads the dicts", encoder.capture, curr)
            frame = timed("encode: finish, which codes what changed", captured.finish)
            timed("read: Decoder.apply", decoder.apply, frame)
            timed("read: the dicts of a snapshot, shared", decoder.snapshot, shared=True)
            timed("apply", snapdelta.apply, prev, timed("diff", snapdelta.diff, prev, curr))
    finally:
        gc.enable()
    saved = asyncio.run(_saves(frames))
    # The first frame is a full one, and the second learns.
    return {part: round(median(values[1:]), 3) for part, values in {**taken, **saved}.items()}


async def _saves(frames: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Wall-clock milliseconds of the parts of saves that wrote a delta."""
    taken: dict[str, list[float]] = {}
    with EmbeddedServer() as server:
        async with Redis.from_url(server.url) as redis, SnapshotManager(redis) as manager:
            for frame in frames:
                result = await manager.save_snapshot(frame)
                if result["reason"] is not None:
                    continue
                taken.setdefault("save: capture", []).append(result["capture_ms"])
                taken.setdefault("save: encode and verify", []).append(result["encode_ms"])
                taken.setdefault("save: write to Redis", []).append(result["write_ms"])
    return taken


def instructions() -> dict[str, dict[str, float]]:
    """The share of each library in the instructions of a call, by operation."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        frames = directory / "frames.json"
        frames.write_text(json.dumps(list(islice(Feed("enriched", symbols=_PROFILED_SYMBOLS), FRAMES))))
        for operation in _OPERATIONS:
            few, many = (
                _by_library(profile(operation, calls, frames, directory)) for calls in (1, 1 + CALLS)
            )
            many.subtract(few)
            total = sum(many.values())
            found[operation] = {name: round(count / total, 4) for name, count in many.most_common()}
            print(f"{operation}: {found[operation]}", flush=True)
    return found


def _by_library(path: Path) -> Counter[str]:
    """The instructions of each library in a profile of callgrind."""
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    library = ""
    with path.open() as lines:
        for line in lines:
            if line.startswith(("ob=", "cob=")):
                number, _, name = line.partition("=")[2].strip().partition(" ")
                if name:
                    names[number] = _library(name)
                if line.startswith("ob="):
                    library = names[number]
            elif line.startswith("calls="):
                # The next line has what the called function cost.
                next(lines)
            elif line[0].isdigit() or line[0] in "+-*":
                counts[library] += int(line.split()[1])
    return counts


def _library(path: str) -> str:
    name = Path(path).name
    return next((meaning for part, meaning in _LIBRARIES.items() if part in name), "other")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    content = {"environment": environment(), "times": times(11_905), "instructions": instructions()}
    Path(arguments[0]).write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
