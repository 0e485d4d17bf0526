"""A crowd of clients: some read nothing, some come and go, some lie; through all kinds of faults."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import WebSocketException

from snapdelta.errors import SnapshotError, SnapshotUnavailableError
from support.documents import TESTS
from support.gateway import GatewayProcess, NoisyMarket, Saver, StreamClient, Truth, gateway_process
from support.servers import Server

# What docs/gateway.md says of the memory a client, in bytes: at rest, and beside a frame while it is sent.
AT_REST = 60_000
IN_FLIGHT = 2 * 65_536
Behaviour = Callable[[StreamClient, random.Random], Coroutine[Any, Any, None]]
_FAILED = (OSError, WebSocketException, TimeoutError)


@dataclass
class Crowd:
    """Clients in tasks of their own, of each kind."""

    process: GatewayProcess
    truth: Truth
    steady: list[StreamClient] = field(default_factory=list)
    restless: list[StreamClient] = field(default_factory=list)
    others: list[StreamClient] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    lies: int = 0
    stalls: int = 0

    def add(self, count: int, behave: Behaviour) -> None:
        kinds = {self.is_steady: self.steady, self.is_restless: self.restless}
        kind = next((clients for known, clients in kinds.items() if known == behave), self.others)
        for _ in range(count):
            client = StreamClient(self.process.stream, self.truth, inspects=False)
            kind.append(client)
            rng = random.Random(len(self.tasks))
            self.tasks.append(asyncio.create_task(self._going_on(client, behave, rng), name="client"))

    async def _going_on(
        self,
        client: StreamClient,
        behave: Behaviour,
        rng: random.Random,
    ) -> None:
        while True:
            with suppress(*_FAILED):
                await behave(client, rng)
            await client.close()
            await asyncio.sleep(rng.uniform(0.1, 0.5))

    async def is_steady(self, client: StreamClient, _rng: random.Random) -> None:
        await client.connect()
        while True:
            await client.step()

    async def is_restless(self, client: StreamClient, rng: random.Random) -> None:
        await client.connect()
        with suppress(TimeoutError):
            async with asyncio.timeout(rng.uniform(0.5, 5)):
                while True:
                    await client.step()

    async def reads_nothing(self, client: StreamClient, rng: random.Random) -> None:
        await client.stall()
        self.stalls += 1
        await asyncio.sleep(rng.uniform(5, 20))

    async def lies_about(self, client: StreamClient, rng: random.Random) -> None:
        """Names a state that nobody has saved, takes one, and says nonsense."""
        told = rng.choice(["epoch=5", f"epoch={int(time.time() * 1000)}", "epoch=x"])
        await client.connect(f"?{told}&sequence={rng.randrange(50)}&digest={rng.getrandbits(64):016x}")
        while not await client.step():
            pass
        assert client.recovered[-1] is False
        assert client.connection is not None
        await client.connection.send(rng.randbytes(100))
        while True:
            await client.step()
            self.lies += 1

    async def caught_up(self) -> None:
        """Until all who read are at the newest state."""
        async with asyncio.timeout(180):
            while not all(
                client.shown and client.decoder.digest == self.truth.newest for client in self.steady
            ):
                self.check()
                await asyncio.sleep(0.05)

    def check(self) -> None:
        for task in self.tasks:
            if task.done():
                task.result()

    async def leave(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for client in (*self.steady, *self.restless, *self.others):
            await client.close()


async def probing(url: str, count: int) -> asyncio.subprocess.Process:
    """Clients that measure, in a process that nothing else keeps busy."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "support.gateway_probe", url, str(count))
    path = os.pathsep.join([str(TESTS), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    return await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, env=environment, limit=1 << 24
    )


async def ended(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.communicate()


@pytest.mark.parametrize(
    ("clients", "seconds", "pause"),
    [(40, 2.0, 0.1), pytest.param(500, 20.0, 1.0, marks=pytest.mark.long)],
)
async def test_a_crowd(
    fresh_server: Callable[..., Server], tmp_path: Path, clients: int, seconds: float, pause: float
) -> None:
    server, truth = fresh_server(persist=True), Truth()
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(server.client())
        saver = await stack.enter_async_context(Saver(redis, NoisyMarket(), truth))
        await saver.save()
        process = await stack.enter_async_context(
            gateway_process(server.port, tmp_path, send_timeout=5, heartbeat=1)
        )
        crowd = Crowd(process, truth)
        stack.push_async_callback(crowd.leave)

        memory: list[int] = []

        async def saves() -> None:
            began = time.monotonic()
            while time.monotonic() < began + seconds:
                with suppress(SnapshotUnavailableError):
                    await saver.save()
                crowd.check()
                memory.append(process.memory())
                await asyncio.sleep(pause)

        crowd.add(1, crowd.is_steady)
        for _ in range(5):
            await saver.save()
            await crowd.caught_up()
        alone = process.memory()
        share = clients // 10
        probes = await probing(process.stream, 10 + share // 5)
        stack.push_async_callback(ended, probes)
        crowd.add(clients - 4 * share, crowd.is_steady)
        assert probes.stdout is not None
        await probes.stdout.readline()
        await crowd.caught_up()
        at_rest = process.memory()
        crowd.add(2 * share, crowd.is_restless)
        crowd.add(share, crowd.reads_nothing)
        crowd.add(share, crowd.lies_about)

        used, states = process.processor_time(), len(truth.states)
        await saves()
        await crowd.caught_up()
        used, states = process.processor_time() - used, len(truth.states) - states
        said, _ = await probes.communicate(b"\n")
        delays = sorted(json.loads(said))
        peak = max(memory)
        full = max(client.largest for client in crowd.steady)
        steady = clients - 4 * share

        process.kill()
        with suppress(SnapshotError):
            await saver.save()
        await process.start()
        await saves()
        server.restart(empty=False)
        await saves()
        saver = await stack.enter_async_context(Saver(redis, NoisyMarket("B"), truth))
        await saves()
        await saver.save()
        await crowd.caught_up()

        figures = {
            "clients": clients,
            "full frame": full,
            "bytes a client at rest": (at_rest - alone) // steady,
            "bytes a client at the peak": (peak - alone) // clients,
            "delivery, median (ms)": round(delays[len(delays) // 2]),
            "delivery, p99 (ms)": round(delays[len(delays) * 99 // 100]),
            "deliveries measured": len(delays),
            "processor time a client and state (us)": round(1e6 * used / states / clients),
            "load of the machine": os.getloadavg()[0],
            "stalls": crowd.stalls,
            "lies": crowd.lies,
            "states": len(truth.states),
        }
        print(json.dumps(figures))
        assert peak - alone < clients * (AT_REST + IN_FLIGHT + full)
        assert "Traceback" not in process.log
