"""RedisStreamManager under the name that hand-written managers have (docs/streams.md)."""

from snapdelta.streams.manager import (
    Counters,
    GroupInfo,
    Health,
    ManagerStats,
    RedisStreamManager,
    StreamInfo,
    StreamPolicy,
    TrimReport,
    decode_fields,
    get_stream_manager,
    initialize_stream_manager,
)

__all__ = [
    "Counters",
    "GroupInfo",
    "Health",
    "ManagerStats",
    "RedisStreamManager",
    "StreamInfo",
    "StreamPolicy",
    "TrimReport",
    "decode_fields",
    "get_stream_manager",
    "initialize_stream_manager",
]
