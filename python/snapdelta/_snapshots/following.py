"""The endless iteration over a name's states, through outages of the server."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from typing import Self

from snapdelta._snapshots.follower import Follower
from snapdelta._snapshots.update import Update
from snapdelta.errors import SnapshotUnavailableError

log = logging.getLogger("snapdelta.snapshots")

# Waiting for a server that is away, in seconds: doubled from the first to the second.
_SHORTEST_WAIT = 0.05
_LONGEST_WAIT = 2.0


class Following(AsyncIterator[Update]):
    """What `SnapshotReader.follow()` returns.

    A generator would end when a wait for its next item is cancelled (`asyncio.wait_for(anext(...), 1)`); this
    goes on with the same update. Holds nothing that would have to be closed.
    """

    def __init__(self, follower: Follower, name: str, block: float) -> None:
        self._follower = follower
        self._name = name
        self._block = block
        self._turn = asyncio.Lock()
        self._failures = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update:
        async with self._turn:
            while not await self._advance():
                pass
            return await self._follower.update()

    async def aclose(self) -> None:
        """Nothing; for `contextlib.aclosing`."""

    async def _advance(self) -> bool:
        """One step; whether there is a state to show."""
        try:
            found = await self._follower.advance(self._block)
        except SnapshotUnavailableError as error:
            if not self._failures:
                log.warning("following, and waiting for the server: %s", error)
            wait = min(_LONGEST_WAIT, _SHORTEST_WAIT * 2 ** min(self._failures, 10))
            self._failures += 1
            # Readers do not come back all at once.
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            return False
        if self._failures:
            log.info("snapshots %r: the server is back", self._name)
            self._failures = 0
        return found
