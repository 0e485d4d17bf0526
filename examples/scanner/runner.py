"""Runs the three services as processes on a server of their own, and measures what came of it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from redis.asyncio import Redis

from examples.scanner.service import Report, Task
from snapdelta import EmbeddedServer

# In the order of their start: readers first, so that no snapshot is missed.
SERVICES = ("analytics", "scanner", "data_ingest")
# Where the services of "after" answer Prometheus (prometheus.yml).
METRICS_PORTS = {"analytics": 9464, "scanner": 9465, "data_ingest": 9466}
# Seconds without a word from a service, besides the time that the market is open.
_SILENCE = 60.0


class ServiceError(Exception):
    """A service failed, or is silent."""


@dataclass(frozen=True)
class Outcome:
    """What one way came to: the services' reports, and what the server says at the end.

    received_bytes  of all commands that the services sent
    memory_bytes    of the keys
    entries         of each stream that the services wrote by XADD
    """

    reports: dict[str, Report]
    received_bytes: int
    memory_bytes: int
    entries: dict[str, int]


async def play(way: str, task: Task, metrics_ports: Mapping[str, int] | None = None) -> Outcome:
    """Run the services of `before` or `after`; those of `after` serve metrics where ports are given.

    Raises ServiceError and EmbeddedServerError.
    """
    with EmbeddedServer() as server:
        task = replace(task, url=server.url)
        async with Redis.from_url(server.url, decode_responses=True) as redis:
            at_start = await _info(redis)
            reports = await _run_services(way, task, metrics_ports or {}, redis)
            at_end = await _info(redis)
            entries = {
                key: await redis.xlen(key)
                async for key in redis.scan_iter(_type="stream")
                if not key.startswith("snapdelta:")
            }
    return Outcome(
        reports=reports,
        received_bytes=at_end["total_net_input_bytes"] - at_start["total_net_input_bytes"],
        memory_bytes=at_end["used_memory_dataset"] - at_start["used_memory_dataset"],
        entries=dict(sorted(entries.items())),
    )


async def _info(redis: Redis) -> dict[str, int]:
    return {**await redis.info("stats"), **await redis.info("memory")}


async def _run_services(
    way: str, task: Task, metrics_ports: Mapping[str, int], redis: Redis
) -> dict[str, Report]:
    async with _Processes() as processes:
        for name in SERVICES:
            if name == "data_ingest" and way == "after":
                await _followers(redis, len(SERVICES) - 1)
            await processes.start(way, name, replace(task, metrics_port=metrics_ports.get(name, 0)))
        closing = task.frames * task.interval
        reports = {"data_ingest": await processes.report("data_ingest", closing)}
        if way == "before":
            # These poll, and cannot know which snapshot was the last.
            await asyncio.sleep(3 * task.interval)
        for name in SERVICES[:-1]:
            reports[name] = await processes.report(name, closing, stop=way == "before")
    return reports


async def _followers(redis: Redis, count: int) -> None:
    """Wait until so many readers follow: from then on they miss nothing."""
    try:
        async with asyncio.timeout(_SILENCE):
            while True:
                clients = await redis.client_list()
                if sum(client["cmd"] == "xread" for client in clients) >= count:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise ServiceError(f"fewer than {count} services follow") from None


class _Processes:
    """The services' processes; leaving the context ends them."""

    def __init__(self) -> None:
        self._started: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, way: str, name: str, task: Task) -> None:
        """Start a service and wait until it is ready."""
        process = self._started[name] = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"examples.scanner.{way}.{name}", json.dumps(asdict(task))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Ctrl-C is for the runner alone.
            start_new_session=True,
        )
        await self._line(name, process, task.frames * task.interval)

    async def report(self, name: str, open_for: float, *, stop: bool = False) -> Report:
        """What a service reports when it ends; `stop` tells it to."""
        process = self._started[name]
        if stop:
            assert process.stdin is not None
            process.stdin.close()
        found: Report = json.loads(await self._line(name, process, open_for))
        return found

    async def _line(self, name: str, process: asyncio.subprocess.Process, open_for: float) -> bytes:
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), _SILENCE + open_for)
        except TimeoutError:
            raise ServiceError(f"{name} said nothing for {_SILENCE + open_for:g} s") from None
        if not line:
            raise ServiceError(f"{name} failed; its error is above")
        return line

    async def __aenter__(self) -> _Processes:
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._started.values():
            if process.returncode is None:
                process.kill()
            await process.wait()
