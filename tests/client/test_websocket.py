"""followWebSocket against a real server: resume, restarts, gaps, damage, servers that go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from client.node_follower import NodeFollower
from client.socket_server import SocketServer, socket_server
from snapdelta.snapshot_manager import Update
from support.assert_exact import assert_same
from support.servers import patience
from support.snapshot_harness import Seen, check_symbols
from support.stream_harness import until


@dataclass
class SocketFollower(NodeFollower):
    """Checks each update against what the server has published."""

    server: SocketServer = field(default_factory=SocketServer)

    def _take(self, update: Update) -> None:
        position = update.epoch, update.sequence
        assert_same(update.snapshot, self.server.states[position])
        if self.seen:
            last = self.seen[-1].id
            assert position > last
            assert update.resynced or position == (last[0], last[1] + 1), (last, position)
        check_symbols(update, self._state)
        self._state = update.snapshot
        mark = str(update.timestamp), 0
        self.seen.append(Seen(position, mark, update.resynced, update.reason, 0, 0))


@asynccontextmanager
async def followed(**options: object) -> AsyncIterator[tuple[SocketServer, SocketFollower]]:
    """A server and a follower with these options that has its first state."""
    async with (
        socket_server() as server,
        SocketFollower(arguments=("websocket", server.url, json.dumps(options)), server=server) as follower,
    ):
        await follower.reaches(server.newest)
        yield server, follower


async def test_every_state_in_order() -> None:
    async with followed() as (server, follower):
        for _ in range(30):
            await server.publish()
        await follower.reaches(server.newest)
        assert [seen.id[1] for seen in follower.seen] == list(range(1, 32))
        assert [seen.reason for seen in follower.seen] == ["start"] + [None] * 30
        assert server.queries == [{"token": ["secret"]}]


async def test_a_lost_connection_costs_nothing() -> None:
    """The server goes on from the state that the client names."""
    async with followed() as (server, follower):
        for _ in range(3):
            await server.disconnect()
            await server.publish()
            await follower.reaches(server.newest)
        assert not follower.resyncs
        assert [query["sequence"] for query in server.queries[1:]] == [["1"], ["2"], ["3"]]


async def test_a_server_that_cannot_go_on() -> None:
    async with followed() as (server, follower):
        server.resumes = False
        await server.publish()
        await follower.reaches(server.newest)
        await server.disconnect()
        await server.publish()
        await follower.reaches(server.newest)
        assert follower.resyncs == ["gap"]


async def test_a_writer_restarts() -> None:
    async with followed() as (server, follower):
        server.restart(9)
        await server.publish()
        # Its first frame is a full one, which anybody can take.
        await follower.reaches(server.newest)
        await server.publish()
        await follower.reaches(server.newest)
        assert follower.last == (9, 2)
        assert follower.resyncs == ["gap"]


async def test_a_full_frame_in_the_place_of_a_delta() -> None:
    async with followed() as (server, follower):
        await server.publish(reason="larger")
        await follower.reaches(server.newest)
        await server.publish()
        await follower.reaches(server.newest)
        assert [seen.reason for seen in follower.seen] == ["start", "larger", None]
        assert not follower.resyncs


async def test_a_missing_frame() -> None:
    """The next delta has another base: the client starts again, without the state that it has."""
    async with followed() as (server, follower):
        await server.skip()
        await server.publish()
        await follower.reaches(server.newest)
        assert follower.resyncs == ["base"]
        assert "sequence" not in server.queries[-1]


async def test_a_damaged_frame() -> None:
    async with followed() as (server, follower):
        await server.publish(damaged=True)
        await follower.reaches(server.newest)
        assert follower.resyncs == ["damaged"]


async def test_nonsense() -> None:
    async with followed() as (server, follower):
        for message in ("no JSON", b"no frame", b""):
            await server.send(message)
            await server.publish()
            await follower.reaches(server.newest)
        assert set(follower.resyncs) == {"damaged"}


async def test_a_server_that_is_away() -> None:
    async with followed() as (server, follower):
        await server.stop()
        await server.publish()
        await server.start()
        await follower.reaches(server.newest)
        assert not follower.resyncs


async def test_a_slow_client_takes_everything_that_was_sent() -> None:
    async with followed() as (server, follower):
        await follower.pause_over(server.publish)
        for _ in range(50):
            await server.publish()
        follower.resume()
        await follower.reaches(server.newest)
        assert len(follower.seen) == server.newest[1]
        assert not follower.resyncs


async def test_more_than_may_be_queued() -> None:
    """After the first message without room, the connection has ended: none of its later messages is read."""
    async with followed(maxQueued=100_000) as (server, follower):
        await follower.pause_over(server.publish)
        with server.not_reading() as has_closed:
            await server.send(json.dumps({"text": "x" * 80_000}))
            await server.publish()
            behind_text = server.newest
            await server.publish()
            await server.send(json.dumps({"text": "x" * 30_000}))
            await server.publish()
            await until(has_closed)
            # Let the state behind it arrive, for which there is no room either.
            await asyncio.sleep(0.2)
            # Take the long text, which makes room, but not everything.
            while follower.last != behind_text:
                await follower.step()
            await server.publish()
            # Let it arrive while there is room.
            await asyncio.sleep(0.2)
        follower.resume()
        await follower.reaches(server.newest)
        assert "maxQueued" in follower.waits[0]
        assert not follower.resyncs


async def test_a_server_that_falls_silent() -> None:
    async with followed(idleTimeout=500) as (server, follower):
        for _ in range(2):
            server.forget()
            await server.publish()
            await follower.reaches(server.newest)
        assert "no message in 500 ms" in follower.waits[0]
        assert not follower.resyncs


async def test_a_server_that_accepts_and_says_nothing() -> None:
    async with followed(idleTimeout=200) as (server, follower):
        await server.stop()
        await server.publish()
        accepted: list[asyncio.StreamWriter] = []
        mute = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", server.port)
        await until(lambda: len(accepted) > 1)
        mute.close()
        for writer in accepted:
            writer.close()
        await mute.wait_closed()
        await server.start()
        await follower.reaches(server.newest)
        assert not follower.resyncs


async def test_heartbeats_keep_a_connection() -> None:
    limit = patience(0.6)
    async with followed(idleTimeout=1000 * limit) as (server, follower):
        connections = len(server.queries)
        for _ in range(12):
            await asyncio.sleep(limit / 8)
            await server.send("{}")
        assert len(server.queries) == connections
        await server.publish()
        await follower.reaches(server.newest)


async def test_a_server_whose_deltas_are_damaged() -> None:
    """A full frame before each of them does not make the waits short again."""
    async with followed() as (server, follower):
        server.damages = True
        await server.publish(damaged=True)
        await until(lambda: len(server.began) > 5)
        server.damages = False
        # After four failures in a row, 50 ms are doubled four times, and at least half of that is waited.
        assert server.began[5] - server.began[4] > 0.3
        await follower.reaches(server.newest)
        await server.publish()
        await follower.reaches(server.newest)
        assert set(follower.resyncs) == {"damaged"}
