"""A WebSocket server that sends frames as docs/javascript.md says, and misbehaves when a test asks it to."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

import snapdelta
from support.market import Market, State

Position = tuple[int, int]


class SocketServer:
    """Publishes the states of one market; `states` has them all by epoch and sequence."""

    def __init__(self) -> None:
        self.states: dict[Position, State] = {}
        self.connections: set[ServerConnection] = set()
        # The query of each connection, in their order.
        self.queries: list[dict[str, list[str]]] = []
        # When each connection began, by the monotonic clock.
        self.began: list[float] = []
        self.resumes = True
        # Whether each connection begins with a new state and a damaged frame.
        self.damages = False
        self._market = Market()
        self._encoder = snapdelta.Encoder(epoch=1)
        self._kept: dict[Position, bytes] = {}
        self._server: Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/stream?token=secret"

    @property
    def newest(self) -> Position:
        return self._encoder.epoch, self._encoder.sequence

    async def publish(self, *, damaged: bool = False, reason: str | None = None) -> None:
        """The next state, to everybody; with a reason, as a full frame."""
        state = self._market.next()
        frame = self._encoder.encode(state, full=reason is not None)
        self.states[self.newest] = state
        self._kept[self.newest] = frame
        for connection in list(self.connections):
            sent = frame[:-1] + bytes([frame[-1] ^ 1]) if damaged else frame
            # A client that has just gone takes it from its next connection.
            with suppress(ConnectionClosed):
                await connection.send(json.dumps({"timestamp": 1_700_000_000_000, "reason": reason}))
                await connection.send(sent)

    def restart(self, epoch: int) -> None:
        """A new writer, whose states have no base."""
        self._encoder = snapdelta.Encoder(epoch=epoch)
        self._kept.clear()

    async def skip(self) -> None:
        """A state that nobody is sent."""
        connections, self.connections = self.connections, set()
        await self.publish()
        self.connections = connections

    def forget(self) -> None:
        """Send nothing more on the connections that are open, and leave them open."""
        self.connections.clear()

    async def send(self, message: str | bytes) -> None:
        for connection in list(self.connections):
            await connection.send(message)

    @contextmanager
    def not_reading(self) -> Iterator[Callable[[], bool]]:
        """Read nothing on the open connection, and go on sending; yields whether the client sent anything."""
        (connection,) = self.connections
        connection.transport.pause_reading()
        raw = connection.transport.get_extra_info("socket")

        def has_sent() -> bool:
            with raw.dup() as peeking:
                try:
                    return bool(peeking.recv(1, socket.MSG_PEEK))
                except BlockingIOError:
                    return False

        try:
            yield has_sent
        finally:
            connection.transport.resume_reading()

    async def disconnect(self) -> None:
        for connection in list(self.connections):
            await connection.close(1012)

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        query = parse_qs(urlsplit(connection.request.path).query)
        self.queries.append(query)
        self.began.append(time.monotonic())
        missed = self._missed(query) if self.resumes else None
        if self.damages:
            await self.skip()
        await connection.send(json.dumps({"recovered": missed is not None}))
        for frame in [self._encoder.full()] if missed is None else missed:
            await connection.send(frame)
        if self.damages:
            await connection.send(b"no frame")
        self.connections.add(connection)
        try:
            await connection.wait_closed()
        finally:
            self.connections.discard(connection)

    def _missed(self, query: dict[str, list[str]]) -> list[bytes] | None:
        """The frames behind the client's state; None if it has no state of this epoch."""
        if "sequence" not in query or int(query["epoch"][0]) != self._encoder.epoch:
            return None
        sequences = range(int(query["sequence"][0]) + 1, self._encoder.sequence + 1)
        return [self._kept[self._encoder.epoch, sequence] for sequence in sequences]

    async def start(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", self.port)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


@asynccontextmanager
async def socket_server() -> AsyncIterator[SocketServer]:
    """One that has published a state."""
    server = SocketServer()
    await server.start()
    try:
        await server.publish()
        yield server
    finally:
        await server.stop()
