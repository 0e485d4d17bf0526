"""Saves a simulated market several times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple

from snapdelta import SnapshotManager
from snapdelta.testing.feed import Feed

NAME = "market"


class Change(NamedTuple):
    """What is new since the last save."""

    records: dict[str, dict[str, Any]]
    removed: list[str]


def changes(symbols: int, rate: float) -> Iterator[list[Change]]:
    """An endless market of `rate` changes a second; each item lasts a second, or as long as its only change.

    The first has all records. A frame of the feed costs as much for 0.2 s of market time as for a whole
    second, so one frame serves several changes: each takes an equal share of its records.
    """
    parts = max(1, round(rate))
    current: dict[str, dict[str, Any]] = {}
    for frame in Feed("enriched", symbols, interval=parts / rate, share_unchanged=True):
        changed = [symbol for symbol, record in frame.items() if record != current.get(symbol)]
        removed = [symbol for symbol in current if symbol not in frame]
        shares = parts if current else 1
        yield [
            Change({symbol: frame[symbol] for symbol in changed[part::shares]}, [] if part else removed)
            for part in range(shares)
        ]
        current = frame


async def write(manager: SnapshotManager, symbols: int, rate: float) -> None:
    """Save the market, until cancelled."""
    market = changes(symbols, rate)
    loop = asyncio.get_running_loop()
    ((first, _),) = await asyncio.to_thread(next, market)
    await manager.save_snapshot(first, NAME)
    due = loop.time()
    coming = await asyncio.to_thread(next, market)
    while True:
        # The next second is simulated while this one is saved.
        following = asyncio.create_task(asyncio.to_thread(next, market), name="market")
        for records, removed in coming:
            # A machine that is too slow saves as often as it can.
            due = max(due + 1 / rate, loop.time())
            await asyncio.sleep(due - loop.time())
            await manager.update(records, removed, NAME)
        coming = await following
