"""Metrics of managers and readers, read from their counters at each scrape."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from snapdelta.errors import UsageError
from snapdelta.metrics.families import Samples, described
from snapdelta.redis_stream_manager import RedisStreamManager
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader

if TYPE_CHECKING:
    from snapdelta.gateway import Gateway
    from snapdelta.snapshots.mirror import SnapshotMirror
    from snapdelta.snapshots.stats import ReadCounters

Part: TypeAlias = "SnapshotManager | SnapshotReader | SnapshotMirror | RedisStreamManager | Gateway"

# Reasons that are there from the start, so that the first of a kind is an increase.
_RESYNCS = (
    *("base", "clock", "damaged", "first", "foreign_entry", "gap", "head", "head_behind", "head_lost"),
    *("outcome_unknown", "requested", "stream_lost", "takeover"),
)
_REJECTIONS = ("max_removed_share", "min_symbols", "validate")


class MetricsCollector(Collector):
    """The metrics of managers and readers in one registry.

    Args:
        parts: SnapshotManager, SnapshotReader, SnapshotMirror, RedisStreamManager and Gateway, any number;
            `add` takes more
        registry: where to register; None: nowhere

    Sends nothing to Redis. It sums the counters of several parts of one name. Raises UsageError for anything
    else than such a part; a second collector in the same registry is a ValueError of prometheus-client.
    """

    def __init__(self, *parts: Part, registry: CollectorRegistry | None = REGISTRY) -> None:
        self._parts: list[Part] = []
        for part in parts:
            self.add(part)
        self._registry = registry
        if registry is not None:
            registry.register(self)

    def add(self, part: Part) -> None:
        """Read the counters of one more part at each scrape. Raises UsageError for any other object."""
        known = isinstance(part, (SnapshotManager, SnapshotReader, RedisStreamManager))
        if not known and not _is_mirror(part) and not _is_gateway(part):
            raise UsageError(
                "a part must be a SnapshotManager, a SnapshotReader, a SnapshotMirror, a "
                f"RedisStreamManager or a Gateway, not a {type(part).__name__}"
            )
        self._parts.append(part)

    def remove(self, part: Part) -> None:
        """Stop reading the counters of this part."""
        self._parts = [each for each in self._parts if each is not part]

    def unregister(self) -> None:
        """Leave the registry. A second call does nothing."""
        if self._registry is not None:
            self._registry.unregister(self)
            self._registry = None

    def describe(self) -> Iterator[Metric]:
        """All metrics without samples, for the registry."""
        return described(("build", "save", "snapshot", "writer", "reader", "mirror", "gateway", "stream"))

    def collect(self) -> Iterator[Metric]:
        """The metrics of one scrape."""
        samples = Samples()
        samples.largest("build_info", 1, version("snapdelta-rs"))
        for part in list(self._parts):
            if isinstance(part, SnapshotManager):
                _of_manager(samples, part)
            elif isinstance(part, SnapshotReader):
                _of_reader(samples, part.name, part.stats())
            elif isinstance(part, RedisStreamManager):
                _of_streams(samples, part)
            elif _is_gateway(part):
                _of_gateway(samples, part)
            elif _is_mirror(part):
                _of_mirror(samples, part)
        return samples.metrics()


def _is_mirror(part: object) -> TypeGuard[SnapshotMirror]:
    # Without the extra `mirror` the module cannot be imported; who has a mirror has imported it.
    module = sys.modules.get("snapdelta.snapshots.mirror")
    return module is not None and isinstance(part, module.SnapshotMirror)


def _is_gateway(part: object) -> TypeGuard[Gateway]:
    # The same, for the extra `gateway`.
    module = sys.modules.get("snapdelta.gateway")
    return module is not None and isinstance(part, module.Gateway)


def _of_manager(samples: Samples, manager: SnapshotManager) -> None:
    for name in manager.names:
        counters = manager.stats(name)
        fulls = sum(counters.fulls.values())
        samples.add("saves_total", fulls, name, "full")
        samples.add("saves_total", counters.saved - fulls, name, "delta")
        samples.add("save_failures_total", counters.failed, name)
        samples.add("saved_bytes_total", counters.bytes_written, name)
        samples.add("snapshot_held_cells_total", counters.held_cells, name)
        for phase, seconds in counters.seconds.items():
            samples.duration(seconds, counters.saved, name, phase)
        samples.largest("snapshot_symbols", counters.symbols, name)
        samples.largest("snapshot_chain_frames", counters.chain_frames, name)
        samples.largest("snapshot_last_save_timestamp_seconds", counters.last_save, name)
        samples.largest("snapshot_save_interval_seconds", counters.interval, name)
        for reason in _REJECTIONS:
            samples.add("snapshots_rejected_total", counters.rejected.get(reason, 0), name, reason)
        samples.add("writer_supersessions_total", counters.superseded, name)


def _of_reader(samples: Samples, name: str, counters: ReadCounters) -> None:
    samples.add("reader_updates_total", counters.updates, name)
    samples.add("reader_records_total", counters.records, name)
    samples.add("reader_past_states_total", counters.past_states, name)
    if counters.updates:
        samples.largest("reader_lag_seconds", counters.lag, name)
        samples.largest("reader_last_state_timestamp_seconds", counters.timestamp, name)
    for reason in sorted({*_RESYNCS, *counters.resyncs}):
        samples.add("reader_resyncs_total", counters.resyncs.get(reason, 0), name, reason)


def _of_mirror(samples: Samples, mirror: SnapshotMirror) -> None:
    counters, name = mirror.stats(), mirror.name
    samples.add("mirror_updates_total", counters.updates, name)
    samples.add("mirror_rebuilds_total", counters.rebuilds, name)
    samples.add("mirror_rows_written_total", counters.rows_written, name)
    samples.add("mirror_bytes_written_total", counters.bytes_written, name)
    samples.add("mirror_failures_total", counters.failed, name)
    samples.largest("mirror_last_state_timestamp_seconds", counters.timestamp, name)


def _of_gateway(samples: Samples, gateway: Gateway) -> None:
    for name in gateway.names:
        _of_reader(samples, name, gateway.reader_stats(name))
        counters = gateway.stats(name)
        samples.add("gateway_clients", counters.clients, name)
        samples.add("gateway_connections_total", counters.connections, name)
        samples.add("gateway_recovered_total", counters.recovered, name)
        samples.add("gateway_slow_clients_total", counters.slow, name)
        samples.add("gateway_requests_total", counters.requests, name)
        samples.add("gateway_sent_bytes_total", counters.bytes_sent, name)
        for kind, count in counters.messages.items():
            samples.add("gateway_messages_total", count, name, kind)
    for reason, count in gateway.refused().items():
        samples.add("gateway_refused_total", count, reason)


def _of_streams(samples: Samples, streams: RedisStreamManager) -> None:
    health, counters = streams.health(), streams.stats().counters
    samples.add("stream_task_running", health.running)
    samples.add("stream_failing", len(health.failing))
    samples.add("stream_written_entries_total", counters.entries_written)
    samples.add("stream_write_errors_total", counters.write_errors)
    samples.add("stream_trim_errors_total", counters.trim_errors)
    for policy, totals in streams.totals().items():
        samples.add("streams", totals.streams, policy)
        samples.add("stream_entries", totals.entries, policy)
        samples.add("stream_bytes", totals.bytes, policy)
        samples.largest("stream_bound_ratio", totals.fullest, policy)
        samples.add("stream_foreign_trims", totals.foreign_trims, policy)
        samples.add("stream_trimmed_entries_total", totals.trimmed, policy)
        samples.add("stream_unread_dropped_total", totals.unread_dropped, policy)
