"""The writer and the reader of the model: generators, of which each `yield` is one command to Redis, so that
whoever runs them decides what happens in between."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from snapshot_model import (
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
    Rules,
    Settings,
    Superseded,
    Want,
    digest,
)

# What a command is answered with is known only where it is sent.
Steps = Generator[Command, Any, None]

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
        self.sure = True
        self.last_full: int | None = None
        self.deltas = 0
        self.want = False
        self.saves_since_wanted = 10**9

    def save(self, state: int, now: int, *, large: bool = False) -> Steps:
        """Ends when the save has succeeded; raises NoReplyError, or sets `superseded`.

        `large`: a delta would be no smaller than a full frame.
        """
        if self.epoch is None:
            self.epoch = yield Claim()
        assert self.epoch is not None
        if self.rules.number_every_attempt or self.sure:
            self.sequence += 1
        at, before = (self.epoch, self.sequence), self.state
        delta = None
        if before is not None:
            delta = Frame(at, digest(before), digest(state), state - before)
        full = Frame(at, None, digest(state), state)
        reason = "first" if delta is None else "larger" if large else self.checkpoint(now)
        if reason == "larger":
            delta = None
        sure, self.sure, self.state = self.sure, False, state
        self.deltas += 1  # when it is sent: an answer may never come
        answer = yield Publish(at, self.name, delta, full if reason else None, reason)
        if isinstance(answer, NeedFull):
            reason = answer.reason if sure or answer.reason != "behind" else "unsure"
            answer = yield Publish(at, self.name, delta, full, reason)
        if isinstance(answer, Superseded):
            self.superseded = True
            return
        assert isinstance(answer, Published)
        self.sure = True
        self.saves_since_wanted += 1
        if reason is not None:
            self.last_full, self.deltas = now, 0
        if reason == "wanted":
            self.saves_since_wanted = 0
        self.want = answer.want

    def checkpoint(self, now: int) -> str | None:
        limits = self.settings
        if self.rules.answer_want and self.want and self.saves_since_wanted >= 10:
            return "wanted"
        if self.last_full is None or abs(now - self.last_full) >= limits.interval:
            return "interval"
        share = min(limits.history_frames, limits.history_bytes) / (limits.retained_fulls + 1)
        return "chain" if self.deltas + 1 >= share else None


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

    def follow(self) -> Steps:
        why: str | None = "start"
        while True:
            try:
                if why is not None:
                    why = yield from self.start(why)
                else:
                    why = yield from self.read()
            except NoReplyError:
                pass

    def read(self) -> Generator[Command, Any, str | None]:
        """One XREAD; returns why it must start again, if it must."""
        assert self.at is not None
        entries = yield ReadDeltas(self.at)
        if not entries and self.rules.compare_head_when_silent:
            head: Head | None = yield ReadHead()
            if self.elsewhere(head):
                if self.rules.read_once_more:
                    entries = yield ReadDeltas(self.at)
                if not entries:
                    return "head"
        self.waiting = not entries
        for at, entry in entries:
            state = self.apply(self.at, self.state, at, entry)
            if state is None:
                return entry.reason or "gap"
            self.move(at, state, None)
        return None

    def elsewhere(self, head: Head | None) -> bool:
        if head is None or head.id is None:
            return False
        return (head.id, head.digest) != (self.at, digest(self.state))

    def apply(self, at: Id, state: int, next_at: Id, entry: Entry) -> int | None:
        """The state after the entry, None if it does not follow."""
        frame = entry.frame
        if entry.time is None or frame is None or frame.damaged or frame.base is None:
            return None
        if self.rules.check_header and frame.id != next_at:
            return None
        result = state + frame.content
        follows = (
            next_at == (at[0], at[1] + 1) and frame.base == digest(state) and frame.target == digest(result)
        )
        return result if follows or not self.rules.check_chain else None

    def start(self, why: str) -> Generator[Command, Any, str | None]:
        """Where `why` comes back it did not work out, and must be tried again when something has happened."""
        head: Head | None = yield ReadHead()
        if head is None or head.id is None:
            self.waiting = True
            return why
        found, bad = yield from self.newest_full()
        if found is not None:
            at, state = found
            at, state, unread = yield from self.to_the_end(at, state)
            bad = unread or bad
            reached = at > head.id or (at == head.id and digest(state) == head.digest)
            if reached or not self.rules.reach_the_head:
                # What stands behind the head is nobody's; reading it again and again would be no use.
                self.waiting = unread is not None
                if (at, state) != (self.at, self.state) or not self.updates:
                    self.move(at, state, why)
                return None
        again: Head | None = yield ReadHead()
        if again == head:
            yield Want(bad or head.id)
        self.waiting = again == head
        return why

    def newest_full(self) -> Generator[Command, Any, tuple[tuple[Id, int] | None, Id | None]]:
        """The newest full frame that can be read, and the newest that cannot."""
        before, bad = None, None
        while True:
            found = yield ReadFull(before)
            if found is None:
                return None, bad
            before, entry = found
            frame = entry.frame
            right = frame is not None and (frame.id == before or not self.rules.check_header)
            if right and frame is not None and not frame.damaged:
                return (before, frame.content), bad
            bad = bad or before

    def to_the_end(self, at: Id, state: int) -> Generator[Command, Any, tuple[Id, int, Id | None]]:
        """Where the deltas lead, and the first that cannot be applied."""
        while True:
            entries = yield ReadDeltas(at)
            if not entries:
                return at, state, None
            for next_at, entry in entries:
                result = self.apply(at, state, next_at, entry)
                if result is None:
                    return at, state, next_at
                at, state = next_at, result

    def move(self, at: Id, state: int, why: str | None) -> None:
        self.at, self.state = at, state
        self.waiting = False
        resynced = why is not None and bool(self.updates)
        self.updates.append(Update(at, state, resynced, why))
