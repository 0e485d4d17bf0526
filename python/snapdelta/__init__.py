"""snapdelta: compact, checked, lossless binary deltas of dicts of records.

A table of contents. Parts that need an extra are imported at their first use, so that `import snapdelta`
stays light.
"""

from __future__ import annotations

from snapdelta._native import (
    Absolute,
    ArrowTable,
    CapturedFrame,
    ColumnInfo,
    Decoder,
    Encoder,
    FrameInfo,
    Limits,
    Relative,
    apply,
    arrow_table,
    compose,
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
    UsageError,
)

# typing takes four times as long to load as all of this does; type checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from snapdelta.health import Health as Health
    from snapdelta.health import overall_health as overall_health
    from snapdelta.redis_stream_manager import SCANNER_POLICIES as SCANNER_POLICIES
    from snapdelta.redis_stream_manager import RedisStreamManager as RedisStreamManager
    from snapdelta.redis_stream_manager import StreamPolicy as StreamPolicy
    from snapdelta.redis_stream_manager import decode_fields as decode_fields
    from snapdelta.redis_stream_manager import get_stream_manager as get_stream_manager
    from snapdelta.redis_stream_manager import initialize_stream_manager as initialize_stream_manager
    from snapdelta.snapshot_manager import SnapshotManager as SnapshotManager
    from snapdelta.snapshot_manager import SnapshotReader as SnapshotReader
    from snapdelta.snapshots.mirror import SnapshotMirror as SnapshotMirror
    from snapdelta.testing.server import EmbeddedServer as EmbeddedServer

# name -> the module that holds it, loaded on first use
_LAZY: dict[str, str] = {
    "EmbeddedServer": "snapdelta.testing.server",
    "Health": "snapdelta.health",
    "RedisStreamManager": "snapdelta.redis_stream_manager",
    "SCANNER_POLICIES": "snapdelta.redis_stream_manager",
    "SnapshotManager": "snapdelta.snapshot_manager",
    "SnapshotMirror": "snapdelta.snapshots.mirror",
    "SnapshotReader": "snapdelta.snapshot_manager",
    "StreamPolicy": "snapdelta.redis_stream_manager",
    "decode_fields": "snapdelta.redis_stream_manager",
    "get_stream_manager": "snapdelta.redis_stream_manager",
    "initialize_stream_manager": "snapdelta.redis_stream_manager",
    "overall_health": "snapdelta.health",
}

__all__ = [
    "Absolute",
    "ArrowTable",
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
    "Relative",
    "SnapdeltaError",
    "UnknownZoneError",
    "UnsupportedTypeError",
    "UnsupportedVersionError",
    "UsageError",
    "apply",
    "arrow_table",
    "compose",
    "diff",
    "dumps",
    "inspect",
    "loads",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        # Not at the top: this loads datetime, and CPython 3.12 corrupts memory where a subinterpreter does so
        # first (python/cpython#117953). The core must refuse a subinterpreter without harm.
        from importlib.metadata import version

        return version("snapdelta-rs")
    if name in _LAZY:
        from importlib import import_module

        value = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names; import modules to find them."""
    return sorted([*__all__, *_LAZY, "__version__"])
