// Decoder: frames in, records and columns out.

import { Core, compile } from "./core.js";
import { SnapshotSettingError } from "./errors.js";
import { RecordBuilder } from "./records.js";

const DEFAULT_MAX_BYTES = 2 ** 30;
const MOST_BYTES = 2 ** 31 - 1;

function oneOf(name, value, allowed) {
  if (!allowed.includes(value)) {
    throw new SnapshotSettingError(`${name} must be one of ${allowed.join(", ")}, not ${String(value)}`);
  }
  return value;
}

/** Follows a stream of frames: full frames at any time, deltas only on the state that they were made from. */
export class Decoder {
  #core;
  #builder;
  // Symbols that the last frame touched, by kind, as far as they were asked for.
  #changes = {};
  // Records of `snapshot({ shared: true })` that have not changed since.
  #shared = new Map();

  static async create({ maxBytes = DEFAULT_MAX_BYTES, ints = "auto", objects = "object", wasm } = {}) {
    oneOf("ints", ints, ["auto", "bigint", "number"]);
    oneOf("objects", objects, ["object", "map"]);
    if (!Number.isSafeInteger(maxBytes) || maxBytes < 1 || maxBytes > MOST_BYTES) {
      throw new SnapshotSettingError(`maxBytes must be a whole number from 1 to 2^31 - 1, not ${String(maxBytes)}`);
    }
    const instance = await WebAssembly.instantiate(await compile(wasm), {});
    const core = new Core(instance, maxBytes);
    return new Decoder(core, new RecordBuilder(core, ints, objects));
  }

  /** Use `await Decoder.create()`. */
  constructor(core, builder) {
    if (!(core instanceof Core)) throw new TypeError("make a decoder with: await Decoder.create()");
    this.#core = core;
    this.#builder = builder;
  }

  /** Goes on to the state of the frame. After an error the state is what it was. */
  apply(frame) {
    const bytes = ArrayBuffer.isView(frame)
      ? new Uint8Array(frame.buffer, frame.byteOffset, frame.byteLength)
      : frame instanceof ArrayBuffer
        ? new Uint8Array(frame)
        : null;
    if (bytes === null) throw new TypeError("a frame must be a Uint8Array, a Buffer or an ArrayBuffer");
    this.#core.apply(bytes);
    this.#changes = {};
    this.#builder.reset();
    if (this.#shared.size) {
      for (const symbol of [...this.updated, ...this.removed]) this.#shared.delete(symbol);
    }
  }

  get size() {
    return this.#core.size;
  }

  get kind() {
    return this.#core.kind;
  }

  get epoch() {
    return this.#core.epoch;
  }

  get sequence() {
    return this.#core.sequence;
  }

  get digest() {
    return this.#core.digest;
  }

  #symbols(which) {
    return [...(this.#changes[which] ??= this.#core.symbols(which))];
  }

  get symbols() {
    return this.#symbols("all");
  }

  get added() {
    return this.#symbols("added");
  }

  get updated() {
    return this.#symbols("updated");
  }

  get removed() {
    return this.#symbols("removed");
  }

  get moved() {
    return this.#symbols("moved");
  }

  get changed() {
    return [...this.added, ...this.updated];
  }

  has(symbol) {
    return this.#core.find(symbol) >= 0;
  }

  get(symbol) {
    const row = this.#core.find(symbol);
    return row < 0 ? undefined : this.#builder.record(row);
  }

  snapshot({ shared = false } = {}) {
    const snapshot = new Map();
    this.symbols.forEach((symbol, row) => {
      let record = shared ? this.#shared.get(symbol) : undefined;
      if (record === undefined) {
        record = this.#builder.record(row);
        if (shared) this.#shared.set(symbol, record);
      }
      snapshot.set(symbol, record);
    });
    return snapshot;
  }

  column(path, kind = "float64") {
    oneOf("kind", kind, ["float64", "int64", "tags"]);
    return this.#core.column(typeof path === "string" ? [path] : path, kind);
  }
}
