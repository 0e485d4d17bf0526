// Types of the package; docs/javascript.md says how to use it.

/** A record, or a value in it: docs/javascript.md says what becomes of which. */
export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PlainDate
  | PlainTime
  | DateTime
  | Duration
  | Decimal
  | Uuid
  | Value[]
  | { [key: string]: Value }
  | Map<string, Value>;

/** Seconds east of UTC, an IANA key, or UTC itself. */
export class Zone {
  private constructor();
  readonly kind: "utc" | "offset" | "key";
  /** In seconds, with a fraction; null for a key. */
  readonly offset: number | null;
  /** The name of an offset, if it has one, or the key. */
  readonly name: string | null;
  toString(): string;
}

/** A date of the calendar, year 1 to 9999. */
export class PlainDate {
  private constructor();
  readonly year: number;
  /** From 1. */
  readonly month: number;
  readonly day: number;
  toString(): string;
  toJSON(): string;
}

export class PlainTime {
  private constructor();
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  readonly microsecond: number;
  readonly fold: 0 | 1;
  readonly zone: Zone | null;
  toString(): string;
  toJSON(): string;
}

export class DateTime {
  private constructor();
  readonly year: number;
  /** From 1. */
  readonly month: number;
  readonly day: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  readonly microsecond: number;
  /** 1 for the second of two equal times. */
  readonly fold: 0 | 1;
  readonly zone: Zone | null;
  /** Milliseconds since 1970, microseconds as a fraction. Throws a RangeError without a zone of known offset. */
  toMilliseconds(): number;
  /** The millisecond that it is in. Throws as `toMilliseconds` does. */
  toDate(): Date;
  toString(): string;
  toJSON(): string;
}

/** A span of time, as Python's timedelta: only `days` may be negative. */
export class Duration {
  private constructor();
  readonly days: number;
  readonly seconds: number;
  readonly microseconds: number;
  toMilliseconds(): number;
  /** In seconds, as ISO 8601: `PT1.5S`, `-PT60S`. */
  toString(): string;
  toJSON(): string;
}

/** A decimal number with its exact digits: `1.50` is not `1.5`. */
export class Decimal {
  private constructor();
  readonly kind: "finite" | "infinity" | "nan" | "snan";
  readonly negative: boolean;
  /** Of the coefficient; of a NaN, its payload. */
  readonly digits: string;
  /** Of ten; 0 unless finite. */
  readonly exponent: bigint;
  /** The nearest double. */
  toNumber(): number;
  /** As Python writes it. */
  toString(): string;
  toJSON(): string;
}

export class Uuid {
  private constructor();
  readonly text: string;
  toString(): string;
  toJSON(): string;
}

/** Where the WebAssembly module comes from: its address, its bytes, a response, or the compiled module. */
export type WasmSource = URL | string | BufferSource | Response | WebAssembly.Module;

/** The module, compiled once; without a source, `snapdelta.wasm` beside this package's sources. */
export function compile(source?: WasmSource | Promise<WasmSource>): Promise<WebAssembly.Module>;

export interface DecoderOptions {
  /** What one frame may make the decoder hold, in bytes: at most 2^31 - 1, by default 2^30. */
  maxBytes?: number;
  /** Ints as numbers where those are exact (`auto`), always as BigInt, or always as numbers, rounded. */
  ints?: "auto" | "bigint" | "number";
  /** Dicts as plain objects, or as Maps, which keep the order of all keys. */
  objects?: "object" | "map";
  /** The module, where it is not beside the package's sources. */
  wasm?: WasmSource | Promise<WasmSource>;
}

/** A path in a record: one key, or several from the outside in. */
export type Path = string | readonly string[];

/** What may be read of a state. */
export interface State {
  readonly epoch: bigint;
  readonly sequence: bigint;
  /** 64 bits. */
  readonly digest: bigint;
  /** Symbols that the last step added, in new arrays; `changed` is `added`, then `updated`. */
  readonly added: string[];
  readonly updated: string[];
  readonly removed: string[];
  /** The fewest symbols whose move explains the new order. */
  readonly moved: string[];
  readonly changed: string[];
  /** All symbols in their order. */
  readonly symbols: string[];
  has(symbol: string): boolean;
  /** The symbol's record as a new value; undefined without one. */
  get(symbol: string): Value | undefined;
  /**
   * All records by symbol, in their order. With `shared`, records that did not change since the last such call are
   * the same objects: they are to be read only.
   */
  snapshot(options?: { shared?: boolean }): Map<string, Value>;
  /** Floats, ints and Decimals as the nearest doubles, row by row in the order of `symbols`; NaN for all others. */
  column(path: Path, kind?: "float64"): Float64Array;
  /** Ints; 0 for all others. */
  column(path: Path, kind: "int64"): BigInt64Array;
  /** The tag of each cell (FORMAT.md, 1.1); 255 where a row lacks the path. */
  column(path: Path, kind: "tags"): Uint8Array;
}

/** Follows a stream of frames: full frames at any time, deltas only on the state that they were made from. */
export interface Decoder extends State {}
export class Decoder {
  static create(options?: DecoderOptions): Promise<Decoder>;
  private constructor();
  /**
   * Goes on to the state of the frame. After an error the state is what it was.
   *
   * Throws CorruptDeltaError, LimitExceededError, UnsupportedVersionError, BaseMismatchError, and
   * BrokenDecoderError, after which the decoder is of no use.
   */
  apply(frame: Uint8Array | ArrayBuffer): void;
  readonly size: number;
  /** Of the last frame; null before the first. */
  readonly kind: "full" | "delta" | null;
}

/** One published state. Its records may be read until the next update is asked for. */
export interface Update extends State {
  /** When the state was accepted, in milliseconds since 1970 by the server's clock; null if the server did not say. */
  readonly timestamp: number | null;
  /** How long ago that is, in milliseconds. */
  readonly lag: number | null;
  /** Whether the follower had to start again from a full frame, and may have missed states. */
  readonly resynced: boolean;
  /** Why it did; "start" for the first update; null where it went from delta to delta. */
  readonly reason: string | null;
}

/** An endless iteration. `break` out of a loop over it, or `close`, ends it and its connection. */
export interface Updates extends AsyncIterableIterator<Update> {
  /** The error for which it waits; null while the server answers. */
  readonly waitsFor: string | null;
  readonly closed: boolean;
  close(): void;
}

export interface RedisOptions extends DecoderOptions {
  /** As the writer has it: `snapdelta:` by default. */
  keyPrefix?: string;
  /** Milliseconds for one command: 5000 by default. */
  commandTimeout?: number;
}

/** What is used of ioredis: a Redis or a Cluster. */
export interface RedisClient {
  duplicate(...options: any[]): any;
  callBuffer(...args: any[]): any;
}

/**
 * The newest state of a name, and then every one that is saved, in order, on a connection of its own.
 *
 * Waits for the first save, and for a server that is away. Its `next` throws SnapshotAccessError,
 * SnapshotTypeError, UnsupportedVersionError and LimitExceededError, after which it has ended.
 */
export function followRedis(redis: RedisClient, name?: string, options?: RedisOptions): Updates;

export interface WebSocketOptions extends DecoderOptions {
  /** The class to connect with: the global one by default, on Node 20 that of the package `ws`. */
  WebSocket?: new (url: string) => any;
  /** Bytes that may wait to be read; beyond, it connects anew. 64,000,000 by default. */
  maxQueued?: number;
  /** Milliseconds without a message, after which it connects anew; null, by default: never. */
  idleTimeout?: number | null;
}

/** The newest state that a server sends, and then every one; docs/javascript.md says what the server sends. */
export function followWebSocket(url: string | URL, options?: WebSocketOptions): Updates;

export class SnapdeltaError extends Error {}
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
