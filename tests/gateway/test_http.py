"""What a gateway answers to GETs, who may ask, and how it is mounted."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import Mount
from starlette.types import ASGIApp
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from snapdelta.errors import SnapshotSettingError
from snapdelta.gateway import Gateway, GatewaySettings
from snapdelta.gateway.documents import Documents
from support.gateway import LIMIT, NAME, HeldUp, Saver, Served, StreamClient, Truth, served
from support.market import Market
from support.servers import Server
from support.stream_harness import until

pytestmark = pytest.mark.parametrize("server", ["valkey-9.1"], indirect=True)
_SNAPSHOT = f"/snapshots/{NAME}"


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def get(port: int, path: str, **headers: str) -> Answer:
    def fetch() -> Answer:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=named)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    return await asyncio.to_thread(fetch)


@asynccontextmanager
async def running(server: Server, **settings: Any) -> AsyncIterator[tuple[Served, Saver]]:
    async with (
        server.client() as redis,
        Saver(redis, Market(), Truth()) as saver,
        served(Gateway(redis, [NAME], **settings)) as process,
    ):
        yield process, saver


async def is_newest(process: Served, saver: Saver) -> bool:
    answer = await get(process.port, f"{_SNAPSHOT}/%23")
    return answer.status == 200 and bool(answer.json["n"] == saver.market.saved)


async def test_a_snapshot_and_its_etag(server: Server) -> None:
    async with running(server) as (process, saver):
        port = process.port
        assert (await get(port, _SNAPSHOT)).status == 503
        assert (await get(port, "/readyz")).status == 503
        assert (await get(port, "/livez")).status == 200
        result = await saver.save()
        await until(lambda: is_newest(process, saver))
        assert (await get(port, "/readyz")).json == {"ready": True, "status": "ok"}
        whole = await get(port, _SNAPSHOT)
        assert (whole.status, whole.json) == (200, saver.market.state(1))
        assert list(whole.json) == list(saver.market.state(1))
        digest = server.execute("HGET", f"snapdelta:{{{NAME}}}:head", "digest")
        assert whole.headers["etag"] == f'"{digest}"'
        assert whole.headers["snapdelta-state"] == f"{result['epoch']}-{result['sequence']}"
        etag = whole.headers["etag"]
        for known in (etag, f'"other", W/{etag}', "*"):
            unchanged = await get(port, _SNAPSHOT, if_none_match=known)
            assert (unchanged.status, unchanged.body, unchanged.headers["etag"]) == (304, b"", etag)
            assert unchanged.headers["cache-control"] == whole.headers["cache-control"] == "no-cache"
        await saver.save()
        await until(lambda: is_newest(process, saver))
        changed = await get(port, _SNAPSHOT, if_none_match=etag)
        assert (changed.status, changed.json) == (200, saver.market.state(2))


async def test_records(server: Server) -> None:
    async with running(server) as (process, saver):
        state = {"A/B": {"x": 1.0}, "stream": 1, "null": None, "Ä ": "text", "gone": 1}
        await saver.put(state, "A", 1)
        await until(lambda: process.app.reader_stats(NAME).updates == 1)
        for symbol, record in state.items():
            found = await get(process.port, f"{_SNAPSHOT}/{quote(symbol)}")
            assert (found.status, found.json) == (200, record)
        unchanged = await get(process.port, f"{_SNAPSHOT}/gone", if_none_match=found.headers["etag"])
        assert unchanged.status == 304
        del state["gone"]
        await saver.put(state | {"A/B": 2}, "A", 2)
        await until(lambda: process.app.reader_stats(NAME).updates == 2)
        assert (await get(process.port, f"{_SNAPSHOT}/A/B")).json == 2
        for path in (f"{_SNAPSHOT}/gone", f"{_SNAPSHOT}/", "/snapshots/other", "/snapshots/other/A", "/"):
            assert (await get(process.port, path)).status == 404, path


async def test_a_name_that_redis_has_lost(server: Server) -> None:
    """As every follower, the gateway has the last state until the next save."""
    async with running(server) as (process, saver):
        await saver.save()
        await until(lambda: is_newest(process, saver))
        server.execute("FLUSHALL")
        server.load_scripts()
        assert (await get(process.port, _SNAPSHOT)).json == saver.market.state(1)
        await saver.save()
        await until(lambda: is_newest(process, saver))
        assert (await get(process.port, _SNAPSHOT)).json == saver.market.state(2)
        assert sum(process.app.reader_stats(NAME).resyncs.values()) == 1


async def test_more_requests_than_may_be(server: Server) -> None:
    """One whose answer is not read keeps its place until `send_timeout`, and then is disconnected."""
    async with running(server, max_requests=1, send_timeout=0.5) as (process, saver):
        await saver.put({f"S{n}": "x" * 10_000 for n in range(2_000)}, "A", 1)
        await until(lambda: process.app.reader_stats(NAME).updates == 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port, limit=1024)
        writer.write(f"GET {_SNAPSHOT} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
        await reader.readexactly(1)
        refused = await get(process.port, _SNAPSHOT)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert process.app.refused() == {"clients": 0, "requests": 1, "denied": 0}

        async def is_free() -> bool:
            return (await get(process.port, f"{_SNAPSHOT}/S1")).status == 200

        await until(is_free)
        await until(lambda: process.connections == 0)
        writer.transport.abort()


async def test_answers_do_not_pile_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of requests in five states while one document is made, all wait for the one after it."""
    making = HeldUp(monkeypatch, Documents, "_make")
    async with running(server, command_timeout=LIMIT) as (process, saver):
        asked = []
        for _ in range(5):
            await saver.save()
            await until(lambda: process.app.reader_stats(NAME).updates == saver.market.saved)
            asked.append(asyncio.create_task(get(process.port, _SNAPSHOT)))
            await until(lambda: process.app.stats(NAME).requests == len(asked))
        making.done.set()
        first, *others = [answer.json for answer in await asyncio.gather(*asked)]
        assert first == saver.market.state(1)
        assert others == [saver.market.state(5)] * 4
        assert making.calls == 2


async def test_who_may_connect(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    async def authorize(connection: HTTPConnection) -> bool:
        asked.append(connection.url.path)
        token = connection.query_params.get("token")
        if token == "slow":
            await asyncio.sleep(LIMIT)
        if token is None:
            raise HTTPException(401, "who are you?", {"www-authenticate": "Bearer"})
        return token == "secret"

    async with running(server, authorize=authorize, authorize_timeout=0.2) as (process, saver):
        await saver.save()
        paths = [_SNAPSHOT, f"{_SNAPSHOT}/%23", "/snapshots/other", "/metrics"]
        for path in paths:
            nobody = await get(process.port, path)
            assert (nobody.status, nobody.headers["www-authenticate"]) == (401, "Bearer")
            assert (await get(process.port, f"{path}?token=wrong")).status == 403
        for token, status in (("", 401), ("?token=wrong", 403), ("?token=slow", 503)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(process.stream + token)
            assert refused.value.response.status_code == status
        assert process.app.refused()["denied"] == 5
        client = StreamClient(process.stream + "?token=secret", saver.truth)
        await client.connect("")
        await client.reach()
        await client.close()
        asked.clear()
        assert (await get(process.port, "/livez")).status == 200
        assert (await get(process.port, "/readyz")).status == 200
        assert not asked
    assert not [record for record in caplog.records if getattr(record, "event", "") == "gateway_open"]


async def test_that_anybody_may_connect_is_said_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(server) as (process, _):
        for _ in range(3):
            await get(process.port, _SNAPSHOT)
    (said,) = (record for record in caplog.records if getattr(record, "event", "") == "gateway_open")
    assert (said.levelno, "authorize=" in said.getMessage()) == (logging.WARNING, True)


async def test_metrics(server: Server) -> None:
    async with running(server) as (process, saver):
        await saver.save()
        client = StreamClient(process.stream, saver.truth)
        await client.connect()
        await client.reach()
        await saver.save()
        await client.reach()
        await get(process.port, _SNAPSHOT)
        lines = (await get(process.port, "/metrics")).body.decode().splitlines()
        for line in (
            'snapdelta_gateway_clients{name="ranking"} 1.0',
            'snapdelta_gateway_messages_total{kind="full",name="ranking"} 1.0',
            'snapdelta_gateway_messages_total{kind="delta",name="ranking"} 1.0',
            'snapdelta_gateway_requests_total{name="ranking"} 1.0',
            'snapdelta_gateway_refused_total{reason="denied"} 0.0',
            'snapdelta_reader_updates_total{name="ranking"} 2.0',
        ):
            assert line in lines, line
        await client.close()


@pytest.mark.parametrize("kind", ["starlette", "fastapi"])
async def test_mounted_in_an_application(server: Server, kind: str) -> None:
    async with server.client() as redis, Saver(redis, Market(), Truth()) as saver:
        gateway = Gateway(redis, [NAME])

        @asynccontextmanager
        async def lifespan(_app: Any) -> AsyncIterator[None]:
            async with gateway:
                yield

        app: ASGIApp
        if kind == "starlette":
            app = Starlette(routes=[Mount("/live", gateway)], lifespan=lifespan)
        else:
            fast = FastAPI(lifespan=lifespan)
            fast.mount("/live", gateway)
            app = fast
        await saver.save()
        async with served(gateway, app) as process:
            await until(lambda: gateway.reader_stats(NAME).updates == 1)
            assert (await get(process.port, f"/live{_SNAPSHOT}/%23")).json["n"] == 1
            client = StreamClient(process.stream.replace("/snapshots", "/live/snapshots"), saver.truth)
            await client.connect()
            await client.reach()
            await saver.save()
            await client.reach()
        # The end of the server has closed the gateway, and with it the connection to Redis.
        assert "cmd=xread" not in server.execute("CLIENT", "LIST")
        await client.close()


async def test_closing_a_gateway_disconnects_its_clients(server: Server) -> None:
    async with running(server) as (process, saver):
        await saver.save()
        client = StreamClient(process.stream, saver.truth)
        await client.connect()
        await client.reach()
        await process.app.aclose()
        assert client.connection is not None
        await asyncio.wait_for(client.connection.wait_closed(), LIMIT)
        assert client.connection.close_code == 1012
        assert (await get(process.port, _SNAPSHOT)).status == 503
        assert (await get(process.port, "/readyz")).status == 503


async def test_settings_that_cannot_be(server: Server) -> None:
    async with server.client() as redis:
        for settings in (
            {"max_clients": 0},
            {"max_queue_bytes": 1.5},
            {"send_timeout": 0},
            {"heartbeat": float("nan")},
            {"limits": 5},
            {"key_prefix": "{"},
            {"authorize": True},
        ):
            (name,) = settings
            with pytest.raises(SnapshotSettingError, match=name):
                Gateway(redis, [NAME], **settings)
        for names in ("ranking", [], ["a", "a"], ["{"], [1]):
            with pytest.raises(SnapshotSettingError, match="name"):
                Gateway(redis, names)  # type: ignore[arg-type]
        with pytest.raises(SnapshotSettingError, match="redis_client"):
            Gateway("redis://", [NAME])  # type: ignore[arg-type]
        assert Gateway(redis, [NAME], max_clients=5).settings == GatewaySettings(max_clients=5)
        assert isinstance(redis, Redis)
