"""Metrics of a TimescaleDB: the data of `snapdelta migrate verify`, at most once a minute."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from snapdelta.errors import MigrationError
from snapdelta.metrics.families import Samples, described
from snapdelta.timescale.catalog import Catalog, collect
from snapdelta.timescale.connection import connect

log = logging.getLogger("snapdelta.timescale")


class TimescaleCollector(Collector):
    """The metrics of one database, in one registry.

    Args:
        dsn: as psycopg takes it; needs the extra `timescale`
        schema: where the tables are; None: the first of the role's search path
        registry: where to register; None: nowhere
        max_age: seconds for which it reuses a reading of the database

    A scrape reads the database: serve it from a thread (`start_http_server`), not from an event loop. A
    database that cannot be read is `snapdelta_timescale_up 0` and one WARNING.
    """

    def __init__(
        self,
        dsn: str,
        schema: str | None = None,
        *,
        registry: CollectorRegistry | None = REGISTRY,
        max_age: float = 60.0,
    ) -> None:
        self._dsn = dsn
        self._schema = schema
        self._max_age = max_age
        self._read_at: float | None = None
        self._samples = Samples()
        self._failing = False
        self._turn = threading.Lock()
        self._registry = registry
        if registry is not None:
            registry.register(self)

    def unregister(self) -> None:
        """Remove the metrics from the registry; a second call does nothing."""
        if self._registry is not None:
            self._registry.unregister(self)
            self._registry = None

    def describe(self) -> Iterator[Metric]:
        """All metrics without samples, for the registry."""
        return described("timescale")

    def collect(self) -> Iterator[Metric]:
        """The metrics of one scrape; reads the database at most once in `max_age` seconds."""
        with self._turn:
            if self._read_at is None or time.monotonic() - self._read_at >= self._max_age:
                self._samples = self._read()
                self._read_at = time.monotonic()
            return self._samples.metrics()

    def _read(self) -> Samples:
        try:
            with connect(self._dsn, self._schema) as connection:
                catalog = collect(connection)
        except MigrationError as error:
            if not self._failing:
                log.warning("no metrics: %s", error, extra={"event": "timescale_unread"})
            self._failing = True
            samples = Samples()
            samples.largest("timescale_up", 0)
            return samples
        self._failing = False
        return samples_of(catalog)


def samples_of(catalog: Catalog) -> Samples:
    """The metrics of the catalog; parts that this role may not read have none."""
    samples = Samples()
    samples.largest("timescale_up", 1)
    for job in catalog.jobs or ():
        labels = job.relation, job.procedure
        since = job.last_success or catalog.since(job.relation)
        if since is not None:
            age = max(0.0, (catalog.now - since).total_seconds())
            samples.largest("timescale_job_last_success_age_seconds", age, *labels)
        samples.largest("timescale_job_failing", job.last_status == "Failed", *labels)
        samples.largest("timescale_job_schedule_seconds", job.every.total_seconds(), *labels)
        retention = job.periods["drop_after"]
        if retention is not None:
            samples.largest("timescale_retention_seconds", retention.total_seconds(), job.relation)
    for name, relation in catalog.relations.items():
        samples.largest("timescale_size_bytes", relation.bytes_now, name)
        for end, moment in (("oldest", relation.oldest), ("newest", relation.newest)):
            if moment is not None:
                age = (catalog.now - moment).total_seconds()
                samples.largest(f"timescale_{end}_row_age_seconds", age, name)
        if relation.width is not None:
            # Chunks keep the width that they were made with.
            oldest = next((chunk.end - chunk.start for chunk in relation.chunks), relation.width)
            samples.largest("timescale_chunk_seconds", oldest.total_seconds(), name)
            uncompressed = sum(not chunk.compressed for chunk in relation.chunks)
            samples.largest("timescale_uncompressed_chunks", uncompressed, name)
    return samples
