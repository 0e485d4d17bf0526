"""SnapshotManager and SnapshotReader under the name that hand-written managers have (docs/snapshots.md)."""

from snapdelta.snapshots.manager import SaveResult, SnapshotManager, SnapshotReader, SnapshotSettings, Update

__all__ = ["SaveResult", "SnapshotManager", "SnapshotReader", "SnapshotSettings", "Update"]
