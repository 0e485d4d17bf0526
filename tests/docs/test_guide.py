"""What docs/guide/ shows runs; what it maps is there; the Spanish pages have the same code."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

import snapdelta.streams.registry as registry
from snapdelta import SnapshotManager, SnapshotReader, initialize_stream_manager
from snapdelta.errors import WriterSupersededError
from support.documents import ROOT, blocks, run
from support.servers import Server
from support.stream_harness import until
from support.uvicorn import get, serving

GUIDE = sorted((ROOT / "docs/guide").glob("*.md"))
SPANISH = ROOT / "docs/es"
# Ends a test that has failed.
_LIMIT = 120.0
_FEED = """
async def fetch_market():
    return {"AAPL": {"price": 187.12}, "NVDA": {"price": 131.2}}
"""


@pytest.fixture
def server(fresh_server: Callable[..., Server]) -> Server:
    return fresh_server()


@pytest.fixture(autouse=True)
def _no_manager_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_manager", None)


def code(document: str, server: Server) -> list[str]:
    return [block.replace("Redis()", f"Redis(port={server.port})") for block in blocks(document, "python")]


async def test_data_ingest_in_uvicorn(server: Server, tmp_path: Path) -> None:
    (tmp_path / "my_feed.py").write_text(_FEED)
    (tmp_path / "app.py").write_text(code("docs/guide/data_ingest.md", server)[0])
    with serving(tmp_path, "app") as (process, port):
        async with server.client() as redis:
            async with asyncio.timeout(_LIMIT):
                update = await anext(SnapshotReader(redis, "market").follow())
            assert list(update.snapshot) == ["AAPL", "NVDA"]
            assert await get(port, "/health") == (200, {"status": "ok", "reasons": []})
            # Another process takes the name over, and the service says so.
            async with SnapshotManager(redis) as rival:
                await rival.save_snapshot({"AAPL": {"price": 1.0}}, name="market")

                async def superseded() -> bool:
                    status, body = await get(port, "/health")
                    return status == 503 and "taken" in body["reasons"][0]

                await until(superseded, _LIMIT)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, _LIMIT) in (0, -signal.SIGTERM)


async def test_one_writer_of_many(server: Server) -> None:
    names = await run(code("docs/guide/data_ingest.md", server)[1], "docs/guide/data_ingest.md")
    as_only_writer = names["as_only_writer"]
    reasons: list[str | None] = []
    writing: list[asyncio.Task[Any]] = []
    async with server.client() as redis:

        async def work() -> None:
            task = asyncio.current_task()
            assert task is not None
            writing.append(task)
            async with SnapshotManager(redis) as manager:
                for number in range(10_000):
                    result = await manager.save_snapshot({"A": {"x": number}}, name="market")
                    if not number:
                        reasons.append(result["reason"])
                    await asyncio.sleep(0.01)

        workers = [asyncio.create_task(as_only_writer(redis, "market", work)) for _ in range(3)]
        for number in range(3):
            await until(lambda: len(writing) > number)  # noqa: B023
            await asyncio.sleep(0.2)
            assert len(writing) == number + 1
            # It dies, and the next takes its turn.
            writing[-1].cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    assert reasons == ["first", "handover", "handover"]


async def test_the_scanner(server: Server) -> None:
    document = "docs/guide/scanner.md"
    scanning, newest = code(document, server)
    names = await run(scanning, document)
    await run(newest, document, names)
    redis = names["redis"]
    initialize_stream_manager(redis)
    market = {
        f"S{number}": {"score": float(number), "gap_percent": number % 7, "rvol": number % 5}
        for number in range(100)
    }
    scan = asyncio.create_task(names["scan"]())
    async with SnapshotManager(redis) as manager:
        await manager.save_snapshot(market, name="market")
        async with asyncio.timeout(_LIMIT):
            ranking = await anext(SnapshotReader(redis, "ranking").follow())
            assert next(iter(ranking.snapshot)) == "S99"
            gappers = SnapshotReader(redis, "gappers").follow()
            assert len((await anext(gappers)).snapshot) == 50
            await manager.save_snapshot({**market, "NEW": market["S1"]}, name="market")

            async def listed() -> bool:
                return bool(await redis.xlen("events:session") == 1)

            await until(listed, _LIMIT)
        scan.cancel()
        # The other way, in the place of the first.
        newest_scan = asyncio.create_task(names["scan_newest"](0.01))
        market["S1"]["gap_percent"] = 1_000
        await manager.save_snapshot(market, name="market")
        async with asyncio.timeout(_LIMIT):
            while next(iter((await anext(gappers)).snapshot)) != "S1":
                pass
    newest_scan.cancel()
    await asyncio.gather(scan, newest_scan, return_exceptions=True)
    await names["manager"].close()
    await redis.aclose()


async def test_analytics_in_two_workers(server: Server, tmp_path: Path) -> None:
    (tmp_path / "analytics.py").write_text(code("docs/guide/analytics.md", server)[0])
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot({"A": {"x": 1}, "B": {"x": 2}}, name="ranking")
        with serving(tmp_path, "analytics", "--workers", "2") as (process, port):

            async def answers() -> bool:
                return (await get(port, "/symbol/A"))[0] == 200

            await until(answers, _LIMIT)
            assert await get(port, "/symbol/A") == (200, {"x": 1})
            assert (await get(port, "/symbol/ZZZ"))[0] == 404
            assert (await get(port, "/health"))[1]["status"] == "ok"
            async with connect(f"ws://127.0.0.1:{port}/stream") as client:
                assert json.loads(await client.recv()) == {"A": {"x": 1}, "B": {"x": 2}}
                await manager.save_snapshot({"A": {"x": 1}, "B": {"x": 3}}, name="ranking")
                assert json.loads(await client.recv()) == {"B": {"x": 3}}
                process.send_signal(signal.SIGTERM)
                await asyncio.wait_for(client.wait_closed(), _LIMIT)
            assert await asyncio.to_thread(process.wait, _LIMIT) in (0, -signal.SIGTERM)
