"""The background task: it finds what others write, keeps its intervals, and outlives every fault."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from snapdelta.errors import (
    StreamAccessError,
    StreamMemoryError,
    StreamTypeError,
    StreamUnavailableError,
)
from snapdelta.redis_stream_manager import RedisStreamManager, StreamPolicy, TrimReport
from support.servers import AsyncClient, Cluster, Deployment, Server, on_one_server, patience
from support.stream_harness import Looks, fill, ids_of, manager, quick, until

NODE = 100


def _said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


# --- what it looks at


async def test_a_producer_without_a_manager_is_bounded(redis: AsyncClient) -> None:
    looks = Looks()
    async with manager(redis, {"named": quick(maxlen=100), "found:*": quick(maxlen=100)}, on_trim=looks):
        for _ in range(3):
            for stream in ("named", "found:a"):
                await fill(redis, stream, 5000)
            for stream in ("named", "found:a"):
                # One interval after the last write it is within its bound.
                await looks.more(stream)
                assert 100 <= await redis.xlen(stream) <= 100 + NODE


async def test_only_configured_streams_are_touched(redis: AsyncClient) -> None:
    looks = Looks()
    for stream in ("mine:a", "other", "{tag}mine:b"):
        await fill(redis, stream, 3000)
    await redis.set("mine:text", "not a stream")
    async with manager(redis, {"mine:*": quick(maxlen=10, approximate=False)}, on_trim=looks) as streams:
        await looks.more("mine:a")
        await until(lambda: streams.stats().counters.discoveries > 2)
        assert streams.health().ok
        assert streams.stats().counters.streams_discovered == 1
    lengths = {name: await redis.xlen(name) for name in ("mine:a", "other", "{tag}mine:b")}
    assert lengths == {"mine:a": 10, "other": 3000, "{tag}mine:b": 3000}


async def test_discover_opts_in_to_the_rest(redis: AsyncClient) -> None:
    looks = Looks()
    for number in range(30):
        await fill(redis, f"s:{number}", 50)
    default = quick(maxlen=10, approximate=False)
    async with manager(redis, default=default, discover="s:1*", on_trim=looks):
        await until(lambda: len({report.stream for report in looks.reports}) == 11)
        await looks.more("s:1")
    assert await redis.xlen("s:1") == await redis.xlen("s:19") == 10
    assert await redis.xlen("s:2") == 50


async def test_no_pattern_no_scan(server: Server) -> None:
    async with server.client() as redis:
        looks = Looks()
        server.execute("CONFIG", "RESETSTAT")
        async with manager(redis, {"s": quick()}, discover_interval=0.01, on_trim=looks) as streams:
            await looks.more("s", 3)
            assert streams.stats().counters.discoveries == 0
        with server.admin() as client:
            assert "cmdstat_scan" not in client.info("commandstats")


async def test_each_stream_has_its_interval(server: Server) -> None:
    async with server.client() as redis:
        looks = Looks()
        policies = {"often": quick(trim_interval=0.05), "seldom": quick(trim_interval=0.5)}
        async with manager(redis, policies, on_trim=looks):
            await looks.more("seldom", 3)
        # 10 to 1, with jitter and a machine that does other work.
        assert len(looks.of("often")) > 3 * len(looks.of("seldom"))


async def test_streams_that_go_are_forgotten_and_those_that_come_back_are_found(redis: AsyncClient) -> None:
    looks = Looks()
    async with manager(redis, {"found:*": quick(maxlen=10, approximate=False)}, on_trim=looks) as streams:
        for _ in range(3):
            await fill(redis, "found:a", 100)
            await until(lambda: "found:a" in streams._streams)
            await looks.more("found:a")
            assert await redis.xlen("found:a") == 10
            await redis.delete("found:a")
            await until(lambda: streams.stats().streams == 0)
        assert streams.stats().counters.streams_discovered == 3


@on_one_server
async def test_a_backlog_goes_on_in_the_next_look_and_others_have_their_turn(server: Server) -> None:
    async with server.client() as redis:
        looks = Looks()
        await fill(redis, "large", 400_000)
        policies = {"large": StreamPolicy(maxlen=100), "small": quick(maxlen=10, trim_interval=0.001)}
        async with manager(redis, policies, on_trim=looks, time_budget=0.001):
            await until(lambda: any(report.finished for report in looks.of("large")))
        steps = looks.of("large")
        # Not once in 30 s, but on and on until it is done.
        assert len(steps) > 3
        assert await redis.xlen("large") <= 100 + NODE
        first, last = (looks.reports.index(report) for report in (steps[0], steps[-1]))
        assert any(report.stream == "small" for report in looks.reports[first:last])


async def test_a_byte_budget_is_looked_at_early_when_much_is_written(server: Server) -> None:
    async with server.client() as redis:
        looks = Looks()
        policy = StreamPolicy(maxlen=None, max_bytes=100_000, trim_interval=3600.0)
        async with manager(redis, {"s": policy}, on_trim=looks) as streams:
            await until(lambda: bool(looks.reports))
            for _ in range(100):
                await streams.xadd("s", {"f": b"x" * 5000})

            async def bounded() -> bool:
                # The budget, and the eighth of it that may be written between two looks.
                return (await redis.memory_usage("s", samples=0) or 0) < 100_000 * 1.2

            await until(bounded)
        # 500,000 bytes, an eighth of the budget at a time; the interval alone would be one look.
        assert len(looks.reports) > 5


# --- life


async def test_start_and_stop_are_idempotent(server: Server) -> None:
    async with server.client() as redis:
        looks = Looks()
        streams = manager(redis, {"s": quick()}, on_trim=looks)
        await streams.stop()
        for _ in range(2):
            await streams.start()
            await streams.start()
            tasks = [task for task in asyncio.all_tasks() if task.get_name() == "snapdelta-trim"]
            assert len(tasks) == 1
            await looks.more("s")
            await streams.stop()
            await streams.stop()
            assert tasks[0].done()
            assert not streams.health().running
            count = len(looks.reports)
            await asyncio.sleep(0.3)
            assert len(looks.reports) == count
        assert await streams.xadd("s", {"n": 1})


@on_one_server
async def test_stop_during_a_trim(server: Server) -> None:
    async with server.client() as redis:
        await fill(redis, "s", 1_000_000)
        streams = manager(redis, {"s": quick(keep_unread=True, hard_maxlen=10_000_000)}, time_budget=60.0)
        await streams.start()
        await until(lambda: streams.stats().counters.entries_trimmed > 0)
        await streams.stop()
        assert not streams.health().running
        counters, left = streams.stats().counters, await redis.xlen("s")
        assert 0 < left < 1_000_000
        # What was removed until then was counted: a script that was under way may have removed one step more.
        assert 0 <= 1_000_000 - left - counters.entries_trimmed <= 10_000
        assert await redis.ping()


async def test_stop_while_the_server_is_away(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    async with server.client() as redis:
        looks = Looks()
        streams = manager(redis, {"s": quick(), "found:*": quick()}, on_trim=looks)
        await streams.start()
        await looks.more("s")
        server.kill()
        for pause in (0.0, 0.4, 1.5):
            # While it connects, while redis-py waits to try again, while the task waits.
            await asyncio.sleep(pause)
            async with asyncio.timeout(30):
                await streams.stop(time_limit=1.0)
            assert not streams.health().running
            await streams.start()
        await streams.stop()


async def test_stop_while_the_server_hangs(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    async with server.client() as redis:
        looks = Looks()
        streams = manager(redis, {"s": quick()}, on_trim=looks, command_timeout=600.0)
        await streams.start()
        await looks.more("s")
        server.pause()
        count = len(looks.reports)
        await asyncio.sleep(0.3)
        try:
            # The limit is for a test that has failed; the command alone would wait for 600 s.
            async with asyncio.timeout(30):
                await streams.stop(time_limit=1.0)
        finally:
            server.resume()
        assert not streams.health().running
        assert len(looks.reports) <= count + 1
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "snapdelta-trim"]


async def test_a_cancelled_stop_leaves_no_task_behind(server: Server) -> None:
    async with server.client() as redis:
        started = asyncio.Event()

        async def hang(report: TrimReport) -> None:
            started.set()
            await asyncio.sleep(600)

        streams = manager(redis, {"s": quick()}, on_trim=hang, command_timeout=600.0)
        await streams.start()
        await started.wait()
        stopping = asyncio.create_task(streams.stop())
        await asyncio.sleep(0.05)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        await until(lambda: not streams.health().running)


async def test_a_task_cancelled_by_others_is_told_and_starts_again(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with server.client() as redis:
        looks = Looks()
        async with manager(redis, {"s": quick()}, on_trim=looks) as streams:
            await looks.more("s")
            (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "snapdelta-trim"]
            task.cancel()
            await asyncio.wait({task})
            health = streams.health()
            assert not health.ok
            assert "cancelled from outside" in (health.last_error or "")
            assert _said(caplog, "cancelled from outside") == 1
            await streams.start()
            await looks.more("s")
            assert streams.health().ok


# --- faults


@pytest.mark.parametrize("outage", [1.5, pytest.param(60.0, marks=pytest.mark.long)])
@pytest.mark.parametrize("empty", [False, True])
async def test_the_server_goes_and_comes_back(
    fresh_server: Callable[..., Server], caplog: pytest.LogCaptureFixture, outage: float, empty: bool
) -> None:
    caplog.set_level(logging.INFO, "snapdelta.streams")
    server = fresh_server(persist=True)
    policies = {f"s{number}": quick(maxlen=10, approximate=False) for number in range(20)}
    async with server.client() as redis:
        looks = Looks()
        async with manager(redis, {**policies, "found:*": quick()}, on_trim=looks) as streams:
            await fill(redis, "s0", 50)
            await looks.more("s0")
            before = streams.health()
            assert (before.ok, before.last_error, before.failing) == (True, None, {})
            server.kill()
            await until(lambda: "the server" in streams.health().failing)
            await asyncio.sleep(outage)
            down = streams.health()
            assert down.running
            assert down.last_error is not None
            assert down.last_error_at is not None
            assert down.next_run is not None
            with pytest.raises(StreamUnavailableError, match="'s0'"):
                await streams.xadd("s0", {"n": 1})
            # Once for the server and once for the search, however many streams and tries.
            assert _said(caplog, "the server: StreamUnavailableError") == 1
            assert _said(caplog, "the search for streams") <= 1
            server.restart(empty=empty)
            await until(lambda: streams.health().ok)
            await fill(redis, "s0", 50)
            await looks.more("s0")
            assert await redis.xlen("s0") == 10
            assert _said(caplog, "the server: recovered") == 1
            assert streams.health().last_success is not None
            assert await streams.xadd("s0", {"n": 1})


async def test_a_server_that_hangs_is_left_after_the_time_limit(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    async with server.client() as redis:
        looks = Looks()
        async with manager(
            redis, {"s": quick(maxlen=5)}, on_trim=looks, command_timeout=patience(0.3)
        ) as streams:
            await looks.more("s")
            server.pause()
            try:
                await until(lambda: "did not answer" in (streams.health().last_error or ""))
            finally:
                server.resume()
            await until(lambda: streams.health().ok)
            await looks.more("s")


async def test_a_stream_replaced_by_another_type(
    redis: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "snapdelta.streams")
    looks = Looks()
    async with manager(redis, {"s": quick(maxlen=5), "t": quick(maxlen=5)}, on_trim=looks) as streams:
        await streams.xadd("s", {"n": 1})
        await looks.more("s")
        await redis.delete("s")
        await redis.set("s", "text")
        await until(lambda: "stream 's'" in streams.health().failing)
        for call in (
            streams.xadd("s", {"n": 1}),
            streams.xadd_many("s", [{"n": 1}] * 3),
            streams.trim("s"),
            streams.info("s"),
        ):
            with pytest.raises(StreamTypeError, match=r"'s'.*another type"):
                await call
        # The others are not held up.
        await looks.more("t", 3)
        assert await redis.get("s") == b"text"
        assert _said(caplog, "stream 's': StreamTypeError") == 1
        await redis.delete("s")
        await until(lambda: streams.health().ok)
        assert _said(caplog, "stream 's': recovered") == 1


async def test_a_found_stream_replaced_by_another_type_is_forgotten(redis: AsyncClient) -> None:
    looks = Looks()
    await fill(redis, "found:a", 5)
    async with manager(redis, {"found:*": quick()}, on_trim=looks) as streams:
        await looks.more("found:a")
        await redis.delete("found:a")
        await redis.set("found:a", "text")
        await until(lambda: streams.stats().streams == 0)
        assert streams.health().failing == {}
    assert await redis.get("found:a") == b"text"


async def test_whatever_goes_wrong_is_logged_once_and_outlived(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with server.client() as redis:
        looks = Looks()
        async with manager(redis, {"bad": quick(), "good": quick()}, on_trim=looks) as streams:
            # A fault that nothing foresees: no key to send.
            streams._streams["bad"].key = None  # type: ignore[assignment]
            await looks.more("good", 5)
            assert list(streams.health().failing) == ["stream 'bad'"]
            assert _said(caplog, "stream 'bad': ") == 1
            streams._streams["bad"].key = b"bad"
            await until(lambda: streams.health().ok)


async def test_a_wrong_type_under_keep_unread(redis: AsyncClient) -> None:
    await redis.set("s", "text")
    streams = RedisStreamManager(redis, {"s": StreamPolicy(keep_unread=True)})
    with pytest.raises(StreamTypeError):
        await streams.xadd("s", {"n": 1})
    with pytest.raises(StreamTypeError):
        await streams.trim("s")
    assert await redis.get("s") == b"text"


@pytest.mark.parametrize("keep_unread", [False, True])
async def test_out_of_memory(fresh_server: Callable[..., Server], keep_unread: bool) -> None:
    for kind in ("valkey-9.1", "redis-6.2", "redis-8.2"):
        server = fresh_server(kind, maxmemory_policy="noeviction")
        async with server.client() as redis:
            looks = Looks()
            policies = {
                "s": quick(maxlen=10, keep_unread=keep_unread),
                "t": quick(maxlen=10, approximate=False),
            }
            async with manager(redis, policies, on_trim=looks) as streams:
                await fill(redis, "t", 3000, 100)
                server.config_set("maxmemory", 1)
                with pytest.raises(StreamMemoryError, match=r"'s'.*maxmemory"):
                    await streams.xadd("s", {"n": 1})
                with pytest.raises(StreamMemoryError) as raised:
                    await streams.xadd_many("s", [{"n": 1}] * 3)
                assert raised.value.ids == [None] * 3
                # Trimming is what helps now, and it goes on.
                await looks.more("t")
                assert await redis.xlen("t") == 10
                server.config_set("maxmemory", 0)
                assert await streams.xadd("s", {"n": 1})
                counters = streams.stats().counters
                assert (counters.entries_written, counters.write_errors) == (1, 2)


async def test_some_rows_refused(server: Server) -> None:
    async with server.client() as redis:
        streams = RedisStreamManager(redis, {"s": StreamPolicy(keep_unread=True)})
        await redis.xadd("s", {"n": 1}, id="18446744073709551615-18446744073709551614")
        # One more id is left.
        with pytest.raises(StreamAccessError) as raised:
            await streams.xadd_many("s", [{"n": 1}] * 3)
        assert [item is None for item in raised.value.ids] == [False, True, True]
        counters = streams.stats().counters
        assert (counters.entries_written, counters.write_errors) == (1, 1)


async def test_a_read_only_replica(fresh_server: Callable[..., Server]) -> None:
    master, replica = fresh_server(), fresh_server()
    async with replica.client() as redis:
        looks = Looks()
        async with manager(redis, {"s": quick(maxlen=10)}, on_trim=looks) as streams:
            await looks.more("s")
            replica.replicate(master)
            await until(lambda: not streams.health().ok)
            assert "read only" in (streams.health().last_error or "").lower()
            with pytest.raises(StreamAccessError, match="read only"):
                await streams.xadd("s", {"n": 1})
            replica.replicate(None)
            await until(lambda: streams.health().ok)


@pytest.mark.parametrize("kind", ["plain", "coroutine", "hanging"])
async def test_a_failing_callback(server: Server, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    calls = 0

    def plain(report: TrimReport) -> None:
        nonlocal calls
        calls += 1
        raise ZeroDivisionError("the callback's own")

    async def coroutine(report: TrimReport) -> None:
        plain(report)

    async def hanging(report: TrimReport) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(600)

    callbacks: dict[str, Any] = {"plain": plain, "coroutine": coroutine, "hanging": hanging}
    async with server.client() as redis:
        await fill(redis, "s", 500)
        async with manager(
            redis,
            {"s": quick(maxlen=5, approximate=False)},
            on_trim=callbacks[kind],
            command_timeout=patience(0.5),
        ) as streams:
            await until(lambda: streams.stats().counters.callback_errors >= 4)
            health = streams.health()
            assert health.running
            assert "the callback on_trim" in health.failing
            assert streams.stats().counters.trims >= calls - 1
        assert await redis.xlen("s") == 5
    assert _said(caplog, "the callback on_trim") == 1


@pytest.mark.parametrize("keep_unread", [False, True])
async def test_cancelled_inside_xadd(server: Server, keep_unread: bool) -> None:
    async with server.client(max_connections=50) as redis:
        streams = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=10_000, keep_unread=keep_unread)})
        await streams.xadd("s", {"n": 1})
        told = 0
        for number in range(400):
            writing = asyncio.create_task(streams.xadd("s", {"n": number}))
            for _ in range(number % 8):
                await asyncio.sleep(0)
            await asyncio.sleep(number % 5 * 0.0001)
            writing.cancel()
            results = await asyncio.gather(writing, return_exceptions=True)
            result: object = results[0]
            told += isinstance(result, asyncio.CancelledError)
            assert isinstance(result, (bytes, asyncio.CancelledError))
        assert told > 10
        # Whatever was cut off, the next answer belongs to the next command.
        entry = await streams.xadd("s", {"n": "last"})
        ((last, fields),) = await redis.xrevrange("s", count=1) or []
        assert (last, fields) == (entry, {b"n": b"last"})
        written = streams.stats().counters.entries_written
        assert 2 <= written <= await redis.xlen("s") <= 402


@on_one_server
@pytest.mark.parametrize("policy", [{"approximate": False}, {"keep_unread": True, "hard_maxlen": 1_000_000}])
async def test_cancelled_inside_trim(server: Server, policy: dict[str, Any]) -> None:
    async with server.client(max_connections=50) as redis:
        await fill(redis, "s", 300_000)
        await redis.xgroup_create("s", "g", id="$")
        full = {"max_age": 3600.0, "max_bytes": 50_000, **policy}
        streams = RedisStreamManager(redis, {"s": StreamPolicy(**full)})
        for number in range(100):
            trimming = asyncio.create_task(streams.trim("s"))
            for _ in range(number):
                await asyncio.sleep(0)
            trimming.cancel()
            results = await asyncio.gather(trimming, return_exceptions=True)
            assert not isinstance(results[0], Exception)
        report = await streams.trim("s")
        assert (report.finished, report.length <= 1000) == (True, True)
        counters = streams.stats().counters
        assert counters.trim_errors == 0
        assert counters.entries_trimmed <= 300_000 - report.length


async def test_cancelled_inside_xadd_many(server: Server) -> None:
    async with server.client(max_connections=50) as redis:
        streams = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=1_000_000)})
        for number in range(40):
            writing = asyncio.create_task(streams.xadd_many("s", [{"n": number}] * 50))
            await asyncio.sleep(number * 0.0002)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        ids = await streams.xadd_many("s", [{"n": "last"}] * 3)
        assert (await ids_of(redis, "s"))[-3:] == ids
        # In whole pipelines or not at all.
        length = await redis.xlen("s")
        assert (length - 3) % 50 == 0
        assert 3 <= streams.stats().counters.entries_written <= length


async def test_one_master_of_a_cluster_gone(
    deployments: Callable[[str], Deployment], caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster("valkey-9.1").start()
    try:
        for node in cluster.nodes:
            node.config_set("cluster-require-full-coverage", "no")
        names = {cluster.node_of(f"s{number}").port: f"s{number}" for number in range(30)}
        gone, stays = cluster.nodes[2], cluster.nodes[0]
        async with cluster.client() as redis:
            looks = Looks()
            policies = {name: quick(maxlen=10, approximate=False) for name in names.values()}
            async with manager(redis, policies, on_trim=looks, command_timeout=patience(0.5)) as streams:
                await looks.more(names[gone.port])
                gone.kill()
                await until(lambda: not streams.health().ok)
                await fill(redis, names[stays.port], 50)
                await looks.more(names[stays.port])
                assert await redis.xlen(names[stays.port]) == 10
                assert any("server" in place for place in streams.health().failing)
                gone.start()
                await until(lambda: streams.health().ok)
                await looks.more(names[gone.port])
    finally:
        cluster.close()


async def test_slots_move_while_it_runs(deployments: Callable[[str], Deployment]) -> None:
    cluster = deployments("cluster-redis-8.2")
    assert isinstance(cluster, Cluster)
    cluster.reset()
    async with cluster.client() as redis:
        looks = Looks()
        policy = quick(maxlen=10, approximate=False)
        async with manager(redis, {"s": policy, "found:*": policy}, on_trim=looks) as streams:
            for _ in range(3):
                await streams.xadd_many("s", [{"n": n} for n in range(50)])
                await fill(redis, "found:a", 50)
                for stream in ("s", "found:a"):
                    await asyncio.to_thread(cluster.move_slot_of, stream)
                    await streams.xadd(stream, {"n": 1})
                    await looks.more(stream)
                    assert await redis.xlen(stream) == 10
            await until(lambda: streams.health().ok)
