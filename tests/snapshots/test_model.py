"""The protocol of docs/redis-layout.md against every fault, in the model; and that the model would notice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace

import pytest

from support.protocol_clients import Reader, Steps, Writer
from support.protocol_model import (
    HOUR,
    Command,
    HalfWrittenError,
    Publish,
    Published,
    Rules,
    Server,
    Settings,
)
from support.simulator import FAULTS, ORDERLY, ViolationError, World

SEEDS = range(20)
ALL = list(FAULTS)
# Which faults show that a rule is needed.
NEEDED_FOR = {
    "store_claim": ["kill_writer"],
    "keep_claim_of_deleted": ["delete", "another_writer"],
    "bound_epochs": ALL,
    "know_repeats": ["retried"],
    "superseded": ["another_writer"],
    "superseded_without_head": ["another_writer", "evict_head"],
    "delta_follows_head": ["lose_last_writes", "cut"],
    "streams_not_empty": ["evict_full"],
    "remove_what_stands_in_the_way": ["foreign_newer"],
    "compare_last_generated_id": ["foreign_newer"],
    "trim_at_a_full": ["pause_reader"],
    "times_never_fall": ["set_clock_back"],
    "number_every_attempt": ["delayed"],
    "answer_resync_request": ["damage"],
    "check_chain": ["delete_entry"],
    "check_header": ["foreign_newer"],
    "compare_head_when_silent": ["set_clock_back", "lose_all", "kill_writer"],
    "read_once_more": ["cut"],
    "reach_the_head": ["delete_entry"],
    "tell_outcome_unknown": ["cut"],
    "bridge_after_fencing": ["another_writer", "restart_two_at_once"],
    "bridge_compares_id": [
        "another_writer",
        "restart_in_order",
        "restart_alternating",
        "restart_two_at_once",
    ],
    "bridge_compares_digest": ["damage", "restart_in_order"],
    "bridge_next_to_its_base": ["half_done_save", "restart_after_kill"],
    "bridge_asks_the_clock": ["set_clock_back"],
    "bridge_names_base": ["restart_in_order"],
    "in_place_names_base": ["restart_in_order"],
    "bridge_keeps_fulls": sorted(ORDERLY),
    "bridge_once": ["cut", "restart_in_order"],
    "bridge_with_full": ["restart_in_order"],
    "handover_from_the_head": ["damage", "restart_in_order"],
    "reader_compares_base_id": ["restart_quickly"],
    "reader_compares_base_digest": ["lose_last_writes", "set_clock_back", "restart_after_kill"],
}
# Both keep a writer from another base than the head's state; without faults of its own each is enough.
GUARDED_TWICE = {
    "bridge_compares_digest": "handover_from_the_head",
    "handover_from_the_head": "bridge_compares_digest",
}


def run_mixed(seeds: Iterable[int]) -> None:
    for seed in seeds:
        World(seed, ALL).run(rounds=3, storm=200)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault(fault: str) -> None:
    for seed in SEEDS:
        World(seed, [fault]).run()


def test_faults_mixed() -> None:
    run_mixed(range(150))


@pytest.mark.long
def test_faults_mixed_at_length() -> None:
    run_mixed(range(1000, 11000))


@pytest.mark.parametrize("rule", [field.name for field in fields(Rules)])
def test_every_rule_is_needed(rule: str) -> None:
    """A protocol without the rule does not get through the same runs."""
    broken = {rule, GUARDED_TWICE.get(rule, rule)}
    rules = replace(Rules(), **dict.fromkeys(broken, False))
    faults = NEEDED_FOR[rule]

    def run() -> None:
        for seed in range(100):
            World(seed, faults, rules).run(rounds=3, storm=60 if len(faults) == 1 else 200)

    with pytest.raises((ViolationError, HalfWrittenError)):
        run()


# --- an epoch that is given twice


class GivenTwice:
    """A server that has lost the second writer's claim and save, and whose clock is behind."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.server = Server(rules, Settings())
        self.save(self.writer("first"), 5)
        self.before = self.server.data.copy()
        self.second = self.writer("second")
        self.save(self.second, 7)

    def writer(self, name: str) -> Writer:
        return Writer(name, self.rules, self.server.settings)

    def save(self, writer: Writer, state: int, *, large: bool = False) -> None:
        self.finish(writer.save(state, self.server.now, large=large))

    def finish(self, steps: Steps) -> None:
        command = next(steps)
        try:
            while True:
                command = steps.send(self.server.execute(command))
        except StopIteration:
            pass

    def lose(self) -> Writer:
        """A writer that has saved another state under the same id."""
        self.server.data = self.before
        self.server.now = 1000 * HOUR
        again = self.writer("again")
        self.save(again, 9)
        assert again.epoch == self.second.epoch
        return again


def read(server: Server, following: Steps, command: Command, count: int = 12) -> Command:
    for _ in range(count):
        command = following.send(server.execute(command))
    return command


@pytest.mark.parametrize("broken", [None, "in_place_names_base", "reader_compares_base_digest"])
def test_a_marker_in_place_of_a_delta_does_not_follow_another_state_of_the_same_id(
    broken: str | None,
) -> None:
    rules = Rules() if broken is None else replace(Rules(), **{broken: False})
    stage = GivenTwice(rules)
    reader = Reader("reader", rules)
    following = reader.follow()
    command = read(stage.server, following, next(following))
    assert [update.state for update in reader.updates] == [7]
    again = stage.lose()
    stage.save(again, 10, large=True)
    read(stage.server, following, command)
    last = reader.updates[-1]
    assert last.state == 10
    # It has never seen the 9 before it.
    assert last.resynced == (broken is None)


@pytest.mark.parametrize("broken", [None, "bridge_compares_digest"])
def test_a_bridge_does_not_follow_another_state_of_the_same_id(broken: str | None) -> None:
    rules = Rules() if broken is None else replace(Rules(), **{broken: False})
    stage = GivenTwice(rules)
    third = stage.writer("third")
    steps = third.save(8, stage.server.now)
    command = next(steps)
    while not isinstance(command, Publish):
        command = steps.send(stage.server.execute(command))
    stage.lose()
    with pytest.raises(StopIteration) as end:
        steps.send(stage.server.execute(command))
    assert end.value.value == ("takeover" if broken is None else "handover")
    head = stage.server.data.head
    assert head is not None
    assert head.id == command.id
    entry = stage.server.data.delta.entries[head.id]
    assert (entry.frame is None) == (broken is None)


def test_the_runs_get_everywhere() -> None:
    """Every reason for a full frame, every refusal and every way to start again comes up."""
    reasons: set[str | None] = set()
    answers: set[str] = set()
    starts: set[str | None] = set()
    crossed = 0

    class Watched(World):
        def execute(self, command: object) -> object:
            reply = super().execute(command)  # type: ignore[arg-type]
            if isinstance(command, Publish):
                answers.add(type(reply).__name__)
                if isinstance(reply, Published):
                    reasons.add(reply.reason)
            return reply

    for seed in range(60):
        world = Watched(seed, ALL)
        world.run(rounds=3, storm=200)
        crossed += world.crossed
        starts.update(update.reason for reader in world.readers for update in reader.updates)
    restarts = {
        "first",
        "takeover",
        "head_lost",
        "head_behind",
        "outcome_unknown",
        "stream_lost",
        "foreign_entry",
        "clock",
        "larger",
    }
    assert reasons == {None, "interval", "chain", "requested", "handover", *restarts}
    assert answers == {"Published", "NeedFull", "Superseded"}
    assert starts >= {None, "start", "gap", "head", *restarts}
    assert crossed > 100


def test_a_seed_says_it_all() -> None:
    traces = []
    for _ in range(2):
        world = World(7, ALL)
        world.run(rounds=2, storm=100)
        traces.append(world.trace)
    assert traces[0] == traces[1]
