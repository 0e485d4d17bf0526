"""What goes in comes out: each value, type and bit and the order, through every way and both decoders."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import islice, product
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snapdelta
from core import reference_decoder as reference
from snapdelta.testing.feed import Feed, Kind
from support import frames as made_frames
from support import generators
from support.assert_exact import assert_same, same
from support.expected import N
from support.roundtrip import Stream, assert_read_alike, delta_trip, full_trip
from support.strategies import (
    LEAVES,
    MODELS,
    RECORDS,
    SNAPSHOTS,
    Bar,
    Mixed,
    Quote,
    Side,
    Size,
    Slots,
    Snapshot,
    Ticker,
    Trade,
    float_of_bits,
    sequences,
    tables,
)

EDGES: list[Any] = [
    *(None, False, True, {}, [], (), b"", "", 0, 0.0, -0.0, "0", Decimal(0), Decimal("-0")),
    *(
        1,
        1.0,
        True,
        "1",
        b"1",
        Decimal(1),
        Decimal("1.0"),
        [1],
        (1,),
        [1.0],
        [True],
        {"a": 1},
        {"a": {"b": 1}},
    ),
    *(2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, -(2**64), 10**30, -(255 << 64)),
    *(float("inf"), float("-inf"), 5e-324, 1.7976931348623157e308, 0.1, 2.0**51, 1e22, 123456.78),
    *map(float_of_bits, (0x7FF0000000000001, 0x7FF8000000000000, 0xFFF8000000000123, 0xFFF4000000000000)),
    *("00", "01", "9" * 19, "9" * 20, "18446744073709551616", "1234567", "12345678", "abcdefg", "abcdefgh"),
    *("\ud800", "\udc00\ud800", "\ud83d\ude00", "😀", "a\0", "\0", "١", "é" * 3, "é" * 4),
    *(date.min, date.max, datetime.min, datetime.max, datetime(2026, 1, 2, fold=1)),
    *(datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC, fold=1)),
    datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    datetime(2026, 1, 2, tzinfo=ZoneInfo("UTC")),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(0), "UTC")),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-5))),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-5), "EST")),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(microseconds=-1), "\ud800")),
    *(
        time.min,
        time.max,
        time(9, 30, fold=1),
        time(9, 30, tzinfo=UTC),
        time(9, tzinfo=ZoneInfo("Asia/Kolkata")),
    ),
    *(timedelta.min, timedelta.max, timedelta(0), timedelta(microseconds=-1)),
    *map(Decimal, ("1.50", "1E+3", "1e-128", "1e-129", "1e127", "1e128", "NaN", "-NaN", "sNaN", "-sNaN123")),
    *map(Decimal, ("Infinity", "-Infinity", str(2**55 - 1), str(2**55), "0.1234567890123456789", "NaN0")),
    *map(Decimal, ("1e999999999999999999", "1e-1999999999999999997", "-0e99999")),
    *(UUID(int=0), UUID(int=2**128 - 1)),
    *(Side.SELL, Size.HUGE, Mixed.NOTHING, Mixed.PAIR, Mixed.DAY, Mixed.TREE),
    *(np.bool_(True), np.int8(-1), np.uint64(2**64 - 1), np.float16(0.1), np.float32(0.1), np.float64(-0.0)),
    *(np.str_("a"), np.bytes_(b"a"), np.longlong(5)),
    *(
        defaultdict(int, a=1),
        OrderedDict(b=1, a=2),
        OrderedDict(),
        Quote(p=1.5),
        Trade(1, "x", Slots({}, [])),
        Bar(1),
    ),
    *([[]], [[[1, {"a": [{}], "": (None,)}]]], ({"x": Side.BUY},), [Quote(p=-0.0)], [np.float32(0.5)]),
]


@pytest.mark.parametrize("value", EDGES, ids=lambda value: f"{type(value).__name__}-{value!a}"[:40])
def test_every_edge_of_the_value_space(value: Any) -> None:
    for record in (value, {"x": value}, {"a": {"b": {"c": {"d": value}}}}, [value], {"x": (value, [value])}):
        full_trip({"A": record})
        delta_trip({"A": record}, {"A": record})
        delta_trip({}, {"A": record})


def test_every_edge_after_every_other() -> None:
    """One row for each pair, so that columns hold every mixture of types and every change of type."""
    pairs = list(product(EDGES, repeat=2))
    before = {str(n): {"x": old} for n, (old, _) in enumerate(pairs)}
    after = {str(n): {"x": new} for n, (_, new) in enumerate(pairs)}
    stream = Stream()
    stream.step(before)
    stream.step(after)
    delta_trip(before, after)


def test_every_edge_as_the_record_itself() -> None:
    before = {str(n): value for n, value in enumerate(EDGES)}
    after = {str(n): value for n, value in enumerate(reversed(EDGES))}
    delta_trip(before, after)
    delta_trip(after, before)


@given(SNAPSHOTS)
@settings(max_examples=60)
def test_any_snapshot(snapshot: Snapshot) -> None:
    full_trip(snapshot)


@given(tables())
@settings(max_examples=150)
def test_any_table(snapshot: Snapshot) -> None:
    full_trip(snapshot)


@given(SNAPSHOTS, SNAPSHOTS)
@settings(max_examples=60)
def test_any_snapshot_after_any_other(before: Snapshot, after: Snapshot) -> None:
    delta_trip(before, after)


def follow(frames: list[Snapshot]) -> None:
    """Through an Encoder and a Decoder, and pair by pair through diff and apply."""
    stream = Stream(epoch=7)
    before: Snapshot = {}
    for snapshot in frames:
        stream.step(snapshot)
        delta_trip(before, snapshot)
        before = snapshot
    stream.check_full()


# More of them in the long run.
@given(sequences())
@settings(max_examples=80)
def test_any_sequence(frames: list[Snapshot]) -> None:
    follow(frames)


@pytest.mark.long
@given(sequences(max_frames=8))
@settings(max_examples=8000)
def test_any_sequence_at_length(frames: list[Snapshot]) -> None:
    follow(frames)


@given(st.lists(LEAVES, min_size=1, max_size=12), st.lists(LEAVES, min_size=1, max_size=12))
@settings(max_examples=160)
def test_mixed_types_in_one_column(old: list[Any], new: list[Any]) -> None:
    before = {str(n): {"x": value} for n, value in enumerate(old)}
    after = {str(n): {"x": value} for n, value in enumerate(new)}
    delta_trip(before, after)


@given(MODELS, MODELS, RECORDS)
@settings(max_examples=100)
def test_models_are_records(a: Any, b: Any, c: Any) -> None:
    delta_trip({"A": a, "B": c, "C": {"in": [a]}}, {"C": {"in": [b]}, "A": b, "B": a})


def test_models_are_read_as_they_dump() -> None:
    ticker = Ticker(quote=Quote(p=1.5, t=datetime(2026, 1, 2)), price=Decimal("3"))
    frame = full_trip({"A": ticker})
    assert_same(snapdelta.loads(frame), N({"A": ticker.model_dump()}))
    assert "secret" not in snapdelta.loads(frame)["A"]


@pytest.mark.parametrize("kind", ["nested", "enriched", "ranked"])
def test_a_market(kind: Kind) -> None:
    stream = Stream(epoch=1)
    before: Snapshot = {}
    for n, snapshot in enumerate(islice(Feed(kind, 250, seed=3, interval=5), 5)):
        stream.step(snapshot, full=n == 3, captured=n % 2 == 0)
        delta_trip(before, snapshot)
        before = snapshot
    stream.check_full()


@pytest.mark.parametrize("mood", [generators.calm, generators.wild])
@pytest.mark.parametrize("seed", range(3))
def test_busy_columns(mood: generators.Mood, seed: int) -> None:
    """Every encoding of a column, and every type in it."""
    stream = Stream()
    before: Snapshot = {}
    encodings: set[str] = set()
    for snapshot in islice(generators.frames(seed, rows=120, mood=mood), 5):
        frame = stream.step(snapshot)
        encodings |= {column.encoding.split()[0] for column in snapdelta.inspect(frame).columns}
        delta_trip(before, snapshot)
        before = snapshot
    assert encodings >= {"blobs", "copy", "numbers", "residuals"}


@pytest.mark.long
@pytest.mark.parametrize("mood", [generators.calm, generators.wild])
def test_busy_columns_at_length(mood: generators.Mood) -> None:
    for seed in range(20):
        stream = Stream()
        for snapshot in islice(generators.frames(seed, rows=300, mood=mood), 10):
            stream.step(snapshot)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["nested", "enriched", "ranked"])
def test_a_market_at_length(kind: Kind) -> None:
    stream = Stream()
    for snapshot in islice(Feed(kind, 2000, seed=5, interval=20), 40):
        stream.step(snapshot)


# --- sizes


def test_nothing() -> None:
    full_trip({})
    delta_trip({}, {})
    delta_trip({"A": {"x": 1}}, {})
    delta_trip({"A": {}}, {"A": {}})
    delta_trip({"A": {}}, {"A": None})
    delta_trip({"A": {}}, {"A": {"x": {}}})
    delta_trip({"A": {"x": {}}}, {"A": {}})
    delta_trip({"": {"": {"": {}}}}, {"": {"": {}}})


def test_large_values() -> None:
    texts = ["x" * 10_000_000, "é" * 500_000, "\ud800" * 300_000, "7" * 1_000_000]
    ints = [1 << 10_000, -(1 << 10_000), (1 << 10_000) - 1]
    rows: Snapshot = {str(n): {"x": value} for n, value in enumerate([*texts, *ints])}
    rows["lists"] = {"x": [ints, bytes(1_000_000), list(range(30_000))]}
    full_trip(rows)
    delta_trip(rows, {**rows, "0": {"x": "y" * 1_000_000}, "1": {}})


def deep(levels: int, leaf: Any, container: type) -> Any:
    for _ in range(levels):
        leaf = {"k": leaf} if container is dict else container([leaf])
    return leaf


@pytest.mark.parametrize("container", [dict, list, tuple])
def test_as_deep_as_it_may_be(container: type) -> None:
    leaves: list[Any] = [1, {}, "text of a few bytes"]
    for leaf in leaves:
        full_trip({"A": deep(64, leaf, container)})
        delta_trip({"A": deep(63, leaf, container)}, {"A": deep(64, leaf, container)})
    full_trip({"A": deep(32, deep(32, 1, list), dict)})


def test_many_columns_and_many_rows() -> None:
    wide: Snapshot = {"A": {str(n): n for n in range(3000)}, "B": {str(n): n / 4 for n in range(2999)}}
    tall: Snapshot = {f"S{n}": {"x": n, "y": str(n * n), "z": None if n % 3 else n / 7} for n in range(3000)}
    delta_trip(wide, {**wide, "A": {**wide["A"], "5": None}})
    delta_trip(tall, dict(sorted(tall.items(), key=lambda item: item[1]["y"])))
    delta_trip(wide, tall)


# --- what belongs to whom


def test_inputs_are_not_changed_and_not_kept() -> None:
    snapshot: Snapshot = {"A": {"x": [1, {"y": 2}], "z": {"w": 1.5}}, "B": 5}
    kept = copy.deepcopy(snapshot)
    stream = Stream()
    stream.step(snapshot)
    pending, verified = (encoder.capture(snapshot) for encoder in (stream.encoder, stream.verified))
    assert_same(snapshot, kept)
    snapshot["A"]["x"][1]["y"] = 3
    snapshot["C"] = 1
    del snapshot["B"]
    frame = pending.finish()
    assert made_frames.unmeasured(verified.finish()) == frame
    stream.check(frame, kept)
    stream.state, stream.sequence = kept, stream.sequence + 1
    stream.step(snapshot)


def test_snapshots_of_a_decoder_are_the_callers_own() -> None:
    stream = Stream()
    stream.step({"A": {"x": [1], "d": {}, "e": {"f": 1}}, "B": {"x": [2]}})
    mine = stream.decoder.snapshot()
    mine["A"]["x"].append(5)
    mine["A"]["d"]["new"] = 1
    mine["A"]["e"]["f"] = 2
    del mine["B"]
    stream.check_decoder(stream.state)


def test_apply_shares_unchanged_records_and_changes_no_input() -> None:
    before: Snapshot = {"A": {"x": 1, "in": {"y": 1}}, "B": {"x": 2, "in": {"y": 2}}, "C": {"x": [3]}}
    kept = copy.deepcopy(before)
    after: Snapshot = {"C": {"x": [3]}, "B": {"x": 2, "in": {"y": 5}}, "A": {"x": 1, "in": {"y": 1}}}
    result = snapdelta.apply(before, snapdelta.diff(before, after))
    assert_same(result, after)
    assert_same(before, kept)
    assert result["A"] is before["A"]
    assert result["B"] is not before["B"]
    assert result["B"]["in"] is not before["B"]["in"]


def test_shared_snapshots_share_what_did_not_change() -> None:
    stream = Stream()
    stream.step({"A": {"x": 1}, "B": {"x": 2}})
    first = stream.decoder.snapshot(shared=True)
    stream.step({"A": {"x": 1}, "B": {"x": 3}})
    second = stream.decoder.snapshot(shared=True)
    assert second["A"] is first["A"]
    assert second["B"] is not first["B"]
    assert_same(first, {"A": {"x": 1}, "B": {"x": 2}})


def test_default_makes_values_that_may_stand_anywhere() -> None:
    def default(value: Any) -> Any:
        if isinstance(value, complex):
            return {"re": value.real, "im": value.imag}
        if isinstance(value, set | frozenset | bytearray):
            return sorted(value)
        raise TypeError(value)

    before = {"A": {"x": {1, 2}, "c": 1j}, "B": 2j, "C": {"l": [{3}, (1j,)], "d": {"k": bytearray(b"ab")}}}
    after = {"B": {5}, "A": {"x": frozenset(), "c": 2j}, "C": 1}
    full_trip(before, default)
    delta_trip(before, after, default)
    stream = Stream(default=default)
    stream.step(before)
    stream.step(after)


# --- what a frame tells of itself


@given(sequences(max_frames=2))
@settings(max_examples=60)
def test_inspect_tells_what_is_in_the_frame(frames: list[Snapshot]) -> None:
    stream = Stream(epoch=3)
    for snapshot in frames:
        before = stream.state
        frame = stream.step(snapshot)
        head = reference.header(frame)
        info = snapdelta.inspect(frame, base=before if head.kind else None)
        kept = [symbol for symbol in before if symbol in stream.state]
        assert info.kind == ("full", "delta")[head.kind]
        assert (info.version, info.epoch, info.sequence) == (head.version, head.epoch, head.sequence)
        assert (info.base_digest, info.target_digest) == (head.base, head.target)
        assert (info.size, info.body_size) == (len(frame), len(made_frames.body_in(frame)))
        assert info.target_symbols == len(stream.state)
        if info.kind == "delta":
            assert info.base_symbols == len(before)
            assert info.added is not None
            assert snapdelta.inspect(frame).added in (info.added, None)
            assert set(info.added) == stream.state.keys() - before.keys()
            assert info.removed == len(before) - len(kept)
            assert info.updated == sum(not same(before[symbol], stream.state[symbol]) for symbol in kept)
        cells = sum(column.cells for column in info.columns) + info.sparse_cells
        assert cells >= (info.updated > 0 and info.kind == "full")


@pytest.mark.parametrize("level", [1, 3, 9, 19])
def test_every_level_says_the_same(level: int) -> None:
    first, second = islice(Feed("enriched", 60, seed=1), 2)
    assert_read_alike(snapdelta.dumps(first, level=level), None, N(first))
    assert_read_alike(snapdelta.diff(first, second, level=level), N(first), N(second))
    encoder = snapdelta.Encoder(level=level)
    assert_read_alike(encoder.encode(first), {}, N(first))
    assert_read_alike(encoder.encode(second), N(first), N(second))


@pytest.mark.parametrize("added", [63, 64, 65, 129])
@pytest.mark.parametrize("shapes", [1, 2])
def test_added_rows_behind_a_reshaped_one(added: int, shapes: int) -> None:
    """Of one shape, or of two that take turns."""
    stream = Stream()
    stream.step({"old": {"a": 1, "b": "x"}, "same": {"a": 1}})
    rows = {f"S{n}": {"a": n, "c": n / 8, **({"d": f"text {n}"} if n % shapes else {})} for n in range(added)}
    stream.step({"old": {"a": 1, "c": 2.5}, "same": {"a": 1}, **rows})
    stream.check_full()
