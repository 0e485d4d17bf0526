"""Reads recordings of snapshots: zstd-compressed NDJSON, `{"t": ms, "snapshot": {symbol: record}}` a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from os import PathLike, fspath
from typing import Any, NamedTuple

from snapdelta.errors import MissingExtraError, RecordingError

# Compressed bytes are fed in small pieces: zstd may blow each byte up by more than 30,000.
_PIECE = 1024
_MAX_WINDOW = 2**25


class Frame(NamedTuple):
    """One line of a recording: its time in ms since 1970 and the snapshot, `{symbol: record}`."""

    t: int
    snapshot: dict[str, Any]


def read_recording(path: str | PathLike[str]) -> Iterator[Frame]:
    """The frames of a `.ndjson.zst` file, one at a time; only one line is held in memory.

    Needs the extra `recordings` (zstandard). Windows of up to 2**25 bytes are read.

    Raises:
        MissingExtraError: zstandard is not installed.
        RecordingError: the file cannot be read, is damaged or truncated, or a line is not a frame; the
            message names the file and the line.
    """
    name = fspath(path)
    for number, line in enumerate(_lines(name), start=1):
        yield _frame(line, f"{name}, line {number}")


def _lines(name: str) -> Iterator[bytes]:
    parts: list[bytes] = []
    number = 1
    pieces = _decompressed(name)
    while True:
        try:
            piece = next(pieces, None)
        except _DamagedError as error:
            raise RecordingError(f"{name}, line {number}: {error}") from error.__cause__
        if piece is None:
            break
        head, *rest = piece.split(b"\n")
        parts.append(head)
        for begun in rest:
            yield b"".join(parts)
            number += 1
            parts = [begun]
    last = b"".join(parts)
    if last:
        yield last


class _DamagedError(Exception):
    """What is wrong with the compressed bytes; the caller knows the line."""


def _decompressed(name: str) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError(
            "recordings need zstandard; install it with the extra: snapdelta-rs[recordings]"
        ) from error
    context = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    stream = None
    try:
        with open(name, "rb") as file:
            while piece := file.read(_PIECE):
                while piece:
                    if stream is None:
                        stream = context.decompressobj()
                    yield stream.decompress(piece)
                    piece = stream.unused_data
                    if stream.eof:
                        stream = None
    except OSError as error:
        raise _DamagedError(f"cannot be read: {error.strerror}") from error
    except zstandard.ZstdError as error:
        raise _DamagedError(f"damaged zstd data: {error}") from error
    if stream is not None:
        raise _DamagedError("the file is truncated: its zstd data is incomplete")


def _frame(line: bytes, place: str) -> Frame:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise RecordingError(f"{place}: not JSON: {error}") from error
    except RecursionError as error:
        raise RecordingError(f"{place}: nested too deeply") from error
    if not isinstance(content, dict):
        raise RecordingError(f"{place}: a frame must be an object of t and snapshot, not {_kind(content)}")
    time, snapshot = content.get("t"), content.get("snapshot")
    if type(time) is not int:
        raise RecordingError(f"{place}: t must be a whole number of ms, not {_kind(time)}")
    if not isinstance(snapshot, dict):
        raise RecordingError(f"{place}: snapshot must be an object, not {_kind(snapshot)}")
    return Frame(time, snapshot)


def _kind(value: object) -> str:
    return "missing or null" if value is None else type(value).__name__
