"""Gateway: the newest states of some names over HTTP and WebSocket, as an ASGI application (docs/gateway.md)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Self, TypeAlias, Unpack

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from snapdelta._redis import AsyncRedis
from snapdelta.errors import SnapshotSettingError
from snapdelta.gateway.catch_up import CatchUp
from snapdelta.gateway.client import Client
from snapdelta.gateway.feed import Feed
from snapdelta.gateway.settings import GatewayOptions, GatewaySettings
from snapdelta.gateway.stats import GatewayCounters
from snapdelta.snapshots.settings import check_client

log = logging.getLogger("snapdelta.gateway")

Authorize: TypeAlias = Callable[[HTTPConnection], Awaitable[bool]]
_NO_STATE = "nothing was saved under this name yet, or Redis has lost it"


class Gateway:
    """An ASGI application that serves the newest states of some names; one follower a name for all clients.

    redis_client  a redis.asyncio.Redis or RedisCluster; it stays the caller's to close
    names         the names that are served; all others are 404
    authorize     is awaited with each connection (starlette's HTTPConnection) that asks for a name; False: 403.
                  None: whoever reaches the gateway may read all names, which the log says at WARNING

    All else are GatewaySettings. Runs from its lifespan's start-up, `async with`, or the first request, until its
    lifespan's shut-down, or `aclose`. Mounted in another application, its lifespan is not run: use `async with` there.
    """

    def __init__(
        self,
        redis_client: AsyncRedis,
        names: Iterable[str],
        *,
        authorize: Authorize | None = None,
        **options: Unpack[GatewayOptions],
    ) -> None:
        check_client(redis_client)
        self.settings = settings = GatewaySettings(**options)
        if isinstance(names, str):
            raise SnapshotSettingError(f"names must be several names, such as [{names!r}], not a text")
        self._feeds = {feed.name: feed for feed in (Feed(redis_client, name, settings) for name in names)}
        self._catch_ups = {name: CatchUp(feed, settings) for name, feed in self._feeds.items()}
        self._counters = {name: GatewayCounters() for name in self._feeds}
        self._authorize = authorize
        self._clients: dict[asyncio.Task[None], Client] = {}
        self._started = self._closing = False
        self._app = Starlette(
            routes=[
                Route("/snapshots/{name}", self._get_snapshot),
                WebSocketRoute("/snapshots/{name}/stream", self._stream),
                Route("/snapshots/{name}/{symbol:path}", self._get_record),
                Route("/livez", self._livez),
                Route("/readyz", self._readyz),
            ],
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            self._start()
        await self._app(scope, receive, send)

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Disconnect all clients and stop following; takes about `shutdown_timeout` at most."""
        self._closing = True
        for client in self._clients.values():
            client.end()
        if self._clients:
            await asyncio.wait(set(self._clients), timeout=self.settings.shutdown_timeout)
        ending = [part.aclose() for part in (*self._catch_ups.values(), *self._feeds.values())]
        await asyncio.gather(*ending)

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        if self._authorize is None:
            log.warning(
                "gateway: whoever reaches it may read %s: pass authorize=, or let a proxy decide who may connect",
                ", ".join(map(repr, self._feeds)),
                extra={"event": "gateway_open"},
            )
        for feed in self._feeds.values():
            feed.start()

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        async with self:
            yield

    # --- HTTP

    async def _get_snapshot(self, request: Request) -> Response:
        feed = self._feeds.get(request.path_params["name"])
        if feed is None:
            return _error(404, "no such name")
        if not feed.has_state:
            return _error(503, _NO_STATE)
        async with feed.pinned() as (_, state, decoder):
            snapshot = decoder.snapshot()
        etag = f'"{state.digest:016x}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag})
        from snapdelta.snapshots.json_text import json_text

        return Response(json_text(snapshot), media_type="application/json", headers={"etag": etag})

    async def _get_record(self, request: Request) -> Response:
        feed = self._feeds.get(request.path_params["name"])
        if feed is None:
            return _error(404, "no such name")
        if not feed.has_state:
            return _error(503, _NO_STATE)
        async with feed.pinned():
            text = feed.json_of(request.path_params["symbol"])
        if text is None:
            return _error(404, "no such symbol")
        return Response(text, media_type="application/json")

    async def _livez(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readyz(self, _request: Request) -> Response:
        waiting = [name for name, feed in self._feeds.items() if not feed.has_state]
        ready = not waiting and not self._closing
        return JSONResponse({"ready": ready, "without_state": waiting}, 200 if ready else 503)

    # --- WebSocket

    async def _stream(self, socket: WebSocket) -> None:
        name = socket.path_params["name"]
        feed = self._feeds.get(name)
        if feed is None:
            await socket.close()
            return
        symbols = tuple(filter(None, socket.query_params.get("symbols", "").split(",")))
        client = Client(socket, feed, self._catch_ups[name], self.settings, self._counters[name], symbols)
        task = asyncio.current_task()
        assert task is not None
        self._clients[task] = client
        try:
            await client.serve()
        finally:
            del self._clients[task]


def _error(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status)
