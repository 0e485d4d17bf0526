"""Objects of the core take part in garbage collection: what holds them in a cycle goes with them."""

from __future__ import annotations

import enum
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import snapdelta


class Owner:
    """An application object that gives its own method as default=, and what it holds."""

    def __init__(self) -> None:
        self.encoder = snapdelta.Encoder(default=self.plain)
        self.decoder = snapdelta.Decoder()
        self.held: Any = None

    def plain(self, value: object) -> str:
        return type(value).__name__

    def __call__(self) -> None:
        pass


def idle(owner: Owner) -> None:
    pass


def used(owner: Owner) -> None:
    owner.encoder.encode({"A": {"x": object()}})


def captured(owner: Owner) -> None:
    owner.held = owner.encoder.capture({"A": {"x": object()}})


def finished(owner: Owner) -> None:
    captured(owner)
    owner.held.finish()


def failed(owner: Owner) -> None:
    with pytest.raises(snapdelta.UnsupportedTypeError):
        owner.encoder.encode({"A": {"x": object(), 1: 2}})


def a_class_of_its_own(owner: Owner) -> None:
    """The Encoder remembers the class, which holds the owner."""

    class Kind(enum.Enum):
        ONE = "one"

    Kind.owner = owner  # type: ignore[attr-defined]
    owner.encoder.encode({"A": Kind.ONE})


def shared_records(owner: Owner) -> None:
    """Only by the Decoder that handed the record out."""
    owner.encoder = snapdelta.Encoder()
    owner.decoder.apply(owner.encoder.encode({"A": {"x": 1}}))
    owner.decoder.snapshot(shared=True)["A"]["owner"] = owner


USES: list[Callable[[Owner], None]] = [
    idle,
    used,
    captured,
    finished,
    failed,
    a_class_of_its_own,
    shared_records,
]


@pytest.mark.parametrize("use", USES)
def test_cycles_are_collected(use: Callable[[Owner], None]) -> None:
    owner = Owner()
    use(owner)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


def test_the_collector_during_a_call() -> None:
    """What a call works with stays, though the collector cannot look inside."""

    def default(value: object) -> str:
        gc.collect()
        return "plain"

    encoder = snapdelta.Encoder(default=default)
    del default
    snapshot = {"A": {"x": object(), "y": object()}}
    decoder = snapdelta.Decoder()
    for _ in range(2):
        decoder.apply(encoder.encode(snapshot))
    assert decoder.snapshot() == {"A": {"x": "plain", "y": "plain"}}


def test_finalizers_of_a_cycle_may_use_the_encoder() -> None:
    said: list[object] = []

    class Late(Owner):
        def __del__(self) -> None:
            said.append(self.encoder.encode({"A": 1}))
            said.append(self.decoder.snapshot())

    Late()
    gc.collect()
    assert len(said) == 2
    assert snapdelta.loads(said[0]) == {"A": 1}  # type: ignore[arg-type]
