"""A writer in a process of its own: saves a market's states and says of each what became of it.

    python -m support.writer_process PORT WRITER SAVES SECONDS_BETWEEN

One line of JSON a save on the standard output: `{"n": 3, "result": {...}}` or `{"n": 3, "error": NAME}`.
"""

from __future__ import annotations

import asyncio
import json
import sys

from redis.asyncio import Redis

from snapdelta.errors import SnapshotError
from snapdelta.snapshot_manager import SnapshotManager
from support.market import Market
from support.servers import patience


async def main(port: int, writer: str, saves: int, between: float) -> None:
    market = Market(writer)
    async with Redis(port=port) as redis, SnapshotManager(redis, command_timeout=patience(2.0)) as manager:
        for _ in range(saves):
            state = market.next()
            try:
                outcome: dict[str, object] = {"result": await manager.save_snapshot(state)}
            except SnapshotError as error:
                outcome = {"error": type(error).__name__}
            print(json.dumps({"n": market.saved, **outcome}), flush=True)
            await asyncio.sleep(between)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
