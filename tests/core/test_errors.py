"""Every refusal: the right class, the place in the message, and a state that is what it was."""

from __future__ import annotations

import copy
from array import array
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

import snapdelta
from core import reference_decoder as reference
from support import frames as f
from support.assert_exact import assert_same
from support.expected import N, Unsupported
from support.roundtrip import Stream

Snapshot = dict[str, Any]


class Text(str):
    pass


class Whole(int):
    pass


class Items(list[Any]):
    pass


class Zone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise AssertionError("nobody asks a zone for its offset")

    dst = utcoffset

    def tzname(self, moment: datetime | None) -> str:
        return "Zone"


class Loud(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    inner: Any


@dataclass
class Point:
    x: Any


Pair = namedtuple("Pair", "a b")  # what callers have, typed or not

UNSUPPORTED: list[tuple[Any, str]] = [
    (set(), "set"),
    (frozenset(), "frozenset"),
    (bytearray(b"x"), "bytearray"),
    (memoryview(b"x"), "memoryview"),
    (1j, "complex"),
    (object(), "object"),
    (print, "builtin_function_or_method"),
    (Point, "type"),
    (range(3), "range"),
    (Text("x"), "Text"),
    (Whole(1), "Whole"),
    (Items(), "Items"),
    (Pair(1, 2), "Pair"),
    (np.longdouble(1), "longdouble"),
    (np.complex128(1), "complex128"),
    (np.datetime64("2026-01-02"), "datetime64"),
    (np.timedelta64(1, "s"), "timedelta64"),
    (np.void(b"x"), "void"),
    (np.array([1, 2]), "ndarray"),
    (datetime(2026, 1, 2, tzinfo=Zone()), "datetime"),
    (time(1, tzinfo=Zone()), "time"),
]

PLACES: list[tuple[Callable[[Any], Snapshot], str]] = [
    (lambda value: {"AAPL": value}, "AAPL"),
    (lambda value: {"AAPL": {"lastTrade": {"p": 1, "c": [value]}}}, "AAPL.lastTrade.c[0]"),
    (lambda value: {"MSFT": {"x": 1}, "AAPL": {"x": {"y": value}}}, "AAPL.x.y"),
    (lambda value: {"AAPL": {"x": [1, (2, [3, value])]}}, "AAPL.x[1][1][1]"),
    (lambda value: {"AAPL": {"x": [{"k": {"l": value}}]}}, "AAPL.x[0].k.l"),
    (lambda value: {"BRK.B": {"a.b": {"c[0]": value}}}, r"BRK\.B.a\.b.c\[0]"),
    (lambda value: {"A\\B": {"": value}}, "A\\\\B."),
    (lambda value: {"AAPL": Point({"in": value})}, "AAPL.x.in"),
    (lambda value: {"AAPL": {"m": Loud(inner=[value])}}, "AAPL.m.inner[0]"),
]


@pytest.mark.parametrize(("value", "kind"), UNSUPPORTED, ids=[kind for _, kind in UNSUPPORTED])
def test_values_that_are_not_supported(value: Any, kind: str) -> None:
    for make, path in PLACES[:5]:
        snapshot = make(value)
        with pytest.raises(snapdelta.UnsupportedTypeError) as caught:
            snapdelta.dumps(snapshot)
        assert str(caught.value).startswith(f"{path}: ")
        assert kind in str(caught.value)
        assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(("make", "path"), PLACES, ids=[path for _, path in PLACES])
def test_the_message_names_the_path(make: Callable[[Any], Snapshot], path: str) -> None:
    says = f"{path}: set is not supported"
    good, bad = make(1), make({1})
    for call in (
        lambda: snapdelta.dumps(bad),
        lambda: snapdelta.diff(bad, good),
        lambda: snapdelta.diff(good, bad),
        lambda: snapdelta.diff({}, bad),
        lambda: snapdelta.apply(bad, snapdelta.diff(good, good)),
        lambda: snapdelta.Encoder().encode(bad),
        lambda: snapdelta.Encoder().capture(bad),
    ):
        with pytest.raises(snapdelta.UnsupportedTypeError) as caught:
            call()
        assert str(caught.value).startswith(says)


@pytest.mark.parametrize("key", [1, None, 1.5, b"x", Text("x"), ("a",), np.str_("x")], ids=repr)
def test_keys_are_str_and_nothing_else(key: Any) -> None:
    of = f"are str, not {type(key).__name__}"
    for snapshot, says in (
        ({key: 1}, f"{key!r}: symbols {of}"),
        ({"A": {key: 1}}, f"A.{key!r}: keys {of}"),
        ({"A": {"b": {"c": 1, key: 1}}}, f"A.b.{key!r}: keys {of}"),
        ({"A": {"b": [{key: 1}]}}, f"A.b[0].{key!r}: keys {of}"),
        ({"A": {"b": OrderedDict({key: 1})}}, f"A.b.{key!r}: keys {of}"),
        ({"A": {"b": [OrderedDict({key: 1})]}}, f"A.b[0].{key!r}: keys {of}"),
    ):
        for encode in (snapdelta.dumps, snapdelta.Encoder().encode, lambda curr: snapdelta.diff({}, curr)):
            with pytest.raises(snapdelta.UnsupportedTypeError) as caught:
                encode(snapshot)
            assert str(caught.value) == says


def test_a_key_without_a_text_is_named_by_its_class() -> None:
    class Key:
        def __repr__(self) -> str:
            raise ValueError

    with pytest.raises(snapdelta.UnsupportedTypeError, match=r"^A\.<Key>: keys are str, not Key$"):
        snapdelta.dumps({"A": {Key(): 1}})
    with pytest.raises(snapdelta.UnsupportedTypeError) as caught:
        snapdelta.dumps({("long",) * 10_000: 1})  # type: ignore[dict-item]
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("snapshot", [None, [], "x", 1, [("A", 1)], Point(1)], ids=repr)
def test_a_snapshot_is_a_dict(snapshot: Any) -> None:
    frame = snapdelta.diff({}, {})
    for call in (
        lambda: snapdelta.dumps(snapshot),
        lambda: snapdelta.diff(snapshot, {}),
        lambda: snapdelta.diff({}, snapshot),
        lambda: snapdelta.Encoder().encode(snapshot),
        lambda: snapdelta.apply(snapshot, frame),
    ):
        with pytest.raises(TypeError):
            call()


def nested(levels: int, container: type) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"k": value} if container is dict else container([value])
    return value


@pytest.mark.parametrize("container", [dict, list, tuple])
def test_nesting_has_an_end(container: type) -> None:
    snapdelta.dumps({"A": nested(64, container)})
    for levels in (65, 66, 1000, 100_000):
        with pytest.raises(snapdelta.UnsupportedTypeError, match=r"^A[.\[].*64"):
            snapdelta.dumps({"A": nested(levels, container)})


def test_cycles_are_named() -> None:
    row: dict[str, Any] = {"x": 1}
    row["self"] = row
    items: list[Any] = [1]
    items.append(items)
    point = Point(None)
    point.x = [point]
    for record, path in ((row, "A.self.self."), (items, "A[1][1]"), ({"p": point}, "A.p.x[0].x[0]")):
        with pytest.raises(snapdelta.UnsupportedTypeError) as caught:
            snapdelta.dumps({"A": record})
        assert str(caught.value).startswith(path)


def test_a_default_may_refuse_or_fail() -> None:
    for error in (TypeError("no set"), ValueError("no set"), UnicodeError("no set")):
        for make, path in PLACES:
            with pytest.raises(snapdelta.UnsupportedTypeError) as refused:
                snapdelta.dumps(make({1}), default=raising(error))
            says = f"{path}: set is not supported, and default= raised: {type(error).__name__}: no set"
            assert str(refused.value) == says
            assert refused.value.__cause__ is error
    for other in (ZeroDivisionError("no set"), KeyboardInterrupt(), Own("no set")):
        for make, path in PLACES:
            with pytest.raises(type(other)) as caught:
                snapdelta.dumps(make({1}), default=raising(other))
            assert caught.value is other
            assert other.__notes__.pop() == f"{path}: set is not supported, and default= raised"
    # one that never comes to an end
    with pytest.raises(snapdelta.UnsupportedTypeError, match=r"^A"):
        snapdelta.dumps({"A": {1}}, default=lambda value: value)
    with pytest.raises(snapdelta.UnsupportedTypeError, match=r"^A\."):
        snapdelta.dumps({"A": {"x": {1}}}, default=lambda value: [value])


class Own(Exception):  # noqa: N818
    """An error that will not be told of."""

    def add_note(self, note: str) -> None:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError


def raising(error: BaseException) -> Callable[[Any], Any]:
    def default(value: Any) -> Any:
        raise error

    return default


def test_a_frame_is_any_buffer_of_bytes() -> None:
    frame = snapdelta.dumps({"A": 1})
    signed = array("b", (byte - 256 if byte > 127 else byte for byte in frame))
    view = memoryview(frame)
    buffers: list[Any] = [bytearray(frame), view, view.cast("b"), view.cast("c"), array("B", frame), signed]
    buffers += [np.frombuffer(frame, dtype) for dtype in ("u1", "i1")]
    buffers += [memoryview(frame + frame)[: len(frame)], memoryview(frame[::-1])[::-1]]
    for buffer in buffers:
        assert snapdelta.loads(buffer) == {"A": 1}
    for other in ("text", 5, None, np.zeros(4), array("i", [1]), memoryview(bytes(8)).cast("d")):
        with pytest.raises(TypeError, match=f"bytes-like object, not {type(other).__name__}"):
            snapdelta.loads(other)  # type: ignore[arg-type]


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(TypeError):
        snapdelta.loads("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        snapdelta.loads(b"", limits=5)  # type: ignore[arg-type]
    for level in (0, 23, -1):
        with pytest.raises(ValueError, match="level"):
            snapdelta.Encoder(level=level)
        with pytest.raises(ValueError, match="level"):
            snapdelta.dumps({}, level=level)
    with pytest.raises(ValueError, match="max_bytes"):
        snapdelta.Limits(0)
    with pytest.raises(ValueError, match="there is no state yet"):
        snapdelta.Encoder().full()


# --- the state after an error


def test_an_encoder_is_as_it_was() -> None:
    good: Snapshot = {"A": {"x": 1, "t": "a text of some length"}, "B": {"x": 2, "t": "b"}}
    later: Snapshot = {"B": {"x": 3, "t": "another text of some length"}, "C": {"x": [1]}}
    stream, untouched = Stream(epoch=5), snapdelta.Encoder(epoch=5)
    stream.step(good)
    untouched.encode(good)
    for value, _ in UNSUPPORTED:
        for make, _ in PLACES[:-1]:  # a model may dump such a value as one that is supported
            for front in (True, False):
                bad = {**later, **make(value)} if front else {**make(value), **later}
                with pytest.raises(snapdelta.UnsupportedTypeError):
                    stream.encoder.encode(bad)
                with pytest.raises(snapdelta.UnsupportedTypeError):
                    stream.encoder.capture(bad, full=True)
    assert stream.encoder.sequence == 1
    assert stream.encoder.digest == reference.digest(good)
    assert_same(snapdelta.loads(stream.encoder.full()), good)
    assert stream.step(later) == untouched.encode(later)  # as if nothing had happened, to the byte


def test_a_decoder_is_as_it_was() -> None:
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    first, second, third = {"A": {"x": 1}}, {"A": {"x": 2}, "B": 1}, {"B": {"y": 1}}
    frames = [encoder.encode(snapshot) for snapshot in (first, second, third)]
    decoder.apply(frames[0])
    bad = [frames[0][:-1], frames[2], f.resealed(frames[1], b""), f.resealed(frames[1], f.body_in(frames[2]))]
    for frame in bad:
        with pytest.raises(snapdelta.SnapdeltaError):
            decoder.apply(frame)
        assert_same(decoder.snapshot(), first)
        assert decoder.changed == ["A"]
        assert (decoder.sequence, decoder.digest) == (1, reference.digest(first))
    decoder.apply(frames[1])
    decoder.apply(frames[2])
    assert_same(decoder.snapshot(), third)


# --- wrong bases

BASE: Snapshot = {
    "A": {"x": True, "y": 0.0, "z": {"a": 1, "b": "text"}, "l": [1]},
    "B": {"x": False, "y": 1.5, "z": {"a": 2, "b": "text"}, "l": [2]},
    "C": {"x": False, "y": 2.5},
}
NEXT: Snapshot = {**BASE, "C": {"x": True, "y": 2.5}}


def other(**changes: Any) -> Snapshot:
    return {**copy.deepcopy(BASE), **changes}


WRONG_BASES: dict[str, Snapshot] = {
    "1 for True": other(A={**BASE["A"], "x": 1}),
    "-0.0 for 0.0": other(A={**BASE["A"], "y": -0.0}),
    "0 for 0.0": other(A={**BASE["A"], "y": 0}),
    "1.0 for 1": other(A={**BASE["A"], "z": {"a": 1.0, "b": "text"}}),
    "[True] for [1]": other(A={**BASE["A"], "l": [True]}),
    "a tuple for a list": other(A={**BASE["A"], "l": (1,)}),
    "bytes for a text": other(A={**BASE["A"], "z": {"a": 1, "b": b"text"}}),
    "fields in another order": other(A=dict(reversed(BASE["A"].items()))),
    "inner fields in another order": other(A={**BASE["A"], "z": {"b": "text", "a": 1}}),
    "a field more": other(A={**BASE["A"], "new": None}),
    "a field less": other(A={"x": True, "y": 0.0, "z": {"a": 1, "b": "text"}}),
    "None for a field": other(B={**BASE["B"], "l": None}),
    "symbols in another order": dict(reversed(BASE.items())),
    "a symbol more": other(D={}),
    "a symbol less": {"A": BASE["A"], "C": BASE["C"]},
    "a symbol of another name": {"A": BASE["A"], "b": BASE["B"], "C": BASE["C"]},
    "the target": NEXT,
    "nothing": {},
}


@pytest.mark.parametrize("name", WRONG_BASES)
def test_a_wrong_base_is_noticed(name: str) -> None:
    """The rows in which the base is wrong are not touched by the delta."""
    frame, wrong = snapdelta.diff(BASE, NEXT), WRONG_BASES[name]
    assert_same(snapdelta.apply(BASE, frame), NEXT)
    kept = copy.deepcopy(wrong)
    with pytest.raises(snapdelta.BaseMismatchError, match=r"digest|rows"):
        snapdelta.apply(wrong, frame)
    assert_same(wrong, kept)
    with pytest.raises(reference.BaseMismatch):
        reference.decode(frame, wrong)
    decoder = snapdelta.Decoder()
    decoder.apply(snapdelta.dumps(wrong))
    with pytest.raises(snapdelta.BaseMismatchError):
        decoder.apply(frame)


def test_the_sequence_is_kept() -> None:
    encoder = snapdelta.Encoder(epoch=4)
    snapshots: list[Snapshot] = [{"A": n} for n in (1, 2, 1, 2, 3)]
    frames = [encoder.encode(snapshot) for snapshot in snapshots]
    decoder = snapdelta.Decoder()
    with pytest.raises(snapdelta.BaseMismatchError):
        decoder.apply(frames[1])  # the beginning is missing
    decoder.apply(frames[0])
    decoder.apply(frames[1])
    for wrong in (frames[1], frames[3]):  # again; and one missed, though its base has the same digest
        with pytest.raises(snapdelta.BaseMismatchError, match="sequence"):
            decoder.apply(wrong)
    decoder.apply(frames[2])
    decoder.apply(frames[3])
    assert_same(decoder.snapshot(), snapshots[3])


def test_epochs_are_kept_apart() -> None:
    old, new = snapdelta.Encoder(epoch=1), snapdelta.Encoder(epoch=2)
    frames = [[encoder.encode({"A": n}) for n in (1, 2)] for encoder in (old, new)]
    decoder = snapdelta.Decoder()
    decoder.apply(frames[0][0])
    with pytest.raises(snapdelta.BaseMismatchError, match="epoch"):
        decoder.apply(frames[1][1])
    decoder.apply(frames[1][0])  # a full frame begins a new epoch
    assert decoder.epoch == 2
    with pytest.raises(snapdelta.BaseMismatchError):
        decoder.apply(frames[0][1])
    decoder.apply(frames[1][1])
    assert_same(decoder.snapshot(), {"A": 2})


def test_a_delta_is_no_full_frame() -> None:
    with pytest.raises(snapdelta.BaseMismatchError):
        snapdelta.loads(snapdelta.diff({"A": 1}, {"A": 2}))


def test_newer_versions_are_named() -> None:
    frame = snapdelta.dumps({"A": 1})
    for version in (2, 3, 255):
        newer = f.rechecked(frame[:4] + bytes([version]) + frame[5:])
        for call in (snapdelta.loads, snapdelta.inspect, snapdelta.Decoder().apply):
            with pytest.raises(snapdelta.UnsupportedVersionError) as caught:
                call(newer)
            message = str(caught.value)
            assert f"format {version}" in message
            assert "1" in message
            assert "upgrade snapdelta-rs" in message
        with pytest.raises(reference.Unsupported):
            reference.decode(newer)
        with pytest.raises(snapdelta.CorruptDeltaError):  # damaged first, newer second
            snapdelta.loads(newer[:-1] + bytes([newer[-1] ^ 1]))


def test_all_errors_are_of_one_family() -> None:
    for name in snapdelta.__all__:
        item = getattr(snapdelta, name)
        if isinstance(item, type) and issubclass(item, Exception):
            assert issubclass(item, snapdelta.SnapdeltaError)
    assert issubclass(snapdelta.LimitExceededError, snapdelta.CorruptDeltaError)


def test_the_plain_contract_agrees_on_what_is_supported() -> None:
    """N, which the other tests compare with, refuses the same."""
    for value, _ in UNSUPPORTED:
        with pytest.raises(Unsupported):
            N({"A": {"x": [value]}})
    assert_same(N({"A": datetime(2026, 1, 2, tzinfo=UTC)}), {"A": datetime(2026, 1, 2, tzinfo=UTC)})
