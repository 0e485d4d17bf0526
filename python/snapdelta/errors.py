"""Every error that snapdelta raises on purpose; all of them derive from SnapdeltaError."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class SnapdeltaError(Exception):
    """The root of all errors of this package."""


class UsageError(SnapdeltaError, ValueError):
    """An argument or a call that makes no sense; the message names it and says what to do."""


# --- the core: diff, apply, dumps, loads, Encoder, Decoder


class UnsupportedTypeError(SnapdeltaError, TypeError):
    """A value, key or record of a kind that cannot be carried; the message names its path."""


class CorruptDeltaError(SnapdeltaError, ValueError):
    """The bytes are not a frame, or were damaged; the message names the byte."""


class LimitExceededError(CorruptDeltaError):
    """A frame declares more than the reader's limits allow; nothing was allocated for it."""


class UnsupportedVersionError(SnapdeltaError, ValueError):
    """The frame was written by a newer format than this build reads."""


class BaseMismatchError(SnapdeltaError, ValueError):
    """A delta was given to another base than the one it was made from."""


class UnknownZoneError(SnapdeltaError, ValueError):
    """A frame names a time zone that this machine has no data for."""


class EncoderBusyError(SnapdeltaError, RuntimeError):
    """Another call on the same Encoder or Decoder has not ended yet."""


class EncodingError(SnapdeltaError, RuntimeError):
    """A frame did not read back after it was made, so it was not handed out: a defect, to be reported."""


# --- the simulated feed and recordings


class FeedSettingError(SnapdeltaError, ValueError):
    """An argument of the simulated feed makes no sense; the message names it."""


class RecordingError(SnapdeltaError, ValueError):
    """A recording cannot be read; the message names the file and the line."""


class MissingExtraError(SnapdeltaError, ImportError):
    """An optional part was used without its extra; the message names the extra to install."""


# --- streams


class StreamError(SnapdeltaError):
    """The root of all errors about streams."""


class StreamPolicyError(StreamError, ValueError):
    """A policy, pattern or setting that cannot be meant; the message names it and says what is allowed."""


class StreamArgumentError(StreamError, ValueError):
    """A stream's name that is no text, or an entry without fields; the message names it."""


class StreamManagerError(StreamError, RuntimeError):
    """The process's stream manager is missing, or was initialised with other arguments before."""


class UnlistedStreamError(StreamError, LookupError):
    """A strict manager was asked for a stream that no policy names."""


class ProtectedStreamError(StreamError, ValueError):
    """A stream under a protected prefix, such as a snapshot chain, which a write or trim would break."""


class StreamAccessError(StreamError):
    """Redis refused a command on a stream, or could not be reached; the message names the stream.

    `ids` has, after a failed `xadd_many`, one item a row: the id of a row that was written, or None.
    """

    def __init__(self, message: str, ids: Sequence[bytes | str | None] = ()) -> None:
        super().__init__(message)
        self.ids = list(ids)


class StreamUnavailableError(StreamAccessError, ConnectionError):
    """The server could not be reached or did not answer in time; a write may or may not have been carried
    out.
    """


class StreamPoolExhaustedError(StreamUnavailableError):
    """All connections of the client's pool are in use; the message says which setting to raise."""


class StreamTypeError(StreamAccessError, TypeError):
    """The key holds something other than a stream."""


class StreamMemoryError(StreamAccessError):
    """The server refuses writes because it has reached its `maxmemory`."""


# --- the embedded server


class EmbeddedServerError(SnapdeltaError, RuntimeError):
    """The embedded server is not installed or did not start; the message has its last words."""


# --- snapshots through Redis


class SnapshotError(SnapdeltaError):
    """The root of all errors about snapshots in Redis."""


class SnapshotSettingError(SnapshotError, ValueError):
    """A setting or name that cannot be meant; the message names it and says what is allowed."""


class SnapshotClosedError(SnapshotError, RuntimeError):
    """The manager was closed; or it or the reader belongs to another event loop, or process (a fork)."""


class SnapshotBusyError(SnapshotError, RuntimeError):
    """One save of the name is running and another one waits; nothing was read of this one."""


class SnapshotUpdateError(SnapshotError, ValueError):
    """An update without a state to apply it to, or of a symbol that it removes as well."""


class SnapshotRejectedError(SnapshotError, ValueError):
    """A snapshot that `validate`, `min_symbols` or `max_removed_share` refuses; nothing was written.

    `reason` is the name of the setting that refused it.
    """

    def __init__(self, message: str, reason: str = "validate") -> None:
        super().__init__(message)
        self.reason = reason


class WriterSupersededError(SnapshotError, RuntimeError):
    """A later writer has taken the name over; this manager will not write it again."""


class SnapshotHistoryError(SnapshotError, LookupError):
    """A time that the history does not reach back to; the message says how far it does."""


class SnapshotDamagedError(SnapshotError, ValueError):
    """What is kept cannot be put together to a state; the writer was asked for a full frame."""


class SnapshotMirrorError(SnapshotError, ValueError):
    """A snapshot that cannot be mirrored: one of its symbols is the field that the mirror needs."""


class SnapshotAccessError(SnapshotError):
    """Redis refused a command on a name's keys, or could not be reached; the message names the snapshots."""


class SnapshotUnavailableError(SnapshotAccessError, ConnectionError):
    """The server could not be reached, did not answer in time, or its cluster is moving the keys; a save may
    or may not have been carried out.
    """


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
    """A migration could not be run, or was refused; the message names the place and says what to do."""


class MigrationLockedError(MigrationError):
    """Another migration of the same database is running."""


class MigrationSettingError(SnapdeltaError, ValueError):
    """A period that is none, or a combination of periods that would lose history."""
