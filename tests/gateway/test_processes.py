"""A gateway in a process of its own: killed, asked to end, with a server of Redis that is killed."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from snapdelta.errors import SnapshotUnavailableError
from snapdelta.testing.server import free_port
from support.gateway import NAME, NoisyMarket, Saver, StreamClient, Truth, gateway_process
from support.market import Market
from support.servers import Server, patience
from support.stream_harness import until
from support.uvicorn import get


@pytest.fixture
def server(fresh_server: Callable[..., Server]) -> Server:
    return fresh_server(persist=True)


async def test_kills(server: Server, tmp_path: Path) -> None:
    """Of the gateway, of Redis, of both: clients go on from the state that they have, and miss nothing."""
    truth = Truth()
    async with server.client() as redis, Saver(redis, Market(), truth) as saver:
        await saver.save(3)
        async with gateway_process(server.port, tmp_path) as process:
            clients = [StreamClient(process.stream, truth) for _ in range(5)]
            following = [asyncio.create_task(client.follow(), name="client") for client in clients]
            try:
                for kills_gateway, kills_redis in ((True, False), (False, True), (True, True)):
                    await caught_up(clients, following)
                    if kills_gateway:
                        process.kill()
                    if kills_redis:
                        server.restart(empty=False)
                        # Its first command finds a dead connection.
                        with suppress(SnapshotUnavailableError):
                            await saver.save()
                    await saver.save(2)
                    if kills_gateway:
                        await process.start()
                await caught_up(clients, following)
            finally:
                for task in following:
                    task.cancel()
                await asyncio.gather(*following, return_exceptions=True)
                for client in clients:
                    await client.close()
            for client in clients:
                assert client.recovered[0] is False
                assert set(client.recovered[1:]) == {True}
                assert [kind for kind, _ in client.frames].count("full") == 1
            assert "Traceback" not in process.log


async def caught_up(clients: list[StreamClient], following: list[asyncio.Task[None]]) -> None:
    async with asyncio.timeout(120):
        while any(not client.shown or client.decoder.digest != client.truth.newest for client in clients):
            assert not any(task.done() for task in following), following
            await asyncio.sleep(0.02)


async def test_nothing_is_queued_for_clients_that_read_nothing(server: Server, tmp_path: Path) -> None:
    """They would be behind by several times of what the gateway takes for them."""
    truth, count = Truth(), 30
    async with (
        server.client() as redis,
        Saver(redis, NoisyMarket(), truth) as saver,
        gateway_process(server.port, tmp_path, send_timeout=600, heartbeat=600) as process,
    ):
        client = StreamClient(process.stream, truth)
        stalled = [StreamClient(process.stream, truth) for _ in range(count)]
        try:
            await saver.save()
            await client.connect()
            for each in stalled:
                await each.stall()
            for _ in range(10):
                await saver.save()
                await client.reach()
            before = process.memory()
            for _ in range(120):
                await saver.save()
                await client.reach()
            sent = sum(size for _, size in client.frames)
            assert process.memory() - before < count * sent / 3
        finally:
            for each in (client, *stalled):
                await each.close()


async def test_the_command(server: Server, tmp_path: Path) -> None:
    truth, port = Truth(), free_port()
    command = [sys.executable, "-m", "snapdelta", "gateway", NAME, "--json"]
    command += ["--redis", f"redis://127.0.0.1:{server.port}", "--port", str(port)]
    running = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert running.stdout is not None
        said = json.loads(await running.stdout.readline())
        assert said == {"url": f"http://127.0.0.1:{port}/snapshots/", "names": [NAME]}
        async with server.client() as redis, Saver(redis, Market(), truth) as saver:
            await saver.save()

            async def is_ready() -> bool:
                return (await get(port, "/readyz"))[0] == 200

            await until(is_ready)
            client = StreamClient(f"ws://127.0.0.1:{port}/snapshots/{NAME}/stream", truth)
            await client.connect()
            await client.reach()
            running.terminate()
            assert await running.wait() == 0
            await client.close()
    finally:
        with suppress(ProcessLookupError):
            running.kill()
        await running.communicate()


@pytest.mark.parametrize(
    ("missing", "module", "extra"),
    [
        ("starlette", "snapdelta.gateway", "snapdelta-rs[gateway]"),
        ("orjson", "snapdelta.gateway", "snapdelta-rs[gateway]"),
        ("uvicorn", "snapdelta.gateway.server", "pip install uvicorn websockets"),
    ],
)
def test_what_is_missing_is_named(missing: str, module: str, extra: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import {module}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in run.stderr
    assert extra in run.stderr


@pytest.mark.parametrize("plain", [False, True], ids=["serve", "uvicorn"])
@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.long)])
async def test_the_end(server: Server, tmp_path: Path, count: int, plain: bool) -> None:
    """With clients that read, and some that do not: uvicorn waits for these until its own time limit."""
    truth = Truth()
    async with server.client() as redis, Saver(redis, NoisyMarket(symbols=4_000), truth) as saver:
        await saver.save()
        async with gateway_process(server.port, tmp_path, plain=plain) as process:
            clients = [StreamClient(process.stream, truth, inspects=False) for _ in range(count)]
            for number, client in enumerate(clients):
                if number % 10 == 0:
                    await client.stall()
                else:
                    await client.connect()
                    await client.reach()
            took = await process.terminate()
            print(f"{count} clients: ended {took:.2f} s after SIGTERM")
            assert process.process is not None
            assert process.process.returncode in (0, -signal.SIGTERM)
            # A busy machine may take its time; that the process ends, and is not killed, shows above.
            assert count < 200 or took < patience(2.0)
            for client in clients:
                await client.close()
            if not plain:
                assert process.log.count("\n") <= 1, process.log
