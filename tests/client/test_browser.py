"""The JavaScript reader in headless Chromium, in a worker: the same states as Python's."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import snapdelta
from client.chromium import chromium
from client.node import CLIENT, require_client
from client.node_values import in_javascript, of_node
from client.socket_server import socket_server
from core.golden.cases_v1 import CASES
from core.golden.write_v1 import HERE
from support import generators
from support.assert_exact import assert_same
from support.stream_harness import until

_UPDATES = 4


class Site(SimpleHTTPRequestHandler):
    """Serves clients/js, and `work` to the page; puts what the page says into `results`."""

    extensions_map = {  # noqa: RUF012
        ".html": "text/html",
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        "": "application/octet-stream",
    }

    def __init__(self, *arguments: Any, work: bytes, results: Queue[Any], **options: Any) -> None:
        self._work = work
        self._results = results
        super().__init__(*arguments, directory=str(CLIENT), **options)

    def do_GET(self) -> None:
        if self.path != "/work.json":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self._work)))
        self.end_headers()
        self.wfile.write(self._work)

    def do_POST(self) -> None:
        self._results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        pass


@contextmanager
def browser(work: object, profile: Path) -> Iterator[Queue[Any]]:
    """Chromium on the page of clients/js/test; what it says."""
    results: Queue[Any] = Queue()
    site = partial(Site, work=json.dumps(work).encode(), results=results)
    with ThreadingHTTPServer(("127.0.0.1", 0), site) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        page = f"http://127.0.0.1:{server.server_address[1]}/test/browser.html"
        try:
            with chromium(page, profile):
                yield results
        finally:
            server.shutdown()
            thread.join()


def vectors() -> list[tuple[bool, bytes]]:
    """Whether the decoder is new, and a frame: all golden vectors behind their bases, and a random stream."""
    frames = []
    for name, (before, _) in CASES.items():
        if before is not None:
            frames.append((True, snapdelta.dumps(before)))
        frames.append((before is None, (HERE / f"{name}.frame").read_bytes()))
    encoder = snapdelta.Encoder()
    stream = islice(generators.frames(3, rows=12), 25)
    return frames + [(n == 0, encoder.encode(snapshot)) for n, snapshot in enumerate(stream)]


async def test_states_and_updates(tmp_path: Path) -> None:
    require_client()
    frames = vectors()
    encoded = [{"full": new, "frame": base64.b64encode(frame).decode()} for new, frame in frames]
    async with socket_server() as server:
        work = {"frames": encoded, "socket": server.url, "count": _UPDATES}
        with browser(work, tmp_path) as results:
            await until(lambda: bool(server.connections) or not results.empty())
            for _ in range(_UPDATES - 1):
                await server.publish()
            said = await asyncio.to_thread(results.get, timeout=240)
        assert "error" not in said, said["error"]
        for update in said["updates"]:
            assert_same(of_node(update["snapshot"]), server.states[1, update["sequence"]])
        assert [update["sequence"] for update in said["updates"]] == list(range(1, _UPDATES + 1))
    assert len(said["states"]) == len(frames)
    for (new, frame), state in zip(frames, said["states"], strict=True):
        if new:
            python = snapdelta.Decoder()
        python.apply(frame)
        assert state["digest"] == str(python.digest)
        assert_same(of_node(state["snapshot"]), in_javascript(python.snapshot()))
