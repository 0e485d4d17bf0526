"""The default policies of a manager: those of the scanner's streams."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from snapdelta.streams.policy import StreamPolicy

# Every length leaves room below 5,000 entries, for what other programs add between two trim passes. The two
# longest are exact, as a node more would take that room. All byte budgets together are 100 MB.
SCANNER_POLICIES: Mapping[str, StreamPolicy] = MappingProxyType(
    {
        "snapshots:raw": StreamPolicy(maxlen=1_000, max_bytes=40_000_000, trim_interval=30.0),
        "stream:ranking:deltas": StreamPolicy(
            maxlen=4_500, max_bytes=24_000_000, approximate=False, trim_interval=60.0
        ),
        "stream:realtime:aggregates": StreamPolicy(maxlen=3_000, max_bytes=8_000_000, trim_interval=45.0),
        "tickers:filtered": StreamPolicy(maxlen=500, max_bytes=16_000_000, trim_interval=20.0),
        "events:session": StreamPolicy(maxlen=100, max_bytes=1_000_000, trim_interval=60.0),
        "polygon_ws:subscriptions": StreamPolicy(maxlen=2_000, max_bytes=2_000_000, trim_interval=60.0),
        "stream:halt:events": StreamPolicy(maxlen=500, max_bytes=1_000_000, trim_interval=120.0),
        "stream:alerts:market": StreamPolicy(
            maxlen=4_500, max_bytes=8_000_000, approximate=False, trim_interval=60.0
        ),
    }
)
