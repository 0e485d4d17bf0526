"""The demo: exit status, checks and figures, on the feed and on a recording."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import zstandard
from rich.console import Console

from snapdelta import Decoder, Encoder, demo
from snapdelta.simulate import Feed


class Color(Enum):
    RED = "red"


def screen() -> Console:
    return Console(file=io.StringIO(), width=140)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    lines = [
        json.dumps({"t": t, "snapshot": snapshot}) for t, snapshot in enumerate(islice(Feed("nested", 80), 6))
    ]
    path = tmp_path / "some.ndjson.zst"
    path.write_bytes(zstandard.compress("\n".join(lines).encode()))
    return path


def test_play_reports_each_frame() -> None:
    snapshots = list(islice(Feed("ranked", 200), 4))
    played = list(demo.play(snapshots, Encoder(), Decoder()))
    assert [one.number for one in played] == [1, 2, 3, 4]
    assert [one.symbols for one in played] == [len(snapshot) for snapshot in snapshots]
    for before, snapshot, one in zip(snapshots, snapshots[1:], played[1:], strict=False):
        assert one.changed >= sum(before.get(symbol) != record for symbol, record in snapshot.items())
        assert one.json_size == len(json.dumps(snapshot, separators=(",", ":")))
        assert 0 < one.sent_size < played[0].sent_size < one.json_size


def test_a_snapshot_that_comes_back_otherwise_is_a_mismatch() -> None:
    # An Enum comes back as its value, by design; for the demo it stands for a frame that differs.
    snapshots: list[dict[str, Any]] = [{"A": {"x": "red"}}, {"A": {"x": Color.RED}}]
    played = demo.play(snapshots, Encoder(), Decoder())
    next(played)
    with pytest.raises(demo.MismatchError, match=r"frame 2: A\.x: Color became str"):
        next(played)


def test_a_mismatch_ends_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "Feed", lambda kind: iter([{"A": {"x": 1}}, {"A": {"x": Color.RED}}, {}]))
    console = screen()
    assert demo.run(console=console) == 1
    assert "MismatchError: frame 2: A.x: Color became str" in text(console)
    assert "all exact" not in text(console)


def test_a_recording_is_played(recording: Path) -> None:
    console = screen()
    assert demo.run(recording, console=console) == 0
    shown = text(console)
    for line in (
        "some.ndjson.zst",
        "6 frames, all exact",
        "JSON",
        "full frame",
        "delta",
        "encode",
        "apply",
        "JSON / delta",
    ):
        assert line in shown


def test_one_frame_is_not_enough(recording: Path) -> None:
    console = screen()
    assert demo.run(recording, frames=1, console=console) == 1
    assert "1 frames; a delta needs two" in text(console)


def test_the_module_runs_and_fails_as_a_program(recording: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "snapdelta.demo", *arguments], capture_output=True, text=True
        )

    ran = run("--recording", str(recording), "--frames", "3")
    assert ran.returncode == 0, ran.stderr
    assert "3 frames, all exact" in ran.stdout
    broken = run("--recording", str(tmp_path / "none"))
    assert broken.returncode == 1
    assert "RecordingError" in broken.stdout


def test_the_enriched_feed_is_the_default() -> None:
    console = screen()
    assert demo.run(frames=3, console=console) == 0
    assert "enriched" in text(console)
    assert "11,90" in text(console)
