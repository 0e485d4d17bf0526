"""redis-py 5.0.1, which services pin: both managers work with it, and what it cannot do is said."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support.documents import ROOT

OLDEST = "5.0.1"
# Managers, readers and streams: clients of both protocols, decoding or not, alone and as a cluster.
SAME = [
    "tests/snapshots/test_servers.py::test_the_ordinary_life",
    "tests/streams/test_manager.py::test_every_kind_of_client",
]
# A cluster's followers cannot be given another parser than the default one.
EXPRESSION = "valkey and (bytes or (python and not cluster) or hiredis-False)"

REFUSED = f"""
import asyncio
import redis
from redis.asyncio import Redis, RedisCluster
from redis._parsers import _AsyncRESP2Parser
from snapdelta import RedisStreamManager, SnapshotManager, SnapshotReader
from snapdelta.errors import SnapdeltaError

assert redis.__version__ == "{OLDEST}"

async def main():
    for client in (Redis(decode_responses=True), RedisCluster(host="127.0.0.1", decode_responses=True)):
        for taker in (SnapshotManager, SnapshotReader, RedisStreamManager):
            try:
                taker(client)
            except SnapdeltaError as error:
                print(error)
    decoding = Redis(decode_responses=True)
    decoding.connection_pool.connection_kwargs["parser_class"] = _AsyncRESP2Parser
    for client in (Redis(), decoding):
        SnapshotManager(client), SnapshotReader(client), RedisStreamManager(client)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a process needs to import that version instead of the one installed."""
    target = tmp_path_factory.mktemp("redis-py")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    installed = subprocess.run([*pip, f"redis=={OLDEST}"], capture_output=True, text=True, timeout=300)
    if installed.returncode and not os.environ.get("CI"):
        pytest.skip(f"NO REDIS-PY {OLDEST}: pip could not install it: {installed.stderr[-200:]}")
    assert installed.returncode == 0, installed.stderr
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")])}


def test_both_managers_work_with_it(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not long", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *SAME, "-k", EXPRESSION],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    summary = done.stdout.splitlines()[-1]
    assert "failed" not in summary
    assert int(summary.split()[0]) >= 10, summary


def test_what_it_cannot_do_is_said(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSED], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 6
    for line in said:
        assert "5.0.1" in line
        assert "upgrade redis-py to 5.0.2" in line
