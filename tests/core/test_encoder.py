"""Where an Encoder's stream begins, and what a captured frame tells before it is finished."""

from __future__ import annotations

import random
from typing import Any

import pytest

import snapdelta
from core import reference_decoder as reference
from support.assert_exact import assert_same

Snapshot = dict[str, Any]
LAST = 2**64 - 1


def place(frame: bytes) -> tuple[int, int, int]:
    head = reference.header(frame)
    return head.kind, head.epoch, head.sequence


# --- begin


@pytest.mark.parametrize("sequence", [0, 1, 41, LAST - 3])
def test_a_stream_begins_where_it_is_told(sequence: int) -> None:
    encoder, decoder = snapdelta.Encoder(epoch=3), snapdelta.Decoder()
    encoder.begin(1, 9)  # until the first frame it may be said again
    encoder.begin(LAST, sequence)
    assert (encoder.epoch, encoder.sequence) == (LAST, sequence)
    with pytest.raises(ValueError, match="there is no state yet"):
        encoder.full()
    frames = [encoder.encode({"A": {"x": n}, "B": {}}) for n in (1, 2)]
    assert [place(frame) for frame in frames] == [(0, LAST, sequence + 1), (1, LAST, sequence + 2)]
    assert place(encoder.full()) == (0, LAST, sequence + 2)
    for frame in frames:
        decoder.apply(frame)
    assert_same(decoder.snapshot(), {"A": {"x": 2}, "B": {}})


def test_a_captured_frame_goes_where_the_stream_begins() -> None:
    encoder, plain = snapdelta.Encoder(), snapdelta.Encoder(epoch=7)
    pending = encoder.capture({"A": {"x": "a text of some length"}})
    encoder.begin(7)
    assert pending.finish() == plain.encode({"A": {"x": "a text of some length"}})
    del pending
    dropped = snapdelta.Encoder()
    pending = dropped.capture({"A": 1})
    dropped.begin(7, 5)
    del pending
    assert place(dropped.encode({"A": 1})) == (0, 7, 6)


def test_a_stream_begins_once() -> None:
    encoder = snapdelta.Encoder(epoch=2)
    encoder.begin(2)
    encoder.encode({})
    for args in [(2, 0), (2, 1), (3, 0)]:
        with pytest.raises(ValueError, match="the stream is at 2-1 already"):
            encoder.begin(*args)
    pending = encoder.capture({"A": 1})
    with pytest.raises(ValueError, match="already"):
        encoder.begin(3)
    assert place(pending.finish()) == (1, 2, 2)


@pytest.mark.parametrize("bad", [-1, LAST + 1, 2**200])
def test_a_place_is_two_numbers_of_64_bits(bad: int) -> None:
    encoder = snapdelta.Encoder(epoch=4)
    encoder.begin(5, 6)
    with pytest.raises(ValueError, match="epoch"):
        snapdelta.Encoder(epoch=bad)
    with pytest.raises(ValueError, match="epoch"):
        encoder.begin(bad)
    with pytest.raises(ValueError, match="sequence"):
        encoder.begin(1, bad)
    with pytest.raises(ValueError, match="sequence"):
        encoder.begin(1, LAST)  # no frame could follow
    with pytest.raises(TypeError):
        encoder.begin("1")  # type: ignore[arg-type]
    assert (encoder.epoch, encoder.sequence) == (5, 6)


def test_the_last_sequence_is_the_last() -> None:
    encoder = snapdelta.Encoder()
    encoder.begin(1, LAST - 1)
    encoder.encode({"A": 1})
    with pytest.raises(snapdelta.SnapdeltaError, match="new epoch"):
        encoder.encode({"A": 2})
    assert_same(snapdelta.loads(encoder.full()), {"A": 1})


# --- what a captured frame tells


def told(frame: snapdelta.CapturedFrame) -> tuple[str, int, int, int, int]:
    return frame.kind, frame.symbols, frame.added, frame.removed, frame.updated


def test_a_captured_frame_tells_what_happened() -> None:
    """Counts stand beside the state before, for a full frame too."""
    a, b, c = {"x": 1, "y": 2.0}, {"x": 2, "y": None}, {"z": "text"}
    steps: list[tuple[Snapshot, bool, tuple[str, int, int, int, int]]] = [
        ({"A": a, "B": b}, False, ("full", 2, 2, 0, 0)),
        ({"A": a, "B": b}, False, ("delta", 2, 0, 0, 0)),
        ({"B": b, "A": a}, False, ("delta", 2, 0, 0, 0)),  # only moved
        ({"C": c, "A": {**a, "x": 3}, "B": b}, False, ("delta", 3, 1, 0, 1)),
        ({"B": {"y": None, "x": 2}, "A": {**a, "x": 3}, "C": c}, False, ("delta", 3, 0, 0, 1)),  # reordered
        ({"C": {"z": 1, "x": 1}, "D": c, "E": c}, True, ("full", 3, 2, 2, 1)),
        ({}, False, ("delta", 0, 0, 3, 0)),
    ]
    encoder = snapdelta.Encoder()
    for snapshot, full, want in steps:
        pending = encoder.capture(snapshot, full=full)
        assert told(pending) == want
        frame = pending.finish()
        assert told(pending) == want
        assert snapdelta.inspect(frame).kind == want[0]


def test_what_a_captured_frame_told_stays() -> None:
    encoder = snapdelta.Encoder()
    first = encoder.capture({"A": 1, "B": 2})
    first.finish()
    second = encoder.capture({"A": 2})
    assert told(first) == ("full", 2, 2, 0, 0)
    assert told(second) == ("delta", 1, 0, 1, 1)


# --- frames dropped in any order


def test_an_older_frame_dropped_after_a_newer_one_leaves_the_encoder_free() -> None:
    encoder = snapdelta.Encoder()
    encoder.encode({"a": {"x": 1}})
    first = encoder.capture({"a": {"x": 2}})
    first.finish()
    second = encoder.capture({"a": {"x": 3}})
    del second
    del first
    assert_same(reference.decode(encoder.encode({"a": {"x": 4}}), {"a": {"x": 2}}), {"a": {"x": 4}})


@pytest.mark.parametrize("seed", range(20))
def test_frames_kept_and_dropped_in_any_order(seed: int) -> None:
    """The encoder is busy exactly while the newest frame is neither finished nor dropped."""
    rng = random.Random(seed)
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    kept: list[snapdelta.CapturedFrame] = []
    newest: snapdelta.CapturedFrame | None = None  # unfinished
    for n in range(200):
        action = rng.choice(["capture", "capture", "finish", "drop", "drop an old one"])
        if action == "capture" and newest is None:
            newest = encoder.capture({"a": {"x": n}})
        elif action == "capture":
            with pytest.raises(snapdelta.EncoderBusyError):
                encoder.capture({"a": {"x": n}})
        elif action == "finish" and newest is not None:
            decoder.apply(newest.finish())
            kept.append(newest)
            newest = None
        elif action == "drop":
            newest = None
        elif kept:
            del kept[rng.randrange(len(kept))]
    newest = None
    kept.clear()
    decoder.apply(encoder.encode({"a": {"x": "end"}}, full=not len(decoder)))
    assert_same(decoder.snapshot(), {"a": {"x": "end"}})
