"""A TCP proxy on loopback in front of a real server, which knows where a Redis command begins and ends.

It passes everything on until a planned fault meets its command: the connection is cut before the server has
it, after the server has carried it out, or in the middle of the reply; the command is held back and delivered
later; replies are swallowed; new connections are refused.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

Kind = Literal["cut_before", "cut_after", "cut_within", "hold", "swallow"]
_BLOCKING = {"XREAD", "XREADGROUP"}
# A reply of these types holds as many replies as its first line says (a map holds twice as many).
_AGGREGATES = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}


@dataclass
class Fault:
    """What is to happen to the `nth` command (named `command`, or any) that passes from now on.

    `cut_before`: the server never sees it. `cut_after`: the server has answered, the client gets nothing.
    `cut_within`: the client gets half of the reply. `hold`: it waits for `deliver()` or `drop()`, whether or
    not the client is still there. `swallow`: it and all that follow on its connection are carried out, and
    nothing is answered. `hit` is set when the command has come, `done` when the server has dealt with it.
    """

    kind: Kind
    nth: int = 1
    command: str | None = None
    hit: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    reply: bytes = b""
    _decided: asyncio.Event = field(default_factory=asyncio.Event)
    _deliver: bool = False

    def deliver(self) -> None:
        """Let the server have the command that was held back."""
        self._deliver = True
        self._decided.set()

    def drop(self) -> None:
        """Throw the command that was held back away, and cut its connection."""
        self._decided.set()

    def _meets(self, name: str) -> bool:
        """Count the command; whether it is the one."""
        if self.hit.is_set() or (self.command is not None and self.command != name):
            return False
        self.nth -= 1
        return self.nth == 0


class Proxy:
    """Listens on a free port of loopback (`port`) and passes on to `target`. An asynchronous context manager.

    `commands` has the names of all commands that came, in the order of their coming.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.commands: list[str] = []
        self._faults: list[Fault] = []
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        await self.cut()

    # --- faults

    def plan(self, kind: Kind, nth: int = 1, command: str | None = None) -> Fault:
        """Do this to the `nth` command from now on that has this name."""
        fault = Fault(kind, nth, command)
        self._faults.append(fault)
        return fault

    def forget(self) -> None:
        """Plan nothing any more; what is held back stays so."""
        self._faults.clear()

    async def cut(self) -> None:
        """Cut all connections."""
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def refuse(self) -> None:
        """Refuse new connections from now on."""
        if self._server is not None:
            self._server.close()
            self._server = None
            # The listening socket is closed in the loop's next round.
            await asyncio.sleep(0)

    async def accept(self) -> None:
        """Accept connections (again), always on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._link, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    # --- inside

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, from its beginning to its end."""
        task = asyncio.current_task()
        assert task is not None
        task.set_name("proxy-link")
        self._links.add(task)
        link = _Link(self, reader, writer)
        try:
            await link.run()
        except (OSError, asyncio.IncompleteReadError):
            pass  # One of the two sides has gone, and the other is cut off below.
        except asyncio.CancelledError:
            pass  # `cut()`: the connection ends here, and nobody waits for this task's outcome.
        finally:
            link.close()
            self._links.discard(task)

    def _fault_of(self, name: str) -> Fault | None:
        # Each counts every command, so there is no stopping at the first.
        met = [fault for fault in self._faults if fault._meets(name)]
        for fault in met:
            self._faults.remove(fault)
            fault.hit.set()
        return met[0] if met else None


class _Link:
    """One client's connection and the server's behind it."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = reader
        self._to_client = writer
        self._to_server: asyncio.StreamWriter | None = None
        self._mute = False

    async def run(self) -> None:
        server, self._to_server = await asyncio.open_connection("127.0.0.1", self._proxy.target)
        commands: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue()
        reading = asyncio.create_task(self._read_commands(commands), name="proxy-reading")
        try:
            while (command := await commands.get()) is not None:
                name, raw = command
                fault = self._proxy._fault_of(name)
                if fault is not None and not await self._before(fault):
                    return
                self._to_server.write(raw)
                reply = await self._reply(server, reading if name in _BLOCKING else None)
                if fault is not None and not self._after(fault, reply):
                    return
                if not self._mute:
                    self._to_client.write(reply)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def close(self) -> None:
        for writer in (self._to_client, self._to_server):
            if writer is not None:
                writer.close()

    async def _before(self, fault: Fault) -> bool:
        """What happens before the server has the command; whether it is to have it."""
        if fault.kind == "cut_before":
            fault.done.set()
            return False
        if fault.kind == "hold":
            await fault._decided.wait()
            if not fault._deliver:
                fault.done.set()
            return fault._deliver
        return True

    def _after(self, fault: Fault, reply: bytes) -> bool:
        """What happens when the server has answered; whether the connection goes on."""
        fault.reply = reply
        fault.done.set()
        if fault.kind == "cut_within":
            self._to_client.write(reply[: len(reply) // 2])
        elif fault.kind == "swallow":
            self._mute = True
        return fault.kind in ("hold", "swallow")

    async def _reply(self, server: asyncio.StreamReader, client: asyncio.Task[None] | None) -> bytes:
        """The server's reply; a client that leaves a blocking command takes its connection with it."""
        replying = asyncio.create_task(_read_reply(server), name="proxy-replying")
        try:
            await asyncio.wait({replying, *([client] if client else [])}, return_when="FIRST_COMPLETED")
            if not replying.done():
                raise ConnectionResetError("the client has gone")
            return replying.result()
        finally:
            replying.cancel()

    async def _read_commands(self, commands: asyncio.Queue[tuple[str, bytes] | None]) -> None:
        """Until the client has gone; what it had sent is carried out even so, as a server would."""
        try:
            while head := await self._client.readline():
                raw = [head]
                words = []
                for _ in range(int(head[1:])):
                    length = await self._client.readline()
                    words.append(await self._client.readexactly(int(length[1:]) + 2))
                    raw += [length, words[-1]]
                name = words[0][:-2].decode().upper()
                self._proxy.commands.append(name)
                commands.put_nowait((name, b"".join(raw)))
        finally:
            commands.put_nowait(None)


async def _read_reply(server: asyncio.StreamReader) -> bytes:
    """One whole reply; one that the server pushed before it is read with it."""
    line = await server.readline()
    if not line:
        raise ConnectionResetError("the server has gone")
    kind = line[:1]
    parts = [line]
    if kind in b"$=!":
        length = int(line[1:])
        if length >= 0:
            parts.append(await server.readexactly(length + 2))
    elif kind in _AGGREGATES:
        for _ in range(_AGGREGATES[kind] * max(int(line[1:]), 0)):
            parts.append(await _read_reply(server))
    if kind in b">|":
        parts.append(await _read_reply(server))
    return b"".join(parts)
