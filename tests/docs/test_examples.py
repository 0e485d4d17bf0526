"""examples/scanner runs: the hand-written managers show their faults, snapdelta has none of them."""

from __future__ import annotations

import asyncio
import io

from rich.console import Console

from examples.scanner import runner
from examples.scanner.__main__ import main, summary
from examples.scanner.service import Task
from snapdelta.redis_stream_manager import SCANNER_POLICIES
from support.documents import ROOT


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
    assert "such as never were" in console.file.getvalue()


def test_a_service_that_fails_ends_the_run() -> None:
    assert main(["after", "--symbols", "0", "--frames", "2"]) == 1


def test_the_readme_names_what_is_there() -> None:
    text = (ROOT / "examples/scanner/README.md").read_text(encoding="utf-8")
    for path in (ROOT / "examples/scanner").rglob("*.py"):
        if path.name != "__init__.py":
            assert f"`{path.relative_to(ROOT / 'examples/scanner')}`" in text, path
