"""Every metric: its name, kind, labels and meaning; the source of collectors, dashboard and documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric

Kind = Literal["counter", "gauge", "summary"]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `name` is the name in Prometheus; a summary appends `_sum` and `_count`."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _family(kind: Kind, name: str, labels: str, text: str) -> tuple[str, Family]:
    return name, Family(f"snapdelta_{name}", kind, tuple(labels.split()), text)


FAMILIES: dict[str, Family] = dict(
    [
        _family("gauge", "build_info", "version", "The version of snapdelta; always 1."),
        # --- SnapshotManager
        _family("counter", "saves_total", "name type", "Saves that Redis accepted, full or delta."),
        _family("counter", "save_failures_total", "name", "Saves that raised."),
        _family("counter", "saved_bytes_total", "name", "Bytes of frames written."),
        _family("counter", "snapshot_held_cells_total", "name", "Cells that kept the number published last."),
        _family("summary", "save_duration_seconds", "name phase", "Time of saves: capture, encode, write."),
        _family("gauge", "snapshot_symbols", "name", "Symbols in the last snapshot saved."),
        _family("gauge", "snapshot_chain_frames", "name", "Deltas since the last full frame."),
        _family("gauge", "snapshot_last_save_timestamp_seconds", "name", "Unix time of the last save."),
        _family("gauge", "snapshot_save_interval_seconds", "name", "The usual time from save to save."),
        _family("counter", "snapshots_rejected_total", "name reason", "Snapshots refused by a setting."),
        _family("counter", "writer_supersessions_total", "name", "Names that a later writer took over."),
        # --- SnapshotReader
        _family("counter", "reader_updates_total", "name", "Updates given out."),
        _family("counter", "reader_records_total", "name", "Records asked for by get."),
        _family("counter", "reader_past_states_total", "name", "States given out by at and replay."),
        _family("gauge", "reader_lag_seconds", "name", "From acceptance by Redis to the last update."),
        _family("gauge", "reader_last_state_timestamp_seconds", "name", "When Redis accepted that state."),
        _family("counter", "reader_resyncs_total", "name reason", "Updates that may have missed states."),
        # --- SnapshotMirror
        _family("counter", "mirror_updates_total", "name", "States written from the one before."),
        _family("counter", "mirror_rebuilds_total", "name", "States written as a whole."),
        _family("counter", "mirror_rows_written_total", "name", "Rows written."),
        _family("counter", "mirror_bytes_written_total", "name", "Bytes of JSON written."),
        _family("counter", "mirror_failures_total", "name", "Tries that failed."),
        _family("gauge", "mirror_last_state_timestamp_seconds", "name", "When Redis accepted its state."),
        # --- Gateway; its followers have the metrics of readers
        _family("gauge", "gateway_clients", "name", "WebSockets that are open."),
        _family("counter", "gateway_connections_total", "name", "WebSockets accepted."),
        _family("counter", "gateway_recovered_total", "name", "Of them, went on from the client's state."),
        _family("counter", "gateway_slow_clients_total", "name", "Of them, cut as they took nothing."),
        _family(
            "counter", "gateway_messages_total", "name kind", "Full frames, deltas, composed, JSON sent."
        ),
        _family("counter", "gateway_sent_bytes_total", "name", "Their bytes."),
        _family("counter", "gateway_requests_total", "name", "GETs of the snapshot or of a record."),
        _family("counter", "gateway_refused_total", "reason", "Refused: clients, requests, denied."),
        # --- RedisStreamManager; `policy` is a stream's name, a pattern, or default
        _family("gauge", "stream_task_running", "", "Whether the background task runs."),
        _family("gauge", "stream_failing", "", "Streams and servers whose last pass failed."),
        _family("gauge", "streams", "policy", "Streams known."),
        _family("gauge", "stream_entries", "policy", "Entries after the last pass, and written here since."),
        _family("gauge", "stream_bytes", "policy", "Memory after the last pass, where max_bytes is set."),
        _family(
            "gauge", "stream_bound_ratio", "policy", "The fullest bound of its fullest stream; 1 is full."
        ),
        _family("gauge", "stream_foreign_trims", "policy", "Streams that another program trims as well."),
        _family("counter", "stream_trimmed_entries_total", "policy", "Entries removed by trim passes."),
        _family("counter", "stream_unread_dropped_total", "policy", "Of them, unread by a consumer group."),
        _family("counter", "stream_written_entries_total", "", "Entries that the server acknowledged."),
        _family("counter", "stream_write_errors_total", "", "Writes that failed."),
        _family("counter", "stream_trim_errors_total", "", "Trim passes that failed."),
        # --- TimescaleDB
        _family("gauge", "timescale_up", "", "Whether the database could be read."),
        _family("gauge", "timescale_job_failing", "relation procedure", "Whether the job's last run failed."),
        _family(
            "gauge",
            "timescale_job_last_success_age_seconds",
            "relation procedure",
            "Time since the job's last success, or since the migration.",
        ),
        _family("gauge", "timescale_job_schedule_seconds", "relation procedure", "The job's interval."),
        _family("gauge", "timescale_oldest_row_age_seconds", "relation", "Age of the oldest row."),
        _family("gauge", "timescale_newest_row_age_seconds", "relation", "Age of the newest row or bucket."),
        _family("gauge", "timescale_retention_seconds", "relation", "The age at which retention drops rows."),
        _family("gauge", "timescale_chunk_seconds", "relation", "The width of the oldest chunk."),
        _family("gauge", "timescale_uncompressed_chunks", "relation", "Chunks that are not compressed."),
        _family("gauge", "timescale_size_bytes", "relation", "Size with indexes and compressed chunks."),
    ]
)


class Samples:
    """The samples of one scrape.

    It sums parts with the same labels; for a gauge that is not an amount, it takes the largest.
    """

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[str, ...], float]] = {}
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, name: str, value: float, *labels: str) -> None:
        """An amount."""
        family = self._of(name, labels)
        family[labels] = family.get(labels, 0.0) + value

    def largest(self, name: str, value: float | None, *labels: str) -> None:
        """A time, a share or an age; None: not known."""
        if value is not None:
            family = self._of(name, labels)
            family[labels] = max(family.get(labels, value), value)

    def duration(self, seconds: float, count: int, *labels: str) -> None:
        """The sum and the number of saves."""
        self.add("save_duration_seconds", seconds, *labels)
        self._counts[labels] = self._counts.get(labels, 0) + count

    def _of(self, name: str, labels: Sequence[str]) -> dict[tuple[str, ...], float]:
        assert len(FAMILIES[name].labels) == len(labels), name
        return self._values.setdefault(name, {})

    def metrics(self) -> Iterator[Metric]:
        """In the order of FAMILIES, those that have samples."""
        for key, family in FAMILIES.items():
            values = self._values.get(key)
            if values is None:
                continue
            if family.kind == "summary":
                summary = SummaryMetricFamily(family.name, family.help, labels=family.labels)
                for labels, value in values.items():
                    summary.add_metric(labels, count_value=self._counts[labels], sum_value=value)
                yield summary
                continue
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = kind(family.name, family.help, labels=family.labels)
            for labels, value in values.items():
                metric.add_metric(labels, value)
            yield metric


def described(prefix: str | tuple[str, ...]) -> Iterator[Metric]:
    """Names without samples, so that a registry detects two collectors of the same metrics."""
    for key, family in FAMILIES.items():
        if key.startswith(prefix):
            yield Metric(family.name.removesuffix("_total"), family.help, family.kind)
