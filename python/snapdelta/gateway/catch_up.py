"""Makes full frames and composed deltas, each once for all clients that need it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from snapdelta import Decoder, Limits, compose
from snapdelta.errors import SnapdeltaError
from snapdelta.gateway.feed import Feed
from snapdelta.gateway.frame_log import Made
from snapdelta.gateway.settings import GatewaySettings
from snapdelta.gateway.shared_jobs import SharedJobs

log = logging.getLogger("snapdelta.gateway")

# Frames of each kind that are kept.
_KEPT = 4
# Frames that are wanted at the same time, beyond which late clients get a full one.
_MOST_JOBS = 4


class CatchUp:
    """Makes one frame at a time, in a thread, even if the client leaves meanwhile."""

    def __init__(self, feed: Feed, settings: GatewaySettings) -> None:
        self._feed = feed
        self._settings = settings
        self._jobs: SharedJobs[Made | None] = SharedJobs(f"snapdelta-gateway-{feed.name}-frame")
        # By the number of their states.
        self._fulls: dict[int, Made] = {}
        # By the number of their bases.
        self._composed: dict[int, Made] = {}
        self._next_full_at = 0.0

    async def aclose(self) -> None:
        await self._jobs.aclose()

    def is_late(self, number: int) -> bool:
        """Whether a client at this state gets a composed delta or a full frame."""
        frames, settings = self._feed.frames, self._settings
        behind = frames.newest - number
        if behind > settings.max_queue_frames:
            return True
        if behind < 2:
            return False
        return sum(len(step.frame) for step in frames.steps_after(number)) > settings.max_queue_bytes

    async def full(self, number: int) -> Made:
        """A full frame of the state of this number, or of a later one."""
        while (made := self._fulls.get(max(self._fulls, default=0))) is None or made.number < number:
            wait = self._next_full_at - asyncio.get_running_loop().time()
            if wait > 0:
                await asyncio.sleep(wait)
            else:
                # One that was begun before this state was there is waited for.
                await self._jobs.run("full", self._make_full)
        return made

    async def composed(self, base: int) -> Made | None:
        """One delta from this state to about the newest; None if a full frame is needed instead."""
        made = self._composed.get(base)
        if made is not None and self._feed.frames.holds(made.number) and not self.is_late(made.number):
            return made
        if base not in self._fulls and base not in self._jobs and len(self._jobs) >= _MOST_JOBS:
            return None
        return await self._jobs.run(base, partial(self._compose, base))

    async def _make_full(self) -> Made:
        async with self._feed.pinned() as (number, state, decoder):
            if number in self._fulls:
                return self._fulls[number]
            made = Made(number, state, await asyncio.to_thread(decoder.full))
        self._keep(made)
        self._next_full_at = asyncio.get_running_loop().time() + self._settings.full_interval
        return made

    async def _compose(self, base: int) -> Made | None:
        frames = self._feed.frames
        if not frames.holds(base):
            return None
        steps = frames.steps_after(base)
        if not steps or any(step.is_full for step in steps):
            return None
        full = self._fulls.get(base) or await self._full_of(base)
        if full is None:
            return None
        deltas = [step.frame for step in steps]
        try:
            frame = await asyncio.to_thread(compose, deltas, full.frame, limits=self._settings.limits)
        except SnapdeltaError as error:
            log.warning(
                *("gateway %r: no composed delta: %s", self._feed.name, error),
                extra={"event": "compose_failed", "snapshots": self._feed.name},
            )
            return None
        made = self._composed[base] = Made(base + len(steps), steps[-1].state, frame)
        while len(self._composed) > _KEPT:
            del self._composed[next(iter(self._composed))]
        return made

    async def _full_of(self, number: int) -> Made | None:
        """A full frame of a state in the log; None if no frame leads there."""
        frames = self._feed.frames
        known = [*self._fulls.values(), *((frames.start,) if frames.start else ())]
        nearest = max((full for full in known if frames.oldest <= full.number <= number), default=None)
        if nearest is None or nearest.number == number:
            return nearest
        steps = frames.steps_after(nearest.number, number - nearest.number)
        chain = [nearest.frame, *(step.frame for step in steps)]
        frame = await asyncio.to_thread(_full_frame, chain, self._settings.limits)
        made = Made(number, steps[-1].state, frame)
        self._keep(made)
        return made

    def _keep(self, made: Made) -> None:
        frames = self._feed.frames
        self._fulls = {number: full for number, full in self._fulls.items() if frames.holds(number)}
        self._fulls[made.number] = made
        while len(self._fulls) > _KEPT:
            del self._fulls[min(self._fulls)]


def _full_frame(chain: Sequence[bytes], limits: Limits | None) -> bytes:
    """The state to which these frames lead, as a full frame."""
    decoder = Decoder(limits)
    for frame in chain:
        decoder.apply(frame)
    return decoder.full()
