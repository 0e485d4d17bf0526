"""What runs inside the writer and the reader processes: they do what the runner asks, and report the cost."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from typing import NamedTuple

import orjson
from redis.asyncio import Redis

from benches.soak.plan import Plan
from benches.soak.ways import WAYS
from demo.measure import Measured


class Report(NamedTuple):
    """One save or read: processor time of all threads, the longest stall of the event loop, bytes or rows."""

    cpu_ms: float
    stall_ms: float
    size: int


def write(way: str, plan: Plan, url: str, pipe: Connection) -> None:
    """Save each frame that comes as JSON; an empty one ends it."""
    asyncio.run(_write(way, plan, url, pipe))


async def _write(way: str, plan: Plan, url: str, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    async with Redis.from_url(url) as redis, WAYS[way](redis, plan.kind) as writer:
        await redis.ping()
        pipe.send(None)
        while text := await loop.run_in_executor(None, pipe.recv_bytes):
            market = orjson.loads(text)
            lists = plan.lists(market)
            async with Measured() as cost:
                size = await writer.save(market, lists)
            pipe.send(Report(cost.cpu_ms, cost.stall_ms, size))


def read(way: str, plan: Plan, url: str, pipe: Connection) -> None:
    """Read on to each frame whose number comes; 0 ends it."""
    asyncio.run(_read(way, plan, url, pipe))


async def _read(way: str, plan: Plan, url: str, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    async with Redis.from_url(url) as redis:
        states = WAYS[way](redis, plan.kind).follow()
        await redis.ping()
        pipe.send(None)
        while target := await loop.run_in_executor(None, pipe.recv):
            rows = 0
            async with Measured() as cost:
                async for number, market in states:
                    rows = len(market)
                    if number is None or number >= target:
                        break
            pipe.send(Report(cost.cpu_ms, cost.stall_ms, rows))
        await states.aclose()  # type: ignore[attr-defined]
