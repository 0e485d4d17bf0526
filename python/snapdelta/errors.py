"""Every error that snapdelta raises on purpose; all of them derive from SnapdeltaError."""

from __future__ import annotations


class SnapdeltaError(Exception):
    """The root of all errors of this package."""


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


# --- streams


# --- snapshots through Redis


# --- TimescaleDB


class MigrationError(SnapdeltaError, RuntimeError):
    """A migration could not be run, or was refused; the message names the place and says what to do."""


class MigrationLockedError(MigrationError):
    """Another migration of the same database is running."""


class MigrationSettingError(SnapdeltaError, ValueError):
    """A period that is none, or a combination of periods that would lose history."""
