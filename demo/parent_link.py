"""The inside of a process of the demo: its task on the command line, reports to its owner, an end with it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from threading import Thread
from typing import Any

from demo.reports import Report, to_line


def report(what: Report) -> None:
    """Tell the owner, who reads our standard output."""
    print(to_line(what), flush=True)


def serve(play: Callable[[dict[str, Any]], Coroutine[Any, Any, None]]) -> None:
    """Run one process: `play` gets the task that the owner has given."""
    Thread(target=_end_with_owner, name="owner", daemon=True).start()
    asyncio.run(play(json.loads(sys.argv[1])))


def _end_with_owner() -> None:
    """The owner holds the other end of standard input and never writes: a read returns when it is gone."""
    # Not sys.stdin, whose lock would keep the interpreter from ending while we wait.
    os.read(0, 1)
    os._exit(1)
