"""The same snapshot on three heaps: as a JSON parser leaves it, rebuilt in order, and fragmented.

A parser allocates values in the order in which a walk reads them. A service that has run for hours holds
objects allocated in another order, and every value read is a cache miss. Benchmarks run on all three.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from sys import intern
from typing import Any

import orjson


def parsed(snapshot: dict[str, Any]) -> dict[str, Any]:
    """An equal snapshot as orjson.loads makes it; equal keys need not be the same object."""
    made: dict[str, Any] = orjson.loads(orjson.dumps(snapshot))
    return made


def rebuilt(snapshot: dict[str, Any]) -> dict[str, Any]:
    """An equal snapshot whose dicts and values are made anew, in order; keys are interned."""
    return _rebuild(snapshot, (_remade(leaf) for leaf in _leaves(snapshot)))


def fragmented(snapshot: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """An equal snapshot whose values are made anew in a shuffled order, then the dicts; keys are interned."""
    leaves: list[Any] = list(_leaves(snapshot))
    order = list(range(len(leaves)))
    Random(seed).shuffle(order)
    for index in order:
        leaves[index] = _remade(leaves[index])
    return _rebuild(snapshot, iter(leaves))


HEAPS = {"parsed": parsed, "rebuilt": rebuilt, "fragmented": fragmented}


def _leaves(record: dict[str, Any]) -> Iterator[Any]:
    for value in record.values():
        if type(value) is dict:
            yield from _leaves(value)
        else:
            yield value


def _rebuild(record: dict[str, Any], leaves: Iterator[Any]) -> dict[str, Any]:
    return {
        intern(key): _rebuild(value, leaves) if type(value) is dict else next(leaves)
        for key, value in record.items()
    }


def _remade(value: Any) -> Any:
    """An equal value that is another object, where Python has no single object for it."""
    match value:
        case None | bool():
            return value
        case float():
            return value * 1.0
        case int():
            return value + 0
        case str():
            return value[:1] + value[1:]
        case list():
            return [_remade(item) for item in value]
    raise TypeError(f"benchmarks carry what JSON carries, not {type(value).__name__}")
