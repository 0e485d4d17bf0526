"""Clients of a gateway in a process of their own, which measure when they are sent what was saved.

python -m support.gateway_probe URL COUNT      prints the delays of all deltas, in ms, when it is told to end
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from websockets.asyncio.client import connect

from snapdelta import Decoder


async def probe(url: str, delays: list[float]) -> None:
    """From Redis' acceptance of a state to its digest in our hands, by the clock of this machine."""
    decoder = Decoder()
    timestamp, is_first = 0.0, True
    async with connect(url, compression=None, max_size=None) as connection:
        async for message in connection:
            if isinstance(message, str):
                timestamp = json.loads(message).get("timestamp", 0.0)
                continue
            decoder.apply(message)
            if not is_first:
                delays.append(time.time() * 1000 - timestamp)
            is_first = False


async def main(url: str, count: int) -> None:
    delays: list[float] = []
    probes: list[asyncio.Task[None]] = []
    for _ in range(count):
        probes.append(asyncio.create_task(probe(url, delays), name="probe"))
        # Among the other clients that connect meanwhile.
        await asyncio.sleep(0.1)
    print("connected", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for each in probes:
        each.cancel()
    await asyncio.gather(*probes, return_exceptions=True)
    print(json.dumps(delays), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
