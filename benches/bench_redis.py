"""Speed through Redis on the enriched feed: ratios of processor time to hand-written ways in the same run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from redis.asyncio import Redis

from benches.bench_speed import Case, case, exactly, measure
from benches.by_hand import HandWrittenRows, read_rows
from benches.pairs import TIMER
from benches.results import Result
from snapdelta import EmbeddedServer, RedisStreamManager, SnapshotManager, SnapshotMirror, SnapshotReader

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    HandIn = Callable[[Result], None]

pytestmark = pytest.mark.benchmark(timer=TIMER)

_JSON = "json"
_ROW = {"symbol": "AAPL", "price": 187.25, "volume": 1_234_567, "time": "2026-03-02T14:30:00.000Z"}
_WRITES = 200


class Bed:
    """A server, a client and an event loop that runs one call after the other."""

    def __init__(self, runner: asyncio.Runner, redis: Redis) -> None:
        self.run = runner.run
        self.redis = redis
        self.case: Case = case("rebuilt")

    async def set_json(self) -> None:
        await self.redis.set(_JSON, orjson.dumps(self.case.curr))

    async def rows(self, key: str) -> Any:
        return await self.redis.hgetall(key)

    async def length(self, stream: str) -> int:
        return await self.redis.xlen(stream)

    async def read_json(self) -> Any:
        text: Any = await self.redis.get(_JSON)
        return orjson.loads(text)


@pytest.fixture
def bed() -> Iterator[Bed]:
    with EmbeddedServer() as server, asyncio.Runner() as runner:
        redis = Redis.from_url(server.url)
        yield Bed(runner, redis)
        runner.run(redis.aclose())


def test_save(benchmark: BenchmarkFixture, hand_in: HandIn, bed: Bed) -> None:
    """A delta, with its encoding in a thread; the frame is read back before it is sent."""
    manager = SnapshotManager(bed.redis)
    reader = SnapshotReader(bed.redis)
    for snapshot in (bed.case.prev, bed.case.curr):
        bed.run(manager.save_snapshot(snapshot))
        latest = bed.run(reader.latest())
        assert latest is not None
        assert exactly(latest.snapshot, snapshot)
    measure(
        benchmark,
        hand_in,
        "SnapshotManager.save_snapshot",
        bed.case,
        lambda: bed.run(manager.save_snapshot(bed.case.curr)),
        lambda: bed.run(bed.set_json()),
        "orjson.dumps, SET",
        None,
        prepare=lambda: bed.run(manager.save_snapshot(bed.case.prev)),
    )
    bed.run(manager.close())


def test_restart(benchmark: BenchmarkFixture, hand_in: HandIn, bed: Bed) -> None:
    """The first save of a new manager: it reads the state before, and writes a delta and a full frame."""

    async def first_save(snapshot: dict[str, Any]) -> str | None:
        async with SnapshotManager(bed.redis) as manager:
            return (await manager.save_snapshot(snapshot))["reason"]

    assert bed.run(first_save(bed.case.prev)) == "first"
    assert bed.run(first_save(bed.case.curr)) == "handover"
    measure(
        benchmark,
        hand_in,
        "first save of a new SnapshotManager",
        bed.case,
        lambda: bed.run(first_save(bed.case.curr)),
        lambda: bed.run(bed.set_json()),
        "orjson.dumps, SET",
        None,
        prepare=lambda: bed.run(first_save(bed.case.prev)),
    )


def test_latest(benchmark: BenchmarkFixture, hand_in: HandIn, bed: Bed) -> None:
    """A late reader: a full frame and a delta, and the dicts."""

    async def save() -> None:
        async with SnapshotManager(bed.redis) as manager:
            for snapshot in (bed.case.prev, bed.case.curr):
                await manager.save_snapshot(snapshot)

    bed.run(save())
    bed.run(bed.set_json())
    reader = SnapshotReader(bed.redis)
    latest = bed.run(reader.latest())
    assert latest is not None
    assert exactly(latest.snapshot, bed.case.curr)
    measure(
        benchmark,
        hand_in,
        "SnapshotReader.latest",
        bed.case,
        lambda: bed.run(SnapshotReader(bed.redis).latest()),
        lambda: bed.run(bed.read_json()),
        "GET, orjson.loads",
        None,
    )


def test_mirror(benchmark: BenchmarkFixture, hand_in: HandIn, bed: Bed) -> None:
    """All rows written anew from the newest state, beside a hash that is written by hand."""

    async def save() -> None:
        async with SnapshotManager(bed.redis) as manager:
            await manager.save_snapshot(bed.case.curr)

    async def by_hand() -> None:
        pipeline = bed.redis.pipeline(transaction=False)
        rows = HandWrittenRows("rows")
        rows.add_to(pipeline, *rows.changes(bed.case.curr))
        await pipeline.execute()

    bed.run(save())
    mirror = SnapshotMirror(bed.redis)
    bed.run(mirror.sync())
    bed.run(by_hand())
    mirrored = bed.run(bed.rows(mirror.rows_key))
    assert exactly({s: orjson.loads(mirrored[s.encode()]) for s in bed.case.curr}, bed.case.curr)
    assert exactly(bed.run(read_rows(bed.redis, "rows")), bed.case.curr)
    measure(
        benchmark,
        hand_in,
        "SnapshotMirror.sync",
        bed.case,
        lambda: bed.run(mirror.sync()),
        lambda: bed.run(by_hand()),
        "orjson.dumps of each record, HSET",
        None,
    )


def test_xadd(benchmark: BenchmarkFixture, hand_in: HandIn, bed: Bed) -> None:
    """200 writes under a policy, beside 200 of redis-py with MAXLEN."""
    streams = RedisStreamManager(bed.redis)

    async def ours() -> None:
        for _ in range(_WRITES):
            await streams.xadd("ours", _ROW)

    async def theirs() -> None:
        for _ in range(_WRITES):
            await bed.redis.xadd("theirs", _ROW, maxlen=1000)  # type: ignore[arg-type]

    for write, name in ((ours, "ours"), (theirs, "theirs")):
        bed.run(write())
        assert bed.run(bed.length(name)) == _WRITES
    measure(
        benchmark,
        hand_in,
        f"RedisStreamManager.xadd, {_WRITES} entries",
        bed.case,
        lambda: bed.run(ours()),
        lambda: bed.run(theirs()),
        "redis-py's xadd",
        None,
    )
