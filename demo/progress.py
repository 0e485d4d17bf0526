"""What a person sees while it runs: live bars on a terminal, lines elsewhere."""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from demo.checker import LATE_READER, READER, WRITER, Checker
from demo.plan import Plan
from demo.reports import Saved

# Lines of progress where there is no terminal.
_LINES = 10


class RunProgress:
    """Shows one run: `with RunProgress(console, plan) as progress: ...`."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._plan = plan
        self._start = perf_counter()
        self._next_line = 1
        self._bars = Progress(
            TextColumn("{task.description:12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._tasks = {
            who: self._bars.add_task(who, total=plan.frames, what="") for who in (WRITER, READER, LATE_READER)
        }

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def event(self, text: str) -> None:
        """A line that stays."""
        line = f"{perf_counter() - self._start:6.1f} s  {text}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, checker: Checker) -> None:
        """How far everybody is."""
        if not self._console.is_terminal:
            self._show_line(checker)
            return
        if checker.saves:
            self._bars.update(
                self._tasks[WRITER], completed=checker.saved, what=f"saved {_description(checker.saves[-1])}"
            )
        for reader, checks in checker.checks.items():
            if checks:
                resyncs = ", ".join(checker.resyncs(reader))
                self._bars.update(
                    self._tasks[reader],
                    completed=checks[-1].frame,
                    what=f"{len(checks)} exact" + (f", resync: {resyncs}" if resyncs else ""),
                )

    def _show_line(self, checker: Checker) -> None:
        if checker.saved < self._next_line:
            return
        self._next_line = checker.saved + max(1, self._plan.frames // _LINES)
        checked = ", ".join(f"{reader} {len(checks)}" for reader, checks in checker.checks.items() if checks)
        self.event(
            f"frame {checker.saved} of {self._plan.frames} saved {_description(checker.saves[-1])}; "
            f"exact so far: {checked or 'none yet'}"
        )


def _description(save: Saved) -> str:
    reason = f" ({save.reason})" if save.reason else ""
    return f"as a {save.kind}{reason} of {save.ours.size:,} B"
