"""Deltas as one delta: it leads where they lead in turn, from the same base, in the same stream."""

from __future__ import annotations

from itertools import islice, pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings

import snapdelta
from core import reference_decoder as reference
from snapdelta.testing.feed import Feed
from support import generators, strategies
from support.assert_exact import assert_same
from support.expected import N

Snapshot = dict[str, Any]


def stream(states: list[Snapshot], epoch: int = 7) -> list[bytes]:
    """A full frame, and the deltas after it."""
    encoder = snapdelta.Encoder(epoch=epoch)
    return [encoder.encode(state) for state in states]


def assert_leads(
    composed: bytes, first: bytes, base: Snapshot, last: Snapshot, want: int
) -> snapdelta.Decoder:
    """A reader at the base, a dict and the second decoder go to the last state at once."""
    decoder = snapdelta.Decoder()
    decoder.apply(first)
    decoder.apply(composed)
    assert_same(decoder.snapshot(), N(last))
    assert decoder.digest == want
    assert_same(snapdelta.apply(N(base), composed), N(last))
    assert_same(reference.decode(composed, N(base)), N(last))
    return decoder


def digest_of(state: Snapshot) -> int:
    encoder = snapdelta.Encoder()
    encoder.encode(state)
    return encoder.digest


@settings(max_examples=25)
@given(strategies.sequences())
def test_any_sequence(states: list[Snapshot]) -> None:
    first, *deltas = stream(states)
    if not deltas:
        return
    composed = snapdelta.compose(deltas, states[0])
    assert_leads(composed, first, states[0], states[-1], digest_of(states[-1]))


@pytest.mark.parametrize("seed", range(4))
def test_long_streams(seed: int) -> None:
    """Rows that come, go, move and change their shape."""
    rng = Random(seed)
    states = list(islice(generators.frames(seed, rows=50), 16))
    first, *deltas = stream(states)
    for _ in range(4):
        start, end = sorted(rng.sample(range(len(states)), 2))
        part = deltas[start:end]
        composed = snapdelta.compose(part, states[start])
        info = snapdelta.inspect(composed)
        assert (info.kind, info.epoch, info.sequence) == ("delta", 7, end + 1)
        assert (info.base_epoch, info.base_sequence) == (7, start + 1)
        reader = snapdelta.Decoder()
        for frame in [first, *deltas[:start], composed, *deltas[end:]]:
            reader.apply(frame)
        assert_same(reader.snapshot(), N(states[-1]))
        assert_same(snapdelta.apply(N(states[start]), composed), N(states[end]))
        # From a full frame of the base, and of composed deltas again.
        assert snapdelta.compose(part, snapdelta.dumps(states[start])) == composed
        twice = snapdelta.compose([composed], states[start])
        assert_same(snapdelta.apply(N(states[start]), twice), N(states[end]))


def test_it_is_as_small_as_a_diff() -> None:
    states = list(islice(Feed("enriched", symbols=200), 13))
    first, *deltas = stream(states)
    composed = snapdelta.compose(deltas, states[0])
    assert len(composed) <= 1.05 * len(snapdelta.diff(states[0], states[-1]))
    assert len(composed) < sum(map(len, deltas)) / 2
    decoder = assert_leads(composed, first, states[0], states[-1], digest_of(states[-1]))
    encoder = snapdelta.Encoder(epoch=8)
    encoder.resume(decoder)
    handover = encoder.encode(states[0])
    # Over the change of a writer.
    over = snapdelta.compose([composed, handover], states[0])
    assert snapdelta.inspect(over).base_epoch == 7
    assert_leads(over, first, states[0], states[0], digest_of(states[0]))


def test_deltas_that_stand_alone() -> None:
    states: list[Snapshot] = [{"A": 1, "B": {"x": 1}}, {"B": {"x": 2}}, {"C": "text", "B": {"y": [1]}}]
    deltas = [snapdelta.diff(prev, curr) for prev, curr in pairwise(states)]
    assert_same(snapdelta.apply(states[0], snapdelta.compose(deltas, states[0])), states[2])


def test_what_does_not_follow() -> None:
    states: list[Snapshot] = [{"A": n, "B": {"x": "a text of some length", "n": n}} for n in range(5)]
    first, *deltas = stream(states)
    with pytest.raises(snapdelta.UsageError, match=r"^deltas: "):
        snapdelta.compose([], states[0])
    for wrong, base in (
        (deltas, states[1]),
        (deltas[1:], first),
        (deltas[:1] + deltas[2:], states[0]),
        (deltas[::-1], states[4]),
        ([*deltas, first], states[0]),
        ([first], states[0]),
        (deltas, deltas[0]),
    ):
        with pytest.raises(snapdelta.BaseMismatchError):
            snapdelta.compose(wrong, base)
    for not_frames in ("text", [1], [b""]):
        with pytest.raises((TypeError, snapdelta.CorruptDeltaError)):
            snapdelta.compose(not_frames, states[0])  # type: ignore[arg-type]
    with pytest.raises(snapdelta.UsageError, match="level"):
        snapdelta.compose(deltas, states[0], level=50)
    with pytest.raises(snapdelta.UnsupportedTypeError, match=r"^A: "):
        snapdelta.compose(deltas, {"A": object()})


def test_damaged_deltas() -> None:
    states = list(islice(generators.frames(3, rows=20), 4))
    _, *deltas = stream(states)
    for at in range(0, len(deltas[1]), 7):
        for broken in (deltas[1][:at], bytes([*deltas[1][:at], deltas[1][at] ^ 4, *deltas[1][at + 1 :]])):
            with pytest.raises(snapdelta.CorruptDeltaError):
                snapdelta.compose([deltas[0], broken, deltas[2]], states[0])
    with pytest.raises(snapdelta.LimitExceededError):
        snapdelta.compose(deltas, states[0], limits=snapdelta.Limits(2000))
    assert_same(snapdelta.apply(states[0], snapdelta.compose(deltas, states[0])), N(states[-1]))
