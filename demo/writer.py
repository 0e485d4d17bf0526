"""The writer process: plays the source, and saves each frame both ways, ours and as plain JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from redis.asyncio import Redis

from demo.measure import Measured
from demo.parent_link import report, serve
from demo.plan import NAME, PLAIN_KEY, Player, Snapshot, Source
from demo.reports import Cost, Saved, Saving
from snapdelta.snapshot_manager import SnapshotManager


async def write(task: dict[str, Any]) -> None:
    """Save the frames from `first` to `last`; then wait to be killed, or end if that was the end of all."""
    player = Player(Source(**task["source"]))
    loop = asyncio.get_running_loop()
    async with Redis.from_url(task["url"]) as redis, SnapshotManager(redis) as manager:
        # To connect is no part of a save.
        await redis.ping()
        for number in range(task["first"], task["last"] + 1):
            due = loop.time() + task["interval"]
            snapshot = player.frame(number)
            report(Saving(number))
            report(await save(redis, manager, number, snapshot))
            await asyncio.sleep(due - loop.time())
        if task["wait"]:
            await asyncio.Event().wait()


async def save(redis: Redis, manager: SnapshotManager, number: int, snapshot: Snapshot) -> Saved:
    async with Measured() as ours:
        result = await manager.save_snapshot(snapshot, NAME)
    async with Measured() as plain:
        text = json.dumps(snapshot, separators=(",", ":"), ensure_ascii=False).encode()
        await redis.set(PLAIN_KEY, text)
    return Saved(
        frame=number,
        symbols=result["symbols"],
        changed=result["added"] + result["removed"] + result["updated"],
        kind=result["type"],
        reason=result["reason"],
        ours=Cost(result["compressed_size"], ours.cpu_ms, ours.stall_ms),
        plain=Cost(len(text), plain.cpu_ms, plain.stall_ms),
    )


if __name__ == "__main__":
    serve(write)
