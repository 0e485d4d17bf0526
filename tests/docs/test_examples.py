"""examples/scanner runs: the hand-written managers show their faults, snapdelta has none of them."""

from __future__ import annotations

import asyncio
import io
import re

from rich.console import Console

from examples.scanner import runner
from examples.scanner.__main__ import main, summary
from examples.scanner.service import Task
from snapdelta.redis_stream_manager import SCANNER_POLICIES
from snapdelta.testing.server import free_port
from support.documents import ROOT
from support.promtool import promtool
from support.stream_harness import until
from support.uvicorn import get_text


def test_the_services_before_and_after() -> None:
    task = Task("", symbols=100, frames=10, interval=0.1)
    before = asyncio.run(runner.play("before", task))
    after = asyncio.run(runner.play("after", task))
    # Deltas that drop small changes, and of which only the newest is kept, lead to states that never were.
    assert before.reports["analytics"]["wrong"] > 0
    assert before.reports["analytics"]["missed"] > 0
    assert after.reports["analytics"] == {"read": task.frames, "wrong": 0, "missed": 0}
    assert after.reports["scanner"]["saved"] == task.frames
    assert after.received_bytes < before.received_bytes / 5
    assert after.memory_bytes < before.memory_bytes
    # A stream that the hand-written configuration does not list.
    assert "stream:sector:aggregates" in before.entries
    assert set(after.entries) <= set(SCANNER_POLICIES)
    console = Console(file=io.StringIO(), width=120)
    console.print(summary(task, {"before": before, "after": after}))
    assert isinstance(console.file, io.StringIO)
    assert "of them wrong" in console.file.getvalue()


async def test_the_services_after_answer_prometheus() -> None:
    ports = {name: free_port() for name in runner.SERVICES}
    # A market that stays open until it has been looked at.
    task = Task("", symbols=50, frames=600, interval=0.1)
    running = asyncio.create_task(runner.play("after", task, ports))
    shown = {"analytics": "reader_updates", "scanner": "saves", "data_ingest": "saves"}
    for name, metric in shown.items():
        pattern = rf"^snapdelta_{metric}_total{{[^}}]*}} [1-9]"

        async def counts(port: int = ports[name], pattern: str = pattern) -> bool:
            assert not running.done()
            return re.search(pattern, await get_text(port, "/metrics"), re.M) is not None

        await until(counts)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_prometheus_scrapes_those_ports() -> None:
    path = ROOT / "examples/scanner/prometheus.yml"
    assert "SUCCESS" in promtool("check", "config", path)
    ports = re.findall(r"127\.0\.0\.1:(\d+)", path.read_text())
    assert [int(port) for port in ports] == list(runner.METRICS_PORTS.values())


def test_a_service_that_fails_ends_the_run() -> None:
    assert main(["after", "--symbols", "0", "--frames", "2"]) == 1


def test_the_readme_names_what_is_there() -> None:
    text = (ROOT / "examples/scanner/README.md").read_text(encoding="utf-8")
    for path in (ROOT / "examples/scanner").rglob("*.py"):
        if path.name != "__init__.py":
            assert f"`{path.relative_to(ROOT / 'examples/scanner')}`" in text, path
