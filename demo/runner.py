"""One run of the demo: the server, the processes, the kill in the middle, the reader that joins late."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass

from redis.asyncio import Redis

from demo.checker import LATE_READER, READER, WRITER, Checker
from demo.plan import NAME, PLAIN_KEY, Plan
from demo.processes import Actor, Processes
from demo.progress import RunProgress
from snapdelta.snapshots.keys import KEY_PREFIX, Keys
from snapdelta.testing.server import EmbeddedServer


@dataclass(frozen=True)
class Held:
    """What Redis holds at the end: bytes of the name's three keys, and of the plain one; states kept."""

    ours: int
    plain: int
    states: int


@dataclass(frozen=True)
class Outcome:
    """A run in which everything was as it must be."""

    checker: Checker
    held: Held


def play(plan: Plan, progress: RunProgress) -> Outcome:
    """Raises DemoError when something is not as it must be, and EmbeddedServerError."""
    with EmbeddedServer(unix_socket=True) as server:
        progress.event(f"{server.binary.name} is up")
        try:
            return asyncio.run(_Runner(plan, progress, server.url).play())
        except asyncio.CancelledError:
            # By SIGTERM; what Ctrl-C does.
            raise KeyboardInterrupt from None


class _Runner:
    def __init__(self, plan: Plan, progress: RunProgress, url: str) -> None:
        self._plan = plan
        self._progress = progress
        self._url = url
        self._checker = Checker(plan)
        self._processes = Processes()

    async def play(self) -> Outcome:
        plan, checker, progress = self._plan, self._checker, self._progress
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with self._processes:
            await self._start_reader(READER, [1, plan.resumed_at])
            await self._until(lambda: READER in checker.ready)
            writer = await self._start_writer(1, plan.killed_at, wait=True)
            await self._until(lambda: checker.saving == plan.killed_at)
            writer.kill()
            progress.event(f"writer killed (SIGKILL) while it saves frame {plan.killed_at}")
            await self._start_writer(plan.resumed_at, plan.frames, wait=False)
            await self._until(lambda: checker.saved >= plan.resumed_at)
            progress.event(f"new writer has taken over and saved frame {plan.resumed_at}")
            await self._until(lambda: checker.saved >= plan.joined_at)
            progress.event(f"late reader joins after frame {plan.joined_at}")
            await self._start_reader(LATE_READER, [plan.resumed_at])
            await self._until(lambda: all(checker.checked(one) == plan.frames for one in checker.checks))
            checker.conclude()
            await self._until(lambda: not self._processes.running)
        return Outcome(checker, await self._held())

    async def _start_reader(self, name: str, firsts: list[int]) -> Actor:
        plan = self._plan
        source = asdict(plan.compared_with or plan.source)
        return await self._processes.start(
            name, "reader", url=self._url, source=source, firsts=firsts, last=plan.frames
        )

    async def _start_writer(self, first: int, last: int, *, wait: bool) -> Actor:
        plan = self._plan
        return await self._processes.start(
            WRITER, "writer", url=self._url, source=asdict(plan.source), first=first, last=last,
            interval=plan.interval, wait=wait,
        )  # fmt: skip

    async def _until(self, reached: Callable[[], bool]) -> None:
        """Listen to the processes until something is so."""
        while not reached():
            heard = await self._processes.next_report()
            if heard is not None:
                self._checker.take(heard[0].name, heard[1])
                self._progress.show(self._checker)

    async def _held(self) -> Held:
        keys = Keys.of(KEY_PREFIX, NAME)
        async with Redis.from_url(self._url) as redis:
            ours = await _memory(redis, keys.full, keys.delta, keys.head)
            return Held(ours, await _memory(redis, PLAIN_KEY), await redis.xlen(keys.delta))


async def _memory(redis: Redis, *keys: str) -> int:
    return sum([await redis.memory_usage(key, samples=0) or 0 for key in keys])
