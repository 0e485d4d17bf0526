"""Frames made by hand, after FORMAT.md: for bytes that the package's writer would never make."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import zstandard

from core import reference_decoder as reference
from core.reference_values import hash_bytes, sized, uv_bytes

ROWS, PATHS, SHAPES, SETS, SPARSE, COLUMNS, ORDER, TEXT, ENTROPY = range(1, 10)
FULL, DELTA = 0, 1
WITHIN_TOLERANCE, TEXT_FOLLOWS, BUNDLE = 8, 16, 32  # flags of a header


def uv(*numbers: int) -> bytes:
    return b"".join(map(uv_bytes, numbers))


def sv(*numbers: int) -> bytes:
    return uv(*((number << 1 ^ number >> 63) & 2**64 - 1 for number in numbers))


def strings(*texts: str) -> bytes:
    """Lengths, then bytes; the count stands before and is the caller's."""
    data = [text.encode("utf-8", "surrogatepass") for text in texts]
    return uv(*map(len, data)) + b"".join(data)


def new_keys(*texts: str) -> bytes:
    """The keys of PATHS, with their count: none shares its beginning with the one before."""
    return uv(len(texts)) + bytes(len(texts)) + strings(*texts)


def gaps(numbers: Iterable[int]) -> bytes:
    """With the count before."""
    ascending = list(numbers)
    before = [-1, *ascending]
    return uv(len(ascending), *(a - b - 1 for a, b in zip(ascending, before, strict=False)))


def byte_planes(*words: int) -> bytes:
    return b"\x08" + b"".join(bytes(word >> 8 * n & 255 for word in words) for n in range(8))


def body_of(sections: dict[int, bytes]) -> bytes:
    return b"".join(bytes([number]) + sized(contents) for number, contents in sorted(sections.items()))


def seal(
    body: bytes,
    kind: int = FULL,
    *,
    base: int | None = None,
    rows: int = 0,
    target: int = 0,
    coded: bytes | None = None,
    text: bytes = b"",
    length: int | None = None,
    version: int = 1,
    flags: int = 0,
    epoch: int = 0,
    sequence: int = 0,
    base_place: bytes | None = None,
    required: int = 0,
    held: int | None = None,
) -> bytes:
    """A frame with a right checksum. `coded` is the zstd frame to put in, `length` what is declared of it.

    `text` is the compressed text. The base, of so many rows, is the frame before, unless `base_place` has the
    bytes that say another.
    """
    inside = (body if coded is None else coded) + text
    flags |= (
        kind | (held is not None) * WITHIN_TOLERANCE | (coded is not None) << 1 | bool(text) * TEXT_FOLLOWS
    )
    fields = bytes([flags]) + uv(epoch, sequence, required, *(() if held is None else (held,)))
    if coded is not None or flags & TEXT_FOLLOWS:
        fields += uv(len(body) if length is None else length)
    if kind:
        digest = reference.digest({}) if base is None else base
        fields += uv(int(sequence > 0)) if base_place is None else base_place
        fields += struct.pack("<Q", digest) + uv(rows)
    return framed(fields + struct.pack("<Q", target), inside, version)


def framed(fields: bytes, inside: bytes, version: int = 1) -> bytes:
    """The frame around fields and a coded body."""
    return checked(b"\xd1SND" + bytes([version]) + uv(len(fields), len(inside)) + fields + inside)


def checked(contents: bytes) -> bytes:
    """A frame's bytes and their checksum."""
    return contents + struct.pack("<Q", hash_bytes(contents))


def resealed(frame: bytes, body: bytes, target: int | None = None) -> bytes:
    """A frame with another body, stored, and all that follows from it put right but the target's digest."""
    head = reference.header(frame)
    return seal(
        body,
        head.kind,
        base=head.base,
        rows=head.base_rows,
        target=head.target if target is None else target,
        text=text_in(frame),
        epoch=head.epoch,
        sequence=head.sequence,
        held=head.held_cells,
    )


def rechecked(frame: bytes) -> bytes:
    """The frame with its checksum put right."""
    return checked(frame[:-8])


def with_coded(frame: bytes, inside: bytes) -> bytes:
    """The frame with another coded body, whatever its header says of its length before compression."""
    coded = reference.header(frame).coded
    fields_and_coded = frame[5 + len(uv(0, len(coded))) : -8]  # fewer than 128 bytes of fields
    return framed(fields_and_coded[: len(fields_and_coded) - len(coded)], inside)


def unmeasured(frame: bytes) -> bytes:
    """A verified frame as an Encoder without `verify` makes it: it does not say what a reader needs."""
    head = reference.header(frame)
    assert head.required_bytes > 0 or not head.coded
    return seal(
        head.coded,
        head.kind,
        base=head.base,
        rows=head.base_rows,
        target=head.target,
        coded=head.coded if head.compression else None,
        length=head.body_length,
        flags=head.has_text * TEXT_FOLLOWS,
        epoch=head.epoch,
        sequence=head.sequence,
        held=head.held_cells,
    )


def at_version(frame: bytes, version: int) -> bytes:
    """The frame as if a writer of another version had made it, undamaged."""
    return rechecked(frame[:4] + bytes([version]) + frame[5:])


def body_in(frame: bytes) -> bytes:
    return reference.contents_of(reference.header(frame)).body


def text_in(frame: bytes) -> bytes:
    """The compressed text."""
    return reference.contents_of(reference.header(frame)).text


def compressed(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(body)


def constant_column(node_step: int, tag: int, word: int) -> bytes:
    """A column of inserts that costs no byte a row; its node is `node_step` + 1 after the last one."""
    stream = bytes([tag]) if tag < 4 else bytes([tag, 0]) + struct.pack("<Q", word)
    return sv(node_step) + b"\x02" + sized(stream)
