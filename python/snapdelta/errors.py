"""Every error that snapdelta raises on purpose (docs/errors.md); all derive from SnapdeltaError."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class SnapdeltaError(Exception):
    """The root of all errors of this package."""


class UsageError(SnapdeltaError, ValueError):
    """An argument or a call makes no sense; the message names it and says what to do."""


# --- the core: diff, apply, dumps, loads, Encoder, Decoder


class UnsupportedTypeError(SnapdeltaError, TypeError):
    """A frame cannot carry a value, key or record; the message names its path."""


class CorruptDeltaError(SnapdeltaError, ValueError):
    """The bytes are not a frame, or something damaged them; the message names the byte."""


class LimitExceededError(CorruptDeltaError):
    """A frame declares more than the reader's limits allow; the reader allocated nothing for it."""


class UnsupportedVersionError(SnapdeltaError, ValueError):
    """A newer snapdelta wrote the frame or the keys; this build cannot read them."""


class BaseMismatchError(SnapdeltaError, ValueError):
    """A delta does not match the base that it is applied to."""


class UnknownZoneError(SnapdeltaError, ValueError):
    """A frame names a time zone that this machine has no data for."""


class EncoderBusyError(SnapdeltaError, RuntimeError):
    """Another call on the same Encoder or Decoder has not ended yet."""


class EncodingError(SnapdeltaError, RuntimeError):
    """A new frame did not decode to its own digest and was not returned; please report this defect."""


# --- the simulated feed and recordings


class FeedSettingError(SnapdeltaError, ValueError):
    """An argument of a simulated feed makes no sense; the message names it."""


class RecordingError(SnapdeltaError, ValueError):
    """A recording cannot be read; the message names the file and the line."""


class MissingExtraError(SnapdeltaError, ImportError):
    """A part of snapdelta needs an extra that is not installed; the message names the extra."""


# --- streams


class StreamError(SnapdeltaError):
    """The root of all errors about streams."""


class StreamPolicyError(StreamError, ValueError):
    """A policy, pattern or setting is impossible; the message names it and says what is allowed."""


class StreamArgumentError(StreamError, ValueError):
    """A stream's name is not text, or an entry has no fields; the message names the stream."""


class StreamManagerError(StreamError, RuntimeError):
    """The process has no stream manager yet, or one that runs with other arguments."""


class UnlistedStreamError(StreamError, LookupError):
    """A strict manager has no policy for the stream."""


class ProtectedStreamError(StreamError, ValueError):
    """The stream has a protected prefix, such as a snapshot chain's; a write or trim would break it."""


class StreamAccessError(StreamError):
    """Redis refused a command on a stream, or could not be reached; the message names the stream.

    After a failed `xadd_many`, `ids` has one item for each row: its id if the server wrote it, else None.
    """

    def __init__(self, message: str, ids: Sequence[bytes | str | None] = ()) -> None:
        super().__init__(message)
        self.ids = list(ids)


class StreamUnavailableError(StreamAccessError, ConnectionError):
    """The server is unreachable, not ready or too slow; it may have executed the write."""


class StreamPoolExhaustedError(StreamUnavailableError):
    """All connections of the client's pool are in use; the message says which setting to raise."""


class StreamTypeError(StreamAccessError, TypeError):
    """The key holds another type than a stream."""


class StreamMemoryError(StreamAccessError):
    """The server has reached its `maxmemory` and refuses writes."""


# --- the embedded server


class EmbeddedServerError(SnapdeltaError, RuntimeError):
    """The embedded server is not installed or did not start; the message ends with its log."""


# --- snapshots through Redis


class SnapshotError(SnapdeltaError):
    """The root of all errors about snapshots in Redis."""


class SnapshotSettingError(SnapshotError, ValueError):
    """A setting or name is impossible; the message names it and says what is allowed."""


class SnapshotClosedError(SnapshotError, RuntimeError):
    """Somebody closed the manager; or it or the reader belongs to another event loop or process (a fork)."""


class SnapshotBusyError(SnapshotError, RuntimeError):
    """One save of the name runs and another one waits; the manager did not read this snapshot."""


class SnapshotUpdateError(SnapshotError, ValueError):
    """An update has no state to change, or changes a symbol that it also removes."""


class SnapshotRejectedError(SnapshotError, ValueError):
    """`validate`, `min_symbols` or `max_removed_share` refused a snapshot before any write.

    `reason` names the setting that refused it.
    """

    def __init__(self, message: str, reason: str = "validate") -> None:
        super().__init__(message)
        self.reason = reason


class WriterSupersededError(SnapshotError, RuntimeError):
    """A later writer owns the name; this manager cannot write it again."""


class SnapshotHistoryError(SnapshotError, LookupError):
    """The history does not reach back to the moment; the message says where it begins."""


class SnapshotDamagedError(SnapshotError, ValueError):
    """The frames in Redis do not lead to the state; the reader has requested a full frame."""


class SnapshotMirrorError(SnapshotError, ValueError):
    """A symbol has the name of a field that the mirror uses."""


class SnapshotAccessError(SnapshotError):
    """Redis refused a command on a name's keys, or could not be reached; the message names the snapshots."""


class SnapshotUnavailableError(SnapshotAccessError, ConnectionError):
    """The server is unreachable or too slow, or its cluster moves the keys; it may have accepted the save."""


class SnapshotPoolExhaustedError(SnapshotUnavailableError):
    """All connections of the client's pool are in use; the message says which setting to raise."""


class SnapshotTypeError(SnapshotAccessError, TypeError):
    """One of the name's keys holds another type."""


class SnapshotMemoryError(SnapshotAccessError):
    """The server refuses writes because it has reached its `maxmemory`."""


class SnapshotReadOnlyError(SnapshotAccessError):
    """The server is a read-only replica."""


# --- TimescaleDB


class MigrationError(SnapdeltaError, RuntimeError):
    """A migration cannot run, or refuses to; the message names the place and says what to do."""


class MigrationLockedError(MigrationError):
    """Another migration of the same database is running."""


class MigrationSettingError(SnapdeltaError, ValueError):
    """A text is not a period, or the periods together would lose history."""
