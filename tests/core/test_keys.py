"""The same records, however their dicts keep the keys: a walk knows key objects and reads tables in place."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import snapdelta
from support.assert_exact import assert_same

Snapshot = dict[str, Any]
Remake = Callable[[dict[Any, Any], random.Random], dict[Any, Any]]


def record(rng: random.Random) -> dict[str, Any]:
    """Leaves before, between and behind dicts, which are next to each other or in one another."""

    def leaf() -> Any:
        return rng.choice(
            [rng.random(), rng.randrange(-(2**70), 2**70), rng.randrange(9), "text", None, True]
        )

    inner = {f"field {i}": leaf() for i in range(9)}
    return {
        "first": {"a": leaf(), "in": {"b": leaf(), "deep": {"c": leaf()}, "d": leaf()}},
        "second": inner,
        "leaf": leaf(),
        "list": [rng.randrange(3)] * rng.randrange(3),
        "third": {"only": {"e": leaf()}},
        "empty": {},
        "é": leaf(),
        "last": leaf(),
    }


def other_object(key: str) -> str:
    return "".join([key[:1], key[1:]])


def new_objects(source: dict[Any, Any], rng: random.Random) -> dict[Any, Any]:
    return {other_object(key): value for key, value in source.items()}


def some_new_objects(source: dict[Any, Any], rng: random.Random) -> dict[Any, Any]:
    return {other_object(key) if rng.random() < 0.2 else key: value for key, value in source.items()}


def hashed(source: dict[Any, Any], rng: random.Random) -> dict[Any, Any]:
    """A table that keeps hashes, as one with a key that is no str."""
    made: dict[Any, Any] = {0: None}
    made.update(source)
    del made[0]
    return dict(made) if rng.random() < 0.5 else made


def gapped(source: dict[Any, Any], rng: random.Random) -> dict[Any, Any]:
    """A key that is gone leaves a gap among the entries."""
    made: dict[Any, Any] = {"gone": None} | source
    del made["gone"]
    return made


def remade(source: Any, rng: random.Random, remake: Remake) -> Any:
    if not isinstance(source, dict):
        return source
    return remake({key: remade(value, rng, remake) for key, value in source.items()}, rng)


@pytest.mark.parametrize("remake", [new_objects, some_new_objects, hashed, gapped])
@pytest.mark.parametrize("seed", range(3))
def test_frames_depend_on_keys_and_values_alone(remake: Remake, seed: int) -> None:
    rng = random.Random(seed)
    plain, other, decoder = snapdelta.Encoder(), snapdelta.Encoder(), snapdelta.Decoder()
    snapshot: Snapshot = {f"symbol {i}": record(rng) for i in range(60)}
    before: Snapshot = {}
    for number in range(6):
        for symbol in rng.sample(sorted(snapshot), 20):
            snapshot[symbol] = record(rng)
        snapshot[f"added {number}"] = record(rng)
        snapshot.pop(rng.choice(sorted(snapshot)))
        same = remade(snapshot, rng, remake)
        frame = plain.encode(snapshot)
        assert other.encode(same) == frame
        assert snapdelta.dumps(same) == snapdelta.dumps(snapshot)
        delta = snapdelta.diff(before, snapshot)
        assert snapdelta.diff(remade(before, rng, remake), same) == delta
        decoder.apply(frame)
        assert_same(decoder.snapshot(), snapshot)
        assert_same(snapdelta.apply(remade(before, rng, remake), delta), snapshot)
        before = dict(snapshot)


def test_another_key_in_the_middle_is_another_shape() -> None:
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    rng = random.Random(5)
    snapshot: Snapshot = {f"symbol {i}": record(rng) for i in range(20)}
    decoder.apply(encoder.encode(snapshot))
    for path in [("first", "in"), ("second",), ("third", "only"), ()]:
        inside = snapshot["symbol 7"]
        for key in path:
            inside = inside[key]
        items = list(inside.items())
        at = len(items) // 2
        items[at] = (items[at][0] + "?", items[at][1])
        inside.clear()
        inside.update(items)
        decoder.apply(encoder.encode(snapshot))
        assert_same(decoder.snapshot(), snapshot)
