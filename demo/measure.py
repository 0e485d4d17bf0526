"""Processor time of this process, and the longest stall of its event loop, while something runs."""

from __future__ import annotations

import asyncio
from time import perf_counter, process_time
from types import TracebackType
from typing import Self

_TICK = 0.001


class Measured:
    """async with Measured() as cost: ...; afterwards `cpu_ms`, of all threads, and `stall_ms`.

    A stall is the time by which a task that wakes up every millisecond was late.
    """

    cpu_ms = 0.0
    stall_ms = 0.0

    async def __aenter__(self) -> Self:
        self._ticks = asyncio.create_task(self._tick(), name="demo-ticks")
        # The first tick begins before what is measured does.
        await asyncio.sleep(0)
        self._cpu = process_time()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu_ms = (process_time() - self._cpu) * 1e3
        # What ran until just now has held the loop: let the ticks see it.
        await asyncio.sleep(_TICK)
        self._ticks.cancel()
        await asyncio.wait([self._ticks])

    async def _tick(self) -> None:
        while True:
            due = perf_counter() + _TICK
            await asyncio.sleep(_TICK)
            self.stall_ms = max(self.stall_ms, (perf_counter() - due) * 1e3)
