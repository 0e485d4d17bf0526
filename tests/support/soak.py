"""A writer and a follower, each in a lean process of its own, for the test that nothing grows.

    python -m support.soak (write | follow) PORT SAVES

The writer saves as fast as it can, five seconds apart by its own clock; the follower reads every save and
compares it with the state that the writer had. Each prints a line of JSON a cycle: the means over the
CYCLE saves from one full frame to the next.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from typing import Any

from redis.asyncio import Redis

from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader
from support.clock import Clock

INTERVAL = 5.0
FULL_INTERVAL = 300.0
CYCLE = round(FULL_INTERVAL / INTERVAL)
# Saves that are kept at most; a fast run never gets as far back as the history in seconds.
HISTORY_FRAMES = 5 * CYCLE
# Where the follower is. In real time it has five seconds for each save; here the writer waits for it.
POSITION = "position"
_LEAD = CYCLE
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Tape:
    """Endless states of the same size: symbols come and go, half of them trade, all texts are new ones."""

    def __init__(self, symbols: int = 500) -> None:
        self._random = random.Random(1)
        # So large that it does not grow by a digit.
        self._serial = 10**9
        self.records: dict[str, Any] = dict(self._listing() for _ in range(symbols))

    def next(self) -> dict[str, Any]:
        """To be read before the next call."""
        rng, records = self._random, self.records
        for symbol in rng.sample(list(records), 2):
            del records[symbol]
        records.update(self._listing() for _ in range(2))
        for record in rng.sample(list(records.values()), len(records) // 2):
            self._trade(record)
        return records

    def _listing(self) -> tuple[str, dict[str, Any]]:
        rng = self._random
        record = {"name": f"Company {self._new()}", "open": rng.uniform(1, 500), "day": {"v": 0, "n": 0}}
        self._trade(record)
        return f"S{self._new()}", record

    def _trade(self, record: dict[str, Any]) -> None:
        rng = self._random
        size, price = rng.randrange(1, 500), rng.randrange(10**5) / 100
        record["price"], record["change"] = price, price / record["open"] - 1
        record["trade"] = {"id": str(self._new()), "size": size, "conditions": [rng.randrange(40)]}
        record["day"] = {"v": record["day"]["v"] + size, "n": record["day"]["n"] + 1}

    def _new(self) -> int:
        self._serial += 1
        return self._serial


class Cycle:
    """Sums over the saves of a cycle: only they are kept, so that measuring does not grow either."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._saves = 0

    def add(self, **values: float) -> None:
        """Also says the means when the cycle is complete."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value
        self._saves += 1
        if self._saves == CYCLE:
            print(json.dumps({name: total / CYCLE for name, total in self._sums.items()}), flush=True)
            self._sums, self._saves = {}, 0


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * _PAGE


async def write(port: int, saves: int) -> None:
    clock, tape, cycle = Clock(), Tape(), Cycle()
    async with (
        Redis(host="127.0.0.1", port=port) as redis,
        # The interval decides when a full frame is made, so that all cycles are of one length.
        SnapshotManager(
            redis, FULL_INTERVAL, clock=clock, chain_ratio=1e3, history_frames=HISTORY_FRAMES
        ) as manager,
    ):
        for number in range(1, saves + 1):
            result = await manager.save_snapshot(tape.next())
            full = "first" if number == 1 else "interval"
            assert result["reason"] == (full if number % CYCLE == 1 else None), result
            clock.now += INTERVAL
            cycle.add(rss=resident(), dataset=(await redis.info("memory"))["used_memory_dataset"])
            while number - int(await redis.get(POSITION) or 0) > _LEAD:  # noqa: ASYNC110 - it is elsewhere
                await asyncio.sleep(0.001)


async def follow(port: int, saves: int) -> None:
    tape, cycle = Tape(), Cycle()
    async with Redis(host="127.0.0.1", port=port) as redis:
        number = 0
        async for update in SnapshotReader(redis).follow():
            while number < update.sequence:
                state = tape.next()
                number += 1
                # The first may be some saves late, no other.
                assert update.reason == "start" or number == update.sequence, update
            assert not update.resynced
            assert update.snapshot == state
            cycle.add(rss=resident())
            await redis.set(POSITION, number)
            if number == saves:
                break


if __name__ == "__main__":
    asyncio.run({"write": write, "follow": follow}[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3])))
