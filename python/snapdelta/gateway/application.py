"""Gateway: an ASGI application that serves the newest states over HTTP and WebSocket (docs/gateway.md)."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias, Unpack

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from snapdelta._redis import AsyncRedis
from snapdelta.errors import SnapshotSettingError
from snapdelta.gateway.catch_up import CatchUp
from snapdelta.gateway.client import Client
from snapdelta.gateway.documents import ChunkedResponse, Documents
from snapdelta.gateway.feed import Feed
from snapdelta.gateway.settings import GatewayOptions, GatewaySettings
from snapdelta.gateway.stats import GatewayCounters, Refusal
from snapdelta.health import Health, overall_health
from snapdelta.snapshots.settings import check_client
from snapdelta.snapshots.stats import ReadCounters

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = logging.getLogger("snapdelta.gateway")

Authorize: TypeAlias = Callable[[HTTPConnection], Awaitable[bool]]
_RETRY = {"retry-after": "1"}
_REVALIDATE = {"cache-control": "no-cache"}


class _Served(NamedTuple):
    """All there is of one name."""

    feed: Feed
    catch_up: CatchUp
    documents: Documents
    counters: GatewayCounters


class Gateway:
    """Serves the newest states of some names, with one follower a name for all clients.

    redis_client  a redis.asyncio.Redis or RedisCluster; it stays the caller's to close
    names         the names that are served; all others are 404
    authorize     awaited with each connection (starlette's HTTPConnection), but for /livez and /readyz; False
                  is 403. None: whoever reaches the gateway may read all names; the log says so at WARNING

    Everything else is one of GatewaySettings. Raises SnapshotSettingError on an impossible setting.

    It follows from its lifespan's start-up, `async with`, or the first request on, until its lifespan's
    shut-down, or `aclose`. Where it is mounted, nobody runs its lifespan: there, use `async with`.
    """

    def __init__(
        self,
        redis_client: AsyncRedis,
        names: Iterable[str],
        *,
        authorize: Authorize | None = None,
        **settings: Unpack[GatewayOptions],
    ) -> None:
        check_client(redis_client)
        self.settings = GatewaySettings(**settings)
        if authorize is not None and not callable(authorize):
            raise SnapshotSettingError(f"authorize must be callable, not {authorize!r}")
        self._served = {
            feed.name: _Served(feed, CatchUp(feed, self.settings), Documents(feed), GatewayCounters())
            for feed in (Feed(redis_client, name, self.settings) for name in _checked(names))
        }
        self._authorize = authorize
        # By the task that serves it; None while it is asked whether it may connect.
        self._clients: dict[asyncio.Task[None], Client | None] = {}
        self._requests = 0
        self._refused: dict[Refusal, int] = {"clients": 0, "requests": 0, "denied": 0}
        self._started = self._closing = False
        self._registry: CollectorRegistry | None = None
        self._app = Starlette(
            routes=[
                Route("/snapshots/{name}", self._get_snapshot),
                WebSocketRoute("/snapshots/{name}/stream", self._stream),
                Route("/snapshots/{name}/{symbol:path}", self._get_record),
                Route("/livez", self._livez),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
            ],
            lifespan=self._lifespan,
            exception_handlers={HTTPException: _answer},
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
        """Disconnect all clients and stop following, for good, within `shutdown_timeout` plus a second."""
        self._closing = True
        for client in self._clients.values():
            if client is not None:
                client.end()
        if self._clients:
            await asyncio.wait(set(self._clients), timeout=self.settings.shutdown_timeout)
        parts = (
            part for each in self._served.values() for part in (each.catch_up, each.documents, each.feed)
        )
        await asyncio.gather(*(part.aclose() for part in parts))

    # --- what the application may ask

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are served."""
        return tuple(self._served)

    def stats(self, name: str) -> GatewayCounters:
        """A copy of the counters of a name's clients. KeyError for a name that is not served."""
        return self._served[name].counters.copy()

    def reader_stats(self, name: str) -> ReadCounters:
        """A copy of the counters of a name's follower. KeyError for a name that is not served."""
        return self._served[name].feed.counters.copy()

    def refused(self) -> dict[Refusal, int]:
        """Connections and requests that were refused, by reason."""
        return dict(self._refused)

    def health(self, max_age: float | None = None) -> Health:
        """The health of the followers of all names, as in SnapshotReader.health; sends nothing to Redis."""
        return overall_health(*(served.feed.health(max_age) for served in self._served.values()))

    # --- its life

    def _start(self) -> None:
        if self._started or self._closing:
            return
        self._started = True
        if self._authorize is None:
            log.warning(
                "gateway: anyone who reaches it may read %s; pass authorize=, or let a proxy control access",
                ", ".join(map(repr, self._served)),
                extra={"event": "gateway_open"},
            )
        for served in self._served.values():
            served.feed.start()

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        async with self:
            yield

    # --- who may have what

    async def _admit(self, connection: HTTPConnection) -> None:
        """Raises HTTPException for one that is refused."""
        if self._authorize is not None:
            try:
                async with asyncio.timeout(self.settings.authorize_timeout):
                    allowed = await self._authorize(connection)
            except TimeoutError as error:
                said = "gateway: authorize did not answer in %g s", self.settings.authorize_timeout
                log.error(*said, extra={"event": "gateway_authorize_timeout"})
                raise HTTPException(503, "authorize did not answer in time", _RETRY) from error
            if not allowed:
                self._refused["denied"] += 1
                raise HTTPException(403, "not allowed")
        if self._closing:
            raise HTTPException(503, "the gateway is shutting down", _RETRY)

    def _find(self, connection: HTTPConnection) -> _Served:
        served = self._served.get(connection.path_params["name"])
        if served is None:
            raise HTTPException(404, "no such name")
        return served

    @contextmanager
    def _one_request(self) -> Iterator[None]:
        if self._requests >= self.settings.max_requests:
            self._refused["requests"] += 1
            raise HTTPException(503, "too many requests at once", _RETRY)
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    # --- HTTP

    async def _get_snapshot(self, request: Request) -> Response:
        await self._admit(request)
        served = self._find(request)
        state = served.feed.state
        served.counters.requests += 1
        if state is not None and _has(request, etag := f'"{state.digest:016x}"'):
            return Response(status_code=304, headers={"etag": etag} | _REVALIDATE)
        async with self._readable(served.feed):
            document = await served.documents.newest()
        state = document.state
        headers = {
            "etag": f'"{state.digest:016x}"',
            "snapdelta-state": str(state.position),
            "snapdelta-timestamp": str(state.time),
        } | _REVALIDATE
        return ChunkedResponse(document.body, headers, self.settings.send_timeout, self._one_request)

    async def _get_record(self, request: Request) -> Response:
        await self._admit(request)
        served = self._find(request)
        served.counters.requests += 1
        with self._one_request():
            async with self._readable(served.feed), served.feed.pinned():
                text = served.feed.json_of(request.path_params["symbol"])
        if text is None:
            raise HTTPException(404, "no such symbol")
        etag = f'"{hashlib.blake2b(text, digest_size=8).hexdigest()}"'
        headers = {"etag": etag} | _REVALIDATE
        if _has(request, etag):
            return Response(status_code=304, headers=headers)
        return Response(text, media_type="application/json", headers=headers)

    @asynccontextmanager
    async def _readable(self, feed: Feed) -> AsyncIterator[None]:
        """503 where there is no state now, or soon."""
        if feed.state is None:
            raise HTTPException(503, "nothing is saved under this name", _RETRY)
        try:
            async with asyncio.timeout(self.settings.command_timeout):
                yield
        except TimeoutError as error:
            raise HTTPException(503, "the gateway cannot read a state", _RETRY) from error

    async def _livez(self, _request: Request) -> Response:
        """200 while the followers run, however they are."""
        alive = all(served.feed.is_running for served in self._served.values())
        return JSONResponse({"alive": alive}, 200 if alive else 503)

    async def _readyz(self, _request: Request) -> Response:
        """200 while all names have a state, which may be old: `status` says more."""
        has_states = all(served.feed.state is not None for served in self._served.values())
        ready = has_states and not self._closing
        return JSONResponse({"ready": ready, "status": self.health().status}, 200 if ready else 503)

    async def _metrics(self, request: Request) -> Response:
        await self._admit(request)
        # Imported here: an application with metrics of its own may be without prometheus-client.
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

        from snapdelta.metrics import MetricsCollector

        if self._registry is None:
            self._registry = CollectorRegistry()
            MetricsCollector(self, registry=self._registry)
        return Response(generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})

    # --- WebSocket

    async def _stream(self, socket: WebSocket) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._clients) >= self.settings.max_clients:
                self._refused["clients"] += 1
                raise HTTPException(503, "too many clients", _RETRY)
            self._clients[task] = None
            await self._admit(socket)
            served = self._find(socket)
            client = self._clients[task] = self._client(socket, served)
        except HTTPException as refusal:
            await _refuse(socket, refusal)
        else:
            served.counters.clients += 1
            try:
                await client.serve()
            finally:
                served.counters.clients -= 1
        finally:
            self._clients.pop(task, None)

    def _client(self, socket: WebSocket, served: _Served) -> Client:
        asked = socket.query_params.get("symbols")
        symbols = None if asked is None else tuple(dict.fromkeys(filter(None, asked.split(","))))
        if symbols is not None and not 1 <= len(symbols) <= self.settings.max_symbols:
            raise HTTPException(400, f"symbols must name 1 to {self.settings.max_symbols} symbols")
        return Client(socket, served.feed, served.catch_up, self.settings, served.counters, symbols)


def _checked(names: Iterable[str]) -> list[str]:
    if isinstance(names, str):
        raise SnapshotSettingError(f"names must be a list such as [{names!r}], not a text")
    found = list(names)
    if not found or len(set(found)) < len(found):
        raise SnapshotSettingError(f"names must be one or more different names, not {found!r}")
    return found


def _has(request: Request, etag: str) -> bool:
    """Whether the client has what this ETag is of."""
    known = (each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(","))
    return any(each in (etag, "*") for each in known)


async def _answer(_request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, HTTPException)
    return JSONResponse({"error": refusal.detail}, refusal.status_code, headers=refusal.headers)


async def _refuse(socket: WebSocket, refusal: HTTPException) -> None:
    """Before the handshake: an HTTP answer, where the server can give one."""
    if "websocket.http.response" in socket.scope.get("extensions", {}):
        answer = JSONResponse({"error": refusal.detail}, refusal.status_code, headers=refusal.headers)
        await socket.send_denial_response(answer)
    else:
        await socket.close()
