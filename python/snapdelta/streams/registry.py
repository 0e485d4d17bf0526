"""The process's stream manager."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from snapdelta._redis import AsyncRedis
from snapdelta.errors import StreamManagerError
from snapdelta.streams.manager import RedisStreamManager
from snapdelta.streams.policy import StreamPolicy
from snapdelta.streams.presets import SCANNER_POLICIES
from snapdelta.streams.scheduler import OnTrim

log = logging.getLogger("snapdelta.streams")

_manager: RedisStreamManager | None = None


class StreamOptions(TypedDict, total=False):
    """The keyword arguments of RedisStreamManager."""

    strict: bool | None
    discover: str | None
    protected: Sequence[str]
    discover_interval: float
    command_timeout: float
    time_budget: float
    on_trim: OnTrim | None


def initialize_stream_manager(
    redis: AsyncRedis,
    policies: Mapping[str, StreamPolicy] | str | Path | None = None,
    default: StreamPolicy | None = None,
    **options: Unpack[StreamOptions],
) -> RedisStreamManager:
    """Create the process's manager, with the arguments of RedisStreamManager; the caller calls `start()`.

    Without policies it has SCANNER_POLICIES, the bounds of the scanner's own streams; the caller's policies
    replace all of them: `{}` means none.

    The same arguments return the same manager until it is stopped. Other arguments raise StreamManagerError
    while it runs; a manager that does not run (a failed start-up, an ended loop) is replaced.
    """
    global _manager
    policies = SCANNER_POLICIES if policies is None else policies
    made = RedisStreamManager(redis, policies, default, **options)
    if _manager is not None and not _manager.stopped:
        if _manager.same_settings(made):
            return _manager
        if _manager.running:
            raise StreamManagerError(
                "the stream manager was initialised before, with another client or other settings; "
                "stop() it first, or use get_stream_manager()"
            )
        log.warning(
            "the earlier stream manager does not run; replacing it",
            extra={"event": "manager_replaced"},
        )
    _manager = made
    return made


def get_stream_manager() -> RedisStreamManager:
    """The process's manager. Raises StreamManagerError before initialize_stream_manager."""
    if _manager is None:
        raise StreamManagerError("no stream manager yet: call initialize_stream_manager(redis) at start-up")
    return _manager
