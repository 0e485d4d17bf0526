"""Where an Encoder's stream begins, and what a captured frame tells before it is finished."""

from __future__ import annotations

import random
from typing import Any

import pytest

import snapdelta
from core import reference_decoder as reference
from support import frames
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
    sent = [encoder.encode({"A": {"x": n}, "B": {}}) for n in (1, 2)]
    assert [place(frame) for frame in sent] == [(0, LAST, sequence + 1), (1, LAST, sequence + 2)]
    assert place(encoder.full()) == (0, LAST, sequence + 2)
    for frame in sent:
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


# --- resume


def test_a_writer_goes_on_from_a_readers_state() -> None:
    """Its first frame is a delta that names its base; readers of that state apply it, others do not."""
    snapshots: list[Snapshot] = [
        {"A": {"x": n, "t": f"a text of its own {n}"}, "B": {"y": n}} for n in range(6)
    ]
    old, first, second = snapdelta.Encoder(epoch=4), snapdelta.Decoder(), snapdelta.Decoder()
    for snapshot in snapshots[:3]:
        frame = old.encode(snapshot)
        first.apply(frame)
        second.apply(frame)
    new = snapdelta.Encoder(epoch=9, verify=True)
    new.begin(9, 70)
    new.resume(first)
    assert (new.epoch, new.sequence, new.digest) == (9, 70, first.digest)
    with pytest.raises(ValueError, match="another writer's"):
        new.full()
    bridge = new.encode(snapshots[3])
    info = snapdelta.inspect(bridge)
    assert (info.kind, info.epoch, info.sequence) == ("delta", 9, 71)
    assert (info.base_epoch, info.base_sequence, info.base_digest) == (4, 3, first.digest)
    assert_same(reference.decode(bridge, snapshots[2]), snapshots[3])
    assert place(new.full()) == (0, 9, 71)
    behind = snapdelta.Decoder()
    behind.apply(snapdelta.Encoder(epoch=4).encode(snapshots[2]))  # the same state, at another place
    with pytest.raises(snapdelta.BaseMismatchError, match="sequence 3"):
        behind.apply(bridge)
    for decoder in (first, second):
        decoder.apply(bridge)
    frame = new.encode(snapshots[4])
    assert snapdelta.inspect(frame).base_epoch == 9
    for decoder in (first, second):
        decoder.apply(frame)
        assert (decoder.epoch, decoder.sequence) == (9, 72)
        assert_same(decoder.snapshot(), snapshots[4])
    with pytest.raises(snapdelta.BaseMismatchError, match="epoch 4"):
        first.apply(old.encode(snapshots[5]))


def test_the_first_frame_of_a_resumed_writer_may_be_full() -> None:
    decoder = snapdelta.Decoder()
    decoder.apply(snapdelta.Encoder().encode({"A": {"x": 1}}))
    new = snapdelta.Encoder(epoch=1)
    new.resume(decoder)
    assert place(new.encode({"A": {"x": 2}}, full=True)) == (0, 1, 1)


def test_a_writer_resumes_once_and_under_a_new_epoch() -> None:
    decoder, empty = snapdelta.Decoder(), snapdelta.Decoder()
    decoder.apply(snapdelta.Encoder(epoch=5).encode({"A": {"x": 1}}))
    for epoch in (0, 4, 5):
        with pytest.raises(ValueError, match=f"epoch {epoch} is not above 5"):
            snapdelta.Encoder(epoch=epoch).resume(decoder)
    new = snapdelta.Encoder(epoch=6)
    with pytest.raises(ValueError, match="no state yet"):
        new.resume(empty)
    captured = new.capture({"A": {"x": 2}})
    with pytest.raises(snapdelta.EncoderBusyError):
        new.resume(decoder)
    del captured
    new.resume(decoder)
    with pytest.raises(ValueError, match="already"):
        new.resume(decoder)
    with pytest.raises(ValueError, match="already"):
        new.begin(7)


def test_a_refused_capture_leaves_a_resumed_writer_where_it_was() -> None:
    decoder = snapdelta.Decoder()
    decoder.apply(snapdelta.Encoder().encode({"A": {"x": 1}}))
    new = snapdelta.Encoder(epoch=1)
    new.resume(decoder)
    with pytest.raises(snapdelta.UnsupportedTypeError):
        new.encode({"A": {"new": {1, 2}}})
    decoder.apply(new.encode({"A": {"x": 2}}))
    assert (decoder.epoch, decoder.sequence) == (1, 1)


# --- a delta's base


def test_a_composed_delta_names_its_base() -> None:
    """It leads over several sequences; a Decoder applies it at its base and nowhere else."""
    snapshots: list[Snapshot] = [{"A": {"x": n}} for n in range(4)]
    encoder, late = snapdelta.Encoder(epoch=2), snapdelta.Decoder()
    stream = [encoder.encode(snapshot) for snapshot in snapshots]
    late.apply(stream[0])
    plain = snapdelta.diff(snapshots[0], snapshots[3])
    composed = frames.seal(
        frames.body_in(plain),
        frames.DELTA,
        base=reference.digest(snapshots[0]),
        rows=1,
        target=reference.digest(snapshots[3]),
        epoch=2,
        sequence=4,
        base_place=frames.uv(3),
    )
    info = snapdelta.inspect(composed)
    assert (info.sequence, info.base_epoch, info.base_sequence) == (4, 2, 1)
    late.apply(composed)
    assert (late.sequence, late.digest) == (4, encoder.digest)
    for frame in (composed, stream[1]):
        with pytest.raises(snapdelta.BaseMismatchError):
            late.apply(frame)
    assert_same(late.snapshot(), snapshots[3])


def test_a_frame_tells_that_states_are_published_within_a_tolerance() -> None:
    frame = snapdelta.dumps({})
    assert not snapdelta.inspect(frame).within_tolerance
    within = frames.seal(b"", target=reference.digest({}), held=300)
    info = snapdelta.inspect(within)
    assert (info.within_tolerance, info.held_cells) == (True, 300)
    assert reference.header(within).held_cells == 300
    assert snapdelta.loads(within) == {}


def test_a_verified_frame_tells_what_a_reader_needs() -> None:
    encoder = snapdelta.Encoder(verify=True)
    snapshots: list[Snapshot] = [{"A": {"x": n, "t": [n] * 20}} for n in (1, 2)]
    base: Snapshot | None = None
    for snapshot in snapshots:
        frame = encoder.encode(snapshot)
        required = snapdelta.inspect(frame).required_bytes
        assert required is not None
        reference.decode(frame, base, max_bytes=required)
        with pytest.raises(reference.LimitExceeded):
            reference.decode(frames.unmeasured(frame), base, max_bytes=required - 1)
        base = snapshot
    assert snapdelta.inspect(snapdelta.dumps({"A": 1})).required_bytes is None


# --- names in a delta


def test_a_delta_has_the_names_of_its_base() -> None:
    first = {str(n): {"a": n, "in": {"b": n}} for n in range(9)}
    second = {str(n): {"a": n + 1, "in": {"b": n * n}, "new": n} for n in range(9)}
    delta = snapdelta.diff(first, second)
    alone, named = snapdelta.inspect(delta), snapdelta.inspect(delta, base=first)
    assert {column.path for column in named.columns} == {("a",), ("in", "b"), ("new",)}
    assert {column.name for column in named.columns} == {"a", "in.b", "new"}
    assert {column.path for column in alone.columns} == {None}
    assert {column.name for column in alone.columns} == {f"path id {n}" for n in (1, 3, 4)}
    assert [column.path_id for column in alone.columns] == [column.path_id for column in named.columns]
    with pytest.raises(snapdelta.BaseMismatchError):
        snapdelta.inspect(delta, base=second)
    full = snapdelta.dumps(first)
    wrong: list[Any] = [second, {"A": object()}, 5]
    for ignored in wrong:
        columns = [snapdelta.inspect(full, base=base).columns for base in (None, ignored)]
        assert [column.path for column in columns[0]] == [column.path for column in columns[1]]


def test_a_column_that_copies_another_names_it_as_a_path() -> None:
    first = {str(n): {"a.b": n, "c[d": n} for n in range(9)}
    second = {str(n): {"a.b": n * n + 7, "c[d": n * n + 7} for n in range(9)}
    named, copied = snapdelta.inspect(snapdelta.diff(first, second), base=first).columns
    assert {named.name, copied.name} == {r"a\.b", r"c\[d"}
    assert copied.encoding == f"copy of {named.name}"


def test_what_a_frame_needs_is_enough_to_inspect_it() -> None:
    def record(n: int) -> dict[str, Any]:
        return {"a": n, "in": {"b": [n] * 9, "c": f"a text of its own, {n}"}}

    first = {f"a row with a long name {n}": record(n) for n in range(200)}
    second = {symbol: record(n + 1) for n, symbol in enumerate(first)}
    second |= {f"a row that is new {n}": record(n * n) for n in range(200)}
    encoder = snapdelta.Encoder(verify=True)
    encoder.encode(first)
    delta = encoder.encode(second)
    info = snapdelta.inspect(delta)
    assert info.added is None
    assert info.required_bytes is not None
    limits = snapdelta.Limits(info.required_bytes)
    assert_same(snapdelta.apply(first, delta, limits=limits), second)
    named = snapdelta.inspect(delta, base=first, limits=limits)
    assert named.added == tuple(second)[200:]
    assert snapdelta.inspect(delta, limits=limits).added is None


def test_a_frame_in_which_nothing_changed_is_its_header() -> None:
    snapshot = {str(n): {"a": n, f"b{n}": "a text of its own"} for n in range(300)}
    encoder = snapdelta.Encoder(epoch=2**41, verify=True)
    encoder.encode(snapshot)
    frame = encoder.encode(snapshot)
    info = snapdelta.inspect(frame)
    assert (info.body_size, info.sections, info.updated, info.base_symbols) == (0, {}, 0, 300)
    assert len(frame) < 56
    snapshot["7"] = {**snapshot["7"], "a": -1}
    assert len(encoder.encode(snapshot)) <= 80
