"""Detects that another program removes entries which this manager's policy keeps."""

from __future__ import annotations

from dataclasses import dataclass

from snapdelta._entry_id import parse_id
from snapdelta._redis import key_of, pairs
from snapdelta.errors import StreamAccessError, StreamUnavailableError
from snapdelta.streams.policy import StreamPolicy
from snapdelta.streams.store import StreamStore

# Trim passes in a row that must see it: one stream that was deleted and filled again is no second bound.
_PASSES = 2
# A bound holds a length within a node, or a tenth, from pass to pass.
_NODE = 100
# Below this share of a bound in bytes, another manager with the same policy removes nothing.
_FAR_BELOW = 0.5


@dataclass(slots=True)
class ForeignTrims:
    """What the trim passes over one stream saw: its first entry moved on, and this manager removed nothing.

    A trim by length never goes below `maxlen` (without one: `hard_maxlen`), here or in another manager with
    the same policy. `problem` describes the fault, until the stream reaches its bound again.
    """

    first: bytes | None = None
    length: int = 0
    seen: int = 0
    # This manager removed entries since the last pass: for age or bytes, at the ceiling, by `xadd(maxlen=)`.
    ours: bool = False
    problem: str | None = None

    def suspects(self, first: bytes | None, length: int, policy: StreamPolicy, usage: float) -> bool:
        """Whether the result of a pass looks like another bound. `usage`: share of `max_bytes`."""
        near = abs(length - self.length) <= max(_NODE, self.length // 10)
        return self._moved(first) and near and _below(length, policy) and not self.ours and usage < _FAR_BELOW

    def observe(self, first: bytes | None, length: int, policy: StreamPolicy, *, theirs: bool) -> bool:
        """Record the result of a pass; returns whether that is a new problem. `theirs`: others trimmed."""
        below = _below(length, policy)
        if theirs:
            self.seen += 1
        elif self._moved(first) or not below:
            self.seen = 0
        if not below or length > 2 * self.length + _NODE:
            self.problem = None
        self.first, self.length, self.ours = first, length, False
        if self.seen < _PASSES or self.problem is not None:
            return False
        kept = "entries by age and bytes" if policy.maxlen is None else f"{policy.maxlen} entries"
        self.problem = (
            f"another program trims or deletes entries: about {length} remain, but this policy keeps {kept}; "
            "bound the stream in one program, or give both the same bounds"
        )
        return True

    def _moved(self, first: bytes | None) -> bool:
        return None not in (first, self.first) and first != self.first


def _below(length: int, policy: StreamPolicy) -> bool:
    bound = policy.ceiling if policy.maxlen is None else policy.maxlen
    return bound is None or length < bound


async def look(
    store: StreamStore, stream: str, policy: StreamPolicy, foreign: ForeignTrims, usage: float
) -> bool:
    """Read the stream before a trim; returns whether it has a new problem."""
    key = key_of(stream)
    oldest, length = await store.run_all(stream, ("XRANGE", key, "-", "+", "COUNT", 1), ("XLEN", key))
    first, length, before = oldest[0][0] if oldest else None, int(length), foreign.first
    theirs = foreign.suspects(first, length, policy, usage)
    if theirs and before is not None:
        allowed = await _expired(store, stream, policy, before) or await _deleted_from(store, stream, before)
        theirs = not allowed
    return foreign.observe(first, length, policy, theirs=theirs)


async def _expired(store: StreamStore, stream: str, policy: StreamPolicy, entry_id: bytes) -> bool:
    """Whether the policy lets this entry go for its age."""
    if policy.max_age is None:
        return False
    age = await store.time_ms(stream) - parse_id(entry_id)[0]
    return age / 1000 >= policy.max_age


async def _deleted_from(store: StreamStore, stream: str, entry_id: bytes) -> bool:
    """Whether entries from this one on were removed one by one (XDEL), as consumers do.

    False before Redis 7, and where the user may not ask.
    """
    try:
        known = pairs(await store.run(stream, "XINFO", "STREAM", key_of(stream)))
    except StreamUnavailableError:
        raise
    except StreamAccessError:
        return False
    deleted = known.get(b"max-deleted-entry-id")
    return deleted is not None and parse_id(deleted) >= parse_id(entry_id)
