"""The writer and the reader of the model: generators, of which each `yield` is one command to Redis, so that
whoever runs them decides what happens in between."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from support.protocol_model import (
    ZERO,
    Claim,
    Command,
    Entry,
    Frame,
    Head,
    Id,
    NeedFull,
    NoReplyError,
    Publish,
    Published,
    ReadDeltas,
    ReadFull,
    ReadHead,
    RequestResync,
    Rules,
    Settings,
    Superseded,
    digest,
)

# What a command is answered with is known only where it is sent.
Steps = Generator[Command, Any, object]
# A full frame in the place of a delta: nothing is missed.
IN_PLACE = ("larger",)
# A reader's request for a full frame is granted at most once in so many saves.
SAVES_BETWEEN_REQUESTS = 10

# --- a writer


class Writer:
    def __init__(self, name: str, rules: Rules, settings: Settings) -> None:
        self.name = name
        self.rules = rules
        self.settings = settings
        self.epoch: int | None = None
        self.sequence = 0
        self.state: int | None = None
        self.superseded = False
        self.outcome_unknown = False
        self.published = False
        self.last_full: int | None = None
        self.frames = 0
        self.resync_request = False
        self.saves_since_request = SAVES_BETWEEN_REQUESTS

    def save(
        self,
        state: int,
        now: int,
        *,
        forced: bool = False,
        large: bool = False,
        checkpoint: bool | None = None,
    ) -> Generator[Command, Any, str | None]:
        """Ends with the reason for a full frame when the save has succeeded; raises NoReplyError, or sets
        `superseded`.

        `large`: a delta would be no smaller than a full frame. `checkpoint`: whether a full frame goes beside
        the delta, where that is not for the model to say.
        """
        if self.epoch is None:
            self.epoch = yield Claim()
        assert self.epoch is not None
        if self.rules.number_every_attempt or not self.outcome_unknown:
            self.sequence += 1
        at, before = (self.epoch, self.sequence), self.state
        full = Frame(at, None, digest(state), state)
        delta = None
        if before is not None:
            delta = Frame(at, digest(before), digest(state), state - before)
        reason = "first" if delta is None else self.due(now, forced=forced)
        if checkpoint is not None and delta is not None:
            reason = "requested" if checkpoint else None
        if large and delta is not None and reason is None:
            delta, reason = None, "larger"
        if self.outcome_unknown and delta is None:
            reason = "outcome_unknown"
        unknown, self.outcome_unknown, self.state = self.outcome_unknown, True, state
        self.sent(now, full=reason is not None)
        answer = yield Publish(at, self.name, delta, full if reason else None, reason)
        if isinstance(answer, NeedFull):
            reason = answer.reason
            if reason == "head_behind" and unknown:
                reason = "outcome_unknown"
            elif reason == "head_lost" and not self.published:
                reason = "first"
            self.sent(now, full=True)
            answer = yield Publish(at, self.name, None, full, reason)
        self.outcome_unknown = False
        if isinstance(answer, Superseded):
            self.superseded = True
            return None
        assert isinstance(answer, Published)
        self.published = True
        if reason is not None:
            if self.resync_request:
                self.saves_since_request = 0
            self.resync_request = False
        self.resync_request = self.resync_request or answer.resync_request
        self.saves_since_request += 1
        return answer.reason if reason else None

    def sent(self, now: int, *, full: bool) -> None:
        """It counts from here on: an answer may never come."""
        if full:
            self.last_full, self.frames = now, 0
        else:
            self.frames += 1

    def due(self, now: int, *, forced: bool) -> str | None:
        """Why a full frame goes beside the delta."""
        if forced:
            return "forced"
        if self.last_full is None or abs(now - self.last_full) >= self.settings.interval:
            return "interval"
        if (
            self.rules.answer_resync_request
            and self.resync_request
            and self.saves_since_request >= SAVES_BETWEEN_REQUESTS
        ):
            return "requested"
        share = self.settings.history_frames // (self.settings.retained_fulls + 1)
        return "chain" if self.frames + 2 > share else None


# --- a reader


@dataclass(frozen=True)
class Update:
    id: Id
    state: int
    resynced: bool
    reason: str | None


class Reader:
    """Follows; `updates` is what it has yielded, `at` and `state` where it is."""

    def __init__(self, name: str, rules: Rules) -> None:
        self.name = name
        self.rules = rules
        self.at: Id | None = None
        self.state = 0
        self.updates: list[Update] = []
        self.waiting = False  # nothing to do until something happens
        # The last entry that was read, and the last that did not fit since one did.
        self.cursor = ZERO
        self.refused = ZERO

    def follow(self) -> Steps:
        why: str | None = "start"
        while True:
            with contextlib.suppress(NoReplyError):
                why = (yield from self.read()) if why is None else (yield from self.start(why))

    def read(self) -> Generator[Command, Any, str | None]:
        """One XREAD; returns why it must start again, if it must."""
        entries = yield ReadDeltas(self.cursor)
        if not entries and self.rules.compare_head_when_silent:
            head: Head | None = yield ReadHead()
            if self.elsewhere(head):
                if self.rules.read_once_more:
                    entries = yield ReadDeltas(self.cursor)
                if not entries:
                    return "head"
        self.waiting = not entries
        for at, entry in entries:
            self.cursor = at
            assert self.at is not None
            if at <= self.at:
                continue
            state = yield from self.step(self.at, self.state, at, entry)
            if state is None:
                self.refused = max(at, self.refused)
                return entry.reason or "gap"
            self.refused = ZERO
            self.move(at, state, entry.reason)
        return None

    def elsewhere(self, head: Head | None) -> bool:
        if head is None or head.id is None:
            return False
        return (head.id, head.digest) != (self.at, digest(self.state))

    def step(self, at: Id, state: int, next_at: Id, entry: Entry) -> Generator[Command, Any, int | None]:
        """The state after the entry, None if it does not follow."""
        if entry.reason in IN_PLACE and next_at == (at[0], at[1] + 1):
            found = yield ReadFull((next_at[0], next_at[1] + 1))
            return self.whole(*found) if found is not None and found[0] == next_at else None
        frame = entry.frame
        if frame is None or frame.damaged or frame.base is None:
            return None
        if self.rules.check_header and frame.id != next_at:
            return None
        result = state + frame.content
        fits = frame.base == digest(state) and frame.target == digest(result)
        follows = fits and next_at == (at[0], at[1] + 1)
        return result if follows or not self.rules.check_chain else None

    def whole(self, at: Id, entry: Entry) -> int | None:
        """The state of a full frame, None if it cannot be read."""
        frame = entry.frame
        if frame is None or frame.damaged or (frame.id != at and self.rules.check_header):
            return None
        return frame.content

    def start(self, why: str) -> Generator[Command, Any, str | None]:
        """Where `why` comes back it did not work out, and must be tried again when something has happened."""
        head: Head | None = yield ReadHead()
        if head is None or head.id is None:
            self.waiting = True
            return why
        bad: Id | None = None
        before: Id | None = None
        while (found := (yield ReadFull(before))) is not None:
            before, entry = found
            assert before is not None
            state = self.whole(before, entry)
            if state is not None:
                at, state = yield from self.to_the_end(before, state)
                reached = at > head.id or (at == head.id and digest(state) == head.digest)
                if reached or not self.rules.reach_the_head:
                    if (at, state) != (self.at, self.state) or not self.updates:
                        self.move(at, state, why)
                    return None
                bad = bad or self.refused
            bad = bad or before
        again: Head | None = yield ReadHead()
        if again == head and bad is not None:
            yield RequestResync(bad)
        self.waiting = again == head
        return why

    def to_the_end(self, at: Id, state: int) -> Generator[Command, Any, tuple[Id, int]]:
        """Where the deltas lead. Entries that do not fit are read once more, then passed over."""
        self.cursor = at
        while True:
            entries = yield ReadDeltas(at)
            if not entries:
                return at, state
            for next_at, entry in entries:
                result = yield from self.step(at, state, next_at, entry)
                if result is None:
                    if next_at <= self.refused:
                        self.cursor = self.refused
                    else:
                        self.refused = next_at
                    return at, state
                at, state = next_at, result
                self.cursor = at

    def move(self, at: Id, state: int, why: str | None) -> None:
        self.at, self.state = at, state
        self.waiting = False
        resynced = why is not None and why not in IN_PLACE and bool(self.updates)
        self.updates.append(Update(at, state, resynced, why))
