// What this package raises. After each of them, but for BrokenDecoderError, the state is what it was.

export class SnapdeltaError extends Error {
  get name() {
    return this.constructor.name;
  }
}

/** The bytes break the format. */
export class CorruptDeltaError extends SnapdeltaError {}

/** The frame asks for more memory than `maxBytes`. */
export class LimitExceededError extends CorruptDeltaError {}

/** A newer snapdelta wrote it. */
export class UnsupportedVersionError extends SnapdeltaError {}

/** The delta was made from another state. */
export class BaseMismatchError extends SnapdeltaError {}

/** The decoder ran out of memory, or has a defect: make a new one and begin with a full frame. */
export class BrokenDecoderError extends SnapdeltaError {}

/** An impossible setting; the message names it. */
export class SnapshotSettingError extends SnapdeltaError {}

/** Redis refused a command. */
export class SnapshotAccessError extends SnapdeltaError {}

/** Redis cannot be reached, or is not ready. Followers wait for it. */
export class SnapshotUnavailableError extends SnapshotAccessError {}

/** A key holds another type. */
export class SnapshotTypeError extends SnapshotAccessError {}
