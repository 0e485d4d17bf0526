"""The counters of a manager for each name, and those of readers and mirrors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from snapdelta.errors import (
    SnapshotBusyError,
    SnapshotClosedError,
    SnapshotDamagedError,
    SnapshotRejectedError,
    SnapshotUnavailableError,
)
from snapdelta.health import Health, status_of
from snapdelta.snapshots.keys import StreamPosition
from snapdelta.snapshots.update import Update

log = logging.getLogger("snapdelta.snapshots")

_PHASES = ("capture", "encode", "write")
# The weight of the newest interval in the usual one.
_NEWEST = 0.2
# A save too many, or one that nobody waits for, says nothing of the others.
_DROPPED = (SnapshotBusyError, SnapshotClosedError, asyncio.CancelledError)
# Reasons of resyncs that are counted apart.
_MOST_REASONS = 30


@dataclass(slots=True)
class SaveCounters:
    """Totals of one name since its first save by this manager."""

    saved: int = 0  # saves that Redis accepted
    failed: int = 0  # saves that raised, or were dropped before they began
    bytes_written: int = 0  # of frames
    fulls: dict[str, int] = field(default_factory=dict)  # full frames, by reason
    rejected: dict[str, int] = field(default_factory=dict)  # of those that failed: refused, by setting
    held_cells: int = 0  # cells that kept the number published last, over all saves
    seconds: dict[str, float] = field(default_factory=dict)  # of successful saves: capture, encode, write
    symbols: int = 0  # in the last snapshot that was saved
    chain_frames: int = 0  # deltas since the last full frame
    last_save: float | None = None  # when the last one succeeded, in seconds since 1970
    interval: float | None = None  # the usual number of seconds from save to save
    # Since the last save that succeeded, without refused snapshots, and saves that were dropped.
    failures_in_a_row: int = 0
    last_error: str | None = None  # of the last save, if that failed or was refused
    passing: bool = True  # whether that error ends without anybody's help
    superseded: bool = False  # a later writer has taken the name over

    def copy(self) -> SaveCounters:
        """The counters of this moment."""
        return replace(
            self, fulls=self.fulls.copy(), rejected=self.rejected.copy(), seconds=self.seconds.copy()
        )

    def count(self, result: Mapping[str, Any], chain_frames: int) -> None:
        """Count a save that Redis accepted."""
        now = time.time()
        if self.last_save is not None:
            since = max(0.0, now - self.last_save)
            self.interval = (
                since if self.interval is None else self.interval + _NEWEST * (since - self.interval)
            )
        self.saved += 1
        self.bytes_written += result["compressed_size"]
        self.held_cells += result["held_cells"]
        if (reason := result["reason"]) is not None:
            self.fulls[reason] = self.fulls.get(reason, 0) + 1
        for phase in _PHASES:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + result[f"{phase}_ms"] / 1e3
        self.symbols, self.chain_frames, self.last_save = result["symbols"], chain_frames, now
        self.failures_in_a_row, self.last_error = 0, None

    def count_failure(self, error: BaseException, said: str) -> None:
        """Count a save that raised."""
        self.failed += 1
        if isinstance(error, _DROPPED):
            return
        self.last_error = said
        if isinstance(error, SnapshotRejectedError):
            # The setting has done its work: what is wrong is the feed.
            self.rejected[error.reason] = self.rejected.get(error.reason, 0) + 1
            return
        self.failures_in_a_row += 1
        self.passing = isinstance(error, SnapshotUnavailableError)


@dataclass(slots=True)
class ReadCounters:
    """What a reader has returned, by `latest` and all its `follow`."""

    updates: int = 0  # of latest and follow
    records: int = 0  # that get has found, or not
    past_states: int = 0  # of at and replay
    resyncs: dict[str, int] = field(default_factory=dict)  # updates that may have missed states, by reason
    lag: float = 0.0  # of the last update, in seconds
    symbols: int = 0  # in it
    timestamp: float | None = None  # when Redis accepted it, in seconds since 1970
    last_error: str | None = None  # of the last call, if that failed
    passing: bool = True  # whether that error ends without anybody's help

    def copy(self) -> ReadCounters:
        """The counters of this moment."""
        return replace(self, resyncs=self.resyncs.copy())

    def count(self, name: str, update: Update) -> None:
        """Count an update that a caller got."""
        resync = (update.reason or "unknown") if update.resynced else None
        position = StreamPosition(update.epoch, update.sequence)
        self.count_state(name, position, update.timestamp, update.lag, len(update.snapshot), resync)

    def count_state(
        self,
        name: str,
        position: StreamPosition,
        timestamp: float,
        lag: float,
        symbols: int,
        resync: str | None,
    ) -> None:
        """Count a returned state; `resync`: why the reader may have missed states before it."""
        self.updates += 1
        self.lag, self.timestamp, self.symbols = lag, timestamp, symbols
        self.last_error = None
        if resync is None:
            return
        reason = resync
        # It comes from Redis, and is a label: no more kinds than a few.
        if reason not in self.resyncs and len(self.resyncs) >= _MOST_REASONS:
            reason = "other"
        self.resyncs[reason] = self.resyncs.get(reason, 0) + 1
        log.info(
            *("snapshots %r: resynced at %s (%s)", name, position, resync),
            extra={
                "event": "resync",
                "snapshots": name,
                "epoch": position.epoch,
                "sequence": position.sequence,
                "reason": resync,
            },
        )

    def health(self, place: str, waits: Iterable[str], max_age: float | None) -> Health:
        """The health by these counters; `waits`: the errors for which subscriptions wait for the server."""
        failed: list[str] = []
        degraded: list[str] = []
        if self.last_error is not None:
            (degraded if self.passing else failed).append(f"{place}: {self.last_error}")
        degraded += [f"{place}: a subscription waits for the server: {error}" for error in waits]
        if max_age is not None and self.timestamp is not None:
            age = time.time() - self.timestamp
            if age > max_age:
                degraded.append(f"{place}: the last update is {age:.0f} s old")
        return status_of(failed, degraded)

    def count_failure(self, error: BaseException) -> None:
        """Note what the last call raised."""
        self.last_error = f"{type(error).__name__}: {error}"
        self.passing = isinstance(error, (SnapshotUnavailableError, SnapshotDamagedError))


@dataclass(slots=True)
class MirrorCounters:
    """Totals of one mirror since it was made."""

    updates: int = 0  # states written from the one before
    rebuilds: int = 0  # states written as a whole
    rows_written: int = 0
    rows_removed: int = 0  # by updates
    bytes_written: int = 0  # JSON texts of rows and plain key
    failed: int = 0  # tries that Redis refused or did not answer
    timestamp: float | None = None  # when Redis accepted the state of the rows, in seconds since 1970
    last_error: str | None = None  # of the last try, if that failed
    passing: bool = True  # whether that error ends without anybody's help

    def count_failure(self, error: BaseException, *, passing: bool) -> None:
        """Count a try that failed."""
        self.failed += 1
        self.last_error, self.passing = f"{type(error).__name__}: {error}", passing
