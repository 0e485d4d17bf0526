"""Encoder.update against the plain way: the whole snapshot after the same changes, encoded anew."""

from __future__ import annotations

from collections import OrderedDict
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import snapdelta
from core import reference_decoder as reference
from snapdelta.testing.feed import Feed
from support import generators, strategies
from support.assert_exact import assert_same
from support.expected import N

Snapshot = dict[str, Any]


class UpdatedStream:
    """An encoder that is given changes, the dict that they lead to, and readers of its frames."""

    def __init__(self, first: Snapshot) -> None:
        self.encoder, self.decoder = snapdelta.Encoder(verify=True), snapdelta.Decoder()
        self.plain: Snapshot | None = None
        self.state = dict(first)
        self._read(self.encoder.encode(first))

    def update(self, changes: Snapshot, removed: list[str]) -> None:
        for symbol in removed:
            self.state.pop(symbol, None)
        self.state.update(changes)
        self._read(self.encoder.update(changes, removed))

    def _read(self, frame: bytes) -> None:
        self.decoder.apply(frame)
        self.plain = reference.decode(frame, self.plain)
        want = N(self.state)
        assert_same(self.decoder.snapshot(), want)
        assert_same(self.plain, want)
        other = snapdelta.Encoder()
        other.encode(self.state)
        assert self.encoder.digest == self.decoder.digest == other.digest


@settings(max_examples=20)
@given(st.data())
def test_any_update(data: st.DataObject) -> None:
    follower = UpdatedStream(data.draw(strategies.tables()))
    for _ in range(data.draw(st.integers(1, 4))):
        symbols = st.one_of(st.sampled_from(sorted(follower.state) or ["A"]), strategies.SYMBOLS)
        changes = data.draw(st.dictionaries(symbols, strategies.RECORDS, max_size=6))
        removed = [s for s in data.draw(st.lists(symbols, max_size=4)) if s not in changes]
        follower.update(changes, removed)


@pytest.mark.parametrize("seed", range(3))
def test_long_sequences(seed: int) -> None:
    rng = Random(seed)
    states = generators.frames(seed, rows=60)
    follower = UpdatedStream(next(states))
    for _, state in zip(range(6), states, strict=False):
        symbols = rng.sample(list(state), 20)
        removed = rng.sample([*follower.state, "none"], rng.choice([0, 0, 3]))
        follower.update({s: state[s] for s in symbols if s not in removed}, removed)


def test_updates_and_whole_snapshots_in_turn() -> None:
    feed = Feed("enriched", symbols=100)
    follower = UpdatedStream(next(feed))
    encoder = follower.encoder
    for number, state in zip(range(6), feed, strict=False):
        if number % 2:
            changed = {s: r for s, r in state.items() if follower.state.get(s) != r}
            follower.update(changed, [s for s in follower.state if s not in state])
        else:
            follower.state = dict(state)
            follower._read(encoder.encode(state))
        whole = snapdelta.Decoder()
        whole.apply(encoder.full())
        assert whole.digest == encoder.digest


def test_counts_of_a_captured_update() -> None:
    encoder = snapdelta.Encoder()
    encoder.encode({"A": {"x": 1}, "B": {"x": 2}, "C": 3})
    captured = encoder.capture_update({"B": {"x": 5}, "N": 1, "A": {"x": 1}}, removed=("C", "nothing", "C"))
    assert (captured.symbols, captured.added, captured.removed, captured.updated) == (3, 1, 1, 1)
    with pytest.raises(snapdelta.EncoderBusyError):
        encoder.update({})
    decoder = snapdelta.Decoder()
    with pytest.raises(snapdelta.BaseMismatchError):
        decoder.apply(captured.finish())
    decoder.apply(encoder.full())
    assert_same(decoder.snapshot(), {"A": {"x": 1}, "B": {"x": 5}, "N": 1})


def test_what_is_no_update() -> None:
    encoder = snapdelta.Encoder()
    with pytest.raises(snapdelta.UsageError, match="no state to update"):
        encoder.update({"A": 1})
    encoder.encode({"A": {"x": "a text that is long"}, "B": 2})
    digest, memory = encoder.digest, encoder.memory
    with pytest.raises(snapdelta.UsageError, match="B is among the changes as well"):
        encoder.update({"B": {"new key": "a text that is longer"}}, ["B"])
    with pytest.raises(snapdelta.UsageError, match="N is among the changes as well"):
        encoder.update({"N": {"new key": "a text that is longer"}}, ["A", "N"])
    with pytest.raises(snapdelta.UnsupportedTypeError, match=r"^N\.x\[0\]: "):
        encoder.update({"B": 3, "N": {"x": [set()], "other": "text of some length"}}, ["A"])
    with pytest.raises(TypeError, match="iterable of str, not as a str"):
        encoder.update({}, "A")
    for wrong in ([1], 5):
        with pytest.raises(TypeError):
            encoder.update({}, wrong)  # type: ignore[arg-type]
    with pytest.raises(snapdelta.UnsupportedTypeError, match="a snapshot is a dict"):
        encoder.update([("A", 1)])  # type: ignore[arg-type]
    assert (encoder.digest, encoder.memory, encoder.sequence) == (digest, memory, 1)
    decoder = snapdelta.Decoder()
    decoder.apply(encoder.full())
    decoder.apply(encoder.update(OrderedDict(B=3)))
    assert_same(decoder.snapshot(), {"A": {"x": "a text that is long"}, "B": 3})


def test_python_code_that_runs_during_an_update() -> None:
    """Iterating the removed symbols and dumping a model may call the encoder, and change the changes."""
    encoder = snapdelta.Encoder()
    encoder.encode({"A": 1, "B": 2})
    raised: list[Exception] = []

    def removed() -> Any:
        # Nothing is held yet.
        with pytest.raises(snapdelta.UsageError) as refused:
            encoder.begin(5)
        raised.append(refused.value)
        yield "A"

    class Model(BaseModel):
        x: int = 7

        def model_dump(self, **options: Any) -> dict[str, Any]:
            with pytest.raises(snapdelta.EncoderBusyError) as refused:
                encoder.update({})
            raised.append(refused.value)
            changes.clear()
            return {"x": 8}

    changes: Snapshot = {"M": Model(), "N": "a text that goes away"}
    decoder = snapdelta.Decoder()
    decoder.apply(encoder.full())
    decoder.apply(encoder.update(changes, removed()))
    assert len(raised) == 2
    assert_same(decoder.snapshot(), {"B": 2, "M": {"x": 8}, "N": "a text that goes away"})


def test_memory_does_not_grow() -> None:
    encoder = snapdelta.Encoder()
    encoder.encode({f"S{n}": {"t": f"a text number {n}", "n": n} for n in range(300)})
    sizes = []
    for number in range(60):
        rows = {f"S{n}": {"t": f"text {number} {n}", "n": number, f"k{number}": 1} for n in range(20)}
        encoder.update({**rows, f"X{number}": "a record that goes"}, [f"X{number - 1}"])
        sizes.append(encoder.memory)
    assert max(sizes[40:]) <= max(sizes[20:40]) * 1.1
