"""Any sequence of calls: an Encoder and a Decoder stay with the plain state, whatever comes and fails."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import snapdelta
from core import reference_decoder as reference
from support.assert_exact import assert_same
from support.roundtrip import Stream, delta_trip, full_trip
from support.strategies import SNAPSHOTS, STEPS, Snapshot, tables


class DecoderFollowsEncoder(RuleBasedStateMachine):
    """`snapshot` is the caller's dict, `stream` a writer and a reader that follow it."""

    @initialize(first=st.one_of(tables(8), SNAPSHOTS), epoch=st.integers(0, 2**64 - 1))
    def start(self, first: Snapshot, epoch: int) -> None:
        self.stream = Stream(epoch)
        self.before: Snapshot = {}
        self.snapshot = first
        self.last = b""
        self.send()

    def send(self, *, full: bool = False, captured: bool = False) -> None:
        self.last = self.stream.step(self.snapshot, full=full, captured=captured)

    @rule(step=st.sampled_from(list(STEPS)), data=st.data(), captured=st.booleans())
    def one_step(self, step: str, data: st.DataObject, captured: bool) -> None:
        self.before = self.snapshot
        self.snapshot = STEPS[step](data.draw, self.snapshot)
        self.send(captured=captured)

    @rule(steps=st.lists(st.sampled_from(list(STEPS)), min_size=2, max_size=5), data=st.data())
    def some_steps(self, steps: list[str], data: st.DataObject) -> None:
        self.before = self.snapshot
        for step in steps:
            self.snapshot = STEPS[step](data.draw, self.snapshot)
        self.send()

    @rule(key=st.sampled_from(["x", "a.b", ""]), value=st.integers(0, 3) | st.floats())
    def in_place(self, key: str, value: Any) -> None:
        """The caller changes the dict that was sent before, and sends it again."""
        rows = self.snapshot.items()
        self.snapshot = {symbol: dict(row) if type(row) is dict else row for symbol, row in rows}
        self.send()
        self.before = copy.deepcopy(self.snapshot)
        for record in self.snapshot.values():
            if type(record) is dict:
                record[key] = value
        self.send()

    @rule()
    def full(self) -> None:
        self.before = self.snapshot
        self.send(full=True)

    @rule()
    def late_reader(self) -> None:
        """Another reader begins with the published state and follows from there."""
        self.stream.check_full()
        reader = snapdelta.Decoder()
        reader.apply(self.stream.encoder.full())
        self.stream.decoder = reader

    @rule(full=st.booleans())
    def capture_given_up(self, full: bool) -> None:
        """A frame that is captured and dropped was never there; until then the encoder is busy."""
        for encoder in (self.stream.encoder, self.stream.verified):
            pending = encoder.capture({"gone": {"text": "never to be seen"}}, full=full)
            with pytest.raises(snapdelta.EncoderBusyError):
                encoder.encode(self.snapshot)
            assert_same(encoder.sequence, self.stream.sequence)
            del pending
        self.stream.check_full()

    @rule(position=st.integers(0, 5))
    def refused_value(self, position: int) -> None:
        """A value of an unsupported kind, after others that are new: nothing of it may stay."""
        rows = list(self.snapshot.items())
        rows[position:position] = [
            ("new one", {"deep": {"er": "text that is new"}}),
            ("bad", {"x": [1, object()]}),
        ]
        for encoder in (self.stream.encoder, self.stream.verified):
            digest, sequence = encoder.digest, encoder.sequence
            with pytest.raises(snapdelta.UnsupportedTypeError, match=r"^bad\.x\[1\]: object"):
                encoder.encode(dict(rows))
            assert (encoder.digest, encoder.sequence) == (digest, sequence)

    @rule(at=st.integers(0, 2**30), bit=st.integers(0, 7))
    def damaged_frame(self, at: int, bit: int) -> None:
        damaged = bytearray(self.last)
        damaged[at % len(damaged)] ^= 1 << bit
        with pytest.raises((snapdelta.CorruptDeltaError, snapdelta.UnsupportedVersionError)):
            self.stream.decoder.apply(bytes(damaged))

    @rule()
    def repeated_frame(self) -> None:
        """A delta is good for once; a full frame says what is already known."""
        if reference.header(self.last).kind == 1:
            with pytest.raises(snapdelta.BaseMismatchError):
                self.stream.decoder.apply(self.last)

    @invariant()
    def reader_is_right(self) -> None:
        if hasattr(self, "stream"):
            assert_same(self.stream.decoder.snapshot(), self.stream.state)

    def teardown(self) -> None:
        if hasattr(self, "stream"):
            delta_trip(self.before, self.snapshot)
            full_trip(self.snapshot)


class DecoderFollowsEncoderAtLength(DecoderFollowsEncoder):
    pass


DecoderFollowsEncoder.TestCase.settings = settings(max_examples=100, stateful_step_count=25)
DecoderFollowsEncoderAtLength.TestCase.settings = settings(max_examples=3000, stateful_step_count=40)
TestDecoderFollowsEncoder = DecoderFollowsEncoder.TestCase
TestFollowingAtLength = pytest.mark.long(DecoderFollowsEncoderAtLength.TestCase)
