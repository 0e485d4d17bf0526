"""Sends snapshots through every way that the package has, and every frame through the second decoder too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import snapdelta
from core import reference_decoder as reference
from support import frames
from support.assert_exact import assert_same, same
from support.expected import N

Snapshot = dict[str, Any]
Default = Callable[[Any], Any] | None


@contextmanager
def panics_shown() -> Iterator[None]:
    """Makes a panic of the native core an ordinary failure (hypothesis does not shrink a BaseException)."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise AssertionError(f"panic: {error}") from error
        raise


def assert_read_alike(frame: bytes, base: Snapshot | None, want: Snapshot) -> None:
    """Both decoders make `want` of the frame."""
    if reference.header(frame).kind == 0:
        assert_same(snapdelta.loads(frame), want)
    assert_same(snapdelta.apply(base or {}, frame), want)
    assert_same(snapdelta.apply(base or {}, frame, verify=False), want)
    assert_same(reference.decode(frame, base), want)


def full_trip(snapshot: Snapshot, default: Default = None) -> bytes:
    """dumps and back."""
    want = N(snapshot, default)
    with panics_shown():
        frame = snapdelta.dumps(snapshot, default=default)
        assert_read_alike(frame, None, want)
        assert reference.header(frame).target == reference.digest(want)
    return frame


def delta_trip(before: Snapshot, after: Snapshot, default: Default = None) -> bytes:
    """diff and back, onto what a reader has and onto what the writer has."""
    base, want = N(before, default), N(after, default)
    with panics_shown():
        frame = snapdelta.diff(before, after, default=default)
        assert_read_alike(frame, base, want)
        assert_same(snapdelta.apply(before, frame, default=default), want)
    return frame


class Stream:
    """An Encoder and a Decoder that follow each other, and the plain state that they must have.

    A second Encoder reads its frames back itself, and makes the same.
    """

    def __init__(self, epoch: int = 0, default: Default = None) -> None:
        self.encoder = snapdelta.Encoder(epoch=epoch, default=default)
        self.verified = snapdelta.Encoder(epoch=epoch, default=default, verify=True)
        self.decoder = snapdelta.Decoder()
        self.default = default
        self.epoch = epoch
        self.state: Snapshot = {}  # N of the last snapshot
        self.sequence = self.encoder.sequence

    def step(self, snapshot: Snapshot, *, full: bool = False, captured: bool = False) -> bytes:
        """Encodes, applies and compares one snapshot. Returns the frame."""
        want = N(snapshot, self.default)
        with panics_shown():
            if captured:
                pending = self.encoder.capture(snapshot, full=full)
                frame = pending.finish()
            else:
                frame = self.encoder.encode(snapshot, full=full)
            assert frames.unmeasured(self.verified.encode(snapshot, full=full)) == frame
            self.check(frame, want)
        head = reference.header(frame)
        assert head.sequence == self.sequence + 1
        assert not full or head.kind == 0
        before, self.state, self.sequence = self.state, want, head.sequence
        changed = self.check_changed(before, want)
        if captured:
            told = (pending.added, pending.removed, pending.updated)
            assert (told, pending.symbols) == (changed, len(want))
            assert pending.kind == ("delta" if head.kind else "full")
        return frame

    def check(self, frame: bytes, want: Snapshot) -> None:
        assert_same(reference.decode(frame, self.state), want)
        self.decoder.apply(frame)
        self.check_decoder(want)
        head = reference.header(frame)
        digest = reference.digest(want)
        assert head.epoch == self.encoder.epoch == self.decoder.epoch == self.epoch
        assert head.sequence == self.encoder.sequence == self.decoder.sequence
        assert head.target == digest == self.encoder.digest == self.decoder.digest

    def check_decoder(self, want: Snapshot) -> None:
        assert_same(self.decoder.snapshot(), want)
        assert_same(self.decoder.snapshot(shared=True), want)
        assert len(self.decoder) == len(want)
        for symbol in list(want)[:3]:
            assert_same(self.decoder.get(symbol), want[symbol])

    def check_moved(self, before: Snapshot, after: Snapshot) -> None:
        """Without the moved symbols, those that stay have the order that they had."""
        moved = set(self.decoder.moved)
        assert moved <= before.keys() & after.keys()
        stay = before.keys() & after.keys() - moved
        assert [s for s in after if s in stay] == [s for s in before if s in stay]
        if list(before) == list(after):
            assert not moved

    def check_changed(self, before: Snapshot, after: Snapshot) -> tuple[int, int, int]:
        """Returns how many symbols were added, removed and updated."""
        added = [symbol for symbol in after if symbol not in before]
        removed = [symbol for symbol in before if symbol not in after]
        updated = [s for s in after if s in before and not same(before[s], after[s])]
        assert sorted(self.decoder.added) == sorted(added)
        assert sorted(self.decoder.removed) == sorted(removed)
        assert sorted(self.decoder.updated) == sorted(updated)
        assert self.decoder.changed == [*self.decoder.added, *self.decoder.updated]
        self.check_moved(before, after)
        return len(added), len(removed), len(updated)

    def check_full(self) -> None:
        """The published state as a full frame: the same sequence, and readable on its own."""
        with panics_shown():
            frame = self.encoder.full()
            assert frames.unmeasured(self.verified.full()) == frame
            assert_read_alike(self.decoder.full(), None, self.state)
            assert_read_alike(frame, None, self.state)
            late = snapdelta.Decoder()
            late.apply(frame)
            assert_same(late.snapshot(), self.state)
        head = reference.header(frame)
        assert (head.kind, head.epoch, head.sequence) == (0, self.epoch, self.sequence)
        # an Encoder that has learned from frames may code the same state in other bytes
        heads = head, reference.header(self.decoder.full())
        ours, theirs = (h._replace(coded=b"", body_length=0, compression=0, has_text=False) for h in heads)
        assert ours == theirs
        assert self.encoder.sequence == self.sequence
