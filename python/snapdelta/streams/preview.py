"""What a trim pass would remove from a stream, without removing it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from snapdelta._redis import key_of
from snapdelta.streams.policy import PolicyBook, StreamPolicy
from snapdelta.streams.report import describe
from snapdelta.streams.scripts import COUNT_UNREAD
from snapdelta.streams.store import StreamStore

# Entries that one call counts.
_PAGE = 1000
_APPROXIMATE = "an approximate policy removes whole nodes, so usually up to 100 entries fewer"
_ESTIMATED = "max_bytes: an estimate from the mean size of an entry"
_NO_TIMES = "max_age has no effect: the ids of this stream are not times"


@dataclass(slots=True)
class TrimPreview:
    """What a trim pass would do now. `unread`: removed ones that some group has not acknowledged."""

    stream: str
    length: int
    bytes: int
    removed: int = 0
    unread: int = 0
    held_back: int = 0
    notes: list[str] = field(default_factory=list)


async def preview(store: StreamStore, stream: str, policy: StreamPolicy) -> TrimPreview:
    """Count what the policy would remove. Raises StreamAccessError and its kinds."""
    info = await describe(store, stream, policy)
    found = TrimPreview(stream, info.length, info.bytes)
    if not info.length:
        return found
    excess = [0]
    if policy.maxlen is not None:
        excess.append(info.length - policy.maxlen)
    if policy.max_bytes is not None and info.bytes > policy.max_bytes:
        excess.append(math.ceil(info.length * (1 - policy.max_bytes / info.bytes)))
        found.notes.append(_ESTIMATED)
    if policy.max_age is not None:
        if info.oldest_age is None:
            found.notes.append(_NO_TIMES)
        else:
            now = await store.time_ms(stream)
            end = f"({now - int(policy.max_age * 1000)}-0"
            excess.append((await _count(store, stream, end, info.length))[0])
    found.removed = max(excess)
    found.unread = (await _count(store, stream, "+", found.removed))[1]
    if policy.keep_unread:
        ceiling = policy.ceiling or info.length
        above = max(0, info.length - ceiling)
        read = found.removed - found.unread
        found.removed, found.held_back = max(read, above), found.unread
        found.unread = max(0, above - read)
        found.held_back -= found.unread
    elif policy.approximate and found.removed:
        found.notes.append(_APPROXIMATE)
    return found


async def listed_streams(
    store: StreamStore, policies: Mapping[str, StreamPolicy], protected: tuple[str, ...]
) -> dict[str, StreamPolicy]:
    """The streams of names and patterns, each with its policy; none under a protected prefix."""
    book = PolicyBook(policies, StreamPolicy(), strict=False)
    found = dict(book.names)
    if book.patterns:
        for master in (await store.masters()).values():
            async for names in store.scan_streams(master):
                for name in names:
                    policy = book.listed(name)
                    if policy is not None and not name.startswith(protected):
                        found[name] = policy
    return found


async def _count(store: StreamStore, stream: str, end: str, most: int) -> tuple[int, int]:
    """Up to `most` of the oldest entries up to an id: how many, and how many of them are unread."""
    counted = waiting = 0
    start = "-"
    while counted < most:
        page = min(_PAGE, most - counted)
        answer = await store.run_script(stream, COUNT_UNREAD, [key_of(stream)], start, end, page)
        counted += int(answer[0])
        waiting += int(answer[1])
        if int(answer[0]) < page:
            break
        start = f"({answer[2].decode()}"
    return counted, waiting
