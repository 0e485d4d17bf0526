"""Node processes that run the JavaScript reader."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from client.node_values import of_node
from support.documents import ROOT

CLIENT = ROOT / "clients" / "js"


def require_client() -> None:
    """Fail, and say what to do, where the package was not built."""
    if not (CLIENT / "snapdelta.wasm").exists() or not (CLIENT / "node_modules").exists():
        pytest.fail("clients/js is not built: run make client")


class Answer(NamedTuple):
    """What a decoder says after a frame. `error` is (name, message), or None."""

    error: tuple[str, str] | None
    epoch: int
    sequence: int
    digest: int
    size: int
    content: dict[str, Any]

    @property
    def snapshot(self) -> dict[str, Any]:
        return dict(of_node(self.content["snapshot"]))


class NodeDecoder:
    """A Decoder of the JavaScript package in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def restart(self, max_bytes: int = 1 << 30) -> None:
        """Begin without a state."""
        self._ask({"decoder": 0, "maxBytes": max_bytes})

    def apply(self, frame: bytes, *, content: bool = True) -> Answer:
        """Apply a frame; `content`: also read the whole state, in every way, and what has changed."""
        said = self._ask({"decoder": 0, "frame": base64.b64encode(frame).decode(), "content": content})
        error = said.pop("error")
        epoch, sequence, digest, size = (
            int(said.pop(key)) for key in ("epoch", "sequence", "digest", "size")
        )
        named = None if error is None else (error["name"], error["message"])
        return Answer(named, epoch, sequence, digest, size, said)

    def column(self, *path: str) -> tuple[list[float], list[int], list[int]]:
        """A column as doubles, as ints and as tags."""
        said = self._ask({"decoder": 0, "path": path})
        floats, ints = ([of_node(item) for item in said[kind]] for kind in ("floats", "ints"))
        return floats, ints, said["tags"]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process of the decoder has ended"
        return dict(json.loads(line))


@contextmanager
def node_decoder() -> Iterator[NodeDecoder]:
    require_client()
    command = ["node", str(CLIENT / "test" / "decoder_process.mjs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            decoder = NodeDecoder(process)
            decoder.restart()
            yield decoder
        finally:
            process.kill()
