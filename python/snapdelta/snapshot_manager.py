"""SnapshotManager and SnapshotReader under the module name of hand-written managers (docs/snapshots.md)."""

from snapdelta.snapshots.manager import SnapshotManager
from snapdelta.snapshots.reader import SnapshotReader
from snapdelta.snapshots.settings import SnapshotSettings
from snapdelta.snapshots.stats import ReadCounters, SaveCounters
from snapdelta.snapshots.update import Update
from snapdelta.snapshots.writer import SaveResult

__all__ = [
    "ReadCounters",
    "SaveCounters",
    "SaveResult",
    "SnapshotManager",
    "SnapshotReader",
    "SnapshotSettings",
    "Update",
]
