"""One client of a gateway's stream: its messages, and the end of its connection (docs/gateway.md)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from snapdelta.gateway.abort import abort
from snapdelta.gateway.catch_up import CatchUp
from snapdelta.gateway.feed import Feed
from snapdelta.gateway.frame_log import Made
from snapdelta.gateway.settings import GatewaySettings
from snapdelta.gateway.stats import GatewayCounters, Kind
from snapdelta.snapshots.json_text import json_text
from snapdelta.snapshots.keys import StreamPosition
from snapdelta.snapshots.view import State

Result = TypeVar("Result")

# Close codes of RFC 6455.
_UNSUPPORTED, _SERVICE_RESTART, _TRY_AGAIN = 1003, 1012, 1013
# Seconds that a client waits for the state that it has, where that is newer than ours.
_AHEAD = 1.0
# Digits of an epoch, a sequence or a digest in a query.
_MOST_DIGITS = 20


class Client:
    """Sends one client frames, or with `symbols` the records of these as JSON.

    It has no queue: it has a position in the feed's log, and gets the frames from there to the newest state.
    """

    def __init__(
        self,
        socket: WebSocket,
        feed: Feed,
        catch_up: CatchUp,
        settings: GatewaySettings,
        counters: GatewayCounters,
        symbols: tuple[str, ...] | None = None,
    ) -> None:
        self._socket = socket
        self._feed = feed
        self._catch_up = catch_up
        self._settings = settings
        self._counters = counters
        self._symbols = symbols
        self._sending: asyncio.Task[None] | None = None
        self._ends = False

    async def serve(self) -> None:
        """From the handshake until the client goes, is too slow, or `end` is called."""
        await self._socket.accept()
        self._counters.connections += 1
        sender = self._send_frames() if self._symbols is None else self._send_records(self._symbols)
        sending = self._sending = asyncio.create_task(
            sender, name=f"snapdelta-gateway-{self._feed.name}-send"
        )
        receiving = asyncio.create_task(self._receive(), name=f"snapdelta-gateway-{self._feed.name}-receive")
        if self._ends:
            sending.cancel()
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, receiving):
                task.cancel()
            await asyncio.wait({sending, receiving})
        code, why = _SERVICE_RESTART, "the gateway is shutting down"
        if not sending.cancelled() and (error := sending.exception()) is not None:
            if isinstance(error, WebSocketDisconnect):
                return
            if not isinstance(error, TimeoutError):
                raise error
            self._counters.slow += 1
            code, why = _TRY_AGAIN, f"read nothing for {self._settings.send_timeout:g} s"
            abort(self._socket.scope)
        elif not receiving.cancelled() and receiving.exception() is None:
            if receiving.result():
                return
            code, why = _UNSUPPORTED, "this stream accepts no messages"
        # Else it waits, and counts for `max_clients`, until the client takes what was sent or is gone.
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._socket.close(code, why)

    def end(self) -> None:
        """Disconnect the client, because the gateway ends."""
        self._ends = True
        if self._sending is not None:
            self._sending.cancel()

    async def _receive(self) -> bool:
        """Until the client has gone (True), or has sent something."""
        message = await self._socket.receive()
        return bool(message["type"] == "websocket.disconnect")

    # --- frames

    async def _send_frames(self) -> None:
        frames, catch_up = self._feed.frames, self._catch_up
        number = await self._resumed()
        reason = "start" if "sequence" not in self._socket.query_params else "gap"
        made: Made | None = None
        if number is not None and catch_up.is_late(number):
            made = await self._patiently(partial(catch_up.composed, number))
            number = None if made is None else number
        self._counters.recovered += number is not None
        await self._send_json({"recovered": number is not None})
        while True:
            changed = self._feed.changed
            if made is not None:
                await self._send_frame("composed", made, None)
                number, made = made.number, None
            elif number is None or not frames.holds(number):
                full = await self._patiently(partial(catch_up.full, frames.newest))
                await self._send_frame("full", full, reason)
                number, reason = full.number, self._feed.restart_reason or "gap"
            elif number == frames.newest:
                await self._patiently(changed.wait)
            elif catch_up.is_late(number):
                made = await self._patiently(partial(catch_up.composed, number))
                if made is None:
                    number, reason = None, "slow"
            else:
                number += 1
                step = frames.step_to(number)
                kind: Kind = "full" if step.is_full else "delta"
                await self._send_frame(kind, Made(number, step.state, step.frame), step.reason)

    async def _resumed(self) -> int | None:
        """The number of the state that the query says the client has; None if it cannot go on from there."""
        feed, (position, digest) = self._feed, self._named()
        deadline = asyncio.get_running_loop().time() + _AHEAD
        while True:
            changed, newest = feed.changed, feed.frames.newest_state
            if newest is None:
                await self._patiently(changed.wait)
                continue
            if position is None or position <= newest.position:
                break
            # Another gateway may have been faster than this one.
            try:
                async with asyncio.timeout_at(deadline):
                    await changed.wait()
            except TimeoutError:
                break
        return None if position is None else feed.frames.number_of(position, digest)

    def _named(self) -> tuple[StreamPosition | None, int]:
        """The position and digest in the query; None where they are missing or cannot be."""
        query = self._socket.query_params
        texts = [query.get(key, "") for key in ("epoch", "sequence", "digest")]
        if all(0 < len(text) <= _MOST_DIGITS and text.isascii() and text.isalnum() for text in texts):
            with suppress(ValueError):
                return StreamPosition(int(texts[0]), int(texts[1])), int(texts[2], 16)
        return None, 0

    # --- records

    async def _send_records(self, symbols: tuple[str, ...]) -> None:
        """All records first, and then those that have changed."""
        feed = self._feed
        sent: dict[str, bytes] = {}
        is_first = True
        while True:
            changed = feed.changed
            state, texts = await self._patiently(partial(self._texts, symbols))
            new = {symbol: text for symbol, text in texts.items() if sent.get(symbol) != text}
            removed = [symbol for symbol in sent if symbol not in texts]
            if new or removed or is_first:
                await self._send_text("json", _records_message(state, new, removed))
            sent, is_first = texts, False
            await self._patiently(changed.wait)

    async def _texts(self, symbols: tuple[str, ...]) -> tuple[State, dict[str, bytes]]:
        async with self._feed.pinned() as (_, state, _):
            texts = {symbol: self._feed.json_of(symbol) for symbol in symbols}
        return state, {symbol: text for symbol, text in texts.items() if text is not None}

    # --- the connection

    async def _patiently(self, wait: Callable[[], Awaitable[Result]]) -> Result:
        """The result of a wait, which is begun anew after each heartbeat."""
        while True:
            try:
                async with asyncio.timeout(self._settings.heartbeat):
                    return await wait()
            except TimeoutError:
                await self._send_json({})

    async def _send_frame(self, kind: Kind, made: Made, reason: str | None) -> None:
        about: dict[str, object] = {"timestamp": made.state.time}
        await self._send_json(about if reason is None else about | {"reason": reason})
        async with asyncio.timeout(self._settings.send_timeout):
            await self._socket.send_bytes(made.frame)
        self._counters.sent(kind, len(made.frame))

    async def _send_json(self, message: dict[str, object]) -> None:
        async with asyncio.timeout(self._settings.send_timeout):
            await self._socket.send_text(json.dumps(message))

    async def _send_text(self, kind: Kind, text: bytes) -> None:
        async with asyncio.timeout(self._settings.send_timeout):
            await self._socket.send_text(text.decode())
        self._counters.sent(kind, len(text))


def _records_message(state: State, records: dict[str, bytes], removed: list[str]) -> bytes:
    """What is sent of a subset; the records are JSON already."""
    about = {
        "epoch": state.position.epoch,
        "sequence": state.position.sequence,
        "digest": f"{state.digest:016x}",
        "timestamp": state.time,
        "removed": removed,
    }
    pairs = b",".join(json_text(symbol) + b":" + text for symbol, text in records.items())
    return json_text(about)[:-1] + b',"records":{' + pairs + b"}}"
