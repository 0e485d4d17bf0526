"""What snapshots through Redis cost: `python benches/snapshots.py`, tables on standard output, some minutes.

`save`, `memory` or `reader` behind it is that part alone; `real-time` is `memory` at a save in five seconds.
The enriched feed (11,905 symbols) to a Valkey server that this program starts on loopback. Every figure is a
ratio in one run or comes with its machine: times alone say nothing about another one.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from redis.asyncio import Redis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benches.heap import HEAPS
from benches.timing import Ticker, quiet_collector, seconds_of
from snapdelta import CapturedFrame, Encoder
from snapdelta.snapshot_manager import SaveResult, SnapshotManager, SnapshotReader, Update
from snapdelta.testing.feed import Feed
from support.clock import Clock
from support.servers import Server

Snapshot = dict[str, Any]

INTERVAL = 5.0
SAVES_AN_HOUR = round(3600 / INTERVAL)
WARM_UP = 5
# At a full frame what is kept reaches back the history and less than full_snapshot_interval more.
KEPT_SAVES = round((600 + 300) / INTERVAL)


@dataclass
class Samples:
    """Seconds of each sample, by what was timed."""

    taken: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **seconds: float) -> None:
        for name, value in seconds.items():
            self.taken.setdefault(name, []).append(value)

    def ms(self, name: str) -> float:
        return median(self.taken[name]) * 1e3

    def worst_ms(self, name: str) -> float:
        return max(self.taken[name]) * 1e3

    def ratio(self, name: str, *parts: str) -> float:
        """Of the median of one to the sum of the medians of the others."""
        return self.ms(name) / sum(map(self.ms, parts))


class Bench:
    """One name that is saved, and beside it what it is compared with, on the same snapshots."""

    def __init__(self, redis: Redis, heap: str) -> None:
        self.samples = Samples()
        self._redis = redis
        self._manager = SnapshotManager(redis)
        self._encoder = Encoder(verify=True)
        self._snapshots = map(HEAPS[heap], Feed("enriched"))
        self._before: Snapshot = {}
        self._now: Snapshot = {}

    async def cost(self, samples: int) -> None:
        """A save from end to end; the encode alone, read back as in a save; a bare XADD of the same bytes."""
        for number in range(samples):
            self._next()
            # Each is the first half of the time: the second to read a snapshot finds it in the caches.
            for work in (self._save, self._encode)[:: 1 if number % 2 else -1]:
                self._elsewhere()
                await work()

    async def _save(self) -> None:
        start = time.perf_counter()
        result = await self._manager.save_snapshot(self._now)
        if result["reason"] is None:
            self.samples.add(
                save=time.perf_counter() - start,
                capture=result["capture_ms"] / 1e3,
                encoding=result["encode_ms"] / 1e3,
                writing=result["write_ms"] / 1e3,
            )

    async def _encode(self) -> None:
        start = time.perf_counter()
        frame = self._encoder.encode(self._now)
        encode = time.perf_counter() - start
        xadd = await seconds_of(lambda: self._redis.xadd("plain", {"f": frame}, maxlen=10, approximate=False))
        if len(self.samples.taken.get("save", ())):
            self.samples.add(encode=encode, xadd=xadd)

    async def stalls(self, samples: int, *, full: bool) -> None:
        """The longest stall of the loop in a save, beside the capture; in a capture alone; in no save."""
        kind = "full" if full else "delta"
        async with Ticker() as ticker:
            for _ in range(samples):
                self._next()
                self._elsewhere()
                results: list[SaveResult] = []

                async def save(results: list[SaveResult] = results) -> None:
                    results.append(await self._manager.save_snapshot(self._now, force_full=full))

                stall = await ticker.of(save)
                capture = results[0]["capture_ms"] / 1e3
                self._elsewhere()
                captured: list[CapturedFrame] = []

                async def read(captured: list[CapturedFrame] = captured) -> None:
                    captured.append(self._encoder.capture(self._now))

                alone = await ticker.of(read)
                captured.pop().finish()
                noise = await ticker.of(lambda: asyncio.sleep(0.02))
                if full or results[0]["reason"] is None:
                    self.samples.add(
                        **{
                            f"{kind} stall": stall,
                            f"{kind} capture": capture,
                            f"{kind} ratio": stall / capture / 1e3,
                            f"{kind} above": stall - 1.3 * capture,
                        },
                        alone=alone,
                        noise=noise,
                    )

    def _next(self) -> None:
        self._before, self._now = self._now, next(self._snapshots)

    def _elsewhere(self) -> None:
        """Walk over other data, so that nothing of the snapshot is left in the caches."""
        orjson.dumps(self._before)


async def costs(server: Server) -> None:
    print("\n## A save\n")
    print(
        "| heap | save | capture | encoding | writing | encode alone | bare XADD | save / (encode + XADD) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    stalls: dict[str, Samples] = {}
    for heap in HEAPS:
        async with server.client() as redis:
            bench = Bench(redis, heap)
            with quiet_collector():
                await bench.cost(WARM_UP)
                bench.samples = Samples()
                await bench.cost(30)
                await bench.stalls(20, full=False)
                await bench.stalls(12, full=True)
            s = stalls[heap] = bench.samples
            parts = ("save", "capture", "encoding", "writing", "encode", "xadd")
            times = " | ".join(f"{s.ms(part):.2f} ms" for part in parts)
            print(f"| {heap} | {times} | {s.ratio('save', 'encode', 'xadd'):.3f} |", flush=True)
            await redis.flushall()
    print("\n## The longest stall of the writer's event loop in a save: median (worst)\n")
    print("| heap | no save | capture alone | delta | / its capture | full | less 1.3 x its capture |")
    print("|---|---|---|---|---|---|---|")
    for heap, s in stalls.items():
        cells = [
            f"{s.ms(name):.2f} ({s.worst_ms(name):.2f}) ms"
            for name in ("noise", "alone", "delta stall", "full stall", "full above")
        ]
        # Kept as a thousandth, as samples are shown in thousandths.
        cells.insert(3, f"{s.ms('delta ratio'):.3f} ({s.worst_ms('delta ratio'):.3f})")
        print(f"| {heap} | {' | '.join(cells)} |", flush=True)


@dataclass
class Held:
    """What a name takes up, at its most, in bytes; and the saves in it then."""

    usage: int = 0
    dataset: int = 0
    deltas: int = 0
    fulls: int = 0


async def memory(server: Server, saves: int, *, real_time: bool) -> Held:
    """The most that one name with the default settings holds.

    History counts by the server's clock. A run that is faster than the clock would keep every save that
    history_frames and history_bytes let it, so history_frames is set to what 600 s are at the most.
    """
    clock = Clock()
    settings: dict[str, Any] = {}
    if not real_time:
        # Two thirds of history_frames can be held at a full frame; the next chain comes on top.
        settings = {"clock": clock, "history": 1e6, "history_frames": (KEPT_SAVES * 3 + 1) // 2}
    most = Held()
    with_nothing = server.used_memory()
    keys = [f"snapdelta:{{default}}:{part}" for part in ("full", "delta", "head")]
    async with server.client() as redis, SnapshotManager(redis, **settings) as manager:
        start = time.monotonic()
        for number, snapshot in enumerate(islice(Feed("enriched"), saves), 1):
            await manager.save_snapshot(snapshot)
            usage = sum([await redis.memory_usage(key, samples=0) or 0 for key in keys])
            most.dataset = max(most.dataset, server.used_memory() - with_nothing)
            if usage > most.usage:
                most.usage = usage
                most.fulls, most.deltas = await redis.xlen(keys[0]), await redis.xlen(keys[1])
            if real_time:
                await asyncio.sleep(start + number * INTERVAL - time.monotonic())
            clock.now += INTERVAL
        await redis.flushall()
    return most


async def json_memory(server: Server, frames: int = 12) -> tuple[int, int]:
    """What a minute of plain JSON takes: the key that SET writes, and an entry of a stream."""
    async with server.client() as redis:
        for snapshot in islice(Feed("enriched"), frames):
            json = orjson.dumps(snapshot)
            await redis.set("json", json)
            await redis.xadd("frames", {"f": json})
        key = await redis.memory_usage("json", samples=0) or 0
        stream = await redis.memory_usage("frames", samples=0) or 0
        await redis.flushall()
    return key, stream // frames


async def memories(server: Server, *, real_time: bool = False) -> None:
    print("\n## Redis memory of one name, default settings, stream-node-max-* as the server has them\n")
    print("| what | MEMORY USAGE of its keys | used_memory_dataset | holds |")
    print("|---|---|---|---|")
    held = await memory(server, 300, real_time=real_time)
    what = "25 minutes" if real_time else "as many saves as 600 s keep at most"
    print(
        f"| {what} | {held.usage / 1e6:.1f} MB | {held.dataset / 1e6:.1f} MB "
        f"| {held.fulls} full frames, {held.deltas} saves |",
        flush=True,
    )
    key, entry = await json_memory(server)
    print(f"| plain JSON: SET | {key / 1e6:.1f} MB | | the newest state |")
    hour = entry * SAVES_AN_HOUR
    print(f"| plain JSON: a stream of the frames | {hour / 1e9:.2f} GB | | an hour, reckoned from a minute |")


def _follow(port: int, shared: bool, updates: int, report: Connection) -> None:
    """A reader in a process of its own; its loop is watched in a second run, as the ticker takes time."""
    samples = Samples()

    async def undisturbed(followed: AsyncIterator[Update]) -> None:
        used = time.process_time()
        update = await anext(followed)
        assert not update.resynced
        samples.add(lag=update.lag, used=time.process_time() - used)

    async def watched(followed: AsyncIterator[Update]) -> None:
        held: list[Update] = []

        async def read() -> None:
            held.append(await anext(followed))

        async with Ticker() as ticker:
            stall = await ticker.of(read)
        samples.add(**{"stall, collected" if gc.isenabled() else "stall": stall})
        # Whoever drops the last reference to a state frees some hundred thousand objects.
        start = time.perf_counter()
        held.clear()
        samples.add(free=time.perf_counter() - start)

    async def follow() -> None:
        async with Redis(host="127.0.0.1", port=port) as redis:
            followed = aiter(SnapshotReader(redis, shared=shared).follow())
            await anext(followed)
            report.send(None)
            for _ in range(updates):
                await undisturbed(followed)
            for _ in range(updates):
                await watched(followed)
            with quiet_collector():
                for _ in range(updates):
                    await watched(followed)

    asyncio.run(follow())
    report.send(samples)


async def readers(server: Server, updates: int = 20) -> None:
    print("\n## A follower in a process of its own: median (worst)\n")
    print(
        "| shared | lag | processor time an update | longest stall of its loop | without collector "
        "| to free an update |"
    )
    print("|---|---|---|---|---|---|")
    spawn = multiprocessing.get_context("spawn")
    for shared in (False, True):
        async with server.client() as redis, SnapshotManager(redis) as manager:
            feed = Feed("enriched")
            await manager.save_snapshot(next(feed))
            ours, theirs = spawn.Pipe()
            reader = spawn.Process(target=_follow, args=(server.port, shared, updates, theirs))
            reader.start()
            theirs.close()
            await asyncio.to_thread(ours.recv)
            while not ours.poll():
                # Made before the pause, so that the reader has the machine to itself.
                snapshot = next(feed)
                await manager.save_snapshot(snapshot)
                await asyncio.sleep(0.3)
            s: Samples = ours.recv()
            await asyncio.to_thread(reader.join)
            names = ("lag", "used", "stall, collected", "stall", "free")
            cells = [f"{s.ms(name):.1f} ({s.worst_ms(name):.1f}) ms" for name in names]
            print(f"| {shared} | {' | '.join(cells)} |", flush=True)
            await redis.flushall()


async def main(*parts: str) -> None:
    with Server("valkey-9.1") as server:
        for part in parts or DEFAULT_PARTS:
            await PARTS[part](server)


PARTS: dict[str, Callable[[Server], Awaitable[None]]] = {
    "save": costs,
    "memory": memories,
    "reader": readers,
    "real-time": partial(memories, real_time=True),
}
DEFAULT_PARTS = ("save", "memory", "reader")

if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
