"""Whether what the processes report is what must be seen."""

from __future__ import annotations

from demo.errors import DemoError
from demo.plan import Plan
from demo.reports import Checked, Ready, Report, Saved, Saving

WRITER = "writer"
READER = "reader"
LATE_READER = "late reader"


class Checker:
    """Takes every report as it comes. `saving` is the frame that was begun last."""

    def __init__(self, plan: Plan) -> None:
        self.saving = 0
        self.saves: list[Saved] = []
        self.ready: set[str] = set()
        self.checks: dict[str, list[Checked]] = {READER: [], LATE_READER: []}
        self._plan = plan

    @property
    def saved(self) -> int:
        """The last frame that a writer knows to be saved."""
        return self.saves[-1].frame if self.saves else 0

    def checked(self, reader: str) -> int:
        """The last frame that a reader found to be exact."""
        checks = self.checks[reader]
        return checks[-1].frame if checks else 0

    def resyncs(self, reader: str) -> list[str]:
        """The reasons of a reader's resyncs."""
        return [str(check.reason) for check in self.checks[reader] if check.resynced]

    def take(self, who: str, report: Report) -> None:
        """Raises DemoError at a frame that differs, is missing, or came with a resync."""
        match report:
            case Ready():
                self.ready.add(who)
            case Saving():
                self.saving = report.frame
            case Saved():
                self.saves.append(report)
            case Checked():
                self._take_check(who, report)

    def _take_check(self, reader: str, check: Checked) -> None:
        if check.difference is not None:
            raise DemoError(
                f"{reader}: frame {check.frame} is not the one that was saved: {check.difference}"
            )
        before = self.checked(reader)
        self.checks[reader].append(check)
        if check.resynced:
            raise DemoError(
                f"{reader}: nothing explains the resync at frame {check.frame}, reason {check.reason}"
            )
        # The save during which the writer was killed may not have been accepted.
        killed = (self._plan.killed_at - 1, self._plan.resumed_at)
        if before and check.frame != before + 1 and (before, check.frame) != killed:
            raise DemoError(
                f"{reader}: frame {check.frame} came after frame {before}, and no resync says why"
            )

    def conclude(self) -> None:
        """Raises DemoError when something that must be seen was not."""
        for reader in (READER, LATE_READER):
            if self.checked(reader) != self._plan.frames:
                raise DemoError(f"{reader}: got to frame {self.checked(reader)} of {self._plan.frames}")
        first = self.checks[LATE_READER][0].frame
        if first < self._plan.joined_at:
            raise DemoError(f"{LATE_READER}: started at frame {first}, which was no longer the newest")
