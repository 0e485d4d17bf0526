"""The JavaScript Decoder reads what Python's does: values, order, changes, errors."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from math import nan
from typing import Any

import pytest

import snapdelta
from client.node import Answer, NodeDecoder, node_decoder
from client.node_values import in_javascript
from core import reference_decoder as reference
from core.golden.cases_v1 import CASES, STREAM, stream
from core.golden.write_v1 import HERE
from core.test_hostile import damaged_frames
from support import frames as f
from support import generators
from support.assert_exact import assert_same
from support.expected import N
from support.market import Market


@pytest.fixture(scope="module")
def process() -> Iterator[NodeDecoder]:
    with node_decoder() as decoder:
        yield decoder


@pytest.fixture
def node(process: NodeDecoder) -> NodeDecoder:
    """A decoder without a state."""
    process.restart()
    return process


def check(answer: Answer, python: snapdelta.Decoder) -> None:
    """AssertionError unless both have the same state, and say the same of the last frame."""
    assert answer.error is None
    place = python.epoch, python.sequence, python.digest, len(python)
    assert (answer.epoch, answer.sequence, answer.digest, answer.size) == place
    assert_same(answer.snapshot, in_javascript(python.snapshot()))
    for kind in ("added", "updated", "removed", "moved"):
        assert answer.content[kind] == getattr(python, kind), kind


@pytest.mark.parametrize("name", CASES)
def test_golden_vectors(node: NodeDecoder, name: str) -> None:
    before, after = CASES[name]
    python = snapdelta.Decoder()
    if before is not None:
        base = snapdelta.dumps(before)
        python.apply(base)
        check(node.apply(base), python)
    frame = (HERE / f"{name}.frame").read_bytes()
    python.apply(frame)
    answer = node.apply(frame)
    check(answer, python)
    assert_same(answer.snapshot, in_javascript(after))


def test_the_golden_stream(node: NodeDecoder) -> None:
    states = [state for _, state in stream()]
    python = snapdelta.Decoder()
    for name, at in STREAM.items():
        frame = (HERE / f"{name}.frame").read_bytes()
        python.apply(frame)
        answer = node.apply(frame)
        check(answer, python)
        assert_same(answer.snapshot, in_javascript(states[at]))


@pytest.mark.parametrize("seed", range(40))
def test_random_streams(node: NodeDecoder, seed: int) -> None:
    """Streams of 25 frames, with full frames among them, and writers that take over or go on from another."""
    rng = random.Random(seed)
    encoder, python = snapdelta.Encoder(epoch=1, verify=bool(seed % 2)), snapdelta.Decoder()
    mood = rng.choice([generators.calm, generators.wild])
    for n, snapshot in enumerate(islice(generators.frames(seed, rows=12, mood=mood), 25)):
        if n and rng.random() < 0.1:
            encoder = snapdelta.Encoder(epoch=encoder.epoch + rng.randrange(1, 1 << 40))
            if rng.random() < 0.5:
                encoder.resume(python)
        frame = encoder.encode(snapshot, full=rng.random() < 0.1)
        python.apply(frame)
        check(node.apply(frame), python)
    assert n == 24


def test_states_within_a_tolerance(node: NodeDecoder) -> None:
    encoder = snapdelta.Encoder(
        tolerance={"p": snapdelta.Relative(0.01), "in.q": snapdelta.Absolute(2)}, verify=True
    )
    python = snapdelta.Decoder()
    rng, held = random.Random(1), 0
    for n in range(20):
        rows = {f"S{i}": {"p": 10 * rng.uniform(0.98, 1.02), "in": {"q": rng.randrange(9)}} for i in range(9)}
        frame = encoder.encode(rows, full=n == 12)
        held += snapdelta.inspect(frame).held_cells
        python.apply(frame)
        check(node.apply(frame), python)
    assert held > 50


def test_a_delta_over_several_states(node: NodeDecoder) -> None:
    """A delta whose sequence is more than one above its base's."""
    market, encoder, python = Market(), snapdelta.Encoder(epoch=7), snapdelta.Decoder()
    first, *_, last = (market.next() for _ in range(5))
    full = encoder.encode(first)
    delta = snapdelta.diff(first, last)
    head = reference.header(delta)
    composed = f.seal(
        f.body_in(delta),
        f.DELTA,
        base=head.base,
        rows=head.base_rows,
        target=head.target,
        text=f.text_in(delta),
        epoch=7,
        sequence=encoder.sequence + 4,
        base_place=f.uv(4),
    )
    for frame in (full, composed):
        python.apply(frame)
        check(node.apply(frame), python)
    assert_same(node.apply(full).snapshot, first)


NO_CELL = 255


def test_columns(node: NodeDecoder) -> None:
    """Doubles, ints and tags: every kind of value, rows without the path, records that are one leaf."""
    values = [*generators.ODD, 2**53 + 1, -(2**63), Decimal("0.1"), Decimal("1E-400"), Decimal("-Infinity")]
    snapshot: dict[str, Any] = {f"S{n}": {"a": {"b": value}} for n, value in enumerate(values)}
    snapshot |= {"other": {"a": {"c": 1}}, "leaf": 7}
    node.apply(snapdelta.dumps(snapshot))
    floats, ints, tags = node.column("a", "b")
    assert [len(column) for column in (floats, ints, tags)] == [len(snapshot)] * 3
    for value, double, whole, tag in zip(values, floats, ints, tags, strict=False):
        is_int = type(value) is int and -(2**63) <= value < 2**63
        assert whole == (value if is_int else 0)
        is_number = is_int or type(value) is float or (type(value) is Decimal and not value.is_snan())
        assert_same(double, in_javascript(float(value)) if is_number else nan)
        # A dict that is not empty is no cell.
        assert (tag == NO_CELL) == (isinstance(value, dict) and value != {})
    assert tags[-2:] == [NO_CELL] * 2
    assert node.column()[1] == [0] * (len(snapshot) - 1) + [7]
    assert set(node.column("a", "missing")[2]) == {NO_CELL}


# Where processors have 64 bits, zstd reads Huffman codes in a way that finds less damage in them.
STRICTER = "CorruptDeltaError", "the body is not one zstd frame"


def test_hostile_frames(node: NodeDecoder) -> None:
    """The same error as in Python, or the same state; the next good frame is read as ever."""
    seen: Counter[str] = Counter()
    for n, (base, frame, _) in enumerate(damaged_frames(31, 1500)):
        python = snapdelta.Decoder()
        full = snapdelta.dumps(N(base))
        python.apply(full)
        assert node.apply(full, content=False).error is None
        try:
            python.apply(frame)
            expected = None
        except snapdelta.SnapdeltaError as error:
            expected = type(error).__name__, str(error)
        answer = node.apply(frame, content=n % 50 == 0)
        if answer.error == STRICTER != expected:
            assert answer.digest == snapdelta.inspect(full).target_digest
            seen["stricter"] += 1
            continue
        assert answer.error == expected
        assert (answer.digest, answer.size) == (python.digest, len(python))
        seen[expected[0] if expected else "valid"] += 1
    assert seen["CorruptDeltaError"] > 1000
    assert seen["stricter"] < 75


@pytest.mark.parametrize("length", [2**30, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_body_that_claims_to_be_long(node: NodeDecoder, length: int) -> None:
    """Refused, and the decoder goes on."""
    node.restart(max_bytes=2**31 - 1)
    good = snapdelta.dumps({"A": {"x": 1}})
    assert node.apply(good).error is None
    answer = node.apply(f.seal(b"", coded=f.compressed(b"body"), length=length), content=False)
    assert answer.error is not None
    assert answer.error[0] == ("CorruptDeltaError" if length < 2**31 else "LimitExceededError")
    assert_same(node.apply(good).snapshot, {"A": {"x": 1}})


def test_limits(node: NodeDecoder) -> None:
    snapshot = {f"S{n}": {"price": n / 4} for n in range(1000)}
    frame = snapdelta.dumps(snapshot)
    node.restart(max_bytes=100_000)
    answer = node.apply(frame)
    assert answer.error is not None
    assert answer.error[0] == "LimitExceededError"
    assert answer.size == 0
    node.restart()
    assert_same(node.apply(frame).snapshot, snapshot)
