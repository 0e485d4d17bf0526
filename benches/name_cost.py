"""What a name costs: frames, memory in Redis, memory in the writer: python -m benches.name_cost

For lists of several lengths, each saved every 5 s for 15 minutes of market time with the default settings: so
much is kept when it is most, right before the next full frame. Only sizes: the machine's speed has no part.
"""

from __future__ import annotations

import asyncio
from itertools import islice

from redis.asyncio import Redis

from snapdelta import Decoder, EmbeddedServer, Encoder, SnapshotManager
from snapdelta.testing.feed import Feed

_ROWS = (50, 500, 2_000, 11_905)
# Three intervals of full frames: with the third one over, the history of ten minutes lets the first go.
_SAVES = 180


async def measure(rows: int) -> str:
    """One row of the table of docs/guide/sizing.md."""
    # The manager's clock is the market's, so that full frames come as in ten real minutes.
    now = 0.0
    with EmbeddedServer() as server:
        async with (
            Redis.from_url(server.url) as redis,
            SnapshotManager(redis, clock=lambda: now) as manager,
        ):
            encoder, decoder = Encoder(), Decoder()
            deltas = []
            full = 0
            for snapshot in islice(Feed("ranked", symbols=rows), _SAVES):
                result = await manager.save_snapshot(snapshot)
                decoder.apply(encoder.encode(snapshot))
                full = max(full, result["compressed_size"])
                if result["type"] == "delta":
                    deltas.append(result["compressed_size"])
                now += 5.0
            used = 0
            async for key in redis.scan_iter("snapdelta:*"):
                used += await redis.memory_usage(key, samples=0) or 0
    delta = sorted(deltas)[len(deltas) // 2]
    return f"| {rows:,} | {full:,} B | {delta:,} B | {used:,} B | {encoder.memory:,} B |"


async def main() -> None:
    print("| rows of 40 fields | full | delta | Redis | writer |\n|---|--:|--:|--:|--:|")
    for rows in _ROWS:
        print(await measure(rows), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
