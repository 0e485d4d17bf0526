"""The writer of one name: it publishes captured states in call order, each at its own position.

It also decides when to write a full frame with a delta.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, TypedDict, TypeVar

from snapdelta import CapturedFrame, Decoder, Encoder, Limits
from snapdelta._redis import AsyncRedis
from snapdelta.errors import (
    SnapshotBusyError,
    SnapshotMemoryError,
    SnapshotRejectedError,
    SnapshotTypeError,
    SnapshotUpdateError,
    UnsupportedVersionError,
    UsageError,
    WriterSupersededError,
)
from snapdelta.snapshots.handover import Handover, position_of
from snapdelta.snapshots.keys import LAYOUT, Keys
from snapdelta.snapshots.materialize import materialize
from snapdelta.snapshots.mixed_lists import MixedLists
from snapdelta.snapshots.scripts import CLAIM, DELETE, PUBLISH
from snapdelta.snapshots.settings import SnapshotSettings
from snapdelta.snapshots.stats import SaveCounters
from snapdelta.snapshots.store import SnapshotStore
from snapdelta.snapshots.validation import Validator

log = logging.getLogger("snapdelta.snapshots")

Result = TypeVar("Result")

# A reader's request for a full frame is granted at most once in so many saves.
_SAVES_BETWEEN_REQUESTS = 10
# Reasons of an undisturbed writer.
_ROUTINE = (None, "interval", "chain", "forced", "larger")
# Refusals before the first write of a publish: nothing of it was done, nor will be.
_NOTHING_WRITTEN = (SnapshotMemoryError, SnapshotTypeError, UnsupportedVersionError)
# Our own frames need no bound.
_UNBOUNDED = Limits(2**62)
_DEFAULT_LIMIT = Limits().max_bytes


class SaveResult(TypedDict):
    """What a save wrote. Sizes in bytes, times in milliseconds.

    `type` is "full" if the save wrote a full frame, with or without a delta; `reason` says why, and is None
    for a delta. `compressed_size` counts all written bytes. `added`, `removed` and `updated` count symbols
    compared with the last save. `held_cells` counts numbers that keep the value published last (`tolerance`).
    `required_bytes` are the bytes that a reader's limits must allow.
    `capture_ms` is the time that the event loop was blocked: by one walk over the snapshot, or two.
    """

    type: Literal["full", "delta"]
    compressed_size: int
    sequence: int
    epoch: int
    reason: str | None
    symbols: int
    added: int
    removed: int
    updated: int
    held_cells: int
    required_bytes: int
    capture_ms: float
    encode_ms: float
    write_ms: float


@dataclass(frozen=True, slots=True)
class Columns:
    """A snapshot as columns, and which of them has the symbols."""

    data: object
    symbol: str


@dataclass(slots=True)
class _Save:
    """One save on its way.

    Only this holds the captured frame: a traceback would keep it alive, and the encoder busy.
    """

    captured: CapturedFrame | None
    removed: list[str] | None  # of an update, which is captured as its changes; None for a whole snapshot
    overlapping: bool  # captured by an encoder of its own, because ours was in use
    forced: bool
    check: bool  # whether a broken feed is refused
    capture_ms: float = 0.0
    begun: bool = False


@dataclass(slots=True)
class _Frames:
    """What is to be published of one state; one of the two may be empty."""

    base: int
    delta: bytes
    full: bytes
    reason: str
    # Where the base is, if another writer published it.
    handover: str = ""


@dataclass(slots=True)
class _Chain:
    """What has been sent since the last full frame, and that."""

    full_at: float
    full_size: int
    symbols: int
    frames: int = 0
    bytes: int = 0


def _capture_whole(encoder: Encoder, records: dict[str, Any] | Columns) -> CapturedFrame:
    if isinstance(records, Columns):
        return encoder.capture_columns(records.data, symbol=records.symbol)
    return encoder.capture(records)


class SnapshotWriter:
    """Writes one name. `save` reads the state at once and returns the task that does the rest."""

    def __init__(self, redis: AsyncRedis, keys: Keys, settings: SnapshotSettings, executor: Executor) -> None:
        self.counters = SaveCounters()
        self._name = keys.name
        self._settings = settings
        self._executor = executor
        self._store = SnapshotStore(redis, keys, settings.command_timeout)
        self._handover = Handover(self._store)
        self._identity = secrets.token_hex(16)
        self._encoder = self._new_encoder()
        self._epoch: int | None = None
        # The number of the last frame that was made, sent or not.
        self._sequence = 0
        # Whether the outcome of the last attempt is unknown.
        self._outcome_unknown = False
        # Whether Redis has ever accepted one of ours.
        self._published = False
        self._chain: _Chain | None = None
        self._resync_requested = False
        self._saves_since_request = _SAVES_BETWEEN_REQUESTS
        self._superseded: str | None = None
        self._readable = True
        self._mixed_lists = MixedLists()
        self._validator = Validator(keys.name, settings)
        self._turn = asyncio.Lock()
        self._saves: dict[asyncio.Task[SaveResult], _Save] = {}

    # --- from outside

    @property
    def tasks(self) -> list[asyncio.Task[SaveResult]]:
        """Saves that run or wait."""
        return list(self._saves)

    def save(
        self, snapshot: dict[str, Any] | Columns, *, force_full: bool, check: bool
    ) -> asyncio.Task[SaveResult]:
        """Capture the state, now; the task publishes it.

        Raises UnsupportedTypeError, SnapshotBusyError, SnapshotRejectedError, WriterSupersededError; then it
        has only counted the failure.
        """
        return self._start(snapshot, None, force_full, check)

    def update(
        self, changes: dict[str, Any], removed: Iterable[str], *, check: bool
    ) -> asyncio.Task[SaveResult]:
        """The same for the last state with some records added, replaced or removed.

        Also raises SnapshotUpdateError; if the update had to wait, the task raises it.
        """
        return self._start(changes, list(removed), False, check)

    def _start(
        self, records: dict[str, Any] | Columns, removed: list[str] | None, forced: bool, check: bool
    ) -> asyncio.Task[SaveResult]:
        try:
            save = self._captured(records, removed, forced, check)
        except BaseException as error:
            self._failed(error)
            raise
        task = asyncio.create_task(self._run(save), name=f"snapdelta-save-{self._name}")
        self._saves[task] = save
        task.add_done_callback(self._saves.pop)
        return task

    def _captured(
        self, records: dict[str, Any] | Columns, removed: list[str] | None, forced: bool, check: bool
    ) -> _Save:
        self._check_not_superseded()
        if len(self._saves) > 1:
            raise SnapshotBusyError(
                f"snapshots {self._name!r}: one save is running and another one waits; await them, "
                "or save less often; if they are several lists, give each its own name="
            )
        if check and removed is None and not isinstance(records, Columns):
            self._validator.check(records)
        start = perf_counter()
        overlapping = bool(self._saves)
        save = _Save(None, removed, overlapping, forced, check)
        save.captured = (
            _capture_whole(self._new_encoder(), records) if overlapping else self._capture(records, removed)
        )
        save.capture_ms = (perf_counter() - start) * 1e3
        if not overlapping:
            self._check_removed(save)
        return save

    def _capture(self, records: dict[str, Any] | Columns, removed: list[str] | None) -> CapturedFrame:
        """A whole snapshot, or an update of the state that our own encoder has."""
        if removed is None:
            return _capture_whole(self._encoder, records)
        assert not isinstance(records, Columns)
        try:
            return self._encoder.capture_update(records, removed)
        except UsageError as error:
            raise self._no_update(str(error)) from error

    def _no_update(self, why: str) -> SnapshotUpdateError:
        return SnapshotUpdateError(f"snapshots {self._name!r}: no update: {why}")

    def _check_removed(self, save: _Save) -> None:
        """Raises SnapshotRejectedError for a save that our own encoder has captured; it is dropped."""
        if not save.check:
            return
        assert save.captured is not None
        refused = self._validator.refused(save.captured.symbols, save.captured.added, save.captured.removed)
        if refused is not None:
            # The encoder's state is again that of the save before.
            save.captured = None
            raise refused

    def abandon(self, task: asyncio.Task[SaveResult]) -> None:
        """Nobody waits for this save any more: drop it if it has not begun, else let it finish."""
        save = self._saves.get(task)
        if save is not None and not save.begun:
            task.cancel()
        # Its error was logged; asyncio would complain that nobody looked at it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def delete(self) -> bool:
        """Remove the name's keys; returns whether any existed. Raises WriterSupersededError."""
        self._check_not_superseded()
        epoch = "" if self._epoch is None else str(self._epoch)
        answer = await self._store.script(DELETE, LAYOUT, epoch, self._identity, rows=True)
        self._note_superseded(answer)
        return int(answer[1]) > 0

    # --- one save

    async def _run(self, save: _Save) -> SaveResult:
        try:
            async with self._turn:
                save.begun = True
                self._check_not_superseded()
                result = await self._save(save)
        except BaseException as error:
            self._failed(error)
            raise
        finally:
            save.captured = None
        self.counters.count(result, self._chain.frames if self._chain is not None else 0)
        self._check_readable(result["required_bytes"])
        if self._mixed_lists.note(result):
            log.warning(
                "snapshots %r: several saves in a row replace most symbols; if these are several "
                "lists, pass name= to save_snapshot, so that each has its own chain",
                self._name,
                extra={"event": "mixed_lists", "snapshots": self._name},
            )
        log.log(
            logging.DEBUG if result["reason"] in _ROUTINE else logging.INFO,
            "snapshots %r: %s %d-%d, %d bytes%s, %d symbols, %d changed",
            self._name,
            result["type"],
            result["epoch"],
            result["sequence"],
            result["compressed_size"],
            f" ({result['reason']})" if result["reason"] else "",
            result["symbols"],
            result["added"] + result["removed"] + result["updated"],
            extra={"event": "save", "snapshots": self._name, **result},
        )
        return result

    async def _save(self, save: _Save) -> SaveResult:
        base = await self._begin()
        if base is not None and save.removed is not None:
            raise self._no_update("this manager has not saved the name yet; save a whole snapshot first")
        if save.overlapping or base is not None:
            await self._recapture(save, base)
        start = perf_counter()
        frames = await self._frames(save, "" if base is None else str(position_of(base)))
        encoded = perf_counter()
        captured = save.captured
        assert captured is not None
        answer = await self._publish(frames, captured.symbols)
        written = perf_counter()
        self._record(answer, frames)
        return SaveResult(
            type="full" if frames.full else "delta",
            compressed_size=len(frames.delta) + len(frames.full),
            sequence=self._sequence,
            epoch=self._encoder.epoch,
            reason=frames.reason or None,
            symbols=captured.symbols,
            added=captured.added,
            removed=captured.removed,
            updated=captured.updated,
            held_cells=captured.held_cells,
            required_bytes=self._encoder.required_bytes or 0,
            capture_ms=save.capture_ms,
            encode_ms=(encoded - start) * 1e3,
            write_ms=(written - encoded) * 1e3,
        )

    async def _begin(self) -> Decoder | None:
        """Until a publish may have been accepted: claim an epoch; the state to go on from, if any."""
        if self._epoch is None:
            await self._claim()
        if self._published or self._outcome_unknown:
            return None
        return await self._handover.base()

    async def _recapture(self, save: _Save, base: Decoder | None) -> None:
        """Have our own encoder capture what was captured while it was in use, or had no base yet."""
        assert save.captured is not None
        if base is not None:
            # The first one may be at work in a thread when we are cancelled.
            self._renew_encoder()
        decoder = Decoder(_UNBOUNDED)
        frame = await self._in_thread(save.captured.finish)
        await self._in_thread(lambda: decoder.apply(frame))
        snapshot = await materialize(decoder)
        if base is not None:
            self._encoder.resume(base)
        start = perf_counter()
        save.captured = self._capture(snapshot, save.removed)
        save.capture_ms += (perf_counter() - start) * 1e3
        try:
            self._check_removed(save)
        except SnapshotRejectedError:
            # The next save reads its base again.
            if base is not None:
                self._renew_encoder()
            raise

    async def _claim(self) -> None:
        answer = await self._store.script(CLAIM, LAYOUT, "0")
        epoch = int(answer[1])
        self._encoder.begin(epoch)
        self._epoch = epoch

    # --- frames

    async def _frames(self, save: _Save, handover: str) -> _Frames:
        encoder, captured = self._encoder, save.captured
        assert captured is not None
        requested, base = captured.kind, encoder.digest
        frame = await self._encode(captured.finish)
        self._sequence = encoder.sequence
        if captured.kind == "full":
            if requested == "delta":
                reason = "verify_failed"
            else:
                reason = "outcome_unknown" if self._published or self._outcome_unknown else "first"
            return _Frames(base, b"", frame, reason, handover)
        due = "handover" if handover else self._due(save, frame)
        if due is None and not self._may_exceed_full(frame, captured.symbols):
            return _Frames(base, frame, b"", "")
        full = await self._encode(encoder.full)
        if due in (None, "handover") and len(full) <= len(frame):
            return _Frames(base, b"", full, "larger", handover)
        return _Frames(base, frame, full if due else b"", due or "", handover)

    def _due(self, save: _Save, delta: bytes) -> str | None:
        """Why a full frame goes beside this delta."""
        chain, settings = self._chain, self._settings
        if save.forced:
            return "forced"
        # Without a chain Redis will ask for a full frame by itself.
        if chain is None:
            return None
        if settings.clock() - chain.full_at >= settings.full_snapshot_interval:
            return "interval"
        if self._resync_requested and self._saves_since_request >= _SAVES_BETWEEN_REQUESTS:
            return "requested"
        grown = chain.bytes + len(delta)
        # Small shares must not make a full frame of every save.
        share = max(settings.chain_bytes - chain.full_size, chain.full_size)
        if (
            grown > min(settings.chain_ratio * chain.full_size, share)
            or chain.frames + 2 > settings.chain_frames
        ):
            return "chain"
        return None

    def _may_exceed_full(self, delta: bytes, symbols: int) -> bool:
        """Whether a full frame, by the size of the last one, may be smaller than this delta."""
        chain = self._chain
        if chain is None:
            return False
        return 2 * len(delta) * max(1, chain.symbols) > chain.full_size * symbols

    async def _encode(self, code: Callable[[], bytes]) -> bytes:
        """A frame of our encoder; when that fails or is cancelled, the encoder begins anew."""
        try:
            return await self._in_thread(code)
        except BaseException:
            self._renew_encoder()
            raise

    async def _in_thread(self, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def _renew_encoder(self) -> None:
        self._encoder = self._new_encoder()
        if self._epoch is not None:
            self._encoder.begin(self._epoch, self._sequence)

    def _new_encoder(self) -> Encoder:
        settings = self._settings
        return Encoder(
            level=settings.level, default=settings.default, verify=True, tolerance=settings.tolerance
        )

    # --- publishing

    async def _publish(self, frames: _Frames, symbols: int) -> list[bytes]:
        """Have Redis accept the state; `frames` has afterwards what was written, and why."""
        outcome_unknown, self._outcome_unknown = self._outcome_unknown, True
        if outcome_unknown and not frames.delta:
            frames.reason = "outcome_unknown"
        behind = "outcome_unknown" if outcome_unknown or frames.reason == "outcome_unknown" else "head_behind"
        try:
            answer = await self._send(frames, symbols, behind)
            if answer[0] == b"NEEDFULL":
                reason = answer[1].decode()
                if reason == "head_lost" and not self._published:
                    reason = "first"
                full = await self._encode(self._encoder.full)
                frames.delta, frames.full, frames.reason, frames.handover = b"", full, reason, ""
                answer = await self._send(frames, symbols, behind)
        except _NOTHING_WRITTEN:
            if not self._published and not outcome_unknown:
                # Nothing of ours is there: the next save reads its base again.
                self._outcome_unknown = False
                self._renew_encoder()
            raise
        self._outcome_unknown = False
        self._note_superseded(answer)
        return answer

    async def _send(self, frames: _Frames, symbols: int, behind: str) -> list[bytes]:
        settings, encoder = self._settings, self._encoder
        # It may be written even if we never hear of it.
        if frames.full:
            self._chain = _Chain(settings.clock(), len(frames.full), symbols)
        elif self._chain is not None:
            self._chain.frames += 1
            self._chain.bytes += len(frames.delta)
        return await self._store.script(
            PUBLISH,
            LAYOUT,
            str(encoder.epoch),
            str(encoder.sequence),
            self._identity,
            f"{frames.base:016x}",
            f"{encoder.digest:016x}",
            frames.delta,
            frames.full,
            frames.reason,
            str(settings.retained_fulls),
            str(int(settings.history * 1000)),
            str(settings.history_frames - settings.chain_frames),
            str(settings.history_bytes - settings.chain_bytes),
            str(int((settings.ttl or 0) * 1000)),
            frames.handover,
            behind,
        )

    def _record(self, answer: list[bytes], frames: _Frames) -> None:
        """Redis has accepted it: remember what that means for the next save."""
        self._published = True
        kind, _, resync_request, reason = answer
        if frames.full:
            if kind != b"WRITTEN":
                frames.reason = reason.decode()
            if kind == b"RESTART":
                frames.delta = b""
            if self._resync_requested:
                self._saves_since_request = 0
            self._resync_requested = False
        self._resync_requested = self._resync_requested or bool(resync_request)
        self._saves_since_request += 1

    # --- inside

    def _check_readable(self, required: int) -> None:
        """Warn, once until that changes, that a reader with default limits refuses what was saved."""
        readable = required <= _DEFAULT_LIMIT
        if self._readable and not readable:
            log.warning(
                "snapshots %r: readers need %d bytes, more than the default limit of %d; "
                "give them limits=snapdelta.Limits(%d) or more",
                self._name,
                required,
                _DEFAULT_LIMIT,
                required,
                extra={"event": "limit", "snapshots": self._name, "required_bytes": required},
            )
        self._readable = readable

    def _note_superseded(self, answer: list[bytes]) -> None:
        if answer[0] == b"SUPERSEDED":
            self._superseded = answer[1].decode()
            self.counters.superseded = True
            self._check_not_superseded()

    def _check_not_superseded(self) -> None:
        if self._superseded is not None:
            raise WriterSupersededError(
                f"snapshots {self._name!r}: a later writer (epoch {self._superseded}) owns the name now; "
                "stop this writer, or make a new SnapshotManager to take the name over"
            )

    def _failed(self, error: BaseException) -> None:
        """Count a save that failed, and say so in one line."""
        text = str(error).removeprefix(f"snapshots {self._name!r}: ")
        said = " ".join(f"{type(error).__name__}: {text}".split())
        self.counters.count_failure(error, said)
        extra = {"event": "save_failed", "snapshots": self._name, "error": type(error).__name__}
        if (reason := getattr(error, "reason", None)) is not None:
            extra["reason"] = str(reason)
        log.warning("snapshots %r: a save failed: %s", self._name, said, extra=extra)
