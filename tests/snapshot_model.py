"""An executable model of docs/redis-layout.md: what is in Redis, and the scripts.

A snapshot is an integer, a digest its text, a delta the difference of two integers. Writer and reader are in
snapshot_model_ends.py; snapshot_world.py lets them run and fail. Every rule has a switch in `Rules`, by which
the tests show that it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

Id = tuple[int, int]
ZERO: Id = (0, 0)
# Entries of an epoch from here on are nobody's. Heads are believed further, or a foreign entry just below
# would have every claim after it forgotten.
HIGHEST_EPOCH = 10**14
HIGHEST_CLAIM = 2 * HIGHEST_EPOCH
HOUR = 3_600_000


@dataclass(frozen=True)
class Rules:
    """The rules of the layout; each can be broken on purpose."""

    store_claim: bool = True
    bound_epochs: bool = True
    know_repeats: bool = True  # rule 2
    superseded: bool = True  # rule 3
    superseded_without_head: bool = True  # rule 4
    delta_follows_head: bool = True  # rule 5
    streams_not_empty: bool = True  # rule 5
    remove_what_stands_in_the_way: bool = True  # rule 7
    compare_last_generated_id: bool = True  # not the newest entry, which XDEL takes away
    trim_at_a_full: bool = True
    times_never_fall: bool = True
    number_every_attempt: bool = True
    answer_want: bool = True
    check_chain: bool = True
    check_header: bool = True
    compare_head_when_silent: bool = True
    read_once_more: bool = True
    reach_the_head: bool = True


@dataclass(frozen=True)
class Settings:
    retained_fulls: int = 2
    history: int = 300  # milliseconds, as all times here
    history_frames: int = 30
    history_bytes: int = 120
    interval: int = 120


# --- what is written


def digest(state: int) -> str:
    return f"{state:x}"


@dataclass(frozen=True)
class Frame:
    """`base` None: a full frame. A delta says nothing but the difference."""

    id: Id
    base: str | None
    target: str
    content: int
    damaged: bool = False

    @property
    def size(self) -> int:
        return 5 if self.base is None else 1


@dataclass(frozen=True)
class Entry:
    """Foreign entries have no time."""

    time: int | None
    digest: str = ""
    frame: Frame | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Full:
    id: Id
    time: int
    frames: int  # counters before it
    bytes: int


@dataclass(frozen=True)
class Head:
    """`id` None: nothing but a claim."""

    claim: int
    id: Id | None = None
    digest: str = ""
    writer: str = ""
    time: int = 0
    frames: int = 0
    bytes: int = 0
    fulls: tuple[Full, ...] = ()
    want: Id | None = None


@dataclass
class Stream:
    entries: dict[Id, Entry] = field(default_factory=dict)
    last_generated: Id = ZERO

    def copy(self) -> Stream:
        return Stream(dict(self.entries), self.last_generated)

    def add(self, at: Id, entry: Entry) -> None:
        """XADD. What a script has written before it fails stays, which is a fault of the script."""
        if at <= self.last_generated:
            raise HalfWrittenError(f"XADD {at}: equal to or smaller than {self.last_generated}")
        self.entries[at] = entry
        self.last_generated = at

    def newest(self) -> Id:
        return max(self.entries, default=ZERO)

    def trim(self, lowest: Id) -> None:
        self.entries = {at: entry for at, entry in self.entries.items() if at >= lowest}


class HalfWrittenError(Exception):
    """A command of a script failed after its checks."""


@dataclass
class Data:
    """What the server holds under a name. A missing stream is one without entries and last id."""

    full: Stream = field(default_factory=Stream)
    delta: Stream = field(default_factory=Stream)
    head: Head | None = None

    def copy(self) -> Data:
        return Data(self.full.copy(), self.delta.copy(), self.head)


# --- commands


@dataclass(frozen=True)
class Claim:
    pass


@dataclass(frozen=True)
class Publish:
    id: Id
    writer: str
    delta: Frame | None
    full: Frame | None
    reason: str | None

    @property
    def frame(self) -> Frame:
        frame = self.full or self.delta
        assert frame is not None
        return frame


@dataclass(frozen=True)
class Want:
    id: Id


@dataclass(frozen=True)
class ReadHead:
    pass


@dataclass(frozen=True)
class ReadDeltas:
    after: Id


@dataclass(frozen=True)
class ReadFull:
    """The newest full frame, or the newest before an id."""

    before: Id | None


Command = Claim | Publish | Want | ReadHead | ReadDeltas | ReadFull
PAGE = 4


@dataclass(frozen=True)
class Published:
    want: bool


@dataclass(frozen=True)
class NeedFull:
    reason: str


@dataclass(frozen=True)
class Superseded:
    pass


class NoReplyError(Exception):
    """No reply came: the command may have been executed, may yet be, or never."""


# --- the scripts


class Server:
    """One Redis: data and a clock. A script works on a copy, which is the data when it has ended."""

    def __init__(self, rules: Rules, settings: Settings) -> None:
        self.rules = rules
        self.settings = settings
        self.data = Data()
        self.now = 1000 * HOUR

    def execute(self, command: Command) -> Any:
        data = self.data
        match command:
            case Claim():
                return self.claim()
            case Publish():
                return self.publish(command)
            case Want():
                if data.head is not None and data.head.id is not None:
                    data.head = replace(data.head, want=command.id)
            case ReadHead():
                return data.head
            case ReadDeltas():
                found = [(at, e) for at, e in data.delta.entries.items() if at > command.after]
                return found[:PAGE]
            case ReadFull():
                before = command.before
                ids = [at for at in data.full.entries if before is None or at < before]
                return (max(ids), data.full.entries[max(ids)]) if ids else None
        return None

    def claim(self) -> int:
        data = self.data.copy()
        head = data.head
        if head is not None and max(head.claim, (head.id or ZERO)[0]) >= HIGHEST_CLAIM:
            head = None
        # An entry that is not believed may lie on top of others.
        ids = [at for s in (data.full, data.delta) for at in (self.last(s), *s.entries)]
        epochs = [epoch for epoch, _ in ids if epoch < HIGHEST_EPOCH or not self.rules.bound_epochs]
        if head is not None:
            epochs += [head.claim, (head.id or ZERO)[0]]
        epoch = max(self.now, *epochs, 0) + 1
        if self.rules.store_claim:
            data.head = replace(head or Head(claim=0), claim=epoch)
        self.data = data
        return epoch

    def last(self, stream: Stream) -> Id:
        if self.rules.compare_last_generated_id:
            return stream.last_generated
        return stream.newest()

    def publish(self, p: Publish) -> Published | NeedFull | Superseded:
        data = self.data.copy()
        head = data.head
        at = head.id if head is not None else None
        rules = self.rules
        if head is not None and at is not None:
            same = at[0] == p.id[0] and head.writer == p.writer
            if rules.know_repeats and same and at == p.id and head.digest == p.frame.target:
                return Published(want=head.want is not None)
            if rules.superseded and (
                at[0] > p.id[0] or (at[0] == p.id[0] and (not same or at[1] >= p.id[1]))
            ):
                return Superseded()
        elif rules.superseded_without_head:
            written = max(self.newest_written(data.full), self.newest_written(data.delta))
            if written > p.id:
                return Superseded()
        back = self.now < self.newest_time(data) - HOUR
        why = "clock" if back else self.why_not_follow(data, p)
        if why is not None and p.full is None:
            return NeedFull(why)
        if why == "behind" and p.reason == "unsure":
            why = p.reason  # the writer knows more
        self.write(data, p, why)
        self.data = data
        return Published(want=data.head is not None and data.head.want is not None)

    def why_not_follow(self, data: Data, p: Publish) -> str | None:
        """Rule 5: why the delta cannot be appended; None if it can."""
        head = data.head
        if p.delta is None:
            return p.reason
        before = (p.id[0], p.id[1] - 1)
        if self.rules.delta_follows_head:
            if head is None or head.id is None:
                return "head_lost"
            if head.id[0] != p.id[0]:
                return "takeover"
            if head.id != before or head.digest != p.delta.base:
                return "behind"
        if self.rules.streams_not_empty and not (data.full.entries and data.delta.entries):
            return "stream_lost"
        if self.rules.delta_follows_head and self.last(data.delta) != before:
            return "foreign"
        return None

    def write(self, data: Data, p: Publish, why: str | None) -> None:
        head = data.head or Head(claim=p.id[0])
        if head.id is None:
            head = Head(claim=head.claim)
        if why == "clock":
            data.full, data.delta = Stream(), Stream()
            head = data.head = replace(head, time=0, fulls=())
        if self.rules.remove_what_stands_in_the_way and p.full is not None:
            if self.last(data.delta) >= p.id:
                data.delta = Stream()
            if self.last(data.full) >= p.id:
                data.full = Stream()
                head = replace(head, fulls=())
        now = max(self.now, self.newest_time(data)) if self.rules.times_never_fall else self.now
        frames, size = head.frames, head.bytes
        fulls = head.fulls if data.full.entries else ()
        if p.full is not None:
            fulls += (Full(p.id, now, frames, size),)
        delta = p.delta if why is None else None
        # A marker carries no frame.
        data.delta.add(p.id, Entry(now, p.frame.target, delta, why))
        if p.full is not None:
            data.full.add(p.id, Entry(now, p.frame.target, p.full, why or p.reason))
        frames += 1
        size += sum(frame.size for frame in (delta, p.full) if frame is not None)
        head = Head(
            max(head.claim, p.id[0]), p.id, p.frame.target, p.writer, now, frames, size, fulls, head.want
        )
        if p.full is not None:
            head = replace(head, want=None, fulls=self.retained(head))
            lowest = head.fulls[0].id if self.rules.trim_at_a_full else (p.id[0], max(p.id[1] - 3, 0))
            data.full.trim(lowest)
            data.delta.trim(lowest)
        data.head = head

    def retained(self, head: Head) -> tuple[Full, ...]:
        fulls, limits = list(head.fulls), self.settings
        while len(fulls) > limits.retained_fulls:
            oldest, rest = fulls[0], fulls[1]
            long_enough = head.time - rest.time >= limits.history
            too_many = head.frames - oldest.frames > limits.history_frames
            too_big = head.bytes - oldest.bytes > limits.history_bytes
            if not (long_enough or too_many or too_big):
                break
            fulls.pop(0)
        return tuple(fulls)

    def newest_time(self, data: Data) -> int:
        """`t` of the entry before, which the head knows, or else the streams."""
        if data.head is not None and data.head.id is not None:
            return data.head.time
        entries = [*data.full.entries.values(), *data.delta.entries.values()]
        return max((e.time for e in entries if e.time is not None), default=0)

    @staticmethod
    def newest_written(stream: Stream) -> Id:
        """The newest entry that looks like a writer's."""
        ours = (
            at for at, entry in stream.entries.items() if entry.time is not None and at[0] < HIGHEST_EPOCH
        )
        return max(ours, default=ZERO)
