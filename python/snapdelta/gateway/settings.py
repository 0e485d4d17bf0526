"""The settings of a Gateway, checked by its constructor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from snapdelta import Limits
from snapdelta.snapshots.keys import KEY_PREFIX
from snapdelta.snapshots.settings import check_limits, check_timeout, check_whole

_MOST = 10**9


class GatewayOptions(TypedDict, total=False):
    """What Gateway takes by name, for type checkers; GatewaySettings says what each means."""

    key_prefix: str
    limits: Limits | None
    command_timeout: float
    max_clients: int
    max_requests: int
    max_symbols: int
    max_queue_frames: int
    max_queue_bytes: int
    history_frames: int
    history_bytes: int
    full_interval: float
    send_timeout: float
    heartbeat: float
    authorize_timeout: float
    shutdown_timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """What a Gateway allows. Times in seconds, sizes in bytes.

    key_prefix       the same as the writer's
    limits           the bytes that one frame may use in the gateway (snapdelta.Limits, 1 GiB by default)
    command_timeout  for one command of Redis, the client's own retries included
    max_clients      open WebSockets at the same time; another one gets 503
    max_requests     GETs of snapshots and records at the same time; another one gets 503
    max_symbols      symbols that `?symbols=` may name
    max_queue_frames deltas that a client may be behind, and
    max_queue_bytes  their bytes, before it gets one composed delta, or a full frame
    history_frames   most states in the log from which a client can resume, and
    history_bytes    most bytes of their deltas
    full_interval    least time between two full frames of a name
    send_timeout     time for a client to read earlier messages, before it is disconnected
    heartbeat        silence after which a client gets a heartbeat
    authorize_timeout  time for one call of `authorize`
    shutdown_timeout   time for the clients to leave when the gateway closes
    """

    key_prefix: str = KEY_PREFIX
    limits: Limits | None = None
    command_timeout: float = 5.0
    max_clients: int = 1_000
    max_requests: int = 100
    max_symbols: int = 100
    max_queue_frames: int = 16
    max_queue_bytes: int = 1_000_000
    history_frames: int = 1_000
    history_bytes: int = 24_000_000
    full_interval: float = 0.5
    send_timeout: float = 30.0
    heartbeat: float = 5.0
    authorize_timeout: float = 5.0
    shutdown_timeout: float = 1.0

    def __post_init__(self) -> None:
        for name in (
            *("command_timeout", "full_interval", "send_timeout", "heartbeat"),
            *("authorize_timeout", "shutdown_timeout"),
        ):
            check_timeout(getattr(self, name), name)
        for name in ("max_clients", "max_requests", "max_symbols", "max_queue_frames", "history_frames"):
            check_whole(name, getattr(self, name), 1, _MOST)
        for name in ("max_queue_bytes", "history_bytes"):
            check_whole(name, getattr(self, name), 1, 10**15)
        check_limits(self.limits)
