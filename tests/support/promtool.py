"""Prometheus's own checker, which Debian has in its package `prometheus`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def promtool(*arguments: str | Path, given: bytes | None = None) -> str:
    """Run it; what it says. A fault that it finds fails the test, with its words."""
    binary = shutil.which("promtool")
    if binary is None and os.environ.get("CI"):
        pytest.fail("CI needs promtool: apt-get install prometheus")
    if binary is None:
        pytest.skip("NO PROMTOOL, SO METRICS AND ALERT RULES ARE NOT CHECKED: apt-get install prometheus")
    done = subprocess.run([binary, *map(str, arguments)], input=given, capture_output=True, timeout=120)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said
