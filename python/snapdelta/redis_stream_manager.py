"""RedisStreamManager under the module name of hand-written managers (docs/streams.md)."""

from snapdelta.streams.field_codec import decode_fields
from snapdelta.streams.manager import RedisStreamManager
from snapdelta.streams.policy import StreamPolicy
from snapdelta.streams.presets import SCANNER_POLICIES
from snapdelta.streams.registry import get_stream_manager, initialize_stream_manager
from snapdelta.streams.report import GroupInfo, StreamInfo
from snapdelta.streams.stats import Counters, ManagerStats, PolicyTotals, StreamHealth
from snapdelta.streams.trimmer import TrimReport

__all__ = [
    "SCANNER_POLICIES",
    "Counters",
    "GroupInfo",
    "ManagerStats",
    "PolicyTotals",
    "RedisStreamManager",
    "StreamHealth",
    "StreamInfo",
    "StreamPolicy",
    "TrimReport",
    "decode_fields",
    "get_stream_manager",
    "initialize_stream_manager",
]
