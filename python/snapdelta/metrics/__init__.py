"""Metrics for Prometheus (docs/operations.md). A table of contents; needs the extra `metrics`."""

from __future__ import annotations

from snapdelta.errors import MissingExtraError

try:
    import prometheus_client  # noqa: F401
except ImportError as missing:
    raise MissingExtraError(
        "metrics need prometheus-client; install it with the extra: snapdelta-rs[metrics]"
    ) from missing

from snapdelta.metrics.collector import MetricsCollector
from snapdelta.metrics.families import FAMILIES, Family
from snapdelta.metrics.timescale import TimescaleCollector

__all__ = ["FAMILIES", "Family", "MetricsCollector", "TimescaleCollector"]
