"""A gateway in a process of its own: killed, asked to end, with a server of Redis that is killed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from snapdelta.errors import SnapshotUnavailableError
from support.gateway import NoisyMarket, Saver, StreamClient, Truth, gateway_process
from support.market import Market
from support.servers import Server, patience


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
            assert took < patience(2.0)
            for client in clients:
                await client.close()
            if not plain:
                assert process.log.count("\n") <= 1, process.log
