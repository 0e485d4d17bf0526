"""Frames made by hand, after FORMAT.md: for bytes that the package's writer would never make."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import zstandard

from core import reference_decoder as reference
from core.reference_values import hash_bytes, sized, uv_bytes

ROWS, PATHS, SHAPES, SETS, SPARSE, COLUMNS, ORDER, TEXT = range(1, 9)
FULL, DELTA = 0, 1


def uv(*numbers: int) -> bytes:
    return b"".join(map(uv_bytes, numbers))


def sv(*numbers: int) -> bytes:
    return uv(*((number << 1 ^ number >> 63) & 2**64 - 1 for number in numbers))


def strings(*texts: str) -> bytes:
    """Lengths, then bytes; the count stands before and is the caller's."""
    data = [text.encode("utf-8", "surrogatepass") for text in texts]
    return uv(*map(len, data)) + b"".join(data)


def gaps(numbers: Iterable[int]) -> bytes:
    """With the count before."""
    ascending = list(numbers)
    before = [-1, *ascending]
    return uv(len(ascending), *(a - b - 1 for a, b in zip(ascending, before, strict=False)))


def byte_planes(*words: int) -> bytes:
    return b"\x08" + b"".join(bytes(word >> 8 * n & 255 for word in words) for n in range(8))


def body_of(sections: dict[int, bytes]) -> bytes:
    return b"".join(bytes([number]) + sized(contents) for number, contents in sections.items())


def seal(
    body: bytes,
    kind: int = FULL,
    *,
    base: int | None = None,
    target: int = 0,
    coded: bytes | None = None,
    text: bytes = b"",
    length: int | None = None,
    version: int = 1,
    compression: int | None = None,
    epoch: int = 0,
    sequence: int = 0,
) -> bytes:
    """A frame with a right checksum. `coded` is the zstd frame to put in, `length` what is declared of it;
    `text` is the compressed text."""
    inside = (body if coded is None else coded) + text
    numbers = (
        *(version, kind, (coded is not None) if compression is None else compression, 0, epoch, sequence),
        *(reference.digest({}) if base is None else base, target),
        *(len(body) if length is None else length, len(inside)),
    )
    head = b"\xd1SND" + struct.pack("<BBBBQQQQII", *numbers)
    return head + struct.pack("<Q", hash_bytes(head + inside)) + inside


def resealed(frame: bytes, body: bytes, target: int | None = None) -> bytes:
    """A frame with another body, stored, and all that follows from it put right but the target's digest."""
    head = reference.header(frame)
    target = head.target if target is None else target
    return seal(
        body,
        head.kind,
        base=head.base,
        target=target,
        text=reference.contents_of(frame)[1],
        epoch=head.epoch,
        sequence=head.sequence,
    )


def rechecked(frame: bytes) -> bytes:
    """The frame with its checksum put right."""
    return frame[:48] + struct.pack("<Q", hash_bytes(frame[:48] + frame[56:])) + frame[56:]


def at_version(frame: bytes, version: int) -> bytes:
    """The frame as if a writer of another version had made it, undamaged."""
    return rechecked(frame[:4] + bytes([version]) + frame[5:])


def body_in(frame: bytes) -> bytes:
    return reference.contents_of(frame)[0]


def compressed(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(body)


def constant_column(node_step: int, tag: int, word: int) -> bytes:
    """A column of inserts that costs no byte a row; its node is `node_step` + 1 after the last one."""
    stream = bytes([tag]) if tag < 4 else bytes([tag, 0]) + struct.pack("<Q", word)
    return sv(node_step) + b"\x02" + sized(stream)
