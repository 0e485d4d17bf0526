"""followRedis on a real server: every accepted state, in order, once, through restarts, gaps and loss.

Its followers are checked by the harness that checks Python's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from client.node_follower import NodeFollower, follow_in_node
from snapshots.test_restarts import Changing
from support.corruption import DAMAGE, tamper
from support.frames import at_version
from support.servers import Cluster, Deployment, Server, on_one_server
from support.snapshot_harness import Stage, Writer, keys_of, staged
from support.stream_harness import until

KEYS = keys_of()
# Longer than a test waits: what only this limit would end, fails.
ENDLESS = 3600.0
SHORT: dict[str, Any] = {"history": 0.001, "history_frames": 6, "chain_ratio": 1e6}


@asynccontextmanager
async def node_staged(server: Server, **settings: Any) -> AsyncIterator[tuple[Stage, Writer, NodeFollower]]:
    """A stage with a writer, a follower in Python and one in Node, which have three saves."""
    async with staged(server.client, **settings) as (stage, writer):
        node = await follow_in_node(stage, server)
        await stage.together()
        yield stage, writer, node


async def test_every_state_in_order(server: Server) -> None:
    async with node_staged(server, full_snapshot_interval=0.2) as (stage, writer, node):
        await writer.saves(60)
        await stage.together()
        assert not stage.resyncs
        assert [seen.id[1] for seen in node.seen] == list(range(3, 64))
        assert all(seen.lag < 60 for seen in node.seen)


@on_one_server
async def test_writers_restart(server: Server) -> None:
    async with node_staged(server) as (stage, writer, node):
        for n in range(5):
            await writer.saves(2)
            await writer.manager.close()
            writer = await stage.writer("A" if n % 2 else f"B{n}")
            assert (await writer.save())["reason"] == "handover"
        await stage.recover(writer)
        assert not node.resyncs


@on_one_server
async def test_a_writer_takes_over(server: Server) -> None:
    """The newest state is damaged when a new writer begins: it cannot go on from it."""
    async with node_staged(server) as (stage, _, node):
        tamper(server, KEYS.full, DAMAGE["flipped"])
        other = await stage.writer("B")
        assert (await other.save())["reason"] == "takeover"
        await stage.recover(other)
        assert node.resyncs == ["takeover"]


@on_one_server
async def test_a_full_frame_in_the_place_of_a_delta(server: Server) -> None:
    """Nothing was missed, and the update says why it is a full frame."""
    async with Stage(server.client) as stage:
        node = await follow_in_node(stage, server)
        stage.oracle.markets["A"] = Changing("A")
        writer = await stage.writer("A")
        await writer.saves(2)
        await stage.together()
        assert (await writer.save())["reason"] == "larger"
        await stage.together()
        assert node.seen[-1].reason == "larger"
        assert not node.resyncs


@on_one_server
@pytest.mark.parametrize("missed", [1, 30])
async def test_paused_past_the_history(server: Server, missed: int) -> None:
    async with node_staged(server, **SHORT) as (stage, writer, node):
        await node.pause_over(writer.save)
        seen = len(node.seen)
        # More than one read brings, and more than is kept.
        await writer.saves(20 + missed)
        assert len(node.seen) == seen
        node.resume()
        await stage.recover(writer)
        assert set(node.resyncs) == {"gap"}


@on_one_server
@pytest.mark.parametrize("lost", [("head",), ("delta",), ("full",), ("full", "delta", "head")], ids="+".join)
async def test_keys_are_deleted(server: Server, lost: tuple[str, ...]) -> None:
    async with node_staged(server) as (stage, writer, node):
        server.execute("DEL", *(getattr(KEYS, part) for part in lost))
        first, _ = await stage.recover(writer)
        assert set(node.resyncs) <= {first["reason"]}


@on_one_server
async def test_the_name_is_deleted(server: Server) -> None:
    async with node_staged(server) as (stage, writer, node):
        assert await writer.manager.delete("default")
        await stage.recover(writer)
        assert len(node.resyncs) == 1


async def test_a_cluster(deployments: Callable[[str], Deployment]) -> None:
    cluster = deployments("cluster-valkey-9.1")
    assert isinstance(cluster, Cluster)
    cluster.reset()
    async with staged(cluster.client) as (stage, writer):
        node = await follow_in_node(stage, cluster)
        await stage.together()
        await writer.saves(5)
        assert await writer.manager.delete("default")
        await stage.recover(writer)
        assert len(node.resyncs) == 1
    cluster.reset()


@pytest.mark.parametrize("empty", [False, True], ids=["with-data", "empty"])
async def test_the_server_is_killed(fresh_server: Callable[..., Server], empty: bool) -> None:
    server = fresh_server(persist=True)
    async with node_staged(server) as (stage, writer, node):
        server.restart(empty=empty)
        first, _ = await stage.recover(writer)
        assert node.resyncs == (["head_lost"] if empty else [])
        assert first["type"] == ("full" if empty else "delta")


async def test_it_begins_before_there_is_a_server(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    server.kill()
    async with Stage(server.client) as stage:
        node = await follow_in_node(stage, server)
        server.start()
        await stage.recover(await stage.writer())
        assert [seen.reason for seen in node.seen][:1] == ["start"]


@on_one_server
async def test_a_server_that_stops_answering(server: Server) -> None:
    async with node_staged(server) as (stage, writer, node):
        server.pause()
        await asyncio.sleep(4)
        server.resume()
        await stage.recover(writer)
        assert not node.resyncs


@pytest.mark.parametrize("kind", ["valkey-9.1", "cluster-valkey-9.1"])
async def test_connections_are_killed(deployments: Callable[[str], Deployment], kind: str) -> None:
    """A blocked read on a lost connection fails at once, not at the command timeout."""
    deployment = deployments(kind)
    deployment.reset()
    servers = deployment.nodes if isinstance(deployment, Cluster) else [deployment]
    async with Stage(deployment.client) as stage:
        writer = await stage.writer()
        node = await follow_in_node(stage, deployment, command_timeout=ENDLESS)
        for _ in range(4):
            await writer.saves(2)
            await stage.together()
            await until(lambda: any(map(_kill_blocked, servers)))
        await writer.saves(1)
        await stage.together()
        assert not node.resyncs
    deployment.reset()


@on_one_server
@pytest.mark.parametrize("limit", ["commandTimeout", "socketTimeout"])
async def test_the_time_limits_of_the_client(server: Server, limit: str) -> None:
    """They do not end reads that wait for a save: those may wait longer."""
    async with Stage(server.client) as stage:
        writer = await stage.writer()
        await writer.saves(1)
        node = await follow_in_node(stage, server, command_timeout=ENDLESS, **{limit: 50})
        await stage.together()
        asked = _calls(server, "hmget")
        # After a read in vain, it asks for the head.
        await until(lambda: bool(node.waits) or _calls(server, "hmget") > asked)
        await writer.saves(2)
        await stage.together()
        assert not node.waits


def _calls(server: Server, command: str) -> int:
    return int(server._info("commandstats")[f"cmdstat_{command}"]["calls"])


def _kill_blocked(server: Server) -> bool:
    """Close the connection of a client in a blocked read; whether there was one."""
    with server.admin() as admin:
        blocked = [client["id"] for client in admin.client_list() if "b" in client["flags"]]
        return any(admin.client_kill_filter(_id=client) for client in blocked)


@on_one_server
@pytest.mark.parametrize("how", DAMAGE)
async def test_a_damaged_delta(server: Server, how: str) -> None:
    """It asks for a full frame, by itself: no other reader is there."""
    async with Stage(server.client) as stage:
        writer = await stage.writer()
        await writer.saves(3)
        node = await follow_in_node(stage, server)
        await stage.together()
        await node.pause_over(writer.save)
        await writer.saves(3)
        tamper(server, KEYS.delta, DAMAGE[how], behind=2)
        tamper(server, KEYS.delta, DAMAGE[how], behind=1)
        node.resume()
        await until(lambda: server.execute("HGET", KEYS.head, "resync_request") is not None)
        results = await stage.recover(writer)
        assert "requested" in [result["reason"] for result in results]
        assert len(node.resyncs) == 1


@on_one_server
async def test_an_entry_that_no_writer_made(server: Server) -> None:
    async with node_staged(server) as (stage, writer, node):
        server.execute("XADD", KEYS.delta, "*", "field", "value")
        await stage.recover(writer)
        assert len(node.resyncs) <= 1


@on_one_server
async def test_what_waiting_does_not_mend(server: Server) -> None:
    """A newer format, another type: an error with the name and the place, and the process ends."""
    async with Stage(server.client) as stage:
        writer = await stage.writer()
        node = await follow_in_node(stage, server)
        await writer.saves(3)
        await stage.together()
        await node.pause_over(writer.save)
        await writer.saves(3)
        tamper(server, KEYS.delta, lambda fields: {**fields, b"f": at_version(fields[b"f"], 2)})
        node.resume()
        await until(lambda: node.error is not None)
        assert node.error is not None
        assert node.error[0] == "UnsupportedVersionError"
        assert "snapshots 'default': entry" in node.error[1]


async def test_another_type(server: Server) -> None:
    server.execute("SET", KEYS.head, "text")
    async with Stage(server.client) as stage:
        node = await follow_in_node(stage, server)
        await until(lambda: node.error is not None)
        assert node.error is not None
        assert node.error[0] == "SnapshotTypeError"
        assert KEYS.head in node.error[1]


@on_one_server
async def test_closing_ends_a_wait(server: Server) -> None:
    async with node_staged(server) as (stage, _, node):
        node.say("close")
        assert node._task is not None
        async with asyncio.timeout(60):
            await node._task
        stage.followers.remove(node)
        await until(lambda: not _blocked(server))


def _blocked(server: Server) -> int:
    """Clients in a blocked read that Node opened; Python's follower is one too."""
    return max(0, int(server._info("clients")["blocked_clients"]) - 1)
