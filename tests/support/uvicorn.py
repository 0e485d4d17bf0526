"""Applications of the documents, in a uvicorn of their own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snapdelta.testing.server import free_port


@contextmanager
def serving(folder: Path, module: str, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`module:app` of a folder in a uvicorn process, and the port it listens on."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", f"{module}:app", "--port", str(port), *options]
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [*command, "--log-level", "warning"], cwd=folder, env={**os.environ, "PYTHONPATH": path}
    )
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


async def get(port: int, path: str) -> tuple[int, Any]:
    """Status and JSON body of a GET; (0, None) while nothing listens."""
    status, text = await asyncio.to_thread(_get, f"http://127.0.0.1:{port}{path}")
    return status, json.loads(text or "null")


async def get_text(port: int, path: str) -> str:
    """The body of a GET; nothing while nothing listens."""
    return (await asyncio.to_thread(_get, f"http://127.0.0.1:{port}{path}"))[1]


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""
