"""Runs work once for several waiting clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

Result = TypeVar("Result")


class SharedJobs(Generic[Result]):
    """Runs one job at a time. A job continues even if nobody waits for it any more."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._turn = asyncio.Lock()
        self._jobs: dict[Hashable, asyncio.Task[Result]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._jobs

    async def run(self, key: Hashable, work: Callable[[], Awaitable[Result]]) -> Result:
        """The result of the planned or running job of this key, or of a new one."""
        job = self._jobs.get(key)
        if job is None or job.done():
            job = self._jobs[key] = asyncio.create_task(self._alone(work), name=self._name)
            job.add_done_callback(partial(self._done, key))
        return await asyncio.shield(job)

    async def aclose(self) -> None:
        jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        if jobs:
            await asyncio.wait(jobs)

    async def _alone(self, work: Callable[[], Awaitable[Result]]) -> Result:
        async with self._turn:
            return await work()

    def _done(self, key: Hashable, job: asyncio.Task[Result]) -> None:
        if self._jobs.get(key) is job:
            del self._jobs[key]
        if not job.cancelled():
            # Perhaps nobody is left to look at it.
            job.exception()
