"""Bounded Redis streams: RedisStreamManager and its policies.

stream_manager = initialize_stream_manager(redis)
await stream_manager.start()                        # background trimming from here on
await stream_manager.xadd("snapshots:raw", data)    # no maxlen to remember
await stream_manager.stop()
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from snapdelta._redis import (
    REDIS_ERRORS,
    AsyncRedis,
    cancellations,
    client_problem,
    end_if_cancelled,
    evaluate,
)
from snapdelta._scripts import Script, pipelined
from snapdelta.errors import (
    ProtectedStreamError,
    StreamAccessError,
    StreamArgumentError,
    StreamPolicyError,
)
from snapdelta.snapshots.keys import KEY_PREFIX
from snapdelta.streams.field_codec import encode_fields
from snapdelta.streams.policy import PolicyBook, StreamPolicy
from snapdelta.streams.report import StreamInfo, describe
from snapdelta.streams.scheduler import OnTrim, TrimScheduler
from snapdelta.streams.scripts import HOLD_CEILING, MOST_VALUES, WRITE_UNDER_CEILING
from snapdelta.streams.settings_file import StreamSettings, load_settings
from snapdelta.streams.stats import Counters, ManagerStats, PolicyTotals, StreamHealth
from snapdelta.streams.store import StreamStore, access_error
from snapdelta.streams.trimmer import STEP, TrackedStream, Trimmer, TrimReport

log = logging.getLogger("snapdelta.streams")

Fields = Mapping[Any, Any]

# Streams that nothing names are remembered up to this number; the oldest are forgotten first.
_MOST_UNLISTED = 10_000
# A stream with max_bytes is trimmed early when this part of its budget has been written since the last
# pass.
_EARLY_PASS = 1 / 8


class RedisStreamManager:
    """Bounds each write by a policy, and trims in the background what other programs write.

    Args:
        redis: a redis.asyncio.Redis or RedisCluster; the caller closes it
        policies: {name or Redis glob: StreamPolicy}, or the path of a TOML file with a table [streams] or
            [tool.snapdelta.streams]; the most specific wins
        default: the policy of a stream that nothing lists (default: StreamPolicy(maxlen=1000))
        strict: refuse streams that nothing lists with UnlistedStreamError instead
        discover: a glob; the task also bounds streams that match it, by the default if no policy lists them;
            "*" is every stream of the server that is not protected. None: configured ones only
        protected: prefixes of keys that the manager never writes or trims: the prefix of SnapshotManager's
        keys
        discover_interval: seconds between two scans of the key space for patterns; without patterns it does
        not scan
        command_timeout: seconds that a command of the background task, trim() or info() may take
        time_budget: seconds that the background task spends on one stream before the others have their turn
        on_trim: called with a TrimReport after every trim pass of the background task; may be a coroutine
            function

    Raises StreamPolicyError on an impossible setting. The constructor sends nothing to Redis.
    """

    def __init__(
        self,
        redis: AsyncRedis,
        policies: Mapping[str, StreamPolicy] | str | Path | None = None,
        default: StreamPolicy | None = None,
        *,
        strict: bool | None = None,
        discover: str | None = None,
        protected: Sequence[str] = (KEY_PREFIX,),
        discover_interval: float = 60.0,
        command_timeout: float = 5.0,
        time_budget: float = 0.5,
        on_trim: OnTrim | None = None,
    ) -> None:
        if (problem := client_problem("redis", redis)) is not None:
            raise StreamPolicyError(problem)
        if policies is not None and not isinstance(policies, (str, Path, Mapping)):
            raise StreamPolicyError(
                f"policies must be a mapping of names to StreamPolicy or a path, not {policies!r}"
            )
        settings = (
            load_settings(policies)
            if isinstance(policies, (str, Path))
            else StreamSettings(dict(policies or {}))
        )
        _check(discover_interval=discover_interval, command_timeout=command_timeout, time_budget=time_budget)
        if isinstance(protected, str) or not all(isinstance(prefix, str) and prefix for prefix in protected):
            raise StreamPolicyError(f"protected must be a sequence of non-empty prefixes, not {protected!r}")
        strict = bool(settings.strict) if strict is None else strict
        discover = settings.discover if discover is None else discover
        if strict and discover is not None:
            raise StreamPolicyError(
                "strict and discover exclude each other: one refuses what the other adopts"
            )
        self._redis = redis
        self._encoder = redis.get_encoder()
        self._book = PolicyBook(
            settings.policies, default or settings.default or StreamPolicy(), strict=strict
        )
        self._protected = tuple(protected)
        for name in self._book.names:
            self._refuse_protected(name)
        self._counters = Counters()
        self._store = StreamStore(redis, command_timeout)
        self._trimmer = Trimmer(self._store, self._counters)
        self._streams: dict[str, TrackedStream] = {}
        self._totals: dict[str, PolicyTotals] = {}
        self._unlisted = 0
        self._stopped = False
        self._scheduler = TrimScheduler(
            self._store,
            self._trimmer,
            self._counters,
            patterns=[*self._book.patterns, *([discover] if discover is not None else [])],
            adopt=self._adopt,
            release=self._release,
            on_trim=on_trim,
            discover_interval=discover_interval,
            budget=time_budget,
        )
        self._arguments = (
            self._book,
            discover,
            self._protected,
            discover_interval,
            command_timeout,
            time_budget,
            on_trim,
        )
        for name in self._book.names:
            self._track(name)

    # --- life

    async def start(self) -> None:
        """Start the background task, unless it runs. Does not wait for the server."""
        self._stopped = False
        self._scheduler.start()

    async def stop(self, time_limit: float = 5.0) -> None:
        """End the background task within about `time_limit` seconds, unless it has ended.

        Writes still work, and each write bounds the length of its stream.
        """
        await self._scheduler.stop(time_limit)
        self._stopped = True

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def running(self) -> bool:
        """Whether the background task runs."""
        return self._scheduler.running

    @property
    def stopped(self) -> bool:
        """Whether `stop` was the last of `start` and `stop`."""
        return self._stopped

    def same_settings(self, other: RedisStreamManager) -> bool:
        """Whether both have the same client and the same arguments."""
        return self._redis is other._redis and self._arguments == other._arguments

    # --- writing

    async def xadd(self, stream: str, fields: Fields, maxlen: int | None = None, id: str = "*") -> Any:  # noqa: A002
        """Append one entry and bound the stream; returns its id as the client decodes (bytes or str).

        `maxlen` overrides the policy's for this write. Values: see `decode_fields`. The manager
        encodes the entry before the first await. Redis may have executed a write that failed or was cancelled
        (at least once, with the client's own retries).

        Raises UnsupportedTypeError, UnlistedStreamError, ProtectedStreamError, StreamArgumentError,
        StreamPolicyError (maxlen), and StreamAccessError and its kinds for what Redis refuses.
        """
        tracked = self._streams.get(stream) or self._track(stream)
        flat = self._encoded(tracked, fields)
        trim = await self._trim_options(tracked, maxlen)
        commands = _write_commands(tracked, trim, id, flat)
        if len(commands) > 1:
            return (await self._write_all(tracked, [flat], [commands]))[0]
        before = cancellations()
        try:
            answer = await self._send(*commands[0])
        except REDIS_ERRORS as error:
            self._counters.write_errors += 1
            raise access_error(stream, error, write=True) from error
        entry_id = self._written(tracked, [answer], flat)
        end_if_cancelled(before)
        return entry_id

    async def xadd_many(self, stream: str, rows: Iterable[Fields], maxlen: int | None = None) -> list[Any]:
        """Append the rows in order, in one pipeline; returns their ids.

        The manager encodes all rows before it sends any: a value that it cannot carry writes nothing. If
        Redis refuses some rows, it raises a StreamAccessError whose `ids` has the id of each written row,
        else None.
        """
        tracked = self._streams.get(stream) or self._track(stream)
        flats = [self._encoded(tracked, row) for row in rows]
        if not flats:
            return []
        trim = await self._trim_options(tracked, maxlen)
        return await self._write_all(
            tracked, flats, [_write_commands(tracked, trim, b"*", flat) for flat in flats]
        )

    async def _send(self, first: str | Script, *arguments: Any) -> Any:
        if isinstance(first, Script):
            return await evaluate(self._redis, first, *arguments)
        return await self._redis.execute_command(first, *arguments)

    async def _write_all(
        self, tracked: TrackedStream, flats: list[list[Any]], rows: list[list[tuple[Any, ...]]]
    ) -> list[Any]:
        """Send the commands of all rows in one pipeline; the rows' ids."""
        pipeline = self._redis.pipeline(transaction=False)
        for command in pipelined(chain.from_iterable(rows)):
            pipeline.execute_command(*command)
        before = cancellations()
        try:
            answers = await pipeline.execute(raise_on_error=False)
        except REDIS_ERRORS as error:
            self._counters.write_errors += 1
            raise access_error(tracked.name, error, [None] * len(flats), write=True) from error
        failed = next((answer for answer in answers if isinstance(answer, Exception)), None)
        coming = iter(answers)
        ids = [
            self._written(tracked, list(islice(coming, len(commands))), flat)
            for commands, flat in zip(rows, flats, strict=True)
        ]
        end_if_cancelled(before)
        if failed is not None:
            self._counters.write_errors += 1
            raise access_error(tracked.name, failed, ids, write=True) from failed
        return ids

    def _encoded(self, tracked: TrackedStream, fields: Fields) -> list[Any]:
        encoder = self._encoder
        flat = encode_fields(tracked.name, fields, encoder.encoding)
        if encoder.decode_responses and not tracked.told_undecodable:
            for name, value in zip(flat[::2], flat[1::2], strict=True):
                if type(value) is bytes and not _decodes(value, encoder.encoding, encoder.encoding_errors):
                    tracked.told_undecodable = True
                    log.warning(
                        "stream %r, field %r: these bytes are not %s; a client with decode_responses=True, "
                        "like this one, reads them only with NEVER_DECODE=True (docs/streams.md, Values)",
                        *(tracked.name, name, encoder.encoding),
                        extra={"event": "undecodable", "stream": tracked.name},
                    )
                    break
        return flat

    async def _trim_options(self, tracked: TrackedStream, maxlen: int | None) -> tuple[Any, ...]:
        """What XADD is told about trimming: nothing, or MAXLEN, = or ~ and a length."""
        policy = tracked.policy
        if maxlen is not None:
            if policy.keep_unread:
                raise StreamPolicyError(
                    f"stream {tracked.name!r}: maxlen= would remove what keep_unread keeps; change the policy"
                )
            policy = replace(policy, maxlen=maxlen)
            tracked.foreign.ours = True
        elif policy.keep_unread or policy.maxlen is None:
            return ()
        length = policy.maxlen
        assert length is not None
        if not policy.approximate and not tracked.settled:
            length = await self._settle(tracked, length)
        # Bytes, which the client need not encode for each row again.
        return (b"MAXLEN", b"~" if policy.approximate else b"=", b"%d" % length)

    async def _settle(self, tracked: TrackedStream, maxlen: int) -> int:
        """The exact length for a write to a stream whose backlog is not known.

        One XADD with `=` would drop a large backlog at once and hold the server up. So each write drops
        one step of it, beside the background task.
        """
        try:
            length = int(await self._store.run(tracked.name, "XLEN", tracked.key))
        except StreamAccessError:
            self._counters.write_errors += 1
            raise
        if length <= maxlen + STEP:
            tracked.settled = maxlen == tracked.policy.maxlen
            return maxlen
        self._trim_soon(tracked)
        return length - STEP

    def _written(self, tracked: TrackedStream, answers: list[Any], flat: list[Any]) -> Any:
        """Count what the answers to one row's commands say; its id, or None if it was not written."""
        answer = answers[0]
        if isinstance(answer, Exception):
            return None
        self._counters.entries_written += 1
        tracked.written_since_pass += 1
        if tracked.policy.max_bytes is not None:
            tracked.bytes_since_pass += sum(
                len(item) if isinstance(item, (str, bytes)) else 8 for item in flat
            )
            if tracked.bytes_since_pass > tracked.policy.max_bytes * _EARLY_PASS:
                tracked.bytes_since_pass = 0
                self._trim_soon(tracked)
        if tracked.policy.keep_unread:
            # The one of an entry of its own is the id alone.
            if len(answers) == 1:
                answer, dropped, unread = answer
            elif isinstance(answers[1], Exception):
                dropped = unread = 0
            else:
                dropped, unread = answers[1]
            self._counters.entries_trimmed += dropped
            self._counters.unread_dropped += unread
            tracked.totals.trimmed += dropped
            tracked.totals.unread_dropped += unread
            if dropped:
                tracked.foreign.ours = True
                # What has been read may go, before more that has not must.
                self._trim_soon(tracked)
        return answer

    def _trim_soon(self, tracked: TrackedStream) -> None:
        # Unless it was forgotten during the write.
        if self._streams.get(tracked.name) is tracked:
            self._scheduler.soon(tracked)

    # --- trimming and describing

    async def trim(self, stream: str) -> TrimReport:
        """Trim the stream to its policy now, in steps of a few milliseconds, however long it takes."""
        return await self._trimmer.trim(self._streams.get(stream) or self._track(stream))

    async def trim_all(self) -> dict[str, TrimReport | StreamAccessError]:
        """`trim` every known stream. The result maps each to its report, or to its error."""
        results: dict[str, TrimReport | StreamAccessError] = {}
        for name in list(self._streams):
            try:
                results[name] = await self.trim(name)
            except StreamAccessError as error:
                results[name] = error
        return results

    async def info(self, stream: str) -> StreamInfo:
        """The stream's size and its policy; a missing stream has length 0."""
        tracked = self._streams.get(stream)
        return await describe(self._store, stream, tracked.policy if tracked else self._book.of(stream))

    async def info_all(self) -> dict[str, StreamInfo]:
        """`info` of every known stream: those listed by name, written through the manager, or found."""
        return {name: await self.info(name) for name in sorted(self._streams)}

    def stats(self) -> ManagerStats:
        """A copy of the counters, the number of known streams and the health; sends nothing to Redis."""
        return ManagerStats(replace(self._counters), len(self._streams), self.health())

    def totals(self) -> dict[str, PolicyTotals]:
        """The totals of the streams of each policy, by its name, pattern or "default"."""
        totals = {
            label: PolicyTotals(each.trimmed, each.unread_dropped)
            for label, each in list(self._totals.items())
        }
        # A copy: metrics are read from a thread of their own.
        for tracked in list(self._streams.values()):
            each = totals[self._book.label(tracked.name)]
            each.streams += 1
            each.foreign_trims += tracked.foreign.problem is not None
            each.fullest = max(each.fullest, tracked.fullest())
            each.entries += tracked.entries()
            if tracked.report is not None:
                each.bytes += tracked.report.bytes or 0
        return totals

    def health(self) -> StreamHealth:
        """The health of the background task: its last success and error, and its next run.

        Degraded: a pass over a stream or server failed, another program trims a stream below its bound, or
        unread entries were dropped or are about to be. Failed: the task does not run. Sends nothing to Redis.
        """
        warnings = (warning for tracked in list(self._streams.values()) for warning in tracked.warnings())
        return self._scheduler.health(list(warnings))

    # --- which streams are known

    def _refuse_protected(self, stream: str) -> None:
        for prefix in self._protected:
            if stream.startswith(prefix):
                raise ProtectedStreamError(
                    f"stream {stream!r}: keys that begin with {prefix!r} hold snapshots, and a "
                    "trim would break their chains; use another name, or set protected="
                )

    def _track(self, stream: str) -> TrackedStream:
        """Remember the stream and plan its first trim pass.

        Raises UnlistedStreamError, ProtectedStreamError, StreamArgumentError.
        """
        if not isinstance(stream, str) or not stream:
            raise StreamArgumentError(f"a stream's name must be a non-empty str, not {stream!r}")
        self._refuse_protected(stream)
        listed = self._book.listed(stream) is not None
        tracked = TrackedStream.of(stream, self._book.of(stream), listed=listed)
        tracked.totals = self._totals.setdefault(self._book.label(stream), PolicyTotals())
        if not listed:
            self._make_room()
            self._unlisted += 1
        self._streams[stream] = tracked
        # Soon, and not all at once.
        self._scheduler.schedule(tracked, random.uniform(0, min(1.0, tracked.policy.trim_interval)))
        return tracked

    def _make_room(self) -> None:
        if self._unlisted >= _MOST_UNLISTED:
            oldest = next(tracked for tracked in self._streams.values() if not tracked.listed)
            self._forget(oldest)

    def _forget(self, tracked: TrackedStream) -> None:
        del self._streams[tracked.name]
        tracked.due = None
        self._unlisted -= not tracked.listed

    def _adopt(self, stream: str) -> bool:
        """Whether a stream that a scan found is new to the manager, and now known."""
        # Redis allows a key without a name; xadd does not.
        if not stream or stream in self._streams or stream.startswith(self._protected):
            return False
        self._track(stream)
        return True

    def _release(self, tracked: TrackedStream) -> bool:
        """A trim pass found no entries: forget the stream unless it is listed by name; whether it went."""
        if tracked.name in self._book.names:
            return False
        if self._streams.get(tracked.name) is tracked:
            self._forget(tracked)
        return True


def _write_commands(
    tracked: TrackedStream, trim: tuple[Any, ...], entry_id: str | bytes, flat: list[Any]
) -> list[tuple[Any, ...]]:
    """What writes one entry within its policy: commands, or scripts with their arguments."""
    key, ceiling = tracked.key, tracked.policy.ceiling
    if ceiling is None:
        return [("XADD", key, *trim, entry_id, *flat)]
    if len(flat) <= MOST_VALUES:
        return [(WRITE_UNDER_CEILING, 1, key, ceiling, entry_id, *flat)]
    return [("XADD", key, entry_id, *flat), (HOLD_CEILING, 1, key, ceiling)]


def _decodes(value: bytes, encoding: str, errors: str) -> bool:
    try:
        value.decode(encoding, errors)
    except UnicodeDecodeError:
        return False
    return True


def _check(**seconds: float) -> None:
    for name, value in seconds.items():
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise StreamPolicyError(f"{name} must be a positive number of seconds, not {value!r}")
