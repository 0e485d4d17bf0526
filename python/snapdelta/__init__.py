"""snapdelta: compact, checked, lossless binary deltas of dicts of records.

A table of contents. The parts that need an extra are imported when they are first asked for, so that
`import snapdelta` stays light.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from snapdelta._native import (
    CapturedFrame,
    ColumnInfo,
    Decoder,
    Encoder,
    FrameInfo,
    Limits,
    apply,
    diff,
    dumps,
    inspect,
    loads,
)
from snapdelta.errors import (
    BaseMismatchError,
    CorruptDeltaError,
    EncoderBusyError,
    EncodingError,
    LimitExceededError,
    SnapdeltaError,
    UnknownZoneError,
    UnsupportedTypeError,
    UnsupportedVersionError,
)

if TYPE_CHECKING:
    from snapdelta.snapshots.manager import SnapshotManager as SnapshotManager
    from snapdelta.snapshots.manager import SnapshotReader as SnapshotReader
    from snapdelta.streams.manager import RedisStreamManager as RedisStreamManager
    from snapdelta.streams.manager import StreamPolicy as StreamPolicy
    from snapdelta.streams.manager import decode_fields as decode_fields
    from snapdelta.streams.manager import get_stream_manager as get_stream_manager
    from snapdelta.streams.manager import initialize_stream_manager as initialize_stream_manager
    from snapdelta.testing.server import EmbeddedServer as EmbeddedServer

# name -> the module that holds it, loaded on first use
_LAZY: dict[str, str] = {
    "EmbeddedServer": "snapdelta.testing.server",
    "RedisStreamManager": "snapdelta.streams.manager",
    "StreamPolicy": "snapdelta.streams.manager",
    "decode_fields": "snapdelta.streams.manager",
    "get_stream_manager": "snapdelta.streams.manager",
    "initialize_stream_manager": "snapdelta.streams.manager",
    "SnapshotManager": "snapdelta.snapshots.manager",
    "SnapshotReader": "snapdelta.snapshots.manager",
}

__all__ = [
    "BaseMismatchError",
    "CapturedFrame",
    "ColumnInfo",
    "CorruptDeltaError",
    "Decoder",
    "Encoder",
    "EncoderBusyError",
    "EncodingError",
    "FrameInfo",
    "LimitExceededError",
    "Limits",
    "SnapdeltaError",
    "UnknownZoneError",
    "UnsupportedTypeError",
    "UnsupportedVersionError",
    "apply",
    "diff",
    "dumps",
    "inspect",
    "loads",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return version("snapdelta-rs")
    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
