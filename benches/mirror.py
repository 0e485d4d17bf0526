"""What a mirror costs a save, beside rows kept by hand: `python benches/mirror.py [SYMBOLS] [SAVES]`.

By hand: orjson of every record, compared with its last bytes, HSET of those that differ, HDEL of those that
are gone, all in the writer.
With snapdelta the writer saves a delta, and the mirror, a process of its own, writes the rows.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import orjson
from redis.asyncio import Redis

from benches.by_hand import HandWrittenRows
from snapdelta import EmbeddedServer, SnapshotManager, SnapshotMirror
from snapdelta.testing.feed import Feed

_ROWS = "snapdelta:{default}:rows"


def _mirror(url: str, plain_key: str | None, pipe: Connection) -> None:
    async def run() -> None:
        async with Redis.from_url(url) as redis:
            mirror = SnapshotMirror(redis, plain_key=plain_key)
            task = asyncio.create_task(mirror.run())
            loop = asyncio.get_running_loop()
            while await loop.run_in_executor(None, pipe.recv):
                pipe.send((time.process_time(), mirror.stats()))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


async def _measure(url: str, symbols: int, saves: int, plain_key: str | None, pipe: Connection) -> None:
    feed = Feed("enriched", symbols=symbols)
    hand: dict[str, list[float]] = {"held": [], "total": [], "bytes": []}
    ours: dict[str, list[float]] = {"held": [], "total": [], "bytes": [], "behind": []}
    async with Redis.from_url(url) as redis, SnapshotManager(redis) as manager:
        by_hand = HandWrittenRows("rows")
        begun: Any = None
        for number in range(saves):
            snapshot = next(feed)
            start = time.perf_counter()
            changed, gone = by_hand.changes(snapshot)
            held = time.perf_counter() - start
            pipeline = redis.pipeline(transaction=False)
            sent = by_hand.add_to(pipeline, changed, gone)
            await pipeline.execute()
            total = time.perf_counter() - start
            start = time.perf_counter()
            result = await manager.save_snapshot(snapshot)
            saved = time.perf_counter()
            await _has(redis, result["sequence"])
            if number == 0:
                pipe.send(True)
                begun = pipe.recv()
                continue
            for name, value in (("held", held), ("total", total), ("bytes", sent)):
                hand[name].append(value)
            ours["held"].append(result["capture_ms"] / 1e3)
            ours["total"].append(saved - start)
            ours["bytes"].append(result["compressed_size"])
            ours["behind"].append(time.perf_counter() - saved)
        pipe.send(True)
        ended = pipe.recv()
        pipe.send(False)
    cpu, rows, sent = (
        (ended[0] - begun[0]) / (saves - 1),
        (ended[1].rows_written - begun[1].rows_written) / (saves - 1),
        (ended[1].bytes_written - begun[1].bytes_written) / (saves - 1),
    )
    print(f"{symbols:,} symbols, {rows:,.0f} rows change a save, plain key: {plain_key is not None}")
    print(f"  by hand: event loop held {_ms(hand['held'])}, save {_ms(hand['total'])}, {_mb(hand['bytes'])}")
    print(f"  manager: event loop held {_ms(ours['held'])}, save {_ms(ours['total'])}, {_mb(ours['bytes'])}")
    print(
        f"  mirror:  {cpu * 1e3:.1f} ms of processor time, {sent / 1e6:.2f} MB, rows {_ms(ours['behind'])} "
        "behind the save"
    )


async def _has(redis: Redis, sequence: int) -> None:
    while True:
        meta = await redis.hget(_ROWS, "__meta__")
        if meta is not None and orjson.loads(meta)["sequence"] == sequence:
            return
        await asyncio.sleep(0.002)


def _ms(seconds: list[float]) -> str:
    return f"{median(seconds) * 1e3:.1f} ms"


def _mb(sizes: list[float]) -> str:
    return f"{median(sizes) / 1e6:.2f} MB"


def main() -> None:
    symbols, saves = (*map(int, sys.argv[1:]), *(11_905, 20)[len(sys.argv) - 1 :])
    for plain_key in (None, "plain"):
        with EmbeddedServer() as server:
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=_mirror, args=(server.url, plain_key, theirs))
            process.start()
            asyncio.run(_measure(server.url, symbols, saves, plain_key, ours))
            process.join()


if __name__ == "__main__":
    main()
