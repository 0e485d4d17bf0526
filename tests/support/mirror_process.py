"""A mirror in a process of its own: `python -m support.mirror_process PORT PLAIN_KEY`."""

from __future__ import annotations

import asyncio
import sys

from redis.asyncio import Redis

from snapdelta import SnapshotMirror


async def main(port: int, plain_key: str) -> None:
    async with Redis(port=port) as redis:
        await SnapshotMirror(redis, plain_key=plain_key).run()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
