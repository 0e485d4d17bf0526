"""Refuses the snapshot of a broken feed before it is published."""

from __future__ import annotations

import inspect
from typing import Any

from snapdelta.errors import SnapshotRejectedError, SnapshotSettingError
from snapdelta.snapshots.settings import SnapshotSettings


class Validator:
    """The settings `validate`, `min_symbols` and `max_removed_share`, applied to the saves of one name."""

    def __init__(self, name: str, settings: SnapshotSettings) -> None:
        self._name = name
        self._settings = settings

    def check(self, snapshot: Any) -> None:
        """The checks before the snapshot is captured. Raises SnapshotRejectedError."""
        settings = self._settings
        if not isinstance(snapshot, dict):
            # The capture says what is wrong with it.
            return
        if len(snapshot) < settings.min_symbols:
            raise self._too_few(len(snapshot))
        if settings.validate is None:
            return
        try:
            answer = settings.validate(snapshot)
        except Exception as error:
            raise self._rejected("validate", f"validate raised {type(error).__name__}: {error}") from error
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise SnapshotSettingError(
                f"snapshots {self._name!r}: validate must not be asynchronous: a snapshot is read before the "
                "first await"
            )
        if isinstance(answer, str) and answer:
            raise self._rejected("validate", f"validate said: {answer}")
        if answer is False:
            raise self._rejected("validate", "validate returned False")
        if answer is not None and answer is not True:
            # A list of faults, perhaps, or an empty text: whether that is good or bad, nobody can tell.
            raise SnapshotSettingError(
                f"snapshots {self._name!r}: validate must return None or True, or False or a str that says "
                f"why, not {answer!r:.100}"
            )

    def refused(self, symbols: int, added: int, removed: int) -> SnapshotRejectedError | None:
        """The error for a captured state with too few symbols, or with too many removed ones.

        For an update, only the capture knows the number of symbols.
        """
        if symbols < self._settings.min_symbols:
            return self._too_few(symbols)
        base, most = symbols - added + removed, self._settings.max_removed_share
        if most is None or removed <= most * base:
            return None
        return self._rejected(
            "max_removed_share",
            f"it removes {removed} of {base} symbols, but max_removed_share is {most:g}; if that is right, "
            "save it with check=False",
        )

    def _too_few(self, symbols: int) -> SnapshotRejectedError:
        least = self._settings.min_symbols
        return self._rejected("min_symbols", f"{symbols} symbols, but min_symbols is {least}")

    def _rejected(self, reason: str, said: str) -> SnapshotRejectedError:
        return SnapshotRejectedError(
            f"snapshots {self._name!r}: refused, nothing was written: {said}", reason
        )
