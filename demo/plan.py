"""What the demo plays, and when the writer is killed and the late reader joins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from demo.errors import DemoError
from snapdelta.testing.feed import Feed, read_recording
from snapdelta.testing.feed._instrument import FULL_MARKET

Snapshot = dict[str, Any]

NAME = "market"
# Where the JSON goes that a plain SET writes.
PLAIN_KEY = "market:json"

FEWEST_FRAMES = 5
_FRAMES_OF_FEED = 20


@dataclass(frozen=True)
class Source:
    """A recording, or the seeded feed; every process plays it for itself and sees the same frames."""

    recording: str | None = None
    symbols: int | None = None  # of the feed; None: the full market
    seed: int = 0

    @property
    def title(self) -> str:
        if self.recording is not None:
            return self.recording.rpartition("/")[2]
        return "simulated feed, enriched"

    def frames(self) -> Iterator[Snapshot]:
        if self.recording is not None:
            return (frame.snapshot for frame in read_recording(self.recording))
        return Feed("enriched", FULL_MARKET if self.symbols is None else self.symbols, self.seed)


class Player:
    """Plays a source forward to the frames that are asked for; the first has the number 1."""

    def __init__(self, source: Source) -> None:
        self._frames = source.frames()
        self._number = 0

    def frame(self, number: int) -> Snapshot:
        """Raises DemoError for a frame that has been passed, or is behind the end."""
        ahead = number - self._number - 1
        snapshot = next(islice(self._frames, ahead, None), None) if ahead >= 0 else None
        if snapshot is None:
            raise DemoError(f"there is no frame {number} behind frame {self._number}")
        self._number = number
        return snapshot


@dataclass(frozen=True)
class Plan:
    """One run. Frame numbers count from 1.

    frames    frames that are played
    interval  seconds between two saves, at least
    compared_with  what the readers play, when that is to be another source, so that they must fail
    """

    source: Source
    frames: int
    interval: float = 0.3
    compared_with: Source | None = None

    def __post_init__(self) -> None:
        if self.frames < FEWEST_FRAMES:
            raise DemoError(
                f"{self.source.title}: {self.frames} frames; the demo needs {FEWEST_FRAMES} or more"
            )

    @classmethod
    def of(cls, source: Source, frames: int | None) -> Plan:
        """At most `frames` of them; None: all of a recording, 20 of the feed."""
        if source.recording is not None:
            frames = sum(1 for _ in islice(source.frames(), frames))
        return cls(source, _FRAMES_OF_FEED if frames is None else frames)

    @property
    def killed_at(self) -> int:
        """The frame that the first writer is saving when it is killed."""
        return self.frames // 2 + 1

    @property
    def resumed_at(self) -> int:
        """The first frame of the second writer: the feed has gone on."""
        return self.killed_at + 1

    @property
    def joined_at(self) -> int:
        """The late reader is started when this frame has been saved."""
        return max(self.resumed_at, self.frames * 3 // 4)
