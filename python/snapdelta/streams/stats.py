"""The manager's counters and health."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from snapdelta.health import Health


@dataclass(slots=True)
class Counters:
    """Totals since the manager was made.

    They exclude entries that XADD trims, because the server does not count those.
    """

    entries_written: int = 0  # acknowledged by the server, through xadd and xadd_many
    write_errors: int = 0  # calls of xadd and xadd_many that raised what Redis or the connection said
    trims: int = 0  # passes that ended without an error, by the task or by trim()
    trim_errors: int = 0  # passes that ended with an error
    entries_trimmed: int = 0  # removed by those passes and by writes at the ceiling, by the server's count
    unread_dropped: int = 0  # of them and of writes at the ceiling: entries that a group had not acknowledged
    exact_fallbacks: int = 0  # passes in which approximate trimming could not reach the bound
    discoveries: int = 0  # complete scans of the key space
    streams_discovered: int = 0  # streams that a scan found and the manager did not know
    callback_errors: int = 0  # calls of on_trim that raised or took too long


@dataclass(slots=True)
class PolicyTotals:
    """Totals of the streams of one policy: a stream's name, a pattern, or the default."""

    trimmed: int = 0  # entries removed since the manager was made
    unread_dropped: int = 0  # of them, unread by a consumer group
    streams: int = 0  # known now
    entries: int = 0  # after the last trim pass of each, and written by this manager since
    bytes: int = 0  # of memory, where the policy has max_bytes
    fullest: float = 0.0  # the fullest bound of the fullest stream; above 1 it does not hold
    foreign_trims: int = 0  # streams that another program trims as well


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHealth(Health):
    """The health of the background task and its streams. Times are UTC by this machine's clock.

    `failing` has the error of each stream or server ("server 127.0.0.1:6379") whose last attempt failed.
    """

    running: bool
    last_success: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    next_run: datetime | None
    failing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ManagerStats:
    """A copy of the counters, with the number of streams known and the task's health."""

    counters: Counters
    streams: int
    health: StreamHealth
