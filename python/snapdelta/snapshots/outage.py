"""Waiting for an unreachable server."""

from __future__ import annotations

import asyncio
import logging
import random

from snapdelta.errors import SnapdeltaError
from snapdelta.snapshots.store import RETRY_ADVICE

log = logging.getLogger("snapdelta.snapshots")

# In seconds: doubled from the first to the second.
_SHORTEST_WAIT = 0.05
_LONGEST_WAIT = 2.0


class Outage:
    """Logs when an outage begins and ends, and waits between tries."""

    def __init__(self, name: str, who: str = "a subscription") -> None:
        self._name = name
        self._who = who
        self._failures = 0
        # What keeps us waiting now.
        self.error: str | None = None

    async def wait(self, error: SnapdeltaError) -> None:
        """Wait before the next try, longer each time."""
        # The advice is for callers, who have to try again themselves.
        self.error = str(error).replace(RETRY_ADVICE, "snapdelta retries by itself")
        if not self._failures:
            log.warning(
                "%s waits for the server: %s",
                self._who,
                self.error,
                extra={"event": "outage", "snapshots": self._name, "error": type(error).__name__},
            )
        wait = min(_LONGEST_WAIT, _SHORTEST_WAIT * 2 ** min(self._failures, 10))
        self._failures += 1
        # Readers do not come back all at once.
        await asyncio.sleep(wait * random.uniform(0.5, 1))

    def over(self) -> None:
        """A try has succeeded."""
        if self._failures:
            log.info(
                "snapshots %r: the server is back",
                self._name,
                extra={"event": "outage_over", "snapshots": self._name},
            )
            self._failures = 0
            self.error = None
