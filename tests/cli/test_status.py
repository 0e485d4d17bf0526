"""`snapdelta status`: each fault is planted in a real server and named; a healthy server has none."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snapdelta import SnapshotManager, SnapshotMirror
from snapdelta.snapshots.keys import Keys
from snapdelta.snapshots.survey import survey
from support.cli import execute
from support.servers import Deployment, Server, on_one_server

HEAD, FULL, DELTA, ROWS = (f"snapdelta:{{x}}:{part}" for part in ("head", "full", "delta", "rows"))


async def status(deployment: Deployment, *arguments: str) -> tuple[int, dict[str, Any]]:
    node = deployment if isinstance(deployment, Server) else deployment.nodes[0]
    ran = await asyncio.to_thread(execute, "status", *arguments, "--json", "--redis", node.url)
    assert not ran.stderr
    return ran.returncode, json.loads(ran.stdout)


async def _save(deployment: Deployment) -> None:
    redis = deployment.client()
    async with SnapshotManager(redis) as manager:
        for number in range(4):
            await manager.save_snapshot({f"S{n}": n * number for n in range(100)}, "x")
            await manager.save_snapshot({"A": number}, "y*z")
    await SnapshotMirror(redis, "x").sync()
    await redis.aclose()


async def test_nothing_is_named_on_a_healthy_server(deployment: Deployment) -> None:
    code, empty = await status(deployment)
    assert (code, empty) == (0, {"faults": 0, "names": []})
    await _save(deployment)
    code, report = await status(deployment)
    assert (code, report["faults"]) == (0, 0), report
    x, y = report["names"]
    assert (x["name"], y["name"]) == ("x", "y*z")
    assert (x["position"][1], x["mirror"], x["chain"], x["fulls"], x["deltas"]) == (4, 4, x["chain"], 1, 4)
    assert x["chain"] <= 3
    assert x["bytes"] > 1000
    assert 0 < x["age"] < 60
    assert y["mirror"] is None


@on_one_server
@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda server: server.execute("DEL", HEAD), f"{HEAD} is gone"),
        (lambda server: server.execute("DEL", FULL), f"{FULL} has no full frame"),
        (lambda server: server.execute("DEL", DELTA), f"{DELTA} is missing"),
        (lambda server: server.execute("HSET", HEAD, "resync_request", "1-1"), "could not read 1-1"),
        (lambda server: server.execute("HSET", HEAD, "sequence", 3), "the head is at"),
        (
            lambda server: (server.execute("DEL", FULL), server.execute("SET", FULL, 1)),
            f"{FULL} holds a string",
        ),
        (lambda server: server.execute("HDEL", ROWS, "__meta__"), "no valid __meta__"),
        (
            lambda server: (
                server.execute("HSET", ROWS, "__meta__", '{"epoch":1,"sequence":1}'),
                server.execute("HINCRBY", HEAD, "time", -20_000),
            ),
            f"{ROWS} is at 1-1",
        ),
        (lambda server: server.execute("HINCRBY", HEAD, "time", -90_000), "no save for 9"),
    ],
    ids=["head", "full", "delta", "request", "behind", "type", "meta", "mirror", "silent"],
)
async def test_a_fault_is_named(server: Server, plant: Callable[[Server], object], said: str) -> None:
    await _save(server)
    plant(server)
    code, report = await status(server)
    assert code == 1
    (x, y) = report["names"]
    assert len(x["faults"]) == 1
    assert said in x["faults"][0]
    assert not y["faults"]


@on_one_server
async def test_a_writer_at_work_is_no_fault(server: Server) -> None:
    """Saves come between any two questions of a survey."""
    async with server.client() as redis, server.client() as own, SnapshotManager(own) as manager:
        keys = Keys.of("snapdelta:", "x")
        done = False

        async def save() -> None:
            number = 0
            while not done:
                number += 1
                await manager.save_snapshot({"A": number}, "x", force_full=number % 5 == 0)

        saving = asyncio.create_task(save())
        try:
            for _ in range(80):
                assert not (await survey(redis, keys)).faults
        finally:
            done = True
            await saving
        await redis.delete(DELTA)
        assert f"{DELTA} is missing" in (await survey(redis, keys)).faults[0]


@on_one_server
async def test_keys_that_no_writer_can_have_made(server: Server) -> None:
    await _save(server)
    for name in ("a{b", "x" * 201, b"\xff"):
        key = b"snapdelta:{%b}:head" % (name if isinstance(name, bytes) else name.encode())
        server.execute("SET", key, 1)
    code, report = await status(server)
    assert (code, [name["name"] for name in report["names"]]) == (0, ["x", "y*z"])


@on_one_server
async def test_what_cannot_be_done_is_one_sentence(server: Server, tmp_path: Path) -> None:
    await _save(server)
    (tmp_path / "orjson.py").write_text("raise ImportError('orjson')\n")
    without = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    server.execute("ACL", "SETUSER", "plain", "on", ">p", "~*", "+@all", "-scan")
    plain = ("--redis", server.url.replace("//", "//plain:p@"))
    there = ("--redis", server.url)
    cases: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        (("mirror", "x", "--once", *there), without, "snapdelta-rs[mirror]"),
        (("status", *plain), {}, "the user lacks a right"),
        (("status", "--key-prefix", "a{", *there), {}, "key_prefix must be"),
        (
            ("show", "x", "--at", "0001-01-01", *there),
            {"TZ": "Europe/Berlin"},
            "'0001-01-01' is not a moment",
        ),
        (("show", "x", "--at", "9" * 400 + "s", *there), {}, "must be seconds since 1970"),
    ]
    try:
        for arguments, environment, said in cases:
            ran = await asyncio.to_thread(execute, *arguments, columns=200, **environment)
            assert ran.returncode == 2, (arguments, ran.stderr)
            assert ran.stderr.startswith("error: "), (arguments, ran.stderr)
            assert said in ran.stderr
            assert "Traceback" not in ran.stderr
    finally:
        server.execute("ACL", "DELUSER", "plain")


@on_one_server
async def test_what_a_person_sees(server: Server) -> None:
    await _save(server)
    seen = await asyncio.to_thread(execute, "status", "--redis", server.url)
    assert seen.returncode == 0
    assert seen.stdout.endswith("no faults\n")
    late = await asyncio.to_thread(execute, "status", "x", "--stale-after", "0.001", "--redis", server.url)
    assert late.returncode == 1
    assert "fault: x: no save for" in late.stdout
    narrow = await asyncio.to_thread(execute, "status", "--redis", server.url, columns=60)
    _, report = await status(server)
    for name in report["names"]:
        assert f"{name['position'][0]}-{name['position'][1]}" in narrow.stdout
    assert "…" not in narrow.stdout
    assert max(map(len, narrow.stdout.splitlines())) <= 60
    assert "left out on this narrow terminal: fulls, back" in narrow.stdout
    assert "mirror" in seen.stdout
    unmirrored = await asyncio.to_thread(execute, "status", "y*z", "--redis", server.url)
    assert "mirror" not in unmirrored.stdout
    assert "left out" not in unmirrored.stdout
    missing = await asyncio.to_thread(execute, "status", "nobody", "--redis", server.url)
    assert "nothing was saved under this name" in missing.stdout
