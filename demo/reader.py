"""A reader process: follows, plays the source as well, and compares each update with the frame it must be."""

from __future__ import annotations

import gc
from typing import Any

from redis.asyncio import Redis

from demo.errors import DemoError
from demo.parent_link import report, serve
from demo.plan import NAME, Player, Source
from demo.reports import Checked, Ready
from snapdelta.snapshot_manager import SnapshotReader
from snapdelta.testing.compare import first_difference

# Of a difference; whole values may stand in it.
_LONGEST = 500


async def read(task: dict[str, Any]) -> None:
    """Check every update until the one of the frame `last`."""
    player = Player(Source(**task["source"]))
    numbers = Numbers(task["firsts"])
    async with Redis.from_url(task["url"]) as redis:
        # To connect takes a while, in which the writer could be ahead.
        await redis.ping()
        report(Ready())
        async for update in SnapshotReader(redis, NAME).follow():
            number = numbers.of(update.epoch, update.sequence)
            difference = first_difference(player.frame(number), update.snapshot)
            report(
                Checked(
                    frame=number,
                    resynced=update.resynced,
                    reason=update.reason,
                    difference=difference and difference[:_LONGEST],
                )
            )
            if number == task["last"]:
                break


class Numbers:
    """Which frame an update must have: the sequences of each writer count from its first frame.

    firsts  the first frames of the writers that will be met, in order
    """

    def __init__(self, firsts: list[int]) -> None:
        self._firsts = list(firsts)
        self._epoch = 0
        self._first = 0

    def of(self, epoch: int, sequence: int) -> int:
        """Raises DemoError when there are more epochs than writers."""
        if epoch != self._epoch:
            if not self._firsts:
                raise DemoError(f"an update has epoch {epoch}, which is no writer's")
            self._epoch, self._first = epoch, self._firsts.pop(0)
        return self._first + sequence - 1


if __name__ == "__main__":
    # There are no cycles in snapshots, and looking for them takes a third of the time.
    gc.disable()
    serve(read)
