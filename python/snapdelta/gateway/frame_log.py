"""The newest states of a name, and the frames that lead from one to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from snapdelta.snapshots.keys import StreamPosition
from snapdelta.snapshots.view import State


class Step(NamedTuple):
    """A state, and the frame that leads to it: a full one, or a delta from the previous state."""

    state: State
    frame: bytes
    is_full: bool
    reason: str | None


class Made(NamedTuple):
    """A frame, and the state to which it leads, with its number in the log."""

    number: int
    state: State
    frame: bytes


class FrameLog:
    """States are numbered in their order. The log never reuses a number.

    Holds `oldest` and the steps after it: at most `most_frames` steps and `most_bytes` bytes of frames. It
    always keeps the newest step.
    """

    def __init__(self, most_frames: int, most_bytes: int) -> None:
        self._most_frames = most_frames
        self._most_bytes = most_bytes
        self._steps: deque[Step] = deque()
        self._bytes = 0
        self._numbers: dict[StreamPosition, tuple[int, int]] = {}
        self._oldest_state: State | None = None
        self.oldest = 0
        # The full frame at which the log began, while it is in the log.
        self.start: Made | None = None

    @property
    def newest(self) -> int:
        return self.oldest + len(self._steps)

    @property
    def newest_state(self) -> State | None:
        """None before the first `restart`."""
        return self._steps[-1].state if self._steps else self._oldest_state

    def holds(self, number: int) -> bool:
        return self._oldest_state is not None and self.oldest <= number <= self.newest

    def number_of(self, position: StreamPosition, digest: int) -> int | None:
        """The number of a state; None if it is not in the log, or was another one."""
        number, of_ours = self._numbers.get(position, (None, None))
        return number if of_ours == digest else None

    def step_to(self, number: int) -> Step:
        """The step to the state of this number, which must not be the oldest."""
        return self._steps[number - self.oldest - 1]

    def steps_after(self, number: int, most: int | None = None) -> list[Step]:
        start = number - self.oldest
        return list(islice(self._steps, start, None if most is None else start + most))

    def restart(self, state: State, full: bytes) -> None:
        """Begin at a full frame."""
        self.oldest = self.newest + 1
        self._steps.clear()
        self._numbers.clear()
        self._bytes = 0
        self._oldest_state = state
        self._numbers[state.position] = self.oldest, state.digest
        self.start = Made(self.oldest, state, full)

    def extend(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._steps.append(step)
            self._bytes += len(step.frame)
            self._numbers[step.state.position] = self.newest, step.state.digest
        while len(self._steps) > 1 and (
            len(self._steps) > self._most_frames or self._bytes > self._most_bytes
        ):
            gone = self._oldest_state
            assert gone is not None
            first = self._steps.popleft()
            self._bytes -= len(first.frame)
            self.oldest += 1
            if self._numbers[gone.position][0] < self.oldest:
                del self._numbers[gone.position]
            self._oldest_state = first.state
            self.start = None
