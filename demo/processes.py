"""The processes of the demo: started, listened to, and ended together, whatever happens."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import IO, Any, Self

from demo.errors import DemoError
from demo.reports import Report, from_line

# Seconds without a word from any process after which something must be wrong, on a very busy machine too.
_SILENCE = 180.0


class Actor:
    """One process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self.name = name
        self.killed = False
        self._process = process
        self._errors = errors

    def kill(self) -> None:
        """SIGKILL: no word of farewell."""
        self.killed = True
        with suppress(ProcessLookupError):
            self._process.kill()

    async def listen(self, heard: asyncio.Queue[tuple[Actor, Report | None]]) -> None:
        """Pass on what it reports, and at last that it has ended (None)."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            # A process that is killed may leave half a line.
            if line.endswith(b"\n"):
                heard.put_nowait((self, from_line(line)))
        await self._process.wait()
        heard.put_nowait((self, None))

    def check_end(self) -> None:
        """Raises DemoError when it ended, and not as it should."""
        status = self._process.returncode
        if self.killed or not status:
            return
        how = f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"
        raise DemoError(f"the {self.name} process {how}: {self._last_words()}")

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it left no message"


class Processes:
    """All of them: `async with Processes() as processes: ...` leaves none behind."""

    def __init__(self) -> None:
        self._files = ExitStack()
        # Processes whose end has not been heard yet.
        self.running = 0
        self._actors: list[Actor] = []
        self._listeners: list[asyncio.Task[None]] = []
        self._heard: asyncio.Queue[tuple[Actor, Report | None]] = asyncio.Queue()

    async def start(self, name: str, module: str, **task: Any) -> Actor:
        """Run a module of this package as a process of its own, with a task."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115, closed with all the others
        self._files.callback(errors.close)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"{__package__}.{module}",
            json.dumps(task),
            # Nothing is written there: it is how the process learns that we are gone.
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            # Ctrl-C is for us alone.
            start_new_session=True,
        )
        actor = Actor(name, process, errors)
        self.running += 1
        self._actors.append(actor)
        self._listeners.append(asyncio.create_task(actor.listen(self._heard), name=f"demo-{name}"))
        return actor

    async def next_report(self) -> tuple[Actor, Report] | None:
        """The next that one of them reports; None when one has ended as it should.

        Raises DemoError when one has ended otherwise, or all are silent.
        """
        try:
            async with asyncio.timeout(_SILENCE):
                actor, report = await self._heard.get()
        except TimeoutError as error:
            raise DemoError(f"no process has said anything for {_SILENCE:g} s") from error
        if report is None:
            self.running -= 1
            actor.check_end()
            return None
        return actor, report

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self._actors:
            actor.kill()
        # Bounded: a killed process ends, and its pipe with it.
        await asyncio.gather(*self._listeners, return_exceptions=True)
        self._files.close()
