"""`snapdelta show, history, diff, inspect`: what a person sees of states and frames, and the exit status."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from snapdelta import SnapshotManager, dumps
from support.cli import execute
from support.servers import Deployment, Server, on_one_server

# What reads is the same for all kinds: one server alone, and a cluster.
two_deployments = pytest.mark.parametrize("deployment", ["valkey-9.1", "cluster-redis-8.2"], indirect=True)
STATES: list[dict[str, Any]] = [
    {"AAPL": {"price": 1, "q": {"bid": 1.5}}, "N[x]": {"price": 2.0, "at": datetime(2026, 3, 2, tzinfo=UTC)}},
    {"AAPL": {"price": 1.0, "q": {"bid": 1.5}}, "N[x]": {"price": 2.0}, "NEW": None},
    {"NEW": None, "N[x]": {"price": 2.5, "a.b": 1}},
]


@pytest.fixture
async def saved(deployment: Deployment) -> list[dict[str, Any]]:
    """What three saves returned."""
    redis = deployment.client()
    async with SnapshotManager(redis) as manager:
        results = []
        for number, state in enumerate(STATES):
            results.append(dict(await manager.save_snapshot(state, "x", force_full=number == 2)))
            await asyncio.sleep(0.02)
    await redis.aclose()
    return results


async def run(deployment: Deployment, *arguments: str, columns: int = 200) -> Any:
    node = deployment if isinstance(deployment, Server) else deployment.nodes[0]
    return await asyncio.to_thread(execute, *arguments, "--redis", node.url, columns=columns)


@two_deployments
async def test_show(deployment: Deployment, saved: list[dict[str, Any]]) -> None:
    ran = await run(deployment, "show", "x")
    assert ran.returncode == 0, ran.stderr
    assert f"{saved[2]['epoch']}-3" in ran.stdout
    assert re.search(r"N\[x\].*2\.5", ran.stdout)
    assert "a\\.b" in ran.stdout
    assert "2 symbols; 0 more rows, 0 more fields" in ran.stdout
    one = await run(deployment, "show", "x", "N[x]", "--at", "1")
    assert one.returncode == 0, one.stderr
    assert re.search(r"price\s+│ 2\.0", one.stdout)
    parsed = json.loads((await run(deployment, "show", "x", "AAPL", "--at", "2", "--json")).stdout)
    assert (parsed["sequence"], parsed["record"]) == (2, {"price": 1.0, "q": {"bid": 1.5}})
    whole = json.loads(
        (await run(deployment, "show", "x", "--json", "--at", f"{saved[0]['epoch']}-1")).stdout
    )
    assert list(whole["snapshot"]) == ["AAPL", "N[x]"]
    assert whole["snapshot"]["N[x]"]["at"] == "2026-03-02T00:00:00+00:00"


@on_one_server
async def test_show_on_a_narrow_terminal(server: Server, tmp_path: Path) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot({f"S{n}": {f"field{m}": n * m for m in range(30)} for n in range(50)})
    for columns in (40, 80):
        ran = await run(server, "show", "default", columns=columns)
        assert ran.returncode == 0
        assert max(map(len, ran.stdout.splitlines())) <= columns
        assert "30 more rows" in ran.stdout.replace("\n", " ")


@on_one_server
async def test_what_is_not_there(server: Server, saved_one: None) -> None:
    for arguments, status, said in (
        (("show", "nobody"), 1, "nothing was saved under 'nobody'"),
        (("show", "x", "ZZZ"), 1, "no symbol 'ZZZ'"),
        (("history", "x", "ZZZ"), 1, "no symbol 'ZZZ'"),
        (("show", "x", "--at", "99"), 2, "99 is not in the history"),
        (("show", "x", "--at", "5d"), 2, "the history begins at"),
        (("show", "x", "--at", "yesterday"), 2, "is not a moment"),
        (("history", "x", "A", "--since", "3"), 2, "'3' is a sequence; --since takes 5s, 10m, 2h (ago)"),
        (("history", "x", "A", "--until", "1-3"), 2, "'1-3' is an id; --until takes"),
        (("diff", "nobody", "now"), 2, "nothing is saved"),
        (("inspect", "nobody"), 2, "no such frame"),
        (("inspect", "snapdelta:{x}:head"), 2, "'head'"),
        (("show", "a{b"), 2, "braces"),
    ):
        ran = await run(server, *arguments)
        assert ran.returncode == status, (arguments, ran)
        assert said in ran.stderr, (arguments, ran)
        assert "Traceback" not in ran.stderr
        assert not ran.stdout


@pytest.fixture
async def saved_one(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot({"A": 1}, "x")


@two_deployments
async def test_history(deployment: Deployment, saved: list[dict[str, Any]]) -> None:
    parsed = json.loads((await run(deployment, "history", "x", "AAPL", "--json")).stdout)
    assert [(change["sequence"], change["event"], change["fields"]) for change in parsed] == [
        (1, "first", {"price": {"to": 1}, "q.bid": {"to": 1.5}}),
        (2, "updated", {"price": {"from": 1, "to": 1.0}}),
        (3, "removed", {"price": {"from": 1.0}, "q.bid": {"from": 1.5}}),
    ]
    gone = await run(deployment, "history", "x", "AAPL", "--since", "0s")
    assert (gone.returncode, gone.stdout) == (1, "")
    shown = await run(deployment, "history", "x", "N[x]", "--since", "1h")
    assert re.search(r"3\s+│ updated │ price\s+│ 2\.0\s+│ 2\.5", shown.stdout), shown.stdout
    added = json.loads((await run(deployment, "history", "x", "NEW", "--json")).stdout)
    assert [(change["sequence"], change["event"]) for change in added] == [(2, "added")]


@two_deployments
async def test_diff(deployment: Deployment, saved: list[dict[str, Any]]) -> None:
    parsed = json.loads((await run(deployment, "diff", "x", "1", "3", "--json")).stdout)
    assert (parsed["a"]["sequence"], parsed["b"]["sequence"]) == (1, 3)
    assert (parsed["added"], parsed["removed"], parsed["reordered"]) == (["NEW"], ["AAPL"], False)
    assert parsed["updated"] == {
        "N[x]": {
            "price": {"from": 2.0, "to": 2.5},
            "at": {"from": "2026-03-02T00:00:00+00:00"},
            "a\\.b": {"to": 1},
        }
    }
    shown = await run(deployment, "diff", "x", "2")
    assert "0 added, 1 removed, 1 updated, another order" in shown.stdout
    same = await run(deployment, "diff", "x", "now", "now")
    assert (same.returncode, "0 added, 0 removed, 0 updated, the same order" in same.stdout) == (0, True)


@two_deployments
async def test_inspect(deployment: Deployment, saved: list[dict[str, Any]], tmp_path: Path) -> None:
    newest = json.loads((await run(deployment, "inspect", "x", "--json")).stdout)
    assert (newest["kind"], newest["sequence"], newest["removed"]) == ("delta", 3, 1)
    assert newest["columns"] or newest["sparse_cells"]
    # The base is replayed, so that columns have names.
    assert all(column["path"] is not None for column in newest["columns"])
    full = json.loads((await run(deployment, "inspect", "snapdelta:{x}:full", "--json")).stdout)
    assert (full["kind"], full["sequence"], full["added"]) == ("full", 3, ["NEW", "N[x]"])
    # A restart has a marker in the deltas; the frame is in the full stream.
    first = json.loads((await run(deployment, "inspect", "x", "--id", "1", "--json")).stdout)
    assert (first["kind"], first["sequence"]) == ("full", 1)
    file = tmp_path / "one.frame"
    file.write_bytes(dumps({f"S{number}": {"price": number / 7} for number in range(200)}))
    shown = await asyncio.to_thread(execute, "inspect", str(file))
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"price\s+│", shown.stdout)
    assert "200 symbols: 200 added" in shown.stdout
    file.write_bytes(dumps(STATES[0])[:-1])
    damaged = await asyncio.to_thread(execute, "inspect", str(file))
    assert (damaged.returncode, damaged.stdout) == (2, "")


async def test_no_color_and_completion() -> None:
    ran = await asyncio.to_thread(execute, "--help", NO_COLOR="1", FORCE_COLOR="")
    assert ran.returncode == 0
    assert "\x1b[3" not in ran.stdout
    script = await asyncio.to_thread(
        execute, "--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert script.returncode == 0, script.stderr
    assert "complete" in script.stdout
