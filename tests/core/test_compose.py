"""Deltas as one delta: it leads where they lead in turn, from the same base, in the same stream."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings

import snapdelta
from core import reference_decoder as reference
from snapdelta.testing.feed import Feed
from support import frames, generators, strategies
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


def test_records_of_one_hash_are_not_taken_for_each_other() -> None:
    texts = list(islice(generators.texts_of_one_hash(), 3))
    states: list[Snapshot] = [{"A": {"t": text, "n": 1}, "B": text} for text in texts]
    first, *deltas = stream(states)
    assert len({digest_of(state) for state in states}) == 1
    composed = snapdelta.compose(deltas, states[0])
    assert_leads(composed, first, states[0], states[-1], digest_of(states[-1]))


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


# --- bundles: deltas as they are, in one frame


def assert_bundle(bundle: bytes, first: bytes, base: Snapshot, last: Snapshot) -> snapdelta.Decoder:
    assert snapdelta.inspect(bundle).kind == "bundle"
    return assert_leads(bundle, first, base, last, digest_of(last))


@settings(max_examples=20)
@given(strategies.sequences())
def test_any_bundle(states: list[Snapshot]) -> None:
    first, *deltas = stream(states)
    if deltas:
        assert_bundle(snapdelta.compose(deltas), first, states[0], states[-1])


@pytest.mark.parametrize("seed", range(2))
def test_bundles_of_long_streams(seed: int) -> None:
    states = list(islice(generators.frames(seed, rows=40), 12))
    first, *deltas = stream(states)
    bundle = snapdelta.compose(deltas[:7])
    assert len(bundle) < sum(map(len, deltas[:7])) + 7 * 3 + 60
    info = snapdelta.inspect(bundle)
    assert (info.base_sequence, info.sequence, info.target_symbols) == (1, 8, len(states[7]))
    # In the middle of a stream, of bundles again, and folded with the base.
    reader = snapdelta.Decoder()
    for frame in (
        first,
        deltas[0],
        snapdelta.compose([snapdelta.compose(deltas[1:4]), *deltas[4:7]]),
        deltas[7],
    ):
        reader.apply(frame)
    assert_same(reader.snapshot(), N(states[8]))
    assert snapdelta.compose([snapdelta.compose(deltas[:3]), *deltas[3:7]]) == bundle
    folded = snapdelta.compose([bundle, *deltas[7:]], states[0])
    assert_leads(folded, first, states[0], states[-1], digest_of(states[-1]))


def test_a_bundle_tells_what_changed() -> None:
    states: list[Snapshot] = [{"A": 1, "B": 2, "C": 3}, {"A": 1, "C": 4, "D": 5}, {"C": 4, "A": 1, "E": 6}]
    first, *deltas = stream(states)
    reader = assert_bundle(snapdelta.compose(deltas), first, states[0], states[-1])
    assert (reader.added, reader.removed, reader.updated) == (["E"], ["B"], ["C"])
    shared = snapdelta.Decoder()
    records = {symbol: {"v": value} for symbol, value in states[0].items()}
    shared.apply(snapdelta.dumps(records))
    kept = shared.snapshot(shared=True)
    later = {**records, "A": {"v": 9}}
    shared.apply(snapdelta.compose([snapdelta.diff(records, later)]))
    again = shared.snapshot(shared=True)
    assert again["B"] is kept["B"]
    assert again["A"] == {"v": 9}


def test_a_bundle_over_the_change_of_a_writer() -> None:
    states: list[Snapshot] = [{"A": n, "B": {"x": n}} for n in range(4)]
    first, *deltas = stream(states[:3])
    decoder = snapdelta.Decoder()
    decoder.apply(first)
    for delta in deltas:
        decoder.apply(delta)
    encoder = snapdelta.Encoder(epoch=9, verify=True)
    encoder.resume(decoder)
    bundle = snapdelta.compose([*deltas, encoder.encode(states[3])])
    reader = assert_bundle(bundle, first, states[0], states[3])
    assert (reader.epoch, reader.sequence, snapdelta.inspect(bundle).base_epoch) == (9, 1, 7)


def test_what_is_no_bundle() -> None:
    states: list[Snapshot] = [{"A": n, "B": {"x": n}} for n in range(5)]
    first, *deltas = stream(states)
    for wrong in (deltas[::-1], [deltas[0], deltas[2]], [first], [*deltas, first], [deltas[0], deltas[0]]):
        with pytest.raises(snapdelta.BaseMismatchError):
            snapdelta.compose(wrong)
    with pytest.raises(snapdelta.UsageError, match=r"^deltas: "):
        snapdelta.compose([])
    bundle = snapdelta.compose(deltas[1:])
    reader = snapdelta.Decoder()
    with pytest.raises(snapdelta.BaseMismatchError):
        reader.apply(bundle)
    reader.apply(first)
    with pytest.raises(snapdelta.BaseMismatchError):
        reader.apply(bundle)
    with pytest.raises(snapdelta.BaseMismatchError):
        snapdelta.loads(bundle)
    assert_same(reader.snapshot(), states[0])


def sealed_bundle(
    head: reference.Header, body: bytes, target: int | None = None, sequence: int | None = None
) -> bytes:
    """A bundle of another body, which does not say what a reader needs."""
    sequence = head.sequence if sequence is None else sequence
    return frames.seal(
        body,
        frames.DELTA,
        target=head.target if target is None else target,
        base=head.base,
        rows=head.base_rows,
        flags=32,
        epoch=head.epoch,
        sequence=sequence,
        base_place=frames.uv(sequence - head.base_sequence),
    )


def test_damaged_and_hostile_bundles() -> None:
    """Every cut, bytes changed here and there, and bundles with a right checksum that are wrong inside."""
    states = list(islice(generators.frames(5, rows=12), 5))
    first, *deltas = stream(states)
    bundle = snapdelta.compose(deltas)
    reader = snapdelta.Decoder()
    reader.apply(first)
    head = reference.header(bundle)
    inside = head.coded

    def sealed(body: bytes, **others: int) -> bytes:
        return sealed_bundle(head, body, **others)

    def listed(*parts: bytes) -> bytes:
        return frames.uv(len(parts)) + b"".join(frames.uv(len(part)) + part for part in parts)

    assert sealed(inside) == bundle
    full = first
    wrong = [
        *(bundle[:at] for at in range(0, len(bundle), 11)),
        *(bytes([*bundle[:at], bundle[at] ^ 1, *bundle[at + 1 :]]) for at in range(0, len(bundle), 13)),
        *(sealed(inside[:at]) for at in range(0, len(inside), 17)),
        sealed(inside + b"\0"),
        sealed(listed()),
        sealed(listed(*deltas[:-1])),
        sealed(listed(*deltas[1:])),
        sealed(listed(deltas[0], *deltas[2:])),
        sealed(listed(full, *deltas)),
        sealed(listed(bundle)),
        sealed(inside, target=7),
        sealed(inside, sequence=head.sequence + 1),
    ]
    # Its last delta leads elsewhere than it says.
    last = reference.header(deltas[-1])
    lying = frames.resealed(deltas[-1], reference.contents_of(last).body, target=5)
    wrong.append(sealed(listed(*deltas[:-1], lying), target=5))
    for frame in wrong:
        with pytest.raises(snapdelta.CorruptDeltaError):
            reader.apply(frame)
        with pytest.raises(reference.Corrupt):
            reference.decode(frame, N(states[0]))
        with pytest.raises(snapdelta.CorruptDeltaError):
            snapdelta.apply(N(states[0]), frame)
    assert reader.digest == digest_of(states[0])
    reader.apply(bundle)
    assert_same(reader.snapshot(), N(states[-1]))


def test_the_limit_of_a_bundle() -> None:
    """As much as the largest delta and the bundle itself, however many there are."""
    encoder = snapdelta.Encoder(epoch=1, verify=True)
    states: list[Snapshot] = [{f"S{n}": {"x": n, "y": k} for n in range(200)} for k in range(60)]
    first, *deltas = (encoder.encode(state) for state in states)
    bundle = snapdelta.compose(deltas)
    required = snapdelta.inspect(bundle).required_bytes
    assert required is not None
    largest = max(snapdelta.inspect(delta).required_bytes or 0 for delta in deltas)
    assert largest < required < 2 * largest + len(bundle) + 60 * (512 + 16 * 200)
    for limit, fits in ((required, True), (required - 1, False)):
        reader = snapdelta.Decoder(snapdelta.Limits(limit))
        reader.apply(first)
        if fits:
            reader.apply(bundle)
            reference.decode(bundle, states[0], max_bytes=limit)
        else:
            with pytest.raises(snapdelta.LimitExceededError):
                reader.apply(bundle)
            with pytest.raises(reference.LimitExceeded):
                reference.decode(bundle, states[0], max_bytes=limit)
        assert_same(reader.snapshot(), states[-1] if fits else states[0])


@pytest.mark.parametrize("verify", [False, True])
def test_an_error_within_a_bundle_names_the_limit_of_the_caller(verify: bool) -> None:
    """Whatever is too large: the bundle, a part of a delta, or what a delta says that it needs."""
    encoder = snapdelta.Encoder(epoch=1, verify=verify)
    states: list[Snapshot] = [{f"S{n}": {"x": n, "y": k} for n in range(200)} for k in range(8)]
    _, *deltas = (encoder.encode(state) for state in states)
    made = reference.header(snapdelta.compose(deltas))
    bundle = sealed_bundle(made, made.coded)
    messages = []
    for limit in range(len(bundle) // 2, 1_000_000, 997):
        try:
            snapdelta.apply(states[0], bundle, limits=snapdelta.Limits(limit))
            break
        except snapdelta.LimitExceededError as error:
            messages.append(str(error))
            assert re.search(f"limit (of|is) {limit:,} bytes", messages[-1])
    assert 20 < len(messages) < 900
    needs = [message for message in messages if message.startswith("the frame needs")]
    assert bool(needs) == verify
    # What it needs is more than the limit.
    for message in needs:
        need, limit_named = (int(part.replace(",", "")) for part in re.findall(r"([\d,]+) bytes", message))
        assert need > limit_named


def test_bundles_whose_names_are_given_up() -> None:
    """Keys that come and go within one bundle are forgotten on the way."""
    states: list[Snapshot] = [{"A": {f"key {n}-{k}": k for k in range(60)}} for n in range(120)]
    first, *deltas = stream(states)
    reader = assert_bundle(snapdelta.compose(deltas), first, states[0], states[-1])
    one = snapdelta.Decoder()
    one.apply(snapdelta.dumps(states[-1]))
    assert_same(reader.snapshot(), one.snapshot())


# --- what Python code does on the way


def test_composing_while_composing() -> None:
    states = list(islice(generators.frames(2, rows=10), 4))
    _, *deltas = stream(states)
    made: list[bytes] = []

    def default(value: Any) -> Any:
        made.append(snapdelta.compose(deltas, states[0]))
        made.append(snapdelta.compose(deltas))
        return "set"

    odd = {**states[0], "odd": {1}}
    delta = snapdelta.diff({**states[0], "odd": "set"}, states[1])
    composed = snapdelta.compose([delta], odd, default=default)
    assert_same(snapdelta.apply(N({**states[0], "odd": "set"}), composed), N(states[1]))
    assert made[0] == snapdelta.compose(deltas, states[0])
    assert made[1] == snapdelta.compose(deltas)
    # A buffer that may be written to: what it holds at the call is what counts.
    written = [bytearray(delta) for delta in deltas]
    bundle = snapdelta.compose(written)
    for part in written:
        part[:] = bytes(len(part))
    assert bundle == made[1]


def test_composing_in_threads() -> None:
    states = list(islice(generators.frames(4, rows=30), 8))
    _, *deltas = stream(states)
    want = [snapdelta.compose(deltas, states[0]), snapdelta.compose(deltas)]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            jobs = [pool.submit(snapdelta.compose, deltas, states[0]) for _ in range(3)]
            jobs += [pool.submit(snapdelta.compose, deltas) for _ in range(3)]
            got = [job.result() for job in jobs]
            assert got == 3 * want[:1] + 3 * want[1:]
