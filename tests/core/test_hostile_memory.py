"""Frames that ask for more than they bring: memory stays within the limits, measured in another process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
import zstandard

import snapdelta
from core import reference_decoder as reference
from core.reference_values import cell_of, sized
from support import frames as f
from support.frames import (
    COLUMNS,
    ORDER,
    PATHS,
    ROWS,
    SETS,
    SHAPES,
    SPARSE,
    TEXT,
    constant_column,
    gaps,
    strings,
    sv,
    uv,
)

MIB = 1 << 20
LIMIT = 64 * MIB
SLACK = 64 * MIB  # over the declared limit
BASE_ROWS = 1000  # of what a delta is applied to
REFUSED = ("CorruptDeltaError", "LimitExceededError")

# Reads a frame in every way, and prints what came of it and by how much the peak of the resident memory rose.
READER = """
import sys
import snapdelta

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

def snapshots(frame, limits):
    decoder = snapdelta.Decoder(limits=limits)
    decoder.apply(frame)
    decoder.snapshot()

frame = sys.stdin.buffer.read()
limits = snapdelta.Limits(int(sys.argv[1]))
base = {str(n): None for n in range(int(sys.argv[3]))}
ways = {
    "loads": lambda: snapdelta.loads(frame, limits=limits),
    "Decoder": lambda: snapshots(frame, limits),
    "apply": lambda: snapdelta.apply(base, frame, verify=False, limits=limits),
    "inspect": lambda: snapdelta.inspect(frame, limits=limits),
}
before = peak()
try:
    ways[sys.argv[2]]()
    outcome = "read"
except snapdelta.SnapdeltaError as error:
    # a frame made by hand is right but for its digest: it was read to its end
    outcome = "digest" if "digest" in str(error) else type(error).__name__
print(outcome, peak() - before)
"""


def read_elsewhere(frame: bytes, way: str = "loads", limit: int = LIMIT) -> tuple[str, int]:
    """What came of it, and the bytes by which the peak rose."""
    command = [sys.executable, "-c", READER, str(limit), way, str(BASE_ROWS)]
    done = subprocess.run(command, input=frame, capture_output=True, check=True, timeout=120)
    outcome, rise = done.stdout.split()
    return outcome.decode(), int(rise)


# --- lies


def counts_that_lie() -> dict[str, bytes]:
    """A section each that declares 2^40 of what it has none of, and then ends or goes on with zeros."""
    many = uv(1 << 40)
    lies = {
        "symbols": {ROWS: uv(0) + many},
        "keys": {PATHS: many},
        "nodes": {PATHS: uv(0) + many},
        "shapes": {SHAPES: many},
        "paths in a shape": {SHAPES: uv(1, 0) + many},
        "edits": {SHAPES: uv(0) + many},
        "paths of an edit": {SHAPES: uv(0, 1) + many},
        "beginnings of keys": {PATHS: uv(2, 0) + many},
        "a run of rows": {ROWS: uv(0, 1) + strings("N"), SHAPES: uv(1, 0, 1) + sv(-1) + uv(0, 0, 0) + many},
        "sets": {SETS: many},
        "members": {SETS: uv(1, 0) + b"\0" + many},
        "columns": {COLUMNS: many},
        "loose cells": {SPARSE: many},
        "moves": {ORDER: b"\0" + many},
    }
    frames = {}
    for name, sections in lies.items():
        frames[name] = f.seal(f.body_of(sections))
        last = max(sections)
        padded = f.body_of({**sections, last: sections[last] + bytes(1 << 20)})
        frames[f"{name}, then zeros"] = f.seal(padded, coded=f.compressed(padded))
    return frames


def test_counts_that_lie() -> None:
    for name, frame in counts_that_lie().items():
        with pytest.raises(snapdelta.CorruptDeltaError):
            snapdelta.loads(frame)
        with pytest.raises(reference.Corrupt):
            reference.decode(frame)
        for way in ("loads", "inspect"):
            outcome, rise = read_elsewhere(frame, way)
            assert outcome in REFUSED or way == "inspect", name
            assert rise < SLACK, name


def zeros(length: int) -> bytes:
    """A zstd frame of so many zeros."""
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    parts = [compressor.compress(bytes(MIB)) for _ in range(length // MIB)]
    return b"".join(parts) + compressor.flush()


def text_of(chunk: bytes, declared: int) -> bytes:
    """A frame whose text is one chunk."""
    return f.seal(f.body_of({ROWS: uv(0, 0), TEXT: uv(0, 0, 1, declared, 0, 0)}), text=chunk)


def zero_text(length: int, declared: int) -> bytes:
    return text_of(zeros(length)[4:], declared)


def wide_window() -> bytes:
    """A zstd frame whose header asks for a window of 2 GiB."""
    parameters = zstandard.ZstdCompressionParameters(window_log=31)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(bytes(1000)) + compressor.flush()


BOMBS: dict[str, Callable[[], bytes]] = {
    "declared small": lambda: f.seal(b"", coded=zeros(1024 * MIB), length=1000),
    "declared as it is": lambda: f.seal(b"", coded=zeros(1024 * MIB), length=1024 * MIB),
    "declared within the limit": lambda: f.seal(b"", coded=zeros(1024 * MIB), length=LIMIT - 1),
    "declared larger than it is": lambda: f.seal(b"", coded=zeros(MIB), length=2**32 - 1),
    "filling the limit": lambda: f.seal(b"", coded=zeros(LIMIT), length=LIMIT),
    "a window of 2 GiB": lambda: f.seal(b"", coded=wide_window(), length=1000),
}


@pytest.mark.parametrize("way", ["loads", "inspect"])
@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, way: str) -> None:
    outcome, rise = read_elsewhere(BOMBS[name](), way)
    assert outcome in REFUSED
    assert rise < LIMIT + SLACK


TEXT_BOMBS: dict[str, Callable[[], bytes]] = {
    "a text declared small": lambda: zero_text(1024 * MIB, 1000),
    "a text declared as it is": lambda: zero_text(1024 * MIB, 1024 * MIB),
    "a text declared within the limit": lambda: zero_text(1024 * MIB, LIMIT // 2 - 1000),
    "a text declared larger than it is": lambda: zero_text(MIB, LIMIT // 2 - 1000),
    "a text of a window of 2 GiB": lambda: text_of(wide_window()[4:], 1000),
}


@pytest.mark.parametrize("way", ["loads", "Decoder"])
@pytest.mark.parametrize("name", TEXT_BOMBS)
def test_bombs_in_the_text(name: str, way: str) -> None:
    outcome, rise = read_elsewhere(TEXT_BOMBS[name](), way)
    assert outcome in REFUSED
    assert rise < LIMIT + SLACK


# --- frames that are right, and expand


def rows_of_one_shape(rows: int, paths: bytes, nodes: list[int], contents: bytes) -> bytes:
    """A full frame of so many rows that share a shape; the digest is not right, all else is."""
    steps = [b - a - 1 for a, b in pairwise([0, *nodes])]
    body = f.body_of(
        {
            ROWS: uv(0, rows) + strings(*map(str, range(rows))),
            PATHS: paths,
            SHAPES: uv(1, 0, len(nodes)) + sv(*steps) + uv(0, 0) + uv(0, rows),
            COLUMNS: contents,
        }
    )
    return f.seal(body, coded=f.compressed(body))


def constant_columns(rows: int, columns: int) -> bytes:
    """rows x columns cells that take no bytes."""
    paths = f.new_keys(*map(str, range(columns))) + uv(columns) + sv(0, 0) * columns
    contents = uv(columns) + constant_column(1, 5, 0) + constant_column(0, 5, 0) * (columns - 1)
    return rows_of_one_shape(rows, paths, list(range(1, columns + 1)), contents)


def deep_records(rows: int) -> bytes:
    """One cell a row, 64 dicts around it."""
    paths = f.new_keys("k") + uv(64) + sv(0, 0) + sv(1, -1) * 63
    return rows_of_one_shape(rows, paths, [64], uv(1) + constant_column(64, 0, 0))


def dictionary_of(value: Any) -> bytes:
    """A stream of one blob, again and again."""
    tag, blob = cell_of(value)
    assert isinstance(blob, bytes)
    return bytes([tag, 1]) + uv(1) + sized(blob) + b"\0"


def one_blob(rows: int, value: Any) -> bytes:
    """The same list in every row, from a dictionary of one."""
    stream = dictionary_of(value)
    return rows_of_one_shape(rows, uv(0, 0), [0], uv(1) + sv(0) + b"\2" + sized(stream))


def copied_blob(rows: int, columns: int) -> bytes:
    """A list in one column, and columns that copy it."""
    paths = f.new_keys(*map(str, range(columns))) + uv(columns) + sv(0, 0) * columns
    first = dictionary_of([{}] * 100)
    copy = b"\xfe" + uv(1, 0)
    contents = uv(columns) + sv(1) + b"\2" + sized(first) + (sv(0) + b"\2" + sized(copy)) * (columns - 1)
    return rows_of_one_shape(rows, paths, list(range(1, columns + 1)), contents)


def sets_of_all(count: int) -> bytes:
    """Sets of all the rows, each the one before without nothing: three bytes a set."""
    sets = b"".join(uv(n) + b"\2" + gaps([]) for n in range(count))
    body = f.body_of({SETS: uv(count) + sets})
    base = reference.digest({str(n): None for n in range(BASE_ROWS)})
    return f.seal(body, f.DELTA, base=base, rows=BASE_ROWS, coded=f.compressed(body))


EXPANDING: dict[str, Callable[[], bytes]] = {
    "rows and columns": lambda: constant_columns(20_000, 500),
    "columns": lambda: constant_columns(1, 300_000),
    "rows": lambda: constant_columns(400_000, 1),
    "deep records": lambda: deep_records(100_000),
    "lists": lambda: one_blob(50_000, [{}] * 200),
    "long lists": lambda: one_blob(2_000, [None] * 50_000),
    "dicts in lists": lambda: one_blob(50_000, [{"a": {"b": 1}}] * 20),
    "texts": lambda: one_blob(50_000, "x" * 100_000),
    "copies": lambda: copied_blob(5_000, 50),
    "sets": lambda: sets_of_all(100_000),
    "keys that begin alike": lambda: shared_keys(20_000),
}


@pytest.mark.parametrize("way", ["loads", "apply", "Decoder", "inspect"])
@pytest.mark.parametrize("name", EXPANDING)
def test_frames_that_expand(name: str, way: str) -> None:
    way = "apply" if name == "sets" else way  # a delta needs its base
    outcome, rise = read_elsewhere(EXPANDING[name](), way)
    assert outcome == "LimitExceededError" or way == "inspect"
    assert rise < LIMIT + SLACK


# --- every structure that a frame can declare, as many as the limit lets through

NAME = 6  # bytes of a key here: 3 of them are charged, the fourth is the body's


def numbered(count: int) -> bytes:
    return f.new_keys(*(f"{n:06}" for n in range(count)))


def keys(count: int) -> bytes:
    """Each with a node of its own."""
    paths = numbered(count) + uv(count) + sv(0, 0) * count
    return compressed_frame({PATHS: paths})


def long_keys(count: int) -> bytes:
    names = f.new_keys(*(f"{n:06}" + "x" * 994 for n in range(count)))
    return compressed_frame({PATHS: names + uv(count) + sv(0, 0) * count})


def shared_keys(count: int) -> bytes:
    """Each is the one before and a byte."""
    names = uv(count, *range(count)) + strings(*"x" * count)
    return compressed_frame({PATHS: names + uv(0)})


def nodes(count: int) -> bytes:
    """A thousand keys below each of many nodes."""
    few = 1000
    steps = b"".join(sv(1 if n else 0, -few if n else 0) + sv(0, 0) * (few - 1) for n in range(count // few))
    paths = numbered(few) + uv(count // few * few) + steps
    return compressed_frame({PATHS: paths})


def shapes_of(count: int, shapes: bytes, number: int, paths: bytes = b"") -> bytes:
    """Shapes over so many keys."""
    paths = paths or numbered(count) + uv(count) + sv(0, 0) * count
    return compressed_frame({PATHS: paths, SHAPES: uv(number) + shapes + uv(0, 0)})


def small_shapes(count: int) -> bytes:
    """Two paths each, as far apart as a table of positions bears."""
    far, k = 15, count // 15
    pairs = [(i, i + d) for i in range(1, k + 1) for d in range(1, far + 1)]
    last = 0
    contents = []
    for a, b in pairs:
        contents.append(uv(0, 2) + sv(a - last - 1, b - a - 1))
        last = b
    return shapes_of(k + far, b"".join(contents), len(pairs))


def long_shapes(count: int) -> bytes:
    """500 paths each, the next shape from the next path on."""
    k = 500
    first, others = sv(*[0] * k), sv(1 - k, *[0] * (k - 1))
    return shapes_of(k + count, uv(0, k) + first + (uv(0, k) + others) * (count - 1), count)


def deep_shapes(count: int) -> bytes:
    """One path each, with 63 dicts above it."""
    chain = sv(0, 0) + sv(1, -1) * 62
    leaves = sv(1, 0) + sv(0, 0) * (count - 1)
    paths = numbered(count + 1) + uv(63 + count) + chain + leaves
    return shapes_of(0, uv(0, 1) + sv(63) + (uv(0, 1) + sv(0)) * (count - 1), count, paths)


def empty_sets(count: int) -> bytes:
    return compressed_frame({SETS: uv(count) + uv(0) + b"\0" + uv(0) + (uv(0) + b"\0" + uv(0)) * (count - 1)})


def long_symbols(count: int) -> bytes:
    symbols = strings(*(f"{n:06}" + "x" * 994 for n in range(count)))
    shapes = uv(1, 0, 1) + sv(-1) + uv(0, 0) + uv(0, count)
    contents = uv(1) + constant_column(0, 0, 0)
    return compressed_frame({ROWS: uv(0, count) + symbols, SHAPES: shapes, COLUMNS: contents})


def moved_rows(count: int) -> bytes:
    """All of them, by a column that is there: the other way round."""
    symbols = strings(*(f"{n:06}" for n in range(count)))
    shapes = uv(1, 0, 1) + sv(-1) + uv(0, 0) + uv(0, count)
    distances = [(count - 1 - n) - n for n in range(count)]
    words = [(d << 1 ^ d >> 63) & 2**64 - 1 for d in distances]
    width = 4
    byte_planes = bytes([width]) + b"".join(
        bytes(word >> 8 * n & 255 for word in words) for n in range(width)
    )
    order = b"\1" + uv(0) + b"\0" + gaps(range(count)) + byte_planes
    contents = uv(1) + constant_column(0, 0, 0)
    sections = {ROWS: uv(0, count) + symbols, SHAPES: shapes, COLUMNS: contents, ORDER: order}
    return compressed_frame(sections)


def blob_dictionaries(count: int) -> bytes:
    """Columns of one cell, each with a dictionary of 65,536 entries."""
    k = 65_536
    entries = strings(*(f"entry {n:06}" for n in range(k)))
    stream = bytes([8, 1]) + uv(k) + entries + b"\0"
    paths = numbered(count) + uv(count) + sv(0, 0) * count
    columns = sv(1) + b"\2" + sized(stream) + (sv(0) + b"\2" + sized(stream)) * (count - 1)
    return rows_of_one_shape(1, paths, list(range(1, count + 1)), uv(count) + columns)


def word_dictionaries(count: int) -> bytes:
    """Columns of one cell, each with a dictionary of 65,536 zeros that takes no bytes."""
    stream = bytes([4, 1]) + uv(65_536) + b"\0\0"
    paths = numbered(count) + uv(count) + sv(0, 0) * count
    columns = sv(1) + b"\2" + sized(stream) + (sv(0) + b"\2" + sized(stream)) * (count - 1)
    return rows_of_one_shape(1, paths, list(range(1, count + 1)), uv(count) + columns)


def compressed_frame(sections: dict[int, bytes]) -> bytes:
    body = f.body_of(sections)
    return f.seal(body, coded=f.compressed(body))


# A frame of so many, and what one of them is charged, the bytes of its body included.
STRUCTURES: dict[str, tuple[Callable[[int], bytes], int]] = {
    "keys": (keys, 320 + 320 + 4 * NAME + 4),
    "long keys": (long_keys, 320 + 320 + 4 * 1000 + 5),
    "nodes": (nodes, 320 + 2),
    "small shapes": (small_shapes, 512 + 2 * 64 + 32 + 5 + (640 + 4 * NAME + 4) // 15 + 1),
    "long shapes": (long_shapes, 512 + 500 * 64 + 32 + 505 + 640 + 4 * NAME + 4),
    "deep shapes": (deep_shapes, 512 + 64 + 64 * 32 + 3 + 640 + 4 * NAME + 4),
    "empty sets": (empty_sets, 64 + 3),
    "symbols": (lambda n: constant_columns(n, 1), 384 + 256 + 128 + 4 * NAME + 1),
    "long symbols": (long_symbols, 384 + 128 + 4 * 1000 + 2),
    "moved rows": (moved_rows, 384 + 128 + 4 * NAME + 1 + 1 + 4),
    "columns": (lambda n: constant_columns(1, n), 640 + 512 + 128 + 64 + 4 * NAME + 17),
    "cells": (lambda n: constant_columns(n // 500, 500), 128 + 2),
    "dicts": (lambda n: deep_records(n // 64), 256 + 10),
    "dictionaries of blobs": (blob_dictionaries, 65_536 * (64 + 13) + 2000),
    "dictionaries of words": (word_dictionaries, 65_536 * 16 + 2000),
}


def check_structure(name: str, limit: int, slack: int) -> None:
    make, each = STRUCTURES[name]
    frame = make(int(limit * 0.97 / each))
    for way in ("loads", "inspect"):
        outcome, rise = read_elsewhere(frame, way, limit)
        assert outcome == "digest" or way == "inspect"
        assert rise < limit + slack, way
    frame = make(int(limit * 1.05 / each) + 1)
    assert read_elsewhere(frame, "loads", limit)[0] == "LimitExceededError"


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure(name: str) -> None:
    """At a small limit, where little slack is left for what is not charged."""
    check_structure(name, LIMIT // 2, SLACK // 4)


@pytest.mark.long
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_at_a_large_limit(name: str) -> None:
    check_structure(name, 4 * LIMIT, SLACK)


ZONE = timezone(timedelta(hours=1), "name")
VALUES: dict[str, Callable[[int], Any]] = {
    "float": lambda n: n / 2,
    "text": lambda n: f"abcdefg{n}",
    "digits": str,
    "Decimal": Decimal,
    "large Decimal": lambda n: Decimal(n + 10**20),
    "UUID": lambda n: UUID(int=n),
    "datetime in a zone": lambda n: datetime(2026, 1, 2, tzinfo=ZONE) + timedelta(microseconds=n),
    "int of 9 bytes": lambda n: n + 2**64,
    "bytes": lambda n: b"%d" % n,
    "list": lambda n: [n / 2, n / 4],
    "dict": lambda n: {"a": n},
    "list of dicts": lambda n: [{"a": n / 2}],
    "deep": lambda n: {"a": {"b": {"c": {"d": n / 2}}}},
    "the same float": lambda n: 1.5,
    "the same list": lambda n: [{}] * 20,
    "the same dict in a list": lambda n: [{"a": {"b": 1}}] * 5,
    "the same text": lambda n: "x" * 1000,
    "the same depth": lambda n: dict_of_dicts(63),
}


def dict_of_dicts(levels: int) -> Any:
    value: Any = None
    for _ in range(levels):
        value = {"k": value}
    return value


def largest_within(make: Callable[[int], Any], limit: int) -> bytes:
    """The frame of the largest snapshot of such values (30 columns) that the limit lets through, about."""
    best, low, high = b"", 0, 16_000
    while high - low > max(8, low // 8):
        rows = (low + high) // 2
        snapshot = {str(r): {str(c): make(30 * r + c) for c in range(30)} for r in range(rows)}
        frame = snapdelta.dumps(snapshot, level=1)
        try:
            snapdelta.loads(frame, limits=snapdelta.Limits(limit))
        except snapdelta.LimitExceededError:
            high = rows
        else:
            best, low = frame, rows
    return best


SNAPSHOTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "one cell a row": lambda rows: {str(r): r / 2 for r in range(rows)},
    "one dict a row": lambda rows: {str(r): {"a": r / 2} for r in range(rows)},
    "dicts in dicts": lambda rows: {str(r): {"a": {"b": {"c": r / 2}}} for r in range(rows)},
    "names of its own": lambda rows: {str(r): {f"a{r}": {f"b{r}": r}} for r in range(rows)},
    "wide": lambda rows: {str(r): {str(c): r * c / 2 for c in range(683)} for r in range(rows // 683)},
    "zones of its own": lambda rows: {
        str(r): datetime(2026, 1, 2, tzinfo=timezone(timedelta(seconds=r % 80_000), f"zone {r}"))
        for r in range(rows)
    },
}


@pytest.mark.long
@pytest.mark.parametrize("name", SNAPSHOTS)
def test_the_most_rows_that_the_limit_lets_through(name: str) -> None:
    limit, low, high = 4 * LIMIT, 0, 3_000_000
    encoder_limit = snapdelta.Limits(limit)
    frame = b""
    while high - low > max(8, low // 8):
        rows = (low + high) // 2
        candidate = snapdelta.dumps(SNAPSHOTS[name](rows), level=1)
        try:
            snapdelta.loads(candidate, limits=encoder_limit)
        except snapdelta.LimitExceededError:
            high = rows
        else:
            frame, low = candidate, rows
    for way in ("loads", "Decoder"):
        outcome, rise = read_elsewhere(frame, way, limit)
        assert outcome == "read"
        assert rise < limit + SLACK, way


@pytest.mark.long
@pytest.mark.parametrize("name", VALUES)
def test_the_most_that_the_limit_lets_through(name: str) -> None:
    """Honest frames that fill the limit take no more than they are charged, whatever they hold."""
    frame = largest_within(VALUES[name], LIMIT)
    for way in ("loads", "Decoder", "apply"):
        outcome, rise = read_elsewhere(frame, way)
        assert outcome == "read"
        assert rise < LIMIT + SLACK, way
