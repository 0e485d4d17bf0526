"""What a gateway counts for each name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["full", "delta", "composed", "json"]
KINDS: tuple[Kind, ...] = ("full", "delta", "composed", "json")


@dataclass(slots=True)
class GatewayCounters:
    """Totals of one name since the gateway began."""

    clients: int = 0  # WebSockets that are open now
    connections: int = 0  # WebSockets that were accepted
    recovered: int = 0  # of those that named a state: went on from it
    requests: int = 0  # GETs of the snapshot or of a record
    frames: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))  # sent, by kind
    bytes_sent: int = 0  # of frames and JSON, over WebSockets
    slow: int = 0  # clients disconnected, as they took nothing for `send_timeout`

    def copy(self) -> GatewayCounters:
        return replace(self, frames=self.frames.copy())

    def sent(self, kind: Kind, size: int) -> None:
        self.frames[kind] += 1
        self.bytes_sent += size
