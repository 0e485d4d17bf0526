"""What docs/guide/ shows runs; what it maps is there; the Spanish pages have the same code."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from websockets.asyncio.client import connect

import snapdelta.streams.registry as registry
from examples.scanner.before.redis_stream_manager import STREAM_CONFIGS
from snapdelta import SCANNER_POLICIES, SnapshotManager, SnapshotReader, initialize_stream_manager
from snapdelta.cli import app
from snapdelta.metrics import FAMILIES
from snapdelta.testing.server import free_port
from support.documents import ROOT, blocks, run
from support.servers import Server
from support.stream_harness import until
from support.uvicorn import get, get_text, serving

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
    source = code("docs/guide/data_ingest.md", server)[0]
    (tmp_path / "app.py").write_text(source.replace("sleep(5)", "sleep(0.2)"))
    with serving(tmp_path, "app") as (process, port):
        async with server.client() as redis:
            async with asyncio.timeout(_LIMIT):
                update = await anext(SnapshotReader(redis, "market").follow())
            assert list(update.snapshot) == ["AAPL", "NVDA"]

            async def healthy() -> bool:
                return await get(port, "/health") == (200, {"status": "ok", "reasons": []})

            await until(healthy, _LIMIT)
            shown = await get_text(port, "/metrics/")
            assert 'snapdelta_saves_total{name="market",type="full"} 1.0' in shown
            assert "snapdelta_stream_task_running 1.0" in shown
            # Another process takes the name over, and the service says so.
            async with SnapshotManager(redis) as rival:
                await rival.save_snapshot({"AAPL": {"price": 1.0}}, name="market")

                async def superseded() -> bool:
                    status, body = await get(port, "/health")
                    return status == 503 and "owns the name now" in body["reasons"][0]

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


async def test_the_mapped_calls(server: Server) -> None:
    document = "docs/guide/mapping.md"
    snapshots, errors, streams = code(document, server)
    async with server.client() as redis:
        ranking = {"A": {"x": 1}, "B": {"x": 2}}
        names = await run(snapshots, document, {"redis": redis, "ranking": ranking})
        assert names["snapshot"] == ranking
        assert names["counters"].fulls == {"first": 1, "forced": 1}
        async with Redis(port=free_port(), retry=Retry(NoBackoff(), 0)) as unreachable:
            await run(errors, document, {**names, "unreachable": unreachable})
        names = await run(streams, document, {"redis": redis})
        assert (names["info"].length, names["info"].policy.maxlen) == (1, 4_500)
        assert (names["report"].length, names["report"].removed) == (1, 0)


def hand_written_names(path: Path) -> set[str]:
    """Functions, arguments, constants, attributes and text keys of a hand-written manager."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
                if not name.startswith("_") or name == "__init__":
                    found |= {argument.arg for argument in node.args.args}
            case ast.Name(id=name, ctx=ast.Store()) if name.isupper():
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.add(name)
            case ast.Dict(keys=keys):
                found |= {str(key.value) for key in keys if isinstance(key, ast.Constant)}
            case _:
                pass
    # What stands inside a delta, which nobody else sees, and the arguments of a config.
    inside = {"self", "timestamp", "data", "added", "changed", "removed", "maxlen", "trim_interval"}
    return {name for name in found - inside if not name.startswith("_")}


@pytest.mark.parametrize("module", ["snapshot_manager", "redis_stream_manager"])
def test_every_hand_written_name_is_mapped(module: str) -> None:
    text = (ROOT / "docs/guide/mapping.md").read_text(encoding="utf-8")
    mapped = set(re.findall(r"[\w:]+", " ".join(re.findall(r"`([^`\n]+)`", text))))
    names = hand_written_names(ROOT / f"examples/scanner/before/{module}.py")
    assert len(names) > 10
    assert names - mapped == set()


def test_the_mapped_policies_are_those_of_the_code() -> None:
    text = (ROOT / "docs/guide/mapping.md").read_text(encoding="utf-8")
    for stream, policy in SCANNER_POLICIES.items():
        old = STREAM_CONFIGS[stream]
        assert policy.max_bytes is not None
        bounds = f"{policy.maxlen:,} and {policy.max_bytes // 10**6} MB"
        bounds += ", exact" * (not policy.approximate)
        before = f"{old['maxlen']:,}, every {old['trim_interval']} s"
        assert f"| `{stream}` | {before} | {bounds}, every {policy.trim_interval:g} s |" in text


async def test_both_managers_side_by_side(server: Server) -> None:
    document = "docs/guide/moving.md"
    (both,) = code(document, server)
    names = await run(both, document)
    ranking = {f"S{number}": {"price": 10.0 + number, "volume": 100} for number in range(20)}
    for step in range(3):
        # A change that the hand-written filter drops.
        ranking = {s: {**record, "price": record["price"] * 1.0001} for s, record in ranking.items()}
        await names["save_both"](ranking)
        assert await names["compare"](ranking) is None, step
    assert await names["old_manager"].get_latest_snapshot() != ranking
    # Undone: nothing of the new way is left.
    assert await names["manager"].delete("ranking")
    assert [key async for key in names["redis"].scan_iter("snapdelta:*")] == []
    assert "nothing was saved" in str(await names["compare"](ranking))
    await names["manager"].close()
    await names["redis"].aclose()


@pytest.mark.parametrize("page", GUIDE, ids=[page.stem for page in GUIDE])
def test_the_spanish_page_has_the_same_code(page: Path) -> None:
    spanish = SPANISH / page.name
    for language in ("python", "sh"):
        there = blocks(f"docs/es/{page.name}", language)
        for english, translated in zip(blocks(f"docs/guide/{page.name}", language), there, strict=True):
            assert statements(translated) == statements(english)
    quoted = [set(re.findall(r"`[^`\n]+`", each.read_text(encoding="utf-8"))) for each in (page, spanish)]
    assert quoted[0] == quoted[1]


def statements(block: str) -> list[str]:
    """Code without comments and docstrings, which are translated."""
    block = re.sub(r'"""[^"]*"""', "", block)
    return [line for line in (re.sub(r"\s*#.*", "", line) for line in block.splitlines()) if line.strip()]


async def test_the_shortest_way(server: Server) -> None:
    document = "docs/guide/README.md"
    names = await run(code(document, server)[0], document)
    assert names["update"].snapshot == {"AAPL": {"price": 187.12}}
    await names["redis"].aclose()


def test_every_failure_has_its_test() -> None:
    text = (ROOT / "docs/guide/failures.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| what fails")]
    assert len(rows) > 20
    for row in rows:
        path, _, name = re.findall(r"`([^`]*::\w+)`", row)[-1].partition("::")
        assert re.search(rf"\b(?:def|fn) {name}\b", (ROOT / path).read_text()), row


PAGES = "\n".join(page.read_text(encoding="utf-8") for page in GUIDE)


def test_every_command_and_option_is_there() -> None:
    lines = [line.partition("#")[0] for line in re.findall(r"^snapdelta .*$", PAGES, re.M)]
    commands = [*lines, *re.findall(r"`(snapdelta \w[^`]*)`", PAGES)]
    assert len(commands) > 10
    for line in commands:
        command: Any = typer.main.get_command(app)
        _, *words = shlex.split(line)
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_every_metric_is_there() -> None:
    known = {f"{family.name}{end}" for family in FAMILIES.values() for end in ("", "_sum", "_count")}
    named = set(re.findall(r"`(snapdelta_[a-z_]+)`", PAGES))
    assert len(named) > 4
    assert named <= known
