"""`Decoder.full()`: a reader's state as a full frame."""

from __future__ import annotations

import threading
from itertools import islice
from typing import Any

import pytest

import snapdelta
from core import reference_decoder as reference
from snapdelta import Absolute, Limits
from snapdelta.testing.feed import Feed
from support import generators
from support.assert_exact import assert_same


@pytest.mark.parametrize("tolerance", [None, {"price": Absolute(0.5)}])
def test_a_reader_makes_the_frame_that_the_writer_makes(tolerance: Any) -> None:
    """Byte by byte, after each frame, whether the reader came by deltas or by a full frame."""
    encoder, decoder, late = snapdelta.Encoder(epoch=3, tolerance=tolerance), snapdelta.Decoder(), None
    for snapshot in islice(Feed("enriched", symbols=120), 6):
        decoder.apply(encoder.encode(snapshot))
        frame = decoder.full()
        assert frame == encoder.full()
        late = late or snapdelta.Decoder()
        late.apply(frame)
        assert late.full() == frame
        assert (late.epoch, late.sequence, late.digest) == (3, encoder.sequence, encoder.digest)
        assert snapdelta.inspect(frame).within_tolerance == (tolerance is not None)
        assert_same(reference.decode(frame), decoder.snapshot())


def test_the_flag_goes_with_the_state() -> None:
    """It is that of the last frame, also of a bundle, or of a writer without a tolerance."""
    encoder, decoder = snapdelta.Encoder(epoch=1, tolerance={"p": Absolute(0.5)}), snapdelta.Decoder()
    frames = [encoder.encode({"A": {"p": p}, "B": {"p": p}}) for p in (1.0, 1.25, 1.5)]

    def held() -> int | None:
        info = snapdelta.inspect(decoder.full())
        return info.held_cells if info.within_tolerance else None

    decoder.apply(frames[0])
    assert held() == 0
    decoder.apply(snapdelta.compose(frames[1:]))
    assert held() == 2
    exact = snapdelta.Encoder(epoch=2)
    exact.resume(decoder)
    decoder.apply(exact.encode({"A": {"p": 1.25}, "B": {"p": 1.5}}))
    assert held() is None
    decoder.apply(frames[0])
    assert held() == 0


def test_a_refused_frame_leaves_the_flag_as_it_was() -> None:
    encoder, decoder = snapdelta.Encoder(epoch=1, tolerance={"p": Absolute(0.5)}), snapdelta.Decoder()
    decoder.apply(encoder.encode({"A": {"p": 1.0}}))
    before = decoder.full()
    for frame in (snapdelta.diff({"A": 1}, {"A": 2}), b"", before[:-1]):
        with pytest.raises(snapdelta.SnapdeltaError):
            decoder.apply(frame)
        assert decoder.full() == before


def test_what_full_is_told() -> None:
    decoder = snapdelta.Decoder()
    with pytest.raises(snapdelta.UsageError, match="no state yet; apply a full frame first"):
        decoder.full()
    decoder.apply(snapdelta.dumps({"A": {"text": "abc" * 1000}, "B": None}))
    for level in (0, 23):
        with pytest.raises(snapdelta.UsageError, match=f"level: {level}"):
            decoder.full(level=level)
    for level in (1, 22):
        assert_same(snapdelta.loads(decoder.full(level=level)), decoder.snapshot())
    assert (decoder.epoch, decoder.sequence, decoder.added) == (0, 0, ["A", "B"])


def test_a_decoder_is_free_while_its_frame_is_made() -> None:
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    first, second = islice(Feed("enriched", symbols=400), 2)
    decoder.apply(encoder.encode(first))
    frames = [decoder.full()]
    delta = encoder.encode(second)
    made: list[bytes] = []
    makers = [threading.Thread(target=lambda: made.append(decoder.full(level=19))) for _ in range(2)]
    for maker in makers:
        maker.start()
    # No EncoderBusyError on either side.
    decoder.apply(delta)
    decoder.get("AAPL")
    frames.append(decoder.full())
    for maker in makers:
        maker.join()
    assert len(made) == 2
    states = [snapdelta.loads(frame) for frame in frames]
    for frame in made:
        assert snapdelta.loads(frame) in states


def test_a_state_larger_than_the_default_limits_allow() -> None:
    """Its own frame is not held to the limits of the reader."""
    decoder = snapdelta.Decoder(Limits(10_000_000))
    decoder.apply(snapdelta.dumps({f"S{n}": {"x": n} for n in range(2_000)}))
    assert len(snapdelta.loads(decoder.full())) == 2_000


@pytest.mark.parametrize("kind", ["full", "bundle"])
def test_a_record_of_the_same_hash_is_another_record(kind: str) -> None:
    """Of a text, of a leaf, and beside a record that stays; a full frame numbers keys and shapes anew."""
    one, two, three = islice(generators.texts_of_one_hash(), 3)
    other: dict[str, Any] = {"m": {"x": 1}, "l": ["a list"]}
    states: list[dict[str, Any]] = [
        {"A": {"t": text, "n": 1}, "same": other, "B": text, "C": {"in": {"n": n % 2, "t": "stays"}}}
        for n, text in enumerate((one, two, three))
    ]
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    decoder.apply(encoder.encode(states[0]))
    before = decoder.snapshot(shared=True)
    deltas = [encoder.encode(state) for state in states[1:]]
    last = {"new": {"z": 1}, **states[-1]} if kind == "full" else states[-1]
    decoder.apply(encoder.encode(last, full=True) if kind == "full" else snapdelta.compose(deltas))
    after = decoder.snapshot(shared=True)
    assert_same(after, last)
    assert decoder.updated == ["A", "B"]
    assert all(after[symbol] is before[symbol] for symbol in ("same", "C"))
