"""A whole snapshot as one JSON object, made once a state for all clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from snapdelta.gateway.abort import abort
from snapdelta.gateway.feed import Feed
from snapdelta.gateway.shared_jobs import SharedJobs
from snapdelta.snapshots.json_text import json_text
from snapdelta.snapshots.materialize import materialize
from snapdelta.snapshots.view import State

# Records that are encoded at once: some milliseconds of work.
_PART = 512
# Bytes that are handed to the server at once; it keeps no more for a client that reads slowly.
_CHUNK = 65_536


class Document(NamedTuple):
    """A state with its number in the log, and its JSON."""

    number: int
    state: State
    body: bytes


class Documents:
    """The newest state of a feed as JSON."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._jobs: SharedJobs[Document] = SharedJobs(f"snapdelta-gateway-{feed.name}-json")
        self._newest: Document | None = None

    async def newest(self) -> Document:
        """The newest state at the time of the call, or a later one."""
        number, made = self._feed.frames.newest, self._newest
        # One that was begun before this state was there is waited for: at most one more is made after it.
        while made is None or made.number < number:
            made = await self._jobs.run("newest", self._make)
        return made

    async def aclose(self) -> None:
        await self._jobs.aclose()

    async def _make(self) -> Document:
        async with self._feed.pinned() as (number, state, decoder):
            snapshot = await materialize(decoder)
        rows: list[bytes] = []
        for made, (symbol, record) in enumerate(snapshot.items(), 1):
            rows.append(json_text(symbol) + b":" + json_text(record))
            if made % _PART == 0:
                await asyncio.sleep(0)
        self._newest = Document(number, state, b"{" + b",".join(rows) + b"}")
        return self._newest


class ChunkedResponse(Response):
    """Sends the body as fast as the client reads it; gives up if it reads nothing for `timeout` seconds.

    It holds `slot` meanwhile.
    """

    def __init__(
        self,
        body: bytes,
        headers: dict[str, str],
        timeout: float,
        slot: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__(body, headers=headers, media_type="application/json")
        self._timeout = timeout
        self._slot = slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._slot():
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            for start in range(0, len(self.body), _CHUNK):
                end = start + _CHUNK
                part = {"type": "http.response.body", "body": bytes(self.body[start:end])}
                try:
                    async with asyncio.timeout(self._timeout):
                        await send(part | {"more_body": end < len(self.body)})
                except TimeoutError:
                    # A server without it closes the connection when the client has taken what was written.
                    abort(scope)
                    return
