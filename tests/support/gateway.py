"""A gateway in a process of its own, and clients of it that check each state they are sent."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import uvicorn
from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

import snapdelta
from snapdelta.gateway import Gateway
from snapdelta.gateway.server import server_for
from snapdelta.testing.server import free_port
from support.market import MARK, Market, State
from support.stream_harness import until
from support.uvicorn import get

NAME = "ranking"
# Ends a test that has failed.
LIMIT = 120.0
_SERVED = """
import asyncio

from redis.asyncio import Redis
from snapdelta.gateway import Gateway
from snapdelta.gateway import Gateway
from snapdelta.gateway.server import serve


async def main():
    redis = Redis(port={redis_port})
    try:
        await serve(Gateway(redis, [{name!r}], **{settings!r}), port={port})
    finally:
        await redis.aclose()


asyncio.run(main())
"""
_PLAIN = """
import uvicorn
from redis.asyncio import Redis
from snapdelta.gateway import Gateway

app = Gateway(Redis(port={redis_port}), [{name!r}], **{settings!r})
uvicorn.run(app, port={port}, log_level="warning", timeout_graceful_shutdown=1)
"""


class GatewayProcess:
    """One that can be killed and started again on its port. `plain`: by uvicorn itself."""

    def __init__(self, redis_port: int, folder: Path, *, plain: bool = False, **settings: object) -> None:
        self.port = free_port()
        code = (_PLAIN if plain else _SERVED).format(
            redis_port=redis_port, name=NAME, settings=settings, port=self.port
        )
        self._command = [sys.executable, "-c", code]
        self._log = folder / "gateway.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """All that it has written."""
        return self._log.read_text()

    @property
    def stream(self) -> str:
        return f"ws://127.0.0.1:{self.port}/snapshots/{NAME}/stream"

    async def start(self) -> None:
        """Until it answers; it may be that nothing is saved yet."""
        self.process = self._start()
        await until(self._answers, LIMIT)

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def terminate(self) -> float:
        """SIGTERM; the seconds until it has ended."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self.process.wait, LIMIT)
        return time.monotonic() - began

    def memory(self) -> int:
        """Bytes of RAM that it holds."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def processor_time(self) -> float:
        """Seconds of processor time that it has used."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        return (await get(self.port, "/livez"))[0] == 200


class Served:
    """A gateway in this process, behind a real server."""

    def __init__(self, app: Gateway, server: uvicorn.Server) -> None:
        self.app = app
        self.port = server.config.port
        self._server = server
        self._serving = asyncio.create_task(server.serve(), name="server")

    async def start(self) -> None:
        await until(lambda: self._server.started or self._serving.done(), LIMIT)

    async def stop(self) -> None:
        self._server.should_exit = True
        await asyncio.wait_for(self._serving, LIMIT)

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._server.server_state.connections)

    @property
    def stream(self) -> str:
        return f"ws://127.0.0.1:{self.port}/snapshots/{NAME}/stream"


class HeldUp:
    """Counts the calls of a method; none returns before `done` is set."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, method: str) -> None:
        self.calls = 0
        self.done = asyncio.Event()
        make = getattr(owner, method)

        async def held_up(this: Any) -> Any:
            self.calls += 1
            made = await make(this)
            await self.done.wait()
            return made

        patch.setattr(owner, method, held_up)


@asynccontextmanager
async def served(
    app: Gateway, inside: ASGIApp | None = None, port: int | None = None
) -> AsyncIterator[Served]:
    """A gateway, or the application that it is mounted in, on a port until the end."""
    process = Served(app, server_for(inside or app, port=port or free_port()))
    try:
        await process.start()
        yield process
    finally:
        await process.stop()


@asynccontextmanager
async def gateway_process(
    redis_port: int, folder: Path, *, plain: bool = False, **settings: object
) -> AsyncIterator[GatewayProcess]:
    process = GatewayProcess(redis_port, folder, plain=plain, **settings)
    await process.start()
    try:
        yield process
    finally:
        process.kill()


class Truth:
    """Every state that was given to a manager, by its digest."""

    def __init__(self) -> None:
        self.states: dict[int, tuple[str, int]] = {}
        self.newest = 0
        self._refused: set[int] = set()
        self._encoders: dict[str, snapdelta.Encoder] = {}

    def add(self, writer: str, number: int, state: State) -> int:
        """A state that is about to be saved; its digest."""
        encoder = self._encoders.setdefault(writer, snapdelta.Encoder())
        encoder.encode(state)
        self.states[encoder.digest] = writer, number
        return encoder.digest

    def saved(self, digest: int) -> None:
        self.newest = digest

    def refuse(self, digest: int) -> None:
        self._refused.add(digest)

    def check(self, digest: int) -> tuple[str, int]:
        """AssertionError unless somebody saved a state of this digest; whose, and which."""
        assert digest in self.states, "a state that nobody saved"
        assert digest not in self._refused, f"{self.states[digest]} was refused"
        return self.states[digest]


@dataclass
class StreamClient:
    """A client as followWebSocket is one: applies frames, and comes back with the state that it has."""

    url: str
    truth: Truth
    decoder: snapdelta.Decoder = field(default_factory=snapdelta.Decoder)
    connection: ClientConnection | None = None
    # What was seen: of each connection whether it was recovered; of each frame its kind and size.
    recovered: list[bool] = field(default_factory=list)
    frames: list[tuple[str, int]] = field(default_factory=list)
    shown: list[tuple[str, int]] = field(default_factory=list)
    heartbeats: int = 0
    # Bytes of the largest frame.
    largest: int = 0
    # Whether `frames` is kept.
    inspects: bool = True
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def query(self) -> str:
        if not self.shown:
            return ""
        decoder = self.decoder
        return f"?epoch={decoder.epoch}&sequence={decoder.sequence}&digest={decoder.digest:016x}"

    async def connect(self, query: str | None = None, **options: Any) -> None:
        asked = self.query if query is None else query
        self.connection = await connect(self.url + asked, compression=None, max_size=None, **options)

    async def stall(self) -> None:
        """Connect, and read nothing. Little fits into the buffers of the kernel."""
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        raw.setblocking(False)
        host, port = urlsplit(self.url).netloc.split(":")
        try:
            await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
            await self.connect(sock=raw, ping_interval=None)
        except BaseException:
            raw.close()
            raise
        assert self.connection is not None
        self.connection.transport.pause_reading()

    async def step(self) -> bool:
        """Take one message; whether there is another state now."""
        assert self.connection is not None
        message = await self.connection.recv()
        if isinstance(message, str):
            said = json.loads(message)
            self.heartbeats += said == {}
            if "recovered" in said:
                self.recovered.append(said["recovered"])
            self.about = said
            return False
        self.largest = max(self.largest, len(message))
        if self.inspects:
            self.frames.append((snapdelta.inspect(message).kind, len(message)))
        self.decoder.apply(message)
        assert "timestamp" in self.about
        mark = self.truth.check(self.decoder.digest)
        if self.shown and self.shown[-1][0] == mark[0]:
            assert mark[1] >= self.shown[-1][1], (self.shown[-1], mark)
        self.shown.append(mark)
        return True

    async def reach(self, digest: int | None = None) -> None:
        """Until it is at the newest state that was saved, or at this one."""
        async with asyncio.timeout(LIMIT):
            while not self.shown or self.decoder.digest != (self.truth.newest if digest is None else digest):
                await self.step()

    async def follow(self, **options: Any) -> None:
        """For ever, also over connections that end."""
        while True:
            try:
                await self.connect(**options)
                while True:
                    await self.step()
            except (OSError, WebSocketException, TimeoutError):
                await self.close()
                await asyncio.sleep(0.1)

    async def close(self) -> None:
        if self.connection is not None:
            self.connection.transport.abort()
            with suppress(ConnectionClosed):
                await self.connection.wait_closed()


class NoisyMarket:
    """States of a market whose frames are large: nothing can be predicted, and a fifth of it changes."""

    def __init__(self, writer: str = "A", symbols: int = 400) -> None:
        self.writer = writer
        self.saved = 0
        self._random = random.Random(writer)
        self._records: State = {f"S{n}": self._record() for n in range(symbols)}

    def next(self) -> State:
        self.saved += 1
        for symbol in self._random.sample(list(self._records), len(self._records) // 5):
            self._records[symbol] = self._record()
        return {MARK: {"writer": self.writer, "n": self.saved}, **self._records}

    def _record(self) -> dict[str, float]:
        return {f"field {n}": self._random.random() for n in range(20)}


class Saver:
    """Saves the states of a market under NAME, and tells the truth about them."""

    def __init__(self, redis: Any, market: Market | NoisyMarket, truth: Truth, **settings: Any) -> None:
        self.market: Any = market
        self.truth = truth
        self._manager = snapdelta.SnapshotManager(redis, **settings)

    async def save(self, count: int = 1) -> dict[str, Any]:
        """The next states; the result of the last one."""
        result: dict[str, Any] = {}
        for _ in range(count):
            state = self.market.next()
            result = await self.put(state, self.market.writer, self.market.saved)
        return result

    async def put(self, state: State, writer: str, number: int) -> dict[str, Any]:
        """Save a state of one's own."""
        digest = self.truth.add(writer, number, state)
        result = dict(await self._manager.save_snapshot(state, NAME))
        self.truth.saved(digest)
        return result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._manager.close()
