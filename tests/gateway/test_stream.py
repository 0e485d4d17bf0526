"""The stream of a gateway: every state in order, resume, late clients, subsets, clients that misbehave."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from snapdelta import Absolute, Encoder, SnapshotManager, inspect
from snapdelta.gateway import Gateway
from snapdelta.gateway.catch_up import CatchUp
from support.gateway import LIMIT, NAME, HeldUp, Saver, Served, StreamClient, Truth, served
from support.market import Market
from support.servers import Server, patience
from support.stream_harness import until

Followed = tuple[Served, Saver, StreamClient]
pytestmark = pytest.mark.parametrize("server", ["valkey-9.1"], indirect=True)


@asynccontextmanager
async def gateway(server: Server, **settings: Any) -> AsyncIterator[Served]:
    async with server.client() as redis, served(Gateway(redis, [NAME], **settings)) as process:
        yield process


@asynccontextmanager
async def followed(server: Server, **settings: object) -> AsyncIterator[Followed]:
    """A gateway, a writer that has saved a state, and a client that has it."""
    truth = Truth()
    async with server.client() as redis, Saver(redis, Market(), truth) as saver:
        await saver.save()
        async with gateway(server, **settings) as process:
            client = StreamClient(process.stream, truth)
            try:
                await client.connect()
                await client.reach()
                yield process, saver, client
            finally:
                await client.close()


async def test_full_frames_do_not_pile_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of clients that come in five states while one full frame is made, all get the one after it."""
    making = HeldUp(monkeypatch, CatchUp, "_make_full")
    truth, clients = Truth(), []
    async with (
        server.client() as redis,
        Saver(redis, Market(), truth) as saver,
        gateway(server, heartbeat=0.1) as process,
    ):
        try:
            for _ in range(5):
                await saver.save()
                await until(lambda: process.app.reader_stats(NAME).updates == saver.market.saved)
                client = StreamClient(process.stream, truth)
                clients.append(client)
                await client.connect()
                # It waits for a full frame.
                while client.heartbeats < 2:
                    await client.step()
            making.done.set()
            for client in clients:
                await client.reach()
        finally:
            for client in clients:
                await client.close()
    assert [client.frames[0][0] for client in clients] == ["full"] * 5
    assert [client.shown[0][1] for client in clients] == [1, 5, 5, 5, 5]
    assert making.calls == 2


def reached(process: Served, updates: int) -> bool:
    return process.app.reader_stats(NAME).updates == updates


async def test_full_frames_within_a_tolerance_say_so(server: Server) -> None:
    """A client that comes now gets the frame that the writer would make: its place, and what it held."""
    tolerance: dict[Any, Any] = {"p": Absolute(0.5)}
    writer = Encoder(tolerance=tolerance)
    async with (
        server.client() as redis,
        SnapshotManager(redis, tolerance=tolerance) as manager,
        gateway(server, full_interval=0.01) as process,
    ):
        for number in range(1, 4):
            state = {f"S{n}": {"p": n + number / 10, "n": number} for n in range(50)}
            result = await manager.save_snapshot(state, NAME)
            if number == 1:
                writer.begin(result["epoch"])
            writer.encode(state)
            await until(partial(reached, process, number))
            async with connect(process.stream) as socket:
                frame = next(m for m in [await socket.recv() for _ in range(3)] if isinstance(m, bytes))
            assert frame == writer.full()
            info = inspect(frame)
            assert info.within_tolerance
            assert info.held_cells == result["held_cells"] == 50 * (number > 1)


async def test_every_state_in_order(server: Server) -> None:
    async with followed(server) as (process, saver, client):
        # Each before the next: a client that is behind may be sent several as one.
        for _ in range(10):
            await saver.save()
            await client.reach()
        assert [number for _, number in client.shown] == list(range(1, 12))
        assert [kind for kind, _ in client.frames] == ["full"] + ["delta"] * 10
        assert client.recovered == [False]
        late = StreamClient(process.stream, client.truth)
        await late.connect()
        await late.reach()
        assert late.frames[0][0] == "full"
        await late.close()


async def test_a_client_comes_back_with_its_state(server: Server) -> None:
    async with followed(server) as (_, saver, client):
        await client.close()
        await saver.save(3)
        await client.connect()
        await client.reach()
        await client.close()
        # At the newest state there is nothing to send.
        await client.connect()
        await client.step()
        assert client.recovered == [False, True, True]
        assert [kind for kind, _ in client.frames] == ["full"] + ["delta"] * 3


async def test_a_late_client_gets_one_delta(server: Server) -> None:
    async with followed(server, max_queue_frames=4) as (_, saver, client):
        for _ in range(3):
            await client.close()
            await saver.save(20)
            await asyncio.sleep(0.2)
            await client.connect()
            await client.reach()
        assert client.recovered == [False, True, True, True]
        # Not one frame a state.
        assert 3 <= len(client.frames) - 1 <= 15
        assert {kind for kind, _ in client.frames[1:]} == {"delta"}


_LIES = (
    {"digest": "0123456789abcdef"},
    {"epoch": "17"},
    {"sequence": "900"},
    {"epoch": "x", "sequence": "-1", "digest": "zz"},
    {"digest": ""},
    {"sequence": "9" * 5000},
    {"epoch": "%D9%A1"},
    {"digest": "00%00%00"},
)


async def test_clients_that_lie_about_their_state(server: Server) -> None:
    """They are sent a full frame, as if they had said nothing."""
    async with followed(server) as (_, saver, client):
        await saver.save(3)
        await client.reach()
        decoder = client.decoder
        truth = {
            "epoch": str(decoder.epoch),
            "sequence": str(decoder.sequence),
            "digest": f"{decoder.digest:016x}",
        }
        for lie in _LIES:
            liar = StreamClient(client.url, client.truth)
            await liar.connect("?" + "&".join(f"{key}={value}" for key, value in (truth | lie).items()))
            await liar.reach()
            assert liar.recovered == [False], lie
            assert liar.frames[0][0] == "full"
            await liar.close()


async def test_heartbeats_on_a_quiet_name(server: Server) -> None:
    async with followed(server, heartbeat=0.05) as (_, saver, client):
        while client.heartbeats < 3:
            await client.step()
        await saver.save()
        await client.reach()
        assert len(client.frames) == 2


async def test_a_client_before_the_first_save(server: Server) -> None:
    truth = Truth()
    async with gateway(server, heartbeat=0.05) as process:
        client = StreamClient(process.stream, truth)
        await client.connect()
        while client.heartbeats < 2:
            await client.step()
        async with server.client() as redis, Saver(redis, Market(), truth) as saver:
            await saver.save()
            await client.reach()
        await client.close()


def subset(process: Served) -> connect:
    return connect(f"{process.stream}?symbols=%23,S1,S2,GONE,N7,N8,N9,S1")


async def test_a_subset_as_json(server: Server) -> None:
    async with followed(server) as (process, saver, client), subset(process) as socket:
        told: dict[str, Any] = {}
        for number in range(1, 31):
            if number > 1:
                await saver.save()
                await client.reach()
            state = saver.market.state(number)
            said = json.loads(await socket.recv())
            for symbol in said["removed"]:
                del told[symbol]
            assert all(told.get(symbol) != record for symbol, record in said["records"].items())
            told |= said["records"]
            assert told == {s: state[s] for s in ("#", "S1", "S2", "N7", "N8", "N9") if s in state}
            assert int(said["digest"], 16) == client.decoder.digest
            assert (said["epoch"], said["sequence"]) == (client.decoder.epoch, number)


async def test_clients_that_say_something(server: Server) -> None:
    async with followed(server) as (process, saver, client):
        for message, code in (("hello", 1003), (b"\xd1SND garbage", 1003), ("x" * 100_000, 1009)):
            talker = StreamClient(process.stream, client.truth)
            await talker.connect()
            await talker.reach()
            assert talker.connection is not None
            await talker.connection.send(message)
            with pytest.raises(ConnectionClosed) as closed:
                await talker.connection.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == code
        await saver.save()
        await client.reach()


async def test_more_clients_than_may_be(server: Server) -> None:
    async with followed(server, max_clients=2) as (process, _, client):
        second = StreamClient(process.stream, client.truth)
        await second.connect()
        await second.reach()
        with pytest.raises(InvalidStatus) as refused:
            await connect(process.stream)
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["retry-after"] == "1"
        await second.close()
        third = StreamClient(process.stream, client.truth)

        async def connects() -> bool:
            try:
                await third.connect()
            except InvalidStatus:
                return False
            return True

        await until(connects, LIMIT)
        await third.close()


async def test_what_cannot_be_streamed(server: Server) -> None:
    async with followed(server, max_symbols=3) as (process, _, _):
        stream = process.stream
        for url, status in (
            (f"{stream}?symbols=", 400),
            (f"{stream}?symbols=,,", 400),
            (f"{stream}?symbols=A,B,C,D", 400),
            (stream.replace(NAME, "other"), 404),
        ):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url)
            assert refused.value.response.status_code == status, url


async def test_a_writer_restarts(server: Server) -> None:
    """The new one goes on from the state before, and so do clients, also those that were away."""
    async with followed(server) as (process, _, client):
        truth = client.truth
        away = StreamClient(process.stream, truth)
        await away.connect()
        await away.reach()
        await away.close()
        async with server.client() as redis, Saver(redis, Market("B"), truth) as after:
            await after.save(3)
            await client.reach()
            await away.connect()
            await away.reach()
        assert away.recovered == [False, True]
        assert [kind for kind, _ in client.frames] == ["full"] + ["delta"] * 3
        await away.close()


async def test_a_chain_that_begins_anew(server: Server) -> None:
    """Redis has lost everything: clients are sent a full frame of the next state, and never an older one."""
    async with followed(server) as (_, saver, client):
        server.execute("FLUSHALL")
        server.load_scripts()
        await saver.save(2)
        await client.reach()
        assert [kind for kind, _ in client.frames].count("full") == 2
        assert client.shown[-1] == ("A", 3)


async def test_full_frames_in_the_place_of_deltas(server: Server) -> None:
    """Of states so small that a delta is no smaller. No delta is composed over them."""
    truth = Truth()
    async with server.client() as redis, Saver(redis, Market(), truth) as saver:
        await saver.put({"A": 0}, "A", 0)
        async with gateway(server, max_queue_frames=2) as process:
            client = StreamClient(process.stream, truth)
            await client.connect()
            await client.reach()
            for number in range(1, 4):
                assert (await saver.put({f"S{number}": f"text {number}"}, "A", number))["reason"] == "larger"
                await client.reach()
            assert client.about["reason"] == "larger"
            await client.close()
            for number in range(4, 9):
                await saver.put({f"S{number}": f"text {number}"}, "A", number)
            await asyncio.sleep(0.2)
            await client.connect()
            await client.reach()
            await client.close()


async def test_a_client_that_reads_nothing_is_cut(server: Server) -> None:
    """It holds nobody up, and gets a state of that moment when it comes back."""
    limit = patience(0.5)
    async with followed(server, heartbeat=limit / 4, send_timeout=limit) as (process, saver, client):
        stalled = StreamClient(process.stream, client.truth)
        await stalled.stall()
        noise = random.Random(1)
        records = {f"S{n}": noise.randbytes(2_000) for n in range(100)}
        for number in range(2, 22):
            records |= {f"S{n}": noise.randbytes(2_000) for n in noise.sample(range(100), 30)}
            await saver.put(records, "A", number)
            await client.reach()
        await until(lambda: process.app.stats(NAME).slow == 1, LIMIT)
        await until(lambda: process.app.stats(NAME).clients == 1, LIMIT)
        await stalled.close()
        await stalled.connect()
        await stalled.reach()
        await stalled.close()
