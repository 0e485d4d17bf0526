"""Builds the dict of a decoder's state without blocking the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from snapdelta import Decoder

# Records that are made at once: some milliseconds of work.
_PART = 512


async def materialize(decoder: Decoder, *, shared: bool = False) -> dict[str, Any]:
    """The whole snapshot as a new dict; the decoder must not move meanwhile."""
    snapshot: dict[str, Any] = {}
    for start in range(0, len(decoder), _PART):
        snapshot.update(decoder.snapshot(shared, start=start, stop=start + _PART))
        await asyncio.sleep(0)
    return snapshot
