"""The model beside a real server: led through what real managers did, broken as the server is, and compared.

The model's digests, epochs and ids are the real ones. Its clock is set so that it can come to the claim that
the server came to, and must.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from random import Random
from typing import Any, Literal

import redis as sync_redis

import snapdelta
from snapdelta.errors import SnapdeltaError
from support.protocol_clients import Writer
from support.protocol_model import (
    HIGHEST_EPOCH,
    ZERO,
    Claim,
    Command,
    Data,
    Entry,
    Id,
    NoReplyError,
    Publish,
    Rules,
    Server,
    Settings,
    Stream,
)
from support.servers import Server as RealServer
from support.snapshot_harness import keys_of

# What becomes of a command: carried out; never seen by the server; carried out without a reply; carried out
# twice, as the client repeats it; refused if it would write; under way for long.
Fate = Literal["done", "cut", "lost", "twice", "refused", "held"]
Key = Literal["full", "delta", "head"]


class Twin:
    """Both servers. `accepted` has the digest of what was accepted under each id."""

    def __init__(self, server: RealServer, settings: Settings) -> None:
        self.model = Server(Rules(), settings)
        self.accepted: dict[Id, int] = {}
        self.held: list[Command] = []
        self._keys = keys_of()
        self._remembered: tuple[Data, dict[str, bytes | None]] | None = None
        # Saves whose reason the model could not know.
        self._reasons_untold: set[Id] = set()
        # redis-py's types leave most answers open.
        self._real: Any = sync_redis.Redis(port=server.port)

    def close(self) -> None:
        self._real.close()

    @property
    def newest(self) -> Id | None:
        head = self.model.data.head
        return head.id if head is not None else None

    # --- what managers do

    def save(
        self,
        writer: Writer,
        digest: int,
        clock: float,
        fates: list[Fate],
        *,
        certain: bool,
        unanswered: bool = False,
        **options: Any,
    ) -> str | None:
        """Do what the manager's save has just done; the reason of its full frame.

        Raises NoReplyError where the model says that no answer came; sets `writer.superseded`. `certain`: the
        writer has not heard of a reader's request, of which the model does not hear. `unanswered`: what it
        reads at its start gets no answer.
        """
        if not certain and writer.epoch is not None:
            options["checkpoint"] = self._is_checkpoint((writer.epoch, writer.sequence + 1))
        if "lost" in fates:
            # Whoever saved it has not heard what it was.
            options["large"] = self._newest_is_in_place()
        steps = writer.save(digest, int(clock * 1000), **options)
        try:
            return self._lead(steps, list(fates), unanswered=unanswered)
        finally:
            if not certain and writer.epoch is not None:
                self._reasons_untold.add((writer.epoch, writer.sequence))

    def _lead(
        self, steps: Generator[Command, Any, str | None], fates: list[Fate], *, unanswered: bool
    ) -> str | None:
        try:
            command = next(steps)
            while True:
                fate: Fate = "cut" if unanswered else "done"
                if isinstance(command, Claim | Publish):
                    # The fates are those of scripts.
                    fate = fates.pop(0) if fates else "done"
                try:
                    answer = self._meet(command, fate)
                except NoReplyError as lost:
                    command = steps.throw(lost)
                else:
                    command = steps.send(answer)
        except StopIteration as end:
            reason: str | None = end.value
            return reason

    def _meet(self, command: Command, fate: Fate) -> Any:
        if fate == "held":
            self.held.append(command)
        if fate in ("cut", "held"):
            raise NoReplyError
        before = self.model.data
        answer = self._execute(command, times=2 if fate == "twice" else 1)
        if fate == "refused" and self.model.data is not before:
            self.model.data = before
            if isinstance(command, Publish):
                self.accepted.pop(command.id, None)
            raise NoReplyError
        if fate == "lost":
            raise NoReplyError
        return answer

    def deliver(self) -> None:
        """What was held arrives."""
        self._execute(self.held.pop(0))

    def _execute(self, command: Command, times: int = 1) -> Any:
        before = self.model.data
        if isinstance(command, Claim) and self._real.type(self._keys.head) == b"hash":
            self.model.now = int(self._real.hget(self._keys.head, "claim")) - times
        for _ in range(times):
            answer = self.model.execute(command)
        if isinstance(command, Publish) and self.model.data is not before:
            self.accepted[command.id] = int(command.frame.target, 16)
        return answer

    def _is_checkpoint(self, at: Id) -> bool | None:
        """Whether the real save of this id has a full frame beside its delta; None: it was not written so."""
        keys = self._keys.delta, self._keys.full
        if any(self._real.type(key) != b"stream" for key in keys):
            return None
        delta, full = (self._real.xrange(key, _text(at), _text(at)) for key in keys)
        if not delta or b"f" not in delta[0][1]:
            return None
        return bool(full)

    def _newest_is_in_place(self) -> bool:
        if self._real.type(self._keys.delta) != b"stream":
            return False
        newest = self._real.xrevrange(self._keys.delta, count=1)
        return bool(newest) and newest[0][1].get(b"r") == b"larger"

    @property
    def wanted(self) -> bool:
        head = self._keys.head
        return self._real.type(head) == b"hash" and bool(self._real.hexists(head, "resync_request"))

    # --- what goes wrong

    def lose(self, *keys: Key) -> None:
        """Keys are evicted, or all that there is."""
        self._real.delete(*(getattr(self._keys, key) for key in keys))
        data = self._change()
        for key in keys:
            setattr(data, key, None if key == "head" else Stream())

    def remember(self) -> None:
        """The state of the server that it may fall back to."""
        dumps = {key: self._real.dump(key) for key in self._keys}
        self._remembered = self.model.data.copy(), dumps

    def fall_back(self) -> bool:
        """The server comes back with older data; False if there is none."""
        if self._remembered is None:
            return False
        data, dumps = self._remembered
        with self._real.pipeline() as together:
            together.delete(*self._keys)
            for key, dump in dumps.items():
                if dump is not None:
                    together.restore(key, 0, dump)
            together.execute()
        self.model.data = data.copy()
        return True

    def add_foreign(self, key: Literal["full", "delta"], at: Id, *, copied: bool, removed: bool) -> None:
        """Another program adds an entry, perhaps a copy of a genuine one, and perhaps removes it again."""
        stream: Stream = getattr(self._change(), key)
        if at <= stream.last_generated:
            at = stream.last_generated[0], stream.last_generated[1] + 1 + at[1] % 5
        name = getattr(self._keys, key)
        newest = self._real.xrevrange(name, count=1)
        fields = dict(newest[0][1]) if copied and newest else {b"x": b"y"}
        # Those of a writer begin with `t`; only where no writer can have made it, this one may as well.
        like_ours = b"t" in fields and at[0] >= HIGHEST_EPOCH
        if not like_ours:
            # Last, also where a copy is copied again.
            fields = dict(sorted(fields.items(), key=lambda field: field[0] == b"t"))
        self._real.xadd(name, fields, id=_text(at))
        stream.add(at, Entry(1 if like_ours else None))
        if removed:
            self._real.xdel(name, _text(at))
            del stream.entries[at]

    def delete_entry(self, key: Literal["full", "delta"], which: int) -> None:
        stream: Stream = getattr(self._change(), key)
        if stream.entries:
            at = list(stream.entries)[which % len(stream.entries)]
            del stream.entries[at]
            self._real.xdel(getattr(self._keys, key), _text(at))

    def damage(self, key: Literal["full", "delta"], which: int) -> None:
        """Turn a byte of an entry's frame over; the stream is made anew around it."""
        name = getattr(self._keys, key)
        entries: list[Any] = self._real.xrange(name)
        framed = [(at, fields) for at, fields in entries if b"f" in fields]
        if not framed:
            return
        place, fields = framed[-1 - which % len(framed)]
        frame = bytearray(fields[b"f"])
        frame[which % len(frame)] ^= 1 << which % 8
        fields[b"f"] = bytes(frame)
        self._note_damage(key, place, fields[b"f"])
        last = self._real.xinfo_stream(name)["last-generated-id"]
        with self._real.pipeline() as together:
            together.delete(name)
            for at, changed in entries:
                together.xadd(name, changed, id=at)
            together.execute_command("XSETID", name, last)
            together.execute()

    def _note_damage(self, key: Literal["full", "delta"], place: bytes, frame: bytes) -> None:
        stream: Stream = getattr(self._change(), key)
        epoch, sequence = place.split(b"-")
        at = int(epoch), int(sequence)
        entry = stream.entries[at]
        try:
            snapdelta.inspect(frame)
        except SnapdeltaError:
            damaged = True
        else:
            # Turned over twice.
            damaged = False
        if entry.frame is not None:
            stream.entries[at] = replace(entry, frame=replace(entry.frame, damaged=damaged))

    def set_wrong_type(self, key: Key) -> None:
        self.lose(key)
        self._real.set(getattr(self._keys, key), "something else")

    def reconnect(self) -> None:
        """After the server was started again."""
        self._real.connection_pool.disconnect()

    def _change(self) -> Data:
        self.model.data = self.model.data.copy()
        return self.model.data

    # --- comparison

    def compare(self) -> None:
        """Both hold the same, entry by entry."""
        data = self.model.data
        self._compare_stream(self._keys.full, data.full)
        self._compare_stream(self._keys.delta, data.delta)
        real = {name.decode(): value.decode() for name, value in self._real.hgetall(self._keys.head).items()}
        real.pop("resync_request", None)
        head = data.head
        if head is None:
            assert real == {}
            return
        expected = {"layout": "1", "claim": str(head.claim)}
        if head.id is not None:
            assert int(real.pop("bytes")) > 0
            assert len(real.pop("writer")) == 32
            assert real.pop("time") >= "1"
            fulls = [entry.split() for entry in real.pop("fulls").split(";")]
            assert [(at, int(frames)) for at, _, frames, _ in fulls] == [
                (_text(full.id), full.frames) for full in head.fulls
            ]
            expected |= {
                "epoch": str(head.id[0]),
                "sequence": str(head.id[1]),
                "digest": f"{int(head.digest, 16):016x}",
                "frames": str(head.frames),
            }
        assert real == expected

    def _compare_stream(self, key: str, expected: Stream) -> None:
        entries: list[Any] = self._real.xrange(key)
        assert [at.decode() for at, _ in entries] == [_text(at) for at in expected.entries], key
        last = ZERO
        if self._real.exists(key):
            epoch, sequence = self._real.xinfo_stream(key)["last-generated-id"].split(b"-")
            last = int(epoch), int(sequence)
        assert last == expected.last_generated, key
        for (at, entry), (_, fields) in zip(expected.entries.items(), entries, strict=True):
            if entry.digest:
                assert next(iter(fields)) == b"t"
                assert int(fields[b"d"], 16) == int(entry.digest, 16)
                assert (b"f" in fields) == (entry.frame is not None), at
                assert fields.get(b"b", b"").decode() == _base_text(entry), at
                if at not in self._reasons_untold:
                    assert fields.get(b"r", b"").decode() == (entry.reason or ""), at


def some_id(random: Random, now: int, kind: str) -> Id:
    """An id that another program might give an entry."""
    epoch = {
        # In an empty stream; much older ones are a case of their own (test_bounds.py).
        "next": now - 10**7,
        "newer": now + random.randrange(10**6),
        "outrageous": random.choice((HIGHEST_EPOCH, HIGHEST_EPOCH + 1, 2**64 - 1)),
    }[kind]
    return epoch, random.randrange(7)


def _base_text(entry: Entry) -> str:
    if entry.base is None:
        return ""
    at, digest = entry.base
    return f"{_text(at)}-{int(digest, 16):016x}"


def _text(at: Id) -> str:
    return f"{at[0]}-{at[1]}"
