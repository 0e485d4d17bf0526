"""The command `snapdelta` in a process of its own, as a person or a script runs it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

_COMMAND = (sys.executable, "-W", "error", "-m", "snapdelta")


def _environment(columns: int) -> dict[str, str]:
    given = {key: value for key, value in os.environ.items() if not key.startswith("SNAPDELTA_")}
    return {**given, "COLUMNS": str(columns), "PYTHONPATH": os.pathsep.join(sys.path)}


def execute(*arguments: str, columns: int = 200, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [*_COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**_environment(columns), **env},
    )


async def start(*arguments: str) -> asyncio.subprocess.Process:
    """Run it until it is stopped."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *_COMMAND, *arguments, stdout=pipe, stderr=pipe, env=_environment(200)
    )
