"""The metrics of a TimescaleDB: of a sound one, and of one whose jobs stand still."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from snapdelta.metrics import FAMILIES, TimescaleCollector
from snapdelta.metrics.timescale import samples_of
from snapdelta.timescale.catalog import collect
from support.promtool import promtool
from timescale.conftest import Database
from timescale.test_standstill import STATISTICS
from timescale.test_verify import planting, sound

__all__ = ["sound"]  # the fixture

DAY = 86_400.0
Values = dict[tuple[str, ...], float]


def values(sound: Database, *statements: str) -> dict[str, Values]:
    """The samples by metric and labels, once the state was planted."""
    with planting(sound) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        metrics = samples_of(collect(connection)).metrics()
        return {
            metric.name: {tuple(sample.labels.values()): sample.value for sample in metric.samples}
            for metric in metrics
        }


def test_a_sound_database(sound: Database) -> None:
    found = values(sound)
    assert set(found) == {family.name for key, family in FAMILIES.items() if key.startswith("timescale")}
    assert found["snapdelta_timescale_up"] == {(): 1}
    assert not any(found["snapdelta_timescale_job_failing"].values())
    oldest = found["snapdelta_timescale_oldest_row_age_seconds"]
    retention = found["snapdelta_timescale_retention_seconds"]
    chunk = found["snapdelta_timescale_chunk_seconds"]
    assert retention["scan_results",] == pytest.approx(3 * DAY, rel=0.05)
    for relation in retention.keys() & chunk.keys() & oldest.keys():
        assert oldest[relation] <= retention[relation] + chunk[relation], relation
    ages = found["snapdelta_timescale_job_last_success_age_seconds"]
    for job, every in found["snapdelta_timescale_job_schedule_seconds"].items():
        assert ages[job] <= 3 * every + 300, job
    assert found["snapdelta_timescale_size_bytes"]["scan_results",] > 0
    assert found["snapdelta_timescale_newest_row_age_seconds"]["scan_results_1min",] < DAY


def test_a_job_that_stands_still_and_one_that_failed(sound: Database) -> None:
    job = ("scan_results", "policy_compression")
    still = values(sound, STATISTICS.format("last_successful_finish = now() - interval '40 days'"))
    age = still["snapdelta_timescale_job_last_success_age_seconds"][job]
    assert age == pytest.approx(40 * DAY, rel=0.01)
    assert age > 3 * still["snapdelta_timescale_job_schedule_seconds"][job] + 300
    failed = values(sound, STATISTICS.format("last_run_success = false"))
    assert failed["snapdelta_timescale_job_failing"][job] == 1


def test_a_scrape_reads_the_database(sound: Database) -> None:
    registry = CollectorRegistry()
    TimescaleCollector(sound.dsn, registry=registry)
    text = generate_latest(registry)
    assert b"snapdelta_timescale_up 1.0" in text
    promtool("check", "metrics", given=text)
