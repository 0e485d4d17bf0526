"""Timing of asynchronous work: samples in turn, and the longest stall of an event loop."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

Work = Callable[[], Awaitable[Any]]


@contextmanager
def quiet_collector() -> Iterator[None]:
    """No garbage collection within a time: whoever allocates the object that starts it would be charged."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def seconds_of(work: Work) -> float:
    start = time.perf_counter()
    await work()
    return time.perf_counter() - start


async def interleaved(samples: int, *works: Work) -> tuple[list[float], ...]:
    """Samples of each piece of work in turn, so that whatever else the machine does hits all alike."""
    for work in works:
        for _ in range(20):
            await work()
    taken: tuple[list[float], ...] = tuple([] for _ in works)
    with quiet_collector():
        for number in range(samples):
            for offset in range(len(works)):
                index = (number + offset) % len(works)
                taken[index].append(await seconds_of(works[index]))
    return taken


class Ticker:
    """A task that looks at the clock whenever the event loop comes round to it.

    `longest` is the longest time, in seconds, in which it did not; the caller sets it back to 0. As a context
    manager it begins and ends the task.
    """

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Ticker:
        self._task = asyncio.create_task(self._tick(), name="ticker")
        await self._turn()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def of(self, work: Work) -> float:
        """The longest stall while the work runs."""
        await self._turn()
        self.longest = 0.0
        await work()
        await self._turn()
        return self.longest

    async def _turn(self) -> None:
        """Until the ticker has run since this call: the gap before is over, and counted."""
        for _ in range(2):
            await asyncio.sleep(0)

    async def _tick(self) -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            self.longest = max(self.longest, now - before)
            before = now
