"""Detects two programs with different bounds on one stream, by watching the stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from snapdelta._redis import key_of
from snapdelta.streams.foreign_trims import ForeignTrims, look
from snapdelta.streams.policy import StreamPolicy
from snapdelta.streams.preview import listed_streams
from snapdelta.streams.report import describe
from snapdelta.streams.store import StreamStore
from snapdelta.timescale.findings import Finding

# Seconds between two looks at a stream.
_PAUSE = 0.1
# The first entry of a stream with larger entries is not read again and again.
_LARGE_ENTRY = 65_536


async def second_bounds(
    store: StreamStore, policies: Mapping[str, StreamPolicy], key_prefix: str, seconds: float
) -> list[Finding]:
    """Watch the streams that the policies name for some seconds. Raises StreamAccessError and its kinds."""
    watched: dict[str, tuple[StreamPolicy, ForeignTrims]] = {}
    for stream, policy in (await listed_streams(store, policies, (key_prefix,))).items():
        info = await describe(store, stream, policy)
        if info.bytes <= _LARGE_ENTRY * max(1, info.length):
            watched[stream] = policy, ForeignTrims()
    end = time.monotonic() + seconds
    while watched:
        for stream, (policy, foreign) in watched.items():
            await look(store, stream, policy, foreign, await _usage(store, stream, policy))
        if time.monotonic() >= end:
            break
        await asyncio.sleep(_PAUSE)
    found = []
    for stream, (_, foreign) in sorted(watched.items()):
        if foreign.problem is not None:
            actual, _, advice = foreign.problem.partition("; ")
            found.append(Finding.fault(stream, "second bound", "one bound", actual, advice))
    return found


async def _usage(store: StreamStore, stream: str, policy: StreamPolicy) -> float:
    """The share of `max_bytes` that the stream takes."""
    if policy.max_bytes is None:
        return 0.0
    used = await store.run(stream, "MEMORY", "USAGE", key_of(stream))
    return float(used or 0) / policy.max_bytes
