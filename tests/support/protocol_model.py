"""An executable model of docs/redis-layout.md: what is in Redis, and the scripts.

A snapshot is an integer, a digest its text, a delta the difference of two integers. Writer and reader are in
protocol_clients.py; simulator.py lets them run and fail. Every rule has a switch in `Rules`, by which
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
    keep_claim_of_deleted: bool = True
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
    answer_resync_request: bool = True
    check_chain: bool = True
    check_header: bool = True
    compare_head_when_silent: bool = True
    read_once_more: bool = True
    reach_the_head: bool = True
    tell_outcome_unknown: bool = True  # also for a checkpoint that finds the head behind
    # --- a handover
    bridge_after_fencing: bool = True  # rule 3 comes first
    bridge_compares_id: bool = True  # rule 5
    bridge_compares_digest: bool = True  # rule 5
    bridge_next_to_its_base: bool = True  # rule 5: no entry between
    bridge_asks_the_clock: bool = True  # rule 5
    bridge_names_base: bool = True  # rule 6
    in_place_names_base: bool = True  # rule 6
    bridge_keeps_fulls: bool = True  # those of the earlier epoch
    bridge_once: bool = True  # only the first publish of a writer
    bridge_with_full: bool = True  # beside it, always
    handover_from_the_head: bool = True  # what was read has the head's digest
    reader_compares_base_id: bool = True
    reader_compares_base_digest: bool = True


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
    """`base` None: a full frame. A delta says nothing but the difference, and what its base is."""

    id: Id
    base: str | None
    target: str
    content: int
    base_id: Id | None = None
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
    base: tuple[Id, str] | None = None  # of bridges, and of markers in place of a delta


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
    resync_request: Id | None = None


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
    """`base`: digest of the base; `handover`: its id, where it is another writer's.

    `behind`: the reason where the head is elsewhere.
    """

    id: Id
    writer: str
    base: str
    delta: Frame | None
    full: Frame | None
    reason: str | None
    behind: str
    handover: Id | None = None

    @property
    def frame(self) -> Frame:
        frame = self.full or self.delta
        assert frame is not None
        return frame


@dataclass(frozen=True)
class RequestResync:
    id: Id


@dataclass(frozen=True)
class Delete:
    """By a writer with its epoch, or by somebody who does not write the name."""

    writer: str = ""
    epoch: int | None = None


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


Command = Claim | Publish | Delete | RequestResync | ReadHead | ReadDeltas | ReadFull
PAGE = 4


@dataclass(frozen=True)
class Published:
    reason: str | None  # for a full frame
    resync_request: bool


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
            case Delete():
                return self.delete(command)
            case RequestResync():
                if data.head is not None and data.head.id is not None:
                    data.head = replace(data.head, resync_request=command.id)
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
        if head is not None and head.id is not None and head.id[0] >= HIGHEST_CLAIM:
            head = None
        epochs = [self.newest_written(stream)[0] for stream in (data.full, data.delta)]
        if head is not None:
            epochs += [head.claim, (head.id or ZERO)[0]]
        epoch = max(self.now, *epochs) + 1
        if self.rules.store_claim:
            data.head = replace(head or Head(claim=0), claim=epoch)
        self.data = data
        return epoch

    def delete(self, d: Delete) -> bool | Superseded:
        head = self.data.head
        if d.epoch is not None and head is not None and head.id is not None:
            later = head.id[0] == d.epoch and head.writer != d.writer
            if later or head.id[0] > d.epoch:
                return Superseded()
        # What the clock has passed need not be known: later claims are above it.
        keep = self.rules.keep_claim_of_deleted and head is not None and head.claim >= self.now
        self.data = Data(head=Head(claim=head.claim) if keep and head is not None else None)
        return True

    def newest_written(self, stream: Stream) -> Id:
        """The newest entry that a writer made, by its looks."""
        believed = HIGHEST_EPOCH if self.rules.bound_epochs else 2**64
        ours = (at for at, entry in stream.entries.items() if entry.time is not None and at[0] < believed)
        return max(ours, default=ZERO)

    def last(self, stream: Stream) -> Id:
        return stream.last_generated if self.rules.compare_last_generated_id else stream.newest()

    def publish(self, p: Publish) -> Published | NeedFull | Superseded:
        data = self.data.copy()
        head, rules = data.head, self.rules
        if head is not None and head.id is not None:
            same = head.id[0] == p.id[0] and head.writer == p.writer
            if rules.know_repeats and same and (head.id, head.digest) == (p.id, p.frame.target):
                return Published(p.reason, resync_request=head.resync_request is not None)
            later = head.id[0] == p.id[0] and (not same or head.id[1] >= p.id[1])
            unfenced = not rules.bridge_after_fencing and (head.id, head.digest) == (p.handover, p.base)
            if rules.superseded and not unfenced and (head.id[0] > p.id[0] or later):
                return Superseded()
        elif rules.superseded_without_head and p.id < max(map(self.newest_written, (data.full, data.delta))):
            return Superseded()
        broken = self.broken(data, p)
        if broken is None and p.delta is not None and self.last(data.delta) >= p.id:
            broken = "foreign_entry"
        if broken is not None and p.full is None:
            return NeedFull(broken)
        # The writer may know more than that the head is missing.
        told = (p.reason, broken) == ("first", "head_lost")
        reason = p.reason if broken is None or told else broken
        self.write(data, p, reason, follows=broken is None)
        self.data = data
        return Published(
            reason, resync_request=data.head is not None and data.head.resync_request is not None
        )

    def broken(self, data: Data, p: Publish) -> str | None:
        """Rule 5: why nothing can follow on what is there."""
        head, rules = data.head, self.rules
        if rules.delta_follows_head:
            if head is None or head.id is None:
                return "head_lost"
            if head.id[0] != p.id[0]:
                if not self.at_border(data, head, p):
                    return "takeover"
            elif head.id != (p.id[0], p.id[1] - 1) or head.digest != p.base:
                return p.behind
        if rules.streams_not_empty and not (data.full.entries and data.delta.entries):
            return "stream_lost"
        if p.handover is not None and not rules.bridge_asks_the_clock:
            return None
        return "clock" if self.went_back(head) else None

    def at_border(self, data: Data, head: Head, p: Publish) -> bool:
        """Rule 5: whether the first entry of an epoch may follow the head's state, of another one."""
        rules = self.rules
        return (
            p.handover is not None
            and (head.id == p.handover or not rules.bridge_compares_id)
            and (head.digest == p.base or not rules.bridge_compares_digest)
            and (data.delta.newest() == head.id or not rules.bridge_next_to_its_base)
        )

    def went_back(self, head: Head | None) -> bool:
        return head is not None and head.id is not None and self.now < head.time - HOUR

    def write(self, data: Data, p: Publish, reason: str | None, *, follows: bool) -> None:
        """The part behind all checks."""
        rules = self.rules
        restart = not follows or p.delta is None
        known = data.head is not None and data.head.id is not None
        head = data.head if data.head is not None and known else Head(data.head.claim if data.head else 0)
        back = self.went_back(head)
        now = max(self.now, head.time) if known and not back and rules.times_never_fall else self.now
        fulls = () if back and rules.times_never_fall else head.fulls
        frame, base = p.frame, None
        if follows and head.id is not None:
            crosses = head.id[0] != p.id[0]
            if crosses and not rules.bridge_keeps_fulls:
                fulls = ()
            named = rules.in_place_names_base if p.delta is None else crosses and rules.bridge_names_base
            base = (head.id, p.base) if named else None
        if p.full is not None:
            if rules.remove_what_stands_in_the_way and self.last(data.full) >= p.id:
                data.full, fulls = Stream(), ()
            data.full.add(p.id, Entry(now, frame.target, p.full, reason))
            if len(data.full.entries) == 1:
                fulls = ()
            if restart and rules.remove_what_stands_in_the_way and self.last(data.delta) >= p.id:
                data.delta, fulls = Stream(), ()
            fulls += (Full(p.id, now, head.frames, head.bytes),)
        entry = Entry(now, frame.target, None if restart else p.delta, reason if restart else None, base)
        data.delta.add(p.id, entry)
        data.head = Head(
            claim=max(head.claim, p.id[0]),
            id=p.id,
            digest=frame.target,
            writer=p.writer,
            time=now,
            frames=head.frames + 1,
            bytes=head.bytes + sum(part.size for part in (p.delta, p.full) if part is not None),
            fulls=fulls,
            resync_request=head.resync_request if p.full is None else None,
        )
        if p.full is not None:
            self.trim(data, restart=restart)

    def trim(self, data: Data, *, restart: bool) -> None:
        head, limits = data.head, self.settings
        assert head is not None
        assert head.id is not None
        fulls = list(head.fulls)
        share = limits.retained_fulls + 1
        most = limits.history_frames - limits.history_frames // share
        while len(fulls) > limits.retained_fulls:
            frames = head.frames - fulls[0].frames
            size = head.bytes - fulls[0].bytes
            fits = frames <= most
            fits = fits and size <= limits.history_bytes - limits.history_bytes // share
            if fits and head.time - fulls[1].time < limits.history:
                break
            fulls.pop(0)
        data.head = replace(head, fulls=tuple(fulls))
        # A healthy follower may still need what is before a checkpoint that is the only full frame.
        if restart or len(fulls) > 1 or len(data.delta.entries) > most:
            lowest = fulls[0].id if self.rules.trim_at_a_full else (head.id[0], max(head.id[1] - 3, 0))
            data.full.trim(lowest)
            data.delta.trim(lowest)
