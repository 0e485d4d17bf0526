"""What ends the demo."""

from __future__ import annotations

from snapdelta.errors import SnapdeltaError


class DemoError(SnapdeltaError, RuntimeError):
    """A frame that differs, an unexplained resync, a process that died, or too few frames to play."""
