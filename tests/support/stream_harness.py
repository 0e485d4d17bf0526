"""What the tests of the streams share: backlogs, readers, and managers with short intervals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from snapdelta.redis_stream_manager import RedisStreamManager, StreamPolicy, TrimReport
from support.servers import AsyncClient

# One round trip and no waiting in between, so that large backlogs cost little.
_FILL = """
for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'field', ARGV[2]) end
return redis.call('XLEN', KEYS[1])
"""
_BATCH = 20_000


async def fill(redis: AsyncClient, stream: str, entries: int, size: int = 20) -> None:
    """Append entries with a value of `size` bytes, as a producer without a manager would."""
    for start in range(0, entries, _BATCH):
        await redis.execute_command("EVAL", _FILL, 1, stream, min(_BATCH, entries - start), "x" * size)


async def read(
    redis: AsyncClient, stream: str, group: str, count: int, *, acknowledge: bool = True
) -> list[Any]:
    """Read `count` entries as a consumer of the group; returns their ids."""
    answer = await redis.execute_command(
        "XREADGROUP", "GROUP", group, "consumer", "COUNT", count, "STREAMS", stream, ">"
    )
    rows = next(iter(answer.values()))[0] if isinstance(answer, dict) else answer[0][1]
    ids = [row[0] for row in rows]
    if acknowledge:
        await redis.execute_command("XACK", stream, group, *ids)
    return ids


async def ids_of(redis: AsyncClient, stream: str, count: int | None = None) -> list[Any]:
    """The ids of the oldest `count` entries, or of all."""
    return [row[0] for row in await redis.xrange(stream, count=count) or []]


async def until(condition: Callable[[], Awaitable[bool] | bool], limit: float = 120.0) -> None:
    """Wait until the condition holds; the limit only ends a test that has failed anyhow."""
    async with asyncio.timeout(limit):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.01)


class Watched:
    """Something in a task of its own, from `async with` to its end or `stop`."""

    _task: asyncio.Task[None] | None = None

    def _run(self) -> Coroutine[Any, Any, None]:
        """What the task does."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=type(self).__name__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End the task; an error that has ended it before is raised."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class Looks:
    """An on_trim callback that keeps the reports and lets a test wait for the next ones."""

    def __init__(self) -> None:
        self.reports: list[TrimReport] = []

    def __call__(self, report: TrimReport) -> None:
        self.reports.append(report)

    def of(self, stream: str) -> list[TrimReport]:
        return [report for report in self.reports if report.stream == stream]

    async def more(self, stream: str, count: int = 1) -> None:
        """Wait for `count` whole looks at the stream that begin after this call."""
        # The look under way may have begun before it.
        target = len(self.of(stream)) + count + 1
        await until(lambda: len(self.of(stream)) >= target)


def quick(**policy: Any) -> StreamPolicy:
    """A policy with a short interval."""
    return StreamPolicy(**{"trim_interval": 0.1, **policy})


def manager(
    redis: AsyncClient, policies: dict[str, StreamPolicy] | None = None, **options: Any
) -> RedisStreamManager:
    """A manager that looks for streams often."""
    return RedisStreamManager(redis, policies, **{"discover_interval": 0.2, **options})
