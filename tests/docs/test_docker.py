"""What docs/docker.md shows: its service runs, and its files name what the package has."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tomllib
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement

from snapdelta import SnapshotReader
from support.documents import ROOT, blocks
from support.servers import Server
from tools.test_pythons import VERSIONS

_DOCUMENT = "docs/docker.md"
_FILES = blocks(_DOCUMENT, "dockerfile")
_COMPOSE = yaml.safe_load(blocks(_DOCUMENT, "yaml")[0])


async def test_the_service_runs(server: Server, tmp_path: Path) -> None:
    (code,) = blocks(_DOCUMENT, "python")
    (tmp_path / "service.py").write_text(code)
    (variable,) = _COMPOSE["services"]["service"]["environment"]
    url = f"redis://127.0.0.1:{server.port}/0"
    service = await asyncio.create_subprocess_exec(
        sys.executable, "service.py", cwd=tmp_path, env={**os.environ, variable: url}
    )
    assert await service.wait() == 0
    client = server.client()
    latest = await SnapshotReader(client).latest()
    await client.aclose()
    assert latest is not None
    assert latest.snapshot == {"AAPL": {"price": 188.12}}


def test_the_images_have_a_wheel_and_install_extras_that_exist() -> None:
    bases = [base for file in _FILES for base in re.findall(r"^FROM (\S+)", file, re.M)]
    assert {base.removeprefix("python:").removesuffix("-slim") for base in bases} <= set(VERSIONS)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for file in _FILES:
        (requirement,) = map(Requirement, re.findall(r'"(snapdelta-rs[^"]*)"', file))
        assert requirement.extras <= set(extras)


def test_the_services_wait_for_what_is_there() -> None:
    services = _COMPOSE["services"]
    for service in services.values():
        for name, wait in service.get("depends_on", {}).items():
            assert wait["condition"] == "service_healthy"
            assert services[name]["healthcheck"]
    assert services["service"]["environment"]["REDIS_URL"].startswith("redis://valkey:")
