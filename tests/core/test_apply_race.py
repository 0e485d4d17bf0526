"""What `apply` has read of its base is what it proves and copies, whoever changes the base meanwhile."""

from __future__ import annotations

import copy
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

import snapdelta
from support.assert_exact import assert_same

Snapshot = dict[str, Any]
Change = Callable[[Snapshot], Any]


class Foreign:
    """A value for default=."""


def base() -> Snapshot:
    return {
        "A": {"x": Foreign(), "y": 1},
        "B": {"x": 1, "in": {"y": 1, "z": 1, "deep": {"w": 1}}},
        "C": {"x": 1, "in": {"y": 1}},
        "D": {"u": UUID(int=1), "in": {"y": 1}},
    }


def read(snapshot: Snapshot) -> Snapshot:
    """The snapshot as default= has it read."""
    return {**snapshot, "A": {**snapshot["A"], "x": 0}}


TARGET: Snapshot = {
    "A": {"x": 0, "y": 2},
    "B": {"x": 1, "in": {"y": 2, "z": 1, "deep": {"w": 2}}},
    "C": {"x": 1, "in": {"y": 1}},
    "D": {"u": UUID(int=2), "in": {"y": 2}},
}

CHANGES: dict[str, Change] = {
    "a symbol comes": lambda p: p.update(new={"x": 1}),
    "a symbol goes": lambda p: p.pop("C", None),
    "all go": lambda p: p.clear(),
    "a record is another": lambda p: p.update(B={"q": 9}),
    "a record is no dict": lambda p: p.update(B=7),
    "a value changes": lambda p: p.get("B", {}).update(x=5),
    "a value changes below": lambda p: p["B"]["in"].update(z=5),
    "a key comes below": lambda p: p["B"]["in"].update(new=5),
    "a dict goes": lambda p: p["B"].pop("in", None),
    "a dict is another": lambda p: p["B"].update({"in": 5}),
    "a dict goes below": lambda p: p["B"]["in"].pop("deep", None),
    "a record with a UUID changes": lambda p: p["D"]["in"].update(y=5, z=6),
}


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_a_base_that_default_changes(name: str, verify: bool) -> None:
    previous = base()
    frame = snapdelta.diff(read(base()), TARGET)

    def default(value: object) -> int:
        assert isinstance(value, Foreign)
        CHANGES[name](previous)
        return 0

    assert_same(snapdelta.apply(previous, frame, default=default, verify=verify), TARGET)


def test_the_base_is_not_changed_and_shared_where_it_stays() -> None:
    previous = base()
    before = copy.deepcopy(read(previous))
    frame = snapdelta.diff(read(previous), TARGET)
    result = snapdelta.apply(previous, frame, default=lambda value: 0)
    assert_same(result, TARGET)
    assert result["C"] is previous["C"]
    assert_same(read(previous), before)


def rows(count: int, columns: int, turn: int, make: Callable[[float], Any]) -> Snapshot:
    rng = random.Random(turn)
    return {
        f"S{n}": {"k": n, "in": {f"c{c}": make(rng.random()) for c in range(columns)}} for n in range(count)
    }


def uuid_of(value: float) -> UUID:
    return UUID(int=int(value * 2**100))


def price(value: float) -> float:
    return round(value * 10_000, 2)


# Rows and columns of what: bodies read at once, one read without the GIL, values that Python code builds.
RACES: dict[str, tuple[int, int, Callable[[float], Any]]] = {
    "at once": (2000, 4, float),
    "long body, long base": (40_000, 14, price),
    "long body": (20_000, 14, float),
    "UUIDs": (500, 2, uuid_of),
}


# What makes their bodies long, in bytes, by the cells of the base.
LONG: dict[str, Callable[[int, int], bool]] = {
    "long body, long base": lambda body, cells: 1.2 * 2**20 < body < 0.8 * 4 * cells,
    "long body": lambda body, cells: body > 1.2 * max(2**20, 4 * cells),
}


def in_place(previous: Snapshot, symbol: str) -> None:
    previous[symbol]["in"]["c0"] = "changed"


def swapped_below(previous: Snapshot, symbol: str) -> None:
    previous[symbol]["in"] = {"c0": 0}


STEPS: list[Callable[[Snapshot, str], Any]] = [
    in_place,
    swapped_below,
    lambda previous, symbol: previous.update({symbol: {"k": -1}}),
    lambda previous, symbol: previous.pop(symbol, None),
    lambda previous, symbol: previous.update(new={"k": 1}),
    lambda previous, symbol: previous[symbol].clear(),
    lambda previous, symbol: previous[symbol]["in"].update(more=1),
]


def race(name: str, seconds: float) -> Counter[str]:
    """Applies a delta again and again while another thread changes the base; counts what came of it."""
    count, columns, make = RACES[name]
    first, second = (rows(count, columns, turn, make) for turn in (1, 2))
    frame = snapdelta.diff(first, second)
    cells = count * (1 + columns)
    if name in LONG:
        assert LONG[name](snapdelta.inspect(frame).body_size, cells)
    rng = random.Random(3)
    outcomes: Counter[str] = Counter()
    go, changed = threading.Semaphore(0), threading.Semaphore(0)
    step: Callable[[Snapshot, str], Any] = STEPS[0]
    previous: Snapshot | None = {}
    took = 0.01

    def mutate() -> None:
        while True:
            go.acquire()
            if previous is None:
                return
            time.sleep(rng.uniform(0, took))
            step(previous, f"S{rng.randrange(count)}")
            changed.release()

    thread = threading.Thread(target=mutate)
    thread.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end or (outcomes.total() < 20 and not outcomes["the target"]):
        previous = {symbol: {**record, "in": dict(record["in"])} for symbol, record in first.items()}
        step = rng.choice(STEPS)
        start = time.monotonic()
        go.release()
        try:
            result = snapdelta.apply(previous, frame)
            outcomes["the target" if result == second else f"wrong state: {step}"] += 1
        except snapdelta.BaseMismatchError:
            outcomes["refused"] += 1
        except BaseException as error:  # noqa: BLE001  # a panic too is an outcome
            outcomes[repr(error)] += 1
        took = time.monotonic() - start
        changed.acquire()
    previous = None
    go.release()
    thread.join()
    return outcomes


@pytest.mark.parametrize("name", RACES)
def test_a_base_that_another_thread_changes(name: str) -> None:
    assert_only_targets(race(name, 0.7))


@pytest.mark.long
def test_a_base_that_another_thread_changes_for_a_minute() -> None:
    interval = sys.getswitchinterval()
    try:
        for name in RACES:
            for switch in (interval, 1e-5):
                sys.setswitchinterval(switch)
                assert_only_targets(race(name, 10))
    finally:
        sys.setswitchinterval(interval)


def assert_only_targets(outcomes: Counter[str]) -> None:
    assert outcomes["the target"] > 0, outcomes
    assert set(outcomes) <= {"the target", "refused"}, outcomes
