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
# Full frames from which a new writer tries to come to the head.
FULLS_TRIED = 4

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
        # Whether a publish was sent; until then the state of the writer before is read.
        self.has_sent = False
        self.handover: Id | None = None  # where that state is
        self.last: Id | None = None  # the last attempt
        # Whether the outcome of the attempt before the last was unknown.
        self.was_unknown = False

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
        if not self.has_sent:
            self.handover, self.state = (yield from newest_state(self.rules)) or (None, None)
        handover = self.handover
        base_id = handover if not self.has_sent else self.last
        if self.rules.bridge_once:
            self.handover = None
        if self.rules.number_every_attempt or not self.outcome_unknown:
            self.sequence += 1
        at, before = (self.epoch, self.sequence), self.state
        full = Frame(at, None, digest(state), state)
        delta = None
        if before is not None:
            delta = Frame(at, digest(before), digest(state), state - before, base_id)
        reason = "first" if delta is None else self.due(now, forced=forced)
        if handover is not None and self.rules.bridge_with_full:
            reason = "handover"
        elif checkpoint is not None and delta is not None:
            reason = "requested" if checkpoint else None
        if large and delta is not None and reason in (None, "handover"):
            delta, reason = None, "larger"
        if self.outcome_unknown and delta is None:
            reason = "outcome_unknown"
        unknown, self.outcome_unknown, self.state = self.outcome_unknown, True, state
        self.was_unknown = unknown
        base = "" if before is None else digest(before)
        behind = "outcome_unknown" if unknown and self.rules.tell_outcome_unknown else "head_behind"
        self.last = at
        self.sent(now, full=reason is not None)
        answer = yield Publish(at, self.name, base, delta, full if reason else None, reason, behind, handover)
        if isinstance(answer, NeedFull):
            reason = answer.reason
            if reason == "head_lost" and not self.published:
                reason = "first"
            self.sent(now, full=True)
            answer = yield Publish(at, self.name, base, None, full, reason, behind)
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
        self.has_sent = True
        if full:
            self.last_full, self.frames = now, 0
        else:
            self.frames += 1

    def due(self, now: int, *, forced: bool) -> str | None:
        """Why a full frame goes beside the delta."""
        if forced:
            return "forced"
        if self.last_full is None:
            # Redis will ask for a full frame by itself.
            return None
        if abs(now - self.last_full) >= self.settings.interval:
            return "interval"
        if (
            self.rules.answer_resync_request
            and self.resync_request
            and self.saves_since_request >= SAVES_BETWEEN_REQUESTS
        ):
            return "requested"
        share = self.settings.history_frames // (self.settings.retained_fulls + 1)
        return "chain" if self.frames + 2 > share else None


def newest_state(rules: Rules) -> Generator[Command, Any, tuple[Id, int] | None]:
    """The head's id and the state there, as a reader finds it; None where nothing leads to it."""
    head: Head | None = yield ReadHead()
    if head is None or head.id is None:
        return None
    reader = Reader("handover", rules)
    before = head.id[0], head.id[1] + 1
    for _ in range(FULLS_TRIED):
        found = yield ReadFull(before)
        if found is None:
            break
        before, entry = found
        at, state = before, reader.whole(before, entry)
        if state is None:
            continue
        at, state = yield from reader.go_on(at, state, head.id)
        if (at, digest(state)) == (head.id, head.digest) or not rules.handover_from_the_head:
            return head.id, state
    return None


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
                return "gap" if entry.reason in IN_PLACE else entry.reason or "gap"
            self.refused = ZERO
            self.move(at, state, entry.reason)
        return None

    def elsewhere(self, head: Head | None) -> bool:
        if head is None or head.id is None:
            return False
        return (head.id, head.digest) != (self.at, digest(self.state))

    def step(self, at: Id, state: int, next_at: Id, entry: Entry) -> Generator[Command, Any, int | None]:
        """The state after the entry, None if it does not follow."""
        follows = self.follows(at, state, next_at, entry)
        if entry.reason in IN_PLACE and follows:
            found = yield ReadFull((next_at[0], next_at[1] + 1))
            return self.whole(*found) if found is not None and found[0] == next_at else None
        frame = entry.frame
        if frame is None or frame.damaged or frame.base is None:
            return None
        if self.rules.check_header and frame.id != next_at:
            return None
        result = state + frame.content
        fits = (frame.base_id, frame.base, frame.target) == (at, digest(state), digest(result))
        return result if (fits and follows) or not self.rules.check_chain else None

    def follows(self, at: Id, state: int, next_at: Id, entry: Entry) -> bool:
        """Whether we are at the base of the entry."""
        if entry.base is None:
            return next_at == (at[0], at[1] + 1)
        rules, (base, base_digest) = self.rules, entry.base
        return (base == at or not rules.reader_compares_base_id) and (
            base_digest == digest(state) or not rules.reader_compares_base_digest
        )

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

    def go_on(self, at: Id, state: int, until: Id) -> Generator[Command, Any, tuple[Id, int]]:
        """Apply deltas, to a place and not beyond; where that leads."""
        while at < until:
            entries = yield ReadDeltas(at)
            if not entries:
                break
            for next_at, entry in entries:
                result = None
                if next_at <= until:
                    result = yield from self.step(at, state, next_at, entry)
                if result is None:
                    return at, state
                at, state = next_at, result
        return at, state

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
