"""The settings of a SnapshotManager, checked by its constructor."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict

from snapdelta import Absolute, Encoder, Limits, Relative
from snapdelta._redis import client_problem
from snapdelta.errors import SnapshotSettingError, UsageError
from snapdelta.snapshots.keys import KEY_PREFIX, Keys

# Of times in seconds and of ratios: what is larger is a mistake.
_MOST = 10**9


# By column: a tuple of keys, or its text.
Tolerance: TypeAlias = dict[Any, Absolute | Relative]


class SnapshotOptions(TypedDict, total=False):
    """What SnapshotManager takes by name, for type checkers; SnapshotSettings says what each means."""

    key_prefix: str
    level: int
    default: Callable[[Any], Any] | None
    retained_fulls: int
    history: float
    history_frames: int
    history_bytes: int
    chain_ratio: float
    ttl: float | None
    command_timeout: float
    clock: Callable[[], float]
    validate: Callable[[dict[str, Any]], object] | None
    min_symbols: int
    max_removed_share: float | None
    tolerance: Tolerance | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSettings:
    """How a SnapshotManager writes. Times in seconds, sizes in bytes.

    Attributes:
        full_snapshot_interval: between two full frames; a late reader applies the deltas in between
        key_prefix: of the three keys of each name
        level: zstd's, 1 to 22
        default: called with each unsupported value; returns a supported one
        retained_fulls: least number of full frames in Redis (2 or more), each with the deltas after it
        history: how far back `at()`, `replay()` and a paused follower can read
        history_frames: most saves in the history
        history_bytes: most bytes of frames in the history, above `retained_fulls`; the writer makes a full
            frame early if a chain would exceed its share
        chain_ratio: the writer makes a full frame when the deltas since the last one are this many times as
        large
        ttl: expiry of the keys after the last save; None: never
        command_timeout: for one command, the client's own retries included
        clock: seconds, monotonic; decides when a full frame is due
        validate: called with each snapshot before it is read; if it raises, or returns False or a str (the
            reason), the save raises SnapshotRejectedError before any write
        min_symbols: refuse a snapshot with fewer symbols
        max_removed_share: refuse a snapshot that removes a larger share of the last save's symbols; None: any
        tolerance: {column: Absolute(...) or Relative(...)}: do not publish a number this near to the last
            published one; None: all states are exact
    """

    full_snapshot_interval: float = 300.0
    key_prefix: str = KEY_PREFIX
    level: int = 3
    default: Callable[[Any], Any] | None = None
    retained_fulls: int = 2
    history: float = 600.0
    history_frames: int = 1_000
    history_bytes: int = 24_000_000
    chain_ratio: float = 4.0
    ttl: float | None = None
    command_timeout: float = 5.0
    clock: Callable[[], float] = time.monotonic
    validate: Callable[[dict[str, Any]], object] | None = None
    min_symbols: int = 0
    max_removed_share: float | None = None
    tolerance: Tolerance | None = None

    def __post_init__(self) -> None:
        Keys.of(self.key_prefix, "default")
        _number("full_snapshot_interval", self.full_snapshot_interval, above=0)
        check_whole("level", self.level, 1, 22)
        check_whole("retained_fulls", self.retained_fulls, 2, 1_000)
        _number("history", self.history, least=0)
        check_whole("history_frames", self.history_frames, 2 * (self.retained_fulls + 1), 10**9)
        check_whole("history_bytes", self.history_bytes, 1, 10**15)
        _number("chain_ratio", self.chain_ratio, above=0)
        if self.ttl is not None:
            _number("ttl", self.ttl, least=1)
            if self.ttl <= self.full_snapshot_interval:
                raise SnapshotSettingError(
                    f"ttl must be longer than full_snapshot_interval ({self.full_snapshot_interval:g} s), "
                    f"not {self.ttl!r}"
                )
        check_timeout(self.command_timeout)
        if self.default is not None and not callable(self.default):
            raise SnapshotSettingError(f"default must be callable, not {self.default!r}")
        if not callable(self.clock) or not isinstance(self.clock(), (int, float)):
            raise SnapshotSettingError(f"clock must be callable and return seconds, not {self.clock!r}")
        if self.validate is not None and not callable(self.validate):
            raise SnapshotSettingError(f"validate must be callable, not {self.validate!r}")
        if inspect.iscoroutinefunction(self.validate):
            raise SnapshotSettingError("validate must not be asynchronous: it runs before the first await")
        check_whole("min_symbols", self.min_symbols, 0, 10**9)
        if self.max_removed_share is not None:
            _number("max_removed_share", self.max_removed_share, least=0)
            if self.max_removed_share > 1:
                raise SnapshotSettingError(
                    f"max_removed_share must be a share from 0 to 1, not {self.max_removed_share!r}"
                )
        if self.tolerance is not None:
            try:
                Encoder(tolerance=self.tolerance)
            except UsageError as error:
                raise SnapshotSettingError(str(error)) from error
            # Encoders that are made later have the same.
            object.__setattr__(self, "tolerance", self.tolerance.copy())

    @property
    def chain_frames(self) -> int:
        """The most saves of one full frame and the deltas after it."""
        return self.history_frames // (self.retained_fulls + 1)

    @property
    def chain_bytes(self) -> int:
        """The most bytes of one full frame and the deltas after it."""
        return self.history_bytes // (self.retained_fulls + 1)


def check_client(client: object) -> None:
    if (problem := client_problem("redis_client", client)) is not None:
        raise SnapshotSettingError(problem)


def check_timeout(value: float, name: str = "command_timeout") -> None:
    _number(name, value, above=0)


def check_limits(limits: Limits | None) -> None:
    """Raises SnapshotSettingError unless they are snapdelta.Limits, or None."""
    if limits is not None and not isinstance(limits, Limits):
        raise SnapshotSettingError(f"limits must be snapdelta.Limits, not {limits!r}")


def _number(name: str, value: object, *, above: float | None = None, least: float = -math.inf) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) <= _MOST:
        raise SnapshotSettingError(f"{name} must be a number up to {_MOST:,}, not {value!r}")
    if value < least or (above is not None and value <= above):
        limit = f"more than {above:g}" if above is not None else f"at least {least:g}"
        raise SnapshotSettingError(f"{name} must be {limit}, not {value!r}")


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Raises SnapshotSettingError unless it is a whole number within these bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise SnapshotSettingError(f"{name} must be a whole number from {least:,} to {most:,}, not {value!r}")
