"""What a registry gives out, against what really happened on a server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from snapdelta.errors import SnapshotRejectedError, SnapshotTypeError, UsageError, WriterSupersededError
from snapdelta.metrics import FAMILIES, MetricsCollector, TimescaleCollector
from snapdelta.redis_stream_manager import RedisStreamManager, StreamPolicy
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader
from snapdelta.snapshots.mirror import SnapshotMirror
from support.promtool import promtool
from support.servers import Server, on_one_server
from support.stream_harness import fill

Value = Callable[..., float | None]
POLICIES = {
    "raw": StreamPolicy(maxlen=50, max_bytes=100_000, approximate=False),
    "session:*": StreamPolicy(maxlen=1_000),
    "unread": StreamPolicy(maxlen=2, keep_unread=True, hard_maxlen=10),
}


def reading(registry: CollectorRegistry) -> Value:
    """One sample by its name without the prefix, and its labels."""
    return lambda metric, /, **labels: registry.get_sample_value(f"snapdelta_{metric}", labels)


@on_one_server
async def test_saves_and_reads_are_counted(server: Server) -> None:
    registry = CollectorRegistry()
    value = reading(registry)
    async with server.client() as redis, SnapshotManager(redis, min_symbols=1) as manager:
        reader = SnapshotReader(redis, "top")
        collector = MetricsCollector(manager, reader, registry=registry)
        assert value("saves_total", name="top", type="full") is None
        results: list[dict[str, Any]] = []
        for number in range(5):
            state = {"A": {"x": number}, "B": {"x": 1}}
            results.append(dict(await manager.save_snapshot(state, name="top")))
        for _ in range(2):
            with pytest.raises(SnapshotRejectedError):
                await manager.save_snapshot({}, name="top")
        update = await reader.latest()
        assert update is not None
        assert value("saves_total", name="top", type="full") == 1
        assert value("saves_total", name="top", type="delta") == 4
        assert value("save_failures_total", name="top") == 2
        assert value("snapshots_rejected_total", name="top", reason="min_symbols") == 2
        assert value("snapshots_rejected_total", name="top", reason="validate") == 0
        assert value("saved_bytes_total", name="top") == sum(each["compressed_size"] for each in results)
        for phase in ("capture", "encode", "write"):
            spent = sum(each[f"{phase}_ms"] for each in results) / 1e3
            assert value("save_duration_seconds_sum", name="top", phase=phase) == pytest.approx(spent)
            assert value("save_duration_seconds_count", name="top", phase=phase) == 5
        assert value("snapshot_symbols", name="top") == 2
        assert value("snapshot_chain_frames", name="top") == 4
        assert value("snapshot_save_interval_seconds", name="top") is not None
        assert value("reader_updates_total", name="top") == 1
        assert value("reader_records_total", name="top") == 0
        assert value("reader_past_states_total", name="top") == 0
        assert value("reader_lag_seconds", name="top") == update.lag
        assert value("reader_last_state_timestamp_seconds", name="top") == update.timestamp
        assert value("reader_resyncs_total", name="top", reason="takeover") == 0

        async with SnapshotManager(redis) as later:
            await later.save_snapshot({"A": {"x": 7}}, name="top")
            with pytest.raises(WriterSupersededError):
                await manager.save_snapshot({"A": {"x": 8}}, name="top")
            await reader.latest()
            assert value("writer_supersessions_total", name="top") == 1
            assert value("saves_total", name="top", type="full") == 1
            # The later writer goes on from the state before.
            assert value("reader_resyncs_total", name="top", reason="takeover") == 0
            await redis.delete("snapdelta:{top}:head")
            await later.save_snapshot({"A": {"x": 7}}, name="top")
            await reader.latest()
            assert value("reader_resyncs_total", name="top", reason="head_lost") == 1
            collector.add(later)
            # Of both managers.
            assert value("saves_total", name="top", type="full") == 3
            collector.remove(later)
        promtool("check", "metrics", given=generate_latest(registry))
        collector.unregister()
        assert generate_latest(registry) == b""


@on_one_server
async def test_streams_are_counted_by_policy(server: Server) -> None:
    registry = CollectorRegistry()
    value = reading(registry)
    async with server.client() as redis:
        streams = RedisStreamManager(redis, POLICIES)
        MetricsCollector(streams, registry=registry)
        assert value("stream_task_running") == 0
        assert value("stream_unread_dropped_total", policy="unread") == 0
        await fill(redis, "raw", 200)
        await streams.trim("raw")
        for number in range(3):
            await streams.xadd_many(f"session:{number}", [{"n": n} for n in range(10 * number + 1)])
            await streams.trim(f"session:{number}")
        await streams.xadd("other", {"n": 1})
        await redis.xgroup_create("unread", "slow", id="0", mkstream=True)
        await streams.xadd_many("unread", [{"n": n} for n in range(14)])
        await fill(redis, "unread", 5)
        await streams.trim("unread")
        assert value("stream_entries", policy="raw") == 50
        assert value("stream_trimmed_entries_total", policy="raw") == 150
        assert 0 < (value("stream_bytes", policy="raw") or 0) < 100_000
        assert value("stream_bound_ratio", policy="raw") == 1
        assert (value("streams", policy="session:*"), value("stream_entries", policy="session:*")) == (3, 33)
        assert value("stream_bound_ratio", policy="session:*") == pytest.approx(21 / 1_100)
        assert value("streams", policy="default") == 1
        # Written since, without a pass.
        assert value("stream_entries", policy="default") == 1
        assert value("stream_unread_dropped_total", policy="unread") == 4 + 5
        assert value("stream_bound_ratio", policy="unread") == 1
        assert value("stream_written_entries_total") == 33 + 1 + 14
        for _ in range(4):
            for n in range(100):
                await redis.xadd("session:2", {"n": n}, maxlen=50, approximate=False)
            await streams.trim("session:2")
        assert value("stream_foreign_trims", policy="session:*") == 1
        async with streams:
            await asyncio.sleep(0)
            assert value("stream_task_running") == 1
        promtool("check", "metrics", given=generate_latest(registry))


@on_one_server
async def test_mirrors_are_counted(server: Server) -> None:
    registry = CollectorRegistry()
    value = reading(registry)
    async with server.client() as redis, SnapshotManager(redis) as manager:
        mirror = SnapshotMirror(redis, "top")
        MetricsCollector(mirror, registry=registry)
        assert value("mirror_rebuilds_total", name="top") == 0
        assert value("mirror_last_state_timestamp_seconds", name="top") is None
        await manager.save_snapshot({"A": 1, "B": 22}, name="top")
        await mirror.sync()
        await redis.set("snapdelta:{top}:head", 1)
        with pytest.raises(SnapshotTypeError):
            await mirror.sync()
        assert value("mirror_rebuilds_total", name="top") == 1
        assert value("mirror_updates_total", name="top") == 0
        assert value("mirror_rows_written_total", name="top") == 2
        assert value("mirror_bytes_written_total", name="top") == 3
        assert value("mirror_last_state_timestamp_seconds", name="top") == mirror.stats().timestamp
        promtool("check", "metrics", given=generate_latest(registry))


def test_what_is_no_part_and_two_collectors_are_refused() -> None:
    registry = CollectorRegistry()
    MetricsCollector(registry=registry)
    with pytest.raises(ValueError, match="Duplicated"):
        MetricsCollector(registry=registry)
    with pytest.raises(UsageError, match="not a int"):
        MetricsCollector(5, registry=None)  # type: ignore[arg-type]


def test_a_database_that_is_away_is_a_metric() -> None:
    registry = CollectorRegistry()
    collector = TimescaleCollector("host=127.0.0.1 port=1 connect_timeout=2", registry=registry)
    assert registry.get_sample_value("snapdelta_timescale_up") == 0
    promtool("check", "metrics", given=generate_latest(registry))
    collector.unregister()
    collector.unregister()
    assert generate_latest(registry) == b""


def test_names_follow_the_conventions() -> None:
    for key, family in FAMILIES.items():
        assert family.name == f"snapdelta_{key}"
        assert key.endswith("_total") == (family.kind == "counter")


def test_without_the_extra_a_sentence_says_so() -> None:
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "import snapdelta\n"
        "try: import snapdelta.metrics\n"
        "except snapdelta.errors.MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "snapdelta-rs[metrics]" in done.stdout


@on_one_server
async def test_a_thread_may_read_while_streams_come_and_go(server: Server) -> None:
    async with server.client() as redis:
        streams = RedisStreamManager(redis, {"t:*": StreamPolicy(maxlen=5, trim_interval=1.0)})
        collector = MetricsCollector(streams, registry=CollectorRegistry())
        await streams.start()
        done = False

        def scrape() -> int:
            count = 0
            while not done:
                list(collector.collect())
                count += 1
            return count

        scraping = asyncio.create_task(asyncio.to_thread(scrape))
        try:
            for number in range(300):
                await streams.xadd(f"t:{number}", {"n": number})
        finally:
            done = True
            assert await scraping > 0
            await streams.stop()
