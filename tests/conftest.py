"""What every test has: hypothesis without a time limit for an example; real servers and a wheel on demand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Imported before any test freezes the clock: a module imported meanwhile would keep the fake classes.
import snapdelta.redis_stream_manager
import snapdelta.snapshot_manager  # noqa: F401
from support import connections
from support.documents import ROOT
from support.servers import KINDS, AsyncClient, Cluster, Deployment, Server

# The machine may be busy: no time limit for one example.
settings.register_profile(
    "snapdelta",
    deadline=None,
    print_blob=True,
    # whole snapshots are large and slow to draw; that is not what is tested
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
settings.load_profile("snapdelta")

connections.watch()
# Tests that left connections to a cluster open: redis-py may, where the cluster changes during a command.
left_open: list[str] = []


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """A connection that outlives its test fails that test."""
    if ports := connections.close_left_open():
        if set(ports) <= Cluster.ports:
            left_open.append(f"{item.nodeid}: {len(ports)} connections to a cluster")
        else:
            pytest.fail(f"the test left connections open, to the ports {ports}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["left_open"] = left_open


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    left_open.extend(getattr(node, "workeroutput", {}).get("left_open", []))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in left_open:
        terminalreporter.write_line(f"LEFT OPEN {line}")


# With several processes each runs in one: a TimescaleDB takes half a gigabyte, and the wheel is built once.
TOGETHER = {
    "tests/timescale/test_installed.py": "wheel",
    "tests/timescale/test_tables": "tables",
    "tests/timescale/test_migration": "migration",
    "tests/timescale/test_interrupted": "migration",  # both begin with the same databases
    "tests/timescale/": "timescale",
    "tests/packaging/test_wheel.py": "wheel",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Hands out single tests, and each of TOGETHER as one."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return next((scope for start, scope in TOGETHER.items() if nodeid.startswith(start)), nodeid)

    return Scheduling(config, log)


# Of the clusters, one kind in the ordinary run, all of them in the long one.
CLUSTERS = [f"cluster-{kind}" for kind in KINDS]
DEPLOYMENTS = [*KINDS, CLUSTERS[0], *(pytest.param(name, marks=pytest.mark.long) for name in CLUSTERS[1:])]


@pytest.fixture(scope="session")
def deployments() -> Iterator[Callable[[str], Deployment]]:
    """Starts each named server or cluster once a run, and ends them all."""
    started: dict[str, Deployment] = {}

    def get(name: str) -> Deployment:
        if name not in started:
            kind = name.removeprefix("cluster-")
            started[name] = (Cluster(kind) if name != kind else Server(kind)).start()
        return started[name]

    yield get
    for deployment in started.values():
        deployment.close()


@pytest.fixture(params=DEPLOYMENTS)
def deployment(
    request: pytest.FixtureRequest, deployments: Callable[[str], Deployment]
) -> Iterator[Deployment]:
    """Each kind of server, alone and as a cluster, without keys; changed settings are put back."""
    found = deployments(request.param)
    found.reset()
    yield found
    found.reset()


@pytest.fixture(params=list(KINDS))
def server(request: pytest.FixtureRequest, deployments: Callable[[str], Deployment]) -> Iterator[Server]:
    """Each kind of server, alone, without keys; changed settings are put back."""
    found = deployments(request.param)
    assert isinstance(found, Server)
    found.reset()
    yield found
    found.reset()


@pytest.fixture
def fresh_server() -> Iterator[Callable[..., Server]]:
    """Starts a server for one test to maltreat: `fresh_server("redis-6.2", persist=True)`."""
    started: list[Server] = []

    def start(kind: str = "valkey-9.1", **options: bool | str | int) -> Server:
        server = Server(kind, **options)  # type: ignore[arg-type]
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.close()


@pytest.fixture
async def redis(deployment: Deployment) -> AsyncIterator[AsyncClient]:
    """A client of `deployment`, closed after the test."""
    client = deployment.client()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `make wheel` makes of this checkout; Rust is compiled only if it has changed."""
    scripts = Path(sys.executable).parent
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [scripts / "maturin", "build", "--release", "--quiet", "--out", out],
        cwd=ROOT,
        env={**os.environ, "VIRTUAL_ENV": str(scripts.parent)},
        check=True,
        timeout=900,
    )
    (made,) = out.glob("*.whl")
    return made
