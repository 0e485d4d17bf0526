"""`python -m benches.soak`: play a soak, save it, and show its table.

python -m benches.soak                        the cadence, an hour of the full market; then the day, fast
python -m benches.soak --minutes 5            the short form: 5 minutes of each
python -m benches.soak fast --symbols 600     one kind
python -m benches.soak show FILE ...          tables of saved runs

`--folder` is where cadence.json and fast.json go [.benchmarks/soak].
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benches.soak.plan import DAY_FRAMES, FULL_MARKET, INTERVAL, Kind, Plan, SoakError
from benches.soak.runner import play
from benches.soak.saved import Run
from benches.soak.table import report
from snapdelta.errors import SnapdeltaError

# A day of the full market takes hours, and without bounds more memory than most machines have.
FAST_SYMBOLS = 400


def _plan(kind: Kind, options: argparse.Namespace) -> Plan:
    if kind == "fast":
        symbols = options.symbols or FAST_SYMBOLS
        return Plan("fast", options.frames or DAY_FRAMES, symbols, options.fields, options.minutes)
    minutes = 60.0 if options.minutes is None else options.minutes
    frames = options.frames or max(2, round(minutes * 60 / INTERVAL))
    return Plan("cadence", frames, options.symbols or FULL_MARKET, options.fields)


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 1 when a read differed or a process failed, 2 when nothing could begin."""
    parser = argparse.ArgumentParser(
        prog="python -m benches.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["cadence", "fast", "show"], help="[both kinds]")
    parser.add_argument("files", nargs="*", type=Path, help="of show")
    parser.add_argument("--minutes", type=float, help="real time of each run [60; fast: all frames]")
    parser.add_argument("--frames", type=int, help=f"frames at most [fast: {DAY_FRAMES:,}]")
    parser.add_argument("--symbols", type=int, help=f"of the market [{FULL_MARKET:,}; fast: {FAST_SYMBOLS}]")
    parser.add_argument("--fields", type=int, help="records of so many numbers, instead of the feed's 49")
    parser.add_argument("--folder", type=Path, default=Path(".benchmarks/soak"))
    options = parser.parse_args(arguments)
    if options.what == "show":
        for file in options.files:
            print(report(Run.load(file)))
        return 0
    kinds: tuple[Kind, ...] = (options.what,) if options.what else ("cadence", "fast")
    try:
        for plan in [_plan(kind, options) for kind in kinds]:
            run = play(plan, lambda line: print(line, flush=True))
            path = options.folder / f"{plan.kind}.json"
            run.save(path)
            print(f"saved {path}\n\n{report(run)}\n")
    except SoakError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except SnapdeltaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
