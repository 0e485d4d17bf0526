"""What the processes tell the one that started them: a line of JSON each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Ready:
    """A reader is connected and begins to follow."""


@dataclass(frozen=True)
class Saving:
    """The writer begins to save a frame."""

    frame: int


@dataclass(frozen=True)
class Cost:
    """What one way to write one frame has cost. Size in bytes, times in milliseconds."""

    size: int
    cpu_ms: float
    stall_ms: float


@dataclass(frozen=True)
class Saved:
    """Redis has the frame: as a delta or full frame, and once more as plain JSON."""

    frame: int
    symbols: int
    changed: int
    kind: str
    reason: str | None
    ours: Cost
    plain: Cost


@dataclass(frozen=True)
class Checked:
    """A reader has compared an update with the frame that was saved; `difference` is None if it is exact."""

    frame: int
    resynced: bool
    reason: str | None
    difference: str | None


Report = Ready | Saving | Saved | Checked
_KINDS = {kind.__name__: kind for kind in (Ready, Saving, Saved, Checked)}


def to_line(report: Report) -> str:
    return json.dumps({"report": type(report).__name__, **asdict(report)})


def from_line(line: bytes) -> Report:
    fields = json.loads(line)
    kind = _KINDS[fields.pop("report")]
    if kind is Saved:
        fields |= {way: Cost(**fields[way]) for way in ("ours", "plain")}
    report: Report = kind(**fields)
    return report
