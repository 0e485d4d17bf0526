"""The model's writers and readers on a network and a server that fail, and what must hold all the same.

Everything comes from one seed. Each step is one command of one writer or reader, or one fault; the invariants
are checked after each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from support.model_history import replay
from support.protocol_clients import SAVES_BETWEEN_REQUESTS, Reader, Steps, Update, Writer
from support.protocol_model import (
    HIGHEST_CLAIM,
    HIGHEST_EPOCH,
    HOUR,
    ZERO,
    Claim,
    Command,
    Data,
    Delete,
    Entry,
    Head,
    Id,
    NoReplyError,
    Publish,
    Published,
    Rules,
    Server,
    Settings,
    Stream,
    Superseded,
)
from support.restart_faults import RESTARTS, restart

# What is kept to go back to when the server loses its last writes.
HISTORY = 12
# Commands after which a reader that is left alone must have come to rest.
PATIENCE = 300
SUCCESSES = 2
# Chance of a restart before a save in peace, and before one that heals.
PEACEFUL_RESTARTS, HEALING_RESTARTS = 0.3, 0.15
# Restarts without any fault.
ORDERLY = {"restart_in_order", "restart_quickly", "pause_reader"}


class ViolationError(AssertionError):
    """An invariant does not hold; the message ends with what led to it."""


class Task:
    """A writer's save or a reader's life, between two commands."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.done = False
        self.command: Command | None = None
        self._go(lambda: next(steps))

    def answer(self, reply: Any) -> None:
        self._go(lambda: self.steps.send(reply))

    def fail(self) -> None:
        self._go(lambda: self.steps.throw(NoReplyError()))

    def _go(self, go: Callable[[], Command]) -> None:
        try:
            self.command = go()
        except (StopIteration, NoReplyError):
            self.done, self.command = True, None


class World:
    def __init__(self, seed: int, faults: list[str], rules: Rules | None = None) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.rules = rules or Rules()
        self.settings = Settings()
        self.server = Server(self.rules, self.settings)
        self.faults = faults
        self.network: str | None = None  # what befalls the next command of a writer
        self.limbo: list[Command] = []  # commands under way that nobody waits for
        self.writers: dict[Writer, Task | None] = {}
        self.readers: dict[Reader, Task] = {}
        self.paused: set[Reader] = set()
        self.count = 0
        self.states = 0
        self.trace: list[str] = []
        # What the world knows and the server need not.
        self.accepted: dict[Id, set[int]] = {}
        self.follows: dict[tuple[Id, int], set[tuple[Id, int] | None]] = {}  # the states before
        self.bridges: set[Id] = set()
        self.crossed = 0  # bridges by followers
        self.publishers: dict[int, set[str]] = {}
        self.claimed: dict[int, int] = {}  # epoch -> how often
        self.newest: Id = ZERO  # the newest save that can be known from the data
        self.history: list[tuple[Data, Id]] = []
        self.calm = False
        self.calm_from: Id = ZERO
        self.add_writer()
        self.add_reader()

    # --- who takes part

    def add_writer(self) -> Writer:
        self.count += 1
        writer = Writer(f"w{self.count}", self.rules, self.settings)
        self.writers[writer] = None
        return writer

    def add_reader(self) -> None:
        self.count += 1
        reader = Reader(f"r{self.count}", self.rules)
        self.readers[reader] = Task(reader.follow())
        if len(self.readers) > 4:
            gone = next(iter(self.readers))
            del self.readers[gone]
            self.paused.discard(gone)

    def rightful(self) -> Writer:
        """The writer that came last, a new one if it has given up."""
        living = [w for w in self.writers if not w.superseded]
        latest = max(living, key=lambda w: w.epoch or 0, default=None)
        return latest or self.add_writer()

    # --- one step

    def begin_save(self, writer: Writer) -> None:
        large = self.random.random() < 0.03
        self.writers[writer] = Task(writer.save(self.new_state(), self.server.now, large=large))

    def step_writer(self, writer: Writer) -> None:
        if self.writers[writer] is None:
            if writer.superseded:
                return
            self.begin_save(writer)
        task = self.writers[writer]
        assert task is not None
        command, network = task.command, self.network
        assert command is not None
        self.network = None
        self.note(f"{writer.name} {network or ''} {command}")
        if network == "cut":
            task.fail()
        elif network == "delayed":
            self.limbo.append(command)
            task.fail()
        elif network == "lost":
            self.execute(command)
            task.fail()
        elif network == "retried":
            self.execute(command)  # the client has no reply, and sends it again at its next step
        else:
            reply = self.execute(command)
            if network == "repeated":
                reply = self.execute(command)
            if network == "copied":
                self.limbo.append(command)
            task.answer(reply)
            if isinstance(reply, Superseded):
                self.check_superseded(writer)
        if task.done:
            self.writers[writer] = None

    def step_reader(self, reader: Reader) -> None:
        task, seen = self.readers[reader], len(reader.updates)
        assert task.command is not None
        lossy = bool({"lost", "cut"} & set(self.faults)) and not self.calm
        if lossy and self.random.random() < 0.05:
            task.fail()
        else:
            task.answer(self.execute(task.command))
        for update in reader.updates[seen:]:
            self.note(f"    {reader.name} yields {update}")
            if update.state not in self.accepted.get(update.id, ()):
                self.violation(f"{reader.name} yields what was never accepted: {update}")
            self.check_order(reader, update)
            if self.calm and update.resynced:
                self.violation(f"{reader.name} resyncs without a fault: {update}")

    def new_state(self) -> int:
        """Mostly one that never was; now and then one that was."""
        self.states += 1
        return self.states if self.random.random() < 0.8 else self.random.randrange(3)

    def execute(self, command: Command) -> Any:
        self.server.now += self.random.choice((0, 0, 1, 2, 4))
        before, newest = self.server.data, self.newest
        reply = self.server.execute(command)
        if isinstance(command, Claim):
            self.check_claim(int(reply))
        if self.server.data is not before:
            if isinstance(command, Publish) and isinstance(reply, Published):
                self.check_accepted(command, before.head, reply)
            if isinstance(command, Delete):
                self.newest = ZERO
            self.history = [*self.history, (before, newest)][-HISTORY:]
            self.note(f"    -> {reply}")
        return reply

    # --- invariants

    def check_claim(self, epoch: int) -> None:
        self.claimed[epoch] = self.claimed.get(epoch, 0) + 1
        if self.claimed[epoch] > 1:
            self.violation(f"epoch {epoch} was claimed twice")
        if epoch > HIGHEST_CLAIM:
            self.violation(f"epoch {epoch} is out of all measure")

    def check_order(self, reader: Reader, update: Update) -> None:
        """Without a resync it is the next accepted state; without a fault, no kept state is skipped."""
        before = reader.updates[: reader.updates.index(update)]
        if not before:
            return
        last = before[-1]
        if not update.resynced:
            self.crossed += update.id in self.bridges and last.id[0] != update.id[0]
            if (last.id, last.state) not in self.follows.get((update.id, update.state), ()):
                self.violation(f"{reader.name} goes from {last} to {update} without a word")
        elif set(self.faults) <= ORDERLY and last.id >= min(self.server.data.delta.entries):
            self.violation(f"{reader.name} resyncs at {update} from {last}, which is kept")

    def note_accepted(self, p: Publish, head: Head | None) -> None:
        """Readers may see this state, behind that of the head."""
        state = int(p.frame.target, 16)
        known = (head.id, int(head.digest, 16)) if head is not None and head.id is not None else None
        self.accepted.setdefault(p.id, set()).add(state)
        self.follows.setdefault((p.id, state), set()).add(known)

    def check_accepted(self, p: Publish, head: Head | None, reply: Published) -> None:
        if p.id < self.newest:
            self.violation(f"{p.writer} could write {p.id} over {self.newest}")
        publishers = self.publishers.setdefault(p.id[0], set())
        publishers.add(p.writer)
        self.note_accepted(p, head)
        self.newest = p.id
        data = self.server.data
        self.check_base(p, head, data.delta)
        saving = {(writer.epoch, writer.sequence): writer for writer in self.writers}.get(p.id)
        if reply.reason == "head_behind" and saving is not None and saving.was_unknown:
            self.violation(f"{p.id} does not say that the outcome before it was unknown")
        for stream in (data.full, data.delta):
            times = [e.time for at, e in stream.entries.items() if e.time is not None and at <= p.id]
            if times != sorted(times):
                self.violation(f"times fall along a stream: {times}")

    def check_base(self, p: Publish, head: Head | None, deltas: Stream) -> None:
        """An entry that names its base follows the head's state, and nothing is between."""
        entry = deltas.entries[p.id]
        if entry.base is None:
            return
        known = None if head is None or head.id is None else (head.id, head.digest)
        if entry.base != known:
            self.violation(f"{p.id} goes on from {entry.base}, the head was {known}")
        if entry.frame is not None and (entry.frame.base_id, entry.frame.base) != entry.base:
            self.violation(f"the delta of {p.id} has another base than its entry")
        if entry.base[0][0] != p.id[0]:
            self.bridges.add(p.id)
            between = max((at for at in deltas.entries if at < p.id), default=ZERO)
            if between not in (ZERO, entry.base[0]):
                self.violation(f"{between} is between {p.id} and its base {entry.base}")

    def check_past(self) -> None:
        """at() of every kept place, and replay() over all of them."""
        last: tuple[Id, int] | None = None
        for place, state, stepped in replay(self.server):
            if state is not None and state not in self.accepted.get(place, ()):
                self.violation(f"at() gives {state} at {place}, never accepted")
            if state is None and place >= self.calm_from:
                self.violation(f"at() finds no way to {place}, accepted in peace")
            if last is not None and stepped is not None and state is not None:
                follows = last in self.follows.get((place, state), ())
                if stepped != state or not follows:
                    self.violation(f"replay() goes from {last} to {place} {stepped} without a word")
            if last is not None and stepped is None and place > self.calm_from:
                self.violation(f"replay() breaks at {place}")
            last = None if state is None else (place, state)

    def check_superseded(self, writer: Writer) -> None:
        assert writer.epoch is not None
        others = [e for e, names in self.publishers.items() if e >= writer.epoch and names != {writer.name}]
        if not others:
            self.violation(f"{writer.name} gives up, but there is no later writer")

    def check_held(self) -> None:
        most = self.settings.history_frames
        data = self.server.data
        if max(len(data.full.entries), len(data.delta.entries)) > most:
            self.violation(f"{len(data.full.entries)} and {len(data.delta.entries)} entries are held")

    def violation(self, what: str) -> None:
        trace = "\n".join(self.trace[-60:])
        raise ViolationError(f"seed {self.seed}, faults {self.faults}: {what}\n{trace}")

    def note(self, what: str) -> None:
        self.trace.append(f"{self.server.now} {what}")

    # --- a run

    def run(self, rounds: int = 3, storm: int = 60) -> None:
        self.save_in_peace(5)
        for _ in range(rounds):
            self.storm(storm)
            self.heal()
            self.save_in_peace(12)

    def storm(self, steps: int) -> None:
        """Anything in any order, and faults."""
        self.calm = False
        for _ in range(steps):
            choice = self.random.random()
            if choice < 0.12:
                fault = self.random.choice(self.faults)
                self.note(f"FAULT {fault}")
                FAULTS[fault](self)
            elif choice < 0.6 and self.writers:
                self.step_writer(self.random.choice(list(self.writers)))
            else:
                reader = self.random.choice(list(self.readers))
                if reader not in self.paused:
                    self.step_reader(reader)

    def heal(self) -> None:
        """The faults end; two successful saves later everybody is on the newest state."""
        self.note("HEAL")
        self.network = None
        for command in self.limbo:
            if self.random.random() < 0.5:
                self.note(f"late {command}")
                self.execute(command)
        self.limbo.clear()
        self.paused.clear()
        for writer in list(self.writers):
            while self.writers[writer] is not None:
                self.step_writer(writer)
        self.add_reader()
        successes = attempts = 0
        needed = SUCCESSES
        while successes < needed:
            self.let_readers_rest()
            writer = self.rightful()
            # Damage on damage waits for its turn.
            needed = max(
                needed,
                SUCCESSES + SAVES_BETWEEN_REQUESTS - writer.saves_since_request
                if "damage" in self.faults
                else 0,
            )
            if self.random.random() < HEALING_RESTARTS:
                writer = restart(self, writer)
            self.save(writer)
            successes += not writer.superseded
            attempts += 1
            if attempts > needed + 4:
                self.violation("saves do not succeed")
        self.let_readers_rest()
        self.writers = {writer: None}
        for reader in self.readers:
            if reader.at != self.newest:
                self.violation(f"{reader.name} is on {reader.at} after {successes} successful saves")
            if self.newest not in self.accepted or reader.state not in self.accepted[self.newest]:
                self.violation(f"{reader.name} is at {self.newest} with another state")

    def save(self, writer: Writer) -> None:
        self.step_writer(writer)
        while self.writers[writer] is not None:
            self.step_reader(self.random.choice(list(self.readers)))
            self.step_writer(writer)

    def save_in_peace(self, saves: int) -> None:
        """Without a fault every reader yields every save, and none starts again."""
        writer = self.rightful()
        # What was lost or foreign goes with the next full frame, and the history behind it too.
        for _ in range(2):
            self.server.now += self.settings.interval
            self.save(writer)
            self.let_readers_rest()
        self.calm, self.calm_from = True, self.newest
        seen = {reader: len(reader.updates) for reader in self.readers}
        for _ in range(saves):
            while self.random.random() < PEACEFUL_RESTARTS:
                writer = restart(self, writer)
            self.save(writer)
            for _ in range(self.random.randrange(12)):
                self.step_reader(self.random.choice(list(self.readers)))
        self.let_readers_rest()
        self.check_held()
        self.check_past()
        for reader in self.readers:
            new = reader.updates[seen[reader] :]
            if len(new) != saves:
                self.violation(f"{reader.name} yields {len(new)} of {saves} saves")

    def let_readers_rest(self) -> None:
        # Twice: what a reader was about to send may have been overtaken by a save.
        for reader in [*self.readers, *self.readers]:
            reader.waiting = False
            for _ in range(PATIENCE):
                self.step_reader(reader)
                if reader.waiting:
                    break
            else:
                # Behind a half-done save readers go between the head and the leftover until the next save.
                if "half_done_save" not in self.faults:
                    self.violation(f"{reader.name} never comes to rest")

    # --- faults

    def lose(self, data: Data, newest: Id) -> None:
        self.server.data = data
        self.newest = newest
        self.server.now += 20  # a restart takes longer than the claims of one moment
        if data.head is None or data.head.id is None:
            streams = (data.full, data.delta)
            self.newest = max(self.server.newest_written(stream) for stream in streams)
        self.forget_claims()

    def forget_claims(self) -> None:
        """Where neither the clock nor the data says that an epoch was taken, it may be taken again."""
        head = self.server.data.head
        known = max(self.server.now, head.claim if head is not None else 0)
        self.claimed = {epoch: n for epoch, n in self.claimed.items() if epoch <= known}

    def change(self) -> Data:
        self.server.data = self.server.data.copy()
        return self.server.data

    def lose_all(self) -> None:
        self.lose(Data(), ZERO)

    def lose_last_writes(self) -> None:
        if self.history:
            back = self.random.randrange(len(self.history))
            data, newest = self.history[back]
            self.history = self.history[:back]
            self.lose(data, newest)

    def delete(self) -> None:
        """By one of the writers between two saves, or by a stranger; the writer begins anew."""
        idle = [writer for writer, task in self.writers.items() if task is None and not writer.superseded]
        writer = self.random.choice([*idle, None])
        command = Delete() if writer is None else Delete(writer.name, writer.epoch)
        self.note(f"{command}")
        reply = self.execute(command)
        if isinstance(reply, Superseded):
            assert writer is not None
            self.check_superseded(writer)
        if writer is not None:
            del self.writers[writer]
            self.add_writer()
        if self.random.random() < 0.2:
            # Its time ran out, and it comes late.
            self.limbo.append(command)

    def evict(self, key: str) -> None:
        data = self.change()
        setattr(data, key, None if key == "head" else Stream())
        self.lose(data, self.newest)

    def any_stream(self, data: Data) -> Stream:
        return data.full if self.random.random() < 0.4 else data.delta

    def delete_entry(self) -> None:
        data = self.change()
        stream = self.any_stream(data)
        if stream.entries:
            ids = list(stream.entries)
            at = ids[-1] if self.random.random() < 0.5 else self.random.choice(ids)
            del stream.entries[at]
        self.lose(data, self.newest)

    def damage(self) -> None:
        stream = self.any_stream(self.change())
        whole = [(at, e) for at, e in stream.entries.items() if e.frame is not None]
        if whole:
            at, entry = self.random.choice(whole[-3:])
            assert entry.frame is not None
            stream.entries[at] = replace(entry, frame=replace(entry.frame, damaged=True))

    def add_foreign(self, epoch: int) -> None:
        data = self.change()
        stream = self.any_stream(data)
        entry = Entry(None)
        if stream.entries and self.random.random() < 0.3:
            # A copy of a genuine one. With its time it is as good as a writer's own, but for its id.
            entry = self.random.choice(list(stream.entries.values()))
            if epoch < HIGHEST_EPOCH:
                entry = replace(entry, time=None)
        at = (epoch, self.random.choice((0, 1, 7)))
        if at <= stream.last_generated:
            at = (stream.last_generated[0], stream.last_generated[1] + self.random.choice((1, 1, 5)))
        stream.add(at, entry)
        if self.random.random() < 0.3:
            del stream.entries[at]

    def foreign_newer(self) -> None:
        self.add_foreign(self.server.now)

    def foreign_outrageous(self) -> None:
        self.add_foreign(self.random.choice((HIGHEST_EPOCH, HIGHEST_EPOCH + 1, 2**64 - 1)))

    def foreign_next(self) -> None:
        self.add_foreign(0)

    def set_clock_back(self) -> None:
        self.server.now -= self.random.choice((30, 1000, HOUR // 2, 2 * HOUR))
        self.forget_claims()

    def another_writer(self) -> None:
        if len(self.writers) < 4:
            self.add_writer()

    def kill_writer(self) -> None:
        if self.writers:
            writer = self.random.choice(list(self.writers))
            task = self.writers.pop(writer)
            if task is not None and task.command is not None and self.random.random() < 0.5:
                self.limbo.append(task.command)
        if not self.writers:
            self.add_writer()

    def cancel_save(self) -> None:
        for writer, task in self.writers.items():
            if task is not None:
                task.fail()
                self.writers[writer] = None

    def pause_reader(self) -> None:
        self.paused ^= {self.random.choice(list(self.readers))}

    def late_command(self) -> None:
        if self.limbo:
            command = self.limbo.pop(self.random.randrange(len(self.limbo)))
            self.note(f"late {command}")
            self.execute(command)

    def fail_network(self, how: str) -> None:
        self.network = how
        if self.random.random() < 0.5:
            self.late_command()


FAULTS: dict[str, Callable[[World], None]] = {
    "lose_all": World.lose_all,
    "delete": World.delete,
    "lose_last_writes": World.lose_last_writes,
    "evict_head": lambda world: world.evict("head"),
    "evict_full": lambda world: world.evict("full"),
    "evict_delta": lambda world: world.evict("delta"),
    "delete_entry": World.delete_entry,
    "damage": World.damage,
    "foreign_newer": World.foreign_newer,
    "foreign_outrageous": World.foreign_outrageous,
    "foreign_next": World.foreign_next,
    "set_clock_back": World.set_clock_back,
    "another_writer": World.another_writer,
    "kill_writer": World.kill_writer,
    "cancel_save": World.cancel_save,
    "pause_reader": World.pause_reader,
    **RESTARTS,
    **{
        how: lambda world, how=how: world.fail_network(how)  # type: ignore[misc]
        for how in ("cut", "lost", "delayed", "repeated", "retried", "copied")
    },
}
