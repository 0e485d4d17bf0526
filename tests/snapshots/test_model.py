"""The protocol of docs/redis-layout.md against every fault, in the model; and that the model would notice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace

import pytest

from support.protocol_model import HalfWrittenError, Publish, Published, Rules
from support.simulator import FAULTS, ViolationError, World

SEEDS = range(20)
ALL = list(FAULTS)
# Which faults show that a rule is needed.
NEEDED_FOR = {
    "store_claim": ["kill_writer"],
    "keep_claim_of_deleted": ["delete"],
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
    rules = replace(Rules(), **{rule: False})
    faults = NEEDED_FOR[rule]

    def run() -> None:
        for seed in range(100):
            World(seed, faults, rules).run(rounds=3, storm=60 if len(faults) == 1 else 200)

    with pytest.raises((ViolationError, HalfWrittenError)):
        run()


def test_the_runs_get_everywhere() -> None:
    """Every reason for a full frame, every refusal and every way to start again comes up."""
    reasons: set[str | None] = set()
    answers: set[str] = set()
    starts: set[str | None] = set()

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
    assert reasons == {None, "interval", "chain", "requested", *restarts}
    assert answers == {"Published", "NeedFull", "Superseded"}
    assert starts >= {None, "start", "gap", "head", *restarts}


def test_a_seed_says_it_all() -> None:
    traces = []
    for _ in range(2):
        world = World(7, ALL)
        world.run(rounds=2, storm=100)
        traces.append(world.trace)
    assert traces[0] == traces[1]
