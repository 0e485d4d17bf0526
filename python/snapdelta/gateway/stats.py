"""The counters of a gateway for each name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["full", "delta", "composed", "json"]
# Why a connection or a request is refused: a full house of either, or the application's `authorize`.
Refusal = Literal["clients", "requests", "denied"]
KINDS: tuple[Kind, ...] = ("full", "delta", "composed", "json")


@dataclass(slots=True)
class GatewayCounters:
    """Totals of one name since the gateway's start."""

    clients: int = 0  # WebSockets that are open now
    connections: int = 0  # WebSockets that were accepted
    recovered: int = 0  # of those that named a state: went on from it
    requests: int = 0  # GETs of the snapshot or of a record
    messages: dict[Kind, int] = field(
        default_factory=lambda: dict.fromkeys(KINDS, 0)
    )  # sent over WebSockets, by kind
    bytes_sent: int = 0  # of these messages
    slow: int = 0  # clients disconnected, as they took nothing for `send_timeout`

    def copy(self) -> GatewayCounters:
        """The counters of this moment."""
        return replace(self, messages=self.messages.copy())

    def sent(self, kind: Kind, size: int) -> None:
        """Count a message and its bytes."""
        self.messages[kind] += 1
        self.bytes_sent += size
