"""Damaged and invented bytes: a typed error or a valid state, in both decoders alike; no panic, no hang."""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from functools import cache
from itertools import islice, pairwise, product
from math import inf, nan
from time import thread_time
from typing import Any, NamedTuple

import pytest
import zstandard

import snapdelta
from core import reference_decoder as reference
from core.reference_numbers import OPERATIONS as NUMBER_OPERATIONS
from core.reference_values import Row, digest_of_rows, inline_of, record_of, rows_of, sized
from snapdelta.testing.feed import Feed
from support import frames as f
from support import generators
from support.assert_exact import assert_same
from support.expected import N
from support.frames import (
    COLUMNS,
    DELTA,
    ENTROPY,
    ORDER,
    PATHS,
    ROWS,
    SETS,
    SHAPES,
    SPARSE,
    TEXT,
    byte_planes,
    gaps,
    strings,
    sv,
    uv,
)
from support.roundtrip import panics_shown

Snapshot = dict[str, Any]

# what the package raises for what the second decoder raises
ERRORS: dict[type[Exception], type[snapdelta.SnapdeltaError]] = {
    reference.Corrupt: snapdelta.CorruptDeltaError,
    reference.LimitExceeded: snapdelta.LimitExceededError,
    reference.Unsupported: snapdelta.UnsupportedVersionError,
    reference.BaseMismatch: snapdelta.BaseMismatchError,
    reference.UnknownZone: snapdelta.UnknownZoneError,
}


class Real(NamedTuple):
    base: Snapshot
    frame: bytes


def trades(rows: int, count: int) -> Iterator[Snapshot]:
    """Where a price moves, the size is drawn anew; elsewhere it grows by a few."""
    rng = random.Random(0)
    state = {f"Q{n}": {"price": n, "size": n * n * 977, "turnover": n * n * 9.77} for n in range(rows)}
    for _ in range(count):
        yield {symbol: dict(record) for symbol, record in state.items()}
        near = rng.randrange(10**7)
        for record in state.values():
            moved = rng.random() < 0.5
            size = near + rng.randrange(30) if moved else record["size"] + rng.randint(1, 3)
            record |= {"price": record["price"] + moved, "size": size, "turnover": size / 100}


def split_frames() -> Iterator[Real]:
    """Deltas with a split, which an Encoder learns from frames of some dozens of cells."""
    encoder, states = snapdelta.Encoder(), list(trades(rows=70, count=3))
    encoder.encode(states[0])
    for base, state in pairwise(states):
        frame = encoder.encode(state)
        assert "split" in str([column.encoding for column in snapdelta.inspect(frame).columns])
        yield Real(base, frame)


@cache
def real_frames() -> list[Real]:
    """Full frames and deltas of every make, of at most three kilobytes; some compressed, some stored."""
    out: list[Real] = []
    for seed, mood in enumerate([generators.calm, generators.wild, generators.wild]):
        snapshots = [N(snapshot) for snapshot in islice(generators.frames(seed, rows=25, mood=mood), 4)]
        out.append(Real({}, snapdelta.dumps(snapshots[0])))
        out += [Real(before, snapdelta.diff(before, after)) for before, after in pairwise(snapshots)]
    first, second = islice(Feed("ranked", 12, seed=1), 2)
    out += [Real({}, snapdelta.dumps(first)), Real(first, snapdelta.diff(first, second))]
    out += split_frames()
    small: Snapshot = {"A": {"x": 1, "y": 1.5}, "B": {"x": 2, "y": 2.5}, "C": None}
    out.append(Real(small, snapdelta.diff(small, {"C": 5, "A": {"y": 1.5, "x": 3}, "D": {"x": 2, "y": 2.5}})))
    return out + [Real(base, f.resealed(frame, f.body_in(frame))) for base, frame in out]


def attempt(base: Snapshot, frame: bytes, *, verify: bool = True) -> Snapshot | type[Exception]:
    """What comes of a frame: a snapshot, or the kind of error. Anything but a SnapdeltaError goes through."""
    with panics_shown():
        with suppress(snapdelta.SnapdeltaError):
            snapdelta.inspect(frame)
        try:
            return snapdelta.apply(base, frame, verify=verify)
        except snapdelta.SnapdeltaError as error:
            return type(error)


# --- damage


def test_every_truncation() -> None:
    for base, frame in real_frames():
        for length in range(len(frame)):
            cut = frame[:length]
            assert attempt(base, cut) is snapdelta.CorruptDeltaError
        assert attempt(base, frame + b"\0") is snapdelta.CorruptDeltaError
        coded = reference.header(frame).coded
        for length in range(len(coded)):  # and with a header that believes it
            assert isinstance(attempt(base, f.with_coded(frame, coded[:length])), type)


def damaged(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """One to three of: bits flipped, telling bytes put in, bytes inserted, lost, moved, or spliced."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at, kind = rng.randrange(len(out)), rng.randrange(7)
        if kind < 2:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            out[at] = rng.choice((*range(9), 127, 128, 254, 255))
        elif kind == 3:
            out[at:at] = rng.randbytes(rng.randrange(1, 4))
        elif kind == 4:
            del out[at : at + rng.randrange(1, 4)]
        else:
            source = out if kind == 5 else other
            start, length = rng.randrange(len(source)), rng.randrange(1, 40)
            out[at : at + length] = source[start : start + length]
            out = out or bytearray(data)
    return bytes(out)


def damaged_frames(seed: int, count: int) -> list[tuple[Snapshot, bytes, bool]]:
    """Bases, frames, and whether the frame's checksum was put right."""
    rng = random.Random(seed)
    pool = real_frames()
    out: list[tuple[Snapshot, bytes, bool]] = []
    while len(out) < count:
        base, frame = rng.choice(pool)
        other = rng.choice(pool).frame
        kind = rng.randrange(3)
        if kind == 0:
            new = damaged(rng, frame, other)
        elif kind == 1:  # in the coded body: zstd meets it first
            coded = [reference.header(each).coded for each in (frame, other)]
            new = f.with_coded(frame, damaged(rng, coded[0] or b"\0", coded[1] or b"\0"))
        else:
            new = f.resealed(frame, damaged(rng, f.body_in(frame), f.body_in(other)))
        if new != frame:
            out.append((base, new, kind > 0))
    return out


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_flips_and_splices(count: int) -> None:
    seen: Counter[str] = Counter()
    honest = slowest = 0.0
    for base, frame in real_frames():
        before = thread_time()
        attempt(base, frame)
        honest = max(honest, thread_time() - before)
    for seed in range(count // 10_000):
        for base, frame, repaired in damaged_frames(seed, 10_000):
            before = thread_time()
            outcome = attempt(base, frame)
            slowest = max(slowest, thread_time() - before)
            if isinstance(outcome, type):
                seen[outcome.__name__] += 1
                assert repaired or outcome is not snapdelta.BaseMismatchError
            else:
                seen["valid"] += 1
                assert repaired
                assert reference.digest(outcome) == reference.header(frame).target
    assert sum(seen.values()) == count
    assert seen["CorruptDeltaError"] > count * 0.8
    assert seen["CorruptDeltaError"] + seen["UnsupportedVersionError"] > count * 0.95
    # damage makes nothing slow: CPU time against the honest frames', with room for noise
    assert slowest < 200 * honest, (slowest, honest)


def test_a_decoder_outlives_damage() -> None:
    """Thousands of bad frames later it holds what it held, and takes the next good one."""
    snapshots = [N(snapshot) for snapshot in islice(generators.frames(9, rows=25), 3)]
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    good = [encoder.encode(snapshot) for snapshot in snapshots]
    decoder.apply(good[0])
    rng = random.Random(5)
    for n, frame in enumerate(good[1:], start=1):
        for _ in range(2000):
            bad = f.resealed(frame, damaged(rng, f.body_in(frame), good[0]))
            with panics_shown():
                try:
                    decoder.apply(bad)
                except snapdelta.SnapdeltaError:
                    continue
            break  # the damage did not matter
        else:
            assert (decoder.sequence, decoder.digest) == (n, reference.digest(snapshots[n - 1]))
            assert_same(decoder.snapshot(), snapshots[n - 1])
            decoder.apply(frame)
        assert_same(decoder.snapshot(), snapshots[n])


def read_body(base: Snapshot, body: bytes, text: bytes = b"") -> tuple[Snapshot, int] | type[Exception]:
    """What the second decoder makes of a body and a compressed text, whatever digest was promised."""
    try:
        reading = reference.Body(rows_of(base), reference.Budget(256 << 20), text)
        reading.read(body)
        rows: list[Row] = reading.target
        return {row.symbol: record_of(row.cells) for row in rows}, digest_of_rows(rows)
    except tuple(ERRORS) as error:
        return type(error)


def check_alike(base: Snapshot, frame: bytes, body: bytes) -> bool:
    """Both decoders refuse the body, or both make the same of it. Returns whether it is good."""
    found = read_body(base, body, f.text_in(frame))
    if isinstance(found, type):
        # without the digest's help: the body itself is refused
        got = attempt(base, f.resealed(frame, body), verify=False)
        assert isinstance(got, type), f"only the second decoder refuses it: {found.__name__}"
        return False
    want, digest = found
    got = attempt(base, f.resealed(frame, body, digest))
    assert not isinstance(got, type), f"only the package refuses it: {got.__name__}"
    assert_same(got, want)
    assert_same(attempt(base, f.resealed(frame, body, digest), verify=False), want)
    return True


def agree_on_damage(seed: int, count: int) -> None:
    rng = random.Random(seed)
    pool = [(base, frame, f.body_in(frame)) for base, frame in real_frames()]
    good = 0
    for _ in range(count):
        base, frame, body = rng.choice(pool)
        good += check_alike(base, frame, damaged(rng, body, rng.choice(pool)[2]))
    assert count // 100 < good < count


def test_both_decoders_agree_on_damaged_bodies() -> None:
    agree_on_damage(seed=1, count=1000)


@pytest.mark.long
def test_both_decoders_agree_on_damaged_bodies_at_length() -> None:
    agree_on_damage(seed=1, count=5000)
    for seed in range(2, 12):
        agree_on_damage(seed, count=20_000)


# --- made by hand

BASE: Snapshot = {"A": {"x": 1, "y": 1.5}, "B": {"x": 2, "y": 2.5}, "C": {"x": 3, "y": 3.5}, "D": [1]}
NO_ROWS = uv(0, 0)
XY = b""  # nodes 1 ("x",) and 2 ("y",) are the base's; its shapes are 0 of both and 1 of node 0
NEW_ROW = uv(0, 1) + strings("N")
ONE_LEAF = uv(0, 0, 0) + uv(1, 1)  # shape 1, for one added row


def sparse(row: int, node: int, value: Any) -> bytes:
    return uv(1, row, node) + inline_of(value)


def column(contents: bytes, node: int = 1, flags: int = 1, row_set: int = 1) -> bytes:
    head = sv(node) + bytes([flags]) + (uv(row_set) if flags & 1 else b"")
    return uv(1) + head + sized(contents)


def updates(contents: bytes, node: int = 1, rows: tuple[int, ...] = (0, 1)) -> dict[int, bytes]:
    """A body in which one column of BASE is updated in these rows."""
    return {ROWS: NO_ROWS, PATHS: XY, SETS: uv(1, 0) + b"\0" + gaps(rows), COLUMNS: column(contents, node)}


def blobs(*entries: bytes, tag: int = 8) -> bytes:
    """The head of a blob stream with a dictionary; the indices follow."""
    return bytes([tag, 1]) + uv(len(entries), *map(len, entries)) + b"".join(entries)


def added(plain: bytes) -> dict[int, bytes]:
    """A body that adds a row of one leaf."""
    return {ROWS: NEW_ROW, SHAPES: ONE_LEAF, SPARSE: uv(0) + plain}


def predicted(second: bytes) -> bytes:
    """Rows 0 and 2, and a set that they predict."""
    return uv(2, 0) + b"\0" + gaps([0, 2]) + uv(0) + second


def shares(*places: int) -> bytes:
    """An entropy stream of these places in the list of shares."""
    state, words = 2**31, b""
    for place in reversed(places):
        if state >= 2**58:
            words = struct.pack("<I", state % 2**32) + words
            state >>= 32
        state = state << 5 | place
    return struct.pack("<Q", state) + words


def split(contents: bytes, others: tuple[int, ...] = (1,)) -> dict[int, bytes]:
    """Rows 0 and 1 are updated, which set 2 splits."""
    sets = uv(2, 0) + b"\0" + gaps([0, 1]) + uv(0) + b"\0" + gaps(others)
    return {ROWS: NO_ROWS, SETS: sets, COLUMNS: column(b"\xfc" + contents)}


def base_values(stream: bytes, flags: int = 5) -> dict[int, bytes]:
    """The list of row D gets a value that is named by its number in the base."""
    contents = b"\x0b\x02" + stream
    return {ROWS: NO_ROWS, SETS: uv(1, 0) + b"\0" + gaps([3]), COLUMNS: column(contents, 0, flags)}


WORDS = b"\x04\x02\x00" + uv(1)  # tag 4, residuals from zero, scale 1; the planes follow


def numbers(
    exponent: int,
    *forms: bytes,
    unit: int = 1,
    mode: int = 0,
    corrections: dict[int, int] | None = None,
    predictor: bytes = b"\0",
) -> bytes:
    """The head of a stream of numbers; stride, byte planes and other cells follow."""
    wrong = corrections or {}
    head = b"\xfd" + bytes([exponent]) + uv(unit) + bytes([len(forms)]) + b"".join(forms) + bytes([mode])
    return head + gaps(sorted(wrong)) + byte_planes(*(wrong[n] for n in sorted(wrong))) + predictor


def by_context(
    exponent: int, others: list[int], shares: list[int], *forms: bytes, predictor: bytes = b"\0"
) -> bytes:
    """The same, with forms that follow from contexts."""
    head = b"\xfd" + bytes([exponent]) + uv(1) + bytes([len(forms)]) + b"".join(forms) + b"\3"
    return head + uv(len(others)) + byte_planes(*others) + bytes(shares) + predictor


ABSENT, INT, FLOAT, EITHER = b"\0", b"\1", b"\2", b"\3"


def in_text(flags: int, decimals: int, prefix: bytes = b"", suffix: bytes = b"") -> bytes:
    return b"\5" + bytes([flags, decimals]) + sized(prefix) + sized(suffix)


CENTS = numbers(2, FLOAT)
GOOD: dict[str, dict[int, bytes] | bytes] = {
    "nothing": b"",
    "no rows": {ROWS: NO_ROWS},
    "rows": {ROWS: gaps([1, 3]) + uv(0)},
    "sections without bytes": {ROWS: NO_ROWS, PATHS: b"", SETS: b"", ORDER: b""},
    "an optional section": {ROWS: NO_ROWS, 200: b"whatever"},
    "an added leaf": added(inline_of("text of some bytes")),
    "a loose update": {ROWS: NO_ROWS, PATHS: XY, SPARSE: sparse(1, 2, "x")},
    "a listed update": updates(WORDS + byte_planes(4, 6)),
    "a constant": updates(b"\x05\x00" + struct.pack("<d", 0.5), node=2),
    "a dictionary": updates(b"\x04\x01" + uv(1) + byte_planes(7) + byte_planes(0, 0)),
    "a dictionary with a date that is none and not named": updates(
        b"\x0d\x01"
        + uv(2)
        + byte_planes(2026 << 9 | 2 << 5 | 28, 2026 << 9 | 2 << 5 | 30)
        + byte_planes(0, 0)
    ),
    "a dictionary of texts": updates(blobs(b"text of some bytes", b"another, longer") + byte_planes(1, 0)),
    "a dictionary with a text that is none and not named": updates(
        blobs(b"\xff\xff", b"text of some bytes", b"short") + byte_planes(1, 1)
    ),
    "a copy": updates(b"\xfe" + uv(2) + gaps([]), node=1),
    "a copy with exceptions": updates(b"\xfe" + uv(2) + gaps([1]) + b"\x00", node=1),
    "a split": split(uv(2) + WORDS + byte_planes(8) + b"\2"),
    "a split with a copy": split(
        uv(2) + b"\xfe" + uv(2) + gaps([0]) + b"\2" + CENTS + uv(1) + byte_planes(8)
    ),
    "floats with two decimals": updates(CENTS + uv(1) + byte_planes(300, 4), node=2),
    "ints and floats": updates(numbers(1, EITHER, unit=5) + uv(1) + byte_planes(3, 4), node=2),
    "decimals that are as short as can be": updates(numbers(3, b"\4\xff") + uv(10) + byte_planes(3, 4)),
    "texts": updates(numbers(2, in_text(15, 2, b"\xe2\x82\xac", b" m")) + uv(1) + byte_planes(0, 246912)),
    "texts of digits": updates(numbers(2, in_text(0, 255)) + uv(1) + byte_planes(200, 4)),
    "forms that are corrected": updates(
        numbers(0, INT, ABSENT, corrections={0: 1}, predictor=b"\1") + uv(1) + byte_planes(4)
    ),
    "a cell that is no number": updates(numbers(0, INT, corrections={1: 1}) + uv(1) + byte_planes(4) + b"\2"),
    "forms by context": updates(
        by_context(0, [1, 0], [0] * 6, INT, ABSENT, predictor=b"\1") + uv(1) + byte_planes(4)
    ),
    "the form of the base": updates(numbers(1, FLOAT, INT, mode=1) + uv(1) + byte_planes(20, 40)),
    "no result is no number": updates(
        numbers(0, INT, ABSENT, mode=2, predictor=b"\3\1" + uv(3)) + uv(1) + byte_planes()
    )
    | {PATHS: uv(1, 0) + strings("z") + uv(1) + sv(0, 0)},
    "a bitmap inside a set": {
        **updates(WORDS + byte_planes(4)),
        SETS: uv(2, 0) + b"\0" + gaps([0, 2]) + uv(1) + b"\x01\x02",
        COLUMNS: column(WORDS + byte_planes(4), row_set=2),
    },
    "a set without": {**updates(b"\x00"), SETS: uv(1, 0) + b"\x02" + gaps([1, 3])},
    "a predicted set": {**updates(WORDS + byte_planes(4, 6)), SETS: predicted(b"\x03" + uv(1) + gaps([3]))},
    "a set by context": {
        **updates(WORDS + byte_planes(4, 6)),
        SETS: predicted(b"\x04" + uv(1, 1)),
        ENTROPY: shares(0, 31),
    },
    "a set by the rows before": {
        ROWS: NO_ROWS,
        SETS: predicted(b"\4" + uv(4, 0, 1, 0, 0)),
        ENTROPY: shares(*[0, 31] * 8),
    },
    "a set by no context": {
        **updates(WORDS + byte_planes(4, 6)),
        SETS: predicted(b"\x04" + uv(0)),
        ENTROPY: shares(31),
    },
    "base values": base_values(uv(1, 0) + byte_planes(0)),
    "base values and one more": base_values(uv(2, 1, 1) + b"\0" + byte_planes(0)),
    "moves": {ROWS: NO_ROWS, ORDER: b"\0" + gaps([0]) + byte_planes(6)},
    "a sort": {ROWS: NO_ROWS, PATHS: XY, ORDER: b"\x01" + uv(1) + b"\x01" + gaps([]) + byte_planes()},
    "a formula": updates(
        numbers(255, FLOAT, predictor=b"\3\x10" + uv(1, 1)) + uv(1) + byte_planes(0, 0), node=2
    ),
    "the larger of two": updates(b"\x04\x02\x06" + uv(2, 2, 1) + byte_planes(2, 2)),
}


def nodes(*steps: int, keys: tuple[str, ...] = ()) -> bytes:
    """New keys, from number 2, and new nodes, from 3."""
    return f.new_keys(*keys) + uv(len(steps) // 2) + sv(*steps)


def after(*paths: int, last: int = 2) -> bytes:
    """Nodes as SHAPES has them; the base's last is 2."""
    return sv(*(b - a - 1 for a, b in pairwise([last, *paths])))


def shapes(*paths: int) -> dict[int, bytes]:
    """A shape of these nodes, for one added row whose cells are all None; nodes 1 x, 2 y, 3 x.x, 4 y.y."""
    return {
        ROWS: NEW_ROW,
        PATHS: nodes(1, -2, 1, 0),
        SHAPES: uv(1, 0, len(paths)) + after(*paths) + uv(0, 0) + uv(2, 1),
        SPARSE: uv(0) + b"\0" * len(paths),
    }


def edit(removed: Iterable[int] = (), inserted: Iterable[int] = (), *paths: int, last: int = 2) -> bytes:
    return gaps(removed) + gaps(inserted) + after(*paths, last=last)


def reshaped(
    *edits: bytes, rows: tuple[int, ...] = (0,), codes: tuple[int, ...] = (0,), cells: int = 0
) -> dict[int, bytes]:
    """A body in which rows of BASE get other shapes; so many cells of theirs are new, and None."""
    return {
        ROWS: NO_ROWS,
        SHAPES: uv(0, len(edits)) + b"".join(edits) + gaps(rows) + uv(*codes),
        SPARSE: uv(0) + b"\0" * cells,
    }


def edited(distance: int, contents: bytes, cells: int) -> dict[int, bytes]:
    """A body that adds a row whose shape is an edit of another."""
    return {
        ROWS: NEW_ROW,
        SHAPES: uv(1, distance) + contents + uv(0, 0) + uv(2, 1),
        SPARSE: uv(0) + b"\0" * cells,
    }


NEW_Z = nodes(0, 0, keys=("z",))  # node 3
GOOD |= {
    "a shape": shapes(3, 2),
    "a row without y": reshaped(edit([1])),
    "rows that share an edit": reshaped(edit([0]), rows=(0, 2), codes=(0, 1)),
    "rows with an edit each": reshaped(edit([0]), edit([1]), rows=(0, 1, 2), codes=(0, 0, 2)),
    "an edit that no row names": reshaped(edit([0]), edit([1])),
    "a row with its keys turned round": reshaped(edit([0], [1], 1)),
    "a row with another key before": {**reshaped(edit([], [0], 3), cells=1), PATHS: NEW_Z},
    "a row with another key in the place of one": {**reshaped(edit([0], [1], 3), cells=1), PATHS: NEW_Z},
    "a leaf that becomes a dict": reshaped(edit([0], [0], 2), rows=(3,), cells=1),
    "a dict that becomes a leaf": reshaped(edit([0, 1], [0], 0), cells=1),
    "a shape like another": edited(2, edit([0]), cells=1),
    "keys that begin alike": {
        ROWS: NO_ROWS,
        PATHS: uv(3) + uv(0, 3, 1) + strings("long", "er", "x") + uv(1) + sv(0, 1),
    },
}
LISTS_64 = b"\x0b\x01" * 63 + b"\x0b\x00"
CORRUPT: dict[str, dict[int, bytes] | bytes] = {
    "a section twice": f.body_of({ROWS: NO_ROWS}) * 2,
    "sections out of order": f.body_of({PATHS: XY}) + f.body_of({ROWS: NO_ROWS}),
    "a section past the end": bytes([ROWS]) + uv(100) + NO_ROWS,
    "bytes after the sections": f.body_of({ROWS: NO_ROWS}) + b"\0",
    "bytes left in a section": {ROWS: NO_ROWS + b"\0"},
    "a number in a long form": {ROWS: b"\x80\x00\x00"},
    "a number of 65 bits": {ROWS: b"\xff" * 9 + b"\x02" + b"\0"},
    "a number without end": {ROWS: b"\xff" * 30},
    "a removed row out of range": {ROWS: gaps([4]) + uv(0)},
    "removed rows that wrap around": {ROWS: uv(2, 3, 2**64 - 1, 0)},
    "a symbol that is there": {**added(b"\0"), ROWS: uv(0, 1) + strings("A")},
    "a symbol twice": {
        **added(b"\0\0"),
        ROWS: uv(0, 2) + strings("N", "N"),
        SHAPES: ONE_LEAF[:-1] + uv(2),
    },
    "a symbol that is not UTF-8": {**added(b"\0"), ROWS: uv(0, 1, 1) + b"\xff"},
    "symbols without end": {ROWS: uv(0, 2**50)},
    "an added row without a shape": {ROWS: NEW_ROW},
    "a key twice": {ROWS: NO_ROWS, PATHS: nodes(0, 0, keys=("z", "z"))},
    "a key of the base": {ROWS: NO_ROWS, PATHS: nodes(0, 0, keys=("x",))},
    "a key that shares more than there is": {ROWS: NO_ROWS, PATHS: uv(1, 1) + strings("z") + uv(0)},
    "a key that is not UTF-8": {ROWS: NO_ROWS, PATHS: uv(1, 0, 1) + b"\xff" + uv(0)},
    "a key cut inside a character": {
        ROWS: NO_ROWS,
        PATHS: uv(2) + uv(0, 1) + uv(2, 1) + "äx".encode() + uv(0),
    },
    "keys without end": {ROWS: NO_ROWS, PATHS: uv(2**60)},
    "a node twice": {ROWS: NO_ROWS, PATHS: nodes(0, 0, 0, -1, keys=("z",))},
    "a node of the base": {ROWS: NO_ROWS, PATHS: nodes(0, -2)},
    "a node that is its own parent": {ROWS: NO_ROWS, PATHS: nodes(3, -2)},
    "two nodes that are each other's parent": {ROWS: NO_ROWS, PATHS: nodes(4, -2, -1, 0)},
    "a node of a key that is not there": {ROWS: NO_ROWS, PATHS: nodes(0, 5)},
    "a node with a negative parent": {ROWS: NO_ROWS, PATHS: nodes(-1, -2)},
    "nodes without end": {ROWS: NO_ROWS, PATHS: uv(0, 2**60)},
    "a path of 65 keys": {ROWS: NO_ROWS, PATHS: nodes(0, 0, 3, -1, *(1, -1) * 63, keys=("k",))},
    "a shape of no paths": {**added(b"\0"), SHAPES: uv(1, 0, 0, 0, 0, 2, 1)},
    "a shape of a path that is not there": {
        **added(b"\0"),
        SHAPES: uv(1, 0, 1) + after(3) + uv(0, 0, 2, 1),
    },
    "a shape that is not there": {**added(b"\0"), SHAPES: ONE_LEAF[:-2] + uv(2, 1)},
    "a shape of the base": {**shapes(1, 2), PATHS: b""},
    "a new shape twice": {
        **shapes(2),
        SHAPES: uv(2) + (uv(0, 1) + after(2)) + (uv(0, 1) + after(2, last=2)) + uv(0, 0) + uv(2, 1),
    },
    "an edit of a shape that is not there": edited(3, edit([0]), cells=1),
    "an edit of itself": {
        **edited(1, edit([0], [0], 2), cells=1),
        SHAPES: uv(1, 2**31) + edit([0]) + uv(0, 0, 2, 1),
    },
    "an edit that removes a path that is not there": reshaped(edit([2])),
    "an edit that inserts past the end": reshaped(edit([0, 1], [1], 2), cells=1),
    "an edit that removes everything": reshaped(edit([0, 1])),
    "an edit that changes nothing": reshaped(edit([0], [0], 1)),
    "an empty edit": reshaped(edit()),
    "an edit to a path that is there": reshaped(edit([], [0], 2), cells=1),
    "an edit of a path that is not there": reshaped(edit([], [0], 3), cells=1),
    "an edit that is not there": reshaped(rows=(0,)),
    "an edit that was not named before": reshaped(edit([0]), edit([1]), codes=(1,)),
    "removed paths without end": {ROWS: NO_ROWS, SHAPES: uv(0, 1, 2**50)},
    "edits without end": {ROWS: NO_ROWS, SHAPES: uv(0, 2**50)},
    "a shape with a path twice": shapes(1, 1),
    "a shape with a path and what is below it": shapes(1, 3),
    "a shape with a path and what is above it": shapes(3, 1),
    "a shape with its paths apart": {**shapes(3, 2, 4), PATHS: nodes(1, -2, 0, 0)},
    "a leaf beside a dict": shapes(0, 1),
    "a run of no rows": {**added(b"\0"), SHAPES: ONE_LEAF[:-1] + uv(0) + uv(1, 1)},
    "a run past the rows": {**added(b"\0\0"), SHAPES: ONE_LEAF[:-1] + uv(2)},
    "a run of 2^60 rows": {**added(b"\0"), SHAPES: ONE_LEAF[:-1] + uv(2**60)},
    "a removed row that is reshaped": {
        ROWS: gaps([1]) + uv(0),
        SHAPES: uv(0, 1) + edit([0]) + gaps([1]) + uv(0),
    },
    "a set inside itself": {ROWS: NO_ROWS, SETS: uv(1, 1) + b"\0" + gaps([0])},
    "a set inside a later one": {ROWS: NO_ROWS, SETS: uv(2, 2) + b"\0" + gaps([]) + uv(0) + b"\0" + gaps([])},
    "a member out of range": {ROWS: NO_ROWS, SETS: uv(1, 0) + b"\0" + gaps([4])},
    "a bitmap with a bit too many": {ROWS: NO_ROWS, SETS: uv(1, 0) + b"\1\x10"},
    "a set predicted by itself": {ROWS: NO_ROWS, SETS: uv(1, 0) + b"\3" + uv(0) + gaps([])},
    "a set predicted by a later one": {ROWS: NO_ROWS, SETS: predicted(b"\3" + uv(2) + gaps([]))},
    "a wrong prediction out of range": {ROWS: NO_ROWS, SETS: predicted(b"\3" + uv(0) + gaps([4]))},
    "a context of five sets": {ROWS: NO_ROWS, SETS: predicted(b"\4" + uv(5, 1, 1, 1, 1, 1))},
    "a context of a later set": {ROWS: NO_ROWS, SETS: predicted(b"\4" + uv(1, 2))},
    "a share past the entropy stream": {
        ROWS: NO_ROWS,
        SETS: predicted(b"\4" + uv(1, 1)),
        ENTROPY: shares(0),
    },
    "a share without an entropy stream": {ROWS: NO_ROWS, SETS: predicted(b"\4" + uv(0))},
    "a choice past the entropy stream": {
        ROWS: NO_ROWS,
        SETS: predicted(b"\4" + uv(0)),
        ENTROPY: shares(14),
    },
    "forms by context, one too few": updates(
        by_context(0, [1], [0] * 6, INT, ABSENT) + uv(1) + byte_planes()
    ),
    "forms by context, one too many": updates(
        by_context(0, [1, 1, 1], [0] * 6, INT, ABSENT) + uv(1) + byte_planes()
    ),
    "a form by context that is none": updates(
        by_context(0, [1, 3], [0] * 6, INT, ABSENT) + uv(1) + byte_planes()
    ),
    "a predicted set that holds a removed row": {
        ROWS: gaps([0]) + uv(0),
        SETS: uv(2, 0) + b"\0" + gaps([1]) + uv(0) + b"\3" + uv(1) + gaps([]),
    },
    "base values that the column does not declare": base_values(uv(1, 0) + byte_planes(0), flags=1),
    "base values of every 0th row": base_values(uv(0, 0) + byte_planes(0)),
    "a base value past the list": base_values(uv(1, 0) + byte_planes(1)),
    "no base values, of steps past the rows": base_values(uv(2**63, 0) + byte_planes(0)),
    "65537 values beside those of the base": base_values(uv(1, 65537) + b"\0" * 65537 + byte_planes(0)),
    "a set that holds a removed row": {ROWS: gaps([1]) + uv(0), SETS: uv(1, 0) + b"\1\x02"},
    "a loose cell that is not there": {ROWS: NO_ROWS, PATHS: XY, SPARSE: sparse(3, 1, 5)},
    "a loose cell of no row": {ROWS: NO_ROWS, PATHS: XY, SPARSE: sparse(4, 1, 5)},
    "a loose cell of no node": {ROWS: NO_ROWS, PATHS: XY, SPARSE: sparse(0, 3, 5)},
    "a loose cell of a removed row": {ROWS: gaps([0]) + uv(0), PATHS: XY, SPARSE: sparse(0, 1, 5)},
    "a loose cell twice": {ROWS: NO_ROWS, PATHS: XY, SPARSE: uv(2, 0, 0, 1, 1) + inline_of(5) * 2},
    "loose and listed": {**updates(WORDS + byte_planes(4, 6)), SPARSE: sparse(2, 1, 5)},
    "a column twice": {
        **updates(WORDS + byte_planes(4, 6)),
        COLUMNS: uv(2)
        + column(WORDS + byte_planes(4, 6))[1:]
        + sv(-1)
        + column(WORDS + byte_planes(4, 6))[2:],
    },
    "updates of no row set": {
        **updates(WORDS + byte_planes(4, 6)),
        COLUMNS: column(WORDS + byte_planes(4, 6), row_set=0),
    },
    "updates of a set that is not there": {**updates(b"\0"), COLUMNS: column(b"\0", row_set=2)},
    "a listed cell that is not there": updates(WORDS + byte_planes(4, 6), rows=(0, 3)),
    "a stream of no cells": updates(WORDS + byte_planes(), rows=()),
    "inserts of no cells": {ROWS: NO_ROWS, PATHS: XY, COLUMNS: column(b"\0", flags=2)},
    "bytes after a column's cells": updates(WORDS + byte_planes(4, 6) + b"\0"),
    "a plane too wide": updates(WORDS + b"\x09" + bytes(18)),
    "planes past the end": updates(WORDS + b"\x08" + bytes(15)),
    "a scale of 0": updates(b"\x04\x02\x00" + uv(0) + byte_planes(4, 6)),
    "an index past the dictionary": updates(b"\x04\x01" + uv(1) + byte_planes(7) + byte_planes(0, 1)),
    "a dictionary with a text that is none and named": updates(
        blobs(b"\xff\xff", b"text of some bytes") + byte_planes(1, 0)
    ),
    "a dictionary with a date that is none and named": updates(
        b"\x0d\x01"
        + uv(2)
        + byte_planes(2026 << 9 | 2 << 5 | 28, 2026 << 9 | 2 << 5 | 30)
        + byte_planes(0, 1)
    ),
    "a dictionary of nothing": updates(b"\x04\x01" + uv(0) + byte_planes() + byte_planes(0, 0)),
    "a dictionary of 65537": updates(b"\x04\x01" + uv(65537) + b"\0" + byte_planes(0, 0)),
    "a copy of a cell that is not there": {
        **updates(b"\xfe" + uv(3) + gaps([])),
        PATHS: NEW_Z,
    },
    "a split by no set": split(uv(0) + b"\2\2"),
    "a split by a set that is not there": split(uv(3) + b"\2\2"),
    "a split by the column's own set": split(uv(1) + b"\2\2"),
    "a split by a set that holds no cell": split(uv(2) + b"\2\2", others=(2,)),
    "a split without its second side": split(uv(2) + b"\2"),
    "a split of inserts": {
        ROWS: uv(0, 2) + strings("N", "O"),
        SHAPES: uv(0, 0, 0) + uv(1, 2),
        SETS: uv(1, 0) + b"\0" + gaps([0]),
        COLUMNS: column(b"\xfc" + uv(1) + b"\2\2", node=0, flags=2),
    },
    "a split in copies nine deep": split(uv(2) + (b"\xfe" + uv(2) + gaps([0])) * 8 + b"\2\2"),
    "a copy of itself": updates(b"\xfe" + uv(1) + gaps([])),
    "a copy of no node": updates(b"\xfe" + uv(9) + gaps([])),
    "copies nine deep": updates((b"\xfe" + uv(2) + gaps([0])) * 9 + b"\0", rows=(0,)),
    "a prediction from itself": updates(b"\x04\x02\x04" + uv(1, 1) + byte_planes(0, 0)),
    "numbers nine deep": updates(
        numbers(0, INT, corrections={0: 1}).join([b""] + [uv(1) + byte_planes()] * 9) + b"\0", rows=(0,)
    ),
    "a number too large": updates(CENTS + uv(1) + byte_planes(300, 2**53), node=2),
    "a number that wraps": updates(numbers(2, FLOAT, unit=2**50) + uv(1) + byte_planes(300, 2**16)),
    "an int with decimals": updates(numbers(2, INT) + uv(1) + byte_planes(300, 4)),
    "a Decimal with more decimals": updates(numbers(2, b"\4\1") + uv(1) + byte_planes(300, 2)),
    "a text with more decimals": updates(numbers(2, in_text(0, 1)) + uv(1) + byte_planes(300, 2)),
    "a form with decimals of its own": updates(numbers(2, b"\4\3") + uv(1) + byte_planes(300, 2)),
    "a Decimal with a point": updates(numbers(2, b"\4\xfe") + uv(1) + byte_planes(300, 2)),
    "a point without decimals": updates(numbers(0, in_text(0, 254)) + uv(1) + byte_planes(300, 2)),
    "a prefix of 5 bytes": updates(numbers(0, in_text(0, 0, b"USDTs")) + uv(1) + byte_planes(300, 2)),
    "a prefix of digits": updates(numbers(0, in_text(0, 0, b"1")) + uv(1) + byte_planes(300, 2)),
    "a suffix that is not UTF-8": updates(
        numbers(0, in_text(0, 0, b"", b"\xff")) + uv(1) + byte_planes(2, 2)
    ),
    "numbers of no form": updates(numbers(0) + uv(1) + byte_planes(300, 2)),
    "numbers of 16 forms": updates(numbers(0, *[INT] * 16) + uv(1) + byte_planes(300, 2)),
    "a unit of 0": updates(numbers(0, INT, unit=0) + uv(1) + byte_planes(300, 2)),
    "a unit too large": updates(numbers(0, INT, unit=2**51 + 1) + uv(1) + byte_planes(0, 0)),
    "a unit of doubles": updates(numbers(255, FLOAT, unit=2) + uv(1) + byte_planes(0, 0)),
    "doubles in text": updates(numbers(255, in_text(0, 255)) + uv(1) + byte_planes(0, 0)),
    "a form that is not there": updates(numbers(0, INT, corrections={0: 2}) + uv(1) + byte_planes(2)),
    "a stride of numbers of 0": updates(CENTS + uv(0) + byte_planes(300, 4)),
    "a formula with itself": updates(
        numbers(0, INT, predictor=b"\3\x10" + uv(1, 2)) + uv(1) + byte_planes(0, 0)
    ),
    "a formula of no column": updates(
        numbers(0, INT, predictor=b"\3\x10" + uv(2, 9)) + uv(1) + byte_planes(0, 0)
    ),
    "old values among inserts": {
        ROWS: NEW_ROW,
        PATHS: XY,
        SHAPES: uv(1, 1) + sv(1) + uv(0) + uv(0, 1),
        COLUMNS: column(numbers(0, INT, predictor=b"\3\0") + uv(1) + byte_planes(2), flags=2),
    },
    "moved out of range": {ROWS: NO_ROWS, ORDER: b"\0" + gaps([0]) + byte_planes(8)},
    "moved below zero": {ROWS: NO_ROWS, ORDER: b"\0" + gaps([0]) + byte_planes(1)},
    "two rows moved to one place": {ROWS: NO_ROWS, ORDER: b"\0" + gaps([0, 1]) + byte_planes(4, 2)},
    "a sort by no node": {ROWS: NO_ROWS, ORDER: b"\1" + uv(3) + b"\0" + gaps([]) + byte_planes()},
    "section 0": {0: b"", ROWS: NO_ROWS},
    # values that are not canonical, or none
    "tag 23": added(b"\x17"),
    "a dict as a leaf": added(b"\x16\x01\x01a\x00"),
    "a text of digits as another text": added(b"\x07\x02" + b"12"),
    "a short text as a long one": added(b"\x08\x03" + b"abc"),
    "a number as a text": added(b"\x08\x0a" + b"1234567890"),
    "20 digits as a number": added(b"\x06" + uv(10**19)),
    "a short text of 8 bytes": added(b"\x07\x08" + b"abcdefgh"),
    "a text that is not UTF-8": added(b"\x07\x01\xff"),
    "an overlong text": added(b"\x07\x02\xc0\x80"),
    "a small int as a large one": added(b"\x0a\x01\x05"),
    "a large int in a long form": added(b"\x0a\x0b" + b"\0" * 9 + b"\x01\0"),
    "a list without its items": added(b"\x0b\x03\x00"),
    "a list of 2^60 items": added(b"\x0b" + uv(2**60)),
    "a dict without items in a list": added(b"\x0b\x01\x16\x00"),
    "a dict with a key twice": added(b"\x0b\x01\x16\x02\x01a\x00\x01a\x00"),
    "65 lists": added(b"\x0b\x01" + LISTS_64),
    "a million lists": added(b"\x0b\x01" * 1_000_000 + b"\0"),
    "the 30th of February": added(b"\x0d" + uv(2026 << 9 | 2 << 5 | 30)),
    "the year 10000": added(b"\x0e" + struct.pack(">Q", 315_537_897_600_000_000)),
    "a datetime of tag 14 as another": added(b"\x10\x0a" + bytes(10)),
    "a fold of 2": added(b"\x10\x0a" + bytes(8) + b"\2\0"),
    "utc as an offset": added(b"\x10" + sized(bytes(8) + b"\1\2" + bytes(12))),
    "an offset of a day": added(b"\x10" + sized(bytes(8) + b"\1\2" + struct.pack("<iII", 1, 0, 0))),
    "a zone of kind 5": added(b"\x10\x0a" + bytes(8) + b"\1\5"),
    "a time of 24 hours": added(b"\x11\x0a" + struct.pack("<Q", 86_400_000_000) + b"\0\0"),
    "a timedelta of 86400 seconds": added(b"\x12\x0c" + struct.pack("<iII", 0, 86400, 0)),
    "a timedelta past the largest": added(b"\x12\x0c" + struct.pack("<iII", 10**9, 0, 0)),
    "a small Decimal as another": added(b"\x14" + sized(b"\0\0" + bytes(8) + b"5")),
    "a Decimal without digits": added(b"\x14" + sized(b"\0\0" + struct.pack("<q", 500))),
    "a Decimal with a leading zero": added(b"\x14" + sized(b"\0\0" + struct.pack("<q", 500) + b"05")),
    "a Decimal past the largest": added(b"\x14" + sized(b"\0\0" + struct.pack("<q", 10**18) + b"5")),
    "a Decimal below the smallest": added(b"\x14" + sized(b"\0\0" + struct.pack("<q", -2 * 10**18) + b"5")),
    "an infinity with digits": added(b"\x14" + sized(b"\1\0" + bytes(8) + b"5")),
    "a NaN with a payload of 0": added(b"\x14" + sized(b"\2\0" + bytes(8) + b"0")),
    "a UUID of 15 bytes": added(b"\x15\x0f" + bytes(15)),
}
UNSUPPORTED: dict[str, dict[int, bytes] | bytes] = {
    "an unknown section": {ROWS: NO_ROWS, 100: b""},
    "a set of another kind": {ROWS: NO_ROWS, SETS: uv(1, 0) + b"\5"},
    "a column of other flags": {ROWS: NO_ROWS, PATHS: XY, COLUMNS: uv(1) + sv(1) + b"\x09" + sized(b"")},
    "a column without flags": {ROWS: NO_ROWS, PATHS: XY, COLUMNS: uv(1) + sv(1) + b"\0" + sized(b"")},
    "a sort with other flags": {ROWS: NO_ROWS, ORDER: b"\1" + uv(0) + b"\2" + gaps([]) + byte_planes()},
    "a tag in a stream": updates(b"\x16"),
    "a tag in a mixed stream": updates(b"\xff\x16\x00"),
    "a tag of numbers in a mixed stream": updates(b"\xff\xfd\x00"),
    "a word coding": updates(b"\x04\x03"),
    "a predictor": updates(b"\x04\x02\x07"),
    "an exponent": updates(numbers(19, FLOAT)),
    "a form": updates(numbers(2, b"\6")),
    "flags of a text": updates(numbers(2, in_text(16, 2))),
    "a mode of forms": updates(numbers(2, FLOAT, mode=4)),
    "a predictor of numbers": updates(numbers(2, FLOAT, predictor=b"\4")),
    "an operation": updates(numbers(2, FLOAT, predictor=b"\3\x25")),
    "a blob coding": updates(b"\x08\x03"),
    "an order": {ROWS: NO_ROWS, ORDER: b"\2" + gaps([]) + byte_planes()},
}


def by_hand(body: dict[int, bytes] | bytes) -> tuple[bytes, bytes]:
    """The frame, for BASE, and its body."""
    data = body if isinstance(body, bytes) else f.body_of(body)
    return f.seal(data, DELTA, base=reference.digest(BASE), rows=len(BASE)), data


@pytest.mark.parametrize("name", GOOD)
def test_made_by_hand_and_good(name: str) -> None:
    """What the text allows is read, though the package's writer would not write it so."""
    assert check_alike(BASE, *by_hand(GOOD[name]))


@pytest.mark.parametrize("name", CORRUPT)
def test_made_by_hand_and_corrupt(name: str) -> None:
    frame, body = by_hand(CORRUPT[name])
    outcomes = read_body(BASE, body), attempt(BASE, frame, verify=False)
    assert isinstance(outcomes[0], type)
    assert issubclass(outcomes[0], reference.Corrupt)
    assert isinstance(outcomes[1], type)
    assert issubclass(outcomes[1], snapdelta.CorruptDeltaError)


@pytest.mark.parametrize("sections", [{}, {SHAPES: uv(0, 0, 0) + uv(0, 1)}])
def test_an_added_row_where_there_is_no_shape(sections: dict[int, bytes]) -> None:
    body = f.body_of({ROWS: NEW_ROW, **sections})
    assert attempt({}, f.seal(body)) is snapdelta.CorruptDeltaError
    delta = f.seal(body, DELTA, base=reference.digest({}), rows=0)
    assert attempt({}, delta) is snapdelta.CorruptDeltaError
    with pytest.raises(reference.Corrupt):
        reference.decode(f.seal(body))


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_made_by_hand_for_a_newer_reader(name: str) -> None:
    frame, body = by_hand(UNSUPPORTED[name])
    assert read_body(BASE, body) is reference.Unsupported
    assert attempt(BASE, frame) is snapdelta.UnsupportedVersionError


def chunk(values: bytes, prefix: bytes = b"") -> bytes:
    """A compressed chunk of a text."""
    before = zstandard.ZstdCompressionDict(prefix, zstandard.DICT_TYPE_RAWCONTENT) if prefix else None
    return zstandard.ZstdCompressor(dict_data=before).compress(values)[4:]


VALUE = sized(inline_of([1, 2, 3])[1:])  # a list as a value of the text
OLD = sized(inline_of([1])[1:])  # the list of row D, as the prefix has it
LIST = {ROWS: NO_ROWS, SPARSE: uv(1, 3, 0) + b"\x0b"}
ONE = uv(1, len(VALUE), 0, 0)
SYMBOLS = {**added(b"\0"), ROWS: uv(0, 1)}
TEXTS: dict[str, tuple[dict[int, bytes], bytes]] = {
    "a list": ({**LIST, TEXT: uv(0, 0) + ONE}, chunk(VALUE, OLD)),
    "a list without the prefix": (
        {**LIST, TEXT: uv(0, 0, 1, len(VALUE), len(OLD), 0)},
        chunk(VALUE),
    ),
    "a list in two chunks": (
        {**LIST, TEXT: uv(0, 0, 2, 3, 1, 0, len(chunk(VALUE[:3], OLD[1:])), len(VALUE) - 3, 0, 1)},
        chunk(VALUE[:3], OLD[1:]) + chunk(VALUE[3:], OLD[:-1]),
    ),
    "a part of every third row": (
        {**LIST, PATHS: XY, TEXT: uv(0, 1) + sv(0) + uv(6) + ONE},
        chunk(VALUE, OLD + OLD),
    ),
    "a part of updates that have no bytes": (
        {**updates(WORDS + byte_planes(4, 6)), **LIST, TEXT: uv(0, 1) + sv(1) + uv(1) + ONE},
        chunk(VALUE, OLD),
    ),
    "a symbol": ({**SYMBOLS, TEXT: uv(2, 0, 1, 2, 0, 0)}, chunk(b"\1N", b"\1A\1C")),
    "base values and one of the text": (
        {**base_values(uv(1, 1) + byte_planes(1)), TEXT: uv(0, 0) + ONE},
        chunk(VALUE),
    ),
}
BAD_TEXTS: dict[str, tuple[dict[int, bytes], bytes]] = {
    "a text without its section": (LIST, chunk(VALUE, OLD)),
    "a section without its text": (TEXTS["a list"][0], b""),
    "no chunks": ({**LIST, TEXT: uv(0, 0, 0)}, chunk(VALUE, OLD)),
    "a chunk of no bytes": (
        {**LIST, TEXT: uv(0, 0, 2, 0, 0, 0, len(chunk(b"")), len(VALUE), 0, 0)},
        chunk(b"") + chunk(VALUE, OLD),
    ),
    "a shorter text": ({**LIST, TEXT: uv(0, 0, 1, len(VALUE) - 1, 0, 0)}, chunk(VALUE, OLD)),
    "a longer text": ({**LIST, TEXT: uv(0, 0, 1, len(VALUE) + 1, 0, 0)}, chunk(VALUE, OLD)),
    "a text of 2^60 bytes": ({**LIST, TEXT: uv(0, 0, 1, 2**60, 0, 0)}, chunk(VALUE, OLD)),
    "2^60 chunks": ({**LIST, TEXT: uv(0, 0, 2**60) + ONE[1:]}, chunk(VALUE, OLD)),
    "another prefix": (TEXTS["a list without the prefix"][0], chunk(VALUE * 9, VALUE * 9)),
    "more skipped than the prefix has": ({**LIST, TEXT: uv(0, 0, 1, len(VALUE), 3, 2)}, chunk(VALUE)),
    "more skipped than 64 bits": ({**LIST, TEXT: uv(0, 0, 1, len(VALUE), 2**64 - 1, 2)}, chunk(VALUE)),
    "bytes after the text": (TEXTS["a list"][0], chunk(VALUE, OLD) + b"\0"),
    "two zstd frames": (TEXTS["a list"][0], chunk(VALUE, OLD) + chunk(VALUE, OLD)),
    "values left over": ({**LIST, TEXT: uv(0, 0, 1, len(VALUE) + 1, 0, 0)}, chunk(VALUE + b"\0", OLD)),
    "a value past the end": ({**LIST, TEXT: uv(0, 0, 1, len(VALUE) - 1, 0, 0)}, chunk(VALUE[:-1], OLD)),
    "a value that is not canonical": ({**LIST, TEXT: uv(0, 0, 1, 3, 0, 0)}, chunk(b"\2\1\x17", OLD)),
    "a part of no path": ({**LIST, TEXT: uv(0, 1) + sv(9) + uv(2) + ONE}, chunk(VALUE, OLD)),
    "a part of updates that are not there": (
        {**LIST, TEXT: uv(0, 1) + sv(0) + uv(1) + ONE},
        chunk(VALUE, OLD),
    ),
    "parts without end": ({**LIST, TEXT: uv(0, 2**60)}, chunk(VALUE, OLD)),
    "bytes after the chunks": ({**LIST, TEXT: uv(0, 0) + ONE + b"\0"}, chunk(VALUE, OLD)),
    "a chunk past the end": (
        {**LIST, TEXT: uv(0, 0, 2, len(VALUE), 0, 0, 1000, 1, 0, 0)},
        chunk(VALUE, OLD),
    ),
    "a symbol that is there": ({**SYMBOLS, TEXT: uv(2, 0, 1, 2, 0, 0)}, chunk(b"\1A", b"\1A\1C")),
    "2^60 symbols": ({**SYMBOLS, ROWS: uv(0, 2**60), TEXT: uv(2, 0, 1, 2, 0, 0)}, chunk(b"\1N")),
    "a dictionary past the text": (
        {**base_values(uv(1, 9) + byte_planes(0)), TEXT: uv(0, 0) + ONE},
        chunk(VALUE),
    ),
}


def text_by_hand(sections: dict[int, bytes], text: bytes) -> tuple[bytes, bytes]:
    body = f.body_of(dict(sorted(sections.items())))
    return f.seal(body, DELTA, base=reference.digest(BASE), rows=len(BASE), text=text), body


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_made_by_hand(name: str) -> None:
    assert check_alike(BASE, *text_by_hand(*TEXTS[name]))


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_a_text_made_by_hand_and_corrupt(name: str) -> None:
    frame, body = text_by_hand(*BAD_TEXTS[name])
    outcomes = read_body(BASE, body, BAD_TEXTS[name][1]), attempt(BASE, frame, verify=False)
    assert isinstance(outcomes[0], type)
    assert issubclass(outcomes[0], reference.Corrupt)
    assert isinstance(outcomes[1], type)
    assert issubclass(outcomes[1], snapdelta.CorruptDeltaError | snapdelta.LimitExceededError)


def test_what_follows_a_zstd_body_is_as_it_declares() -> None:
    tried = 0
    for base, frame in real_frames():
        head = reference.header(frame)
        whole, apart, text = reference.contents_of(head)
        if not (head.kind and apart):
            continue
        stream = whole[len(whole) - apart :]
        before = whole[: len(whole) - apart - len(bytes([f.ENTROPY]) + uv(apart))]

        def made(
            declared: bytes,
            following: bytes = stream,
            flags: int = 0,
            *,
            text: bytes = text,
            head: reference.Header = head,
            before: bytes = before,
        ) -> bytes:
            body = before + bytes([f.ENTROPY]) + sized(declared)
            return f.seal(
                body,
                DELTA,
                base=head.base,
                rows=head.base_rows,
                target=head.target,
                coded=f.compressed(body) + following,
                text=text,
                flags=flags,
            )

        assert_same(attempt(base, made(uv(apart))), reference.decode(frame, base))
        tried += 1
        bad = [
            made(uv(0)),
            made(uv(apart + len(text) + 1)),
            made(uv(2**60)),
            made(uv(apart) + b"\0"),
            made(b"\x80"),
            made(uv(apart), text=text + b"\0" if text else b"\0"),
            made(uv(apart), stream + b"\0", text=b""),
            made(uv(apart), stream[1:], text=b""),
            made(uv(apart), flags=f.TEXT_FOLLOWS, text=b""),
        ]
        for other in bad:
            assert attempt(base, other) is snapdelta.CorruptDeltaError
            with pytest.raises(reference.Corrupt):
                reference.decode(other, base)
    assert tried > 1


@pytest.mark.parametrize("level", [1, 3, 19])
def test_text_of_every_kind_in_both_decoders(level: int) -> None:
    """Lists that change a little, texts that the base has elsewhere, new ones; few rows and many chunks."""
    rng = random.Random(level)
    cities = [f"{a} {b}" for a in ("San", "Santa", "Los") for b in ("Mateo", "Monica", "Altos", "Gatos")]

    def record() -> dict[str, Any]:
        book = [[rng.randrange(10**6), rng.random()] for _ in range(rng.choice((0, 3, 40)))]
        stamp = timedelta(rng.randrange(9), rng.randrange(9))
        return {"book": book, "city": rng.choice(cities), "gone": stamp, "big": 2 ** rng.randrange(64, 90)}

    prev: Snapshot = {f"row number {i}": record() for i in range(700)}
    for changed in (1, 30, 699):
        curr = {symbol: dict(values) for symbol, values in prev.items() if rng.random() < 0.98}
        for symbol in rng.sample(list(curr), min(changed, len(curr))):
            curr[symbol] |= {"book": [*curr[symbol]["book"][1:], [1, 2.5]], "city": rng.choice(cities)}
        curr |= {f"new row {changed} {i}": record() for i in range(changed % 50)}
        frame = snapdelta.diff(prev, curr, level=level)
        assert f.text_in(frame)
        for verify in (True, False):
            assert_same(snapdelta.apply(prev, frame, verify=verify), curr)
        assert_same(reference.decode(frame, prev), curr)
        prev = curr


SPECIAL = [0.0, -0.0, 1.5, -3, nan, inf, 5e-324, 1.7e308, None, "$-1,234.50", Decimal("1.20"), "0.07%"]
OPERATIONS = {
    operation: b"\3"
    + bytes([operation])
    + uv(1) * bool(set("ax") & set(names))
    + uv(2) * bool(set("by") & set(names))
    + struct.pack("<d", 0.75) * ("k" in names)
    for operation, (names, _) in enumerate(NUMBER_OPERATIONS)
}
STREAMS = {
    **{f"operation {op} to 2 decimals": numbers(2, FLOAT, predictor=it) for op, it in OPERATIONS.items()},
    **{f"operation {op} to the bit": numbers(255, FLOAT, predictor=it) for op, it in OPERATIONS.items()},
    "quarters in text": numbers(2, in_text(3, 255, b"$"), unit=25, predictor=OPERATIONS[15]),
    "none without a result": numbers(1, EITHER, ABSENT, mode=2, predictor=OPERATIONS[17]),
    "Decimals in the base's form": numbers(3, b"\4\3", b"\4\xff", FLOAT, mode=1, predictor=OPERATIONS[0]),
    "the number before": numbers(1, FLOAT, predictor=b"\1"),
    "a reference": numbers(1, FLOAT, predictor=b"\2" + struct.pack("<Q", 7)),
}


PREDICTIONS = {
    **STREAMS,
    "the old word": (b"\x05\x02\x01"),
    "another column": (b"\x05\x02\x04" + uv(1)),
    "another column's change": (b"\x05\x02\x05" + uv(1)),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions_from_numbers_that_are_none(name: str) -> None:
    """Column x goes from each special number to each; z is predicted from x, and from y or its old value."""
    cases = list(product(SPECIAL, repeat=3))
    base: Snapshot = {f"S{i}": {"x": x, "y": y, "z": y} for i, (x, _, y) in enumerate(cases)}
    n = len(cases)
    body = {
        SETS: uv(1, 0) + b"\0" + gaps(range(n)),
        SPARSE: uv(n, 0) + uv(1) * (n - 1) + uv(1) * n + b"".join(inline_of(now) for _, now, _ in cases),
        COLUMNS: column(PREDICTIONS[name] + uv(1) + b"\0", node=3),
    }
    data = f.body_of(body)
    assert check_alike(base, f.seal(data, DELTA, base=reference.digest(base), rows=n), data)


def test_a_copy_may_not_nest_too_deep() -> None:
    """63 lists are good at a path of one key, and one too many under two."""
    base = {"A": {"x": f_nested(63), "d": {"y": 1}}}
    body = {SETS: uv(1, 0) + b"\0" + gaps([0])}
    body[COLUMNS] = column(b"\xfe" + uv(1) + gaps([]), node=3)
    data = f.body_of(body)
    assert read_body(base, data) is reference.Corrupt
    frame = f.seal(data, DELTA, base=reference.digest(base), rows=1)
    assert attempt(base, frame, verify=False) is snapdelta.CorruptDeltaError


def f_nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_zones_that_nobody_knows() -> None:
    for key in ("Nowhere/At_All", "../../etc/passwd", "/etc/passwd", "", "a\0b", "\ud800", "Europe"):
        stamp = bytes(8) + b"\0\4" + sized(key.encode("utf-8", "surrogatepass"))
        frame, body = by_hand(added(b"\x10" + sized(stamp)))
        assert read_body(BASE, body) is reference.UnknownZone
        assert attempt(BASE, frame, verify=False) is snapdelta.UnknownZoneError


# --- the frame around it


def test_headers_that_are_wrong() -> None:
    empty = reference.digest({})
    good = f.seal(b"", target=empty)
    delta = f.seal(b"", DELTA, target=empty)
    assert attempt({}, good) == attempt({}, delta) == {}

    def at_7_9(base_place: bytes, flags: int = 0) -> bytes:
        return f.seal(b"", DELTA, target=empty, epoch=7, sequence=9, base_place=base_place, flags=flags)

    fields = b"\0" + bytes(3) + struct.pack("<Q", empty)
    assert f.framed(fields, b"") == good
    bad = {
        "version 0": f.seal(b"", target=empty, version=0),
        "target": f.seal(b"", target=1),
        "stored, said to be zstd": f.seal(b"", target=empty, flags=2),
        "a text that is not there": f.seal(b"", target=empty, flags=f.TEXT_FOLLOWS),
        "a stored body past the end": f.seal(b"", target=empty, text=b"text", length=5),
        "a bundle that is a full frame": f.seal(b"", target=empty, flags=32),
        "another epoch of a full frame": f.seal(b"", target=empty, flags=4),
        "another epoch that is the same": at_7_9(uv(7, 8), flags=4),
        "a base of its own place": at_7_9(uv(0)),
        "a base before the first": at_7_9(uv(10)),
        "a base before a frame that stands alone": f.seal(b"", DELTA, base_place=uv(1), target=empty),
        "rows past 32 bits": f.seal(b"", DELTA, rows=2**32, target=empty),
        "a length past 32 bits": f.seal(b"", coded=f.compressed(b""), length=2**32, target=empty),
        "fields cut": f.framed(fields[:-1], b""),
        "bytes after the fields": f.framed(fields + b"\0", b""),
        "no fields": f.framed(b"", b""),
        "a number in a long form": f.framed(b"\0" + b"\x80\0" + bytes(2) + struct.pack("<Q", empty), b""),
        "lengths that wrap around": f.checked(b"\xd1SND\1" + uv(2**64 - 1, 13) + fields),
        "lengths that are too small": f.checked(b"\xd1SND\1" + uv(len(fields) - 1, 0) + fields),
        "magic": f.rechecked(b"\xd1SNE" + good[4:]),
        "checksum": good[:-8] + bytes(8),
    }
    for name, frame in bad.items():
        assert attempt({}, frame) is snapdelta.CorruptDeltaError, name
        with pytest.raises(reference.Corrupt):
            reference.decode(frame)
    newer = f.seal(b"", target=empty, flags=64)
    assert attempt({}, newer) is snapdelta.UnsupportedVersionError
    with pytest.raises(reference.Unsupported):
        reference.decode(newer)
    other_rows = f.seal(b"", DELTA, rows=1, target=empty)
    assert attempt({}, other_rows, verify=False) is snapdelta.BaseMismatchError
    with pytest.raises(reference.BaseMismatch):
        reference.decode(other_rows, {})


def test_a_frame_that_needs_more_is_refused_before_its_body_is_read() -> None:
    frame = f.seal(b"", target=reference.digest({}), required=1001)
    allowed, small = (snapdelta.Limits(n) for n in (1001, 1000))
    assert snapdelta.loads(frame, limits=allowed) == {}
    assert snapdelta.inspect(frame, limits=small).required_bytes == 1001
    for read in (snapdelta.loads, lambda frame, limits: snapdelta.apply({}, frame, limits=limits)):
        with pytest.raises(snapdelta.LimitExceededError, match="needs 1,001 bytes"):
            read(frame, limits=small)
    with pytest.raises(snapdelta.LimitExceededError, match="needs 1,001 bytes"):
        snapdelta.Decoder(limits=small).apply(frame)
    with pytest.raises(reference.LimitExceeded):
        reference.decode(frame, max_bytes=1000)


def test_a_wrong_base_is_refused_before_the_body_is_read() -> None:
    """Without the work that the frame asks for: another number of rows, or another digest, is told first."""
    base = {"A": {"x": 1}, "B": {"x": 2}}
    packed: Snapshot = {**base, "B": {"x": Decimal(2)}}  # a value for which the body is looked at early
    damaged: dict[str, Any] = {"coded": b"no zstd frame", "length": 1 << 20}
    long = f.body_of({SETS: uv(1, 7), 200: bytes(2 << 20)})
    for here in (base, packed):
        decoder = snapdelta.Decoder()
        decoder.apply(snapdelta.Encoder(epoch=1).encode(here))
        digest = decoder.digest
        wrong = [
            f.seal(b"", DELTA, base=digest, rows=4_000_000, epoch=1, sequence=2, **damaged),
            f.seal(b"", DELTA, base=digest + 1, rows=2, epoch=1, sequence=2, **damaged),
        ]
        for frame in wrong:
            with pytest.raises(snapdelta.BaseMismatchError):
                snapdelta.inspect(frame, base=here)
            with pytest.raises(snapdelta.BaseMismatchError):
                decoder.apply(frame)
        for verify in (True, False):
            with pytest.raises(snapdelta.BaseMismatchError, match="4,000,000 rows"):
                snapdelta.apply(here, wrong[0], verify=verify)
        with pytest.raises(snapdelta.BaseMismatchError):
            snapdelta.compose([wrong[1]], here)
    empty_bundle = f.seal(b"", DELTA, base=1, rows=3, flags=f.BUNDLE)
    with pytest.raises(snapdelta.BaseMismatchError):
        snapdelta.apply(base, empty_bundle)
    frame = f.seal(long, DELTA, base=1, rows=2, coded=f.compressed(long))
    with pytest.raises(snapdelta.BaseMismatchError):
        snapdelta.apply(base, frame)
    with pytest.raises(snapdelta.CorruptDeltaError):
        snapdelta.apply(base, frame, verify=False)


SMALL_SETS = {
    # of all rows but the first, which is set 1, none: all are as set 2, which has none
    "predicted by a set without members": (uv(1) + b"\3" + uv(2) + gaps([]), 999),
    # all are as set 1 is not
    "predicted by a set with members": (uv(1) + b"\3" + uv(1) + gaps([]), 2 * 999),
    "by no context": (uv(1) + b"\4" + uv(0), 999),
    "by a context": (uv(1) + b"\4" + uv(1, 1), 2 * 999),
}


@pytest.mark.parametrize("name", SMALL_SETS)
def test_each_row_that_a_row_set_is_compared_with_is_charged(name: str) -> None:
    """Sets without members, of a few bytes each, for which a reader goes through 999 rows."""
    (row_set, steps), rows = SMALL_SETS[name], 1000
    base = {f"S{n}": n for n in range(rows)}
    digest = reference.digest(base)

    def needed(count: int) -> int:
        sets = uv(count + 2, 0) + b"\2" + gaps([0]) + uv(0) + b"\0" + gaps([]) + row_set * count
        entropy = {ENTROPY: shares(*[0] * count * (steps // 999))} if row_set[1] == 4 else {}
        body = f.body_of({SETS: sets, **entropy})
        budget = reference.Budget(1 << 30)
        budget.charge(len(body))
        reference.Body(rows_of(base), budget, b"").read(body)
        spent = (1 << 30) - budget.left
        frame = f.seal(body, DELTA, base=digest, target=digest, rows=rows)
        assert snapdelta.apply(base, frame, limits=snapdelta.Limits(spent)) == base
        with pytest.raises(snapdelta.LimitExceededError):
            snapdelta.apply(base, frame, limits=snapdelta.Limits(spent - 1))
        return spent - len(body)

    assert needed(9) - needed(8) == 64 + 8 * steps


def test_the_rows_that_an_inspected_frame_claims_are_charged() -> None:
    frame = f.seal(b"", DELTA, rows=1000)
    assert snapdelta.inspect(frame, limits=snapdelta.Limits(384_000)).base_symbols == 1000
    with pytest.raises(snapdelta.LimitExceededError):
        snapdelta.inspect(frame, limits=snapdelta.Limits(383_999))


@pytest.mark.parametrize("name", ["copies nine deep", "numbers nine deep", "a split in copies nine deep"])
def test_what_is_nested_too_deep_is_called_a_stream(name: str) -> None:
    with pytest.raises(snapdelta.CorruptDeltaError, match="streams are nested too deep"):
        snapdelta.apply(BASE, by_hand(CORRUPT[name])[0])


def test_bodies_that_are_not_one_zstd_frame() -> None:
    body = f.body_of({ROWS: uv(0, 0), 200: bytes(1000)})
    empty, coded = reference.digest({}), f.compressed(body)
    assert attempt({}, f.seal(body, target=empty, coded=coded)) == {}
    skippable = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"abcd"
    bad = [
        *(coded + b"\0", coded[:-1], skippable + coded, coded + skippable, coded + f.compressed(b""), b""),
        *(f.compressed(b"") + coded, skippable, coded[:4] + b"\xff" + coded[5:]),
    ]
    for inside in bad:
        frame = f.seal(body, target=empty, coded=inside)
        assert attempt({}, frame) is snapdelta.CorruptDeltaError
        with pytest.raises(reference.Corrupt):
            reference.decode(frame)
    for length in (0, len(body) - 1, len(body) + 1):
        frame = f.seal(body, target=empty, coded=coded, length=length)
        assert attempt({}, frame) is snapdelta.CorruptDeltaError
        with pytest.raises(reference.Corrupt):
            reference.decode(frame)


def test_limits_are_the_callers() -> None:
    snapshot = {str(n): {"x": n, "y": timedelta(n)} for n in range(1000)}
    frame = snapdelta.dumps(snapshot)
    assert_same(snapdelta.loads(frame, limits=snapdelta.Limits(1 << 20)), snapshot)
    for limit in (1, 1000, 400_000):
        small = snapdelta.Limits(limit)
        assert small.max_bytes == limit
        decoder = snapdelta.Decoder(limits=small)
        with pytest.raises(snapdelta.LimitExceededError, match="limit"):
            decoder.apply(frame)
        assert (len(decoder), decoder.sequence) == (0, 0)
        with pytest.raises(snapdelta.LimitExceededError):
            snapdelta.loads(frame, limits=small)
        with pytest.raises(snapdelta.LimitExceededError):
            snapdelta.apply({}, frame, limits=small)
        with pytest.raises(reference.LimitExceeded):
            reference.decode(frame, max_bytes=limit)
