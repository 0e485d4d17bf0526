"""followWebSocket against a gateway: every state, resume, late clients, restarts of gateway and writer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from client.node_follower import NodeFollower
from snapdelta.gateway import Gateway
from snapdelta.snapshot_manager import Update
from support.assert_exact import assert_same
from support.gateway import NAME, Saver, Served, Truth, served
from support.market import MARK, Market
from support.servers import Server
from support.snapshot_harness import Seen, check_symbols

pytestmark = pytest.mark.parametrize("server", ["valkey-9.1"], indirect=True)


@dataclass
class GatewayFollower(NodeFollower):
    """Checks each update against what was saved."""

    markets: dict[str, Market] = field(default_factory=dict)

    def _take(self, update: Update) -> None:
        mark = update.snapshot[MARK]["writer"], update.snapshot[MARK]["n"]
        assert_same(update.snapshot, self.markets[mark[0]].state(mark[1]))
        position = update.epoch, update.sequence
        assert not self.seen or position > self.seen[-1].id
        assert update.timestamp > 1.7e9
        check_symbols(update, self._state)
        self._state = update.snapshot
        self.seen.append(Seen(position, mark, update.resynced, update.reason, 0, 0))


@asynccontextmanager
async def followed(server: Server, **settings: Any) -> AsyncIterator[tuple[Served, Saver, GatewayFollower]]:
    market = Market()
    async with server.client() as redis, Saver(redis, market, Truth()) as saver:
        result = await saver.save()
        async with served(Gateway(redis, [NAME], **settings)) as process:
            arguments = "websocket", process.stream, json.dumps({"idleTimeout": 60_000})
            async with GatewayFollower(arguments=arguments, markets={"A": market}) as follower:
                await follower.reaches((result["epoch"], result["sequence"]))
                yield process, saver, follower


def place(result: dict[str, Any]) -> tuple[int, int]:
    return result["epoch"], result["sequence"]


async def test_every_state_in_order(server: Server) -> None:
    async with followed(server, heartbeat=0.05) as (_, saver, follower):
        for _ in range(10):
            await follower.reaches(place(await saver.save()))
        assert [seen.mark[1] for seen in follower.seen] == list(range(1, 12))
        assert [seen.reason for seen in follower.seen] == ["start"] + [None] * 10


async def test_a_client_that_is_paused_misses_nothing_or_is_sent_one_delta(server: Server) -> None:
    async with followed(server, max_queue_frames=2) as (_, saver, follower):
        await follower.pause_over(saver.save)
        await saver.save(20)
        follower.resume()
        await follower.reaches(place(await saver.save()))
        assert not follower.resyncs


async def test_a_writer_restarts(server: Server) -> None:
    async with followed(server) as (_, saver, follower):
        after = Market("B")
        follower.markets["B"] = after
        async with server.client() as redis, Saver(redis, after, saver.truth) as other:
            await follower.reaches(place(await other.save(2)))
        assert not follower.resyncs


async def test_a_gateway_restarts(server: Server) -> None:
    async with followed(server) as (process, saver, follower):
        async with server.client() as redis:
            # Another one on the port of the first, which has ended.
            await process.stop()
            result = await saver.save(3)
            async with served(Gateway(redis, [NAME]), port=process.port):
                await follower.reaches(place(result))
        assert not follower.resyncs
        assert [seen.mark[1] for seen in follower.seen] == [1, 2, 3, 4]
