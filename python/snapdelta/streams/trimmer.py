"""Trims one stream to its policy, in steps that never block the server for long."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from snapdelta._entry_id import parse_id
from snapdelta._redis import key_of
from snapdelta.errors import StreamAccessError
from snapdelta.streams.foreign_trims import ForeignTrims, look
from snapdelta.streams.policy import StreamPolicy
from snapdelta.streams.scripts import DROP_OLDER, RELEASE_READ
from snapdelta.streams.stats import Counters, PolicyTotals
from snapdelta.streams.store import CLOCK_TOLERANCE, FIRST_TIME, StreamStore

log = logging.getLogger("snapdelta.streams")

# Entries that one exact step removes; with `~` the server's own limit is as much (100 x
# stream-node-max-entries).
STEP = 10_000
# How many entries a script removes one by one in its first call; later calls remove fewer if that takes long.
# (The script cannot measure it: since Redis 7 the clock stands still in a script.)
_WALK = 512
_LONGEST_WALK = 0.01
# XTRIM = ACKED walks every entry that is not acknowledged; beyond this many it would hold the server up.
_LONGEST_ACKED_WALK = 20_000
# MEMORY USAGE looks at this many nodes.
_MEMORY_SAMPLES = 1000
# At most a quarter of the entries goes before the memory is measured again.
_BYTES_ROUND = 0.75
_SAMPLES = 16
# Entries that one step reads and removes on servers whose MINID is not to be trusted.
_BY_NUMBER = 1000
# The first entry of a stream with larger entries is not read to see whether it moved on.
_LARGE_ENTRY = 65_536
# By so many entries approximate trimming exceeds a length, with the server's defaults.
_NODE = 100
# From this share of the ceiling on, unread entries are in danger.
_NEAR_CEILING = 0.9

_LARGE_NODES = (
    "approximate trimming cannot reach the bound: the stream has nodes larger than stream-node-max-* allows "
    "now; trimmed exactly, and a node's memory comes back when the last of its entries has gone"
)
_ONE_NODE = (
    "stream-node-max-entries and stream-node-max-bytes are both 0, so approximate trimming does nothing; "
    "trimmed exactly, but no memory will be freed and every trim gets slower; set one of them "
    "(CONFIG SET stream-node-max-entries 100): new entries then go to new nodes"
)
_MEMORY_STAYS = (
    "max_bytes is kept by a sample of the entries: removing entries does not free this stream's memory "
    "(both stream-node-max-* at 0, or consumer groups hold it in their pending lists)"
)


@dataclass(slots=True)
class TrackedStream:
    """What the manager remembers of a stream between two trim passes."""

    name: str
    key: bytes
    policy: StreamPolicy
    listed: bool  # a configured name or pattern has it
    settled: bool = False  # an exact trim on every write has little to do
    memory_stuck: bool = False  # removing entries was seen not to free memory
    bytes_since_pass: int = 0
    written_since_pass: int = 0  # entries, through this manager
    told_undecodable: bool = False  # bytes were written that the client could not decode
    due: float | None = None  # monotonic time of the task's next trim pass
    passed_at: float | None = None  # monotonic time of its last one
    entry_bytes: int = 0  # of memory, by the last pass; 0 where that did not measure it
    usage: float = 0.0  # share of max_bytes by the last pass
    told_foreign: bool = False  # the log has said that another program trims it
    foreign: ForeignTrims = field(default_factory=ForeignTrims)
    totals: PolicyTotals = field(default_factory=PolicyTotals)  # of all streams of its policy

    report: TrimReport | None = None  # of the last pass

    def warnings(self) -> Iterator[str]:
        """Faults of the stream although its passes succeed."""
        place, report, ceiling = f"stream {self.name!r}", self.report, self.policy.ceiling
        if self.foreign.problem is not None:
            yield f"{place}: {self.foreign.problem}"
        if report is None:
            return
        if report.unread_dropped:
            yield f"{place}: {report.unread_dropped} unread entries were dropped at hard_maxlen"
        elif ceiling is not None and report.held_back and report.length >= _NEAR_CEILING * ceiling:
            yield f"{place}: {report.held_back} unread entries will be dropped at hard_maxlen ({ceiling})"

    def fullest(self) -> float:
        """The fullest of its bounds after the last pass; above 1 the stream exceeds it."""
        if self.report is None:
            return 0.0
        highest = self._highest()
        by_length = self.report.length / highest if highest is not None else 0.0
        return max(by_length, self.usage)

    def entries(self) -> int:
        """Entries after the last pass and this manager's writes since, as far as these trim by themselves."""
        before = self.report.length if self.report is not None else 0
        highest = self._highest()
        now = before + self.written_since_pass
        return now if highest is None else max(before, min(now, highest))

    def _highest(self) -> int | None:
        """The length that writes keep to; None where the policy has no length."""
        policy = self.policy
        if policy.ceiling is not None:
            return policy.ceiling
        return None if policy.maxlen is None else policy.maxlen + _NODE * policy.approximate

    @classmethod
    def of(cls, name: str, policy: StreamPolicy, *, listed: bool) -> TrackedStream:
        return cls(name, key_of(name), policy, listed)


@dataclass(slots=True)
class TrimReport:
    """What one trim pass over a stream found and did.

    Attributes:
        length: entries left
        removed: entries that this pass removed
        unread_dropped: those of them that a consumer group had not acknowledged (above hard_maxlen)
        held_back: entries above maxlen that stay because a group has not acknowledged them
        finished: False if time ran out before the stream met its policy; the next pass continues
        bytes: memory of the stream, where the policy has max_bytes
        notes: one sentence for each part of the policy that the pass could not apply
    """

    stream: str
    length: int = 0
    removed: int = 0
    unread_dropped: int = 0
    held_back: int = 0
    finished: bool = True
    bytes: int | None = None
    notes: list[str] = field(default_factory=list)


class Trimmer:
    """Carries policies out. Every step is one short command; between two the server serves others."""

    def __init__(self, store: StreamStore, counters: Counters) -> None:
        self._store = store
        self._counters = counters

    async def trim(self, stream: TrackedStream, budget: float | None = None) -> TrimReport:
        """Trim the stream to its policy, for at most about `budget` seconds (None: without a limit).

        Raises StreamAccessError and its kinds; entries removed before are counted.
        """
        trim_pass = _TrimPass(
            self._store, self._counters, stream, None if budget is None else time.monotonic() + budget
        )
        try:
            await trim_pass.run()
        except StreamAccessError:
            self._counters.trim_errors += 1
            raise
        self._counters.trims += 1
        stream.report = trim_pass.report
        return trim_pass.report


class _TrimPass:
    """One trim pass over one stream."""

    def __init__(
        self, store: StreamStore, counters: Counters, stream: TrackedStream, deadline: float | None
    ) -> None:
        self._store = store
        self._counters = counters
        self._stream = stream
        self._deadline = deadline
        self._policy = stream.policy
        # The slowest group's position: nothing at or after it is trimmed. None: nobody to wait for.
        self._floor: bytes | None = None
        self._fell_back = False
        self.report = TrimReport(stream.name)

    async def run(self) -> None:
        policy, report = self._policy, self.report
        self._stream.bytes_since_pass = self._stream.written_since_pass = 0
        await self._observe()
        if policy.keep_unread:
            await self._release_read(policy.maxlen)
        elif policy.maxlen is not None:
            await self._shorten(policy.maxlen)
        else:
            report.length = int(await self._run("XLEN", self._stream.key))
        if policy.max_age is not None and report.length:
            await self._drop_older(policy.max_age)
        if policy.max_bytes is not None and report.length:
            await self._fit_bytes(policy.max_bytes)
        if policy.keep_unread and report.finished:
            await self._hold_ceiling()
        if policy.maxlen is not None:
            self._stream.settled = report.finished and report.length <= policy.maxlen + STEP
            if self._floor is not None:
                report.held_back = max(0, report.length - policy.maxlen)
        self._counters.exact_fallbacks += self._fell_back
        self._stream.foreign.ours = report.removed > 0
        if report.bytes is not None and policy.max_bytes is not None:
            self._stream.entry_bytes = report.bytes // max(1, report.length)
            self._stream.usage = report.bytes / policy.max_bytes
        if (problem := self._stream.foreign.problem) is not None:
            self._note(problem)

    async def _observe(self) -> None:
        """Look for a second program that removes entries, before this pass does."""
        stream = self._stream
        if stream.entry_bytes > _LARGE_ENTRY:
            return
        found = await look(self._store, stream.name, self._policy, stream.foreign, stream.usage)
        if found and not stream.told_foreign:
            stream.told_foreign = True
            log.warning(
                "stream %r: %s",
                stream.name,
                stream.foreign.problem,
                extra={"event": "foreign_trim", "stream": stream.name},
            )

    # --- length

    async def _shorten(self, target: int, *, exact: bool | None = None) -> None:
        """Down to `target` entries, or to at most one node above it where the policy is approximate."""
        exact = not self._policy.approximate if exact is None else exact
        while True:
            removed, length = await self._xtrim("MAXLEN", "~", target)
            if length <= target:
                return
            if removed == 0:
                break
            if await self._out_of_time():
                return
        # No whole node is left to remove.
        if not exact and self.report.length <= target + 100:
            # The usual node of a usual server: no need to ask how large its nodes are.
            return
        if not exact:
            limits = await self._store.node_limits(self._stream.name)
            if limits.frees and self.report.length <= target + limits.slack:
                return
            self._note_fallback(limits.frees)
        while self.report.length > target:
            removed, length = await self._xtrim("MAXLEN", "=", max(target, self.report.length - STEP))
            if length <= target or removed == 0 or await self._out_of_time():
                # Nothing removed although it is too long: the length came from a replica that is behind.
                return

    def _note_fallback(self, frees: bool) -> None:
        self._fell_back = True
        self._note(_LARGE_NODES if frees else _ONE_NODE)

    # --- unread entries

    async def _release_read(self, maxlen: int | None) -> None:
        """Down to `maxlen`, but only what every group has acknowledged."""
        target = maxlen if maxlen is not None else 2**53
        walk = _WALK
        by_id = int(await self._store.trims_by_id(self._stream.name))
        while True:
            started = time.monotonic()
            answer = await self._store.run_script(
                self._stream.name, RELEASE_READ, [self._stream.key], target, STEP, walk, by_id
            )
            if time.monotonic() - started > _LONGEST_WALK:
                walk = max(1, walk // 2)
            removed, length, floor, unread, more = answer
            self._removed(int(removed))
            self.report.length = int(length)
            # The first id that may be unread: the floor itself, or what follows it.
            self._floor = _entry_id(_number(floor) + (not unread)) if floor else None
            if not more:
                break
            if await self._out_of_time():
                return
        if (
            self._floor is not None
            and target < self.report.length <= _LONGEST_ACKED_WALK
            and await self._store.acked_option(self._stream.name)
        ):
            # Behind the slowest group's oldest entry there may be acknowledged ones. Exact only: with `~`
            # this option removes nothing on the servers that were tried (8.2.2, 8.2.3, 8.4.0).
            await self._xtrim("MAXLEN", "=", target, "ACKED")

    async def _hold_ceiling(self) -> None:
        """Below hard_maxlen, whatever has been read; what goes here is counted as dropped unread."""
        ceiling = self._policy.ceiling
        assert ceiling is not None
        while self.report.length > ceiling:
            removed, length = await self._xtrim("MAXLEN", "=", max(ceiling, self.report.length - STEP))
            if self._floor is not None:
                self.report.unread_dropped += removed
                self._counters.unread_dropped += removed
                self._stream.totals.unread_dropped += removed
            if length <= ceiling or removed == 0 or await self._out_of_time():
                return

    # --- age

    async def _drop_older(self, max_age: float) -> None:
        now = await self._store.time_ms(self._stream.name)
        if not await self._ids_are_times(now):
            self._note("max_age has no effect: the ids of this stream are not times")
            return
        oldest = f"{max(0, now - int(max_age * 1000))}-0".encode()
        if self._floor is not None:
            oldest = min(oldest, self._floor, key=_number)
        if not await self._store.trims_by_id(self._stream.name):
            await self._drop_by_number(oldest)
            return
        while True:
            removed, _ = await self._xtrim("MINID", "~", oldest)
            if removed == 0:
                break
            if await self._out_of_time():
                return
        if self._policy.approximate:
            limits = await self._store.node_limits(self._stream.name)
            if limits.frees:
                return
            self._note_fallback(frees=False)
        # Fewer than a node of old entries is left, or all are in one node.
        await self._xtrim("MINID", "=", oldest)

    async def _drop_by_number(self, oldest: bytes) -> None:
        while True:
            removed, length = await self._store.run_script(
                self._stream.name, DROP_OLDER, [self._stream.key], oldest, _BY_NUMBER
            )
            self._removed(int(removed))
            self.report.length = int(length)
            if int(removed) < _BY_NUMBER or await self._out_of_time():
                return

    async def _ids_are_times(self, now: int) -> bool:
        """Whether no id is before the year 2000 or in the future; usually both questions find nothing."""
        key = self._stream.key
        early, late = await self._store.run_all(
            self._stream.name,
            ("XRANGE", key, "-", FIRST_TIME - 1, "COUNT", 1),
            ("XREVRANGE", key, "+", now + CLOCK_TOLERANCE, "COUNT", 1),
        )
        return not early and not late

    # --- bytes

    async def _fit_bytes(self, max_bytes: int) -> None:
        """Within the byte budget, a part at a time, as the memory that a part frees is not known before."""
        stream, report = self._stream, self.report
        before: int | None = None
        while True:
            report.bytes = used = await self._memory()
            if used <= max_bytes or report.length <= 1:
                stream.memory_stuck = False
                return
            if before is not None:
                # A tenth of the entries went and no memory with them: removed entries or groups hold it, or
                # the entries were small. Which it is, a sample of those that are left tells.
                stream.memory_stuck = used > before * 0.98
            measured = used
            if stream.memory_stuck or not (await self._store.node_limits(stream.name)).frees:
                report.bytes = used = await self._sampled_bytes()
                if used <= max_bytes:
                    self._note(_MEMORY_STAYS)
                    return
            length, removed = report.length, report.removed
            await self._cut_to(max(1, int(length * max(max_bytes / used, _BYTES_ROUND))))
            removed = report.removed - removed
            if removed == 0 or await self._out_of_time():
                # Nothing that may go: it is unread.
                return
            before = measured if removed > length * 0.1 else None

    async def _memory(self) -> int:
        """Bytes of the stream by the server's account; 0 when it does not exist."""
        return int(await self._run("MEMORY", "USAGE", self._stream.key, "SAMPLES", _MEMORY_SAMPLES) or 0)

    async def _sampled_bytes(self) -> int:
        """Bytes of the living entries, by some at points of equal distance between the first and last id."""
        name, key = self._stream.name, self._stream.key
        ends = await self._store.run_all(
            name, ("XRANGE", key, "-", "+", "COUNT", 1), ("XREVRANGE", key, "+", "-", "COUNT", 1)
        )
        if not ends[0]:
            return 0
        first, last = (_number(end[0][0]) for end in ends)
        points = [_entry_id(first + (last - first) * part // _SAMPLES) for part in range(_SAMPLES + 1)]
        found = await self._store.run_all(
            name, *(("XRANGE", key, point, "+", "COUNT", 1) for point in points)
        )
        sizes = [_entry_size(entry) for entries in found for entry in entries]
        return self.report.length * sum(sizes) // max(1, len(sizes))

    async def _cut_to(self, target: int) -> None:
        if target >= self.report.length:
            return
        if self._policy.keep_unread:
            await self._release_read(target)
            return
        removed = self.report.removed
        await self._shorten(target)
        if self.report.removed == removed:
            # Less than a node is above the target.
            await self._shorten(target, exact=True)

    # --- steps

    async def _xtrim(self, strategy: str, sign: str, bound: int | bytes, *option: str) -> tuple[int, int]:
        """One XTRIM: how many entries went, and how many there are now."""
        key = self._stream.key
        removed, length = await self._store.run_all(
            self._stream.name, ("XTRIM", key, strategy, sign, bound, *option), ("XLEN", key)
        )
        self._removed(int(removed))
        self.report.length = int(length)
        return int(removed), int(length)

    def _note(self, text: str) -> None:
        if text not in self.report.notes:
            self.report.notes.append(text)

    def _removed(self, count: int) -> None:
        self.report.removed += count
        # Also if this pass fails before its end.
        self._stream.foreign.ours |= count > 0
        self._counters.entries_trimmed += count
        self._stream.totals.trimmed += count

    async def _run(self, *command: Any) -> Any:
        return await self._store.run(self._stream.name, *command)

    async def _out_of_time(self) -> bool:
        """Whether the budget is spent; otherwise lets the loop and the server do other work first."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.report.finished = False
            return True
        await asyncio.sleep(0)
        return False


def _number(entry_id: bytes) -> int:
    """An id as one number, for comparing and for points in between."""
    milliseconds, sequence = parse_id(entry_id)
    return milliseconds << 64 | sequence


def _entry_id(number: int) -> bytes:
    return b"%d-%d" % (number >> 64, number & (1 << 64) - 1)


def _entry_size(entry: Any) -> int:
    """Bytes of an entry's id, names and values, as pipelines give it: (id, {name: value})."""
    _, fields = entry
    pairs = fields.items() if isinstance(fields, dict) else [(item, b"") for item in fields or ()]
    return 16 + sum(len(name) + len(value) for name, value in pairs)
