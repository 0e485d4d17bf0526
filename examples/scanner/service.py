"""The inside of a service's process: its task, the word that it is ready, its report at the end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from threading import Thread
from typing import Any

Report = dict[str, Any]

# Seconds that a service may take to end by itself, once it is told to.
_GRACE = 5.0


@dataclass(frozen=True)
class Task:
    """What the runner tells a service.

    url           the Redis server
    symbols       of the market
    frames        snapshots until the market closes
    interval      seconds between two of them
    metrics_port  where the service answers Prometheus; 0: nowhere
    """

    url: str
    symbols: int
    frames: int
    interval: float
    metrics_port: int = 0


def ready() -> None:
    """Tell the runner that the market may open."""
    print("ready", flush=True)


def serve(main: Callable[[Task, asyncio.Event], Coroutine[Any, Any, Report]]) -> None:
    """Run a service until it ends. The event tells it to: the runner closed standard input, or is gone."""
    print(json.dumps(asyncio.run(_run(main))), flush=True)


async def _run(main: Callable[[Task, asyncio.Event], Coroutine[Any, Any, Report]]) -> Report:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_for_the_end() -> None:
        os.read(0, 1)
        loop.call_soon_threadsafe(stopping.set)

    Thread(target=wait_for_the_end, name="runner", daemon=True).start()
    running = asyncio.ensure_future(main(Task(**json.loads(sys.argv[1])), stopping))
    told = asyncio.create_task(stopping.wait())
    await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    return await asyncio.wait_for(running, _GRACE)
