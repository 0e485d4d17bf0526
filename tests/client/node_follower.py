"""A follower of the JavaScript package in a process of its own, checked as Python's followers are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from client.node import CLIENT, require_client
from client.node_values import of_node
from snapdelta.snapshot_manager import SnapshotReader, Update
from support.servers import Cluster, Server, patience
from support.snapshot_harness import COMMAND_TIMEOUT, FollowedReader, Oracle, Stage

# A line holds a whole state.
_LONGEST_LINE = 1 << 24


@dataclass
class NodeFollower(FollowedReader):
    """Runs `clients/js/test/follow_process.mjs` with `arguments`; `error` is what ended it."""

    reader: SnapshotReader | None = None  # type: ignore[assignment]  # it has none of Python's
    oracle: Oracle = field(default_factory=Oracle)
    arguments: tuple[str, ...] = ()
    error: tuple[str, str] | None = None
    is_paused: bool = False
    # The errors that it waited for.
    waits: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None

    def pause(self) -> None:
        """Ask for no more updates after the next one, until `resume`."""
        self.say("pause")

    async def pause_over(self, save: Callable[[], Awaitable[object]]) -> None:
        """Pause, and save until it has stopped asking."""
        self.pause()
        while not self.is_paused:
            await save()
            await asyncio.sleep(0.05)

    def resume(self) -> None:
        self.is_paused = False
        self.say("resume")

    async def step(self) -> None:
        """Take one more update, and be paused again."""
        self.is_paused = False
        # In one piece: it pauses before it goes on.
        self.say("resume\npause")
        await self.until(lambda: self.is_paused, "the next pause")

    async def stop(self) -> None:
        try:
            await super().stop()
        finally:
            if self.process is not None:
                with suppress(ProcessLookupError):
                    self.process.kill()
                # Reads to the end, and closes both pipes.
                await self.process.communicate()

    def say(self, line: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    async def _run(self) -> None:
        require_client()
        script = str(CLIENT / "test" / "follow_process.mjs")
        pipe = asyncio.subprocess.PIPE
        process = self.process = await asyncio.create_subprocess_exec(
            "node", script, *self.arguments, stdin=pipe, stdout=pipe, limit=_LONGEST_LINE
        )
        assert process.stdout is not None
        while line := await process.stdout.readline():
            said = json.loads(line)
            if said.pop("closed", False):
                return
            if waits := said.pop("waits", None):
                self.waits.append(waits)
                continue
            if said.pop("paused", False):
                self.is_paused = True
            elif "error" in said:
                self.error = said["error"], said["message"]
                return
            else:
                self._take(update_of(said))
        raise AssertionError("the follower's process has ended")


def update_of(said: dict[str, object]) -> Update:
    """What the process wrote, as Python's reader says it; times there are in milliseconds."""
    epoch, sequence, digest = map(int, said.pop("place"))  # type: ignore[call-overload]
    timestamp, lag = (float(said.pop(key) or 0) / 1000 for key in ("timestamp", "lag"))  # type: ignore[arg-type]
    return Update(
        snapshot=of_node(said.pop("snapshot")),
        epoch=epoch,
        sequence=sequence,
        digest=digest,
        timestamp=timestamp,
        lag=lag,
        **said,  # type: ignore[arg-type]
    )


async def follow_in_node(
    stage: Stage, server: Server | Cluster, *, command_timeout: float | None = None, **client: object
) -> NodeFollower:
    """A follower in Node that runs from now on, among the stage's; `client`: options of its ioredis."""
    kind, port = ("redis", server.port) if isinstance(server, Server) else ("cluster", server.nodes[0].port)
    timeout = patience(COMMAND_TIMEOUT) if command_timeout is None else command_timeout
    options = json.dumps({"commandTimeout": round(1000 * timeout)})
    arguments = kind, str(port), options, stage.name, json.dumps(client)
    follower = NodeFollower(oracle=stage.oracle, arguments=arguments)
    stage.followers.append(await stage._stack.enter_async_context(follower))
    return follower
