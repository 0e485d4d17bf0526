"""The health of a part of the package: ok, degraded or failed, with reasons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

Status = Literal["ok", "degraded", "failed"]
# From good to bad.
_ORDER: tuple[Status, ...] = ("ok", "degraded", "failed")


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a part: `status`, and a sentence for each reason, which names the place.

    `degraded`: it works, but has a temporary failure, or one to look into. `failed`: it does not work, and
    somebody must act.
    """

    status: Status = "ok"
    reasons: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if the status is `ok`."""
        return self.status == "ok"


class HasHealth(Protocol):
    """SnapshotManager, SnapshotReader, SnapshotMirror and RedisStreamManager."""

    def health(self) -> Health:
        """Its status, and a sentence for each reason."""


def status_of(failed: Iterable[str], degraded: Iterable[str]) -> Health:
    """The health from reasons of both kinds."""
    failed, degraded = tuple(failed), tuple(degraded)
    return Health("failed" if failed else "degraded" if degraded else "ok", failed + degraded)


def overall_health(*parts: HasHealth | Health) -> Health:
    """The worst status of all parts, with the reasons of all. Sends nothing to Redis."""
    found = [part if isinstance(part, Health) else part.health() for part in parts]
    worst = max((_ORDER.index(each.status) for each in found), default=0)
    return Health(_ORDER[worst], tuple(reason for each in found for reason in each.reasons))
