"""The ordinary life of snapshots on every server and cluster, with every kind of client; slots that move."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel
from redis._parsers import _AsyncHiredisParser, _AsyncRESP2Parser, _AsyncRESP3Parser
from redis.asyncio import RedisCluster

from snapdelta.errors import SnapshotHistoryError, SnapshotUnavailableError
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader
from support.assert_exact import assert_same
from support.market import Market
from support.servers import KINDS, AsyncClient, Cluster, Deployment
from support.snapshot_harness import LIMIT, Stage, Writer, keys_of, staged
from support.stream_harness import until

PARSERS = {
    ("hiredis", 2): _AsyncHiredisParser,
    ("hiredis", 3): _AsyncHiredisParser,
    ("python", 2): _AsyncRESP2Parser,
    ("python", 3): _AsyncRESP3Parser,
}


def client_with(deployment: Deployment, protocol: int, decode_responses: bool, parser: str) -> AsyncClient:
    client = deployment.client(protocol=protocol, decode_responses=decode_responses)
    kind = PARSERS[parser, protocol]
    # There is no other way to choose a parser, and none at all for a cluster's.
    if isinstance(client, RedisCluster):
        client.nodes_manager.connection_kwargs["parser_class"] = kind
        for node in client.nodes_manager.startup_nodes.values():
            node.connection_kwargs["parser_class"] = kind
    else:
        client.connection_pool.connection_kwargs["parser_class"] = kind
    return client


def parsers_of(client: AsyncClient) -> set[type]:
    """What really parses, of all connections."""
    if isinstance(client, RedisCluster):
        return {type(connection._parser) for node in client.get_nodes() for connection in node._connections}
    pool: Any = client.connection_pool
    return {type(each._parser) for each in (*pool._available_connections, *pool._in_use_connections)}


@pytest.mark.parametrize("parser", ["hiredis", "python"])
@pytest.mark.parametrize("decode_responses", [False, True], ids=["bytes", "decoded"])
@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
async def test_the_ordinary_life(
    deployment: Deployment, protocol: int, decode_responses: bool, parser: str
) -> None:
    clients: list[AsyncClient] = []

    def connect() -> AsyncClient:
        clients.append(client_with(deployment, protocol, decode_responses, parser))
        return clients[-1]

    async with Stage(connect, "ranking") as ranking, Stage(connect, "späte Liste: 2") as late:
        manager = SnapshotManager(ranking.client(), 1000.0, level=1)
        async with manager:
            writers = [_writer(manager, stage, n) for n, stage in enumerate((ranking, late))]
            for writer in writers:
                await writer.stage.follow()
                assert await writer.stage.reader().latest() is None
                with pytest.raises(SnapshotHistoryError):
                    await writer.stage.reader().at(0.0)
            await asyncio.gather(*(_life(writer) for writer in writers))
        assert not ranking.resyncs | late.resyncs
        for stage in (ranking, late):
            await _history(stage)
        for client in clients:
            assert parsers_of(client) <= {PARSERS[parser, protocol]}
        assert set().union(*map(parsers_of, clients)) == {PARSERS[parser, protocol]}


def _writer(manager: SnapshotManager, stage: Stage, number: int) -> Writer:
    market = stage.oracle.markets["A"] = Market("A", symbols=30 + 20 * number)
    return Writer(manager, market, stage)


async def _life(writer: Writer) -> None:
    stage = writer.stage
    # Who waits for the first save sees all from then on.
    results = [await writer.save()]
    await stage.together()
    results += await writer.saves(2)
    await stage.together()
    await stage.follow()
    results.append(await writer.save(force_full=True))
    await stage.follow()
    results += await writer.saves(3)
    await stage.together()
    await stage.join()
    assert [result["reason"] for result in results] == ["first", None, None, "forced", None, None, None]
    assert [result["sequence"] for result in results] == list(range(1, 8))
    assert len({result["epoch"] for result in results}) == 1


async def _history(stage: Stage) -> None:
    """Whoever looks back sees what who was there saw."""
    seen = stage.followers[0].seen
    reader = stage.reader()
    for moment in {each.timestamp for each in seen}:
        update = await reader.at(moment)
        stage.oracle.check(update)
        newest = max(each.id for each in seen if each.timestamp <= moment)
        assert (update.epoch, update.sequence) == newest
        assert update.timestamp == moment
        aware = datetime.fromtimestamp(moment, UTC)
        assert (await reader.at(aware)).digest == update.digest
    with pytest.raises(SnapshotHistoryError, match=stage.name):
        await reader.at(seen[0].timestamp - 1)
    assert await _replayed(stage, reader) == [each.id for each in seen]
    first, last = seen[2].timestamp, seen[-2].timestamp
    expected = [each.id for each in seen if first < each.timestamp <= last]
    assert (await _replayed(stage, reader, first, last))[1:] == expected


async def _replayed(stage: Stage, reader: SnapshotReader, *span: float) -> list[tuple[int, int]]:
    ids = []
    async for update in reader.replay(*span):
        stage.oracle.check(update)
        assert not update.resynced
        ids.append((update.epoch, update.sequence))
    return ids


# --- values


class Side(Enum):
    BUY = "B"
    SELL = "S"


class Ticker(BaseModel):
    price: Decimal
    side: Side
    at: datetime
    id: UUID
    tags: tuple[str, ...]
    halted: bool | None = None


NEW_YORK = ZoneInfo("America/New_York")
PLAIN: dict[str, Any] = {
    "int": 1,
    "float": 1.0,
    "bool": True,
    "none": None,
    "big": -(2**200),
    "zero": -0.0,
    "nan": float("nan"),
    "infinite": float("-inf"),
    "text": "späte Kurse \0 \U0001f4c8 \ud800",
    "bytes": bytes(range(256)),
    "list": [1, 1.0, (True, None, [])],
    "tuple": (),
    "date": date(2026, 3, 4),
    "time": time(9, 30, 0, 1, fold=1),
    "delta": timedelta(days=-1, microseconds=1),
    "decimal": Decimal("1.10"),
    "decimal-nan": Decimal("-sNaN12"),
    "uuid": UUID(int=7),
    "naive": datetime(2026, 3, 8, 2, 30),
    "utc": datetime(2026, 3, 4, 14, 30, tzinfo=UTC),
    "named": datetime(2026, 3, 4, tzinfo=timezone(timedelta(hours=-5), "EST")),
    "zone": datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK, fold=1),
    "a.b": {"c[0]": {}, "": 1},
    "a": {"b": 2},
}


async def test_every_type_survives(deployment: Deployment) -> None:
    """First in a full frame, then in deltas that change one value each."""
    ticker = Ticker(
        price=Decimal("187.120"), side=Side.SELL, at=PLAIN["utc"], id=UUID(int=9), tags=("a", "b")
    )
    dumped = ticker.model_dump()
    given: dict[str, Any] = {"plain": dict(PLAIN), "AAPL": dumped, "bare": Decimal("0E-7"), "MSFT": ticker}
    model = {**dumped, "side": "S"}
    wanted: dict[str, Any] = {**given, "AAPL": model, "MSFT": model}
    async with deployment.client(decode_responses=True) as redis, SnapshotManager(redis) as manager:
        reader = SnapshotReader(redis)
        await manager.save_snapshot(given)
        assert_same(await _newest(reader), wanted)
        values = list(PLAIN.values())
        for number, field in enumerate(PLAIN):
            change = {field: values[number - 1]}
            given = {**given, "plain": {**given["plain"], **change}}
            wanted = {**wanted, "plain": {**wanted["plain"], **change}}
            await manager.save_snapshot(given)
            assert_same(await _newest(reader), wanted)


async def _newest(reader: SnapshotReader) -> dict[str, Any]:
    latest = await reader.latest()
    assert latest is not None
    return latest.snapshot


# --- a cluster whose slots move


@pytest.fixture(params=list(KINDS))
def cluster(request: pytest.FixtureRequest, deployments: Any) -> Any:
    found = deployments(f"cluster-{request.param}")
    found.reset()
    yield found
    found.reset()


async def test_slots_move_while_a_writer_and_readers_run(cluster: Cluster) -> None:
    """Every save arrives somewhere, and nobody misses one."""
    async with staged(cluster.client, followers=3, command_timeout=LIMIT) as (stage, writer):
        running, count = True, 0

        async def write() -> None:
            nonlocal count
            while running:
                await writer.save()
                count += 1
                await asyncio.sleep(0.002)

        writing = asyncio.create_task(write())
        for _ in range(6):
            saved = count
            await asyncio.to_thread(cluster.move_slot_of, keys_of().head)
            await until(lambda: writing.done() or count > saved + 2)  # noqa: B023
        running = False
        await writing
        assert count > 10
        await stage.recover(writer)
        assert not stage.resyncs


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
async def test_a_slot_that_is_half_moved(cluster: Cluster, moved: int) -> None:
    """With some of the three keys here and some there no script can run: an error that passes."""
    async with staged(cluster.client, followers=2) as (stage, writer):
        slot = cluster.slot_of(keys_of().head)
        source = cluster.node_of(keys_of().head)
        target = next(node for node in cluster.nodes if node is not source)
        cluster.begin_move(slot, source, target)
        try:
            if moved:
                assert cluster.move_keys(slot, source, target, moved) == moved
            if 0 < moved < 3:
                with pytest.raises(SnapshotUnavailableError, match="default"):
                    await writer.save()
            else:
                assert (await writer.save())["type"] == "delta"
            await stage.nobody_is_misled()
        finally:
            while cluster.move_keys(slot, source, target):
                pass
            cluster.finish_move(slot, source, target)
        await stage.recover(writer)
        assert stage.resyncs <= ({"outcome_unknown"} if 0 < moved < 3 else set())


async def test_a_master_of_the_cluster_restarts_empty(cluster: Cluster) -> None:
    async with staged(cluster.client, followers=2) as (stage, writer):
        cluster.node_of(keys_of().head).execute("FLUSHALL")
        first, _ = await stage.recover(writer)
        assert first["reason"] == "head_lost"
        assert stage.resyncs == {"head_lost"}
