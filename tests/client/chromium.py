"""Headless Chromium: a process on a page, and a page that a test asks and drives (DevTools protocol)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from support.stream_harness import until
from support.uvicorn import get

# A new profile, and nothing that asks for the network.
_OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--remote-debugging-port=0"),
]


@contextmanager
def chromium(url: str, profile: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Chromium on a page, with a new profile in a folder."""
    program = shutil.which("chromium")
    if program is None:
        said = "NO CHROMIUM, SO NOTHING IS RUN IN A BROWSER: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)
    nowhere = subprocess.DEVNULL
    command = [program, *_OPTIONS, f"--user-data-dir={profile}", url]
    with subprocess.Popen(command, start_new_session=True, stdout=nowhere, stderr=nowhere) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, 9)


class Page:
    """A page of Chromium. `sessions` has the session of its thread, None, and those of its workers."""

    def __init__(self, connection: ClientConnection, pid: int) -> None:
        self.sessions: list[str | None] = [None]
        self._connection = connection
        self._pid = pid
        self._number = 0
        self._traced: list[dict[str, Any]] = []

    async def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The answer to a command of the DevTools protocol."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        await self._connection.send(json.dumps(command))
        while True:
            said = json.loads(await self._connection.recv())
            self._notice(said)
            if said.get("id") == self._number:
                assert "error" not in said, (method, said)
                return dict(said["result"])

    def _notice(self, said: dict[str, Any]) -> None:
        match said.get("method"):
            case "Target.attachedToTarget":
                self.sessions.append(said["params"]["sessionId"])
            case "Tracing.dataCollected":
                self._traced += said["params"]["value"]

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        answer = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def open(self, url: str, *, before: str = "") -> None:
        """Go to a page; `before` is run in it before its own scripts."""
        await self.ask("Page.enable")
        # The page's workers are sessions too.
        await self.ask("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
        if before:
            await self.ask("Page.addScriptToEvaluateOnNewDocument", source=before)
        await self.ask("Page.navigate", url=url)
        await self.wait_for('location.href !== "about:blank" && document.readyState === "complete"')

    async def wait_for(self, expression: str) -> None:
        """Wait until an expression is true in the page."""

        async def holds() -> bool:
            await asyncio.sleep(0.05)
            return bool(await self.evaluate(expression))

        await until(holds)

    async def press(self, key: str, text: str = "") -> None:
        """A key; `text` is what it types."""
        await self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def trace(self) -> None:
        """Begin to note the tasks of the page's thread."""
        categories = {"includedCategories": ["disabled-by-default-devtools.timeline"]}
        await self.ask("Tracing.start", transferMode="ReportEvents", traceConfig=categories)

    async def traced(self) -> list[tuple[float, float]]:
        """End `trace`; of each task, how long it took, and its processor time, in milliseconds."""
        await self.ask("Tracing.end")
        while True:
            said = json.loads(await self._connection.recv())
            self._notice(said)
            if said.get("method") == "Tracing.tracingComplete":
                break
        names = [each for each in self._traced if each["name"] == "thread_name"]
        threads = {(each["pid"], each["tid"]) for each in names if each["args"]["name"] == "CrRendererMain"}
        return [
            (each["dur"] / 1000, each["tdur"] / 1000)
            for each in self._traced
            if each["name"] == "RunTask" and "tdur" in each and (each["pid"], each["tid"]) in threads
        ]

    async def heap(self) -> int:
        """Bytes that JavaScript of the page and its workers uses, buffers included, after a collection."""
        used = 0
        for session in self.sessions:
            await self.ask("HeapProfiler.collectGarbage", session)
            said = await self.ask("Runtime.getHeapUsage", session)
            used += int(said["usedSize"] + said.get("backingStorageSize", 0))
        return used

    def resident(self) -> int:
        """Bytes of memory of the processes that render pages: JavaScript, WebAssembly, and all else."""
        pages = 0
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                parts = status.read_text().rpartition(")")[2].split()
                command = (status.parent / "cmdline").read_bytes()
            except OSError:
                continue
            # The session is that of the browser.
            if int(parts[3]) == self._pid and b"--type=renderer" in command:
                pages += int(parts[21])
        return pages * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def page(profile: Path, width: int = 1440, height: int = 1000) -> AsyncIterator[Page]:
    """An empty page of that many pixels."""
    with chromium("about:blank", profile) as process:
        told = profile / "DevToolsActivePort"
        await until(lambda: told.exists() and told.read_text().count("\n") > 0)
        port = int(told.read_text().split()[0])
        found: list[str] = []

        async def has_page() -> bool:
            _, targets = await get(port, "/json")
            found[:] = [each["webSocketDebuggerUrl"] for each in targets or [] if each["type"] == "page"]
            return bool(found)

        await until(has_page)
        async with connect(found[0], max_size=None) as connection:
            opened = Page(connection, process.pid)
            await opened.ask(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=height,
                deviceScaleFactor=1,
                mobile=False,
            )
            yield opened
