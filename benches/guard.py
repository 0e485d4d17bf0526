"""The guard: instruction counts and frame sizes of fixed workloads against the figures kept in guard.json.

python -m benches.guard check      exit 1 if a figure is a twentieth worse than the one kept
python -m benches.guard keep       measure, and keep the figures

Each operation runs in a process of its own under callgrind, whose counts ignore other load. A figure
is the count of one call, as a ratio to one orjson.dumps or orjson.loads of the same snapshot, so that another
build of Python moves both alike. Sizes are sums of bytes over seeded feeds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import get_args

import snapdelta
from benches.guard_workload import CALLS, FRAMES
from benches.tolerance import TOLERANCE
from snapdelta.testing.feed import Feed, Kind

FIGURES = Path(__file__).with_name("guard.json")
SYMBOLS = 1_500
# A figure fails from this much of the kept one on.
WORSE = 1.05
# The operation that each operation's count is divided by.
PEERS = {
    "encode": "orjson.dumps",
    "encode with a tolerance": "orjson.dumps",
    "diff": "orjson.dumps",
    "dumps": "orjson.dumps",
    "apply": "orjson.loads",
    "Decoder.apply": "orjson.loads",
}


def instructions(operation: str, frames: Path, directory: Path) -> float:
    """Instructions of one call: a run with CALLS calls more than another, divided by CALLS."""
    few, many = (_count(operation, calls, frames, directory) for calls in (1, 1 + CALLS))
    return (many - few) / CALLS


def _count(operation: str, calls: int, frames: Path, directory: Path) -> int:
    for line in profile(operation, calls, frames, directory).read_text().splitlines():
        if line.startswith(("summary:", "totals:")):
            return int(line.split()[1])
    raise SystemExit(f"guard: callgrind wrote no total for {operation}")


def profile(operation: str, calls: int, frames: Path, directory: Path) -> Path:
    """The file that callgrind writes of so many calls of an operation."""
    path = directory / f"{operation}-{calls}.callgrind"
    command = [
        "valgrind", "--tool=callgrind", f"--callgrind-out-file={path}", "--quiet",
        sys.executable, "-m", "benches.guard_workload", operation, str(calls), str(frames),
    ]  # fmt: skip
    # A fixed seed of hashes keeps dicts and sets alike from run to run.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise SystemExit(f"guard: {operation} failed under callgrind:\n{run.stderr[-2000:]}")
    return path


def measure_instructions() -> dict[str, float]:
    """The ratio of each operation to its peer."""
    if shutil.which("valgrind") is None:
        raise SystemExit("guard: valgrind was not found on PATH; install it (apt-get install valgrind)")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        frames = directory / "frames.json"
        feed = islice(Feed("enriched", symbols=SYMBOLS), FRAMES)
        frames.write_text(json.dumps(list(feed)))
        operations = [*dict.fromkeys(PEERS.values()), *PEERS]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            measured = pool.map(lambda operation: instructions(operation, frames, directory), operations)
            counts = {}
            for operation, counts[operation] in zip(operations, measured, strict=True):
                print(f"{operation}: {counts[operation]:,.0f} instructions", flush=True)
    return {f"{name} / {peer}": counts[name] / counts[peer] for name, peer in PEERS.items()}


def measure_sizes() -> dict[str, float]:
    """Bytes of a full frame and of the deltas after it, of each simulated feed; deltas within a tolerance."""
    sizes: dict[str, float] = {}
    for kind in get_args(Kind):
        encoder = snapdelta.Encoder()
        frames = islice(Feed(kind, symbols=SYMBOLS), 2 * FRAMES)
        first, *rest = (len(encoder.encode(frame)) for frame in frames)
        sizes[f"{kind}: full frame, bytes"] = first
        sizes[f"{kind}: {len(rest)} deltas, bytes"] = sum(rest)
    encoder = snapdelta.Encoder(tolerance=TOLERANCE)
    _, *rest = (len(encoder.encode(frame)) for frame in islice(Feed("enriched", symbols=SYMBOLS), 2 * FRAMES))
    sizes[f"enriched: {len(rest)} deltas within a tolerance, bytes"] = sum(rest)
    return sizes


def worse(kept: dict[str, float], measured: dict[str, float]) -> list[str]:
    """One line for each figure that is worse than WORSE allows, or is missing on either side."""
    lines = [
        f"{name}: {measured[name]:.4g}, kept {figure:.4g} ({measured[name] / figure - 1:+.1%})"
        for name, figure in kept.items()
        if name in measured and measured[name] >= figure * WORSE
    ]
    lines += [f"{name}: not measured" for name in kept.keys() - measured.keys()]
    lines += [f"{name}: not kept; run `make bench-keep`" for name in measured.keys() - kept.keys()]
    return sorted(lines)


def main(arguments: list[str]) -> int:
    if arguments not in (["check"], ["keep"]):
        print(__doc__, file=sys.stderr)
        return 2
    measured = {**measure_sizes(), **measure_instructions()}
    if arguments == ["keep"]:
        FIGURES.write_text(json.dumps(measured, indent=1) + "\n")
        print(f"guard: kept {len(measured)} figures in {FIGURES.name}")
        return 0
    kept: dict[str, float] = json.loads(FIGURES.read_text())
    for name, figure in measured.items():
        print(f"{name}: {figure:.4g} (kept {kept.get(name, float('nan')):.4g})")
    found = worse(kept, measured)
    for line in found:
        print(f"guard: worse: {line}", file=sys.stderr)
    print("guard: FAILED" if found else f"guard: {len(measured)} figures hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
