"""`snapdelta streams trim`: what a dry run says would go is what goes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from snapdelta import SnapshotManager
from support.cli import execute
from support.servers import AsyncClient, Deployment, Server, on_one_server
from support.stream_harness import fill, read

two_deployments = pytest.mark.parametrize("deployment", ["valkey-9.1", "cluster-redis-8.2"], indirect=True)


async def trim(deployment: Deployment, *arguments: str) -> list[dict[str, Any]]:
    node = deployment if isinstance(deployment, Server) else deployment.nodes[0]
    ran = await asyncio.to_thread(execute, "streams", "trim", *arguments, "--json", "--redis", node.url)
    assert ran.returncode == 0, ran.stderr
    return list(json.loads(ran.stdout)["streams"])


@two_deployments
async def test_a_pattern(deployment: Deployment, redis: AsyncClient) -> None:
    for number in range(3):
        await fill(redis, f"stream:{number}", 2000 * number + 100)
    await fill(redis, "other", 5000)
    async with SnapshotManager(redis) as manager:
        await manager.save_snapshot({"A": 1})
    given = ("*:*", "--maxlen", "1000", "--exact")
    before = await trim(deployment, *given, "--dry-run")
    assert [(row["stream"], row["length"], row["removed"]) for row in before] == [
        ("stream:0", 100, 0),
        ("stream:1", 2100, 1100),
        ("stream:2", 4100, 3100),
    ]
    assert await redis.xlen("stream:2") == 4100
    after = await trim(deployment, *given)
    assert [(row["length"], row["removed"]) for row in after] == [(100, 0), (1000, 1100), (1000, 3100)]
    assert await redis.xlen("snapdelta:{default}:delta") == 1
    assert await redis.xlen("other") == 5000


@two_deployments
async def test_a_chain_of_another_prefix(deployment: Deployment, redis: AsyncClient) -> None:
    async with SnapshotManager(redis, key_prefix="shop:") as manager:
        for number in range(20):
            await manager.save_snapshot({"A": number}, "prices")
    # These only look like a chain: nothing, or no head, is beside them.
    await fill(redis, "alone{x}:delta", 20)
    await fill(redis, "typed{x}:delta", 20)
    await redis.set("typed{x}:head", "1")
    chain = "shop:{prices}:delta"
    bounds = ("--maxlen", "1", "--exact")
    for dry_run in (True, False):
        rows = await trim(deployment, "*", *bounds, *(["--dry-run"] if dry_run else []))
        assert {row["stream"]: row["removed"] for row in rows} == {"alone{x}:delta": 19, "typed{x}:delta": 19}
    assert await redis.xlen(chain) == 20
    node = deployment if isinstance(deployment, Server) else deployment.nodes[0]
    named = await asyncio.to_thread(execute, "streams", "trim", chain, *bounds, "--redis", node.url)
    assert named.returncode == 2
    assert "belongs to the snapshots of shop:{prices}:head" in named.stderr
    assert await redis.xlen(chain) == 20


@on_one_server
async def test_a_prefix_given(server: Server) -> None:
    async with server.client() as redis:
        await fill(redis, "shop:{prices}:delta", 20)  # its head was lost
        await fill(redis, "s", 20)
        rows = await trim(server, "*", "--maxlen", "1", "--exact", "--key-prefix", "shop:")
    assert [row["stream"] for row in rows] == ["s"]


@on_one_server
@pytest.mark.parametrize(
    "policy",
    [
        ("--maxlen", "500", "--exact"),
        ("--maxlen", "500", "--exact", "--keep-unread"),
        ("--maxlen", "100", "--exact", "--keep-unread"),
    ],
    ids=["unread-too", "keep-unread", "ceiling"],
)
async def test_unread_entries(server: Server, policy: tuple[str, ...]) -> None:
    async with server.client() as redis:
        await fill(redis, "s", 3000)
        await redis.xgroup_create("s", "g", "0")
        await read(redis, "s", "g", 1800)
        (before,) = await trim(server, "s", *policy, "--dry-run")
        (after,) = await trim(server, "s", *policy)
        assert (before["removed"], before["held_back"]) == (after["removed"], after["held_back"])
        if "--keep-unread" in policy:
            assert before["unread"] == after["unread"]
        else:
            assert before["unread"] == 700


@on_one_server
async def test_age_and_bytes(server: Server) -> None:
    async with server.client() as redis:
        for age in range(200, 0, -1):
            time = int((await redis.time())[0]) * 1000 - age * 1000
            await redis.xadd("s", {"x": "y" * 500}, id=f"{time}-{age}")
        (aged,) = await trim(server, "s", "--max-age", "100.5", "--exact", "--dry-run")
        assert 95 <= aged["removed"] <= 105
        (sized,) = await trim(server, "s", "--max-bytes", "50000", "--dry-run")
        assert 90 <= sized["removed"] <= 150
        assert any("an estimate" in note for note in sized["notes"])


@on_one_server
async def test_policies_of_a_file_and_refusals(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text('[tool.snapdelta.streams.policies."s"]\nmaxlen = 10\napproximate = false\n')
    async with server.client() as redis:
        await fill(redis, "s", 50)
    (row,) = await trim(server, "--policies", str(file), "--dry-run")
    assert (row["stream"], row["removed"]) == ("s", 40)
    for arguments, said in (
        ((), "which streams?"),
        (("s",), "needs a bound"),
        (("s", "--maxlen", "0"), "maxlen must be"),
        (("snapdelta:{x}:delta", "--maxlen", "1"), "lower the manager's history or history_bytes"),
    ):
        ran = await asyncio.to_thread(execute, "streams", "trim", *arguments, "--redis", server.url)
        assert ran.returncode == 2
        assert said in ran.stderr
    seen = await asyncio.to_thread(
        execute, "streams", "trim", "s", "--maxlen", "7", "--dry-run", "--redis", server.url
    )
    assert "would go" in seen.stdout
    assert "whole nodes" in seen.stdout


@on_one_server
async def test_a_trim_that_removes_nothing_says_why(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot({"A": 1})
        await fill(redis, "s", 90)  # one node
    for arguments, said in (
        (("s", "--maxlen", "50"), "s: an approximate trim removes whole nodes only, and none is full"),
        (("snapdelta:*", "--maxlen", "50"), "nothing to trim; snapshot keys are excluded"),
    ):
        ran = await asyncio.to_thread(execute, "streams", "trim", *arguments, "--redis", server.url)
        assert ran.returncode == 0
        assert said in ran.stdout
    (row,) = await trim(server, "s", "--maxlen", "50")
    assert row["bytes"] > 90
    for exact in (["--exact"], []):
        (row,) = await trim(server, "s", "--maxlen", "50", *exact)
        assert (row["length"], row["notes"]) == (50, [])
