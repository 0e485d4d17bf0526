"""`apply` puts new values into dicts of every make, and the dicts are as if each was set by its key."""

from __future__ import annotations

import copy
import gc
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from types import SimpleNamespace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pytest

import snapdelta
from support.assert_exact import assert_same

Make = Callable[[dict[str, Any]], dict[str, Any]]


def with_a_gap(plain: dict[str, Any]) -> dict[str, Any]:
    made = {"gone": 1, **plain}
    del made["gone"]
    return made


def grown(plain: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in plain.items():
        made[key] = value
    return made


def of_an_instance(plain: dict[str, Any]) -> dict[str, Any]:
    instance = SimpleNamespace()
    for key, value in plain.items():
        setattr(instance, key, value)
    return vars(instance)


def after_another_key(plain: dict[str, Any]) -> dict[str, Any]:
    made: dict[Any, Any] = {**plain, 7: 8}
    del made[7]
    return made


def with_keys_of_its_own(plain: dict[str, Any]) -> dict[str, Any]:
    return {"".join(list(key)): value for key, value in plain.items()}


MAKES: dict[str, Make] = {
    "as written": dict,
    "with a gap": with_a_gap,
    "grown": grown,
    "of an instance": of_an_instance,
    "after another key": after_another_key,
    "with keys of its own": with_keys_of_its_own,
    "parsed": lambda plain: orjson.loads(orjson.dumps(plain)),
}


def record(number: int) -> dict[str, Any]:
    values: list[Any] = [number, number / 7, f"text {number}", None, number % 2 == 0, [number], 1 << 70]
    value = values[number % len(values)]
    if isinstance(value, int) and value > 1 << 64:
        value = str(value)
    return {
        "price": number + 0.25,
        "day": {"open": 1.5, "close": number * 0.5, "in": {"deep": value, "same": 1}},
        "last": value,
        "name": "same",
        "trade": {"list": [number, "a"], "size": number},
    }


def snapshot(first: int, make: Make) -> dict[str, Any]:
    def dicts(plain: dict[str, Any]) -> dict[str, Any]:
        return make({key: dicts(v) if isinstance(v, dict) else v for key, v in plain.items()})

    return make({f"S{i}": dicts(record(first + i)) for i in range(40)})


def dicts_in(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, dict):
        return []
    return [value, *(found for inner in value.values() for found in dicts_in(inner))]


@pytest.mark.parametrize("make", MAKES.values(), ids=list(MAKES))
def test_dicts_of_every_make(make: Make) -> None:
    base = snapshot(0, make)
    for step in range(1, 9):
        target = snapshot(step, dict)
        del target[f"S{step}"]
        target[f"new {step}"] = record(step)
        before = copy.deepcopy(base)
        result = snapdelta.apply(base, snapdelta.diff(base, target))
        assert_same(result, target)
        assert_same(base, before)
        for made in dicts_in(result):
            assert all(made[key] is value for key, value in made.items())
            assert gc.is_tracked(made) or not any(map(gc.is_tracked, made.values()))
        # from what was parsed, and from what `apply` has made
        base = result if step % 2 else snapshot(step, make)


def test_objects_are_held_as_often_as_they_are_in_use() -> None:
    old, new = 1.5e300, [1, 2]
    base = {"A": {"x": old, "in": {"y": old, "z": 1}}, "B": {"x": old}}
    delta = snapdelta.diff(base, {"A": {"x": 2.5, "in": {"y": new, "z": 1}}, "B": {"x": old}})
    held = sys.getrefcount(old)
    for _ in range(3):
        result = snapdelta.apply(base, delta)
        # in a dict that is shared
        assert sys.getrefcount(old) == held
        del result
    assert sys.getrefcount(old) == held


def test_a_cycle_through_a_value_that_was_put_in_is_collected() -> None:
    class Node:
        pass

    base = {"A": {"x": 1.5, "y": 2.5}}
    result = snapdelta.apply(base, snapdelta.diff(base, {"A": {"x": 1.5, "y": [1]}}))
    node = Node()
    result["A"]["y"].extend([result["A"], node])
    alive = weakref.ref(node)
    del node, result
    gc.collect()
    assert alive() is None


class Venue(StrEnum):
    NYSE = "nyse"


# Values that the walk leaves open, by how a record holds them.
SHARED: dict[str, Callable[[int], Any]] = {
    "Decimal": lambda n: Decimal(n) / 4,
    "large int": lambda n: 1 << (70 + n),
    "UUID": lambda n: UUID(int=n),
    "zone": lambda n: datetime(2026, 1, 5, 14, 30, n, tzinfo=ZoneInfo("Europe/Berlin")),
    "utc": lambda n: datetime(2026, 1, 5, 14, 30, n, tzinfo=UTC),
    "list": lambda n: [Decimal(n), (UUID(int=n), 1 << 80)],
    "dict": lambda n: {"in": {"price": Decimal(n) / 4}},
}
REBUILT: dict[str, Callable[[int], Any]] = {
    "Enum": lambda n: Venue.NYSE,
    "list of Enums": lambda n: [Decimal(n), Venue.NYSE],
    "list of OrderedDicts": lambda n: [OrderedDict(n=n)],
    "OrderedDict": lambda n: OrderedDict(n=Decimal(n)),
}


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", [*SHARED, *REBUILT])
def test_unchanged_records_are_shared_whatever_they_hold(name: str, verify: bool) -> None:
    make = (SHARED | REBUILT)[name]
    prev = {f"S{n}": {"value": make(n), "n": n} for n in range(6)}
    curr = {**prev, "S4": {**prev["S4"], "n": -1}}
    applied = snapdelta.apply(prev, snapdelta.diff(prev, curr), verify=verify)
    assert_same(applied, snapdelta.loads(snapdelta.dumps(curr)))
    shared = [symbol for symbol in prev if applied[symbol] is prev[symbol]]
    assert shared == ([] if name in REBUILT else ["S0", "S1", "S2", "S3", "S5"])
    if name != "dict":  # the dicts of a changed record are copied before Python code may run
        assert (applied["S4"]["value"] is prev["S4"]["value"]) == (name in SHARED)
